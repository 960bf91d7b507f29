"""The lognormal fitted to the weights of layers, and how far the weights are from it."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.equilibrium import Equilibrium, read_equilibria
from jaynes_audit.analyzers.distributions.intervals import (
    Intervals,
    intervals,
    intervals_per_octave,
    log_normal_probability,
    normal_cdf,
)
from jaynes_audit.analyzers.distributions.moments import (
    LogMomentErrors,
    LogMoments,
    NotFitted,
    log_moment_errors,
    log_moments,
)
from jaynes_audit.analyzers.distributions.quantiles import QUANTILE_PROBABILITIES, log_quantiles
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.sketch.grid import Grid
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from jaynes_audit.analyzers.sketch.sketch import Sketch

Floats = npt.NDArray[np.float64]

SQRT_2PI = math.sqrt(2 * math.pi)
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalFit:
    """LN(mu, sigma), mu = `moments.log_mean`, sigma = `moments.log_sigma`, and five distances of the weights from it.

    `divergence` (psi) is KL(weights || fit) in nats per weight: the distance from the arbitrage equilibrium of the
    Jaynes Machine theory. It is corrected for the bias of counting, so values a little below 0 mean "none seen".
    `ks_distance` is the largest gap between the two distribution functions, taken at the ends of the stored formats'
    cells, to 1e-8. `wasserstein` is the area between them over ln|w|, in units of sigma: how far, on average, a
    logarithm would have to be moved. `jensen_shannon` (nats, at most ln 2) and `hellinger` (0 to 1) are taken over
    intervals and corrected for the bias of counting. None is a test: read them beside `RULERS`.

    `equilibrium` reads the fit as the theory does. `standard_quantiles` (float32) are those of (ln|w| - mu)/sigma at
    `QUANTILE_PROBABILITIES`.
    """

    moments: LogMoments
    divergence: float
    ks_distance: float
    wasserstein: float
    jensen_shannon: float
    hellinger: float
    equilibrium: Equilibrium
    standard_quantiles: npt.NDArray[np.float32] = field(compare=False, repr=False)


def fit_lognormal(weights: Magnitudes) -> LognormalFit | NotFitted:
    """Fit the lognormal by maximum likelihood to one set of weights and measure what is left."""
    if weights.codes.size > 1:
        return _fit_stack(Stack.of([weights]), intervals_per_octave(weights.weights))[0]
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
            alike[weights.grid, intervals_per_octave(weights.weights)].append(index)
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


def _fit_stack(stack: Stack, per_octave: int) -> list[LognormalFit]:
    moments = log_moments(stack)
    means = np.array([each.log_mean for each in moments])
    sigmas = np.array([each.log_sigma for each in moments])
    counted = intervals(stack, per_octave)
    mean, sigma = counted.spread(means), counted.spread(sigmas)
    log_fitted = log_normal_probability((counted.log_lower - mean) / sigma, (counted.log_upper - mean) / sigma)
    ks_distances, earth_movers = _gaps(stack, means, sigmas)
    quantiles = log_quantiles(stack, np.array(QUANTILE_PROBABILITIES))
    standard_quantiles = ((quantiles - means[:, np.newaxis]) / sigmas[:, np.newaxis]).astype(np.float32)
    return [
        LognormalFit(
            moments=of_layer,
            divergence=divergence,
            ks_distance=ks_distance,
            wasserstein=wasserstein,
            jensen_shannon=jensen_shannon,
            hellinger=hellinger,
            equilibrium=equilibrium,
            standard_quantiles=of_standard,
        )
        for of_layer, divergence, ks_distance, wasserstein, jensen_shannon, hellinger, equilibrium, of_standard in zip(
            moments,
            _divergences(counted, log_fitted).tolist(),
            ks_distances.tolist(),
            earth_movers.tolist(),
            _jensen_shannon(counted, log_fitted).tolist(),
            _hellinger(counted, log_fitted).tolist(),
            read_equilibria(counted, means, sigmas, log_fitted),
            standard_quantiles,
            strict=True,
        )
    ]


# Plug-in estimates of these three are biased, because a share p of n weights has variance p(1 - p)/n. The bias is half
# the sum of the second derivatives times that (delta method; for the divergence it is Miller's (K - 1)/(2n)).


def _divergences(counted: Intervals, log_fitted: Floats) -> Floats:
    plug_in = counted.sums(counted.shares * (np.log(counted.shares) - log_fitted))
    return plug_in - (counted.lengths - 1) / (2 * counted.weights)


def _jensen_shannon(counted: Intervals, log_fitted: Floats) -> Floats:
    shares, fitted = counted.shares, np.exp(log_fitted)
    both = shares + fitted
    # An interval that holds nothing adds half its fitted probability times ln 2.
    of_empty = math.log(2) / 2 * (1 - counted.sums(fitted))
    # 0 * log(0) is 0 where the fit is too small for a double.
    of_fit = fitted * (math.log(2) + np.log(np.where(fitted > 0, fitted, 1.0)) - np.log(both))
    plug_in = counted.sums(shares * np.log(2 * shares / both) + of_fit) / 2 + of_empty
    bias = counted.sums(fitted * (1 - shares) / both) / (4 * counted.weights)
    return np.maximum(plug_in - bias, 0.0)


def _hellinger(counted: Intervals, log_fitted: Floats) -> Floats:
    fitted = np.exp(log_fitted)
    squared = 1 - counted.sums(np.sqrt(counted.shares * fitted))
    bias = counted.sums(np.sqrt(fitted / counted.shares) * (1 - counted.shares)) / (8 * counted.weights)
    return np.sqrt(np.maximum(squared - bias, 0.0))


def _gaps(stack: Stack, means: Floats, sigmas: Floats) -> tuple[Floats, Floats]:
    """The largest gap between the two distribution functions, and the area between them over ln|w| / sigma."""
    running = np.cumsum(stack.tallies)
    before_layer = running[stack.starts] - stack.tallies[stack.starts]
    above = (running - stack.spread(before_layer)) / stack.spread(stack.weights)
    below = above - stack.tallies / stack.spread(stack.weights)
    mean, sigma = stack.spread(means), stack.spread(sigmas)
    lower = (stack.grid.log_lower[stack.codes] - mean) / sigma
    upper = (stack.grid.log_upper[stack.codes] - mean) / sigma
    gap_at_lower, gap_at_upper = below - normal_cdf(lower), above - normal_cdf(upper)
    largest = np.maximum.reduceat(np.maximum(np.abs(gap_at_lower), np.abs(gap_at_upper)), stack.starts)
    # A cell without a lower end begins where no weight could be told from none: the fit has nothing there either.
    lower = np.where(np.isneginf(lower), upper, lower)
    inside = _area(gap_at_lower, gap_at_upper, upper - lower)
    # From a cell to the next one that holds a weight the counts stand still; the tails are the fit's own.
    ends = stack.starts + stack.lengths - 1
    empty = np.append(lower[1:] > upper[:-1], False)
    empty[ends] = False
    between = np.zeros(upper.size)
    between[empty] = _area_to_normal(above[empty], upper[empty], lower[1:][empty[:-1]])
    tails = _tail_area(-lower[stack.starts]) + _tail_area(upper[ends])
    return largest, stack.sums(inside + between) + tails


def _area(at_start: Floats, at_end: Floats, width: Floats) -> Floats:
    """The area between 0 and a straight line, whichever side of 0 it runs on."""
    start, end = np.abs(at_start), np.abs(at_end)
    crosses = at_start * at_end < 0
    height = (start + end) / 2
    height[crosses] -= (start * end)[crosses] / (start + end)[crosses]
    return height * width


def _area_to_normal(level: Floats, begin: Floats, end: Floats) -> Floats:
    """The area between a constant level and the normal distribution function, from begin to end."""
    # Where the function crosses the level the two sides count apart; else one of them is empty, as it nearly always is.
    at_end = normal_cdf(end)
    crosses = (normal_cdf(begin) < level) & (level < at_end)
    middle = np.where(level < at_end, begin, end)
    middle[crosses] = np.clip(
        [NORMAL.inv_cdf(share) for share in level[crosses].tolist()], begin[crosses], end[crosses]
    )
    below = level * (middle - begin) - (_integral(middle) - _integral(begin))
    beyond = _integral(end) - _integral(middle) - level * (end - middle)
    return below + beyond


def _integral(z: Floats) -> Floats:
    """The integral of the normal distribution function up to z."""
    return z * normal_cdf(z) + np.exp(-z * z / 2) / SQRT_2PI


def _tail_area(z: Floats) -> Floats:
    """The integral of 1 - Phi from z on."""
    return np.exp(-z * z / 2) / SQRT_2PI - z * normal_cdf(-z)
