"""Layers with weights drawn from a law, as the audit sees them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaynes_audit.analyzers.universality.member import COLLAPSE_PROBABILITIES, Member

ROLES = ("attention", "up", "down")
ROW_BLOCKS = 16


def log_moments(power_means: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and skewness from the means of x, x^2 and x^3."""
    mean, square, cube = power_means
    variance = square - mean**2
    return np.array([mean, np.sqrt(variance), (cube - 3 * mean * square + 2 * mean**3) / variance**1.5])


def member_of(weights: np.ndarray, family: str, *, index: int = 0, layers: int = 1) -> Member:
    """The layer at one place of a network; its errors by leaving out one of 16 row blocks in turn."""
    log_magnitudes = np.log(np.abs(weights))
    of_blocks = np.array([(log_magnitudes**power).reshape(ROW_BLOCKS, -1).mean(axis=1) for power in (1, 2, 3)])
    whole = of_blocks.mean(axis=1)
    mean, sigma, skewness = log_moments(whole)
    left_out = log_moments((ROW_BLOCKS * whole[:, np.newaxis] - of_blocks) / (ROW_BLOCKS - 1))
    errors = np.sqrt((ROW_BLOCKS - 1) * left_out.var(axis=1))
    return Member(
        model="model",
        role=ROLES[index % len(ROLES)],
        relative_depth=index / max(1, layers - 1),
        weights=weights.size,
        fan_in=weights.shape[1],
        log_mean=float(mean),
        log_sigma=float(sigma),
        skewness=float(skewness),
        log_rms=float(np.log((weights**2).mean()) / 2),
        log_mean_error=float(errors[0]),
        log_sigma_error=float(errors[1]),
        skewness_error=float(errors[2]),
        family=family,
        quantiles=tuple(np.quantile((log_magnitudes - mean) / sigma, COLLAPSE_PROBABILITIES).tolist()),
        declared_sd=None,
    )


def network(draws: Sequence[np.ndarray], families: Sequence[str], **changes: object) -> list[Member]:
    """Weight matrices in the order of their depth, and the family of each."""
    return [
        replace(member_of(weights, family, index=index, layers=len(draws)), **changes)
        for index, (weights, family) in enumerate(zip(draws, families, strict=True))
    ]
