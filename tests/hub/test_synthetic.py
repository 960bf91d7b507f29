"""Files that are stored nowhere are served as if they were."""

import json
from math import prod
from urllib.request import Request, urlopen

import ml_dtypes
import numpy as np
import pytest
from huggingface_hub import HfApi
from scipy import stats

from tests.support.hub import LoopbackHub, Synthetic, gaussian_bf16, synthetic_checkpoint
from tests.support.safetensors_oracle import reference_tensors

BLOCK = bytes(range(251))
TENSORS = {"a": ("F32", (3, 50)), "b": ("U8", (1000,)), "empty": ("F16", (0, 4)), "scalar": ("I64", ())}


def served(hub: LoopbackHub, path: str, start: int, end: int) -> bytes:
    """A range of a file of org/m, by way of every redirect."""
    url = f"{hub.endpoint}/org/m/resolve/main/{path}"
    request = Request(url, headers={"Range": f"bytes={start}-{end - 1}"})  # noqa: S310 - HTTP
    with urlopen(request, timeout=10) as answer:  # noqa: S310 - HTTP
        return answer.read()


def test_a_synthetic_shard_is_a_sound_safetensors_file():
    shard = Synthetic.safetensors("model.safetensors", TENSORS, BLOCK)
    content = shard.read(0, shard.size)
    assert len(content) == shard.size
    tensors = reference_tensors(content)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        name: TENSORS[name] for name in TENSORS
    }
    assert tensors["a"].data == (BLOCK * 3)[:600]
    assert tensors["b"].data == (BLOCK * 10)[600:1600]


@pytest.mark.parametrize("block", [BLOCK, BLOCK * 40_000], ids=["small", "larger than is sent at once"])
def test_any_range_of_a_synthetic_file_is_its_bytes(block):
    shard = Synthetic.safetensors("model.safetensors", {"a": ("U8", (12_000_000,))}, block)
    start_of_data = len(shard.prefix)
    whole = shard.prefix + (block * (12_000_000 // len(block) + 1))[:12_000_000]
    with LoopbackHub() as hub:
        hub.commit("org/m", {"model.safetensors": shard})
        for start, end in (
            (0, 8),
            (0, shard.size),
            (start_of_data - 3, start_of_data + 3),
            (start_of_data + 250, start_of_data + 252),
            (5_000_000, 11_000_001),
            (shard.size - 1, shard.size),
        ):
            assert served(hub, "model.safetensors", start, end) == shard.read(start, end) == whole[start:end]


def test_synthetic_files_are_told_apart():
    def shard(path: str, size: int) -> Synthetic:
        return Synthetic.safetensors(path, {"a": ("U8", (size,))}, BLOCK)

    assert shard("a", 1).sha256 == shard("a", 1).sha256
    assert len({shard("a", 1).sha256, shard("b", 1).sha256, shard("a", 2).sha256}) == 3


def test_the_block_is_drawn_from_a_gaussian():
    weights = np.frombuffer(gaussian_bf16(values=20_000, sigma=0.02, seed=3), ml_dtypes.bfloat16).astype(np.float64)
    assert weights.std() == pytest.approx(0.02, rel=0.02)
    assert stats.kstest(weights / 0.02, "norm").statistic < 0.02  # bf16 keeps 8 bits, so some ties
    assert gaussian_bf16(values=100, seed=3) == gaussian_bf16(values=100, seed=3) != gaussian_bf16(values=100, seed=4)


@pytest.mark.parametrize(
    ("stored_bytes", "tensors", "shards"),
    [(10_000_000, 200, 1), (10_000_000, 301, 7), (40_000_000, 2000, 10), (40_000_000, 6150, 3)],
)
def test_a_synthetic_checkpoint_has_what_was_asked_for(stored_bytes, tensors, shards):
    files = synthetic_checkpoint(stored_bytes, tensors=tensors, shards=shards)
    index = json.loads(files["model.safetensors.index.json"])
    config = json.loads(files["config.json"])
    shards_held = {path: file for path, file in files.items() if isinstance(file, Synthetic)}
    loaded = {path: reference_tensors(file.read(0, file.size)) for path, file in shards_held.items()}
    assert len(loaded) == shards
    assert {name: path for path, held in loaded.items() for name in held} == index["weight_map"]
    weights = {name: tensor for held in loaded.values() for name, tensor in held.items()}
    assert len(weights) == tensors
    assert sum(len(tensor.data) for tensor in weights.values()) == index["metadata"]["total_size"]
    assert index["metadata"]["total_size"] == pytest.approx(stored_bytes, rel=1e-3)
    assert weights["model.layers.1.mlp.experts.0.down_proj.weight"].shape == (
        config["hidden_size"],
        config["moe_intermediate_size"],
    )


@pytest.mark.parametrize(("stored_bytes", "tensors", "shards"), [(10**9, 199, 1), (10**9, 300, 301), (10_000, 200, 1)])
def test_a_checkpoint_that_cannot_be_is_refused(stored_bytes, tensors, shards):
    with pytest.raises(ValueError, match="too few"):
        synthetic_checkpoint(stored_bytes, tensors=tensors, shards=shards)


def test_a_checkpoint_of_700_gb_is_served_from_nowhere():
    files = synthetic_checkpoint(700_000_000_000, tensors=90_000, shards=157)
    with LoopbackHub() as hub:
        hub.commit("org/m", files)
        sizes = {row.path: row.size for row in HfApi(endpoint=hub.endpoint, token=False).list_repo_tree("org/m")}
        last = "model-00157-of-00157.safetensors"
        length = int.from_bytes(served(hub, last, 0, 8), "little")
        header = json.loads(served(hub, last, 8, 8 + length))
        end = max(entry["data_offsets"][1] for entry in header.values())
        assert sizes[last] == 8 + length + end
        assert served(hub, last, sizes[last] - 1000, sizes[last]) == files[last].read(sizes[last] - 1000, sizes[last])
    assert len(sizes) == 159
    assert sum(sizes.values()) == pytest.approx(700_000_000_000, rel=1e-3)
    assert all(
        prod(entry["shape"]) * 2 == entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values()
    )
