"""Counts on coarser intervals, and what a normal ln|w| has in them.

Grouped likelihoods and divergences are taken over intervals wide enough to hold some weights each: the plug-in estimate
of a divergence over K occupied intervals is too high by about (K - 1)/(2n) (Miller 1955).
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.stack import Number, Stack
from jaynes_audit.analyzers.sketch.grid import cells

Floats = npt.NDArray[np.float64]

FEW_WEIGHTS, MANY_WEIGHTS = 100_000, 1_000_000
INTERVALS_PER_OCTAVE = {FEW_WEIGHTS: 8, MANY_WEIGHTS: 16}
FINEST_INTERVALS_PER_OCTAVE = 32

FAR_TAIL = 37.0  # sd beyond which a normal probability is below the smallest double
CDF_END = 8.5  # sd beyond which a normal distribution function is 0 or 1 to 1e-17
CDF_STEPS_PER_SD = 2048  # linear interpolation errs by at most max|phi'|/(8 * steps^2) = 7e-9


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Intervals:
    """Layers end to end, their weights counted in the intervals of one coarser grid; empty intervals are not listed.

    Layer i has intervals `starts[i]:starts[i] + lengths[i]`. `shares` are the tallies as parts of the layer's
    `weights`. The ends are natural logarithms of the magnitude; the first may be minus infinity.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    tallies: npt.NDArray[np.int64]
    shares: Floats
    log_lower: Floats
    log_upper: Floats

    def sums(self, terms: Floats) -> Floats:
        """Add up one number per interval, layer by layer."""
        return np.add.reduceat(terms, self.starts)

    def spread(self, of_layers: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Repeat one number per layer for each of its intervals."""
        return np.repeat(of_layers, self.lengths)


def intervals_per_octave(weights: int) -> int:
    """Say how fine the intervals may be for so many weights."""
    return next((fine for limit, fine in INTERVALS_PER_OCTAVE.items() if weights < limit), FINEST_INTERVALS_PER_OCTAVE)


def intervals(stack: Stack, per_octave: int) -> Intervals:
    """Count the layers of a stack in at most `per_octave` (a power of two) intervals per octave of magnitude."""
    coarse = cells(stack.grid, per_octave)
    cell = stack.codes >> coarse.shift
    first = np.concatenate([[True], np.diff(cell) != 0])
    first[stack.starts] = True
    starts = np.flatnonzero(first)
    tallies = np.add.reduceat(stack.tallies, starts)
    layer_starts = np.searchsorted(starts, stack.starts)
    lengths = np.diff(layer_starts, append=starts.size)
    cell = cell[starts]
    return Intervals(
        starts=layer_starts,
        lengths=lengths,
        weights=stack.weights,
        tallies=tallies,
        shares=tallies / np.repeat(stack.weights, lengths),
        log_lower=coarse.log_lower[cell],
        log_upper=coarse.log_upper[cell],
    )


@cache
def _cdf_table() -> tuple[Floats, Floats]:
    """The distribution function at equal steps, and its rise over each step."""
    steps = round(2 * CDF_END * CDF_STEPS_PER_SD)
    at = _tail(np.linspace(CDF_END, -CDF_END, steps + 1))
    return at[:-1], np.diff(at)


def normal_cdf(z: Floats) -> Floats:
    """Give the standard normal distribution function, to 1e-8."""
    at, rise = _cdf_table()
    place = np.clip((z + CDF_END) * CDF_STEPS_PER_SD, 0, at.size)
    step = np.minimum(place.astype(np.int32), at.size - 1)
    return at[step] + (place - step) * rise[step]


def _tail(z: Floats) -> Floats:
    # math.erfc is the C library's and exact to the last digits; scipy.special takes longer to import than an audit.
    return np.array([0.5 * math.erfc(v) for v in (z * math.sqrt(0.5)).tolist()])


def log_normal_probability(lower: Floats, upper: Floats) -> Floats:
    """Natural logarithm of the standard normal probability between the ends of intervals, accurate in both tails."""
    beyond_lower = _tail(np.abs(lower))
    beyond_upper = np.append(beyond_lower[1:], 0.0)
    detached = np.append(upper[:-1] != lower[1:], True)  # most intervals end where the next begins
    beyond_upper[detached] = _tail(np.abs(upper[detached]))
    # Differences are taken on the interval's own side of the middle, where the numbers are small.
    probability = np.abs(beyond_lower - beyond_upper)
    middle = (lower < 0) & (upper > 0)
    probability[middle] = 1 - (beyond_lower + beyond_upper)[middle]
    with np.errstate(divide="ignore"):
        logarithm: Floats = np.log(probability)
    near, far = np.minimum(np.abs(lower), np.abs(upper)), np.maximum(np.abs(lower), np.abs(upper))
    beyond = ~middle & (near > FAR_TAIL)
    if beyond.any():
        logarithm[beyond] = _log_far_tail(near[beyond], far[beyond])
    return logarithm


def _log_far_tail(near: Floats, far: Floats) -> Floats:
    from scipy.special import log_ndtr  # noqa: PLC0415 - 0.4 s to import, and hardly any layer has such a weight

    top: Floats = log_ndtr(-near)
    probability: Floats = top + np.log1p(-np.exp(log_ndtr(-far) - top))
    return probability
