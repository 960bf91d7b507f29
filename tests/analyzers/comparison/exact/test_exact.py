"""Layers of two models compared weight by weight: figures of NumPy on whole arrays, whoever shares the work."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.exact import exact, reading
from jaynes_audit.analyzers.comparison.exact.exact import compare_exactly, elements_that_differ
from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Relation, Rounding, Side, Unread
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype, stored_codes, values
from tests.support.checkpoints import Stored, raw, stored, write_file
from tests.support.weights import REAL, decoded, encoded

RNG = np.random.default_rng(11)
OUTPUTS_FIRST, INPUTS_FIRST = "h.0.mlp.fc1.weight", "h.0.mlp.dense.kernel"


def tensors(folder: Path, side: str, content: Mapping[str, Stored]) -> tuple[Tensor, ...]:
    return write_file(folder / f"{side}.safetensors", content)


def layer(tensor: Tensor, config: Mapping[str, object] | None = None) -> Layer:
    [only] = layers_of(tensor, config or {})
    return only


def pair(folder: Path, a: Stored, b: Stored, *, names: tuple[str, str] = ("w", "w")) -> tuple[Layer, Layer]:
    [of_a] = tensors(folder, "a", {names[0]: a})
    [of_b] = tensors(folder, "b", {names[1]: b})
    return layer(of_a), layer(of_b)


def compared(folder: Path, a: Stored, b: Stored, *, names: tuple[str, str] = ("w", "w"), io: Io = Io.MMAP) -> Exact:
    [outcome] = compare_exactly([pair(folder, a, b, names=names)], jobs=2, io=io)
    assert isinstance(outcome, Exact), outcome
    return outcome


def numbers(rows: int = 70, columns: int = 50) -> np.ndarray:
    return RNG.standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("io", list(Io))
@pytest.mark.parametrize("dtype", REAL)
def test_the_same_bytes_are_identical(tmp_path: Path, dtype: Dtype, io: Io) -> None:
    weights = raw(encoded(np.abs(numbers(72, 48)), dtype), dtype)
    outcome = compared(tmp_path, weights, weights, io=io)
    assert outcome == Exact(relation=Relation.IDENTICAL)


@pytest.mark.parametrize("b_dtype", REAL)
@pytest.mark.parametrize("a_dtype", [Dtype.F32, Dtype.F64, Dtype.BF16, Dtype.F8_E4M3, Dtype.F4])
def test_figures_are_those_of_numpy_in_float64(tmp_path: Path, a_dtype: Dtype, b_dtype: Dtype) -> None:
    codes_a, codes_b = encoded(np.abs(numbers(40, 52)), a_dtype), encoded(np.abs(numbers(40, 52)), b_dtype)
    a, b = decoded(codes_a, a_dtype), decoded(codes_b, b_dtype)
    outcome = compared(tmp_path, raw(codes_a, a_dtype), raw(codes_b, b_dtype))
    change = b - a
    difference = outcome.difference
    assert outcome.relation is Relation.DIFFERENT
    assert difference is not None
    assert difference.weights == a.size
    assert difference.changed == np.count_nonzero(a != b)
    assert difference.not_finite == 0
    assert difference.relative_error == pytest.approx(np.linalg.norm(change) / np.linalg.norm(a), rel=1e-12)
    assert difference.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)
    assert difference.largest == np.abs(change).max()
    assert (difference.largest_row, difference.largest_column) == divmod(int(np.abs(change).argmax()), 52)


def test_complex_weights_count_as_two(tmp_path: Path) -> None:
    a = (RNG.standard_normal((6, 5)) + 1j * RNG.standard_normal((6, 5))).astype(np.complex64)
    b = a.copy()
    b[4, 3] += 2j
    outcome = compared(tmp_path, stored(a, Dtype.C64), stored(b, Dtype.C64))
    assert outcome.difference is not None
    assert (outcome.difference.weights, outcome.difference.changed) == (60, 1)
    assert (outcome.difference.largest_row, outcome.difference.largest_column) == (4, 3)
    real = stored(np.zeros((6, 10)), Dtype.F32)
    [outcome] = compare_exactly([pair(tmp_path, stored(a, Dtype.C64), real)])
    assert outcome == NotFitted("the weights of only one of them are complex")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), columns=st.integers(1, 30), jobs=st.integers(1, 3), data=st.data())
def test_the_outcome_depends_neither_on_threads_nor_on_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, rows: int, columns: int, jobs: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a = rng.standard_normal((rows, columns)).astype(np.float16)
    b = a.copy()
    b[rng.random(a.shape) < data.draw(st.sampled_from([0.0, 0.01, 1.0]))] *= np.float16(1.25)
    layers = [pair(tmp_path, raw(a, Dtype.F16), raw(b, Dtype.F16))]
    whole = compare_exactly(layers, jobs=1)
    with monkeypatch.context() as patched:
        patched.setattr(reading.Pair, "step", columns * data.draw(st.integers(1, rows)))
        patched.setattr(reading, "PIECE_BYTES", data.draw(st.integers(1, 4 * a.size)))
        patched.setattr(exact, "BATCH_BYTES", 1)
        [cut], [threaded] = compare_exactly(layers, jobs=1), compare_exactly(layers, jobs=jobs)
    assert threaded == cut
    [uncut] = whole
    assert isinstance(uncut, Exact)
    assert isinstance(cut, Exact)
    assert uncut.relation is cut.relation
    if uncut.difference is not None:
        assert cut.difference is not None
        assert cut.difference.changed == uncut.difference.changed
        assert cut.difference.largest == uncut.difference.largest
        assert cut.difference.largest_row == uncut.difference.largest_row
        assert cut.difference.relative_error == pytest.approx(uncut.difference.relative_error, rel=1e-12)


def test_a_layer_of_several_stretches_adds_up(tmp_path: Path) -> None:
    a = RNG.standard_normal((3000, 2048)).astype(np.float32)
    b = a.copy()
    b[2999, 17] += 1
    b[5, 5] = np.nan
    layers = [pair(tmp_path, raw(a, Dtype.F32), raw(b, Dtype.F32))]
    told: list[int] = []
    one, two = compare_exactly(layers, jobs=1), compare_exactly(layers, jobs=2, on_bytes=told.append)
    assert one == two
    assert sum(told) == 2 * a.nbytes
    [outcome] = two
    assert isinstance(outcome, Exact)
    assert outcome.difference is not None
    assert (outcome.difference.changed, outcome.difference.not_finite) == (2, 1)
    assert (outcome.difference.largest_row, outcome.difference.largest_column) == (2999, 17)


def test_outcomes_come_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    a = {f"w{number}": stored(numbers(3, 4)) for number in range(150)}
    b = {name: stored(numbers(3, 4)) if int(name[1:]) % 3 else each for name, each in a.items()}
    layers = [(layer(x), layer(y)) for x, y in zip(tensors(tmp_path, "a", a), tensors(tmp_path, "b", b), strict=True)]
    relations = [outcome.relation for outcome in compare_exactly(layers, jobs=2) if isinstance(outcome, Exact)]
    assert relations == [Relation.DIFFERENT if number % 3 else Relation.IDENTICAL for number in range(150)]


def test_zeros_of_other_signs_are_identical_weights_with_other_bytes(tmp_path: Path) -> None:
    a, b = np.zeros((4, 4), np.float32), np.full((4, 4), -0.0, np.float32)
    outcome = compared(tmp_path, raw(a, Dtype.F32), raw(b, Dtype.F32))
    assert outcome.relation is Relation.IDENTICAL
    assert outcome.difference is not None
    assert outcome.difference.changed == 0


def test_a_layer_of_zeros_has_no_relative_error_and_says_so(tmp_path: Path) -> None:
    outcome = compared(tmp_path, stored(np.zeros((3, 3))), stored(np.ones((3, 3))))
    assert outcome.difference is not None
    assert isinstance(outcome.difference.relative_error, NotFitted)
    assert isinstance(outcome.difference.cosine, NotFitted)


@pytest.mark.parametrize("magnitude", [1e200, 1e-200])
def test_float64_weights_whose_squares_are_no_numbers_say_so(tmp_path: Path, magnitude: float) -> None:
    a = np.full((3, 3), magnitude)
    outcome = compared(tmp_path, raw(a, Dtype.F64), raw(a * 3, Dtype.F64))
    assert outcome.difference is not None
    assert isinstance(outcome.difference.relative_error, NotFitted)
    assert math.isfinite(outcome.difference.largest)


def test_nothing_but_nan_on_both_sides_is_not_different(tmp_path: Path) -> None:
    a = np.full((8, 8), np.nan, np.float32)
    b = (a.view(np.uint32) | np.uint32(1)).view(np.float32)
    assert compared(tmp_path, raw(a, Dtype.F32), raw(b, Dtype.F32)).relation is Relation.IDENTICAL


@pytest.mark.parametrize("shapes", [((6, 10), (10, 6)), ((8, 8), (8, 8)), ((300, 7), (7, 300)), ((7, 300), (300, 7))])
@pytest.mark.parametrize("dtypes", [(Dtype.F32, Dtype.F32), (Dtype.F32, Dtype.BF16)])
@pytest.mark.parametrize("band_bytes", [64, 1 << 20])
def test_a_layer_stored_the_other_way_round_is_recognised(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    shapes: tuple[tuple[int, int], ...],
    dtypes: tuple[Dtype, ...],
    band_bytes: int,
) -> None:
    monkeypatch.setattr(reading, "BAND_BYTES", band_bytes)
    a = numbers(*shapes[0])
    outcome = compared(tmp_path, stored(a, dtypes[0]), stored(a.T, dtypes[1]), names=(OUTPUTS_FIRST, INPUTS_FIRST))
    assert outcome.relation is Relation.REARRANGED
    assert outcome.rearrangement is not None
    assert (outcome.rearrangement.transposed, outcome.rearrangement.moved_rows) == (True, 0)
    assert (outcome.cast is not None) is (dtypes[0] is not dtypes[1])


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (9, 9), (300, 7)])
@pytest.mark.parametrize("band_bytes", [64, 1 << 20])
def test_a_change_to_a_layer_stored_the_other_way_round_is_found_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], band_bytes: int
) -> None:
    monkeypatch.setattr(reading, "BAND_BYTES", band_bytes)
    a = numbers(*shape)
    b = a.copy()
    b[3, 5] += 4
    outcome = compared(tmp_path, stored(a), stored(b.T), names=(OUTPUTS_FIRST, INPUTS_FIRST))
    assert outcome.relation is Relation.DIFFERENT
    difference = outcome.difference
    assert difference is not None
    assert (difference.changed, difference.largest_row, difference.largest_column) == (1, 3, 5)
    assert difference.relative_error == pytest.approx(abs(b[3, 5] - a[3, 5]) / np.linalg.norm(a.astype(np.float64)))


def test_a_square_layer_whose_orientation_was_mistaken_is_compared_as_it_stands(tmp_path: Path) -> None:
    a = numbers(8, 8)
    b = a + np.float32(0.001)
    outcome = compared(tmp_path, stored(a), stored(b), names=(OUTPUTS_FIRST, INPUTS_FIRST))
    assert outcome.difference is not None
    assert isinstance(outcome.difference.relative_error, float)
    assert outcome.difference.relative_error < 0.01


def test_packed_columns_are_read_for_a_transpose_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BAND_BYTES", 16)
    a = encoded(numbers(12, 10), Dtype.F4)
    b = np.ascontiguousarray(a.T)
    names = (OUTPUTS_FIRST, INPUTS_FIRST)
    assert compared(tmp_path, raw(a, Dtype.F4), raw(b, Dtype.F4), names=names).relation is Relation.REARRANGED


def test_a_regrouped_copy_is_identical_and_other_weights_in_another_shape_are_not_compared(tmp_path: Path) -> None:
    a = numbers(12, 10)
    assert compared(tmp_path, stored(a), stored(a.reshape(4, 30))).relation is Relation.IDENTICAL
    [outcome] = compare_exactly([pair(tmp_path, stored(a), stored(numbers(4, 30)))])
    assert outcome == NotFitted("their shapes differ, 12 x 10 and 4 x 30")
    [outcome] = compare_exactly([pair(tmp_path, stored(a), stored(numbers(12, 11)))])
    assert outcome == NotFitted("their shapes differ, 12 x 10 and 12 x 11")


@pytest.mark.parametrize("dtype", [Dtype.F4, Dtype.F6_E2M3, Dtype.BF16])
def test_a_regrouped_copy_of_rows_that_share_bytes_is_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Dtype
) -> None:
    monkeypatch.setattr(reading.Pair, "step", 4 * 51)
    a = encoded(numbers(40, 51), dtype)
    for shape in ((24, 85), (85, 24), (8, 255), (255, 8)):
        outcome = compared(tmp_path, raw(a, dtype), raw(a.reshape(shape), dtype))
        assert outcome == Exact(relation=Relation.IDENTICAL)


def test_a_vector_may_be_a_row_or_a_column(tmp_path: Path) -> None:
    a = numbers(1, 30)
    outcome = compared(tmp_path, stored(a[0]), stored((a + 1).reshape(30, 1)))
    assert outcome.relation is Relation.DIFFERENT
    assert outcome.difference is not None
    assert outcome.difference.changed == 30


def test_a_fused_part_is_compared_with_the_layer_that_stands_alone(tmp_path: Path) -> None:
    config = {"model_type": "gpt_neox", "hidden_size": 8, "num_attention_heads": 2}
    fused = numbers(24, 8)
    [tensor] = tensors(tmp_path, "a", {"gpt_neox.layers.0.attention.query_key_value.weight": stored(fused)})
    parts = {each.part.suffix: each for each in layers_of(tensor, config)}
    heads = fused.reshape(2, 3, 4, 8)
    [alone] = tensors(tmp_path, "b", {"w": stored(heads[:, 1].reshape(8, 8))})
    assert set(parts) == {"q", "k", "v"}
    k, q = compare_exactly([(parts["k"], layer(alone)), (parts["q"], layer(alone))])
    assert k == Exact(relation=Relation.IDENTICAL)
    assert isinstance(q, Exact)
    assert q.relation is Relation.DIFFERENT


@pytest.mark.parametrize("io", list(Io))
def test_a_model_may_be_compared_with_itself(tmp_path: Path, io: Io) -> None:
    [a, b] = tensors(tmp_path, "a", {"v": stored(numbers()), "w": stored(numbers())})
    same, other = compare_exactly([(layer(a), layer(a)), (layer(a), layer(b))], io=io)
    assert same == Exact(relation=Relation.IDENTICAL)
    assert isinstance(other, Exact)
    assert other.difference is not None
    assert other.difference.changed == 3500


def test_a_file_cut_short_is_a_failure_on_its_side_and_nothing_else_is_lost(tmp_path: Path) -> None:
    content = {"v": stored(numbers()), "w": stored(numbers())}
    a, b = tensors(tmp_path, "a", content), tensors(tmp_path, "b", content)
    path = tmp_path / "b.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    for io in (Io.PREAD, Io.MMAP):
        sound, cut = compare_exactly([(layer(x), layer(y)) for x, y in zip(a, b, strict=True)], io=io)
        assert sound == Exact(relation=Relation.IDENTICAL)
        assert isinstance(cut, Unread)
        assert (cut.side, cut.rule, cut.case) == (Side.B, "JN001", "shortened-while-read")


def test_a_file_that_has_gone_is_a_failure_that_is_not_the_files_fault(tmp_path: Path) -> None:
    layers = pair(tmp_path, stored(numbers()), stored(numbers()))
    (tmp_path / "a.safetensors").unlink()
    [outcome] = compare_exactly([layers])
    assert isinstance(outcome, Unread)
    assert (outcome.side, outcome.rule, outcome.case) == (Side.A, "", "")


def test_an_empty_layer_is_not_compared(tmp_path: Path) -> None:
    empty = stored(np.zeros((0, 4)))
    [a], [b] = (tensors(tmp_path, side, {"w": empty}) for side in "ab")
    [outcome] = compare_exactly([(layer(a), layer(b))])
    assert isinstance(outcome, NotFitted)


def test_no_pair_gives_no_outcome() -> None:
    assert compare_exactly([]) == []


def test_only_some_layers_of_a_large_model_are_decomposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "RANKED_WEIGHTS", 3 * 64 * 64)
    a = {f"w{number}": stored(numbers(64, 64)) for number in range(9)}
    b = {f"w{number}": stored(numbers(64, 64)) for number in range(9)}
    layers = [(layer(x), layer(y)) for x, y in zip(tensors(tmp_path, "a", a), tensors(tmp_path, "b", b), strict=True)]
    outcomes = [each for each in compare_exactly(layers) if isinstance(each, Exact)]
    assert [not isinstance(each.rank, NotFitted) for each in outcomes] == [False, False, True] * 3


@pytest.mark.parametrize("dtype", [Dtype.I64, Dtype.BOOL])
@pytest.mark.parametrize("io", list(Io))
def test_elements_that_are_no_weights_are_counted_where_they_differ(tmp_path: Path, dtype: Dtype, io: Io) -> None:
    a = RNG.integers(0, 2, (5, 7)).astype(np.bool_ if dtype is Dtype.BOOL else np.int64)
    b = a.copy()
    b[2, :3] ^= True
    [of_a, of_b, short] = tensors(
        tmp_path, "a", {"a": stored(a, dtype), "b": stored(b, dtype), "c": stored(a[1:], dtype)}
    )
    with Sources(io) as sources:
        assert elements_that_differ(of_a, of_a, sources) == 0
        assert elements_that_differ(of_a, of_b, sources) == 3
        assert elements_that_differ(of_a, short, sources) == NotFitted("their shapes differ, 5 x 7 and 4 x 7")
        (tmp_path / "a.safetensors").unlink()
    with Sources(io) as sources:
        assert isinstance(elements_that_differ(of_a, of_b, sources), Unread)


QUANTISED = Path(__file__).parents[4] / "fixtures" / "quantised"


@pytest.mark.parametrize("name", ["awq", "bitsandbytes-4bit", "bitsandbytes-8bit", "gpt-oss", "nvfp4-pack-quantized"])
def test_a_dequantised_copy_is_exact_and_other_weights_are_quantised_from(tmp_path: Path, name: str) -> None:
    checkpoint = open_checkpoint(str(QUANTISED / f"{name}.safetensors"))
    quantised = next(tensor for tensor in checkpoint.tensors if tensor.decoder and tensor.decoder.scheme)
    with Sources(Io.MMAP) as sources:
        codes = stored_codes(memoryview(bytes(sources.of(quantised).read(0, quantised.bytes))), quantised.dtype)
    numbers = values(codes, quantised.dtype).astype(np.float32).reshape(quantised.shape)
    moved = numbers + np.float32(1e-3) * np.abs(numbers).max() * RNG.standard_normal(numbers.shape, np.float32)
    copy, other = tensors(tmp_path, "b", {"copy": raw(numbers, Dtype.F32), "other": raw(moved, Dtype.F32)})
    same, unlike = compare_exactly([(layer(quantised), layer(copy)), (layer(other), layer(quantised))])
    assert isinstance(same, Exact)
    assert same.relation is Relation.CAST
    assert same.cast is not None
    assert (same.cast.source, same.cast.rounding) == (Side.A, Rounding.EXACT)
    assert same.cast.from_dtype == quantised.stored_as
    assert isinstance(unlike, Exact)
    assert unlike.relation is Relation.QUANTISED
    assert unlike.quantisation is not None
    assert unlike.quantisation.quantised is Side.B
    assert unlike.quantisation.scheme == quantised.stored_as
