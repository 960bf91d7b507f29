"""Record of an audit -> Point: the few numbers of each layer that are followed along a run, and kept on disk."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Annotated

from msgspec import Meta, Struct

from jaynes_audit.analyzers.audit import LeftOutReason
from jaynes_audit.analyzers.record import DefectRecord, LayerRecord, LeftOutRecord, ModelRecord
from jaynes_audit.analyzers.record.claims import ClaimRecord, ConstancyRecord, RandomEffectsRecord
from jaynes_audit.analyzers.record.report import CoverageRecord, VarianceRecord
from jaynes_audit.analyzers.universality.constancy import Quantity

NO_LAYER_FITTED = "no layer could be fitted"
TOO_FEW_FOR_TAU = "fewer than three highly connected matrices with an error"
TOLD = frozenset(
    {LeftOutReason.NOT_DECODED, LeftOutReason.MISSING, LeftOutReason.REFUSED, LeftOutReason.COULD_NOT_READ}
)
"""Why layers that were asked for may be missing from a point. Buffers and empty tensors are never among the layers."""


class LayerPoint(Struct, frozen=True, kw_only=True):
    """One layer of one checkpoint. The law is that of ln|w|, natural logarithms; null where it could not be fitted."""

    name: Annotated[str, Meta(description="The tensor's name, and in brackets its part where matrices are fused.")]
    role: Annotated[str, Meta(description="What it does in the network; `other` when its name is unknown.")]
    stack: Annotated[str, Meta(description="The stack of blocks it belongs to, as `encoder`; empty where one is all.")]
    depth: Annotated[int | None, Meta(description="Index of its block in the stack; null outside the stack.")]
    dtype: Annotated[str, Meta(description="Number format as safetensors names it, or the quantiser's label.")]
    rows: Annotated[int, Meta(description="Rows of the stored matrix.")]
    columns: Annotated[int, Meta(description="Columns of the stored matrix; 1 for a vector.")]
    connected: Annotated[bool, Meta(description="Whether it is a highly connected hidden matrix.")]
    tied_to: Annotated[str | None, Meta(description="The layer that holds the very same weights, where they are one.")]
    weights: Annotated[int, Meta(description="How many weights it has.")]
    zero: Annotated[int, Meta(description="Weights that are +0 or -0.")]
    not_finite: Annotated[int, Meta(description="Weights that are NaN or infinite.")]
    content: Annotated[str, Meta(description="128-bit hash of the stored weights, in hexadecimal.")]
    rms: Annotated[float, Meta(description="Root of the mean square of the finite weights.")]
    norm: Annotated[float, Meta(description="Frobenius norm of the finite weights.")]
    mu: Annotated[float | None, Meta(description="Mean of ln|w|; null: `not_fitted`.")]
    sigma: Annotated[float | None, Meta(description="Standard deviation of ln|w|.")]
    skewness: Annotated[float | None, Meta(description="Skewness of ln|w|.")]
    psi: Annotated[float | None, Meta(description="Distance from the fitted lognormal, in nats per weight.")]
    se_mu: Annotated[float | None, Meta(description="Standard error of mu; null where there are too few rows.")]
    se_sigma: Annotated[float | None, Meta(description="Standard error of sigma.")]
    se_skewness: Annotated[float | None, Meta(description="Standard error of the skewness.")]
    not_fitted: Annotated[str | None, Meta(description="Why there is no law; null when there is one.")]
    verdict: Annotated[str, Meta(description="Which law its weights follow.")]


class GroupPoint(Struct, frozen=True, kw_only=True):
    """Layers of one checkpoint together; tied ones count once. Medians and means are over those that were fitted."""

    role: Annotated[str | None, Meta(description="Their role; null: all highly connected matrices.")]
    layers: Annotated[int, Meta(description="Layers.")]
    fitted: Annotated[int, Meta(description="How many of them could be fitted.")]
    weights: Annotated[int, Meta(description="Weights in them.")]
    zero: Annotated[int, Meta(description="Weights that are exactly zero.")]
    not_finite: Annotated[int, Meta(description="Weights that are NaN or infinite.")]
    rms: Annotated[float, Meta(description="Root of the mean square of all their finite weights.")]
    norm: Annotated[float, Meta(description="Frobenius norm of all of them together.")]
    mu: Annotated[float | None, Meta(description="Median of mu over the layers; null: `not_fitted`.")]
    sigma: Annotated[float | None, Meta(description="Median of sigma.")]
    skewness: Annotated[float | None, Meta(description="Median of the skewness.")]
    psi: Annotated[float | None, Meta(description="Median of psi, in nats per weight.")]
    mean_mu: Annotated[float | None, Meta(description="Mean of mu over the layers.")]
    mean_sigma: Annotated[float | None, Meta(description="Mean of sigma.")]
    not_fitted: Annotated[str | None, Meta(description="Why they are null; null when they are there.")]
    tau_mu: Annotated[
        float | None,
        Meta(description="Standard deviation of mu between highly connected matrices, freed of sampling noise."),
    ]
    tau_mu_noise: Annotated[float | None, Meta(description="What it reaches by chance in 5 % of cases.")]
    tau_sigma: Annotated[float | None, Meta(description="The same of sigma.")]
    tau_sigma_noise: Annotated[float | None, Meta(description="What it reaches by chance in 5 % of cases.")]
    no_tau: Annotated[str | None, Meta(description="Why they are null; null when they are there.")]


class Point(Struct, frozen=True, kw_only=True):
    """What is followed of one checkpoint."""

    verdict: Annotated[str, Meta(description="Whether its highly connected matrices share one lognormal law.")]
    sentence: Annotated[str, Meta(description="The verdict, and the condition that failed with its number.")]
    connected: Annotated[GroupPoint, Meta(description="The highly connected matrices together.")]
    roles: Annotated[list[GroupPoint], Meta(description="The layers by role, in the order of the roles' names.")]
    variance: Annotated[VarianceRecord | None, Meta(description="Where their log-variance lies; null: `no_variance`.")]
    no_variance: Annotated[str | None, Meta(description="Why `variance` is null; null when it is there.")]
    coverage: Annotated[CoverageRecord, Meta(description="How much of it was analysed.")]
    left_out: Annotated[list[LeftOutRecord], Meta(description="Layers of weights that were not analysed, and why.")]
    defects: Annotated[list[DefectRecord], Meta(description="What is wrong with its files.")]
    layers: Annotated[list[LayerPoint], Meta(description="Every layer, numbered names in numerical order.")]


def point_of(model: ModelRecord) -> Point:
    """Take what is followed out of the record of an audit. It takes about a kilobyte a layer."""
    layers = [_layer(layer) for layer in model.layers]
    of_role: defaultdict[str, list[LayerPoint]] = defaultdict(list)
    for layer in layers:
        if not layer.tied_to:
            of_role[layer.role].append(layer)
    connected = [layer for layer in layers if layer.connected and not layer.tied_to]
    return Point(
        verdict=model.claim.verdict,
        sentence=model.claim.sentence,
        connected=_group(None, connected, model.claim),
        roles=[_group(role, of_role[role], model.claim) for role in sorted(of_role)],
        variance=model.connected.variance,
        no_variance=model.connected.no_variance,
        coverage=model.coverage,
        left_out=[each for each in model.left_out if each.reason in TOLD],
        defects=model.defects,
        layers=layers,
    )


def _layer(layer: LayerRecord) -> LayerPoint:
    fit = layer.fit
    finite = layer.weights - layer.nan - layer.infinite
    return LayerPoint(
        name=layer.name,
        role=layer.role,
        stack=layer.stack,
        depth=layer.depth,
        dtype=layer.dtype,
        rows=layer.rows,
        columns=layer.columns,
        connected=layer.connected,
        tied_to=layer.tied_to,
        weights=layer.weights,
        zero=layer.zero,
        not_finite=layer.nan + layer.infinite,
        content=layer.content,
        rms=layer.rms,
        norm=layer.rms * math.sqrt(finite),
        mu=fit.mu if fit else None,
        sigma=fit.sigma if fit else None,
        skewness=fit.skewness if fit else None,
        psi=fit.psi if fit else None,
        se_mu=fit.se_mu if fit else None,
        se_sigma=fit.se_sigma if fit else None,
        se_skewness=fit.se_skewness if fit else None,
        not_fitted=layer.not_fitted,
        verdict=layer.verdict.name,
    )


def _group(role: str | None, layers: Sequence[LayerPoint], claim: ClaimRecord) -> GroupPoint:
    norm = math.sqrt(math.fsum(layer.norm**2 for layer in layers))
    finite = sum(layer.weights - layer.not_finite for layer in layers)
    mus = _known(layer.mu for layer in layers)
    sigmas = _known(layer.sigma for layer in layers)
    tau_mu, tau_sigma = _effects(claim, role, Quantity.LOG_MEAN), _effects(claim, role, Quantity.LOG_SIGMA)
    return GroupPoint(
        role=role,
        layers=len(layers),
        fitted=len(mus),
        weights=sum(layer.weights for layer in layers),
        zero=sum(layer.zero for layer in layers),
        not_finite=sum(layer.not_finite for layer in layers),
        rms=norm / math.sqrt(finite) if finite else 0.0,
        norm=norm,
        mu=median(mus) if mus else None,
        sigma=median(sigmas) if mus else None,
        skewness=median(_known(layer.skewness for layer in layers)) if mus else None,
        psi=median(_known(layer.psi for layer in layers)) if mus else None,
        mean_mu=fmean(mus) if mus else None,
        mean_sigma=fmean(sigmas) if mus else None,
        not_fitted=None if mus else NO_LAYER_FITTED,
        tau_mu=tau_mu.unweighted_tau if tau_mu else None,
        tau_mu_noise=tau_mu.unweighted_tau_noise if tau_mu else None,
        tau_sigma=tau_sigma.unweighted_tau if tau_sigma else None,
        tau_sigma_noise=tau_sigma.unweighted_tau_noise if tau_sigma else None,
        no_tau=None if tau_mu and tau_sigma else TOO_FEW_FOR_TAU,
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _effects(claim: ClaimRecord, role: str | None, quantity: Quantity) -> RandomEffectsRecord | None:
    """How much a quantity differs between the highly connected matrices of a role, or between all."""
    found: ConstancyRecord | None = next((each for each in claim.constancy if each.quantity == quantity.value), None)
    if found is None or role is None:
        return found.overall if found else None
    return next((each.effects for each in found.by_role if each.role == role), None)
