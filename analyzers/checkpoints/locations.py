"""From what a user named to a checkpoint: a path on this machine, or a model on the Hugging Face Hub."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.families import is_weights
from jaynes_audit.analyzers.checkpoints.file_digests import files_of
from jaynes_audit.analyzers.checkpoints.hub.cache import cached_snapshot
from jaynes_audit.analyzers.checkpoints.hub.client import hub_client, is_offline
from jaynes_audit.analyzers.checkpoints.hub.location import SCHEME, HubLocation, hub_location
from jaynes_audit.analyzers.checkpoints.hub.patience import Patience
from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace, Mode, in_mode, is_cached, open_hub, weights_bytes
from jaynes_audit.analyzers.checkpoints.hub.verification import verify
from jaynes_audit.analyzers.checkpoints.opening import open_place
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_absent
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint
from jaynes_audit.analyzers.errors import CouldNotRead, UsageError

CACHED_UP_TO_BYTES = 10_000_000_000  # a model of up to five thousand million weights in bf16; a larger one is streamed


def _in_silence(sentence: str) -> None:
    del sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """How models on the Hub are read.

    `mode` None means through the cache up to CACHED_UP_TO_BYTES of weights, and whatever the cache holds already.
    With `headers_only` nothing but headers will be read, so nothing is worth storing. `verify` compares the bytes of
    every file of weights, and of every index, with the hash that the Hub lists. `tell` is given a sentence before a
    wait that takes long.
    """

    mode: Mode | None = None
    headers_only: bool = False
    verify: bool = False
    tell: Callable[[str], None] = _in_silence


def open_checkpoint(location: str, access: HubAccess | None = None) -> Checkpoint:
    """The checkpoint at a location, read as far as its headers: a path, or the name of a model on the Hub.

    A path that exists wins over a model of that name. Raises what `opening.open_place` and `hub.place.open_hub` do.
    """
    access = access or HubAccess()
    if not is_on_hub(location):
        if access.verify:
            raise UsageError(f"--verify asks the Hub for hashes, and {quoted(location)} is a path on this machine")
        checkpoint = open_place(Path(location))
        return replace(checkpoint, remarks=(*checkpoint.remarks, *_ambiguity(location)))
    try:
        return replace(_open_on_hub(hub_location(location), access), location=location)
    except CouldNotRead as error:
        if location.startswith(SCHEME):
            raise
        raise CouldNotRead(f"there is no path {quoted_path(location)} here, and of the Hub: {error}") from error


def is_on_hub(location: str) -> bool:
    """Whether a location names a model on the Hub: it says so, or it could and nothing of that path is here."""
    if location.startswith(SCHEME):
        return True
    path = Path(location)
    return _is_model_name(location) and is_absent(path) and not path.is_symlink() and not path.parent.is_dir()


def could_be_on_hub(target: str) -> bool:
    """Whether there could be a model on the Hub of just this name."""
    return _is_model_name(f"{SCHEME}{target}") and target.count("/") <= 1


def _is_model_name(text: str) -> bool:
    try:
        hub_location(text)
    except UsageError:
        return False
    return True


def _ambiguity(location: str) -> tuple[str, ...]:
    if not _is_model_name(location) or is_weights(Path(location).name):
        return ()
    return (f"{quoted(location)} is a path here, so the Hub was not asked; '{SCHEME}{location}' names a model there",)


def _open_on_hub(location: HubLocation, access: HubAccess) -> Checkpoint:
    if is_offline():
        return _open_offline(location, access)
    client = hub_client(patience=Patience(tell=access.tell))
    place = open_hub(location, Mode.CACHE, client)
    mode = access.mode or (Mode.STREAM if access.headers_only else None)
    checkpoint = _opened(place, mode) if mode else _opened_by_size(place)
    checkpoint = replace(checkpoint, commit=place.commit)
    if access.verify:
        files = [file for file in files_of(checkpoint) if isinstance(file, HubPlace)]
        checkpoint = replace(checkpoint, defects=(*checkpoint.defects, *verify(files)))
    return checkpoint


def _opened(place: HubPlace, mode: Mode) -> Checkpoint:
    return open_place(in_mode(place, mode))


def _opened_by_size(place: HubPlace) -> Checkpoint:
    """A small model through the cache, a large one in place: by the files that are read, not by all that are there."""
    limit = _gigabytes(CACHED_UP_TO_BYTES)
    if weights_bytes(place) > CACHED_UP_TO_BYTES and not is_cached(place):
        streamed = _opened(place, Mode.STREAM)
        size = sum(file.file.size_bytes for file in streamed.files if isinstance(file, HubPlace))
        if size > CACHED_UP_TO_BYTES:
            remark = f"read in place, nothing stored: {_gigabytes(size)} is more than {limit}; --cache stores the files"
            return replace(streamed, remarks=(*streamed.remarks, remark))
    cached = _opened(place, Mode.CACHE)
    remark = f"read through huggingface_hub's cache, as models of up to {limit} are; --stream stores nothing"
    return replace(cached, remarks=(*cached.remarks, remark))


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def _open_offline(location: HubLocation, access: HubAccess) -> Checkpoint:
    if access.mode is Mode.STREAM or access.verify:
        raise UsageError(
            "HF_HUB_OFFLINE allows no request, and --stream and --verify need some; unset it, or do without"
        )
    snapshot = cached_snapshot(location)
    checkpoint = open_place(snapshot.place)
    if any(defect.rule == "JN005" for defect in checkpoint.defects):
        lacking = listed(snapshot.missing) if snapshot.missing else "files"
        raise CouldNotRead(f"the cache lacks {lacking} of {quoted(location.repo)}; unset HF_HUB_OFFLINE to fetch them")
    remarks = [*checkpoint.remarks, "read from the cache alone, as HF_HUB_OFFLINE asks for"]
    return replace(checkpoint, commit=snapshot.commit, remarks=tuple(remarks))
