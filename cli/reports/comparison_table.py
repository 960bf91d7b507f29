"""The comparison for people: the verdict, what it rests on, what differs, worst first."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import comparison_sections as told
from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.page import BLANK, Block, Omissions, Span, Tone, sentence
from jaynes_audit.cli.reports.table_report import laid_out, titled
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.record import ComparisonRecord, ComparisonReportRecord


def render(report: "ComparisonReportRecord", view: View) -> str:
    """Write the comparisons in columns."""
    return laid_out(_page(report, view), view)


def _page(report: "ComparisonReportRecord", view: View) -> Iterator[Block]:
    yield from map(sections.failure, report.failures)
    if report.failures and view.detail is not Detail.FINDINGS:
        yield BLANK
    if told.is_summed_up(report, view):
        yield from titled("Every two models", told.matrix(report))
        yield from titled("Pair by pair", told.summaries(report), sentence(Span(told.BRACKETS, Tone.QUIET)))
        for comparison in report.comparisons:
            yield told.headline(comparison)
            if told.are_told(report):
                yield from told.findings(comparison, every=view.every_layer)
        yield BLANK
    else:
        for comparison in report.comparisons:
            yield from _comparison(comparison, view)
    if report.comparisons and view.detail is not Detail.FINDINGS:
        yield sentence(Span(told.LEGEND, Tone.QUIET))
        yield BLANK
    yield Omissions()
    yield sections.last_line(report)


def _comparison(comparison: "ComparisonRecord", view: View) -> Iterator[Block]:
    findings = list(told.findings(comparison, every=view.every_layer))
    yield told.headline(comparison)
    if view.detail is Detail.FINDINGS:
        yield from findings
        return
    yield from told.figures(comparison)
    yield from told.remarks(comparison, everything=view.detail is Detail.EVERYTHING)
    yield BLANK
    if findings:
        yield from titled("Findings", *findings)
    for part in told.parts(comparison, view):
        yield from titled(part.title, *part.blocks)
