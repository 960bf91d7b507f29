"""Checkpoint -> Audit: every layer sketched, fitted and counted, and an account of what was not."""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect, Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, chunks, layers_of
from jaynes_audit.analyzers.dtypes import FLOATS, Dtype
from jaynes_audit.analyzers.engine import in_order
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.layer_audit import Criterion, LayerAudit, audit_layers
from jaynes_audit.analyzers.role_audit import RoleAudit, audit_role
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sketch.histogram import Histogram, Pool
from jaynes_audit.analyzers.sketch.sketch import Sketch, sketch

PIECE_BYTES = 64 << 20  # a larger layer is shared out in pieces of about this
BATCH_BYTES = 8 << 20  # smaller layers travel together up to about this, or the queue would cost more than the work
BATCH_PIECES = 64

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
    """Add up the bytes that an audit of this selection reads, for whoever wants to show how far it is."""
    layers, _ = _plan(checkpoint, selection)
    return sum(piece.bytes for layer in layers for piece in _pieces(layer))


def audit_checkpoint(
    checkpoint: Checkpoint,
    *,
    selection: Selection = EVERYTHING,
    criterion: Criterion = USUAL_CRITERION,
    jobs: int | None = None,
    io: Io = Io.MMAP,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Audit:
    """Read every weight of a checkpoint once and audit it, layer by layer.

    `jobs` threads share the work (default: one per core); the result does not depend on it. `on_bytes` is told, from
    the calling thread, how many more bytes were done. Memory is bounded by a few windows and sketches a thread, and a
    kilobyte or two a layer. What cannot be read is left out with its reason; nothing is raised for it.
    """
    layers, left_out = _plan(checkpoint, selection)
    workers = jobs or os.cpu_count() or 1
    result = _Result(criterion)
    with Sources(io) as sources, ThreadPoolExecutor(workers) as executor:
        batches = _batches(layers, sources, criterion)
        for batch, outcomes in in_order(_run, batches, executor=executor, workers=workers):
            for outcome in outcomes:
                result.take(outcome)
            on_bytes(batch.bytes)
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
    """The sketch of a piece of a layer; `audit` is there when the piece is the whole layer."""

    piece: _Piece
    sketch: Sketch
    audit: LayerAudit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    piece: _Piece
    error: RefusedFile | CouldNotRead


_Outcome = _Sketched | _Failed


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
    audits = audit_layers([each.piece.layer for each in whole], [each.sketch for each in whole], batch.criterion)
    audited = {id(each): replace(each, audit=audit) for each, audit in zip(whole, audits, strict=True)}
    return batch, [audited.get(id(each), each) for each in outcomes]


def _read(piece: _Piece, sources: Sources) -> _Outcome:
    layer = piece.layer
    try:
        source = sources.of(layer.tensor.file)
        read = chunks(source, layer, first_row=piece.first_row, stop_row=piece.stop_row)
        return _Sketched(piece=piece, sketch=sketch(read, layer.extent, first_row=piece.first_row))
    except (RefusedFile, CouldNotRead) as error:
        return _Failed(piece=piece, error=error)


class _Result:
    """The audit in the making: outcomes come in the order of the pieces, whatever thread made them."""

    def __init__(self, criterion: Criterion) -> None:
        self._criterion = criterion
        self._layers: list[LayerAudit] = []
        self._failed: dict[str, _Failed] = {}
        self._pools: dict[tuple[Role, str], _RolePool] = {}
        self._tied: dict[tuple[str, int, int, str], str] = {}
        self._sketch: Sketch | None = None
        self._tensors: set[str] = set()
        self._bytes = 0

    def take(self, outcome: _Outcome) -> None:
        layer = outcome.piece.layer
        if isinstance(outcome, _Failed):
            self._failed[layer.name] = outcome
            self._sketch = None
        elif outcome.audit:
            self._finish(layer, outcome.audit, outcome.sketch.histogram)
        elif layer.name not in self._failed:
            whole = outcome.sketch if self._sketch is None else self._sketch + outcome.sketch
            self._sketch = whole
            if outcome.piece.is_last:
                self._sketch = None
                [audit] = audit_layers([layer], [whole], self._criterion)
                self._finish(layer, audit, whole.histogram)

    def _finish(self, layer: Layer, audit: LayerAudit, histogram: Histogram) -> None:
        self._tensors.add(audit.tensor)
        self._bytes += layer.extent.rows * layer.extent.row_bits // 8
        if audit.role in TIEABLE and audit.counts.distinct > 1:  # filled with one value is alike, not tied
            key = (audit.content, audit.rows, audit.columns, audit.dtype)
            first = self._tied.setdefault(key, audit.name)
            audit = audit if first == audit.name else replace(audit, tied_to=first)
        self._layers.append(audit)
        if not audit.tied_to:
            self._pools.setdefault((audit.role, audit.dtype), _RolePool()).add(audit, histogram)

    def audit(self, checkpoint: Checkpoint, left_out: list[LeftOut]) -> Audit:
        failed = [
            _left_out(
                name,
                each.piece.layer.tensor,
                LeftOutReason.REFUSED if isinstance(each.error, RefusedFile) else LeftOutReason.COULD_NOT_READ,
                str(each.error),
            )
            for name, each in self._failed.items()
        ]
        missing = [
            LeftOut(name=name, dtype="", shape=(), reason=LeftOutReason.MISSING, explanation=IN_NO_SHARD)
            for name in checkpoint.missing
        ]
        defects = (*checkpoint.defects, *_defects(self._failed.values()))
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
            layers=tuple(sorted(self._layers, key=lambda layer: _numbered(layer.name))),
            roles=tuple(pool.audit() for _, pool in sorted(self._pools.items())),
            left_out=tuple(sorted([*left_out, *failed, *missing], key=lambda each: _numbered(each.name))),
            aliases=checkpoint.aliases,
            defects=defects,
            remarks=checkpoint.remarks,
        )


class _RolePool:
    """The layers of one role and format, and all their weights counted together."""

    def __init__(self) -> None:
        self.layers: list[LayerAudit] = []
        self._weights = Pool()

    def add(self, layer: LayerAudit, histogram: Histogram) -> None:
        self.layers.append(layer)
        self._weights.add(histogram)

    def audit(self) -> RoleAudit:
        return audit_role(self.layers, self._weights.histogram())


def _defects(failures: Iterable[_Failed]) -> list[Defect]:
    by_sentence = {
        str(failed.error): Defect(
            rule=failed.error.rule,
            case=failed.error.case,
            file=str(failed.piece.layer.tensor.file),
            sentence=str(failed.error),
        )
        for failed in failures
        if isinstance(failed.error, RefusedFile)
    }
    return list(by_sentence.values())


def _numbered(name: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 2 before layer 10."""
    return [(int(run), "") if run.isdecimal() else (-1, run) for run in re.split("([0-9]{1,18})", name)]
