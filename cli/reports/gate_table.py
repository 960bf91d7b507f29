"""The gate's report for people: the verdict, what is wrong and where, what to do, and why the exit status is that."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import gate_words, sections
from jaynes_audit.cli.reports.page import BLANK, Block, Span, Tone, sentence
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord

UNDER_A_LEVEL = " " * 9  # as findings are set in


def page(report: "ReportRecord", view: View) -> Iterator[Block]:
    """Give the blocks of the report; of the quiet one, only the findings and the last line."""
    yield from _findings_page(report, view) if view.detail is Detail.FINDINGS else _page(report, view)
    yield sections.last_line(report)


def _findings_page(report: "ReportRecord", view: View) -> Iterator[Block]:
    yield from map(sections.failure, report.failures)
    for model in report.models:
        if sections.shown(model.findings, view) and len(report.models) > 1:
            yield sentence(Span(f"{model.target}:", Tone.STRONG))
        yield from _findings(model.findings, view)
    yield from _findings(report.findings, view)


def _page(report: "ReportRecord", view: View) -> Iterator[Block]:
    tone = Tone.STRONG if report.exit_code == 0 else Tone.ERROR
    yield sentence(Span(f"{gate_words.verdict(report)}:", tone), f" {gate_words.together(report)}.")
    yield from map(sections.failure, report.failures)
    for model in report.models:
        yield BLANK
        yield from _model(model, view)
    if report.findings:
        yield BLANK
        yield from _findings(report.findings, view)
    unheld = gate_words.without_baseline(report)
    if unheld:
        yield BLANK
        yield sentence(unheld)
    yield BLANK
    yield from _remedies(report)


def _model(model: "ModelRecord", view: View) -> Iterator[Block]:
    yield sentence(Span(f"{model.target}:", Tone.STRONG), f" {gate_words.of_model(model)}.")
    yield next(sections.coverage(model))
    if model.baseline:
        yield sentence(gate_words.held_against(model))
    if view.detail is Detail.EVERYTHING:
        yield from sections.remarks(model, None)
        yield from sections.left_out(model, everything=True)
    yield from _findings(model.findings, view)


def _findings(found: "Sequence[FindingRecord]", view: View) -> Iterator[Block]:
    for listed, more in gate_words.by_rule(found, view):
        yield from map(sections.finding, listed)
        if more:
            yield sentence(Span(f"{UNDER_A_LEVEL}{more}", Tone.QUIET))
    hidden = sections.not_shown(found, view)
    if hidden:
        yield sentence(Span(f"{UNDER_A_LEVEL}{hidden}", Tone.QUIET))


def _remedies(report: "ReportRecord") -> Iterator[Block]:
    remedies = list(gate_words.remedies(report))
    if remedies:
        yield sentence(Span(gate_words.REMEDIES, Tone.STRONG))
        for rule, remedy in remedies:
            yield sentence(Span(f"{rule}:", Tone.STRONG), f" {remedy}", indent=7)
        yield sentence(Span(gate_words.MORE_ON_RULES, Tone.QUIET))
        yield BLANK
