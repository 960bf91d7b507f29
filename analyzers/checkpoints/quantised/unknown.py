"""Stored tensors that are a quantiser's codes by their names, and follow no scheme that is known here."""

from collections.abc import Iterator

from jaynes_audit.analyzers.checkpoints.quantised.claims import Stored
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import FLOATS, Dtype

# The end of the name of the codes, the end of another that must stand beside it, and whose they are.
MARKS: tuple[tuple[str, str, str], ...] = (
    ("codes", "codebooks", "AQLM"),
    ("indices", "centroids.weight", "VPTQ"),
    ("Qidxs", "SU", "QuIP#"),
    ("dense_weights", "row_offsets", "SpQR"),
    ("q_weight", "q_scale", "EXL2"),
    ("trellis", "suh", "EXL3"),
    ("trellis", "SU", "QTIP"),
    ("weight", "tables2", "HIGGS"),
    ("W_q", "scale", "HQQ"),
    ("weight._data", "weight._scale", "quanto"),
    ("weight._data", "weight._scale_shift", "quanto"),
    ("B", "s", "Marlin"),
    ("weight_packed", "meta", "Marlin 2:4"),
    ("weight.compressed", "weight.bitmask", "compressed-tensors' sparse formats"),
    ("compressed", "bitmask", "compressed-tensors' sparse formats"),
    ("weight", "weight_scales", "EETQ"),
    ("weight", "biases", "MLX"),
    ("weight_qdata", "weight_scale", "torchao"),
    ("weight:qdata", "weight:scale", "torchao"),
    ("weight", "state.__dict__", "bitsandbytes before it wrote safetensors"),
)
_BY_END: dict[str, tuple[tuple[str, str], ...]] = {
    end: tuple((beside, scheme) for other, beside, scheme in MARKS if other == end) for end, _, _ in MARKS
}
HOLDERS = frozenset({"weight", "state", "centroids", "res_centroids", "outlier_centroids"})  # no modules themselves
WEIGHTS = frozenset({"weight", "qweight", "weight_packed"})
KEPT = frozenset({"bias"})  # a plain tensor beside any codes
CODE_DTYPES = frozenset(dtype for dtype in Dtype if dtype not in FLOATS) - {Dtype.BOOL}
MATRIX = 2  # axes


def codes_without_scheme(left: Stored) -> Iterator[tuple[str, str]]:
    """Names of tensors that no scheme known takes and that are codes, or serve to read codes, each with the reason."""
    reasons = dict(found for tensor in left.values() if (found := _codes(tensor, left)))
    if not reasons:
        return
    for name in left:
        base, leaf = _parted(name)
        if base in reasons and leaf not in KEPT:
            yield name, f"codes only: {reasons[base]}"


def _codes(tensor: Tensor, left: Stored) -> tuple[str, str] | None:
    """The module whose codes a tensor holds, and why they stay codes."""
    if tensor.dtype not in CODE_DTYPES:
        return None
    base, leaf = _parted(tensor.name)
    for beside, scheme in _BY_END.get(leaf, ()):
        if f"{base}{beside}" in left:
            return base, f"how {scheme} stores weights is not known here"
    if leaf in WEIGHTS and len(tensor.shape) >= MATRIX:
        return base, "no scheme known tells which numbers these whole numbers stand for"
    return None


def _parted(name: str) -> tuple[str, str]:
    """A name as that of a module, with the dot after it, and of what it holds."""
    parts = name.split(".")
    length = 2 if len(parts) > 1 and parts[-2] in HOLDERS else 1
    leaf = ".".join(parts[-length:])
    return name[: len(name) - len(leaf)], leaf
