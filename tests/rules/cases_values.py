"""Cases of the rules about values: four small matrices of which one is damaged, or damaged in a way that may be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaynes_audit.analyzers.dtypes import Dtype
from tests.rules.case import Asked, Case, saved
from tests.support.checkpoints import Stored, raw, stored
from tests.support.weights import encoded

LAYERS = [f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in range(2) for part in ("up", "down")]
DAMAGED = LAYERS[1]
ROWS, COLUMNS = 96, 128
LARGEST_F16 = 65504.0

Change = Callable[[np.ndarray], np.ndarray]


def weights(seed: int) -> np.ndarray:
    """A matrix as training leaves it."""
    return np.random.default_rng(seed).normal(0, 0.02, (ROWS, COLUMNS))


def model(dtype: Dtype, **damaged: Stored) -> dict[str, Stored]:
    """Four sound matrices, and these under their names."""
    return {**{name: stored(weights(seed), dtype) for seed, name in enumerate(LAYERS)}, **damaged}


def case(
    failing: Change | Stored, passing: Change | Stored, *, dtype: Dtype = Dtype.F32, passing_name: str = DAMAGED
) -> Case:
    """Models with one matrix changed so, or replaced by this."""

    def asked(change: Change | Stored, name: str) -> Callable[[Path], Asked]:
        replaced = change if isinstance(change, Stored) else stored(change(weights(9)), dtype)
        return lambda folder: Asked(checkpoint=saved(folder, model(dtype, **{name: replaced})))

    return Case(failing=asked(failing, DAMAGED), passing=asked(passing, passing_name))


def everywhere(change: Change, dtype: Dtype) -> Callable[[Path], Asked]:
    """A model with all matrices changed so."""
    return lambda folder: Asked(
        checkpoint=saved(folder, {name: stored(change(weights(seed)), dtype) for seed, name in enumerate(LAYERS)})
    )


def with_one(value: float) -> Change:
    """Change one weight."""

    def changed(matrix: np.ndarray) -> np.ndarray:
        matrix[3, 4] = value
        return matrix

    return changed


def without_rows(number: int) -> Change:
    """Put zeros in the first rows."""

    def changed(matrix: np.ndarray) -> np.ndarray:
        matrix[:number] = 0
        return matrix

    return changed


def as_bf16(matrix: np.ndarray) -> np.ndarray:
    """Round to bfloat16 values."""
    return (encoded(matrix, Dtype.BF16).astype(np.uint32) << 16).view(np.float32)


SOUND = with_one(0.01)
BF16_AS_F16 = raw(encoded(weights(9), Dtype.BF16), Dtype.F16)

CASES: dict[str, Case] = {
    "JN101": case(with_one(np.nan), with_one(3e38)),
    "JN102": case(np.zeros_like, np.zeros_like, passing_name="base.layers.0.q_proj.lora_B.weight"),
    "JN103": case(lambda matrix: np.full_like(matrix, 0.02), lambda matrix: np.copysign(0.02, matrix)),
    "JN104": case(without_rows(2), without_rows(15), passing_name="model.embed_tokens.weight"),
    "JN105": case(with_one(LARGEST_F16), with_one(0.9 * LARGEST_F16), dtype=Dtype.F16),
    "JN106": case(lambda matrix: matrix * 1e-3, SOUND, dtype=Dtype.F16),
    "JN107": Case(failing=everywhere(as_bf16, Dtype.F32), passing=everywhere(SOUND, Dtype.F32)),
    "JN111": case(with_one(0.02 * 2.0**128 * (1 - 2**-8)), with_one(0.02 * 100)),
    "JN112": case(BF16_AS_F16, SOUND, dtype=Dtype.F16),
    "JN114": case(lambda matrix: as_bf16(matrix) * np.float32(1.05), lambda matrix: matrix * 1.05, dtype=Dtype.BF16),
}
