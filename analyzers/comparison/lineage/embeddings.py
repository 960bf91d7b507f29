"""Whether two embedding tables place the tokens that both models know alike.

Only tables are looked at: this says nothing about hidden layers, and a fine-tune has its base's table trivially.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint
from jaynes_audit.analyzers.checkpoints.vocabulary import MOST_ROWS, NoVocabulary, Vocabulary, vocabulary_beside
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.lineage.alignment import (
    Floats,
    Integers,
    alignments,
    gram,
    mutual_neighbours,
    nearest,
    relabelled,
    relabelled_within,
    u_centred,
)
from jaynes_audit.analyzers.comparison.lineage.score import Null, Score, null_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, FLOATS, stored_codes, values
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.roles import Role

NEIGHBOURS = 10  # as Huh et al. 2024 have it
MOST_TOKENS = 4096  # time grows with its square; the chance level falls with it, so scores of one number compare
MOST_TOKENS_OF_CKA = 1024  # unbiased, so that its value hardly depends on the number
LEAST_TOKENS = 200  # two bins of the matched null
BIN_TOKENS = 100
NEIGHBOUR_DRAWS = 100
CKA_DRAWS = 20
SEED = 0  # the same score every time

BAND_COLUMNS = 1024  # of both tables that are numbers at a time
ANNOUNCED_ROWS = 256
TWIN_COLUMNS = 64  # how far Gaussian scores spread does not depend on it: cosines of independent rows do not correlate
LEAST_COLUMNS, MOST_COLUMNS = 4, 1 << 15  # the widest tables in use have 16,384


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingTable:
    """A model's embedding table, one row per token, and what its tokens are."""

    layer: Layer
    vocabulary: Vocabulary | NoVocabulary
    sources: Sources


def embedding_table(checkpoint: Checkpoint, sources: Sources) -> EmbeddingTable | NotFitted:
    """Find a model's embedding table, the one with most rows, and read which tokens its rows stand for."""
    tables = [
        layer
        for tensor in checkpoint.tensors
        if tensor.name not in checkpoint.undecoded and tensor.dtype in FLOATS - COMPLEX.keys() and 0 not in tensor.shape
        for layer in layers_of(tensor, checkpoint.config_of(tensor.name))
        if _is_table(layer)
    ]
    if not tables:
        return NotFitted("it has no embedding table that can be read row by row")
    largest = max(tables, key=lambda layer: layer.layout.rows)
    return EmbeddingTable(layer=largest, vocabulary=vocabulary_beside(largest.tensor.file), sources=sources)


def _is_table(layer: Layer) -> bool:
    layout = layer.layout
    return (
        layer.part.role is Role.EMBEDDING
        and not layer.part.outputs_first
        and len(layout.parts) == 1
        and layout.rows <= MOST_ROWS
        and LEAST_COLUMNS <= layout.columns <= MOST_COLUMNS
        and layout.columns * BITS[layer.tensor.dtype] % 8 == 0  # rows that share a byte cannot be read apart
    )


def embedding_scores(a: EmbeddingTable, b: EmbeddingTable) -> tuple[Score, ...] | NotFitted:
    """Score how alike two embedding tables place the tokens they share: mutual neighbours, and unbiased CKA.

    Both are 1 for a table and any rotation of it, and near 0 for tables that have nothing in common. At most
    MOST_TOKENS of the shared tokens are looked at, always the same ones, and only their rows are read. Rows of no use
    are left out: those of special tokens, and those that are zero, not finite, or equal to another in their table.

    `unrelated` is what remains when tokens change places with others of like number, or of like norm, whichever keeps
    more: all that a shared ordering of the tokens, by how common they are, explains by itself. CKA is easily fooled by
    it. `twins` are Gaussian tables with rows of the same norms.

    Memory is that of the rows as they are stored and of two square matrices with MOST_TOKENS rows. What cannot be read
    is not scored.
    """
    try:
        return _scores(a, b)
    except (RefusedFile, CouldNotRead) as error:
        return NotFitted(f"an embedding table could not be read: {error}")


def _scores(a: EmbeddingTable, b: EmbeddingTable) -> tuple[Score, ...] | NotFitted:
    pairing = _paired(a, b)
    if isinstance(pairing, NotFitted):
        return pairing
    rng = np.random.default_rng(SEED)
    taken = np.sort(rng.permutation(len(pairing.a))[:MOST_TOKENS])
    stored = [_stored_rows(a, pairing.a[taken]), _stored_rows(b, pairing.b[taken])]
    used = _of_use(a, stored[0]) & _of_use(b, stored[1])
    tokens = int(np.count_nonzero(used))
    if tokens < LEAST_TOKENS:
        return NotFitted(f"only {tokens:,} of the tokens of both have rows of use; {LEAST_TOKENS} are needed")
    points_b = _points(b, stored.pop()[used])
    points_a = _points(a, stored.pop()[used])
    return _neighbour_score(points_a, points_b, pairing.how, rng), _cka_score(points_a, points_b, pairing.how, rng)


# ---- which rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairing:
    """Rows of two tables for the same tokens, in the order of a's; none is in it twice. `how` says what pairs them."""

    a: Integers
    b: Integers
    how: str


def _paired(a: EmbeddingTable, b: EmbeddingTable) -> _Pairing | NotFitted:
    rows_a, rows_b = a.layer.layout.rows, b.layer.layout.rows
    match a.vocabulary, b.vocabulary:
        case Vocabulary() as tokens_a, Vocabulary() as tokens_b:
            return _paired_by_token(tokens_a, tokens_b, rows_a, rows_b)
        case (NoVocabulary(why), _) | (_, NoVocabulary(why)) if rows_a != rows_b:
            return NotFitted(f"its {rows_a:,} rows cannot be paired with {rows_b:,}: of one table, {why}")
    every = np.arange(rows_a)
    return _Pairing(a=every, b=every, how=f"{rows_a:,} rows, paired by number")


def _paired_by_token(a: Vocabulary, b: Vocabulary, rows_a: int, rows_b: int) -> _Pairing | NotFitted:
    pairs = np.array(
        [
            (row, other)
            for token, row in a.rows.items()
            if row < rows_a and 0 <= (other := b.rows.get(token, -1)) < rows_b
        ],
        np.int64,
    ).reshape(-1, 2)
    for side in (1, 0):  # a row that several tokens share counts once; in the end a's rows are in order
        pairs = pairs[np.unique(pairs[:, side], return_index=True)[1]]
    if len(pairs) < LEAST_TOKENS:
        return NotFitted(f"the two tables share {len(pairs):,} tokens; {LEAST_TOKENS} are needed")
    return _Pairing(a=pairs[:, 0], b=pairs[:, 1], how=f"{len(pairs):,} shared tokens")


# ---- reading them


def _stored_rows(table: EmbeddingTable, rows: Integers) -> npt.NDArray[np.generic]:
    """Give rows as stored codes, shape (rows, columns), in the order asked for and read in the order of the file."""
    tensor, columns, sources = table.layer.tensor, table.layer.layout.columns, table.sources
    row_bytes = columns * BITS[tensor.dtype] // 8
    source = sources.of(tensor)
    gathered = np.empty((len(rows), columns), stored_codes(memoryview(b""), tensor.dtype).dtype)
    order = np.argsort(rows)
    for first in range(0, len(rows), ANNOUNCED_ROWS):
        batch = order[first : first + ANNOUNCED_ROWS]
        starts = [int(row) * row_bytes for row in rows[batch]]
        sources.ahead(span for start in starts for span in tensor.needs(start, start + row_bytes))
        for place, start in zip(batch, starts, strict=True):
            gathered[place] = stored_codes(source.read(start, start + row_bytes), tensor.dtype)
    return gathered


def _of_use(table: EmbeddingTable, stored: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Tell which rows are finite, not zero, and unlike every other: equal rows are of tokens that nobody trained."""
    useful = np.ones(len(stored), np.bool_)
    nonzero = np.zeros(len(stored), np.bool_)
    for band in _numbers(table, stored):
        useful &= np.isfinite(band).all(axis=1)
        nonzero |= band.any(axis=1)
    digests = [xxh3_64_intdigest(row) for row in stored]
    _, first, counts = np.unique(np.array(digests, np.uint64), return_index=True, return_counts=True)
    unlike = np.zeros(len(stored), np.bool_)
    unlike[first[counts == 1]] = True
    return useful & nonzero & unlike


def _numbers(table: EmbeddingTable, stored: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    for first in range(0, stored.shape[1], BAND_COLUMNS):
        yield values(stored[:, first : first + BAND_COLUMNS], table.layer.tensor.dtype)


def _bands(table: EmbeddingTable, stored: npt.NDArray[np.generic]) -> Iterator[Floats]:
    """Give the rows as numbers of magnitude at most 1, so that no product overflows."""
    largest = max(float(np.abs(band).max()) for band in _numbers(table, stored))
    for band in _numbers(table, stored):
        yield np.divide(band, largest).astype(np.float32)


# ---- the scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _Points:
    """What is kept of the tokens' rows in a table, so that two matrices of all pairs are never held at once.

    `norms` are those of the rows, `near` their nearest, `products` the inner products of every so many-th of them.
    """

    norms: Floats
    near: Integers
    products: Floats


def _points(table: EmbeddingTable, stored: npt.NDArray[np.generic]) -> _Points:
    products = gram(_bands(table, stored))
    step = -(-len(products) // MOST_TOKENS_OF_CKA)
    return _Points(
        norms=np.sqrt(np.diagonal(products)),
        near=nearest(products, NEIGHBOURS),
        products=products[::step, ::step].copy(),
    )


GAUSSIAN_TABLES = "Gaussian tables of the same row norms"


def _neighbour_score(a: _Points, b: _Points, how: str, rng: np.random.Generator) -> Score:
    tokens = a.norms.size
    anywhere = relabelled(tokens, NEIGHBOUR_DRAWS, rng)
    # Independent rows may be called by any names, so that one pair of twins gives as many draws as are wanted.
    twin_a, twin_b = (nearest(_gaussian_gram(of.norms, rng), NEIGHBOURS) for of in (a, b))
    return Score(
        name="embedding neighbours",
        value=float(mutual_neighbours(a.near, b.near, [np.arange(tokens)])[0]),
        compared=(
            f"{tokens:,} of {how}; k = {NEIGHBOURS}, chance {NEIGHBOURS / (tokens - 1):.4f}, rows permuted "
            f"{_in_words(mutual_neighbours(a.near, b.near, anywhere))}"
        ),
        unrelated=_matched(partial(mutual_neighbours, a.near, b.near), a.norms, NEIGHBOUR_DRAWS, rng),
        twins=null_of(GAUSSIAN_TABLES, mutual_neighbours(twin_a, twin_b, anywhere)),
    )


def _cka_score(a: _Points, b: _Points, how: str, rng: np.random.Generator) -> Score:
    tokens = len(a.products)
    centred_a, centred_b = u_centred(a.products), u_centred(b.products)
    as_named = [np.arange(tokens)]
    norms_a, norms_b = (np.sqrt(np.diagonal(of.products)) for of in (a, b))
    twins = [
        alignments(u_centred(_gaussian_gram(norms_a, rng)), u_centred(_gaussian_gram(norms_b, rng)), as_named)
        for _ in range(CKA_DRAWS)
    ]
    permuted = alignments(centred_a, centred_b, relabelled(tokens, CKA_DRAWS, rng))
    return Score(
        name="embedding CKA",
        value=min(1.0, float(alignments(centred_a, centred_b, as_named)[0])),  # rounding may exceed it
        compared=f"{tokens:,} of {how}; rows permuted {_in_words(permuted)}",
        unrelated=_matched(partial(alignments, centred_a, centred_b), norms_a, CKA_DRAWS, rng),
        twins=null_of(GAUSSIAN_TABLES, np.concatenate(twins)),
    )


def _in_words(drawn: npt.NDArray[np.float64]) -> str:
    """The middle of what was drawn, and in brackets what one in twenty exceeds."""
    null = null_of("", drawn)
    return f"{null.middle:.4f} ({null.high:.4f})"


def _matched(
    scored: Callable[[Sequence[Integers]], npt.NDArray[np.float64]], norms: Floats, draws: int, rng: np.random.Generator
) -> Null:
    """Score tokens that changed places with like ones. `norms` are in the order of the tokens' numbers."""
    orders = {"number": np.arange(norms.size), "norm": np.argsort(norms)}
    nulls = [
        null_of(
            f"tokens permuted in bins of {BIN_TOKENS} by {what}",
            scored(relabelled_within(order, BIN_TOKENS, draws, rng)),
        )
        for what, order in orders.items()
    ]
    return max(nulls, key=lambda null: null.middle)


def _gaussian_gram(norms: Floats, rng: np.random.Generator) -> Floats:
    """Give the Gram matrix of independent Gaussian directions with these norms."""
    points = rng.standard_normal((norms.size, TWIN_COLUMNS), np.float32)
    points *= (norms / np.sqrt(np.einsum("ij,ij->i", points, points)))[:, None]
    return gram(iter([points]))
