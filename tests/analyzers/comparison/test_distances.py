"""Distances between two layers against scipy on their values, closed forms and simulation."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import special, stats

from jaynes_audit.analyzers.comparison.distances import Distances, distances, ks_noise
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram
from tests.support.families import FAMILIES, FULL_FLOAT32, Family, expected_histogram
from tests.support.weights import REAL, decoded, encoded, sketch_of

INFINITELY_MANY = 10**15
WIDE = (Dtype.F64, Dtype.F32, Dtype.BF16, Dtype.F16)
UNLIKE = list(combinations(WIDE[1:], 2))  # float64 is counted as float32
NARROW = tuple(dtype for dtype in REAL if dtype not in {*WIDE, Dtype.F8_E8M0})  # E8M0 has no negative numbers
NOTHING = Distances(ks=0.0, wasserstein=0.0, jensen_shannon=0.0)


def histogram(weights: np.ndarray, dtype: Dtype = Dtype.F32) -> Histogram:
    return sketch_of(encoded(weights, dtype), dtype).histogram


def between(a: Histogram, b: Histogram) -> Distances:
    found = distances(a, b)
    assert isinstance(found, Distances)
    return found


def log_magnitudes(weights: np.ndarray) -> np.ndarray:
    usable = weights[np.isfinite(weights) & (weights != 0)]
    return np.log(np.abs(usable.astype(np.float64)))


def normal(rows: int, *, sd: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, (rows, 100)).astype(np.float32)


def quantised(rows: int, *, seed: int = 0) -> np.ndarray:
    """A few unequal magnitudes only, none of them at the end of any format's cell."""
    return np.round(normal(rows, seed=seed) * 20) * np.float32(0.0371)


# ---- one format


@pytest.mark.parametrize("dtype", [*NARROW, Dtype.BF16, Dtype.F16])
def test_in_one_format_they_are_those_of_the_stored_values(dtype: Dtype) -> None:
    a, b = encoded(normal(50), dtype), encoded(normal(30, sd=1.3, seed=1), dtype)
    found = between(sketch_of(a, dtype).histogram, sketch_of(b, dtype).histogram)
    x, y = log_magnitudes(decoded(a, dtype)), log_magnitudes(decoded(b, dtype))
    assert found.ks == pytest.approx(stats.ks_2samp(x, y, method="asymp").statistic, abs=1e-12)
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(x, y), abs=1e-12)


def test_of_float32_they_are_those_of_weights_cut_to_16_bits() -> None:
    a, b = normal(50), normal(30, sd=1.3, seed=1)
    x, y = (log_magnitudes((each.view(np.uint32) & 0xFFFF0000).view(np.float32)) for each in (a, b))
    found = between(histogram(a), histogram(b))
    assert found.ks == pytest.approx(stats.ks_2samp(x, y, method="asymp").statistic, abs=1e-12)
    assert found.wasserstein == pytest.approx(
        stats.wasserstein_distance(log_magnitudes(a), log_magnitudes(b)), abs=1e-4
    )


def test_bf16_and_float32_that_holds_bf16_are_one_format() -> None:
    a, b = normal(50), normal(30, sd=1.3, seed=1)
    widened = decoded(encoded(b, Dtype.BF16), Dtype.BF16)
    assert between(histogram(a, Dtype.BF16), histogram(widened)) == between(
        histogram(a, Dtype.BF16), histogram(b, Dtype.BF16)
    )


# ---- unlike formats


@pytest.mark.parametrize("weights", [normal(200), quantised(200), np.full((4, 4), np.float32(0.3))])
@pytest.mark.parametrize(("one", "other"), list(combinations(WIDE, 2)))
def test_the_same_weights_are_at_no_distance_in_another_format(one: Dtype, other: Dtype, weights: np.ndarray) -> None:
    assert between(histogram(weights, one), histogram(weights, other)) == NOTHING


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("wide", WIDE)
def test_the_same_gains_are_at_no_distance_in_a_narrow_format(narrow: Dtype, wide: Dtype) -> None:
    gains = np.random.default_rng(0).normal(1, 0.05, (4, 1000)).astype(np.float32)
    assert between(histogram(gains, narrow), histogram(gains, wide)) == NOTHING


@example([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0, 5.0], (Dtype.F64, Dtype.F32))  # its shares add to more than 1
@given(st.lists(st.floats(2.0**-14, 2.0**15, width=32), min_size=1), st.sampled_from(list(combinations(WIDE, 2))))
def test_no_weights_are_at_a_distance_from_themselves_rounded(values: list[float], pair: tuple[Dtype, Dtype]) -> None:
    weights = np.array([values])
    assert between(histogram(weights, pair[0]), histogram(weights, pair[1])) == NOTHING


@pytest.mark.parametrize(("one", "other"), UNLIKE)
@pytest.mark.parametrize("draw", [normal, quantised])
def test_of_unlike_formats_they_are_the_least_that_the_counts_allow(
    one: Dtype, other: Dtype, draw: Callable[..., np.ndarray]
) -> None:
    a, b = draw(100), draw(60, seed=1) * np.float32(1.02)
    counted_a, counted_b = histogram(a, one), histogram(b, other)
    found = between(counted_a, counted_b)
    x, y = log_magnitudes(a), log_magnitudes(b)
    true_ks = stats.ks_2samp(x, y, method="asymp").statistic
    true_wasserstein = stats.wasserstein_distance(x, y)
    shares, widths = 0.0, 0.0
    for counted in (counted_a, counted_b):
        tallies, codes, grid = counted.magnitudes.tallies, counted.magnitudes.codes, counted.grid
        shares += tallies.max() / tallies.sum()
        widths += float(np.average(grid.log_upper[codes] - grid.log_lower[codes], weights=tallies))
    rounding = 1e-5  # of a float32 weight beyond the end of its cell
    assert found.ks <= true_ks + rounding
    assert true_ks <= found.ks + shares + rounding
    assert found.wasserstein <= true_wasserstein + rounding
    assert true_wasserstein <= found.wasserstein + widths + rounding


@pytest.mark.parametrize("seed", range(5))
def test_a_grid_that_refines_another_is_compared_where_their_cells_end(seed: int) -> None:
    a, b = (decoded(encoded(np.exp(normal(200, sd=sd, seed=seed)), Dtype.F16), Dtype.F16) for sd in (0.5, 0.6))
    widened, mixed = between(histogram(a), histogram(b)), between(histogram(a, Dtype.F16), histogram(b))
    assert mixed.ks == widened.ks
    assert mixed.jensen_shannon == pytest.approx(widened.jensen_shannon, rel=5e-3)


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_gaussian_layers_of_unlike_formats_lose_little(one: Dtype, other: Dtype) -> None:
    a, b = normal(5000), normal(5000, sd=1.1, seed=1)
    exact = between(histogram(a), histogram(b))
    found = between(histogram(a, one), histogram(b, other))
    assert exact.ks - 0.003 < found.ks < exact.ks + 0.001
    assert exact.wasserstein - 0.011 < found.wasserstein < exact.wasserstein + 0.001
    assert found.jensen_shannon == pytest.approx(exact.jensen_shannon, abs=3e-4)


def test_weights_that_a_format_rounds_to_zero_are_missing_from_it() -> None:
    weights = np.exp(np.random.default_rng(0).normal(math.log(2.0**-25), 1, (50, 100)))
    flushed = float(np.mean(encoded(weights, Dtype.F16) == 0))
    assert 0.4 < flushed < 0.6
    found = between(histogram(weights), histogram(weights, Dtype.F16))
    assert found.ks == pytest.approx(flushed, abs=0.03)


# ---- any formats


@pytest.mark.parametrize(("one", "other"), [(Dtype.F32, Dtype.F32), (Dtype.BF16, Dtype.F32), (Dtype.F16, Dtype.BF16)])
def test_either_order_gives_the_same(one: Dtype, other: Dtype) -> None:
    a, b = histogram(normal(50), one), histogram(normal(30, sd=1.3, seed=1), other)
    assert between(a, b) == between(b, a)


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F16])
def test_zeros_and_what_is_not_finite_are_left_out(dtype: Dtype) -> None:
    weights, special = normal(20), normal(20)
    special[::2, ::2] = 0
    special[1::2, 1::2] = np.nan
    special[0, 1] = np.inf
    other = histogram(normal(20, sd=1.3, seed=1), Dtype.BF16)
    usable = special[np.isfinite(special) & (special != 0)].reshape(1, -1)
    assert between(histogram(special, dtype), other) == between(histogram(usable, dtype), other)
    assert between(histogram(weights, dtype), histogram(-weights, dtype)) == NOTHING


@pytest.mark.parametrize(("one", "other"), [(Dtype.F32, Dtype.F32), (Dtype.BF16, Dtype.F16)])
def test_layers_without_a_common_magnitude_are_as_far_apart_as_can_be(one: Dtype, other: Dtype) -> None:
    a, b = np.full((100, 100), 0.3), np.full((100, 100), 0.3 * math.e)
    found = between(histogram(a, one), histogram(b, other))
    assert found.ks == 1
    assert found.wasserstein == pytest.approx(1, abs=0.01)
    assert found.jensen_shannon == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("weights", [np.zeros((2, 2)), np.full((2, 2), np.nan)])
def test_a_layer_without_usable_weights_is_at_no_known_distance(weights: np.ndarray) -> None:
    assert isinstance(distances(histogram(weights), histogram(normal(1))), NotFitted)
    assert isinstance(distances(histogram(normal(1), Dtype.F16), histogram(weights)), NotFitted)


# ---- Jensen-Shannon


def log_density(law: Any, x: np.ndarray) -> np.ndarray:
    two_sided = law.support()[0] < 0
    return (1 + two_sided) * law.pdf(np.exp(x)) * np.exp(x)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_jensen_shannon_of_infinitely_many_weights_is_that_of_their_laws(family: Family) -> None:
    one, other = (
        expected_histogram(each, Dtype.F32, FULL_FLOAT32, weights=INFINITELY_MANY) for each in (FAMILIES[0], family)
    )
    x = np.linspace(-60, 30, 900_001)
    p, q = log_density(FAMILIES[0].law, x), log_density(family.law, x)
    surprise = special.xlogy(p, 2 * p) + special.xlogy(q, 2 * q) - special.xlogy(p + q, p + q)
    expected = float(surprise.sum() * (x[1] - x[0]) / 2)
    assert between(one, other).jensen_shannon == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize(("rows_a", "rows_b"), [(100, 100), (100, 3000), (2000, 100)])
@pytest.mark.parametrize("formats", [(Dtype.F32, Dtype.F32), (Dtype.BF16, Dtype.F16)])
def test_two_layers_of_one_law_do_not_diverge(rows_a: int, rows_b: int, formats: tuple[Dtype, Dtype]) -> None:
    found = [
        between(
            histogram(normal(rows_a, seed=2 * seed), formats[0]),
            histogram(normal(rows_b, seed=2 * seed + 1), formats[1]),
        ).jensen_shannon
        for seed in range(20)
    ]
    assert max(found) < 0.001
    assert np.mean(found) < 0.0003  # uncorrected: 0.001 for 10,000 weights on one side, 0.002 on both


@pytest.mark.parametrize(("rows_a", "rows_b"), [(100, 100), (100, 3000), (3000, 100), (20, 3000)])
def test_what_counting_adds_to_jensen_shannon_is_taken_away(rows_a: int, rows_b: int) -> None:
    found = [
        between(histogram(normal(rows_a, seed=2 * seed)), histogram(normal(rows_b, sd=1.3, seed=2 * seed + 1)))
        for seed in range(30)
    ]
    many = [normal(20_000, seed=100), normal(20_000, sd=1.3, seed=101)]
    exact = between(*map(histogram, many)).jensen_shannon
    each = np.array([one.jensen_shannon for one in found])
    assert each.mean() == pytest.approx(exact, abs=4 * each.std() / math.sqrt(each.size))


def test_few_weights_are_too_few_to_diverge() -> None:
    a, b = np.full((1, 9), 0.3), np.full((1, 9), 3.0)
    assert between(histogram(a), histogram(b)).ks == 1
    assert between(histogram(a), histogram(b)).jensen_shannon == 0


# ---- noise


def test_layers_of_one_law_exceed_the_noise_once_in_twenty_times() -> None:
    order = np.random.default_rng(0).random((10_000, 500)).argsort(axis=1)
    gaps = np.cumsum(np.where(order < 200, 1 / 200, -1 / 300), axis=1)  # of the two distribution functions
    beyond = np.mean(np.abs(gaps).max(axis=1) > ks_noise(200, 300))
    assert 0.035 < beyond < 0.055  # a little conservative, as for any finite number


def test_the_noise_is_kolmogorovs() -> None:
    assert ks_noise(10**6, 10**6) == pytest.approx(stats.kstwobign.isf(0.05) * math.sqrt(2e-6), rel=1e-4)
    assert ks_noise(1, 1) == ks_noise(0, 10**6) == ks_noise(10**6, -1) == 1
