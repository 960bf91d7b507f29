"""What the optimizer alone makes of mu."""

import math
from dataclasses import replace

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import (
    History,
    Method,
    OptimizerState,
    ParameterGroup,
    TrainingState,
)
from jaynes_audit.analyzers.thermodynamics.null import optimizer_null

RATE, DECAY, STEPS = 1e-2, 0.1, 5_000
AT_REST = math.sqrt(RATE / (2 * DECAY))  # Kosson et al. 2023
GAUSSIAN = -(float(np.euler_gamma) + math.log(2)) / 2
MUS = [-2.0, -2.1, -2.2]


def _training(steps: int = STEPS, decay: float | None = DECAY, method: Method = Method.ADAMW) -> TrainingState:
    history = History(learning_rates=np.full(steps, RATE), logged=steps, source="the log")
    return TrainingState(history=history, weight_decay=decay, method=method)


def test_a_run_at_rest_gives_every_matrix_the_mu_of_its_learning_rate_and_decay() -> None:
    null = optimizer_null(MUS, _training())

    assert null is not None
    assert null.predicted_log_mean == pytest.approx(math.log(AT_REST) + GAUSSIAN, abs=1e-3)
    assert null.log_mean == pytest.approx(np.mean(MUS))
    assert null.spread == pytest.approx(np.std(MUS))


def test_nothing_is_predicted_of_a_run_that_remembers_its_start() -> None:
    assert optimizer_null(MUS, _training(steps=1_000)) is None


@pytest.mark.parametrize(
    "training",
    [
        TrainingState(),
        _training(decay=None),
        _training(decay=0.0),
        _training(method=Method.ADAM_L2),
        _training(method=Method.UNKNOWN),
    ],
    ids=["nothing known", "no decay known", "decay zero", "another optimizer", "no optimizer known"],
)
def test_nothing_is_predicted_of_what_is_not_known(training: TrainingState) -> None:
    assert optimizer_null(MUS, training) is None


def test_groups_of_several_decays_predict_nothing_and_one_that_is_not_decayed_does_not_count() -> None:
    def null(*decays: float) -> object:
        groups = tuple(ParameterGroup(weight_decay=decay) for decay in decays)
        optimizer = OptimizerState(
            files=(), method=Method.ADAMW, evidence="", groups=groups, parameters=(), is_named=False
        )
        history = History(learning_rates=np.full(STEPS, RATE), logged=STEPS, source="the log")
        return optimizer_null(MUS, TrainingState(history=history, optimizer=optimizer))

    assert null(0.1, 0.0) is not None
    assert null(0.1, 0.2) is None


def test_groups_with_learning_rates_of_their_own_predict_nothing() -> None:
    def null(*rates: float) -> object:
        groups = tuple(ParameterGroup(weight_decay=DECAY, initial_learning_rate=rate) for rate in rates)
        optimizer = OptimizerState(
            files=(), method=Method.ADAMW, evidence="", groups=groups, parameters=(), is_named=False
        )
        return optimizer_null(MUS, replace(_training(), optimizer=optimizer))

    assert null(RATE, RATE) is not None
    assert null(RATE, RATE / 10) is None


@pytest.mark.parametrize(
    ("rates", "decay"), [([], 0.1), ([0.0], 0.1), ([1e-200], 1e201), ([1e308] * 2, 1e-300), ([1e160] * 2, 1e160)]
)
def test_rates_of_no_real_run_predict_nothing(rates: list[float], decay: float) -> None:
    history = History(learning_rates=np.array(rates), logged=0, source="the log")

    assert optimizer_null(MUS, replace(_training(decay=decay), history=history)) is None
