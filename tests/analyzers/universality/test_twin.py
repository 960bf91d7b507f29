"""The untrained twin against polygamma functions and against weights that are drawn."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from jaynes_audit.analyzers.universality.constancy import Quantity
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.twin import GAUSSIAN, UNIFORM, Law, Twin, twin_estimates
from tests.analyzers.universality.layers import member_of

ANY = member_of(np.random.default_rng(1).lognormal(-4, 1.3, (64, 256)), "lognormal")


def skewness_variance(cumulants: list[float]) -> float:
    """The delta method by the influence function z^3 - 3z - g - 1.5 g (z^2 - 1), from the cumulants 3 to 6."""
    third, fourth, fifth, sixth = cumulants
    moments = [1, 0, 1, third, fourth + 3, fifth + 10 * third, sixth + 15 * fourth + 10 * third**2 + 15]
    influence = np.polynomial.Polynomial([0.5 * third, -3, -1.5 * third, 1])
    return float(np.dot((influence**2).coef, moments))


def test_the_gaussian_laws_moments_are_polygamma_functions() -> None:
    # ln|Z| is half the logarithm of a chi-square variable of one degree of freedom.
    cumulants = [float(special.polygamma(order - 1, 0.5)) / 2**order for order in range(2, 7)]
    variance, *higher = cumulants
    scaled = [cumulant / variance ** (order / 2) for order, cumulant in enumerate(higher, start=3)]
    assert GAUSSIAN.log_mean == pytest.approx((special.psi(0.5) + np.log(2)) / 2, rel=1e-12)
    assert GAUSSIAN.log_sigma == pytest.approx(np.sqrt(variance), rel=1e-12)
    assert (GAUSSIAN.skewness, GAUSSIAN.excess_kurtosis) == pytest.approx(tuple(scaled[:2]), rel=1e-12)
    assert GAUSSIAN.skewness_variance == pytest.approx(skewness_variance(scaled), rel=1e-12)


def test_the_uniform_laws_moments_are_those_of_an_exponential_variable() -> None:
    mean, variance, skewness, kurtosis = (float(each) for each in stats.expon.stats(moments="mvsk"))
    assert UNIFORM.log_mean == pytest.approx(np.log(np.sqrt(3)) - mean, rel=1e-12)
    assert (UNIFORM.log_sigma, UNIFORM.skewness, UNIFORM.excess_kurtosis) == (variance, -skewness, kurtosis)
    # Cumulants of the standard exponential law: (order - 1)!.
    assert UNIFORM.skewness_variance == pytest.approx(skewness_variance([-2, 6, -24, 120]), rel=1e-12)


@pytest.mark.parametrize(
    ("twin", "law", "draw"),
    [
        (Twin.GAUSSIAN_AT_INITIAL_SCALE, GAUSSIAN, stats.norm(0, 0.02)),
        (Twin.UNIFORM_AT_INITIAL_SCALE, UNIFORM, stats.uniform(-0.02 * np.sqrt(3), 0.04 * np.sqrt(3))),
    ],
)
def test_values_and_errors_are_those_of_layers_that_are_drawn(twin: Twin, law: Law, draw: object) -> None:
    rng = np.random.default_rng(2)
    drawn = np.log(np.abs(draw.rvs((400, 16_384), random_state=rng)))
    estimates = twin_estimates([replace(ANY, weights=drawn.shape[1], declared_sd=0.02)], twin)
    found = {
        Quantity.LOG_MEAN: drawn.mean(axis=1),
        Quantity.LOG_SIGMA: drawn.std(axis=1),
        Quantity.SKEWNESS: stats.skew(drawn, axis=1),
        Quantity.SCALE_FREE_LOG_MEAN: drawn.mean(axis=1) - np.log(np.exp(2 * drawn).mean(axis=1)) / 2,
    }
    for quantity, values in found.items():
        [value], [error] = estimates[quantity].values, estimates[quantity].errors
        bias = 5e-3 if quantity is Quantity.SKEWNESS else 0  # of the order of 1/n
        assert values.mean() == pytest.approx(value, abs=4 * error / np.sqrt(400) + bias)
        if quantity is Quantity.SCALE_FREE_LOG_MEAN:
            assert 0.65 * error < values.std(ddof=1) < 0.85 * error  # mu and the rms err together
        else:
            assert values.std(ddof=1) == pytest.approx(error, rel=0.12)  # 400 draws know a spread to 3.5 %
    assert law.log_sigma == estimates[Quantity.LOG_SIGMA].values[0]


def test_the_first_twin_has_each_layers_own_rms() -> None:
    members = [replace(ANY, log_rms=log_rms) for log_rms in (-5.0, -3.0)]
    estimates = twin_estimates(members, Twin.GAUSSIAN_AT_OWN_RMS)
    np.testing.assert_allclose(estimates[Quantity.LOG_MEAN].values, [-5.635181, -3.635181], atol=1e-6)


@pytest.mark.parametrize("declared", [None, 0.0, -1.0, np.inf, np.nan])
def test_without_a_usable_declaration_the_scale_is_the_inverse_root_of_the_fan_in(declared: float | None) -> None:
    members = [replace(ANY, fan_in=fan_in, declared_sd=declared) for fan_in in (100, 10_000)]
    log_means = twin_estimates(members, Twin.UNIFORM_AT_INITIAL_SCALE)[Quantity.LOG_MEAN].values
    np.testing.assert_allclose(log_means, np.log([np.sqrt(3) / 10, np.sqrt(3) / 100]) - 1, rtol=1e-12)


def members_of_unlike_sizes() -> list[Member]:
    return [replace(ANY, weights=weights, fan_in=fan_in) for weights, fan_in in ((10**4, 64), (10**6, 512), (10**7, 4))]


def test_scale_free_quantities_are_equal_in_all_layers_to_the_last_digit() -> None:
    for twin in Twin:
        estimates = twin_estimates(members_of_unlike_sizes(), twin)
        for quantity in (Quantity.SCALE_FREE_LOG_MEAN, Quantity.LOG_SIGMA, Quantity.SKEWNESS):
            assert np.unique(estimates[quantity].values).size == 1
