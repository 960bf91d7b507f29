"""How the law of a layer differs between two models."""

import math
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.comparison.kept import KeptFit, KeptLayer
from jaynes_audit.analyzers.comparison.members import possible
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import FitRecord, LayerRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A parameter of a layer in both models, its change b - a, and the standard error of the change.

    The error takes the two layers as independent, which two versions of one model are not: of those it is too large.
    """

    a: float
    b: float
    change: float
    error: float | NotFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters of the lognormal fitted to a layer in both models."""

    log_mean: Shift
    log_sigma: Shift
    skewness: Shift


NO_ERROR = NotFitted("no standard error in one of the models")


def parameters(a: LayerRecord | KeptLayer, b: LayerRecord | KeptLayer) -> Parameters | NotFitted:
    """Compare the fits of a layer in two models. Errors of changes are sqrt(error_a^2 + error_b^2)."""
    in_a, in_b = _fit(a, "A"), _fit(b, "B")
    if isinstance(in_a, NotFitted):
        return in_a
    if isinstance(in_b, NotFitted):
        return in_b
    return Parameters(
        log_mean=_shift((in_a.mu, in_a.se_mu), (in_b.mu, in_b.se_mu)),
        log_sigma=_shift((in_a.sigma, in_a.se_sigma), (in_b.sigma, in_b.se_sigma)),
        skewness=_shift((in_a.skewness, in_a.se_skewness), (in_b.skewness, in_b.se_skewness)),
    )


def _fit(layer: LayerRecord | KeptLayer, side: str) -> FitRecord | KeptFit | NotFitted:
    if layer.fit is None:
        return NotFitted(f"not fitted in {side}: {quoted(layer.not_fitted or '')}")
    return layer.fit if possible(layer.fit) else NotFitted(f"the fit in {side} has numbers that no weights can have")


def _shift(a: tuple[float, float | None], b: tuple[float, float | None]) -> Shift:
    (in_a, error_a), (in_b, error_b) = a, b
    error = NO_ERROR if error_a is None or error_b is None else math.hypot(error_a, error_b)
    return Shift(a=in_a, b=in_b, change=in_b - in_a, error=error)
