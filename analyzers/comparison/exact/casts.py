"""Whether one layer is the other, cast: to another number format, or through one and back."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.comparison.exact.outcome import Rounding, Side
from jaynes_audit.analyzers.dtypes import BF16_INFINITY, SMALL_FLOATS, Dtype, bf16_codes, values

Values = npt.NDArray[np.floating]

THROUGH = (Dtype.F32, Dtype.F16, Dtype.BF16, Dtype.F8_E4M3, Dtype.F8_E5M2)
"""The formats that weights are known to pass through on their way."""

SAMPLE = 4096  # weights on which nearly every wrong guess fails, before a whole chunk is cast for it
MANTISSA_BITS = {np.dtype(np.float32): 23, np.dtype(np.float64): 52}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What rounding to a number format takes: bits after the point, where subnormal numbers begin, where it ends."""

    mantissa_bits: int
    least_exponent: int
    largest: float
    has_infinity: bool

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


# Complex numbers are cast half by half, under the names of the halves; powers of two are a quantiser's scales.
FORMATS: dict[Dtype, Format] = {
    Dtype.F64: _ieee(52, 1023),
    Dtype.F32: _ieee(23, 127),
    Dtype.F16: _ieee(10, 15),
    Dtype.BF16: _ieee(7, 127),
    **{dtype: _small(dtype) for dtype in SMALL_FLOATS if dtype is not Dtype.F8_E8M0},
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way in which a layer may have been made from the other: rounded to each of `formats` in turn.

    Where it does not saturate, what is too large becomes infinite, or NaN in a format without infinity. `through` is
    the format that the weights passed through on their way, if any.
    """

    source: Side
    formats: tuple[Dtype, ...]
    through: Dtype | None
    rounding: Rounding
    saturates: bool = False


@dataclass(frozen=True, slots=True)
class Losses:
    """How many weights a cast could not keep at all: `Cast` says what they became."""

    overflowed: int = 0
    flushed: int = 0

    def __add__(self, other: "Losses") -> "Losses":
        """Count both."""
        return Losses(self.overflowed + other.overflowed, self.flushed + other.flushed)


NO_LOSSES = Losses()
Suspects = dict[Recipe, Losses]
"""The recipes that agree with all weights seen so far, the simplest first, and what they lost."""


@cache
def recipes(a: Dtype, b: Dtype) -> tuple[Recipe, ...]:
    """Give every way in which weights of either format may have been made from those of the other."""
    return tuple(sorted([*_recipes(Side.A, a, b), *_recipes(Side.B, b, a)], key=_simplicity))


def _simplicity(recipe: Recipe) -> tuple[int, bool, bool]:
    return len(recipe.formats), recipe.rounding is Rounding.TRUNCATED, recipe.saturates


def _recipes(source: Side, start: Dtype, end: Dtype) -> Iterator[Recipe]:
    if not {start, end} <= FORMATS.keys():
        return
    for through in (None, *THROUGH):
        formats = tuple(_lossy(start, through, end))
        if formats and through in {None, formats[0]} - {start, end}:
            yield Recipe(source, formats, through, Rounding.ROUNDED)
            yield Recipe(source, formats, through, Rounding.ROUNDED, saturates=True)
            yield Recipe(source, formats, through, Rounding.TRUNCATED)


def _lossy(start: Dtype, through: Dtype | None, end: Dtype) -> Iterator[Dtype]:
    """The formats on the way that do not have all numbers of the one before."""
    before = start
    for each in (through, end):
        if each is not None:
            if not FORMATS[before].is_within(FORMATS[each]):
                yield each
            before = each


def still_possible(alive: Suspects, a: Values, b: Values, *, doubtful: int) -> Suspects:
    """Give the recipes that agree with these weights too, and count what they lost.

    `a` and `b` are flat, of equal length and of one format, which has all numbers of both. Around place `doubtful` they
    are looked at first.
    """
    start = max(0, doubtful - SAMPLE // 2)
    of_a, of_b = a[start : start + SAMPLE], b[start : start + SAMPLE]
    lost: Suspects = {}
    for recipe in [recipe for recipe in alive if _losses(recipe, of_a, of_b) is not None]:
        plain = lost.get(replace(recipe, saturates=False))
        # Where nothing is too large it makes no difference whether a cast saturates.
        is_alike = plain is not None and not plain.overflowed and np.isfinite(a if recipe.source is Side.A else b).all()
        losses = plain if is_alike else _losses(recipe, a, b)
        if losses is not None:
            lost[recipe] = losses
    return {recipe: alive[recipe] + losses for recipe, losses in lost.items()}


def _losses(recipe: Recipe, a: Values, b: Values) -> Losses | None:
    """Count what a cast lost; None where the weights were not made by it."""
    source, result = (a, b) if recipe.source is Side.A else (b, a)
    made, overflowed = source, np.zeros(source.shape, np.bool_)
    for dtype in recipe.formats:
        made, beyond = rounded(made, FORMATS[dtype], recipe.rounding, saturates=recipe.saturates)
        overflowed |= beyond
    if np.count_nonzero(made == result) + np.count_nonzero(np.isnan(made) & np.isnan(result)) < made.size:
        return None
    return Losses(
        overflowed=int(np.count_nonzero(overflowed)),
        flushed=int(np.count_nonzero(made == 0) - np.count_nonzero(source == 0)),
    )


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
