"""Archive -> Audit: what an audit of the weights would say, from what one kept of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from jaynes_audit.analyzers.archive.archive import Archive
from jaynes_audit.analyzers.archive.contents import FailureContents, LayerContents
from jaynes_audit.analyzers.audit import (
    EVERYTHING,
    USUAL_CRITERION,
    Audit,
    OnMeasured,
    OnOutcome,
    Selection,
    audit_kept,
    unheard,
)
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.layer_audit import Criterion, MeasuredLayer, Scales, measure_layers
from jaynes_audit.analyzers.pieces import BATCH_PIECES, Dissected, Failed, Piece, Sketched
from jaynes_audit.analyzers.sketch.extent import ROW_BLOCKS, Extent
from jaynes_audit.analyzers.sketch.grid import LOW_BITS
from jaynes_audit.analyzers.sketch.histogram import Histogram
from jaynes_audit.analyzers.sketch.probe import Probe
from jaynes_audit.analyzers.sketch.sketch import BlockCounts, Sketch

NOT_TAKEN_APART = NotFitted("a sketch archive holds no rows and columns; only an audit of the weights divides them out")
NO_SQUARES = np.zeros(0)
NO_BLOCKS = BlockCounts(codes=np.zeros(0, np.uint16), tallies=np.zeros(0, np.int64), ends=np.zeros(0, np.int64))
CELL_WIDTH = 2  # of a vector in float32 the root mean square is that of its cells, of which the widest is an octave


def audit_archive(
    archive: Archive,
    *,
    selection: Selection = EVERYTHING,
    criterion: Criterion = USUAL_CRITERION,
    dissect: bool = False,
    bins: HistogramBins | None = None,
    on_measured: OnMeasured = unheard,
    on_outcome: OnOutcome = unheard,
) -> Audit:
    """Audit a model from its sketch archive. The arguments, and the audit, are those of `audit_checkpoint`.

    What was saved as it was read gives the very same audit, and any `selection`, `criterion` and `bins` give what they
    would give of the weights. Only layers that were not read once more before cannot be taken apart now: their anatomy
    is a reason. What is unsound in the archive is left out, and a defect.
    """
    return audit_kept(
        archive.checkpoint,
        _Kept(archive),
        selection=selection,
        criterion=criterion,
        dissect=dissect,
        bins=bins,
        on_measured=on_measured,
        on_outcome=on_outcome,
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """The layers of an archive, for `audit_kept`."""

    archive: Archive

    def among(self, layers: Sequence[Layer]) -> list[Layer]:
        order = {name: place for place, name in enumerate((*self.archive.layers, *self.archive.failures))}
        return sorted((layer for layer in layers if layer.name in order), key=lambda layer: order[layer.name])

    def sketched(self, layers: Sequence[Layer], criterion: Criterion) -> Iterator[Sketched | Failed]:
        rest = iter(layers)
        while together := list(islice(rest, BATCH_PIECES)):
            outcomes = [self._sketched(layer) for layer in together]
            whole = [each for each in outcomes if isinstance(each, Sketched)]
            found = measure_layers([each.piece.layer for each in whole], [each.sketch for each in whole], criterion)
            measured = iter(found)
            for outcome in outcomes:
                yield outcome if isinstance(outcome, Failed) else self._completed(outcome, next(measured))

    def dissected(self, layer: Layer) -> Dissected | Failed:
        failure = self.archive.failures_once_more.get(layer.name)
        if failure:
            return _failed(layer, failure)
        if layer.name not in self.archive.anatomies:
            return Dissected(layer=layer, anatomy=NOT_TAKEN_APART)
        try:
            return Dissected(layer=layer, anatomy=self.archive.anatomy(layer.name))
        except RefusedFile as refusal:
            return Failed(layer=layer, error=refusal, once_more=True)

    def _sketched(self, layer: Layer) -> Sketched | Failed:
        failure = self.archive.failures.get(layer.name)
        if failure:
            return _failed(layer, failure)
        kept = self.archive.layers[layer.name]
        try:
            histogram = self.archive.histogram_of(layer)
            fault = _fault(kept, histogram, layer.extent)
            if fault:
                raise self.archive.refusal(f"its layer {quoted(layer.name)} has {fault}")
        except RefusedFile as refusal:
            return Failed(layer=layer, error=refusal)
        sketch = Sketch(
            extent=layer.extent,
            counts=NO_BLOCKS,
            histogram=histogram,
            row_squares=NO_SQUARES,
            column_squares=NO_SQUARES,
            largest_bits=kept.largest_bits,
            at_largest_float=kept.max_finite,
            content=int(kept.content, 16),
        )
        return Sketched(piece=Piece(layer=layer, first_row=0, stop_row=layer.extent.rows), sketch=sketch)

    def _completed(self, outcome: Sketched, measured: MeasuredLayer) -> Sketched:
        """Put in place what does not follow from the counts."""
        kept = self.archive.layers[measured.name]
        measured = replace(measured, rms=kept.rms)
        if kept.scales:
            row_log_sd, column_log_sd, zero_rows, zero_columns = kept.scales
            scales = Scales(
                row_log_sd=row_log_sd, column_log_sd=column_log_sd, zero_rows=zero_rows, zero_columns=zero_columns
            )
            measured = replace(measured, scales=scales)
        if kept.errors and isinstance(measured.fit, LognormalFit):
            log_mean, log_sigma, skewness, excess_kurtosis = kept.errors
            errors = LogMomentErrors(
                blocks=ROW_BLOCKS,
                log_mean=log_mean,
                log_sigma=log_sigma,
                skewness=skewness,
                excess_kurtosis=excess_kurtosis,
            )
            measured = replace(measured, errors=errors)
        if kept.probe:
            rows, columns, noise = kept.probe
            measured = replace(measured, probe=Probe(rows=tuple(rows), columns=tuple(columns), noise=noise))
        if kept.codes and measured.codes:
            available, used, entropy, commonest_share = kept.codes
            codes = replace(
                measured.codes, available=available, used=used, entropy=entropy, commonest_share=commonest_share
            )
            measured = replace(measured, codes=codes)
        return replace(outcome, measured=measured)


def _failed(layer: Layer, failure: FailureContents) -> Failed:
    """The failure to read a layer, as it was."""
    error = (
        RefusedFile(failure.sentence, rule=failure.rule, case=failure.case)
        if failure.rule
        else CouldNotRead(failure.sentence)
    )
    return Failed(layer=layer, error=error, once_more=failure.once_more)


def _fault(kept: LayerContents, histogram: Histogram, extent: Extent) -> str:
    """What the numbers of a layer cannot be, given its counts; empty when there is nothing."""
    codes = histogram.magnitudes.codes
    greatest = int(codes[-1]) if codes.size else 0
    wide = extent.dtype in {Dtype.F32, Dtype.F64}
    largest = float(np.uint32(kept.largest_bits).view(np.float32)) if wide else _value(histogram, greatest)
    zeros = kept.scales[2:] if kept.scales else (0, 0)
    faults = {
        "another greatest weight than its counts": wide and kept.largest_bits >> LOW_BITS != greatest,
        "bits that its number format does not have": not wide and (kept.low_bits or kept.largest_bits),
        "more saturated weights than its shape": kept.max_finite > extent.weights,
        "a root mean square that its counts cannot have": kept.rms > largest * CELL_WIDTH
        or (kept.rms > 0) != (codes.size > 0),
        "scales of rows and columns that its shape does not, or lacks them": extent.scaled != (kept.scales is not None),
        "a probe that its shape does not, or lacks it": extent.scaled != (kept.probe is not None),
        "more zero rows or columns than rows or columns": zeros[0] > extent.rows or zeros[1] > extent.columns,
    }
    return next((fault for fault, is_so in faults.items() if is_so), "")


def _value(histogram: Histogram, code: int) -> float:
    return float(histogram.grid.value[code]) if code else 0.0
