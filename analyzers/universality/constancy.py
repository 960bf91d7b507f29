"""Estimates of many layers -> how constant each quantity is over them, by role, model and depth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.icc import icc
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.meta_analysis import RandomEffects
from jaynes_audit.analyzers.universality.trend import Trend, trend

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

TERTILES = (1 / 3, 2 / 3)


class Quantity(StrEnum):
    """What may be the same in every layer.

    `SCALE_FREE_LOG_MEAN` is mu after the layer is divided by its root mean square: ln|weight| less ln(rms) on average.
    Sigma and skewness do not depend on the scale.
    """

    LOG_MEAN = "mu"
    SCALE_FREE_LOG_MEAN = "mu after division by the rms"
    LOG_SIGMA = "sigma"
    SKEWNESS = "skewness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """One quantity of each layer and its standard error; both of shape (layers,)."""

    values: Floats
    errors: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEffects:
    """The mean and the spread of a quantity over the layers of one role."""

    role: str
    effects: RandomEffects


@dataclass(frozen=True, slots=True, kw_only=True)
class Constancy:
    """How constant one quantity is over layers.

    `by_role` holds the roles with three layers or more, in the order of their names. The intra-class correlations tell
    which share of the variance lies between models, roles, and thirds of the layers by their depth; together with the
    trend they cover the layers that have a depth.
    """

    quantity: Quantity
    overall: RandomEffects | NotFitted
    by_role: tuple[RoleEffects, ...]
    icc_by_model: float | NotFitted
    icc_by_role: float | NotFitted
    icc_by_depth: float | NotFitted
    trend: Trend | NotFitted


def estimates_of(members: Sequence[Member]) -> dict[Quantity, Estimates]:
    """Collect the quantities of layers.

    mu less ln(rms) gets the error of mu alone. For light-tailed weights that is too large, since both err together
    (by 30 % for independent Gaussian ones); for heavy tails it is too small, since a few
    weights decide the rms, and tau then includes its scatter.
    """
    log_means, log_rms, log_sigmas, skewnesses = (
        np.array([(each.log_mean, each.log_rms, each.log_sigma, each.skewness) for each in members], dtype=np.float64)
        .reshape(-1, 4)
        .T
    )
    of_log_mean, of_log_sigma, of_skewness = (
        np.array(
            [(each.log_mean_error, each.log_sigma_error, each.skewness_error) for each in members], dtype=np.float64
        )
        .reshape(-1, 3)
        .T
    )
    return {
        Quantity.LOG_MEAN: Estimates(values=log_means, errors=of_log_mean),
        Quantity.SCALE_FREE_LOG_MEAN: Estimates(values=log_means - log_rms, errors=of_log_mean),
        Quantity.LOG_SIGMA: Estimates(values=log_sigmas, errors=of_log_sigma),
        Quantity.SKEWNESS: Estimates(values=skewnesses, errors=of_skewness),
    }


def constancies(
    members: Sequence[Member],
    estimates: Mapping[Quantity, Estimates],
    meta_analysis: Callable[[Floats, Floats], RandomEffects | NotFitted],
) -> tuple[Constancy, ...]:
    """Tell how constant each quantity is. `meta_analysis` turns values and errors into their mean and spread."""
    models = _numbered([each.model for each in members])[1]
    names, roles = _numbered([each.role for each in members])
    layers_of_role = [(name, np.flatnonzero(roles == number)) for number, name in enumerate(names)]
    deep = np.array([index for index, each in enumerate(members) if each.relative_depth is not None], dtype=np.int64)
    depths = np.array([each.relative_depth for each in members if each.relative_depth is not None], dtype=np.float64)
    thirds = _thirds(depths)
    return tuple(
        Constancy(
            quantity=quantity,
            overall=meta_analysis(each.values, each.errors),
            by_role=tuple(
                RoleEffects(role=name, effects=effects)
                for name, layers in layers_of_role
                if isinstance(effects := meta_analysis(each.values[layers], each.errors[layers]), RandomEffects)
            ),
            icc_by_model=icc(each.values, models),
            icc_by_role=icc(each.values, roles),
            icc_by_depth=icc(each.values[deep], thirds),
            trend=trend(depths, each.values[deep]),
        )
        for quantity, each in estimates.items()
    )


def _numbered(labels: Sequence[str]) -> tuple[list[str], Indices]:
    """The different labels in order, and for each label its place among them."""
    names = sorted(set(labels))
    number_of = {name: number for number, name in enumerate(names)}
    return names, np.array([number_of[label] for label in labels], dtype=np.int64)


def _thirds(depths: Floats) -> Indices:
    """Number the third of the layers that each belongs to by its depth; layers at one depth stay together."""
    if not depths.size:
        return np.zeros(0, dtype=np.int64)
    return np.searchsorted(np.quantile(depths, TERTILES), depths).astype(np.int64)
