"""The gate's report for a pull request or a job's summary page: verdict, findings, what to do."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import gate_words, sections
from jaynes_audit.cli.reports.markdown_page import finding_rows, folded, words
from jaynes_audit.cli.reports.view import Detail, View
from jaynes_audit.cli.visible import code_in_markdown, in_markdown

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord


def lines(report: "ReportRecord", view: View) -> Iterator[str]:
    """Give the lines of the report but the last, which says why the exit status is what it is."""
    yield f"## {gate_words.verdict(report)}: {in_markdown(gate_words.together(report))}"
    for failed in report.failures:
        yield from ("", f"**error**: {in_markdown(failed.sentence)}")
    for model in report.models:
        yield from _model(model, view)
    yield from _findings(report.findings, view)
    unheld = gate_words.without_baseline(report)
    if unheld and view.detail is not Detail.FINDINGS:
        yield from ("", in_markdown(unheld))
    remedies = [f"- **{in_markdown(rule)}**: {in_markdown(remedy)}" for rule, remedy in gate_words.remedies(report)]
    if remedies and view.detail is not Detail.FINDINGS:
        yield from ("", f"{gate_words.REMEDIES}:", "", *remedies, "", gate_words.MORE_ON_RULES)


def _model(model: "ModelRecord", view: View) -> Iterator[str]:
    yield from ("", f"**{code_in_markdown(model.target)}**: {in_markdown(gate_words.of_model(model))}.")
    if view.detail is not Detail.FINDINGS:
        covered, held = words(next(sections.coverage(model))), in_markdown(gate_words.held_against(model))
        yield from ("", f"{covered} {held}".rstrip())
    yield from _findings(model.findings, view)
    if view.detail is Detail.EVERYTHING and model.left_out:
        yield from folded("Left out", [f"- {words(group)}" for group in sections.left_out(model, everything=True)])


def _findings(found: "Sequence[FindingRecord]", view: View) -> Iterator[str]:
    groups = list(gate_words.by_rule(found, view))
    yield from finding_rows([each for listed, _ in groups for each in listed], most=None)
    for told in [*(more for _, more in groups), sections.not_shown(found, view)]:
        if told:
            yield from ("", in_markdown(told))
