"""How unlike both sides of each symmetry are, and whether decay alone changed that since an earlier checkpoint."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, Rates
from jaynes_audit.analyzers.thermodynamics.ages import effective_rates, missing_for_decay, unknown
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.sides import are_measured, sides
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import Density, Floats
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry

CLAIM = "the difference of the squared weights of both sides shrinks by weight decay alone"
EARLIER = "an earlier checkpoint of the same run (--earlier CHECKPOINT)"
EARLIER_STEP = "the step of the earlier checkpoint (its trainer_state.json)"

FOLLOWS = 0.05
LEAST_CHARGE = 1e-3  # of the squared weights of both sides, or of what was there: less drowns in rounding


def charge_statements(evidence: Evidence) -> Iterator[Statement]:
    """Show the charge of every pair, and say under SGD whether it went as decay makes it go.

    The charge of a channel is the sum of squared weights on its plus side less that on its minus side. Small steps of
    SGD leave it alone but for decay, by exp(-2 sum rate decay) (Kunin et al. 2021, arXiv 2012.04728; Marcotte et al.
    2023, arXiv 2307.00144); noise adds to it in proportion to the rate, and nobody can tell how much from weights. So
    a charge that went otherwise breaks no law, and AdamW's steps do not keep charges at all.
    """
    pairs = [each for each in evidence.symmetries if each.minus and are_measured(each, evidence.sums, Density.SQUARE)]
    if not pairs:
        because = "no pair of this network is known"
        yield cannot_be_said(Quantity.CHARGES, "the run", CLAIM, because=because)
    for symmetry in pairs:
        yield _of_pair(evidence, symmetry)


def rates_since_earlier(evidence: Evidence, parameter: Parameter) -> Rates | None:
    """The rates that decay acted with since the earlier checkpoint; None where its step is not known.

    Raises:
        ValueError: where no history is known.
    """
    start = evidence.earlier.training.steps if evidence.earlier is not None else None
    rates = effective_rates(evidence, parameter)
    return rates[start:] if start is not None and 0 <= start < rates.size else None


def _of_pair(evidence: Evidence, symmetry: Symmetry) -> Statement:
    plus, minus = sides(symmetry, evidence.sums, Density.SQUARE)
    if not math.isfinite(_length(plus + minus)):
        return _stated(symmetry, (), "its weights are too large for their squares to be added up")
    size = _length(plus - minus) / max(_length(plus + minus), np.finfo(np.float64).tiny)
    figures = [Figure(name="charge / squared weights", value=size)]
    earlier = evidence.earlier
    if earlier is None or not are_measured(symmetry, earlier.sums, Density.SQUARE):
        return _stated(symmetry, figures, f"it takes {EARLIER}", (EARLIER,))
    before_plus, before_minus = sides(symmetry, earlier.sums, Density.SQUARE)
    before, now = before_plus - before_minus, plus - minus
    if _length(before) <= LEAST_CHARGE * _length(before_plus + before_minus):
        return _stated(symmetry, figures, "both sides were alike before, so there is nothing that could shrink")
    figures.append(Figure(name="drift", value=_length(now - before) / _length(before)))
    if evidence.method not in {Method.SGD, Method.UNKNOWN}:
        because = f"{evidence.method} does not keep charges, so their drift is only shown"
        return _stated(symmetry, figures, because)
    return _of_sgd(evidence, symmetry, figures, (before, now))


def _of_sgd(evidence: Evidence, symmetry: Symmetry, figures: list[Figure], charges: tuple[Floats, Floats]) -> Statement:
    missing = missing_for_decay(evidence)
    if missing:
        return _stated(symmetry, figures, unknown(missing), missing)
    rates = rates_since_earlier(evidence, evidence.parameters[symmetry.plus[0].layer])
    if rates is None:
        return _stated(symmetry, figures, unknown((EARLIER_STEP,)), (EARLIER_STEP,))
    if obstacle := _obstacle(evidence, symmetry):
        return _stated(symmetry, figures, obstacle)
    decay = evidence.parameters[symmetry.plus[0].layer].weight_decay or 0.0
    left = float(np.prod((1 - rates * decay) ** 2))
    before, now = charges
    figures.append(Figure(name="left by decay", value=left))
    if left <= LEAST_CHARGE:
        return _stated(symmetry, figures, "decay left nothing of the earlier charge that could be told from noise")
    off = _length(now - left * before) / (left * _length(before))
    figures.append(Figure(name="off by", value=off))
    follows = off <= FOLLOWS
    return Statement(
        quantity=Quantity.CHARGES,
        subject=symmetry.subject,
        claim=CLAIM,
        figures=tuple(figures),
        answer=Answer.HOLDS if follows else Answer.CANNOT_BE_SAID,
        because=(
            f"decay alone leaves {left:.3g} of the earlier charge, and the present one is off that by {off:.2g} of it"
            + (
                f" (up to {FOLLOWS:.0%} it holds)"
                if follows
                else ": the noise of the steps adds to it too, the more so the larger they are"
            )
        ),
    )


def _obstacle(evidence: Evidence, symmetry: Symmetry) -> str:
    terms = (*symmetry.plus, *symmetry.minus)
    parameters = [evidence.parameters[term.layer] for term in terms]
    if len({each.weight_decay for each in parameters}) > 1 or parameters[0].weight_decay is None:
        return "weight decay does not act alike on both sides"
    if any(term.offset for term in terms) and parameters[0].weight_decay:
        return "weight decay does not pull all of it to zero"
    rates = [effective_rates(evidence, each).sum() for each in parameters]
    return "" if np.allclose(rates, rates[0]) else "the learning rate is not the same on both sides"


def _stated(symmetry: Symmetry, figures: Sequence[Figure], because: str, missing: tuple[str, ...] = ()) -> Statement:
    """Show figures without judging them."""
    return Statement(
        quantity=Quantity.CHARGES,
        subject=symmetry.subject,
        claim=CLAIM,
        figures=tuple(figures),
        answer=Answer.CANNOT_BE_SAID,
        because=because,
        missing=missing,
    )


def _length(charges: Floats) -> float:
    with np.errstate(over="ignore"):  # it is infinite then
        return float(np.linalg.norm(charges))
