"""The magnitudes of several layers end to end, so that one pass of array arithmetic serves them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.sketch.grid import Grid
from jaynes_audit.analyzers.sketch.histogram import Magnitudes

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stack:
    """Layers on one grid. Layer i has entries `starts[i]:starts[i + 1]` of `codes` and `tallies`, never none.

    `weights` has the number of finite non-zero weights of each layer.
    """

    grid: Grid
    codes: npt.NDArray[np.int64]
    tallies: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]

    @staticmethod
    def of(layers: Sequence[Magnitudes]) -> "Stack":
        """Put layers of one grid end to end; each has at least one entry."""
        lengths = np.array([layer.codes.size for layer in layers], np.int64)
        starts = np.cumsum(lengths) - lengths
        tallies = np.concatenate([layer.tallies for layer in layers])
        return Stack(
            grid=layers[0].grid,
            codes=np.concatenate([layer.codes for layer in layers]),
            tallies=tallies,
            starts=starts,
            lengths=lengths,
            weights=np.add.reduceat(tallies, starts),
        )

    def sums(self, terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up one number per entry, layer by layer."""
        return np.add.reduceat(terms, self.starts)

    def spread(self, of_layers: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Repeat one number per layer for each of its entries."""
        return np.repeat(of_layers, self.lengths)
