r"""Audit -> record: the public, versioned shape of a report, the same for JSON, Python and every printed format.

Every field says what it means and in which unit; `report_schema` is made from these words. A quantity that could not
be had is null, and the field beside it says why: no NaN or infinity is ever written. Texts that come out of a
checkpoint are kept as they are but for lone surrogates, which are no Unicode and stand as `\\udc80`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.checkpoints.tensor import Defect
from jaynes_audit.analyzers.distributions.lognormal import GAUSSIAN, LognormalFit, Ruler
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.layer_audit import LayerAudit, Scales
from jaynes_audit.analyzers.role_audit import RoleAudit, Spread
from jaynes_audit.analyzers.rules import Finding

FORMAT: Literal["jaynes-report/1"] = "jaynes-report/1"
JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"

NOT_FINITE = "its log-moments are not finite numbers: the non-zero weights are too much alike"
ERRORS_NOT_FINITE = "left-out row blocks leave weights too much alike for a standard error"
NO_CONNECTED_FIT = "no highly connected matrix could be fitted"


class Tool(Struct, frozen=True, kw_only=True):
    """The program that wrote the report."""

    name: Annotated[str, Meta(description="Name of the distribution.")]
    version: Annotated[str, Meta(description="Its version.")]


class RulerRecord(Struct, frozen=True, kw_only=True):
    """What weights of a well-known law score, at any scale. A lognormal scores 0 everywhere but in `sigma`."""

    family: Annotated[str, Meta(description="The law of the weights.")]
    sigma: Annotated[float, Meta(description="Standard deviation of ln|w|.")]
    skewness: Annotated[float, Meta(description="Skewness of ln|w|.")]
    excess_kurtosis: Annotated[float, Meta(description="Excess kurtosis of ln|w|.")]
    psi: Annotated[float, Meta(description="KL(weights || fitted lognormal), in nats per weight.")]
    ks: Annotated[float, Meta(description="Kolmogorov-Smirnov distance to the fitted lognormal, 0 to 1.")]


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
    complete: Annotated[bool, Meta(description="False when anything failed that should have been read.")]


class SpreadRecord(Struct, frozen=True, kw_only=True):
    """A quantity over several layers."""

    least: Annotated[float, Meta(description="Its least value.")]
    median: Annotated[float, Meta(description="Its middle value.")]
    greatest: Annotated[float, Meta(description="Its greatest value.")]


class PooledFitRecord(Struct, frozen=True, kw_only=True):
    """The lognormal fitted to the weights of several layers thrown together. Layers of unlike scale widen it."""

    mu: Annotated[float, Meta(description="Mean of ln|w| over the finite non-zero weights (natural logarithm).")]
    sigma: Annotated[float, Meta(description="Standard deviation of ln|w|.")]
    skewness: Annotated[float, Meta(description="Skewness of ln|w|: 0 for a lognormal.")]
    excess_kurtosis: Annotated[float, Meta(description="Excess kurtosis of ln|w|: 0 for a lognormal.")]
    psi: Annotated[float, Meta(description="KL(weights || fit), in nats per weight, corrected for counting bias.")]
    ks: Annotated[float, Meta(description="Kolmogorov-Smirnov distance between weights and fit, 0 to 1.")]


class FitRecord(PooledFitRecord, frozen=True, kw_only=True):
    """The lognormal LN(mu, sigma) fitted to one layer's |w|, its standard errors, and how far the weights are from it.

    Where `jackknife_blocks` is 0 the errors are naive: those of independent weights, which real rows are not, so they
    are too small.
    """

    se_mu: Annotated[float | None, Meta(description="Standard error of mu; null: see `no_errors`.")]
    se_sigma: Annotated[float | None, Meta(description="Standard error of sigma.")]
    se_skewness: Annotated[float | None, Meta(description="Standard error of the skewness.")]
    se_excess_kurtosis: Annotated[float | None, Meta(description="Standard error of the excess kurtosis.")]
    jackknife_blocks: Annotated[
        int, Meta(description="Row blocks left out in turn; 0: too few rows, the errors are naive and too small.")
    ]
    no_errors: Annotated[str | None, Meta(description="Why the errors are null; null when they are there.")]


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


class RoleRecord(Struct, frozen=True, kw_only=True):
    """All layers of one role and number format. Tied layers count once."""

    role: Annotated[str, Meta(description="What the tensors do in the network.")]
    dtype: Annotated[str, Meta(description="Number format they are stored in, as safetensors names it.")]
    layers: Annotated[int, Meta(description="Layers of this role and format.")]
    connected: Annotated[int, Meta(description="How many of them are highly connected.")]
    weights: Annotated[int, Meta(description="Weights in them.")]
    zero: Annotated[int, Meta(description="Weights that are exactly zero.")]
    not_finite: Annotated[int, Meta(description="Weights that are NaN or infinite.")]
    pooled: Annotated[PooledFitRecord | None, Meta(description="The fit of all their weights thrown together.")]
    pooled_not_fitted: Annotated[str | None, Meta(description="Why `pooled` is null; null when it is there.")]
    mu: Annotated[SpreadRecord | None, Meta(description="Mean of ln|w| of each layer.")]
    sigma: Annotated[SpreadRecord | None, Meta(description="Standard deviation of ln|w| of each layer.")]
    skewness: Annotated[SpreadRecord | None, Meta(description="Skewness of ln|w| of each layer.")]
    excess_kurtosis: Annotated[SpreadRecord | None, Meta(description="Excess kurtosis of ln|w| of each layer.")]
    psi: Annotated[SpreadRecord | None, Meta(description="Distance from the fitted lognormal, in nats per weight.")]
    ks: Annotated[SpreadRecord | None, Meta(description="Kolmogorov-Smirnov distance to the fitted lognormal.")]
    not_fitted: Annotated[str | None, Meta(description="Why a spread is null; null when all are there.")]


class LayerRecord(Struct, frozen=True, kw_only=True):
    """One weight matrix, or vector of gains or biases."""

    name: Annotated[str, Meta(description="The tensor's name, and in brackets its part where matrices are fused.")]
    tensor: Annotated[str, Meta(description="The stored tensor.")]
    file: Annotated[str, Meta(description="The file it is stored in.")]
    dtype: Annotated[str, Meta(description="Number format it is stored in, as safetensors names it.")]
    role: Annotated[str, Meta(description="What it does in the network; `other` when its name is unknown.")]
    stack: Annotated[str, Meta(description="The stack of blocks it belongs to, as `encoder`; empty where one is all.")]
    depth: Annotated[int | None, Meta(description="Index of its block in the stack; null outside the stack.")]
    rows: Annotated[int, Meta(description="Rows of the stored matrix.")]
    columns: Annotated[int, Meta(description="Columns of the stored matrix; 1 for a vector.")]
    fan_in: Annotated[int, Meta(description="Connections into each output; 0 for what is no weight matrix.")]
    fan_out: Annotated[int, Meta(description="Connections out of each input; 0 for what is no weight matrix.")]
    connected: Annotated[bool, Meta(description="Whether it is a highly connected hidden matrix.")]
    tied_to: Annotated[str | None, Meta(description="The layer that holds the very same weights, where they are one.")]
    weights: Annotated[int, Meta(description="How many weights it has. This and all counts are exact.")]
    zero: Annotated[int, Meta(description="Weights that are +0 or -0.")]
    subnormal: Annotated[int, Meta(description="Subnormal weights; float64 ones are counted as float32.")]
    max_finite: Annotated[int, Meta(description="Weights at the greatest finite magnitude of their number format.")]
    infinite: Annotated[int, Meta(description="Weights that are +infinity or -infinity.")]
    nan: Annotated[int, Meta(description="Weights that are NaN.")]
    negative: Annotated[int, Meta(description="Weights with their sign bit set, zeros and NaNs included.")]
    distinct: Annotated[int, Meta(description="Unequal non-zero magnitudes on the 16-bit grid of the sketch.")]
    largest: Annotated[float, Meta(description="The greatest finite magnitude.")]
    rms: Annotated[float, Meta(description="Root of the mean square of the finite weights.")]
    content: Annotated[str, Meta(description="128-bit hash of the stored weights, in hexadecimal.")]
    row_log_sd: Annotated[float | None, Meta(description="Standard deviation of ln(row rms); null: `not_scaled`.")]
    column_log_sd: Annotated[float | None, Meta(description="Standard deviation of ln(column rms).")]
    zero_rows: Annotated[int | None, Meta(description="Rows that are all zero.")]
    zero_columns: Annotated[int | None, Meta(description="Columns that are all zero.")]
    not_scaled: Annotated[str | None, Meta(description="Why rows and columns were not measured; null when they were.")]
    fit: Annotated[FitRecord | None, Meta(description="The fitted lognormal; null: see `not_fitted`.")]
    not_fitted: Annotated[str | None, Meta(description="Why there is no fit; null when there is one.")]


class LeftOutRecord(Struct, frozen=True, kw_only=True):
    """A layer or a whole tensor that was not analysed."""

    name: Annotated[str, Meta(description="Its name.")]
    dtype: Annotated[str, Meta(description="Number format it is stored in.")]
    shape: Annotated[list[int], Meta(description="Shape of the stored tensor; empty, as dtype, if it is missing.")]
    reason: Annotated[str, Meta(description="not-weights, empty, not-requested, missing, refused or could-not-read.")]
    explanation: Annotated[str, Meta(description="The same in words.")]


class DefectRecord(Struct, frozen=True, kw_only=True):
    """A file, or a part of a checkpoint, that is not what it claims to be."""

    rule: Annotated[str, Meta(description="Code of the rule that reports it.")]
    case: Annotated[str, Meta(description="Short stable name of the exact defect.")]
    file: Annotated[str, Meta(description="The file.")]
    sentence: Annotated[str, Meta(description="What is wrong with it.")]


class FindingRecord(Struct, frozen=True, kw_only=True):
    """Something that a rule objects to."""

    rule: Annotated[str, Meta(description="Code of the rule.")]
    name: Annotated[str, Meta(description="Name of the rule.")]
    level: Annotated[Literal["error", "warning", "note"], Meta(description="How much it matters.")]
    subject: Annotated[str, Meta(description="The layer or the file it is about.")]
    sentence: Annotated[str, Meta(description="What was found.")]


class ModelRecord(Struct, frozen=True, kw_only=True):
    """The audit of one checkpoint."""

    target: Annotated[str, Meta(description="Where the checkpoint is, as it was asked for.")]
    files: Annotated[list[str], Meta(description="The files of weights that were read.")]
    criterion: Annotated[CriterionRecord, Meta(description="What counted as highly connected.")]
    coverage: Annotated[CoverageRecord, Meta(description="How much was analysed.")]
    connected: Annotated[ConnectedRecord, Meta(description="The highly connected matrices taken together.")]
    roles: Annotated[list[RoleRecord], Meta(description="The layers by role and number format.")]
    layers: Annotated[list[LayerRecord], Meta(description="Every layer, numbered names in numerical order.")]
    left_out: Annotated[list[LeftOutRecord], Meta(description="What was not analysed, and why.")]
    aliases: Annotated[dict[str, str], Meta(description="Tied tensors that the writer dropped: dropped to kept.")]
    defects: Annotated[list[DefectRecord], Meta(description="What is wrong with the files.")]
    findings: Annotated[list[FindingRecord], Meta(description="What the rules object to, the worst first.")]
    remarks: Annotated[list[str], Meta(description="What was chosen and what was passed over.")]


class FailureRecord(Struct, frozen=True, kw_only=True):
    """A target that gave no audit at all."""

    target: Annotated[str, Meta(description="The target, as it was asked for.")]
    exit_code: Annotated[int, Meta(description="The exit status it would have by itself.")]
    sentence: Annotated[str, Meta(description="What happened, and what to do.")]


class ReportRecord(Struct, frozen=True, kw_only=True):
    """What one run of the auditor found."""

    format: Annotated[Literal["jaynes-report/1"], Meta(description="Name and version of this shape.")] = FORMAT
    tool: Annotated[Tool, Meta(description="What wrote it.")]
    ruler: Annotated[RulerRecord, Meta(description="What Gaussian weights score, trained or not: the null to beat.")]
    models: Annotated[list[ModelRecord], Meta(description="One audit per checkpoint, in the order asked for.")]
    failures: Annotated[list[FailureRecord], Meta(description="Targets that gave no audit.")]
    exit_code: Annotated[int, Meta(description="The exit status of the run, the same for every format.")]
    exit_reason: Annotated[str, Meta(description="Why the exit status is what it is.")]


def record_of(audit: Audit, findings: Iterable[Finding]) -> ModelRecord:
    """Give the public record of an audit and of what the rules object to in it."""
    return ModelRecord(
        target=_text(audit.target),
        files=[_text(file) for file in audit.files],
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
        connected=_connected([layer for layer in audit.layers if layer.connected and not layer.tied_to]),
        roles=[_role(role) for role in audit.roles],
        layers=[_layer(layer) for layer in audit.layers],
        left_out=[
            LeftOutRecord(
                name=_text(each.name),
                dtype=str(each.dtype),
                shape=list(each.shape),
                reason=str(each.reason),
                explanation=_text(each.explanation),
            )
            for each in audit.left_out
        ],
        aliases={_text(dropped): _text(kept) for dropped, kept in audit.aliases.items()},
        defects=[_defect(defect) for defect in audit.defects],
        findings=[_finding(finding) for finding in findings],
        remarks=[_text(remark) for remark in audit.remarks],
    )


def ruler_record(ruler: Ruler = GAUSSIAN) -> RulerRecord:
    """Give the public record of a ruler."""
    return RulerRecord(
        family=ruler.family,
        sigma=ruler.log_sigma,
        skewness=ruler.skewness,
        excess_kurtosis=ruler.excess_kurtosis,
        psi=ruler.divergence,
        ks=ruler.ks_distance,
    )


def failure_record(target: str, sentence: str, exit_code: int) -> FailureRecord:
    """Give the public record of a target that gave no audit."""
    return FailureRecord(target=_text(target), exit_code=exit_code, sentence=_text(sentence))


def report_schema() -> dict[str, object]:
    """Give the JSON Schema (2020-12) of a report."""
    return {
        "$schema": JSON_SCHEMA,
        "title": FORMAT,
        "description": "A report of `jaynes audit`: what the weights of one or more checkpoints are like.",
        **msgspec.json.schema(ReportRecord),
    }


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _defect(defect: Defect) -> DefectRecord:
    return DefectRecord(rule=defect.rule, case=defect.case, file=_text(defect.file), sentence=_text(defect.sentence))


def _finding(finding: Finding) -> FindingRecord:
    return FindingRecord(
        rule=finding.rule,
        name=finding.name,
        level=finding.level.value,
        subject=_text(finding.subject),
        sentence=_text(finding.sentence),
    )


def _connected(layers: Sequence[LayerAudit]) -> ConnectedRecord:
    fits = [fit for layer in layers if isinstance(fit := _sound(layer.fit), LognormalFit)]
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
    )


def _spread_over(values: Iterator[float]) -> SpreadRecord | None:
    known = list(values)
    return SpreadRecord(least=min(known), median=median(known), greatest=max(known)) if known else None


def _role(role: RoleAudit) -> RoleRecord:
    pooled = _sound(role.pooled)
    spreads = (
        role.log_mean,
        role.log_sigma,
        role.skewness,
        role.excess_kurtosis,
        role.divergence,
        role.ks_distance,
    )
    reasons = [spread.reason for spread in spreads if isinstance(spread, NotFitted)]
    records = [_spread(spread) for spread in spreads]
    mu, sigma, skewness, excess_kurtosis, psi, ks = records
    return RoleRecord(
        role=str(role.role),
        dtype=str(role.dtype),
        layers=role.layers,
        connected=role.connected,
        weights=role.weights,
        zero=role.zero,
        not_finite=role.not_finite,
        pooled=None if isinstance(pooled, NotFitted) else _pooled(pooled),
        pooled_not_fitted=pooled.reason if isinstance(pooled, NotFitted) else None,
        mu=mu,
        sigma=sigma,
        skewness=skewness,
        excess_kurtosis=excess_kurtosis,
        psi=psi,
        ks=ks,
        not_fitted=reasons[0] if reasons else None if all(records) else NOT_FINITE,
    )


def _spread(spread: Spread | NotFitted) -> SpreadRecord | None:
    if isinstance(spread, NotFitted) or not _finite(spread.least, spread.median, spread.greatest):
        return None
    return SpreadRecord(least=spread.least, median=spread.median, greatest=spread.greatest)


def _layer(layer: LayerAudit) -> LayerRecord:
    counts, fit = layer.counts, _sound(layer.fit)
    scales = layer.scales if isinstance(layer.scales, Scales) else None
    return LayerRecord(
        name=_text(layer.name),
        tensor=_text(layer.tensor),
        file=_text(layer.file),
        dtype=str(layer.dtype),
        role=str(layer.role),
        stack=_text(layer.stack),
        depth=layer.depth,
        rows=layer.rows,
        columns=layer.columns,
        fan_in=layer.fan_in,
        fan_out=layer.fan_out,
        connected=layer.connected,
        tied_to=_text(layer.tied_to) or None,
        weights=counts.weights,
        zero=counts.zero,
        subnormal=counts.subnormal,
        max_finite=counts.max_finite,
        infinite=counts.infinite,
        nan=counts.nan,
        negative=counts.negative,
        distinct=counts.distinct,
        largest=layer.largest,
        rms=layer.rms,
        content=layer.content,
        row_log_sd=scales.row_log_sd if scales else None,
        column_log_sd=scales.column_log_sd if scales else None,
        zero_rows=scales.zero_rows if scales else None,
        zero_columns=scales.zero_columns if scales else None,
        not_scaled=layer.scales.reason if isinstance(layer.scales, NotFitted) else None,
        fit=None if isinstance(fit, NotFitted) else _fit(fit, layer.errors),
        not_fitted=fit.reason if isinstance(fit, NotFitted) else None,
    )


def _sound(fit: LognormalFit | NotFitted) -> LognormalFit | NotFitted:
    """The fit, unless rounding left it without a spread to divide by."""
    if isinstance(fit, NotFitted):
        return fit
    moments = fit.moments
    numbers = (moments.log_mean, moments.log_sigma, moments.skewness, moments.excess_kurtosis)
    return fit if _finite(*numbers, fit.divergence, fit.ks_distance) else NotFitted(NOT_FINITE)


def _pooled(fit: LognormalFit) -> PooledFitRecord:
    return PooledFitRecord(
        mu=fit.moments.log_mean,
        sigma=fit.moments.log_sigma,
        skewness=fit.moments.skewness,
        excess_kurtosis=fit.moments.excess_kurtosis,
        psi=fit.divergence,
        ks=fit.ks_distance,
    )


def _fit(fit: LognormalFit, errors: LogMomentErrors | NotFitted) -> FitRecord:
    reason = errors.reason if isinstance(errors, NotFitted) else ERRORS_NOT_FINITE
    sound = errors if isinstance(errors, LogMomentErrors) and _have_values(errors) else None
    return FitRecord(
        mu=fit.moments.log_mean,
        sigma=fit.moments.log_sigma,
        skewness=fit.moments.skewness,
        excess_kurtosis=fit.moments.excess_kurtosis,
        psi=fit.divergence,
        ks=fit.ks_distance,
        se_mu=sound.log_mean if sound else None,
        se_sigma=sound.log_sigma if sound else None,
        se_skewness=sound.skewness if sound else None,
        se_excess_kurtosis=sound.excess_kurtosis if sound else None,
        jackknife_blocks=sound.blocks if sound else 0,
        no_errors=None if sound else reason,
    )


def _have_values(errors: LogMomentErrors) -> bool:
    return _finite(errors.log_mean, errors.log_sigma, errors.skewness, errors.excess_kurtosis)


def _finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))
