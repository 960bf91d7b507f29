"""Distances to the fitted lognormal against quadrature, scipy's tests and exact logarithms of probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from jaynes_audit.analyzers.distributions.lognormal import (
    GAUSSIAN,
    LognormalFit,
    _log_normal_probability,
    _normal_cdf,
    fit_lognormal,
)
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram
from tests.support.families import FAMILIES, FULL_FLOAT32, Family, expected_histogram
from tests.support.weights import REAL, decoded, encoded, sketch_of

RULED = [family for family in FAMILIES if family.divergence is not None]
INFINITELY_MANY = 10**15


def fit_of(histogram: Histogram) -> LognormalFit:
    fit = fit_lognormal(histogram.magnitudes)
    assert isinstance(fit, LognormalFit)
    return fit


def fit_weights(weights: np.ndarray, dtype: Dtype) -> LognormalFit:
    return fit_of(sketch_of(encoded(weights, dtype), dtype).histogram)


# ---- the ruler


@pytest.mark.parametrize("family", RULED, ids=lambda family: family.name)
def test_the_distances_of_infinitely_many_weights_are_those_of_the_ruler(family: Family) -> None:
    fit = fit_of(expected_histogram(family, Dtype.F32, FULL_FLOAT32, weights=INFINITELY_MANY))
    assert fit.divergence == pytest.approx(family.divergence, abs=1e-4)
    assert fit.ks_distance == pytest.approx(family.ks_distance, abs=1e-4)


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16])
def test_the_distances_of_gaussian_weights_are_the_same_in_16_bits(dtype: Dtype) -> None:
    fit = fit_of(expected_histogram(FAMILIES[0], dtype, 0, weights=INFINITELY_MANY))
    assert fit.divergence == pytest.approx(GAUSSIAN.divergence, abs=1e-4)
    assert fit.ks_distance == pytest.approx(GAUSSIAN.ks_distance, abs=1e-4)


LOG_SIGMA = math.pi / math.sqrt(8)
LOG_MEAN = -(np.euler_gamma + math.log(2)) / 2


def test_the_ruler_has_the_gaussians_log_moments() -> None:
    second, third, fourth = (special.polygamma(order, 0.5) / 2 ** (order + 1) for order in (1, 2, 3))
    assert GAUSSIAN.log_sigma == pytest.approx(math.sqrt(second), rel=1e-12)
    assert GAUSSIAN.skewness == pytest.approx(third / second**1.5, rel=1e-12)
    assert GAUSSIAN.excess_kurtosis == pytest.approx(fourth / second**2, rel=1e-12)


def test_the_ruler_has_the_gaussians_divergence() -> None:
    def density(x: float) -> float:
        return math.sqrt(2 / math.pi) * math.exp(x - math.exp(2 * x) / 2)

    def gap(x: float) -> float:
        return density(x) * (math.log(density(x)) - stats.norm.logpdf(x, LOG_MEAN, LOG_SIGMA))

    divergence, error = integrate.quad(gap, -40, 3, limit=400)
    assert error < 1e-7
    assert GAUSSIAN.divergence == pytest.approx(divergence, abs=5e-7)


def test_the_ruler_has_the_gaussians_ks_distance() -> None:
    def gap(x: float) -> float:
        return -abs(math.erf(math.exp(x) / math.sqrt(2)) - stats.norm.cdf(x, LOG_MEAN, LOG_SIGMA))

    start = min(np.linspace(-8, 2, 1001), key=gap)
    greatest = optimize.minimize_scalar(gap, bounds=(start - 0.02, start + 0.02), method="bounded")
    assert GAUSSIAN.ks_distance == pytest.approx(-greatest.fun, abs=5e-7)


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


# ---- normal probabilities


@given(st.floats(-12, 12))
def test_the_table_of_the_normal_distribution_is_right_to_eight_digits(z: float) -> None:
    assert _normal_cdf(np.array([z]))[0] == pytest.approx(special.ndtr(z), abs=1e-8)


@pytest.mark.parametrize(("z", "probability"), [(-math.inf, 0), (math.inf, 1), (-1e300, 0), (1e300, 1)])
def test_the_table_of_the_normal_distribution_has_no_end(z: float, probability: float) -> None:
    assert _normal_cdf(np.array([z]))[0] == pytest.approx(probability, abs=1e-15)


def log_of_integral(lower: float, upper: float) -> float:
    """ln of the normal density's integral, by quadrature about its greatest value."""
    top = 0.0 if lower < 0 < upper else min(abs(lower), abs(upper))

    def scaled(z: float) -> float:
        return math.exp((top - abs(z)) * (top + abs(z)) / 2)

    area, _ = integrate.quad(scaled, lower, upper, epsabs=0, epsrel=1e-11, limit=200)
    return math.log(area) - top * top / 2 - math.log(2 * math.pi) / 2


@given(lower=st.floats(-300, 300), width=st.floats(1e-3, 0.5))
def test_log_probabilities_are_right_in_the_middle_and_in_both_tails(lower: float, width: float) -> None:
    found = _log_normal_probability(np.array([lower]), np.array([lower + width]))[0]
    assert found == pytest.approx(log_of_integral(lower, lower + width), rel=1e-9, abs=1e-9)


@given(
    ends=st.lists(st.integers(-6000, 6000), min_size=3, max_size=12, unique=True).map(sorted),
    missing=st.integers(0, 10),
)
def test_a_cells_probability_does_not_depend_on_its_neighbours(ends: list[int], missing: int) -> None:
    edges = np.array(ends) / 100
    lower, upper = (np.delete(each, min(missing, edges.size - 2)) for each in (edges[:-1], edges[1:]))
    together = _log_normal_probability(lower, upper)
    alone = [_log_normal_probability(lower[[cell]], upper[[cell]])[0] for cell in range(lower.size)]
    assert together.tolist() == alone


@pytest.mark.parametrize("z", [0.0, 5.0, 36.9, 37.1, 1e3, 1e6])
def test_log_probabilities_of_whole_tails_are_those_of_scipy(z: float) -> None:
    left = _log_normal_probability(np.array([-np.inf]), np.array([-z]))[0]
    right = _log_normal_probability(np.array([z]), np.array([np.inf]))[0]
    assert left == pytest.approx(special.log_ndtr(-z), rel=1e-12)
    assert right == left


def test_everything_has_probability_one() -> None:
    assert _log_normal_probability(np.array([-40.0]), np.array([40.0]))[0] == 0
