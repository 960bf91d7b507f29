"""Log-moments of the magnitudes of weights, and their errors.

x = ln|w| over the finite non-zero weights. The first two moments are the maximum-likelihood fit of the lognormal
LN(mu, sigma); skewness and excess kurtosis tell whether it is one (both are then 0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.sketch.extent import ROW_BLOCKS
from jaynes_audit.analyzers.sketch.grid import SIGN_BIT
from jaynes_audit.analyzers.sketch.sketch import BlockCounts

MAX_POWER = 4
LEAST_SPREAD = 1e-9  # variance over mean square: below it, double precision leaves too few digits of a fourth moment

JACKKNIFE_FACTOR = 2.131450  # 97.5 % point of Student's t with ROW_BLOCKS - 1 degrees of freedom
NORMAL_FACTOR = 1.959964  # and of the normal distribution

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMoments:
    """Mean and standard deviation of ln|w|, its skewness k3/k2^1.5 and its excess kurtosis k4/k2^2.

    `weights` counts the finite non-zero weights they are taken over.
    """

    weights: int
    log_mean: float
    log_sigma: float
    skewness: float
    excess_kurtosis: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMomentErrors:
    """Standard errors of the log-moments.

    `blocks` is the number of row blocks that the jackknife left out in turn, or 0 where the matrix has too few rows
    and the errors are those of independent weights, which real rows are not: they are then too small.
    """

    blocks: int
    log_mean: float
    log_sigma: float
    skewness: float
    excess_kurtosis: float

    @property
    def interval_factor(self) -> float:
        """How many standard errors a 95 % confidence interval reaches to either side.

        The error that a jackknife gives is itself uncertain, so its factor is that of Student's t with 15 degrees of
        freedom (Tukey 1958).
        """
        return JACKKNIFE_FACTOR if self.blocks else NORMAL_FACTOR


@dataclass(frozen=True, slots=True)
class NotFitted:
    """Why there is no fit, in a few words."""

    reason: str


def log_moments(stack: Stack) -> list[LogMoments]:
    """Compute the log-moments of every layer of a stack.

    Within rounding those of the stored weights for bf16, fp16 and smaller formats; for float32 mu and sigma are within
    1e-5 of the exact ones where sigma >= 0.1.
    """
    log_values = stack.grid.log_value[stack.codes]
    centers = stack.sums(log_values * stack.tallies) / stack.weights
    # Centred first: raw fourth powers of ln|w| around -4 would cancel six digits.
    moments = _moments(_power_sums(log_values - stack.spread(centers), stack.tallies, stack.starts))
    moments[0] += centers
    return [
        LogMoments(weights=weights, log_mean=mean, log_sigma=sigma, skewness=skewness, excess_kurtosis=kurtosis)
        for weights, mean, sigma, skewness, kurtosis in zip(stack.weights.tolist(), *moments.tolist(), strict=True)
    ]


def log_moment_errors(
    stack: Stack, moments: Sequence[LogMoments], counts: Sequence[BlockCounts]
) -> list[LogMomentErrors]:
    """Estimate the standard errors of each layer's log-moments by leaving out one row block at a time.

    Weights of a row share a scale, so the error is larger than sigma/sqrt(n); whole rows left out together show it
    (delete-a-group jackknife, Quenouille 1956, Tukey 1958). Where fewer than 16 blocks hold a usable weight, or one of
    them has all the spread, the errors of independent weights are given and `blocks` is 0: from fewer groups the
    jackknife would be off by a fifth or more.
    """
    blocked = [layer for layer, each in enumerate(counts) if each.ends.size == ROW_BLOCKS]
    left_out_in_turn = _jackknife(stack, moments, counts, blocked) if blocked else {}
    return [left_out_in_turn.get(layer) or _independent_errors(each) for layer, each in enumerate(moments)]


def _jackknife(
    stack: Stack, moments: Sequence[LogMoments], counts: Sequence[BlockCounts], blocked: Sequence[int]
) -> dict[int, LogMomentErrors]:
    """The errors of those of the layers `blocked` that allow it, by layer."""
    centers = [moments[layer].log_mean for layer in blocked]
    sums = _block_power_sums(stack, [counts[layer] for layer in blocked], centers)
    others = sums.sum(axis=2, keepdims=True) - sums
    left_out = _moments(others)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Where one block has all the spread there is, the others have none but rounding, and moments of that are noise.
        spread = left_out[1] ** 2 > LEAST_SPREAD * others[2] / others[0]
        deviations = left_out - left_out.mean(axis=2, keepdims=True)
        jackknife = np.sqrt((ROW_BLOCKS - 1) / ROW_BLOCKS * (deviations**2).sum(axis=2))
    usable = ((sums[0] > 0) & spread).all(axis=1) & np.isfinite(jackknife).all(axis=0)
    return {
        layer: LogMomentErrors(
            blocks=ROW_BLOCKS, log_mean=mean, log_sigma=sigma, skewness=skewness, excess_kurtosis=kurtosis
        )
        for layer, (mean, sigma, skewness, kurtosis), is_usable in zip(
            blocked, jackknife.T.tolist(), usable.tolist(), strict=True
        )
        if is_usable
    }


def _independent_errors(moments: LogMoments) -> LogMomentErrors:
    # SE(sigma) by the delta method from var(k2) = k2^2 (kurtosis + 2)/n; the others as for a normal ln|w|.
    n = moments.weights
    return LogMomentErrors(
        blocks=0,
        log_mean=moments.log_sigma / math.sqrt(n),
        log_sigma=moments.log_sigma * math.sqrt(max(0.0, moments.excess_kurtosis + 2) / (4 * n)),
        skewness=math.sqrt(6 / n),
        excess_kurtosis=math.sqrt(24 / n),
    )


def _block_power_sums(stack: Stack, counts: Sequence[BlockCounts], centers: Sequence[float]) -> Floats:
    """Sum x^0 .. x^4, x centred, over the usable weights of each row block; shape (5, layers, blocks)."""
    entries = np.array([each.codes.size for each in counts])
    codes = np.concatenate([each.codes for each in counts]) & np.uint16(SIGN_BIT - 1)
    tallies = np.concatenate([each.tallies for each in counts])
    log_values = stack.grid.log_value[codes] - np.repeat(centers, entries)
    unusable = np.isnan(log_values)  # zeros and what is not finite
    log_values[unusable] = 0
    tallies = np.where(unusable, 0, tallies)
    ends = np.concatenate([each.ends for each in counts]) + np.repeat(np.cumsum(entries) - entries, ROW_BLOCKS)
    starts = np.concatenate([[0], ends[:-1]])
    sums = np.zeros((MAX_POWER + 1, ends.size))
    occupied = ends > starts  # reduceat gives an empty run its neighbour's first entry
    if occupied.any():
        sums[:, occupied] = _power_sums(log_values, tallies, starts[occupied])
    return sums.reshape(MAX_POWER + 1, len(counts), ROW_BLOCKS)


def _power_sums(log_values: Floats, tallies: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> Floats:
    """Sum x^0 .. x^4 over each run that begins at `starts`; shape (5, runs)."""
    sums = np.empty((MAX_POWER + 1, starts.size))
    terms = tallies.astype(np.float64)
    for power in range(MAX_POWER + 1):
        sums[power] = np.add.reduceat(terms, starts)
        terms *= log_values
    return sums


def _moments(sums: Floats) -> Floats:
    """Turn sums of x^0 .. x^4, shape (5, ...), into mean, sigma, skewness and excess kurtosis, shape (4, ...)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, second, third, fourth = sums[1:] / sums[0]
        square = mean * mean
        variance = second - square
        sigma = np.sqrt(variance)
        skewness = (third - 3 * mean * second + 2 * mean * square) / (variance * sigma)
        kurtosis = (fourth - 4 * mean * third + 6 * square * second - 3 * square * square) / (variance * variance) - 3
    return np.stack([mean, sigma, skewness, kurtosis])
