"""Record -> what -v adds: the grids behind the verdicts, for whoever wants to check them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.audit import NO_HISTOGRAM
from jaynes_audit.cli.reports.cells import Cell, grid, remark
from jaynes_audit.cli.reports.figures import NONE, count, fixed, magnitude, share
from jaynes_audit.cli.reports.page import Column, Grid, Sentence, Tone, sentence
from jaynes_audit.cli.reports.sections import AT_INITIAL_SCALE, Listing, untrained_spread

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import (
        AnatomyRecord,
        CandidateRecord,
        ClaimRecord,
        FitRecord,
        LayerRecord,
        ModelRecord,
    )
    from jaynes_audit.analyzers.record.claims import ConstancyRecord, RandomEffectsRecord
    from jaynes_audit.analyzers.record.fits import HistogramFitRecord

# The places in the ranking that are shown, how they are called, and which go where there is no room.
SHOWN_CANDIDATES = ((0, "nearest family: nats, left and parameters", 0), (1, "second", 2), (2, "third", 3))

UNDECIDED = "undecided"
GAUSSIAN = "Gaussian"
LEAST_HIERARCHY = 0.02  # part of the log-variance that scales account for, where there are any to speak of


def matrix_grid(listing: Listing) -> Grid:
    """Shapes, scales, special values and content of the layers."""
    cells: list[Cell[LayerRecord]] = [
        Cell(Column(title="name", right=False, names=True), lambda layer: layer.name),
        Cell(Column(title="dtype", right=False, rank=9), lambda layer: layer.dtype),
        Cell(Column(title="rows", rank=8), lambda layer: count(layer.rows)),
        Cell(Column(title="columns", rank=8), lambda layer: count(layer.columns)),
        Cell(Column(title="fan-in", rank=7), lambda layer: count(layer.fan_in)),
        Cell(Column(title="fan-out", rank=7), lambda layer: count(layer.fan_out)),
        Cell(
            Column(title="se kurt", rank=6), lambda layer: fixed(layer.fit.se_excess_kurtosis if layer.fit else None, 3)
        ),
        Cell(Column(title="blocks", rank=6), lambda layer: count(layer.fit.jackknife_blocks) if layer.fit else NONE),
        Cell(Column(title="row sd"), lambda layer: fixed(layer.row_log_sd, 3)),
        Cell(Column(title="column sd"), lambda layer: fixed(layer.column_log_sd, 3)),
        Cell(Column(title="zero rows", rank=5), lambda layer: _known(layer.zero_rows)),
        Cell(Column(title="zero columns", rank=5), lambda layer: _known(layer.zero_columns)),
        Cell(Column(title="rms"), lambda layer: magnitude(layer.rms)),
        Cell(Column(title="largest |w|", rank=1), lambda layer: magnitude(layer.largest)),
        Cell(Column(title="negative", rank=4), lambda layer: share(layer.negative, layer.weights)),
        Cell(Column(title="subnormal", rank=3), lambda layer: share(layer.subnormal, layer.weights)),
        Cell(Column(title="at max", rank=3), lambda layer: share(layer.max_finite, layer.weights)),
        Cell(Column(title="distinct", rank=2), lambda layer: count(layer.distinct)),
        Cell(Column(title="content", right=False, rank=10), lambda layer: layer.content),
    ]
    return grid(cells, [(layer, Tone.PLAIN) for _, layer in listing.shown])


def _known(number: int | None) -> str:
    return NONE if number is None else count(number)


def law_grid(layers: "Sequence[LayerRecord]") -> Grid | None:
    """The families nearest to each layer: what they gain over the lognormal and leave unexplained, per weight."""
    compared = [layer for layer in layers if layer.candidates]
    if not compared:
        return None
    cells: list[Cell[LayerRecord]] = [
        Cell(Column(title="name", right=False, names=True), lambda layer: layer.name),
        Cell(Column(title="law", right=False, rank=1), lambda layer: layer.verdict.name),
        *(
            Cell(Column(title=title, right=False, rank=rank), _at_place(place))
            for place, title, rank in SHOWN_CANDIDATES
        ),
        Cell(Column(title="z", rank=4), lambda layer: fixed(layer.candidates[0].vuong_z, 0)),
    ]
    return grid(cells, [(layer, Tone.PLAIN) for layer in compared])


def _at_place(place: int) -> "Callable[[LayerRecord], str]":
    return lambda layer: _told(layer.candidates[place])


def _told(candidate: "CandidateRecord") -> str:
    parameters = ", ".join(f"{name} {magnitude(value)}" for name, value in candidate.fitted.items())
    return f"{candidate.family} {fixed(candidate.nats, 3)}, {fixed(candidate.left, 3)} ({parameters})"


def equilibrium_grid(layers: "Sequence[LayerRecord]") -> Grid | None:
    """The distances from the fitted lognormal, and its reading as an arbitrage equilibrium."""
    fitted = [(layer.name, layer.fit) for layer in layers if layer.fit and layer.fan_in]
    if not fitted:
        return None
    cells: list[Cell[tuple[str, FitRecord]]] = [
        Cell(Column(title="name", right=False, names=True), lambda pair: pair[0]),
        Cell(Column(title="KS"), lambda pair: fixed(pair[1].ks, 3)),
        Cell(Column(title="W1/sigma"), lambda pair: fixed(pair[1].wasserstein, 3)),
        Cell(Column(title="JS", rank=1), lambda pair: fixed(pair[1].jensen_shannon, 4)),
        Cell(Column(title="Hellinger", rank=1), lambda pair: fixed(pair[1].hellinger, 3)),
        Cell(Column(title="alpha/gamma"), _alpha),
        Cell(Column(title="beta/gamma"), lambda pair: fixed(pair[1].equilibrium.beta_over_gamma, 3)),
        Cell(Column(title="utility spread"), lambda pair: fixed(pair[1].equilibrium.utility_spread, 3)),
        Cell(Column(title="entropy", rank=2), lambda pair: fixed(pair[1].equilibrium.entropy, 3)),
        Cell(Column(title="ideal entropy", rank=2), lambda pair: fixed(pair[1].equilibrium.ideal_entropy, 3)),
    ]
    return grid(cells, [(pair, Tone.PLAIN) for pair in fitted])


def _alpha(pair: "tuple[str, FitRecord]") -> str:
    equilibrium = pair[1].equilibrium
    return fixed(equilibrium.alpha_over_gamma, 2) + ("!" if equilibrium.alpha_negative else "")


ALPHA = "! alpha is negative: in the units of these weights strength itself would be a loss."


def anatomy_grid(layers: "Sequence[LayerRecord]") -> Grid | None:
    """Where the log-variance of each layer lies, and what is left when rows and columns are divided out."""
    dissected = [(layer.name, layer.anatomy) for layer in layers if layer.anatomy]
    if not dissected:
        return None
    cells: list[Cell[tuple[str, AnatomyRecord]]] = [
        Cell(Column(title="name", right=False, names=True), lambda pair: pair[0]),
        Cell(Column(title="rows"), lambda pair: _percent(pair[1].row_share)),
        Cell(Column(title="columns"), lambda pair: _percent(pair[1].column_share)),
        Cell(Column(title="residual"), lambda pair: _percent(pair[1].residual_share)),
        Cell(Column(title="skew without rows", rank=2), lambda pair: fixed(pair[1].row_residual_skewness, 2)),
        Cell(Column(title="without both"), lambda pair: fixed(pair[1].residual_skewness, 2)),
        Cell(Column(title="kurt", rank=1), lambda pair: fixed(pair[1].residual_excess_kurtosis, 2)),
        Cell(Column(title="its law", right=False), lambda pair: pair[1].residual_family or UNDECIDED),
    ]
    return grid(cells, [(pair, Tone.PLAIN) for pair in dissected])


def anatomy_sentences(model: "ModelRecord") -> Iterator[Sentence]:
    """Where the log-variance of all highly connected weights comes from, and which law is left without the scales."""
    variance = model.connected.variance
    if not variance:
        if model.connected.no_variance and any(layer.anatomy for layer in model.layers if layer.connected):
            yield sentence(
                f"Which part of the variance lies between layers is not known: {model.connected.no_variance}."
            )
        return
    yield sentence(
        f"Of the variance of ln|w|, over all highly connected weights, {_percent(variance.between_layers)} lies "
        f"between layers, {_percent(variance.between_rows)} between rows, {_percent(variance.between_columns)} "
        f"between columns, and {_percent(variance.residual)} in none of these."
    )
    left = Counter(
        layer.anatomy.residual_family or UNDECIDED for layer in model.layers if layer.connected and layer.anatomy
    )
    for family, layers in left.most_common(1):
        told = f"Divided by the scales of rows and columns, {count(layers)} of {count(left.total())} are {family}"
        hierarchy = family == GAUSSIAN and 2 * layers > left.total() and variance.residual < 1 - LEAST_HIERARCHY
        yield sentence(f"{told}: Gaussian weights on a hierarchy of scales." if hierarchy else f"{told}.")


def _percent(part: float) -> str:
    return f"{100 * part:.1f}%"


CURVES = "curves through their histograms, which decide nothing"


def histogram_grid(layers: "Sequence[LayerRecord]") -> Grid | None:
    """The curves of --method histogram, where they were asked for, beside what Gaussian noise gets."""
    asked_for = [layer for layer in layers if layer.candidates and layer.no_histogram != NO_HISTOGRAM.reason]
    if not asked_for:
        return None
    quantities: tuple[tuple[Column, Callable[[HistogramFitRecord], str]], ...] = (
        (Column(title="bins", rank=1), lambda curve: count(curve.bins)),
        (Column(title="up to |w|", rank=2), lambda curve: magnitude(curve.range_end)),
        (Column(title="mu"), lambda curve: fixed(curve.mu, 2)),
        (Column(title="sigma"), lambda curve: fixed(curve.sigma, 2)),
        (Column(title="A"), lambda curve: fixed(curve.amplitude, 2)),
        (Column(title="R2"), lambda curve: fixed(curve.r_squared, 3)),
        (Column(title="R2 of noise"), lambda curve: fixed(curve.gaussian_r_squared, 3)),
    )
    cells: list[Cell[LayerRecord]] = [
        Cell(Column(title="name", right=False, names=True), lambda layer: layer.name),
        *(Cell(column, _of_curve(shows)) for column, shows in quantities),
        *remark(asked_for, lambda layer: layer.no_histogram or ""),
    ]
    return grid(cells, [(layer, Tone.PLAIN) for layer in asked_for])


def _of_curve(shows: "Callable[[HistogramFitRecord], str]") -> "Callable[[LayerRecord], str]":
    return lambda layer: shows(layer.histogram) if layer.histogram else NONE


def constancy_grid(claim: "ClaimRecord") -> Grid | None:
    """How constant mu, sigma and skewness are over the layers, beside what the same layers would show untrained."""
    known = [each for each in claim.constancy if each.overall]
    if not known:
        return None
    cells: list[Cell[ConstancyRecord]] = [
        Cell(Column(title="quantity", right=False), lambda each: each.quantity),
        Cell(Column(title="mean"), _overall(lambda overall: fixed(overall.mean, 3))),
        Cell(Column(title="sd between layers"), _overall(lambda overall: fixed(overall.unweighted_tau, 3))),
        Cell(Column(title="by chance"), _overall(lambda overall: fixed(overall.unweighted_tau_noise, 3))),
        *(Cell(Column(title=title, rank=rank), _twin(claim, twin)) for twin, title, rank in TWINS),
        Cell(
            Column(title="a further layer, 95 %", rank=2),
            _overall(lambda overall: f"{fixed(overall.prediction_low, 2)} to {fixed(overall.prediction_high, 2)}"),
        ),
        Cell(Column(title="ICC model", rank=5), lambda each: fixed(each.icc_by_model, 2)),
        Cell(Column(title="ICC role", rank=4), lambda each: fixed(each.icc_by_role, 2)),
        Cell(Column(title="ICC depth", rank=4), lambda each: fixed(each.icc_by_depth, 2)),
        Cell(Column(title="slope with depth", rank=3), lambda each: fixed(each.depth_slope, 3)),
        Cell(Column(title="rho", rank=3), lambda each: fixed(each.depth_rank_correlation, 2)),
    ]
    return grid(cells, [(each, Tone.PLAIN) for each in known])


TWINS = ((AT_INITIAL_SCALE, "untrained", 1), ("Gaussian at each layer's own rms", "Gaussian of its own rms", 6))


def _overall(shows: "Callable[[RandomEffectsRecord], str]") -> "Callable[[ConstancyRecord], str]":
    return lambda each: shows(each.overall) if each.overall else NONE


def _twin(claim: "ClaimRecord", twin: str) -> "Callable[[ConstancyRecord], str]":
    return lambda each: fixed(untrained_spread(claim, twin, each.quantity), 3)


def claim_sentences(claim: "ClaimRecord") -> Iterator[Sentence]:
    """The clauses of the claim, the other thresholds, the cost of one law and the collapse onto one curve."""
    if not claim.trials[0].clauses:
        yield sentence(claim.sentence)
        return
    for clause in claim.clauses:
        yield sentence(f"{'holds' if clause.holds else 'fails'}  {clause.name}: {clause.sentence}", indent=7)
    if claim.collapse:
        yield sentence(
            f"Standardised, their quantile curves differ by {claim.collapse.residual**0.5:.3f} (root mean square) from "
            f"their mean, which lies {claim.collapse.distance_to_normal:.3f} from a lognormal's and "
            f"{claim.collapse.distance_to_log_half_normal:.3f} from Gaussian noise's. Those of any family agree."
        )
