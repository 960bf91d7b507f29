"""Track -> record: the public, versioned shape of what is said of a run; see `analyzers.record` for how."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jaynes_audit.analyzers.record import FailureRecord, Tool
from jaynes_audit.analyzers.record.report import JSON_SCHEMA, CriterionRecord
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.track.courses import RoleCourse
from jaynes_audit.analyzers.track.movers import Move, Transition
from jaynes_audit.analyzers.track.point import Point
from jaynes_audit.analyzers.track.settling import Course, Settling
from jaynes_audit.analyzers.track.tracking import Track, TrackedCheckpoint

FORMAT: Literal["jaynes-track/1"] = "jaynes-track/1"
CANNOT_BE_SAID = "cannot be said"


class CheckpointRecord(Struct, frozen=True, kw_only=True):
    """One checkpoint of the run."""

    target: Annotated[str, Meta(description="Where it is.")]
    commit: Annotated[str | None, Meta(description="The Hub's name of the version read; null for a local one.")]
    number: Annotated[int, Meta(description="Its step, or what else `unit` says.")]
    loss: Annotated[float | None, Meta(description="Training loss that the trainer logged last; null: not told.")]
    remarks: Annotated[list[str], Meta(description="Choices made when it was opened.")]
    point: Annotated[Point, Meta(description="What was measured of it.")]


class CourseRecord(Struct, frozen=True, kw_only=True):
    """What the mean of a quantity over the layers of a role did along the run, and when it settled."""

    role: Annotated[str | None, Meta(description="The role; null: all highly connected matrices.")]
    quantity: Annotated[str, Meta(description="mu or sigma of ln|w|.")]
    layers: Annotated[
        int, Meta(description="Layers that were fitted in every complete checkpoint; the mean is theirs.")
    ]
    numbers: Annotated[list[int], Meta(description="The complete checkpoints, by their numbers.")]
    values: Annotated[list[float], Meta(description="The mean at each of them.")]
    course: Annotated[str, Meta(description=f"One of: {', '.join(Course)}, {CANNOT_BE_SAID}.")]
    sentence: Annotated[str, Meta(description="The same in words, with the numbers.")]
    settled_at: Annotated[int | None, Meta(description="Number from which on it is constant; null unless settled.")]
    earliest: Annotated[
        int | None,
        Meta(description="Lower end of the 95 % interval; of a moving one: when it may have settled at best."),
    ]
    latest: Annotated[int | None, Meta(description="Upper end of the interval; null unless settled.")]
    start: Annotated[float | None, Meta(description="Value at the first checkpoint.")]
    level: Annotated[float | None, Meta(description="Fitted value at the last checkpoint.")]
    noise: Annotated[float | None, Meta(description="Standard deviation that one value was taken to have.")]
    correlation: Annotated[float | None, Meta(description="Correlation of it between neighbours, 0 to 0.7.")]


class MoveRecord(Struct, frozen=True, kw_only=True):
    """A layer whose law moved."""

    name: Annotated[str, Meta(description="The layer.")]
    role: Annotated[str, Meta(description="Its role.")]
    mu_change: Annotated[float, Meta(description="Change of mu.")]
    mu_error: Annotated[float | None, Meta(description="Its standard error, too large for two versions; null: none.")]
    sigma_change: Annotated[float, Meta(description="Change of sigma.")]
    sigma_error: Annotated[float | None, Meta(description="Its standard error.")]
    times: Annotated[float, Meta(description="The greater change by what counts as one.")]
    alone: Annotated[bool, Meta(description="Whether no other layer of its role moved, of two or more.")]


class TransitionRecord(Struct, frozen=True, kw_only=True):
    """What happened from one checkpoint to the next."""

    before: Annotated[int, Meta(description="Number of the first.")]
    after: Annotated[int, Meta(description="Number of the second.")]
    compared: Annotated[int, Meta(description="Layers that were fitted in both.")]
    unchanged: Annotated[list[str], Meta(description="Layers with the very same bytes, fitted or not.")]
    moves: Annotated[list[MoveRecord], Meta(description="Layers that moved beyond what counts, the farthest first.")]


class RunRecord(Struct, frozen=True, kw_only=True):
    """A run, followed along its checkpoints."""

    targets: Annotated[list[str], Meta(description="What was named.")]
    unit: Annotated[str, Meta(description="What the numbers count: step, epoch, or position in the order given.")]
    criterion: Annotated[CriterionRecord, Meta(description="What counted as highly connected.")]
    selection: Annotated[list[str], Meta(description="Patterns of the layers that were read; `*` is all.")]
    excluded: Annotated[list[str], Meta(description="Patterns of layers that were not.")]
    checkpoints: Annotated[list[CheckpointRecord], Meta(description="Those that were read, their numbers rising.")]
    courses: Annotated[list[CourseRecord], Meta(description="Mu and sigma, of all and by role.")]
    transitions: Annotated[list[TransitionRecord], Meta(description="From each that was read to the next.")]
    frozen: Annotated[list[str], Meta(description="Layers with the very same bytes in all checkpoints.")]
    remarks: Annotated[list[str], Meta(description="What was chosen and what was passed over.")]


class TrackReportRecord(Struct, frozen=True, kw_only=True):
    """All that one run of `jaynes track` found."""

    format: Annotated[Literal["jaynes-track/1"], Meta(description="Name and version of this format.")] = FORMAT
    tool: Annotated[Tool, Meta(description="What wrote it.")]
    run: Annotated[RunRecord, Meta(description="The run.")]
    failures: Annotated[list[FailureRecord], Meta(description="Checkpoints that could not be read.")]
    exit_code: Annotated[int, Meta(description="The exit status, the same for every format.")]
    exit_reason: Annotated[str, Meta(description="Why the exit status is what it is.")]


def run_record(track: Track) -> RunRecord:
    """Give the public record of a run."""
    manner, numbers = track.manner, [each.number for each in track.checkpoints]
    return RunRecord(
        targets=[text(target) for target in track.targets],
        unit=track.unit,
        criterion=CriterionRecord(min_fan_in=manner.criterion.min_fan_in, min_weights=manner.criterion.min_weights),
        selection=[text(pattern) for pattern in manner.selection.layers],
        excluded=[text(pattern) for pattern in manner.selection.exclude],
        checkpoints=[_checkpoint(each) for each in track.checkpoints],
        courses=[_course(each, track.unit) for each in track.courses],
        transitions=[_transition(each, numbers) for each in track.transitions],
        frozen=list(track.frozen),
        remarks=[text(remark) for remark in track.remarks],
    )


def track_schema() -> dict[str, object]:
    """Give the JSON Schema (2020-12) of what is said of a run."""
    return {
        "$schema": JSON_SCHEMA,
        "title": FORMAT,
        "description": "What `jaynes track` says of the checkpoints of one run.",
        **msgspec.json.schema(TrackReportRecord),
    }


def _checkpoint(checkpoint: TrackedCheckpoint) -> CheckpointRecord:
    return CheckpointRecord(
        target=text(checkpoint.location),
        commit=text(checkpoint.commit) or None,
        number=checkpoint.number,
        loss=checkpoint.loss,
        remarks=[text(remark) for remark in checkpoint.remarks],
        point=checkpoint.point,
    )


def _course(course: RoleCourse, unit: str) -> CourseRecord:
    found = course.settling if isinstance(course.settling, Settling) else None
    settled = found is not None and found.course is not Course.MOVING
    return CourseRecord(
        role=course.role,
        quantity=course.quantity,
        layers=course.layers,
        numbers=list(course.steps),
        values=list(course.values),
        course=found.course.value if found else CANNOT_BE_SAID,
        sentence=_sentence(course, unit),
        settled_at=found.step if found and settled else None,
        earliest=found.earliest if found else None,
        latest=found.latest if found and settled else None,
        start=found.start if found else None,
        level=found.level if found else None,
        noise=found.noise if found else None,
        correlation=found.correlation if found else None,
    )


def _sentence(course: RoleCourse, unit: str) -> str:
    found = course.settling
    if not isinstance(found, Settling):
        return f"{CANNOT_BE_SAID}: {found.reason}"
    level = f"{found.level:.3f} ± {found.noise:.3f}"
    way = f"from {found.start:.3f} to {level}"
    match found.course:
        case Course.STEADY:
            return f"the same throughout, {level}"
        case Course.SETTLED:
            return f"settled at {unit} {found.step:,} (95 %: {found.earliest:,} to {found.latest:,}), {way}"
    return f"not settled yet: not before {unit} {found.earliest:,}, if at all; {way}"


def _transition(transition: Transition, numbers: Sequence[int]) -> TransitionRecord:
    return TransitionRecord(
        before=numbers[transition.before],
        after=numbers[transition.after],
        compared=transition.compared,
        unchanged=list(transition.unchanged),
        moves=[_move(move) for move in transition.moves],
    )


def _move(move: Move) -> MoveRecord:
    return MoveRecord(
        name=move.name,
        role=move.role,
        mu_change=move.mu_change,
        mu_error=move.mu_error,
        sigma_change=move.sigma_change,
        sigma_error=move.sigma_error,
        times=move.times,
        alone=move.alone,
    )
