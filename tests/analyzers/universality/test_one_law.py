"""The cost of one law against the divergence of lognormals by quadrature."""

import numpy as np
import pytest
from scipy import optimize, stats

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.one_law import (
    MARGIN_NATS,
    cost_of_one_law,
    log_mean_margin,
    log_sigma_margin,
)

LOG_MEANS, LOG_SIGMAS = np.array([-4.0, -3.1, -5.2, -3.9]), np.array([1.3, 0.9, 1.1, 1.8])


POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
"""Gauss-Hermite quadrature over a standard normal variable, exact here: the integrands are parabolas."""


def divergence(one: stats.rv_continuous, other: stats.rv_continuous) -> float:
    at = one.mean() + one.std() * POINTS
    return float(WEIGHTS @ (one.logpdf(at) - other.logpdf(at)) / WEIGHTS.sum())


def mean_divergence(common: np.ndarray) -> float:
    laws = [stats.norm(mean, sigma) for mean, sigma in zip(LOG_MEANS, LOG_SIGMAS, strict=True)]
    return float(np.mean([divergence(law, stats.norm(*common)) for law in laws]))


def test_it_is_the_mean_divergence_from_the_best_common_law() -> None:
    best = optimize.minimize(mean_divergence, [-4, 1.5], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    assert cost_of_one_law(LOG_MEANS, LOG_SIGMAS) == pytest.approx(best.fun, abs=1e-7)


def test_layers_of_one_law_cost_nothing() -> None:
    assert cost_of_one_law(np.full(9, -4.1), np.full(9, 1.3)) == pytest.approx(0, abs=1e-15)


def test_layers_that_differ_by_a_margin_cost_the_margin() -> None:
    sigma = 1.3
    apart = np.array([-1.0, 1.0])  # standard deviation 1
    of_mu = cost_of_one_law(-4 + apart * log_mean_margin(sigma), np.full(2, sigma))
    of_sigma = cost_of_one_law(np.full(2, -4.0), sigma + apart * log_sigma_margin(sigma))
    assert of_mu == pytest.approx(MARGIN_NATS, rel=0.02)
    assert of_sigma == pytest.approx(MARGIN_NATS, rel=0.02)


@pytest.mark.parametrize(
    ("log_sigmas", "reason"),
    [
        ([], "fewer than two layers"),
        ([1.0], "fewer than two layers"),
        ([1.0, 0.0], "a layer whose weights are all of one magnitude"),
    ],
)
def test_no_cost_says_why(log_sigmas: list[float], reason: str) -> None:
    assert cost_of_one_law(np.zeros(len(log_sigmas)), np.array(log_sigmas)) == NotFitted(reason)
