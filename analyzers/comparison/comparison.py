"""Operands -> Comparison: matched, compared weight by weight if they can be, measured where they differ, and judged."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import msgspec
from threadpoolctl import threadpool_limits

from jaynes_audit.analyzers.archive.archive import MOST_WEIGHTS, Archive
from jaynes_audit.analyzers.archive.audited import audit_archive
from jaynes_audit.analyzers.archive.packing import histogram_from, packed_histogram
from jaynes_audit.analyzers.audit import (
    EVERYTHING,
    IN_NO_SHARD,
    USUAL_CRITERION,
    Audit,
    LeftOutReason,
    Plan,
    Selection,
    audit_checkpoint,
    numbered,
    plan_of,
)
from jaynes_audit.analyzers.checkpoints import Checkpoint, Tensor
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.comparison.distances import Distances, distances
from jaynes_audit.analyzers.comparison.exact.exact import compare_exactly, elements_that_differ
from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Relation, Side, Unread
from jaynes_audit.analyzers.comparison.findings import findings_of as findings_of_changes
from jaynes_audit.analyzers.comparison.kept import BUFFERS, NOT_KEPT, KeptLayer, KeptModel
from jaynes_audit.analyzers.comparison.lineage.closeness import closeness_score
from jaynes_audit.analyzers.comparison.lineage.embeddings import EmbeddingTable, embedding_scores, embedding_table
from jaynes_audit.analyzers.comparison.lineage.neurons import neuron_scores, neurons_in_any_block
from jaynes_audit.analyzers.comparison.lineage.profiles import profile_score
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.comparison.matching import Match, Matching, Unmatched, match_layers
from jaynes_audit.analyzers.comparison.operand import Operand
from jaynes_audit.analyzers.comparison.parameters import Parameters, parameters
from jaynes_audit.analyzers.comparison.quantiles import Quantiles, quantile_distances, quantile_gap, quantiles_of
from jaynes_audit.analyzers.comparison.record import comparison_record
from jaynes_audit.analyzers.comparison.side_by_side import BufferComparison, Compared, LayerComparison
from jaynes_audit.analyzers.comparison.subject import Subject, subject_of_layer, subject_of_record
from jaynes_audit.analyzers.comparison.together import (
    RoleSideBySide,
    RoleTrends,
    role_trends,
    roles_side_by_side,
    universality_of,
)
from jaynes_audit.analyzers.comparison.verdict import SAME, Case, Verdict, judge, relation_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.layer_audit import Criterion, MeasuredLayer
from jaynes_audit.analyzers.memory import held_bytes, thread_bytes, threads_within, usual_threads
from jaynes_audit.analyzers.record import LayerRecord, ModelRecord, record_of
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS, Role
from jaynes_audit.analyzers.rules.changes import NO_QUANTILES, chance_of_ks
from jaynes_audit.analyzers.sketch.histogram import Histogram
from jaynes_audit.analyzers.universality.universality import Universality
from jaynes_audit.analyzers.verdict import findings_of

NOT_ASKED = NotFitted("--no-exact was given")
NO_WEIGHTS = NotFitted("a report or a sketch archive holds no weights")
ONLY_KEPT = NotFitted("a baseline holds no weights")
NOT_LOCAL = NotFitted("the weights are not all on this machine; --exact reads them nevertheless")
NOT_MEASURED = NotFitted("not measured: the very same bytes")
NO_HISTOGRAM = NotFitted("a report holds no counts of weights")
NOTHING_FITTED = NotFitted("nothing could be fitted in one of the two")
COULD_NOT_BE_READ = frozenset({LeftOutReason.REFUSED, LeftOutReason.COULD_NOT_READ})
UNREAD = NotFitted("it could not be read")
LINEAGE_BYTES = 320 << 20  # measured: tables and neurons of both models as numbers
LEAST_DISTINCT = 256  # magnitudes; what has fewer, such as ones and zeros, is alike in models with nothing in common


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How models are compared.

    `exact` asks for the weights to be read side by side; None does so where both models lie on this machine.
    `selection` says which layers, `criterion` what counts as highly connected. `jobs` threads share the work, as far as
    they fit into `max_memory` bytes, and never change the result. `on_bytes` is told now and then how many more bytes
    were read.
    """

    exact: bool | None = None
    selection: Selection = EVERYTHING
    criterion: Criterion = USUAL_CRITERION
    jobs: int | None = None
    max_memory: int | None = None
    io: Io = Io.MMAP
    on_bytes: Callable[[int], None] = lambda _: None


USUAL_MANNER = Manner()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models side by side. `not_exact` tells why weights were not compared one by one; None where they were.

    `universality` tries the claim on the layers of both together, by role, and of all roles under None. `lineage`
    is empty where nothing but the form differs. `measured` are the two audits or baselines that the parameters come
    from, and empty where nothing had to be measured. `roles`, `trends` and `universality` are empty then, and beside a
    baseline.
    """

    a: Compared
    b: Compared
    verdict: Verdict
    layers: tuple[LayerComparison, ...]
    only_a: tuple[Unmatched, ...]
    only_b: tuple[Unmatched, ...]
    buffers: tuple[BufferComparison, ...]
    not_exact: NotFitted | None
    universality: tuple[tuple[Role | None, Universality], ...]
    roles: tuple[RoleSideBySide, ...]
    trends: tuple[RoleTrends, ...]
    lineage: tuple[Score | NotFitted, ...]
    measured: tuple[ModelRecord | KeptModel, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Give the comparison and what the rules object to as plain dicts, lists, strings and numbers.

        The fields are those of a comparison in the JSON report, see `record.ComparisonRecord`; none is NaN or infinite.
        """
        plain: dict[str, object] = msgspec.to_builtins(comparison_record(self, findings_of_changes(self)))
        return plain


def compare(operands: Sequence[Operand], manner: Manner = USUAL_MANNER) -> Iterator[Comparison]:
    """Compare every two of the operands, the first with each later one first.

    Each is measured at most once, and not at all where all its layers have the very same bytes as the other's.

    Raises UsageError when the manner's `max_memory` is less than one thread takes.
    """
    sides = [_Side(operand, manner) for operand in operands]
    manner = replace(manner, jobs=_threads(sides, manner))
    for a, b in combinations(sides, 2):
        # Our own threads multiply matrices side by side. A BLAS that shares each product out among threads of its own
        # makes them wait for one another, at several times the work.
        with threadpool_limits(1, "blas"):
            compared = _compared(a, b, manner)
        yield compared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Counts:
    """A layer's histogram, packed: of tens of thousands of layers, unpacked ones would take gigabytes."""

    dtype: Dtype
    low_bits: int
    unused_bits: int
    packed: bytes

    @staticmethod
    def of(layer: MeasuredLayer, histogram: Histogram) -> "_Counts":
        # To pack tightly takes longer than to read the weights.
        packed = packed_histogram(histogram, lzma_from_weights=MOST_WEIGHTS)
        return _Counts(dtype=histogram.dtype, low_bits=histogram.low_bits, unused_bits=layer.unused_bits, packed=packed)

    @property
    def histogram(self) -> Histogram:
        return histogram_from(self.packed, dtype=self.dtype, low_bits=self.low_bits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """A model's record, and the counts of each layer's weights where they are to be had."""

    model: ModelRecord | KeptModel
    counts: Mapping[str, _Counts]

    def quantiles(self, layer: Subject, probabilities: tuple[float, ...]) -> Quantiles | NotFitted:
        """Give what a baseline has of the distribution of a layer: kept, or read from its counts."""
        if isinstance(self.model, KeptModel):
            return self.model.quantiles.get(layer.name, NOTHING_FITTED)
        counts = self.counts.get(layer.name)
        if counts is None:
            return NO_HISTOGRAM
        found = quantiles_of(counts.histogram, probabilities, dtype=layer.dtype, unused_bits=counts.unused_bits)
        return found or NOTHING_FITTED


class _Side:
    """An operand and what was found out about it, each thing once."""

    def __init__(self, operand: Operand, manner: Manner) -> None:
        self.operand = operand
        self._manner = manner

    @cached_property
    def plan(self) -> Plan | None:
        """What is to be read of a checkpoint; None where there are no weights to read."""
        known = self.operand.known
        return plan_of(known, self._manner.selection) if isinstance(known, Checkpoint) else None

    @cached_property
    def layers(self) -> Mapping[str, Layer]:
        """The layers that can be read, by name."""
        return {layer.name: layer for layer in self.plan.layers} if self.plan else {}

    @cached_property
    def subjects(self) -> tuple[Subject, ...]:
        """All layers in the order of a report, as far as they are known without reading weights."""
        if self.plan:
            layers = sorted(self.plan.layers, key=lambda layer: numbered(layer.name))
            return tuple(map(subject_of_layer, layers))
        return tuple(subject_of_record(layer) for layer in self.measured.model.layers)

    @cached_property
    def buffers(self) -> Mapping[str, Tensor]:
        """The tensors that hold no weights, by name."""
        known = self.operand.known
        if not self.plan or not isinstance(known, Checkpoint):
            return {}
        names = {each.name for each in self.plan.left_out if each.reason is LeftOutReason.NOT_WEIGHTS}
        return {tensor.name: tensor for tensor in known.tensors if tensor.name in names}

    @cached_property
    def measured(self) -> _Measured:
        """The model, audited: for a checkpoint this reads every weight."""
        known, manner = self.operand.known, self._manner
        if isinstance(known, ModelRecord):
            wanted = [layer for layer in known.layers if manner.selection.wants(layer.name, layer.tensor)]
            return _Measured(model=msgspec.structs.replace(known, layers=wanted), counts={})
        if isinstance(known, KeptModel):
            kept = tuple(layer for layer in known.layers if manner.selection.wants(layer.name, layer.tensor))
            return _Measured(model=replace(known, layers=kept), counts={})
        counts: dict[str, _Counts] = {}

        def keep(layer: MeasuredLayer, histogram: Histogram) -> None:
            counts[layer.name] = _Counts.of(layer, histogram)

        audit = _audited(known, manner, keep)
        return _Measured(model=record_of(audit, findings_of(audit)), counts=counts)

    @cached_property
    def distinct(self) -> Mapping[str, int]:
        """How many unequal magnitudes each measured layer has, by name, where that is known."""
        return {layer.name: layer.distinct for layer in self.measured.model.layers if isinstance(layer, LayerRecord)}

    def _unread(self) -> list[tuple[str, str]]:
        """The layers that could not be read when they were measured, if they were, each with the reason."""
        model = self.measured.model if "measured" in vars(self) else None
        if not isinstance(model, ModelRecord):
            return []
        return [(each.name, each.explanation) for each in model.left_out if each.reason in COULD_NOT_BE_READ]

    def summary(self, compared_buffers: Collection[str], *, is_read: bool) -> Compared:
        """Say what it is, and what of it was not compared. `is_read` tells whether all its buffers could be read."""
        known = self.operand.known
        summary = Compared(
            target=self.operand.target,
            kind=self.operand.kind,
            commit="",
            layers=len(self.subjects),
            weights=sum(subject.weights for subject in self.subjects),
            bytes=None,
            dtypes=_dtypes(self.subjects),
            files=(),
            not_compared=(BUFFERS,),
            complete=True,
        )
        if self.plan and isinstance(known, Checkpoint):
            left_out = [
                (each.name, each.explanation) for each in self.plan.left_out if each.name not in compared_buffers
            ]
            missing = [(name, IN_NO_SHARD) for name in known.missing]
            defects = [(defect.file, defect.sentence) for defect in known.defects]
            unread = self._unread()
            return replace(
                summary,
                commit=known.commit,
                bytes=sum(tensor.stored_bytes for tensor in known.tensors),
                files=tuple(str(file) for file in known.files),
                not_compared=(*left_out, *missing, *defects, *unread),
                complete=is_read and not (missing or defects or unread or known.undecoded),
            )
        model = self.measured.model
        if isinstance(model, KeptModel):
            return replace(summary, commit=model.commit)
        return replace(
            summary,
            commit=model.commit or "",
            bytes=model.coverage.bytes_total,
            files=tuple(model.files),
            not_compared=tuple((each.name, each.explanation) for each in model.left_out),
            complete=model.coverage.complete
            and not any(each.reason == LeftOutReason.NOT_DECODED for each in model.left_out),
        )


def _threads(sides: Sequence[_Side], manner: Manner) -> int | None:
    """How many threads fit into what the comparison may take; None where there are no weights to read."""
    layers = [layer for side in sides for layer in side.layers.values()]
    files = {layer.tensor.file for layer in layers}
    if not layers:
        return manner.jobs
    return threads_within(
        manner.max_memory,
        held=held_bytes(layers) + LINEAGE_BYTES,
        thread=2 * thread_bytes(layers, files, manner.io),
        wanted=manner.jobs or usual_threads(files),
    )


def _dtypes(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The number formats of the layers, that of the most weights first."""
    weights: Counter[str] = Counter()
    for subject in subjects:
        weights[subject.dtype] += subject.weights
    return tuple(dtype for dtype, _ in weights.most_common())


def _audited(known: Checkpoint | Archive, manner: Manner, keep: Callable[[MeasuredLayer, Histogram], None]) -> Audit:
    if isinstance(known, Archive):
        return audit_archive(known, selection=manner.selection, criterion=manner.criterion, on_measured=keep)
    return audit_checkpoint(
        known,
        selection=manner.selection,
        criterion=manner.criterion,
        jobs=manner.jobs,
        max_memory=manner.max_memory,
        io=manner.io,
        on_measured=keep,
        on_bytes=manner.on_bytes,
    )


def _compared(a: _Side, b: _Side, manner: Manner) -> Comparison:
    matching = match_layers(a.subjects, b.subjects)
    not_exact = _why_not_exact(a, b, manner)
    outcomes = _same_content(matching, a, b, not_exact) if not_exact else _exactly(matching, a, b, manner)
    buffers = () if not_exact else _buffers(a, b, manner.io)
    if all(map(_is_identical, outcomes)) and not matching.only_a and not matching.only_b:
        measured = None
        models: tuple[ModelRecord | KeptModel, ...] = ()
        tied: dict[str, str] = {}
    else:
        measured = a.measured, b.measured
        models = a.measured.model, b.measured.model
        tied = _tied(matching, a, b)
    audits = [model for model in models if isinstance(model, ModelRecord)]
    both = tuple(audits) if len(audits) == len(models) else ()
    layers = _side_by_side(matching, outcomes, measured)
    changed = measured and any(relation_of(layer) not in SAME for layer in layers)
    lineage = tuple(_lineage(a, b, matching, layers, None if not_exact else manner.io)) if changed else ()
    names = {each.name for each in buffers if not each.could_not_read}
    read = len(names) == len(buffers)
    case = Case(
        asked_for="" if manner.selection.is_everything else " in the layers asked for",
        a=a.summary(names, is_read=read),
        b=b.summary(names, is_read=read),
        layers=layers,
        only_a=_untied(matching.only_a, tied),
        only_b=_untied(matching.only_b, tied),
        buffers=buffers,
        not_exact=not_exact,
        shared=_shared(*models) if models else float(bool(layers)),
        scores=[score for score in lineage if isinstance(score, Score)],
    )
    return Comparison(
        a=case.a,
        b=case.b,
        verdict=judge(case),
        layers=layers,
        only_a=tuple(case.only_a),
        only_b=tuple(case.only_b),
        buffers=buffers,
        not_exact=not_exact,
        universality=universality_of(*both) if both else (),
        roles=roles_side_by_side(*both) if both else (),
        trends=role_trends(*both) if both else (),
        lineage=lineage,
        measured=models,
        remarks=(
            *a.operand.remarks,
            *b.operand.remarks,
            *([NOT_KEPT] if models and not both else []),
            *(f"{quoted(name)} is {quoted(kept)}, stored once" for name, kept in tied.items()),
        ),
    )


def _why_not_exact(a: _Side, b: _Side, manner: Manner) -> NotFitted | None:
    if manner.exact is False:
        return NOT_ASKED
    if a.plan is None or b.plan is None:
        if manner.exact:
            raise UsageError(f"--exact reads weights, and {_without_weights(a, b)} holds none; give the checkpoints")
        return ONLY_KEPT if any(isinstance(side.operand.known, KeptModel) for side in (a, b)) else NO_WEIGHTS
    if manner.exact is None and not (a.operand.is_local and b.operand.is_local):
        return NOT_LOCAL
    return None


def _without_weights(a: _Side, b: _Side) -> str:
    return next(quoted(side.operand.target) for side in (a, b) if side.plan is None)


def _exactly(matching: Matching, a: _Side, b: _Side, manner: Manner) -> list[Exact | NotFitted]:
    """Compare all that both have, weight by weight."""
    pairs = [(a.layers[match.a.name], b.layers[match.b.name]) for match in matching.matches]
    in_place = sorted(range(len(pairs)), key=lambda number: _place(pairs[number][0]))  # files are read front to back
    compared = compare_exactly(
        [pairs[number] for number in in_place], io=manner.io, jobs=manner.jobs, on_bytes=manner.on_bytes
    )
    outcomes = dict(zip(in_place, compared, strict=True))
    return [outcomes[number] for number in range(len(pairs))]


def _place(layer: Layer) -> tuple[str, int]:
    return str(layer.tensor.file), layer.tensor.start


def _buffers(a: _Side, b: _Side, io: Io) -> tuple[BufferComparison, ...]:
    """Compare the tensors that hold no weights, by name."""
    of_a, of_b = a.buffers, b.buffers
    with Sources(io) as sources:
        both = [_buffer(name, tensor, of_b[name], sources) for name, tensor in of_a.items() if name in of_b]
    return (
        *both,
        *(_lone_buffer(name, "A") for name in of_a if name not in of_b),
        *(_lone_buffer(name, "B") for name in of_b if name not in of_a),
    )


def _lone_buffer(name: str, side: str) -> BufferComparison:
    return BufferComparison(name=name, identical=False, sentence=f"only in {side}")


def _buffer(name: str, a: Tensor, b: Tensor, sources: Sources) -> BufferComparison:
    differ = elements_that_differ(a, b, sources)
    if isinstance(differ, NotFitted):
        unread = isinstance(differ, Unread)
        return BufferComparison(name=name, identical=False, sentence=differ.reason, could_not_read=unread)
    if differ:
        return BufferComparison(name=name, identical=False, sentence=f"{differ:,} of its elements differ")
    if a.dtype is not b.dtype:
        return BufferComparison(name=name, identical=False, sentence=f"equal, and {b.dtype} instead of {a.dtype}")
    return BufferComparison(name=name, identical=True, sentence="equal")


def _same_content(matching: Matching, a: _Side, b: _Side, not_exact: NotFitted) -> list[Exact | NotFitted]:
    """Where weights are not compared one by one, the hashes of equal layers still tell that they are."""
    of_a, of_b = _by_name(a.measured.model), _by_name(b.measured.model)
    outcomes: list[Exact | NotFitted] = []
    for match in matching.matches:
        layer_a, layer_b = of_a.get(match.a.name), of_b.get(match.b.name)
        if layer_a is None or layer_b is None:
            outcomes.append(Unread(UNREAD.reason, Side.A if layer_a is None else Side.B))
        elif _content(layer_a) == _content(layer_b):
            outcomes.append(Exact(relation=Relation.IDENTICAL))
        else:
            outcomes.append(not_exact)
    return outcomes


def _by_name(model: ModelRecord | KeptModel) -> dict[str, LayerRecord | KeptLayer]:
    return {layer.name: layer for layer in model.layers}


def _content(layer: LayerRecord | KeptLayer) -> tuple[str, str, int, int]:
    """What layers with the very same bytes share."""
    return layer.content, layer.dtype, layer.rows, layer.columns


def _side_by_side(
    matching: Matching,
    outcomes: Sequence[Exact | NotFitted],
    measured: tuple[_Measured, _Measured] | None,
) -> tuple[LayerComparison, ...]:
    pairs = zip(matching.matches, outcomes, strict=True)
    if measured:
        return tuple(_beside(pairs, *measured))
    return tuple(
        LayerComparison(match=match, parameters=NOT_MEASURED, distances=NOT_MEASURED, exact=outcome)
        for match, outcome in pairs
    )


def _beside(pairs: Iterable[tuple[Match, Exact | NotFitted]], a: _Measured, b: _Measured) -> Iterator[LayerComparison]:
    of_a, of_b = _by_name(a.model), _by_name(b.model)
    for match, outcome in pairs:
        is_same = _is_identical(outcome)
        in_a, in_b = of_a.get(match.a.name), of_b.get(match.b.name)
        if is_same and KeptModel in {type(a.model), type(b.model)}:
            in_b = in_a  # a baseline has its numbers rounded, which is no change
        shifts = parameters(in_a, in_b) if in_a and in_b else UNREAD
        apart, gap = (NOT_MEASURED, NO_QUANTILES) if is_same else _laws(a, b, match, shifts)
        yield LayerComparison(match=match, parameters=shifts, distances=apart, exact=outcome, quantile_gap=gap)


def _is_identical(outcome: Exact | NotFitted) -> bool:
    return isinstance(outcome, Exact) and outcome.relation is Relation.IDENTICAL


def _laws(
    a: _Measured, b: _Measured, match: Match, shifts: Parameters | NotFitted
) -> tuple[Distances | NotFitted, float | NotFitted]:
    """The distances between the distributions of a layer, and the gap between its quantiles in sigmas of A."""
    kept = [model for model in (a.model, b.model) if isinstance(model, KeptModel)]
    if not kept:
        return _distances(a, b, match), NO_QUANTILES
    in_a, in_b = (side.quantiles(subject, kept[0].probabilities) for side, subject in ((a, match.a), (b, match.b)))
    if isinstance(in_a, NotFitted):
        return in_a, in_a
    if isinstance(in_b, NotFitted):
        return in_b, in_b
    if isinstance(shifts, NotFitted):
        return shifts, shifts
    chance = chance_of_ks(match.a.weights, match.b.weights)
    cell = max(in_a.cell, in_b.cell)
    gap = quantile_gap(in_a.logs, in_b.logs, kept[0].probabilities, chance=chance, cell=cell)
    return quantile_distances(in_a, in_b, kept[0].probabilities), gap / shifts.log_sigma.a


def _distances(a: _Measured, b: _Measured, match: Match) -> Distances | NotFitted:
    of_a, of_b = a.counts.get(match.a.name), b.counts.get(match.b.name)
    return NO_HISTOGRAM if of_a is None or of_b is None else distances(of_a.histogram, of_b.histogram)


def _tied(matching: Matching, a: _Side, b: _Side) -> dict[str, str]:
    """The layers that only one model stores because the other stores tied ones once: name to that of the one kept."""
    tied: dict[str, str] = {}
    for only, side, other in ((matching.only_a, a, b), (matching.only_b, b, a)):
        own, model = _by_name(side.measured.model), other.measured.model
        dropped = model.aliases if isinstance(model, ModelRecord) else {}
        for each in only:
            name = each.subject.name
            kept = (own[name].tied_to if name in own else None) or dropped.get(each.subject.tensor)
            if kept:
                tied[name] = kept
    return tied


def _untied(only: Sequence[Unmatched], tied: Mapping[str, str]) -> tuple[Unmatched, ...]:
    return tuple(each for each in only if each.subject.name not in tied)


def _shared(a: ModelRecord | KeptModel, b: ModelRecord | KeptModel) -> float:
    """The share of the smaller model's weights in matrices whose bytes the other has too, whatever their names."""
    of_a, of_b = _contents(a), _contents(b)
    smaller = min(sum(of_a.values()), sum(of_b.values()))
    return sum(min(weights, of_b[content]) for content, weights in of_a.items() if content in of_b) / max(1, smaller)


def _contents(model: ModelRecord | KeptModel) -> Counter[tuple[object, ...]]:
    weights: Counter[tuple[object, ...]] = Counter()
    for layer in model.layers:
        if layer.role in HIDDEN_LAYERS and layer.fan_in and _has_many_values(layer, model):
            weights[_content(layer)] += layer.weights
    return weights


def _has_many_values(layer: LayerRecord | KeptLayer, model: ModelRecord | KeptModel) -> bool:
    if isinstance(layer, LayerRecord):
        return layer.distinct >= LEAST_DISTINCT
    quantiles = model.quantiles.get(layer.name) if isinstance(model, KeptModel) else None
    return bool(quantiles and quantiles.is_spread)


def _lineage(
    a: _Side, b: _Side, matching: Matching, layers: Sequence[LayerComparison], io: Io | None
) -> Iterator[Score | NotFitted]:
    """Every score that can be had; `io` is None where no weights can be read."""
    yield profile_score(a.measured.model, b.measured.model)
    yield closeness_score([layer for layer in layers if _is_continuous(layer.match, a, b)])
    known_a, known_b = a.operand.known, b.operand.known
    if io is None or not isinstance(known_a, Checkpoint) or not isinstance(known_b, Checkpoint):
        return
    with Sources(io) as sources:
        pairs = [(a.layers[match.a.name], b.layers[match.b.name]) for match in matching.matches]
        yield from _each(neuron_scores(pairs, sources))
        if any(each.subject.role in HIDDEN_LAYERS for each in (*matching.only_a, *matching.only_b)):
            yield from neurons_in_any_block(tuple(a.layers.values()), tuple(b.layers.values()), sources)
        tables = embedding_table(known_a, sources), embedding_table(known_b, sources)
        match tables:
            case (EmbeddingTable() as of_a, EmbeddingTable() as of_b):
                yield from _each(embedding_scores(of_a, of_b))
            case (NotFitted() as reason, _) | (_, NotFitted() as reason):
                yield reason


def _is_continuous(match: Match, a: _Side, b: _Side) -> bool:
    """Whether a layer has so many magnitudes in both that the law of samples of a continuous law holds of it."""
    return all(side.distinct.get(subject.name, 0) >= LEAST_DISTINCT for side, subject in ((a, match.a), (b, match.b)))


def _each(scores: tuple[Score, ...] | NotFitted) -> tuple[Score | NotFitted, ...]:
    return (scores,) if isinstance(scores, NotFitted) else scores
