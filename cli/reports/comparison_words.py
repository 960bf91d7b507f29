"""A layer's record in a comparison -> short words and figures of it, and how far its two sides are apart."""

from typing import TYPE_CHECKING

from jaynes_audit.cli.reports.figures import NONE, fixed, magnitude, share

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.record import (
        CastRecord,
        ComparedLayerRecord,
        DifferenceRecord,
        RankRecord,
        RearrangementRecord,
        ShiftRecord,
    )

IDENTICAL = "identical"
DIFFERENT = "different"
SAME_LAW = "same distribution"
OTHER_LAW = "another distribution"
NOT_COMPARED = "not compared"
ROUNDED = {"rounded to nearest": "rounded ", "truncated": "truncated ", "exact": ""}
IN_95_PERCENT = 1.96  # standard errors that a 95 % interval reaches to either side, of a normal law
MOST_OF_ENERGY = 0.99

_WORST_FIRST = {"different": 0, "quantised": 1, "identical after a rearrangement": 2, "identical after a cast": 3}
_UNKNOWN, _SAME = 4, 5


def relation(layer: "ComparedLayerRecord") -> str:
    """How the two sides are related, in a few words: by their weights, or else by their distributions."""
    exact = layer.exact
    if exact is None:
        return _law(layer)
    if exact.cast:
        return cast(exact.cast)
    if exact.quantisation:
        moved = f", {rearrangement(exact.rearrangement)}" if exact.rearrangement else ""
        return f"{exact.quantisation.quantised.upper()} in {exact.quantisation.scheme}{moved}"
    if exact.rearrangement:
        moved = rearrangement(exact.rearrangement)
        return f"{exact.relation}, {moved}" if exact.relation == DIFFERENT else moved
    if exact.relation == DIFFERENT and exact.difference is None:
        return "unlike shapes"
    return exact.relation


def cast(cast: "CastRecord") -> str:
    """What a side was made of: `rounded F32 -> BF16`, from A to B where nothing else is said.

    `both rounded, BF16 and F16` where neither has the weights that both were made from.
    """
    if cast.source is None:
        return f"both rounded, {cast.to_dtype}"
    through = f" via {cast.through}" if cast.through else ""
    backwards = ", B to A" if cast.source == "b" else ""
    return f"{ROUNDED.get(cast.rounding, '')}{cast.from_dtype} -> {cast.to_dtype}{through}{backwards}"


def lost(layer: "ComparedLayerRecord") -> str:
    """What a cast could not keep."""
    found = layer.exact.cast if layer.exact else None
    if found is None or not (found.overflowed or found.flushed):
        return ""
    of_kinds = ((found.overflowed, "overflowed"), (found.flushed, "to zero"))
    return ", ".join(f"{number:,} {what}" for number, what in of_kinds if number)


def rearrangement(found: "RearrangementRecord") -> str:
    """What was moved: `transposed, rows permuted`."""
    axes = [axis for axis, moved in (("rows", found.moved_rows), ("columns", found.moved_columns)) if moved]
    words = ["transposed"] if found.transposed else []
    words += [f"{' and '.join(axes)} permuted"] if axes else []
    return ", ".join(words)


def relative_error(layer: "ComparedLayerRecord") -> float | None:
    """The Frobenius norm of the difference over that of A, or of what was quantised."""
    exact = layer.exact
    if exact is None:
        return None
    if exact.quantisation:
        return exact.quantisation.relative_error
    return exact.difference.relative_error if exact.difference else None


def difference(layer: "ComparedLayerRecord") -> "DifferenceRecord | None":
    """How far apart the weights are, where they are."""
    return layer.exact.difference if layer.exact else None


def changed(layer: "ComparedLayerRecord") -> str:
    """The part of the weights that have another value."""
    found = difference(layer)
    return share(found.changed, found.weights) if found else NONE


def rank(found: "RankRecord | None") -> str:
    """The least of the tried ranks that holds nearly all of the change, and how much it holds."""
    if found is None or not found.ranks:
        return NONE
    profile = list(zip(found.ranks, found.energy, strict=True))
    of_rank, energy = next((each for each in profile if each[1] >= MOST_OF_ENERGY), profile[-1])
    return f"{of_rank:,} holds {energy:.1%}"


def change(shift: "ShiftRecord | None", decimals: int) -> str:
    """How far a parameter moved."""
    return signed(shift.change if shift else None, decimals)


def signed(value: float | None, decimals: int) -> str:
    """A change with its sign, and none before a zero; a dash where there is none."""
    text = fixed(value, decimals)
    return f"+{text}" if value is not None and float(text) > 0 else text


def reach(shift: "ShiftRecord | None", decimals: int) -> str:
    """How far a 95 % interval of the change reaches to either side."""
    return f"±{fixed(IN_95_PERCENT * shift.error, decimals)}" if shift and shift.error is not None else ""


def size(value: float | None) -> str:
    """A magnitude, or a dash."""
    return NONE if value is None else magnitude(value)


def differs(layer: "ComparedLayerRecord") -> bool:
    """Whether there is more to say of a layer than that it is the same, or the same in another number format."""
    if layer.could_not_read:
        return True
    if layer.exact is None:
        return _law(layer) == OTHER_LAW
    return not (layer.exact.relation == IDENTICAL or (layer.exact.cast and not lost(layer)))


def badness(layer: "ComparedLayerRecord") -> tuple[float, ...]:
    """What the layers are ordered by: those farthest apart have the least of it."""
    error, distances = relative_error(layer), layer.distances
    if layer.exact is not None:
        order = _WORST_FIRST.get(layer.exact.relation, _SAME)
    else:
        order = {OTHER_LAW: 0, SAME_LAW: _SAME}.get(_law(layer), _UNKNOWN)
    unlike_shapes = layer.exact is not None and layer.exact.relation == DIFFERENT and layer.exact.difference is None
    return (
        0 if layer.could_not_read or unlike_shapes else 1 + order,
        -(error or 0.0),
        -(distances.ks or 0.0) if distances else 0.0,
        -abs(_moved(layer)),
    )


def _law(layer: "ComparedLayerRecord") -> str:
    """What the distributions tell where weights were not compared."""
    if layer.distances is None and layer.parameters is None:
        return NOT_COMPARED
    apart = bool(layer.distances and (layer.distances.ks or layer.distances.wasserstein))
    moved = bool(
        layer.parameters
        and any(shift.change for shift in (layer.parameters.mu, layer.parameters.sigma, layer.parameters.skewness))
    )
    # Unlike number formats round the parameters of the same weights, and the distances allow for that.
    return OTHER_LAW if apart or (moved and layer.distances is None) else SAME_LAW


def _moved(layer: "ComparedLayerRecord") -> float:
    return (layer.parameters.mu.change or 0.0) if layer.parameters else 0.0
