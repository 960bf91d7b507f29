"""The nine families against scipy's densities, and their starting points against polygamma functions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from jaynes_audit.analyzers.distributions.candidates import CANDIDATES, CUTS, FREEDOMS, Candidate, Family, log_gamma
from tests.support.families import magnitude_law

CANDIDATE = {candidate.family: candidate for candidate in CANDIDATES}
SHAPED = [candidate for candidate in CANDIDATES if candidate.shapes != (1.0, 1.0)]
STARTED_BY_SHAPE = [candidate for candidate in SHAPED if candidate.family is not Family.TRUNCATED_GAUSSIAN]


TABLED = [candidate for candidate in STARTED_BY_SHAPE if candidate.family is not Family.LOGNORMAL]


def by_name(candidate: Candidate) -> str:
    return candidate.family


def log_density(candidate: Candidate, u: np.ndarray, shape: float) -> np.ndarray:
    shapes = np.array([shape])
    return candidate.log_height(shapes) + candidate.log_form(u, shapes)


def exact_log_moments(family: Family, shape: float) -> tuple[float, float]:
    """Mean and variance of ln|w| at scale 1: second-kind statistics (Nicolas 2002)."""
    half_normal = -(np.euler_gamma + math.log(2)) / 2
    return {
        Family.GAUSSIAN: lambda: (half_normal, math.pi**2 / 8),
        Family.LAPLACE: lambda: (-np.euler_gamma, math.pi**2 / 6),
        Family.LOGNORMAL: lambda: (0.0, shape**2),
        Family.WEIBULL: lambda: (-np.euler_gamma / shape, math.pi**2 / 6 / shape**2),
        Family.GAMMA: lambda: (special.psi(shape), special.polygamma(1, shape)),
        Family.GENERALISED_NORMAL: lambda: (
            special.psi(1 / shape) / shape,
            special.polygamma(1, 1 / shape) / shape**2,
        ),
        Family.STUDENT_T: lambda: (
            math.log(shape) / 2 + (special.psi(0.5) - special.psi(shape / 2)) / 2,
            (special.polygamma(1, 0.5) + special.polygamma(1, shape / 2)) / 4,
        ),
    }[family]()


# ---- densities


@pytest.mark.parametrize("candidate", CANDIDATES, ids=by_name)
@settings(max_examples=60, deadline=None)
@given(part=st.floats(0, 1), log_scale=st.floats(-70, 70), u=st.floats(-30, 8))
def test_the_density_of_the_logarithm_is_scipys(candidate: Candidate, part: float, log_scale: float, u: float) -> None:
    least, greatest = candidate.shapes
    shape = least * (greatest / least) ** part
    if candidate.ends:
        u = -abs(u) - 1e-9  # at the end itself rounding decides
    weight = math.exp(log_scale + u)
    u = math.log(weight) - log_scale
    with np.errstate(over="ignore", under="ignore"):
        found = log_density(candidate, np.array([u]), shape)[0]
        exact = magnitude_law(candidate.family, math.exp(log_scale), shape).logpdf(weight) + math.log(weight)
    # ln|w| is known to 1e-14, and the density may be as steep as its own logarithm is large.
    assert found == pytest.approx(exact, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=by_name)
def test_the_density_of_the_logarithm_has_an_area_of_one(candidate: Candidate) -> None:
    shape = 2.5 if candidate.family in {each.family for each in SHAPED} else 1.0
    area, _ = integrate.quad(
        lambda u: math.exp(log_density(candidate, np.array([u]), shape)[0]), -60, 0 if candidate.ends else 12, limit=200
    )
    assert area == pytest.approx(1 if candidate.family is not Family.LOGNORMAL else special.ndtr(12 / 2.5), abs=1e-8)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=by_name)
def test_parameters_that_broadcast_give_what_each_gives_alone(candidate: Candidate) -> None:
    u, shapes = np.linspace(-4, 0, 6).reshape(2, 3), np.clip([0.8, 1.4, 2.0], *candidate.shapes)
    together = candidate.log_height(shapes) + candidate.log_form(u, shapes)
    for column, shape in enumerate(shapes):
        np.testing.assert_array_equal(together[:, column], log_density(candidate, u[:, column], shape))


@given(st.floats(1e-3, 1e4))
def test_log_gamma_is_scipys(value: float) -> None:
    assert log_gamma(np.array([[value]]))[0, 0] == pytest.approx(special.gammaln(value), rel=1e-12, abs=1e-12)


# ---- starting points


@pytest.mark.parametrize("candidate", STARTED_BY_SHAPE, ids=by_name)
@given(part=st.floats(0, 1), log_scale=st.floats(-70, 70))
def test_a_search_starts_where_mean_and_variance_are_the_layers(
    candidate: Candidate, part: float, log_scale: float
) -> None:
    least, greatest = candidate.shapes
    mean, variance = exact_log_moments(candidate.family, least * (greatest / least) ** part)
    log_scales, log_shapes = candidate.start(np.array([log_scale + mean]), np.sqrt([variance]))
    found_mean, found_variance = exact_log_moments(candidate.family, math.exp(log_shapes[0]))
    assert found_variance == pytest.approx(variance, rel=1e-3)
    assert log_scales[0] + found_mean == pytest.approx(log_scale + mean, abs=1e-3 * (1 + abs(mean)))


@pytest.mark.parametrize("family", [Family.GAUSSIAN, Family.LAPLACE])
def test_a_search_for_a_scale_alone_starts_where_the_mean_is_the_layers(family: Family) -> None:
    mean, _ = exact_log_moments(family, 1.0)
    log_scales, log_shapes = CANDIDATE[family].start(np.array([mean, mean - 3.5]), np.array([1.0, 2.0]))
    assert log_scales == pytest.approx([0, -3.5], abs=1e-12)
    assert log_shapes.tolist() == [0, 0]


def test_a_truncated_gaussian_starts_as_the_gaussian_that_has_the_mean() -> None:
    # The unit of weights is the end: the cut in standard deviations is one over the Gaussian's own.
    _, log_cuts = CANDIDATE[Family.TRUNCATED_GAUSSIAN].start(np.array([-2.0]), np.array([1.1]))
    log_scales, _ = CANDIDATE[Family.GAUSSIAN].start(np.array([-2.0]), np.array([1.1]))
    assert log_cuts[0] == -log_scales[0]


@pytest.mark.parametrize("candidate", TABLED, ids=by_name)
def test_a_variance_that_no_shape_has_starts_at_the_nearest_shape(candidate: Candidate) -> None:
    _, log_shapes = candidate.start(np.array([0.0, 0.0]), np.array([1e3, 1e-3]))
    assert np.exp(log_shapes) == pytest.approx(candidate.shapes)


# ---- bounds


def test_at_their_bounds_the_supple_families_are_the_simple_ones() -> None:
    # A t of 200 degrees has variance 200/198, and so has the Gaussian nearest to it.
    student = magnitude_law(Family.STUDENT_T, 1.0, FREEDOMS[1])
    normal = magnitude_law(Family.GAUSSIAN, math.sqrt(FREEDOMS[1] / (FREEDOMS[1] - 2)))
    cut = magnitude_law(Family.TRUNCATED_GAUSSIAN, 1.0, CUTS[0])

    def surplus(w: float) -> float:
        return math.exp(student.logpdf(w)) * (student.logpdf(w) - normal.logpdf(w))

    assert integrate.quad(surplus, 0, 30)[0] < 2e-5
    assert integrate.quad(lambda w: math.exp(cut.logpdf(w)) * cut.logpdf(w), 0, 1)[0] < 1e-7


def test_every_family_competes_once_and_the_simplest_come_first() -> None:
    assert sorted(candidate.family for candidate in CANDIDATES) == sorted(Family)
    numbers = [candidate.parameters for candidate in CANDIDATES]
    assert numbers == sorted(numbers)
    for candidate in CANDIDATES:
        assert candidate.parameters == 1 + (candidate in SHAPED)
