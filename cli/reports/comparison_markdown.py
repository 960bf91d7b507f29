"""The comparison for a pull request or a job's summary page: the verdict and the findings, the details folded."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import comparison_sections as told
from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.markdown_page import finding_rows, folded, page, table, words
from jaynes_audit.cli.reports.page import Grid, Sentence
from jaynes_audit.cli.reports.view import Detail, View
from jaynes_audit.cli.visible import in_markdown

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.record import ComparisonRecord, ComparisonReportRecord


def render(report: "ComparisonReportRecord", view: View) -> str:
    """Write the comparisons in Markdown."""
    return page(_report(report, view), report.exit_code, report.exit_reason)


def _report(report: "ComparisonReportRecord", view: View) -> Iterator[str]:
    yield "## jaynes compare"
    for failed in report.failures:
        yield from ("", f"**error**: {in_markdown(failed.sentence)}")
    if told.is_summed_up(report, view):
        yield from ("", *table(told.matrix(report)), "", *table(told.summaries(report)), "", told.BRACKETS)
        for comparison in report.comparisons:
            yield from ("", _headline(comparison))
            if told.are_told(report):
                yield from _findings(comparison, view)
    else:
        for comparison in report.comparisons:
            yield from _comparison(comparison, view)
    if report.comparisons and view.detail is not Detail.FINDINGS:
        yield from ("", f"<sub>{in_markdown(told.LEGEND)}</sub>")


def _headline(comparison: "ComparisonRecord") -> str:
    names = f"**{in_markdown(comparison.a.target)}** and **{in_markdown(comparison.b.target)}**"
    return f"{names}: {in_markdown(comparison.verdict.sentence)}"


def _comparison(comparison: "ComparisonRecord", view: View) -> Iterator[str]:
    yield from ("", _headline(comparison))
    yield from _findings(comparison, view)
    if view.detail is Detail.FINDINGS:
        return
    yield ""
    yield from (f"- {in_markdown(figure)}" for figure in comparison.verdict.figures)
    for remark in comparison.remarks:
        yield from ("", f"Note: {in_markdown(remark)}")
    for part in told.parts(comparison, view):
        yield from folded(part.title, _lines(part))


def _findings(comparison: "ComparisonRecord", view: View) -> Iterator[str]:
    yield from finding_rows(comparison.findings, most=None if view.every_layer else sections.MOST_FINDINGS)


def _lines(part: told.Part) -> Iterator[str]:
    for block in part.blocks:
        match block:
            case Grid():
                yield from ("", *table(block), "")
            case Sentence():
                yield f"- {words(block).strip()}"
