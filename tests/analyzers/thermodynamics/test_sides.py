"""What stands on the two sides of a symmetry, against sums written out."""

import numpy as np
import pytest

from jaynes_audit.analyzers.thermodynamics.sides import (
    are_measured,
    correlation,
    gradient_identity,
    live,
    sides,
)
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density
from jaynes_audit.analyzers.thermodynamics.symmetry import NO_CHANNEL, Axis, Symmetry, SymmetryKind, Term
from tests.support.gradients import network

SQUARE, PRODUCT = Density.SQUARE, Density.FIRST_TIMES_WEIGHT


def sums(matrix: object, density: Density = SQUARE) -> AxisSums:
    numbers = np.asarray(matrix, dtype=float)
    return AxisSums(weights=numbers.size, outputs={density: numbers.sum(axis=1)}, inputs={density: numbers.sum(axis=0)})


def symmetry(plus: tuple[Term, ...], minus: tuple[Term, ...] = (), channels: int = 2) -> Symmetry:
    return Symmetry(kind=SymmetryKind.UP_DOWN, subject="block 0", depth=0, channels=channels, plus=plus, minus=minus)


def term(layer: str, axis: Axis = Axis.OUTPUTS, channels: list[int] | None = None, offset: float = 0.0) -> Term:
    return Term(
        layer=layer, axis=axis, channels=None if channels is None else np.array(channels, dtype=np.intp), offset=offset
    )


def test_outputs_stand_on_one_side_and_inputs_on_the_other() -> None:
    measured = {"up": sums([[1, 2], [3, 4]]), "down": sums([[10, 20], [30, 40], [50, 60]])}
    plus, minus = sides(symmetry((term("up"),), (term("down", Axis.INPUTS),)), measured, SQUARE)
    assert plus.tolist() == [3, 7]
    assert minus.tolist() == [90, 120]


def test_entries_of_one_channel_add_up_and_those_of_none_are_left_out() -> None:
    measured = {"q": sums([[1], [2], [4], [8]])}
    plus, minus = sides(symmetry((term("q", channels=[1, NO_CHANNEL, 1, 0]),)), measured, SQUARE)
    assert plus.tolist() == [8, 5]
    assert minus.tolist() == [0, 0]


def test_a_whole_layer_may_be_one_channel() -> None:
    one = symmetry((term("e", Axis.ALL), term("o", Axis.ALL)), channels=1)
    assert sides(one, {"e": sums([[1, 2]]), "o": sums([[3], [4]])}, SQUARE)[0].tolist() == [10]


def test_every_layer_counts_as_often_as_its_factor_says() -> None:
    measured = {"w": sums([[1], [2]]), "b": sums([[10], [20]])}
    plus, _ = sides(symmetry((term("w"), term("b"))), measured, SQUARE, {"w": 0.5, "b": 0.0})
    assert plus.tolist() == [0.5, 1.0]


def test_a_constant_that_the_network_adds_belongs_to_the_weight() -> None:
    generator = np.random.default_rng(0)
    weight, mean, root = (generator.normal(size=5) for _ in range(3))
    densities = {
        Density.WEIGHT: weight,
        SQUARE: weight**2,
        Density.FIRST: mean,
        PRODUCT: mean * weight,
        Density.ROOT_SECOND: root,
        Density.ROOT_SECOND_TIMES_WEIGHT: root * weight,
        Density.ROOT_SECOND_TIMES_SQUARE: root * weight**2,
    }
    whole = {density: array.sum(keepdims=True) for density, array in densities.items()}
    measured = {"gain": AxisSums(weights=5, outputs=densities, inputs=whole)}
    added = symmetry((term("gain", offset=1.0),), channels=5)
    for density, expected in (
        (SQUARE, (1 + weight) ** 2),
        (PRODUCT, mean * (1 + weight)),
        (Density.ROOT_SECOND, root),
        (Density.ROOT_SECOND_TIMES_SQUARE, root * weight * (1 + weight)),
    ):
        assert np.allclose(sides(added, measured, density)[0], expected, rtol=1e-14, atol=1e-14)


def test_sides_can_be_told_once_every_layer_has_the_density() -> None:
    pair = symmetry((term("up"),), (term("down", Axis.INPUTS),))
    measured = {"up": sums([[1], [2]]), "down": sums([[1, 2]])}
    assert are_measured(pair, measured, SQUARE)
    assert not are_measured(pair, measured, PRODUCT)
    assert not are_measured(pair, {"up": measured["up"]}, SQUARE)
    with pytest.raises(KeyError):
        sides(pair, {"up": measured["up"]}, SQUARE)


def test_a_channel_is_dead_when_both_of_its_sides_are_small() -> None:
    assert live(np.array([1.0, 1e-4, 0.0, -0.5]), np.array([0.0, 1e-4, 0.1, 0.0])).tolist() == [True, False, True, True]
    assert not live(np.zeros(3), np.zeros(3)).any()


def test_correlation_is_pearsons() -> None:
    generator = np.random.default_rng(0)
    left = generator.normal(size=30)
    right = left + generator.normal(size=30)
    assert correlation(left, right) == pytest.approx(np.corrcoef(left, right)[0, 1], rel=1e-12)


def test_correlation_with_what_does_not_vary_is_none() -> None:
    assert correlation(np.ones(4), np.arange(4.0)) == 0


def test_exact_gradients_obey_the_identity_to_the_last_digits() -> None:
    net = network("llama")
    up, down = (f"model.layers.0.mlp.{which}_proj.weight" for which in ("up", "down"))
    pair = symmetry((term(up),), (term(down, Axis.INPUTS),), channels=16)
    measured = {name: sums(net.products[name], PRODUCT) for name in (up, down)}
    found = gradient_identity(pair, measured)
    assert found.correlation == pytest.approx(1, abs=1e-12)
    assert found.gap < 1e-12
    assert found.live_channels == 16


def test_gradients_of_other_weights_do_not() -> None:
    net = network("llama")
    gate, down = (f"model.layers.0.mlp.{which}_proj.weight" for which in ("gate", "down"))
    pair = symmetry((term(gate),), (term(down, Axis.INPUTS),), channels=16)
    found = gradient_identity(pair, {name: sums(net.products[name], PRODUCT) for name in (gate, down)})
    assert found.correlation < 0.9
    assert found.gap > 0.5


def test_an_optimizer_that_remembers_nothing_neither_agrees_nor_differs() -> None:
    pair = symmetry((term("up"),), (term("down", Axis.INPUTS),))
    found = gradient_identity(pair, {"up": sums(np.zeros((2, 3)), PRODUCT), "down": sums(np.zeros((3, 2)), PRODUCT)})
    assert (found.correlation, found.gap, found.live_channels) == (0, 0, 0)
