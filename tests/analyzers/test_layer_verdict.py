"""What is said of a layer: every kind of verdict, and what would have turned it."""

from dataclasses import replace

import pytest

from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import CandidateFit, Ranking
from jaynes_audit.analyzers.layer_verdict import (
    FEWEST_DISTINCT,
    LOGNORMAL_DIVERGENCE,
    LOGNORMAL_SKEWNESS,
    MIXTURE_DIVERGENCE,
    SKEWNESS_OF_SCALES,
    LayerVerdict,
    Residual,
    VerdictKind,
    judge,
    looks_lognormal,
    not_judged,
)
from tests.support import audits

NOT_TAKEN_APART = NotFitted("it has too few rows")


def ranking(
    winner: Family = Family.LOGNORMAL,
    *,
    tied_with: tuple[Family, ...] = (),
    left: float = 0.001,
    lognormal_left: float = 0.001,
    nats: float = 0.1,
    lognormal_skewness: float = 0.0,
) -> Ranking:
    """A family that wins by so many nats over the lognormal, and how much it and the lognormal leave unexplained."""

    def candidate(family: Family, gained: float, unexplained: float) -> CandidateFit:
        return CandidateFit(
            family=family,
            parameters=1 if family in audits.OF_ONE_PARAMETER else 2,
            scale=0.02,
            shape=1.0,
            nats=gained,
            divergence=unexplained,
            bic=-2 * gained,
            vuong_z=0.0,
        )

    if winner is Family.LOGNORMAL:
        won = candidate(winner, 0.0, left)
        return Ranking(candidates=(won,), winner=won, tied_with=tied_with, lognormal_skewness=lognormal_skewness)
    won, lognormal = candidate(winner, nats, left), candidate(Family.LOGNORMAL, 0.0, lognormal_left)
    return Ranking(candidates=(won, lognormal), winner=won, tied_with=tied_with, lognormal_skewness=lognormal_skewness)


def residual(
    winner: Family = Family.LOGNORMAL, *, tied_with: tuple[Family, ...] = (), skewness: float | None = None
) -> Residual:
    """What is left: lognormal, or another family with the skewness of Gaussian weights."""
    usual = 0.0 if winner is Family.LOGNORMAL else -1.53
    return Residual(skewness=usual if skewness is None else skewness, ranking=ranking(winner, tied_with=tied_with))


def verdict(
    ranked: Ranking | NotFitted,
    left: Residual | NotFitted = NOT_TAKEN_APART,
    *,
    fitted: LognormalFit | NotFitted | None = None,
    skewness: float = 0.0,
    zero_share: float = 0.0,
    distinct: int = 1_000,
    reshaped_by: str = "",
) -> LayerVerdict:
    fitted = audits.fit(skewness=skewness) if fitted is None else fitted
    return judge(fitted, ranked, left, zero_share=zero_share, distinct=distinct, reshaped_by=reshaped_by)


def test_no_law_is_named_where_a_quantiser_made_the_small_weights() -> None:
    for winner in (Family.LOGNORMAL, Family.GAUSSIAN):
        said = verdict(ranking(winner), residual(), reshaped_by="GGUF Q4_0")
        assert (said.kind, said.name) == (VerdictKind.UNDECIDED, "undecided")
        assert said.reason.startswith("GGUF Q4_0: ")


# ---- lognormal


def test_a_lognormal_whose_residual_is_lognormal_is_called_so() -> None:
    found = verdict(ranking(), residual())
    assert found.kind is VerdictKind.LOGNORMAL
    assert found.name == "lognormal"


@pytest.mark.parametrize("skewness", [1.01, -1.01])
def test_the_best_family_must_have_the_skewness_of_a_lognormal_too(skewness: float) -> None:
    assert verdict(ranking(), residual(), skewness=skewness * LOGNORMAL_SKEWNESS).kind is VerdictKind.UNDECIDED
    assert verdict(ranking(), residual(), skewness=skewness * 0.9 * LOGNORMAL_SKEWNESS).kind is VerdictKind.LOGNORMAL


def test_the_skewness_that_a_coarse_format_makes_is_allowed_for() -> None:
    coarse = ranking(lognormal_skewness=0.6)
    assert verdict(coarse, residual(), skewness=0.6).kind is VerdictKind.LOGNORMAL
    assert verdict(coarse, residual(), skewness=0.0).kind is VerdictKind.UNDECIDED


def test_the_best_family_must_fit() -> None:
    found = verdict(ranking(left=LOGNORMAL_DIVERGENCE), residual())
    assert found.kind is VerdictKind.UNDECIDED
    assert "leaves 0.020 nats per weight and a skew of 0.00 unexplained" in found.reason
    assert verdict(ranking(left=0.99 * LOGNORMAL_DIVERGENCE), residual()).kind is VerdictKind.LOGNORMAL


def test_without_its_residual_a_lognormal_may_be_a_mixture() -> None:
    found = verdict(ranking(), NOT_TAKEN_APART)
    assert found.kind is VerdictKind.UNDECIDED
    assert found.reason == "a mixture of scales cannot be ruled out: it has too few rows"


# ---- lognormal by mixing


def test_a_lognormal_whose_residual_is_gaussian_is_so_by_mixing() -> None:
    found = verdict(ranking(), residual(Family.GAUSSIAN, skewness=-1.53))
    assert found.kind is VerdictKind.BY_MIXING
    assert found.name == "lognormal by mixing"
    assert "its weights are Gaussian, skew -1.53" in found.reason


def test_weights_near_to_a_lognormal_are_so_by_mixing_when_their_residual_is_of_another_family() -> None:
    near = ranking(Family.STUDENT_T, lognormal_left=0.9 * MIXTURE_DIVERGENCE)
    assert verdict(near, residual(Family.GAUSSIAN)).kind is VerdictKind.BY_MIXING
    assert verdict(near, residual(Family.STUDENT_T)).kind is VerdictKind.RIVAL
    assert verdict(near, residual(Family.LOGNORMAL)).kind is VerdictKind.RIVAL
    far = ranking(Family.STUDENT_T, lognormal_left=1.1 * MIXTURE_DIVERGENCE)
    assert verdict(far, residual(Family.GAUSSIAN)).kind is VerdictKind.RIVAL


@pytest.mark.parametrize("tied_with", [(Family.LOGNORMAL,), (Family.STUDENT_T,)])
def test_a_residual_that_might_as_well_be_what_the_layer_is_is_no_mixture(tied_with: tuple[Family, ...]) -> None:
    near = ranking(Family.STUDENT_T, lognormal_left=0.9 * MIXTURE_DIVERGENCE)
    assert verdict(near, residual(Family.WEIBULL, tied_with=tied_with)).kind is VerdictKind.RIVAL


def test_scales_that_hide_next_to_no_skewness_make_no_mixture() -> None:
    left = residual(Family.GENERALISED_NORMAL, skewness=-0.9 * SKEWNESS_OF_SCALES)
    found = verdict(ranking(), left)
    assert found.kind is VerdictKind.UNDECIDED
    assert "generalised normal once row and column scales are divided out" in found.reason
    farther = residual(Family.GENERALISED_NORMAL, skewness=-1.1 * SKEWNESS_OF_SCALES)
    assert verdict(ranking(), farther).kind is VerdictKind.BY_MIXING


def test_what_looks_lognormal_is_what_has_to_be_taken_apart() -> None:
    assert looks_lognormal(ranking())
    assert looks_lognormal(ranking(Family.WEIBULL, lognormal_left=0.9 * MIXTURE_DIVERGENCE))
    assert not looks_lognormal(ranking(Family.WEIBULL, lognormal_left=1.1 * MIXTURE_DIVERGENCE))
    assert not looks_lognormal(NotFitted("no weights"))


# ---- a rival


@pytest.mark.parametrize("family", [family for family in Family if family is not Family.LOGNORMAL])
def test_any_other_winner_is_named(family: Family) -> None:
    found = verdict(ranking(family, lognormal_left=0.1))
    assert found.kind is VerdictKind.RIVAL
    assert found.name == family
    assert type(found.name) is str
    assert found.reason == "it fits 0.100 nats per weight better than the lognormal and leaves 0.001 unexplained"


def test_a_simpler_winner_that_fits_no_better_says_so() -> None:
    found = verdict(ranking(Family.LAPLACE, lognormal_left=0.1, nats=-0.004, left=-0.0002))
    assert found.kind is VerdictKind.RIVAL
    assert (
        found.reason
        == "it fits nearly as well as the lognormal, is simpler and leaves 0.000 unexplained nats per weight"
    )


# ---- undecided


def test_families_that_tie_are_both_named() -> None:
    tied = ranking(Family.GAMMA, tied_with=(Family.WEIBULL,), lognormal_left=0.1)
    found = verdict(tied)
    assert found.kind is VerdictKind.UNDECIDED
    assert found.name == "undecided"
    assert found.reason == "gamma or Weibull: within 0.0005 nats per weight"
    assert verdict(replace(tied, tied_with=())).kind is VerdictKind.RIVAL


def test_a_tie_of_three_reads_as_a_sentence() -> None:
    tied = ranking(Family.GAMMA, tied_with=(Family.WEIBULL, Family.LOGNORMAL), lognormal_left=0.1)
    assert verdict(tied).reason == "gamma, Weibull or lognormal: within 0.0005 nats per weight"


# ---- degenerate


def test_more_than_half_zeros_say_little() -> None:
    found = verdict(ranking(Family.GAUSSIAN, lognormal_left=0.1), zero_share=0.51)
    assert found.kind is VerdictKind.DEGENERATE
    assert found.reason == "51.0% of its weights are zero"
    assert verdict(ranking(Family.GAUSSIAN, lognormal_left=0.1), zero_share=0.5).kind is VerdictKind.RIVAL


def test_few_different_magnitudes_say_little() -> None:
    found = verdict(ranking(Family.GAUSSIAN, lognormal_left=0.1), distinct=FEWEST_DISTINCT - 1)
    assert found.kind is VerdictKind.DEGENERATE
    assert found.reason == "different magnitudes on the 16-bit grid: 15"
    enough = verdict(ranking(Family.GAUSSIAN, lognormal_left=0.1), distinct=FEWEST_DISTINCT)
    assert enough.kind is VerdictKind.RIVAL


def test_what_is_degenerate_is_called_so_whether_it_was_fitted_or_not() -> None:
    nothing = NotFitted("every weight is zero or not finite")
    assert verdict(nothing, fitted=nothing, zero_share=1.0).kind is VerdictKind.DEGENERATE


# ---- not fitted


def test_a_layer_without_a_fit_gives_the_reason() -> None:
    found = verdict(NotFitted("no ranking"), fitted=NotFitted("every weight is not finite"))
    assert found == not_judged("every weight is not finite")
    assert found.kind is VerdictKind.NOT_FITTED
    assert found.name == "not fitted"


def test_a_layer_without_a_ranking_gives_the_reason() -> None:
    too_narrow = "all its weights lie within half an octave of magnitude"
    assert verdict(NotFitted(too_narrow)) == not_judged(too_narrow)


def test_every_kind_of_verdict_is_reached() -> None:
    reached = {
        verdict(ranking(), residual()).kind,
        verdict(ranking(), residual(Family.GAUSSIAN)).kind,
        verdict(ranking(Family.GAUSSIAN, lognormal_left=0.1)).kind,
        verdict(ranking()).kind,
        verdict(ranking(), zero_share=0.6).kind,
        verdict(NotFitted("why")).kind,
    }
    assert reached == set(VerdictKind)
