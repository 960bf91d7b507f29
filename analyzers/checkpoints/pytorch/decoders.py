"""Tensors that do not lie in a file as they are: strided views, swapped bytes, quantised codes, and chunks of ranks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, Dtype

Codes = npt.NDArray[np.generic]

SMALL_BYTES = 32 << 10  # of a window read for however little of it is wanted: copying it costs what asking twice does
LARGEST_BYTES = 2 << 20  # of a window at least a `LARGEST_WASTE`th of which is wanted; transposing more is slower
LARGEST_WASTE = 4
JOINED_GAP_BYTES = 64 << 10  # of less between elements it is said that it is needed, too: a list of gaps is long
BAND_BYTES = 64 << 20  # of the elements that are made at once where a few of them lie all over the file
LONG_RUN_BYTES = 8 << 10  # so many at a time can be read as well when they are wanted
CODE_BITS = {Dtype.I8: 8, Dtype.U8: 8, Dtype.I32: 0}  # of quantised codes, where so few can be told apart and counted

_RAW: dict[int, np.dtype[np.generic]] = {size: np.dtype(f"<u{size}") for size in (1, 2, 4, 8)} | {16: np.dtype("<c16")}
"""What elements of so many bytes are copied as."""

_WORDS: dict[Dtype, np.dtype[np.unsignedinteger]] = {
    dtype: np.dtype(f"<u{BITS[half] // 8}")
    for dtype, half in (
        (Dtype.F16, Dtype.F16),
        (Dtype.BF16, Dtype.BF16),
        (Dtype.F32, Dtype.F32),
        (Dtype.F64, Dtype.F64),
        (Dtype.C32, Dtype.F16),
        (Dtype.C64, Dtype.F32),
        (Dtype.C128, Dtype.F64),
    )
}
"""The words that floats consist of: one, or two of a complex number. The sign is the highest bit of each."""


class Box(NamedTuple):
    """Part of a tensor: the first index and the length along each axis."""

    starts: tuple[int, ...]
    lengths: tuple[int, ...]


def boxes(shape: tuple[int, ...], first: int, stop: int) -> Iterator[Box]:
    """The boxes that elements `first` to `stop` of a tensor consist of, in C order: at most two for each axis."""
    if first >= stop:
        return
    if not shape:
        yield Box((), ())
        return
    inner = prod(shape[1:])
    row, skipped = divmod(first, inner)
    last_row, rest = divmod(stop, inner)
    if skipped:
        for box in boxes(shape[1:], skipped, rest if row == last_row else inner):
            yield Box((row, *box.starts), (1, *box.lengths))
        row += 1
    if row < last_row:
        yield Box((row, *(0 for _ in shape[1:])), (last_row - row, *shape[1:]))
    if rest and row <= last_row:
        for box in boxes(shape[1:], 0, rest):
            yield Box((last_row, *box.starts), (1, *box.lengths))


# ---- one strided view


@dataclass(frozen=True, slots=True, kw_only=True)
class Strided:
    """Elements of a file at regular distances: `shape` of them, the first at byte `start`, `strides` bytes apart.

    `word_bytes` is what bytes are swapped in where they are big-endian, and 0 elsewhere. `negated` are the words of an
    element (see `_WORDS`) whose sign is turned. No two indices mean the same bytes, and all lie inside the file.
    """

    file: Place
    dtype: Dtype
    shape: tuple[int, ...]
    start: int
    strides: tuple[int, ...]
    word_bytes: int = 0
    negated: tuple[int, ...] = ()

    @property
    def scheme(self) -> Scheme | None:
        """None: the elements are only arranged in another way."""
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        """Empty: it is its own only part."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """What the windows that the elements are read through lie in, small gaps between them included."""
        merged = simplified(self)
        return _joined(span for box in boxes(merged.shape, first, stop) for span in _spans_of(merged, box))

    def at_once(self, first: int, stop: int) -> tuple[int, int]:
        """The elements to make instead, so that the file is not walked through for every few rows.

        In a transposed matrix each row is spread over the whole file, and its neighbours lie beside it everywhere. So
        these are whole rows, as far as they are so interleaved and at most `BAND_BYTES` of them, but `first` to `stop`
        where elements follow one another in the file as in the view, or in long runs.
        """
        merged = simplified(self)
        shape, strides = merged.shape, merged.strides
        turned = [axis for axis, stride in enumerate(strides) if stride < max(strides[axis:])]
        most = BAND_BYTES // _element_bytes(merged)
        outermost = next((axis for axis in turned if prod(shape[axis + 1 :]) <= most), None)
        if outermost is None or min(strides[axis] for axis in turned) >= LONG_RUN_BYTES:
            return first, stop
        row = prod(shape[outermost + 1 :])
        start = first - first % row
        end = min(stop + -stop % (shape[outermost] * row), start + most - most % row)
        return (start, end) if stop <= end else (first, stop)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """The elements, one window of the file after the other. Raises what `read` does."""
        merged = simplified(self)
        elements = np.empty(stop - first, _raw(merged))
        at = 0
        for box in boxes(merged.shape, first, stop):
            count = prod(box.lengths)
            _copy(elements[at : at + count].reshape(box.lengths), merged, box, read)
            at += count
        return Decoded(_as_codes(elements, merged))


def simplified(view: Strided) -> Strided:
    """The same elements in the same order, with as few axes as possible."""
    shape: list[int] = []
    strides: list[int] = []
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size == 1:
            continue
        if shape and strides[-1] == size * stride:
            shape[-1] *= size
            strides[-1] = stride
        else:
            shape.append(size)
            strides.append(stride)
    return replace(view, shape=tuple(shape), strides=tuple(strides))


class _Window(NamedTuple):
    """Part of a box that is read at once: where it begins in the file, and which part of the box it is."""

    start: int
    place: tuple[slice, ...]
    lengths: tuple[int, ...]


def _windows(view: Strided, start: int, place: tuple[slice, ...]) -> Iterator[_Window]:
    """The windows of the box at byte `start` that is sliced by `place`: few where little lies between its elements."""
    lengths = tuple(part.stop - part.start for part in place)
    across, wanted = _bytes_across(view, lengths), prod(lengths) * _element_bytes(view)
    if across <= max(SMALL_BYTES, min(LARGEST_BYTES, LARGEST_WASTE * wanted)):
        yield _Window(start, place, lengths)
        return
    axis = _widest(view, lengths)
    stride = view.strides[axis]
    within = across - (lengths[axis] - 1) * stride
    is_dense = max(stride, within) <= LARGEST_WASTE * wanted // lengths[axis]
    step = 1 + max(0, (LARGEST_BYTES if is_dense else SMALL_BYTES) - within) // stride
    for at in range(place[axis].start, place[axis].stop, step):
        part = slice(at, min(place[axis].stop, at + step))
        yield from _windows(view, start + (at - place[axis].start) * stride, (*place[:axis], part, *place[axis + 1 :]))


def _windows_of(view: Strided, box: Box) -> Iterator[_Window]:
    return _windows(view, _start_of(view, box), tuple(slice(0, length) for length in box.lengths))


def _start_of(view: Strided, box: Box) -> int:
    return view.start + sum(index * stride for index, stride in zip(box.starts, view.strides, strict=True))


def _widest(view: Strided, lengths: tuple[int, ...]) -> int:
    return max((axis for axis, length in enumerate(lengths) if length > 1), key=view.strides.__getitem__)


def _bytes_across(view: Strided, lengths: tuple[int, ...]) -> int:
    apart = sum((length - 1) * stride for length, stride in zip(lengths, view.strides, strict=True))
    return apart + _element_bytes(view)


def _spans(view: Strided, start: int, lengths: tuple[int, ...]) -> Iterator[Span]:
    """What the windows of the box at byte `start` lie in: one span where only small gaps are between them."""
    across, wanted = _bytes_across(view, lengths), prod(lengths) * _element_bytes(view)
    if across <= LARGEST_WASTE * wanted or _largest_gap(view, lengths) < JOINED_GAP_BYTES:
        yield Span(view.file, start, start + across)
        return
    axis = _widest(view, lengths)
    inner = (*lengths[:axis], 1, *lengths[axis + 1 :])
    for index in range(lengths[axis]):
        yield from _spans(view, start + index * view.strides[axis], inner)


def _spans_of(view: Strided, box: Box) -> Iterator[Span]:
    return _spans(view, _start_of(view, box), box.lengths)


def _largest_gap(view: Strided, lengths: tuple[int, ...]) -> int:
    """The most bytes between neighbouring elements of a box, in the order of the file."""
    largest, within = 0, _element_bytes(view)
    for stride, length in sorted(zip(view.strides, lengths, strict=True)):
        if length > 1:
            largest = max(largest, stride - within)
            within += (length - 1) * stride
    return largest


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans, each byte once, those of each file in order."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: (str(span.file), span.start)):  # places have no order, addresses do
        last = result[-1] if result else None
        if last is not None and last.file == span.file and span.start <= last.end:
            result[-1] = Span(span.file, last.start, max(last.end, span.end))
        else:
            result.append(span)
    return tuple(result)


def _copy(into: Codes, view: Strided, box: Box, read: Read) -> None:
    """Copy the elements of a box, bytes as they are, into an array of its shape."""
    for window in _windows_of(view, box):
        content = read(view.file, window.start, window.start + _bytes_across(view, window.lengths))
        into[window.place] = np.ndarray(window.lengths, into.dtype, content, strides=view.strides)


def _element_bytes(view: Strided) -> int:
    return BITS[view.dtype] // 8


def _raw(view: Strided) -> np.dtype[np.generic]:
    return _RAW[_element_bytes(view)]


def _as_codes(elements: Codes, view: Strided) -> Codes:
    """The elements, whose bytes are as they were stored, as codes of the dtype. Changes them in place."""
    if view.word_bytes > 1:
        elements.view(f"u{view.word_bytes}").byteswap(inplace=True)
    if view.negated:
        word = _WORDS[view.dtype]
        words = elements.view(word).reshape(elements.size, -1)
        words[:, view.negated] ^= word.type(1 << (8 * word.itemsize - 1))
    return elements.view(NUMPY_DTYPES.get(view.dtype, elements.dtype))


# ---- quantised


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantised:
    """PyTorch's own quantised tensors as the float32 numbers that `dequantize()` gives: `(code - zero_point) * scale`.

    `scales` and `zero_points` are one number each, or a view of one for every index of `axis`.
    """

    codes: Strided
    scales: float | Strided
    zero_points: int | Strided
    axis: int = 0

    @property
    def scheme(self) -> Scheme | None:
        """The quantiser's name and how many scales it has."""
        label = _QUANTISED[self.codes.dtype]
        each = "one scale for all" if isinstance(self.scales, float) else "a scale for each channel"
        return Scheme(
            label=label, description=f"quantised by PyTorch to {label}, {each}", code_bits=CODE_BITS[self.codes.dtype]
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Empty: the scales have no name of their own."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The windows of the codes, and all scales and zero points."""
        spans = list(self.codes.needs(first, stop))
        for parameter in (self.scales, self.zero_points):
            if isinstance(parameter, Strided):
                spans += parameter.needs(0, prod(parameter.shape))
        return _joined(spans)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """The numbers as float32, and the codes as unsigned integers of their width. Raises what `read` does."""
        codes = self.codes.decode(read, first, stop).elements
        channels = np.zeros(1, np.int64)
        if isinstance(self.scales, Strided):
            inner = prod(self.codes.shape[self.axis + 1 :])
            channels = np.arange(first, stop) // inner % self.codes.shape[self.axis]
        with np.errstate(over="ignore", invalid="ignore"):  # scales can be anything, and the audit reports the result
            scales = _values(self.scales, read)[channels].astype(np.float32)
            zero_points = _values(self.zero_points, read)[channels].astype(np.float32)
            numbers = (codes.astype(np.float32) - zero_points) * scales
        counted = codes.view(np.uint8) if CODE_BITS[self.codes.dtype] else None
        return Decoded(numbers, counted)


_QUANTISED = {Dtype.I8: "qint8", Dtype.U8: "quint8", Dtype.I32: "qint32"}


def _values(parameter: float | Strided, read: Read) -> Codes:
    if isinstance(parameter, Strided):
        return parameter.decode(read, 0, prod(parameter.shape)).elements
    return np.array([parameter])


# ---- chunks of ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The part of a tensor that one rank saved: where it begins in the whole, and where it lies."""

    offsets: tuple[int, ...]
    stored: Strided


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked:
    """A tensor that several ranks saved a part of each. The chunks fill its shape, and none overlaps another."""

    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]

    @property
    def scheme(self) -> Scheme | None:
        """None: the elements are only arranged in another way."""
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        """Empty: chunks have no names."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The windows of every chunk that holds some of the elements."""
        return _joined(
            span
            for box in boxes(self.shape, first, stop)
            for chunk, inside, _ in self._shares(box)
            for span in _spans_of(chunk.stored, inside)
        )

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """The elements, each from the chunk that holds it. Raises what `read` does."""
        view = self.chunks[0].stored
        elements = np.empty(stop - first, _raw(view))
        at = 0
        for box in boxes(self.shape, first, stop):
            count = prod(box.lengths)
            whole = elements[at : at + count].reshape(box.lengths)
            for chunk, inside, place in self._shares(box):
                _copy(whole[place], chunk.stored, inside, read)
            at += count
        return Decoded(_as_codes(elements, view))

    def _shares(self, box: Box) -> Iterator[tuple[Chunk, Box, tuple[slice, ...]]]:
        """Each chunk that shares elements with a box: which of the chunk's they are, and where they go in the box."""
        for chunk in self.chunks:
            inside = []
            place = []
            for start, length, offset, size in zip(
                box.starts, box.lengths, chunk.offsets, chunk.stored.shape, strict=True
            ):
                low, high = max(start, offset), min(start + length, offset + size)
                if low >= high:
                    break
                inside.append((low - offset, high - low))
                place.append(slice(low - start, high - start))
            else:
                starts, lengths = zip(*inside, strict=True) if inside else ((), ())
                yield chunk, Box(starts, lengths), tuple(place)
