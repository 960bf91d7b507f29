"""What may be said of the law of weights that were quantised: what it was before, or nothing."""

from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf.quants import quantize

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.layer_audit import LayerAudit
from tests.support.checkpoints import checkpoint, raw, stored

ROWS, COLUMNS = 512, 768
UP = "model.layers.0.mlp.up_proj.weight"
LARGEST_E4M3 = 448


def gaussian() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.02, (ROWS, COLUMNS))


def lognormal() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.exp(rng.normal(-4, 1.2, (ROWS, COLUMNS))) * rng.choice([-1.0, 1.0], (ROWS, COLUMNS))


def in_gguf(folder: Path, weights: np.ndarray, kind: gguf.GGMLQuantizationType) -> LayerAudit:
    writer = gguf.GGUFWriter(folder / "a.gguf", "llama")
    writer.add_tensor("blk.0.ffn_up.weight", quantize(weights.astype(np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (layer,) = audit_checkpoint(open_checkpoint(str(folder / "a.gguf")))
    return layer


def in_fp8(folder: Path, weights: np.ndarray) -> LayerAudit:
    """In e4m3 with a scale for each row, as compressed-tensors and FBGEMM store them."""
    scales = (np.abs(weights).max(axis=1, keepdims=True) / LARGEST_E4M3).astype(np.float32)
    codes = (weights / scales).astype(np.float32).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    both = checkpoint(folder, {UP: raw(codes, Dtype.F8_E4M3), f"{UP}_scale": stored(scales)})
    (layer,) = audit_checkpoint(dequantised(both))
    return layer


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_0"])
def test_evenly_spaced_codes_hide_the_law(kind: str, tmp_path: Path) -> None:
    layer = in_gguf(tmp_path, gaussian(), gguf.GGMLQuantizationType[kind])
    assert (layer.dtype, layer.verdict.name) == (kind, "undecided")
    assert layer.verdict.reason.startswith(f"GGUF {kind}")


def test_four_bits_make_gaussian_weights_look_lognormal(tmp_path: Path) -> None:
    # The reason for the rule: without it this layer would count for the claim.
    layer = in_gguf(tmp_path, gaussian(), gguf.GGMLQuantizationType.Q4_0)
    assert layer.evidence.ranking.winner.family is Family.LOGNORMAL
    assert abs(layer.fit.moments.skewness) < 0.2


@pytest.mark.parametrize(("weights", "law"), [(gaussian, "Gaussian"), (lognormal, "lognormal")])
def test_floats_of_eight_bits_keep_the_law(weights, law: str, tmp_path: Path) -> None:
    layer = in_fp8(tmp_path, weights())
    assert (layer.dtype, layer.verdict.name) == ("FP8", law)
    assert (layer.codes.available, layer.codes.used > 200) == (256, True)
