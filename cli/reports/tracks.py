"""The reports of runs: TRACKS is the table of them, as REPORTS is of audits."""

from collections.abc import Callable

from jaynes_audit.analyzers.track.record import TrackReportRecord
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports import json_report, track_csv, track_table
from jaynes_audit.cli.reports.view import View

TRACKS: dict[Format, Callable[[TrackReportRecord, View], str]] = {
    Format.TABLE: track_table.render,
    Format.JSON: json_report.render,
    Format.CSV: track_csv.render,
}
