"""The snippet of ignores, read back by the parser of TOML and held against the findings that it is for."""

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.record import ReportRecord, failure_record
from jaynes_audit.analyzers.rules import RULES, Finding, Status
from jaynes_audit.analyzers.rules.policy import Ignore
from jaynes_audit.cli.configuration.file import LONGEST_PATTERN, configuration_of
from jaynes_audit.cli.reports import ignores_report
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_toml
from tests.support.gates import failing_gate, finding, gate, held, model


def render(record: ReportRecord) -> str:
    return ignores_report.render(record, View())


def ignores(record: ReportRecord) -> list[dict[str, str]]:
    found: list[dict[str, str]] = tomllib.loads(render(record)).get("ignore", [])
    return found


def about(subject: str) -> Finding:
    return replace(RULES[0].finding(subject, "a sentence"), rule="JN101")


def test_a_snippet_can_be_pasted_once_its_reasons_are_written() -> None:
    assert (
        render(failing_gate())
        == """\
# 2 new findings
# For jaynes.toml. Give each a reason, since an empty one is refused, and perhaps a last day: until = 2027-12-31

# error: non-finite-weights, 1 NaN and 0 infinite among 65,536 weights
[[ignore]]
rule = "JN101"
tensor = "layers.0.mlp.up.weight"
reason = ""

# warning: constant-tensor, all 65,536 weights have the magnitude 0.5
[[ignore]]
rule = "JN103"
tensor = "layers.1.mlp.up.weight"
reason = ""

# Exit status 1: 1 finding at level error
"""
    )


def test_what_is_baselined_or_ignored_is_not_ignored_again() -> None:
    standing = [finding("JN101", "a", "NaN", Status.BASELINED), finding("JN103", "a", "known", Status.IGNORED, "why")]
    assert ignores(gate(held(model("a"), *standing))) == []


def test_one_ignore_is_enough_for_two_findings_or_two_models() -> None:
    twice = held(model("a"), finding("JN101", "a", "one"), finding("JN101", "a", "two"))
    assert len(ignores(gate(twice, twice))) == 1


def test_what_is_said_of_the_run_cannot_be_ignored() -> None:
    assert ignores(gate(held(model("a")), of_the_run=[finding("JN902", "jaynes.toml, ignore 1", "it expired")])) == []


def test_it_is_not_silent_about_what_could_not_be_read() -> None:
    text = render(gate(failures=[failure_record("gone", "'gone' does not exist", 4)]))
    assert text == "# 0 new findings\n\n# Exit status 4: 1 target could not be read\n"


@pytest.mark.parametrize(
    "name", ["h[q]", "*", "a?c", "[!a]", "[]]", "[", "]", "a[b", "**", r"a\*", 'a"b', "a'b", "a\nb"]
)
def test_an_ignore_covers_its_finding_and_no_other(name: str) -> None:
    (entry,) = ignores(gate(held(model("a"), finding("JN101", name, "NaN"))))
    ignore = Ignore(rule=entry["rule"], tensor=entry["tensor"], reason="tested")
    assert ignore.covers(about(name))
    assert not any(
        ignore.covers(about(other)) for other in ("hq", "abc", "q", "", f"{name}x", f"x{name}") if other != name
    )


@given(name=st.text(st.characters(exclude_categories=["Cs"])), other=st.text(st.characters(exclude_categories=["Cs"])))
def test_an_ignore_of_any_name_covers_this_name_alone(name: str, other: str) -> None:
    (entry,) = ignores(gate(held(model("a"), finding("JN101", name, name))))
    ignore = Ignore(rule=entry["rule"], tensor=entry["tensor"], reason="tested")
    assert ignore.covers(about(name))
    assert ignore.covers(about(other)) == (other == name)


@pytest.mark.parametrize(
    ("name", "is_exact"),
    [
        *((" ", True), ("\t\n", True), ("a" * LONGEST_PATTERN, True), ("a" * (LONGEST_PATTERN + 1), False)),
        *(("*" * (LONGEST_PATTERN // 3), True), ("[" * LONGEST_PATTERN, False), ("a." * 10**5, False)),
    ],
)
def test_a_configuration_accepts_what_is_written_for_any_name(name: str, *, is_exact: bool) -> None:
    text = render(gate(held(model("a"), finding("JN101", name, "NaN"))))
    told = configuration_of(tomllib.loads(text.replace('reason = ""', 'reason = "tested"')), str)
    ignore = Ignore(rule="JN101", tensor=told.ignore[0].tensor, reason="tested")
    assert ignore.covers(about(name))
    assert ignore.covers(about(f"{name}x")) is not is_exact
    assert ("longer than a pattern" in text) is not is_exact


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_toml_keeps_every_text_and_shows_no_character_that_does_not_print(text: str) -> None:
    written = in_toml(text)
    assert written.isprintable()
    assert tomllib.loads(f"text = {written}") == {"text": text}
