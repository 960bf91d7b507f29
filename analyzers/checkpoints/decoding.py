"""Tensors whose elements are not simply stored one after another: strided views, quantised weights, packed blocks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.places import Place, Span

Read = Callable[[Place, int, int], memoryview]
"""Bytes `start` to `end` of a file. What it gives may change with the next call: copy what must outlast it."""


class Decoded(NamedTuple):
    """Some elements of a tensor, and the quantiser's codes that they were made from, where those are counted."""

    elements: npt.NDArray[np.generic]
    codes: npt.NDArray[np.unsignedinteger] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How weights were quantised: a short label as `GPTQ-4`, the same in words, and the width of a code in bits.

    `code_bits` is 0 where codes are not counted. `keeps_law` tells whether small weights are as precise as large ones,
    as in floats of eight bits, so that the law of the weights can still be told. Evenly spaced codes take the small
    ones to zero and their neighbours: Gaussian weights of eight such bits have a skewness of -1.1 where they had -1.5,
    and of four bits -0.1, as lognormal ones.
    """

    label: str
    description: str
    code_bits: int = 0
    keeps_law: bool = False


class Decoder(Protocol):
    """How the elements of one tensor are made from stored bytes.

    A decoder is a frozen dataclass whose `repr` tells all it is made of, so that equal ones give equal elements.
    """

    @property
    def scheme(self) -> Scheme | None:
        """How the weights were quantised; None where stored elements are only arranged in another way."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the stored tensors it is made of, the weight's first; empty where the tensor is its own only one."""

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The stored bytes that elements `first` to `stop` (in C order) are made from, each byte once."""

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Make elements `first` to `stop`, flat and in C order, as stored codes of the tensor's own dtype.

        So float32 numbers for F32, and uint16 codes for BF16 (see `dtypes.stored_codes`). `first` and `stop` may be
        any elements: a decoder of blocks decodes those they lie in and cuts.

        Raises:
            RefusedFile: when the stored bytes mean nothing.
            CouldNotRead: as `read` does.
        """
