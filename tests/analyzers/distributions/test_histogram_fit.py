"""Curve fits to histograms against numpy.histogram and scipy's curve_fit, and what they are worth on known weights."""

import math

import numpy as np
import pytest
from scipy import optimize

from jaynes_audit.analyzers.distributions.histogram_fit import (
    HALF_NORMAL_LOG_MEAN,
    HALF_NORMAL_LOG_SIGMA,
    Amplitude,
    HistogramBins,
    HistogramFit,
    fit_histogram,
)
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from tests.support.families import FAMILIES, FULL_FLOAT32, expected_histogram
from tests.support.weights import decoded, encoded, sketch_of

LOGNORMAL = next(family for family in FAMILIES if family.name == "lognormal")
INFINITELY_MANY = 10**15
SEED = 7

EVERY_AMPLITUDE = pytest.mark.parametrize("amplitude", Amplitude)
NUMBERS_OF_BINS = pytest.mark.parametrize("bins", [30, 100, 1000])


def magnitudes_of(weights: np.ndarray, dtype: Dtype = Dtype.F32) -> Magnitudes:
    return sketch_of(encoded(weights, dtype), dtype).histogram.magnitudes


def fitted(weights: Magnitudes, settings: HistogramBins, *, seed: int = SEED) -> HistogramFit:
    fit = fit_histogram(weights, settings, seed=seed)
    assert isinstance(fit, HistogramFit)
    return fit


def gaussian(*, seed: int, weights: int = 300_000) -> np.ndarray:
    return 0.02 * np.random.default_rng(seed).standard_normal((100, weights // 100))


def lognormal(*, seed: int, log_sigma: float = 0.5, weights: int = 300_000) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(-3.5, log_sigma, (100, weights // 100)))


# ---- the fit

Oracle = tuple[float, float, float, float]


def by_numpy_and_scipy(weights: np.ndarray, bins: int, range_end: float, amplitude: Amplitude) -> Oracle:
    """mu, sigma, amplitude and R^2 from the weights themselves, in units of their geometric mean."""
    logarithms = np.log(np.abs(weights[weights != 0]))
    unit = math.exp(logarithms.mean())
    densities, edges = np.histogram(np.abs(weights) / unit, bins, (0, range_end / unit), density=True)
    x = (edges[1:] + edges[:-1]) / 2

    def curve(x: np.ndarray, mu: float, sigma: float, area: float = 1.0) -> np.ndarray:
        return area / (x * sigma * math.sqrt(2 * math.pi)) * np.exp(-((np.log(x) - mu) ** 2) / (2 * sigma**2))

    start = [0.0, logarithms.std(), 1.0][: 3 if amplitude is Amplitude.FREE else 2]
    constants, _ = optimize.curve_fit(curve, x, densities, start, xtol=1e-12, ftol=1e-12)
    residuals = densities - curve(x, *constants)
    r_squared = 1 - np.sum(residuals**2) / np.sum((densities - densities.mean()) ** 2)
    mu, sigma, area = (*constants, 1.0)[:3]
    return mu + logarithms.mean(), sigma, area, r_squared


def as_oracle(fit: HistogramFit) -> Oracle:
    return fit.log_mean, fit.log_sigma, fit.amplitude, fit.r_squared


@EVERY_AMPLITUDE
@pytest.mark.parametrize("draw", [gaussian, lognormal])
def test_where_bins_end_with_cells_the_fit_is_numpys_and_scipys(draw: object, amplitude: Amplitude) -> None:
    # Cells of float32 end half a float32 below the 16-bit codes, of which 64 in this range are whole 512ths.
    weights = draw(seed=1)
    settings = HistogramBins(bins=64, range_end=0.125, amplitude=amplitude)
    fit = fitted(magnitudes_of(weights), settings)
    expected = by_numpy_and_scipy(weights.astype(np.float32), 64, 0.125, amplitude)
    assert as_oracle(fit) == pytest.approx(expected, rel=1e-5)


@EVERY_AMPLITUDE
@NUMBERS_OF_BINS
@pytest.mark.parametrize("draw", [gaussian, lognormal])
def test_the_fit_to_all_weights_is_numpys_and_scipys(draw: object, bins: int, amplitude: Amplitude) -> None:
    weights = draw(seed=2)
    fit = fitted(magnitudes_of(weights), HistogramBins(bins=bins, amplitude=amplitude))
    greatest = np.abs(weights).max()
    assert greatest <= fit.range_end <= greatest * (1 + 2**-7)
    assert fit.bins == bins
    expected = by_numpy_and_scipy(weights, bins, fit.range_end, amplitude)
    assert as_oracle(fit) == pytest.approx(expected, abs=5e-4)


def test_lognormal_weights_give_their_own_parameters_back() -> None:
    weights = expected_histogram(LOGNORMAL, Dtype.F32, FULL_FLOAT32, weights=INFINITELY_MANY).magnitudes
    fit = fitted(weights, HistogramBins(bins=4000, range_end=0.4, amplitude=Amplitude.FREE))
    assert fit.log_mean == pytest.approx(LOGNORMAL.log_mean, abs=2e-3)
    assert fit.log_sigma == pytest.approx(LOGNORMAL.log_sigma, abs=2e-3)
    assert fit.r_squared > 0.9999


def test_lognormal_samples_give_their_own_parameters_back_on_average() -> None:
    samples = [magnitudes_of(lognormal(seed=seed, weights=10_000)) for seed in range(40)]
    fits = [fitted(sample, HistogramBins(bins=100)) for sample in samples]
    estimates = np.array([(fit.log_mean, fit.log_sigma, fit.amplitude) for fit in fits])
    errors = estimates.std(axis=0, ddof=1) / math.sqrt(40)
    assert (np.abs(estimates.mean(axis=0) - [-3.5, 0.5, 1.0]) < 4 * errors).all()


def test_a_free_amplitude_makes_up_for_the_weights_beyond_the_range() -> None:
    weights = expected_histogram(LOGNORMAL, Dtype.F32, FULL_FLOAT32, weights=INFINITELY_MANY).magnitudes
    median = math.exp(LOGNORMAL.log_mean)
    fit = fitted(weights, HistogramBins(bins=200, range_end=median, amplitude=Amplitude.FREE))
    assert fit.amplitude == pytest.approx(2, rel=0.01)
    assert fit.log_mean == pytest.approx(LOGNORMAL.log_mean, abs=0.01)


def test_an_amplitude_of_one_is_not_fitted() -> None:
    weights = magnitudes_of(gaussian(seed=3))
    free, one = (fitted(weights, HistogramBins(bins=100, amplitude=amplitude)) for amplitude in Amplitude)
    assert one.amplitude == 1.0
    assert free.amplitude > 1.1
    assert free.r_squared > one.r_squared


def test_weights_stored_in_16_bits_do_not_comb_the_histogram() -> None:
    weights = lognormal(seed=4, log_sigma=0.3)
    settings = HistogramBins(bins=2000, range_end=float(weights.max()))
    fit, of_float32 = (fitted(magnitudes_of(weights, dtype), settings) for dtype in (Dtype.BF16, Dtype.F32))
    assert as_oracle(fit) == pytest.approx(as_oracle(of_float32), abs=1e-3)
    stored = decoded(encoded(weights, Dtype.BF16), Dtype.BF16)
    *_, combed = by_numpy_and_scipy(stored, settings.bins, fit.range_end, settings.amplitude)
    assert combed < 0.7
    assert fit.r_squared > 0.99


def test_the_scale_of_the_weights_shifts_mu_alone() -> None:
    weights = gaussian(seed=5)
    one, other = (fitted(magnitudes_of(scale * weights), HistogramBins(bins=50)) for scale in (1.0, 2.0**-40))
    assert one.log_mean - other.log_mean == pytest.approx(40 * math.log(2))
    assert as_oracle(one)[1:] == pytest.approx(as_oracle(other)[1:], rel=1e-6)
    assert one.gaussian_r_squared == pytest.approx(other.gaussian_r_squared)


# ---- what Gaussian noise gets


@EVERY_AMPLITUDE
@NUMBERS_OF_BINS
def test_gaussian_noise_reaches_a_high_r_squared_and_the_noise_beside_it_the_same(
    bins: int, amplitude: Amplitude
) -> None:
    fit = fitted(magnitudes_of(gaussian(seed=6)), HistogramBins(bins=bins, amplitude=amplitude))
    assert 0.85 < fit.r_squared < 0.99
    assert fit.gaussian_r_squared == pytest.approx(fit.r_squared, abs=0.005)


def test_the_noise_beside_lognormal_weights_is_gaussian_of_their_number_and_rms() -> None:
    weights = lognormal(seed=7)
    settings = HistogramBins(bins=40)
    fit = fitted(magnitudes_of(weights), settings)
    rms = math.sqrt(np.mean(weights**2))
    noise = rms * np.random.default_rng(8).standard_normal(weights.shape)
    *_, expected = by_numpy_and_scipy(noise, 40, fit.range_end, Amplitude.FREE)
    assert fit.gaussian_r_squared == pytest.approx(expected, abs=0.002)
    assert fit.r_squared > 0.99


def test_the_start_for_the_noise_is_the_log_moments_of_a_half_normal() -> None:
    normal = FAMILIES[0]
    assert pytest.approx(normal.log_mean, abs=1e-6) == HALF_NORMAL_LOG_MEAN
    assert pytest.approx(normal.log_sigma, abs=1e-6) == HALF_NORMAL_LOG_SIGMA


def test_the_same_seed_gives_the_same_noise_and_another_another() -> None:
    weights = magnitudes_of(gaussian(seed=9, weights=10_000))
    settings = HistogramBins(bins=30)
    assert fitted(weights, settings, seed=1) == fitted(weights, settings, seed=1)
    first, second = (fitted(weights, settings, seed=seed) for seed in (1, 2))
    assert first.gaussian_r_squared != second.gaussian_r_squared
    assert as_oracle(first) == as_oracle(second)


def test_noise_that_fills_too_few_bins_is_not_fitted() -> None:
    # Some weights are thousands of times the median, and the rms is 55 times: a tenth of the first bin.
    weights = lognormal(seed=10, log_sigma=2.0)
    fit = fitted(magnitudes_of(weights), HistogramBins(bins=10, amplitude=Amplitude.ONE))
    assert fit.gaussian_r_squared == NotFitted("weights in 1 of the bins cannot determine the 2 constants of a curve")


# ---- what cannot be fitted

TWO_VALUES = np.repeat([[1.0], [2.0]], 50, axis=0)
ONE_OUTLIER = np.where(np.arange(10_000) == 3_004, 100.0, 0.37).reshape(100, 100)


@pytest.mark.parametrize(
    ("weights", "settings", "reason"),
    [
        (np.zeros((5, 5)), HistogramBins(bins=100), "fewer than two distinct"),
        (np.full((5, 5), 0.25), HistogramBins(bins=100), "fewer than two distinct"),
        (np.full((5, 5), np.nan), HistogramBins(bins=100), "fewer than two distinct"),
        (TWO_VALUES, HistogramBins(bins=1, amplitude=Amplitude.ONE), "weights in 1 of the bins"),
        (TWO_VALUES, HistogramBins(bins=2, range_end=1e-3), "weights in 0 of the bins"),
        (TWO_VALUES, HistogramBins(bins=10, amplitude=Amplitude.FREE), "weights in 2 of the bins"),
        (gaussian(seed=11), HistogramBins(bins=2), "weights in 2 of the bins"),
        (TWO_VALUES**2, HistogramBins(bins=2, amplitude=Amplitude.ONE), "every bin holds the same number"),
        (ONE_OUTLIER, HistogramBins(bins=30, amplitude=Amplitude.ONE), "least squares found no curve"),
    ],
)
def test_a_histogram_that_cannot_determine_a_curve_is_not_fitted(
    weights: np.ndarray, settings: HistogramBins, reason: str
) -> None:
    fit = fit_histogram(magnitudes_of(weights), settings, seed=SEED)
    assert isinstance(fit, NotFitted)
    assert fit.reason.startswith(reason)


def test_a_curve_that_misses_has_a_negative_r_squared() -> None:
    weights = magnitudes_of(np.random.default_rng(12).uniform(-1, 1, (100, 1000)))
    assert fitted(weights, HistogramBins(bins=100, amplitude=Amplitude.ONE)).r_squared < 0


def test_least_squares_that_run_away_are_not_fitted() -> None:
    # Two bins of very unlike height and next to nothing beyond: ever narrower and higher curves fit ever better.
    weights = magnitudes_of(lognormal(seed=13, log_sigma=2.0))
    fit = fit_histogram(weights, HistogramBins(bins=10), seed=SEED)
    assert fit == NotFitted("least squares did not converge")


@EVERY_AMPLITUDE
@pytest.mark.parametrize("bins", [2, 100, 1000])
@pytest.mark.parametrize(
    "weights",
    [
        TWO_VALUES,
        np.repeat([[1.0], [1.0078125]], 50, axis=0),
        np.repeat([[1e-38], [1e38]], 50, axis=0),
        ONE_OUTLIER,
        np.where(np.arange(10_000) == 3_004, 1e-45, 0.37).reshape(100, 100),
        np.exp(3 * np.random.default_rng(13).standard_normal((100, 100))),
        np.tile([[1.0, 2.0, 3.0, 4.0]], (25, 1)),
    ],
    ids=["two values", "two neighbours", "two far apart", "one outlier", "one tiny outlier", "heavy tail", "steps"],
)
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F8_E5M2])
def test_odd_weights_give_a_finite_fit_or_a_reason(
    weights: np.ndarray, bins: int, amplitude: Amplitude, dtype: Dtype
) -> None:
    fit = fit_histogram(magnitudes_of(weights, dtype), HistogramBins(bins=bins, amplitude=amplitude), seed=SEED)
    if isinstance(fit, HistogramFit):
        assert np.isfinite(as_oracle(fit)).all()
        assert fit.r_squared <= 1
