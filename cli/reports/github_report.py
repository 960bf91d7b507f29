"""New findings as GitHub's workflow commands: `::error file=…,line=…,title=…::…`, which become annotations of the job.

GitHub shows ten annotations of a kind for each step, so of more the last one says how many there are.
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports.located import Located, in_repository, is_on_hub, located
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_github, property_in_github

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ReportRecord

MOST_OF_A_KIND = 10
KINDS = {"error": "error", "warning": "warning", "note": "notice"}


def render(report: "ReportRecord", _: View) -> str:
    """Write one command a line; nothing at all where there is nothing to say."""
    every = located(report)
    lines: list[str] = []
    for level, kind in KINDS.items():
        said = [_command(kind, each) for each in every if each.finding.level == level]
        if level == "error":
            unread = (_said(kind, ("title=could not be audited",), each.sentence) for each in report.failures)
            said = [*unread, *said]
        lines += _at_most(said, kind)
    return "".join(f"{line}\n" for line in lines)


def _at_most(commands: Sequence[str], kind: str) -> Iterator[str]:
    if len(commands) <= MOST_OF_A_KIND:
        yield from commands
        return
    shown = MOST_OF_A_KIND - 1
    yield from commands[:shown]
    more = f"{len(commands) - shown:,} more {kind}s; the job's log or its summary has all of them"
    yield _said(kind, ("title=jaynes",), more)


def _command(kind: str, at: Located) -> str:
    finding = at.finding
    title = f"title={property_in_github(f'{finding.rule} {finding.name}')}"
    file = () if is_on_hub(at.place) else (f"file={property_in_github(in_repository(at.place))}", f"line={at.line}")
    return _said(kind, (*file, title), f"{finding.subject}: {finding.sentence}")


def _said(kind: str, properties: Sequence[str], message: str) -> str:
    return f"::{kind} {','.join(properties)}::{in_github(message)}"
