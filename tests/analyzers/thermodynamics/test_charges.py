"""Charges of symmetries and their drift, in networks that small steps of gradient descent trained."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, TrainingState
from jaynes_audit.analyzers.thermodynamics.charges import EARLIER, EARLIER_STEP, charge_statements
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Statement
from tests.support.adam import Gradients, Run, adamw, sgd
from tests.support.perceptrons import initial_weights, on_noise, on_samples, pairs_of
from tests.support.training_evidence import evidence_of

Floats = npt.NDArray[np.float64]

WIDTHS = (10, 8, 6)


def _linear() -> tuple[Run, Gradients]:
    """A linear network of two unlike matrices, and its gradients on samples of a linear map with noise."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(200, 10)) * np.linspace(0.5, 1.5, 10)
    targets = inputs @ generator.normal(0, 10**-0.5, (10, 6)) + 0.5 * generator.normal(size=(200, 6))
    weights = {"0.weight": generator.normal(0, 0.6, (8, 10)), "1.weight": generator.normal(0, 0.2, (6, 8))}
    return Run(weights=weights), on_samples(inputs, targets, "linear")


def _matrix_charge(weights: Mapping[str, Floats]) -> Floats:
    """W1 W1^T - W2^T W2, of which the report shows the diagonal."""
    return weights["0.weight"] @ weights["0.weight"].T - weights["1.weight"].T @ weights["1.weight"]


def _evidence(
    run: Run, rates: npt.ArrayLike, decay: float, *, method: Method = Method.SGD, activation: str = "linear"
) -> Evidence:
    return evidence_of(
        run,
        rates=np.asarray(rates, dtype=np.float64),
        decay=dict.fromkeys(run.weights, decay),
        symmetries=pairs_of(run.weights, activation),
        method=method,
        training=TrainingState(),
    )


def _copied(run: Run) -> Run:
    return Run(weights=dict(run.weights), steps=run.steps)


def _figures(statement: Statement) -> dict[str, float]:
    return {each.name: each.value for each in statement.figures}


@pytest.mark.parametrize("decay", [0.03, 0.1])
def test_the_charge_of_a_linear_network_decays_at_twice_the_weight_decay(decay: float) -> None:
    rate = 0.01
    network, gradients = _linear()
    every = int(0.15 / decay / rate)
    times, logs = [], []
    for _ in range(11):
        times.append(network.steps * rate)
        logs.append(math.log(np.linalg.norm(_matrix_charge(network.weights))))
        sgd(network, gradients, [rate] * every, dict.fromkeys(network.weights, decay))

    assert -np.polyfit(times, logs, 1)[0] / (2 * decay) == pytest.approx(1, abs=5e-3)


def test_without_decay_the_charge_drifts_in_proportion_to_the_rate() -> None:
    drifts = []
    for rate in (0.04, 0.02, 0.01):
        network, gradients = _linear()
        before = _matrix_charge(network.weights)
        sgd(network, gradients, [rate] * round(20 / rate), dict.fromkeys(network.weights, 0.0))
        drifts.append(float(np.linalg.norm(_matrix_charge(network.weights) - before) / np.linalg.norm(before)))

    assert drifts[0] / drifts[1] == pytest.approx(2, rel=0.15)
    assert drifts[1] / drifts[2] == pytest.approx(2, rel=0.15)
    assert drifts[0] < 0.02


@pytest.mark.parametrize("decay", [0.05, 0.0])
def test_small_steps_of_sgd_leave_charges_to_decay(decay: float) -> None:
    rate = 0.01
    network, gradients = _linear()
    sgd(network, gradients, [rate] * 300, dict.fromkeys(network.weights, decay))
    earlier = _evidence(_copied(network), [rate] * 300, decay)
    sgd(network, gradients, [rate] * 1_000, dict.fromkeys(network.weights, decay))
    evidence = replace(_evidence(network, [rate] * 1_300, decay), earlier=earlier)

    (statement,) = charge_statements(evidence)

    assert statement.answer is Answer.HOLDS
    assert _figures(statement)["left by decay"] == pytest.approx(math.exp(-2 * decay * rate * 1_000), rel=1e-3)
    assert _figures(statement)["off by"] < 0.05


def test_noise_that_moves_charges_breaks_no_law() -> None:
    weights = initial_weights(WIDTHS)
    noise = on_noise(initial_weights(WIDTHS, seed=9), "relu", noise=2.0, batch=2)
    network = Run(weights=weights)
    earlier = _evidence(_copied(network), [], 0.0, activation="relu")
    sgd(network, noise, [0.1] * 2_000, dict.fromkeys(network.weights, 0.0))
    evidence = replace(_evidence(network, [0.1] * 2_000, 0.0, activation="relu"), earlier=earlier)

    (statement,) = charge_statements(evidence)

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert _figures(statement)["off by"] > 0.05


def test_the_drift_under_adamw_is_shown_and_never_judged() -> None:
    network = Run(weights=initial_weights(WIDTHS))
    earlier = _evidence(_copied(network), [], 0.1, method=Method.ADAMW, activation="relu")
    noise = on_noise(initial_weights(WIDTHS, seed=9), "relu", noise=1.0, batch=8)
    adamw(network, noise, [1e-2] * 300, dict.fromkeys(network.weights, 0.1))
    evidence = _evidence(network, [1e-2] * 300, 0.1, method=Method.ADAMW, activation="relu")

    (statement,) = charge_statements(replace(evidence, earlier=earlier))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert _figures(statement)["drift"] > 0
    assert "off by" not in _figures(statement)


def test_the_charge_itself_is_that_of_the_definition() -> None:
    network, _ = _linear()
    squares = [
        (network.weights["0.weight"] ** 2).sum(axis=1) + sign * (network.weights["1.weight"] ** 2).sum(axis=0)
        for sign in (-1, 1)
    ]

    (statement,) = charge_statements(_evidence(network, [], 0.0))

    assert statement.missing == (EARLIER,)
    expected = np.linalg.norm(squares[0]) / np.linalg.norm(squares[1])
    assert _figures(statement) == {"charge / squared weights": pytest.approx(expected)}


def test_an_earlier_checkpoint_of_unknown_step_is_named_as_missing() -> None:
    network, _ = _linear()
    evidence = _evidence(network, [0.01] * 10, 0.0)
    earlier = replace(evidence, training=replace(evidence.training, steps=None))

    (statement,) = charge_statements(replace(evidence, earlier=earlier))

    assert statement.missing == (EARLIER_STEP,)
    assert "drift" in _figures(statement)


def test_sides_that_decay_unlike_are_shown_and_not_judged() -> None:
    network, _ = _linear()
    network.steps = 10
    unlike = {"0.weight": 0.1, "1.weight": 0.0}
    evidence = evidence_of(
        network, rates=[0.01] * 10, decay=unlike, symmetries=pairs_of(network.weights, "linear"), method=Method.SGD
    )
    earlier = replace(evidence, training=replace(evidence.training, steps=5))

    (statement,) = charge_statements(replace(evidence, earlier=earlier))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert "alike" in statement.because
