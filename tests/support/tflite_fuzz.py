"""Damaged TensorFlow Lite models and bundles: offsets, counts, types, buffers. See `tests/support/fuzzing.py`."""

import io
import random
from collections.abc import Sequence
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.foreign import PROBE
from jaynes_audit.analyzers.checkpoints.tflite_model import looks_like_task, looks_like_tflite, read_task, read_tflite
from tests.support.fuzzing import Fuzz, read_every_element
from tests.support.tflite_files import CONVERTED, HOSTILE, SOUND, TASK_HOSTILE, bundle

LARGEST_SEED = 10_000  # bytes; the file that is refused for its long way round would take most of the time


def read(content: bytes) -> None:
    """Read every element of a file that lies in memory."""
    looks_like_tflite(content[:PROBE], len(content))
    looks_like_task(content[:PROBE], len(content))
    reader = read_task if content.startswith(b"PK") else read_tflite
    read_every_element(reader(io.BytesIO(content), Path("fuzzed"), len(content)), content)


def corpus() -> Sequence[bytes]:
    """Models that were converted, and those made here, sound and hostile, alone and in bundles."""
    return (
        *SOUND.values(),
        *CONVERTED.values(),
        *(each.content for each in (*HOSTILE, *TASK_HOSTILE) if len(each.content) < LARGEST_SEED),
        bundle(a__tflite=CONVERTED["int8"], b__tflite=SOUND["int4"]),
        bundle(a__task=bundle(b__tflite=SOUND["int4"]), c__tflite=SOUND["one tensor"]),
    )


def _words(content: bytearray) -> range:
    return range(0, len(content) - 3, 4)


def _offsets(content: bytearray) -> list[int]:
    """Where numbers stand that may lead to something behind them in the file."""
    return [at for at in _words(content) if 4 <= int.from_bytes(content[at : at + 4], "little") < len(content) - at]


def redirect(content: bytearray, dice: random.Random) -> None:
    """An offset leads to where another one leads, or to itself."""
    offsets = _offsets(content)
    if offsets:
        at, other = dice.choice(offsets), dice.choice(offsets)
        target = other + int.from_bytes(content[other : other + 4], "little")
        content[at : at + 4] = ((target - at) % (1 << 32)).to_bytes(4, "little")


def change_word(content: bytearray, dice: random.Random) -> None:
    """A count, a dimension or a number of a buffer becomes another."""
    words = _words(content)
    if words:
        at = dice.choice(words)
        number = dice.choice((0, 1, 2, 3, 16, dice.randrange(64), (1 << 31) - 1, (1 << 32) - 1))
        content[at : at + 4] = number.to_bytes(4, "little")


def change_field(content: bytearray, dice: random.Random) -> None:
    """Two bytes, perhaps a field's place in its table, become another place."""
    if len(content) > 1:
        at = dice.randrange(len(content) - 1) & ~1
        content[at : at + 2] = dice.choice((0, 4, 8, 12, 16, 20, dice.randrange(1 << 16))).to_bytes(2, "little")


def change_type(content: bytearray, dice: random.Random) -> None:
    """A small byte, perhaps an element type, becomes another."""
    places = [at for at, byte in enumerate(content) if byte <= 20]
    if places:
        content[dice.choice(places)] = dice.randrange(22)


FUZZ = Fuzz(corpus=corpus, read=read, damages=(redirect, redirect, change_word, change_field, change_type))
