"""Rules about weights that look as an initialiser leaves them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.layer_audit import LayerAudit, Scales
from jaynes_audit.analyzers.roles.role import GAINS_AND_BUFFERS
from jaynes_audit.analyzers.rules.blocks import Blocks, stacks_of
from jaynes_audit.analyzers.rules.rule import Level, Objection, Precision, model_rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds

LEAST_SIDE = 64  # rows and columns: the sizes of fewer do not tell training from chance
LEAST_DECLARED_SIDE = 32  # the same, of a matrix whose rms is the one that config.json declares for the start
RMS_FLOOR = 0.005  # what rounding to a short format may move the rms by, as a share of it
STANDARD_ERRORS = 4.0
SCALE_ERRORS = 3.0
KS_FLOOR = 0.002  # what rounding to bf16 moves the distance by
KS_ERROR = 0.4  # standard deviation of it times the root of the number of weights, at most (Lilliefors 1967)
LEAST_SIBLINGS = 3  # that were trained, for one that was not
MOST_NAMED = 3
LEAST_AT_START = 2  # matrices of a block without a declared rms; one alone may have come to look so
LEAST_SHARE = 0.5  # and the share of the block's matrices that they must be
LEAST_STORED = 0.98  # share of the weights that are not zero: no initialiser leaves zeros among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialiser:
    """A law that weights are drawn from: its sigma of ln|w|, its KS distance from the fitted lognormal, its kurtosis.

    `error` is the relative standard error of sigma, times the root of the number of weights. All are closed forms.
    """

    name: str
    log_sigma: float
    error: float
    ks_distance: float
    kurtosis: float


INITIALISERS = (
    Initialiser(name="normal", log_sigma=1.11072, error=1.225, ks_distance=0.0964, kurtosis=3.0),
    Initialiser(name="truncated normal", log_sigma=1.0866, error=1.262, ks_distance=0.1036, kurtosis=2.37),
    Initialiser(name="uniform", log_sigma=1.0, error=1.414, ks_distance=0.1587, kurtosis=1.8),
)


def has_declared_rms(layer: LayerAudit) -> bool:
    """Whether a matrix is as large as config.json says that it is before training, but for chance."""
    if not layer.declared_sd:
        return False
    chance = STANDARD_ERRORS / math.sqrt(2 * max(1, layer.counts.weights))
    return abs(layer.rms / layer.declared_sd - 1) <= max(RMS_FLOOR, chance)


def initialiser_of(layer: LayerAudit) -> Initialiser | None:
    """Name the law that a matrix has as if freshly drawn; None for one that shows training, or cannot be told.

    A normal law and one that is cut at two standard deviations are told apart in larger matrices only.

    Sigma and KS distance are those of the law, and rows and columns are of one size but for chance. The last is what
    training undoes first.
    """
    fit, scales = layer.fit, layer.scales
    least_side = LEAST_DECLARED_SIDE if has_declared_rms(layer) else LEAST_SIDE
    if min(layer.rows, layer.columns) < least_side or layer.codes or layer.role in GAINS_AND_BUFFERS:
        return None
    if not isinstance(fit, LognormalFit) or not isinstance(scales, Scales):
        return None
    weights = fit.moments.weights
    if weights < LEAST_STORED * layer.counts.weights:
        return None
    for law in INITIALISERS:
        of_sigma = abs(fit.moments.log_sigma / law.log_sigma - 1) * math.sqrt(weights) / law.error
        of_ks = abs(fit.ks_distance - law.ks_distance)
        if of_sigma <= STANDARD_ERRORS and of_ks <= max(KS_FLOOR, STANDARD_ERRORS * KS_ERROR / math.sqrt(weights)):
            sizes = (scales.row_log_sd, layer.columns, layer.rows), (scales.column_log_sd, layer.rows, layer.columns)
            if all(_excess(*each, law) <= SCALE_ERRORS for each in sizes):
                return law
    return None


def _excess(log_sd: float, length: int, number: int, law: Initialiser) -> float:
    """How much the sizes of so many rows of this length differ beyond chance, in standard errors.

    The variance of ln(rms) of independent weights is (kurtosis - 1) / 4 length, and that of its estimate 2 / number.
    """
    expected = (law.kurtosis - 1) / (4 * length)
    return (log_sd**2 / expected - 1) * math.sqrt(number / 2)


@model_rule("JN110", "untouched-initialisation", Level.NOTE, precision=Precision.MEDIUM, is_preview=True)
def untouched_initialisation(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """Matrices have the law of an initialiser, and rows and columns that differ in size no more than by chance.

    One note for the model, about matrices of at least 64 rows and columns.

    Why it matters: such a matrix was not trained, or so little that it cannot be told.
    What to do: find out whether the training step had it; a pooler or a head that nobody uses is often left so.
    Example: pooler.dense.weight: has the law of a normal initialiser, of 39 matrices no other has
    """
    judged = [layer for layer in audit if min(layer.rows, layer.columns) >= LEAST_SIDE]
    drawn = [(layer.name, law) for layer in judged if (law := initialiser_of(layer))]
    if drawn:
        (name, law), names = drawn[0], [name for name, _ in drawn]
        more = f"so have {listed(names[1:], most=MOST_NAMED)}" if names[1:] else "no other has"
        yield name, f"has the law of a {law.name} initialiser; of {len(judged):,} matrices {more}"


@model_rule("JN113", "block-at-initialisation", Level.WARNING, precision=Precision.HIGH)
def left_at_initialisation(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str | Objection]]:
    """A block, or a matrix of it, is as an initialiser leaves it, while those of the other blocks were trained.

    The matrix has the exact law of an initialiser and rows and columns of one size; at least three matrices of its name
    in other blocks do not, and they are the most. Only a note where neither its rms is the one that config.json
    declares for the start, nor half of the block is like it. A model that was not trained at all has no such block.

    Why it matters: the weights of this block were not loaded or not saved; the model runs, and worse.
    What to do: compare with the checkpoint before, and look for warnings about newly initialised weights.
    Example: layers.3.mlp.up_proj.weight: has the law of a normal initialiser, unlike most of the 31 other
    blocks of 'layers'
    """
    for stack, blocks in stacks_of((layer.name, layer) for layer in audit if not layer.tied_to).items():
        drawn = _drawn(blocks)
        for number, block in blocks.items():
            found = [
                (layer, drawn[member][number]) for member, layer in block.items() if number in drawn.get(member, {})
            ]
            if found:
                judged = sum(min(layer.rows, layer.columns) >= LEAST_SIDE for layer in block.values())
                is_plain = len(found) >= max(LEAST_AT_START, LEAST_SHARE * judged)
                level = Level.WARNING if is_plain or any(has_declared_rms(layer) for layer, _ in found) else Level.NOTE
                names = [layer.name for layer, _ in found]
                more = f"; so have {listed(names[1:], most=MOST_NAMED)}" if names[1:] else ""
                others = f"the {len(blocks) - 1:,} other blocks of {quoted(stack)}"
                told = f"has the law of a {found[0][1].name} initialiser, unlike most of {others}{more}"
                yield names[0], Objection(sentence=told, level=level)


def _drawn(blocks: Blocks[LayerAudit]) -> Mapping[str, Mapping[int, Initialiser]]:
    """Members that are as an initialiser leaves them in some blocks, and trained in most: in which, by which."""
    of_member: defaultdict[str, list[tuple[int, LayerAudit]]] = defaultdict(list)
    for number, block in blocks.items():
        for member, layer in block.items():
            if min(layer.rows, layer.columns) >= LEAST_DECLARED_SIDE:
                of_member[member].append((number, layer))
    return {member: _odd(numbered) for member, numbered in of_member.items() if len(numbered) > LEAST_SIBLINGS}


def _odd(numbered: Sequence[tuple[int, LayerAudit]]) -> Mapping[int, Initialiser]:
    found = {number: law for number, layer in numbered if (law := initialiser_of(layer))}
    trained = len(numbered) - len(found)
    return found if trained >= max(LEAST_SIBLINGS, len(numbered) / 2) else {}
