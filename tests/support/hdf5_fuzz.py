"""Damaged HDF5 files and Keras archives: names, trees, heaps, headers, chunks. See `tests/support/fuzzing.py`."""

import io
import random
import re
from collections.abc import Sequence
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.foreign import PROBE
from jaynes_audit.analyzers.checkpoints.keras_hdf5 import looks_like_hdf5, looks_like_keras, read_hdf5, read_keras
from tests.support.fuzzing import Fuzz, read_every_element
from tests.support.hdf5_files import CHUNKED, HOSTILE, KERAS_HOSTILE, ONE, PLAIN_CHUNKS, SOUND, keras_archive

STRUCTURES = re.compile(
    rb"TREE|HEAP|SNOD|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN|OHDR|OCHK|GCOL|\x89HDF|\x01\x00.\x00\x01\x00\x00\x00", re.DOTALL
)
TRIES = 100  # to find what looks like a message
MESSAGES = bytes((0, 1, 2, 3, 5, 6, 7, 8, 11, 12, 16, 17))


def read(content: bytes) -> None:
    """Read every element of a file that lies in memory."""
    looks_like_hdf5(content[:PROBE], len(content))
    looks_like_keras(content[:PROBE], len(content))
    reader = read_keras if content.startswith(b"PK") else read_hdf5
    read_every_element(reader(io.BytesIO(content), Path("fuzzed"), len(content)), content)


def corpus() -> Sequence[bytes]:
    """Sound files and hostile ones."""
    return (
        *(each for each in SOUND.values()),
        *(each.content for each in (*HOSTILE, *KERAS_HOSTILE) if len(each.content) < 20_000),
        *(ONE, CHUNKED, PLAIN_CHUNKS, SOUND["twelve names"], SOUND["twelve names in order"]) * 8,
        keras_archive(CHUNKED),
    )


def _structures(content: bytearray) -> list[int]:
    return [match.start() for match in STRUCTURES.finditer(content)]


def redirect(content: bytearray, dice: random.Random) -> None:
    """An address leads to another structure."""
    structures = _structures(content)
    if structures:
        address = dice.choice(structures).to_bytes(8, "little")
        at = content.find(address, dice.randrange(len(content)))
        if at >= 0:
            content[at : at + 8] = dice.choice(structures).to_bytes(8, "little")


def change_structure(content: bytearray, dice: random.Random) -> None:
    """A count, a level or a length at the beginning of a structure becomes another."""
    structures = _structures(content)
    if structures:
        at = dice.choice(structures) + dice.randrange(4, 80)
        if at < len(content):
            content[at] = dice.choice((0, 1, 2, 3, 8, 16, 0x7F, 0xFF, dice.randrange(256)))


def change_message(content: bytearray, dice: random.Random) -> None:
    """A message of an object header becomes one of another kind, or of another length."""
    for _ in range(TRIES):
        at = dice.randrange(len(content)) & ~7
        if at + 8 <= len(content) and content[at] in MESSAGES and not content[at + 1] and content[at + 2]:
            place, byte = dice.choice(((at, dice.choice(MESSAGES)), (at + 2, dice.randrange(256))))
            content[place] = byte
            return


def swap_structures(content: bytearray, dice: random.Random) -> None:
    """The beginning of one structure stands where another was."""
    structures = _structures(content)
    if structures:
        one, other = dice.choice(structures), dice.choice(structures)
        piece = content[one : one + dice.choice((24, 48, 96))]
        content[other : other + len(piece)] = piece


def mend_end(content: bytearray, _: random.Random) -> None:
    """The file's own account of where it ends agrees again, so that more of it is looked at."""
    at = 28 if content[8:9] > b"\1" else 40  # by the superblock's version
    if content.startswith(b"\x89HDF") and len(content) >= at + 8:
        content[at : at + 8] = len(content).to_bytes(8, "little")


FUZZ = Fuzz(
    corpus=corpus, read=read, damages=(redirect, redirect, change_structure, change_message, swap_structures, mend_end)
)
