"""Counts survive being packed, exactly, and stay small."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.archive import packing
from jaynes_audit.analyzers.archive.packing import (
    histogram_from,
    magnitudes_from,
    packed_histogram,
    packed_magnitudes,
    residual_grid,
    used_low_bits_of,
)
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram

TALLIES = st.integers(1, 5) | st.integers(1, 1 << 40)
COUNTS = st.dictionaries(st.integers(0, 0xFFFF), TALLIES, min_size=1, max_size=60)


def histogram(counts: dict[int, int], dtype: Dtype = Dtype.BF16) -> Histogram:
    codes = np.array(sorted(counts), np.uint16)
    tallies = np.array([counts[code] for code in sorted(counts)], np.int64)
    return Histogram(dtype=dtype, low_bits=0, codes=codes, tallies=tallies)


@given(COUNTS, st.sampled_from([0, 1 << 16, 1 << 60]))
def test_any_counts_come_back_as_they_were(counts: dict[int, int], lzma_from: int) -> None:
    packing_from = packing.LZMA_FROM_WEIGHTS
    try:
        packing.LZMA_FROM_WEIGHTS = lzma_from
        packed = packed_histogram(histogram(counts))
    finally:
        packing.LZMA_FROM_WEIGHTS = packing_from
    restored = histogram_from(packed, dtype=Dtype.BF16, low_bits=0)
    assert dict(zip(restored.codes.tolist(), restored.tallies.tolist(), strict=True)) == counts
    assert restored.codes.dtype == np.uint16
    assert restored.tallies.dtype == np.int64


@given(st.dictionaries(st.integers(1, 0x7F7F), TALLIES, min_size=1, max_size=60), st.integers(0, 16))
def test_any_magnitudes_come_back_as_they_were(counts: dict[int, int], used_low_bits: int) -> None:
    grid = residual_grid(used_low_bits)
    magnitudes = histogram(counts).magnitudes
    restored = magnitudes_from(packed_magnitudes(magnitudes), grid)
    assert dict(zip(restored.codes.tolist(), restored.tallies.tolist(), strict=True)) == counts
    assert restored.grid is grid
    assert used_low_bits_of(grid) == used_low_bits


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:0],
        lambda packed: packed[:5],
        lambda packed: packed[:-2],
        lambda packed: packed + b"\0",
        lambda packed: packed[:4] + b"\x09" + packed[5:],
        lambda packed: packed[:4] + b"\x00" + packed[5:],
        lambda packed: packed[:5] + b"\x02" + packed[6:],
        lambda packed: packed[2:4] + packed[:2] + packed[4:],
        lambda packed: b"\0\0" + packed[2:],
        lambda packed: packed[:2] + b"\xff\xff" + packed[4:],
    ],
)
@pytest.mark.parametrize("weights", [1, 1 << 20])
def test_damaged_counts_are_told_from_sound_ones(damage: object, weights: int) -> None:
    packed = packed_histogram(histogram({0x3C00: weights, 0x3C05: 7, 0xBC01: 2}))
    with pytest.raises(ValueError, match="counts"):
        histogram_from(damage(packed), dtype=Dtype.BF16, low_bits=0)  # type: ignore[operator]


def test_a_weight_that_the_format_does_not_have_is_refused() -> None:
    packed = packed_histogram(histogram({0x3F81: 3, 0x3F80: 1}))  # 1.0078125 and 1
    assert histogram_from(packed, dtype=Dtype.BF16, low_bits=0)
    with pytest.raises(ValueError, match="number format"):
        histogram_from(packed, dtype=Dtype.F8_E4M3, low_bits=0)


def test_a_residual_holds_no_zeros_and_no_infinities() -> None:
    for code in (0, 0x7F80):
        packed = packing._packed(code, [np.array([5])], weights=5)
        with pytest.raises(ValueError, match="number format"):
            magnitudes_from(packed, residual_grid(16))


def test_a_bomb_unpacks_to_no_more_than_its_counts() -> None:
    bomb = packing.HEAD.pack(0, 0, 1, packing.DEFLATE) + packing._compressed(bytes(1 << 24), packing.DEFLATE)
    with pytest.raises(ValueError, match="more or fewer counts"):
        histogram_from(bomb, dtype=Dtype.BF16, low_bits=0)
