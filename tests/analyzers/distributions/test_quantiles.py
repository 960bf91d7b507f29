"""Quantiles of counts against an exact sort and scipy's inverse distribution functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaynes_audit.analyzers.distributions.quantiles import QUANTILE_POINTS, QUANTILE_PROBABILITIES, log_quantiles
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from tests.support.weights import decoded, encoded, sketch_of

PROBABILITIES = np.array([0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999])
STEP = {Dtype.BF16: 2**-7, Dtype.F32: 2**-7, Dtype.F16: 2**-10, Dtype.F8_E4M3: 2**-3}
"""Of the magnitude, at most: from one cell of the 16-bit grid to the next. Subnormal cells are wider."""


def magnitudes(values: np.ndarray, dtype: Dtype) -> Magnitudes:
    return sketch_of(encoded(np.atleast_2d(values), dtype), dtype).histogram.magnitudes


def quantiles_of(*layers: Magnitudes, probabilities: np.ndarray = PROBABILITIES) -> np.ndarray:
    return log_quantiles(Stack.of(layers), probabilities)


def of_exact_sort(numbers: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The least number that so many do not exceed: no interpolation."""
    in_order = np.sort(np.abs(numbers[numbers != 0]))
    return in_order[np.maximum(0, np.ceil(probabilities * in_order.size - 1e-9).astype(int) - 1)]


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32, Dtype.F16])
@pytest.mark.parametrize("law", [stats.norm(), stats.lognorm(2, scale=0.05), stats.uniform(0.1, 1)])
def test_a_quantile_is_within_a_cell_of_the_exact_sorts(dtype: Dtype, law: object) -> None:
    values = law.rvs(30_000, random_state=41)
    numbers = decoded(encoded(values, dtype), dtype)
    exact = np.log(of_exact_sort(numbers, PROBABILITIES))
    [found] = quantiles_of(magnitudes(values, dtype))
    assert np.abs(found - exact).max() <= STEP[dtype]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0.02, 400) | st.floats(-400, -0.02), min_size=1, max_size=60),
    dtype=st.sampled_from(sorted(STEP)),
    probabilities=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5),
)
def test_a_quantile_of_few_weights_lies_in_the_exact_ones_cell(
    values: list[float], dtype: Dtype, probabilities: list[float]
) -> None:
    numbers = decoded(encoded(np.array(values), dtype), dtype)
    wanted = np.array(probabilities)
    [found] = quantiles_of(magnitudes(np.array(values), dtype), probabilities=wanted)
    assert np.abs(found - np.log(of_exact_sort(numbers, wanted))).max() <= STEP[dtype] * 1.0001


def test_weights_count_as_spread_evenly_over_their_cell() -> None:
    weights = magnitudes(np.repeat([1.0, 1.5], [30, 10]), Dtype.BF16)
    [found] = quantiles_of(weights, probabilities=np.array([0.25, 0.75, 0.875, 1.0]))
    # Cells reach half a step to either side: 1/512 below 1, 1/256 above it and about 1.5.
    first, second = np.log([1 - 1 / 512, 1 + 1 / 256]), np.log([1.5 - 1 / 256, 1.5 + 1 / 256])
    assert found == pytest.approx([first[0] + (first[1] - first[0]) / 3, first[1], second.mean(), second[1]], abs=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_quantiles_rise_with_the_probability(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, 40)
    [found] = quantiles_of(magnitudes(values, Dtype.BF16), probabilities=np.linspace(0.01, 1, 50))
    assert (np.diff(found) >= 0).all()


def test_signs_and_zeros_make_no_difference() -> None:
    values = stats.norm.rvs(size=500, random_state=42)
    [with_zeros] = quantiles_of(magnitudes(np.append(values, np.zeros(500)), Dtype.BF16))
    [of_magnitudes] = quantiles_of(magnitudes(np.abs(values), Dtype.BF16))
    assert with_zeros.tolist() == of_magnitudes.tolist()


def test_layers_end_to_end_have_their_own_quantiles() -> None:
    layers = [magnitudes(stats.norm.rvs(size=size, random_state=size), Dtype.F16) for size in (400, 1, 90)]
    usual = np.array(QUANTILE_PROBABILITIES)
    together = quantiles_of(*layers, probabilities=usual)
    assert together.shape == (3, QUANTILE_POINTS)
    for found, layer in zip(together, layers, strict=True):
        assert found.tolist() == quantiles_of(layer, probabilities=usual)[0].tolist()


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32, Dtype.F16])
def test_the_smallest_number_of_a_format_has_a_quantile(dtype: Dtype) -> None:
    first = {Dtype.F16: np.float16, Dtype.F32: np.float32}.get(dtype, np.uint16)
    codes = np.frombuffer(b"\1\0\0\0"[: np.dtype(first).itemsize], first).reshape(1, 1)
    assert np.isfinite(quantiles_of(sketch_of(codes, dtype).histogram.magnitudes)).all()


def test_the_usual_probabilities_are_equally_spaced() -> None:
    assert len(QUANTILE_PROBABILITIES) == QUANTILE_POINTS
    gaps = np.diff([0, *QUANTILE_PROBABILITIES, 1])
    assert gaps == pytest.approx(np.full(QUANTILE_POINTS + 1, 1 / 64))
