"""New findings as a SARIF 2.1.0 log, as GitHub's code scanning and other readers of the standard take it.

GitHub refuses a whole file when one result has no file, when a file's URI has a scheme other than `file`, or when there
are more than 25,000 results, of which it shows 5,000.
https://docs.github.com/code-security/reference/code-scanning/sarif-files/sarif-support
"""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType

from jaynes_audit.analyzers.model_name import model_name
from jaynes_audit.analyzers.rules import RULES, Level, Precision, Rule
from jaynes_audit.cli.exit_codes import ExitCode
from jaynes_audit.cli.reports.located import Located, in_repository, is_on_hub, left_out, located, names_a_file
from jaynes_audit.cli.reports.rule_pages import headline, markdown_pages, text_pages
from jaynes_audit.cli.reports.sarif_log import (
    SCHEMA,
    SOURCE_ROOT,
    ArtifactLocation,
    AutomationDetails,
    Configuration,
    Invocation,
    Location,
    Log,
    LogicalLocation,
    Message,
    Notification,
    PhysicalLocation,
    Region,
    ReportingDescriptor,
    Result,
    RuleProperties,
    Run,
    Tool,
    ToolComponent,
)
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_json, in_sarif, visible

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ReportRecord
    from jaynes_audit.analyzers.record.report import BytesRecord

TOOL_NAME = "jaynes"
INDENT = 1
MOST_RESULTS = 5_000  # that GitHub shows
# Characters; more than any honest name or sentence has. GitHub takes no file that is above 10 MB when gzipped.
LONGEST_NAME = 300
LONGEST_MESSAGE = 1_000
IN_URIS = "/-._~!$&'()*+,;=@"  # as they are; a colon in the first part would begin a scheme (RFC 3986, 4.2)

# By CVSS 3.1: AV:L/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H, of a file that runs code when somebody loads it.
SECURITY_SEVERITIES = {"JN020": "7.8"}
PRECISIONS: dict[Precision, Literal["very-high", "high", "medium"]] = {
    Precision.VERY_HIGH: "very-high",
    Precision.HIGH: "high",
    Precision.MEDIUM: "medium",
}
PROBLEM_SEVERITIES: dict[Level, Literal["error", "warning", "recommendation"]] = {
    Level.ERROR: "error",
    Level.WARNING: "warning",
    Level.NOTE: "recommendation",
}

_PLACE_OF_RULE = {rule.code: at for at, rule in enumerate(RULES)}


def render(report: "ReportRecord", _: View) -> str:
    """Write the log: one run for all models, every rule, and the new findings, the most severe first."""
    document = msgspec.json.format(msgspec.json.encode(_log(report)), indent=INDENT)
    return in_json(f"{document.decode()}\n")


def _log(report: "ReportRecord") -> Log:
    found = located(report)
    run = Run(
        tool=Tool(
            driver=ToolComponent(
                name=TOOL_NAME,
                version=visible(report.tool.version),
                information_uri=f"pkg:pypi/{quote(report.tool.name, safe='')}",  # a package URL (ECMA-427)
                rules=_rules(),
            )
        ),
        invocations=[
            Invocation(
                execution_successful=report.exit_code in {ExitCode.PASSED, ExitCode.FOUND} and not report.failures,
                exit_code=report.exit_code,
                exit_code_description=_cut(visible(report.exit_reason), LONGEST_MESSAGE),
                tool_execution_notifications=list(_notifications(report, len(found))) or UNSET,
            )
        ],
        automation_details=AutomationDetails(id=_category(report)),
        column_kind="unicodeCodePoints",
        original_uri_base_ids={SOURCE_ROOT: {"description": Message(text="The folder that jaynes was run in.")}},
        results=[_result(each) for each in found[:MOST_RESULTS]],
    )
    return Log(version="2.1.0", schema=SCHEMA, runs=[run])


def _category(report: "ReportRecord") -> str:
    """What tells the upload from others of the same commit: the model, where there is but one."""
    targets = [*(model.target for model in report.models), *(failure.target for failure in report.failures)]
    names = {model_name(target) for target in targets}
    return f"{TOOL_NAME}/{_cut(visible(names.pop()), LONGEST_NAME)}/" if len(names) == 1 else f"{TOOL_NAME}/"


def _notifications(report: "ReportRecord", new: int) -> Iterator[Notification]:
    for failure in report.failures:
        yield Notification(level="error", message=_message(failure.sentence))
    if new > MOST_RESULTS:
        more = f"{new - MOST_RESULTS:,} more findings are not listed; these are the {MOST_RESULTS:,} most severe."
        yield Notification(level="note", message=Message(text=more))
    known = left_out(report)
    if known:
        told = f"{known:,} findings are not listed: they are ignored, or the baseline has them."
        yield Notification(level="note", message=Message(text=told))


@cache  # the same in every report
def _rules() -> list[ReportingDescriptor]:
    return [_rule(rule) for rule in RULES]


def _rule(rule: Rule) -> ReportingDescriptor:
    return ReportingDescriptor(
        id=rule.code,
        name=rule.name,
        short_description=Message(text=headline(rule)),
        full_description=Message(text=" ".join(rule.what.split())),
        help=Message(text=text_pages([rule]).strip(), markdown=markdown_pages([rule]).strip()),
        default_configuration=Configuration(enabled=rule.is_usual, level=rule.level.value),
        properties=RuleProperties(
            precision=PRECISIONS[rule.precision],
            problem_severity=PROBLEM_SEVERITIES[rule.level],
            security_severity=SECURITY_SEVERITIES.get(rule.code, UNSET),
            tags=["security"] if rule.code in SECURITY_SEVERITIES else UNSET,
        ),
    )


def _result(at: Located) -> Result:
    finding = at.finding
    subject = _cut(visible(finding.subject), LONGEST_NAME)
    name = LogicalLocation(fully_qualified_name=subject, kind="variable")
    primary = Location(
        physical_location=PhysicalLocation(
            artifact_location=_artifact(at.place),
            region=Region(start_line=at.line, start_column=1, end_line=at.line, end_column=2),
        ),
        logical_locations=[name] if at.about_tensor and subject else UNSET,
    )
    return Result(
        rule_id=finding.rule,
        rule_index=_PLACE_OF_RULE.get(finding.rule, UNSET),  # a report may be another version's
        level=finding.level,
        message=_message(f"{subject}: {finding.sentence}"),
        locations=[primary],
        related_locations=[_stored(finding.stored)] if finding.stored and names_a_file(finding.stored.file) else UNSET,
        partial_fingerprints={
            "primaryLocationLineHash": f"{at.fingerprint}:{at.ordinal}",
            "jaynesFingerprint/v1": at.unique,
        },
    )


def _stored(stored: "BytesRecord") -> Location:
    region: Region | UnsetType = UNSET
    if stored.offset is not None and stored.length is not None:
        region = Region(byte_offset=max(0, stored.offset), byte_length=max(0, stored.length))
    return Location(
        id=1,
        physical_location=PhysicalLocation(artifact_location=_artifact(stored.file), region=region),
        message=Message(text="Where it is stored."),
    )


def _artifact(place: str) -> ArtifactLocation:
    path = in_repository(place)
    uri = quote(path, safe=IN_URIS, errors="backslashreplace")
    if path.startswith("/"):
        return ArtifactLocation(uri=f"file://{uri}")
    return ArtifactLocation(uri=uri, uri_base_id=UNSET if is_on_hub(place) else SOURCE_ROOT)


def _message(text: str) -> Message:
    return Message(text=in_sarif(_cut(text, LONGEST_MESSAGE)))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
