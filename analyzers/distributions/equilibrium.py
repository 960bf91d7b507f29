"""The teleodynamic reading of a fitted lognormal: what its weights would be worth, and how equal they are in that."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.intervals import Intervals

Floats = npt.NDArray[np.float64]

CENTRAL = (0.01, 0.99)  # quantiles; beyond them the counts are low and the logarithm of a count hardly known
OCTAVE = math.log(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equilibrium:
    """A lognormal as the arbitrage equilibrium of a game between connections, and how far the weights are from that.

    In the theory a connection of strength w = |weight| has the effective utility
    alpha ln w - beta (ln w)^2 - gamma ln f(w), f being the density of the strengths, and connections change until all
    have the same; then f is LN(mu, sigma) with mu = (alpha + gamma)/(2 beta) and sigma^2 = gamma/(2 beta)
    (Venkatasubramanian, Sanjeevrajan and Khandekar 2023). Any mu and sigma give an alpha and a beta, so these two prove
    nothing; the other quantities tell whether the utilities are equal.

    - `alpha_over_gamma` = mu/sigma^2 - 1: the benefit of strength. It depends on the unit that weights are measured in,
      and is negative wherever mu < sigma^2, as it is for weights below 1: the benefit would then be a loss.
    - `beta_over_gamma` = 1/(2 sigma^2): the cost of strength.
    - `utility_spread`: standard deviation over the connections of their effective utility in units of gamma, between
      the 1 % and the 99 % quantile of w, less what counting adds. 0 at equilibrium.
    - `log_entropy`: differential entropy of ln w, in nats; `entropy` that of w (signs are not part of it), and
      `ideal_entropy` that of the fitted lognormal, the greatest there is for this mu and sigma.
    - `entropy_gap` = ideal - measured: the divergence KL(weights || fit), but for the width of the intervals.
    """

    alpha_over_gamma: float
    beta_over_gamma: float
    utility_spread: float
    log_entropy: float
    entropy: float
    ideal_entropy: float
    entropy_gap: float


def read_equilibria(
    intervals: Intervals, log_means: Floats, log_sigmas: Floats, log_fitted: Floats
) -> list[Equilibrium]:
    """Read the fitted lognormals of layers as equilibria.

    `log_means` and `log_sigmas` have one entry per layer, `log_fitted` one per interval: the natural logarithm of the
    probability that the layer's lognormal has there.
    """
    spreads = _utility_spreads(intervals, log_fitted)
    log_entropies = _log_entropies(intervals)
    # Entropy of a normal variable, and of its exponential: 1/2 ln(2 pi e sigma^2), and mu more.
    ideal_log_entropies = np.log(log_sigmas) + math.log(2 * math.pi * math.e) / 2
    readings = np.stack(
        [
            log_means / log_sigmas**2 - 1,
            1 / (2 * log_sigmas**2),
            spreads,
            log_entropies,
            log_entropies + log_means,
            ideal_log_entropies + log_means,
            ideal_log_entropies - log_entropies,
        ]
    )
    return [
        Equilibrium(
            alpha_over_gamma=alpha,
            beta_over_gamma=beta,
            utility_spread=spread,
            log_entropy=log_entropy,
            entropy=entropy,
            ideal_entropy=ideal,
            entropy_gap=gap,
        )
        for alpha, beta, spread, log_entropy, entropy, ideal, gap in readings.T.tolist()
    ]


def _utility_spreads(intervals: Intervals, log_fitted: Floats) -> Floats:
    """Standard deviation of the effective utility over the central weights of each layer, in units of gamma.

    With the fit's alpha and beta, and x = ln w, the utility is ln(fitted density of x / density of x) but for a
    constant; of an interval, ln(fitted probability / share). The intervals that hold a quantile count in part.

    Counting adds to the variance. A tally t is Poisson, so ln(share) has the variance 1/t. Weighted by t/N, where N
    central weights lie in K intervals, these average to K/N, and the mean utility takes up the variance
    sum (t/N)^2/t = 1/N of them: (K - 1)/N is subtracted.
    """
    running = np.cumsum(intervals.tallies)
    before_layer = running[intervals.starts] - intervals.tallies[intervals.starts]
    above = running - intervals.spread(before_layer)
    first, last = (quantile * intervals.spread(intervals.weights) for quantile in CENTRAL)
    central = np.clip(above, first, last) - np.clip(above - intervals.tallies, first, last)
    utility = log_fitted - np.log(intervals.shares)
    weights = intervals.sums(central)
    mean = intervals.sums(central * utility) / weights
    variance = intervals.sums(central * (utility - intervals.spread(mean)) ** 2) / weights
    counting = (intervals.sums(central / intervals.tallies) - 1) / weights
    return np.sqrt(np.maximum(variance - counting, 0))


def _log_entropies(intervals: Intervals) -> Floats:
    """Differential entropy of ln w of each layer, in nats, the density taken as constant within an interval.

    The plug-in estimate over K intervals is too low by about (K - 1)/(2n) (Miller 1955). The interval of float32's
    smallest numbers reaches down to 0, so its width is infinite: it is taken for one octave.
    """
    bounded = np.isfinite(intervals.log_lower)
    widths = np.where(bounded, intervals.log_upper - intervals.log_lower, OCTAVE)
    plug_in = -intervals.sums(intervals.shares * np.log(intervals.shares / widths))
    return plug_in + (intervals.lengths - 1) / (2 * intervals.weights)
