"""The exit status: one table, one order, the same for every format."""

from collections import Counter
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, NothingToAudit, RefusedFile, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jaynes_audit.analyzers.comparison.record import ComparisonRecord
    from jaynes_audit.analyzers.record import FailureRecord, FindingRecord, ModelRecord
    from jaynes_audit.analyzers.record.training import TrainingAuditRecord


class ExitCode(IntEnum):
    """What the exit status tells a shell or a CI job."""

    PASSED = 0  # everything asked for was read, and nothing is an error
    FOUND = 1  # findings at the level of --fail-on or above; a broken checkpoint is one
    MISUSED = 2  # a bad option, a bad configuration, a missing or damaged baseline, a target that means nothing
    NOTHING_TO_AUDIT = 3  # no target matched, or no weight tensor in it
    COULD_NOT_FINISH = 4  # a missing file, a permission, a full disk, a mistake of ours
    INTERRUPTED = 130  # 128 + SIGINT
    CLOSED_PIPE = 141  # 128 + SIGPIPE: whoever read the output has gone


class FailOn(StrEnum):
    """The lowest level of a new finding that makes the exit status 1."""

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


def outcome_of(
    models: "Sequence[ModelRecord]",
    failures: "Sequence[FailureRecord]",
    of_the_run: "Sequence[FindingRecord]" = (),
    fail_on: FailOn = FailOn.ERROR,
) -> Outcome:
    """Give the status of a run that came to its end, from what was found and what failed.

    `of_the_run` are findings about no model. Only new findings count.
    """
    findings = [*of_the_run, *(finding for model in models for finding in model.findings)]
    reasons = {
        ExitCode.COULD_NOT_FINISH: _unread(models, failures, fail_on),
        ExitCode.MISUSED: _targets_with(ExitCode.MISUSED, failures, "that could not be audited as asked"),
        ExitCode.NOTHING_TO_AUDIT: _empty(models, failures),
        ExitCode.FOUND: _found(findings, failures, fail_on),
    }
    return _first(reasons) or _passed(models, findings, fail_on)


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


def outcome_of_trainings(audits: "Sequence[TrainingAuditRecord]", failures: "Sequence[FailureRecord]") -> Outcome:
    """Give the status of `jaynes equilibrium`. That a claim does not hold is no failure; what was not read is one."""
    refused = sum(len(each.training.refused) for each in audits)
    unread = sum(failure.exit_code in {ExitCode.FOUND, ExitCode.COULD_NOT_FINISH} for failure in failures)
    told = (
        f"{counted(unread, 'checkpoint')} could not be read" if unread else "",
        f"{counted(refused, 'file')} of a trainer could not be understood" if refused else "",
    )
    empty = sum(failure.exit_code == ExitCode.NOTHING_TO_AUDIT for failure in failures)
    reasons = {
        ExitCode.COULD_NOT_FINISH: " and ".join(filter(None, told)),
        ExitCode.MISUSED: _targets_with(ExitCode.MISUSED, failures, "asked for something that has no meaning"),
        ExitCode.NOTHING_TO_AUDIT: f"nothing to audit in {counted(empty, 'target')}" if empty else "",
        ExitCode.FOUND: "",
    }
    claims = counted(sum(len(each.statements) for each in audits), "claim")
    return _first(reasons) or Outcome(ExitCode.PASSED, f"{claims} examined in {counted(len(audits), 'checkpoint')}")


def _first(reasons: "Mapping[ExitCode, str]") -> Outcome | None:
    return next((Outcome(code, reasons[code]) for code in PRECEDENCE if reasons[code]), None)


def _unread(models: "Iterable[ModelRecord]", failures: "Iterable[FailureRecord]", fail_on: FailOn) -> str:
    models = list(models)
    tensors = sum(each.reason == "could-not-read" for model in models for each in model.left_out)
    silent = sum(_is_refused_in_silence(model, fail_on) for model in models)
    told = (
        _targets_with(ExitCode.COULD_NOT_FINISH, failures, "could not be read"),
        f"{counted(tensors, 'tensor')} could not be read" if tensors else "",
        f"a part of {counted(silent, 'target')} was refused, and no finding that counts says so" if silent else "",
    )
    return " and ".join(filter(None, told))


def _is_refused_in_silence(model: "ModelRecord", fail_on: FailOn) -> bool:
    """Whether a file was refused and no finding that counts tells of it: its rule is off or lenient, or it is ignored.

    With --fail-on never every new finding counts, for nobody takes the status for an approval.
    """
    counting = LEVELS if fail_on is FailOn.NEVER else _failing(fail_on)
    told = {(each.rule, each.subject) for each in model.findings if each.status == "new" and each.level in counting}
    return any((each.rule, each.file) not in told for each in model.defects)


def _empty(models: "Iterable[ModelRecord]", failures: "Iterable[FailureRecord]") -> str:
    models = [model for model in models if not _headers_only(model)]
    without_layers = [model for model in models if not model.layers and not model.defects]
    unasked = list(filter(is_partial, without_layers))
    if unasked:
        return f"--layers and --exclude leave nothing to audit in {counted(len(unasked), 'target')}"
    empty = len(without_layers)
    empty += sum(failure.exit_code == ExitCode.NOTHING_TO_AUDIT for failure in failures)
    return f"nothing to audit in {counted(empty, 'target')}" if empty else ""


def _found(findings: "Iterable[FindingRecord]", failures: "Iterable[FailureRecord]", fail_on: FailOn) -> str:
    failing = _failing(fail_on)
    found = sum(finding.status == "new" and finding.level in failing for finding in findings)
    found += sum(failure.exit_code == ExitCode.FOUND for failure in failures)  # refused: whatever the level, not read
    return f"{counted(found, 'finding')} at {_level(fail_on)}" if found else ""


def _failing(fail_on: FailOn) -> tuple[str, ...]:
    """The levels that make the exit status 1."""
    return () if fail_on is FailOn.NEVER else LEVELS[: LEVELS.index(fail_on.value) + 1]


def _level(fail_on: FailOn) -> str:
    """A level, and those above it, in words."""
    lowest = FailOn.ERROR if fail_on is FailOn.NEVER else fail_on
    return f"level {lowest}{'' if lowest is FailOn.ERROR else ' or above'}"


def _targets_with(code: ExitCode, failures: "Iterable[FailureRecord]", what: str) -> str:
    targets = sum(failure.exit_code == code for failure in failures)
    return f"{counted(targets, 'target')} {what}" if targets else ""


def _passed(models: "Sequence[ModelRecord]", findings: "Sequence[FindingRecord]", fail_on: FailOn) -> Outcome:
    counts = Counter(finding.level if finding.status == "new" else finding.status for finding in findings)
    found = [counted(counts[level], level) for level in LEVELS if counts[level]]
    found += [f"{counts[status]:,} {status}" for status in ("baselined", "ignored") if counts[status]]
    unread = "only headers were read, so no weight was checked" if any(map(_headers_only, models)) else ""
    read = " in what was read" if any(map(is_partial, models)) else ""
    never = fail_on is FailOn.NEVER
    told = ", ".join(found) + (", and none fails with --fail-on never" if never and found else "")
    first = "" if never and found else f"no finding{read}" if never else f"no finding at {_level(fail_on)}{read}"
    return Outcome(ExitCode.PASSED, "; ".join(filter(None, [first, told, unread])))


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
    failing = _failing(fail_on)
    found = sum(finding.level in failing for each in comparisons for finding in each.findings)
    return f"{counted(found, 'finding')} at {_level(fail_on)}" if found else ""


def _compared(comparisons: "Sequence[ComparisonRecord]", fail_on: "FailOn") -> Outcome:
    levels = Counter(finding.level for each in comparisons for finding in each.findings)
    found = ", ".join(counted(levels[level], level) for level in LEVELS if levels[level])
    if fail_on is not FailOn.NEVER:
        reason = f"no finding at {_level(fail_on)}"
        return Outcome(ExitCode.PASSED, f"{reason}; {found}" if found else reason)
    compared = f"{counted(len(comparisons), 'pair')} compared"
    return Outcome(ExitCode.PASSED, f"{compared}; {found}, which fail only with --fail-on" if found else compared)


def is_partial(model: "ModelRecord") -> bool:
    """Whether layers were left out because nobody asked for them: --layers, --exclude, --sample."""
    return any(each.reason in {"not-requested", "not-sampled"} for each in model.left_out)


def _headers_only(model: "ModelRecord") -> bool:
    return any(each.reason == "headers-only" for each in model.left_out)


def counted(number: int, noun: str) -> str:
    """Say how many: `1 tensor`, `2,048 tensors`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
