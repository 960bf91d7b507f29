"""Damaged files of any format, and the proof that a reader survives them: no crash, no hang, no memory out of bounds.

Each format has a module `tests/support/<reader>_fuzz.py` with a `FUZZ`. For a long run:
`python -m tests.support.fuzzing <reader> --inputs 1000000 --seed 7`. The same seed damages the same files in the same
way.
"""

import argparse
import importlib
import random
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.places import Place, Source
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import BITS
from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, RefusedFile

Damage = Callable[[bytearray, random.Random], None]

SECONDS_PER_INPUT = 5
BYTES_OF_ADDRESSES = 3 << 30  # of the whole process: a corpus of small files gives no reason for more
READ_AT_ONCE = 1 << 20  # elements
MOST_ELEMENTS = 1 << 24  # of one file of a few kB; a reader that promises more has not looked at the file's size


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzz:
    """How a reader is tried: the files to begin with, the damages that know the format, and what is to survive."""

    corpus: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], None]
    damages: tuple[Damage, ...] = ()


class TooSlow(BaseException):
    """An input took longer than SECONDS_PER_INPUT. No reader's own `except` may swallow it."""


class FileInMemory:
    """A file's bytes as a source."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)

    def read(self, start: int, end: int) -> memoryview:
        """Give the bytes, as a file cut short would."""
        if not 0 <= start <= end:
            message = f"bytes {start} to {end} were asked for"
            raise AssertionError(message)
        if end > len(self._content):
            raise RefusedFile("it became shorter", rule="JN001", case="shortened-while-read")
        return self._content[start:end]

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Have all bytes already."""

    def close(self) -> None:
        """Keep nothing open."""


class SourcesInMemory(Sources):
    """One file's bytes, whatever name it is asked for by."""

    def __init__(self, content: bytes) -> None:
        super().__init__(Io.PREAD)
        self._file = FileInMemory(content)

    def of_file(self, file: Place) -> Source:
        """Give the one file."""
        del file
        return self._file


def read_every_element(weights: WeightFile, content: bytes) -> None:
    """Read all tensors as an audit would, a piece at a time. What a tensor refuses is a refusal of that tensor."""
    elements = sum(prod(tensor.shape) for tensor in weights.tensors)
    assert elements <= MOST_ELEMENTS, f"{elements} elements of a file of {len(content)} bytes"
    with SourcesInMemory(content) as sources:
        for tensor in weights.tensors:
            try:
                read_tensor(tensor, sources)
            except (RefusedFile, CouldNotRead):
                continue


def read_tensor(tensor: Tensor, sources: Sources) -> bytes:
    """The bytes of a whole tensor, read a piece at a time."""
    source, bits = sources.of(tensor), BITS[tensor.dtype]
    end = prod(tensor.shape) * bits // 8
    step = READ_AT_ONCE * bits // 8
    return b"".join(bytes(source.read(start, min(end, start + step))) for start in range(0, end, step))


# ---- damages that fit any format


def flip_bit(content: bytearray, dice: random.Random) -> None:
    """One bit changes."""
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def set_byte(content: bytearray, dice: random.Random) -> None:
    """One byte becomes another, often a telling one."""
    content[dice.randrange(len(content))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def set_number(content: bytearray, dice: random.Random) -> None:
    """Two, four or eight bytes become a number that a size or an offset should not be."""
    width = dice.choice((2, 4, 8))
    at = dice.randrange(max(1, len(content) - width + 1))
    near = int.from_bytes(content[at : at + width], "little") + dice.choice((-8, -1, 1, 8))
    number = dice.choice((0, 1, near, len(content), (1 << 8 * width - 1) - 1, 1 << 8 * width - 1, (1 << 8 * width) - 1))
    content[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")


def delete(content: bytearray, dice: random.Random) -> None:
    """A few bytes vanish."""
    at = dice.randrange(len(content))
    del content[at : at + dice.choice((1, 1, 2, 4, 8, 40))]


def repeat(content: bytearray, dice: random.Random) -> None:
    """A piece is copied to another place."""
    start = dice.randrange(len(content))
    at = dice.randrange(len(content) + 1)
    content[at:at] = content[start : start + dice.choice((1, 4, 8, 30, 60))]


def cut(content: bytearray, dice: random.Random) -> None:
    """The end is missing."""
    del content[dice.randrange(len(content)) :]


DAMAGES: tuple[Damage, ...] = (flip_bit, flip_bit, set_byte, set_byte, set_number, set_number, delete, repeat, cut)


def damaged_files(fuzz: Fuzz, *, inputs: int, seed: int) -> Iterator[bytes]:
    """So many damaged files, each with one to four damages; half of them know the format, where any do."""
    dice = random.Random(seed)  # noqa: S311 - for variety, not for secrecy
    corpus = fuzz.corpus()
    for _ in range(inputs):
        content = bytearray(dice.choice(corpus))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 4))):
            damages = fuzz.damages if fuzz.damages and dice.random() < 0.5 else DAMAGES
            if content:
                dice.choice(damages)(content, dice)
        yield bytes(content)


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that a reader did not survive, and the trace of it."""

    content: bytes
    trace: str


def survive(fuzz: Fuzz, *, inputs: int, seed: int) -> tuple[Counter[str], list[Fault]]:
    """Read so many damaged files, in the main thread. Gives how often each end was met, and the faults."""
    ends: Counter[str] = Counter()
    faults: list[Fault] = []
    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for content in damaged_files(fuzz, inputs=inputs, seed=seed):
            signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_INPUT)
            try:
                fuzz.read(content)
                ends["accepted"] += 1
            except RefusedFile as refusal:
                ends[f"{refusal.rule} {refusal.case}"] += 1
            except JaynesError as error:
                ends[type(error).__name__] += 1
            except (Exception, TooSlow):  # noqa: BLE001 - whatever it is, it is a fault of the reader
                faults.append(Fault(content, traceback.format_exc()))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return ends, faults


def _too_slow(*_: object) -> None:
    raise TooSlow


def main() -> None:
    """Try one reader on many damaged files; print how they ended, and keep each that shows a fault."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("reader")
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", type=Path, default=Path("fuzz-faults"))
    chosen = options.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (BYTES_OF_ADDRESSES, BYTES_OF_ADDRESSES))
    fuzz: Fuzz = importlib.import_module(f"tests.support.{chosen.reader}_fuzz").FUZZ
    ends, faults = survive(fuzz, inputs=chosen.inputs, seed=chosen.seed)
    for end, count in ends.most_common():
        print(f"{count:9,} {end}")  # noqa: T201
    for fault in faults:
        chosen.keep.mkdir(exist_ok=True)
        path = chosen.keep / f"{chosen.reader}-{sha256(fault.content).hexdigest()[:16]}"
        path.write_bytes(fault.content)
        print(f"{path}\n{fault.trace}")  # noqa: T201
    print(f"{chosen.inputs:9,} inputs, {len(faults):,} faults, peak memory {_peak_mebibytes():,} MiB")  # noqa: T201
    sys.exit(bool(faults))


def _peak_mebibytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
