"""A layer's log-variance is taken apart into rows, columns and a residual, and each part is what it is said to be."""

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaynes_audit.analyzers.anatomy import Anatomy, VarianceShares, anatomy, variance_shares
from jaynes_audit.analyzers.distributions.moments import LogMoments, NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch import extent as extent_module
from jaynes_audit.analyzers.sketch.extent import Extent
from tests.support.families import FAMILIES, Family
from tests.support.strategies import bf16_matrices
from tests.support.weights import REAL, chunked, decoded, encoded, extent_of

GAUSSIAN_LOG_VARIANCE = np.pi**2 / 8
GAUSSIAN_SKEWNESS = -1.535142  # of ln|w|, polygamma functions at 1/2


def taken_apart(weights: np.ndarray, dtype: Dtype = Dtype.F32) -> Anatomy | NotFitted:
    codes = encoded(weights, dtype)
    extent = extent_of(codes, dtype)
    return anatomy(lambda: chunked(codes, extent), extent)


def anatomy_of(weights: np.ndarray, dtype: Dtype = Dtype.F32) -> Anatomy:
    result = taken_apart(weights, dtype)
    assert isinstance(result, Anatomy)
    return result


def numbers(result: Anatomy) -> np.ndarray:
    moments = [
        number
        for each in (result.row_residual, result.residual)
        for number in (each.weights, each.log_mean, each.log_sigma, each.skewness, each.excess_kurtosis)
    ]
    return np.array([*moments, result.row_log_variance, result.column_log_variance])


def by_definition(weights: np.ndarray) -> np.ndarray:
    """The same numbers from the whole matrix in float64, by means that leave out and SciPy's moments."""
    usable = np.where(np.isfinite(weights) & (weights != 0), weights, np.nan)
    usable = usable[~np.isnan(usable).all(axis=1)][:, ~np.isnan(usable).all(axis=0)]
    first_rows = np.sqrt(np.nanmean(usable**2, axis=1, keepdims=True))
    columns = np.sqrt(np.nanmean((usable / first_rows) ** 2, axis=0, keepdims=True))
    rows = np.sqrt(np.nanmean((usable / columns) ** 2, axis=1, keepdims=True))
    residual = usable / columns / rows
    there = ~np.isnan(usable)
    kurtosis = np.nanmean(residual**4) / np.nanmean(residual**2) ** 2
    moments = []
    for weights_left in (usable / first_rows, residual):
        logarithms = np.log(np.abs(weights_left[there]))
        spread = [logarithms.mean(), logarithms.std(), stats.skew(logarithms), stats.kurtosis(logarithms)]
        moments += [logarithms.size, *spread]
    variances = []
    for rms, occupied in ((rows, there.sum(axis=1)), (columns, there.sum(axis=0))):
        variance = np.cov(np.log(rms.reshape(-1)), fweights=occupied, ddof=0)
        variances.append(max(0, variance - (kurtosis - 1) * (occupied.size - 1) / (4 * there.sum())))
    return np.array([*moments, *variances])


def scaled(weights: np.ndarray, row_log_sd: float, column_log_sd: float, *, seed: int) -> tuple[np.ndarray, ...]:
    """Weights on lognormal scales of rows and columns, and the logarithms of these."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, row_log_sd, (weights.shape[0], 1))
    columns = rng.normal(0, column_log_sd, (1, weights.shape[1]))
    return weights * np.exp(rows + columns), rows, columns


def gaussian(rows: int, columns: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


# ---- against the definition


@pytest.mark.parametrize("dtype", REAL)
def test_every_format_is_taken_apart_as_its_numbers_are(dtype: Dtype) -> None:
    weights, _, _ = scaled(gaussian(90, 120), 0.5, 0.3, seed=1)
    result = anatomy_of(weights, dtype)
    # The residual is counted on the grid of float32: bins of 2^-8 to either side.
    np.testing.assert_allclose(numbers(result), by_definition(decoded(encoded(weights, dtype), dtype)), atol=2e-3)


@pytest.mark.parametrize("shape", [(2, 2000), (2000, 2), (3, 300_000), (1000, 700)])
def test_every_shape_is_taken_apart_as_its_numbers_are(shape: tuple[int, int]) -> None:
    weights, _, _ = scaled(gaussian(*shape), 0.5, 0.5, seed=2)
    result, expected = numbers(anatomy_of(weights)), by_definition(weights)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result[-2:], expected[-2:], rtol=1e-4, atol=1e-6)  # scales are not counted on a grid


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F32, Dtype.F64])
def test_zeros_and_what_is_not_finite_are_left_out(dtype: Dtype) -> None:
    weights, _, _ = scaled(gaussian(200, 300), 0.5, 0.5, seed=3)
    weights[np.random.default_rng(4).random(weights.shape) < 0.4] = 0
    weights[7, 11], weights[7, 12], weights[8, 11] = np.nan, np.inf, -np.inf
    weights[20:23], weights[:, 30:35], weights[50] = 0, 0, np.nan
    result = anatomy_of(weights, dtype)
    np.testing.assert_allclose(numbers(result), by_definition(decoded(encoded(weights, dtype), dtype)), atol=1e-3)


def test_rows_and_columns_of_zeros_change_nothing() -> None:
    weights, _, _ = scaled(gaussian(100, 150), 1, 0.5, seed=5)
    with_zeros = np.zeros((130, 170))
    with_zeros[10:110, 5:155] = weights
    np.testing.assert_allclose(numbers(anatomy_of(with_zeros)), numbers(anatomy_of(weights)), rtol=1e-6, atol=1e-6)


def test_the_residual_magnitudes_are_those_the_moments_are_of() -> None:
    result = anatomy_of(gaussian(100, 150))
    magnitudes = result.residual_magnitudes
    assert magnitudes.weights == result.residual.weights == 15_000
    logarithms = np.repeat(magnitudes.grid.log_value[magnitudes.codes], magnitudes.tallies)
    assert result.residual.skewness == pytest.approx(stats.skew(logarithms))
    squares = magnitudes.grid.value[magnitudes.codes] ** 2
    assert np.average(squares, weights=magnitudes.tallies) == pytest.approx(1, abs=1e-4)


# ---- against closed forms


@pytest.mark.parametrize("column_log_sd", [0, 0.5, 1, 2])
@pytest.mark.parametrize("row_log_sd", [0, 0.5, 1, 2])
def test_gaussian_weights_on_a_hierarchy_of_scales_are_gaussian_again(row_log_sd: float, column_log_sd: float) -> None:
    weights, rows, columns = scaled(gaussian(500, 600, seed=6), row_log_sd, column_log_sd, seed=7)
    result = anatomy_of(weights, Dtype.BF16)
    # Standard errors from 300,000 independent weights: 0.009 for the skewness, 0.006 for the variance.
    assert result.residual.skewness == pytest.approx(GAUSSIAN_SKEWNESS, abs=0.03)
    assert result.residual_log_variance == pytest.approx(GAUSSIAN_LOG_VARIANCE, abs=0.015)
    total = rows.var() + columns.var() + GAUSSIAN_LOG_VARIANCE
    assert result.row_share == pytest.approx(rows.var() / total, abs=0.01)
    assert result.column_share == pytest.approx(columns.var() / total, abs=0.01)
    assert result.row_share + result.column_share + result.residual_share == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("log_sd", [0.5, 1, 2])
def test_the_row_residual_is_rid_of_rows_and_of_nothing_else(log_sd: float) -> None:
    weights, rows, _ = scaled(gaussian(500, 600, seed=8), log_sd, 0, seed=9)
    assert anatomy_of(weights).row_residual.skewness == pytest.approx(GAUSSIAN_SKEWNESS, abs=0.03)
    # Where the scales stay in, cumulants add.
    third = GAUSSIAN_SKEWNESS * GAUSSIAN_LOG_VARIANCE**1.5 + stats.moment(rows, 3, axis=None)
    pooled = third / (GAUSSIAN_LOG_VARIANCE + rows.var()) ** 1.5
    assert anatomy_of(weights.T).row_residual.skewness == pytest.approx(pooled, abs=0.03)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_residual_has_the_shape_of_what_was_scaled(family: Family) -> None:
    drawn = family.law.rvs((600, 800), random_state=np.random.default_rng(10))
    weights, _, _ = scaled(drawn, 0.7, 0.7, seed=11)
    result = anatomy_of(weights)
    assert result.residual.skewness == pytest.approx(family.skewness, abs=0.04)
    # Standard errors of 0.003 at most, and what the rms of heavy-tailed rows and columns adds: 0.02 for the lognormal.
    assert result.residual.log_sigma == pytest.approx(family.log_sigma, abs=0.03)


@pytest.mark.parametrize(
    ("side", "log_sigma", "skewness", "shares"),
    [
        *[(100, 0.5, 0.15, 0.02), (100, 1.3, 0.2, 0.07), (100, 2, 0.2, 0.13)],
        *[(1000, 0.5, 0.02, 0.002), (1000, 1.3, 0.03, 0.015), (1000, 2, 0.05, 0.045)],
    ],
)
def test_independent_lognormal_weights_stay_lognormal(
    side: int, log_sigma: float, skewness: float, shares: float
) -> None:
    result = anatomy_of(np.random.default_rng(12).lognormal(-4, log_sigma, (side, side)))
    assert abs(result.residual.skewness) < skewness
    assert result.row_share + result.column_share < shares


@pytest.mark.parametrize("turned", [False, True], ids=["rows", "columns"])
def test_what_shows_by_chance_alone_is_taken_off(*, turned: bool) -> None:
    found, drawn = [], []
    for seed in range(150):
        weights, rows, _ = scaled(gaussian(200, 64, seed=seed), 0.1, 0, seed=1000 + seed)
        result = anatomy_of(weights.T if turned else weights)
        found.append(result.column_log_variance if turned else result.row_log_variance)
        drawn.append(rows.var())
    difference = np.subtract(found, drawn)
    # Without the correction it would be (3 - 1)/(4 * 64) = 0.0078.
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / np.sqrt(difference.size) + 3e-4


# ---- what must not matter


def test_a_common_scale_does_not_matter() -> None:
    weights, _, _ = scaled(gaussian(60, 70), 0.5, 0.5, seed=13)
    expected = numbers(anatomy_of(weights, Dtype.BF16))
    for power in (-90, -60, 60, 90):
        np.testing.assert_allclose(numbers(anatomy_of(weights * 2.0**power, Dtype.BF16)), expected, rtol=1e-9)


def test_rows_and_columns_can_be_exchanged() -> None:
    weights, _, _ = scaled(gaussian(300, 400), 0.3, 1.5, seed=14)
    upright, turned = anatomy_of(weights), anatomy_of(weights.T)
    assert turned.row_log_variance == pytest.approx(upright.column_log_variance, abs=0.02)
    assert turned.column_log_variance == pytest.approx(upright.row_log_variance, abs=0.002)
    assert turned.residual.skewness == pytest.approx(upright.residual.skewness, abs=0.01)


@pytest.mark.parametrize("height", [1, 7, 333, 2000])
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F8_E4M3, Dtype.F64])
def test_the_heights_of_chunks_do_not_matter(dtype: Dtype, height: int) -> None:
    codes = encoded(gaussian(900, 800, seed=15), dtype)
    extent = extent_of(codes, dtype)
    cut = [codes[row : row + height] for row in range(0, 900, height)]
    result, expected = anatomy(lambda: iter(cut), extent), anatomy(lambda: chunked(codes, extent), extent)
    assert result == expected
    assert isinstance(result, Anatomy)
    assert isinstance(expected, Anatomy)
    assert result.residual_magnitudes.tallies.tolist() == expected.residual_magnitudes.tallies.tolist()


def test_how_much_is_done_at_a_time_matters_by_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _, _ = scaled(gaussian(300, 400), 0.5, 0.5, seed=16)
    expected = numbers(anatomy_of(weights))
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 1 << 14)
    np.testing.assert_allclose(numbers(anatomy_of(weights)), expected, rtol=1e-6)


def test_two_passes_are_made_and_a_chunk_may_be_overwritten_by_the_next() -> None:
    codes = encoded(gaussian(900, 800, seed=17), Dtype.BF16)
    extent = extent_of(codes, Dtype.BF16)
    passes = []

    def read() -> Iterator[np.ndarray]:
        passes.append(1)
        window = np.empty((extent.chunk_rows, 800), np.uint16)
        for chunk in chunked(codes, extent):
            current = window[: chunk.shape[0]]
            current[:] = chunk
            yield current
            current[:] = 0x7FC0

    assert anatomy(read, extent) == anatomy(lambda: chunked(codes, extent), extent)
    assert len(passes) == 2


@pytest.mark.parametrize("dtype", [Dtype.F4, Dtype.BF16, Dtype.F64])
def test_memory_is_what_is_promised(dtype: Dtype) -> None:
    codes = encoded(gaussian(1500, 4000), dtype)
    extent = extent_of(codes, dtype)
    anatomy(lambda: chunked(codes, extent), extent)  # the grid and the thread's tables are made once
    tracemalloc.start()
    anatomy(lambda: chunked(codes, extent), extent)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 2**20 + 60 * (1500 + 4000)


def test_stored_weights_are_not_written_to() -> None:
    weights = gaussian(30, 40).astype(np.float32)
    weights.flags.writeable = False
    assert isinstance(taken_apart(weights), Anatomy)


# ---- why there is none


def nothing_is_read() -> Iterator[np.ndarray]:
    raise AssertionError


NOT_TAKEN_APART: dict[str, tuple[Callable[[], Anatomy | NotFitted], str]] = {
    "no rows and columns": (
        lambda: anatomy(nothing_is_read, Extent(rows=9, columns=9, dtype=Dtype.F32, scaled=False)),
        "no rows and columns of their own",
    ),
    "a row": (lambda: taken_apart(gaussian(1, 50)), "a single row or column cannot be taken apart"),
    "a column": (lambda: taken_apart(gaussian(50, 1)), "a single row or column cannot be taken apart"),
    "zeros": (lambda: taken_apart(np.zeros((20, 30))), "every weight is zero or not finite"),
    "NaNs": (lambda: taken_apart(np.full((20, 30), np.nan)), "every weight is zero or not finite"),
    "rank one": (
        lambda: taken_apart(gaussian(50, 1) * gaussian(1, 60, seed=1)),
        "nothing is left once rows and columns are divided out",
    ),
    "a diagonal": (
        lambda: taken_apart(np.diag(np.arange(1.0, 20.0))),
        "nothing is left once rows and columns are divided out",
    ),
    "constant": (
        lambda: taken_apart(np.full((20, 30), 0.1)),
        "nothing is left once rows and columns are divided out",
    ),
}


@pytest.mark.parametrize(("attempt", "reason"), NOT_TAKEN_APART.values(), ids=NOT_TAKEN_APART.keys())
def test_what_cannot_be_taken_apart_says_why(attempt: Callable[[], Anatomy | NotFitted], reason: str) -> None:
    assert attempt() == NotFitted(reason)


@given(bf16_matrices(st.integers(2, 5), st.integers(2, 17)))
def test_any_weights_give_finite_numbers_or_a_reason(codes: np.ndarray) -> None:
    extent = extent_of(codes, Dtype.BF16)
    result = anatomy(lambda: chunked(codes, extent), extent)
    if isinstance(result, Anatomy):
        assert np.isfinite(numbers(result)).all()
        assert min(result.row_share, result.column_share, result.residual_share) >= 0


# ---- many layers


def layer(weights: int, log_mean: float, *, rows: float, columns: float, residual: float) -> tuple[LogMoments, Anatomy]:
    def moments(log_sigma: float) -> LogMoments:
        return LogMoments(weights=weights, log_mean=log_mean, log_sigma=log_sigma, skewness=0, excess_kurtosis=0)

    divided = Anatomy(
        row_log_variance=rows,
        column_log_variance=columns,
        row_residual=moments(1),
        residual=moments(np.sqrt(residual)),
        residual_magnitudes=anatomy_of(gaussian(2, 9)).residual_magnitudes,
    )
    return moments(1), divided


def test_layers_count_by_their_weights() -> None:
    shares = variance_shares(
        [layer(100, 0, rows=4, columns=0, residual=1), layer(300, 2, rows=0, columns=2, residual=1)]
    )
    # Between layers: 0.75 * 0.25 * 2^2; of 0.75 + 1 + 1.5 + 1.
    assert isinstance(shares, VarianceShares)
    parts = [shares.between_layers, shares.between_rows, shares.between_columns, shares.residual]
    assert parts == pytest.approx([0.75 / 4.25, 1 / 4.25, 1.5 / 4.25, 1 / 4.25])


def test_one_layer_has_the_shares_of_its_anatomy() -> None:
    one = layer(100, -3, rows=1, columns=2, residual=3)
    shares = variance_shares([one])
    assert shares == VarianceShares(
        between_layers=0,
        between_rows=one[1].row_share,
        between_columns=one[1].column_share,
        residual=one[1].residual_share,
    )


def test_the_parts_are_those_of_the_variance_of_all_weights_together() -> None:
    layers, matrices = [], []
    for seed, (scale, rows, columns) in enumerate([(1, 100, 200), (0.1, 300, 200), (0.02, 200, 400)]):
        weights, _, _ = scaled(gaussian(rows, columns, seed=20 + seed) * scale, 0.4, 0.2, seed=30 + seed)
        logarithms = np.log(np.abs(weights))
        moments = LogMoments(
            weights=weights.size,
            log_mean=logarithms.mean(),
            log_sigma=logarithms.std(),
            skewness=stats.skew(logarithms, axis=None),
            excess_kurtosis=stats.kurtosis(logarithms, axis=None),
        )
        layers.append((moments, anatomy_of(weights)))
        matrices.append(logarithms.reshape(-1))
    shares = variance_shares(layers)
    assert isinstance(shares, VarianceShares)
    total = np.concatenate(matrices).var()
    means = np.repeat([each.mean() for each in matrices], [each.size for each in matrices])
    assert shares.between_layers == pytest.approx(means.var() / total, abs=0.005)
    assert shares.residual == pytest.approx(GAUSSIAN_LOG_VARIANCE / total, abs=0.005)
    parts = [shares.between_layers, shares.between_rows, shares.between_columns, shares.residual]
    assert sum(parts) == pytest.approx(1, abs=1e-12)


def test_no_layers_have_no_shares() -> None:
    assert variance_shares([]) == NotFitted("no layer could be taken apart")
