"""From what was logged of a learning rate, and what was planned, to the rate of every update.

Which update a logged rate belongs to differs: transformers 5.23 logs with step k the rate that the k-th update was made
with, 4.44 the rate of the update after it, for it looks once the scheduler has stepped. What the plan, or the
scheduler's own file, says of the last step tells the two apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaynes_audit.analyzers.checkpoints.training_state.schedules import MOST_STEPS, Schedule, rates
from jaynes_audit.analyzers.checkpoints.training_state.state import History, Rates
from jaynes_audit.analyzers.checkpoints.training_state.trainer_log import LoggedRate

LATE = 10  # times the usual distance of logged rates: a log that begins later does not tell how the run began
AGREEMENT = 1e-5  # of the peak: rates are logged with all their digits, and a cosine of 10^5 updates moves by this much
SAME_RATE = 1e-9  # of two rates, relative: one number that was computed once


@dataclass(frozen=True, slots=True, kw_only=True)
class RateEvidence:
    """What is known of a run's learning rate.

    `logged` are the rates by step. `initial` is the rate that the schedule multiplies, and `next_rate` the one that the
    update after the last is to have; both are None where no file tells.
    """

    steps: int
    logged: Sequence[LoggedRate] = ()
    schedule: Schedule | None = None
    initial: float | None = None
    next_rate: float | None = None


def history_of(evidence: RateEvidence) -> History | None:
    """The learning rate of every update so far; None where neither a log nor a plan tells, or the run is too long."""
    if evidence.steps > MOST_STEPS:
        return None
    planned = _planned(evidence)
    if planned is not None:
        return planned
    return _interpolated(evidence) if evidence.logged and not _begins_late(evidence) else None


def _begins_late(evidence: RateEvidence) -> bool:
    """Whether the log leaves out much of the run before it, as of a run that was resumed elsewhere."""
    steps = [each.step for each in evidence.logged]
    usual = float(np.median(np.diff(steps))) if len(steps) > 1 else math.inf
    return steps[0] > LATE * usual


def _planned(evidence: RateEvidence) -> History | None:
    """The schedule's rates, where all that was logged agrees with them."""
    if evidence.schedule is None:
        return None
    found = rates(evidence.schedule, evidence.steps + 1)  # with the update that is next
    if found is None:
        return None
    tolerance = AGREEMENT * evidence.schedule.peak
    logged_at = np.array([each.step for each in evidence.logged], np.int64)
    logged = np.array([each.rate for each in evidence.logged])
    if logged.size:
        agreement = min(np.abs(found[logged_at - own] - logged).max() for own in (1, 0))
        said = f"and agrees with {_counted(logged.size)}"
    elif evidence.next_rate is not None:
        agreement = abs(found[-1] - evidence.next_rate)
        said = "and agrees with the rate that was saved; none was logged"
    else:
        return None
    if not agreement <= tolerance:
        return None
    schedule = evidence.schedule
    source = f"computed again from the trainer's arguments ({schedule.kind}, {schedule.warmup:,} updates of warm-up), "
    return History(learning_rates=found[: evidence.steps], logged=logged.size, source=source + said)


def _interpolated(evidence: RateEvidence) -> History:
    """Straight lines between the rates that were logged, and to the start and the end of the run."""
    own = _is_of_own_update(evidence)
    made = [each.step - own for each in evidence.logged]  # how many updates were made before the one with this rate
    logged = [each.rate for each in evidence.logged]
    before, start = _start(evidence, made[0])
    at = [*(step for step, _ in before), *made]
    known = [*(rate for _, rate in before), *logged]
    if evidence.next_rate is not None and at[-1] < evidence.steps:
        at.append(evidence.steps)
        known.append(evidence.next_rate)
    found: Rates = np.interp(np.arange(evidence.steps), at, known)
    shift = "" if own else " (each of the update after its step)"
    source = f"{_counted(len(logged))}{shift}, straight lines between, {start}"
    return History(learning_rates=found, logged=len(logged), source=source)


def _counted(logged: int) -> str:
    return "1 logged rate" if logged == 1 else f"{logged:,} logged rates"


def _is_of_own_update(evidence: RateEvidence) -> bool:
    """Whether a rate is logged with the number of the update that was made with it."""
    last = evidence.logged[-1]
    is_flat = len({each.rate for each in evidence.logged}) == 1
    if evidence.next_rate is None or last.step != evidence.steps or is_flat:
        return True
    return abs(last.rate - evidence.next_rate) > SAME_RATE * abs(last.rate)


def _start(evidence: RateEvidence, first: int) -> tuple[list[tuple[int, float]], str]:
    """The rates before the first that was logged, each after so many updates, and where they are from in words."""
    if first <= 0:
        return [], "from the first update on"
    rate = evidence.logged[0].rate
    is_rising = any(each.rate > rate for each in evidence.logged[1:2])
    schedule = evidence.schedule
    if schedule is not None and 0 < schedule.warmup < first:
        return [(0, 0.0), (schedule.warmup, schedule.peak)], "before them the planned warm-up"
    if is_rising or (schedule is not None and schedule.warmup):
        return [(0, 0.0)], "before them a warm-up from 0"
    if evidence.initial is not None:
        return [(0, max(evidence.initial, rate))], "before them a line from the initial rate"
    return [(0, rate)], "before them the first of them"
