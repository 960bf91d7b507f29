"""Casts recognised: rounding checked against ml_dtypes and NumPy, recipes against what was really done."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaynes_audit.analyzers.chunks import layers_of
from jaynes_audit.analyzers.comparison.exact.casts import of_one_origin, recipes
from jaynes_audit.analyzers.comparison.exact.exact import compare_exactly
from jaynes_audit.analyzers.comparison.exact.formats import FORMATS, rounded
from jaynes_audit.analyzers.comparison.exact.outcome import Cast, Exact, Relation, Rounding, Side
from jaynes_audit.analyzers.dtypes import Dtype, values
from tests.support.checkpoints import Stored, raw, write_file
from tests.support.weights import REAL, decoded, encoded, oracle_dtype

CASTABLE = [dtype for dtype in REAL if dtype is not Dtype.F8_E8M0]
NARROWER = [dtype for dtype in CASTABLE if dtype not in {Dtype.F32, Dtype.F64}]
SATURATING = {Dtype.F4, Dtype.F6_E2M3, Dtype.F6_E3M2}  # of which ml_dtypes knows no infinity and no NaN
RNG = np.random.default_rng(7)


def some_float32() -> np.ndarray:
    """Numbers of all magnitudes, the exact middles between neighbours of each format, and the special ones."""
    everywhere = RNG.integers(0, 1 << 32, 20_000, np.uint32).view(np.float32)
    usual = RNG.standard_normal(20_000, np.float32) * np.exp2(RNG.integers(-30, 18, 20_000)).astype(np.float32)
    special = np.array(
        [0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, -65520, 65519, 464, 465, 448, 1e-30], np.float32
    )
    middles = []
    for dtype in NARROWER:
        grid = np.unique(np.abs(values(np.arange(256, dtype=np.uint8), dtype))) if dtype in SMALL_CODES else None
        if grid is not None:
            grid = grid[np.isfinite(grid)]
            middles.append(((grid[1:].astype(np.float64) + grid[:-1]) / 2).astype(np.float32))
    codes = RNG.integers(0, 0x7F7F, 5_000, np.uint32)
    middles += [((codes << 16) | 0x8000).view(np.float32), ((codes << 13) | 0x1000).view(np.float32)]
    numbers = np.concatenate([everywhere, usual, special, *middles])
    numbers[np.isnan(numbers)] = np.nan  # none that signals
    return numbers


SMALL_CODES = {dtype for dtype in NARROWER if dtype.value.startswith("F8")}
FLOAT32 = some_float32()
FLOAT64 = np.concatenate([FLOAT32.astype(np.float64), RNG.standard_normal(5_000), [1e300, 1e-300]])


def oracle(numbers: np.ndarray, dtype: Dtype) -> np.ndarray:
    with np.errstate(all="ignore"):
        return numbers.astype(oracle_dtype(dtype)).astype(numbers.dtype)


@pytest.mark.parametrize("dtype", [dtype for dtype in NARROWER if dtype not in SATURATING])
def test_rounding_is_that_of_ml_dtypes_and_numpy(dtype: Dtype) -> None:
    made, _ = rounded(FLOAT32, FORMATS[dtype], Rounding.ROUNDED)
    np.testing.assert_array_equal(made, oracle(FLOAT32, dtype))


def test_rounding_float64_to_float32_is_that_of_numpy() -> None:
    made, _ = rounded(FLOAT64, FORMATS[Dtype.F32], Rounding.ROUNDED)
    np.testing.assert_array_equal(made, oracle(FLOAT64, Dtype.F32))


@pytest.mark.parametrize("dtype", [Dtype.F16, Dtype.BF16])
def test_rounding_float64_to_16_bits_rounds_once(dtype: Dtype) -> None:
    middle = 1 + 2.0 ** -(FORMATS[dtype].mantissa_bits + 1)
    above = np.nextafter(middle, 2)  # float32 takes it for the middle
    made, _ = rounded(np.array([above, middle]), FORMATS[dtype], Rounding.ROUNDED)
    assert made.tolist() == [1 + 2.0 ** -FORMATS[dtype].mantissa_bits, 1]


@pytest.mark.parametrize("dtype", SATURATING)
def test_rounding_that_saturates_is_that_of_ml_dtypes(dtype: Dtype) -> None:
    numbers = FLOAT32[np.isfinite(FLOAT32)]
    made, _ = rounded(numbers, FORMATS[dtype], Rounding.ROUNDED, saturates=True)
    np.testing.assert_array_equal(made, oracle(numbers, dtype))


@pytest.mark.parametrize("dtype", NARROWER)
def test_what_overflows_is_counted_and_becomes_what_is_asked_for(dtype: Dtype) -> None:
    largest = FORMATS[dtype].largest
    beyond = np.float64(largest) * 1.5
    numbers = np.array([largest, -largest, beyond, -beyond, np.inf])
    made, overflowed = rounded(numbers, FORMATS[dtype], Rounding.ROUNDED)
    assert overflowed.tolist() == [False, False, True, True, False]
    assert not np.isfinite(made[2:]).any()
    made, overflowed = rounded(numbers, FORMATS[dtype], Rounding.ROUNDED, saturates=True)
    assert made.tolist() == [largest, -largest, largest, -largest, largest]
    assert overflowed.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("dtype", NARROWER)
def test_truncating_gives_the_next_number_towards_zero(dtype: Dtype) -> None:
    numbers = FLOAT32[np.isfinite(FLOAT32) & (np.abs(FLOAT32) <= FORMATS[dtype].largest)]
    made, _ = rounded(numbers, FORMATS[dtype], Rounding.TRUNCATED)
    nearest, _ = rounded(numbers, FORMATS[dtype], Rounding.ROUNDED, saturates=True)
    assert (np.abs(made) <= np.abs(numbers)).all()
    up = np.abs(nearest) > np.abs(numbers)
    np.testing.assert_array_equal(made[~up], nearest[~up])
    between = (np.abs(nearest[up]).astype(np.float64) + np.abs(made[up])) / 2
    again, _ = rounded(np.abs(nearest[up]), FORMATS[dtype], Rounding.TRUNCATED)
    np.testing.assert_array_equal(again, np.abs(nearest[up]))
    assert (between < np.abs(nearest[up])).all()


def test_truncating_to_bf16_is_to_keep_the_upper_half() -> None:
    numbers = FLOAT32[np.isfinite(FLOAT32)]
    made, _ = rounded(numbers, FORMATS[Dtype.BF16], Rounding.TRUNCATED)
    np.testing.assert_array_equal(made.view(np.uint32), numbers.view(np.uint32) & np.uint32(0xFFFF0000))


@pytest.mark.parametrize("dtype", [Dtype.F16, Dtype.BF16, *sorted(SMALL_CODES)])
def test_numbers_of_the_format_itself_are_kept(dtype: Dtype) -> None:
    codes = np.arange(1 << 16, dtype=np.uint16).view(np.float16 if dtype is Dtype.F16 else np.uint16)
    own = values(np.arange(256, dtype=np.uint8) if dtype in SMALL_CODES else codes, dtype)
    for rounding in (Rounding.ROUNDED, Rounding.TRUNCATED):
        made, overflowed = rounded(own, FORMATS[dtype], rounding)
        finite = np.isfinite(own)
        np.testing.assert_array_equal(made[finite], own[finite])
        assert not overflowed.any()


@pytest.mark.parametrize("dtype", CASTABLE)
def test_formats_end_where_ml_dtypes_says(dtype: Dtype) -> None:
    info = ml_dtypes.finfo(oracle_dtype(dtype))
    assert FORMATS[dtype].largest == float(info.max)
    assert FORMATS[dtype].mantissa_bits == info.nmant
    assert 2.0 ** FORMATS[dtype].least_exponent == float(info.smallest_normal)


def test_a_format_is_never_cast_to_itself_or_through_one_that_keeps_all() -> None:
    for recipe in recipes(Dtype.F16, Dtype.F16):
        assert recipe.through in {Dtype.BF16, Dtype.F8_E4M3, Dtype.F8_E5M2}
    assert recipes(Dtype.F8_E8M0, Dtype.F32) == ()


def compared(folder: Path, a: Stored, b: Stored) -> Exact:
    [of_a] = write_file(folder / "a.safetensors", {"w": a})
    [of_b] = write_file(folder / "b.safetensors", {"w": b})
    [outcome] = compare_exactly([(next(layers_of(of_a, {})), next(layers_of(of_b, {})))], jobs=2)
    assert isinstance(outcome, Exact)
    return outcome


def weights(seed: int = 0, scale: float = 0.02) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((96, 80)) * scale).astype(np.float32)


def stored(numbers: np.ndarray, dtype: Dtype) -> Stored:
    return raw(encoded(numbers, dtype), dtype, numbers.shape)


@pytest.mark.parametrize("narrow", NARROWER)
@pytest.mark.parametrize("wide", [Dtype.F32, Dtype.F64])
def test_a_rounded_copy_is_told_whichever_side_it_is_on(tmp_path: Path, narrow: Dtype, wide: Dtype) -> None:
    numbers = weights(scale=1.0)
    source, made = stored(numbers, wide), stored(numbers, narrow)
    for a, b, side in ((source, made, Side.A), (made, source, Side.B)):
        outcome = compared(tmp_path, a, b)
        assert outcome.relation is Relation.CAST
        assert outcome.cast == Cast(
            source=side,
            from_dtype=wide,
            to_dtype=narrow,
            rounding=Rounding.ROUNDED,
            through="",
            overflowed=0,
            flushed=int(np.count_nonzero(decoded(encoded(numbers, narrow), narrow) == 0)),
        )
        assert outcome.difference is not None
        assert outcome.rank is None


@pytest.mark.parametrize("narrow", [Dtype.F16, Dtype.BF16, Dtype.F8_E4M3])
@pytest.mark.parametrize("wide", [Dtype.F32, Dtype.F64])
def test_a_widened_copy_is_exact_and_made_from_the_narrower_one(tmp_path: Path, narrow: Dtype, wide: Dtype) -> None:
    kept = decoded(encoded(weights(scale=1.0), narrow), narrow)
    outcome = compared(tmp_path, stored(kept, wide), stored(kept, narrow))
    assert outcome.relation is Relation.CAST
    assert outcome.cast is not None
    assert (outcome.cast.source, outcome.cast.rounding) == (Side.B, Rounding.EXACT)
    assert outcome.difference is not None
    assert (outcome.difference.changed, outcome.difference.relative_error) == (0, 0)


def test_a_truncated_copy_is_told_from_a_rounded_one(tmp_path: Path) -> None:
    numbers = weights()
    halves = (numbers.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    outcome = compared(tmp_path, stored(numbers, Dtype.F32), raw(halves, Dtype.BF16))
    assert outcome.cast is not None
    assert outcome.cast.rounding is Rounding.TRUNCATED


def half_and_back(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return numbers.astype(np.float16).astype(np.float32)


def bf16_and_back(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize(
    ("start", "through", "end", "on_the_way"),
    [
        (Dtype.F32, Dtype.F16, Dtype.BF16, half_and_back),
        (Dtype.F32, Dtype.F16, Dtype.F32, half_and_back),
        (Dtype.F32, Dtype.BF16, Dtype.F32, bf16_and_back),
        (Dtype.F32, Dtype.BF16, Dtype.F16, bf16_and_back),
        (Dtype.BF16, Dtype.F16, Dtype.BF16, half_and_back),
        (Dtype.BF16, Dtype.F16, Dtype.F32, half_and_back),
        (Dtype.F16, Dtype.BF16, Dtype.F16, bf16_and_back),
    ],
)
def test_the_format_on_the_way_is_told_with_what_it_lost(
    tmp_path: Path, start: Dtype, through: Dtype, end: Dtype, on_the_way: Callable[[np.ndarray], np.ndarray]
) -> None:
    numbers = weights()
    numbers[2:6] *= 2.0**-18  # where fp16 keeps fewer bits than bf16
    numbers[0, :5] = [1e-9, -1e-12, 3e-8, 1e-8, 0]
    if start is not Dtype.F16:
        numbers[1, :3] = [7e4, -1e30, 65504]
    source = decoded(encoded(numbers, start), start).astype(np.float32)
    passed = on_the_way(source)
    with np.errstate(over="ignore"):
        made = decoded(encoded(passed, end), end)
    outcome = compared(tmp_path, stored(source, start), stored(passed, end))
    assert outcome.relation is Relation.CAST
    cast = outcome.cast
    assert cast is not None
    assert (cast.source, cast.through, cast.rounding) == (Side.A, through, Rounding.ROUNDED)
    assert cast.overflowed == np.count_nonzero(np.isinf(made))
    assert cast.flushed == np.count_nonzero((made == 0) & (source != 0))
    assert outcome.difference is not None
    assert outcome.difference.not_finite == cast.overflowed


def test_saturated_weights_are_counted_as_overflowed(tmp_path: Path) -> None:
    numbers = weights(scale=300.0)
    made = np.clip(numbers, -448, 448)
    assert (np.abs(numbers) > 464).any()
    outcome = compared(tmp_path, stored(numbers, Dtype.F32), stored(made, Dtype.F8_E4M3))
    assert outcome.cast is not None
    at_the_end = int(np.count_nonzero(np.abs(numbers) > 464))  # 448 to 464 is rounded to 448 anyway
    assert (outcome.cast.rounding, outcome.cast.overflowed) == (Rounding.ROUNDED, at_the_end)


def test_one_weight_that_no_cast_explains_is_a_difference(tmp_path: Path) -> None:
    numbers = weights()
    made = encoded(numbers, Dtype.BF16)
    made[50, 50] ^= 1
    outcome = compared(tmp_path, stored(numbers, Dtype.F32), raw(made, Dtype.BF16))
    assert outcome.relation is Relation.DIFFERENT


def test_a_cast_through_another_format_must_hold_where_nothing_changed_too(tmp_path: Path) -> None:
    rows = 20_000  # several chunks, of which the first hold what no fp16 keeps
    numbers = np.full((rows, 64), 1e-9, np.float32)
    numbers[-10:] = weights()[:10, :64]
    made = numbers.copy()
    made[-10:] = half_and_back(numbers[-10:])
    outcome = compared(tmp_path, raw(numbers, Dtype.F32), raw(made, Dtype.F32))
    assert outcome.relation is Relation.DIFFERENT
    numbers[:-10] = made[:-10] = 0.5
    outcome = compared(tmp_path, raw(numbers, Dtype.F32), raw(made, Dtype.F32))
    assert outcome.relation is Relation.CAST


@pytest.mark.parametrize(
    "made",
    [np.ones((64, 64)), np.zeros((64, 64)), np.full((64, 64), np.nan)],
    ids=["all one", "all zero", "all NaN"],
)
def test_what_was_reset_fits_many_casts_and_is_called_none(tmp_path: Path, made: np.ndarray) -> None:
    gains = np.float32(1 + 0.02 * weights()[:64, :64])
    source = gains if made[0, 0] == 1 else np.float32(0.0003) * gains
    outcome = compared(tmp_path, raw(source, Dtype.F32), raw(made.astype(np.float32), Dtype.F32))
    assert outcome.relation is Relation.DIFFERENT


def test_a_cast_of_nothing_but_nan_and_infinity_is_told(tmp_path: Path) -> None:
    numbers = np.tile(np.array([np.nan, np.inf, -np.inf, 0.0], np.float32), (8, 4))
    outcome = compared(tmp_path, stored(numbers, Dtype.F32), stored(numbers, Dtype.BF16))
    assert outcome.cast is not None
    assert outcome.cast.rounding is Rounding.EXACT


NARROW = [
    (Dtype.BF16, Dtype.F16),
    (Dtype.BF16, Dtype.F8_E4M3),
    (Dtype.F16, Dtype.F8_E5M2),
    (Dtype.F8_E4M3, Dtype.F8_E5M2),
]


@pytest.mark.parametrize(("of_a", "of_b"), NARROW)
def test_two_casts_of_weights_that_neither_holds_are_told(tmp_path: Path, of_a: Dtype, of_b: Dtype) -> None:
    numbers = weights(scale=1.0)
    for a, b in ((of_a, of_b), (of_b, of_a)):
        outcome = compared(tmp_path, stored(numbers, a), stored(numbers, b))
        assert outcome.relation is Relation.CAST
        assert outcome.cast == Cast(
            source=None,
            from_dtype="",
            to_dtype=f"{a} and {b}",
            rounding=Rounding.ROUNDED,
            through="",
            overflowed=0,
            flushed=int(
                np.count_nonzero((decoded(encoded(numbers, a), a) == 0) != (decoded(encoded(numbers, b), b) == 0))
            ),
        )
        assert outcome.rank is None


def test_what_either_cast_lost_is_counted(tmp_path: Path) -> None:
    numbers = weights()
    numbers[0, :7] = [7e4, -1e30, 65519, 1e-9, -1e-12, np.inf, np.nan]
    with np.errstate(over="ignore"):
        outcome = compared(tmp_path, stored(numbers, Dtype.BF16), stored(numbers, Dtype.F16))
    assert outcome.cast is not None
    assert (outcome.cast.source, outcome.cast.overflowed, outcome.cast.flushed) == (None, 2, 2)
    saturated = np.clip(numbers, -65504, 65504)
    saturated[0, 5] = np.inf
    outcome = compared(tmp_path, stored(numbers, Dtype.BF16), stored(saturated, Dtype.F16))
    assert outcome.cast is not None
    assert (outcome.cast.source, outcome.cast.overflowed, outcome.cast.flushed) == (None, 2, 2)


def test_what_overflowed_to_nan_is_counted_in_a_format_without_infinity(tmp_path: Path) -> None:
    numbers = weights(scale=200.0)
    beyond = np.abs(numbers) > 464
    codes = encoded(numbers, Dtype.F8_E4M3)
    assert np.isnan(decoded(codes, Dtype.F8_E4M3)[beyond]).all()
    outcome = compared(tmp_path, raw(codes, Dtype.F8_E4M3), stored(numbers, Dtype.F8_E5M2))
    assert outcome.cast is not None
    assert (outcome.cast.source, outcome.cast.overflowed) == (None, np.count_nonzero(beyond))
    codes[40, 40] = 0x7F  # NaN, where nothing was too large
    outcome = compared(tmp_path, raw(codes, Dtype.F8_E4M3), stored(numbers, Dtype.F8_E5M2))
    assert beyond[40, 40] or outcome.relation is Relation.DIFFERENT


@pytest.mark.parametrize(("of_a", "of_b"), NARROW)
def test_one_weight_that_no_number_is_rounded_to_is_a_difference(tmp_path: Path, of_a: Dtype, of_b: Dtype) -> None:
    numbers = weights(scale=1.0)
    numbers[50, 50] = 1.0
    codes_a, codes_b = encoded(numbers, of_a), encoded(numbers, of_b)
    codes_b[50, 50] = encoded(np.array(1.5), of_b)
    outcome = compared(tmp_path, raw(codes_a, of_a), raw(codes_b, of_b))
    assert outcome.relation is Relation.DIFFERENT


def exactly_rounded(numbers: np.ndarray, to: Dtype) -> np.ndarray:
    made, _ = rounded(numbers.astype(np.float64), FORMATS[to], Rounding.ROUNDED)
    return made


@pytest.mark.parametrize(("of_a", "of_b"), [(Dtype.BF16, Dtype.F16), (Dtype.F8_E4M3, Dtype.F8_E5M2)])
def test_codes_have_one_origin_where_some_number_is_rounded_to_both(of_a: Dtype, of_b: Dtype) -> None:
    """All numbers at which rounding to either format changes, and the middles between, are tried."""
    fine = np.arange(0.98, 1.03, 2.0**-14)
    near_one = np.unique(np.concatenate([decoded(encoded(fine, dtype), dtype) for dtype in (of_a, of_b)]))
    near_one = np.concatenate([-near_one, near_one])
    steps = np.unique(np.concatenate([near_one, (near_one[1:] + near_one[:-1]) / 2]))
    quarters = np.concatenate([steps, (steps[1:] + steps[:-1]) / 2])
    pairs = {(a, b) for a, b in zip(exactly_rounded(quarters, of_a), exactly_rounded(quarters, of_b), strict=True)}
    all_a, all_b = sorted({a for a, _ in pairs}), sorted({b for _, b in pairs})
    for a in all_a[2:-2]:
        for b in all_b[2:-2]:
            code_a, code_b = (encoded(np.array([number]), of) for number, of in ((a, of_a), (b, of_b)))
            assert (of_one_origin(code_a, of_a, code_b, of_b) is not None) is ((a, b) in pairs), (a, b)


def test_few_weights_that_may_have_one_origin_are_a_difference_unless_more_layers_bear_it_out(tmp_path: Path) -> None:
    few, many = weights()[0, :40], weights()
    of_a, of_b = (
        write_file(
            tmp_path / f"{dtype}.safetensors",
            {"bias": raw(encoded(few, dtype), dtype), "w": raw(encoded(many, dtype), dtype)},
        )
        for dtype in (Dtype.BF16, Dtype.F16)
    )
    layers = [(next(layers_of(a, {})), next(layers_of(b, {}))) for a, b in zip(of_a, of_b, strict=True)]
    bias, matrix = compare_exactly(layers)
    assert isinstance(bias, Exact)
    assert isinstance(matrix, Exact)
    assert bias.relation is matrix.relation is Relation.CAST
    [alone] = compare_exactly(layers[:1])
    assert isinstance(alone, Exact)
    assert (alone.relation, alone.cast) == (Relation.DIFFERENT, None)
