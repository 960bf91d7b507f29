"""How much of a run's start is left, against the recursion of weight decay itself."""

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, TrainingState
from jaynes_audit.analyzers.thermodynamics.ages import RATES, age_statements, horizon_statements, run_age
from jaynes_audit.analyzers.thermodynamics.statement import Answer
from tests.support.adam import Run
from tests.support.training_evidence import evidence_of

SHAPE = (96, 80)


def _run(steps: int = 1) -> Run:
    return Run(weights={"fc.weight": np.ones(SHAPE)}, steps=steps)


def test_age_says_what_decay_alone_leaves_of_the_squared_norm() -> None:
    rates = np.linspace(3e-3, 1e-4, 2_000)
    decay = 0.1

    left = np.prod((1 - rates * decay) ** 2)

    assert np.exp(-2 * run_age(rates, decay)) == pytest.approx(left, rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "answer"),
    [(400, Answer.DOES_NOT_HOLD), (1_000, Answer.CANNOT_BE_SAID), (2_000, Answer.HOLDS)],
)
def test_only_an_old_run_has_its_scale_from_rate_and_decay(steps: int, answer: Answer) -> None:
    evidence = evidence_of(_run(steps), rates=np.full(steps, 1e-2), decay={"fc.weight": 0.1})

    (statement,) = age_statements(evidence)

    assert statement.answer is answer
    assert statement.figures[0].value == pytest.approx(steps * 1e-3)


def test_without_learning_rates_the_age_cannot_be_said_and_the_input_is_named() -> None:
    (statement,) = age_statements(evidence_of(_run(), decay={"fc.weight": 0.1}))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert statement.missing == (RATES,)


def test_without_decay_nothing_makes_weights_forget() -> None:
    (statement,) = age_statements(evidence_of(_run(), rates=np.full(9, 1.0), decay={"fc.weight": 0.0}))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert "no weight decay" in statement.because


@pytest.mark.parametrize("method", [Method.ADAM_L2, Method.LION, Method.MUON, Method.ADAFACTOR])
def test_age_is_not_told_of_optimizers_whose_decay_it_does_not_know(method: Method) -> None:
    evidence = evidence_of(_run(), rates=np.full(9, 1.0), decay={"fc.weight": 0.1}, method=method)

    (statement,) = age_statements(evidence)

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert str(method) in statement.because


@pytest.mark.parametrize(
    ("rate", "answer"),
    [(1.0, Answer.DOES_NOT_HOLD), (0.04, Answer.HOLDS), (0.001, Answer.DOES_NOT_HOLD)],
)
def test_the_horizon_of_a_good_run_lies_between_one_epoch_and_its_length(rate: float, answer: Answer) -> None:
    evidence = evidence_of(
        _run(1_000),
        rates=np.full(1_000, rate),
        decay={"fc.weight": 0.1},
        training=TrainingState(steps_per_epoch=100.0, planned_steps=1_000),
    )

    (statement,) = horizon_statements(evidence)

    assert statement.answer is answer
    assert statement.figures[0].value == pytest.approx(1 / (rate * 0.1) / 100)


def test_the_horizon_of_a_run_of_one_epoch_cannot_be_said() -> None:
    evidence = evidence_of(
        _run(100),
        rates=np.full(100, 0.1),
        decay={"fc.weight": 0.1},
        training=TrainingState(steps_per_epoch=100.0, planned_steps=100),
    )

    (statement,) = horizon_statements(evidence)

    assert statement.answer is Answer.CANNOT_BE_SAID
