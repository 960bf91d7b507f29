"""Workflow commands as GitHub's runner reads them: only ours, whatever a checkpoint is called."""

import re
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jaynes_audit.analyzers.record import ReportRecord, failure_record
from jaynes_audit.analyzers.record.report import LineRecord
from jaynes_audit.cli.reports.github_report import MOST_OF_A_KIND, render
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_github, property_in_github
from tests.support.annotations_fuzz import FUZZ
from tests.support.audits import audit, layer, odd_audit
from tests.support.fuzzing import survive
from tests.support.hostile import HOSTILE
from tests.support.placed_reports import broken, finding, hostile_findings, placed_report, with_findings

SMUGGLED = (
    "\n::set-output name=x::y",
    "\r\n::add-mask::a",
    "\u2028::stop-commands::token",
    "::error::twice",
    "a::stop-commands::token",
    ",line=9,title=other",
    "##[set-output name=x]y",
    "##[add-path]/tmp/evil",
    "%0A::warning::late",
    "%250A::warning::later",
    " ::endgroup::",
    "\x1b]8;;https://evil.example\x07",
)


class Command(NamedTuple):
    """A workflow command, as the runner has it after reading."""

    name: str
    properties: dict[str, str]
    message: str


def read(line: str) -> Command:
    """Read a line as the runner does: https://github.com/actions/runner, ActionCommand.TryParseV2."""
    line = line.lstrip()
    assert line.startswith("::"), line
    end = line.index("::", 2)
    name, _, rest = line[2:end].partition(" ")
    properties = {}
    for each in filter(None, rest.split(",")):
        key, equals, value = each.partition("=")
        assert equals, each
        assert key not in properties, each
        properties[key] = unescaped(value, ("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
    return Command(name, properties, unescaped(line[end + 2 :], ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")))


def unescaped(text: str, *tokens: tuple[str, str]) -> str:
    for token, meant in tokens:
        text = text.replace(token, meant)
    return text


def commands(report: ReportRecord) -> list[Command]:
    text = render(report, View())
    assert text == "" or text.endswith("\n")
    return [read(line) for line in text.splitlines()]


def test_a_finding_is_a_command_with_file_line_and_title() -> None:
    record = replace(finding(), line=LineRecord(file="b/tiny.jaynes.jsonl", line=3))
    assert render(with_findings([record]), View()) == (
        "::error file=b/tiny.jaynes.jsonl,line=3,title=JN101 made-by-hand::a: it is broken\n"
    )


def test_every_finding_of_a_report_is_told_as_in_every_other_report() -> None:
    told = commands(placed_report(odd_audit()))
    assert [(each.name, each.properties["title"]) for each in told] == [
        ("error", "JN001 truncated-file"),
        ("error", "JN101 non-finite-weights"),
        ("error", "JN102 all-zero-tensor"),
        ("warning", "JN103 constant-tensor"),
        ("warning", "JN904 incomplete-audit"),
    ]
    assert told[1].message == "layers.0.mlp.up.weight: 1 NaN and 2 infinite among 65,536 weights"


@pytest.mark.parametrize(("level", "kind"), [("error", "error"), ("warning", "warning"), ("note", "notice")])
def test_every_level_has_a_kind_of_annotation(level: str, kind: str) -> None:
    [command] = commands(with_findings([finding(level=level)]))
    assert command.name == kind


def test_where_nothing_is_new_nothing_is_said() -> None:
    assert render(placed_report(audit(layer("a.weight"))), View()) == ""
    assert render(with_findings([finding("ignored"), finding("baselined")]), View()) == ""


def test_what_could_not_be_read_is_an_error() -> None:
    report = placed_report(failures=[failure_record("gone", "'gone' is not there; correct it", 4)])
    assert commands(report) == [Command("error", {"title": "could not be audited"}, "'gone' is not there; correct it")]


def test_a_finding_about_the_run_is_told() -> None:
    [command] = commands(with_findings([], of_run=[finding(rule="JN902", subject="jaynes.toml, ignore 1")]))
    assert command.properties["file"] == "jaynes.toml"


def test_a_file_on_the_hub_is_no_file_of_the_repository() -> None:
    [command] = commands(placed_report(broken("a", target="o/n", file="hf://o/n@5b25b9f1784d/model.safetensors")))
    assert set(command.properties) == {"title"}


@pytest.mark.parametrize(("findings", "shown"), [(9, 9), (10, 10), (11, 10), (1_000, 10)])
def test_there_are_no_more_of_a_kind_than_github_shows(findings: int, shown: int) -> None:
    every = [finding(level=level, subject=f"{level}{at}") for at in range(findings) for level in ("note", "error")]
    failures = [failure_record("gone", "'gone' is not there", 4)]
    told = commands(replace(with_findings(every), failures=failures))
    errors, notes = findings + 1, findings
    assert MOST_OF_A_KIND == 10
    assert Counter(each.name for each in told) == {"error": min(errors, 10), "notice": shown}
    assert told[0].message == "'gone' is not there"
    for kind, number in (("error", errors), ("notice", notes)):
        last = [each for each in told if each.name == kind][-1]
        told_more = last.message.startswith(f"{number - 9:,} more {kind}s; ")
        assert told_more is (number > 10)


@pytest.mark.parametrize("name", [*SMUGGLED, *HOSTILE])
def test_no_name_smuggles_a_command_or_a_property(name: str) -> None:
    record = replace(finding(subject=name, rule=name), sentence=name, line=LineRecord(file=f"x{name}", line=3))
    [command] = commands(replace(with_findings([record])))
    assert set(command.properties) == {"file", "line", "title"}
    assert command.properties["line"] == "3"
    assert "\n" not in command.message
    assert "\r" not in command.message


def test_a_hostile_report_is_commands_and_nothing_else() -> None:
    text = render(hostile_findings(), View())
    assert text.replace("\n", "").isprintable()
    lines = text.split("\n")
    assert len(lines) - 1 == MOST_OF_A_KIND
    assert all(re.match("::error (?:file=[^:,]+,line=1,)?title=[^:,]+::", line) for line in lines[:-1])


@given(st.text(alphabet=st.one_of(st.sampled_from("%:,02AD53C\n\r "), st.characters(exclude_categories=["Cs"]))))
def test_an_escaped_text_is_read_back(text: str) -> None:
    line = f"::error title={property_in_github(text)}::{in_github(text)}"
    command = read(line)
    if text.isprintable():
        assert command == Command("error", {"title": text}, text)
    else:
        assert command.message == command.properties["title"]
        assert command.message.isprintable()


def test_no_saved_report_makes_a_format_for_code_hosts_break_its_form() -> None:
    ends, faults = survive(FUZZ, inputs=200, seed=8)
    assert not faults, faults[0].trace
    assert ends["accepted"] == 200
