"""The balance of noise and decay, in perceptrons that AdamW and SGD themselves trained."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, ParameterGroup
from jaynes_audit.analyzers.thermodynamics.balance import (
    SQUARES,
    adamw_balance,
    adamw_statements,
    sgd_balance,
    sgd_statements,
)
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence
from jaynes_audit.analyzers.thermodynamics.noether import MEMORY
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Statement
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density
from tests.support.adam import BETA2, Run, adamw, sgd
from tests.support.perceptrons import initial_weights, on_noise, pairs_of
from tests.support.training_evidence import evidence_of

Floats = npt.NDArray[np.float64]

WIDTHS = (16, 32, 32, 8)
RATE, DECAY = 2e-2, 0.1
STEPS_OF_AN_AGE = int(1 / (RATE * DECAY))


@cache
def _trained(ages: float, *, dropped: bool = False, seed: int = 0) -> tuple[Run, tuple[float, ...]]:
    """A ReLU network after AdamW's steps, and their rates. It is shared between tests, so nobody trains it on."""
    rates = [RATE] * round(ages * STEPS_OF_AN_AGE) + [RATE / 10] * (STEPS_OF_AN_AGE // 2 if dropped else 0)
    run = Run(weights=initial_weights(WIDTHS, seed=seed, with_biases=True))
    noise = on_noise(initial_weights(WIDTHS, seed=100 + seed), "relu", noise=1.0, batch=16, seed=200 + seed)
    return adamw(run, noise, rates, dict.fromkeys(run.weights, DECAY)), tuple(rates)


def _evidence(run: Run, rates: tuple[float, ...], *, decay: float = DECAY, method: Method = Method.ADAMW) -> Evidence:
    return evidence_of(
        run,
        rates=rates,
        decay=dict.fromkeys(run.weights, decay),
        symmetries=pairs_of(run.weights, "relu"),
        method=method,
    )


def _figures(statement: Statement) -> dict[str, float]:
    return {each.name: each.value for each in statement.figures}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pairs_of_a_relu_network_are_in_balance_after_a_few_ages_of_adamw(seed: int) -> None:
    wide, narrow = adamw_statements(_evidence(*_trained(4, seed=seed)))

    assert wide.answer is Answer.HOLDS
    assert narrow.answer is not Answer.DOES_NOT_HOLD  # it has few live neurons, and says so by its error
    for each in (wide, narrow):
        assert 0.7 <= _figures(each)["slope"] <= 1.4


def test_after_a_tenfold_fall_of_the_rate_decay_takes_more_than_steps_add() -> None:
    statements = list(adamw_statements(_evidence(*_trained(4, dropped=True))))

    assert [each.answer for each in statements] == [Answer.DOES_NOT_HOLD] * 2
    assert all(_figures(each)["slope"] < 0.5 for each in statements)


def test_a_young_network_is_out_of_balance() -> None:
    statements = list(adamw_statements(_evidence(*_trained(0.02))))

    assert Answer.HOLDS not in [each.answer for each in statements]
    assert Answer.DOES_NOT_HOLD in [each.answer for each in statements]


def test_the_account_of_the_last_step_is_what_that_step_did() -> None:
    """Against the weights before the step, which no checkpoint holds: exact at the mean of squares of that step."""
    run = Run(weights=initial_weights(WIDTHS))
    noise = on_noise(initial_weights(WIDTHS, seed=100), "relu", noise=1.0, batch=16, seed=200)
    decays = dict.fromkeys(run.weights, DECAY)
    adamw(run, noise, [RATE] * 30, decays)
    kept = {name: (1 - RATE * DECAY) * each for name, each in run.weights.items()}
    adamw(run, noise, [RATE], decays)
    evidence = _evidence(run, (RATE,) * 31)
    (symmetry, _) = evidence.symmetries
    added = taken = 0.0
    for sign, name, axis in ((1, "0.weight", 1), (-1, "1.weight", 0)):
        root = np.sqrt(run.second[name] / (1 - BETA2**31))
        added += sign * (root * (run.weights[name] ** 2 - kept[name] ** 2)).sum(axis=axis) / RATE
        taken += sign * 2 * DECAY * (root * run.weights[name] ** 2).sum(axis=axis)

    balance = adamw_balance(symmetry, evidence.sums, dict.fromkeys(run.weights, RATE), decays)

    assert balance.slope == pytest.approx(float(added @ taken / (taken @ taken)), rel=1e-4)


def test_neurons_rescaled_behind_the_optimizers_back_are_out_of_balance() -> None:
    """The network computes what it did, and its gradients are what they would be; but no training made its scales."""
    run, rates = _trained(4)
    factors = np.exp(np.random.default_rng(3).normal(0, 0.7, (32, 1)))
    by = {"0.weight": factors, "0.bias": factors[:, 0], "1.weight": 1 / factors.T}

    statements = list(adamw_statements(_evidence(_rescaled(run, by), rates)))

    assert statements[0].answer is Answer.DOES_NOT_HOLD


def _rescaled(run: Run, by: Mapping[str, Floats]) -> Run:
    """A run whose weights are multiplied, and whose gradients so divided."""
    return Run(
        weights={name: each * by.get(name, 1.0) for name, each in run.weights.items()},
        first={name: each / by.get(name, 1.0) for name, each in run.first.items()},
        second={name: each / by.get(name, 1.0) ** 2 for name, each in run.second.items()},
        steps=run.steps,
    )


def test_each_missing_input_of_the_law_of_adamw_is_named() -> None:
    run, rates = _trained(4)
    without_optimizer = Run(weights=run.weights, steps=run.steps)

    for evidence in (
        _evidence(run, rates, decay=0.0),
        _evidence(run, rates, method=Method.SGD),
        _evidence(run, rates, method=Method.ADAM_L2),
        replace(_evidence(run, rates), symmetries=()),
    ):
        (statement,) = adamw_statements(evidence)
        assert statement.answer is Answer.CANNOT_BE_SAID
        assert not statement.missing
    (statement,) = adamw_statements(_evidence(without_optimizer, rates))
    assert statement.missing == (MEMORY,)
    (statement,) = adamw_statements(evidence_of(run, symmetries=pairs_of(run.weights, "relu")))
    assert len(statement.missing) == 2


def test_a_pair_of_few_live_neurons_cannot_be_said() -> None:
    run, rates = _trained(4)
    dead = {"0.weight": np.r_[np.ones(5), np.zeros(27)][:, np.newaxis], "0.bias": np.r_[np.ones(5), np.zeros(27)]}
    few = Run(
        weights=run.weights,
        first={name: each * dead.get(name, 1.0) for name, each in run.first.items()},
        second={name: each * dead.get(name, 1.0) for name, each in run.second.items()},
        steps=run.steps,
    )
    few.second["1.weight"] = few.second["1.weight"] * dead["0.bias"]

    first, _ = list(adamw_statements(_evidence(few, rates)))

    assert first.answer is Answer.CANNOT_BE_SAID
    assert _figures(first)["live channels"] == 5


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_law_of_sgd_is_exact_over_a_long_time(activation: str) -> None:
    rate, decay, steps = 0.1, 0.02, 8_000
    widths = (8, 12, 6)
    run = Run(weights=initial_weights(widths, gain=1.5))
    noise = on_noise(initial_weights(widths, seed=9), activation, noise=1.0, batch=4)
    seen = {name: [np.zeros_like(each), np.zeros_like(each)] for name, each in run.weights.items()}

    def watched(weights: Mapping[str, Floats]) -> dict[str, Floats]:
        gradients = dict(noise(weights))
        for name, gradient in gradients.items():
            seen[name][0] += gradient**2
            seen[name][1] += weights[name] ** 2
        return gradients

    decays = dict.fromkeys(run.weights, decay)
    sgd(run, noise, [rate] * 2_000, decays)
    sgd(run, watched, [rate] * steps, decays)
    sums = {name: _of_squares(*each) for name, each in seen.items()}
    (symmetry,) = pairs_of(run.weights, activation)

    balance = sgd_balance(symmetry, sums, rate, decay)

    assert balance.slope == pytest.approx(1, abs=0.03)
    assert balance.error < 0.05


def _of_squares(gradients: Floats, weights: Floats) -> AxisSums:
    densities = {Density.FIRST_SQUARE: gradients, Density.SQUARE: weights}
    return AxisSums(
        weights=weights.size,
        outputs={density: each.sum(axis=1) for density, each in densities.items()},
        inputs={density: each.sum(axis=0) for density, each in densities.items()},
    )


def test_what_the_momentum_of_sgd_tells_is_shown_and_not_judged() -> None:
    momentum, rate, decay, steps = 0.9, 0.01, 0.02, 4_000
    widths = (10, 24, 6)
    run = Run(weights=initial_weights(widths), steps=steps)
    noise = on_noise(initial_weights(widths, seed=9), "relu", noise=1.0, batch=4)
    buffers = {name: np.zeros_like(each) for name, each in run.weights.items()}
    for _ in range(steps):  # torch's SGD: decay is added to the gradient, and both go into the momentum
        for name, gradient in noise(run.weights).items():
            buffers[name] = momentum * buffers[name] + gradient + decay * run.weights[name]
        for name, buffer in buffers.items():
            run.weights[name] = run.weights[name] - rate * buffer
    run.first = buffers
    evidence = _evidence(run, (rate,) * steps, decay=decay, method=Method.SGD)
    groups = {
        name: replace(each, group=ParameterGroup(momentum=momentum)) for name, each in evidence.parameters.items()
    }

    (statement,) = sgd_statements(replace(evidence, parameters=groups))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert 0.3 <= _figures(statement)["slope"] <= 2.0


def test_sgd_without_momentum_misses_the_squared_gradients() -> None:
    run, rates = _trained(4)
    plain = Run(weights=run.weights, steps=run.steps)

    (statement,) = sgd_statements(_evidence(plain, rates, method=Method.SGD))

    assert statement.missing == (SQUARES,)
