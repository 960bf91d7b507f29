"""Critical scales of initial weights, solved for by quadrature, and perceptrons held against them."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, special

from jaynes_audit.analyzers.checkpoints.training_state.state import TrainingState
from jaynes_audit.analyzers.thermodynamics.initialisation import (
    ACTIVATION,
    CRITICAL,
    STEP_0,
    aspect_statements,
    initialisation_statements,
)
from jaynes_audit.analyzers.thermodynamics.statement import Answer
from tests.support.measured_evidence import measured_evidence
from tests.support.perceptrons import initial_weights

Floats = npt.NDArray[np.float64]
Function = Callable[[Floats], Floats]

AT_START = TrainingState(steps=0)
WIDTHS = (64, 96, 96, 10)
GELU_OF_TANH = math.sqrt(2 / math.pi), 0.044715

NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(200)


def _mean(function: Function, variance: float) -> float:
    """The mean over a Gaussian of this variance."""
    return float(np.dot(NODE_WEIGHTS, function(math.sqrt(variance) * NODES)) / math.sqrt(2 * math.pi))


def _gelu(z: Floats) -> Floats:
    return z * special.ndtr(z)


def _slope_of_gelu(z: Floats) -> Floats:
    return special.ndtr(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _gelu_of_tanh(z: Floats) -> Floats:
    scale, cubic = GELU_OF_TANH
    return z / 2 * (1 + np.tanh(scale * (z + cubic * z**3)))


def _slope_of_gelu_of_tanh(z: Floats) -> Floats:
    scale, cubic = GELU_OF_TANH
    tanh = np.tanh(scale * (z + cubic * z**3))
    return (1 + tanh) / 2 + z / 2 * (1 - tanh**2) * scale * (1 + 3 * cubic * z**2)


def _silu(z: Floats) -> Floats:
    return z * special.expit(z)


def _slope_of_silu(z: Floats) -> Floats:
    gate = special.expit(z)
    return gate * (1 + z * (1 - gate))


@pytest.mark.parametrize(
    ("name", "activation", "slope", "low", "high"),
    [
        ("gelu", _gelu, _slope_of_gelu, 2.0, 6.0),
        ("gelu_new", _gelu_of_tanh, _slope_of_gelu_of_tanh, 2.0, 6.0),
        ("silu", _silu, _slope_of_silu, 8.0, 24.0),
    ],
)
def test_both_susceptibilities_are_one_at_the_critical_point(
    name: str, activation: Function, slope: Function, low: float, high: float
) -> None:
    def parallel(k: float) -> float:
        return _mean(lambda z: activation(z) ** 2 * (z**2 - k), k) / (2 * k**2)

    def perpendicular(k: float) -> float:
        return _mean(lambda z: slope(z) ** 2, k)

    fixed = optimize.brentq(lambda k: parallel(k) - perpendicular(k), low, high, xtol=1e-13)
    of_weights = 1 / perpendicular(fixed)
    of_biases = fixed - of_weights * _mean(lambda z: activation(z) ** 2, fixed)

    assert CRITICAL[name].weights == pytest.approx(of_weights, abs=2e-6)
    assert CRITICAL[name].biases == pytest.approx(of_biases, abs=2e-6)


@pytest.mark.parametrize(
    ("name", "slope_squared"),
    [
        ("relu", lambda z: (z > 0) * 1.0),
        ("linear", np.ones_like),
        ("tanh", lambda z: 1 / np.cosh(z) ** 4),
        ("sin", lambda z: np.cos(z) ** 2),
    ],
)
def test_where_small_signals_are_critical_the_mean_squared_slope_is_one(name: str, slope_squared: Function) -> None:
    assert CRITICAL[name].weights * _mean(slope_squared, 1e-8) == pytest.approx(1, abs=1e-6)
    assert CRITICAL[name].biases == 0


@pytest.mark.parametrize(
    ("activation", "gain", "answer"),
    [
        ("relu", 2.0, Answer.HOLDS),
        ("relu", 1.0, Answer.DOES_NOT_HOLD),
        ("relu", 2.4, Answer.CANNOT_BE_SAID),
        ("tanh", 1.0, Answer.HOLDS),
        ("tanh", 2.0, Answer.DOES_NOT_HOLD),
        ("gelu", 2.0, Answer.DOES_NOT_HOLD),
    ],
)
def test_initial_weights_are_held_against_the_critical_scale(
    tmp_path: Path, activation: str, gain: float, answer: Answer
) -> None:
    weights = initial_weights((64, 192, 192, 64), gain=gain, with_biases=True)
    evidence = measured_evidence(tmp_path, weights, {"activation": activation}, training=AT_START)

    statements = list(initialisation_statements(evidence))

    assert [each.subject for each in statements] == ["1.weight", "2.weight"]
    assert {each.answer for each in statements} == {answer}
    assert statements[0].figures[0].value == pytest.approx(gain, rel=0.05)


def test_pytorchs_default_is_called_by_its_name(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weights = {}
    for layer, (inputs, outputs) in enumerate([(64, 96), (96, 96), (96, 10)]):
        bound = inputs**-0.5  # both weights and biases of nn.Linear
        weights[f"{layer}.weight"] = generator.uniform(-bound, bound, (outputs, inputs))
        weights[f"{layer}.bias"] = generator.uniform(-bound, bound, outputs)
    evidence = measured_evidence(tmp_path, weights, {"activation": "relu"}, training=AT_START)

    for statement in initialisation_statements(evidence):
        assert statement.answer is Answer.DOES_NOT_HOLD
        assert statement.figures[0].value == pytest.approx(1 / 3, rel=0.1)
        assert "PyTorch's default" in statement.because


def _with_norm(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    return {**weights, "norm.weight": np.ones(96)}


def test_trained_weights_and_other_networks_cannot_be_said(tmp_path: Path) -> None:
    weights, config = initial_weights(WIDTHS, with_biases=True), {"activation": "relu"}
    trained = measured_evidence(tmp_path / "trained", weights, config, training=TrainingState(steps=10))
    unknown = measured_evidence(tmp_path / "unknown", weights, {}, training=AT_START)
    others = (
        measured_evidence(tmp_path / "norm", _with_norm(weights), config, training=AT_START),
        measured_evidence(tmp_path / "typed", weights, {**config, "model_type": "bert"}, training=AT_START),
        measured_evidence(tmp_path / "softplus", weights, {"activation": "softplus"}, training=AT_START),
        measured_evidence(tmp_path / "unchained", {**weights, "3.weight": np.ones((4, 4))}, config, training=AT_START),
    )

    (statement,) = initialisation_statements(trained)
    assert statement.missing == (STEP_0,)
    (statement,) = initialisation_statements(unknown)
    assert statement.missing == (ACTIVATION,)
    for each in others:
        for law in (initialisation_statements, aspect_statements):
            (statement,) = law(each)
            assert statement.answer is Answer.CANNOT_BE_SAID
            assert "not applicable" in statement.because


def test_few_weights_do_not_tell_their_variance(tmp_path: Path) -> None:
    evidence = measured_evidence(
        tmp_path, initial_weights((8, 8, 8), gain=0.1), {"activation": "relu"}, training=AT_START
    )

    (statement,) = initialisation_statements(evidence)

    assert statement.answer is Answer.CANNOT_BE_SAID


@pytest.mark.parametrize(
    ("activation", "widths", "best"),
    [
        ("relu", (64, 256, 256, 10), 0.016),
        ("relu", (64, 64, 64, 10), 0.016),
        ("tanh", (64, 64, 64, 10), 0.12),
        ("linear", (64, 256, 10), 0.04),
    ],
)
def test_depth_over_width_is_shown_beside_the_best_ratio(
    tmp_path: Path, activation: str, widths: tuple[int, ...], best: float
) -> None:
    (statement,) = aspect_statements(measured_evidence(tmp_path, initial_weights(widths), {"activation": activation}))

    assert statement.answer is Answer.CANNOT_BE_SAID
    ratio, of_theory = (each.value for each in statement.figures)
    assert ratio == pytest.approx((len(widths) - 1) / widths[1])
    assert of_theory == pytest.approx(best)


@pytest.mark.parametrize(("activation", "outputs"), [("relu", 100), ("gelu", 10)])
def test_more_outputs_than_neurons_or_an_activation_without_a_ratio_cannot_be_said(
    tmp_path: Path, activation: str, outputs: int
) -> None:
    weights = initial_weights((64, 64, 64, outputs))

    (statement,) = aspect_statements(measured_evidence(tmp_path, weights, {"activation": activation}))

    assert statement.answer is Answer.CANNOT_BE_SAID
