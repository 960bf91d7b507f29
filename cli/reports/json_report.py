"""The whole report as one JSON document: jaynes-report/2, jaynes-comparison/1 or jaynes-track/1, see docs/schemas."""

import msgspec

from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_json

INDENT = 1  # diffs by line, at little more than the size of the compact form


def render(report: msgspec.Struct, _: View) -> str:
    """Write the report, everything in it, whatever the view."""
    document = msgspec.json.format(msgspec.json.encode(report), indent=INDENT)
    return in_json(f"{document.decode()}\n")
