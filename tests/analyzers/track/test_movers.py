"""Which layers moved between neighbours."""

from collections.abc import Sequence

import pytest

from jaynes_audit.analyzers.track.movers import frozen, transitions
from jaynes_audit.analyzers.track.point import LayerPoint
from tests.support.tracks import ERROR, layer, point


def moved(before: Sequence[LayerPoint], after: Sequence[LayerPoint]) -> list[tuple[str, bool]]:
    [transition] = transitions([point(*before), point(*after)])
    return [(move.name, move.alone) for move in transition.moves]


def test_the_farthest_comes_first() -> None:
    before = [layer(name) for name in "abc"]
    after = [layer("a", mu=-4.4), layer("b", mu=-4.0), layer("c", sigma=1.3)]
    [transition] = transitions([point(*before), point(*after)])
    assert [move.name for move in transition.moves] == ["b", "c", "a"]
    farthest = transition.moves[0]
    assert (farthest.mu_change, farthest.mu_error) == pytest.approx((0.5, ERROR * 2**0.5))
    assert farthest.times == pytest.approx(0.5 / 0.03)
    assert transition.compared == 3


@pytest.mark.parametrize(
    ("changed", "is_moved"),
    [
        ({"mu": -4.5 + 0.029}, False),
        ({"mu": -4.5 + 0.031}, True),
        ({"mu": -4.5 - 0.031}, True),
        ({"sigma": 1.1 * 1.019}, False),
        ({"sigma": 1.1 * 1.021}, True),
        ({"mu": -4.4, "se_mu": 0.02}, False),
        ({"mu": -4.3, "se_mu": 0.02}, True),
        ({"sigma": 1.2, "se_sigma": 0.02}, False),
        ({"mu": -4.4, "se_mu": None}, True),
        ({"mu": -4.46, "se_mu": None, "se_sigma": None}, True),
        ({"skewness": 3.0, "rms": 9.0}, False),
    ],
)
def test_a_move_is_beyond_the_floor_and_six_standard_errors(changed: dict[str, float], is_moved: bool) -> None:  # noqa: FBT001
    assert bool(moved([layer("a", content="1")], [layer("a", content="2", **changed)])) is is_moved


def test_a_layer_that_moved_alone_among_its_kind_is_marked() -> None:
    still = [layer(name) for name in ("a", "b", "c")]
    other = [layer(name, role="mlp.down") for name in ("x", "y")]
    assert moved([*still, *other], [layer("a", mu=-4.0), *still[1:], *other]) == [("a", True)]
    assert moved([*still, *other], [layer("a", mu=-4.0), layer("b", mu=-4.1), still[2], *other]) == [
        ("a", False),
        ("b", False),
    ]
    # Of two layers one is no exception.
    assert moved([*still, *other], [*still, layer("x", role="mlp.down", mu=-4.0), other[1]]) == [("x", False)]


def test_equal_bytes_are_no_move_and_frozen_where_they_stay() -> None:
    first = point(layer("a", content="1"), layer("b", content="1"), layer("c", content="1", mu=None, sigma=None))
    second = point(layer("a", content="1"), layer("b", content="2"), layer("c", content="1", mu=None, sigma=None))
    third = point(layer("a", content="1"), layer("b", content="2"), layer("c", content="3", mu=None, sigma=None))
    one, two = transitions([first, second, third])
    assert (one.unchanged, two.unchanged) == (("a", "c"), ("a", "b"))
    assert (one.compared, one.moves, two.compared, two.moves) == (2, (), 2, ())
    assert frozen([first, second, third]) == ("a",)


def test_what_only_one_of_them_has_or_could_fit_is_not_compared() -> None:
    [transition] = transitions(
        [point(layer("a"), layer("b", mu=None, sigma=None)), point(layer("b", mu=-4.0), layer("d"))]
    )
    assert (transition.compared, transition.unchanged, transition.moves) == (0, (), ())


def test_tied_layers_count_once() -> None:
    before, after = (
        point(layer("a"), layer("b", tied_to="a")),
        point(layer("a", mu=-4.0), layer("b", tied_to="a", mu=-4.0)),
    )
    [transition] = transitions([before, after])
    assert [move.name for move in transition.moves] == ["a"]
