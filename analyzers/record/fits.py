"""What a report says of one set of weights: the lognormal fitted to it, its rivals, and the ruler."""

import math
from typing import Annotated

from msgspec import Meta, Struct

from jaynes_audit.analyzers.distributions.histogram_fit import HistogramFit
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.distributions.ranking import PARAMETERS, CandidateFit
from jaynes_audit.analyzers.distributions.rulers import RULERS

NOT_FINITE = "its log-moments are not finite numbers: the non-zero weights are too much alike"
ERRORS_NOT_FINITE = "left-out row blocks leave weights too much alike for a standard error"


class RulerRecord(Struct, frozen=True, kw_only=True):
    """What weights of a well-known law score, at any scale. A lognormal scores 0 everywhere but in `sigma`."""

    family: Annotated[str, Meta(description="The law of the weights.")]
    sigma: Annotated[float, Meta(description="Standard deviation of ln|w|.")]
    skewness: Annotated[float, Meta(description="Skewness of ln|w|.")]
    excess_kurtosis: Annotated[float, Meta(description="Excess kurtosis of ln|w|.")]
    psi: Annotated[float, Meta(description="KL(weights || fitted lognormal), in nats per weight.")]
    ks: Annotated[float, Meta(description="Kolmogorov-Smirnov distance to the fitted lognormal, 0 to 1.")]
    wasserstein: Annotated[float, Meta(description="Wasserstein-1 distance of ln|w| to the fit, over sigma.")]
    jensen_shannon: Annotated[float, Meta(description="Jensen-Shannon divergence from the fit, in nats.")]
    hellinger: Annotated[float, Meta(description="Hellinger distance to the fit, 0 to 1.")]


class SpreadRecord(Struct, frozen=True, kw_only=True):
    """A quantity over several layers."""

    least: Annotated[float, Meta(description="Its least value.")]
    median: Annotated[float, Meta(description="Its middle value.")]
    greatest: Annotated[float, Meta(description="Its greatest value.")]


class EquilibriumRecord(Struct, frozen=True, kw_only=True):
    """The fitted lognormal read as an arbitrage equilibrium. Any mu and sigma give some alpha and beta."""

    alpha_over_gamma: Annotated[float, Meta(description="mu/sigma^2 - 1: the benefit of strength.")]
    beta_over_gamma: Annotated[float, Meta(description="1/(2 sigma^2): the cost of strength.")]
    alpha_negative: Annotated[bool, Meta(description="Whether the benefit would be a loss, as for most raw weights.")]
    utility_spread: Annotated[
        float,
        Meta(
            description="Standard deviation of the effective utility over the central "
            "98 % of the weights, in units of gamma; 0 at equilibrium."
        ),
    ]
    log_entropy: Annotated[float, Meta(description="Differential entropy of ln|w|, in nats.")]
    entropy: Annotated[float, Meta(description="Differential entropy of |w|, in nats.")]
    ideal_entropy: Annotated[float, Meta(description="Differential entropy of the fitted lognormal, in nats.")]
    entropy_gap: Annotated[float, Meta(description="Ideal less measured entropy: psi, but for the intervals' width.")]


class PooledFitRecord(Struct, frozen=True, kw_only=True):
    """The lognormal fitted to the weights of several layers thrown together. Layers of unlike scale widen it."""

    mu: Annotated[float, Meta(description="Mean of ln|w| over the finite non-zero weights (natural logarithm).")]
    sigma: Annotated[float, Meta(description="Standard deviation of ln|w|.")]
    skewness: Annotated[float, Meta(description="Skewness of ln|w|: 0 for a lognormal.")]
    excess_kurtosis: Annotated[float, Meta(description="Excess kurtosis of ln|w|: 0 for a lognormal.")]
    psi: Annotated[float, Meta(description="KL(weights || fit), in nats per weight, corrected for counting bias.")]
    ks: Annotated[float, Meta(description="Kolmogorov-Smirnov distance between weights and fit, 0 to 1.")]
    wasserstein: Annotated[float, Meta(description="Wasserstein-1 distance of ln|w| to the fit, over sigma.")]
    jensen_shannon: Annotated[float, Meta(description="Jensen-Shannon divergence from the fit, in nats, corrected.")]
    hellinger: Annotated[float, Meta(description="Hellinger distance to the fit, 0 to 1, corrected.")]


class FitRecord(PooledFitRecord, frozen=True, kw_only=True):
    """The lognormal LN(mu, sigma) fitted to one layer's |w|, its standard errors, and how far the weights are from it.

    Where `jackknife_blocks` is 0 the errors are naive: those of independent weights, which real rows are not, so they
    are too small.
    """

    se_mu: Annotated[float | None, Meta(description="Standard error of mu; null: see `no_errors`.")]
    se_sigma: Annotated[float | None, Meta(description="Standard error of sigma.")]
    se_skewness: Annotated[float | None, Meta(description="Standard error of the skewness.")]
    se_excess_kurtosis: Annotated[float | None, Meta(description="Standard error of the excess kurtosis.")]
    interval_factor: Annotated[
        float | None, Meta(description="Standard errors that a 95 % interval reaches to either side.")
    ]
    jackknife_blocks: Annotated[
        int, Meta(description="Row blocks left out in turn; 0: too few rows, the errors are naive and too small.")
    ]
    no_errors: Annotated[str | None, Meta(description="Why the errors are null; null when they are there.")]
    equilibrium: Annotated[EquilibriumRecord, Meta(description="The fit as an arbitrage equilibrium.")]


class CandidateRecord(Struct, frozen=True, kw_only=True):
    """A family fitted to a layer's |w| by grouped maximum likelihood."""

    family: Annotated[str, Meta(description="The law of the weights.")]
    parameters: Annotated[int, Meta(description="How many parameters it has.")]
    fitted: Annotated[dict[str, float], Meta(description="Its parameters by name.")]
    nats: Annotated[float, Meta(description="Log-likelihood per weight less the lognormal's: positive fits better.")]
    left: Annotated[float, Meta(description="KL(weights || family), in nats per weight: what it leaves unexplained.")]
    bic: Annotated[float, Meta(description="Bayesian information criterion per weight less the lognormal's.")]
    vuong_z: Annotated[float, Meta(description="Vuong's statistic against the lognormal. It decides nothing.")]


class HistogramFitRecord(Struct, frozen=True, kw_only=True):
    """A lognormal curve laid through a histogram of |w| by least squares. It decides nothing."""

    mu: Annotated[float, Meta(description="mu of the curve.")]
    sigma: Annotated[float, Meta(description="sigma of the curve.")]
    amplitude: Annotated[float, Meta(description="What the curve is multiplied by.")]
    r_squared: Annotated[float, Meta(description="R^2 of the curve.")]
    gaussian_r_squared: Annotated[
        float | None, Meta(description="R^2 that Gaussian noise of as many weights gets in the same bins; null: none.")
    ]
    bins: Annotated[int, Meta(description="Equal bins from 0 to `range_end`.")]
    range_end: Annotated[float, Meta(description="Greatest magnitude in the histogram.")]


def ruler_records() -> list[RulerRecord]:
    """Give the public record of the ruler, the Gaussian first."""
    return [
        RulerRecord(
            family=ruler.family,
            sigma=ruler.log_sigma,
            skewness=ruler.skewness,
            excess_kurtosis=ruler.excess_kurtosis,
            psi=ruler.divergence,
            ks=ruler.ks_distance,
            wasserstein=ruler.wasserstein,
            jensen_shannon=ruler.jensen_shannon,
            hellinger=ruler.hellinger,
        )
        for ruler in RULERS
    ]


def sound(fit: LognormalFit | NotFitted) -> LognormalFit | NotFitted:
    """Give the fit, unless rounding left it without a spread to divide by."""
    if isinstance(fit, NotFitted):
        return fit
    moments, equilibrium = fit.moments, fit.equilibrium
    of_moments = (moments.log_mean, moments.log_sigma, moments.skewness, moments.excess_kurtosis)
    of_distances = (fit.divergence, fit.ks_distance, fit.wasserstein, fit.jensen_shannon, fit.hellinger)
    of_equilibrium = (equilibrium.alpha_over_gamma, equilibrium.utility_spread, equilibrium.log_entropy)
    return fit if finite(*of_moments, *of_distances, *of_equilibrium) else NotFitted(NOT_FINITE)


def pooled_record(fit: LognormalFit) -> PooledFitRecord:
    """Give the public record of the fit of several layers together."""
    return PooledFitRecord(**_of_fit(fit))


def fit_record(fit: LognormalFit, errors: LogMomentErrors | NotFitted) -> FitRecord:
    """Give the public record of a layer's fit."""
    reason = errors.reason if isinstance(errors, NotFitted) else ERRORS_NOT_FINITE
    known = errors if isinstance(errors, LogMomentErrors) and _have_values(errors) else None
    equilibrium = fit.equilibrium
    return FitRecord(
        **_of_fit(fit),
        se_mu=known.log_mean if known else None,
        se_sigma=known.log_sigma if known else None,
        se_skewness=known.skewness if known else None,
        se_excess_kurtosis=known.excess_kurtosis if known else None,
        interval_factor=known.interval_factor if known else None,
        jackknife_blocks=known.blocks if known else 0,
        no_errors=None if known else reason,
        equilibrium=EquilibriumRecord(
            alpha_over_gamma=equilibrium.alpha_over_gamma,
            beta_over_gamma=equilibrium.beta_over_gamma,
            alpha_negative=equilibrium.alpha_over_gamma < 0,
            utility_spread=equilibrium.utility_spread,
            log_entropy=equilibrium.log_entropy,
            entropy=equilibrium.entropy,
            ideal_entropy=equilibrium.ideal_entropy,
            entropy_gap=equilibrium.entropy_gap,
        ),
    )


def candidate_record(candidate: CandidateFit) -> CandidateRecord:
    """Give the public record of a family fitted to a layer."""
    values = (candidate.scale, candidate.shape)
    return CandidateRecord(
        family=candidate.family.value,
        parameters=candidate.parameters,
        fitted={name: value for name, value in zip(PARAMETERS[candidate.family], values, strict=True) if name},
        nats=candidate.nats,
        left=candidate.divergence,
        bic=candidate.bic,
        vuong_z=candidate.vuong_z,
    )


def histogram_fit_record(fit: HistogramFit) -> HistogramFitRecord:
    """Give the public record of a curve through a histogram."""
    return HistogramFitRecord(
        mu=fit.log_mean,
        sigma=fit.log_sigma,
        amplitude=fit.amplitude,
        r_squared=fit.r_squared,
        gaussian_r_squared=None if isinstance(fit.gaussian_r_squared, NotFitted) else fit.gaussian_r_squared,
        bins=fit.bins,
        range_end=fit.range_end,
    )


def finite(*numbers: float) -> bool:
    """Whether all of these can be written down."""
    return all(map(math.isfinite, numbers))


def _of_fit(fit: LognormalFit) -> dict[str, float]:
    return {
        "mu": fit.moments.log_mean,
        "sigma": fit.moments.log_sigma,
        "skewness": fit.moments.skewness,
        "excess_kurtosis": fit.moments.excess_kurtosis,
        "psi": fit.divergence,
        "ks": fit.ks_distance,
        "wasserstein": fit.wasserstein,
        "jensen_shannon": fit.jensen_shannon,
        "hellinger": fit.hellinger,
    }


def _have_values(errors: LogMomentErrors) -> bool:
    return finite(errors.log_mean, errors.log_sigma, errors.skewness, errors.excess_kurtosis)
