"""The 16-bit grids: which magnitudes a code stands for, exactly.

A code of a *rounded* format stands for every real number that rounds to it; a *truncated* float32 code for every
float32 that shares its upper half. Distances and likelihoods are taken at the ends of these cells: exactly lognormal
weights stored in bfloat16 then pass every test, where cell midpoints would fail a KS test from n ~ 2e5 on.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.dtypes import SMALL_FLOATS, Dtype, bf16_codes

Floats = npt.NDArray[np.float64]

MAGNITUDES = 32768  # codes without their sign bit
SIGN_BIT = 0x8000
LOW_BITS = 16  # of a float32, below its code

BF16_FINITE = 0x7F80  # first magnitude code that is not finite
F16_FINITE = 0x7C00
BF16_MANTISSA_BITS = 7
F16_MANTISSA_BITS = 10


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grid:
    """The cells of one stored format, by magnitude code (the code without its sign bit).

    `value` is the magnitude that stands for a cell, `log_value` its natural logarithm, `log_lower` and `log_upper` the
    logarithms of the cell's ends. All have shape (32768,) and are NaN where no finite non-zero weight can be.
    Codes from `not_finite` on are infinity and NaN; non-zero codes below `normal` are subnormal; `largest` is the
    greatest finite code. An octave has `2**octave_bits` codes.
    """

    value: Floats
    log_value: Floats
    log_lower: Floats
    log_upper: Floats
    largest: int
    normal: int
    not_finite: int
    octave_bits: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Cells:
    """A coarser grid: runs of `2**shift` codes taken together. The ends are those of the first and last cell in it."""

    shift: int
    log_lower: Floats
    log_upper: Floats


def used_low_bits(low_bits: int) -> int:
    """Say how many of the 16 bits below a float32's code are in use: 0 when it holds bfloat16 values."""
    return LOW_BITS - ((low_bits & -low_bits).bit_length() - 1) if low_bits else 0


def grid_of(dtype: Dtype, low_bits: int) -> Grid:
    """Give the grid on which weights of this format were counted.

    `low_bits` are the lower halves of all float32 weights or-ed together, 0 for the other formats. Float32 files often
    hold weights of a narrower format; where in its cell such a weight lies is known, and so taken into account.
    """
    return _grid(dtype, used_low_bits(low_bits))


@cache
def _grid(dtype: Dtype, low_bits: int) -> Grid:
    if dtype is Dtype.F16:
        values = np.arange(F16_FINITE, dtype=np.uint16).view(np.float16).astype(np.float64)
        possible = np.arange(1, F16_FINITE)
        return _rounded(values, possible, not_finite=F16_FINITE, octave_bits=F16_MANTISSA_BITS)
    values = (np.arange(BF16_FINITE, dtype=np.uint32) << LOW_BITS).view(np.float32).astype(np.float64)
    possible = np.arange(1, BF16_FINITE)
    if dtype in SMALL_FLOATS:
        possible = np.unique(bf16_codes(dtype) & (SIGN_BIT - 1))
        possible = possible[(possible > 0) & (possible < BF16_FINITE)]
    if low_bits:
        return _truncated(values, possible, low_bits)
    return _rounded(values, possible, not_finite=BF16_FINITE, octave_bits=BF16_MANTISSA_BITS)


def _rounded(values: Floats, possible: npt.NDArray[np.integer], *, not_finite: int, octave_bits: int) -> Grid:
    held = values[possible]
    below = np.concatenate([[0.0], held[:-1]])
    step = held[-1] - below[-1]
    begins_octave = np.frexp(held[-1])[0] == 0.5  # noqa: PLR2004 - a power of two, above which steps are twice as wide
    above = np.append(held[1:], held[-1] + step * (1 + begins_octave))
    return _scattered(
        possible, held, (below + held) / 2, (held + above) / 2, not_finite=not_finite, octave_bits=octave_bits
    )


def _truncated(values: Floats, possible: npt.NDArray[np.integer], low_bits: int) -> Grid:
    # Of the 2**16 float32 that share a code only every 2**(16 - low_bits)-th is used, the first being the code itself:
    # they are centred a little below the middle, and the rounded cell of each reaches half a spacing to either side.
    ends = np.append(values[possible], 2.0**128)
    below = np.concatenate([[0.0], ends[:-1]])
    spacing = 2.0**-low_bits
    shifted = ends - (ends - below) * spacing / 2
    held = ends[:-1] + np.diff(ends) * (1 - spacing) / 2
    lower = shifted[:-1].copy()
    lower[0] = 0  # every smaller non-zero weight was given the first code
    return _scattered(possible, held, lower, shifted[1:], not_finite=BF16_FINITE, octave_bits=BF16_MANTISSA_BITS)


def _scattered(
    possible: npt.NDArray[np.integer],
    held: Floats,
    lower: Floats,
    upper: Floats,
    *,
    not_finite: int,
    octave_bits: int,
) -> Grid:
    value, log_value, log_lower, log_upper = (np.full(MAGNITUDES, np.nan) for _ in range(4))
    value[possible] = held
    with np.errstate(divide="ignore"):
        log_value[possible], log_lower[possible], log_upper[possible] = np.log(held), np.log(lower), np.log(upper)
    return Grid(
        value=value,
        log_value=log_value,
        log_lower=log_lower,
        log_upper=log_upper,
        largest=int(possible[-1]),
        normal=1 << octave_bits,
        not_finite=not_finite,
        octave_bits=octave_bits,
    )


@cache
def cells(grid: Grid, cells_per_octave: int) -> Cells:
    """Coarsen a grid to at most `cells_per_octave` (a power of two) cells per octave of magnitude."""
    shift = max(0, grid.octave_bits - (cells_per_octave.bit_length() - 1))
    starts = np.arange(0, MAGNITUDES, 1 << shift)
    return Cells(
        shift=shift,
        log_lower=np.fmin.reduceat(grid.log_lower, starts),
        log_upper=np.fmax.reduceat(grid.log_upper, starts),
    )
