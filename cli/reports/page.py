"""Sentences and grids -> lines that fit: the one layout behind the plain and the coloured report."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from jaynes_audit.cli.visible import visible

LEAST_NAME = 20  # columns that a shortened name, or other words, keep however narrow the terminal
ELLIPSIS = "…"
FIRST_ODD_CHARACTER = "\u0300"  # below it every printable character takes one column


class Tone(StrEnum):
    """What a piece of text is to the reader; colour follows from it, and nothing is said by colour alone."""

    PLAIN = "plain"
    STRONG = "strong"
    QUIET = "quiet"
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text, on one line and harmless, in one tone."""

    text: str
    tone: Tone = Tone.PLAIN

    def __post_init__(self) -> None:
        """Keep out whatever a checkpoint would like to tell the terminal."""
        object.__setattr__(self, "text", visible(self.text))


Line: TypeAlias = Sequence[Span]


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words that run on: broken between them where there is a width, every line but the first set in by `indent`."""

    spans: tuple[Span, ...]
    indent: int = 0


BLANK = Sentence(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a grid. Where the width is short the highest `rank` goes first, and rank 0 never does.

    `gap` is the room on its left. Once nothing is left to go, names are shortened in their middle; then other words.
    """

    title: str
    rank: int = 0
    gap: int = 2
    right: bool = True
    names: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a grid: a cell to each column."""

    cells: tuple[str, ...]
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows under titled columns."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Omissions:
    """The place where it is said which columns of the grids before found no room."""


Block: TypeAlias = Sentence | Grid | Omissions


def sentence(*words: str | Span, indent: int = 0) -> Sentence:
    """Make a sentence of plain and toned words."""
    return Sentence(tuple(word if isinstance(word, Span) else Span(word) for word in words), indent)


def lines(blocks: Iterable[Block], width: int | None) -> Iterator[Line]:
    """Lay blocks out, in `width` columns or in as many as they need."""
    omitted: dict[str, None] = {}
    for block in blocks:
        match block:
            case Sentence():
                yield from _wrapped(block, width)
            case Grid():
                laid = _Laid.of(block, width)
                omitted.update(dict.fromkeys(laid.omitted))
                yield from laid.lines()
            case Omissions() if omitted:
                yield from _wrapped(_omission(list(omitted)), width)
                yield ()
                omitted.clear()


def columns_of(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii() or max(text) < FIRST_ODD_CHARACTER:
        return len(text)
    return sum(map(_columns_of_character, text))


def _columns_of_character(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _omission(titles: Sequence[str]) -> Sentence:
    return sentence(
        Span(
            f"Some tables have no room here for: {', '.join(titles)}. A wider terminal or a file has them.", Tone.QUIET
        )
    )


def _wrapped(block: Sentence, width: int | None) -> Iterator[Line]:
    if width is None or sum(columns_of(span.text) for span in block.spans) <= width:
        yield block.spans
        return
    line: list[Span] = []
    used = 0
    for span in block.spans:
        for number, word in enumerate(span.text.split(" ")):
            space = " " if number else ""
            if line and space and used + len(space) + columns_of(word) > width:
                yield line
                line, used, space = [Span(" " * block.indent)], block.indent, ""
            line.append(Span(space + word, span.tone))
            used += columns_of(space + word)
    yield line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Laid:
    """A grid with its kept columns and their widths."""

    grid: Grid
    cells: tuple[tuple[str, ...], ...]
    kept: tuple[int, ...]
    widths: tuple[int, ...]
    omitted: tuple[str, ...] = field(default=())

    @staticmethod
    def of(grid: Grid, width: int | None) -> "_Laid":
        columns = grid.columns
        cells = tuple(tuple(map(visible, row.cells)) for row in grid.rows)
        widths = [columns_of(column.title) for column in columns]
        for row in cells:
            widths = list(map(max, widths, map(columns_of, row)))
        kept = list(range(len(columns)))
        while width is not None and _total(columns, widths, kept) > width:
            rank = max(columns[at].rank for at in kept)
            if rank == 0:
                break
            kept = [at for at in kept if columns[at].rank < rank]
        excess = _total(columns, widths, kept) - width if width is not None else 0
        words = [at for at in kept if not columns[at].right]
        for at in sorted(words, key=lambda at: not columns[at].names):
            narrower = max(min(widths[at], LEAST_NAME), widths[at] - max(0, excess))
            excess -= widths[at] - narrower
            widths[at] = narrower
        return _Laid(
            grid=grid,
            cells=cells,
            kept=tuple(kept),
            widths=tuple(widths),
            omitted=tuple(column.title for at, column in enumerate(columns) if at not in kept),
        )

    def lines(self) -> Iterator[Line]:
        yield (Span(self._line([column.title for column in self.grid.columns]), Tone.QUIET),)
        for row, cells in zip(self.grid.rows, self.cells, strict=True):
            yield (Span(self._line(cells), row.tone),)

    def _line(self, cells: Sequence[str]) -> str:
        parts = []
        for place, at in enumerate(self.kept):
            column, width = self.grid.columns[at], self.widths[at]
            cell = _shortened(cells[at], width)
            padding = " " * (width - columns_of(cell))
            gap = " " * column.gap if place else ""
            parts.append(gap + (padding + cell if column.right else cell + padding))
        return "".join(parts).rstrip()


def _total(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[at] + (columns[at].gap if place else 0) for place, at in enumerate(kept))


def _shortened(cell: str, width: int) -> str:
    """The cell's beginning and end around an ellipsis, in at most so many columns."""
    if columns_of(cell) <= width:
        return cell
    head, tail = "", ""
    for outward in range(len(cell)):
        for_head = outward % 3 == 0  # the end of a name tells more than its beginning
        character = cell[len(head)] if for_head else cell[-1 - len(tail)]
        if columns_of(head + tail + character) > width - 1:
            break
        head, tail = (head + character, tail) if for_head else (head, character + tail)
    return head + ELLIPSIS + tail
