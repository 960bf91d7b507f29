"""Maximum likelihood from counts: the probability of each interval that a weight can fall into, not a density.

Several layers are fitted at once. Weights that a format rounds to zero are not in the counts, so every likelihood is
conditional on a weight being stored as something else.
"""

from dataclasses import dataclass, replace
from functools import cache, reduce

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.candidates import Candidate, Searched
from jaynes_audit.analyzers.distributions.intervals import Intervals
from jaynes_audit.analyzers.sketch.grid import Grid

Floats = npt.NDArray[np.float64]

OUT_OF_REACH = -60.0  # ln of a magnitude that no weight is rounded to zero from: bfloat16 and float32 go farther
PANELS_BELOW = (0.0, 1.0, 3.0, 8.0, 20.0, 60.0)  # nats below a format's smallest weight: where its zeros come from
NODES_BELOW = 6

# Over an eighth of an octave two Gauss-Legendre nodes give ln P to 1e-6 where the density changes by a quarter, to 2e-4
# where it changes by a factor e (h^4/4320 of its fourth derivative). Wider intervals, as those of formats with few
# values and of float16's subnormal numbers are, fall into panels.
NODES = 2
WIDEST_PANEL = 0.125  # nats
WIDEST = 40.0  # nats; of an interval that begins at zero the rest holds no probability that a double would see

LEAST_LOGARITHM = -1e300  # in the place of minus infinity, which cannot be subtracted
MOST_LOST = 1 - 1e-9  # of a law that has nearly all of its mass where a format has only zero

DIFFERENCE = 1e-3  # of ln(scale) and ln(shape); central differences then err by about 1e-6 of the curvature
CONVERGED = 1e-6  # nats of ln(scale) and ln(shape), far below the sampling error of 1e9 weights (3e-5)
LEAST_BEND = 1e-12
LEAST_DETERMINANT = 1e-9  # of the product of the bends: below it the two directions are taken for one
LONGEST_STEP = 1.0  # nats: Newton's steps from afar may point anywhere
MOST_STEPS = 500  # while one far weight decides, a scale moves half a nat a step, and float32 spans 192 nats
HOPELESS = -1e60  # nats per weight: a fit so bad has no derivatives in double precision

_SCALE = np.array([[0, 0], [1, 0], [-1, 0]], float)
_SHAPE = _SCALE[:, ::-1]
STENCILS = {
    Searched.SCALE: _SCALE,
    Searched.SHAPE: _SHAPE,
    Searched.SCALE_AND_SHAPE: np.concatenate([_SCALE, _SHAPE[1:], [[1, 1], [-1, -1]]]),
}
"""Where the likelihood is evaluated around a point, in units of DIFFERENCE; its derivatives follow from the values."""

TOWARDS_FAR_WEIGHTS = {
    Searched.SCALE: (LONGEST_STEP, 0.0),
    Searched.SHAPE: (0.0, -LONGEST_STEP),
    Searched.SCALE_AND_SHAPE: (0.0, -LONGEST_STEP),
}
"""The step from a hopeless start. What makes it hopeless is a weight far beyond all others; a family that has a shape
has the heavier tail the smaller that is."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quadrature:
    """Where the densities are evaluated: `nodes` and `log_weights` have shape (nodes per panel, panels).

    `panels` says how many of them, one after the other, each interval falls into; nearly always one. `below` and
    `log_weights_below` do the same from zero to the smallest magnitude that the format can hold; they are empty where
    hardly any weight can be rounded to zero.
    """

    counted: Intervals
    panels: npt.NDArray[np.int64]
    nodes: Floats
    log_weights: Floats
    below: Floats
    log_weights_below: Floats


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitted:
    """A family fitted to several layers.

    `scales` and `shapes` have one entry per layer (what they mean is the family's affair), `log_probabilities` the
    natural logarithm of the fitted probability of each interval.
    """

    scales: Floats
    shapes: Floats
    log_probabilities: Floats


def quadrature(counted: Intervals, grid: Grid) -> Quadrature:
    """Prepare layers that were counted on this grid for any number of fits."""
    possible = np.flatnonzero(np.isfinite(grid.log_value))
    log_smallest = grid.log_lower[possible[0]]
    panels_below = log_smallest - np.array(PANELS_BELOW if log_smallest > OUT_OF_REACH else (0.0,))
    lower = np.maximum(counted.log_lower, counted.log_upper - WIDEST)
    panels = np.ceil((counted.log_upper - lower) / WIDEST_PANEL).astype(np.int64)
    place = np.arange(panels.sum()) - np.repeat(np.cumsum(panels) - panels, panels)
    width = np.repeat((counted.log_upper - lower) / panels, panels)
    begins = np.repeat(lower, panels) + place * width
    nodes, log_weights = _gauss_legendre(begins, begins + width, NODES)
    below, log_weights_below = _gauss_legendre(panels_below[1:], panels_below[:-1], NODES_BELOW)
    return Quadrature(
        counted=counted,
        panels=panels,
        nodes=nodes,
        log_weights=log_weights,
        below=below.reshape(-1, 1),
        log_weights_below=log_weights_below.reshape(-1, 1),
    )


def fit(candidate: Candidate, at: Quadrature, means: Floats, sigmas: Floats) -> Fitted:
    """Fit one family to every layer. `means` and `sigmas` are the log-moments of each, to start from.

    The gradient of the log-likelihood vanishes to 1e-6 at the answer, unless the shape is at its bound. A layer's
    result does not depend on the layers beside it. Each layer has at least two intervals.
    """
    # On its way the search may try a law that gives a far weight no probability that a double can hold.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if candidate.ends:
            return _fit_ending(candidate, at, means, sigmas)
        return _fit_from(candidate, at, *candidate.start(means, sigmas))


def _fit_from(candidate: Candidate, at: Quadrature, log_scale: Floats, log_shape: Floats) -> Fitted:
    bounds = np.log(candidate.shapes)
    point = np.stack([log_scale, np.clip(log_shape, *bounds)], axis=1)
    if candidate.searched is not Searched.NOTHING:
        point = _maximise(candidate, at, point, bounds)
    log_scale, log_shape = point.T
    return Fitted(
        scales=np.exp(log_scale),
        shapes=np.exp(log_shape),
        log_probabilities=_log_probabilities(candidate, at, log_scale, log_shape),
    )


def _fit_ending(candidate: Candidate, at: Quadrature, means: Floats, sigmas: Floats) -> Fitted:
    """Fit a law that ends at a greatest weight.

    Its likelihood is greatest where the last occupied interval has exactly its share of the weights (set the derivative
    with respect to the end to zero). So the other intervals compete for the rest of the probability, by a density that
    ends where the last interval begins, and the end itself follows from the share. When the interval has more weights
    than it could have, clipped ones or a far outlier, the law ends with the interval.
    """
    counted = at.counted
    last = counted.starts + counted.lengths - 1
    share, log_start, log_upper = counted.shares[last], counted.log_lower[last], counted.log_upper[last]
    is_last = np.zeros(counted.shares.size, bool)
    is_last[last] = True
    _, log_shape = candidate.start(means - log_start, sigmas)
    rest = _fit_from(candidate, _selected(at, ~is_last, counted.lengths - 1), log_start, log_shape)
    log_probabilities = np.empty(counted.shares.size)
    log_probabilities[last] = np.log(share)
    log_probabilities[~is_last] = rest.log_probabilities + np.repeat(np.log1p(-share), counted.lengths - 1)
    # What the last interval would have of the density if that went on to its upper end, beside what is below it.
    only_last = _selected(at, is_last, np.ones_like(last))
    log_room = _log_probabilities(candidate, only_last, log_start, np.log(rest.shapes))
    part = np.exp(np.log(share) - np.log1p(-share) - log_room)
    scales = np.exp(log_start) + np.minimum(part, 1.0) * (np.exp(log_upper) - np.exp(log_start))
    shapes = np.clip(rest.shapes * scales / np.exp(log_start), *candidate.shapes)
    crowded = part > 1
    if crowded.any():
        _, log_shape = candidate.start(means - log_upper, sigmas)
        whole = _fit_from(candidate, _of_layers(at, crowded), log_upper[crowded], log_shape[crowded])
        log_probabilities[np.repeat(crowded, counted.lengths)] = whole.log_probabilities
        scales[crowded], shapes[crowded] = whole.scales, whole.shapes
    return Fitted(scales=scales, shapes=shapes, log_probabilities=log_probabilities)


@cache
def _legendre(number: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(number)


def _gauss_legendre(lower: Floats, upper: Floats, number: int) -> tuple[Floats, Floats]:
    """Nodes and logarithms of weights, shape (number, intervals)."""
    at, weights = _legendre(number)
    half = (upper - lower) / 2
    return (upper + lower) / 2 + half * at[:, np.newaxis], np.log(half * weights[:, np.newaxis])


def _log_probabilities(candidate: Candidate, at: Quadrature, log_scale: Floats, log_shape: Floats) -> Floats:
    """Natural logarithm of the probability of each interval, given that a weight is not zero; shape (..., intervals).

    The parameters have shape (..., layers).
    """
    shape = np.exp(log_shape)
    log_height = candidate.log_height(shape)
    panels = np.add.reduceat(at.panels, at.counted.starts)
    u = at.nodes - np.repeat(log_scale, panels, axis=-1)[..., np.newaxis, :]
    log_form = candidate.log_form(u, np.repeat(shape, panels, axis=-1)[..., np.newaxis, :])
    log_form += at.log_weights
    log_areas = _log_sum(log_form)
    if log_areas.shape[-1] > at.panels.size:
        log_areas = np.logaddexp.reduceat(log_areas, np.cumsum(at.panels) - at.panels, axis=-1)
    if at.below.size:
        u = at.below - log_scale[..., np.newaxis, :]
        log_forms_below = candidate.log_form(u, shape[..., np.newaxis, :]) + at.log_weights_below
        lost = np.exp(log_height + _log_sum(log_forms_below))
        log_height = log_height - np.log(1 - np.minimum(lost, MOST_LOST))
    return log_areas + np.repeat(log_height, at.counted.lengths, axis=-1)


def _log_sum(terms: Floats) -> Floats:
    """ln(sum(exp)) over the last axis but one, of numbers that may be too small for exp."""
    # Term by term, since there are two to six of them: reducing so short an axis costs more than the arithmetic.
    each = [terms[..., at, :] for at in range(terms.shape[-2])]
    greatest = np.maximum(reduce(np.maximum, each), LEAST_LOGARITHM)
    total: Floats = greatest + np.log(sum(np.exp(term - greatest) for term in each))
    return total


def _maximise(candidate: Candidate, at: Quadrature, start: Floats, bounds: Floats) -> Floats:
    """Newton's method with halved steps; layers leave the search as they converge. Shape (layers, 2) in and out."""
    answer = start.copy()
    searching = np.arange(len(start))
    best, trial = start, start
    best_value = np.full(len(start), -np.inf)
    for _ in range(MOST_STEPS):
        values = _values(candidate, at, trial)
        better = values[0] >= best_value
        newton = _newton_step(candidate.searched, values, trial, bounds)
        newton[~(values.min(axis=0) > HOPELESS)] = TOWARDS_FAR_WEIGHTS[candidate.searched]
        step = np.where(better[:, np.newaxis], newton, (trial - best) / 2)
        best = np.where(better[:, np.newaxis], trial, best)
        best_value = np.maximum(best_value, values[0])
        trial = best + step
        trial[:, 1] = np.clip(trial[:, 1], *bounds)
        answer[searching] = best
        moving = np.abs(trial - best).max(axis=1) > CONVERGED
        if not moving.any():
            break
        if not moving.all():
            at, searching = _of_layers(at, moving), searching[moving]
            best, trial, best_value = best[moving], trial[moving], best_value[moving]
    return answer


def _values(candidate: Candidate, at: Quadrature, around: Floats) -> Floats:
    """Log-likelihood per weight at a point and its neighbours, shape (points, layers)."""
    stencil = STENCILS[candidate.searched]
    points = around + DIFFERENCE * stencil[:, np.newaxis]
    log_probabilities = _log_probabilities(candidate, at, points[..., 0], points[..., 1])
    values: Floats = np.add.reduceat(log_probabilities * at.counted.shares, at.counted.starts, axis=-1)
    return values


def _newton_step(searched: Searched, values: Floats, at: Floats, bounds: Floats) -> Floats:
    """The step to the top of the paraboloid through the values, shape (layers, 2); uphill where it has no top."""
    here, up, down = values[:3]
    slope, bend = (up - down) / (2 * DIFFERENCE), _bend(here, up, down)
    if searched is Searched.SCALE:
        return _limited(slope / bend, np.zeros_like(slope))
    if searched is Searched.SHAPE:
        return _limited(np.zeros_like(slope), slope / bend)
    up, down, both_up, both_down = values[3:]
    shape_slope, shape_bend = (up - down) / (2 * DIFFERENCE), _bend(here, up, down)
    # f(+,+) + f(-,-) - 2 f = h^2 (f_aa + 2 f_ab + f_bb)
    twist = ((2 * here - both_up - both_down) / DIFFERENCE**2 - bend - shape_bend) / 2
    at_bound = ((at[:, 1] <= bounds[0]) & (shape_slope < 0)) | ((at[:, 1] >= bounds[1]) & (shape_slope > 0))
    determinant = bend * shape_bend - twist**2
    alone = at_bound | (determinant < LEAST_DETERMINANT * bend * shape_bend)
    twist, determinant = np.where(alone, 0.0, twist), np.where(alone, bend * shape_bend, determinant)
    scale_step = (shape_bend * slope - twist * shape_slope) / determinant
    shape_step = (bend * shape_slope - twist * slope) / determinant
    return _limited(scale_step, np.where(at_bound, 0.0, shape_step))


def _bend(here: Floats, up: Floats, down: Floats) -> Floats:
    """Minus the second derivative; its size alone where the curve bends upwards, so that the step goes uphill."""
    return np.maximum(np.abs((2 * here - up - down) / DIFFERENCE**2), LEAST_BEND)


def _limited(scale_step: Floats, shape_step: Floats) -> Floats:
    step = np.nan_to_num(np.stack([scale_step, shape_step], axis=1))
    # Shortened as a whole: to clip one component alone would turn the step away from uphill.
    limited: Floats = step / np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True) / LONGEST_STEP)
    return limited


def _of_layers(at: Quadrature, wanted: npt.NDArray[np.bool_]) -> Quadrature:
    lengths = at.counted.lengths
    part = _selected(at, np.repeat(wanted, lengths), lengths[wanted])
    return replace(part, counted=replace(part.counted, weights=at.counted.weights[wanted]))


def _selected(at: Quadrature, kept: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]) -> Quadrature:
    """Only the intervals that are `kept`, of which each layer left has so many."""
    counted, of_kept = at.counted, np.repeat(kept, at.panels)
    return replace(
        at,
        counted=replace(
            counted,
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            tallies=counted.tallies[kept],
            shares=counted.shares[kept],
            log_lower=counted.log_lower[kept],
            log_upper=counted.log_upper[kept],
        ),
        panels=at.panels[kept],
        nodes=at.nodes[:, of_kept],
        log_weights=at.log_weights[:, of_kept],
    )
