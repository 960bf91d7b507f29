"""The teleodynamic reading of a fit against closed forms and quadrature."""

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from jaynes_audit.analyzers.distributions.equilibrium import Equilibrium, read_equilibria
from jaynes_audit.analyzers.distributions.intervals import intervals, log_normal_probability
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_lognormal
from jaynes_audit.analyzers.distributions.moments import log_moments
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram
from tests.support.families import FAMILIES, FULL_FLOAT32, Family, expected_histogram
from tests.support.weights import encoded, sketch_of

OF_NAME = {family.name: family for family in FAMILIES}
LAWS_OF_MAGNITUDES = {
    "Normal": stats.halfnorm(),
    "Uniform": stats.uniform(),
    "Laplace": stats.expon(),
    "lognormal": stats.lognorm(1.3, scale=math.exp(-4.2)),
}
EVERY_LAW = pytest.mark.parametrize(("name", "law"), LAWS_OF_MAGNITUDES.items(), ids=LAWS_OF_MAGNITUDES.keys())
INFINITELY_MANY = 10**15
COARSE, FINE = 8, 32  # intervals per octave for few weights and for many


def readings(histograms: list[Histogram], per_octave: int) -> list[Equilibrium]:
    stack = Stack.of([each.magnitudes for each in histograms])
    moments = log_moments(stack)
    means, sigmas = (np.array([getattr(each, name) for each in moments]) for name in ("log_mean", "log_sigma"))
    counted = intervals(stack, per_octave)
    mean, sigma = counted.spread(means), counted.spread(sigmas)
    log_fitted = log_normal_probability((counted.log_lower - mean) / sigma, (counted.log_upper - mean) / sigma)
    return read_equilibria(counted, means, sigmas, log_fitted)


def reading_of(weights: np.ndarray, dtype: Dtype, per_octave: int) -> Equilibrium:
    return readings([sketch_of(encoded(weights, dtype), dtype).histogram], per_octave)[0]


def reading_of_infinitely_many(family: Family, dtype: Dtype = Dtype.F32) -> Equilibrium:
    low_bits = FULL_FLOAT32 if dtype is Dtype.F32 else 0
    return readings([expected_histogram(family, dtype, low_bits, weights=INFINITELY_MANY)], FINE)[0]


# ---- alpha and beta


@pytest.mark.parametrize(("log_mean", "log_sigma"), [(-4.2, 1.3), (0.5, 0.5), (3.0, 1.0)])
def test_under_the_fitted_law_every_connection_has_the_same_utility(log_mean: float, log_sigma: float) -> None:
    quantiles = (np.arange(250_000) + 0.5) / 250_000
    weights = np.exp(stats.norm.ppf(quantiles, log_mean, log_sigma)).reshape(500, 500)
    reading = reading_of(weights, Dtype.F32, FINE)
    strength = np.exp(np.linspace(log_mean - 3, log_mean + 3, 101))
    benefit = reading.alpha_over_gamma * np.log(strength)
    cost = reading.beta_over_gamma * np.log(strength) ** 2
    utility = benefit - cost - stats.lognorm.logpdf(strength, log_sigma, scale=math.exp(log_mean))
    assert np.ptp(utility) < 0.01


def test_weights_below_one_have_a_negative_alpha() -> None:
    for family in FAMILIES[:4]:
        assert reading_of_infinitely_many(family).alpha_over_gamma < 0
    in_smaller_units = 2.0**10 * np.random.default_rng(1).standard_normal((100, 100))
    assert reading_of(in_smaller_units, Dtype.F32, COARSE).alpha_over_gamma > 0


def test_the_unit_of_the_weights_changes_alpha_and_the_entropy_of_w_alone() -> None:
    weights = np.random.default_rng(2).standard_normal((100, 100))
    one, other = (reading_of(scale * weights, Dtype.F32, COARSE) for scale in (1.0, 2.0**-7))
    shift = 7 * math.log(2)
    assert one.alpha_over_gamma - other.alpha_over_gamma == pytest.approx(2 * one.beta_over_gamma * shift)
    assert one.entropy - other.entropy == pytest.approx(shift)
    assert one.ideal_entropy - other.ideal_entropy == pytest.approx(shift)
    for quantity in ("beta_over_gamma", "utility_spread", "log_entropy", "entropy_gap"):
        assert getattr(one, quantity) == pytest.approx(getattr(other, quantity))


# ---- the utility spread


def central_spread(family: Family, law: Any) -> float:
    """The sd of ln(fitted density of x / density), x = ln|w|, between the 1 % and 99 % quantiles, by quadrature."""
    ends = law.ppf([0.01, 0.99])

    def utility(w: float) -> float:
        return stats.norm.logpdf(math.log(w), family.log_mean, family.log_sigma) - law.logpdf(w) - math.log(w)

    def average(quantity: Any) -> float:
        return integrate.quad(lambda w: quantity(w) * law.pdf(w), *ends, limit=400)[0] / 0.98

    mean = average(utility)
    return math.sqrt(average(lambda w: (utility(w) - mean) ** 2))


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16])
@EVERY_LAW
def test_the_utility_spread_of_infinitely_many_weights_is_that_of_quadrature(name: str, law: Any, dtype: Dtype) -> None:
    family = OF_NAME[name]
    assert reading_of_infinitely_many(family, dtype).utility_spread == pytest.approx(
        central_spread(family, law), abs=5e-4
    )


def test_counting_does_not_add_to_the_utility_spread_of_gaussian_weights() -> None:
    samples = np.random.default_rng(3).standard_normal((200, 100, 100))
    variances = [reading_of(sample, Dtype.BF16, COARSE).utility_spread ** 2 for sample in samples]
    exact = central_spread(OF_NAME["Normal"], stats.halfnorm()) ** 2
    # About 50 intervals and 10,000 weights: counting would add 0.005, of which a third is tolerated.
    assert np.mean(variances) == pytest.approx(exact, abs=0.0017)


@pytest.mark.parametrize(("weights", "per_octave", "bound"), [(10_000, COARSE, 0.06), (1_000_000, FINE, 0.012)])
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F16])
def test_lognormal_weights_have_no_utility_spread(weights: int, per_octave: int, bound: float, dtype: Dtype) -> None:
    # Four standard errors: the variance that counting adds, (K - 1)/n, is known to sqrt(2 K)/n.
    draws = np.exp(np.random.default_rng(4).normal(-2, 1, (100, weights // 100)))
    assert reading_of(draws, dtype, per_octave).utility_spread < bound


# ---- the entropies


@EVERY_LAW
def test_the_entropies_of_infinitely_many_weights_are_those_of_scipy(name: str, law: Any) -> None:
    family = OF_NAME[name]
    reading = reading_of_infinitely_many(family)
    ideal = stats.lognorm(family.log_sigma, scale=math.exp(family.log_mean)).entropy()
    assert reading.entropy == pytest.approx(law.entropy(), abs=1e-4)
    assert reading.log_entropy == pytest.approx(law.entropy() - family.log_mean, abs=1e-4)
    assert reading.ideal_entropy == pytest.approx(ideal, abs=1e-4)
    assert reading.entropy_gap == pytest.approx(ideal - law.entropy(), abs=1e-4)


@EVERY_LAW
def test_the_entropy_of_ten_thousand_weights_has_hardly_any_bias(name: str, law: Any) -> None:
    samples = law.rvs((400, 100, 100), random_state=5)
    entropies = [reading_of(sample, Dtype.F32, COARSE).log_entropy for sample in samples]
    error = np.std(entropies, ddof=1) / 20
    # Without the correction counting would take away (K - 1)/(2n), or 0.004 to 0.005, and with it 0.001 of the tails.
    assert np.mean(entropies) == pytest.approx(law.entropy() - OF_NAME[name].log_mean, abs=0.002 + 2 * error)


@pytest.mark.parametrize("per_octave", [COARSE, FINE])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_entropy_gap_is_the_divergence_but_for_the_width_of_the_intervals(family: Family, per_octave: int) -> None:
    weights = {COARSE: 50_000, FINE: 2_000_000}[per_octave]  # so many that the divergence is taken over the same
    histogram = expected_histogram(family, Dtype.F32, FULL_FLOAT32, weights=weights)
    fit = fit_lognormal(histogram.magnitudes)
    assert isinstance(fit, LognormalFit)
    # Within an interval of width h the square of the fitted density's slope counts, h^2/(24 sigma^2) on average.
    difference = (math.log(2) / per_octave) ** 2 / 24 / family.log_variance
    [reading] = readings([histogram], per_octave)
    assert reading.entropy_gap == pytest.approx(fit.divergence, abs=1.5 * difference)


# ---- layers


def test_layers_together_are_read_as_each_alone() -> None:
    rng = np.random.default_rng(6)
    layers = [
        sketch_of(encoded(scale * rng.standard_normal((rows, 30)), Dtype.BF16), Dtype.BF16).histogram
        for rows, scale in [(100, 1.0), (7, 0.01), (400, 30.0), (1, 1.0)]
    ]
    together = np.array([astuple(each) for each in readings(layers, COARSE)])
    alone = np.array([astuple(readings([layer], COARSE)[0]) for layer in layers])
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "weights",
    [
        np.repeat([[1.0], [2.0]], 500, axis=0),
        np.repeat([[1.0], [1.0078125]], 500, axis=0),
        np.repeat([[1e-38], [1e38]], 500, axis=0),
        np.where(np.arange(10_000) == 3_004, 100.0, 0.37).reshape(100, 100),
        np.geomspace(1e-45, 1e-37, 10_000).reshape(100, 100),
        np.where(np.arange(10_000) % 2, 1e-40, 1.0).reshape(100, 100),
    ],
    ids=["two values", "two neighbours", "two far apart", "one outlier", "smallest numbers", "half of them smallest"],
)
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32])
@pytest.mark.parametrize("per_octave", [COARSE, FINE])
def test_odd_weights_give_finite_numbers(weights: np.ndarray, dtype: Dtype, per_octave: int) -> None:
    reading = reading_of(weights, dtype, per_octave)
    assert np.isfinite(astuple(reading)).all()
    assert reading.utility_spread >= 0
