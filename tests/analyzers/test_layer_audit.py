"""When a layer that was taken apart says something of its weights, and when it does not."""

import pytest

from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.layer_audit import LEAST_SIDE, MOST_FLUSHED, residual_of
from jaynes_audit.analyzers.layer_verdict import Residual
from tests.support import audits

TAKEN_APART = audits.taken_apart(Family.GAUSSIAN)


def left(
    whole: Family = Family.LOGNORMAL,
    *,
    dtype: Dtype = Dtype.F8_E4M3,
    shape: tuple[int, int] = (LEAST_SIDE, LEAST_SIDE),
    zero_share: float = 0.0,
) -> Residual | NotFitted:
    return residual_of(
        audits.ranking(whole),
        TAKEN_APART,
        audits.ranking(Family.GAUSSIAN),
        dtype=dtype,
        shape=shape,
        zero_share=zero_share,
    )


def test_what_is_left_has_the_skewness_and_the_families_of_the_residual() -> None:
    found = left()
    assert isinstance(found, Residual)
    assert found.skewness == TAKEN_APART.residual.skewness
    assert found.ranking.winner.family is Family.GAUSSIAN


@pytest.mark.parametrize("shape", [(LEAST_SIDE - 1, 4096), (4096, LEAST_SIDE - 1)])
def test_a_short_side_does_not_tell_scales_from_weights(shape: tuple[int, int]) -> None:
    assert left(shape=shape) == NotFitted("fewer than 64 rows or columns do not tell their scales from their weights")


def test_where_many_weights_were_rounded_to_zero_what_is_left_does_not_overrule_a_rival() -> None:
    flushed = 1.01 * MOST_FLUSHED
    assert left(Family.STUDENT_T, zero_share=flushed) == NotFitted(
        "F8_E4M3 rounded more than 2% of its weights to zero"
    )
    assert isinstance(left(Family.STUDENT_T, zero_share=0.99 * MOST_FLUSHED), Residual)
    assert isinstance(left(Family.LOGNORMAL, zero_share=flushed), Residual)
    # A wide format rounds nothing to zero: its zeros were pruned, and say nothing of the weights that are left.
    assert isinstance(left(Family.STUDENT_T, dtype=Dtype.BF16, zero_share=flushed), Residual)


def test_a_layer_that_was_not_taken_apart_says_why() -> None:
    why = NotFitted("no rows and columns of their own")
    ranked = audits.ranking(Family.GAUSSIAN)
    assert residual_of(ranked, why, why, dtype=Dtype.F32, shape=(100, 100), zero_share=0) == why
