"""The reports of audits and gates: REPORTS is the table of them, one module per format."""

from collections.abc import Callable

from jaynes_audit.analyzers.record import ReportRecord
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports import (
    csv_report,
    github_report,
    gitlab_report,
    ignores_report,
    json_report,
    jsonl_report,
    junit_report,
    markdown_report,
    sarif_report,
    table_report,
)
from jaynes_audit.cli.reports.view import View

REPORTS: dict[Format, Callable[[ReportRecord, View], str]] = {
    Format.TABLE: table_report.render,
    Format.JSON: json_report.render,
    Format.JSONL: jsonl_report.render,
    Format.CSV: csv_report.render,
    Format.SARIF: sarif_report.render,
    Format.JUNIT: junit_report.render,
    Format.MARKDOWN: markdown_report.render,
    Format.GITHUB: github_report.render,
    Format.GITLAB: gitlab_report.render,
    Format.IGNORES: ignores_report.render,
}
