"""The lognormal fitted to the weights of layers, and how far the weights are from it."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import (
    LogMomentErrors,
    LogMoments,
    NotFitted,
    log_moment_errors,
    log_moments,
)
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.sketch.grid import Grid, cells
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from jaynes_audit.analyzers.sketch.sketch import Sketch

Floats = npt.NDArray[np.float64]

FEW_WEIGHTS, MANY_WEIGHTS = 100_000, 1_000_000
CELLS_PER_OCTAVE = {FEW_WEIGHTS: 8, MANY_WEIGHTS: 16}
FINEST_CELLS_PER_OCTAVE = 32

FAR_TAIL = 37.0  # sd beyond which a normal probability is below the smallest double
CDF_END = 8.5  # sd beyond which a normal distribution function is 0 or 1 to 1e-17
CDF_STEPS_PER_SD = 2048  # linear interpolation errs by at most max|phi'|/(8 * steps^2) = 7e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalFit:
    """LN(mu, sigma), mu = `moments.log_mean`, sigma = `moments.log_sigma`, and two distances of the weights from it.

    `divergence` (psi) is KL(weights || fit) in nats per weight: the distance from the arbitrage equilibrium of the
    Jaynes Machine theory. It is corrected for the bias of counting, so values a little below 0 mean "none seen".
    `ks_distance` is the largest gap between the two distribution functions, taken at the ends of the stored formats'
    cells, to 1e-8. Neither is a test: read them beside `GAUSSIAN`.
    """

    moments: LogMoments
    divergence: float
    ks_distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruler:
    """What a well-known law of the weights scores, whatever its scale."""

    family: str
    log_sigma: float
    skewness: float
    excess_kurtosis: float
    divergence: float
    ks_distance: float


GAUSSIAN = Ruler(
    family="Gaussian",
    log_sigma=math.pi / math.sqrt(8),
    skewness=-1.5351415907229,
    excess_kurtosis=4.0,
    divergence=0.162975,
    ks_distance=0.096352,
)
"""Gaussian weights, trained or not: cumulants of ln|w| in closed form (polygamma at 1/2), distances by quadrature."""


def fit_lognormal(weights: Magnitudes) -> LognormalFit | NotFitted:
    """Fit the lognormal by maximum likelihood to one set of weights and measure what is left."""
    if weights.codes.size > 1:
        return _fit_stack(Stack.of([weights]), _cells_per_octave(weights.weights))[0]
    return _why_not(weights)


def fit_with_errors(
    sketches: Sequence[Sketch],
) -> list[tuple[LognormalFit, LogMomentErrors] | tuple[NotFitted, NotFitted]]:
    """Fit the lognormal to layers and estimate the errors of each from its row blocks, in the order given."""
    alike: dict[tuple[Grid, int], list[int]] = defaultdict(list)
    results: dict[int, tuple[LognormalFit, LogMomentErrors] | tuple[NotFitted, NotFitted]] = {}
    for index, sketch in enumerate(sketches):
        weights = sketch.histogram.magnitudes
        if weights.codes.size > 1:
            alike[weights.grid, _cells_per_octave(weights.weights)].append(index)
        else:
            results[index] = (_why_not(weights), _why_not(weights))
    for (_, per_octave), indices in alike.items():
        stack = Stack.of([sketches[index].histogram.magnitudes for index in indices])
        fits = _fit_stack(stack, per_octave)
        errors = log_moment_errors(stack, [fit.moments for fit in fits], [sketches[index].counts for index in indices])
        results.update(zip(indices, zip(fits, errors, strict=True), strict=True))
    return [results[index] for index in range(len(sketches))]


def _why_not(weights: Magnitudes) -> NotFitted:
    if weights.codes.size:
        return NotFitted("every non-zero weight has the same 16-bit magnitude")
    return NotFitted("every weight is zero or not finite")


def _cells_per_octave(weights: int) -> int:
    return next((cells for limit, cells in CELLS_PER_OCTAVE.items() if weights < limit), FINEST_CELLS_PER_OCTAVE)


def _fit_stack(stack: Stack, per_octave: int) -> list[LognormalFit]:
    moments = log_moments(stack)
    means = np.array([each.log_mean for each in moments])
    sigmas = np.array([each.log_sigma for each in moments])
    divergences = _divergences(stack, means, sigmas, per_octave)
    distances = _ks_distances(stack, means, sigmas)
    return [
        LognormalFit(moments=each, divergence=divergence, ks_distance=distance)
        for each, divergence, distance in zip(moments, divergences.tolist(), distances.tolist(), strict=True)
    ]


def _divergences(stack: Stack, means: Floats, sigmas: Floats, per_octave: int) -> Floats:
    """KL divergence over cells that are wide enough for the number of weights, less the Miller-Madow term.

    The plug-in estimate over K occupied cells is too high by about (K - 1)/(2n) (Miller 1955); coarse cells keep K
    small, and the correction removes the rest.
    """
    coarse = cells(stack.grid, per_octave)
    cell = stack.codes >> coarse.shift
    first = np.concatenate([[True], np.diff(cell) != 0])
    first[stack.starts] = True
    starts = np.flatnonzero(first)
    of_layer = np.searchsorted(stack.starts, starts, side="right") - 1
    cell = cell[starts]
    share = np.add.reduceat(stack.tallies, starts) / stack.weights[of_layer]
    mean, sigma = means[of_layer], sigmas[of_layer]
    fitted = _log_normal_probability((coarse.log_lower[cell] - mean) / sigma, (coarse.log_upper[cell] - mean) / sigma)
    layer_starts = np.searchsorted(starts, stack.starts)
    plug_in = np.add.reduceat(share * (np.log(share) - fitted), layer_starts)
    occupied = np.diff(layer_starts, append=starts.size)
    return plug_in - (occupied - 1) / (2 * stack.weights)


def _ks_distances(stack: Stack, means: Floats, sigmas: Floats) -> Floats:
    running = np.cumsum(stack.tallies)
    before_layer = running[stack.starts] - stack.tallies[stack.starts]
    above = (running - stack.spread(before_layer)) / stack.spread(stack.weights)
    below = above - stack.tallies / stack.spread(stack.weights)
    mean, sigma = stack.spread(means), stack.spread(sigmas)
    at_lower = _normal_cdf((stack.grid.log_lower[stack.codes] - mean) / sigma)
    at_upper = _normal_cdf((stack.grid.log_upper[stack.codes] - mean) / sigma)
    gaps = np.maximum(np.abs(below - at_lower), np.abs(above - at_upper))
    return np.maximum.reduceat(gaps, stack.starts)


@cache
def _cdf_table() -> tuple[Floats, Floats]:
    """The distribution function at equal steps, and its rise over each step."""
    steps = round(2 * CDF_END * CDF_STEPS_PER_SD)
    at = _tail(np.linspace(CDF_END, -CDF_END, steps + 1))
    return at[:-1], np.diff(at)


def _normal_cdf(z: Floats) -> Floats:
    at, rise = _cdf_table()
    place = np.clip((z + CDF_END) * CDF_STEPS_PER_SD, 0, at.size)
    step = np.minimum(place.astype(np.int32), at.size - 1)
    return at[step] + (place - step) * rise[step]


def _tail(z: Floats) -> Floats:
    # math.erfc is the C library's and exact to the last digits; scipy.special takes longer to import than an audit.
    return np.array([0.5 * math.erfc(v) for v in (z * math.sqrt(0.5)).tolist()])


def _log_normal_probability(lower: Floats, upper: Floats) -> Floats:
    """Natural logarithm of the standard normal probability between the ends of cells, accurate in both tails."""
    beyond_lower = _tail(np.abs(lower))
    beyond_upper = np.append(beyond_lower[1:], 0.0)
    detached = np.append(upper[:-1] != lower[1:], True)  # most cells end where the next begins
    beyond_upper[detached] = _tail(np.abs(upper[detached]))
    # Differences are taken on the cell's own side of the middle, where the numbers are small.
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
