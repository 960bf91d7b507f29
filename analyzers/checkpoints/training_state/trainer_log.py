"""`trainer_state.json` of transformers' Trainer: how far a run is, and what it logged on the way."""

from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.training_state.told import (
    bad,
    count,
    mapping,
    not_negative,
    number,
    positive,
    read_json,
)

FILE = "trainer_state.json"
ENDLESS = 1e15  # epochs: what the Trainer writes of data whose length it does not know; its epoch is then no epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRate:
    """A learning rate that was logged when `step` updates were made."""

    step: int
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerLog:
    """What the Trainer knew when it saved a checkpoint. None is what it does not say.

    `steps` counts updates, `planned` those that the run was to have; `epochs` is how often all data were seen.
    `batch` is the number of examples that one process saw at a time. `loss` is the one logged last, in nats. `rates`
    are in the order of their steps, no two of one step, and none after `steps`.
    """

    steps: int | None
    planned: int | None
    epochs: float | None
    batch: int | None
    loss: float | None
    rates: tuple[LoggedRate, ...]


def read_trainer_log(path: Place) -> TrainerLog:
    """The log in a `trainer_state.json`.

    Raises:
        RefusedFile: JN003 when it is not what the Trainer writes, or its steps fall.
        CouldNotRead: when the machine does not let it be read.
    """
    told = read_json(path)
    if not isinstance(told, dict):
        raise bad("it is no JSON object", "trainer-state-not-object")
    if "global_step" in told and count(told["global_step"]) is None:
        raise bad("its global_step is no number of updates", "trainer-state-step")
    steps = count(told.get("global_step"))
    history = told.get("log_history")
    rates: dict[int, float] = {}
    loss: float | None = None
    for line in map(mapping, history if isinstance(history, list) else ()):
        step = count(line.get("step"))
        if step is None or (steps is not None and step > steps):
            continue
        loss = number(line["loss"]) if "loss" in line else loss
        rate = not_negative(line.get("learning_rate"))
        if rate is None:
            continue
        if rates and step < next(reversed(rates)):
            raise bad(f"its log goes back from step {next(reversed(rates)):,} to {step:,}", "trainer-state-order")
        rates[step] = rate
    return TrainerLog(
        steps=steps,
        planned=count(told.get("max_steps")) or None,
        epochs=None if (number(told.get("num_train_epochs")) or 0) > ENDLESS else positive(told.get("epoch")),
        batch=count(told.get("train_batch_size")) or None,
        loss=loss,
        rates=tuple(LoggedRate(step=step, rate=rate) for step, rate in rates.items() if step),
    )
