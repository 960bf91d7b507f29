"""The layers of several models taken together: whether they share one law, and what they do role by role."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaynes_audit.analyzers.claim import THRESHOLDS, judge_members
from jaynes_audit.analyzers.comparison.members import members_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import ModelRecord
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.universality.constancy import Estimates, Quantity, estimates_of
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.meta_analysis import RandomEffects, random_effects
from jaynes_audit.analyzers.universality.trend import Trend, trend
from jaynes_audit.analyzers.universality.universality import Universality

QUANTITIES = (Quantity.LOG_MEAN, Quantity.LOG_SIGMA, Quantity.SKEWNESS)
NO_CURVES = NotFitted("reports do not hold the quantiles of layers")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleTrends:
    """How a quantity changes with relative depth in both models, over the highly connected layers of one role."""

    role: Role
    quantity: Quantity
    a: Trend | NotFitted
    b: Trend | NotFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSideBySide:
    """A quantity over the highly connected layers of one role, in both models.

    The means count every layer alike, and `change` is that of B less that of A. Its standard error is that of the
    layers at hand: it falls with the number of weights and tells nothing of further layers. What does is the standard
    deviation between the layers of each model, `tau_a` and `tau_b`, freed of sampling noise.
    """

    role: Role
    quantity: Quantity
    layers_a: int
    layers_b: int
    mean_a: float
    mean_b: float
    change: float
    error: float
    tau_a: float | NotFitted
    tau_b: float | NotFitted


def universality_of(*models: ModelRecord) -> tuple[tuple[Role | None, Universality], ...]:
    """Try the claim that all layers follow one lognormal law on the layers of several models together.

    First over all roles (None), then for each role of which every model has a highly connected layer that follows some
    law. It is what the audits of the models would say, but for the collapse of their shapes: reports do not hold the
    quantiles that it takes. Each model is one of its own, even where two have the same name.
    """
    at_thresholds = [
        [each for number, model in enumerate(models) for each in members_of(model, factor, label=f"{number:04d}")]
        for factor in THRESHOLDS
    ]
    roles = _shared_roles(*(_by_role(model) for model in models))
    return tuple(
        (
            role,
            replace(
                judge_members([[member for of, member in layers if role in {None, of}] for layers in at_thresholds]),
                collapse=NO_CURVES,
            ),
        )
        for role in (None, *roles)
    )


def role_trends(a: ModelRecord, b: ModelRecord) -> tuple[RoleTrends, ...]:
    """Find the trends of mu, sigma and skewness with relative depth, for each role that both models have.

    Theil-Sen slopes and Spearman's rank correlations over the highly connected layers of the role; of fewer than four
    layers nothing is said.
    """
    of_a, of_b = _by_role(a), _by_role(b)
    return tuple(
        RoleTrends(role=role, quantity=quantity, a=_trend(of_a[role], quantity), b=_trend(of_b[role], quantity))
        for role in _shared_roles(of_a, of_b)
        for quantity in QUANTITIES
    )


def roles_side_by_side(a: ModelRecord, b: ModelRecord) -> tuple[RoleSideBySide, ...]:
    """Compare the means of mu, sigma and skewness over the layers of each role that both models have."""
    of_a, of_b = _by_role(a), _by_role(b)
    return tuple(
        _side_by_side(role, quantity, estimates_of(of_a[role])[quantity], estimates_of(of_b[role])[quantity])
        for role in _shared_roles(of_a, of_b)
        for quantity in QUANTITIES
    )


def _by_role(model: ModelRecord) -> dict[Role, list[Member]]:
    """The highly connected layers that follow some law."""
    by_role: defaultdict[Role, list[Member]] = defaultdict(list)
    for role, member in members_of(model, 1, label=""):
        if isinstance(member, Member):
            by_role[role].append(member)
    return dict(by_role)


def _shared_roles(*models: dict[Role, list[Member]]) -> list[Role]:
    """The roles that every model has, in the order of their definition."""
    return [role for role in Role if models and all(role in model for model in models)]


def _trend(members: Sequence[Member], quantity: Quantity) -> Trend | NotFitted:
    deep = [member for member in members if member.relative_depth is not None]
    depths = np.array([member.relative_depth for member in deep], dtype=np.float64)
    return trend(depths, estimates_of(deep)[quantity].values)


def _side_by_side(role: Role, quantity: Quantity, a: Estimates, b: Estimates) -> RoleSideBySide:
    mean_a, mean_b = float(a.values.mean()), float(b.values.mean())
    return RoleSideBySide(
        role=role,
        quantity=quantity,
        layers_a=a.values.size,
        layers_b=b.values.size,
        mean_a=mean_a,
        mean_b=mean_b,
        change=mean_b - mean_a,
        error=math.hypot(_error_of_mean(a), _error_of_mean(b)),
        tau_a=_tau(a),
        tau_b=_tau(b),
    )


def _error_of_mean(estimates: Estimates) -> float:
    return math.sqrt(float((estimates.errors**2).sum())) / estimates.errors.size


def _tau(estimates: Estimates) -> float | NotFitted:
    effects = random_effects(estimates.values, estimates.errors)
    return effects.unweighted_tau if isinstance(effects, RandomEffects) else effects
