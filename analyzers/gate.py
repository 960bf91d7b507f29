"""Audit, policy, baseline -> findings, each with its status: what decides whether a build fails."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date

from jaynes_audit.analyzers.audit import BY_REQUEST, Audit
from jaynes_audit.analyzers.baseline.digests import other_files
from jaynes_audit.analyzers.baseline.drift import changed_layers, counterparts, drift, shares_names, unexpected_dtypes
from jaynes_audit.analyzers.baseline.entry import STATISTICS, Baseline, Known, StoredBaseline
from jaynes_audit.analyzers.baseline.keeping import NEVER_KNOWN, known_of
from jaynes_audit.analyzers.checkpoints.file_digests import HashedFiles
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.rules import RULES, Finding, Level, Status
from jaynes_audit.analyzers.rules.hygiene import EXPIRED_IGNORE, STALE_BASELINE, UNUSED_IGNORE
from jaynes_audit.analyzers.rules.policy import Ignore, Policy
from jaynes_audit.analyzers.rules.values import rounded_twice
from jaynes_audit.analyzers.verdict import findings_of, worst_first

ERRORS = frozenset(rule.code for rule in RULES if rule.level is Level.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The baseline that a model is held against, and what the model is like now in the same terms.

    `hashed` are the model's files, where they are to be those of the baseline.
    """

    against: StoredBaseline
    now: Baseline
    hashed: HashedFiles | None = None


def judge(audit: Audit, policy: Policy, held: Held | None, *, today: date) -> tuple[Finding, ...]:
    """Give all that the rules object to in a model, the worst first, and say of each whether it is news.

    What the baseline's model had already is baselined; what an ignore of the policy covers is ignored until its day.

    Raises UsageError where a part of the layers was asked for, and their names do not tell which of the baseline's they
    are.
    """
    if held and _is_part(audit) and held.now.entries and not shares_names(held.against.baseline, held.now):
        raise UsageError(
            f"the layers of {quoted_path(audit.target)} have other names than in {quoted_path(held.against.place)}, "
            "and which is which only all of them together tell; leave out --sample, --layers and --exclude"
        )
    found = _of_itself(audit, policy, held)
    found += _against(held, audit, policy) if held else unexpected_dtypes(audit, policy)
    known = _known(held) if held else frozenset()
    return worst_first(
        [_with_status(each, policy, today=today, is_known=known_of(each, audit.target) in known) for each in found]
    )


def about_the_run(policy: Policy, findings: Iterable[Finding], *, today: date, is_whole: bool) -> tuple[Finding, ...]:
    """Give what is to be said of the policy once all models are judged: ignores that expired or cover nothing.

    Where not all that was asked for could be read, or not all was asked for, no ignore is called unused.
    """
    found = list(findings)
    return worst_first(
        [
            replace(each, level=policy.level_of(each))
            for each in _about_ignores(policy, found, today, is_whole=is_whole)
            if each.rule in policy.on
        ]
    )


def _is_part(audit: Audit) -> bool:
    """Whether layers were left out because they were not asked for."""
    return any(each.reason in BY_REQUEST for each in audit.left_out)


def _of_itself(audit: Audit, policy: Policy, held: Held | None) -> list[Finding]:
    """What is found in a model by itself.

    Of weights that are those of the baseline it is no news that they were rounded before: a cast shows it, as it shows
    that weights which began in 16 bits have only decayed since.
    """
    found = findings_of(audit, policy)
    if not held or not any(each.rule == rounded_twice.code for each in found):
        return [*found]
    same = {*counterparts(held.against.baseline, held.now).values()}
    same -= changed_layers(held.against.baseline, held.now)
    return [each for each in found if each.rule != rounded_twice.code or each.subject not in same]


def _against(held: Held, audit: Audit, policy: Policy) -> Iterator[Finding]:
    stored = held.against
    if stored.is_comparable:
        is_whole = audit.coverage.complete and not _is_part(audit)
        yield from drift(stored.baseline, held.now, policy, target=audit.target, is_whole=is_whole)
    if held.hashed:
        yield from other_files(stored.baseline, held.now, audit, held.hashed, policy)
    if stored.baseline.statistics != STATISTICS and policy.asks(STALE_BASELINE):
        told = f"it has statistics of version {stored.baseline.statistics}, and this is version {STATISTICS}"
        stale = STALE_BASELINE.finding(stored.place, told)
        yield replace(stale, level=policy.level_of(stale))


def _known(held: Held) -> frozenset[Known]:
    """What the baseline's model had already, by the names that its layers have now.

    Of weights that changed, one NaN that was known may have become many; milder findings outlast training.
    """
    known = [each for each in held.against.baseline.known if each.rule not in NEVER_KNOWN]
    if not known:
        return frozenset()
    names = counterparts(held.against.baseline, held.now)
    changed = changed_layers(held.against.baseline, held.now)
    renamed = [replace(each, subject=names.get(each.subject, each.subject)) for each in known]
    return frozenset(each for each in renamed if not (each.rule in ERRORS and each.subject in changed))


def _with_status(finding: Finding, policy: Policy, *, today: date, is_known: bool) -> Finding:
    if finding.rule in policy.final:
        return finding
    for ignore in policy.ignores:
        if ignore.covers(finding) and not ignore.has_expired(today):
            return replace(finding, status=Status.IGNORED, why=ignore.reason)
    return replace(finding, status=Status.BASELINED) if is_known else finding


def _about_ignores(policy: Policy, findings: list[Finding], today: date, *, is_whole: bool) -> Iterator[Finding]:
    for ignore in policy.ignores:
        if ignore.has_expired(today):
            yield EXPIRED_IGNORE.finding(ignore.where, f"it held until {ignore.until}")
        elif is_whole and _could_cover(ignore, policy) and not any(map(ignore.covers, findings)):
            yield UNUSED_IGNORE.finding(ignore.where, "it covers no finding")


def _could_cover(ignore: Ignore, policy: Policy) -> bool:
    """Whether any rule that it is about was asked: of others nothing was to be found."""
    return any(code.startswith(ignore.rule) for code in policy.on)
