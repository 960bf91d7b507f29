"""Record -> what is said about it: sentences and grids, the same for the terminal and for Markdown."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Protocol

from jaynes_audit.cli.exit_codes import counted, is_partial
from jaynes_audit.cli.reports.cells import Cell, grid, grouped, not_finite, remark, ruler_rows
from jaynes_audit.cli.reports.figures import NONE, count, extent, fixed, magnitude, middle, share, stored
from jaynes_audit.cli.reports.page import Column, Grid, Sentence, Span, Tone, sentence
from jaynes_audit.cli.reports.view import Show, View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import (
        ClaimRecord,
        FailureRecord,
        FindingRecord,
        FitRecord,
        HoldingRecord,
        LayerRecord,
        LeftOutRecord,
        ModelRecord,
        ReportRecord,
        RoleRecord,
        RulerRecord,
    )
    from jaynes_audit.analyzers.record.claims import ClauseRecord
    from jaynes_audit.analyzers.record.layers import CodesRecord, FamilyCount


FEW_LAYERS = 8  # listed one by one; of more, those that differ most tell more
MOST_LAYERS = 60  # so many with -v, which lists other matrices too
MOST_OTHERS = 20
MOST_FINDINGS = 20
MOST_GROUPS = 10
MOST_NAMES = 3
MOST_VERDICTS = 3
NEW = "new"
TONES = {"error": Tone.ERROR, "warning": Tone.WARNING, "note": Tone.NOTE}

LOGNORMAL = "lognormal"
IN_WORDS = {"lognormal by mixing": "only by mixing scales"}  # after "is lognormal"
AT_INITIAL_SCALE = "Gaussian at the initial scale"  # the untrained twin that the verdict is about

LEGEND = (
    "law: the simplest of nine families within 0.005 nats per weight of the best; nats: what it gains over the "
    "lognormal. mu and sigma are mean and standard deviation of ln|w|, and skew its skewness; psi is the distance from "
    "the fitted lognormal in nats per weight. The lines in brackets say what a lognormal and what Gaussian weights "
    "would show. ± gives a 95 % interval."
)
CODE_USE = "Use of the quantiser's codes, medians over matrices; all else is said of the dequantised weights"
NAIVE = "* fewer than 16 usable blocks of rows: the interval is that of independent weights, and so too narrow."


def plural(number: int, one: str, many: str) -> str:
    """Say how many, of what has a plural of its own."""
    return f"{number:,} {one if number == 1 else many}"


# ---- the answer


def headline(model: "ModelRecord") -> Sentence:
    """The answer in one sentence: which laws the matrices follow, and whether they share one."""
    return sentence(Span(model.target, Tone.STRONG), f": {answer(model)}")


def answer(model: "ModelRecord") -> str:
    """Say which laws the highly connected matrices follow, and whether they share one."""
    connected = model.connected
    errors = sum(found.level == "error" for found in news(model.findings))
    start = f"{counted(errors, 'error')}; " if errors else ""
    if headers_only(model):
        return f"{start}{_held(model)}. No weight was read, so nothing is known of any."
    if not model.layers:
        return f"{start}no weight was analysed."
    if not connected.layers:
        return f"{start}no highly connected matrix among {counted(len(model.layers), 'tensor')}; nothing to compare."
    found = Counter({each.name: each.layers for each in connected.verdicts})
    start += "in what was read, " if is_partial(model) else ""
    return f"{start}{_laws(found, connected.weights)}; {_shared(model.claim)}."


def headers_only(model: "ModelRecord") -> bool:
    """Whether nothing but headers was asked for."""
    return any(each.reason == "headers-only" for each in model.left_out)


def _held(model: "ModelRecord") -> str:
    """What a checkpoint holds, in numbers."""
    weights = sum(held.weights for held in model.holdings if held.role != "buffer")
    return (
        f"{counted(weights, 'weight')} in {counted(model.coverage.tensors_total, 'tensor')} "
        f"and {counted(len(model.files), 'file')}, {stored(model.coverage.bytes_total)}"
    )


def together(report: "ReportRecord", claim: "ClaimRecord") -> Sentence:
    """The answer for all models together."""
    read = ", in what was read" if any(map(is_partial, report.models)) else ""
    start = Span(f"All {len(report.models)} models together{read}", Tone.STRONG)
    weights = sum(model.connected.weights for model in report.models)
    found = Counter[str]()
    for model in report.models:
        found.update({each.name: each.layers for each in model.connected.verdicts})
    return sentence(start, f": {_laws(found, weights)}; {_shared(claim)}.")


def _laws(found: Counter[str], weights: int) -> str:
    """Which laws the highly connected matrices follow, by the number of matrices of each."""
    layers, lognormal = found.total(), found[LOGNORMAL]
    matrices = plural(layers, "highly connected matrix", "highly connected matrices")
    matrices += f" ({counted(weights, 'weight')})"
    if layers == 0:
        return "no highly connected matrix"
    if layers == 1:
        return f"{matrices}, {next(iter(found))}"
    if lognormal == layers:
        return f"{matrices}, lognormal throughout"
    number = "none" if lognormal == 0 else count(lognormal)
    others = [(IN_WORDS.get(name, name), layers) for name, layers in found.most_common() if name != LOGNORMAL]
    return f"{number} of {matrices} {'are' if lognormal > 1 else 'is'} lognormal ({_counts(others)})"


def _counts(found: "Sequence[tuple[str, int]]") -> str:
    shown = [f"{count(layers)} {name}" for name, layers in found[:MOST_VERDICTS]]
    more = sum(layers for _, layers in found[MOST_VERDICTS:])
    return ", ".join([*shown, f"{count(more)} of other kinds"] if more else shown)


def verdicts(counts: "Sequence[FamilyCount]") -> str:
    """Verdicts and how many layers got each, the most common first."""
    return _counts([(each.name, each.layers) for each in counts])


def _shared(claim: "ClaimRecord") -> str:
    """Whether one law serves all, with the numbers of the clauses that decide."""
    judged = claim.trials[0]
    if not judged.clauses:
        return f"whether they share one law cannot be said ({judged.sentence})"
    start = {
        "supports the claim": "and they share one law",
        "lognormal, not universal": "but they do not share one law",
        "universal but not lognormal": "their mu and sigma are as constant as in an untrained network",
        "neither": f"{'and they do not' if judged.clauses[0].measured else 'nor do they'} share one law",
    }[judged.verdict]
    told = f"{start}: {_spreads(claim)}"
    if claim.verdict != judged.verdict:
        told += f". But not so {claim.clauses[-1].sentence}"
    return f"{told}. Verdict on one lognormal for all: {claim.verdict}"


def _spreads(claim: "ClaimRecord") -> str:
    """The numbers that decide: those that fail, or mu and sigma where nothing does."""
    judged = claim.trials[0]
    _, mu, sigma, one_law = judged.clauses
    if judged.verdict == "lognormal, not universal" and mu.holds and sigma.holds:
        return f"one for all costs {one_law.measured:.2g} nats per weight (up to {one_law.bound:.2g} counts as one law)"
    told = [pair for pair in (("mu", mu), ("sigma", sigma)) if not pair[1].holds]
    return " and ".join(_spread(claim, letter, clause) for letter, clause in told or (("mu", mu), ("sigma", sigma)))


def _spread(claim: "ClaimRecord", letter: str, clause: "ClauseRecord") -> str:
    null = untrained_spread(claim, AT_INITIAL_SCALE, letter)
    untrained = NONE if null is None else f"{null:.2g}"
    return (
        f"{letter} differs by {clause.measured:.2g} from layer to layer (untrained {untrained}; "
        f"up to {clause.bound:.2g} counts as universal)"
    )


def untrained_spread(claim: "ClaimRecord", twin: str, quantity: str) -> float | None:
    """How much a quantity differs between the layers of an untrained twin; None where that is not known."""
    spreads = {(of.twin, each.quantity): each.untrained_tau for of in claim.untrained for each in of.excess}
    return spreads.get((twin, quantity))


def coverage(model: "ModelRecord") -> Iterator[Sentence]:
    """How much was analysed, what was left out, and what counts as highly connected."""
    covered, criterion = model.coverage, model.criterion
    analysed = f"Analysed {count(covered.tensors)} of {counted(covered.tensors_total, 'tensor')}, "
    analysed += f"{stored(covered.bytes)} of {stored(covered.bytes_total)}"
    reasons = [
        f"{count(len(group))} {group[0].reason.replace('-', ' ')}"
        for group in grouped(model.left_out, lambda each: each.reason)
    ]
    analysed += f"; left out {count(len(model.left_out))}: {', '.join(reasons)}." if reasons else "; nothing left out."
    if model.commit:
        analysed += f" Commit {model.commit}."
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
    for noted in islice(model.remarks, most):
        yield sentence(Span("note  ", Tone.NOTE), noted, indent=6)
    if most is not None and len(model.remarks) > most:
        yield sentence(Span(f"      {counted(len(model.remarks) - most, 'more note')}: -v", Tone.QUIET))


def failure(failed: "FailureRecord") -> Sentence:
    """A target that gave no audit."""
    return sentence(Span("error  ", Tone.ERROR), failed.sentence, indent=7)


def finding(found: "FindingRecord") -> Sentence:
    """A finding, its level first."""
    told = f"'{found.subject}'" in found.sentence
    return sentence(  # each space begins a span, for there a line may end
        Span(f"{found.level:<7}  ", TONES[found.level]),
        f"{rule_of(found)} ",
        *(() if told else (Span(f" {found.subject}:", Tone.STRONG),)),
        f" {found.sentence}",
        indent=9,
    )


def rule_of(found: "FindingRecord") -> str:
    """The code and the name of the rule, and in brackets why the finding is no news."""
    why = standing(found)
    return f"{found.rule} {found.name} ({why})" if why else f"{found.rule} {found.name}"


def standing(found: "FindingRecord") -> str:
    """Why a finding is no news: baselined, or ignored for a reason; empty where it is."""
    if found.status == NEW:
        return ""
    return f"{found.status}: {found.why}" if found.why else found.status


def findings(found: "Sequence[FindingRecord]", view: View) -> Iterator[Sentence]:
    """What the rules object to: the news, the worst first, then what else is to be shown."""
    most = None if view.every_layer else MOST_FINDINGS
    listed = shown(found, view)
    yield from map(finding, listed[:most])
    if most is not None and len(listed) > most:
        yield sentence(Span(f"         {counted(len(listed) - most, 'more finding')}: --all", Tone.QUIET))
    hidden = not_shown(found, view)
    if hidden:
        yield sentence(Span(f"         {hidden}", Tone.QUIET))


def news(found: "Iterable[FindingRecord]") -> "list[FindingRecord]":
    """The findings that decide the exit status."""
    return [each for each in found if each.status == NEW]


def shown(found: "Iterable[FindingRecord]", view: View) -> "list[FindingRecord]":
    """The findings to list, the news first."""
    wanted = {NEW, view.show.value}
    listed = [each for each in found if view.show is Show.ALL or each.status in wanted]
    return sorted(listed, key=lambda each: each.status != NEW)


def not_shown(found: "Sequence[FindingRecord]", view: View) -> str:
    """How many findings there are beside those that are listed, and how to see them; empty where there are none."""
    hidden = Counter(each.status for each in found) - Counter(each.status for each in shown(found, view))
    told = " and ".join(f"{count(number)} {status}" for status, number in sorted(hidden.items()))
    return f"{told}: --show all" if told else ""


def by_subject(model: "ModelRecord") -> "Mapping[str, list[FindingRecord]]":
    """The findings about each layer, tensor or file; none about any other."""
    found: defaultdict[str, list[FindingRecord]] = defaultdict(list)
    for each in model.findings:
        found[each.subject].append(each)
    return found


def objected(model: "ModelRecord") -> frozenset[str]:
    """The layers with a new error."""
    return frozenset(found.subject for found in news(model.findings) if found.level == "error")


class Ended(Protocol):
    """A report that tells the exit status of its run."""

    @property
    def exit_code(self) -> int:
        """The status."""

    @property
    def exit_reason(self) -> str:
        """Why it is that."""


def last_line(report: Ended) -> Sentence:
    """Why the exit status is what it is."""
    tone = Tone.STRONG if report.exit_code == 0 else Tone.ERROR
    return sentence(Span(f"Exit status {report.exit_code}", tone), f": {report.exit_reason}.")


# ---- beside the optimizer


def optimizer_null(model: "ModelRecord") -> Iterator[Sentence]:
    """What the optimizer alone would make of mu, where its history is known."""
    null = model.optimizer
    if null is not None:
        yield sentence(
            f"By its learning rates and weight decay alone (age {null.age:.2g}) mu would be {null.predicted_mu:.2f} in "
            f"all of these {count(null.matrices)} matrices; it is {null.mu:.2f} in the mean, with a standard deviation "
            f"of {null.spread:.2g} (`jaynes equilibrium`)."
        )


# ---- by role


def overviews(
    model: "ModelRecord", rulers: "Sequence[RulerRecord]", *, everything: bool
) -> "Iterator[tuple[str, Grid]]":
    """The grids that give a line to each role, with their titles."""
    if headers_only(model):
        yield "What it holds, by role and number format", holdings(model)
    of_roles = roles(model, rulers, everything=everything)
    if of_roles:
        yield "By role, medians over its matrices", of_roles
    codes = code_use(model)
    if codes:
        yield CODE_USE, codes


# ---- what the headers tell


def holdings(model: "ModelRecord") -> Grid:
    """What a checkpoint holds, by role and number format."""
    cells: list[Cell[HoldingRecord]] = [
        Cell(Column(title="role", right=False), lambda held: held.role),
        Cell(Column(title="dtype", right=False), lambda held: held.dtype),
        Cell(Column(title="matrices"), lambda held: count(held.matrices)),
        Cell(Column(title="weights"), lambda held: count(held.weights)),
        Cell(Column(title="stored"), lambda held: stored(held.bytes)),
        Cell(Column(title="share"), lambda held: share(held.bytes, model.coverage.bytes_total)),
    ]
    return grid(cells, [(held, Tone.PLAIN) for held in model.holdings])


def code_use(model: "ModelRecord") -> Grid | None:
    """How quantised matrices use their quantiser's codes, by role."""
    quantised = [(layer, layer.codes) for layer in model.layers if layer.codes and layer.codes.available]
    if not quantised:
        return None
    cells: list[Cell[list[tuple[LayerRecord, CodesRecord]]]] = [
        Cell(Column(title="role", right=False), lambda group: group[0][0].role),
        Cell(Column(title="quantised", right=False), lambda group: group[0][1].description),
        Cell(Column(title="matrices"), lambda group: count(len(group))),
        Cell(Column(title="codes used"), lambda group: _codes_used([codes for _, codes in group])),
        Cell(Column(title="bits of entropy"), lambda group: fixed(median(codes.entropy for _, codes in group), 2)),
        Cell(
            Column(title="commonest code"),
            lambda group: f"{median(codes.commonest_share for _, codes in group):.1%}",
        ),
    ]
    groups = grouped(quantised, lambda pair: (pair[0].role, pair[1].description))
    return grid(cells, [(group, Tone.PLAIN) for group in groups])


def _codes_used(codes: "Sequence[CodesRecord]") -> str:
    least, greatest = min(each.used for each in codes), max(each.used for each in codes)
    used = count(least) if least == greatest else f"{count(least)} to {count(greatest)}"
    return f"{used} of {count(codes[0].available)}"


# ---- roles


def roles(model: "ModelRecord", rulers: "Sequence[RulerRecord]", *, everything: bool) -> Grid | None:
    """The matrices by role, the highly connected first, with the ruler under them."""
    shown = _roles_of_matrices(model)
    if not shown:
        return None
    under = ruler_rows(rulers, "role", everything=everything)
    return grid(_role_cells(shown, everything=everything), [(role, Tone.PLAIN) for role in shown], under)


def roles_of_models(models: "Sequence[ModelRecord]", rulers: "Sequence[RulerRecord]") -> Grid | None:
    """The highly connected matrices by role and model, so that equal roles stand one under the other."""
    shown = [(role, model.target) for model in models for role in _roles_of_matrices(model) if role.connected]
    if not shown:
        return None
    shown.sort(key=lambda pair: pair[0].role)

    def of_role(cell: "Cell[RoleRecord]") -> "Cell[tuple[RoleRecord, str]]":
        return Cell(cell.column, lambda pair: cell.shows(pair[0]))

    first, *others = map(of_role, _role_cells([role for role, _ in shown], everything=False))
    model: Cell[tuple[RoleRecord, str]] = Cell(Column(title="model", right=False, names=True), lambda pair: pair[1])
    rows = [(pair, Tone.PLAIN) for pair in shown]
    return grid([first, model, *others], rows, ruler_rows(rulers, "role", everything=False))


def _roles_of_matrices(model: "ModelRecord") -> "list[RoleRecord]":
    of_matrices = {(layer.role, layer.dtype) for layer in model.layers if layer.fan_in}
    shown = [role for role in model.roles if (role.role, role.dtype) in of_matrices]
    return sorted(shown, key=lambda role: not role.connected)


def _role_cells(shown: "Sequence[RoleRecord]", *, everything: bool) -> "list[Cell[RoleRecord]]":
    mixed = len({role.dtype for role in shown}) > 1
    cells: list[tuple[bool, Cell[RoleRecord]]] = [
        (True, Cell(Column(title="role", right=False), lambda role: role.role)),
        (everything or mixed, Cell(Column(title="dtype", right=False, rank=5), lambda role: role.dtype)),
        (True, Cell(Column(title="matrices", rank=3), lambda role: count(role.layers))),
        (everything, Cell(Column(title="connected", rank=4), lambda role: count(role.connected))),
        (True, Cell(Column(title="weights", rank=4), lambda role: count(role.weights))),
        (everything, Cell(Column(title="zeros", rank=6), lambda role: share(role.zero, role.weights))),
        *((True, cell) for cell in not_finite(shown, lambda role: role.not_finite)),
        (True, Cell(Column(title="law", right=False), lambda role: verdicts(role.verdicts))),
        (True, Cell(Column(title="mu"), lambda role: middle(role.mu, 2))),
        (True, Cell(Column(title="least to greatest", rank=2), lambda role: extent(role.mu, 2))),
        (True, Cell(Column(title="sigma"), lambda role: middle(role.sigma, 2))),
        (everything, Cell(Column(title="least to greatest", rank=5), lambda role: extent(role.sigma, 2))),
        (True, Cell(Column(title="skew"), lambda role: middle(role.skewness, 2))),
        (everything, Cell(Column(title="kurt", rank=6), lambda role: middle(role.excess_kurtosis, 2))),
        (True, Cell(Column(title="psi"), lambda role: middle(role.psi, 3))),
        (everything, Cell(Column(title="KS", rank=1), lambda role: middle(role.ks, 3))),
        *((True, cell) for cell in remark(shown, _why_no_spread)),
    ]
    return [cell for wanted, cell in cells if wanted]


def _why_no_spread(role: "RoleRecord") -> str:
    return f"not fitted: {role.not_fitted}" if role.not_fitted else ""


def kept_apart(model: "ModelRecord") -> Grid | None:
    """Gains, biases and buffers, a line a role: no matrices, so no strengths of connections."""
    apart = [layer for layer in model.layers if not layer.fan_in and not layer.tied_to]
    by_role = grouped(apart, lambda layer: (layer.role, layer.dtype))
    if not by_role:
        return None
    cells: list[Cell[list[LayerRecord]]] = [
        Cell(Column(title="role", right=False), lambda layers: layers[0].role),
        Cell(Column(title="dtype", right=False, rank=1), lambda layers: layers[0].dtype),
        Cell(Column(title="tensors"), lambda layers: count(len(layers))),
        Cell(Column(title="values"), lambda layers: count(sum(layer.weights for layer in layers))),
        Cell(Column(title="zeros"), _zeros_together),
        *not_finite(by_role, lambda layers: sum(layer.nan + layer.infinite for layer in layers)),
        Cell(Column(title="largest |w|"), lambda layers: magnitude(max(layer.largest for layer in layers))),
    ]
    return grid(cells, [(layers, Tone.PLAIN) for layers in by_role])


def _zeros_together(layers: "Sequence[LayerRecord]") -> str:
    return share(sum(layer.zero for layer in layers), sum(layer.weights for layer in layers))


# ---- layers


@dataclass(frozen=True, slots=True)
class Listing:
    """Layers under one title: all of them, or the extremes, and how many the grid leaves unsaid."""

    title: str
    shown: "tuple[tuple[str, LayerRecord], ...]"
    unsaid: int = 0


def listings(model: "ModelRecord", *, everything: bool, every_layer: bool) -> Iterator[Listing]:
    """Which layers are shown, and under which titles."""
    connected = [layer for layer in model.layers if layer.connected]
    others = [layer for layer in model.layers if layer.fan_in and not layer.connected]
    if every_layer or len(connected) <= (MOST_LAYERS if everything else FEW_LAYERS):
        yield Listing("Highly connected matrices", _plain(connected))
    else:
        yield Listing("Highly connected matrices that differ most", tuple(_extremes(connected)), len(connected))
    if every_layer or (everything and len(others) <= MOST_OTHERS):
        yield Listing("Other matrices", _plain(others))
    elif everything:
        yield Listing("Other matrices", (), len(others))
    if every_layer:
        yield Listing("Gains, biases and buffers", _plain([layer for layer in model.layers if not layer.fan_in]))


def _plain(layers: "Iterable[LayerRecord]") -> "tuple[tuple[str, LayerRecord], ...]":
    return tuple(("", layer) for layer in layers)


def _extremes(layers: "Sequence[LayerRecord]") -> "Iterator[tuple[str, LayerRecord]]":
    """Each layer that is at an end of something, once, and of what."""
    found: dict[str, tuple[list[str], LayerRecord]] = {}
    for why, layer in _ends(layers):
        found.setdefault(layer.name, ([], layer))[0].append(why)
    yield from ((", ".join(reasons), layer) for reasons, layer in found.values())


def _ends(layers: "Sequence[LayerRecord]") -> "Iterator[tuple[str, LayerRecord]]":
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


def layer_grid(
    listing: Listing, rulers: "Sequence[RulerRecord]", objected: frozenset[str], *, everything: bool
) -> Grid:
    """The law and the measured numbers of each layer, with the ruler under them."""
    layers = [layer for _, layer in listing.shown]
    more: list[Cell[_Shown]] = [
        Cell(Column(title="kurt", rank=4), _of_fit(2, lambda fit: fit.excess_kurtosis)),
        Cell(Column(title="KS", rank=3), _of_fit(3, lambda fit: fit.ks)),
    ]
    cells = [
        *_why_shown(listing),
        Cell(Column(title="name", right=False, names=True), lambda pair: pair[1].name),
        Cell(Column(title="role", right=False, rank=8), lambda pair: pair[1].role),
        *_stack(listing),
        Cell(Column(title="depth", rank=11), lambda pair: NONE if pair[1].depth is None else count(pair[1].depth)),
        Cell(Column(title="weights", rank=6), lambda pair: count(pair[1].weights)),
        *_zeros(listing.shown),
        *not_finite(listing.shown, lambda pair: pair[1].nan + pair[1].infinite),
        Cell(Column(title="largest |w|", rank=12), lambda pair: magnitude(pair[1].largest)),
        Cell(Column(title="law", right=False), lambda pair: pair[1].verdict.name),
        Cell(Column(title="nats", rank=7), lambda pair: _nats(pair[1])),
        *_with_interval("mu", 2, lambda fit: (fit.mu, fit.se_mu)),
        *_with_interval("sigma", 2, lambda fit: (fit.sigma, fit.se_sigma)),
        *_with_interval("skew", 2, lambda fit: (fit.skewness, fit.se_skewness)),
        Cell(Column(title="psi"), _of_fit(3, lambda fit: fit.psi)),
        *(more if everything else ()),
        *remark(listing.shown, lambda pair: _layer_remark(pair[1])),
    ]
    rows = [(pair, Tone.ERROR if pair[1].name in objected else Tone.PLAIN) for pair in listing.shown]
    fitted = any(layer.fit and layer.fan_in for layer in layers)
    return grid(cells, rows, ruler_rows(rulers, "name", everything=False) if fitted else ())


_Shown = tuple[str, "LayerRecord"]


def _why_shown(listing: Listing) -> "Iterator[Cell[_Shown]]":
    if any(why for why, _ in listing.shown):
        yield Cell(Column(title="shown for", right=False, rank=1), lambda pair: pair[0])


def _stack(listing: Listing) -> "Iterator[Cell[_Shown]]":
    if any(layer.stack for _, layer in listing.shown):
        yield Cell(Column(title="stack", right=False, rank=9), lambda pair: pair[1].stack)


def _of_fit(decimals: int, quantity: "Callable[[FitRecord], float]") -> "Callable[[_Shown], str]":
    def value(pair: "_Shown") -> str:
        fit = pair[1].fit
        return fixed(quantity(fit), decimals) if fit else NONE

    return value


def _zeros(shown: "Sequence[_Shown]") -> "Iterator[Cell[_Shown]]":
    if any(layer.zero for _, layer in shown):
        yield Cell(Column(title="zeros", rank=5), lambda pair: share(pair[1].zero, pair[1].weights))


def _nats(layer: "LayerRecord") -> str:
    """What the law gains over the lognormal, per weight."""
    named = [each for each in layer.candidates if each.family == layer.verdict.name]
    return fixed(named[0].nats, 3) if named else NONE


def _with_interval(
    title: str, decimals: int, quantity: "Callable[[FitRecord], tuple[float, float | None]]"
) -> "Iterator[Cell[_Shown]]":
    def reach(pair: "_Shown") -> str:
        fit = pair[1].fit
        standard_error = quantity(fit)[1] if fit else None
        if fit is None or standard_error is None or fit.interval_factor is None:
            return ""
        return f"±{fixed(fit.interval_factor * standard_error, decimals)}" + ("" if fit.jackknife_blocks else "*")

    yield Cell(Column(title=title), _of_fit(decimals, lambda fit: quantity(fit)[0]))
    yield Cell(Column(title="±", rank=10, gap=1, right=False), reach)


def _layer_remark(layer: "LayerRecord") -> str:
    if layer.tied_to:
        return f"the same weights as {layer.tied_to}"
    if layer.not_fitted:
        return f"not fitted: {layer.not_fitted}"
    return "" if layer.verdict.kind in {"rival", "lognormal"} else layer.verdict.reason


def has_naive_errors(layers: "Iterable[LayerRecord]") -> bool:
    """Whether some standard errors are those of independent weights, and marked by a star."""
    return any(layer.fit and layer.fit.se_mu is not None and not layer.fit.jackknife_blocks for layer in layers)


# ---- what was left out


def left_out(model: "ModelRecord", *, everything: bool) -> Iterator[Sentence]:
    """What was not analysed, by reason, with examples or with everything."""
    most_groups, most_names = (None, None) if everything else (MOST_GROUPS, MOST_NAMES)
    groups = grouped(model.left_out, lambda each: (each.reason, each.explanation))
    for group in islice(groups, most_groups):
        names = ", ".join(_shape_of(each) for each in islice(group, most_names))
        more = 0 if most_names is None else len(group) - most_names
        names += f" and {count(more)} more" if more > 0 else ""
        yield sentence(f"{count(len(group)):>3}  {group[0].explanation}: {names}", indent=5)
    if most_groups is not None and len(groups) > most_groups:
        yield sentence(Span(f"{counted(len(groups) - most_groups, 'more reason')}: -v", Tone.QUIET))


def _shape_of(each: "LeftOutRecord") -> str:
    return f"{each.name} ({each.dtype} {each.shape})" if each.dtype else each.name
