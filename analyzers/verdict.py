"""Audit -> findings: every rule that is on asked about everything it can judge, with what the project decided."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from jaynes_audit.analyzers.audit import Audit, LeftOutReason
from jaynes_audit.analyzers.checkpoints.quoted import listed
from jaynes_audit.analyzers.rules import AUDIT_RULES, PICKLE_CHECKPOINT, RULES, UNSUPPORTED_DTYPE, Finding, Level
from jaynes_audit.analyzers.rules.hygiene import INCOMPLETE_AUDIT
from jaynes_audit.analyzers.rules.policy import Policy

USUAL_POLICY = Policy(on=frozenset(rule.code for rule in RULES if rule.is_usual))

UNREAD = frozenset(
    {
        LeftOutReason.NOT_DECODED,
        LeftOutReason.NOT_REQUESTED,
        LeftOutReason.HEADERS_ONLY,
        LeftOutReason.MISSING,
        LeftOutReason.REFUSED,
        LeftOutReason.COULD_NOT_READ,
    }
)

_RULE_OF_CODE = {rule.code: rule for rule in RULES}
_WORST_FIRST = list(Level)


def findings_of(audit: Audit, policy: Policy = USUAL_POLICY) -> tuple[Finding, ...]:
    """Give all that the rules object to that need no baseline, the worst first, then by rule and subject."""
    of_files = [_RULE_OF_CODE[defect.rule].finding(defect.file, defect.sentence) for defect in audit.defects]
    of_layers = [
        finding for rule in AUDIT_RULES if policy.asks(rule) for finding in rule.findings(audit, policy.thresholds_of)
    ]
    pickles = [
        PICKLE_CHECKPOINT.finding(file, "a pickle; it was read here without being run") for file in audit.pickles
    ]
    asked = [
        *(each for each in [*of_files, *pickles, *_undecoded(audit), *_unread(audit)] if each.rule in policy.on),
        *of_layers,
    ]
    return worst_first([replace(each, level=policy.level_of(each)) for each in asked])


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Order findings by level, then by rule; those of one rule stay as they are."""
    return tuple(sorted(findings, key=lambda each: (_WORST_FIRST.index(each.level), each.rule)))


def _unread(audit: Audit) -> Iterator[Finding]:
    """That something was asked for and not read."""
    coverage = audit.coverage
    unread = sum(each.reason in UNREAD for each in audit.left_out)
    if not coverage.complete or unread:
        what = f"{unread:,} of its tensors or layers were not read" if unread else "a part of it was refused"
        yield INCOMPLETE_AUDIT.finding(audit.target, what)


def _undecoded(audit: Audit) -> Iterator[Finding]:
    """One finding for each reason, however many tensors it keeps from being read."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for each in audit.left_out:
        if each.reason is LeftOutReason.NOT_DECODED:
            names[each.explanation].append(each.name)
    for explanation, of_reason in names.items():
        more = f" (so are {listed(of_reason[1:], most=2)})" if len(of_reason) > 1 else ""
        yield UNSUPPORTED_DTYPE.finding(of_reason[0], f"{explanation}{more}")
