"""What the files of a commit hold, and how git names it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.hub.synthetic import Synthetic

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".npz", ".tflite", ".ckpt")
"""What a model repository's usual .gitattributes gives to LFS, the formats of weights among it."""

LARGEST_GIT_FILE = 10 * 1024**2
"""Bytes; the Hub refuses to keep a larger file in git itself, whatever its name."""

PIECE = 1 << 20
"""Bytes read from a disk at a time."""

Piece = bytes | memoryview


class Content(Protocol):
    """Bytes that are handed out piece by piece, so that a file of any size can be served."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The bytes `[start, end)`, in order, in pieces of any length."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """Content that is at hand."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The bytes `[start, end)` in one piece."""
        yield memoryview(self.data)[start:end]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The content of a file, which must stay as it was when it was committed."""

    file: Path
    size: int

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The bytes `[start, end)`, never more than a piece of them in memory."""
        with self.file.open("rb") as stream:
            stream.seek(start)
            for at in range(start, end, PIECE):
                yield stream.read(min(PIECE, end - at))


@dataclass(frozen=True, slots=True)
class Slice:
    """The bytes `[start, end)` of other content."""

    whole: Content
    start: int
    end: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The bytes `[start, end)`, counted from the beginning of the slice."""
        return self.whole.pieces(self.start + start, self.start + end)


@dataclass(frozen=True, slots=True)
class Rotated:
    """Other content, every byte of which is the one that stands `by` bytes later; after the end comes the beginning."""

    whole: Content
    by: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.whole.size

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The bytes `[start, end)`."""
        size = self.whole.size
        while start < end:
            at = (start + self.by) % size
            length = min(end - start, size - at)
            yield from self.whole.pieces(at, at + length)
            start += length


@dataclass(frozen=True, slots=True)
class Corrupted:
    """Other content with one bit flipped, in the byte in its middle."""

    whole: Content

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.whole.size

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The bytes `[start, end)`."""
        middle = self.whole.size // 2
        for piece in self.whole.pieces(start, end):
            if start <= middle < start + len(piece):
                flipped = bytearray(piece)
                flipped[middle - start] ^= 0x10
                yield bytes(flipped)
            else:
                yield piece
            start += len(piece)


def read(content: Content) -> bytes:
    """All the bytes, in memory."""
    return b"".join(content.pieces(0, content.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedFile:
    """One file of a commit. `oid` is its git blob id; `sha256` is there when LFS keeps it, then git has a pointer."""

    path: str
    content: Content
    oid: str
    sha256: str | None

    @property
    def etag(self) -> str:
        """What the Hub gives as ETag of the file."""
        return self.oid if self.sha256 is None else self.sha256


def committed_file(path: str, source: bytes | Path | Synthetic) -> CommittedFile:
    """The file as a commit holds it: under LFS when its name or its size asks for it, and when it is synthetic."""
    content = _content(source)
    if not (isinstance(content, Synthetic) or path.endswith(LFS_SUFFIXES) or content.size > LARGEST_GIT_FILE):
        return CommittedFile(path=path, content=content, oid=_git_blob_id(content), sha256=None)
    sha256 = content.sha256 if isinstance(content, Synthetic) else _digest(content, hashlib.sha256())
    pointer = InMemory(lfs_pointer(sha256, content.size))
    return CommittedFile(path=path, content=content, oid=_git_blob_id(pointer), sha256=sha256)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """What git keeps in place of an LFS file. Source: the Git LFS specification, "The Pointer"."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _content(source: bytes | Path | Synthetic) -> Content:
    match source:
        case bytes():
            return InMemory(source)
        case Path():
            return OnDisk(source, source.stat().st_size)
        case _:
            return source


def _git_blob_id(content: Content) -> str:
    return _digest(content, hashlib.sha1(b"blob %d\0" % content.size, usedforsecurity=False))


def _digest(content: Content, hasher: "hashlib._Hash") -> str:
    for piece in content.pieces(0, content.size):
        hasher.update(piece)
    return hasher.hexdigest()
