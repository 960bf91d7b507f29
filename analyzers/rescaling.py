"""Histograms -> the factors that weights were multiplied by after they had been rounded to 16 bits.

Rounded once, weights of a smooth law fall on neighbouring codes with nearly equal counts. Multiplied by a factor that
is no power of two and rounded again, they leave a comb: where the factor spreads the old codes some new ones get none,
where it crowds them some get two. The comb is the same in every octave, so that octaves add up; and it is another one
for every factor, so that no other unevenness looks like it: dequantised integers, averages, or few values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram, Magnitudes

Floats = npt.NDArray[np.float64]

NOT_RESCALED = 1.0

LEAST_PER_CODE = 2.0  # weights; fewer tell no empty code from one that chance left out
MOST_EMPTY = 0.5  # share of the codes: a comb leaves at most 17 % of them empty, few values leave more
# Of 6,260 healthy 16-bit layers one fails the chi-square test with such an excess: a table of sines. Averages, and
# integers or fp8 times the scales of groups, do fail it, and the comb that fits them best explains up to 0.3 of the
# excess; of weights that were multiplied by 1.05 or more it explains 0.55 or more.
LEAST_Z = 10.0  # of the chi-square test of smoothness: standard deviations
LEAST_EXCESS = 0.02  # of the mean square relative deviation beyond chance; 0.05 for a factor of 1.05
LEAST_EXPLAINED = 0.45  # share of the excess
LEAST_AMPLITUDE = 0.6  # of the comb; 1 if all weights were multiplied

SMOOTH_DEGREE = 6  # of the polynomial in the logarithm that a smooth law is within an octave
FLOOR = 0.2  # of the mean count; expected counts are no smaller
HARMONICS = 8
STEPS = 64  # of frequency for every code of an octave
CANDIDATES = 16  # factors whose combs are compared exactly


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Octave:
    """The codes of one octave, by their significands as whole numbers, shape (codes,).

    The rows of `smooth` (codes, functions) are what a smooth law may look like, orthonormal, each code weighted by the
    root of its significand. A last function tells even codes from odd ones: ties of a rounding go to the even.
    """

    significands: npt.NDArray[np.int64]
    smooth: Floats


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Waves:
    """How strongly each harmonic (rows) belongs to the comb of a factor (columns), and where in a spectrum it is."""

    factors: Floats
    indices: npt.NDArray[np.int64]
    strengths: Floats


def rescaled_by(histograms: Sequence[Histogram]) -> list[float]:
    """Estimate the factors, from 1 to 2, that layers were multiplied by between two roundings; 1 if they were not.

    Factors that differ by a power of two cannot be told apart. Of formats other than bfloat16 and float16, and of too
    few weights, nothing is said: 1. Factors within 2 % of a power of two are not seen.
    """
    factors = [NOT_RESCALED] * len(histograms)
    for dtype in (Dtype.BF16, Dtype.F16):
        indices = [index for index, each in enumerate(histograms) if each.dtype is dtype]
        if indices:
            for index, factor in _factors([histograms[index].magnitudes for index in indices]):
                factors[indices[index]] = factor
    return factors


def _factors(layers: Sequence[Magnitudes]) -> Iterator[tuple[int, float]]:
    """Give the place and the factor of every layer that is uneven enough to have one; all are on one grid."""
    counts = np.stack([_folded(each) for each in layers])
    codes = counts.shape[1]
    enough = (counts.sum(axis=1) >= LEAST_PER_CODE * codes) & (
        np.count_nonzero(counts, axis=1) >= (1 - MOST_EMPTY) * codes
    )
    places = np.flatnonzero(enough)
    counts = counts[places]
    expected = np.maximum(_smooth_part(counts, _octave(codes)), FLOOR * counts.mean(axis=1, keepdims=True))
    deviations = counts - expected
    excess = (deviations * deviations / expected).sum(axis=1) - codes
    least = np.maximum(LEAST_Z * np.sqrt((2 + 1 / expected).sum(axis=1)), LEAST_EXCESS * counts.sum(axis=1))
    for uneven in np.flatnonzero(excess >= least).tolist():
        yield int(places[uneven]), _factor(deviations[uneven], expected[uneven], float(excess[uneven]))


def _folded(weights: Magnitudes) -> Floats:
    """Counts by significand, of all octaves together; subnormals have none of their own."""
    codes = weights.grid.normal
    first = int(np.searchsorted(weights.codes, codes))
    counts = np.bincount(weights.codes[first:] & (codes - 1), weights=weights.tallies[first:], minlength=codes)
    return counts.astype(np.float64, copy=False)  # integers, where there are no weights at all


@cache
def _octave(codes: int) -> _Octave:
    significands = np.arange(codes, 2 * codes)
    places = 2 * np.log2(significands / codes) - 1
    functions = np.column_stack([np.polynomial.legendre.legvander(places, SMOOTH_DEGREE), (-1.0) ** significands])
    return _Octave(significands=significands, smooth=np.linalg.qr(functions / np.sqrt(significands)[:, np.newaxis]).Q)


def _smooth_part(counts: Floats, octave: _Octave) -> Floats:
    weight = np.sqrt(octave.significands)
    # As a stack of columns: what comes out for a layer is then the same to the last bit, whatever layers are beside it.
    columns = (counts * weight)[..., np.newaxis]
    fitted: Floats = (octave.smooth @ (octave.smooth.T @ columns))[..., 0] / weight
    return fitted


def _factor(deviations: Floats, expected: Floats, excess: float) -> float:
    """Give the factor whose comb explains the deviations, if one does."""
    codes = deviations.size
    waves = _waves(codes)
    signal = np.zeros(STEPS * codes)
    signal[codes : 2 * codes] = deviations
    spectrum = np.fft.rfft(signal).real  # cosines alone: a comb is even about the significand 0
    likeness = (waves.strengths * spectrum[waves.indices]).sum(axis=0)
    near = waves.factors[np.argsort(likeness)[-CANDIDATES:]]
    explained = {
        factor: _explained(_comb(factor, codes), deviations, expected)
        for factor in np.unique(np.concatenate([near, *(_in_short(near, digits) for digits in (2, 3))])).tolist()
    }
    best = max(explained, key=lambda factor: explained[factor])
    return best if explained[best] > LEAST_EXPLAINED * excess else NOT_RESCALED


def _in_short(factors: Floats, digits: int) -> Floats:
    """The decimal fractions next to factors, and to their halves: only the very number has ties where it had them."""
    return np.concatenate([factors.round(digits), 2 * (factors / 2).round(digits)])


def _explained(comb: Floats, deviations: Floats, expected: Floats) -> float:
    """How much of the chi-square a comb explains, 0 if it would have to be much weaker than it is."""
    pattern = comb * expected
    pattern -= _smooth_part(pattern, _octave(comb.size))  # which the expected counts have taken in
    common, size = float(np.dot(pattern, deviations / expected)), float(np.dot(pattern, pattern / expected))
    return common**2 / size if common > LEAST_AMPLITUDE * size else 0.0


def _comb(factor: float, codes: int) -> Floats:
    """How many old codes come to each new one, relative to how many would if they were spread evenly, less 1."""
    octave = _octave(codes).significands
    old = octave * factor
    new = np.rint(np.concatenate([old, old / 2]))
    number = np.bincount(new[(new >= codes) & (new < 2 * codes)].astype(np.int64) - codes, minlength=codes)
    spacing = np.where(octave < factor * codes, factor / 2, factor)
    return np.asarray(number * spacing - 1, dtype=np.float64)


@cache
def _waves(codes: int) -> _Waves:
    steps = STEPS * codes
    frequencies = np.arange(steps // 2 + 1, steps)  # of old codes among new ones: 1/2 to 1, those of factors 2 to 1
    harmonics = np.arange(1, HARMONICS + 1)[:, np.newaxis]
    # Where the factor spreads the codes, and in the octave's lower part, where it crowds them.
    multiples = np.concatenate([harmonics, 2 * harmonics]) * frequencies
    orders = np.concatenate([harmonics, harmonics])
    places = multiples % steps
    return _Waves(
        factors=steps / frequencies,
        indices=np.minimum(places, steps - places),
        strengths=np.sin(np.pi * multiples / steps) / orders,
    )
