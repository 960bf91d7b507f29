"""At rest, quenched or too young: AdamW on a matrix whose scale the loss cannot see, and SGD's ideal gas."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, OptimizerState, ParameterGroup
from jaynes_audit.analyzers.thermodynamics.equation_of_state import state_statements
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Statement
from jaynes_audit.analyzers.thermodynamics.symmetry import Axis, Term
from tests.support.adam import Run, sgd
from tests.support.blind_runs import BLIND, DECAY, NAME, trained
from tests.support.training_evidence import evidence_of

Floats = npt.NDArray[np.float64]

RATE = 3e-3


def _statement(rates: Floats) -> Statement:
    run = trained(rates)
    (statement,) = state_statements(evidence_of(run, rates=rates, decay={NAME: DECAY}, symmetries=[BLIND]))
    return statement


def _ratio(statement: Statement) -> float:
    return next(each.value for each in statement.figures if each.name == "ratio")


def _fictive(statement: Statement) -> float:
    return next(each.value for each in statement.figures if each.name == "fictive learning rate")


def test_a_long_run_at_constant_rate_is_at_rest() -> None:
    statement = _statement(np.full(4_000, RATE))

    assert statement.answer is Answer.HOLDS
    assert statement.because.startswith("equilibrium")
    assert _ratio(statement) == pytest.approx(1, abs=0.07)
    assert _fictive(statement) == pytest.approx(RATE, rel=0.07)


def test_after_a_tenfold_drop_the_norm_is_quenched_at_the_old_rate() -> None:
    rates = np.concatenate([np.full(4_000, RATE), np.full(100, RATE / 10)])
    statement = _statement(rates)

    assert statement.answer is Answer.DOES_NOT_HOLD
    assert statement.because.startswith("quenched")
    assert _ratio(statement) == pytest.approx(10, rel=0.1)
    assert _fictive(statement) == pytest.approx(RATE, rel=0.1)


def test_a_young_run_is_not_called_quenched() -> None:
    statement = _statement(np.full(30, RATE))

    assert statement.answer is not Answer.HOLDS
    assert statement.because.startswith("not yet")


def test_a_run_of_middle_age_cannot_be_said() -> None:
    assert _statement(np.full(1_000, RATE)).answer is Answer.CANNOT_BE_SAID


def test_sgd_of_a_scale_invariant_loss_obeys_the_ideal_gas() -> None:
    """The cell (rate 0.1, decay 0.01): 2 decay (1 - rate decay / 2) r^2 = rate E|g|^2 in the mean over the run."""
    rate, decay, steps = 0.1, 0.01, 12_000
    generator = np.random.default_rng(0)
    sums = {"norm": 0.0, "gradient": 0.0}

    def noise(weights: dict[str, Floats]) -> dict[str, Floats]:
        vector = weights["w"]
        gradient = generator.normal(size=vector.shape)
        gradient -= (gradient @ vector) / (vector @ vector) * vector
        gradient /= np.linalg.norm(vector)
        sums["norm"] += vector @ vector
        sums["gradient"] += gradient @ gradient
        return {"w": gradient}

    run = sgd(Run(weights={"w": generator.normal(size=200)}), noise, np.full(6_000, rate), {"w": decay})  # type: ignore[arg-type]
    sums.update(norm=0.0, gradient=0.0)
    sgd(run, noise, np.full(steps, rate), {"w": decay})  # type: ignore[arg-type]

    assert 2 * decay * (1 - rate * decay / 2) * sums["norm"] / (rate * sums["gradient"]) == pytest.approx(1, abs=0.01)


def test_a_block_whose_layers_have_rates_of_their_own_is_at_rest_where_each_is() -> None:
    """Each layer with the mean square rate / (2 decay) of its own rate."""
    steps, rates = 1_000, (1e-2, 1e-3)
    generator = np.random.default_rng(0)
    names = ("fast", "slow")
    run = Run(
        weights={
            name: generator.normal(0, math.sqrt(rate / (2 * 0.5)), (64, 64))
            for name, rate in zip(names, rates, strict=True)
        },
        steps=steps,
    )
    block = replace(BLIND, plus=tuple(Term(layer=name, axis=Axis.ALL) for name in names))
    evidence = evidence_of(run, rates=np.full(steps, rates[0]), decay=dict.fromkeys(names, 0.5), symmetries=[block])
    groups = tuple(ParameterGroup(initial_learning_rate=rate, weight_decay=0.5) for rate in rates)
    optimizer = OptimizerState(files=(), method=Method.ADAMW, evidence="", groups=groups, parameters=(), is_named=True)
    parameters = {
        name: replace(evidence.parameters[name], group=group) for name, group in zip(names, groups, strict=True)
    }

    (statement,) = state_statements(
        replace(evidence, parameters=parameters, training=replace(evidence.training, optimizer=optimizer))
    )

    assert statement.figures[0].value == pytest.approx(1, abs=0.05)
    assert statement.figures[2].value == pytest.approx(steps * rates[1] * 0.5)  # the age of the slowest
