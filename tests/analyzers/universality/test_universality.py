"""The verdict on networks whose weights are drawn from known laws."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.collapse import Collapse
from jaynes_audit.analyzers.universality.constancy import Quantity
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.twin import Twin
from jaynes_audit.analyzers.universality.universality import Threshold, Universality, Verdict, universality
from tests.analyzers.universality.layers import network

LAYERS, ROWS = 24, 64
FAN_INS = [128, 512, 256] * (LAYERS // 3)
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def drawn(draw: Draw, family: str, *, seed: int, **changes: object) -> list[Member]:
    """Layers of several widths; `draw` gets a generator, the layer's number and its fan-in."""
    rng = np.random.default_rng(seed)
    return network([draw(rng, index, fan_in) for index, fan_in in enumerate(FAN_INS)], [family] * LAYERS, **changes)


def lognormal_at(log_mean: float, log_sigma: float) -> Draw:
    return lambda rng, _, fan_in: (
        rng.lognormal(log_mean, log_sigma, (ROWS, fan_in)) * rng.choice([-1, 1], (ROWS, fan_in))
    )


def gaussian(rng: np.random.Generator, _: int, fan_in: int) -> np.ndarray:
    return rng.normal(0, 0.02, (ROWS, fan_in))


def uniform(rng: np.random.Generator, _: int, fan_in: int) -> np.ndarray:
    return rng.uniform(-1, 1, (ROWS, fan_in)) / np.sqrt(fan_in)


def lognormal_of_many_sigmas(rng: np.random.Generator, index: int, fan_in: int) -> np.ndarray:
    return rng.lognormal(-4, np.linspace(0.9, 1.8, LAYERS)[index], (ROWS, fan_in))


def judged(members: list[Member]) -> Universality:
    return universality(members, at_half=members, at_double=members)


@cache
def of_one_law() -> list[Member]:
    return drawn(lognormal_at(-4, 1.3), "lognormal", seed=1)


@cache
def of_many_sigmas() -> list[Member]:
    return drawn(lognormal_of_many_sigmas, "lognormal", seed=2)


# ---- the trial can be won and lost


@pytest.mark.parametrize("seed", range(10, 13))
def test_layers_of_one_lognormal_law_support_the_claim(seed: int) -> None:
    result = judged(drawn(lognormal_at(-4, 1.3), "lognormal", seed=seed))
    assert result.verdict is Verdict.SUPPORTS
    assert all(clause.holds for clause in result.clauses)
    assert result.cost_of_one_law < 1e-3


@pytest.mark.parametrize("seed", range(20, 23))
@pytest.mark.parametrize(("draw", "family", "declared"), [(gaussian, "half-normal", 0.02), (uniform, "uniform", None)])
def test_untrained_layers_are_universal_but_not_lognormal(
    draw: Draw, family: str, declared: float | None, seed: int
) -> None:
    result = judged(drawn(draw, family, seed=seed, declared_sd=declared))
    assert result.verdict is Verdict.UNIVERSAL_NOT_LOGNORMAL
    # One law would not do where the scales follow the fan-in, which the untrained layers of the claim's null do too.
    assert [clause.holds for clause in result.clauses] == [False, True, True, declared is not None, False]
    assert f"{family}, 24 of 24" in result.sentence


def test_lognormal_layers_of_many_sigmas_are_not_universal() -> None:
    result = judged(of_many_sigmas())
    assert result.verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL
    assert [clause.holds for clause in result.clauses] == [True, True, False, False, False]


def test_lognormal_layers_of_many_scales_are_not_universal() -> None:
    result = judged(
        drawn(lambda rng, index, fan_in: rng.lognormal(-6 + index / 8, 1.3, (ROWS, fan_in)), "lognormal", seed=3)
    )
    assert result.verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL
    assert [clause.holds for clause in result.clauses] == [True, False, True, False, False]


def test_a_mixture_of_shapes_and_scales_is_neither() -> None:
    rng = np.random.default_rng(4)
    draws, families = [], []
    for index, fan_in in enumerate(FAN_INS):
        scale = np.exp(rng.normal(0, 1))
        if index % 3:
            draws.append(scale * rng.standard_t(3, (ROWS, fan_in)))
            families.append("Student t")
        else:
            draws.append(scale * rng.lognormal(0, 2, (ROWS, fan_in)))
            families.append("lognormal")
    result = judged(network(draws, families))
    assert result.verdict is Verdict.NEITHER
    assert [clause.holds for clause in result.clauses] == [False, False, False, False, False]
    assert [(each.family, each.layers) for each in result.families] == [("Student t", 16), ("lognormal", 8)]
    assert result.families[0].share == pytest.approx(2 / 3)


def test_half_of_the_layers_are_not_most_of_them() -> None:
    members = of_one_law()
    half = [replace(each, family="gamma") if index % 2 else each for index, each in enumerate(members)]
    assert judged(half).verdict is Verdict.UNIVERSAL_NOT_LOGNORMAL
    half[1] = members[1]
    assert judged(half).verdict is Verdict.SUPPORTS


def test_lognormal_by_mixing_is_not_lognormal() -> None:
    members = [replace(each, family="lognormal by mixing") for each in of_one_law()]
    assert judged(members).verdict is Verdict.UNIVERSAL_NOT_LOGNORMAL


def test_sampling_noise_alone_fails_no_clause() -> None:
    rng = np.random.default_rng(5)
    members = [
        replace(each, log_mean=rng.normal(-4, 1), log_sigma=rng.normal(1.3, 0.2), log_mean_error=1, log_sigma_error=0.2)
        for each in of_one_law()
    ]
    result = judged(members)
    assert result.verdict is Verdict.SUPPORTS
    assert result.clauses[1].bound > 0.25


def test_a_few_huge_layers_do_not_decide_for_all() -> None:
    members = [
        replace(each, log_sigma=1.3, log_sigma_error=1e-4)
        if index % 2
        else replace(each, log_sigma=1.6, log_sigma_error=1e-3)
        for index, each in enumerate(of_one_law())
    ]
    assert judged(members).verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL


# ---- what it costs, and what untrained layers show


def test_the_spreads_are_set_beside_those_of_the_twins() -> None:
    result = judged(of_many_sigmas())
    assert [each.twin for each in result.untrained] == list(Twin)
    for each in result.untrained:
        excess = {spread.quantity: spread for spread in each.excess}
        assert set(excess) == set(Quantity)
        sigma = excess[Quantity.LOG_SIGMA]
        assert (sigma.untrained_tau, sigma.excess) == (0, sigma.trained_tau)
        assert sigma.trained_tau == pytest.approx(np.linspace(0.9, 1.8, LAYERS).std(ddof=1), rel=0.1)
    initial = [spread.untrained_tau for each in result.untrained[1:] for spread in each.excess[:1]]
    assert initial[0] == pytest.approx(initial[1], rel=1e-9)  # a Gaussian and a uniform law of one scale
    assert result.untrained[1].cost_of_one_law > 0.03  # fan-ins of 128 to 512: mu by 1/sqrt(fan_in)


def test_the_bound_on_mu_is_the_twins_spread_and_the_margin() -> None:
    members = drawn(uniform, "uniform", seed=6)
    result = judged(members)
    untrained = np.std(np.log(FAN_INS) / 2, ddof=1)
    mean_sigma = np.mean([each.log_sigma for each in members])
    assert result.clauses[1].bound == pytest.approx(untrained + mean_sigma * np.sqrt(2 * 0.005), rel=1e-12)
    assert result.clauses[2].bound == pytest.approx(mean_sigma * np.sqrt(0.005), rel=1e-12)


def test_gaussian_layers_collapse_onto_their_own_curve() -> None:
    result = judged(drawn(gaussian, "half-normal", seed=7))
    assert isinstance(result.collapse, Collapse)
    assert result.collapse.distance_to_log_half_normal < 0.02 < result.collapse.distance_to_normal


# ---- the other thresholds


def test_support_needs_the_other_thresholds_too() -> None:
    members = of_one_law()
    result = universality(members, at_half=members + of_many_sigmas(), at_double=members)
    assert result.verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL
    assert "holds at the chosen threshold, but not at half the threshold" in result.sentence
    assert [trial.verdict for trial in result.trials] == [
        Verdict.SUPPORTS,
        Verdict.LOGNORMAL_NOT_UNIVERSAL,
        Verdict.SUPPORTS,
    ]
    agreement = result.clauses[-1]
    assert (agreement.holds, agreement.measured, agreement.bound) == (False, 1, 2)


def test_too_few_layers_at_double_the_threshold_do_not_fail_the_claim_but_are_told() -> None:
    members = of_one_law()
    result = universality(members, at_half=members, at_double=members[:5])
    assert result.verdict is Verdict.SUPPORTS
    assert result.trials[2].threshold is Threshold.DOUBLE
    assert result.trials[2].verdict is Verdict.CANNOT_BE_SAID
    assert result.trials[2].sentence == "it takes 8 fitted layers, and there are 5"
    assert "at double the threshold (5 layers): cannot be said" in result.sentence


def test_another_verdict_at_another_threshold_is_told() -> None:
    members = of_many_sigmas()
    result = universality(members, at_half=members, at_double=of_one_law())
    assert result.verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL
    assert "at double the threshold (24 layers): supports the claim" in result.sentence


@pytest.mark.parametrize("layers", [0, 1, 7])
def test_of_fewer_than_eight_layers_nothing_is_said(layers: int) -> None:
    members = of_one_law()
    result = universality(members[:layers], at_half=members, at_double=[])
    assert result.verdict is Verdict.CANNOT_BE_SAID
    assert result.sentence.startswith(f"Cannot be said: it takes 8 fitted layers, and there are {layers}")
    assert isinstance(result.cost_of_one_law, NotFitted) is (layers < 2)


def test_unknown_errors_leave_the_verdict_open() -> None:
    members = [replace(each, log_sigma_error=np.inf) for each in of_one_law()]
    result = judged(members)
    assert result.verdict is Verdict.CANNOT_BE_SAID
    assert result.sentence == ("Cannot be said: too few of its layers have standard errors.")


# ---- several networks


def test_networks_of_unlike_laws_differ_by_model() -> None:
    here = of_one_law()
    there = drawn(lognormal_at(-3, 1.3), "lognormal", seed=8, model="other")
    result = judged(here + there)
    assert result.verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL
    assert result.constancy[0].icc_by_model == pytest.approx(1, abs=0.01)
    assert abs(result.constancy[2].icc_by_model) < 0.2


def test_networks_of_one_law_support_the_claim_together() -> None:
    there = drawn(lognormal_at(-4, 1.3), "lognormal", seed=9, model="other")
    assert judged(of_one_law() + there).verdict is Verdict.SUPPORTS


def test_the_sentence_of_support_has_every_number() -> None:
    members = [replace(each, log_mean=-4.0, log_sigma=1.3) for each in of_one_law()]
    sentence = universality(members, at_half=members, at_double=[]).sentence
    assert sentence == (
        "Supports the claim: 24 of 24 highly connected layers are lognormal, more than half must be; "
        "mu differs between layers by a standard deviation of 0, up to 0.419 counts as universal (untrained: 0.289); "
        "sigma differs between layers by a standard deviation of 0, up to 0.0919 counts as universal (untrained: 0); "
        "one law for all of them costs 0 nats per weight, up to 0.01 counts as one law; "
        "at half the threshold (24 layers): supports the claim; at double the threshold (0 layers): cannot be said."
    )


def test_the_sentence_names_the_clause_that_failed() -> None:
    members = [replace(each, log_sigma=1.0 + index % 2, log_sigma_error=0.0) for index, each in enumerate(of_one_law())]
    assert judged(members).sentence == (
        "Lognormal, not universal: sigma differs between layers by a standard deviation of 0.511, "
        "up to 0.106 counts as universal (untrained: 0); "
        "one law for all of them costs 0.116 nats per weight, up to 0.01 counts as one law."
    )


def test_lognormal_layers_whose_scale_follows_the_fan_in_are_not_of_one_law() -> None:
    result = judged(
        drawn(lambda rng, _, fan_in: rng.lognormal(-np.log(fan_in) / 2, 1.3, (ROWS, fan_in)), "lognormal", seed=10)
    )
    assert result.verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL
    assert [clause.holds for clause in result.clauses] == [True, True, True, False, False]


# ---- layers of which no law is known


def test_layers_without_a_law_count_against_most() -> None:
    members = of_one_law()
    few = universality(members, at_half=members, at_double=members, lawless=(23, 0, 0))
    assert few.verdict is Verdict.SUPPORTS
    many = universality(members, at_half=members, at_double=members, lawless=(24, 0, 0))
    assert many.verdict is Verdict.CANNOT_BE_SAID
    assert "24 of 48 layers have no law or are undecided, so more than half may be lognormal" in many.sentence


def test_layers_that_might_as_well_be_lognormal_leave_the_claim_open() -> None:
    members = [replace(each, family="undecided", may_be_lognormal=True) for each in of_one_law()]
    assert judged(members).verdict is Verdict.CANNOT_BE_SAID
    surely_not = [replace(each, family="undecided") for each in of_one_law()]
    assert judged(surely_not).verdict is Verdict.UNIVERSAL_NOT_LOGNORMAL
