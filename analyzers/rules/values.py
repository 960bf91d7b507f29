"""Rules about the values of the weights, that need no baseline to compare with."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.misreading import NARROW
from jaynes_audit.analyzers.rescaling import NOT_RESCALED
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.role import GAINS_AND_BUFFERS, LOOKED_UP
from jaynes_audit.analyzers.rules.blocks import place_of
from jaynes_audit.analyzers.rules.rule import (
    LayerRule,
    Level,
    ModelRule,
    Objection,
    Precision,
    layer_rule,
    model_rule,
)
from jaynes_audit.analyzers.rules.thresholds import Thresholds

ROUNDING = 1e-12  # of a sum of up to 1e9 equal squares, added in lanes, tiles and rows

ZERO_BY_DESIGN = frozenset({Role.BIAS, Role.LORA_B, Role.BUFFER})  # where training starts from, or never goes
# Matrices that vision transformers and diffusion models start from zero; untrained ones are healthy too.
ZERO_AT_FIRST = frozenset({Role.POSITION_EMBEDDING, Role.MODULATION})
# What branches end in: some networks start these from zero, all of a kind, so that a branch adds nothing at first
# (Goyal et al. 2017, arXiv:1706.02677; Zhang et al. 2023, arXiv:2302.05543). Nothing else of a branch learns from zero.
ENDS_OF_BRANCHES = frozenset(
    {
        *(Role.ATTENTION_O, Role.CROSS_ATTENTION_O, Role.MLP_DOWN, Role.EXPERT_DOWN, Role.SSM_OUT),
        *(Role.ATTENTION_GATE, Role.ROUTER, Role.CONV, Role.PROJECTION, Role.HEAD, Role.OTHER),
    }
)
LEAST_BEGUN = 2  # of a kind, all of them zero, for that to be a design rather than an accident
LEAST_JUDGED = 256  # weights; of fewer, a share says little
DEAD_BEYOND_CHANCE = 2.0  # times as many rows as would be zero if zeros fell where they may

FP8 = frozenset({Dtype.F8_E4M3, Dtype.F8_E5M2, Dtype.F8_E4M3FNUZ, Dtype.F8_E5M2FNUZ})
NARROW_RANGE = frozenset({Dtype.F16, *FP8})
SCALED_TO_LARGEST = 4  # weights a row that a quantiser may put at the greatest number: it maps the largest there
MASKS = frozenset({Role.BUFFER, Role.BIAS})  # may hold the greatest number for a reason
WITH_RANGE_OF_THEIR_OWN = frozenset({Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64, *FP8})

# Weights of a smooth law that were flushed below an edge are as many as those between the edge and twice it, which lie
# evenly there. Of integers times the scales of groups up to one matrix in seven looks so where it has 8,192 weights,
# and one in 100 where it has 65,536; of flushed ones, 95 in 100 where it has 4,096 and 2 % are gone.
LEAST_FLUSHED = 40  # weights; their share is LEAST_FLUSHED_SHARE or more
LEAST_FLUSHED_SHARE = 0.005
EVENNESS = 2.0  # how far each quarter may be from a quarter of those flushed

BF16_IN_F32 = 16  # low mantissa bits that are zero
F16_IN_F32 = 13
LARGEST_F16 = 65504.0
LEAST_VALUES = 64  # unequal magnitudes; fewer are found in filled tensors, whose bits say nothing

LEAST_WEIGHTS = (
    10_000  # a smaller matrix is taken for one of so many: few weights can have half of the squares by nature
)
# Of the vectors of trained networks, the most prominent weight that was measured is 30 times as large as the rest.
RUNAWAY_PROMINENCE = 1e4
RUNAWAY_MAGNITUDE = 100.0
OF_ONE_SIZE = 0.9  # of sigma lies between rows or columns; of independent bits 1 / sqrt(columns) of it does
BEYOND_WEIGHTS = 1e10
END_OF_RANGE_BY_FAULT = 1  # more weights with the greatest number of their format are a mask

NEARER_TO_ONE = 1.5  # than half of it is, of a factor below this

INTEGER = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the same part of every block shares: its name but for the number of the block, and that it is a matrix.

    `is_listed` of what is numbered itself: the numbers of a list may stand for unlike things.
    """

    name: str
    is_matrix: bool
    is_listed: bool


@layer_rule("JN101", "non-finite-weights", Level.ERROR)
def non_finite(layer: LayerAudit, _: Thresholds) -> str | None:
    """A tensor holds a NaN or an infinity.

    Why it matters: one NaN spreads to every activation that it touches.
    What to do: export again; if the training checkpoint has it too, go back to the step before the run diverged.
    Example: model.layers.3.mlp.up_proj.weight: 1 NaN and 2 infinite among 11,534,336 weights
    """
    counts = layer.counts
    if not counts.nan + counts.infinite:
        return None
    return f"{counts.nan:,} NaN and {counts.infinite:,} infinite among {counts.weights:,} weights"


@model_rule("JN102", "all-zero-tensor", Level.ERROR, precision=Precision.HIGH)
def all_zero(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str | Objection]]:
    """A weight matrix is zero throughout, or the gains of one norm although its siblings' are not.

    Biases, buffers and the second factor of LoRA may be zero. Other vectors, and tables that some networks start from
    zero, are no more than a note. Where all matrices of a kind that ends branches are zero, as the zero convolutions of
    a new ControlNet are, it is one warning for them, and a warning for what stands alone in such a model.

    Why it matters: the layer passes nothing on; a shard was not written, or a module not loaded.
    What to do: compare with the checkpoint that was exported, and export again.
    Example: model.layers.3.mlp.up_proj.weight: all 11,534,336 weights are zero
    """
    zeros: defaultdict[Kind, list[LayerAudit]] = defaultdict(list)
    for layer in audit:
        if layer.role not in ZERO_BY_DESIGN and 1 < layer.counts.weights == layer.counts.zero:
            zeros[_kind(layer)].append(layer)
    if zeros:
        yield from _zero_by_kind(zeros, Counter(map(_kind, audit)), is_whole=not audit.is_sample)


def _zero_by_kind(
    zeros: Mapping[Kind, Sequence[LayerAudit]], number: Mapping[Kind, int], *, is_whole: bool
) -> Iterator[tuple[str, str | Objection]]:
    is_untrained = any(
        LEAST_BEGUN <= number[kind] == len(layers)
        and (_is_begun_from_zero(layers[0]) or layers[0].role is Role.MODULATION)
        for kind, layers in zeros.items()
    )
    for kind, layers in zeros.items():
        others = number[kind] - len(layers)
        if is_untrained and not others and _is_begun_from_zero(layers[0]):
            more = f", and so in all {len(layers):,} of the kind" if layers[1:] else ""
            yield layers[0].name, _before_training(f"all {layers[0].counts.weights:,} weights are zero{more}")
            continue
        for layer in layers:
            said = f"all {layer.counts.weights:,} weights are zero"
            if layer.role in ZERO_AT_FIRST or not _is_matrix(layer):
                # Of a sample it is not known what the others of the kind are like.
                is_alone = is_whole and layer.role in {Role.NORM, *ZERO_AT_FIRST} and others > len(layers)
                told = f"{said}; of {others:,} others of the kind they are not"
                yield layer.name, told if is_alone else Objection(sentence=said, level=Level.NOTE)
            elif is_untrained and kind.is_listed and _is_begun_from_zero(layer):
                yield layer.name, _before_training(said)
            else:
                yield layer.name, said


def _before_training(said: str) -> Objection:
    return Objection(sentence=f"{said}, as before any training", level=Level.WARNING)


def _is_begun_from_zero(layer: LayerAudit) -> bool:
    return _is_matrix(layer) and layer.role in ENDS_OF_BRANCHES


def _kind(layer: LayerAudit) -> Kind:
    place = place_of(layer.name)
    name = f"{place.stack}.0." if place else layer.name
    return Kind(
        name=INTEGER.sub("#", name) + (place.member if place else ""),
        is_matrix=_is_matrix(layer),
        is_listed=place is not None and "." not in place.member,
    )


@layer_rule("JN103", "constant-tensor", Level.WARNING, precision=Precision.HIGH)
def constant(layer: LayerAudit, _: Thresholds) -> str | None:
    """All weights of a matrix have one and the same value, which is not zero.

    Why it matters: such a matrix has rank one; it was filled, not trained.
    What to do: find out which module was left at its placeholder when the model was built or merged.
    Example: model.layers.3.mlp.up_proj.weight: all 11,534,336 weights have the magnitude 0.02
    """
    counts = layer.counts
    of_one_sign = counts.negative in {0, counts.weights}
    if not _is_matrix(layer) or counts.distinct != 1 or counts.zero + counts.nan + counts.infinite or not of_one_sign:
        return None
    # Unlike float32 can share a 16-bit code, and then they have another mean square than their greatest.
    if not math.isclose(layer.rms, layer.largest, rel_tol=ROUNDING):
        return None
    return f"all {counts.weights:,} weights have the magnitude {layer.largest:g}"


@layer_rule("JN104", "dead-rows", Level.WARNING, precision=Precision.MEDIUM)
def dead_rows(layer: LayerAudit, limits: Thresholds) -> str | None:
    """More than 1 % of a matrix's rows or columns are zero; of an embedding or a head, 20 % of its entries may be.

    Rows that would be zero by chance, because most of the matrix is, do not count, and matrices that have no negative
    weight are not looked at: banks of filters are zero outside of their windows.

    Why it matters: these neurons or heads do nothing; a block of the matrix was lost or pruned.
    What to do: if it was pruned on purpose, ignore it with that reason; else export again.
    Example: model.layers.3.self_attn.q_proj.weight: 128 of 4,096 rows are zero
    """
    scales, counts = layer.scales, layer.counts
    # Rows of NaN have no sum of squares either, and of them JN101 speaks.
    if isinstance(scales, NotFitted) or counts.nan + counts.infinite or not _may_be_judged_by_zeros(layer):
        return None
    columns = counts.weights // layer.rows  # of complex weights two each
    sides = (("rows", scales.zero_rows, layer.rows), ("columns", scales.zero_columns, columns))
    for words, zero, number in sides:
        length = counts.weights // number
        elsewhere = max(0, counts.zero - zero * length) / max(1, counts.weights - zero * length)
        limit = limits.dead_embedding_rows if _are_entries(layer, words, number) else limits.dead_rows
        if zero > number * max(limit, DEAD_BEYOND_CHANCE * elsewhere**length):
            return f"{zero:,} of {number:,} {words} are zero"
    return None


def _are_entries(layer: LayerAudit, words: str, number: int) -> bool:
    """Whether so many rows or columns stand for the words of a vocabulary, or the places of a text or an image."""
    if layer.role in LOOKED_UP:
        return words == "rows"
    return layer.role is Role.HEAD and number == layer.fan_out


@layer_rule("JN105", "export-overflow", Level.ERROR, precision=Precision.HIGH)
def overflow(layer: LayerAudit, limits: Thresholds) -> str | None:
    """Weights have the greatest number of their format, plus or minus: 65504 in fp16, 448 or 57344 in fp8.

    In fp8 one in 10,000 weights may, and some of every row, for scales are chosen so.

    Why it matters: what was larger was cut off there; the real weights are not in the file.
    What to do: export in bf16 or fp32, or choose a larger scale.
    Example: model.layers.3.mlp.down_proj.weight: 17 of 45,088,768 weights are at the end of F16's range, 65504
    """
    saturated, weights = layer.counts.max_finite, layer.counts.weights
    if not saturated or layer.role in MASKS or layer.dtype not in NARROW_RANGE:
        return None
    by_design = max(limits.saturated_share, SCALED_TO_LARGEST / layer.columns) if layer.dtype in FP8 else 0.0
    if saturated <= by_design * weights:
        return None
    return f"{saturated:,} of {weights:,} weights are at the end of {layer.dtype}'s range, {layer.largest:g}"


@layer_rule("JN106", "export-underflow", Level.WARNING, precision=Precision.MEDIUM)
def underflow(layer: LayerAudit, limits: Thresholds) -> str | None:
    """More than 10 % of a matrix's weights are zero or subnormal, whole rows of zeros apart.

    Or more than 0.5 % are zero and none is near zero: all below some magnitude are gone, and above it are as many as
    there should be. With a baseline, more than 5 % are zero or subnormal where it has a tenth of that or less. Without
    one, matrices that have no negative weight are not looked at: banks of filters are zero outside of their windows.

    Why it matters: small weights were flushed to zero, or keep a few bits only.
    What to do: if the model was pruned, ignore it with that reason; else export in bf16 or fp32, or scale the weights.
    Example: model.embed_tokens.weight: 46.1% of the weights are zero or subnormal in F16
    """
    counts = layer.counts
    if layer.dtype not in WITH_RANGE_OF_THEIR_OWN or not _may_be_judged_by_zeros(layer):
        return None
    dead = 0 if isinstance(layer.scales, NotFitted) else layer.scales.zero_rows * layer.columns
    zero = counts.zero - dead
    share = (zero + counts.subnormal) / counts.weights
    if share > limits.flushed_share:
        return f"{share:.1%} of the weights are zero or subnormal in {layer.dtype}"
    if zero >= max(LEAST_FLUSHED, LEAST_FLUSHED_SHARE * counts.weights) and _goes_on_from_zero(layer, zero):
        return f"{share:.1%} of the weights are zero, and no other is near zero: small weights were flushed or pruned"
    return None


def _goes_on_from_zero(layer: LayerAudit, zero: int) -> bool:
    quarters = layer.beside_zero
    return bool(quarters) and all(zero / EVENNESS <= len(quarters) * each <= zero * EVENNESS for each in quarters)


@model_rule("JN107", "padded-precision", Level.NOTE, precision=Precision.HIGH)
def padded(audit: Audit, thresholds_of: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """Most weights are stored in float32, and their low bits are zero: they are bfloat16 or float16 values.

    Why it matters: the file takes twice the space for the same model, or the weights lost bits on the way.
    What to do: export in the format that the weights have, or find the step that rounded them.
    Example: export/: 291 of 291 matrices hold BF16 values in F32
    """
    matrices = [each for each in audit if _is_matrix(each) and not each.tied_to]
    narrow = [(each, fits) for each in matrices if (fits := _narrower(each))]
    weights = sum(each.counts.weights for each, _ in narrow)
    if weights > thresholds_of(audit.target).padded_share * sum(each.counts.weights for each in matrices):
        formats = " or ".join(sorted({fits for _, fits in narrow}))
        yield audit.target, f"{len(narrow):,} of {len(matrices):,} matrices hold {formats} values in F32"


def _narrower(layer: LayerAudit) -> str:
    if layer.dtype != Dtype.F32 or layer.counts.distinct < LEAST_VALUES:
        return ""
    if layer.unused_bits >= BF16_IN_F32:
        return Dtype.BF16
    return Dtype.F16 if layer.unused_bits >= F16_IN_F32 and layer.largest <= LARGEST_F16 else ""


@layer_rule("JN111", "runaway-weight", Level.ERROR)
def runaway(layer: LayerAudit, limits: Thresholds) -> str | None:
    """One weight of a matrix holds more than half of its sum of squares, or a weight is beyond all that training gives.

    Of gains and biases: one is above 100 and 10,000 times as large as the rest. Of all: one is above 1e10.

    Why it matters: a bit was flipped in its exponent, or bytes were overwritten; the layer's output is this one weight.
    What to do: export or fetch the file again, and compare its hash with the source's.
    Example: model.layers.3.mlp.up_proj.weight: the largest weight, 6.8e+36, is 3.1e+38 times the rms of all others
    """
    counts = layer.counts
    at_end = 0 if layer.dtype in NARROW_RANGE else END_OF_RANGE_BY_FAULT  # of narrow formats JN105 tells of them
    if layer.role is Role.BUFFER or counts.max_finite > at_end:
        return None
    square = layer.prominence**2
    if _is_matrix(layer) and layer.role not in GAINS_AND_BUFFERS:
        others = max(counts.weights, LEAST_WEIGHTS) - 1
        is_runaway = square > limits.runaway_share * (square + others)
    else:
        named = layer.role in {Role.NORM, Role.BIAS}
        is_runaway = named and layer.prominence > RUNAWAY_PROMINENCE and layer.largest > RUNAWAY_MAGNITUDE
    if not is_runaway and layer.largest <= BEYOND_WEIGHTS:
        return None
    return f"the largest weight, {layer.largest:.2g}, is {layer.prominence:.2g} times the rms of all others"


@layer_rule("JN112", "misread-format", Level.ERROR)
def misread_format(layer: LayerAudit, _: Thresholds) -> str | None:
    """The bits of a matrix are no weights in the format that the file declares: of another, or in another byte order.

    Said only where ln|w| has a spread that no weights have, and either another reading of the same bits gives one that
    weights have, or the bits are noise.

    Why it matters: every weight of the layer is wrong, and nothing else in the file shows it.
    What to do: look where the export takes raw bytes: its dtype, and the byte order of the machine it ran on.
    Example: model.layers.3.mlp.up_proj.weight: read as F16, sigma is 0.14 and |w| at most 2.1; the bits look like BF16
    """
    if not layer.misread or layer.codes or not _is_matrix(layer) or layer.role in GAINS_AND_BUFFERS:
        return None
    if _is_of_one_size_by_rows(layer):
        return None
    sigma = "" if isinstance(layer.fit, NotFitted) else f"sigma is {layer.fit.moments.log_sigma:.2g} and "
    return f"read as {layer.dtype}, {sigma}|w| is at most {layer.largest:.2g}; the bits look like {layer.misread}"


@layer_rule("JN114", "rounded-twice", Level.WARNING, precision=Precision.HIGH)
def rounded_twice(layer: LayerAudit, _: Thresholds) -> str | None:
    """A matrix in bf16 or fp16 was multiplied by a factor after it had been rounded, and was rounded again.

    Which 16-bit numbers do not occur, and which occur twice as often as their neighbours, tells the factor. Seen from
    4,096 weights on in bf16 and from 16,384 on in fp16, if the factor is not within some 5 % of a power of two.

    Why it matters: a scale was applied to the exported weights, once too often or to one layer alone; bits were lost.
    What to do: look which step of the export or merge multiplies weights; if it should, let it do so before rounding.
    Example: lm_head.weight: its BF16 weights were multiplied by 1.05, or a power of two times that, and rounded again
    """
    if layer.rescaled_by == NOT_RESCALED or not _is_matrix(layer):
        return None
    factor = layer.rescaled_by if layer.rescaled_by < NEARER_TO_ONE else layer.rescaled_by / 2
    return f"its {layer.dtype} weights were multiplied by {factor:.3g}, or a power of two times that, and rounded again"


def _may_be_judged_by_zeros(layer: LayerAudit) -> bool:
    counts = layer.counts
    # Filters that nobody trains, as those of a bank or of an upsampling, are of one sign, and zero outside of a window.
    is_filter = counts.negative in {0, counts.weights}
    may_hold_zeros = layer.role in ZERO_BY_DESIGN | GAINS_AND_BUFFERS or not layer.largest or is_filter
    return _is_matrix(layer) and counts.weights >= LEAST_JUDGED and not may_hold_zeros


def _is_of_one_size_by_rows(layer: LayerAudit) -> bool:
    """Whether magnitudes differ from row to row or from column to column only, as binary weights with scales do."""
    scales, fit = layer.scales, layer.fit
    if isinstance(scales, NotFitted) or isinstance(fit, NotFitted):
        return False
    sigma = fit.moments.log_sigma
    return sigma < NARROW and max(scales.row_log_sd, scales.column_log_sd) > OF_ONE_SIZE * sigma


def _is_matrix(layer: LayerAudit) -> bool:
    return layer.rows > 1 and layer.columns > 1


VALUE_RULES: tuple[LayerRule | ModelRule, ...] = (
    non_finite,
    all_zero,
    constant,
    dead_rows,
    overflow,
    underflow,
    padded,
    runaway,
    misread_format,
    rounded_twice,
)
