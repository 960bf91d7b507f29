"""What an audit objects to. RULES is the table; a rule is one entry with its code, level, check and documentation."""

from jaynes_audit.analyzers.rules.files import FILE_RULES, UNSUPPORTED_DTYPE
from jaynes_audit.analyzers.rules.rule import Finding, LayerRule, Level, Rule
from jaynes_audit.analyzers.rules.values import VALUE_RULES

RULES: tuple[Rule, ...] = (*FILE_RULES, *VALUE_RULES)

__all__ = ["FILE_RULES", "RULES", "UNSUPPORTED_DTYPE", "VALUE_RULES", "Finding", "LayerRule", "Level", "Rule"]
