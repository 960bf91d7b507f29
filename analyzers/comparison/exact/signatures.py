"""Layer -> signatures: what tells its rows apart whatever the order of their columns, and its columns likewise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.places import Readable
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, Stored, chunks
from jaynes_audit.analyzers.dtypes import BITS, SMALL_FLOATS, Dtype, bf16_codes, values
from jaynes_audit.analyzers.sampling import encoded

Codes = npt.NDArray[np.unsignedinteger[Any]]
Hashes = npt.NDArray[np.uint64]

TILE_WEIGHTS = 1 << 15  # mixed at once: as 64-bit numbers they stay in a second-level cache

# Constants of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
GAMMA = np.uint64(0x9E3779B97F4A7C15)
MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
FIRST_SHIFT, SECOND_SHIFT = np.uint64(27), np.uint64(31)

INFINITY: dict[Dtype, int] = {
    Dtype.F16: 0x7C00,
    Dtype.BF16: 0x7F80,
    Dtype.F32: 0x7F800000,
    Dtype.F64: 0x7FF0000000000000,
}
"""The code of infinity in the formats that weights are compared in. Greater ones, but for the sign, are NaN."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Signatures:
    """A number for each row of a layer, of shape (rows,), and for each column, of shape (columns,).

    Rows of equal weights have equal signatures, in whatever order the weights stand. Other rows have equal ones by
    chance alone, once in 2^64 pairs or so, unless somebody sets out to make them: only a look at the weights is proof.
    """

    rows: Hashes
    columns: Hashes

    @property
    def turned(self) -> "Signatures":
        """Those of the transposed layer."""
        return Signatures(rows=self.columns, columns=self.rows)


def signatures(layer: Layer, sources: Sources, form: Dtype, colours: Signatures | None = None) -> Signatures:
    """Sign the rows and columns of a layer, its weights taken in the format `form`, in one pass.

    With `colours`, weights are equal only in rows of one colour and in columns of one: that tells rows apart that hold
    equal weights in columns that differ. Memory: some four mebibytes, and sixteen bytes per row and per column.
    Raises what `Readable.read` raises.
    """
    extent = layer.extent
    rows, columns = np.zeros(extent.rows, np.uint64), np.zeros(extent.columns, np.uint64)
    top = 0
    for chunk in chunks(sources.of(layer.tensor), layer, first_row=0, stop_row=extent.rows):
        for tile in _tiles(chunk):
            here = slice(top, top + len(tile))
            mixed = comparable(tile, extent.dtype, form).astype(np.uint64)
            if colours:
                mixed += colours.columns
                mixed += colours.rows[here, np.newaxis]
            mix(mixed)
            rows[here] = mixed.sum(axis=1)
            columns += mixed.sum(axis=0)
            top = here.stop
    return Signatures(rows=rows, columns=columns)


def sums_of_codes(layer: Layer, sources: Sources, form: Dtype, *, stop_row: int) -> Signatures:
    """Add up the codes of the weights in each row before `stop_row`, and in each column.

    Unlike signatures these are often equal by chance, and take a fifth of the time. `stop_row` is a multiple of
    `extent.chunk_rows`, or the number of rows. Raises what `Readable.read` raises.
    """
    rows: list[Hashes] = []
    columns = np.zeros(layer.extent.columns, np.uint64)
    for chunk in chunks(sources.of(layer.tensor), layer, first_row=0, stop_row=stop_row):
        for tile in _tiles(chunk):
            codes = comparable(tile, layer.extent.dtype, form)
            rows.append(codes.sum(axis=1, dtype=np.uint64))
            columns += codes.sum(axis=0, dtype=np.uint64)
    return Signatures(rows=np.concatenate(rows), columns=columns)


def mix(numbers: Hashes) -> None:
    """Turn each number, in place, into one that looks random: equal for equal numbers."""
    numbers += GAMMA
    numbers *= GAMMA
    shifted = numbers >> FIRST_SHIFT
    numbers ^= shifted
    numbers *= MULTIPLIER
    np.right_shift(numbers, SECOND_SHIFT, out=shifted)
    numbers ^= shifted


def compared_as(dtype: Dtype) -> Dtype:
    """Give the format that weights are compared in: their own, and bfloat16 for small floats, which all are such."""
    return Dtype.BF16 if dtype in SMALL_FLOATS else dtype


def common_forms(a: Dtype, b: Dtype) -> tuple[Dtype, ...]:
    """Give the formats in which the weights of two layers are equal if one layer is a cast of the other.

    Of two widths it is the narrower: a cast to it rounds, and one back from it does not. Of two formats of one width
    either can be the cast.
    """
    forms = sorted({compared_as(a), compared_as(b)}, key=lambda form: (BITS[form], form))
    narrowest = BITS[forms[0]]
    return tuple(form for form in forms if BITS[form] == narrowest)


def comparable(stored: Stored, dtype: Dtype, form: Dtype) -> Codes:
    """Give codes that are equal where weights are, of the shape of `stored`: 0 for either zero, and one code for NaN.

    The weights are rounded to `form`, to the nearest.
    """
    if dtype is form:
        codes = stored
    elif dtype in SMALL_FLOATS and form is Dtype.BF16:
        codes = bf16_codes(dtype)[stored]
    else:
        numbers: npt.NDArray[Any] = values(stored, dtype)
        if np.isnan(numbers.min(initial=0)):  # rounding a NaN by its bits could give any number
            numbers = np.where(np.isnan(numbers), np.nan, numbers).astype(numbers.dtype)
        codes = encoded(numbers, form)
    unsigned: Codes = codes.view(f"<u{codes.itemsize}")
    infinity = unsigned.dtype.type(INFINITY[form])
    magnitudes = unsigned & unsigned.dtype.type((1 << BITS[form] - 1) - 1)
    if magnitudes.size and (magnitudes.min() == 0 or magnitudes.max() > infinity):
        unsigned = np.where(magnitudes > infinity, infinity + unsigned.dtype.type(1), unsigned)
        unsigned[magnitudes == 0] = 0
    return unsigned


def rows_of(layer: Layer, source: Readable, first_row: int, stop_row: int) -> Stored:
    """Read some rows of a layer as stored codes, valid until the next read.

    Rows begin and end at whole bytes, or `first_row` is a multiple of `extent.chunk_rows`.
    Raises what `Readable.read` raises.
    """
    read = chunks(source, layer, first_row=first_row, stop_row=stop_row)
    if stop_row - first_row <= layer.extent.chunk_rows:
        return next(read)
    return np.concatenate([chunk.copy() for chunk in read])


def _tiles(chunk: Stored) -> Iterator[Stored]:
    """Cut a chunk into runs of rows that are small enough to stay in a cache."""
    height = max(1, TILE_WEIGHTS // max(1, chunk.shape[1]))
    for top in range(0, len(chunk), height):
        yield chunk[top : top + height]
