"""Learning rates and weight decay -> the rms that AdamW gives to weights whose scale the network cannot see."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from jaynes_audit.analyzers.checkpoints.training_state.state import Rates
from jaynes_audit.analyzers.thermodynamics.ages import (
    DECOUPLED,
    LEAST_RATE,
    missing_for_decay,
    rarely_updated,
    rates_of,
    unknown,
)
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import Density
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry

CLAIM = "the rms is what learning rate and weight decay give to weights whose scale the network cannot see"
START = "the initial weights (--initial CHECKPOINT)"
DECLARED = "the scale that config.json declares for initial weights"

AGREES, DIFFERS = 0.10, 0.25
LARGEST_START = 1.0  # mean square: PyTorch's nn.Embedding, the largest usual start there is
USUAL_OF_A_MATRIX = (0.6, 1.8)
MOST_STILL = 0.25  # of a set's weights; where as many were never moved, many others hardly ever were

LOG_MEAN_OF_GAUSSIAN = -(float(np.euler_gamma) + math.log(2)) / 2
"""Mean of ln|w| for a Gaussian of rms 1."""


def predicted_mean_square(rates: Rates, weight_decay: float, initial: float) -> float:
    """The mean square of weights after AdamW's steps of unit rms in directions that have nothing to do with them.

    Each step takes the part `rate * weight_decay` of every weight and adds `rate` times the step, so that the mean
    square M becomes (1 - rate * weight_decay)^2 M + rate^2. `rates` has one number a step.
    Source: Kosson, Messmer and Jaggi 2023, "Rotational equilibrium", arXiv 2305.17212, for the value at rest,
    rate / (2 weight_decay); the recursion over a schedule is derived here.
    """
    with np.errstate(divide="ignore"):  # a step may take all of a weight
        logs = 2 * np.log(np.abs(1 - rates * weight_decay))
    # What is left at the end of a square that was there before each step, and before the first one.
    left = np.exp(np.concatenate([np.cumsum(logs[::-1])[::-1], [0.0]]))
    return float(initial * left[0] + np.dot(rates**2, left[1:]))


def blind_blocks(evidence: Evidence) -> Iterator[tuple[Symmetry, Sequence[Parameter]]]:
    """Give the sets of decayed layers whose common scale the network cannot see, with the symmetry that says so.

    Sets of which a part is not known to be trained, or not with which decay, are left out.
    """
    rare = rarely_updated(evidence)
    known = {
        name: each
        for name, each in evidence.parameters.items()
        if each.weight_decay is not None and name not in rare and (not each.weight_decay or _is_trained(evidence, each))
    }
    for symmetry in evidence.symmetries:
        names = dict.fromkeys(term.layer for term in symmetry.plus)
        if not symmetry.minus and names.keys() <= known.keys():
            layers = [known[name] for name in names if known[name].weight_decay]
            if layers:
                yield symmetry, layers


def obstacle_of(layers: Sequence[Parameter]) -> str:
    """Why the law cannot be asked of a set of layers, which is about weights that all steps move; empty if it can."""
    still = _joint(layers, [still_share(each) for each in layers])
    if still > MOST_STILL:
        return f"{still:.0%} of its weights never had a gradient, as the rows of words that are not in the data"
    return ""


def still_share(parameter: Parameter) -> float:
    """The share of a layer's outputs or inputs of which the optimizer remembers no gradient; 0 without its memory."""
    along = (parameter.sums.outputs, parameter.sums.inputs)
    roots = [each[Density.ROOT_SECOND] for each in along if Density.ROOT_SECOND in each]
    return max((float(np.mean(each == 0)) for each in roots), default=0.0)


def _is_trained(evidence: Evidence, parameter: Parameter) -> bool:
    return float(rates_of(evidence, parameter).max()) >= LEAST_RATE


def rms_statements(evidence: Evidence) -> Iterator[Statement]:
    """Hold the rms of blocks and of single matrices against what the learning rates predict."""
    if refusal := refusal_of(evidence, Quantity.PREDICTED_RMS, CLAIM):
        yield refusal
        return
    for symmetry, layers in blind_blocks(evidence):
        yield _of_block(evidence, symmetry.subject, layers)
    yield from _of_matrices(evidence)


def refusal_of(evidence: Evidence, quantity: Quantity, claim: str) -> Statement | None:
    """Say why a law of AdamW's weight decay cannot be asked, if that is so."""
    if missing := missing_for_decay(evidence):
        because = unknown(missing)
        return cannot_be_said(quantity, "the run", claim, because=because, missing=missing)
    if evidence.method not in DECOUPLED:
        return cannot_be_said(
            quantity, "the run", claim, because=f"the law is AdamW's, and the optimizer is {evidence.method}"
        )
    if not evidence.decayed:
        return cannot_be_said(
            quantity, "the run", claim, because="weight decay is zero, so there is no scale to come to rest at"
        )
    return None


def predicted_log_means(evidence: Evidence) -> Mapping[str, float]:
    """The mu of every decayed matrix, were its weights Gaussian with the predicted rms; empty without a history.

    It takes a known start, so a layer without one is left out.
    """
    if refusal_of(evidence, Quantity.PREDICTED_RMS, CLAIM) is not None:
        return {}
    return {
        name: math.log(_predicted(evidence, parameter, evidence.initial[name])) / 2 + LOG_MEAN_OF_GAUSSIAN
        for name, parameter in evidence.decayed.items()
        if parameter.layer.part.fan_in and name in evidence.initial and _is_trained(evidence, parameter)
    }


def _of_block(evidence: Evidence, subject: str, layers: Sequence[Parameter]) -> Statement:
    if obstacle := obstacle_of(layers):
        return cannot_be_said(Quantity.PREDICTED_RMS, subject, CLAIM, because=obstacle)
    # Where the start is not known, all between both ends of what is usual has to give the same answer.
    ratio, least = (_ratio(evidence, layers, unknown_start=start) for start in (0.0, LARGEST_START))
    answer = _answer(least, ratio)
    if answer is Answer.DOES_NOT_HOLD and evidence.initial_source == DECLARED:
        # A model that was trained before, as what is fine-tuned was, did not begin there.
        elsewhere = replace(evidence, initial={})
        ratio, least = (_ratio(elsewhere, layers, unknown_start=start) for start in (0.0, LARGEST_START))
        answer = _answer(least, ratio)
    figures = (
        Figure(name="rms", value=math.sqrt(_joint(layers, [each.mean_square for each in layers]))),
        Figure(name="measured / predicted", value=ratio),
    )
    if ratio > least and answer is Answer.CANNOT_BE_SAID:
        return Statement(
            quantity=Quantity.PREDICTED_RMS,
            subject=subject,
            claim=CLAIM,
            figures=figures,
            answer=Answer.CANNOT_BE_SAID,
            because=f"from small initial weights the ratio is {ratio:.3g}, from large ones {least:.3g}",
            missing=(START,),
        )
    return Statement(
        quantity=Quantity.PREDICTED_RMS,
        subject=subject,
        claim=CLAIM,
        figures=figures,
        answer=answer,
        because=(
            f"the rms is {ratio:.3g} times the predicted one "
            f"(within {AGREES:.0%} it holds, beyond {DIFFERS:.0%} it does not)"
        ),
    )


def _of_matrices(evidence: Evidence) -> Iterator[Statement]:
    low, high = USUAL_OF_A_MATRIX
    for name, parameter in evidence.decayed.items():
        if parameter.layer.part.fan_in and _is_trained(evidence, parameter):
            ratio = _ratio(evidence, [parameter], unknown_start=0.0)
            yield Statement(
                quantity=Quantity.PREDICTED_RMS,
                subject=name,
                claim=CLAIM,
                figures=(
                    Figure(name="rms", value=math.sqrt(parameter.mean_square)),
                    Figure(name="measured / predicted", value=ratio),
                ),
                answer=Answer.CANNOT_BE_SAID,
                because=f"the network can see the scale of a single matrix, for which {low} to {high} is usual",
            )


def _ratio(evidence: Evidence, layers: Sequence[Parameter], *, unknown_start: float) -> float:
    """The rms of layers together over the predicted one."""
    starts = [evidence.initial.get(each.layer.name, unknown_start) for each in layers]
    predicted = [_predicted(evidence, each, start) for each, start in zip(layers, starts, strict=True)]
    return math.sqrt(_joint(layers, [each.mean_square for each in layers]) / _joint(layers, predicted))


def _joint(layers: Sequence[Parameter], mean_squares: Sequence[float]) -> float:
    """The mean square of several layers together."""
    weights = [each.sums.weights for each in layers]
    return sum(map(math.prod, zip(weights, mean_squares, strict=True))) / sum(weights)


def _predicted(evidence: Evidence, parameter: Parameter, start: float) -> float:
    rates, decay, still = rates_of(evidence, parameter), parameter.weight_decay or 0.0, still_share(parameter)
    left = start * float(np.prod((1 - rates * decay) ** 2))  # no step moves what has no gradient, and decay does
    return (1 - still) * predicted_mean_square(rates, decay, start) + still * left


def _answer(least: float, greatest: float) -> Answer:
    """The answer for a ratio that is known to lie between two numbers."""
    if least >= 1 - AGREES and greatest <= 1 + AGREES:
        return Answer.HOLDS
    return Answer.DOES_NOT_HOLD if least > 1 + DIFFERS or greatest < 1 - DIFFERS else Answer.CANNOT_BE_SAID
