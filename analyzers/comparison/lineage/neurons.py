"""Whether two networks have neurons in common: the same weights at the same place, or at any place of a layer.

A neuron is what a layer's weights make or take in: a row of a matrix that reads from the network's stream (queries,
keys, values, gates, up projections), and a column of one that writes to it (attention outputs, down projections). So
the entries of a neuron's weights belong to the stream, which keeps its order when the neurons of a layer change places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, chunks, stored_range
from jaynes_audit.analyzers.comparison.lineage.score import Score, null_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import COMPLEX, values
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS, Role

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
SEED = 0  # the same score every time

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
    comparable = [pair for pair in pairs if _is_comparable(*pair)]
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
        _score("weight cosine", compared, [each.placed for each in likenesses]),
        _score("matched neurons", compared, [each.matched for each in likenesses]),
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


def _is_comparable(a: Layer, b: Layer) -> bool:
    neurons, entries = _shape(a)
    return (
        a.part.role is b.part.role
        and a.part.role in HIDDEN_LAYERS
        and _shape(b) == (neurons, entries)
        and a.extent.weights <= MOST_WEIGHTS
        and 0 < neurons <= MOST_SAMPLED // LEAST_ENTRIES
        and entries >= LEAST_ENTRIES
        and all(layer.extent.scaled and layer.tensor.dtype not in COMPLEX for layer in (a, b))
        # Stored the other way round, the inputs of a kernel with more axes would be in another order.
        and (a.part.outputs_first is b.part.outputs_first or len(a.tensor.shape) == len(b.tensor.shape) == MATRIX)
    )


def _neurons_are_rows(layer: Layer) -> bool:
    return layer.part.outputs_first is (layer.part.role not in WRITERS)


def _shape(layer: Layer) -> tuple[int, int]:
    """Neurons, and entries of each."""
    rows, columns = len(layer.part.rows), len(layer.part.columns)
    return (rows, columns) if _neurons_are_rows(layer) else (columns, rows)


def _sample(pairs: Sequence[tuple[Layer, Layer]]) -> list[tuple[Layer, Layer]]:
    """Give pairs at equal distances in a list that goes through the depth of one role after another."""
    ordered = sorted(pairs, key=lambda pair: (pair[0].part.role, pair[0].part.stack, pair[0].part.depth or 0))
    taken = min(MOST_LAYERS, len(ordered))
    return [ordered[(2 * place + 1) * len(ordered) // (2 * taken)] for place in range(taken)]


# ---- one pair of layers


def _likenesses(a: Layer, b: Layer, sources: Sources, rng: np.random.Generator) -> Iterator[_Likeness]:
    """Give how alike two layers are, or nothing when that cannot be said."""
    neurons, entries = _shape(a)
    taken = np.sort(rng.permutation(entries)[: min(MOST_ENTRIES, MOST_SAMPLED // neurons)])
    try:
        of_a, of_b = _read_neurons(a, taken, sources), _read_neurons(b, taken, sources)
    except (RefusedFile, CouldNotRead):
        return
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
    # What is drawn of A is independent of what is drawn of B: one B will do.
    twins = replace(targets, directions=_gaussian(neurons, _scales_of_entries(of_b.directions), rng))
    drawn = np.array([_found(_gaussian(chosen.size, scales, rng), twins) for _ in range(DRAWS)])
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
    return _normalised(weights if _neurons_are_rows(layer) else weights.T)


def _normalised(weights: npt.NDArray[np.generic]) -> _Neurons:
    """Take neurons apart into norms and directions. One that has an entry which is not finite counts as zero."""
    largest = np.abs(weights).max(axis=1).astype(np.float64)
    usable = np.isfinite(largest) & (largest > 0)
    sizes = np.where(usable, largest, 0)
    sizes /= sizes.max() or 1
    divisors = np.where(usable, largest, 1).astype(weights.dtype)  # no square can overflow
    directions = np.where(usable[:, None], weights / divisors[:, None], 0).astype(np.float32)
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
    drawn = rng.standard_normal((neurons, scales.size), np.float32) * scales
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
