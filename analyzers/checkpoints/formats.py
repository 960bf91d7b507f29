"""The file formats that weights are read from. A new one is a module beside this one and a line in FORMATS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.foreign import PROBE
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.safetensors_header import looks_like_safetensors, read_safetensors
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: how its first bytes look in a file of a given size, and how its tensors are found."""

    name: str
    looks_like: Callable[[bytes, int], bool]
    read: Callable[[BinaryIO, Path, int], WeightFile]


FORMATS: tuple[Format, ...] = (Format("safetensors", looks_like_safetensors, read_safetensors),)


def open_weights(path: Path) -> WeightFile:
    """The tensors of one file, whose format is told by its content and never by its name.

    Raises:
        RefusedFile: when the file is not what it claims to be, or is of no format in FORMATS.
        CouldNotRead: when the machine does not let it be read.
    """
    with opened(path) as (stream, size):
        head = stream.read(PROBE)
        stream.seek(0)
        # What no format claims goes to the first: safetensors' refusal tells what such a file is.
        chosen = next((each for each in FORMATS if each.looks_like(head, size)), FORMATS[0])
        return chosen.read(stream, path, size)
