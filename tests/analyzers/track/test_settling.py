"""When a series came to rest, against series whose change is known."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.track.settling import Course, Settling, settling

SEEDS = 200
NOISE = 0.02
FLOOR = 1e-6

Shape = Callable[[np.ndarray, float], np.ndarray]


def steps_of(number: int) -> list[int]:
    return [500 * at for at in range(number)]


def places(steps: Sequence[int]) -> np.ndarray:
    """Where steps stand on the axis of the model."""
    return np.log1p(np.array(steps) / next(step for step in steps if step))


def noise(number: int, seed: int, correlation: float = 0.0) -> np.ndarray:
    """Noise of standard deviation NOISE, a first-order autoregression."""
    drawn = np.random.default_rng(seed).normal(0, NOISE, number)
    for at in range(1, number):
        drawn[at] = correlation * drawn[at - 1] + math.sqrt(1 - correlation**2) * drawn[at]
    return drawn


def found(steps: Sequence[int], values: np.ndarray, floor: float = FLOOR) -> Settling:
    result = settling(steps, values.tolist(), floor=floor)
    assert isinstance(result, Settling)
    return result


def straight(at: np.ndarray, rest: float) -> np.ndarray:
    return 0.3 * np.minimum(0, at - rest)


def bent(at: np.ndarray, rest: float) -> np.ndarray:
    return 0.2 * np.minimum(0, at - rest) + 0.4 * np.minimum(0, at - rest / 2)


@pytest.mark.parametrize("number", [8, 12, 20, 32])
def test_noise_alone_is_steady(number: int) -> None:
    steps = steps_of(number)
    courses = Counter(found(steps, noise(number, seed)).course for seed in range(SEEDS))
    assert courses[Course.STEADY] >= 0.95 * SEEDS


@pytest.mark.parametrize("number", [8, 12, 20, 32, 100])
@pytest.mark.parametrize("by_logarithm", [True, False])
def test_drift_alone_is_never_settled(number: int, by_logarithm: bool) -> None:  # noqa: FBT001
    steps = steps_of(number)
    drift = 0.3 * places(steps) if by_logarithm else np.linspace(0, 1, number)
    for seed in range(20):
        assert found(steps, drift + noise(number, seed)).course is Course.MOVING


@pytest.mark.parametrize(
    ("number", "shape", "correlation", "coverage", "settled"),
    [
        (12, straight, 0.0, 0.95, 0.8),
        (32, straight, 0.0, 0.95, 0.95),
        (12, bent, 0.0, 0.95, 0.6),
        (32, bent, 0.0, 0.95, 0.95),
        (32, straight, 0.5, 0.89, 0.85),
        (32, bent, 0.5, 0.89, 0.85),
    ],
)
def test_the_interval_holds_the_true_change_as_often_as_it_says(
    number: int, shape: Shape, correlation: float, coverage: float, settled: float
) -> None:
    steps = steps_of(number)
    covered, courses = 0, Counter[Course]()
    for seed in range(SEEDS):
        rest = steps[-1] * np.random.default_rng([seed, 1]).uniform(0.25, 0.6)
        values = shape(places(steps), math.log1p(rest / steps[1])) + noise(number, seed, correlation)
        result = found(steps, values)
        courses[result.course] += 1
        covered += result.earliest <= rest <= result.latest
    assert covered >= coverage * SEEDS
    assert courses[Course.SETTLED] >= settled * SEEDS


def test_steps_that_double_are_followed_too() -> None:
    steps = [0, *(2**power for power in range(10)), *range(1000, 144_000, 3000)]
    covered = 0
    for seed in range(50):
        rest = math.exp(np.random.default_rng([seed, 1]).uniform(math.log(64), math.log(20_000)))
        result = found(steps, straight(places(steps), math.log1p(rest)) + noise(len(steps), seed))
        covered += result.course is Course.SETTLED and result.earliest <= rest <= result.latest
    assert covered >= 42


def test_what_moves_again_after_a_rest_is_not_settled() -> None:
    steps = steps_of(32)
    values = straight(places(steps), 2.0) + 0.03 * np.maximum(0, np.arange(32) - 24)
    for seed in range(20):
        assert found(steps, values + noise(32, seed) / 4).course is Course.MOVING


def test_an_exponential_approach_is_settled_once_it_is_within_the_noise() -> None:
    steps = steps_of(32)
    lifetime = 1000.0
    values = np.exp(-np.array(steps) / lifetime)
    results = [found(steps, values + noise(32, seed)) for seed in range(20)]
    settled = [result for result in results if result.course is Course.SETTLED]
    assert len(settled) >= 17
    assert all(math.exp(-result.latest / lifetime) < 2 * NOISE for result in settled)


def test_changes_below_the_floor_are_none() -> None:
    steps = steps_of(20)
    assert found(steps, np.linspace(0, 0.004, 20), floor=0.01).course is Course.STEADY
    assert found(steps, np.linspace(0, 0.4, 20), floor=0.01).course is Course.MOVING


def test_a_constant_is_steady_at_its_level() -> None:
    result = found(steps_of(9), np.full(9, -3.5))
    assert (result.course, result.step, result.earliest, result.latest) == (Course.STEADY, 0, 0, 0)
    assert result.level == pytest.approx(-3.5)


def test_a_jump_is_found_where_it_is() -> None:
    steps = steps_of(16)
    values = np.where(np.arange(16) < 5, -4.0, -3.0) + noise(16, 1)
    result = found(steps, values)
    assert result.course is Course.SETTLED
    assert result.earliest <= 2500 <= result.latest
    assert (result.start, result.level) == pytest.approx((-4.0, -3.0), abs=3 * NOISE)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_neither_units_nor_offset_matter(scale: float) -> None:
    steps = steps_of(20)
    values = straight(places(steps), 2.0) + noise(20, 3)
    usual, scaled = found(steps, values), found(steps, 7 + scale * values, floor=scale * FLOOR)
    assert (scaled.course, scaled.step, scaled.earliest, scaled.latest) == (
        usual.course,
        usual.step,
        usual.earliest,
        usual.latest,
    )


def test_steps_that_rounding_cannot_tell_apart_are_not_followed() -> None:
    steps = [0, 1, *(10**15 + at for at in range(8))]
    assert isinstance(settling(steps, [0.0] * 10, floor=FLOOR), NotFitted)


@pytest.mark.parametrize("seed", range(100))
def test_any_series_gives_a_step_of_its_own_inside_its_interval(seed: int) -> None:
    dice = np.random.default_rng(seed)
    number = int(dice.integers(8, 90))
    steps = np.cumsum(dice.integers(1, 10 ** dice.integers(1, 6), number)).tolist()
    values = dice.choice([0.0, 1.0, -3.5, 1e-12, 80.0], number) * dice.choice([1.0, float(dice.normal())], number)
    result = found(steps, values, floor=0.01)
    assert {result.step, result.earliest, result.latest} <= set(steps)
    assert result.earliest <= result.step <= result.latest
    assert all(map(math.isfinite, (result.start, result.level, result.noise, result.correlation)))


def test_of_fewer_than_eight_checkpoints_nothing_is_said() -> None:
    assert settling(steps_of(7), [0.0] * 7, floor=FLOOR) == NotFitted("it takes 8 checkpoints, and there are 7")
