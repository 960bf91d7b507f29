"""Record -> what is said about it: sentences and grids, the same for the terminal and for Markdown."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from jaynes_audit.cli.exit_codes import counted
from jaynes_audit.cli.reports.figures import NONE, count, extent, fixed, magnitude, middle, share, stored
from jaynes_audit.cli.reports.page import Column, Grid, Row, Sentence, Span, Tone, sentence

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import (
        ConnectedRecord,
        FailureRecord,
        FindingRecord,
        FitRecord,
        LayerRecord,
        LeftOutRecord,
        ModelRecord,
        ReportRecord,
        RoleRecord,
        RulerRecord,
    )

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Cell(Generic[Item]):
    """A column, and what it shows of an item."""

    column: Column
    shows: Callable[[Item], str]


MOST_LAYERS = 60  # listed one by one; of more, the extremes tell more
MOST_OTHERS = 20
MOST_FINDINGS = 20
MOST_GROUPS = 10
MOST_NAMES = 3
TONES = {"error": Tone.ERROR, "warning": Tone.WARNING, "note": Tone.NOTE}

LEGEND = (
    "mu and sigma are mean and standard deviation of ln|w|, skew and kurt its skewness and excess kurtosis; psi is the "
    "distance from the fitted lognormal in nats per weight, KS the largest gap between the two distribution functions. "
    "A standard error follows its ±."
)
NAIVE = "* too few rows for a jackknife: errors as if weights were independent, and so too small."


def plural(number: int, one: str, many: str) -> str:
    """Say how many, of what has a plural of its own."""
    return f"{number:,} {one if number == 1 else many}"


# ---- the answer


AS_FAR_BEYOND = 2  # Gaussian values: as far beyond Gaussian noise as a lognormal, at 0, lies before it


def headline(model: "ModelRecord", ruler: "RulerRecord") -> Sentence:
    """The answer in one sentence: how many matrices, and what their strengths measure beside the ruler."""
    return sentence(Span(model.target, Tone.STRONG), f": {answer(model, ruler)}")


def answer(model: "ModelRecord", ruler: "RulerRecord") -> str:
    """Say how many matrices there are, and what their strengths measure beside the ruler."""
    connected = model.connected
    errors = sum(found.level == "error" for found in model.findings)
    start = f"{counted(errors, 'error')}; " if errors else ""
    if not model.layers:
        return f"{start}no weight was analysed."
    if not connected.layers:
        return f"{start}no highly connected matrix among {counted(len(model.layers), 'tensor')}; nothing to compare."
    matrices = plural(connected.layers, "highly connected matrix", "highly connected matrices")
    unfitted = connected.layers - connected.fitted
    start += f"{matrices}, {counted(connected.weights, 'weight')}"
    start += f" ({count(unfitted)} not fitted);" if unfitted else ";"
    if not (connected.skewness and connected.psi and connected.ks):
        return f"{start} none of them could be fitted."
    return (
        f"{start} {_nearer(connected, ruler)}: "
        f"median skewness of ln|w| {fixed(connected.skewness.median, 2)} "
        f"(lognormal 0, Gaussian noise {fixed(ruler.skewness, 2)}), "
        f"psi {fixed(connected.psi.median, 3)} (0, {fixed(ruler.psi, 3)}), "
        f"KS {fixed(connected.ks.median, 3)} (0, {fixed(ruler.ks, 3)})."
    )


def _nearer(connected: "ConnectedRecord", ruler: "RulerRecord") -> str:
    """Plain arithmetic: is each median nearer to the Gaussian's value or to 0, the lognormal's? No verdict.

    Uniform weights lie on the other side of the Gaussian's; where they are as far from it as a lognormal is, "nearer to
    the Gaussian" would mislead.
    """
    measures = (
        ("skewness", connected.skewness, ruler.skewness),
        ("psi", connected.psi, ruler.psi),
        ("KS", connected.ks, ruler.ks),
    )
    beyond = [name for name, spread, at in measures if spread and spread.median / at > AS_FAR_BEYOND]
    if beyond:
        names = " and ".join(beyond)
        return f"their strengths measure beyond Gaussian noise by {names}, on the side away from a lognormal"
    to_gaussian: list[str] = []
    to_lognormal: list[str] = []
    for name, spread, of_gaussian in measures:
        if spread is not None:
            nearer = abs(spread.median - of_gaussian) < abs(spread.median)
            (to_gaussian if nearer else to_lognormal).append(name)
    if not to_lognormal:
        return "their strengths measure nearer to Gaussian noise than to a lognormal"
    if not to_gaussian:
        return "their strengths measure nearer to a lognormal than to Gaussian noise"
    return (
        f"their strengths measure nearer to a lognormal by {' and '.join(to_lognormal)}, "
        f"nearer to Gaussian noise by {' and '.join(to_gaussian)}"
    )


def coverage(model: "ModelRecord") -> Iterator[Sentence]:
    """How much was analysed, what was left out, and what counts as highly connected."""
    covered, criterion = model.coverage, model.criterion
    analysed = f"Analysed {count(covered.tensors)} of {counted(covered.tensors_total, 'tensor')}, "
    analysed += f"{stored(covered.bytes)} of {stored(covered.bytes_total)}"
    reasons = [
        f"{count(len(group))} {group[0].reason.replace('-', ' ')}"
        for group in _by(model.left_out, lambda each: each.reason)
    ]
    analysed += f"; left out {count(len(model.left_out))}: {', '.join(reasons)}." if reasons else "; nothing left out."
    yield sentence(analysed) if covered.complete else sentence(Span("Incomplete. ", Tone.WARNING), analysed)
    yield sentence(
        Span(
            f"Highly connected: hidden matrices with fan-in >= {count(criterion.min_fan_in)} "
            f"and >= {count(criterion.min_weights)} weights.",
            Tone.QUIET,
        )
    )


def remarks(model: "ModelRecord", most: int | None) -> Iterator[Sentence]:
    """What was chosen and passed over when the files were opened."""
    for remark in islice(model.remarks, most):
        yield sentence(Span("note  ", Tone.NOTE), remark, indent=6)
    if most is not None and len(model.remarks) > most:
        yield sentence(Span(f"      {counted(len(model.remarks) - most, 'more note')}: -v", Tone.QUIET))


def failure(failed: "FailureRecord") -> Sentence:
    """A target that gave no audit."""
    return sentence(Span("error  ", Tone.ERROR), failed.sentence, indent=7)


def finding(found: "FindingRecord") -> Sentence:
    """A finding, its level first."""
    told = found.subject in found.sentence
    return sentence(
        Span(f"{found.level:<7}  ", TONES[found.level]),
        f"{found.rule} {found.name}  ",
        *(() if told else (Span(found.subject, Tone.STRONG), ": ")),
        found.sentence,
        indent=9,
    )


def findings(model: "ModelRecord", *, most: int | None) -> Iterator[Sentence]:
    """What the rules object to, the worst first."""
    for found in islice(model.findings, most):
        yield finding(found)
    if most is not None and len(model.findings) > most:
        yield sentence(Span(f"         {counted(len(model.findings) - most, 'more finding')}: --all", Tone.QUIET))


def last_line(report: "ReportRecord") -> Sentence:
    """Why the exit status is what it is."""
    tone = Tone.STRONG if report.exit_code == 0 else Tone.ERROR
    return sentence(Span(f"Exit status {report.exit_code}", tone), f": {report.exit_reason}.")


# ---- roles


def roles(model: "ModelRecord", ruler: "RulerRecord") -> Grid | None:
    """The matrices by role, the highly connected first, with the ruler under them."""
    of_matrices = {(layer.role, layer.dtype) for layer in model.layers if layer.fan_in}
    shown = [role for role in model.roles if (role.role, role.dtype) in of_matrices]
    if not shown:
        return None
    shown.sort(key=lambda role: not role.connected)
    cells = [
        _Cell(Column(title="role", right=False), lambda role: role.role),
        _Cell(Column(title="dtype", right=False, rank=5), lambda role: role.dtype),
        _Cell(Column(title="matrices", rank=3), lambda role: count(role.layers)),
        _Cell(Column(title="connected", rank=4), lambda role: count(role.connected)),
        _Cell(Column(title="weights", rank=1), lambda role: count(role.weights)),
        _Cell(Column(title="zeros", rank=6), lambda role: share(role.zero, role.weights)),
        *_not_finite(shown, lambda role: role.not_finite),
        _Cell(Column(title="mu"), lambda role: middle(role.mu, 3)),
        _Cell(Column(title="least to greatest", rank=2), lambda role: extent(role.mu, 3)),
        _Cell(Column(title="sigma"), lambda role: middle(role.sigma, 3)),
        _Cell(Column(title="least to greatest", rank=7), lambda role: extent(role.sigma, 3)),
        _Cell(Column(title="skew"), lambda role: middle(role.skewness, 2)),
        _Cell(Column(title="kurt", rank=6), lambda role: middle(role.excess_kurtosis, 2)),
        _Cell(Column(title="psi"), lambda role: middle(role.psi, 3)),
        _Cell(Column(title="KS"), lambda role: middle(role.ks, 3)),
        *_remark(shown, _why_no_spread),
    ]
    return _grid(cells, [(role, Tone.PLAIN) for role in shown], _rulers(ruler, "role"))


def _why_no_spread(role: "RoleRecord") -> str:
    return f"not fitted: {role.not_fitted}" if role.not_fitted else ""


def kept_apart(model: "ModelRecord") -> Grid | None:
    """Gains, biases and buffers, a line a role: no matrices, so no strengths of connections."""
    apart = [layer for layer in model.layers if not layer.fan_in and not layer.tied_to]
    by_role = _by(apart, lambda layer: (layer.role, layer.dtype))
    if not by_role:
        return None
    cells: list[_Cell[list[LayerRecord]]] = [
        _Cell(Column(title="role", right=False), lambda layers: layers[0].role),
        _Cell(Column(title="dtype", right=False, rank=1), lambda layers: layers[0].dtype),
        _Cell(Column(title="tensors"), lambda layers: count(len(layers))),
        _Cell(Column(title="values"), lambda layers: count(sum(layer.weights for layer in layers))),
        _Cell(Column(title="zeros"), _zeros_together),
        *_not_finite(by_role, lambda layers: sum(layer.nan + layer.infinite for layer in layers)),
        _Cell(Column(title="largest |w|"), lambda layers: magnitude(max(layer.largest for layer in layers))),
    ]
    return _grid(cells, [(layers, Tone.PLAIN) for layers in by_role])


def _zeros_together(layers: "Sequence[LayerRecord]") -> str:
    return share(sum(layer.zero for layer in layers), sum(layer.weights for layer in layers))


# ---- layers


@dataclass(frozen=True, slots=True)
class Listing:
    """Layers under one title: all of them, or the extremes, and how many the grid leaves unsaid."""

    title: str
    shown: "tuple[tuple[str, LayerRecord], ...]"
    unsaid: int = 0


def listings(model: "ModelRecord", *, every_layer: bool) -> Iterator[Listing]:
    """Which layers are shown, and under which titles."""
    connected = [layer for layer in model.layers if layer.connected]
    others = [layer for layer in model.layers if layer.fan_in and not layer.connected]
    if every_layer or len(connected) <= MOST_LAYERS:
        yield Listing("Highly connected matrices", _plain(connected))
    else:
        yield Listing("Extremes among the highly connected matrices", tuple(_extremes(connected)), len(connected))
    if every_layer or len(others) <= MOST_OTHERS:
        yield Listing("Other matrices", _plain(others))
    else:
        yield Listing("Other matrices", (), len(others))
    if every_layer:
        yield Listing("Gains, biases and buffers", _plain([layer for layer in model.layers if not layer.fan_in]))


def _plain(layers: "Iterable[LayerRecord]") -> "tuple[tuple[str, LayerRecord], ...]":
    return tuple(("", layer) for layer in layers)


def _extremes(layers: "Sequence[LayerRecord]") -> "Iterator[tuple[str, LayerRecord]]":
    quantities: tuple[tuple[str, Callable[[FitRecord], float]], ...] = (
        ("mu", lambda fit: fit.mu),
        ("sigma", lambda fit: fit.sigma),
        ("skew", lambda fit: fit.skewness),
        ("psi", lambda fit: fit.psi),
    )
    fitted = [(layer, layer.fit) for layer in layers if layer.fit]
    for name, quantity in quantities if fitted else ():
        yield f"greatest {name}", max(fitted, key=lambda pair: quantity(pair[1]))[0]
        yield f"least {name}", min(fitted, key=lambda pair: quantity(pair[1]))[0]
    emptiest = max(layers, key=lambda layer: layer.zero / layer.weights)
    if emptiest.zero:
        yield "most zeros", emptiest
    yield "largest |w|", max(layers, key=lambda layer: layer.largest)


def layer_grid(listing: Listing, ruler: "RulerRecord", objected: frozenset[str]) -> Grid:
    """The measured numbers of each layer, with the ruler under them."""
    layers = [layer for _, layer in listing.shown]
    cells = [
        *_why_shown(listing),
        _Cell(Column(title="name", right=False, names=True), lambda pair: pair[1].name),
        _Cell(Column(title="role", right=False, rank=7), lambda pair: pair[1].role),
        *_stack(listing),
        _Cell(Column(title="depth", rank=11), lambda pair: NONE if pair[1].depth is None else count(pair[1].depth)),
        _Cell(Column(title="weights", rank=6), lambda pair: count(pair[1].weights)),
        _Cell(Column(title="zeros", rank=5), lambda pair: share(pair[1].zero, pair[1].weights)),
        *_not_finite(listing.shown, lambda pair: pair[1].nan + pair[1].infinite),
        _Cell(Column(title="largest |w|", rank=12), lambda pair: magnitude(pair[1].largest)),
        *_with_error("mu", 3, lambda fit: (fit.mu, fit.se_mu)),
        *_with_error("sigma", 3, lambda fit: (fit.sigma, fit.se_sigma)),
        *_with_error("skew", 2, lambda fit: (fit.skewness, fit.se_skewness)),
        _Cell(Column(title="kurt", rank=4), _of_fit(2, lambda fit: fit.excess_kurtosis)),
        _Cell(Column(title="psi"), _of_fit(3, lambda fit: fit.psi)),
        _Cell(Column(title="KS"), _of_fit(3, lambda fit: fit.ks)),
        *_remark(listing.shown, lambda pair: _layer_remark(pair[1])),
    ]
    rows = [(pair, Tone.ERROR if pair[1].name in objected else Tone.PLAIN) for pair in listing.shown]
    rulers = _rulers(ruler, "name") if any(layer.fit and layer.fan_in for layer in layers) else ()
    return _grid(cells, rows, rulers)


_Shown = tuple[str, "LayerRecord"]


def _why_shown(listing: Listing) -> "Iterator[_Cell[_Shown]]":
    if any(why for why, _ in listing.shown):
        yield _Cell(Column(title="shown for", right=False), lambda pair: pair[0])


def _stack(listing: Listing) -> "Iterator[_Cell[_Shown]]":
    if any(layer.stack for _, layer in listing.shown):
        yield _Cell(Column(title="stack", right=False, rank=9), lambda pair: pair[1].stack)


def _of_fit(decimals: int, quantity: "Callable[[FitRecord], float]") -> "Callable[[_Shown], str]":
    def value(pair: "_Shown") -> str:
        fit = pair[1].fit
        return fixed(quantity(fit), decimals) if fit else NONE

    return value


def _with_error(
    title: str, decimals: int, quantity: "Callable[[FitRecord], tuple[float, float | None]]"
) -> "Iterator[_Cell[_Shown]]":
    def error(pair: "_Shown") -> str:
        fit = pair[1].fit
        standard_error = quantity(fit)[1] if fit else None
        if fit is None or standard_error is None:
            return ""
        return f"±{fixed(standard_error, decimals)}" + ("" if fit.jackknife_blocks else "*")

    yield _Cell(Column(title=title), _of_fit(decimals, lambda fit: quantity(fit)[0]))
    yield _Cell(Column(title="±", rank=10, gap=1, right=False), error)


def _layer_remark(layer: "LayerRecord") -> str:
    if layer.tied_to:
        return f"the same weights as {layer.tied_to}"
    return f"not fitted: {layer.not_fitted}" if layer.not_fitted else ""


def has_naive_errors(layers: "Iterable[LayerRecord]") -> bool:
    """Whether some standard errors are those of independent weights, and marked by a star."""
    return any(layer.fit and layer.fit.se_mu is not None and not layer.fit.jackknife_blocks for layer in layers)


def detail_grid(listing: Listing) -> Grid:
    """What -v adds to the layers: shapes, errors, scales, special values and content."""
    cells: list[_Cell[LayerRecord]] = [
        _Cell(Column(title="name", right=False, names=True), lambda layer: layer.name),
        _Cell(Column(title="dtype", right=False, rank=9), lambda layer: layer.dtype),
        _Cell(Column(title="rows", rank=8), lambda layer: count(layer.rows)),
        _Cell(Column(title="columns", rank=8), lambda layer: count(layer.columns)),
        _Cell(Column(title="fan-in", rank=7), lambda layer: count(layer.fan_in)),
        _Cell(Column(title="fan-out", rank=7), lambda layer: count(layer.fan_out)),
        _Cell(
            Column(title="se kurt", rank=6), lambda layer: fixed(layer.fit.se_excess_kurtosis if layer.fit else None, 3)
        ),
        _Cell(Column(title="blocks", rank=6), lambda layer: count(layer.fit.jackknife_blocks) if layer.fit else NONE),
        _Cell(Column(title="row sd"), lambda layer: fixed(layer.row_log_sd, 3)),
        _Cell(Column(title="column sd"), lambda layer: fixed(layer.column_log_sd, 3)),
        _Cell(Column(title="zero rows", rank=5), lambda layer: _known(layer.zero_rows)),
        _Cell(Column(title="zero columns", rank=5), lambda layer: _known(layer.zero_columns)),
        _Cell(Column(title="rms"), lambda layer: magnitude(layer.rms)),
        _Cell(Column(title="largest |w|", rank=1), lambda layer: magnitude(layer.largest)),
        _Cell(Column(title="negative", rank=4), lambda layer: share(layer.negative, layer.weights)),
        _Cell(Column(title="subnormal", rank=3), lambda layer: share(layer.subnormal, layer.weights)),
        _Cell(Column(title="at max", rank=3), lambda layer: share(layer.max_finite, layer.weights)),
        _Cell(Column(title="distinct", rank=2), lambda layer: count(layer.distinct)),
        _Cell(Column(title="content", right=False, rank=10), lambda layer: layer.content),
    ]
    return _grid(cells, [(layer, Tone.PLAIN) for _, layer in listing.shown])


def _known(number: int | None) -> str:
    return NONE if number is None else count(number)


# ---- what was left out


def left_out(model: "ModelRecord", *, everything: bool) -> Iterator[Sentence]:
    """What was not analysed, by reason, with examples or with everything."""
    most_groups, most_names = (None, None) if everything else (MOST_GROUPS, MOST_NAMES)
    groups = _by(model.left_out, lambda each: (each.reason, each.explanation))
    for group in islice(groups, most_groups):
        names = ", ".join(_shape_of(each) for each in islice(group, most_names))
        more = 0 if most_names is None else len(group) - most_names
        names += f" and {count(more)} more" if more > 0 else ""
        yield sentence(f"{count(len(group)):>3}  {group[0].explanation}: {names}", indent=5)
    if most_groups is not None and len(groups) > most_groups:
        yield sentence(Span(f"{counted(len(groups) - most_groups, 'more reason')}: -v", Tone.QUIET))


def _shape_of(each: "LeftOutRecord") -> str:
    return f"{each.name} ({each.dtype} {each.shape})" if each.dtype else each.name


# ---- grids


def _grid(
    cells: "Sequence[_Cell[Item]]", items: "Sequence[tuple[Item, Tone]]", rulers: "Sequence[dict[str, str]]" = ()
) -> Grid:
    rows = [Row(tuple(cell.shows(item) for cell in cells), tone) for item, tone in items]
    rows += [Row(tuple(marks.get(cell.column.title, "") for cell in cells), Tone.QUIET) for marks in rulers]
    return Grid(columns=tuple(cell.column for cell in cells), rows=tuple(rows))


def _rulers(ruler: "RulerRecord", label: str) -> tuple[dict[str, str], ...]:
    """What a lognormal and what the ruler's law would show, by column."""
    lognormal = {label: "(lognormal)", "skew": "0", "kurt": "0", "psi": "0", "KS": "0"}
    null = {
        label: f"({ruler.family} noise)",
        "sigma": fixed(ruler.sigma, 3),
        "skew": fixed(ruler.skewness, 2),
        "kurt": fixed(ruler.excess_kurtosis, 2),
        "psi": fixed(ruler.psi, 3),
        "KS": fixed(ruler.ks, 3),
    }
    return lognormal, null


def _not_finite(items: "Iterable[Item]", number: "Callable[[Item], int]") -> "Iterator[_Cell[Item]]":
    """A column for NaN and infinity, where there are any."""
    if any(map(number, items)):
        yield _Cell(Column(title="NaN, inf"), lambda item: count(number(item)))


def _remark(items: "Iterable[Item]", words: "Callable[[Item], str]") -> "Iterator[_Cell[Item]]":
    """A column of words, where there are any."""
    if any(map(words, items)):
        yield _Cell(Column(title="remark", right=False, rank=3), words)


def _by(items: "Iterable[Item]", key: "Callable[[Item], object]") -> "list[list[Item]]":
    """Items in groups of equal keys, in the order in which the keys first appear."""
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
