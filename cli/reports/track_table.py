"""A run for people: when it settled, its checkpoints in rows, its roles, and what moved."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from jaynes_audit.cli.exit_codes import counted
from jaynes_audit.cli.reports import sections
from jaynes_audit.cli.reports.cells import Cell, grid, not_finite
from jaynes_audit.cli.reports.figures import NONE, count, fixed, magnitude, share
from jaynes_audit.cli.reports.page import BLANK, Block, Column, Grid, Omissions, Sentence, Span, Tone, sentence
from jaynes_audit.cli.reports.table_report import laid_out, titled
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record.report import VarianceRecord
    from jaynes_audit.analyzers.track.point import GroupPoint
    from jaynes_audit.analyzers.track.record import (
        CheckpointRecord,
        CourseRecord,
        MoveRecord,
        RunRecord,
        TrackReportRecord,
        TransitionRecord,
    )

Item = TypeVar("Item")

MOST_ROWS = 40  # checkpoints of a table; of more, evenly chosen ones tell the course
MOST_FROZEN = 10
MOST_ALONE = 10
ALL_CONNECTED = "highly connected"

LEGEND = (
    "mu and sigma are mean and standard deviation of ln|w|, skew its skewness, psi the distance from the fitted "
    "lognormal in nats per weight: medians over the highly connected matrices. rms and norm are those of all their "
    "weights together. tau is the standard deviation between the matrices, freed of sampling noise. moved counts the "
    "layers whose mu moved by more than 0.03 since the checkpoint before, or whose sigma did by more than 2 % and "
    "0.005, and by more than six standard errors; same are those with the very same bytes."
)
SETTLING = (
    "A mean over the same matrices at every checkpoint: straight pieces over the logarithm of the step, then a "
    "constant. ± is what one value was taken to err by: the scatter about them, or 0.01 of mu and 0.005 of sigma."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Layers of a checkpoint, and how it was reached."""

    checkpoint: "CheckpointRecord"
    group: "GroupPoint"
    arrived: "TransitionRecord | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """A role at the first and at the last checkpoint."""

    first: "GroupPoint"
    last: "GroupPoint"


def render(report: "TrackReportRecord", view: View) -> str:
    """Write the run in columns."""
    return laid_out(_page(report, view), view)


def _page(report: "TrackReportRecord", view: View) -> Iterator[Block]:
    run = report.run
    yield from map(sections.failure, report.failures)
    if view.detail is Detail.FINDINGS:
        yield from _unread(run)
        yield sections.last_line(report)
        return
    if report.failures:
        yield BLANK
    yield _headline(run)
    yield from _unread(run)
    yield from (sentence(Span("note  ", Tone.NOTE), remark, indent=6) for remark in run.remarks)
    yield BLANK
    if run.checkpoints:
        yield from _checkpoints(run, view)
        yield from titled("By role, from the first checkpoint to the last", _roles(run))
        yield from titled("When it settled", *_courses(run))
        yield from _moves(run, view)
        yield sentence(Span(LEGEND, Tone.QUIET))
        yield BLANK
    yield Omissions()
    yield sections.last_line(report)


def _headline(run: "RunRecord") -> Sentence:
    name = Span(run.targets[0] if len(run.targets) == 1 else f"{counted(len(run.targets), 'checkpoint')}", Tone.STRONG)
    if not run.checkpoints:
        return sentence(name, ": no checkpoint could be read.")
    numbers = [each.number for each in run.checkpoints]
    start = f": {counted(len(numbers), 'checkpoint')}, {run.unit} {numbers[0]:,} to {numbers[-1]:,}"
    told = [f"{course.quantity} {course.sentence}" for course in run.courses if course.role is None]
    if _is_untold(run):
        return sentence(name, f"{start}; when it settled {run.courses[0].sentence}.")
    return sentence(name, f"{start}. The highly connected matrices: {'; '.join(told)}.")


def _unread(run: "RunRecord") -> Iterator[Sentence]:
    for each in run.checkpoints:
        coverage, point = each.point.coverage, each.point
        if not coverage.complete:
            left = counted(len(point.left_out), "layer")
            told = (
                f"{each.target}: {coverage.tensors:,} of {coverage.tensors_total:,} tensors were read; {left} left out"
                if coverage.tensors_total
                else f"{each.target}: nothing of it was read"
            )
            why = [defect.sentence for defect in point.defects] or [left.explanation for left in point.left_out]
            yield sentence(Span("error  ", Tone.ERROR), f"{told}: {why[0]}" if why else told, indent=7)


def _checkpoints(run: "RunRecord", view: View) -> Iterator[Block]:
    arrived = {each.after: each for each in run.transitions}
    shown = run.checkpoints if view.every_layer else _evenly(run.checkpoints)
    rows = [_Row(checkpoint=each, group=each.point.connected, arrived=arrived.get(each.number)) for each in shown]
    blocks: list[Block] = [_checkpoint_grid(run.unit, rows)]
    if len(shown) < len(run.checkpoints):
        blocks.append(sentence(Span(f"{count(len(run.checkpoints))} in all; --all lists them.", Tone.QUIET)))
    yield from titled("Checkpoints: the highly connected matrices", *blocks)
    if view.detail is Detail.EVERYTHING:
        for role in sorted({group.role or "" for each in shown for group in each.point.roles}):
            yield from titled(f"Checkpoints: {role}", _role_grid(run.unit, _of_role(shown, role)))


def _checkpoint_grid(unit: str, rows: Sequence[_Row]) -> Grid:
    cells: list[Cell[_Row]] = [
        Cell(Column(title=unit), lambda row: count(row.checkpoint.number)),
        *_loss(rows),
        *_law(rows),
        *_taus(),
        *_shares(rows),
        Cell(Column(title="moved"), lambda row: _moved(row.arrived)),
        Cell(Column(title="same", rank=4), lambda row: count(len(row.arrived.unchanged)) if row.arrived else NONE),
        Cell(Column(title="one law", right=False, rank=7), lambda row: row.checkpoint.point.verdict),
    ]
    return grid(cells, [(row, Tone.PLAIN) for row in rows])


def _of_role(checkpoints: "Sequence[CheckpointRecord]", role: str) -> list[_Row]:
    return [
        _Row(checkpoint=each, group=group, arrived=None)
        for each in checkpoints
        for group in each.point.roles
        if group.role == role
    ]


def _role_grid(unit: str, rows: Sequence[_Row]) -> Grid:
    cells: list[Cell[_Row]] = [
        Cell(Column(title=unit), lambda row: count(row.checkpoint.number)),
        Cell(Column(title="layers", rank=4), lambda row: count(row.group.layers)),
        *_law(rows),
        *_taus(),
    ]
    return grid(cells, [(row, Tone.PLAIN) for row in rows])


def _law(rows: Sequence[_Row]) -> Iterator[Cell[_Row]]:
    yield Cell(Column(title="mu"), lambda row: fixed(row.group.mu, 3))
    yield Cell(Column(title="sigma"), lambda row: fixed(row.group.sigma, 3))
    yield Cell(Column(title="skew", rank=2), lambda row: fixed(row.group.skewness, 2))
    yield Cell(Column(title="psi", rank=3), lambda row: fixed(row.group.psi, 3))
    yield Cell(Column(title="rms"), lambda row: magnitude(row.group.rms) if row.group.layers else NONE)
    yield Cell(Column(title="norm", rank=5), lambda row: magnitude(row.group.norm) if row.group.layers else NONE)
    yield Cell(
        Column(title="zeros", rank=6),
        lambda row: share(row.group.zero, row.group.weights) if row.group.layers else NONE,
    )
    yield from not_finite(rows, lambda row: row.group.not_finite)


def _zeros(group: "GroupPoint") -> str:
    return share(group.zero, group.weights)


def _taus() -> Iterator[Cell[_Row]]:
    yield Cell(Column(title="tau mu", rank=1), lambda row: fixed(row.group.tau_mu, 3))
    yield Cell(Column(title="tau sigma", rank=1), lambda row: fixed(row.group.tau_sigma, 3))


def _loss(rows: Sequence[_Row]) -> Iterator[Cell[_Row]]:
    if any(row.checkpoint.loss is not None for row in rows):
        yield Cell(Column(title="loss"), lambda row: fixed(row.checkpoint.loss, 3))


def _shares(rows: Sequence[_Row]) -> Iterator[Cell[_Row]]:
    """Where the log-variance lies, where it was asked for."""
    if all(row.checkpoint.point.variance is None for row in rows):
        return
    yield Cell(Column(title="layers", rank=8), lambda row: _part(row, lambda shares: shares.between_layers))
    yield Cell(Column(title="rows", rank=8), lambda row: _part(row, lambda shares: shares.between_rows))
    yield Cell(Column(title="columns", rank=8), lambda row: _part(row, lambda shares: shares.between_columns))


def _part(row: _Row, part: "Callable[[VarianceRecord], float]") -> str:
    variance = row.checkpoint.point.variance
    return f"{part(variance):.1%}" if variance else NONE


def _moved(arrived: "TransitionRecord | None") -> str:
    return f"{count(len(arrived.moves))} of {count(arrived.compared)}" if arrived else NONE


def _roles(run: "RunRecord") -> Grid:
    first, last = run.checkpoints[0].point, run.checkpoints[-1].point
    at_first = {group.role: group for group in first.roles}
    ends = [_Ends(first=at_first[group.role], last=group) for group in last.roles if group.role in at_first]
    cells: list[Cell[_Ends]] = [
        Cell(Column(title="role", right=False, names=True), lambda each: each.last.role or ALL_CONNECTED),
        Cell(Column(title="layers"), lambda each: count(each.last.layers)),
        *_from_to("mu", 0, lambda group: fixed(group.mu, 3)),
        *_from_to("sigma", 0, lambda group: fixed(group.sigma, 3)),
        *_from_to("skew", 2, lambda group: fixed(group.skewness, 2)),
        *_from_to("rms", 1, lambda group: magnitude(group.rms)),
        *_from_to("tau mu", 3, lambda group: fixed(group.tau_mu, 3)),
        *_from_to("tau sigma", 4, lambda group: fixed(group.tau_sigma, 3)),
    ]
    return grid(cells, [(each, Tone.PLAIN) for each in ends])


def _from_to(title: str, rank: int, shows: "Callable[[GroupPoint], str]") -> Iterator[Cell[_Ends]]:
    yield Cell(Column(title=title, rank=rank), lambda each: shows(each.first))
    yield Cell(Column(title="to", rank=rank, gap=1), lambda each: shows(each.last))


def _is_untold(run: "RunRecord") -> bool:
    """Whether nothing can be said of when anything settled, for one reason."""
    return len({course.sentence for course in run.courses if course.settled_at is None}) == 1 and all(
        course.earliest is None for course in run.courses
    )


def _courses(run: "RunRecord") -> Iterator[Block]:
    if _is_untold(run):
        yield sentence(f"{run.courses[0].sentence.capitalize()}.")
        return
    cells: list[Cell[CourseRecord]] = [
        Cell(Column(title="role", right=False, names=True), lambda each: each.role or ALL_CONNECTED),
        Cell(Column(title="layers", rank=1), lambda each: count(each.layers)),
        Cell(Column(title="", right=False), lambda each: each.quantity),
        Cell(Column(title="course", right=False), lambda each: each.sentence),
    ]
    yield grid(cells, [(each, Tone.PLAIN) for each in run.courses])
    yield sentence(Span(SETTLING, Tone.QUIET))


def _moves(run: "RunRecord", view: View) -> Iterator[Block]:
    blocks: list[Block] = []
    moved = [each for each in run.transitions if each.moves]
    if moved:
        blocks.append(_move_grid(moved if view.every_layer else _evenly(moved)))
    alone = [(each, move) for each in run.transitions for move in each.moves if move.alone]
    for transition, move in alone if view.every_layer else alone[:MOST_ALONE]:
        where = f"{transition.before:,} to {transition.after:,}"
        blocks.append(sentence(f"From {where} {move.name} moved, and no other {move.role}: {_change(move)}.", indent=2))
    if len(alone) > MOST_ALONE and not view.every_layer:
        blocks.append(sentence(Span(f"{count(len(alone))} layers moved alone; --all lists them.", Tone.QUIET)))
    if run.frozen:
        shown = run.frozen if view.every_layer else run.frozen[:MOST_FROZEN]
        more = f" and {count(len(run.frozen) - len(shown))} more" if len(shown) < len(run.frozen) else ""
        blocks.append(sentence(f"Frozen, the very same bytes in all checkpoints: {', '.join(shown)}{more}.", indent=2))
    if blocks:
        yield from titled("What moved", *blocks)


def _move_grid(transitions: "Sequence[TransitionRecord]") -> Grid:
    cells: list[Cell[TransitionRecord]] = [
        Cell(Column(title="from"), lambda each: count(each.before)),
        Cell(Column(title="to"), lambda each: count(each.after)),
        Cell(Column(title="moved"), _moved),
        Cell(Column(title="the farthest", right=False, names=True), lambda each: each.moves[0].name),
        Cell(Column(title="d mu"), lambda each: f"{each.moves[0].mu_change:+.3f}"),
        Cell(Column(title="d sigma"), lambda each: f"{each.moves[0].sigma_change:+.3f}"),
        Cell(Column(title="times", rank=1), lambda each: f"{each.moves[0].times:.1f}"),
    ]
    return grid(cells, [(each, Tone.PLAIN) for each in transitions])


def _change(move: "MoveRecord") -> str:
    return f"mu {move.mu_change:+.3f}, sigma {move.sigma_change:+.3f}, {move.times:.1f} times what counts"


def _evenly(items: Sequence[Item]) -> Sequence[Item]:
    """All of a few items; of many, some from the first to the last."""
    last = len(items) - 1
    return items if last < MOST_ROWS else [items[at * last // (MOST_ROWS - 1)] for at in range(MOST_ROWS)]
