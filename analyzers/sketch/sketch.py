"""Sketch: everything the audit keeps of a layer's weights from one pass over them, in whatever pieces."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import local
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from jaynes_audit.analyzers.dtypes import SMALL_FLOATS, Dtype, bf16_codes
from jaynes_audit.analyzers.sketch import _kernel_numpy
from jaynes_audit.analyzers.sketch._kernel_numpy import CELL_CODES, CELLS
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.histogram import CODES, Histogram
from jaynes_audit.analyzers.sketch.kernel import KERNEL

SMALL_LAYER = (
    CODES // 2
)  # weights up to which a layer is counted in one call, its blocks' codes sorted instead of tabled
CONTENT_BITS = 128
TABLE_LIMIT = (1 << 32) - 1  # the kernel's counters have 32 bits and are emptied before they can run over
NO_SUMS = (None, None)
NO_CELLS = np.zeros(CELLS, np.int64)
NO_CELLS.flags.writeable = False
LARGEST_FLOAT32 = np.finfo(np.float32).max
LARGEST_FLOAT64 = np.finfo(np.float64).max
SMALLEST_FLOAT32 = np.finfo(np.float32).smallest_subnormal


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BlockCounts:
    """Counts by row block, for the spread between blocks: block b has entries `ends[b-1]:ends[b]`.

    An entry is a cell of four neighbouring magnitudes, signs folded, named by its first code.
    """

    codes: npt.NDArray[np.uint16]
    tallies: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def of_block(self, block: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
        """Give one block's cells and tallies."""
        entries = slice(int(self.ends[block - 1]) if block else 0, int(self.ends[block]))
        return self.codes[entries], self.tallies[entries]

    @staticmethod
    def of_runs(blocks: int, runs: Iterable["Run"]) -> "BlockCounts":
        """Gather runs of counts, each of one block, in any order and any number to a block."""
        of_block: list[list[Run]] = [[] for _ in range(blocks)]
        for run in runs:
            of_block[run.block].append(run)
        whole_blocks = [merged(runs) for runs in of_block]
        return BlockCounts(
            codes=np.concatenate([codes for codes, _ in whole_blocks]),
            tallies=np.concatenate([tallies for _, tallies in whole_blocks]),
            ends=np.cumsum([codes.size for codes, _ in whole_blocks]),
        )

    def __add__(self, other: "BlockCounts") -> "BlockCounts":
        """Count both parts of the same blocks together."""
        blocks = self.ends.size
        return BlockCounts.of_runs(
            blocks, (Run(block, *part.of_block(block)) for part in (self, other) for block in range(blocks))
        )


class Run(NamedTuple):
    """Counts of codes within one row block, codes rising."""

    block: int
    codes: npt.NDArray[np.uint16]
    tallies: npt.NDArray[np.int64]


CodeTallies = tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]


def merged(runs: Iterable[Run]) -> CodeTallies:
    """Count the weights of several runs together, codes rising."""
    runs = [run for run in runs if run.codes.size]
    if not runs:
        return np.empty(0, np.uint16), np.empty(0, np.int64)
    if len(runs) == 1:
        return runs[0].codes, runs[0].tallies
    total = np.zeros(CODES, np.int64)
    for run in runs:
        total[run.codes] += run.tallies
    codes = np.flatnonzero(total)
    return codes.astype(np.uint16), total[codes]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sketch:
    """An exact, mergeable summary of a layer, from 16-bit counts that later steps never need to look behind.

    - `histogram`: weights per 16-bit code, and `counts` the same by row block. Of bf16, fp16 and smaller formats
      nothing is lost but the order. Of a float32 the upper half is kept: mu and sigma from it are within 1e-5 of the
      exact ones for sigma >= 0.1.
    - `row_squares`, `column_squares` (float64): sums of squares of the finite weights, empty unless `extent.scaled`.
    - `largest`: the greatest finite magnitude, exact (of float64: rounded to float32, and at most its greatest).
      `max_finite`: how many weights have the greatest finite magnitude of the stored format.
    - `content`: 128 bits that equal layers share and, by chance alone, no two others do (XXH3 of each chunk, keyed by
      its place, summed). It guards against mistakes, not against an adversary.
    - `code_tallies`: how many weights have each code of the quantiser that they were made from; empty for weights that
      are stored as they are.

    `a + b` is the sketch of the weights of both: counts, hashes and extremes are integers, so the sum is exact and the
    order does not matter; sums of squares are float64 and agree to rounding.
    """

    extent: Extent
    counts: BlockCounts
    histogram: Histogram
    row_squares: npt.NDArray[np.float64]
    column_squares: npt.NDArray[np.float64]
    largest_bits: int
    at_largest_float: int
    content: int
    code_tallies: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @staticmethod
    def empty(extent: Extent) -> "Sketch":
        """Give the sketch of no weight yet: adding it changes nothing."""
        return _Tally(extent).sketch()

    def __add__(self, other: "Sketch") -> "Sketch":
        """Summarise the weights of both parts of one layer.

        Raises ValueError when the two are not parts of a layer of the same extent.
        """
        if self.extent != other.extent:
            message = f"parts of unlike layers cannot be merged: {self.extent} and {other.extent}"
            raise ValueError(message)
        return Sketch(
            extent=self.extent,
            counts=self.counts + other.counts,
            histogram=self.histogram + other.histogram,
            row_squares=self.row_squares + other.row_squares,
            column_squares=self.column_squares + other.column_squares,
            largest_bits=max(self.largest_bits, other.largest_bits),
            at_largest_float=self.at_largest_float + other.at_largest_float,
            content=(self.content + other.content) % (1 << CONTENT_BITS),
            code_tallies=_sum(self.code_tallies, other.code_tallies),
        )

    @property
    def max_finite(self) -> int:
        """How many weights are exactly plus or minus the greatest finite number of their format."""
        return self.at_largest_float if self._float32 else self.histogram.special.at_largest_code

    @property
    def largest(self) -> float:
        """The greatest finite magnitude; 0.0 where all are zero or not finite."""
        if self._float32:
            return float(np.uint32(self.largest_bits).view(np.float32))
        codes = self.histogram.magnitudes.codes
        return float(self.histogram.grid.value[codes[-1]]) if codes.size else 0.0

    @property
    def _float32(self) -> bool:
        return self.extent.dtype in {Dtype.F32, Dtype.F64}


def _sum(some: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return some + others if some.size == others.size else some if some.size else others


def sketch(chunks: Iterable[npt.NDArray[np.generic]], extent: Extent, *, first_row: int = 0) -> Sketch:
    """Reduce consecutive chunks of a layer to their sketch.

    Each chunk is an array of stored codes of shape (k, extent.columns) with k = extent.chunk_rows, the layer's last
    one excepted. `first_row` is a multiple of it: the row of the layer that the first chunk begins with.
    """
    tally = _Tally(extent, first_row=first_row)
    try:
        for chunk in chunks:
            tally.add(chunk)
        return tally.sketch()
    finally:
        tally.close()


class _Scratch(local):
    """Counting tables of one thread, all zero between layers: 46,000 small layers then clear no table."""

    def __init__(self) -> None:
        self.tables = np.zeros((2, CODES), np.uint32)
        self.codes = np.empty(CODES, np.uint16)
        self.tallies = np.empty(CODES, np.int64)
        self.cells = np.empty(CELLS, np.int64)


_SCRATCH = _Scratch()


class _Tally:
    """A sketch in the making."""

    def __init__(self, extent: Extent, *, first_row: int = 0) -> None:
        self.extent = extent
        self.row = first_row
        self.edges = extent.block_edges
        self.block = int(np.searchsorted(self.edges, first_row, side="right")) - 1
        self.content = 0
        self.in_tables = 0
        self.facts = np.zeros((), _kernel_numpy.FACTS)
        self.at_largest_float64 = 0
        self.row_squares = np.zeros(extent.rows if extent.scaled else 0)
        self.column_squares = np.zeros(extent.columns if extent.scaled else 0)
        self.cells = NO_CELLS  # of what is in the tables, as it was when the block began
        self.block_runs: list[Run] = []
        self.drained: list[Run] = []
        self.whole: tuple[BlockCounts, CodeTallies] | None = None

    def add(self, chunk: npt.NDArray[np.generic]) -> None:
        """Count one chunk."""
        chunk_number = self.row // self.extent.chunk_rows
        self.content += xxhash.xxh3_128_intdigest(chunk.data, seed=chunk_number)
        kind, weights = _weights(chunk, self.extent.dtype)
        if self.extent.dtype is Dtype.F64:
            self.at_largest_float64 += int(np.count_nonzero(np.abs(chunk) == LARGEST_FLOAT64))
        if chunk.shape[0] == self.extent.rows and self.extent.weights <= SMALL_LAYER:
            self._count_whole(kind, weights)
            return
        start = 0
        while start < chunk.shape[0]:
            stop = min(chunk.shape[0], start + int(self.edges[self.block + 1]) - self.row)
            self._count(kind, weights[start:stop])
            start = stop

    def _count(self, kind: int, weights: npt.NDArray[np.generic]) -> None:
        rows = weights.shape[0]
        if self.in_tables + weights.size > TABLE_LIMIT:
            self._drain()
        squares = (self.row_squares[self.row : self.row + rows], self.column_squares) if self.extent.scaled else NO_SUMS
        # A layer without rows and columns is one long row to the kernel.
        height, width = weights.shape if self.extent.scaled else (1, weights.size)
        self.in_tables += weights.size  # before they are, so that an interrupted count is cleared away too
        KERNEL.count(kind, weights, height, width, _SCRATCH.tables, *squares, self.facts)
        self.row += rows
        if self.row == self.edges[self.block + 1]:
            self._end_block()
            self.block += 1

    def _end_block(self) -> None:
        """Count the block's cells: those in the tables now, less those that were there when it began."""
        KERNEL.fold(_SCRATCH.tables, _SCRATCH.cells)
        grown = _SCRATCH.cells - self.cells
        [occurring] = grown.nonzero()
        self.block_runs.append(Run(self.block, (occurring * CELL_CODES).astype(np.uint16), grown[occurring]))
        self.cells = _SCRATCH.cells.copy()

    def _drain(self) -> None:
        if self.in_tables:
            if self.row < self.edges[-1]:
                self._end_block()
            found = KERNEL.drain(_SCRATCH.tables, _SCRATCH.codes, _SCRATCH.tallies)
            self.drained.append(Run(self.block, _SCRATCH.codes[:found].copy(), _SCRATCH.tallies[:found].copy()))
            self.cells = NO_CELLS
            self.in_tables = 0

    def _count_whole(self, kind: int, weights: npt.NDArray[np.generic]) -> None:
        ends = np.empty(self.edges.size - 1, np.int64)
        squares = (self.row_squares, self.column_squares) if self.extent.scaled else NO_SUMS
        codes, tallies = _SCRATCH.codes[: 2 * weights.size], _SCRATCH.tallies[: 2 * weights.size]
        length = KERNEL.count_blocks(
            kind, weights, *weights.shape, self.edges, _SCRATCH.tables, codes, tallies, ends, *squares, self.facts
        )
        codes, tallies, in_blocks = codes[:length].copy(), tallies[:length].copy(), int(ends[-1])
        self.whole = (
            BlockCounts(codes=codes[:in_blocks], tallies=tallies[:in_blocks], ends=ends),
            (codes[in_blocks:], tallies[in_blocks:]),
        )

    def sketch(self) -> Sketch:
        """Give what was counted so far."""
        self._drain()
        counts = BlockCounts.of_runs(self.edges.size - 1, self.block_runs) if self.whole is None else self.whole[0]
        codes, tallies = merged(self.drained) if self.whole is None else self.whole[1]
        wide = self.extent.dtype is Dtype.F64
        return Sketch(
            extent=self.extent,
            counts=counts,
            histogram=Histogram(
                dtype=self.extent.dtype, low_bits=int(self.facts["low_bits"]), codes=codes, tallies=tallies
            ),
            row_squares=self.row_squares,
            column_squares=self.column_squares,
            largest_bits=int(self.facts["largest"]),
            at_largest_float=self.at_largest_float64 if wide else int(self.facts["max_finite"]),
            content=self.content % (1 << CONTENT_BITS),
        )

    def close(self) -> None:
        """Leave the thread's tables empty, whatever interrupted the count."""
        if self.in_tables:
            _SCRATCH.tables[:] = 0


def _weights(chunk: npt.NDArray[np.generic], dtype: Dtype) -> tuple[int, npt.NDArray[np.generic]]:
    """Give the kernel's kind for stored codes and the array that it reads."""
    if dtype is Dtype.BF16:
        return _kernel_numpy.BF16, chunk
    if dtype in SMALL_FLOATS:
        return _kernel_numpy.BF16, bf16_codes(dtype)[chunk]
    if dtype is Dtype.F16:
        return _kernel_numpy.F16, chunk
    if dtype is Dtype.F64:
        return _kernel_numpy.F32, narrowed(chunk.astype(np.float64, copy=False))
    return _kernel_numpy.F32, chunk


def narrowed(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round float64 weights to float32 so that finite stays finite and non-zero stays non-zero.

    What float32 cannot reach becomes its greatest or smallest number: the counts of zeros, NaNs and infinities of
    float64 weights stay exact.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # a signalling NaN is invalid
        narrow = weights.astype(np.float32)
    beyond = np.isinf(narrow) & np.isfinite(weights)
    narrow[beyond] = np.copysign(LARGEST_FLOAT32, weights[beyond])
    vanished = (narrow == 0) & (weights != 0)
    narrow[vanished] = np.copysign(SMALLEST_FLOAT32, weights[vanished])
    return narrow
