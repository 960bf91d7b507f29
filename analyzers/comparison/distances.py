"""Two histograms -> Distances: how unlike two empirical distributions of ln|w| are.

A code of a number format stands for a cell of magnitudes; inside a cell only a lower and an upper bound are known of a
distribution function. Where two layers were counted on one grid, each code is a number like any other. Where the grids
differ, distances are those between the two distributions within the bounds that are nearest to one another: the least
that the counts allow. The same weights in another format then are at distance 0, whatever their law is.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.intervals import intervals_per_octave
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.sketch.grid import Grid, cells
from jaynes_audit.analyzers.sketch.histogram import Histogram, Magnitudes

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LOG_NOTHING = -150 * math.log(2)  # half of the smallest float32: where a cell begins that has no lower end
FEWEST_WEIGHTS = 5.0  # in an interval: of fewer the delta method takes too much bias away (the bound of Cochran 1954)
KOLMOGOROV_5_PERCENT = 1.3581  # upper 5 % point of the Kolmogorov distribution (Smirnov 1948)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Distances between the distributions of ln|w| of two layers, over their finite non-zero weights.

    `ks`, 0 to 1, is the largest gap between the two distribution functions. `wasserstein` (nats, as ln|w|) is the area
    between them: how far, on average, a logarithm would have to be moved. `jensen_shannon` (nats, at most ln 2) is
    taken over intervals and corrected for the bias of counting. Two of them take counts of both layers.
    """

    ks: float | NotFitted
    wasserstein: float
    jensen_shannon: float | NotFitted


def distances(a: Histogram, b: Histogram) -> Distances | NotFitted:
    """Compare two layers by the counts of their weights, whatever their number formats.

    Of one format `ks` and `wasserstein` are those of the values that the codes stand for: exact for bf16, f16 and the
    smaller ones, and for float32 those of weights cut to their upper 16 bits. Of unlike formats all three are the least
    that the counts allow, 0 for weights that were only rounded from one to the other. The true `ks` is larger by at
    most the largest shares of weights that one cell of each format holds, added up, and the true `wasserstein` by the
    mean widths of these cells (0.0054 nats for bf16 and float32, 0.0007 for f16). Weights that a format rounded to zero
    or to infinity are missing from its distribution, and that is a difference.

    Jensen-Shannon is taken over 8 to 32 intervals per octave, as many as the smaller layer has weights for; neighbours
    are taken together until they hold five of its weights by the mean of both shares, so of fewer than ten weights it
    is 0. With shares p of n weights and q of m weights in an interval, the plug-in estimate is too large by the sum
    over the intervals of q(1 - p)/(4n(p + q)) + p(1 - q)/(4m(p + q)), half its second derivatives times the variances
    of p and q (delta method); for two layers of one law over K intervals that is (K - 1)(1/n + 1/m)/8. It is taken away
    as for independent layers: two versions of one layer share their chances, and small changes between them read 0.
    """
    first, second = a.magnitudes, b.magnitudes
    if not (first.codes.size and second.codes.size):
        return NotFitted("every weight of one of them is zero or not finite")
    if _are_one(first.grid, second.grid):
        return _on_one_grid(first, second)
    if _rank(b) < _rank(a):  # so that neither order of the two gives another number
        first, second = second, first
    return _on_unlike_grids(first, second)


def ks_noise(weights_a: int, weights_b: int) -> float:
    """Give the KS distance that two layers of one law exceed in one case of twenty, for so many non-zero weights.

    It holds for independent weights, at least about 20 in each layer. Weights of a row share a scale, so real layers of
    one law are farther apart than that. Without any weight it is 1, the greatest distance there is.
    """
    if min(weights_a, weights_b) < 1:
        return 1.0
    return min(1.0, KOLMOGOROV_5_PERCENT * math.sqrt(1 / weights_a + 1 / weights_b))


@cache
def _are_one(a: Grid, b: Grid) -> bool:
    """Whether the codes of two grids stand for the same cells, as those of bf16 and of float32 that holds bf16 do."""
    if a.octave_bits != b.octave_bits:
        return False
    cells_of_both = ((a.log_value, b.log_value), (a.log_lower, b.log_lower), (a.log_upper, b.log_upper))
    return all(np.array_equal(of_a, of_b, equal_nan=True) for of_a, of_b in cells_of_both)


def _rank(histogram: Histogram) -> tuple[int, str, int]:
    """The coarser grid first."""
    return histogram.grid.octave_bits, histogram.dtype, histogram.low_bits


# ---- one grid


def _on_one_grid(a: Magnitudes, b: Magnitudes) -> Distances:
    first, last = min(a.codes[0], b.codes[0]), max(a.codes[-1], b.codes[-1])
    in_a, in_b = np.zeros((2, last - first + 1), np.int64)
    in_a[a.codes - first], in_b[b.codes - first] = a.tallies, b.tallies
    occurring = np.flatnonzero(in_a | in_b)
    in_a, in_b, codes = in_a[occurring], in_b[occurring], first + occurring
    gaps = np.abs(np.cumsum(in_a) / a.weights - np.cumsum(in_b) / b.weights)
    steps = np.diff(a.grid.log_value[codes])
    starts = np.flatnonzero(np.diff(codes >> cells(a.grid, _per_octave(a, b)).shift, prepend=-1))
    shares_a, shares_b = np.add.reduceat(in_a, starts) / a.weights, np.add.reduceat(in_b, starts) / b.weights
    return Distances(
        ks=float(gaps.max()),
        wasserstein=float((gaps[:-1] * steps).sum()),
        jensen_shannon=_jensen_shannon(shares_a, shares_b, a.weights, b.weights),
    )


# ---- unlike grids


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Bounds:
    """What is known of a distribution function: cells, rising, and how many weights are below the end of each.

    Below a point are at least the weights of the cells that end there or before, at most those of all that begin
    before it.
    """

    log_lower: Floats
    log_upper: Floats
    running: Counts
    weights: int

    @staticmethod
    def of(weights: Magnitudes) -> "_Bounds":
        return _Bounds(
            log_lower=np.maximum(weights.grid.log_lower[weights.codes], LOG_NOTHING),
            log_upper=weights.grid.log_upper[weights.codes],
            running=np.cumsum(weights.tallies),
            weights=weights.weights,
        )

    def at_least(self, points: Floats) -> Floats:
        return self._share(np.searchsorted(self.log_upper, points, side="right"))

    def at_most(self, points: Floats) -> Floats:
        return self._share(np.searchsorted(self.log_lower, points, side="left"))

    def _share(self, of_cells: npt.NDArray[np.intp]) -> Floats:
        share: Floats = np.concatenate([[0], self.running])[of_cells] / self.weights
        return share


def _on_unlike_grids(coarser: Magnitudes, finer: Magnitudes) -> Distances:
    bounds_a, bounds_b = _Bounds.of(coarser), _Bounds.of(finer)
    (ks_above, area_above), (ks_below, area_below) = _excess(bounds_a, bounds_b), _excess(bounds_b, bounds_a)
    edges = _interval_edges(coarser, finer)
    least_a, most_a = bounds_a.at_least(edges), bounds_a.at_most(edges)
    least_b, most_b = bounds_b.at_least(edges), bounds_b.at_most(edges)
    common = np.maximum(least_a, least_b)  # the nearest two functions are this one, as far as the bounds of each allow
    shares_a, shares_b = np.diff(np.minimum(common, most_a)), np.diff(np.minimum(common, most_b))
    return Distances(
        ks=max(ks_above, ks_below),
        wasserstein=area_above + area_below,
        jensen_shannon=_jensen_shannon(shares_a, shares_b, coarser.weights, finer.weights),
    )


def _excess(a: _Bounds, b: _Bounds) -> tuple[float, float]:
    """By how much the least distribution function of `a` exceeds the greatest of `b`: at most, and in area."""
    points = np.concatenate([a.log_upper, b.log_lower])
    # Where a cell of one ends and a cell of the other begins, the weights of the first alone are below.
    order = np.argsort(points, kind="stable")
    points, of_a = points[order], order < a.log_upper.size
    ended, begun = np.cumsum(of_a), np.cumsum(~of_a)
    least = np.concatenate([[0], a.running])[ended] / a.weights
    most = np.concatenate([[0], b.running])[begun] / b.weights
    excess = np.maximum(least - most, 0.0)
    return float(excess.max()), float((excess[:-1] * np.diff(points)).sum())


def _interval_edges(coarser: Magnitudes, finer: Magnitudes) -> Floats:
    """The ends of intervals of the coarser grid that hold all weights of both; the outermost ones reach to infinity."""
    log_lower = cells(coarser.grid, _per_octave(coarser, finer)).log_lower
    edges = np.maximum(log_lower[np.isfinite(log_lower)], LOG_NOTHING)
    return np.concatenate([[-math.inf], edges, [math.inf]])


# ---- Jensen-Shannon


def _per_octave(a: Magnitudes, b: Magnitudes) -> int:
    return intervals_per_octave(min(a.weights, b.weights))


def _jensen_shannon(in_cells_a: Floats, in_cells_b: Floats, weights_a: int, weights_b: int) -> float:
    starts = _filled((in_cells_a + in_cells_b) / 2, FEWEST_WEIGHTS / min(weights_a, weights_b))
    p, q = np.add.reduceat(in_cells_a, starts), np.add.reduceat(in_cells_b, starts)
    both = p + q
    plug_in = (_surprise(p, both) + _surprise(q, both)) / 2
    rest_p, rest_q = np.maximum(1 - p, 0.0), np.maximum(1 - q, 0.0)  # rounding can make a single share exceed 1
    bias = (q * rest_p / both).sum() / (4 * weights_a) + (p * rest_q / both).sum() / (4 * weights_b)
    return max(0.0, float(plug_in - bias))


def _filled(shares: Floats, least: float) -> list[int]:
    """Where runs of neighbours begin that hold the least share each; what is left over joins the last of them."""
    starts, held = [0], 0.0
    for index, share in enumerate(shares.tolist()):
        if held >= least:
            starts.append(index)
            held = 0.0
        held += share
    return starts[:-1] if held < least and len(starts) > 1 else starts


def _surprise(share: Floats, both: Floats) -> float:
    some = share > 0
    return float((share[some] * np.log(2 * share[some] / both[some])).sum())
