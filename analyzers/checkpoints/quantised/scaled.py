"""Weights of eight bits with scales: FP8 and INT8, per tensor, per channel, or in blocks.

Sources: transformers, `integrations/finegrained_fp8.py` (`weight_scale_inv`, by which one multiplies all the same, and
fp4 in int8); compressed-tensors, `quantization/lifecycle/forward.py` (`weight_scale`, `weight_zero_point`);
bitsandbytes, `functional.int8_vectorwise_dequant` (`SCB`); ComfyUI, `comfy/ops.py` (`scale_weight`); vLLM,
`models/llama.py` (`qscale_weight` of Mistral's own files).
"""

from dataclasses import dataclass
from math import prod

from jaynes_audit.analyzers.checkpoints.decoding import Scheme
from jaynes_audit.analyzers.checkpoints.quantised.claims import (
    CODES,
    EXPONENT_DTYPES,
    SCALE_DTYPES,
    Claim,
    CodesOnly,
    Contents,
    Stored,
    block_size,
    made,
    matrices_of,
    parts_of,
    plain,
    require,
    require_dtype,
    require_method,
    require_shape,
    require_something,
    scale_dtype,
    told,
)
from jaynes_audit.analyzers.checkpoints.quantised.decoder import Grid
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Numbers, Packed, Plain
from jaynes_audit.analyzers.checkpoints.quantised.settings import Settings
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import Dtype

FP8_DTYPES = frozenset({Dtype.F8_E4M3, Dtype.F8_E5M2, Dtype.F8_E4M3FNUZ, Dtype.F8_E5M2FNUZ})
DEEPSEEK_BLOCK = (128, 128)  # what `weight_scale_inv` means where no config.json says otherwise
MX_GROUP = 32  # OCP Microscaling Formats 1.0
ROW_FORMAT = b"\0"  # bitsandbytes' number for int8 weights that lie row by row; the others are arranged for one GPU
LARGEST_SCALE = 127  # bitsandbytes: SCB is the number that code 127 stands for
MATRIX = 2  # axes


def claim_fp8(tensor: Tensor, stored: Stored) -> Claim | None:
    """FP8 weights beside which a scale stands. Without one they are plain weights."""
    if tensor.dtype not in FP8_DTYPES:
        return None
    base = tensor.name.removesuffix("weight")
    beside = ("scale_weight", "qscale_weight", "scale") if base.endswith(".") else ()
    names = [tensor.name + suffix for suffix in ("_scale_inv", "_scale")] + [base + leaf for leaf in beside]
    scale = next((name for name in names if name in stored), None)
    if scale is None:
        return None
    zeros, comfy = f"{tensor.name}_zero_point", f"{base}comfy_quant"
    return Claim(
        name=tensor.name,
        parts={CODES: tensor, **parts_of(stored, scale=scale, zeros=zeros, comfy=comfy)},
        make=_fp8,
        reads=("comfy",),
    )


def _fp8(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    codes, scale = claim.codes, claim.parts["scale"]
    usual = (DEEPSEEK_BLOCK,) if scale.name.endswith(("_scale_inv", ".scale")) else ()
    declared = settings.blocks or usual
    spread = spread_of(scale.shape, codes.shape, settings, declared)
    (rows, columns), (down, along) = spread.weights[1:], spread.block
    require("comfy" not in claim.parts or prod(scale.shape) == 1, "ComfyUI arranges scales of blocks for one GPU")
    if along == MX_GROUP and down == 1 and scale.dtype in EXPONENT_DTYPES:
        label, kind = "MXFP8", f"a power of two for each {along} weights"
    elif {down, along} <= {1, rows, columns}:
        label, kind = "FP8", "scales of whole rows, columns or matrices"
    else:
        label, kind = f"FP8-{down}x{along}", f"a scale for each block of {down} x {along}"
    return made(
        claim,
        Scheme(label=label, description=f"{codes.dtype}, {kind}", code_bits=8, keeps_law=True),
        shape=codes.shape,
        view=spread.weights[1:],
        codes=spread.codes(codes),
        numbers=codes.dtype,
        scales=spread.grid(scale, scale_dtype(scale)),
        zeros=_zeros(claim, spread),
    )


def claim_int8(tensor: Tensor, stored: Stored) -> Claim | None:
    """INT8 codes beside which a scale stands."""
    if tensor.dtype is not Dtype.I8:
        return None
    name = tensor.name
    if f"{name}_scale_inv" in stored:
        return Claim(name=name, parts={CODES: tensor, **parts_of(stored, scale=f"{name}_scale_inv")}, make=_fp4_in_int8)
    if f"{name}_scale" in stored:
        parts = parts_of(stored, scale=f"{name}_scale", zeros=f"{name}_zero_point")
        return Claim(name=name, parts={CODES: tensor, **parts}, make=_int8)
    base = name.removesuffix("weight")
    if f"{base}SCB" in stored and base.endswith("."):
        parts = parts_of(stored, scale=f"{base}SCB", format=f"{base}weight_format")
        return Claim(name=name, parts={CODES: tensor, **parts}, make=_bitsandbytes, reads=("format",))
    return None


def _int8(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    codes, scale = claim.codes, claim.parts["scale"]
    require_method(settings, "compressed-tensors")
    require_dtype(scale, SCALE_DTYPES, "scales")
    spread = spread_of(scale.shape, codes.shape, settings, settings.blocks)
    return made(
        claim,
        Scheme(label="INT8", description="whole numbers of 8 bits, with scales", code_bits=8),
        shape=codes.shape,
        view=spread.weights[1:],
        codes=spread.codes(codes),
        numbers=Dtype.I8,
        scales=spread.grid(scale, scale.dtype),
        zeros=_zeros(claim, spread),
    )


def _fp4_in_int8(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    """Microscaled fp4, two to a byte: the experts of a model whose other weights are FP8 blocks."""
    codes, scale = claim.codes, claim.parts["scale"]
    matrices, rows, octets = matrices_of(codes.shape)
    shape = (*codes.shape[:-1], 2 * octets)
    require_dtype(scale, EXPONENT_DTYPES, "scales")
    require(shape[-1] % MX_GROUP == 0, f"rows of {octets:,} bytes are no groups of {MX_GROUP} fp4 numbers")
    require_shape(scale, (*codes.shape[:-1], shape[-1] // MX_GROUP), "scales")
    words = plain(codes, rows, octets, matrices=matrices, dtype=Dtype.U8)
    return made(
        claim,
        Scheme(label="MXFP4", description=f"fp4, a power of two for each {MX_GROUP} weights", code_bits=4),
        shape=shape,
        codes=Packed(words=words, word_columns=octets, word_bits=8, bits=4),
        numbers=Dtype.F4,
        scales=spread_of(scale.shape, shape, settings, ()).grid(scale, Dtype.F8_E8M0),
    )


def _bitsandbytes(claim: Claim, _: Settings, contents: Contents) -> Tensor:
    codes, scale = claim.codes, claim.parts["scale"]
    matrices, rows, columns = matrices_of(codes.shape)
    require(matrices == 1, "they are a stack of matrices")
    if "format" in claim.parts:
        content = contents[claim.parts["format"].name]
        require(content == ROW_FORMAT, "bitsandbytes has arranged them for one kind of GPU")
    require_dtype(scale, frozenset({Dtype.F32}), "SCB")
    require_shape(scale, (rows,), "SCB")
    scales = Numbers(of=plain(scale, rows, 1), dtype=scale.dtype, times=1 / LARGEST_SCALE)
    return made(
        claim,
        Scheme(
            label="BNB-INT8", description="bitsandbytes, whole numbers of 8 bits, a scale for each row", code_bits=8
        ),
        shape=codes.shape,
        codes=plain(codes, rows, columns),
        numbers=Dtype.I8,
        scales=Grid(numbers=scales, block_rows=1, block_columns=columns),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the numbers of a tensor lie over weights: `stored` (matrices, rows, columns) of them over `weights`.

    `block` is how many rows and columns of weights share one. One matrix of numbers serves every matrix of weights.
    """

    stored: tuple[int, int, int]
    weights: tuple[int, int, int]
    block: tuple[int, int]

    def grid(self, tensor: Tensor, dtype: Dtype) -> Grid:
        """The numbers of a tensor of the shape that this was made for, read as this dtype."""
        matrices, rows, columns = self.stored
        numbers = Numbers(of=plain(tensor, rows, columns, matrices=matrices, dtype=dtype), dtype=dtype)
        return Grid(numbers=numbers, block_rows=self.block[0], block_columns=self.block[1])

    def codes(self, tensor: Tensor) -> Plain:
        """The weights' codes, one a byte."""
        matrices, rows, columns = self.weights
        return plain(tensor, rows, columns, matrices=matrices)


def spread_of(
    scale: tuple[int, ...], shape: tuple[int, ...], settings: Settings, declared: tuple[tuple[int, int], ...]
) -> Spread:
    """How scales of one shape lie over weights of another.

    There may be one for all; one for each entry of the first axis, whatever axes of length one follow; or a grid with
    as many axes as the weights. Raises CodesOnly when they fit in none of these ways.
    """
    require_something(shape)
    first, rest = shape[0], prod(shape[1:])
    if prod(scale) == 1:
        return Spread(stored=(1, 1, 1), weights=(1, first, rest), block=(first, rest))
    if prod(scale) == scale[0] == first:
        return Spread(stored=(1, first, 1), weights=(1, first, rest), block=(1, rest))
    fits = len(scale) == len(shape) >= MATRIX and (prod(scale[:-2]) == 1 or scale[:-2] == shape[:-2])
    if not fits:
        raise CodesOnly(f"scales of shape {told(scale)} do not fit weights of shape {told(shape)}")
    stored, weights = matrices_of(scale), matrices_of(shape)
    down = block_size(weights[1], stored[1], tuple(block[0] for block in declared))
    along = block_size(weights[2], stored[2], (*(block[1] for block in declared), *settings.group_sizes))
    return Spread(stored=stored, weights=weights, block=(down, along))


def _zeros(claim: Claim, spread: Spread) -> Grid | None:
    """Zero points that are stored as the codes are, one beside each scale."""
    zeros = claim.parts.get("zeros")
    if zeros is None:
        return None
    require_dtype(zeros, frozenset({claim.codes.dtype}), "zeros")
    require_shape(zeros, claim.parts["scale"].shape, "zeros")
    return spread.grid(zeros, zeros.dtype)
