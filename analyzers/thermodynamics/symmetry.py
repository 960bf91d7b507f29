"""Which rescalings of a network's weights leave its output as it was: the symmetries that training cannot see."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Channels = npt.NDArray[np.intp]

NO_CHANNEL = -1


class SymmetryKind(StrEnum):
    """The families of rescalings, named for what stands on both sides of them."""

    NORM_GAIN = "norm gain / its readers"
    UP_DOWN = "up / down"
    VALUE_OUTPUT = "value / output"
    QUERY_KEY = "query / key"
    QUERY_KEY_ROTARY = "query / key, rotary pairs"
    RELU_PAIR = "ReLU neuron"
    LINEAR_PAIR = "linear pair"
    LORA = "LoRA"
    QUERY_KEY_NORM = "query or key under its norm"
    CONV_BATCH_NORM = "filter under BatchNorm"
    RESIDUAL_WRITES = "residual-stream writes"


class Axis(StrEnum):
    """Along which axis of a layer the channels of a symmetry lie; ALL takes the layer as one channel."""

    OUTPUTS = "outputs"
    INPUTS = "inputs"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A layer's part in one side of a symmetry.

    `channels[i]` is the channel that entry i of the axis belongs to, NO_CHANNEL for none; None where entry i is
    channel i. `offset` is what the network adds to the stored weights before it uses them: 1 for Gemma's gains. Only
    vectors have one.
    """

    layer: str
    axis: Axis
    channels: Channels | None = None
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Symmetry:
    """For each channel c: scaling the plus side by exp(s) and the minus side by exp(-s) leaves every output the same.

    So for the gradient g of the loss of any minibatch the sums of g * w over both sides of a channel are equal
    (Kunin et al. 2021, "Neural Mechanics"). Without a minus side the plus side's own sum is zero: it is
    scale-invariant. `subject` is how a report calls it, "block 3, up/down".
    """

    kind: SymmetryKind
    subject: str
    depth: int | None
    channels: int
    plus: tuple[Term, ...]
    minus: tuple[Term, ...] = ()
