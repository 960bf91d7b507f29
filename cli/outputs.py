"""Where reports go: `-o FORMAT` to the standard output, `-o FORMAT=PATH` to a file."""

import os
import stat
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.exit_codes import ClosedPipe, CouldNotWrite

STANDARD_OUTPUT = "-"


class Format(StrEnum):
    """The formats of a report."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    SARIF = "sarif"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    GITHUB = "github"
    GITLAB = "gitlab"
    IGNORES = "ignores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A format and the file it goes to; no path is the standard output."""

    format: Format
    path: Path | None

    def check(self) -> None:
        """Find out before hours of reading that there is no folder to write to. Raises CouldNotWrite."""
        if self.path and self.path.is_dir():
            raise CouldNotWrite(f"{str(self.path)!r} is a folder; name a file in it")
        if self.path and not self.path.parent.is_dir():
            raise CouldNotWrite(f"there is no folder {str(self.path.parent)!r} to write {self.path.name!r} to")

    def write(self, text: str) -> None:
        """Put the text where it belongs, a file as a whole or not at all.

        Raises:
            CouldNotWrite: when the system does not allow it.
            ClosedPipe: when nobody reads the standard output any more.
        """
        try:
            if self.path is None:
                _write_standard_output(text.encode())
            else:
                _replace(self.path, text.encode())
        except BrokenPipeError as error:
            raise ClosedPipe("whoever read the output has gone") from error
        except OSError as error:
            where = repr(str(self.path)) if self.path else "the standard output"
            raise CouldNotWrite(f"{where} cannot be written: {error.strerror or error}") from error


def outputs_of(asked: Sequence[str], formats: Collection[Format]) -> tuple[Output, ...]:
    """Understand the values of `-o`. Raises UsageError for a format that is none, or two reports for one place."""
    outputs = tuple(_output(text, formats) for text in asked)
    places = [output.path and output.path.resolve() for output in outputs]
    for output, resolved in zip(outputs, places, strict=True):
        place = output.path
        if places.count(resolved) > 1:
            where = repr(str(place)) if place else "the standard output; give each but one a file: -o FORMAT=PATH"
            raise UsageError(f"two reports cannot both go to {where}")
    return outputs


def _output(text: str, formats: Collection[Format]) -> Output:
    name, separator, path = text.partition("=")
    if name not in formats:
        close = get_close_matches(name.lower(), list(formats), n=1)
        hint = f"; did you mean {str(close[0])!r}?" if close else f"; the formats are {', '.join(formats)}"
        raise UsageError(f"there is no format {name!r}{hint}")
    if separator and not path:
        raise UsageError(f"-o {text} names no file after the equals sign")
    return Output(format=Format(name), path=Path(path) if path not in {"", STANDARD_OUTPUT} else None)


def _write_standard_output(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _replace(path: Path, content: bytes) -> None:
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        path.write_bytes(content)  # a device or a pipe must stay what it is
        return
    target = path.resolve()  # what a symbolic link leads to, not the link
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(content)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
