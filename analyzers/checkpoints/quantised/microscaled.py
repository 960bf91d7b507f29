"""Weights of four and six bits that share a scale in short runs: MXFP4, MXFP6 and NVFP4.

Sources: transformers, `integrations/mxfp4.py` (`_blocks` and `_scales` of gpt-oss; the low four bits come first, and
transformers' own parameter has the two last axes turned); openai/gpt-oss, `gpt_oss/torch/weights.py` (`.blocks` and
`.scales`, not turned); compressed-tensors, `compressors/{mxfp4,mxfp6,nvfp4}` (`weight_packed`); NVIDIA ModelOpt,
`torch/quantization/qtensor/nvfp4_tensor.py` (`weight_scale_2`).
"""

from jaynes_audit.analyzers.checkpoints.decoding import Scheme
from jaynes_audit.analyzers.checkpoints.quantised.claims import (
    CODES,
    EXPONENT_DTYPES,
    Claim,
    CodesOnly,
    Contents,
    Stored,
    made,
    matrices_of,
    parts_of,
    plain,
    require,
    require_dtype,
    require_method,
    require_shape,
    told,
)
from jaynes_audit.analyzers.checkpoints.quantised.decoder import Grid, Scaled
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Layout, Numbers, Packed, Turned
from jaynes_audit.analyzers.checkpoints.quantised.settings import Settings
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import Dtype

MX_GROUP = 32  # OCP Microscaling Formats 1.0
NV_GROUP = 16  # weights that share a scale in NVFP4
BLOCK_OCTETS = 16  # of gpt-oss: 32 numbers of four bits
FP4_BITS, FP6_BITS, OCTET = 4, 6, 8
GPT_OSS_AXES = 4  # experts, outputs, blocks, bytes
BYTES = frozenset({Dtype.U8})
FLOAT32 = frozenset({Dtype.F32})

SCHEMES = {
    scheme.label: scheme
    for scheme in (
        Scheme(label="MXFP4", description="fp4, a power of two for each 32 weights", code_bits=4),
        Scheme(label="MXFP6", description="fp6 (E2M3), a power of two for each 32 weights", code_bits=6),
        Scheme(label="NVFP4", description="fp4, an FP8 scale for each 16 weights, and one for all", code_bits=4),
    )
}


def claim_blocks(tensor: Tensor, stored: Stored) -> Claim | None:
    """Blocks of gpt-oss, in transformers' file or in OpenAI's own."""
    for separator in ("_", "."):
        name = tensor.name.removesuffix(f"{separator}blocks")
        scales = f"{name}{separator}scales"
        if name != tensor.name and tensor.dtype is Dtype.U8 and scales in stored:
            parts = {CODES: tensor, "scale": stored[scales]}
            return Claim(name=name, parts=parts, make=_turned_blocks if separator == "_" else _blocks)
    return None


def _turned_blocks(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    return _gpt_oss(claim, settings, turned=True)


def _blocks(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    return _gpt_oss(claim, settings, turned=False)


def _gpt_oss(claim: Claim, settings: Settings, *, turned: bool) -> Tensor:
    codes, scale = claim.codes, claim.parts["scale"]
    require_method(settings, "mxfp4")
    require_dtype(scale, BYTES, "scales")
    fits = codes.shape[-1:] == (BLOCK_OCTETS,) and len(codes.shape) >= (GPT_OSS_AXES if turned else GPT_OSS_AXES - 1)
    require(fits and len(codes.shape) <= GPT_OSS_AXES, f"shape {told(codes.shape)} is not that of blocks of fp4")
    require_shape(scale, codes.shape[:-1], "scales")
    matrices, rows, groups = matrices_of(scale.shape)
    octets, columns = groups * BLOCK_OCTETS, groups * MX_GROUP
    words = plain(codes, rows, octets, matrices=matrices)
    packed: Layout = Packed(words=words, word_columns=octets, word_bits=OCTET, bits=FP4_BITS)
    scales: Layout = Numbers(of=plain(scale, rows, groups, matrices=matrices), dtype=Dtype.F8_E8M0)
    shape, block = (*scale.shape[:-1], columns), (1, MX_GROUP)
    if turned:
        packed, scales = Turned(of=packed), Turned(of=scales)
        shape, block = (*shape[:-2], columns, rows), (MX_GROUP, 1)
    return made(
        claim,
        SCHEMES["MXFP4"],
        shape=shape,
        codes=packed,
        numbers=Dtype.F4,
        scales=Grid(numbers=scales, block_rows=block[0], block_columns=block[1]),
    )


def claim_packed_floats(tensor: Tensor, stored: Stored) -> Claim | None:
    """The packed floats of compressed-tensors."""
    name = tensor.name.removesuffix("_packed")
    if name == tensor.name or tensor.dtype is not Dtype.U8:
        return None
    more = {"scale": "scale", "unit": "global_scale", "zeros": "zero_point"}
    parts = parts_of(stored, **{role: f"{name}_{suffix}" for role, suffix in more.items()})
    return Claim(name=name, parts={CODES: tensor, **parts}, make=_packed_floats)


def _packed_floats(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    (scale,) = claim.needed("scale")
    require_method(settings, "compressed-tensors")
    require("zeros" not in claim.parts, "no scheme known has zero points beside packed floats")
    if "unit" in claim.parts:
        return _nvfp4(claim, divides=True)
    require_dtype(scale, EXPONENT_DTYPES, "scales")
    octets = matrices_of(claim.codes.shape)[2]
    for label, bits, dtype in (("MXFP4", FP4_BITS, Dtype.F4), ("MXFP6", FP6_BITS, Dtype.F6_E2M3)):
        columns = octets * OCTET // bits
        if columns * bits == octets * OCTET and scale.shape[-1:] == (columns / MX_GROUP,):
            scales = Numbers(of=_runs(claim, scale, columns, MX_GROUP), dtype=Dtype.F8_E8M0)
            return _packed(claim, SCHEMES[label], dtype, Grid(numbers=scales, block_rows=1, block_columns=MX_GROUP))
    shapes = f"{told(claim.codes.shape)} and scales of shape {told(scale.shape)}"
    raise CodesOnly(f"bytes of shape {shapes} are neither MXFP4 nor MXFP6")


def claim_modelopt(tensor: Tensor, stored: Stored) -> Claim | None:
    """The packed floats of NVIDIA's ModelOpt."""
    if tensor.dtype is not Dtype.U8 or f"{tensor.name}_scale_2" not in stored:
        return None
    base = tensor.name.removesuffix("weight")
    parts = parts_of(stored, scale=f"{tensor.name}_scale", unit=f"{tensor.name}_scale_2", comfy=f"{base}comfy_quant")
    return Claim(name=tensor.name, parts={CODES: tensor, **parts}, make=_modelopt, reads=("comfy",))


def _modelopt(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    claim.needed("scale")
    require("comfy" not in claim.parts, "ComfyUI arranges scales of blocks for one GPU")
    require_method(settings, "modelopt", "modelopt_fp4", "nvfp4")
    return _nvfp4(claim, divides=False)


def _nvfp4(claim: Claim, *, divides: bool) -> Tensor:
    scale, unit = claim.parts["scale"], claim.parts["unit"]
    require_dtype(scale, frozenset({Dtype.F8_E4M3}), "scales")
    require_dtype(unit, FLOAT32, "global scales")
    matrices, _, octets = matrices_of(claim.codes.shape)
    require(unit.shape in {(), (1,), (matrices,), (matrices, 1), (matrices, 1, 1)}, "their global scale does not fit")
    of_each = plain(unit, 1, 1, matrices=1 if unit.shape in {(), (1,)} else matrices)
    scales = Scaled(
        of=Numbers(of=_runs(claim, scale, 2 * octets, NV_GROUP), dtype=scale.dtype),
        unit=Numbers(of=of_each, dtype=unit.dtype),
        divides=divides,
    )
    return _packed(claim, SCHEMES["NVFP4"], Dtype.F4, Grid(numbers=scales, block_rows=1, block_columns=NV_GROUP))


def _runs(claim: Claim, scale: Tensor, columns: int, group: int) -> Layout:
    """The scales of runs of `group` weights of each row."""
    matrices, rows, octets = matrices_of(claim.codes.shape)
    require(columns % group == 0, f"rows of {octets:,} bytes are no runs of {group} weights")
    require_shape(scale, (*claim.codes.shape[:-1], columns // group), "scales")
    return plain(scale, rows, columns // group, matrices=matrices)


def _packed(claim: Claim, scheme: Scheme, dtype: Dtype, scales: Grid) -> Tensor:
    matrices, rows, octets = matrices_of(claim.codes.shape)
    bits = scheme.code_bits
    words = plain(claim.codes, rows, octets, matrices=matrices)
    return made(
        claim,
        scheme,
        shape=(*claim.codes.shape[:-1], octets * OCTET // bits),
        codes=Packed(words=words, word_columns=octets, word_bits=OCTET, bits=bits),
        numbers=dtype,
        scales=scales,
    )
