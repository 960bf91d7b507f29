"""The reports of `jaynes equilibrium`: TRAININGS is the table of them, as REPORTS is of audits."""

from collections.abc import Callable

from jaynes_audit.analyzers.record.training import TrainingReportRecord
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports import json_report, training_csv, training_markdown, training_table
from jaynes_audit.cli.reports.view import View

TRAININGS: dict[Format, Callable[[TrainingReportRecord, View], str]] = {
    Format.TABLE: training_table.render,
    Format.JSON: json_report.render,
    Format.CSV: training_csv.render,
    Format.MARKDOWN: training_markdown.render,
}
