"""One figure of one statement a row, and one row for a statement without figures.

What is null in JSON is an empty cell. Cells that a spreadsheet would take for a formula begin with an apostrophe.
"""

import csv
import io
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.record.training import FigureRecord
from jaynes_audit.cli.reports.csv_report import cell, fields
from jaynes_audit.cli.reports.view import View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record.training import TrainingReportRecord

FIGURE_FIELDS = FigureRecord.__struct_fields__
HEADER = ("checkpoint", "quantity", "subject", "answer", "figure", "value", "unit", "because", "missing")


def render(report: "TrainingReportRecord", _: View) -> str:
    """Write every statement of every checkpoint, under one header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for audit in report.checkpoints:
        for each in audit.statements:
            figures: list[FigureRecord | None] = [*each.figures] or [None]
            for figure in figures:
                row = (audit.target, each.quantity, each.subject, each.answer, *fields(figure, FIGURE_FIELDS))
                writer.writerow(map(cell, (*row, each.because, "; ".join(each.missing))))
    return text.getvalue()
