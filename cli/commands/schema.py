"""`jaynes schema`: the JSON Schema of what the auditor writes."""

from enum import StrEnum
from typing import Annotated

import typer


class SchemaName(StrEnum):
    """What there is a schema of."""

    REPORT = "report"
    COMPARISON = "comparison"
    TRACK = "track"
    EQUILIBRIUM = "equilibrium"
    BASELINE = "baseline"


def schema(name: Annotated[SchemaName, typer.Argument(help="What to print the schema of.", show_default=False)]) -> int:
    """Print a JSON Schema (2020-12)."""
    import json  # noqa: PLC0415 - as the next ones

    from jaynes_audit.analyzers.baseline.text import baseline_schema  # noqa: PLC0415
    from jaynes_audit.analyzers.comparison.record import comparison_schema  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.analyzers.record import report_schema  # noqa: PLC0415
    from jaynes_audit.analyzers.record.training import equilibrium_schema  # noqa: PLC0415
    from jaynes_audit.analyzers.track.record import track_schema  # noqa: PLC0415
    from jaynes_audit.cli.exit_codes import ExitCode  # noqa: PLC0415
    from jaynes_audit.cli.outputs import Format, Output  # noqa: PLC0415

    schemas = {
        SchemaName.REPORT: report_schema,
        SchemaName.COMPARISON: comparison_schema,
        SchemaName.TRACK: track_schema,
        SchemaName.EQUILIBRIUM: equilibrium_schema,
        SchemaName.BASELINE: baseline_schema,
    }
    Output(format=Format.JSON, path=None).write(f"{json.dumps(schemas[name](), indent=2)}\n")
    return ExitCode.PASSED
