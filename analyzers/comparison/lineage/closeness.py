"""Whether the distributions of matched matrices are closer than chance allows: kinship without a look at weights."""

import math
from collections.abc import Sequence
from statistics import median

from jaynes_audit.analyzers.comparison.distances import Distances
from jaynes_audit.analyzers.comparison.lineage.score import Null, Score
from jaynes_audit.analyzers.comparison.matching import Match
from jaynes_audit.analyzers.comparison.side_by_side import LayerComparison
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS

CLOSENESS = "closeness of distributions"
LEAST_MATRICES = 4
# Of sqrt(nm/(n + m)) times the KS distance of two samples of one continuous law: Kolmogorov's distribution.
MIDDLE_OF_SAMPLES = 0.82757
LOW_OF_SAMPLES = 0.51961  # one pair of samples in twenty is closer


def closeness_score(layers: Sequence[LayerComparison]) -> Score | NotFitted:
    """Say how much closer matched matrices are in distribution than two samples of one law are to each other.

    1 when the distributions are equal, 0 when the middle one is as far apart as two independent samples of one and the
    same law (Kolmogorov 1933, Smirnov 1939), negative when farther. Two networks trained apart cannot be closer than
    that, whatever their laws; a model and its slightly changed version are. Unlike laws and a common origin far back
    look alike to it, so a low score says nothing. Layers of unlike formats are left out, since only the least distance
    between those is known.
    """
    ratios = [
        each.distances.ks * _root_of_size(each.match)
        for each in layers
        if isinstance(each.distances, Distances)
        and isinstance(each.distances.ks, float)
        and each.match.a.role in HIDDEN_LAYERS
        and each.match.a.dtype == each.match.b.dtype
    ]
    if len(ratios) < LEAST_MATRICES:
        return NotFitted(
            f"fewer than {LEAST_MATRICES} matrices that differ are of one number format and have their weights counted"
        )
    samples = Null(what="two samples of one law", middle=0.0, high=1 - LOW_OF_SAMPLES / MIDDLE_OF_SAMPLES, draws=0)
    return Score(
        name=CLOSENESS,
        value=1 - median(ratios) / MIDDLE_OF_SAMPLES,
        compared=f"{len(ratios):,} matrices",
        unrelated=samples,
        twins=samples,
    )


def _root_of_size(match: Match) -> float:
    a, b = match.a.weights, match.b.weights
    return math.sqrt(a * b / (a + b))
