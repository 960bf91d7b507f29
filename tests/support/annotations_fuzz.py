"""How the formats for code hosts are tried: a saved report with other values in it, as `jaynes render` reads one.

For a long run: `python -m tests.support.fuzzing annotations --inputs 1000000 --seed 7`.
"""

import json
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import msgspec

from jaynes_audit.analyzers.record import ReportRecord, failure_record
from jaynes_audit.analyzers.record.report import BytesRecord, LineRecord
from jaynes_audit.cli.reports import github_report, gitlab_report, sarif_report
from jaynes_audit.cli.reports.view import View
from tests.support.fuzzing import Fuzz
from tests.support.hostile import HOSTILE
from tests.support.placed_reports import broken, finding, placed_report, with_findings

ALREADY_DAMAGED = (ValueError, TypeError, LookupError, AttributeError)
TEXTS = (
    *HOSTILE[:-1],
    ".",
    "..",
    "/",
    "//",
    "hf://",
    "hf://@",
    "hf://a@b",
    "hf://a/b@c/d",
    "::error::x",
    "%0A",
    "a:b",
    "\0",
)
NUMBERS = (0, 1, -1, 1 << 31, 1 << 63, -(1 << 63), 10**30)
VALUES = (*TEXTS, *NUMBERS, None, "new", "ignored", "baselined", "error", "note", "JN020", [], {})


@cache
def corpus() -> Sequence[bytes]:
    """Reports with findings in every kind of place."""
    at_line = msgspec.structs.replace(
        finding(),
        line=LineRecord(file="b.jaynes.jsonl", line=3),
        stored=BytesRecord(file="tiny/model.safetensors", offset=8, length=64),
    )
    made = with_findings([at_line, finding("ignored"), finding(level="note", rule="JN020")], of_run=[finding()])
    several = placed_report(broken("a"), broken("b", target="hf://o/n"), failures=[failure_record("c", "gone", 4)])
    return tuple(msgspec.json.encode(_without_layers(report)) for report in (made, several))


def _without_layers(report: ReportRecord) -> ReportRecord:
    models = [msgspec.structs.replace(each, layers=[], roles=[], holdings=[]) for each in report.models]
    return msgspec.structs.replace(report, models=models, rulers=[])


def change_value(content: bytearray, dice: random.Random) -> None:
    """A value that these formats write becomes another, or vanishes."""
    with suppress(*ALREADY_DAMAGED):
        report = json.loads(content)
        models = [dice.choice(report["models"])]
        findings = [each for model in models for each in model["findings"]]
        inner = [each[field] for each in findings for field in ("line", "stored") if each.get(field)]
        holder = dice.choice(
            [report, report["tool"], *models, *findings, *findings, *inner, *inner, *report["failures"]]
        )
        key = dice.choice([key for key, value in holder.items() if isinstance(value, str | int | None)])
        if dice.random() < 0.1:
            del holder[key]
        else:
            value = holder[key]
            kin = TEXTS if isinstance(value, str) and dice.random() < 0.8 else VALUES
            holder[key] = f"{value}{dice.choice(TEXTS)}" if kin is TEXTS and dice.random() < 0.3 else dice.choice(kin)
        content[:] = json.dumps(report).encode()


def read(content: bytes) -> None:
    """Write a damaged report in each format, and see that each is still of its form."""
    try:
        report = msgspec.json.decode(content, type=ReportRecord)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    commands, violations, log = (each.render(report, View()) for each in (github_report, gitlab_report, sarif_report))
    for text in (commands, violations, log):
        assert text.replace("\n", "").isprintable()
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in commands.splitlines())
    assert all("::" not in line[2:].partition("::")[0] for line in commands.splitlines())
    found = json.loads(violations)
    assert len({each["fingerprint"] for each in found}) == len(found)
    assert all(each["location"]["path"] and each["location"]["lines"]["begin"] > 0 for each in found)
    for result in json.loads(log)["runs"][0]["results"]:
        _check(result)


def _check(result: dict[str, object]) -> None:
    for location in (*result["locations"], *result.get("relatedLocations", ())):
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.isascii()
        assert uri.startswith("file:///") or (":" not in uri and not uri.startswith(("/", ".")) and uri)
    assert all(number > 0 for number in result["locations"][0]["physicalLocation"]["region"].values())
    assert all(result["partialFingerprints"].values())


FUZZ = Fuzz(corpus=corpus, read=read, damages=(change_value, change_value, change_value))
