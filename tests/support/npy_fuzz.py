"""How the .npy reader is tried: arrays whose header has pieces of other headers in it."""

import random
import re
from io import BytesIO
from pathlib import Path

import numpy as np

from jaynes_audit.analyzers.checkpoints.numpy_arrays import looks_like_npy, read_npy
from tests.support.fuzzing import Fuzz, read_every_element
from tests.support.npy_files import HEADER, npy, saved

TOKENS = tuple(
    token.encode()
    for token in (
        *("'descr'", "'fortran_order'", "'shape'", ": ", ", ", "{", "}", "(", ")", "[", "'", '"', "\\", "\n", " " * 50),
        *("'<f4'", "'>f8'", "'|V2'", "'|O'", "'<f16'", "'>c16'", "'|b1'", "'<U3'", "[('a', '<f4')]", "[('a', '|O')]"),
        *("True", "False", "None", "2", "0", "-1", "8L", "(2,)", "(1, 2)", "(2, 1, 1)", "()", str(1 << 63), "9" * 60),
    )
)
PIECE = re.compile(rb"'[^']*'|\w+|[^\w\s]")
CORPUS = (
    npy(),
    npy(HEADER.replace("<", ">").replace("False", "True").replace("(2,)", "(2, 1)")),
    npy(version=(3, 0)),
    saved(np.arange(6, dtype=">i2").reshape(2, 3).T),
    saved(np.asfortranarray(np.arange(24, dtype="<f8").reshape(2, 3, 4))),
    saved(np.zeros((0, 3), np.float16)),
    saved(np.zeros((), np.complex64)),
    saved(np.zeros(3, "V2")),
    saved(np.zeros(2, [("a", "f4"), ("b", "i2")])),
)


def change_piece(content: bytearray, dice: random.Random) -> None:
    """A piece of the header becomes another one, and the header's length fits afterwards."""
    end = 10 + int.from_bytes(content[8:10], "little")
    pieces = list(PIECE.finditer(content, 10, end))
    if not pieces:
        return
    before = len(content)
    start, stop = dice.choice(pieces).span()
    content[start : stop if dice.random() < 0.7 else start] = dice.choice(TOKENS)
    content[8:10] = (max(0, end - 10 + len(content) - before) % (1 << 16)).to_bytes(2, "little")


def read(content: bytes) -> None:
    """Read a damaged array, and every number in it."""
    looks_like_npy(content[:512], len(content))
    read_every_element(read_npy(BytesIO(content), Path("fuzzed.npy"), len(content)), content)


FUZZ = Fuzz(corpus=lambda: CORPUS, read=read, damages=(change_piece,))
