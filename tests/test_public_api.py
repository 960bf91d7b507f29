"""`import jaynes_audit`: what a program gets that does not want a command line."""

import subprocess
import sys
from pathlib import Path

import pytest

import jaynes_audit

BABBLE = Path(__file__).parent.parent / "fixtures" / "babble" / "bf16"


def test_every_name_that_is_promised_is_there() -> None:
    for name in jaynes_audit.__all__:
        assert getattr(jaynes_audit, name) is not None


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit_everything'"):
        _ = jaynes_audit.fit_everything


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import jaynes_audit, sys; print({'numpy', 'scipy', 'rich', 'typer', 'msgspec'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert printed == "set()\n"


def test_an_audit_iterates_over_its_layers() -> None:
    audit = jaynes_audit.audit(BABBLE)
    assert len(audit) == len(list(audit)) == 39
    query = next(layer for layer in audit if layer.name == "model.layers.0.self_attn.q_proj.weight")
    assert (query.role, query.depth, query.fan_in, query.counts.weights) == ("attention.q", 0, 128, 16_384)
    assert isinstance(query.fit, jaynes_audit.LognormalFit)


def test_layers_can_be_picked_by_pattern() -> None:
    audit = jaynes_audit.audit(BABBLE, layers=["*.mlp.*"], exclude=["*.down_proj.*"])
    assert {layer.role for layer in audit} == {"mlp.gate", "mlp.up"}


def test_every_layer_has_a_verdict_and_what_it_rests_on() -> None:
    audit = jaynes_audit.audit(BABBLE)
    assert {type(layer.verdict) for layer in audit} == {jaynes_audit.LayerVerdict}
    compared = [layer.evidence.ranking for layer in audit if isinstance(layer.evidence.ranking, jaynes_audit.Ranking)]
    assert len(compared) == 30  # all matrices; the nine norms are none
    assert {ranking.winner.family for ranking in compared} <= set(jaynes_audit.Family)


def test_layers_are_taken_apart_when_asked_to() -> None:
    audit = jaynes_audit.audit(BABBLE, anatomy=True)
    taken_apart = [layer for layer in audit if isinstance(layer.evidence.anatomy, jaynes_audit.Anatomy)]
    assert {layer.name for layer in audit if layer.connected} <= {layer.name for layer in taken_apart}
    assert isinstance(audit.variance, jaynes_audit.VarianceShares)
    assert isinstance(jaynes_audit.audit(BABBLE).variance, jaynes_audit.NotFitted)


def test_the_claim_can_be_tried_on_several_audits() -> None:
    audits = [jaynes_audit.audit(BABBLE), jaynes_audit.audit(BABBLE.parent / "step0")]
    together = jaynes_audit.try_claim(audits)
    assert [trial.layers for trial in together.trials][:1] == [40]
    assert together.verdict == "neither"
    assert jaynes_audit.try_claim([]).verdict == "cannot be said"


def test_its_dict_is_plain_data() -> None:
    as_dict = jaynes_audit.audit(BABBLE).to_dict()
    assert as_dict["coverage"]["tensors"] == 39
    assert type(as_dict["layers"][0]["fit"]["mu"]) is float
    assert as_dict["claim"]["verdict"] == "neither"


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    assert jaynes_audit.audit(BABBLE, jobs=1).to_dict() == jaynes_audit.audit(BABBLE, jobs=5).to_dict()


def test_both_ways_of_reading_give_the_same() -> None:
    assert jaynes_audit.audit(BABBLE, io="mmap").to_dict() == jaynes_audit.audit(BABBLE, io="pread").to_dict()


def test_a_way_of_reading_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(jaynes_audit.UsageError, match="io"):
        jaynes_audit.audit(BABBLE, io="telepathy")


def test_a_missing_path_is_an_error_that_says_so() -> None:
    with pytest.raises(jaynes_audit.CouldNotRead, match="does not exist"):
        jaynes_audit.audit("no/such/checkpoint")


def test_a_training_is_audited_as_on_the_command_line() -> None:
    audit = jaynes_audit.audit_training(
        BABBLE, learning_rate=3e-3, steps=6_000, weight_decay=0.1, optimizer="adamw", initial=BABBLE.parent / "step0"
    )
    ages = [each for each in audit.statements if each.quantity is jaynes_audit.Quantity.RUN_AGE]
    assert [each.answer for each in ages] == [jaynes_audit.Answer.HOLDS, jaynes_audit.Answer.CANNOT_BE_SAID]


def test_an_optimizer_without_laws_is_refused() -> None:
    with pytest.raises(jaynes_audit.UsageError, match="'adamw' and 'sgd'"):
        jaynes_audit.audit_training(BABBLE, optimizer="muon")  # type: ignore[arg-type]
