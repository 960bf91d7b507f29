"""Columns that know what they show of an item, and the grids that are made of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from jaynes_audit.cli.reports.figures import count, fixed
from jaynes_audit.cli.reports.page import Column, Grid, Row, Tone

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import RulerRecord

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Cell(Generic[Item]):
    """A column, and what it shows of an item."""

    column: Column
    shows: Callable[[Item], str]


def grid(
    cells: "Sequence[Cell[Item]]", items: "Sequence[tuple[Item, Tone]]", rulers: "Sequence[dict[str, str]]" = ()
) -> Grid:
    """Give one row an item, and under them the rows of the ruler."""
    rows = [Row(tuple(cell.shows(item) for cell in cells), tone) for item, tone in items]
    rows += [Row(tuple(marks.get(cell.column.title, "") for cell in cells), Tone.QUIET) for marks in rulers]
    return Grid(columns=tuple(cell.column for cell in cells), rows=tuple(rows))


def ruler_rows(rulers: "Sequence[RulerRecord]", label: str, *, everything: bool) -> tuple[dict[str, str], ...]:
    """What a lognormal and what the ruler's laws would show, by column; Gaussian noise alone, or all of them."""
    lognormal = {label: "(lognormal)", "skew": "0", "kurt": "0", "psi": "0", "KS": "0"}
    return (
        lognormal,
        *(
            {
                label: f"({ruler.family})",
                "sigma": fixed(ruler.sigma, 2),
                "skew": fixed(ruler.skewness, 2),
                "kurt": fixed(ruler.excess_kurtosis, 2),
                "psi": fixed(ruler.psi, 3),
                "KS": fixed(ruler.ks, 3),
            }
            for ruler in (rulers if everything else rulers[:1])
        ),
    )


def not_finite(items: "Iterable[Item]", number: "Callable[[Item], int]") -> "Iterator[Cell[Item]]":
    """A column for NaN and infinity, where there are any."""
    if any(map(number, items)):
        yield Cell(Column(title="NaN, inf"), lambda item: count(number(item)))


def remark(items: "Iterable[Item]", words: "Callable[[Item], str]") -> "Iterator[Cell[Item]]":
    """A column of words, where there are any."""
    if any(map(words, items)):
        yield Cell(Column(title="remark", right=False, rank=11), words)


def grouped(items: "Iterable[Item]", key: "Callable[[Item], object]") -> "list[list[Item]]":
    """Items in groups of equal keys, in the order in which the keys first appear."""
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
