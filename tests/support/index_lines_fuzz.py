"""How the search for lines in an index is tried: other layouts, other texts, and never a failure.

For a long run: `python -m tests.support.fuzzing index_lines --inputs 1000000 --seed 7`.
"""

import json
import random
from collections.abc import Sequence

from jaynes_audit.analyzers.checkpoints.index import lines_of_tensors, parse_index
from tests.support.fuzzing import Fuzz

PIECES = (
    '"',
    '\\"',
    "\\",
    "\\u0022",
    "\\ud800",
    ":",
    " : ",
    "\n",
    "{",
    "}",
    '"weight_map":',
    '"a":"b",',
    '"' * 9,
    "\\x",
)


def corpus() -> Sequence[bytes]:
    """Indexes in several layouts."""
    shards = {f"layers.{at}.w": f"model-0000{at}-of-00003.safetensors" for at in (1, 2, 3)}
    odd = {'a"b\\': "x", "weight_map": "y", "": "z", "größe\n": "w"}
    return tuple(
        json.dumps(
            {"metadata": {"total_size": 8}, "weight_map": names}, indent=indent, ensure_ascii=indent is None
        ).encode()
        for names in (shards, odd)
        for indent in (None, 0, 2)
    )


def insert_piece(content: bytearray, dice: random.Random) -> None:
    """A piece of JSON appears somewhere, once or very often."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.choice(PIECES).encode() * dice.choice((1, 1, 1, 2, 1000))


def read(content: bytes) -> None:
    """Look for the lines in any text, and hold them to what a parser says where the text is an index."""
    lines = lines_of_tensors(content.decode(errors="replace"))
    rows = content.decode(errors="replace").count("\n") + 1
    assert all(1 <= line <= rows for line in lines.values())
    assert set(parse_index(content).weight_map) <= set(lines)


FUZZ = Fuzz(corpus=corpus, read=read, damages=(insert_piece,))
