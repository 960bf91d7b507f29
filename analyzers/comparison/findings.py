"""Comparison -> findings: what the rules object to when A is known to be good and B is new."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Relation
from jaynes_audit.analyzers.comparison.parameters import Shift
from jaynes_audit.analyzers.comparison.side_by_side import LayerComparison
from jaynes_audit.analyzers.comparison.verdict import is_as_good_as_its_scheme
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import ModelRecord
from jaynes_audit.analyzers.rules import (
    CHANGE_RULES,
    COMMON_RESCALE,
    EXTRA_TENSOR,
    MISSING_TENSOR,
    Finding,
    Level,
)
from jaynes_audit.analyzers.rules.changes import Change, Moved, common_rescaling, scale_drift
from jaynes_audit.analyzers.rules.thresholds import USUAL_THRESHOLDS

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.comparison import Comparison  # which asks for its findings

SAME_WEIGHTS = frozenset({Relation.IDENTICAL, Relation.REARRANGED})
NOT_COUNTED = NotFitted("zeros were not counted")


def findings_of(comparison: "Comparison") -> tuple[Finding, ...]:
    """Give all that the rules object to, in B by itself and in what changed from A, the worst first, then by rule."""
    zeros_a, zeros_b = zeros_by_name(comparison)
    changes = [_change(layer, zeros_a, zeros_b) for layer in comparison.layers]
    found = [
        *_of_itself(comparison),
        *_missing(comparison),
        *(EXTRA_TENSOR.finding(each.subject.name, f"not in A: {each.reason}") for each in comparison.only_b),
        *_of_changes(changes, comparison.b.target),
    ]
    worst_first = list(Level)
    return tuple(sorted(found, key=lambda each: (worst_first.index(each.level), each.rule)))


def _missing(comparison: "Comparison") -> Iterator[Finding]:
    """The layers that B has not. Of a B that was not read whole, its own findings say what is wrong with it."""
    if comparison.b.complete:
        for each in comparison.only_a:
            yield MISSING_TENSOR.finding(each.subject.name, f"not in B: {each.reason}")


def zeros_by_name(comparison: "Comparison") -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Give the zeros of each measured layer, in A and in B."""
    if not comparison.measured:
        return {}, {}
    a, b = comparison.measured
    return {layer.name: layer.zero for layer in a.layers}, {layer.name: layer.zero for layer in b.layers}


def holds_the_same_weights(exact: Exact | NotFitted) -> bool:
    """Whether B has A's weights, in another order, rounded or well quantised at most, and none lost on the way."""
    if isinstance(exact, NotFitted):
        return False
    cast, quantisation = exact.cast, exact.quantisation
    if exact.relation is Relation.QUANTISED and quantisation:
        return is_as_good_as_its_scheme(quantisation)
    return exact.relation in SAME_WEIGHTS or (cast is not None and not cast.overflowed and not cast.flushed)


def _of_itself(comparison: "Comparison") -> Iterator[Finding]:
    """What B's own audit found, where there is one."""
    for model in comparison.measured[1:]:
        for found in model.findings if isinstance(model, ModelRecord) else ():
            yield Finding(
                rule=found.rule,
                name=found.name,
                level=Level(found.level),
                subject=found.subject,
                sentence=found.sentence,
            )


def _of_changes(changes: Sequence[Change], target: str) -> Iterator[Finding]:
    rescaling = common_rescaling(changes, USUAL_THRESHOLDS)
    rescaled = rescaling.names if rescaling else frozenset()
    if rescaling:
        yield COMMON_RESCALE.finding(target, rescaling.sentence)
    for rule in CHANGE_RULES:
        for change in changes:
            sentence = rule.check(change, USUAL_THRESHOLDS)
            if sentence and not (rule is scale_drift and change.name in rescaled):
                yield rule.finding(change.name, sentence)


def _change(layer: LayerComparison, zeros_a: Mapping[str, int], zeros_b: Mapping[str, int]) -> Change:
    a, b, parameters = layer.match.a, layer.match.b, layer.parameters
    return Change(
        name=a.name,
        is_matrix=a.fan_in > 0,
        same_weights=holds_the_same_weights(layer.exact),
        shapes=((a.rows, a.columns), (b.rows, b.columns)),
        dtypes=(a.dtype, b.dtype),
        weights=(a.weights, b.weights),
        log_mean=parameters if isinstance(parameters, NotFitted) else _moved(parameters.log_mean),
        log_sigma=parameters if isinstance(parameters, NotFitted) else _moved(parameters.log_sigma),
        skewness=parameters if isinstance(parameters, NotFitted) else _moved(parameters.skewness),
        ks=layer.distances if isinstance(layer.distances, NotFitted) else layer.distances.ks,
        quantile_gap=layer.quantile_gap,
        zero_shares=(zeros_a[a.name] / a.weights, zeros_b[b.name] / b.weights)
        if a.weights and b.weights and a.name in zeros_a and b.name in zeros_b
        else NOT_COUNTED,
    )


def _moved(shift: Shift) -> Moved:
    return Moved(before=shift.a, change=shift.change, error=shift.error)
