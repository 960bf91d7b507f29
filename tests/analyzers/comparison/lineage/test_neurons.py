from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.lineage import neurons
from jaynes_audit.analyzers.comparison.lineage.neurons import (
    NEURONS_IN_ANY_BLOCK,
    neuron_scores,
    neurons_in_any_block,
)
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support.checkpoints import checkpoint, stored

Matrix = npt.NDArray[np.floating]
STREAM, HIDDEN = 96, 256
UP, DOWN = "model.layers.{}.mlp.up_proj.weight", "model.layers.{}.mlp.down_proj.weight"


def gaussian(seed: int, rows: int = HIDDEN, columns: int = STREAM) -> Matrix:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def network(seed: int, blocks: int = 3) -> dict[str, Matrix]:
    """The feed-forward halves of a transformer's blocks."""
    return {
        name.format(block): gaussian(100 * seed + 2 * block + at, *shape)
        for block in range(blocks)
        for at, (name, shape) in enumerate(((UP, (HIDDEN, STREAM)), (DOWN, (STREAM, HIDDEN))))
    }


def layers(
    folder: Path,
    of: Mapping[str, Matrix],
    dtype: Dtype = Dtype.F32,
    config: Mapping[str, object] | None = None,
) -> list[Layer]:
    folder.mkdir()
    tensors = checkpoint(folder, {name: stored(matrix, dtype) for name, matrix in of.items()}).tensors
    return [layer for tensor in tensors for layer in layers_of(tensor, config or {})]


def scores(a: list[Layer], b: list[Layer]) -> tuple[Score, Score]:
    with Sources(Io.PREAD) as sources:
        found = neuron_scores(list(zip(a, b, strict=True)), sources)
    assert not isinstance(found, NotFitted), found
    cosine, matched = found
    assert (cosine.name, matched.name) == ("weight cosine", "matched neurons")
    return cosine, matched


def is_by_chance(score: Score) -> bool:
    return all(
        abs(score.value - null.middle) < 4 * (null.high - null.middle) for null in (score.unrelated, score.twins)
    )


def test_a_network_has_all_its_own_neurons(tmp_path: Path) -> None:
    of = network(1)
    cosine, matched = scores(layers(tmp_path / "a", of), layers(tmp_path / "b", of, Dtype.BF16))
    assert cosine.value == pytest.approx(1, abs=1e-5)
    assert matched.value == pytest.approx(1, abs=1e-5)
    assert matched.compared == "192 neurons of 6 of 6 matrices"


def test_independent_networks_score_what_their_nulls_do(tmp_path: Path) -> None:
    cosine, matched = scores(layers(tmp_path / "a", network(1)), layers(tmp_path / "b", network(2)))
    assert is_by_chance(cosine)
    assert is_by_chance(matched)
    assert abs(cosine.twins.middle) < 0.01


def test_the_greatest_of_many_cosines_is_what_a_direct_draw_gives(tmp_path: Path) -> None:
    _, matched = scores(layers(tmp_path / "a", network(1)), layers(tmp_path / "b", network(2)))
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((400, STREAM)), rng.standard_normal((HIDDEN, STREAM))
    left, right = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in drawn)
    expected = (left @ right.T).max(axis=1).mean()
    assert matched.twins.middle == pytest.approx(expected, abs=0.015)
    assert expected == pytest.approx(np.sqrt(2 * np.log(HIDDEN) / STREAM), rel=0.25)


def test_neurons_that_changed_places_are_found_on_both_sides(tmp_path: Path) -> None:
    of = network(3)
    moved = dict(of)
    for block in range(3):
        order = np.random.default_rng(block).permutation(HIDDEN)
        moved[UP.format(block)] = of[UP.format(block)][order]
        moved[DOWN.format(block)] = of[DOWN.format(block)][:, order]
    cosine, matched = scores(layers(tmp_path / "a", of), layers(tmp_path / "b", moved))
    assert matched.value == pytest.approx(1, abs=1e-6)
    assert cosine.value < 0.1


@pytest.mark.parametrize("noise", [0.5, 1])
def test_added_noise_lowers_the_cosine_as_its_variance_says(tmp_path: Path, noise: float) -> None:
    of, other = network(4), network(5)
    noisy = {name: matrix + noise * other[name] for name, matrix in of.items()}
    cosine, matched = scores(layers(tmp_path / "a", of), layers(tmp_path / "b", noisy))
    expected = 1 / np.sqrt(1 + noise**2)
    assert cosine.value == pytest.approx(expected, abs=0.02)
    assert matched.value == pytest.approx(expected, abs=0.02)


def test_a_permuted_stream_hides_the_neurons_as_the_docstring_warns(tmp_path: Path) -> None:
    of = network(6)
    order = np.random.default_rng(0).permutation(STREAM)
    turned = {name: matrix[:, order] if "up" in name else matrix[order] for name, matrix in of.items()}
    _, matched = scores(layers(tmp_path / "a", of), layers(tmp_path / "b", turned))
    assert matched.value < 1.1 * matched.twins.high


def test_scales_that_columns_share_are_in_the_twins_and_not_in_the_permuted_null(tmp_path: Path) -> None:
    scales = np.exp(np.random.default_rng(1).standard_normal(STREAM))
    a, b = ({name: m * (scales if "up" in name else scales[:, None]) for name, m in network(s).items()} for s in (7, 8))
    _, matched = scores(layers(tmp_path / "a", a), layers(tmp_path / "b", b))
    assert matched.value > matched.unrelated.high
    assert abs(matched.value - matched.twins.middle) < 4 * (matched.twins.high - matched.twins.middle)


def test_a_shared_mean_is_in_the_permuted_null(tmp_path: Path) -> None:
    a, b = ({name: matrix + 0.5 for name, matrix in network(seed).items()} for seed in (9, 10))
    cosine, _ = scores(layers(tmp_path / "a", a), layers(tmp_path / "b", b))
    assert cosine.value == pytest.approx(0.2, abs=0.03)  # 0.25 / 1.25
    assert abs(cosine.value - cosine.unrelated.middle) < 4 * (cosine.unrelated.high - cosine.unrelated.middle)


def test_inputs_first_and_outputs_first_are_the_same_layer(tmp_path: Path) -> None:
    """GPT-2's Conv1D stores (inputs, outputs); llama.cpp's file of it (outputs, inputs)."""
    up, down = gaussian(11), gaussian(12, STREAM, HIDDEN)
    a = layers(
        tmp_path / "a", {"h.0.mlp.c_fc.weight": up.T, "h.0.mlp.c_proj.weight": down.T}, config={"model_type": "gpt2"}
    )
    b = layers(tmp_path / "b", {"blk.0.ffn_up.weight": up, "blk.0.ffn_down.weight": down})
    assert [layer.part.outputs_first for layer in (*a, *b)] == [False, False, True, True]
    cosine, matched = scores(a, b)
    assert cosine.value == pytest.approx(1, abs=1e-6)
    assert matched.value == pytest.approx(1, abs=1e-6)


def test_a_part_of_a_fused_tensor_is_compared_with_its_like(tmp_path: Path) -> None:
    q, k, v = (gaussian(seed, STREAM, STREAM) for seed in (13, 14, 15))
    config = {"model_type": "gpt2", "n_embd": STREAM, "n_head": 4}
    fused = layers(tmp_path / "a", {"h.0.attn.c_attn.weight": np.hstack([q.T, k.T, v.T])}, config=config)
    names = [f"model.layers.0.self_attn.{each}_proj.weight" for each in "qkv"]
    split = layers(tmp_path / "b", dict(zip(names, (q, k, v), strict=True)))
    assert len(fused) == 3
    cosine, matched = scores(fused, split)
    assert cosine.value == pytest.approx(1, abs=1e-6)
    assert matched.value == pytest.approx(1, abs=1e-6)


def test_neurons_without_weights_of_use_are_not_looked_for(tmp_path: Path) -> None:
    of = network(16, blocks=1)
    broken = {name: matrix.copy() for name, matrix in of.items()}
    broken[UP.format(0)][:250] = 0
    broken[UP.format(0)][250, 3] = np.inf
    broken[DOWN.format(0)][:, :252] = np.nan
    cosine, matched = scores(layers(tmp_path / "a", of), layers(tmp_path / "b", broken))
    assert matched.compared == "9 neurons of 2 of 2 matrices"
    assert cosine.value == pytest.approx(1, abs=1e-6)
    assert matched.value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_no_magnitude_overflows(tmp_path: Path, scale: float) -> None:
    of = network(17)
    huge = {name: matrix * scale for name, matrix in of.items()}
    cosine, matched = scores(layers(tmp_path / "a", of), layers(tmp_path / "b", huge, Dtype.F64))
    assert cosine.value == pytest.approx(1, abs=1e-6)
    assert matched.value == pytest.approx(1, abs=1e-6)


def test_one_huge_neuron_makes_the_others_count_as_none(tmp_path: Path) -> None:
    of = network(26, blocks=1)
    uneven = {name: matrix.copy() for name, matrix in of.items()}
    uneven[UP.format(0)][:-1] *= 1e-200
    _, matched = scores(layers(tmp_path / "a", of), layers(tmp_path / "b", uneven, Dtype.F64))
    assert matched.compared == "33 neurons of 2 of 2 matrices"
    assert matched.value == pytest.approx(1, abs=1e-6)


def test_the_layers_looked_at_are_spread_over_roles_and_depth(tmp_path: Path) -> None:
    a = layers(tmp_path / "a", network(18, blocks=12))
    chosen = [pair[0].part for pair in neurons._sample([(layer, layer) for layer in a])]
    assert len(chosen) == neurons.MOST_LAYERS
    assert len({part.role for part in chosen}) == 2
    depths = sorted(part.depth or 0 for part in chosen)
    assert depths[0] < 3
    assert depths[-1] > 8


def test_layers_of_unequal_shapes_are_not_compared(tmp_path: Path) -> None:
    a = layers(tmp_path / "a", {UP.format(0): gaussian(19), "model.norm.weight": gaussian(20)[0]})
    b = layers(tmp_path / "b", {UP.format(0): gaussian(21, HIDDEN + 1), "model.norm.weight": gaussian(22)[0]})
    with Sources(Io.PREAD) as sources:
        assert isinstance(neuron_scores(list(zip(a, b, strict=True)), sources), NotFitted)
        assert isinstance(neuron_scores([], sources), NotFitted)


def test_a_layer_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    of = network(23)
    a, b = layers(tmp_path / "a", of), layers(tmp_path / "b", of)
    path = tmp_path / "b" / "model-0.safetensors"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 100)
    _, matched = scores(a, b)
    assert matched.compared.endswith("5 of 6 matrices")
    with path.open("r+b") as stream:
        stream.truncate(100)
    with Sources(Io.PREAD) as sources:
        assert isinstance(neuron_scores(list(zip(a, b, strict=True)), sources), NotFitted)


def test_the_score_is_the_same_every_time(tmp_path: Path) -> None:
    a, b = layers(tmp_path / "a", network(24)), layers(tmp_path / "b", network(25))
    assert scores(a, b) == scores(a, b)


def in_any_block(a: list[Layer], b: list[Layer]) -> Score:
    with Sources(Io.PREAD) as sources:
        (found,) = neurons_in_any_block(a, b, sources)
    assert found.name == NEURONS_IN_ANY_BLOCK == "neurons in any block"
    return found


def with_blocks(of: Mapping[str, Matrix], blocks: list[int], noise: float = 0.1) -> dict[str, Matrix]:
    """The network made of these blocks of another, in this order, and trained on a little."""
    rng = np.random.default_rng(0)
    return {
        name.format(place): of[name.format(block)] + noise * rng.standard_normal(of[name.format(block)].shape)
        for place, block in enumerate(blocks)
        for name in (UP, DOWN)
    }


@pytest.mark.parametrize(
    ("blocks", "searched"),
    [
        pytest.param([0, 1, 4, 5], "matrices of B in 12 of 12 of A", id="pruned"),
        pytest.param([5], "matrices of B in 12 of 12 of A", id="all but one left out"),
        pytest.param([0, 1, 2, 3, 2, 3, 4, 5], "matrices of A in 16 of 16 of B", id="grown"),
        pytest.param([3, 5, 1, 0, 4, 2], "matrices of A in 12 of 12 of B", id="reordered"),
    ],
)
def test_blocks_are_found_again_wherever_they_stand(tmp_path: Path, blocks: list[int], searched: str) -> None:
    of = network(30, blocks=6)
    found = in_any_block(layers(tmp_path / "a", of), layers(tmp_path / "b", with_blocks(of, blocks)))
    sought = 2 if len(blocks) == 1 else 4
    assert found.value == pytest.approx(1 / np.sqrt(1.01), abs=0.005)
    assert found.compared == f"{32 * sought} neurons of {sought} {searched}, {sought} of {sought} matrices found again"
    assert max(found.unrelated.high, found.twins.high) < 0.5


def test_the_search_does_not_care_which_network_comes_first(tmp_path: Path) -> None:
    of = network(31, blocks=6)
    a, b = layers(tmp_path / "a", of), layers(tmp_path / "b", with_blocks(of, [0, 4, 5]))
    assert in_any_block(a, b).value == in_any_block(b, a).value


def test_only_what_is_there_is_found_again(tmp_path: Path) -> None:
    of = network(32, blocks=4)
    other = {name: matrix if "up" in name else gaussian(1, *matrix.shape) for name, matrix in of.items()}
    found = in_any_block(layers(tmp_path / "a", of), layers(tmp_path / "b", other))
    assert found.compared.endswith("2 of 4 matrices found again")
    assert found.value == pytest.approx((1 + found.twins.middle) / 2, abs=0.02)


def test_the_nulls_include_the_search(tmp_path: Path) -> None:
    """The best of 40 layers, and the mean of four of them, drawn directly."""
    a, b = layers(tmp_path / "a", network(33, blocks=4)), layers(tmp_path / "b", network(34, blocks=40))
    found = in_any_block(a, b)
    rng = np.random.default_rng(0)

    def mean_greatest_cosine() -> float:
        left, right = rng.standard_normal((32, STREAM)), rng.standard_normal((HIDDEN, STREAM))
        left, right = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (left, right))
        return float((left @ right.T).max(axis=1).mean())

    single = np.array([[mean_greatest_cosine() for _ in range(40)] for _ in range(12)])
    assert found.compared.endswith("in 80 of 80 of B, 0 of 4 matrices found again")
    for null in (found.unrelated, found.twins):
        assert null.middle == pytest.approx(single.max(axis=1).mean(), abs=0.004)
        assert null.middle > np.quantile(single, 0.95)
    assert is_by_chance(found)


def test_one_search_in_twenty_or_so_exceeds_its_nulls_by_chance(tmp_path: Path) -> None:
    """Draws are few, and what they are drawn from is one pair: one in ten is near enough."""
    exceeding = np.zeros(2)
    for seed in range(60):
        a = layers(tmp_path / f"a{seed}", {UP.format(0): gaussian(1000 + seed, 48, 32)})
        b = layers(
            tmp_path / f"b{seed}", {UP.format(block): gaussian(2000 + 6 * seed + block, 48, 32) for block in range(6)}
        )
        found = in_any_block(a, b)
        exceeding += found.value > found.unrelated.high, found.value > found.twins.high
    assert exceeding.max() <= 9  # of 60: with one in twenty, 10 or more are seen once in 1,000 times


def test_layers_that_cannot_be_read_are_not_looked_in(tmp_path: Path) -> None:
    of = network(35, blocks=4)
    a, b = layers(tmp_path / "a", with_blocks(of, [1, 2])), layers(tmp_path / "b", of)
    path = tmp_path / "b" / "model-0.safetensors"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 100)
    found = in_any_block(a, b)
    assert found.compared.endswith("in 7 of 8 of B, 2 of 2 matrices found again")
    with path.open("r+b") as stream:
        stream.truncate(100)
    with Sources(Io.PREAD) as sources:
        assert neurons_in_any_block(a, b, sources) == ()
        assert neurons_in_any_block(b, a, sources) == ()


def test_layers_without_weights_of_use_are_not_looked_in(tmp_path: Path) -> None:
    of = network(36, blocks=3)
    b = {name: matrix * np.nan if "0" in name else matrix.copy() for name, matrix in of.items()}
    b[UP.format(1)][1:] = 0
    found = in_any_block(layers(tmp_path / "a", with_blocks(of, [2])), layers(tmp_path / "b", b))
    assert found.compared.endswith("in 4 of 6 of B, 2 of 2 matrices found again")


def test_there_is_no_score_without_layers_of_one_role_and_shape(tmp_path: Path) -> None:
    a = layers(tmp_path / "a", {UP.format(0): gaussian(37)})
    b = layers(tmp_path / "b", {UP.format(0): gaussian(38, HIDDEN + 1), DOWN.format(0): gaussian(39)})
    with Sources(Io.PREAD) as sources:
        assert neurons_in_any_block(a, b, sources) == neurons_in_any_block(a, [], sources) == ()


def test_of_too_many_layers_some_are_looked_in_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurons, "MOST_CANDIDATES", 4)
    of = network(40, blocks=8)
    a, b = layers(tmp_path / "a", with_blocks(of, [1, 3], noise=0)), layers(tmp_path / "b", of)
    found = in_any_block(a, b)
    assert found.compared.endswith("in 8 of 16 of B, 2 of 2 matrices found again")


def test_what_can_be_looked_for_everywhere_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurons, "MOST_CANDIDATES", 4)
    of = network(41, blocks=6)
    few = {name: matrix for name, matrix in of.items() if "up" in name or name[13] in "024"}
    found = in_any_block(layers(tmp_path / "a", with_blocks(of, [0, 4])), layers(tmp_path / "b", few))
    assert found.compared.endswith("in 3 of 3 of B, 2 of 2 matrices found again")


def test_what_is_looked_for_is_spread_over_roles_and_depth(tmp_path: Path) -> None:
    chosen = [layer.part for layer in neurons._spread(layers(tmp_path / "a", network(42, blocks=8)))]
    assert [part.role for part in chosen] == sorted(part.role for part in chosen)
    assert len({part.role for part in chosen}) == 2
    assert [part.depth for part in chosen] == [1, 3, 5, 7]
