"""Files made by damaging the sound and the hostile ones, and the comparison of our parser with safetensors on each.

For a long run: `python -m tests.support.safetensors_fuzz --rounds 200000 --seed 7`. The same seed damages the same
files in the same way.
"""

import argparse
import io
import json
import random
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.safetensors_header import read_safetensors
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.dtypes import BITS, NOT_SAFETENSORS, Dtype
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.safetensors_files import HOSTILE, SOUND, entry, safetensors
from tests.support.safetensors_oracle import ReferenceTensor, reference_tensors

LARGEST_SEED = 20_000  # bytes; the nesting bomb would fill the corpus with brackets
CORPUS: tuple[bytes, ...] = tuple(
    content for content in (*SOUND.values(), *(each.content for each in HOSTILE)) if len(content) < LARGEST_SEED
)

STRICTER_CASES = frozenset(each.case for each in HOSTILE if each.stricter)
"""The only reasons for which we may refuse what safetensors accepts."""

TOKENS: tuple[bytes, ...] = tuple(
    b"0|-0|1|2|8|00|-1|1e0|1.0|18446744073709551615|18446744073709551616|9223372036854775808|true|null|NaN|[]|{}"
    b'|""|"a"|"b"|"F32"|"F4"|"F6_E2M3"|"BF16"|"C64"|"f32"|"dtype"|"shape"|"data_offsets"|"__metadata__"|"strides"'
    b"|[0,8]|[8,16]|[0,0]|[2]|[0]|,|:|{|}|[|]| |\n|\0|\\u0061|\\ud800|\xff|\xef\xbb\xbf"
    b'|"z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},|"__metadata__":{"x":"y"},|"a":["F32",[2],[0,8]],'.split(
        b"|"
    )
)
VALUE = re.compile(rb'"[^"]*"|[0-9]+|\[[0-9, ]*\]|[\[\]{},:]')
NUMBER = re.compile(rb"[0-9]+")


class Verdict(StrEnum):
    """How our parser and safetensors stand to each other on one file."""

    BOTH_ACCEPT = "both accept"
    BOTH_REFUSE = "both refuse"
    STRICTER = "we alone refuse, for a listed reason"
    TOO_STRICT = "we alone refuse, for no listed reason"
    LAXER = "safetensors alone refuses"
    DIFFERENT = "both accept, with different tensors"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one file, and the case with which we refused it, if we did."""

    verdict: Verdict
    case: str


def read(content: bytes) -> WeightFile:
    """What our parser says of a file that lies in memory."""
    return read_safetensors(io.BytesIO(content), Path("fuzzed"), len(content))


def judge(content: bytes) -> Judgement:
    """Compare our parser with safetensors on one file. Any error but a refusal passes through: it is a bug of ours."""
    reference = reference_tensors(content)
    try:
        ours = read(content)
    except RefusedFile as refusal:
        if not isinstance(reference, dict):
            return Judgement(Verdict.BOTH_REFUSE, refusal.case)
        listed = refusal.case in STRICTER_CASES
        return Judgement(Verdict.STRICTER if listed else Verdict.TOO_STRICT, refusal.case)
    if not isinstance(reference, dict):
        return Judgement(Verdict.LAXER, "")
    same = reference == {
        tensor.name: ReferenceTensor(str(tensor.dtype), tensor.shape, content[tensor.start : tensor.end])
        for tensor in ours.tensors
    }
    return Judgement(Verdict.BOTH_ACCEPT if same else Verdict.DIFFERENT, "")


# ---- damage


def flip_byte(content: bytearray, dice: random.Random) -> None:
    """One byte becomes any other."""
    content[dice.randrange(len(content))] = dice.randrange(256)


def flip_bit(content: bytearray, dice: random.Random) -> None:
    """One bit changes."""
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def insert_token(content: bytearray, dice: random.Random) -> None:
    """A piece of JSON appears somewhere."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.choice(TOKENS)


def replace_digit(content: bytearray, dice: random.Random) -> None:
    """A digit becomes another, so that a size or an offset changes."""
    places = [at for at, byte in enumerate(content) if at >= 8 and 0x30 <= byte <= 0x39]
    if places:
        content[dice.choice(places)] = dice.choice(b"0123456789")


def replace_value(content: bytearray, dice: random.Random) -> None:
    """What stands between two marks of punctuation becomes another piece of JSON."""
    values = list(VALUE.finditer(content, 9))
    if values:
        start, end = dice.choice(values).span()
        content[start:end] = dice.choice(TOKENS)


def replace_number(content: bytearray, dice: random.Random) -> None:
    """A number becomes one near it."""
    numbers = list(NUMBER.finditer(content, 9))
    if numbers:
        chosen = dice.choice(numbers)
        near = int(chosen[0][:20]) + dice.choice((-8, -4, -1, 1, 4, 8, 1 << 64))
        content[chosen.start() : chosen.end()] = str(near).encode()


def delete(content: bytearray, dice: random.Random) -> None:
    """A few bytes vanish."""
    at = dice.randrange(len(content))
    del content[at : at + dice.choice((1, 1, 1, 2, 8, 40))]


def repeat(content: bytearray, dice: random.Random) -> None:
    """A piece is copied to another place."""
    start = dice.randrange(len(content))
    piece = content[start : start + dice.choice((1, 8, 30, 60))]
    at = dice.randrange(len(content) + 1)
    content[at:at] = piece


def splice(content: bytearray, dice: random.Random) -> None:
    """The rest is that of another file."""
    other = dice.choice(CORPUS)
    content[dice.randrange(len(content)) :] = other[dice.randrange(len(other) + 1) :]


def cut(content: bytearray, dice: random.Random) -> None:
    """The end is missing."""
    del content[dice.randrange(len(content)) :]


def append(content: bytearray, dice: random.Random) -> None:
    """Something follows the end."""
    content += dice.choice((b"\0", bytes(8), b" ", b"PK\5\6", dice.choice(TOKENS)))


def change_length(content: bytearray, dice: random.Random) -> None:
    """The header length becomes another."""
    length = int.from_bytes(content[:8], "little")
    content[:8] = struct.pack(
        "<Q", dice.choice((0, 1, 2, length + 1, max(length, 1) - 1, 1 << 63, 100_000_001)) % 2**64
    )


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_byte,
    flip_bit,
    insert_token,
    insert_token,
    replace_digit,
    replace_number,
    replace_number,
    replace_value,
    replace_value,
    replace_value,
    delete,
    repeat,
    splice,
    cut,
    append,
    change_length,
)


def made(dice: random.Random) -> bytes:
    """A sound file of up to four tensors of any dtype and shape, whose header names them in any order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}} if dice.random() < 0.2 else {}
    entries: list[tuple[str, object]] = []
    end = 0
    for name in dice.sample(("a", "b", "weight", "\u00fc", "a.b.c", ""), dice.randrange(5)):
        dtype = dice.choice(sorted(frozenset(Dtype) - NOT_SAFETENSORS))
        shape = [dice.choice((0, 1, 1, 2, 3, 8)) for _ in range(dice.randrange(4))]
        if (BITS[dtype] * prod(shape)) % 8:
            shape.append(8)
        start, end = end, end + BITS[dtype] * prod(shape) // 8
        entries.append((name, entry(dtype, shape, [start, end])))
    header.update(dice.sample(entries, len(entries)))
    raw = json.dumps(header, ensure_ascii=dice.random() < 0.5).encode() + b" " * dice.randrange(3)
    return safetensors(raw, dice.randbytes(end))


def damaged(dice: random.Random) -> bytes:
    """A new file or one of the corpus, with at most three damages, and mostly a header length that fits afterwards.

    Without that, nearly every damage to the header would be refused for the length and never reach the JSON.
    """
    content = bytearray(made(dice) if dice.random() < 0.4 else dice.choice(CORPUS))
    begins_json = content[8:9] == b"{"
    data_length = max(0, len(content) - 8 - int.from_bytes(content[:8], "little"))
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3))):
        if content:
            dice.choice(DAMAGES)(content, dice)
    if begins_json and dice.random() < 0.85 and len(content) - data_length >= 8:
        content[:8] = struct.pack("<Q", len(content) - data_length - 8)
    return bytes(content)


def damaged_files(*, seed: int, rounds: int) -> Iterator[bytes]:
    """`rounds` damaged files, the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311  # for variety, not for secrecy
    return (damaged(dice) for _ in range(rounds))


def main() -> None:
    """Judge many damaged files, and print how often each verdict fell and each file that shows a fault of ours."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=200_000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    verdicts: Counter[Verdict] = Counter()
    cases: Counter[str] = Counter()
    for content in damaged_files(seed=chosen.seed, rounds=chosen.rounds):
        judgement = judge(content)
        verdicts[judgement.verdict] += 1
        cases[judgement.case] += 1
        if judgement.verdict in {Verdict.TOO_STRICT, Verdict.LAXER, Verdict.DIFFERENT}:
            print(judgement, content)  # noqa: T201
    for verdict in Verdict:
        print(f"{verdicts[verdict]:9,} {verdict}")  # noqa: T201
    for case, count in cases.most_common():
        print(f"{count:9,} {case or 'accepted'}")  # noqa: T201


if __name__ == "__main__":
    main()
