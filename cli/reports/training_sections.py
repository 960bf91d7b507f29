"""Training report's record -> the parts of what is said about it: the same for the terminal and for Markdown."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaynes_audit.cli.exit_codes import counted
from jaynes_audit.cli.reports.cells import Cell, grid, grouped
from jaynes_audit.cli.reports.figures import NONE, count, magnitude
from jaynes_audit.cli.reports.page import Column, Grid, Sentence, Span, Tone, sentence
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record.training import (
        FigureRecord,
        OptimizerRecord,
        StatementRecord,
        TrainingAuditRecord,
        TrainingRecord,
    )

HOLDS, DOES_NOT_HOLD, CANNOT_BE_SAID = "holds", "does not hold", "cannot be said"
ANSWERS = (HOLDS, DOES_NOT_HOLD, CANNOT_BE_SAID)
WORST_FIRST = (DOES_NOT_HOLD, HOLDS, CANNOT_BE_SAID)
TONES = {HOLDS: Tone.PLAIN, DOES_NOT_HOLD: Tone.WARNING, CANNOT_BE_SAID: Tone.QUIET}
MOST_STATEMENTS = 12  # of one quantity, listed one by one; --all lists all
LARGEST_COUNT = 2**53  # beyond it a whole float is no count
LEGEND = (
    "Each line is a claim that a theory makes of every run of its kind: it holds, does not hold, or cannot be said "
    "for want of an input or of a validated threshold. That a claim does not hold is a fact about the run, not a fault "
    "in it. docs/thermodynamics.md says what each means, what to do about it, and what was derived here."
)


@dataclass(frozen=True, slots=True)
class Part:
    """What is said under one title."""

    title: str
    blocks: tuple[Sentence | Grid, ...]


def headline(audit: "TrainingAuditRecord") -> Sentence:
    """The checkpoint, and how many claims have each answer."""
    answers: Counter[str] = Counter(each.answer for each in audit.statements)
    told = ", ".join(f"{answers[answer]:,} {'hold' if answer == HOLDS else answer}" for answer in ANSWERS)
    told = told.replace("does not hold", "do not hold")
    return sentence(Span(audit.target, Tone.STRONG), f": of {counted(len(audit.statements), 'claim')} {told}")


def training(audit: "TrainingAuditRecord") -> Iterator[Sentence]:
    """What is known of the training."""
    known = audit.training
    yield sentence(f"  {_progress(known)}", indent=4)
    if known.history is not None:
        rates = f"{_number(known.learning_rate)} at the end, {_number(known.peak_learning_rate)} at most"
        yield sentence(f"  learning rate {rates}: {known.history}", indent=4)
    if known.optimizer is not None:
        yield from _optimizer(known.optimizer)


def remarks(audit: "TrainingAuditRecord", *, everything: bool) -> Iterator[Sentence]:
    """What was refused, what could not be measured, and what a reader should know."""
    for refused in audit.training.refused:
        yield sentence(Span("warning  ", Tone.WARNING), refused, indent=9)
    unread = audit.unread if everything else audit.unread[:1]
    for each in unread:
        yield sentence(Span("warning  ", Tone.WARNING), f"not measured: {each}", indent=9)
    if len(audit.unread) > len(unread):
        more = counted(len(audit.unread) - len(unread), "more layer")
        yield sentence(Span(f"         {more} could not be measured: -v", Tone.QUIET))
    for remark in audit.remarks:
        yield sentence(Span("note  ", Tone.NOTE), remark, indent=6)


def parts(audit: "TrainingAuditRecord", view: View) -> Iterator[Part]:
    """One part for each quantity of which anything is said, then all of which nothing can be."""
    silent: list[StatementRecord] = []
    for statements in grouped(audit.statements, lambda each: each.quantity):
        if any(each.answer != CANNOT_BE_SAID or each.figures for each in statements):
            yield Part(_title(statements), tuple(_blocks(statements, view)))
        else:
            silent += statements
    if silent:
        yield Part("Cannot be said", tuple(_reasons(silent)))


def _title(statements: "Sequence[StatementRecord]") -> str:
    quantity = statements[0].quantity
    return quantity[0].upper() + quantity[1:]


def _blocks(statements: "Sequence[StatementRecord]", view: View) -> Iterator[Sentence | Grid]:
    for of_claim in grouped(statements, lambda each: each.claim):
        yield sentence(Span(f"claim: {of_claim[0].claim}", Tone.QUIET), indent=7)
        if len(of_claim) == 1:
            yield from _alone(of_claim[0])
        else:
            yield from _listed(of_claim, view)


def _alone(statement: "StatementRecord") -> Iterator[Sentence]:
    told = ", ".join(f"{figure.name} {_number(figure.value)}{_unit(figure)}" for figure in statement.figures)
    yield sentence(
        Span(statement.answer, TONES[statement.answer]),
        f"  {statement.subject}: {statement.because}{f' ({told})' if told else ''}",
        indent=2,
    )


def _listed(statements: "Sequence[StatementRecord]", view: View) -> Iterator[Sentence | Grid]:
    worst_first = sorted(statements, key=lambda each: WORST_FIRST.index(each.answer))
    shown = worst_first if view.every_layer else worst_first[:MOST_STATEMENTS]
    names = list(dict.fromkeys(figure.name for each in shown for figure in each.figures))
    yield grid(_cells(names), [(each, TONES[each.answer]) for each in shown])
    if len(shown) < len(statements):
        yield sentence(Span(f"{count(len(statements) - len(shown))} more: --all", Tone.QUIET))
    if view.detail is Detail.EVERYTHING:
        yield from map(_reason, shown)
        return
    # One of each kind tells enough: the figures stand above.
    for answer in (DOES_NOT_HOLD, CANNOT_BE_SAID):
        alike = [each for each in statements if each.answer == answer]
        if alike:
            others = f" (and {count(len(alike) - 1)} more: -v)" if len(alike) > 1 else ""
            yield sentence(Span(answer, TONES[answer]), f"  {alike[0].subject}: {alike[0].because}{others}", indent=2)


def _reason(statement: "StatementRecord") -> Sentence:
    told = f"  {statement.subject}: {statement.because}"
    return sentence(Span(statement.answer, TONES[statement.answer]), told, indent=2)


def _cells(names: "Sequence[str]") -> "list[Cell[StatementRecord]]":
    cells: list[Cell[StatementRecord]] = [
        Cell(Column(title="answer", right=False), lambda each: each.answer),
        Cell(Column(title="of", right=False, names=True), lambda each: each.subject),
    ]
    for rank, name in enumerate(names):
        cells.append(Cell(Column(title=name, rank=rank), lambda each, name=name: _figure(each, name)))  # type: ignore[misc]
    return cells


def _reasons(silent: "Sequence[StatementRecord]") -> Iterator[Sentence]:
    """Each reason for silence once, with all that is silent for it."""
    for statements in grouped(silent, lambda each: each.because):
        quantities = Counter(each.quantity for each in statements)
        told = [quantity + (f" ({count(times)} times)" if times > 1 else "") for quantity, times in quantities.items()]
        yield sentence(f"  {', '.join(told)}: {statements[0].because}", indent=4)


def _progress(known: "TrainingRecord") -> str:
    if known.steps is None:
        return "how many steps it was trained is not known"
    planned = f" of {count(known.planned_steps)}" if known.planned_steps else ""
    decay = "" if known.weight_decay is None else f", weight decay {_number(known.weight_decay)}"
    loss = "" if known.loss is None else f", loss {known.loss:.4g}"
    return f"trained for {count(known.steps)}{planned} steps{decay}{loss}"


def _optimizer(optimizer: "OptimizerRecord") -> Iterator[Sentence]:
    parameters = sum(group.parameters for group in optimizer.groups)
    doubt = "" if optimizer.pairing_is_certain else ", not confirmed"
    yield sentence(
        f"  optimizer {optimizer.method} ({optimizer.evidence}): "
        f"{count(optimizer.paired)} of {counted(parameters, 'parameter')} paired{doubt}: {optimizer.pairing}",
        indent=4,
    )


def _figure(statement: "StatementRecord", name: str) -> str:
    figure = next((each for each in statement.figures if each.name == name), None)
    return NONE if figure is None else f"{_number(figure.value)}{_unit(figure)}"


def _unit(figure: "FigureRecord") -> str:
    return f" {figure.unit}" if figure.unit else ""


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    if value.is_integer() and abs(value) < LARGEST_COUNT:
        return count(int(value))
    return magnitude(value) if value > 0 else f"-{magnitude(-value)}"
