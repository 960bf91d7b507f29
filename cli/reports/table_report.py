"""The report for people: the answer, how much was read, what is wrong, the numbers beside the ruler."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.page import BLANK, Block, Line, Omissions, Span, Tone, lines, sentence
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ModelRecord, ReportRecord, RulerRecord

MOST_REMARKS = 3


def render(report: "ReportRecord", view: View) -> str:
    """Write the report in columns: as wide as they need, or fitted to the terminal; plain, or coloured."""
    page = _findings_page(report, view) if view.detail is Detail.FINDINGS else _page(report, view)
    written = _painter(view)
    return "".join(f"{written(line)}\n" for line in lines(page, view.width))


def _painter(view: View) -> Callable[[Line], str]:
    if view.colour:
        from jaynes_audit.cli.reports.colour import painted  # noqa: PLC0415 - rich only where there is colour

        return painted
    return _plain


def _plain(line: Line) -> str:
    return "".join(span.text for span in line)


def _findings_page(report: "ReportRecord", view: View) -> Iterator[Block]:
    yield from map(sections.failure, report.failures)
    for model in report.models:
        if model.findings and len(report.models) > 1:
            yield sentence(Span(model.target, Tone.STRONG), ":")
        yield from sections.findings(model, most=None if view.every_layer else sections.MOST_FINDINGS)
    yield sections.last_line(report)


def _page(report: "ReportRecord", view: View) -> Iterator[Block]:
    yield from map(sections.failure, report.failures)
    if report.failures:
        yield BLANK
    for model in report.models:
        yield from _model(model, report.ruler, view)
    yield from _legend(report)
    yield Omissions()
    yield sections.last_line(report)


def _model(model: "ModelRecord", ruler: "RulerRecord", view: View) -> Iterator[Block]:
    everything = view.detail is Detail.EVERYTHING
    yield sections.headline(model, ruler)
    yield from sections.coverage(model)
    yield from sections.remarks(model, None if everything else MOST_REMARKS)
    yield BLANK
    if model.findings:
        yield from _titled(
            "Findings", *sections.findings(model, most=None if view.every_layer else sections.MOST_FINDINGS)
        )
    grid = sections.roles(model, ruler)
    if grid:
        yield from _titled("By role, medians over its matrices", grid)
    yield from _layers(model, ruler, view)
    apart = sections.kept_apart(model)
    if apart:
        yield from _titled("Kept apart: gains, biases and buffers", apart)
    if model.left_out:
        yield from _titled("Left out", *sections.left_out(model, everything=everything))
    if everything:
        yield from _titled("Files", *(sentence(file) for file in model.files))
        if model.aliases:
            yield from _titled("Tied", *(sentence(f"{dropped} is {kept}") for dropped, kept in model.aliases.items()))


def _layers(model: "ModelRecord", ruler: "RulerRecord", view: View) -> Iterator[Block]:
    objected = frozenset(found.subject for found in model.findings if found.level == "error")
    for listing in sections.listings(model, every_layer=view.every_layer):
        blocks: list[Block] = []
        if listing.shown:
            blocks.append(sections.layer_grid(listing, ruler, objected))
            if view.detail is Detail.EVERYTHING:
                blocks += [BLANK, sections.detail_grid(listing)]
        if listing.unsaid:
            blocks.append(sentence(Span(f"{listing.unsaid:,} in all; --all lists them.", Tone.QUIET)))
        if blocks:
            yield from _titled(listing.title, *blocks)


def _legend(report: "ReportRecord") -> Iterator[Block]:
    matrices = [layer for model in report.models for layer in model.layers if layer.fan_in]
    if matrices:
        yield sentence(Span(sections.LEGEND, Tone.QUIET))
        if sections.has_naive_errors(matrices):
            yield sentence(Span(sections.NAIVE, Tone.QUIET))
        yield BLANK


def _titled(title: str, *blocks: Block) -> Iterator[Block]:
    yield sentence(Span(title, Tone.STRONG))
    yield from blocks
    yield BLANK
