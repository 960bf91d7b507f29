"""Healthy model, fault -> what the gate says of it that it does not say of the healthy one."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from pathlib import Path

import numpy as np

from benchmarks.faults.files import Format, cut, in_format, write
from benchmarks.faults.injections import TRUNCATED, Damage, Fault, NotPossible, damaged
from benchmarks.faults.model import Model
from benchmarks.faults.reexports import Reexport, Written
from jaynes_audit.analyzers.audit import Audit, audit_checkpoint
from jaynes_audit.analyzers.baseline.entry import Baseline, StoredBaseline
from jaynes_audit.analyzers.baseline.keeping import Keeper, baseline_of
from jaynes_audit.analyzers.baseline.text import from_text, to_text
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.errors import JaynesError
from jaynes_audit.analyzers.gate import Held, judge
from jaynes_audit.analyzers.rules import Finding, Level, Status
from jaynes_audit.analyzers.rules.policy import Expectation, Policy
from jaynes_audit.analyzers.verdict import USUAL_POLICY, findings_of

TODAY = date(2026, 1, 1)  # no ignore is in play, so any day will do
REFUSED = "refused"
CAST = frozenset({"BF16", "F16"})


class Mode(StrEnum):
    """What a faulty file is held against."""

    BASELINE = "baseline"
    CAST = "baseline in fp32"
    TRAINED_ON = "baseline, any change expected"
    ALONE = "no baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The worst level at which something was said that names the damage, and by which rules; None if nothing was.

    `elsewhere` are rules that say something new of what is not damaged.
    """

    level: Level | None
    rules: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One fault in one checkpoint, and what was said in each mode; or why it could not be injected."""

    model: str
    form: Format
    fault: str
    size: int
    named: tuple[str, ...] = ()
    skipped: str = ""
    said: dict[Mode, Said]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An audited checkpoint, and what a baseline keeps of it; only a sentence where it was refused altogether."""

    audit: Audit | None
    baseline: Baseline | None
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarm:
    """What is said of a healthy checkpoint or re-export: each finding as level, rule, subject and sentence."""

    model: str
    name: str
    findings: tuple[tuple[str, str, str, str], ...]


def measured(target: Path) -> Measured:
    """Audit a checkpoint and keep what a baseline needs."""
    keeper = Keeper()
    try:
        audit = audit_checkpoint(open_checkpoint(str(target)), jobs=1, on_measured=keeper.keep)
    except JaynesError as error:
        return Measured(audit=None, baseline=None, refusal=str(error))
    return Measured(audit=audit, baseline=baseline_of(audit, keeper, findings_of(audit)))


def kept(baseline: Baseline) -> StoredBaseline:
    """Write a baseline as text and read it again."""
    return from_text(to_text(baseline).encode(), "baseline.jaynes.jsonl")


def trials(model: Model, form: Format, folder: Path, cases: Iterable[tuple[Fault, int]]) -> Iterator[Trial]:
    """Inject faults of these sizes into a model in one format, and say what is found. Nothing is kept of it."""
    healthy = in_format(model, form)
    if healthy is None:
        return
    target = folder / "model"
    judges = dict(_judges(model, healthy, form, target))
    for fault, size in cases:
        trial = Trial(model=model.name, form=form, fault=fault.name, size=size, said={})
        rng = np.random.default_rng([zlib.crc32(f"{model.name} {form.words} {fault.name}".encode()), size])
        damage = damaged(healthy, fault, size, rng)
        if isinstance(damage, NotPossible):
            yield replace(trial, skipped=damage.reason)
            continue
        place = write(replace(healthy, tensors=damage.tensors), form.container, target)
        if fault is TRUNCATED:
            cut(target, damage.cut)
        found = measured(place)
        said = {mode: _said(found, each, damage) for mode, each in judges.items()}
        yield replace(trial, named=tuple(sorted(damage.named)[:3]), said=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """How files are judged, and what is said already of the healthy one."""

    policy: Policy
    against: StoredBaseline | None
    known: frozenset[tuple[str, str]]


def _judges(model: Model, healthy: Model, form: Format, target: Path) -> Iterator[tuple[Mode, _Judge]]:
    own = measured(write(healthy, form.container, target))
    stored = kept(own.baseline)
    changed = replace(USUAL_POLICY, expect=Expectation(changed=("*",)))
    yield Mode.BASELINE, _judge(own, USUAL_POLICY, stored)
    yield Mode.TRAINED_ON, _judge(own, changed, stored)
    yield Mode.ALONE, _judge(own, USUAL_POLICY, None)
    if form.dtype in CAST and form.container in {"safetensors", "sharded"}:
        full = measured(write(model, "safetensors", target))
        expected = replace(USUAL_POLICY, expect=Expectation(dtype=form.dtype))
        yield Mode.CAST, _judge(own, expected, kept(full.baseline))


def _judge(healthy: Measured, policy: Policy, against: StoredBaseline | None) -> _Judge:
    findings = _new(healthy, policy, against)
    return _Judge(policy=policy, against=against, known=frozenset((each.rule, each.subject) for each in findings))


def _new(found: Measured, policy: Policy, against: StoredBaseline | None) -> list[Finding]:
    held = Held(against=against, now=found.baseline) if against else None
    return [each for each in judge(found.audit, policy, held, today=TODAY) if each.status is Status.NEW]


def _said(found: Measured, how: _Judge, damage: Damage) -> Said:
    if found.audit is None:
        return Said(level=Level.ERROR, rules=(REFUSED,))
    news = [each for each in _new(found, how.policy, how.against) if (each.rule, each.subject) not in how.known]
    named = [each for each in news if _names(each, damage, found.audit)]
    levels = list(Level)
    return Said(
        level=min((each.level for each in named), key=levels.index, default=None),
        rules=tuple(sorted({each.rule for each in named})),
        elsewhere=tuple(sorted({each.rule for each in news if each not in named})),
    )


def _names(finding: Finding, damage: Damage, audit: Audit) -> bool:
    """Whether a finding is about what is damaged: a tensor, its part, its block, its file, or the model."""
    subject = finding.subject
    if subject.startswith(audit.target) or subject in {file.rpartition("/")[2] for file in audit.files}:
        return True
    return any(
        subject.startswith(name) or name.startswith(subject) or name in finding.sentence for name in damage.named
    )


def alarms(reexport: Reexport, model: str, folder: Path) -> FalseAlarm:
    """Say what is found in a re-export that is healthy."""
    before = measured(_written(reexport.before, folder))
    after = measured(_written(reexport.after, folder))
    policy = replace(USUAL_POLICY, expect=reexport.expect)
    return FalseAlarm(model=model, name=reexport.name, findings=_told(_new(after, policy, kept(before.baseline))))


def alone(model: Model, form: Format, folder: Path) -> Iterator[FalseAlarm]:
    """Say what is found in a healthy model in one format without a baseline, if it can be in that format."""
    healthy = in_format(model, form)
    if healthy:
        yield alone_in_file(f"{model.name}, {form.words}", write(healthy, form.container, folder / "model"))


def alone_in_file(name: str, target: Path) -> FalseAlarm:
    """Say what is found in a healthy checkpoint without a baseline."""
    found = measured(target)
    if found.audit is None:
        return FalseAlarm(model=name, name="no baseline", findings=((Level.ERROR, REFUSED, name, found.refusal),))
    return FalseAlarm(model=name, name="no baseline", findings=_told(_new(found, USUAL_POLICY, None)))


def _written(written: Written, folder: Path) -> Path:
    return write(written.model, written.container, folder / "model")


def _told(findings: list[Finding]) -> tuple[tuple[str, str, str, str], ...]:
    return tuple((str(each.level), each.rule, each.subject, each.sentence) for each in findings)
