"""The GGUF reader against the format's own package: headers, blocks, both orders of bytes, and what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from gguf.scripts.gguf_convert_endian import byteswap_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.gguf_blocks import (
    BIG_ENDIAN_NUMBERS,
    BLOCKS,
    NAMES_OF_OTHERS,
    PLAIN,
    QuantisedBlocks,
)
from jaynes_audit.analyzers.checkpoints.gguf_config import config_of_gguf
from jaynes_audit.analyzers.checkpoints.gguf_file import looks_like_gguf, read_gguf
from jaynes_audit.analyzers.checkpoints.gguf_header import PIECE, read_header
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import BITS, Dtype
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from tests.support.fuzzing import FileInMemory, read_tensor
from tests.support.gguf_files import (
    BLOCK_TYPES,
    BOOL,
    F32,
    HOSTILE,
    LIST,
    SOUND,
    TEXT,
    THIRTY_TWO,
    U8,
    U32,
    Hostile,
    entry,
    gguf,
    items,
    number,
    random_blocks,
    text,
    turned_round,
    word,
    write,
)

Type = GGMLQuantizationType

NOT_IN_THE_PACKAGE = {Type.Q1_0}  # gguf 0.19 knows its size and not how to decode it
EVERY_BLOCK_TYPE = pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.name)
PACKAGED_TYPES = tuple(kind for kind in BLOCK_TYPES if kind not in NOT_IN_THE_PACKAGE)

PLAIN_ARRAYS: dict[str, np.ndarray] = {
    "f32": np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4),
    "f16": np.linspace(-3, 3, 12, dtype=np.float16).reshape(3, 2, 2),
    "f64": np.linspace(-3, 3, 5),
    "i8": np.arange(-3, 4, dtype=np.int8),
    "i16": np.arange(-300, 300, 100, dtype=np.int16).reshape(2, 3),
    "i32": np.arange(-(10**9), 10**9, 5 * 10**8, dtype=np.int32),
    "i64": np.arange(-(10**18), 10**18, 5 * 10**17, dtype=np.int64),
}


def read(content: bytes) -> WeightFile:
    return read_gguf(io.BytesIO(content), Path("x.gguf"), len(content))


def opened(path: Path) -> WeightFile:
    with path.open("rb") as stream:
        return read_gguf(stream, path, path.stat().st_size)


def content_of(tensor: Tensor) -> bytes:
    with Sources(Io.PREAD) as sources:
        return read_tensor(tensor, sources)


def elements_of(tensor: Tensor) -> np.ndarray:
    assert tensor.dtype is Dtype.F32
    return np.frombuffer(content_of(tensor), np.float32).reshape(tensor.shape)


def by_package(blocks: np.ndarray, kind: Type) -> np.ndarray:
    with np.errstate(all="ignore"):
        return dequantize(blocks, kind)


def named(hostile: Hostile) -> str:
    return hostile.name


def refusal(content: bytes) -> RefusedFile:
    with pytest.raises(RefusedFile) as caught:
        read(content)
    return caught.value


# ---- the types


def test_every_type_of_the_package_has_its_size_here() -> None:
    ours = {number: (kind.elements, kind.stored_bytes) for number, kind in BLOCKS.items()}
    ours |= {number: (1, BITS[dtype] // 8) for number, dtype in PLAIN.items()}
    theirs = {int(kind): size for kind, size in GGML_QUANT_SIZES.items() if kind.name not in NAMES_OF_OTHERS.values()}
    assert ours == theirs


def test_every_type_has_the_name_that_the_package_gives_it() -> None:
    names = {number: kind.name for number, kind in BLOCKS.items()} | {
        number: str(kind) for number, kind in PLAIN.items()
    }
    assert names | {9: "Q8_1", 15: "Q8_K"} == {int(kind): kind.name for kind in Type}


# ---- blocks


@EVERY_BLOCK_TYPE
def test_any_blocks_are_decoded_as_the_package_decodes_them(kind: Type, tmp_path: Path) -> None:
    blocks = random_blocks(kind, (5, 1024))
    (tensor,) = opened(write(tmp_path / "a.gguf", {"a.weight": (kind, blocks)})).tensors
    assert (tensor.name, tensor.shape, tensor.dtype) == ("a.weight", (5, 1024), Dtype.F32)
    assert tensor.stored_as == kind.name
    assert tensor.stored_bytes == blocks.nbytes
    expected = signs(blocks) if kind in NOT_IN_THE_PACKAGE else by_package(blocks, kind)
    np.testing.assert_array_equal(elements_of(tensor), expected)


def signs(blocks: np.ndarray) -> np.ndarray:
    """Q1_0 by its definition, an element at a time: a float16 scale, and 16 bytes of signs, lowest bit first."""
    rows = []
    for row in blocks.reshape(len(blocks), -1, 18):
        for block in row:
            scale = np.frombuffer(block[:2].tobytes(), "<f2")[0].astype(np.float32)
            rows.append([scale if block[2 + at // 8] >> at % 8 & 1 else -scale for at in range(128)])
    return np.array(rows, np.float32).reshape(len(blocks), -1)


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.TQ1_0, Type.TQ2_0])
def test_weights_come_back_as_closely_as_their_type_holds_them(kind: Type, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(4, 512)).astype(np.float32)
    (tensor,) = opened(write(tmp_path / "a.gguf", {"a": (kind, quantize(weights, kind))})).tensors
    codes = {Type.Q4_0: 15, Type.Q4_1: 15, Type.Q5_0: 31, Type.Q5_1: 31, Type.Q8_0: 255}.get(kind, 2)
    of_block = GGML_QUANT_SIZES[kind][0]
    reach = np.repeat(np.ptp(weights.reshape(-1, of_block), axis=1), of_block).reshape(weights.shape)
    largest = np.repeat(abs(weights.reshape(-1, of_block)).max(axis=1), of_block).reshape(weights.shape)
    assert (abs(elements_of(tensor) - weights) < 1.2 * np.maximum(reach, 2 * largest) / codes).all()


@given(st.sampled_from(BLOCK_TYPES), st.integers(1, 5), st.data())
@settings(max_examples=150, deadline=None)
def test_any_range_of_elements_is_that_slice_of_the_whole(kind: Type, blocks: int, data: st.DataObject) -> None:
    of_block, _ = GGML_QUANT_SIZES[kind]
    first = data.draw(st.integers(0, of_block * blocks))
    stop = data.draw(st.integers(first, of_block * blocks))
    stored = FileInMemory(b"\0" * 7 + random_blocks(kind, (of_block * blocks,), seed=blocks).tobytes())
    decoder = QuantisedBlocks(
        name="a",
        file=Path("a"),
        start=7,
        elements=of_block * blocks,
        type=BLOCKS[int(kind)],
        is_big_endian=False,
    )

    def fetch(_: object, start: int, end: int) -> memoryview:
        assert [(start, end)] == [(span.start, span.end) for span in decoder.needs(first, stop)]
        return stored.read(start, end)

    whole = decoder.decode(lambda _, start, end: stored.read(start, end), 0, of_block * blocks).elements
    part = decoder.decode(fetch, first, stop).elements
    assert (part.dtype, part.shape) == (np.float32, (stop - first,))
    np.testing.assert_array_equal(part, whole[first:stop])


def test_many_blocks_are_decoded_as_few_are(tmp_path: Path) -> None:
    blocks = random_blocks(Type.Q8_0, (3, 1 << 16))
    (tensor,) = opened(write(tmp_path / "a.gguf", {"a": (Type.Q8_0, blocks)})).tensors
    np.testing.assert_array_equal(elements_of(tensor), by_package(blocks, Type.Q8_0))


def test_a_scale_beside_a_quantised_weight_belongs_to_it(tmp_path: Path) -> None:
    blocks = random_blocks(Type.NVFP4, (2, 256))
    path = write(tmp_path / "a.gguf", {"a.weight": (Type.NVFP4, blocks), "a.scale": np.array([0.25], np.float32)})
    (tensor,) = opened(path).tensors
    assert tensor.decoder is not None
    assert tensor.decoder.parts == ("a.weight", "a.scale")
    assert (tensor.stored_tensors, tensor.stored_bytes) == (2, blocks.nbytes + 4)
    np.testing.assert_array_equal(elements_of(tensor), by_package(blocks, Type.NVFP4) * np.float32(0.25))


def test_every_expert_has_its_own_scale(tmp_path: Path) -> None:
    blocks = random_blocks(Type.NVFP4, (3, 2, 128))
    scales = np.array([0.5, 2, 3], np.float32)
    path = write(tmp_path / "a.gguf", {"a.scale": scales, "a.weight": (Type.NVFP4, blocks)})
    (tensor,) = opened(path).tensors
    expected = by_package(blocks, Type.NVFP4) * scales[:, None, None]
    np.testing.assert_array_equal(elements_of(tensor), expected)
    with Sources(Io.PREAD) as sources:
        middle = sources.of(tensor).read(4 * 100, 4 * 700)
        np.testing.assert_array_equal(np.frombuffer(middle, np.float32), expected.reshape(-1)[100:700])


def test_a_scale_beyond_all_reason_makes_infinities_and_no_warning(tmp_path: Path) -> None:
    blocks = quantize(np.full((1, 32), 100, np.float32), Type.Q8_0)
    path = write(tmp_path / "a.gguf", {"a.weight": (Type.Q8_0, blocks), "a.scale": np.array([3e38], np.float32)})
    (tensor,) = opened(path).tensors
    assert np.isposinf(elements_of(tensor)).all()
    assert tensor.decoder is not None
    with Sources(Io.PREAD) as sources:
        read_bytes = sources.of_file(path).read
        assert tensor.decoder.decode(lambda _, start, end: read_bytes(start, end), 32, 32).elements.size == 0


@pytest.mark.parametrize(
    ("weight", "scale"),
    [
        (np.ones((2, 64), np.float32), np.ones(1, np.float32)),
        ((Type.Q8_0, random_blocks(Type.Q8_0, (2, 64))), np.ones(2, np.float32)),
        ((Type.Q8_0, random_blocks(Type.Q8_0, (2, 64))), np.ones(1, np.float16)),
    ],
    ids=["the weight is plain", "a scale for each row", "the scale is no float32"],
)
def test_another_tensor_called_scale_stays_by_itself(weight: Any, scale: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", {"a.weight": weight, "a.scale": scale})
    assert [tensor.name for tensor in opened(path).tensors] == ["a.weight", "a.scale"]


# ---- plain numbers, headers and places


@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_shapes_and_places_are_those_of_the_package(alignment: int, tmp_path: Path) -> None:
    blocks = {f"blk.0.{kind.name}": (kind, random_blocks(kind, (2, 3, 256))) for kind in PACKAGED_TYPES}
    path = write(tmp_path / "a.gguf", {**PLAIN_ARRAYS, **blocks}, alignment=alignment)
    ours = {tensor.name: tensor for tensor in opened(path).tensors}
    theirs = GGUFReader(path).tensors
    assert list(ours) == [tensor.name for tensor in theirs]
    for tensor in theirs:
        mine = ours[tensor.name]
        assert mine.shape == tuple(reversed(tensor.shape.tolist()))
        assert (mine.start, mine.end) == (tensor.data_offset, tensor.data_offset + tensor.n_bytes)


@pytest.mark.parametrize("big_endian", [False, True], ids=["little-endian", "big-endian"])
def test_plain_numbers_are_what_was_written(*, big_endian: bool, tmp_path: Path) -> None:
    bf16 = np.random.default_rng(2).integers(0, 1 << 16, (3, 8), np.uint16)
    stored = bf16.byteswap() if big_endian else bf16  # as bytes, which the writer leaves alone
    path = write(
        tmp_path / "a.gguf", {**PLAIN_ARRAYS, "bf16": (Type.BF16, stored.view(np.uint8))}, big_endian=big_endian
    )
    read_tensors = opened(path).tensors
    for tensor in read_tensors:
        expected = bf16 if tensor.name == "bf16" else PLAIN_ARRAYS[tensor.name]
        assert (str(tensor.dtype), tensor.shape) == (tensor.name.upper(), expected.shape)
        assert content_of(tensor) == expected.tobytes()
        assert tensor.stored_as == tensor.dtype
    assert any(tensor.decoder for tensor in read_tensors) == big_endian


@pytest.mark.parametrize("kind", [Type[name] for name in BIG_ENDIAN_NUMBERS], ids=lambda kind: kind.name)
def test_big_endian_blocks_are_those_that_the_converter_turned_round(kind: Type, tmp_path: Path) -> None:
    blocks = random_blocks(kind, (3, 512))
    path = write(tmp_path / "a.gguf", {"a": (kind, turned_round(blocks, kind))}, big_endian=True)
    (tensor,) = opened(path).tensors
    np.testing.assert_array_equal(elements_of(tensor), by_package(blocks, kind))


def test_the_big_endian_blocks_that_are_read_are_those_that_can_be_converted() -> None:
    assert set(BIG_ENDIAN_NUMBERS) == {kind.name for kind in byteswap_tensors}


def test_big_endian_blocks_that_nothing_writes_are_not_decoded(tmp_path: Path) -> None:
    weights = opened(write(tmp_path / "a.gguf", {"a": (Type.Q5_K, random_blocks(Type.Q5_K, (256,)))}, big_endian=True))
    assert weights.undecoded == {
        "a": "codes only: Q5_K in big-endian order, which llama.cpp's own converter does not write"
    }


def test_a_big_endian_scale_is_turned_round_too(tmp_path: Path) -> None:
    blocks = random_blocks(Type.NVFP4, (2, 256))
    path = write(
        tmp_path / "a.gguf",
        {"a.weight": (Type.NVFP4, blocks), "a.scale": np.array([0.25], np.float32)},
        big_endian=True,
    )
    (tensor,) = opened(path).tensors
    np.testing.assert_array_equal(elements_of(tensor), by_package(blocks, Type.NVFP4) * np.float32(0.25))


@pytest.mark.parametrize(("kind", "word_for_it"), [(9, "Q8_1"), (15, "Q8_K"), (31, "Q4_0_4_4"), (137, "type 137")])
def test_a_type_that_cannot_be_decoded_comes_as_its_bytes(kind: int, word_for_it: str) -> None:
    content = gguf(entry("odd", [32, 2], kind), entry("b", [8], offset=96), data=bytes(range(128)))
    weights = read(content)
    odd, plain = weights.tensors
    assert word_for_it in weights.undecoded["odd"]
    assert (odd.dtype, odd.shape, plain.dtype) == (Dtype.U8, (96,), Dtype.F32)
    assert content[odd.start : odd.end] == bytes(range(96))
    assert list(weights.undecoded) == ["odd"]


def test_the_last_tensor_of_an_unknown_type_goes_on_to_the_end_of_the_file() -> None:
    (odd,) = read(gguf(entry("odd", [32, 2], 137), data=bytes(70))).tensors
    assert odd.shape == (70,)


def test_a_scalar_and_a_tensor_without_elements_are_read() -> None:
    entries = (entry("one", []), entry("none", [0, 7], offset=32), entry("b", [8], offset=32))
    tensors = read(gguf(*entries, data=THIRTY_TWO * 2)).tensors
    assert {tensor.name: tensor.shape for tensor in tensors} == {"one": (), "none": (7, 0), "b": (8,)}


def test_a_file_without_tensors_is_read() -> None:
    assert read(gguf(metadata=[("general.architecture", word("llama"))])).tensors == ()


def test_version_2_is_read_like_version_3() -> None:
    (tensor,) = read(gguf(entry("a", [8]), data=THIRTY_TWO, version=2)).tensors
    assert tensor.shape == (8,)


def test_the_last_tensor_may_lack_its_padding() -> None:
    (tensor,) = read(gguf(entry("a", [5]), data=bytes(20))).tensors
    assert tensor.end - tensor.start == 20


def test_bytes_that_belong_to_no_tensor_are_remarked_on() -> None:
    assert read(SOUND).remarks == ()
    assert read(SOUND + bytes(1000)).remarks == (
        "1,000 bytes of the file belong to no tensor, and anything may stand there",
    )
    (remark,) = read(gguf(entry("a", [8], offset=320), data=bytes(352))).remarks
    assert remark.startswith("320 bytes")


@pytest.mark.parametrize("order", "<>")
def test_metadata_of_every_kind_are_passed_over(order: Any) -> None:
    metadata = [
        *((f"n{kind}", number(kind, 1, order)) for kind in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)),
        *((f"l{kind}", items(kind, 3, bytes(24 if kind > 9 else 12), order)) for kind in (4, 5, 6, 10, 11, 12)),
        ("l0", items(U8, 3, bytes(3), order)),
        ("l7", items(BOOL, 2, bytes(2), order)),
        ("texts", items(TEXT, 3, text("a", order) + text("", order) + text("b" * 300, order), order)),
        ("lists", items(LIST, 2, items(U8, 1, b"x", order)[4:] + items(TEXT, 1, text("y", order), order)[4:], order)),
        ("nothing", items(F32, 0, order=order)),
        ("long", word("x" * 5000, order)),
        ("not UTF-8", word(b"\xff", order)),
        ("general.architecture", word("llama", order)),
    ]
    content = gguf(entry("a", [8], order=order), metadata=metadata, data=THIRTY_TWO, order=order)
    header = read_header(io.BytesIO(content), Path("x"), len(content))
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["n12"] == 1.0
    assert header.metadata["texts"] is None
    assert [each.shape for each in header.entries] == [(8,)]


@pytest.mark.parametrize("size", [PIECE - 9, PIECE - 1, PIECE, 3 * PIECE + 5])
def test_a_header_may_be_longer_than_what_is_read_at_once(size: int) -> None:
    tokens = [text("t" * (at % 12)) for at in range(size // 14)]
    metadata = [
        ("scores", items(U8, size, bytes(size))),
        ("tokens", items(TEXT, len(tokens), b"".join(tokens))),
        ("n", number(U32, 7)),
        ("template", word("x" * size)),
    ]
    content = gguf(entry("a", [8]), metadata=metadata, data=THIRTY_TWO)
    stream = io.BytesIO(content)
    header = read_header(stream, Path("x"), len(content))
    assert header.metadata["n"] == 7
    assert header.data_start == len(content) - 32
    assert stream.tell() <= header.data_start + PIECE


def test_parts_of_a_split_model_are_read_one_by_one(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2)
    for at in range(5):
        writer.add_tensor(f"blk.{at}.attn_q.weight", np.full((2, 4), at, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) == 3
    assert [tensor.name[4] for part in parts for tensor in opened(part).tensors] == list("01234")
    assert elements_of(opened(parts[2]).tensors[0]).tolist() == [[4.0] * 4] * 2


def test_a_gguf_file_is_told_by_its_magic() -> None:
    assert looks_like_gguf(SOUND[:512], len(SOUND))
    assert not looks_like_gguf(b"GGML" + SOUND[4:], len(SOUND))
    assert not looks_like_gguf(b"", 0)


# ---- settings


def test_the_settings_are_those_of_the_metadata(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.gguf",
        {"a": PLAIN_ARRAYS["f32"]},
        embedding_length=64,
        attention__head_count=8,
        attention__head_count_kv=2,
        attention__key_length=16,
        block_count=3,
    )
    assert opened(path).config == {
        "model_type": "gguf-llama",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }


@pytest.mark.parametrize("metadata", [{}, {"general.architecture": 3}, {"general.architecture": ""}])
def test_without_an_architecture_there_are_no_settings(metadata: dict[str, object]) -> None:
    assert config_of_gguf({"llama.embedding_length": 64, **metadata}) == {}


def test_a_setting_that_differs_from_block_to_block_is_left_out() -> None:
    metadata = {"general.architecture": "openelm", "openelm.attention.head_count": None, "openelm.block_count": True}
    assert config_of_gguf(metadata) == {"model_type": "gguf-openelm"}


# ---- hostile files


@pytest.mark.parametrize("hostile", HOSTILE, ids=named)
def test_a_hostile_file_is_refused_for_what_it_is(hostile: Hostile) -> None:
    refused = refusal(hostile.content)
    assert (refused.rule, refused.case) == (hostile.rule, hostile.case)
    assert hostile.mention in str(refused)


@pytest.mark.parametrize("hostile", HOSTILE, ids=named)
def test_a_refusal_is_one_printable_line(hostile: Hostile) -> None:
    sentence = str(refusal(hostile.content))
    assert sentence.isprintable()
    assert "; " in sentence, "a fault and a remedy"
    assert len(sentence) < 300


def test_there_is_a_hostile_file_for_every_case() -> None:
    assert len(HOSTILE) > 50
    assert len({hostile.case for hostile in HOSTILE}) == 18


def test_every_beginning_of_a_file_is_refused_as_cut_off(tmp_path: Path) -> None:
    content = write(tmp_path / "a.gguf", {"a": PLAIN_ARRAYS["f32"]}).read_bytes()
    end = opened(tmp_path / "a.gguf").tensors[0].end
    for length in range(4, end):
        assert refusal(content[:length]).rule == "JN001", length


def test_what_is_no_gguf_file_is_refused() -> None:
    assert refusal(b"GGML" + SOUND[4:]).case == "gguf-magic"


def test_a_header_without_end_is_not_read_to_its_end() -> None:
    beginning = gguf(metadata=[("a", items(U8, 1 << 40))])
    stream = io.BytesIO(beginning)
    with pytest.raises(RefusedFile) as caught:
        read_gguf(stream, Path("x"), 1 << 41)
    assert (caught.value.rule, caught.value.case) == ("JN003", "header-too-large")


def test_a_file_that_shrinks_while_it_is_read_is_not_called_unsound() -> None:
    with pytest.raises(CouldNotRead, match="became shorter"):
        read_gguf(io.BytesIO(SOUND[:40]), Path("x"), len(SOUND))
