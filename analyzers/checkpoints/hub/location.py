"""Names of models on the Hub, as people write them.

The grammar of `hf://` is that of huggingface_hub:
https://huggingface.co/docs/huggingface_hub/package_reference/hf_uris
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.errors import UsageError

SCHEME = "hf://"
DEFAULT_REVISION = "main"
LONGEST_REPO = 96  # characters, the Hub's own limit
OTHER_KINDS = ("datasets", "spaces", "kernels", "buckets")

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_PART}(?:/{_PART})?")
_BEFORE_REVISION = re.compile(r"[^/@]*(?:/[^/@]*)?")
_SLASHED_REVISION = re.compile(r"refs/(?:pr/\d+|convert/[\w.-]+)(?=/|$)", re.ASCII)
"""The revisions that may stand with their slashes, as huggingface_hub reads them."""

_NOT_IN_A_REVISION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|//|^[/-]|/$|\.lock$")
"""What git forbids in the name of a branch or a tag (git-check-ref-format)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLocation:
    """A model on the Hub, or a folder or a file of it. `revision` is a branch, a tag or a commit; `path` may be ""."""

    repo: str
    revision: str = DEFAULT_REVISION
    path: str = ""

    def __str__(self) -> str:
        """The address that gives the same location again."""
        slashed = _SLASHED_REVISION.fullmatch(self.revision) is not None
        needed = self.revision != DEFAULT_REVISION or (self.path and "/" not in self.repo)
        at = f"@{quote(self.revision, safe='/' if slashed else '')}" if needed else ""
        return f"{SCHEME}{self.repo}{at}" + (f"/{self.path}" if self.path else "")


def hub_location(text: str) -> HubLocation:
    """Read `org/name`, `org/name@revision`, or `hf://org/name@revision/folder/file`.

    A revision ends at the first slash, unless it is `refs/pr/1` or `refs/convert/parquet`: write other slashes in it
    as %2F. A model whose name has no organisation is `hf://gpt2`, and `hf://gpt2@main/file` when something follows.

    Raises:
        UsageError: when it is no name of a model.
    """
    if "://" in text and not text.startswith(SCHEME):
        raise UsageError(f"{quoted_path(text)} is a web address; name the model as 'org/name' or '{SCHEME}org/name'")
    if not text.startswith(SCHEME):
        return _plain(text)
    rest = text.removeprefix(SCHEME).rstrip("/")
    kind, slash, after = rest.partition("/")
    if kind in OTHER_KINDS:
        raise UsageError(f"{quoted_path(text)} is one of the Hub's {kind}; only models hold weights to audit")
    if kind == "models" and slash:
        rest = after
    repo, revision, path = _split(rest)
    return _checked(text, HubLocation(repo=repo, revision=revision, path=path))


def _plain(text: str) -> HubLocation:
    repo, revision, path = _split(text)
    if "/" not in repo and _is_repo(repo):
        raise UsageError(f"{quoted(text)} has no organisation; write '{SCHEME}{repo}' if a model of that name is meant")
    if path:
        raise UsageError(
            f"{quoted_path(text)} goes on after the model's name; write '{SCHEME}org/name@revision/folder' for a "
            "folder, and %2F for a slash in a revision"
        )
    return _checked(text, HubLocation(repo=repo, revision=revision))


def _split(text: str) -> tuple[str, str, str]:
    """Take apart what stands before the revision, the revision, and what stands after it."""
    match = _BEFORE_REVISION.match(text)
    repo = match[0] if match else ""
    rest = text[len(repo) :]
    if not rest.startswith("@"):
        return repo, DEFAULT_REVISION, rest.removeprefix("/")
    slashed = _SLASHED_REVISION.match(rest, 1)
    if slashed:
        return repo, slashed[0], rest[slashed.end() + 1 :]
    revision, _, path = rest[1:].partition("/")
    return repo, unquote(revision), path


def _checked(text: str, location: HubLocation) -> HubLocation:
    repo, revision, path = location.repo, location.revision, location.path
    if not _is_repo(repo):
        raise UsageError(
            f"{quoted(repo)} is no name of a model on the Hub; write 'org/name', with letters, digits and single "
            "'-', '_' and '.'"
        )
    if not revision or _NOT_IN_A_REVISION.search(revision):
        raise UsageError(
            f"{quoted(revision)} in {quoted_path(text)} is no revision; name a branch, a tag or a commit after the '@'"
        )
    if path and (_CONTROL.search(path) or not {"", ".", ".."}.isdisjoint(path.split("/"))):
        raise UsageError(f"{quoted_path(path)} is no path inside a model; name a folder or a file of it")
    return location


def _is_repo(repo: str) -> bool:
    return (
        _REPO.fullmatch(repo) is not None
        and len(repo) <= LONGEST_REPO
        and "--" not in repo
        and ".." not in repo
        and not repo.endswith(".git")
    )
