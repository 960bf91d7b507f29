"""The two numbers of a whole checkpoint: entropic term and norm flux."""

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import TrainingState
from jaynes_audit.analyzers.thermodynamics.entropic import entropic_statements, flux_statements
from jaynes_audit.analyzers.thermodynamics.noether import MEMORY
from jaynes_audit.analyzers.thermodynamics.statement import Answer
from tests.support.adam import BETA2, Run, adamw
from tests.support.blind_runs import DECAY, NAME, at_start, trained
from tests.support.training_evidence import evidence_of

RATE = 3e-3


def test_the_entropic_term_is_a_quarter_of_the_rate_times_the_roots_of_the_second_means() -> None:
    rates = np.full(200, RATE)
    run = trained(rates)
    expected = RATE / 4 * np.sqrt(run.second[NAME] / (1 - BETA2**200)).sum()

    (statement,) = entropic_statements(
        evidence_of(run, rates=rates, decay={NAME: DECAY}, training=TrainingState(loss=1.25))
    )

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert [each.value for each in statement.figures] == pytest.approx([expected, 1.25])


def test_without_an_optimizer_both_name_what_is_missing() -> None:
    run = Run(weights={NAME: np.ones((64, 64))}, steps=3)
    evidence = evidence_of(run, rates=[RATE] * 3, decay={NAME: DECAY})

    assert next(entropic_statements(evidence)).missing == (MEMORY,)
    assert next(flux_statements(evidence)).missing == (MEMORY,)


def test_the_flux_is_what_the_last_step_added_to_the_squared_norm() -> None:
    rates = np.full(40, RATE)
    run, gradients = at_start()
    adamw(run, gradients, rates[:-1], {NAME: DECAY})
    kept = (1 - RATE * DECAY) * run.weights[NAME]
    weights = adamw(run, gradients, rates[-1:], {NAME: DECAY}).weights[NAME]
    added = (weights**2).sum() - (kept**2).sum()

    (statement,) = flux_statements(evidence_of(run, rates=rates, decay={NAME: DECAY}))

    assert statement.figures[0].value == pytest.approx(added / (2 * RATE * DECAY * (weights**2).sum()), rel=1e-6)


def test_the_flux_is_near_one_at_rest_and_beyond_it_while_norms_grow() -> None:
    """Over many checkpoints of one run: a single one is too noisy for a matrix of this size."""

    def mean_flux(steps: int, checkpoints: int, rms: float) -> float:
        run, gradients = at_start(rms=rms)
        ratios = []
        for _ in range(checkpoints):
            rates = np.full(steps, RATE)
            adamw(run, gradients, rates, {NAME: DECAY})
            (statement,) = flux_statements(evidence_of(run, rates=rates, decay={NAME: DECAY}))
            ratios.append(statement.figures[0].value)
        return float(np.mean(ratios[checkpoints // 2 :]))

    assert mean_flux(40, 60, 0.07) == pytest.approx(1, abs=0.2)
    assert mean_flux(2, 30, 0.01) > 1.5
