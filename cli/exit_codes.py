"""The exit status: one table, one order, the same for every format."""

from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, NothingToAudit, RefusedFile, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    return next((Outcome(code, reasons[code]) for code in PRECEDENCE if reasons[code]), _passed(models))


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


def _headers_only(model: "ModelRecord") -> bool:
    return any(each.reason == "headers-only" for each in model.left_out)


def _levels(models: "Iterable[ModelRecord]") -> Counter[str]:
    return Counter(finding.level for model in models for finding in model.findings)


def counted(number: int, noun: str) -> str:
    """Say how many: `1 tensor`, `2,048 tensors`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
