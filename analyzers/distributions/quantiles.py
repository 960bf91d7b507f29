"""Quantiles of ln|w|, read from counts."""

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.stack import Stack

Floats = npt.NDArray[np.float64]

QUANTILE_POINTS = 63
QUANTILE_PROBABILITIES = tuple(point / (QUANTILE_POINTS + 1) for point in range(1, QUANTILE_POINTS + 1))
"""Equally spaced, so that a mean over them is one over probability; 1/64 still has 156 weights of 10,000 below it."""


def log_quantiles(stack: Stack, probabilities: Floats) -> Floats:
    """Give the quantiles of ln|w| of every layer, shape (layers, probabilities).

    Within a cell of the stored format the weights count as spread evenly over ln|w|, so a quantile is at most a cell
    off: 0.4 % of the magnitude for bfloat16 and float32.
    """
    running = np.cumsum(stack.tallies)
    before = np.concatenate([[0], running])[stack.starts]
    wanted = before[:, np.newaxis] + stack.weights[:, np.newaxis] * probabilities
    place = np.searchsorted(running, wanted, side="left")
    code = stack.codes[place]
    within = 1 - (running[place] - wanted) / stack.tallies[place]
    lower, upper = stack.grid.log_lower[code], stack.grid.log_upper[code]
    lower = np.where(np.isneginf(lower), upper, lower)  # the format's smallest code; where below it is not known
    quantiles: Floats = lower + within * (upper - lower)
    return quantiles
