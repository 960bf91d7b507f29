"""One layer a row: the layer's record flattened, and before it `model`, the target it belongs to.

The fields of `fit` stand in the row themselves. What is null in JSON is an empty cell. Cells that a spreadsheet would
take for a formula begin with an apostrophe.
"""

import csv
import io
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.record import FitRecord, LayerRecord
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_csv

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ReportRecord

LAYER_FIELDS = tuple(field for field in LayerRecord.__struct_fields__ if field != "fit")
FIT_FIELDS = FitRecord.__struct_fields__
HEADER = ("model", *LAYER_FIELDS, *FIT_FIELDS)


def render(report: "ReportRecord", _: View) -> str:
    """Write every layer of every model, under one header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for model in report.models:
        writer.writerows([in_csv(model.target), *_cells(layer)] for layer in model.layers)
    return text.getvalue()


def _cells(layer: LayerRecord) -> list[object]:
    of_layer = [_cell(getattr(layer, field)) for field in LAYER_FIELDS]
    of_fit = [_cell(getattr(layer.fit, field)) for field in FIT_FIELDS] if layer.fit else [None] * len(FIT_FIELDS)
    return of_layer + of_fit


def _cell(value: object) -> object:
    if isinstance(value, str):
        return in_csv(value)
    return str(value).lower() if isinstance(value, bool) else value  # csv writes numbers in full and null as nothing
