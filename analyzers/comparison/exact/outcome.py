"""What a comparison weight by weight finds."""

from dataclasses import dataclass
from enum import StrEnum

from jaynes_audit.analyzers.distributions.moments import NotFitted


class Relation(StrEnum):
    """How the weights of two layers of equal size are related."""

    IDENTICAL = "identical"
    CAST = "identical after a cast"
    REARRANGED = "identical after a rearrangement"
    QUANTISED = "quantised"
    DIFFERENT = "different"


class Rounding(StrEnum):
    """What a cast did to the weights it could not keep."""

    EXACT = "exact"
    ROUNDED = "rounded to nearest"
    TRUNCATED = "truncated"


class Side(StrEnum):
    """One of the two models."""

    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True)
class Unread(NotFitted):
    """Nothing can be said because the layer of `side` could not be read: a failure, where other reasons are none.

    `side` is None where both were read and one of them could not be read a second time. `rule` and `case` name the
    defect where the file's own content was refused, and are empty where the machine or the network said no.
    """

    side: Side | None
    rule: str = ""
    case: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One layer is the other, cast, or both were cast from weights that neither holds.

    `source` is the side that has the weights the other was made from. It is None where neither has them: then
    `from_dtype` is "", and `to_dtype` names both formats, as "BF16 and F16" of A and B. A change too small for the
    coarser of two formats cannot be told from that.

    `through` names a number format that the weights passed through on their way, "" for none: float32 that went through
    fp16 on its way to bf16. `overflowed` weights became infinite or the greatest number, `flushed` ones became zero.
    """

    source: Side | None
    from_dtype: str
    to_dtype: str
    rounding: Rounding
    through: str
    overflowed: int
    flushed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearrangement:
    """B is A with rows or columns in another order, or transposed. Verified weight by weight, not by hashes alone.

    `moved_rows` and `moved_columns` count the rows and columns (of B) that stand elsewhere than in A, or in its
    transpose where `transposed`.
    """

    transposed: bool
    moved_rows: int
    moved_columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far B's weights are from A's. Sums run over the weights that are finite on both sides.

    `relative_error` is the Frobenius norm of B - A over that of A (infinite A = 0 gives NotFitted). `cosine` is that of
    the two layers taken as vectors. `largest` is the greatest magnitude of a change, at `largest_row`, `largest_column`
    of A's stored matrix. `changed` counts the weights whose values differ, NaN and NaN counting as equal, +0 and -0
    too. `not_finite` counts the weights that are not finite on just one side.
    """

    weights: int
    changed: int
    not_finite: int
    relative_error: float | NotFitted
    cosine: float | NotFitted
    largest: float
    largest_row: int
    largest_column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankProfile:
    """How many directions hold the difference B - A of a matrix.

    `energy` is the share of the squared Frobenius norm of the difference that its best approximation of each of the
    ranks `ranks` holds. `rank` is the number of singular values above what rounding to the coarser of the two number
    formats alone would reach; it is at least `ranks[-1]` where `rank_is_bound`.
    """

    ranks: tuple[int, ...]
    energy: tuple[float, ...]
    rank: int
    rank_is_bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """One layer is the other, quantised: `quantised` is the side that was.

    `relative_error` is its Frobenius error over the norm of the other side; `best_error` what the best choice of scales
    (and offsets) for this scheme's groups and codes would reach on the same weights, and `ratio` the first by the
    second.
    """

    quantised: Side
    scheme: str
    relative_error: float
    best_error: float | NotFitted
    ratio: float | NotFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """Two layers, compared weight by weight.

    `cast`, `rearrangement` and `quantisation` are there when `relation` says so. A rearranged layer may have been cast
    as well. The rows of queries and keys that are quantised or different may stand in the other order that rotary
    embeddings know: then `rearrangement` says so, and `difference` is that of the rows that belong together.

    `difference` is there whenever both have equal shapes, or those of each other's transposes, and not the same bytes:
    identical values can have other bytes, as +0 and -0 do. `rank` is there for matrices that differ otherwise than by a
    cast.
    """

    relation: Relation
    cast: Cast | None = None
    rearrangement: Rearrangement | None = None
    quantisation: Quantisation | None = None
    difference: Difference | None = None
    rank: RankProfile | NotFitted | None = None
