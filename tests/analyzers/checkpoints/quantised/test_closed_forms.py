"""Schemes and variants that no library is asked about: the numbers of their definitions, by simple means."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint
from tests.support.quantised_files import (
    SMALL,
    MemoryPlace,
    Part,
    codes,
    decoder_of,
    dequantised_file,
    file_of,
    only,
    opened,
    part,
    weights,
    words,
)

DICE = np.random.default_rng(1957)
FLOATS = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}


def fp8(name: str, *shape: int, dtype: str = "F8_E4M3") -> tuple[Part, np.ndarray]:
    """Random codes of FP8, none of them NaN or infinite, and their numbers."""
    stored = DICE.normal(size=shape).astype(FLOATS[dtype])
    return Part(name, dtype, shape, stored.tobytes()), stored.astype(np.float32)


def floats(*shape: int) -> np.ndarray:
    return DICE.uniform(0.5, 2, shape).astype(np.float32)


def stream(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Rows of codes as words of 32 bits, by way of one large integer a row."""
    rows = []
    for row in numbers:
        whole = sum(int(code) << bits * at for at, code in enumerate(row))
        count = -(-len(row) * bits // 32)
        rows.append([whole >> 32 * at & 0xFFFFFFFF for at in range(count)])
    return words(np.array(rows))


# ---- FP8 and INT8


@pytest.mark.parametrize("dtype", FLOATS)
def test_fp8_of_every_dtype_is_its_number_times_the_scale(dtype: str) -> None:
    stored, numbers = fp8("m.weight", 7, 9, dtype=dtype)
    scale = floats(7, 1)
    tensor = only(dequantised_file([stored, part("m.weight_scale", scale)]))
    np.testing.assert_array_equal(weights(tensor), numbers * scale)
    np.testing.assert_array_equal(codes(tensor).ravel(), np.frombuffer(stored.content, np.uint8))


def test_blocks_are_of_128_where_no_config_says_otherwise() -> None:
    stored, numbers = fp8("m.weight", 300, 200)
    scale = floats(3, 2)
    tensor = only(dequantised_file([stored, part("m.weight_scale_inv", scale)]))
    assert tensor.stored_as == "FP8-128x128"
    rows, columns = np.arange(300) // 128, np.arange(200) // 128
    np.testing.assert_array_equal(weights(tensor), numbers * scale[rows[:, None], columns])


@pytest.mark.parametrize(
    "shape", [(), (1,), (1, 1, 1), (3,), (3, 1), (3, 1, 1), (3, 5, 1), (3, 1, 8), (1, 1, 8), (3, 5, 8)], ids=str
)
def test_scales_of_a_stack_broadcast(shape: tuple[int, ...]) -> None:
    stored, numbers = fp8("experts.up_proj", 3, 5, 8)
    scale = np.asarray(floats(*shape))
    tensor = only(dequantised_file([stored, part("experts.up_proj_scale", scale)]))
    np.testing.assert_array_equal(weights(tensor), numbers * scale.reshape(shape + (1,) * (3 - len(shape))))


def test_a_convolution_may_have_a_scale_for_each_output() -> None:
    stored, numbers = fp8("conv.weight", 80, 70, 3, 3)
    scale = floats(80, 1, 1, 1)
    tensor = only(dequantised_file([stored, part("conv.weight_scale", scale)]))
    np.testing.assert_array_equal(weights(tensor), numbers * scale)


@pytest.mark.parametrize("leaf", ["scale_weight", "qscale_weight", "scale", "weight_scale", "weight_scale_inv"])
def test_scales_go_by_several_names(leaf: str) -> None:
    stored, numbers = fp8("m.weight", 4, 6)
    tensor = only(dequantised_file([part(f"m.{leaf}", np.float32(3).reshape(())), stored]))
    np.testing.assert_array_equal(weights(tensor), numbers * np.float32(3))


def test_fp8_without_a_scale_is_a_plain_weight() -> None:
    stored = [fp8("m.weight", 4, 6)[0], part("n.weight_scale", floats(1))]
    checkpoint = opened(file_of(stored))
    assert dequantised(checkpoint) == checkpoint


def test_a_scale_may_lie_in_another_file() -> None:
    stored, numbers = fp8("m.weight", 4, 6)
    scale = floats(4, 1)
    shards = [opened(file_of([each])) for each in (stored, part("m.weight_scale", scale))]
    places = [replace(shard.files[0], name=f"{at}.safetensors") for at, shard in enumerate(shards)]
    tensors = tuple(
        replace(tensor, file=place) for shard, place in zip(shards, places, strict=True) for tensor in shard.tensors
    )
    tensor = only(dequantised(Checkpoint(location="two", tensors=tensors, files=tuple(places))))
    np.testing.assert_array_equal(weights(tensor), numbers * scale)
    assert {span.file for span in tensor.needs(0, 4)} == set(places)


def test_int8_may_have_zeros_beside_its_scales() -> None:
    stored, zeros = (DICE.integers(-128, 128, shape).astype(np.int8) for shape in ((6, 8), (6, 2)))
    scale = floats(6, 2)
    parts = [part("m.weight", stored), part("m.weight_scale", scale), part("m.weight_zero_point", zeros)]
    tensor = only(dequantised_file(parts))
    expected = (stored - np.repeat(zeros.astype(np.float32), 4, 1)) * np.repeat(scale, 4, 1)
    np.testing.assert_array_equal(weights(tensor), expected)
    np.testing.assert_array_equal(codes(tensor), stored.view(np.uint8))


# ---- four bits


def fp4(octets: np.ndarray) -> np.ndarray:
    """The numbers of packed fp4, low half first."""
    halves = np.stack([octets & 15, octets >> 4], -1).reshape(*octets.shape[:-1], -1)
    return halves.view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def test_modelopt_multiplies_by_its_second_scale() -> None:
    octets = DICE.integers(0, 256, (6, 16), dtype=np.uint8)
    scale, scale_numbers = fp8("m.weight_scale", 6, 2)
    parts = [part("m.weight", octets), scale, part("m.weight_scale_2", np.float32(0.3).reshape(()))]
    tensor = only(dequantised_file(parts, {"quant_method": "modelopt"}))
    expected = fp4(octets) * np.repeat(scale_numbers * np.float32(0.3), 16, 1)
    np.testing.assert_array_equal(weights(tensor), expected)


def test_compressed_tensors_divides_by_its_global_scale() -> None:
    octets = DICE.integers(0, 256, (2, 6, 16), dtype=np.uint8)
    scale, scale_numbers = fp8("m.weight_scale", 2, 6, 2)
    unit = floats(2, 1)
    parts = [part("m.weight_packed", octets), scale, part("m.weight_global_scale", unit)]
    expected = fp4(octets) * np.repeat(scale_numbers / unit[..., None], 16, 2)
    np.testing.assert_array_equal(weights(only(dequantised_file(parts))), expected)


def test_blocks_in_openais_own_file_are_not_turned() -> None:
    octets, exponents = (DICE.integers(100, 140, shape).astype(np.uint8) for shape in ((2, 5, 3, 16), (2, 5, 3)))
    mine = [part("mlp.mlp1_weight.blocks", octets), part("mlp.mlp1_weight.scales", exponents)]
    turned = [part("mlp.experts.gate_up_proj_blocks", octets), part("mlp.experts.gate_up_proj_scales", exponents)]
    plain, other = only(dequantised_file(mine)), only(dequantised_file(turned))
    assert (plain.name, plain.shape) == ("mlp.mlp1_weight", (2, 5, 96))
    assert (other.name, other.shape) == ("mlp.experts.gate_up_proj", (2, 96, 5))
    scale = np.ldexp(np.float32(1), exponents.astype(int) - 127)
    np.testing.assert_array_equal(weights(plain), (fp4(octets) * scale[..., None]).reshape(2, 5, 96))
    np.testing.assert_array_equal(weights(other), weights(plain).transpose(0, 2, 1))
    np.testing.assert_array_equal(codes(other), codes(plain).transpose(0, 2, 1))


# ---- whole numbers in words


def gptq(bits: int, zeros: np.ndarray, numbers: np.ndarray, scale: np.ndarray) -> list[Part]:
    """GPTQ's tensors for codes of (inputs, outputs)."""
    return [
        part("m.qweight", stream(numbers.T, bits).T.copy()),
        part("m.qzeros", stream(zeros, bits)),
        part("m.scales", scale),
    ]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_gptq_zeros_are_as_the_version_says(bits: int, version: str) -> None:
    numbers, zeros = (DICE.integers(0, 1 << bits, shape) for shape in ((64, 32), (4, 32)))
    zeros[0, :2] = 0, (1 << bits) - 1  # the last is where the first version goes round
    scale = floats(4, 32).astype(np.float16)
    settings = {"quant_method": "gptq", "bits": bits, "checkpoint_format": version}
    tensor = only(dequantised_file(gptq(bits, zeros, numbers, scale), settings))
    meant = zeros if version == "gptq_v2" else (zeros + 1) % (1 << bits)
    group = np.arange(64) // 16
    expected = scale.astype(np.float32)[group] * (numbers - meant[group])
    np.testing.assert_array_equal(weights(tensor), expected.T.astype(np.float32))
    np.testing.assert_array_equal(codes(tensor), numbers.T)


def compressed(numbers: np.ndarray, packed: np.ndarray, *more: Part) -> list[Part]:
    """The tensors of compressed-tensors for codes of (outputs, inputs) in groups of 16, and all scales 0.5."""
    rows, columns = numbers.shape
    scale = np.full((rows, columns // 16), 0.5, np.float16)
    shape = part("m.weight_shape", np.array(numbers.shape))
    return [part("m.weight_packed", packed), part("m.weight_scale", scale), shape, *more]


def declared(bits: int) -> dict[str, object]:
    return {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": bits}}}}


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_the_older_packing_leaves_the_rest_of_a_word_empty(bits: int) -> None:
    numbers = DICE.integers(0, 1 << bits, (5, 160))
    each = 32 // bits
    padded = np.pad(numbers, ((0, 0), (0, -160 % each))).reshape(5, -1, each)
    packed = words((padded << bits * np.arange(each)).sum(2))
    tensor = only(dequantised_file(compressed(numbers, packed), declared(bits)))
    np.testing.assert_array_equal(weights(tensor), (numbers - (1 << bits - 1)) * 0.5)


def test_zeros_of_compressed_tensors_may_be_plain_bytes() -> None:
    numbers, zeros = DICE.integers(0, 16, (5, 64)), DICE.integers(-8, 8, (5, 4)).astype(np.int8)
    parts = compressed(numbers, stream(numbers, 4), part("m.weight_zero_point", zeros))
    expected = (numbers - 8 - np.repeat(zeros.astype(int), 16, 1)) * 0.5
    np.testing.assert_array_equal(weights(only(dequantised_file(parts, declared(4)))), expected)


@pytest.mark.parametrize("unset", [True, False])
def test_inputs_may_have_groups_in_any_order(*, unset: bool) -> None:
    numbers, order = DICE.integers(0, 16, (5, 64)), DICE.permutation(np.arange(64) // 16).astype(np.int32)
    scale = floats(5, 4)
    parts = compressed(numbers, stream(numbers, 4), part("m.weight_g_idx", np.full_like(order, -1) if unset else order))
    parts[1] = part("m.weight_scale", scale)
    expected = (numbers - 8) * (np.repeat(scale, 16, 1) if unset else scale[:, order])
    np.testing.assert_array_equal(weights(only(dequantised_file(parts, declared(4)))), expected.astype(np.float32))


def test_bitsandbytes_may_store_its_bytes_under_any_dtype() -> None:
    parts, _ = SMALL["bitsandbytes nf4"]
    even = [replace(parts[0], content=parts[0].content + b"\0", shape=(60, 1)), *parts[1:]]
    even[2] = replace(even[2], content=even[2].content.replace(b"[9, 13]", b"[8, 15]"))
    other = [replace(even[0], dtype="BF16", shape=(30, 1)), *even[1:]]
    np.testing.assert_array_equal(weights(only(dequantised_file(other))), weights(only(dequantised_file(even))))


def test_a_decoder_tells_all_that_it_is_made_of() -> None:
    content = file_of(SMALL["gptq 4"][0], {"quantization_config": SMALL["gptq 4"][1]})
    one, same = only(dequantised(opened(content))), only(dequantised(opened(content)))
    other = only(dequantised_file(SMALL["gptq 4"][0], {"quant_method": "gptq", "checkpoint_format": "gptq_v2"}))
    assert decoder_of(one) == decoder_of(same)
    assert repr(replace(decoder_of(one), parts=())) == repr(replace(decoder_of(same), parts=()))
    assert decoder_of(one) != decoder_of(other)
    assert decoder_of(one).scheme.description == "GPTQ, 4 bits, groups of 16, v1 zeros"
    assert isinstance(one.file, MemoryPlace)
