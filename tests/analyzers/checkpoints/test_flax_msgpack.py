"""Flax's files against the values that Flax wrote, and hostile ones against their refusals."""

import tracemalloc
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints import flax_msgpack
from jaynes_audit.analyzers.checkpoints.flax_msgpack import looks_like_flax, read_flax
from jaynes_audit.analyzers.checkpoints.foreign import PROBE
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import BITS
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.flax_files import (
    CHUNKS,
    CORPUS,
    EIGHT,
    HOSTILE,
    Extension,
    Hostile,
    W,
    array,
    chunks,
    nested,
    packed,
)
from tests.support.flax_fuzz import FUZZ
from tests.support.fuzzing import SourcesInMemory, read_tensor, survive

FIXTURES = Path("fixtures/formats")


def read(content: bytes) -> WeightFile:
    return read_flax(BytesIO(content), Path("flax_model.msgpack"), len(content))


def read_fixture(name: str) -> tuple[WeightFile, dict[str, np.ndarray]]:
    """A fixture, and its tensors as unsigned integers of the same width."""
    path = FIXTURES / f"{name}.msgpack"
    with opened(path) as (stream, size):
        assert looks_like_flax(stream.read(PROBE), size)
        stream.seek(0)
        weights = read_flax(stream, path, size)
    found = {}
    with Sources(Io.MMAP) as sources:
        for each in weights.tensors:
            width = BITS[each.dtype] // 8
            content = np.frombuffer(read_tensor(each, sources), "c16" if width == 16 else f"u{width}")
            found[each.name] = content.reshape(each.shape)
    return weights, found


@pytest.mark.parametrize("name", ["train_state", "every_dtype"])
def test_every_number_is_what_flax_wrote(name: str) -> None:
    _, found = read_fixture(name)
    with np.load(FIXTURES / f"{name}_expected.npz") as expected:
        assert found.keys() == set(expected)
        for key in expected:
            assert found[key].shape == expected[key].shape, key
            assert found[key].tobytes() == expected[key].tobytes(), key


def test_the_optimizers_arrays_are_passed_over_aloud() -> None:
    weights, found = read_fixture("train_state")
    assert all(name.startswith("params.") for name in found)
    assert weights.remarks == ("15 arrays of the optimizer, under opt_state, were passed over",)


def test_arrays_are_mapped_in_place_but_for_those_in_chunks() -> None:
    weights, _ = read_fixture("every_dtype")
    in_chunks = {each.name.rpartition(".")[2] for each in weights.tensors if each.decoder}
    assert in_chunks == {"float64", "float32", "int32", "int64", "uint32", "uint64", "complex64", "complex128"}


def test_without_parameters_the_optimizers_key_is_any_other() -> None:
    assert [each.name for each in read(packed({"opt_state": {"w": W}})).tensors] == ["opt_state.w"]


def test_chunks_are_joined_in_any_pieces() -> None:
    (tensor,) = read(content := chunks()).tensors
    with SourcesInMemory(content) as sources:
        source = sources.of(tensor)
        for first in range(6):
            for stop in range(first + 1, 7):
                assert bytes(source.read(4 * first, 4 * stop)) == bytes(range(4 * first, 4 * stop))
    assert tensor.shape == (2, 3)
    assert tensor.stored_bytes == 24


def test_formats_that_take_a_byte_each_are_left_out() -> None:
    weights = read(packed({"w": array((8,), "int4"), "v": W}))
    assert [each.name for each in weights.tensors] == ["v"]
    assert weights.undecoded == {"w": "its numbers have the format 'int4', which is not read"}


def test_keys_that_are_whole_numbers_and_lists_are_read() -> None:
    names = [each.name for each in read(packed({"blocks": {0: W, 1: [W, {"b": W}]}})).tensors]
    assert names == ["blocks.0", "blocks.1.0", "blocks.1.1.b"]


def test_the_shortest_forms_are_read_as_the_longest() -> None:
    short = b"\x81\xa1w" + b"\xc7\x16\x01" + b"\x93\x91\x02\xa7float32\xc4\x08" + EIGHT
    short = short.replace(b"\xc7\x16", b"\xc7" + bytes([len(short) - 6]))
    (tensor,) = read(short).tensors
    assert short[tensor.start : tensor.end] == EIGHT
    assert looks_like_flax(short, len(short))


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused_for_its_fault(hostile: Hostile) -> None:
    with pytest.raises(RefusedFile) as refusal:
        read(hostile.content)
    assert (refusal.value.rule, refusal.value.case) == (hostile.rule, hostile.case)


@pytest.mark.parametrize(
    "content",
    [
        packed({str(key): None for key in range(10_000)}),
        packed({"a": dict.fromkeys(map(str, range(500)), CHUNKS)}),
        b"\xdf\xff\xff\xff\xff",
        nested(64),
        packed({"a" * 9000: {"b" * 9000: {str(key): W for key in range(1000)}}}),
    ],
    ids=["many keys", "many chunks", "a huge map", "a deep map", "long names"],
)
def test_a_greedy_file_takes_memory_in_proportion_to_its_length(content: bytes) -> None:
    stream = BytesIO(content)
    tracemalloc.start()
    try:
        with suppress(RefusedFile):
            read_flax(stream, Path("greedy"), len(content))
        assert tracemalloc.get_traced_memory()[1] < 40 * len(content) + (1 << 20)
    finally:
        tracemalloc.stop()


def test_names_are_bounded_one_by_one_and_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed({"w" * 499: {"v" * 500: W}, "u" * 1000: W})
    assert [len(each.name) for each in read(content).tensors] == [1000, 1000]
    monkeypatch.setattr(flax_msgpack, "MOST_CHARACTERS", 1999)
    with pytest.raises(RefusedFile) as refusal:
        read(content)
    assert (refusal.value.rule, refusal.value.case) == ("JN003", "flax-name-too-long")


@pytest.mark.parametrize("content", CORPUS, ids=range(len(CORPUS)))
def test_files_are_told_by_their_first_bytes(content: bytes) -> None:
    assert looks_like_flax(content[:PROBE], len(content))


def test_other_files_are_not_taken_for_flaxs() -> None:
    dice = np.random.default_rng(0)
    others = [
        *(bytes([0x80 + dice.integers(16)]) + dice.bytes(PROBE - 1) for _ in range(5_000)),
        *(b"", b"\x80", packed({"a": 1}), packed({"a": Extension(1, b"")}), packed([W]), b'{"a": 1}'),
    ]
    assert not any(looks_like_flax(head, 1 << 30) for head in others)
    for file in FIXTURES.iterdir():
        with opened(file) as (stream, size):
            assert looks_like_flax(stream.read(PROBE), size) == (file.suffix == ".msgpack"), file


def test_the_reader_survives_damaged_files() -> None:
    ends, faults = survive(FUZZ, inputs=2500, seed=20)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 250
