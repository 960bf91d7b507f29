"""What the optimizer alone makes of mu."""

import math

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import (
    History,
    Method,
    OptimizerState,
    ParameterGroup,
    TrainingState,
)
from jaynes_audit.analyzers.thermodynamics.null import Matrix, optimizer_null

RATE, DECAY, STEPS = 1e-2, 0.1, 5_000
AT_REST = math.sqrt(RATE / (2 * DECAY))  # Kosson et al. 2023
GAUSSIAN = -(float(np.euler_gamma) + math.log(2)) / 2


def _training(steps: int = STEPS, decay: float | None = DECAY, method: Method = Method.ADAMW) -> TrainingState:
    history = History(learning_rates=np.full(steps, RATE), logged=steps, source="the log")
    return TrainingState(history=history, weight_decay=decay, method=method)


def _matrices(mus: list[float], declared_sd: float | None = None) -> list[Matrix]:
    return [Matrix(log_mean=mu, declared_sd=declared_sd) for mu in mus]


def test_a_run_at_rest_gives_every_matrix_the_mu_of_its_learning_rate_and_decay() -> None:
    null = optimizer_null(_matrices([-2.0, -2.1, -2.2]), _training())

    assert null is not None
    assert null.predicted_log_mean == pytest.approx(math.log(AT_REST) + GAUSSIAN, abs=1e-3)
    assert null.predicted_spread == 0
    assert null.spread == null.left_spread == pytest.approx(np.std([-2.0, -2.1, -2.2]))


def test_a_young_run_needs_the_start_and_keeps_its_spread() -> None:
    young = _training(steps=10)
    starts = [0.01, 0.1, 1.0]
    matrices = [Matrix(log_mean=math.log(sd) + GAUSSIAN, declared_sd=sd) for sd in starts]

    null = optimizer_null(matrices, young)

    assert optimizer_null(_matrices([-2.0, -2.1, -2.2]), young) is None
    assert null is not None
    assert null.left_spread < 0.7 * null.spread


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
    assert optimizer_null(_matrices([-2.0, -2.1, -2.2]), training) is None


def test_groups_of_several_decays_predict_nothing_and_one_that_is_not_decayed_does_not_count() -> None:
    def null(*decays: float) -> object:
        groups = tuple(ParameterGroup(weight_decay=decay) for decay in decays)
        optimizer = OptimizerState(
            files=(), method=Method.ADAMW, evidence="", groups=groups, parameters=(), is_named=False
        )
        history = History(learning_rates=np.full(STEPS, RATE), logged=STEPS, source="the log")
        return optimizer_null(_matrices([-2.0, -2.1, -2.2]), TrainingState(history=history, optimizer=optimizer))

    assert null(0.1, 0.0) is not None
    assert null(0.1, 0.2) is None
