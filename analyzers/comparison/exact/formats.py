"""Number formats, as rounding to them knows them, and the rounding."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.comparison.exact.outcome import Rounding
from jaynes_audit.analyzers.dtypes import BF16_INFINITY, SMALL_FLOATS, Dtype, bf16_codes, values

Values = npt.NDArray[np.floating]

MANTISSA_BITS = {np.dtype(np.float32): 23, np.dtype(np.float64): 52}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What rounding to a number format takes: bits after the point, where subnormal numbers begin, where it ends."""

    mantissa_bits: int
    least_exponent: int
    largest: float
    has_infinity: bool

    @property
    def overflows_from(self) -> float:
        """The least number that is nearer to the next beyond the largest, if there were one."""
        return self.largest + math.ldexp(0.5, math.frexp(self.largest)[1] - 1 - self.mantissa_bits)

    def is_within(self, other: "Format") -> bool:
        """Whether the other format has all numbers of this one."""
        return (
            self.mantissa_bits <= other.mantissa_bits
            and self.largest <= other.largest
            and self.least_exponent - self.mantissa_bits >= other.least_exponent - other.mantissa_bits
        )


def _ieee(mantissa_bits: int, bias: int) -> Format:
    return Format(
        mantissa_bits=mantissa_bits,
        least_exponent=1 - bias,
        largest=(2 - 2.0**-mantissa_bits) * 2.0**bias,
        has_infinity=True,
    )


def _small(dtype: Dtype) -> Format:
    codes = bf16_codes(dtype)
    finite = codes[(codes & BF16_INFINITY) != BF16_INFINITY]
    return Format(
        mantissa_bits=SMALL_FLOATS[dtype].mantissa_bits,
        least_exponent=1 - SMALL_FLOATS[dtype].bias,
        largest=float(values(finite, Dtype.BF16).max()),
        has_infinity=bool(SMALL_FLOATS[dtype].infinity_codes),
    )


# Complex numbers are rounded half by half, under the names of the halves; powers of two are a quantiser's scales.
FORMATS: dict[Dtype, Format] = {
    Dtype.F64: _ieee(52, 1023),
    Dtype.F32: _ieee(23, 127),
    Dtype.F16: _ieee(10, 15),
    Dtype.BF16: _ieee(7, 127),
    **{dtype: _small(dtype) for dtype in SMALL_FLOATS if dtype is not Dtype.F8_E8M0},
}


def rounded(
    numbers: Values, to: Format, rounding: Rounding, *, saturates: bool = False
) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Round to a format, and say which finite numbers it could not hold.

    To the nearest number, of two equally near ones to the even one, or towards zero where `rounding` is TRUNCATED.
    What is too large becomes infinite (NaN in a format without infinity), or the greatest number where it `saturates`
    or is truncated. `numbers` are float32 or float64, and so is the result.
    """
    mantissa_bits = MANTISSA_BITS[numbers.dtype]
    unsigned = np.dtype(f"u{numbers.itemsize}").type
    magnitude = np.abs(numbers)
    bits = magnitude.view(unsigned)
    dropped = mantissa_bits - to.mantissa_bits
    if rounding is Rounding.ROUNDED and dropped:
        bits = bits + (((bits >> unsigned(dropped)) & unsigned(1)) + unsigned((1 << (dropped - 1)) - 1))
    bits = bits & ~unsigned((1 << dropped) - 1)
    made = bits.view(numbers.dtype)
    small = magnitude < 2.0**to.least_exponent
    if small.any():
        places = to.mantissa_bits - to.least_exponent
        whole = np.rint if rounding is Rounding.ROUNDED else np.trunc
        made[small] = np.ldexp(whole(np.ldexp(magnitude[small], places)), -places)
    beyond = made > to.largest
    if beyond.any():
        too_large = np.inf if to.has_infinity else np.nan
        made[beyond] = to.largest if saturates or rounding is Rounding.TRUNCATED else too_large
    finite = np.isfinite(magnitude)
    if not finite.all():
        made[np.isnan(magnitude)] = np.nan
        beyond &= finite
    return np.copysign(made, numbers), beyond
