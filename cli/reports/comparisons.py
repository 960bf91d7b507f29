"""The reports of comparisons: COMPARISONS is the table of them, as REPORTS is of audits."""

from collections.abc import Callable

from jaynes_audit.analyzers.comparison.record import ComparisonReportRecord
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports import (
    comparison_csv,
    comparison_jsonl,
    comparison_markdown,
    comparison_table,
    json_report,
)
from jaynes_audit.cli.reports.view import View

COMPARISONS: dict[Format, Callable[[ComparisonReportRecord, View], str]] = {
    Format.TABLE: comparison_table.render,
    Format.JSON: json_report.render,
    Format.JSONL: comparison_jsonl.render,
    Format.CSV: comparison_csv.render,
    Format.MARKDOWN: comparison_markdown.render,
}
