"""Whether what the noise of the steps adds, and what weight decay takes, are in balance on both sides of a symmetry."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.training_state.state import Method
from jaynes_audit.analyzers.thermodynamics.ages import age_of, effective_rates, missing_for_decay, rates_of, unknown
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.noether import LEAST_CHANNELS, MEMORY, doubt
from jaynes_audit.analyzers.thermodynamics.norms import predicted_mean_square, refusal_of
from jaynes_audit.analyzers.thermodynamics.sides import are_measured, correlation, live, sides
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density, Floats
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry

CLAIM = "the noise of AdamW's steps and weight decay balance, channel by channel (our derivation)"
SGD_CLAIM = "the noise of SGD's steps and weight decay balance, channel by channel"
SQUARES = "the mean of squared gradients, of which SGD keeps at most a trace (its momentum_buffer)"

SLOPES = (0.7, 1.4)
LEAST_CORRELATION = 0.6
LEAST_AGE = 1.0
SETTLED = 3.0  # the age from which most pairs of small networks are in balance, five in six or more
FALLEN = 1.3  # times the present rate: where weights follow a rate above that, it fell faster than they could
USUAL_OF_ONE_BUFFER = (0.3, 2.0)  # of small networks at rest, from one checkpoint to another


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How what noise adds compares with what decay takes, over the live channels of a symmetry.

    `slope` is that of the line through the origin: 1 in balance. It is 0 where decay takes nothing. `correlation` is 0
    where it is not defined.
    """

    slope: float
    correlation: float
    live_channels: int

    @classmethod
    def between(cls, added: Floats, taken: Floats, alive: npt.NDArray[np.bool_]) -> "Balance":
        """Compare two sides, each of shape (channels,)."""
        added, taken = added[alive], taken[alive]
        squared = float(np.dot(taken, taken))
        return cls(
            slope=float(np.dot(added, taken)) / squared if squared > 0 else 0.0,
            correlation=correlation(added, taken) if added.size else 0.0,
            live_channels=int(alive.sum()),
        )


def adamw_balance(
    symmetry: Symmetry, sums: Mapping[str, AxisSums], rates: Mapping[str, float], decays: Mapping[str, float]
) -> Balance:
    """Compare rate * sqrt(v) with 2 * decay * sqrt(v) * w^2, each summed over the plus less the minus side.

    `rates` and `decays` have those of each layer of the symmetry. Derived here, to leading order in the rate: at a step
    the charge sum(w^2 sqrt(v) / rate) of a symmetry loses 2 * rate * decay of itself, and gains rate * sum(sqrt(v)).
    Without a minus side and with equal v it is the known mean square, rate / (2 decay) (Kosson et al. 2023, arXiv
    2305.17212).

    Raises:
        KeyError: where `are_measured` does not hold for `ROOT_SECOND`, or a rate or a decay is missing.
    """
    plus, minus = sides(symmetry, sums, Density.ROOT_SECOND)
    added, added_to_minus = sides(symmetry, sums, Density.ROOT_SECOND, rates)
    taken, taken_of_minus = sides(symmetry, sums, Density.ROOT_SECOND_TIMES_SQUARE, decays)
    return Balance.between(added - added_to_minus, 2 * (taken - taken_of_minus), live(plus, minus))


def sgd_balance(symmetry: Symmetry, sums: Mapping[str, AxisSums], rate: float, decay: float) -> Balance:
    """Compare rate * E g^2 with decay * (2 - rate * decay) * w^2, each summed over the plus less the minus side.

    The mean squared gradient is the sums' `FIRST_SQUARE`. Exact at rest: Q' = (1 - rate decay)^2 Q + rate^2 g^T A g for
    the charge Q of a symmetry A, since the cross term vanishes (Kunin et al. 2021, arXiv 2012.04728; Ziyin et al. 2025,
    "Neural Thermodynamics I", arXiv 2505.12387, for the balance at rest).

    Raises:
        KeyError: where `are_measured` does not hold for `FIRST_SQUARE`.
    """
    plus, minus = sides(symmetry, sums, Density.FIRST_SQUARE)
    square, square_of_minus = sides(symmetry, sums, Density.SQUARE)
    taken = decay * (2 - rate * decay) * (square - square_of_minus)
    return Balance.between(rate * (plus - minus), taken, live(plus, minus))


def adamw_statements(evidence: Evidence) -> Iterator[Statement]:
    """Say of each symmetry whether noise and decay are in balance."""
    quantity = Quantity.ADAMW_BALANCE
    if refusal := refusal_of(evidence, quantity, CLAIM) or _without_memory(evidence, quantity, CLAIM):
        yield refusal
        return
    for symmetry in evidence.symmetries:
        if obstacle := _obstacle(evidence, symmetry, Density.ROOT_SECOND):
            yield cannot_be_said(quantity, symmetry.subject, CLAIM, because=obstacle)
        else:
            yield _of_adamw(evidence, symmetry)


def sgd_statements(evidence: Evidence) -> Iterator[Statement]:
    """Show for each symmetry how noise and decay compare, as far as SGD's momentum tells: too noisy to judge by."""
    quantity = Quantity.SGD_BALANCE
    if refusal := _without_sgd(evidence) or _without_memory(evidence, quantity, SGD_CLAIM):
        yield refusal
        return
    for symmetry in evidence.symmetries:
        if obstacle := _obstacle(evidence, symmetry, Density.FIRST_SQUARE):
            yield cannot_be_said(quantity, symmetry.subject, SGD_CLAIM, because=obstacle)
        else:
            yield _of_sgd(evidence, symmetry)


def _without_sgd(evidence: Evidence) -> Statement | None:
    """Why the law of SGD cannot be asked, if that is so."""
    missing = missing_for_decay(evidence)
    if missing:
        because = unknown(missing)
    elif evidence.method is not Method.SGD:
        because = f"the law is SGD's, and the optimizer is {evidence.method}"
    elif not evidence.decayed:
        because = "weight decay is zero, so there is no scale to come to rest at"
    elif not any(Density.FIRST_SQUARE in each.outputs for each in evidence.sums.values()):
        because, missing = f"it takes {SQUARES}", (SQUARES,)
    else:
        return None
    return cannot_be_said(Quantity.SGD_BALANCE, "the run", SGD_CLAIM, because=because, missing=missing)


def _without_memory(evidence: Evidence, quantity: Quantity, claim: str) -> Statement | None:
    """Why neither law can be asked, if that is so."""
    if not evidence.symmetries:
        return cannot_be_said(quantity, "the run", claim, because="no symmetry of this network is known")
    if because := doubt(evidence):
        missing = () if evidence.optimizer else (MEMORY,)
        return cannot_be_said(quantity, "the run", claim, because=because, missing=missing)
    return None


def _layers(evidence: Evidence, symmetry: Symmetry) -> Sequence[Parameter]:
    names = dict.fromkeys(term.layer for term in (*symmetry.plus, *symmetry.minus))
    return [evidence.parameters[name] for name in names]


def _obstacle(evidence: Evidence, symmetry: Symmetry, density: Density) -> str:
    """Why one symmetry cannot be asked, in a few words; empty where it can."""
    if not are_measured(symmetry, evidence.sums, density):
        return "the optimizer remembers nothing of a part of it"
    layers = _layers(evidence, symmetry)
    if any(each.weight_decay is None for each in layers):
        return "the weight decay of a part of it is not known"
    decayed = [each for each in layers if each.weight_decay]
    if not decayed:
        return "weight decay does not act on it, so there is no scale to come to rest at"
    age = _age(evidence, layers)
    return f"it is too young: its age is {age:.2g}, and the law takes {LEAST_AGE:g}" if age < LEAST_AGE else ""


def _age(evidence: Evidence, layers: Sequence[Parameter]) -> float:
    return min(age_of(evidence, each) for each in layers if each.weight_decay)


def _followed_rates(evidence: Evidence, layers: Sequence[Parameter]) -> dict[str, float]:
    """The rate that the weights of each layer follow: the last one, or behind a falling one a past one.

    It is the rate at which AdamW's weights would rest with the rms that the whole schedule gave them. A side without
    decay follows that of the other.
    """
    slowest = min((each for each in layers if each.weight_decay), key=lambda each: age_of(evidence, each))
    decay = slowest.weight_decay or 0.0
    followed = 2 * decay * predicted_mean_square(rates_of(evidence, slowest), decay, 0.0)
    own = {each.layer.name: float(rates_of(evidence, each).sum()) for each in layers}
    return {name: followed * rate / own[slowest.layer.name] for name, rate in own.items()}


def _of_adamw(evidence: Evidence, symmetry: Symmetry) -> Statement:
    layers = _layers(evidence, symmetry)
    rates = _followed_rates(evidence, layers)
    decays = {each.layer.name: each.weight_decay or 0.0 for each in layers}
    balance = adamw_balance(symmetry, evidence.sums, rates, decays)
    age, last = _age(evidence, layers), float(rates_of(evidence, layers[0])[-1])
    if age < SETTLED:
        excuse = f"at an age of {age:.2g} balance may still come"
    elif rates[layers[0].layer.name] > FALLEN * last:
        excuse = "the learning rate fell faster than the weights could follow"
    else:
        excuse = ""
    return _stated(Quantity.ADAMW_BALANCE, symmetry, CLAIM, balance, _judged(balance, excuse))


def _judged(balance: Balance, excuse: str) -> tuple[Answer, str]:
    """The answer; where the two are out of balance and there is an excuse, nothing is said."""
    low, high = SLOPES
    if balance.live_channels < LEAST_CHANNELS:
        because = f"it has {balance.live_channels} live channels, and fewer than {LEAST_CHANNELS} tell nothing"
        return Answer.CANNOT_BE_SAID, because
    told = (
        f"noise adds {balance.slope:.3g} times what decay takes, with a correlation of {balance.correlation:.2f} "
        f"over its channels (from {low} to {high} times, and a correlation from {LEAST_CORRELATION} on, it holds)"
    )
    if low <= balance.slope <= high and balance.correlation >= LEAST_CORRELATION:
        return Answer.HOLDS, told
    return (Answer.CANNOT_BE_SAID, f"{told}; {excuse}") if excuse else (Answer.DOES_NOT_HOLD, told)


def _of_sgd(evidence: Evidence, symmetry: Symmetry) -> Statement:
    layers = _layers(evidence, symmetry)
    decays = {each.weight_decay or 0.0 for each in layers}
    momenta = {each.group.momentum if each.group is not None else None for each in layers}
    decay, momentum = decays.pop(), momenta.pop()
    if decays or momenta or momentum is None or not 0 <= momentum < 1:
        because = "its layers have unlike settings, or no known momentum"
        return cannot_be_said(Quantity.SGD_BALANCE, symmetry.subject, SGD_CLAIM, because=because)
    # A buffer of so much momentum holds 1 / (1 - momentum^2) squared gradients, and steps sum up to 1 / (1 - momentum).
    rate = float(effective_rates(evidence, layers[0])[-1]) * (1 - momentum**2)
    balance = sgd_balance(symmetry, evidence.sums, rate, decay)
    low, high = USUAL_OF_ONE_BUFFER
    because = (
        f"the momentum of one checkpoint says that noise adds {balance.slope:.3g} times what decay takes, and it is "
        f"too noisy to judge by: {low:g} to {high:g} times is usual in balance"
    )
    return _stated(Quantity.SGD_BALANCE, symmetry, SGD_CLAIM, balance, (Answer.CANNOT_BE_SAID, because))


def _stated(
    quantity: Quantity, symmetry: Symmetry, claim: str, balance: Balance, answered: tuple[Answer, str]
) -> Statement:
    answer, because = answered
    return Statement(
        quantity=quantity,
        subject=symmetry.subject,
        claim=claim,
        figures=(
            Figure(name="slope", value=balance.slope),
            Figure(name="correlation", value=balance.correlation),
            Figure(name="live channels", value=balance.live_channels),
        ),
        answer=answer,
        because=because,
    )
