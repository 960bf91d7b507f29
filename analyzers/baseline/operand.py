"""What a user named -> Operand: a baseline, from a file or from git, or whatever else can be compared."""

import glob
from dataclasses import replace
from pathlib import Path

from jaynes_audit.analyzers.audit import TIEABLE
from jaynes_audit.analyzers.baseline.entry import QUANTILE_PROBABILITIES, Baseline, Entry
from jaynes_audit.analyzers.baseline.places import is_git_reference, read_comparable
from jaynes_audit.analyzers.baseline.text import SUFFIX
from jaynes_audit.analyzers.checkpoints import HubAccess
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_absent, is_folder, opened
from jaynes_audit.analyzers.comparison.kept import KeptFit, KeptLayer, KeptModel
from jaynes_audit.analyzers.comparison.operand import Operand
from jaynes_audit.analyzers.comparison.operand import open_operands as open_others
from jaynes_audit.analyzers.comparison.quantiles import Quantiles
from jaynes_audit.analyzers.errors import JaynesError, UsageError

MARK = b'{"format":"jaynes-baseline/'  # what a baseline begins with, whatever its version
ADDRESS = "://"  # on the Hub, or on the web: nothing that git has
NOT_FITTED = "the baseline has no fit of it"


def open_operands(target: str, access: HubAccess | None = None) -> list[Operand]:
    """Open what a target names: a baseline, or what `comparison.operand.open_operands` opens.

    A baseline is told by its name or by what it begins with; in git it is REVISION:PATH. Where PATH is named as
    baselines are, no file here takes the place of a version. Otherwise a path that is here wins, and is said to.

    Raises:
        UsageError: when a baseline is missing, damaged, or has statistics of another version.
        JaynesError: whatever `comparison.operand.open_operands` raises.
    """
    if ADDRESS in target or not is_git_reference(target):
        return _opened(target, access)
    revision, _, path = target.partition(":")
    here = f"./{target}"
    is_here = not is_absent(Path(here))
    if target.endswith(SUFFIX):
        told = f"{quoted_path(target)} was read through git; the path of that name here is {quoted_path(here)}"
        return [_baseline(target, remarks=(told,) if is_here else ())]
    if is_here:
        of_git = quoted_path(f"{revision}:./{path}")
        told = f"{quoted_path(target)} is a path here, so git was not asked; {of_git} names what git has"
        found = [_baseline(here)] if _is_baseline(Path(here)) else open_others(target, access)
        return [replace(each, remarks=(told,)) for each in found]
    if glob.has_magic(target):
        return open_others(target, access)
    try:
        return [_baseline(target)]
    except UsageError as error:
        raise UsageError(f"there is no path {quoted_path(target)} here, and of git: {error}") from error


def _opened(target: str, access: HubAccess | None) -> list[Operand]:
    return [_baseline(target)] if _is_baseline(Path(target)) else open_others(target, access)


def _is_baseline(path: Path) -> bool:
    """Whether a path is named as baselines are, or a file that begins as one. It need not exist."""
    try:
        if is_absent(path) or is_folder(path):
            return path.name.endswith(SUFFIX) and is_absent(path)
        with opened(path) as (stream, _):
            return path.name.endswith(SUFFIX) or stream.read(len(MARK)) == MARK
    except (JaynesError, OSError):  # opening it as whatever it is tells more
        return path.name.endswith(SUFFIX)


def _baseline(place: str, *, remarks: tuple[str, ...] = ()) -> Operand:
    return Operand(target=place, known=kept_model(read_comparable(place).baseline), remarks=remarks)


def kept_model(baseline: Baseline) -> KeptModel:
    """Give what a baseline keeps as one side of a comparison."""
    first: dict[tuple[str, int, int], str] = {}
    for entry in sorted(baseline.entries, key=lambda entry: entry.role):  # the embedding keeps its place
        if entry.role in TIEABLE and entry.law:
            first.setdefault(_content(entry), entry.name)
    return KeptModel(
        commit=baseline.revision,
        layers=tuple(_layer(entry, first.get(_content(entry), entry.name)) for entry in baseline.entries),
        probabilities=QUANTILE_PROBABILITIES,
        quantiles={
            entry.name: Quantiles(logs=entry.law.quantiles, dtype=entry.dtype, unused_bits=entry.unused_bits)
            for entry in baseline.entries
            if entry.law
        },
    )


def _content(entry: Entry) -> tuple[str, int, int]:
    return entry.content, entry.rows, entry.columns


def _layer(entry: Entry, kept_as: str) -> KeptLayer:
    law = entry.law
    is_tied = entry.role in TIEABLE and kept_as != entry.name
    return KeptLayer(
        name=entry.name,
        tensor=entry.name,
        dtype=entry.dtype,
        role=entry.role,
        stack=entry.stack,
        depth=entry.depth,
        rows=entry.rows,
        columns=entry.columns,
        fan_in=entry.fan_in,
        fan_out=entry.fan_out,
        tied_to=kept_as if is_tied else None,
        weights=entry.weights,
        zero=entry.zero,
        rms=entry.rms,
        content=entry.content,
        fit=KeptFit(mu=law.mu, sigma=law.sigma, skewness=law.skewness, se_mu=law.se_mu, se_sigma=law.se_sigma)
        if law
        else None,
        not_fitted=None if law else NOT_FITTED,
    )
