"""Audit neural-network checkpoints without running them.

    import jaynes_audit

    audit = jaynes_audit.audit("path/to/checkpoint")
    for layer in audit:
        print(layer.name, layer.role, layer.verdict.name, layer.fit)
    print(jaynes_audit.try_claim([audit]).sentence)  # one lognormal for all layers?
    audit.to_dict()  # what `jaynes audit -o json` says of it, see docs/report.md
    print(jaynes_audit.compare("path/to/base", "path/to/tuned").verdict.sentence)
    for course in jaynes_audit.track("path/to/run").courses:  # its checkpoints, step by step
        print(course.role, course.quantity, course.settling)
    for statement in jaynes_audit.audit_training("path/to/run/checkpoint-500").statements:
        print(statement.quantity, statement.subject, statement.answer, statement.because)

Importing this package imports nothing else; the first use of a name does.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from os import PathLike, fspath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaynes_audit.analyzers.anatomy import Anatomy, VarianceShares
    from jaynes_audit.analyzers.audit import Audit, Coverage, LeftOut
    from jaynes_audit.analyzers.checkpoints.hub.place import Mode
    from jaynes_audit.analyzers.comparison.comparison import Comparison
    from jaynes_audit.analyzers.comparison.side_by_side import LayerComparison
    from jaynes_audit.analyzers.comparison.verdict import Kinship
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
    from jaynes_audit.analyzers.thermodynamics.equilibrium import TrainingAudit
    from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement
    from jaynes_audit.analyzers.track.settling import Settling
    from jaynes_audit.analyzers.track.tracking import Track
    from jaynes_audit.analyzers.universality.universality import Universality

__all__ = [
    "RULERS",
    "Anatomy",
    "Answer",
    "Audit",
    "CandidateFit",
    "Comparison",
    "CouldNotRead",
    "Coverage",
    "Equilibrium",
    "Evidence",
    "Family",
    "Figure",
    "JaynesError",
    "Kinship",
    "LayerAudit",
    "LayerComparison",
    "LayerVerdict",
    "LeftOut",
    "LogMomentErrors",
    "LogMoments",
    "LognormalFit",
    "NotFitted",
    "NothingToAudit",
    "Quantity",
    "Ranking",
    "RefusedFile",
    "Role",
    "RoleAudit",
    "Ruler",
    "Scales",
    "Settling",
    "Spread",
    "Statement",
    "Track",
    "TrainingAudit",
    "Universality",
    "UsageError",
    "VarianceShares",
    "VerdictKind",
    "WeightCounts",
    "audit",
    "audit_training",
    "compare",
    "track",
    "try_claim",
]

_HOMES = {
    "anatomy": ("Anatomy", "VarianceShares"),
    "audit": ("Audit", "Coverage", "LeftOut"),
    "claim": ("try_claim",),
    "comparison.comparison": ("Comparison",),
    "comparison.side_by_side": ("LayerComparison",),
    "comparison.verdict": ("Kinship",),
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
    "thermodynamics.equilibrium": ("TrainingAudit",),
    "thermodynamics.statement": ("Answer", "Figure", "Quantity", "Statement"),
    "track.settling": ("Settling",),
    "track.tracking": ("Track",),
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
    save_sketches: str | PathLike[str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> "Audit":
    """Read every weight of the checkpoint at `path` and say what is in it.

    `path` is a weight file, a folder with weights as transformers, diffusers or PEFT write them, or a model on the Hub:
    `org/name`, `org/name@revision`; or a sketch archive, which gives the audit of the model it was made from.
    `save_sketches` is where to write one. `stream` reads a model on the Hub in place and stores nothing, False keeps it
    in the cache, and None decides by size. `resume` keeps what was finished on disk, for another call if this one is
    killed. `layers` and `exclude` are shell patterns of layer names. A hidden layer counts as highly connected from
    `min_fan_in` connections and `min_weights` weights on. `anatomy` reads every matrix again, to say which part of its
    log-variance lies between rows and columns. `jobs` threads share the work, one per core by default; the result does
    not depend on it. With `io="mmap"` files are mapped; `"pread"` is slower and survives a file that is cut short
    meanwhile. `on_bytes` is told now and then how many more bytes were read.

    The result iterates over its layers. Weights that could not be read are in its `left_out` and `defects`.

    Raises:
        CouldNotRead: when there is nothing at `path`, it may not be read, or the Hub cannot give it.
        NothingToAudit: when a folder holds no weights.
        UsageError: when an argument has no meaning, or the sketches cannot be saved where they should be.
        OSError: when the file of sketches cannot be written.
    """
    from contextlib import nullcontext  # noqa: PLC0415 - see the module's docstring
    from pathlib import Path  # noqa: PLC0415

    from jaynes_audit.analyzers.archive.archive import Archive, open_target  # noqa: PLC0415
    from jaynes_audit.analyzers.archive.audited import audit_archive  # noqa: PLC0415
    from jaynes_audit.analyzers.archive.saving import Keeper, refuse_place, save  # noqa: PLC0415
    from jaynes_audit.analyzers.audit import (  # noqa: PLC0415
        Selection,
        audit_checkpoint,
        concluded,
        journal_of,
        unheard,
    )
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415

    _refuse(io, jobs)
    sketches = None if save_sketches is None else Path(save_sketches)
    if sketches:
        refuse_place(sketches, fspath(path))
    keeper = Keeper()
    on_measured, on_outcome = (keeper.measured, keeper.outcome) if sketches else (unheard, unheard)
    selection = Selection(layers=tuple(layers), exclude=tuple(exclude))
    criterion = Criterion(min_fan_in=min_fan_in, min_weights=min_weights)
    known = open_target(fspath(path), HubAccess(mode=_mode(stream=stream)))
    if isinstance(known, Archive):
        checkpoint = known.checkpoint
        result = audit_archive(
            known,
            selection=selection,
            criterion=criterion,
            dissect=anatomy,
            on_measured=on_measured,
            on_outcome=on_outcome,
        )
    else:
        checkpoint = known
        with journal_of(checkpoint) if resume else nullcontext() as journal:
            result = audit_checkpoint(
                checkpoint,
                selection=selection,
                criterion=criterion,
                dissect=anatomy,
                jobs=jobs,
                io=Io(io),
                journal=journal,
                on_bytes=on_bytes or (lambda _: None),
                on_measured=on_measured,
                on_outcome=on_outcome,
            )
            if journal:
                result = concluded(result, journal)
    if sketches:
        save(sketches, keeper.archive(checkpoint))
    return result


def compare(
    a: str | PathLike[str],
    b: str | PathLike[str],
    *,
    exact: bool | None = None,
    layers: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    min_fan_in: int = 64,
    min_weights: int = 10_000,
    jobs: int | None = None,
    io: Literal["mmap", "pread"] = "mmap",
    stream: bool | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> "Comparison":
    """Say what the models at `a` and `b` are to one another, and what changed from the first to the second.

    Either is anything that `audit` takes, a report that was saved as JSON and holds one model, a sketch archive, or a
    baseline: a file, or `REVISION:PATH` in git.
    `exact` compares weights one by one; None does so where both models lie on this machine. The other arguments are
    those of `audit`. The result has what `jaynes compare -o json` says of two models in its `to_dict()`.

    Raises:
        CouldNotRead: when there is nothing at a path, it may not be read, or the Hub cannot give it.
        NothingToAudit: when a folder holds no weights.
        RefusedFile: when a file is unsound.
        UsageError: when an argument has no meaning, or names several models.
    """
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415 - see the module's docstring
    from jaynes_audit.analyzers.baseline.operand import open_operands  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.comparison.comparison import Manner  # noqa: PLC0415
    from jaynes_audit.analyzers.comparison.comparison import compare as compared  # noqa: PLC0415
    from jaynes_audit.analyzers.errors import UsageError  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415

    _refuse(io, jobs)
    operands = []
    for side in (a, b):
        path = fspath(side)
        found = open_operands(path, HubAccess(mode=_mode(stream=stream)))
        if len(found) != 1:
            raise UsageError(f"{path!r} names {len(found)} models, and one is compared with another: name one")
        operands += found
    (comparison,) = compared(
        operands,
        Manner(
            exact=exact,
            selection=Selection(layers=tuple(layers), exclude=tuple(exclude)),
            criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
            jobs=jobs,
            io=Io(io),
            on_bytes=on_bytes or (lambda _: None),
        ),
    )
    return comparison


def track(
    *targets: str | PathLike[str],
    steps: Sequence[int] = (),
    every: int = 1,
    layers: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    min_fan_in: int = 64,
    min_weights: int = 10_000,
    anatomy: bool = False,
    jobs: int | None = None,
    io: Literal["mmap", "pread"] = "mmap",
    stream: bool | None = None,
    resume: bool = False,
) -> "Track":
    """Follow the checkpoints of a run, and say what moved from one to the next and when it settled.

    One target is a folder with the checkpoints of a run, or a model on the Hub with a revision for each step; several
    are the checkpoints themselves. `steps` reads those of these steps only, and `every` each so manieth and the last.
    From the Hub nothing is stored unless `stream` is False. `resume` keeps finished checkpoints on disk, and does not
    read again what is kept. The other arguments are those of `audit`. The result has what `jaynes track -o json` says
    in its `to_dict()`, and what could not be read in its `failures`.

    Raises:
        CouldNotRead: when there is nothing at a path, it may not be read, or the Hub cannot give it.
        NothingToAudit: when a folder holds no checkpoints of a run.
        UsageError: when an argument has no meaning, there are fewer than two checkpoints, or they are not of one model.
    """
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415 - see the module's docstring
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.errors import UsageError  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415
    from jaynes_audit.analyzers.track.series import Choice  # noqa: PLC0415
    from jaynes_audit.analyzers.track.tracking import Manner  # noqa: PLC0415
    from jaynes_audit.analyzers.track.tracking import track as tracked  # noqa: PLC0415

    _refuse(io, jobs)
    if every < 1:
        raise UsageError(f"every={every}: write 1 for every checkpoint, 2 for every second one.")
    return tracked(
        [fspath(target) for target in targets],
        Manner(
            choice=Choice(steps=tuple(steps), every=every),
            access=HubAccess(mode=_mode(stream=stream)),
            selection=Selection(layers=tuple(layers), exclude=tuple(exclude)),
            criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
            dissect=anatomy,
            jobs=jobs,
            io=Io(io),
            resume=resume,
        ),
    )


def audit_training(
    path: str | PathLike[str],
    *,
    learning_rate: float | None = None,
    schedule: str | None = None,
    warmup: float | None = None,
    steps: int | None = None,
    weight_decay: float | None = None,
    optimizer: Literal["adamw", "sgd"] | None = None,
    initial: str | PathLike[str] | None = None,
    earlier: str | PathLike[str] | None = None,
    jobs: int | None = None,
    io: Literal["mmap", "pread"] = "mmap",
    stream: bool | None = None,
) -> "TrainingAudit":
    """Say what learning rates, weight decay and symmetries of a training run show in the checkpoint at `path`.

    What its trainer left beside it is read; `learning_rate` (the highest one), `schedule` ("constant", "linear",
    "cosine:0.1"), `warmup`, `steps`, `weight_decay` and `optimizer` give what no file tells. `initial` is the model
    before training, `earlier` an earlier checkpoint of the run. The other arguments are those of `audit`. The result's
    `statements` are what `jaynes equilibrium` prints.

    Raises:
        CouldNotRead: when there is nothing at a path, it may not be read, or the Hub cannot give it.
        NothingToAudit: when a folder holds no weights.
        RefusedFile: when a file of weights is unsound.
        UsageError: when an argument has no meaning.
    """
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415 - see the module's docstring
    from jaynes_audit.analyzers.checkpoints.training_state.given import Given  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.training_state.state import Method  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.errors import UsageError  # noqa: PLC0415
    from jaynes_audit.analyzers.thermodynamics.equilibrium import Manner  # noqa: PLC0415
    from jaynes_audit.analyzers.thermodynamics.equilibrium import audit_training as audited  # noqa: PLC0415

    _refuse(io, jobs)
    methods = {None: None, "adamw": Method.ADAMW, "sgd": Method.SGD}
    if optimizer not in methods:
        raise UsageError(f"optimizer={optimizer!r} is none that laws are known for: there are 'adamw' and 'sgd'.")
    return audited(
        fspath(path),
        Manner(
            given=Given(
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                schedule=schedule,
                warmup=warmup,
                steps=steps,
                method=methods[optimizer],
            ),
            initial=None if initial is None else fspath(initial),
            earlier=None if earlier is None else fspath(earlier),
            jobs=jobs,
            io=Io(io),
            access=HubAccess(mode=_mode(stream=stream)),
        ),
    )


def _refuse(io: str, jobs: int | None) -> None:
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.errors import UsageError  # noqa: PLC0415

    if io not in list(Io):
        raise UsageError(f"io={io!r} is no way of reading files: there are {', '.join(map(repr, map(str, Io)))}.")
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs={jobs}: an audit needs at least one thread.")


def _mode(*, stream: bool | None) -> "Mode | None":
    from jaynes_audit.analyzers.checkpoints.hub.place import Mode  # noqa: PLC0415

    return None if stream is None else Mode.STREAM if stream else Mode.CACHE


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"jaynes_audit.analyzers.{module}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
