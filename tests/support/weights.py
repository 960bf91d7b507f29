"""Weights in every stored format, and their sketches, from plain numbers."""

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, Dtype
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.sketch import Sketch, sketch

Codes = npt.NDArray[np.generic]

ML_DTYPES: dict[Dtype, np.dtype[np.generic]] = {
    Dtype.F4: np.dtype(ml_dtypes.float4_e2m1fn),
    Dtype.F6_E2M3: np.dtype(ml_dtypes.float6_e2m3fn),
    Dtype.F6_E3M2: np.dtype(ml_dtypes.float6_e3m2fn),
    Dtype.F8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    Dtype.F8_E4M3: np.dtype(ml_dtypes.float8_e4m3fn),
    Dtype.F8_E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    Dtype.F8_E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    Dtype.F8_E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    Dtype.BF16: np.dtype(ml_dtypes.bfloat16),
}
"""The formats that NumPy does not know, as ml_dtypes has them: the oracle for their values and their rounding."""

SMALL = tuple(dtype for dtype in ML_DTYPES if dtype is not Dtype.BF16)
REAL = (*ML_DTYPES, Dtype.F16, Dtype.F32, Dtype.F64)
"""Every format of real weights."""


def oracle_dtype(dtype: Dtype) -> np.dtype[np.generic]:
    return ML_DTYPES.get(dtype) or NUMPY_DTYPES[dtype]


def encoded(values: npt.ArrayLike, dtype: Dtype) -> Codes:
    """Real numbers, rounded to a format by somebody else, as the codes that `stored_codes` gives."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = np.asarray(values, np.float64).astype(oracle_dtype(dtype))
    if dtype is Dtype.BF16:
        return rounded.view(np.uint16)
    return rounded.view(np.uint8) if dtype in SMALL else rounded


def decoded(codes: Codes, dtype: Dtype) -> npt.NDArray[np.float64]:
    """What codes stand for, by ml_dtypes or NumPy."""
    return codes.view(oracle_dtype(dtype)).astype(np.float64)


def packed(codes: Codes, dtype: Dtype) -> bytes:
    """Codes as they stand in a file: one long number, first code lowest, for those of 4 and 6 bits."""
    bits = BITS[dtype]
    if bits >= 8:
        return codes.tobytes()
    as_one = "".join(f"{code:0{bits}b}" for code in codes.reshape(-1)[::-1].tolist())
    return int(as_one or "0", 2).to_bytes(codes.size * bits // 8, "little")


def extent_of(codes: Codes, dtype: Dtype, *, scaled: bool = True) -> Extent:
    rows, columns = codes.shape
    return Extent(rows=rows, columns=columns, dtype=dtype, scaled=scaled)


def chunked(codes: Codes, extent: Extent, *, first_row: int = 0, stop_row: int | None = None) -> Iterator[Codes]:
    """The chunks of some rows of a layer, cut where they must be."""
    stop = extent.rows if stop_row is None else stop_row
    for row in range(first_row, stop, extent.chunk_rows):
        yield codes[row : min(stop, row + extent.chunk_rows)]


def sketch_of(codes: Codes, dtype: Dtype, *, scaled: bool = True) -> Sketch:
    """The sketch of a whole layer."""
    extent = extent_of(codes, dtype, scaled=scaled)
    return sketch(chunked(codes, extent), extent)


def counts_of(whole: Sketch) -> dict[int, int]:
    """How many weights have each code."""
    return dict(zip(whole.histogram.codes.tolist(), whole.histogram.tallies.tolist(), strict=True))


def exact_facts(whole: Sketch) -> tuple[object, ...]:
    """All of a sketch that must be equal to the last bit however it was made."""
    return (
        whole.extent,
        whole.content,
        whole.largest,
        whole.max_finite,
        whole.histogram.low_bits,
        whole.histogram.codes.tolist(),
        whole.histogram.tallies.tolist(),
        [folded(*whole.counts.of_block(block)) for block in range(whole.counts.ends.size)],
    )


def folded(codes: Codes, tallies: Codes) -> dict[int, int]:
    """Counts by cell of four neighbouring magnitudes, signs folded: what every row block is counted in at least."""
    cells: dict[int, int] = {}
    for code, tally in zip(codes.tolist(), tallies.tolist(), strict=True):
        cells[code & 0x7FFC] = cells.get(code & 0x7FFC, 0) + tally
    return dict(sorted(cells.items()))
