"""What a report says of the claim that all layers follow one lognormal law."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.universality.collapse import Collapse
from jaynes_audit.analyzers.universality.constancy import Constancy
from jaynes_audit.analyzers.universality.meta_analysis import RandomEffects
from jaynes_audit.analyzers.universality.trend import Trend
from jaynes_audit.analyzers.universality.universality import Clause, Trial, Universality, Untrained


class ClauseRecord(Struct, frozen=True, kw_only=True):
    """One condition of the claim."""

    name: Annotated[str, Meta(description="What must hold.")]
    holds: Annotated[bool, Meta(description="Whether it does.")]
    measured: Annotated[float, Meta(description="The number that decides.")]
    bound: Annotated[float, Meta(description="What it is held against.")]
    sentence: Annotated[str, Meta(description="The same in words.")]


class TrialRecord(Struct, frozen=True, kw_only=True):
    """The verdict on the layers above one threshold of connectivity."""

    threshold: Annotated[str, Meta(description="Which threshold: the chosen one, half or double of it.")]
    layers: Annotated[int, Meta(description="Layers above it.")]
    verdict: Annotated[str, Meta(description="What they say of the claim.")]
    clauses: Annotated[list[ClauseRecord], Meta(description="The conditions; none where nothing can be said.")]
    sentence: Annotated[str, Meta(description="Why.")]


class FamilyShareRecord(Struct, frozen=True, kw_only=True):
    """How many of the layers follow one family of laws."""

    family: Annotated[str, Meta(description="The name of the verdict on these layers.")]
    layers: Annotated[int, Meta(description="How many they are.")]
    share: Annotated[float, Meta(description="Which part of all.")]


class RandomEffectsRecord(Struct, frozen=True, kw_only=True):
    """A quantity over layers, by random-effects meta-analysis (DerSimonian & Laird 1986)."""

    layers: Annotated[int, Meta(description="Layers with a value and an error.")]
    mean: Annotated[float, Meta(description="Mean of the layers' true values.")]
    mean_error: Annotated[float, Meta(description="Its standard error.")]
    tau: Annotated[float, Meta(description="Standard deviation between true values, layers weighed by their errors.")]
    tau_noise: Annotated[float, Meta(description="What tau reaches by chance in 5 % of cases.")]
    unweighted_tau: Annotated[float, Meta(description="The same, every layer counting alike. The verdict uses it.")]
    unweighted_tau_noise: Annotated[float, Meta(description="What it reaches by chance in 5 % of cases.")]
    prediction_low: Annotated[float, Meta(description="Lower end of the 95 % prediction interval of a further layer.")]
    prediction_high: Annotated[float, Meta(description="Its upper end.")]
    i_squared: Annotated[
        float, Meta(description="Part of the variance that is no sampling noise; near 1 for any tau, of large layers.")
    ]


class RoleEffectsRecord(Struct, frozen=True, kw_only=True):
    """A quantity over the layers of one role."""

    role: Annotated[str, Meta(description="The role.")]
    effects: Annotated[RandomEffectsRecord, Meta(description="The quantity over its layers.")]


class ConstancyRecord(Struct, frozen=True, kw_only=True):
    """How constant one quantity is over layers. An entry that could not be had is null, and `unknown` says why."""

    quantity: Annotated[str, Meta(description="mu, mu after division by the rms, sigma or skewness, of ln|w|.")]
    overall: Annotated[RandomEffectsRecord | None, Meta(description="Over all layers.")]
    by_role: Annotated[list[RoleEffectsRecord], Meta(description="Over the layers of each role with three or more.")]
    icc_by_model: Annotated[float | None, Meta(description="Intra-class correlation ICC(1): part between models.")]
    icc_by_role: Annotated[float | None, Meta(description="Part of the variance between roles.")]
    icc_by_depth: Annotated[float | None, Meta(description="Part of the variance between thirds of the depth.")]
    depth_slope: Annotated[float | None, Meta(description="Theil-Sen slope, from the first layer to the last.")]
    depth_rank_correlation: Annotated[float | None, Meta(description="Spearman's rho with the depth.")]
    unknown: Annotated[dict[str, str], Meta(description="Why an entry is null, by its name.")]


class ExcessSpreadRecord(Struct, frozen=True, kw_only=True):
    """The spread of one quantity between layers, trained and untrained, every layer counting alike."""

    quantity: Annotated[str, Meta(description="The quantity.")]
    trained_tau: Annotated[float, Meta(description="Standard deviation between the layers as they are.")]
    untrained_tau: Annotated[float, Meta(description="The same of the untrained twin.")]
    excess: Annotated[float, Meta(description="The first less the second.")]


class UntrainedRecord(Struct, frozen=True, kw_only=True):
    """What the same layers would show untrained."""

    twin: Annotated[str, Meta(description="Which law and scale the untrained weights have.")]
    constancy: Annotated[list[ConstancyRecord], Meta(description="How constant each quantity would be.")]
    excess: Annotated[list[ExcessSpreadRecord], Meta(description="Trained less untrained.")]
    cost_of_one_law: Annotated[float | None, Meta(description="Nats per weight that one lognormal for all would cost.")]


class CollapseRecord(Struct, frozen=True, kw_only=True):
    """Whether the layers' standardised ln|w| fall on one curve. Any family of one shape does: it proves nothing."""

    layers: Annotated[int, Meta(description="Layers compared.")]
    residual: Annotated[float, Meta(description="Mean squared distance of their quantile curves from the mean curve.")]
    distance_to_normal: Annotated[float, Meta(description="Root mean square distance of the mean curve to N(0,1).")]
    distance_to_log_half_normal: Annotated[float, Meta(description="The same to Gaussian noise.")]


class ClaimRecord(Struct, frozen=True, kw_only=True):
    """Whether the highly connected layers of one model, or of all, share one lognormal law."""

    verdict: Annotated[
        str,
        Meta(
            description="supports the claim; lognormal, not universal; universal but not lognormal; neither; or cannot "
            "be said."
        ),
    ]
    sentence: Annotated[str, Meta(description="The verdict, and the condition that failed with its number.")]
    clauses: Annotated[list[ClauseRecord], Meta(description="The conditions at the chosen threshold.")]
    trials: Annotated[list[TrialRecord], Meta(description="The verdict at the chosen, half and double threshold.")]
    families: Annotated[list[FamilyShareRecord], Meta(description="The verdicts on the layers, most common first.")]
    constancy: Annotated[list[ConstancyRecord], Meta(description="How constant mu, sigma and skewness are.")]
    untrained: Annotated[list[UntrainedRecord], Meta(description="The same of untrained twins: the null.")]
    cost_of_one_law: Annotated[
        float | None,
        Meta(description="Nats per weight that one lognormal for all would cost."),
    ]
    collapse: Annotated[CollapseRecord | None, Meta(description="Whether the shapes agree; null: too few layers.")]


def claim_record(universality: Universality) -> ClaimRecord:
    """Give the public record of the claim, tried."""
    return ClaimRecord(
        verdict=universality.verdict.value,
        sentence=text(universality.sentence),
        clauses=[_clause(clause) for clause in universality.clauses],
        trials=[_trial(trial) for trial in universality.trials],
        families=[
            FamilyShareRecord(family=str(each.family), layers=each.layers, share=each.share)
            for each in universality.families
        ],
        constancy=_constancies(universality.constancy),
        untrained=[_untrained(twin) for twin in universality.untrained],
        cost_of_one_law=_known(universality.cost_of_one_law),
        collapse=_collapse(universality.collapse) if isinstance(universality.collapse, Collapse) else None,
    )


def _clause(clause: Clause) -> ClauseRecord:
    return ClauseRecord(
        name=clause.name, holds=clause.holds, measured=clause.measured, bound=clause.bound, sentence=clause.sentence
    )


def _trial(trial: Trial) -> TrialRecord:
    return TrialRecord(
        threshold=trial.threshold.value,
        layers=trial.layers,
        verdict=trial.verdict.value,
        clauses=[_clause(clause) for clause in trial.clauses],
        sentence=trial.sentence,
    )


def _untrained(twin: Untrained) -> UntrainedRecord:
    return UntrainedRecord(
        twin=twin.twin.value,
        constancy=_constancies(twin.constancy),
        excess=[
            ExcessSpreadRecord(
                quantity=each.quantity.value,
                trained_tau=each.trained_tau,
                untrained_tau=each.untrained_tau,
                excess=each.excess,
            )
            for each in twin.excess
        ],
        cost_of_one_law=_known(twin.cost_of_one_law),
    )


def _constancies(constancies: Sequence[Constancy]) -> list[ConstancyRecord]:
    return [_constancy(each) for each in constancies]


def _constancy(constancy: Constancy) -> ConstancyRecord:
    entries = {
        "overall": constancy.overall,
        "icc_by_model": constancy.icc_by_model,
        "icc_by_role": constancy.icc_by_role,
        "icc_by_depth": constancy.icc_by_depth,
        "depth_slope": constancy.trend,
    }
    trend = constancy.trend if isinstance(constancy.trend, Trend) else None
    overall = constancy.overall
    return ConstancyRecord(
        quantity=constancy.quantity.value,
        overall=_effects(overall) if isinstance(overall, RandomEffects) else None,
        by_role=[RoleEffectsRecord(role=str(each.role), effects=_effects(each.effects)) for each in constancy.by_role],
        icc_by_model=_known(constancy.icc_by_model),
        icc_by_role=_known(constancy.icc_by_role),
        icc_by_depth=_known(constancy.icc_by_depth),
        depth_slope=trend.slope if trend else None,
        depth_rank_correlation=trend.rank_correlation if trend else None,
        unknown={name: entry.reason for name, entry in entries.items() if isinstance(entry, NotFitted)},
    )


def _effects(effects: RandomEffects) -> RandomEffectsRecord:
    return RandomEffectsRecord(
        layers=effects.values,
        mean=effects.mean,
        mean_error=effects.mean_error,
        tau=effects.tau,
        tau_noise=effects.tau_noise,
        unweighted_tau=effects.unweighted_tau,
        unweighted_tau_noise=effects.unweighted_tau_noise,
        prediction_low=effects.prediction_low,
        prediction_high=effects.prediction_high,
        i_squared=effects.i_squared,
    )


def _collapse(collapse: Collapse) -> CollapseRecord:
    return CollapseRecord(
        layers=collapse.layers,
        residual=collapse.residual,
        distance_to_normal=collapse.distance_to_normal,
        distance_to_log_half_normal=collapse.distance_to_log_half_normal,
    )


def _known(value: float | NotFitted) -> float | None:
    return None if isinstance(value, NotFitted) else value
