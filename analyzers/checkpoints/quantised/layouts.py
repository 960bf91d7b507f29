"""How a matrix lies in stored bytes: row by row, packed into words, turned, and any of these within another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Read
from jaynes_audit.analyzers.checkpoints.places import Span
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, Dtype, values

Stored = npt.NDArray[Any]  # of the numbers or codes that the layout's maker expects
Floats = npt.NDArray[np.float32]

BAND_BYTES = 8 << 20  # of a tensor read at once for some of its columns; as many as a mapped file keeps resident
BYTE_BITS = 8
WORD_BITS = 32


@dataclass(frozen=True, slots=True)
class Block:
    """Rows `top` to `bottom` and columns `left` to `right` of one matrix of a stack. It is never empty."""

    matrix: int
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """How many rows it has."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """How many columns it has."""
        return self.right - self.left

    @property
    def turned(self) -> "Block":
        """The same elements of the turned matrix."""
        return Block(self.matrix, self.left, self.right, self.top, self.bottom)


def blocks(first: int, stop: int, *, rows: int, columns: int) -> Iterator[Block]:
    """Cut elements `first` to `stop` of a stack of matrices, in C order, into blocks: at most three of each matrix."""
    size = rows * columns
    while first < stop:
        matrix, at = divmod(first, size)
        end = min(size, at + stop - first)
        first += end - at
        row, left = divmod(at, columns)
        if left:
            right = min(columns, left + end - at)
            yield Block(matrix, row, row + 1, left, right)
            at += right - left
        row, last_row = at // columns, end // columns
        if row < last_row:
            yield Block(matrix, row, last_row, 0, columns)
            at = last_row * columns
        if at < end:
            yield Block(matrix, at // columns, at // columns + 1, 0, end - at)


class Layout(Protocol):
    """A stack of matrices whose elements are found in stored bytes."""

    def spans(self, block: Block) -> Iterator[Span]:
        """The stored bytes that hold a block."""

    def taken(self, read: Read, block: Block) -> Stored:
        """The block's elements, of shape (height, width). It may be a view that is valid until the next read.

        Raises what `read` raises.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """Matrices whose rows follow one another in a stored tensor, which is read as if it had this dtype.

    With `matrices` 1 the one matrix stands for every one of the stack. The codes of small floats come as unsigned
    bytes and those of bfloat16 as unsigned words.
    """

    tensor: Tensor
    dtype: Dtype
    rows: int
    columns: int
    matrices: int = 1

    def spans(self, block: Block) -> Iterator[Span]:
        """One run, from the block's first byte to its last."""
        item = BITS[self.dtype] // BYTE_BITS
        start = self._start(block)
        length = ((block.height - 1) * self.columns + block.width) * item
        yield Span(self.tensor.file, start, start + length)

    def taken(self, read: Read, block: Block) -> Stored:
        """The block, copied where it is not one run of bytes."""
        dtype = _NUMPY_CODES[BITS[self.dtype]] if self.dtype in _CODED else NUMPY_DTYPES[self.dtype]
        item, start, file = dtype.itemsize, self._start(block), self.tensor.file
        if block.width == self.columns or block.height == 1:
            window = read(file, start, start + block.height * block.width * item)
            return np.frombuffer(window, dtype).reshape(block.height, block.width)
        row_bytes = self.columns * item
        taken = np.empty((block.height, block.width), dtype)
        band_rows = max(1, BAND_BYTES // row_bytes)
        for top in range(0, block.height, band_rows):
            height = min(band_rows, block.height - top)
            at = start + top * row_bytes
            window = read(file, at, at + (height - 1) * row_bytes + block.width * item)
            taken[top : top + height] = np.ndarray((height, block.width), dtype, window, strides=(row_bytes, item))
        return taken

    def _start(self, block: Block) -> int:
        matrix = block.matrix if self.matrices > 1 else 0
        element = (matrix * self.rows + block.top) * self.columns + block.left
        return self.tensor.start + element * (BITS[self.dtype] // BYTE_BITS)


_CODED = frozenset({Dtype.BF16, Dtype.F8_E4M3, Dtype.F8_E5M2, Dtype.F8_E4M3FNUZ, Dtype.F8_E5M2FNUZ, Dtype.F8_E8M0})
_NUMPY_CODES: dict[int, np.dtype[np.generic]] = {8: np.dtype("u1"), 16: np.dtype("<u2")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Matrices that are stored columns first."""

    of: Layout

    def spans(self, block: Block) -> Iterator[Span]:
        """What the turned block needs."""
        return self.of.spans(block.turned)

    def taken(self, read: Read, block: Block) -> Stored:
        """The turned block, turned back; nothing is copied."""
        return self.of.taken(read, block.turned).T


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Unsigned codes of `bits` bits, packed along rows into the words of another layout; they come one a byte.

    Without an `order` the words of a row are one little-endian stream of bits, and codes may lie across two words.
    With one, each word holds as many codes as the order has entries, at bits `entry * bits`, and the rest is empty.
    `word_columns` is how many words of `word_bits` bits a row has.
    """

    words: Layout
    word_columns: int
    word_bits: int
    bits: int
    order: tuple[int, ...] = ()

    @property
    def _unit(self) -> tuple[int, int]:
        """The fewest words that hold whole codes, and how many codes they hold."""
        if self.order:
            return 1, len(self.order)
        if self.word_bits % self.bits == 0:
            return 1, self.word_bits // self.bits
        return self.bits, self.word_bits

    def spans(self, block: Block) -> Iterator[Span]:
        """The words that the codes stand in."""
        return self.words.spans(self._words_of(block))

    def taken(self, read: Read, block: Block) -> Stored:
        """The codes, unpacked."""
        words = self.words.taken(read, self._words_of(block))
        codes = _picked(words, self.bits, self.order) if self.order else _unpacked(words, self.bits)
        skipped = block.left % self._unit[1]
        return codes[:, skipped : skipped + block.width]

    def _words_of(self, block: Block) -> Block:
        words, codes = self._unit
        left, right = block.left // codes * words, -(-block.right // codes) * words
        return Block(block.matrix, block.top, block.bottom, left, min(right, self.word_columns))


def _picked(words: Stored, bits: int, order: tuple[int, ...]) -> Stored:
    """Codes at given places of each word."""
    unsigned = words.view(f"u{words.itemsize}")
    codes = np.empty((*words.shape, len(order)), np.uint8)
    for at, place in enumerate(order):
        codes[..., at] = (unsigned >> bits * place) & ((1 << bits) - 1)
    return codes.reshape(len(words), -1)


def _unpacked(words: Stored, bits: int) -> Stored:
    """Codes that follow one another without a gap, lowest bits first."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    if bits == BYTE_BITS:
        return octets
    unit_octets, unit_codes = (1, BYTE_BITS // bits) if BYTE_BITS % bits == 0 else (bits, BYTE_BITS)
    height, length = octets.shape
    if length % unit_octets:
        octets = np.pad(octets, ((0, 0), (0, -length % unit_octets)))
    units = octets.reshape(height, -1, unit_octets)
    codes = np.empty((height, units.shape[1], unit_codes), np.uint8)
    for at in range(unit_codes):
        octet, shift = divmod(at * bits, BYTE_BITS)
        code = units[..., octet] >> shift
        if shift + bits > BYTE_BITS:
            code |= units[..., octet + 1] << (BYTE_BITS - shift)
        np.bitwise_and(code, (1 << bits) - 1, out=codes[..., at])
    return codes.reshape(height, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The numbers that stored codes of this dtype stand for, as float32, times `times`, plus `plus`."""

    of: Layout
    dtype: Dtype
    times: float = 1.0
    plus: float = 0.0

    def spans(self, block: Block) -> Iterator[Span]:
        """What the codes need."""
        return self.of.spans(block)

    def taken(self, read: Read, block: Block) -> Floats:
        """The numbers; what they were read from may change."""
        numbers = values(self.of.taken(read, block), self.dtype).astype(np.float32)
        if self.times != 1:
            numbers *= np.float32(self.times)
        if self.plus:
            numbers += np.float32(self.plus)
        return numbers
