"""How a saved report is tried as one side of a comparison: other values in it, opened, compared, and recorded.

For a long run: `python -m tests.support.fuzzing report --inputs 1000000 --seed 7`.
"""

import json
import random
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from safetensors.numpy import save_file

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.comparison.comparison import Manner, compare
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.operand import Operand, open_operands
from jaynes_audit.analyzers.comparison.record import ComparisonRecord, comparison_record
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.layer_audit import Criterion
from tests.support import audits
from tests.support.fuzzing import Fuzz

HIGHLY_CONNECTED = Criterion(min_fan_in=16, min_weights=64)
BLOCKS = 3  # from three on a role has a trend and a profile
SIDE = 16
DEEPER = 0.92
ALREADY_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)
OTHER_SIDE_IN = 4  # one input in so many is compared with a model of its own kind, and a few with a file of weights
LONGEST_SENTENCE = 4000  # some names of 80 characters, and the words around them

VALUES = (0, 1, -1, 2, 1 << 31, 1 << 53, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 64, 10**400, -(1 << 63))
VALUES = (*VALUES, 0.0, -0.0, 1e-320, 0.5, 1e16, 1e154, 1e308, -1e308, None, True, "", "nan", "mlp.up", "head", "F32")
VALUES = (
    *VALUES,
    "BOOL",
    "lm_head.weight",
    "0" * 32,
    "\ud800",
    "a\nb\x1b[2J",
    "n" * 5000,
    "blk.999999999999.w",
    [],
    {},
)


@cache
def _model(kind: str) -> bytes:
    """The report on a small model: of its own networks, and of another with the same names."""
    dice = np.random.default_rng(len(kind))
    tensors = {"lm_head.weight": dice.normal(0, 0.02, (SIDE, SIDE)), "model.norm.weight": np.ones(SIDE)}
    for block in range(BLOCKS):
        for name in ("self_attn.q_proj", "mlp.up_proj"):
            tensors[f"model.layers.{block}.{name}.weight"] = dice.lognormal(-3, 1.1, (SIDE, SIDE))
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_file({name: weights.astype(np.float32) for name, weights in tensors.items()}, path)
        audit = audit_checkpoint(open_checkpoint(str(path)), criterion=HIGHLY_CONNECTED, jobs=1)
    return msgspec.json.encode(audits.report(audit))


@cache
def corpus() -> Sequence[bytes]:
    """Reports on small networks, and on one of everything."""
    odd = audits.report(audits.audit(audits.layer("layers.0.mlp.up.weight")), audits.odd_audit())
    return (
        _model("tiny"),
        _model("tiny"),
        msgspec.json.encode(audits.report(audits.odd_audit())),
        msgspec.json.encode(odd),
    )


@cache
def _others() -> tuple[Operand, ...]:
    """What the damaged report is compared with: sound reports of the corpus, and weights."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "sound.json")
        operands = []
        for content in (_model("tiny"), _model("another"), corpus()[2]):
            path.write_bytes(content)
            operands += open_operands(str(path))
    weights = Path(__file__).parents[2] / "fixtures" / "quantised" / "deepseek.safetensors"
    return (*operands, *open_operands(str(weights)))


def change_value(content: bytearray, dice: random.Random) -> None:
    """One value of the report becomes another, vanishes, or stands there twice."""
    with suppress(*ALREADY_DAMAGED):
        report = json.loads(content)
        holder, key = report, "models"
        while isinstance(holder[key], dict | list) and holder[key] and dice.random() < DEEPER:
            holder = holder[key]
            key = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
        match dice.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(holder[key])
            case 2 | 3 if isinstance(holder[key], int | float):
                holder[key] = holder[key] * dice.choice((-1, 2, 0.5, 1e3, 1e200, 1 << 40))
            case _:
                holder[key] = dice.choice(VALUES)
        content[:] = json.dumps(report).encode()


def exchange_layers(content: bytearray, dice: random.Random) -> None:
    """A field of one layer takes the value that another layer has: names twice, other roles, other sizes."""
    with suppress(*ALREADY_DAMAGED):
        report = json.loads(content)
        layers = dice.choice(report["models"])["layers"]
        taken, given = dice.choice(layers), dice.choice(layers)
        field = dice.choice(list(given))
        taken[field] = given[field]
        content[:] = json.dumps(report).encode()


def repeat_layers(content: bytearray, dice: random.Random) -> None:
    """The layers stand there several times, under other numbers or the same."""
    with suppress(*ALREADY_DAMAGED):
        report = json.loads(content)
        model = dice.choice(report["models"])
        first, apart = dice.choice((0, BLOCKS, 10**6, 1 << 61)), dice.choice((0, 1, 1 << 40))
        for number in range(dice.choice((1, 2, 5))):
            for layer in list(model["layers"][: 2 * BLOCKS]):
                depth = layer["depth"]
                moved = None if depth is None else first + apart * number + depth
                model["layers"].append(layer | {"name": f"{number}.{layer['name']}", "depth": moved})
        content[:] = json.dumps(report).encode()


def nest(content: bytearray, dice: random.Random) -> None:
    """Lists or objects open and never close."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.choice((b"[", b'{"a":', b'"a":[')) * dice.choice((10, 1000, 100_000))


def _opened(path: Path) -> list[Operand]:
    try:
        return open_operands(str(path))
    except UsageError as error:
        _check(str(error))
        raise


def _check(*sentences: str) -> None:
    for sentence in sentences:
        assert sentence.isprintable()
        assert 0 < len(sentence) < LONGEST_SENTENCE


def read(content: bytes) -> None:
    """Open a damaged report, compare it with a sound one on either side, and record what was found."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        path.write_bytes(content)
        operands = _opened(path)
    chance = zlib.crc32(content)
    others = _others()
    other = others[chance // OTHER_SIDE_IN % len(others)] if chance % OTHER_SIDE_IN == 0 else others[0]
    pair = [operands[-1], other] if chance & 1 << 20 else [other, operands[-1]]
    for comparison in compare(pair, Manner(criterion=HIGHLY_CONNECTED, jobs=1)):
        record = comparison_record(comparison, findings_of(comparison))
        written = msgspec.json.encode(record)
        assert msgspec.json.decode(written, type=ComparisonRecord) == record
        _check(record.verdict.sentence, *record.verdict.figures)


FUZZ = Fuzz(
    corpus=corpus,
    read=read,
    damages=(change_value, change_value, change_value, exchange_layers, exchange_layers, repeat_layers, nest),
)
