"""One layer a line: the layer's record as in the JSON report, and before it `model`, the target it belongs to.

All lines have the same fields, so any reader of JSON lines makes one table of them. There is no header line.
"""

from typing import TYPE_CHECKING

import msgspec

from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_json

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ReportRecord


def render(report: "ReportRecord", _: View) -> str:
    """Write every layer of every model."""
    encode = msgspec.json.Encoder().encode
    lines = []
    for model in report.models:
        start = b'{"model":' + encode(model.target) + b","
        lines += [start + encode(layer)[1:] + b"\n" for layer in model.layers]
    return in_json(b"".join(lines).decode())
