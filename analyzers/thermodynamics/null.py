"""What learning rates and weight decay alone would make of mu: the null beside a mu that looks universal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, TrainingState
from jaynes_audit.analyzers.thermodynamics.ages import DECOUPLED, LARGEST_RATE, LEAST_RATE, run_age
from jaynes_audit.analyzers.thermodynamics.norms import LOG_MEAN_OF_GAUSSIAN, predicted_mean_square

LEAST_MATRICES = 3  # of fewer, a spread says nothing
RATES_OF_A_GROUP = ("initial_learning_rate", "learning_rate")
FORGOTTEN = 0.01  # of the squared initial norm; with less left, it does not matter what that was


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerNull:
    """The mu of matrices beside what AdamW would give to weights whose scale the network cannot see.

    `predicted_log_mean` is the mu of Gaussian weights with the predicted rms, the same for all of the `matrices`.
    `log_mean` is the mean of the measured mu and `spread` their standard deviation. `age` is the sum of learning rate
    times weight decay. `source` tells where the learning rates come from.
    """

    matrices: int
    age: float
    predicted_log_mean: float
    log_mean: float
    spread: float
    source: str


def optimizer_null(log_means: Sequence[float], training: TrainingState) -> OptimizerNull | None:
    """Say what AdamW alone would make of the mu of these matrices, all of them decayed alike.

    None where the learning rates, the weight decay or the method are not known, rates differ from group to group, decay
    is zero, there are fewer than three matrices, or the run is so young that its start still counts.
    """
    history, decay = training.history, _weight_decay(training)
    if history is None or not decay or _method(training) not in DECOUPLED or not _have_one_rate(training):
        return None
    rates = history.learning_rates
    if not rates.size or not LEAST_RATE <= rates.max() <= LARGEST_RATE or decay * rates.max() > 1:
        return None
    age = run_age(rates, decay)
    if math.exp(-2 * age) >= FORGOTTEN or len(log_means) < LEAST_MATRICES:
        return None
    return OptimizerNull(
        matrices=len(log_means),
        age=age,
        predicted_log_mean=math.log(predicted_mean_square(rates, decay, 0.0)) / 2 + LOG_MEAN_OF_GAUSSIAN,
        log_mean=fmean(log_means),
        spread=pstdev(log_means),
        source=history.source,
    )


def _weight_decay(training: TrainingState) -> float | None:
    """The decay of matrices: that of the group which is decayed, where groups differ only in whether they are."""
    if training.optimizer is None or not training.optimizer.groups:
        return training.weight_decay
    decays = {group.weight_decay for group in training.optimizer.groups if group.weight_decay}
    return decays.pop() if len(decays) == 1 else None


def _have_one_rate(training: TrainingState) -> bool:
    """Whether the history, which is that of the first group, is that of the decayed groups too."""
    groups = training.optimizer.groups if training.optimizer is not None else ()
    asked = [group for at, group in enumerate(groups) if at == 0 or group.weight_decay]
    return all(len({getattr(group, which) for group in asked}) <= 1 for which in RATES_OF_A_GROUP)


def _method(training: TrainingState) -> Method:
    return training.optimizer.method if training.optimizer is not None else training.method
