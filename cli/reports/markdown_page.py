"""Sentences and grids in Markdown: what every report for a pull request or a job's summary page is made of.

Such a page ends below 900 kB, since over 1,024 kB GitHub drops a whole summary.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports.page import Grid, Sentence
from jaynes_audit.cli.reports.sections import rule_of
from jaynes_audit.cli.visible import code_in_markdown, in_markdown

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord

MOST_BYTES = 900_000
CUT = "*Cut here: the report is longer than a job's summary may be. The JSON report has all of it.*"
FOLD_END = "</details>"


def page(lines: Iterable[str], exit_code: int, exit_reason: str) -> str:
    """Write the lines that fit, and why the exit status is what it is."""
    end = ["", f"**Exit status {exit_code}**: {in_markdown(exit_reason)}."]
    return "".join(f"{line}\n" for line in _cut(lines, end))


def words(block: Sentence) -> str:
    """A sentence as text."""
    return in_markdown("".join(span.text for span in block.spans))


def finding_rows(findings: "Sequence[FindingRecord]", *, most: int | None) -> Iterator[str]:
    """A table of what the rules object to, if they do."""
    if not findings:
        return
    yield from ("", "| level | rule | about | finding |", "|---|---|---|---|")
    for found in findings[:most]:
        yield _finding(found)
    if most is not None and len(findings) > most:
        yield from ("", f"{len(findings) - most:,} more findings; `--all` lists them.")


def folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Lines behind a title that opens them."""
    yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", FOLD_END)


def table(grid: Grid) -> Iterator[str]:
    """A grid as a table."""
    yield f"| {' | '.join(in_markdown(column.title) for column in grid.columns)} |"
    yield f"|{'|'.join('---:' if column.right else '---' for column in grid.columns)}|"
    for row in grid.rows:
        cells = [
            code_in_markdown(cell) if column.names else in_markdown(cell)
            for column, cell in zip(grid.columns, row.cells, strict=True)
        ]
        yield f"| {' | '.join(cells)} |"


def _finding(found: "FindingRecord") -> str:
    cells = (found.level, in_markdown(rule_of(found)), code_in_markdown(found.subject), in_markdown(found.sentence))
    return f"| {' | '.join(cells)} |"


def _cut(lines: Iterable[str], end: list[str]) -> Iterator[str]:
    """The lines that fit, with an open fold closed, and the end."""
    room = MOST_BYTES - sum(len(line.encode()) + 1 for line in [*end, "", FOLD_END, "", CUT])
    is_folded = False
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            yield from ["", FOLD_END] * is_folded
            yield from ("", CUT)
            break
        is_folded = line.startswith("<details>") or (is_folded and line != FOLD_END)
        yield line
    yield from end
