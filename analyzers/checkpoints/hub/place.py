"""Models on the Hub as folders and files: read in place, or through the cache."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from jaynes_audit.analyzers.checkpoints.hub.cache import cached_path, downloaded
from jaynes_audit.analyzers.checkpoints.hub.client import Client, hub_client
from jaynes_audit.analyzers.checkpoints.hub.location import SCHEME, HubLocation
from jaynes_audit.analyzers.checkpoints.hub.ranges import RangeReader
from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile, Repository, open_repository
from jaynes_audit.analyzers.checkpoints.hub.streaming import WINDOW_BYTES, RemoteFile, Windows, opened_stream
from jaynes_audit.analyzers.checkpoints.places import Source
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.windows import Io, open_source
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile

COMMIT_SHOWN = 12  # hexadecimal digits that tell one commit of a model from all its others


class Mode(StrEnum):
    """Whether files are read in place, with nothing stored, or downloaded into huggingface_hub's cache first."""

    STREAM = "stream"
    CACHE = "cache"


class Reading(Protocol):
    """How the files of a repository are read."""

    def opened(self, file: HubFile) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """The file, open for reading and seeking, and its size in bytes."""

    def source(self, file: HubFile) -> Source:
        """The file's bytes for the audit."""

    def stored(self, file: HubFile) -> Path | None:
        """The file on this machine; None where it is read in place."""


class Streamed:
    """Reads files in place. Each thread holds no more than about `window_bytes`."""

    def __init__(self, repository: Repository, *, window_bytes: int = WINDOW_BYTES) -> None:
        self._reader = RangeReader(repository)
        self._windows = Windows(self._reader, window_bytes)

    @contextmanager
    def opened(self, file: HubFile) -> Iterator[tuple[BinaryIO, int]]:
        """Fetch no more of the file than is read."""
        with opened_stream(file, self._reader) as stream:
            yield stream, file.size_bytes

    def source(self, file: HubFile) -> Source:
        """Fetch what is announced, in windows."""
        return RemoteFile(file, self._windows)

    def stored(self, file: HubFile) -> None:
        """Nowhere."""


class Cached:
    """Reads files from the cache, and downloads those that are not there."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def opened(self, file: HubFile) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """Open the file in the cache."""
        return opened(downloaded(self._repository, file))

    def source(self, file: HubFile) -> Source:
        """Map the file in the cache."""
        return open_source(downloaded(self._repository, file), Io.MMAP)

    def stored(self, file: HubFile) -> Path:
        """In the cache, downloaded when it is not there."""
        return downloaded(self._repository, file)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A folder or a file of a model at one commit; `path` is "" for the model's root."""

    repository: Repository
    path: str = ""
    reading: Reading = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "HubPlace":
        """The folder that it stands in; the root is its own."""
        return replace(self, path=self.path.rpartition("/")[0])

    @property
    def commit(self) -> str:
        """The commit that all is read from, 40 hexadecimal digits."""
        return self.repository.commit

    @property
    def is_streamed(self) -> bool:
        """Whether it is read in place."""
        return isinstance(self.reading, Streamed)

    def __truediv__(self, name: str) -> "HubPlace":
        return replace(self, path=f"{self.path}/{name}" if self.path else name)

    def __str__(self) -> str:
        """The address, with the commit in short."""
        address = f"{SCHEME}{self.repository.repo}@{self.commit[:COMMIT_SHOWN]}"
        return f"{address}/{self.path}" if self.path else address

    def is_folder(self) -> bool:
        """Whether it is a folder. Raises CouldNotRead when nothing is there."""
        if self.is_absent():
            raise self._absent()
        return self.path in self.repository.folders

    def is_absent(self) -> bool:
        """Whether nothing is there."""
        return self.path not in self.repository.files and self.path not in self.repository.folders

    def names(self) -> Mapping[str, bool]:
        """The names in this folder, each with whether it is a folder itself. Raises CouldNotRead when it is none."""
        if self.path not in self.repository.folders:
            raise self._absent()
        return self.repository.folders[self.path]

    def opened(self) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """The file, open for reading and seeking, and its size in bytes. Raises CouldNotRead and RefusedFile."""
        return self.reading.opened(self.file)

    def source(self) -> Source:
        """The file's bytes for the audit. Raises CouldNotRead and RefusedFile."""
        return self.reading.source(self.file)

    def stored(self) -> Path | None:
        """The file on this machine, downloaded when it is not there; None where it is read in place."""
        return self.reading.stored(self.file)

    def identity(self) -> str:
        """The digest that the Hub names a file by; for a folder, its path and commit."""
        file = self.repository.files.get(self.path)
        if file is None:
            return f"{self.commit}/{self.path}"
        return f"sha256:{file.sha256}" if file.sha256 else f"git:{file.git_blob}"

    @property
    def file(self) -> HubFile:
        """The file that the listing has here.

        Raises:
            CouldNotRead: when nothing is here.
            RefusedFile: JN002 when it is a folder.
        """
        file = self.repository.files.get(self.path)
        if file is not None:
            return file
        if self.is_absent():
            raise self._absent()
        raise RefusedFile(
            "this is a folder and not a file; name a file with weights", rule="JN002", case="not-a-regular-file"
        )

    def _absent(self) -> CouldNotRead:
        beside = sorted(self.repository.folders.get(self.path.rpartition("/")[0], ()))
        hint = f"; beside it are {listed(beside)}" if beside else ""
        return CouldNotRead(f"there is no {quoted_path(self.path)} in {quoted_path(self.parent)}{hint}")


def open_hub(location: HubLocation, mode: Mode, client: Client | None = None) -> HubPlace:
    """Pin a model's commit, list its files, and give the place that the location names.

    Raises:
        CouldNotRead: when the Hub does not give the model, or nothing stands at the location's path.
    """
    repository = open_repository(location, client or hub_client())
    place = HubPlace(repository=repository, path=location.path, reading=_reading(repository, mode))
    place.is_folder()  # or it is absent, and says so
    return place


def in_mode(place: HubPlace, mode: Mode) -> HubPlace:
    """Give the same place, read in this way."""
    return replace(place, reading=_reading(place.repository, mode))


def _reading(repository: Repository, mode: Mode) -> Reading:
    return Streamed(repository) if mode is Mode.STREAM else Cached(repository)


def files_under(place: HubPlace) -> tuple[HubFile, ...]:
    """Give the file at a place, or all files in a folder and below it."""
    path = place.path
    return tuple(
        file
        for file in place.repository.files.values()
        if not path or file.path == path or file.path.startswith(f"{path}/")
    )


def weights_bytes(place: HubPlace) -> int:
    """Say how many bytes an audit of a place may have to read at most: its large files, for those hold the weights."""
    return sum(file.size_bytes for file in files_under(place) if file.sha256)


def is_cached(place: HubPlace) -> bool:
    """Whether the cache holds every large file of a place, so that nothing of weight must be downloaded."""
    return all(cached_path(place.repository, file) for file in files_under(place) if file.sha256)
