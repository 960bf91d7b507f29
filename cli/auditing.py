"""Targets -> report: each checkpoint opened, audited, judged and recorded; what fails stops nobody else."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Literal

import msgspec

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
from jaynes_audit.analyzers.baseline.entry import StoredBaseline
from jaynes_audit.analyzers.baseline.keeping import Keeper as BaselineKeeper
from jaynes_audit.analyzers.baseline.keeping import baseline_of
from jaynes_audit.analyzers.baseline.places import is_git_reference, read_comparable
from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess, expand
from jaynes_audit.analyzers.checkpoints.file_digests import hashed_files
from jaynes_audit.analyzers.checkpoints.locations import is_on_hub
from jaynes_audit.analyzers.checkpoints.pytorch.allowed import allowing
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.training_state.reading import read_training_state
from jaynes_audit.analyzers.checkpoints.training_state.state import TrainingState
from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.claim import try_claim
from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins
from jaynes_audit.analyzers.errors import JaynesError, UsageError
from jaynes_audit.analyzers.gate import Held, about_the_run, judge
from jaynes_audit.analyzers.journal import Journal
from jaynes_audit.analyzers.layer_audit import Criterion, MeasuredLayer
from jaynes_audit.analyzers.model_name import model_name
from jaynes_audit.analyzers.pieces import Dissected, Failed
from jaynes_audit.analyzers.record import (
    FailureRecord,
    ModelRecord,
    ReportRecord,
    Tool,
    claim_record,
    failure_record,
    finding_record,
    optimizer_null_record,
    record_of,
    ruler_records,
)
from jaynes_audit.analyzers.record.placing import placed, placed_in_file
from jaynes_audit.analyzers.record.report import BaselineRecord, TimingRecord
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.rules import RULES, Finding
from jaynes_audit.analyzers.rules.files import DIGEST_MISMATCH
from jaynes_audit.analyzers.rules.policy import Policy
from jaynes_audit.analyzers.sketch.histogram import Histogram
from jaynes_audit.cli.exit_codes import CouldNotWrite, FailOn, exit_code_of, outcome_of
from jaynes_audit.cli.outputs import Format, Output
from jaynes_audit.cli.progress import progress

DISTRIBUTION = "jaynes-audit"
OF_A_BASELINE = frozenset(rule.code for rule in RULES if rule.needs_baseline)
RESUMED_FROM_BYTES = 1 << 30  # smaller files are read again in about a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How checkpoints are read, and which part of them.

    With `verify` all their files are hashed, too, whatever part is read.
    """

    selection: Selection
    criterion: Criterion
    jobs: int | None
    max_memory: int | None = None
    io: Io
    access: HubAccess
    resume: bool | None
    show_progress: bool
    headers_only: bool = False
    verify: bool = False
    allow_global: Sequence[str] = ()
    anatomy: bool = False
    bins: HistogramBins | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """By which rules what was read is judged.

    `place` is where the policy is written, or empty. `baseline` is where the baseline is, with `{name}` for the model's
    name; empty for none. `only_from_git` refuses one that is not read from a revision. `leaves_out_targets` where the
    policy is about models, too, that are not audited now.
    """

    policy: Policy
    place: str
    fail_on: FailOn
    today: date
    baseline: str = ""
    only_from_git: bool = False
    leaves_out_targets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to audit, how, and what counts as a failure."""

    command: Literal["audit", "gate"]
    targets: Sequence[str]
    reading: Reading
    judging: Judging
    save_sketches: Path | None = None
    timing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A model that was read, what the rules object to in it, and the baseline it was held against.

    `training` is what its trainer left beside it. `seconds` went into the reading and into the judging.
    """

    checkpoint: Checkpoint
    audit: Audit
    findings: tuple[Finding, ...]
    against: StoredBaseline | None
    training: TrainingState
    seconds: tuple[float, float]


class Listeners:
    """What is kept of an audit beside its result: the sketches of an archive, the numbers of a baseline."""

    def __init__(self, *, archive: bool, baseline: bool) -> None:
        self.archive = Keeper() if archive else None
        self.baseline = BaselineKeeper() if baseline else None

    def measured(self, layer: MeasuredLayer, histogram: Histogram) -> None:
        """Keep what is wanted of a layer that was read."""
        if self.archive:
            self.archive.measured(layer, histogram)
        if self.baseline:
            self.baseline.keep(layer, histogram)

    @property
    def outcome(self) -> Callable[[Dissected | Failed], None]:
        """What is told of layers that were read once more."""
        return self.archive.outcome if self.archive else unheard


def report_on(request: Request) -> ReportRecord:
    """Audit every target, and say which could not be.

    Raises UsageError and CouldNotWrite, before anything is read, where the sketches cannot be saved as asked.
    """
    locations = list(locations_of(request.targets))
    if request.save_sketches:
        _refuse_saving(request.save_sketches, locations, request)
    results = list(_results(locations, request))
    judged = [each for each in results if isinstance(each, Judged)]
    failures = [each for each in results if isinstance(each, FailureRecord)]
    models = [_record(each) for each in judged]
    judging = request.judging
    asked = judging.policy.on if judging.baseline else judging.policy.on - OF_A_BASELINE
    asked = asked if request.reading.verify else asked - {DIGEST_MISMATCH.code}
    of_the_run = about_the_run(
        replace(judging.policy, on=asked),
        [finding for each in judged for finding in each.findings],
        today=judging.today,
        is_whole=not failures
        and not judging.leaves_out_targets
        and request.reading.selection.is_everything
        and all(each.audit.coverage.complete for each in judged),
    )
    run_findings = placed_in_file([finding_record(finding) for finding in of_the_run], judging.place)
    outcome = outcome_of(models, failures, run_findings, judging.fail_on)
    return ReportRecord(
        tool=Tool(name=DISTRIBUTION, version=version(DISTRIBUTION)),
        rulers=ruler_records(),
        models=models,
        claim=claim_record(try_claim([each.audit for each in judged])) if len(judged) > 1 else None,
        failures=failures,
        findings=run_findings,
        command=request.command,
        fail_on=judging.fail_on.value,
        timing=[_timing(each) for each in judged] if request.timing else None,
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def locations_of(targets: Iterable[str]) -> Iterator[str | FailureRecord]:
    """Give the checkpoints that the targets mean, each once, and the targets that mean none."""
    seen: set[str] = set()
    for target in targets:
        try:
            locations = expand([target])
        except JaynesError as error:
            yield failure_record(target, str(error), exit_code_of(error))
            continue
        for location in locations:
            place = os.path.realpath(location) if os.path.lexists(location) else location
            if place not in seen:
                yield location
            seen.add(place)


def audited(location: str, reading: Reading, listeners: Listeners) -> tuple[Audit, Checkpoint]:
    """Read what stands at a location. Raises JaynesError."""
    with allowing(reading.allow_global):
        known = open_target(location, replace(reading.access, verify=reading.verify and is_on_hub(location)))
    if isinstance(known, Archive):
        if reading.verify:
            raise UsageError(f"--verify hashes files of weights, and {quoted(location)} is a sketch archive")
        return _audited_archive(known, reading, listeners), known.checkpoint
    return _audited(known, reading, listeners), known


def _timing(judged: Judged) -> TimingRecord:
    reading, judging = judged.seconds
    return TimingRecord(target=text(judged.audit.target), reading=reading, judging=judging)


def _record(judged: Judged) -> ModelRecord:
    audit, against = judged.audit, judged.against
    record = record_of(audit, judged.findings)
    return msgspec.structs.replace(
        record,
        findings=placed(
            record.findings,
            audit,
            model=model_name(audit.target),
            baseline_place=against.place if against else "",
            lines=against.lines if against else {},
        ),
        baseline=BaselineRecord(
            place=against.place,
            model=against.baseline.model,
            statistics=against.baseline.statistics,
            layers=len(against.baseline.entries),
            digest=against.digest,
        )
        if against
        else None,
        optimizer=optimizer_null_record(audit, judged.training),
    )


def _refuse_saving(path: Path, locations: Sequence[str | FailureRecord], request: Request) -> None:
    if request.reading.headers_only:
        raise UsageError("--headers-only reads no weight, so there are no sketches to save; give one of the two")
    if len(locations) > 1:
        raise UsageError(f"--save-sketches keeps one model, and {len(locations):,} targets are named; name one")
    Output(format=Format.JSON, path=path).check()
    refuse_place(path, next((each for each in locations if isinstance(each, str)), ""))


def _results(locations: Iterable[str | FailureRecord], request: Request) -> Iterator[Judged | FailureRecord]:
    for location in locations:
        if isinstance(location, FailureRecord):
            yield location
            continue
        listeners = Listeners(archive=request.save_sketches is not None, baseline=bool(request.judging.baseline))
        try:
            judged = _judged(location, request, listeners)
            yield judged
            if request.save_sketches and listeners.archive:
                _save(request.save_sketches, listeners.archive.archive(judged.checkpoint))
        except JaynesError as error:
            yield failure_record(location, str(error), exit_code_of(error))


def _judged(location: str, request: Request, listeners: Listeners) -> Judged:
    judging = request.judging
    # A colon would make a revision of git of what stands before it.
    place = judging.baseline.replace("{name}", model_name(location).replace(":", "_"))
    if judging.only_from_git and not place:
        raise UsageError("require-base-ref asks for a baseline from git, and none is named; give REVISION:PATH")
    against = _baseline(place, judging) if place else None  # before hours of reading
    if request.reading.verify:
        _refuse_without_digests(location, against, request)
    started = perf_counter()
    audit, checkpoint = audited(location, request.reading, listeners)
    is_compared = request.reading.verify and against and against.baseline.files
    hashed = hashed_files(checkpoint) if is_compared else None
    read = perf_counter()
    held = None
    if against and listeners.baseline:
        held = Held(against=against, now=baseline_of(audit, listeners.baseline, hashed=hashed), hashed=hashed)
    findings = judge(audit, judging.policy, held, today=judging.today)
    return Judged(
        checkpoint=checkpoint,
        audit=audit,
        findings=findings,
        against=against,
        training=_training(location, checkpoint, request),
        seconds=(read - started, perf_counter() - read),
    )


def _training(location: str, checkpoint: Checkpoint, request: Request) -> TrainingState:
    """What the trainer left beside a checkpoint on this machine; nothing where that cannot be read.

    It is no part of the checkpoint, so whatever is wrong with it is not the audit's business.
    """
    is_read = request.command == "audit" and not request.reading.headers_only
    if not is_read or not all(isinstance(file, Path) for file in checkpoint.files) or is_on_hub(location):
        return TrainingState()
    try:
        return read_training_state(location)
    except JaynesError:
        return TrainingState()


def _refuse_without_digests(location: str, against: StoredBaseline | None, request: Request) -> None:
    """Refuse to verify what there is no digest of, for that would look as if it were verified. Raises UsageError."""
    if is_on_hub(location) or (against and against.baseline.files):
        return
    if against:
        why = "holds no digests of files; 'jaynes baseline update --verify --accept JN007' adds them"
        why = f"the baseline {quoted_path(against.place)} {why}"
    elif request.command == "gate":
        why = "no baseline is given; give --baseline with one that 'jaynes baseline write --verify' wrote"
    else:
        why = "'jaynes audit' takes no baseline; 'jaynes gate --verify' does"
    raise UsageError(f"--verify has nothing to compare {quoted_path(location)} with: {why}")


def _baseline(place: str, judging: Judging) -> StoredBaseline:
    if judging.only_from_git and not is_git_reference(place):
        raise UsageError(
            f"require-base-ref asks for a baseline from git, and {quoted_path(place)} is a file of the working tree, "
            f"which the change under test could have edited; give it as REVISION:{place}"
        )
    return read_comparable(place)


def _save(path: Path, content: bytes) -> None:
    try:
        save(path, content)
    except OSError as error:
        raise CouldNotWrite(f"the sketches cannot be saved to {str(path)!r}: {error.strerror or error}") from error


def _audited_archive(archive: Archive, reading: Reading, listeners: Listeners) -> Audit:
    if reading.headers_only:
        return headers_of(archive.checkpoint, selection=reading.selection, criterion=reading.criterion)
    return audit_archive(
        archive,
        selection=reading.selection,
        criterion=reading.criterion,
        dissect=reading.anatomy,
        bins=reading.bins,
        on_measured=listeners.measured,
        on_outcome=listeners.outcome,
    )


def _audited(checkpoint: Checkpoint, reading: Reading, listeners: Listeners) -> Audit:
    if reading.headers_only:
        return headers_of(checkpoint, selection=reading.selection, criterion=reading.criterion)
    with (
        _journal(checkpoint, reading) as journal,
        progress(
            checkpoint.location, lambda: bytes_to_read(checkpoint, reading.selection), wanted=reading.show_progress
        ) as advance,
    ):
        audit = audit_checkpoint(
            checkpoint,
            selection=reading.selection,
            criterion=reading.criterion,
            dissect=reading.anatomy,
            bins=reading.bins,
            jobs=reading.jobs,
            max_memory=reading.max_memory,
            io=reading.io,
            journal=journal,
            on_bytes=advance,
            on_measured=listeners.measured,
            on_outcome=listeners.outcome,
        )
        return concluded(audit, journal) if journal else audit


def _journal(checkpoint: Checkpoint, reading: Reading) -> AbstractContextManager[Journal | None]:
    """What a killed audit of the same had finished, where that is worth keeping or asked for."""
    wanted = reading.resume
    if wanted is None:
        streamed = any(not isinstance(file, Path) and file.is_streamed for file in checkpoint.files)
        wanted = streamed or sum(tensor.stored_bytes for tensor in checkpoint.tensors) >= RESUMED_FROM_BYTES
    return journal_of(checkpoint) if wanted else nullcontext()
