"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from inspect import cleandoc

from jaynes_audit.analyzers.layer_audit import LayerAudit


class Level(StrEnum):
    """How much a finding matters, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a rule objects to: which rule, about what, and in which words."""

    rule: str
    name: str
    level: Level
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Code, name, level and documentation of one objection, in one place.

    The documentation says what is found, then "Why it matters:" and "What to do:".
    """

    code: str
    name: str
    level: Level
    documentation: str

    def finding(self, subject: str, sentence: str) -> Finding:
        """Object to something."""
        return Finding(rule=self.code, name=self.name, level=self.level, subject=subject, sentence=sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule(Rule):
    """A rule that looks at one layer at a time."""

    check: Callable[[LayerAudit], str | None]

    def findings(self, layers: Iterator[LayerAudit]) -> Iterator[Finding]:
        """Look at every layer."""
        for layer in layers:
            sentence = self.check(layer)
            if sentence:
                yield self.finding(layer.name, sentence)


def layer_rule(code: str, name: str, level: Level) -> Callable[[Callable[[LayerAudit], str | None]], LayerRule]:
    """Make a rule of a check: a function that gives the objection, or None. Its docstring is the documentation."""

    def made(check: Callable[[LayerAudit], str | None]) -> LayerRule:
        return LayerRule(code=code, name=name, level=level, documentation=cleandoc(check.__doc__ or ""), check=check)

    return made
