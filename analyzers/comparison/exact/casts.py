"""Whether one layer is the other, cast: to another number format, or through one and back."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.chunks import Stored
from jaynes_audit.analyzers.comparison.exact.formats import FORMATS, Values, rounded
from jaynes_audit.analyzers.comparison.exact.outcome import Rounding, Side
from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, SMALL_FLOATS, Dtype, values

THROUGH = (Dtype.F32, Dtype.F16, Dtype.BF16, Dtype.F8_E4M3, Dtype.F8_E5M2)
"""The formats that weights are known to pass through on their way."""

TABLE_BITS = 16  # of the widest formats whose numbers are listed one by one
TILE = 1 << 14  # weights cast at once, so that all that is made of them stays in a cache
SAMPLE = 4096  # weights on which nearly every wrong guess fails, before a whole chunk is cast for it


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
    lost = NO_LOSSES
    for first in range(0, a.size, TILE):
        of_tile = _losses_of_tile(recipe, a[first : first + TILE], b[first : first + TILE])
        if of_tile is None:
            return None
        lost += of_tile
    return lost


def _losses_of_tile(recipe: Recipe, a: Values, b: Values) -> Losses | None:
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


# ---- both made from others


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Origins:
    """For each code of a format, between which numbers lie those that are rounded to its own; NaN for NaN."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    zero: npt.NDArray[np.bool_]


@cache
def _origins(dtype: Dtype) -> _Origins:
    """Half a step to either side of each number. Float32 has room for it."""
    to = FORMATS[dtype]
    codes = np.arange(1 << BITS[dtype], dtype=np.uint8 if dtype in SMALL_FLOATS else np.uint16)
    with np.errstate(invalid="ignore"):  # a signalling NaN is invalid
        numbers = values(codes.view(NUMPY_DTYPES.get(dtype, codes.dtype)), dtype).astype(np.float64)
    magnitude = np.abs(numbers)
    zero = magnitude == 0
    exponent = np.where(zero, to.least_exponent, np.maximum(np.frexp(magnitude)[1] - 1, to.least_exponent))
    half = np.ldexp(0.5, exponent - to.mantissa_bits)
    begins_octave = (magnitude == np.ldexp(1.0, exponent)) & (exponent > to.least_exponent)
    low, high = magnitude - np.where(begins_octave, half / 2, half), magnitude + half
    high[magnitude == to.largest] = np.inf  # a cast may saturate
    infinite = np.isinf(magnitude)
    low[infinite], high[infinite] = to.overflows_from, np.inf
    negative = np.signbit(numbers) & ~zero
    low, high = np.where(negative, -high, low), np.where(negative, -low, high)
    return _Origins(low=low.astype(np.float32), high=high.astype(np.float32), zero=zero)


def can_have_one_origin(a: Dtype, b: Dtype) -> bool:
    """Whether it is told of weights in these formats that both were cast from others: they differ, in 16 bits or less.

    Of float32 it is not: wider weights are hardly ever kept.
    """
    return a is not b and all(dtype in FORMATS and BITS[dtype] <= TABLE_BITS for dtype in (a, b))


def of_one_origin(a: Stored, of_a: Dtype, b: Stored, of_b: Dtype) -> Losses | None:
    """Count what two casts of the same weights lost; None unless there are numbers that are rounded to both, always.

    `a` and `b` are stored codes, flat and of equal length. For each weight some number must be nearest to that of `a`
    in the one format and to that of `b` in the other. What is too large for either may have become infinite, NaN in a
    format without infinity, or the greatest number.
    """
    lost = NO_LOSSES
    for first in range(0, a.size, TILE):
        of_tile = _origins_in_common(a[first : first + TILE], of_a, b[first : first + TILE], of_b)
        if of_tile is None:
            return None
        lost += of_tile
    return lost


def _origins_in_common(a: Stored, of_a: Dtype, b: Stored, of_b: Dtype) -> Losses | None:
    codes_a, codes_b = (codes.view(f"<u{codes.itemsize}").astype(np.intp) for codes in (a, b))  # as indices
    of_codes_a, of_codes_b = _origins(of_a), _origins(of_b)
    low = np.maximum(of_codes_a.low[codes_a], of_codes_b.low[codes_b])
    high = np.minimum(of_codes_a.high[codes_a], of_codes_b.high[codes_b])
    nan = 0
    doubtful = ~(low < high)
    if doubtful.any():
        odd_a, odd_b = codes_a[doubtful], codes_b[doubtful]
        nan_a, nan_b = np.isnan(of_codes_a.low[odd_a]), np.isnan(of_codes_b.low[odd_b])
        is_tie = (low[doubtful] == high[doubtful]) & ((odd_a | odd_b) & 1 == 0)  # a number halfway goes to even codes
        overflowed_to_nan = nan_a & _may_be_nan(of_codes_b, odd_b, of_a) | nan_b & _may_be_nan(of_codes_a, odd_a, of_b)
        if not (is_tie | nan_a & nan_b | overflowed_to_nan).all():
            return None
        nan = int(np.count_nonzero(overflowed_to_nan))
    least = np.fmax(low, -high)
    beyond_a, beyond_b = least >= FORMATS[of_a].overflows_from, least >= FORMATS[of_b].overflows_from
    return Losses(
        overflowed=nan + int(np.count_nonzero(beyond_a != beyond_b)),
        flushed=int(np.count_nonzero(of_codes_a.zero[codes_a] != of_codes_b.zero[codes_b])),
    )


def _may_be_nan(origins: _Origins, codes: npt.NDArray[np.intp], to: Dtype) -> npt.NDArray[np.bool_]:
    """Whether one of the numbers that are rounded to each code is too large for a format without infinity."""
    greatest = np.fmax(origins.high[codes], -origins.low[codes])
    return (greatest >= FORMATS[to].overflows_from) & (not FORMATS[to].has_infinity)
