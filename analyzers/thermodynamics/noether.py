"""Whether the optimizer's memory belongs to these weights: its mean gradients must obey the network's symmetries."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, OptimizerState
from jaynes_audit.analyzers.thermodynamics.ages import ALWAYS
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.sides import are_measured, gradient_identity
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density, Floats
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry, SymmetryKind

CLAIM = "mean gradient times weight adds up to the same on both sides of a pair"
WHOLE_CLAIM = "the optimizer's memory belongs to the tensors it is paired with"
WHOLE = "the optimizer's memory"
ARCHITECTURE = "config.json, which tells the architecture"
MEMORY = "the optimizer's state (optimizer.pt or the like)"

AGREES, DIFFERS = 0.9, 0.5
LEAST_CHANNELS = 8
MANY_CHANNELS = 16  # with fewer a single pair may differ by chance, so that it takes two
CHANNELS = "channels"
LARGEST_DECAY = 1e50  # no optimizer has one, and its products with weights could not be added up

SHOWN_ONLY = frozenset({SymmetryKind.NORM_GAIN, SymmetryKind.LINEAR_PAIR})
"""Pairs that a wrong pairing hardly disturbs: a norm has many readers, and one of them counts for little."""


def noether_statements(evidence: Evidence) -> Iterator[Statement]:
    """Say of the optimizer's memory as a whole, then of each pair, whether it obeys the symmetries.

    Source: Kunin et al. 2021, "Neural Mechanics", arXiv 2012.04728, for the identity of gradients; that an optimizer's
    running mean of them nearly obeys it, and that a wrong pairing does not, was found here.
    """
    pairs = [each for each in evidence.symmetries if each.minus]
    sums = {name: _of_gradients_alone(each, evidence.method) for name, each in evidence.parameters.items()}
    measured = [each for each in pairs if are_measured(each, sums, Density.FIRST_TIMES_WEIGHT)]
    statements = [_of_pair(sums, each) for each in measured]
    yield _whole(evidence, pairs, [s for each, s in zip(measured, statements, strict=True) if _counts(each)])
    yield from statements


def doubt(evidence: Evidence) -> str:
    """Why the optimizer's memory cannot be relied on, in a few words; empty where it can."""
    if evidence.optimizer is None:
        return f"it takes {MEMORY}"
    if not evidence.pairing.keys:
        return "no parameter of the optimizer could be paired with a tensor"
    verdict = next(noether_statements(evidence)).answer
    if verdict is Answer.DOES_NOT_HOLD:
        return "the optimizer's memory does not belong to these tensors (Noether check)"
    if told := _other_steps(evidence, evidence.optimizer):
        return told
    if not evidence.pairing.is_certain and verdict is not Answer.HOLDS:
        return "which tensor is which of the optimizer's parameters is not certain"
    return ""


def no_symmetry(evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """Why no symmetry of a network is known, and the input that is missing for it, if one is."""
    if not evidence.config:
        return f"it takes {ARCHITECTURE}", (ARCHITECTURE,)
    return "no symmetry of this network is known", ()


def _other_steps(evidence: Evidence, optimizer: OptimizerState) -> str:
    """Tell that the optimizer was saved at another step than the weights, if that is so; empty if not."""
    mine, steps = max((each.steps or 0 for each in optimizer.parameters), default=0), evidence.training.steps
    if not mine or not steps or min(mine, steps) >= ALWAYS * max(mine, steps):
        return ""
    return f"the trainer counts {steps:,} updates and the optimizer {mine:,}: they are of different checkpoints"


def _of_gradients_alone(parameter: Parameter, method: Method) -> AxisSums:
    """The sums of a layer without the decay that SGD, and Adam with L2, put into their means beside the gradients.

    SGD's momentum adds such parts up, to 1 / (1 - momentum) of one while the weights hardly move.
    """
    sums, decay = parameter.sums, parameter.weight_decay
    momentum = parameter.group.momentum if parameter.group is not None else None
    piled = {Method.SGD: 1 / (1 - momentum) if momentum and momentum < 1 else 1.0, Method.ADAM_L2: 1.0}.get(method)
    if not decay or piled is None or Density.FIRST_TIMES_WEIGHT not in sums.outputs:
        return sums

    def cleared(along: Mapping[Density, Floats]) -> Mapping[Density, Floats]:
        if decay * piled > LARGEST_DECAY:
            return {density: each for density, each in along.items() if density is not Density.FIRST_TIMES_WEIGHT}
        gradients = along[Density.FIRST_TIMES_WEIGHT] - decay * piled * along[Density.SQUARE]
        return {**along, Density.FIRST_TIMES_WEIGHT: gradients}

    return replace(sums, outputs=cleared(sums.outputs), inputs=cleared(sums.inputs))


def _counts(symmetry: Symmetry) -> bool:
    return symmetry.kind not in SHOWN_ONLY


def _whole(evidence: Evidence, pairs: list[Symmetry], judged: list[Statement]) -> Statement:
    optimizer, pairing = evidence.optimizer, evidence.pairing
    answers = [each.answer for each in judged]
    agreeing, differing = answers.count(Answer.HOLDS), answers.count(Answer.DOES_NOT_HOLD)
    undecided = sum(each.answer is Answer.CANNOT_BE_SAID and _channels(each) >= LEAST_CHANNELS for each in judged)
    because, missing = "", tuple[str, ...]()
    if optimizer is None:
        because, missing = f"it takes {MEMORY}", (MEMORY,)
    elif all(each.first is None for each in optimizer.parameters):
        because = "the optimizer remembers no gradients"
    elif told := _other_steps(evidence, optimizer):
        because = told
    elif not pairs:
        because, missing = (
            no_symmetry(evidence) if not evidence.symmetries else ("its symmetries have one side alone", ())
        )
    elif not agreeing + differing or (not differing and pairing.unpaired and not pairing.is_certain):
        because = f"no pair tells clearly ({pairing.evidence})"
    elif not differing and agreeing < undecided:
        because = f"of {agreeing + undecided} pairs {undecided} neither agree nor differ clearly"
    elif differing == 1 < len(judged) and _channels(_worst(judged)) < MANY_CHANNELS:
        because = f"only {_worst(judged).subject} differs, which has too few channels to tell for all"
    if because:
        return cannot_be_said(Quantity.NOETHER, WHOLE, WHOLE_CLAIM, because=because, missing=missing)
    worst = [each.subject for each in judged if each.answer is Answer.DOES_NOT_HOLD]
    return Statement(
        quantity=Quantity.NOETHER,
        subject=WHOLE,
        claim=WHOLE_CLAIM,
        figures=(
            Figure(name="pairs that agree", value=agreeing),
            Figure(name="pairs that do not", value=differing),
        ),
        answer=Answer.DOES_NOT_HOLD if differing else Answer.HOLDS,
        because=(
            f"the gradients of {', '.join(worst[:3])} do not belong to their weights: another checkpoint's optimizer, "
            "a wrong pairing, weights that were changed since, or the first steps of a run"
            if worst
            else "the pairs that can be judged agree"
        ),
    )


def _worst(judged: list[Statement]) -> Statement:
    return next(each for each in judged if each.answer is Answer.DOES_NOT_HOLD)


def _channels(statement: Statement) -> float:
    return next((each.value for each in statement.figures if each.name == CHANNELS), 0.0)


def _of_pair(sums: Mapping[str, AxisSums], symmetry: Symmetry) -> Statement:
    with np.errstate(all="ignore"):  # what comes of numbers that are too large is no number, and is not shown
        identity = gradient_identity(symmetry, sums)
    figures = (
        Figure(name="correlation", value=identity.correlation),
        Figure(name="gap", value=identity.gap),
        Figure(name=CHANNELS, value=identity.live_channels),
    )
    if identity.live_channels < LEAST_CHANNELS:
        answer = Answer.CANNOT_BE_SAID
        because = f"it has {identity.live_channels} live channels, and fewer than {LEAST_CHANNELS} tell nothing"
    elif not math.isfinite(identity.correlation):
        answer = Answer.CANNOT_BE_SAID
        because = "its numbers are too large to be multiplied"
    elif not _counts(symmetry):
        answer = Answer.CANNOT_BE_SAID
        because = "a wrong pairing would hardly disturb such a pair, so it is only shown"
    else:
        correlation = identity.correlation
        answer = (
            Answer.HOLDS
            if correlation >= AGREES
            else Answer.DOES_NOT_HOLD
            if correlation < DIFFERS
            else Answer.CANNOT_BE_SAID
        )
        because = (
            f"both sides correlate with {correlation:.3g} over its channels "
            f"(from {AGREES} on it holds, below {DIFFERS} it does not)"
        )
    return Statement(
        quantity=Quantity.NOETHER,
        subject=symmetry.subject,
        claim=CLAIM,
        figures=tuple(figure for figure in figures if math.isfinite(figure.value)),
        answer=answer,
        because=because,
    )
