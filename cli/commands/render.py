"""`jaynes render`: a saved report in other formats, without reading a weight again."""

from pathlib import Path
from typing import Annotated

import typer

from jaynes_audit.analyzers.errors import CouldNotRead, UsageError
from jaynes_audit.cli import options
from jaynes_audit.cli.options import ColorChoice
from jaynes_audit.cli.reports.view import Show


def render(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT.json", help="A report that -o json has written.", show_default=False)
    ],
    *,
    output: options.ReportOutputs = ["table"],  # noqa: B006 - typer shows it, and nobody changes it
    show: options.ShowOption = Show.NEW,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    width: options.Width = None,
) -> int:
    """Show a saved report of `audit` or `gate`, or write it in other formats. No weight is read.

    Exit status: that of the run which wrote the report, or 2 when the file is no report.
    """
    from jaynes_audit.analyzers.checkpoints.quoted import quoted_path  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.reading import is_absent  # noqa: PLC0415
    from jaynes_audit.analyzers.record.reading import read_report  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.cli import delivery  # noqa: PLC0415
    from jaynes_audit.cli.exit_codes import FailOn, outcome_of  # noqa: PLC0415
    from jaynes_audit.cli.reports.audits import REPORTS  # noqa: PLC0415

    plan = delivery.plan(
        output, REPORTS, color, quiet=quiet, verbose=verbose, every_layer=every_layer, width=width, show=show
    )
    if is_absent(report):
        raise CouldNotRead(f"{quoted_path(report)} does not exist; name a report, which `-o json=PATH` writes")
    saved = read_report(report)
    follows = outcome_of(saved.models, saved.failures, saved.findings, FailOn(saved.fail_on)).code
    if saved.exit_code != follows:
        raise UsageError(
            f"{quoted_path(report)} has exit status {saved.exit_code}, and {follows} follows from its findings: it was "
            "changed; make it again"
        )
    delivery.deliver(saved, plan, REPORTS)
    return saved.exit_code
