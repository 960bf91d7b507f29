"""JUnit XML, for the test pages of Jenkins, GitLab and their like: a checkpoint is a suite, and a tensor a case.

A new finding at the level of `--fail-on` or above is a failure; one below it passes, and is told in `system-out`. What
is baselined or ignored, and what was not to be read, is skipped, with the reason. What should have been read and was
not is an error. A layer without any finding is a case that passes. The document keeps to the Jenkins XSD, junit-10.xsd.

The tree is written by the standard library: junitparser gives the root a `skipped` attribute, which that schema
refuses, and writes other bytes where lxml is installed.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.model_name import model_name
from jaynes_audit.cli.exit_codes import LEVELS
from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.cells import grouped
from jaynes_audit.cli.reports.gate_words import REMEDIES, remedy_of
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import visible

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FailureRecord, FindingRecord, ModelRecord, ReportRecord

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
UNREAD = frozenset({"missing", "refused", "could-not-read"})  # why a tensor is left out that should have been read
NO_WEIGHT = "no weight was read"


class Result(StrEnum):
    """How a case ended: the names of its element, and of the counts of a suite."""

    PASSED = "passed"
    FAILURE = "failure"
    ERROR = "error"
    SKIPPED = "skipped"


WORST_FIRST = (Result.FAILURE, Result.PASSED, Result.SKIPPED)  # of findings
COUNTS = {"failures": Result.FAILURE, "errors": Result.ERROR, "skipped": Result.SKIPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test: what it is about, how it ended, and why. `kind` is the rule, or another short name of the reason."""

    name: str
    result: Result = Result.PASSED
    kind: str = ""
    told: tuple[str, ...] = ()


def render(report: "ReportRecord", _: View) -> str:
    """Write every finding, and every layer without one."""
    failing = () if report.fail_on == "never" else LEVELS[: LEVELS.index(report.fail_on) + 1]
    root = ET.Element("testsuites", name=f"jaynes {report.command}")
    classes = _classes([model.target for model in report.models])
    for model in report.models:
        root.append(_suite(model.target, classes[model.target], _cases(model, failing), _properties(model)))
    if report.findings:
        name = f"jaynes {report.command}"
        root.append(_suite(name, name, _judged(report.findings, failing), {}))
    for failed in report.failures:
        root.append(_suite(failed.target, failed.target, [_failed(failed)], {}))
    for count in ("tests", "failures", "errors"):  # the schema knows no `skipped` here
        root.set(count, str(sum(int(suite.attrib[count]) for suite in root)))
    ET.indent(root)
    return f"{DECLARATION}{ET.tostring(root, encoding='unicode')}\n"


def _classes(targets: "Sequence[str]") -> "Mapping[str, str]":
    """The short name of each model, or its target where two models would have the same."""
    names = {target: model_name(target) for target in targets}
    often = Counter(names.values())
    return {target: name if often[name] == 1 else target for target, name in names.items()}


def _cases(model: "ModelRecord", failing: "Sequence[str]") -> Iterator[Case]:
    yield from _judged(model.findings, failing)
    objected = {found.subject for found in model.findings}
    for each in model.left_out:
        result = Result.ERROR if each.reason in UNREAD else Result.SKIPPED
        yield Case(name=each.name, result=result, kind=each.reason, told=(each.explanation,))
    if not model.layers and not sections.headers_only(model):
        yield Case(name=NO_WEIGHT, result=Result.ERROR, kind="nothing-to-audit", told=(NO_WEIGHT,))
    yield from (Case(name=layer.name) for layer in model.layers if layer.name not in objected)


def _judged(found: "Sequence[FindingRecord]", failing: "Sequence[str]") -> Iterator[Case]:
    """One case to each subject and rule, the worst result of its findings first."""
    for group in grouped(found, lambda each: (each.subject, each.rule)):
        rule, results = group[0].rule, {_result(each, failing) for each in group}
        remedy = remedy_of(rule)
        yield Case(
            name=f"{group[0].subject} [{rule}]",
            result=next(each for each in WORST_FIRST if each in results),
            kind=f"{rule} {group[0].name}",
            told=(
                *(f"{each.level}: {each.sentence}{_standing(each)}" for each in group),
                *([f"{REMEDIES}: {remedy}"] if remedy and results != {Result.SKIPPED} else []),
            ),
        )


def _result(found: "FindingRecord", failing: "Sequence[str]") -> Result:
    if found.status != sections.NEW:
        return Result.SKIPPED
    return Result.FAILURE if found.level in failing else Result.PASSED


def _standing(found: "FindingRecord") -> str:
    standing = sections.standing(found)
    return f" ({standing})" if standing else ""


def _failed(failed: "FailureRecord") -> Case:
    return Case(name=f"{failed.target} [audited]", result=Result.ERROR, kind="no-audit", told=(failed.sentence,))


def _properties(model: "ModelRecord") -> "Mapping[str, str]":
    coverage, baseline = model.coverage, model.baseline
    return {
        "target": model.target,
        "tensors": f"{coverage.tensors} of {coverage.tensors_total}",
        "bytes": f"{coverage.bytes} of {coverage.bytes_total}",
        "complete": str(coverage.complete).lower(),
        **({"commit": model.commit} if model.commit else {}),
        **({"baseline": baseline.place} if baseline else {}),
    }


def _suite(name: str, class_name: str, cases: "Iterable[Case]", properties: "Mapping[str, str]") -> ET.Element:
    cases = list(cases)
    results = Counter(case.result for case in cases)
    suite = ET.Element("testsuite", name=visible(name), tests=str(len(cases)))
    for count, result in COUNTS.items():
        suite.set(count, str(results[result]))
    if properties:
        noted = ET.SubElement(suite, "properties")
        for key, value in properties.items():
            ET.SubElement(noted, "property", name=key, value=visible(value))
    for case_name, case in zip(_unique([visible(case.name) for case in cases]), cases, strict=True):
        suite.append(_case(case, case_name, visible(class_name)))
    return suite


def _unique(names: "Iterable[str]") -> Iterator[str]:
    """Give each name once: GitLab drops all but one of the cases that share one, whatever their results."""
    often: Counter[str] = Counter()
    for name in names:
        often[name] += 1
        yield name if often[name] == 1 else f"{name} ({often[name]})"


def _case(case: Case, name: str, class_name: str) -> ET.Element:
    element = ET.Element("testcase", classname=class_name, name=name)
    told = "\n".join(map(visible, case.told))
    if case.result is not Result.PASSED:
        first = visible(case.told[0])
        ET.SubElement(element, case.result, type=visible(case.kind), message=first).text = told
    elif told:
        ET.SubElement(element, "system-out").text = f"{visible(case.kind)}: {told}"
    return element
