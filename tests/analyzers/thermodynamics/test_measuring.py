"""Sums over outputs and inputs, against NumPy on whole arrays."""

import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.state import (
    Method,
    OptimizerState,
    ParameterGroup,
    ParameterState,
)
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.thermodynamics import measuring
from jaynes_audit.analyzers.thermodynamics.measuring import Measured, Remembered, measure, remembered_by_name
from jaynes_audit.analyzers.thermodynamics.sums import OF_VECTORS, AxisSums, Density
from tests.support.checkpoints import stored, write_file
from tests.support.gradients import part_of
from tests.support.weights import decoded, encoded

Floats = npt.NDArray[np.float64]

ADAM = ParameterGroup(beta1=0.9, beta2=0.99, epsilon=1e-6)
STEPS = 7
GPT2 = {"model_type": "gpt2", "n_head": 2}


@pytest.fixture
def sources() -> Iterator[Sources]:
    with Sources(Io.MMAP) as opened:
        yield opened


def written(folder: Path, arrays: Mapping[str, Floats], dtype: Dtype = Dtype.F32) -> dict[str, Tensor]:
    file = folder / f"{len(list(folder.iterdir()))}.safetensors"
    return {tensor.name: tensor for tensor in write_file(file, {k: stored(v, dtype) for k, v in arrays.items()})}


def remembered(
    first: Tensor | None, second: Tensor | None, group: ParameterGroup = ADAM, steps: int | None = STEPS
) -> Remembered:
    shape = first.shape if first else ()
    state = ParameterState(key="0", group=0, shape=shape, steps=steps, first=first, second=second)
    return Remembered(state=state, group=group)


def expected(weights: Floats, first: Floats, second: Floats) -> dict[Density, Floats]:
    """Every density of every weight; `first` and `second` as Adam stores them."""
    m, v = first / (1 - 0.9**STEPS), second / (1 - 0.99**STEPS)
    u = m / (np.sqrt(v) + 1e-6)
    return {
        Density.WEIGHT: weights,
        Density.SQUARE: weights**2,
        Density.FIRST: m,
        Density.FIRST_TIMES_WEIGHT: m * weights,
        Density.SECOND: v,
        Density.ROOT_SECOND: np.sqrt(v),
        Density.ROOT_SECOND_TIMES_WEIGHT: np.sqrt(v) * weights,
        Density.ROOT_SECOND_TIMES_SQUARE: np.sqrt(v) * weights**2,
        Density.FIRST_TIMES_UPDATE: m * u,
        Density.UPDATE_TIMES_WEIGHT: u * weights,
        Density.UPDATE_SQUARE: u**2,
    }


def assert_sums(found: AxisSums, densities: Mapping[Density, Floats]) -> None:
    """`densities` are matrices with the outputs first."""
    assert found.outputs.keys() == found.inputs.keys() == densities.keys()
    for density, matrix in densities.items():
        scale = abs(matrix).sum()
        assert np.allclose(found.outputs[density], matrix.sum(axis=1), rtol=1e-12, atol=1e-13 * scale), density
        assert np.allclose(found.inputs[density], matrix.sum(axis=0), rtol=1e-12, atol=1e-13 * scale), density
        assert found.total(density) == pytest.approx(matrix.sum(), rel=1e-12, abs=1e-13 * scale)
        assert found.weights == matrix.size


def of_matrices(densities: Mapping[Density, Floats]) -> dict[Density, Floats]:
    return {density: matrix for density, matrix in densities.items() if density not in OF_VECTORS}


def random_state(shape: tuple[int, ...], dtype: Dtype = Dtype.F32, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Weights and both means, rounded to a format."""
    generator = np.random.default_rng(seed)
    weights, first, second = (generator.normal(size=shape) for _ in range(3))
    rounded = [decoded(encoded(each, dtype), dtype).astype(float) for each in (weights, first, second**2)]
    return rounded[0], rounded[1], rounded[2]


@pytest.mark.parametrize("dtype", [Dtype.F64, Dtype.F32, Dtype.F16, Dtype.BF16])
@pytest.mark.parametrize("window", [1, 50, 1 << 17])
def test_sums_are_those_of_the_whole_matrix_in_any_format_and_windows(
    dtype: Dtype, window: int, tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "WINDOW_WEIGHTS", window)
    weights, first, second = random_state((13, 7), dtype)
    tensors = written(tmp_path, {"mlp.fc1.weight": weights, "m": first, "v": second}, dtype)
    layers = list(layers_of(tensors["mlp.fc1.weight"], {}))
    found = measure(layers, {"mlp.fc1.weight": remembered(tensors["m"], tensors["v"])}, sources)
    assert_sums(found.sums["mlp.fc1.weight"], of_matrices(expected(weights, first, second)))


def test_weights_and_means_may_have_different_formats(tmp_path: Path, sources: Sources) -> None:
    weights, _, _ = random_state((40, 30), Dtype.BF16)
    _, first, second = random_state((40, 30), Dtype.F32, seed=1)
    own = written(tmp_path, {"fc1.weight": weights}, Dtype.BF16)["fc1.weight"]
    means = written(tmp_path, {"m": first, "v": second})
    found = measure(list(layers_of(own, {})), {own.name: remembered(means["m"], means["v"])}, sources)
    assert_sums(found.sums[own.name], of_matrices(expected(weights, first, second)))


def test_the_parts_of_a_fused_tensor_are_summed_one_by_one(tmp_path: Path, sources: Sources) -> None:
    weights, first, second = random_state((8, 24))
    name = "transformer.h.0.attn.c_attn.weight"
    tensors = written(tmp_path, {name: weights, "m": first, "v": second})
    layers = list(layers_of(tensors[name], GPT2))
    assert len(layers) == 3
    found = measure(layers, {name: remembered(tensors["m"], tensors["v"])}, sources)
    for layer in layers:
        parts = (part_of(layer, array) for array in (weights, first, second))
        assert_sums(found.sums[layer.name], of_matrices(expected(*parts)))


def test_outputs_of_an_embedding_are_what_it_looks_up(tmp_path: Path, sources: Sources) -> None:
    table = np.arange(12.0).reshape(4, 3)
    tensor = written(tmp_path, {"embed_tokens.weight": table})["embed_tokens.weight"]
    sums = measure(list(layers_of(tensor, {})), {}, sources).sums[tensor.name]
    assert sums.outputs[Density.SQUARE].tolist() == (table**2).sum(axis=0).tolist()
    assert sums.inputs[Density.SQUARE].tolist() == (table**2).sum(axis=1).tolist()


def test_a_vector_has_an_output_for_each_element_and_sums_to_move_it_by(tmp_path: Path, sources: Sources) -> None:
    weights, first, second = random_state((9,))
    tensors = written(tmp_path, {"norm.weight": weights, "m": first, "v": second})
    layers = list(layers_of(tensors["norm.weight"], {}))
    found = measure(layers, {"norm.weight": remembered(tensors["m"], tensors["v"])}, sources)
    whole = expected(*(array[:, np.newaxis] for array in (weights, first, second)))
    assert_sums(found.sums["norm.weight"], whole)


def test_without_an_optimizer_there_are_sums_of_weights(tmp_path: Path, sources: Sources) -> None:
    weights, _, _ = random_state((4, 5))
    tensor = written(tmp_path, {"fc1.weight": weights})["fc1.weight"]
    found = measure(list(layers_of(tensor, {})), {}, sources)
    assert_sums(found.sums["fc1.weight"], {Density.WEIGHT: weights, Density.SQUARE: weights**2})


@pytest.mark.parametrize(
    ("group", "steps", "missing"),
    [
        (ParameterGroup(beta1=0.9, beta2=0.99), STEPS, {"m u", "u w", "u^2"}),
        (ParameterGroup(beta1=0.9, epsilon=1e-6), STEPS, {"m u", "u w", "u^2", "v", "sqrt(v)", "sqrt(v) w^2"}),
        (ADAM, None, {"m u", "u w", "u^2", "v", "sqrt(v)", "sqrt(v) w^2"}),
        (ADAM, 0, {"m u", "u w", "u^2", "v", "sqrt(v)", "sqrt(v) w^2"}),
        (ADAM, 10**400, {"m u", "u w", "u^2", "v", "sqrt(v)", "sqrt(v) w^2"}),
        (
            ParameterGroup(beta1=0.9, beta2=1.0, epsilon=1e-6),
            STEPS,
            {"m u", "u w", "u^2", "v", "sqrt(v)", "sqrt(v) w^2"},
        ),
        (ParameterGroup(beta1=float("nan"), beta2=0.9, epsilon=1e-6), STEPS, {"m u", "u w", "u^2"}),
    ],
    ids=["no epsilon", "no beta2", "no steps", "no step yet", "steps of a liar", "a beta of 1", "a beta that is NaN"],
)
def test_what_cannot_be_corrected_is_absent(
    group: ParameterGroup, steps: int | None, missing: set[str], tmp_path: Path, sources: Sources
) -> None:
    weights, first, second = random_state((4, 5))
    tensors = written(tmp_path, {"fc1.weight": weights, "m": first, "v": second})
    states = {"fc1.weight": remembered(tensors["m"], tensors["v"], group, steps)}
    sums = measure(list(layers_of(tensors["fc1.weight"], {})), states, sources).sums["fc1.weight"]
    assert {*of_matrices(expected(weights, first, second))} - {*sums.outputs} == missing


def test_momentum_of_sgd_is_taken_as_it_is_stored(tmp_path: Path, sources: Sources) -> None:
    weights, first, _ = random_state((4, 5))
    tensors = written(tmp_path, {"fc1.weight": weights, "m": first})
    states = {"fc1.weight": remembered(tensors["m"], None, ParameterGroup(momentum=0.9))}
    sums = measure(list(layers_of(tensors["fc1.weight"], {})), states, sources).sums["fc1.weight"]
    of_weights = {Density.WEIGHT: weights, Density.SQUARE: weights**2}
    assert_sums(sums, of_weights | {Density.FIRST_TIMES_WEIGHT: first * weights, Density.FIRST_SQUARE: first**2})


@pytest.mark.parametrize("where", ["fc1.weight", "m", "v"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_left_out_and_weights_without_them_stay(
    where: str, value: float, tmp_path: Path, sources: Sources
) -> None:
    weights, first, second = random_state((4, 5))
    arrays = {"fc1.weight": weights, "m": first, "v": second}
    arrays[where][2, 3] = value
    tensors = written(tmp_path, arrays)
    states = {"fc1.weight": remembered(tensors["m"], tensors["v"])}
    found = measure(list(layers_of(tensors["fc1.weight"], {})), states, sources)
    if where == "fc1.weight":
        assert not found.sums
        assert "finite" in found.left_out["fc1.weight"]
    else:
        assert_sums(found.sums["fc1.weight"], {Density.WEIGHT: weights, Density.SQUARE: weights**2})
        assert "finite" in found.forgotten["fc1.weight"]


def test_a_mean_of_squares_below_zero_is_unsound(tmp_path: Path, sources: Sources) -> None:
    weights, first, second = random_state((4, 5))
    second[1, 1] = -1.0
    tensors = written(tmp_path, {"fc1.weight": weights, "m": first, "v": second})
    states = {"fc1.weight": remembered(tensors["m"], tensors["v"])}
    assert "sound" in measure(list(layers_of(tensors["fc1.weight"], {})), states, sources).forgotten["fc1.weight"]


def test_a_memory_of_another_shape_is_not_laid_beside_the_weights(tmp_path: Path, sources: Sources) -> None:
    tensors = written(tmp_path, {"fc1.weight": np.ones((4, 5)), "m": np.ones((5, 4)), "v": np.ones((5, 4))})
    states = {"fc1.weight": remembered(tensors["m"], tensors["v"])}
    forgotten = measure(list(layers_of(tensors["fc1.weight"], {})), states, sources).forgotten
    assert "another shape" in forgotten["fc1.weight"]


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [((3, 0), Dtype.F32, "empty"), ((3,), Dtype.I64, "no real numbers"), ((2, 2), Dtype.C64, "no real numbers")],
)
def test_what_is_no_matrix_of_weights_is_left_out(
    shape: tuple[int, ...], dtype: Dtype, reason: str, tmp_path: Path, sources: Sources
) -> None:
    array = np.zeros(shape, np.int64 if dtype is Dtype.I64 else np.complex64 if dtype is Dtype.C64 else float)
    (tensor,) = write_file(tmp_path / "x.safetensors", {"fc1.weight": stored(array, dtype)})
    assert measure(list(layers_of(tensor, {})), {}, sources).left_out == {"fc1.weight": reason}


def test_an_axis_too_long_to_sum_over_is_not_read(sources: Sources) -> None:
    tensor = Tensor(name="w", dtype=Dtype.F32, shape=(1 << 40,), file=Path("nowhere"), start=0, end=1 << 42)
    assert "too many" in measure(list(layers_of(tensor, {})), {}, sources).left_out["w"]


def test_a_file_that_was_cut_short_leaves_its_layers_out(tmp_path: Path, sources: Sources) -> None:
    tensor = written(tmp_path, {"fc1.weight": np.ones((64, 64))})["fc1.weight"]
    with tensor.file.open("r+b") as file:
        file.truncate(1000)
    assert "shorter" in measure(list(layers_of(tensor, {})), {}, sources).left_out["fc1.weight"]


def test_any_number_of_threads_gives_the_same_bits(tmp_path: Path, sources: Sources) -> None:
    arrays = {f"layers.{number}.fc1.weight": random_state((60, 50), seed=number)[0] for number in range(20)}
    layers = [layer for tensor in written(tmp_path, arrays).values() for layer in layers_of(tensor, {})]
    one, four = (measure(layers, {}, sources, threads=threads) for threads in (1, 4))
    assert list(one.sums) == list(four.sums) == [layer.name for layer in layers]
    for name, sums in one.sums.items():
        assert sums.outputs[Density.SQUARE].tobytes() == four.sums[name].outputs[Density.SQUARE].tobytes()


def test_memory_does_not_grow_with_the_tensor(tmp_path: Path, sources: Sources) -> None:
    tensors = written(tmp_path, dict.fromkeys(("fc1.weight", "m", "v"), np.ones((2000, 1500))))
    layers, states = list(layers_of(tensors["fc1.weight"], {})), {"fc1.weight": remembered(tensors["m"], tensors["v"])}
    tracemalloc.start()
    measure(layers, states, sources)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20  # 36 MB are stored, and would be 72 in double precision


def test_a_memory_is_found_by_the_key_that_its_tensor_was_paired_with() -> None:
    states = tuple(ParameterState(key=str(number), group=number, shape=()) for number in range(3))
    groups = (ParameterGroup(weight_decay=0.1), ParameterGroup(weight_decay=0.0))
    optimizer = OptimizerState(
        files=(), method=Method.ADAMW, evidence="", groups=groups, parameters=states, is_named=False
    )
    found = remembered_by_name({"w": "0", "b": "1", "of no group": "2", "unknown": "7"}, optimizer)
    assert {name: each.group.weight_decay for name, each in found.items()} == {"w": 0.1, "b": 0.0}


def test_layers_without_sums_do_not_hide_the_others(tmp_path: Path, sources: Sources) -> None:
    tensors = written(tmp_path, {"a.weight": np.full((2, 2), np.nan), "b.weight": np.ones((2, 2))})
    layers: list[Layer] = [layer for tensor in tensors.values() for layer in layers_of(tensor, {})]
    found: Measured = measure(layers, {}, sources, threads=2)
    assert list(found.sums) == ["b.weight"]
    assert list(found.left_out) == ["a.weight"]
