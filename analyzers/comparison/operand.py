"""What a user named -> Operand: a checkpoint, a sketch archive, or a model of a saved report."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from jaynes_audit.analyzers.archive.archive import Archive, open_target
from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess, expand
from jaynes_audit.analyzers.checkpoints.families import is_index
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_absent, is_folder, opened
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, UsageError
from jaynes_audit.analyzers.record import ModelRecord, ReportRecord
from jaynes_audit.analyzers.record.report import FORMAT
from jaynes_audit.analyzers.roles import Role

REPORT_SUFFIX = ".json"
LARGEST_NUMBER = (1 << 63) - 1
MOST_REPORT_BYTES = 1 << 30  # a report takes about 4 kB a layer; of 46,000 layers, 200 MB

Known: TypeAlias = Checkpoint | Archive | ModelRecord


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operand:
    """One model to be compared, as the user named it, and what is known of it."""

    target: str
    known: Known

    @property
    def kind(self) -> str:
        """What it is, in a word or two."""
        match self.known:
            case Checkpoint():
                return "checkpoint"
            case ModelRecord():
                return "report"
        return "sketch archive"

    @property
    def is_local(self) -> bool:
        """Whether its weights lie on this machine."""
        return isinstance(self.known, Checkpoint) and not any(
            not isinstance(file, Path) and file.is_streamed for file in self.known.files
        )


def open_operands(target: str, access: HubAccess | None = None) -> list[Operand]:
    """Open what a target names. A pattern means each checkpoint it matches, a report each model it holds.

    Raises:
        UsageError: when the target has no meaning, or is a report that cannot be understood.
        NothingToAudit: when a report holds no model.
        CouldNotRead: when a path does not exist, or the machine or the Hub does not give it.
        RefusedFile: when a file is unsound.
    """
    path = Path(target)
    if _may_be_report(target, path):
        return list(_models(target, path))
    return [Operand(target=location, known=open_target(location, access)) for location in expand([target])]


def _may_be_report(target: str, path: Path) -> bool:
    is_file = path.suffix == REPORT_SUFFIX and not is_index(path.name)
    return bool(target) and is_file and not is_absent(path) and not is_folder(path)


def _models(target: str, path: Path) -> Iterator[Operand]:
    with opened(path) as (stream, size):
        if size > MOST_REPORT_BYTES:
            raise CouldNotRead(f"{quoted_path(path)} has {size:,} bytes; a report has at most {MOST_REPORT_BYTES:,}")
        text = stream.read(MOST_REPORT_BYTES)
    try:
        report = msgspec.json.decode(text, type=ReportRecord)
    except (ValueError, RecursionError) as error:  # all that msgspec raises
        raise _no_report(path, str(error)) from error
    if any(map(_has_impossible_number, report.models)):
        raise _no_report(path, f"it holds whole numbers below 0 or above {LARGEST_NUMBER:,}")
    unknown = {layer.role for model in report.models for layer in model.layers} - set(map(str, Role))
    if unknown:
        raise _no_report(path, f"there is no role {listed(sorted(unknown))}")
    if not report.models:
        raise NothingToAudit(f"the report {quoted_path(path)} holds no model")
    for model in report.models:
        # The report's own name where it holds one model; else which of them.
        yield Operand(target=target if len(report.models) == 1 else f"{target}: {model.target}", known=model)


def _has_impossible_number(model: ModelRecord) -> bool:
    """Whether a count is one that no model can have; depths and counts of all sorts are bounded alike."""
    return any(
        not 0 <= number <= LARGEST_NUMBER
        for struct in (model.coverage, model.criterion, *model.holdings, *model.roles, *model.layers)
        for number in map(struct.__getattribute__, struct.__struct_fields__)
        if isinstance(number, int)
    )


def _no_report(path: Path, fault: str) -> UsageError:
    return UsageError(f"{quoted_path(path)} is no report of the format {FORMAT}: {fault}")
