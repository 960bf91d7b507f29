"""Strided views, chunks and shared bytes, compared with what NumPy makes of the same strides."""

from itertools import pairwise, product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from jaynes_audit.analyzers.checkpoints.pytorch.decoders import Chunk, Chunked, Strided
from jaynes_audit.analyzers.checkpoints.pytorch.sharing import Extent, shares_of
from jaynes_audit.analyzers.dtypes import Dtype
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


@settings(max_examples=200, deadline=None)
@given(extents())
def test_no_byte_is_kept_twice_and_what_is_said_to_be_inside_is(views: list[Extent]) -> None:
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
    assert len(shares.across) == (0 if parts == 3 else parts - 1)  # too many to compare each with each
    whole = extent(parts, 0, (8 * parts, 4), (4, 1))
    assert set(shares_of([*columns, whole]).inside.values()) == {parts}
