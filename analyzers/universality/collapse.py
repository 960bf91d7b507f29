"""Members -> whether the shapes of their distributions fall onto one curve, and near which law."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.member import COLLAPSE_PROBABILITIES, Member
from jaynes_audit.analyzers.universality.twin import GAUSSIAN

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """How well the layers' quantile curves agree, once each is standardised by its own mean and sigma of ln|weight|.

    `residual` is the mean squared distance of the curves to their mean curve. It is near 0 for any family of one shape,
    Gaussian noise among them, so a small one alone supports no law. What the shape is, the mean curve's root mean
    square distances tell: `distance_to_normal` is 0 for lognormal weights, `distance_to_log_half_normal` for Gaussian
    ones. All are in units of sigma (`residual` in its square), over the central 97 % of the weights.
    """

    layers: int
    residual: float
    distance_to_normal: float
    distance_to_log_half_normal: float


def collapse(members: Sequence[Member]) -> Collapse | NotFitted:
    """Compare the shapes of layers by their standardised quantiles."""
    if len(members) <= 1:
        return NotFitted("fewer than two layers")
    curves = np.array([member.quantiles for member in members])
    mean_curve = curves.mean(axis=0)
    normal, log_half_normal = _reference_curves()
    return Collapse(
        layers=len(members),
        residual=float(((curves - mean_curve) ** 2).mean()),
        distance_to_normal=_root_mean_square(mean_curve - normal),
        distance_to_log_half_normal=_root_mean_square(mean_curve - log_half_normal),
    )


def _reference_curves() -> tuple[Floats, Floats]:
    """Quantiles of a standard normal and of a standardised log-half-normal variable."""
    quantile = NormalDist().inv_cdf
    normal = np.array([quantile(probability) for probability in COLLAPSE_PROBABILITIES])
    half_normal = np.array([quantile((1 + probability) / 2) for probability in COLLAPSE_PROBABILITIES])
    return normal, (np.log(half_normal) - GAUSSIAN.log_mean) / GAUSSIAN.log_sigma


def _root_mean_square(distances: Floats) -> float:
    return math.sqrt(float((distances**2).mean()))
