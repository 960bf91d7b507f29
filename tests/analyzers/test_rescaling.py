"""The factor between two roundings is told, and nothing that was rounded once, or otherwise, is taken for it."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rescaling import NOT_RESCALED, rescaled_by
from jaynes_audit.analyzers.sketch.histogram import Histogram
from tests.support.weights import decoded, encoded

Weights = np.ndarray
NARROW = [Dtype.BF16, Dtype.F16]


def histogram(weights: Weights, dtype: Dtype) -> Histogram:
    codes, tallies = np.unique(encoded(weights, dtype).view(np.uint16), return_counts=True)
    return Histogram(dtype=dtype, low_bits=0, codes=codes, tallies=tallies.astype(np.int64))


def factor_of(layer: Histogram) -> float:
    [factor] = rescaled_by([layer])
    return factor


def rounded(weights: Weights, dtype: Dtype) -> Weights:
    return decoded(encoded(weights, dtype), dtype).astype(np.float32)


def normal(seed: int = 0, number: int = 48_000) -> Weights:
    return np.random.default_rng(seed).normal(0, 0.02, number)


def heavy_tailed(seed: int = 0) -> Weights:
    return np.random.default_rng(seed).standard_t(3, 48_000) * 0.01


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("law", [normal, heavy_tailed])
@pytest.mark.parametrize("factor", [1.05, 1.07, 1.25, 1.3, 0.5**0.5, 0.9, 0.93, -3.3, 1 / 3])
def test_a_factor_between_two_roundings_is_told_up_to_a_power_of_two(
    factor: float, law: Callable[[], Weights], dtype: Dtype
) -> None:
    told = factor_of(histogram(rounded(law(), dtype) * np.float32(factor), dtype))
    assert told == pytest.approx(2 * np.frexp(abs(factor))[0], rel=1e-3)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("seed", range(5))
def test_weights_that_were_rounded_once_were_not_rescaled(seed: int, dtype: Dtype) -> None:
    assert factor_of(histogram(normal(seed) * 1.05, dtype)) == NOT_RESCALED


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("factor", [0.25, -0.5, 2, 8])
def test_a_power_of_two_rounds_nothing(factor: float, dtype: Dtype) -> None:
    assert factor_of(histogram(rounded(normal(), dtype) * factor, dtype)) == NOT_RESCALED


def in_groups(bits: int, size: int) -> Callable[[Dtype], Weights]:
    """Whole numbers times a scale that each group of weights has for itself."""

    def quantised(_: Dtype) -> Weights:
        groups = normal().reshape(-1, size)
        scales = np.abs(groups).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
        return (np.round(groups / scales) * scales).ravel()

    return quantised


HEALTHY: dict[str, Callable[[Dtype], Weights]] = {
    "in the other format first": lambda dtype: rounded(normal(), Dtype.F16 if dtype is Dtype.BF16 else Dtype.BF16),
    "average of two like models": lambda dtype: (
        (rounded(normal(), dtype) + rounded(normal() + 0.1 * normal(1), dtype)) / 2
    ),
    "average of two unlike models": lambda dtype: (rounded(normal(), dtype) + rounded(normal(1), dtype)) / 2,
    "merge of a small change": lambda dtype: rounded(normal(), dtype) + 0.01 * normal(1),
    "a factor for each column": lambda dtype: (
        rounded(normal(), dtype).reshape(-1, 64) * np.linspace(0.8, 1.2, 64)
    ).ravel(),
    "integers of 8 bits": in_groups(8, 32),
    "integers of 4 bits": in_groups(4, 64),
    "one scale for all": in_groups(8, 48_000),
    "few values, evenly spaced": lambda _: np.random.default_rng(3).integers(-128, 128, 48_000) * 0.3 / 128,
    "one value for most": lambda _: np.where(np.arange(48_000) % 10, 0.02, normal()),
    "pruned": lambda _: np.where(np.abs(normal()) > 0.02, normal(), 0),
}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("kind", HEALTHY)
def test_other_weights_that_are_uneven_are_not_taken_for_rescaled(kind: str, dtype: Dtype) -> None:
    assert factor_of(histogram(HEALTHY[kind](dtype), dtype)) == NOT_RESCALED


def test_of_few_weights_and_of_wider_formats_nothing_is_said() -> None:
    rescaled = rounded(normal(), Dtype.BF16) * np.float32(1.3)
    few = histogram(rescaled[:200], Dtype.BF16)
    assert factor_of(few) == NOT_RESCALED
    codes, tallies = np.unique(rescaled.view(np.uint32) >> 16, return_counts=True)
    wide = Histogram(dtype=Dtype.F32, low_bits=0xFFFF, codes=codes.astype(np.uint16), tallies=tallies)
    assert factor_of(wide) == NOT_RESCALED


def test_nothing_is_said_of_no_weights_or_of_none_that_are_finite() -> None:
    nothing = np.empty(0, np.int64)
    assert factor_of(Histogram(dtype=Dtype.F16, low_bits=0, codes=nothing.astype(np.uint16), tallies=nothing)) == 1
    for value in (0.0, np.nan, np.inf, 1e-7):
        assert factor_of(histogram(np.full(5000, value), Dtype.F16)) == NOT_RESCALED


def test_layers_together_are_each_told_what_they_are_told_alone() -> None:
    nothing = np.empty(0, np.int64)
    layers = [
        histogram(np.float32(factor) * rounded(normal(seed, number), dtype), dtype)
        for seed, (factor, number, dtype) in enumerate(product([1.3, 1, 0.9], [48_000, 100], NARROW))
    ]
    layers.insert(3, Histogram(dtype=Dtype.F32, low_bits=0, codes=nothing.astype(np.uint16), tallies=nothing))
    layers.insert(5, Histogram(dtype=Dtype.BF16, low_bits=0, codes=nothing.astype(np.uint16), tallies=nothing))
    alone = [factor_of(layer) for layer in layers]
    assert rescaled_by(layers) == alone
    assert sum(factor != NOT_RESCALED for factor in alone) == len([1.3, 0.9]) * len(NARROW)


def test_of_no_layers_nothing_is_said() -> None:
    assert rescaled_by([]) == []
