"""Targets -> report: each checkpoint opened, audited, judged and recorded; what fails stops nobody else."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jaynes_audit.analyzers.archive.archive import Archive, open_target
from jaynes_audit.analyzers.archive.audited import audit_archive
from jaynes_audit.analyzers.archive.saving import Keeper, refuse_place, save
from jaynes_audit.analyzers.audit import (
    Audit,
    Selection,
    audit_checkpoint,
    bytes_to_read,
    concluded,
    headers_of,
    journal_of,
    unheard,
)
from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess, expand
from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.claim import try_claim
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins
from jaynes_audit.analyzers.errors import JaynesError, UsageError
from jaynes_audit.analyzers.journal import Journal
from jaynes_audit.analyzers.layer_audit import Criterion
from jaynes_audit.analyzers.record import (
    FailureRecord,
    ReportRecord,
    Tool,
    claim_record,
    failure_record,
    record_of,
    ruler_records,
)
from jaynes_audit.analyzers.verdict import findings_of
from jaynes_audit.cli.exit_codes import CouldNotWrite, exit_code_of, outcome_of
from jaynes_audit.cli.outputs import Format, Output
from jaynes_audit.cli.progress import progress

DISTRIBUTION = "jaynes-audit"
RESUMED_FROM_BYTES = 1 << 30  # smaller files are read again in about a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to audit, and how."""

    targets: Sequence[str]
    selection: Selection
    criterion: Criterion
    anatomy: bool
    bins: HistogramBins | None
    jobs: int | None
    io: Io
    access: HubAccess
    headers_only: bool
    resume: bool | None
    save_sketches: Path | None
    show_progress: bool


def report_on(request: Request) -> ReportRecord:
    """Audit every target, and say which could not be.

    Raises UsageError and CouldNotWrite, before anything is read, where the sketches cannot be saved as asked.
    """
    locations = list(_locations(request.targets))
    if request.save_sketches:
        _refuse_saving(request.save_sketches, locations, request)
    results = list(_results(locations, request))
    audits = [each for each in results if isinstance(each, Audit)]
    failures = [each for each in results if isinstance(each, FailureRecord)]
    models = [record_of(audit, findings_of(audit)) for audit in audits]
    outcome = outcome_of(models, failures)
    return ReportRecord(
        tool=Tool(name=DISTRIBUTION, version=version(DISTRIBUTION)),
        rulers=ruler_records(),
        models=models,
        claim=claim_record(try_claim(audits)) if len(audits) > 1 else None,
        failures=failures,
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def _refuse_saving(path: Path, locations: Sequence[str | FailureRecord], request: Request) -> None:
    if request.headers_only:
        raise UsageError("--headers-only reads no weight, so there are no sketches to save; give one of the two")
    if len(locations) > 1:
        raise UsageError(f"--save-sketches keeps one model, and {len(locations):,} targets are named; name one")
    Output(format=Format.JSON, path=path).check()
    refuse_place(path, next((each for each in locations if isinstance(each, str)), ""))


def _results(locations: Iterable[str | FailureRecord], request: Request) -> Iterator[Audit | FailureRecord]:
    for location in locations:
        if isinstance(location, FailureRecord):
            yield location
            continue
        keeper = Keeper() if request.save_sketches else None
        try:
            known = open_target(location, request.access)
            yield (
                _audited_archive(known, request, keeper)
                if isinstance(known, Archive)
                else _audited(known, request, keeper)
            )
            if request.save_sketches and keeper:
                checkpoint = known.checkpoint if isinstance(known, Archive) else known
                _save(request.save_sketches, keeper.archive(checkpoint))
        except JaynesError as error:
            yield failure_record(location, str(error), exit_code_of(error))


def _save(path: Path, content: bytes) -> None:
    try:
        save(path, content)
    except OSError as error:
        raise CouldNotWrite(f"the sketches cannot be saved to {str(path)!r}: {error.strerror or error}") from error


def _locations(targets: Iterable[str]) -> Iterator[str | FailureRecord]:
    """The checkpoints that the targets mean, each once, and the targets that mean none."""
    seen: set[str] = set()
    for target in targets:
        try:
            locations = expand([target])
        except JaynesError as error:
            yield failure_record(target, str(error), exit_code_of(error))
            continue
        yield from (location for location in locations if location not in seen)
        seen.update(locations)


def _audited_archive(archive: Archive, request: Request, keeper: Keeper | None) -> Audit:
    if request.headers_only:
        return headers_of(archive.checkpoint, selection=request.selection, criterion=request.criterion)
    return audit_archive(
        archive,
        selection=request.selection,
        criterion=request.criterion,
        dissect=request.anatomy,
        bins=request.bins,
        on_measured=keeper.measured if keeper else unheard,
        on_outcome=keeper.outcome if keeper else unheard,
    )


def _audited(checkpoint: Checkpoint, request: Request, keeper: Keeper | None) -> Audit:
    if request.headers_only:
        return headers_of(checkpoint, selection=request.selection, criterion=request.criterion)
    with (
        _journal(checkpoint, request) as journal,
        progress(
            checkpoint.location, lambda: bytes_to_read(checkpoint, request.selection), wanted=request.show_progress
        ) as advance,
    ):
        audit = audit_checkpoint(
            checkpoint,
            selection=request.selection,
            criterion=request.criterion,
            dissect=request.anatomy,
            bins=request.bins,
            jobs=request.jobs,
            io=request.io,
            journal=journal,
            on_bytes=advance,
            on_measured=keeper.measured if keeper else unheard,
            on_outcome=keeper.outcome if keeper else unheard,
        )
        return concluded(audit, journal) if journal else audit


def _journal(checkpoint: Checkpoint, request: Request) -> AbstractContextManager[Journal | None]:
    """What a killed audit of the same had finished, where that is worth keeping or asked for."""
    wanted = request.resume
    if wanted is None:
        streamed = any(not isinstance(file, Path) and file.is_streamed for file in checkpoint.files)
        wanted = streamed or sum(tensor.stored_bytes for tensor in checkpoint.tensors) >= RESUMED_FROM_BYTES
    return journal_of(checkpoint) if wanted else nullcontext()
