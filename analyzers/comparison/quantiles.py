"""Two layers' quantiles of ln|w| -> how far they are apart: what is left to compare where no counts were kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.comparison.distances import Distances
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.quantiles import log_quantiles
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.dtypes import SMALL_FLOATS, Dtype
from jaynes_audit.analyzers.sketch.grid import BF16_MANTISSA_BITS, F16_MANTISSA_BITS
from jaynes_audit.analyzers.sketch.histogram import Histogram

ONLY_QUANTILES = NotFitted("of one of the two only quantiles are known")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Quantiles of a layer's ln|w|, rising.

    They were read from cells of magnitudes, which layers of one `dtype` and as many `unused_bits` have in common.
    """

    logs: tuple[float, ...]
    dtype: str
    unused_bits: int

    @property
    def cell(self) -> float:
        """How wide a cell is at most (nats), subnormal magnitudes aside: a quantile is no farther off than that."""
        if self.dtype == Dtype.F16:
            return 2.0**-F16_MANTISSA_BITS
        small = next((SMALL_FLOATS[dtype] for dtype in SMALL_FLOATS if dtype == self.dtype), None)
        return 2.0 ** -(small.mantissa_bits if small else BF16_MANTISSA_BITS)

    @property
    def is_spread(self) -> bool:
        """Whether every quantile lies in another cell, as those of ones, zeros or a few code values do not."""
        return all(after - before > self.cell for before, after in zip(self.logs, self.logs[1:], strict=False))


def quantiles_of(
    histogram: Histogram, probabilities: tuple[float, ...], *, dtype: str, unused_bits: int
) -> Quantiles | None:
    """Read the quantiles of a layer from its counts; None if every weight is zero or not finite."""
    magnitudes = histogram.magnitudes
    if not magnitudes.codes.size:
        return None
    (logs,) = log_quantiles(Stack.of([magnitudes]), np.array(probabilities)).tolist()
    return Quantiles(logs=tuple(logs), dtype=dtype, unused_bits=unused_bits)


def quantile_distances(a: Quantiles, b: Quantiles, probabilities: Sequence[float]) -> Distances:
    """Compare two layers by their quantiles of the same probabilities, as far as these tell the Wasserstein distance.

    It is the mean of |Q_a(p) - Q_b(p)| over p, by the trapezoidal rule between the quantiles and with the outermost
    ones for what lies beyond them: exact where one layer is a multiple of the other. Where the two were read from
    unlike cells, each difference counts as far as it exceeds both cells, so that the same weights in another number
    format are at distance 0. The greatest gap between the distribution functions, and the divergence, take counts.
    """
    is_one_grid = (a.dtype, a.unused_bits) == (b.dtype, b.unused_bits)
    gaps = np.abs(np.subtract(a.logs, b.logs)) - (0.0 if is_one_grid else a.cell + b.cell)
    over = np.concatenate([[0.0], probabilities, [1.0]])
    return Distances(
        ks=ONLY_QUANTILES,
        wasserstein=_area(np.maximum(gaps, 0.0), over),
        jensen_shannon=ONLY_QUANTILES,
    )


def _area(heights: Floats, over: Floats) -> float:
    ends = np.concatenate([heights[:1], heights, heights[-1:]])
    return float((np.diff(over) * (ends[1:] + ends[:-1]) / 2).sum())


def quantile_gap(
    before: Sequence[float], now: Sequence[float], probabilities: Sequence[float], *, chance: float, cell: float
) -> float:
    """Give the greatest distance between quantiles that is beyond chance, in nats; 0 if none is.

    By chance the share below a point moves as far as `chance`, a KS distance, and a quantile by that over the density
    there, which its neighbours tell; and both are read from cells of width `cell`. The outermost have one neighbour.
    """
    greatest = 0.0
    for at in range(1, len(probabilities) - 1):
        width = max(before[at + 1] - before[at - 1], cell)
        density = (probabilities[at + 1] - probabilities[at - 1]) / width
        gap = abs(now[at] - before[at])
        if gap > chance / density + cell:
            greatest = max(greatest, gap)
    return greatest
