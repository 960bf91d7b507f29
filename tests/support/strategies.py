"""Hypothesis strategies: stored weights of every kind, special ones among them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.kernel_cases import KIND_DTYPES, SPECIALS, Case

HEIGHTS = st.sampled_from([0, 1, 2, 7, 8, 9, 15, 16, 17])
WIDTHS = st.sampled_from([0, 1, 2, 15, 16, 17, 2047, 2048, 2049])


def patterns(kind: int) -> st.SearchStrategy[int]:
    """Bit patterns of one weight; every other one special."""
    return st.sampled_from(SPECIALS[kind]) | st.integers(0, int(np.iinfo(KIND_DTYPES[kind]).max))


@st.composite
def kernel_cases(draw: st.DrawFn) -> Case:
    """A matrix of stored weights at any address."""
    kind = draw(st.integers(0, 2))
    matrix = draw(
        hnp.arrays(KIND_DTYPES[kind], st.tuples(HEIGHTS, WIDTHS), elements=patterns(kind), fill=patterns(kind))
    )
    return Case(kind=kind, patterns=matrix, offset=draw(st.integers(0, 3)), scaled=draw(st.booleans()))


def bf16_matrices(rows: st.SearchStrategy[int], columns: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    """Matrices of bfloat16 codes."""
    return hnp.arrays(np.uint16, st.tuples(rows, columns), elements=patterns(0), fill=patterns(0))
