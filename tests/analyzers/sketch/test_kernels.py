"""Two kernels, one behaviour: the compiled one computes what the NumPy one specifies."""

import os
from collections import Counter
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.sketch import _kernel_numpy
from jaynes_audit.analyzers.sketch.kernel import chosen
from tests.support.kernel_cases import (
    CODES,
    Case,
    assert_alike,
    check,
    check_misuses,
    counted,
    counted_in_blocks,
    misuses,
    seeded_cases,
)
from tests.support.strategies import kernel_cases

MISUSES = list(misuses())


def compiled() -> ModuleType:
    """The compiled kernel; its absence is a skip, and a failure where JAYNES_EXPECT_KERNEL=1 promises one."""
    try:
        return chosen(environment={"JAYNES_KERNEL": "c"})
    except ImportError as error:
        message = f"there is no compiled kernel: {error}"
    if os.environ.get("JAYNES_EXPECT_KERNEL") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def kernel() -> ModuleType:
    return compiled()


@pytest.fixture(params=["numpy", "c"])
def either_kernel(request: pytest.FixtureRequest) -> ModuleType:
    return _kernel_numpy if request.param == "numpy" else compiled()


def test_both_kernels_agree_on_every_shape_and_kind(kernel: ModuleType) -> None:
    for case in seeded_cases():
        check(kernel, case)


@settings(max_examples=150, deadline=None)
@given(case=kernel_cases())
def test_both_kernels_agree_on_whatever_is_stored(kernel: ModuleType, case: Case) -> None:
    check(kernel, case)


def test_both_kernels_agree_on_a_row_that_no_cache_holds(kernel: ModuleType) -> None:
    rng = np.random.default_rng(3)
    for kind, dtype in enumerate((np.uint16, np.uint16, np.uint32)):
        patterns = rng.integers(0, np.iinfo(dtype).max, (2, 70_001), dtype)
        check(kernel, Case(kind=kind, patterns=patterns, offset=1, scaled=True))


def test_counts_are_those_of_np_unique(either_kernel: ModuleType) -> None:
    patterns = np.random.default_rng(4).integers(0, CODES, (40, 3000), np.uint16)
    codes, tallies = np.unique(patterns, return_counts=True)
    result = counted(either_kernel, Case(kind=0, patterns=patterns, offset=0, scaled=False))
    assert result.exact[:2] == (codes.tolist(), tallies.tolist())


def test_sums_of_squares_leave_out_what_is_not_finite(either_kernel: ModuleType) -> None:
    weights = np.array([[3.0, np.nan, 4.0], [np.inf, -2.0, 0.5]], np.float32)
    result = counted(either_kernel, Case(kind=2, patterns=weights.view(np.uint32), offset=1, scaled=True))
    assert result.rows.tolist() == [25.0, 4.25]
    assert result.columns.tolist() == [9.0, 4.0, 16.25]


@pytest.mark.parametrize("kind", [0, 1])
def test_sums_of_squares_of_16_bit_weights_are_those_of_their_values(either_kernel: ModuleType, kind: int) -> None:
    bits = np.random.default_rng(5).integers(0, 0x7C00 if kind else 0x7F80, (5, 2100), np.uint16)
    values = bits.view(np.float16) if kind else (bits.astype(np.uint32) << 16).view(np.float32)
    squares = values.astype(np.float64) ** 2
    result = counted(either_kernel, Case(kind=kind, patterns=bits, offset=1, scaled=True))
    np.testing.assert_allclose(result.rows, squares.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(result.columns, squares.sum(axis=0), rtol=1e-12)


def test_counting_goes_on_where_it_stopped(either_kernel: ModuleType) -> None:
    case = Case(kind=2, patterns=np.full((3, 20), 0xFF7FFFFF, np.uint32), offset=0, scaled=True)
    tables, facts = np.zeros((2, CODES), np.uint32), np.zeros((), _kernel_numpy.FACTS)
    for _ in range(3):
        either_kernel.count(2, case.stored, 3, 20, tables, None, None, facts)
    assert tables.sum(axis=0)[0xFF7F] == 180
    assert (int(facts["max_finite"]), int(facts["largest"]), int(facts["low_bits"])) == (180, 0x7F7FFFFF, 0xFFFF)


def test_drain_takes_both_halves_of_the_table_and_leaves_it_empty(either_kernel: ModuleType) -> None:
    tables = np.zeros((2, CODES), np.uint32)
    tables[0, [0, 7, 65535]] = 1, 2**32 - 1, 5
    tables[1, [7, 16, 65535]] = 2**32 - 1, 9, 6
    codes, tallies = np.empty(CODES, np.uint16), np.empty(CODES, np.int64)
    found = either_kernel.drain(tables, codes, tallies)
    assert codes[:found].tolist() == [0, 7, 16, 65535]
    assert tallies[:found].tolist() == [1, 2**33 - 2, 9, 11]
    assert not tables.any()


def test_a_full_table_is_drained_to_the_last_code(either_kernel: ModuleType) -> None:
    tables = np.ones((2, CODES), np.uint32)
    codes, tallies = np.empty(CODES, np.uint16), np.empty(CODES, np.int64)
    assert either_kernel.drain(tables, codes, tallies) == CODES
    assert (codes == np.arange(CODES)).all()
    assert (tallies == 2).all()


def test_folding_counts_four_neighbouring_magnitudes_together_and_leaves_the_table(either_kernel: ModuleType) -> None:
    tables = np.random.default_rng(6).integers(0, 1 << 32, (2, CODES), np.uint32)
    before, cells = tables.copy(), np.empty(_kernel_numpy.CELLS, np.int64)
    either_kernel.fold(tables, cells)
    magnitudes = before.astype(np.int64).reshape(4, CODES // 2).sum(axis=0)
    assert cells.tolist() == [magnitudes[code : code + 4].sum() for code in range(0, CODES // 2, 4)]
    assert (tables == before).all()


def test_blocks_are_counted_apart_and_together(either_kernel: ModuleType) -> None:
    patterns = np.array([[5, 5], [5, 0x8006], [7, 8], [8, 8]], np.uint16)
    tables, facts = np.zeros((2, CODES), np.uint32), np.zeros((), _kernel_numpy.FACTS)
    codes, tallies, ends = np.empty(16, np.uint16), np.empty(16, np.int64), np.empty(3, np.int64)
    length = either_kernel.count_blocks(
        0, patterns, 4, 2, np.array([0, 2, 2, 4]), tables, codes, tallies, ends, None, None, facts
    )
    assert ends.tolist() == [1, 1, 3]
    assert list(zip(codes[:length].tolist(), tallies[:length].tolist(), strict=True)) == [
        (4, 4),
        *[(4, 1), (8, 3)],
        *[(5, 3), (7, 1), (8, 3), (0x8006, 1)],
    ]
    assert not tables.any()


def test_counting_in_blocks_is_counting_the_whole(either_kernel: ModuleType) -> None:
    for case in seeded_cases():
        whole, blocks = counted(either_kernel, case), counted_in_blocks(either_kernel, case)
        *_, ends, facts, left = blocks.exact
        entries = ends[-1]
        assert (blocks.exact[0][entries:], blocks.exact[1][entries:], facts, left) == whole.exact[:4]
        assert_alike(
            type(whole)(exact=(), rows=whole.rows, columns=whole.columns),
            type(whole)(exact=(), rows=blocks.rows, columns=blocks.columns),
        )


def test_buffers_of_wrong_sizes_are_refused(kernel: ModuleType) -> None:
    check_misuses(kernel)


ROW_SQUARES = 9  # None is no mistake there: no sums of squares are wanted


@pytest.mark.parametrize("place", [place for place in range(12) if place != ROW_SQUARES])
def test_none_is_refused_where_a_buffer_is_needed(kernel: ModuleType, place: int) -> None:
    _, _, arguments = next(each for each in MISUSES if each[1] == "count_blocks")
    sound = [0, *arguments[1:]]
    with pytest.raises(TypeError):
        kernel.count_blocks(*[None if index == place else each for index, each in enumerate(sound)])


def test_a_buffer_that_is_read_only_is_not_written_to(kernel: ModuleType) -> None:
    tables = np.zeros((2, CODES), np.uint32)
    tables.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        kernel.count(0, b"", 0, 0, tables, None, None, np.zeros((), _kernel_numpy.FACTS))


def test_the_numpy_kernel_can_be_asked_for() -> None:
    assert chosen(environment={"JAYNES_KERNEL": "numpy"}) is _kernel_numpy


def test_the_compiled_kernel_is_taken_where_it_was_built(kernel: ModuleType) -> None:
    assert chosen(environment={}) is kernel


@given(codes=st.lists(st.integers(0, CODES - 1), unique=True).map(sorted), not_finite=st.sampled_from([0x7C00, 0x7F80]))
def test_folding_signs_counts_finite_non_zero_magnitudes(kernel: ModuleType, codes: list[int], not_finite: int) -> None:
    tallies = np.arange(1, len(codes) + 1, dtype=np.int64)
    expected: Counter[int] = Counter()
    for code, tally in zip(codes, tallies.tolist(), strict=True):
        if 0 < code & 0x7FFF < not_finite:
            expected[code & 0x7FFF] += tally
    for module in (kernel, _kernel_numpy):
        magnitudes, merged = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
        found = module.fold_signs(np.array(codes, np.uint16), tallies, not_finite, magnitudes, merged)
        assert list(zip(magnitudes[:found].tolist(), merged[:found].tolist(), strict=True)) == sorted(expected.items())
