"""Where files are: on this machine, or on a server that looks enough like a folder."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


class Readable(Protocol):
    """Bytes that can be read at any place: those of a file, or of a tensor."""

    def read(self, start: int, end: int) -> memoryview:
        """Give bytes `start` to `end`, valid until this thread's next read.

        Raises:
            RefusedFile: when the file has become shorter than that, or its content cannot be understood.
            CouldNotRead: when the system or the server reports an error.
        """


class Source(Readable, Protocol):
    """A file that can be read at any place by several threads at once."""

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Say which bytes this thread will read next, so that a slow source can fetch them in few large requests."""

    def close(self) -> None:
        """Give up the file."""


class RemotePlace(Protocol):
    """A file or a folder on a server, with as much of `pathlib.Path` as reading checkpoints takes.

    Equal places are equal and have one hash. `str` gives the address that a report names.
    """

    @property
    def name(self) -> str:
        """The last part of the path."""

    @property
    def parent(self) -> "RemotePlace":
        """The folder that it stands in."""

    @property
    def is_streamed(self) -> bool:
        """Whether its bytes come over the network as they are read, and are not on this machine by then."""

    def __truediv__(self, name: str) -> "RemotePlace":
        """Give the file or the folder of that name inside this folder."""

    def is_folder(self) -> bool:
        """Whether it is a folder. Raises CouldNotRead when nothing is there."""

    def is_absent(self) -> bool:
        """Whether nothing is there."""

    def names(self) -> Mapping[str, bool]:
        """The names in this folder, each with whether it is a folder itself."""

    def opened(self) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """The file, open for reading and seeking, and its size in bytes."""

    def source(self) -> Source:
        """The file's bytes for the audit."""

    def stored(self) -> Path | None:
        """The file on this machine, if its bytes are read from there."""

    def identity(self) -> str:
        """A text that differs for any two contents: what a journal of finished work is keyed by."""


Place = Path | RemotePlace


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` of a file."""

    file: Place
    start: int
    end: int
