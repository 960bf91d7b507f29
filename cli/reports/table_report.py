"""The report for people: the answer, how much was read, what is wrong, the numbers beside the ruler."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import details, gate_table, sections
from jaynes_audit.cli.reports.law_map import law_map
from jaynes_audit.cli.reports.page import BLANK, Block, Line, Omissions, Span, Tone, lines, sentence
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import ClaimRecord, LayerRecord, ModelRecord, ReportRecord, RulerRecord

MOST_REMARKS = 3


def render(report: "ReportRecord", view: View) -> str:
    """Write the report in columns: as wide as they need, or fitted to the terminal; plain, or coloured."""
    if report.command == "gate":
        return laid_out(gate_table.page(report, view), view)
    return laid_out(_findings_page(report, view) if view.detail is Detail.FINDINGS else _page(report, view), view)


def laid_out(page: Iterable[Block], view: View) -> str:
    """Write blocks as text: as wide as they need, or fitted to the terminal; plain, or coloured."""
    written = _painter(view)
    return "".join(f"{written(line)}\n" for line in lines(page, view.width))


def titled(title: str, *blocks: Block) -> Iterator[Block]:
    """Blocks under a title, and a free line after them."""
    yield sentence(Span(title, Tone.STRONG))
    yield from blocks
    yield BLANK


def _painter(view: View) -> Callable[[Line], str]:
    if view.colour:
        from jaynes_audit.cli.reports.colour import painted  # noqa: PLC0415 - rich only where there is colour

        return painted
    return _plain


def _plain(line: Line) -> str:
    return "".join(span.text for span in line)


def _findings_page(report: "ReportRecord", view: View) -> Iterator[Block]:
    yield from map(sections.failure, report.failures)
    yield from sections.findings(report.findings, view)
    for model in report.models:
        if sections.shown(model.findings, view) and len(report.models) > 1:
            yield sentence(Span(model.target, Tone.STRONG), ":")
        yield from sections.findings(model.findings, view)
    yield sections.last_line(report)


def _page(report: "ReportRecord", view: View) -> Iterator[Block]:
    yield from map(sections.failure, report.failures)
    yield from sections.findings(report.findings, view)
    if report.failures or report.findings:
        yield BLANK
    if report.claim:
        yield from _together(report, report.claim, view)
    for model in report.models:
        yield from _model(model, report.rulers, view)
    yield from _legend(report)
    yield Omissions()
    yield sections.last_line(report)


def _together(report: "ReportRecord", claim: "ClaimRecord", view: View) -> Iterator[Block]:
    yield sections.together(report, claim)
    yield BLANK
    grid = sections.roles_of_models(report.models, report.rulers)
    if grid:
        yield from titled("By role and model, medians over the matrices", grid)
    if view.detail is Detail.EVERYTHING:
        yield from _claim(claim)


def _model(model: "ModelRecord", rulers: "Sequence[RulerRecord]", view: View) -> Iterator[Block]:
    everything = view.detail is Detail.EVERYTHING
    yield sections.headline(model)
    yield from sections.coverage(model)
    yield from details.anatomy_sentences(model)
    yield from sections.optimizer_null(model)
    yield from sections.remarks(model, None if everything else MOST_REMARKS)
    yield BLANK
    if model.findings:
        yield from titled("Findings", *sections.findings(model.findings, view))
    for title, grid in sections.overviews(model, rulers, everything=everything):
        yield from titled(title, grid)
    yield from _layers(model, rulers, view)
    if everything:
        drawn = list(law_map([layer for layer in model.layers if layer.connected], rulers))
        if drawn:
            yield from titled("Map of the highly connected matrices among known laws", *drawn)
        yield from _claim(model.claim)
    apart = sections.kept_apart(model)
    if apart:
        yield from titled("Kept apart: gains, biases and buffers", apart)
    if model.left_out:
        yield from titled("Left out", *sections.left_out(model, everything=everything))
    if everything:
        yield from titled("Files", *(sentence(file) for file in model.files))
        if model.aliases:
            yield from titled("Tied", *(sentence(f"{dropped} is {kept}") for dropped, kept in model.aliases.items()))


def _layers(model: "ModelRecord", rulers: "Sequence[RulerRecord]", view: View) -> Iterator[Block]:
    everything = view.detail is Detail.EVERYTHING
    objected = sections.objected(model)
    for listing in sections.listings(model, everything=everything, every_layer=view.every_layer):
        blocks: list[Block] = []
        if listing.shown:
            blocks.append(sections.layer_grid(listing, rulers, objected, everything=everything))
        if listing.unsaid:
            blocks.append(sentence(Span(f"{listing.unsaid:,} in all; --all lists them.", Tone.QUIET)))
        if blocks:
            yield from titled(listing.title, *blocks)
        layers = [layer for _, layer in listing.shown]
        curves = details.histogram_grid(layers)
        if curves:
            yield from titled(f"{listing.title}: {details.CURVES}", curves)
        if everything and layers:
            yield from _details(listing, layers)


def _details(listing: sections.Listing, layers: "Sequence[LayerRecord]") -> Iterator[Block]:
    grids = (
        ("their nearest families", details.law_grid(layers), ()),
        ("anatomy, parts of the variance of ln|w|", details.anatomy_grid(layers), ()),
        ("distances from the lognormal, and its equilibrium", details.equilibrium_grid(layers), (details.ALPHA,)),
        ("shapes and content", details.matrix_grid(listing), ()),
    )
    for title, grid, notes in grids:
        if grid:
            yield from titled(f"{listing.title}: {title}", grid, *(sentence(Span(note, Tone.QUIET)) for note in notes))


def _claim(claim: "ClaimRecord") -> Iterator[Block]:
    blocks: list[Block] = list(details.claim_sentences(claim))
    grid = details.constancy_grid(claim)
    if grid:
        blocks += [BLANK, grid]
    yield from titled("One lognormal for all", *blocks)


def _legend(report: "ReportRecord") -> Iterator[Block]:
    matrices = [layer for model in report.models for layer in model.layers if layer.fan_in]
    if matrices:
        yield sentence(Span(sections.LEGEND, Tone.QUIET))
        if sections.has_naive_errors(matrices):
            yield sentence(Span(sections.NAIVE, Tone.QUIET))
        yield BLANK
