"""Probe: eight numbers that tell where in a matrix its large weights stand, and hardly change when it is rounded.

Counts do not see a matrix whose rows were permuted, and a content hash sees every rounding. Between the two stand
random projections of the sums of squares of rows and columns (Alon, Matias & Szegedy 1996): rows in another order, a
block of them replaced or another matrix altogether moves them, and a cast moves them by no more than its rounding.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

PROJECTIONS = 4  # of each axis: a permutation of all rows always shows, an exchange of two mostly, beyond a cast
SPLITMIX_STEP, SPLITMIX_1, SPLITMIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MANTISSA_BITS = 53

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Projections of the sums of squares of rows and of columns, each divided by the sum of all squares.

    `rows` and `columns` have PROJECTIONS numbers each. `noise` is the root of the sum of fourth powers divided by the
    sum of squares: independent relative errors of sd e in each weight move a projection by at most 2 * e * noise in
    standard deviation.
    """

    rows: tuple[float, ...]
    columns: tuple[float, ...]
    noise: float

    @property
    def transposed(self) -> "Probe":
        """The probe of the transposed matrix."""
        return Probe(rows=self.columns, columns=self.rows, noise=self.noise)


def projected(squares: Floats) -> Floats:
    """Project sums of squares, shape (layers, n), to shape (layers, PROJECTIONS); zeros give 0."""
    total = squares.sum(axis=1, keepdims=True)
    share: Floats = (squares @ _coefficients(squares.shape[1]).T) / np.where(total > 0, total, 1.0)
    return share


@lru_cache(maxsize=64)
def _coefficients(length: int) -> Floats:
    """Numbers in (-1, 1) that a place on the axis has for good, shape (PROJECTIONS, length): SplitMix64 of it."""
    place = np.arange(PROJECTIONS * length, dtype=np.uint64).reshape(length, PROJECTIONS).T
    mixed = (place + np.uint64(1)) * np.uint64(SPLITMIX_STEP)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(SPLITMIX_1)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(SPLITMIX_2)
    mixed ^= mixed >> np.uint64(31)
    coefficients: Floats = np.ascontiguousarray(
        (mixed >> np.uint64(64 - MANTISSA_BITS)) * 2.0 ** (1 - MANTISSA_BITS) - 1
    )
    return coefficients
