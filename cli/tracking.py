"""Run -> report: its checkpoints followed and recorded; what cannot be read stops nobody else."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version

from jaynes_audit.analyzers.record import FailureRecord, Tool, failure_record
from jaynes_audit.analyzers.track.record import RunRecord, TrackReportRecord, run_record
from jaynes_audit.analyzers.track.tracking import Manner, track
from jaynes_audit.cli.auditing import DISTRIBUTION
from jaynes_audit.cli.exit_codes import PRECEDENCE, ExitCode, Outcome, counted, exit_code_of
from jaynes_audit.cli.progress import Advance, progress


def report_on(targets: Sequence[str], manner: Manner, *, show_progress: bool) -> TrackReportRecord:
    """Follow a run, and say which of its checkpoints could not be read.

    Raises:
        UsageError: when there are fewer than two checkpoints, or they are not of one model.
        NothingToAudit, CouldNotRead: when they cannot be found.
    """

    def watched(what: str, total_bytes: Callable[[], int]) -> AbstractContextManager[Advance]:
        return progress(what, total_bytes, wanted=show_progress)

    found = track(targets, replace(manner, watched=watched))
    failures = [failure_record(location, str(error), exit_code_of(error)) for location, error in found.failures.items()]
    run = run_record(found)
    outcome = _outcome(run, failures)
    return TrackReportRecord(
        tool=Tool(name=DISTRIBUTION, version=version(DISTRIBUTION)),
        run=run,
        failures=failures,
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def _outcome(run: RunRecord, failures: Sequence[FailureRecord]) -> Outcome:
    """Give the status of a run of the command. That a run moves, or does not, is no failure."""
    failed = [failure.exit_code for failure in failures]
    unread = sum(code in {ExitCode.COULD_NOT_FINISH, ExitCode.FOUND} for code in failed)
    partly = sum(not each.point.coverage.complete for each in run.checkpoints)
    empty = failed.count(ExitCode.NOTHING_TO_AUDIT) + sum(not each.point.layers for each in run.checkpoints)
    told = (
        f"{counted(unread, 'checkpoint')} could not be read" if unread else "",
        f"{counted(partly, 'checkpoint')} could not be read completely" if partly else "",
    )
    misused = failed.count(ExitCode.MISUSED)
    reasons = {
        ExitCode.COULD_NOT_FINISH: " and ".join(filter(None, told)),
        ExitCode.MISUSED: f"{counted(misused, 'checkpoint')} named without meaning" if misused else "",
        ExitCode.NOTHING_TO_AUDIT: f"nothing to track in {counted(empty, 'checkpoint')}" if empty else "",
        ExitCode.FOUND: "",
    }
    read = Outcome(ExitCode.PASSED, f"{counted(len(run.checkpoints), 'checkpoint')} read")
    return next((Outcome(code, reasons[code]) for code in PRECEDENCE if reasons[code]), read)
