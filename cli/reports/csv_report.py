"""One layer a row: the layer's record flattened, between `model`, the target it belongs to, and `findings` about it.

Those are told as in `JN102 error ignored; JN108 warning new`. The fields of `fit` stand in the row themselves. What is
null in JSON is an empty cell. Cells that a spreadsheet would take for a formula begin with an apostrophe.
"""

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from jaynes_audit.analyzers.distributions.candidates import CANDIDATES
from jaynes_audit.analyzers.record.fits import EquilibriumRecord, FitRecord, HistogramFitRecord
from jaynes_audit.analyzers.record.layers import AnatomyRecord, CodesRecord, LayerRecord, VerdictRecord
from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_csv

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ReportRecord

# What a layer's record has of its own; the records in it follow, each field under the name of its record.
NESTED = ("fit", "verdict", "candidates", "anatomy", "histogram", "codes")
LAYER_FIELDS = tuple(field for field in LayerRecord.__struct_fields__ if field not in NESTED)
FIT_FIELDS = tuple(field for field in FitRecord.__struct_fields__ if field != "equilibrium")
FAMILIES = tuple(candidate.family.value for candidate in CANDIDATES)

HEADER = (
    "model",
    *LAYER_FIELDS,
    *(f"verdict_{field}" for field in VerdictRecord.__struct_fields__),
    *FIT_FIELDS,
    *EquilibriumRecord.__struct_fields__,
    *(f"nats_{family.replace(' ', '_')}" for family in FAMILIES),
    *AnatomyRecord.__struct_fields__,
    *(f"histogram_{field}" for field in HistogramFitRecord.__struct_fields__),
    *(f"codes_{field}" for field in CodesRecord.__struct_fields__),
    "findings",
)


def render(report: "ReportRecord", _: View) -> str:
    """Write every layer of every model, under one header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for model in report.models:
        target, objections = in_csv(model.target), sections.by_subject(model)
        for layer in model.layers:
            found = "; ".join(f"{each.rule} {each.level} {each.status}" for each in objections[layer.name])
            writer.writerow([target, *map(cell, _values(layer)), in_csv(found)])
    return text.getvalue()


def _values(layer: LayerRecord) -> Iterator[object]:
    yield from fields(layer, LAYER_FIELDS)
    yield from fields(layer.verdict, VerdictRecord.__struct_fields__)
    yield from fields(layer.fit, FIT_FIELDS)
    yield from fields(layer.fit.equilibrium if layer.fit else None, EquilibriumRecord.__struct_fields__)
    nats = {candidate.family: candidate.nats for candidate in layer.candidates}
    yield from map(nats.get, FAMILIES)
    yield from fields(layer.anatomy, AnatomyRecord.__struct_fields__)
    yield from fields(layer.histogram, HistogramFitRecord.__struct_fields__)
    yield from fields(layer.codes, CodesRecord.__struct_fields__)


def fields(record: Struct | None, names: tuple[str, ...]) -> Iterator[object]:
    """Give the named fields of a record; of none, nothing for each."""
    yield from (getattr(record, name) if record else None for name in names)


def cell(value: object) -> object:
    """Give a value as the csv writer may have it."""
    if isinstance(value, str):
        return in_csv(value)
    return str(value).lower() if isinstance(value, bool) else value  # csv writes numbers in full and null as nothing
