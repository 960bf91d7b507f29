"""Rows and columns in another order: found whatever moved, and never claimed of anything else."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.exact import rearrangement, signatures
from jaynes_audit.analyzers.comparison.exact.outcome import Rearrangement
from jaynes_audit.analyzers.comparison.exact.rearrangement import rearrangement_of
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support.checkpoints import Stored, stored, write_file
from tests.support.weights import REAL, decoded, encoded

ROWS, COLUMNS = 24, 40
DICE = np.random.default_rng(1957)


def layer(path: Path, tensor: Stored, name: str = "w") -> Layer:
    (read,) = write_file(path, {name: tensor})
    (only,) = layers_of(read, {})
    return only


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., Rearrangement | None]:
    def find(
        a: np.ndarray, b: np.ndarray, dtype: Dtype = Dtype.F32, *, other: Dtype | None = None
    ) -> Rearrangement | None:
        layers = layer(tmp_path / "a", stored(a, dtype)), layer(tmp_path / "b", stored(b, other or dtype))
        with Sources(Io.PREAD) as sources:
            return rearrangement_of(*layers, sources)

    return find


def weights(*shape: int) -> np.ndarray:
    return DICE.normal(0, 0.02, shape)


def moved(order: np.ndarray) -> int:
    return int((order != np.arange(order.size)).sum())


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("transposed", [False, True])
def test_rows_and_columns_in_another_order_are_found_in_every_format(
    found: Callable[..., Rearrangement | None], dtype: Dtype, *, transposed: bool
) -> None:
    a = 20 * weights(ROWS, COLUMNS)
    rows, columns = DICE.permutation(ROWS), DICE.permutation(COLUMNS)
    b = a[rows][:, columns]
    outcome = found(a, b.T if transposed else b, dtype)
    if dtype is Dtype.F4:  # a few values, but enough of them in a row
        assert outcome is not None
        return
    sides = (moved(columns), moved(rows)) if transposed else (moved(rows), moved(columns))
    assert outcome == Rearrangement(transposed=transposed, moved_rows=sides[0], moved_columns=sides[1])


def test_rows_alone_and_columns_alone_leave_the_others_where_they_were(
    found: Callable[..., Rearrangement | None],
) -> None:
    a = weights(ROWS, COLUMNS)
    swapped = a[[1, 0, *range(2, ROWS)]]
    assert found(a, swapped) == Rearrangement(transposed=False, moved_rows=2, moved_columns=0)
    assert found(a, a[:, ::-1]) == Rearrangement(transposed=False, moved_rows=0, moved_columns=COLUMNS)
    assert found(a, a.T) == Rearrangement(transposed=True, moved_rows=0, moved_columns=0)


def test_the_two_orders_of_rotary_rows_are_one_another_rearranged(found: Callable[..., Rearrangement | None]) -> None:
    a = weights(64, 16)
    halves = a.reshape(4, 2, 8, 16).swapaxes(1, 2).reshape(64, 16)
    assert found(a, halves) == Rearrangement(transposed=False, moved_rows=56, moved_columns=0)


def test_what_did_not_move_is_no_rearrangement(found: Callable[..., Rearrangement | None]) -> None:
    a = weights(ROWS, COLUMNS)
    assert found(a, a) is None
    assert found(a, a, Dtype.F32, other=Dtype.BF16) is None
    zero = np.zeros((ROWS, COLUMNS))
    assert found(zero, -zero) is None


@pytest.mark.parametrize(
    ("dtype", "other"),
    [
        (Dtype.F32, Dtype.BF16),
        (Dtype.BF16, Dtype.F32),
        (Dtype.F32, Dtype.F16),
        (Dtype.F64, Dtype.F32),
        (Dtype.F16, Dtype.BF16),
        (Dtype.BF16, Dtype.F16),
        (Dtype.F8_E4M3, Dtype.F16),
        (Dtype.F32, Dtype.F8_E5M2),
    ],
)
def test_an_order_is_found_through_a_cast(
    found: Callable[..., Rearrangement | None], dtype: Dtype, other: Dtype
) -> None:
    a = decoded(encoded(weights(ROWS, COLUMNS), dtype), dtype)
    if other is Dtype.F8_E5M2:
        a = decoded(encoded(a, other), other)
    rows = DICE.permutation(ROWS)
    expected = Rearrangement(transposed=False, moved_rows=moved(rows), moved_columns=0)
    assert found(a, a[rows], dtype, other=other) == expected


def test_a_single_weight_that_differs_is_seen(found: Callable[..., Rearrangement | None]) -> None:
    a = weights(ROWS, COLUMNS)
    b = a[DICE.permutation(ROWS)][:, DICE.permutation(COLUMNS)]
    b[3, 5] *= 1.01
    assert found(a, b) is None
    assert found(a, b.T) is None


def test_equal_rows_are_told_from_rows_of_equal_weights(found: Callable[..., Rearrangement | None]) -> None:
    a = weights(ROWS, COLUMNS)
    a[:4] = 0
    a[4:8] = a[4]
    a[9] = a[8][DICE.permutation(COLUMNS)]
    a[:, 7] = a[:, 6]
    b = a[DICE.permutation(ROWS)][:, DICE.permutation(COLUMNS)]
    assert found(a, b) is not None
    c = a[DICE.permutation(ROWS)]
    c[0, :2], c[1, :2] = c[1, :2].copy(), c[0, :2].copy()  # every column keeps its weights, two rows do not
    assert found(a, c) is None


def test_nan_and_signed_zeros_move_with_the_rest(found: Callable[..., Rearrangement | None]) -> None:
    a = weights(ROWS, COLUMNS)
    a[2, 3], a[4, 5], a[6, 7] = np.nan, 0.0, np.inf
    b = a[::-1].copy()
    b[ROWS - 5, 5] = -0.0
    for other in (Dtype.F32, Dtype.BF16, Dtype.F16):
        outcome = found(a, b, Dtype.F32, other=other)
        assert outcome == Rearrangement(transposed=False, moved_rows=ROWS, moved_columns=0)


def test_a_bias_moves_with_its_neurons(found: Callable[..., Rearrangement | None]) -> None:
    bias = weights(ROWS)
    rows = DICE.permutation(ROWS)
    expected = Rearrangement(transposed=False, moved_rows=moved(rows), moved_columns=0)
    assert found(bias, bias[rows], Dtype.BF16) == expected


def test_other_shapes_and_empty_layers_are_nothing(found: Callable[..., Rearrangement | None]) -> None:
    a = weights(ROWS, COLUMNS)
    assert found(a, a[:, 1:]) is None
    assert found(a, a.reshape(COLUMNS, ROWS)) is None
    assert found(a[:0], a[:0]) is None


def is_rearranged(a: np.ndarray, b: np.ndarray) -> bool:
    """Every order of rows and of columns, tried."""
    return any(
        (turned.shape == b.shape) and (turned[list(rows)][:, list(columns)] == b).all()
        for turned in (a, a.T)
        for rows in permutations(range(turned.shape[0]))
        for columns in permutations(range(turned.shape[1]))
    )


@settings(max_examples=100, deadline=None)
@given(
    a=st.lists(st.integers(0, 2), min_size=9, max_size=9),
    seed=st.integers(0, 1 << 16),
    changed=st.booleans(),
    turned=st.booleans(),
)
def test_what_is_claimed_of_small_matrices_full_of_ties_is_so(
    tmp_path_factory: pytest.TempPathFactory, a: list[int], seed: int, *, changed: bool, turned: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    first = np.reshape(a, (3, 3)).astype(float)
    dice = np.random.default_rng(seed)
    second = first[dice.permutation(3)][:, dice.permutation(3)]
    second = second.T.copy() if turned else second.copy()
    if changed:
        second[dice.integers(3), dice.integers(3)] += 1
    layers = layer(folder / "a", stored(first)), layer(folder / "b", stored(second))
    with Sources(Io.PREAD) as sources:
        outcome = rearrangement_of(*layers, sources)
    if outcome is not None:
        assert is_rearranged(first, second)
        if not outcome.transposed:
            assert sorted(map(sorted, first.tolist())) == sorted(map(sorted, second.tolist()))
    if changed:
        assert is_rearranged(first, second) or outcome is None


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("io", list(Io))
def test_layers_that_are_not_held_are_read_in_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, io: Io, *, transposed: bool
) -> None:
    monkeypatch.setattr(rearrangement, "HELD_BYTES", 0)
    monkeypatch.setattr(rearrangement, "BAND_BYTES", 7 * 300 * 2)
    monkeypatch.setattr(rearrangement, "WINDOW_BYTES", 5 * 500 * 2)
    monkeypatch.setattr(signatures, "TILE_WEIGHTS", 1000)
    a = weights(500, 300)
    rows, columns = DICE.permutation(500), DICE.permutation(300)
    b = a[rows][:, columns]
    layers = [
        layer(tmp_path / name, stored(each, Dtype.BF16)) for name, each in (("a", a), ("b", b.T if transposed else b))
    ]
    with Sources(io) as sources:
        outcome = rearrangement_of(*layers, sources)
    sides = (moved(columns), moved(rows)) if transposed else (moved(rows), moved(columns))
    assert outcome == Rearrangement(transposed=transposed, moved_rows=sides[0], moved_columns=sides[1])


def test_parts_of_a_fused_tensor_are_rearranged_by_themselves(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.qkv_proj.weight"
    config = {"model_type": "phi3", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4}
    fused = weights(96, 32)
    (tensor,) = write_file(tmp_path / "a", {name: stored(fused)})
    parts = list(layers_of(tensor, config))
    assert len(parts) == 3
    order = DICE.permutation(32)
    alone = layer(tmp_path / "b", stored(fused[32:64][order]))
    turned = layer(tmp_path / "c", stored(fused[32:64].T))
    with Sources(Io.PREAD) as sources:
        outcomes = [rearrangement_of(part, alone, sources) for part in parts]
        assert outcomes == [None, Rearrangement(transposed=False, moved_rows=moved(order), moved_columns=0), None]
        assert rearrangement_of(turned, parts[1], sources) == Rearrangement(
            transposed=True, moved_rows=0, moved_columns=0
        )


def test_signatures_of_rows_do_not_depend_on_the_order_of_columns(tmp_path: Path) -> None:
    a = weights(ROWS, COLUMNS)
    a[5] = a[4][::-1]
    order = DICE.permutation(COLUMNS)
    with Sources(Io.PREAD) as sources:
        one = signatures.signatures(layer(tmp_path / "a", stored(a)), sources, Dtype.F32).rows
        assert len(set(one.tolist())) == ROWS - 1
        assert one[4] == one[5]
        other = signatures.signatures(layer(tmp_path / "b", stored(a[:, order])), sources, Dtype.F32).rows
    assert one.tolist() == other.tolist()
