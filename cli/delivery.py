"""Report -> the places it was asked for, each in its format."""

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import Protocol, TypeVar

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.record import FailureRecord
from jaynes_audit.cli.exit_codes import CouldNotWrite
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import ColorChoice
from jaynes_audit.cli.outputs import Format, Output, outputs_of
from jaynes_audit.cli.reports.view import Detail, Show, View


class Failing(Protocol):
    """A report that says what gave none."""

    @property
    def failures(self) -> list[FailureRecord]:
        """What failed, each in a sentence."""


Report = TypeVar("Report", bound=Failing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An output, and how the report is shown on it."""

    output: Output
    view: View


def plan(
    asked: Sequence[str],
    formats: Collection[Format],
    color: ColorChoice,
    *,
    quiet: bool,
    verbose: bool,
    every_layer: bool,
    width: int | None = None,
    show: Show = Show.NEW,
) -> tuple[Delivery, ...]:
    """Decide before anything is read what goes where. Raises UsageError and CouldNotWrite."""
    if quiet and verbose:
        raise UsageError("-q asks for less and -v for more; give one of them")
    detail = Detail.FINDINGS if quiet else Detail.EVERYTHING if verbose else Detail.USUAL
    outputs = outputs_of(asked, formats)
    for output in outputs:
        output.check()
    return tuple(
        Delivery(
            output=output,
            view=View(
                detail=detail,
                every_layer=every_layer,
                colour=output.path is None and _coloured(color),
                width=width or (get_terminal_size().columns if _on_terminal(output) else None),
                show=show,
            ),
        )
        for output in outputs
    )


def deliver(
    report: Report, deliveries: Sequence[Delivery], renderers: Mapping[Format, Callable[[Report, View], str]]
) -> None:
    """Write the report everywhere. Raises CouldNotWrite for the first place that failed, after all were tried."""
    _tell(report.failures, deliveries)
    refused: list[CouldNotWrite] = []
    for each in deliveries:
        try:
            each.output.write(renderers[each.output.format](report, each.view))
        except CouldNotWrite as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _tell(failures: Sequence[FailureRecord], deliveries: Sequence[Delivery]) -> None:
    if any(each.output.format is Format.TABLE and each.output.path is None for each in deliveries):
        return  # a reader of the standard output finds them there
    for failed in failures:
        say(failed.sentence)


def _on_terminal(output: Output) -> bool:
    return output.path is None and sys.stdout.isatty()


def _coloured(color: ColorChoice) -> bool:
    if color is ColorChoice.AUTO:
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return color is ColorChoice.ALWAYS
