"""Checkpoint and its training -> evidence -> statements: every law asked in turn."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess, open_checkpoint
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.training_state.given import Given, with_given
from jaynes_audit.analyzers.checkpoints.training_state.reading import read_training_state
from jaynes_audit.analyzers.checkpoints.training_state.state import (
    OptimizerState,
    ParameterGroup,
    TrainingState,
)
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.dtypes import FLOATS
from jaynes_audit.analyzers.errors import NothingToAudit, UsageError
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.thermodynamics.ages import age_statements, horizon_statements
from jaynes_audit.analyzers.thermodynamics.balance import adamw_statements, sgd_statements
from jaynes_audit.analyzers.thermodynamics.charges import charge_statements
from jaynes_audit.analyzers.thermodynamics.entropic import entropic_statements, flux_statements
from jaynes_audit.analyzers.thermodynamics.equation_of_state import state_statements
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Pairing, Parameter
from jaynes_audit.analyzers.thermodynamics.inert import inert_statements
from jaynes_audit.analyzers.thermodynamics.initialisation import aspect_statements, initialisation_statements
from jaynes_audit.analyzers.thermodynamics.lora import lora_statements, share_beyond
from jaynes_audit.analyzers.thermodynamics.measuring import Measured, Remembered, measure, remembered_by_name
from jaynes_audit.analyzers.thermodynamics.noether import noether_statements
from jaynes_audit.analyzers.thermodynamics.norms import DECLARED, rms_statements
from jaynes_audit.analyzers.thermodynamics.pairing import pair
from jaynes_audit.analyzers.thermodynamics.statement import Statement
from jaynes_audit.analyzers.thermodynamics.sums import Density
from jaynes_audit.analyzers.thermodynamics.symmetries import symmetries_of
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry

LAWS: tuple[Callable[[Evidence], Iterator[Statement]], ...] = (
    age_statements,
    horizon_statements,
    rms_statements,
    state_statements,
    noether_statements,
    adamw_statements,
    sgd_statements,
    charge_statements,
    lora_statements,
    inert_statements,
    initialisation_statements,
    aspect_statements,
    entropic_statements,
    flux_statements,
)
"""Every law, in the order of the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a training is audited.

    `given` is what is known beside the files. `initial` is the model before training and `earlier` an earlier
    checkpoint of the run, both as locations. `jobs` threads share the work and never change the result. `on_bytes` is
    told now and then how many more bytes were read.
    """

    given: Given = field(default_factory=Given)
    initial: str | None = None
    earlier: str | None = None
    jobs: int | None = None
    io: Io = Io.MMAP
    access: HubAccess = field(default_factory=HubAccess)
    on_bytes: Callable[[int], None] = lambda _: None


USUAL_MANNER = Manner()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAudit:
    """What the training of a checkpoint shows in its weights.

    `layers` counts those that were measured; `unread` maps the others to the reason.
    """

    target: str
    commit: str
    layers: int
    unread: Mapping[str, str]
    training: TrainingState
    pairing: Pairing
    statements: tuple[Statement, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A checkpoint's layers and their sums."""

    checkpoint: Checkpoint
    training: TrainingState
    layers: tuple[Layer, ...]
    symmetries: tuple[Symmetry, ...]
    pairing: Pairing
    remembered: Mapping[str, Remembered]
    measured: Measured
    beyond: Mapping[str, float | None]


def audit_training(target: str, manner: Manner = USUAL_MANNER) -> TrainingAudit:
    """Read a checkpoint and what its trainer left beside it, and ask every law about both.

    Raises:
        CouldNotRead: when there is nothing at the location, or it cannot be read.
        NothingToAudit: when it holds no weights.
        UsageError: when what is given of the training has no meaning.
        RefusedFile: when a single file of weights is not what it claims to be.
    """
    read = _read(target, manner, with_optimizer=True)
    initial = _beside(manner.initial, read, manner)
    earlier = _beside(manner.earlier, read, manner)
    if earlier is not None:
        _refuse_later(earlier, read)
    evidence = _evidence(read, initial=initial, earlier=_evidence(earlier) if earlier is not None else None)
    return TrainingAudit(
        target=target,
        commit=read.checkpoint.commit,
        layers=len(read.measured.sums),
        unread={**read.measured.left_out, **read.measured.forgotten},
        training=read.training,
        pairing=read.pairing,
        statements=statements_of(evidence),
        remarks=(*read.checkpoint.remarks, *read.training.remarks),
    )


def statements_of(evidence: Evidence) -> tuple[Statement, ...]:
    """Ask every law."""
    return tuple(chain.from_iterable(law(evidence) for law in LAWS))


def _beside(target: str | None, read: _Read, manner: Manner) -> _Read | None:
    """Read another checkpoint of the same model. Raises UsageError where it is none, and as `audit_training` does."""
    if target is None:
        return None
    found = _read(target, manner, with_optimizer=False)
    shapes = {layer.name: layer.tensor.shape for layer in found.layers}
    if not any(shapes.get(layer.name) == layer.tensor.shape for layer in read.layers):
        raise UsageError(
            f"{quoted(target)} has no layer of the name and shape of one in {quoted(read.checkpoint.location)}; name a "
            "checkpoint of the same model"
        )
    return found


def _refuse_later(earlier: _Read, read: _Read) -> None:
    before, now = earlier.training.steps, read.training.steps
    if before is not None and now is not None and before >= now:
        raise UsageError(
            f"{quoted(earlier.checkpoint.location)} is no earlier checkpoint: it was trained for {before:,} steps, and "
            f"{quoted(read.checkpoint.location)} for {now:,}"
        )


def _read(target: str, manner: Manner, *, with_optimizer: bool) -> _Read:
    checkpoint = open_checkpoint(target, manner.access)
    # What is given is said of the checkpoint itself, not of those beside it.
    given = manner.given if with_optimizer else Given()
    training = with_given(read_training_state(target, manner.access), given)
    layers = tuple(
        layer
        for tensor in checkpoint.tensors
        if tensor.dtype in FLOATS
        for layer in layers_of(tensor, checkpoint.config_of(tensor.name))
    )
    if not layers:
        raise NothingToAudit(f"{quoted(target)} holds no weights; name a folder or a file that does")
    symmetries = symmetries_of(layers, checkpoint.config_of(""), checkpoint.aliases)
    optimizer = training.optimizer if with_optimizer else None
    with Sources(manner.io) as sources:
        pairing = pair(checkpoint, layers, symmetries, optimizer, sources) if optimizer is not None else Pairing()
        remembered = remembered_by_name(pairing.keys, optimizer) if optimizer is not None else {}
        measured = measure(
            layers, remembered, sources, threads=manner.jobs or os.cpu_count() or 1, on_bytes=manner.on_bytes
        )
        beyond = {layer.name: share_beyond(layer, sources) for layer in layers if layer.part.role is Role.LORA_A}
    if optimizer is not None and not pairing.keys and not _could_be_of(optimizer, layers):
        training = _without(optimizer, training, given, pairing)
    return _Read(
        checkpoint=checkpoint,
        training=training,
        layers=layers,
        symmetries=symmetries,
        pairing=pairing,
        remembered=remembered,
        measured=measured,
        beyond=beyond,
    )


def _could_be_of(optimizer: OptimizerState, layers: Sequence[Layer]) -> bool:
    """Whether an optimizer that could not be paired has as many parameters as the checkpoint, of the same shapes."""
    shapes = Counter(
        {layer.tensor.name: layer.tensor.shape for layer in layers if layer.part.role is not Role.BUFFER}.values()
    )
    states = Counter(state.shape for state in optimizer.parameters if state.shape)
    return len(optimizer.parameters) in {0, shapes.total()} and states <= shapes


def _without(optimizer: OptimizerState, training: TrainingState, given: Given, pairing: Pairing) -> TrainingState:
    """A training of which only what was given is known, beside the steps: its optimizer is another model's.

    The learning rates are left out, too, since some of them may be that optimizer's.
    """
    remark = (
        f"nothing is said from {quoted(optimizer.files[0] if optimizer.files else 'the optimizer')}: {pairing.evidence}"
    )
    left = replace(training, optimizer=None, history=None, weight_decay=None, remarks=(*training.remarks, remark))
    return with_given(left, given)


def _evidence(read: _Read, *, initial: _Read | None = None, earlier: Evidence | None = None) -> Evidence:
    starts, source = _starts(read, initial)
    return Evidence(
        target=read.checkpoint.location,
        config=read.checkpoint.config_of(""),
        parameters={layer.name: _parameter(layer, read) for layer in read.layers if layer.name in read.measured.sums},
        symmetries=read.symmetries,
        training=read.training,
        pairing=read.pairing,
        initial=starts,
        initial_source=source,
        earlier=earlier,
    )


def _parameter(layer: Layer, read: _Read) -> Parameter:
    """A layer, with the settings of its group; without an optimizer, matrices have the decay that was given."""
    known = read.remembered.get(layer.tensor.name)
    group = known.group if known is not None else None
    return Parameter(
        layer=layer,
        sums=read.measured.sums[layer.name],
        group=group,
        weight_decay=_decay(layer, read, group),
        steps=known.state.steps if known is not None else read.training.steps,
        share_beyond=read.beyond.get(layer.name),
    )


def _decay(layer: Layer, read: _Read, group: ParameterGroup | None) -> float | None:
    if group is not None:
        return group.weight_decay
    if read.pairing.keys:
        return None  # the optimizer does not know it: it was frozen, or could not be paired
    # Trainers leave gains and biases out of weight decay, unless all parameters are decayed alike.
    optimizer = read.training.optimizer
    decays = {each.weight_decay for each in optimizer.groups} if optimizer is not None else set()
    if len(decays) == 1:
        return decays.pop()
    decayed = decays - {0.0} or {read.training.weight_decay}
    if len(decayed) > 1:
        return None
    decay = decayed.pop()
    return decay if decay is None or len(layer.tensor.shape) > 1 else 0.0


def _starts(read: _Read, initial: _Read | None) -> tuple[Mapping[str, float], str]:
    """The mean square that every layer began with, and how that is known."""
    if initial is not None:
        sums = initial.measured.sums
        return {name: each.total(Density.SQUARE) / each.weights for name, each in sums.items()}, "the initial weights"
    declared = {layer.name: layer.declared_sd for layer in read.layers if layer.part.fan_in}
    return {name: sd**2 for name, sd in declared.items() if sd is not None}, DECLARED
