"""Log-moments against closed forms, and their errors against the spread of repeated experiments."""

import numpy as np
import pytest
from scipy import special, stats

from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_lognormal, fit_with_errors
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, LogMoments, NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram
from tests.support.families import FAMILIES, FULL_FLOAT32, Family, expected_histogram
from tests.support.weights import decoded, encoded, sketch_of

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
LIGHT_TAILED = {"Normal", "Uniform", "Normal cut at 2 sd", "lognormal"}
INFINITELY_MANY = 10**15
QUANTITIES = ("log_mean", "log_sigma", "skewness", "excess_kurtosis")


def moments_of(histogram: Histogram) -> LogMoments:
    fit = fit_lognormal(histogram.magnitudes)
    assert isinstance(fit, LognormalFit)
    return fit.moments


def as_array(moments: LogMoments | LogMomentErrors) -> np.ndarray:
    return np.array([getattr(moments, quantity) for quantity in QUANTITIES])


def fitted(codes: np.ndarray, dtype: Dtype) -> tuple[LogMoments, LogMomentErrors]:
    [(fit, errors)] = fit_with_errors([sketch_of(codes, dtype)])
    assert isinstance(fit, LognormalFit)
    assert isinstance(errors, LogMomentErrors)
    return fit.moments, errors


# ---- the moments themselves


@EVERY_FAMILY
@pytest.mark.parametrize(("dtype", "low_bits"), [(Dtype.BF16, 0), (Dtype.F32, FULL_FLOAT32)])
def test_log_moments_of_infinitely_many_weights_are_exact(family: Family, dtype: Dtype, low_bits: int) -> None:
    moments = moments_of(expected_histogram(family, dtype, low_bits, weights=INFINITELY_MANY))
    assert moments.log_mean == pytest.approx(family.log_mean, abs=1e-5)
    assert moments.log_sigma == pytest.approx(family.log_sigma, abs=1e-5)
    assert moments.skewness == pytest.approx(family.skewness, abs=2e-5)
    assert moments.excess_kurtosis == pytest.approx(family.excess_kurtosis, abs=1e-4)


@pytest.mark.parametrize(
    "family", [each for each in FAMILIES if each.name in LIGHT_TAILED], ids=lambda family: family.name
)
def test_log_moments_of_float16_are_exact_where_few_weights_are_rounded_to_zero(family: Family) -> None:
    # Below 2^-25 float16 has nothing, so a millionth of the weights is missing on the far left.
    moments = moments_of(expected_histogram(family, Dtype.F16, 0, weights=INFINITELY_MANY))
    assert moments.log_mean == pytest.approx(family.log_mean, abs=2e-6 if family.name == "lognormal" else 1e-5)
    assert moments.log_sigma == pytest.approx(family.log_sigma, abs=1e-5)


@EVERY_FAMILY
def test_log_moments_of_a_sample_are_within_four_standard_errors(family: Family) -> None:
    rng = np.random.default_rng(len(family.name))
    batches = family.law.rvs((50, 8_000), random_state=rng)
    whole = as_array(moments_of(sketch_of(encoded(batches, Dtype.F32), Dtype.F32).histogram))
    estimates = [as_array(moments_of(sketch_of(encoded([each], Dtype.F32), Dtype.F32).histogram)) for each in batches]
    errors = np.std(estimates, axis=0, ddof=1) / np.sqrt(len(batches))
    exact = [family.log_mean, family.log_sigma, family.skewness, family.excess_kurtosis]
    assert (np.abs(whole - exact) < 4 * errors).all()


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F8_E5M2, Dtype.F6_E2M3])
def test_log_moments_of_narrow_formats_are_those_of_the_stored_numbers(dtype: Dtype) -> None:
    codes = encoded(np.random.default_rng(1).standard_normal((50, 40)), dtype)
    numbers = np.abs(decoded(codes, dtype))
    logarithms = np.log(numbers[numbers > 0])
    moments = moments_of(sketch_of(codes, dtype).histogram)
    assert moments.weights == logarithms.size
    assert moments.log_mean == pytest.approx(logarithms.mean(), abs=1e-12)
    assert moments.log_sigma == pytest.approx(logarithms.std(), abs=1e-12)
    assert moments.skewness == pytest.approx(stats.skew(logarithms), abs=1e-9)
    assert moments.excess_kurtosis == pytest.approx(stats.kurtosis(logarithms), abs=1e-9)


@pytest.mark.parametrize("log_sigma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F64])
def test_log_moments_of_wide_formats_are_within_what_is_promised(dtype: Dtype, log_sigma: float) -> None:
    # The upper half keeps 8 bits: a rounding error of 2^-9/sqrt(3) a weight, and a mean of it that n makes small.
    weights = np.exp(np.random.default_rng(2).normal(-4, log_sigma, (2000, 2000)))
    logarithms = np.log(weights)
    moments = moments_of(sketch_of(encoded(weights, dtype), dtype).histogram)
    assert moments.log_mean == pytest.approx(logarithms.mean(), abs=1e-5)
    assert moments.log_sigma == pytest.approx(logarithms.std(), abs=1.5e-5)


def test_a_float32_file_of_bfloat16_numbers_gives_the_moments_of_the_bfloat16_file() -> None:
    codes = encoded(np.random.default_rng(3).standard_normal((300, 200)), Dtype.BF16)
    as_float32 = (codes.astype(np.uint32) << 16).view(np.float32)
    narrow, wide = fitted(codes, Dtype.BF16)[0], fitted(as_float32, Dtype.F32)[0]
    np.testing.assert_allclose(as_array(wide), as_array(narrow), rtol=1e-9)


def test_a_float32_file_of_float16_numbers_gives_the_moments_of_the_float16_file() -> None:
    codes = encoded(np.random.default_rng(4).standard_normal((500, 400)), Dtype.F16)
    narrow, wide = fitted(codes, Dtype.F16)[0], fitted(codes.astype(np.float32), Dtype.F32)[0]
    assert wide.log_mean == pytest.approx(narrow.log_mean, abs=1e-5)
    assert wide.log_sigma == pytest.approx(narrow.log_sigma, abs=1e-5)


@pytest.mark.parametrize("shift", [-60.0, 0.0, 60.0])
def test_scale_moves_the_mean_and_nothing_else(shift: float) -> None:
    weights = np.random.default_rng(5).standard_normal((100, 100))
    octaves = round(shift / np.log(2))
    here, there = (fitted(encoded(weights * 2.0**power, Dtype.BF16), Dtype.BF16)[0] for power in (0, octaves))
    assert there.log_mean - here.log_mean == pytest.approx(octaves * np.log(2), abs=1e-9)
    np.testing.assert_allclose(as_array(there)[1:], as_array(here)[1:], rtol=1e-9)


def test_zeros_and_what_is_not_finite_stay_out_of_the_moments() -> None:
    weights = np.random.default_rng(6).standard_normal((40, 40))
    special_too = np.concatenate([weights, np.full((8, 40), 0.0), np.full((8, 40), np.nan), np.full((8, 40), np.inf)])
    plain, mixed = (
        fitted(encoded(weights, Dtype.F16), Dtype.F16)[0],
        fitted(encoded(special_too, Dtype.F16), Dtype.F16)[0],
    )
    assert mixed == plain


# ---- why there is none


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ([[0.0, -0.0]], "every weight is zero or not finite"),
        ([[np.nan, np.inf, 0.0]], "every weight is zero or not finite"),
        ([[3.0, -3.0, 0.0]], "every non-zero weight has the same 16-bit magnitude"),
        ([[1.0]], "every non-zero weight has the same 16-bit magnitude"),
    ],
)
def test_no_fit_says_why(weights: list[list[float]], reason: str) -> None:
    whole = sketch_of(encoded(weights, Dtype.F32), Dtype.F32)
    assert fit_lognormal(whole.histogram.magnitudes) == NotFitted(reason)
    assert fit_with_errors([whole]) == [(NotFitted(reason), NotFitted(reason))]


def test_nothing_to_fit_gives_no_fits() -> None:
    assert fit_with_errors([]) == []


def test_layers_are_fitted_alike_alone_and_together() -> None:
    rng = np.random.default_rng(7)
    layers = [
        sketch_of(encoded(rng.standard_normal((rows, 40)) * scale, dtype), dtype)
        for rows, scale, dtype in [
            *[(3, 1, Dtype.BF16), (50, 1e-3, Dtype.F32), (4000, 1, Dtype.BF16), (30, 0, Dtype.BF16)],
            *[(20, 1, Dtype.F16), (900, 20, Dtype.F32), (17, 1, Dtype.BF16), (1, 1, Dtype.F8_E4M3)],
        ]
    ]
    within_one_coarse_cell = sketch_of(encoded([[1.0, 1.0, 1.0078125]], Dtype.BF16), Dtype.BF16)
    layers += [within_one_coarse_cell, within_one_coarse_cell]
    together = fit_with_errors(layers)
    alone = [fit_with_errors([layer])[0] for layer in layers]
    assert [type(fit) for fit, _ in together] == [type(fit) for fit, _ in alone]
    for (fit, errors), (fit_alone, errors_alone) in zip(together, alone, strict=True):
        if isinstance(fit, NotFitted):
            assert (fit, errors) == (fit_alone, errors_alone)
            continue
        np.testing.assert_allclose(as_array(fit.moments), as_array(fit_alone.moments), rtol=1e-9)
        np.testing.assert_allclose(as_array(errors), as_array(errors_alone), rtol=1e-9)
        assert fit.divergence == pytest.approx(fit_alone.divergence, abs=1e-12)
        assert fit.ks_distance == pytest.approx(fit_alone.ks_distance, abs=1e-12)


NEARLY_CONSTANT = {
    "two values": np.repeat([[1.0], [2.0]], 500, axis=0) * np.ones((1, 100)),
    "two neighbouring values": np.repeat([[1.0], [1.0078125]], 500, axis=0) * np.ones((1, 100)),
    "two values far apart": np.repeat([[1e-38], [1e38]], 500, axis=0) * np.ones((1, 100)),
    "one outlier in a million": np.where(np.arange(10**6).reshape(1000, 1000) == 3_004, 100.0, 0.37),
    "one tiny outlier in a million": np.where(np.arange(10**6).reshape(1000, 1000) == 999_999, 1e-40, 0.37),
    "one other value in each row": np.where(np.arange(1000) == 7, 2.0, 1.0) * np.ones((1000, 1)),
}


@pytest.mark.parametrize("weights", NEARLY_CONSTANT.values(), ids=NEARLY_CONSTANT.keys())
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32])
def test_hardly_varying_weights_give_finite_numbers(weights: np.ndarray, dtype: Dtype) -> None:
    [(fit, errors)] = fit_with_errors([sketch_of(encoded(weights, dtype), dtype)])
    assert isinstance(fit, LognormalFit)
    assert isinstance(errors, LogMomentErrors)
    numbers = [*as_array(fit.moments), *as_array(errors), fit.divergence, fit.ks_distance]
    assert np.isfinite(numbers).all()
    assert (as_array(errors) >= 0).all()
    assert (as_array(errors) < 1e4).all()


def test_half_and_half_have_the_moments_of_a_coin() -> None:
    moments = fitted(np.repeat([[1.0], [np.e]], 50, axis=0) * np.ones((1, 20)), Dtype.F64)[0]
    assert moments.log_mean == pytest.approx(0.5, abs=1e-2)
    assert moments.log_sigma == pytest.approx(0.5, abs=1e-2)
    assert moments.skewness == pytest.approx(0, abs=1e-9)
    assert moments.excess_kurtosis == pytest.approx(-2, abs=1e-9)


# ---- their errors

EXPERIMENTS, ROWS, COLUMNS = 300, 64, 64


def repeated(draw: object, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and the errors said of them, of many matrices drawn alike; shape (experiments, 4) each."""
    rng = np.random.default_rng(seed)
    sketches = [sketch_of(encoded(draw(rng), Dtype.BF16), Dtype.BF16) for _ in range(EXPERIMENTS)]
    results = fit_with_errors(sketches)
    assert {errors.blocks for _, errors in results} == {16}
    estimates = np.array([as_array(fit.moments) for fit, _ in results])
    return estimates, np.array([as_array(errors) for _, errors in results])


def independent(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((ROWS, COLUMNS))


def rows_of_unlike_scales(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((ROWS, COLUMNS)) * np.exp(rng.normal(0, 0.5, (ROWS, 1)))


@pytest.mark.parametrize("draw", [independent, rows_of_unlike_scales])
def test_the_errors_are_the_spread_of_repeated_experiments(draw: object) -> None:
    estimates, errors = repeated(draw, seed=8)
    spread = estimates.std(axis=0, ddof=1)
    said = np.sqrt((errors**2).mean(axis=0))
    # 300 experiments know a spread to 4 %; heavier-tailed estimates less well.
    assert (said[:2] / spread[:2]) == pytest.approx([1, 1], abs=0.15)
    assert (said[2:] / spread[2:]) == pytest.approx([1, 1], abs=0.35)


@pytest.mark.parametrize("draw", [independent, rows_of_unlike_scales])
def test_two_errors_to_either_side_cover_the_truth_as_often_as_they_should(draw: object) -> None:
    estimates, errors = repeated(draw, seed=9)
    truth = [-0.635181, np.sqrt(np.pi**2 / 8 + (0.25 if draw is rows_of_unlike_scales else 0))]
    covered = (np.abs(estimates[:, :2] - truth) < 2 * errors[:, :2]).mean(axis=0)
    # 15 degrees of freedom: 93.6 %, of 300 experiments: +-1.4 %.
    assert (covered > 0.88).all()
    assert (covered < 0.985).all()


def test_errors_of_independent_weights_would_be_too_small_for_rows_of_unlike_scales() -> None:
    estimates, _ = repeated(rows_of_unlike_scales, seed=10)
    as_if_independent = estimates[:, 1].mean() / np.sqrt(ROWS * COLUMNS)
    assert estimates[:, 0].std(ddof=1) > 2.5 * as_if_independent


def test_too_few_rows_get_the_errors_of_independent_weights() -> None:
    weights = np.exp(np.random.default_rng(11).standard_normal((15, 4000)))
    moments, errors = fitted(encoded(weights, Dtype.F32), Dtype.F32)
    count = weights.size
    assert errors.blocks == 0
    assert errors.log_mean == pytest.approx(moments.log_sigma / np.sqrt(count))
    assert errors.log_sigma == pytest.approx(moments.log_sigma / np.sqrt(2 * count), rel=0.05)
    assert errors.skewness == pytest.approx(np.sqrt(6 / count))
    assert errors.excess_kurtosis == pytest.approx(np.sqrt(24 / count))


def test_a_block_without_a_weight_leaves_the_errors_of_independent_weights() -> None:
    weights = np.random.default_rng(12).standard_normal((32, 50))
    weights[4:6] = 0
    assert fitted(encoded(weights, Dtype.BF16), Dtype.BF16)[1].blocks == 0


@pytest.mark.parametrize(
    ("first_of_cell", "tolerance"), [(True, 1e-9), (False, 1e-3)], ids=["weights on cells", "weights between cells"]
)
def test_the_jackknife_is_that_of_the_text_book(*, first_of_cell: bool, tolerance: float) -> None:
    """Row blocks are counted by cells of four codes, named by their first."""
    weights = encoded(np.random.default_rng(13).standard_normal((48, 30)), Dtype.F16)
    if first_of_cell:
        weights = (weights.view(np.uint16) & np.uint16(0xFFFC)).view(np.float16)
    blocks = np.log(np.abs(weights.astype(np.float64))).reshape(16, -1)
    left_out = np.array([np.delete(blocks, block, axis=0).reshape(-1) for block in range(16)])
    estimates = np.array(
        [left_out.mean(axis=1), left_out.std(axis=1), stats.skew(left_out, axis=1), stats.kurtosis(left_out, axis=1)]
    )
    expected = np.sqrt(15 / 16 * ((estimates - estimates.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))
    _, errors = fitted(weights, Dtype.F16)
    np.testing.assert_allclose(as_array(errors), expected, rtol=tolerance)


def test_the_table_of_exact_moments_is_what_polygamma_functions_give() -> None:
    student = {family.name: family for family in FAMILIES}
    for freedom in (3, 5, 10):
        family = student[f"Student t{freedom}"]
        mean = np.log(freedom) / 2 + (special.psi(0.5) - special.psi(freedom / 2)) / 2
        variance = (special.polygamma(1, 0.5) + special.polygamma(1, freedom / 2)) / 4
        skewness = (special.polygamma(2, 0.5) - special.polygamma(2, freedom / 2)) / 8 / variance**1.5
        kurtosis = (special.polygamma(3, 0.5) + special.polygamma(3, freedom / 2)) / 16 / variance**2
        exact = [family.log_mean, family.log_variance, family.skewness, family.excess_kurtosis]
        assert exact == pytest.approx([mean, variance, skewness, kurtosis], abs=1e-6)
