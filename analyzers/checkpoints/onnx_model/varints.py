"""Numbers written as varints: how ONNX keeps all but float32, float64 and complex ones that are not in raw_data."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.onnx_model.wire import GOES_ON, LONGEST_VARINT, Wire, bad
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.dtypes import BITS, Dtype, stored_codes

WINDOW_BYTES = 1 << 18  # read at once
BITS_PER_BYTE = 7  # the eighth says that the number goes on


def count_varints(wire: Wire, start: int, end: int) -> int:
    """How many numbers stand from `start` to `end`. Raises RefusedFile, JN003, when one of them is longer than any."""
    count, reached = 0, start
    while reached < end:
        window = np.frombuffer(wire.content(reached, min(end, reached + WINDOW_BYTES)), np.uint8)
        lasts = np.flatnonzero(window < GOES_ON)
        if not lasts.size or np.diff(lasts, prepend=-1).max() > LONGEST_VARINT:
            raise bad(f"has a number after byte {reached:,} that does not end", "onnx-varint")
        count += lasts.size
        reached += int(lasts[-1]) + 1
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Varints:
    """Elements written as varints from byte `start` to byte `end`: the lowest bits of each are an element's code.

    Where an element stands follows from all before it, so reading in the middle means passing over the beginning.
    """

    file: Place
    start: int
    end: int
    dtype: Dtype

    @property
    def scheme(self) -> Scheme | None:
        """None: nothing is quantised."""

    @property
    def parts(self) -> tuple[str, ...]:
        """None but the tensor itself."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """All bytes, whichever elements are wanted."""
        del first, stop
        return (Span(self.file, self.start, self.end),)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Give the elements' codes."""
        numbers = [np.empty(0, np.uint64), *self._numbers(read, first, stop)]
        codes = np.concatenate(numbers).astype(f"<u{BITS[self.dtype] // 8}")
        return Decoded(stored_codes(memoryview(codes.tobytes()), self.dtype))

    def _numbers(self, read: Read, first: int, stop: int) -> Iterator[npt.NDArray[np.uint64]]:
        passed, reached = 0, self.start
        while passed < stop and reached < self.end:
            window = np.frombuffer(read(self.file, reached, min(self.end, reached + WINDOW_BYTES)), np.uint8)
            lasts = np.flatnonzero(window < GOES_ON)
            if not lasts.size:
                raise bad(f"has a number after byte {reached:,} that does not end", "onnx-varint")
            firsts = np.concatenate(([0], lasts[:-1] + 1))
            wanted = slice(max(0, first - passed), max(0, stop - passed))
            yield _values(window, firsts[wanted], lasts[wanted])
            passed += lasts.size
            reached += int(lasts[-1]) + 1


def _values(
    window: npt.NDArray[np.uint8], firsts: npt.NDArray[np.int64], lasts: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """The numbers that stand from a first byte to a last one each, cut to 64 bits."""
    values = np.zeros(firsts.size, np.uint64)
    for position in range(LONGEST_VARINT):
        reaching = firsts + position <= lasts
        if not reaching.any():
            break
        bits = (window[firsts[reaching] + position] & (GOES_ON - 1)).astype(np.uint64)
        values[reaching] |= bits << np.uint64(BITS_PER_BYTE * position)
    return values
