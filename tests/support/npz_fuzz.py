"""How the .npz reader is tried: archives whose headers have other numbers in them, in one place or in both."""

import random
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from jaynes_audit.analyzers.checkpoints.numpy_arrays import looks_like_npz, read_npz
from tests.support.fuzzing import Fuzz, read_every_element
from tests.support.npy_files import CENTRAL, END, LOCAL, npy, npz, zipped

TURNED = np.asfortranarray(np.arange(600, dtype=">f4").reshape(20, 30))
CORPUS = (
    npz(a=np.zeros(2, np.float32), b=np.arange(4)),
    npz(packed=True, a=np.zeros((40, 50), np.float32), b=TURNED),
    zipped(method=zipfile.ZIP_DEFLATED, a__npy=npy(), readme__txt=b"text", b__npy=b"no array", comment=b"comment"),
    zipped(a__npy=npy()),
)
FIELDS = {
    LOCAL: (4, 6, 8, 14, 18, 22, 26, 28),
    CENTRAL: (8, 10, 16, 20, 24, 28, 30, 32, 42),
    END: (4, 8, 10, 12, 16, 20),
}
"""Where numbers stand after each signature."""

NUMBERS = (0, 1, 2, 8, 9, 20, 0xFFFF, 0xFFFF_FFFF, 0x7FFF_FFFF)


def _places(content: bytes, signature: bytes) -> list[int]:
    places, at = [], content.find(signature)
    while at >= 0:
        places.append(at)
        at = content.find(signature, at + 1)
    return places


def _put(content: bytearray, at: int, number: int, width: int) -> None:
    content[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")


def change_number(content: bytearray, dice: random.Random) -> None:
    """One number in one header changes."""
    signature = dice.choice(list(FIELDS))
    places = _places(content, signature)
    if places:
        width = dice.choice((2, 2, 4))
        at = dice.choice(places) + dice.choice(FIELDS[signature])
        near = int.from_bytes(content[at : at + width], "little") + dice.choice((-1, 1, 16))
        _put(content, at, dice.choice((*NUMBERS, near, len(content))), width)


def change_both(content: bytearray, dice: random.Random) -> None:
    """What is told of a member twice changes in both headers: flags, method, checksum, a size or the name's length."""
    headers, entries = _places(content, LOCAL), _places(content, CENTRAL)
    if headers and len(headers) == len(entries):
        which = dice.randrange(len(headers))
        own, told, width = dice.choice(((6, 8, 2), (8, 10, 2), (14, 16, 4), (18, 20, 4), (22, 24, 4), (26, 28, 2)))
        number = dice.choice((*NUMBERS, int.from_bytes(content[headers[which] + own :][:width], "little") + 1))
        _put(content, headers[which] + own, number, width)
        _put(content, entries[which] + told, number, width)


def read(content: bytes) -> None:
    """Read a damaged archive, and every number in it."""
    looks_like_npz(content[:512], len(content))
    read_every_element(read_npz(BytesIO(content), Path("fuzzed.npz"), len(content)), content)


FUZZ = Fuzz(corpus=lambda: CORPUS, read=read, damages=(change_number, change_both))
