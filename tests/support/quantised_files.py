"""Quantised checkpoints in memory: built from arrays, opened as the audit opens them, and read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import BinaryIO

import numpy as np

from jaynes_audit.analyzers.checkpoints.places import Source
from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from jaynes_audit.analyzers.checkpoints.quantised.decoder import Quantised
from jaynes_audit.analyzers.checkpoints.safetensors_header import header_length, parse_header
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import BITS, Dtype
from tests.support.fuzzing import FileInMemory, read_tensor
from tests.support.safetensors_files import entry, safetensors


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """A file that is its content."""

    content: bytes
    name: str = "model.safetensors"

    @property
    def parent(self) -> "MemoryPlace":
        return self

    def __truediv__(self, name: str) -> "MemoryPlace":
        return MemoryPlace(b"", name)

    def is_folder(self) -> bool:
        return False

    def is_absent(self) -> bool:
        return False

    def names(self) -> Mapping[str, bool]:
        return {}

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, int]]:
        yield BytesIO(self.content), len(self.content)

    @property
    def is_streamed(self) -> bool:
        """It is here already."""
        return False

    def stored(self) -> None:
        """Nowhere."""

    def source(self) -> Source:
        return FileInMemory(self.content)

    def identity(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor to be stored."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes


_DTYPES = {"float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8", "int16": "I16", "int32": "I32"}
_DTYPES |= {"int64": "I64", "uint32": "U32", "float64": "F64"}


def part(name: str, array: np.ndarray, dtype: str = "") -> Part:
    """An array as it is stored, under another dtype where NumPy has none for it."""
    return Part(name, dtype or _DTYPES[array.dtype.name], array.shape, array.tobytes())


def words(array: np.ndarray) -> np.ndarray:
    """Unsigned words as PyTorch stores them, which has signed ones only."""
    return array.astype(np.uint32).view(np.int32)


def file_of(parts: Sequence[Part], config: object = None) -> bytes:
    """A safetensors file of these tensors, with a config.json in its metadata if there is one."""
    header: dict[str, object] = {} if config is None else {"__metadata__": {"config": json.dumps(config)}}
    at = 0
    for each in parts:
        header[each.name] = entry(each.dtype, each.shape, [at, at + len(each.content)])
        at += len(each.content)
    return safetensors(header, b"".join(each.content for each in parts))


def opened(content: bytes) -> Checkpoint:
    """The checkpoint that a file is, as it is stored."""
    length, place = header_length(content, len(content)), MemoryPlace(content)
    header = parse_header(content[8 : 8 + length], file=place, file_size=len(content))
    config = json.loads(header.metadata.get("config", "{}"))
    return Checkpoint(location="memory", tensors=header.tensors, files=(place,), configs={"": config})


def dequantised_file(parts: Sequence[Part], settings: Mapping[str, object] | None = None) -> Checkpoint:
    """The checkpoint of these tensors and this quantization_config, dequantised."""
    return dequantised(opened(file_of(parts, {"quantization_config": settings} if settings else None)))


def only(checkpoint: Checkpoint) -> Tensor:
    """The only tensor, which nothing is wrong with."""
    assert dict(checkpoint.undecoded) == {}
    (tensor,) = checkpoint.tensors
    return tensor


def decoder_of(tensor: Tensor) -> Quantised:
    """A tensor's decoder."""
    assert isinstance(tensor.decoder, Quantised)
    return tensor.decoder


def weights(tensor: Tensor) -> np.ndarray:
    """All elements of a tensor, in its shape, read as an audit would."""
    assert tensor.dtype is Dtype.F32
    with Sources(Io.PREAD) as sources:
        return np.frombuffer(read_tensor(tensor, sources), np.float32).reshape(tensor.shape)


def codes(tensor: Tensor) -> np.ndarray:
    """The quantiser's codes of all elements."""
    assert isinstance(tensor.file, MemoryPlace)
    file = FileInMemory(tensor.file.content)
    decoded = decoder_of(tensor).decode(lambda _, start, end: file.read(start, end), 0, prod(tensor.shape))
    assert decoded.codes is not None
    return decoded.codes.reshape(tensor.shape)


# ---- one small checkpoint of random bytes for each way of storing


def _random(name: str, dtype: str, *shape: int, seed: int = 0) -> Part:
    """Random bytes; floats stay near one, so that what is made of them is finite."""
    dice = np.random.default_rng([seed, *name.encode()])
    if dtype in {"F16", "F32"}:
        array = dice.uniform(0.5, 2, shape).astype({"F16": np.float16, "F32": np.float32}[dtype])
        return Part(name, dtype, shape, array.tobytes())
    if dtype == "E8":
        return Part(name, "U8", shape, dice.integers(100, 140, shape).astype(np.uint8).tobytes())
    return Part(name, dtype, shape, dice.bytes(prod(shape) * BITS[Dtype(dtype)] // 8))


def _state(name: str, kind: str, **state: object) -> Part:
    text = json.dumps({"quant_type": kind, **state}).encode()
    return Part(f"{name}.quant_state.bitsandbytes__{kind}", "U8", (len(text),), text)


def _shape(name: str, *shape: int) -> Part:
    return part(name, np.array(shape))


def _compressed(bits: int) -> tuple[list[Part], dict[str, object]]:
    parts = [_random("m.weight_packed", "I32", 6, 3 * bits), _random("m.weight_scale", "F16", 6, 4)]
    parts += [_shape("m.weight_shape", 6, 96), _random("m.weight_zero_point", "I32", -(-6 * bits // 32), 4)]
    return parts, {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": bits}}}}


def _gptq(bits: int) -> tuple[list[Part], dict[str, object]]:
    parts = [_random("m.qweight", "I32", 2 * bits, 32), _random("m.qzeros", "I32", 4, bits)]
    parts += [_random("m.scales", "F16", 4, 32), part("m.g_idx", (np.arange(64)[::-1] % 4).astype(np.int32))]
    return parts, {"quant_method": "gptq", "checkpoint_format": "gptq_v2" if bits == 2 else "gptq"}


def _bitsandbytes() -> tuple[list[Part], dict[str, object]]:
    state = {"blocksize": 8, "shape": [9, 13], "nested_blocksize": 4, "nested_offset": 0.25}
    parts = [_random("m.weight", "U8", 59, 1), _random("m.weight.absmax", "U8", 15), _state("m.weight", "nf4", **state)]
    parts += [_random("m.weight.nested_absmax", "F32", 4), _random("m.weight.nested_quant_map", "F32", 256)]
    return [*parts, _random("m.weight.quant_map", "F32", 16)], {}


SMALL: dict[str, tuple[list[Part], dict[str, object]]] = {
    "fp8 blocks": (
        [_random("m.weight", "F8_E4M3", 2, 9, 13), _random("m.weight_scale_inv", "F32", 2, 3, 4)],
        {"weight_block_size": [4, 4]},
    ),
    "fp8 rows": ([_random("m.weight", "F8_E5M2", 5, 7), _random("m.weight_scale", "F32", 5, 1)], {}),
    "int8": (
        [
            _random("m.weight", "I8", 5, 7),
            _random("m.weight_scale", "F32", 5, 1),
            _random("m.weight_zero_point", "I8", 5, 1),
        ],
        {},
    ),
    "fp4 in int8": ([_random("m.weight", "I8", 5, 32), _random("m.weight_scale_inv", "E8", 5, 2)], {}),
    "bitsandbytes int8": (
        [_random("m.weight", "I8", 5, 7), _random("m.SCB", "F32", 5), part("m.weight_format", np.array(0, np.uint8))],
        {},
    ),
    "gpt-oss": ([_random("m.up_blocks", "U8", 2, 5, 2, 16), _random("m.up_scales", "E8", 2, 5, 2)], {}),
    "gpt-oss of OpenAI": ([_random("m.up.blocks", "U8", 2, 5, 2, 16), _random("m.up.scales", "E8", 2, 5, 2)], {}),
    "mxfp4": ([_random("m.weight_packed", "U8", 5, 32), _random("m.weight_scale", "E8", 5, 2)], {}),
    "mxfp6": ([_random("m.weight_packed", "U8", 5, 48), _random("m.weight_scale", "E8", 5, 2)], {}),
    "nvfp4": (
        [
            _random("m.weight_packed", "U8", 5, 16),
            _random("m.weight_scale", "F8_E4M3", 5, 2),
            _random("m.weight_global_scale", "F32", 1),
        ],
        {},
    ),
    "modelopt": (
        [
            _random("m.weight", "U8", 5, 16),
            _random("m.weight_scale", "F8_E4M3", 5, 2),
            _random("m.weight_scale_2", "F32"),
        ],
        {"quant_method": "modelopt"},
    ),
    **{f"compressed-tensors {bits}": _compressed(bits) for bits in range(2, 9)},
    **{f"gptq {bits}": _gptq(bits) for bits in (2, 3, 4, 8)},
    "awq": (
        [_random("m.qweight", "I32", 12, 2), _random("m.qzeros", "I32", 3, 2), _random("m.scales", "F16", 3, 16)],
        {"quant_method": "awq", "version": "gemm"},
    ),
    "bitsandbytes nf4": _bitsandbytes(),
}
"""For each way of storing one weight: what is stored, and the quantization_config."""


def small(kind: str) -> bytes:
    """The file of one of SMALL."""
    parts, settings = SMALL[kind]
    return file_of(parts, {"quantization_config": settings})
