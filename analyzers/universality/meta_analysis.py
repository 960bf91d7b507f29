"""Values and their standard errors -> how much the truths behind them differ (random-effects meta-analysis)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted

Floats = npt.NDArray[np.float64]

MIN_VALUES = 3  # the prediction interval has two degrees of freedom less than there are values
PREDICTION_LEVEL = 0.95
NOISE_LEVEL = 0.05  # how often homogeneous values exceed `tau_noise`
ROUNDING = (
    1e-6  # share of the largest error below which one is rounding: true ones are a millionth for 1e12 times the n
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomEffects:
    """The mean of the truths behind some values, and the standard deviation `tau` between those truths.

    `mean_error` is the standard error of `mean`. `i_squared`, 0 to 1, is the share of the values' variance that is not
    sampling noise: it nears 1 for any tau at all when the errors are small enough, so it tells nothing about how large
    the differences are. The truth of a further value lies between `prediction_low` and `prediction_high` with
    probability 95 %. `unweighted_tau` estimates the same as `tau`, but every value counts alike: where few values have
    far smaller errors than the rest, `tau` is the spread of those few, and would not see the rest differ.

    `tau_noise` and `unweighted_tau_noise` are what values with these very errors reach in 5 % of cases when all truths
    are equal: less is no evidence of differences. They take the errors as known.
    """

    values: int
    mean: float
    mean_error: float
    tau: float
    i_squared: float
    prediction_low: float
    prediction_high: float
    tau_noise: float
    unweighted_tau: float
    unweighted_tau_noise: float


def random_effects(values: Floats, errors: Floats) -> RandomEffects | NotFitted:
    """Estimate the truths' mean and spread from values, shape (k,), and their standard errors, shape (k,).

    tau^2 = max(0, (Q - (k - 1))/C) with w = 1/error^2, Q = sum w (value - weighted mean)^2 and
    C = sum w - sum w^2 / sum w (DerSimonian & Laird 1986); the prediction interval is that of Higgins, Thompson &
    Spiegelhalter 2009, with k - 2 degrees of freedom; I^2 is that of Higgins & Thompson 2002. Homogeneous values have
    Q chi-squared with k - 1 degrees of freedom, so the upper 5 % point of that, put in the place of Q, gives tau_noise.
    The square of the unweighted tau is the sample variance less the mean squared error, or 0 (Hedges & Olkin 1985); its
    noise limit follows the approximation of Satterthwaite 1946 for the sample variance of unequally noisy values, and
    is exact for equal errors.

    A value is left out when it or its error is not finite, or the error is negative: nothing can be weighed by it. An
    error of zero, or of rounding alone, would outweigh all others and is taken to be the smallest of those. When all
    are zero the values are exact, each weighs the same, and tau is their sample standard deviation, the limit of the
    formula.
    """
    return _random_effects(values, errors, noise_in_values=1)


def expected_random_effects(truths: Floats, errors: Floats) -> RandomEffects | NotFitted:
    """Tell what `random_effects` finds on average when values with such errors are drawn about known truths.

    The truths lack the noise that the values would have, and that the formulas subtract.
    """
    return _random_effects(truths, errors, noise_in_values=0)


def _random_effects(values: Floats, errors: Floats, *, noise_in_values: int) -> RandomEffects | NotFitted:
    from scipy.special import chdtri, stdtrit  # noqa: PLC0415 - it takes longer to import than all of this to compute

    usable = np.isfinite(values) & np.isfinite(errors) & (errors >= 0)
    number = int(usable.sum())
    if number < MIN_VALUES:
        return NotFitted(f"fewer than {MIN_VALUES} values with an error")
    offsets = values[usable] - values[usable][0]  # equal values then differ by exactly nothing
    errors = errors[usable]
    measured = errors > ROUNDING * errors.max()
    least = float(errors[measured].min()) if measured.any() else 0.0
    errors = np.where(measured, errors, least)

    # Q and its mean under homogeneity times least^2, and C so scaled too: the smallest errors cannot overflow.
    weights = _relative_weights(errors**2)
    q = float((weights * (offsets - (weights * offsets).sum() / weights.sum()) ** 2).sum())
    noise = (number - 1) * least**2
    noise_limit = float(chdtri(number - 1, NOISE_LEVEL)) * least**2
    c = float(weights.sum() - (weights**2).sum() / weights.sum())
    tau_squared = max(0.0, (q - noise_in_values * noise) / c)

    variances = errors**2 + tau_squared
    weights = _relative_weights(variances)
    mean = float(values[usable][0] + (weights * offsets).sum() / weights.sum())
    mean_variance = float(variances.min() / weights.sum())

    mean_square = float((errors**2).mean())
    freedom = _freedom(errors)
    variance_limit = mean_square * float(chdtri(freedom, NOISE_LEVEL)) / freedom

    half_width = float(stdtrit(number - 2, (1 + PREDICTION_LEVEL) / 2)) * math.sqrt(tau_squared + mean_variance)
    return RandomEffects(
        values=number,
        mean=mean,
        mean_error=math.sqrt(mean_variance),
        tau=math.sqrt(tau_squared),
        i_squared=c * tau_squared / (c * tau_squared + noise) if tau_squared else 0.0,
        prediction_low=mean - half_width,
        prediction_high=mean + half_width,
        tau_noise=math.sqrt(max(0.0, (noise_limit - noise) / c)),
        unweighted_tau=math.sqrt(max(0.0, float(offsets.var(ddof=1)) - noise_in_values * mean_square)),
        unweighted_tau_noise=math.sqrt(max(0.0, variance_limit - mean_square)),
    )


def _relative_weights(variances: Floats) -> Floats:
    """Inverse variances, the largest of them 1; all 1 when there is no variance at all."""
    least = variances.min()
    return least / variances if least > 0 else np.ones_like(variances)


def _freedom(errors: Floats) -> float:
    """Degrees of freedom of the sample variance of values with such errors (Satterthwaite 1946).

    Twice the squared mean of the sample variance over its variance; k - 1 when the errors are equal.
    """
    variances = (errors / largest) ** 2 if (largest := errors.max()) > 0 else np.ones_like(errors)
    number, total = variances.size, variances.sum()
    trace_of_square = (variances**2).sum() * (1 - 2 / number) + (total / number) ** 2
    return float((total * (number - 1) / number) ** 2 / trace_of_square)
