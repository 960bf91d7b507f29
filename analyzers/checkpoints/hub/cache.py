"""The cache that huggingface_hub shares among all programs, and what of a model is in it."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.hub.client import TRIES_TO_BEGIN, bounded
from jaynes_audit.analyzers.checkpoints.hub.digests import digest, listed_digest
from jaynes_audit.analyzers.checkpoints.hub.errors import gave_up, not_downloaded
from jaynes_audit.analyzers.checkpoints.hub.location import HubLocation
from jaynes_audit.analyzers.checkpoints.hub.patience import Attempts, Interrupted
from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile, Repository
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.reading import translated
from jaynes_audit.analyzers.errors import CouldNotRead

TELL_FROM_BYTES = 1_000_000  # less is there before anyone wonders


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSnapshot:
    """What the cache holds of a model: a folder or a file on this machine, and the commit that it belongs to.

    `missing` are the files of that commit that the cache knows of and does not hold. It knows of none where only
    single files were fetched.
    """

    place: Path
    commit: str
    missing: tuple[str, ...]


def cached_path(repository: Repository, file: HubFile) -> Path | None:
    """Say where the cache holds a file; None when it does not hold it, or not all of it. Raises CouldNotRead."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - half a second that local audits do not need

    found = try_to_load_from_cache(repository.repo, file.path, revision=repository.commit)
    if not isinstance(found, str):
        return None
    with translated(Path(found)):
        return Path(found) if Path(found).stat().st_size == file.size_bytes else None


def downloaded(repository: Repository, file: HubFile) -> Path:
    """Give a file in the cache, downloaded when it is not there.

    Raises:
        CouldNotRead: when the Hub does not give it, or the machine cannot store it.
    """
    path = cached_path(repository, file) or _download(repository, file)
    _remember(repository)
    return path


def _download(repository: Repository, file: HubFile) -> Path:
    """Download a file and compare it with the listing, which huggingface_hub does by its size alone."""
    client, asked = repository.client, repository.asked(file.path)
    if file.size_bytes >= TELL_FROM_BYTES:
        client.patience.tell(f"downloading {asked} into the cache: {file.size_bytes:,} bytes")
    attempts = Attempts(client.patience, unreachable_tries=TRIES_TO_BEGIN)
    while True:
        try:
            return _as_listed(_fetched(repository, file), file)
        except Interrupted as failure:
            if not attempts.wait(failure, what=asked):
                raise gave_up(asked, failure) from None


def _fetched(repository: Repository, file: HubFile) -> Path:
    from huggingface_hub import constants, hf_hub_download  # noqa: PLC0415 - as above
    from huggingface_hub.utils.tqdm import silent_tqdm  # noqa: PLC0415

    client = repository.client
    try:
        with bounded(client.patience):
            return Path(
                hf_hub_download(
                    repository.repo,
                    file.path,
                    revision=repository.commit,
                    endpoint=client.endpoint,
                    token=client.token or False,
                    tqdm_class=silent_tqdm,
                )
            )
    except Exception as error:  # noqa: BLE001 - of huggingface_hub, httpx, hf_xet or the system: each ends here
        raise not_downloaded(repository.asked(file.path), error, cache=constants.HF_HUB_CACHE) from None


def _as_listed(path: Path, file: HubFile) -> Path:
    """Give a downloaded file, or remove it where it is not what the listing names. Raises Interrupted."""
    with translated(path), path.open("rb") as stream:
        found = digest(stream, file)
    if found == listed_digest(file):
        return path
    with translated(path):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
    raise Interrupted(
        "what was downloaded has another digest than the Hub lists, and was removed from the cache",
        advice="run it again; if it stays so, look at what stands between the Hub and here",
    )


def _remember(repository: Repository) -> None:
    """Note in the cache what the revision stands for, as huggingface_hub does, so that it is found offline too."""
    from huggingface_hub import constants  # noqa: PLC0415 - as above
    from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415

    if repository.revision == repository.commit:
        return
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository.repo, repo_type="model")
    reference = folder / "refs" / repository.revision
    with suppress(OSError):  # a cache that cannot be written serves all the same
        if reference.exists() and reference.read_text() == repository.commit:
            return
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(repository.commit)


def cached_snapshot(location: HubLocation) -> CachedSnapshot:
    """Find a model in the cache alone, as HF_HUB_OFFLINE asks for.

    Raises:
        CouldNotRead: when nothing of that revision is in the cache.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - as above
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = snapshot_download(location.repo, revision=location.revision, local_files_only=True)
    except IncompleteSnapshotError as error:
        folder = error.snapshot_path
    except LocalEntryNotFoundError:
        raise CouldNotRead(
            f"{quoted(location.repo)} at {quoted(location.revision)} is not in the cache; unset HF_HUB_OFFLINE to "
            "fetch it, or name a commit that is"
        ) from None
    commit = Path(folder).name
    return CachedSnapshot(place=Path(folder, location.path), commit=commit, missing=_missing(location, Path(folder)))


def _missing(location: HubLocation, folder: Path) -> tuple[str, ...]:
    from huggingface_hub import get_cached_repo_tree  # noqa: PLC0415 - as above
    from huggingface_hub.errors import CachedRepoTreeNotFoundError  # noqa: PLC0415

    try:
        listed = get_cached_repo_tree(location.repo, revision=folder.name)
    except CachedRepoTreeNotFoundError:
        return ()
    return tuple(sorted(file.path for file in listed if not (folder / file.path).exists()))
