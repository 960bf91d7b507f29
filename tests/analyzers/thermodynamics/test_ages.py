"""How much of a run's start is left, against the recursion of weight decay itself."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import (
    Method,
    OptimizerState,
    ParameterGroup,
    TrainingState,
)
from jaynes_audit.analyzers.thermodynamics.ages import RATES, age_statements, horizon_statements, run_age
from jaynes_audit.analyzers.thermodynamics.equilibrium import LAWS
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Statement
from jaynes_audit.analyzers.thermodynamics.symmetry import Axis, Symmetry, SymmetryKind, Term
from tests.support.adam import Run
from tests.support.blind_runs import BLIND, NAME
from tests.support.training_evidence import evidence_of

SHAPE = (96, 80)


def _run(steps: int = 1) -> Run:
    return Run(weights={"fc.weight": np.ones(SHAPE)}, steps=steps)


def test_age_says_what_decay_alone_leaves_of_the_squared_norm() -> None:
    rates = np.linspace(3e-3, 1e-4, 2_000)
    decay = 0.1

    left = np.prod((1 - rates * decay) ** 2)

    assert np.exp(-2 * run_age(rates, decay)) == pytest.approx(left, rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "answer"),
    [(400, Answer.DOES_NOT_HOLD), (1_000, Answer.CANNOT_BE_SAID), (2_000, Answer.HOLDS)],
)
def test_only_an_old_run_has_its_scale_from_rate_and_decay(steps: int, answer: Answer) -> None:
    evidence = evidence_of(_run(steps), rates=np.full(steps, 1e-2), decay={"fc.weight": 0.1})

    (statement,) = age_statements(evidence)

    assert statement.answer is answer
    assert statement.figures[0].value == pytest.approx(steps * 1e-3)


def test_layers_with_learning_rates_of_their_own_have_ages_of_their_own() -> None:
    evidence = evidence_of(
        Run(weights={name: np.ones(SHAPE) for name in ("a.weight", "b.weight")}, steps=2_000),
        rates=np.full(2_000, 1e-2),
        decay={"a.weight": 0.1, "b.weight": 0.1},
    )
    groups = [ParameterGroup(initial_learning_rate=rate, weight_decay=0.1) for rate in (1e-2, 1e-3)]
    optimizer = OptimizerState(
        files=(), method=Method.ADAMW, evidence="", groups=tuple(groups), parameters=(), is_named=True
    )
    with_groups = replace(
        evidence,
        training=replace(evidence.training, optimizer=optimizer),
        parameters={
            name: replace(each, group=group)
            for (name, each), group in zip(evidence.parameters.items(), groups, strict=True)
        },
    )

    first, second = age_statements(with_groups)

    assert (first.figures[0].value, second.figures[0].value) == pytest.approx((2.0, 0.2))
    assert first.subject != second.subject
    assert (first.answer, second.answer) == (Answer.HOLDS, Answer.DOES_NOT_HOLD)


def test_nothing_is_said_of_the_age_of_layers_that_were_frozen_for_a_while() -> None:
    names = ("always", "late")
    evidence = evidence_of(
        Run(weights={name: np.ones(SHAPE) for name in names}, steps=2_000),
        rates=np.full(2_000, 1e-2),
        decay=dict.fromkeys(names, 0.1),
    )
    group = ParameterGroup(weight_decay=0.1)
    parameters = {
        name: replace(evidence.parameters[name], group=group, steps=steps)
        for name, steps in zip(names, (2_000, 300), strict=True)
    }

    always, late = age_statements(replace(evidence, parameters=parameters))

    assert (always.answer, late.answer) == (Answer.HOLDS, Answer.CANNOT_BE_SAID)
    assert always.subject.startswith("1 layer")


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("method", [Method.ADAMW, Method.SGD])
@pytest.mark.parametrize(
    ("rates", "decay"),
    [
        ([], 0.1),
        ([0.0] * 3, 0.1),
        ([1e-200] * 3, 0.1),
        ([1e308] * 3, 1e-300),
        ([1e160] * 3, 1e160),
        ([1e-3] * 3, 1e308),
    ],
)
def test_rates_and_decays_of_no_real_run_lead_to_no_numbers_that_are_none(
    law: Callable[[Evidence], Iterator[Statement]], method: Method, rates: list[float], decay: float
) -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(32, 64))
    second = {} if method is Method.SGD else {NAME: weights**2}
    run = Run(weights={NAME: weights}, first={NAME: weights}, second=second, steps=max(1, len(rates)))
    training = TrainingState(steps_per_epoch=2.0, planned_steps=9)

    said = list(
        law(evidence_of(run, rates=rates, decay={NAME: decay}, symmetries=[BLIND], method=method, training=training))
    )

    assert all(math.isfinite(figure.value) for each in said for figure in each.figures)
    assert not any(each.answer is Answer.HOLDS for each in said)


@pytest.mark.parametrize("law", LAWS)
def test_weights_whose_squares_cannot_be_added_up_lead_to_no_numbers_that_are_none(
    law: Callable[[Evidence], Iterator[Statement]],
) -> None:
    weights = np.full((16, 16), 1e150)
    pair = Symmetry(
        kind=SymmetryKind.UP_DOWN,
        subject="up/down",
        depth=0,
        channels=16,
        plus=(Term(layer="up", axis=Axis.OUTPUTS),),
        minus=(Term(layer="down", axis=Axis.INPUTS),),
    )
    run = Run(weights={"up": weights, "down": weights}, first={"up": weights, "down": weights}, steps=9)
    evidence = evidence_of(run, rates=[0.1] * 9, decay={"up": 0.1, "down": 0.1}, symmetries=[pair], method=Method.SGD)

    assert all(math.isfinite(figure.value) for each in law(evidence) for figure in each.figures)


def test_without_learning_rates_the_age_cannot_be_said_and_the_input_is_named() -> None:
    (statement,) = age_statements(evidence_of(_run(), decay={"fc.weight": 0.1}))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert statement.missing == (RATES,)


def test_without_decay_nothing_makes_weights_forget() -> None:
    (statement,) = age_statements(evidence_of(_run(), rates=np.full(9, 1.0), decay={"fc.weight": 0.0}))

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert "no weight decay" in statement.because


@pytest.mark.parametrize("method", [Method.ADAM_L2, Method.LION, Method.MUON, Method.ADAFACTOR])
def test_age_is_not_told_of_optimizers_whose_decay_it_does_not_know(method: Method) -> None:
    evidence = evidence_of(_run(), rates=np.full(9, 1.0), decay={"fc.weight": 0.1}, method=method)

    (statement,) = age_statements(evidence)

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert str(method) in statement.because


@pytest.mark.parametrize(
    ("rate", "answer"),
    [(1.0, Answer.DOES_NOT_HOLD), (0.04, Answer.HOLDS), (0.001, Answer.DOES_NOT_HOLD)],
)
def test_the_horizon_of_a_good_run_lies_between_one_epoch_and_its_length(rate: float, answer: Answer) -> None:
    evidence = evidence_of(
        _run(1_000),
        rates=np.full(1_000, rate),
        decay={"fc.weight": 0.1},
        training=TrainingState(steps_per_epoch=100.0, planned_steps=1_000),
    )

    (statement,) = horizon_statements(evidence)

    assert statement.answer is answer
    assert statement.figures[0].value == pytest.approx(1 / (rate * 0.1) / 100)


def test_the_horizon_of_a_run_of_one_epoch_cannot_be_said() -> None:
    evidence = evidence_of(
        _run(100),
        rates=np.full(100, 0.1),
        decay={"fc.weight": 0.1},
        training=TrainingState(steps_per_epoch=100.0, planned_steps=100),
    )

    (statement,) = horizon_statements(evidence)

    assert statement.answer is Answer.CANNOT_BE_SAID
