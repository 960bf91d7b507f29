"""A failing and a passing checkpoint for each rule of change, each held against a baseline of the one before."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules.policy import Expectation
from tests.rules.case import EVERY_RULE, Asked, Case, saved
from tests.support.checkpoints import Stored, stored

Weights = dict[str, np.ndarray]

HURT = "model.layers.2.mlp.up_proj.weight"
OTHER = "model.layers.3.mlp.up_proj.weight"
TRAINED = replace(EVERY_RULE, expect=Expectation(changed=("*",)))


def healthy() -> Weights:
    """Five blocks, each of one matrix and the gains before it."""
    dice = np.random.default_rng(1957)
    weights: Weights = {"model.embed_tokens.weight": dice.normal(0, 0.02, (96, 64))}
    for block in range(5):
        weights[f"model.layers.{block}.mlp.up_proj.weight"] = dice.normal(0, 0.02, (160, 64))
        weights[f"model.layers.{block}.input_layernorm.weight"] = dice.normal(1, 0.1, 64)
    return weights


def as_stored(weights: Weights, dtype: Dtype = Dtype.F32) -> Mapping[str, Stored]:
    return {name: stored(values, dtype) for name, values in weights.items()}


def with_layer(change: Callable[[np.ndarray], np.ndarray]) -> Weights:
    """The healthy model, one of its layers changed."""
    weights = healthy()
    return weights | {HURT: change(weights[HURT])}


def asked(now: Weights, **other: object) -> Callable[[Path], Asked]:
    """What is asked of a model whose baseline is that of the healthy one."""

    def write(folder: Path) -> Asked:
        before = saved(folder, as_stored(healthy()), name="before")
        return replace(Asked(checkpoint=saved(folder, as_stored(now)), before=before), **other)

    return write


def in_format(dtype: Dtype) -> Callable[[Path], Asked]:
    def write(folder: Path) -> Asked:
        before = saved(folder, as_stored(healthy()), name="before")
        return Asked(checkpoint=saved(folder, as_stored(healthy(), dtype)), before=before)

    return write


def renamed(weights: Weights, old: str, new: str) -> Weights:
    return {new if name == old else name: values for name, values in weights.items()}


def wrapped(weights: Weights) -> Weights:
    return {f"module.{name}": values for name, values in weights.items()}


def with_few_zeros(matrix: np.ndarray, share: float) -> np.ndarray:
    flushed = matrix.copy()
    flushed.reshape(-1)[: int(share * matrix.size)] = 0
    return flushed


def trained(step: float) -> Weights:
    """The healthy model after a step that changes each weight by so much of the rms of its layer."""
    dice = np.random.default_rng(1958)
    return {name: values + dice.normal(0, step * values.std(), values.shape) for name, values in healthy().items()}


def scaled(factor: float) -> Weights:
    return {name: values * factor for name, values in healthy().items()}


UNCHANGED = asked(healthy())
CASES = {
    "JN201": Case(
        failing=asked({name: values for name, values in healthy().items() if name != HURT}),
        passing=asked(wrapped(healthy())),
    ),
    "JN202": Case(failing=asked(renamed(healthy(), HURT, f"{HURT}_v2")), passing=asked(wrapped(healthy()))),
    "JN203": Case(failing=asked(with_layer(lambda matrix: matrix[:-32])), passing=UNCHANGED),
    "JN204": Case(failing=in_format(Dtype.BF16), passing=UNCHANGED),
    "JN401": Case(
        failing=asked(with_layer(lambda matrix: np.sign(matrix) * np.abs(matrix) ** 1.2)),
        passing=asked(trained(0.01), policy=TRAINED),
    ),
    "JN402": Case(failing=asked(with_layer(lambda matrix: matrix * 2)), passing=asked(trained(0.01), policy=TRAINED)),
    "JN403": Case(
        failing=asked(with_layer(lambda matrix: np.sign(matrix) * np.clip(np.abs(matrix), None, 0.024))),
        passing=asked(trained(0.01), policy=TRAINED),
    ),
    "JN404": Case(
        failing=asked(with_layer(lambda matrix: with_few_zeros(matrix, 0.03))),
        passing=asked(with_layer(lambda matrix: with_few_zeros(matrix, 0.005))),
    ),
    "JN405": Case(failing=asked(scaled(1.5)), passing=asked(scaled(1.01))),
    "JN406": Case(failing=asked(healthy(), policy=TRAINED), passing=asked(trained(0.01), policy=TRAINED)),
    "JN407": Case(
        failing=asked(healthy() | {HURT: healthy()[OTHER], OTHER: healthy()[HURT]}), passing=in_format(Dtype.BF16)
    ),
    "JN903": Case(failing=asked(healthy(), statistics="0"), passing=UNCHANGED),
}
