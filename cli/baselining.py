"""Target -> baseline: written, brought up to date line by line, and looked over."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaynes_audit.analyzers.audit import Audit, LeftOutReason
from jaynes_audit.analyzers.baseline.digests import other_files
from jaynes_audit.analyzers.baseline.drift import drift
from jaynes_audit.analyzers.baseline.entry import STATISTICS, Baseline, StoredBaseline
from jaynes_audit.analyzers.baseline.keeping import baseline_of
from jaynes_audit.analyzers.baseline.places import (
    is_git_reference,
    read_baseline,
    refuse_place,
    rewrite_baseline,
    write_baseline,
)
from jaynes_audit.analyzers.baseline.text import to_text
from jaynes_audit.analyzers.baseline.update import Acceptance, Update, updated
from jaynes_audit.analyzers.checkpoints.file_digests import HashedFiles, hashed_files
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, UsageError
from jaynes_audit.analyzers.rules import Finding, Level
from jaynes_audit.analyzers.rules.files import DIGEST_MISMATCH
from jaynes_audit.analyzers.verdict import findings_of
from jaynes_audit.cli.auditing import Judging, Listeners, Reading, audited, locations_of
from jaynes_audit.cli.exit_codes import ExitCode, counted

BROKEN = ("JN0", "JN101")
"""Rules whose errors keep a model from being approved: a broken file, a weight that is no number."""

UNREAD = frozenset({LeftOutReason.COULD_NOT_READ, LeftOutReason.REFUSED, LeftOutReason.MISSING})
FALSE = frozenset({"", "0", "false", "no", "off"})  # of CI; some systems set it to their own name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A target that was read: what is kept of it, what is wrong with it, and its files, if they were hashed."""

    audit: Audit
    baseline: Baseline
    findings: tuple[Finding, ...]
    hashed: HashedFiles | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What writing a baseline came to. `broken` are the findings that kept it from being written, if any did."""

    baseline: Baseline
    broken: tuple[Finding, ...]


def write(path: Path, target: str, reading: Reading, judging: Judging, *, force: bool) -> Written:
    """Write a new baseline of a target, unless it is broken; with `force` then too.

    Raises UsageError where there is a file already, CouldNotRead where not everything could be read.
    """
    refuse_place(path)
    measured = _measured(target, reading, judging)
    baseline = measured.baseline
    broken = tuple(each for each in measured.findings if each.level is Level.ERROR and each.rule.startswith(BROKEN))
    if not broken or force:
        _refuse_unread(measured.audit, refused_too=False)
        write_baseline(path, to_text(baseline))
        return Written(baseline=baseline, broken=())
    return Written(baseline=baseline, broken=broken)


def update(path: Path, target: str, how: tuple[Reading, Judging], acceptance: Acceptance, *, reason: str) -> Update:
    """Put the lines that are accepted in place of those of the baseline, and leave the others as they are.

    `reason` says why all is accepted, if it is, and is kept in the baseline.

    Raises UsageError where the baseline is missing or damaged, CouldNotRead where not everything could be read.
    """
    if is_git_reference(str(path)):
        raise UsageError(f"{quoted_path(path)} is a version that git keeps; name the file to update")
    stored = read_baseline(str(path))
    reading, judging = how
    if not reading.verify:
        _refuse_unhashed(acceptance, stored)
    measured = _measured(target, reading, judging)
    audit, now = measured.audit, measured.baseline
    _refuse_unread(audit, refused_too=True)
    findings = list(measured.findings)
    if measured.hashed:
        findings += other_files(stored.baseline, now, audit, measured.hashed, judging.policy)
    if stored.is_comparable:
        findings += drift(stored.baseline, now, judging.policy, target=audit.target, is_whole=True)
        found = updated(stored.baseline, now, findings, acceptance)
    elif acceptance.everything:
        found = updated(stored.baseline, now, findings, acceptance)
    else:
        raise UsageError(
            f"{quoted_path(path)} has statistics of version {stored.baseline.statistics}, and this is version "
            f"{STATISTICS}: its lines cannot be compared; approve them all with --all --reason TEXT"
        )
    if found.accepted:
        baseline = replace(found.baseline, statistics=STATISTICS, reason=reason or stored.baseline.reason)
        rewrite_baseline(path, to_text(baseline))
    return found


def _refuse_unhashed(acceptance: Acceptance, stored: StoredBaseline) -> None:
    """Keep digests from being approved, or left behind by what is approved as a whole, where no file is hashed."""
    if DIGEST_MISMATCH.code in acceptance.codes or (acceptance.everything and stored.baseline.files):
        given = "--all" if acceptance.everything else "--accept JN007"
        raise UsageError(f"{given} approves the digests of files, which only --verify reads; give it, too")


def refuse_in_ci(environ: Mapping[str, str], *, yes: bool) -> None:
    """Keep a CI job from approving what it should report. Raises UsageError."""
    if environ.get("CI", "").lower() not in FALSE and not yes:
        raise UsageError(
            "this is a CI job (CI is set), and a baseline that a job updates approves whatever it finds; "
            "update it where somebody looks at it, or say --yes"
        )


def one_location(target: str) -> str:
    """Give the one checkpoint that a target means. Raises UsageError where it means several, and what `expand` does."""
    locations = list(locations_of([target]))
    if len(locations) != 1:
        raise UsageError(f"{quoted_path(target)} names {len(locations):,} checkpoints, and a baseline is of one")
    (location,) = locations
    if isinstance(location, str):
        return location
    kinds = {ExitCode.MISUSED: UsageError, ExitCode.NOTHING_TO_AUDIT: NothingToAudit}
    raise kinds.get(ExitCode(location.exit_code), CouldNotRead)(location.sentence)


def told_of_update(found: Update, path: Path) -> Sequence[str]:
    """Say what was accepted and what still differs, in lines."""
    lines = [f"{path}: {found.summary}"]
    lines += [f"  accepted: {each.kind} {each.name}" for each in found.accepted]
    lines += [f"  still differs: {each.kind} {each.name}" for each in found.remaining]
    if found.untold:
        lines.append(f"  other lines that differ, where no rule objects, stay as they are: {len(found.untold):,}")
    return lines


def told_of_sound(stored: StoredBaseline) -> str:
    """Say what a sound baseline holds, in a line."""
    baseline = stored.baseline
    return f"{stored.place}: sound; {counted(len(baseline.entries), 'layer')} of {baseline.model}"


def _measured(target: str, reading: Reading, judging: Judging) -> _Measured:
    listeners = Listeners(archive=False, baseline=True)
    audit, checkpoint = audited(one_location(target), reading, listeners)
    findings = findings_of(audit, judging.policy)
    if listeners.baseline is None:
        message = "the numbers of a baseline were asked for"
        raise TypeError(message)
    if not audit.layers and not audit.defects:
        raise NothingToAudit(f"{quoted_path(target)} holds no weight to write a baseline of")
    hashed = hashed_files(checkpoint) if reading.verify else None
    baseline = baseline_of(audit, listeners.baseline, findings, hashed)
    return _Measured(audit=audit, baseline=baseline, findings=findings, hashed=hashed)


def _refuse_unread(audit: Audit, *, refused_too: bool) -> None:
    reasons = UNREAD if refused_too else {LeftOutReason.COULD_NOT_READ}
    unread: Iterable[str] = [each.name for each in audit.left_out if each.reason in reasons]
    number = len(list(unread))
    if number:
        raise CouldNotRead(f"{counted(number, 'layer')} could not be read, so nothing was written; try again")
