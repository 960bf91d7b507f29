"""The claim tried on whole audits: which layers count, and at which threshold."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from jaynes_audit.analyzers.audit import Audit, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.claim import _members, try_claim
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.layer_audit import Criterion, LayerAudit
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.universality.universality import FamilyShare, Threshold, Universality, Verdict
from tests.support import audits

BABBLE = Path(__file__).parents[2] / "fixtures" / "babble"


@cache
def audit_of(name: str) -> Audit:
    return audit_checkpoint(open_checkpoint(str(BABBLE / name)))


def lognormal(number: int, *, mu: float = -4.0, columns: int = 256, **changes: object) -> LayerAudit:
    """A layer that is lognormal with its row and column scales and without them."""
    fitted = audits.fit(mu, weights=256 * columns, **audits.LOGNORMAL_LIKE)
    told_by = audits.evidence(Family.LOGNORMAL, residual=Family.LOGNORMAL)
    made = audits.layer(
        f"layers.{number}.mlp.up.weight", depth=number, columns=columns, fitted=fitted, told_by=told_by, rms=0.04
    )
    return replace(made, **changes)


def gaussian(number: int, **changes: object) -> LayerAudit:
    made = audits.layer(f"layers.{number}.mlp.down.weight", Role.MLP_DOWN, depth=number)
    return replace(made, **changes)


def counted(result: Universality) -> dict[Threshold, int]:
    return {trial.threshold: trial.layers for trial in result.trials}


def families(result: Universality) -> dict[str, int]:
    return {each.family: each.layers for each in result.families}


# ---- fixtures


def test_an_untrained_network_is_universal_but_not_lognormal() -> None:
    result = try_claim([audit_of("step0")])
    assert result.verdict is Verdict.UNIVERSAL_NOT_LOGNORMAL
    assert result.families == (FamilyShare(family="Gaussian", layers=20, share=1.0),)
    assert {trial.verdict for trial in result.trials} == {Verdict.UNIVERSAL_NOT_LOGNORMAL}


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32"])
def test_a_trained_network_is_not_lognormal_in_any_format(name: str) -> None:
    result = try_claim([audit_of(name)])
    assert result.verdict not in {Verdict.SUPPORTS, Verdict.LOGNORMAL_NOT_UNIVERSAL, Verdict.CANNOT_BE_SAID}
    assert families(result) == families(try_claim([audit_of("fp32")]))


def test_two_checkpoints_are_tried_together() -> None:
    untrained, trained = audit_of("step0"), audit_of("bf16")
    together = try_claim([untrained, trained])
    assert counted(together) == {threshold: 2 * layers for threshold, layers in counted(try_claim([untrained])).items()}
    apart = [families(try_claim([each])) for each in (untrained, trained)]
    assert families(together) == {
        family: sum(each.get(family, 0) for each in apart) for family in {name for each in apart for name in each}
    }
    assert together.verdict is not Verdict.SUPPORTS


def test_the_fixtures_layers_at_half_and_at_double_the_threshold_are_those_of_their_shapes() -> None:
    audit = audit_of("step0")
    hidden = [layer for layer in audit.layers if layer.fan_in and layer.role not in {Role.EMBEDDING, Role.HEAD}]
    expected = {
        threshold: sum(
            layer.fan_in >= 64 * factor and layer.rows * layer.columns >= 10_000 * factor for layer in hidden
        )
        for threshold, factor in ((Threshold.CHOSEN, 1), (Threshold.HALF, 0.5), (Threshold.DOUBLE, 2))
    }
    assert counted(try_claim([audit])) == expected
    assert len(set(expected.values())) == 3


# ---- which layers count


def test_lognormal_layers_of_one_law_support_the_claim() -> None:
    result = try_claim([audits.audit(*map(lognormal, range(10)))])
    assert result.verdict is Verdict.SUPPORTS
    assert families(result) == {"lognormal": 10}


def test_lognormal_layers_of_unlike_scale_do_not() -> None:
    result = try_claim([audits.audit(*(lognormal(number, mu=-4 - number / 4) for number in range(10)))])
    assert result.verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL


def test_seven_layers_are_too_few_in_one_checkpoint_and_enough_in_two() -> None:
    seven = audits.audit(*map(lognormal, range(7)))
    assert try_claim([seven]).verdict is Verdict.CANNOT_BE_SAID
    assert try_claim([seven, replace(seven, target="another")]).verdict is Verdict.SUPPORTS
    assert try_claim([]).verdict is Verdict.CANNOT_BE_SAID


def test_a_tied_layer_counts_once() -> None:
    layers = [lognormal(number) for number in range(9)]
    tied = [replace(each, name=f"again.{each.name}", tied_to=each.name) for each in layers]
    assert counted(try_claim([audits.audit(*layers, *tied)]))[Threshold.CHOSEN] == 9


@pytest.mark.parametrize("role", [Role.EMBEDDING, Role.HEAD])
def test_embeddings_and_heads_are_no_hidden_layers(role: Role) -> None:
    end = gaussian(0, role=role)
    assert counted(try_claim([audits.audit(*map(lognormal, range(9)), end)]))[Threshold.CHOSEN] == 9


@pytest.mark.parametrize(
    "changes",
    [
        {"fit": NotFitted("why"), "errors": NotFitted("why")},
        {"errors": NotFitted("why")},
        {"fit": audits.fit(skewness=math.nan)},
    ],
    ids=["no fit", "no errors", "a fit that is not finite"],
)
def test_a_layer_without_finite_numbers_does_not_count(changes: dict[str, object]) -> None:
    result = try_claim([audits.audit(*map(lognormal, range(9)), gaussian(9, **changes))])
    assert counted(result)[Threshold.CHOSEN] == 9


def test_each_checkpoint_has_its_own_criterion() -> None:
    layers = [lognormal(number, columns=64 if number % 2 else 256) for number in range(20)]
    usual = audits.audit(*layers)
    strict = replace(usual, criterion=Criterion(min_fan_in=256, min_weights=10_000))
    assert counted(try_claim([usual])) == {Threshold.CHOSEN: 20, Threshold.HALF: 20, Threshold.DOUBLE: 10}
    assert counted(try_claim([strict])) == {Threshold.CHOSEN: 10, Threshold.HALF: 10, Threshold.DOUBLE: 0}
    assert counted(try_claim([usual, strict])) == {Threshold.CHOSEN: 30, Threshold.HALF: 30, Threshold.DOUBLE: 10}


@pytest.mark.parametrize(("fan_in", "weights"), [(64, 40_000), (512, 10_000)])
def test_the_thresholds_are_of_connections_and_of_weights(fan_in: int, weights: int) -> None:
    criterion = Criterion(min_fan_in=fan_in, min_weights=weights)
    layers = [lognormal(number, columns=64 * 2 ** (number % 4)) for number in range(8)]  # 16,384 weights to 131,072
    result = try_claim([replace(audits.audit(*layers), criterion=criterion)])
    for threshold, factor in ((Threshold.CHOSEN, 1), (Threshold.HALF, 0.5), (Threshold.DOUBLE, 2)):
        expected = sum(each.fan_in >= fan_in * factor and each.counts.weights >= weights * factor for each in layers)
        assert counted(result)[threshold] == expected


def test_what_holds_only_for_the_widest_layers_is_not_supported() -> None:
    wide = [lognormal(number) for number in range(10)]
    narrow = [gaussian(number, fan_in=40) for number in range(10, 22)]
    result = try_claim([audits.audit(*wide, *narrow)])
    assert counted(result) == {Threshold.CHOSEN: 10, Threshold.HALF: 22, Threshold.DOUBLE: 10}
    assert result.verdict is not Verdict.SUPPORTS


# ---- a layer beside others


def test_depth_is_relative_to_the_last_block_of_the_layers_own_stack() -> None:
    encoder = [lognormal(number, stack="encoder") for number in range(5)]
    decoder = [lognormal(number, stack="decoder") for number in range(3)]
    alone = lognormal(0, stack="", depth=None)
    audit = audits.audit(*encoder, *decoder, alone)
    depths = [member.relative_depth for member in _members(audit, audit.criterion)]
    assert depths == [0, 0.25, 0.5, 0.75, 1, 0, 0.5, 1, None]


def test_a_stack_of_one_block_has_no_relative_depth() -> None:
    audit = audits.audit(lognormal(0))
    assert [member.relative_depth for member in _members(audit, audit.criterion)] == [None]


def test_a_member_is_what_the_audit_says_of_the_layer() -> None:
    layer = lognormal(1, mu=-3.7, declared_sd=0.02)
    audit = audits.audit(lognormal(0), layer, target="here")
    member = list(_members(audit, audit.criterion))[1]
    assert (member.model, member.role, member.family) == ("here", layer.role, "lognormal")
    assert (member.weights, member.fan_in) == (65_536, 256)
    assert (member.log_mean, member.log_sigma, member.skewness) == (-3.7, 1.3, 0.02)
    assert (member.log_mean_error, member.log_sigma_error, member.skewness_error) == (0.012, 0.006, 0.03)
    assert member.log_rms == pytest.approx(math.log(0.04))
    assert member.declared_sd == 0.02
    assert list(member.quantiles) == layer.fit.standard_quantiles.tolist()
