"""Coarser counts against numpy's histogram, and normal probabilities against quadrature and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from jaynes_audit.analyzers.distributions.intervals import (
    Intervals,
    intervals,
    intervals_per_octave,
    log_normal_probability,
    normal_cdf,
)
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support.weights import decoded, encoded, sketch_of

# ---- counts in intervals


def drawn(seed: int, count: int = 5_000) -> np.ndarray:
    return encoded(np.random.default_rng(seed).standard_t(4, (1, count)), Dtype.BF16)


def counted(*layers: np.ndarray, per_octave: int) -> Intervals:
    return intervals(Stack.of([sketch_of(each, Dtype.BF16).histogram.magnitudes for each in layers]), per_octave)


@pytest.mark.parametrize("per_octave", [1, 8, 32])
def test_weights_are_counted_in_equal_parts_of_each_octave(per_octave: int) -> None:
    weights = drawn(1)
    found = counted(weights, per_octave=per_octave)
    magnitudes = np.abs(decoded(weights, Dtype.BF16)).reshape(-1)
    octaves = 2.0 ** np.arange(-40, 12)
    edges = (octaves[:, np.newaxis] * (1 + np.arange(per_octave) / per_octave)).reshape(-1)
    expected, _ = np.histogram(magnitudes, edges)
    assert found.tallies.tolist() == expected[expected > 0].tolist()
    assert found.shares.tolist() == (found.tallies / magnitudes.size).tolist()
    # A number of bfloat16 stands for all that rounds to it: an interval begins half a step below its first number,
    # and a step above a power of two is 1/128, below it 1/256.
    begins, ends = edges[:-1][expected > 0], edges[1:][expected > 0]
    for found_ends, exact in ((found.log_lower, begins), (found.log_upper, ends)):
        steps = 2.0 ** (np.ceil(np.log2(exact)) - 1 - 7)
        np.testing.assert_allclose(np.exp(found_ends), exact - steps / 2, rtol=1e-12)


def test_layers_end_to_end_are_counted_one_by_one() -> None:
    layers = [drawn(2), drawn(3, 40), drawn(2)]
    together = counted(*layers, per_octave=8)
    for layer, (start, length) in enumerate(zip(together.starts, together.lengths, strict=True)):
        alone = counted(layers[layer], per_octave=8)
        for part in ("tallies", "shares", "log_lower", "log_upper"):
            assert getattr(together, part)[start : start + length].tolist() == getattr(alone, part).tolist()
    assert together.weights.tolist() == [5_000, 40, 5_000]
    assert together.sums(together.shares) == pytest.approx([1, 1, 1])
    assert together.sums(together.spread(np.array([1.0, 2.0, 3.0]))) == pytest.approx(together.lengths * [1, 2, 3])


def test_more_weights_allow_finer_intervals() -> None:
    numbers = (10_000, 99_999, 100_000, 999_999, 1_000_000, 10**9)
    assert [intervals_per_octave(weights) for weights in numbers] == [8, 8, 16, 16, 32, 32]


# ---- normal probabilities


@given(st.floats(-12, 12))
def test_the_table_of_the_normal_distribution_is_right_to_eight_digits(z: float) -> None:
    assert normal_cdf(np.array([z]))[0] == pytest.approx(special.ndtr(z), abs=1e-8)


@pytest.mark.parametrize(("z", "probability"), [(-math.inf, 0), (math.inf, 1), (-1e300, 0), (1e300, 1)])
def test_the_table_of_the_normal_distribution_has_no_end(z: float, probability: float) -> None:
    assert normal_cdf(np.array([z]))[0] == pytest.approx(probability, abs=1e-15)


def log_of_integral(lower: float, upper: float) -> float:
    """ln of the normal density's integral, by quadrature about its greatest value."""
    top = 0.0 if lower < 0 < upper else min(abs(lower), abs(upper))

    def scaled(z: float) -> float:
        return math.exp((top - abs(z)) * (top + abs(z)) / 2)

    area, _ = integrate.quad(scaled, lower, upper, epsabs=0, epsrel=1e-11, limit=200)
    return math.log(area) - top * top / 2 - math.log(2 * math.pi) / 2


@given(lower=st.floats(-300, 300), width=st.floats(1e-3, 0.5))
def test_log_probabilities_are_right_in_the_middle_and_in_both_tails(lower: float, width: float) -> None:
    found = log_normal_probability(np.array([lower]), np.array([lower + width]))[0]
    assert found == pytest.approx(log_of_integral(lower, lower + width), rel=1e-9, abs=1e-9)


@given(
    ends=st.lists(st.integers(-6000, 6000), min_size=3, max_size=12, unique=True).map(sorted),
    missing=st.integers(0, 10),
)
def test_a_cells_probability_does_not_depend_on_its_neighbours(ends: list[int], missing: int) -> None:
    edges = np.array(ends) / 100
    lower, upper = (np.delete(each, min(missing, edges.size - 2)) for each in (edges[:-1], edges[1:]))
    together = log_normal_probability(lower, upper)
    alone = [log_normal_probability(lower[[cell]], upper[[cell]])[0] for cell in range(lower.size)]
    assert together.tolist() == alone


@pytest.mark.parametrize("z", [0.0, 5.0, 36.9, 37.1, 1e3, 1e6])
def test_log_probabilities_of_whole_tails_are_those_of_scipy(z: float) -> None:
    left = log_normal_probability(np.array([-np.inf]), np.array([-z]))[0]
    right = log_normal_probability(np.array([z]), np.array([np.inf]))[0]
    assert left == pytest.approx(special.log_ndtr(-z), rel=1e-12)
    assert right == left


def test_everything_has_probability_one() -> None:
    assert log_normal_probability(np.array([-40.0]), np.array([40.0]))[0] == 0
