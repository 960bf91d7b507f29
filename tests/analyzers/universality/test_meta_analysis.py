"""Random-effects meta-analysis against published examples, simulation and scipy."""

import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.meta_analysis import (
    RandomEffects,
    expected_random_effects,
    random_effects,
)

# Thirteen trials of the BCG vaccine (Colditz et al. 1994): cases and others, vaccinated; cases and others, controls.
BCG_TRIALS = np.array(
    [
        *[(4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761)],
        *[(180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232)],
        *[(17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)],
    ],
    dtype=float,
)


def log_risk_ratios() -> tuple[np.ndarray, np.ndarray]:
    cases, others, control_cases, control_others = BCG_TRIALS.T
    treated, controls = cases + others, control_cases + control_others
    ratios = np.log(cases / treated) - np.log(control_cases / controls)
    return ratios, np.sqrt(1 / cases - 1 / treated + 1 / control_cases - 1 / controls)


def effects(values: object, errors: object) -> RandomEffects:
    result = random_effects(np.asarray(values, dtype=float), np.asarray(errors, dtype=float))
    assert isinstance(result, RandomEffects)
    return result


def test_the_bcg_trials_give_what_metafor_prints() -> None:
    # metafor (Viechtbauer 2010), rma(measure="RR", data=dat.bcg, method="DL"): estimate, 95 % limits, tau^2 and I^2.
    result = effects(*log_risk_ratios())
    assert result.values == 13
    assert result.mean == pytest.approx(-0.7141, abs=5e-5)
    assert result.mean - stats.norm.ppf(0.975) * result.mean_error == pytest.approx(-1.0644, abs=5e-5)
    assert result.mean + stats.norm.ppf(0.975) * result.mean_error == pytest.approx(-0.3638, abs=5e-5)
    assert result.tau**2 == pytest.approx(0.3088, abs=5e-5)
    assert result.i_squared == pytest.approx(0.9212, abs=5e-5)


def test_the_prediction_interval_is_students_t_about_the_mean() -> None:
    result = effects(*log_risk_ratios())
    spread = np.hypot(result.tau, result.mean_error)
    interval = stats.t(13 - 2, loc=result.mean, scale=spread).interval(0.95)
    assert (result.prediction_low, result.prediction_high) == pytest.approx(interval, rel=1e-12)


def test_a_further_value_falls_into_the_prediction_interval_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        truths = rng.normal(0.4, 1, 21)
        errors = np.full(20, 0.1)
        result = effects(truths[:20] + rng.normal(0, errors), errors)
        inside += result.prediction_low < truths[20] < result.prediction_high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)  # three standard errors of 2000 cases


def test_homogeneous_values_exceed_the_noise_limit_in_one_case_of_twenty() -> None:
    rng = np.random.default_rng(2)
    errors = rng.uniform(0.1, 1, 12)
    results = [effects(rng.normal(3, errors), errors) for _ in range(4000)]
    exceeding = np.mean([result.tau >= result.tau_noise for result in results])
    assert exceeding == pytest.approx(0.05, abs=0.011)  # three standard errors of 4000 cases


@pytest.mark.parametrize("errors", [np.full(12, 0.3), np.linspace(0.1, 1, 12), np.geomspace(0.03, 3, 12)])
def test_homogeneous_values_exceed_the_unweighted_noise_limit_about_as_often(errors: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    results = [effects(rng.normal(3, errors), errors) for _ in range(4000)]
    exceeding = np.mean([result.unweighted_tau >= result.unweighted_tau_noise for result in results])
    assert exceeding == pytest.approx(
        0.05, abs=0.02
    )  # an approximation, and four standard errors of 4000 cases are .014


def test_equal_errors_have_one_tau_and_one_noise_limit() -> None:
    result = effects(np.random.default_rng(8).normal(0, 1, 30), np.full(30, 0.4))
    assert result.unweighted_tau == pytest.approx(result.tau, rel=1e-12)
    assert result.unweighted_tau_noise == pytest.approx(result.tau_noise, rel=1e-12)


def test_the_unweighted_tau_squared_is_the_sample_variance_less_the_mean_squared_error() -> None:
    ratios, errors = log_risk_ratios()
    result = effects(ratios, errors)
    assert result.unweighted_tau**2 == pytest.approx(ratios.var(ddof=1) - np.mean(errors**2), rel=1e-12)


def test_a_few_precise_values_hide_differences_from_tau_but_not_from_the_unweighted_one() -> None:
    values, errors = np.repeat([1.3, 1.6], 12), np.repeat([0.0001, 0.001], 12)
    result = effects(values, errors)
    assert result.tau < 0.05
    assert result.unweighted_tau == pytest.approx(values.std(ddof=1), abs=1e-4)


def test_tau_squared_is_the_spread_of_the_truths_on_average() -> None:
    rng = np.random.default_rng(3)
    errors = rng.uniform(0.05, 0.3, 40)
    results = [effects(rng.normal(0, 0.5, 40) + rng.normal(0, errors), errors) for _ in range(2000)]
    assert np.mean([result.tau**2 for result in results]) == pytest.approx(0.25, rel=0.03)
    assert np.mean([result.unweighted_tau**2 for result in results]) == pytest.approx(0.25, rel=0.03)


def test_the_expectation_for_known_truths_is_the_average_over_noisy_values() -> None:
    rng = np.random.default_rng(4)
    truths, errors = rng.normal(0, 1, 30), rng.uniform(0.2, 0.6, 30)
    expected = expected_random_effects(truths, errors)
    assert isinstance(expected, RandomEffects)
    results = [effects(rng.normal(truths, errors), errors) for _ in range(4000)]
    assert expected.tau**2 == pytest.approx(np.mean([result.tau**2 for result in results]), rel=0.02)
    assert expected.unweighted_tau**2 == pytest.approx(
        np.mean([result.unweighted_tau**2 for result in results]), rel=0.02
    )


def test_equal_truths_have_no_spread_to_the_last_digit() -> None:
    expected = expected_random_effects(np.full(50, 0.1), np.linspace(1e-4, 1e-2, 50))
    assert isinstance(expected, RandomEffects)
    assert (expected.tau, expected.i_squared, expected.mean) == (0, 0, 0.1)
    assert expected.tau_noise > 0


def test_exact_values_have_their_sample_standard_deviation_as_tau() -> None:
    values = np.random.default_rng(5).normal(2, 3, 25)
    result = effects(values, np.zeros(25))
    assert result.tau == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert result.mean == pytest.approx(values.mean(), rel=1e-12)
    assert result.mean_error == pytest.approx(stats.sem(values), rel=1e-12)
    assert result.unweighted_tau == result.tau
    assert (result.i_squared, result.tau_noise, result.unweighted_tau_noise) == (1, 0, 0)


def test_exact_values_are_the_limit_of_small_errors() -> None:
    values = np.random.default_rng(6).normal(2, 3, 25)
    assert effects(values, np.full(25, 1e-200)).tau == pytest.approx(effects(values, np.zeros(25)).tau, rel=1e-12)


def test_exact_and_equal_values_have_no_spread() -> None:
    result = effects(np.full(5, 2.5), np.zeros(5))
    assert (result.mean, result.tau, result.mean_error, result.i_squared, result.prediction_high) == (2.5, 0, 0, 0, 2.5)


@pytest.mark.parametrize("nothing", [0, 1e-17, 5e-324])
def test_an_error_of_nothing_weighs_as_much_as_the_smallest_other(nothing: float) -> None:
    values = np.array([1.0, 1.2, 0.7, 1.1])
    assert effects(values, [nothing, 0.1, 0.3, 0.2]) == effects(values, [0.1, 0.1, 0.3, 0.2])


def test_a_far_smaller_error_decides_the_mean() -> None:
    result = effects([1.0, 1.5, 0.5, 1.2], [1e-5, 1, 1, 1])
    assert result.mean == pytest.approx(1, abs=1e-9)
    assert result.tau == 0


@pytest.mark.parametrize(("value", "error"), [(5, np.nan), (5, np.inf), (np.nan, 0.1), (np.inf, 0.1), (5, -0.1)])
def test_what_cannot_be_weighed_is_left_out(value: float, error: float) -> None:
    assert effects([1, 1.5, value, 0.7], [0.1, 0.2, error, 0.3]) == effects([1, 1.5, 0.7], [0.1, 0.2, 0.3])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_fewer_than_three_values_have_no_prediction_interval(number: int) -> None:
    assert random_effects(np.arange(number) * 1.0, np.ones(number)) == NotFitted("fewer than 3 values with an error")
