"""What a user named -> Operand: a checkpoint, a sketch archive, a model of a saved report, or a baseline's model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from jaynes_audit.analyzers.archive.archive import Archive, open_target
from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess, expand
from jaynes_audit.analyzers.checkpoints.families import is_index
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_absent, is_folder
from jaynes_audit.analyzers.comparison.kept import KeptModel
from jaynes_audit.analyzers.errors import NothingToAudit
from jaynes_audit.analyzers.record import ModelRecord
from jaynes_audit.analyzers.record.reading import read_report

REPORT_SUFFIX = ".json"

Known: TypeAlias = Checkpoint | Archive | ModelRecord | KeptModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operand:
    """One model to be compared, as the user named it, and what is known of it. `remarks` say how that was found."""

    target: str
    known: Known
    remarks: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What it is, in a word or two."""
        match self.known:
            case Checkpoint():
                return "checkpoint"
            case ModelRecord():
                return "report"
            case KeptModel():
                return "baseline"
        return "sketch archive"

    @property
    def is_local(self) -> bool:
        """Whether its weights lie on this machine."""
        return isinstance(self.known, Checkpoint) and not any(
            not isinstance(file, Path) and file.is_streamed for file in self.known.files
        )


def open_operands(target: str, access: HubAccess | None = None) -> list[Operand]:
    """Open what a target names. A pattern means each checkpoint it matches, a report each model it holds.

    Baselines are opened by `baseline.operand`, which knows what they are.

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
    models = read_report(path).models
    if not models:
        raise NothingToAudit(f"the report {quoted_path(path)} holds no model")
    for model in models:
        # The report's own name where it holds one model; else which of them.
        yield Operand(target=target if len(models) == 1 else f"{target}: {model.target}", known=model)
