"""Comparison -> record: the public, versioned shape of a comparison, one for JSON, Python and every printed format.

As in a report, every field says what it means and in which unit, and no NaN or infinity is ever written: a quantity
that could not be had is null, and the field beside it says why.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jaynes_audit.analyzers.comparison.distances import Distances, ks_noise
from jaynes_audit.analyzers.comparison.exact.outcome import (
    Cast,
    Difference,
    Exact,
    Quantisation,
    RankProfile,
    Rearrangement,
    Relation,
    Rounding,
)
from jaynes_audit.analyzers.comparison.findings import zeros_by_name
from jaynes_audit.analyzers.comparison.lineage.score import Null, Score
from jaynes_audit.analyzers.comparison.matching import Match, MatchedBy, Unmatched
from jaynes_audit.analyzers.comparison.parameters import Parameters, Shift
from jaynes_audit.analyzers.comparison.side_by_side import BufferComparison, Compared, LayerComparison
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.comparison.together import RoleSideBySide, RoleTrends
from jaynes_audit.analyzers.comparison.verdict import Kinship
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import ClaimRecord, FailureRecord, FindingRecord, Tool, claim_record, finding_record
from jaynes_audit.analyzers.record.report import JSON_SCHEMA
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.rules import Finding
from jaynes_audit.analyzers.universality.trend import Trend

if TYPE_CHECKING:
    from jaynes_audit.analyzers.comparison.comparison import Comparison  # which gives its own record, when asked

FORMAT: Literal["jaynes-comparison/1"] = "jaynes-comparison/1"

NOT_A_NUMBER = "it is not a finite number"
Sides = Literal["a", "b"]


class NotComparedRecord(Struct, frozen=True, kw_only=True):
    """A tensor of which nothing could be compared."""

    name: Annotated[str, Meta(description="Its name.")]
    reason: Annotated[str, Meta(description="Why.")]


class ComparedRecord(Struct, frozen=True, kw_only=True):
    """One of the two models, summed up."""

    target: Annotated[str, Meta(description="What it was called on the command line.")]
    kind: Annotated[str, Meta(description="What it is: a checkpoint, a sketch archive, a report or a baseline.")]
    commit: Annotated[str | None, Meta(description="The Hub's name of the version read; null for a local one.")]
    layers: Annotated[int, Meta(description="Its weight matrices and vectors.")]
    weights: Annotated[int, Meta(description="Weights in them.")]
    bytes: Annotated[int | None, Meta(description="Stored bytes of all its tensors; null: a baseline keeps none.")]
    dtypes: Annotated[list[str], Meta(description="Number formats they are stored in.")]
    files: Annotated[list[str], Meta(description="The files they are stored in.")]
    not_compared: Annotated[list[NotComparedRecord], Meta(description="Tensors of which nothing could be compared.")]
    complete: Annotated[bool, Meta(description="False when a tensor that should have been compared was not.")]


class VerdictRecord(Struct, frozen=True, kw_only=True):
    """What two models are to one another. It is evidence, not an accusation."""

    kinship: Annotated[str, Meta(description=f"One of: {', '.join(Kinship)}.")]
    sentence: Annotated[str, Meta(description="The verdict in words.")]
    figures: Annotated[list[str], Meta(description="What it rests on, a sentence each.")]


class SubjectRecord(Struct, frozen=True, kw_only=True):
    """A layer of one model. The fields mean what they mean in a report."""

    name: Annotated[str, Meta(description="The tensor's name, and in brackets its part where matrices are fused.")]
    tensor: Annotated[str, Meta(description="The stored tensor.")]
    dtype: Annotated[str, Meta(description="Number format as safetensors names it, or the quantiser's label.")]
    role: Annotated[str, Meta(description="What it does in the network; `other` when its name is unknown.")]
    stack: Annotated[str, Meta(description="The stack of blocks it belongs to, as `encoder`; empty where one is all.")]
    depth: Annotated[int | None, Meta(description="Index of its block in the stack; null outside the stack.")]
    rows: Annotated[int, Meta(description="Rows of the stored matrix.")]
    columns: Annotated[int, Meta(description="Columns of the stored matrix; 1 for a vector.")]
    fan_in: Annotated[int, Meta(description="Connections into each output; 0 for what is no weight matrix.")]
    fan_out: Annotated[int, Meta(description="Connections out of each input; 0 for what is no weight matrix.")]
    weights: Annotated[int, Meta(description="How many weights it has.")]


class ShiftRecord(Struct, frozen=True, kw_only=True):
    """A parameter of a layer in both models. Null where it is not a finite number."""

    a: Annotated[float | None, Meta(description="Its value in A.")]
    b: Annotated[float | None, Meta(description="Its value in B.")]
    change: Annotated[float | None, Meta(description="b - a.")]
    error: Annotated[
        float | None,
        Meta(description="Standard error of the change, the layers taken as independent: too large for two versions."),
    ]
    no_error: Annotated[str | None, Meta(description="Why the error is null; null when it is there.")]


class ParametersRecord(Struct, frozen=True, kw_only=True):
    """The lognormal fitted to a layer in both models: natural logarithms, as in a report."""

    mu: Annotated[ShiftRecord, Meta(description="Mean of ln|w|.")]
    sigma: Annotated[ShiftRecord, Meta(description="Standard deviation of ln|w|.")]
    skewness: Annotated[ShiftRecord, Meta(description="Skewness of ln|w|.")]


class DistancesRecord(Struct, frozen=True, kw_only=True):
    """Distances between the two distributions of ln|w|, over finite non-zero weights.

    Null: not a finite number, or a baseline's quantiles do not tell it.
    """

    ks: Annotated[float | None, Meta(description="Kolmogorov-Smirnov distance, 0 to 1.")]
    ks_noise: Annotated[
        float | None, Meta(description="What it exceeds in 5 % of cases for independent weights of one law.")
    ]
    wasserstein: Annotated[float | None, Meta(description="Wasserstein-1 distance, in nats as ln|w|.")]
    jensen_shannon: Annotated[
        float | None, Meta(description="Jensen-Shannon divergence in nats, at most ln 2, corrected for counting bias.")
    ]


class ZerosRecord(Struct, frozen=True, kw_only=True):
    """Weights that are +0 or -0."""

    a: Annotated[int, Meta(description="How many in A.")]
    b: Annotated[int, Meta(description="How many in B.")]


class CastRecord(Struct, frozen=True, kw_only=True):
    """One layer is the other in another number format, or both were cast from weights that neither holds."""

    source: Annotated[
        Sides | None, Meta(description="The side that has the weights it was made from; null where neither has them.")
    ]
    from_dtype: Annotated[str | None, Meta(description="Number format of the source, if there is one.")]
    to_dtype: Annotated[str, Meta(description="Number format of the other side; without source, of A and of B.")]
    rounding: Annotated[str, Meta(description=f"One of: {', '.join(Rounding)}.")]
    through: Annotated[str | None, Meta(description="A format that the weights passed through on the way, if any.")]
    overflowed: Annotated[int, Meta(description="Weights that became infinite or the greatest finite number.")]
    flushed: Annotated[int, Meta(description="Weights that became zero.")]


class RearrangementRecord(Struct, frozen=True, kw_only=True):
    """B is A with rows or columns in another order, or transposed; verified weight by weight."""

    transposed: Annotated[bool, Meta(description="Whether rows became columns.")]
    moved_rows: Annotated[int, Meta(description="Rows of B that stand elsewhere than in A, or in its transpose.")]
    moved_columns: Annotated[int, Meta(description="Columns of B that stand elsewhere.")]


class QuantisationRecord(Struct, frozen=True, kw_only=True):
    """One layer is the other, quantised."""

    quantised: Annotated[Sides, Meta(description="The side that was quantised.")]
    scheme: Annotated[str, Meta(description="How.")]
    relative_error: Annotated[float | None, Meta(description="Frobenius norm of the error over that of the other.")]
    best_error: Annotated[
        float | None, Meta(description="What the best scales for this scheme's groups and codes would reach.")
    ]
    ratio: Annotated[float | None, Meta(description="The first by the second: 1 is as good as the scheme can be.")]
    unknown: Annotated[dict[str, str], Meta(description="Why an entry is null, by its name.")]


class DifferenceRecord(Struct, frozen=True, kw_only=True):
    """How far B's weights are from A's, over those that are finite on both sides."""

    weights: Annotated[int, Meta(description="Weights compared.")]
    changed: Annotated[int, Meta(description="Weights whose values differ; NaN equals NaN, and +0 equals -0.")]
    not_finite: Annotated[int, Meta(description="Weights that are not finite on just one side.")]
    relative_error: Annotated[float | None, Meta(description="Frobenius norm of B - A over that of A.")]
    cosine: Annotated[float | None, Meta(description="Cosine of the two layers taken as vectors.")]
    largest: Annotated[float | None, Meta(description="The greatest magnitude of a change.")]
    largest_row: Annotated[int, Meta(description="Row of A's stored matrix where it is.")]
    largest_column: Annotated[int, Meta(description="Column of A's stored matrix where it is.")]
    unknown: Annotated[dict[str, str], Meta(description="Why an entry is null, by its name.")]


class RankRecord(Struct, frozen=True, kw_only=True):
    """How many directions hold the difference B - A of a matrix."""

    ranks: Annotated[list[int], Meta(description="Ranks of approximations.")]
    energy: Annotated[
        list[float], Meta(description="Share of the squared norm of the difference that each of them holds.")
    ]
    rank: Annotated[int, Meta(description="Singular values above what rounding alone would reach.")]
    rank_is_bound: Annotated[bool, Meta(description="Whether the rank is at least that, and may be more.")]


class ExactRecord(Struct, frozen=True, kw_only=True):
    """Two layers compared weight by weight. What `relation` does not call for is null."""

    relation: Annotated[str, Meta(description=f"One of: {', '.join(Relation)}.")]
    cast: Annotated[CastRecord | None, Meta(description="The cast.")]
    rearrangement: Annotated[RearrangementRecord | None, Meta(description="The rearrangement.")]
    quantisation: Annotated[QuantisationRecord | None, Meta(description="The quantisation.")]
    difference: Annotated[
        DifferenceRecord | None, Meta(description="How far apart they are; null for identical ones or unlike shapes.")
    ]
    rank: Annotated[RankRecord | None, Meta(description="How many directions hold the difference.")]
    no_rank: Annotated[str | None, Meta(description="Why `rank` is null, where a matrix differs.")]


class ComparedLayerRecord(Struct, frozen=True, kw_only=True):
    """A layer of both models, side by side."""

    a: Annotated[SubjectRecord, Meta(description="The layer in A.")]
    b: Annotated[SubjectRecord, Meta(description="Its counterpart in B.")]
    matched_by: Annotated[str, Meta(description=f"What says so; one of: {', '.join(MatchedBy)}.")]
    exact: Annotated[ExactRecord | None, Meta(description="The comparison weight by weight; null: `not_exact`.")]
    not_exact: Annotated[str | None, Meta(description="Why weights were not compared one by one; null when they were.")]
    could_not_read: Annotated[bool, Meta(description="Whether weights should have been read, and could not be.")]
    parameters: Annotated[ParametersRecord | None, Meta(description="Both fits; null: `no_parameters`.")]
    no_parameters: Annotated[str | None, Meta(description="Why there are none; null when there are.")]
    distances: Annotated[DistancesRecord | None, Meta(description="Between distributions; null: `no_distances`.")]
    no_distances: Annotated[str | None, Meta(description="Why there are none; null when there are.")]
    zeros: Annotated[ZerosRecord | None, Meta(description="Weights that are zero; null: not measured.")]


class UnmatchedRecord(Struct, frozen=True, kw_only=True):
    """A layer without counterpart."""

    layer: Annotated[SubjectRecord, Meta(description="The layer.")]
    reason: Annotated[str, Meta(description="Why it has none.")]


class BufferRecord(Struct, frozen=True, kw_only=True):
    """A tensor that holds no weights, compared by its bytes."""

    name: Annotated[str, Meta(description="Its name.")]
    identical: Annotated[bool, Meta(description="Whether its values are the same.")]
    sentence: Annotated[str, Meta(description="The outcome in words.")]


class SharedLawRecord(Struct, frozen=True, kw_only=True):
    """Whether the highly connected layers of both models share one lognormal law."""

    role: Annotated[str | None, Meta(description="Over the layers of this role; null: over all.")]
    claim: Annotated[ClaimRecord, Meta(description="The claim, tried as in a report.")]


class RoleSideBySideRecord(Struct, frozen=True, kw_only=True):
    """A quantity over the highly connected layers of one role, in both models."""

    role: Annotated[str, Meta(description="The role.")]
    quantity: Annotated[str, Meta(description="mu, sigma or skewness of ln|w|.")]
    layers_a: Annotated[int, Meta(description="Layers of A.")]
    layers_b: Annotated[int, Meta(description="Layers of B.")]
    mean_a: Annotated[float | None, Meta(description="Mean over A's layers, each counting alike.")]
    mean_b: Annotated[float | None, Meta(description="Mean over B's.")]
    change: Annotated[float | None, Meta(description="The second less the first.")]
    error: Annotated[float | None, Meta(description="Its standard error, from those of the layers at hand.")]
    tau_a: Annotated[float | None, Meta(description="Standard deviation between A's layers, freed of sampling noise.")]
    tau_b: Annotated[float | None, Meta(description="The same of B.")]
    unknown: Annotated[dict[str, str], Meta(description="Why an entry is null, by its name.")]


class TrendRecord(Struct, frozen=True, kw_only=True):
    """How a quantity changes along one network."""

    layers: Annotated[int, Meta(description="Layers it is taken over.")]
    slope: Annotated[float | None, Meta(description="Theil-Sen slope, from the first layer to the last.")]
    rank_correlation: Annotated[float | None, Meta(description="Spearman's rho with the depth.")]


class TrendsRecord(Struct, frozen=True, kw_only=True):
    """How a quantity changes with relative depth in both models, over the layers of one role."""

    role: Annotated[str, Meta(description="The role.")]
    quantity: Annotated[str, Meta(description="The quantity.")]
    a: Annotated[TrendRecord | None, Meta(description="In A.")]
    b: Annotated[TrendRecord | None, Meta(description="In B.")]
    unknown: Annotated[dict[str, str], Meta(description="Why a or b is null, by its name.")]


class NullRecord(Struct, frozen=True, kw_only=True):
    """What a score is for networks that have nothing to do with one another."""

    what: Annotated[str, Meta(description="For which networks.")]
    middle: Annotated[float | None, Meta(description="Its median.")]
    high: Annotated[float | None, Meta(description="What one in twenty exceeds.")]
    draws: Annotated[int, Meta(description="Over how many of them.")]


class ScoreRecord(Struct, frozen=True, kw_only=True):
    """One measure of likeness between two networks. It is evidence, not a proof."""

    name: Annotated[str, Meta(description="What is measured.")]
    value: Annotated[float | None, Meta(description="The score; null where it is not a finite number.")]
    compared: Annotated[str, Meta(description="Over what, and how much of it.")]
    unrelated: Annotated[NullRecord, Meta(description="What unrelated networks of the same shapes score.")]
    twins: Annotated[NullRecord, Meta(description="What independently initialised networks score.")]


class ComparisonRecord(Struct, frozen=True, kw_only=True):
    """Two models side by side: A, and B that is compared with it."""

    a: Annotated[ComparedRecord, Meta(description="The first model.")]
    b: Annotated[ComparedRecord, Meta(description="The second.")]
    verdict: Annotated[VerdictRecord, Meta(description="What they are to one another.")]
    findings: Annotated[
        list[FindingRecord], Meta(description="What the rules object to in B, A being known to be good.")
    ]
    layers: Annotated[list[ComparedLayerRecord], Meta(description="Layers of both, in A's order.")]
    not_exact: Annotated[str | None, Meta(description="Why weights were not compared one by one; null when they were.")]
    only_a: Annotated[list[UnmatchedRecord], Meta(description="Layers of A without counterpart in B.")]
    only_b: Annotated[list[UnmatchedRecord], Meta(description="Layers of B without counterpart in A.")]
    buffers: Annotated[list[BufferRecord], Meta(description="Tensors that hold no weights.")]
    universality: Annotated[list[SharedLawRecord], Meta(description="Whether both follow one law, in all and by role.")]
    roles: Annotated[list[RoleSideBySideRecord], Meta(description="What the layers of each role are like in both.")]
    trends: Annotated[list[TrendsRecord], Meta(description="How parameters change with depth in each.")]
    lineage: Annotated[list[ScoreRecord], Meta(description="How alike they are, each score beside its nulls.")]
    no_lineage: Annotated[list[str], Meta(description="Why further scores could not be had.")]
    remarks: Annotated[list[str], Meta(description="Choices made when the two were opened and matched.")]


class ComparisonReportRecord(Struct, frozen=True, kw_only=True):
    """All that one run of `jaynes compare` found."""

    format: Annotated[Literal["jaynes-comparison/1"], Meta(description="Name and version of this format.")] = FORMAT
    tool: Annotated[Tool, Meta(description="What wrote it.")]
    operands: Annotated[list[str], Meta(description="The models compared, in the order asked for.")]
    comparisons: Annotated[list[ComparisonRecord], Meta(description="Each pair of them, the earlier one as A.")]
    failures: Annotated[list[FailureRecord], Meta(description="Operands that could not be compared.")]
    fail_on: Annotated[
        Literal["error", "warning", "note", "never"], Meta(description="Lowest level that makes the exit status 1.")
    ]
    exit_code: Annotated[int, Meta(description="The exit status of the run, the same for every format.")]
    exit_reason: Annotated[str, Meta(description="Why the exit status is what it is.")]


def comparison_record(comparison: "Comparison", findings: Iterable[Finding]) -> ComparisonRecord:
    """Give the public record of a comparison and of what the rules object to in it."""
    verdict, zeros = comparison.verdict, zeros_by_name(comparison)
    return ComparisonRecord(
        a=_compared(comparison.a),
        b=_compared(comparison.b),
        verdict=VerdictRecord(
            kinship=verdict.kinship.value,
            sentence=text(verdict.sentence),
            figures=[text(figure) for figure in verdict.figures],
        ),
        findings=[finding_record(finding) for finding in findings],
        layers=[_layer(layer, _zeros(layer.match, *zeros)) for layer in comparison.layers],
        not_exact=text(comparison.not_exact.reason) if comparison.not_exact else None,
        only_a=[_unmatched(each) for each in comparison.only_a],
        only_b=[_unmatched(each) for each in comparison.only_b],
        buffers=[_buffer(buffer) for buffer in comparison.buffers],
        universality=[
            SharedLawRecord(role=str(role) if role else None, claim=claim_record(universality))
            for role, universality in comparison.universality
        ],
        roles=[_role(role) for role in comparison.roles],
        trends=[_trends(trends) for trends in comparison.trends],
        lineage=[_score(score) for score in comparison.lineage if isinstance(score, Score)],
        no_lineage=[text(score.reason) for score in comparison.lineage if isinstance(score, NotFitted)],
        remarks=[text(remark) for remark in comparison.remarks],
    )


def comparison_schema() -> dict[str, object]:
    """Give the JSON Schema (2020-12) of a comparison."""
    return {
        "$schema": JSON_SCHEMA,
        "title": FORMAT,
        "description": "What `jaynes compare` says of two or more checkpoints, pair by pair.",
        **msgspec.json.schema(ComparisonReportRecord),
    }


def _compared(side: Compared) -> ComparedRecord:
    return ComparedRecord(
        target=text(side.target),
        kind=side.kind,
        commit=text(side.commit) or None,
        layers=side.layers,
        weights=side.weights,
        bytes=side.bytes,
        dtypes=[text(dtype) for dtype in side.dtypes],
        files=[text(file) for file in side.files],
        not_compared=[NotComparedRecord(name=text(name), reason=text(reason)) for name, reason in side.not_compared],
        complete=side.complete,
    )


def _subject(subject: Subject) -> SubjectRecord:
    return SubjectRecord(
        name=text(subject.name),
        tensor=text(subject.tensor),
        dtype=text(subject.dtype),
        role=str(subject.role),
        stack=text(subject.stack),
        depth=subject.depth,
        rows=subject.rows,
        columns=subject.columns,
        fan_in=subject.fan_in,
        fan_out=subject.fan_out,
        weights=subject.weights,
    )


def _layer(layer: LayerComparison, zeros: ZerosRecord | None) -> ComparedLayerRecord:
    match, parameters, distances, exact = layer.match, layer.parameters, layer.distances, layer.exact
    return ComparedLayerRecord(
        a=_subject(match.a),
        b=_subject(match.b),
        matched_by=match.by.value,
        exact=_exact(exact) if isinstance(exact, Exact) else None,
        not_exact=_reason(exact),
        could_not_read=layer.could_not_read,
        parameters=_parameters(parameters) if isinstance(parameters, Parameters) else None,
        no_parameters=_reason(parameters),
        distances=_distances(distances, match) if isinstance(distances, Distances) else None,
        no_distances=_reason(distances),
        zeros=zeros,
    )


def _zeros(match: Match, zeros_a: Mapping[str, int], zeros_b: Mapping[str, int]) -> ZerosRecord | None:
    a, b = zeros_a.get(match.a.name), zeros_b.get(match.b.name)
    return None if a is None or b is None else ZerosRecord(a=a, b=b)


def _parameters(parameters: Parameters) -> ParametersRecord:
    return ParametersRecord(
        mu=_shift(parameters.log_mean), sigma=_shift(parameters.log_sigma), skewness=_shift(parameters.skewness)
    )


def _shift(shift: Shift) -> ShiftRecord:
    error = _number(shift.error)
    return ShiftRecord(
        a=_number(shift.a),
        b=_number(shift.b),
        change=_number(shift.change),
        error=error,
        no_error=None if error is not None else _reason(shift.error) or NOT_A_NUMBER,
    )


def _distances(distances: Distances, match: Match) -> DistancesRecord:
    return DistancesRecord(
        ks=_number(distances.ks),
        ks_noise=None if isinstance(distances.ks, NotFitted) else ks_noise(match.a.weights, match.b.weights),
        wasserstein=_number(distances.wasserstein),
        jensen_shannon=_number(distances.jensen_shannon),
    )


def _exact(exact: Exact) -> ExactRecord:
    return ExactRecord(
        relation=exact.relation.value,
        cast=_cast(exact.cast) if exact.cast else None,
        rearrangement=_rearrangement(exact.rearrangement) if exact.rearrangement else None,
        quantisation=_quantisation(exact.quantisation) if exact.quantisation else None,
        difference=_difference(exact.difference) if exact.difference else None,
        rank=_rank(exact.rank) if isinstance(exact.rank, RankProfile) else None,
        no_rank=_reason(exact.rank),
    )


def _cast(cast: Cast) -> CastRecord:
    return CastRecord(
        source=cast.source.value if cast.source else None,
        from_dtype=text(cast.from_dtype) or None,
        to_dtype=text(cast.to_dtype),
        rounding=cast.rounding.value,
        through=text(cast.through) or None,
        overflowed=cast.overflowed,
        flushed=cast.flushed,
    )


def _rearrangement(rearrangement: Rearrangement) -> RearrangementRecord:
    return RearrangementRecord(
        transposed=rearrangement.transposed,
        moved_rows=rearrangement.moved_rows,
        moved_columns=rearrangement.moved_columns,
    )


def _quantisation(quantisation: Quantisation) -> QuantisationRecord:
    figures = {
        "relative_error": quantisation.relative_error,
        "best_error": quantisation.best_error,
        "ratio": quantisation.ratio,
    }
    return QuantisationRecord(
        quantised=quantisation.quantised.value,
        scheme=text(quantisation.scheme),
        relative_error=_number(quantisation.relative_error),
        best_error=_number(quantisation.best_error),
        ratio=_number(quantisation.ratio),
        unknown=_unknown(figures),
    )


def _difference(difference: Difference) -> DifferenceRecord:
    figures = {
        "relative_error": difference.relative_error,
        "cosine": difference.cosine,
        "largest": difference.largest,
    }
    return DifferenceRecord(
        weights=difference.weights,
        changed=difference.changed,
        not_finite=difference.not_finite,
        relative_error=_number(difference.relative_error),
        cosine=_number(difference.cosine),
        largest=_number(difference.largest),
        largest_row=difference.largest_row,
        largest_column=difference.largest_column,
        unknown=_unknown(figures),
    )


def _rank(rank: RankProfile) -> RankRecord:
    known = [
        (of_rank, energy) for of_rank, energy in zip(rank.ranks, rank.energy, strict=True) if math.isfinite(energy)
    ]
    return RankRecord(
        ranks=[of_rank for of_rank, _ in known],
        energy=[energy for _, energy in known],
        rank=rank.rank,
        rank_is_bound=rank.rank_is_bound,
    )


def _unmatched(unmatched: Unmatched) -> UnmatchedRecord:
    return UnmatchedRecord(layer=_subject(unmatched.subject), reason=text(unmatched.reason))


def _buffer(buffer: BufferComparison) -> BufferRecord:
    return BufferRecord(name=text(buffer.name), identical=buffer.identical, sentence=text(buffer.sentence))


def _role(role: RoleSideBySide) -> RoleSideBySideRecord:
    figures = {
        "mean_a": role.mean_a,
        "mean_b": role.mean_b,
        "change": role.change,
        "error": role.error,
        "tau_a": role.tau_a,
        "tau_b": role.tau_b,
    }
    return RoleSideBySideRecord(
        role=str(role.role),
        quantity=str(role.quantity),
        layers_a=role.layers_a,
        layers_b=role.layers_b,
        **{name: _number(value) for name, value in figures.items()},
        unknown=_unknown(figures),
    )


def _trends(trends: RoleTrends) -> TrendsRecord:
    sides = {"a": trends.a, "b": trends.b}
    return TrendsRecord(
        role=str(trends.role),
        quantity=str(trends.quantity),
        a=_trend(trends.a) if isinstance(trends.a, Trend) else None,
        b=_trend(trends.b) if isinstance(trends.b, Trend) else None,
        unknown={side: text(trend.reason) for side, trend in sides.items() if isinstance(trend, NotFitted)},
    )


def _trend(trend: Trend) -> TrendRecord:
    return TrendRecord(
        layers=trend.layers, slope=_number(trend.slope), rank_correlation=_number(trend.rank_correlation)
    )


def _score(score: Score) -> ScoreRecord:
    return ScoreRecord(
        name=text(score.name),
        value=_number(score.value),
        compared=text(score.compared),
        unrelated=_null(score.unrelated),
        twins=_null(score.twins),
    )


def _null(null: Null) -> NullRecord:
    return NullRecord(what=text(null.what), middle=_number(null.middle), high=_number(null.high), draws=null.draws)


def _number(value: float | NotFitted) -> float | None:
    return value if not isinstance(value, NotFitted) and math.isfinite(value) else None


def _reason(value: object) -> str | None:
    return text(value.reason) if isinstance(value, NotFitted) else None


def _unknown(figures: dict[str, float | NotFitted]) -> dict[str, str]:
    """Why a figure is null, by its name."""
    return {name: _reason(value) or NOT_A_NUMBER for name, value in figures.items() if _number(value) is None}
