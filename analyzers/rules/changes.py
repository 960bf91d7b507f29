"""Rules about what changed from a model that is known to be good (A) to a new one (B)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from statistics import median

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.rules.rule import Level, Precision, Rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds

SIX_SIGMA_KS = math.sqrt(-math.log(1e-9) / 2)  # of two samples of one law, times the root of 1/n + 1/m (Smirnov 1948)
LEAST_RESCALED_LAYERS = 3  # of two layers it takes no common cause
SAME_RESCALING = 0.01  # 1 % of scale: what one factor, rounded in each layer, is the same within


NO_QUANTILES = NotFitted("quantiles are kept in a baseline only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A parameter in A, its change b - a, and the standard error of the change."""

    before: float
    change: float
    error: float | NotFitted

    def exceeds(self, standard_errors: float) -> bool:
        """Whether the change is so many standard errors. Nothing can be said without an error, and then it is not."""
        return isinstance(self.error, float) and abs(self.change) > standard_errors * self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A layer in both models, as far as a rule looks at it.

    `sides` is what the two models are called. `same_weights` says that B holds A's weights, in another order or number
    format at most, and none lost. `weights` are those of A and B, `ks` is the distance between their distributions of
    ln|w|, `quantile_gap` the greatest one beyond chance between their quantiles, in sigmas of A, and 0 if there is
    none; `zero_shares` are the parts of them that are zero.
    """

    name: str
    sides: tuple[str, str] = ("A", "B")
    is_matrix: bool
    same_weights: bool
    shapes: tuple[tuple[int, int], tuple[int, int]]
    dtypes: tuple[str, str]
    weights: tuple[int, int]
    log_mean: Moved | NotFitted
    log_sigma: Moved | NotFitted
    skewness: Moved | NotFitted
    ks: float | NotFitted
    quantile_gap: float | NotFitted = NO_QUANTILES
    zero_shares: tuple[float, float] | NotFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRule(Rule):
    """A rule that looks at one layer of both models at a time."""

    check: Callable[[Change, Thresholds], str | None]


ChangeCheck = Callable[[Change, Thresholds], str | None]


def change_rule(
    code: str, name: str, level: Level, *, precision: Precision = Precision.HIGH
) -> Callable[[ChangeCheck], ChangeRule]:
    """Make a rule of a check: a function that gives the objection, or None. Its docstring is the documentation."""

    def made(check: ChangeCheck) -> ChangeRule:
        return ChangeRule(
            code=code,
            name=name,
            level=level,
            documentation=cleandoc(check.__doc__ or ""),
            precision=precision,
            needs_baseline=True,
            check=check,
        )

    return made


MISSING_TENSOR = Rule(
    code="JN201",
    name="missing-tensor",
    level=Level.ERROR,
    needs_baseline=True,
    documentation="""\
A layer of the known model has no counterpart in the new one. A name that changed alone counts as missing; where all
names changed, as between file formats, layers are told by what they do. A head that is the embedding may be left out.

Why it matters: loaders fill what is missing with random or zero weights, often with no more than a warning.
What to do: find out which step dropped or renamed it, and export again.
Example: model.layers.3.mlp.up_proj.weight: not in this model, but its very content is there as 'up_proj.weight'""",
)

EXTRA_TENSOR = Rule(
    code="JN202",
    name="extra-tensor",
    level=Level.WARNING,
    needs_baseline=True,
    documentation="""\
A layer of the new model has no counterpart in the known one.

Why it matters: a wrapper, an adapter that was not merged, or a part of another model was saved with it.
What to do: if it is not meant to be there, save the bare model; else accept it into the baseline.
Example: model.layers.3.mlp.up_proj.lora_A.weight: not in the baseline""",
)


@change_rule("JN203", "shape-changed", Level.ERROR, precision=Precision.VERY_HIGH)
def shape_changed(change: Change, _: Thresholds) -> str | None:
    """A layer has other rows and columns than it had, and they are not the same weights laid out anew.

    Why it matters: a vocabulary was resized, layers were pruned, or another model lies under the same names.
    What to do: compare the two config.json files; if the change is meant, accept it into the baseline.
    Example: model.embed_tokens.weight: 32,000 x 4,096 in the baseline, 32,001 x 4,096 in this model
    """
    (rows_a, columns_a), (rows_b, columns_b) = change.shapes
    if change.same_weights or change.shapes[0] == change.shapes[1]:
        return None
    a, b = change.sides
    return f"{rows_a:,} x {columns_a:,} in {a}, {rows_b:,} x {columns_b:,} in {b}"


@change_rule("JN204", "dtype-changed", Level.WARNING, precision=Precision.VERY_HIGH)
def dtype_changed(change: Change, _: Thresholds) -> str | None:
    """A layer is stored in another number format than it was, or than `expect.dtype` names. Of a whole model at once.

    Why it matters: the model takes another amount of memory, and its weights may have lost bits.
    What to do: if no other format was asked for, look at the export's dtype option; else say so with `expect.dtype`.
    Example: export/: BF16 in the baseline, F32 in this model: 291 layers
    """
    before, after = change.dtypes
    a, b = change.sides
    return None if before == after else f"{before} in {a}, {after} in {b}"


@change_rule("JN401", "sigma-drift", Level.ERROR)
def sigma_drift(change: Change, limits: Thresholds) -> str | None:
    """The sigma of a layer moved by more than 2 %, by more than 0.005 and by more than six standard errors.

    Why it matters: the weights are spread otherwise than before; an export, a cast or a merge does not do that.
    What to do: if training went on for long, accept it into the baseline; else find the step that changed the weights.
    Example: model.layers.3.mlp.up_proj.weight: sigma 1.110 in the baseline, 1.210 in this model (25 standard errors)
    """
    moved = change.log_sigma
    if isinstance(moved, NotFitted) or change.same_weights or not moved.exceeds(limits.standard_errors):
        return None
    least = max(limits.sigma_abs, limits.sigma_rel * moved.before)
    return _told("sigma", moved, change.sides) if abs(moved.change) > least else None


@change_rule("JN402", "scale-drift", Level.ERROR)
def scale_drift(change: Change, limits: Thresholds) -> str | None:
    """The mu of a layer moved by more than 0.03, that is its scale by 3 %, and by more than six standard errors.

    Why it matters: a wrong scale of a quantiser or a merge multiplies the layer's output by as much.
    What to do: if training went on for long, accept it into the baseline; else look at the scales of the step between.
    Example: layers.3.mlp.up.weight: mu -3.762 in the baseline, -3.069 in this model: weights 2 times as large
    """
    moved = change.log_mean
    if isinstance(moved, NotFitted) or change.same_weights or not moved.exceeds(limits.standard_errors):
        return None
    if abs(moved.change) <= limits.mu_abs:
        return None
    return f"{_told('mu', moved, change.sides)}: weights {_factor(moved.change)} times as large"


@change_rule("JN403", "shape-drift", Level.WARNING)
def shape_drift(change: Change, limits: Thresholds) -> str | None:
    """The magnitudes of a layer are distributed in another shape: quantiles are about 0.1 sigma apart, beyond chance.

    Read from the Kolmogorov-Smirnov distance where both distributions are known, from the skewness where they are not.
    Nothing is said of layers whose sigma or scale drifted: there it is no news.

    Why it matters: weights were clipped, rounded to few values or replaced, while their scale stayed what it was.
    What to do: look at the quantiser's or the pruner's settings for this layer.
    Example: model.layers.3.mlp.up_proj.weight: quantiles of ln|w| are up to 0.31 sigma apart, beyond chance
    """
    if change.same_weights or sigma_drift.check(change, limits) or scale_drift.check(change, limits):
        return None
    if isinstance(change.quantile_gap, float):
        told = f"quantiles of ln|w| are up to {change.quantile_gap:.2f} sigma apart, beyond chance"
        return told if change.quantile_gap > limits.quantile_gap else None
    if not isinstance(change.ks, NotFitted):
        noise = chance_of_ks(*change.weights)
        told = f"KS distance {change.ks:.3f} between the distributions of ln|w|; chance reaches {noise:.3f}"
        return told if change.ks > max(limits.ks_gap, noise) else None
    moved = change.skewness
    if isinstance(moved, NotFitted) or not moved.exceeds(limits.standard_errors):
        return None
    return _told("skewness", moved, change.sides) if abs(moved.change) > limits.skewness_abs else None


@change_rule("JN404", "sparsity-drift", Level.ERROR)
def sparsity_drift(change: Change, limits: Thresholds) -> str | None:
    """The share of a layer's weights that are zero moved by more than one percentage point.

    Why it matters: small weights were flushed to zero by a narrow number format, or a pruning mask was lost.
    What to do: export in a format of wider range, or look for the mask.
    Example: model.layers.3.mlp.up_proj.weight: 0.0% zeros in the baseline, 25.0% in this model
    """
    if isinstance(change.zero_shares, NotFitted) or change.same_weights:
        return None
    (before, after), (a, b) = change.zero_shares, change.sides
    return f"{before:.1%} zeros in {a}, {after:.1%} in {b}" if abs(after - before) > limits.zero_share else None


UNCHANGED_TENSOR = Rule(
    code="JN406",
    name="unchanged-tensor",
    level=Level.NOTE,
    needs_baseline=True,
    is_optional=True,
    documentation="""\
A layer that training should have changed, as `expect.changed` says, has every byte of the baseline.

Why it matters: it was frozen, or the export took an old file.
What to do: look whether the optimiser had it; if it is meant to be frozen, take it out of `expect.changed`.
Example: model.layers.3.mlp.up_proj.weight: every byte is that of the baseline""",
)

WEIGHTS_CHANGED = Rule(
    code="JN407",
    name="weights-changed",
    level=Level.ERROR,
    needs_baseline=True,
    documentation="""\
A layer holds other weights than the baseline, and neither a cast nor another layout accounts for it. It is said of
layers of which no other error says what moved, and once where nearly all layers changed. Of layers that
`expect.changed` names it is said only that they hold another layer's weights, or their own in another order: training
does neither.

Why it matters: an export writes what was trained; where it does not, a shard is stale or a layer was overwritten.
What to do: export again; if training went on, say so with `expect.changed`, or accept it into the baseline.
Example: layers.3.mlp.up.weight: holds the weights that 'layers.2.mlp.up.weight' has in the baseline""",
)

COMMON_RESCALE = Rule(
    code="JN405",
    name="common-rescale",
    level=Level.ERROR,
    precision=Precision.HIGH,
    needs_baseline=True,
    documentation="""\
The mu of nine in ten matrices or more moved by the same amount, by more than 0.03. It stands for their JN402.

Why it matters: one wrong factor was applied to all of them, in a merge or in dequantising.
What to do: divide by the factor that the finding gives, or correct the step that applied it.
Example: export/: mu moved by +0.693 in 210 of 224 matrices: weights 2 times as large""",
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


def common_rescaling(changes: Sequence[Change], limits: Thresholds) -> Rescaling | None:
    """Find the factor that most matrices were multiplied by, if there is one."""
    known = [change for change in changes if change.is_matrix and (change.same_weights or _has_scale(change))]
    shifts = {change.name: _shift(change) for change in known}
    if len(shifts) < LEAST_RESCALED_LAYERS:
        return None
    common = median(shifts.values())
    alike = frozenset(name for name, shift in shifts.items() if abs(shift - common) <= SAME_RESCALING)
    if abs(common) <= limits.mu_abs or len(alike) < limits.common_share * len(shifts):
        return None
    return Rescaling(change=common, names=alike, matrices=len(shifts))


def chance_of_ks(weights_a: int, weights_b: int) -> float:
    """Give the KS distance that samples of one law reach by chance as seldom as six standard errors."""
    return SIX_SIGMA_KS * math.sqrt(1 / max(1, weights_a) + 1 / max(1, weights_b))


def _has_scale(change: Change) -> bool:
    return not isinstance(change.log_mean, NotFitted)


def _shift(change: Change) -> float:
    return 0.0 if change.same_weights or isinstance(change.log_mean, NotFitted) else change.log_mean.change


def _told(name: str, moved: Moved, sides: tuple[str, str]) -> str:
    a, b = sides
    told = f"{name} {moved.before:.3f} in {a}, {moved.before + moved.change:.3f} in {b}"
    if isinstance(moved.error, NotFitted) or not moved.error:
        return told
    return f"{told} ({abs(moved.change) / moved.error:,.0f} standard errors)"


def _factor(log_change: float) -> str:
    return f"{math.exp(min(log_change, math.log(1e300))):.3g}"
