"""One layer a line: its record as in the JSON report, between `model`, the target it is of, and `findings` about it.

All lines have the same fields, so any reader of JSON lines makes one table of them. There is no header line. What is
found of a file or of the whole is in the JSON report alone.
"""

from typing import TYPE_CHECKING

import msgspec

from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_json

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ReportRecord


def render(report: "ReportRecord", _: View) -> str:
    """Write every layer of every model."""
    encode = msgspec.json.Encoder().encode
    lines = []
    for model in report.models:
        start = b'{"model":' + encode(model.target) + b","
        objections = sections.by_subject(model)
        lines += [
            start + encode(layer)[1:-1] + b',"findings":' + encode(list(map(_short, objections[layer.name]))) + b"}\n"
            for layer in model.layers
        ]
    return in_json(b"".join(lines).decode())


def _short(found: "FindingRecord") -> dict[str, str]:
    return {"rule": found.rule, "level": found.level, "status": found.status}
