"""Layers of weights whose law is known, in the formats that checkpoints are stored in."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, polygamma

from jaynes_audit.analyzers.chunks import Stored
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.layer_verdict import VerdictKind
from jaynes_audit.analyzers.sketch.extent import Extent

SEED = 20231006
RMS = 0.02  # of the weights: the initial standard deviation of GPT-2, BERT and most of their kind
CUT = 2.0  # standard deviations: where initialisers that truncate do so

Weights = npt.NDArray[np.float64]
Shape = tuple[int, int]
Draw = Callable[[np.random.Generator, Shape], Weights]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A law of weights: how to draw a matrix, its exact root mean square, and the verdicts that are right."""

    name: str
    draw: Draw
    rms: float
    right: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A way to store weights: the format, and the codes that float32 weights are rounded to."""

    name: str
    dtype: Dtype
    store: Callable[[npt.NDArray[np.float32]], Stored]


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """A law with its exact log-moments: mean, standard deviation and skewness of ln|w|."""

    name: str
    draw: Draw
    log_mean: float
    log_sigma: float
    skewness: float


def generator(*key: int) -> np.random.Generator:
    """Give the random numbers of one matrix, whichever process draws it."""
    return np.random.default_rng(np.random.SeedSequence([SEED, *key]))


def chunks(stored: Stored, extent: Extent) -> Iterator[Stored]:
    """Cut a matrix as the audit reads it."""
    for row in range(0, extent.rows, extent.chunk_rows):
        yield stored[row : row + extent.chunk_rows]


# ---- how to draw


def _gaussian(rng: np.random.Generator, shape: Shape) -> Weights:
    return rng.standard_normal(shape)


def _truncated(rng: np.random.Generator, shape: Shape) -> Weights:
    drawn: Weights = ndtri(rng.uniform(ndtr(-CUT), ndtr(CUT), shape))
    return drawn


def _student(freedom: float) -> Draw:
    return lambda rng, shape: rng.standard_t(freedom, shape)


def _signed(magnitudes: Draw) -> Draw:
    def draw(rng: np.random.Generator, shape: Shape) -> Weights:
        drawn = magnitudes(rng, shape)
        return np.where(rng.integers(2, size=shape, dtype=np.bool_), drawn, -drawn)

    return draw


def _generalised(power: float) -> Draw:
    return _signed(lambda rng, shape: rng.standard_gamma(1 / power, shape) ** (1 / power))


def _lognormal(log_sigma: float) -> Draw:
    return _signed(lambda rng, shape: rng.lognormal(0, log_sigma, shape))


def _scaled_rows(log_sd: float, rows_alike: int = 1) -> Draw:
    """Gaussian weights whose rows have lognormal scales, each common to so many neighbours."""

    def draw(rng: np.random.Generator, shape: Shape) -> Weights:
        scales = np.repeat(rng.lognormal(0, log_sd, -(-shape[0] // rows_alike)), rows_alike)[: shape[0]]
        return rng.standard_normal(shape) * scales[:, np.newaxis]

    return draw


# ---- the laws

ONLY_NOT_LOGNORMAL = frozenset({*Family, VerdictKind.BY_MIXING, VerdictKind.UNDECIDED}) - {Family.LOGNORMAL}
"""What may be said of a mixture that is neither Gaussian any more nor lognormal yet."""


def _law(name: str, draw: Draw, rms: float, right: str) -> Law:
    return Law(name=name, draw=draw, rms=rms, right=frozenset({right}))


def _student_law(freedom: int) -> Law:
    return _law(f"Student t, {freedom}", _student(freedom), math.sqrt(freedom / (freedom - 2)), Family.STUDENT_T)


def _generalised_law(power: float) -> Law:
    rms = math.sqrt(math.gamma(3 / power) / math.gamma(1 / power))
    return _law(f"generalised normal, {power}", _generalised(power), rms, Family.GENERALISED_NORMAL)


def _lognormal_law(log_sigma: float) -> Law:
    return _law(f"lognormal, {log_sigma}", _lognormal(log_sigma), math.exp(log_sigma**2), Family.LOGNORMAL)


def _scaled_rows_law(log_sd: float, right: frozenset[str]) -> Law:
    return Law(name=f"Gaussian rows, log-sd {log_sd}", draw=_scaled_rows(log_sd), rms=math.exp(log_sd**2), right=right)


TRUNCATED_RMS = math.sqrt(1 - 2 * CUT * math.exp(-(CUT**2) / 2) / math.sqrt(2 * math.pi) / math.erf(CUT / math.sqrt(2)))
WEIBULL_SHAPE, GAMMA_SHAPE = 1.7, 0.8

LAWS: tuple[Law, ...] = (
    _law("Gaussian", _gaussian, 1.0, Family.GAUSSIAN),
    _law("uniform", lambda rng, shape: rng.uniform(-1, 1, shape), math.sqrt(1 / 3), Family.UNIFORM),
    _law("Laplace", lambda rng, shape: rng.laplace(0, 1, shape), math.sqrt(2), Family.LAPLACE),
    _student_law(3),
    _student_law(5),
    _student_law(10),
    _law(f"Gaussian cut at {CUT:g} sd", _truncated, TRUNCATED_RMS, Family.TRUNCATED_GAUSSIAN),
    _generalised_law(0.5),
    _generalised_law(1.5),
    _law(
        f"Weibull, {WEIBULL_SHAPE}",
        _signed(lambda rng, shape: rng.weibull(WEIBULL_SHAPE, shape)),
        math.sqrt(math.gamma(1 + 2 / WEIBULL_SHAPE)),
        Family.WEIBULL,
    ),
    _law(
        f"gamma, {GAMMA_SHAPE}",
        _signed(lambda rng, shape: rng.standard_gamma(GAMMA_SHAPE, shape)),
        math.sqrt(GAMMA_SHAPE * (GAMMA_SHAPE + 1)),
        Family.GAMMA,
    ),
    _lognormal_law(0.5),
    _lognormal_law(1.0),
    _lognormal_law(1.5),
    _lognormal_law(2.0),
    _scaled_rows_law(0.5, ONLY_NOT_LOGNORMAL),
    _scaled_rows_law(1.0, ONLY_NOT_LOGNORMAL),
    _scaled_rows_law(2.0, frozenset({VerdictKind.BY_MIXING})),
)


# ---- the formats

LARGEST_FP8 = 448.0  # of e4m3


def _as_fp8(weights: npt.NDArray[np.float32]) -> Stored:
    return weights.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


STORAGES: dict[str, Storage] = {
    each.name: each
    for each in (
        Storage(name="fp32", dtype=Dtype.F32, store=lambda weights: weights),
        Storage(
            name="bf16", dtype=Dtype.BF16, store=lambda weights: weights.astype(ml_dtypes.bfloat16).view(np.uint16)
        ),
        Storage(name="fp16", dtype=Dtype.F16, store=lambda weights: weights.astype(np.float16)),
        Storage(
            name="fp8",
            dtype=Dtype.F8_E4M3,
            store=lambda weights: _as_fp8(weights * (np.float32(LARGEST_FP8) / np.abs(weights).max())),
        ),
        Storage(name="fp8, not scaled", dtype=Dtype.F8_E4M3, store=_as_fp8),
    )
}
"""fp8 is e4m3, with the greatest weight scaled to the greatest number that it has, as exporters do, and without."""

USUAL_STORAGES = ["fp32", "bf16", "fp16", "fp8"]


# ---- log-moments of what the coverage is tried on


def _population(name: str, draw: Draw, log_mean: float, cumulants: tuple[float, float]) -> Population:
    variance, third = cumulants
    return Population(
        name=name, draw=draw, log_mean=log_mean, log_sigma=math.sqrt(variance), skewness=third / variance**1.5
    )


# ln|w| of a Gaussian is half the logarithm of a chi-square of one degree of freedom, ln chi^2_k has the cumulants
# psi^(m-1)(k/2), and t^2 is chi^2_1 / (chi^2_k / k); under products log-cumulants add (Nicolas 2002).
GAUSSIAN_LOG_MEAN = -(float(np.euler_gamma) + math.log(2)) / 2
GAUSSIAN_CUMULANTS = (math.pi**2 / 8, float(polygamma(2, 0.5)) / 8)


def _student_population(freedom: int) -> Population:
    log_mean = (math.log(freedom) + float(polygamma(0, 0.5) - polygamma(0, freedom / 2))) / 2
    variance = float(polygamma(1, 0.5) + polygamma(1, freedom / 2)) / 4
    third = float(polygamma(2, 0.5) - polygamma(2, freedom / 2)) / 8
    return _population(f"Student t, {freedom}", _student(freedom), log_mean, (variance, third))


def _scaled_rows_population(log_sd: float, rows_alike: int = 1) -> Population:
    variance, third = GAUSSIAN_CUMULANTS
    alike = f", {rows_alike} rows alike" if rows_alike > 1 else ""
    name = f"Gaussian rows, log-sd {log_sd}{alike}"
    return _population(name, _scaled_rows(log_sd, rows_alike), GAUSSIAN_LOG_MEAN, (variance + log_sd**2, third))


POPULATIONS: tuple[Population, ...] = (
    _population("Gaussian", _gaussian, GAUSSIAN_LOG_MEAN, GAUSSIAN_CUMULANTS),
    _population("lognormal, 1.0", _lognormal(1.0), 0.0, (1.0, 0.0)),
    _student_population(5),
    _scaled_rows_population(0.3),
    _scaled_rows_population(1.0),
    _scaled_rows_population(0.3, rows_alike=4),
    _scaled_rows_population(0.3, rows_alike=64),
)
"""Independent weights, rows with scales of their own, and heads of 4 and of 64 rows with scales of their own."""
