"""How a saved report is tried that is to be rendered again: other values in it, read, and written in every format.

For a long run: `python -m tests.support.fuzzing rendering --inputs 1000000 --seed 7`.
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

from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.record import ReportRecord
from jaynes_audit.analyzers.record.reading import VERDICTS, read_report
from jaynes_audit.cli.reports.audits import REPORTS
from jaynes_audit.cli.reports.view import Detail, Show, View
from tests.support import report_fuzz
from tests.support.fuzzing import Fuzz
from tests.support.gates import failing_gate
from tests.support.hostile import HOSTILE
from tests.support.report_fuzz import ALREADY_DAMAGED, change_value, exchange_layers, nest, repeat_layers

LONGEST_SENTENCE = 2000
VIEWS = (
    View(),
    View(detail=Detail.FINDINGS, show=Show.BASELINED, width=40),
    View(detail=Detail.EVERYTHING, every_layer=True, show=Show.ALL, width=100),
    View(detail=Detail.EVERYTHING, colour=True, show=Show.IGNORED),
)
DEEPER = 0.95
INTEGERS = (0, 1, -1, 2, 64, 10**6, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64)
FLOATS = (0.0, -0.0, 1e-320, 0.5, -1.5, 1.0, 99.0, 1e16, 1e154, 1e308, -1e308)
FAMILIES = tuple(map(str, Family))
FORMATS_AT_ONCE = 3  # of one input: the others see another


@cache
def corpus() -> Sequence[bytes]:
    """Reports of the gate and of audits, small and with one of everything."""
    return (*(msgspec.json.encode(failing_gate()) for _ in range(3)), *report_fuzz.corpus())


def change_alike(content: bytearray, dice: random.Random) -> None:
    """A value anywhere becomes another of its kind, so that the report is still one by its form."""
    with suppress(*ALREADY_DAMAGED):
        report = json.loads(content)
        holder, key = report, dice.choice([*report, "models"])
        while isinstance(holder[key], dict | list) and holder[key] and dice.random() < DEEPER:
            holder = holder[key]
            key = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
        holder[key] = _another(holder[key], dice)
        content[:] = json.dumps(report).encode()


def _another(value: object, dice: random.Random) -> object:
    match value:
        case bool():
            return not value
        case int():
            return dice.choice(INTEGERS)
        case float():
            return dice.choice(FLOATS)
        case str():
            return dice.choice((*HOSTILE, *VERDICTS, *FAMILIES))
        case list():
            return dice.choice(([], value[:1], value * 2, value[::-1]))
    return None


def change_findings(content: bytearray, dice: random.Random) -> None:
    """Findings get other words, levels and standings, and are about anything."""
    with suppress(*ALREADY_DAMAGED):
        report = json.loads(content)
        holder = dice.choice([report, *report["models"]])
        found = dice.choice(holder["findings"])
        key = dice.choice(list(found))
        place = {"file": dice.choice(HOSTILE), "line": dice.choice((0, 1, 10**12)), "offset": None, "length": 1}
        found[key] = dice.choice(
            (*HOSTILE, "note", "warning", "ignored", "baselined", place, dice.choice(holder["findings"])[key])
        )
        holder["findings"] += [found] * dice.choice((0, 1, 30))
        content[:] = json.dumps(report).encode()


def take_another_command(content: bytearray, dice: random.Random) -> None:
    """A report of the gate becomes one of an audit, or the other way round."""
    with suppress(*ALREADY_DAMAGED):
        report = json.loads(content)
        report["command"] = dice.choice(("gate", "audit"))
        report["fail_on"] = dice.choice(("never", "note", "warning"))
        content[:] = json.dumps(report).encode()


def _report(content: bytes) -> ReportRecord:
    with TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        path.write_bytes(content)
        try:
            return read_report(path)
        except UsageError as error:
            _check(str(error))
            raise


def _check(sentence: str) -> None:
    assert sentence.isprintable()
    assert 0 < len(sentence) < LONGEST_SENTENCE


def read(content: bytes) -> None:
    """Read a damaged report, and write what can be read in some of the formats."""
    report = _report(content)
    chance = random.Random(zlib.crc32(content))  # noqa: S311 - for variety
    for form in chance.sample(list(REPORTS), FORMATS_AT_ONCE):
        view = chance.choice(VIEWS)
        document = REPORTS[form](report, view)
        document.encode()
        assert view.colour or all(line.isprintable() for line in document.split("\n"))


FUZZ = Fuzz(
    corpus=corpus,
    read=read,
    damages=(
        change_alike,
        change_alike,
        change_alike,
        change_value,
        change_findings,
        take_another_command,
        exchange_layers,
        repeat_layers,
        nest,
    ),
)
