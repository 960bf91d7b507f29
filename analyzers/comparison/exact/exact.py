"""Pairs of layers -> Exact: whether one is the other, as it is, cast, rearranged or quantised, and else how far off."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.comparison.exact.casts import NO_LOSSES, can_have_one_origin, of_one_origin
from jaynes_audit.analyzers.comparison.exact.difference import Tally, tally
from jaynes_audit.analyzers.comparison.exact.heads import ALIKE, Heads, heads_of
from jaynes_audit.analyzers.comparison.exact.outcome import (
    Cast,
    Difference,
    Exact,
    Quantisation,
    RankProfile,
    Rearrangement,
    Relation,
    Rounding,
    Side,
    Unread,
)
from jaynes_audit.analyzers.comparison.exact.quantisation import quantisation_of
from jaynes_audit.analyzers.comparison.exact.rank import rank_profile
from jaynes_audit.analyzers.comparison.exact.reading import (
    BothSources,
    OneSideFailed,
    Pair,
    Stretch,
    can_be_turned,
    in_step,
    paired,
    read_ahead,
    shape,
    stretches,
    unlike_shapes,
)
from jaynes_audit.analyzers.comparison.exact.rearrangement import rearrangement_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, stored_codes, values
from jaynes_audit.analyzers.engine import in_order
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.memory import usual_threads
from jaynes_audit.analyzers.pieces import BATCH_BYTES, BATCH_PIECES
from jaynes_audit.analyzers.sketch.extent import CHUNK_BYTES

LEAST_SIDE = 64  # rows and columns from which on a matrix has a rank worth telling
SAME_NORM = 1e-9  # relative: the same weights in another order have the same sum of squares, but for its rounding
NEAR_NORM = 0.25  # the same after a cast: of one to two bits after the point, on average much nearer
RANKED_WEIGHTS = 1 << 28  # in all: some nine seconds of one core, many times what it takes to compare them
LEAST_VALUES = 6  # magnitudes left by a cast; F4 has eight. Gains that are all one, and zeroed biases, fit any cast
LEAST_CHANGED = 64  # weights that differ, in all, and still may come from one number: chance hits that with few alone

_OTHER = {Side.A: Side.B, Side.B: Side.A}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Stretches that one thread compares one after the other, each with the number of its pair."""

    stretches: tuple[tuple[int, Stretch], ...]
    sources: BothSources

    @property
    def bytes(self) -> int:
        return sum(stretch.bytes for _, stretch in self.stretches)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A pair after the first pass over it, to be looked at once more where that is not enough."""

    pair: Pair
    tally: Tally
    sources: BothSources
    once_more: Sources
    is_ranked: bool = True

    @property
    def ranked_weights(self) -> int:
        """How many weights would have to be decomposed to tell the rank of the difference."""
        may_have_rank = self.tally.changed and not self.tally.suspects and min(shape(self.pair.a)) >= LEAST_SIDE
        return self.pair.a.extent.weights if may_have_rank else 0


def compare_exactly(
    pairs: Sequence[tuple[Layer, Layer]],
    *,
    io: Io = Io.MMAP,
    jobs: int | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> list[Exact | NotFitted]:
    """Compare layers of two models, weight by weight, and give the outcomes in the order of the pairs.

    One pass reads both layers in step. What it leaves open is read once more: whether one is the other with its rows or
    columns in another order, how many directions hold the difference, how good a quantisation is.

    `jobs` threads share the work (default: one per core, and six where bytes come over the network); the outcome does
    not depend on it. `on_bytes` is told, from the calling thread, how many more bytes of the first pass were done.
    Memory is bounded by some windows a thread. Where more than 2**28 weights lie in matrices that differ, the rank of
    the difference is told for some of them, evenly spread. A pair that could not be read is `Unread`; nothing is raised
    for it.
    """
    workers = jobs or usual_threads([layer.tensor.file for pair in pairs for layer in pair])
    outcomes: dict[int, Exact | NotFitted] = {}
    tallies: dict[int, Tally] = {}
    laid_out = [paired(a, b) for a, b in pairs]
    with Sources(io) as a, Sources(io) as b, Sources(io) as once_more, ThreadPoolExecutor(workers) as executor:
        sources = BothSources(a=a, b=b)
        for batch, found in in_order(_tallied, _batches(laid_out, sources), executor=executor, workers=workers):
            for (number, _), outcome in zip(batch.stretches, found, strict=True):
                if isinstance(outcome, Unread):
                    outcomes.setdefault(number, outcome)
                else:
                    tallies[number] = tallies[number] + outcome if number in tallies else outcome
            on_bytes(batch.bytes)
        seen = {
            number: _Seen(pair=pair, tally=tallies[number], sources=sources, once_more=once_more)
            for number, pair in enumerate(laid_out)
            if isinstance(pair, Pair) and number not in outcomes
        }
        concluded = in_order(_concluded, _rationed(list(seen.values())), executor=executor, workers=workers)
        outcomes |= _borne_out(dict(zip(seen, concluded, strict=True)))
    return [outcomes[number] if isinstance(pair, Pair) else pair for number, pair in enumerate(laid_out)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conclusion:
    """What was concluded of a pair, and whether enough weights of unlike values bear out the cast, if it is one."""

    outcome: Exact | NotFitted
    bears_out: bool = False


def _borne_out(concluded: Mapping[int, _Conclusion]) -> dict[int, Exact | NotFitted]:
    """Call layers different that fit a cast by chance: gains that were all set to one, a bias that was zeroed.

    A layer with few weights, or few values, is taken to be cast where others bear out the very same cast, or where
    nothing but its dtype changed and nothing was lost.
    """
    casts = {number: cast for number, each in concluded.items() if (cast := _cast_of(each.outcome))}
    ways = {_way(casts[number]) for number, each in concluded.items() if each.bears_out}
    siblings = sum(_kept(each.outcome) for each in concluded.values() if _is_of_neither(_cast_of(each.outcome)))
    outcomes = {number: each.outcome for number, each in concluded.items()}
    for number, cast in casts.items():
        outcome = outcomes[number]
        if not isinstance(outcome, Exact):
            continue
        if _is_of_neither(cast):
            holds = siblings >= LEAST_CHANGED
        else:
            plain = not cast.through and cast.from_dtype != cast.to_dtype and not cast.overflowed and not cast.flushed
            holds = plain or cast.rounding is Rounding.EXACT or _way(cast) in ways
        if not holds:
            outcomes[number] = replace(outcome, relation=Relation.DIFFERENT, cast=None, rearrangement=None)
        elif cast.rounding is Rounding.EXACT:
            outcomes[number] = replace(outcome, cast=_turned_to(cast, ways))
    return outcomes


def _cast_of(outcome: Exact | NotFitted) -> Cast | None:
    return outcome.cast if isinstance(outcome, Exact) else None


def _is_of_neither(cast: Cast | None) -> bool:
    return cast is not None and cast.source is None


def _way(cast: Cast) -> tuple[Side | None, str, str, Rounding, str]:
    return cast.source, cast.from_dtype, cast.to_dtype, cast.rounding, cast.through


def _kept(outcome: Exact | NotFitted) -> int:
    """How many weights a cast changed and neither overflowed nor flushed."""
    cast, difference = (outcome.cast, outcome.difference) if isinstance(outcome, Exact) else (None, None)
    return difference.changed - cast.overflowed - cast.flushed if cast and difference else 0


def _turned_to(cast: Cast, ways: Collection[tuple[Side | None, str, str, Rounding, str]]) -> Cast:
    """Tell a cast that lost nothing in the direction in which the other layers were cast: it holds in both."""
    backwards = {
        (source, from_dtype, to_dtype)
        for source, from_dtype, to_dtype, _, _ in ways
        if (from_dtype, to_dtype) == (cast.to_dtype, cast.from_dtype) and source is not cast.source
    }
    if not backwards:
        return cast
    source, from_dtype, to_dtype = backwards.pop()
    return replace(cast, source=source, from_dtype=from_dtype, to_dtype=to_dtype)


def _batches(pairs: Iterable[Pair | NotFitted], sources: BothSources) -> Iterator[_Batch]:
    """Give the work of the first pass, in the order of the pairs: small layers travel together."""
    together: list[tuple[int, Stretch]] = []
    size = 0
    for number, pair in enumerate(pairs):
        for stretch in stretches(pair) if isinstance(pair, Pair) else ():
            if together and (size + stretch.bytes > BATCH_BYTES or len(together) == BATCH_PIECES):
                yield _Batch(stretches=tuple(together), sources=sources)
                together, size = [], 0
            together.append((number, stretch))
            size += stretch.bytes
    if together:
        yield _Batch(stretches=tuple(together), sources=sources)


def _tallied(batch: _Batch) -> tuple[_Batch, list[Tally | Unread]]:
    outcomes: list[Tally | Unread] = []
    for _, stretch in batch.stretches:
        try:
            read_ahead(stretch, batch.sources)
            outcomes.append(tally(stretch, batch.sources))
        except OneSideFailed as failed:
            outcomes.append(_unread(failed.error, failed.side))
    return batch, outcomes


def _rationed(seen: Sequence[_Seen]) -> Iterator[_Seen]:
    """Choose the layers that are decomposed, evenly spread where they cannot be all."""
    share = min(1.0, RANKED_WEIGHTS / max(1, sum(each.ranked_weights for each in seen)))
    passed = ranked = 0
    for each in seen:
        passed += each.ranked_weights
        is_ranked = ranked + each.ranked_weights <= passed * share
        ranked += each.ranked_weights if is_ranked else 0
        yield replace(each, is_ranked=is_ranked)


def _unread(error: RefusedFile | CouldNotRead, side: Side | None) -> Unread:
    if isinstance(error, RefusedFile):
        return Unread(str(error), side, error.rule, error.case)
    return Unread(str(error), side)


def _concluded(seen: _Seen) -> _Conclusion:
    """Say what two layers are to one another, and look once more where one pass does not tell."""
    try:
        outcome = _same(seen) or _otherwise(seen)
        return _Conclusion(outcome=outcome, bears_out=_bears_out(seen, outcome))
    except OneSideFailed as failed:
        return _Conclusion(outcome=_unread(failed.error, failed.side))
    except (RefusedFile, CouldNotRead) as error:
        return _Conclusion(outcome=_unread(error, None))


def _bears_out(seen: _Seen, outcome: Exact | NotFitted) -> bool:
    """Whether a cast changed so many weights, and left so many values, that chance cannot look like it."""
    cast = _cast_of(outcome)
    if cast is None or cast.source is None or cast.rounding is Rounding.EXACT or _kept(outcome) < LEAST_CHANGED:
        return False
    made = _OTHER[cast.source]
    layer = seen.pair.a if made is Side.A else seen.pair.b
    found: set[float] = set()
    for stretch in stretches(seen.pair):
        for _, of_a, of_b in in_step(stretch, seen.sources):
            codes = np.unique(of_a if made is Side.A else of_b)
            found.update(np.abs(values(codes, layer.extent.dtype)).tolist())
            if len(found) >= LEAST_VALUES:
                return True
    return False


def _same(seen: _Seen) -> Exact | None:
    """Say how one layer was made from the other without a weight being lost sight of; None where it was not."""
    pair, result = seen.pair, seen.tally
    difference = None if result.same_bytes and _alike_stored(pair) else result.difference(pair)
    cast = _cast(seen)
    if cast is None and result.changed:
        return None
    if pair.turned:
        turned = Rearrangement(transposed=True, moved_rows=0, moved_columns=0)
        return Exact(relation=Relation.REARRANGED, cast=cast, rearrangement=turned, difference=difference)
    return Exact(relation=Relation.CAST if cast else Relation.IDENTICAL, cast=cast, difference=difference)


def _alike_stored(pair: Pair) -> bool:
    return pair.a.tensor.stored_as == pair.b.tensor.stored_as


def _cast(seen: _Seen) -> Cast | None:
    pair, result = seen.pair, seen.tally
    labels = {Side.A: pair.a.tensor.stored_as, Side.B: pair.b.tensor.stored_as}
    if not result.changed:
        return None if _alike_stored(pair) else _exact_cast(pair, labels)
    suspects = result.suspects
    if suspects and not result.suspects_hold:
        suspects = _whole_tally(pair, seen.sources, thorough=True).suspects
    is_quantised = {Side.A: _is_quantised(pair.a), Side.B: _is_quantised(pair.b)}
    for recipe, losses in suspects.items():
        if is_quantised[_OTHER[recipe.source]]:
            continue  # what rounded the weights was the quantiser
        return Cast(
            source=recipe.source,
            from_dtype=labels[recipe.source],
            to_dtype=labels[_OTHER[recipe.source]],
            rounding=recipe.rounding,
            through=recipe.through or "",
            overflowed=losses.overflowed,
            flushed=losses.flushed,
        )
    return _cast_from_others(pair, seen.sources, labels)


def _cast_from_others(pair: Pair, sources: BothSources, labels: dict[Side, str]) -> Cast | None:
    """Say whether both were cast from weights that neither holds, by one more pass that ends with the first that no."""
    of_a, of_b = pair.a.extent.dtype, pair.b.extent.dtype
    if _is_quantised(pair.a) or _is_quantised(pair.b) or not can_have_one_origin(of_a, of_b):
        return None
    lost = NO_LOSSES
    for stretch in stretches(pair):
        for _, codes_a, codes_b in in_step(stretch, sources):
            losses = of_one_origin(codes_a, of_a, codes_b, of_b)
            if losses is None:
                return None
            lost += losses
    return Cast(
        source=None,
        from_dtype="",
        to_dtype=f"{labels[Side.A]} and {labels[Side.B]}",
        rounding=Rounding.ROUNDED,
        through="",
        overflowed=lost.overflowed,
        flushed=lost.flushed,
    )


def _exact_cast(pair: Pair, labels: dict[Side, str]) -> Cast:
    """Of two layers with the same values the one in the narrower format is the source: it cannot have lost anything."""
    is_a = (_is_quantised(pair.a), -BITS[pair.a.tensor.dtype]) >= (_is_quantised(pair.b), -BITS[pair.b.tensor.dtype])
    source = Side.A if is_a else Side.B
    return Cast(
        source=source,
        from_dtype=labels[source],
        to_dtype=labels[_OTHER[source]],
        rounding=Rounding.EXACT,
        through="",
        overflowed=0,
        flushed=0,
    )


def _is_quantised(layer: Layer) -> bool:
    return layer.tensor.decoder is not None and layer.tensor.decoder.scheme is not None


def _whole_tally(pair: Pair, sources: BothSources, *, thorough: bool = False) -> Tally:
    return reduce(add, (tally(stretch, sources, thorough=thorough) for stretch in stretches(pair)))


def _otherwise(seen: _Seen) -> Exact | NotFitted:
    """Say how far off two layers are of which neither is the other, cast."""
    pair = seen.pair
    if _may_lie_turned(seen):
        turned = replace(pair, turned=True)
        other = replace(seen, pair=turned, tally=_whole_tally(turned, seen.sources))
        same = _same(other)
        if same is not None:
            return same
        if other.tally.squares_of_change < seen.tally.squares_of_change:
            seen, pair = other, turned
    if _is_regrouped(pair) and not _is_alike(seen.tally):
        return NotFitted(unlike_shapes(pair.a, pair.b))
    difference = seen.tally.difference(pair)
    rearrangement = _rearrangement(seen)
    if rearrangement:
        return Exact(relation=Relation.REARRANGED, rearrangement=rearrangement, difference=difference)
    heads = None if _is_alike(seen.tally) else heads_of(pair, seen.once_more)
    if heads:
        return _in_other_order(seen, heads)
    quantisation = _quantisation(seen, difference)
    if quantisation:
        return Exact(relation=Relation.QUANTISED, quantisation=quantisation, difference=difference)
    return Exact(relation=Relation.DIFFERENT, difference=difference, rank=_rank(seen))


def _may_lie_turned(seen: _Seen) -> bool:
    """Whether the rows of one square may be the columns of the other. Quantisers turn what they pack."""
    pair = seen.pair
    unlike_axes = pair.a.part.outputs_first is not pair.b.part.outputs_first
    doubtful = _one_is_quantised(pair) and not _is_alike(seen.tally)
    return (unlike_axes or doubtful) and not pair.turned and can_be_turned(pair.a, pair.b)


def _one_is_quantised(pair: Pair) -> bool:
    return _is_quantised(pair.a) is not _is_quantised(pair.b)


def _in_other_order(seen: _Seen, heads: Heads) -> Exact:
    """Compare queries or keys that are alike once the rows of each head are in one order."""
    halves = list(heads.halves(seen.pair))
    difference = reduce(add, (_in_place(half, seen.sources) for half in halves)).difference(seen.pair)
    moved_rows = heads.moved_rows(seen.pair.a.extent.rows)
    rearrangement = Rearrangement(transposed=False, moved_rows=moved_rows, moved_columns=0)
    quantisation = quantisation_of(halves[0], difference, seen.once_more)
    if quantisation:
        return Exact(
            relation=Relation.QUANTISED, quantisation=quantisation, rearrangement=rearrangement, difference=difference
        )
    rank = NotFitted("its rank is not told: the two are not stored alike")
    return Exact(relation=Relation.DIFFERENT, rearrangement=rearrangement, difference=difference, rank=rank)


def _in_place(half: Pair, sources: BothSources) -> Tally:
    """Compare some rows of a layer, and say where in the whole layer the largest change is."""
    result = _whole_tally(half, sources)
    row, column = half.row_and_column(result.largest_at)
    rows = half.a.part.rows
    stripe, within = divmod(row, rows.count)
    row = rows.start + stripe * rows.period + rows.first + within
    return replace(result, largest_at=row * half.a.extent.columns + column)


def _is_regrouped(pair: Pair) -> bool:
    """Whether the weights are cut into rows in another way. A vector may be a row or a column."""
    are_vectors = 1 in shape(pair.a) and 1 in shape(pair.b)
    return not pair.turned and not are_vectors and shape(pair.a) != shape(pair.b)


def _is_alike(result: Tally) -> bool:
    return not isinstance(result.cosine, NotFitted) and result.cosine > ALIKE


def _rearrangement(seen: _Seen) -> Rearrangement | None:
    """Ask for it only where the same weights may be on both sides."""
    pair, result = seen.pair, seen.tally
    if _is_regrouped(pair) or _is_quantised(pair.a) or _is_quantised(pair.b) or pair.a.tensor.dtype in COMPLEX:
        return None
    tolerance = SAME_NORM if pair.a.tensor.dtype is pair.b.tensor.dtype else NEAR_NORM
    # Of weights that are not finite the norms tell nothing.
    if not result.not_finite and abs(result.squares_a - result.squares_b) > tolerance * result.squares_a:
        return None
    return rearrangement_of(pair.a, pair.b, seen.once_more)


def _quantisation(seen: _Seen, difference: Difference) -> Quantisation | None:
    if not _one_is_quantised(seen.pair) or not _is_alike(seen.tally):
        return None
    return quantisation_of(seen.pair, difference, seen.once_more)


def _rank(seen: _Seen) -> RankProfile | NotFitted | None:
    pair = seen.pair
    if min(shape(pair.a)) < LEAST_SIDE:
        return None
    if pair.turned or _is_regrouped(pair):
        return NotFitted("its rank is not told: the two are not stored alike")
    if _is_quantised(pair.a) or _is_quantised(pair.b):
        return NotFitted("its rank is not told: quantising moves every weight")
    if not seen.is_ranked:
        return NotFitted("its rank is not told: the model is so large that only some of its layers are decomposed")
    return rank_profile(pair.a, pair.b, seen.once_more)


def elements_that_differ(a: Tensor, b: Tensor, sources: Sources) -> int | NotFitted:
    """Count the elements that differ between two tensors that hold no weights, as whole numbers and booleans.

    The result is `Unread` when either could not be read.
    """
    if a.shape != b.shape:
        return NotFitted(f"their shapes differ, {_axes(a)} and {_axes(b)}")
    if BITS[a.dtype] % 8 or BITS[b.dtype] % 8:
        return NotFitted("its elements are not whole bytes")
    differ = 0
    items = CHUNK_BYTES // max(BITS[a.dtype], BITS[b.dtype]) * 8
    count = a.bytes * 8 // BITS[a.dtype]
    for first in range(0, count, items):
        side = Side.A
        try:
            of_a = _elements(a, sources, first, min(count, first + items)).copy()  # b may be in the same file
            side = Side.B
            of_b = _elements(b, sources, first, min(count, first + items))
        except (RefusedFile, CouldNotRead) as error:
            return _unread(error, side)
        differ += int(np.count_nonzero(of_a != of_b))
    return differ


def _axes(tensor: Tensor) -> str:
    return " x ".join(f"{length:,}" for length in tensor.shape) or "a single element"


def _elements(tensor: Tensor, sources: Sources, first: int, stop: int) -> np.ndarray:
    item_bytes = BITS[tensor.dtype] // 8
    return stored_codes(sources.of(tensor).read(first * item_bytes, stop * item_bytes), tensor.dtype)
