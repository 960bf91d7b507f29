"""A snippet for jaynes.toml that ignores each new finding. Its reasons are empty, so it cannot be pasted unread."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaynes_audit.cli.configuration.file import LONGEST_PATTERN
from jaynes_audit.cli.exit_codes import counted
from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_toml, visible

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ReportRecord

_PATTERN = re.compile(r"[*?[]")
ABBREVIATED = "# The name is longer than a pattern may be, so this covers all names that begin like it"
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
    pattern = _exactly(found.subject)
    if len(pattern) > LONGEST_PATTERN:
        pattern = f"{_beginning(found.subject)}*"
        yield ABBREVIATED
    yield "[[ignore]]"
    yield f"rule = {in_toml(found.rule)}"
    yield f"tensor = {in_toml(pattern)}"
    yield 'reason = ""'


def _beginning(name: str) -> str:
    """The pattern of as much of a name as leaves room for what stands for the rest."""
    pattern = _exactly(name[:LONGEST_PATTERN])
    while len(pattern) >= LONGEST_PATTERN:
        name = name[: min(len(name), LONGEST_PATTERN) - 1]
        pattern = _exactly(name)
    return pattern


def _exactly(name: str) -> str:
    """The shell pattern that matches this name alone, and is not blank."""
    if name.isspace():
        return f"[{name[0]}]{name[1:]}"
    return _PATTERN.sub(r"[\g<0>]", name)
