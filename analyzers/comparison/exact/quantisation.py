"""Two layers -> Quantisation: how near one is to the other, quantised, and how near the same codes could have come."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from itertools import product
from math import gcd

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.decoding import Read
from jaynes_audit.analyzers.checkpoints.gguf_blocks import QuantisedBlocks
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.decoders import Dequantised
from jaynes_audit.analyzers.checkpoints.quantised.decoder import NO_GROUP, Quantised, numbers_of
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Block
from jaynes_audit.analyzers.checkpoints.tflite_model.quantised import Quantised as QuantisedByTflite
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, Stored, chunks
from jaynes_audit.analyzers.comparison.exact.outcome import Difference, Quantisation, Side
from jaynes_audit.analyzers.comparison.exact.reading import Pair
from jaynes_audit.analyzers.comparison.exact.signatures import rows_of
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import BITS, Dtype, values

Floats = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SAMPLED_WEIGHTS = 1 << 18  # whole groups in rows evenly spread: the error of some thousand groups is known to 1 %
LEAST_ROWS = 16  # read of a group that is taller than the sample
LARGEST_BAND = 1 << 22  # weights of rows that are read at once because runs end in step with rows only then
FITTED_AT_ONCE = 1 << 16  # weights, so that they stay in a cache for all scales that are tried
FALL = 0.3  # the least scale tried, as a share of the one that keeps the largest weight
STEPS = 32  # of scales tried, evenly on a logarithmic axis
SHARES_OF_SIDES = (
    1,
    0.95,
    0.9,
    0.85,
    0.8,
    0.7,
    0.6,
    0.45,
)  # of the least and of the greatest weight, where offsets move
ROUNDS = 4  # of least squares, from the best scale tried
BYTE_BITS = 8  # wider codes of TensorFlow Lite are biases
FLOAT32_BYTES = 4


class Offset(Enum):
    """What is added to the codes of a group once they are scaled."""

    NONE = auto()
    WHOLE = auto()  # so many codes, a whole number: then zero is kept as it is
    FREE = auto()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Codes:
    """What a code stands for: one of the ascending `levels` times the scale of its group, and an offset.

    Scales are positive, but for those that may have `either_sign`. `powers_of_two` says that they are such numbers.
    """

    levels: Floats
    offset: Offset = Offset.NONE
    powers_of_two: bool = False
    either_sign: bool = False

    def nearest(self, scaled: Floats) -> Floats:
        """The level next to each number."""
        low, high = self.levels[0], self.levels[-1]
        if high - low == self.levels.size - 1:  # whole numbers
            level: Floats = np.clip(np.rint(scaled - low), 0, high - low) + low
            return level
        nearest: Floats = self.levels[np.searchsorted((self.levels[1:] + self.levels[:-1]) / 2, scaled)]
        return nearest


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Groups:
    """Which weights share a scale: tiles of so many rows and columns, or runs of so many weights in C order.

    `columns` is 0 for runs, of `rows` weights each. `order` names the columns in the order in which tiles take them.
    """

    rows: int
    columns: int
    order: Indices | None = None

    def height(self, layer: Layer) -> int:
        """How many rows of a layer hold whole groups."""
        return min(self.rows if self.columns else self.rows // gcd(self.rows, layer.extent.columns), layer.extent.rows)

    def cut(self, weights: Floats) -> Floats:
        """Cut rows that hold whole groups, as shape (groups, weights of one). What is left of a row is left out."""
        rows, width = weights.shape
        if not self.columns:
            run = min(self.rows, weights.size)
            return weights.reshape(-1)[: weights.size - weights.size % run].reshape(-1, run)
        if self.order is not None:
            weights = weights[:, self.order]
        across = min(self.columns, width)
        tiles = weights[:, : width - width % across].reshape(rows, -1, across)
        return tiles.transpose(1, 0, 2).reshape(-1, rows * across)


def quantisation_of(pair: Pair, difference: Difference, sources: Sources) -> Quantisation | None:
    """Tell how near the quantised one of two layers is to the other; None unless just one of them is quantised.

    `difference` is that of B and A. What the best scales would reach is searched on a sample of whole groups, from rows
    evenly spread, some 260,000 weights: 32 scales for each group, or 64 pairs of ends where there are offsets, from
    what keeps its largest weight down, and then least squares. Where the quantiser did better still its own error
    stands, so the ratio, which is that of the sample, is at least 1. Scales count as free, which flatters the best of
    schemes that store them in few bits: K-quants, NVFP4 and nested scales. Groups taller than the sample are fitted to
    some of their rows. Where the pair is turned, all of the other layer is read for some of its columns.

    Raises what `Readable.read` raises.
    """
    a, b = pair.a, pair.b
    schemes = [layer.tensor.decoder.scheme if layer.tensor.decoder else None for layer in (a, b)]
    relative_error = difference.relative_error
    if (schemes[0] is None) == (schemes[1] is None) or isinstance(relative_error, NotFitted):
        return None
    quantised, reference, side = (b, a, Side.B) if schemes[0] is None else (a, b, Side.A)
    scheme = quantised.tensor.stored_as
    sampled = _sampled(quantised, reference, sources, turned=pair.turned)
    if isinstance(sampled, NotFitted):
        return Quantisation(
            quantised=side, scheme=scheme, relative_error=relative_error, best_error=sampled, ratio=sampled
        )
    if side is Side.A:  # the difference was divided by the norm of the quantised one
        relative_error *= sampled.norm_ratio
    return Quantisation(
        quantised=side,
        scheme=scheme,
        relative_error=relative_error,
        best_error=relative_error / sampled.ratio if not isinstance(sampled.ratio, NotFitted) else sampled.ratio,
        ratio=sampled.ratio,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """What a sample tells: the norm of the quantised weights over that of the others, and error over best error."""

    norm_ratio: float
    ratio: float | NotFitted


def _sampled(quantised: Layer, reference: Layer, sources: Sources, *, turned: bool) -> _Sample | NotFitted:
    extent, other = quantised.extent, reference.extent
    rows, columns = (other.columns, other.rows) if turned else (other.rows, other.columns)
    if (extent.rows, extent.columns) != (rows, columns) or other.row_bits % 8:
        return NotFitted("the rows of one are not those of the other")
    if extent.columns > SAMPLED_WEIGHTS:
        return NotFitted("its rows are too long for a sample")
    known = _scheme_of(quantised, sources)
    groups = Groups(rows=1, columns=extent.columns) if isinstance(known, NotFitted) else known[1]
    bands = list(_bands(groups, quantised))
    read = _columns if turned else _rows
    made, true = (
        np.concatenate([groups.cut(band) for band in bands_of])
        for bands_of in (_rows(quantised, sources, bands), read(reference, sources, bands))
    )
    finite = np.isfinite(made).all(axis=1) & np.isfinite(true).all(axis=1)
    made, true = made[finite], true[finite]
    if not true.any():
        return NotFitted("the sample holds nothing but zeros")
    norm_ratio = math.sqrt(_squares(made).sum() / _squares(true).sum())
    if isinstance(known, NotFitted):
        return _Sample(norm_ratio=norm_ratio, ratio=known)
    actual = _squares(true - made)
    best = np.minimum(actual, _best(true, known[0]))
    if not best.sum():
        return _Sample(norm_ratio=norm_ratio, ratio=NotFitted("the codes can hold the weights of the sample exactly"))
    return _Sample(norm_ratio=norm_ratio, ratio=math.sqrt(actual.sum() / best.sum()))


def _squares(groups: Floats) -> Sums:
    """Sum of squares of each group."""
    sums: Sums = np.einsum("ij,ij->i", groups, groups, dtype=np.float64)
    return sums


# ---- the sample


def _bands(groups: Groups, layer: Layer) -> Iterator[range]:
    """The rows of each band of the sample: all of its rows, or some where it is too tall."""
    height, budget = groups.height(layer), max(1, SAMPLED_WEIGHTS // layer.extent.columns)
    step = max(1, groups.columns and height // max(LEAST_ROWS, budget))
    taken = -(-height // step)
    bands = layer.extent.rows // height
    chosen = min(bands, max(1, budget // taken))
    for band in range(chosen):
        top = band * bands // chosen * height
        yield range(top, top + height, step)


def _rows(layer: Layer, sources: Sources, bands: Sequence[range]) -> Iterator[Floats]:
    """Read the rows of each band."""
    source = sources.of(layer.tensor)
    for band in bands:
        stretches = [(row, row + 1) for row in band] if band.step > 1 else [(band.start, band.stop)]
        rows = [_numbers(rows_of(layer, source, top, bottom), layer) for top, bottom in stretches]
        yield np.concatenate(rows)


def _columns(layer: Layer, sources: Sources, bands: Sequence[range]) -> list[Floats]:
    """Read the columns of each band, each as a row."""
    taken = np.concatenate([np.arange(band.start, band.stop, band.step) for band in bands])
    read = chunks(sources.of(layer.tensor), layer, first_row=0, stop_row=layer.extent.rows)
    columns = np.concatenate([_numbers(chunk[:, taken], layer) for chunk in read])
    return np.split(columns.T, np.cumsum([len(band) for band in bands])[:-1])


def _numbers(stored: Stored, layer: Layer) -> Floats:
    return values(stored, layer.extent.dtype).astype(np.float32)


# ---- what schemes are made of


_NAMED_LEVELS = {
    # `kvalues_iq4nl` of llama.cpp's ggml-common.h.
    "IQ4": (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113),
    "ternary": (-1, 0, 1),
    "sign": (-1, 1),
}


def _integers(bits: int, *, below_zero: bool) -> Floats:
    first = -(1 << bits - 1) if below_zero else 0
    return np.arange(first, first + (1 << bits), dtype=np.float32)


def _signed(bits: int) -> Codes:
    return Codes(levels=_integers(bits, below_zero=True), either_sign=True)


def _with_least(bits: int) -> Codes:
    return Codes(levels=_integers(bits, below_zero=False), offset=Offset.FREE)


def _named(name: str) -> Codes:
    return Codes(levels=np.array(_NAMED_LEVELS[name], np.float32), either_sign=True)


def _floats(dtype: Dtype, *, powers_of_two: bool) -> Codes:
    numbers = numbers_of(dtype)
    return Codes(levels=np.unique(numbers[np.isfinite(numbers)]), powers_of_two=powers_of_two)


_GGUF: dict[str, tuple[int, Callable[[], Codes]]] = {
    "Q4_0": (32, partial(_signed, 4)),
    "Q5_0": (32, partial(_signed, 5)),
    "Q8_0": (32, partial(_signed, 8)),
    "Q4_1": (32, partial(_with_least, 4)),
    "Q5_1": (32, partial(_with_least, 5)),
    "Q2_K": (16, partial(_with_least, 2)),
    "Q3_K": (16, partial(_signed, 3)),
    "Q4_K": (32, partial(_with_least, 4)),
    "Q5_K": (32, partial(_with_least, 5)),
    "Q6_K": (16, partial(_signed, 6)),
    "IQ4_NL": (32, partial(_named, "IQ4")),
    "IQ4_XS": (32, partial(_named, "IQ4")),
    "TQ1_0": (256, partial(_named, "ternary")),
    "TQ2_0": (256, partial(_named, "ternary")),
    "Q1_0": (128, partial(_named, "sign")),
    "MXFP4": (32, partial(_floats, Dtype.F4, powers_of_two=True)),
    "NVFP4": (16, partial(_floats, Dtype.F4, powers_of_two=False)),
}
"""The weights that share a scale, and what codes mean, by llama.cpp's ggml-common.h. In the others codes stand for
several weights at once."""


def _scheme_of(layer: Layer, sources: Sources) -> tuple[Codes, Groups] | NotFitted:
    """What the codes of a quantised layer stand for, and which of them share a scale."""
    if len(layer.part.columns) != layer.layout.columns:
        return NotFitted("its groups run across parts of the tensor")
    match layer.tensor.decoder:
        case QuantisedBlocks(type=kind) if kind.name in _GGUF:
            run, codes = _GGUF[kind.name]
            known: tuple[Codes, Groups] | NotFitted = (codes(), Groups(rows=run, columns=0))
        case Quantised() as decoder:
            known = _quantised(decoder, layer, sources)
        case Dequantised(codes=stored, scales=scales, axis=axis):
            codes_of = Codes(
                levels=_integers(BITS[stored.dtype], below_zero=stored.dtype is not Dtype.U8), offset=Offset.WHOLE
            )
            known = _along(codes_of, layer, None if isinstance(scales, float) else axis)
        case QuantisedByTflite(codes=stored, scales=scales, axis=axis) if stored.bits <= BYTE_BITS:
            codes_of = Codes(levels=_integers(stored.bits, below_zero=stored.signed), offset=Offset.WHOLE)
            known = _along(codes_of, layer, None if len(scales) <= FLOAT32_BYTES else axis)
        case _:
            known = NotFitted("its codes stand for several weights at once")
    if isinstance(known, NotFitted):
        return known
    height, is_run = known[1].height(layer), not known[1].columns
    if is_run and height * layer.extent.columns > LARGEST_BAND:
        return NotFitted("its groups begin anywhere in its rows")
    rows = layer.part.rows
    in_one_run = rows.count == rows.period or rows.stop - rows.start <= rows.period
    if height > 1 and not (in_one_run and (rows.start + rows.first) % height == 0):
        return NotFitted("its groups run across parts of the tensor")
    return known


def _along(codes: Codes, layer: Layer, axis: int | None) -> tuple[Codes, Groups] | NotFitted:
    """One scale for all weights, or one for each index of an axis."""
    shape = layer.tensor.shape
    rows, columns = layer.layout.rows, layer.layout.columns
    if axis is None:
        return codes, Groups(rows=rows, columns=columns)
    if axis == 0 and shape[0] == rows:
        return codes, Groups(rows=1, columns=columns)
    if axis == len(shape) - 1 and shape[-1] == columns:
        return codes, Groups(rows=rows, columns=1)
    return NotFitted("its scales belong to neither rows nor columns")


def _quantised(decoder: Quantised, layer: Layer, sources: Sources) -> tuple[Codes, Groups] | NotFitted:
    """What safetensors' quantisers say of themselves."""

    def read(file: Place, start: int, end: int) -> memoryview:
        return sources.of_file(file).read(start, end)

    codes = _codes_of(decoder, read)
    if codes.levels.size < 2:  # noqa: PLR2004 - two, to choose from
        return NotFitted("its codes all stand for one number")
    groups = _groups_of(decoder, layer, read)
    return groups if isinstance(groups, NotFitted) else (codes, groups)


def _codes_of(decoder: Quantised, read: Read) -> Codes:
    bits, offset = decoder.scheme.code_bits, Offset.WHOLE if decoder.zeros else Offset.NONE
    match decoder.numbers:
        case Dtype.U8 | Dtype.I8 as numbers:
            levels = _integers(bits, below_zero=numbers is Dtype.I8) - np.float32(decoder.zero)
            return Codes(levels=levels, offset=offset)
        case Dtype() as numbers:
            powers_of_two = decoder.scheme.label.startswith("MX")
            return replace(_floats(numbers, powers_of_two=powers_of_two), offset=offset)
        case table:
            levels = table.taken(read, Block(0, 0, 1, 0, 1 << bits)).ravel().astype(np.float32)
            return Codes(levels=np.unique(levels[np.isfinite(levels)]), offset=offset)


def _groups_of(decoder: Quantised, layer: Layer, read: Read) -> Groups | NotFitted:
    scales, zeros = decoder.scales, decoder.zeros
    tile = (scales.block_rows, scales.block_columns)
    if zeros and (zeros.block_rows, zeros.block_columns) != tile:
        return NotFitted("its zeros have other groups than its scales")
    if decoder.columns != layer.extent.columns:
        are_runs = tile[0] == 1 and (decoder.rows == 1 or decoder.columns % tile[1] == 0) and not decoder.groups
        return Groups(rows=tile[1], columns=0) if are_runs else NotFitted("its groups do not lie in rows of the layer")
    if decoder.rows % tile[0] and layer.layout.rows > decoder.rows:
        return NotFitted("its groups end with each matrix of a stack")
    order = None
    if decoder.groups:
        group_of = decoder.groups.taken(read, Block(0, 0, 1, 0, decoder.columns)).ravel().astype(np.int64)
        if (group_of != NO_GROUP).any():
            _, sizes = np.unique(group_of, return_counts=True)
            if (sizes != tile[1]).any():
                return NotFitted("its groups are not all of one size")
            order = np.argsort(group_of, kind="stable")
    return Groups(rows=tile[0], columns=tile[1], order=order)


# ---- the best that codes can do


def _best(groups: Floats, codes: Codes) -> Sums:
    """The least sum of squared errors that was found for each group."""
    at_once = max(1, FITTED_AT_ONCE // groups.shape[1])
    slabs = (groups[first : first + at_once] for first in range(0, len(groups), at_once))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a scale of no use makes an error that is none
        return np.concatenate([_best_of_slab(slab, codes) for slab in slabs])


def _best_of_slab(groups: Floats, codes: Codes) -> Sums:
    least = np.full(len(groups), np.inf)
    scale, offset = np.ones((len(groups), 1), np.float32), np.zeros((len(groups), 1), np.float32)
    for tried in _starts(groups, codes):
        error = _errors(groups, codes, *tried)
        better = error < least
        least[better] = error[better]
        scale[better], offset[better] = tried[0][better], tried[1][better]
    for _ in range(0 if codes.powers_of_two else ROUNDS):
        scale, offset = _refined(groups, codes, scale, offset)
        least = np.fmin(least, _errors(groups, codes, scale, offset))
    return least


def _errors(groups: Floats, codes: Codes, scale: Floats, offset: Floats) -> Sums:
    moved = groups - offset
    return _squares(moved - scale * codes.nearest(moved / scale))


def _starts(groups: Floats, codes: Codes) -> Iterator[tuple[Floats, Floats]]:
    """Scales and offsets to begin with, each of shape (groups, 1)."""
    low, high = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    first, last = codes.levels[0], codes.levels[-1]
    nothing = np.zeros_like(low)
    shares = np.geomspace(1, FALL, STEPS, dtype=np.float32)
    match codes.offset:
        case Offset.NONE:
            whole = [np.maximum(high / last, low / first)]
            if codes.either_sign:
                whole.append(np.minimum(low / last, high / first))
            if codes.powers_of_two:
                whole, shares = [np.exp2(np.ceil(np.log2(whole[0])))], np.array([1, 0.5, 0.25], np.float32)
            yield from ((scale * share, nothing) for scale in whole for share in shares)
        case Offset.FREE:
            for below, above in product(SHARES_OF_SIDES, repeat=2):
                scale = (high * above - low * below) / (last - first)
                yield scale, low * below - scale * first
        case Offset.WHOLE:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
            for below, above in product(SHARES_OF_SIDES, repeat=2):
                scale = (high * above - low * below) / (last - first)
                yield scale, -scale * np.clip(np.rint(first - low * below / scale), first, last)


def _refined(groups: Floats, codes: Codes, scale: Floats, offset: Floats) -> tuple[Floats, Floats]:
    """The scales and offsets that fit best to the codes that these give."""
    levels = codes.nearest((groups - offset) / scale)
    if codes.offset is Offset.FREE:
        of_levels, of_groups = (each.mean(axis=1, keepdims=True) for each in (levels, groups))
        about = levels - of_levels
        slope = _ratio((about * groups).sum(axis=1, keepdims=True), np.square(about).sum(axis=1, keepdims=True), scale)
        return slope, of_groups - slope * of_levels
    zero = np.rint(-offset / scale)
    steps = levels - zero
    slope = _ratio((steps * groups).sum(axis=1, keepdims=True), np.square(steps).sum(axis=1, keepdims=True), scale)
    return slope, -slope * zero


def _ratio(numerator: Floats, denominator: Floats, otherwise: Floats) -> Floats:
    return np.where((denominator > 0) & (numerator != 0), numerator / denominator, otherwise)
