"""Whether the optimizer's memory belongs to these weights: its mean gradients must obey the network's symmetries."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from jaynes_audit.analyzers.checkpoints.training_state.state import Method
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.sides import are_measured, gradient_identity
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density, Floats
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry, SymmetryKind

CLAIM = "mean gradient times weight adds up to the same on both sides of a pair"
WHOLE_CLAIM = "the optimizer's memory belongs to the tensors it is paired with"
WHOLE = "the optimizer's memory"
MEMORY = "the optimizer's state (optimizer.pt or the like)"

AGREES, DIFFERS = 0.9, 0.5
LEAST_CHANNELS = 8

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
    if not evidence.pairing.is_certain and verdict is not Answer.HOLDS:
        return "which tensor is which of the optimizer's parameters is not certain"
    return ""


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
        gradients = along[Density.FIRST_TIMES_WEIGHT] - decay * piled * along[Density.SQUARE]
        return {**along, Density.FIRST_TIMES_WEIGHT: gradients}

    return replace(sums, outputs=cleared(sums.outputs), inputs=cleared(sums.inputs))


def _counts(symmetry: Symmetry) -> bool:
    return symmetry.kind not in SHOWN_ONLY


def _whole(evidence: Evidence, pairs: list[Symmetry], judged: list[Statement]) -> Statement:
    if evidence.optimizer is None:
        because = f"it takes {MEMORY}"
        return cannot_be_said(Quantity.NOETHER, WHOLE, WHOLE_CLAIM, because=because, missing=(MEMORY,))
    answers = [each.answer for each in judged]
    agreeing, differing = answers.count(Answer.HOLDS), answers.count(Answer.DOES_NOT_HOLD)
    if not agreeing + differing:
        because = (
            "no pair of this network has enough live channels" if pairs else "no symmetry of this network is known"
        )
        return cannot_be_said(Quantity.NOETHER, WHOLE, WHOLE_CLAIM, because=because)
    answer = Answer.DOES_NOT_HOLD if differing else Answer.HOLDS
    worst = [each.subject for each in judged if each.answer is Answer.DOES_NOT_HOLD]
    return Statement(
        quantity=Quantity.NOETHER,
        subject=WHOLE,
        claim=WHOLE_CLAIM,
        figures=(
            Figure(name="pairs that agree", value=agreeing),
            Figure(name="pairs that do not", value=differing),
        ),
        answer=answer,
        because=(
            f"the gradients of {', '.join(worst[:3])} do not belong to their weights: another checkpoint's optimizer, "
            "a wrong pairing, or weights that were changed since"
            if worst
            else f"all {agreeing} pairs that can be judged agree, or are not far from it"
        ),
    )


def _of_pair(sums: Mapping[str, AxisSums], symmetry: Symmetry) -> Statement:
    identity = gradient_identity(symmetry, sums)
    figures = (
        Figure(name="correlation", value=identity.correlation),
        Figure(name="gap", value=identity.gap),
        Figure(name="channels", value=identity.live_channels),
    )
    if identity.live_channels < LEAST_CHANNELS:
        answer = Answer.CANNOT_BE_SAID
        because = f"it has {identity.live_channels} live channels, and fewer than {LEAST_CHANNELS} tell nothing"
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
        figures=figures,
        answer=answer,
        because=because,
    )
