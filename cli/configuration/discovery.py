"""Which configuration file holds for a run, and that none is taken from what is being audited."""

import glob
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.checkpoints.reading import SPECIAL_KINDS
from jaynes_audit.analyzers.errors import UsageError

OWN_FILE = "jaynes.toml"
SHARED_FILE = "pyproject.toml"
OWN_TABLE = "[tool.jaynes]"
OWN_NAME = b"jaynes"  # without it a pyproject.toml is none of our business, sound or not
REPOSITORY = ".git"  # a folder, or a file in a worktree or a submodule
LARGEST_BYTES = 1 << 18  # some thousand ignores
LONGEST_REASON = 160
MOST_DOTS_IN_A_LINE = 100  # the time that tomllib takes for a key grows with the square of its parts


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationFile:
    """Where a configuration file is, what it is called in reports, its table, and whether it was found or named."""

    path: Path
    label: str
    table: Mapping[str, object]
    was_found: bool

    def place(self, path: str) -> str:
        """Say where a path in the table stands."""
        return f"{quoted_path(self.path)}, at `{path}`"


def found_from(folder: Path) -> ConfigurationFile | None:
    """Find the file that holds in a folder: the nearest one, up to the root of the repository that it lies in.

    In each folder jaynes.toml goes before a pyproject.toml with the table [tool.jaynes]. Outside a repository only the
    folder itself is looked at: above it anybody may have put a file. Raises UsageError for one that cannot be read.
    """
    for above in _up_to_repository(folder):
        own, shared = above / OWN_FILE, above / SHARED_FILE
        if os.path.lexists(own):
            return ConfigurationFile(path=own, label=OWN_FILE, table=_parsed(own, _content(own)), was_found=True)
        content = _content(shared) if os.path.lexists(shared) else b""
        table = _own_table(shared, content) if OWN_NAME in content else None
        if table is not None:
            return ConfigurationFile(path=shared, label=f"{SHARED_FILE} {OWN_TABLE}", table=table, was_found=True)
    return None


def named(name: str, folder: Path) -> ConfigurationFile:
    """Read the file that somebody named, by a path that counts from a folder.

    Raises UsageError when it cannot be read, or is a pyproject.toml that says nothing to jaynes.
    """
    path = folder / name
    if path.name != SHARED_FILE:
        return ConfigurationFile(path=path, label=name, table=_parsed(path, _content(path)), was_found=False)
    table = _own_table(path, _content(path))
    if table is None:
        raise UsageError(f"{quoted_path(path)} has no table [tool.jaynes]; add it, or name another file")
    return ConfigurationFile(path=path, label=f"{name} {OWN_TABLE}", table=table, was_found=False)


def refuse_audited(file: ConfigurationFile, targets: Iterable[str], folder: Path) -> None:
    """Refuse a file that was found inside of what is being audited: a stranger may have written it.

    A target's folder is the target itself or, of a file, the one that it lies in. Symbolic links are followed.
    Paths count from `folder`. Raises UsageError.
    """
    homes = {Path(os.path.realpath(file.path.parent)), Path(os.path.realpath(file.path)).parent}
    for target in targets:
        for audited in _folders(target, folder):
            if any(home.is_relative_to(audited) for home in homes):
                raise UsageError(
                    f"{quoted_path(file.path)} lies in the folder that is being audited, where a stranger may have put "
                    f"it; give --config {file.path.name} if it is yours, else --no-config"
                )


def _up_to_repository(folder: Path) -> Iterator[Path]:
    way = (folder, *folder.parents)
    root = next((above for above in way if os.path.lexists(above / REPOSITORY)), folder)
    yield from way[: way.index(root) + 1]


def _folders(target: str, folder: Path) -> Iterator[Path]:
    """The folders, symbolic links resolved, whose content a target means. A target that is not here has none."""
    for match in _matches(target, folder):
        if os.path.isdir(match):  # noqa: PTH112 - Path.is_dir() raises where permission is lacking
            yield Path(os.path.realpath(match))
        else:
            yield Path(os.path.realpath(match.parent))
            yield Path(os.path.realpath(match)).parent


def _matches(target: str, folder: Path) -> Sequence[Path]:
    path = folder / target
    if os.path.lexists(path):
        return [path]
    try:
        return [folder / match for match in glob.glob(target, root_dir=folder, recursive=True)]  # noqa: PTH207 - as a target
    except ValueError:  # a NUL byte: what opens the target says so
        return []


def _content(path: Path) -> bytes:
    where = quoted_path(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = SPECIAL_KINDS.get(stat.S_IFMT(mode), "no regular file")
            raise UsageError(
                f"{where} is {kind} and not a configuration file; remove it, or name another: --config PATH"
            )
        with path.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no file can have such a path"
        raise UsageError(f"the configuration {where} cannot be read: {why}; correct it, or give --no-config") from None
    if len(content) > LARGEST_BYTES:
        raise UsageError(f"{where} has more than {LARGEST_BYTES:,} bytes, as no configuration has; shorten it")
    return content


def _own_table(path: Path, content: bytes) -> Mapping[str, object] | None:
    """[tool.jaynes] of a pyproject.toml, if it is there."""
    tool = _parsed(path, content).get("tool", {})
    table = tool.get("jaynes") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{quoted_path(path)}: tool.jaynes is no table; write [tool.jaynes] above its keys")
    return table


def _parsed(path: Path, content: bytes) -> Mapping[str, object]:
    where = quoted_path(path)
    for number, line in enumerate(content.splitlines(), start=1):
        if line.count(b".") > MOST_DOTS_IN_A_LINE:
            raise UsageError(
                f"{where}: line {number:,} has more than {MOST_DOTS_IN_A_LINE} dots; break it into several"
            )
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line_number = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{where} is not UTF-8, as TOML must be (line {line_number:,}); save it as UTF-8") from None
    except RecursionError:
        raise UsageError(f"{where} nests its values too deeply; write them flat") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {_shortened(str(error))}; correct it there") from None
    except ValueError:  # what int() says of very many digits
        raise UsageError(f"{where} holds a number of too many digits; shorten it") from None


def _shortened(told: str) -> str:
    """What tomllib says, which quotes keys of any length; it ends with where it is."""
    return told if len(told) <= LONGEST_REASON else f"{told[: LONGEST_REASON // 2]}…{told[-LONGEST_REASON // 4 :]}"
