"""A cast leaves the weights the same, whatever they are; what is more than a cast does not."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants

from jaynes_audit.analyzers.baseline.diagnosis import relative_change
from jaynes_audit.analyzers.baseline.entry import Entry
from jaynes_audit.analyzers.baseline.sameness import Sameness, sameness
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import Level
from tests.support.baselines import USUAL, Weights, baseline_at, measured, told

NAME = "model.layers.0.mlp.up_proj.weight"
CHANGED, ROUNDED, IDENTICAL = Sameness.CHANGED, Sameness.ROUNDED, Sameness.IDENTICAL
DICE = np.random.default_rng(11)
LAWS = {
    "normal": DICE.normal(0, 0.02, (128, 96)),
    "of small scale": DICE.normal(0, 1e-5, (128, 96)),  # near the steps of fp16
    "lognormal": DICE.lognormal(-5, 2, (128, 96)) * DICE.choice([-1, 1], (128, 96)),
    "with outliers": DICE.standard_t(2, (128, 96)) * 0.01,
    "with equal rows": np.repeat(DICE.normal(0, 0.1, (16, 96)), 8, axis=0),
    "with zero rows": DICE.normal(0, 0.02, (128, 96)) * (np.arange(128) > 20)[:, np.newaxis],
    "a vector": DICE.normal(1, 0.1, 96),
    "a vector of ones": np.ones(96),
    "a small vector": DICE.normal(0, 1e-3, 7),
}


def entry(folder: Path, matrix: np.ndarray, dtype: Dtype = Dtype.F32) -> Entry:
    [found] = measured(folder, {NAME: matrix}, dtype).entries
    return found


def held(folder: Path, before: np.ndarray, now: np.ndarray, *dtypes: Dtype) -> Sameness:
    old, new = (entry(folder, each, dtype) for each, dtype in zip((before, now), dtypes, strict=True))
    return sameness(old, new, by_role=False)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F64])
def test_a_cast_there_and_back_leaves_the_weights_the_same(law: str, dtype: Dtype, tmp_path: Path) -> None:
    assert held(tmp_path, LAWS[law], LAWS[law], Dtype.F32, dtype) in {ROUNDED, IDENTICAL}
    assert held(tmp_path, LAWS[law], LAWS[law], dtype, Dtype.F32) in {ROUNDED, IDENTICAL}


@pytest.mark.parametrize("law", [law for law in LAWS if "ones" not in law])
@pytest.mark.parametrize("dtypes", [(Dtype.F32, Dtype.F32), (Dtype.F32, Dtype.BF16), (Dtype.BF16, Dtype.F32)])
def test_other_weights_of_the_same_law_are_not_the_same(law: str, dtypes: tuple[Dtype, Dtype], tmp_path: Path) -> None:
    weights = LAWS[law]
    others = weights * DICE.choice([0.9, 1.1], weights.shape)
    assert held(tmp_path, weights, others, *dtypes) is CHANGED


@pytest.mark.parametrize("relative", [0.03, 0.1, 0.3])
def test_a_relative_change_is_estimated_from_the_projections(relative: float, tmp_path: Path) -> None:
    weights = DICE.normal(0, 0.02, (512, 512))
    before = entry(tmp_path, weights).probe
    estimates = []
    for _ in range(5):
        now = entry(tmp_path, weights * (1 + DICE.normal(0, relative, weights.shape))).probe
        assert before
        assert now
        estimates.append(relative_change(before, now))
    assert np.median(estimates) == pytest.approx(relative, rel=0.35)  # eight projections each


# ---- GGUF: other names, other formats, rows of queries and keys in another order

HEADS, WIDTH, BLOCKS = 4, 64, 3
IN_GGUF = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}


def llama() -> Weights:
    dice = np.random.default_rng(13)
    weights: Weights = {"model.embed_tokens.weight": dice.normal(0, 0.02, (160, WIDTH))}
    for block in range(BLOCKS):
        for name in ("q", "k", "v"):
            weights[f"model.layers.{block}.self_attn.{name}_proj.weight"] = dice.normal(0, 0.02, (WIDTH, WIDTH))
        weights[f"model.layers.{block}.mlp.up_proj.weight"] = dice.normal(0, 0.02, (128, WIDTH))
        weights[f"model.layers.{block}.mlp.down_proj.weight"] = dice.normal(0, 0.02, (WIDTH, 128))
        weights[f"model.layers.{block}.input_layernorm.weight"] = dice.normal(1, 0.1, WIDTH)
    return {name: values.astype(np.float32) for name, values in weights.items()}


def rotary(matrix: np.ndarray) -> np.ndarray:
    """The rows as GGUF has them for rotary positions: halves of each head side by side (convert_hf_to_gguf.py)."""
    rows = matrix.shape[0]
    return matrix.reshape(HEADS, 2, rows // HEADS // 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def as_gguf(path: Path, weights: Weights, kind: str) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(BLOCKS)
    writer.add_embedding_length(WIDTH)
    writer.add_head_count(HEADS)
    for name, values in weights.items():
        words = name.split(".")
        known = f"blk.{words[2]}.{IN_GGUF['.'.join(words[3:-1])]}.weight" if "layers" in words else "token_embd.weight"
        stored = rotary(values) if "q_proj" in name or "k_proj" in name else values
        if values.ndim == 1 or kind == "F32":
            writer.add_tensor(known, np.ascontiguousarray(stored, np.float32))
        else:
            code = GGMLQuantizationType[kind]
            writer.add_tensor(known, quants.quantize(stored, code), raw_dtype=code)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0", "Q4_1"])
def test_a_model_in_gguf_is_the_model_and_a_layer_of_another_is_not(kind: str, tmp_path: Path) -> None:
    before, path = measured(tmp_path, llama()), tmp_path / "model.gguf"
    assert {each.rule for each in told(before, baseline_at(as_gguf(path, llama(), kind)))} <= {"JN204"}
    swapped = llama()
    swapped[NAME] = swapped[NAME.replace(".0.", ".1.")]
    found = told(before, baseline_at(as_gguf(path, swapped, kind)))
    assert {each.subject for each in found if each.rule != "JN204"} == {"blk.0.ffn_up.weight"}


def test_gains_that_a_format_keeps_in_another_way_are_no_other_gains(tmp_path: Path) -> None:
    before = measured(tmp_path, llama())
    less_one = {name: values - 1 if values.ndim == 1 else values for name, values in llama().items()}
    assert told(before, baseline_at(as_gguf(tmp_path / "model.gguf", less_one, "F32")), USUAL) == []
    one = llama()
    one["model.layers.1.input_layernorm.weight"] *= 1.05
    found = told(before, baseline_at(as_gguf(tmp_path / "model.gguf", one, "F32")), USUAL)
    assert [(each.rule, each.subject) for each in found] == [("JN407", "blk.1.attn_norm.weight")]


@pytest.mark.parametrize("garbled", ["random", "ones"])
def test_gains_that_are_others_in_every_block_are_no_convention(garbled: str, tmp_path: Path) -> None:
    before, rng = measured(tmp_path, llama()), np.random.default_rng(7)
    others = llama()
    for name, values in others.items():
        if values.ndim == 1:
            others[name] = np.ones_like(values) if garbled == "ones" else rng.normal(size=values.shape)
    found = told(before, baseline_at(as_gguf(tmp_path / "model.gguf", others, "F32")), USUAL)
    assert any(each.level is Level.ERROR for each in found)


def test_one_matrix_that_is_turned_round_in_another_format_is_told(tmp_path: Path) -> None:
    before, turned = measured(tmp_path, llama()), llama()
    name = "model.layers.1.self_attn.v_proj.weight"
    turned[name] = np.ascontiguousarray(turned[name].T)
    found = told(before, baseline_at(as_gguf(tmp_path / "model.gguf", turned, "F32")), USUAL)
    assert {each.subject for each in found} == {"blk.1.attn_v.weight"}


def test_signs_alone_of_float32_are_no_rounding_of_it(tmp_path: Path) -> None:
    weights = llama()
    before = measured(tmp_path, weights)
    for name in [NAME, NAME.replace("up_proj", "down_proj")]:
        flat = weights | {name: np.sign(weights[name]).astype(np.float32) * np.float32(0.03125)}
        assert any(each.level is Level.ERROR for each in told(before, measured(tmp_path, flat), USUAL))
