"""Values at steps -> Settling: whether a quantity came to rest during training, and when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

LEAST_CHECKPOINTS = 8  # fewer leave two or three degrees of freedom for the scatter
LEAST_AT_REST = 3  # checkpoints that must follow the interval: two lie on a line by themselves
LEAST_EXPLAINED = 4  # checkpoints at the end that one model must account for
CHECKPOINTS_APART = 2  # between two changes of slope: fewer do not tell one from two
MOST_PLACES = 40  # where slopes may change, evenly over the series: all triples of them are ten thousand models
COST_OF_A_SLOPE = 3.0  # times ln(n), for its place, its value and the search: modified BIC (Zhang & Siegmund 2007)
COST_OF_A_CHECKPOINT = 1.5  # times ln(n), for one that is left to the transient: a value, and where the model begins
LEAST_SPACING = 1e-9  # of two steps, as a share of the whole scale: nearer ones drown in rounding
LEVEL = 0.95
CHI_SQUARED_1 = 3.841458820694124  # its 95 % point
MOST_CORRELATION = 0.7  # beyond it what is left is a course of its own, and no noise
SD_PER_MEDIAN = 1.4826022185056018  # of the magnitude of a normal variable


class Course(StrEnum):
    """What a quantity did over a series of checkpoints."""

    STEADY = "the same throughout"
    SETTLED = "settled"
    MOVING = "not settled yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Whether a quantity came to rest, and when.

    `step` is the estimate of the step from which on it is a constant, `earliest` to `latest` its 95 % interval, all of
    them steps of checkpoints. Of a steady one all three are the first step. Of a moving one the interval reaches the
    end, so that rest cannot be told from none. `start` is the first value, `level` the fitted one at the end. `noise`
    is the standard deviation that one value was taken to have, `correlation` how alike that of neighbours is.
    """

    course: Course
    step: int
    earliest: int
    latest: int
    start: float
    level: float
    noise: float
    correlation: float


def settling(steps: Sequence[int], values: Sequence[float], *, floor: float) -> Settling | NotFitted:
    """Find from when on the values, one at each of the rising steps, are a constant and noise.

    The end of the series is modelled by a continuous line over ln(1 + step/first step above 0): none, one or two
    straight pieces, and then a constant; what comes before is left to itself, a value for each checkpoint. The quantity
    came to rest where the constant begins; where that is at the end of the series, it did not. All places of the pieces
    are tried, at (at most 40) checkpoints, by least squares. Which model is best is decided by its sum of squares over
    the variance, plus 3 ln n for a straight piece (modified BIC: Zhang & Siegmund 2007, Biometrics 63:22) and 1.5 ln n
    for each checkpoint that is left to itself. The interval holds every place at which a model begins to be constant
    that exceeds the best by less than the 95 % point of chi^2(1) (likelihood ratio in segmented regression: Hinkley
    1971, JASA 66:736; Feder 1975, Ann. Stat. 3:84), and goes one place further on each side, for nothing is known
    between two checkpoints.

    The noise is estimated from the differences of every value from the line through its two neighbours (Gasser, Sroka &
    Jennen-Steinmetz 1986, Biometrika 73:625), by their median, which no transient sways. It is at least `floor`:
    smaller changes are not worth a name. Where the best model leaves more than that, and neighbours are alike in it by
    a correlation r of up to 0.7 (freed of its bias), its variance times (1 + r)/(1 - r) counts instead, as for the mean
    of a first-order autoregression. Since it is estimated from (n - 2)/2 degrees of freedom or so, all limits are
    larger by F(1, (n - 2)/2) over chi^2(1).

    What it is worth, over 200 synthetic series of 8 to 32 checkpoints each: independent noise is called steady in 96 %
    or more, drift is called moving in all, and the interval holds the true change in 97 % or more, with one straight
    piece before it or two. With noise correlated by 0.5 it holds the change in 89 % or more, and 7 to 15 % of pure
    noise is called something else, mostly moving. A drift by less than three floors behind a transient is taken for
    rest, and what swings or wanders from each checkpoint to the next for noise about it: `noise` says how much.
    """
    number = len(steps)
    if number < LEAST_CHECKPOINTS:
        return NotFitted(f"it takes {LEAST_CHECKPOINTS} checkpoints, and there are {number}")
    places, observed = _places(steps), np.asarray(values, dtype=np.float64)
    if np.diff(places).min() < LEAST_SPACING * places[-1]:
        return NotFitted("some of its steps lie too close together to be told apart on one scale")
    models = _Models.of(places, observed)
    stretch = _f_limit((number - 2) / 2) / CHI_SQUARED_1
    costs = stretch * math.log(number) * (COST_OF_A_SLOPE * models.slopes + COST_OF_A_CHECKPOINT * models.first)
    variance = max(_noise(places, observed), floor) ** 2
    best = int((models.squares / variance + costs).argmin())
    correlated, correlation = _correlated(models.residuals(best), parameters=1 + 2 * int(models.slopes[best]))
    variance = max(variance, correlated)
    penalised = models.squares / variance + costs
    best = int(penalised.argmin())
    rest, earliest, latest = models.interval(penalised, stretch * CHI_SQUARED_1)
    course = Course.SETTLED if latest < number - LEAST_AT_REST else Course.MOVING
    if not rest:
        course, earliest, latest = Course.STEADY, 0, 0
    return Settling(
        course=course,
        step=steps[rest],
        earliest=steps[earliest],
        latest=steps[latest],
        start=float(observed[0]),
        level=float(observed[-1] - models.residuals(best)[-1]),
        noise=math.sqrt(variance),
        correlation=correlation,
    )


def _places(steps: Sequence[int]) -> Floats:
    """Where the steps stand: evenly while they are small, in their logarithms later."""
    first = next(step for step in steps if step > 0)
    return np.log1p(np.asarray(steps, dtype=np.float64) / first)


def _noise(places: Floats, observed: Floats) -> float:
    """Standard deviation of independent noise about a smooth course."""
    before, after = np.diff(places)[:-1], np.diff(places)[1:]
    from_before, from_after = after / (before + after), before / (before + after)
    expected = from_before * observed[:-2] + from_after * observed[2:]
    differences = (observed[1:-1] - expected) / np.sqrt(1 + from_before**2 + from_after**2)
    return SD_PER_MEDIAN * float(np.median(np.abs(differences)))


def _correlated(residuals: Floats, *, parameters: int) -> tuple[float, float]:
    """Give the variance that residuals count for, 0 where they are no noise, and the correlation of neighbours."""
    squares, freedom = float(residuals @ residuals), residuals.size - parameters
    if not squares or freedom <= 0:
        return 0.0, 0.0
    correlation = max(0.0, float(residuals[1:] @ residuals[:-1]) / squares + parameters / residuals.size)
    if correlation > MOST_CORRELATION:
        return 0.0, 0.0
    return squares / freedom * (1 + correlation) / (1 - correlation), correlation


def _f_limit(freedom: float) -> float:
    """The 95 % point of F(1, freedom): the square of a point of Student's t."""
    from scipy.special import stdtrit  # noqa: PLC0415 - it takes longer to import than all of this to compute

    return float(stdtrit(freedom, (1 + LEVEL) / 2)) ** 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Models:
    """All models of a series; arrays of shape (models,).

    `first` is the checkpoint from which on a model accounts for the values, `turn` where its first of two straight
    pieces ends, `rest` where it becomes constant, and `slopes` counts the pieces. `squares` is what it leaves.
    """

    places: Floats
    observed: Floats
    tried: Indices
    first: Indices
    turn: Indices
    rest: Indices
    slopes: Indices
    squares: Floats

    @staticmethod
    def of(places: Floats, observed: Floats) -> "_Models":
        number = places.size
        tried = np.unique(np.linspace(0, number - 1, min(number, MOST_PLACES)).round().astype(np.int64))
        rows: list[tuple[Indices, Indices, Indices, Indices, Floats]] = []
        for first in tried[tried <= number - LEAST_EXPLAINED]:
            values = observed[first:] - observed[first:].mean()
            total = float(values @ values)
            ends = tried[tried > first]
            ramps = np.minimum(0.0, places[first:] - places[ends][:, np.newaxis])
            ramps -= ramps.mean(axis=1, keepdims=True)
            products, with_values = ramps @ ramps.T, ramps @ values
            turn, rest = np.triu_indices(ends.size, 1)
            apart = (ends[rest] - ends[turn] >= CHECKPOINTS_APART) & (ends[turn] - first >= CHECKPOINTS_APART)
            turn, rest = turn[apart], rest[apart]
            of_turn, of_rest, both = products[turn, turn], products[rest, rest], products[turn, rest]
            explained = (
                with_values[turn] ** 2 * of_rest
                - 2 * with_values[turn] * with_values[rest] * both
                + with_values[rest] ** 2 * of_turn
            ) / (of_turn * of_rest - both**2)
            one = total - with_values**2 / products.diagonal()
            here = np.array([first])
            rows.append((here, here, here, np.zeros(1, np.int64), np.array([total])))
            rows.append((np.full(ends.size, first), ends, ends, np.ones(ends.size, np.int64), one))
            two = np.full(turn.size, 2, np.int64)
            rows.append((np.full(turn.size, first), ends[turn], ends[rest], two, total - explained))
        starts, turns, rests, slopes, squares = (np.concatenate(column) for column in zip(*rows, strict=True))
        return _Models(
            places=places,
            observed=observed,
            tried=tried,
            first=starts,
            turn=turns,
            rest=rests,
            slopes=slopes,
            squares=np.maximum(squares, 0.0),
        )

    def residuals(self, model: int) -> Floats:
        """What a model leaves of the values that it accounts for."""
        first, slopes = int(self.first[model]), int(self.slopes[model])
        places, values = self.places[first:], self.observed[first:]
        knots = self.places[[self.rest[model], self.turn[model]][:slopes]]
        columns = np.vstack([np.ones(values.size), *(np.minimum(0.0, places - knot) for knot in knots)]).T
        return np.asarray(values - columns @ np.linalg.lstsq(columns, values)[0], dtype=np.float64)

    def interval(self, penalised: Floats, margin: float) -> tuple[int, int, int]:
        """Give the checkpoint at which the best model becomes constant, and those just outside of its interval."""
        profile = np.full(self.observed.size, np.inf)
        np.minimum.at(profile, self.rest, penalised)
        [accepted] = np.nonzero(profile[self.tried] <= profile.min() + margin)
        around = np.concatenate([self.tried[:1], self.tried, self.tried[-1:]])  # tried[i] is around[i + 1]
        return int(profile.argmin()), int(around[accepted[0]]), int(around[accepted[-1] + 2])
