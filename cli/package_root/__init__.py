"""Audit neural-network checkpoints without running them.

    import jaynes_audit

    audit = jaynes_audit.audit("path/to/checkpoint")
    for layer in audit:
        print(layer.name, layer.role, layer.verdict.name, layer.fit)
    print(jaynes_audit.try_claim([audit]).sentence)  # one lognormal for all layers?
    audit.to_dict()  # what `jaynes audit -o json` says of it, see docs/report.md

Importing this package imports nothing else; the first use of a name does.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from os import PathLike, fspath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaynes_audit.analyzers.anatomy import Anatomy, VarianceShares
    from jaynes_audit.analyzers.audit import Audit, Coverage, LeftOut
    from jaynes_audit.analyzers.distributions.candidates import Family
    from jaynes_audit.analyzers.distributions.equilibrium import Equilibrium
    from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
    from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, LogMoments, NotFitted
    from jaynes_audit.analyzers.distributions.ranking import CandidateFit, Ranking
    from jaynes_audit.analyzers.distributions.rulers import RULERS, Ruler
    from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, NothingToAudit, RefusedFile, UsageError
    from jaynes_audit.analyzers.layer_audit import Evidence, LayerAudit, Scales, WeightCounts
    from jaynes_audit.analyzers.layer_verdict import LayerVerdict, VerdictKind
    from jaynes_audit.analyzers.role_audit import RoleAudit, Spread
    from jaynes_audit.analyzers.roles import Role
    from jaynes_audit.analyzers.universality.universality import Universality

__all__ = [
    "RULERS",
    "Anatomy",
    "Audit",
    "CandidateFit",
    "CouldNotRead",
    "Coverage",
    "Equilibrium",
    "Evidence",
    "Family",
    "JaynesError",
    "LayerAudit",
    "LayerVerdict",
    "LeftOut",
    "LogMomentErrors",
    "LogMoments",
    "LognormalFit",
    "NotFitted",
    "NothingToAudit",
    "Ranking",
    "RefusedFile",
    "Role",
    "RoleAudit",
    "Ruler",
    "Scales",
    "Spread",
    "Universality",
    "UsageError",
    "VarianceShares",
    "VerdictKind",
    "WeightCounts",
    "audit",
    "try_claim",
]

_HOMES = {
    "anatomy": ("Anatomy", "VarianceShares"),
    "audit": ("Audit", "Coverage", "LeftOut"),
    "claim": ("try_claim",),
    "distributions.candidates": ("Family",),
    "distributions.equilibrium": ("Equilibrium",),
    "distributions.lognormal": ("LognormalFit",),
    "distributions.moments": ("LogMomentErrors", "LogMoments", "NotFitted"),
    "distributions.ranking": ("CandidateFit", "Ranking"),
    "distributions.rulers": ("RULERS", "Ruler"),
    "errors": ("CouldNotRead", "JaynesError", "NothingToAudit", "RefusedFile", "UsageError"),
    "layer_audit": ("Evidence", "LayerAudit", "Scales", "WeightCounts"),
    "layer_verdict": ("LayerVerdict", "VerdictKind"),
    "role_audit": ("RoleAudit", "Spread"),
    "roles": ("Role",),
    "universality.universality": ("Universality",),
}


def audit(
    path: str | PathLike[str],
    *,
    layers: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    min_fan_in: int = 64,
    min_weights: int = 10_000,
    anatomy: bool = False,
    jobs: int | None = None,
    io: Literal["mmap", "pread"] = "mmap",
    stream: bool | None = None,
    resume: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> "Audit":
    """Read every weight of the checkpoint at `path` and say what is in it.

    `path` is a weight file, a folder with weights as transformers, diffusers or PEFT write them, or a model on the Hub:
    `org/name`, `org/name@revision`. `stream` reads that in place and stores nothing, False keeps it in the cache, and
    None decides by size. `resume` keeps what was finished on disk, for another call if this one is killed. `layers` and
    `exclude` are shell patterns of layer names. A hidden layer counts as highly connected from `min_fan_in` connections
    and `min_weights` weights on. `anatomy` reads every matrix again, to say which part of its log-variance lies between
    rows and columns. `jobs` threads share the work, one per core by default; the result does not depend on
    it. With `io="mmap"` files are mapped; `"pread"` is slower and survives a file that is cut short meanwhile.
    `on_bytes` is told now and then how many more bytes were read.

    The result iterates over its layers. Weights that could not be read are in its `left_out` and `defects`.

    Raises:
        CouldNotRead: when there is nothing at `path`, it may not be read, or the Hub cannot give it.
        NothingToAudit: when a folder holds no weights.
        UsageError: when an argument has no meaning.
    """
    from contextlib import nullcontext  # noqa: PLC0415 - see the module's docstring

    from jaynes_audit.analyzers.audit import Selection, audit_checkpoint, concluded, journal_of  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import HubAccess, open_checkpoint  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.hub.place import Mode  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.errors import UsageError  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415

    if io not in list(Io):
        raise UsageError(f"io={io!r} is no way of reading files: there are {', '.join(map(repr, map(str, Io)))}.")
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs={jobs}: an audit needs at least one thread.")
    mode = None if stream is None else Mode.STREAM if stream else Mode.CACHE
    checkpoint = open_checkpoint(fspath(path), HubAccess(mode=mode))
    with journal_of(checkpoint) if resume else nullcontext() as journal:
        result = audit_checkpoint(
            checkpoint,
            selection=Selection(layers=tuple(layers), exclude=tuple(exclude)),
            criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
            dissect=anatomy,
            jobs=jobs,
            io=Io(io),
            journal=journal,
            on_bytes=on_bytes or (lambda _: None),
        )
        return concluded(result, journal) if journal else result


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"jaynes_audit.analyzers.{module}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
