"""New findings as a Code Quality report of GitLab, which a merge request shows beside the lines.

GitLab tells findings apart by their fingerprints and drops all but the first of those that share one.
https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from jaynes_audit.analyzers.record.placing import fingerprint
from jaynes_audit.cli.reports.located import USUAL_CONFIGURATION, Located, in_repository, located
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_json, visible

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FailureRecord, ReportRecord

Severity = Literal["info", "minor", "major", "critical", "blocker"]

INDENT = 1
SEVERITIES: dict[str, Severity] = {"error": "critical", "warning": "major", "note": "info"}
COULD_NOT_AUDIT = "could-not-be-audited"


class Lines(Struct, frozen=True):
    """Where in its file something was found."""

    begin: int


class Location(Struct, frozen=True):
    """The file, relative to the repository."""

    path: str
    lines: Lines


class Violation(Struct, frozen=True, kw_only=True):
    """One entry of the report."""

    description: str
    check_name: str
    fingerprint: str
    severity: Severity
    location: Location


def render(report: "ReportRecord", _: View) -> str:
    """Write the report as a JSON array; an empty one where nothing is new."""
    unread = {each.fingerprint: each for each in map(_unread, report.failures)}  # a target may be named twice
    violations = [*unread.values(), *map(_violation, located(report))]
    document = msgspec.json.format(msgspec.json.encode(violations), indent=INDENT)
    return in_json(f"{document.decode()}\n")


def _violation(at: Located) -> Violation:
    finding = at.finding
    return Violation(
        description=visible(f"{finding.rule} {finding.name}: {finding.subject}: {finding.sentence}"),
        check_name=visible(f"{finding.rule} {finding.name}"),
        fingerprint=at.unique,
        severity=SEVERITIES[finding.level],
        location=Location(path=_relative(at.place), lines=Lines(begin=at.line)),
    )


def _unread(failure: "FailureRecord") -> Violation:
    return Violation(
        description=visible(failure.sentence),
        check_name=COULD_NOT_AUDIT,
        fingerprint=fingerprint(COULD_NOT_AUDIT, "", failure.target),
        severity="blocker",
        location=Location(path=_relative(failure.target), lines=Lines(begin=1)),
    )


def _relative(place: str) -> str:
    return visible(in_repository(place).lstrip("/")) or USUAL_CONFIGURATION
