"""Histogram -> what its bits look like, where they do not look like weights of the format they are said to have.

The exponent of bfloat16 has three bits more than that of float16, so weights of one that are read as the other have
ln|w| eight times too narrow or too wide; and bytes in the wrong order make exponents of the noise in the low bits. The
codes of 16-bit formats are counted one by one, so what they would be in another format is known from their counts.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMoments, NotFitted, log_moments
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Histogram

Codes = npt.NDArray[np.uint16]

OTHER_FORMAT = {Dtype.F16: Dtype.BF16, Dtype.BF16: Dtype.F16}
WIDE_RANGE = frozenset({Dtype.BF16, Dtype.F32, Dtype.F64})

LEAST_WEIGHTS = 256  # of fewer, sigma is not known well enough
# Sigma of ln|w| is 1.11 of Gaussian weights, 1.0 of uniform ones, and 0.6 to 1.7 in all networks that were measured.
NARROW = 0.4  # bfloat16 weights read as float16 have 0.14
WIDE = 4.0  # float16 weights read as bfloat16 have 9, bytes in the wrong order 6 (float16) and 51 (the others)
AROUND_ONE = (0.1, 4.0)  # e^mu of bfloat16 weights below 1 and above 1e-9, read as float16
VANISHING = 1e-6  # e^mu is below it of float16 weights below 0.3, read as bfloat16
# What weights are like that are read as they should be. Measured: skewness -2.8 to 0.1, excess kurtosis 0.9 to 17.
USUAL_SIGMA = (0.5, 2.5)
USUAL_MEDIAN = (1e-6, 10.0)  # e^mu
LEAST_KURTOSIS, GREATEST_SKEWNESS = -0.5, 0.5
RARER_SIGN = 0.05  # the least share of it: gains, which have one sign, may well be as alike as misread weights are
BEYOND_WEIGHTS = 1e10  # a float32 whose bits are noise is as large in three of eight cases
NOISE_NOT_FINITE = 0.01  # of float16; a code whose bits are noise is NaN or infinite in one of 32 cases
NEARLY_ALL = 0.99

SWAPPED = "with its bytes in the wrong order"


def misread(histogram: Histogram, fit: LognormalFit | NotFitted) -> str:
    """Say what the bits of a weight matrix look like, if not like weights: words for a format, or empty.

    Meant for matrices: gains, biases and tables may have a narrow or a wide distribution by nature. It costs a few
    comparisons unless the distribution is odd.
    """
    if histogram.special.weights < LEAST_WEIGHTS:
        return ""
    no_format = f"{histogram.dtype} {SWAPPED}, or like other data written over them"
    if _nearly_all_subnormal(histogram):
        return no_format
    if isinstance(fit, NotFitted) or NARROW <= fit.moments.log_sigma <= WIDE:
        return ""
    for dtype, codes in _readings(histogram, fit.moments):
        if _are_weights(codes, histogram.tallies, dtype):
            return str(dtype) if codes is histogram.codes else f"{dtype} {SWAPPED}"
    return no_format if fit.moments.log_sigma > WIDE and _is_noise(histogram) else ""


def _readings(histogram: Histogram, moments: LogMoments) -> Iterator[tuple[Dtype, Codes]]:
    other = OTHER_FORMAT.get(histogram.dtype)
    if other is None:
        return
    median = math.exp(moments.log_mean)
    if histogram.dtype is Dtype.F16 and moments.log_sigma < NARROW:
        if AROUND_ONE[0] <= median <= AROUND_ONE[1]:
            yield other, histogram.codes
        return
    if histogram.dtype is Dtype.BF16 and median < VANISHING:
        yield other, histogram.codes
    swapped = histogram.codes.byteswap()
    yield histogram.dtype, swapped
    yield other, swapped


def _are_weights(codes: Codes, tallies: npt.NDArray[np.int64], dtype: Dtype) -> bool:
    order = np.argsort(codes)
    histogram = Histogram(dtype=dtype, low_bits=0, codes=codes[order], tallies=tallies[order])
    special, magnitudes = histogram.special, histogram.magnitudes
    of_rarer_sign = min(special.negative, special.weights - special.negative)
    if special.nan + special.infinite or of_rarer_sign < RARER_SIGN * special.weights or not magnitudes.codes.size:
        return False
    [moments] = log_moments(Stack.of([magnitudes]))
    return (
        USUAL_SIGMA[0] <= moments.log_sigma <= USUAL_SIGMA[1]
        and USUAL_MEDIAN[0] <= math.exp(moments.log_mean) <= USUAL_MEDIAN[1]
        and moments.excess_kurtosis >= LEAST_KURTOSIS
        and moments.skewness <= GREATEST_SKEWNESS
    )


def _is_noise(histogram: Histogram) -> bool:
    special = histogram.special
    if histogram.dtype is Dtype.F16:
        return special.nan + special.infinite > NOISE_NOT_FINITE * special.weights
    magnitudes = histogram.magnitudes
    return histogram.dtype in WIDE_RANGE and bool(magnitudes.grid.value[magnitudes.codes[-1]] > BEYOND_WEIGHTS)


def _nearly_all_subnormal(histogram: Histogram) -> bool:
    """Whether what is not zero is smaller than any weight: whole numbers, or bfloat16 in float32 bytes swapped."""
    special = histogram.special
    not_zero = special.weights - special.zero
    return histogram.dtype in WIDE_RANGE and not_zero >= LEAST_WEIGHTS and special.subnormal >= NEARLY_ALL * not_zero
