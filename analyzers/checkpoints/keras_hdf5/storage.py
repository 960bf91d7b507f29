"""Elements of HDF5 datasets that are not simply stored one after another: in chunks, packed, or big-endian.

Source: HDF5 File Format Specification 3.0, sections III.A.1 (the B-tree of chunks) and IV.A.2.l (filters).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import product
from math import prod

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.content import Content
from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.keras_hdf5.datasets import ChunkStore, Dataset, Unread
from jaynes_audit.analyzers.checkpoints.keras_hdf5.groups import tree_leaves
from jaynes_audit.analyzers.checkpoints.keras_hdf5.messages import UNDEFINED
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.checkpoints.zip_archive import LARGEST_DEFLATE_RATIO
from jaynes_audit.analyzers.errors import RefusedFile

CHUNK_NODES = 1
LARGEST_CHUNK = 64 << 20  # bytes; a chunk is held whole, and h5py by itself makes none above 1 MiB
CHECKSUM_BYTES = 4
WORDS_AT_ONCE = 1 << 16  # of a checksum: their weighted sum stays below 2**48


class Filter(IntEnum):
    """The filters that chunks are freed from."""

    DEFLATE = 1
    SHUFFLE = 2
    CHECKSUM = 3


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """Bytes `start` to `end` of the file, and in `left_out` a bit for each filter that the chunk did not go through."""

    start: int
    end: int
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BigEndian:
    """Elements of `element_bytes` bytes, the highest first, one after another from byte `start` of the file."""

    file: Place
    start: int
    element_bytes: int

    @property
    def scheme(self) -> Scheme | None:
        """None: nothing was quantised."""
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        """None: each is a stored tensor of its own."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The stored bytes of these elements."""
        return (Span(self.file, *self._range(first, stop)),)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Turn the bytes of each of these elements round. Raises what `read` raises."""
        stored = read(self.file, *self._range(first, stop))
        return Decoded(np.frombuffer(stored, f">u{self.element_bytes}").astype(f"<u{self.element_bytes}"))

    def _range(self, first: int, stop: int) -> tuple[int, int]:
        return self.start + first * self.element_bytes, self.start + stop * self.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked:
    """Elements that are stored in chunks of `chunk_shape`, which tile `shape`; those at its ends reach beyond it.

    `chunks` are in C order of their places. Asked for some elements, it reads and unpacks every chunk that they lie in,
    one at a time; chunks that cross many rows are unpacked again for the next elements.
    """

    file: Place
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    element_bytes: int
    big_endian: bool
    filters: tuple[Filter, ...]
    chunks: tuple[StoredChunk, ...]

    @property
    def scheme(self) -> Scheme | None:
        """None: nothing was quantised."""
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        """None: each is a stored tensor of its own."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The chunks that these elements lie in."""
        if first >= stop:
            return ()
        return tuple(
            Span(self.file, chunk.start, chunk.end) for chunk, _ in self._chunks_of(*self._corners(first, stop))
        )

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Read and unpack the chunks that these elements lie in, and cut the elements out.

        Raises:
            RefusedFile: JN004 when a chunk does not unpack to what it should. Else what `read` raises.
        """
        return Decoded(np.concatenate([self._box(read, *run) for run in self._runs(first, stop)]))

    def _corners(self, first: int, stop: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The places of the first and of the last of these elements."""
        return self._place(first), self._place(stop - 1)

    def _place(self, element: int) -> tuple[int, ...]:
        place = []
        for length in reversed(self.shape):
            element, index = divmod(element, length)
            place.append(index)
        return tuple(reversed(place))

    def _runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut a run where it ends one long row and begins the next, so that no part needs much more than itself."""
        if first >= stop:
            yield 0, 0
            return
        start, last = self._corners(first, stop)
        axis = _first_difference(start, last)
        inner = prod(self.shape[axis + 1 :])
        if axis < len(self.shape) and last[axis] - start[axis] == 1 and stop - first < inner:
            boundary = (stop - 1) // inner * inner
            yield from self._runs(first, boundary)
            yield from self._runs(boundary, stop)
        else:
            yield first, stop

    def _box(self, read: Read, first: int, stop: int) -> npt.NDArray[np.generic]:
        """Elements `first` to `stop`, cut from the smallest block of whole rows around them."""
        if first >= stop:
            return np.empty(0, f"<u{self.element_bytes}")
        start, last = self._corners(first, stop)
        axis = min(_first_difference(start, last), max(0, len(self.shape) - 1))
        lows = (*start[: axis + 1], *(0 for _ in self.shape[axis + 1 :]))
        highs = (*(at + 1 for at in last[: axis + 1]), *self.shape[axis + 1 :])
        box = np.empty([high - low for low, high in zip(lows, highs, strict=True)], f"<u{self.element_bytes}")
        for chunk, corner in self._chunks_of(start, last):
            elements = self._unpacked(read, chunk)
            spans = list(zip(lows, highs, corner, self.chunk_shape, strict=True))
            target = tuple(slice(max(low, at) - low, min(high, at + n) - low) for low, high, at, n in spans)
            source = tuple(slice(max(low, at) - at, min(high, at + n) - at) for low, high, at, n in spans)
            box[target] = elements[source]
        skipped = first - sum(low * prod(self.shape[at + 1 :]) for at, low in enumerate(lows))
        return box.reshape(-1)[skipped : skipped + stop - first]

    def _chunks_of(
        self, start: tuple[int, ...], last: tuple[int, ...]
    ) -> Iterator[tuple[StoredChunk, tuple[int, ...]]]:
        """The chunks that elements between these two places lie in, each with the place of its first element."""
        axis = _first_difference(start, last)
        counts = grid(self.shape, self.chunk_shape)
        spans = [
            range(start[at] // n, last[at] // n + 1) if at <= axis else range(counts[at])
            for at, n in enumerate(self.chunk_shape)
        ]
        for cell in product(*spans):
            number = 0
            for count, index in zip(counts, cell, strict=True):
                number = number * count + index
            yield self.chunks[number], tuple(index * n for index, n in zip(cell, self.chunk_shape, strict=True))

    def _unpacked(self, read: Read, chunk: StoredChunk) -> npt.NDArray[np.generic]:
        stored: bytes | memoryview = read(self.file, chunk.start, chunk.end)
        size = prod(self.chunk_shape) * self.element_bytes
        through = [each for at, each in enumerate(self.filters) if not chunk.left_out >> at & 1]
        while through:  # in the order opposite to that of writing
            each = through.pop()
            match each:
                case Filter.DEFLATE:
                    stored = _inflated(stored, size + CHECKSUM_BYTES * through.count(Filter.CHECKSUM))
                case Filter.SHUFFLE:
                    stored = _unshuffled(stored, self.element_bytes)
                case Filter.CHECKSUM:
                    stored = _checked(stored)
        if len(stored) != size:
            raise _bad_chunk(f"holds {len(stored):,} bytes and not {size:,}", "chunk-size")
        order = ">" if self.big_endian else "<"
        return np.frombuffer(stored, f"{order}u{self.element_bytes}").reshape(self.chunk_shape)


def _first_difference(start: tuple[int, ...], last: tuple[int, ...]) -> int:
    return next((axis for axis, (low, high) in enumerate(zip(start, last, strict=True)) if low != high), len(start))


def grid(shape: tuple[int, ...], chunk_shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many chunks of this shape it takes to cover each dimension."""
    return tuple(-(-length // n) for length, n in zip(shape, chunk_shape, strict=True))


# ---- where the chunks are


def chunks_of(content: Content, dataset: Dataset, store: ChunkStore) -> tuple[StoredChunk, ...] | Unread:
    """The chunks of a dataset in C order of their places.

    All are there, each inside the file and long enough for what it must unpack to.

    Raises:
        RefusedFile: JN003 and JN004 when the chunks do not tile the dataset, JN001 when one leads out of the file.
    """
    if not all(store.chunk_shape):
        raise content.bad("has chunks without an element", rule="JN004", case="chunk-empty")
    chunk_bytes = prod(store.chunk_shape) * dataset.element_bytes
    if chunk_bytes > LARGEST_CHUNK:
        return Unread(f"in chunks of {chunk_bytes:,} bytes, above the limit of {LARGEST_CHUNK:,}")
    unknown = [each for each in dataset.filters if each not in set(Filter)]
    if unknown or len(set(dataset.filters)) < len(dataset.filters):
        return Unread(f"packed with the HDF5 filters {dataset.filters}, of which not all are read here")
    counts = grid(dataset.shape, store.chunk_shape)
    found: dict[tuple[int, ...], StoredChunk] = {}
    for corner, chunk in _indexed(content, dataset, store, chunk_bytes):
        cell = tuple(at // n for at, n in zip(corner, store.chunk_shape, strict=True))
        outside = any(at % n for at, n in zip(corner, store.chunk_shape, strict=True)) or any(
            index >= count for index, count in zip(cell, counts, strict=True)
        )
        if outside or cell in found:
            raise content.bad(f"has a chunk at {corner}, where none belongs", rule="JN004", case="chunk-place")
        found[cell] = chunk
    if len(found) < prod(counts):
        return Unread(f"{prod(counts) - len(found):,} of its {prod(counts):,} chunks were never written")
    return tuple(found[cell] for cell in sorted(found))


def _indexed(
    content: Content, dataset: Dataset, store: ChunkStore, chunk_bytes: int
) -> Iterator[tuple[tuple[int, ...], StoredChunk]]:
    """Each chunk of the index with the place of its first element."""
    if store.index == UNDEFINED:
        return
    rank = len(dataset.shape)
    if store.single:
        stored_bytes, left_out = store.single
        stored = (stored_bytes or chunk_bytes, left_out)
        yield (0,) * rank, _stored_chunk(content, dataset, chunk_bytes, (store.index, *stored))
        return
    for entry in tree_leaves(content, store.index, kind=CHUNK_NODES, key_bytes=8 + 8 * (rank + 1)):
        stored_bytes, left_out = (int.from_bytes(entry.key[at : at + 4], "little") for at in (0, 4))
        corner = tuple(int.from_bytes(entry.key[at : at + 8], "little") for at in range(8, 8 + 8 * rank, 8))
        yield corner, _stored_chunk(content, dataset, chunk_bytes, (entry.child, stored_bytes, left_out))


def _stored_chunk(content: Content, dataset: Dataset, chunk_bytes: int, stored: tuple[int, int, int]) -> StoredChunk:
    address, stored_bytes, left_out = stored
    content.check(address, stored_bytes)
    through = {Filter(each) for at, each in enumerate(dataset.filters) if not left_out >> at & 1}
    checksum = CHECKSUM_BYTES if Filter.CHECKSUM in through else 0
    if Filter.DEFLATE in through:
        fits = chunk_bytes <= LARGEST_DEFLATE_RATIO * stored_bytes
    else:
        fits = stored_bytes == chunk_bytes + checksum
    if not fits:
        raise content.bad(
            f"has a chunk of {stored_bytes:,} bytes that should unpack to {chunk_bytes:,}, which it cannot",
            rule="JN004",
            case="chunk-bomb",
        )
    start = content.start + address
    return StoredChunk(start, start + stored_bytes, left_out)


# ---- filters


def _inflated(stored: bytes | memoryview, size: int) -> bytes:
    inflating = zlib.decompressobj()
    try:
        inflated = inflating.decompress(stored, size + 1)
    except zlib.error as error:
        raise _bad_chunk(f"does not inflate ({error})", "chunk-deflate") from None
    if len(inflated) != size:
        raise _bad_chunk(f"does not inflate to {size:,} bytes", "chunk-deflate")
    return inflated


def _unshuffled(stored: bytes | memoryview, element_bytes: int) -> bytes:
    """Undo the filter that puts all first bytes of the elements first; what is left over at the end stays there."""
    whole = len(stored) - len(stored) % element_bytes
    elements = np.frombuffer(stored, np.uint8)[:whole].reshape(element_bytes, -1).T
    return elements.tobytes() + bytes(stored[whole:])


def _checked(stored: bytes | memoryview) -> bytes | memoryview:
    """Take off the checksum, once it agrees."""
    body, checksum = stored[:-CHECKSUM_BYTES], int.from_bytes(stored[-CHECKSUM_BYTES:], "little")
    if len(stored) < CHECKSUM_BYTES or fletcher32(body) != checksum:
        raise _bad_chunk("does not agree with its checksum", "chunk-checksum")
    return body


def fletcher32(content: bytes | memoryview) -> int:
    """Fletcher's checksum of big-endian words of 16 bits, as `H5_checksum_fletcher32` in HDF5's `H5checksum.c`."""
    even = bytes(content) + bytes(len(content) % 2)
    words = np.frombuffer(even, ">u2").astype(np.int64)
    total = weighted = 0
    for first in range(0, words.size, WORDS_AT_ONCE):
        block = words[first : first + WORDS_AT_ONCE]
        weighted += total * block.size + int(np.dot(np.arange(block.size, 0, -1), block))
        total += int(block.sum())
    return _folded(weighted) << 16 | _folded(total)


def _folded(total: int) -> int:
    """The sum modulo 2**16 - 1, as adding the carries gives it: only an empty sum is 0."""
    return (total - 1) % 0xFFFF + 1 if total else 0


def _bad_chunk(fault: str, case: str) -> RefusedFile:
    return RefusedFile(
        f"a chunk of this HDF5 file {fault}; fetch the file again, or write it again", rule="JN004", case=case
    )
