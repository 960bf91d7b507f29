"""Whether what the noise of the steps adds, and what weight decay takes, are in balance on both sides of a symmetry."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.training_state.state import Method
from jaynes_audit.analyzers.thermodynamics.ages import effective_rates, missing_for_decay, rates_of, unknown
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.noether import LEAST_CHANNELS, MEMORY, doubt, no_symmetry
from jaynes_audit.analyzers.thermodynamics.norms import refusal_of
from jaynes_audit.analyzers.thermodynamics.sides import are_measured, live, sides
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density, Floats
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry

CLAIM = "steps add to both sides of a pair, channel by channel, what weight decay takes from them"
SGD_CLAIM = "the noise of SGD's steps and weight decay balance, channel by channel"
SQUARES = "the mean of squared gradients, of which SGD keeps at most a trace (its momentum_buffer)"

SLOPES = (0.7, 1.4)
FAR_SLOPES = (0.5, 2.0)
LARGEST_ERROR = 0.25  # of the slope, and of a small slope 0.25 itself
USUAL_OF_ONE_BUFFER = (0.3, 2.0)  # of small networks at rest, from one checkpoint to another


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How what steps add compares with what decay takes, over the live channels of a symmetry.

    `slope` is that of the line through the origin: 1 in balance, 0 where decay takes nothing. `error` is its standard
    error, infinite where it is not defined.
    """

    slope: float
    error: float
    live_channels: int

    @classmethod
    def between(cls, added: Floats, taken: Floats, alive: npt.NDArray[np.bool_]) -> "Balance":
        """Compare two sides, each of shape (channels,)."""
        added, taken = added[alive], taken[alive]
        squared = float(np.dot(taken, taken))
        if squared <= 0 or added.size <= 1:
            return cls(slope=0.0, error=math.inf, live_channels=int(alive.sum()))
        slope = float(np.dot(added, taken)) / squared
        rest = added - slope * taken
        error = math.sqrt(float(np.dot(rest, rest)) / (added.size - 1) / squared)
        return cls(slope=slope, error=error, live_channels=int(alive.sum()))


def adamw_balance(
    symmetry: Symmetry, sums: Mapping[str, AxisSums], rates: Mapping[str, float], decays: Mapping[str, float]
) -> Balance:
    """Compare what the last step added to w^2 sqrt(v) / rate with what decay took, plus side less minus side.

    `rates` and `decays` have those of each layer of the symmetry. With w as it is after the step, the step added
    -2 m w - rate m u, and decay took 2 decay sqrt(v) w^2. Derived here, an account of one step: that symmetric pairs
    come to such a balance is the prediction of entropic forces (Ziyin et al. 2025, "Neural Thermodynamics I", arXiv
    2505.12387). The known law of rest, rate sqrt(v) for what is added, takes the gradients of successive steps for
    unrelated, which they are not.

    Raises:
        KeyError: where `are_measured` does not hold for `FIRST_TIMES_UPDATE`, or a rate or a decay is missing.
    """
    plus, minus = sides(symmetry, sums, Density.ROOT_SECOND)
    along, along_minus = sides(symmetry, sums, Density.FIRST_TIMES_WEIGHT)
    beyond, beyond_minus = sides(symmetry, sums, Density.FIRST_TIMES_UPDATE, rates)
    taken, taken_of_minus = sides(symmetry, sums, Density.ROOT_SECOND_TIMES_SQUARE, decays)
    added = -2 * (along - along_minus) - (beyond - beyond_minus)
    return Balance.between(added, 2 * (taken - taken_of_minus), live(plus, minus))


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
        if obstacle := _obstacle(evidence, symmetry, Density.FIRST_TIMES_UPDATE):
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
        because, lacking = no_symmetry(evidence)
        return cannot_be_said(quantity, "the run", claim, because=because, missing=lacking)
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
    if not any(each.weight_decay for each in layers):
        return "weight decay does not act on it, so there is nothing that steps could balance"
    return ""


def _of_adamw(evidence: Evidence, symmetry: Symmetry) -> Statement:
    layers = _layers(evidence, symmetry)
    rates = {each.layer.name: float(rates_of(evidence, each)[-1]) for each in layers}
    decays = {each.layer.name: each.weight_decay or 0.0 for each in layers}
    balance = adamw_balance(symmetry, evidence.sums, rates, decays)
    return _stated(Quantity.ADAMW_BALANCE, symmetry, CLAIM, balance, _judged(balance))


def _judged(balance: Balance) -> tuple[Answer, str]:
    if balance.live_channels < LEAST_CHANNELS:
        because = f"it has {balance.live_channels} live channels, and fewer than {LEAST_CHANNELS} tell nothing"
        return Answer.CANNOT_BE_SAID, because
    if not math.isfinite(balance.error):
        return Answer.CANNOT_BE_SAID, "decay takes as much from one side as from the other"
    told = f"the last step added {balance.slope:.3g} ± {balance.error:.2g} times what decay took"
    if not balance.error <= LARGEST_ERROR * max(1.0, abs(balance.slope)):
        return Answer.CANNOT_BE_SAID, f"{told}: its channels agree too little to tell"
    (low, high), (far_low, far_high) = SLOPES, FAR_SLOPES
    told = f"{told} (from {low} to {high} it holds, below {far_low} or above {far_high} it does not)"
    if low <= balance.slope <= high:
        return Answer.HOLDS, told
    return Answer.CANNOT_BE_SAID if far_low <= balance.slope <= far_high else Answer.DOES_NOT_HOLD, told


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
    figures = (
        Figure(name="slope", value=balance.slope),
        Figure(name="error", value=balance.error),
        Figure(name="live channels", value=balance.live_channels),
    )
    return Statement(
        quantity=quantity,
        subject=symmetry.subject,
        claim=claim,
        figures=tuple(figure for figure in figures if math.isfinite(figure.value)),
        answer=answer,
        because=because,
    )
