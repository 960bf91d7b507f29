"""What a case of a rule is: a checkpoint that it objects to, and one that it does not, both as files on disk."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from jaynes_audit.analyzers.audit import Audit, audit_checkpoint
from jaynes_audit.analyzers.baseline.entry import STATISTICS, Baseline
from jaynes_audit.analyzers.baseline.keeping import Keeper, baseline_of
from jaynes_audit.analyzers.baseline.text import from_text, to_text
from jaynes_audit.analyzers.checkpoints import Checkpoint, open_checkpoint
from jaynes_audit.analyzers.gate import Held, about_the_run, judge
from jaynes_audit.analyzers.rules import RULES, Finding
from jaynes_audit.analyzers.rules.policy import Policy
from jaynes_audit.analyzers.verdict import findings_of
from tests.support.checkpoints import Stored, write_file

EVERY_RULE = Policy(on=frozenset(rule.code for rule in RULES))
TODAY = date(2026, 11, 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the gate is asked: a checkpoint, the one that its baseline was written from, and what a project decided.

    `statistics` is the version of how the baseline was measured.
    """

    checkpoint: Checkpoint
    before: Checkpoint | None = None
    policy: Policy = EVERY_RULE
    today: date = TODAY
    statistics: str = STATISTICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A rule's two examples. Each function writes its files into an empty folder of its own."""

    failing: Callable[[Path], Asked]
    passing: Callable[[Path], Asked]


def saved(
    folder: Path, tensors: Mapping[str, Stored], *, config: Mapping[str, object] | None = None, name: str = "model"
) -> Checkpoint:
    """Write a checkpoint as safetensors into a folder of this name, with its config.json, and open it."""
    target = folder / name
    target.mkdir()
    write_file(target / "model.safetensors", tensors)
    if config is not None:
        (target / "config.json").write_text(json.dumps(config))
    return open_checkpoint(str(target))


def written(file: Path, content: bytes) -> Checkpoint:
    """Write a file of weights as it is, and open it."""
    file.write_bytes(content)
    return open_checkpoint(str(file))


def findings_about(asked: Asked) -> tuple[Finding, ...]:
    """All that the gate finds, of the model and of the run."""
    audit, held = _held(asked)
    found = judge(audit, asked.policy, held, today=asked.today)
    return (*found, *about_the_run(asked.policy, found, today=asked.today, is_whole=True))


def _held(asked: Asked) -> tuple[Audit, Held | None]:
    if asked.before is None:
        return audit_checkpoint(asked.checkpoint), None
    audit, now = _measured(asked.checkpoint)
    _, before = _measured(asked.before)
    stored = from_text(to_text(replace(before, statistics=asked.statistics)).encode(), "model.jaynes.jsonl")
    return audit, Held(against=stored, now=now)


def _measured(checkpoint: Checkpoint) -> tuple[Audit, Baseline]:
    keeper = Keeper()
    audit = audit_checkpoint(checkpoint, on_measured=keeper.keep)
    return audit, baseline_of(audit, keeper, findings_of(audit))
