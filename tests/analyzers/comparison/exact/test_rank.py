"""How many directions hold a difference, against NumPy's singular value decomposition of all of it."""

from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.exact import rank
from jaynes_audit.analyzers.comparison.exact.outcome import RankProfile
from jaynes_audit.analyzers.comparison.exact.rank import RANKS, rank_profile
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support.checkpoints import stored, write_file
from tests.support.weights import decoded, encoded

ROWS, COLUMNS = 192, 256


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Gaussian weights with rows of several scales."""
    dice = np.random.default_rng(seed)
    return 0.02 * dice.standard_normal(shape) * np.exp(0.3 * dice.standard_normal((shape[0], 1)))


def adapter(rows: int, columns: int, rank: int, size: float, *, seed: int = 1) -> np.ndarray:
    """A product of two thin matrices, its weights of about this size."""
    dice = np.random.default_rng(seed)
    return size * dice.standard_normal((rows, rank)) @ dice.standard_normal((rank, columns)) / rank**0.5


def layer(path: Path, numbers: np.ndarray, dtype: Dtype) -> Layer:
    (tensor,) = write_file(path, {"w": stored(numbers, dtype)})
    (only,) = layers_of(tensor, {})
    return only


def profile(
    folder: Path, a: np.ndarray, b: np.ndarray, dtype: Dtype = Dtype.F32, *, other: Dtype | None = None
) -> RankProfile | NotFitted:
    layers = layer(folder / "a", a, dtype), layer(folder / "b", b, other or dtype)
    with Sources(Io.PREAD) as sources:
        return rank_profile(*layers, sources)


def stored_difference(a: np.ndarray, b: np.ndarray, dtype: Dtype) -> np.ndarray:
    return decoded(encoded(b, dtype), dtype) - decoded(encoded(a, dtype), dtype)


@pytest.mark.parametrize("dtype", [Dtype.F64, Dtype.F32, Dtype.BF16, Dtype.F16])
@pytest.mark.parametrize("rank", [1, 2, 3, 8, 16, 32])
@pytest.mark.parametrize("shape", [(ROWS, COLUMNS), (COLUMNS, ROWS)])
def test_an_adapter_that_was_merged_has_its_rank(
    tmp_path: Path, dtype: Dtype, rank: int, shape: tuple[int, int]
) -> None:
    a = weights(*shape)
    b = a + adapter(*shape, rank, 3e-3)
    outcome = profile(tmp_path, a, b, dtype)
    assert isinstance(outcome, RankProfile)
    assert (outcome.rank, outcome.rank_is_bound, outcome.ranks) == (rank, False, RANKS)
    singular = np.linalg.svd(stored_difference(a, b, dtype), compute_uv=False)
    exact = np.cumsum(singular**2) / (singular**2).sum()
    for of_rank, energy in zip(RANKS, outcome.energy, strict=True):
        # Of the directions that are rounding alone a sketch holds most, but not all.
        assert energy == pytest.approx(exact[of_rank - 1], abs=1e-4 if of_rank <= rank else 3e-3)


@pytest.mark.parametrize("size", [1e-3, 3e-4])
@pytest.mark.parametrize("seed", range(6))
def test_rounding_that_follows_a_single_direction_is_none_of_its_own(tmp_path: Path, size: float, seed: int) -> None:
    a = weights(768, 768)
    outcome = profile(tmp_path, a, a + adapter(768, 768, 1, size, seed=seed), Dtype.BF16)
    assert isinstance(outcome, RankProfile)
    assert outcome.rank == 1


def test_a_change_everywhere_has_no_rank(tmp_path: Path) -> None:
    a = weights(ROWS, COLUMNS)
    for dtype in (Dtype.F32, Dtype.BF16):
        outcome = profile(tmp_path, a, a + 0.05 * weights(ROWS, COLUMNS, seed=3), dtype)
        assert isinstance(outcome, RankProfile)
        assert (outcome.rank, outcome.rank_is_bound) == (64, True)


@pytest.mark.parametrize(
    ("dtype", "other"),
    [
        (Dtype.F32, Dtype.BF16),
        (Dtype.F32, Dtype.F16),
        (Dtype.BF16, Dtype.F16),
        (Dtype.F8_E4M3, Dtype.BF16),
        (Dtype.F32, Dtype.F8_E5M2),
        (Dtype.F64, Dtype.F32),
    ],
)
def test_rounding_alone_has_rank_0(tmp_path: Path, dtype: Dtype, other: Dtype) -> None:
    a = weights(ROWS, COLUMNS)
    for one, two in ((dtype, other), (other, dtype)):
        outcome = profile(tmp_path, a, a, one, other=two)
        assert isinstance(outcome, RankProfile)
        assert (outcome.rank, outcome.rank_is_bound) == (0, False)


def test_a_matrix_of_64_rows_is_decomposed_whole(tmp_path: Path) -> None:
    a, b = weights(64, 300), weights(64, 300, seed=2)
    outcome = profile(tmp_path, a, b)
    assert isinstance(outcome, RankProfile)
    singular = np.linalg.svd(stored_difference(a, b, Dtype.F32), compute_uv=False)
    exact = np.cumsum(singular**2) / (singular**2).sum()
    assert outcome.energy == pytest.approx([exact[rank - 1] for rank in RANKS], rel=1e-4)
    assert outcome.energy[-1] == pytest.approx(1, abs=1e-5)


def test_wide_rows_get_fewer_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank, "SKETCH_BYTES", 4 * COLUMNS * 20)
    a = weights(ROWS, COLUMNS)
    outcome = profile(tmp_path, a, a + adapter(ROWS, COLUMNS, 5, 1e-3))
    assert isinstance(outcome, RankProfile)
    assert (outcome.rank, outcome.ranks) == (5, (1, 2, 4, 8))


def test_windows_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = weights(ROWS, COLUMNS)
    b = a + adapter(ROWS, COLUMNS, 12, 1e-3)
    whole = profile(tmp_path, a, b)
    monkeypatch.setattr(rank, "WINDOW_WEIGHTS", 7 * COLUMNS)
    parts = profile(tmp_path, a, b)
    assert isinstance(whole, RankProfile)
    assert isinstance(parts, RankProfile)
    assert whole.rank == parts.rank == 12
    assert whole.energy == pytest.approx(parts.energy, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_weights_does_not_matter(tmp_path: Path, scale: float) -> None:
    a = weights(ROWS, COLUMNS)
    b = a + adapter(ROWS, COLUMNS, 4, 1e-2)
    outcome = profile(tmp_path, scale * a, scale * b)
    assert isinstance(outcome, RankProfile)
    assert outcome.rank == 4
    assert outcome.energy[2] == pytest.approx(1, abs=1e-5)


def test_weights_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    a = weights(ROWS, COLUMNS)
    b = a + adapter(ROWS, COLUMNS, 2, 3e-3)
    a[3, 4], b[5, 6] = np.nan, np.inf
    outcome = profile(tmp_path, a, b)
    assert isinstance(outcome, RankProfile)
    assert 2 <= outcome.rank <= 6  # each hole in a difference is a direction of its own


def test_what_has_no_profile_says_why(tmp_path: Path) -> None:
    a = weights(ROWS, COLUMNS)
    for one, two, reason in (
        (a, a, "do not differ"),
        (a[:63], a[1:64], "64 rows"),
        (a, a.T, "one shape"),
        (np.full_like(a, 3e38), np.full_like(a, -3e38), "do not differ"),  # infinite: as good as equal
        (np.full_like(a, 1.5e38), np.full_like(a, -1.5e38), "too large"),
    ):
        outcome = profile(tmp_path, one, two)
        assert isinstance(outcome, NotFitted)
        assert reason in outcome.reason
