"""Baseline, model now, what is accepted -> Baseline: only the lines that somebody has approved change."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from jaynes_audit.analyzers.baseline.entry import Baseline, Entry, FileDigest, Known
from jaynes_audit.analyzers.baseline.keeping import place_in_file
from jaynes_audit.analyzers.rules import RULES, Finding
from jaynes_audit.analyzers.rules.files import DIGEST_MISMATCH
from jaynes_audit.analyzers.rules.policy import matches

OF_CHANGE = frozenset(rule.code for rule in RULES if rule.needs_baseline)

Key = TypeVar("Key", bound=Hashable)
Named = TypeVar("Named", bound=Entry | FileDigest)


class DifferenceKind(StrEnum):
    """What happened to a line."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A layer whose line is not the same in both, a known finding that only one of them has, or a file's digest.

    `rule` is the finding's code, that of the rule about digests for a file, and empty for a layer; `name` is the layer,
    the file, or what the finding is about.
    """

    name: str
    kind: DifferenceKind
    rule: str = ""
    is_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What a user approves: whatever rules of these codes (or beginnings of codes) object to, or layers by pattern.

    Digests of files are approved by the code alone: a pattern of layers says nothing of the files that they lie in.
    """

    codes: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    everything: bool = False

    def covers(self, difference: Difference, codes: Iterable[str]) -> bool:
        """Whether a difference is approved; `codes` are those of the rules that object to it.

        A line is rewritten as a whole, so by code it is approved only where every rule that objects to it is.
        """
        by_pattern = not difference.is_file and any(matches(difference.name, pattern) for pattern in self.tensors)
        if self.everything or by_pattern:
            return True
        objected = [code for code in (difference.rule, *codes) if code]
        return bool(objected) and all(code.startswith(self.codes) for code in objected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A baseline brought up to date as far as was approved.

    `remaining` are the differences left that a finding is about, so the gate goes on telling it; `untold` those that
    none is about, such as the lines of a healthy cast, which stay as they were too.
    """

    baseline: Baseline
    accepted: tuple[Difference, ...]
    remaining: tuple[Difference, ...]
    untold: tuple[Difference, ...]

    @property
    def summary(self) -> str:
        """How many lines came, went and changed."""
        kinds = [each.kind for each in self.accepted]
        return " ".join(f"{kind}{kinds.count(kind):,}" for kind in DifferenceKind)


def changes(before: Baseline, now: Baseline) -> tuple[Difference, ...]:
    """Give the lines that differ: the layers in the order of the file, then the known findings, then files.

    Files are compared where those of `now` were hashed.
    """
    layers = _compared(
        {each.name: each for each in before.entries},
        {each.name: each for each in now.entries},
    )
    known = _compared({each: each for each in before.known}, {each: each for each in now.known})
    files = _compared(_by_name(before.files), _by_name(now.files)) if now.files else {}
    return (
        *(Difference(name=name, kind=layers[name]) for name in sorted(layers, key=place_in_file)),
        *(
            Difference(name=each.subject, kind=known[each], rule=each.rule)
            for each in sorted(known, key=lambda each: (each.rule, place_in_file(each.subject)))
        ),
        *(
            Difference(name=name, kind=files[name], rule=DIGEST_MISMATCH.code, is_file=True)
            for name in sorted(files, key=place_in_file)
        ),
    )


def updated(before: Baseline, now: Baseline, findings: Iterable[Finding], acceptance: Acceptance) -> Update:
    """Rewrite the lines that are approved, and no other.

    `findings` are what the gate objects to when `now` is held against `before`, or what of it decides. One of change
    that is about no layer is about the model, and so about every layer that differs.
    """
    findings = tuple(findings)
    differences = changes(before, now)
    codes = _codes_by_name(before, now, findings)
    told = {finding.rule for finding in findings}
    accepted = tuple(each for each in differences if acceptance.covers(each, () if each.rule else codes[each.name]))
    approved = frozenset(accepted)
    left = [each for each in differences if each not in approved]
    remaining = tuple(each for each in left if (each.rule in told if each.rule else codes[each.name]))
    told_of = frozenset(remaining)
    layers = {each.name for each in accepted if not each.rule}
    files = {each.name for each in accepted if each.is_file}
    findings_changed = {Known(rule=each.rule, subject=each.name) for each in accepted if each.rule and not each.is_file}
    source = before if left else now
    return Update(
        baseline=replace(
            source,
            statistics=before.statistics,
            entries=_merged(before.entries, now.entries, layers),
            known=_merged_known(before.known, now.known, findings_changed),
            files=_merged(before.files, now.files, files),
        ),
        accepted=accepted,
        remaining=remaining,
        untold=tuple(each for each in left if each not in told_of),
    )


def _compared(before: Mapping[Key, object], now: Mapping[Key, object]) -> dict[Key, DifferenceKind]:
    kinds = {key: DifferenceKind.REMOVED for key in before if key not in now}
    kinds |= {key: DifferenceKind.ADDED for key in now if key not in before}
    return kinds | {key: DifferenceKind.CHANGED for key in before if key in now and before[key] != now[key]}


def _by_name(files: Iterable[FileDigest]) -> dict[str, FileDigest]:
    return {each.name: each for each in files}


def _codes_by_name(before: Baseline, now: Baseline, findings: Iterable[Finding]) -> dict[str, list[str]]:
    codes: dict[str, list[str]] = {each.name: [] for each in (*before.entries, *now.entries)}
    of_model: list[str] = []
    for finding in findings:
        if finding.rule in OF_CHANGE:
            codes.get(finding.subject, of_model).append(finding.rule)
    return {name: [*own, *of_model] for name, own in codes.items()}


def _merged(before: tuple[Named, ...], now: tuple[Named, ...], accepted: set[str]) -> tuple[Named, ...]:
    kept = [each for each in before if each.name not in accepted]
    taken = [each for each in now if each.name in accepted]
    return tuple(sorted([*kept, *taken], key=lambda each: place_in_file(each.name)))


def _merged_known(before: tuple[Known, ...], now: tuple[Known, ...], accepted: set[Known]) -> tuple[Known, ...]:
    kept = [each for each in before if each not in accepted]
    taken = [each for each in now if each in accepted]
    return tuple(sorted([*kept, *taken], key=lambda each: (each.rule, place_in_file(each.subject))))
