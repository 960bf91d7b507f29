"""How the ONNX reader is tried: models whose messages are taken apart, changed somewhere, and put together again."""

import random
from io import BytesIO
from itertools import chain
from pathlib import PurePosixPath

from jaynes_audit.analyzers.checkpoints.onnx_model import looks_like_onnx, read_onnx
from tests.support.fuzzing import Fuzz, read_every_element
from tests.support.onnx_files import CORPUS, FolderInMemory, varint

NUMBERS = (0, 1, 2, 127, 128, 255, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
WIDTHS = {1: 8, 5: 4}
Message = list["Field"]


class Field:
    """A field of a message, and its own fields where its content could be a message."""

    def __init__(self, tag: int, value: int | bytes) -> None:
        self.tag = tag
        self.value = value
        self.inner = parsed(value) if isinstance(value, bytes) and tag & 7 == 2 else None

    def encoded(self) -> bytes:
        if isinstance(self.value, int):
            return varint(self.tag) + varint(self.value)
        content = self.value if self.inner is None else b"".join(each.encoded() for each in self.inner)
        return varint(self.tag) + (varint(len(content)) if self.tag & 7 == 2 else b"") + content

    def all(self) -> list["Field"]:
        return [self, *chain.from_iterable(each.all() for each in self.inner or ())]


def parsed(content: bytes) -> Message | None:
    """The fields of a message, or None when it cannot be one."""
    fields, at = [], 0
    while at < len(content):
        tag, at = _varint(content, at)
        if at < 0 or not tag >> 3:
            return None
        form = tag & 7
        if form == 0:
            value, at = _varint(content, at)
            if at < 0:
                return None
            fields.append(Field(tag, value))
            continue
        if form == 2:
            length, at = _varint(content, at)
        elif form in WIDTHS:
            length = WIDTHS[form]
        else:
            return None
        if at < 0 or at + length > len(content):
            return None
        fields.append(Field(tag, content[at : at + length]))
        at += length
    return fields or None


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 70:
        value |= (content[at] & 0x7F) << shift
        at += 1
        if content[at - 1] < 0x80:
            return value, at
        shift += 7
    return 0, -1


def change_field(content: bytearray, dice: random.Random) -> None:
    """A field anywhere in the model gets another number, form or value, vanishes, or stands twice."""
    message = parsed(bytes(content))
    if not message:
        return
    top = Field(2, b"")
    top.inner = message
    parent = dice.choice([each for each in top.all() if each.inner])
    siblings = parent.inner
    at = dice.randrange(len(siblings))
    chosen = siblings[at]
    match dice.randrange(7):
        case 0:
            del siblings[at]
        case 1:
            other = dice.choice(top.all()[1:])
            siblings.insert(dice.randrange(len(siblings) + 1), Field(other.tag, other.value))
        case 2:
            chosen.tag = dice.randrange(1, 30) << 3 | chosen.tag & 7
        case 3:
            chosen.tag = chosen.tag & ~7 | dice.randrange(8)
        case 4 if isinstance(chosen.value, bytes):
            chosen.inner, chosen.value = None, dice.randbytes(dice.choice((0, 1, 4, 8, 12)))
        case 5 if isinstance(chosen.value, bytes) and chosen.inner is None and chosen.value:
            chosen.value = dice.choice((chosen.value * 2, chosen.value[:-1], b"../" + chosen.value, b"/etc/passwd"))
        case _ if isinstance(chosen.value, int):
            chosen.value = dice.choice((*NUMBERS, chosen.value + 1, max(0, chosen.value - 1), dice.randrange(32)))
    content[:] = b"".join(each.encoded() for each in message)


def change_length(content: bytearray, dice: random.Random) -> None:
    """One of the bytes that look like the tag and the length of a field changes, and nothing is made to fit."""
    places = [at for at in range(1, len(content)) if content[at - 1] & 7 == 2]
    if places:
        content[dice.choice(places)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def read(content: bytes) -> None:
    """Read a damaged model, and every number in it, as if its weights.data had the same bytes."""
    looks_like_onnx(content[:512], len(content))
    file = FolderInMemory(content, PurePosixPath("model.onnx"))
    read_every_element(read_onnx(BytesIO(content), file, len(content)), content)


FUZZ = Fuzz(corpus=lambda: CORPUS, read=read, damages=(change_field, change_field, change_length))
