"""Comparison's record -> the parts of what is said about it: the same for the terminal and for Markdown."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from statistics import median
from typing import TYPE_CHECKING

from jaynes_audit.cli.exit_codes import ExitCode, counted
from jaynes_audit.cli.reports import comparison_words as say
from jaynes_audit.cli.reports.cells import Cell, grid, grouped
from jaynes_audit.cli.reports.figures import NONE, count, fixed, stored
from jaynes_audit.cli.reports.page import Column, Grid, Row, Sentence, Span, Tone, sentence
from jaynes_audit.cli.reports.sections import AT_INITIAL_SCALE, finding, untrained_spread
from jaynes_audit.cli.reports.view import Detail, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.record import (
        ComparedLayerRecord,
        ComparedRecord,
        ComparisonRecord,
        ComparisonReportRecord,
        NullRecord,
        RankRecord,
        RoleSideBySideRecord,
        ScoreRecord,
        SharedLawRecord,
        ShiftRecord,
        TrendRecord,
        TrendsRecord,
    )

FEW_LAYERS = 20  # that differ, listed one by one; --all lists all
MORE_LAYERS = 60  # with -v
MOST_OF_A_RULE = 3
MOST_GROUPS = 10
MOST_NAMES = 3
MOST_REMARKS = 3
MOST_BUFFERS = 10
BY_NAME = "name"
IN_A_MATRIX = {"same weights": "same", "fine-tuned or merged": "fine-tuned", "cannot be said": "not known"}

LEGEND = (
    "A is taken as the good one, B as new, and a change is B less A. error: Frobenius norm of the change over that of "
    "A; changed: weights with another value; rank: how many directions hold how much of the change. mu, sigma and skew "
    "are mean, standard deviation and skewness of ln|w|; ± gives a 95 % interval for independent layers, too wide for "
    "two versions of one. KS, W1 and JS are distances between the distributions of ln|w|; noise: the KS that chance "
    "exceeds in one case of twenty."
)
BRACKETS = "In brackets behind a score: what one in twenty of unrelated networks exceeds. -v tells more of each pair."
LINEAGE = (
    "Evidence, not an accusation: models that were trained alike on alike data are alike without a common origin. "
    "unrelated and twins: the median, and what one in twenty exceeds, of networks of the same shapes that have nothing "
    "in common with A, and of ones that were initialised by themselves."
)


@dataclass(frozen=True, slots=True)
class Part:
    """What is said under one title."""

    title: str
    blocks: tuple[Sentence | Grid, ...]


def headline(comparison: "ComparisonRecord") -> Sentence:
    """The verdict in one sentence."""
    names = f"{comparison.a.target} and {comparison.b.target}"
    return sentence(Span(names, Tone.STRONG), f": {comparison.verdict.sentence}")


def figures(comparison: "ComparisonRecord") -> Iterator[Sentence]:
    """What the verdict rests on."""
    yield from (sentence(f"  {figure}", indent=4) for figure in comparison.verdict.figures)


def remarks(comparison: "ComparisonRecord", *, everything: bool) -> Iterator[Sentence]:
    """What was chosen when the models were opened and matched."""
    most = None if everything else MOST_REMARKS
    for remark in islice(comparison.remarks, most):
        yield sentence(Span("note  ", Tone.NOTE), remark, indent=6)
    if most is not None and len(comparison.remarks) > most:
        yield sentence(Span(f"      {counted(len(comparison.remarks) - most, 'more note')}: -v", Tone.QUIET))


def findings(comparison: "ComparisonRecord", *, every: bool) -> Iterator[Sentence]:
    """What the rules object to, the worst first, of each rule the first few."""
    for group in grouped(comparison.findings, lambda found: found.rule):
        shown = group if every else group[:MOST_OF_A_RULE]
        yield from map(finding, shown)
        if len(group) > len(shown):
            yield sentence(
                Span(f"         {count(len(group) - len(shown))} more of {group[0].rule}: --all", Tone.QUIET)
            )


def parts(comparison: "ComparisonRecord", view: View) -> Iterator[Part]:
    """All that is said of two models beside the verdict and the findings; empty parts are left out.

    What the layers have in common by role, and whether both follow one law, is news only where a layer differs.
    """
    everything = view.detail is Detail.EVERYTHING
    differ = everything or any(map(say.differs, comparison.layers))
    laws = universality(comparison.universality, everything=everything) if differ else None
    made = (
        Part("The two models", (sides(comparison), *_not_compared(comparison, everything=everything))),
        layers(comparison, view),
        Part("Without counterpart", tuple(_unmatched(comparison, everything=everything))),
        Part("Buffers that differ", tuple(_buffers(comparison, everything=everything))),
        Part("How alike they are, beside what is not related", tuple(lineage(comparison))),
        Part(
            "By role, means over the highly connected matrices",
            tuple(_if_any(roles(comparison.roles) if differ else None)),
        ),
        Part("One lognormal for both", tuple(_if_any(laws))),
        Part("Trends with depth", tuple(_if_any(trends(comparison.trends) if everything else None))),
    )
    yield from (part for part in made if part.blocks)


def _if_any(found: Grid | None) -> Iterator[Grid]:
    if found:
        yield found


# ---- each side


def sides(comparison: "ComparisonRecord") -> Grid:
    """What the two models are."""
    both = [("A", comparison.a), ("B", comparison.b)]
    cells: list[Cell[tuple[str, ComparedRecord]]] = [
        Cell(Column(title="", right=False), lambda pair: pair[0]),
        Cell(Column(title="model", right=False, names=True), lambda pair: pair[1].target),
        Cell(Column(title="is a", right=False, rank=3), lambda pair: pair[1].kind),
        Cell(Column(title="layers"), lambda pair: count(pair[1].layers)),
        Cell(Column(title="weights"), lambda pair: count(pair[1].weights)),
        Cell(Column(title="stored", rank=1), lambda pair: NONE if pair[1].bytes is None else stored(pair[1].bytes)),
        Cell(Column(title="as", right=False, rank=2), lambda pair: ", ".join(pair[1].dtypes)),
    ]
    if comparison.a.commit or comparison.b.commit:
        cells.append(Cell(Column(title="commit", right=False, rank=4), lambda pair: pair[1].commit or NONE))
    return grid(cells, [(pair, Tone.PLAIN) for pair in both])


def _not_compared(comparison: "ComparisonRecord", *, everything: bool) -> Iterator[Sentence]:
    for side, compared in (("A", comparison.a), ("B", comparison.b)):
        if not compared.complete:
            yield sentence(Span(f"{side} is incomplete.", Tone.WARNING))
        names = [(each.name, each.reason) for each in compared.not_compared]
        for told in _grouped(names, f"not compared in {side}", everything=everything):
            yield sentence(told, indent=5)


def _grouped(names: "Sequence[tuple[str, str]]", what: str, *, everything: bool) -> Iterator[str]:
    """Names by their reason: how many, the reason, the first of them."""
    most_groups, most_names = (None, None) if everything else (MOST_GROUPS, MOST_NAMES)
    groups = grouped(names, lambda pair: pair[1])
    for group in islice(groups, most_groups):
        shown = ", ".join(name for name, _ in islice(group, most_names))
        more = 0 if most_names is None else len(group) - most_names
        shown += f" and {count(more)} more" if more > 0 else ""
        yield f"{count(len(group)):>3}  {what}, {group[0][1]}: {shown}"
    if most_groups is not None and len(groups) > most_groups:
        yield f"{counted(len(groups) - most_groups, 'more reason')}: -v"


# ---- layers


def layers(comparison: "ComparisonRecord", view: View) -> Part:
    """How many layers are related in which way, and those that differ, the worst first."""
    found = sorted(comparison.layers, key=say.badness)
    shown = found if view.every_layer else [layer for layer in found if say.differs(layer)]
    most = None if view.every_layer else MORE_LAYERS if view.detail is Detail.EVERYTHING else FEW_LAYERS
    listed = shown[:most]
    blocks: list[Sentence | Grid] = [sentence(_kinds(comparison))] if found else []
    if comparison.not_exact:
        blocks.append(sentence(f"Weights were not compared one by one: {comparison.not_exact}."))
    blocks += [
        sentence(f"{layer.a.name}: {layer.not_exact}", indent=5) for layer in comparison.layers if layer.could_not_read
    ]
    if listed:
        objected = frozenset(found.subject for found in comparison.findings if found.level == "error")
        blocks.append(layer_grid(listed, objected, everything=view.detail is Detail.EVERYTHING))
    if len(shown) > len(listed):
        blocks.append(sentence(Span(f"{count(len(shown))} in all; --all lists every layer.", Tone.QUIET)))
    which = "Layers, the worst first" if view.every_layer else "Layers that differ, the worst first"
    return Part(which if listed else "Layers", tuple(blocks))


def _kinds(comparison: "ComparisonRecord") -> str:
    kinds = Counter(say.relation(layer) for layer in comparison.layers).most_common()
    matched = Counter(layer.matched_by for layer in comparison.layers)
    told = f"{counted(len(comparison.layers), 'layer')}: " + "; ".join(f"{count(n)} {kind}" for kind, n in kinds)
    if set(matched) - {BY_NAME}:
        told += ". Matched by " + ", ".join(f"{how} {count(n)}" for how, n in matched.most_common())
    return f"{told}."


def layer_grid(layers: "Sequence[ComparedLayerRecord]", objected: frozenset[str], *, everything: bool) -> Grid:
    """Layers of both models, a line each, with the columns that any of them has something to say in."""
    cells: list[tuple[int | bool, Cell[ComparedLayerRecord]]] = [
        (True, Cell(Column(title="layer", right=False, names=True), lambda layer: layer.a.name)),
        (
            any(layer.a.name != layer.b.name for layer in layers),
            Cell(
                Column(title="in B", right=False, rank=10, names=True),
                lambda layer: "" if layer.b.name == layer.a.name else layer.b.name,
            ),
        ),
        (
            any(layer.matched_by != BY_NAME for layer in layers),
            Cell(Column(title="matched by", right=False, rank=12), lambda layer: layer.matched_by),
        ),
        (everything, Cell(Column(title="weights", rank=11), lambda layer: count(layer.a.weights))),
        (len(set(map(say.relation, layers))) > 1, Cell(Column(title="relation", right=False), say.relation)),
        (
            any(map(say.lost, layers)),
            Cell(Column(title="lost", right=False, rank=1), lambda layer: say.lost(layer) or NONE),
        ),
        (
            _any(layers, say.relative_error),
            Cell(Column(title="error"), lambda layer: say.size(say.relative_error(layer))),
        ),
        (
            any(_ratio(layer) for layer in layers),
            Cell(Column(title="x least", rank=1), lambda layer: fixed(_ratio(layer), 2)),
        ),
        (any(map(say.difference, layers)), Cell(Column(title="changed", rank=1), say.changed)),
        (
            everything and _any(layers, _cosine),
            Cell(Column(title="cosine", rank=13), lambda layer: fixed(_cosine(layer), 4)),
        ),
        (everything and any(map(say.difference, layers)), Cell(Column(title="largest", rank=14), _largest)),
        (
            any(map(_rank, layers)),
            Cell(Column(title="rank", rank=6, right=False), lambda layer: say.rank(_rank(layer))),
        ),
        *((any(layer.parameters for layer in layers), cell) for cell in _parameter_cells()),
        *((any(layer.distances for layer in layers), cell) for cell in _distance_cells()),
    ]
    rows = [(layer, Tone.ERROR if layer.a.name in objected else Tone.PLAIN) for layer in layers]
    return grid([cell for wanted, cell in cells if wanted], rows)


def _any(layers: "Iterable[ComparedLayerRecord]", value: "Callable[[ComparedLayerRecord], float | None]") -> bool:
    return any(value(layer) is not None for layer in layers)


def _ratio(layer: "ComparedLayerRecord") -> float | None:
    return layer.exact.quantisation.ratio if layer.exact and layer.exact.quantisation else None


def _cosine(layer: "ComparedLayerRecord") -> float | None:
    found = say.difference(layer)
    return found.cosine if found else None


def _largest(layer: "ComparedLayerRecord") -> str:
    found = say.difference(layer)
    if found is None or not found.changed:
        return NONE
    return f"{say.size(found.largest)} at [{found.largest_row}, {found.largest_column}]"


def _rank(layer: "ComparedLayerRecord") -> "RankRecord | None":
    return layer.exact.rank if layer.exact else None


def _parameter_cells() -> "Iterator[Cell[ComparedLayerRecord]]":
    for title, shift, rank in (("d mu", _mu, 2), ("d sigma", _sigma, 3), ("d skew", _skewness, 5)):
        yield Cell(Column(title=title, rank=rank), _changes(shift))
        yield Cell(Column(title="±", rank=rank, gap=1, right=False), _reaches(shift))


def _mu(layer: "ComparedLayerRecord") -> "ShiftRecord | None":
    return layer.parameters.mu if layer.parameters else None


def _sigma(layer: "ComparedLayerRecord") -> "ShiftRecord | None":
    return layer.parameters.sigma if layer.parameters else None


def _skewness(layer: "ComparedLayerRecord") -> "ShiftRecord | None":
    return layer.parameters.skewness if layer.parameters else None


def _changes(shift: "Callable[[ComparedLayerRecord], ShiftRecord | None]") -> "Callable[[ComparedLayerRecord], str]":
    return lambda layer: say.change(shift(layer), 3)


def _reaches(shift: "Callable[[ComparedLayerRecord], ShiftRecord | None]") -> "Callable[[ComparedLayerRecord], str]":
    return lambda layer: say.reach(shift(layer), 3)


def _distance_cells() -> "Iterator[Cell[ComparedLayerRecord]]":
    yield Cell(Column(title="KS", rank=4), lambda layer: fixed(layer.distances.ks if layer.distances else None, 4))
    yield Cell(
        Column(title="noise", rank=4), lambda layer: fixed(layer.distances.ks_noise if layer.distances else None, 4)
    )
    yield Cell(
        Column(title="W1", rank=7), lambda layer: fixed(layer.distances.wasserstein if layer.distances else None, 4)
    )
    yield Cell(
        Column(title="JS", rank=8), lambda layer: fixed(layer.distances.jensen_shannon if layer.distances else None, 5)
    )


# ---- what stands alone


def _unmatched(comparison: "ComparisonRecord", *, everything: bool) -> Iterator[Sentence]:
    for side, only in (("A", comparison.only_a), ("B", comparison.only_b)):
        names = [(each.layer.name, each.reason) for each in only]
        for told in _grouped(names, f"only in {side}", everything=everything):
            yield sentence(told, indent=5)


def _buffers(comparison: "ComparisonRecord", *, everything: bool) -> Iterator[Sentence]:
    unlike = [buffer for buffer in comparison.buffers if not buffer.identical]
    most = None if everything else MOST_BUFFERS
    for buffer in islice(unlike, most):
        yield sentence(f"     {buffer.name}: {buffer.sentence}", indent=5)
    if most is not None and len(unlike) > most:
        yield sentence(Span(f"     {counted(len(unlike) - most, 'more buffer')}: -v", Tone.QUIET))


# ---- both networks as wholes


def lineage(comparison: "ComparisonRecord") -> Iterator[Sentence | Grid]:
    """The scores of likeness, each beside what unrelated networks and untrained twins get."""
    scores = comparison.lineage
    if scores:
        cells: list[Cell[ScoreRecord]] = [
            Cell(Column(title="score", right=False), lambda score: score.name),
            Cell(Column(title="value"), lambda score: fixed(score.value, 3)),
            Cell(Column(title="unrelated"), lambda score: fixed(score.unrelated.middle, 3)),
            Cell(Column(title="1 in 20", gap=1), lambda score: _high(score.unrelated)),
            Cell(Column(title="twins", rank=1), lambda score: fixed(score.twins.middle, 3)),
            Cell(Column(title="1 in 20", gap=1, rank=1), lambda score: _high(score.twins)),
            Cell(Column(title="over", right=False, rank=2), lambda score: score.compared),
            Cell(Column(title="unrelated are", right=False, rank=3), lambda score: score.unrelated.what),
            Cell(Column(title="twins are", right=False, rank=4), lambda score: score.twins.what),
        ]
        yield grid(cells, [(score, Tone.PLAIN) for score in scores])
        yield sentence(Span(LINEAGE, Tone.QUIET))
    yield from (sentence(f"  No further score: {reason}.", indent=4) for reason in comparison.no_lineage)


def _high(null: "NullRecord") -> str:
    return f"({fixed(null.high, 3)})"


def roles(found: "Sequence[RoleSideBySideRecord]") -> Grid | None:
    """What the layers of each role are like in both, as wholes."""
    if not found:
        return None
    cells: list[Cell[RoleSideBySideRecord]] = [
        Cell(Column(title="role", right=False), lambda each: each.role),
        Cell(Column(title="", right=False, gap=1), lambda each: each.quantity),
        Cell(Column(title="A"), lambda each: fixed(each.mean_a, 3)),
        Cell(Column(title="B"), lambda each: fixed(each.mean_b, 3)),
        Cell(Column(title="B - A"), lambda each: say.signed(each.change, 3)),
        Cell(Column(title="±", gap=1, right=False), lambda each: f"±{fixed(_interval(each.error), 3)}"),
        Cell(Column(title="between layers of A", rank=2), lambda each: fixed(each.tau_a, 3)),
        Cell(Column(title="of B", rank=2), lambda each: fixed(each.tau_b, 3)),
        Cell(Column(title="matrices", rank=1), lambda each: f"{count(each.layers_a)}, {count(each.layers_b)}"),
    ]
    return grid(cells, [(each, Tone.PLAIN) for each in found])


def _interval(error: float | None) -> float | None:
    return None if error is None else say.IN_95_PERCENT * error


def universality(found: "Sequence[SharedLawRecord]", *, everything: bool) -> Grid | None:
    """Whether the layers of both share one law: over all, and by role where anything can be said of it."""
    told = [each for each in found if everything or each.role is None or each.claim.trials[0].clauses]
    if not told:
        return None
    cells: list[Cell[SharedLawRecord]] = [
        Cell(Column(title="role", right=False), lambda each: each.role or "all"),
        Cell(Column(title="matrices"), lambda each: count(each.claim.trials[0].layers)),
        Cell(Column(title="verdict", right=False), lambda each: each.claim.verdict),
        *_spread_cells("mu", 1),
        *_spread_cells("sigma", 2),
    ]
    return grid(cells, [(each, Tone.PLAIN) for each in told])


def _spread_cells(letter: str, clause: int) -> "Iterator[Cell[SharedLawRecord]]":
    """How much a parameter differs between layers; what it does untrained; how much counts as universal."""

    def measured(each: "SharedLawRecord") -> str:
        clauses = each.claim.trials[0].clauses
        return fixed(clauses[clause].measured, 3) if clauses else NONE

    def bound(each: "SharedLawRecord") -> str:
        clauses = each.claim.trials[0].clauses
        return fixed(clauses[clause].bound, 3) if clauses else NONE

    def untrained(each: "SharedLawRecord") -> str:
        known = each.claim.trials[0].clauses
        return fixed(untrained_spread(each.claim, AT_INITIAL_SCALE, letter), 3) if known else NONE

    yield Cell(Column(title=f"{letter} differs by"), measured)
    yield Cell(Column(title="untrained", rank=1), untrained)
    yield Cell(Column(title="up to", rank=1), bound)


def trends(found: "Sequence[TrendsRecord]") -> Grid | None:
    """How parameters change with relative depth in each."""
    known = [each for each in found if each.a or each.b]
    if not known:
        return None
    cells: list[Cell[TrendsRecord]] = [
        Cell(Column(title="role", right=False), lambda each: each.role),
        Cell(Column(title="", right=False, gap=1), lambda each: each.quantity),
        *_trend_cells("A", lambda each: each.a),
        *_trend_cells("B", lambda each: each.b),
    ]
    return grid(cells, [(each, Tone.PLAIN) for each in known])


def _trend_cells(side: str, trend: "Callable[[TrendsRecord], TrendRecord | None]") -> "Iterator[Cell[TrendsRecord]]":
    yield Cell(Column(title=f"slope in {side}"), lambda each: _of_trend(trend(each), lambda found: found.slope))
    yield Cell(Column(title="rho", gap=1), lambda each: _of_trend(trend(each), lambda found: found.rank_correlation, 2))
    yield Cell(Column(title="matrices", rank=1), lambda each: count(found.layers) if (found := trend(each)) else NONE)


def _of_trend(trend: "TrendRecord | None", value: "Callable[[TrendRecord], float | None]", decimals: int = 3) -> str:
    return fixed(value(trend), decimals) if trend else NONE


# ---- several models


def is_summed_up(report: "ComparisonReportRecord", view: View) -> bool:
    """Whether there are so many pairs that each has but a line."""
    return len(report.comparisons) > 1 and view.detail is Detail.USUAL


def are_told(report: "ComparisonReportRecord") -> bool:
    """Whether findings are told of pairs that are only summed up: where they fail the run."""
    return report.exit_code == ExitCode.FOUND


_Pair = tuple[tuple[int, int], "ComparisonRecord"]


def matrix(report: "ComparisonReportRecord") -> Grid:
    """What every two models are to one another."""
    told = {pair: each.verdict.kinship for pair, each in _pairs(report)}
    numbers = range(len(report.operands))

    def cell(row: int, column: int) -> str:
        kinship = told.get((min(row, column), max(row, column)), NONE)
        return IN_A_MATRIX.get(kinship, kinship)

    columns = (
        Column(title="model", right=False, names=True),
        *(Column(title=str(number + 1), right=False) for number in numbers),
    )
    rows = (
        Row((f"{row + 1} {target}", *(cell(row, column) for column in numbers)))
        for row, target in enumerate(report.operands)
    )
    return Grid(columns=columns, rows=tuple(rows))


def summaries(report: "ComparisonReportRecord") -> Grid:
    """A line to each pair: what they are, and the figures that tell most about it."""
    cells: list[Cell[_Pair]] = [
        Cell(Column(title="pair", right=False), lambda pair: " and ".join(str(number + 1) for number in pair[0])),
        Cell(Column(title="verdict", right=False), lambda pair: pair[1].verdict.kinship),
        Cell(Column(title="layers", rank=2), lambda pair: count(len(pair[1].layers))),
        Cell(Column(title="differ", rank=1), lambda pair: count(sum(map(say.differs, pair[1].layers)))),
        Cell(Column(title="median error"), lambda pair: say.size(_median_error(pair[1]))),
        Cell(Column(title="errors", rank=3), lambda pair: count(_findings_at("error", pair[1]))),
        Cell(Column(title="warnings", rank=3), lambda pair: count(_findings_at("warning", pair[1]))),
        *(
            Cell(Column(title=name, rank=4 + place), _score_of(name))
            for place, name in enumerate(_score_names(report.comparisons))
        ),
    ]
    return grid(cells, [(pair, Tone.PLAIN) for pair in _pairs(report)])


def _pairs(report: "ComparisonReportRecord") -> "Iterator[_Pair]":
    """Each comparison with the places of its two models among the operands."""
    yield from zip(combinations(range(len(report.operands)), 2), report.comparisons, strict=True)


def _findings_at(level: str, comparison: "ComparisonRecord") -> int:
    return sum(found.level == level for found in comparison.findings)


def _median_error(comparison: "ComparisonRecord") -> float | None:
    errors = [
        error for layer in comparison.layers if layer.a.fan_in and (error := say.relative_error(layer)) is not None
    ]
    return median(errors) if errors else None


def _score_names(comparisons: "Sequence[ComparisonRecord]") -> list[str]:
    return list(dict.fromkeys(score.name for each in comparisons for score in each.lineage))


def _score_of(name: str) -> "Callable[[_Pair], str]":
    """The score, and in brackets what one in twenty of unrelated networks exceeds."""

    def told(pair: "_Pair") -> str:
        found = [score for score in pair[1].lineage if score.name == name]
        return f"{fixed(found[0].value, 2)} ({fixed(found[0].unrelated.high, 2)})" if found else NONE

    return told
