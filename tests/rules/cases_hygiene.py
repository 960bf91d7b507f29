"""Cases of the rules about the audit itself: ignores in a configuration, and weights that were not read."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.cli.configuration.merging import settings_of
from jaynes_audit.cli.configuration.options import Options
from tests.rules.case import TODAY, Asked, Case, saved, written
from tests.support.checkpoints import stored

SIDE = 32


def asked(folder: Path, *ignored: str) -> Asked:
    """A checkpoint of which one matrix is zero, and a configuration with an ignore of these lines, if any."""
    dice = np.random.default_rng(0)
    up = dice.normal(0, 0.02, (SIDE, SIDE))
    weights = {"mlp.up_proj.weight": up, "mlp.down_proj.weight": np.zeros_like(up)}
    checkpoint = saved(folder, {name: stored(values, Dtype.F32) for name, values in weights.items()})
    (folder / "jaynes.toml").write_text("\n".join(["[[ignore]]", 'reason = "by design"', *ignored] if ignored else []))
    return Asked(checkpoint=checkpoint, policy=settings_of(Options(), {}, folder).policy)


def with_an_ignore_that_covers_nothing(folder: Path) -> Asked:
    """The matrix that is ignored is not zero."""
    return asked(folder, 'rule = "JN102"', 'tensor = "*.up_proj.weight"')


def with_an_ignore_that_covers_a_finding(folder: Path) -> Asked:
    """The matrix that is ignored is zero, and today is the last day of it."""
    return asked(folder, 'rule = "JN102"', 'tensor = "*.down_proj.weight"', f"until = {TODAY}")


def with_an_ignore_that_expired(folder: Path) -> Asked:
    """The matrix that is ignored is zero, and the last day of it was the first of the month."""
    return asked(folder, 'rule = "JN102"', 'tensor = "*.down_proj.weight"', f"until = {TODAY.replace(day=1)}")


def with_a_file_cut_short(folder: Path) -> Asked:
    """The file lacks its last byte."""
    whole = asked(folder)
    file = folder / "model" / "model.safetensors"
    return replace(whole, checkpoint=written(file, file.read_bytes()[:-1]))


CASES = {
    "JN901": Case(failing=with_an_ignore_that_covers_nothing, passing=with_an_ignore_that_covers_a_finding),
    "JN902": Case(failing=with_an_ignore_that_expired, passing=with_an_ignore_that_covers_a_finding),
    "JN904": Case(failing=with_a_file_cut_short, passing=asked),
}
