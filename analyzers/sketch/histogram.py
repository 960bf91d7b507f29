"""How many weights have each 16-bit code: the exact part of a sketch that every statistic is computed from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.grid import SIGN_BIT, Grid, grid_of
from jaynes_audit.analyzers.sketch.kernel import KERNEL

CODES = 65536


@dataclass(frozen=True, eq=False, kw_only=True)
class Histogram:
    """Counts of the codes that occur, signs apart.

    `codes` (uint16, rising) and `tallies` (int64, positive) have one entry per code that occurs. For bf16, fp16 and the
    smaller formats this holds all there is to know of a set of weights but their order; of float32 it keeps the upper
    16 bits, and the counts of zeros, NaNs and infinities are still exact. `low_bits`: see `grid_of`.
    """

    dtype: Dtype
    low_bits: int
    codes: npt.NDArray[np.uint16]
    tallies: npt.NDArray[np.int64]

    @cached_property
    def grid(self) -> Grid:
        """The cells that the codes stand for."""
        return grid_of(self.dtype, self.low_bits)

    @cached_property
    def magnitudes(self) -> "Magnitudes":
        """The finite non-zero weights, signs folded."""
        codes, tallies = np.empty(self.codes.size, np.int64), np.empty(self.codes.size, np.int64)
        found = KERNEL.fold_signs(self.codes, self.tallies, self.grid.not_finite, codes, tallies)
        return Magnitudes(grid=self.grid, codes=codes[:found], tallies=tallies[:found])

    @cached_property
    def special(self) -> "SpecialCounts":
        """How many weights there are, and how many of them are special."""
        return _special_on(self.grid, [self])[0]

    def __add__(self, other: "Histogram") -> "Histogram":
        """Count the weights of both. Raises ValueError when their formats differ."""
        pool = Pool()
        pool.add(self)
        pool.add(other)
        return pool.histogram()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialCounts:
    """Exact counts of weights: all of them, and those that are special.

    `zero` counts both signs, `subnormal` is meant in the grid's own format, `at_largest_code` are those with the code
    of the greatest finite magnitude, `nan` is of any payload, and `negative` has the sign bit set, NaNs included.
    """

    weights: int
    zero: int
    subnormal: int
    at_largest_code: int
    infinite: int
    nan: int
    negative: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Magnitudes:
    """Finite non-zero weights by magnitude: `codes` (rising, sign bit clear) and how many weights have each."""

    grid: Grid
    codes: npt.NDArray[np.int64]
    tallies: npt.NDArray[np.int64]

    @property
    def weights(self) -> int:
        """How many finite non-zero weights there are."""
        return int(self.tallies.sum())


@cache
def _kinds(grid: Grid) -> npt.NDArray[np.intp]:
    """The kind of every code: zero, subnormal, normal, greatest, infinite, NaN, and 6 more for the negative ones."""
    bounds = np.array([0, 1, grid.normal, grid.largest, grid.not_finite, grid.not_finite + 1])
    of_magnitudes = np.searchsorted(bounds, np.arange(SIGN_BIT), side="right") - 1
    return np.concatenate([of_magnitudes, of_magnitudes + bounds.size])


def count_special_together(histograms: Sequence[Histogram]) -> None:
    """Work out `special` of many histograms at once, which each would do by itself when first asked.

    Array arithmetic has a price per call: 64 small layers together cost hardly more than one.
    """
    alike: dict[Grid, list[Histogram]] = defaultdict(list)
    for histogram in histograms:
        alike[histogram.grid].append(histogram)
    for grid, group in alike.items():
        for histogram, special in zip(group, _special_on(grid, group), strict=True):
            vars(histogram)["special"] = special  # where cached_property looks first


def _special_on(grid: Grid, histograms: Sequence[Histogram]) -> list[SpecialCounts]:
    owner = np.repeat(np.arange(len(histograms)), [histogram.codes.size for histogram in histograms])
    codes = np.concatenate([histogram.codes for histogram in histograms])
    tallies = np.concatenate([histogram.tallies for histogram in histograms])
    kinds = _kinds(grid)
    number = int(kinds[-1]) + 1
    counts = np.bincount(owner * number + kinds[codes], weights=tallies, minlength=len(histograms) * number)
    signs = counts.astype(np.int64).reshape(len(histograms), 2, -1)
    return [
        SpecialCounts(
            weights=sum(of_kinds),
            zero=of_kinds[0],
            subnormal=of_kinds[1],
            at_largest_code=of_kinds[3],
            infinite=of_kinds[4],
            nan=of_kinds[5],
            negative=negative,
        )
        for of_kinds, negative in zip(signs.sum(axis=1).tolist(), signs[:, 1].sum(axis=1).tolist(), strict=True)
    ]


class Pool:
    """Histograms of one format, added up. It holds 65,536 counts, however many are added."""

    def __init__(self) -> None:
        self._total = np.zeros(CODES, np.int64)
        self._dtype: Dtype | None = None
        self._low_bits = 0

    def add(self, histogram: Histogram) -> None:
        """Count these weights too. Raises ValueError when their format differs: unlike cells cannot be added."""
        if self._dtype not in {None, histogram.dtype}:
            message = f"{self._dtype} and {histogram.dtype} weights lie on unlike grids and cannot be pooled"
            raise ValueError(message)
        self._dtype = histogram.dtype
        self._low_bits |= histogram.low_bits
        self._total[histogram.codes] += histogram.tallies

    def histogram(self) -> Histogram:
        """Give the sum. Raises ValueError when nothing was added."""
        if self._dtype is None:
            message = "there is no histogram to pool"
            raise ValueError(message)
        codes = np.flatnonzero(self._total)
        return Histogram(
            dtype=self._dtype,
            low_bits=self._low_bits,
            codes=codes.astype(np.uint16),
            tallies=self._total[codes],
        )
