"""Weights and what the optimizer remembers of them -> sums over outputs and inputs, all that the laws ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The longest axis that is summed over, a few times the largest vocabulary. Sums of vectors take at most seven times the
# bytes that the weights and their states are stored in, those of matrices far less.
LONGEST_AXIS = 1 << 20


class Density(StrEnum):
    """What is summed. w is a weight; m and v are the optimizer's means, corrected for their start; u its step.

    u = m / (sqrt(v) + epsilon), so that AdamW subtracts learning_rate * u.
    m^2 is summed only where no v is remembered.
    """

    WEIGHT = "w"
    SQUARE = "w^2"
    FIRST = "m"
    FIRST_TIMES_WEIGHT = "m w"
    FIRST_SQUARE = "m^2"
    SECOND = "v"
    ROOT_SECOND = "sqrt(v)"
    ROOT_SECOND_TIMES_WEIGHT = "sqrt(v) w"
    ROOT_SECOND_TIMES_SQUARE = "sqrt(v) w^2"
    FIRST_TIMES_UPDATE = "m u"
    UPDATE_TIMES_WEIGHT = "u w"
    UPDATE_SQUARE = "u^2"


OF_VECTORS = frozenset({Density.FIRST, Density.ROOT_SECOND_TIMES_WEIGHT})


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisSums:
    """Sums over one layer, in double precision.

    `outputs[density]` has one number for each output, summed over its connections; `inputs[density]` one for each
    input. Outputs and inputs are the network's, whatever the storage order. A vector (a gain, a bias) has one output
    for each of its elements, and a single input. What the optimizer's state would be needed for is absent without it;
    what only `OF_VECTORS` have, which a network may add a constant to, is absent for matrices.
    """

    weights: int
    outputs: Mapping[Density, Floats]
    inputs: Mapping[Density, Floats]

    def total(self, density: Density) -> float:
        """The sum over the whole layer."""
        return float(self.outputs[density].sum())
