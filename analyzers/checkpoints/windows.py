"""The bytes of a weight file, a window at a time, in bounded memory."""

import mmap
import os
from enum import StrEnum
from pathlib import Path
from threading import Lock, local
from typing import Protocol, Self

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


class Source(Protocol):
    """A file that can be read at any place by several threads at once."""

    def read(self, start: int, end: int) -> memoryview:
        """Give bytes `start` to `end`, valid until this thread's next read.

        Raises:
            RefusedFile: when the file has become shorter than that.
            CouldNotRead: when the system reports an error.
        """

    def close(self) -> None:
        """Give up the file."""


def open_source(path: Path, io: Io) -> Source:
    """Open a weight file for reading. Raises CouldNotRead when the system does not allow it."""
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

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Sources:
    """The files of a checkpoint, each opened when it is first read; a context that closes them all."""

    def __init__(self, io: Io) -> None:
        self._io = io
        self._open: dict[Path, Source] = {}
        self._opening = Lock()

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every file that was opened."""
        for source in self._open.values():
            source.close()

    def of(self, path: Path) -> Source:
        """Give the source of a file, opened once for all threads. Raises CouldNotRead."""
        with self._opening:
            if path not in self._open:
                self._open[path] = open_source(path, self._io)
            return self._open[path]
