"""Any elements of a weight are those of the whole, made of no other bytes than were named, and of bytes that go."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.decoding import Read
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Block, blocks
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from tests.support.quantised_files import SMALL, MemoryPlace, codes, decoder_of, only, opened, small, weights


def fading(tensor: Tensor, first: int, stop: int) -> Read:
    """A read of the bytes that these elements need; each destroys what the one before gave."""
    assert isinstance(tensor.file, MemoryPlace)
    content = tensor.file.content
    needed = decoder_of(tensor).needs(first, stop)
    given_before: list[bytearray] = []

    def read(_: Place, start: int, end: int) -> memoryview:
        assert any(span.start <= start <= end <= span.end for span in needed), "these bytes were not named"
        for window in given_before:
            window[:] = b"\xff" * len(window)
        given_before[:] = [bytearray(content[start:end])]
        return memoryview(given_before[0])

    return read


@pytest.mark.parametrize("kind", SMALL)
def test_any_elements_are_those_of_the_whole(kind: str) -> None:
    tensor = only(dequantised(opened(small(kind))))
    whole, all_codes, count = weights(tensor).ravel(), codes(tensor).ravel(), prod(tensor.shape)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, count), min_size=2, max_size=2, unique=True).map(sorted))
    def same(ends: list[int]) -> None:
        first, stop = ends
        decoded = decoder_of(tensor).decode(fading(tensor, first, stop), first, stop)
        np.testing.assert_array_equal(decoded.elements, whole[first:stop])
        assert decoded.codes is not None
        np.testing.assert_array_equal(decoded.codes, all_codes[first:stop])

    same()


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_needed_is_named_once_and_all_needs_all(kind: str) -> None:
    checkpoint = opened(small(kind))
    tensor = only(dequantised(checkpoint))
    count = prod(tensor.shape)
    for first, stop in ((0, count), (0, 1), (count // 2, count // 2 + 3), (count - 1, count)):
        spans = decoder_of(tensor).needs(first, stop)
        assert all(one.end < other.start for one, other in pairwise(spans))
    assert tensor.stored_bytes == sum(each.end - each.start for each in checkpoint.tensors)
    assert tensor.stored_tensors == len(checkpoint.tensors)


@pytest.mark.parametrize(("kind", "row_bytes"), [("fp8 rows", 7 + 4), ("int8", 7 + 4 + 1), ("mxfp4", 32 + 2)])
def test_a_row_needs_its_codes_and_its_scales_and_no_more(kind: str, row_bytes: int) -> None:
    tensor = only(dequantised(opened(small(kind))))
    width = tensor.shape[-1]
    assert sum(span.end - span.start for span in decoder_of(tensor).needs(width, 2 * width)) == row_bytes


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 100), st.integers(0, 100))
def test_blocks_cut_a_range_without_rest_and_in_order(rows: int, columns: int, one: int, other: int) -> None:
    first, stop = min(one, other), max(one, other)
    numbers = np.arange(-(-max(stop, 1) // (rows * columns)) * rows * columns).reshape(-1, rows, columns)
    cut = list(blocks(first, stop, rows=rows, columns=columns))
    taken = [numbers[each.matrix, each.top : each.bottom, each.left : each.right].ravel() for each in cut]
    assert [number for run in taken for number in run.tolist()] == list(range(first, stop))
    assert all(each.height > 0 and each.width > 0 for each in cut)
    assert max((sum(each.matrix == matrix for each in cut) for matrix in {each.matrix for each in cut}), default=0) <= 3


def test_a_turned_block_is_the_same_elements() -> None:
    assert Block(2, 1, 4, 5, 9).turned == Block(2, 5, 9, 1, 4)
