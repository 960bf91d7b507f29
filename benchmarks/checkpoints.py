"""The checkpoints that the benchmarks read, built once outside the repository from a fixed seed."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

SEED = 20231006
POOL_WEIGHTS = 1 << 23  # normal numbers drawn once; each tensor takes a run of them from a place of its own

Shapes = dict[str, tuple[int, ...]]


def llama_shapes(*, layers: int, hidden: int, feed_forward: int, vocabulary: int) -> Shapes:
    """Name and shape of every tensor of a Llama-shaped model."""
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        for projection in "qkvo":
            shapes[f"{block}.self_attn.{projection}_proj.weight"] = (hidden, hidden)
        for projection, shape in {
            "gate": (feed_forward, hidden),
            "up": (feed_forward, hidden),
            "down": (hidden, feed_forward),
        }.items():
            shapes[f"{block}.mlp.{projection}_proj.weight"] = shape
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{block}.{norm}.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    shapes["lm_head.weight"] = (vocabulary, hidden)
    return shapes


def expert_shapes(count: int) -> Shapes:
    """Name and shape of the many small experts of a mixture."""
    kinds = ("gate", "up", "down")
    return {
        f"model.layers.{i // 768}.mlp.experts.{i // 3 % 256}.{kinds[i % 3]}_proj.weight": (64, 64) for i in range(count)
    }


RECIPES: dict[str, tuple[str, Shapes]] = {
    "llama-bf16": ("BF16", llama_shapes(layers=16, hidden=2048, feed_forward=6144, vocabulary=32000)),
    "llama-f32": ("F32", llama_shapes(layers=16, hidden=1024, feed_forward=2816, vocabulary=22000)),
    "experts": ("BF16", expert_shapes(46_000)),
}
"""1.00e9 bf16 weights in 2.0 GB, 0.25e9 float32 weights in 1.0 GB, and 46,000 tensors of 64 x 64."""

ITEM_BYTES = {"BF16": 2, "F32": 4}


def build(folder: Path, name: str) -> Path:
    """Write a benchmark checkpoint unless it is there already, and say where it is."""
    file = folder / f"{name}.safetensors"
    dtype, shapes = RECIPES[name]
    header = _header(dtype, shapes)
    size = len(header) + sum(int(np.prod(shape)) for shape in shapes.values()) * ITEM_BYTES[dtype]
    if file.exists() and file.stat().st_size == size:
        return file
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(header)
        for run in _weights(dtype, shapes):
            stream.write(memoryview(run))
    return file


def _header(dtype: str, shapes: Shapes) -> bytes:
    entries: dict[str, object] = {}
    at = 0
    for name, shape in shapes.items():
        end = at + int(np.prod(shape)) * ITEM_BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": (at, end)}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _weights(dtype: str, shapes: Shapes) -> Iterator[npt.NDArray[np.generic]]:
    rng = np.random.default_rng(SEED)
    pool = rng.standard_normal(POOL_WEIGHTS, dtype=np.float32)
    for shape in shapes.values():
        left = int(np.prod(shape))
        scale = np.float32(rng.uniform(0.01, 0.05))
        while left:
            start = int(rng.integers(0, POOL_WEIGHTS // 2))
            run = pool[start : start + left] * scale
            left -= run.size
            yield run if dtype == "F32" else (run.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
