"""Damages that know what a pickle is made of: its opcodes and their arguments."""

import pickletools
import random
from collections.abc import Callable
from typing import NamedTuple

from tests.support.fuzzing import Damage, flip_bit, set_byte, set_number
from tests.support.pytorch_files import call, name, number, put, stacked_name, storage, tensor

SNIPPETS: tuple[bytes, ...] = (
    *(bytes([code]) for code in range(256)),
    *map(number, (0, 1, -1, 4, 1 << 31, 1 << 63, -(1 << 63), (1 << 61) - 1, 1 << 200)),
    *(put(value) for value in ("", "0", "storage", 0.5, (), (1,), (4,), (2, 2), (1 << 62, 4), [], {}, None, True)),
    name("os", "system"),
    name("torch", "FloatStorage"),
    name("torch", "DoubleStorage"),
    name("torch", "QInt8Storage"),
    name("torch.storage", "UntypedStorage"),
    name("collections", "OrderedDict"),
    stacked_name("torch", "Size"),
    call("torch", "Size", (2, 3)),
    call("collections", "OrderedDict", [("a", 1), "b"]),
    call("argparse", "Namespace"),
    storage(),
    storage(count=2),
    tensor(),
    tensor(None, 0, (2, 2), (1, 2)),
    tensor(None, 0, (2, 2), (2, 0)),
    tensor(None, 0, (3, 2), (1, 1)),
    tensor(None, 3, (1,), (9,), b"\x89", b"}", {"conj": True, "neg": True}),
    b"h\0",
    b"q\0",
    b"\x94",
    b"}s",
    b"2\x85\x85\x85R",
    b"\x8c\x05state}b",
)
"""Opcodes that are put where others stood."""


class Piece(NamedTuple):
    """One opcode with its argument: where it is in the pickle."""

    start: int
    stop: int


def pieces(pickle: bytes) -> list[Piece]:
    """The opcodes as far as the standard library can tell them apart."""
    starts = []
    try:
        starts += (position for _, _, position in pickletools.genops(pickle) if position is not None)
    except Exception:  # noqa: BLE001 - a pickle that was damaged before
        starts.append(len(pickle))
    return [Piece(start, stop) for start, stop in zip(starts, [*starts[1:], len(pickle)], strict=True) if start < stop]


def _of_opcodes(change: Callable[[bytearray, list[Piece], random.Random], None]) -> Damage:
    def damage(content: bytearray, dice: random.Random) -> None:
        found = pieces(bytes(content))
        if found:
            change(content, found, dice)

    return damage


@_of_opcodes
def drop_opcode(content: bytearray, found: list[Piece], dice: random.Random) -> None:
    """An opcode vanishes."""
    piece = dice.choice(found)
    del content[piece.start : piece.stop]


@_of_opcodes
def repeat_opcodes(content: bytearray, found: list[Piece], dice: random.Random) -> None:
    """Some opcodes come again somewhere else."""
    first = dice.randrange(len(found))
    last = min(len(found) - 1, first + dice.choice((0, 1, 5, 30)))
    at = dice.choice(found).start
    content[at:at] = content[found[first].start : found[last].stop] * dice.choice((1, 1, 2, 50))


@_of_opcodes
def swap_opcodes(content: bytearray, found: list[Piece], dice: random.Random) -> None:
    """Two opcodes change places."""
    first, second = sorted(dice.choices(found, k=2))
    if first != second:
        one, other = content[first.start : first.stop], content[second.start : second.stop]
        content[second.start : second.stop] = one
        content[first.start : first.stop] = other


@_of_opcodes
def replace_opcode(content: bytearray, found: list[Piece], dice: random.Random) -> None:
    """An opcode becomes some others."""
    piece = dice.choice(found)
    content[piece.start : piece.stop] = dice.choice(SNIPPETS)


@_of_opcodes
def insert_opcodes(content: bytearray, found: list[Piece], dice: random.Random) -> None:
    """Some opcodes appear."""
    at = dice.choice(found).start
    content[at:at] = dice.choice(SNIPPETS)


@_of_opcodes
def change_argument(content: bytearray, found: list[Piece], dice: random.Random) -> None:
    """A byte of an opcode's argument, such as a length, changes."""
    with_argument = [piece for piece in found if piece.stop - piece.start > 1]
    if with_argument:
        piece = dice.choice(with_argument)
        at = dice.randrange(piece.start + 1, piece.stop)
        content[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256), (content[at] + 1) % 256))


PICKLE_DAMAGES: tuple[Damage, ...] = (
    drop_opcode,
    repeat_opcodes,
    swap_opcodes,
    replace_opcode,
    replace_opcode,
    insert_opcodes,
    change_argument,
    change_argument,
    flip_bit,
    set_byte,
    set_number,
)
