"""The whole report as one JSON document: jaynes-report/2, see docs/schemas."""

from typing import TYPE_CHECKING

import msgspec

from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_json

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ReportRecord

INDENT = 1  # diffs by line, at little more than the size of the compact form


def render(report: "ReportRecord", _: View) -> str:
    """Write the report, everything in it, whatever the view."""
    document = msgspec.json.format(msgspec.json.encode(report), indent=INDENT)
    return in_json(f"{document.decode()}\n")
