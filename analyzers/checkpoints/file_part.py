"""Some bytes of an opened file, as a file of its own: a member of an archive, an item of a distributed checkpoint."""

import io
from typing import BinaryIO, cast

BUFFER_BYTES = 1 << 13  # headers are read in a few bytes each


class _FilePart(io.RawIOBase):
    def __init__(self, stream: BinaryIO, start: int, length: int) -> None:
        self._stream = stream
        self._start = start
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def seekable(self) -> bool:
        """At any place."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte, counted from the part's first, from here, or from its end."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def readinto(self, buffer: object) -> int:
        """Read on."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        self._stream.seek(self._start + self._at)
        content = self._stream.read(max(0, min(len(view), self._length - self._at)))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)


def file_part(stream: BinaryIO, start: int, length: int) -> BinaryIO:
    """Give `length` bytes of a stream, from byte `start` on, as a stream that begins and ends with them."""
    return cast("BinaryIO", io.BufferedReader(_FilePart(stream, start, length), buffer_size=BUFFER_BYTES))
