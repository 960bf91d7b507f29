"""Quantised weights -> float32: a number for each code, less a zero, times a scale."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Block, Floats, Layout, Stored, blocks
from jaynes_audit.analyzers.dtypes import BITS, Dtype, values
from jaynes_audit.analyzers.errors import RefusedFile

NO_GROUP = -1  # what compressed-tensors writes for every input whose group was never set


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One number for each block of `block_rows x block_columns` weights: a scale, or a zero.

    `numbers` gives float32 that outlasts the next read.
    """

    numbers: Layout
    block_rows: int
    block_columns: int

    def spans(self, block: Block) -> Iterator[Span]:
        """The stored bytes that the numbers of a block of weights are made from."""
        return self.numbers.spans(self._over(block))

    def over(self, read: Read, block: Block) -> Stored:
        """The numbers of a block of weights, of shape (1 or its height, blocks that its columns touch), for keeps."""
        inner = self._over(block)
        numbers = self.numbers.taken(read, inner)
        if self.block_rows == 1 or inner.height == 1:
            return numbers
        return numbers[np.arange(block.top, block.bottom) // self.block_rows - inner.top]

    def _over(self, block: Block) -> Block:
        return Block(
            block.matrix,
            block.top // self.block_rows,
            -(-block.bottom // self.block_rows),
            block.left // self.block_columns,
            -(-block.right // self.block_columns),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """A stack of matrices of weights `(number of the code - zero) * scale`.

    `numbers` says which number a code stands for: that of a stored dtype (U8 for the code itself), or an entry of a
    stored table. `zero` is one for all, `zeros` are grids of them. `groups` gives the group of scales that each column
    belongs to, where groups are not runs of columns. Products are float32 products of the stored numbers; nothing is
    rounded to a narrower format, as some libraries do.

    `at_opening` are the bytes that were read when the checkpoint was opened: they count as needed for the first
    element, so that what all elements need is all that is stored.
    """

    scheme: Scheme
    parts: tuple[str, ...]
    rows: int
    columns: int
    codes: Layout
    numbers: Dtype | Layout
    scales: Grid
    zero: float = 0.0
    zeros: Grid | None = None
    groups: Layout | None = None
    at_opening: tuple[Span, ...] = ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The stored bytes that these elements are made from, each byte once."""
        of_file: dict[Place, list[Span]] = {}
        for span in self._needs(first, stop):
            of_file.setdefault(span.file, []).append(span)
        return tuple(span for spans in of_file.values() for span in _joined(spans))

    def _needs(self, first: int, stop: int) -> Iterator[Span]:
        if first == 0:
            yield from self.at_opening
        if not isinstance(self.numbers, Dtype):
            yield from self.numbers.spans(self._table)
        for block in blocks(first, stop, rows=self.rows, columns=self.columns):
            yield from self.codes.spans(block)
            if self.groups:
                yield from self.groups.spans(_columns_of(block))
            across = Block(block.matrix, block.top, block.bottom, 0, self.columns) if self.groups else block
            for grid in (self.scales, self.zeros):
                if grid:
                    yield from grid.spans(across)

    @property
    def _table(self) -> Block:
        return Block(0, 0, 1, 0, 1 << self.scheme.code_bits)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Make these elements and give the codes that they were made from.

        Raises:
            RefusedFile: JN004 when a column belongs to a group that is not there; else as `read` does.
            CouldNotRead: as `read` does.
        """
        elements = np.empty(stop - first, np.float32)
        codes = np.empty(stop - first, np.uint8)
        at = 0
        with np.errstate(all="ignore"):  # what is not finite is found and told by those who look at the weights
            for block in blocks(first, stop, rows=self.rows, columns=self.columns):
                end = at + block.height * block.width
                shape = (block.height, block.width)
                self._fill(read, block, elements[at:end].reshape(shape), codes[at:end].reshape(shape))
                at = end
        return Decoded(elements, codes)

    def _fill(self, read: Read, block: Block, elements: Floats, codes: npt.NDArray[np.uint8]) -> None:
        group_of = self._group_of(read, block)
        across = block if group_of is None else Block(block.matrix, block.top, block.bottom, 0, self.columns)
        scales = self.scales.over(read, across)
        zeros = self.zeros.over(read, across) if self.zeros else None
        table = self._numbers(read)
        codes[...] = self.codes.taken(read, block)
        if table is not None:
            np.take(table, codes, out=elements, mode="clip")
        elif self.numbers is Dtype.I8:
            elements[...] = codes.view(np.int8)
        else:
            np.subtract(codes, np.float32(self.zero), out=elements)
        if self.zeros and zeros is not None:
            _apply(np.subtract, elements, zeros if group_of is None else zeros[:, group_of], block, self.zeros)
        _apply(np.multiply, elements, scales if group_of is None else scales[:, group_of], block, self.scales)

    def _numbers(self, read: Read) -> Floats | None:
        if not isinstance(self.numbers, Dtype):
            return self.numbers.taken(read, self._table).ravel().astype(np.float32)
        return None if self.numbers in {Dtype.U8, Dtype.I8} else numbers_of(self.numbers)

    def _group_of(self, read: Read, block: Block) -> npt.NDArray[np.int64] | None:
        """The group of each of the block's columns, or None where groups are runs of columns."""
        if self.groups is None:
            return None
        group_of = self.groups.taken(read, _columns_of(block)).ravel().astype(np.int64)
        width = self.scales.block_columns
        if (group_of == NO_GROUP).all() or np.array_equal(group_of, np.arange(block.left, block.right) // width):
            return None
        groups = -(-self.columns // width)
        if not 0 <= group_of.min() <= group_of.max() < groups:
            raise RefusedFile(
                f"an input is said to belong to a group of scales beyond the {groups:,} that are stored; "
                "quantise the weights again, or fetch the file again",
                rule="JN004",
                case="group-out-of-range",
            )
        return group_of


def _columns_of(block: Block) -> Block:
    """The columns of a block, of the one row that says something of columns."""
    return Block(0, 0, 1, block.left, block.right)


@cache
def numbers_of(dtype: Dtype) -> Floats:
    """The number of every code of a small float format. It is read-only."""
    table = values(np.arange(1 << BITS[dtype], dtype=np.uint8), dtype).astype(np.float32)
    table.flags.writeable = False
    return table


def _apply(operation: np.ufunc, elements: Floats, numbers: Stored, block: Block, grid: Grid) -> None:
    """Subtract or multiply, each number with the columns of its block."""
    width = grid.block_columns
    if numbers.shape[1] in {1, block.width}:
        operation(elements, numbers, out=elements)
        return
    column = number = 0
    if block.left % width:
        column, number = width - block.left % width, 1
        operation(elements[:, :column], numbers[:, :1], out=elements[:, :column])
    whole = (block.width - column) // width
    if whole:
        end = column + whole * width
        runs = elements[:, column:end].reshape(block.height, whole, width)  # a view: one axis is split
        operation(runs, numbers[:, number : number + whole, np.newaxis], out=runs)
        column, number = end, number + whole
    if column < block.width:
        operation(elements[:, column:], numbers[:, number:], out=elements[:, column:])


def _joined(spans: list[Span]) -> Iterator[Span]:
    """Spans of one file, in order, those that touch or overlap as one."""
    spans.sort(key=lambda span: span.start)
    joined = spans[0]
    for span in spans[1:]:
        if span.start > joined.end:
            yield joined
            joined = span
        elif span.end > joined.end:
            joined = Span(joined.file, joined.start, span.end)
    yield joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """Scales that are stored in units of another scale: one for each matrix, or one for all.

    `divides` tells what compressed-tensors does from what ModelOpt does.
    """

    of: Layout
    unit: Layout
    divides: bool

    def spans(self, block: Block) -> Iterator[Span]:
        """What the scales and their unit need."""
        yield from self.of.spans(block)
        yield from self.unit.spans(self._unit_of(block))

    def taken(self, read: Read, block: Block) -> Stored:
        """The scales of a block, for keeps."""
        scales, unit = self.of.taken(read, block), self.unit.taken(read, self._unit_of(block))
        combined: Stored = scales / unit if self.divides else scales * unit
        return combined

    def _unit_of(self, block: Block) -> Block:
        return Block(block.matrix, 0, 1, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """Scales that are quantised themselves, through a table and with scales of their own, and moved by an offset."""

    codes: Layout
    table: Layout
    scales: Grid
    offset: float

    def spans(self, block: Block) -> Iterator[Span]:
        """What the codes, the table and the scales need."""
        yield from self.codes.spans(block)
        yield from self.table.spans(_TABLE_OF_BYTES)
        yield from self.scales.spans(block)

    def taken(self, read: Read, block: Block) -> Floats:
        """The scales of a block, for keeps."""
        scales = self.scales.over(read, block)
        table = self.table.taken(read, _TABLE_OF_BYTES).ravel()
        numbers: Floats = table[self.codes.taken(read, block)]
        _apply(np.multiply, numbers, scales, block, self.scales)
        numbers += np.float32(self.offset)
        return numbers


_TABLE_OF_BYTES = Block(0, 0, 1, 0, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneMore:
    """Codes each stored one too small, modulo their range: the zeros of GPTQ's first format."""

    of: Layout
    bits: int

    def spans(self, block: Block) -> Iterator[Span]:
        """What the codes need."""
        return self.of.spans(block)

    def taken(self, read: Read, block: Block) -> Stored:
        """The codes as they are meant."""
        more: Stored = self.of.taken(read, block) + np.uint8(1)
        return more & np.uint8((1 << self.bits) - 1)
