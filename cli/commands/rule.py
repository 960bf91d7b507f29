"""`jaynes rule`: what a rule finds, why it matters and what to do."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from jaynes_audit.analyzers.errors import UsageError

if TYPE_CHECKING:
    from jaynes_audit.analyzers.rules import Rule


class RuleFormat(StrEnum):
    """How rules are shown."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


RuleName = Annotated[
    str | None,
    typer.Argument(
        metavar="CODE", help="A rule's code or name, or the beginning of its code: JN101, JN4.", show_default=False
    ),
]


def rule(
    name: RuleName = None,
    *,
    in_full: Annotated[bool, typer.Option("--all", help="Everything about every rule.")] = False,
    output_format: Annotated[RuleFormat, typer.Option("--format", help="How to show it.")] = RuleFormat.TEXT,
) -> int:
    """List the rules, or say of one what it finds, why that matters and what to do."""
    from jaynes_audit.analyzers.rules import RULES  # noqa: PLC0415 - help does without NumPy, as the next ones
    from jaynes_audit.cli.exit_codes import ExitCode  # noqa: PLC0415
    from jaynes_audit.cli.outputs import Format, Output  # noqa: PLC0415
    from jaynes_audit.cli.reports import rule_pages  # noqa: PLC0415

    if name is not None and in_full:
        raise UsageError(f"--all shows every rule, and {name!r} only some; give one of the two")
    lists = {
        RuleFormat.TEXT: rule_pages.text_list,
        RuleFormat.MARKDOWN: rule_pages.markdown_list,
        RuleFormat.JSON: rule_pages.as_json,
    }
    pages = {
        RuleFormat.TEXT: rule_pages.text_pages,
        RuleFormat.MARKDOWN: rule_pages.markdown_book if in_full else rule_pages.markdown_pages,
        RuleFormat.JSON: rule_pages.as_json,
    }
    if name is None:
        text = (pages if in_full else lists)[output_format](RULES)
    else:
        text = pages[output_format](_named(name, RULES))
    Output(format=Format.TABLE, path=None).write(text)
    return ExitCode.PASSED


def _named(name: str, rules: "Sequence[Rule]") -> "Sequence[Rule]":
    """The rule of this name or code, or all whose code begins so. Raises UsageError where there is none."""
    from jaynes_audit.analyzers.checkpoints.quoted import quoted  # noqa: PLC0415 - as above
    from jaynes_audit.cli.configuration.suggestion import suggestion  # noqa: PLC0415

    named = [each for each in rules if each.name == name.lower() or (name and each.code.startswith(name.upper()))]
    if not named:
        known = [*(each.code for each in rules), *(each.name for each in rules)]
        raise UsageError(f"there is no rule {quoted(name)} (`jaynes rule` lists them); {suggestion(name, known)}")
    return named
