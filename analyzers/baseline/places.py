"""Where baselines lie: in a file, or in a version of one that git has."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jaynes_audit.analyzers.baseline.entry import STATISTICS, StoredBaseline
from jaynes_audit.analyzers.baseline.text import from_text
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.errors import CouldNotRead, UsageError

MOST_BYTES = 512 << 20  # a million layers
GIT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a baseline, and where they were read."""

    content: bytes
    place: str


def read_baseline(place: str) -> StoredBaseline:
    """Read the baseline at a path, or at REVISION:PATH in git. Errors are those of `read_content` and `from_text`."""
    read = read_content(place)
    return from_text(read.content, read.place)


def read_comparable(place: str) -> StoredBaseline:
    """Read a baseline that can be compared. Raises what `read_baseline` does, and UsageError where it cannot be."""
    stored = read_baseline(place)
    if not stored.is_comparable:
        raise UsageError(
            f"{quoted_path(place)} has statistics of version {stored.baseline.statistics}, and this is version "
            f"{STATISTICS}: nothing can be held against it; write it again from the model that it was made of"
        )
    return stored


def read_content(place: str) -> Content:
    """Read the bytes at a path, or at REVISION:PATH in the git repository of the working directory.

    No file takes the place of a version, whatever its name: whoever changes the model could have put it there. PATH
    counts from the working directory. Raises UsageError where there is no such file or version, CouldNotRead where it
    cannot be read.
    """
    if not is_git_reference(place):
        return Content(content=_of_file(Path(place)), place=place)
    revision, _, path = place.partition(":")
    return Content(content=_of_revision(revision, path), place=place)


def is_git_reference(place: str) -> bool:
    """Whether a place is REVISION:PATH, and no path with a colon in it: such a one begins with `/`, `./` or `../`."""
    revision, _, path = place.partition(":")
    return bool(revision and path) and not revision.startswith(("/", "./", "../"))


def refuse_place(path: Path) -> None:
    """Find out before hours of reading that no baseline can be written to `path`.

    Raises UsageError: a baseline is never replaced by writing one, for that would approve whatever changed.
    """
    if os.path.lexists(path):
        raise UsageError(f"{quoted_path(path)} exists; 'jaynes baseline update' changes what you accept, line by line")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {quoted_path(path.parent)} to write the baseline to; make it first")


def write_baseline(path: Path, text: str) -> None:
    """Write a new baseline, as a whole or not at all. Raises UsageError as `refuse_place` does, and CouldNotRead."""
    refuse_place(path)
    draft = _drafted(path, text)
    try:
        os.link(draft, path)  # fails where a file has appeared since, which to replace it would not
    except FileExistsError:
        refuse_place(path)
    except OSError:  # a file system without hard links
        _replaced(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def rewrite_baseline(path: Path, text: str) -> None:
    """Put another text in place of a baseline, as a whole or not at all. Raises CouldNotRead when it cannot."""
    target = path.resolve()  # what a symbolic link leads to, not the link
    draft = _drafted(target, text)
    try:
        _replaced(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _drafted(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(text.encode())
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CouldNotRead(f"{quoted_path(path)} cannot be written: {error.strerror or error}") from error
    return draft


def _replaced(draft: Path, target: Path) -> None:
    try:
        draft.replace(target)
    except OSError as error:
        raise CouldNotRead(f"{quoted_path(target)} cannot be written: {error.strerror or error}") from error


def _of_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        missing = f"there is no baseline {quoted_path(path)}; make it with 'jaynes baseline write' and commit it"
        raise UsageError(missing) from None
    except IsADirectoryError:
        raise UsageError(f"{quoted_path(path)} is a folder; name the baseline in it") from None
    except ValueError:
        raise UsageError(f"{quoted_path(path)} is no name that a file could have") from None
    except OSError as error:
        raise CouldNotRead(f"{quoted_path(path)} cannot be read: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise _too_large(path)
    return content


def _too_large(path: Path | str) -> UsageError:
    most = f"{MOST_BYTES >> 20:,} MiB"
    return UsageError(f"{quoted_path(path)} has more than {most}; no baseline is so large, so name another file")


def _of_revision(revision: str, path: str) -> bytes:
    if revision.startswith("-"):
        raise UsageError(f"{quoted(revision)} is no revision of git: it begins as an option does; name a branch or tag")
    _git("rev-parse", "--git-dir", otherwise="the working directory is not in a git repository; name a file instead")
    unknown = f"git has no revision {quoted(revision)} here; fetch it (a shallow clone has only the last one)"
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", otherwise=unknown)
    absent = f"revision {quoted(revision)} has no file {quoted_path(path)}, counted from the working directory"
    named = f"{commit.decode().strip()}:./{os.path.relpath(path)}"
    size = _git("cat-file", "-s", named, otherwise=absent)
    if int(size) > MOST_BYTES:
        raise _too_large(path)
    folder = f"{quoted_path(path)} is no file in revision {quoted(revision)}; name the baseline in it"
    return _git("cat-file", "blob", named, otherwise=folder)


def _git(*arguments: str, otherwise: str) -> bytes:
    """What git answers. Raises UsageError with `otherwise` where it says no, and where there is no git."""
    command = ["git", "--no-pager", *arguments]
    english = {**os.environ, "LC_ALL": "C"}  # for the one message that is looked at
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=GIT_SECONDS, env=english)  # noqa: S603
    except FileNotFoundError:
        raise UsageError("git is not installed, and REVISION:PATH is read through it; name a file instead") from None
    except ValueError:  # a zero byte in a name
        raise UsageError(otherwise) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CouldNotRead(f"git does not answer: {quoted(str(error))}; try it again") from error
    if done.returncode:
        refusal = done.stderr.decode(errors="replace")
        if "dubious ownership" in refusal:
            raise CouldNotRead("git refuses a repository of another owner; see 'git help config', safe.directory")
        raise UsageError(otherwise)
    return done.stdout
