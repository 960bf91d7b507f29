"""Audit -> findings: every rule asked about everything it can judge."""

from collections import defaultdict
from collections.abc import Iterator

from jaynes_audit.analyzers.audit import Audit, LeftOutReason
from jaynes_audit.analyzers.checkpoints.quoted import listed
from jaynes_audit.analyzers.rules import RULES, UNSUPPORTED_DTYPE, VALUE_RULES, Finding, Level

_RULE_OF_CODE = {rule.code: rule for rule in RULES}
_WORST_FIRST = list(Level)


def findings_of(audit: Audit) -> tuple[Finding, ...]:
    """Give all that the rules object to, the worst first, then by rule and subject."""
    of_files = [_RULE_OF_CODE[defect.rule].finding(defect.file, defect.sentence) for defect in audit.defects]
    of_layers = [finding for rule in VALUE_RULES for finding in rule.findings(iter(audit))]
    return tuple(
        sorted(
            [*of_files, *_undecoded(audit), *of_layers], key=lambda each: (_WORST_FIRST.index(each.level), each.rule)
        )
    )


def _undecoded(audit: Audit) -> Iterator[Finding]:
    """One finding for each reason, however many tensors it keeps from being read."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for each in audit.left_out:
        if each.reason is LeftOutReason.NOT_DECODED:
            names[each.explanation].append(each.name)
    for explanation, of_reason in names.items():
        more = f" (so are {listed(of_reason[1:], most=2)})" if len(of_reason) > 1 else ""
        yield UNSUPPORTED_DTYPE.finding(of_reason[0], f"{explanation}{more}")
