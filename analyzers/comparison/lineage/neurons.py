"""Whether two networks have neurons in common: at the same place, at any place of a layer, or in any block.

A neuron is what a layer's weights make or take in: a row of a matrix that reads from the network's stream (queries,
keys, values, gates, up projections), and a column of one that writes to it (attention outputs, down projections). So
the entries of a neuron's weights belong to the stream, which keeps its order when the neurons of a layer change places.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, chunks, stored_range
from jaynes_audit.analyzers.comparison.lineage.score import HIGH, Null, Score, null_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import COMPLEX, values
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS, Role

T = TypeVar("T")
Floats = npt.NDArray[np.float32]

WRITERS = frozenset(
    {Role.ATTENTION_O, Role.CROSS_ATTENTION_O, Role.MLP_DOWN, Role.EXPERT_DOWN, Role.SSM_OUT, Role.LORA_B}
)
"""Layers whose inputs are the neurons, and whose outputs are the stream."""

MOST_LAYERS = 8  # time grows with their number
MOST_WEIGHTS = 1 << 26  # of a layer: 8192 x 8192; larger ones take too long to read for what they tell
NEURONS = 32  # of a layer of A that are looked for in B
MOST_ENTRIES = 512  # of a neuron's weights that are compared
MOST_SAMPLED = 1 << 24  # weights of a layer that are held as numbers: 64 MB
MATRIX = 2  # axes
LEAST_ENTRIES = 16  # below it, any two neurons are alike
TURNS = 5  # of scaling rows and columns; further ones change nothing that matters
LEAST_SQUARE = 1e-30  # below it, a scale is none
LEAST_SIZE = 1e-100  # of a neuron, by the layer's largest: no product of two squares vanishes
DRAWS = 20
TWINS_OF_B = 5  # all neurons of a layer: to draw them anew each time would take most of the time
SEED = 0  # the same score every time

WEIGHT_COSINE = "weight cosine"
MATCHED_NEURONS = "matched neurons"
NEURONS_IN_ANY_BLOCK = "neurons in any block"
MOST_SOUGHT = 4  # matrices of one network that are looked for in the other; time grows with their number
MOST_CANDIDATES = 128  # matrices in which one is looked for
MOST_ENTRIES_SOUGHT = 256  # of a neuron's weights, where many layers are searched: half the time of MOST_ENTRIES
SEARCHES = 20  # draws of each null, over all the matrices looked for
NEURONS_SCALED = 1024  # of a layer that is searched; they tell how large each entry is to 2 %
LEAST_FOUND = 0.1  # above what one search in twenty finds by chance: a matrix is there again

ENTRIES_PERMUTED = "neurons with permuted entries"
GAUSSIAN_LAYERS = "Gaussian layers of the same row and column norms"


def neuron_scores(pairs: Sequence[tuple[Layer, Layer]], sources: Sources) -> tuple[Score, Score] | NotFitted:
    """Score how alike the neurons of matched layers are: at the same place, and wherever a layer has the most alike.

    Of the pairs of hidden matrices with equal shapes, a fixed sample is read, evenly spread over roles and depth, and
    of each a fixed sample of A's neurons. `weight cosine` is the cosine of their weights and B's at the same places.
    `matched neurons` is the greatest cosine with any neuron of B's layer, averaged over neurons; it stays as it is when
    the neurons of a layer change places. Neither survives a rotation or a permutation of the stream that runs through
    the whole network, nor one of both sides of a layer, as in a plain stack of layers without a stream.

    The greatest of many cosines is not zero by chance: about sqrt(2 ln N / d) for N neurons with d entries. `unrelated`
    is what B's neurons score with their entries in another order, one and the same for all neurons, which keeps norms,
    values and how neurons of a layer stand to one another. `twins` are Gaussian layers whose rows and columns have the
    norms they have in A and in B.

    Memory is about three times MOST_SAMPLED numbers. A pair that cannot be read is left out.
    """
    comparable = [(a, b) for a, b in pairs if _is_of_use(a) and _is_of_use(b) and _kind(a) == _kind(b)]
    if not comparable:
        return NotFitted(f"no two matched hidden matrices have equal shapes and at most {MOST_WEIGHTS:,} weights")
    rng = np.random.default_rng(SEED)
    likenesses = [likeness for a, b in _sample(comparable) for likeness in _likenesses(a, b, sources, rng)]
    if not likenesses:
        return NotFitted(
            "of the matched hidden matrices that were looked at, none could be read or has weights in both"
        )
    neurons = sum(each.neurons for each in likenesses)
    compared = f"{neurons:,} neurons of {len(likenesses)} of {len(comparable):,} matrices"
    return (
        _score(WEIGHT_COSINE, compared, [each.placed for each in likenesses]),
        _score(MATCHED_NEURONS, compared, [each.matched for each in likenesses]),
    )


def neurons_in_any_block(of_a: Sequence[Layer], of_b: Sequence[Layer], sources: Sources) -> tuple[Score, ...]:
    """Score how alike the neurons of a network's layers are to those of whichever layer of another has the most alike.

    For networks of which nobody knows which block is which: blocks were left out, put in, put in twice or moved. Of the
    hidden matrices of the network that has fewer of them, a fixed sample is taken, evenly spread over roles and depth.
    Each is looked for in all matrices of the other that have its role and shape, or in MOST_CANDIDATES of them, evenly
    spread; matrices with no more than those to look in are preferred. `neurons in any block` is the mean of what
    `matched neurons` is with the best of them. `compared` tells how many of the sample were found again: those that are
    LEAST_FOUND above what one search in twenty finds where nothing is alike.

    The nulls are those of `neuron_scores`, and the best of as many matrices. Draws for one matrix of the sample are
    independent of those for another: the median and the high of their mean are those of all combinations. They are few,
    and unrelated networks with small layers exceed `high` up to twice as often as once in twenty, by less than 0.01.

    Memory is about four times MOST_SAMPLED numbers. A matrix that cannot be read is left out. Gives no score where no
    two matrices have one role and shape and can be read.
    """
    kinds_a, kinds_b = _by_kind(of_a), _by_kind(of_b)
    common = kinds_a.keys() & kinds_b.keys()
    sides, fewer, more = "AB", kinds_a, kinds_b
    if _number(kinds_a, common) > _number(kinds_b, common):
        sides, fewer, more = "BA", kinds_b, kinds_a
    small = {kind for kind in common if len(more[kind]) <= MOST_CANDIDATES}
    wanted = small or common
    sample = _spread([layer for kind, layers in fewer.items() if kind in wanted for layer in layers])
    kinds = _by_kind(sample)
    rng = np.random.default_rng(SEED)
    searches = [
        _search(layers, _evenly(more[kind], MOST_CANDIDATES), SEARCHES // len(sample), sources, rng)
        for kind, layers in kinds.items()
    ]
    found = [each for search in searches for each in search.found]
    if not found:
        return ()
    again = sum(map(_is_found, found))
    neurons = sum(search.neurons for search in searches)
    looked_in = f"{sum(search.candidates for search in searches):,} of {_number(more, kinds):,} of {sides[1]}"
    return (
        Score(
            name=NEURONS_IN_ANY_BLOCK,
            value=min(1.0, float(np.mean([each.value for each in found]))),  # rounding may exceed it
            compared=f"{neurons:,} neurons of {len(found)} matrices of {sides[0]} in {looked_in}, "
            f"{again} of {len(found)} matrices found again",
            unrelated=_null_of_mean(ENTRIES_PERMUTED, [each.unrelated for each in found]),
            twins=_null_of_mean(GAUSSIAN_LAYERS, [each.twins for each in found]),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A figure of one layer, and what it is where nothing is alike, by draws."""

    value: float
    unrelated: npt.NDArray[np.float64]
    twins: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Likeness:
    """How alike two layers are: neuron by neuron at the same place, and wherever the most alike one is."""

    neurons: int
    placed: _Scored
    matched: _Scored


def _score(name: str, compared: str, layers: Sequence[_Scored]) -> Score:
    """The mean over layers; each draw is of all layers at once."""
    return Score(
        name=name,
        value=min(1.0, float(np.mean([layer.value for layer in layers]))),  # rounding may exceed it
        compared=compared,
        unrelated=null_of(ENTRIES_PERMUTED, np.mean([layer.unrelated for layer in layers], axis=0)),
        twins=null_of(GAUSSIAN_LAYERS, np.mean([layer.twins for layer in layers], axis=0)),
    )


# ---- which layers


class _Kind(NamedTuple):
    """What two layers share whose neurons can be compared."""

    role: Role
    neurons: int
    entries: int
    outputs_first: bool


def _kind(layer: Layer) -> _Kind:
    # Stored the other way round, the inputs of a kernel with more axes would be in another order.
    return _Kind(layer.part.role, *_shape(layer), layer.part.outputs_first or len(layer.tensor.shape) == MATRIX)


def _is_of_use(layer: Layer) -> bool:
    neurons, entries = _shape(layer)
    return (
        layer.part.role in HIDDEN_LAYERS
        and layer.extent.weights <= MOST_WEIGHTS
        and 0 < neurons <= MOST_SAMPLED // LEAST_ENTRIES
        and entries >= LEAST_ENTRIES
        and layer.extent.scaled
        and layer.tensor.dtype not in COMPLEX
    )


def _neurons_are_rows(layer: Layer) -> bool:
    return layer.part.outputs_first is (layer.part.role not in WRITERS)


def _shape(layer: Layer) -> tuple[int, int]:
    """Neurons, and entries of each."""
    rows, columns = len(layer.part.rows), len(layer.part.columns)
    return (rows, columns) if _neurons_are_rows(layer) else (columns, rows)


def _place(layer: Layer) -> tuple[Role, str, int]:
    return layer.part.role, layer.part.stack, layer.part.depth or 0


def _sample(pairs: Sequence[tuple[Layer, Layer]]) -> list[tuple[Layer, Layer]]:
    """Give pairs at equal distances in a list that goes through the depth of one role after another."""
    return _evenly(sorted(pairs, key=lambda pair: _place(pair[0])), MOST_LAYERS)


def _evenly(items: Sequence[T], most: int) -> list[T]:
    taken = min(most, len(items))
    return [_at(items, place, taken) for place in range(taken)]


def _at(items: Sequence[T], place: int, places: int) -> T:
    """Give the item in the middle of one of as many equal parts."""
    return items[(2 * place + 1) * len(items) // (2 * places)]


def _by_kind(layers: Iterable[Layer]) -> dict[_Kind, list[Layer]]:
    """The layers of use by what they can be compared with, along the depth."""
    kinds = defaultdict[_Kind, list[Layer]](list)
    for layer in sorted(filter(_is_of_use, layers), key=_place):
        kinds[_kind(layer)].append(layer)
    return dict(kinds)


def _number(layers: Mapping[_Kind, Sequence[Layer]], kinds: Iterable[_Kind]) -> int:
    return sum(len(layers[kind]) for kind in kinds)


def _spread(layers: Sequence[Layer]) -> list[Layer]:
    """Give a few layers: each is of a later role than the one before and stands deeper, where there are as many."""
    roles = defaultdict[Role, list[Layer]](list)
    for layer in sorted(layers, key=_place):
        roles[layer.part.role].append(layer)
    of_roles = list(roles.values())
    places = range(MOST_SOUGHT if of_roles else 0)
    chosen = (_at(_at(of_roles, place, MOST_SOUGHT), place, MOST_SOUGHT) for place in places)
    return list({id(layer): layer for layer in chosen}.values())


# ---- one pair of layers


def _likenesses(a: Layer, b: Layer, sources: Sources, rng: np.random.Generator) -> Iterator[_Likeness]:
    """Give how alike two layers are, or nothing when that cannot be said."""
    neurons, entries = _shape(a)
    taken = np.sort(rng.permutation(entries)[: min(MOST_ENTRIES, MOST_SAMPLED // neurons)])
    both = tuple(_readable((a, b), taken, sources))
    if len(both) < len((a, b)):
        return
    of_a, of_b = both
    norms = of_a.norms * of_b.norms
    chosen = np.sort(rng.permutation(np.flatnonzero(norms))[:NEURONS])
    if not chosen.size:
        return
    targets = _Targets(
        directions=of_b.directions,
        places=chosen,
        shares=norms[chosen] / (np.linalg.norm(of_a.norms[chosen]) * np.linalg.norm(of_b.norms[chosen])),
    )
    sought, scales = of_a.directions[chosen], _scales_of_entries(of_a.directions)
    found = _found(sought, targets)
    permuted = np.array([_found(sought[:, rng.permutation(taken.size)], targets) for _ in range(DRAWS)])
    scales_of_b = _scales_of_entries(of_b.directions)
    drawn = np.array(
        [
            _found(_gaussian(chosen.size, scales, rng), twins)
            for twins in (replace(targets, directions=_gaussian(neurons, scales_of_b, rng)) for _ in range(TWINS_OF_B))
            for _ in range(DRAWS // TWINS_OF_B)
        ]
    )
    placed, matched = (
        _Scored(value=found[at], unrelated=permuted[:, at], twins=drawn[:, at]) for at in range(len(found))
    )
    yield _Likeness(neurons=chosen.size, placed=placed, matched=matched)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Neurons:
    """Some entries of all neurons of a layer: their norms, by the layer's greatest weight, and their directions.

    `directions` has shape (neurons, entries); each is of norm 1, or 0 where the neuron has no weights of use.
    """

    directions: Floats
    norms: npt.NDArray[np.float64]


def _readable(layers: Iterable[Layer], entries: npt.NDArray[np.int64], sources: Sources) -> Iterator[_Neurons]:
    """Read the layers, one at a time, and leave out those that cannot be read or have no weights of use."""
    for layer in layers:
        try:
            read = _read_neurons(layer, entries, sources)
        except (RefusedFile, CouldNotRead):
            continue
        if read.norms.any():
            yield read


def _read_neurons(layer: Layer, entries: npt.NDArray[np.int64], sources: Sources) -> _Neurons:
    rows = layer.extent.rows
    sources.ahead(layer.tensor.needs(*stored_range(layer, 0, rows)))
    parts, first = [], 0
    for chunk in chunks(sources.of(layer.tensor), layer, first_row=0, stop_row=rows):
        if _neurons_are_rows(layer):
            taken = chunk[:, entries]
        else:
            within = entries[(entries >= first) & (entries < first + len(chunk))] - first
            taken = chunk[within]
        parts.append(values(taken, layer.tensor.dtype))
        first += len(chunk)
    weights = np.concatenate(parts)
    return _normalised(weights if _neurons_are_rows(layer) else np.ascontiguousarray(weights.T))


def _normalised(weights: npt.NDArray[np.generic]) -> _Neurons:
    """Take neurons apart into norms and directions. One that has an entry which is not finite counts as zero."""
    largest = np.abs(weights).max(axis=1).astype(np.float64)
    usable = np.isfinite(largest) & (largest > 0)
    sizes = np.where(usable, largest, 0)
    sizes /= sizes.max() or 1
    divisors = np.where(usable, largest, 1).astype(weights.dtype)  # no square can overflow
    directions = np.where(usable[:, None], weights / divisors[:, None], 0).astype(np.float32, copy=False)
    norms = np.sqrt(np.einsum("ij,ij->i", directions, directions))
    directions /= np.maximum(norms, 1)[:, None]
    return _Neurons(directions=directions, norms=norms * np.where(sizes > LEAST_SIZE, sizes, 0))


def _scales_of_entries(directions: Floats) -> Floats:
    """Give how large each entry is in all neurons once it is divided out how large each neuron is, in turns."""
    squares = np.square(directions)
    entries: npt.NDArray[np.floating] = squares.mean(axis=0)
    for _ in range(TURNS):
        neurons = squares @ (1 / np.maximum(entries, LEAST_SQUARE))
        entries = (1 / np.maximum(neurons, LEAST_SQUARE)) @ squares
        entries /= max(float(entries.max()), LEAST_SQUARE)
    scales: Floats = np.sqrt(entries).astype(np.float32)
    return scales


def _gaussian(neurons: int, scales: Floats, rng: np.random.Generator) -> Floats:
    """Draw independent directions whose entries have these scales."""
    drawn = rng.standard_normal((neurons, scales.size), np.float32)
    drawn *= scales
    drawn /= np.sqrt(np.einsum("ij,ij->i", drawn, drawn))[:, None]
    return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Targets:
    """The neurons among which others are looked for.

    `places` are those where the others stand themselves, `shares` the weights of their cosines in that of the layers.
    """

    directions: Floats
    places: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]


def _found(sought: Floats, targets: _Targets) -> tuple[float, float]:
    """Give the cosine of the neurons' weights with those at the same places, and their mean greatest cosine."""
    cosines = sought @ targets.directions.T
    placed = cosines[np.arange(len(sought)), targets.places] @ targets.shares
    return float(placed), float(cosines.max(axis=1).mean())


# ---- layers that may stand in any block


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """How alike each of some layers of one kind is to the most alike of others, and how many were looked at."""

    found: tuple[_Scored, ...]
    neurons: int
    candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sought:
    """Neurons of a layer that are looked for.

    `permuted` are they with permuted entries, once for each draw; `scales` is how large each entry is in the layer.
    """

    neurons: Floats
    permuted: Floats
    scales: Floats


def _search(
    layers: Sequence[Layer], candidates: Sequence[Layer], draws: int, sources: Sources, rng: np.random.Generator
) -> _Search:
    """Look for layers in candidates of the same kind, and for as many draws of each null. Each layer is read once."""
    neurons, entries = _shape(candidates[0])
    taken = np.sort(rng.permutation(entries)[: min(MOST_ENTRIES_SOUGHT, MOST_SAMPLED // neurons)])
    sought = [_sought(each, draws, rng) for each in _readable(layers, taken, sources)]
    best = np.full((len(sought), 1 + 2 * draws), -np.inf)
    looked_in = 0
    for candidate in _readable(candidates if sought else (), taken, sources):
        some = _evenly(np.flatnonzero(candidate.norms).tolist(), NEURONS_SCALED)
        twin = _gaussian(neurons, _scales_of_entries(candidate.directions[some]), rng)
        best = np.maximum(best, [_looked_for(each, candidate.directions, twin, rng) for each in sought])
        looked_in += 1
    if not looked_in:
        return _Search(found=(), neurons=0, candidates=0)
    return _Search(
        found=tuple(
            _Scored(value=float(of_layer[0]), unrelated=of_layer[1 : 1 + draws], twins=of_layer[1 + draws :])
            for of_layer in best
        ),
        neurons=sum(len(each.neurons) for each in sought),
        candidates=looked_in,
    )


def _sought(of_layer: _Neurons, draws: int, rng: np.random.Generator) -> _Sought:
    chosen = np.sort(rng.permutation(np.flatnonzero(of_layer.norms))[:NEURONS])
    neurons = of_layer.directions[chosen]
    return _Sought(
        neurons=neurons,
        permuted=np.concatenate([neurons[:, rng.permutation(neurons.shape[1])] for _ in range(draws)]),
        scales=_scales_of_entries(of_layer.directions),
    )


def _looked_for(sought: _Sought, candidate: Floats, twin: Floats, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Give the mean greatest cosine with a candidate's neurons, then that of each draw: permuted, then of twins."""
    gaussian = _gaussian(len(sought.permuted), sought.scales, rng)
    greatest = np.concatenate(
        [_greatest(sought.neurons, candidate), _greatest(sought.permuted, candidate), _greatest(gaussian, twin)]
    )
    means: npt.NDArray[np.float64] = greatest.reshape(-1, len(sought.neurons)).mean(axis=1, dtype=np.float64)
    return means


def _greatest(sought: Floats, directions: Floats) -> Floats:
    """Give the greatest cosine of each with any, holding at most MOST_SAMPLED cosines at a time."""
    step = max(1, MOST_SAMPLED // len(directions))
    greatest: Floats = np.concatenate(
        [(sought[first : first + step] @ directions.T).max(axis=1) for first in range(0, len(sought), step)]
    )
    return greatest


def _is_found(layer: _Scored) -> bool:
    by_chance = max(float(np.quantile(_widened(drawn), HIGH)) for drawn in (layer.unrelated, layer.twins))
    return layer.value > by_chance + LEAST_FOUND


def _widened(drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spread a few draws about their mean as much as a further one would deviate from it."""
    middle = drawn.mean()
    spread = math.sqrt((drawn.size + 1) / (drawn.size - 1))  # that of a prediction interval
    widened: npt.NDArray[np.float64] = middle + (drawn - middle) * spread
    return widened


def _null_of_mean(what: str, drawn: Sequence[npt.NDArray[np.float64]]) -> Null:
    """Sum up the mean of independent layers over all combinations of their draws."""
    null = null_of(what, reduce(np.add.outer, map(_widened, drawn)).ravel() / len(drawn))
    return replace(null, draws=sum(each.size for each in drawn))
