"""Which real numbers a stored code stands for, against the rounding of ml_dtypes and NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.grid import Grid, cells, grid_of, used_low_bits
from tests.support.weights import REAL, SMALL, decoded, encoded

LOW_BITS = [0, 0xFFFF, 0xE000, 0x8000]
GRIDS = [
    *((dtype, 0) for dtype in REAL if dtype not in {Dtype.F32, Dtype.F64}),
    *((dtype, low_bits) for dtype in (Dtype.F32, Dtype.F64) for low_bits in LOW_BITS),
]
EVERY_GRID = pytest.mark.parametrize(("dtype", "low_bits"), GRIDS)
ROUNDED = [*SMALL, Dtype.BF16, Dtype.F16]
NEARLY = (
    2.0**-14
)  # of a cell: how far from its end a point is taken; float32, through which bfloat16 is rounded, has it


def occupied(grid: Grid) -> np.ndarray:
    """The codes that a finite non-zero weight can have."""
    return np.flatnonzero(~np.isnan(grid.value))


@EVERY_GRID
def test_cells_follow_one_another_without_a_gap(dtype: Dtype, low_bits: int) -> None:
    grid = grid_of(dtype, low_bits)
    codes = occupied(grid)
    np.testing.assert_array_equal(grid.log_upper[codes[:-1]], grid.log_lower[codes[1:]])


@EVERY_GRID
def test_every_weight_lies_within_its_cell(dtype: Dtype, low_bits: int) -> None:
    grid = grid_of(dtype, low_bits)
    codes = occupied(grid)
    assert (grid.log_lower[codes] < grid.log_value[codes]).all()
    assert (grid.log_value[codes] < grid.log_upper[codes]).all()
    np.testing.assert_allclose(np.exp(grid.log_value[codes]), grid.value[codes], rtol=1e-13)


@EVERY_GRID
def test_a_grid_names_its_greatest_code(dtype: Dtype, low_bits: int) -> None:
    grid = grid_of(dtype, low_bits)
    assert grid.largest == occupied(grid)[-1] < grid.not_finite


@pytest.mark.parametrize("dtype", ROUNDED)
def test_the_value_of_a_code_is_what_is_stored(dtype: Dtype) -> None:
    bits = 8 if dtype in SMALL else 16
    with np.errstate(invalid="ignore"):
        stored = decoded(np.arange(1 << bits, dtype=np.uint8 if bits == 8 else np.uint16), dtype)
    if dtype in {Dtype.F4, Dtype.F6_E2M3, Dtype.F6_E3M2}:
        stored = stored[: 1 << (4 if dtype is Dtype.F4 else 6)]
    positive = np.unique(stored[np.isfinite(stored) & (stored > 0)])
    grid = grid_of(dtype, 0)
    np.testing.assert_array_equal(grid.value[occupied(grid)], positive)


@pytest.mark.parametrize("dtype", ROUNDED)
def test_a_cell_is_what_rounds_to_its_value_and_no_more(dtype: Dtype) -> None:
    grid = grid_of(dtype, 0)
    codes = occupied(grid)
    if dtype is Dtype.F8_E8M0:
        codes = codes[1:]  # ml_dtypes rounds all above 2**-127 to 2**-126, and not to the nearer of them
    values = grid.value[codes]
    # Exact in float64, which the logarithms of the ends are not; these are compared with them below.
    ends = (values[:-1] + values[1:]) / 2
    step = (values[1:] - values[:-1]) * NEARLY
    np.testing.assert_array_equal(decoded(encoded(ends - step, dtype), dtype), values[:-1])
    np.testing.assert_array_equal(decoded(encoded(ends + step, dtype), dtype), values[1:])
    np.testing.assert_allclose(grid.log_upper[codes[:-1]], np.log(ends), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [dtype for dtype in ROUNDED if dtype is not Dtype.F8_E8M0])
def test_the_first_cell_begins_where_weights_are_rounded_to_zero(dtype: Dtype) -> None:
    grid = grid_of(dtype, 0)
    first = occupied(grid)[0]
    end = np.exp(grid.log_lower[first])
    assert decoded(encoded([end * (1 + NEARLY)], dtype), dtype)[0] == grid.value[first]
    assert decoded(encoded([end * (1 - NEARLY)], dtype), dtype)[0] == 0


INFINITE = [Dtype.F8_E5M2, Dtype.BF16, Dtype.F16]
BECOMES_NAN = [Dtype.F8_E4M3FNUZ, Dtype.F8_E5M2FNUZ, Dtype.F8_E8M0]
# F8_E4M3 holds no 480, the next step above its greatest 448, but rounds as if it did; F4 and F6 know no beyond at all.


@pytest.mark.parametrize("dtype", [*INFINITE, *BECOMES_NAN, Dtype.F8_E4M3])
def test_the_last_cell_ends_where_weights_stop_being_finite(dtype: Dtype) -> None:
    grid = grid_of(dtype, 0)
    end = np.exp(grid.log_upper[grid.largest])
    assert decoded(encoded([end * (1 - NEARLY)], dtype), dtype)[0] == grid.value[grid.largest]
    assert not np.isfinite(decoded(encoded([end * (1 + NEARLY)], dtype), dtype)[0])


@pytest.mark.parametrize("used", range(1, 17))
def test_a_truncated_cell_reaches_half_a_step_around_the_float32_that_share_its_code(used: int) -> None:
    low_bits = 0xFFFF & ~((1 << (16 - used)) - 1)
    grid = grid_of(Dtype.F32, low_bits)
    steps = np.arange(0, 1 << 16, 1 << (16 - used), dtype=np.uint32)
    for code in (0x0080, 0x3E81, 0x3F80, 0x3FFF, 0x7F00):
        shared = ((np.uint32(code) << np.uint32(16)) | steps).view(np.float32).astype(np.float64)
        before = (np.uint32(code << 16) - (steps[1] if used else np.uint32(0))).view(np.float32).astype(np.float64)
        after = np.uint32((code + 1) << 16).view(np.float32).astype(np.float64)
        assert grid.value[code] == pytest.approx(shared.mean(), rel=1e-12)
        assert grid.log_lower[code] == pytest.approx(np.log((before + shared[0]) / 2), abs=1e-12)
        assert grid.log_upper[code] == pytest.approx(np.log((shared[-1] + after) / 2), abs=1e-12)


def test_the_first_truncated_cell_holds_all_that_is_smaller() -> None:
    assert grid_of(Dtype.F32, 0xFFFF).log_lower[1] == -np.inf


def test_float32_that_hold_bfloat16_lie_on_the_bfloat16_grid() -> None:
    narrow, wide = grid_of(Dtype.BF16, 0), grid_of(Dtype.F32, 0)
    np.testing.assert_array_equal(narrow.log_value, wide.log_value)
    np.testing.assert_array_equal(narrow.log_lower, wide.log_lower)


@given(st.integers(0, 0xFFFF))
def test_the_bits_in_use_are_those_from_the_lowest_set_bit_up(low_bits: int) -> None:
    used = used_low_bits(low_bits)
    assert 0 <= used <= 16
    assert low_bits % (1 << (16 - used)) == 0
    assert used == 0 or low_bits % (1 << (17 - used)) != 0


@EVERY_GRID
def test_grids_are_made_once(dtype: Dtype, low_bits: int) -> None:
    assert grid_of(dtype, low_bits) is grid_of(dtype, low_bits)


@EVERY_GRID
@pytest.mark.parametrize("per_octave", [8, 16, 32])
def test_coarse_cells_follow_one_another_without_a_gap(dtype: Dtype, low_bits: int, per_octave: int) -> None:
    grid = grid_of(dtype, low_bits)
    coarse = cells(grid, per_octave)
    taken = np.unique(occupied(grid) >> coarse.shift)
    np.testing.assert_array_equal(coarse.log_upper[taken[:-1]], coarse.log_lower[taken[1:]])
    assert coarse.log_lower[taken[0]] == grid.log_lower[occupied(grid)[0]]
    assert coarse.log_upper[taken[-1]] == grid.log_upper[grid.largest]


@EVERY_GRID
@pytest.mark.parametrize("per_octave", [8, 16, 32])
def test_an_octave_has_no_more_coarse_cells_than_asked_for(dtype: Dtype, low_bits: int, per_octave: int) -> None:
    grid = grid_of(dtype, low_bits)
    coarse = cells(grid, per_octave)
    normal = occupied(grid)[occupied(grid) >= grid.normal]
    octave = np.floor(np.log2(grid.value[normal]) + 1e-12)
    pairs = np.unique(np.stack([octave, normal >> coarse.shift]), axis=1)
    assert np.bincount((pairs[0] - octave.min()).astype(int)).max() <= per_octave
