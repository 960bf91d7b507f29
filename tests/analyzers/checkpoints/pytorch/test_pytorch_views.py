"""Strided views, chunks and shared bytes, compared with what NumPy makes of the same strides."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from jaynes_audit.analyzers import pieces
from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch import decoders, sharing
from jaynes_audit.analyzers.checkpoints.pytorch.decoders import Chunk, Chunked, Strided
from jaynes_audit.analyzers.checkpoints.pytorch.sharing import Extent, shares_of
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch import extent as extent_module
from tests.support.fuzzing import FileInMemory

FILE = Path("view")


def strided_of(array: np.ndarray, base: np.ndarray) -> Strided:
    """A view of a 32-bit array as a view of the file that holds the array's base."""
    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return Strided(file=FILE, dtype=Dtype.U32, shape=array.shape, start=start, strides=array.strides)


def decoded(decoder: Strided | Chunked, base: np.ndarray, first: int, stop: int) -> np.ndarray:
    """Elements of the view, with each byte read one that the view said it needs."""
    file = FileInMemory(base.tobytes())
    needed = decoder.needs(first, stop)
    assert all(one.end < other.start for one, other in pairwise(needed))

    def read(place: object, start: int, end: int) -> memoryview:
        del place
        assert any(span.start <= start <= end <= span.end for span in needed)
        return file.read(start, end)

    return decoder.decode(read, first, stop).elements


@st.composite
def views(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A slice of a transposed array, and the array."""
    shape = draw(st.lists(st.integers(1, 5), min_size=0, max_size=4))
    base = np.arange(prod(shape), dtype=np.uint32)
    view = base.reshape(shape).transpose(draw(st.permutations(range(len(shape)))))
    steps = [slice(draw(st.integers(0, size - 1)), size, draw(st.integers(1, 3))) for size in view.shape]
    return view[(*steps, ...)], base


@settings(max_examples=200, deadline=None)
@given(views(), st.data())
def test_any_run_of_a_strided_view_is_what_numpy_makes_of_it(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject):
    view, base = pair
    first = data.draw(st.integers(0, view.size))
    stop = data.draw(st.integers(first, view.size))
    assert decoded(strided_of(view, base), base, first, stop).tolist() == view.ravel()[first:stop].tolist()


@pytest.mark.parametrize(("rows", "columns"), [(700, 900), (3, 200_000), (200_000, 3)])
def test_a_large_transposed_matrix_is_read_through_many_windows(rows: int, columns: int) -> None:
    base = np.arange(rows * columns, dtype=np.uint32)
    view = base.reshape(rows, columns).T
    for first, stop in ((0, view.size), (12_345, 270_001), (rows - 1, rows + 1)):
        assert np.array_equal(decoded(strided_of(view, base), base, first, stop), view.ravel()[first:stop])


@dataclass(frozen=True, slots=True)
class CountingPlace:
    """A file in memory that notes what is read of it."""

    content: bytes = field(repr=False)
    lengths: list[int] = field(default_factory=list, compare=False)
    needed: list[tuple[int, int]] = field(default_factory=list, compare=False)
    is_streamed: bool = False

    def __str__(self) -> str:
        return "view"

    def stored(self) -> None:
        return None

    def source(self) -> "CountingPlace":
        return self

    def read(self, start: int, end: int) -> memoryview:
        self.lengths.append(end - start)
        return FileInMemory(self.content).read(start, end)

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        self.needed.extend(ranges)

    def close(self) -> None:
        """Nothing is open."""


def tensor_of(view: np.ndarray, base: np.ndarray) -> tuple[Tensor, CountingPlace]:
    place = CountingPlace(base.tobytes())
    file = cast("Place", place)
    strided = replace(strided_of(view, base), file=file, dtype=Dtype.F32)
    name, end = "layers.0.mlp.up_proj.weight", base.nbytes
    return Tensor(name=name, dtype=Dtype.F32, shape=view.shape, file=file, start=0, end=end, decoder=strided), place


def test_an_audit_of_a_transposed_matrix_reads_it_a_few_times_and_finds_what_it_finds_in_the_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 16 << 10)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(decoders, "BAND_BYTES", 1 << 20)
    monkeypatch.setattr(decoders, "SMALL_BYTES", 512)
    base = np.random.default_rng(0).standard_normal((1024, 1000), np.float32)
    measured = []
    for stored in (base, np.ascontiguousarray(base.T)):
        tensor, place = tensor_of(base.T if stored is base else stored, stored)
        (layer,) = audit_checkpoint(Checkpoint(location="", tensors=(tensor,), files=(tensor.file,)))
        measured.append(layer)
        assert sum(place.lengths) <= 5 * base.nbytes
        assert len(place.needed) <= 8  # one or two for each piece
    assert measured[0] == measured[1]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1024, 512), (1, 0)),
        ((300, 7000), (1, 0)),
        ((3000, 300), (1, 0)),
        ((6, 256, 300), (0, 2, 1)),  # experts, each transposed
        ((3, 3, 200, 300), (3, 2, 0, 1)),  # a convolution of TensorFlow's
        ((300, 400, 4), (1, 0, 2)),
    ],
)
def test_a_view_read_step_by_step_is_what_numpy_makes_of_it_and_is_read_a_few_times(
    shape: tuple[int, ...], axes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BAND_BYTES", 1 << 20)
    monkeypatch.setattr(decoders, "SMALL_BYTES", 512)
    base = np.arange(prod(shape), dtype=np.uint32).reshape(shape)
    view = base.transpose(axes)
    tensor, place = tensor_of(view, base)
    wanted = view.tobytes()
    with Sources(Io.PREAD) as sources:
        source = sources.of(tensor)
        bands = -(-len(wanted) // decoders.BAND_BYTES)
        for start in range(0, len(wanted), 4000):
            assert source.read(start, min(len(wanted), start + 4000)) == wanted[start : start + 4000]
        assert sum(place.lengths) <= min(5, bands + 1) * len(wanted)
        assert source.read(8, 8000) == wanted[8:8000]  # back to the beginning


@settings(max_examples=200, deadline=None)
@given(views(), st.data())
def test_windows_and_bands_of_any_size_make_the_same_elements(
    pair: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    view, base = pair
    small = data.draw(st.sampled_from((4, 12, 40)))
    limits = {"SMALL_BYTES": small, "LARGEST_BYTES": 3 * small, "JOINED_GAP_BYTES": small, "LONG_RUN_BYTES": 1 << 10}
    step = 4 * data.draw(st.integers(1, 40))
    with pytest.MonkeyPatch.context() as patched, Sources(Io.PREAD) as sources:
        for name, value in limits.items():
            patched.setattr(decoders, name, value)
        patched.setattr(decoders, "BAND_BYTES", data.draw(st.sampled_from((4, 60, 400))))
        assert decoded(strided_of(view, base), base, 0, view.size).tolist() == view.ravel().tolist()
        source = sources.of(tensor_of(view, base)[0])
        parts = [bytes(source.read(at, min(view.nbytes, at + step))) for at in range(0, view.nbytes, step)]
        assert b"".join(parts) == view.tobytes()


def test_rows_that_follow_one_another_are_not_read_before_they_are_wanted() -> None:
    base = np.arange(1 << 20, dtype=np.uint32).reshape(1024, 1024)
    for view in (base[:, :1000], base[::2], base.reshape(4, 256, 1024)[:, :100]):
        assert strided_of(view, base).at_once(5, 1000) == (5, 1000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.data())
def test_chunks_give_the_tensor_that_they_were_cut_from(shape: list[int], data: st.DataObject) -> None:
    whole = np.arange(prod(shape), dtype=np.uint32).reshape(shape)
    cuts = [sorted({0, size, *data.draw(st.lists(st.integers(0, size), max_size=2))}) for size in shape]
    chunks, stored, at = [], [], 0
    for place in product(*([*pairwise(cut)] for cut in cuts)):
        part = np.ascontiguousarray(whole[tuple(slice(*each) for each in place)])
        strides = part.strides
        view = Strided(file=FILE, dtype=Dtype.U32, shape=part.shape, start=at, strides=strides)
        chunks.append(Chunk(offsets=tuple(low for low, _ in place), stored=view))
        stored.append(part.ravel())
        at += part.nbytes
    first = data.draw(st.integers(0, whole.size))
    stop = data.draw(st.integers(first, whole.size))
    joined = Chunked(shape=tuple(shape), chunks=tuple(chunks))
    assert decoded(joined, np.concatenate(stored), first, stop).tolist() == whole.ravel()[first:stop].tolist()


def extent(order: int, start: int, *axes: tuple[int, int]) -> Extent:
    return Extent(order=order, start=start, axes=tuple((length, stride) for length, stride in axes if length > 1))


def bytes_of(each: Extent) -> set[int]:
    shape, strides = [length for length, _ in each.axes], [stride for _, stride in each.axes]
    return set((each.start + as_strided(np.arange(1 << 12), shape, [8 * s for s in strides]).ravel()).tolist())


@st.composite
def extents(draw: st.DrawFn) -> list[Extent]:
    """Views of one array, none of which uses a byte twice."""
    result = []
    for order in range(draw(st.integers(2, 5))):
        axes, reach = [], 1
        for _ in range(draw(st.integers(0, 3))):
            length, stride = draw(st.integers(2, 4)), reach * draw(st.sampled_from((1, 1, 2, 3)))
            axes.append((length, stride))
            reach = (length - 1) * stride + reach
        result.append(extent(order, draw(st.integers(0, 12)), *axes))
    return result


@settings(max_examples=300, deadline=None)
@given(extents(), st.sampled_from([1, sharing.MOST_COMPARED]))
def test_no_byte_is_kept_twice_and_what_is_said_to_be_inside_is(views: list[Extent], most_compared: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "MOST_COMPARED", most_compared)
        shares = shares_of(views)
    gone = {**shares.same, **shares.inside, **shares.across}
    kept = [bytes_of(view) for view in views if view.order not in gone]
    assert sum(map(len, kept)) == len(set().union(*kept))
    by_order = {view.order: bytes_of(view) for view in views}
    assert all(by_order[order] == by_order[other] for order, other in shares.same.items())
    assert all(by_order[order] <= by_order[other] for order, other in shares.inside.items())


@pytest.mark.parametrize("parts", [3, 40])
def test_columns_of_one_matrix_are_told_apart_and_its_parts_from_the_whole(parts: int) -> None:
    columns = [extent(n, 4 * n, (8, 4 * parts), (4, 1)) for n in range(parts)]
    shares = shares_of(columns)
    assert not shares.same
    assert not shares.inside
    assert not shares.across
    whole = extent(parts, 0, (8 * parts, 4), (4, 1))
    assert set(shares_of([*columns, whole]).inside.values()) == {parts}


def test_a_view_across_very_many_columns_leaves_them_all_and_blocks_far_away() -> None:
    columns = [extent(n, 4 * n, (8, 160), (4, 1)) for n in range(40)]
    askew = extent(40, 4, (300, 4), (2, 1))
    block = extent(41, 1280, (50, 1))
    far_across = extent(42, 1196, (30, 4), (4, 1))  # from the last columns into the block
    shares = shares_of([*columns, askew, block, far_across])
    assert shares.across.keys() == {40, 42}
    assert not shares.inside
