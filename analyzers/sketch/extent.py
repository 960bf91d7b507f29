"""How a matrix of weights is cut: into row blocks for the jackknife, into chunks for reading and hashing.

All cuts follow from the matrix alone, never from the number of workers or the size of a buffer. So the same bytes give
the same sketch, to the last bit, however the work is shared out.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.dtypes import BITS, Dtype

ROW_BLOCKS = 16  # groups left out in turn by the jackknife; fewer make its own error too large
CHUNK_BYTES = 1 << 20  # half of a common second-level cache, so that hash and counts read memory once
PACKED_ROWS = 4  # any four rows of packed 4- or 6-bit elements end on a whole byte
MAX_SCALED_LENGTH = 1 << 22  # longer axes get no sums of squares of their own, which would outgrow the weights' windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A matrix of `rows x columns` weights of one format, in C order.

    `scaled` tells whether sums of squares are kept per row and per column. A vector, or a matrix with an axis longer
    than MAX_SCALED_LENGTH, has none; it may then be cut anywhere, and is best given as n rows of one column.
    """

    rows: int
    columns: int
    dtype: Dtype
    scaled: bool

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.rows * self.columns

    @property
    def row_bits(self) -> int:
        """Stored length of a row, in bits."""
        return self.columns * BITS[self.dtype]

    @property
    def chunk_rows(self) -> int:
        """Rows per chunk: about a mebibyte of whole rows."""
        rows = max(1, CHUNK_BYTES * 8 // max(1, self.row_bits))
        return rows if self.row_bits % 8 == 0 else -(-rows // PACKED_ROWS) * PACKED_ROWS

    @property
    def block_edges(self) -> npt.NDArray[np.int64]:
        """First row of each row block and, last, the number of rows. Blocks differ by at most one row."""
        return _block_edges(self.rows)


@cache
def _block_edges(rows: int) -> npt.NDArray[np.int64]:
    blocks = max(1, min(ROW_BLOCKS, rows))
    edges = np.array([block * rows // blocks for block in range(blocks + 1)], np.int64)
    edges.flags.writeable = False
    return edges
