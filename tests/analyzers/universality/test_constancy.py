"""Constancy by role, model and depth, of layers whose differences are known."""

from dataclasses import replace

import numpy as np
import pytest

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.constancy import Constancy, Quantity, constancies, estimates_of
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.meta_analysis import RandomEffects, random_effects
from jaynes_audit.analyzers.universality.trend import Trend
from tests.analyzers.universality.layers import member_of

ANY = member_of(np.random.default_rng(1).lognormal(-4, 1.3, (64, 256)), "lognormal")
LAYERS = 12


def constancy_of(members: list[Member], quantity: Quantity) -> Constancy:
    results = constancies(members, estimates_of(members), random_effects)
    assert [result.quantity for result in results] == list(Quantity)
    [result] = [result for result in results if result.quantity is quantity]
    return result


def layers_of(log_means: np.ndarray, **changes: object) -> list[Member]:
    return [
        replace(ANY, log_mean=float(log_mean), relative_depth=index / (len(log_means) - 1), **changes)
        for index, log_mean in enumerate(log_means)
    ]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, LAYERS)


def test_each_quantity_is_taken_from_its_own_numbers() -> None:
    members = [
        replace(ANY, log_mean=-4.0 + step, log_rms=2 * step - 3, log_sigma=1 + 3 * step, skewness=4 * step)
        for step in (0.0, 1.0, 2.0)
    ]
    estimates = estimates_of(members)
    steps = {quantity: np.diff(each.values).tolist() for quantity, each in estimates.items()}
    assert steps == {
        Quantity.LOG_MEAN: [1, 1],
        Quantity.SCALE_FREE_LOG_MEAN: [-1, -1],
        Quantity.LOG_SIGMA: [3, 3],
        Quantity.SKEWNESS: [4, 4],
    }
    assert estimates[Quantity.LOG_MEAN].errors[0] == ANY.log_mean_error
    assert estimates[Quantity.LOG_SIGMA].errors[0] == ANY.log_sigma_error
    assert estimates[Quantity.SKEWNESS].errors[0] == ANY.skewness_error


def test_a_shift_by_role_is_seen_by_role_alone() -> None:
    roles = np.arange(LAYERS) % 3
    members = [
        replace(each, role=f"role {role}") for each, role in zip(layers_of(-4.0 + roles + noise(2)), roles, strict=True)
    ]
    result = constancy_of(members, Quantity.LOG_MEAN)
    assert result.icc_by_role == pytest.approx(1, abs=0.01)
    assert result.icc_by_depth < 0.3
    assert result.icc_by_model == NotFitted("fewer than two groups")
    assert [each.role for each in result.by_role] == ["role 0", "role 1", "role 2"]
    assert [each.effects.mean for each in result.by_role] == pytest.approx([-4, -3, -2], abs=0.02)
    assert max(each.effects.tau for each in result.by_role) < 0.05
    assert isinstance(result.overall, RandomEffects)
    assert result.overall.tau == pytest.approx(np.std(roles, ddof=1), abs=0.02)


def test_a_role_of_two_layers_has_no_spread_of_its_own() -> None:
    members = [
        replace(each, role="rare" if index < 2 else "common") for index, each in enumerate(layers_of(-4 + noise(3)))
    ]
    assert [each.role for each in constancy_of(members, Quantity.LOG_MEAN).by_role] == ["common"]


def test_a_shift_by_model_is_seen_by_model() -> None:
    members = [
        replace(each, model=f"model {index % 2}", log_sigma=1 + index % 2 + 0.01 * each.log_mean)
        for index, each in enumerate(layers_of(noise(4)))
    ]
    assert constancy_of(members, Quantity.LOG_SIGMA).icc_by_model == pytest.approx(1, abs=0.01)


def test_a_drift_with_depth_is_seen_by_depth_and_as_a_trend() -> None:
    result = constancy_of(layers_of(np.linspace(-5, -3, LAYERS) + noise(5)), Quantity.LOG_MEAN)
    assert result.icc_by_depth > 0.8
    assert isinstance(result.trend, Trend)
    assert result.trend.slope == pytest.approx(2, abs=0.05)
    assert result.trend.rank_correlation == pytest.approx(1, abs=0.01)


def test_layers_outside_a_stack_are_left_out_of_the_trend_alone() -> None:
    inside = layers_of(np.linspace(-5, -3, LAYERS) + noise(6))
    outside = [replace(ANY, log_mean=50.0, relative_depth=None)]
    result, without = (constancy_of(members, Quantity.LOG_MEAN) for members in (inside + outside, inside))
    assert (result.trend, result.icc_by_depth) == (without.trend, without.icc_by_depth)
    assert isinstance(result.overall, RandomEffects)
    assert result.overall.values == LAYERS + 1


def test_layers_at_one_depth_are_in_one_third() -> None:
    # Of nine layers four share the first depth; a cut after the third would tear them apart.
    depths = [0.0] * 4 + [0.4] * 2 + [1.0] * 3
    members = [
        replace(ANY, log_mean=10 * depth + 0.01 * index, relative_depth=depth) for index, depth in enumerate(depths)
    ]
    assert constancy_of(members, Quantity.LOG_MEAN).icc_by_depth == pytest.approx(1, abs=0.001)


def test_no_layers_have_reasons_in_every_place() -> None:
    for result in constancies([], estimates_of([]), random_effects):
        assert result.by_role == ()
        for absent in (
            *(result.overall, result.icc_by_model, result.icc_by_role),
            *(result.icc_by_depth, result.trend),
        ):
            assert isinstance(absent, NotFitted)
