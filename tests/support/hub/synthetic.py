"""Files of any size that are stored nowhere."""

import hashlib
import json
import random
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt, prod
from typing import Self

BITS = {"F32": 32, "BF16": 16, "F16": 16, "F8_E4M3": 8, "U8": 8, "I8": 8, "I32": 32, "I64": 64}
"""Bits of one element, by its safetensors name."""

SENT_AT_ONCE = 1 << 22
"""Bytes handed to a socket in one call: enough that the calls cost nothing beside the copying."""

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Dtype and shape of each tensor, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """A file of `size` bytes: `prefix`, then `block` over and over.

    Its sha256 is invented (a hash of what tells two of these files apart), for computing it would mean to read the
    file; so what verifies digests must refuse it.
    """

    path: str
    prefix: bytes
    block: bytes
    size: int

    @classmethod
    def safetensors(cls, path: str, tensors: Tensors, block: bytes) -> Self:
        """A sound safetensors file of these tensors. `block` is repeated from the first byte of the data on."""
        entries: dict[str, object] = {}
        offset = 0
        for name, (dtype, shape) in tensors.items():
            end = offset + BITS[dtype] * prod(shape) // 8
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
            offset = end
        header = json.dumps(entries, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        prefix = struct.pack("<Q", len(header)) + header
        return cls(path=path, prefix=prefix, block=block, size=len(prefix) + offset)

    @property
    def sha256(self) -> str:
        """The invented digest."""
        return hashlib.sha256(f"{self.path}\0{self.size}\0".encode() + self.prefix).hexdigest()

    def pieces(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """The bytes `[start, end)`, in slices of one buffer that all files of this block share."""
        data_start = len(self.prefix)
        if start < data_start:
            yield self.prefix[start : min(data_start, end)]
            start = data_start
        repeated = _repeated(self.block)
        while start < end:
            offset = (start - data_start) % len(self.block)
            length = min(end - start, len(repeated) - offset)
            yield repeated[offset : offset + length]
            start += length

    def read(self, start: int, end: int) -> bytes:
        """The bytes `[start, end)`, in memory: what a client must have got."""
        return b"".join(self.pieces(start, end))


@lru_cache(maxsize=4)
def _repeated(block: bytes) -> memoryview:
    return memoryview(block * (SENT_AT_ONCE // len(block) + 1))


@lru_cache(maxsize=4)
def gaussian_bf16(*, values: int = 1 << 17, sigma: float = 0.02, seed: int = 0) -> bytes:
    """So many little-endian bf16 numbers drawn from a Gaussian of mean 0, as the weights of a new network are."""
    draw = random.Random(seed).gauss  # noqa: S311 - nothing is kept secret with these numbers
    singles = array("H", struct.pack(f"={values}f", *(draw(0.0, sigma) for _ in range(values))))
    upper_halves = singles[1::2] if struct.pack("=H", 1) == b"\1\0" else singles[0::2]
    return struct.pack(f"<{values}H", *upper_halves)


# ---- a mixture of experts in many shards

LARGEST_DEPTH = 61  # DeepSeek-V3's layers
TENSORS_A_LAYER = 100  # with fewer, a layer would have too few experts to be called a mixture
FEWEST_TENSORS = 2 * TENSORS_A_LAYER  # two layers, one for each tensor that no whole expert can be made of
VOCABULARY = 18  # words of the vocabulary for each unit of width, as in DeepSeek-V3: 129280 / 7168
OUTSIDE_LAYERS = 3  # embedding, last norm, output head
BESIDE_EXPERTS = 13  # attention, norms, router and shared expert of one layer
EXPERT_TENSORS = 3  # gate, up, down
ELEMENT_BYTES = BITS["BF16"] // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """`experts` are those of all layers; `biases` are the layers whose router has a bias."""

    layers: int
    experts: int
    biases: int
    hidden: int
    expert_hidden: int
    vocabulary: int


def synthetic_checkpoint(
    stored_bytes: int, *, tensors: int, shards: int, seed: int = 0
) -> dict[str, bytes | Synthetic]:
    """The files of a sharded bf16 mixture-of-experts checkpoint, shaped and named like DeepSeek-V3, by their paths.

    It has exactly so many tensors and shards, and its data come within 0.1 % of `stored_bytes` from 10 MB on, the
    headers not counted. All tensors read from one block of Gaussian numbers, each from another place in it.

    Raises:
        ValueError: when there are fewer than 200 tensors, fewer tensors than shards, or too few bytes for them.
    """
    if tensors < max(FEWEST_TENSORS, shards):
        raise ValueError(f"{tensors} tensors are too few for {shards} shards of a mixture of experts")
    sizes = _fitting(stored_bytes // ELEMENT_BYTES, tensors)
    shapes = list(_shapes(sizes))
    block = gaussian_bf16(seed=seed)
    files: dict[str, bytes | Synthetic] = {"config.json": json.dumps(_config(sizes)).encode()}
    weight_map = {}
    for number in range(shards):
        path = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = shapes[number * tensors // shards : (number + 1) * tensors // shards]
        files[path] = Synthetic.safetensors(path, {name: ("BF16", shape) for name, shape in part}, block)
        weight_map.update({name: path for name, _ in part})
    total_size = ELEMENT_BYTES * sum(prod(shape) for _, shape in shapes)
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    return files


def _fitting(elements: int, tensors: int) -> _Sizes:
    """The sizes that give so many tensors, and about so many elements in all of them."""
    layers = min(LARGEST_DEPTH, tensors // TENSORS_A_LAYER)
    experts, biases = divmod(tensors - OUTSIDE_LAYERS - layers * BESIDE_EXPERTS, EXPERT_TENSORS)
    # With experts a quarter as wide as the layers, each term below counts elements in units of hidden squared.
    hidden = isqrt(int(elements / (2 * VOCABULARY + 4 * layers + 0.75 * (experts + layers)))) // 16 * 16
    empty = _Sizes(
        layers=layers,
        experts=experts,
        biases=biases,
        hidden=hidden,
        expert_hidden=0,
        vocabulary=VOCABULARY * hidden,
    )
    left = elements - _elements(empty)
    for_one_more = _elements(replace(empty, expert_hidden=1)) - _elements(empty)
    if not hidden or left < for_one_more:
        raise ValueError(f"{elements * ELEMENT_BYTES} bytes are too few for {tensors} tensors")
    expert_hidden, left = divmod(left, for_one_more)
    words = left // (2 * hidden)  # each has a row in the embedding and one in the output head
    return replace(empty, expert_hidden=expert_hidden, vocabulary=empty.vocabulary + words)


def _elements(sizes: _Sizes) -> int:
    return sum(prod(shape) for _, shape in _shapes(sizes))


def _shapes(sizes: _Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All tensors, layer by layer."""
    hidden = sizes.hidden
    yield "model.embed_tokens.weight", (sizes.vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (sizes.vocabulary, hidden)
    for layer in range(sizes.layers):
        experts = sizes.experts // sizes.layers + (layer < sizes.experts % sizes.layers)
        if layer < sizes.biases:
            yield f"model.layers.{layer}.mlp.gate.e_score_correction_bias", (experts,)
        for name, shape in (
            ("input_layernorm", (hidden,)),
            ("post_attention_layernorm", (hidden,)),
            ("self_attn.q_a_proj", (hidden // 4, hidden)),
            ("self_attn.q_a_layernorm", (hidden // 4,)),
            ("self_attn.q_b_proj", (3 * hidden, hidden // 4)),
            ("self_attn.kv_a_proj_with_mqa", (hidden // 16, hidden)),
            ("self_attn.kv_a_layernorm", (hidden // 16,)),
            ("self_attn.kv_b_proj", (4 * hidden, hidden // 16)),
            ("self_attn.o_proj", (hidden, 2 * hidden)),
            ("mlp.gate", (experts, hidden)),
            *_expert("mlp.shared_experts", sizes),
            *(row for expert in range(experts) for row in _expert(f"mlp.experts.{expert}", sizes)),
        ):
            yield f"model.layers.{layer}.{name}.weight", shape


def _expert(prefix: str, sizes: _Sizes) -> tuple[tuple[str, tuple[int, int]], ...]:
    return (
        (f"{prefix}.gate_proj", (sizes.expert_hidden, sizes.hidden)),
        (f"{prefix}.up_proj", (sizes.expert_hidden, sizes.hidden)),
        (f"{prefix}.down_proj", (sizes.hidden, sizes.expert_hidden)),
    )


def _config(sizes: _Sizes) -> dict[str, object]:
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "torch_dtype": "bfloat16",
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.hidden,
        "moe_intermediate_size": sizes.expert_hidden,
        "num_hidden_layers": sizes.layers,
        "n_routed_experts": sizes.experts // sizes.layers,
        "n_shared_experts": 1,
    }
