"""Stretches of two layers -> Tally: what one pass tells of the difference of their weights, in parts that add up."""

import math
from dataclasses import dataclass

import numpy as np

from jaynes_audit.analyzers.chunks import Stored
from jaynes_audit.analyzers.comparison.exact.casts import NO_LOSSES, Suspects, recipes, still_possible
from jaynes_audit.analyzers.comparison.exact.formats import Values
from jaynes_audit.analyzers.comparison.exact.outcome import Difference
from jaynes_audit.analyzers.comparison.exact.reading import BothSources, Pair, Stretch, in_step
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import SMALL_FLOATS, Dtype, bf16_codes, values
from jaynes_audit.analyzers.sketch import _kernel_numpy
from jaynes_audit.analyzers.sketch.kernel import KERNEL

NO_NORM = NotFitted("the squares of the weights do not add up to a number above zero that float64 holds")

KINDS = {
    Dtype.BF16: _kernel_numpy.BF16,
    Dtype.F16: _kernel_numpy.F16,
    Dtype.F32: _kernel_numpy.F32,
    Dtype.F64: _kernel_numpy.F64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was seen of a pair so far. `a + b` is what both parts tell, where `b` stands behind `a`.

    The four sums run over the weights that are finite on both sides; `largest` is the greatest magnitude of a change
    among them, first met at `largest_at`. `suspects` are the casts that may have made one of the other, judged by the
    chunks whose bytes differ, or by all where `suspects_hold`.
    """

    weights: int
    squares_a: float
    squares_b: float
    squares_of_change: float
    products: float
    largest: float
    largest_at: int
    changed: int
    not_finite: int
    same_bytes: bool
    suspects: Suspects
    suspects_hold: bool

    def __add__(self, other: "Tally") -> "Tally":
        """Count both."""
        further = other.largest > self.largest
        return Tally(
            weights=self.weights + other.weights,
            squares_a=self.squares_a + other.squares_a,
            squares_b=self.squares_b + other.squares_b,
            squares_of_change=self.squares_of_change + other.squares_of_change,
            products=self.products + other.products,
            largest=other.largest if further else self.largest,
            largest_at=other.largest_at if further else self.largest_at,
            changed=self.changed + other.changed,
            not_finite=self.not_finite + other.not_finite,
            same_bytes=self.same_bytes and other.same_bytes,
            suspects={
                recipe: losses + other.suspects[recipe]
                for recipe, losses in self.suspects.items()
                if recipe in other.suspects
            },
            suspects_hold=self.suspects_hold and other.suspects_hold,
        )

    @property
    def relative_error(self) -> float | NotFitted:
        """The norm of the change over the norm of `a`."""
        return _ratio(math.sqrt(self.squares_of_change), math.sqrt(self.squares_a))

    @property
    def cosine(self) -> float | NotFitted:
        """The cosine of the angle between the two layers, taken as vectors."""
        ratio = _ratio(self.products, math.sqrt(self.squares_a) * math.sqrt(self.squares_b))
        return ratio if isinstance(ratio, NotFitted) else max(-1.0, min(1.0, ratio))

    def difference(self, pair: Pair) -> Difference:
        """Give what is told of a pair that was seen whole."""
        row, column = pair.row_and_column(self.largest_at)
        return Difference(
            weights=self.weights,
            changed=self.changed,
            not_finite=self.not_finite,
            relative_error=self.relative_error,
            cosine=self.cosine,
            largest=self.largest,
            largest_row=row,
            largest_column=column,
        )


def _ratio(part: float, whole: float) -> float | NotFitted:
    ratio = part / whole if whole else math.nan
    return ratio if math.isfinite(ratio) else NO_NORM


def tally(stretch: Stretch, sources: BothSources, *, thorough: bool = False) -> Tally:
    """Compare a stretch of two layers, weight by weight.

    Casts are looked for in the chunks whose bytes differ; where `thorough`, in all.

    Raises:
        OneSideFailed: when either layer cannot be read.
    """
    of_a, of_b = stretch.pair.a.extent.dtype, stretch.pair.b.extent.dtype
    suspects = dict.fromkeys(recipes(of_a, of_b), NO_LOSSES)
    same_bytes, suspects_hold = of_a is of_b, True
    pairing = np.zeros((), _kernel_numpy.PAIRING)
    for first, codes_a, codes_b in in_step(stretch, sources):
        pairing["other_bytes"] = 0
        KERNEL.pair(*_for_kernel(codes_a, of_a), *_for_kernel(codes_b, of_b), first, pairing)
        differs = bool(pairing["other_bytes"])
        same_bytes &= not differs
        if suspects and (thorough or differs):
            doubtful = max(0, int(pairing["largest_at"]) - first)
            numbers = _numbers(codes_a, of_a, beside=of_b), _numbers(codes_b, of_b, beside=of_a)
            suspects = still_possible(suspects, *numbers, doubtful=doubtful)
        suspects_hold &= thorough or differs
    return Tally(
        weights=stretch.stop - stretch.first,
        **{name: pairing[name].item() for name in pairing.dtype.names or () if name != "other_bytes"},
        same_bytes=same_bytes,
        suspects=suspects,
        suspects_hold=suspects_hold,
    )


def _for_kernel(codes: Stored, dtype: Dtype) -> tuple[int, Stored]:
    """Give the kernel's kind for stored codes and the array that it reads."""
    if dtype in SMALL_FLOATS:
        return _kernel_numpy.BF16, bf16_codes(dtype)[codes]
    return KINDS[dtype], codes


def _numbers(codes: Stored, dtype: Dtype, *, beside: Dtype) -> Values:
    """Give the weights in a format that can tell those of either side exactly."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is invalid
        return values(codes, dtype).astype(np.float64 if Dtype.F64 in {dtype, beside} else np.float32, copy=False)
