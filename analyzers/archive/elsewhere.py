"""Weights that are not at hand: the files and the encoding of tensors that a sketch archive tells of."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, NoReturn

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Place, Source, Span
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.errors import CouldNotRead

NO_WEIGHTS = "a sketch archive holds no weights of {}; name the checkpoint itself"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A file by its address alone. Whatever path an archive names, nothing is ever opened there."""

    address: str

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self.address).name

    @property
    def parent(self) -> "Elsewhere":
        """The folder that it stands in."""
        return Elsewhere(str(PurePosixPath(self.address).parent))

    @property
    def is_streamed(self) -> bool:
        """No byte of it comes over a network."""
        return False

    def __truediv__(self, name: str) -> "Elsewhere":
        return Elsewhere(f"{self.address}/{name}")

    def is_folder(self) -> bool:
        """It stands for a file."""
        return False

    def is_absent(self) -> bool:
        """It is not here."""
        return True

    def names(self) -> Mapping[str, bool]:
        """Nothing is in it."""
        return {}

    def opened(self) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """Raise CouldNotRead."""
        self._refuse()

    def source(self) -> Source:
        """Raise CouldNotRead."""
        self._refuse()

    def stored(self) -> None:
        """Nothing of it is on this machine."""

    def identity(self) -> str:
        """The address."""
        return self.address

    def _refuse(self) -> NoReturn:
        raise CouldNotRead(NO_WEIGHTS.format(quoted_path(self.address)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderElsewhere:
    """How a tensor was stored: its quantiser, the tensors it is made of, and their bytes. It decodes nothing."""

    scheme: Scheme | None
    parts: tuple[str, ...]
    file: Place
    stored_bytes: int

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """All of its bytes, whatever is asked for."""
        del first, stop
        return (Span(self.file, 0, self.stored_bytes),)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Raise CouldNotRead, as reading the file does."""
        read(self.file, first, stop)
        raise CouldNotRead(NO_WEIGHTS.format(quoted_path(self.file)))
