"""What learning rates and weight decay alone would make of mu: the null beside a mu that looks universal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, TrainingState
from jaynes_audit.analyzers.thermodynamics.ages import DECOUPLED, run_age
from jaynes_audit.analyzers.thermodynamics.norms import LOG_MEAN_OF_GAUSSIAN, predicted_mean_square

LEAST_MATRICES = 3  # of fewer, a spread says nothing
FORGOTTEN = 0.01  # of the squared initial norm; with less left, it does not matter what that was


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The mu of a matrix, and the standard deviation of its initial weights where config.json declares one."""

    log_mean: float
    declared_sd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerNull:
    """The mu of matrices beside what AdamW would give to weights whose scale the network cannot see.

    `predicted_log_mean` is the mean over the `matrices` of the mu of Gaussian weights with the predicted rms,
    `log_mean` that of the measured mu; the spreads are standard deviations over the matrices, `left_spread` that of
    what the prediction leaves. `age` is the sum of learning rate times weight decay. `source` tells where the learning
    rates come from.
    """

    matrices: int
    age: float
    predicted_log_mean: float
    log_mean: float
    predicted_spread: float
    spread: float
    left_spread: float
    source: str


def optimizer_null(matrices: Sequence[Matrix], training: TrainingState) -> OptimizerNull | None:
    """Say what AdamW alone would make of the mu of these matrices, all of them decayed alike.

    None where the learning rates, the weight decay or the method are not known, decay is zero, or fewer than three
    matrices have a known start or have forgotten it.
    """
    history, decay = training.history, _weight_decay(training)
    if history is None or not decay or _method(training) not in DECOUPLED:
        return None
    rates = history.learning_rates
    age = run_age(rates, decay)
    has_forgotten = math.exp(-2 * age) < FORGOTTEN
    known = [(each, 0.0 if has_forgotten else each.declared_sd) for each in matrices]
    pairs = [
        (each.log_mean, math.log(predicted_mean_square(rates, decay, start**2)) / 2 + LOG_MEAN_OF_GAUSSIAN)
        for each, start in known
        if start is not None and rates.any()
    ]
    if len(pairs) < LEAST_MATRICES:
        return None
    measured, predicted = [mu for mu, _ in pairs], [mu for _, mu in pairs]
    return OptimizerNull(
        matrices=len(pairs),
        age=age,
        predicted_log_mean=fmean(predicted),
        log_mean=fmean(measured),
        predicted_spread=pstdev(predicted),
        spread=pstdev(measured),
        left_spread=pstdev([mu - null for mu, null in pairs]),
        source=history.source,
    )


def _weight_decay(training: TrainingState) -> float | None:
    """The decay of matrices: that of the group which is decayed, where groups differ only in whether they are."""
    if training.optimizer is None or not training.optimizer.groups:
        return training.weight_decay
    decays = {group.weight_decay for group in training.optimizer.groups if group.weight_decay}
    return decays.pop() if len(decays) == 1 else None


def _method(training: TrainingState) -> Method:
    return training.optimizer.method if training.optimizer is not None else training.method
