"""ModelRecord -> its highly connected layers as seen beside others: of an audit just made or of a saved report."""

import math

from jaynes_audit.analyzers.claim import NO_LAW, last_blocks
from jaynes_audit.analyzers.comparison.kept import KeptFit
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import SIMPLICITY_NATS, TIE_NATS
from jaynes_audit.analyzers.layer_audit import Criterion
from jaynes_audit.analyzers.layer_verdict import VerdictKind
from jaynes_audit.analyzers.record import CandidateRecord, FitRecord, LayerRecord, ModelRecord
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS, Role
from jaynes_audit.analyzers.universality.member import COLLAPSE_PROBABILITIES, Member

LAWS = frozenset({*Family, *VerdictKind})  # the names that an audit gives
WITHOUT_LAW = frozenset({VerdictKind.DEGENERATE, VerdictKind.NOT_FITTED})
NO_QUANTILES = (math.nan,) * len(COLLAPSE_PROBABILITIES)  # a report does not hold them
MOST_COUNTED = 1 << 62
MOST_MEASURED = 1e9  # no log-moment of any number of weights comes near: a report that says so was made up


def members_of(model: ModelRecord, factor: float, *, label: str) -> list[tuple[Role, Member | NotFitted]]:
    """Give the layers that reach `factor` times what the model's report counts as highly connected, with their roles.

    In the order of the report, tied layers once; NotFitted stands for a layer that follows no law. They are the members
    that the audit itself had, but for two things: `label` is their model, and their quantiles are NaN. Numbers that no
    weights can have, and names that no audit gives, make a layer one without a law.
    """
    criterion = Criterion(
        min_fan_in=min(model.criterion.min_fan_in, MOST_COUNTED),
        min_weights=min(model.criterion.min_weights, MOST_COUNTED),
    ).scaled(factor)
    deepest = last_blocks((layer.stack, layer.depth) for layer in model.layers)
    return [
        (Role(layer.role), _member(layer, label, deepest.get(layer.stack, 0)))
        for layer in model.layers
        if layer.role in HIDDEN_LAYERS and not layer.tied_to and criterion.reached_by(layer.fan_in, layer.weights)
    ]


def _member(layer: LayerRecord, label: str, deepest: int) -> Member | NotFitted:
    fit = layer.fit
    verdict = layer.verdict
    if verdict.kind in WITHOUT_LAW or verdict.name not in LAWS or not layer.candidates or fit is None:
        return NO_LAW
    if fit.se_mu is None or fit.se_sigma is None or fit.se_skewness is None:
        return NO_LAW
    weights = layer.weights - layer.zero - layer.infinite - layer.nan
    counted = 0 < weights <= MOST_COUNTED and 0 < layer.fan_in <= MOST_COUNTED
    if not (counted and 0 < layer.rms < math.inf and possible(fit)):
        return NO_LAW
    return Member(
        model=label,
        role=layer.role,
        relative_depth=_relative_depth(layer.depth, deepest),
        weights=weights,
        fan_in=layer.fan_in,
        log_mean=fit.mu,
        log_sigma=fit.sigma,
        skewness=fit.skewness,
        log_rms=math.log(layer.rms),
        log_mean_error=fit.se_mu,
        log_sigma_error=fit.se_sigma,
        skewness_error=fit.se_skewness,
        family=verdict.name,
        quantiles=NO_QUANTILES,
        declared_sd=layer.declared_sd,
        may_be_lognormal=verdict.kind == VerdictKind.UNDECIDED and _may_be_lognormal(layer.candidates),
    )


def _relative_depth(depth: int | None, deepest: int) -> float | None:
    return None if depth is None or depth < 0 or not deepest else depth / deepest


def possible(fit: FitRecord | KeptFit) -> bool:
    """Whether a fit could be one of weights: a report or a baseline may have been written by anyone."""
    errors = (fit.se_mu or 0.0, fit.se_sigma or 0.0, fit.se_skewness or 0.0)
    within = all(abs(number) <= MOST_MEASURED for number in (fit.mu, fit.sigma, fit.skewness, *errors))
    return within and fit.sigma > 0 and min(errors) >= 0


def _may_be_lognormal(candidates: list[CandidateRecord]) -> bool:
    """Whether the lognormal won among the families, or might as well have: by the rule of `Ranking`."""
    best = max(each.nats for each in candidates)
    eligible = [each for each in candidates if each.nats > best - SIMPLICITY_NATS]
    fewest = min((each.parameters for each in eligible), default=0)
    simplest = [each for each in eligible if each.parameters == fewest]
    winning = max((each.nats for each in simplest), default=0.0)
    return any(each.family == Family.LOGNORMAL and each.nats > winning - TIE_NATS for each in simplest)
