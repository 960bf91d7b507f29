"""Which family the weights of a layer come from: every candidate fitted, and how far each is from the best.

No p-value decides anything: with millions of weights every test rejects every family. What decides is how much a family
costs, in nats per weight.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.candidates import CANDIDATES, Candidate, Family
from jaynes_audit.analyzers.distributions.grouped_likelihood import Fitted, fit, quadrature
from jaynes_audit.analyzers.distributions.intervals import Intervals, intervals
from jaynes_audit.analyzers.distributions.moments import NotFitted, log_moments
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.sketch.grid import Grid, cells
from jaynes_audit.analyzers.sketch.histogram import Magnitudes

Floats = npt.NDArray[np.float64]

INTERVALS_PER_OCTAVE = 8  # an eighth of an octave hides less than 0.001 nats of any smooth law
FEWEST_INTERVALS = 4  # fewer cannot tell laws of two parameters apart
LOGNORMAL_PARAMETERS = 2
_LOGNORMAL = [each.family for each in CANDIDATES].index(Family.LOGNORMAL)
FAR_OUT = 20.0  # sd: nothing, or nearly everything, is cut off there, and the skewness is 0 or nearly 2

SIMPLICITY_NATS = 0.005
"""What a further parameter must earn, in nats per weight: a family that gains less is not better, only more supple."""

TIE_NATS = 0.0005
"""Two families of as many parameters closer than this are a tie. From 1e5 independent weights on, the nearest families
of the calibration (gamma and Weibull, 0.001 nats apart) are farther from each other by three standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFit:
    """One family, fitted to the magnitudes of a layer's weights by grouped maximum likelihood.

    `scale` and `shape` are in the family's own terms, see `PARAMETERS`; a family without a shape has 1. `nats` is the
    mean log-likelihood per weight less the lognormal's: positive where it fits better. `divergence` is
    KL(weights || family) in nats per weight, what the family leaves unexplained, less the bias of counting. `bic` is
    the Bayesian information criterion per weight less the lognormal's: negative where the family is preferred.
    `vuong_z` is Vuong's statistic against the lognormal; it grows with the root of the number of weights and so
    decides nothing.
    """

    family: Family
    parameters: int
    scale: float
    shape: float
    nats: float
    divergence: float
    bic: float
    vuong_z: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All candidates, the best first, and the one that the weights are said to come from.

    `winner` is the simplest family within SIMPLICITY_NATS of the best one, and of equally simple ones the likeliest.
    `tied_with` are the families that might as well have won: as many parameters, and within TIE_NATS of it.
    `lognormal_skewness` is the skewness of ln|w| that the fitted lognormal has once the format has rounded its smallest
    weights to zero: 0 but in formats of few values.
    """

    candidates: tuple[CandidateFit, ...]
    winner: CandidateFit
    tied_with: tuple[Family, ...]
    lognormal_skewness: float

    @property
    def lognormal(self) -> CandidateFit:
        """The lognormal among the candidates."""
        return next(each for each in self.candidates if each.family is Family.LOGNORMAL)


PARAMETERS: dict[Family, tuple[str, str]] = {
    Family.GAUSSIAN: ("standard deviation", ""),
    Family.LAPLACE: ("mean magnitude", ""),
    Family.UNIFORM: ("greatest magnitude", ""),
    Family.LOGNORMAL: ("median magnitude", "sigma"),
    Family.WEIBULL: ("scale", "shape"),
    Family.GAMMA: ("scale", "shape"),
    Family.GENERALISED_NORMAL: ("scale", "power"),
    Family.STUDENT_T: ("scale", "degrees of freedom"),
    Family.TRUNCATED_GAUSSIAN: ("greatest magnitude", "greatest magnitude over standard deviation"),
}
"""What the scale and the shape of each family are called; no name where there is no shape."""


def rank(layers: Sequence[Magnitudes]) -> list[Ranking | NotFitted]:
    """Fit every candidate to every layer. Many layers at once cost far less than one by one."""
    too_narrow = NotFitted("all its weights lie within half an octave of magnitude")
    results: list[Ranking | NotFitted] = [too_narrow] * len(layers)
    alike: dict[Grid, list[int]] = defaultdict(list)
    for index, weights in enumerate(layers):
        if np.unique(weights.codes >> cells(weights.grid, INTERVALS_PER_OCTAVE).shift).size >= FEWEST_INTERVALS:
            alike[weights.grid].append(index)
    for grid, indices in alike.items():
        rankings = _rank_stack(Stack.of([layers[index] for index in indices]), grid)
        for index, ranking in zip(indices, rankings, strict=True):
            results[index] = ranking
    return results


def _rank_stack(stack: Stack, grid: Grid) -> list[Ranking]:
    moments = log_moments(stack)
    means = np.array([each.log_mean for each in moments])
    sigmas = np.array([each.log_sigma for each in moments])
    counted = intervals(stack, INTERVALS_PER_OCTAVE)
    at = quadrature(counted, grid)
    fits = {candidate.family: fit(candidate, at, means, sigmas) for candidate in CANDIDATES}
    to_lognormal = fits[Family.LOGNORMAL].log_probabilities
    of_candidates = [_candidate_fits(each, fits[each.family], counted, to_lognormal) for each in CANDIDATES]
    skewness = [_cut_skewness(each, _log_smallest(grid)) for each in of_candidates[_LOGNORMAL]]
    return [_ranking(*of_layer) for of_layer in zip(zip(*of_candidates, strict=True), skewness, strict=True)]


def _candidate_fits(
    candidate: Candidate, fitted: Fitted, counted: Intervals, to_lognormal: Floats
) -> list[CandidateFit]:
    weights = counted.weights
    gains = fitted.log_probabilities - to_lognormal
    nats = counted.sums(counted.shares * gains)
    spread = np.sqrt(counted.sums(counted.shares * (gains - counted.spread(nats)) ** 2))
    vuong_z = np.divide(np.sqrt(weights) * nats, spread, out=np.zeros_like(nats), where=spread > 0)
    bic = (candidate.parameters - LOGNORMAL_PARAMETERS) * np.log(weights) / weights - 2 * nats
    surprise = counted.sums(counted.shares * (np.log(counted.shares) - fitted.log_probabilities))
    divergence = surprise - (counted.lengths - 1) / (2 * weights)
    columns = (fitted.scales, fitted.shapes, nats, divergence, bic, vuong_z)
    return [
        CandidateFit(
            family=candidate.family,
            parameters=candidate.parameters,
            scale=scale,
            shape=shape,
            nats=nats_gained,
            divergence=left,
            bic=bic_of_layer,
            vuong_z=z,
        )
        for scale, shape, nats_gained, left, bic_of_layer, z in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _log_smallest(grid: Grid) -> float:
    """Logarithm of the magnitude below which a weight is rounded to zero."""
    return float(grid.log_lower[np.flatnonzero(np.isfinite(grid.log_value))[0]])


def _cut_skewness(lognormal: CandidateFit, log_smallest: float) -> float:
    """Skewness of a normal variable of which the part below a point is cut off, by its moments in closed form."""
    z = min(FAR_OUT, (log_smallest - math.log(lognormal.scale)) / lognormal.shape)
    if z < -FAR_OUT:
        return 0.0
    hazard = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (math.erfc(z * math.sqrt(0.5)) / 2)
    variance = 1 + z * hazard - hazard**2
    return hazard * (2 * hazard**2 - 3 * z * hazard + z * z - 1) / (variance * math.sqrt(variance))


def _ranking(candidates: Sequence[CandidateFit], lognormal_skewness: float) -> Ranking:
    best_first = sorted(candidates, key=lambda each: -each.nats)
    eligible = [each for each in best_first if each.nats > best_first[0].nats - SIMPLICITY_NATS]
    winner = min(eligible, key=lambda each: each.parameters)  # of equally simple ones the first, which is the likeliest
    tied_with = tuple(
        each.family
        for each in eligible
        if each is not winner and each.parameters == winner.parameters and each.nats > winner.nats - TIE_NATS
    )
    return Ranking(
        candidates=tuple(best_first), winner=winner, tied_with=tied_with, lognormal_skewness=lognormal_skewness
    )
