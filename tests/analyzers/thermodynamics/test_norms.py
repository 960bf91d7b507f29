"""The rms that learning rates and weight decay give, against AdamW itself and against published settings."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.thermodynamics.norms import (
    DECLARED,
    START,
    blind_blocks,
    predicted_log_means,
    predicted_mean_square,
    rms_statements,
)
from jaynes_audit.analyzers.thermodynamics.statement import Answer
from tests.support.adam import Run, adamw
from tests.support.blind_runs import BLIND, DECAY, NAME, at_start, trained
from tests.support.training_evidence import evidence_of

Floats = npt.NDArray[np.float64]


def _cosine(steps: int, peak: float, *, warmup: int, final: float) -> Floats:
    at = np.arange(steps)
    falling = final + (peak - final) * 0.5 * (1 + np.cos(math.pi * (at - warmup) / (steps - warmup)))
    return np.where(at < warmup, peak * (at + 1) / max(warmup, 1), falling)


@pytest.mark.parametrize(
    "rates",
    [
        np.full(3_000, 3e-3),
        np.concatenate([np.full(2_000, 3e-3), np.full(1_000, 3e-4)]),
        _cosine(3_000, 3e-3, warmup=150, final=3e-4),
    ],
    ids=["constant", "dropped tenfold", "warm-up and cosine"],
)
@pytest.mark.parametrize("part", [0.02, 0.2, 0.7, 1.0])
def test_adamw_gives_the_predicted_rms_under_any_schedule(rates: Floats, part: float) -> None:
    rates = rates[: int(part * len(rates))]

    measured = float((trained(rates).weights[NAME] ** 2).mean())

    assert math.sqrt(measured / predicted_mean_square(rates, DECAY, 0.08**2)) == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize(("decay", "rate"), [(0.1, 1e-3), (1.0, 1.0), (0.0, 1e-2), (3.0, 0.9)])
def test_the_closed_form_is_the_recursion(decay: float, rate: float) -> None:
    rates = rate * np.random.default_rng(0).random(500)
    square = 0.25

    for each in rates:
        square = (1 - each * decay) ** 2 * square + each**2

    assert predicted_mean_square(rates, decay, 0.25) == pytest.approx(square, rel=1e-12)


@pytest.mark.parametrize(
    ("width", "peak", "age", "rms"),
    [
        (512, 1e-3, 7.86, 0.0332),
        (768, 6e-4, 4.71, 0.0299),
        (1024, 3e-4, 2.36, 0.0255),
        (2048, 2e-4, 1.57, 0.0224),
        (5120, 1.2e-4, 0.94, 0.0178),
    ],
    ids=["70m", "160m", "410m", "1.4b", "12b"],
)
def test_published_settings_of_pythia_give_one_number_each(width: int, peak: float, age: float, rms: float) -> None:
    """The settings are those of EleutherAI's Pythia: 143,000 steps, 1 % warm-up, cosine to a tenth, decay 0.1."""
    rates = _cosine(143_000, peak, warmup=1_430, final=peak / 10)

    assert rates.sum() * 0.1 == pytest.approx(age, abs=0.006)
    assert math.sqrt(predicted_mean_square(rates, 0.1, 2 / (5 * width))) == pytest.approx(rms, abs=6e-5)


def test_a_block_with_the_predicted_rms_holds_and_one_that_was_frozen_does_not() -> None:
    rates = np.full(3_000, 3e-3)
    alive = trained(rates)
    frozen = Run(weights={NAME: np.random.default_rng(1).normal(0, 0.02, (48, 64))}, steps=3_000)

    for run, answer in ((alive, Answer.HOLDS), (frozen, Answer.DOES_NOT_HOLD)):
        evidence = evidence_of(run, rates=rates, decay={NAME: DECAY}, symmetries=[BLIND], initial={NAME: 0.08**2})
        assert next(rms_statements(evidence)).answer is answer


def test_a_young_block_of_unknown_start_cannot_be_said_and_with_its_start_it_can() -> None:
    rates = np.full(100, 3e-3)
    run = trained(rates)

    unknown = next(rms_statements(evidence_of(run, rates=rates, decay={NAME: DECAY}, symmetries=[BLIND])))
    known = next(
        rms_statements(evidence_of(run, rates=rates, decay={NAME: DECAY}, symmetries=[BLIND], initial={NAME: 0.08**2}))
    )

    assert unknown.answer is Answer.CANNOT_BE_SAID
    assert unknown.missing
    assert known.answer is Answer.HOLDS


def test_a_model_that_began_elsewhere_than_its_config_declares_is_not_called_off() -> None:
    """As a fine-tune does: its rms is that of the model that it came from."""
    rates = np.full(100, 1e-5)
    run = Run(weights={NAME: np.random.default_rng(1).normal(0, 0.06, (48, 64))}, steps=100)
    evidence = evidence_of(run, rates=rates, decay={NAME: DECAY}, symmetries=[BLIND], initial={NAME: 0.02**2})

    declared = next(rms_statements(replace(evidence, initial_source=DECLARED)))

    assert next(rms_statements(evidence)).answer is Answer.DOES_NOT_HOLD
    assert declared.answer is Answer.CANNOT_BE_SAID
    assert declared.missing == (START,)


def test_a_block_of_which_a_part_never_had_a_gradient_cannot_be_said() -> None:
    rates = np.full(3_000, 3e-3)
    run = trained(rates)
    second = run.second[NAME].copy()
    second[:12] = 0
    run = Run(weights=run.weights, first=run.first, second={NAME: second}, steps=run.steps)

    statement = next(
        rms_statements(evidence_of(run, rates=rates, decay={NAME: DECAY}, symmetries=[BLIND], initial={NAME: 0.08**2}))
    )

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert "38%" in statement.because


def test_rows_that_never_had_a_gradient_are_predicted_to_decay_alone() -> None:
    rates = np.full(2_500, 3e-3)
    run, noise = at_start()

    def without_six_rows(weights: Mapping[str, Floats]) -> dict[str, Floats]:
        gradient = noise(weights)[NAME]
        gradient[:6] = 0
        return {NAME: gradient}

    adamw(run, without_six_rows, rates, {NAME: DECAY})

    statement = next(
        rms_statements(evidence_of(run, rates=rates, decay={NAME: DECAY}, symmetries=[BLIND], initial={NAME: 0.08**2}))
    )

    assert statement.figures[1].value == pytest.approx(1, abs=0.06)


def test_a_block_of_which_a_part_has_an_unknown_decay_is_left_out() -> None:
    rates = np.full(30, 3e-3)
    evidence = evidence_of(trained(rates), rates=rates, decay={NAME: DECAY}, symmetries=[BLIND])
    parameter = evidence.parameters[NAME]
    unknown = replace(evidence, parameters={NAME: replace(parameter, weight_decay=None)})

    assert [symmetry for symmetry, _ in blind_blocks(evidence)] == [BLIND]
    assert not list(blind_blocks(unknown))


def test_single_matrices_are_shown_and_not_judged() -> None:
    rates = np.full(50, 3e-3)

    statements = list(rms_statements(evidence_of(trained(rates), rates=rates, decay={NAME: DECAY})))

    assert [each.subject for each in statements] == [NAME]
    assert statements[0].answer is Answer.CANNOT_BE_SAID
    assert statements[0].figures


def test_the_predicted_mu_is_that_of_gaussian_weights_of_the_predicted_rms() -> None:
    rates = np.full(2_000, 3e-3)
    rms = math.sqrt(predicted_mean_square(rates, DECAY, 0.01))
    gaussian = np.random.default_rng(0).normal(0, rms, 400_000)

    predicted = predicted_log_means(evidence_of(trained(rates), rates=rates, decay={NAME: DECAY}, initial={NAME: 0.01}))

    assert predicted[NAME] == pytest.approx(np.log(np.abs(gaussian)).mean(), abs=0.01)
