"""The metadata of distributed checkpoints, damaged, beside files that are as torch wrote them."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.places import Place, Source
from jaynes_audit.analyzers.checkpoints.pytorch.distributed import METADATA, read_distributed
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.errors import CouldNotRead
from tests.support.fuzzing import MOST_ELEMENTS, FileInMemory, Fuzz, read_tensor
from tests.support.pytorch_files import FIXTURES
from tests.support.pytorch_pickle_damages import PICKLE_DAMAGES

FOLDERS = ("dcp_single", "dcp_ranks", "dcp_safetensors")
FILES: Mapping[str, Mapping[str, bytes]] = {
    folder: {path.name: path.read_bytes() for path in sorted((FIXTURES / folder).glob("*.distcp"))}
    for folder in FOLDERS
}


@dataclass(frozen=True, slots=True)
class PlaceInMemory:
    """A folder of files that lie in memory, or one of them."""

    folder: str
    metadata: bytes
    name: str = ""

    @property
    def parent(self) -> "PlaceInMemory":
        """The folder."""
        return PlaceInMemory(self.folder, self.metadata)

    def __truediv__(self, name: str) -> "PlaceInMemory":
        """A file of the folder."""
        return PlaceInMemory(self.folder, self.metadata, name)

    def __str__(self) -> str:
        return self.name

    @property
    def content(self) -> bytes:
        """What the file holds."""
        return self.metadata if self.name == METADATA else FILES[self.folder][self.name]

    def is_folder(self) -> bool:
        """Whether it is the folder itself."""
        return not self.name

    def is_absent(self) -> bool:
        """Whether there is no such file."""
        return self.name not in {METADATA, *FILES[self.folder]}

    def names(self) -> Mapping[str, bool]:
        """The files of the folder."""
        return dict.fromkeys((METADATA, *FILES[self.folder]), False)

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, int]]:
        """The file and its size."""
        if self.is_absent():
            raise CouldNotRead(f"{self.name} is not there")
        yield io.BytesIO(self.content), len(self.content)

    @property
    def is_streamed(self) -> bool:
        """It is here already."""
        return False

    def stored(self) -> None:
        """Nowhere."""

    def source(self) -> Source:
        """The file's bytes."""
        return FileInMemory(self.content)

    def identity(self) -> str:
        """Its name, for they never change."""
        return self.name


class SourcesOfPlaces(Sources):
    """The files of one folder in memory."""

    def of_file(self, file: Place) -> Source:
        """The file itself."""
        assert isinstance(file, PlaceInMemory)
        return file.source()


def corpus() -> tuple[bytes, ...]:
    """The metadata that torch writes. The last byte, behind the pickle, tells the folder."""
    return tuple((FIXTURES / folder / METADATA).read_bytes() + bytes([index]) for index, folder in enumerate(FOLDERS))


def read(content: bytes) -> None:
    """Read the metadata and the headers that they lead to, and then every element."""
    folder = FOLDERS[content[-1] % len(FOLDERS)] if content else FOLDERS[0]
    weights = read_distributed(PlaceInMemory(folder, content[:-1]))
    assert sum(prod(tensor.shape) for tensor in weights.tensors) <= MOST_ELEMENTS
    with SourcesOfPlaces(Io.PREAD) as sources:
        for tensor in weights.tensors:
            read_tensor(tensor, sources)


FUZZ = Fuzz(corpus=corpus, read=read, damages=PICKLE_DAMAGES)
