"""What a report says of layers, and of the layers of one role."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from jaynes_audit.analyzers.anatomy import Anatomy
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramFit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import Ranking
from jaynes_audit.analyzers.layer_audit import CodeOccupancy, LayerAudit, Scales
from jaynes_audit.analyzers.record.fits import (
    NOT_FINITE,
    CandidateRecord,
    FitRecord,
    HistogramFitRecord,
    PooledFitRecord,
    SpreadRecord,
    candidate_record,
    finite,
    fit_record,
    histogram_fit_record,
    pooled_record,
    sound,
)
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.role_audit import RoleAudit, Spread


class VerdictRecord(Struct, frozen=True, kw_only=True):
    """Which law a layer's weights follow, as far as it can be told."""

    kind: Annotated[
        str, Meta(description="lognormal, lognormal by mixing, rival, undecided, degenerate or not fitted.")
    ]
    name: Annotated[str, Meta(description="The family where one was found, else the kind.")]
    reason: Annotated[str, Meta(description="Why, in a few words.")]


class AnatomyRecord(Struct, frozen=True, kw_only=True):
    """A layer taken apart: w = (scale of its row) * (scale of its column) * residual."""

    row_log_variance: Annotated[float, Meta(description="Variance of ln(row scale), less what chance gives.")]
    column_log_variance: Annotated[float, Meta(description="Variance of ln(column scale), less what chance gives.")]
    residual_log_variance: Annotated[float, Meta(description="Variance of ln|residual|.")]
    row_share: Annotated[float, Meta(description="Part of the layer's log-variance between rows; the three add to 1.")]
    column_share: Annotated[float, Meta(description="Part between columns.")]
    residual_share: Annotated[float, Meta(description="Part that neither accounts for.")]
    row_residual_skewness: Annotated[float, Meta(description="Skewness of ln|w| once the rms of rows is divided out.")]
    row_residual_excess_kurtosis: Annotated[float, Meta(description="Its excess kurtosis.")]
    residual_skewness: Annotated[float, Meta(description="Skewness once rows and columns are; Gaussian: -1.535.")]
    residual_excess_kurtosis: Annotated[float, Meta(description="Its excess kurtosis; Gaussian: 4.")]
    residual_family: Annotated[str | None, Meta(description="The family of the residual weights; null: undecided.")]


class FamilyCount(Struct, frozen=True, kw_only=True):
    """How many layers got one verdict."""

    name: Annotated[str, Meta(description="The verdict's name.")]
    layers: Annotated[int, Meta(description="How many layers got it.")]


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
    verdicts: Annotated[list[FamilyCount], Meta(description="The verdicts on its layers, the most common first.")]


class CodesRecord(Struct, frozen=True, kw_only=True):
    """How a quantised layer uses the codes of its quantiser."""

    description: Annotated[str, Meta(description="The quantiser in words.")]
    available: Annotated[int, Meta(description="Codes it has; 0 where they are not counted.")]
    used: Annotated[int, Meta(description="Codes that occur.")]
    entropy: Annotated[float, Meta(description="Entropy of the codes, in bits per weight.")]
    commonest_share: Annotated[float, Meta(description="Share of the weights that have the most frequent code.")]


class LayerRecord(Struct, frozen=True, kw_only=True):
    """One weight matrix, or vector of gains or biases."""

    name: Annotated[str, Meta(description="The tensor's name, and in brackets its part where matrices are fused.")]
    tensor: Annotated[str, Meta(description="The stored tensor.")]
    file: Annotated[str, Meta(description="The file it is stored in.")]
    dtype: Annotated[str, Meta(description="Number format as safetensors names it, or the quantiser's label.")]
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
    verdict: Annotated[VerdictRecord, Meta(description="Which law its weights follow.")]
    candidates: Annotated[list[CandidateRecord], Meta(description="The families it was compared with, best first.")]
    not_compared: Annotated[str | None, Meta(description="Why `candidates` is empty; null when it is not.")]
    anatomy: Annotated[AnatomyRecord | None, Meta(description="Where its log-variance lies; null: `not_dissected`.")]
    not_dissected: Annotated[str | None, Meta(description="Why there is no anatomy; null when there is one.")]
    histogram: Annotated[
        HistogramFitRecord | None, Meta(description="The curve of `--method histogram`; null: `no_histogram`.")
    ]
    no_histogram: Annotated[str | None, Meta(description="Why there is no such curve; null when there is one.")]
    declared_sd: Annotated[
        float | None, Meta(description="Standard deviation of the initial weights that config.json declares, if any.")
    ]
    codes: Annotated[CodesRecord | None, Meta(description="Use of the quantiser's codes; null for plain weights.")]


def role_record(role: RoleAudit, layers: Iterable[LayerAudit]) -> RoleRecord:
    """Give the public record of a role; `layers` are those of the role, or of all."""
    pooled = sound(role.pooled)
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
        pooled=None if isinstance(pooled, NotFitted) else pooled_record(pooled),
        pooled_not_fitted=pooled.reason if isinstance(pooled, NotFitted) else None,
        mu=mu,
        sigma=sigma,
        skewness=skewness,
        excess_kurtosis=excess_kurtosis,
        psi=psi,
        ks=ks,
        not_fitted=reasons[0] if reasons else None if all(records) else NOT_FINITE,
        verdicts=verdicts_of(
            layer for layer in layers if (layer.role, layer.dtype) == (role.role, role.dtype) and not layer.tied_to
        ),
    )


def layer_record(layer: LayerAudit) -> LayerRecord:
    """Give the public record of a layer."""
    counts, fit, evidence = layer.counts, sound(layer.fit), layer.evidence
    ranking, anatomy, histogram = evidence.ranking, evidence.anatomy, evidence.histogram_fit
    scales = layer.scales if isinstance(layer.scales, Scales) else None
    return LayerRecord(
        name=text(layer.name),
        tensor=text(layer.tensor),
        file=text(layer.file),
        dtype=str(layer.dtype),
        role=str(layer.role),
        stack=text(layer.stack),
        depth=layer.depth,
        rows=layer.rows,
        columns=layer.columns,
        fan_in=layer.fan_in,
        fan_out=layer.fan_out,
        connected=layer.connected,
        tied_to=text(layer.tied_to) or None,
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
        fit=None if isinstance(fit, NotFitted) else fit_record(fit, layer.errors),
        not_fitted=fit.reason if isinstance(fit, NotFitted) else None,
        verdict=VerdictRecord(
            kind=layer.verdict.kind.value, name=str(layer.verdict.name), reason=text(layer.verdict.reason)
        ),
        candidates=[] if isinstance(ranking, NotFitted) else [candidate_record(each) for each in ranking.candidates],
        not_compared=ranking.reason if isinstance(ranking, NotFitted) else None,
        anatomy=None if isinstance(anatomy, NotFitted) else _anatomy(anatomy, evidence.residual),
        not_dissected=text(anatomy.reason) if isinstance(anatomy, NotFitted) else None,
        histogram=histogram_fit_record(histogram) if isinstance(histogram, HistogramFit) else None,
        no_histogram=histogram.reason if isinstance(histogram, NotFitted) else None,
        declared_sd=layer.declared_sd,
        codes=_codes(layer.codes) if layer.codes else None,
    )


def _codes(codes: CodeOccupancy) -> CodesRecord:
    return CodesRecord(
        description=text(codes.description),
        available=codes.available,
        used=codes.used,
        entropy=codes.entropy,
        commonest_share=codes.commonest_share,
    )


def verdicts_of(layers: Iterable[LayerAudit]) -> list[FamilyCount]:
    """Count the verdicts on layers, the most common first."""
    counts = Counter(str(layer.verdict.name) for layer in layers)
    return [
        FamilyCount(name=name, layers=number)
        for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _anatomy(anatomy: Anatomy, residual: Ranking | NotFitted) -> AnatomyRecord:
    decided = isinstance(residual, Ranking) and not residual.tied_with
    return AnatomyRecord(
        row_log_variance=anatomy.row_log_variance,
        column_log_variance=anatomy.column_log_variance,
        residual_log_variance=anatomy.residual_log_variance,
        row_share=anatomy.row_share,
        column_share=anatomy.column_share,
        residual_share=anatomy.residual_share,
        row_residual_skewness=anatomy.row_residual.skewness,
        row_residual_excess_kurtosis=anatomy.row_residual.excess_kurtosis,
        residual_skewness=anatomy.residual.skewness,
        residual_excess_kurtosis=anatomy.residual.excess_kurtosis,
        residual_family=residual.winner.family.value if isinstance(residual, Ranking) and decided else None,
    )


def _spread(spread: Spread | NotFitted) -> SpreadRecord | None:
    if isinstance(spread, NotFitted) or not finite(spread.least, spread.median, spread.greatest):
        return None
    return SpreadRecord(least=spread.least, median=spread.median, greatest=spread.greatest)
