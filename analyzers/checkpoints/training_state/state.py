"""What a trainer left beside the weights: the optimizer's memory, the learning rates so far, how it was set."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.tensor import Tensor

Rates = npt.NDArray[np.float64]


class Method(StrEnum):
    """How an optimizer turns gradients into steps, as far as its files tell. ADAM_L2 adds the decay to the gradient."""

    ADAMW = "AdamW"
    ADAM_L2 = "Adam with L2 decay"
    SGD = "SGD"
    LION = "Lion"
    ADAFACTOR = "Adafactor"
    MUON = "Muon"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Settings that parameters share, when the checkpoint was saved. None is what the files do not tell.

    `weight_decay` is the number given to the optimizer: AdamW multiplies weights by 1 - learning_rate * weight_decay
    at each step, SGD adds weight_decay * weight to the gradient.
    """

    learning_rate: float | None = None
    initial_learning_rate: float | None = None
    weight_decay: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    momentum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterState:
    """What an optimizer remembers of one parameter.

    `key` is how the file calls it: a name, or its number in the order of the groups. `group` counts from 0. `steps` is
    how often it was updated. `first` is the running mean of its gradients (`exp_avg`, or SGD's `momentum_buffer`),
    `second` that of their squares (`exp_avg_sq`), both as stored: not corrected for their start at zero. Both have the
    parameter's shape, or None where the file has none. `shape` is () where neither is there.
    """

    key: str
    group: int
    shape: tuple[int, ...]
    steps: int | None = None
    first: Tensor | None = None
    second: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerState:
    """An optimizer as it was saved: `parameters` in the order of its groups.

    `is_named` tells that the keys are names of parameters. `evidence` says in words how the method was told.
    """

    files: tuple[str, ...]
    method: Method
    evidence: str
    groups: tuple[ParameterGroup, ...]
    parameters: tuple[ParameterState, ...]
    is_named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The learning rate of every step until the checkpoint was saved, oldest first: that of the first group.

    `logged` is how many of them were written down; the others lie on straight lines between. `source` says in words
    where they come from.
    """

    learning_rates: Rates
    logged: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """All that is known of the training of a checkpoint. None and () are what no file tells.

    `steps` counts updates of the weights. `steps_per_epoch` is how many of them see all data once, `planned_steps` how
    many the whole run was to have. `loss` is the training loss that was logged last, in nats. `weight_decay` is what
    was given by hand or stands in the trainer's arguments, for parameters of which the optimizer's groups say nothing;
    so is `method`, for want of an optimizer's state.
    `refused` are files that were not understood, each in one sentence; `remarks` what a reader should know.
    """

    files: tuple[str, ...] = ()
    steps: int | None = None
    planned_steps: int | None = None
    steps_per_epoch: float | None = None
    batch_size: int | None = None
    loss: float | None = None
    weight_decay: float | None = None
    method: Method = Method.UNKNOWN
    gradient_clip: float | None = None
    history: History | None = None
    optimizer: OptimizerState | None = None
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
