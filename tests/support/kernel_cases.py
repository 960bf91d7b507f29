"""Inputs on which the two kernels must agree; as a program, the check of one compiled kernel against the NumPy one.

`python kernel_cases.py KERNEL` is run with a kernel that was built with sanitisers.
"""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch import _kernel_numpy
from jaynes_audit.analyzers.sketch.extent import Extent

CODES = 65536
KIND_DTYPES = (np.dtype("<u2"), np.dtype("<u2"), np.dtype("<u4"))
"""The patterns of each kind of weight, as integers."""

FIRST_NOT_FINITE = (0x7F80, 0x7C00, 0x7F80)
SIGN_BITS = (0x8000, 0x8000, 0x80000000)
MAGNITUDES = (
    # zero, smallest and largest subnormal, smallest normal, 1, the greatest, infinity, NaNs
    (0, 1, 0x007F, 0x0080, 0x3F80, 0x7F7F, 0x7F80, 0x7F81, 0x7FC0, 0x7FFF),
    (0, 1, 0x03FF, 0x0400, 0x3C00, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7FFF),
    (
        *(0, 1, 0xFFFF, 0x10000, 0x10001, 0x007FFFFF, 0x00800000, 0x3F800000, 0x3F800001, 0x7F7FFFFE, 0x7F7FFFFF),
        *(0x7F800000, 0x7F800001, 0x7F80FFFF, 0x7F810000, 0x7FC00000, 0x7FFFFFFF),
    ),
)
SPECIALS = tuple(
    tuple(magnitude | sign for magnitude in magnitudes for sign in (0, sign_bit))
    for magnitudes, sign_bit in zip(MAGNITUDES, SIGN_BITS, strict=True)
)
"""Patterns of each kind at which something changes."""

ROWS = (0, 1, 2, 8, 9, 17)
COLUMNS = (0, 1, 15, 16, 17, 2047, 2048, 2049, 4097)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A matrix of stored weights, and how a kernel is given it."""

    kind: int
    patterns: npt.NDArray[np.integer[Any]]
    offset: int
    scaled: bool

    @property
    def stored(self) -> memoryview:
        """The bytes, at an address that is a multiple of nothing."""
        return memoryview(bytearray(self.offset) + bytearray(self.patterns.tobytes()))[self.offset :]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a kernel made of a case."""

    exact: tuple[object, ...]
    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]


def seeded_cases() -> Iterator[Case]:
    """Every kind, height and width, aligned and not, of special and of random patterns."""
    rng = np.random.default_rng(20)
    for number, (kind, rows, columns) in enumerate(product(range(3), ROWS, COLUMNS)):
        dtype = KIND_DTYPES[kind]
        patterns = rng.integers(0, np.iinfo(dtype).max, (rows, columns), dtype, endpoint=True)
        special = rng.random((rows, columns)) < 0.5
        patterns[special] = rng.choice(np.array(SPECIALS[kind], dtype), np.count_nonzero(special))
        yield Case(kind=kind, patterns=patterns, offset=number % 2, scaled=number % 5 > 0)


def sums_for(case: Case) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rows, columns = case.patterns.shape
    return np.zeros(rows), np.zeros(columns)


def facts_of(facts: npt.NDArray[np.void]) -> tuple[int, ...]:
    return tuple(int(facts[name]) for name in ("largest", "low_bits", "max_finite"))


def counted(kernel: ModuleType, case: Case) -> Result:
    """Count a case with `count` and take the counts out with `drain`."""
    tables = np.zeros((2, CODES), np.uint32)
    codes, tallies = np.empty(CODES, np.uint16), np.empty(CODES, np.int64)
    facts = np.zeros((), _kernel_numpy.FACTS)
    rows, columns = sums_for(case)
    sums = (rows, columns) if case.scaled else (None, None)
    kernel.count(case.kind, case.stored, *case.patterns.shape, tables, *sums, facts)
    cells = np.empty(_kernel_numpy.CELLS, np.int64)
    kernel.fold(tables, cells)
    found = kernel.drain(tables, codes, tallies)
    magnitudes, merged = np.empty(found, np.int64), np.empty(found, np.int64)
    folded = kernel.fold_signs(codes[:found], tallies[:found], FIRST_NOT_FINITE[case.kind], magnitudes, merged)
    exact = (
        *(codes[:found].tolist(), tallies[:found].tolist(), facts_of(facts), int(tables.sum()), cells.tolist()),
        *(magnitudes[:folded].tolist(), merged[:folded].tolist()),
    )
    return Result(exact=exact, rows=rows, columns=columns)


def counted_in_blocks(kernel: ModuleType, case: Case) -> Result:
    """Count a case with `count_blocks`."""
    height, width = case.patterns.shape
    edges = Extent(rows=height, columns=width, dtype=Dtype.BF16, scaled=True).block_edges
    tables = np.zeros((2, CODES), np.uint32)
    codes, tallies = np.empty(2 * case.patterns.size, np.uint16), np.empty(2 * case.patterns.size, np.int64)
    ends, facts = np.empty(edges.size - 1, np.int64), np.zeros((), _kernel_numpy.FACTS)
    rows, columns = sums_for(case)
    sums = (rows, columns) if case.scaled else (None, None)
    length = kernel.count_blocks(
        case.kind, case.stored, height, width, edges, tables, codes, tallies, ends, *sums, facts
    )
    exact = (codes[:length].tolist(), tallies[:length].tolist(), ends.tolist(), facts_of(facts), int(tables.sum()))
    return Result(exact=exact, rows=rows, columns=columns)


def assert_alike(left: Result, right: Result) -> None:
    """Equal counts and facts, and sums that differ by rounding alone."""
    assert left.exact == right.exact
    np.testing.assert_allclose(left.rows, right.rows, rtol=1e-12, atol=0)
    np.testing.assert_allclose(left.columns, right.columns, rtol=1e-12, atol=0)


def check(kernel: ModuleType, case: Case) -> None:
    """Hold a kernel to the NumPy one."""
    assert_alike(counted(kernel, case), counted(_kernel_numpy, case))
    assert_alike(counted_in_blocks(kernel, case), counted_in_blocks(_kernel_numpy, case))


PAIRED_DTYPES = (*KIND_DTYPES, np.dtype("<u8"))
PAIRED_SPECIALS = (
    *SPECIALS,
    # zero, smallest subnormal, 1, numbers whose squares or differences overflow, the greatest, infinity, NaNs
    tuple(
        magnitude | sign
        for magnitude in (
            *(0, 1, 0x3FF0000000000000, 0x5FF0000000000000, 0x7FE0000000000000, 0x7FEFFFFFFFFFFFFF),
            *(0x7FF0000000000000, 0x7FF0000000000001, 0x7FF8000000000000, 0x7FFFFFFFFFFFFFFF),
        )
        for sign in (0, 1 << 63)
    ),
)
PAIRED_LENGTHS = (0, 1, 2, 31, 32, 33, 1023, 1024, 1025, 3100)


@dataclass(frozen=True, slots=True, eq=False)
class PairCase:
    """Two chunks of equally many stored weights, and the number of the first."""

    kind_a: int
    a: memoryview
    kind_b: int
    b: memoryview
    first: int


def pair_cases() -> Iterator[PairCase]:
    """Every two kinds and every length, aligned and not, from tame numbers to nothing but special ones."""
    rng = np.random.default_rng(21)
    kinds = range(len(PAIRED_DTYPES))
    for number, (kind_a, kind_b, weights) in enumerate(product(kinds, kinds, PAIRED_LENGTHS)):
        share_of_special = (0.0, 0.001, 0.5, 1.0)[number % 4]
        stored = [bytearray(number % 2) + _patterns(rng, kind, weights, share_of_special) for kind in (kind_a, kind_b)]
        if kind_a == kind_b and number % 3:  # the same but for a few, or the same
            stored[1][:] = stored[0]
            for at in rng.integers(number % 2, max(number % 2 + 1, len(stored[1])), 4) if number % 3 == 1 else ():
                stored[1][at : at + 1] = b"\x11"[: len(stored[1]) - at]
        a, b = (memoryview(each)[number % 2 :] for each in stored)
        yield PairCase(kind_a, a, kind_b, b, first=number)


def _patterns(rng: np.random.Generator, kind: int, weights: int, share_of_special: float) -> bytearray:
    dtype = PAIRED_DTYPES[kind]
    tame = rng.standard_normal(weights)
    if kind == _kernel_numpy.BF16:
        patterns = (tame.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    else:
        patterns = tame.astype((np.float16, np.float16, np.float32, np.float64)[kind]).view(dtype)
    special = rng.random(weights) < share_of_special
    patterns[special] = rng.choice(np.array(PAIRED_SPECIALS[kind], dtype), np.count_nonzero(special))
    return bytearray(patterns.tobytes())


def check_pair(kernel: ModuleType, case: PairCase) -> None:
    """Hold a kernel to the NumPy one: equal counts and places, sums that differ by rounding alone."""
    results = []
    for each in (kernel, _kernel_numpy):
        pairing = np.zeros((), _kernel_numpy.PAIRING)
        for _ in range(2):  # what is there already is added to
            each.pair(case.kind_a, case.a, case.kind_b, case.b, case.first, pairing)
        results.append(pairing)
    names = _kernel_numpy.PAIRING.names or ()
    for name in names:
        left, right = (float(result[name]) for result in results)
        if name != "products":
            np.testing.assert_allclose(left, right, rtol=1e-12 if name.startswith("squares") else 0, err_msg=name)
    scale = float(np.sqrt(results[1]["squares_a"]) * np.sqrt(results[1]["squares_b"]))
    if np.isfinite(scale):
        np.testing.assert_allclose(results[0]["products"], results[1]["products"], rtol=0, atol=1e-12 * scale)


def misuses() -> Iterator[tuple[str, str, tuple[object, ...]]]:
    """Calls with sizes that do not fit together: what is wrong, the function, its arguments."""
    weights = np.zeros((2, 3), np.uint16)
    sound: dict[str, object] = {
        "kind": 0,
        "stored": weights,
        "rows": 2,
        "columns": 3,
        "tables": np.zeros((2, CODES), np.uint32),
        "row_squares": np.zeros(2),
        "column_squares": np.zeros(3),
        "facts": np.zeros((), _kernel_numpy.FACTS),
    }
    more: dict[str, object] = {
        "edges": np.array([0, 1, 2]),
        "codes": np.empty(12, np.uint16),
        "tallies": np.empty(12, np.int64),
        "ends": np.empty(2, np.int64),
    }
    wrong: tuple[tuple[str, object], ...] = (
        ("kind", -1),
        ("kind", 3),
        ("stored", b""),
        ("stored", b"x" * 11),
        ("stored", b"x" * 13),
        ("rows", -2),
        ("rows", 3),
        ("rows", sys.maxsize),
        ("columns", 0),
        ("columns", -3),
        ("columns", sys.maxsize),
        ("tables", np.zeros(CODES, np.uint32)),
        ("row_squares", np.zeros(1)),
        ("row_squares", np.zeros(3)),
        ("column_squares", np.zeros(2)),
        ("facts", np.zeros(3, np.uint8)),
    )
    for name, value in wrong:
        arguments = {**sound, name: value}
        yield f"{name}={type(value).__name__} {np.size(value)}", "count", tuple(arguments.values())
    wrong_of_blocks: tuple[tuple[str, object], ...] = (
        *wrong,
        ("edges", np.array([], np.int64)),
        ("edges", np.array([0])),
        ("edges", np.array([0, 1, 3])),
        ("edges", np.array([1, 1, 2])),
        ("edges", np.array([0, 2, 1, 2])),
        ("edges", np.array([0, -1, 2])),
        ("codes", np.empty(11, np.uint16)),
        ("tallies", np.empty(11, np.int64)),
        ("ends", np.empty(1, np.int64)),
    )
    for name, value in wrong_of_blocks:
        arguments = {**sound, **more, name: value}
        order = ("kind", "stored", "rows", "columns", "edges", "tables", "codes", "tallies", "ends")
        last = ("row_squares", "column_squares", "facts")
        yield (
            f"{name}={type(value).__name__} {np.size(value)}",
            "count_blocks",
            tuple(arguments[key] for key in (*order, *last)),
        )
    for rows, columns in ((2**61, 0), (0, 2**61)):
        yield (
            f"{rows} x {columns}",
            "count",
            (0, b"", rows, columns, sound["tables"], np.zeros(0), np.zeros(0), sound["facts"]),
        )
    full = (np.zeros((2, CODES), np.uint32), np.empty(CODES, np.uint16), np.empty(CODES, np.int64))
    for place in range(3):
        short = tuple(each if index != place else each.reshape(-1)[:-1] for index, each in enumerate(full))
        yield f"buffer {place} too short", "drain", short
    cells = np.empty(_kernel_numpy.CELLS, np.int64)
    entries = (np.zeros(3, np.uint16), np.zeros(3, np.int64), 0x7F80, np.zeros(3, np.int64), np.zeros(3, np.int64))
    for place in (1, 3, 4):
        short = tuple(each[:-1] if index == place else each for index, each in enumerate(entries))
        yield f"buffer {place} too short", "fold_signs", short
    for not_finite in (-1, 0, 0x8001):
        yield "no such magnitude", "fold_signs", (*entries[:2], not_finite, *entries[3:])
    pairing, four = np.zeros((), _kernel_numpy.PAIRING), np.zeros(4, np.uint16)
    for what, call in {
        "kind": (-1, four, 0, four, 0, pairing),
        "other kind": (0, four, 4, four, 0, pairing),
        "unlike lengths": (0, four, 0, four[:3], 0, pairing),
        "unlike kinds": (0, four, 2, four, 0, pairing),
        "half a weight": (0, four.tobytes()[:3], 0, four.tobytes()[:3], 0, pairing),
        "negative place": (0, four, 0, four, -1, pairing),
        "place out of reach": (0, four, 0, four, sys.maxsize, pairing),
        "short record": (0, four, 0, four, 0, np.zeros(8)),
    }.items():
        yield what, "pair", call
    yield "tables too short", "fold", (full[0][0], cells)
    yield "cells too short", "fold", (full[0], cells[:-1])


def check_misuses(kernel: ModuleType) -> None:
    for what, function, arguments in misuses():
        try:
            getattr(kernel, function)(*arguments)
        except ValueError:
            continue
        message = f"{function} accepted {what}"
        raise AssertionError(message)


def main(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("_kernel", path)
    assert spec is not None
    assert spec.loader is not None
    kernel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernel)
    done = 0
    for case in seeded_cases():
        check(kernel, case)
        done += 1
    for pair in pair_cases():
        check_pair(kernel, pair)
        done += 1
    check_misuses(kernel)
    sys.stdout.write(f"{done} cases agree\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
