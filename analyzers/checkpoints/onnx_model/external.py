"""Weights in files beside a model. Their names are attacker-chosen and must stay inside the model's own folder.

A link is followed only to where the model itself stands: beside it, or, as in the Hub's cache, beside what the model's
own name links to. Source: the comments on `external_data` in `onnx/onnx.proto`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.reading import is_absent, opened
from jaynes_audit.analyzers.errors import RefusedFile

LONGEST_FILE_NAME = 255  # bytes; NAME_MAX of every common file system
FETCH_AGAIN = "fetch all files of the model again"
DO_NOT_LOAD = "do not load this model"
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_UNSAFE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\0"), "holds a NUL byte"),
    (re.compile(r"://"), "is a URL"),
    (re.compile(r"^(?:[/\\]|[A-Za-z]:)"), "is an absolute path"),
    (re.compile(r"(?:^|[/\\])\.\.(?:$|[/\\])"), "leads out of the model's folder"),
    (re.compile(r"\\"), "leads into another folder on Windows"),
    (re.compile(r"^$|//|/$|(?:^|/)\.$"), "names no file"),
)


class Stretch(NamedTuple):
    """Bytes `start` to `end` of a file."""

    file: Place
    start: int
    end: int


class Neighbours:
    """The files beside a model, each looked at once."""

    def __init__(self, model: Place) -> None:
        self.model = model
        self._found: dict[str, tuple[Place, int] | RefusedFile] = {}

    def stretch(self, entries: Mapping[str, str], length: int) -> Stretch:
        """Where `length` bytes stand that a model describes by these entries.

        Raises:
            RefusedFile: JN004 when the place is none that a model may name or lies outside its file, JN005 when the
                file is not there, JN002 when it is no regular file.
            CouldNotRead: when the machine does not let it be opened.
        """
        location = entries.get("location", "")
        if location not in self._found:
            try:
                self._found[location] = self._looked_up(location)
            except RefusedFile as refusal:
                self._found[location] = refusal
        found = self._found[location]
        if isinstance(found, RefusedFile):
            raise found
        file, size = found
        start, declared = _number(entries, "offset", 0), _number(entries, "length", length)
        if declared != length:
            fault = f"{quoted(location)} is said to hold {declared:,} bytes of it and its shape needs {length:,}"
            raise _bad(fault, "onnx-size-mismatch")
        if start + length > size:
            fault = f"bytes {start:,} to {start + length:,} of {quoted(location)} are named, which has {size:,}"
            raise _bad(fault, "onnx-external-outside")
        return Stretch(file, start, start + length)

    def _looked_up(self, location: str) -> tuple[Place, int]:
        for pattern, fault in _UNSAFE:
            if pattern.search(location):
                raise _bad(f"its location {quoted(location)} {fault}", "onnx-unsafe-location", remedy=DO_NOT_LOAD)
        names = [name for name in location.split("/") if name != "."]
        if any(len(name.encode()) > LONGEST_FILE_NAME for name in names):
            raise _bad(f"its location {quoted(location)} is longer than a file name can be", "onnx-unsafe-location")
        file = self.model.parent
        for name in names:
            file = file / name
        if is_absent(file):
            sentence = f"the file {quoted(location)} that holds it is missing; {FETCH_AGAIN}"
            raise RefusedFile(sentence, rule="JN005", case="onnx-missing-file")
        if isinstance(file, Path) and isinstance(self.model, Path) and not _is_beside(file, self.model):
            fault = f"its location {quoted(location)} is a link that leads out of the model's folder"
            raise _bad(fault, "onnx-link-outside", remedy=DO_NOT_LOAD)
        with opened(file) as (_, size):
            return file, size


def _is_beside(file: Path, model: Path) -> bool:
    """Whether a file, all links followed, stands in the model's folder or in that of what the model's name links to."""
    folders = os.path.realpath(model.parent), Path(os.path.realpath(model)).parent
    return any(Path(os.path.realpath(file)).is_relative_to(folder) for folder in folders)


def _number(entries: Mapping[str, str], key: str, otherwise: int) -> int:
    text = entries.get(key, "")
    if text and not _NUMBER.fullmatch(text):
        raise _bad(f"its {key} {quoted(text)} is no number of bytes", "onnx-external-number")
    return int(text) if text else otherwise


def _bad(fault: str, case: str, *, remedy: str = FETCH_AGAIN) -> RefusedFile:
    return RefusedFile(f"{fault}; {remedy}", rule="JN004", case=case)
