"""Counts of codes <-> a few kilobytes, without loss.

Neighbouring codes have nearly the same tally, and so have a magnitude's two signs. So what is stored is the difference
from the tally of the magnitude before, and that of the positive weights from half of both: small numbers, that differ
by chance alone. docs/archive.md has the layout.
"""

import lzma
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.grid import LOW_BITS, MAGNITUDES, SIGN_BIT, Grid, grid_of
from jaynes_audit.analyzers.sketch.histogram import Histogram, Magnitudes

Integers = npt.NDArray[np.int64]

HEAD = struct.Struct("<HHBB")  # first magnitude, last magnitude, bytes of a number, coding
NUMBER_BYTES = 8
DEFLATE, LZMA = 0, 1

# LZMA2 saves an eighth against deflate and takes three times as long: a millisecond and a half for a large layer, which
# is read in as much. Of a small layer it would be most of the time.
LZMA_FROM_WEIGHTS = 1 << 16
LZMA2: Sequence[Mapping[str, int]] = [
    {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 16, "lc": 0, "lp": 0, "pb": 0}
]


def packed_histogram(histogram: Histogram, *, lzma_from_weights: int = LZMA_FROM_WEIGHTS) -> bytes:
    """Pack the counts of codes. A million Gaussian weights take 2.8 kB in bf16 and in float32, 13 kB in fp16.

    Layers of fewer weights than `lzma_from_weights` are packed in less time and up to an eighth less tightly.
    """
    magnitudes = (histogram.codes & (SIGN_BIT - 1)).astype(np.int64)
    first, last = int(magnitudes.min()), int(magnitudes.max())
    signs = np.zeros((2, last + 1 - first), np.int64)
    signs[histogram.codes // SIGN_BIT, magnitudes - first] = histogram.tallies
    both = signs.sum(axis=0)
    arrays = [_steps(both), signs[0] - both // 2]
    return _packed(first, arrays, weights=int(both.sum()), lzma_from_weights=lzma_from_weights)


def histogram_from(packed: bytes, *, dtype: Dtype, low_bits: int) -> Histogram:
    """Give back the counts that were packed. Raises ValueError when these bytes pack none."""
    first, (steps, excess) = _unpacked(packed, arrays=2)
    both = np.cumsum(steps)
    positive = both // 2 + excess
    codes, tallies = _occurring(np.stack([positive, both - positive]), first)
    histogram = Histogram(dtype=dtype, low_bits=low_bits, codes=codes.astype(np.uint16), tallies=tallies)
    _refuse_impossible(histogram.grid, histogram.magnitudes.codes)
    return histogram


def packed_magnitudes(magnitudes: Magnitudes) -> bytes:
    """Pack the counts of magnitudes, at least one."""
    first, last = int(magnitudes.codes[0]), int(magnitudes.codes[-1])
    tallies = np.zeros(last + 1 - first, np.int64)
    tallies[magnitudes.codes - first] = magnitudes.tallies
    return _packed(first, [_steps(tallies)], weights=magnitudes.weights)


def magnitudes_from(packed: bytes, grid: Grid) -> Magnitudes:
    """Give back the magnitudes that were packed. Raises ValueError when these bytes pack none of this grid."""
    first, steps = _unpacked(packed, arrays=1)
    codes, tallies = _occurring(np.cumsum(steps, axis=1), first)
    _refuse_impossible(grid, codes)
    return Magnitudes(grid=grid, codes=codes, tallies=tallies)


def residual_grid(used_low_bits: int) -> Grid:
    """Give the grid on which a residual is counted: float32 weights with so many of their 16 low bits in use."""
    return grid_of(Dtype.F32, 1 << (LOW_BITS - used_low_bits))


def used_low_bits_of(grid: Grid) -> int:
    """Say which grid of a residual this is. Nearly all are on that of all bits."""
    return next(used for used in range(LOW_BITS, -1, -1) if residual_grid(used) is grid)


def _steps(tallies: Integers) -> Integers:
    return np.diff(tallies, prepend=0)


def _packed(
    first: int, arrays: Sequence[Integers], *, weights: int, lzma_from_weights: int = LZMA_FROM_WEIGHTS
) -> bytes:
    numbers = np.concatenate(arrays)
    unsigned = ((numbers << 1) ^ (numbers >> 63)).astype("<u8")  # 0, -1, 1, -2 ... become 0, 1, 2, 3 ...
    width = max(1, -(-int(unsigned.max()).bit_length() // 8))
    planes = unsigned.view(np.uint8).reshape(-1, NUMBER_BYTES)[:, :width].T.tobytes()
    coding = LZMA if weights >= lzma_from_weights else DEFLATE
    return HEAD.pack(first, first + arrays[0].size - 1, width, coding) + _compressed(planes, coding)


def _compressed(plain: bytes, coding: int) -> bytes:
    if coding == LZMA:
        return lzma.compress(plain, lzma.FORMAT_RAW, filters=LZMA2)
    # Numbers of no pattern are the faster packed, and hardly the larger, without a search for one.
    deflate = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return deflate.compress(plain) + deflate.flush()


def _unpacked(packed: bytes, *, arrays: int) -> tuple[int, Integers]:
    """The first magnitude, and the numbers of the magnitudes from there on, an array to a row."""
    if len(packed) < HEAD.size:
        raise ValueError("counts that are cut off")
    first, last, width, coding = HEAD.unpack_from(packed)
    if not (first <= last < MAGNITUDES and 1 <= width <= NUMBER_BYTES and coding in {DEFLATE, LZMA}):
        raise ValueError("no counts")
    length = (last + 1 - first) * arrays
    planes = _plain(packed[HEAD.size :], coding, length * width)
    unsigned = np.zeros((length, NUMBER_BYTES), np.uint8)
    unsigned[:, :width] = np.frombuffer(planes, np.uint8).reshape(width, length).T
    numbers = unsigned.view("<u8")
    halves, odd = (numbers >> np.uint64(1)).astype(np.int64), (numbers & np.uint64(1)).astype(np.int64)
    return first, (halves ^ -odd).reshape(arrays, -1)


def _plain(compressed: bytes, coding: int, length: int) -> bytes:
    try:
        if coding == LZMA:
            expanding = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA2)
            plain = expanding.decompress(compressed, max_length=length + 1)
            whole = expanding.eof and not expanding.unused_data
        else:
            inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            plain = inflate.decompress(compressed, length + 1)
            whole = inflate.eof and not inflate.unused_data
    except (lzma.LZMAError, zlib.error) as error:
        raise ValueError("counts that do not unpack") from error
    if len(plain) != length or not whole:
        raise ValueError("more or fewer counts than it says")
    return plain


def _occurring(tallies: Integers, first: int) -> tuple[Integers, Integers]:
    """The codes that occur and their tallies, given those of the signs, a sign to a row, from a first magnitude on."""
    signs, places = tallies.nonzero()
    counted = tallies[signs, places]
    if not counted.size or (counted < 0).any():
        raise ValueError("counts of no weights")
    return signs * SIGN_BIT + places + first, counted


def _refuse_impossible(grid: Grid, codes: Integers) -> None:
    """Raise ValueError when a finite magnitude is none that the number format has."""
    if np.isnan(grid.log_value[codes]).any():
        raise ValueError("weights that their number format does not have")
