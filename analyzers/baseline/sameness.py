"""Two layers -> whether they hold the same weights, as far as what a baseline keeps of them can tell."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from jaynes_audit.analyzers.baseline.entry import QUANTILE_PROBABILITIES, Entry, Law
from jaynes_audit.analyzers.dtypes import SMALL_FLOATS, Dtype
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sketch.probe import Probe

MANTISSA_BITS = {
    Dtype.F64: 52,
    Dtype.F32: 23,
    Dtype.BF16: 7,
    Dtype.F16: 10,
    Dtype.C128: 52,
    Dtype.C64: 23,
    Dtype.C32: 10,
    **{dtype: small.mantissa_bits for dtype, small in SMALL_FLOATS.items()},
}
"""Explicit mantissa bits of the number formats (IEEE 754 and the sources of `dtypes`)."""

HALF_STEP = 2.0**-24  # the smallest subnormal of fp16
SMALLEST = {
    Dtype.F16: HALF_STEP,
    Dtype.C32: HALF_STEP,
    **{dtype: 2.0 ** (1 - small.bias - small.mantissa_bits) for dtype, small in SMALL_FLOATS.items()},
}
"""The step between numbers near zero, in formats whose range weights come near to."""

QUANTISED_BITS = re.compile("[1-8]")  # the first digit of a quantiser's label, as in Q4_K, GPTQ-4, MXFP4, BNB-INT8
RANGE_IN_RMS = 3  # what the codes of a block of weights reach over: the largest of 32 normal ones is 2.5 rms on average
USUAL_QUANTISED_BITS = 4
# Quantiles of float32 are read from its upper 16 bits, so they are within a cell of 2**-7; the mean square of a vector,
# which has no sums of squares of its own, is read from the middles of the cells.
CELL = 2.0**-7
HALF_CELL = 2.0**-8
PROBE_ERRORS = 6  # standard deviations
SHORT = 1e-5  # relative: numbers of six digits
MOST_TOLERANCE = 0.5  # of a quantile of ln|w|; where rounding moves it further it tells nothing
FEW_ZEROS = 3
FLUSHED_FACTOR = 3  # how far the share below a step may be from what is read between quantiles

REORDERED_ROWS = frozenset({Role.ATTENTION_Q, Role.ATTENTION_K})
"""GGUF and Meta's own format store the rows of these in another order, for another way to rotate positions."""


class Sameness(StrEnum):
    """What a layer's weights are to those it is held against."""

    IDENTICAL = "identical"
    ROUNDED = "the same within rounding"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How coarse the coarser of two number formats is.

    A weight is off by `relative` of itself at most and by half a `step` (in units of the weights) beside.
    """

    relative: float
    step: float


def sameness(before: Entry, now: Entry, *, by_role: bool) -> Sameness:
    """Say whether a layer holds the weights it held.

    A layer of the same name and number format must hold the very same ones, unless it has been through a narrower
    format in between: then, and where the format is another, they must be the same within its rounding. `by_role` says
    that names were changed throughout, as another file format does, which may transpose matrices and reorder rows.
    """
    if before.content == now.content and (before.rows, before.columns) == (now.rows, now.columns):
        return Sameness.IDENTICAL
    if before.dtype == now.dtype and now.unused_bits <= before.unused_bits and not by_role:
        return Sameness.CHANGED
    return Sameness.ROUNDED if same_within_rounding(before, now, by_role=by_role) else Sameness.CHANGED


def same_within_rounding(before: Entry, now: Entry, *, by_role: bool = False) -> bool:
    """Whether two layers can be the same weights in number formats of which one is narrower."""
    swapped = by_role and (before.rows, before.columns) == (now.columns, now.rows)
    if not swapped and (before.rows, before.columns) != (now.rows, now.columns):
        return False
    is_quantised = any(each.dtype not in MANTISSA_BITS for each in (before, now))
    # What rounds to zero may lose its sign; so may what a quantiser rounds to near zero.
    may_turn = max(abs(now.zero - before.zero), _most_near_zero(before, now) if is_quantised else 0)
    if abs(now.negative - before.negative) > may_turn:
        return False
    return same_magnitudes(before, now) and _same_places(before, now, by_role=by_role)


def same_magnitudes(before: Entry, now: Entry) -> bool:
    """Whether two layers have the same magnitudes within rounding, wherever they stand and whatever their signs."""
    if before.weights != now.weights or before.not_finite != now.not_finite:
        return False
    rounding = rounding_between(before, now)
    return (
        abs(now.zero - before.zero) <= _most_near_zero(before, now)
        and _close(before.largest, now.largest, 1.5 * rounding.relative, rounding.step)
        and _close(before.rms, now.rms, rounding.relative + HALF_CELL, rounding.step)
        and _same_law(before, now, rounding)
    )


def rounding_between(before: Entry, now: Entry) -> Rounding:
    """Give the rounding of the coarser format of two layers."""
    roundings = [_rounding_of(before), _rounding_of(now)]
    return Rounding(relative=max(each.relative for each in roundings), step=max(each.step for each in roundings))


def _rounding_of(entry: Entry) -> Rounding:
    if entry.dtype in MANTISSA_BITS:
        dtype = Dtype(entry.dtype)
        # No format that weights go through is coarser than bf16; fewer bits are left of a few values by chance only.
        bits = max(min(MANTISSA_BITS[Dtype.BF16], MANTISSA_BITS[dtype]), MANTISSA_BITS[dtype] - entry.unused_bits)
        if dtype is Dtype.F16 and entry.subnormal:  # these use the low bits of what was bf16 before
            bits = min(bits, MANTISSA_BITS[Dtype.BF16])
        # Values of fp16 in a wider format are rounded to its steps too.
        through_fp16 = bits <= MANTISSA_BITS[Dtype.F16] and dtype in {Dtype.BF16, Dtype.F32, Dtype.F64}
        return Rounding(relative=2.0 ** -(bits + 1), step=HALF_STEP if through_fp16 else SMALLEST.get(dtype, 0.0))
    digit = QUANTISED_BITS.search(entry.dtype)
    bits = int(digit[0]) if digit else USUAL_QUANTISED_BITS
    # A scaled fp8 or fp4 rounds each weight to its own size, whole numbers round all to one step.
    relative = 2.0 ** -max(1, bits - 4) if "FP" in entry.dtype else SHORT
    return Rounding(relative=relative, step=2 * RANGE_IN_RMS * entry.rms / 2**bits)


def _close(before: float, now: float, relative: float, step: float) -> bool:
    """Whether two magnitudes are the same up to so much rounding."""
    return abs(before - now) <= (relative + SHORT) * max(before, now) + step


def _most_near_zero(before: Entry, now: Entry) -> float:
    """How many weights rounding may make zero."""
    step, law = rounding_between(before, now).step, before.law or now.law
    if not step:
        return 0.0
    return FEW_ZEROS + (FLUSHED_FACTOR * before.weights * _share_below(law, math.log(step)) if law else 0.0)


def _share_below(law: Law, log_magnitude: float) -> float:
    """The share of weights below a magnitude, read between the quantiles; below the first of them a bound of it.

    There the share is taken to fall as the root of the magnitude; that of a density that is finite at zero falls as
    fast as the magnitude itself.
    """
    quantiles, probabilities = law.quantiles, QUANTILE_PROBABILITIES
    if log_magnitude <= quantiles[0]:
        return probabilities[0] * math.exp((log_magnitude - quantiles[0]) / 2)
    return next(
        (
            probability
            for quantile, probability in zip(quantiles, probabilities, strict=True)
            if quantile >= log_magnitude
        ),
        1.0,
    )


def _same_law(before: Entry, now: Entry, rounding: Rounding) -> bool:
    """Whether every quantile of ln|w| is where it was, as far as rounding leaves it there.

    Where weights became zero, those that are left have other ranks, so a quantile may be anywhere between its
    neighbours.
    """
    if before.law is None or now.law is None:
        return True  # of one magnitude, or of a few that rounding has made one: the largest and the rms say the same
    reach = 1 if before.zero != now.zero else 0
    # What rounding makes zero was the least of all, so there is nothing that the first quantile cannot come from.
    old = [*([-math.inf] * reach), *before.law.quantiles, *before.law.quantiles[-1:] * reach]
    for at, quantile in enumerate(now.law.quantiles):
        low, high = old[at], old[at + 2 * reach]
        near_zero = -min(quantile, before.law.quantiles[at])
        relative_step = rounding.step * math.exp(min(near_zero, -math.log(rounding.step))) if rounding.step else 0.0
        tolerance = rounding.relative + CELL + relative_step
        if not low - tolerance <= quantile <= high + tolerance and tolerance <= MOST_TOLERANCE:
            return False
    return True


def _same_places(before: Entry, now: Entry, *, by_role: bool) -> bool:
    """Whether the large weights stand in the rows and columns where they stood."""
    if before.probe is None or now.probe is None:
        return True
    tolerance = probe_tolerance(before, now)
    if not by_role:
        return probe_change(before.probe, now.probe, "rows", "columns") <= tolerance
    axes = ("columns",) if before.role in REORDERED_ROWS else ("rows", "columns")
    return any(probe_change(before.probe, probe, *axes) <= tolerance for probe in (now.probe, now.probe.transposed))


def is_turned(before: Entry, now: Entry) -> bool | None:
    """Whether a matrix is the transpose of what it was; None where its shape and its probe do not tell."""
    if before.rows != before.columns:
        shape = now.rows, now.columns
        return {(before.rows, before.columns): False, (before.columns, before.rows): True}.get(shape)
    if before.probe is None or now.probe is None:
        return None
    # The rows of queries and keys may be in another order, so where they are cannot be asked of their rows.
    plain = probe_change(before.probe, now.probe, "columns")
    turned = probe_change(before.probe, now.probe.transposed, "columns")
    return None if plain == turned else turned < plain


def probe_tolerance(before: Entry, now: Entry) -> float:
    """Give what rounding moves a projection by, with six standard deviations; 0 for a layer without projections."""
    probe, rounding = before.probe, rounding_between(before, now)
    if probe is None:
        return 0.0
    of_step = rounding.step / (before.rms * math.sqrt(12 * before.weights)) if before.rms else 0.0
    of_digits = SHORT * max(map(abs, (*probe.rows, *probe.columns)))
    return PROBE_ERRORS * 2 * math.hypot(rounding.relative * probe.noise, of_step) + of_digits


def probe_change(before: Probe, now: Probe, *axes: str) -> float:
    """Give the greatest change of a projection of these axes, `rows` or `columns`."""
    old, new = ({"rows": probe.rows, "columns": probe.columns} for probe in (before, now))
    return max(abs(one - other) for axis in axes for one, other in zip(old[axis], new[axis], strict=True))
