"""From what each file of a trainer tells to what is known of a training as a whole."""

from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted_path
from jaynes_audit.analyzers.checkpoints.training_state.arguments import (
    Arguments,
    method_named,
    planned_schedule,
)
from jaynes_audit.analyzers.checkpoints.training_state.history import RateEvidence, history_of
from jaynes_audit.analyzers.checkpoints.training_state.memory import Memory
from jaynes_audit.analyzers.checkpoints.training_state.optimizer import optimizer_state
from jaynes_audit.analyzers.checkpoints.training_state.saved import SchedulerState
from jaynes_audit.analyzers.checkpoints.training_state.schedules import MOST_STEPS
from jaynes_audit.analyzers.checkpoints.training_state.state import (
    History,
    Method,
    OptimizerState,
    ParameterGroup,
    TrainingState,
)
from jaynes_audit.analyzers.checkpoints.training_state.trainer_log import TrainerLog
from jaynes_audit.analyzers.errors import RefusedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What the files of one checkpoint told, each by itself. None is what was not there, or not understood.

    `steps` is how many updates the file beside the optimizer's memory speaks of.
    """

    files: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    optimizer_file: str | None = None
    memory: Memory | None = None
    steps: int | None = None
    scheduler: SchedulerState | None = None
    log: TrainerLog | None = None
    arguments: Arguments | None = None


def joined(gathered: Gathered) -> TrainingState:
    """What is known of a training."""
    log, arguments = gathered.log, gathered.arguments
    refused, remarks = list(gathered.refused), list(gathered.remarks)
    try:
        optimizer = _optimizer(gathered)
    except RefusedFile as refusal:
        optimizer = None
        refused.append(f"{quoted_path(gathered.optimizer_file)} is not read: {refusal}")
    if gathered.memory is not None and gathered.memory.unread:
        remarks.append(f"of the optimizer's tensors these cannot be read: {listed(gathered.memory.unread)}")
    made = [each.steps for each in optimizer.parameters if each.steps is not None] if optimizer else []
    steps = log.steps if log and log.steps is not None else gathered.steps
    if steps is None:
        steps = max(made, default=None)
    elif made and max(made) != steps:
        remarks.append(f"the trainer counts {steps:,} updates, and the optimizer {max(made):,}")
    if steps is not None and steps > MOST_STEPS:
        remarks.append(f"the learning rates of {steps:,} updates are too many to look at: {MOST_STEPS:,} are the most")
    return TrainingState(
        files=gathered.files,
        steps=steps,
        planned_steps=log.planned if log else None,
        steps_per_epoch=steps / log.epochs if log and log.epochs and steps else None,
        batch_size=_batch(log, arguments),
        loss=log.loss if log else None,
        weight_decay=arguments.weight_decay if arguments else None,
        method=method_named(_declared(gathered)) or Method.UNKNOWN,
        gradient_clip=arguments.gradient_clip if arguments else None,
        history=None if steps is None else _history(gathered, optimizer, steps),
        optimizer=optimizer,
        refused=tuple(refused),
        remarks=tuple(remarks),
    )


def _optimizer(gathered: Gathered) -> OptimizerState | None:
    if gathered.memory is None or gathered.optimizer_file is None:
        return None
    return optimizer_state(gathered.memory, file=gathered.optimizer_file, declared=_declared(gathered))


def _declared(gathered: Gathered) -> str:
    """What the arguments call the optimizer."""
    return gathered.arguments.optimizer if gathered.arguments else ""


def _batch(log: TrainerLog | None, arguments: Arguments | None) -> int | None:
    """How many examples one process saw for an update; of how many processes there were no file tells."""
    if log and log.batch:
        return log.batch * (arguments.accumulated if arguments else 1)
    return arguments.batch if arguments else None


def _history(gathered: Gathered, optimizer: OptimizerState | None, steps: int) -> History | None:
    log, arguments = gathered.log, gathered.arguments
    scheduler = gathered.scheduler or SchedulerState()
    group = optimizer.groups[0] if optimizer and optimizer.groups else ParameterGroup()
    return history_of(
        RateEvidence(
            steps=steps,
            logged=[each for each in log.rates if each.step <= steps] if log else (),
            schedule=planned_schedule(arguments, log.planned) if arguments and log and log.planned else None,
            initial=group.initial_learning_rate if scheduler.initial is None else scheduler.initial,
            next_rate=group.learning_rate if scheduler.next_rate is None else scheduler.next_rate,
        )
    )
