"""At rest, quenched or too young: AdamW on a matrix whose scale the loss cannot see, and SGD's ideal gas."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, OptimizerState, ParameterGroup
from jaynes_audit.analyzers.thermodynamics.equation_of_state import state_statements
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Statement
from jaynes_audit.analyzers.thermodynamics.symmetry import Axis, Term
from tests.support.adam import Gradients, Run, sgd
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


def test_a_batch_normalised_network_under_sgd_is_an_ideal_gas() -> None:
    """The cell (rate 0.1, decay 0.01): 2 decay (1 - rate decay / 2) r^2 = rate E|g|^2, as means over the run at rest.

    The network has two layers under BatchNorm without gains and a fixed head, so that its loss sees no scale; it learns
    to tell ten clouds of points apart (Sadrtdinov et al. 2025, arXiv 2511.07308, for the law).
    """
    rate, decay = 0.1, 0.01
    generator = np.random.default_rng(0)
    seen = {"norm": 0.0, "gradient": 0.0}
    gradients = _batch_normalised(generator)

    def watched(weights: Mapping[str, Floats]) -> Mapping[str, Floats]:
        found = gradients(weights)
        seen["norm"] += sum(float((each**2).sum()) for each in weights.values())
        seen["gradient"] += sum(float((each**2).sum()) for each in found.values())
        return found

    run = Run(weights={"0": generator.normal(0, 0.05, (32, 64)), "1": generator.normal(0, 0.05, (32, 32))})
    decays = dict.fromkeys(run.weights, decay)
    sgd(run, gradients, np.full(4_000, rate), decays)
    sgd(run, watched, np.full(6_000, rate), decays)

    ratio = 2 * decay * (1 - rate * decay / 2) * seen["norm"] / (rate * seen["gradient"])
    assert ratio == pytest.approx(1, abs=0.01)


def _batch_normalised(generator: np.random.Generator) -> Gradients:
    """Gradients of the cross-entropy of two layers, each under BatchNorm and ReLU, and a head that is not trained."""
    batch, classes, inputs, width = 32, 10, 64, 32
    clouds, head = generator.normal(size=(classes, inputs)), generator.normal(size=(classes, width)) / np.sqrt(width)

    def gradients(weights: Mapping[str, Floats]) -> dict[str, Floats]:
        labels = generator.integers(0, classes, batch)
        reached = [clouds[labels] + 2 * generator.normal(size=(batch, inputs))]
        normalised: list[tuple[Floats, Floats]] = []
        for matrix in weights.values():
            sums = reached[-1] @ matrix.T
            scale = sums.std(axis=0)
            normalised.append(((sums - sums.mean(axis=0)) / scale, scale))
            reached.append(np.maximum(normalised[-1][0], 0))
        odds = np.exp(reached[-1] @ head.T)
        error = odds / odds.sum(axis=1, keepdims=True)
        error[np.arange(batch), labels] -= 1
        error = error @ head / batch
        found: dict[str, Floats] = {}
        for layer in reversed(range(len(weights))):
            values, scale = normalised[layer]
            error = error * (values > 0)
            error = (error - error.mean(axis=0) - values * (error * values).mean(axis=0)) / scale
            found[str(layer)] = error.T @ reached[layer]
            error = error @ weights[str(layer)]
        return found

    return gradients


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
