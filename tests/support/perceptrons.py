"""Perceptrons in plain NumPy, and the gradients of their squared error."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.thermodynamics.symmetries import symmetries_of
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry
from tests.support.adam import Gradients, Run
from tests.support.training_evidence import evidence_of

Floats = npt.NDArray[np.float64]


def initial_weights(
    widths: Sequence[int], *, gain: float = 2.0, seed: int = 0, with_biases: bool = False
) -> dict[str, Floats]:
    """Gaussian `0.weight`, `1.weight` ... of variance gain / inputs; zero biases, but none of the outputs."""
    generator = np.random.default_rng(seed)
    weights: dict[str, Floats] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        weights[f"{layer}.weight"] = generator.normal(0, np.sqrt(gain / inputs), (outputs, inputs))
        if with_biases and layer < len(widths) - 2:
            weights[f"{layer}.bias"] = np.zeros(outputs)
    return weights


def pairs_of(weights: Mapping[str, Floats], activation: str) -> tuple[Symmetry, ...]:
    """The symmetries that are known of such a perceptron."""
    layers = [each.layer for each in evidence_of(Run(weights=dict(weights))).parameters.values()]
    return symmetries_of(layers, {"activation": activation}, {})


def on_samples(inputs: Floats, targets: Floats, activation: str) -> Gradients:
    """The gradients on all of the samples, the same at every step."""
    return lambda weights: _backward(weights, inputs, targets, activation)


def on_noise(teacher: Mapping[str, Floats], activation: str, *, noise: float, batch: int, seed: int = 1) -> Gradients:
    """The gradients on Gaussian samples, new at every step, whose targets are those of a teacher and noise."""
    generator = np.random.default_rng(seed)
    width = teacher["0.weight"].shape[1]

    def gradients(weights: Mapping[str, Floats]) -> dict[str, Floats]:
        inputs = generator.normal(size=(batch, width))
        targets = _forward(teacher, inputs, activation)[-1]
        return _backward(weights, inputs, targets + noise * generator.normal(size=targets.shape), activation)

    return gradients


def _forward(weights: Mapping[str, Floats], inputs: Floats, activation: str) -> list[Floats]:
    """What every layer reads, and the outputs."""
    reached = [inputs]
    layers = sum(name.endswith(".weight") for name in weights)
    for layer in range(layers):
        outputs = reached[-1] @ weights[f"{layer}.weight"].T + weights.get(f"{layer}.bias", 0.0)
        reached.append(np.maximum(outputs, 0) if activation == "relu" and layer < layers - 1 else outputs)
    return reached


def _backward(weights: Mapping[str, Floats], inputs: Floats, targets: Floats, activation: str) -> dict[str, Floats]:
    reached = _forward(weights, inputs, activation)
    error = 2 * (reached[-1] - targets) / targets.size
    gradients: dict[str, Floats] = {}
    for layer in reversed(range(len(reached) - 1)):
        gradients[f"{layer}.weight"] = error.T @ reached[layer]
        if f"{layer}.bias" in weights:
            gradients[f"{layer}.bias"] = error.sum(axis=0)
        error = error @ weights[f"{layer}.weight"]
        if activation == "relu":
            error = error * (reached[layer] > 0)
    return gradients
