"""The intra-class correlation against the published table, an analysis of variance and simulation."""

import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.icc import icc

# Shrout & Fleiss 1979, table 2: six targets, each rated by four judges; their ICC(1,1) is .17.
RATINGS = np.array([(9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7)], dtype=float)


def test_the_table_of_shrout_and_fleiss_gives_their_number() -> None:
    assert icc(RATINGS.reshape(-1), np.repeat(np.arange(6), 4)) == pytest.approx(0.17, abs=0.005)


def test_the_order_of_values_and_the_numbers_of_groups_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    order = rng.permutation(24)
    groups = np.array([17, -3, 0, 99, 5, 1])[np.repeat(np.arange(6), 4)]
    shuffled = icc(RATINGS.reshape(-1)[order], groups[order])
    assert shuffled == pytest.approx(icc(RATINGS.reshape(-1), np.repeat(np.arange(6), 4)), rel=1e-12)


def test_groups_of_unequal_size_give_what_the_f_ratio_implies() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(5), [2, 9, 1, 4, 14])
    values = rng.normal(size=30) + rng.normal(size=5)[groups]
    ratio = stats.f_oneway(*[values[groups == group] for group in range(5)]).statistic
    typical_size = (30 - (4 + 81 + 1 + 16 + 196) / 30) / 4
    assert icc(values, groups) == pytest.approx((ratio - 1) / (ratio + typical_size - 1), rel=1e-12)


def test_it_is_the_share_of_variance_between_groups() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(2000), 3)
    values = rng.normal(0, 1, 6000) + rng.normal(0, 2, 2000)[groups]
    assert icc(values, groups) == pytest.approx(4 / 5, abs=0.03)


def test_it_is_negative_when_groups_are_less_alike_than_strangers() -> None:
    assert icc(np.array([-1.0, 1.0] * 5), np.repeat(np.arange(5), 2)) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("values", "groups", "reason"),
    [
        ([], [], "fewer than two groups"),
        ([1.0, 2.0, 3.0], [4, 4, 4], "fewer than two groups"),
        ([1.0, 2.0, 3.0], [0, 1, 2], "no group has two members"),
        ([2.0, 2.0, 2.0], [0, 0, 1], "every value is the same"),
    ],
)
def test_no_correlation_says_why(values: list[float], groups: list[int], reason: str) -> None:
    assert icc(np.array(values), np.array(groups, dtype=np.int64)) == NotFitted(reason)
