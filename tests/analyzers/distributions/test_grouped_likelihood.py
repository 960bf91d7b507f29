"""Probabilities of intervals against scipy's distribution functions, and fits against scipy's own searches."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from jaynes_audit.analyzers.distributions.candidates import CANDIDATES, CUTS, Candidate, Family
from jaynes_audit.analyzers.distributions.grouped_likelihood import Fitted, Quadrature, fit, quadrature
from jaynes_audit.analyzers.distributions.grouped_likelihood import _log_probabilities as log_probabilities
from jaynes_audit.analyzers.distributions.intervals import intervals
from jaynes_audit.analyzers.distributions.moments import log_moments
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.grid import Grid, grid_of
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from tests.support.families import FULL_FLOAT32, magnitude_law
from tests.support.weights import encoded, sketch_of

CANDIDATE = {candidate.family: candidate for candidate in CANDIDATES}
ENDLESS = [candidate for candidate in CANDIDATES if not candidate.ends]
SHAPES = {
    Family.LOGNORMAL: 1.3,
    Family.WEIBULL: 1.7,
    Family.GAMMA: 0.8,
    Family.GENERALISED_NORMAL: 1.5,
    Family.STUDENT_T: 5.0,
    Family.TRUNCATED_GAUSSIAN: 2.0,
}
PER_OCTAVE = 8


def by_name(candidate: Candidate) -> str:
    return candidate.family


def low_bits_of(dtype: Dtype) -> int:
    return FULL_FLOAT32 if dtype is Dtype.F32 else 0


def prepared(weights: Magnitudes) -> Quadrature:
    return quadrature(intervals(Stack.of([weights]), PER_OCTAVE), weights.grid)


@cache
def every_interval(dtype: Dtype) -> Quadrature:
    """A layer with one weight in each cell of a format."""
    grid = grid_of(dtype, low_bits_of(dtype))
    codes = np.flatnonzero(~np.isnan(grid.value))
    return prepared(Magnitudes(grid=grid, codes=codes, tallies=np.ones_like(codes)))


def smallest(grid: Grid) -> float:
    """The least magnitude that is not rounded to zero."""
    return math.exp(grid.log_lower[np.flatnonzero(~np.isnan(grid.value))[0]])


def exact_probabilities(at: Quadrature, grid: Grid, family: Family, scale: float, shape: float) -> np.ndarray:
    law = magnitude_law(family, scale, shape)
    lower, upper = np.exp(at.counted.log_lower), np.exp(at.counted.log_upper)
    return law.share_between(lower, upper) / law.sf(np.array(smallest(grid)))


def surprise(at: Quadrature, grid: Grid, family: Family, scale: float, shape: float = 1.0) -> float:
    """Minus the log-likelihood per weight."""
    with np.errstate(all="ignore"):
        total = -(at.counted.shares * np.log(exact_probabilities(at, grid, family, scale, shape))).sum()
    return float(total) if math.isfinite(total) else 1e6


def fitted(family: Family, weights: Magnitudes) -> Fitted:
    [moments] = log_moments(Stack.of([weights]))
    return fit(CANDIDATE[family], prepared(weights), np.array([moments.log_mean]), np.array([moments.log_sigma]))


def drawn(law: object, dtype: Dtype, *, seed: int, count: int, wider: float = 1.0) -> Magnitudes:
    return stored(wider * law.rvs((1, count), random_state=seed), dtype)


def stored(values: np.ndarray, dtype: Dtype) -> Magnitudes:
    return sketch_of(encoded(values, dtype), dtype).histogram.magnitudes


# ---- probabilities of intervals

# How far the logarithm of a probability may be off, by how small that probability is. What a likelihood feels is the
# mean over the weights.
TOLERANCES = ((1e-2, 3e-5), (1e-4, 1e-3), (1e-6, 6e-3), (1e-9, 6e-2))
ON_AVERAGE = 3e-7
FORMATS = [
    (Dtype.F32, 1.0),
    (Dtype.BF16, 0.02),
    (Dtype.F16, 1.0),
    (Dtype.F16, 1e-3),
    (Dtype.F16, 1e-5),  # most weights are subnormal, and half of them in one interval 5.5 nats wide
    (Dtype.F8_E4M3, 1.0),
    (Dtype.F8_E4M3, 0.02),
    (Dtype.F8_E5M2, 1e-4),
    (Dtype.F8_E8M0, 1.0),
    (Dtype.F4, 1.0),
]


@pytest.mark.parametrize("candidate", ENDLESS, ids=by_name)
@pytest.mark.parametrize(("dtype", "scale"), FORMATS)
def test_the_probability_of_an_interval_is_scipys(candidate: Candidate, dtype: Dtype, scale: float) -> None:
    at, shape = every_interval(dtype), SHAPES.get(candidate.family, 1.0)
    exact = exact_probabilities(at, grid_of(dtype, low_bits_of(dtype)), candidate.family, scale, shape)
    with np.errstate(over="ignore", divide="ignore"):
        found = log_probabilities(candidate, at, np.log([scale]), np.log([shape]))
    for least, tolerance in TOLERANCES:
        likely = exact > least
        assert np.abs(found[likely] - np.log(exact[likely])).max(initial=0) < tolerance
    occurring = exact > 0
    surplus = exact[occurring] * (np.log(exact[occurring]) - found[occurring])
    assert abs(surplus.sum()) < ON_AVERAGE


@pytest.mark.parametrize("candidate", ENDLESS, ids=by_name)
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F8_E4M3, Dtype.F8_E5M2])
@settings(max_examples=15, deadline=None)
@given(log_scale=st.floats(-3, 3), bend=st.floats(-0.7, 0.7))
def test_the_probabilities_add_up_to_one(candidate: Candidate, dtype: Dtype, log_scale: float, bend: float) -> None:
    shape = SHAPES.get(candidate.family, 1.0) * math.exp(bend)
    with np.errstate(over="ignore", divide="ignore"):
        found = log_probabilities(candidate, every_interval(dtype), np.array([log_scale]), np.log([shape]))
    law = magnitude_law(candidate.family, math.exp(log_scale), shape)
    greatest = np.exp(every_interval(dtype).counted.log_upper[-1])
    beyond = law.sf(greatest) / law.sf(smallest(grid_of(dtype, 0)))
    assert np.exp(found).sum() == pytest.approx(1 - beyond, abs=1e-5)


def test_two_nodes_err_by_what_their_comment_says() -> None:
    # A density exp(k x) changes by exp(k h) over an interval h wide: the exact mean is sinh(k h/2)/(k h/2).
    node, weight = np.polynomial.legendre.leggauss(2)
    for change, error in ((1.25, 1e-6), (math.e, 2.4e-4)):
        half = math.log(change) / 2
        assert abs(math.log((weight * np.exp(half * node)).sum() / 2 / (math.sinh(half) / half))) < error


# ---- the fit is a maximum


DRAWS = [
    (Family.GAUSSIAN, stats.norm(scale=0.02)),
    (Family.LAPLACE, stats.laplace(scale=0.02)),
    (Family.LOGNORMAL, stats.lognorm(1.1, scale=0.02)),
    (Family.WEIBULL, stats.weibull_min(1.4, scale=0.02)),
    (Family.GAMMA, stats.gamma(2.2, scale=0.02)),
    (Family.GENERALISED_NORMAL, stats.gennorm(1.4, scale=0.02)),
    (Family.STUDENT_T, stats.t(4, scale=0.02)),
]


# Of logarithms of parameters, of scipy's log-likelihood per weight there, and of the one that is given for it.
# Lognormal weights reach far into the tail of a Gaussian, where two nodes give ln P to a few per cent.
OWN_WEIGHTS, MISFIT, FAR_OUT = (2e-5, 1e-10, 1e-6), (2e-4, 1e-8, 2e-5), (4e-3, 1e-5, 2e-3)


@pytest.mark.parametrize("misfit", [False, True], ids=["its own weights", "weights of another law"])
@pytest.mark.parametrize(("dtype", "wider"), [(Dtype.BF16, 1), (Dtype.F8_E4M3, 20)])
@pytest.mark.parametrize(("family", "law"), DRAWS, ids=[family for family, _ in DRAWS])
def test_the_fit_is_where_a_search_of_scipys_likelihood_ends(
    family: Family, law: object, dtype: Dtype, *, wider: int, misfit: bool
) -> None:
    law = stats.lognorm(0.9, scale=0.015) if misfit else law
    weights = drawn(law, dtype, seed=3, count=4_000, wider=wider)
    at, found = prepared(weights), fitted(family, weights)
    here = np.log([found.scales[0], found.shapes[0]][: CANDIDATE[family].parameters])

    def of_scipy(parameters: np.ndarray) -> float:
        return surprise(at, weights.grid, family, *np.exp(parameters))

    searched = optimize.minimize(of_scipy, here + 0.1, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-11})
    parameters, at_maximum, stated = OWN_WEIGHTS if not misfit else FAR_OUT if family is Family.GAUSSIAN else MISFIT
    assert here == pytest.approx(searched.x, abs=parameters)
    assert of_scipy(here) == pytest.approx(searched.fun, abs=at_maximum)
    assert -(at.counted.shares * found.log_probabilities).sum() == pytest.approx(searched.fun, abs=stated)


@pytest.mark.parametrize(
    ("family", "law", "scipys"),
    [
        (Family.GAUSSIAN, stats.norm(scale=0.3), lambda w: (math.sqrt((w**2).mean()), 1)),
        (Family.LAPLACE, stats.laplace(scale=0.3), lambda w: (w.mean(), 1)),
        (Family.LOGNORMAL, stats.lognorm(0.7), lambda w: (math.exp(np.log(w).mean()), np.log(w).std())),
        (Family.WEIBULL, stats.weibull_min(1.7), lambda w: stats.weibull_min.fit(w, floc=0)[::-2]),
        (Family.GAMMA, stats.gamma(2.5), lambda w: stats.gamma.fit(w, floc=0)[::-2]),
        (Family.GENERALISED_NORMAL, stats.gennorm(1.4), lambda w: stats.halfgennorm.fit(w, floc=0)[::-2]),
        (Family.STUDENT_T, stats.t(4), lambda w: stats.t.fit(np.concatenate([w, -w]), floc=0)[::-2]),
    ],
    ids=lambda value: value if isinstance(value, Family) else "",
)
def test_the_fit_to_float32_weights_is_scipys_fit_to_the_numbers_themselves(
    family: Family, law: object, scipys: object
) -> None:
    values = law.rvs((1, 20_000), random_state=7)
    found = fitted(family, stored(values, Dtype.F32))
    scale, shape = scipys(np.abs(values[0]))
    # An eighth of an octave tells where a weight is to 2.5 %; over 20,000 weights that is 2e-4, and a little more for
    # shapes, which the tails decide.
    assert found.scales[0] == pytest.approx(scale, rel=4e-3)
    assert found.shapes[0] == pytest.approx(shape, rel=2e-2)


# ---- laws that end


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=4, max_size=30))
def test_the_end_of_a_uniform_law_has_a_closed_form(tallies: list[int]) -> None:
    grid = grid_of(Dtype.BF16, 0)
    codes = np.arange(0x3F00, 0x3F00 + 16 * len(tallies), 16)
    weights = Magnitudes(grid=grid, codes=codes, tallies=np.array(tallies))
    at, found = prepared(weights), fitted(Family.UNIFORM, weights)
    lower, upper = np.exp(at.counted.log_lower), np.exp(at.counted.log_upper)
    share = tallies[-1] / sum(tallies)
    # d/d(end) of n_last ln(end - start) - n ln(end) is 0 at start/(1 - share); the law cannot end beyond the interval.
    end = min(lower[-1] / (1 - share), upper[-1])
    exact = (np.minimum(upper, end) - lower) / end
    assert found.scales[0] == pytest.approx(end, rel=1e-7)
    assert found.shapes[0] == 1
    np.testing.assert_allclose(np.exp(found.log_probabilities), exact, rtol=1e-6)


@pytest.mark.parametrize("cut", [0.7, 2.0, 3.0])
@pytest.mark.parametrize("clipped", [False, True], ids=["cut", "clipped"])
@pytest.mark.parametrize(("dtype", "scale"), [(Dtype.BF16, 0.02), (Dtype.F8_E4M3, 1.0)])
def test_a_truncated_gaussian_is_where_a_search_of_its_end_and_width_ends(
    dtype: Dtype, scale: float, cut: float, *, clipped: bool
) -> None:
    normal = stats.norm.rvs(size=(1, 20_000), random_state=11)
    values = scale * (np.clip(normal, -cut, cut) if clipped else stats.truncnorm.ppf(stats.norm.cdf(normal), -cut, cut))
    weights = stored(values, dtype)
    at, found = prepared(weights), fitted(Family.TRUNCATED_GAUSSIAN, weights)
    start, stop = at.counted.log_lower[-1], at.counted.log_upper[-1]

    def unpacked(parameters: np.ndarray) -> tuple[float, float]:
        """An end within the last interval, and a cut within the family's bounds."""
        end = start + (stop - start) / (1 + math.exp(-parameters[0]))
        return math.exp(end), math.exp(np.clip(parameters[1], *np.log(CUTS)))

    def of_scipy(parameters: np.ndarray) -> float:
        return surprise(at, weights.grid, Family.TRUNCATED_GAUSSIAN, *unpacked(parameters))

    options = {"xatol": 1e-6, "fatol": 1e-12}
    from_each = [
        optimize.minimize(of_scipy, [place, math.log(cut)], method="Nelder-Mead", options=options) for place in (0, 12)
    ]
    best = min(from_each, key=lambda each: each.fun)
    assert -(at.counted.shares * found.log_probabilities).sum() == pytest.approx(best.fun, abs=1e-5)
    assert math.exp(start) < found.scales[0] <= math.exp(stop) * (1 + 1e-12)
    # The width, cut over shape, is known far better than the end.
    end, shape = unpacked(best.x)
    if shape > 2 * CUTS[0]:
        assert found.scales[0] / found.shapes[0] == pytest.approx(end / shape, rel=2e-3)


def test_clipped_weights_are_not_explained_by_a_law_that_ends() -> None:
    normal = stats.norm.rvs(size=(1, 50_000), random_state=12)
    end = 1.99  # near the end of an interval, beyond which nothing can be said to lie
    left = []
    for values in (stats.truncnorm.ppf(stats.norm.cdf(normal), -end, end), np.clip(normal, -end, end)):
        weights = stored(values, Dtype.BF16)
        shares, found = prepared(weights).counted.shares, fitted(Family.TRUNCATED_GAUSSIAN, weights)
        left.append((shares * (np.log(shares) - found.log_probabilities)).sum())
    assert left[0] < 0.002
    assert left[1] > 0.02
