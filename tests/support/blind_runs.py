"""A matrix whose scale the loss cannot see, trained by AdamW on noise: the case that the laws are exact for."""

from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.thermodynamics.symmetry import Axis, Symmetry, SymmetryKind, Term
from tests.support.adam import Gradients, Run, adamw

Floats = npt.NDArray[np.float64]

NAME = "fc.weight"
DECAY = 0.3
BLIND = Symmetry(
    kind=SymmetryKind.RESIDUAL_WRITES,
    subject="residual-stream writes",
    depth=None,
    channels=1,
    plus=(Term(layer=NAME, axis=Axis.ALL),),
)


def at_start(*, rms: float = 0.08, seed: int = 0) -> tuple[Run, Gradients]:
    """The matrix before training, and its gradient: noise at a right angle to it, over its own norm."""
    generator = np.random.default_rng(seed)
    run = Run(weights={NAME: generator.normal(0, rms, (32, 64))})

    def noise(weights: Mapping[str, Floats]) -> dict[str, Floats]:
        matrix = weights[NAME]
        gradient = generator.normal(size=matrix.shape)
        along = (gradient * matrix).sum() / (matrix**2).sum()
        return {NAME: (gradient - along * matrix) / np.linalg.norm(matrix)}

    return run, noise


def trained(rates: Floats) -> Run:
    """The matrix after a step of each rate. It is shared between tests, so nobody goes on training it."""
    return _trained(tuple(rates))


@cache
def _trained(rates: tuple[float, ...]) -> Run:
    run, noise = at_start()
    return adamw(run, noise, rates, {NAME: DECAY})
