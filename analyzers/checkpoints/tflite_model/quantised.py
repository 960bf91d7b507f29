"""Weights of TensorFlow Lite that are stored as codes: `scale * (code - zero point)`.

Source: "LiteRT 8-bit quantization specification", and `UnpackDenseInt4IntoInt8` in TensorFlow Lite's
`kernels/internal/portable_tensor_utils.cc` for two codes in a byte.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.dtypes import unpack

COUNTED_BITS = 8  # wider codes are not counted
EXACT_IN_FLOAT32 = 16  # bits of a code, so that the code less a zero point of its own kind is exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """How codes are stored: as whole numbers of `bits` bits, two in a byte (the lower first) where that is 4."""

    label: str
    bits: int
    signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """Float32 weights made from the codes that begin at byte `start` of the file.

    `scales` are float32 numbers and `zero_points` int64 ones, both as bytes: one for all, or one for each index of
    dimension `axis`. What is given is the float32 number nearest to the exact product.
    """

    file: Place
    start: int
    shape: tuple[int, ...]
    codes: Codes
    axis: int
    scales: bytes
    zero_points: bytes

    @property
    def scheme(self) -> Scheme | None:
        """Whole numbers, and what they are multiplied by."""
        per = "channel" if len(self.scales) > np.dtype(np.float32).itemsize else "tensor"
        return Scheme(
            label=self.codes.label,
            description=f"TensorFlow Lite's {self.codes.bits}-bit codes, with a scale and a zero point per {per}",
            code_bits=self.codes.bits if self.codes.bits <= COUNTED_BITS else 0,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """None: scales and zero points stand with the tensor and are no tensors."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The bytes of these codes."""
        return (Span(self.file, *self._range(first, stop)),)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Read these codes and give the numbers that they stand for. Raises what `read` raises."""
        codes = self._codes(read, first, stop)
        wide = np.float32 if self.codes.bits <= EXACT_IN_FLOAT32 else np.float64
        scales, zero_points = np.frombuffer(self.scales, "<f4"), np.frombuffer(self.zero_points, "<i8")
        if len(scales) > 1:
            channels, lengths = self._channels(first, stop)
            scales, zero_points = np.repeat(scales[channels], lengths), np.repeat(zero_points[channels], lengths)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a scale may be anything; the audit tells what is not finite
            weights = (scales * (codes.astype(wide) - zero_points.astype(wide))).astype(np.float32)
        counted = self.codes.bits <= COUNTED_BITS
        return Decoded(weights, codes.view(np.uint8) & np.uint8((1 << self.codes.bits) - 1) if counted else None)

    def _range(self, first: int, stop: int) -> tuple[int, int]:
        return self.start + first * self.codes.bits // 8, self.start + -(-stop * self.codes.bits // 8)

    def _codes(self, read: Read, first: int, stop: int) -> npt.NDArray[np.signedinteger | np.unsignedinteger]:
        stored = read(self.file, *self._range(first, stop))
        if self.codes.bits < 8:  # noqa: PLR2004 - two in a byte
            codes = unpack(np.frombuffer(stored, np.uint8), self.codes.bits)[first % 2 :][: stop - first]
            return ((codes ^ 8) - np.uint8(8)).view(np.int8)  # two's complement of 4 bits
        return np.frombuffer(stored, f"<{'i' if self.codes.signed else 'u'}{self.codes.bits // 8}")

    def _channels(self, first: int, stop: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The channels that these elements cross, in order, and how many of the elements lie in each."""
        inner = prod(self.shape[self.axis + 1 :])
        rows = np.arange(first // inner, -(-stop // inner))
        edges = np.clip(np.arange(len(rows) + 1) * inner + first // inner * inner, first, stop)
        return rows % self.shape[self.axis], np.diff(edges)
