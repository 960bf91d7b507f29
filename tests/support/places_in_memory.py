"""Folders and files that exist in memory alone, in the place of those on a server."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.places import Source
from tests.support.fuzzing import FileInMemory


@dataclass(frozen=True, kw_only=True)
class PlaceInMemory:
    """A place among files by their paths."""

    files: Mapping[str, bytes] = field(compare=False, repr=False)
    path: str = ""
    is_streamed: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "PlaceInMemory":
        return replace(self, path=self.path.rpartition("/")[0])

    def __truediv__(self, name: str) -> "PlaceInMemory":
        return replace(self, path=f"{self.path}/{name}" if self.path else name)

    def __str__(self) -> str:
        return f"memory://{self.path}"

    def is_folder(self) -> bool:
        return self.path not in self.files

    def is_absent(self) -> bool:
        return self.is_folder() and not self.names()

    def names(self) -> Mapping[str, bool]:
        inside = f"{self.path}/" if self.path else ""
        below = [path.removeprefix(inside) for path in self.files if path.startswith(inside)]
        return {path.partition("/")[0]: "/" in path for path in below}

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, int]]:
        content = self.files[self.path]
        yield io.BytesIO(content), len(content)

    def source(self) -> Source:
        return FileInMemory(self.files[self.path])

    def stored(self) -> None:
        return None

    def identity(self) -> str:
        return self.path
