"""How close distributions have to be to tell of a common origin, held against samples of scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.comparison.distances import distances
from jaynes_audit.analyzers.comparison.lineage.closeness import (
    LEAST_MATRICES,
    LOW_OF_SAMPLES,
    MIDDLE_OF_SAMPLES,
    closeness_score,
)
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.comparison.side_by_side import LayerComparison
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.roles import Role
from tests.support import comparisons
from tests.support.weights import encoded, sketch_of

HASHES_ONLY = NotFitted("not compared")


def pairs(*ks: float, rows: int = 512, **other: object) -> list[LayerComparison]:
    return [
        comparisons.layer(
            f"{number}",
            HASHES_ONLY,
            a=comparisons.subject(f"{number}", rows=rows, **other),
            distances=comparisons.distances(each),
        )
        for number, each in enumerate(ks)
    ]


def score(layers: list[LayerComparison]) -> Score:
    found = closeness_score(layers)
    assert isinstance(found, Score)
    return found


def test_the_null_is_kolmogorovs_distribution() -> None:
    assert stats.kstwobign.ppf(0.5) == pytest.approx(MIDDLE_OF_SAMPLES, abs=1e-5)
    assert stats.kstwobign.ppf(0.05) == pytest.approx(LOW_OF_SAMPLES, abs=1e-5)
    found = score(pairs(*[0.1] * LEAST_MATRICES))
    assert found.unrelated == found.twins
    assert (found.unrelated.middle, found.unrelated.high) == pytest.approx((0, 0.3721), abs=1e-4)


def test_equal_distributions_score_one() -> None:
    assert score(pairs(*[0.0] * LEAST_MATRICES)).value == 1


def test_the_score_is_that_of_the_middle_matrix() -> None:
    root_of_size = math.sqrt(512 * 128 / 2)
    found = score(pairs(0.001, 0.002, 0.003, 0.9, 0.9))
    assert found.value == pytest.approx(1 - 0.003 * root_of_size / MIDDLE_OF_SAMPLES)
    assert found.compared == "5 matrices"


@pytest.mark.parametrize("same", [True, False], ids=["one law", "a small change"])
def test_independent_layers_of_one_law_score_near_zero_and_versions_near_one(same: bool) -> None:  # noqa: FBT001 - a case
    rng, layers = np.random.default_rng(5), []
    for number in range(24):
        a, b = rng.normal(0, 0.02, (2, 128, 128))
        if not same:
            b = a * (1 + 1e-4 * rng.standard_normal(a.shape))
        of_a, of_b = (sketch_of(encoded(values, Dtype.F32), Dtype.F32).histogram for values in (a, b))
        described = comparisons.subject(f"{number}", rows=128)
        layers.append(comparisons.layer(f"{number}", HASHES_ONLY, a=described, distances=distances(of_a, of_b)))
    found = score(layers)
    if same:
        assert abs(found.value) < found.unrelated.high
    else:
        assert found.value > 0.9


def test_too_few_matrices_give_no_score() -> None:
    assert isinstance(closeness_score(pairs(*[0.0] * (LEAST_MATRICES - 1))), NotFitted)


def test_vectors_ends_and_unlike_formats_are_left_out() -> None:
    others = [
        *pairs(*[0.0] * 9, role=Role.EMBEDDING),
        *pairs(*[0.0] * 9, role=Role.NORM),
        *(
            comparisons.layer(
                "c",
                HASHES_ONLY,
                a=comparisons.subject("c"),
                b=comparisons.subject("c", dtype="BF16"),
                distances=comparisons.distances(0.0),
            )
            for _ in range(9)
        ),
        *(comparisons.layer("d", HASHES_ONLY) for _ in range(9)),
    ]
    assert isinstance(closeness_score(others), NotFitted)
    assert score([*others, *pairs(*[0.5] * LEAST_MATRICES)]).value < 0
