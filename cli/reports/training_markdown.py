"""The training report for a job's summary page: the answers in tables, a fold for each quantity."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import training_sections as told
from jaynes_audit.cli.reports.markdown_page import folded, page, table, words
from jaynes_audit.cli.reports.page import Grid, Sentence
from jaynes_audit.cli.reports.view import Detail, View
from jaynes_audit.cli.visible import in_markdown

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record.training import TrainingAuditRecord, TrainingReportRecord


def render(report: "TrainingReportRecord", view: View) -> str:
    """Write the claims in Markdown."""
    return page(_report(report, view), report.exit_code, report.exit_reason)


def _report(report: "TrainingReportRecord", view: View) -> Iterator[str]:
    yield "## jaynes equilibrium"
    for failed in report.failures:
        yield from ("", f"**error**: {in_markdown(failed.sentence)}")
    for audit in report.checkpoints:
        yield from _checkpoint(audit, view)
    if report.checkpoints and view.detail is not Detail.FINDINGS:
        yield from ("", f"<sub>{in_markdown(told.LEGEND)}</sub>")


def _checkpoint(audit: "TrainingAuditRecord", view: View) -> Iterator[str]:
    yield from ("", words(told.headline(audit)))
    if view.detail is Detail.FINDINGS:
        return
    yield ""
    for line in (*told.training(audit), *told.remarks(audit, everything=view.detail is Detail.EVERYTHING)):
        yield f"- {words(line).strip()}"
    for part in told.parts(audit, view):
        yield from folded(part.title, _lines(part))


def _lines(part: told.Part) -> Iterator[str]:
    for block in part.blocks:
        match block:
            case Grid():
                yield from ("", *table(block), "")
            case Sentence():
                yield f"- {words(block).strip()}"
