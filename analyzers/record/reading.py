"""A saved report -> its record, held to what a report of ours can hold."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.distributions.rulers import RULERS
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile, UsageError
from jaynes_audit.analyzers.record.claims import ClaimRecord
from jaynes_audit.analyzers.record.fits import RulerRecord
from jaynes_audit.analyzers.record.layers import LayerRecord, RoleRecord
from jaynes_audit.analyzers.record.report import FORMAT, ModelRecord, ReportRecord
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.universality.universality import Verdict

MOST_REPORT_BYTES = 1 << 30  # a report takes about 4 kB a layer; of 46,000 layers, 200 MB
LARGEST_NUMBER = (1 << 63) - 1
LARGEST_EXIT_STATUS = 255  # that a system passes on
LARGEST_RULER = 100.0  # no law comes near: what it scores is of the order of 1
LONGEST_FAULT = 300

VERDICTS = frozenset(map(str, Verdict))
CLAUSES = 4  # of one trial: mostly lognormal, one mu, one sigma, one law for all


class _Marked(Struct):
    """What says of a document that it is a report, and of which version."""

    format: str = ""


def read_report(path: Path) -> ReportRecord:
    """Read a report that was written with `-o json`.

    What a reader of the record relies on holds: counts are whole numbers from 0 on and parts no larger than their
    whole, every trial of the claim is complete, roles, verdicts and the laws of the ruler are those that there are.
    Texts are a stranger's.

    Raises:
        UsageError: when it is no report, one of another version, or damaged.
        CouldNotRead: when it is missing, too large, or the machine does not let it be read.
    """
    text = _content(path)
    try:
        version = msgspec.json.decode(text, type=_Marked).format
        report = msgspec.json.decode(text, type=ReportRecord) if version == FORMAT else None
    except (ValueError, RecursionError) as error:  # all that msgspec raises
        raise _no_report(path, str(error)[:LONGEST_FAULT]) from error
    if report is None:
        raise _no_report(path, f"it is of {quoted(version)}" if version else "it names no format")
    for fault in _faults(report):
        raise _no_report(path, fault)
    return report


def _content(path: Path) -> bytes:
    try:
        with opened(path) as (stream, size):
            if size > MOST_REPORT_BYTES:
                told = f"{quoted_path(path)} has {size:,} bytes; a report has at most {MOST_REPORT_BYTES:,}"
                raise CouldNotRead(f"{told}, so name another file")
            return stream.read(MOST_REPORT_BYTES)
    except RefusedFile as refusal:
        raise UsageError(f"{quoted_path(path)} is no regular file; name a report that `-o json` wrote") from refusal


def _faults(report: ReportRecord) -> Iterator[str]:
    if not 0 <= report.exit_code <= LARGEST_EXIT_STATUS:
        yield f"{report.exit_code:,} is no exit status"
    if [ruler.family for ruler in report.rulers] != [ruler.family for ruler in RULERS]:
        yield "its ruler has other laws"
    if any(map(_is_beyond, report.rulers)):
        yield f"its ruler has numbers beyond {LARGEST_RULER:g}"
    for claim in [*(model.claim for model in report.models), *([report.claim] if report.claim else [])]:
        yield from _faults_of_claim(claim)
    for model in report.models:
        yield from _faults_of_model(model)


def _is_beyond(ruler: RulerRecord) -> bool:
    numbers = [getattr(ruler, field) for field in RulerRecord.__struct_fields__ if field != "family"]
    return not all(abs(number) <= LARGEST_RULER for number in numbers)


def _faults_of_claim(claim: ClaimRecord) -> Iterator[str]:
    if not claim.trials:
        yield "a claim was not tried at any threshold"
    for trial in claim.trials:
        if trial.verdict not in VERDICTS or claim.verdict not in VERDICTS:
            yield f"there is no verdict {listed([trial.verdict, claim.verdict])}"
        if (trial.verdict == Verdict.CANNOT_BE_SAID) != (not trial.clauses):
            yield "a trial has a verdict without conditions, or conditions without a verdict"
        if trial.clauses and (len(trial.clauses) != CLAUSES or not claim.clauses):
            yield "a trial has not all conditions"
    if claim.collapse and claim.collapse.residual < 0:
        yield "a mean square is negative"


def _faults_of_model(model: ModelRecord) -> Iterator[str]:
    if any(
        map(_has_impossible_number, (model.coverage, model.criterion, *model.holdings, *model.roles, *model.layers))
    ):
        yield f"it holds whole numbers below 0 or above {LARGEST_NUMBER:,}"
    counted: list[RoleRecord | LayerRecord] = [*model.roles, *model.layers]
    if any(_most_of_a_kind(each) > each.weights or not each.weights for each in counted):
        yield "it counts more weights of one kind than there are"
    if any(held.bytes > model.coverage.bytes_total for held in model.holdings):
        yield "a part of it has more bytes than the whole"
    unknown = {layer.role for layer in model.layers} - set(map(str, Role))
    if unknown:
        yield f"there is no role {listed(sorted(unknown))}"


def _has_impossible_number(record: Struct) -> bool:
    """Whether a count is one that no model can have; depths and counts of all sorts are bounded alike."""
    numbers = map(record.__getattribute__, record.__struct_fields__)
    return any(isinstance(number, int) and not 0 <= number <= LARGEST_NUMBER for number in numbers)


def _most_of_a_kind(record: RoleRecord | LayerRecord) -> int:
    """The number of weights of the most common kind, of those that are counted."""
    if isinstance(record, RoleRecord):
        return max(record.zero, record.not_finite)
    return max(record.zero, record.nan + record.infinite, record.subnormal, record.max_finite, record.negative)


def _no_report(path: Path, fault: str) -> UsageError:
    return UsageError(f"{quoted_path(path)} is no report of the format {FORMAT}: {fault}; make it again with `-o json`")
