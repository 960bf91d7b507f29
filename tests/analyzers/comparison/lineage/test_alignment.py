"""Alignment against closed forms, and against the published formulas written out pair by pair."""

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.comparison.lineage.alignment import (
    alignments,
    gram,
    mutual_neighbours,
    nearest,
    relabelled,
    relabelled_within,
    u_centred,
)

Points = npt.NDArray[np.float32]
K = 10
ROWS = 1200
COLUMNS = 128


def points(seed: int, rows: int = ROWS, columns: int = COLUMNS) -> Points:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


def products(of: Points) -> Points:
    return gram(iter([of]))


def rotated(of: Points) -> Points:
    rotation, _ = np.linalg.qr(np.random.default_rng(99).standard_normal((of.shape[1], of.shape[1])))
    return (of @ rotation).astype(np.float32)


def neighbours(
    a: Points, b: Points, relabellings: list[npt.NDArray[np.int64]] | None = None
) -> npt.NDArray[np.float64]:
    names = relabellings or [np.arange(len(a))]
    return mutual_neighbours(nearest(products(a), K), nearest(products(b), K), names)


def cka(a: Points, b: Points, relabellings: list[npt.NDArray[np.int64]] | None = None) -> npt.NDArray[np.float64]:
    return alignments(u_centred(products(a)), u_centred(products(b)), relabellings or [np.arange(len(a))])


def biased_cka(a: Points, b: Points) -> float:
    """Kornblith et al. 2019, equation 2."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return float(np.linalg.norm(a.T @ b) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b))


def unbiased_hsic(a: Points, b: Points) -> float:
    """Song et al. 2012, equation 5, term by term."""
    rows = len(a)
    k, l = (x.astype(np.float64) @ x.T.astype(np.float64) for x in (a, b))  # noqa: E741 - the paper's letters
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    ones = np.ones(rows)
    whole = (ones @ k @ ones) * (ones @ l @ ones) / ((rows - 1) * (rows - 2))
    return float((np.trace(k @ l) + whole - 2 / (rows - 2) * (ones @ k @ l @ ones)) / (rows * (rows - 3)))


def test_bands_of_columns_give_the_inner_products_of_whole_rows() -> None:
    whole = points(0, 50, 40)
    np.testing.assert_allclose(gram(iter([whole[:, :7], whole[:, 7:]])), whole @ whole.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(20, 3), (150, 8)])
def test_the_nearest_are_those_a_sort_of_all_cosines_gives(rows: int, columns: int) -> None:
    of = points(1, rows, columns)
    unit = of / np.linalg.norm(of, axis=1, keepdims=True)
    for row, chosen in enumerate(nearest(products(of), K)):
        cosines = unit @ unit[row]
        cosines[row] = -2
        assert set(chosen) == set(np.argsort(-cosines)[:K])


def test_mutual_neighbours_are_the_shared_ones_of_each_row_counted_by_hand() -> None:
    a, b = (nearest(products(points(seed, 60, 5)), K) for seed in (2, 3))
    by_hand = np.mean([len(set(near_a) & set(near_b)) / K for near_a, near_b in zip(a, b, strict=True)])
    assert mutual_neighbours(a, b, [np.arange(60)]) == pytest.approx([by_hand])


def test_the_cosine_of_centred_products_is_the_unbiased_cka_of_its_formula() -> None:
    a = points(4, 70, 6)
    b = np.tanh(a[:, :4]) + points(5, 70, 4) + 3
    direct = unbiased_hsic(a, b) / np.sqrt(unbiased_hsic(a, a) * unbiased_hsic(b, b))
    assert cka(a, b) == pytest.approx([direct], abs=1e-5)


def test_relabelling_is_the_same_as_to_permute_the_rows() -> None:
    a, b = points(6, 80, 6), points(6, 80, 6) + points(7, 80, 6)
    names = relabelled(80, 1, np.random.default_rng(0))[0]
    permuted = np.empty_like(b)
    permuted[names] = b  # row i is now called names[i]
    assert neighbours(a, b, [names]) == pytest.approx(neighbours(a, permuted))
    assert cka(a, b, [names]) == pytest.approx(cka(a, permuted), abs=1e-5)


def test_rows_exchanged_within_bins_stay_in_their_bin() -> None:
    order = np.random.default_rng(1).permutation(250)
    (names,) = relabelled_within(order, 100, 1, np.random.default_rng(2))
    assert sorted(names) == list(range(250))
    assert not np.array_equal(names, np.arange(250))
    for top in range(0, 250, 100):
        members = order[top : top + 100]
        assert set(names[members]) == set(members)


# ---- closed forms


def test_independent_points_score_what_chance_gives() -> None:
    a, b = points(10), points(11, columns=96)
    spread = 1.5 / ROWS  # of the share of neighbours, under permutation
    assert abs(neighbours(a, b)[0] - K / (ROWS - 1)) < 4 * spread
    assert abs(cka(a, b)[0]) < 0.01
    assert biased_cka(a, b) > 0.05, "the biased one would have been fooled by as many columns as this"


def test_a_permutation_of_the_rows_gives_chance_exactly_in_the_mean() -> None:
    a = points(12)
    drawn = neighbours(a, rotated(a), relabelled(ROWS, 200, np.random.default_rng(3)))
    assert drawn.mean() == pytest.approx(K / (ROWS - 1), abs=3 * drawn.std() / np.sqrt(drawn.size))


def test_shared_row_norms_alone_do_not_fool_the_unbiased_cka() -> None:
    norms = np.exp(0.7 * points(13, columns=1))
    a, b = points(14) * norms, points(15) * norms
    assert biased_cka(a, b) > 0.25
    assert abs(cka(a, b)[0]) < 0.02


def test_a_common_mean_changes_nothing() -> None:
    assert abs(cka(points(16) + 2, points(17) + 2)[0]) < 0.01


def test_a_rotation_scores_one() -> None:
    a = points(18)
    assert neighbours(a, rotated(a)) == pytest.approx([1], abs=1e-3)  # rounding may swap two equally near
    assert cka(a, rotated(a)) == pytest.approx([1], abs=1e-5)


@pytest.mark.parametrize("noise", [0.5, 1, 2])
def test_a_rotation_with_noise_scores_one_over_one_plus_its_variance(noise: float) -> None:
    """Off the diagonal Cov(x.x', y.y') = d and Var(y.y') = d (1 + noise^2)^2, for y = Qx + noise z."""
    a = points(19)
    b = rotated(a) + np.float32(noise) * points(20)
    assert cka(a, b) == pytest.approx([1 / (1 + noise**2)], abs=0.02)
    near = neighbours(a, b)[0]
    assert K / (ROWS - 1) < near < 1


def test_one_shared_factor_fools_cka_and_the_matched_null_shows_it() -> None:
    factor = np.sort(points(21, columns=1), axis=0)  # rows in its order, as tokens are in that of their frequency
    a, b = points(22) + 3 * factor, points(23) + 3 * factor
    within = relabelled_within(np.arange(ROWS), 100, 10, np.random.default_rng(4))
    anywhere = relabelled(ROWS, 10, np.random.default_rng(5))
    assert cka(a, b)[0] > 0.99
    assert cka(a, b, within).min() > 0.9
    assert np.abs(cka(a, b, anywhere)).max() < 0.05
    assert neighbours(a, b)[0] > neighbours(a, b, within).max() > 3 * neighbours(a, b, anywhere).mean()


def test_points_that_are_all_the_same_score_zero() -> None:
    same = np.ones((30, 4), np.float32)
    assert cka(same, points(24, 30, 4)) == [0]
