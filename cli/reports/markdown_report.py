"""The report for a pull request or a job's summary page: the answer and the findings, the details folded."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import details, gate_markdown, sections
from jaynes_audit.cli.reports.markdown_page import finding_rows, folded, page, table, words
from jaynes_audit.cli.reports.view import Detail, View
from jaynes_audit.cli.visible import in_markdown

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord, RulerRecord


def render(report: "ReportRecord", view: View) -> str:
    """Write the report in Markdown."""
    told = gate_markdown.lines(report, view) if report.command == "gate" else _report(report, view)
    return page(told, report.exit_code, report.exit_reason)


def _report(report: "ReportRecord", view: View) -> Iterator[str]:
    yield "## jaynes audit"
    for failed in report.failures:
        yield from ("", f"**error**: {in_markdown(failed.sentence)}")
    yield from _findings(report.findings, view)
    if report.claim:
        yield from ("", words(sections.together(report, report.claim)))
        grid = sections.roles_of_models(report.models, report.rulers)
        if grid:
            yield from ("", "By role and model, medians over the matrices:", "", *table(grid))
    for model in report.models:
        yield from _model(model, report.rulers, view)


def _model(model: "ModelRecord", rulers: "Sequence[RulerRecord]", view: View) -> Iterator[str]:
    everything = view.detail is Detail.EVERYTHING
    yield from ("", f"**{in_markdown(model.target)}**: {in_markdown(sections.answer(model))}")
    yield from _findings(model.findings, view)
    if view.detail is Detail.FINDINGS:
        return
    told = [*sections.coverage(model), *details.anatomy_sentences(model), *sections.optimizer_null(model)]
    yield from ("", " ".join(map(words, told)))
    for remark in model.remarks:
        yield from ("", f"Note: {in_markdown(remark)}")
    for title, overview in sections.overviews(model, rulers, everything=everything):
        yield from ("", f"{title}:", "", *table(overview))
    objected = sections.objected(model)
    for listing in sections.listings(model, everything=everything, every_layer=view.every_layer):
        unsaid = ["", f"{listing.unsaid:,} in all; `--all` lists them."] if listing.unsaid else []
        grid = table(sections.layer_grid(listing, rulers, objected, everything=everything)) if listing.shown else ()
        if listing.shown or unsaid:
            yield from folded(listing.title, [*grid, *unsaid])
        curves = details.histogram_grid([layer for _, layer in listing.shown])
        if curves:
            yield from folded(f"{listing.title}: {details.CURVES}", table(curves))
    if everything:
        clauses = [f"- {words(told)}" for told in details.claim_sentences(model.claim)]
        constancy = details.constancy_grid(model.claim)
        yield from folded("One lognormal for all", [*clauses, "", *(table(constancy) if constancy else ())])
    apart = sections.kept_apart(model)
    if apart:
        yield from folded("Gains, biases and buffers", table(apart))
    if model.left_out:
        groups = sections.left_out(model, everything=everything)
        yield from folded("Left out", [f"- {words(group)}" for group in groups])
    yield from ("", f"<sub>{in_markdown(sections.LEGEND)}</sub>")


def _findings(found: "Sequence[FindingRecord]", view: View) -> Iterator[str]:
    yield from finding_rows(sections.shown(found, view), most=None if view.every_layer else sections.MOST_FINDINGS)
    hidden = sections.not_shown(found, view)
    if hidden:
        yield from ("", in_markdown(hidden))
