"""The training report for people: what is known of the training, then every claim and its answer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports import training_sections as told
from jaynes_audit.cli.reports.page import BLANK, Block, Omissions, Span, Tone, sentence
from jaynes_audit.cli.reports.table_report import laid_out, titled
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record.training import TrainingReportRecord


def render(report: "TrainingReportRecord", view: View) -> str:
    """Write the claims in columns."""
    return laid_out(_page(report, view), view)


def _page(report: "TrainingReportRecord", view: View) -> Iterator[Block]:
    yield from map(sections.failure, report.failures)
    if report.failures and view.detail is not Detail.FINDINGS:
        yield BLANK
    for audit in report.checkpoints:
        yield told.headline(audit)
        if view.detail is Detail.FINDINGS:
            continue
        yield from told.training(audit)
        yield from told.remarks(audit, everything=view.detail is Detail.EVERYTHING)
        yield BLANK
        for part in told.parts(audit, view):
            yield from titled(part.title, *part.blocks)
    if report.checkpoints and view.detail is not Detail.FINDINGS:
        yield sentence(Span(told.LEGEND, Tone.QUIET))
        yield BLANK
    yield Omissions()
    yield sections.last_line(report)
