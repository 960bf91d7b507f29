"""The kernel in NumPy: what the compiled one must compute, and what runs where there is no compiler.

`kind` is an index into KINDS. `tables` has shape (2, 65536): the compiled kernel counts in both halves, this one in the
first; only their sum has a meaning. `facts` is one FACTS record. Both kernels give equal counts and facts; their sums
of squares differ by rounding alone (float64, another order of addition).
"""

import numpy as np
import numpy.typing as npt

KINDS: tuple[np.dtype[np.generic], ...] = (np.dtype("<u2"), np.dtype("<f2"), np.dtype("<f4"))
"""How the weights of each kind are stored: bfloat16 codes, float16, float32."""

BF16, F16, F32 = range(3)

FACTS = np.dtype([("largest", "<u4"), ("low_bits", "<u4"), ("max_finite", "<u8")])
"""What 16-bit codes cannot tell of float32 weights: the greatest finite magnitude (as bits), the lower halves of all
finite weights or-ed together, and how many weights are +-FLT_MAX."""

CODES = 65536
CELL_CODES = 4
CELLS = CODES // 2 // CELL_CODES
WINDOW = 65536  # np.bincount copies its input to int64, so it is fed what the cache holds
SIGN_CLEARED = np.uint32(0x7FFFFFFF)
INFINITY = np.uint32(0x7F800000)
LARGEST_FINITE = np.uint32(0x7F7FFFFF)

F64 = 3  # of `pair` alone

PAIRING = np.dtype(
    [
        *((name, "<f8") for name in ("squares_a", "squares_b", "squares_of_change", "products", "largest")),
        *((name, "<i8") for name in ("largest_at", "changed", "not_finite", "other_bytes")),
    ]
)
"""How the weights of two chunks differ. The four sums, of squares and of products, run over the weights that are finite
on both sides; `largest` is the greatest magnitude of a change among them (one that overflows is the greatest number),
and `largest_at` where it stands first. `changed` counts the weights whose values differ, +0 and -0 being equal and NaN
and NaN too, `not_finite` those that are not finite on one side only. `other_bytes` is 1 unless all bytes are alike."""

Counts = npt.NDArray[np.uint32]
Sums = npt.NDArray[np.float64]
Facts = npt.NDArray[np.void]


def upper_halves(bits: npt.NDArray[np.uint32], facts: Facts) -> npt.NDArray[np.uint16]:
    """Give the upper half of each float32 pattern, with zero and NaN kept exact.

    A non-zero weight never gets the code of zero, and a NaN never that of infinity.
    """
    magnitude = bits & SIGN_CLEARED
    codes = (bits >> np.uint32(16)).astype(np.uint16)
    codes |= magnitude - np.uint32(1) < np.uint32(0xFFFF)
    codes |= (magnitude > INFINITY).astype(np.uint16) << np.uint16(6)
    finite = magnitude < INFINITY
    if not finite.all():
        bits, magnitude = bits[finite], magnitude[finite]
    if bits.size:
        facts["largest"] = max(int(facts["largest"]), int(magnitude.max()))
        facts["low_bits"] = int(facts["low_bits"]) | int(np.bitwise_or.reduce(bits & np.uint32(0xFFFF), axis=None))
        facts["max_finite"] = int(facts["max_finite"]) + np.count_nonzero(magnitude == LARGEST_FINITE)
    return codes


def finite_values(kind: int, weights: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Give the weights as float32, with 0 in the place of what is not finite."""
    values: npt.NDArray[np.float32]
    if kind == BF16:
        values = np.left_shift(weights, 16, dtype=np.uint32).view(np.float32)
    else:
        values = weights.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        values[~finite] = 0
    return values


def codes_of(kind: int, weights: npt.NDArray[np.generic], facts: Facts) -> npt.NDArray[np.uint16]:
    """Give each weight's code on the 16-bit grid of its kind."""
    if kind == F32:
        return upper_halves(weights.view(np.uint32), facts)
    return weights.view(np.uint16)


def add_squares(
    kind: int, weights: npt.NDArray[np.generic], row_squares: Sums | None, column_squares: Sums | None
) -> None:
    """Add the squares of the finite weights to the sums of their rows and columns."""
    if row_squares is None or column_squares is None:
        return
    values = finite_values(kind, weights)
    squares = np.multiply(values, values, dtype=np.float64)
    row_squares += squares.sum(axis=1)
    column_squares += squares.sum(axis=0)


def as_matrix(kind: int, stored: npt.NDArray[np.generic], rows: int, columns: int) -> npt.NDArray[np.generic]:
    """View the stored weights as rows x columns of their kind."""
    return np.frombuffer(stored, KINDS[kind]).reshape(rows, columns)


def count(
    kind: int,
    stored: npt.NDArray[np.generic],
    rows: int,
    columns: int,
    tables: Counts,
    row_squares: Sums | None,
    column_squares: Sums | None,
    facts: Facts,
) -> None:
    """Add rows x columns weights to the tables of counts and to the sums of squares."""
    matrix = as_matrix(kind, stored, rows, columns)
    step = max(1, WINDOW // max(1, columns))
    for top in range(0, rows, step):
        window = matrix[top : top + step]
        row_window = None if row_squares is None else row_squares[top : top + step]
        add_squares(kind, window, row_window, column_squares)
        codes = codes_of(kind, window, facts).reshape(-1)
        for start in range(0, codes.size, WINDOW):
            tables[0] += np.bincount(codes[start : start + WINDOW], minlength=CODES).astype(np.uint32)


def drain(tables: Counts, codes: npt.NDArray[np.uint16], tallies: npt.NDArray[np.int64]) -> int:
    """Move the counts out of the tables, in order of code, and return how many codes occurred."""
    total = tables.sum(axis=0, dtype=np.int64)
    occurring = np.flatnonzero(total)
    codes[: occurring.size] = occurring
    tallies[: occurring.size] = total[occurring]
    tables[:] = 0
    return occurring.size


def fold(tables: Counts, cells: npt.NDArray[np.int64]) -> None:
    """Give the counts in the tables by cell: four neighbouring magnitudes, signs folded."""
    cells[:] = tables.reshape(-1, CELLS, CELL_CODES).sum(axis=(0, 2), dtype=np.int64)


def fold_signs(
    codes: npt.NDArray[np.uint16],
    tallies: npt.NDArray[np.int64],
    not_finite: int,
    magnitudes: npt.NDArray[np.int64],
    merged: npt.NDArray[np.int64],
) -> int:
    """Count the finite non-zero codes, which rise, without their signs, and return how many magnitudes there are."""
    unsigned = codes & np.uint16(CODES // 2 - 1)
    usable = (unsigned > 0) & (unsigned < not_finite)
    folded = np.bincount(unsigned[usable], weights=tallies[usable])  # float64 counts exactly up to 2**53
    occurring = np.flatnonzero(folded)
    magnitudes[: occurring.size] = occurring
    merged[: occurring.size] = folded[occurring]
    return occurring.size


def count_blocks(
    kind: int,
    stored: npt.NDArray[np.generic],
    rows: int,
    columns: int,
    edges: npt.NDArray[np.int64],
    tables: Counts,  # noqa: ARG001 - the compiled kernel counts here; sorting needs no table
    codes: npt.NDArray[np.uint16],
    tallies: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    row_squares: Sums | None,
    column_squares: Sums | None,
    facts: Facts,
) -> int:
    """Count a small layer whole.

    The cells of each row block (their first codes, and tallies) follow one another, `ends[b]` after block b; after the
    blocks come the codes of the whole layer, up to the index returned. Both arrays have room for twice the number of
    weights.
    """
    matrix = as_matrix(kind, stored, rows, columns)
    add_squares(kind, matrix, row_squares, column_squares)
    block = np.repeat(np.arange(ends.size, dtype=np.uint32), np.diff(edges))
    of_weights = codes_of(kind, matrix, facts)
    cells = of_weights & np.uint16(CODES // 2 - CELL_CODES)  # without the sign and the place in the cell
    keys, tally = np.unique((block[:, np.newaxis] << np.uint32(16)) | cells, return_counts=True)
    whole, whole_tally = np.unique(of_weights, return_counts=True)
    length = int(keys.size + whole.size)
    codes[:length] = np.concatenate([keys & np.uint32(0xFFFF), whole])
    tallies[:length] = np.concatenate([tally, whole_tally])
    ends[:] = np.searchsorted(keys, np.arange(1, ends.size + 1, dtype=np.uint64) << np.uint64(16))
    return length


def widened(kind: int, stored: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Give the weights as float64; none is rounded."""
    if kind == BF16:
        codes = np.frombuffer(stored, KINDS[BF16])
        return np.left_shift(codes, 16, dtype=np.uint32).view(np.float32).astype(np.float64)
    return np.frombuffer(stored, np.float64 if kind == F64 else KINDS[kind]).astype(np.float64)


def pair(
    kind_a: int,
    a: npt.NDArray[np.generic],
    kind_b: int,
    b: npt.NDArray[np.generic],
    first: int,
    pairing: npt.NDArray[np.void],
) -> None:
    """Add how the weights of `b` differ from those of `a`, one by one; the first is weight `first`.

    `pairing` is one PAIRING record.
    """
    if kind_a != kind_b or not np.array_equal(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)):
        pairing["other_bytes"] = 1
    with np.errstate(invalid="ignore", over="ignore"):  # a signalling NaN is invalid, float64 may overflow
        of_a, of_b = widened(kind_a, a), widened(kind_b, b)
        finite_a, finite_b = np.isfinite(of_a), np.isfinite(of_b)
        pairing["not_finite"] += np.count_nonzero(finite_a != finite_b)
        pairing["changed"] += np.count_nonzero((of_a != of_b) & ~(np.isnan(of_a) & np.isnan(of_b)))
        usable = finite_a & finite_b
        of_a[~usable] = of_b[~usable] = 0
        change = of_b - of_a
        for name, left, right in (
            ("squares_a", of_a, of_a),
            ("squares_b", of_b, of_b),
            ("squares_of_change", change, change),
            ("products", of_a, of_b),
        ):
            pairing[name] += (left * right).sum()
    magnitude = np.minimum(np.abs(change), np.finfo(np.float64).max)
    largest = magnitude.max(initial=0)
    if largest > pairing["largest"]:
        pairing["largest"] = largest
        pairing["largest_at"] = first + int(magnitude.argmax())
