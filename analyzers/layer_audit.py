"""Layer and its sketch -> MeasuredLayer -> LayerAudit: all that is kept of one weight matrix."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.anatomy import Anatomy
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramFit
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_with_errors
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.distributions.ranking import Ranking
from jaynes_audit.analyzers.dtypes import SMALL_FLOATS, Dtype
from jaynes_audit.analyzers.layer_verdict import LayerVerdict, Residual, judge, not_judged
from jaynes_audit.analyzers.misreading import misread
from jaynes_audit.analyzers.rescaling import rescaled_by
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS, Role
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.grid import LOW_BITS
from jaynes_audit.analyzers.sketch.histogram import Histogram, Magnitudes, count_special_together
from jaynes_audit.analyzers.sketch.probe import Probe, projected
from jaynes_audit.analyzers.sketch.sketch import Sketch

# The rms of so few weights is decided by the largest of them, and to divide by it makes a skewness of its own: -0.07 to
# -0.14 of independent lognormal weights with 64 to a column, -0.2 to -0.3 with 16.
LEAST_SIDE = 64
# Divided by its scale, a weight no longer shows where its format would have rounded it to zero. Where so many are
# missing, what is left is not to be trusted against a family that fits the weights better than a lognormal.
ROUNDING_TO_ZERO = frozenset({Dtype.F16, *SMALL_FLOATS})
MOST_FLUSHED = 0.02
# Of the codes that weights of a smooth law would have by chance. Integers times scales have fewer: 0.4 to 0.85 of them.
LEAST_OCCUPIED = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """What counts as a highly connected layer: so many connections into each output, and so many weights in all."""

    min_fan_in: int = 64
    min_weights: int = 10_000

    def reached_by(self, fan_in: int, weights: int) -> bool:
        """Whether a matrix of so many connections into an output and so many weights is as large as that."""
        return fan_in >= self.min_fan_in and weights >= self.min_weights

    def scaled(self, factor: float) -> "Criterion":
        """Ask for so many times as many connections and weights."""
        return Criterion(
            min_fan_in=math.ceil(self.min_fan_in * factor), min_weights=math.ceil(self.min_weights * factor)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightCounts:
    """How many weights there are, and how many of them are special. All exact, whatever the size.

    `subnormal` is meant in the grid's format (float32 and bf16 share it; float64 is counted as float32), `max_finite`
    in the stored one. `distinct` counts unequal non-zero magnitudes on the 16-bit grid.
    """

    weights: int
    zero: int
    subnormal: int
    max_finite: int
    infinite: int
    nan: int
    negative: int
    distinct: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """How unlike the rows and the columns of a stored matrix are in size.

    `row_log_sd` is the standard deviation of ln(row rms) over the rows that are not all zero, 0 when all are alike;
    the rows that are all zero are counted apart. The same for columns.
    """

    row_log_sd: float
    column_log_sd: float
    zero_rows: int
    zero_columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeOccupancy:
    """How a layer uses the codes of its quantiser.

    `description` names the quantiser, `available` is how many codes it has and `used` how many occur; both are 0 where
    codes are not counted. `keeps_law` is that of `Scheme`. `entropy` (bits per weight) is at most log2(available),
    `commonest_share` the share of the weights that have the most frequent code. Of a part of a fused tensor all codes
    of the rows that hold it count.
    """

    description: str
    keeps_law: bool
    available: int
    used: int
    entropy: float
    commonest_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLayer:
    """One weight matrix, or vector of weights, and what was measured of it in one pass.

    `name` is the tensor's, with the part in brackets where several matrices are fused. `rows` x `columns` is the stored
    matrix (a vector has one row). `connected` tells whether it is a highly connected hidden layer. `tied_to` names
    the layer that holds the very same weights, where they are one matrix used twice. `largest` is the greatest finite
    magnitude, `rms` the root of the mean square of the finite weights. `content` is a hash of the stored weights.
    `declared_sd` is the standard deviation of the initial weights that config.json declares, if it does. `dtype` is
    what the weights are stored in; the label of the quantiser where there is one, and `codes` then tells of its codes.
    `start` is where in the file the tensor's first byte is, and `stored_bytes` how many it takes; `unused_bits` counts
    the low mantissa bits that are zero in every weight. `probe` tells where in a matrix its large weights stand.
    `prominence` is `largest` over the root of the mean square of all other finite weights, 0 where these are all zero.
    `misread` says what the bits look like where they do not look like weights of their format; else it is empty.
    `rescaled_by` is the factor that they were multiplied by after they had been rounded to 16 bits, 1 if by none.
    `beside_zero` counts the weights between the smallest magnitude that is not zero and twice it, in four equal parts;
    it is empty where no weight is zero, or where they have few values, as dequantised integers do.
    """

    name: str
    tensor: str
    file: str
    start: int
    stored_bytes: int
    dtype: str
    role: Role
    stack: str
    depth: int | None
    rows: int
    columns: int
    fan_in: int
    fan_out: int
    connected: bool
    tied_to: str = ""
    counts: WeightCounts
    largest: float
    rms: float
    prominence: float
    content: str
    unused_bits: int
    misread: str
    rescaled_by: float
    beside_zero: tuple[int, ...]
    scales: Scales | NotFitted
    probe: Probe | NotFitted
    fit: LognormalFit | NotFitted
    errors: LogMomentErrors | NotFitted
    declared_sd: float | None
    codes: CodeOccupancy | None = None


# Asked for once: 46,000 layers would ask for their names as often.
_MEASURED = tuple(each.name for each in fields(MeasuredLayer))
_all_measured = attrgetter(*_MEASURED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the verdict on a layer rests on, and what is shown beside it.

    `ranking` compares the families on the weights as they are. `anatomy` says where the variance of ln|w| lies, for
    layers that were read once more to find out, and `residual` compares the families on what is then left.
    `histogram_fit` is there when it was asked for, and decides nothing.
    """

    ranking: Ranking | NotFitted
    anatomy: Anatomy | NotFitted
    residual: Ranking | NotFitted
    histogram_fit: HistogramFit | NotFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAudit(MeasuredLayer):
    """A measured layer, judged."""

    evidence: Evidence
    verdict: LayerVerdict


def measure_layers(layers: Sequence[Layer], sketches: Sequence[Sketch], criterion: Criterion) -> list[MeasuredLayer]:
    """Fit and count layers from their sketches. Many small ones at once cost far less than one by one."""
    histograms = [each.histogram for each in sketches]
    count_special_together(histograms)
    unevenness = [unevenness_of(each) for each in histograms]
    probes, factors = probes_of(sketches, unevenness), rescaled_by(histograms)
    measured = zip(
        layers, sketches, fit_with_errors(sketches), _scales(sketches), unevenness, probes, factors, strict=True
    )
    return [
        _measured(
            layer,
            each,
            criterion,
            scales=scales,
            prominence=uneven.prominence,
            probe=probe,
            fit=fit,
            errors=errors,
            factor=factor,
        )
        for layer, each, (fit, errors), scales, uneven, probe, factor in measured
    ]


def judged(layer: MeasuredLayer, evidence: Evidence) -> LayerAudit:
    """Say which law a layer's weights follow."""
    counts = layer.counts
    zero_share = counts.zero / counts.weights
    residual = residual_of(
        evidence.ranking,
        evidence.anatomy,
        evidence.residual,
        dtype=layer.dtype,
        shape=(layer.rows, layer.columns),
        zero_share=zero_share,
    )
    codes = layer.codes
    verdict = judge(
        layer.fit,
        evidence.ranking,
        residual,
        zero_share=zero_share,
        distinct=counts.distinct,
        reshaped_by=codes.description if codes and not codes.keeps_law else "",
    )
    return _with_verdict(layer, evidence, verdict)


def residual_of(
    whole: Ranking | NotFitted,
    anatomy: Anatomy | NotFitted,
    ranking: Ranking | NotFitted,
    *,
    dtype: str,
    shape: tuple[int, int],
    zero_share: float,
) -> Residual | NotFitted:
    """Give what is left of a layer once its scales are divided out, unless that says nothing of its weights.

    `whole` and `ranking` compare the families on the weights as they are and on what is left.
    """
    if isinstance(anatomy, NotFitted):
        return anatomy
    if isinstance(ranking, NotFitted):
        return ranking
    won = isinstance(whole, Ranking) and whole.winner.family is Family.LOGNORMAL
    if dtype in ROUNDING_TO_ZERO and zero_share > MOST_FLUSHED and not won:
        return NotFitted(f"{dtype} rounded more than {MOST_FLUSHED:.0%} of its weights to zero")
    if min(shape) < LEAST_SIDE:
        return NotFitted(f"fewer than {LEAST_SIDE} rows or columns do not tell their scales from their weights")
    return Residual(skewness=anatomy.residual.skewness, ranking=ranking)


def unjudged(layer: MeasuredLayer, reason: NotFitted) -> LayerAudit:
    """Say only why a layer was not compared with any family."""
    evidence = Evidence(ranking=reason, anatomy=reason, residual=reason, histogram_fit=reason)
    return _with_verdict(layer, evidence, not_judged(reason.reason))


def _with_verdict(layer: MeasuredLayer, evidence: Evidence, verdict: LayerVerdict) -> LayerAudit:
    of_measured = dict(zip(_MEASURED, _all_measured(layer), strict=True))
    return LayerAudit(**of_measured, evidence=evidence, verdict=verdict)


def _measured(
    layer: Layer,
    summary: Sketch,
    criterion: Criterion,
    *,
    scales: Scales | NotFitted,
    prominence: float,
    probe: Probe | NotFitted,
    fit: LognormalFit | NotFitted,
    errors: LogMomentErrors | NotFitted,
    factor: float,
) -> MeasuredLayer:
    counts = _counts(summary)
    part = layer.part
    return MeasuredLayer(
        name=layer.name,
        tensor=layer.tensor.name,
        file=str(layer.tensor.file),
        start=layer.tensor.start,
        stored_bytes=layer.tensor.stored_bytes,
        dtype=layer.tensor.stored_as,
        role=part.role,
        stack=part.stack,
        depth=part.depth,
        rows=len(part.rows),
        columns=len(part.columns),
        fan_in=part.fan_in,
        fan_out=part.fan_out,
        connected=part.role in HIDDEN_LAYERS and criterion.reached_by(part.fan_in, counts.weights),
        counts=counts,
        largest=summary.largest,
        rms=_rms(summary, counts),
        prominence=prominence,
        content=f"{summary.content:032x}",
        unused_bits=_unused_bits(summary.histogram),
        misread=misread(summary.histogram, fit),
        rescaled_by=factor,
        beside_zero=_beside_zero(summary.histogram.magnitudes, counts),
        scales=scales,
        probe=probe,
        fit=fit,
        errors=errors,
        declared_sd=layer.declared_sd,
        codes=_occupancy(layer, summary),
    )


def _occupancy(layer: Layer, summary: Sketch) -> CodeOccupancy | None:
    scheme = layer.tensor.decoder.scheme if layer.tensor.decoder else None
    if scheme is None:
        return None
    tallies = summary.code_tallies[summary.code_tallies > 0]
    shares = tallies / max(1, tallies.sum())
    return CodeOccupancy(
        description=scheme.description,
        keeps_law=scheme.keeps_law,
        available=summary.code_tallies.size,
        used=tallies.size,
        entropy=float(-(shares * np.log2(shares)).sum()) + 0.0,  # and not -0.0, where all have one code
        commonest_share=float(shares.max(initial=0.0)),
    )


def _counts(summary: Sketch) -> WeightCounts:
    special = summary.histogram.special
    return WeightCounts(
        weights=special.weights,
        zero=special.zero,
        subnormal=special.subnormal,
        max_finite=summary.max_finite,
        infinite=special.infinite,
        nan=special.nan,
        negative=special.negative,
        distinct=summary.histogram.magnitudes.codes.size,
    )


def _rms(summary: Sketch, counts: WeightCounts) -> float:
    finite = counts.weights - counts.infinite - counts.nan
    if not finite:
        return 0.0
    if summary.extent.scaled:
        return float(np.sqrt(summary.row_squares.sum() / finite))
    magnitudes = summary.histogram.magnitudes
    squares = magnitudes.grid.value[magnitudes.codes] ** 2
    return float(np.sqrt(np.dot(squares, magnitudes.tallies) / finite))


def _beside_zero(magnitudes: Magnitudes, counts: WeightCounts) -> tuple[int, ...]:
    codes, grid = magnitudes.codes, magnitudes.grid
    if not counts.zero or not codes.size or codes[0] < grid.normal:  # where the format itself ends
        return ()
    octave = int(np.searchsorted(codes, codes[0] + grid.normal))
    tallies, values = magnitudes.tallies[:octave], grid.value[codes[:octave]]
    if octave < LEAST_OCCUPIED * grid.normal * -math.expm1(-int(tallies.sum()) / grid.normal):
        return ()
    quarters = np.minimum(4 * (values / values[0] - 1), 3).astype(np.intp)
    return tuple(np.bincount(quarters, weights=tallies, minlength=4).astype(int).tolist())


def _alike(wanted: Sequence[bool], sketches: Sequence[Sketch]) -> Iterable[list[int]]:
    """The places of those sketches that are wanted, in groups of one extent: arithmetic on a group costs one call."""
    alike: dict[Extent, list[int]] = defaultdict(list)
    for index, (is_wanted, each) in enumerate(zip(wanted, sketches, strict=True)):
        if is_wanted:
            alike[each.extent].append(index)
    return alike.values()


def _scales(sketches: Sequence[Sketch]) -> list[Scales | NotFitted]:
    scales: list[Scales | NotFitted] = [NotFitted("no rows and columns of their own")] * len(sketches)
    for indices in _alike([each.extent.scaled for each in sketches], sketches):
        of_rows = _log_sds(np.stack([sketches[index].row_squares for index in indices]))
        of_columns = _log_sds(np.stack([sketches[index].column_squares for index in indices]))
        for index, (row_log_sd, zero_rows), (column_log_sd, zero_columns) in zip(
            indices, of_rows, of_columns, strict=True
        ):
            scales[index] = Scales(
                row_log_sd=row_log_sd, column_log_sd=column_log_sd, zero_rows=zero_rows, zero_columns=zero_columns
            )
    return scales


@dataclass(frozen=True, slots=True, kw_only=True)
class Unevenness:
    """How unlike the weights of a layer are in size: `prominence` as in `MeasuredLayer`, `noise` as in `Probe`."""

    prominence: float
    noise: float


def unevenness_of(histogram: Histogram) -> Unevenness:
    """Tell how unlike weights are in size, from their counts; 0 where all are zero."""
    magnitudes, special = histogram.magnitudes, histogram.special
    if not magnitudes.codes.size:
        return Unevenness(prominence=0.0, noise=0.0)
    values = magnitudes.grid.value[magnitudes.codes]
    squares = (values / values[-1]) ** 2  # of the greatest, so that no power of them overflows
    tallies = magnitudes.tallies.astype(np.float64)
    # Without a difference of large sums: where one weight is 1e38 times as large as the rest, nothing would be left.
    of_others = float(np.dot(squares[:-1], tallies[:-1])) + int(magnitudes.tallies[-1] - 1)
    others = special.weights - special.infinite - special.nan - 1
    return Unevenness(
        prominence=math.sqrt(others / of_others) if of_others else 0.0,
        noise=float(np.sqrt(np.dot(squares**2, tallies)) / np.dot(squares, tallies)),
    )


def probes_of(sketches: Sequence[Sketch], unevenness: Sequence[Unevenness]) -> list[Probe | NotFitted]:
    """Give the probe of every matrix whose rows and columns have sums of squares of their own."""
    probes: list[Probe | NotFitted] = [NotFitted("no rows and columns of their own")] * len(sketches)
    for indices in _alike([each.row_squares.size > 0 for each in sketches], sketches):
        of_rows = projected(np.stack([sketches[index].row_squares for index in indices]))
        of_columns = projected(np.stack([sketches[index].column_squares for index in indices]))
        for index, rows, columns in zip(indices, of_rows.tolist(), of_columns.tolist(), strict=True):
            probes[index] = Probe(
                rows=tuple(map(_in_short, rows)),
                columns=tuple(map(_in_short, columns)),
                noise=_in_short(unevenness[index].noise),
            )
    return probes


def _in_short(number: float) -> float:
    """A number with the seven digits that all writers keep of a probe; the kernels may differ in those beyond."""
    return float(f"{number:.6e}")


WIDER_BITS = 29  # that a float64 has in its mantissa beyond a float32
# Mantissa bits that a code on the grid has, beside the low half of a float32.
CODE_MANTISSA_BITS = {Dtype.F16: 10, Dtype.BF16: 7, Dtype.F32: 7}


def _unused_bits(histogram: Histogram) -> int:
    """Low mantissa bits that are zero in all weights; of other formats than these and float64 nothing is said: 0.

    A float64 is looked at as its nearest float32, so bits are only told where that has unused ones.
    """
    if histogram.dtype is Dtype.F64:
        of_float32 = _unused_bits(dataclasses.replace(histogram, dtype=Dtype.F32))
        return of_float32 + WIDER_BITS if of_float32 else 0
    mantissa = CODE_MANTISSA_BITS.get(histogram.dtype)
    if mantissa is None:
        return 0
    if histogram.low_bits:
        return _trailing_zeros(histogram.low_bits, LOW_BITS)
    codes = histogram.magnitudes.codes
    of_codes = _trailing_zeros(int(np.bitwise_or.reduce(codes)), mantissa) if codes.size else 0
    return of_codes + LOW_BITS if histogram.dtype is Dtype.F32 and codes.size else of_codes


def _trailing_zeros(bits: int, most: int) -> int:
    return min(most, (bits & -bits).bit_length() - 1) if bits else most


def _log_sds(squares: npt.NDArray[np.float64]) -> list[tuple[float, int]]:
    """Standard deviation of ln(rms) along the last axis, over what is not zero, and how many are zero."""
    positive = squares > 0
    number = np.maximum(positive.sum(axis=1), 1)
    log_rms = np.log(np.where(positive, squares, 1.0)) * 0.5  # half the logarithm of the mean square; 0 where zero
    deviations = (log_rms - (log_rms.sum(axis=1) / number)[:, np.newaxis]) * positive
    log_sds = np.sqrt((deviations**2).sum(axis=1) / number)
    return list(zip(log_sds.tolist(), (~positive).sum(axis=1).tolist(), strict=True))
