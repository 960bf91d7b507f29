"""A snippet for jaynes.toml that ignores each new finding. Its reasons are empty, so it cannot be pasted unread."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaynes_audit.cli.exit_codes import counted
from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_toml, visible

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ReportRecord

_PATTERN = re.compile(r"[*?[]")
HOW_TO = (
    "# For jaynes.toml. Give each a reason, since an empty one is refused, and perhaps a last day: until = 2027-12-31"
)


def render(report: "ReportRecord", _: View) -> str:
    """Write an `[[ignore]]` for each rule and subject that a new finding of a model is about.

    What is said of the run itself, such as an ignore that expired, cannot be ignored.
    """
    found = {(each.rule, each.subject): each for model in report.models for each in sections.news(model.findings)}
    lines = [f"# {counted(len(found), 'new finding')}", *([HOW_TO] if found else [])]
    for each in found.values():
        lines += _ignore(each)
    lines += ["", f"# Exit status {report.exit_code}: {visible(report.exit_reason)}"]
    return "".join(f"{line}\n" for line in lines)


def _ignore(found: "FindingRecord") -> Iterator[str]:
    yield ""
    yield f"# {found.level}: {visible(found.name)}, {visible(found.sentence)}"
    yield "[[ignore]]"
    yield f"rule = {in_toml(found.rule)}"
    yield f"tensor = {in_toml(_exactly(found.subject))}"
    yield 'reason = ""'


def _exactly(name: str) -> str:
    """The shell pattern that matches this name alone."""
    return _PATTERN.sub(r"[\g<0>]", name)
