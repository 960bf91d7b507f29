"""What a project has decided: which rules are on, how much their findings matter, how much is too much."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from jaynes_audit.analyzers.rules.rule import Finding, Level, Rule
from jaynes_audit.analyzers.rules.thresholds import USUAL_THRESHOLDS, Thresholds


def matches(name: str, pattern: str) -> bool:
    """Whether a name is the pattern, or what the shell pattern describes. Names of parts end in brackets."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Other thresholds for the layers whose name matches a shell pattern."""

    tensor: str
    thresholds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """Findings of a rule, or of all whose code begins so, that are known and accepted.

    `tensor` is a shell pattern of subjects. `until` is the last day on which it holds. `where` says where it is
    written, in words, for the finding that it is no longer needed.
    """

    rule: str
    tensor: str
    reason: str
    until: date | None = None
    where: str = ""

    def covers(self, finding: Finding) -> bool:
        """Whether it is about this finding."""
        return finding.rule.startswith(self.rule) and matches(finding.subject, self.tensor)

    def has_expired(self, today: date) -> bool:
        """Whether its last day has passed."""
        return self.until is not None and today > self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What an export is to be like: its number format, and which layers training has changed since the baseline.

    `dtype` is a number format as safetensors names it, or empty; `changed` are shell patterns of layers.
    """

    dtype: str = ""
    changed: tuple[str, ...] = ()

    def allows_change(self, name: str) -> bool:
        """Whether a layer may hold other weights than the baseline."""
        return any(matches(name, pattern) for pattern in self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All decisions together. `on` are the codes of the rules that are asked, `levels` has those of another level.

    Findings of the rules in `final` are news whatever an ignore or a baseline says.
    """

    on: frozenset[str]
    final: frozenset[str] = frozenset()
    levels: Mapping[str, Level] = field(default_factory=dict)
    thresholds: Thresholds = USUAL_THRESHOLDS
    overrides: tuple[Override, ...] = ()
    expect: Expectation = Expectation()
    ignores: tuple[Ignore, ...] = ()

    def asks(self, rule: Rule) -> bool:
        """Whether a rule is asked."""
        return rule.code in self.on

    def thresholds_of(self, name: str) -> Thresholds:
        """Give the thresholds that hold for a layer; of overrides that match, the last one decides."""
        thresholds = self.thresholds
        for each in self.overrides:
            if matches(name, each.tensor):
                thresholds = thresholds.with_values(each.thresholds)
        return thresholds

    def level_of(self, finding: Finding) -> Level:
        """Give how much a finding matters here."""
        return self.levels.get(finding.rule, finding.level)
