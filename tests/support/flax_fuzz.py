"""How the Flax reader is tried: values that get another form or length, and whole values that change places."""

import random
from io import BytesIO
from pathlib import Path

import msgspec

from jaynes_audit.analyzers.checkpoints.flax_msgpack import looks_like_flax, read_flax
from tests.support.flax_files import CORPUS, EIGHT, Extension, Raw, Value, array, packed
from tests.support.fuzzing import Fuzz, read_every_element

FORMS = (*range(0xC0, 0xE0), 0x00, 0x7F, 0x80, 0x81, 0x8F, 0x90, 0x93, 0xA0, 0xA1, 0xBF, 0xFF)
VALUES: tuple[Value, ...] = (
    *(None, True, -1, 0, 5, 1 << 62, 0.5, "", "w", b"", EIGHT, {}, [], {"0": 2}, [2, 3], Raw(b"\xc1"), Raw(b"\xdf")),
    *(array((2,)), array((2,), "int4"), array((3,)), array((2,), kind=3), Extension(2, b""), Extension(1, b"")),
)


def change_form(content: bytearray, dice: random.Random) -> None:
    """A byte that could begin a value begins one of another form."""
    places = [at for at, byte in enumerate(content) if byte >= 0xC0] or [0]
    content[dice.choice(places)] = dice.choice(FORMS)


def change_value(content: bytearray, dice: random.Random) -> None:
    """Somewhere in the maps and lists a value becomes another, moves, or gets another key."""
    try:
        tree = msgspec.msgpack.decode(content, ext_hook=lambda kind, inner: Extension(kind & 0xFF, bytes(inner)))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return
    inner = [each for each in _all(tree) if isinstance(each, dict | list) and each]
    if not inner:
        return
    chosen = dice.choice(inner)
    key = dice.choice(list(chosen) if isinstance(chosen, dict) else range(len(chosen)))
    old = chosen[key]
    if isinstance(old, Extension) and dice.random() < 0.6:
        parts = bytearray(old.content)
        change_value(parts, dice)
        chosen[key] = Extension(old.kind if dice.random() < 0.9 else dice.randrange(256), bytes(parts))
    elif isinstance(chosen, dict) and dice.random() < 0.4:
        del chosen[key]
        chosen[dice.choice(("", "0", "1", "shape", "chunks", "opt_state", "params", 1, Raw(packed("w"))))] = old
    else:
        others = [each for each in _all(tree) if not isinstance(each, dict | list)]
        chosen[key] = dice.choice((*VALUES, *others))
    content[:] = packed(tree)


def _all(value: object) -> list[object]:
    found = [value]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += _all(inner)
    return found


def read(content: bytes) -> None:
    """Read a damaged file, and every number in it."""
    looks_like_flax(content[:512], len(content))
    read_every_element(read_flax(BytesIO(content), Path("fuzzed"), len(content)), content)


FUZZ = Fuzz(corpus=lambda: CORPUS, read=read, damages=(change_form, change_value, change_value))
