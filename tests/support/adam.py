"""AdamW and SGD in a few lines of NumPy: what the laws of their weight decay are held against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Gradients = Callable[[Mapping[str, Floats]], Mapping[str, Floats]]

BETA1, BETA2, EPSILON = 0.9, 0.95, 1e-8


@dataclass(slots=True, kw_only=True)
class Run:
    """Weights by name after so many steps, with the optimizer's means as torch stores them: not bias-corrected."""

    weights: dict[str, Floats]
    first: dict[str, Floats] = field(default_factory=dict)
    second: dict[str, Floats] = field(default_factory=dict)
    steps: int = 0


def adamw(run: Run, gradients: Gradients, rates: Sequence[float] | Floats, decay: Mapping[str, float]) -> Run:
    """Go on for one step a rate: decoupled decay (Loshchilov and Hutter 2019), then Adam's step (Kingma, Ba 2015)."""
    for rate in rates:
        run.steps += 1
        slopes = gradients(run.weights)
        for name, weights in run.weights.items():
            slope = slopes[name]
            first = BETA1 * run.first.get(name, np.zeros_like(weights)) + (1 - BETA1) * slope
            second = BETA2 * run.second.get(name, np.zeros_like(weights)) + (1 - BETA2) * slope**2
            run.first[name], run.second[name] = first, second
            step = (first / (1 - BETA1**run.steps)) / (np.sqrt(second / (1 - BETA2**run.steps)) + EPSILON)
            run.weights[name] = weights * (1 - rate * decay[name]) - rate * step
    return run


def sgd(run: Run, gradients: Gradients, rates: Sequence[float] | Floats, decay: Mapping[str, float]) -> Run:
    """Go on for one step a rate: plain gradient descent with L2 decay, as torch's SGD without momentum."""
    for rate in rates:
        run.steps += 1
        slopes = gradients(run.weights)
        for name, weights in run.weights.items():
            run.weights[name] = weights - rate * (slopes[name] + decay[name] * weights)
    return run
