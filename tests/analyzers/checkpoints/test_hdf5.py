"""HDF5 files of every layout, against h5py; and files that lead elsewhere, refused before anything is opened."""

import io
import random
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.decoding import Decoder
from jaynes_audit.analyzers.checkpoints.keras_hdf5 import looks_like_hdf5, read_hdf5
from jaynes_audit.analyzers.checkpoints.keras_hdf5.storage import fletcher32
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.dtypes import NUMPY_DTYPES, Dtype
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import FileInMemory, SourcesInMemory, damaged_files, read_tensor, survive

h5py = pytest.importorskip("h5py")

from tests.support.hdf5_files import (  # noqa: E402 - these need h5py
    HOSTILE,
    LARGE,
    ONE,
    OTHER_FILE,
    SOUND,
    Hostile,
    hdf5,
    of_every_storage,
    weight,
)
from tests.support.hdf5_fuzz import FUZZ  # noqa: E402

LARGEST_FACTOR = 64  # an object in Python is that much larger than the few bytes of a file that it is made from
ALLOWANCE = 2_000_000
FILE = Path("weights.h5")


def weights_of(content: bytes) -> WeightFile:
    return read_hdf5(io.BytesIO(content), FILE, len(content))


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    """Every tensor that is numbers, by name, as the reader has it."""
    weights = weights_of(content)
    with SourcesInMemory(content) as sources:
        return {
            tensor.name: np.frombuffer(read_tensor(tensor, sources), NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)
            for tensor in weights.tensors
            if tensor.name not in weights.undecoded
        }


def reference_of(content: bytes) -> dict[str, np.ndarray]:
    """Every dataset of real numbers or booleans, by its path with dots, as h5py has it."""
    found: dict[str, np.ndarray] = {}

    def visit(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "biuf":
            found[path.replace("/", ".")] = np.asarray(item[()])

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(visit)
    return found


def assert_same(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> None:
    assert ours.keys() == reference.keys()
    for name, expected in reference.items():
        little = expected.astype(expected.dtype.newbyteorder("<"))
        assert ours[name].dtype == little.dtype, name
        assert ours[name].shape == little.shape, name
        assert ours[name].tobytes() == little.tobytes(), name


@pytest.mark.parametrize("content", SOUND.values(), ids=SOUND.keys())
def test_every_dataset_is_bit_for_bit_what_h5py_reads(content: bytes) -> None:
    reference = reference_of(content)
    assert reference
    assert_same(arrays_of(content), reference)


@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE.keys())
def test_groups_of_many_names_are_read_whole(content: bytes) -> None:
    ours = arrays_of(content)
    assert len(ours) == 1200
    assert all(ours[f"flat.{number}"] == ours[f"layers.dense_{number}.kernel"] == number for number in range(600))


def test_plain_datasets_are_mapped_where_they_stand() -> None:
    content = hdf5(of_every_storage)
    tensors = {tensor.name: tensor for tensor in weights_of(content).tensors}
    with h5py.File(io.BytesIO(content)) as file:
        assert tensors["contiguous"].decoder is None
        assert tensors["contiguous"].start == file["contiguous"].id.get_offset()
        assert tensors["contiguous"].end == tensors["contiguous"].start + 17 * 19 * 4
    assert tensors["compact"].decoder is None
    assert content[tensors["compact"].start : tensors["compact"].end] == weight().tobytes()


def chunked_tensors() -> Iterator[tuple[str, Decoder, np.ndarray]]:
    reference = reference_of(SOUND["of_every_storage earliest"])
    for tensor in weights_of(SOUND["of_every_storage earliest"]).tensors:
        if tensor.decoder:
            yield tensor.name, tensor.decoder, reference[tensor.name]


@pytest.mark.parametrize(
    ("decoder", "reference"),
    [(decoder, reference) for _, decoder, reference in chunked_tensors()],
    ids=[name for name, _, _ in chunked_tensors()],
)
def test_any_run_of_elements_of_a_chunked_dataset_is_what_h5py_reads(decoder: Decoder, reference: np.ndarray) -> None:
    file = FileInMemory(SOUND["of_every_storage earliest"])
    read: list[tuple[int, int]] = []

    def reading(_: object, start: int, end: int) -> memoryview:
        read.append((start, end))
        return file.read(start, end)

    flat = reference.astype(reference.dtype.newbyteorder("<")).reshape(-1)
    dice = random.Random(20_265)  # noqa: S311 - for variety, not for secrecy
    for _ in range(200):
        first, stop = sorted(dice.randrange(flat.size + 1) for _ in range(2))
        if dice.random() < 0.5:
            stop = min(flat.size, first + dice.randrange(60))
        read.clear()
        elements = decoder.decode(reading, first, stop).elements
        assert elements.tobytes() == flat[first:stop].tobytes()
        needed = {(span.start, span.end) for span in decoder.needs(first, stop)}
        assert len(needed) == len(decoder.needs(first, stop))
        assert set(read) <= needed
        assert bool(needed) == (stop > first)


def test_a_run_across_the_end_of_a_long_row_takes_memory_for_the_run_and_not_for_the_rows() -> None:
    rows = np.zeros((2, 4_000_000), np.uint8)
    content = hdf5(lambda file: file.create_dataset("rows", data=rows, chunks=(1, 100_000)))
    (tensor,) = weights_of(content).tensors
    assert tensor.decoder
    source = FileInMemory(content)
    tracemalloc.start()
    try:
        decoded = tensor.decoder.decode(lambda _, start, end: source.read(start, end), 3_999_990, 4_000_010)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded.elements.size == 20
    assert peak < 1_000_000


def test_the_checksum_is_the_one_of_the_published_examples() -> None:
    # "abcde", "abcdef" and "abcdefgh" in words of the other byte order: the examples of Fletcher-32 in the literature.
    assert fletcher32(b"badcfe") == 0x56502D2A
    assert fletcher32(b"badcfehg") == 0xEBE19591
    assert fletcher32(bytes(8)) == 0


def test_other_names_of_a_tensor_are_aliases() -> None:
    weights = weights_of(SOUND["with_other_names earliest"])
    assert [tensor.name for tensor in weights.tensors] == ["a.kernel"]
    assert weights.aliases == {"tied": "a.kernel", "a.soft": "a.kernel", "soft": "a.kernel"}


def test_a_weight_with_a_second_name_in_the_optimizer_is_still_a_weight() -> None:
    def fill(file: "h5py.File") -> None:
        file["optimizer/a"] = weight()
        file["vars/a"] = file["optimizer/a"]
        file["optimizer/b"] = weight()

    weights = weights_of(hdf5(fill))
    assert [tensor.name for tensor in weights.tensors] == ["vars.a"]
    assert weights.remarks == ("the optimizer's state was passed over: 1 tensors",)


def test_what_holds_no_numbers_is_passed_over_with_a_remark() -> None:
    (remark,) = weights_of(SOUND["of_every_dtype earliest"]).remarks
    assert remark.startswith("5 datasets of text, of records or of nothing were passed over: 'complex', 'empty', 'ref")


def never_written(file: "h5py.File") -> None:
    file.create_dataset("a", (2, 3), "f4")


def partly_written(file: "h5py.File") -> None:
    file.create_dataset("a", (20, 3), "f4", chunks=(5, 3))[:5] = 1


def in_lzf(file: "h5py.File") -> None:
    file.create_dataset("a", data=weight((20, 3)), compression="lzf")


def opaque(file: "h5py.File") -> None:
    file["a"] = np.zeros(3, "V2")


def of_13_bits(file: "h5py.File") -> None:
    short = h5py.h5t.NATIVE_INT16.copy()
    short.set_precision(13)
    h5py.h5d.create(file.id, b"a", short, h5py.h5s.create_simple((2,)))


def of_a_named_type(file: "h5py.File") -> None:
    file["type"] = np.dtype("<f4")
    file.create_dataset("a", (2,), file["type"])[:] = 1


def in_many_chunks(file: "h5py.File") -> None:
    file.create_dataset("a", data=weight((20, 3)), chunks=(5, 3))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (hdf5(never_written), "its weights were never written; its shape is (2, 3)"),
        (hdf5(partly_written), "3 of its 4 chunks were never written; its shape is (20, 3)"),
        (hdf5(in_lzf), "packed with the HDF5 filters (32000,), of which not all are read here; its shape is (20, 3)"),
        (hdf5(opaque), "elements of 2 bytes whose meaning the file does not tell; its shape is (3,)"),
        (hdf5(of_13_bits), "whole numbers of 13 bits in 2 bytes; its shape is (2,)"),
        (hdf5(of_a_named_type), "its number format is stored apart from it, which no Keras does; its shape is (2,)"),
        (
            hdf5(in_many_chunks, libver="latest"),
            "in chunks that are found as HDF5 1.10 does; write it again without libver='latest'; its shape is (20, 3)",
        ),
    ],
    ids=["never written", "partly written", "lzf", "opaque", "13 bits", "named type", "chunks of 1.10"],
)
def test_what_cannot_be_turned_into_numbers_is_listed_with_the_reason(content: bytes, reason: str) -> None:
    weights = weights_of(content)
    assert [tensor.name for tensor in weights.tensors] == ["a"]
    assert weights.undecoded == {"a": reason}


def test_a_dataset_of_one_chunk_is_read_from_the_newest_files_too() -> None:
    numbers = weight((20, 3))
    content = hdf5(
        lambda file: file.create_dataset("a", data=numbers, chunks=(20, 3), compression="gzip"), libver="latest"
    )
    assert_same(arrays_of(content), {"a": numbers})


@pytest.mark.parametrize(
    ("damage", "case"),
    [(lambda chunk: b"\xff" * len(chunk), "chunk-deflate"), (lambda chunk: bytes([chunk[0]]) + chunk[:-1], "chunk")],
    ids=["bytes of 0xff", "shifted"],
)
def test_a_chunk_that_does_not_unpack_is_refused_when_it_is_read(damage, case: str) -> None:
    content = hdf5(lambda file: file.create_dataset("a", data=weight((20, 30)), chunks=(20, 30), compression="gzip"))
    (tensor,) = weights_of(content).tensors
    broken = content[: tensor.start] + damage(content[tensor.start : tensor.end]) + content[tensor.end :]
    with SourcesInMemory(broken) as sources, pytest.raises(RefusedFile) as refusal:
        read_tensor(tensor, sources)
    assert refusal.value.rule == "JN004"
    assert refusal.value.case.startswith(case)


def test_a_chunk_that_differs_from_its_checksum_is_refused_when_it_is_read() -> None:
    content = hdf5(lambda file: file.create_dataset("a", data=weight((20, 30)), chunks=(20, 30), fletcher32=True))
    (tensor,) = weights_of(content).tensors
    broken = bytearray(content)
    broken[tensor.start + 5] ^= 1
    with SourcesInMemory(bytes(broken)) as sources, pytest.raises(RefusedFile, match="checksum"):
        read_tensor(tensor, sources)


# ---- refusals

_opened: list[object] = []
_watching = False


def _note_what_is_opened(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event in {"open", "os.open", "socket.connect", "subprocess.Popen"}:
        _opened.append(arguments)


sys.addaudithook(_note_what_is_opened)  # which cannot be taken away again, so it only looks while it is told to


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused_in_one_sentence_and_no_other_file_is_opened(hostile: Hostile) -> None:
    global _watching  # noqa: PLW0603 - the hook is one for the process
    _opened.clear()
    _watching = True
    try:
        with pytest.raises(RefusedFile) as refusal:
            weights_of(hostile.content)
    finally:
        _watching = False
    assert (refusal.value.rule, refusal.value.case) == (hostile.rule, hostile.case)
    assert "\n" not in str(refusal.value)
    assert "; " in str(refusal.value)
    assert not _opened


def test_the_canary_sings_when_h5py_reads_the_same_file(tmp_path: Path) -> None:
    """The hostile corpus is one: h5py gives the bytes of the other file."""
    other = tmp_path / "secret"
    other.write_bytes(b"0123456789abcdef")
    content = hdf5(lambda file: file.create_dataset("a", (16,), "u1", external=[(str(other), 0, 16)]))
    with h5py.File(io.BytesIO(content)) as file:
        assert file["a"][()].tobytes() == other.read_bytes()
    assert any(OTHER_FILE.encode() in hostile.content for hostile in HOSTILE)


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(ONE)):
        with pytest.raises(RefusedFile):
            weights_of(ONE[:length])


def test_an_hdf5_file_is_told_by_its_first_bytes() -> None:
    assert looks_like_hdf5(ONE[:512], len(ONE))
    assert not looks_like_hdf5(b"PK\3\4" + ONE[:508], len(ONE))
    assert not looks_like_hdf5(b"", 0)


# ---- fuzzing


def test_damaged_files_are_read_or_refused_and_nothing_else() -> None:
    ends, faults = survive(FUZZ, inputs=1500, seed=20_266)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 100, "the damage leaves too few files sound to read their elements"


def test_a_damaged_file_takes_memory_in_proportion_to_its_length() -> None:
    for content in (*damaged_files(FUZZ, inputs=150, seed=20_267), *(each.content for each in HOSTILE)):
        tracemalloc.start()
        try:
            with suppress(RefusedFile):
                weights = weights_of(content)
                assert sum(prod(tensor.shape) for tensor in weights.tensors) <= 1100 * len(content)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < LARGEST_FACTOR * len(content) + ALLOWANCE


def test_every_number_format_is_met_in_both_byte_orders() -> None:
    tensors = weights_of(SOUND["of_every_dtype earliest"]).tensors
    for order in ("little", "big"):
        assert {tensor.dtype for tensor in tensors if tensor.name.startswith(order)} == {
            *(Dtype.BOOL, Dtype.I8, Dtype.U8, Dtype.I16, Dtype.U16, Dtype.I32, Dtype.U32, Dtype.I64, Dtype.U64),
            *(Dtype.F16, Dtype.F32, Dtype.F64),
        }
