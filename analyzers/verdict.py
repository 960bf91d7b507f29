"""Audit -> findings: every rule that is on asked about everything it can judge, with what the project decided."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from jaynes_audit.analyzers.audit import BY_REQUEST, NOT_KEPT, Audit, LeftOut, LeftOutReason
from jaynes_audit.analyzers.checkpoints.quoted import listed
from jaynes_audit.analyzers.rules import AUDIT_RULES, PICKLE_CHECKPOINT, RULES, UNSUPPORTED_DTYPE, Finding, Level
from jaynes_audit.analyzers.rules.hygiene import INCOMPLETE_AUDIT
from jaynes_audit.analyzers.rules.policy import Policy

USUAL_POLICY = Policy(on=frozenset(rule.code for rule in RULES if rule.is_usual))

UNREAD = frozenset(
    {
        *BY_REQUEST,
        LeftOutReason.NOT_DECODED,
        LeftOutReason.HEADERS_ONLY,
        LeftOutReason.MISSING,
        LeftOutReason.REFUSED,
        LeftOutReason.COULD_NOT_READ,
    }
)

OF_ALL_BLOCKS = frozenset({"JN108", "JN109", "JN113", "JN205", "JN207"})
"""Rules that object to a block because of all others: of a sample they would be asked about other networks."""

_RULE_OF_CODE = {rule.code: rule for rule in RULES}
_WORST_FIRST = list(Level)


def findings_of(audit: Audit, policy: Policy = USUAL_POLICY) -> tuple[Finding, ...]:
    """Give all that the rules object to that need no baseline, the worst first, then by rule and subject."""
    of_files = [_RULE_OF_CODE[defect.rule].finding(defect.file, defect.sentence) for defect in audit.defects]
    unasked = OF_ALL_BLOCKS if audit.is_sample else frozenset()
    of_layers = [
        finding
        for rule in AUDIT_RULES
        if policy.asks(rule) and rule.code not in unasked
        for finding in rule.findings(audit, policy.thresholds_of)
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
    """That not everything was read, which is a note where no more is left out than was asked for."""
    unread = [each for each in audit.left_out if each.reason in UNREAD]
    if unread and not audit.defects and all(map(_by_request, unread)):
        told = INCOMPLETE_AUDIT.finding(audit.target, f"{len(unread):,} of its layers were left out, as was asked")
        yield replace(told, level=Level.NOTE)
    elif unread or not audit.coverage.complete:
        what = f"{len(unread):,} of its tensors or layers were not read" if unread else "a part of it was refused"
        yield INCOMPLETE_AUDIT.finding(audit.target, what)


def _by_request(unread: LeftOut) -> bool:
    """Whether this run was asked to leave it out. What a sketch archive lacks was another's choice."""
    return unread.reason in BY_REQUEST | {LeftOutReason.HEADERS_ONLY} and unread.explanation != NOT_KEPT


def _undecoded(audit: Audit) -> Iterator[Finding]:
    """One finding for each reason, however many tensors it keeps from being read."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for each in audit.left_out:
        if each.reason is LeftOutReason.NOT_DECODED:
            names[each.explanation].append(each.name)
    for explanation, of_reason in names.items():
        more = f" (so are {listed(of_reason[1:], most=2)})" if len(of_reason) > 1 else ""
        yield UNSUPPORTED_DTYPE.finding(of_reason[0], f"{explanation}{more}")
