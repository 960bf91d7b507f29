"""Theil-Sen slope and Spearman's rho against scipy."""

import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.trend import Trend, trend


def found(depths: np.ndarray, values: np.ndarray) -> Trend:
    result = trend(depths, values)
    assert isinstance(result, Trend)
    return result


def noisy_line(layers: int, *, slope: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    depths = rng.permutation(np.arange(layers) // 2) / ((layers - 1) // 2)  # two layers at each depth
    return depths, slope * depths + rng.normal(0, noise, layers)


@pytest.mark.parametrize("layers", [4, 5, 30, 499, 500])
@pytest.mark.parametrize("noise", [0.1, 10])
def test_slope_and_rank_correlation_are_scipys(layers: int, noise: float) -> None:
    depths, values = noisy_line(layers, slope=-0.7, noise=noise, seed=layers)
    values = values.round(1)  # ties in both
    result = found(depths, values)
    assert result.layers == layers
    assert result.slope == pytest.approx(stats.theilslopes(values, depths).slope, rel=1e-12)
    assert result.rank_correlation == pytest.approx(stats.spearmanr(depths, values).statistic, rel=1e-12)


@pytest.mark.parametrize("layers", [501, 1_500, 4_000])
def test_the_slope_of_many_layers_is_near_that_of_all_pairs(layers: int) -> None:
    depths, values = noisy_line(layers, slope=0.5, noise=0.2, seed=layers)
    of_all_pairs = stats.theilslopes(values, depths)
    uncertainty = of_all_pairs.high_slope - of_all_pairs.low_slope
    assert abs(found(depths, values).slope - of_all_pairs.slope) < 0.1 * uncertainty


def test_roles_that_return_in_every_block_do_not_bend_the_slope_of_many_layers() -> None:
    block, role = np.divmod(np.arange(2100), 7)
    values = 0.3 * block / 299 + np.array([0.0, 5, -3, 8, 1, -6, 2])[role]
    assert found(block / 299, values).slope == pytest.approx(0.3, abs=0.05)


def test_ten_thousand_layers_have_a_slope_too() -> None:
    depths = np.linspace(0, 1, 10_000)
    assert found(depths, 3 - 2 * depths).slope == pytest.approx(-2, abs=1e-9)


@pytest.mark.parametrize(
    ("depths", "values", "reason"),
    [
        ([0, 0.5, 1], [1, 2, 3], "fewer than 4 layers with a depth"),
        ([0.5] * 4, [1, 2, 3, 4], "every layer is at the same depth"),
        ([0, 0.3, 0.6, 1], [2] * 4, "every layer has the same value"),
    ],
)
def test_no_trend_says_why(depths: list[float], values: list[float], reason: str) -> None:
    assert trend(np.array(depths, dtype=float), np.array(values, dtype=float)) == NotFitted(reason)
