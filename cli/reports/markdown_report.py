"""The report for a pull request or a job's summary page: the answer and the findings, the details folded.

It ends below 900 kB, since over 1,024 kB GitHub drops a whole summary.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports import details, sections
from jaynes_audit.cli.reports.page import Grid, Sentence
from jaynes_audit.cli.reports.view import Detail, View
from jaynes_audit.cli.visible import code_in_markdown, in_markdown

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord, RulerRecord

MOST_BYTES = 900_000
CUT = "*Cut here: the report is longer than a job's summary may be. The JSON report has all of it.*"
FOLD_END = "</details>"


def render(report: "ReportRecord", view: View) -> str:
    """Write the report in Markdown."""
    end = ["", f"**Exit status {report.exit_code}**: {in_markdown(report.exit_reason)}."]
    return "".join(f"{line}\n" for line in _cut(_report(report, view), end))


def _cut(lines: Iterable[str], end: list[str]) -> Iterator[str]:
    """The lines that fit, with an open fold closed, and the end."""
    room = MOST_BYTES - sum(len(line.encode()) + 1 for line in [*end, "", FOLD_END, "", CUT])
    folded = False
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            yield from ["", FOLD_END] * folded
            yield from ("", CUT)
            break
        folded = line.startswith("<details>") or (folded and line != FOLD_END)
        yield line
    yield from end


def _report(report: "ReportRecord", view: View) -> Iterator[str]:
    yield "## jaynes audit"
    for failed in report.failures:
        yield from ("", f"**error**: {in_markdown(failed.sentence)}")
    if report.claim:
        yield from ("", _words(sections.together(report, report.claim)))
        grid = sections.roles_of_models(report.models, report.rulers)
        if grid:
            yield from ("", "By role and model, medians over the matrices:", "", *_table(grid))
    for model in report.models:
        yield from _model(model, report.rulers, view)


def _model(model: "ModelRecord", rulers: "Sequence[RulerRecord]", view: View) -> Iterator[str]:
    everything = view.detail is Detail.EVERYTHING
    yield from ("", f"**{in_markdown(model.target)}**: {in_markdown(sections.answer(model))}")
    yield from _findings(model, most=None if view.every_layer else sections.MOST_FINDINGS)
    if view.detail is Detail.FINDINGS:
        return
    yield from ("", " ".join(map(_words, [*sections.coverage(model), *details.anatomy_sentences(model)])))
    for remark in model.remarks:
        yield from ("", f"Note: {in_markdown(remark)}")
    for title, overview in sections.overviews(model, rulers, everything=everything):
        yield from ("", f"{title}:", "", *_table(overview))
    objected = frozenset(found.subject for found in model.findings if found.level == "error")
    for listing in sections.listings(model, everything=everything, every_layer=view.every_layer):
        unsaid = ["", f"{listing.unsaid:,} in all; `--all` lists them."] if listing.unsaid else []
        grid = _table(sections.layer_grid(listing, rulers, objected, everything=everything)) if listing.shown else ()
        if listing.shown or unsaid:
            yield from _folded(listing.title, [*grid, *unsaid])
        curves = details.histogram_grid([layer for _, layer in listing.shown])
        if curves:
            yield from _folded(f"{listing.title}: {details.CURVES}", _table(curves))
    if everything:
        clauses = [f"- {_words(told)}" for told in details.claim_sentences(model.claim)]
        constancy = details.constancy_grid(model.claim)
        yield from _folded("One lognormal for all", [*clauses, "", *(_table(constancy) if constancy else ())])
    apart = sections.kept_apart(model)
    if apart:
        yield from _folded("Gains, biases and buffers", _table(apart))
    if model.left_out:
        groups = sections.left_out(model, everything=everything)
        yield from _folded("Left out", [f"- {_words(group)}" for group in groups])
    yield from ("", f"<sub>{in_markdown(sections.LEGEND)}</sub>")


def _words(block: Sentence) -> str:
    return in_markdown("".join(span.text for span in block.spans))


def _findings(model: "ModelRecord", *, most: int | None) -> Iterator[str]:
    if not model.findings:
        return
    yield from ("", "| level | rule | about | finding |", "|---|---|---|---|")
    for found in model.findings[:most]:
        yield _finding(found)
    if most is not None and len(model.findings) > most:
        yield from ("", f"{len(model.findings) - most:,} more findings; `--all` lists them.")


def _finding(found: "FindingRecord") -> str:
    words = (found.level, f"{found.rule} {found.name}")
    return f"| {' | '.join(words)} | {code_in_markdown(found.subject)} | {in_markdown(found.sentence)} |"


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", FOLD_END)


def _table(grid: Grid) -> Iterator[str]:
    yield f"| {' | '.join(in_markdown(column.title) for column in grid.columns)} |"
    yield f"|{'|'.join('---:' if column.right else '---' for column in grid.columns)}|"
    for row in grid.rows:
        cells = [
            code_in_markdown(cell) if column.names else in_markdown(cell)
            for column, cell in zip(grid.columns, row.cells, strict=True)
        ]
        yield f"| {' | '.join(cells)} |"
