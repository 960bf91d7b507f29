"""Which views of one storage hold the same bytes, so that no byte is audited twice.

Views that hold the very same bytes are aliases of the first. A view whose bytes another one holds among others is part
of that one. Where two overlap in any other way, or the strides are too irregular to tell, the larger one is kept and
the other passed over. Among very many, a set of views that is apart by its regularity is kept, such as all columns.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from math import prod
from operator import attrgetter
from typing import NamedTuple

MOST_COMPARED = 32  # views of one storage whose elements are compared pair by pair; beyond it by regularity and reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The bytes that a view means: the first at `start`, and along each axis so many, so many bytes apart.

    Axes of length 1 are left out, and the bytes of an element are an axis too. `order` is the place of the view's name
    among the others.
    """

    order: int
    start: int
    axes: tuple[tuple[int, int], ...]
    end: int = field(init=False)

    def __post_init__(self) -> None:
        across = sum((length - 1) * stride for length, stride in self.axes)
        object.__setattr__(self, "end", self.start + across + 1)

    @property
    def count(self) -> int:
        """How many bytes they are."""
        return prod(length for length, _ in self.axes)

    @property
    def is_dense(self) -> bool:
        """Whether no byte lies between them."""
        return self.count == self.end - self.start


class Relation(Enum):
    """How the bytes of a view stand to those of another that has as many or more."""

    APART = auto()
    SAME = auto()
    INSIDE = auto()
    ACROSS = auto()


@dataclass(frozen=True, slots=True)
class Shares:
    """The views of a storage that are not kept, each with the kept one that has all of their bytes or some."""

    same: dict[int, int] = field(default_factory=dict)
    inside: dict[int, int] = field(default_factory=dict)
    across: dict[int, int] = field(default_factory=dict)

    def note(self, extent: Extent, relation: Relation, kept: Extent) -> None:
        """Remember how a view stands to a kept one."""
        named = {Relation.SAME: self.same, Relation.INSIDE: self.inside, Relation.ACROSS: self.across}
        named[relation][extent.order] = kept.order


def shares_of(extents: Sequence[Extent]) -> Shares:
    """What the views of one storage have in common. Takes n log n steps for n views, and for no more than a few n²."""
    shares = Shares()
    first_with: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
    different: list[Extent] = []
    for extent in extents:
        first = first_with.setdefault((extent.start, tuple(sorted(extent.axes))), extent.order)
        if first == extent.order:
            different.append(extent)
        else:
            shares.same[extent.order] = first
    for cluster in _clusters(different):
        if len(cluster) <= MOST_COMPARED:
            _compare_pairs(cluster, shares)
        else:
            _compare_reaches(cluster, shares)
    return shares


def _clusters(extents: Sequence[Extent]) -> Iterator[list[Extent]]:
    """The views in groups that reach over each other's bytes."""
    cluster: list[Extent] = []
    reached = 0
    for extent in sorted(extents, key=attrgetter("start", "order")):
        if cluster and extent.start >= reached:
            yield cluster
            cluster = []
        cluster.append(extent)
        reached = max(reached, extent.end)
    if cluster:
        yield cluster


def _by_size(cluster: Sequence[Extent]) -> list[Extent]:
    return sorted(cluster, key=lambda extent: (-extent.count, extent.order))


def _compare_pairs(cluster: Sequence[Extent], shares: Shares) -> None:
    kept: list[Extent] = []
    for extent in _by_size(cluster):
        for other in kept:
            relation = _relation(extent, other)
            if relation is not Relation.APART:
                shares.note(extent, relation, other)
                break
        else:
            kept.append(extent)


class _Reach(NamedTuple):
    """Bytes that kept views reach over, and the first of those views."""

    start: int
    end: int
    kept: Extent


def _compare_reaches(cluster: Sequence[Extent], shares: Shares) -> None:
    """Keep the regular set with the most bytes and, beside it, those that reach over nothing that a kept one does."""
    regular = max(_regular_sets(cluster), key=lambda views: (sum(each.count for each in views), -len(views)))
    reaches = [_Reach(views[0].start, max(each.end for each in views), views[0]) for views in _clusters(regular)]
    ends = [reach.end for reach in reaches]
    in_set = {extent.order for extent in regular}
    reached, last = 0, regular[0]
    for extent in cluster:
        if extent.order in in_set:
            continue
        place = bisect_left(ends, extent.start + 1)
        if place < len(reaches) and reaches[place].start < extent.end:
            kept = reaches[place].kept
            is_inside = kept.is_dense and kept.start <= extent.start and extent.end <= kept.end
            shares.note(extent, Relation.INSIDE if is_inside else Relation.ACROSS, kept)
        elif extent.start < reached:
            shares.note(extent, Relation.ACROSS, last)
        else:
            reached, last = extent.end, extent


def _regular_sets(cluster: Sequence[Extent]) -> list[list[Extent]]:
    """The views in sets, no two of a set with a byte in common, each set in the order of the cluster.

    Those of one set are boxes of the same size on one grid, see `_digits`: two such boxes are the same or apart.
    """
    sets: defaultdict[object, list[Extent]] = defaultdict(list)
    for extent in cluster:
        radices = sorted({1, *(stride for _, stride in extent.axes)})
        digits = _digits(extent, radices)
        if digits is None:
            sets[extent.order].append(extent)
        else:
            grid = tuple((high - low, low % (high - low)) for low, high in digits)
            sets[tuple(radices), grid].append(extent)
    return list(sets.values())


def _relation(extent: Extent, other: Extent) -> Relation:
    """How a view stands to another that is at least as large."""
    if extent.start >= other.end or other.start >= extent.end:
        return Relation.APART
    if other.is_dense and other.start <= extent.start and extent.end <= other.end:
        return Relation.SAME if extent.count == other.count else Relation.INSIDE
    radices = sorted({1, *(stride for each in (extent, other) for _, stride in each.axes)})
    mine, theirs = _digits(extent, radices), _digits(other, radices)
    if mine is None or theirs is None:
        return Relation.ACROSS
    pairs = list(zip(mine, theirs, strict=True))
    if any(low >= other_high or other_low >= high for (low, high), (other_low, other_high) in pairs):
        return Relation.APART
    if any(low < other_low or other_high < high for (low, high), (other_low, other_high) in pairs):
        return Relation.ACROSS
    return Relation.SAME if mine == theirs else Relation.INSIDE


def _digits(extent: Extent, radices: Sequence[int]) -> list[tuple[int, int]] | None:
    """The view as a box: the ranges of the digits of its places, when these are written in the given radices.

    None when it is no box: when a radix does not divide the next, or the digits carry over.
    """
    lengths = dict.fromkeys(radices, 1)
    for length, stride in extent.axes:
        if lengths[stride] != 1:
            return None
        lengths[stride] = length
    digits: list[tuple[int, int]] = []
    rest = extent.start
    for radix, above in zip(radices, [*radices[1:], 0], strict=True):
        length = lengths[radix]
        if not above:
            digits.append((rest, rest + length))
            break
        base, remainder = divmod(above, radix)
        rest, digit = divmod(rest, base)
        if remainder:
            return None
        if digit == 0 and length > base and length % base == 0 and lengths[above] == 1:
            lengths[above], length = length // base, base
        if digit + length > base:
            return None
        digits.append((digit, digit + length))
    return digits
