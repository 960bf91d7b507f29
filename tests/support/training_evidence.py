"""Evidence of a training run from plain arrays, its sums made by NumPy in one line each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.state import (
    History,
    Method,
    OptimizerState,
    ParameterGroup,
    ParameterState,
    TrainingState,
)
from jaynes_audit.analyzers.chunks import layers_of
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Pairing, Parameter
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry
from tests.support.adam import BETA1, BETA2, EPSILON, Run

Floats = npt.NDArray[np.float64]

NOWHERE = Path("weights.safetensors")


def sums_of(weights: Floats, first: Floats | None = None, second: Floats | None = None, steps: int = 1) -> AxisSums:
    """The sums of a layer whose rows are its outputs; the means are as torch stores them."""
    matrix = weights.reshape(len(weights), -1)
    densities = {Density.WEIGHT: matrix, Density.SQUARE: matrix**2}
    if first is not None and second is None:  # SGD's momentum
        buffer = first.reshape(matrix.shape)
        densities |= {Density.FIRST_TIMES_WEIGHT: buffer * matrix, Density.FIRST_SQUARE: buffer**2}
    if first is not None and second is not None:
        m = first.reshape(matrix.shape) / (1 - BETA1**steps)
        v = second.reshape(matrix.shape) / (1 - BETA2**steps)
        u = m / (np.sqrt(v) + EPSILON)
        densities |= {
            Density.FIRST: m,
            Density.FIRST_TIMES_WEIGHT: m * matrix,
            Density.SECOND: v,
            Density.ROOT_SECOND: np.sqrt(v),
            Density.ROOT_SECOND_TIMES_WEIGHT: np.sqrt(v) * matrix,
            Density.ROOT_SECOND_TIMES_SQUARE: np.sqrt(v) * matrix**2,
            Density.FIRST_TIMES_UPDATE: m * u,
            Density.UPDATE_TIMES_WEIGHT: u * matrix,
            Density.UPDATE_SQUARE: u**2,
        }
    return AxisSums(
        weights=matrix.size,
        outputs={density: array.sum(axis=1) for density, array in densities.items()},
        inputs={density: array.sum(axis=0) for density, array in densities.items()},
    )


def evidence_of(
    run: Run,
    *,
    rates: Sequence[float] | Floats | None = None,
    decay: Mapping[str, float] | None = None,
    symmetries: Sequence[Symmetry] = (),
    initial: Mapping[str, float] | None = None,
    method: Method = Method.ADAMW,
    training: TrainingState | None = None,
    is_certain: bool = True,
) -> Evidence:
    """Evidence of a run as it stands; without `decay` nothing is known of it, without means there is no optimizer."""
    learning_rates = None if rates is None else np.asarray(rates, dtype=np.float64)
    training = training or TrainingState()
    given = {
        "steps": run.steps,
        "method": method,
        "history": None
        if learning_rates is None
        else History(learning_rates=learning_rates, logged=len(learning_rates), source="the test"),
        "optimizer": _optimizer(run, method) if run.first else None,
    }
    known = {name: getattr(training, name) for name in TrainingState.__dataclass_fields__}
    return Evidence(
        target="run",
        config={"hidden_act": "relu"},
        parameters={name: _parameter(name, run, decay) for name in run.weights},
        symmetries=tuple(symmetries),
        training=TrainingState(**(known | given)),
        pairing=Pairing(keys={name: name for name in run.first}, is_certain=is_certain, evidence="by name"),
        initial=initial or {},
        initial_source="the test" if initial else "",
    )


def _parameter(name: str, run: Run, decay: Mapping[str, float] | None) -> Parameter:
    weights = run.weights[name]
    (layer,) = layers_of(_tensor(name, weights), {})
    return Parameter(
        layer=layer,
        sums=sums_of(weights, run.first.get(name), run.second.get(name), run.steps),
        group=None,
        weight_decay=None if decay is None else decay[name],
        steps=run.steps,
    )


def _tensor(name: str, weights: Floats) -> Tensor:
    return Tensor(name=name, dtype=Dtype.F64, shape=weights.shape, file=NOWHERE, start=0, end=weights.nbytes)


def _optimizer(run: Run, method: Method) -> OptimizerState:
    return OptimizerState(
        files=("optimizer.pt",),
        method=method,
        evidence="the test",
        groups=(ParameterGroup(),),
        parameters=tuple(
            ParameterState(key=name, group=0, shape=weights.shape, steps=run.steps, first=_tensor(name, weights))
            for name, weights in run.weights.items()
        ),
        is_named=True,
    )
