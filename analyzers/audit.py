"""Checkpoint -> Audit: every layer sketched, fitted and counted, and an account of what was not."""

import fnmatch
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Protocol

from jaynes_audit.analyzers.anatomy import Anatomy, VarianceShares, variance_shares
from jaynes_audit.analyzers.checkpoints.reading import identity
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect, Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins, HistogramFit, fit_histogram
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import Ranking, rank
from jaynes_audit.analyzers.dtypes import FLOATS, Dtype
from jaynes_audit.analyzers.engine import in_order
from jaynes_audit.analyzers.errors import RefusedFile
from jaynes_audit.analyzers.journal import Journal, journal_path
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
from jaynes_audit.analyzers.memory import held_bytes, is_streamed, thread_bytes, threads_within, usual_threads
from jaynes_audit.analyzers.pieces import (
    Dissected,
    Dissection,
    Failed,
    Means,
    Sketched,
    batches,
    dissect_layer,
    pieces,
    sketch_batch,
)
from jaynes_audit.analyzers.role_audit import RoleAudit, audit_role
from jaynes_audit.analyzers.roles import ENDS, HIDDEN_LAYERS, Role
from jaynes_audit.analyzers.sketch.histogram import Histogram, Magnitudes, Pool
from jaynes_audit.analyzers.sketch.sketch import Sketch

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
    NOT_DECODED = "not-decoded"
    EMPTY = "empty"
    NOT_REQUESTED = "not-requested"
    NOT_SAMPLED = "not-sampled"
    HEADERS_ONLY = "headers-only"
    MISSING = "missing"
    REFUSED = "refused"
    COULD_NOT_READ = "could-not-read"


BY_REQUEST = frozenset({LeftOutReason.NOT_REQUESTED, LeftOutReason.NOT_SAMPLED})
NOT_KEPT = "not asked for when the sketches were saved"
IN_NO_SHARD = "the index promises it, and no shard that could be read holds it"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A layer or a whole tensor that was not analysed, and why, in a few words.

    `dtype` and `shape` are empty where only an index speaks of the tensor, or its reader could not tell them.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    reason: LeftOutReason
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a checkpoint holds of one role in one number format, as its headers tell: matrices, weights, stored bytes.

    `dtype` is the label of the quantiser where there is one.
    """

    role: Role
    dtype: str
    matrices: int
    weights: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of the checkpoint was analysed.

    `complete` is False when anything failed that should have been read, or only headers were asked for.

    Tensors are stored ones: of a quantised weight its codes and its scales each count. A fused tensor counts as
    analysed when any part of it was. `tensors_total` includes those that an index promises and no shard holds; their
    bytes are not known and not in `bytes_total`.
    """

    tensors: int
    tensors_total: int
    bytes: int
    bytes_total: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is known of one checkpoint. Iterating gives its layers, numbered names in numerical order.

    `commit` is the Hub's name of the version that was read; empty for a checkpoint on this machine. `configs` are the
    parsed config.json files, as in `Checkpoint`, and `pickles` names the files whose weights are stored as pickles.
    """

    target: str
    commit: str
    files: tuple[str, ...]
    holdings: tuple[Holding, ...]
    criterion: Criterion
    coverage: Coverage
    layers: tuple[LayerAudit, ...]
    roles: tuple[RoleAudit, ...]
    variance: VarianceShares | NotFitted
    left_out: tuple[LeftOut, ...]
    aliases: Mapping[str, str]
    defects: tuple[Defect, ...]
    remarks: tuple[str, ...]
    configs: Mapping[str, Mapping[str, object]]
    pickles: tuple[str, ...]

    def __iter__(self) -> Iterator[LayerAudit]:
        """Give the layers one by one."""
        return iter(self.layers)

    def __len__(self) -> int:
        """Count the layers."""
        return len(self.layers)

    @property
    def is_sample(self) -> bool:
        """Whether it is of some layers here and there, as a sample is, or an archive that was made of one."""
        return any(each.reason is LeftOutReason.NOT_SAMPLED or each.explanation == NOT_KEPT for each in self.left_out)

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
    """Which layers to read: those whose name matches any of `layers` and none of `exclude` (shell patterns).

    Of these `sample` reads so many tensors, with all their parts: as many of each role as of any other while there are
    some, and of a role evenly from its first to its last in numerical order, so that both ends of the depth are seen.
    Roles that can have but one have it from unlike depths; where there are more roles than tensors to read, those of
    most weights are seen. The choice follows from the headers alone. None reads them all.
    """

    layers: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()
    sample: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether every layer is asked for."""
        return not self.exclude and "*" in self.layers and self.sample is None

    def wants(self, *names: str) -> bool:
        """Whether a layer is asked for that goes by any of these names: its own, and its tensor's."""
        return any(_matches_any(name, self.layers) for name in names) and not any(
            _matches_any(name, self.exclude) for name in names
        )


EVERYTHING = Selection()
USUAL_CRITERION = Criterion()

OnMeasured = Callable[[MeasuredLayer, Histogram], None]
OnOutcome = Callable[[Dissected | Failed], None]


def unheard(*_: object) -> None:
    """Listen to nothing that an audit tells."""


class KeptLayers(Protocol):
    """What was kept of layers that cannot be read."""

    def among(self, layers: Sequence[Layer]) -> list[Layer]:
        """Give those of the layers of which anything was kept, in the order in which they were read."""

    def sketched(self, layers: Sequence[Layer], criterion: Criterion) -> Iterator[Sketched | Failed]:
        """Give what was measured of these layers, each as one piece, or why it could not be read."""

    def dissected(self, layer: Layer) -> Dissected | Failed:
        """Give a layer's anatomy, or why it has none."""


def bytes_to_read(checkpoint: Checkpoint, selection: Selection) -> int:
    """Add up the bytes that the first pass of an audit reads, for whoever wants to show how far it is."""
    return sum(piece.bytes for layer in plan_of(checkpoint, selection).layers for piece in pieces(layer))


def headers_of(
    checkpoint: Checkpoint, *, selection: Selection = EVERYTHING, criterion: Criterion = USUAL_CRITERION
) -> Audit:
    """Say what a checkpoint holds, from its headers alone. No weight is read, so nothing is said of any."""
    plan = plan_of(checkpoint, selection)
    unread = [
        _left_out(layer.name, layer.tensor, LeftOutReason.HEADERS_ONLY, "only its header was read")
        for layer in plan.layers
    ]
    return _Result(criterion).audit(checkpoint, replace(plan, left_out=[*plan.left_out, *unread]))


def audit_checkpoint(
    checkpoint: Checkpoint,
    *,
    selection: Selection = EVERYTHING,
    criterion: Criterion = USUAL_CRITERION,
    dissect: bool = False,
    bins: HistogramBins | None = None,
    jobs: int | None = None,
    max_memory: int | None = None,
    io: Io = Io.MMAP,
    journal: Journal | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
    on_measured: OnMeasured = unheard,
    on_outcome: OnOutcome = unheard,
) -> Audit:
    """Read every weight of a checkpoint and audit it, layer by layer.

    One pass measures every layer. Those that look lognormal, and with `dissect` all, are then read twice more, to see
    what their weights are once the scales of rows and columns are divided out. `bins` asks for a least-squares curve
    through the histogram of each layer that is compared with other families; it decides nothing.

    `jobs` threads share the work (default: one per core, and six where bytes come over the network); the result does
    not depend on it. What they finish is kept in the `journal`, and what it has is not read again. `on_bytes` is told,
    from the calling thread, how many more bytes of the first pass were done. Memory is bounded by a few windows and
    sketches a thread, and six kilobytes a layer; there are no more threads than fit into `max_memory` bytes, see
    `memory.threads_within`, which do not change the result either. What cannot be read is left out with its reason;
    nothing is raised for it.

    `on_measured` and `on_outcome` are told all that an audit of the same could be made from without the weights, from
    the calling thread and in an order that `jobs` does not change: `on_measured` every layer when it was read, with the
    exact counts of its weights, which nothing else keeps; `on_outcome` every layer that was read once more and taken
    apart, with its residual magnitudes, and every one that could not be read.

    Raises UsageError when `max_memory` is less than one thread takes.
    """
    plan = plan_of(checkpoint, selection)
    workers = threads_within(
        max_memory,
        held=held_bytes(plan.layers),
        thread=thread_bytes(plan.layers, checkpoint.files, io),
        wanted=jobs or usual_threads(checkpoint.files),
    )
    result = _Result(criterion, bins, on_measured, on_outcome)
    with Sources(io) as sources, ThreadPoolExecutor(workers) as executor:
        means = Means(sources=sources, journal=journal)
        # In the order of their bytes: what is wanted next from a server then mostly follows what came last.
        layers = sorted(plan.layers, key=_place) if is_streamed(checkpoint.files) else plan.layers
        work = batches(layers, means, criterion)
        for batch, outcomes in in_order(sketch_batch, work, executor=executor, workers=workers):
            for outcome in outcomes:
                result.take(outcome)
            on_bytes(batch.bytes)
        result.take_tieable()
        again = [Dissection(layer=layer, means=means) for layer in layers if result.wants_again(layer, dissect=dissect)]
        for dissected in in_order(dissect_layer, again, executor=executor, workers=workers):
            result.take_dissected(dissected)
    return result.audit(checkpoint, plan)


def audit_kept(
    checkpoint: Checkpoint,
    kept: KeptLayers,
    *,
    selection: Selection = EVERYTHING,
    criterion: Criterion = USUAL_CRITERION,
    dissect: bool = False,
    bins: HistogramBins | None = None,
    on_measured: OnMeasured = unheard,
    on_outcome: OnOutcome = unheard,
) -> Audit:
    """Audit what was kept of a checkpoint's layers. The arguments, and the audit, are those of `audit_checkpoint`.

    Layers of which nothing was kept are left out as not requested.
    """
    plan = plan_of(checkpoint, selection)
    layers = kept.among(plan.layers)
    names = {layer.name for layer in layers}
    absent = [
        _left_out(layer.name, layer.tensor, LeftOutReason.NOT_REQUESTED, NOT_KEPT)
        for layer in plan.layers
        if layer.name not in names
    ]
    result = _Result(criterion, bins, on_measured, on_outcome)
    for outcome in kept.sketched(layers, criterion):
        result.take(outcome)
    result.take_tieable()
    for layer in layers:
        if result.wants_again(layer, dissect=dissect):
            result.take_dissected(kept.dissected(layer))
    return result.audit(checkpoint, replace(plan, left_out=[*plan.left_out, *absent]))


def journal_of(checkpoint: Checkpoint) -> Journal:
    """Open the journal of audits of this very content: what one that was killed had finished.

    Raises CouldNotRead when the content cannot be told, because a file has gone.
    """
    return Journal.at(journal_path("\n".join(identity(file) for file in checkpoint.files)))


UNFINISHED = BY_REQUEST | {LeftOutReason.COULD_NOT_READ}


def concluded(audit: Audit, journal: Journal) -> Audit:
    """Give up the journal of an audit that read everything. The audit says so where nothing could be kept.

    What could not be read may be tried again, and a look at a few layers must not cost what another audit had finished.
    """
    if not any(each.reason in UNFINISHED for each in audit.left_out):
        journal.finished()
    return replace(audit, remarks=(*audit.remarks, journal.failure)) if journal.failure else audit


def _matches_any(name: str, patterns: Sequence[str]) -> bool:
    # The name of a part ends in brackets, which a shell pattern takes for a set: its literal name counts too.
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The layers to be read, those that are not, and what the headers tell of all."""

    layers: list[Layer]
    left_out: list[LeftOut]
    holdings: tuple[Holding, ...]


def plan_of(checkpoint: Checkpoint, selection: Selection) -> Plan:
    """Decide from the headers alone which layers are to be read. Parts of fused tensors are layers of their own."""
    layers: list[Layer] = []
    left_out: list[LeftOut] = []
    holdings = _Holdings()
    for tensor in checkpoint.tensors:
        why_not = _unfit(tensor, checkpoint)
        if why_not:
            left_out.append(_left_out(tensor.name, tensor, *why_not))
            role = Role.BUFFER if why_not[0] is LeftOutReason.NOT_WEIGHTS else Role.OTHER
            holdings.add(tensor, role, tensor.stored_bytes, tensor.bytes)
            continue
        stored_bytes = tensor.stored_bytes
        for layer in layers_of(tensor, checkpoint.config_of(tensor.name)):
            holdings.add(tensor, layer.part.role, stored_bytes, layer.extent.rows * layer.extent.row_bits // 8)
            if selection.wants(layer.name, tensor.name):
                layers.append(layer)
            else:
                left_out.append(_left_out(layer.name, tensor, LeftOutReason.NOT_REQUESTED, "not asked for"))
    left_out += [
        LeftOut(name=name, dtype="", shape=(), reason=LeftOutReason.NOT_DECODED, explanation=why)
        for name, why in _unknown_to_the_reader(checkpoint).items()
    ]
    if selection.sample is not None:
        layers, passed_over = _sampled(layers, selection.sample)
        told = f"not in the sample of {selection.sample:,}"
        left_out += [_left_out(each.name, each.tensor, LeftOutReason.NOT_SAMPLED, told) for each in passed_over]
    return Plan(layers=layers, left_out=left_out, holdings=holdings.all())


def _sampled(layers: Iterable[Layer], number: int) -> tuple[list[Layer], list[Layer]]:
    """Part the layers into those of the sample and the others; see `Selection`."""
    of_tensor: defaultdict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        of_tensor[layer.tensor.name].append(layer)
    of_role: defaultdict[Role, list[str]] = defaultdict(list)
    for name in sorted(of_tensor, key=numbered):
        of_role[of_tensor[name][0].part.role].append(name)
    weights = {
        role: sum(math.prod(of_tensor[name][0].tensor.shape) for name in names) for role, names in of_role.items()
    }
    roles = sorted(of_role, key=lambda role: (-weights[role], role))
    shares = _shares([len(of_role[role]) for role in roles], number)
    chosen = {
        name
        for turn, (role, share) in enumerate(zip(roles, shares, strict=True))
        for name in _evenly(of_role[role], share, alone_at=Fraction(turn, max(1, min(number, len(roles)) - 1)))
    }
    parted: tuple[list[Layer], list[Layer]] = [], []
    for name, parts in of_tensor.items():
        parted[name not in chosen].extend(parts)
    return parted


def _shares(sizes: Sequence[int], number: int) -> list[int]:
    """Deal a number out to groups in turn, to none more than its size."""
    shares = [0] * len(sizes)
    while number and shares != [*sizes]:
        open_ones = [group for group, size in enumerate(sizes) if shares[group] < size]
        turns = max(1, min(number // len(open_ones), *(sizes[group] - shares[group] for group in open_ones)))
        for group in open_ones[:number]:
            shares[group] += turns
            number -= turns
    return shares


def _evenly(names: Sequence[str], number: int, *, alone_at: Fraction) -> list[str]:
    """Choose so many of the names, from the first to the last; a single one so far on the way between them."""
    last = len(names) - 1
    if number == 1:
        return [names[int(alone_at * last)]]
    return [names[at * last // (number - 1)] for at in range(number)]


def _unknown_to_the_reader(checkpoint: Checkpoint) -> dict[str, str]:
    """The tensors of which a reader could not even tell dtype and place, each with the reason."""
    known = {tensor.name for tensor in checkpoint.tensors}
    return {name: why for name, why in checkpoint.undecoded.items() if name not in known}


class _Holdings:
    """What a checkpoint holds, added up."""

    def __init__(self) -> None:
        self._totals: defaultdict[tuple[Role, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, tensor: Tensor, role: Role, stored_bytes: int, part: int) -> None:
        """Count a matrix that is so many of the bytes that the tensor is read as."""
        totals = self._totals[role, tensor.stored_as]
        totals[0] += 1
        totals[1] += math.prod(tensor.shape) * part // tensor.bytes if part else 0
        totals[2] += _share(stored_bytes, part, tensor.bytes)

    def all(self) -> tuple[Holding, ...]:
        """Give what was counted, by role and format."""
        return tuple(
            Holding(role=role, dtype=dtype, matrices=matrices, weights=weights, bytes=stored)
            for (role, dtype), (matrices, weights, stored) in sorted(self._totals.items())
        )


def _share(stored_bytes: int, part: int, whole: int) -> int:
    """How many stored bytes `part` of the `whole` stands for."""
    return stored_bytes if part >= whole else stored_bytes * part // whole


def _place(layer: Layer) -> tuple[str, int]:
    return str(layer.tensor.file), layer.tensor.start


def _unfit(tensor: Tensor, checkpoint: Checkpoint) -> tuple[LeftOutReason, str] | None:
    if tensor.name in checkpoint.undecoded:
        return LeftOutReason.NOT_DECODED, checkpoint.undecoded[tensor.name]
    if 0 in tensor.shape:
        return LeftOutReason.EMPTY, "holds no element"
    if tensor.dtype is Dtype.BOOL:
        return LeftOutReason.NOT_WEIGHTS, "a mask of booleans, not weights"
    if tensor.dtype not in FLOATS:
        return LeftOutReason.NOT_WEIGHTS, "whole numbers, a buffer or a quantiser's codes, not weights"
    return None


def _left_out(name: str, tensor: Tensor, reason: LeftOutReason, explanation: str) -> LeftOut:
    return LeftOut(name=name, dtype=tensor.stored_as, shape=tensor.shape, reason=reason, explanation=explanation)


class _Result:
    """The audit in the making: outcomes come in the order of the pieces, whatever thread made them."""

    def __init__(
        self,
        criterion: Criterion,
        bins: HistogramBins | None = None,
        on_measured: OnMeasured = unheard,
        on_outcome: OnOutcome = unheard,
    ) -> None:
        self._criterion = criterion
        self._on_measured = on_measured
        self._on_outcome = on_outcome
        self._judged_from = criterion.scaled(HALF)
        self._layers: list[MeasuredLayer] = []
        self._rankings = _Rankings()
        self._anatomies: dict[str, Anatomy | NotFitted] = {}
        self._residuals = _Rankings()
        self._bins = bins
        self._histogram_fits: dict[str, HistogramFit | NotFitted] = {}
        self._failed: dict[str, Failed] = {}
        self._pools: defaultdict[tuple[Role, str], _RolePool] = defaultdict(_RolePool)
        self._tied: dict[tuple[str, int, int, str], str] = {}
        self._sketch: Sketch | None = None
        self._read: Counter[str] = Counter()
        self._tieable: list[tuple[MeasuredLayer, Histogram]] = []

    def take(self, outcome: Sketched | Failed) -> None:
        if isinstance(outcome, Failed):
            self._on_outcome(outcome)
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
        scheme = layer.tensor.decoder.scheme if layer.tensor.decoder else None
        keeps_law = scheme is None or scheme.keeps_law
        return ranking is not None and (dissect or (keeps_law and looks_lognormal(ranking)))

    def take_dissected(self, outcome: Dissected | Failed) -> None:
        name = outcome.layer.name
        self._on_outcome(outcome)
        if isinstance(outcome, Failed):
            # The layer was measured, so it stays; what failed is told beside it, and makes the audit incomplete.
            self._failed[name] = outcome
            self._anatomies[name] = NotFitted(outcome.sentence)
        elif isinstance(outcome.anatomy, NotFitted):
            self._anatomies[name] = outcome.anatomy
        else:
            self._anatomies[name] = outcome.anatomy.without_magnitudes()
            self._residuals.add(name, outcome.anatomy.residual_magnitudes)

    def _finish(self, layer: Layer, measured: MeasuredLayer, histogram: Histogram) -> None:
        self._on_measured(measured, histogram)
        self._read[measured.tensor] += layer.extent.rows * layer.extent.row_bits // 8
        if measured.role in TIEABLE and measured.counts.distinct > 1:  # filled with one value is alike, not tied
            self._tieable.append((measured, histogram))
        else:
            self._keep(measured, histogram)

    def take_tieable(self) -> None:
        """Find out which embeddings and heads are one matrix, when all were read: the embedding keeps its place."""
        for measured, histogram in sorted(self._tieable, key=lambda each: (each[0].role, numbered(each[0].name))):
            key = (measured.content, measured.rows, measured.columns, measured.dtype)
            first = self._tied.setdefault(key, measured.name)
            self._keep(measured if first == measured.name else replace(measured, tied_to=first), histogram)
        self._tieable.clear()

    def _keep(self, measured: MeasuredLayer, histogram: Histogram) -> None:
        self._layers.append(measured)
        if not measured.tied_to:
            self._pools[measured.role, measured.dtype].add(measured, histogram)
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

    def audit(self, checkpoint: Checkpoint, plan: Plan) -> Audit:
        """Give all that is known when everything was read."""
        failed = [_failed(each) for each in self._failed.values()]
        missing = [
            LeftOut(name=name, dtype="", shape=(), reason=LeftOutReason.MISSING, explanation=IN_NO_SHARD)
            for name in checkpoint.missing
        ]
        defects = (*checkpoint.defects, *_defects(self._failed.values()))
        read = [tensor for tensor in checkpoint.tensors if tensor.name in self._read]
        unread = any(each.reason is LeftOutReason.HEADERS_ONLY for each in plan.left_out)
        layers = tuple(self._judged(layer) for layer in sorted(self._layers, key=lambda layer: numbered(layer.name)))
        return Audit(
            target=checkpoint.location,
            commit=checkpoint.commit,
            files=tuple(str(file) for file in checkpoint.files),
            holdings=plan.holdings,
            criterion=self._criterion,
            coverage=Coverage(
                tensors=sum(tensor.stored_tensors for tensor in read),
                tensors_total=sum(tensor.stored_tensors for tensor in checkpoint.tensors)
                + len(missing)
                + len(_unknown_to_the_reader(checkpoint)),
                bytes=sum(_share(tensor.stored_bytes, self._read[tensor.name], tensor.bytes) for tensor in read),
                bytes_total=sum(tensor.stored_bytes for tensor in checkpoint.tensors),
                complete=not (failed or defects or unread),
            ),
            layers=layers,
            roles=tuple(pool.audit() for _, pool in sorted(self._pools.items())),
            variance=_variance(layers),
            left_out=tuple(sorted([*plan.left_out, *failed, *missing], key=lambda each: numbered(each.name))),
            aliases=checkpoint.aliases,
            defects=defects,
            remarks=checkpoint.remarks,
            configs=checkpoint.configs,
            pickles=checkpoint.pickles,
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


def _failed(failure: Failed) -> LeftOut:
    refused = isinstance(failure.error, RefusedFile)
    reason = LeftOutReason.REFUSED if refused else LeftOutReason.COULD_NOT_READ
    return _left_out(failure.layer.name, failure.layer.tensor, reason, failure.sentence)


def _defects(failures: Iterable[Failed]) -> list[Defect]:
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


def numbered(name: str) -> list[tuple[int, str]]:
    """Give a sort key that puts layer 2 before layer 10."""
    return [
        (int(run), "") if run.isascii() and run.isdecimal() else (-1, run) for run in re.split("([0-9]{1,18})", name)
    ]
