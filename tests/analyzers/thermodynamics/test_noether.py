"""The Noether check tells an optimizer's memory of these weights from that of others, in networks that it trained."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, ParameterGroup
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Pairing
from jaynes_audit.analyzers.thermodynamics.noether import LEAST_CHANNELS, MEMORY, doubt, noether_statements
from jaynes_audit.analyzers.thermodynamics.statement import Answer
from tests.support.adam import Run, adamw
from tests.support.perceptrons import initial_weights, on_noise, pairs_of
from tests.support.training_evidence import evidence_of

WIDTHS = (24, 24, 24, 24)
RATES = (2e-3,) * 300


@cache
def _trained(seed: int) -> Run:
    """A ReLU network with three matrices of one shape, after some steps of AdamW. Nobody trains it on."""
    run = Run(weights=initial_weights(WIDTHS, seed=seed))
    noise = on_noise(initial_weights(WIDTHS, seed=100 + seed), "relu", noise=0.5, batch=16, seed=200 + seed)
    return adamw(run, noise, RATES, dict.fromkeys(run.weights, 0.1))


def _evidence(run: Run, *, is_certain: bool = True) -> Evidence:
    return evidence_of(
        run,
        rates=RATES,
        decay=dict.fromkeys(run.weights, 0.1),
        symmetries=pairs_of(run.weights, "relu"),
        is_certain=is_certain,
    )


def _with_memory_of(run: Run, names: dict[str, str], other: Run | None = None) -> Run:
    """The run with the memory of some tensors taken for that of others."""
    source = other or run
    asked = {name: names.get(name, name) for name in run.weights}
    return Run(
        weights=run.weights,
        first={name: source.first[of] for name, of in asked.items()},
        second={name: source.second[of] for name, of in asked.items()},
        steps=run.steps,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_memory_of_these_weights_agrees_with_them(seed: int) -> None:
    whole, *pairs = noether_statements(_evidence(_trained(seed)))

    assert [each.answer for each in (whole, *pairs)] == [Answer.HOLDS] * 3
    assert doubt(_evidence(_trained(seed))) == ""


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (0, 2)])
def test_swapped_tensors_are_told(seed: int, first: int, second: int) -> None:
    names = {f"{first}.weight": f"{second}.weight", f"{second}.weight": f"{first}.weight"}

    whole, *_ = noether_statements(_evidence(_with_memory_of(_trained(seed), names)))

    assert whole.answer is Answer.DOES_NOT_HOLD
    assert "Noether" in doubt(_evidence(_with_memory_of(_trained(seed), names)))


def test_the_memory_of_another_run_is_told() -> None:
    whole, *_ = noether_statements(_evidence(_with_memory_of(_trained(0), {}, other=_trained(1))))

    assert whole.answer is Answer.DOES_NOT_HOLD


def test_a_pairing_by_shape_alone_is_relied_on_once_the_check_holds() -> None:
    run = _trained(0)
    unjudged = replace(_evidence(run, is_certain=False), symmetries=())

    assert doubt(_evidence(run, is_certain=False)) == ""
    assert "not certain" in doubt(unjudged)
    assert doubt(replace(unjudged, pairing=replace(unjudged.pairing, is_certain=True))) == ""


def test_without_an_optimizer_or_a_pairing_nothing_can_be_said() -> None:
    run = _trained(0)
    without = _evidence(Run(weights=run.weights, steps=run.steps))

    (statement,) = noether_statements(without)

    assert statement.answer is Answer.CANNOT_BE_SAID
    assert statement.missing == (MEMORY,)
    assert MEMORY in doubt(without)
    assert "could be paired" in doubt(replace(_evidence(run), pairing=Pairing()))


def test_few_live_channels_are_shown_and_not_judged() -> None:
    run = _trained(0)
    alive = (np.arange(24) < LEAST_CHANNELS - 1).astype(float)
    dead = {"0.weight": alive[:, np.newaxis], "1.weight": alive}
    few = Run(
        weights=run.weights,
        first={name: each * dead.get(name, 1.0) for name, each in run.first.items()},
        second=run.second,
        steps=run.steps,
    )

    _, first, _ = noether_statements(_evidence(few))

    assert first.answer is Answer.CANNOT_BE_SAID
    assert {each.name: each.value for each in first.figures}["channels"] == LEAST_CHANNELS - 1


@pytest.mark.parametrize("steps", [30, 300])
def test_the_decay_that_sgd_puts_into_its_momentum_is_taken_out(steps: int) -> None:
    rate, decay, momentum = 1e-2, 0.02, 0.9
    run = Run(weights=initial_weights(WIDTHS))
    noise = on_noise(initial_weights(WIDTHS, seed=100), "relu", noise=0.5, batch=16, seed=200)
    for _ in range(steps):
        gradients = noise(run.weights)
        for name, weights in run.weights.items():
            run.first[name] = momentum * run.first.get(name, np.zeros_like(weights)) + gradients[name] + decay * weights
            run.second[name] = np.zeros_like(weights)
            run.weights[name] = weights - rate * run.first[name]
    run.steps = steps
    evidence = evidence_of(
        run,
        rates=(rate,) * steps,
        decay=dict.fromkeys(run.weights, decay),
        symmetries=pairs_of(run.weights, "relu"),
        method=Method.SGD,
    )
    group = ParameterGroup(momentum=momentum)
    told = replace(
        evidence, parameters={name: replace(each, group=group) for name, each in evidence.parameters.items()}
    )

    assert next(noether_statements(told)).answer is Answer.HOLDS
    assert next(noether_statements(evidence)).answer is not Answer.HOLDS  # with the decay, of unknown momentum, in it
