"""Weights that no gradient ever moves, and how much of the network's norm they make up."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.settings import settings_of, whole, word
from jaynes_audit.analyzers.roles.slots import KEYS, QUERIES, slot_of
from jaynes_audit.analyzers.thermodynamics.ages import missing_for_decay
from jaynes_audit.analyzers.thermodynamics.architectures import architecture_of
from jaynes_audit.analyzers.thermodynamics.charges import rates_since_earlier
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density
from jaynes_audit.analyzers.thermodynamics.symmetry import NO_CHANNEL, SymmetryKind, Term

CLAIM = "no gradient acts on it, so it can be dropped or folded away, and tells nothing of what was learnt"

WRITES = frozenset({Role.ATTENTION_O, Role.MLP_DOWN})
SHOWN = "it is so by the shape of the network; no limit for its size is validated, so it is only shown"


def inert_statements(evidence: Evidence) -> Iterator[Statement]:
    """Show the parameters whose gradient is zero whatever the data.

    A bias of keys without rotary positions adds the same to all scores of a query, which softmax does not see. What a
    layer writes along the all-ones direction is taken out by every LayerNorm behind it. A row added to all rows of the
    head adds the same to all logits.
    """
    statements = [*_key_biases(evidence), *_all_ones(evidence), *_mean_row(evidence)]
    if statements:
        yield from statements
    else:
        because = "no parameter of this network is known to be inert"
        yield cannot_be_said(Quantity.INERT, "the run", CLAIM, because=because)


def _key_biases(evidence: Evidence) -> Iterator[Statement]:
    terms = [
        term
        for symmetry in evidence.symmetries
        if symmetry.kind is SymmetryKind.QUERY_KEY
        for term in symmetry.minus
        if _is_bias(evidence, term)
    ]
    if not terms:
        return
    sums = evidence.sums
    square, count = sum(_square(term, sums) for term in terms), sum(_entries(term, sums) for term in terms)
    figures = [Figure(name="rms", value=math.sqrt(square / count)), Figure(name="parameters", value=count)]
    earlier = evidence.earlier.sums if evidence.earlier is not None else {}
    if all(term.layer in earlier for term in terms) and (before := sum(_square(term, earlier) for term in terms)) > 0:
        figures.append(Figure(name="norm left since the earlier checkpoint", value=math.sqrt(square / before)))
        decayed = _left_by_decay(evidence, terms)
        if decayed is not None:
            figures.append(Figure(name="left by decay", value=decayed))
    yield _stated("biases of keys", figures)


def _is_bias(evidence: Evidence, term: Term) -> bool:
    parameter = evidence.parameters.get(term.layer)
    return parameter is not None and parameter.layer.part.role is Role.BIAS


def _square(term: Term, sums: Mapping[str, AxisSums]) -> float:
    squares = sums[term.layer].outputs[Density.SQUARE]
    return float(squares.sum() if term.channels is None else squares[term.channels != NO_CHANNEL].sum())


def _entries(term: Term, sums: Mapping[str, AxisSums]) -> int:
    return sums[term.layer].weights if term.channels is None else int((term.channels != NO_CHANNEL).sum())


def _left_by_decay(evidence: Evidence, terms: Sequence[Term]) -> float | None:
    """The part of their norm that weight decay leaves since the earlier checkpoint, if it is the same for all."""
    parameters = [evidence.parameters[term.layer] for term in terms]
    decays = {each.weight_decay for each in parameters}
    decay = decays.pop()
    if decays or decay is None or missing_for_decay(evidence):
        return None
    rates = rates_since_earlier(evidence, parameters[0])
    return None if rates is None else float(np.prod(1 - rates * decay))


def _all_ones(evidence: Evidence) -> Iterator[Statement]:
    writers = [each for each in evidence.parameters.values() if _writes_to_layer_norms(evidence, each)]
    square = sum(each.sums.total(Density.SQUARE) for each in writers)
    if not square:
        return
    along = sum(
        float((each.sums.inputs[Density.WEIGHT] ** 2).sum()) / each.sums.outputs[Density.WEIGHT].size
        for each in writers
    )
    figures = [
        Figure(name="share of their squared norm", value=100 * along / square, unit="%"),
        Figure(name="matrices", value=len(writers)),
    ]
    yield _stated("all-ones direction of what blocks write", figures)


def _writes_to_layer_norms(evidence: Evidence, parameter: Parameter) -> bool:
    part = parameter.layer.part
    if part.role not in WRITES or part.depth is None or Density.WEIGHT not in parameter.sums.inputs:
        return False
    settings = settings_of(evidence.config, part.stack)
    model_type = word(settings, "model_type") or word(evidence.config, "model_type")
    return architecture_of(model_type, part.stack, settings) is not None and _has_layer_norms(evidence, part.stack)


def _has_layer_norms(evidence: Evidence, stack: str) -> bool:
    """Whether all norms of the residual stream have a bias, as only LayerNorm has, and one stands outside of blocks.

    Without that one, the head may read the stream as it is.
    """
    norms = {
        name: each.layer.part.depth
        for name, each in evidence.parameters.items()
        if each.layer.part.role is Role.NORM
        and each.layer.part.stack == stack
        and slot_of(name, Role.NORM, inside=each.layer.part.depth is not None).kinds[0] not in {QUERIES, KEYS}
    }
    return None in norms.values() and all(
        f"{name.removesuffix('.weight')}.bias" in evidence.parameters for name in norms
    )


def _mean_row(evidence: Evidence) -> Iterator[Statement]:
    heads = [each for each in evidence.parameters.values() if each.layer.part.role is Role.HEAD]
    settings = settings_of(evidence.config, "")
    if len(heads) != 1 or settings.get("tie_word_embeddings") or settings.get("final_logit_softcapping"):
        return
    (head,) = heads
    sums = head.sums
    words = sums.outputs[Density.SQUARE].size
    square = sums.total(Density.SQUARE)
    if words != whole(settings, "vocab_size") or Density.WEIGHT not in sums.inputs or not square:
        return
    along = float((sums.inputs[Density.WEIGHT] ** 2).sum()) / words
    figures = [Figure(name="share of its squared norm", value=100 * along / square, unit="%")]
    yield _stated("mean row of the head", figures)


def _stated(subject: str, figures: Sequence[Figure]) -> Statement:
    return Statement(
        quantity=Quantity.INERT,
        subject=subject,
        claim=CLAIM,
        figures=tuple(figures),
        answer=Answer.CANNOT_BE_SAID,
        because=SHOWN,
    )
