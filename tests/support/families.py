"""Families of weights, what their logarithms are known to do, and the counts a sketch would hold of infinitely many."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special, stats

from jaynes_audit.analyzers.distributions import candidates
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.grid import grid_of
from jaynes_audit.analyzers.sketch.histogram import Histogram

FULL_FLOAT32 = 0xFFFF
"""Low bits of float32 weights that use all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A law of the weights, and the exact moments of ln|w|; scale 1.

    The moments of the table are known to six digits after the point (second-kind statistics, by polygamma functions).
    """

    name: str
    law: Any
    log_mean: float
    log_variance: float
    skewness: float
    excess_kurtosis: float

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
    ),
    Family(
        name="Uniform",
        law=stats.uniform(-1, 2),
        log_mean=-1,
        log_variance=1,
        skewness=-2,
        excess_kurtosis=6,
    ),
    Family(
        name="Laplace",
        law=stats.laplace(),
        log_mean=-GAMMA_E,
        log_variance=PI2 / 6,
        skewness=-1.139547,
        excess_kurtosis=2.4,
    ),
    Family(
        name="Student t3",
        law=stats.t(3),
        log_mean=-0.450694,
        log_variance=1.467401,
        skewness=-1.125140,
        excess_kurtosis=2.868264,
    ),
    Family(
        name="Student t5",
        law=stats.t(5),
        log_mean=-0.528614,
        log_variance=1.356290,
        skewness=-1.313093,
        excess_kurtosis=3.317199,
    ),
    Family(
        name="Student t10",
        law=stats.t(10),
        log_mean=-0.583521,
        log_variance=1.289031,
        skewness=-1.433201,
        excess_kurtosis=3.664782,
    ),
    Family(
        name="Normal cut at 2 sd",
        law=stats.truncnorm(-2, 2),
        log_mean=-0.706224,
        log_variance=1.180761,
        skewness=-1.647228,
        excess_kurtosis=4.372470,
    ),
    Family(
        name="generalised normal 1.5",
        law=stats.gennorm(1.5),
        log_mean=-0.878823,
        log_variance=1.361722,
        skewness=-1.377001,
        excess_kurtosis=3.337619,
    ),
    Family(
        name="generalised normal 0.5",
        law=stats.gennorm(0.5),
        log_mean=2 * (1 - GAMMA_E),
        log_variance=4 * (PI2 / 6 - 1),
        skewness=-0.780244,
        excess_kurtosis=1.187526,
    ),
    Family(
        name="Weibull 1.7",
        law=stats.weibull_min(1.7),
        log_mean=-GAMMA_E / 1.7,
        log_variance=PI2 / 6 / 1.7**2,
        skewness=-1.139547,
        excess_kurtosis=2.4,
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


# ---- distances of a law from the lognormal with its log-moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """The log-moments of a law of the weights, and its distances from the lognormal that has the first two of them."""

    log_mean: float
    log_sigma: float
    skewness: float
    excess_kurtosis: float
    divergence: float
    ks_distance: float
    wasserstein: float
    jensen_shannon: float
    hellinger: float


FINENESS, NODES = 2_500, 8  # panels, and Gauss-Legendre nodes in each


def distances(law: Any) -> Distances:
    """By quadrature over x = ln|w| from -80 to 30, with a break where the law ends; good to seven digits."""
    _, end = law.support()
    breaks = [-80.0, math.log(end), 30.0] if math.isfinite(end) else [-80.0, 30.0]
    edges = np.unique(np.concatenate([np.linspace(*each, FINENESS) for each in pairwise(breaks)]))
    node, weight = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, np.newaxis] / 2
    x, dx = ((edges[:-1] + edges[1:])[:, np.newaxis] / 2 + half * node).reshape(-1), (half * weight).reshape(-1)
    two_sided = law.support()[0] < 0
    density = (1 + two_sided) * law.pdf(np.exp(x)) * np.exp(x)
    mean = (dx * density * x).sum()
    sigma = np.sqrt((dx * density * (x - mean) ** 2).sum())
    lognormal = stats.norm(mean, sigma)
    fitted = lognormal.pdf(x)

    def gap(at: np.ndarray) -> np.ndarray:
        return np.abs(1 - (1 + two_sided) * law.sf(np.exp(at)) - lognormal.cdf(at))

    z = (x - mean) / sigma
    of_law = special.xlogy(density, 2 * density) - special.xlogy(density, density + fitted)
    of_fit = special.xlogy(fitted, 2 * fitted) - special.xlogy(fitted, density + fitted)
    return Distances(
        log_mean=mean,
        log_sigma=sigma,
        skewness=(dx * density * z**3).sum(),
        excess_kurtosis=(dx * density * z**4).sum() - 3,
        divergence=(dx * (special.xlogy(density, density) - density * lognormal.logpdf(x))).sum(),
        ks_distance=max(gap(x).max(), gap(edges).max()),
        wasserstein=(dx * gap(x)).sum() / sigma,
        jensen_shannon=(dx * (of_law + of_fit)).sum() / 2,
        hellinger=math.sqrt(max(0.0, 1 - (dx * np.sqrt(density * fitted)).sum())),
    )


# ---- the laws of magnitudes that compete, as scipy and closed forms have them


@dataclass(frozen=True, slots=True, kw_only=True)
class MagnitudeLaw:
    """A law of |w|: log density, and the probability of less and of more, each accurate where it is small."""

    logpdf: Callable[[np.ndarray], np.ndarray]
    cdf: Callable[[np.ndarray], np.ndarray]
    sf: Callable[[np.ndarray], np.ndarray]

    def share_between(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Probability that |w| lies between two ends."""
        below, above = self.cdf(np.array([lower, upper])), self.sf(np.array([lower, upper]))
        return np.where(below[0] < 0.5, below[1] - below[0], above[0] - above[1])


def magnitude_law(family: candidates.Family, scale: float, shape: float = 1.0) -> MagnitudeLaw:
    """What `jaynes_audit` means by a family with this scale and shape."""
    match family:
        case candidates.Family.GAUSSIAN:
            law = stats.halfnorm(scale=scale)
        case candidates.Family.LAPLACE:
            law = stats.expon(scale=scale)
        case candidates.Family.UNIFORM:
            law = stats.uniform(0, scale)
        case candidates.Family.LOGNORMAL:
            law = stats.lognorm(shape, scale=scale)
        case candidates.Family.WEIBULL:
            law = stats.weibull_min(shape, scale=scale)
        case candidates.Family.GAMMA:
            law = stats.gamma(shape, scale=scale)
        case candidates.Family.GENERALISED_NORMAL:
            law = stats.halfgennorm(shape, scale=scale)
        case candidates.Family.STUDENT_T:
            student = stats.t(shape, scale=scale)
            return MagnitudeLaw(
                logpdf=lambda w: math.log(2) + student.logpdf(w),
                # Abramowitz and Stegun 26.5.27
                cdf=lambda w: special.betainc(0.5, shape / 2, (w / scale) ** 2 / (shape + (w / scale) ** 2)),
                sf=lambda w: 2 * student.sf(w),
            )
        case candidates.Family.TRUNCATED_GAUSSIAN:
            to_z = shape / scale / math.sqrt(2)
            whole, beyond = special.erf(shape / math.sqrt(2)), special.erfc(shape / math.sqrt(2))
            return MagnitudeLaw(
                logpdf=lambda w: math.log(2) + stats.truncnorm.logpdf(w, -shape, shape, scale=scale / shape),
                cdf=lambda w: special.erf(np.minimum(w, scale) * to_z) / whole,
                sf=lambda w: (special.erfc(np.minimum(w, scale) * to_z) - beyond) / whole,
            )
    return MagnitudeLaw(logpdf=law.logpdf, cdf=law.cdf, sf=law.sf)
