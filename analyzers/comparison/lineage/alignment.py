"""How alike two sets of points are, row by row, whatever the axes they are given in: mutual neighbours and CKA.

Both are functions of the two Gram matrices alone, so that rotating either set changes nothing. What they come to by
chance is seen by giving the rows of one set other rows' names, which rearranges its Gram matrix and needs no new one.

Sources: Huh et al. 2024, "The Platonic Representation Hypothesis" (mutual k-nearest neighbours; without their clamp of
large coordinates, which is not the same after a rotation); Kornblith et al. 2019 (CKA); Song et al. 2012 (its unbiased
estimator), in the form of Székely and Rizzo 2014: the inner product of two U-centred matrices.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

BLOCK_ROWS = 64  # of a Gram matrix that are rearranged at once: they stay in a cache


def gram(bands: Iterator[Floats]) -> Floats:
    """Give the inner products of all pairs of rows, shape (rows, rows), of points that come as bands of columns."""
    first = next(bands)
    products: Floats = first @ first.T
    for band in bands:
        products += band @ band.T
    return products


def nearest(products: Floats, k: int) -> Integers:
    """Give the k rows of greatest cosine with each row, itself apart, in no order: shape (rows, k)."""
    norms = np.sqrt(np.maximum(np.diagonal(products), np.finfo(np.float32).tiny))
    chosen = np.empty((len(products), k), np.int64)
    for top in range(0, len(products), BLOCK_ROWS):
        # The row's own norm changes no order.
        distances = -products[top : top + BLOCK_ROWS] / norms
        within = np.arange(len(distances))
        distances[within, top + within] = np.inf
        chosen[top : top + BLOCK_ROWS] = np.argpartition(distances, k, axis=1)[:, :k]
    return chosen


def mutual_neighbours(a: Integers, b: Integers, relabellings: Sequence[Integers]) -> npt.NDArray[np.float64]:
    """Give the mean share of a row's nearest rows that are the same in both sets, for each relabelling.

    `a` and `b` are what `nearest` gives. Under a relabelling, row i of b is called by the i-th name in it.
    """
    rows, k = a.shape
    near = np.zeros((rows, rows), np.bool_)
    near[np.arange(rows)[:, None], a] = True
    flat = near.reshape(-1)
    return np.array([np.count_nonzero(flat[names[:, None] * rows + names[b]]) / (rows * k) for names in relabellings])


def u_centred(products: Floats) -> Floats:
    """Take the means of rows and columns off a symmetric matrix so that those of the rest, off its diagonal, are zero.

    Székely and Rizzo 2014, definition 2. The mean inner product of two such matrices is an unbiased HSIC.
    """
    rows = len(products)
    hollow = products.copy()
    np.fill_diagonal(hollow, 0)
    sums = hollow.sum(axis=1, dtype=np.float64)
    offsets = (sums / (rows - 2) - sums.sum() / (2 * (rows - 1) * (rows - 2))).astype(np.float32)
    hollow -= offsets[:, None]
    hollow -= offsets
    np.fill_diagonal(hollow, 0)
    return hollow


def alignments(a: Floats, b: Floats, relabellings: Sequence[Integers]) -> npt.NDArray[np.float64]:
    """Give the cosine of two symmetric matrices, for each relabelling of b's rows and columns.

    Of matrices that `u_centred` gave it is the unbiased linear CKA. Zero where either matrix is.
    """
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return np.array([_inner_product(a, b, np.argsort(names)) / scale if scale else 0.0 for names in relabellings])


def _inner_product(a: Floats, b: Floats, order: Integers) -> float:
    total = 0.0
    for top in range(0, len(a), BLOCK_ROWS):
        rearranged = np.take(b[order[top : top + BLOCK_ROWS]], order, axis=1)
        total += float(np.vdot(a[top : top + BLOCK_ROWS], rearranged))
    return total


def relabelled(rows: int, draws: int, rng: np.random.Generator) -> list[Integers]:
    """Draw relabellings in which any row may be called by any row's name."""
    return [rng.permutation(rows) for _ in range(draws)]


def relabelled_within(order: Integers, bin_rows: int, draws: int, rng: np.random.Generator) -> list[Integers]:
    """Draw relabellings that exchange rows within bins alone: of so many rows, taken in this order."""
    drawn = []
    for _ in range(draws):
        names = np.empty(len(order), np.int64)
        for top in range(0, len(order), bin_rows):
            members = order[top : top + bin_rows]
            names[members] = rng.permutation(members)
        drawn.append(names)
    return drawn
