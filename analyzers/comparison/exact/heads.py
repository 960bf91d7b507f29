"""Queries and keys of attention, whose rows two conventions of rotary embeddings store in two orders.

Rotary embeddings turn pairs of a head's outputs. Meta's Llama, and llama.cpp after it, keep both of a pair side by
side; transformers keeps the first ones of all pairs in front of all second ones. Converters move the rows of `q` and
`k` (`permute` of transformers' convert_llama_weights_to_hf.py and of llama.cpp's convert_hf_to_gguf.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.comparison.exact.outcome import Side
from jaynes_audit.analyzers.comparison.exact.reading import Pair, shape
from jaynes_audit.analyzers.comparison.exact.signatures import rows_of
from jaynes_audit.analyzers.dtypes import values
from jaynes_audit.analyzers.roles import Role, Stripes

Number = TypeVar("Number", bound=np.generic)

ROTARY = frozenset({Role.ATTENTION_Q, Role.ATTENTION_K})
LOOKED_AT = 512  # first rows: a head or more, by which its height is found
LEAST_HEAD = 4  # rows; of fewer, both orders are one
ALIKE = 0.5  # cosine from which on weights are taken for the same ones, changed; of unrelated ones it is near 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """That one side keeps both of each pair of outputs together, and the other half a head apart.

    `head_rows` is the height of a head, `side_by_side` the side that keeps pairs together.
    """

    head_rows: int
    side_by_side: Side

    def halves(self, pair: Pair) -> Iterator[Pair]:
        """Give both sides' first ones of all pairs of outputs, in one order, and then the second ones."""
        for half in (0, 1):
            together = Stripes(start=0, stop=0, period=2, first=half, count=1)
            apart = Stripes(
                start=0,
                stop=0,
                period=self.head_rows,
                first=half * self.head_rows // 2,
                count=self.head_rows // 2,
            )
            of_a, of_b = (together, apart) if self.side_by_side is Side.A else (apart, together)
            yield Pair(a=_rows(pair.a, of_a), b=_rows(pair.b, of_b))

    def moved_rows(self, rows: int) -> int:
        """How many of so many rows stand elsewhere on the other side."""
        order = _side_by_side(np.arange(self.head_rows), self.head_rows)
        return int(np.count_nonzero(order != np.arange(self.head_rows))) * (rows // self.head_rows)


def _rows(layer: Layer, stripes: Stripes) -> Layer:
    rows = replace(stripes, start=layer.part.rows.start, stop=layer.part.rows.stop)
    return replace(layer, part=replace(layer.part, rows=rows), extent=replace(layer.extent, rows=rows.size))


def _side_by_side(rows: npt.NDArray[Number], head_rows: int) -> npt.NDArray[Number]:
    """Bring both of each pair together that stood half a head apart."""
    heads = rows.reshape(-1, 2, head_rows // 2, *rows.shape[1:])
    turned: npt.NDArray[Number] = heads.swapaxes(1, 2).reshape(rows.shape)
    return turned


def heads_of(pair: Pair, sources: Sources) -> Heads | None:
    """Find the height of the heads by which one side's rows are the other's in the other order; None if there is none.

    The rows of both must be alike in that order, as those of a quantised or a fine-tuned model are.
    Raises what `Readable.read` raises.
    """
    if not _may_be_rotary(pair):
        return None
    rows = pair.a.extent.rows
    of_a, of_b = (_first_rows(layer, sources) for layer in (pair.a, pair.b))
    best, found = ALIKE, None
    for head_rows in range(LEAST_HEAD, min(rows, LOOKED_AT) + 1, 2):
        if rows % head_rows:
            continue
        whole = min(rows, LOOKED_AT) // head_rows * head_rows
        for side in Side:
            apart, together = (of_b, of_a) if side is Side.A else (of_a, of_b)
            cosine = _cosine(_side_by_side(apart[:whole], head_rows), together[:whole])
            if cosine > best:
                best, found = cosine, Heads(head_rows=head_rows, side_by_side=side)
    return found


def _may_be_rotary(pair: Pair) -> bool:
    layers = pair.a, pair.b
    are_rotary = all(layer.part.role in ROTARY and layer.part.outputs_first for layer in layers)
    are_whole = all(layer.part.rows == Stripes.span(0, layer.layout.rows) for layer in layers)
    are_matrices = all(shape(layer) == (layer.extent.rows, layer.extent.columns) for layer in layers)
    whole_bytes = all(layer.extent.row_bits % 8 == 0 for layer in layers)
    return (
        are_rotary and are_whole and are_matrices and whole_bytes and not pair.turned and shape(pair.a) == shape(pair.b)
    )


def _first_rows(layer: Layer, sources: Sources) -> npt.NDArray[np.float32]:
    stored = rows_of(layer, sources.of(layer.tensor), 0, min(layer.extent.rows, LOOKED_AT))
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = values(stored, layer.extent.dtype).astype(np.float32)
    return np.nan_to_num(numbers, copy=False, posinf=0, neginf=0)


def _cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    product, squares_a, squares_b = (
        float(np.einsum("ij,ij->", left, right, dtype=np.float64)) for left, right in ((a, b), (a, a), (b, b))
    )
    norms = np.sqrt(squares_a * squares_b)
    return product / norms if norms > 0 else 0.0
