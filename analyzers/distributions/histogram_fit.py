"""Lognormal curves fitted to histograms of |w| by least squares, beside what Gaussian noise gets in the same bins.

Much work on weights judges a lognormal this way. R^2 close to 1 says little of the law, since Gaussian noise reaches
0.95 in 30 bins, and 1 where most weights share a bin: nothing is decided by these fits.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted, log_moments
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.sketch.histogram import Magnitudes

Floats = npt.NDArray[np.float64]

# Mean and standard deviation of ln|w| for standard normal w (polygamma functions at 1/2).
HALF_NORMAL_LOG_MEAN = -(float(np.euler_gamma) + math.log(2)) / 2
HALF_NORMAL_LOG_SIGMA = math.pi / math.sqrt(8)


class Amplitude(StrEnum):
    """Whether the curve's area is fitted too, or held at that of a density."""

    FREE = "free"
    ONE = "one"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramBins:
    """What to fit a curve to: so many equal bins from 0 to `range_end`, by default to the greatest magnitude.

    `range_end` is positive and finite. Weights beyond it are left out.
    """

    bins: int
    range_end: float | None = None
    amplitude: Amplitude = Amplitude.FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramFit:
    """The curve `amplitude` * LN(`log_mean`, `log_sigma`) nearest to a histogram's densities, and its R^2.

    R^2 is 1 - SS_res/SS_tot over the bins; a bad curve's is negative. `gaussian_r_squared` is the R^2 of the same fit
    to Gaussian noise: as many weights of the same rms in the same bins. Only the distance of the two can mean anything;
    it is NotFitted where the noise, all in a few bins or flat over them, does not determine a curve. `bins` and
    `range_end` are those that were used.
    """

    log_mean: float
    log_sigma: float
    amplitude: float
    r_squared: float
    gaussian_r_squared: float | NotFitted
    bins: int
    range_end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    log_mean: float
    log_sigma: float
    amplitude: float
    r_squared: float


def fit_histogram(magnitudes: Magnitudes, settings: HistogramBins, *, seed: int) -> HistogramFit | NotFitted:
    """Fit the curve A/(x sigma sqrt(2 pi)) exp(-(ln x - mu)^2/(2 sigma^2)) to the density histogram of |w|.

    x is the middle of a bin; the densities are those of the weights inside the range. By default the range ends where
    the cell of the greatest magnitude does, so that it holds every weight. `seed` draws the Gaussian noise: the same
    seed gives the same noise. NotFitted where the histogram does not determine a curve.
    """
    if magnitudes.codes.size < 2:  # noqa: PLR2004 - a spread takes two
        return NotFitted("fewer than two distinct non-zero magnitudes")
    [moments] = log_moments(Stack.of([magnitudes]))
    range_end = settings.range_end
    if range_end is None:
        range_end = math.exp(magnitudes.grid.log_upper[magnitudes.codes[-1]])
    edges = np.linspace(0, range_end, settings.bins + 1)
    curve = _fit_curve(
        _bin_counts(magnitudes, edges),
        edges,
        settings.amplitude,
        log_mean=moments.log_mean,
        log_sigma=moments.log_sigma,
    )
    if isinstance(curve, NotFitted):
        return curve
    rms = math.sqrt(np.average(magnitudes.grid.value[magnitudes.codes] ** 2, weights=magnitudes.tallies))
    noise = _fit_curve(
        _gaussian_bin_counts(magnitudes.weights, rms, edges, seed=seed),
        edges,
        settings.amplitude,
        log_mean=math.log(rms) + HALF_NORMAL_LOG_MEAN,
        log_sigma=HALF_NORMAL_LOG_SIGMA,
    )
    return HistogramFit(
        log_mean=curve.log_mean,
        log_sigma=curve.log_sigma,
        amplitude=curve.amplitude,
        r_squared=curve.r_squared,
        gaussian_r_squared=noise if isinstance(noise, NotFitted) else noise.r_squared,
        bins=settings.bins,
        range_end=range_end,
    )


def _bin_counts(magnitudes: Magnitudes, edges: Floats) -> Floats:
    """How many weights each bin holds.

    A code's weights are shared out over its cell: as points they would comb a histogram of bins narrower than cells.
    """
    ends = np.exp([magnitudes.grid.log_lower[magnitudes.codes], magnitudes.grid.log_upper[magnitudes.codes]])
    running = np.cumsum(magnitudes.tallies)
    below = np.stack([running - magnitudes.tallies, running])
    return np.diff(np.interp(edges, ends.T.reshape(-1), below.T.reshape(-1)))


def _gaussian_bin_counts(weights: int, rms: float, edges: Floats, *, seed: int) -> Floats:
    below = np.array([math.erf(edge / (rms * math.sqrt(2))) for edge in edges.tolist()])
    shares = np.append(np.diff(below), 1 - below[-1])
    return np.random.default_rng(seed).multinomial(weights, shares)[:-1].astype(np.float64)


def _fit_curve(
    counts: Floats, edges: Floats, amplitude: Amplitude, *, log_mean: float, log_sigma: float
) -> _Curve | NotFitted:
    """Fit by Levenberg and Marquardt's method, starting from the lognormal of these log-moments."""
    from scipy.optimize import least_squares  # noqa: PLC0415 - 0.5 s to import, and few audits fit histograms

    start = [0.0, math.log(log_sigma), 1.0][: 3 if amplitude is Amplitude.FREE else 2]
    occupied = np.count_nonzero(counts)
    if occupied < len(start):
        return NotFitted(f"weights in {occupied} of the bins cannot determine the {len(start)} constants of a curve")
    # In units of the geometric mean, so that neither steps nor tolerances depend on the scale of the weights.
    x = (edges[1:] + edges[:-1]) / 2 / math.exp(log_mean)
    log_x = np.log(x)
    densities = counts / counts.sum() / (x[1] - x[0])
    total_squares = float(((densities - densities.mean()) ** 2).sum())
    if total_squares == 0:
        return NotFitted("every bin holds the same number of weights")

    def residuals(constants: Floats) -> Floats:
        sigma = np.exp(constants[1])
        density = np.exp(-(((log_x - constants[0]) / sigma) ** 2) / 2) / (x * sigma * math.sqrt(2 * math.pi))
        missed_by: Floats = density * constants[2:].prod() - densities  # an amplitude that is held is the empty product
        return missed_by

    with np.errstate(all="ignore"):  # trial steps may overflow; a solution may not, see below
        solution = least_squares(residuals, start, method="lm")
    slopes = np.asarray(solution.jac, np.float64)
    if not solution.success or not np.isfinite(slopes).all():
        return NotFitted("least squares did not converge")
    if np.linalg.matrix_rank(slopes) < len(start):
        return NotFitted("least squares found no curve that the histogram determines")
    return _Curve(
        log_mean=float(solution.x[0]) + log_mean,
        log_sigma=math.exp(solution.x[1]),
        amplitude=float(solution.x[2:].prod()),
        r_squared=1 - 2 * float(solution.cost) / total_squares,
    )
