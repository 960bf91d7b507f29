"""Checkpoint -> Audit: every layer sketched, fitted and counted, and an account of what was not."""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

from jaynes_audit.analyzers.anatomy import Anatomy, VarianceShares, anatomy, variance_shares
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect, Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, chunks, layers_of
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins, HistogramFit, fit_histogram
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import Ranking, rank
from jaynes_audit.analyzers.dtypes import FLOATS, Dtype
from jaynes_audit.analyzers.engine import in_order
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.layer_audit import (
    Criterion,
    Evidence,
    LayerAudit,
    MeasuredLayer,
    judged,
    measure_layers,
    unjudged,
)
from jaynes_audit.analyzers.layer_verdict import looks_lognormal
from jaynes_audit.analyzers.role_audit import RoleAudit, audit_role
from jaynes_audit.analyzers.roles import ENDS, HIDDEN_LAYERS, Role
from jaynes_audit.analyzers.sketch.histogram import Histogram, Magnitudes, Pool
from jaynes_audit.analyzers.sketch.sketch import Sketch, sketch

PIECE_BYTES = 64 << 20  # a larger layer is shared out in pieces of about this
BATCH_BYTES = 8 << 20  # smaller layers travel together up to about this, or the queue would cost more than the work
BATCH_PIECES = 64
NOISE_SEED = 0  # of the Gaussian noise beside a histogram: the same report every time
RANKED_TOGETHER = 32  # layers; array arithmetic on one alone would cost seven times as much
HALF = 0.5  # the report says what its conclusions are at half the criterion, so matrices down to there are judged

JUDGED = HIDDEN_LAYERS | ENDS
NOT_JUDGED = NotFitted("not compared with other families: smaller than half of what counts as highly connected")
NO_MATRIX = NotFitted("not compared with other families: no weight matrix")
ROUTER = NotFitted("not compared with other families: a router chooses among experts and carries no signal")
NO_HISTOGRAM = NotFitted("no curve was laid through its histogram (--method histogram)")
NOT_DISSECTED = NotFitted("the scales of its rows and columns were not divided out (--anatomy)")

TIEABLE = frozenset({Role.EMBEDDING, Role.HEAD})  # other equal layers are a finding, not a way to save memory


class LeftOutReason(StrEnum):
    """Why a tensor has no place among the layers. The last three are failures: they should have been read."""

    NOT_WEIGHTS = "not-weights"
    EMPTY = "empty"
    NOT_REQUESTED = "not-requested"
    MISSING = "missing"
    REFUSED = "refused"
    COULD_NOT_READ = "could-not-read"


IN_NO_SHARD = "the index promises it, and no shard that could be read holds it"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A layer or a whole tensor that was not analysed, and why, in a few words.

    `dtype` and `shape` are empty where only an index speaks of the tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    reason: LeftOutReason
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of the checkpoint was analysed. `complete` is False when anything failed that should have been read.

    A fused tensor counts as analysed when any part of it was. `tensors_total` includes those that an index promises
    and no shard holds; their bytes are not known and not in `bytes_total`.
    """

    tensors: int
    tensors_total: int
    bytes: int
    bytes_total: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is known of one checkpoint. Iterating gives its layers, numbered names in numerical order."""

    target: str
    files: tuple[str, ...]
    criterion: Criterion
    coverage: Coverage
    layers: tuple[LayerAudit, ...]
    roles: tuple[RoleAudit, ...]
    variance: VarianceShares | NotFitted
    left_out: tuple[LeftOut, ...]
    aliases: Mapping[str, str]
    defects: tuple[Defect, ...]
    remarks: tuple[str, ...]

    def __iter__(self) -> Iterator[LayerAudit]:
        """Give the layers one by one."""
        return iter(self.layers)

    def __len__(self) -> int:
        """Count the layers."""
        return len(self.layers)

    def to_dict(self) -> dict[str, object]:
        """Give the audit and what the rules object to as plain dicts, lists, strings and numbers.

        The fields are those of a model in the JSON report, see `record.ModelRecord`; none is NaN or infinite.
        """
        import msgspec  # noqa: PLC0415 - the record is made of audits, so it can only be imported afterwards

        from jaynes_audit.analyzers.record import record_of  # noqa: PLC0415
        from jaynes_audit.analyzers.verdict import findings_of  # noqa: PLC0415

        plain: dict[str, object] = msgspec.to_builtins(record_of(self, findings_of(self)))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which layers to read: those whose name matches any of `layers` and none of `exclude` (shell patterns)."""

    layers: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()

    def wants(self, *names: str) -> bool:
        """Whether a layer is asked for that goes by any of these names: its own, and its tensor's."""
        return any(_matches_any(name, self.layers) for name in names) and not any(
            _matches_any(name, self.exclude) for name in names
        )


EVERYTHING = Selection()
USUAL_CRITERION = Criterion()


def bytes_to_read(checkpoint: Checkpoint, selection: Selection) -> int:
    """Add up the bytes that the first pass of an audit reads, for whoever wants to show how far it is."""
    layers, _ = _plan(checkpoint, selection)
    return sum(piece.bytes for layer in layers for piece in _pieces(layer))


def audit_checkpoint(
    checkpoint: Checkpoint,
    *,
    selection: Selection = EVERYTHING,
    criterion: Criterion = USUAL_CRITERION,
    dissect: bool = False,
    bins: HistogramBins | None = None,
    jobs: int | None = None,
    io: Io = Io.MMAP,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Audit:
    """Read every weight of a checkpoint and audit it, layer by layer.

    One pass measures every layer. Those that look lognormal, and with `dissect` all, are then read twice more, to see
    what their weights are once the scales of rows and columns are divided out. `bins` asks for a least-squares curve
    through the histogram of each layer that is compared with other families; it decides nothing.

    `jobs` threads share the work (default: one per core); the result does not depend on it. `on_bytes` is told, from
    the calling thread, how many more bytes of the first pass were done. Memory is bounded by a few windows and sketches
    a thread, and six kilobytes a layer. What cannot be read is left out with its reason; nothing is raised for it.
    """
    layers, left_out = _plan(checkpoint, selection)
    workers = jobs or os.cpu_count() or 1
    result = _Result(criterion, bins)
    with Sources(io) as sources, ThreadPoolExecutor(workers) as executor:
        batches = _batches(layers, sources, criterion)
        for batch, outcomes in in_order(_run, batches, executor=executor, workers=workers):
            for outcome in outcomes:
                result.take(outcome)
            on_bytes(batch.bytes)
        again = [
            _Dissection(layer=layer, sources=sources) for layer in layers if result.wants_again(layer, dissect=dissect)
        ]
        for dissected in in_order(_dissect, again, executor=executor, workers=workers):
            result.take_dissected(dissected)
    return result.audit(checkpoint, left_out)


def _matches_any(name: str, patterns: Sequence[str]) -> bool:
    # The name of a part ends in brackets, which a shell pattern takes for a set: its literal name counts too.
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _plan(checkpoint: Checkpoint, selection: Selection) -> tuple[list[Layer], list[LeftOut]]:
    layers: list[Layer] = []
    left_out: list[LeftOut] = []
    for tensor in checkpoint.tensors:
        why_not = _unfit(tensor)
        if why_not:
            left_out.append(_left_out(tensor.name, tensor, *why_not))
            continue
        for layer in layers_of(tensor, checkpoint.config_of(tensor.name)):
            if selection.wants(layer.name, tensor.name):
                layers.append(layer)
            else:
                left_out.append(_left_out(layer.name, tensor, LeftOutReason.NOT_REQUESTED, "not asked for"))
    return layers, left_out


def _unfit(tensor: Tensor) -> tuple[LeftOutReason, str] | None:
    if 0 in tensor.shape:
        return LeftOutReason.EMPTY, "holds no element"
    if tensor.dtype is Dtype.BOOL:
        return LeftOutReason.NOT_WEIGHTS, "a mask of booleans, not weights"
    if tensor.dtype not in FLOATS:
        return LeftOutReason.NOT_WEIGHTS, "whole numbers, a buffer or a quantiser's codes, not weights"
    return None


def _left_out(name: str, tensor: Tensor, reason: LeftOutReason, explanation: str) -> LeftOut:
    return LeftOut(name=name, dtype=tensor.dtype, shape=tensor.shape, reason=reason, explanation=explanation)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Rows of a layer that one thread reads in one go."""

    layer: Layer
    first_row: int
    stop_row: int

    @property
    def bytes(self) -> int:
        return (self.stop_row - self.first_row) * self.layer.extent.row_bits // 8

    @property
    def is_last(self) -> bool:
        return self.stop_row == self.layer.extent.rows

    @property
    def is_whole(self) -> bool:
        return self.first_row == 0 and self.is_last


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    pieces: tuple[_Piece, ...]
    sources: Sources
    criterion: Criterion

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sketched:
    """The sketch of a piece of a layer; `measured` is there when the piece is the whole layer."""

    piece: _Piece
    sketch: Sketch
    measured: MeasuredLayer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    """A layer that could not be read: at all, or, where it was measured, once more."""

    layer: Layer
    error: RefusedFile | CouldNotRead
    once_more: bool = False

    @property
    def sentence(self) -> str:
        return f"it could not be read a second time: {self.error}" if self.once_more else str(self.error)

    @property
    def left_out(self) -> LeftOut:
        refused = isinstance(self.error, RefusedFile)
        reason = LeftOutReason.REFUSED if refused else LeftOutReason.COULD_NOT_READ
        return _left_out(self.layer.name, self.layer.tensor, reason, self.sentence)


_Outcome = _Sketched | _Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dissection:
    layer: Layer
    sources: Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dissected:
    """A layer read once more."""

    layer: Layer
    anatomy: Anatomy | NotFitted


def _pieces(layer: Layer) -> Iterator[_Piece]:
    extent = layer.extent
    chunk_bytes = max(1, extent.chunk_rows * extent.row_bits // 8)
    rows = extent.chunk_rows * max(1, PIECE_BYTES // chunk_bytes)
    for first_row in range(0, extent.rows, rows):
        yield _Piece(layer=layer, first_row=first_row, stop_row=min(extent.rows, first_row + rows))


def _batches(layers: Iterable[Layer], sources: Sources, criterion: Criterion) -> Iterator[_Batch]:
    pieces: list[_Piece] = []
    size = 0
    for layer in layers:
        for piece in _pieces(layer):
            if pieces and (size + piece.bytes > BATCH_BYTES or len(pieces) == BATCH_PIECES):
                yield _Batch(pieces=tuple(pieces), sources=sources, criterion=criterion)
                pieces, size = [], 0
            pieces.append(piece)
            size += piece.bytes
    if pieces:
        yield _Batch(pieces=tuple(pieces), sources=sources, criterion=criterion)


def _run(batch: _Batch) -> tuple[_Batch, list[_Outcome]]:
    outcomes = [_read(piece, batch.sources) for piece in batch.pieces]
    whole = [each for each in outcomes if isinstance(each, _Sketched) and each.piece.is_whole]
    layers = measure_layers([each.piece.layer for each in whole], [each.sketch for each in whole], batch.criterion)
    measured = {id(each): replace(each, measured=layer) for each, layer in zip(whole, layers, strict=True)}
    return batch, [measured.get(id(each), each) for each in outcomes]


def _read(piece: _Piece, sources: Sources) -> _Outcome:
    layer = piece.layer
    try:
        source = sources.of(layer.tensor.file)
        read = chunks(source, layer, first_row=piece.first_row, stop_row=piece.stop_row)
        return _Sketched(piece=piece, sketch=sketch(read, layer.extent, first_row=piece.first_row))
    except (RefusedFile, CouldNotRead) as error:
        return _Failed(layer=layer, error=error)


def _dissect(task: _Dissection) -> _Dissected | _Failed:
    layer = task.layer
    try:
        source = task.sources.of(layer.tensor.file)
        taken_apart = anatomy(lambda: chunks(source, layer, first_row=0, stop_row=layer.extent.rows), layer.extent)
    except (RefusedFile, CouldNotRead) as error:
        return _Failed(layer=layer, error=error, once_more=True)
    return _Dissected(layer=layer, anatomy=taken_apart)


class _Result:
    """The audit in the making: outcomes come in the order of the pieces, whatever thread made them."""

    def __init__(self, criterion: Criterion, bins: HistogramBins | None) -> None:
        self._criterion = criterion
        self._judged_from = criterion.scaled(HALF)
        self._layers: list[MeasuredLayer] = []
        self._rankings = _Rankings()
        self._anatomies: dict[str, Anatomy | NotFitted] = {}
        self._residuals = _Rankings()
        self._bins = bins
        self._histogram_fits: dict[str, HistogramFit | NotFitted] = {}
        self._failed: dict[str, _Failed] = {}
        self._pools: dict[tuple[Role, str], _RolePool] = {}
        self._tied: dict[tuple[str, int, int, str], str] = {}
        self._sketch: Sketch | None = None
        self._tensors: set[str] = set()
        self._bytes = 0

    def take(self, outcome: _Outcome) -> None:
        if isinstance(outcome, _Failed):
            self._failed[outcome.layer.name] = outcome
            self._sketch = None
            return
        layer = outcome.piece.layer
        if outcome.measured:
            self._finish(layer, outcome.measured, outcome.sketch.histogram)
        elif layer.name not in self._failed:
            whole = outcome.sketch if self._sketch is None else self._sketch + outcome.sketch
            self._sketch = whole
            if outcome.piece.is_last:
                self._sketch = None
                [measured] = measure_layers([layer], [whole], self._criterion)
                self._finish(layer, measured, whole.histogram)

    def wants_again(self, layer: Layer, *, dissect: bool) -> bool:
        """Whether a layer is to be read once more. Asked for the first time when all were read once."""
        ranking = self._rankings.of(layer.name)
        return ranking is not None and (dissect or looks_lognormal(ranking))

    def take_dissected(self, outcome: _Dissected | _Failed) -> None:
        name = outcome.layer.name
        if isinstance(outcome, _Failed):
            # The layer was measured, so it stays; what failed is told beside it, and makes the audit incomplete.
            self._failed[name] = outcome
            self._anatomies[name] = NotFitted(outcome.sentence)
        elif isinstance(outcome.anatomy, NotFitted):
            self._anatomies[name] = outcome.anatomy
        else:
            self._anatomies[name] = outcome.anatomy.without_magnitudes()
            self._residuals.add(name, outcome.anatomy.residual_magnitudes)

    def _finish(self, layer: Layer, measured: MeasuredLayer, histogram: Histogram) -> None:
        self._tensors.add(measured.tensor)
        self._bytes += layer.extent.rows * layer.extent.row_bits // 8
        if measured.role in TIEABLE and measured.counts.distinct > 1:  # filled with one value is alike, not tied
            key = (measured.content, measured.rows, measured.columns, measured.dtype)
            first = self._tied.setdefault(key, measured.name)
            measured = measured if first == measured.name else replace(measured, tied_to=first)
        self._layers.append(measured)
        if not measured.tied_to:
            self._pools.setdefault((measured.role, measured.dtype), _RolePool()).add(measured, histogram)
        if measured.role in JUDGED and self._judged_from.reached_by(measured.fan_in, measured.counts.weights):
            self._rankings.add(measured.name, histogram.magnitudes)
            if self._bins:
                fit = fit_histogram(histogram.magnitudes, self._bins, seed=NOISE_SEED)
                self._histogram_fits[measured.name] = fit

    def _judged(self, layer: MeasuredLayer) -> LayerAudit:
        ranking = self._rankings.of(layer.name)
        if ranking is None:
            return unjudged(layer, _why_not_judged(layer))
        taken_apart = self._anatomies.get(layer.name, NOT_DISSECTED)
        evidence = Evidence(
            ranking=ranking,
            anatomy=taken_apart,
            residual=self._residuals.of(layer.name) or NOT_DISSECTED,
            histogram_fit=self._histogram_fits.get(layer.name, NO_HISTOGRAM),
        )
        return judged(layer, evidence)

    def audit(self, checkpoint: Checkpoint, left_out: list[LeftOut]) -> Audit:
        failed = [each.left_out for each in self._failed.values()]
        missing = [
            LeftOut(name=name, dtype="", shape=(), reason=LeftOutReason.MISSING, explanation=IN_NO_SHARD)
            for name in checkpoint.missing
        ]
        defects = (*checkpoint.defects, *_defects(self._failed.values()))
        layers = tuple(self._judged(layer) for layer in sorted(self._layers, key=lambda layer: _numbered(layer.name)))
        return Audit(
            target=checkpoint.location,
            files=tuple(str(file) for file in checkpoint.files),
            criterion=self._criterion,
            coverage=Coverage(
                tensors=len(self._tensors),
                tensors_total=len(checkpoint.tensors) + len(missing),
                bytes=self._bytes,
                bytes_total=sum(tensor.stored_bytes for tensor in checkpoint.tensors),
                complete=not failed and not defects,
            ),
            layers=layers,
            roles=tuple(pool.audit() for _, pool in sorted(self._pools.items())),
            variance=_variance(layers),
            left_out=tuple(sorted([*left_out, *failed, *missing], key=lambda each: _numbered(each.name))),
            aliases=checkpoint.aliases,
            defects=defects,
            remarks=checkpoint.remarks,
        )


class _Rankings:
    """The families compared on layer after layer, some layers at a time."""

    def __init__(self) -> None:
        self._awaiting: dict[str, Magnitudes] = {}
        self._ranked: dict[str, Ranking | NotFitted] = {}

    def add(self, name: str, weights: Magnitudes) -> None:
        self._awaiting[name] = weights
        if len(self._awaiting) == RANKED_TOGETHER:
            self._rank()

    def of(self, name: str) -> Ranking | NotFitted | None:
        """Give a layer's ranking; None for a layer that was not added."""
        self._rank()
        return self._ranked.get(name)

    def _rank(self) -> None:
        if self._awaiting:
            self._ranked.update(zip(self._awaiting, rank(list(self._awaiting.values())), strict=True))
            self._awaiting.clear()


class _RolePool:
    """The layers of one role and format, and all their weights counted together."""

    def __init__(self) -> None:
        self.layers: list[MeasuredLayer] = []
        self._weights = Pool()

    def add(self, layer: MeasuredLayer, histogram: Histogram) -> None:
        self.layers.append(layer)
        self._weights.add(histogram)

    def audit(self) -> RoleAudit:
        return audit_role(self.layers, self._weights.histogram())


def _why_not_judged(layer: MeasuredLayer) -> NotFitted:
    if not layer.fan_in:
        return NO_MATRIX
    return NOT_JUDGED if layer.role in JUDGED else ROUTER


def _variance(layers: Sequence[LayerAudit]) -> VarianceShares | NotFitted:
    connected = [layer for layer in layers if layer.connected and not layer.tied_to]
    dissected = [
        (layer.fit.moments, layer.evidence.anatomy)
        for layer in connected
        if isinstance(layer.fit, LognormalFit) and isinstance(layer.evidence.anatomy, Anatomy)
    ]
    missing = [layer.evidence.anatomy for layer in connected if isinstance(layer.evidence.anatomy, NotFitted)]
    if NOT_DISSECTED in missing:
        return NotFitted("not every highly connected matrix was taken apart; --anatomy asks for it")
    if len(dissected) < len(connected):
        return NotFitted(f"{len(connected) - len(dissected):,} of {len(connected):,} matrices could not be taken apart")
    return variance_shares(dissected)


def _defects(failures: Iterable[_Failed]) -> list[Defect]:
    by_sentence = {
        str(failed.error): Defect(
            rule=failed.error.rule,
            case=failed.error.case,
            file=str(failed.layer.tensor.file),
            sentence=str(failed.error),
        )
        for failed in failures
        if isinstance(failed.error, RefusedFile)
    }
    return list(by_sentence.values())


def _numbered(name: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 2 before layer 10."""
    return [(int(run), "") if run.isdecimal() else (-1, run) for run in re.split("([0-9]{1,18})", name)]
