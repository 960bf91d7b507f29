"""What an audit or a comparison objects to: each rule is one entry of RULES, with its code, level and documentation."""

from jaynes_audit.analyzers.rules.changes import (
    CHANGE_RULES,
    COMMON_RESCALE,
    EXTRA_TENSOR,
    MISSING_TENSOR,
    UNCHANGED_TENSOR,
    WEIGHTS_CHANGED,
)
from jaynes_audit.analyzers.rules.files import FILE_RULES, PICKLE_CHECKPOINT, UNSUPPORTED_DTYPE
from jaynes_audit.analyzers.rules.hygiene import HYGIENE_RULES
from jaynes_audit.analyzers.rules.laws import LAW_RULES
from jaynes_audit.analyzers.rules.rule import Finding, LayerRule, Level, ModelRule, Precision, Rule, Status
from jaynes_audit.analyzers.rules.structure import STRUCTURE_RULES
from jaynes_audit.analyzers.rules.thresholds import USUAL_THRESHOLDS, Thresholds
from jaynes_audit.analyzers.rules.values import VALUE_RULES

AUDIT_RULES: tuple[LayerRule | ModelRule, ...] = (*VALUE_RULES, *STRUCTURE_RULES, *LAW_RULES)
"""Rules that look at an audit, and need nothing to compare it with."""

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *(*FILE_RULES, *AUDIT_RULES, *CHANGE_RULES, *HYGIENE_RULES),
            *(MISSING_TENSOR, EXTRA_TENSOR, COMMON_RESCALE, UNCHANGED_TENSOR, WEIGHTS_CHANGED),
        ),
        key=lambda rule: rule.code,
    )
)

__all__ = [
    "AUDIT_RULES",
    "CHANGE_RULES",
    "COMMON_RESCALE",
    "EXTRA_TENSOR",
    "FILE_RULES",
    "HYGIENE_RULES",
    "MISSING_TENSOR",
    "PICKLE_CHECKPOINT",
    "RULES",
    "UNCHANGED_TENSOR",
    "UNSUPPORTED_DTYPE",
    "USUAL_THRESHOLDS",
    "WEIGHTS_CHANGED",
    "Finding",
    "LayerRule",
    "Level",
    "ModelRule",
    "Precision",
    "Rule",
    "Status",
    "Thresholds",
]
