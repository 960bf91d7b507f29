"""The layers of a tensor, chunk by chunk, against NumPy's slices of the whole."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, chunks, layers_of
from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, Dtype
from jaynes_audit.analyzers.sketch import extent as extent_module
from tests.support.checkpoints import raw, write_file
from tests.support.weights import oracle_dtype

EITHER_WAY = pytest.mark.parametrize("io", list(Io))
Config = Mapping[str, object]


@pytest.fixture(autouse=True)
def _chunks_of_a_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 300)


def codes_of(dtype: Dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Stored codes, no two neighbours alike."""
    rng = np.random.default_rng(1)
    if BITS[dtype] < 8:
        return rng.integers(0, 1 << BITS[dtype], shape, np.uint8)
    width = BITS[dtype] // 8
    unsigned = {Dtype.BF16: np.uint16, Dtype.C32: np.uint32}
    plain = np.dtype(unsigned.get(dtype) or (np.uint8 if width == 1 else oracle_dtype(dtype)))
    return rng.integers(0, 100, (*shape, width), np.uint8).view(plain).reshape(shape)


def layers_read(
    path: Path, name: str, codes: np.ndarray, dtype: Dtype, *, config: Config, io: Io
) -> dict[str, tuple[Layer, np.ndarray]]:
    """Every layer of a tensor, put together from its chunks."""
    _, tensor = write_file(
        path / "file", {"before": raw(codes_of(Dtype.F8_E4M3, (3,)), Dtype.F8_E4M3), name: raw(codes, dtype)}
    )
    read = {}
    with Sources(io) as sources:
        for layer in layers_of(tensor, config):
            rows = [
                chunk.copy() for chunk in chunks(sources.of(tensor), layer, first_row=0, stop_row=layer.extent.rows)
            ]
            assert all(chunk.shape == (layer.extent.chunk_rows, layer.extent.columns) for chunk in rows[:-1])
            read[layer.part.suffix] = (layer, np.concatenate(rows))
    return read


NEOX = {"model_type": "gpt_neox", "num_attention_heads": 3, "hidden_size": 24}
GPT2 = {"model_type": "gpt2", "n_head": 4, "n_embd": 32}
GPT_OSS = {"model_type": "gpt_oss", "hidden_size": 16, "num_local_experts": 3}
MIXTRAL = {"model_type": "qwen3_moe", "hidden_size": 16, "num_experts": 3}
WIDE = [Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64, Dtype.F8_E4M3, Dtype.F4, Dtype.F6_E3M2]


@EITHER_WAY
@pytest.mark.parametrize("dtype", WIDE)
def test_rows_in_stripes_are_those_of_each_head(io: Io, dtype: Dtype, tmp_path: Path) -> None:
    codes = codes_of(dtype, (72, 24))
    read = layers_read(tmp_path, "gpt_neox.layers.0.attention.query_key_value.weight", codes, dtype, config=NEOX, io=io)
    by_head = codes.reshape(3, 3, 8, 24)
    assert list(read) == ["q", "k", "v"]
    for place, (_, part) in enumerate(read.values()):
        np.testing.assert_array_equal(part, by_head[:, place].reshape(24, 24))


@EITHER_WAY
@pytest.mark.parametrize("dtype", WIDE)
def test_columns_in_spans_are_those_of_a_transposed_layer(io: Io, dtype: Dtype, tmp_path: Path) -> None:
    codes = codes_of(dtype, (32, 96))
    read = layers_read(tmp_path, "h.0.attn.c_attn.weight", codes, dtype, config=GPT2, io=io)
    assert list(read) == ["q", "k", "v"]
    for place, (_, part) in enumerate(read.values()):
        np.testing.assert_array_equal(part, codes[:, 32 * place : 32 * (place + 1)])


@EITHER_WAY
@pytest.mark.parametrize("dtype", WIDE)
def test_interleaved_columns_are_every_other_one(io: Io, dtype: Dtype, tmp_path: Path) -> None:
    codes = codes_of(dtype, (3, 16, 40))
    read = layers_read(tmp_path, "model.layers.0.mlp.experts.gate_up_proj", codes, dtype, config=GPT_OSS, io=io)
    assert list(read) == [f"experts.{expert}.{part}" for expert in range(3) for part in ("gate", "up")]
    for expert in range(3):
        np.testing.assert_array_equal(read[f"experts.{expert}.gate"][1], codes[expert, :, 0::2])
        np.testing.assert_array_equal(read[f"experts.{expert}.up"][1], codes[expert, :, 1::2])


@EITHER_WAY
def test_stacked_experts_are_read_one_by_one(io: Io, tmp_path: Path) -> None:
    codes = codes_of(Dtype.BF16, (3, 40, 16))
    read = layers_read(tmp_path, "model.layers.0.mlp.experts.gate_up_proj", codes, Dtype.BF16, config=MIXTRAL, io=io)
    for expert in range(3):
        np.testing.assert_array_equal(read[f"experts.{expert}.gate"][1], codes[expert, :20])
        np.testing.assert_array_equal(read[f"experts.{expert}.up"][1], codes[expert, 20:])


@EITHER_WAY
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("shape", [(48, 9), (8, 7), (4, 1), (1, 200), (4, 3, 5, 5)])
def test_a_plain_matrix_is_read_whole(io: Io, dtype: Dtype, shape: tuple[int, ...], tmp_path: Path) -> None:
    codes = codes_of(dtype, shape)
    [(layer, whole)] = layers_read(tmp_path, "some.proj.weight", codes, dtype, config={}, io=io).values()
    np.testing.assert_array_equal(whole, codes.reshape(shape[0], -1))
    assert layer.extent.scaled
    assert layer.name == "some.proj.weight"


@EITHER_WAY
@pytest.mark.parametrize("shape", [(), (1,), (4,), (4000,)])
def test_a_vector_or_a_number_is_one_run_of_weights(io: Io, shape: tuple[int, ...], tmp_path: Path) -> None:
    codes = codes_of(Dtype.F16, shape)
    [(layer, whole)] = layers_read(tmp_path, "norm.weight", codes, Dtype.F16, config={}, io=io).values()
    np.testing.assert_array_equal(whole.reshape(-1), codes.reshape(-1))
    assert not layer.extent.scaled


COMPLEX = pytest.mark.parametrize(
    ("dtype", "half"), [(Dtype.C32, np.float16), (Dtype.C64, np.float32), (Dtype.C128, np.float64)]
)


@EITHER_WAY
@COMPLEX
def test_a_complex_weight_is_two_real_ones(dtype: Dtype, half: type, io: Io, tmp_path: Path) -> None:
    codes = codes_of(dtype, (12, 10))
    [(layer, whole)] = layers_read(tmp_path, "some.weight", codes, dtype, config={}, io=io).values()
    np.testing.assert_array_equal(whole, codes.view(half))
    assert np.dtype(half) == NUMPY_DTYPES[layer.extent.dtype]


@EITHER_WAY
@COMPLEX
def test_fused_complex_weights_are_taken_apart(dtype: Dtype, half: type, io: Io, tmp_path: Path) -> None:
    codes = codes_of(dtype, (32, 96))
    read = layers_read(tmp_path, "h.0.attn.c_attn.weight", codes, dtype, config=GPT2, io=io)
    np.testing.assert_array_equal(read["k"][1], np.ascontiguousarray(codes[:, 32:64]).view(half))


def test_rows_that_share_a_byte_are_not_taken_apart(tmp_path: Path) -> None:
    config = {"model_type": "gpt_neox", "num_attention_heads": 2, "hidden_size": 6}
    codes = codes_of(Dtype.F6_E2M3, (18, 6))
    read = layers_read(
        tmp_path, "layers.0.attention.query_key_value.weight", codes, Dtype.F6_E2M3, config=config, io=Io.MMAP
    )
    assert list(read) == [""]
    np.testing.assert_array_equal(read[""][1], codes)


@EITHER_WAY
def test_a_part_can_be_read_from_any_chunk_on(io: Io, tmp_path: Path) -> None:
    codes = codes_of(Dtype.BF16, (72, 24))
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    (tensor,) = write_file(tmp_path / "file", {name: raw(codes, Dtype.BF16)})
    with Sources(io) as sources:
        for layer in layers_of(tensor, NEOX):
            source = sources.of(tensor)
            whole = np.concatenate([each.copy() for each in chunks(source, layer, first_row=0, stop_row=24)])
            for first in range(0, 24, layer.extent.chunk_rows):
                rest = np.concatenate([each.copy() for each in chunks(source, layer, first_row=first, stop_row=24)])
                np.testing.assert_array_equal(rest, whole[first:])
