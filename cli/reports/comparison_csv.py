"""One matched layer a row: both sides' names, how they are related, and every figure of it.

What is null in JSON is an empty cell. Cells that a spreadsheet would take for a formula begin with an apostrophe.
"""

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from jaynes_audit.analyzers.comparison.record import (
    CastRecord,
    ComparedLayerRecord,
    DifferenceRecord,
    DistancesRecord,
    QuantisationRecord,
    RankRecord,
    RearrangementRecord,
    ShiftRecord,
    SubjectRecord,
    ZerosRecord,
)
from jaynes_audit.cli.reports.csv_report import cell, fields
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_csv

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.record import ComparisonReportRecord, ExactRecord

SIDE_FIELDS = SubjectRecord.__struct_fields__
SHIFT_FIELDS = tuple(field for field in ShiftRecord.__struct_fields__ if field != "no_error")
PARAMETERS = ("mu", "sigma", "skewness")
OF_EXACT: dict[str, tuple[str, ...]] = {
    name: tuple(field for field in record.__struct_fields__ if field != "unknown" and field not in {"ranks", "energy"})
    for name, record in (
        ("cast", CastRecord),
        ("rearrangement", RearrangementRecord),
        ("quantisation", QuantisationRecord),
        ("difference", DifferenceRecord),
        ("rank", RankRecord),
    )
}

HEADER = (
    "model_a",
    "model_b",
    *(f"{side}_{field}" for side in ("a", "b") for field in SIDE_FIELDS),
    "matched_by",
    "relation",
    "not_exact",
    "could_not_read",
    *(f"{name}_{field}" for name, names in OF_EXACT.items() for field in names),
    *(f"{name}_{field}" for name in PARAMETERS for field in SHIFT_FIELDS),
    *DistancesRecord.__struct_fields__,
    *(f"zeros_{field}" for field in ZerosRecord.__struct_fields__),
)


def render(report: "ComparisonReportRecord", _: View) -> str:
    """Write every matched layer of every pair, under one header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for each in report.comparisons:
        models = [in_csv(each.a.target), in_csv(each.b.target)]
        writer.writerows([*models, *map(cell, _values(layer))] for layer in each.layers)
    return text.getvalue()


def _values(layer: ComparedLayerRecord) -> Iterator[object]:
    yield from fields(layer.a, SIDE_FIELDS)
    yield from fields(layer.b, SIDE_FIELDS)
    yield layer.matched_by
    yield from _of_exact(layer, layer.exact)
    for name in PARAMETERS:
        yield from fields(getattr(layer.parameters, name) if layer.parameters else None, SHIFT_FIELDS)
    yield from fields(layer.distances, DistancesRecord.__struct_fields__)
    yield from fields(layer.zeros, ZerosRecord.__struct_fields__)


def _of_exact(layer: ComparedLayerRecord, exact: "ExactRecord | None") -> Iterator[object]:
    yield from (exact.relation if exact else None, layer.not_exact, layer.could_not_read)
    for name, names in OF_EXACT.items():
        found: Struct | None = getattr(exact, name) if exact else None
        yield from fields(found, names)
