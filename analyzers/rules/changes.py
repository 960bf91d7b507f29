"""Rules about what changed from a model that is known to be good (A) to a new one (B)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from statistics import median

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.rules.rule import Level, Rule

LEAST_STANDARD_ERRORS = 6.0  # one layer in 5e8 by chance, and a model has thousands of them
MOST_RELATIVE_SIGMA_CHANGE = 0.02
MOST_SIGMA_CHANGE = 0.005  # of very large layers chance alone leaves less than nothing to speak of
MOST_MU_CHANGE = 0.05  # 5 % of scale
MOST_KS = 0.04  # what quantiles 0.1 sigma apart make of two normal laws: 0.1 times the density at their middle
MOST_SKEWNESS_CHANGE = 0.2  # quantiles 0.1 sigma apart, two sigma from the middle (Cornish & Fisher 1938)
SIX_SIGMA_KS = math.sqrt(-math.log(1e-9) / 2)  # of two samples of one law, times the root of 1/n + 1/m (Smirnov 1948)
MOST_ZERO_SHARE_CHANGE = 0.01
LEAST_RESCALED_SHARE = 0.9
LEAST_RESCALED_LAYERS = 3  # of two layers it takes no common cause
SAME_RESCALING = 0.01  # 1 % of scale: what one factor, rounded in each layer, is the same within


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A parameter in A, its change b - a, and the standard error of the change."""

    before: float
    change: float
    error: float | NotFitted

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the change is significant. Nothing can be said without an error, and then it is not."""
        return isinstance(self.error, float) and abs(self.change) > LEAST_STANDARD_ERRORS * self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A layer in both models, as far as a rule looks at it.

    `same_weights` says that B holds A's weights, in another order or number format at most, and none lost. `weights`
    are those of A and B, `ks` is the distance between their distributions of ln|w|, `zero_shares` the parts of them
    that are zero.
    """

    name: str
    is_matrix: bool
    same_weights: bool
    shapes: tuple[tuple[int, int], tuple[int, int]]
    dtypes: tuple[str, str]
    weights: tuple[int, int]
    log_mean: Moved | NotFitted
    log_sigma: Moved | NotFitted
    skewness: Moved | NotFitted
    ks: float | NotFitted
    zero_shares: tuple[float, float] | NotFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRule(Rule):
    """A rule that looks at one layer of both models at a time."""

    check: Callable[[Change], str | None]


def change_rule(code: str, name: str, level: Level) -> Callable[[Callable[[Change], str | None]], ChangeRule]:
    """Make a rule of a check: a function that gives the objection, or None. Its docstring is the documentation."""

    def made(check: Callable[[Change], str | None]) -> ChangeRule:
        return ChangeRule(code=code, name=name, level=level, documentation=cleandoc(check.__doc__ or ""), check=check)

    return made


MISSING_TENSOR = Rule(
    code="JN201",
    name="missing-tensor",
    level=Level.ERROR,
    documentation="""\
A layer of A has no counterpart in B.

Why it matters: loaders fill what is missing with random or zero weights, often with no more than a warning.
What to do: find out which step dropped or renamed it, and export again.""",
)

EXTRA_TENSOR = Rule(
    code="JN202",
    name="extra-tensor",
    level=Level.WARNING,
    documentation="""\
A layer of B has no counterpart in A.

Why it matters: a wrapper, an adapter that was not merged, or a part of another model was saved with it.
What to do: if it is not meant to be there, save the bare model; else compare with a newer A.""",
)


@change_rule("JN203", "shape-changed", Level.ERROR)
def shape_changed(change: Change) -> str | None:
    """A layer has other rows and columns in B than in A, and they are not the same weights laid out anew.

    Why it matters: a vocabulary was resized, layers were pruned, or another model lies under the same names.
    What to do: compare the two config.json files; if the change is meant, it needs a new A.
    """
    (rows_a, columns_a), (rows_b, columns_b) = change.shapes
    if change.same_weights or change.shapes[0] == change.shapes[1]:
        return None
    return f"{rows_a:,} x {columns_a:,} in A, {rows_b:,} x {columns_b:,} in B"


@change_rule("JN204", "dtype-changed", Level.WARNING)
def dtype_changed(change: Change) -> str | None:
    """A layer is stored in another number format in B than in A.

    Why it matters: the model takes another amount of memory, and its weights may have lost bits.
    What to do: if no other format was asked for, look at the export's dtype option.
    """
    before, after = change.dtypes
    return None if before == after else f"{before} in A, {after} in B"


@change_rule("JN401", "sigma-drift", Level.ERROR)
def sigma_drift(change: Change) -> str | None:
    """The sigma of a layer moved by more than 2 %, by more than 0.005 and by more than six standard errors.

    Why it matters: the weights are spread otherwise than before; an export, a cast or a merge does not do that.
    What to do: if B was trained further, keep it as the new A; else find the step that changed the weights.
    """
    moved = change.log_sigma
    if isinstance(moved, NotFitted) or change.same_weights or not moved.is_beyond_chance:
        return None
    least = max(MOST_SIGMA_CHANGE, MOST_RELATIVE_SIGMA_CHANGE * moved.before)
    return _told("sigma", moved) if abs(moved.change) > least else None


@change_rule("JN402", "scale-drift", Level.ERROR)
def scale_drift(change: Change) -> str | None:
    """The mu of a layer moved by more than 0.05, that is its scale by 5 %, and by more than six standard errors.

    Why it matters: a wrong scale of a quantiser or a merge multiplies the layer's output by as much.
    What to do: if B was trained further, keep it as the new A; else look at the scales of the step between.
    """
    moved = change.log_mean
    if isinstance(moved, NotFitted) or change.same_weights or not moved.is_beyond_chance:
        return None
    if abs(moved.change) <= MOST_MU_CHANGE:
        return None
    return f"{_told('mu', moved)}: weights {_factor(moved.change)} times as large"


@change_rule("JN403", "shape-drift", Level.WARNING)
def shape_drift(change: Change) -> str | None:
    """The magnitudes of a layer are distributed in another shape: quantiles are about 0.1 sigma apart, beyond chance.

    Read from the Kolmogorov-Smirnov distance where both distributions are known, from the skewness where they are not.
    Nothing is said of layers whose sigma or scale drifted: there it is no news.

    Why it matters: weights were clipped, rounded to few values or replaced, while their scale stayed what it was.
    What to do: look at the quantiser's or the pruner's settings for this layer.
    """
    if change.same_weights or sigma_drift.check(change) or scale_drift.check(change):
        return None
    if not isinstance(change.ks, NotFitted):
        noise = SIX_SIGMA_KS * math.sqrt(sum(1 / weights for weights in change.weights))
        told = f"KS distance {change.ks:.3f} between the distributions of ln|w|; chance reaches {noise:.3f}"
        return told if change.ks > max(MOST_KS, noise) else None
    moved = change.skewness
    if isinstance(moved, NotFitted) or not moved.is_beyond_chance or abs(moved.change) <= MOST_SKEWNESS_CHANGE:
        return None
    return _told("skewness", moved)


@change_rule("JN404", "sparsity-drift", Level.ERROR)
def sparsity_drift(change: Change) -> str | None:
    """The share of a layer's weights that are zero moved by more than one percentage point.

    Why it matters: small weights were flushed to zero by a narrow number format, or a pruning mask was lost.
    What to do: export in a format of wider range, or look for the mask.
    """
    if isinstance(change.zero_shares, NotFitted) or change.same_weights:
        return None
    before, after = change.zero_shares
    return f"{before:.1%} zeros in A, {after:.1%} in B" if abs(after - before) > MOST_ZERO_SHARE_CHANGE else None


COMMON_RESCALE = Rule(
    code="JN405",
    name="common-rescale",
    level=Level.ERROR,
    documentation="""\
The mu of nine in ten matrices or more moved by the same amount, by more than 0.05. It stands for their JN402.

Why it matters: one wrong factor was applied to all of them, in a merge or in dequantising.
What to do: divide by the factor that the finding gives, or correct the step that applied it.""",
)

CHANGE_RULES: tuple[ChangeRule, ...] = (
    shape_changed,
    dtype_changed,
    sigma_drift,
    scale_drift,
    shape_drift,
    sparsity_drift,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaling:
    """One change of mu that most matrices share, the names of those, and how many were looked at."""

    change: float
    names: frozenset[str]
    matrices: int

    @property
    def sentence(self) -> str:
        """What it is, in words."""
        return (
            f"mu moved by {self.change:+.3f} in {len(self.names):,} of {self.matrices:,} matrices: weights "
            f"{_factor(self.change)} times as large"
        )


def common_rescaling(changes: Sequence[Change]) -> Rescaling | None:
    """Find the factor that most matrices were multiplied by, if there is one."""
    known = [change for change in changes if change.is_matrix and (change.same_weights or _has_scale(change))]
    shifts = {change.name: _shift(change) for change in known}
    if len(shifts) < LEAST_RESCALED_LAYERS:
        return None
    common = median(shifts.values())
    alike = frozenset(name for name, shift in shifts.items() if abs(shift - common) <= SAME_RESCALING)
    if abs(common) <= MOST_MU_CHANGE or len(alike) < LEAST_RESCALED_SHARE * len(shifts):
        return None
    return Rescaling(change=common, names=alike, matrices=len(shifts))


def _has_scale(change: Change) -> bool:
    return not isinstance(change.log_mean, NotFitted)


def _shift(change: Change) -> float:
    return 0.0 if change.same_weights or isinstance(change.log_mean, NotFitted) else change.log_mean.change


def _told(name: str, moved: Moved) -> str:
    told = f"{name} {moved.before:.3f} in A, {moved.before + moved.change:.3f} in B"
    if isinstance(moved.error, NotFitted) or not moved.error:
        return told
    return f"{told} ({abs(moved.change) / moved.error:,.0f} standard errors)"


def _factor(log_change: float) -> str:
    return f"{math.exp(min(log_change, math.log(1e300))):.3g}"
