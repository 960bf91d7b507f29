"""Small checkpoints on disk, in every format, and what the reader would say of them."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaynes_audit.analyzers.checkpoints import Checkpoint, Tensor
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support.weights import encoded, packed


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor to be written: its bytes, and what they are."""

    dtype: Dtype
    shape: tuple[int, ...]
    content: bytes


def stored(values: object, dtype: Dtype = Dtype.F32) -> Stored:
    """Real numbers in a format; of an array that has its format already, the array itself."""
    numbers = np.asarray(values)
    if dtype in {Dtype.C64, Dtype.I64, Dtype.BOOL}:
        return Stored(dtype, numbers.shape, numbers.tobytes())
    return Stored(dtype, numbers.shape, packed(encoded(numbers, dtype), dtype))


def raw(codes: np.ndarray, dtype: Dtype, shape: tuple[int, ...] | None = None) -> Stored:
    """Codes as they are."""
    return Stored(dtype, codes.shape if shape is None else shape, packed(codes, dtype))


def write_file(path: Path, tensors: Mapping[str, Stored]) -> tuple[Tensor, ...]:
    """Write a safetensors file, whose data begin at an odd address, and give its tensors."""
    header, data, places = {}, b"", []
    for name, each in tensors.items():
        place = [len(data), len(data) + len(each.content)]
        header[name] = {"dtype": each.dtype.value, "shape": each.shape, "data_offsets": place}
        places.append(place)
        data += each.content
    written = json.dumps(header).encode()
    written += b" " * (len(written) % 2 == 0)
    path.write_bytes(struct.pack("<Q", len(written)) + written + data)
    first = 8 + len(written)
    return tuple(
        Tensor(name=name, dtype=each.dtype, shape=each.shape, file=path, start=first + start, end=first + end)
        for (name, each), (start, end) in zip(tensors.items(), places, strict=True)
    )


def checkpoint(folder: Path, *files: Mapping[str, Stored], config: Mapping[str, object] | None = None) -> Checkpoint:
    """A checkpoint of one file or several shards."""
    paths = [folder / f"model-{number}.safetensors" for number in range(len(files))]
    tensors = [tensor for path, file in zip(paths, files, strict=True) for tensor in write_file(path, file)]
    return Checkpoint(
        location=str(folder), tensors=tuple(tensors), files=tuple(paths), configs={"": config} if config else {}
    )
