"""A score of likeness between two networks, and what it would be if they had nothing to do with one another."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HIGH = 0.95  # the quantile of unrelated networks' scores that a score is set beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Null:
    """What a score is for networks of the same shapes that are not related. `what` says which, in a few words.

    `middle` is its median and `high` what one in twenty exceeds, from `draws` of them.
    """

    what: str
    middle: float
    high: float
    draws: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measure of likeness, over all that could be compared (`compared` says what and how much).

    `unrelated` is what unrelated models of the same shapes score, `twins` what independently initialised ones do.
    It is evidence, not a proof: alike data, recipes and tokenizers make unrelated models alike too.
    """

    name: str
    value: float
    compared: str
    unrelated: Null
    twins: Null


def null_of(what: str, drawn: npt.NDArray[np.float64]) -> Null:
    """Sum up scores that were drawn where nothing is alike."""
    # One more draw exceeds the k-th smallest of n in n + 1 - k cases of n + 1.
    high = np.sort(drawn)[min(drawn.size, math.ceil(HIGH * (drawn.size + 1))) - 1]
    return Null(what=what, middle=float(np.median(drawn)), high=float(high), draws=drawn.size)
