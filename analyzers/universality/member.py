"""A layer as seen beside others."""

from dataclasses import dataclass

from jaynes_audit.analyzers.distributions.quantiles import QUANTILE_PROBABILITIES

COLLAPSE_PROBABILITIES = QUANTILE_PROBABILITIES  # of the curves that are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One fitted layer of those that may share a law.

    `relative_depth` runs from 0 to 1 in the layer's stack; None means that it stands outside a stack. `weights` counts
    the finite non-zero ones. Moments are those of ln|weight|, `log_rms` is the logarithm of the root of the mean
    square, and the errors are standard errors. All of these are finite: a layer that could not be fitted is no member.
    `family` names the law that the layer's weights follow; `may_be_lognormal` tells of an undecided one that it might
    as well be the lognormal. `quantiles` are those of ln|weight|, standardised by the
    layer's own mean and sigma, at `COLLAPSE_PROBABILITIES`. `declared_sd` is the standard deviation of the initial
    weights that the network's config declares; None means that it declares none.
    """

    model: str
    role: str
    relative_depth: float | None
    weights: int
    fan_in: int
    log_mean: float
    log_sigma: float
    skewness: float
    log_rms: float
    log_mean_error: float
    log_sigma_error: float
    skewness_error: float
    family: str
    quantiles: tuple[float, ...]
    declared_sd: float | None
    may_be_lognormal: bool = False
