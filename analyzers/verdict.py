"""Audit -> findings: every rule asked about everything it can judge."""

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.rules import RULES, VALUE_RULES, Finding, Level

_RULE_OF_CODE = {rule.code: rule for rule in RULES}
_WORST_FIRST = list(Level)


def findings_of(audit: Audit) -> tuple[Finding, ...]:
    """Give all that the rules object to, the worst first, then by rule and subject."""
    of_files = [_RULE_OF_CODE[defect.rule].finding(defect.file, defect.sentence) for defect in audit.defects]
    of_layers = [finding for rule in VALUE_RULES for finding in rule.findings(iter(audit))]
    return tuple(sorted([*of_files, *of_layers], key=lambda each: (_WORST_FIRST.index(each.level), each.rule)))
