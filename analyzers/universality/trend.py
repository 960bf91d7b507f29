"""Values at depths -> whether they grow or fall along a network."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MIN_LAYERS = 4  # three layers are in perfect order by chance in one case of three
MAX_LAYERS_PAIRED = 500  # all pairs of so many take 1 MB for each array of them
MAX_PAIRS = MAX_LAYERS_PAIRED * (MAX_LAYERS_PAIRED - 1) // 2
GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How values change with depth.

    `slope` is the change from the first layer of a stack to the last (Theil 1950, Sen 1968: the median slope of all
    pairs of layers at unlike depths). `rank_correlation` is Spearman's rho, ties at their mean rank: 1 when the values
    only grow, -1 when they only fall.
    """

    layers: int
    slope: float
    rank_correlation: float


def trend(depths: Floats, values: Floats) -> Trend | NotFitted:
    """Find the trend of values against relative depths, 0 to 1, both of shape (layers,).

    Of more than 500 layers the slope is the median over a fixed selection of about 125,000 pairs, which represents
    layers near each other and far apart as all pairs would; the memory needed does not grow with their number.
    """
    if depths.size < MIN_LAYERS:
        return NotFitted(f"fewer than {MIN_LAYERS} layers with a depth")
    if depths.min() == depths.max():
        return NotFitted("every layer is at the same depth")
    if values.min() == values.max():
        return NotFitted("every layer has the same value")
    return Trend(
        layers=depths.size, slope=_theil_sen(depths, values), rank_correlation=_pearson(_ranks(depths), _ranks(values))
    )


def _theil_sen(depths: Floats, values: Floats) -> float:
    order = np.argsort(depths, kind="stable")
    depths, values = depths[order], values[order]
    first, second = _pairs(depths.size)
    distances = depths[second] - depths[first]
    apart = distances > 0
    return float(np.median((values[second] - values[first])[apart] / distances[apart]))


def _pairs(layers: int) -> tuple[Indices, Indices]:
    """All pairs of layers, or those whose distance in the order is one of a fixed, evenly spread selection.

    The distances follow the multiples of the golden ratio modulo 1: as even as can be, and without a period that could
    fall in with that of the roles within a network's blocks.
    """
    if layers <= MAX_LAYERS_PAIRED:
        first, second = np.triu_indices(layers, 1)
        return first.astype(np.int64), second.astype(np.int64)
    selected = max(1, 2 * MAX_PAIRS // layers)  # a distance has layers/2 pairs on average
    distances = np.unique(1 + ((layers - 1) * (np.arange(1, selected + 1) * GOLDEN_RATIO % 1)).astype(np.int64))
    first = np.concatenate([np.arange(layers - distance) for distance in distances])
    return first, first + np.repeat(distances, layers - distances)


def _ranks(values: Floats) -> Floats:
    """Rank from 1, equal values at the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], dtype=np.float64)


def _pearson(left: Floats, right: Floats) -> float:
    left, right = left - left.mean(), right - right.mean()
    return float((left @ right) / math.sqrt(float(left @ left) * float(right @ right)))
