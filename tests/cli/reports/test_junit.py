"""JUnit XML by the schema that Jenkins holds it to, and read back by another library.

`schemas/junit-10.xsd` (MIT) is that of the Jenkins xUnit plugin, as pytest 9.2.0 carries it among its own tests.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
import xmlschema
from junitparser import JUnitXml
from syrupy.assertion import SnapshotAssertion

from jaynes_audit.analyzers.audit import LeftOutReason
from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord, failure_record
from jaynes_audit.analyzers.rules import Status
from jaynes_audit.cli.exit_codes import FailOn
from jaynes_audit.cli.reports import junit_report
from jaynes_audit.cli.reports.view import View
from tests.support.audits import audit, layer, left_out, odd_audit, report
from tests.support.gates import failing_gate, finding, gate, held, hostile_gate, model
from tests.support.golden import Text

SCHEMA = xmlschema.XMLSchema10(Path(__file__).parent / "schemas" / "junit-10.xsd")


def render(record: ReportRecord) -> str:
    return junit_report.render(record, View())


def parsed(document: str) -> ET.Element:
    return ET.fromstring(document)  # noqa: S314 - our own


def cases(record: ReportRecord) -> dict[str, list[str]]:
    """What another library makes of the report: the results of each case, by its name."""
    suites = list(JUnitXml.fromstring(render(record).encode()))
    return {case.name: [type(each).__name__ for each in case.result] for suite in suites for case in suite}


def judged(*findings: FindingRecord, fail_on: FailOn = FailOn.ERROR) -> dict[str, list[str]]:
    return cases(gate(held(model("a", "b"), *findings), fail_on=fail_on))


def unread(reason: LeftOutReason) -> ModelRecord:
    return report(audit(layer("a"), left_out=[left_out("b", reason, "so it is")])).models[0]


def test_a_report_of_the_gate(snapshot: SnapshotAssertion) -> None:
    assert render(failing_gate()) == snapshot(extension_class=Text)


# ---- the schema


REPORTS: dict[str, Callable[[], ReportRecord]] = {
    "gate": failing_gate,
    "audit": lambda: report(odd_audit()),
    "hostile": hostile_gate,
    "failures": lambda: gate(failures=[failure_record("gone", "'gone' does not exist; correct the path", 4)]),
    "nothing": gate,
}


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS)
def test_the_schema_of_jenkins_accepts_the_report(made: Callable[[], ReportRecord]) -> None:
    SCHEMA.validate(render(made()))


def without(element: ET.Element, attribute: str) -> None:
    del element.attrib[attribute]


MUTANTS: dict[str, Callable[[ET.Element], None]] = {
    "skipped on the root": lambda root: root.set("skipped", "1"),
    "a suite without its number of errors": lambda root: without(root[0], "errors"),
    "a case without a name": lambda root: without(next(root.iter("testcase")), "name"),
    "properties in a case": lambda root: next(root.iter("testcase")).append(ET.Element("properties")),
    "an unknown result": lambda root: next(root.iter("testcase")).append(ET.Element("warning")),
    "a case on the root": lambda root: root.append(ET.Element("testcase", name="a")),
    "a property without a value": lambda root: without(next(root.iter("property")), "value"),
    "text between the cases": lambda root: setattr(root[0], "text", "text"),
}


@pytest.mark.parametrize("mutate", MUTANTS.values(), ids=MUTANTS)
def test_the_schema_of_jenkins_refuses_a_report_that_is_not_quite_one(mutate: Callable[[ET.Element], None]) -> None:
    root = parsed(render(failing_gate()))
    mutate(root)
    assert not SCHEMA.is_valid(ET.tostring(root, encoding="unicode"))


# ---- what another library reads


def test_a_case_to_every_finding_and_to_every_clean_layer() -> None:
    assert cases(failing_gate()) == {
        "layers.0.mlp.up.weight [JN101]": ["Failure"],
        "layers.0.mlp.down.weight [JN102]": ["Skipped"],
        "layers.1.mlp.up.weight [JN103]": [],
        "embed.weight [JN103]": ["Skipped"],
        "a.weight": [],
        "jaynes.toml, ignore 2 [JN901]": [],
    }


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS)
def test_the_numbers_of_a_suite_are_those_of_its_cases(made: Callable[[], ReportRecord]) -> None:
    written, counted = (JUnitXml.fromstring(render(made()).encode()) for _ in range(2))
    counted.update_statistics()  # counts the cases again, in every suite and in all
    assert (written.tests, written.failures, written.errors) == (counted.tests, counted.failures, counted.errors)
    for as_written, as_counted in zip(written, counted, strict=True):
        assert as_written.skipped == as_counted.skipped
        assert (as_written.tests, as_written.failures) == (as_counted.tests, as_counted.failures)


@pytest.mark.parametrize(
    ("fail_on", "failing"),
    [
        (FailOn.NEVER, set()),
        (FailOn.ERROR, {"a [JN101]"}),
        (FailOn.WARNING, {"a [JN101]", "a [JN103]"}),
        (FailOn.NOTE, {"a [JN101]", "a [JN103]", "b [JN021]"}),
    ],
)
def test_a_finding_is_a_failure_where_it_fails_the_run(fail_on: FailOn, failing: set[str]) -> None:
    found = [finding("JN101", "a", "NaN"), finding("JN103", "a", "constant")]
    found.append(finding("JN021", "b", "a pickle"))
    results = judged(*found, fail_on=fail_on)
    assert {name for name, result in results.items() if result == ["Failure"]} == failing
    assert all(result in (["Failure"], []) for result in results.values())


def test_a_finding_below_the_failing_level_is_told_by_a_case_that_passes() -> None:
    text = render(gate(held(model("a"), finding("JN103", "a", "all alike"))))
    (case,) = parsed(text).iter("testcase")
    assert [each.tag for each in case] == ["system-out"]
    assert "warning: all alike" in (case[0].text or "")


def test_an_ignored_finding_is_skipped_for_its_reason() -> None:
    text = render(gate(held(model("a"), finding("JN103", "a", "all alike", Status.IGNORED, "frozen, see #7"))))
    (skipped,) = parsed(text).iter("skipped")
    assert skipped.attrib["message"] == "warning: all alike (ignored: frozen, see #7)"


def test_findings_of_one_rule_about_one_subject_are_one_case_with_the_worst_result() -> None:
    found = finding("JN101", "a", "the first"), finding("JN101", "a", "the second", Status.IGNORED, "known")
    assert judged(*found) == {"a [JN101]": ["Failure"], "b": []}
    text = render(gate(held(model("a"), *found)))
    assert "the first" in text
    assert "the second (ignored: known)" in text


@pytest.mark.parametrize("reason", [LeftOutReason.MISSING, LeftOutReason.REFUSED, LeftOutReason.COULD_NOT_READ])
def test_a_tensor_that_should_have_been_read_is_an_error(reason: LeftOutReason) -> None:
    assert cases(gate(unread(reason)))["b"] == ["Error"]


@pytest.mark.parametrize("reason", [LeftOutReason.NOT_WEIGHTS, LeftOutReason.NOT_REQUESTED, LeftOutReason.NOT_DECODED])
def test_a_tensor_that_is_not_judged_is_skipped_and_does_not_pass(reason: LeftOutReason) -> None:
    assert cases(gate(unread(reason)))["b"] == ["Skipped"]


def test_a_target_without_an_audit_is_an_error() -> None:
    assert cases(gate(failures=[failure_record("gone", "'gone' does not exist", 4)])) == {"gone [audited]": ["Error"]}


def test_a_model_of_which_nothing_was_read_does_not_pass() -> None:
    empty = report(audit(left_out=[left_out("ids")])).models[0]
    assert cases(gate(empty)) == {"ids": ["Skipped"], "no weight was read": ["Error"]}


def test_no_two_cases_share_a_name() -> None:
    names = ["a\n", r"a\n", "a\n"]
    read = [each.attrib["name"] for each in parsed(render(gate(model(*names)))).iter("testcase")]
    assert read == [r"a\n", r"a\n (2)", r"a\n (3)"]


def test_the_class_is_the_short_name_of_the_model_where_that_tells_it_apart() -> None:
    def classes(*targets: str) -> list[str]:
        text = render(gate(*(model("a", target=target) for target in targets)))
        return [each.attrib["classname"] for each in parsed(text).iter("testcase")]

    assert classes("export/tiny.safetensors", "export/small") == ["tiny", "small"]
    assert classes("one/tiny", "other/tiny") == ["one/tiny", "other/tiny"]
