"""What is measured of a layer beside its fit, and when a layer that was taken apart says something of its weights."""

from functools import reduce
from operator import or_
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.layer_audit import LEAST_SIDE, MOST_FLUSHED, LayerAudit, residual_of
from jaynes_audit.analyzers.layer_verdict import Residual
from tests.support import audits
from tests.support.checkpoints import Stored, checkpoint, raw, stored
from tests.support.weights import decoded, encoded

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


# ---- unused bits


MANTISSA_BITS = {Dtype.F16: 10, Dtype.BF16: 7, Dtype.F32: 23}
PATTERNS = {Dtype.F16: np.uint16, Dtype.BF16: np.uint16, Dtype.F32: np.uint32}


def measured(folder: Path, weights: Stored) -> LayerAudit:
    [layer] = audit_checkpoint(checkpoint(folder, {"model.layers.0.mlp.up_proj.weight": weights})).layers
    return layer


def bits_that_no_weight_uses(codes: np.ndarray, dtype: Dtype) -> int:
    """Low mantissa bits that are zero in every finite weight, one bit pattern after another."""
    mantissa, patterns = MANTISSA_BITS[dtype], codes.view(PATTERNS[dtype]).reshape(-1).tolist()
    finite = [
        pattern
        for pattern, value in zip(patterns, decoded(codes, dtype).reshape(-1), strict=True)
        if np.isfinite(value)
    ]
    used = reduce(or_, finite, 0)
    return next((bit for bit in range(mantissa) if used >> bit & 1), mantissa)


@pytest.mark.parametrize("dtype", MANTISSA_BITS)
@pytest.mark.parametrize("kept", [1, 3, 7, 8, 10, 23])
def test_unused_bits_are_those_that_no_weight_uses(dtype: Dtype, kept: int, tmp_path: Path) -> None:
    codes = encoded(np.random.default_rng(kept).normal(0, 0.02, (30, 40)), dtype)
    cleared = max(0, MANTISSA_BITS[dtype] - kept)
    rounded = (codes.view(PATTERNS[dtype]) >> cleared << cleared).view(codes.dtype)
    expected = bits_that_no_weight_uses(rounded, dtype)
    assert expected == cleared
    assert measured(tmp_path, raw(rounded, dtype)).unused_bits == expected


@pytest.mark.parametrize("dtype", MANTISSA_BITS)
def test_what_is_not_finite_uses_no_bit(dtype: Dtype, tmp_path: Path) -> None:
    weights = np.full((4, 5), 1.5)
    weights[0, :2] = np.nan, np.inf
    codes = encoded(weights, dtype)
    assert measured(tmp_path, raw(codes, dtype)).unused_bits == bits_that_no_weight_uses(codes, dtype)


@pytest.mark.parametrize("dtype", [Dtype.F8_E4M3])
def test_of_other_formats_nothing_is_said_about_bits(dtype: Dtype, tmp_path: Path) -> None:
    assert measured(tmp_path, stored(np.ones((4, 5)), dtype)).unused_bits == 0


# ---- prominence


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F16])
@pytest.mark.parametrize("largest", [0.1, 5.0, 60000.0])
def test_prominence_is_the_largest_weight_over_the_rms_of_all_others(
    dtype: Dtype, largest: float, tmp_path: Path
) -> None:
    weights = np.random.default_rng(1).normal(0, 0.02, (30, 40))
    weights[3, 4] = -largest
    values = np.sort(np.abs(decoded(encoded(weights, dtype), dtype)).reshape(-1))
    expected = values[-1] / np.sqrt((values[:-1] ** 2).mean())
    # Of a float32 vector or matrix the 16-bit counts are known: each weight within half a cell, 0.4 %.
    assert measured(tmp_path, stored(weights, dtype)).prominence == pytest.approx(expected, rel=4e-3)


def test_prominence_beyond_the_digits_of_a_float_is_known(tmp_path: Path) -> None:
    weights = np.ones((10, 101))
    weights[0, 0] = 2.0**127
    assert measured(tmp_path, stored(weights, Dtype.BF16)).prominence == 2.0**127


def test_beside_zeros_nothing_is_prominent(tmp_path: Path) -> None:
    weights = np.zeros((10, 10))
    assert measured(tmp_path, stored(weights)).prominence == 0
    weights[0, 0] = 3.0
    assert measured(tmp_path, stored(weights)).prominence == 0


# ---- what lies beside zero


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F16])
def test_above_the_edge_of_flushed_weights_the_others_lie_evenly(dtype: Dtype, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).uniform(-1, 1, (200, 200))
    weights[np.abs(weights) < 0.1] = 0
    parts = np.histogram(np.abs(weights), bins=np.linspace(0.1, 0.2, 5))[0]
    assert measured(tmp_path, stored(weights, dtype)).beside_zero == pytest.approx(tuple(parts), rel=0.1)


@pytest.mark.parametrize(
    "weights",
    [
        np.random.default_rng(0).normal(0, 0.02, (100, 100)),  # none is zero
        np.round(np.random.default_rng(0).normal(0, 10, (100, 100))),  # few values
        np.zeros((10, 10)),
    ],
)
def test_nothing_is_said_of_what_lies_beside_zero_where_it_is_no_edge(weights: np.ndarray, tmp_path: Path) -> None:
    assert measured(tmp_path, stored(weights)).beside_zero == ()


def test_the_end_of_a_format_is_no_edge(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(0, 1e-6, (100, 100))
    assert measured(tmp_path, stored(weights, Dtype.F16)).beside_zero == ()


def test_a_float64_that_holds_values_of_bf16_uses_no_more_bits_than_they(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    drawn = np.random.default_rng(5).normal(0, 0.02, (64, 64))
    in_bf16 = (drawn.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    for weights, unused in ((in_bf16, 45), (drawn, 0)):
        (layer,) = audit_checkpoint(checkpoint(tmp_path, {name: stored(weights, Dtype.F64)}))
        assert layer.unused_bits == unused
