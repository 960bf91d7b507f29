"""Every rule objects to a checkpoint that has its fault, and has nothing against one that has not."""

from importlib import import_module
from pathlib import Path

import pytest

from jaynes_audit.analyzers.rules import RULES
from tests.rules.case import Asked, Case, findings_about

MODULES = sorted(file.stem for file in Path(__file__).parent.glob("cases_*.py"))
GATHERED = [(code, case) for module in MODULES for code, case in import_module(f"tests.rules.{module}").CASES.items()]
CASES: dict[str, Case] = dict(GATHERED)


def rules_that_object(asked: Asked) -> set[str]:
    return {finding.rule for finding in findings_about(asked)}


@pytest.mark.parametrize("code", CASES)
def test_a_rule_objects_to_a_checkpoint_that_has_its_fault(code: str, tmp_path: Path) -> None:
    assert code in rules_that_object(CASES[code].failing(tmp_path))


@pytest.mark.parametrize("code", CASES)
def test_a_rule_has_nothing_against_a_checkpoint_that_has_not(code: str, tmp_path: Path) -> None:
    assert code not in rules_that_object(CASES[code].passing(tmp_path))


def test_every_rule_has_one_case() -> None:
    assert sorted(code for code, _ in GATHERED) == [rule.code for rule in RULES]
