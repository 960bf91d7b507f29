"""How a file is opened: only when it is a regular one, and with the machine's refusals told in words."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile

SPECIAL_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


@contextmanager
def opened(path: Place) -> Iterator[tuple[BinaryIO, int]]:
    """The file, open for reading at its first byte, and its size in bytes. Symbolic links are followed.

    Raises:
        RefusedFile: JN002 for a pipe, a device, a socket or a folder. None is ever opened: a pipe would wait for ever.
        CouldNotRead: when the file is missing or the machine does not let it be read.
    """
    if not isinstance(path, Path):
        with path.opened() as (stream, size):
            yield stream, size
        return
    mode = mode_of(path)
    if not stat.S_ISREG(mode):
        kind = SPECIAL_KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise RefusedFile(
            f"this is {kind} and not a file; name a file with weights", rule="JN002", case="not-a-regular-file"
        )
    with translated(path), path.open("rb") as stream:
        yield stream, os.fstat(stream.fileno()).st_size


def mode_of(path: Path) -> int:
    """What kind of thing stands at `path`, symbolic links followed, as `stat` encodes it.

    Raises:
        CouldNotRead: when nothing stands there, or the machine does not tell.
    """
    with translated(path):
        try:
            return path.stat().st_mode
        except ValueError:  # a NUL byte, or half of a surrogate pair
            raise CouldNotRead(f"{quoted_path(path)} is not a path that a file can have; correct it") from None


def is_folder(path: Place) -> bool:
    """Whether a folder stands at `path`. Raises CouldNotRead as `mode_of` does."""
    return stat.S_ISDIR(mode_of(path)) if isinstance(path, Path) else path.is_folder()


def identity(file: Place) -> str:
    """A text that tells contents of files apart: on this machine by their path, size and times of change.

    Raises CouldNotRead when the machine does not tell.
    """
    if not isinstance(file, Path):
        stored = file.stored()
        return file.identity() if stored is None else identity(stored)
    with translated(file):
        status = file.stat()
        times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
        return f"{file.resolve()} {status.st_size} {times} {status.st_dev} {status.st_ino}"


def is_absent(path: Place) -> bool:
    """Whether nothing stands at `path`, or only a symbolic link to nothing."""
    if not isinstance(path, Path):
        return path.is_absent()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no file can have this path
        return True
    except OSError:  # something stands there; opening it tells what keeps it from being read
        return False
    return False


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into a sentence for the user.

    Raises:
        CouldNotRead: in place of any OSError.
    """
    try:
        yield
    except FileNotFoundError:
        raise CouldNotRead(f"{quoted_path(path)} does not exist") from None
    except PermissionError as error:
        raise CouldNotRead(f"no permission to read {quoted_path(path)}; change its access rights") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CouldNotRead(
                f"{quoted_path(path)} is a symbolic link that leads back to itself; remove it or point it at the file"
            ) from error
        raise CouldNotRead(f"{quoted_path(path)} cannot be read: {error.strerror}") from error
