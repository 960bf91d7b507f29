"""What a user says of a training, over what its files say.

A schedule is written `SHAPE[:FINAL][@STEPS]`. SHAPE is `constant`, `linear` or `cosine`; the last two fall to the share
FINAL of the highest rate (0 unless given) at update STEPS, and stay there. Without STEPS they end where the files say
that the run was to end, or else at the checkpoint. So `cosine:0.1@143000` is a half cosine down to a tenth of the
highest rate at update 143,000.
"""

import math
import re
from dataclasses import dataclass, replace

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.training_state.schedules import MOST_STEPS, Schedule, rates
from jaynes_audit.analyzers.checkpoints.training_state.state import (
    History,
    Method,
    OptimizerState,
    Rates,
    TrainingState,
)
from jaynes_audit.analyzers.errors import UsageError

CONSTANT = "constant"
FALLING = ("linear", "cosine")
DESCRIBED = "write 'constant', 'linear' or 'cosine', the last two with ':FINAL' and '@STEPS' if need be"
LONGEST_NUMBER = 20  # characters

_SCHEDULE = re.compile(r"(?P<shape>[a-z]+)(?::(?P<final>[^:@]+))?(?:@(?P<steps>[^:@]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a user says of a training; None is what is left to the files.

    `learning_rate` is the highest one. `schedule` is written as above. `warmup` is the number of updates in which the
    rate rises from 0 in a straight line, or below 1 the share of the schedule's updates. `steps` counts updates.
    `weight_decay` is that of the groups that are decayed at all, or of every group where the files say that none is.
    """

    learning_rate: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    warmup: float | None = None
    steps: int | None = None
    method: Method | None = None


def with_given(state: TrainingState, given: Given) -> TrainingState:
    """The training as the user describes it, and as the files do where the user does not.

    Raises:
        UsageError: when what is given has no meaning, or a number without which it has none is not known.
    """
    _refuse_nonsense(given)
    steps = state.steps if given.steps is None else given.steps
    known = replace(
        state,
        steps=steps,
        weight_decay=state.weight_decay if given.weight_decay is None else given.weight_decay,
        method=state.method if given.method is None else given.method,
        optimizer=_optimizer(state.optimizer, given),
    )
    if given.learning_rate is None and given.schedule is None and given.warmup is None:
        return replace(known, history=_cut(state.history, given.steps))
    if steps is None or steps > MOST_STEPS:
        raise UsageError(
            f"no file tells how many updates were made, up to {MOST_STEPS:,}; give the number with --steps"
        )
    schedule = _schedule(state, given, steps)
    return replace(
        known,
        planned_steps=schedule.total if schedule.kind in FALLING else known.planned_steps,
        history=_history(schedule, steps),
    )


def _refuse_nonsense(given: Given) -> None:
    rate, decay, warmup, steps = given.learning_rate, given.weight_decay, given.warmup, given.steps
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"a learning rate of {rate} has no meaning; give a number above 0")
    if decay is not None and not (math.isfinite(decay) and decay >= 0):
        raise UsageError(f"a weight decay of {decay} has no meaning; give 0 or a number above it")
    if warmup is not None and not (math.isfinite(warmup) and warmup >= 0 and (warmup < 1 or warmup == int(warmup))):
        raise UsageError(f"a warm-up of {warmup} has no meaning; give a number of updates, or a share below 1")
    if steps is not None and not 0 <= steps <= MOST_STEPS:
        raise UsageError(f"{steps:,} updates cannot be looked at; give a number from 0 to {MOST_STEPS:,}")


def _optimizer(optimizer: OptimizerState | None, given: Given) -> OptimizerState | None:
    if optimizer is None:
        return None
    if given.method is not None:
        optimizer = replace(optimizer, method=given.method, evidence="given by hand")
    if given.weight_decay is None:
        return optimizer
    is_decayed = any(group.weight_decay for group in optimizer.groups)
    return replace(
        optimizer,
        groups=tuple(
            replace(group, weight_decay=given.weight_decay) if group.weight_decay or not is_decayed else group
            for group in optimizer.groups
        ),
    )


def _cut(history: History | None, steps: int | None) -> History | None:
    """The history of the first updates; None where it is not as long."""
    if history is None or steps is None or steps == history.learning_rates.size:
        return history
    if steps > history.learning_rates.size:
        return None
    return replace(history, learning_rates=history.learning_rates[:steps], source=f"{history.source}; cut by hand")


def _schedule(state: TrainingState, given: Given, steps: int) -> Schedule:
    shape, final, total = _parsed(CONSTANT if given.schedule is None else given.schedule)
    total = total or state.planned_steps or steps
    warmup = given.warmup or 0.0
    warmup_steps = math.ceil(warmup * total) if warmup < 1 else int(warmup)
    if warmup_steps > total and shape in FALLING:
        raise UsageError(f"a warm-up of {warmup_steps:,} updates is longer than the schedule of {total:,}; shorten it")
    return Schedule(
        kind=shape if shape in FALLING else "constant_with_warmup",
        peak=_peak(state, given),
        warmup=warmup_steps,
        total=total,
        settings={"min_lr_rate": final},
    )


def _parsed(text: str) -> tuple[str, float, int | None]:
    """The shape, the last rate as a share of the highest, and the update at which the schedule ends, if it says so."""
    match = _SCHEDULE.fullmatch(text)
    shape = match["shape"] if match else ""
    if match is None or shape not in {CONSTANT, *FALLING}:
        raise UsageError(f"{quoted(text)} is no schedule; {DESCRIBED}")
    if shape == CONSTANT and (match["final"] or match["steps"]):
        raise UsageError(f"{quoted(text)} is constant, so that it has no end; {DESCRIBED}")
    final = _number(match["final"] or "0")
    if not 0 <= final <= 1:
        raise UsageError(f"{quoted(text)} must end at a share of the highest rate between 0 and 1, such as ':0.1'")
    if match["steps"] is None:
        return shape, final, None
    total = _number(match["steps"].replace("_", ""))
    if not (1 <= total <= MOST_STEPS and total == int(total)):
        raise UsageError(f"{quoted(text)} must end at an update from 1 to {MOST_STEPS:,}, such as '@100000'")
    return shape, final, int(total)


def _number(text: str) -> float:
    """The number, or NaN."""
    try:
        return float(text) if len(text) <= LONGEST_NUMBER else math.nan
    except ValueError:
        return math.nan


def _peak(state: TrainingState, given: Given) -> float:
    """The highest rate: as given, or as the files tell."""
    if given.learning_rate is not None:
        return given.learning_rate
    if state.history is not None and state.history.learning_rates.size and state.history.learning_rates.max() > 0:
        return float(state.history.learning_rates.max())
    initial = state.optimizer.groups[0].initial_learning_rate if state.optimizer and state.optimizer.groups else None
    if not initial:
        raise UsageError("no file tells the highest learning rate of the schedule; give it with --lr")
    return initial


def _history(schedule: Schedule, steps: int) -> History:
    found: Rates | None = rates(schedule, steps)
    if found is None:
        raise UsageError(f"the schedule {quoted(schedule.kind)} has no such rates; give another one")
    if schedule.kind in FALLING:
        found[schedule.total :] = schedule.peak * schedule.settings["min_lr_rate"]
    return History(learning_rates=found, logged=0, source="given by hand")
