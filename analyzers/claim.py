"""Audits -> Universality: the claim that all layers follow one lognormal law, tried on one network or on several."""

import math
from collections.abc import Iterable, Iterator, Sequence

from jaynes_audit.analyzers.audit import HALF, Audit
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.layer_audit import Criterion, LayerAudit
from jaynes_audit.analyzers.layer_verdict import VerdictKind
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.universality import Universality, universality

DOUBLE = 2
THRESHOLDS = (1, HALF, DOUBLE)  # times what counts as highly connected
NO_LAW = NotFitted("degenerate or not fitted")


def try_claim(audits: Sequence[Audit]) -> Universality:
    """Judge the highly connected layers of the audited checkpoints, all together.

    What counts as highly connected is each audit's own criterion, and half and double of it. Tied layers count once.
    """
    return judge_members(
        [member for audit in audits for member in _members(audit, audit.criterion.scaled(factor))]
        for factor in THRESHOLDS
    )


def judge_members(at_thresholds: Iterable[Sequence[Member | NotFitted]]) -> Universality:
    """Judge the highly connected layers at each of the `THRESHOLDS`; those that follow no law at all count as such."""
    thresholds = list(at_thresholds)
    chosen, at_half, at_double = ([each for each in layers if isinstance(each, Member)] for layers in thresholds)
    without, without_at_half, without_at_double = (
        sum(isinstance(each, NotFitted) for each in layers) for layers in thresholds
    )
    return universality(
        chosen, at_half=at_half, at_double=at_double, lawless=(without, without_at_half, without_at_double)
    )


def _members(audit: Audit, criterion: Criterion) -> Iterator[Member | NotFitted]:
    deepest = last_blocks((layer.stack, layer.depth) for layer in audit.layers)
    for layer in audit.layers:
        if layer.tied_to or layer.role not in HIDDEN_LAYERS:
            continue
        if criterion.reached_by(layer.fan_in, layer.counts.weights):
            yield _member(audit.target, layer, deepest.get(layer.stack, 0))


def _member(model: str, layer: LayerAudit, deepest: int) -> Member | NotFitted:
    fit, errors, ranking = layer.fit, layer.errors, layer.evidence.ranking
    if layer.verdict.kind in {VerdictKind.DEGENERATE, VerdictKind.NOT_FITTED} or isinstance(ranking, NotFitted):
        return NO_LAW
    if isinstance(fit, NotFitted) or isinstance(errors, NotFitted) or not _all_finite(fit, errors):
        return NO_LAW
    undecided = layer.verdict.kind is VerdictKind.UNDECIDED
    return Member(
        model=model,
        role=layer.role,
        relative_depth=None if layer.depth is None or not deepest else layer.depth / deepest,
        weights=fit.moments.weights,
        fan_in=layer.fan_in,
        log_mean=fit.moments.log_mean,
        log_sigma=fit.moments.log_sigma,
        skewness=fit.moments.skewness,
        log_rms=math.log(layer.rms),
        log_mean_error=errors.log_mean,
        log_sigma_error=errors.log_sigma,
        skewness_error=errors.skewness,
        family=layer.verdict.name,
        quantiles=tuple(fit.standard_quantiles.tolist()),
        declared_sd=layer.declared_sd,
        may_be_lognormal=undecided and Family.LOGNORMAL in {ranking.winner.family, *ranking.tied_with},
    )


def last_blocks(places: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """Find the last block of every stack, from the stack and the block of each layer."""
    last: dict[str, int] = {}
    for stack, depth in places:
        if depth is not None:
            last[stack] = max(last.get(stack, 0), depth)
    return last


def _all_finite(fit: LognormalFit, errors: LogMomentErrors) -> bool:
    # Weights that are all but alike leave nothing to divide by.
    moments = fit.moments
    of_fit = (moments.log_mean, moments.log_sigma, moments.skewness, fit.divergence)
    return all(map(math.isfinite, (*of_fit, errors.log_mean, errors.log_sigma, errors.skewness)))
