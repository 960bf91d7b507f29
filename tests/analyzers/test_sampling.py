"""Initial weights: their law, their scale, and what does not change them."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy import stats

from jaynes_audit.analyzers import sampling
from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import Checkpoint, Defect, open_checkpoint
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, UsageError
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sampling import Lognormal, Scale, encoded, file_bytes, one_law, own_laws, scaled
from tests.support.checkpoints import Stored, checkpoint, raw, stored

UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
USUAL = one_law(Lognormal(log_mean=-4.0, log_sigma=1.2))
FOUR_ERRORS = 4  # a true statement fails once in 16,000; the seeds are fixed

CASES = Path(__file__).parents[2] / "fixtures"


def blank(*shape: int, dtype: Dtype = Dtype.F32) -> Stored:
    return stored(np.zeros(shape), dtype)


def written(path: Path, source: Checkpoint, laws: sampling.Laws = USUAL, *, seed: int = 0, dtype: Dtype | None = None):
    """The file that is made of a checkpoint, and its tensors."""
    path.write_bytes(b"".join(file_bytes(sampling.sample(source, laws, dtype), seed=seed, metadata={})))
    return load_file(path)


def drawn(tmp_path: Path, tensors: Mapping[str, Stored], laws: sampling.Laws = USUAL, **options) -> dict:
    config = options.pop("config", None)
    return written(tmp_path / "drawn.safetensors", checkpoint(tmp_path, tensors, config=config), laws, **options)


# ---- the law


@pytest.mark.parametrize("dtype", [Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64])
@pytest.mark.parametrize(("log_mean", "log_sigma"), [(-4.0, 1.2), (-3.0, 0.5)])
def test_the_moments_of_ln_w_are_those_asked_for(
    tmp_path: Path, dtype: Dtype, log_mean: float, log_sigma: float
) -> None:
    law = one_law(Lognormal(log_mean=log_mean, log_sigma=log_sigma))
    weights = drawn(tmp_path, {UP: blank(1000, 1000, dtype=dtype)}, law)[UP].astype(np.float64)
    x = np.log(np.abs(weights)).reshape(-1)
    error = log_sigma / math.sqrt(x.size)
    rounding = 1e-5  # a bf16 step is 0.8 % wide, and rounding errors of a million weights average out
    assert x.mean() == pytest.approx(log_mean, abs=FOUR_ERRORS * error + rounding)
    assert x.std() == pytest.approx(log_sigma, abs=FOUR_ERRORS * error / math.sqrt(2) + rounding)
    assert stats.skew(x) == pytest.approx(0, abs=FOUR_ERRORS * math.sqrt(6 / x.size) + 1e-3)
    assert stats.kurtosis(x) == pytest.approx(0, abs=FOUR_ERRORS * math.sqrt(24 / x.size) + 1e-3)


def test_the_strengths_pass_the_test_of_kolmogorov_and_smirnov(tmp_path: Path) -> None:
    weights = drawn(tmp_path, {UP: blank(500, 700, dtype=Dtype.F64)})[UP]
    assert stats.kstest(np.abs(weights).reshape(-1), stats.lognorm(1.2, scale=math.exp(-4)).cdf).pvalue > 1e-3


def test_half_of_the_signs_are_negative_whatever_the_strength(tmp_path: Path) -> None:
    weights = drawn(tmp_path, {UP: blank(999, 1001)})[UP].astype(np.float64).reshape(-1)
    error = 0.5 / math.sqrt(weights.size)
    assert (weights < 0).mean() == pytest.approx(0.5, abs=FOUR_ERRORS * error)
    correlation = np.corrcoef(np.sign(weights), np.log(np.abs(weights)))[0, 1]
    assert correlation == pytest.approx(0, abs=FOUR_ERRORS * 2 * error)


def test_neither_rows_nor_columns_resemble_each_other(tmp_path: Path) -> None:
    """Two neighbours correlate as little as independent ones do, across the ends of chunks too."""
    x = np.log(np.abs(drawn(tmp_path, {UP: blank(1000, 400)})[UP].astype(np.float64)))
    for one, other in ((x[1:], x[:-1]), (x[:, 1:], x[:, :-1]), (x[164:], x[:-164])):
        assert np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1] == pytest.approx(
            0, abs=FOUR_ERRORS / math.sqrt(one.size)
        )


# ---- the scale

CONV = "features.0.conv.weight"
GPT2 = {"model_type": "gpt2"}
# (outputs, inputs, height, width) as torch has it; GPT-2 stores (inputs, outputs).
FANS = [
    (UP, (600, 400), {}, 400, 600),
    (CONV, (96, 64, 5, 3), {}, 64 * 15, 96 * 15),
    ("h.0.mlp.c_fc.weight", (400, 1600), GPT2, 400, 1600),
]


@pytest.mark.parametrize("scale", [Scale.HE, Scale.GLOROT])
@pytest.mark.parametrize(("name", "shape", "config", "fan_in", "fan_out"), FANS)
def test_the_rms_is_that_of_he_or_glorot(tmp_path: Path, *, scale, name, shape, config, fan_in, fan_out) -> None:
    log_sigma = 0.5
    laws = scaled(one_law(Lognormal(log_mean=7.0, log_sigma=log_sigma)), scale)
    weights = drawn(tmp_path, {name: blank(*shape)}, laws, config=config)[name].astype(np.float64)
    wanted = 2 / fan_in if scale is Scale.HE else 2 / (fan_in + fan_out)
    # E w^4 / (E w^2)^2 = exp(4 sigma^2) for LN(mu, sigma)
    relative_error = math.sqrt((math.exp(4 * log_sigma**2) - 1) / weights.size)
    assert (weights**2).mean() == pytest.approx(wanted, rel=FOUR_ERRORS * relative_error)
    assert np.log(np.abs(weights)).std() == pytest.approx(log_sigma, rel=0.01)


def test_the_expected_square_of_a_scaled_law_is_exact() -> None:
    law = scaled(one_law(Lognormal(log_mean=0.0, log_sigma=1.7)), Scale.HE)(layer_of(UP, (300, 200)))
    # scipy's second moment of the lognormal
    assert stats.lognorm(law.log_sigma, scale=math.exp(law.log_mean)).moment(2) == pytest.approx(2 / 200)


def layer_of(name: str, shape: tuple[int, ...]) -> Layer:
    tensor = sampling.Tensor(name=name, dtype=Dtype.F32, shape=shape, file=Path("none"), start=0, end=0)
    return next(sampling.layers_of(tensor, {}))


# ---- what the bytes depend on


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {UP: blank(64, 64), DOWN: blank(64, 64)})
    plan = sampling.sample(source, USUAL, None)
    first, again, other = (b"".join(file_bytes(plan, seed=seed, metadata={})) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_neither_order_nor_shards_nor_other_tensors_change_the_weights(tmp_path: Path) -> None:
    tensors = {UP: blank(200, 600), DOWN: blank(600, 200), "norm.weight": blank(200)}
    whole = written(tmp_path / "whole", checkpoint(tmp_path, tensors))
    shards = [{name: each} for name, each in reversed(tensors.items())]
    written(tmp_path / "joined", checkpoint(tmp_path, *shards))
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "joined").read_bytes()
    alone = written(tmp_path / "alone", checkpoint(tmp_path, {UP: blank(200, 600)}))
    np.testing.assert_array_equal(alone[UP], whole[UP])


def test_tensors_of_one_shape_differ(tmp_path: Path) -> None:
    weights = drawn(tmp_path, {f"model.layers.{n}.mlp.up_proj.weight": blank(64, 64) for n in range(12)})
    assert len({each.tobytes() for each in weights.values()}) == 12


def test_a_format_changes_the_rounding_and_not_the_draw(tmp_path: Path) -> None:
    exact = drawn(tmp_path, {UP: blank(100, 100)}, dtype=Dtype.F64)[UP]
    for dtype, numpy_dtype in ((Dtype.F32, np.float32), (Dtype.F16, np.float16)):
        np.testing.assert_array_equal(
            drawn(tmp_path, {UP: blank(100, 100)}, dtype=dtype)[UP], exact.astype(numpy_dtype)
        )


# ---- the parts of fused tensors


def by_role(layer: Layer) -> Lognormal:
    means = {Role.ATTENTION_Q: -1.0, Role.ATTENTION_K: -3.0, Role.ATTENTION_V: -5.0}
    means |= {Role.EXPERT_GATE: -2.0, Role.EXPERT_UP: -6.0}
    return Lognormal(log_mean=means[layer.part.role], log_sigma=0.01)


def test_each_part_of_a_fused_matrix_has_its_own_law(tmp_path: Path) -> None:
    name = "h.0.attn.c_attn.weight"
    x = np.log(np.abs(drawn(tmp_path, {name: blank(64, 192)}, by_role, config=GPT2)[name]))
    for part, log_mean in zip(np.split(x, 3, axis=1), (-1, -3, -5), strict=True):
        np.testing.assert_allclose(part, log_mean, atol=0.1)


def test_each_expert_of_a_stack_has_its_own_law(tmp_path: Path) -> None:
    """gpt-oss stores (experts, inputs, outputs), with gate and up projection column by column in turn."""
    name = "model.layers.0.mlp.experts.gate_up_proj"
    config = {"model_type": "gpt_oss", "hidden_size": 64}
    x = np.log(np.abs(drawn(tmp_path, {name: blank(40, 64, 96)}, by_role, config=config)[name]))
    np.testing.assert_allclose(x[..., 0::2], -2, atol=0.1)
    np.testing.assert_allclose(x[..., 1::2], -6, atol=0.1)


# ---- per layer


def test_its_own_law_is_the_fit_of_each_layer(tmp_path: Path) -> None:
    source = open_checkpoint(str(CASES / "digits" / "model.safetensors"))
    fits = {layer.name: layer.fit for layer in audit_checkpoint(source)}
    laws = own_laws(audit_checkpoint(source))
    weights = written(tmp_path / "drawn", source, laws)
    for name in (name for name, each in weights.items() if each.ndim == 2):
        x = np.log(np.abs(weights[name].astype(np.float64)))
        moments = fits[name].moments
        error = moments.log_sigma / math.sqrt(x.size)
        assert x.mean() == pytest.approx(moments.log_mean, abs=FOUR_ERRORS * error)
        assert x.std() == pytest.approx(moments.log_sigma, abs=FOUR_ERRORS * error)


def test_a_layer_without_a_fit_has_no_law_of_its_own(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {UP: blank(64, 64)})
    with pytest.raises(UsageError, match=r"'model\.layers.*every weight is zero.*--mu and --sigma"):
        sampling.sample(source, own_laws(audit_checkpoint(source)), None)


def test_a_layer_that_cannot_be_read_has_no_law_of_its_own(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {UP: blank(64, 64)})
    source.files[0].unlink()
    with pytest.raises(CouldNotRead, match=r"'model\.layers.*cannot be fitted.*cannot be read"):
        sampling.sample(source, own_laws(audit_checkpoint(source)), None)


# ---- what is no weight matrix


def test_gains_begin_at_1_and_biases_at_0(tmp_path: Path) -> None:
    others = {
        "model.norm.weight": blank(8),
        "model.layers.0.self_attn.q_proj.bias": stored(np.ones(8)),
        "bn.running_mean": stored(np.ones(8)),
        "bn.running_var": blank(8),
        "layer.0.layer_scale": blank(8),
        "backbone.layers.0.mixer.D": blank(8),
        "backbone.layers.0.mixer.A_log": blank(2, 3),
    }
    got = drawn(tmp_path, {UP: blank(8, 8), **others})
    for name in ("model.norm.weight", "bn.running_var", "layer.0.layer_scale", "backbone.layers.0.mixer.D"):
        assert (got[name] == 1).all(), name
    for name in ("model.layers.0.self_attn.q_proj.bias", "bn.running_mean"):
        assert (got[name] == 0).all(), name
    np.testing.assert_allclose(got["backbone.layers.0.mixer.A_log"], np.log([[1, 2, 3]] * 2), rtol=1e-6)


def test_the_gains_of_gemma_begin_at_0_and_those_of_its_vision_tower_at_1(tmp_path: Path) -> None:
    names = ("model.layers.0.input_layernorm.weight", "vision_tower.encoder.layers.0.layer_norm1.weight")
    got = drawn(tmp_path, {UP: blank(8, 8), **dict.fromkeys(names, blank(8))}, config={"model_type": "gemma3"})
    assert [got[name].max() for name in names] == [0, 1]


def test_buffers_are_copied_and_said_to_be(tmp_path: Path) -> None:
    buffers = {
        "position_ids": Stored(Dtype.I64, (1, 5), np.arange(5, dtype=np.int64).tobytes()),
        "rotary_emb.inv_freq": stored(np.geomspace(1, 1e-4, 16)),
        "h.0.attn.mask": Stored(Dtype.BOOL, (2, 2), b"\1\0\1\1"),
    }
    source = checkpoint(tmp_path, {UP: blank(8, 8), **buffers})
    got = written(tmp_path / "drawn", source, dtype=Dtype.F16)
    for name, each in buffers.items():
        assert got[name].tobytes() == each.content
        assert got[name].shape == each.shape
    assert any("copied 3 untrained tensors" in remark for remark in sampling.sample(source, USUAL, None).remarks)


def test_a_tensor_without_elements_stays_one(tmp_path: Path) -> None:
    assert drawn(tmp_path, {UP: blank(8, 8), DOWN: blank(0, 8)})[DOWN].shape == (0, 8)


def test_a_buffer_cut_short_after_its_header_was_read_could_not_be_read(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {UP: blank(8, 8), "position_ids": stored(np.arange(8), Dtype.I64)})
    plan = sampling.sample(source, USUAL, None)
    source.files[0].write_bytes(b"short")
    with pytest.raises(CouldNotRead, match="became shorter"):
        list(file_bytes(plan, seed=0, metadata={}))


# ---- rounding

PATTERNS = st.integers(0, 2**32 - 1).filter(lambda bits: (bits & 0x7FFFFFFF) <= 0x7F800000)


@given(st.lists(PATTERNS, min_size=1))
def test_bf16_is_rounded_as_ml_dtypes_does(patterns: list[int]) -> None:
    numbers = np.array(patterns, np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(encoded(numbers.astype(np.float64), Dtype.BF16), expected)


def test_bf16_ties_go_to_the_even_neighbour() -> None:
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8)])
    expected = np.array([1, 1 + 2**-6, -1], ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(encoded(ties, Dtype.BF16), expected)


def test_a_weight_too_large_for_fp16_is_refused(tmp_path: Path) -> None:
    law = one_law(Lognormal(log_mean=8.0, log_sigma=2.0))
    plan = sampling.sample(checkpoint(tmp_path, {UP: blank(64, 64)}), law, Dtype.F16)
    with pytest.raises(UsageError, match=r"too large for F16; choose --dtype bf16 or a smaller sigma"):
        list(file_bytes(plan, seed=0, metadata={}))


def test_it_is_said_how_many_weights_are_too_small_for_fp16(tmp_path: Path) -> None:
    law = one_law(Lognormal(log_mean=-14.0, log_sigma=2.0))
    source = checkpoint(tmp_path, {UP: blank(300, 300)})
    [remark] = sampling.sample(source, law, Dtype.F16).remarks
    said = int(remark.split()[1].replace(",", ""))
    zeros = int((written(tmp_path / "drawn", source, law, dtype=Dtype.F16)[UP] == 0).sum())
    assert zeros == pytest.approx(said, abs=FOUR_ERRORS * math.sqrt(said))
    assert not sampling.sample(source, law, Dtype.BF16).remarks


# ---- the file


@pytest.mark.parametrize("case", ["babble/bf16", "babble/fp16", "digits/model.safetensors"])
def test_names_shapes_and_formats_are_those_of_the_source(tmp_path: Path, case: str) -> None:
    source = open_checkpoint(str(CASES / case))
    path = tmp_path / "drawn.safetensors"
    path.write_bytes(b"".join(file_bytes(sampling.sample(source, USUAL, None), seed=0, metadata={"format": "pt"})))
    with safe_open(path, "numpy") as got:
        slices = {name: got.get_slice(name) for name in got.keys()}  # noqa: SIM118 - it is no mapping
        assert got.metadata() == {"format": "pt"}
    stored_as = {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
    assert stored_as == {tensor.name: (tensor.dtype, tensor.shape) for tensor in source.tensors}


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32])
def test_an_audit_of_the_sample_gives_back_the_law(tmp_path: Path, dtype: Dtype) -> None:
    path = tmp_path / "drawn.safetensors"
    plan = sampling.sample(open_checkpoint(str(CASES / "babble" / "bf16")), USUAL, dtype)
    path.write_bytes(b"".join(file_bytes(plan, seed=3, metadata={})))
    matrices = [layer for layer in audit_checkpoint(open_checkpoint(str(path))) if layer.fan_in]
    assert len(matrices) == plan.matrices
    assert sum(layer.counts.weights for layer in matrices) == plan.weights
    for layer in matrices:
        error = 1.2 / math.sqrt(layer.counts.weights)
        assert layer.fit.moments.log_mean == pytest.approx(-4, abs=FOUR_ERRORS * error + 1e-4)
        assert layer.fit.moments.log_sigma == pytest.approx(1.2, abs=FOUR_ERRORS * error + 1e-4)


def test_the_data_of_every_tensor_begin_at_a_multiple_of_their_width(tmp_path: Path) -> None:
    tensors = {"a.weight": blank(3, 5, dtype=Dtype.BF16), "b.weight": blank(3, 3), "norm.weight": blank(1)}
    drawn(tmp_path, tensors)
    opened = open_checkpoint(str(tmp_path / "drawn.safetensors"))
    assert [tensor.start % np.dtype(kind).itemsize for tensor, kind in zip(opened.tensors, "ffe", strict=True)] == [
        0
    ] * 3


def test_a_tie_stays_a_tie(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {"model.embed_tokens.weight": blank(16, 8)})
    tied = replace(source, aliases={"lm_head.weight": "model.embed_tokens.weight"})
    assert set(written(tmp_path / "drawn.safetensors", tied)) == {"model.embed_tokens.weight"}
    assert open_checkpoint(str(tmp_path / "drawn.safetensors")).aliases == tied.aliases


# ---- what is refused


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {UP: blank(8, 8)})
    defect = Defect(rule="JN001", case="cut", file="shard-2", sentence="the file is cut off")
    for broken in (replace(source, defects=(defect,)), replace(source, missing=(DOWN,))):
        with pytest.raises(CouldNotRead, match="not every shape is known"):
            sampling.sample(broken, USUAL, None)


def test_a_pipeline_is_refused(tmp_path: Path) -> None:
    source = replace(checkpoint(tmp_path, {UP: blank(8, 8)}), configs={"unet/": {"a": 1}, "vae/": {"a": 1}})
    with pytest.raises(UsageError, match=r"several networks; name one of 'unet/', 'vae/'"):
        sampling.sample(source, USUAL, None)


def test_a_checkpoint_without_a_matrix_has_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(NothingToAudit, match="no weight matrix to draw"):
        sampling.sample(checkpoint(tmp_path, {"norm.weight": blank(8)}), USUAL, None)


def test_the_codes_of_a_quantiser_are_no_weights(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {UP: raw(np.zeros((8, 8), np.int8), Dtype.I8)})
    with pytest.raises(UsageError, match="stored as I8, codes and not weights"):
        sampling.sample(source, USUAL, Dtype.BF16)


def test_a_small_float_needs_a_format_that_is_drawn(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, {UP: blank(8, 8, dtype=Dtype.F8_E4M3)})
    with pytest.raises(UsageError, match="stored as F8_E4M3, which is not drawn; choose a --dtype"):
        sampling.sample(source, USUAL, None)
    assert written(tmp_path / "drawn", source, dtype=Dtype.F16)[UP].dtype == np.float16


# ---- from a config alone

LLAMA = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16, "intermediate_size": 24,'
LLAMA += ' "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 20, "tie_word_embeddings": true,'
LLAMA += ' "auto_map": {"AutoModel": "code--run"}, "attn_implementation": "somebody/kernel"}'


def config_file(tmp_path: Path, text: str = LLAMA) -> Path:
    path = tmp_path / "config.json"
    path.write_text(text)
    return path


def test_without_transformers_a_config_tells_no_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sampling.import_module("sys").modules, "torch", None)
    with pytest.raises(UsageError, match=r"torch is not installed: `pip install torch transformers`, or give a chec"):
        sampling.checkpoint_of_config(config_file(tmp_path))


@pytest.mark.parametrize(("text", "words"), [("{", "is not JSON"), ("[]", "is not a JSON object"), ("{}", "is empty")])
def test_a_config_that_says_nothing_could_not_be_read(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CouldNotRead, match=words):
        sampling.checkpoint_of_config(config_file(tmp_path, text))


def test_a_config_gives_the_network_that_transformers_would_build(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    source = sampling.checkpoint_of_config(config_file(tmp_path))
    shapes = {tensor.name: tensor.shape for tensor in source.tensors}
    assert shapes["model.embed_tokens.weight"] == (20, 16)
    assert shapes["model.layers.0.mlp.gate_proj.weight"] == (24, 16)
    assert source.aliases == {"lm_head.weight": "model.embed_tokens.weight"}
    got = written(tmp_path / "drawn", source)
    assert {each.dtype for each in got.values()} == {np.dtype(np.float32)}
    assert set(got) == set(shapes)


@pytest.mark.parametrize("text", ['{"model_type": "nothing"}', '{"model_type": "llama", "hidden_size": "many"}'])
def test_a_config_that_transformers_cannot_follow_is_refused(tmp_path: Path, text: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with pytest.raises(UsageError, match=r"transformers cannot build what .* describes"):
        sampling.checkpoint_of_config(config_file(tmp_path, text))
