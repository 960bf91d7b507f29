"""One commit of a model on the Hub: which files it holds, how large, and with what digests."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from jaynes_audit.analyzers.checkpoints.hub.client import Client
from jaynes_audit.analyzers.checkpoints.hub.errors import Asked
from jaynes_audit.analyzers.checkpoints.hub.location import HubLocation
from jaynes_audit.analyzers.errors import CouldNotRead

MOST_FILES = 1_000_000  # the Hub asks for fewer than 100,000 in a repository
MOST_PAGES = 2_000  # of 1,000 rows each, folders among them
MOST_FOLDERS = 100_000  # each is stored with its whole path
LONGEST_PATH_BYTES, LONGEST_NAME_BYTES = 4096, 255  # of Linux: PATH_MAX and NAME_MAX in linux/limits.h
MOST_NAMES = 64  # in a path; repositories have a handful
LARGEST_FILE_BYTES = (1 << 63) - 1  # of any file system

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_IN_A_PATH = re.compile(r"[\0\ud800-\udfff]")  # no file can have them


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a commit. Either digest may be "": large files have a sha256, those that git holds its blob's id."""

    path: str
    size_bytes: int
    sha256: str = ""
    git_blob: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A model at one commit, from which nothing that is read through it can depart.

    `folders` maps every folder, "" for the root, to the names in it, each with whether it is a folder itself.
    """

    client: Client = field(compare=False, repr=False)
    repo: str
    revision: str = field(compare=False, repr=False)
    commit: str
    files: Mapping[str, HubFile] = field(compare=False, repr=False)
    folders: Mapping[str, Mapping[str, bool]] = field(compare=False, repr=False)

    def asked(self, path: str = "") -> Asked:
        """Say what is asked, for the sentences about errors."""
        return self.client.asked(self.repo, revision=self.revision, commit=self.commit, path=path)


def open_repository(location: HubLocation, client: Client) -> Repository:
    """Pin the commit that the location's revision stands for now, and list its files.

    Raises:
        CouldNotRead: when there is no such model or revision for this token, or the Hub cannot be asked.
    """
    asked = client.asked(location.repo, revision=location.revision)
    commit = _commit(asked, client)
    asked = replace(asked, commit=commit)
    files = _listed(asked, client)
    return Repository(
        client=client,
        repo=location.repo,
        revision=location.revision,
        commit=commit,
        files=files,
        folders=_folders(files, asked),
    )


def _commit(asked: Asked, client: Client) -> str:
    url = f"{client.endpoint}/api/models/{asked.repo}/revision/{quote(asked.revision, safe='')}"
    info, _ = client.get_json(url, asked)
    commit = info.get("sha") if isinstance(info, dict) else None
    if not _matches(_COMMIT, commit):
        raise _senseless(asked)
    return str(commit)


def _listed(asked: Asked, client: Client) -> dict[str, HubFile]:
    url = f"{client.endpoint}/api/models/{asked.repo}/tree/{asked.commit}?recursive=true"
    files: dict[str, HubFile] = {}
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) >= MOST_PAGES or len(files) > MOST_FILES:
            raise CouldNotRead(f"the Hub's list of the files of {asked} has no end; check HF_ENDPOINT")
        seen.add(url)
        rows, url = client.get_json(url, asked)
        if not isinstance(rows, list):
            raise _senseless(asked)
        for row in rows:
            file = _file(row)
            if file is None or file.path in files:
                raise _senseless(asked)
            if file.path:
                files[file.path] = file
    return files


def _file(row: object) -> HubFile | None:
    """One row of a listing: a file, one without a path for what is none, and None when it makes no sense."""
    if not isinstance(row, dict):
        return None
    if row.get("type") != "file":
        return HubFile(path="", size_bytes=0)
    path, size, lfs = row.get("path"), row.get("size"), row.get("lfs")
    if not isinstance(path, str) or not _is_path(path):
        return None
    if type(size) is not int or not 0 <= size <= LARGEST_FILE_BYTES:
        return None
    if not lfs:
        blob = row.get("oid")
        return HubFile(path=path, size_bytes=size, git_blob=str(blob)) if _matches(_COMMIT, blob) else None
    digest = lfs.get("oid") if isinstance(lfs, dict) else None
    return HubFile(path=path, size_bytes=size, sha256=str(digest)) if _matches(_SHA256, digest) else None


def _is_path(text: str) -> bool:
    if _NOT_IN_A_PATH.search(text) or len(text.encode()) > LONGEST_PATH_BYTES:
        return False
    names = text.split("/")
    return len(names) <= MOST_NAMES and all(
        name not in {"", ".", ".."} and len(name.encode()) <= LONGEST_NAME_BYTES for name in names
    )


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _senseless(asked: Asked) -> CouldNotRead:
    return CouldNotRead(f"the Hub's answer about {asked} is not what a Hub answers; check HF_ENDPOINT")


def _folders(files: Mapping[str, HubFile], asked: Asked) -> dict[str, dict[str, bool]]:
    """The folders that the files stand in. Raises CouldNotRead when they are too many, or one is a file too."""
    folders: dict[str, dict[str, bool]] = {"": {}}
    for path in files:
        folder, _, name = path.rpartition("/")
        is_folder = False
        while name and name not in folders.setdefault(folder, {}):
            folders[folder][name] = is_folder
            folder, _, name = folder.rpartition("/")
            is_folder = True
        if len(folders) > MOST_FOLDERS:
            raise CouldNotRead(f"{asked} has more than {MOST_FOLDERS:,} folders, which no model has; check HF_ENDPOINT")
    if not files.keys().isdisjoint(folders):
        raise _senseless(asked)
    return folders
