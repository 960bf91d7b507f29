"""Distances to the fitted lognormal against quadrature and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_lognormal
from jaynes_audit.analyzers.distributions.quantiles import QUANTILE_PROBABILITIES
from jaynes_audit.analyzers.distributions.rulers import GAUSSIAN
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram
from tests.support.families import FAMILIES, FULL_FLOAT32, Family, distances, expected_histogram
from tests.support.weights import REAL, decoded, encoded, sketch_of

INFINITELY_MANY = 10**15


def fit_of(histogram: Histogram) -> LognormalFit:
    fit = fit_lognormal(histogram.magnitudes)
    assert isinstance(fit, LognormalFit)
    return fit


def fit_weights(weights: np.ndarray, dtype: Dtype) -> LognormalFit:
    return fit_of(sketch_of(encoded(weights, dtype), dtype).histogram)


# ---- the distances of infinitely many weights


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_distances_of_infinitely_many_weights_are_those_of_their_law(family: Family) -> None:
    fit = fit_of(expected_histogram(family, Dtype.F32, FULL_FLOAT32, weights=INFINITELY_MANY))
    exact = distances(family.law)
    assert fit.divergence == pytest.approx(exact.divergence, abs=1e-4)
    assert fit.ks_distance == pytest.approx(exact.ks_distance, abs=1e-5)
    assert fit.wasserstein == pytest.approx(exact.wasserstein, abs=1e-5)
    assert fit.jensen_shannon == pytest.approx(exact.jensen_shannon, abs=3e-5)
    assert fit.hellinger == pytest.approx(exact.hellinger, abs=2e-4)


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16])
def test_the_distances_of_gaussian_weights_are_the_same_in_16_bits(dtype: Dtype) -> None:
    fit = fit_of(expected_histogram(FAMILIES[0], dtype, 0, weights=INFINITELY_MANY))
    for distance in ("divergence", "ks_distance", "wasserstein", "jensen_shannon", "hellinger"):
        assert getattr(fit, distance) == pytest.approx(getattr(GAUSSIAN, distance), abs=1e-4)


# ---- the divergence

# Where a format has room for LN(mu, 1): the middle of its exponents, or as near as it has any.
MIDDLES = {Dtype.F16: -2.0, Dtype.F8_E4M3: 0.0, Dtype.F8_E4M3FNUZ: 0.0, Dtype.F8_E5M2: 0.0, Dtype.F8_E5M2FNUZ: 0.0}
WIDE_ENOUGH = [dtype for dtype in REAL if dtype not in {Dtype.F4, Dtype.F6_E2M3, Dtype.F6_E3M2}]
REPEATS = 40


@pytest.mark.parametrize("dtype", WIDE_ENOUGH)
def test_ten_thousand_lognormal_weights_show_no_divergence_on_average(dtype: Dtype) -> None:
    rng = np.random.default_rng(14)
    sigma = 0.8 if dtype in MIDDLES else 1.2
    samples = np.exp(rng.normal(MIDDLES.get(dtype, -4.0), sigma, (REPEATS, 100, 100)))
    divergences = [fit_weights(sample, dtype).divergence for sample in samples]
    assert abs(np.mean(divergences)) < 0.002


def test_ten_thousand_gaussian_weights_show_their_divergence_on_average() -> None:
    samples = np.random.default_rng(15).standard_normal((REPEATS, 100, 100))
    divergences = [fit_weights(sample, Dtype.BF16).divergence for sample in samples]
    assert np.mean(divergences) == pytest.approx(GAUSSIAN.divergence, abs=0.004)


@pytest.mark.parametrize("weights", [30_000, 300_000, 3_000_000])
def test_the_divergence_does_not_depend_on_how_many_weights_there_are(weights: int) -> None:
    fit = fit_weights(np.random.default_rng(15).standard_normal((1, weights)), Dtype.BF16)
    # The logarithm of the ratio of the two densities has an sd of about 1.
    assert fit.divergence == pytest.approx(GAUSSIAN.divergence, abs=4 / math.sqrt(weights))


def test_signs_make_no_difference() -> None:
    weights = np.random.default_rng(16).standard_normal((100, 100))
    assert fit_weights(weights, Dtype.BF16) == fit_weights(np.abs(weights), Dtype.BF16)


# ---- the distance of Kolmogorov and Smirnov


@pytest.mark.parametrize("law", [stats.norm(), stats.laplace(), stats.uniform(-1, 2), stats.t(3)])
def test_the_ks_distance_is_scipys_where_cells_are_narrow(law: object) -> None:
    # Powers stretch the logarithm, so that a cell of the grid holds less than 2e-4 of the weights.
    weights = np.sign(law.rvs(40_000, random_state=17)) * np.abs(law.rvs(40_000, random_state=18)) ** 16
    logarithms = np.log(np.abs(weights[np.abs(weights) > 1e-37]))
    fit = fit_weights(np.exp(logarithms).reshape(1, -1), Dtype.F64)
    expected = stats.kstest(logarithms, stats.norm(logarithms.mean(), logarithms.std()).cdf).statistic
    assert fit.ks_distance == pytest.approx(expected, abs=4e-4)


@pytest.mark.parametrize("seed", range(20))
def test_the_ks_distance_of_few_weights_is_scipys(seed: int) -> None:
    logarithms = np.random.default_rng(seed).normal(0, 3, 25)
    fit = fit_weights(np.exp(logarithms).reshape(1, -1), Dtype.F64)
    expected = stats.kstest(logarithms, stats.norm(logarithms.mean(), logarithms.std()).cdf).statistic
    assert fit.ks_distance == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F8_E4M3, Dtype.F6_E3M2])
def test_the_ks_distance_is_taken_where_weights_begin_to_round_to_the_next_number(dtype: Dtype) -> None:
    codes = encoded(np.random.default_rng(19).normal(0, 0.5, (80, 90)), dtype)
    every = np.arange(
        1 << 16 if codes.itemsize == 2 else (64 if dtype is Dtype.F6_E3M2 else 256), dtype=f"u{codes.itemsize}"
    )
    with np.errstate(invalid="ignore"):
        held = np.unique(np.abs(decoded(every, dtype)))
        numbers = np.abs(decoded(codes, dtype))
    held = held[np.isfinite(held)]
    numbers = np.sort(numbers[numbers > 0])
    logarithms = np.log(numbers)
    ends = (held[:-1] + held[1:]) / 2
    empirical = np.searchsorted(numbers, ends) / numbers.size
    fitted = stats.norm(logarithms.mean(), logarithms.std()).cdf(np.log(ends))
    within = (ends < numbers[-1]) | (np.arange(ends.size) == np.searchsorted(ends, numbers[-1]))
    assert fit_weights(decoded(codes, dtype), dtype).ks_distance == pytest.approx(
        np.abs(empirical - fitted)[within].max(), abs=1e-7
    )


def test_lognormal_weights_in_bfloat16_are_as_near_as_chance_allows() -> None:
    # With cell middles in the place of cell ends, rounding alone would make this 0.002.
    weights = np.exp(np.random.default_rng(20).normal(-4, 1, (2000, 1000)))
    assert fit_weights(weights, Dtype.BF16).ks_distance < 1.36 / math.sqrt(weights.size)


# ---- the area between the distribution functions


@pytest.mark.parametrize("law", [stats.norm(), stats.laplace(), stats.lognorm(1.5)])
def test_the_wasserstein_distance_is_scipys(law: object) -> None:
    logarithms = np.log(np.abs(law.rvs(20_000, random_state=21)))
    fit = fit_weights(np.exp(logarithms).reshape(1, -1), Dtype.F64)
    # The lognormal as so many equally likely points, each in the middle of its share.
    points = stats.norm(logarithms.mean(), logarithms.std()).ppf((np.arange(10**6) + 0.5) / 10**6)
    expected = stats.wasserstein_distance(logarithms, points) / logarithms.std()
    assert fit.wasserstein == pytest.approx(expected, abs=1e-4)


# ---- Jensen-Shannon and Hellinger


@pytest.mark.parametrize(("repeats", "columns"), [(REPEATS, 100), (1, 10_000)])
def test_the_distances_of_few_weights_are_those_of_many(repeats: int, columns: int) -> None:
    samples = np.random.default_rng(22).standard_normal((repeats, 100, columns))
    fits = [fit_weights(sample, Dtype.BF16) for sample in samples]
    assert np.mean([fit.jensen_shannon for fit in fits]) == pytest.approx(GAUSSIAN.jensen_shannon, abs=0.001)
    assert np.mean([fit.hellinger for fit in fits]) == pytest.approx(GAUSSIAN.hellinger, abs=0.004)


def test_a_million_lognormal_weights_show_no_distance() -> None:
    fit = fit_weights(np.exp(np.random.default_rng(23).normal(-4, 1.2, (1000, 1000))), Dtype.BF16)
    assert fit.jensen_shannon < 1e-4
    assert fit.hellinger < 0.01


def test_weights_of_two_far_magnitudes_are_as_far_from_a_lognormal_as_can_be() -> None:
    fit = fit_weights(np.exp([[-30.0, 30.0]] * 5000), Dtype.BF16)
    assert math.log(2) - 0.01 < fit.jensen_shannon <= math.log(2)
    assert 0.9 < fit.hellinger <= 1


# ---- standardised quantiles


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_standard_quantiles_of_infinitely_many_weights_are_those_of_their_law(family: Family, dtype: Dtype) -> None:
    low_bits = FULL_FLOAT32 if dtype is Dtype.F32 else 0
    fit = fit_of(expected_histogram(family, dtype, low_bits, weights=INFINITELY_MANY))
    two_sided = family.law.support()[0] < 0
    probabilities = np.array(QUANTILE_PROBABILITIES)
    magnitudes = family.law.ppf((1 + probabilities) / 2 if two_sided else probabilities)
    expected = (np.log(magnitudes) - family.log_mean) / family.log_sigma
    # Within a cell, 0.0078 wide, the density of the logarithm has a slope: off by up to width^2 * slope / 8.
    np.testing.assert_allclose(fit.standard_quantiles, expected, atol=6e-5)
