"""CANDIDATES: the families of laws that compete for the magnitudes of a layer's weights.

Each is a family of scales: with x = ln|w| and u = x - ln(scale), its log density of x depends on u and at most one
shape. So a law of the weights that is symmetric about 0 stands here as the law of their magnitudes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Family(StrEnum):
    """The name of a law of the weights."""

    GAUSSIAN = "Gaussian"
    LAPLACE = "Laplace"
    UNIFORM = "uniform"
    LOGNORMAL = "lognormal"
    WEIBULL = "Weibull"
    GAMMA = "gamma"
    GENERALISED_NORMAL = "generalised normal"
    STUDENT_T = "Student t"
    TRUNCATED_GAUSSIAN = "truncated Gaussian"


class Searched(Enum):
    """Which parameters the likelihood is maximised over; the others follow in closed form."""

    SCALE = auto()
    SHAPE = auto()
    SCALE_AND_SHAPE = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Candidate:
    """A family and how it is fitted.

    The density of x = ln|w| at u = x - ln(scale) has the natural logarithm `log_height(shape) + log_form(u, shape)`:
    what all weights of a layer have in common, and the rest, for arrays that broadcast. `start(mu, sigma)` gives
    ln(scale) and ln(shape) with about the mean and standard deviation of x, one entry per layer. `shapes` bounds the
    shape. A family that `ends` has its scale for its greatest weight.
    """

    family: Family
    parameters: int
    searched: Searched
    log_height: Callable[[Floats], Floats]
    log_form: Callable[[Floats, Floats], Floats]
    start: Callable[[Floats, Floats], tuple[Floats, Floats]]
    shapes: tuple[float, float] = (1.0, 1.0)
    ends: bool = False


def log_gamma(values: Floats) -> Floats:
    """Natural logarithm of the gamma function, element by element."""
    # The C library's, for the few shapes of a stack: scipy.special takes longer to import than they to compute.
    return np.array([math.lgamma(value) for value in values.ravel().tolist()]).reshape(values.shape)


# ---- densities of u: what depends on the shape alone, and the rest

LOG_HALF_NORMAL = math.log(2 / math.sqrt(2 * math.pi))
LOG_NORMAL = -math.log(2 * math.pi) / 2


def _constant(height: float) -> Callable[[Floats], Floats]:
    return lambda shape: np.full_like(shape, height)


def _gaussian(u: Floats, _: Floats) -> Floats:
    return u - np.exp(2 * u) / 2


def _laplace(u: Floats, _: Floats) -> Floats:
    return u - np.exp(u)


def _uniform(u: Floats, _: Floats) -> Floats:
    return u


def _lognormal_height(sigma: Floats) -> Floats:
    return LOG_NORMAL - np.log(sigma)


def _lognormal(u: Floats, sigma: Floats) -> Floats:
    z = u / sigma
    return z * z / -2


def _weibull_height(shape: Floats) -> Floats:
    return np.log(shape)


def _weibull(u: Floats, shape: Floats) -> Floats:
    log_hazard = shape * u
    return log_hazard - np.exp(log_hazard)


def _gamma_height(shape: Floats) -> Floats:
    return -log_gamma(shape)


def _gamma(u: Floats, shape: Floats) -> Floats:
    return shape * u - np.exp(u)


def _generalised_normal_height(power: Floats) -> Floats:
    return np.log(power) - log_gamma(1 / power)


def _generalised_normal(u: Floats, power: Floats) -> Floats:
    return u - np.exp(power * u)


def _student_t_height(freedom: Floats) -> Floats:
    return math.log(2) + log_gamma((freedom + 1) / 2) - log_gamma(freedom / 2) - np.log(freedom * math.pi) / 2


def _student_t(u: Floats, freedom: Floats) -> Floats:
    return u - (freedom + 1) / 2 * np.log(1 + np.exp(2 * u) / freedom)


def _truncated_gaussian_height(cut: Floats) -> Floats:
    mass = np.array([math.erf(at) for at in (cut.ravel() * math.sqrt(0.5)).tolist()]).reshape(cut.shape)
    log_height: Floats = LOG_HALF_NORMAL + np.log(cut / mass)
    return log_height


def _truncated_gaussian(u: Floats, cut: Floats) -> Floats:
    standard = cut * np.exp(u)
    return u - standard * standard / 2


# ---- starting points: the shape that has the layer's variance of x, and the scale that then has its mean

STARTING_SHAPES = 400  # per family, equally far apart in their logarithm; Newton's method does the rest
STEP = 1e-3  # of differences of ln(gamma), whose error of 1e-6 does not matter in a starting point


def _digamma(at: Floats) -> Floats:
    return (log_gamma(at + STEP * at) - log_gamma(at - STEP * at)) / (2 * STEP * at)


def _trigamma(at: Floats) -> Floats:
    return (log_gamma(at + STEP * at) - 2 * log_gamma(at) + log_gamma(at - STEP * at)) / (STEP * at) ** 2


def _table(
    shapes: tuple[float, float], moments: Callable[[Floats], tuple[Floats, Floats]]
) -> Callable[[Floats, Floats], tuple[Floats, Floats]]:
    """Start where the family's own mean and variance of u, tabled by shape, meet the layer's."""

    @cache
    def table() -> tuple[Floats, Floats, Floats]:
        log_shapes = np.linspace(math.log(shapes[0]), math.log(shapes[1]), STARTING_SHAPES)
        means, variances = moments(np.exp(log_shapes))
        return log_shapes, means, variances

    def start(mu: Floats, sigma: Floats) -> tuple[Floats, Floats]:
        log_shapes, means, variances = table()
        log_shape = np.interp(sigma**2, variances[::-1], log_shapes[::-1])  # the variance falls as the shape grows
        return mu - np.interp(log_shape, log_shapes, means), log_shape

    return start


LOG_MEAN_GAUSSIAN = -(float(np.euler_gamma) + math.log(2)) / 2
LOG_MEAN_EXPONENTIAL = -float(np.euler_gamma)

WEIBULL_SHAPES = (0.1, 30.0)
GAMMA_SHAPES = (0.03, 300.0)
POWERS = (0.1, 30.0)  # of the generalised normal: 1 is Laplace, 2 Gaussian, the greatest nearly uniform
FREEDOMS = (0.3, 200.0)  # of Student's t: at the greatest it is within 2e-5 nats of a Gaussian
SIGMAS = (1e-3, 30.0)
CUTS = (0.03, 1e6)  # of the truncated Gaussian, in standard deviations: uniform to 1e-7 at the least

CANDIDATES: tuple[Candidate, ...] = (
    Candidate(
        family=Family.GAUSSIAN,
        parameters=1,
        searched=Searched.SCALE,
        log_height=_constant(LOG_HALF_NORMAL),
        log_form=_gaussian,
        start=lambda mu, _: (mu - LOG_MEAN_GAUSSIAN, np.zeros_like(mu)),
    ),
    Candidate(
        family=Family.LAPLACE,
        parameters=1,
        searched=Searched.SCALE,
        log_height=_constant(0.0),
        log_form=_laplace,
        start=lambda mu, _: (mu - LOG_MEAN_EXPONENTIAL, np.zeros_like(mu)),
    ),
    Candidate(
        family=Family.UNIFORM,
        parameters=1,
        searched=Searched.NOTHING,
        log_height=_constant(0.0),
        log_form=_uniform,
        start=lambda mu, _: (np.zeros_like(mu), np.zeros_like(mu)),
        ends=True,
    ),
    Candidate(
        family=Family.LOGNORMAL,
        parameters=2,
        searched=Searched.SCALE_AND_SHAPE,
        log_height=_lognormal_height,
        log_form=_lognormal,
        start=lambda mu, sigma: (mu, np.log(sigma)),
        shapes=SIGMAS,
    ),
    Candidate(
        family=Family.WEIBULL,
        parameters=2,
        searched=Searched.SCALE_AND_SHAPE,
        log_height=_weibull_height,
        log_form=_weibull,
        start=_table(WEIBULL_SHAPES, lambda shape: (LOG_MEAN_EXPONENTIAL / shape, np.pi**2 / 6 / shape**2)),
        shapes=WEIBULL_SHAPES,
    ),
    Candidate(
        family=Family.GAMMA,
        parameters=2,
        searched=Searched.SCALE_AND_SHAPE,
        log_height=_gamma_height,
        log_form=_gamma,
        start=_table(GAMMA_SHAPES, lambda shape: (_digamma(shape), _trigamma(shape))),
        shapes=GAMMA_SHAPES,
    ),
    Candidate(
        family=Family.GENERALISED_NORMAL,
        parameters=2,
        searched=Searched.SCALE_AND_SHAPE,
        log_height=_generalised_normal_height,
        log_form=_generalised_normal,
        start=_table(POWERS, lambda power: (_digamma(1 / power) / power, _trigamma(1 / power) / power**2)),
        shapes=POWERS,
    ),
    Candidate(
        family=Family.STUDENT_T,
        parameters=2,
        searched=Searched.SCALE_AND_SHAPE,
        log_height=_student_t_height,
        log_form=_student_t,
        start=_table(
            FREEDOMS,
            lambda freedom: (
                np.log(freedom) / 2 + (_digamma(np.array([0.5])) - _digamma(freedom / 2)) / 2,
                (_trigamma(np.array([0.5])) + _trigamma(freedom / 2)) / 4,
            ),
        ),
        shapes=FREEDOMS,
    ),
    Candidate(
        family=Family.TRUNCATED_GAUSSIAN,
        parameters=2,
        searched=Searched.SHAPE,
        log_height=_truncated_gaussian_height,
        log_form=_truncated_gaussian,
        start=lambda mu, _: (np.zeros_like(mu), LOG_MEAN_GAUSSIAN - mu),
        shapes=CUTS,
        ends=True,
    ),
)
"""The nine, the fewest parameters first. Those that end are fitted with their end for the unit of weights."""
