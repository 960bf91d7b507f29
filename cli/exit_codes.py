"""The exit status: one table, one order, the same for every format."""

from collections import Counter
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, NothingToAudit, RefusedFile, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jaynes_audit.analyzers.comparison.record import ComparisonRecord
    from jaynes_audit.analyzers.record import FailureRecord, ModelRecord


class ExitCode(IntEnum):
    """What the exit status tells a shell or a CI job."""

    PASSED = 0  # everything asked for was read, and nothing is an error
    FOUND = 1  # findings at level error; a broken checkpoint is one
    MISUSED = 2  # a bad option, a target that means nothing
    NOTHING_TO_AUDIT = 3  # no target matched, or no weight tensor in it
    COULD_NOT_FINISH = 4  # a missing file, a permission, a full disk, a mistake of ours
    INTERRUPTED = 130  # 128 + SIGINT
    CLOSED_PIPE = 141  # 128 + SIGPIPE: whoever read the output has gone


class FailOn(StrEnum):
    """The lowest level of a finding that makes the exit status of a comparison 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NEVER = "never"


LEVELS: tuple[Literal["error", "warning", "note"], ...] = ("error", "warning", "note")
"""The names of `rules.Level`, which takes NumPy to import, the worst first."""

PRECEDENCE = (ExitCode.COULD_NOT_FINISH, ExitCode.MISUSED, ExitCode.NOTHING_TO_AUDIT, ExitCode.FOUND)
"""Which status it is when several apply."""


class CouldNotWrite(JaynesError):
    """A report could not be written where it was asked for."""


class ClosedPipe(JaynesError):
    """Whoever read the standard output has gone: nobody is left to tell anything to."""


EXIT_CODES: dict[type[JaynesError], ExitCode] = {
    UsageError: ExitCode.MISUSED,
    NothingToAudit: ExitCode.NOTHING_TO_AUDIT,
    CouldNotRead: ExitCode.COULD_NOT_FINISH,
    CouldNotWrite: ExitCode.COULD_NOT_FINISH,
    RefusedFile: ExitCode.FOUND,
    ClosedPipe: ExitCode.CLOSED_PIPE,
}


class Outcome(NamedTuple):
    """An exit status, and why it is that."""

    code: ExitCode
    reason: str


def exit_code_of(error: JaynesError) -> ExitCode:
    """Give the status of a run that an error ended; a kind that the table does not have is a mistake of ours."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), ExitCode.COULD_NOT_FINISH)


def outcome_of(models: "Sequence[ModelRecord]", failures: "Sequence[FailureRecord]") -> Outcome:
    """Give the status of a run that came to its end, from what was found and what failed."""
    reasons = {
        ExitCode.COULD_NOT_FINISH: _unread(models, failures),
        ExitCode.MISUSED: _targets_with(ExitCode.MISUSED, failures, "asked for something that has no meaning"),
        ExitCode.NOTHING_TO_AUDIT: _empty(models, failures),
        ExitCode.FOUND: _found(models, failures),
    }
    return _first(reasons) or _passed(models)


def outcome_of_comparisons(
    comparisons: "Sequence[ComparisonRecord]", failures: "Sequence[FailureRecord]", fail_on: "FailOn"
) -> Outcome:
    """Give the status of a run of comparisons. That models differ is no failure, unless a finding is asked to be one.

    An operand that was refused could not be compared, so nothing is known of it: that is no finding of this run.
    """
    reasons = {
        ExitCode.COULD_NOT_FINISH: _uncompared(comparisons, failures),
        ExitCode.MISUSED: _targets_with(ExitCode.MISUSED, failures, "asked for something that has no meaning"),
        ExitCode.NOTHING_TO_AUDIT: _nothing_to_compare(comparisons, failures),
        ExitCode.FOUND: _objected(comparisons, fail_on),
    }
    return _first(reasons) or _compared(comparisons, fail_on)


def _first(reasons: "Mapping[ExitCode, str]") -> Outcome | None:
    return next((Outcome(code, reasons[code]) for code in PRECEDENCE if reasons[code]), None)


def _unread(models: "Iterable[ModelRecord]", failures: "Iterable[FailureRecord]") -> str:
    tensors = sum(each.reason == "could-not-read" for model in models for each in model.left_out)
    targets = _targets_with(ExitCode.COULD_NOT_FINISH, failures, "could not be read")
    return " and ".join(filter(None, [targets, f"{counted(tensors, 'tensor')} could not be read" if tensors else ""]))


def _empty(models: "Iterable[ModelRecord]", failures: "Iterable[FailureRecord]") -> str:
    models = [model for model in models if not _headers_only(model)]
    without_layers = [model for model in models if not model.layers and not model.defects]
    unasked = [model for model in without_layers if any(each.reason == "not-requested" for each in model.left_out)]
    if unasked:
        return f"--layers and --exclude leave nothing to audit in {counted(len(unasked), 'target')}"
    empty = len(without_layers)
    empty += sum(failure.exit_code == ExitCode.NOTHING_TO_AUDIT for failure in failures)
    return f"nothing to audit in {counted(empty, 'target')}" if empty else ""


def _found(models: "Iterable[ModelRecord]", failures: "Iterable[FailureRecord]") -> str:
    errors = _levels(models)["error"] + sum(failure.exit_code == ExitCode.FOUND for failure in failures)
    return f"{counted(errors, 'finding')} at level error" if errors else ""


def _targets_with(code: ExitCode, failures: "Iterable[FailureRecord]", what: str) -> str:
    targets = sum(failure.exit_code == code for failure in failures)
    return f"{counted(targets, 'target')} {what}" if targets else ""


def _passed(models: "Sequence[ModelRecord]") -> Outcome:
    levels = _levels(models)
    lesser = [counted(levels[level], level) for level in ("warning", "note") if levels[level]]
    unread = "only headers were read, so no weight was checked" if any(map(_headers_only, models)) else ""
    return Outcome(ExitCode.PASSED, "; ".join(filter(None, ["no finding at level error", ", ".join(lesser), unread])))


def _uncompared(comparisons: "Sequence[ComparisonRecord]", failures: "Sequence[FailureRecord]") -> str:
    layers = sum(layer.could_not_read for each in comparisons for layer in each.layers)
    sides = {side.target: side.complete for each in comparisons for side in (each.a, each.b)}
    incomplete = list(sides.values()).count(False)
    refused = sum(failure.exit_code in {ExitCode.FOUND, ExitCode.COULD_NOT_FINISH} for failure in failures)
    told = (
        f"{counted(refused, 'operand')} could not be read" if refused else "",
        f"{counted(layers, 'layer')} could not be read" if layers else "",
        f"{counted(incomplete, 'operand')} could not be compared completely" if incomplete and not layers else "",
    )
    return " and ".join(filter(None, told))


def _nothing_to_compare(comparisons: "Sequence[ComparisonRecord]", failures: "Sequence[FailureRecord]") -> str:
    empty = len({side.target for each in comparisons for side in (each.a, each.b) if not side.layers})
    empty += sum(failure.exit_code == ExitCode.NOTHING_TO_AUDIT for failure in failures)
    return f"nothing to compare in {counted(empty, 'operand')}" if empty else ""


def _objected(comparisons: "Sequence[ComparisonRecord]", fail_on: "FailOn") -> str:
    if fail_on is FailOn.NEVER:
        return ""
    failing = LEVELS[: LEVELS.index(fail_on.value) + 1]
    found = sum(finding.level in failing for each in comparisons for finding in each.findings)
    return f"{counted(found, 'finding')} at level {fail_on}{' or above' if len(failing) > 1 else ''}" if found else ""


def _compared(comparisons: "Sequence[ComparisonRecord]", fail_on: "FailOn") -> Outcome:
    levels = Counter(finding.level for each in comparisons for finding in each.findings)
    found = ", ".join(counted(levels[level], level) for level in LEVELS if levels[level])
    if fail_on is not FailOn.NEVER:
        reason = f"no finding at level {fail_on}{' or above' if fail_on is not FailOn.ERROR else ''}"
        return Outcome(ExitCode.PASSED, f"{reason}; {found}" if found else reason)
    compared = f"{counted(len(comparisons), 'pair')} compared"
    return Outcome(ExitCode.PASSED, f"{compared}; {found}, which fail only with --fail-on" if found else compared)


def _headers_only(model: "ModelRecord") -> bool:
    return any(each.reason == "headers-only" for each in model.left_out)


def _levels(models: "Iterable[ModelRecord]") -> Counter[str]:
    return Counter(finding.level for model in models for finding in model.findings)


def counted(number: int, noun: str) -> str:
    """Say how many: `1 tensor`, `2,048 tensors`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
