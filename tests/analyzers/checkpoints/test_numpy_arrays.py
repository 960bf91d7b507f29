"""NumPy's files against NumPy itself, bit for bit, and hostile ones against their refusals."""

import io
import itertools
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints import numpy_arrays
from jaynes_audit.analyzers.checkpoints.foreign import PROBE
from jaynes_audit.analyzers.checkpoints.numpy_arrays import looks_like_npy, looks_like_npz, read_npy, read_npz
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import NUMPY_DTYPES
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support import npy_fuzz, npz_fuzz
from tests.support.fuzzing import SourcesInMemory, read_tensor, survive
from tests.support.npy_files import (
    BROKEN_MEMBERS,
    HEADER,
    HOSTILE_ARCHIVES,
    HOSTILE_ARRAYS,
    Hostile,
    npy,
    npz,
    saved,
    zipped,
)

WIDE = ("f2", "f4", "f8", "c8", "c16", "i2", "i4", "i8", "u2", "u4", "u8")
CODES = ("?", "i1", "u1", *(order + code for order in "<>" for code in WIDE))
SHAPES = ((), (1,), (3,), (4, 5), (1, 6), (3, 1, 7), (2, 3, 4, 5), (0, 3))


def read_archive(content: bytes) -> WeightFile:
    assert looks_like_npz(content[:PROBE], len(content))
    return read_npz(io.BytesIO(content), Path("arrays.npz"), len(content))


def read_array(content: bytes) -> WeightFile:
    assert looks_like_npy(content[:PROBE], len(content))
    return read_npy(io.BytesIO(content), Path("layer.npy"), len(content))


def numbers(content: bytes, tensor: Tensor) -> np.ndarray:
    with SourcesInMemory(content) as sources:
        return np.frombuffer(read_tensor(tensor, sources), NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)


def some_bits(code: str, shape: tuple[int, ...], order: str) -> np.ndarray:
    """An array of any bits, NaNs among them, in C or in Fortran order."""
    dice = np.random.default_rng(len(shape))
    size = int(np.prod(shape))
    if code == "?":
        return np.array(dice.integers(0, 2, shape), bool, order=order)
    return np.array(np.frombuffer(dice.bytes(size * np.dtype(code).itemsize), code).reshape(shape), order=order)


@pytest.mark.parametrize("packed", [False, True], ids=["stored", "deflated"])
def test_every_dtype_shape_and_order_is_read_as_numpy_reads_it(*, packed: bool) -> None:
    arrays = {
        f"{code} {shape} {order}": some_bits(code, shape, order)
        for code, shape, order in itertools.product(CODES, SHAPES, "CF")
    }
    content = npz(packed=packed, **arrays)
    weights = read_archive(content)
    assert [each.name for each in weights.tensors] == list(arrays)
    with np.load(io.BytesIO(content)) as loaded:
        for tensor in weights.tensors:
            expected = loaded[tensor.name]
            found = numbers(content, tensor)
            assert found.shape == expected.shape
            assert found.tobytes() == expected.astype(expected.dtype.newbyteorder("<")).tobytes(), tensor.name


def test_little_endian_c_order_is_mapped_in_place() -> None:
    content = npz(a=np.zeros((2, 3), np.float32), b=np.zeros(5, np.int8))
    for tensor in read_archive(content).tensors:
        assert tensor.decoder is None
        assert not any(content[tensor.start : tensor.end])


@pytest.mark.parametrize("packed", [False, True], ids=["stored", "deflated"])
@given(first=st.integers(0, 360), stop=st.integers(0, 360))
def test_any_run_of_elements_is_the_same_run(first: int, stop: int, *, packed: bool) -> None:
    array = np.asfortranarray(np.arange(360, dtype=">f4").reshape(5, 8, 9))
    content = npz(packed=packed, a=array)
    (tensor,) = read_archive(content).tensors
    first, stop = sorted((first, stop))
    with SourcesInMemory(content) as sources:
        found = sources.of(tensor).read(4 * first, 4 * stop)
    assert np.array_equal(np.frombuffer(found, "<f4"), array.ravel()[first:stop])


def test_columns_longer_than_a_window_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.asfortranarray(np.arange(6000, dtype="<f8").reshape(200, 30))
    content = saved(array)
    (tensor,) = read_array(content).tensors
    for window in (8, 1600, 4000):
        monkeypatch.setattr(numpy_arrays, "WINDOW_BYTES", window)
        with SourcesInMemory(content) as sources:
            found = sources.of(tensor).read(8 * 45, 8 * 3000)
        assert np.array_equal(np.frombuffer(found, "<f8"), array.ravel()[45:3000])


@given(first=st.integers(0, 29), stop=st.integers(1, 30))
def test_what_a_run_needs_is_named_byte_for_byte(first: int, stop: int) -> None:
    content = saved(np.asfortranarray(np.arange(30, dtype="<f4").reshape(5, 6)))
    (tensor,) = read_array(content).tensors
    assert tensor.decoder
    if first >= stop:
        return
    spans = tensor.decoder.needs(first, stop)
    assert all(before.end <= after.start for before, after in itertools.pairwise(spans))
    touched = []

    def read(_: object, start: int, end: int) -> memoryview:
        touched.append((start, end))
        return memoryview(content)[start:end]

    tensor.decoder.decode(read, first, stop)
    assert touched == [(span.start, span.end) for span in spans]


def test_one_array_has_its_files_name(tmp_path: Path) -> None:
    path = tmp_path / "encoder.kernel.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    with opened(path) as (stream, size):
        (tensor,) = read_npy(stream, path, size).tensors
    assert tensor.name == "encoder.kernel"
    with Sources(Io.MMAP) as sources:
        assert read_tensor(tensor, sources) == np.arange(6.0).tobytes()


@pytest.mark.parametrize(
    "header",
    [
        "{'shape': (2,), 'descr': '<f4', 'fortran_order': False}",
        '{"descr": "<f4", "fortran_order": False, "shape": (2,)}',
        "{'descr':'<f4','fortran_order':False,'shape':(2,),}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }",
        "  {'descr': 'f4', 'fortran_order': True, 'shape': ( 2 , )}  ",
    ],
)
def test_headers_of_other_writers_are_read(header: str) -> None:
    (tensor,) = read_array(npy(header)).tensors
    assert tensor.shape == (2,)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(version: tuple[int, int]) -> None:
    assert read_array(npy(version=version)).tensors[0].shape == (2,)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(3, "V2"), "no number format"),
        (np.zeros(3, "U5"), "text"),
        (np.zeros(3, "S5"), "text"),
        (np.zeros(3, "M8[ns]"), "dates"),
        (np.zeros(3, np.longdouble), "long doubles"),
        (np.zeros(3, np.clongdouble), "long doubles"),
        (np.zeros(3, [("a", "f4"), ("b", "i8", (2, 2))]), "records"),
    ],
    ids=str,
)
def test_what_is_no_number_is_named_with_its_reason(array: np.ndarray, reason: str) -> None:
    weights = read_array(saved(array))
    assert not weights.tensors
    assert reason in weights.undecoded["layer"]


def test_bfloat16_saved_by_numpy_is_not_guessed() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    weights = read_array(saved(np.zeros(3, ml_dtypes.bfloat16)))
    assert "bfloat16" in weights.undecoded["layer"]


@pytest.mark.parametrize("hostile", HOSTILE_ARRAYS, ids=lambda hostile: hostile.name)
def test_a_hostile_array_is_refused_for_its_fault(hostile: Hostile) -> None:
    with pytest.raises(RefusedFile) as refusal:
        read_npy(io.BytesIO(hostile.content), Path("layer.npy"), len(hostile.content))
    assert (refusal.value.rule, refusal.value.case) == (hostile.rule, hostile.case)


@pytest.mark.parametrize("hostile", HOSTILE_ARRAYS, ids=lambda hostile: hostile.name)
def test_a_hostile_array_in_an_archive_is_a_defect_beside_the_others(hostile: Hostile) -> None:
    weights = read_archive(zipped(good__npy=npy(), bad__npy=hostile.content))
    assert [each.name for each in weights.tensors] == ["good"]
    assert [(each.rule, each.case) for each in weights.defects] == [(hostile.rule, hostile.case)]
    assert "'bad'" in weights.defects[0].sentence


@pytest.mark.parametrize("hostile", HOSTILE_ARCHIVES, ids=lambda hostile: hostile.name)
def test_a_hostile_archive_is_refused_for_its_fault(hostile: Hostile) -> None:
    with pytest.raises(RefusedFile) as refusal:
        read_npz(io.BytesIO(hostile.content), Path("arrays.npz"), len(hostile.content))
    assert (refusal.value.rule, refusal.value.case) == (hostile.rule, hostile.case)


@pytest.mark.parametrize("hostile", BROKEN_MEMBERS, ids=lambda hostile: hostile.name)
def test_a_deflated_array_that_does_not_unpack_is_a_defect(hostile: Hostile) -> None:
    (defect,) = read_archive(hostile.content).defects
    assert (defect.rule, defect.case) == (hostile.rule, hostile.case)


def test_what_does_not_begin_as_an_array_is_refused() -> None:
    with pytest.raises(RefusedFile) as refusal:
        read_npy(io.BytesIO(b"\x93NUMPZ" + bytes(80)), Path("layer.npy"), 86)
    assert (refusal.value.rule, refusal.value.case) == ("JN002", "npy-magic")


def test_members_that_are_no_arrays_are_passed_over_aloud() -> None:
    weights = read_archive(zipped(a__npy=npy(), readme__txt=b"text", b__npy=b"text"))
    assert [each.name for each in weights.tensors] == ["a"]
    assert weights.remarks == ("members that are no arrays were passed over: 'readme.txt', 'b.npy'",)


def test_a_header_is_never_evaluated(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    header = HEADER.replace("(2,)", f"(__import__('pathlib').Path({str(canary)!r}).touch(),)")
    with pytest.raises(RefusedFile):
        read_array(npy(header))
    assert not canary.exists()


# ---- bounds


def test_a_deflated_array_is_unpacked_in_little_memory_and_in_one_go() -> None:
    array = np.zeros(16 << 20, np.uint8)
    content = npz(packed=True, a=array)
    (tensor,) = read_archive(content).tensors
    read = []
    with SourcesInMemory(content) as sources:
        source = sources.of_file(tensor.file)
        tracemalloc.start()
        for first in range(0, array.size, 1 << 20):

            def count(_: object, start: int, end: int) -> memoryview:
                read.append(end - start)
                return source.read(start, end)

            tensor.decoder.decode(count, first, first + (1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sum(read) == tensor.end - tensor.start
    assert peak < 6 << 20


def test_a_wrong_checksum_shows_when_the_end_is_reached() -> None:
    content = zipped(method=zipfile.ZIP_DEFLATED, a__npy=saved(np.arange(20_000, dtype="<f4")))
    crc = zipfile.ZipFile(io.BytesIO(content)).getinfo("a.npy").CRC.to_bytes(4, "little")
    bad = content.replace(crc, bytes(4))
    (tensor,) = read_archive(bad).tensors
    with SourcesInMemory(bad) as sources, pytest.raises(RefusedFile, match="checksum") as refusal:
        read_tensor(tensor, sources)
    assert (refusal.value.rule, refusal.value.case) == ("JN009", "zip-broken-member")


@pytest.mark.parametrize("arrays", [1, 16])
def test_deflated_arrays_beyond_any_weights_are_refused(arrays: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_arrays, "LARGEST_ON_TRUST", 1 << 20)
    content = npz(packed=True, **{f"zeros{each}": np.zeros((1 << 20) // arrays, np.float32) for each in range(arrays)})
    with pytest.raises(RefusedFile) as refusal:
        read_archive(content)
    assert (refusal.value.rule, refusal.value.case) == ("JN009", "npz-bomb")


def test_deflated_weights_are_no_bomb_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_arrays, "LARGEST_ON_TRUST", 0)
    weights = np.random.default_rng(0).standard_normal((2, 50_000)).astype(np.float32)
    assert len(read_archive(npz(packed=True, a=weights[0], b=weights[1], mask=np.ones(100_000, bool))).tensors) == 3


def test_a_deflated_array_in_fortran_order_is_unpacked_once_for_each_pass() -> None:
    arrays = [np.asfortranarray(np.arange(30_000.0).reshape(300, 100) + number) for number in range(2)]
    content = npz(packed=True, a=arrays[0], b=arrays[1])
    read = 0

    def count(_: object, start: int, end: int) -> memoryview:
        nonlocal read
        read += end - start
        return memoryview(content)[start:end]

    tensors = read_archive(content).tensors
    for tensor, array in zip(tensors, arrays, strict=True):
        assert tensor.decoder
        rows = [tensor.decoder.decode(count, 100 * row, 100 * row + 100).elements for row in range(300)]
        assert np.array_equal(rows, array)
    assert read == sum(tensor.end - tensor.start for tensor in tensors)


def test_an_array_in_fortran_order_with_huge_rows_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    content = npz(a=np.asfortranarray(np.zeros((2, 600))), b=np.asfortranarray(np.zeros((600, 2))))
    monkeypatch.setattr(numpy_arrays, "LARGEST_FORTRAN_ROW", 1 << 10)
    weights = read_archive(content)
    assert [each.name for each in weights.tensors] == ["b"]
    assert "ascontiguousarray" in weights.undecoded["a"]


def test_a_large_deflated_array_in_fortran_order_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_arrays, "LARGEST_DEFLATED_FORTRAN", 1 << 10)
    weights = read_archive(npz(packed=True, a=np.asfortranarray(np.zeros((20, 30)))))
    assert "numpy.savez" in weights.undecoded["a"]


def test_other_files_are_not_taken_for_numpys() -> None:
    for head in (b"", b"PK\3\4", b"\x93NUMP", zipped(data__pkl=b"x")[:PROBE], zipped(npy=b"x")[:PROBE]):
        assert not looks_like_npy(head, 1 << 20)
        assert not looks_like_npz(head, 1 << 20)


@pytest.mark.parametrize("fuzz", [npy_fuzz.FUZZ, npz_fuzz.FUZZ], ids=["npy", "npz"])
def test_the_readers_survive_damaged_files(fuzz: npy_fuzz.Fuzz) -> None:
    ends, faults = survive(fuzz, inputs=2500, seed=20)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 180
