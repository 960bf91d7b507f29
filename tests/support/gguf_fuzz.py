"""Damaged GGUF files: sound and hostile ones of every type and both orders of bytes, hurt where the format is tender.

For a long run: `python -m tests.support.fuzzing gguf --inputs 1000000 --seed 7`.
"""

import io
import random
import re
from functools import cache
from pathlib import Path
from typing import Literal

from jaynes_audit.analyzers.checkpoints.gguf_blocks import BIG_ENDIAN_NUMBERS, BLOCKS, PLAIN
from jaynes_audit.analyzers.checkpoints.gguf_file import read_gguf
from tests.support.fuzzing import Fuzz, read_every_element
from tests.support.gguf_files import (
    F32,
    HOSTILE,
    LIST,
    TEXT,
    U8,
    U16,
    U32,
    U64,
    entry,
    gguf,
    items,
    number,
    text,
    word,
)

LARGEST_SEED = 4_000  # bytes; keys and names that are too long would fill the corpus with one letter

# A text behind its length, in either order of bytes.
TEXTS = re.compile(rb"(?:([\x01-\x20])\0{7}|\0{7}([\x01-\x20]))(?=[a-z0-9_.])")
TYPES = (*range(14), 31, 41, 42, 137, 1 << 16, (1 << 32) - 1)
SIZES = (0, 1, 2, 3, 5, 8, 31, 32, 33, 64, 256, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
WIDE_SIZES = (*SIZES, 1 << 32, 1 << 40, 1 << 61, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 32, (1 << 64) - 1)


def metadata(order: str) -> list[tuple[str | bytes, bytes]]:
    """A value of every kind."""
    return [
        ("general.architecture", word("llama", order)),
        ("general.alignment", number(U32, 32, order)),
        ("llama.block_count", number(U32, 2, order)),
        ("llama.attention.head_count", number(U16, 4, order)),
        ("big", number(U64, 1 << 40, order)),
        ("tokens", items(TEXT, 4, b"".join(text(each, order) for each in ("<s>", "a", "", "bc")), order)),
        ("scores", items(F32, 4, bytes(16), order)),
        ("lists", items(LIST, 2, items(U8, 3, b"abc", order)[4:] * 2, order)),
    ]


def with_every_type(order: str) -> bytes:
    """A file with a tensor of every type that can be decoded in this order of bytes, a scale and two that cannot."""
    entries, data = [], b""
    for kind, dtype in PLAIN.items():
        entries.append(entry(f"{dtype.value.lower()}", [3, 2], kind, offset=len(data), order=order))
        data += bytes(range(64))
    for kind, blocks in BLOCKS.items():
        if order == "<" or blocks.name in BIG_ENDIAN_NUMBERS:
            shape = [blocks.elements, 2]
            entries.append(entry(f"{blocks.name.lower()}.weight", shape, kind, offset=len(data), order=order))
            content = bytes(at * 7 % 256 for at in range(2 * blocks.stored_bytes))
            data += content + bytes(-len(content) % 32)
    entries.append(entry("nvfp4.scale", [1], offset=len(data), order=order))
    entries.append(entry("odd", [32], 137, offset=len(data) + 32, order=order))
    entries.append(entry("q8_k.weight", [256], 15, offset=len(data) + 64, order=order))
    return gguf(*entries, metadata=metadata(order), data=data + bytes(96), order=order)


def small(order: str) -> bytes:
    """A file so small that most damages hit its header."""
    entries = [
        entry("blk.0.attn_q.weight", [32, 2], 8, order=order),
        entry("output_norm.weight", [8], offset=96, order=order),
    ]
    return gguf(*entries, metadata=metadata(order)[:2], data=bytes(128), order=order)


@cache
def corpus() -> tuple[bytes, ...]:
    """The files to begin with: half of the draws are sound."""
    sound = [make(order) for make in (with_every_type, small, small) for order in "<<>"]
    hostile = [each.content for each in HOSTILE if len(each.content) < LARGEST_SEED]
    return (*sound * (len(hostile) // len(sound)), *hostile)


# ---- damages that know the format


def _order(content: bytearray) -> Literal["big", "little"]:
    return "big" if content[4:6] == b"\0\0" else "little"


def _put(content: bytearray, at: int, width: int, value: int) -> None:
    if at + width <= len(content):
        content[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, _order(content))


def _get(content: bytearray, at: int, width: int) -> int:
    return int.from_bytes(content[at : at + width], _order(content))


def _text(content: bytearray, dice: random.Random) -> tuple[int, int]:
    """Where a key, a text or a name begins, with the length before it, and where it ends."""
    found = list(TEXTS.finditer(content))
    if not found:
        return 0, 8
    chosen = dice.choice(found)
    length = (chosen[1] or chosen[2])[0]
    return chosen.start(), chosen.end() + length


def change_version(content: bytearray, dice: random.Random) -> None:
    """The version, and with it perhaps the order of bytes, becomes another."""
    content[4:8] = dice.choice((1, 2, 3, 4, 1 << 24, 2 << 24, 3 << 24)).to_bytes(4, "little")


def change_count(content: bytearray, dice: random.Random) -> None:
    """One of the two counts becomes another."""
    at = dice.choice((8, 16))
    _put(content, at, 8, dice.choice((*WIDE_SIZES, _get(content, at, 8) + dice.choice((-2, -1, 1, 2)))))


def change_length(content: bytearray, dice: random.Random) -> None:
    """The length of a key, a text or a name becomes another."""
    start, _ = _text(content, dice)
    _put(content, start, 8, dice.choice((*WIDE_SIZES, _get(content, start, 8) + dice.choice((-1, 1)))))


def change_what_follows_a_text(content: bytearray, dice: random.Random) -> None:
    """A type, a count, a dimension or an offset becomes another."""
    _, end = _text(content, dice)
    at = end + dice.choice((0, 4, 8, 12, 20, 24, 28))
    width = dice.choice((4, 8))
    near = _get(content, at, width) + dice.choice((-32, -1, 1, 32))
    _put(content, at, width, dice.choice((*TYPES, *WIDE_SIZES, near)))


def change_type(content: bytearray, dice: random.Random) -> None:
    """The type of a value, or the number of dimensions, becomes another."""
    _, end = _text(content, dice)
    _put(content, end, 4, dice.choice(TYPES))


def copy_a_text(content: bytearray, dice: random.Random) -> None:
    """A key or a name becomes another, or the same twice."""
    start, end = _text(content, dice)
    other_start, other_end = _text(content, dice)
    content[start:end] = content[other_start:other_end]


def move_a_piece(content: bytearray, dice: random.Random) -> None:
    """Whole entries or values stand twice, or are missing."""
    start, _ = _text(content, dice)
    end, _ = _text(content, dice)
    piece = content[min(start, end) : max(start, end)]
    if dice.random() < 0.5:
        content[start:start] = piece
    else:
        del content[min(start, end) : max(start, end)]


def read(content: bytes) -> None:
    """Read the header and every element."""
    weights = read_gguf(io.BytesIO(content), Path("fuzzed.gguf"), len(content))
    read_every_element(weights, content)
    for tensor in weights.tensors:
        assert 0 <= tensor.start <= tensor.end
        assert tensor.start == tensor.end or tensor.end <= len(content)


FUZZ = Fuzz(
    corpus=corpus,
    read=read,
    damages=(
        change_version,
        change_count,
        change_length,
        change_length,
        change_what_follows_a_text,
        change_what_follows_a_text,
        change_what_follows_a_text,
        change_type,
        copy_a_text,
        move_a_piece,
    ),
)
