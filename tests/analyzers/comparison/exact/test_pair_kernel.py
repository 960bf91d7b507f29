"""Two kernels that reduce two chunks of weights to how they differ: they agree, and are right."""

import os
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.sketch import _kernel_numpy
from jaynes_audit.analyzers.sketch.kernel import chosen
from tests.support.kernel_cases import check_misuses, check_pair, pair_cases

F32, F64 = _kernel_numpy.F32, _kernel_numpy.F64


def compiled() -> ModuleType:
    """The compiled kernel; its absence is a skip, and a failure where JAYNES_EXPECT_KERNEL=1 promises one."""
    try:
        return chosen(environment={"JAYNES_KERNEL": "c"})
    except ImportError as error:
        message = f"there is no compiled kernel: {error}"
    if os.environ.get("JAYNES_EXPECT_KERNEL") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(params=["numpy", "c"])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return _kernel_numpy if request.param == "numpy" else compiled()


def paired(kernel: ModuleType, a: object, b: object, dtype: type = np.float32, *, first: int = 0) -> np.void:
    pairing = np.zeros((), _kernel_numpy.PAIRING)
    kind = F64 if dtype is np.float64 else F32
    kernel.pair(kind, np.array(a, dtype), kind, np.array(b, dtype), first, pairing)
    return pairing


def test_both_kernels_agree_on_every_length_and_every_two_kinds() -> None:
    kernel = compiled()
    for case in pair_cases():
        check_pair(kernel, case)


def test_calls_with_sizes_that_do_not_fit_are_refused() -> None:
    check_misuses(compiled())


def test_sums_are_those_of_numpy_in_float64(kernel: ModuleType) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 5000), np.float32)
    of_a, of_b = a.astype(np.float64), b.astype(np.float64)
    pairing = paired(kernel, a, b)
    assert pairing["squares_a"] == pytest.approx(of_a @ of_a, rel=1e-13)
    assert pairing["squares_b"] == pytest.approx(of_b @ of_b, rel=1e-13)
    assert pairing["squares_of_change"] == pytest.approx(((of_b - of_a) ** 2).sum(), rel=1e-13)
    assert pairing["products"] == pytest.approx(of_a @ of_b, abs=1e-10)
    assert pairing["largest"] == np.abs(of_b - of_a).max()
    assert pairing["largest_at"] == np.abs(of_b - of_a).argmax()
    assert pairing["changed"] == 5000


@pytest.mark.parametrize("place", [0, 31, 1023, 1024, 2500])
def test_the_first_of_several_largest_changes_is_told(kernel: ModuleType, place: int) -> None:
    a = np.ones(2501)
    b = a.copy()
    b[[place, -1]] = 3, -1
    pairing = paired(kernel, a, b, first=100)
    assert (pairing["largest"], pairing["largest_at"]) == (2, 100 + place)


def test_a_larger_change_that_follows_takes_the_place_and_an_equal_one_does_not(kernel: ModuleType) -> None:
    pairing = np.zeros((), _kernel_numpy.PAIRING)
    for first, b in ((0, 1.0), (10, 1.0), (20, 2.0)):
        kernel.pair(F32, np.zeros(1, np.float32), F32, np.array([b], np.float32), first, pairing)
        assert pairing["largest_at"] == (20 if first == 20 else 0)


@pytest.mark.parametrize(
    ("a", "b", "changed", "not_finite", "squares_a"),
    [
        (0.0, -0.0, 0, 0, 0.0),
        (np.nan, np.nan, 0, 0, 0.0),
        (np.inf, np.inf, 0, 0, 0.0),
        (np.inf, -np.inf, 1, 0, 0.0),
        (np.nan, np.inf, 1, 0, 0.0),
        (np.nan, 2.0, 1, 1, 0.0),
        (2.0, np.inf, 1, 1, 0.0),
        (2.0, 2.0, 0, 0, 4.0),
    ],
)
@pytest.mark.parametrize("weights", [1, 1024])
def test_what_is_not_finite_is_counted_and_left_out_of_the_sums(
    kernel: ModuleType, *, a: float, b: float, changed: int, not_finite: int, squares_a: float, weights: int
) -> None:
    pairing = paired(kernel, np.full(weights, a), np.full(weights, b))
    assert pairing["changed"] == changed * weights
    assert pairing["not_finite"] == not_finite * weights
    assert pairing["squares_a"] == squares_a * weights
    assert pairing["squares_of_change"] == pairing["largest"] == 0


def test_one_nan_does_not_hide_its_neighbours(kernel: ModuleType) -> None:
    a = np.full(1024, 3.0)
    b = np.full(1024, 5.0)
    b[500] = np.nan
    pairing = paired(kernel, a, b)
    assert (pairing["squares_of_change"], pairing["changed"], pairing["not_finite"]) == (4.0 * 1023, 1024, 1)


def test_other_bytes_are_told_though_values_are_equal(kernel: ModuleType) -> None:
    assert paired(kernel, [1.0, 0.0], [1.0, 0.0])["other_bytes"] == 0
    assert paired(kernel, [1.0, 0.0], [1.0, -0.0])["other_bytes"] == 1


def test_subnormal_float32_weights_are_not_flushed(kernel: ModuleType) -> None:
    least = np.finfo(np.float32).smallest_subnormal
    pairing = paired(kernel, np.zeros(1024), np.full(1024, least))
    assert (pairing["changed"], pairing["largest"]) == (1024, float(least))
    assert pairing["squares_of_change"] == pytest.approx(1024 * float(least) ** 2)


@pytest.mark.parametrize("weights", [1, 1024])
def test_a_change_beyond_float64_is_its_greatest_number(kernel: ModuleType, weights: int) -> None:
    greatest = np.finfo(np.float64).max
    pairing = paired(kernel, np.full(weights, -greatest), np.full(weights, greatest), np.float64)
    assert (pairing["largest"], pairing["changed"], pairing["not_finite"]) == (greatest, weights, 0)


@given(
    rows=st.lists(
        st.tuples(
            st.floats(width=32, allow_nan=True, allow_infinity=True),
            st.floats(width=32, allow_nan=True, allow_infinity=True),
        ),
        max_size=40,
    )
)
def test_counts_are_those_of_plain_python(rows: list[tuple[float, float]]) -> None:
    finite = [(a, b) for a, b in rows if np.isfinite(a) and np.isfinite(b)]
    for kernel in (_kernel_numpy, compiled()):
        pairing = paired(kernel, [a for a, _ in rows], [b for _, b in rows])
        assert pairing["changed"] == sum(a != b and not (np.isnan(a) and np.isnan(b)) for a, b in rows)
        assert pairing["not_finite"] == sum(np.isfinite(a) != np.isfinite(b) for a, b in rows)
        assert pairing["largest"] == max((abs(b - a) for a, b in finite), default=0)
