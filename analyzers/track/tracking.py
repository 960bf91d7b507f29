"""What the user named -> Track: every checkpoint of a run measured, or taken from what was kept, and their course."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaynes_audit.analyzers.archive.archive import Archive, open_target
from jaynes_audit.analyzers.archive.audited import audit_archive
from jaynes_audit.analyzers.audit import (
    EVERYTHING,
    USUAL_CRITERION,
    Audit,
    Selection,
    audit_checkpoint,
    bytes_to_read,
    concluded,
    journal_of,
    plan_of,
)
from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess
from jaynes_audit.analyzers.checkpoints.hub.client import is_offline
from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.analyzers.checkpoints.locations import is_on_hub
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, NothingToAudit, RefusedFile, UsageError
from jaynes_audit.analyzers.journal import Journal
from jaynes_audit.analyzers.layer_audit import Criterion
from jaynes_audit.analyzers.record import record_of
from jaynes_audit.analyzers.track.courses import RoleCourse, courses
from jaynes_audit.analyzers.track.keeping import keep, kept_path, restored
from jaynes_audit.analyzers.track.movers import Transition, frozen, transitions
from jaynes_audit.analyzers.track.point import Point, point_of
from jaynes_audit.analyzers.track.series import EVERY_ONE, STEP, Choice, Located, locate
from jaynes_audit.analyzers.track.trainer import trainer_log

JOURNAL_FROM_BYTES = 1 << 30  # a smaller checkpoint is read again in about a second

OnBytes = Callable[[int], None]
Shapes = Mapping[str, tuple[int, int]]


def _unwatched(what: str, total_bytes: Callable[[], int]) -> AbstractContextManager[OnBytes]:
    del what, total_bytes
    return nullcontext(lambda _: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a run is read.

    With `resume` every finished checkpoint is kept on disk, and what is kept is not read again. `watched` is opened
    around the reading of a checkpoint, with its name and a function that tells how many bytes will be read; it gives
    the function that is told of bytes read. The other fields are those of an audit.
    """

    choice: Choice = EVERY_ONE
    access: HubAccess = field(default_factory=HubAccess)
    selection: Selection = EVERYTHING
    criterion: Criterion = USUAL_CRITERION
    dissect: bool = False
    jobs: int | None = None
    max_memory: int | None = None
    io: Io = Io.MMAP
    resume: bool = True
    watched: Callable[[str, Callable[[], int]], AbstractContextManager[OnBytes]] = _unwatched


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedCheckpoint:
    """A checkpoint of a run that was read. `loss` is the training loss that its trainer logged last; None: not told.

    `commit` is the Hub's name of the version, empty for a local one. `remarks` are those of whoever opened it.
    """

    location: str
    number: int
    commit: str
    loss: float | None
    point: Point
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is known of a run from its checkpoints.

    `unit` tells what the numbers of the checkpoints count. `failures` are those that could not be read, each with what
    happened. `frozen` names the layers that have the very same bytes in all checkpoints that were read.
    """

    targets: tuple[str, ...]
    unit: str
    manner: Manner = field(repr=False)
    checkpoints: tuple[TrackedCheckpoint, ...]
    failures: Mapping[str, JaynesError]
    courses: tuple[RoleCourse, ...]
    transitions: tuple[Transition, ...]
    frozen: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Give what `jaynes track -o json` says of the run as plain dicts, lists, strings and numbers."""
        import msgspec  # noqa: PLC0415 - the record is made of tracks, so it can only be imported afterwards

        from jaynes_audit.analyzers.track.record import run_record  # noqa: PLC0415

        plain: dict[str, object] = msgspec.to_builtins(run_record(self))
        return plain


def track(targets: Sequence[str], manner: Manner) -> Track:
    """Read the checkpoints of a run, one after the other, and say what changed along it.

    Each is audited as `jaynes audit` does, in bounded memory; of what comes out a kilobyte a layer and checkpoint is
    held. What cannot be read is a failure beside the others.

    Raises:
        UsageError: when there are fewer than two checkpoints, or two of them are not of one model: the layers that both
            should have differ in name or shape.
        NothingToAudit, CouldNotRead: when the checkpoints cannot be found, see `locate`.
    """
    series = locate(targets, manner.choice, manner.access)
    reader = _Reader(manner)
    for number, located in enumerate(series.checkpoints, start=1):
        reader.read(located, f"{located.location} ({number} of {len(series.checkpoints)})")
    found = tuple(reader.read_ones)
    points = [each.point for each in found]
    return Track(
        targets=tuple(targets),
        unit=series.checkpoints[0].unit,
        manner=manner,
        checkpoints=found,
        failures=reader.failures,
        courses=courses({each.number: each.point for each in found}),
        transitions=transitions(points),
        frozen=frozen(points) if len(points) > 1 else (),
        remarks=(*series.remarks, *dict.fromkeys(reader.remarks), *_standing_still(points)),
    )


def _standing_still(points: Sequence[Point]) -> Iterator[str]:
    if len(points) > 1 and points[0].layers and len(frozen(points)) == len(points[0].layers):
        yield "all checkpoints hold the very same weights; look whether they are copies of one"


class _Reader:
    """Reads one checkpoint after the other, and sees to it that all are of one model."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._first: tuple[str, Shapes] | None = None
        self.read_ones: list[TrackedCheckpoint] = []
        self.failures: dict[str, JaynesError] = {}
        self.remarks: list[str] = []

    def read(self, located: Located, what: str) -> None:
        """Read a checkpoint, or note why it could not be. Raises UsageError when it is of another model."""
        try:
            known = open_target(located.location, _access(located.location, self._manner.access))
        except JaynesError as error:
            self.failures[located.location] = error
            return
        checkpoint = known.checkpoint if isinstance(known, Archive) else known
        layers = plan_of(checkpoint, self._manner.selection).layers
        self._compare(located.location, checkpoint, layers)
        try:
            point = self._archived(known) if isinstance(known, Archive) else self._point(known, layers, what)
            loss = self._loss(located, checkpoint)
        except (CouldNotRead, NothingToAudit, RefusedFile) as error:
            self.failures[located.location] = error
            return
        self.read_ones.append(
            TrackedCheckpoint(
                location=located.location,
                number=located.number,
                commit=checkpoint.commit,
                loss=loss,
                point=point,
                remarks=checkpoint.remarks,
            )
        )

    def _compare(self, location: str, checkpoint: Checkpoint, layers: Sequence[Layer]) -> None:
        shapes = {layer.name: (len(layer.part.rows), len(layer.part.columns)) for layer in layers}
        is_whole = not (checkpoint.defects or checkpoint.missing or checkpoint.undecoded)
        if self._first is None:
            self._first = (location, shapes) if is_whole else None
            return
        first, of_first = self._first
        fault = next(_faults(of_first, shapes, is_whole=is_whole), "")
        if fault:
            raise UsageError(
                f"{quoted_path(first)} and {quoted_path(location)} are not of one model: {fault}; name checkpoints of "
                "one run, or choose the layers that all have with --layers"
            )

    def _archived(self, archive: Archive) -> Point:
        manner = self._manner
        return _point(
            audit_archive(archive, selection=manner.selection, criterion=manner.criterion, dissect=manner.dissect)
        )

    def _point(self, checkpoint: Checkpoint, layers: Sequence[Layer], what: str) -> Point:
        manner = self._manner
        if not manner.resume:
            return _point(self._audited(checkpoint, what, None))
        path = kept_path(checkpoint, layers, manner.selection, manner.criterion, dissect=manner.dissect)
        point = restored(path)
        if point is None:
            with journal_of(checkpoint) if _is_long(checkpoint) else nullcontext() as journal:
                audit = self._audited(checkpoint, what, journal)
                point = _point(audit)
                if point.coverage.complete:  # what could not be read may be tried again
                    self.remarks += filter(None, [keep(path, point)])
                if journal:
                    self.remarks += filter(None, [journal.failure])
                    concluded(audit, journal)
        return point

    def _audited(self, checkpoint: Checkpoint, what: str, journal: Journal | None) -> Audit:
        manner = self._manner
        with manner.watched(what, lambda: bytes_to_read(checkpoint, manner.selection)) as on_bytes:
            return audit_checkpoint(
                checkpoint,
                selection=manner.selection,
                criterion=manner.criterion,
                dissect=manner.dissect,
                jobs=manner.jobs,
                max_memory=manner.max_memory,
                io=manner.io,
                journal=journal,
                on_bytes=on_bytes,
            )

    def _loss(self, located: Located, checkpoint: Checkpoint) -> float | None:
        if not checkpoint.files:
            return None
        log = trainer_log(checkpoint.files[0].parent)
        self.remarks += [f"{quoted_path(located.location)}: {remark}" for remark in log.remarks]
        return log.loss_at(located.number if located.unit == STEP else None)


def _point(audit: Audit) -> Point:
    return point_of(record_of(audit, ()))


def _access(location: str, access: HubAccess) -> HubAccess:
    """In place, unless it is said otherwise: nobody wants every step of a run in the cache."""
    if access.mode or not is_on_hub(location) or is_offline():
        return access
    return replace(access, mode=Mode.STREAM)


def _is_long(checkpoint: Checkpoint) -> bool:
    streamed = any(not isinstance(file, Path) and file.is_streamed for file in checkpoint.files)
    return streamed or sum(tensor.stored_bytes for tensor in checkpoint.tensors) >= JOURNAL_FROM_BYTES


def _faults(first: Shapes, other: Shapes, *, is_whole: bool) -> Iterator[str]:
    """What says that two checkpoints are not of one model. Of one that is damaged layers may be missing."""
    for name, (rows, columns) in other.items():
        if name in first and first[name] != (rows, columns):
            of_first = "{:,} x {:,}".format(*first[name])
            yield f"{quoted(name)} is {of_first} in the first and {rows:,} x {columns:,} in the second"
    added = [name for name in other if name not in first]
    if added:
        yield f"only the second has {listed(added)}"
    absent = [name for name in first if name not in other]
    if absent and is_whole:
        yield f"only the first has {listed(absent)}"
