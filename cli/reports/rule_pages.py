"""Rules -> their documentation, as text, Markdown and JSON. docs/rules.md and the README's table are made of it."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import fill

from jaynes_audit.analyzers.rules import Rule
from jaynes_audit.analyzers.rules.thresholds import Threshold, every_threshold

TEXT_WIDTH = 88
MARKDOWN_WIDTH = 120
GROUP = 3  # characters of a code say what it is about: JN4

GROUPS = {
    "JN0": ("Files", "The reader refuses a file, or a part of it, and that is the finding."),
    "JN1": ("Values", "What the numbers themselves give away."),
    "JN2": ("Structure", "Which tensors there are, and how they fit together."),
    "JN3": ("Laws", "Which law the weights follow. Notes, since a sound network may follow any."),
    "JN4": ("Drift", "What moved from a baseline, or from the first model of `jaynes compare`."),
    "JN9": ("The audit itself", "What it passed over, and decisions that are out of date."),
}

INTRODUCTION = """\
What `jaynes audit`, `jaynes gate` and `jaynes compare` object to. This page is what `jaynes rule --all --format
markdown` prints; `jaynes rule JN101` shows one rule in a terminal.

The level of a rule, and its thresholds, are those that hold unless a configuration says otherwise
([configuration.md](configuration.md)). Its precision says how often it is right when it objects: only rules of high and
very high precision are errors by themselves. The known model is what the baseline was written from, or the first one of
`jaynes compare`; the new one is what is held against it."""


def as_json(rules: Sequence[Rule]) -> str:
    """Everything about each rule, for programs."""
    return f"{json.dumps([_fields(rule) for rule in rules], indent=2)}\n"


def text_list(rules: Sequence[Rule]) -> str:
    """One line a rule."""
    widest = max((len(rule.name) for rule in rules), default=0)
    return "".join(f"{rule.code}  {rule.level:7}  {rule.name:{widest}}  {headline(rule)}\n" for rule in rules)


def text_pages(rules: Sequence[Rule]) -> str:
    """Everything about each rule, for a terminal."""
    return "\n\n".join("\n\n".join(_text_page(rule)) for rule in rules) + "\n"


def markdown_list(rules: Sequence[Rule]) -> str:
    """A table of the rules."""
    lines = ["| rule | level | finds |", "|---|---|---|"]
    lines += [f"| {rule.code} {rule.name} | {rule.level} | {_in_cell(headline(rule))} |" for rule in rules]
    return "".join(f"{line}\n" for line in lines)


def markdown_pages(rules: Sequence[Rule]) -> str:
    """A section a rule."""
    return "\n\n".join("\n\n".join(_markdown_page(rule)) for rule in rules) + "\n"


def markdown_book(rules: Sequence[Rule]) -> str:
    """A page of all rules, in groups."""
    parts = ["# Rules", INTRODUCTION]
    for group, members in groupby(rules, key=lambda rule: rule.code[:GROUP]):
        title, about = GROUPS[group]
        parts += [f"## {group}: {title}", about, markdown_pages([*members]).rstrip()]
    return "\n\n".join(parts) + "\n"


def headline(rule: Rule) -> str:
    """What the rule finds, in its first sentence."""
    return re.split(r"(?<=\.)\s", " ".join(rule.what.split()), maxsplit=1)[0]


def thresholds_of(rule: Rule) -> tuple[Threshold, ...]:
    """Give the numbers that the rule compares with."""
    return tuple(threshold for threshold in every_threshold() if rule.code in _codes_of(threshold))


def _codes_of(threshold: Threshold) -> Iterator[str]:
    """The rules that a threshold is for; its meaning begins with them: `JN401-JN403: ...`, `JN402, JN405: ...`."""
    for part in threshold.meaning.partition(":")[0].split(", "):
        first, _, last = part.partition("-")
        numbers = [int(code.removeprefix("JN")) for code in (first, last or first)]
        yield from (f"JN{number:03}" for number in range(numbers[0], numbers[1] + 1))


def _text_page(rule: Rule) -> Iterator[str]:
    yield f"{rule.code} {rule.name}\n{', '.join(_facts(rule))}"
    yield from _filled(rule.what, TEXT_WIDTH)
    yield from _filled(f"Why it matters: {rule.why}", TEXT_WIDTH)
    yield from _filled(f"What to do: {rule.remedy}", TEXT_WIDTH)
    if rule.example:
        yield from _filled(f"Example: {rule.example}", TEXT_WIDTH)
    if thresholds := thresholds_of(rule):
        values = [f"{each.name} = {each.usual:g}" for each in thresholds]
        widest = max(map(len, values))
        lines = [f"  {value:{widest}}  {_meaning(each)}" for value, each in zip(values, thresholds, strict=True)]
        yield "\n".join(["Thresholds:", *lines])


def _markdown_page(rule: Rule) -> Iterator[str]:
    level, *others = _facts(rule)
    yield f"### {rule.code} {rule.name}"
    yield ", ".join([f"**{level}**", *others])
    yield from _filled(rule.what, MARKDOWN_WIDTH)
    yield from _filled(f"**Why it matters:** {rule.why}", MARKDOWN_WIDTH)
    yield from _filled(f"**What to do:** {rule.remedy}", MARKDOWN_WIDTH)
    if rule.example:
        yield f"**Example:**\n\n```text\n{' '.join(rule.example.split())}\n```"
    if thresholds := thresholds_of(rule):
        rows = [f"| `{each.name}` | {each.usual:g} | {_in_cell(_meaning(each))} |" for each in thresholds]
        yield "\n".join(["| threshold | usually | what it is |", "|---|---:|---|", *rows])


def _facts(rule: Rule) -> Iterator[str]:
    """Level, precision, when the rule is asked."""
    yield rule.level
    yield f"{rule.precision} precision"
    if rule.is_preview:
        yield "a preview: off without `--preview`"
    elif rule.is_optional:
        yield f"off without `--extend-select {rule.code}`"
    if rule.needs_baseline:
        yield "needs a baseline"


def _filled(text: str, width: int) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield fill(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)


def _in_cell(text: str) -> str:
    return text.replace("|", r"\|")


def _meaning(threshold: Threshold) -> str:
    return threshold.meaning.partition(": ")[2]


def _fields(rule: Rule) -> dict[str, object]:
    return {
        "code": rule.code,
        "name": rule.name,
        "level": rule.level,
        "precision": rule.precision,
        "on_by_default": rule.is_usual,
        "preview": rule.is_preview,
        "needs_baseline": rule.needs_baseline,
        "what": " ".join(rule.what.split()),
        "why_it_matters": " ".join(rule.why.split()),
        "what_to_do": " ".join(rule.remedy.split()),
        "example": " ".join(rule.example.split()),
        "thresholds": [
            {"name": each.name, "usual": each.usual, "meaning": _meaning(each)} for each in thresholds_of(rule)
        ],
    }
