"""Queries, keys and squares that quantisers and converters store in another order, found and compared in one order."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from jaynes_audit.analyzers.checkpoints.opening import open_place
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.exact.exact import compare_exactly
from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Rearrangement, Relation, Side
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support import gguf_files
from tests.support.checkpoints import raw, write_file

Q8_0 = GGMLQuantizationType.Q8_0
OF_HF, OF_GGUF = "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"
RNG = np.random.default_rng(3)


def side_by_side(weights: np.ndarray, heads: int) -> np.ndarray:
    """`permute` of llama.cpp's convert_hf_to_gguf.py."""
    apart = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return apart.swapaxes(1, 2).reshape(weights.shape)


def float_layer(folder: Path, name: str, weights: np.ndarray) -> Layer:
    [tensor] = write_file(folder / "float.safetensors", {name: raw(weights, Dtype.F32)})
    return next(layers_of(tensor, {}))


def q8_layer(folder: Path, name: str, weights: np.ndarray) -> Layer:
    gguf_files.write(folder / "q.gguf", {name: (Q8_0, quants.quantize(weights, Q8_0))})
    return next(layers_of(open_place(folder / "q.gguf").tensors[0], {}))


def compared(a: Layer, b: Layer) -> Exact:
    [outcome] = compare_exactly([(a, b)], jobs=1)
    assert isinstance(outcome, Exact), outcome
    return outcome


def error_of(weights: np.ndarray) -> float:
    quantised = quants.dequantize(quants.quantize(weights, Q8_0), Q8_0)
    return float(np.linalg.norm(quantised - weights) / np.linalg.norm(weights))


def numbers(rows: int, columns: int) -> np.ndarray:
    return (RNG.standard_normal((rows, columns)) * 0.02).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns", "heads"), [(128, 96, 4), (64, 64, 4), (1024, 32, 8), (96, 64, 1)])
def test_queries_that_llama_cpp_reordered_and_quantised_are_quantised(
    tmp_path: Path, rows: int, columns: int, heads: int
) -> None:
    weights = numbers(rows, columns)
    a = float_layer(tmp_path, OF_HF, weights)
    b = q8_layer(tmp_path, OF_GGUF, side_by_side(weights, heads))
    head_rows = rows // heads
    moved = np.count_nonzero(side_by_side(np.arange(head_rows)[:, None], 1)[:, 0] != np.arange(head_rows)) * heads
    for first, second, quantised in ((a, b, Side.B), (b, a, Side.A)):
        outcome = compared(first, second)
        assert outcome.relation is Relation.QUANTISED
        assert outcome.rearrangement == Rearrangement(transposed=False, moved_rows=moved, moved_columns=0)
        assert outcome.quantisation is not None
        assert outcome.quantisation.quantised is quantised
        assert outcome.quantisation.relative_error == pytest.approx(error_of(weights), rel=0.01)
        assert isinstance(outcome.quantisation.ratio, float)
        assert outcome.quantisation.ratio < 1.2


def test_queries_in_the_other_order_that_were_trained_on_differ_by_what_changed(tmp_path: Path) -> None:
    weights = numbers(128, 96)
    changed = weights.copy()
    changed[70, 11] += 0.5
    changed[3, 5] -= 0.25
    a = float_layer(tmp_path, OF_HF, weights)
    [tensor] = write_file(tmp_path / "b.safetensors", {OF_HF: raw(side_by_side(changed, 4), Dtype.F32)})
    outcome = compared(a, next(layers_of(tensor, {})))
    assert outcome.relation is Relation.DIFFERENT
    assert outcome.rearrangement is not None
    assert outcome.difference is not None
    assert outcome.difference.changed == 2
    assert (outcome.difference.largest_row, outcome.difference.largest_column) == (70, 11)
    assert outcome.difference.relative_error == pytest.approx(
        np.linalg.norm(changed - weights) / np.linalg.norm(weights), rel=1e-9
    )


def test_queries_of_unrelated_models_are_in_no_order(tmp_path: Path) -> None:
    outcome = compared(float_layer(tmp_path, OF_HF, numbers(128, 96)), q8_layer(tmp_path, OF_GGUF, numbers(128, 96)))
    assert (outcome.relation, outcome.rearrangement) == (Relation.DIFFERENT, None)


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 64)])
@pytest.mark.parametrize("name", ["h.0.attn.c_proj.weight", "blk.0.ffn_up.weight"])
def test_what_was_turned_and_quantised_is_quantised(tmp_path: Path, shape: tuple[int, int], name: str) -> None:
    weights = numbers(*shape)
    a = float_layer(tmp_path, name, weights)
    b = q8_layer(tmp_path, "blk.0.ffn_down.weight", np.ascontiguousarray(weights.T))
    for first, second, quantised in ((a, b, Side.B), (b, a, Side.A)):
        outcome = compared(first, second)
        assert outcome.relation is Relation.QUANTISED
        assert outcome.quantisation is not None
        assert outcome.quantisation.quantised is quantised
        assert outcome.quantisation.relative_error == pytest.approx(error_of(weights.T), rel=0.01)
        assert isinstance(outcome.quantisation.ratio, float)
        assert outcome.quantisation.ratio < 1.2
