"""Two layers -> their stored weights, a mebibyte or so of each at a time, side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.places import Readable
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, Stored, chunks, stored_range
from jaynes_audit.analyzers.comparison.exact.outcome import Side
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, stored_codes
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.pieces import PIECE_BYTES
from jaynes_audit.analyzers.sketch.extent import PACKED_ROWS

BAND_BYTES = 16 << 20  # rows of one layer that are held beside the columns of the other
BYTE = 8


class OneSideFailed(Exception):
    """A layer of a pair could not be read. It never leaves the comparison."""

    def __init__(self, side: Side, error: RefusedFile | CouldNotRead) -> None:
        super().__init__(str(error))
        self.side = side
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class BothSources:
    """The open files of both models. A source's windows last until its next read, so each side has its own."""

    a: Sources
    b: Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two layers of equally many weights, each weight with the one of the same place in C order.

    Where `turned`, the rows of one are the columns of the other. Places are then counted along the rows of the layer
    whose rows are shorter, `a` if they are equal, and else along those of `a`.
    """

    a: Layer
    b: Layer
    turned: bool = False

    @property
    def leads(self) -> Side:
        """The side in whose order places are counted."""
        return Side.B if self.turned and self.b.extent.columns < self.a.extent.columns else Side.A

    @property
    def step(self) -> int:
        """How many weights are read at a time: whole rows of the side that leads."""
        extent = self.a.extent if self.leads is Side.A else self.b.extent
        other = self.b.extent if self.leads is Side.A else self.a.extent
        rows = max(1, min(extent.chunk_rows, other.chunk_rows * other.columns // extent.columns))
        return (rows if extent.row_bits % BYTE == 0 else -(-rows // PACKED_ROWS) * PACKED_ROWS) * extent.columns

    def row_and_column(self, place: int) -> tuple[int, int]:
        """Say where in the matrix of `a` a place is. A complex weight has two places."""
        columns = (self.a if self.leads is Side.A else self.b).part.columns.size
        row, column = divmod(place // 2 if self.a.tensor.dtype in COMPLEX else place, columns)
        return (row, column) if self.leads is Side.A else (column, row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The places `first` to `stop` of a pair: what one thread reads in one go."""

    pair: Pair
    first: int
    stop: int

    @property
    def bytes(self) -> int:
        """Length on both sides together, as it is read, in bytes."""
        bits = BITS[self.pair.a.extent.dtype] + BITS[self.pair.b.extent.dtype]
        return (self.stop - self.first) * bits // BYTE

    @property
    def is_last(self) -> bool:
        """Whether the pair ends with it."""
        return self.stop == self.pair.a.extent.weights

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the pair."""
        return self.first == 0 and self.is_last


def paired(a: Layer, b: Layer) -> Pair | NotFitted:
    """Say which weight of `b` goes with which of `a`."""
    if (a.tensor.dtype in COMPLEX) is not (b.tensor.dtype in COMPLEX):
        return NotFitted("the weights of only one of them are complex")
    if a.extent.weights != b.extent.weights:
        return NotFitted(unlike_shapes(a, b))
    if not a.extent.weights:
        return NotFitted("it holds no weight")
    return Pair(a=a, b=b, turned=shape(a) != shape(b) and can_be_turned(a, b))


def can_be_turned(a: Layer, b: Layer) -> bool:
    """Whether the rows of one may be the columns of the other."""
    are_matrices = all(shape(layer) == (layer.extent.rows, layer.extent.columns) for layer in (a, b))
    return are_matrices and shape(a) == shape(b)[::-1] and 1 not in shape(a)


def shape(layer: Layer) -> tuple[int, int]:
    """Rows and columns of a layer."""
    return layer.part.rows.size, layer.part.columns.size


def unlike_shapes(a: Layer, b: Layer) -> str:
    """Say that two layers cannot be laid over one another."""
    (rows_a, columns_a), (rows_b, columns_b) = shape(a), shape(b)
    return f"their shapes differ, {rows_a:,} x {columns_a:,} and {rows_b:,} x {columns_b:,}"


def stretches(pair: Pair) -> Iterator[Stretch]:
    """Share a pair out. The cuts follow from the two layers alone."""
    weights = pair.a.extent.weights
    step = pair.step
    if pair.turned:
        leader = pair.a.extent if pair.leads is Side.A else pair.b.extent
        step = max(step, min(leader.rows, BAND_BYTES * BYTE // leader.row_bits) * leader.columns)
    else:
        step *= max(1, PIECE_BYTES // Stretch(pair=pair, first=0, stop=step).bytes)
    for first in range(0, weights, step):
        yield Stretch(pair=pair, first=first, stop=min(weights, first + step))


def read_ahead(stretch: Stretch, sources: BothSources) -> None:
    """Say what this thread will read next, which matters to files on a server."""
    pair = stretch.pair
    for side, layer, of_side in ((Side.A, pair.a, sources.a), (Side.B, pair.b, sources.b)):
        rows = 0, layer.extent.rows
        if not pair.turned or pair.leads is side:
            rows = stretch.first // layer.extent.columns, -(-stretch.stop // layer.extent.columns)
        with _failing(side):
            of_side.ahead(layer.tensor.needs(*stored_range(layer, *rows)))


def in_step(stretch: Stretch, sources: BothSources) -> Iterator[tuple[int, Stored, Stored]]:
    """Read both layers in step: the first place, and the stored codes of `a` and of `b` from there on, flat.

    Each pair of chunks is valid until the next is asked for.

    Raises:
        OneSideFailed: when either cannot be read.
    """
    pair = stretch.pair
    with _failing(Side.A):
        source_a = sources.a.of(pair.a.tensor)
    with _failing(Side.B):
        source_b = sources.b.of(pair.b.tensor)
    if pair.turned:
        yield from _turned(stretch, source_a, source_b)
        return
    for first in range(stretch.first, stretch.stop, pair.step):
        stop = min(stretch.stop, first + pair.step)
        with _failing(Side.A):
            codes_a = _codes(source_a, pair.a, first, stop)
        with _failing(Side.B):
            codes_b = _codes(source_b, pair.b, first, stop)
        yield first, codes_a, codes_b


@contextmanager
def _failing(side: Side) -> Iterator[None]:
    try:
        yield
    except (RefusedFile, CouldNotRead) as error:
        raise OneSideFailed(side, error) from error


def _codes(source: Readable, layer: Layer, first: int, stop: int) -> Stored:
    """Read weights `first` to `stop` of a layer in C order, whatever rows they stand in."""
    extent = layer.extent
    top, bottom = first // extent.columns, -(-stop // extent.columns)
    if extent.row_bits % BYTE:
        top -= top % PACKED_ROWS
        bottom = min(extent.rows, -(-bottom // PACKED_ROWS) * PACKED_ROWS)
    if bottom - top <= extent.chunk_rows:
        [rows] = chunks(source, layer, first_row=top, stop_row=bottom)
    else:
        rows = np.concatenate([rows.copy() for rows in chunks(source, layer, first_row=top, stop_row=bottom)])
    return rows.reshape(-1)[first - top * extent.columns : stop - top * extent.columns]


def _turned(stretch: Stretch, source_a: Readable, source_b: Readable) -> Iterator[tuple[int, Stored, Stored]]:
    """Read a band of rows of the side that leads, and the columns of the other that they go with."""
    pair = stretch.pair
    leading, following = (pair.a, source_a), (pair.b, source_b)
    if pair.leads is Side.B:
        leading, following = following, leading
    leader, leading_source = leading
    columns = leader.extent.columns
    with _failing(Side.B if pair.leads is Side.A else Side.A):
        band = _columns(following[1], following[0], stretch.first // columns, stretch.stop // columns)
    for first in range(stretch.first, stretch.stop, pair.step):
        stop = min(stretch.stop, first + pair.step)
        with _failing(pair.leads):
            codes = _codes(leading_source, leader, first, stop)
        rows = slice((first - stretch.first) // columns, (stop - stretch.first) // columns)
        turned = np.ascontiguousarray(band[:, rows].T).reshape(-1)
        yield (first, codes, turned) if pair.leads is Side.A else (first, turned, codes)


def _columns(source: Readable, layer: Layer, first: int, stop: int) -> npt.NDArray[np.generic]:
    """Read columns `first` to `stop` of a layer."""
    extent = layer.extent
    start, end = stored_range(layer, 0, extent.rows)
    is_one_run = (end - start) * BYTE == extent.rows * extent.row_bits and extent.row_bits % BYTE == 0
    is_narrow = stop - first < extent.columns
    if is_one_run and is_narrow and BITS[extent.dtype] % BYTE == 0:
        row_bytes, item_bytes = extent.row_bits // BYTE, BITS[extent.dtype] // BYTE
        return np.stack(
            [
                stored_codes(source.read(at + first * item_bytes, at + stop * item_bytes), extent.dtype).copy()
                for at in range(start, end, row_bytes)
            ]
        )
    rows = chunks(source, layer, first_row=0, stop_row=extent.rows)
    return np.concatenate([chunk[:, first:stop].copy() for chunk in rows])
