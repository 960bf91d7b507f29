"""How transformers' Trainer was set: `training_args.bin`, a pickled object whose attributes are read as plain data.

A `training_args.json` with the same names is read too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.training_state.schedules import KINDS, Schedule, schedule_settings
from jaynes_audit.analyzers.checkpoints.training_state.state import Method
from jaynes_audit.analyzers.checkpoints.training_state.told import (
    attributes,
    bad,
    count,
    mapping,
    not_negative,
    positive,
    word,
)

FILES = ("training_args.bin", "training_args.json")

OPTIMIZERS: Mapping[str, Method] = {
    "adamw": Method.ADAMW,
    "paged_adamw": Method.ADAMW,
    "lion": Method.LION,
    "paged_lion": Method.LION,
    "adafactor": Method.ADAFACTOR,
    "sgd": Method.SGD,
}
"""What the names of transformers' optimizers begin with. The others (GaLore, schedule-free, ...) step in other ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The Trainer's arguments as far as they matter here. None, "" and 0 are what they do not say.

    `optimizer` and `scheduler` are transformers' names. `warmup_share` is the share of all updates that are warm-up,
    where their number is not given. `batch` is the number of examples of an update, of one process. `remarks` tell of
    globals that no trainer needs.
    """

    optimizer: str = ""
    learning_rate: float | None = None
    weight_decay: float | None = None
    gradient_clip: float | None = None
    accumulated: int = 1
    batch: int | None = None
    scheduler: str = ""
    warmup: int = 0
    warmup_share: float = 0.0
    schedule_settings: Mapping[object, object]
    remarks: tuple[str, ...] = ()


def arguments_of(value: object) -> Arguments:
    """The arguments that a pickled object has as attributes, or a JSON object as entries. Raises RefusedFile, JN003."""
    told = attributes(value)
    if "learning_rate" not in told:
        raise bad("it holds no arguments of the Trainer", "no-training-arguments")
    accumulated = count(told.get("gradient_accumulation_steps")) or 1
    batch = count(told.get("per_device_train_batch_size"))
    warmup = not_negative(told.get("warmup_steps")) or 0.0  # below 1 it is a share, since transformers 5
    return Arguments(
        optimizer=word(told.get("optim")),
        learning_rate=positive(told["learning_rate"]),
        weight_decay=not_negative(told.get("weight_decay")),
        gradient_clip=positive(told.get("max_grad_norm")),
        accumulated=accumulated,
        batch=batch * accumulated if batch else None,
        scheduler=word(told.get("lr_scheduler_type")),
        warmup=int(warmup),
        warmup_share=(warmup if warmup < 1 else 0.0) or min(1.0, not_negative(told.get("warmup_ratio")) or 0.0),
        schedule_settings=mapping(told.get("lr_scheduler_kwargs")),
    )


def planned_schedule(arguments: Arguments, planned: int) -> Schedule | None:
    """The schedule of a run of so many updates; None where the arguments name none that can be computed again."""
    if arguments.scheduler not in KINDS or arguments.learning_rate is None:
        return None
    return Schedule(
        kind=arguments.scheduler,
        peak=arguments.learning_rate,
        warmup=arguments.warmup or math.ceil(planned * arguments.warmup_share),
        total=planned,
        settings=schedule_settings(arguments.schedule_settings, arguments.learning_rate),
        shapes={
            key: value
            for key, value in arguments.schedule_settings.items()
            if isinstance(key, str) and isinstance(value, str)
        },
    )


def method_named(optimizer: str) -> Method | None:
    """The method that a name of transformers' stands for; None where it is none of `Method`'s."""
    found = (method for name, method in OPTIMIZERS.items() if optimizer == name or optimizer.startswith(f"{name}_"))
    return next(found, None)
