"""Members -> what the same layers would show untrained: the null that their constancy must beat."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from jaynes_audit.analyzers.universality.constancy import Estimates, Quantity
from jaynes_audit.analyzers.universality.member import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """The exact moments of ln|w| for weights w of standard deviation 1.

    Of n independent weights the skewness has the variance `skewness_variance`/n: with central moments m_k of the
    standardised ln|w| and g = m_3 it is m_6 - 6 m_4 + 9 - 3 g m_5 + g^2 (35 + 9 m_4)/4 by the delta method
    (Cramer 1946). The normal law's 6/n would be a tenth of it.
    """

    log_mean: float
    log_sigma: float
    skewness: float
    excess_kurtosis: float
    skewness_variance: float


GAUSSIAN = Law(
    log_mean=-(float(np.euler_gamma) + math.log(2)) / 2,
    log_sigma=math.pi / math.sqrt(8),
    skewness=-1.5351415907229,
    excess_kurtosis=4.0,
    skewness_variance=50.9274474837808,
)
"""Polygamma functions at 1/2."""

UNIFORM = Law(
    log_mean=math.log(3) / 2 - 1,
    log_sigma=1.0,
    skewness=-2.0,
    excess_kurtosis=6.0,
    skewness_variance=72.0,
)
"""Uniform between -sqrt(3) and sqrt(3); ln sqrt(3) - ln|w| is standard exponential."""


class Twin(StrEnum):
    """Which untrained layers are put beside the trained ones; all weights independent, shapes the same."""

    GAUSSIAN_AT_OWN_RMS = "Gaussian at each layer's own rms"
    GAUSSIAN_AT_INITIAL_SCALE = "Gaussian at the initial scale"
    UNIFORM_AT_INITIAL_SCALE = "uniform at the initial scale"


def twin_estimates(members: Sequence[Member], twin: Twin) -> dict[Quantity, Estimates]:
    """Give the exact quantities of untrained layers, and the standard errors that their estimates would have.

    The initial scale is the standard deviation that the network declares, or the usual 1/sqrt(fan_in) where it declares
    none that is positive and finite (LeCun et al. 1998). Another constant over sqrt(fan_in), like that of He et al.
    2015, would move every mu alike and leave the spread as it is. The two twins at the initial scale have equal
    spreads.
    """
    law, log_scale = _TWINS[twin]
    log_scales = np.array([log_scale(member) for member in members], dtype=np.float64)
    root_weights = np.sqrt(np.array([member.weights for member in members], dtype=np.float64))
    same = np.ones(len(members))
    log_mean_errors = law.log_sigma / root_weights
    return {
        Quantity.LOG_MEAN: Estimates(values=log_scales + law.log_mean, errors=log_mean_errors),
        Quantity.SCALE_FREE_LOG_MEAN: Estimates(values=same * law.log_mean, errors=log_mean_errors),
        Quantity.LOG_SIGMA: Estimates(
            values=same * law.log_sigma, errors=law.log_sigma * math.sqrt((law.excess_kurtosis + 2) / 4) / root_weights
        ),
        Quantity.SKEWNESS: Estimates(
            values=same * law.skewness, errors=math.sqrt(law.skewness_variance) / root_weights
        ),
    }


def _own_log_scale(member: Member) -> float:
    return member.log_rms


def _initial_log_scale(member: Member) -> float:
    declared = member.declared_sd
    if declared is not None and 0 < declared < math.inf:
        return math.log(declared)
    return -math.log(member.fan_in) / 2


_TWINS: dict[Twin, tuple[Law, Callable[[Member], float]]] = {
    Twin.GAUSSIAN_AT_OWN_RMS: (GAUSSIAN, _own_log_scale),
    Twin.GAUSSIAN_AT_INITIAL_SCALE: (GAUSSIAN, _initial_log_scale),
    Twin.UNIFORM_AT_INITIAL_SCALE: (UNIFORM, _initial_log_scale),
}
