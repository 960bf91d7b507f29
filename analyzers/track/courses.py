"""Points at steps -> RoleCourse: how mu and sigma of the layers of each role went, and when they settled."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from jaynes_audit.analyzers.audit import JUDGED
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.rules.thresholds import USUAL_THRESHOLDS
from jaynes_audit.analyzers.track.point import LayerPoint, Point
from jaynes_audit.analyzers.track.settling import Settling, settling

MU_FLOOR = 0.01  # 1 % of scale: a third of what a gate calls a drift (JN402), for a course has many values
SIGMA_FLOOR = USUAL_THRESHOLDS.sigma_abs

MU, SIGMA = "mu", "sigma"
QUANTITIES = {MU: MU_FLOOR, SIGMA: SIGMA_FLOOR}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleCourse:
    """The mean of a quantity over the same layers at every checkpoint, and what it did.

    `role` is None for all highly connected matrices. `steps` and `values` are those of the checkpoints that were read
    completely. `layers` counts the layers that were fitted in each of them.
    """

    role: str | None
    quantity: str
    layers: int
    steps: tuple[int, ...]
    values: tuple[float, ...]
    settling: Settling | NotFitted


def courses(points: Mapping[int, Point]) -> tuple[RoleCourse, ...]:
    """Follow the highly connected matrices, and each role that has matrices, over complete points by their steps."""
    complete = {step: point for step, point in sorted(points.items()) if point.coverage.complete}
    if not complete:
        return ()
    return tuple(
        _course(role, quantity, complete, names)
        for role, names in _groups(list(complete.values()))
        for quantity in QUANTITIES
    )


def _groups(points: Sequence[Point]) -> Iterator[tuple[str | None, frozenset[str]]]:
    """The highly connected matrices, and the roles, each with the names of the layers that all points have a law of."""
    fitted = [{layer.name for layer in point.layers if layer.mu is not None and not layer.tied_to} for point in points]
    lasting = frozenset.intersection(*map(frozenset, fitted))
    matrices = [layer for layer in points[0].layers if layer.role in JUDGED]
    yield None, lasting & {layer.name for layer in matrices if layer.connected}
    for role in sorted({layer.role for layer in matrices}):
        yield role, lasting & {layer.name for layer in matrices if layer.role == role}


def _course(role: str | None, quantity: str, points: Mapping[int, Point], names: frozenset[str]) -> RoleCourse:
    values = tuple(_mean(point.layers, quantity, names) for point in points.values()) if names else ()
    return RoleCourse(
        role=role,
        quantity=quantity,
        layers=len(names),
        steps=tuple(points),
        values=values,
        settling=settling(list(points), values, floor=QUANTITIES[quantity])
        if names
        else NotFitted(_why_none(role, points.values())),
    )


def _why_none(role: str | None, points: Iterable[Point]) -> str:
    """Why nothing is there to be followed."""
    if role is None and not any(layer.connected for point in points for layer in point.layers):
        return "no matrix that was chosen is highly connected (--min-fan-in and --min-weights say which are)"
    return "no layer was fitted in every checkpoint"


def _mean(layers: Sequence[LayerPoint], quantity: str, names: frozenset[str]) -> float:
    known = (layer.mu if quantity == MU else layer.sigma for layer in layers if layer.name in names)
    return fmean(value for value in known if value is not None)
