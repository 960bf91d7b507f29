"""One matched layer a line: the layer's record as in the JSON report, and before it the two models it belongs to."""

from typing import TYPE_CHECKING

import msgspec

from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_json

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.record import ComparisonReportRecord


def render(report: "ComparisonReportRecord", _: View) -> str:
    """Write every matched layer of every pair."""
    encode = msgspec.json.Encoder().encode
    lines = []
    for each in report.comparisons:
        start = b'{"model_a":' + encode(each.a.target) + b',"model_b":' + encode(each.b.target) + b","
        lines += [start + encode(layer)[1:] + b"\n" for layer in each.layers]
    return in_json(b"".join(lines).decode())
