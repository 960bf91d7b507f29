"""Folder of a checkpoint -> what transformers' Trainer logged until then: its step and the training loss."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from jaynes_audit.analyzers.checkpoints.configs import read_config
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.reading import is_absent

TRAINER_STATE = "trainer_state.json"
MOST_STEPS = 10**15  # a step a microsecond for thirty years


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerLog:
    """What the trainer wrote down. None is what it does not tell; `losses` are training losses by their steps.

    `remarks` says why the file could not be used.
    """

    step: int | None
    losses: Mapping[int, float]
    remarks: tuple[str, ...] = ()

    def loss_at(self, step: int | None) -> float | None:
        """Give the training loss that was logged last, up to a step or, without one, at all."""
        known = [each for each in self.losses if step is None or each <= step]
        return self.losses[max(known)] if known else None


def trainer_log(folder: Place) -> TrainerLog:
    """Read the log that stands in a folder. What is no number of the kind that it should be counts as not told.

    Source: TrainerState in transformers' trainer_callback.py, `global_step` and `log_history`.
    """
    path = folder / TRAINER_STATE
    if is_absent(path):
        return TrainerLog(step=None, losses={})
    found = read_config(path)
    step = found.values.get("global_step")
    return TrainerLog(
        step=step if _is_step(step) else None,
        losses=dict(_losses(found.values.get("log_history"))),
        remarks=found.remarks,
    )


def _losses(history: object) -> Iterator[tuple[int, float]]:
    for row in history if isinstance(history, list) else ():
        if isinstance(row, dict):
            step, loss = row.get("step"), row.get("loss")
            if _is_step(step) and isinstance(loss, int | float) and _is_finite(loss):
                yield step, float(loss)


def _is_step(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MOST_STEPS


def _is_finite(value: float) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
