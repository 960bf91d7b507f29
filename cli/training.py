"""Checkpoints -> report of their training: each audited and recorded; what cannot be read stops nobody else."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from jaynes_audit.analyzers.checkpoints import HubAccess
from jaynes_audit.analyzers.checkpoints.training_state.given import Given
from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.errors import JaynesError
from jaynes_audit.analyzers.record import FailureRecord, Tool, failure_record
from jaynes_audit.analyzers.record.training import TrainingAuditRecord, TrainingReportRecord, training_audit_record
from jaynes_audit.analyzers.thermodynamics.equilibrium import Manner, audit_training
from jaynes_audit.cli.auditing import DISTRIBUTION, locations_of
from jaynes_audit.cli.exit_codes import exit_code_of, outcome_of_trainings
from jaynes_audit.cli.progress import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to audit, and what is known of its training beside what lies in its folder."""

    targets: Sequence[str]
    given: Given
    initial: str | None
    earlier: str | None
    jobs: int | None
    io: Io
    access: HubAccess
    show_progress: bool


def report_on(request: Request) -> TrainingReportRecord:
    """Audit the training of every target, and say which could not be."""
    read: list[TrainingAuditRecord] = []
    failures: list[FailureRecord] = []
    for location in locations_of(request.targets):
        if isinstance(location, FailureRecord):
            failures.append(location)
            continue
        try:
            read.append(_audited(location, request))
        except JaynesError as error:
            failures.append(failure_record(location, str(error), exit_code_of(error)))
    outcome = outcome_of_trainings(read, failures)
    return TrainingReportRecord(
        tool=Tool(name=DISTRIBUTION, version=version(DISTRIBUTION)),
        checkpoints=read,
        failures=failures,
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def _audited(target: str, request: Request) -> TrainingAuditRecord:
    with progress(target, _unknown, wanted=request.show_progress) as advance:
        manner = Manner(
            given=request.given,
            initial=request.initial,
            earlier=request.earlier,
            jobs=request.jobs,
            io=request.io,
            access=request.access,
            on_bytes=advance,
        )
        return training_audit_record(audit_training(target, manner))


def _unknown() -> int:
    """How much is to be read: the optimizer's part is known only once it was paired."""
    return 0
