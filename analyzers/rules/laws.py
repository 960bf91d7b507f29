"""Rules about the laws that the weights follow: notes, for a network may have any law."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.rules.blocks import stacks_of
from jaynes_audit.analyzers.rules.initial import left_at_initialisation, untouched_initialisation
from jaynes_audit.analyzers.rules.rule import LayerRule, Level, ModelRule, Precision, model_rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds

Floats = npt.NDArray[np.float64]

LEAST_LAYERS = 8  # fewer have no median absolute deviation to speak of


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A highly connected layer, what was fitted to it, and the errors of that."""

    layer: LayerAudit
    fit: LognormalFit
    errors: LogMomentErrors


def _fitted(audit: Audit) -> Iterator[Fitted]:
    for layer in audit:
        fit, errors = layer.fit, layer.errors
        if (
            layer.connected
            and not layer.tied_to
            and isinstance(fit, LognormalFit)
            and isinstance(errors, LogMomentErrors)
        ):
            yield Fitted(layer=layer, fit=fit, errors=errors)


@model_rule("JN301", "lognormal-misfit", Level.NOTE)
def lognormal_misfit(audit: Audit, limits: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """The lognormal describes the weights of a role badly: KS distances from it are above 0.12.

    One note for each role, about all of its layers and named after the worst, for it is a property of a design rather
    than of a layer. Gaussian weights have a distance of 0.096, uniform ones of 0.159.

    Why it matters: mu and sigma say less of such weights, and they do not support the claim of one lognormal law.
    What to do: nothing, unless layers of this role used to be closer; look at their histograms in the HTML report.
    Example: layers.3.mlp.up_proj.weight: KS distance 0.161 from the fitted lognormal, the greatest of 4 beyond the
    limit among 12 layers of mlp.up
    """
    by_role: defaultdict[Role, list[Fitted]] = defaultdict(list)
    for each in _fitted(audit):
        by_role[each.layer.role].append(each)
    for role, of_role in by_role.items():
        far = [each for each in of_role if each.fit.ks_distance > limits(each.layer.name).ks_distance]
        if far:
            worst = max(far, key=lambda each: each.fit.ks_distance)
            told = f"the greatest of {len(far):,} beyond the limit among {len(of_role):,} layers of {role}"
            yield worst.layer.name, f"KS distance {worst.fit.ks_distance:.3f} from the fitted lognormal, {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What may set a layer apart from its likes.

    `floor` is the least distance from their median that is worth a word, `jump` the least one from block to block.
    """

    words: str
    of: Callable[[Fitted], float]
    error: Callable[[Fitted], float]
    floor: float
    jump: float


# Above all that 2,345 layers of MiniLM, of the fixtures and of small trained networks showed, four or more to a group:
# 0.071, 0.861 and 0.023 from the median, 0.058 and 0.624 from one block to the next.
QUANTITIES = (
    Quantity(
        words="sigma",
        of=lambda each: each.fit.moments.log_sigma,
        error=lambda each: each.errors.log_sigma,
        floor=0.1,
        jump=0.1,
    ),
    Quantity(
        words="mu",
        of=lambda each: each.fit.moments.log_mean,
        error=lambda each: each.errors.log_mean,
        floor=0.9,
        jump=0.65,
    ),
)
KS_DISTANCE = Quantity(
    words="KS distance", of=lambda each: each.fit.ks_distance, error=lambda _: 0.0, floor=0.03, jump=0.03
)


@model_rule("JN302", "outlier-layer", Level.NOTE, precision=Precision.MEDIUM)
def outlier_layer(audit: Audit, limits: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """A layer has another sigma, mu or KS distance than the layers of its role and shape, of which there are eight.

    It must be six median absolute deviations from their median, beyond six standard errors, and by 0.1 in sigma, 0.9 in
    mu or 0.03 in the distance.

    Why it matters: it was trained, quantised or merged otherwise than the others; the first and the last of a network
    often are.
    What to do: see whether the checkpoint before has it too.
    Example: layers.3.mlp.up_proj.weight: sigma 1.412, in the median of 32 layers of mlp.up 1.131
    """
    alike: defaultdict[Hashable, list[Fitted]] = defaultdict(list)
    for each in _fitted(audit):
        alike[each.layer.role, each.layer.stack, each.layer.rows, each.layer.columns, each.layer.dtype].append(each)
    for group in alike.values():
        if len(group) >= LEAST_LAYERS:
            for quantity in (*QUANTITIES, KS_DISTANCE):
                yield from _outliers(group, quantity, limits)


def _outliers(
    group: Sequence[Fitted], quantity: Quantity, limits: Callable[[str], Thresholds]
) -> Iterator[tuple[str, str]]:
    values = np.array([quantity.of(each) for each in group])
    middle = float(np.median(values))
    apart = np.abs(values - middle)
    spread = float(np.median(apart))
    for index in np.flatnonzero(apart > quantity.floor).tolist():
        each, thresholds = group[index], limits(group[index].layer.name)
        least = max(thresholds.outlier_z * spread, thresholds.standard_errors * quantity.error(each))
        if apart[index] > least:
            told = f"in the median of {len(group):,} layers of {each.layer.role} {middle:.3f}"
            yield each.layer.name, f"{quantity.words} {values[index]:.3f}, {told}"


@model_rule("JN303", "universality-break", Level.NOTE, precision=Precision.MEDIUM)
def universality_break(audit: Audit, limits: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """The distribution of a layer, standardised, lies off the curve that those of the model share.

    Its mean squared distance from the model's mean curve is above 0.02 and three times that of the median layer.

    Why it matters: whatever the common law of the model is, this layer does not follow it.
    What to do: look at the layer's histogram in the HTML report.
    Example: layers.3.mlp.up_proj.weight: 0.0341 from the curve that the model's layers share, 0.0020 in the median
    """
    fitted = list(_fitted(audit))
    if len(fitted) < LEAST_LAYERS:
        return
    curves: Floats = np.array([each.fit.standard_quantiles for each in fitted], dtype=np.float64)
    residuals = ((curves - np.median(curves, axis=0)) ** 2).mean(axis=1)
    middle = float(np.median(residuals))
    for each, residual in zip(fitted, residuals.tolist(), strict=True):
        thresholds = limits(each.layer.name)
        if residual > max(thresholds.collapse_residual, thresholds.collapse_factor * middle):
            told = f"from the curve that the model's layers share, {middle:.4f} in the median"
            yield each.layer.name, f"{residual:.4f} {told}"


@model_rule("JN304", "trend-break", Level.NOTE, precision=Precision.MEDIUM, is_preview=True)
def trend_break(audit: Audit, limits: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """Sigma or mu jumps from one block to the next, by more than six median absolute deviations of such differences.

    A jump counts from 0.1 in sigma or 0.65 in mu on, and in stacks of at least eight blocks.

    Why it matters: parts of two models were joined here, or one of them was scaled.
    What to do: compare both blocks with the checkpoint before.
    Example: layers.16.mlp.up_proj.weight: mu jumps by +0.690 from block 15 to block 16
    """
    for blocks in stacks_of((each.layer.name, each) for each in _fitted(audit)).values():
        chains: defaultdict[str, list[tuple[int, Fitted]]] = defaultdict(list)
        for number, block in blocks.items():
            for member, each in block.items():
                chains[member].append((number, each))
        for chain in chains.values():
            if len(chain) >= LEAST_LAYERS:
                for quantity in QUANTITIES:
                    yield from _jumps(chain, quantity, limits)


def _jumps(
    chain: Sequence[tuple[int, Fitted]], quantity: Quantity, limits: Callable[[str], Thresholds]
) -> Iterator[tuple[str, str]]:
    steps = np.diff([quantity.of(each) for _, each in chain])
    apart = np.abs(steps - np.median(steps))
    spread = float(np.median(apart))
    for index in np.flatnonzero(apart > quantity.jump).tolist():
        (before, _), (after, each) = chain[index], chain[index + 1]
        if apart[index] > limits(each.layer.name).trend_z * spread:
            told = f"jumps by {steps[index]:+.3f} from block {before:,} to block {after:,}"
            yield each.layer.name, f"{quantity.words} {told}"


LAW_RULES: tuple[LayerRule | ModelRule, ...] = (
    untouched_initialisation,
    left_at_initialisation,
    lognormal_misfit,
    outlier_layer,
    universality_break,
    trend_break,
)
