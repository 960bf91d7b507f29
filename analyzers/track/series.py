"""What the user named -> Series: the checkpoints of a run, each with its step."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaynes_audit.analyzers.checkpoints import HubAccess, expand
from jaynes_audit.analyzers.checkpoints.families import look_into
from jaynes_audit.analyzers.checkpoints.hub.client import Client, hub_client
from jaynes_audit.analyzers.checkpoints.hub.location import DEFAULT_REVISION, HubLocation, hub_location
from jaynes_audit.analyzers.checkpoints.hub.patience import Patience
from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace, Mode, open_hub
from jaynes_audit.analyzers.checkpoints.hub.references import references
from jaynes_audit.analyzers.checkpoints.locations import is_on_hub
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_folder
from jaynes_audit.analyzers.errors import NothingToAudit, UsageError
from jaynes_audit.analyzers.track.trainer import trainer_log

LEAST_CHECKPOINTS = 2
MOST_CHECKPOINTS = 10_000  # no run keeps so many; a stranger's list of tags may be of any length

STEP, EPOCH, POSITION = "step", "epoch", "position"
"""What a checkpoint's number counts: updates of the weights, epochs, or checkpoints in the order given."""

# What trainers write before the number: transformers' checkpoint-500, DeepSpeed's global_step500, Pythia's step500,
# OLMo's step500-tokens2B, Lightning's epoch=3-step=500. The first of these that a name has counts.
_UNITS: tuple[tuple[str, str], ...] = (
    (STEP, r"(?:global[-_]?)?steps?"),
    (STEP, r"iter(?:ation)?s?"),
    (STEP, r"checkpoint|ckpt"),
    (EPOCH, r"epochs?"),
)
_NUMBERS = tuple(
    (unit, re.compile(rf"(?<![A-Za-z])(?:{words})[-_=]?(?P<number>[0-9]{{1,15}})(?![0-9A-Za-z])", re.IGNORECASE))
    for unit, words in _UNITS
)
_DIGITS = re.compile(r"[0-9]+")

HINT = "the folder of a run, a model on the Hub with a revision for each step, or the checkpoints one by one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which checkpoints of a run are read: those of `steps`, if any are given; of them each `every`th and the last."""

    steps: tuple[int, ...] = ()
    every: int = 1


EVERY_ONE = Choice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A checkpoint of a run: where it is, its number, and what that counts (`STEP`, `EPOCH`, `POSITION`)."""

    location: str
    number: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The checkpoints of a run, their numbers rising. `remarks` says aloud what was chosen and what was passed over."""

    checkpoints: tuple[Located, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbered:
    """A name that tells a number. `before` stands before it, and `pattern` is the name with a mark for all digits."""

    name: str
    unit: str
    number: int
    before: str
    pattern: str


def locate(targets: Sequence[str], choice: Choice = EVERY_ONE, access: HubAccess | None = None) -> Series:
    """Find the checkpoints of a run, by their steps.

    One target is a folder with the checkpoints of a run in it (`checkpoint-500/`, `model_step_500.safetensors`), a
    model on the Hub with a branch or a tag for each (`step500`) or with such folders in it, or a pattern. Several
    targets are the checkpoints themselves: their steps are told by the trainer_state.json in them, or by their names.
    Where not each tells one, they are numbered in the order given, and a remark says so.

    Raises:
        UsageError: when a target has no meaning, there are fewer than two checkpoints, or a step that is not there is
            asked for.
        NothingToAudit: when there is nothing in the folder, or nothing that the pattern matches.
        CouldNotRead: when a path does not exist, or the machine or the Hub does not give it.
    """
    series = _of_one(targets[0], access or HubAccess()) if len(targets) == 1 else _listed(expand(targets))
    series = _chosen(series, choice)
    number = len(series.checkpoints)
    if number < LEAST_CHECKPOINTS:
        raise UsageError(f"a series takes two checkpoints or more, and {listed(targets)} gives {number}; name {HINT}")
    if number > MOST_CHECKPOINTS:
        raise UsageError(
            f"{listed(targets)} has {number:,} checkpoints, more than {MOST_CHECKPOINTS:,}; choose some with --every"
        )
    return series


def _of_one(target: str, access: HubAccess) -> Series:
    if is_on_hub(target):
        return _on_hub(hub_location(target), access)
    locations = expand([target])
    path = Path(locations[0])
    return _inside(path, str) if len(locations) == 1 and is_folder(path) else _listed(locations)


def _on_hub(location: HubLocation, access: HubAccess) -> Series:
    client = hub_client(patience=Patience(tell=access.tell))
    if location.revision == DEFAULT_REVISION and not location.path:
        series = _revisions(location.repo, client)
        if len(series.checkpoints) >= LEAST_CHECKPOINTS:
            return series

    def address(place: Place) -> str:
        return str(replace(location, path=place.path)) if isinstance(place, HubPlace) else str(place)

    return _inside(open_hub(location, Mode.STREAM, client), address)


def _revisions(repo: str, client: Client) -> Series:
    names = [each.name for each in references(repo, client)]
    chosen, others = _largest_series(names)
    return Series(
        checkpoints=tuple(
            Located(location=str(HubLocation(repo=repo, revision=each.name)), number=each.number, unit=each.unit)
            for each in chosen
        ),
        remarks=_passed_over("revisions", [name for name in others if _number_in(name)]),
    )


def _inside(place: Place, address: Callable[[Place], str]) -> Series:
    """The checkpoints in the folder of a run: its sub-folders or its files of weights, whichever are more."""
    folder = look_into(place)
    weights: dict[str, Place] = {}
    for family in folder.families:  # the preferred format first
        weights.setdefault(family.base, family.location)
    folders: dict[str, Place] = {name: place / name for name in folder.subfolders}
    of_folders, other_folders = _largest_series(folders)
    of_weights, other_weights = _largest_series(weights)
    if not (of_folders or of_weights):
        nothing = "holds no folder or file named after a step, as checkpoint-500 is"
        told = "is one checkpoint, and no series of them" if weights else nothing
        error = UsageError if weights else NothingToAudit
        raise error(f"{quoted_path(place)} {told}; name {HINT}")
    found, chosen = (folders, of_folders) if len(of_folders) >= len(of_weights) else (weights, of_weights)
    beside = other_weights if found is weights else list(weights)
    return Series(
        checkpoints=tuple(
            Located(location=address(found[each.name]), number=each.number, unit=each.unit) for each in chosen
        ),
        remarks=(
            *_passed_over("folders", [name for name in other_folders if found is folders and _number_in(name)]),
            *_passed_over("weights", beside),
        ),
    )


def _listed(locations: Sequence[str]) -> Series:
    """The checkpoints one by one, by their steps where each tells one of its own."""
    known = [each for each in map(_told_by, locations) if each]
    if len(locations) == len({each.number for each in known}) and len({each.unit for each in known}) == 1:
        return Series(checkpoints=tuple(sorted(known, key=lambda each: each.number)))
    positions = tuple(
        Located(location=location, number=at, unit=POSITION) for at, location in enumerate(locations, start=1)
    )
    why = "not each of them tells a step of its own"
    return Series(checkpoints=positions, remarks=(f"numbered in the order in which they were given: {why}",))


def _told_by(location: str) -> Located | None:
    """Give the step of a checkpoint by its trainer's log, by its name, or by that of its folder."""
    if is_on_hub(location):
        found = hub_location(location)
        names = [found.path.rpartition("/")[2], found.revision]
    else:
        path = Path(location)
        names = [path.name, path.absolute().parent.name]
        step = trainer_log(path).step if is_folder(path) else None
        if step is not None:
            return Located(location=location, number=step, unit=STEP)
    known = next(filter(None, map(_number_in, names)), None)
    return Located(location=location, number=known.number, unit=known.unit) if known else None


def _number_in(name: str) -> _Numbered | None:
    for unit, pattern in _NUMBERS:
        found = pattern.search(name)
        if found:
            return _Numbered(
                name=name,
                unit=unit,
                number=int(found["number"]),
                before=name[: found.start("number")],
                pattern=_DIGITS.sub("#", name),
            )
    return None


def _largest_series(names: Iterable[str]) -> tuple[list[_Numbered], list[str]]:
    """Give those of the names that are of the largest series, in the order of their numbers, and the others.

    Names are of one series when they differ in digits alone: so `tmp-checkpoint-500`, which a kill left, is not of it.
    Where two of them have one number, all that stands before it must be the same.
    """
    everything = list(names)
    chosen = _most([each for each in map(_number_in, everything) if each], lambda each: each.pattern)
    if len({each.number for each in chosen}) < len(chosen):
        chosen = _most(chosen, lambda each: each.before)
    by_number = {each.number: each for each in reversed(chosen)}
    taken = {each.name for each in by_number.values()}
    return [by_number[number] for number in sorted(by_number)], [name for name in everything if name not in taken]


def _most(names: Sequence[_Numbered], key: Callable[[_Numbered], str]) -> list[_Numbered]:
    """Give the largest group of names with one key, the first of equally large ones."""
    groups: defaultdict[str, list[_Numbered]] = defaultdict(list)
    for each in names:
        groups[key(each)].append(each)
    return max(groups.values(), key=len, default=[])


def _passed_over(what: str, names: Sequence[str]) -> tuple[str, ...]:
    return (f"passed over other {what}: {listed(sorted(names))}",) if names else ()


def _chosen(series: Series, choice: Choice) -> Series:
    found = series.checkpoints
    if choice.steps:
        by_number: Mapping[int, Located] = {each.number: each for each in found}
        missing = [str(step) for step in choice.steps if step not in by_number]
        if missing:
            there = listed([str(number) for number in sorted(by_number)])
            raise UsageError(f"there is no checkpoint of step {listed(missing)}; there are {there}")
        found = tuple(by_number[step] for step in sorted(set(choice.steps)))
    thinned = found[:: choice.every]
    return replace(series, checkpoints=thinned if not found or thinned[-1] == found[-1] else (*thinned, found[-1]))
