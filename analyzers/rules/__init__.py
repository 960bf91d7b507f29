"""What an audit or a comparison objects to: each rule is one entry of RULES, with its code, level and documentation."""

from jaynes_audit.analyzers.rules.changes import CHANGE_RULES, COMMON_RESCALE, EXTRA_TENSOR, MISSING_TENSOR
from jaynes_audit.analyzers.rules.files import FILE_RULES, UNSUPPORTED_DTYPE
from jaynes_audit.analyzers.rules.rule import Finding, LayerRule, Level, Rule
from jaynes_audit.analyzers.rules.values import VALUE_RULES

RULES: tuple[Rule, ...] = (*FILE_RULES, *VALUE_RULES, MISSING_TENSOR, EXTRA_TENSOR, *CHANGE_RULES, COMMON_RESCALE)

__all__ = [
    "CHANGE_RULES",
    "COMMON_RESCALE",
    "EXTRA_TENSOR",
    "FILE_RULES",
    "MISSING_TENSOR",
    "RULES",
    "UNSUPPORTED_DTYPE",
    "VALUE_RULES",
    "Finding",
    "LayerRule",
    "Level",
    "Rule",
]
