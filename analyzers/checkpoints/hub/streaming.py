"""Files on the Hub, read in place: in large windows for an audit, and as a stream for the readers of headers."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from threading import local
from typing import TYPE_CHECKING, BinaryIO, cast

from jaynes_audit.analyzers.checkpoints.hub.ranges import RangeReader
from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.errors import RefusedFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

WINDOW_BYTES = 8 << 20  # measured: below it a request's latency shows, above it memory grows and the rate does not
JOINED_GAP_BYTES = 256 << 10  # less between two ranges is read rather than asked for anew: it takes 20 ms at 100 Mbit/s
SHARES = 8  # at least this part of a window is held of every range that is read among others

FIRST_LOOK_BYTES = 128 << 10  # the headers of 97 of 100 safetensors files, says huggingface_hub, are below 100 kB
WHOLE_BYTES = 1 << 20  # a smaller file is read at once
LARGEST_LOOK_BYTES = 8 << 20
STREAM_BUFFER_BYTES = 64 << 10


@dataclass(slots=True)
class _Window:
    """Bytes `start` to `end` of a file, at the beginning of a buffer that may be longer.

    `share` is how much of its thread's memory it takes, but for what it kept of the window before it.
    """

    path: str
    buffer: bytearray
    start: int
    end: int
    share: int

    def is_before(self, file: HubFile, start: int) -> bool:
        """Whether what is read from `start` on goes on where this window is, or just after it."""
        return self.path == file.path and self.start <= start <= self.end

    def view(self, start: int, end: int) -> memoryview:
        return memoryview(self.buffer)[start - self.start : end - self.start].toreadonly()


@dataclass(slots=True)
class _Announced:
    """A range that will be read, and how much of it is fetched at once."""

    start: int
    end: int
    at_once: int


class _Held(local):
    """What one thread has announced, by file, and the windows that it holds, the last used last.

    `is_complete` is whether it has begun to read what it announced: the next announcement then is a new one.
    """

    def __init__(self) -> None:
        self.announced: dict[str, list[_Announced]] = {}
        self.is_complete = True
        self.windows: list[_Window] = []


class Windows:
    """The windows of all threads over all files of a repository.

    Each thread holds `window_bytes` at most, what lies on the edge of two windows, and one range that is longer if it
    was read in one piece.
    """

    def __init__(self, reader: RangeReader, window_bytes: int = WINDOW_BYTES) -> None:
        self._reader = reader
        self._window_bytes = window_bytes
        self._held = _Held()

    def announce(self, file: HubFile, ranges: Sequence[tuple[int, int]]) -> None:
        """Note what this thread will read next of a file; what it announced before its last read is forgotten."""
        held = self._held
        if held.is_complete:
            held.announced, held.is_complete = {}, False
        held.announced[file.path] = [_Announced(start, end, 0) for start, end in _joined(ranges)]
        _share([each for of_file in held.announced.values() for each in of_file], self._window_bytes)

    def read(self, file: HubFile, start: int, end: int) -> memoryview:
        """Give bytes of a file, valid until this thread's next read. Raises CouldNotRead."""
        held = self._held
        held.is_complete = True
        for window in reversed(held.windows):
            if window.path == file.path and window.start <= start and end <= window.end:
                held.windows.remove(window)
                held.windows.append(window)
                return window.view(start, end)
        return self._fetched(file, start, end).view(start, end)

    def forget(self, file: HubFile) -> None:
        """Give up this thread's windows over a file."""
        self._held.windows = [window for window in self._held.windows if window.path != file.path]

    def _fetched(self, file: HubFile, start: int, end: int) -> _Window:
        """Fetch from `start` as far as was announced, but for what a window has of it already."""
        held = self._held
        last = next((each for each in held.windows if each.is_before(file, start)), None)
        kept = bytes(last.view(start, last.end)) if last else b""
        stop, share, room = end, end - start, end - start
        for announced in held.announced.get(file.path, ()):
            if announced.start <= start < announced.end:
                share = announced.at_once
                stop = max(end, min(announced.end, start + len(kept) + share))
                room = max(room, min(announced.end - start, share + room))
        buffer = self._buffer(room, share, last)
        buffer[: len(kept)] = kept
        self._reader.read_into(file, start + len(kept), memoryview(buffer)[len(kept) : stop - start])
        window = _Window(path=file.path, buffer=buffer, start=start, end=stop, share=share)
        held.windows.append(window)
        return window

    def _buffer(self, length: int, share: int, last: _Window | None) -> bytearray:
        """Make room for a share, and give a buffer: of the windows that go, one that fits, for fresh memory costs."""
        windows = self._held.windows
        gone = []
        if last:
            windows.remove(last)
            gone.append(last.buffer)
        left = self._window_bytes - share - sum(window.share for window in windows)
        while windows and left < 0:
            left += windows[0].share
            gone.append(windows.pop(0).buffer)
        return next((buffer for buffer in gone if length <= len(buffer) <= 2 * length), None) or bytearray(length)


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges in their order, those together that hardly anything lies between."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start - joined[-1][1] < JOINED_GAP_BYTES:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif end > start:
            joined.append((start, end))
    return joined


def _share(announced: Sequence[_Announced], window_bytes: int) -> None:
    """Share a window among ranges that may be read in turns: a short one is held whole, long ones get equal parts."""
    left = window_bytes
    for done, each in enumerate(sorted(announced, key=lambda each: each.end - each.start)):
        share = max(left // min(len(announced) - done, SHARES), window_bytes // SHARES)
        each.at_once = min(each.end - each.start, share)
        left = max(0, left - each.at_once)


class RemoteFile:
    """A file on the Hub, as a source for the audit. Nothing of it is stored."""

    def __init__(self, file: HubFile, windows: Windows) -> None:
        self._file = file
        self._windows = windows

    def read(self, start: int, end: int) -> memoryview:
        """Give a view of a window, fetched when no window of this thread has the bytes."""
        if end > self._file.size_bytes:
            raise RefusedFile(
                f"{quoted_path(self._file.path)} has {self._file.size_bytes:,} bytes, and bytes {start:,} to {end:,} "
                "were wanted; fetch it again",
                rule="JN001",
                case="read-past-the-end",
            )
        return self._windows.read(self._file, start, end) if end > start else memoryview(b"")

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Note what this thread will read, so that it comes in few requests."""
        self._windows.announce(self._file, ranges)

    def close(self) -> None:
        """Give up what this thread holds of it."""
        self._windows.forget(self._file)


def opened_stream(file: HubFile, reader: RangeReader) -> BinaryIO:
    """Open a file on the Hub for the reader of a header: from any place, a little more with every look."""
    return cast("BinaryIO", _Stream(_Looks(file, reader), STREAM_BUFFER_BYTES))


class _Stream(io.BufferedReader):
    """A stream that asks for a large part at once: `BufferedReader` would ask for what is over its buffer by itself."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < WHOLE_BYTES:
            return super().read(size)
        raw = cast("_Looks", self.raw)
        part = bytearray(max(0, min(size, raw.size_bytes - self.tell())))
        return bytes(memoryview(part)[: self.readinto(part)])


class _Looks(io.RawIOBase):
    """The bytes of a file, fetched as a reader goes on: little after a jump, twice as much with every step.

    The last two looks are held: one at the beginning, and one at the end, where a zip archive has its list.
    """

    def __init__(self, file: HubFile, reader: RangeReader) -> None:
        super().__init__()
        self._file = file
        self._reader = reader
        self._at = 0
        self._looks: list[_Window] = []
        self._next_bytes = FIRST_LOOK_BYTES
        self._seen_until = 0

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size_bytes}[whence]
        if origin + offset < 0:
            raise ValueError(f"{offset} leads before the file's first byte")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        wanted = memoryview(buffer).cast("B")[: max(0, self._file.size_bytes - self._at)]
        if not wanted:
            return 0
        look = next((each for each in self._looks if each.start <= self._at < each.end), None)
        if look is None and len(wanted) >= max(self._next_bytes, WHOLE_BYTES):
            self._reader.read_into(self._file, self._at, wanted)
            length = len(wanted)
            self._seen_until = self._at + length
        else:
            look = look or self._look()
            length = min(len(wanted), look.end - self._at)
            wanted[:length] = look.view(self._at, self._at + length)
        self._at += length
        return length

    def _look(self) -> _Window:
        """Fetch around the present place: all of a small file, and nothing beyond the end of a large one."""
        size = self._file.size_bytes
        goes_on = self._at == self._seen_until
        length = self._next_bytes if goes_on else FIRST_LOOK_BYTES
        start = self._at if goes_on else max(0, min(self._at, size - length))
        if size <= WHOLE_BYTES:
            start, length = 0, size
        end = min(size, start + length)
        look = _Window(path=self._file.path, buffer=bytearray(end - start), start=start, end=end, share=0)
        self._reader.read_into(self._file, start, memoryview(look.buffer))
        self._seen_until = end
        self._next_bytes = min(2 * length, LARGEST_LOOK_BYTES)
        self._looks = [*self._looks[-1:], look]
        return look
