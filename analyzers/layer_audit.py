"""Layer and its sketch -> LayerAudit: all that is kept of one weight matrix."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_with_errors
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS, Role
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.histogram import count_special_together
from jaynes_audit.analyzers.sketch.sketch import Sketch


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """What counts as a highly connected layer: so many connections into each output, and so many weights in all."""

    min_fan_in: int = 64
    min_weights: int = 10_000


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
class LayerAudit:
    """One weight matrix, or vector of weights, and what was found in it.

    `name` is the tensor's, with the part in brackets where several matrices are fused. `rows` x `columns` is the stored
    matrix (a vector has one row). `connected` tells whether it is a highly connected hidden layer. `tied_to` names
    the layer that holds the very same weights, where they are one matrix used twice. `largest` is the greatest finite
    magnitude, `rms` the root of the mean square of the finite weights. `content` is a hash of the stored weights.
    """

    name: str
    tensor: str
    file: str
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
    content: str
    scales: Scales | NotFitted
    fit: LognormalFit | NotFitted
    errors: LogMomentErrors | NotFitted


def audit_layers(layers: Sequence[Layer], sketches: Sequence[Sketch], criterion: Criterion) -> list[LayerAudit]:
    """Fit and count layers from their sketches. Many small ones at once cost far less than one by one."""
    count_special_together([each.histogram for each in sketches])
    measured = zip(layers, sketches, _scales(sketches), fit_with_errors(sketches), strict=True)
    return [
        _audit(layer, each, criterion, scales=scales, fit=fit, errors=errors)
        for layer, each, scales, (fit, errors) in measured
    ]


def _audit(
    layer: Layer,
    summary: Sketch,
    criterion: Criterion,
    *,
    scales: Scales | NotFitted,
    fit: LognormalFit | NotFitted,
    errors: LogMomentErrors | NotFitted,
) -> LayerAudit:
    counts = _counts(summary)
    part = layer.part
    return LayerAudit(
        name=layer.name,
        tensor=layer.tensor.name,
        file=str(layer.tensor.file),
        dtype=layer.tensor.dtype,
        role=part.role,
        stack=part.stack,
        depth=part.depth,
        rows=len(part.rows),
        columns=len(part.columns),
        fan_in=part.fan_in,
        fan_out=part.fan_out,
        connected=part.role in HIDDEN_LAYERS
        and part.fan_in >= criterion.min_fan_in
        and counts.weights >= criterion.min_weights,
        counts=counts,
        largest=summary.largest,
        rms=_rms(summary, counts),
        content=f"{summary.content:032x}",
        scales=scales,
        fit=fit,
        errors=errors,
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


def _scales(sketches: Sequence[Sketch]) -> list[Scales | NotFitted]:
    scales: list[Scales | NotFitted] = [NotFitted("no rows and columns of their own")] * len(sketches)
    alike: dict[Extent, list[int]] = defaultdict(list)
    for index, each in enumerate(sketches):
        if each.extent.scaled:
            alike[each.extent].append(index)
    for indices in alike.values():
        of_rows = _log_sds(np.stack([sketches[index].row_squares for index in indices]))
        of_columns = _log_sds(np.stack([sketches[index].column_squares for index in indices]))
        for index, (row_log_sd, zero_rows), (column_log_sd, zero_columns) in zip(
            indices, of_rows, of_columns, strict=True
        ):
            scales[index] = Scales(
                row_log_sd=row_log_sd, column_log_sd=column_log_sd, zero_rows=zero_rows, zero_columns=zero_columns
            )
    return scales


def _log_sds(squares: npt.NDArray[np.float64]) -> list[tuple[float, int]]:
    """Standard deviation of ln(rms) along the last axis, over what is not zero, and how many are zero."""
    positive = squares > 0
    number = np.maximum(positive.sum(axis=1), 1)
    log_rms = np.log(np.where(positive, squares, 1.0)) * 0.5  # half the logarithm of the mean square; 0 where zero
    deviations = (log_rms - (log_rms.sum(axis=1) / number)[:, np.newaxis]) * positive
    log_sds = np.sqrt((deviations**2).sum(axis=1) / number)
    return list(zip(log_sds.tolist(), (~positive).sum(axis=1).tolist(), strict=True))
