"""Whole numbers of two to eight bits packed into words of 32: compressed-tensors, GPTQ and AWQ.

Sources: compressed-tensors, `compressors/pack_quantized` (a dense stream of bits since 0.11; before it, as many codes
as fit whole into a word); AutoGPTQ, `nn_modules/qlinear/qlinear_cuda.py` (the weight is stored turned; zeros are stored
less one) and GPTQModel, `utils/model.py` (`gptq_v2`: zeros as they are, and modulo their range before); AutoAWQ,
`utils/packing_utils.py` (the order of the codes in a word).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaynes_audit.analyzers.checkpoints.decoding import Scheme
from jaynes_audit.analyzers.checkpoints.quantised.claims import (
    CODES,
    SCALE_DTYPES,
    Claim,
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
    told,
)
from jaynes_audit.analyzers.checkpoints.quantised.decoder import Grid, OneMore
from jaynes_audit.analyzers.checkpoints.quantised.layouts import WORD_BITS, Layout, Numbers, Packed, Turned
from jaynes_audit.analyzers.checkpoints.quantised.settings import Settings
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import Dtype

WORDS = frozenset({Dtype.I32})
GROUP_NUMBERS = frozenset({Dtype.I32, Dtype.I64})
CODE_BITS = range(2, 9)
GPTQ_BITS = (2, 3, 4, 8)
AWQ_BITS = 4
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where in its word each code of a run of eight stands
AXES = 2
I64_BYTES = 8


@dataclass(frozen=True, slots=True)
class Packing:
    """How codes lie in words: `whole` ones leave the rest of a word empty, the others run on into the next."""

    bits: int
    whole: bool

    @property
    def order(self) -> tuple[int, ...]:
        """The places of the codes of a word, for `Packed`."""
        return tuple(range(WORD_BITS // self.bits)) if self.whole else ()

    def words(self, codes: int) -> int:
        """How many words hold so many codes."""
        return -(-codes // len(self.order)) if self.whole else -(-codes * self.bits // WORD_BITS)

    def packed(self, words: Layout, codes: int) -> Packed:
        """Rows of so many codes in these words."""
        return Packed(
            words=words, word_columns=self.words(codes), word_bits=WORD_BITS, bits=self.bits, order=self.order
        )


def claim_compressed(tensor: Tensor, stored: Stored) -> Claim | None:
    """The packed whole numbers of compressed-tensors."""
    name = tensor.name.removesuffix("_packed")
    if name == tensor.name or tensor.dtype is not Dtype.I32:
        return None
    more = {"scale": "scale", "shape": "shape", "zeros": "zero_point", "groups": "g_idx"}
    parts = parts_of(stored, **{role: f"{name}_{suffix}" for role, suffix in more.items()})
    return Claim(name=name, parts={CODES: tensor, **parts}, make=_compressed, reads=("shape",))


def _compressed(claim: Claim, settings: Settings, contents: Contents) -> Tensor:
    scale, stored_shape = claim.needed("scale", "shape")
    require_method(settings, "compressed-tensors")
    codes = claim.codes
    matrices, rows, words = matrices_of(codes.shape)
    shape = _shape_in(stored_shape, contents[stored_shape.name])
    require(shape[:-1] == codes.shape[:-1], f"packed as {told(codes.shape)}, they are no weight of shape {told(shape)}")
    columns = shape[-1]
    packing = _packing(words, columns, settings.bits)
    require_dtype(scale, SCALE_DTYPES, "scales")
    if scale.shape in {(), (1,)}:
        groups, scale_numbers, block_rows = 1, plain(scale, 1, 1), rows
    else:
        require(len(scale.shape) == len(shape), f"scales of shape {told(scale.shape)} do not fit {told(shape)}")
        groups, block_rows = scale.shape[-1], 1
        require_shape(scale, (*shape[:-1], groups), "scales")
        scale_numbers = plain(scale, rows, groups, matrices=matrices)
    block = block_size(columns, groups, settings.group_sizes)
    bits, half = packing.bits, 1 << packing.bits - 1
    zeros = _compressed_zeros(claim, packing, shape, groups)
    return made(
        claim,
        Scheme(label=f"CT-{bits}", description=_words("compressed-tensors", bits, block, columns), code_bits=bits),
        shape=shape,
        codes=packing.packed(plain(codes, rows, words, matrices=matrices), columns),
        numbers=Dtype.U8,
        scales=Grid(numbers=Numbers(of=scale_numbers, dtype=scale.dtype), block_rows=block_rows, block_columns=block),
        zero=0 if zeros else half,
        zeros=Grid(numbers=zeros, block_rows=1, block_columns=block) if zeros else None,
        groups=_group_numbers(claim, columns),
    )


def _shape_in(tensor: Tensor, content: bytes) -> tuple[int, ...]:
    require_dtype(tensor, frozenset({Dtype.I64}), "sizes")
    require(len(tensor.shape) == 1 and tensor.shape[0] >= AXES, "their shape is not a list of sizes")
    require(len(content) == tensor.shape[0] * I64_BYTES, "their shape could not be read")
    return tuple(int(size) for size in np.frombuffer(content, "<i8"))


def _packing(words: int, columns: int, declared: tuple[int, ...]) -> Packing:
    """The one way of packing so many codes in so many words, with a declared width if any is declared."""
    widths = declared or tuple(CODE_BITS)
    possible = [packing for packing in _packings(widths) if columns > 0 and packing.words(columns) == words]
    require(possible, f"{columns:,} codes do not fit in {words:,} words")
    require(len(possible) == 1, f"the width of {columns:,} codes in {words:,} words is not certain")
    return possible[0]


def _packings(widths: tuple[int, ...]) -> Iterator[Packing]:
    for bits in widths:
        if bits in CODE_BITS:
            yield Packing(bits, whole=False)
            if WORD_BITS % bits:
                yield Packing(bits, whole=True)


def _compressed_zeros(claim: Claim, packing: Packing, shape: tuple[int, ...], groups: int) -> Layout | None:
    """The codes that stand for zero: packed along the outputs, or plain and then without the offset."""
    zeros = claim.parts.get("zeros")
    if zeros is None:
        return None
    matrices, rows, _ = matrices_of(shape)
    if zeros.dtype is Dtype.I8:
        require_shape(zeros, (*shape[:-1], groups), "zeros")
        stored = plain(zeros, rows, groups, matrices=matrices)
        return Numbers(of=stored, dtype=zeros.dtype, plus=1 << packing.bits - 1)
    require_dtype(zeros, WORDS, "zeros")
    words = packing.words(rows)
    require_shape(zeros, (*shape[:-2], words, groups), "zeros")
    turned = Turned(of=plain(zeros, words, groups, matrices=matrices))
    return Numbers(of=Turned(of=packing.packed(turned, rows)), dtype=Dtype.U8)


def claim_qweight(tensor: Tensor, stored: Stored) -> Claim | None:
    """The packed whole numbers of GPTQ and AWQ."""
    base = tensor.name.removesuffix("qweight")
    if base == tensor.name or not (base == "" or base.endswith(".")):
        return None
    parts = parts_of(stored, scale=f"{base}scales", zeros=f"{base}qzeros", groups=f"{base}g_idx")
    return Claim(name=f"{base}weight", parts={CODES: tensor, **parts}, make=_qweight)


def _qweight(claim: Claim, settings: Settings, _: Contents) -> Tensor:
    scale, zeros = claim.needed("scale", "zeros")
    codes = claim.codes
    for part, role in ((codes, "codes"), (zeros, "zeros")):
        require_dtype(part, WORDS, role)
        require(len(part.shape) == AXES and 0 not in part.shape, f"shape {told(part.shape)} of {role} is no matrix")
    require_dtype(scale, SCALE_DTYPES, "scales")
    require(len(scale.shape) == AXES, f"scales of shape {told(scale.shape)} are no matrix")
    groups, outputs = scale.shape
    per_word = WORD_BITS // AWQ_BITS
    if "groups" not in claim.parts and codes.shape[1] * per_word == outputs:
        return _awq(claim, settings, groups=groups, outputs=outputs)
    require(codes.shape[1] == outputs, "their shapes are neither GPTQ's nor those of AWQ's GEMM")
    return _gptq(claim, settings, groups=groups, outputs=outputs)


def _gptq(claim: Claim, settings: Settings, *, groups: int, outputs: int) -> Tensor:
    codes, scale, zeros = claim.codes, claim.parts["scale"], claim.parts["zeros"]
    require_method(settings, "gptq")
    require(settings.declared, "no config.json tells which of GPTQ's two formats of zeros this is")
    require(
        settings.checkpoint_format in {"", "gptq", "gptq_v2"},
        "the config.json names a checkpoint_format other than gptq and gptq_v2",
    )
    bits = next((bits for bits in GPTQ_BITS if zeros.shape[1] * WORD_BITS == outputs * bits), 0)
    require(bits, f"{zeros.shape[1]:,} words of zeros fit {outputs:,} outputs at no width that GPTQ has")
    words = codes.shape[0]
    require(words * WORD_BITS % bits == 0, f"{words:,} words hold no whole number of codes of {bits} bits")
    inputs = words * WORD_BITS // bits
    require_shape(zeros, (groups, zeros.shape[1]), "zeros")
    block = block_size(inputs, groups, settings.group_sizes)
    packing = Packing(bits, whole=False)
    zero_codes: Layout = packing.packed(plain(zeros, groups, zeros.shape[1]), outputs)
    version = "v2" if settings.checkpoint_format == "gptq_v2" else "v1"
    if version == "v1":
        zero_codes = OneMore(of=zero_codes, bits=bits)
    return made(
        claim,
        Scheme(
            label=f"GPTQ-{bits}",
            description=f"{_words('GPTQ', bits, block, inputs)}, {version} zeros",
            code_bits=bits,
        ),
        shape=(outputs, inputs),
        codes=packing.packed(Turned(of=plain(codes, words, outputs)), inputs),
        numbers=Dtype.U8,
        scales=_turned_grid(plain(scale, groups, outputs), scale.dtype, block),
        zeros=_turned_grid(zero_codes, Dtype.U8, block),
        groups=_group_numbers(claim, inputs),
    )


def _awq(claim: Claim, settings: Settings, *, groups: int, outputs: int) -> Tensor:
    codes, scale, zeros = claim.codes, claim.parts["scale"], claim.parts["zeros"]
    require_method(settings, "awq")
    require(settings.version in {"", "gemm"}, "the config.json names another version of AWQ than GEMM")
    require(settings.bits in {(), (AWQ_BITS,)}, "AWQ with codes of another width than 4 bits is not known")
    inputs, words = codes.shape
    require_shape(zeros, (groups, words), "zeros")
    block = block_size(inputs, groups, settings.group_sizes)

    def unpacked(tensor: Tensor, rows: int) -> Packed:
        return Packed(
            words=plain(tensor, rows, words), word_columns=words, word_bits=WORD_BITS, bits=AWQ_BITS, order=AWQ_ORDER
        )

    return made(
        claim,
        Scheme(label=f"AWQ-{AWQ_BITS}", description=_words("AWQ", AWQ_BITS, block, inputs), code_bits=AWQ_BITS),
        shape=(outputs, inputs),
        codes=Turned(of=unpacked(codes, inputs)),
        numbers=Dtype.U8,
        scales=_turned_grid(plain(scale, groups, outputs), scale.dtype, block),
        zeros=_turned_grid(unpacked(zeros, groups), Dtype.U8, block),
    )


def _turned_grid(stored: Layout, dtype: Dtype, block: int) -> Grid:
    """Numbers of (groups, outputs) as a grid over weights of (outputs, inputs)."""
    return Grid(numbers=Turned(of=Numbers(of=stored, dtype=dtype)), block_rows=1, block_columns=block)


def _group_numbers(claim: Claim, inputs: int) -> Layout | None:
    """The group of each input, where a quantiser went through the inputs in an order of its own."""
    groups = claim.parts.get("groups")
    if groups is None:
        return None
    require_dtype(groups, GROUP_NUMBERS, "groups")
    require_shape(groups, (inputs,), "groups")
    return plain(groups, 1, inputs)


def _words(quantiser: str, bits: int, block: int, inputs: int) -> str:
    return f"{quantiser}, {bits} bits, {'one group a row' if block == inputs else f'groups of {block:,}'}"
