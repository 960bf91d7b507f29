"""Pure functions from a report's record to text, one module per format. REPORTS is the table of them."""

from collections.abc import Callable

from jaynes_audit.analyzers.record import ReportRecord
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports import csv_report, json_report, jsonl_report, markdown_report, table_report
from jaynes_audit.cli.reports.view import View

REPORTS: dict[Format, Callable[[ReportRecord, View], str]] = {
    Format.TABLE: table_report.render,
    Format.JSON: json_report.render,
    Format.JSONL: jsonl_report.render,
    Format.CSV: csv_report.render,
    Format.MARKDOWN: markdown_report.render,
}
