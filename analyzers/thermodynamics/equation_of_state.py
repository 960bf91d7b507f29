"""Whether the norm of the weights is the one at which learning rate and weight decay leave it alone."""

import math
from collections.abc import Iterator, Sequence

from jaynes_audit.analyzers.thermodynamics.ages import LEAST_RATE, OLD, YOUNG, age_of, rates_of
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.norms import blind_blocks, obstacle_of, refusal_of, still_share
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import Density

CLAIM = "the norm is the one that the present learning rate and weight decay give at rest"

AT_REST, AWAY = 0.10, 0.25  # of the rms, whose square the ratio is
FALLEN = 0.9  # of the highest rate: below it the rate has fallen


def state_statements(evidence: Evidence) -> Iterator[Statement]:
    """Say of each block whose scale the network cannot see whether it is at rest, quenched, or too young.

    The ratio 2 * decay * norm^2 / (rate * weights) is 1 at rest: the equation of state of an ideal gas whose pressure
    is the weight decay and whose volume is half the squared norm (Sadrtdinov et al. 2025, arXiv 2511.07308, for SGD;
    in this form for AdamW, Kosson et al. 2023, arXiv 2305.17212).
    """
    if refusal := refusal_of(evidence, Quantity.STATE_EQUATION, CLAIM):
        yield refusal
        return
    blocks = list(blind_blocks(evidence))
    if not blocks:
        because = "no set of its weights is known whose common scale the network cannot see"
        yield cannot_be_said(Quantity.STATE_EQUATION, "the run", CLAIM, because=because)
    for symmetry, layers in blocks:
        yield _of_block(evidence, symmetry.subject, layers)


def _of_block(evidence: Evidence, subject: str, layers: Sequence[Parameter]) -> Statement:
    if obstacle := obstacle_of(layers):
        return cannot_be_said(Quantity.STATE_EQUATION, subject, CLAIM, because=obstacle)
    # Groups may have rates of their own; noise adds the rate of each weight that is moved at all.
    moving = [each.sums.weights * (1 - still_share(each)) for each in layers]
    weights = sum(moving)
    rate = sum(float(rates_of(evidence, each)[-1]) * of for each, of in zip(layers, moving, strict=True)) / weights
    rates, age = rates_of(evidence, layers[0]), min(age_of(evidence, each) for each in layers)
    fictive = _twice_decayed(layers) / weights
    if rate < LEAST_RATE:
        because = "the learning rate is zero now, at which nothing ever comes to rest"
        return _stated(subject, (_fictive(fictive),), Answer.DOES_NOT_HOLD, f"quenched: {because}")
    ratio = fictive / rate
    figures = (Figure(name="ratio", value=ratio), _fictive(fictive), Figure(name="age", value=age))
    return _stated(subject, figures, *_answer(ratio, age, has_fallen=float(rates[-1]) < FALLEN * float(rates.max())))


def _answer(ratio: float, age: float, *, has_fallen: bool) -> tuple[Answer, str]:
    """The answer, and the state of the block in words."""
    told = f"the squared norm is {ratio:.3g} times the one at rest"
    away = abs(math.sqrt(ratio) - 1)
    if age < OLD:
        answer = Answer.DOES_NOT_HOLD if age < YOUNG and away > AWAY else Answer.CANNOT_BE_SAID
        return answer, f"not yet: at an age of {age:.2g} the start is not forgotten; {told}"
    if away <= AT_REST:
        return Answer.HOLDS, f"equilibrium: {told}"
    if away <= AWAY:
        return Answer.CANNOT_BE_SAID, f"near equilibrium: {told} (within {AT_REST:.0%} of the rms it holds)"
    if ratio > 1 and has_fallen:
        return Answer.DOES_NOT_HOLD, f"quenched: the learning rate fell faster than the norm could follow; {told}"
    return Answer.DOES_NOT_HOLD, f"off equilibrium, and no fall of the learning rate accounts for it: {told}"


def _stated(subject: str, figures: tuple[Figure, ...], answer: Answer, because: str) -> Statement:
    return Statement(
        quantity=Quantity.STATE_EQUATION,
        subject=subject,
        claim=CLAIM,
        figures=figures,
        answer=answer,
        because=because,
    )


def _fictive(rate: float) -> Figure:
    return Figure(name="fictive learning rate", value=rate)


def _twice_decayed(layers: Sequence[Parameter]) -> float:
    return sum(2 * (each.weight_decay or 0.0) * each.sums.total(Density.SQUARE) for each in layers)
