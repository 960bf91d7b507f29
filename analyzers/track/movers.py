"""Neighbouring points -> Transition: which layers moved from one checkpoint to the next."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaynes_audit.analyzers.rules.thresholds import USUAL_THRESHOLDS, Thresholds
from jaynes_audit.analyzers.track.point import LayerPoint, Point

LEAST_COMPANIONS = 2  # layers of the same role that must have stayed where one moved alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A layer whose law moved. `times` is by how much its greater change exceeds what counts as one; 1 is just so.

    Errors are standard errors of the changes as if the two checkpoints had nothing to do with one another, which is too
    large; None where a layer has too few rows for one. `alone` tells that no other layer of its role moved.
    """

    name: str
    role: str
    mu_change: float
    mu_error: float | None
    sigma_change: float
    sigma_error: float | None
    times: float
    alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What happened between two neighbours, `before` and `after` by their places among the checkpoints that were read.

    `compared` counts the layers that both have and that were fitted in both. `unchanged` names those, fitted or not,
    that have the very same bytes. `moves` are ranked, the farthest first. A layer that is neither changed its weights
    and not, beyond what counts, its law.
    """

    before: int
    after: int
    compared: int
    unchanged: tuple[str, ...]
    moves: tuple[Move, ...]


def transitions(points: Sequence[Point], limits: Thresholds = USUAL_THRESHOLDS) -> tuple[Transition, ...]:
    """Say of every two neighbours which layers moved.

    A layer moved when its mu did by more than 0.03, or its sigma by more than 2 % and 0.005, and each by more than six
    standard errors: what a gate calls a drift (JN401, JN402). Below the noise nothing is said to have moved.
    """
    return tuple(
        _transition(before, (points[before], points[after]), limits) for before, after in pairwise(range(len(points)))
    )


def frozen(points: Sequence[Point]) -> tuple[str, ...]:
    """Name the layers that have the very same bytes in all points."""
    contents = [{layer.name: layer.content for layer in point.layers} for point in points]
    return tuple(
        layer.name for layer in points[0].layers if all(each.get(layer.name) == layer.content for each in contents)
    )


def _transition(at: int, points: tuple[Point, Point], limits: Thresholds) -> Transition:
    before = {layer.name: layer for layer in points[0].layers}
    pairs = [(before[layer.name], layer) for layer in points[1].layers if layer.name in before and not layer.tied_to]
    fitted = [(a, b) for a, b in pairs if a.mu is not None and b.mu is not None]
    moves = [(b, _times(a, b, limits)) for a, b in fitted]
    moved = Counter(layer.role for layer, times in moves if times > 1)
    of_role = Counter(layer.role for _, layer in fitted)
    ranked = sorted(
        (
            _move(a, b, times, alone=moved[b.role] == 1 and of_role[b.role] > LEAST_COMPANIONS)
            for (a, b), (_, times) in zip(fitted, moves, strict=True)
            if times > 1
        ),
        key=lambda move: -move.times,
    )
    return Transition(
        before=at,
        after=at + 1,
        compared=len(fitted),
        unchanged=tuple(b.name for a, b in pairs if a.content == b.content),
        moves=tuple(ranked),
    )


def _times(a: LayerPoint, b: LayerPoint, limits: Thresholds) -> float:
    """How many times what counts as one the greater of both changes is."""
    if a.content == b.content:
        return 0.0
    (mu, mu_error), (sigma, sigma_error) = _changes(a, b)
    least_of_sigma = max(limits.sigma_abs, limits.sigma_rel * (a.sigma or 0.0))
    return max(
        abs(mu) / max(limits.mu_abs, limits.standard_errors * (mu_error or 0.0)),
        abs(sigma) / max(least_of_sigma, limits.standard_errors * (sigma_error or 0.0)),
    )


def _changes(a: LayerPoint, b: LayerPoint) -> tuple[tuple[float, float | None], tuple[float, float | None]]:
    return (
        (_change(a.mu, b.mu), _error(a.se_mu, b.se_mu)),
        (_change(a.sigma, b.sigma), _error(a.se_sigma, b.se_sigma)),
    )


def _change(before: float | None, after: float | None) -> float:
    return after - before if before is not None and after is not None else 0.0


def _error(before: float | None, after: float | None) -> float | None:
    return math.hypot(before, after) if before is not None and after is not None else None


def _move(a: LayerPoint, b: LayerPoint, times: float, *, alone: bool) -> Move:
    (mu, mu_error), (sigma, sigma_error) = _changes(a, b)
    return Move(
        name=b.name,
        role=b.role,
        mu_change=mu,
        mu_error=mu_error,
        sigma_change=sigma,
        sigma_error=sigma_error,
        times=times,
        alone=alone,
    )
