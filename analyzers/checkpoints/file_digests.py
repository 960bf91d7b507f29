"""Checkpoint -> the SHA-256 of every file that it was read from."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.families import is_index, look_into
from jaynes_audit.analyzers.checkpoints.hub.digests import fed
from jaynes_audit.analyzers.checkpoints.hub.location import hub_location
from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace
from jaynes_audit.analyzers.checkpoints.hub.verification import FILES_AT_ONCE
from jaynes_audit.analyzers.checkpoints.index import read_index
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.reading import is_folder, opened
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint
from jaynes_audit.analyzers.errors import RefusedFile

DIGEST_MISMATCH = "JN007"


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedFiles:
    """The SHA-256 of files, 64 hexadecimal digits each, by their path from the folder that the target is or lies in.

    A path has slashes on every machine; what cannot be told from there is called by its whole path.
    """

    folder: Place
    sha256: Mapping[str, str]

    def address(self, name: str) -> str:
        """Give what a report calls the file of this name, be it there or not."""
        return str(self.folder / name)


def hashed_files(checkpoint: Checkpoint, *, at_once: int = FILES_AT_ONCE) -> HashedFiles:
    """Hash the files of weights and of indexes that a checkpoint was read from, each in order from its first byte.

    Of files on the Hub that were compared with its listing, as `HubAccess.verify` asks for, the listed hash is taken
    where there is one. Memory: 16 MiB for each of the files that are read at once.

    Raises:
        CouldNotRead: when a file cannot be read to its end.
        RefusedFile: JN002 when it is no regular file any more.
    """
    if not checkpoint.files:
        return HashedFiles(folder=Path(checkpoint.location), sha256={})
    folder = _folder_of(checkpoint)
    places = {_path_from(folder, place): place for place in files_of(checkpoint)}
    damaged = frozenset(defect.file for defect in checkpoint.defects if defect.rule == DIGEST_MISMATCH)
    with ThreadPoolExecutor(at_once) as threads:
        digests = threads.map(lambda place: _sha256(place, is_as_listed=str(place) not in damaged), places.values())
        return HashedFiles(folder=folder, sha256=dict(zip(places, digests, strict=True)))


def files_of(checkpoint: Checkpoint) -> tuple[Place, ...]:
    """Give the files that weights are read from, those that tensors only refer to among them, and their indexes."""
    of_tensors = (
        span.file for tensor in checkpoint.tensors if tensor.stored_bytes for span in tensor.needs(0, tensor.bytes)
    )
    weights = tuple(dict.fromkeys([*checkpoint.files, *of_tensors]))
    return tuple(dict.fromkeys([*weights, *_indexes(weights)]))


def _indexes(files: Iterable[Place]) -> Iterator[Place]:
    """The indexes beside the files that name one of them. One that cannot be read is a defect of the checkpoint."""
    names: dict[Place, set[str]] = {}
    for file in files:
        names.setdefault(file.parent, set()).add(file.name)
    for folder, weights in names.items():
        for name in filter(is_index, look_into(folder).files):
            try:
                index = read_index(folder / name)
            except RefusedFile:
                continue
            if not weights.isdisjoint(index.shards):
                yield folder / name


def _folder_of(checkpoint: Checkpoint) -> Place:
    on_hub = next((file for file in checkpoint.files if isinstance(file, HubPlace)), None)
    target: Place = Path(checkpoint.location)
    if on_hub:
        target = replace(on_hub, path=hub_location(checkpoint.location).path)
    return target if is_folder(target) else target.parent


def _path_from(folder: Place, file: Place) -> str:
    if isinstance(folder, HubPlace) and isinstance(file, HubPlace):
        return file.path.removeprefix(f"{folder.path}/")
    if isinstance(folder, Path) and isinstance(file, Path) and file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    return str(file)


def _sha256(place: Place, *, is_as_listed: bool) -> str:
    if isinstance(place, HubPlace) and place.file.sha256 and is_as_listed:
        return place.file.sha256
    with opened(place) as (stream, size):
        return fed(hashlib.sha256(), stream, size).hexdigest()
