"""What a report says: checkpoints, one by one and together, and what the rules object to."""

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jaynes_audit.analyzers.audit import Audit, LeftOutReason
from jaynes_audit.analyzers.checkpoints.tensor import Defect
from jaynes_audit.analyzers.checkpoints.training_state.state import TrainingState
from jaynes_audit.analyzers.claim import try_claim
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record.claims import ClaimRecord, claim_record
from jaynes_audit.analyzers.record.fits import RulerRecord, SpreadRecord, sound
from jaynes_audit.analyzers.record.layers import (
    FamilyCount,
    LayerRecord,
    RoleRecord,
    layer_record,
    role_record,
    verdicts_of,
)
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.rules import Finding
from jaynes_audit.analyzers.thermodynamics.null import optimizer_null

FORMAT: Literal["jaynes-report/2"] = "jaynes-report/2"
JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"

NO_CONNECTED_FIT = "no highly connected matrix could be fitted"


class Tool(Struct, frozen=True, kw_only=True):
    """The program that wrote the report."""

    name: Annotated[str, Meta(description="Name of the distribution.")]
    version: Annotated[str, Meta(description="Its version.")]


class CriterionRecord(Struct, frozen=True, kw_only=True):
    """What counted as highly connected: hidden matrices that reach both numbers."""

    min_fan_in: Annotated[int, Meta(description="Least number of connections into each output.")]
    min_weights: Annotated[int, Meta(description="Least number of weights.")]


class CoverageRecord(Struct, frozen=True, kw_only=True):
    """How much of the checkpoint was analysed."""

    tensors: Annotated[int, Meta(description="Tensors of which any part was analysed.")]
    tensors_total: Annotated[int, Meta(description="Tensors in the checkpoint, those left out included.")]
    bytes: Annotated[int, Meta(description="Stored bytes of the analysed layers.")]
    bytes_total: Annotated[int, Meta(description="Stored bytes of all tensors.")]
    complete: Annotated[bool, Meta(description="False when anything failed, or only headers were read.")]


class HoldingRecord(Struct, frozen=True, kw_only=True):
    """What a checkpoint holds of one role in one number format, as its headers tell."""

    role: Annotated[str, Meta(description="What these tensors do in the network.")]
    dtype: Annotated[str, Meta(description="Number format, or the quantiser's label.")]
    matrices: Annotated[int, Meta(description="Matrices and vectors, parts of fused tensors counted by themselves.")]
    weights: Annotated[int, Meta(description="Elements in them.")]
    bytes: Annotated[int, Meta(description="Stored bytes of them.")]


class VarianceRecord(Struct, frozen=True, kw_only=True):
    """Where the variance of ln|w| of many layers' weights together comes from. The four add to 1."""

    between_layers: Annotated[float, Meta(description="Part between the layers' means.")]
    between_rows: Annotated[float, Meta(description="Part between the scales of rows.")]
    between_columns: Annotated[float, Meta(description="Part between the scales of columns.")]
    residual: Annotated[float, Meta(description="Part that is left.")]


class ConnectedRecord(Struct, frozen=True, kw_only=True):
    """The highly connected matrices of a model, taken together. Tied matrices count once."""

    layers: Annotated[int, Meta(description="Highly connected matrices.")]
    weights: Annotated[int, Meta(description="Weights in them.")]
    fitted: Annotated[int, Meta(description="How many of them could be fitted; the spreads are over these.")]
    mu: Annotated[SpreadRecord | None, Meta(description="Mean of ln|w| of each matrix.")]
    sigma: Annotated[SpreadRecord | None, Meta(description="Standard deviation of ln|w| of each matrix.")]
    skewness: Annotated[SpreadRecord | None, Meta(description="Skewness of ln|w| of each matrix.")]
    excess_kurtosis: Annotated[SpreadRecord | None, Meta(description="Excess kurtosis of ln|w| of each matrix.")]
    psi: Annotated[SpreadRecord | None, Meta(description="Distance from the fitted lognormal, in nats per weight.")]
    ks: Annotated[SpreadRecord | None, Meta(description="Kolmogorov-Smirnov distance to the fitted lognormal.")]
    not_fitted: Annotated[str | None, Meta(description="Why the spreads are null; null when they are there.")]
    verdicts: Annotated[list[FamilyCount], Meta(description="The verdicts on them, the most common first.")]
    variance: Annotated[VarianceRecord | None, Meta(description="Where their log-variance lies; null: `no_variance`.")]
    no_variance: Annotated[str | None, Meta(description="Why `variance` is null; null when it is there.")]


class LeftOutRecord(Struct, frozen=True, kw_only=True):
    """A layer or a whole tensor that was not analysed."""

    name: Annotated[str, Meta(description="Its name.")]
    dtype: Annotated[str, Meta(description="Number format it is stored in.")]
    shape: Annotated[list[int], Meta(description="Shape of the stored tensor; empty, as dtype, if it is missing.")]
    reason: Annotated[str, Meta(description=f"One of {', '.join(map(str, LeftOutReason))}.")]
    explanation: Annotated[str, Meta(description="The same in words.")]


class DefectRecord(Struct, frozen=True, kw_only=True):
    """A file, or a part of a checkpoint, that is not what it claims to be."""

    rule: Annotated[str, Meta(description="Code of the rule that reports it.")]
    case: Annotated[str, Meta(description="Short stable name of the exact defect.")]
    file: Annotated[str, Meta(description="The file.")]
    sentence: Annotated[str, Meta(description="What is wrong with it.")]


class LineRecord(Struct, frozen=True, kw_only=True):
    """A line of a text file."""

    file: Annotated[str, Meta(description="The file, as it was named.")]
    line: Annotated[int, Meta(description="Number of the line, from 1.")]


class BytesRecord(Struct, frozen=True, kw_only=True):
    """Where a tensor is stored."""

    file: Annotated[str, Meta(description="The file of weights.")]
    offset: Annotated[int | None, Meta(description="Its first byte, from 0; null where it is not known.")]
    length: Annotated[int | None, Meta(description="How many bytes it has; null where it is not known.")]


class FindingRecord(Struct, frozen=True, kw_only=True):
    """Something that a rule objects to."""

    rule: Annotated[str, Meta(description="Code of the rule.")]
    name: Annotated[str, Meta(description="Name of the rule.")]
    level: Annotated[Literal["error", "warning", "note"], Meta(description="How much it matters.")]
    subject: Annotated[str, Meta(description="The layer or the file it is about.")]
    sentence: Annotated[str, Meta(description="What was found.")]
    status: Annotated[
        Literal["new", "baselined", "ignored"], Meta(description="Only new findings decide the exit status.")
    ] = "new"
    why: Annotated[str | None, Meta(description="Why it is ignored; null when it is not.")] = None
    fingerprint: Annotated[
        str, Meta(description="The same for the same rule, model and subject, whatever was measured. 16 hex digits.")
    ] = ""
    line: Annotated[
        LineRecord | None, Meta(description="The subject's line in the baseline or the index; null: it has none.")
    ] = None
    stored: Annotated[BytesRecord | None, Meta(description="Where the subject is stored; null: unknown.")] = None


class BaselineRecord(Struct, frozen=True, kw_only=True):
    """The baseline that a model was held against."""

    place: Annotated[str, Meta(description="Where it was read: a path, or REVISION:PATH in git.")]
    model: Annotated[str, Meta(description="Name of the model it was written from.")]
    statistics: Annotated[str, Meta(description="Version of how its numbers were measured.")]
    layers: Annotated[int, Meta(description="Layers in it.")]
    digest: Annotated[str, Meta(description="SHA-256 of the file, in hexadecimal.")]


class OptimizerNullRecord(Struct, frozen=True, kw_only=True):
    """The mu of the highly connected matrices beside what AdamW's learning rates and weight decay alone would make."""

    matrices: Annotated[int, Meta(description="Highly connected matrices that the prediction is made for.")]
    age: Annotated[float, Meta(description="Sum of learning rate times weight decay over the steps so far.")]
    predicted_mu: Annotated[float, Meta(description="Mu of Gaussian weights with the predicted rms, one for all.")]
    mu: Annotated[float, Meta(description="Mean of their measured mu.")]
    spread: Annotated[float, Meta(description="Standard deviation of the measured mu.")]
    source: Annotated[str, Meta(description="Where the learning rates come from.")]


class ModelRecord(Struct, frozen=True, kw_only=True):
    """The audit of one checkpoint."""

    target: Annotated[str, Meta(description="Where the checkpoint is, as it was asked for.")]
    commit: Annotated[str | None, Meta(description="The Hub's name of the version read; null for a local one.")]
    files: Annotated[list[str], Meta(description="The files of weights that were read.")]
    holdings: Annotated[list[HoldingRecord], Meta(description="What it holds, by role and number format.")]
    criterion: Annotated[CriterionRecord, Meta(description="What counted as highly connected.")]
    coverage: Annotated[CoverageRecord, Meta(description="How much was analysed.")]
    connected: Annotated[ConnectedRecord, Meta(description="The highly connected matrices taken together.")]
    claim: Annotated[ClaimRecord, Meta(description="Whether they share one lognormal law.")]
    roles: Annotated[list[RoleRecord], Meta(description="The layers by role and number format.")]
    layers: Annotated[list[LayerRecord], Meta(description="Every layer, numbered names in numerical order.")]
    left_out: Annotated[list[LeftOutRecord], Meta(description="What was not analysed, and why.")]
    aliases: Annotated[dict[str, str], Meta(description="Tied tensors that the writer dropped: dropped to kept.")]
    defects: Annotated[list[DefectRecord], Meta(description="What is wrong with the files.")]
    findings: Annotated[list[FindingRecord], Meta(description="What the rules object to, the worst first.")]
    remarks: Annotated[list[str], Meta(description="What was chosen and what was passed over.")]
    baseline: Annotated[
        BaselineRecord | None, Meta(description="The baseline it was held against; null: there was none.")
    ] = None
    optimizer: Annotated[
        OptimizerNullRecord | None,
        Meta(description="What its learning rates alone would make of mu; null: they are not known, or decay nothing."),
    ] = None


class TimingRecord(Struct, frozen=True, kw_only=True):
    """How long the work on one model took, in seconds."""

    target: Annotated[str, Meta(description="The model.")]
    reading: Annotated[float, Meta(description="To open it, to read and to measure every layer.")]
    judging: Annotated[float, Meta(description="To ask every rule.")]


class FailureRecord(Struct, frozen=True, kw_only=True):
    """A target that gave no audit at all."""

    target: Annotated[str, Meta(description="The target, as it was asked for.")]
    exit_code: Annotated[int, Meta(description="The exit status it would have by itself.")]
    sentence: Annotated[str, Meta(description="What happened, and what to do.")]


class ReportRecord(Struct, frozen=True, kw_only=True):
    """What one run of the auditor found."""

    format: Annotated[Literal["jaynes-report/2"], Meta(description="Name and version of this shape.")] = FORMAT
    tool: Annotated[Tool, Meta(description="What wrote it.")]
    rulers: Annotated[
        list[RulerRecord], Meta(description="What weights of known laws score; first Gaussian noise, the null to beat.")
    ]
    models: Annotated[list[ModelRecord], Meta(description="One audit per checkpoint, in the order asked for.")]
    claim: Annotated[
        ClaimRecord | None, Meta(description="Whether the layers of all models share one law; null for fewer than two.")
    ]
    failures: Annotated[list[FailureRecord], Meta(description="Targets that gave no audit.")]
    findings: Annotated[
        list[FindingRecord], Meta(description="What the rules object to in the run itself, such as an expired ignore.")
    ] = []
    command: Annotated[Literal["audit", "gate"], Meta(description="The command that wrote it.")] = "audit"
    fail_on: Annotated[
        Literal["error", "warning", "note", "never"],
        Meta(description="Lowest level of a new finding that makes the exit status 1."),
    ] = "error"
    timing: Annotated[
        list[TimingRecord] | None, Meta(description="With --timing: how long it took. Else null: no report varies.")
    ] = None
    exit_code: Annotated[int, Meta(description="The exit status of the run, the same for every format.")]
    exit_reason: Annotated[str, Meta(description="Why the exit status is what it is.")]


def record_of(audit: Audit, findings: Iterable[Finding]) -> ModelRecord:
    """Give the public record of an audit and of what the rules object to in it."""
    return ModelRecord(
        target=text(audit.target),
        commit=text(audit.commit) or None,
        files=[text(file) for file in audit.files],
        holdings=[
            HoldingRecord(
                role=str(each.role),
                dtype=each.dtype,
                matrices=each.matrices,
                weights=each.weights,
                bytes=each.bytes,
            )
            for each in audit.holdings
        ],
        criterion=CriterionRecord(
            min_fan_in=audit.criterion.min_fan_in,
            min_weights=audit.criterion.min_weights,
        ),
        coverage=CoverageRecord(
            tensors=audit.coverage.tensors,
            tensors_total=audit.coverage.tensors_total,
            bytes=audit.coverage.bytes,
            bytes_total=audit.coverage.bytes_total,
            complete=audit.coverage.complete,
        ),
        connected=_connected(audit),
        claim=claim_record(try_claim([audit])),
        roles=[role_record(role, audit.layers) for role in audit.roles],
        layers=[layer_record(layer) for layer in audit.layers],
        left_out=[
            LeftOutRecord(
                name=text(each.name),
                dtype=str(each.dtype),
                shape=list(each.shape),
                reason=str(each.reason),
                explanation=text(each.explanation),
            )
            for each in audit.left_out
        ],
        aliases={text(dropped): text(kept) for dropped, kept in audit.aliases.items()},
        defects=[_defect(defect) for defect in audit.defects],
        findings=[finding_record(finding) for finding in findings],
        remarks=[text(remark) for remark in audit.remarks],
    )


def optimizer_null_record(audit: Audit, training: TrainingState) -> OptimizerNullRecord | None:
    """Give the public record of what the training alone would make of the mu of an audit's matrices."""
    log_means = [
        fit.moments.log_mean
        for layer in audit.layers
        if layer.connected and not layer.tied_to and isinstance(fit := sound(layer.fit), LognormalFit)
    ]
    null = optimizer_null(log_means, training)
    if null is None:
        return None
    return OptimizerNullRecord(
        matrices=null.matrices,
        age=null.age,
        predicted_mu=null.predicted_log_mean,
        mu=null.log_mean,
        spread=null.spread,
        source=text(null.source),
    )


def failure_record(target: str, sentence: str, exit_code: int) -> FailureRecord:
    """Give the public record of a target that gave no audit."""
    return FailureRecord(target=text(target), exit_code=exit_code, sentence=text(sentence))


def finding_record(finding: Finding) -> FindingRecord:
    """Give the public record of what a rule objects to."""
    return FindingRecord(
        rule=finding.rule,
        name=finding.name,
        level=finding.level.value,
        subject=text(finding.subject),
        sentence=text(finding.sentence),
        status=finding.status.value,
        why=text(finding.why) or None,
    )


def report_schema() -> dict[str, object]:
    """Give the JSON Schema (2020-12) of a report."""
    return {
        "$schema": JSON_SCHEMA,
        "title": FORMAT,
        "description": "A report of `jaynes audit`: what the weights of one or more checkpoints are like.",
        **msgspec.json.schema(ReportRecord),
    }


def _defect(defect: Defect) -> DefectRecord:
    return DefectRecord(rule=defect.rule, case=defect.case, file=text(defect.file), sentence=text(defect.sentence))


def _connected(audit: Audit) -> ConnectedRecord:
    layers = [layer for layer in audit.layers if layer.connected and not layer.tied_to]
    variance = audit.variance
    fits = [fit for layer in layers if isinstance(fit := sound(layer.fit), LognormalFit)]
    return ConnectedRecord(
        layers=len(layers),
        weights=sum(layer.counts.weights for layer in layers),
        fitted=len(fits),
        mu=_spread_over(fit.moments.log_mean for fit in fits),
        sigma=_spread_over(fit.moments.log_sigma for fit in fits),
        skewness=_spread_over(fit.moments.skewness for fit in fits),
        excess_kurtosis=_spread_over(fit.moments.excess_kurtosis for fit in fits),
        psi=_spread_over(fit.divergence for fit in fits),
        ks=_spread_over(fit.ks_distance for fit in fits),
        not_fitted=None if fits else NO_CONNECTED_FIT,
        verdicts=verdicts_of(layers),
        variance=None
        if isinstance(variance, NotFitted)
        else VarianceRecord(
            between_layers=variance.between_layers,
            between_rows=variance.between_rows,
            between_columns=variance.between_columns,
            residual=variance.residual,
        ),
        no_variance=variance.reason if isinstance(variance, NotFitted) else None,
    )


def _spread_over(values: Iterator[float]) -> SpreadRecord | None:
    known = list(values)
    return SpreadRecord(least=min(known), median=median(known), greatest=max(known)) if known else None
