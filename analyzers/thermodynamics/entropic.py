"""What the noise of the steps adds to the loss, and whether norms grow: two numbers for a whole checkpoint."""

from collections.abc import Iterator, Sequence

from jaynes_audit.analyzers.checkpoints.training_state.state import Method
from jaynes_audit.analyzers.thermodynamics.ages import LEAST_RATE, RATES, has_rates, rates_of
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.noether import MEMORY, doubt
from jaynes_audit.analyzers.thermodynamics.norms import refusal_of
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import Density

TERM_CLAIM = "the noise of the steps adds little to the loss"
FLUX_CLAIM = "noise and decay keep the norm of all matrices where it is"
STATIONARY, FLOWING = 0.3, 0.5

ADAM = frozenset({Method.ADAMW, Method.ADAM_L2})


def entropic_statements(evidence: Evidence) -> Iterator[Statement]:
    """Give (rate / 4) * sum of sqrt(v), which is a loss in nats, beside the logged one. No limit was ever validated.

    Source: Ziyin, Xu and Chuang 2025, "Neural Thermodynamics I", arXiv 2505.12387, for the entropic term of a
    preconditioned step; that Adam's preconditioner makes it this sum is our reading.
    """
    subject = "the run"
    looks = ((RATES, has_rates(evidence)), (MEMORY, evidence.optimizer is not None))
    missing = tuple(name for name, there in looks if not there)
    if missing:
        because = f"it takes {' and '.join(missing)}"
        yield cannot_be_said(Quantity.ENTROPIC_TERM, subject, TERM_CLAIM, because=because, missing=missing)
        return
    measured = [each for each in evidence.parameters.values() if Density.ROOT_SECOND in each.sums.outputs]
    if evidence.method not in ADAM or not measured or doubt(evidence):
        because = doubt(evidence) or f"{evidence.method} keeps no mean of squared gradients"
        yield cannot_be_said(Quantity.ENTROPIC_TERM, subject, TERM_CLAIM, because=because)
        return
    term = sum(_rate(evidence, each) * each.sums.total(Density.ROOT_SECOND) for each in measured) / 4
    figures = [Figure(name="entropic term", value=term, unit="nats")]
    if evidence.training.loss is not None:
        figures.append(Figure(name="loss", value=evidence.training.loss, unit="nats"))
    yield Statement(
        quantity=Quantity.ENTROPIC_TERM,
        subject=subject,
        claim=TERM_CLAIM,
        figures=tuple(figures),
        answer=Answer.CANNOT_BE_SAID,
        because="how much would be too much was never validated",
    )


def flux_statements(evidence: Evidence) -> Iterator[Statement]:
    """Say whether the next steps would make the norm of all decayed matrices together grow or shrink.

    The ratio is what AdamW's last step u added to the squared norm, over what decay takes from it, sum(2 rate decay
    w^2). A checkpoint holds the weights w behind the step, before which they were w + rate u (decay apart): so it added
    sum(-2 rate u w - rate^2 u^2). It is a sum over the whole network because that of a single matrix is mostly noise.
    """
    subject = "all decayed matrices"
    if refusal := refusal_of(evidence, Quantity.NORM_FLUX, FLUX_CLAIM):
        yield refusal
        return
    decayed = [each for each in evidence.decayed.values() if each.layer.part.fan_in]
    measured = [each for each in decayed if Density.UPDATE_SQUARE in each.sums.outputs]
    if reason := doubt(evidence) or ("" if measured else "the optimizer remembers nothing of its matrices"):
        missing = () if evidence.optimizer else (MEMORY,)
        yield cannot_be_said(Quantity.NORM_FLUX, subject, FLUX_CLAIM, because=reason, missing=missing)
        return
    taken = sum(_taken(evidence, each) for each in measured)
    if taken <= LEAST_RATE:
        because = "the learning rate is zero now, so nothing changes any more"
        yield cannot_be_said(Quantity.NORM_FLUX, subject, FLUX_CLAIM, because=because)
        return
    yield _flux(sum(_added(evidence, each) for each in measured) / taken, measured, subject)


def _flux(ratio: float, measured: Sequence[Parameter], subject: str) -> Statement:
    away = abs(ratio - 1)
    answer = Answer.HOLDS if away <= STATIONARY else Answer.DOES_NOT_HOLD if away > FLOWING else Answer.CANNOT_BE_SAID
    moving = f": norms {'grow' if ratio > 1 else 'shrink'}" if answer is Answer.DOES_NOT_HOLD else ""
    return Statement(
        quantity=Quantity.NORM_FLUX,
        subject=subject,
        claim=FLUX_CLAIM,
        figures=(Figure(name="added / taken", value=ratio), Figure(name="matrices", value=len(measured))),
        answer=answer,
        because=(
            f"the last step added {ratio:.3g} times what decay took, which one checkpoint tells to a quarter "
            f"(within {STATIONARY:.0%} of once it holds, beyond {FLOWING:.0%} it does not){moving}"
        ),
    )


def _rate(evidence: Evidence, parameter: Parameter) -> float:
    return float(rates_of(evidence, parameter)[-1])


def _added(evidence: Evidence, parameter: Parameter) -> float:
    rate, sums = _rate(evidence, parameter), parameter.sums
    return -2 * rate * sums.total(Density.UPDATE_TIMES_WEIGHT) - rate**2 * sums.total(Density.UPDATE_SQUARE)


def _taken(evidence: Evidence, parameter: Parameter) -> float:
    decay = parameter.weight_decay or 0.0
    return 2 * _rate(evidence, parameter) * decay * parameter.sums.total(Density.SQUARE)
