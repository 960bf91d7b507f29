"""Model -> files: the containers in which a checkpoint is written, and what is cut off them."""

import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.faults.model import LARGEST_E4M3, Model, Stored, Tensors

SHARDS = 3
GGUF_ARCHITECTURES = frozenset({"llama", "qwen2", "gpt2", "bert"})
CONV1D = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
"""What GPT-2 stores with the inputs first."""
KEPT_PLAIN = ("embed", "wte", "wpe", "lm_head", "shared")
"""What a quantiser leaves as it is."""
TORCH_STORAGES = {
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "BOOL": "BoolStorage",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A container, and the number format of the matrices in it."""

    container: str
    dtype: str

    @property
    def words(self) -> str:
        """What it is called in a table."""
        return f"{self.container} {self.dtype.lower()}"


FORMATS = (
    Format(container="safetensors", dtype="F32"),
    Format(container="safetensors", dtype="BF16"),
    Format(container="safetensors", dtype="F16"),
    Format(container="sharded", dtype="BF16"),
    Format(container="PyTorch", dtype="F32"),
    Format(container="PyTorch", dtype="F16"),
    Format(container="GGUF", dtype="F16"),
    Format(container="GGUF", dtype="BF16"),
    Format(container="safetensors", dtype="F8_E4M3"),
)


def in_format(model: Model, form: Format) -> Model | None:
    """Give the model as the format would hold it; None where the format has no place for it."""
    if form.dtype == "F8_E4M3":
        return _in_fp8(model.cast("BF16")) if model.config.get("model_type") in GGUF_ARCHITECTURES else None
    if form.container == "GGUF":
        return _in_gguf(model, form.dtype) if model.config.get("model_type") in GGUF_ARCHITECTURES else None
    if form.container == "PyTorch" and any(each.dtype not in TORCH_STORAGES for each in model.tensors.values()):
        return None
    return model.cast(form.dtype)


def write(model: Model, container: str, folder: Path) -> Path:
    """Write a model, replacing what is there, and give what to audit."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    if model.config:
        (folder / "config.json").write_text(json.dumps(model.config), encoding="utf-8")
    match container:
        case "safetensors":
            write_safetensors(folder / "model.safetensors", model.tensors)
        case "sharded":
            _write_shards(folder, model.tensors)
        case "PyTorch":
            (folder / "pytorch_model.bin").write_bytes(_pickled(model.tensors))
        case "GGUF":
            _write_gguf(folder / "model.gguf", model)
            return folder / "model.gguf"
    return folder


def cut(folder: Path, share: float) -> str:
    """Cut a share of its bytes, at least one, off the greatest file of weights, and give its name."""
    file = max((each for each in folder.iterdir() if each.suffix != ".json"), key=lambda each: each.stat().st_size)
    size = file.stat().st_size
    os.truncate(file, size - max(1, int(share * size)))
    return file.name


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """Write one file, tensors in their order."""
    header = {}
    end = 0
    for name, stored in tensors.items():
        start, end = end, end + len(stored.data)
        header[name] = {"dtype": stored.dtype, "shape": list(stored.shape), "data_offsets": [start, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(stored.data for stored in tensors.values()))


def read_safetensors(path: Path) -> dict[str, Stored]:
    """Read one file, or the files of a folder."""
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        return {name: stored for file in files for name, stored in read_safetensors(file).items()}
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return {name: _entry(entry, content, 8 + length) for name, entry in header.items()}


def _entry(entry: dict[str, list[int]], content: bytes, start: int) -> Stored:
    first, last = entry["data_offsets"]
    return Stored(dtype=str(entry["dtype"]), shape=tuple(entry["shape"]), data=content[start + first : start + last])


def shards_of(names: Sequence[str]) -> list[list[str]]:
    """Cut names into runs of about equal length, a shard each."""
    bounds = [len(names) * at // SHARDS for at in range(SHARDS + 1)]
    return [list(names[start:end]) for start, end in pairwise(bounds)]


def _write_shards(folder: Path, tensors: Tensors) -> None:
    weight_map = {}
    for at, names in enumerate(shards_of(list(tensors)), start=1):
        file = f"model-{at:05}-of-{SHARDS:05}.safetensors"
        write_safetensors(folder / file, {name: tensors[name] for name in names})
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": sum(len(each.data) for each in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _pickled(tensors: Tensors) -> bytes:
    from tests.support import pytorch_files as torch

    def rebuilt(key: str, stored: Stored) -> bytes:
        kind = torch.name("torch", TORCH_STORAGES[stored.dtype])
        strides = tuple(int(np.prod(stored.shape[axis + 1 :])) for axis in range(len(stored.shape)))
        return torch.tensor(torch.storage(key, stored.weights, kind), 0, stored.shape, strides)

    pickle = torch.pickled({name: rebuilt(str(at), stored) for at, (name, stored) in enumerate(tensors.items())})
    return torch.checkpoint(pickle, {str(at): stored.data for at, stored in enumerate(tensors.values())})


# ---- GGUF


def _in_gguf(model: Model, dtype: str) -> Model | None:
    import gguf

    architecture = str(model.config["model_type"]).upper()
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture), model.layers)

    def converted(tensors: Tensors) -> dict[str, Stored]:
        return {
            new: _for_gguf(name, stored, model).cast(dtype if len(stored.shape) > 1 else "F32")
            for name, stored in tensors.items()
            if (new := names.get_name(name.removeprefix("bert."), try_suffixes=(".weight", ".bias")))
            and not name.startswith("cls.")
        }

    made = converted(model.tensors)
    return replace(
        model,
        tensors=made,
        initial=converted(model.initial),
        earlier=tuple(converted(each) for each in model.earlier),
        following=converted(model.following),
    )


def _for_gguf(name: str, stored: Stored, model: Model) -> Stored:
    """Turn what llama.cpp's converter turns: the inputs of GPT-2's matrices, the rotary pairs of Llama's."""
    if name.endswith(CONV1D):
        return stored.holding(stored.values.T)
    part = name.split(".")[-2]
    heads = {"q_proj": model.heads, "k_proj": model.setting("num_key_value_heads")}.get(part)
    if model.config["model_type"] != "llama" or heads is None:
        return stored
    values = stored.values
    halves = values.reshape(heads, 2, -1, *values.shape[1:])
    return stored.holding(halves.swapaxes(1, 2).reshape(values.shape))


def _write_gguf(path: Path, model: Model) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, str(model.config["model_type"]))
    writer.add_block_count(model.layers)
    writer.add_embedding_length(model.width)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.setting("num_key_value_heads") or model.heads)
    for name, stored in model.tensors.items():
        kind = gguf.GGMLQuantizationType[stored.dtype]
        octets = np.frombuffer(stored.data, np.uint8)
        rows = octets.reshape(*stored.shape[:-1], -1)
        writer.add_tensor(name, rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- FP8


def _in_fp8(model: Model) -> Model:
    arguments = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": arguments}},
        "ignore": ["lm_head"],
    }
    return replace(
        model,
        config={**model.config, "quantization_config": settings},
        tensors=dict(_quantised(model.tensors)),
        initial=dict(_quantised(model.initial)),
        earlier=tuple(dict(_quantised(each)) for each in model.earlier),
        following=dict(_quantised(model.following)),
    )


def _quantised(tensors: Tensors) -> Iterator[tuple[str, Stored]]:
    """FP8 with a scale for each matrix, as compressed-tensors stores it."""
    for name, stored in tensors.items():
        if not stored.is_matrix or len(stored.shape) != 2 or any(part in name for part in KEPT_PLAIN):  # noqa: PLR2004
            yield name, stored
            continue
        values = stored.values
        scale = np.float32(np.abs(values).max() / LARGEST_E4M3 or 1.0)
        yield name, replace(stored, dtype="F8_E4M3").holding(values / scale)
        yield f"{name}_scale", Stored(dtype="F32", shape=(1,), data=scale.tobytes())
