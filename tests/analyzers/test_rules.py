"""Every rule objects to exactly what it is there for, and says why it matters and what to do."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import Defect
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import FILE_RULES, RULES, VALUE_RULES, Finding, LayerRule, Level, Rule
from jaynes_audit.analyzers.verdict import findings_of
from tests.support.checkpoints import Stored, checkpoint, stored

UP = "model.layers.0.mlp.up_proj.weight"
SOUND = np.random.default_rng(1).standard_normal((20, 30))


def findings(folder: Path, weights: Stored, name: str = UP) -> list[Finding]:
    return list(findings_of(audit_checkpoint(checkpoint(folder, {name: weights}))))


def with_one(value: float) -> np.ndarray:
    weights = SOUND.copy()
    weights[3, 4] = value
    return weights


# ---- the registry


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_says_why_it_matters_and_what_to_do(rule: Rule) -> None:
    assert "\n\nWhy it matters: " in rule.documentation
    assert "\nWhat to do: " in rule.documentation
    assert rule.documentation == rule.documentation.strip()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_has_a_code_and_a_name_in_the_same_style(rule: Rule) -> None:
    assert re.fullmatch(r"JN\d{3}", rule.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)


def test_no_two_rules_share_a_code_or_a_name() -> None:
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


def test_rules_stand_in_the_order_of_their_codes() -> None:
    assert [rule.code for rule in RULES] == sorted(rule.code for rule in RULES)


# ---- what each objects to

OBJECTED: dict[str, list[np.ndarray]] = {
    "JN101": [with_one(np.nan), with_one(np.inf), with_one(-np.inf), np.full((4, 4), np.nan)],
    "JN102": [np.zeros((20, 30)), -np.zeros((20, 30)), np.zeros((2, 2))],
    "JN103": [np.full((20, 30), 0.1), np.full((20, 30), -7.0), np.full((300, 400), 0.3)],
}
NOT_OBJECTED: dict[str, list[np.ndarray]] = {
    "JN101": [SOUND, with_one(3e38), with_one(0)],
    "JN102": [SOUND, np.where(SOUND[3, 4] == SOUND, 1e-40, 0.0), np.zeros(20), np.zeros((1, 20)), np.array(0.0)],
    "JN103": [
        SOUND,
        np.full(20, 0.1),
        np.full((1, 20), 1.0),
        np.sign(SOUND),
        with_one(0) * 0,
        np.where(SOUND > 0, 1.0, 0),
    ],
}


def cases(table: dict[str, list[np.ndarray]]) -> list[object]:
    return [
        pytest.param(rule, weights, id=f"{rule.code}-{number}")
        for rule in VALUE_RULES
        for number, weights in enumerate(table[rule.code])
    ]


@pytest.mark.parametrize(("rule", "weights"), cases(OBJECTED))
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F64])
def test_a_rule_objects_to_its_fault_alone(rule: LayerRule, weights: np.ndarray, dtype: Dtype, tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, stored(weights, dtype))
    assert (finding.rule, finding.name, finding.level, finding.subject) == (rule.code, rule.name, rule.level, UP)
    assert finding.sentence


@pytest.mark.parametrize(("rule", "weights"), cases(NOT_OBJECTED))
def test_a_rule_has_nothing_against_other_weights(rule: LayerRule, weights: np.ndarray, tmp_path: Path) -> None:
    assert rule.code not in {finding.rule for finding in findings(tmp_path, stored(weights))}


def test_every_rule_of_values_has_examples() -> None:
    assert {rule.code for rule in VALUE_RULES} == set(OBJECTED) == set(NOT_OBJECTED)


def test_nan_and_infinity_are_told_apart(tmp_path: Path) -> None:
    weights = with_one(np.nan)
    weights[0, :2] = np.inf, -np.inf
    (finding,) = findings(tmp_path, stored(weights))
    assert finding.sentence == "1 NaN and 2 infinite among 600 weights"


@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.bias", "base_model.model.layers.0.q_proj.lora_B.weight"])
def test_what_training_starts_from_may_be_zero(name: str, tmp_path: Path) -> None:
    assert findings(tmp_path, stored(np.zeros((20, 30))), name) == []


def test_float32_that_differ_in_their_low_halves_alone_are_not_constant(tmp_path: Path) -> None:
    weights = 1 + np.random.default_rng(2).random((100, 100)) * 0.007
    assert findings(tmp_path, stored(weights)) == []


def test_a_constant_is_told_with_its_value(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, stored(np.full((20, 30), -0.25)))
    assert finding.sentence == "all 600 weights have the magnitude 0.25"


# ---- findings of an audit


@pytest.mark.parametrize("rule", FILE_RULES, ids=lambda rule: rule.code)
def test_a_defect_of_a_file_is_the_finding_of_its_rule(rule: Rule, tmp_path: Path) -> None:
    sound = checkpoint(tmp_path, {UP: stored(SOUND)})
    defect = Defect(rule=rule.code, case="some-case", file="model.safetensors", sentence="It is not whole.")
    audit = audit_checkpoint(replace(sound, defects=(defect,)))
    assert findings_of(audit) == (
        Finding(
            rule=rule.code, name=rule.name, level=rule.level, subject="model.safetensors", sentence="It is not whole."
        ),
    )
    assert not audit.coverage.complete


def test_a_sound_checkpoint_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, stored(SOUND)) == []


def test_findings_come_worst_first_and_then_by_rule_and_layer(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.mlp.up_proj.weight": stored(np.full((4, 4), 1.0)),
        "model.layers.1.mlp.up_proj.weight": stored(np.zeros((4, 4))),
        "model.layers.10.mlp.up_proj.weight": stored(np.full((4, 4), np.nan)),
        "model.layers.2.mlp.up_proj.weight": stored(np.full((4, 4), np.inf)),
    }
    defects = [Defect(rule=code, case="", file="a.b.file", sentence="It is not whole.") for code in ("JN006", "JN001")]
    whole = replace(checkpoint(tmp_path, tensors), defects=tuple(defects))
    found = findings_of(audit_checkpoint(whole))
    assert [(finding.level, finding.rule, finding.subject.split(".")[2]) for finding in found] == [
        (Level.ERROR, "JN001", "file"),
        (Level.ERROR, "JN006", "file"),
        (Level.ERROR, "JN101", "2"),
        (Level.ERROR, "JN101", "10"),
        (Level.ERROR, "JN102", "1"),
        (Level.WARNING, "JN103", "0"),
    ]
