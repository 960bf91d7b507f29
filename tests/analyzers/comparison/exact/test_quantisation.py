"""The error of a quantiser beside the best that its codes could do: good ones come near, bad ones do not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from jaynes_audit.analyzers.checkpoints.opening import open_place
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.exact import quantisation
from jaynes_audit.analyzers.comparison.exact.outcome import Difference, Quantisation, Side
from jaynes_audit.analyzers.comparison.exact.quantisation import Codes, Groups, Offset, quantisation_of
from jaynes_audit.analyzers.comparison.exact.reading import Pair
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype, stored_codes, values
from tests.support import gguf_files
from tests.support.checkpoints import stored, write_file
from tests.support.fuzzing import read_tensor
from tests.support.quantised_files import Part, dequantised_file, only, part, words

ROWS, COLUMNS, GROUP = 64, 256, 64
NAME = "blk.0.ffn_up.weight"
DICE = np.random.default_rng(1957)
WEIGHTS = (0.02 * DICE.standard_normal((ROWS, COLUMNS)) * np.exp(0.3 * DICE.standard_normal((ROWS, 1)))).astype("f4")
# Dettmers et al. 2023, "QLoRA", appendix E.
NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)


def layer_of(tensor: Tensor) -> Layer:
    (only_layer,) = layers_of(tensor, {})
    return only_layer


def numbers(tensor: Tensor) -> np.ndarray:
    with Sources(Io.PREAD) as sources:
        stored_as = stored_codes(memoryview(read_tensor(tensor, sources)), tensor.dtype)
        return values(stored_as, tensor.dtype).reshape(tensor.shape).astype(np.float64)


def compared(a: Tensor, b: Tensor) -> Quantisation | None:
    ours, theirs = numbers(a), numbers(b)
    error = float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))
    difference = Difference(
        weights=ours.size,
        changed=int((ours != theirs).sum()),
        not_finite=0,
        relative_error=error,
        cosine=1.0,
        largest=0.0,
        largest_row=0,
        largest_column=0,
    )
    with Sources(Io.PREAD) as sources:
        return quantisation_of(Pair(a=layer_of(a), b=layer_of(b)), difference, sources)


@pytest.fixture
def reference(tmp_path: Path) -> Tensor:
    (tensor,) = write_file(tmp_path / "reference", {"m.weight": stored(WEIGHTS)})
    return tensor


def ratio_of(outcome: Quantisation | None) -> float:
    assert outcome is not None
    assert isinstance(outcome.ratio, float)
    assert isinstance(outcome.best_error, float)
    assert outcome.relative_error == pytest.approx(outcome.ratio * outcome.best_error)
    assert outcome.ratio >= 1
    return outcome.ratio


# ---- quantisers, each with a factor that its scales are too large by


def gguf(kind: GGMLQuantizationType, folder: Path, factor: float) -> Tensor:
    (folder / "q.gguf").unlink(missing_ok=True)
    blocks = quants.quantize(WEIGHTS, kind)
    size = quants.GGML_QUANT_SIZES[kind][1]
    if factor != 1:
        scales = blocks.reshape(-1, size)[:, :2].copy().view(np.float16)
        blocks.reshape(-1, size)[:, :2] = (scales * np.float16(factor)).view(np.uint8)
    gguf_files.write(folder / "q.gguf", {NAME: (kind, blocks)})
    return open_place(folder / "q.gguf").tensors[0]


def grouped(numbers_of: np.ndarray) -> np.ndarray:
    return numbers_of.reshape(ROWS, -1, GROUP)


def symmetric(bits: int, factor: float) -> Tensor:
    """Whole numbers of compressed-tensors, a scale for each group."""
    high = (1 << bits - 1) - 0.5
    scale = (np.abs(grouped(WEIGHTS)).max(-1) / high).astype(np.float16).astype(np.float32)
    codes = np.clip(np.rint(grouped(WEIGHTS) / scale[..., None]), -high - 0.5, high - 0.5) + high + 0.5
    parts = [
        part("m.weight_packed", words(packed(codes.reshape(ROWS, COLUMNS).astype(np.uint64), bits))),
        part("m.weight_scale", (factor * scale).astype(np.float16)),
        part("m.weight_shape", np.array([ROWS, COLUMNS])),
    ]
    settings = {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": bits}}}}
    return only(dequantised_file(parts, settings))


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes along rows, as many as fit a word, the first lowest."""
    per_word = 32 // bits
    shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(bits)
    return (codes.reshape(*codes.shape[:-1], -1, per_word) << shifts).sum(-1)


def gptq(factor: float, order: np.ndarray | None = None) -> Tensor:
    """GPTQ's layout: codes turned, zeros beside the scales, and maybe inputs that were taken in another order."""
    taken = np.arange(COLUMNS) if order is None else order
    low, high = (np.minimum(grouped(WEIGHTS[:, taken]).min(-1), 0), np.maximum(grouped(WEIGHTS[:, taken]).max(-1), 0))
    scale = ((high - low) / 15).astype(np.float16).astype(np.float32)
    zero = np.clip(np.rint(-low / scale), 0, 15)
    codes = np.clip(np.rint(grouped(WEIGHTS[:, taken]) / scale[..., None]) + zero[..., None], 0, 15)
    in_place = np.empty((ROWS, COLUMNS))
    in_place[:, taken] = codes.reshape(ROWS, COLUMNS)
    group_of = np.empty(COLUMNS, np.int32)
    group_of[taken] = np.arange(COLUMNS) // GROUP
    parts = [
        part("m.qweight", words(packed(in_place.astype(np.uint64), 4).T.copy())),
        part("m.qzeros", words(packed(zero.T.astype(np.uint64), 4))),
        part("m.scales", (factor * scale.T).astype(np.float16)),
        part("m.g_idx", group_of),
    ]
    settings = {"quant_method": "gptq", "checkpoint_format": "gptq_v2", "bits": 4, "group_size": GROUP}
    return only(dequantised_file(parts, settings))


def bitsandbytes_int8(factor: float) -> Tensor:
    largest = np.abs(WEIGHTS).max(1)
    codes = np.rint(WEIGHTS / largest[:, None] * 127).astype(np.int8)
    return only(dequantised_file([part("m.weight", codes), part("m.SCB", (factor * largest).astype(np.float32))]))


def nf4(factor: float) -> Tensor:
    blocks = WEIGHTS.reshape(-1, GROUP)
    largest = np.abs(blocks).max(1)
    codes = np.abs((blocks / largest[:, None])[..., None] - NF4).argmin(-1).astype(np.uint8).reshape(-1, 2)
    state = json.dumps({"quant_type": "nf4", "blocksize": GROUP, "shape": [ROWS, COLUMNS]}).encode()
    parts = [
        part("m.weight", (codes[:, :1] << 4 | codes[:, 1:]).astype(np.uint8)),
        part("m.weight.absmax", (factor * largest).astype(np.float32)),
        part("m.weight.quant_map", NF4),
        Part("m.weight.quant_state.bitsandbytes__nf4", "U8", (len(state),), state),
    ]
    return only(dequantised_file(parts))


def fp8(block: tuple[int, int], factor: float) -> Tensor:
    down, along = block
    tiles = WEIGHTS.reshape(ROWS // down, down, COLUMNS // along, along)
    scale = np.abs(tiles).max((1, 3)) / 448
    codes = (tiles / scale[:, None, :, None]).astype(ml_dtypes.float8_e4m3fn).reshape(ROWS, COLUMNS)
    parts = [
        Part("m.weight", "F8_E4M3", (ROWS, COLUMNS), codes.tobytes()),
        part("m.weight_scale", (factor * scale).astype(np.float32)),
    ]
    return only(dequantised_file(parts, {"weight_block_size": list(block)}))


def mxfp4(factor: float) -> Tensor:
    tiles = WEIGHTS.reshape(ROWS, COLUMNS // 32, 32)
    exponent = np.floor(np.log2(np.abs(tiles).max(-1))) - 2
    codes = (tiles / np.exp2(exponent)[..., None]).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    octets = codes.reshape(ROWS, COLUMNS // 32, 16, 2)
    parts = [
        part("m.weight.blocks", octets[..., 0] | octets[..., 1] << 4),
        part("m.weight.scales", (exponent + 127 + np.log2(factor)).astype(np.uint8)),
    ]
    return only(dequantised_file(parts, {"quant_method": "mxfp4"}))


@dataclass(frozen=True, slots=True)
class Case:
    make: Callable[[float], Tensor]
    largest: float
    wrong: float = 1.25


CASES = {
    "MXFP4": Case(mxfp4, 1.1, wrong=2),
    "int4 of compressed-tensors": Case(lambda factor: symmetric(4, factor), 1.12),
    "int8 of compressed-tensors": Case(lambda factor: symmetric(8, factor), 1.12),
    "GPTQ": Case(gptq, 1.12),
    "GPTQ in another order": Case(lambda factor: gptq(factor, np.random.default_rng(3).permutation(COLUMNS)), 1.12),
    "int8 of bitsandbytes": Case(bitsandbytes_int8, 1.1),
    "nf4": Case(nf4, 1.12),
    "fp8 per tensor": Case(lambda factor: fp8((ROWS, COLUMNS), factor), 1.1),
    "fp8 per row": Case(lambda factor: fp8((1, COLUMNS), factor), 1.1),
    "fp8 in blocks": Case(lambda factor: fp8((32, 64), factor), 1.1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_good_quantiser_comes_near_the_best_and_a_wrong_scale_does_not(name: str, reference: Tensor) -> None:
    case = CASES[name]
    good, bad = (case.make(factor) for factor in (1.0, case.wrong))
    assert 1 <= ratio_of(compared(reference, good)) < case.largest
    assert ratio_of(compared(reference, bad)) > 2


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_0", "TQ2_0", "Q4_1", "Q5_1", "MXFP4"])
def test_ggml_comes_near_the_best(kind: str, reference: Tensor, tmp_path: Path) -> None:
    outcome = compared(reference, gguf(GGMLQuantizationType[kind], tmp_path, 1))
    assert outcome is not None
    assert (outcome.scheme, outcome.quantised) == (kind, Side.B)
    largest = 1.15 if kind != "TQ2_0" else 2.5  # which keeps the largest weight, and so loses most of the others
    assert ratio_of(outcome) < largest


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_0"])
def test_ggml_with_scales_that_are_wrong_does_not(kind: str, reference: Tensor, tmp_path: Path) -> None:
    assert ratio_of(compared(reference, gguf(GGMLQuantizationType[kind], tmp_path, 1.4))) > 2


def test_the_error_is_over_the_norm_of_the_side_that_is_not_quantised(reference: Tensor) -> None:
    quantised = gptq(1.3)
    forth, back = compared(reference, quantised), compared(quantised, reference)
    assert forth is not None
    assert back is not None
    assert (forth.quantised, back.quantised) == (Side.B, Side.A)
    assert back.relative_error == pytest.approx(forth.relative_error, rel=1e-6)
    assert back.ratio == pytest.approx(forth.ratio)


def test_the_best_error_of_two_levels_is_the_closed_form() -> None:
    # One scale and signs alone: the best scale is the mean magnitude, and what is left is the variance of magnitudes.
    groups = DICE.standard_normal((50, 128)).astype(np.float32)
    least = quantisation._best(groups, Codes(levels=np.array([-1, 1], np.float32), either_sign=True))
    np.testing.assert_allclose(least, 128 * np.abs(groups).var(axis=1), rtol=1e-5)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("offset", list(Offset))
def test_trying_every_scale_and_offset_does_little_better(bits: int, offset: Offset) -> None:
    groups = (np.random.default_rng(bits).standard_normal((12, 32)) + 0.2).astype(np.float32)
    first = -(1 << bits - 1) if offset is Offset.NONE else 0
    levels = np.arange(first, first + (1 << bits), dtype=np.float32)
    least = quantisation._best(groups, Codes(levels=levels, offset=offset))
    every = [_least_of_all(group, levels, offset) for group in groups.astype(np.float64)]
    assert least.sum() <= 1.2 * sum(every)


def _least_of_all(group: np.ndarray, levels: np.ndarray, offset: Offset) -> float:
    best = np.inf
    for scale in np.linspace(0.2, 1.2, 150) * np.abs(group).max() / (levels.size / 2):
        offsets = {
            Offset.NONE: np.zeros(1),
            Offset.WHOLE: -scale * np.arange(levels.size),
            Offset.FREE: np.linspace(group.min() - (group.max() - group.min()) / 5, group.max(), 60),
        }[offset][:, None, None]
        errors = np.abs(group[:, None] - scale * levels - offsets).min(-1)
        best = min(best, float((errors**2).sum(-1).min()))
    return best


def test_powers_of_two_stay_powers_of_two() -> None:
    levels = np.array([-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    groups = DICE.standard_normal((40, 32)).astype(np.float32)
    least = quantisation._best(groups, Codes(levels=levels, powers_of_two=True))
    every = [
        (np.abs(groups[..., None] - np.float32(2.0**power) * levels).min(-1).astype(np.float64) ** 2).sum(1)
        for power in range(-6, 4)
    ]
    np.testing.assert_allclose(least, np.min(every, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("groups", "bands"),
    [
        (Groups(rows=1, columns=GROUP), [range(top, top + 1) for top in range(0, ROWS, 8)]),
        (Groups(rows=4, columns=GROUP), [range(4), range(32, 36)]),
        (Groups(rows=ROWS, columns=COLUMNS), [range(0, ROWS, 4)]),
        (Groups(rows=4 * COLUMNS, columns=0), [range(4), range(32, 36)]),
    ],
)
def test_the_sample_is_of_whole_groups_from_all_over(
    monkeypatch: pytest.MonkeyPatch, reference: Tensor, groups: Groups, bands: list[range]
) -> None:
    monkeypatch.setattr(quantisation, "SAMPLED_WEIGHTS", 8 * COLUMNS)
    assert list(quantisation._bands(groups, layer_of(reference))) == bands


def test_tiles_hold_the_weights_that_share_a_scale() -> None:
    numbered = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(Groups(rows=1, columns=3).cut(numbered[:1]), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(Groups(rows=2, columns=2).cut(numbered[:2])[1], [2, 3, 8, 9])
    np.testing.assert_array_equal(Groups(rows=4, columns=1).cut(numbered)[2], [2, 8, 14, 20])
    np.testing.assert_array_equal(Groups(rows=8, columns=0).cut(numbered)[1], np.arange(8, 16))
    np.testing.assert_array_equal(Groups(rows=1, columns=4).cut(numbered[:1]), [[0, 1, 2, 3]])
    turned = Groups(rows=1, columns=3, order=np.array([5, 4, 3, 2, 1, 0]))
    np.testing.assert_array_equal(turned.cut(numbered[:1]), [[5, 4, 3], [2, 1, 0]])


def test_codes_for_several_weights_at_once_have_no_best(reference: Tensor, tmp_path: Path) -> None:
    kind = GGMLQuantizationType.IQ2_XXS
    blocks = gguf_files.random_blocks(kind, (ROWS, COLUMNS))
    blocks.reshape(-1, 66)[:, :2] = np.array([1e-3], np.float16).view(np.uint8)
    gguf_files.write(tmp_path / "q.gguf", {NAME: (kind, blocks)})
    outcome = compared(reference, open_place(tmp_path / "q.gguf").tensors[0])
    assert outcome is not None
    assert isinstance(outcome.ratio, NotFitted)
    assert "several weights" in outcome.ratio.reason


def test_what_codes_hold_exactly_has_no_ratio(tmp_path: Path) -> None:
    quantised = bitsandbytes_int8(1)
    (same,) = write_file(tmp_path / "same", {"m.weight": stored(numbers(quantised))})
    outcome = compared(same, quantised)
    assert outcome is not None
    assert outcome.relative_error == 0
    assert isinstance(outcome.ratio, NotFitted)


def test_two_plain_and_two_quantised_layers_have_no_quantisation(reference: Tensor) -> None:
    assert compared(reference, reference) is None
    assert compared(gptq(1), gptq(1.1)) is None


@pytest.mark.parametrize("dtype", [Dtype.F64, Dtype.BF16])
def test_the_other_side_may_have_any_dtype(tmp_path: Path, reference: Tensor, dtype: Dtype) -> None:
    (tensor,) = write_file(tmp_path / "other", {"m.weight": stored(WEIGHTS, dtype)})
    quantised = gptq(1)
    of_float32, of_other = (ratio_of(compared(each, quantised)) for each in (reference, tensor))
    assert of_other == pytest.approx(of_float32, rel=1e-2)
