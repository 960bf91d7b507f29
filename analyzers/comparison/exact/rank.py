"""Two layers -> RankProfile: how many directions hold the difference of two matrices."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, Stored
from jaynes_audit.analyzers.comparison.exact.formats import FORMATS
from jaynes_audit.analyzers.comparison.exact.outcome import RankProfile
from jaynes_audit.analyzers.comparison.exact.signatures import rows_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype, values
from jaynes_audit.analyzers.sketch.extent import PACKED_ROWS

Float32s = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

RANKS = (1, 2, 4, 8, 16, 32, 64)
LEAST_SIDE = 64  # rows and columns: of fewer, most directions would be among the ranks
OVERSAMPLED = 8  # directions of the sketch beyond the greatest rank; Halko, Martinsson and Tropp advise five or ten
SKETCH_BYTES = 16 << 20  # of these directions as float32 numbers, each as long as a row
WINDOW_WEIGHTS = 1 << 19  # of whole rows, multiplied at once
CAUGHT = 0.99  # share of the difference in the sketch from which its singular values need not be sharpened
FLOAT32_FLOOR = 2.0**-17  # of the greatest singular value: float32 products tell no smaller ones from nothing
LARGEST_FALL = 10  # from one singular value to the next, where both are directions of the difference ...
EDGES = 8  # ... and the next is less than so many times what independent rounding gives

EXPONENT_BITS = np.uint32(0x7F800000)  # of a float32
LEAST_EXPONENT = -126  # of a normal float32, which the difference is taken to


def rank_profile(a: Layer, b: Layer, sources: Sources) -> RankProfile | NotFitted:
    """Tell how many directions hold B - A, for two matrices of one shape with 64 rows and columns or more.

    By a randomised singular value decomposition, always with the same seed: the first pass over both layers draws up a
    sketch of the rows of the difference, the second takes its singular values there. Where the sketch misses more than
    a hundredth of the difference they come from the square of B - A, seen through the sketch, which is as good as one
    more power iteration (Halko, Martinsson and Tropp 2011, "Finding structure with randomness", SIAM Review 53,
    algorithms 4.3 and 5.5). They are never greater than the true ones, but for rounding. Rows of more than 58,000
    weights get fewer ranks than 64.

    A direction counts for `rank` when its singular value is more than rounding alone would give, see `_Sketch`.
    Weights that are not finite on both sides count as equal. Memory: some seventy mebibytes.
    Raises what `Readable.read` raises.
    """
    shape = (a.extent.rows, a.extent.columns)
    ranks = _ranks(*shape)
    if shape != (b.extent.rows, b.extent.columns) or not ranks:
        return NotFitted(f"not two matrices of one shape, with {LEAST_SIDE} rows and columns or more, none too long")
    if not {a.tensor.dtype, b.tensor.dtype} <= FORMATS.keys():
        return NotFitted("not two matrices of real weights")
    if any(layer.tensor.stored_as != layer.tensor.dtype for layer in (a, b)):
        return NotFitted("the steps of a quantiser hide what else may differ")
    difference = _Difference(a=a, b=b, sources=sources)
    with np.errstate(over="ignore", invalid="ignore"):  # told of the sketch
        sketch = _sketched(difference, min(ranks[-1] + OVERSAMPLED, *shape))
        if sketch.norm == 0:
            return NotFitted("they do not differ")
        if not np.isfinite(sketch.rows).all():
            return NotFitted("the difference is too large for float32")
        squares = _squares_of_singular_values(difference, sketch)
    energy = np.minimum(np.cumsum(squares) / sketch.norm**2, 1)
    above = _above_rounding(np.sqrt(squares), sketch.edge_of_rounding)
    return RankProfile(
        ranks=ranks,
        energy=tuple(float(energy[rank - 1]) for rank in ranks),
        rank=min(above, ranks[-1]),
        rank_is_bound=above >= ranks[-1],
    )


def _ranks(rows: int, columns: int) -> tuple[int, ...]:
    """The ranks that are asked for: as many as the sketch of rows of this length has room for."""
    room = SKETCH_BYTES // (4 * max(1, columns)) - OVERSAMPLED
    return tuple(rank for rank in RANKS if rank <= room) if min(rows, columns) >= LEAST_SIDE else ()


def _above_rounding(singular_values: Floats, edge: float) -> int:
    """Count the singular values, in descending order, that rounding does not explain.

    Where few directions hold a difference, what they add to neighbouring weights is rounded alike, and the errors are
    not independent: they have directions of their own, beyond the edge and far below those that they stem from.
    """
    above = int(np.count_nonzero(singular_values > max(edge, FLOAT32_FLOOR * singular_values[0])))
    near = singular_values[1:above] < EDGES * edge
    falls = singular_values[1:above] * LARGEST_FALL < singular_values[: max(0, above - 1)]
    breaks = np.flatnonzero(near & falls)
    return int(breaks[0]) + 1 if breaks.size else above


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """B - A, a window of rows at a time."""

    a: Layer
    b: Layer
    sources: Sources

    def windows(self) -> Iterator[tuple[Float32s, Float32s]]:
        """Give some rows of the difference, and the weights of them in the coarser format, for keeps."""
        a, b = self.a, self.b
        extent = b.extent
        of_a, of_b = self.sources.of(a.tensor), self.sources.of(b.tensor)
        height = -(-max(1, WINDOW_WEIGHTS // extent.columns) // PACKED_ROWS) * PACKED_ROWS
        for top in range(0, extent.rows, height):
            bottom = min(extent.rows, top + height)
            ours = _floats(rows_of(a, of_a, top, bottom), a.extent.dtype)
            theirs = _floats(rows_of(b, of_b, top, bottom), extent.dtype)
            difference = (theirs - ours).astype(np.float32, copy=False)
            finite = np.isfinite(difference)
            if not finite.all():
                difference[~finite] = 0
            coarser = ours if self.coarser is a.extent.dtype is not extent.dtype else theirs
            yield difference, coarser.astype(np.float32, copy=False)

    @property
    def coarser(self) -> Dtype:
        """The format with fewer bits to a weight's mantissa."""
        return min(self.a.extent.dtype, self.b.extent.dtype, key=lambda dtype: FORMATS[dtype].mantissa_bits)


def _floats(stored: Stored, dtype: Dtype) -> npt.NDArray[np.floating[Any]]:
    """The numbers, for keeps: another read may change what was stored."""
    return values(stored, dtype).astype(np.float64 if dtype is Dtype.F64 else np.float32)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Sketch:
    """What a first pass over a difference finds.

    `rows` has shape (columns, directions): random combinations of the rows. `norm` is the Frobenius norm.
    `edge_of_rounding` is the greatest singular value that rounding alone would give: that of independent errors, evenly
    spread over a step of the coarser format at each weight. If v are their variances, it is near
    max_i sqrt(sum_j v_ij) + max_j sqrt(sum_i v_ij) (Bandeira and van Handel 2016, "Sharp nonasymptotic bounds on the
    norm of random matrices with independent entries", Annals of Probability 44), and above it by chance at most by
    sqrt(2 ln(rows + columns)) typical errors.
    """

    rows: Float32s
    norm: float
    edge_of_rounding: float


def _sketched(difference: _Difference, directions: int) -> _Sketch:
    extent = difference.b.extent
    rng = np.random.default_rng((extent.rows, extent.columns))
    rows = np.zeros((extent.columns, directions), np.float32)
    squares = np.longdouble(0)
    largest_row, of_columns = 0.0, np.zeros(extent.columns)
    for window, weights in difference.windows():
        rows += window.T @ rng.standard_normal((len(window), directions), np.float32)
        squares += np.einsum("ij,ij->", window, window, dtype=np.float64)
        steps = _steps(weights, difference.coarser)
        largest_row = max(largest_row, float(np.einsum("ij,ij->i", steps, steps, dtype=np.float64).max()))
        of_columns += np.einsum("ij,ij->j", steps, steps, dtype=np.float64)
    by_chance = math.sqrt(2 * math.log(extent.rows + extent.columns) * of_columns.sum() / extent.weights)
    edge = math.sqrt(largest_row) + math.sqrt(of_columns.max()) + by_chance
    return _Sketch(rows=rows, norm=math.sqrt(squares), edge_of_rounding=edge / math.sqrt(12))


def _steps(weights: Float32s, dtype: Dtype) -> Float32s:
    """The distance from each weight to the next in a format, and 0 where it is not finite."""
    steps = (weights.view(np.uint32) & EXPONENT_BITS).view(np.float32)
    least = max(FORMATS[dtype].least_exponent, LEAST_EXPONENT)
    np.maximum(steps, np.float32(2.0**least), out=steps)
    steps *= np.float32(2.0 ** -FORMATS[dtype].mantissa_bits)
    steps[~np.isfinite(steps)] = 0
    return steps


def _squares_of_singular_values(difference: _Difference, sketch: _Sketch) -> Floats:
    """The greatest squared singular values, in descending order, by a second pass over the difference D.

    With an orthonormal basis Q of the sketched rows, those of D Q are singular values of D up to what Q misses. The
    matrix D^T D is at least D^T D Q (Q^T D^T D Q)^-1 Q^T D^T D (Nystrom), whose eigenvalues are closer.
    """
    basis, _ = np.linalg.qr(sketch.rows)
    within = np.zeros((basis.shape[1], basis.shape[1]))
    seen = np.zeros_like(basis)
    scale = np.float32(1 / sketch.norm)
    for window, _ in difference.windows():
        scaled = np.multiply(window, scale, out=window)
        inside = scaled @ basis
        seen += scaled.T @ inside
        wide = inside.astype(np.float64)
        within += wide.T @ wide
    eigenvalues, vectors = np.linalg.eigh(within)
    if eigenvalues.sum() < CAUGHT:
        wide = seen.astype(np.float64) @ (vectors / np.sqrt(eigenvalues))
        eigenvalues = np.linalg.eigvalsh(wide.T @ wide)
    squares: Floats = np.maximum(eigenvalues[::-1], 0) * sketch.norm**2
    return squares
