"""Two layers -> Rearrangement: whether one is the other with its rows or columns in another order, or transposed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.places import Readable
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, Stored
from jaynes_audit.analyzers.comparison.exact.outcome import Rearrangement
from jaynes_audit.analyzers.comparison.exact.signatures import (
    Hashes,
    Signatures,
    common_forms,
    comparable,
    mix,
    rows_of,
    signatures,
    sums_of_codes,
)
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, FLOATS, Dtype
from jaynes_audit.analyzers.roles import Stripes

Order = npt.NDArray[np.int64]

LONGEST_AXIS = 1 << 20  # rows or columns: each takes some hundred bytes
HELD_BYTES = 16 << 20  # a layer of at most so many is read into memory, and not row by row in another order
BAND_BYTES = 16 << 20  # of rows of one layer, held while the other is read across them
WINDOW_BYTES = 4 << 20  # of whole rows that are read at once for the sake of some of their columns
MOST_ROUNDS = 4  # one is enough unless rows and columns with equal weights stand in another order on both axes


def rearrangement_of(a: Layer, b: Layer, sources: Sources) -> Rearrangement | None:
    """Tell how the rows and columns of B stand in A, if B is A in another order, transposed or not, and cast or not.

    None when B is something else, and when nothing moved. Signatures propose where each row and column came from; it is
    told only when every weight was then looked at and found equal, -0 to 0 and NaN to NaN too. None is also what is
    told where it is not found: where rows and columns are both in another order and most of them hold the same
    weights, of axes longer than LONGEST_AXIS, and of rows of packed weights that share bytes.

    Time: a fast pass over B where nothing fits, another pass over each where the sums of its codes are those of A, and
    a last one where the signatures are. Memory: some eighty mebibytes, and a hundred bytes per row and column.
    Raises what `Readable.read` raises.
    """
    if not (_can_be_told(a) and _can_be_told(b)):
        return None
    for form in common_forms(a.extent.dtype, b.extent.dtype):
        for candidate in _candidates(a, b, sources, form):
            found = _found(candidate)
            if found is not None:
                return found
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """That B may be made of A, or of A transposed, both taken in a format.

    Rows and columns are B's, and those of A as they stand once it is transposed.
    """

    a: Layer
    b: Layer
    sources: Sources
    form: Dtype
    transposed: bool

    def signatures(self, colours: tuple[Signatures, Signatures] | tuple[None, None]) -> tuple[Signatures, Signatures]:
        """Sign A and B."""
        of_a, of_b = colours
        if self.transposed and of_a is not None:
            of_a = of_a.turned
        signed = signatures(self.a, self.sources, self.form, of_a)
        return signed.turned if self.transposed else signed, signatures(self.b, self.sources, self.form, of_b)


def _can_be_told(layer: Layer) -> bool:
    extent = layer.extent
    fits = min(extent.rows, extent.columns) > 0 and max(extent.rows, extent.columns) <= LONGEST_AXIS
    return fits and layer.tensor.dtype in FLOATS and extent.row_bits % 8 == 0


def _candidates(a: Layer, b: Layer, sources: Sources, form: Dtype) -> Iterator[_Candidate]:
    """Give those that the shapes allow, and the sums of codes in A's first rows and in all of B."""
    shape = (a.extent.rows, a.extent.columns)
    fits = {
        False: shape == (b.extent.rows, b.extent.columns),
        True: shape == (b.extent.columns, b.extent.rows) and not {a.tensor.dtype, b.tensor.dtype} & set(COMPLEX),
    }
    if not any(fits.values()):
        return
    first_rows = min(a.extent.rows, a.extent.chunk_rows)
    of_a = sums_of_codes(a, sources, form, stop_row=first_rows).rows
    of_b = sums_of_codes(b, sources, form, stop_row=b.extent.rows)
    for transposed, theirs in ((False, of_b.rows), (True, of_b.columns)):
        if fits[transposed] and np.isin(of_a, theirs).all():
            yield _Candidate(a=a, b=b, sources=sources, form=form, transposed=transposed)


def _found(candidate: _Candidate) -> Rearrangement | None:
    colours: tuple[Signatures, Signatures] | tuple[None, None] = (None, None)
    told_apart = 0
    for _ in range(MOST_ROUNDS):
        of_a, of_b = candidate.signatures(colours)
        if not (_same(of_a.rows, of_b.rows) and _same(of_a.columns, of_b.columns)):
            return None
        rows, columns = _order(of_a.rows, of_b.rows), _order(of_a.columns, of_b.columns)
        if _is_so(candidate, rows, columns):
            moved_rows, moved_columns = (
                int(np.count_nonzero(order != np.arange(order.size))) for order in (rows, columns)
            )
            if not (candidate.transposed or moved_rows or moved_columns):
                return None
            return Rearrangement(transposed=candidate.transposed, moved_rows=moved_rows, moved_columns=moved_columns)
        told_apart, before = np.unique(of_a.rows).size + np.unique(of_a.columns).size, told_apart
        if told_apart == before:
            return None
        colours = _coloured(of_a, of_b)
    return None


def _same(a: Hashes, b: Hashes) -> bool:
    return bool(np.array_equal(np.sort(a), np.sort(b)))


def _order(a: Hashes, b: Hashes) -> Order:
    """For each of B's signatures the place of an equal one in A, each place once: the same place where that fits."""
    order = np.arange(b.size)
    elsewhere = np.flatnonzero(a != b)
    in_a, in_b = (elsewhere[np.argsort(of[elsewhere], kind="stable")] for of in (a, b))
    order[in_b] = in_a
    return order


def _coloured(a: Signatures, b: Signatures) -> tuple[Signatures, Signatures]:
    """Give colours for the next round: rows and columns that all stand where they stood have one for each place."""
    rows, columns = _colours(a.rows, b.rows), _colours(a.columns, b.columns)
    for of_columns in columns:
        mix(of_columns)  # once more, so that row 1 of column 2 is not row 2 of column 1
    return Signatures(rows=rows[0], columns=columns[0]), Signatures(rows=rows[1], columns=columns[1])


def _colours(a: Hashes, b: Hashes) -> tuple[Hashes, Hashes]:
    in_place = np.array_equal(a, b)
    colours = tuple(np.arange(of.size, dtype=np.uint64) if in_place else of.copy() for of in (a, b))
    for of_side in colours:
        mix(of_side)
    return colours[0], colours[1]


# ---- the proof


def _is_so(candidate: _Candidate, rows: Order, columns: Order) -> bool:
    """Whether every weight of B is that of A in the row and the column that it is said to come from."""
    compare = _is_turned if candidate.transposed else _is_moved
    return compare(candidate, rows, columns)


def _is_moved(candidate: _Candidate, rows: Order, columns: Order) -> bool:
    a, b, form = candidate.a, candidate.b, candidate.form
    rows_of_a = _reader(a, candidate.sources)
    source = candidate.sources.of(b.tensor)
    in_place = np.array_equal(columns, np.arange(columns.size))
    for top in range(0, b.extent.rows, b.extent.chunk_rows):
        bottom = min(b.extent.rows, top + b.extent.chunk_rows)
        ours = rows_of_a(rows[top:bottom])
        theirs = comparable(rows_of(b, source, top, bottom), b.extent.dtype, form)
        ours = comparable(ours if in_place else ours[:, columns], a.extent.dtype, form)
        if not np.array_equal(ours, theirs):
            return False
    return True


def _is_turned(candidate: _Candidate, rows: Order, columns: Order) -> bool:
    """As many rows of A at a time as can be held, each a column of B, and B read across them."""
    a, b, form = candidate.a, candidate.b, candidate.form
    rows_of_a = _reader(a, candidate.sources)
    width = max(1, BAND_BYTES * 8 // (a.extent.columns * max(BITS[a.extent.dtype], BITS[form])))
    for left in range(0, columns.size, width):
        band = columns[left : left + width]
        held = np.ascontiguousarray(comparable(rows_of_a(band), a.extent.dtype, form).T)
        for top, stored in _across(b, candidate.sources.of(b.tensor), left, left + band.size):
            theirs = comparable(stored, b.extent.dtype, form)
            if not np.array_equal(held[rows[top : top + len(theirs)]], theirs):
                return False
    return True


def _reader(layer: Layer, sources: Sources) -> Callable[[Order], Stored]:
    """Give a function that reads rows of a layer in any order, as stored codes."""
    source = sources.of(layer.tensor)
    extent = layer.extent
    if extent.rows * extent.row_bits <= HELD_BYTES * 8:
        held = rows_of(layer, source, 0, extent.rows).copy()
        return lambda order: held[order]
    return lambda order: _gathered(layer, source, order)


def _gathered(layer: Layer, source: Readable, order: Order) -> Stored:
    breaks = np.flatnonzero(np.diff(order) != 1) + 1
    runs = pairwise([0, *breaks.tolist(), order.size])
    return np.concatenate([_run(layer, source, int(order[start]), stop - start) for start, stop in runs])


def _run(layer: Layer, source: Readable, first_row: int, count: int) -> Stored:
    return rows_of(layer, source, first_row, first_row + count).copy()


def _across(layer: Layer, source: Readable, left: int, right: int) -> Iterator[tuple[int, Stored]]:
    """Read columns `left` to `right` of a layer: the number of the first row, and rows as many as a window holds."""
    extent = layer.extent
    height = max(1, WINDOW_BYTES * 8 // extent.row_bits)
    narrow = _narrowed(layer, left, right)
    for top in range(0, extent.rows, height):
        bottom = min(extent.rows, top + height)
        if narrow is None:
            yield top, rows_of(layer, source, top, bottom)[:, left:right]
        else:
            yield top, rows_of(narrow, source, top, bottom)


def _narrowed(layer: Layer, left: int, right: int) -> Layer | None:
    """The layer with these columns alone, of which no others need be read, or None where they lie in stripes."""
    columns = layer.part.columns
    if columns.count < columns.period < columns.stop - columns.start or len(columns) != layer.extent.columns:
        return None
    first = columns.start + columns.first
    part = replace(layer.part, columns=Stripes.span(first + left, first + right))
    return replace(layer, part=part, extent=replace(layer.extent, columns=right - left, scaled=True))
