"""The number formats that checkpoints are stored in, as facts: width, kind, and the exact value of every code.

The formats of eight bits and fewer are decoded through tables built here from their definition: sign, exponent,
mantissa, bias, and which codes are NaN or infinite. Every value they can hold is also a bfloat16 value, so each table
gives bfloat16 codes. Sources: OCP 8-bit Floating Point Specification 1.0 (F8_E5M2, F8_E4M3), OCP Microscaling Formats
1.0 (F8_E8M0, F6, F4), and the ONNX documentation "Float stored in 8 bits" (the FNUZ formats).
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
import numpy.typing as npt


class Dtype(StrEnum):
    """A number format, by the name that safetensors 0.8.0 gives it; C32 and C128, which it lacks, are PyTorch's."""

    BOOL = "BOOL"
    U8 = "U8"
    I8 = "I8"
    I16 = "I16"
    U16 = "U16"
    I32 = "I32"
    U32 = "U32"
    I64 = "I64"
    U64 = "U64"
    F4 = "F4"
    F6_E2M3 = "F6_E2M3"
    F6_E3M2 = "F6_E3M2"
    F8_E5M2 = "F8_E5M2"
    F8_E4M3 = "F8_E4M3"
    F8_E8M0 = "F8_E8M0"
    F8_E4M3FNUZ = "F8_E4M3FNUZ"
    F8_E5M2FNUZ = "F8_E5M2FNUZ"
    F16 = "F16"
    BF16 = "BF16"
    F32 = "F32"
    F64 = "F64"
    C32 = "C32"
    C64 = "C64"
    C128 = "C128"


NOT_SAFETENSORS: frozenset[Dtype] = frozenset({Dtype.C32, Dtype.C128})

BITS: dict[Dtype, int] = {
    Dtype.F4: 4,
    Dtype.F6_E2M3: 6,
    Dtype.F6_E3M2: 6,
    Dtype.BOOL: 8,
    Dtype.U8: 8,
    Dtype.I8: 8,
    Dtype.F8_E5M2: 8,
    Dtype.F8_E4M3: 8,
    Dtype.F8_E8M0: 8,
    Dtype.F8_E4M3FNUZ: 8,
    Dtype.F8_E5M2FNUZ: 8,
    Dtype.I16: 16,
    Dtype.U16: 16,
    Dtype.F16: 16,
    Dtype.BF16: 16,
    Dtype.I32: 32,
    Dtype.U32: 32,
    Dtype.F32: 32,
    Dtype.I64: 64,
    Dtype.U64: 64,
    Dtype.F64: 64,
    Dtype.C32: 32,
    Dtype.C64: 64,
    Dtype.C128: 128,
}
"""Stored width of one element, in bits. F4 and F6 are packed without gaps, first element in the lowest bits."""

NUMPY_DTYPES: dict[Dtype, np.dtype[np.generic]] = {
    Dtype.BOOL: np.dtype("?"),
    Dtype.U8: np.dtype("u1"),
    Dtype.I8: np.dtype("i1"),
    Dtype.I16: np.dtype("<i2"),
    Dtype.U16: np.dtype("<u2"),
    Dtype.I32: np.dtype("<i4"),
    Dtype.U32: np.dtype("<u4"),
    Dtype.I64: np.dtype("<i8"),
    Dtype.U64: np.dtype("<u8"),
    Dtype.F16: np.dtype("<f2"),
    Dtype.F32: np.dtype("<f4"),
    Dtype.F64: np.dtype("<f8"),
    Dtype.C64: np.dtype("<c8"),
    Dtype.C128: np.dtype("<c16"),
}
"""The formats that NumPy knows by itself."""

COMPLEX: dict[Dtype, Dtype] = {Dtype.C32: Dtype.F16, Dtype.C64: Dtype.F32, Dtype.C128: Dtype.F64}
"""The format of each half of a complex number: the real one stands first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFloat:
    """A float format of at most eight bits: `value = (-1)^sign * 2^(exponent - bias) * 1.mantissa`, with subnormals.

    `nan_codes` and `infinity_codes` are unsigned codes (sign bit clear) that occur with either sign, but for the
    formats without a negative zero, whose one NaN is the code of that zero.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    signed: bool = True
    nan_codes: tuple[int, ...] = ()
    infinity_codes: tuple[int, ...] = ()
    nan_is_negative_zero: bool = False


SMALL_FLOATS: dict[Dtype, SmallFloat] = {
    Dtype.F4: SmallFloat(exponent_bits=2, mantissa_bits=1, bias=1),
    Dtype.F6_E2M3: SmallFloat(exponent_bits=2, mantissa_bits=3, bias=1),
    Dtype.F6_E3M2: SmallFloat(exponent_bits=3, mantissa_bits=2, bias=3),
    Dtype.F8_E5M2: SmallFloat(
        exponent_bits=5, mantissa_bits=2, bias=15, nan_codes=(0x7D, 0x7E, 0x7F), infinity_codes=(0x7C,)
    ),
    Dtype.F8_E4M3: SmallFloat(exponent_bits=4, mantissa_bits=3, bias=7, nan_codes=(0x7F,)),
    Dtype.F8_E8M0: SmallFloat(exponent_bits=8, mantissa_bits=0, bias=127, signed=False, nan_codes=(0xFF,)),
    Dtype.F8_E4M3FNUZ: SmallFloat(exponent_bits=4, mantissa_bits=3, bias=8, nan_is_negative_zero=True),
    Dtype.F8_E5M2FNUZ: SmallFloat(exponent_bits=5, mantissa_bits=2, bias=16, nan_is_negative_zero=True),
}

FLOATS: frozenset[Dtype] = frozenset({*SMALL_FLOATS, Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64, *COMPLEX})
"""The formats that hold weights. Whole numbers and booleans are buffers or codes of a quantiser, not weights."""

BF16_SIGN = 0x8000
BF16_INFINITY = 0x7F80
BF16_QUIET_BIT = 0x0040  # set in every NaN code made here, as IEEE 754 recommends for quiet NaNs


@cache
def bf16_codes(dtype: Dtype) -> npt.NDArray[np.uint16]:
    """Give the bfloat16 code of every code of a small float format, exactly.

    The table has 2**bits entries and no two are equal, NaNs included, so the stored codes can be told from the
    bfloat16 ones again. It is read-only.
    """
    small = SMALL_FLOATS[dtype]
    code = np.arange(1 << BITS[dtype])
    sign_bit = 1 << (BITS[dtype] - 1) if small.signed else 0
    unsigned = code & ~sign_bit
    exponent = unsigned >> small.mantissa_bits
    mantissa = unsigned & ((1 << small.mantissa_bits) - 1)
    fraction = mantissa / (1 << small.mantissa_bits)
    # A format without mantissa bits has no subnormals either: its exponent 0 is a power of two like any other.
    subnormal = (exponent == 0) & (small.mantissa_bits > 0)
    magnitude = np.ldexp(
        np.where(subnormal, fraction, 1 + fraction), np.where(subnormal, 1 - small.bias, exponent - small.bias)
    )
    with np.errstate(over="ignore"):  # F8_E8M0's NaN would be 2^128
        bf16 = magnitude.astype(np.float32).view(np.uint32) >> 16
    bf16 = np.where(np.isin(unsigned, small.infinity_codes), BF16_INFINITY, bf16)
    nan = np.isin(unsigned, small.nan_codes)
    if small.nan_is_negative_zero:
        nan |= code == sign_bit
    bf16 = np.where(nan, BF16_INFINITY | BF16_QUIET_BIT | (unsigned & (BF16_QUIET_BIT - 1)), bf16)
    table = np.where((code & sign_bit) != 0, bf16 | BF16_SIGN, bf16).astype(np.uint16)
    table.flags.writeable = False
    return table


def unpack(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Spread elements of 4 or 6 bits, packed first element lowest, to one byte each.

    `packed` has shape (bytes,) and holds whole elements: `bytes * 8` is a multiple of `bits`.
    """
    if bits == 4:  # noqa: PLR2004 - the case the name of the format gives
        codes = np.empty((packed.size, 2), np.uint8)
        np.bitwise_and(packed, 0x0F, out=codes[:, 0])
        np.right_shift(packed, 4, out=codes[:, 1])
        return codes.reshape(-1)
    first, second, third = packed.reshape(-1, 3).T
    codes = np.empty((packed.size // 3, 4), np.uint8)
    codes[:, 0] = first & 0x3F
    codes[:, 1] = (first >> 6) | ((second & 0x0F) << 2)
    codes[:, 2] = (second >> 4) | ((third & 0x03) << 4)
    codes[:, 3] = third >> 2
    return codes.reshape(-1)


def stored_codes(stored: memoryview, dtype: Dtype) -> npt.NDArray[np.generic]:
    """View a tensor's bytes as one array element per stored element, unchanged.

    Formats that NumPy knows come as themselves, BF16 as its 16-bit codes, small floats as one 8-bit code each, and C32
    as the 32 bits of its two halves.
    `stored` must hold whole elements. Nothing is copied unless elements are packed.
    """
    if dtype is Dtype.BF16:
        return np.frombuffer(stored, "<u2")
    if dtype is Dtype.C32:
        return np.frombuffer(stored, "<u4")
    if dtype in SMALL_FLOATS:
        codes = np.frombuffer(stored, np.uint8)
        return codes if BITS[dtype] == 8 else unpack(codes, BITS[dtype])  # noqa: PLR2004 - one byte
    return np.frombuffer(stored, NUMPY_DTYPES[dtype])


def values(stored: npt.NDArray[np.generic], dtype: Dtype) -> npt.NDArray[np.generic]:
    """Give the numbers that stored codes stand for: float32 for the 16-bit and smaller floats, else unchanged.

    Nothing is rounded: every value of a small format is a float32 value.
    """
    if dtype in SMALL_FLOATS:
        stored = bf16_codes(dtype)[stored]
    if dtype is Dtype.BF16 or dtype in SMALL_FLOATS:
        widened: npt.NDArray[np.uint32] = np.left_shift(stored, 16, dtype=np.uint32)
        return widened.view(np.float32)
    if dtype is Dtype.F16:
        return stored.astype(np.float32)
    return stored
