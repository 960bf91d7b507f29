"""Layers of one role -> RoleAudit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_lognormal
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.layer_audit import MeasuredLayer
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sketch.histogram import Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The least, the middle and the greatest value over the layers of a role."""

    least: float
    median: float
    greatest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleAudit:
    """All layers of one role and number format: pooled into one, and side by side.

    `pooled` is the fit of all their weights together. `log_mean` to `ks_distance` are spreads over the single layers
    that could be fitted; they are NotFitted when none could. Tied layers count once.
    """

    role: Role
    dtype: str
    layers: int
    connected: int
    weights: int
    zero: int
    not_finite: int
    pooled: LognormalFit | NotFitted
    log_mean: Spread | NotFitted
    log_sigma: Spread | NotFitted
    skewness: Spread | NotFitted
    excess_kurtosis: Spread | NotFitted
    divergence: Spread | NotFitted
    ks_distance: Spread | NotFitted


def audit_role(layers: Sequence[MeasuredLayer], weights: Histogram) -> RoleAudit:
    """Summarise layers that share their role and number format. `weights` are the weights of all of them, pooled."""
    fits = [layer.fit for layer in layers if isinstance(layer.fit, LognormalFit)]
    return RoleAudit(
        role=layers[0].role,
        dtype=layers[0].dtype,
        layers=len(layers),
        connected=sum(layer.connected for layer in layers),
        weights=sum(layer.counts.weights for layer in layers),
        zero=sum(layer.counts.zero for layer in layers),
        not_finite=sum(layer.counts.infinite + layer.counts.nan for layer in layers),
        pooled=fit_lognormal(weights.magnitudes),
        log_mean=_spread(fits, lambda fit: fit.moments.log_mean),
        log_sigma=_spread(fits, lambda fit: fit.moments.log_sigma),
        skewness=_spread(fits, lambda fit: fit.moments.skewness),
        excess_kurtosis=_spread(fits, lambda fit: fit.moments.excess_kurtosis),
        divergence=_spread(fits, lambda fit: fit.divergence),
        ks_distance=_spread(fits, lambda fit: fit.ks_distance),
    )


def _spread(fits: Sequence[LognormalFit], quantity: Callable[[LognormalFit], float]) -> Spread | NotFitted:
    if not fits:
        return NotFitted("no layer of this role could be fitted")
    values = [quantity(fit) for fit in fits]
    return Spread(least=min(values), median=median(values), greatest=max(values))
