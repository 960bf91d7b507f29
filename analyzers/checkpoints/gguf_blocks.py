"""The number formats of GGUF, and how elements are made from them: blocks of codes with scales of their own.

Sources: `enum ggml_type` in llama.cpp's `ggml.h` for the numbers, `GGML_QUANT_SIZES` of its Python package gguf for the
blocks' sizes. The package also gives the numbers that a block stands for, but for Q1_0, which is decoded here as
`dequantize_row_q1_0` of `ggml-quants.c` does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, Dtype

DECODED_AT_ONCE = 1 << 16  # elements; measured: a few such arrays fit in a common second-level cache
F16_BYTES = 2


@dataclass(frozen=True, slots=True)
class BlockType:
    """A quantiser of ggml: so many elements, which follow one another in a row, are stored in so many bytes."""

    name: str
    elements: int
    stored_bytes: int


PLAIN: dict[int, Dtype] = {
    0: Dtype.F32,
    1: Dtype.F16,
    24: Dtype.I8,
    25: Dtype.I16,
    26: Dtype.I32,
    27: Dtype.I64,
    28: Dtype.F64,
    30: Dtype.BF16,
}
"""The types of plain numbers, by their number in a file."""

BLOCKS: dict[int, BlockType] = {
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    10: BlockType("Q2_K", 256, 84),
    11: BlockType("Q3_K", 256, 110),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    16: BlockType("IQ2_XXS", 256, 66),
    17: BlockType("IQ2_XS", 256, 74),
    18: BlockType("IQ3_XXS", 256, 98),
    19: BlockType("IQ1_S", 256, 50),
    20: BlockType("IQ4_NL", 32, 18),
    21: BlockType("IQ3_S", 256, 110),
    22: BlockType("IQ2_S", 256, 82),
    23: BlockType("IQ4_XS", 256, 136),
    29: BlockType("IQ1_M", 256, 56),
    34: BlockType("TQ1_0", 256, 54),
    35: BlockType("TQ2_0", 256, 66),
    39: BlockType("MXFP4", 32, 17),
    40: BlockType("NVFP4", 64, 36),
    41: BlockType("Q1_0", 128, 18),
}
"""The types of blocks that can be decoded, by their number in a file."""

NAMES_OF_OTHERS: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    9: "Q8_1",
    15: "Q8_K",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}
"""Types that ggml has given up, and the two that it computes with and never stores."""

BIG_ENDIAN_NUMBERS: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,),
    "Q8_0": (0,),
    "Q4_K": (0, 2),
    "Q6_K": (208,),
    "MXFP4": (),
    "NVFP4": (),
}
"""Where float16 numbers stand in a block, for the types that llama.cpp's gguf_convert_endian.py turns big-endian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """The float32 factors of a quantised tensor that stand in a tensor of their own: one, or one for each expert."""

    name: str
    span: Span
    is_big_endian: bool

    def read(self, read: Read) -> npt.NDArray[np.float32]:
        """Give the factors."""
        stored = read(self.span.file, self.span.start, self.span.end)
        return np.frombuffer(stored, ">f4" if self.is_big_endian else "<f4").astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedBlocks:
    """A tensor called `name` of `elements` elements in blocks, which start at byte `start` of the file."""

    name: str
    file: Place
    start: int
    elements: int
    type: BlockType
    is_big_endian: bool
    scales: Scales | None = None

    @property
    def scheme(self) -> Scheme:
        """Say which quantiser it was."""
        return Scheme(label=self.type.name, description=f"GGUF {self.type.name}, blocks of {self.type.elements}")

    @property
    def parts(self) -> tuple[str, ...]:
        """Name the tensor and its factors, if it has any."""
        return (self.name, self.scales.name) if self.scales else ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """Give the place of the blocks that the elements lie in, and that of the factors."""
        start, end = self._place(first, stop)
        blocks = Span(self.file, start, end)
        return (blocks, self.scales.span) if self.scales else (blocks,)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Decode the blocks that the elements lie in, and cut."""
        factors = self.scales.read(read) if self.scales else None
        stored = np.frombuffer(read(self.file, *self._place(first, stop)), np.uint8)
        blocks = stored.reshape(-1, self.type.stored_bytes)
        if self.is_big_endian:
            blocks = _swapped(blocks, BIG_ENDIAN_NUMBERS[self.type.name])
        skipped = first % self.type.elements
        with np.errstate(all="ignore"):  # a scale that is infinite or NaN is the audit's to find
            elements = _dequantised(blocks, self.type)[skipped : skipped + stop - first]
            if factors is not None and elements.size:
                self._multiply(elements, first, factors)
        return Decoded(elements)

    def _multiply(self, elements: npt.NDArray[np.float32], first: int, factors: npt.NDArray[np.float32]) -> None:
        of_one_factor, stop = self.elements // factors.size, first + elements.size
        edges = [first, *range((first // of_one_factor + 1) * of_one_factor, stop, of_one_factor), stop]
        for start, end in pairwise(edges):
            elements[start - first : end - first] *= factors[start // of_one_factor]

    def _place(self, first: int, stop: int) -> tuple[int, int]:
        of_block, stored_bytes = self.type.elements, self.type.stored_bytes
        return self.start + first // of_block * stored_bytes, self.start + -(-stop // of_block) * stored_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BigEndian:
    """Plain numbers with their most significant byte first, from byte `start` of the file on."""

    file: Place
    start: int
    dtype: Dtype

    @property
    def scheme(self) -> None:
        """Nothing was quantised."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The tensor is its own only one."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """Give the place of the elements."""
        element_bytes = BITS[self.dtype] // 8
        return (Span(self.file, self.start + first * element_bytes, self.start + stop * element_bytes),)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Turn the bytes of every element round."""
        (span,) = self.needs(first, stop)
        code = NUMPY_DTYPES.get(self.dtype, np.dtype("<u2"))  # BF16, which NumPy does not know
        return Decoded(np.frombuffer(read(span.file, span.start, span.end), code).byteswap())


def _swapped(blocks: npt.NDArray[np.uint8], numbers: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    swapped = blocks.copy()
    for at in numbers:
        swapped[:, at : at + F16_BYTES] = blocks[:, at : at + F16_BYTES][:, ::-1]
    return swapped


def _dequantised(blocks: npt.NDArray[np.uint8], kind: BlockType) -> npt.NDArray[np.float32]:
    """The elements of blocks of shape (blocks, bytes of one), in their order. No bytes are wrong, but some mean NaN."""
    dequantise = _signs if kind.name == "Q1_0" else _library(kind)
    at_once = DECODED_AT_ONCE // kind.elements
    elements = np.empty((len(blocks), kind.elements), np.float32)
    for start in range(0, len(blocks), at_once):
        window = blocks[start : start + at_once]
        elements[start : start + at_once] = dequantise(window).reshape(-1, kind.elements)
    return elements.reshape(-1)


def _library(kind: BlockType) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    from gguf.constants import GGMLQuantizationType  # noqa: PLC0415 - 0.1 s, which most commands need not spend
    from gguf.quants import dequantize  # noqa: PLC0415 - the same

    type_ = GGMLQuantizationType[kind.name]
    # One row, which the package decodes in one go; of several it would make groups of sixteen.
    return lambda blocks: dequantize(blocks.reshape(1, -1), type_)


def _signs(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Q1_0: a float16 scale, then a bit for each element, the lowest first: set for the scale, clear for minus it."""
    scale = blocks[:, :F16_BYTES].copy().view("<f2").astype(np.float32)
    is_positive = np.unpackbits(blocks[:, F16_BYTES:], axis=1, bitorder="little")
    return np.where(is_positive, scale, -scale)
