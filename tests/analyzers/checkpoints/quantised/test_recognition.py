"""What is put together, what is left as it is, and what stays codes, each with the reason."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Span
from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.quantised_files import (
    SMALL,
    Part,
    decoder_of,
    dequantised_file,
    file_of,
    only,
    opened,
    part,
    small,
    weights,
)

Damage = Callable[[list[Part]], list[Part]]


def stored(dtype: str, *shape: int) -> Callable[[Part], Part]:
    """The same name with zeros of this dtype and shape."""
    bits = {"U8": 8, "I8": 8, "F16": 16, "BF16": 16, "I16": 16, "I32": 32, "F32": 32, "I64": 64, "F8_E4M3": 8}[dtype]
    content = bytes(int(np.prod(shape, dtype=int)) * bits // 8)
    return lambda each: replace(each, dtype=dtype, shape=shape, content=content)


def without(end: str) -> Damage:
    return lambda parts: [each for each in parts if not each.name.endswith(end)]


def with_other(end: str, change: Callable[[Part], Part]) -> Damage:
    return lambda parts: [change(each) if each.name.endswith(end) else each for each in parts]


def beside(name: str, dtype: str, *shape: int) -> Damage:
    return lambda parts: [*parts, stored(dtype, *shape)(Part(name, "", (), b""))]


def sizes(*numbers: int) -> Damage:
    return with_other("_shape", lambda each: part(each.name, np.array(numbers, np.int64)))


def state(**changes: object) -> Damage:
    def changed(each: Part) -> Part:
        text = json.dumps({**json.loads(each.content), **changes}).encode()
        return replace(each, shape=(len(text),), content=text)

    return with_other("__nf4", changed)


def raw_state(text: bytes) -> Damage:
    return with_other("__nf4", lambda each: replace(each, shape=(len(text),), content=text))


CT, NF4 = "compressed-tensors 4", "bitsandbytes nf4"
MISFITS: tuple[tuple[str, Damage, str], ...] = (
    ("fp8 blocks", with_other("_inv", stored("F32", 2, 3, 5)), "5 scales do not fit 13 weights"),
    ("fp8 blocks", with_other("_inv", stored("F32", 3, 3, 4)), "scales of shape (3, 3, 4) do not fit"),
    ("fp8 blocks", with_other("_inv", stored("F32", 2, 3, 0)), "holds nothing"),
    ("fp8 blocks", with_other("_inv", stored("F8_E4M3", 2, 3, 4)), "the tensor of scales is F8_E4M3"),
    ("fp8 blocks", with_other("weight", stored("F8_E4M3", 2, 0, 13)), "(2, 0, 13) holds nothing"),
    ("fp8 blocks", beside("m.comfy_quant", "U8", 20), "ComfyUI"),
    ("fp8 rows", with_other("_scale", stored("F32", 4, 1)), "4 scales do not fit 5 weights"),
    ("int8", with_other("zero_point", stored("I8", 5)), "the tensor of zeros has shape (5) and should have (5, 1)"),
    ("int8", with_other("zero_point", stored("F32", 5, 1)), "the tensor of zeros is F32"),
    ("fp4 in int8", with_other("_inv", stored("U8", 5, 3)), "should have (5, 2)"),
    ("fp4 in int8", with_other("_inv", stored("F32", 5, 2)), "the tensor of scales is F32"),
    ("bitsandbytes int8", with_other("format", lambda each: replace(each, content=b"\2")), "one kind of GPU"),
    ("bitsandbytes int8", with_other("SCB", stored("F32", 7)), "should have (5)"),
    ("gpt-oss", with_other("blocks", stored("U8", 2, 5, 2, 8)), "not that of blocks of fp4"),
    ("gpt-oss", with_other("blocks", stored("U8", 5, 2, 16)), "not that of blocks of fp4"),
    ("gpt-oss", with_other("scales", stored("U8", 2, 5, 3)), "the tensor of scales has shape"),
    ("gpt-oss", with_other("scales", stored("F16", 2, 5, 2)), "the tensor of scales is F16"),
    ("gpt-oss", beside("m.up", "F32", 2), "a tensor 'm.up' is stored beside them"),
    ("mxfp4", without("_scale"), "no tensor with their scale stands beside them"),
    ("mxfp4", with_other("_scale", stored("U8", 5, 4)), "neither MXFP4 nor MXFP6"),
    ("mxfp4", beside("m.weight_zero_point", "I8", 5, 2), "zero points beside packed floats"),
    ("nvfp4", with_other("global_scale", stored("F32", 5)), "global scale does not fit"),
    ("nvfp4", with_other("m.weight_scale", stored("F8_E4M3", 5, 4)), "should have (5, 2)"),
    ("modelopt", without("m.weight_scale"), "no tensor with their scale"),
    ("modelopt", beside("m.comfy_quant", "U8", 20), "ComfyUI"),
    (CT, without("_scale"), "no tensor with their scale"),
    (CT, without("_shape"), "no tensor with their shape"),
    (CT, sizes(6, 97), "97 codes do not fit in 12 words"),
    (CT, sizes(6, 1 << 62), "do not fit in 12 words"),
    (CT, sizes(6, -96), "do not fit"),
    (CT, sizes(1 << 40, 96), "no weight of shape"),
    (CT, sizes(96), "not a list of sizes"),
    (CT, with_other("_shape", stored("I32", 2)), "the tensor of sizes is I32"),
    (CT, with_other("_shape", stored("I64", 6000)), "could not be read"),
    (CT, with_other("_zero_point", stored("I32", 2, 4)), "should have (1, 4)"),
    (CT, with_other("_scale", stored("F16", 6, 5)), "5 scales do not fit 96 weights"),
    (CT, beside("m.weight_g_idx", "I32", 95), "should have (96)"),
    (CT, beside("m.qweight", "I32", 4, 4), "a tensor 'm.weight' is stored beside them"),
    ("gptq 4", without("qzeros"), "no tensor with their zeros"),
    ("gptq 4", without("scales"), "no tensor with their scale"),
    ("gptq 4", with_other("qzeros", stored("I32", 4, 5)), "at no width that GPTQ has"),
    ("gptq 4", with_other("qzeros", stored("I32", 3, 4)), "the tensor of zeros has shape (3, 4)"),
    ("gptq 4", with_other("g_idx", stored("I32", 63)), "should have (64)"),
    ("gptq 4", with_other("scales", stored("F16", 0, 32)), "the tensor of zeros has shape"),
    ("gptq 4", with_other("qweight", stored("I32", 8, 33)), "neither GPTQ's nor those of AWQ's GEMM"),
    ("gptq 3", with_other("qweight", stored("I32", 7, 32)), "no whole number of codes"),
    ("gptq 4", with_other("qweight", stored("I16", 8, 32)), "the tensor of codes is I16"),
    ("awq", with_other("qzeros", stored("I32", 2, 2)), "should have (3, 2)"),
    ("awq", with_other("qweight", stored("I32", 16, 2)), "3 scales do not fit 16 weights"),
    (NF4, raw_state(b"\xff{"), "not a JSON object"),
    (NF4, raw_state(b"[" * 4000), "not a JSON object"),
    (NF4, raw_state(b"[]"), "not a JSON object"),
    (NF4, raw_state(b"{}" + b" " * 5000), "not a JSON object"),
    (NF4, state(shape=[9, 1 << 62]), "are not"),
    (NF4, state(shape=[9, 10**2000]), "names no shape that can be"),
    (NF4, state(shape=[9, -13]), "names no shape that can be"),
    (NF4, state(shape=[9, True]), "names no shape that can be"),
    (NF4, state(shape=[9, 13.0]), "names no shape that can be"),
    (NF4, state(shape="9"), "names no shape"),
    (NF4, state(blocksize=0), "names no blocksize"),
    (NF4, state(blocksize=16), "15 scales do not fit 8 blocks"),
    (NF4, state(quant_type="fp4"), "another kind"),
    (NF4, state(nested_offset=None), "no offset"),
    (NF4, state(nested_offset=float("nan")), "no offset"),
    (NF4, state(nested_blocksize=5), "4 nested scales do not fit 3 blocks"),
    (NF4, without("nested_absmax"), "no tensor with their nested scale"),
    (NF4, without("nested_quant_map"), "no tensor with their nested table"),
    (NF4, without("m.weight.quant_map"), "no tensor with their table"),
    (NF4, with_other("m.weight.quant_map", stored("F32", 8)), "has 8 entries"),
    (NF4, with_other("m.weight.absmax", stored("U8", 14)), "14 scales do not fit 15 blocks"),
    (NF4, with_other("m.weight", stored("U8", 58, 1)), "58 bytes are not 117 codes of 4 bits"),
)


@pytest.mark.parametrize(("kind", "damage", "mention"), MISFITS, ids=[f"{e[0]}: {e[2]}" for e in MISFITS])
def test_what_does_not_fit_stays_codes_and_says_why(kind: str, damage: Damage, mention: str) -> None:
    parts, settings = SMALL[kind]
    checkpoint = dequantised_file(damage(parts), settings)
    reasons = [reason for reason in checkpoint.undecoded.values() if mention in reason]
    assert reasons, dict(checkpoint.undecoded)
    assert all(reason.startswith("codes only: ") and reason.isprintable() for reason in checkpoint.undecoded.values())
    assert all(tensor.decoder is None for tensor in checkpoint.tensors)
    assert len(checkpoint.tensors) == len(damage(parts))


@pytest.mark.parametrize(
    ("kind", "settings", "mention"),
    [
        ("gptq 4", {}, "no config.json tells"),
        ("gptq 4", {"quant_method": "auto-round"}, "names another method"),
        ("gptq 4", {"quant_method": "gptq", "checkpoint_format": "marlin"}, "a checkpoint_format other than"),
        ("awq", {"quant_method": "awq", "version": "gemv"}, "another version of AWQ"),
        ("awq", {"quant_method": "awq", "bits": 3}, "another width"),
        ("awq", {"quant_method": "hqq"}, "names another method"),
        ("mxfp4", {"quant_method": "quark"}, "names another method"),
        ("gpt-oss", {"quant_method": "unheard of"}, "names another method"),
        ("modelopt", {"quant_method": "unheard of"}, "names another method"),
        ("int8", {"quant_method": "unheard of"}, "names another method"),
        (CT, {"quant_method": "quark"}, "names another method"),
        (CT, {"quant_method": "compressed-tensors", "bits": 5}, "do not fit"),
    ],
)
def test_a_config_that_says_something_else_is_believed(kind: str, settings: dict[str, object], mention: str) -> None:
    checkpoint = dequantised_file(SMALL[kind][0], settings)
    assert any(mention in reason for reason in checkpoint.undecoded.values()), dict(checkpoint.undecoded)


def test_a_width_that_is_not_certain_is_not_guessed() -> None:
    packed = [
        stored("I32", 2, 8)(Part("m.weight_packed", "", (), b"")),
        stored("F16", 2, 1)(Part("m.weight_scale", "", (), b"")),
    ]
    parts = [*packed, part("m.weight_shape", np.array([2, 32]))]  # seven bits, four to a word, or eight
    (reason,) = set(dequantised_file(parts).undecoded.values())
    assert "the width of 32 codes in 8 words is not certain" in reason
    settings = {"config_groups": {"g": {"weights": {"num_bits": 8}}}}
    assert only(dequantised_file(parts, settings)).stored_as == "CT-8"


LEFT_ALONE: tuple[tuple[str, list[Part]], ...] = (
    ("a buffer of positions", [stored("I64", 1, 512)(Part("m.position_ids", "", (), b""))]),
    ("a mask of bytes", [stored("U8", 8, 8)(Part("m.attn.bias", "", (), b""))]),
    (
        "plain weights and a scale",
        [part("m.weight", np.ones((4, 4), np.float32)), part("m.weight_scale", np.float32([1]))],
    ),
    ("scales of nothing", [part("m.weight_scale_inv", np.ones((4, 4), np.float32))]),
    ("blocks of another thing", [stored("U8", 4, 16)(Part("m.num_blocks", "", (), b""))]),
)


@pytest.mark.parametrize("parts", [each[1] for each in LEFT_ALONE], ids=[each[0] for each in LEFT_ALONE])
def test_what_is_no_quantised_weight_is_left_alone(parts: list[Part]) -> None:
    checkpoint = opened(file_of(parts))
    assert dequantised(checkpoint) == checkpoint


@pytest.mark.parametrize(
    ("codes", "dtype", "other", "scheme"),
    [
        ("codes", "I16", "codebooks", "AQLM"),
        ("indices", "I32", "centroids.weight", "VPTQ"),
        ("Qidxs", "I16", "SU", "QuIP#"),
        ("dense_weights", "I32", "row_offsets", "SpQR"),
        ("q_weight", "I32", "q_scale", "EXL2"),
        ("trellis", "I16", "suh", "EXL3"),
        ("weight", "I16", "tables2", "HIGGS"),
        ("W_q", "U8", "scale", "HQQ"),
        ("weight._data", "I8", "weight._scale", "quanto"),
        ("weight_qdata", "I8", "weight_scale", "torchao"),
        ("B", "I32", "s", "Marlin"),
        ("weight", "I8", "weight_scales", "EETQ"),
        ("weight", "I32", "biases", "MLX"),
    ],
)
def test_codes_of_a_scheme_not_known_are_named_and_their_scales_not_judged(
    codes: str, dtype: str, other: str, scheme: str
) -> None:
    plain = [part("m.bias", np.ones(4, np.float32)), part("m.norm.weight", np.ones((4, 4), np.float32))]
    parts = [
        stored(dtype, 4, 4)(Part(f"m.{codes}", "", (), b"")),
        part(f"m.{other}", np.ones((4, 4), np.float32)),
        *plain,
    ]
    checkpoint = dequantised_file(parts)
    assert set(checkpoint.undecoded) == {f"m.{codes}", f"m.{other}"}
    assert all(f"how {scheme} stores weights" in reason for reason in checkpoint.undecoded.values())


@pytest.mark.parametrize("dtype", ["U8", "I8", "I16", "I32"])
def test_whole_numbers_in_the_place_of_a_weight_are_codes(dtype: str) -> None:
    checkpoint = dequantised_file(
        [stored(dtype, 4, 4)(Part("m.weight", "", (), b"")), part("m.bias", np.ones(4, np.float32))]
    )
    assert list(checkpoint.undecoded) == ["m.weight"]
    assert "no scheme known" in checkpoint.undecoded["m.weight"]


def test_a_weight_stands_where_its_codes_stood_and_the_others_stay() -> None:
    ones = np.ones((2, 2), np.float32)
    parts, settings = SMALL["gptq 4"]
    around = [part("a.weight", ones), *(replace(each, name=f"b.{each.name}") for each in parts), part("c.bias", ones)]
    checkpoint = opened(file_of(around, {"quantization_config": settings}))
    made = dequantised(replace(checkpoint, undecoded={"a.weight": "told before"}))
    assert [tensor.name for tensor in made.tensors] == ["a.weight", "b.m.weight", "c.bias"]
    assert made.tensors[0] is checkpoint.tensors[0]
    assert dict(made.undecoded) == {"a.weight": "told before"}
    assert decoder_of(made.tensors[1]).parts == ("b.m.qweight", "b.m.scales", "b.m.qzeros", "b.m.g_idx")


def test_each_component_has_the_settings_of_its_own_config() -> None:
    parts, settings = SMALL["gptq 4"]
    both = [replace(each, name=f"{component}/{each.name}") for component in ("one", "two") for each in parts]
    configs = {"one/": {"quantization_config": settings}, "two/": {"quantization_config": {"quant_method": "awq"}}}
    made = dequantised(replace(opened(file_of(both)), configs=configs))
    assert [tensor.name for tensor in made.tensors if tensor.decoder] == ["one/m.weight"]
    assert set(made.undecoded) == {f"two/{each.name}" for each in parts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A decoder of something else."""

    scheme: Scheme | None = None
    parts: tuple[str, ...] = ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        raise NotImplementedError

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        raise NotImplementedError


@pytest.mark.parametrize("kind", SMALL)
def test_parts_that_are_views_are_not_decoded_twice(kind: str) -> None:
    checkpoint = opened(small(kind))
    viewed = [replace(tensor, decoder=Elsewhere()) for tensor in checkpoint.tensors]
    made = dequantised(replace(checkpoint, tensors=tuple(viewed)))
    assert made.tensors == tuple(viewed)
    assert "stored as views" in "".join(made.undecoded.values())


@pytest.mark.parametrize("number", [4, -1, -(1 << 31), (1 << 31) - 1])
def test_a_group_that_is_not_there_is_a_finding_when_it_is_read(number: int) -> None:
    parts, settings = SMALL["gptq 4"]
    groups = (np.arange(64)[::-1] % 4).astype(np.int32)
    groups[40] = number
    tensor = only(dequantised_file([*parts[:3], part("m.g_idx", groups)], settings))
    with pytest.raises(RefusedFile) as caught:
        weights(tensor)
    assert (caught.value.rule, caught.value.case) == ("JN004", "group-out-of-range")


def test_scales_that_are_not_finite_give_weights_that_are_not() -> None:
    parts, settings = SMALL["fp8 rows"]
    scale = np.array([[np.nan], [np.inf], [1e38], [0], [-1]], np.float32)
    tensor = only(dequantised_file([parts[0], part("m.weight_scale", scale)], settings))
    assert np.isnan(weights(tensor)[0]).all()


NOT_SETTINGS = (None, 1, [], "gptq", {"quant_method": 5, "bits": True, "group_size": -1, "weight_block_size": [0, 1]})


@pytest.mark.parametrize("section", NOT_SETTINGS, ids=str)
def test_settings_that_are_none_change_nothing(section: object) -> None:
    content = file_of(SMALL["fp8 rows"][0], {"quantization_config": section, "compression_config": section})
    assert only(dequantised(opened(content))).stored_as == "FP8"


@pytest.mark.parametrize("groups", [[], {"g": 1}, {"g": {"weights": []}}, {str(n): {} for n in range(1000)}], ids=str)
def test_groups_that_are_none_change_nothing(groups: object) -> None:
    settings = {"config_groups": groups}
    assert only(dequantised_file(SMALL["fp8 rows"][0], settings)).stored_as == "FP8"


def test_a_checkpoint_without_tensors_stays_as_it_is() -> None:
    empty = Checkpoint(location="nowhere", tensors=(), files=())
    assert dequantised(empty) == empty


def test_a_stack_of_absurdly_many_matrices_is_not_cut_up() -> None:
    parts = [
        stored("F8_E4M3", 5000, 2, 2)(Part("m.weight", "", (), b"")),
        part("m.weight_scale", np.ones((5000, 2, 1), np.float32)),
    ]
    checkpoint = dequantised_file(parts)
    assert all("more than 4,096 matrices" in reason for reason in checkpoint.undecoded.values())
    assert len(checkpoint.undecoded) == 2


def test_a_weight_points_at_its_codes() -> None:
    checkpoint = opened(small("awq"))
    weight, codes = only(dequantised(checkpoint)), checkpoint.tensors[0]
    assert (weight.file, weight.start, weight.end) == (codes.file, codes.start, codes.end)
