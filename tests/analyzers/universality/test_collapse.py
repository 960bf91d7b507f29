"""Collapse of exact quantile curves, which scipy gives."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.collapse import Collapse, collapse
from jaynes_audit.analyzers.universality.member import COLLAPSE_PROBABILITIES, Member
from tests.analyzers.universality.layers import member_of

ANY = member_of(np.random.default_rng(1).normal(size=(32, 64)), "half-normal")
PROBABILITIES = np.array(COLLAPSE_PROBABILITIES)
NORMAL = stats.norm.ppf(PROBABILITIES)
LOG_HALF_NORMAL = (np.log(stats.halfnorm.ppf(PROBABILITIES)) + (np.euler_gamma + np.log(2)) / 2) / (np.pi / np.sqrt(8))
LOG_UNIFORM = np.log(PROBABILITIES) + 1


def shaped(*curves: np.ndarray) -> list[Member]:
    return [replace(ANY, quantiles=tuple(curve.tolist())) for curve in curves]


def collapsed(*curves: np.ndarray) -> Collapse:
    result = collapse(shaped(*curves))
    assert isinstance(result, Collapse)
    return result


def test_the_probabilities_are_63_equally_spaced_ones() -> None:
    np.testing.assert_allclose(PROBABILITIES, np.linspace(1 / 64, 63 / 64, 63), rtol=1e-15)


def test_exact_lognormal_layers_collapse_onto_the_normal_curve() -> None:
    result = collapsed(*[NORMAL] * 5)
    assert result.layers == 5
    assert result.residual == pytest.approx(0, abs=1e-30)
    assert result.distance_to_normal == pytest.approx(0, abs=1e-12)
    assert result.distance_to_log_half_normal > 0.2


def test_exact_gaussian_layers_collapse_as_well_but_onto_another_curve() -> None:
    result = collapsed(*[LOG_HALF_NORMAL] * 5)
    assert result.residual == pytest.approx(0, abs=1e-30)
    assert result.distance_to_log_half_normal == pytest.approx(0, abs=1e-12)
    assert result.distance_to_normal == pytest.approx(np.sqrt(np.mean((LOG_HALF_NORMAL - NORMAL) ** 2)), rel=1e-12)


def test_unlike_shapes_leave_a_residual() -> None:
    curves = np.array([NORMAL, LOG_HALF_NORMAL, LOG_UNIFORM])
    assert collapsed(*curves).residual == pytest.approx(curves.var(axis=0).mean(), rel=1e-12)


def test_drawn_weights_collapse_onto_the_curve_of_their_law() -> None:
    rng = np.random.default_rng(2)
    gaussian = collapse([member_of(rng.normal(0, scale, (128, 512)), "half-normal") for scale in (0.01, 1, 30)])
    assert isinstance(gaussian, Collapse)
    assert gaussian.residual < 1e-4
    assert gaussian.distance_to_log_half_normal < 0.01
    lognormal = collapse([member_of(rng.lognormal(-4, sigma, (128, 512)), "lognormal") for sigma in (0.5, 1, 2)])
    assert isinstance(lognormal, Collapse)
    assert lognormal.residual < 1e-4
    assert lognormal.distance_to_normal < 0.01


@pytest.mark.parametrize("layers", [0, 1])
def test_one_layer_has_nothing_to_collapse_onto(layers: int) -> None:
    assert collapse(shaped(*[NORMAL] * layers)) == NotFitted("fewer than two layers")
