"""What it costs to give all layers one lognormal law, and how much they may differ before it costs too much."""

import math

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import SIMPLICITY_NATS

Floats = npt.NDArray[np.float64]

MARGIN_NATS = SIMPLICITY_NATS  # what a further parameter must earn: laws closer than that are not told apart


def cost_of_one_law(log_means: Floats, log_sigmas: Floats) -> float | NotFitted:
    """Tell how many nats per weight are lost when one lognormal law describes all layers, each layer counting alike.

    It is the mean over the layers of KL(LN(mu_i, s_i) || LN(mu, s)) = ln(s/s_i) + (s_i^2 + (mu_i - mu)^2)/(2 s^2) - 1/2
    (Kullback 1959, for normal ln|weight|). The best common law has mu = mean of mu_i and
    s^2 = mean of s_i^2 + (mu_i - mu)^2, and leaves ln s - mean of ln s_i.
    """
    if log_means.size <= 1:
        return NotFitted("fewer than two layers")
    if log_sigmas.min() <= 0:
        return NotFitted("a layer whose weights are all of one magnitude")
    common_variance = float((log_sigmas**2 + (log_means - log_means.mean()) ** 2).mean())
    return max(0.0, math.log(common_variance) / 2 - float(np.log(log_sigmas).mean()))


def log_mean_margin(log_sigma: float) -> float:
    """Give the between-layer standard deviation of mu that costs MARGIN_NATS, for layers of one sigma.

    To second order KL(LN(mu_i, s_i) || LN(mu, s)) = (mu_i - mu)^2/(2 s^2) + (s_i - s)^2/s^2. Its mean over layers whose
    mu differ by a standard deviation tau, and whose s do not differ, is tau^2/(2 s^2), hence tau = s sqrt(2 cost).
    """
    return log_sigma * math.sqrt(2 * MARGIN_NATS)


def log_sigma_margin(log_sigma: float) -> float:
    """Give the between-layer standard deviation of sigma that costs MARGIN_NATS, for layers of one mu.

    By the same expansion as for mu the mean cost is tau^2/s^2, hence tau = s sqrt(cost).
    """
    return log_sigma * math.sqrt(MARGIN_NATS)


def cost_of_spread(log_mean_tau: float, log_sigma_tau: float, log_sigma: float) -> float:
    """Give the nats per weight that one law costs layers whose mu and sigma differ by these standard deviations.

    To second order, by the expansion above. The taus are free of sampling noise, which `cost_of_one_law` is not.
    """
    return log_mean_tau**2 / (2 * log_sigma**2) + log_sigma_tau**2 / log_sigma**2
