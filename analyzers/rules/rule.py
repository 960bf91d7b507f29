"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from inspect import cleandoc

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.rules.thresholds import Thresholds


class Level(StrEnum):
    """How much a finding matters, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Precision(StrEnum):
    """How often a rule that objects is right. Only the first two may be errors unless a user wants it."""

    VERY_HIGH = "very high"
    HIGH = "high"
    MEDIUM = "medium"


class Status(StrEnum):
    """Whether a finding is news. Only new ones decide the exit status."""

    NEW = "new"
    BASELINED = "baselined"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a rule objects to: which rule, about what, and in which words.

    `subject` is a layer, a tensor, a file or the target. `why` says why a finding is ignored.
    """

    rule: str
    name: str
    level: Level
    subject: str
    sentence: str
    status: Status = Status.NEW
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """What a rule says of one subject, where that matters otherwise than the rule usually does."""

    sentence: str
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Code, name, level and documentation of one objection, in one place.

    The documentation says what is found, then "Why it matters:", "What to do:" and "Example:", each from the start of a
    line. A rule that `needs_baseline` has nothing to say without one; `is_preview` and `is_optional` ones are off until
    they are asked for.
    """

    code: str
    name: str
    level: Level
    documentation: str
    precision: Precision = Precision.VERY_HIGH
    needs_baseline: bool = False
    is_preview: bool = False
    is_optional: bool = False

    @property
    def is_usual(self) -> bool:
        """Whether the rule is on unless somebody says otherwise."""
        return not (self.is_preview or self.is_optional)

    @property
    def what(self) -> str:
        """What the rule finds."""
        return self._part("", "Why it matters:")

    @property
    def why(self) -> str:
        """Why it matters."""
        return self._part("Why it matters:", "What to do:")

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return self._part("What to do:", "Example:")

    @property
    def example(self) -> str:
        """What a finding of it says."""
        return self._part("Example:", "")

    def finding(self, subject: str, said: str | Objection) -> Finding:
        """Object to something."""
        objection = Objection(sentence=said, level=self.level) if isinstance(said, str) else said
        return Finding(
            rule=self.code, name=self.name, level=objection.level, subject=subject, sentence=objection.sentence
        )

    def _part(self, start: str, end: str) -> str:
        after = self.documentation.partition(start)[2] if start else self.documentation
        return (after.partition(end)[0] if end else after).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule(Rule):
    """A rule that looks at one layer at a time. Its check gives the objection, or None."""

    check: Callable[[LayerAudit, Thresholds], str | None]

    def findings(self, audit: Audit, thresholds_of: Callable[[str], Thresholds]) -> Iterator[Finding]:
        """Look at every layer, each with the thresholds that hold for it."""
        for layer in audit:
            sentence = self.check(layer, thresholds_of(layer.name))
            if sentence:
                yield self.finding(layer.name, sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRule(Rule):
    """A rule that looks at all layers of a model together. Its check gives subjects and objections."""

    check: "ModelCheck"

    def findings(self, audit: Audit, thresholds_of: Callable[[str], Thresholds]) -> Iterator[Finding]:
        """Look at the model."""
        for subject, said in self.check(audit, thresholds_of):
            yield self.finding(subject, said)


LayerCheck = Callable[[LayerAudit, Thresholds], str | None]
ModelCheck = Callable[[Audit, Callable[[str], Thresholds]], Iterator[tuple[str, str | Objection]]]


def layer_rule(
    code: str, name: str, level: Level, *, precision: Precision = Precision.VERY_HIGH, is_preview: bool = False
) -> Callable[[LayerCheck], LayerRule]:
    """Make a rule of a check: a function that gives the objection, or None. Its docstring is the documentation."""

    def made(check: LayerCheck) -> LayerRule:
        return LayerRule(
            code=code,
            name=name,
            level=level,
            documentation=cleandoc(check.__doc__ or ""),
            precision=precision,
            is_preview=is_preview,
            check=check,
        )

    return made


def model_rule(
    code: str, name: str, level: Level, *, precision: Precision = Precision.VERY_HIGH, is_preview: bool = False
) -> Callable[[ModelCheck], ModelRule]:
    """Make a rule of a check that looks at a whole model. Its docstring is the documentation."""

    def made(check: ModelCheck) -> ModelRule:
        return ModelRule(
            code=code,
            name=name,
            level=level,
            documentation=cleandoc(check.__doc__ or ""),
            precision=precision,
            is_preview=is_preview,
            check=check,
        )

    return made
