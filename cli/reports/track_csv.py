"""One layer of one checkpoint a row, between the checkpoint and how it moved since the one before.

What is null in JSON is an empty cell. Cells that a spreadsheet would take for a formula begin with an apostrophe.
"""

import csv
import io
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.track.point import LayerPoint
from jaynes_audit.analyzers.track.record import MoveRecord
from jaynes_audit.cli.reports.csv_report import cell, fields
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_csv

if TYPE_CHECKING:
    from jaynes_audit.analyzers.track.record import TrackReportRecord

LAYER_FIELDS = LayerPoint.__struct_fields__
MOVE_FIELDS = tuple(field for field in MoveRecord.__struct_fields__ if field not in {"name", "role"})

HEADER = ("checkpoint", "number", "loss", *LAYER_FIELDS, "unchanged", *(f"move_{field}" for field in MOVE_FIELDS))


def render(report: "TrackReportRecord", _: View) -> str:
    """Write every layer of every checkpoint, under one header. What moved is told where it arrived."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    arrived = {each.after: each for each in report.run.transitions}
    for each in report.run.checkpoints:
        before = arrived.get(each.number)
        moves = {move.name: move for move in before.moves} if before else {}
        unchanged = set(before.unchanged) if before else set()
        first = [in_csv(each.target), each.number, each.loss]
        for layer in each.point.layers:
            row = [
                *fields(layer, LAYER_FIELDS),
                layer.name in unchanged if before else None,
                *fields(moves.get(layer.name), MOVE_FIELDS),
            ]
            writer.writerow([*first, *map(cell, row)])
    return text.getvalue()
