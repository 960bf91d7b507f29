"""A probe is what a plain loop computes, hardly moves with a cast, and sees what moved in a matrix."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.layer_audit import probes_of, unevenness_of
from jaynes_audit.analyzers.sketch import _kernel_numpy
from jaynes_audit.analyzers.sketch import sketch as sketch_module
from jaynes_audit.analyzers.sketch.kernel import KERNEL
from jaynes_audit.analyzers.sketch.probe import PROJECTIONS, Probe, projected
from jaynes_audit.analyzers.sketch.sketch import Sketch
from tests.support.weights import decoded, encoded, sketch_of

ROUNDING = {Dtype.BF16: 2.0**-8, Dtype.F16: 2.0**-11, Dtype.F8_E4M3: 2.0**-4}
"""Half a spacing at the lower end of an octave: the greatest relative error of rounding to nearest."""
SIX_SIGMA = 6
SEVEN_DIGITS = 1e-6  # what the last of the digits that are kept is worth, twice over

# The first five outputs of the public reference implementation (splitmix64.c, Vigna 2015) with the seed 1234567, as
# they are published in its test vectors.
SEED, OUTPUTS = 1234567, (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)  # fmt: skip


def splitmix64(state: int) -> int:
    """The output that follows a state, as the reference has it."""
    mask = (1 << 64) - 1
    mixed = (state + 0x9E3779B97F4A7C15) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return mixed ^ (mixed >> 31)


def coefficient(place: int, projection: int) -> float:
    """A number in (-1, 1) with the 53 highest bits of an output: of the state that many steps after 0."""
    counter = place * PROJECTIONS + projection
    output = splitmix64(counter * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
    return (output >> 11) / 2.0**52 - 1


def slowly(matrix: np.ndarray) -> list[float]:
    """The projections of the sums of squares of rows."""
    squares = [sum(float(weight) ** 2 for weight in row) for row in matrix]
    return [
        sum(coefficient(place, projection) * square for place, square in enumerate(squares)) / sum(squares)
        for projection in range(PROJECTIONS)
    ]


def probe_from(sketch: Sketch) -> Probe | NotFitted:
    [probe] = probes_of([sketch], [unevenness_of(sketch.histogram)])
    return probe


def probe_of(weights: np.ndarray, dtype: Dtype = Dtype.F32) -> Probe:
    probe = probe_from(sketch_of(np.ascontiguousarray(encoded(weights, dtype)), dtype))
    assert isinstance(probe, Probe)
    return probe


def gaussian(rows: int, columns: int, *, seed: int = 0) -> np.ndarray:
    return 0.02 * np.random.default_rng(seed).standard_normal((rows, columns))


def distance(one: Probe, other: Probe) -> float:
    return max(abs(a - b) for a, b in zip((*one.rows, *one.columns), (*other.rows, *other.columns), strict=True))


# ---- what it is


def test_the_mixing_is_splitmix64() -> None:
    states = [(SEED + step * 0x9E3779B97F4A7C15) & (1 << 64) - 1 for step in range(5)]
    assert tuple(map(splitmix64, states)) == OUTPUTS


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 100))
def test_a_probe_is_what_a_plain_loop_computes(rows: int, columns: int, seed: int) -> None:
    weights = gaussian(rows, columns, seed=seed).astype(np.float32)
    probe = probe_of(weights)
    assert probe.rows == pytest.approx(slowly(weights), abs=SEVEN_DIGITS)
    assert probe.columns == pytest.approx(slowly(weights.T), abs=SEVEN_DIGITS)


def test_noise_is_the_root_of_the_fourth_powers_over_the_squares() -> None:
    weights = decoded(encoded(gaussian(50, 70), Dtype.BF16), Dtype.BF16)
    expected = np.sqrt((weights**4).sum()) / (weights**2).sum()
    assert probe_of(weights, Dtype.BF16).noise == pytest.approx(expected, rel=SEVEN_DIGITS)


def test_the_transposed_matrix_has_the_transposed_probe() -> None:
    weights = gaussian(50, 70)
    assert distance(probe_of(weights.T), probe_of(weights).transposed) < SEVEN_DIGITS


def test_numbers_have_seven_digits() -> None:
    probe = probe_of(gaussian(50, 70))
    assert all(number == float(f"{number:.6e}") for number in (*probe.rows, *probe.columns, probe.noise))


def test_zeros_have_a_probe_of_zeros() -> None:
    nothing = Probe(rows=(0.0,) * PROJECTIONS, columns=(0.0,) * PROJECTIONS, noise=0.0)
    assert probe_of(np.zeros((5, 6))) == nothing
    assert projected(np.zeros((2, 7))).tolist() == [[0.0] * PROJECTIONS] * 2


def test_a_vector_has_none() -> None:
    codes = encoded(gaussian(50, 1), Dtype.F32)
    assert probe_from(sketch_of(codes, Dtype.F32, scaled=False)) == NotFitted("no rows and columns of their own")


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F16])
def test_both_kernels_give_the_same_probe(dtype: Dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_kernel(kernel: ModuleType) -> list[Probe]:
        monkeypatch.setattr(sketch_module, "KERNEL", kernel)
        return [probe_of(gaussian(300, 400, seed=seed), dtype) for seed in range(5)]

    for one, other in zip(with_kernel(KERNEL), with_kernel(_kernel_numpy), strict=True):
        assert distance(one, other) <= SEVEN_DIGITS


# ---- what it promises


@pytest.mark.parametrize("dtype", ROUNDING)
def test_a_cast_moves_it_by_less_than_six_standard_deviations_of_the_rounding(dtype: Dtype) -> None:
    scale = 10.0  # so that no weight is subnormal in fp8
    for seed in range(40):
        weights = scale * gaussian(120, 150, seed=seed)
        probe, cast = probe_of(weights), probe_of(decoded(encoded(weights, dtype), dtype))
        assert distance(probe, cast) < SIX_SIGMA * 2 * ROUNDING[dtype] * probe.noise + SEVEN_DIGITS


@pytest.mark.parametrize("shape", [(64, 64), (512, 128), (4096, 16)])
def test_an_exchange_of_two_rows_is_seen(shape: tuple[int, int]) -> None:
    dice, missed, tries = np.random.default_rng(1), 0, 50
    weights = gaussian(*shape)
    before = probe_of(weights)
    for _ in range(tries):
        one, other = dice.choice(shape[0], 2, replace=False)
        exchanged = weights.copy()
        exchanged[[one, other]] = weights[[other, one]]
        missed += distance(before, probe_of(exchanged)) <= SEVEN_DIGITS
    assert missed <= 0.04 * tries


@pytest.mark.parametrize("axis", [0, 1])
def test_another_order_of_all_rows_or_columns_is_always_seen(axis: int) -> None:
    for seed in range(40):
        weights = gaussian(128, 96, seed=seed)
        before = probe_of(weights)
        after = probe_of(np.random.default_rng(seed).permutation(weights, axis=axis))
        allowed = SIX_SIGMA * 2 * ROUNDING[Dtype.BF16] / np.sqrt(3) * before.noise + SEVEN_DIGITS
        kept, moved = (after.columns, after.rows) if axis == 0 else (after.rows, after.columns)
        was_kept, was_moved = (before.columns, before.rows) if axis == 0 else (before.rows, before.columns)
        assert max(abs(a - b) for a, b in zip(moved, was_moved, strict=True)) > allowed
        assert kept == pytest.approx(was_kept, abs=SEVEN_DIGITS)
