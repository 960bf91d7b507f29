"""Symmetry and sums -> what stands on its two sides, channel by channel, and whether the gradients agree with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density, Floats
from jaynes_audit.analyzers.thermodynamics.symmetry import NO_CHANNEL, Axis, Symmetry, Term

LEAST_SHARE = 1e-3  # of the largest channel: the rest is dead, and would only lengthen a comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientIdentity:
    """How far the mean gradients of an optimizer obey a symmetry.

    `correlation` is that of both sides over the live channels, 0 where it is not defined: fewer than two of them, or
    all alike. `gap` is the length of the difference of the sides over that of the longer one: 0 when they are equal,
    about 1.4 when they have nothing to do with each other.
    """

    correlation: float
    gap: float
    live_channels: int


def sides(
    symmetry: Symmetry,
    sums: Mapping[str, AxisSums],
    density: Density,
    factors: Mapping[str, float] | None = None,
) -> tuple[Floats, Floats]:
    """Sum a density over the plus and the minus side of every channel, each of shape (channels,).

    `sums` are those of the layers by name, and each layer's count `factors[name]` times, once without factors. A
    symmetry without a minus side has zeros there. Where the network adds a constant to the stored weights before it
    uses them, w is the sum, but for one of the two factors in sqrt(v) w^2: decay acts on the weights as stored.

    Raises:
        KeyError: when a layer, its factor or the density was not measured; see `are_measured`.
    """
    plus, minus = (_side(terms, symmetry.channels, sums, density, factors) for terms in (symmetry.plus, symmetry.minus))
    return plus, minus


def are_measured(symmetry: Symmetry, sums: Mapping[str, AxisSums], density: Density) -> bool:
    """Whether `sides` can be told: every layer of the symmetry has sums of this density."""
    return all(term.layer in sums and density in sums[term.layer].outputs for term in (*symmetry.plus, *symmetry.minus))


def live(plus: Floats, minus: Floats) -> npt.NDArray[np.bool_]:
    """Tell the channels on whose sides there is anything, beside the largest of them; shape (channels,)."""
    sizes = np.abs(plus) + np.abs(minus)
    mask: npt.NDArray[np.bool_] = sizes > LEAST_SHARE * sizes.max(initial=0.0)
    return mask


def correlation(left: Floats, right: Floats) -> float:
    """Pearson's correlation; 0 where it is not defined, for fewer than two numbers or when all of a side are alike."""
    left, right = left - left.mean(), right - right.mean()
    length = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(np.dot(left, right)) / length if length > 0 else 0.0


def gradient_identity(symmetry: Symmetry, sums: Mapping[str, AxisSums]) -> GradientIdentity:
    """Compare the sums of mean gradient times weight on both sides, which are equal for the gradients of any data.

    The mean is an optimizer's first moment, a running one: its weights have moved on a little since, so that the
    correlation is not 1 even when each of its entries belongs to its weight.
    (The identity: Kunin et al. 2021, "Neural Mechanics"; to ask an optimizer's memory for it is ours.)

    Raises:
        KeyError: where `are_measured` does not hold for `FIRST_TIMES_WEIGHT`.
    """
    plus, minus = sides(symmetry, sums, Density.FIRST_TIMES_WEIGHT)
    alive = live(plus, minus)
    longer = max(float(np.linalg.norm(plus)), float(np.linalg.norm(minus)))
    return GradientIdentity(
        correlation=correlation(plus[alive], minus[alive]) if alive.any() else 0.0,
        gap=float(np.linalg.norm(plus - minus)) / longer if longer > 0 else 0.0,
        live_channels=int(alive.sum()),
    )


def _side(
    terms: Sequence[Term],
    channels: int,
    sums: Mapping[str, AxisSums],
    density: Density,
    factors: Mapping[str, float] | None,
) -> Floats:
    total = np.zeros(channels)
    for term in terms:
        entries = _entries(term, sums[term.layer], density)
        if factors is not None:
            entries = entries * factors[term.layer]
        if term.channels is None:
            total += entries
        else:
            owned = term.channels != NO_CHANNEL
            total += np.bincount(term.channels[owned], weights=entries[owned], minlength=channels)
    return total


def _entries(term: Term, sums: AxisSums, density: Density) -> Floats:
    """The sums along a term's axis, of the weights as the network uses them."""
    along = sums.inputs if term.axis is Axis.INPUTS else sums.outputs
    entries = along[density]
    if term.offset:
        if density is Density.SQUARE:
            entries = entries + 2 * term.offset * along[Density.WEIGHT] + term.offset**2
        elif density is Density.FIRST_TIMES_WEIGHT:
            entries = entries + term.offset * along[Density.FIRST]
        elif density is Density.ROOT_SECOND_TIMES_SQUARE:
            entries = entries + term.offset * along[Density.ROOT_SECOND_TIMES_WEIGHT]
    return entries.sum(keepdims=True) if term.axis is Axis.ALL else entries
