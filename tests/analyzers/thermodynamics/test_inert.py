"""Parameters that no gradient moves: which they are, and how large."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import History, Method, TrainingState
from jaynes_audit.analyzers.thermodynamics.inert import inert_statements
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Statement
from tests.support.measured_evidence import measured_evidence

Floats = npt.NDArray[np.float64]

WIDTH, WORDS, LAYERS = 8, 20, 2
GPT2: Mapping[str, object] = {
    "model_type": "gpt2",
    "n_head": 2,
    "n_layer": LAYERS,
    "vocab_size": WORDS,
    "tie_word_embeddings": False,
}


def _gpt2(seed: int = 0) -> dict[str, Floats]:
    generator = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (WORDS, WIDTH), "lm_head.weight": (WORDS, WIDTH)}
    for norm in ("ln_f", *(f"h.{block}.ln_{number}" for block in range(LAYERS) for number in (1, 2))):
        shapes |= {f"transformer.{norm}.weight": (WIDTH,), f"transformer.{norm}.bias": (WIDTH,)}
    for block in range(LAYERS):
        for name, inputs, outputs in (
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, 4 * WIDTH),
            ("mlp.c_proj", 4 * WIDTH, WIDTH),
        ):
            module = f"transformer.h.{block}.{name}"
            shapes |= {f"{module}.weight": (inputs, outputs), f"{module}.bias": (outputs,)}
    return {name: generator.normal(0.1, 1, shape) for name, shape in shapes.items()}


def _statements(folder: Path, weights: Mapping[str, Floats], config: Mapping[str, object]) -> dict[str, Statement]:
    return {each.subject: each for each in inert_statements(measured_evidence(folder, weights, config))}


def _figures(statement: Statement) -> dict[str, float]:
    return {each.name: each.value for each in statement.figures}


def test_the_inert_parameters_of_gpt2_are_shown_and_not_judged(tmp_path: Path) -> None:
    weights = _gpt2()
    keys = np.concatenate([weights[f"transformer.h.{block}.attn.c_attn.bias"][WIDTH : 2 * WIDTH] for block in (0, 1)])
    writes = np.concatenate(
        [weights[f"transformer.h.{block}.{name}.c_proj.weight"] for block in (0, 1) for name in ("attn", "mlp")]
    )
    head = weights["lm_head.weight"]
    ones = np.full(WIDTH, WIDTH**-0.5)

    found = _statements(tmp_path, weights, GPT2)

    assert all(each.answer is Answer.CANNOT_BE_SAID for each in found.values())
    biases, direction, row = found.values()
    assert _figures(biases) == {"rms": pytest.approx(math.sqrt((keys**2).mean())), "parameters": 2 * WIDTH}
    share = ((writes @ ones) ** 2).sum() / (writes**2).sum()
    assert _figures(direction) == {"share of their squared norm": pytest.approx(100 * share), "matrices": 4}
    share = WORDS * (head.mean(axis=0) ** 2).sum() / (head**2).sum()
    assert _figures(row) == {"share of its squared norm": pytest.approx(100 * share)}


def test_a_stream_that_the_head_reads_without_a_norm_has_no_inert_direction(tmp_path: Path) -> None:
    weights = {name: each for name, each in _gpt2().items() if "ln_f" not in name}

    assert "all-ones direction of what blocks write" not in _statements(tmp_path, weights, GPT2)


def test_a_tied_head_has_no_inert_row_and_rotary_keys_no_inert_bias(tmp_path: Path) -> None:
    weights = _gpt2()
    tied = {name: each for name, each in weights.items() if name != "lm_head.weight"}

    assert set(_statements(tmp_path / "tied", tied, {**GPT2, "tie_word_embeddings": True})) == {
        "biases of keys",
        "all-ones direction of what blocks write",
    }
    assert set(_statements(tmp_path / "capped", weights, {**GPT2, "final_logit_softcapping": 30.0})) == {
        "biases of keys",
        "all-ones direction of what blocks write",
    }


def _llama() -> dict[str, Floats]:
    generator = np.random.default_rng(0)
    weights = {"model.embed_tokens.weight": generator.normal(size=(WORDS, WIDTH)), "model.norm.weight": np.ones(WIDTH)}
    block = "model.layers.0"
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
        weights[f"{block}.{name}.weight"] = generator.normal(size=(WIDTH, WIDTH))
    weights[f"{block}.self_attn.k_proj.bias"] = np.ones(WIDTH)
    for name, shape in (("up_proj", (16, WIDTH)), ("gate_proj", (16, WIDTH)), ("down_proj", (WIDTH, 16))):
        weights[f"{block}.mlp.{name}.weight"] = generator.normal(size=shape)
    for name in ("input_layernorm", "post_attention_layernorm"):
        weights[f"{block}.{name}.weight"] = np.ones(WIDTH)
    return weights


def test_rotary_positions_and_rms_norms_leave_nothing_inert(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": WORDS}

    (statement,) = _statements(tmp_path, _llama(), config).values()

    assert statement.subject == "the run"
    assert statement.answer is Answer.CANNOT_BE_SAID


def test_what_decay_alone_leaves_of_the_biases_of_keys_stands_beside_what_is_left(tmp_path: Path) -> None:
    rate, decay, steps = 1e-2, 0.1, 400
    history = History(learning_rates=np.full(steps, rate), logged=steps, source="the test")
    now = TrainingState(steps=steps, method=Method.ADAMW, history=history)
    weights = _gpt2()
    shrunk = {name: each * math.exp(-rate * decay * 300) for name, each in weights.items()}
    earlier = measured_evidence(tmp_path / "100", weights, GPT2, training=replace(now, steps=100), decay=decay)
    evidence = measured_evidence(tmp_path / "400", shrunk, GPT2, training=now, decay=decay)

    biases = next(inert_statements(replace(evidence, earlier=earlier)))

    figures = _figures(biases)
    assert figures["norm left since the earlier checkpoint"] == pytest.approx(math.exp(-0.3))
    assert figures["left by decay"] == pytest.approx(math.exp(-0.3), rel=1e-3)
