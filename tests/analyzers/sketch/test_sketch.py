"""A sketch keeps exact counts of a layer, in whatever pieces and order it is read."""

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.dtypes import Dtype, bf16_codes, values
from jaynes_audit.analyzers.sketch import extent as extent_module
from jaynes_audit.analyzers.sketch import sketch as sketch_module
from jaynes_audit.analyzers.sketch.extent import ROW_BLOCKS, Extent
from jaynes_audit.analyzers.sketch.histogram import Histogram, Pool
from jaynes_audit.analyzers.sketch.sketch import Sketch, narrowed, sketch
from tests.support.strategies import bf16_matrices
from tests.support.weights import (
    REAL,
    SMALL,
    chunked,
    counts_of,
    decoded,
    encoded,
    exact_facts,
    extent_of,
    folded,
    sketch_of,
)

EVERY_FORMAT = pytest.mark.parametrize("dtype", REAL)
SIXTEEN_BITS = pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16])


def gaussian(rows: int, columns: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def float32(*patterns: int) -> np.ndarray:
    return np.array([patterns], np.uint32).view(np.float32)


# ---- counts against exact counting and sorting


@SIXTEEN_BITS
@pytest.mark.parametrize("shape", [(3, 5), (16, 2048), (17, 2049), (700, 999), (1, 1)])
def test_counts_of_16_bit_weights_are_those_of_np_unique(dtype: Dtype, shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(1).integers(0, 1 << 16, shape, np.uint16)
    unique, tallies = np.unique(codes, return_counts=True)
    whole = sketch_of(codes.view(np.float16) if dtype is Dtype.F16 else codes, dtype)
    assert counts_of(whole) == dict(zip(unique.tolist(), tallies.tolist(), strict=True))


@pytest.mark.parametrize("dtype", SMALL)
def test_counts_of_small_floats_are_those_of_np_unique(dtype: Dtype) -> None:
    codes = encoded(gaussian(60, 70), dtype)
    unique, tallies = np.unique(codes, return_counts=True)
    expected = dict(zip(bf16_codes(dtype)[unique].tolist(), tallies.tolist(), strict=True))
    assert counts_of(sketch_of(codes, dtype)) == expected


def test_counts_of_float32_are_those_of_their_upper_halves() -> None:
    weights = gaussian(600, 700).astype(np.float32)
    unique, tallies = np.unique(weights.view(np.uint32) >> 16, return_counts=True)
    assert counts_of(sketch_of(weights, Dtype.F32)) == dict(zip(unique.tolist(), tallies.tolist(), strict=True))


@SIXTEEN_BITS
def test_quantiles_of_16_bit_weights_are_those_of_an_exact_sort(dtype: Dtype) -> None:
    codes = encoded(gaussian(300, 400), dtype)
    exact = np.sort(np.abs(decoded(codes, dtype)).reshape(-1))
    magnitudes = sketch_of(codes, dtype).histogram.magnitudes
    assert np.repeat(magnitudes.grid.value[magnitudes.codes], magnitudes.tallies).tolist() == exact[exact > 0].tolist()


@pytest.mark.parametrize("columns", [7, 700])
def test_counts_of_row_blocks_are_those_of_their_rows(columns: int) -> None:
    codes = encoded(gaussian(83, columns), Dtype.BF16)
    whole = sketch_of(codes, Dtype.BF16)
    edges = whole.extent.block_edges
    assert whole.counts.ends.size == ROW_BLOCKS
    for block, (top, bottom) in enumerate(pairwise(edges.tolist())):
        unique, tallies = np.unique(codes[top:bottom], return_counts=True)
        assert folded(*whole.counts.of_block(block)) == folded(unique, tallies)


@given(st.integers(0, 10_000))
def test_row_blocks_differ_by_a_row_at_most(rows: int) -> None:
    edges = Extent(rows=rows, columns=1, dtype=Dtype.F32, scaled=True).block_edges
    heights = np.diff(edges)
    assert (edges[0], edges[-1]) == (0, rows)
    assert heights.max() - heights.min() <= 1
    assert heights.size == max(1, min(rows, ROW_BLOCKS))


@EVERY_FORMAT
@pytest.mark.parametrize("shape", [(9, 33), (300, 301)])
def test_sums_of_squares_are_those_of_numpy(dtype: Dtype, shape: tuple[int, int]) -> None:
    codes = encoded(np.abs(gaussian(*shape)) + 0.1, dtype)
    squares = decoded(codes, dtype) ** 2
    if dtype is Dtype.F64:
        squares = codes.astype(np.float32).astype(np.float64) ** 2
    whole = sketch_of(codes, dtype)
    np.testing.assert_allclose(whole.row_squares, squares.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(whole.column_squares, squares.sum(axis=0), rtol=1e-12)


def test_a_layer_without_rows_has_no_sums_of_squares() -> None:
    whole = sketch_of(encoded(gaussian(900, 100), Dtype.BF16), Dtype.BF16, scaled=False)
    assert (whole.row_squares.size, whole.column_squares.size) == (0, 0)
    assert whole.histogram.special.weights == 90_000


# ---- special values, counted exactly


def special_counts(codes: np.ndarray, dtype: Dtype) -> dict[str, int]:
    whole = sketch_of(codes, dtype)
    special = whole.histogram.special
    return {
        "weights": special.weights,
        "zero": special.zero,
        "subnormal": special.subnormal,
        "max_finite": whole.max_finite,
        "infinite": special.infinite,
        "nan": special.nan,
        "negative": special.negative,
    }


def counted_by_numpy(codes: np.ndarray, dtype: Dtype) -> dict[str, int]:
    with np.errstate(invalid="ignore"):
        numbers = decoded(codes, dtype)
    magnitudes = np.abs(numbers)
    finite = np.isfinite(magnitudes)
    # Of the grid's own format: float16 has its own, all others count as a float32.
    smallest_normal = 2.0**-14 if dtype is Dtype.F16 else 2.0**-126
    every = decoded(np.arange(1 << 16, dtype=np.uint16), dtype) if codes.itemsize == 2 else np.empty(0)
    largest = every[np.isfinite(every)].max() if every.size else float(np.finfo(codes.dtype).max)
    return {
        "weights": codes.size,
        "zero": np.count_nonzero(numbers == 0),
        "subnormal": np.count_nonzero((magnitudes > 0) & (magnitudes < smallest_normal)),
        "max_finite": np.count_nonzero(magnitudes == largest),
        "infinite": np.count_nonzero(np.isinf(numbers)),
        "nan": np.count_nonzero(~finite & ~np.isinf(numbers)),
        "negative": np.count_nonzero(np.signbit(numbers)),
    }


@SIXTEEN_BITS
def test_special_16_bit_weights_are_counted_exactly(dtype: Dtype) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    codes = every.view(np.float16) if dtype is Dtype.F16 else every
    with np.errstate(invalid="ignore"):
        assert special_counts(codes, dtype) == counted_by_numpy(codes, dtype)


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F64])
@pytest.mark.parametrize("copies", [1, 5000])
def test_special_wide_weights_are_counted_exactly(dtype: Dtype, copies: int) -> None:
    limits = np.finfo(codes_dtype(dtype))
    numbers = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, -2.5, limits.max, -limits.max]
    numbers += [limits.smallest_subnormal, np.nextafter(limits.max, 0, dtype=codes_dtype(dtype)), 2.0**-126, 2.0**-127]
    codes = np.array([numbers] * copies, codes_dtype(dtype))
    assert special_counts(codes, dtype) == counted_by_numpy(codes, dtype)


def codes_dtype(dtype: Dtype) -> np.dtype[np.floating]:
    return np.dtype(np.float32 if dtype is Dtype.F32 else np.float64)


@pytest.mark.parametrize("dtype", SMALL)
def test_special_small_floats_are_counted_exactly(dtype: Dtype) -> None:
    bits = {Dtype.F4: 4, Dtype.F6_E2M3: 6, Dtype.F6_E3M2: 6}.get(dtype, 8)
    codes = np.arange(1 << bits, dtype=np.uint8).reshape(4, -1)
    with np.errstate(invalid="ignore"):
        numbers = values(codes, dtype).astype(np.float64)
    counts = special_counts(codes, dtype)
    assert counts["zero"] == np.count_nonzero(numbers == 0)
    assert counts["nan"] == np.count_nonzero(np.isnan(numbers))
    assert counts["infinite"] == np.count_nonzero(np.isinf(numbers))
    assert counts["max_finite"] == np.count_nonzero(np.abs(numbers) == np.abs(numbers[np.isfinite(numbers)]).max())
    assert counts["negative"] == np.count_nonzero(np.signbit(numbers))


@pytest.mark.parametrize("pattern", [0x7F800001, 0xFF800001, 0x7F80FFFF])
def test_a_nan_that_differs_from_infinity_in_its_low_half_alone_is_a_nan(pattern: int) -> None:
    counts = special_counts(float32(pattern, 0x3F800000), Dtype.F32)
    assert (counts["nan"], counts["infinite"]) == (1, 0)


@pytest.mark.parametrize("pattern", [0x00000001, 0x80000001, 0x0000FFFF])
def test_a_float32_too_small_for_its_upper_half_is_not_zero(pattern: int) -> None:
    counts = special_counts(float32(pattern, 0x3F800000), Dtype.F32)
    assert (counts["zero"], counts["subnormal"]) == (0, 1)


def test_one_step_below_the_greatest_float32_is_not_the_greatest() -> None:
    assert special_counts(float32(0x7F7FFFFF, 0xFF7FFFFF, 0x7F7FFFFE), Dtype.F32)["max_finite"] == 2


def test_float64_beyond_the_range_of_float32_stays_finite_and_not_zero() -> None:
    codes = np.array([[1e300, -1e300, 1e-300, -1e-300, 1.0, 0.0]])
    counts = special_counts(codes, Dtype.F64)
    assert (counts["infinite"], counts["zero"], counts["max_finite"]) == (0, 1, 0)
    assert sketch_of(codes, Dtype.F64).histogram.magnitudes.weights == 5


def test_signalling_float64_nans_are_nans_and_no_trouble() -> None:
    codes = np.array([[0x7FF0000000000001, 0xFFF0000000000001, 0x3FF0000000000000]], np.uint64).view(np.float64)
    assert special_counts(codes, Dtype.F64)["nan"] == 2


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_narrowing_keeps_sign_and_kind(number: float) -> None:
    narrow = narrowed(np.array([number]))[0]
    assert np.isfinite(narrow)
    assert (narrow == 0) == (number == 0)
    assert np.signbit(narrow) == np.signbit(number)


@EVERY_FORMAT
def test_the_greatest_magnitude_is_exact(dtype: Dtype) -> None:
    codes = encoded(gaussian(50, 60), dtype)
    with np.errstate(invalid="ignore"):
        numbers = np.abs(decoded(codes, dtype))
    expected = numbers[np.isfinite(numbers)].max()
    assert sketch_of(codes, dtype).largest == (np.float32(expected) if dtype is Dtype.F64 else expected)


@EVERY_FORMAT
def test_infinities_and_nans_are_not_the_greatest_magnitude(dtype: Dtype) -> None:
    codes = encoded([[np.inf, np.nan, 0.0, 4.0]], dtype)
    with np.errstate(invalid="ignore"):
        numbers = np.abs(decoded(codes, dtype))
    assert sketch_of(codes, dtype).largest == numbers[np.isfinite(numbers)].max()  # F4 and F6 have none, and saturate


# ---- merging


def parts_of(codes: np.ndarray, extent: Extent, edges: list[int]) -> list[Sketch]:
    return [
        sketch(chunked(codes, extent, first_row=top, stop_row=bottom), extent, first_row=top)
        for top, bottom in pairwise(edges)
    ]


def assert_same_layer(left: Sketch, right: Sketch) -> None:
    assert exact_facts(left) == exact_facts(right)
    np.testing.assert_allclose(left.row_squares, right.row_squares, rtol=1e-12, atol=0)
    np.testing.assert_allclose(left.column_squares, right.column_squares, rtol=1e-12, atol=0)


@pytest.fixture(scope="module", autouse=True)
def _chunks_of_a_few_rows() -> object:
    """Chunks of 256 bytes, so that small matrices have many; the size is a matter of speed alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extent_module, "CHUNK_BYTES", 256)
        yield


matrices = bf16_matrices(st.integers(1, 70), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(codes=matrices, data=st.data())
def test_sketching_in_parts_is_sketching_the_whole(codes: np.ndarray, data: st.DataObject) -> None:
    extent = extent_of(codes, Dtype.BF16)
    inner = data.draw(st.sets(st.sampled_from(range(0, extent.rows, extent.chunk_rows))))
    edges = sorted({0, extent.rows, *inner})
    parts = data.draw(st.permutations(parts_of(codes, extent, edges)))
    assert_same_layer(reduce(add, parts), sketch_of(codes, Dtype.BF16))


@settings(max_examples=60, deadline=None)
@given(codes=matrices)
def test_merging_does_not_depend_on_the_order(codes: np.ndarray) -> None:
    extent = extent_of(codes, Dtype.BF16)
    middle = extent.rows // 2 // extent.chunk_rows * extent.chunk_rows
    left, right = parts_of(codes, extent, [0, middle, extent.rows])
    assert_same_layer(left + right, right + left)


@settings(max_examples=60, deadline=None)
@given(codes=matrices)
def test_merging_does_not_depend_on_what_is_merged_first(codes: np.ndarray) -> None:
    extent = extent_of(codes, Dtype.BF16)
    first, second = (extent.rows * third // 3 // extent.chunk_rows * extent.chunk_rows for third in (1, 2))
    a, b, c = parts_of(codes, extent, [0, first, second, extent.rows])
    assert_same_layer((a + b) + c, a + (b + c))


@settings(max_examples=60, deadline=None)
@given(codes=matrices)
def test_the_empty_sketch_changes_nothing(codes: np.ndarray) -> None:
    whole = sketch_of(codes, Dtype.BF16)
    assert_same_layer(whole + Sketch.empty(whole.extent), whole)
    assert_same_layer(Sketch.empty(whole.extent) + whole, whole)


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F64, Dtype.F16, Dtype.F8_E4M3, Dtype.F6_E3M2])
def test_every_format_can_be_sketched_in_parts(dtype: Dtype) -> None:
    codes = encoded(gaussian(96, 36) * 3, dtype)
    extent = extent_of(codes, dtype)
    edges = [*range(0, extent.rows, extent.chunk_rows), extent.rows]
    assert_same_layer(reduce(add, reversed(parts_of(codes, extent, edges))), sketch_of(codes, dtype))


def test_merging_leaves_its_parts_alone() -> None:
    codes = encoded(gaussian(40, 30), Dtype.F32)
    extent = extent_of(codes, Dtype.F32)
    left, right = parts_of(codes, extent, [0, 20, 40])
    before = (exact_facts(left), left.row_squares.tolist(), left.column_squares.tolist())
    _ = left + right
    assert (exact_facts(left), left.row_squares.tolist(), left.column_squares.tolist()) == before


def test_parts_of_unlike_layers_are_not_merged() -> None:
    left = Sketch.empty(Extent(rows=2, columns=3, dtype=Dtype.BF16, scaled=True))
    right = Sketch.empty(Extent(rows=3, columns=2, dtype=Dtype.BF16, scaled=True))
    with pytest.raises(ValueError, match="unlike layers"):
        _ = left + right


def test_a_layer_is_counted_alike_in_one_call_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = encoded(gaussian(100, 300), Dtype.BF16)
    in_many = sketch_of(codes, Dtype.BF16)
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 1 << 20)
    in_one = sketch_of(codes, Dtype.BF16)
    assert exact_facts(in_one)[2:] == exact_facts(in_many)[2:]
    np.testing.assert_allclose(in_one.row_squares, in_many.row_squares, rtol=1e-12)
    np.testing.assert_allclose(in_one.column_squares, in_many.column_squares, rtol=1e-12)


@pytest.mark.parametrize("rows", [32_768 // 16, 32_768 // 16 + 1])
def test_small_and_large_layers_are_counted_alike(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 1 << 20)
    codes = encoded(gaussian(rows, 16), Dtype.F16)
    unique, tallies = np.unique(codes.view(np.uint16), return_counts=True)
    whole = sketch_of(codes, Dtype.F16)
    assert counts_of(whole) == dict(zip(unique.tolist(), tallies.tolist(), strict=True))
    assert whole.counts.ends.size == ROW_BLOCKS


def test_counters_that_would_run_over_are_emptied_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = encoded(gaussian(90, 500), Dtype.BF16)
    expected = exact_facts(sketch_of(codes, Dtype.BF16))
    monkeypatch.setattr(sketch_module, "TABLE_LIMIT", 1200)
    assert exact_facts(sketch_of(codes, Dtype.BF16)) == expected


def test_a_count_that_broke_off_does_not_spoil_the_next() -> None:
    codes = encoded(gaussian(64, 64), Dtype.BF16)
    extent = extent_of(codes, Dtype.BF16)

    def breaking_off():
        yield codes[: extent.chunk_rows]
        message = "the file ended"
        raise OSError(message)

    expected = exact_facts(sketch_of(codes, Dtype.BF16))
    with pytest.raises(OSError, match="the file ended"):
        sketch(breaking_off(), extent)
    assert exact_facts(sketch_of(codes, Dtype.BF16)) == expected


# ---- the content hash


@EVERY_FORMAT
def test_equal_weights_have_equal_hashes(dtype: Dtype) -> None:
    codes = encoded(gaussian(40, 40), dtype)
    assert sketch_of(codes, dtype).content == sketch_of(codes.copy(), dtype).content


@EVERY_FORMAT
def test_one_flipped_bit_changes_the_hash(dtype: Dtype) -> None:
    codes = encoded(gaussian(40, 40), dtype)
    flipped = codes.copy()
    flipped.view(np.uint8)[-1, -1] ^= 1
    assert sketch_of(codes, dtype).content != sketch_of(flipped, dtype).content


def test_two_swapped_chunks_change_the_hash() -> None:
    codes = encoded(gaussian(64, 16), Dtype.BF16)
    rows = extent_of(codes, Dtype.BF16).chunk_rows
    swapped = np.concatenate([codes[rows : 2 * rows], codes[:rows], codes[2 * rows :]])
    assert sketch_of(codes, Dtype.BF16).content != sketch_of(swapped, Dtype.BF16).content


def test_two_swapped_rows_change_the_hash() -> None:
    codes = encoded(gaussian(64, 16), Dtype.BF16)
    assert sketch_of(codes, Dtype.BF16).content != sketch_of(codes[[1, 0, *range(2, 64)]], Dtype.BF16).content


def test_the_low_half_of_a_float32_counts_in_the_hash() -> None:
    one, nearly_one = float32(0x3F800000), float32(0x3F800001)
    assert sketch_of(one, Dtype.F32).content != sketch_of(nearly_one, Dtype.F32).content


# ---- histograms


def histogram_of(numbers: np.ndarray, dtype: Dtype) -> Histogram:
    return sketch_of(encoded(numbers, dtype), dtype).histogram


def test_signs_are_folded_in_magnitudes() -> None:
    magnitudes = histogram_of(np.array([[1.0, -1.0, -2.0, 0.0, -0.0, np.inf, np.nan]]), Dtype.BF16).magnitudes
    assert magnitudes.grid.value[magnitudes.codes].tolist() == [1.0, 2.0]
    assert magnitudes.tallies.tolist() == [2, 1]


@pytest.mark.parametrize("numbers", [[[0.0]], [[np.nan, np.inf]], [[-0.0, np.nan]]])
def test_weights_without_a_magnitude_have_no_entry(numbers: list[list[float]]) -> None:
    assert histogram_of(np.array(numbers), Dtype.F32).magnitudes.weights == 0


def test_pooled_histograms_count_the_weights_of_all() -> None:
    layers = [histogram_of(gaussian(30, 30, seed=seed), Dtype.F16) for seed in range(3)]
    together = histogram_of(np.concatenate([gaussian(30, 30, seed=seed) for seed in range(3)]), Dtype.F16)
    pool = Pool()
    for layer in layers:
        pool.add(layer)
    pooled = pool.histogram()
    assert pooled.codes.tolist() == together.codes.tolist()
    assert pooled.tallies.tolist() == together.tallies.tolist()


@pytest.mark.parametrize("order", [1, -1])
def test_pooled_float32_use_the_bits_that_any_of_them_uses(order: int) -> None:
    layers = [histogram_of(np.array([[1.0, 2.0]]), Dtype.F32), histogram_of(np.array([[0.1]]), Dtype.F32)][::order]
    assert (layers[0] + layers[1]).low_bits == 0xCCCD


def test_unlike_formats_are_not_pooled() -> None:
    with pytest.raises(ValueError, match="unlike grids"):
        _ = histogram_of(gaussian(3, 3), Dtype.F16) + histogram_of(gaussian(3, 3), Dtype.BF16)


def test_nothing_pooled_is_no_histogram() -> None:
    with pytest.raises(ValueError, match="no histogram"):
        Pool().histogram()


# ---- how chunks are cut


@given(
    rows=st.integers(1, 10**6),
    columns=st.integers(1, 10**6),
    dtype=st.sampled_from(list(REAL)),
)
def test_a_chunk_ends_on_a_whole_byte(rows: int, columns: int, dtype: Dtype) -> None:
    extent = Extent(rows=rows, columns=columns, dtype=dtype, scaled=True)
    assert extent.chunk_rows >= 1
    assert extent.chunk_rows * extent.row_bits % 8 == 0
