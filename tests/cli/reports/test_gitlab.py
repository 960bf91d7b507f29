"""Code Quality reports as GitLab's documentation asks for them."""

import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from jaynes_audit.analyzers.record import ReportRecord, failure_record
from jaynes_audit.analyzers.record.report import LineRecord
from jaynes_audit.cli.reports.gitlab_report import render
from jaynes_audit.cli.reports.view import View
from tests.support.audits import audit, layer, odd_audit
from tests.support.hostile import HOSTILE
from tests.support.placed_reports import broken, finding, hostile_findings, placed_report, with_findings

# https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format, as a schema
FORMAT = Draft202012Validator(
    {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["description", "check_name", "fingerprint", "severity", "location"],
            "additionalProperties": False,
            "properties": {
                "description": {"type": "string", "minLength": 1},
                "check_name": {"type": "string", "minLength": 1},
                "fingerprint": {"type": "string", "minLength": 1},
                "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
                "location": {
                    "type": "object",
                    "required": ["path", "lines"],
                    "additionalProperties": False,
                    "properties": {
                        "path": {"type": "string", "minLength": 1},
                        "lines": {
                            "type": "object",
                            "required": ["begin"],
                            "additionalProperties": False,
                            "properties": {"begin": {"type": "integer", "minimum": 1}},
                        },
                    },
                },
            },
        },
    }
)


def violations(report: ReportRecord) -> list[dict[str, Any]]:
    text = render(report, View())
    assert not text.startswith("\ufeff")  # GitLab takes no byte order mark
    found: list[dict[str, Any]] = json.loads(text)
    return found


EVERY_KIND = {
    "nothing": lambda: placed_report(audit(layer("a.weight"))),
    "odd": lambda: placed_report(odd_audit(), failures=[failure_record("gone", "'gone' is not there", 4)] * 2),
    "hostile": hostile_findings,
    "no target": lambda: placed_report(failures=[failure_record("", "'' is not there", 4)]),
    "of the run": lambda: with_findings([], of_run=[finding(rule="JN902", subject="jaynes.toml, ignore 1")]),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_report_is_of_the_documented_format(kind: str) -> None:
    found = violations(EVERY_KIND[kind]())
    assert list(FORMAT.iter_errors(found)) == []
    for each in found:
        path = PurePosixPath(each["location"]["path"])
        assert not path.is_absolute()
        assert not {".", ".."} & set(each["location"]["path"].split("/"))


@pytest.mark.parametrize("field", ["description", "check_name", "fingerprint", "severity", "location"])
def test_the_format_refuses_a_mutant(field: str) -> None:
    found = violations(placed_report(odd_audit()))
    del found[0][field]
    assert list(FORMAT.iter_errors(found))


def test_a_finding_says_what_it_is_about_and_where() -> None:
    record = replace(finding(), line=LineRecord(file="b/tiny.jaynes.jsonl", line=3), fingerprint="0123456789abcdef")
    assert violations(with_findings([record])) == [
        {
            "description": "JN101 made-by-hand: a: it is broken",
            "check_name": "JN101 made-by-hand",
            "fingerprint": "0123456789abcdef",
            "severity": "critical",
            "location": {"path": "b/tiny.jaynes.jsonl", "lines": {"begin": 3}},
        }
    ]


@pytest.mark.parametrize(("level", "severity"), [("error", "critical"), ("warning", "major"), ("note", "info")])
def test_every_level_has_a_severity(level: str, severity: str) -> None:
    [found] = violations(with_findings([finding(level=level)]))
    assert found["severity"] == severity


def test_no_two_violations_have_one_fingerprint_for_gitlab_would_drop_the_second() -> None:
    models = [broken("a", "b", target=target) for target in ("one/tiny", "two/tiny")]
    of_two = violations(placed_report(*models))
    assert len({each["fingerprint"] for each in of_two}) == len(of_two) == 4
    hostile = violations(hostile_findings())
    assert len({each["fingerprint"] for each in hostile}) == len(hostile) == 3 * len(HOSTILE)


def test_a_fingerprint_is_the_same_in_every_report() -> None:
    [alone] = violations(placed_report(broken("a")))
    among_others = violations(placed_report(broken("0", "a", "b"), broken("a", target="other")))
    assert alone in among_others


def test_known_findings_are_not_told() -> None:
    assert violations(with_findings([finding("ignored"), finding("baselined")])) == []
    assert render(with_findings([]), View()) == "[]\n"


def test_what_could_not_be_read_blocks_and_is_told_once() -> None:
    failed = failure_record("runs/gone", "'runs/gone' is not there", 4)
    [found] = violations(placed_report(failures=[failed, failed]))
    assert (found["severity"], found["location"]["path"]) == ("blocker", "runs/gone")
    assert found["description"] == "'runs/gone' is not there"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("./export/model.safetensors", "export/model.safetensors"),
        ("/srv/x.bin", "srv/x.bin"),
        ("../x.bin", "x.bin"),
        ("hf://org/name@5b25b9f1784d/model.safetensors", "org/name/model.safetensors"),
        ("größer/a b.bin", "größer/a b.bin"),
        ("a\nb", r"a\nb"),
    ],
)
def test_a_path_is_relative_to_the_repository(path: str, shown: str) -> None:
    [found] = violations(with_findings([replace(finding(), line=LineRecord(file=path, line=1))]))
    assert found["location"]["path"] == shown


def test_no_character_that_does_not_print_is_in_the_report() -> None:
    text = render(hostile_findings(), View())
    assert text.replace("\n", "").isprintable()
    for each in json.loads(text):
        assert each["description"].isprintable()
