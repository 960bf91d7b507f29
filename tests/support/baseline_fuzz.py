"""How the reader of baselines is tried: other values, lines and bytes, read, verified, held against a sound one.

For a long run: `python -m tests.support.fuzzing baseline --inputs 1000000 --seed 7`.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from jaynes_audit.analyzers.baseline.entry import FileDigest, Known
from jaynes_audit.analyzers.baseline.text import from_text, to_text, verify
from jaynes_audit.analyzers.baseline.update import Acceptance, changes, updated
from jaynes_audit.analyzers.errors import UsageError
from tests.support.baselines import TRAINED, USUAL, measured, network, told
from tests.support.fuzzing import Fuzz

ALREADY_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)
LONGEST_SENTENCE = 2000  # two names of 80 characters, and the words around them
BLOCKS = 2

VALUES = (0, 1, -1, 2, 64, 65, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64, 10**400, -(1 << 63))
VALUES = (*VALUES, 0.0, -0.0, 1e-320, 0.5, 1e154, 1.7e308, -1.7e308, 1.79e308, None, True, "", "nan", "mlp.up", "F32")
VALUES = (*VALUES, "JN101", "Q4_0", "F8_E4M3", "0" * 32, "\ud800", "a\nb\x1b[2J", "n" * 5000, "٣" * 300, [], {}, [0, 0])


@cache
def corpus() -> Sequence[bytes]:
    """A sound baseline of a small network, and one with findings."""
    with TemporaryDirectory() as folder:
        baseline = measured(Path(folder), network(blocks=BLOCKS))
    # The corpus is small: findings are put in by hand.
    known = (Known(rule="JN102", subject="model.layers.0.mlp.up_proj.weight"), Known(rule="JN107", subject="model"))
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
    other = type(baseline)(
        model="other",
        revision="0" * 40,
        statistics="1",
        entries=baseline.entries[:4],
        known=known,
        reason="it is",
        files=tuple(FileDigest(name=name, sha256=f"{number:064x}") for number, name in enumerate(names)),
    )
    return to_text(baseline).encode(), to_text(other).encode()


def _lines(content: bytearray) -> list[bytes]:
    return bytes(content).split(b"\n")


def _sealed(lines: list[bytes]) -> bytes:
    """The lines with the digest that they ought to have, so that it is not what they are refused for."""
    with suppress(*ALREADY_DAMAGED):
        header = json.loads(lines[0])
        header["digest"] = "0" * 64
        lines[0] = json.dumps(header, separators=(",", ":")).encode()
        header["digest"] = hashlib.sha256(b"\n".join(lines)).hexdigest()
        lines[0] = json.dumps(header, separators=(",", ":")).encode()
    return b"\n".join(lines)


def change_value(content: bytearray, dice: random.Random) -> None:
    """A value of a line becomes another, vanishes, or is multiplied."""
    with suppress(*ALREADY_DAMAGED):
        lines = _lines(content)
        at = dice.randrange(len(lines) - 1)
        line = json.loads(lines[at])
        key = dice.choice(list(line))
        holder = line
        if isinstance(line[key], list) and dice.random() < 0.7:
            holder, key = line[key], dice.randrange(len(line[key]))
        elif isinstance(line[key], dict):
            holder, key = line[key], dice.choice((*line[key], "", "../a", "\ud800", "é\x1b"))
        match dice.randrange(6):
            case 0:
                del holder[key]
            case 1 | 2 if isinstance(holder[key], int | float):
                holder[key] = type(holder[key])(holder[key] * dice.choice((-1, 0, 2, 3, 1e-3, 1e6)))
            case _:
                holder[key] = dice.choice(VALUES)
        lines[at] = json.dumps(line, separators=(",", ":"), ensure_ascii=dice.random() < 0.5).encode(errors="replace")
        content[:] = _sealed(lines)


def exchange_values(content: bytearray, dice: random.Random) -> None:
    """A line takes a field of another one: names twice, other sizes, other laws."""
    with suppress(*ALREADY_DAMAGED):
        lines = _lines(content)
        taker, giver = (dice.randrange(1, len(lines) - 1) for _ in range(2))
        taken, given = json.loads(lines[taker]), json.loads(lines[giver])
        key = dice.choice(list(given))
        taken[key] = given[key]
        lines[taker] = json.dumps(taken, separators=(",", ":")).encode()
        content[:] = _sealed(lines)


def move_lines(content: bytearray, dice: random.Random) -> None:
    """Lines vanish, stand there twice, change places, or are those of a merge."""
    lines = _lines(content)
    at, to = (dice.randrange(len(lines)) for _ in range(2))
    match dice.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case 3:
            lines.insert(at, dice.choice((b"<<<<<<< HEAD", b">>>>>>> other", b"=======", b"", b"null", b"{}")))
        case _:
            lines[at] += dice.choice((b"\r", b" ", b"{}", b"\0", b"\xff"))
    content[:] = _sealed(lines) if dice.random() < 0.7 else b"\n".join(lines)


def nest(content: bytearray, dice: random.Random) -> None:
    """Lists or objects open and never close."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.choice((b"[", b'{"a":', b'"a":[')) * dice.choice((10, 1000, 100_000))


def _check(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        assert sentence.isprintable(), sentence
        assert 0 < len(sentence) < LONGEST_SENTENCE


def read(content: bytes) -> None:
    """Read a damaged baseline, verify it, hold a sound model against it, and bring it up to date."""
    problems = verify(content, "damaged.jaynes.jsonl")
    _check(problems)
    try:
        stored = from_text(content, "damaged.jaynes.jsonl")
    except UsageError as error:
        assert problems
        _check([str(error)])
        raise
    assert not problems
    baseline = stored.baseline
    assert from_text(to_text(baseline).encode(), "again").baseline == baseline
    sound = from_text(corpus()[0], "sound").baseline
    for policy in (USUAL, TRAINED):
        for before, now in ((baseline, sound), (sound, baseline)):
            found = told(before, now, policy)
            _check([each.sentence for each in found])
            update = updated(before, now, found, Acceptance(everything=True))
            assert not changes(update.baseline, now)
            assert now.files or update.baseline.files == before.files


FUZZ = Fuzz(
    corpus=corpus,
    read=read,
    damages=(
        change_value,
        change_value,
        change_value,
        change_value,
        exchange_values,
        exchange_values,
        move_lines,
        nest,
    ),
)
