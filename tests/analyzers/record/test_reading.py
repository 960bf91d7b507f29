"""Saved reports: what is read, what is refused and in which words, and that no damaged one brings a format down."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jaynes_audit.analyzers.errors import CouldNotRead, UsageError
from jaynes_audit.analyzers.record import ReportRecord
from jaynes_audit.analyzers.record.reading import read_report
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.audits import REPORTS
from jaynes_audit.cli.reports.view import View
from tests.support import audits
from tests.support.fuzzing import survive
from tests.support.gates import failing_gate, hostile_gate
from tests.support.rendering_fuzz import FUZZ, corpus

Document = dict[str, Any]


def network() -> ReportRecord:
    """Enough layers for every part of the claim to be tried."""
    return audits.report(audits.audit(*(audits.layer(f"{at}.weight", fitted=audits.fit(-at)) for at in range(10))))


def saved(folder: Path, report: ReportRecord) -> Path:
    path = folder / "report.json"
    path.write_text(REPORTS[Format.JSON](report, View()))
    return path


def refusal(folder: Path, content: bytes) -> str:
    path = folder / "report.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_report(path)
    return str(refused.value)


def changed(change: Callable[[Document], None]) -> bytes:
    document = json.loads(msgspec.json.encode(network()))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize("report", [failing_gate(), hostile_gate(), audits.report(audits.odd_audit()), audits.report()])
def test_a_saved_report_comes_back_as_it_was(tmp_path: Path, report: ReportRecord) -> None:
    assert read_report(saved(tmp_path, report)) == report


@pytest.mark.parametrize("form", REPORTS)
def test_a_saved_report_is_rendered_as_the_run_itself_was(tmp_path: Path, form: Format) -> None:
    report = failing_gate()
    assert REPORTS[form](read_report(saved(tmp_path, report)), View()) == REPORTS[form](report, View())


def test_a_field_that_is_new_since_the_report_was_written_has_its_usual_value(tmp_path: Path) -> None:
    def older(document: Document) -> None:
        for field in ("command", "fail_on", "findings"):
            del document[field]

    path = tmp_path / "report.json"
    path.write_bytes(changed(older))
    assert (read_report(path).command, read_report(path).fail_on) == ("audit", "error")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "Input data was truncated"),
        (b"weights", "JSON is malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "it names no format"),
        (b'{"format": "jaynes-report/1"}', "it is of 'jaynes-report/1'"),
        (b'{"format": "jaynes-comparison/1"}', "it is of 'jaynes-comparison/1'"),
        (b'{"format": "\\u001b[2J' + b"x" * 5000 + b'"}', r"it is of '\x1b[2J"),
        (b'{"format": "jaynes-report/2"}', "missing required field"),
        (b'{"format": 2}', "Expected `str`"),
        (b"[" * 1_000_000, "Expected `object`"),
        (b'{"models": ' + b"[" * 1_000_000, "recursion"),
        (b'{"format": "\xff\xfe"}', "can't decode"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line_that_says_why(tmp_path: Path, content: bytes, told: str) -> None:
    sentence = refusal(tmp_path, content)
    assert "report.json' is no report of the format jaynes-report/2: " in sentence
    assert told in sentence
    assert sentence.isprintable()
    assert len(sentence) < 1000


IMPOSSIBLE: dict[str, tuple[Callable[[Document], object], str]] = {
    "status": (lambda report: report.update(exit_code=256), "256 is no exit status"),
    "ruler": (lambda report: report["rulers"].pop(), "its ruler has other laws"),
    "score": (lambda report: report["rulers"][3].update(skewness=1e300), "its ruler has numbers beyond 100"),
    "untried": (lambda report: report["models"][0]["claim"].update(trials=[]), "was not tried"),
    "verdict": (lambda report: report["models"][0]["claim"].update(verdict="\x1b[2J"), "there is no verdict"),
    "bare": (lambda report: report["models"][0]["claim"]["trials"][0].update(clauses=[]), "without conditions"),
    "cut": (lambda report: report["models"][0]["claim"]["trials"][1]["clauses"].pop(), "not all conditions"),
    "square": (lambda report: report["models"][0]["claim"]["collapse"].update(residual=-1.0), "mean square"),
    "level": (lambda report: report["models"][0].update(findings=[{"level": "fatal"}]), "Invalid enum value"),
    "negative": (lambda report: report["models"][0]["layers"][0].update(zero=-1), "whole numbers below 0"),
    "large": (lambda report: report["models"][0]["coverage"].update(bytes=1 << 63), "whole numbers below 0 or above"),
    "more": (lambda report: report["models"][0]["layers"][0].update(zero=65_537), "more weights of one kind"),
    "none": (lambda report: report["models"][0]["layers"][0].update(weights=0), "more weights of one kind"),
    "of a role": (lambda report: report["models"][0]["roles"][0].update(not_finite=10**9), "more weights of one kind"),
    "bytes": (
        lambda report: report["models"][0].update(
            holdings=[{"role": "mlp.up", "dtype": "BF16", "matrices": 1, "weights": 1, "bytes": 10**12}]
        ),
        "more bytes than the whole",
    ),
    "role": (lambda report: report["models"][0]["layers"][0].update(role="mlp.sideways"), "there is no role"),
}


@pytest.mark.parametrize(("change", "told"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_no_audit_gives_is_refused(tmp_path: Path, change: Callable[[Document], None], told: str) -> None:
    assert told in refusal(tmp_path, changed(change))


def test_the_report_that_those_are_changed_from_is_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(changed(lambda _: None))
    assert read_report(path) == network()


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRead, match="does not exist"):
        read_report(tmp_path / "report.json")


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.json")
    for path in (tmp_path, tmp_path / "report.json"):
        with pytest.raises(UsageError, match="no regular file; name a report that `-o json` wrote"):
            read_report(path)


def test_a_report_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaynes_audit.analyzers.record.reading.MOST_REPORT_BYTES", 100)
    with pytest.raises(CouldNotRead, match="a report has at most 100"):
        read_report(saved(tmp_path, failing_gate()))


def test_the_sound_reports_of_the_fuzzer_are_rendered() -> None:
    for content in corpus():
        FUZZ.read(content)


def test_no_damaged_report_brings_a_format_down() -> None:
    ends, faults = survive(FUZZ, inputs=250, seed=6)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 30
