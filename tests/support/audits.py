"""Audits made by hand: every number is given, none is measured, so a report of them never changes by itself."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from jaynes_audit.analyzers.anatomy import Anatomy, VarianceShares
from jaynes_audit.analyzers.audit import (
    NO_HISTOGRAM,
    NO_MATRIX,
    NOT_DISSECTED,
    NOT_JUDGED,
    Audit,
    Coverage,
    LeftOut,
    LeftOutReason,
)
from jaynes_audit.analyzers.checkpoints.tensor import Defect
from jaynes_audit.analyzers.claim import try_claim
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.equilibrium import Equilibrium
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramFit
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, LogMoments, NotFitted
from jaynes_audit.analyzers.distributions.quantiles import QUANTILE_POINTS
from jaynes_audit.analyzers.distributions.ranking import CandidateFit, Ranking
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.layer_audit import (
    Criterion,
    Evidence,
    LayerAudit,
    MeasuredLayer,
    Scales,
    WeightCounts,
    judged,
    unjudged,
)
from jaynes_audit.analyzers.record import FailureRecord, ReportRecord, Tool, claim_record, record_of, ruler_records
from jaynes_audit.analyzers.role_audit import RoleAudit, Spread
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS, Role
from jaynes_audit.analyzers.roles.role import GAINS_AND_BUFFERS
from jaynes_audit.analyzers.sketch.grid import grid_of
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from jaynes_audit.analyzers.verdict import findings_of
from jaynes_audit.cli.exit_codes import outcome_of

GAUSSIAN_LIKE = {"sigma": 1.114, "skewness": -1.51, "kurtosis": 3.91, "psi": 0.158, "ks": 0.0957}
LOGNORMAL_LIKE = {"sigma": 1.3, "skewness": 0.02, "kurtosis": 0.05, "psi": 0.0004, "ks": 0.004}

EQUILIBRIUM = Equilibrium(
    alpha_over_gamma=-3.69,
    beta_over_gamma=0.385,
    utility_spread=0.52,
    log_entropy=1.42,
    entropy=-2.08,
    ideal_entropy=-1.95,
    entropy_gap=0.13,
)

# What each family gains over the lognormal on weights of one law, in nats per weight, the best first.
GAINS: dict[Family, dict[Family, float]] = {
    Family.GAUSSIAN: {
        Family.GENERALISED_NORMAL: 0.1312,
        Family.STUDENT_T: 0.1309,
        Family.GAUSSIAN: 0.1306,
        Family.TRUNCATED_GAUSSIAN: 0.1304,
        Family.WEIBULL: 0.1021,
        Family.GAMMA: 0.0703,
        Family.LAPLACE: 0.0412,
        Family.LOGNORMAL: 0.0,
        Family.UNIFORM: -0.8825,
    },
    Family.STUDENT_T: {
        Family.STUDENT_T: 0.1175,
        Family.GENERALISED_NORMAL: 0.1172,
        Family.GAUSSIAN: 0.1104,
        Family.TRUNCATED_GAUSSIAN: 0.1103,
        Family.WEIBULL: 0.0955,
        Family.GAMMA: 0.0689,
        Family.LAPLACE: 0.0547,
        Family.LOGNORMAL: 0.0,
        Family.UNIFORM: -1.2084,
    },
    Family.LOGNORMAL: {
        Family.LOGNORMAL: 0.0,
        Family.GENERALISED_NORMAL: -0.0352,
        Family.STUDENT_T: -0.0561,
        Family.WEIBULL: -0.0883,
        Family.GAMMA: -0.1224,
        Family.LAPLACE: -0.1916,
        Family.GAUSSIAN: -0.8007,
        Family.TRUNCATED_GAUSSIAN: -0.8011,
        Family.UNIFORM: -3.1225,
    },
}
OF_ONE_PARAMETER = frozenset({Family.GAUSSIAN, Family.LAPLACE, Family.UNIFORM})


def fit(
    mu: float = -3.5,
    sigma: float = 1.14,
    *,
    skewness: float = -1.42,
    kurtosis: float = 3.5,
    psi: float = 0.131,
    ks: float = 0.0891,
    weights: int = 65_536,
) -> LognormalFit:
    return LognormalFit(
        moments=LogMoments(weights=weights, log_mean=mu, log_sigma=sigma, skewness=skewness, excess_kurtosis=kurtosis),
        divergence=psi,
        ks_distance=ks,
        wasserstein=0.207,
        jensen_shannon=0.0291,
        hellinger=0.181,
        equilibrium=EQUILIBRIUM,
        standard_quantiles=np.linspace(-2, 2, QUANTILE_POINTS, dtype=np.float32),
    )


def ranking(winner: Family = Family.GAUSSIAN, *, tied_with: Sequence[Family] = ()) -> Ranking:
    gains = GAINS[winner]
    best = max(gains.values())
    candidates = [
        CandidateFit(
            family=family,
            parameters=1 if family in OF_ONE_PARAMETER else 2,
            scale=0.0524,
            shape=1.0 if family in OF_ONE_PARAMETER else 1.72,
            nats=nats,
            divergence=round(best - nats + 0.0004, 4),
            bic=-2 * nats,
            vuong_z=round(1000 * nats, 1),
        )
        for family, nats in gains.items()
    ]
    [won] = [each for each in candidates if each.family is winner]
    return Ranking(candidates=tuple(candidates), winner=won, tied_with=tuple(tied_with), lognormal_skewness=0.0)


LEFT_SKEWNESS = {Family.GAUSSIAN: -1.52, Family.LOGNORMAL: 0.01}


def taken_apart(left: Family) -> Anatomy:
    """A layer whose weights are of this family once row and column scales are divided out."""
    skewness = LEFT_SKEWNESS[left]
    moments = LogMoments(weights=65_536, log_mean=-0.63, log_sigma=1.118, skewness=skewness, excess_kurtosis=3.9)
    return Anatomy(
        row_log_variance=0.5,
        column_log_variance=0.25,
        row_residual=replace(moments, skewness=skewness + 0.25, excess_kurtosis=3.2),
        residual=moments,
        residual_magnitudes=Magnitudes(
            grid=grid_of(Dtype.F32, 0xFFFF), codes=np.empty(0, np.int64), tallies=np.empty(0, np.int64)
        ),
    )


CURVE = HistogramFit(
    log_mean=-3.2,
    log_sigma=0.88,
    amplitude=1.07,
    r_squared=0.962,
    gaussian_r_squared=0.958,
    bins=100,
    range_end=0.31,
)


def evidence(
    law: Family | Ranking | NotFitted = Family.GAUSSIAN,
    *,
    residual: Family | NotFitted = NOT_DISSECTED,
    curve: HistogramFit | NotFitted = NO_HISTOGRAM,
) -> Evidence:
    """What speaks for a law, and for another one once row and column scales are divided out."""
    return Evidence(
        ranking=ranking(law) if isinstance(law, Family) else law,
        anatomy=residual if isinstance(residual, NotFitted) else taken_apart(residual),
        residual=residual if isinstance(residual, NotFitted) else ranking(residual),
        histogram_fit=curve,
    )


GAUSSIAN = evidence()


def counts(weights: int, **special: int) -> WeightCounts:
    usual = {"zero": 0, "subnormal": 0, "max_finite": 0, "infinite": 0, "nan": 0, "negative": weights // 2}
    return WeightCounts(weights=weights, distinct=special.pop("distinct", 1_100), **{**usual, **special})


def layer(
    name: str,
    role: Role = Role.MLP_UP,
    *,
    depth: int | None = 0,
    rows: int = 256,
    columns: int = 256,
    fitted: LognormalFit | NotFitted | None = None,
    told_by: Evidence = GAUSSIAN,
    blocks: int = 16,
    special: dict[str, int] | None = None,
    largest: float = 0.31,
    rms: float = 0.0524,
    file: str = "tiny/model.safetensors",
    dtype: str = "BF16",
) -> LayerAudit:
    matrix = role not in GAINS_AND_BUFFERS and columns > 1
    fitted = fit(weights=rows * columns) if fitted is None else fitted
    errors = LogMomentErrors(blocks=blocks, log_mean=0.012, log_sigma=0.006, skewness=0.03, excess_kurtosis=0.2)
    measured = MeasuredLayer(
        name=name,
        tensor=name.partition("[")[0],
        file=file,
        start=8,
        stored_bytes=2 * rows * columns,
        dtype=dtype,
        role=role,
        stack="",
        depth=depth,
        rows=rows,
        columns=columns,
        fan_in=columns if matrix else 0,
        fan_out=rows if matrix else 0,
        connected=matrix and role in HIDDEN_LAYERS and columns >= 64 and rows * columns >= 10_000,
        counts=counts(rows * columns, **(special or {})),
        largest=largest,
        rms=rms,
        content=hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest(),
        prominence=largest / rms if rms else 0.0,
        unused_bits=0,
        misread="",
        rescaled_by=1.0,
        beside_zero=(),
        probe=NotFitted("no rows and columns of their own"),
        scales=Scales(row_log_sd=0.12, column_log_sd=0.08, zero_rows=0, zero_columns=0)
        if columns > 1
        else NotFitted("no rows and columns of their own"),
        fit=fitted,
        errors=fitted if isinstance(fitted, NotFitted) else errors,
        declared_sd=None,
    )
    if matrix and columns >= 32 and rows * columns >= 5_000:
        return judged(measured, evidence(fitted) if isinstance(fitted, NotFitted) else told_by)
    return unjudged(measured, NOT_JUDGED if matrix else NO_MATRIX)


def left_out(
    name: str, reason: LeftOutReason = LeftOutReason.NOT_WEIGHTS, explanation: str = "whole numbers, not weights"
) -> LeftOut:
    return LeftOut(name=name, dtype="I64", shape=(1, 512), reason=reason, explanation=explanation)


NOT_ALL_DISSECTED = NotFitted("not every highly connected matrix was taken apart (--anatomy)")


def audit(
    *layers: LayerAudit,
    target: str = "tiny",
    left_out: Sequence[LeftOut] = (),
    defects: Sequence[Defect] = (),
    remarks: Sequence[str] = (),
    aliases: dict[str, str] | None = None,
    variance: VarianceShares | NotFitted = NOT_ALL_DISSECTED,
) -> Audit:
    weights = sum(each.counts.weights for each in layers)
    failed = defects or any(each.reason in {"refused", "could-not-read"} for each in left_out)
    return Audit(
        target=target,
        commit="",
        holdings=(),
        files=tuple(dict.fromkeys(each.file for each in layers)),
        criterion=Criterion(),
        coverage=Coverage(
            tensors=len({each.tensor for each in layers}),
            tensors_total=len({each.tensor for each in layers}) + len(left_out),
            bytes=2 * weights,
            bytes_total=2 * weights + 4096 * len(left_out),
            complete=not failed,
        ),
        layers=layers,
        roles=tuple(_roles(layers)),
        variance=variance,
        left_out=tuple(left_out),
        aliases=aliases or {},
        defects=tuple(defects),
        remarks=tuple(remarks),
        configs={},
        pickles=(),
    )


def _roles(layers: Sequence[LayerAudit]) -> list[RoleAudit]:
    groups: dict[tuple[Role, str], list[LayerAudit]] = {}
    for each in layers:
        if not each.tied_to:
            groups.setdefault((each.role, each.dtype), []).append(each)
    return [_role(group) for _, group in sorted(groups.items())]


def _role(layers: Sequence[LayerAudit]) -> RoleAudit:
    fits = [each.fit for each in layers if isinstance(each.fit, LognormalFit)]
    return RoleAudit(
        role=layers[0].role,
        dtype=layers[0].dtype,
        layers=len(layers),
        connected=sum(each.connected for each in layers),
        weights=sum(each.counts.weights for each in layers),
        zero=sum(each.counts.zero for each in layers),
        not_finite=sum(each.counts.nan + each.counts.infinite for each in layers),
        pooled=fits[0] if fits else NotFitted("every weight is zero or not finite"),
        log_mean=_spread([each.moments.log_mean for each in fits]),
        log_sigma=_spread([each.moments.log_sigma for each in fits]),
        skewness=_spread([each.moments.skewness for each in fits]),
        excess_kurtosis=_spread([each.moments.excess_kurtosis for each in fits]),
        divergence=_spread([each.divergence for each in fits]),
        ks_distance=_spread([each.ks_distance for each in fits]),
    )


def _spread(values: Sequence[float]) -> Spread | NotFitted:
    if not values:
        return NotFitted("no layer of this role could be fitted")
    from_least = sorted(values)
    return Spread(least=from_least[0], median=median(values), greatest=from_least[-1])


def report(*audits: Audit, failures: Sequence[FailureRecord] = ()) -> ReportRecord:
    models = [record_of(each, findings_of(each)) for each in audits]
    outcome = outcome_of(models, failures)
    return ReportRecord(
        tool=Tool(name="jaynes-audit", version="0.0.0"),
        rulers=ruler_records(),
        models=models,
        claim=claim_record(try_claim(audits)) if len(audits) > 1 else None,
        failures=list(failures),
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def odd_audit() -> Audit:
    """One of everything that a report must show for what it is."""
    embedding = layer("embed.weight", Role.EMBEDDING, depth=None, rows=512, special={"zero": 3})
    nothing = NotFitted("every weight is zero or not finite")
    same = NotFitted("every non-zero weight has the same 16-bit magnitude")
    return audit(
        embedding,
        replace(embedding, name="head.weight", tensor="head.weight", role=Role.HEAD, tied_to="embed.weight"),
        layer("layers.0.attention.q.weight", Role.ATTENTION_Q, fitted=fit(-3.61, weights=65_536, **GAUSSIAN_LIKE)),
        layer("layers.0.mlp.up.weight", special={"nan": 1, "infinite": 2, "max_finite": 5}),
        layer("layers.0.mlp.down.weight", Role.MLP_DOWN, fitted=nothing, special={"zero": 65_536}, largest=0.0),
        layer("layers.1.attention.q.weight", Role.ATTENTION_Q, depth=1, fitted=fit(-3.4), special={"zero": 34_000}),
        layer(
            "layers.1.mlp.up.weight",
            depth=1,
            fitted=same,
            special={"distinct": 1, "negative": 0, "zero": 0},
            largest=0.5,
            rms=0.5,
        ),
        layer(
            "layers.1.mlp.down.weight",
            Role.MLP_DOWN,
            depth=1,
            rows=8,
            columns=4096,
            blocks=0,
            told_by=evidence(ranking(Family.STUDENT_T, tied_with=[Family.GENERALISED_NORMAL])),
        ),
        layer(
            "layers.1.attention.k.weight",
            Role.ATTENTION_K,
            depth=1,
            fitted=fit(-4.2, **LOGNORMAL_LIKE),
            told_by=evidence(Family.LOGNORMAL, residual=Family.LOGNORMAL),
        ),
        layer(
            "layers.1.attention.v.weight",
            Role.ATTENTION_V,
            depth=1,
            fitted=fit(-4.1, **LOGNORMAL_LIKE),
            told_by=evidence(Family.LOGNORMAL, residual=Family.GAUSSIAN),
        ),
        layer("layers.1.mlp.up.lora_A.weight", Role.LORA_A, depth=1, rows=8),
        layer("layers.0.norm.weight", Role.NORM, rows=256, columns=1, fitted=same, largest=1.0),
        layer("layers.0.mlp.up.bias", Role.BIAS, rows=256, columns=1, fitted=nothing, special={"zero": 256}, largest=0),
        layer("temperature", Role.SCALE, depth=None, rows=1, columns=1, fitted=same, largest=12.5),
        left_out=[
            left_out("position_ids"),
            left_out("mask", explanation="a mask of booleans, not weights"),
            left_out("layers.2.mlp.up.weight", LeftOutReason.EMPTY, "holds no element"),
        ],
        defects=[
            Defect(
                rule="JN001",
                case="shorter-than-declared",
                file="tiny/model-00002-of-00002.safetensors",
                sentence="'tiny/model-00002-of-00002.safetensors' ends 1,000 bytes before the data it declares",
            )
        ],
        remarks=["read 'model.safetensors.index.json' and passed over 'model.fp16.safetensors'"],
        aliases={"lm_head.weight": "embed.weight"},
    )


def many_layers(number: int = 12 * 768) -> Audit:
    """A mixture of experts: so many matrices that nobody reads them one by one."""
    return audit(
        *(
            layer(
                f"layers.{at // 768}.experts.{at % 768 // 3}.{('gate', 'up', 'down')[at % 3]}.weight",
                (Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN)[at % 3],
                depth=at // 768,
                fitted=fit(-3.5 - at % 101 / 200, 1.11 + at % 103 / 1000, skewness=-1.55 + at % 107 / 500),
            )
            for at in range(number)
        ),
        target="mixture",
    )
