"""Families of weights, what their logarithms are known to do, and the counts a sketch would hold of infinitely many."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.grid import grid_of
from jaynes_audit.analyzers.sketch.histogram import Histogram

FULL_FLOAT32 = 0xFFFF
"""Low bits of float32 weights that use all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A law of the weights, and the exact moments of ln|w|; scale 1.

    The moments of the table are known to six digits after the point (second-kind statistics, by polygamma functions).
    `divergence` and `ks_distance` are those to the lognormal with the same log-moments, to four, where they are known.
    """

    name: str
    law: Any
    log_mean: float
    log_variance: float
    skewness: float
    excess_kurtosis: float
    divergence: float | None = None
    ks_distance: float | None = None

    @property
    def log_sigma(self) -> float:
        return float(np.sqrt(self.log_variance))

    def share_between(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Probability that |w| lies between two ends."""
        below, above = self.law.cdf([-upper, lower]), self.law.cdf([-lower, upper])
        return (above - below).sum(axis=0)


GAMMA_E = float(np.euler_gamma)
PI2 = float(np.pi**2)

FAMILIES = (
    Family(
        name="Normal",
        law=stats.norm(),
        log_mean=-0.635181,
        log_variance=1.233701,
        skewness=-1.535142,
        excess_kurtosis=4.0,
        divergence=0.1630,
        ks_distance=0.0963,
    ),
    Family(
        name="Uniform",
        law=stats.uniform(-1, 2),
        log_mean=-1,
        log_variance=1,
        skewness=-2,
        excess_kurtosis=6,
        divergence=0.4189,
        ks_distance=0.1587,
    ),
    Family(
        name="Laplace",
        law=stats.laplace(),
        log_mean=-GAMMA_E,
        log_variance=PI2 / 6,
        skewness=-1.139547,
        excess_kurtosis=2.4,
        divergence=0.0906,
        ks_distance=0.0707,
    ),
    Family(
        name="Student t3",
        law=stats.t(3),
        log_mean=-0.450694,
        log_variance=1.467401,
        skewness=-1.125140,
        excess_kurtosis=2.868264,
        divergence=0.0797,
        ks_distance=0.0724,
    ),
    Family(
        name="Student t5",
        law=stats.t(5),
        log_mean=-0.528614,
        log_variance=1.356290,
        skewness=-1.313093,
        excess_kurtosis=3.317199,
        divergence=0.1083,
        ks_distance=0.0824,
    ),
    Family(
        name="Student t10",
        law=stats.t(10),
        log_mean=-0.583521,
        log_variance=1.289031,
        skewness=-1.433201,
        excess_kurtosis=3.664782,
        divergence=0.1342,
        ks_distance=0.0897,
    ),
    Family(
        name="Normal cut at 2 sd",
        law=stats.truncnorm(-2, 2),
        log_mean=-0.706224,
        log_variance=1.180761,
        skewness=-1.647228,
        excess_kurtosis=4.372470,
        divergence=0.2297,
        ks_distance=0.1036,
    ),
    Family(
        name="generalised normal 1.5",
        law=stats.gennorm(1.5),
        log_mean=-0.878823,
        log_variance=1.361722,
        skewness=-1.377001,
        excess_kurtosis=3.337619,
        divergence=0.1301,
        ks_distance=0.0856,
    ),
    Family(
        name="generalised normal 0.5",
        law=stats.gennorm(0.5),
        log_mean=2 * (1 - GAMMA_E),
        log_variance=4 * (PI2 / 6 - 1),
        skewness=-0.780244,
        excess_kurtosis=1.187526,
        divergence=0.0452,
        ks_distance=0.0493,
    ),
    Family(
        name="Weibull 1.7",
        law=stats.weibull_min(1.7),
        log_mean=-GAMMA_E / 1.7,
        log_variance=PI2 / 6 / 1.7**2,
        skewness=-1.139547,
        excess_kurtosis=2.4,
        divergence=0.0906,
        ks_distance=0.0707,
    ),
    Family(
        name="gamma 0.8",
        law=stats.gamma(0.8),
        log_mean=-0.965009,
        log_variance=2.299474,
        skewness=-1.270493,
        excess_kurtosis=2.906980,
    ),
    Family(
        name="lognormal",
        law=stats.lognorm(1.3, scale=np.exp(-4.2)),
        log_mean=-4.2,
        log_variance=1.69,
        skewness=0,
        excess_kurtosis=0,
        divergence=0,
        ks_distance=0,
    ),
)


def expected_histogram(family: Family, dtype: Dtype, low_bits: int, *, weights: int) -> Histogram:
    """The counts of so many weights when each cell has exactly its share of them."""
    grid = grid_of(dtype, low_bits)
    codes = np.flatnonzero(~np.isnan(grid.value))
    shares = family.share_between(np.exp(grid.log_lower[codes]), np.exp(grid.log_upper[codes]))
    tallies = np.rint(shares * weights).astype(np.int64)
    occurring = tallies > 0
    return Histogram(
        dtype=dtype, low_bits=low_bits, codes=codes[occurring].astype(np.uint16), tallies=tallies[occurring]
    )
