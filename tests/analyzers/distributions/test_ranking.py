"""The winner among the families against scipy's likelihoods, and on weights that nobody would expect."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaynes_audit.analyzers.distributions.candidates import CANDIDATES
from jaynes_audit.analyzers.distributions.candidates import Family as Name
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import (
    INTERVALS_PER_OCTAVE,
    PARAMETERS,
    SIMPLICITY_NATS,
    TIE_NATS,
    CandidateFit,
    Ranking,
    _cut_skewness,
    _ranking,
    rank,
)
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.grid import cells, grid_of
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from tests.support.families import FAMILIES, FULL_FLOAT32, Family, expected_histogram, magnitude_law
from tests.support.weights import encoded, sketch_of

INFINITELY_MANY = 10**15
FORMATS = (Dtype.F32, Dtype.BF16, Dtype.F16, Dtype.F8_E4M3)
OF_NAME = {family.name: family for family in FAMILIES}

# The family of each law, its scale and its shape.
WINNERS = {
    "Normal": (Name.GAUSSIAN, 1, 1),
    "Uniform": (Name.UNIFORM, 1, 1),
    "Laplace": (Name.LAPLACE, 1, 1),
    "Student t3": (Name.STUDENT_T, 1, 3),
    "Student t5": (Name.STUDENT_T, 1, 5),
    "Student t10": (Name.STUDENT_T, 1, 10),
    "Normal cut at 2 sd": (Name.TRUNCATED_GAUSSIAN, 2, 2),
    "generalised normal 1.5": (Name.GENERALISED_NORMAL, 1, 1.5),
    "generalised normal 0.5": (Name.GENERALISED_NORMAL, 1, 0.5),
    "Weibull 1.7": (Name.WEIBULL, 1, 1.7),
    "gamma 0.8": (Name.GAMMA, 1, 0.8),
    "lognormal": (Name.LOGNORMAL, math.exp(-4.2), 1.3),
}


def low_bits_of(dtype: Dtype) -> int:
    return FULL_FLOAT32 if dtype is Dtype.F32 else 0


def ranked(weights: Magnitudes) -> Ranking:
    [ranking] = rank([weights])
    assert isinstance(ranking, Ranking)
    return ranking


def stored(values: np.ndarray, dtype: Dtype) -> Magnitudes:
    return sketch_of(encoded(np.atleast_2d(values), dtype), dtype).histogram.magnitudes


def fit_of(ranking: Ranking, name: Name) -> CandidateFit:
    return next(each for each in ranking.candidates if each.family is name)


def infinitely_many(law: object, dtype: Dtype = Dtype.F32) -> Magnitudes:
    family = Family(name="", law=law, log_mean=0, log_variance=1, skewness=0, excess_kurtosis=0)
    return expected_histogram(family, dtype, low_bits_of(dtype), weights=INFINITELY_MANY).magnitudes


def lognormal_weights(seed: int = 1, count: int = 5_000) -> Magnitudes:
    return stored(np.random.default_rng(seed).lognormal(-4, 1, count), Dtype.BF16)


# ---- who wins


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_infinitely_many_weights_are_won_by_their_own_family(family: Family, dtype: Dtype) -> None:
    name, scale, shape = WINNERS[family.name]
    weights = expected_histogram(family, dtype, low_bits_of(dtype), weights=INFINITELY_MANY).magnitudes
    winner, tied_with = (ranking := ranked(weights)).winner, ranking.tied_with
    assert winner.family is name
    assert not tied_with
    assert abs(winner.divergence) < 1e-6
    # Where a law ends is known to a part of the last interval, its width to far more digits.
    within = 0.005 if name is Name.TRUNCATED_GAUSSIAN else 1e-4
    assert winner.scale == pytest.approx(scale, rel=within)
    assert winner.shape == pytest.approx(shape, rel=within)
    assert winner.scale / winner.shape == pytest.approx(scale / shape, rel=1e-4)


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F16, Dtype.F8_E4M3])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_hundred_thousand_weights_are_won_by_their_own_family(family: Family, dtype: Dtype) -> None:
    values = family.law.rvs(100_000, random_state=31)
    if dtype is Dtype.F8_E4M3 and family.name == "lognormal":
        values = values * 60  # or half of them would be rounded to zero
    assert ranked(stored(values, dtype)).winner.family is WINNERS[family.name][0]


@pytest.mark.parametrize(
    ("dtype", "sd"), [(Dtype.F16, 1e-3), (Dtype.F16, 3e-5), (Dtype.F16, 1e-5), (Dtype.BF16, 2e-38), (Dtype.F32, 2e-38)]
)
def test_gaussian_weights_are_told_among_subnormal_numbers(dtype: Dtype, sd: float) -> None:
    ranking = ranked(infinitely_many(stats.norm(scale=sd), dtype))
    assert ranking.winner.family is Name.GAUSSIAN
    # Of float16 the weights that are rounded to zero are allowed for; bfloat16 and float32 lose 0.2 % of these.
    assert ranking.winner.scale == pytest.approx(sd, rel=1e-5 if dtype is Dtype.F16 else 5e-3)
    assert abs(ranking.winner.divergence) < (1e-6 if dtype is Dtype.F16 else 2.5e-3)


@pytest.mark.parametrize(
    ("law", "simplest"),
    [
        (stats.t(200), Name.GAUSSIAN),
        (stats.gennorm(2), Name.GAUSSIAN),
        (stats.truncnorm(-4, 4), Name.GAUSSIAN),
        (stats.gennorm(1), Name.LAPLACE),
        (stats.weibull_min(1.02), Name.LAPLACE),
        (stats.gamma(0.98), Name.LAPLACE),
        (stats.truncnorm(-0.1, 0.1), Name.UNIFORM),
    ],
)
def test_of_nested_families_the_simplest_wins(law: object, simplest: Name) -> None:
    ranking = ranked(infinitely_many(law))
    assert ranking.winner.family is simplest
    assert not ranking.tied_with


def ranking_of(**nats: float) -> Ranking:
    """A ranking of families named in capitals, fitted so well."""
    parameters = {candidate.family: candidate.parameters for candidate in CANDIDATES}
    fits = [
        CandidateFit(
            family=Name[name],
            parameters=parameters[Name[name]],
            scale=1,
            shape=1,
            nats=each,
            divergence=0,
            bic=0,
            vuong_z=0,
        )
        for name, each in nats.items()
    ]
    return _ranking(fits, 0.0)


def test_a_second_parameter_must_earn_its_keep() -> None:
    assert ranking_of(GAUSSIAN=0.1, STUDENT_T=0.1 + 0.9 * SIMPLICITY_NATS).winner.family is Name.GAUSSIAN
    assert ranking_of(GAUSSIAN=0.1, STUDENT_T=0.1 + 1.1 * SIMPLICITY_NATS).winner.family is Name.STUDENT_T


def test_of_equally_simple_families_the_likeliest_wins() -> None:
    ranking = ranking_of(LOGNORMAL=0.0, GAMMA=0.002, WEIBULL=0.001)
    assert ranking.winner.family is Name.GAMMA
    assert [each.family for each in ranking.candidates] == [Name.GAMMA, Name.WEIBULL, Name.LOGNORMAL]


def test_equally_simple_families_that_fit_alike_are_a_tie() -> None:
    ranking = ranking_of(LOGNORMAL=0.0, GAMMA=0.1, WEIBULL=0.1 - 0.9 * TIE_NATS, STUDENT_T=0.1 - 1.1 * TIE_NATS)
    assert ranking.winner.family is Name.GAMMA
    assert ranking.tied_with == (Name.WEIBULL,)


def test_a_family_of_fewer_parameters_is_no_tie() -> None:
    assert not ranking_of(GAUSSIAN=0.1, STUDENT_T=0.1, TRUNCATED_GAUSSIAN=0.1).tied_with


def test_weights_of_two_neighbouring_laws_in_equal_parts_are_a_tie() -> None:
    grid = grid_of(Dtype.BF16, 0)
    codes = np.flatnonzero(~np.isnan(grid.value))
    ends = np.exp(grid.log_lower[codes]), np.exp(grid.log_upper[codes])
    laws = magnitude_law(Name.WEIBULL, 1.0, 0.85), magnitude_law(Name.GAMMA, 1.25, 0.8)
    tallies = np.rint(sum(law.share_between(*ends) for law in laws) * 10**12).astype(np.int64)
    ranking = ranked(Magnitudes(grid=grid, codes=codes[tallies > 0], tallies=tallies[tallies > 0]))
    assert {ranking.winner.family, *ranking.tied_with} == {Name.WEIBULL, Name.GAMMA}


# ---- the numbers of a candidate


@pytest.mark.parametrize(
    ("dtype", "law"),
    [
        (Dtype.F16, stats.norm(scale=0.02)),
        (Dtype.F16, stats.lognorm(1, scale=0.02)),
        (Dtype.F8_E4M3, stats.t(4)),
        (Dtype.F8_E4M3, stats.lognorm(1, scale=0.1)),
    ],
)
def test_the_numbers_of_a_candidate_are_what_scipys_distribution_functions_give(dtype: Dtype, law: object) -> None:
    weights = stored(law.rvs(20_000, random_state=33), dtype)
    ranking = ranked(weights)
    coarse = cells(weights.grid, INTERVALS_PER_OCTAVE)
    interval, where = np.unique(weights.codes >> coarse.shift, return_inverse=True)
    tallies = np.bincount(where, weights.tallies)
    n, shares = tallies.sum(), tallies / tallies.sum()
    ends = np.exp(coarse.log_lower[interval]), np.exp(coarse.log_upper[interval])
    smallest = np.exp(np.nanmin(weights.grid.log_lower))

    def log_probabilities(fit: CandidateFit) -> np.ndarray:
        exact = magnitude_law(fit.family, fit.scale, fit.shape)
        return np.log(exact.share_between(*ends) / exact.sf(np.array(smallest)))

    lognormal = log_probabilities(ranking.lognormal)
    entropy = -(shares * np.log(shares)).sum()
    for fit in ranking.candidates:
        gains = log_probabilities(fit) - lognormal
        nats = (shares * gains).sum()
        sd = math.sqrt((shares * (gains - nats) ** 2).sum())
        surprise = -(shares * log_probabilities(fit)).sum()
        # Far out in the tail of a Gaussian that is not theirs the quadrature is off by a few per cent.
        within = 1e-3 if fit.divergence > 0.05 else 2e-5
        assert fit.nats == pytest.approx(nats, abs=within)
        # Schwarz (1978), over the number of weights, less the same for the lognormal.
        assert fit.bic == pytest.approx((fit.parameters - 2) * math.log(n) / n - 2 * nats, abs=2 * within)
        # Miller (1955): a plug-in divergence over K intervals is too high by (K - 1)/(2n).
        assert fit.divergence == pytest.approx(surprise - entropy - (shares.size - 1) / (2 * n), abs=within)
        if fit.family is not Name.LOGNORMAL:
            # Vuong (1989): the log-likelihood ratio over the root of n times its variance per weight.
            assert fit.vuong_z == pytest.approx(n * nats / (math.sqrt(n) * sd), rel=50 * within, abs=0.05)


def test_the_lognormal_is_the_measure_of_the_others() -> None:
    lognormal = ranked(lognormal_weights()).lognormal
    assert (lognormal.nats, lognormal.bic, lognormal.vuong_z) == (0, 0, 0)


def test_candidates_come_best_first_and_all_of_them() -> None:
    ranking = ranked(lognormal_weights())
    nats = [each.nats for each in ranking.candidates]
    assert nats == sorted(nats, reverse=True)
    assert {each.family for each in ranking.candidates} == set(Name) == set(PARAMETERS)


def test_a_family_without_a_shape_has_one_and_names_none() -> None:
    shapeless = {candidate.family for candidate in CANDIDATES if candidate.parameters == 1}
    assert {name for name, (_, of_shape) in PARAMETERS.items() if not of_shape} == shapeless
    for fit in ranked(lognormal_weights()).candidates:
        assert (fit.shape == 1) == (fit.family in shapeless)


# ---- what rounding to zero does to a lognormal


@settings(max_examples=40, deadline=None)
@given(st.floats(-19.9, 19.9))
def test_the_skewness_of_a_normal_variable_that_is_cut_below_is_scipys(z: float) -> None:
    fit = CandidateFit(
        family=Name.LOGNORMAL, parameters=2, scale=math.exp(-4), shape=1.3, nats=0, divergence=0, bic=0, vuong_z=0
    )
    assert _cut_skewness(fit, -4 + 1.3 * z) == pytest.approx(stats.truncnorm(z, math.inf).stats("s"), abs=1e-5)


def test_a_lognormal_is_skewed_by_a_format_of_few_values_alone() -> None:
    for dtype, skewed in ((Dtype.BF16, False), (Dtype.F16, False), (Dtype.F8_E4M3, True)):
        ranking = ranked(infinitely_many(stats.lognorm(1.3, scale=np.exp(-4.2)), dtype))
        assert (ranking.lognormal_skewness > 0.1) == skewed
        assert ranking.lognormal_skewness >= 0


# ---- layers beside other layers


def test_a_layers_result_does_not_depend_on_the_layers_beside_it() -> None:
    rng = np.random.default_rng(34)
    layers = [
        stored(FAMILIES[index % len(FAMILIES)].law.rvs(rng.integers(60, 4_000), random_state=index), dtype)
        for index in range(41)
        for dtype in (FORMATS[index % len(FORMATS)],)
    ]
    together = rank(layers)
    backwards = rank(layers[::-1])[::-1]
    for layer in range(0, len(layers), 3):
        alone = rank([layers[layer]])[0]
        assert together[layer] == alone
        assert backwards[layer] == alone


def test_layers_that_cannot_be_ranked_keep_their_place() -> None:
    narrow = stored(np.array([1.0, 1.01, 1.02]), Dtype.BF16)
    first, second, third = rank([lognormal_weights(1), narrow, lognormal_weights(2)])
    assert first == ranked(lognormal_weights(1))
    assert isinstance(second, NotFitted)
    assert third == ranked(lognormal_weights(2))
    assert rank([]) == []


# ---- weights that nobody would expect


def finite(ranking: Ranking | NotFitted) -> bool:
    if isinstance(ranking, NotFitted):
        return bool(ranking.reason)
    numbers = [number for each in ranking.candidates for number in astuple(each)[2:]]
    return all(map(math.isfinite, numbers))


def gaussian(count: int = 10_000, seed: int = 35) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


def test_one_huge_outlier_is_no_end_of_the_law() -> None:
    ranking = ranked(stored(np.append(gaussian(), 1e6), Dtype.F32))
    assert finite(ranking)
    assert ranking.winner.family not in {Name.TRUNCATED_GAUSSIAN, Name.UNIFORM, Name.LOGNORMAL}


def test_zeros_make_no_difference() -> None:
    values = gaussian()
    assert ranked(stored(np.append(values, np.zeros(9_600)), Dtype.BF16)) == ranked(stored(values, Dtype.BF16))


@pytest.mark.parametrize("octaves", [-100, 100])
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32])
def test_scale_makes_no_difference(octaves: int, dtype: Dtype) -> None:
    here, there = (ranked(stored(gaussian() * scale, dtype)) for scale in (1.0, 2.0**octaves))
    assert there.winner.family is here.winner.family is Name.GAUSSIAN
    assert there.winner.scale == pytest.approx(here.winner.scale * 2.0**octaves, rel=1e-6)
    for one, other in zip(here.candidates, there.candidates, strict=True):
        assert other.nats == pytest.approx(one.nats, abs=1e-7)


@pytest.mark.parametrize("scale", [1e-40, 1e-38, 3e37])
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32])
def test_weights_at_either_end_of_float32_give_finite_numbers(scale: float, dtype: Dtype) -> None:
    [ranking] = rank([stored(gaussian() * scale, dtype)])
    assert finite(ranking)


def test_four_intervals_are_enough_and_three_are_not() -> None:
    values = np.repeat([1.0, 1.15, 1.3, 1.45], [40, 30, 20, 10])
    assert finite(ranked(stored(values, Dtype.BF16)))
    [too_few] = rank([stored(values[:90], Dtype.BF16)])
    assert too_few == NotFitted("all its weights lie within half an octave of magnitude")


def test_bulk_and_outlier_sixty_orders_apart_are_ranked() -> None:
    ranking = ranked(stored(np.array([1e-30, 1.2e-30, 1.4e-30, 1.6e-30] * 10_000 + [1e30]), Dtype.F32))
    assert finite(ranking)
    # A Gaussian has its scale from the mean square, however few weights make it.
    assert fit_of(ranking, Name.GAUSSIAN).scale == pytest.approx(1e30 / math.sqrt(40_001), rel=0.05)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from([Dtype.BF16, Dtype.F32, Dtype.F16, Dtype.F8_E4M3, Dtype.F8_E5M2, Dtype.F8_E8M0, Dtype.F4]),
    drawn=st.dictionaries(st.floats(0, 1), st.integers(1, 10**12), min_size=1, max_size=12),
    spread=st.sampled_from([1.0, 0.05]),
)
def test_any_counts_give_finite_numbers_without_a_warning(dtype: Dtype, drawn: dict[float, int], spread: float) -> None:
    grid = grid_of(dtype, low_bits_of(dtype))
    possible = np.flatnonzero(~np.isnan(grid.value))
    tallies: dict[int, int] = {}
    for place, tally in drawn.items():
        tallies[int(possible[int(place * spread * (possible.size - 1))])] = tally
    codes = np.array(sorted(tallies))
    [ranking] = rank([Magnitudes(grid=grid, codes=codes, tallies=np.array([tallies[code] for code in codes]))])
    assert finite(ranking)
