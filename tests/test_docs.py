"""The documentation keeps up with the code."""

from pathlib import Path

import pytest

from jaynes_audit.analyzers.rules import RULES, Rule
from jaynes_audit.cli.outputs import Format

REPORT = (Path(__file__).parent.parent / "docs" / "report.md").read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_stands_in_the_table(rule: Rule) -> None:
    what_is_found = " ".join(rule.documentation.split("\n\n")[0].split())
    assert f"| {rule.code} | {rule.name} | {rule.level} | {what_is_found} |" in REPORT


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_says_why_it_matters_and_what_to_do(rule: Rule) -> None:
    assert "Why it matters:" in rule.documentation
    assert "What to do:" in rule.documentation


def test_no_two_rules_share_a_code_or_a_name() -> None:
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("output_format", Format)
def test_every_format_is_described(output_format: Format) -> None:
    assert f"`{output_format}`" in REPORT
