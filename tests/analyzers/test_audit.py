"""From files to an audit: what was planted is found, what cannot be read is named, the workers change nothing."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaynes_audit.analyzers import pieces as pieces_module
from jaynes_audit.analyzers.anatomy import Anatomy, VarianceShares
from jaynes_audit.analyzers.audit import Audit, LeftOutReason, Selection, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import Checkpoint, open_checkpoint
from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.distributions.candidates import CANDIDATES
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins, HistogramFit
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.distributions.ranking import Ranking
from jaynes_audit.analyzers.dtypes import BITS, Dtype
from jaynes_audit.analyzers.layer_audit import Criterion, LayerAudit, Scales
from jaynes_audit.analyzers.layer_verdict import VerdictKind
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sketch import extent as extent_module
from tests.support.checkpoints import Stored, checkpoint, raw, stored
from tests.support.weights import decoded, encoded

UP = "model.layers.{}.mlp.up_proj.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def lognormal(log_mean: float, log_sigma: float, *shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(log_mean, log_sigma, shape)) * rng.choice([-1.0, 1.0], shape)


def audit_of(folder: Path, tensors: dict[str, Stored], **options: object) -> Audit:
    return audit_checkpoint(checkpoint(folder, tensors), **options)


def only_layer(folder: Path, weights: Stored, name: str = UP.format(0)) -> LayerAudit:
    (layer,) = audit_of(folder, {name: weights})
    return layer


# ---- what was planted is found

# Formats with room for LN(mu, sigma) within 4.5 sigma, and by how much their rounding moves the two: with k numbers an
# octave by up to 1/(24 k^2) and 1/(24 k^2 sigma), to be seen in eight bits alone; F8_E8M0 rounds up from 1.5 on.
PLANTED = [
    *[(dtype, *law, 0.0) for dtype in (Dtype.BF16, Dtype.F32, Dtype.F64) for law in ((-4, 1), (-30, 0.3), (3, 2.5))],
    (Dtype.F16, -2, 1, 0.0),
    (Dtype.F16, 1, 0.3, 0.0),
    (Dtype.F8_E5M2, 0, 1.2, 1 / 400),
    (Dtype.F8_E5M2FNUZ, 0, 1.2, 1 / 400),
    (Dtype.F8_E4M3, 0, 0.8, 1 / 1500),
    (Dtype.F8_E4M3FNUZ, 0, 0.8, 1 / 1500),
    (Dtype.F8_E8M0, -3, 3, 0.06),
]


@pytest.mark.parametrize(("dtype", "log_mean", "log_sigma", "rounding"), PLANTED)
def test_a_lognormal_is_recovered_within_four_standard_errors(
    dtype: Dtype, log_mean: float, log_sigma: float, rounding: float, tmp_path: Path
) -> None:
    layer = only_layer(tmp_path, stored(lognormal(log_mean, log_sigma, 256, 500, seed=3), dtype))
    assert isinstance(layer.fit, LognormalFit)
    assert isinstance(layer.errors, LogMomentErrors)
    moments, errors = layer.fit.moments, layer.errors
    assert abs(moments.log_mean - log_mean) < 4 * errors.log_mean + rounding
    assert abs(moments.log_sigma - log_sigma) < 4 * errors.log_sigma + rounding
    if BITS[dtype] >= 16:
        assert abs(moments.skewness) < 4 * errors.skewness
        assert abs(moments.excess_kurtosis) < 4 * errors.excess_kurtosis
        assert abs(layer.fit.divergence) < 0.002
        assert layer.fit.ks_distance < 0.006


# F4 and F6 know 7 and 31 magnitudes within two to five octaves: no tail fits in, and a lognormal cannot be recovered.
@pytest.mark.parametrize("dtype", [Dtype.F4, Dtype.F6_E2M3, Dtype.F6_E3M2])
def test_of_the_narrowest_formats_the_moments_are_those_of_the_stored_numbers(dtype: Dtype, tmp_path: Path) -> None:
    weights = lognormal(0.0, 0.4, 256, 100, seed=4)
    layer = only_layer(tmp_path, stored(weights, dtype))
    assert isinstance(layer.fit, LognormalFit)
    numbers = np.abs(decoded(encoded(weights, dtype), dtype))
    logarithms = np.log(numbers[numbers > 0])
    assert layer.fit.moments.log_mean == pytest.approx(logarithms.mean(), abs=1e-12)
    assert layer.fit.moments.log_sigma == pytest.approx(logarithms.std(), abs=1e-12)
    assert layer.counts.zero == np.count_nonzero(numbers == 0)
    assert layer.counts.distinct == np.unique(logarithms).size


def test_gaussian_weights_are_told_from_lognormal_ones(tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(gaussian(256, 500), Dtype.BF16))
    assert isinstance(layer.fit, LognormalFit)
    assert layer.fit.moments.log_sigma == pytest.approx(math.pi / math.sqrt(8), abs=0.02)
    assert layer.fit.moments.skewness == pytest.approx(-1.535, abs=0.1)
    assert layer.fit.divergence == pytest.approx(0.163, abs=0.01)
    assert layer.fit.ks_distance == pytest.approx(0.0964, abs=0.01)


def test_what_the_safetensors_library_wrote_can_be_audited(tmp_path: Path) -> None:
    weights = gaussian(64, 80).astype(np.float32)
    save_file({UP.format(0): weights, "model.norm.weight": np.ones(64, np.float16)}, tmp_path / "model.safetensors")
    audit = audit_checkpoint(open_checkpoint(str(tmp_path)))
    assert [layer.role for layer in audit] == [Role.MLP_UP, Role.NORM]
    matrix = audit.layers[0]
    assert (matrix.rows, matrix.columns, matrix.fan_in, matrix.fan_out) == (64, 80, 80, 64)
    assert matrix.largest == np.abs(weights).max()
    assert matrix.rms == pytest.approx(float(np.sqrt((weights.astype(np.float64) ** 2).mean())), rel=1e-12)
    assert isinstance(matrix.fit, LognormalFit)
    assert matrix.fit.moments.log_mean == pytest.approx(float(np.log(np.abs(weights)).mean()), abs=1e-4)
    assert audit.coverage.complete
    assert (audit.coverage.tensors, audit.coverage.tensors_total) == (2, 2)
    assert audit.coverage.bytes == audit.coverage.bytes_total == 64 * 80 * 4 + 64 * 2


def test_scales_are_the_spread_of_rows_and_of_columns(tmp_path: Path) -> None:
    rows = np.exp(np.linspace(-1, 1, 40))
    weights = np.outer(rows, np.ones(30))
    weights[3] = 0
    weights[:, 4:6] = 0
    layer = only_layer(tmp_path, stored(weights, Dtype.F64))
    assert isinstance(layer.scales, Scales)
    assert layer.scales.row_log_sd == pytest.approx(np.log(np.delete(rows, 3)).std(), abs=1e-6)
    assert layer.scales.column_log_sd == pytest.approx(0, abs=1e-6)
    assert (layer.scales.zero_rows, layer.scales.zero_columns) == (1, 2)


def test_an_unscaled_layer_has_an_rms_too(tmp_path: Path) -> None:
    weights = gaussian(5000)
    layer = only_layer(tmp_path, stored(weights, Dtype.F16), "model.norm.weight")
    numbers = weights.astype(np.float16).astype(np.float64)
    assert layer.rms == pytest.approx(math.sqrt((numbers**2).mean()), rel=1e-12)
    assert layer.scales == NotFitted("no rows and columns of their own")


@pytest.mark.parametrize(
    ("shape", "criterion"),
    [
        ((100, 100), Criterion()),
        ((200, 63), Criterion(min_fan_in=63)),
        ((10, 100), Criterion(min_weights=1000)),
    ],
)
def test_a_layer_that_meets_the_criterion_is_highly_connected(
    shape: tuple[int, int], criterion: Criterion, tmp_path: Path
) -> None:
    (layer,) = audit_of(tmp_path, {UP.format(0): stored(gaussian(*shape))}, criterion=criterion)
    assert layer.connected


@pytest.mark.parametrize("shape", [(100, 99), (200, 63)])
def test_a_layer_short_of_the_criterion_is_not_highly_connected(shape: tuple[int, int], tmp_path: Path) -> None:
    assert not only_layer(tmp_path, stored(gaussian(*shape))).connected


def test_an_embedding_is_no_hidden_layer_however_large(tmp_path: Path) -> None:
    assert not only_layer(tmp_path, stored(gaussian(200, 200)), EMBEDDING).connected


def test_layers_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [UP.format(number) for number in (10, 2, 1)]
    audit = audit_of(tmp_path, {name: stored(gaussian(4, 4)) for name in names})
    assert [layer.name for layer in audit] == [UP.format(number) for number in (1, 2, 10)]


# ---- which law a layer follows


def on_scales(*log_sds: float, seed: int = 5) -> np.ndarray:
    """Gaussian weights, their rows and then their columns on lognormal scales of these log-sds."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((400, 300))
    for axis, log_sd in enumerate(log_sds):
        scales = np.exp(rng.normal(0, log_sd, weights.shape[axis]))
        weights *= scales[:, np.newaxis] if axis == 0 else scales
    return 0.01 * weights


LAWS = [
    pytest.param(lambda: lognormal(-4, 1.3, 400, 300), "lognormal", id="lognormal"),
    pytest.param(lambda: gaussian(400, 300), "Gaussian", id="Gaussian"),
    pytest.param(lambda: on_scales(2), "lognormal by mixing", id="rows"),
    pytest.param(lambda: on_scales(0, 2), "lognormal by mixing", id="columns"),
    pytest.param(lambda: np.random.default_rng(0).laplace(size=(400, 300)), "Laplace", id="Laplace"),
    pytest.param(lambda: np.random.default_rng(0).uniform(-1, 1, (400, 300)), "uniform", id="uniform"),
    pytest.param(lambda: np.random.default_rng(0).standard_t(3, (400, 300)), "Student t", id="Student"),
]


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16])
@pytest.mark.parametrize(("weights", "law"), LAWS)
def test_a_layer_is_called_by_the_law_its_weights_were_drawn_from(
    weights: Callable[[], np.ndarray], law: str, dtype: Dtype, tmp_path: Path
) -> None:
    layer = only_layer(tmp_path, stored(weights(), dtype))
    assert layer.verdict.name == law
    assert isinstance(layer.evidence.ranking, Ranking)
    assert {each.family for each in layer.evidence.ranking.candidates} == {each.family for each in CANDIDATES}


def test_only_a_layer_that_looks_lognormal_is_read_again_by_itself(tmp_path: Path) -> None:
    tensors = {UP.format(0): stored(gaussian(400, 300)), UP.format(1): stored(on_scales(2))}
    gaussian_like, lognormal_like = audit_of(tmp_path, tensors)
    assert gaussian_like.evidence.anatomy == NotFitted(
        "the scales of its rows and columns were not divided out (--anatomy)"
    )
    assert isinstance(lognormal_like.evidence.anatomy, Anatomy)
    assert isinstance(lognormal_like.evidence.residual, Ranking)
    assert lognormal_like.evidence.anatomy.row_share > 0.7  # 4 of 4 + pi^2/8
    assert lognormal_like.evidence.anatomy.residual.skewness == pytest.approx(-1.535, abs=0.1)


def test_asked_for_every_judged_layer_is_taken_apart_and_the_shares_add_to_one(tmp_path: Path) -> None:
    tensors = {UP.format(0): stored(gaussian(400, 300)), UP.format(1): stored(100 * on_scales(1, 0.5))}
    audit = audit_of(tmp_path, tensors, dissect=True)
    for layer in audit:
        anatomy = layer.evidence.anatomy
        assert isinstance(anatomy, Anatomy)
        assert anatomy.row_share + anatomy.column_share + anatomy.residual_share == pytest.approx(1, abs=1e-12)
    shares = audit.variance
    assert isinstance(shares, VarianceShares)
    assert sum((shares.between_layers, shares.between_rows, shares.between_columns, shares.residual)) == pytest.approx(
        1
    )
    # Layers of equal size whose ln|w| differ by ln(1) = 0 on average, and scales of log-variance 1 and 1/4 in one of
    # the two: (0, 1/2, 1/8, pi^2/8) over their sum.
    assert shares.between_layers == pytest.approx(0, abs=0.01)
    assert shares.between_rows == pytest.approx(0.5 / (0.625 + math.pi**2 / 8), abs=0.05)
    assert shares.between_columns == pytest.approx(0.125 / (0.625 + math.pi**2 / 8), abs=0.02)


def test_the_shares_of_variance_are_not_known_unless_every_highly_connected_layer_was_taken_apart(
    tmp_path: Path,
) -> None:
    audit = audit_of(tmp_path, {UP.format(0): stored(gaussian(400, 300)), UP.format(1): stored(on_scales(2))})
    assert audit.variance == NotFitted("not every highly connected matrix was taken apart; --anatomy asks for it")


@pytest.mark.parametrize("dissect", [False, True])
def test_a_file_cut_short_between_the_passes_leaves_the_layer_undecided_and_says_why(
    dissect: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    whole = checkpoint(tmp_path, {UP.format(0): stored(lognormal(-4, 1.3, 400, 300))})
    # The first pass is told of when it is over.
    audit = audit_checkpoint(
        whole, dissect=dissect, io=Io.PREAD, on_bytes=lambda _: os.truncate(whole.files[0], 100_000)
    )
    (layer,) = audit
    assert layer.counts.weights == 120_000
    assert layer.verdict.kind is VerdictKind.UNDECIDED
    assert "a mixture of scales cannot be ruled out: it could not be read a second time" in layer.verdict.reason
    assert "became shorter while it was read" in layer.verdict.reason
    assert isinstance(layer.evidence.anatomy, NotFitted)
    assert isinstance(audit.variance, NotFitted)
    assert not audit.coverage.complete
    assert [(each.name, each.reason) for each in audit.left_out] == [(layer.name, LeftOutReason.REFUSED)]
    assert [defect.rule for defect in audit.defects] == ["JN001"]


@pytest.mark.parametrize("shape", [(100, 49), (400, 31), (70, 70)])
def test_a_matrix_below_half_the_criterion_is_not_judged_and_says_so(shape: tuple[int, int], tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(lognormal(-4, 1.3, *shape)))
    assert isinstance(layer.fit, LognormalFit)
    assert (layer.verdict.kind, layer.verdict.name) == (VerdictKind.NOT_FITTED, "not fitted")
    assert "smaller than half of what counts as highly connected" in layer.verdict.reason
    assert layer.evidence.ranking == NotFitted(layer.verdict.reason)


@pytest.mark.parametrize(
    ("shape", "criterion"), [((160, 32), Criterion()), ((20, 10), Criterion(min_fan_in=20, min_weights=400))]
)
def test_a_matrix_from_half_the_criterion_on_is_judged_and_not_highly_connected(
    shape: tuple[int, int], criterion: Criterion, tmp_path: Path
) -> None:
    (layer,) = audit_of(tmp_path, {UP.format(0): stored(gaussian(*shape))}, criterion=criterion)
    assert isinstance(layer.evidence.ranking, Ranking)
    assert not layer.connected


def test_a_vector_is_not_judged_and_says_so(tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(1 + gaussian(20_000) / 9), "model.norm.weight")
    assert layer.verdict.kind is VerdictKind.NOT_FITTED
    assert layer.verdict.reason == "not compared with other families: no weight matrix"


@pytest.mark.parametrize("name", [EMBEDDING, HEAD])
def test_the_ends_of_the_network_are_judged_and_are_no_hidden_layers(name: str, tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(gaussian(400, 300)), name)
    assert (layer.verdict.name, layer.connected) == ("Gaussian", False)


def test_each_part_of_a_fused_tensor_is_judged_by_its_own_rows_and_columns(tmp_path: Path) -> None:
    parts = [lognormal(-4, 1.3, 300, 300), gaussian(300, 300), on_scales(0, 2)[:300]]
    config = {"model_type": "gpt2", "n_head": 4, "n_embd": 300}
    fused = checkpoint(tmp_path, {FUSED: stored(np.concatenate(parts, axis=1))}, config=config)
    assert {layer.role: layer.verdict.name for layer in audit_checkpoint(fused)} == {
        Role.ATTENTION_Q: "lognormal",
        Role.ATTENTION_K: "Gaussian",
        Role.ATTENTION_V: "lognormal by mixing",
    }


def test_a_matrix_of_mostly_zeros_is_degenerate(tmp_path: Path) -> None:
    weights = gaussian(400, 300)
    weights.reshape(-1)[: int(0.51 * weights.size)] = 0
    layer = only_layer(tmp_path, stored(weights))
    assert (layer.verdict.kind, layer.verdict.reason) == (VerdictKind.DEGENERATE, "51.0% of its weights are zero")
    assert isinstance(layer.fit, LognormalFit)


def test_a_matrix_of_few_distinct_magnitudes_is_degenerate(tmp_path: Path) -> None:
    of_four_bits = np.random.default_rng(1).integers(-8, 8, (400, 300)) / 8
    layer = only_layer(tmp_path, stored(of_four_bits))
    assert layer.verdict.kind is VerdictKind.DEGENERATE
    assert layer.verdict.reason == "different magnitudes on the 16-bit grid: 8"


def test_a_curve_is_laid_through_the_histogram_of_judged_layers_when_asked_for(tmp_path: Path) -> None:
    tensors = {UP.format(0): stored(gaussian(400, 300)), UP.format(1): stored(gaussian(20, 20))}
    judged, small = audit_of(tmp_path, tensors, bins=HistogramBins(bins=40, range_end=3.0))
    curve = judged.evidence.histogram_fit
    assert isinstance(curve, HistogramFit)
    assert (curve.bins, curve.range_end) == (40, 3.0)
    assert curve.r_squared == pytest.approx(curve.gaussian_r_squared, abs=0.02)  # it is Gaussian noise itself
    assert isinstance(small.evidence.histogram_fit, NotFitted)
    (unasked,) = audit_of(tmp_path, {UP.format(0): stored(gaussian(400, 300))})
    assert unasked.evidence.histogram_fit == NotFitted("no curve was laid through its histogram (--method histogram)")


@pytest.mark.parametrize(("config", "declared"), [({"initializer_range": 0.02}, 0.02), ({}, None)])
def test_the_initial_scale_that_the_config_declares_is_kept_with_the_layer(
    config: dict[str, object], declared: float | None, tmp_path: Path
) -> None:
    whole = checkpoint(tmp_path, {UP.format(0): stored(gaussian(9, 9))}, config={"model_type": "llama", **config})
    assert [layer.declared_sd for layer in audit_checkpoint(whole)] == [declared]


# ---- roles


def test_the_layers_of_a_role_are_pooled(tmp_path: Path) -> None:
    weights = [gaussian(80, 70, seed=seed) * 2.0**seed for seed in range(3)]
    audit = audit_of(tmp_path, {UP.format(number): stored(each, Dtype.BF16) for number, each in enumerate(weights)})
    (role,) = audit.roles
    (together,) = audit_of(tmp_path, {UP.format(0): stored(np.concatenate(weights), Dtype.BF16)})
    assert (role.role, role.dtype, role.layers, role.weights) == (Role.MLP_UP, "BF16", 3, 3 * 80 * 70)
    assert role.pooled == together.fit
    means = [layer.fit.moments.log_mean for layer in audit if isinstance(layer.fit, LognormalFit)]
    assert (role.log_mean.least, role.log_mean.median, role.log_mean.greatest) == tuple(sorted(means))


def test_formats_of_one_role_are_kept_apart(tmp_path: Path) -> None:
    audit = audit_of(
        tmp_path, {UP.format(0): stored(gaussian(9, 9), Dtype.BF16), UP.format(1): stored(gaussian(9, 9), Dtype.F16)}
    )
    assert [(role.role, role.dtype) for role in audit.roles] == [(Role.MLP_UP, "BF16"), (Role.MLP_UP, "F16")]


def test_a_role_that_cannot_be_fitted_says_so(tmp_path: Path) -> None:
    (role,) = audit_of(tmp_path, {UP.format(0): stored(np.zeros((9, 9)))}).roles
    assert role.pooled == NotFitted("every weight is zero or not finite")
    assert role.log_mean == NotFitted("no layer of this role could be fitted")


# ---- whoever does the work


def mixed_checkpoint(folder: Path) -> Checkpoint:
    """Shards with layers of every size, kind and format, fused and tied ones among them."""
    embedding = stored(gaussian(300, 200, seed=1) * 0.02, Dtype.BF16)
    config = {"model_type": "gpt2", "n_head": 4, "n_embd": 64}
    first = {
        EMBEDDING: embedding,
        **{UP.format(number): stored(gaussian(120, 333, seed=number) * 0.1) for number in range(6)},
        "ids": stored(np.arange(9), Dtype.I64),
        "nothing": stored(np.zeros((0, 7))),
    }
    second = {
        HEAD: embedding,
        **{f"h.{number}.attn.c_attn.weight": stored(gaussian(64, 192), Dtype.F16) for number in range(3)},
        **{f"model.layers.{number}.norm.weight": stored(1 + gaussian(77) / 9, Dtype.F64) for number in range(90)},
        "some.four.bits": raw(np.random.default_rng(2).integers(0, 16, (70, 31 * 2), np.uint8), Dtype.F4),
        "zeros.weight": stored(np.zeros((50, 50))),
        "model.layers.0.mlp.down_proj.weight": stored(on_scales(2)),
        "model.layers.1.mlp.down_proj.weight": stored(lognormal(-4, 1.3, 400, 300), Dtype.BF16),
        "one": stored(np.array(3.5)),
    }
    return checkpoint(folder, first, second, config=config)


@pytest.fixture
def _layers_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(pieces_module, "PIECE_BYTES", 10_000)
    monkeypatch.setattr(pieces_module, "BATCH_BYTES", 30_000)


@pytest.mark.usefixtures("_layers_shared_out")
@pytest.mark.parametrize("io", list(Io))
def test_the_audit_does_not_depend_on_the_number_of_workers(io: Io, tmp_path: Path) -> None:
    mixed = mixed_checkpoint(tmp_path)
    options = {"dissect": True, "bins": HistogramBins(bins=30)}
    alone = audit_checkpoint(mixed, jobs=1, io=Io.MMAP, **options)
    for jobs in (1, 2, 7):
        assert repr(audit_checkpoint(mixed, jobs=jobs, io=io, **options)) == repr(alone)


def test_the_audit_does_not_depend_on_how_the_file_is_read(tmp_path: Path) -> None:
    mixed = mixed_checkpoint(tmp_path)
    assert repr(audit_checkpoint(mixed, io=Io.MMAP)) == repr(audit_checkpoint(mixed, io=Io.PREAD))


def test_sharing_a_layer_out_changes_no_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = mixed_checkpoint(tmp_path)
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 4096)
    whole = audit_checkpoint(mixed)
    monkeypatch.setattr(pieces_module, "PIECE_BYTES", 4096)
    shared_out = audit_checkpoint(mixed)
    for one, other in zip(whole, shared_out, strict=True):
        assert (one.name, one.counts, one.largest, one.content, one.fit) == (
            *(other.name, other.counts, other.largest, other.content),
            other.fit,
        )
        assert one.rms == pytest.approx(other.rms, rel=1e-12)
    assert (whole.coverage, whole.left_out) == (shared_out.coverage, shared_out.left_out)


def test_every_byte_is_told_of_once(tmp_path: Path) -> None:
    told: list[int] = []
    audit = audit_checkpoint(mixed_checkpoint(tmp_path), on_bytes=told.append, jobs=3)
    assert sum(told) == audit.coverage.bytes


# ---- odd tensors are shown for what they are


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F32, Dtype.F64])
def test_exact_zeros_in_a_large_tensor_are_counted_and_left_out_of_the_fit(dtype: Dtype, tmp_path: Path) -> None:
    weights = lognormal(-1, 0.5, 300, 400)
    weights[::3] = 0
    layer = only_layer(tmp_path, stored(weights, dtype))
    assert layer.counts.zero == 40_000
    assert isinstance(layer.fit, LognormalFit)
    assert layer.fit.moments.weights == 80_000
    assert layer.fit.moments.log_mean == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F32, Dtype.F64, Dtype.F8_E5M2])
def test_a_single_nan_is_counted_and_stops_nothing(dtype: Dtype, tmp_path: Path) -> None:
    weights = lognormal(-1, 0.5, 300, 400)
    with_nan = weights.copy()
    with_nan[100, 100] = np.nan
    layer = only_layer(tmp_path, stored(with_nan, dtype))
    assert (layer.counts.nan, layer.counts.infinite) == (1, 0)
    assert isinstance(layer.fit, LognormalFit)
    assert layer.fit.moments.weights == 120_000 - 1 - layer.counts.zero
    with np.errstate(invalid="ignore"):
        numbers = decoded(encoded(with_nan, dtype), dtype)
    numbers = numbers[np.isfinite(numbers)]
    assert layer.rms == pytest.approx(math.sqrt((numbers**2).mean()), rel=1e-8)
    assert layer.largest == pytest.approx(np.abs(numbers).max(), rel=1e-7)
    assert np.isfinite([layer.fit.moments.log_mean, layer.fit.divergence]).all()


def test_nothing_but_nan_is_counted_and_not_fitted(tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(np.full((20, 20), np.nan), Dtype.BF16))
    assert (layer.counts.nan, layer.largest, layer.rms) == (400, 0.0, 0.0)
    assert layer.fit == NotFitted("every weight is zero or not finite")


def test_an_all_zero_tensor_is_counted_and_not_fitted(tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(np.zeros((20, 20))))
    assert (layer.counts.zero, layer.largest, layer.rms) == (400, 0.0, 0.0)
    assert layer.fit == NotFitted("every weight is zero or not finite")
    assert layer.errors == layer.fit


def test_a_constant_tensor_is_counted_and_not_fitted(tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(np.full((20, 20), -0.1)))
    assert (layer.counts.distinct, layer.counts.negative) == (1, 400)
    assert layer.rms == pytest.approx(layer.largest, rel=1e-12)
    assert layer.fit == NotFitted("every non-zero weight has the same 16-bit magnitude")


def test_a_single_number_is_a_layer_of_one_weight(tmp_path: Path) -> None:
    layer = only_layer(tmp_path, stored(np.array(2.5)), "logit_scale")
    assert (layer.rows, layer.columns, layer.counts.weights, layer.largest) == (1, 1, 1, 2.5)
    assert layer.fit == NotFitted("every non-zero weight has the same 16-bit magnitude")


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_an_empty_tensor_is_left_out_as_empty(shape: tuple[int, ...], tmp_path: Path) -> None:
    audit = audit_of(tmp_path, {"nothing": stored(np.zeros(shape)), UP.format(0): stored(gaussian(4, 4))})
    (left_out,) = audit.left_out
    assert (left_out.name, left_out.shape, left_out.reason) == ("nothing", shape, LeftOutReason.EMPTY)
    assert audit.coverage.complete
    assert len(audit) == 1


@pytest.mark.parametrize(
    ("dtype", "explanation"),
    [
        (Dtype.I64, "whole numbers, a buffer or a quantiser's codes, not weights"),
        (Dtype.BOOL, "a mask of booleans, not weights"),
    ],
)
def test_buffers_are_left_out_with_their_reason(dtype: Dtype, explanation: str, tmp_path: Path) -> None:
    buffer = np.ones((1, 7), np.int64 if dtype is Dtype.I64 else np.bool_)
    audit = audit_of(tmp_path, {"position_ids": stored(buffer, dtype), UP.format(0): stored(gaussian(4, 4))})
    (left_out,) = audit.left_out
    assert (left_out.reason, left_out.explanation) == (LeftOutReason.NOT_WEIGHTS, explanation)
    assert (audit.coverage.tensors, audit.coverage.tensors_total, audit.coverage.complete) == (1, 2, True)
    assert (audit.coverage.bytes, audit.coverage.bytes_total) == (64, 64 + buffer.nbytes)


def test_a_complex_tensor_counts_real_and_imaginary_parts(tmp_path: Path) -> None:
    weights = (gaussian(20, 30, seed=1) + 1j * gaussian(20, 30, seed=2)).astype(np.complex64)
    layer = only_layer(tmp_path, stored(weights, Dtype.C64))
    assert (layer.dtype, layer.rows, layer.columns, layer.counts.weights) == ("C64", 20, 30, 1200)


# ---- tied weights


def test_a_head_tied_to_the_embedding_is_counted_once(tmp_path: Path) -> None:
    weights = stored(gaussian(50, 20), Dtype.F16)
    audit = audit_of(tmp_path, {EMBEDDING: weights, HEAD: weights})
    tied = {layer.name: layer.tied_to for layer in audit}
    assert tied == {EMBEDDING: "", HEAD: EMBEDDING}
    assert [(role.role, role.weights) for role in audit.roles] == [(Role.EMBEDDING, 1000)]


def test_a_head_that_differs_from_the_embedding_in_one_bit_is_not_tied(tmp_path: Path) -> None:
    codes = encoded(gaussian(50, 20), Dtype.BF16)
    other = codes.copy()
    other[-1, -1] ^= 1
    audit = audit_of(tmp_path, {EMBEDDING: raw(codes, Dtype.BF16), HEAD: raw(other, Dtype.BF16)})
    assert [layer.tied_to for layer in audit] == ["", ""]
    assert len(audit.roles) == 2


def test_hidden_layers_that_are_equal_are_not_taken_for_tied(tmp_path: Path) -> None:
    weights = stored(gaussian(50, 20))
    audit = audit_of(tmp_path, {UP.format(0): weights, UP.format(1): weights})
    assert [layer.tied_to for layer in audit] == ["", ""]
    assert audit.layers[0].content == audit.layers[1].content
    assert audit.roles[0].layers == 2


# ---- what is asked for

FUSED = "h.0.attn.c_attn.weight"
GPT2 = {"model_type": "gpt2", "n_head": 4, "n_embd": 8}


@pytest.mark.parametrize(
    ("selection", "read"),
    [
        (Selection(), ["k", "q", "v"]),
        (Selection(layers=["*c_attn*"]), ["k", "q", "v"]),
        (Selection(layers=[FUSED]), ["k", "q", "v"]),
        (Selection(layers=[f"{FUSED}[q]"]), ["q"]),
        (Selection(exclude=[f"{FUSED}[q]"]), ["k", "v"]),
        (Selection(exclude=[FUSED]), []),
        (Selection(exclude=["*.c_attn.weight"]), []),
        (Selection(layers=["lm_head*"]), []),
    ],
)
def test_a_part_is_chosen_by_its_own_name_or_its_tensors(selection: Selection, read: list[str], tmp_path: Path) -> None:
    fused = checkpoint(tmp_path, {FUSED: stored(gaussian(8, 24))}, config=GPT2)
    audit = audit_checkpoint(fused, selection=selection)
    assert [layer.name for layer in audit] == [f"{FUSED}[{part}]" for part in read]
    left_out = [each.name for each in audit.left_out]
    assert left_out == [f"{FUSED}[{part}]" for part in "kqv" if part not in read]
    assert {each.reason for each in audit.left_out} <= {LeftOutReason.NOT_REQUESTED}
    assert audit.coverage.complete


def test_the_parts_of_a_fused_tensor_are_audited_apart(tmp_path: Path) -> None:
    weights = gaussian(8, 24) * np.repeat([1.0, 10.0, 100.0], 8)
    audit = audit_checkpoint(checkpoint(tmp_path, {FUSED: stored(weights, Dtype.F64)}, config=GPT2))
    assert {layer.role: layer.largest for layer in audit} == {
        role: float(np.float32(np.abs(weights[:, 8 * place : 8 * (place + 1)]).max()))
        for place, role in enumerate((Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V))
    }
    assert (audit.coverage.tensors, audit.coverage.bytes) == (1, weights.nbytes)


# ---- what cannot be read


def two_shards(folder: Path) -> Checkpoint:
    return checkpoint(
        folder,
        {UP.format(0): stored(gaussian(90, 70)), UP.format(1): stored(gaussian(4, 4))},
        {UP.format(2): stored(gaussian(90, 70)), UP.format(3): stored(gaussian(4, 4))},
    )


@pytest.mark.parametrize("io", list(Io))
def test_a_shard_that_is_gone_leaves_the_layers_of_the_other(io: Io, tmp_path: Path) -> None:
    shards = two_shards(tmp_path)
    shards.files[0].unlink()
    audit = audit_checkpoint(shards, io=io)
    assert [layer.name for layer in audit] == [UP.format(2), UP.format(3)]
    assert {each.name: each.reason for each in audit.left_out} == {
        UP.format(0): LeftOutReason.COULD_NOT_READ,
        UP.format(1): LeftOutReason.COULD_NOT_READ,
    }
    assert "No such file" in audit.left_out[0].explanation
    assert (audit.coverage.complete, audit.coverage.tensors, audit.defects) == (False, 2, ())


@pytest.mark.parametrize("io", list(Io))
@pytest.mark.parametrize("kept", [0, 20_000])
def test_a_shard_cut_short_leaves_what_was_before_the_cut(io: Io, kept: int, tmp_path: Path) -> None:
    shards = two_shards(tmp_path)
    shards.files[0].write_bytes(shards.files[0].read_bytes()[:kept])  # before it is mapped: no page can vanish
    audit = audit_checkpoint(shards, io=io)
    assert [layer.name for layer in audit] == [UP.format(2), UP.format(3)]
    assert {each.reason for each in audit.left_out} == {LeftOutReason.REFUSED}
    assert not audit.coverage.complete
    assert {(defect.rule, defect.file) for defect in audit.defects} == {("JN001", str(shards.files[0]))}


@pytest.mark.usefixtures("_layers_shared_out")
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_layer_that_fails_halfway_is_left_out_once_and_whole(jobs: int, tmp_path: Path) -> None:
    shards = two_shards(tmp_path)
    shards.files[0].write_bytes(shards.files[0].read_bytes()[:12_000])
    audit = audit_checkpoint(shards, io=Io.PREAD, jobs=jobs)
    assert [layer.name for layer in audit] == [UP.format(2), UP.format(3)]
    assert [each.name for each in audit.left_out] == [UP.format(0), UP.format(1)]
    assert audit.layers[0].counts.weights == 90 * 70  # nothing of the layer that failed is among them
