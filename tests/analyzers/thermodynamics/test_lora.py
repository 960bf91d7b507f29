"""Adapters as PEFT begins them, and as training leaves them."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.thermodynamics.lora import START, lora_statements
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Statement
from tests.support.measured_evidence import measured_evidence

Array = npt.NDArray[np.floating]

RANK, INPUTS, OUTPUTS = 8, 1024, 256
BOUND = 1 / math.sqrt(INPUTS)
MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def _initial_a(seed: int = 0) -> Array:
    """What PEFT draws: uniform between both signs of 1/sqrt(inputs)."""
    return np.random.default_rng(seed).uniform(-BOUND, BOUND, (RANK, INPUTS))


def _statement(folder: Path, a: Array, b: Array, config: dict[str, object] | None = None) -> Statement:
    weights = {f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}
    (statement,) = lora_statements(measured_evidence(folder, weights, config or {}))
    return statement


def _figures(statement: Statement) -> dict[str, float]:
    return {each.name: each.value for each in statement.figures}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_adapter_that_was_never_trained_does_nothing(tmp_path: Path, dtype: type[np.floating]) -> None:
    statement = _statement(tmp_path, _initial_a().astype(dtype), np.zeros((OUTPUTS, RANK), dtype))

    assert statement.answer is Answer.DOES_NOT_HOLD
    assert _figures(statement)["|A|^2 / rank"] == pytest.approx(1 / 3, rel=0.05)
    assert _figures(statement)["|B|^2 / rank"] == 0
    assert _figures(statement)["entries beyond the start"] == 0


def test_a_trained_adapter_has_entries_beyond_its_start(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    a = (_initial_a() + generator.normal(0, 0.2 * BOUND, (RANK, INPUTS))).astype(np.float32)
    b = generator.normal(0, 1e-3, (OUTPUTS, RANK)).astype(np.float32)

    statement = _statement(tmp_path, a, b)

    assert statement.answer is Answer.HOLDS
    figures = _figures(statement)
    assert figures["rank"] == RANK
    assert figures["|B|^2 / rank"] == pytest.approx(float((b.astype(np.float64) ** 2).sum()) / RANK)
    assert figures["entries beyond the start"] == pytest.approx(100 * (np.abs(a) > BOUND).mean(), abs=1)


def test_of_a_little_trained_adapter_nothing_can_be_said(tmp_path: Path) -> None:
    statement = _statement(tmp_path, _initial_a(), np.full((OUTPUTS, RANK), 1e-4))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert not statement.missing


def test_a_start_that_is_not_the_usual_one_is_named(tmp_path: Path) -> None:
    a = np.random.default_rng(0).normal(0, 1 / RANK, (RANK, INPUTS))

    statement = _statement(tmp_path, a, np.ones((OUTPUTS, RANK)), {"init_lora_weights": "gaussian"})

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert statement.missing == (START,)


def test_an_adapter_of_an_embedding_begins_otherwise_and_is_left_out(tmp_path: Path) -> None:
    names = "base_model.model.model.embed_tokens.lora_embedding_"
    weights = {f"{names}A": np.zeros((RANK, 100)), f"{names}B": np.ones((OUTPUTS, RANK))}

    assert list(lora_statements(measured_evidence(tmp_path, weights, {}))) == []


def test_a_network_without_adapters_has_nothing_to_say(tmp_path: Path) -> None:
    assert list(lora_statements(measured_evidence(tmp_path, {"0.weight": np.ones((8, 8))}, {}))) == []
