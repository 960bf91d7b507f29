"""The rulers against quadrature of scipy's laws, and the closed forms where there are any."""

import math
from dataclasses import fields
from typing import Any

import pytest
from scipy import special, stats

from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMoments
from jaynes_audit.analyzers.distributions.rulers import GAUSSIAN, RULERS, Ruler
from tests.support.families import distances

LAWS = {
    "Gaussian": stats.norm(),
    "Gaussian cut at 2 sd": stats.truncnorm(-2, 2),
    "uniform": stats.uniform(-1, 2),
    "Laplace": stats.laplace(),
    "Student t10": stats.t(10),
    "Student t5": stats.t(5),
    "Student t3": stats.t(3),
    "generalised normal 1.5": stats.gennorm(1.5),
    "generalised normal 0.5": stats.gennorm(0.5),
}
NUMBERS = [field.name for field in fields(Ruler) if field.name != "family"]


@pytest.mark.parametrize("ruler", RULERS, ids=lambda ruler: ruler.family)
def test_every_number_of_a_ruler_is_right_to_six_digits(ruler: Ruler) -> None:
    exact = distances(LAWS[ruler.family])
    assert {name: getattr(ruler, name) for name in NUMBERS} == pytest.approx(
        {name: getattr(exact, name) for name in NUMBERS}, abs=1.01e-6
    )


def test_every_law_has_one_ruler() -> None:
    assert [ruler.family for ruler in RULERS] == list(LAWS)
    assert RULERS[0] is GAUSSIAN


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_ruler_does_not_depend_on_the_scale(law: Any) -> None:
    wide = type(law.dist)()(*law.args, scale=0.02) if law.dist.name != "uniform" else stats.uniform(-0.02, 0.04)
    here, there = distances(law), distances(wide)
    assert [getattr(there, name) for name in NUMBERS] == pytest.approx(
        [getattr(here, name) for name in NUMBERS], abs=1e-5
    )


def test_a_ruler_names_its_distances_as_a_fit_does() -> None:
    of_fit = {field.name for fitted in (LognormalFit, LogMoments) for field in fields(fitted)}
    assert set(NUMBERS) <= of_fit


def test_the_quadrature_agrees_with_closed_forms() -> None:
    second, third, fourth = (special.polygamma(order, 0.5) / 2 ** (order + 1) for order in (1, 2, 3))
    gaussian, uniform = distances(LAWS["Gaussian"]), distances(LAWS["uniform"])
    assert gaussian.log_sigma == pytest.approx(math.sqrt(second), rel=1e-9)
    assert gaussian.skewness == pytest.approx(third / second**1.5, rel=1e-9)
    assert gaussian.excess_kurtosis == pytest.approx(fourth / second**2, rel=1e-9)
    # The entropy of ln|w| is ln(pi/2)/2 + 1/2 - mean of ln|w|; that of a normal law has only sigma in it.
    entropy = math.log(math.pi / 2) / 2 + 0.5 - gaussian.log_mean
    assert gaussian.divergence == pytest.approx(stats.norm.entropy(scale=gaussian.log_sigma) - entropy, abs=1e-9)
    # -ln|w| is exponential: entropy 1, and the greatest gap is where it ends.
    assert uniform.divergence == pytest.approx(stats.norm.entropy() - 1, abs=1e-9)
    assert uniform.ks_distance == pytest.approx(1 - stats.norm.cdf(1), abs=1e-9)
