"""How a learning rate is planned: the schedules of transformers, and the few that can be given by hand.

Source: `transformers/optimization.py` (5.23), whose functions give the factor by which the highest rate is multiplied
when so many updates were made before.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from jaynes_audit.analyzers.checkpoints.training_state.state import Rates
from jaynes_audit.analyzers.checkpoints.training_state.told import number

MOST_STEPS = 10_000_000  # of a history: 80 MB of rates, and a thousand times the updates of most runs
AT_ONCE = 1 << 16  # updates whose rates are computed together
HALF_WAVE = 0.5  # the waves of a cosine that falls from its highest to its lowest
DEFAULT_TIMESCALE = 10_000.0  # of the inverse square root, without a warm-up
POLYNOMIAL_END = 1e-7  # the learning rate at which a polynomial ends

Settings = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A planned learning rate: `peak` after `warmup` updates, then by `kind` until update `total`.

    `settings` are those of the kind, by the names that transformers gives them; `shapes` those that are words.
    """

    kind: str
    peak: float
    warmup: int = 0
    total: int = 0
    settings: Settings = field(default_factory=dict)
    shapes: Mapping[str, str] = field(default_factory=dict)


def rates(schedule: Schedule, steps: int) -> Rates | None:
    """The learning rates of so many updates, the first at 0; None where the schedule's settings make no sense.

    `steps` is about MOST_STEPS at most, and `kind` is in KINDS.
    """
    found: Rates = np.empty(steps)
    with np.errstate(all="ignore"):  # settings can be anything, and the result is looked at
        for start in range(0, steps, AT_ONCE):
            part = found[start : start + AT_ONCE]
            part[:] = schedule.peak * KINDS[schedule.kind](
                schedule, np.arange(start, start + part.size, dtype=np.float64)
            )
    return found if np.isfinite(found).all() and (found >= 0).all() else None


def _after_warmup(schedule: Schedule, made: Rates, factors: Rates) -> Rates:
    return np.where(made < schedule.warmup, made / max(1, schedule.warmup), factors)


def _progress(schedule: Schedule, made: Rates) -> Rates:
    """The share of what follows the warm-up that is done: 0 at its end, 1 at the last update."""
    return (made - schedule.warmup) / max(1, schedule.total - schedule.warmup)


def _constant(schedule: Schedule, made: Rates) -> Rates:
    return _after_warmup(schedule, made, np.ones_like(made))


def _without_warmup(_: Schedule, made: Rates) -> Rates:
    return np.ones_like(made)


def _linear(schedule: Schedule, made: Rates) -> Rates:
    final = schedule.settings.get("min_lr_rate", 0.0)
    left = np.maximum(0.0, 1.0 - _progress(schedule, made))
    return _after_warmup(schedule, made, left * (1.0 - final) + final)


def _cosine(schedule: Schedule, made: Rates) -> Rates:
    final = schedule.settings.get("min_lr_rate", 0.0)
    waves = schedule.settings.get("num_cycles", HALF_WAVE)
    factors = 0.5 * (1.0 + np.cos(math.pi * waves * 2.0 * _progress(schedule, made)))
    return _after_warmup(schedule, made, np.maximum(0.0, factors * (1.0 - final) + final))


def _cosine_with_restarts(schedule: Schedule, made: Rates) -> Rates:
    progress = _progress(schedule, made)
    cycles = schedule.settings.get("num_cycles", 1.0)
    factors = np.where(progress < 1.0, 0.5 * (1.0 + np.cos(math.pi * (cycles * progress % 1.0))), 0.0)
    return _after_warmup(schedule, made, factors)


def _cosine_warmup(schedule: Schedule, made: Rates) -> Rates:
    """A cosine that counts the update that is being made, and whose warm-up does not begin at zero."""
    final = schedule.settings.get("min_lr_rate", 0.0)
    waves = schedule.settings.get("num_cycles", HALF_WAVE)
    factors = 0.5 * (1.0 + np.cos(math.pi * waves * 2.0 * (_progress(schedule, made) + 1.0 / _rest(schedule))))
    factors = np.maximum(0.0, factors * (1.0 - final) + final)
    first = schedule.settings.get("warmup_lr_rate")
    if first is None:
        rising = (made + 1.0) / max(1, schedule.warmup)
    else:
        rising = first + (1.0 - first) * made / max(1, schedule.warmup - 1)
    return np.where(made < schedule.warmup, rising, factors)


def _rest(schedule: Schedule) -> int:
    return max(1, schedule.total - schedule.warmup)


def _polynomial(schedule: Schedule, made: Rates) -> Rates:
    end = schedule.settings.get("lr_end", POLYNOMIAL_END) / schedule.peak
    left = 1.0 - (made - schedule.warmup) / _rest(schedule)
    factors = (1.0 - end) * np.maximum(0.0, left) ** schedule.settings.get("power", 1.0) + end
    return _after_warmup(schedule, made, np.where(made > schedule.total, end, factors))


def _inverse_sqrt(schedule: Schedule, made: Rates) -> Rates:
    timescale = schedule.settings.get("timescale", schedule.warmup or DEFAULT_TIMESCALE)
    return _after_warmup(schedule, made, np.sqrt(timescale / (made + timescale - schedule.warmup)))


def _warmup_stable_decay(schedule: Schedule, made: Rates) -> Rates:
    """Three parts, of which the last has `num_decay_steps` updates."""
    final = schedule.settings.get("min_lr_ratio", 0.0)
    decay = schedule.settings.get("num_decay_steps", 0.0)
    stable = schedule.settings.get("num_stable_steps", schedule.total - schedule.warmup - decay)
    to_rise = 1.0 - made / max(1, schedule.warmup)
    rising = _fallen(schedule.shapes.get("warmup_type", "linear"), to_rise, HALF_WAVE)
    waves = schedule.settings.get("num_cycles", HALF_WAVE)
    progress = (made - schedule.warmup - stable) / max(1.0, decay)
    falling = _fallen(schedule.shapes.get("decay_type", "cosine"), progress, waves)
    raised = np.where(made < schedule.warmup + stable, 1.0, np.maximum(0.0, falling * (1.0 - final) + final))
    ended = np.where(made < schedule.warmup + stable + decay, raised, final)
    return np.where(made < schedule.warmup, np.maximum(0.0, rising * (1.0 - final) + final), ended)


def _fallen(shape: str, progress: Rates, waves: float) -> Rates:
    """What is left of a factor that falls from 1 in this shape. A warm-up is the same fall, walked backwards."""
    match shape:
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + np.cos(math.pi * waves * 2.0 * progress))
        case "1-sqrt":
            return 1.0 - np.sqrt(np.maximum(0.0, progress))
        case _:
            return np.full_like(progress, np.nan)


KINDS: Mapping[str, Callable[[Schedule, Rates], Rates]] = {
    "constant": _without_warmup,
    "constant_with_warmup": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "cosine_with_min_lr": _cosine,
    "cosine_warmup_with_min_lr": _cosine_warmup,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "warmup_stable_decay": _warmup_stable_decay,
}
"""The schedules that can be computed again, by the name that transformers gives them."""


def schedule_settings(told: Mapping[object, object], peak: float) -> Settings:
    """The settings of a schedule that are numbers, with a lowest rate as the share of the highest."""
    found = {key: value for key, value in ((key, number(value)) for key, value in told.items()) if value is not None}
    settings = {key: value for key, value in found.items() if isinstance(key, str)}
    if "min_lr" in settings:
        settings["min_lr_rate"] = settings["min_lr"] / peak
    return settings
