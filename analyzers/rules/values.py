"""Rules about the values of the weights, that need no baseline to compare with."""

import math

from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.rules.rule import LayerRule, Level, layer_rule

ROUNDING = 1e-12  # of a sum of up to 1e9 equal squares, added in lanes, tiles and rows

ZERO_BY_DESIGN = frozenset({Role.BIAS, Role.LORA_B, Role.BUFFER})  # where training starts from, or never goes


@layer_rule("JN101", "non-finite-weights", Level.ERROR)
def non_finite(layer: LayerAudit) -> str | None:
    """A tensor holds a NaN or an infinity.

    Why it matters: one NaN spreads to every activation that it touches.
    What to do: export again; if the training checkpoint has it too, go back to the step before the run diverged.
    """
    counts = layer.counts
    if not counts.nan + counts.infinite:
        return None
    return f"{counts.nan:,} NaN and {counts.infinite:,} infinite among {counts.weights:,} weights"


@layer_rule("JN102", "all-zero-tensor", Level.ERROR)
def all_zero(layer: LayerAudit) -> str | None:
    """A weight matrix is zero throughout. Biases, buffers and the second factor of LoRA may be.

    Why it matters: the layer passes nothing on; a shard was not written, or a module not loaded.
    What to do: compare with the checkpoint that was exported, and export again.
    """
    counts = layer.counts
    is_matrix = layer.rows > 1 and layer.columns > 1
    if counts.zero < counts.weights or not is_matrix or layer.role in ZERO_BY_DESIGN:
        return None
    return f"all {counts.weights:,} weights are zero"


@layer_rule("JN103", "constant-tensor", Level.WARNING)
def constant(layer: LayerAudit) -> str | None:
    """All weights of a matrix have one and the same value, which is not zero.

    Why it matters: such a matrix has rank one; it was filled, not trained.
    What to do: find out which module was left at its placeholder when the model was built or merged.
    """
    counts = layer.counts
    is_matrix = layer.rows > 1 and layer.columns > 1
    of_one_sign = counts.negative in {0, counts.weights}
    if not is_matrix or counts.distinct != 1 or counts.zero + counts.nan + counts.infinite or not of_one_sign:
        return None
    # Unlike float32 can share a 16-bit code, and then they have another mean square than their greatest.
    if not math.isclose(layer.rms, layer.largest, rel_tol=ROUNDING):
        return None
    return f"all {counts.weights:,} weights have the magnitude {layer.largest:g}"


VALUE_RULES: tuple[LayerRule, ...] = (non_finite, all_zero, constant)
