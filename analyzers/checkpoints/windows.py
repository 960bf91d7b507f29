"""The bytes of a weight file, a window at a time, in bounded memory."""

import mmap
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from threading import Lock, local
from typing import NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Decoder
from jaynes_audit.analyzers.checkpoints.places import Place, Source, Span
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import BITS
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile

RELEASE_BYTES = 8 << 20  # measured: releasing mapped pages more often costs time, less often memory
PAGE_BYTES = mmap.ALLOCATIONGRANULARITY


class Io(StrEnum):
    """How files are read.

    MMAP is the faster one, but the system kills a process that touches a mapped page after the file was cut short
    behind it. PREAD copies, and reports such a file: the choice for network file systems and files still being written.
    """

    MMAP = "mmap"
    PREAD = "pread"


def open_source(path: Place, io: Io) -> Source:
    """Open a weight file for reading. Raises CouldNotRead when the system does not allow it."""
    if not isinstance(path, Path):
        stored = path.stored()
        return path.source() if stored is None else open_source(stored, io)
    try:
        return MappedFile(path) if io is Io.MMAP else PlainFile(path)
    except OSError as error:
        raise CouldNotRead(f"{path} cannot be read: {error.strerror or error}.") from error


def _shortened(path: Path, start: int, end: int, size: int) -> RefusedFile:
    return RefusedFile(
        f"{path} became shorter while it was read: bytes {start:,} to {end:,} were wanted and it now ends at {size:,}. "
        "Wait until it is written, or fetch it again.",
        rule="JN001",
        case="shortened-while-read",
    )


class _Span(local):
    """The mapped pages that a thread has touched and not yet given back."""

    def __init__(self) -> None:
        self.start = self.end = 0


class MappedFile:
    """A memory-mapped file. Pages are given back once a thread has read on by 8 MiB, so few are resident at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as stream:
            if not os.fstat(stream.fileno()).st_size:
                raise _shortened(path, 0, 1, 0)  # nothing cannot be mapped
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = memoryview(self._map)
        self._span = _Span()

    def read(self, start: int, end: int) -> memoryview:
        """Give a view of the mapped bytes; nothing is copied."""
        if end > len(self._bytes):
            raise _shortened(self._path, start, end, len(self._bytes))
        span = self._span
        if start != span.end or span.end - span.start >= RELEASE_BYTES:
            self._release(span.start, span.end)
            span.start = start
        span.end = end
        return self._bytes[start:end]

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Do nothing: the system reads ahead by itself."""

    def _release(self, start: int, end: int) -> None:
        if end > start and hasattr(mmap, "MADV_DONTNEED"):
            first = start - start % PAGE_BYTES
            self._map.madvise(mmap.MADV_DONTNEED, first, end - first)

    def close(self) -> None:
        """Unmap, unless someone still looks at a window: then the last view to go does it."""
        self._bytes.release()
        try:
            self._map.close()
        except BufferError:
            return


class _Buffer(local):
    """A thread's own window, grown as needed and kept: fresh memory for each would cost more than the copy."""

    def __init__(self) -> None:
        self.bytes = bytearray()


class PlainFile:
    """A file read by position into a buffer of each thread's own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._buffer = _Buffer()

    def read(self, start: int, end: int) -> memoryview:
        """Copy the bytes into this thread's buffer and give a view of it."""
        if len(self._buffer.bytes) < end - start:
            self._buffer.bytes = bytearray(end - start)
        window = memoryview(self._buffer.bytes)[: end - start]
        at = start
        while at < end:
            try:
                got = os.preadv(self._descriptor, [window[at - start :]], at)
            except OSError as error:
                raise CouldNotRead(f"{self._path} cannot be read at byte {at:,}: {error.strerror or error}.") from error
            if not got:
                raise _shortened(self._path, start, end, at)
            at += got
        return window.toreadonly()

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Do nothing: the system reads ahead by itself."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


NO_CODES = np.zeros(0, np.int64)
NO_CODES.flags.writeable = False


class StoredTensor:
    """The bytes of a tensor that are stored as they are."""

    code_tallies = NO_CODES

    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._start = start

    def read(self, start: int, end: int) -> memoryview:
        """Give bytes of the tensor, counted from its first."""
        return self._source.read(self._start + start, self._start + end)


@runtime_checkable
class Banded(Decoder, Protocol):
    """A decoder some of whose elements cost little more when others are made at once. Its codes are not counted."""

    def at_once(self, first: int, stop: int) -> tuple[int, int]:
        """The range of elements to make, which has `first` to `stop` in it, when those are wanted now and more soon."""


class _Band(NamedTuple):
    """Elements from `first` on that were made at once."""

    first: int
    elements: npt.NDArray[np.generic]


_NO_BAND = _Band(0, NO_CODES)


class DecodedTensor:
    """The bytes of a tensor whose elements are made from others, and a count of the codes that they were made from.

    Each is for one thread, and counts what is read through it. It holds the elements of a `Banded` decoder that were
    made at once, until others are wanted.
    """

    def __init__(self, decoder: Decoder, element_bytes: int, sources: "Sources") -> None:
        self._decoder = decoder
        self._element_bytes = element_bytes
        self._sources = sources
        scheme = decoder.scheme
        self._codes = 1 << scheme.code_bits if scheme and scheme.code_bits else 0
        self.code_tallies: npt.NDArray[np.int64] = np.zeros(self._codes, np.int64)
        self._banded = decoder if isinstance(decoder, Banded) else None
        self._band = _NO_BAND

    def read(self, start: int, end: int) -> memoryview:
        """Make the elements that stand from byte `start` to byte `end`."""
        first, stop = start // self._element_bytes, end // self._element_bytes
        elements = self._of_band(self._banded, first, stop) if self._banded else self._decoded(first, stop)
        return np.ascontiguousarray(elements).reshape(-1).view(np.uint8).data

    def _decoded(self, first: int, stop: int) -> npt.NDArray[np.generic]:
        decoded = self._decoder.decode(self._read, first, stop)
        if decoded.codes is not None and self._codes:
            self.code_tallies += np.bincount(decoded.codes.ravel(), minlength=self._codes)
        return decoded.elements

    def _of_band(self, decoder: Banded, first: int, stop: int) -> npt.NDArray[np.generic]:
        if not self._band.first <= first <= stop <= self._band.first + self._band.elements.size:
            start, end = decoder.at_once(first, stop)
            if (start, end) == (first, stop):
                return self._decoded(first, stop)
            self._band = _NO_BAND  # gone before the next is made
            self._band = _Band(start, self._decoded(start, end))
        at = first - self._band.first
        return self._band.elements[at : at + stop - first].copy()  # a view would hold the band when it should be gone

    def _read(self, file: Place, start: int, end: int) -> memoryview:
        return self._sources.of_file(file).read(start, end)


class Sources:
    """The files of a checkpoint, each opened when it is first read; a context that closes them all."""

    def __init__(self, io: Io) -> None:
        self._io = io
        self._open: dict[Place, Source] = {}
        self._opening = Lock()

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every file that was opened."""
        for source in self._open.values():
            source.close()

    def of_file(self, file: Place) -> Source:
        """Give the source of a file, opened once for all threads. Raises CouldNotRead."""
        with self._opening:
            if file not in self._open:
                self._open[file] = open_source(file, self._io)
            return self._open[file]

    def of(self, tensor: Tensor) -> StoredTensor | DecodedTensor:
        """Give a thread the bytes of a tensor, counted from its first. Raises CouldNotRead."""
        if tensor.decoder is None:
            return StoredTensor(self.of_file(tensor.file), tensor.start)
        return DecodedTensor(tensor.decoder, BITS[tensor.dtype] // 8, self)

    def ahead(self, spans: Iterable[Span]) -> None:
        """Say what this thread will read next, which matters to files on a server. Raises CouldNotRead."""
        of_file: defaultdict[Place, list[tuple[int, int]]] = defaultdict(list)
        for span in spans:
            if not isinstance(span.file, Path):
                of_file[span.file].append((span.start, span.end))
        for file, ranges in of_file.items():
            self.of_file(file).ahead(ranges)
