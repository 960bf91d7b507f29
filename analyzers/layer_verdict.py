"""What may be said of the law that a layer's weights follow, and why."""

import math
from dataclasses import dataclass
from enum import StrEnum

from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import TIE_NATS, CandidateFit, Ranking

MOST_ZEROS = 0.5  # part of the weights; what is left of a layer pruned further says little about how it was made
FEWEST_DISTINCT = 16  # magnitudes; a grid of 4 bits has fewer, and every law looks alike on it

# The lognormal must not only beat its rivals: beside a Gaussian's 0.163 and -1.54 these are small. The calibration
# (docs/calibration.md) found them wide enough for every exact lognormal and too narrow for every other family.
LOGNORMAL_DIVERGENCE = 0.02  # nats per weight
LOGNORMAL_SKEWNESS = 0.2
# Gaussian rows on lognormal row scales of log-sd 2 stay below this in 95 % of matrices from 100 rows on.
MIXTURE_DIVERGENCE = 0.025
# What scales must at least have hidden: to divide by an rms moves the skewness of lognormal weights by up to this.
SKEWNESS_OF_SCALES = 0.15


class VerdictKind(StrEnum):
    """The kinds of verdict on a layer."""

    LOGNORMAL = "lognormal"
    BY_MIXING = "lognormal by mixing"
    RIVAL = "rival"
    UNDECIDED = "undecided"
    DEGENERATE = "degenerate"
    NOT_FITTED = "not fitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVerdict:
    """The law that a layer's weights follow, as far as it can be told, and the reason in a few words.

    `name` is what is printed: the family's name where one was found, else the kind.
    """

    kind: VerdictKind
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """What a layer's weights are once the scales of rows and columns are divided out."""

    skewness: float
    ranking: Ranking


def not_judged(reason: str) -> LayerVerdict:
    """Give the verdict on a layer that was not fitted."""
    return _plain(VerdictKind.NOT_FITTED, reason)


def looks_lognormal(ranking: Ranking | NotFitted) -> bool:
    """Whether weights are so near to a lognormal that a mixture of scales may have made them so."""
    if isinstance(ranking, NotFitted):
        return False
    return ranking.winner.family is Family.LOGNORMAL or ranking.lognormal.divergence < MIXTURE_DIVERGENCE


def judge(
    fit: LognormalFit | NotFitted,
    ranking: Ranking | NotFitted,
    residual: Residual | NotFitted,
    *,
    zero_share: float,
    distinct: int,
    reshaped_by: str = "",
) -> LayerVerdict:
    """Say which law a layer's weights follow.

    `reshaped_by` names the quantiser that left another shape than the weights had. `distinct` counts unequal non-zero
    magnitudes on the 16-bit grid. Gaussian rows of very unlike scale look lognormal when thrown together. So weights
    near to a lognormal are called lognormal only when their `residual` is so too; where it is of another family than
    they, they are lognormal by mixing.
    """
    if zero_share > MOST_ZEROS:
        return _plain(VerdictKind.DEGENERATE, f"{math.floor(1000 * zero_share) / 10}% of its weights are zero")
    if distinct < FEWEST_DISTINCT:
        return _plain(VerdictKind.DEGENERATE, f"different magnitudes on the 16-bit grid: {distinct}")
    if reshaped_by:
        return _plain(VerdictKind.UNDECIDED, f"{reshaped_by}: the quantiser, not the weights, makes the small ones")
    if isinstance(fit, NotFitted):
        return not_judged(fit.reason)
    if isinstance(ranking, NotFitted):
        return not_judged(ranking.reason)
    return _of_winner(ranking, residual, skewness=fit.moments.skewness)


def _of_winner(ranking: Ranking, residual: Residual | NotFitted, *, skewness: float) -> LayerVerdict:
    winner = ranking.winner
    if looks_lognormal(ranking) and isinstance(residual, Residual) and _is_mixed(winner, residual, skewness):
        left = f"{residual.ranking.winner.family}, skew {residual.skewness:.2f}"
        return _plain(VerdictKind.BY_MIXING, f"row and column scales divided out, its weights are {left}")
    if ranking.tied_with:
        *others, last = (winner.family, *ranking.tied_with)
        return _plain(VerdictKind.UNDECIDED, f"{', '.join(others)} or {last}: within {TIE_NATS} nats per weight")
    if winner.family is not Family.LOGNORMAL:
        return LayerVerdict(kind=VerdictKind.RIVAL, name=winner.family.value, reason=_why_rival(winner))
    doubt = _doubt(winner, residual, skewness - ranking.lognormal_skewness)
    if doubt:
        return _plain(VerdictKind.UNDECIDED, doubt)
    return _plain(VerdictKind.LOGNORMAL, "it is the best family, with row and column scales and without them")


def _is_mixed(winner: CandidateFit, residual: Residual, skewness: float) -> bool:
    """Whether other weights are left, and farther from a lognormal, once the scales are divided out."""
    families = {residual.ranking.winner.family, *residual.ranking.tied_with}
    farther = abs(residual.skewness) > abs(skewness) + SKEWNESS_OF_SCALES
    return farther and not families & {winner.family, Family.LOGNORMAL}


def _doubt(winner: CandidateFit, residual: Residual | NotFitted, excess_skewness: float) -> str:
    """Why weights of which the lognormal is the best family may not be called so; nothing if they may."""
    if winner.divergence >= LOGNORMAL_DIVERGENCE or abs(excess_skewness) >= LOGNORMAL_SKEWNESS:
        left = f"{winner.divergence:.3f} nats per weight and a skew of {excess_skewness:.2f}"
        return f"the lognormal is the best family, and leaves {left} unexplained"
    if isinstance(residual, NotFitted):
        return f"a mixture of scales cannot be ruled out: {residual.reason}"
    left_over = residual.ranking
    if Family.LOGNORMAL not in {left_over.winner.family, *left_over.tied_with}:
        return f"lognormal as it is, but {left_over.winner.family} once row and column scales are divided out"
    return ""


def _why_rival(winner: CandidateFit) -> str:
    left = f"leaves {max(0.0, winner.divergence):.3f} unexplained"
    if winner.nats > 0:
        return f"it fits {winner.nats:.3f} nats per weight better than the lognormal and {left}"
    return f"it fits nearly as well as the lognormal, is simpler and {left} nats per weight"


def _plain(kind: VerdictKind, reason: str) -> LayerVerdict:
    return LayerVerdict(kind=kind, name=kind.value, reason=reason)
