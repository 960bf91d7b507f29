"""From what a user named to what is known of its training: the files that a trainer left there, each read as it is.

A file that is not understood is told of, and the others are read all the same. Nothing is ever run.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from jaynes_audit.analyzers.checkpoints.families import COMPANIONS, Folder, is_shard, look_into
from jaynes_audit.analyzers.checkpoints.hub.cache import cached_snapshot
from jaynes_audit.analyzers.checkpoints.hub.client import hub_client, is_offline
from jaynes_audit.analyzers.checkpoints.hub.location import hub_location
from jaynes_audit.analyzers.checkpoints.hub.patience import Patience
from jaynes_audit.analyzers.checkpoints.hub.place import Mode, in_mode, is_cached, open_hub, weights_bytes
from jaynes_audit.analyzers.checkpoints.locations import CACHED_UP_TO_BYTES, HubAccess, is_on_hub
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.reading import is_absent, is_folder
from jaynes_audit.analyzers.checkpoints.training_state import lerobot, trainer_log, zero
from jaynes_audit.analyzers.checkpoints.training_state.arguments import FILES as ARGUMENTS
from jaynes_audit.analyzers.checkpoints.training_state.arguments import Arguments, arguments_of
from jaynes_audit.analyzers.checkpoints.training_state.joining import Gathered, joined
from jaynes_audit.analyzers.checkpoints.training_state.pickled import unpickled
from jaynes_audit.analyzers.checkpoints.training_state.saved import Saved, read_bundle, read_optimizer, read_scheduler
from jaynes_audit.analyzers.checkpoints.training_state.state import TrainingState
from jaynes_audit.analyzers.checkpoints.training_state.told import read_json
from jaynes_audit.analyzers.errors import RefusedFile

OPTIMIZERS = ("optimizer.pt", "optimizer.bin", "optimizer.pth")
SCHEDULERS = ("scheduler.pt", "scheduler.bin", "scheduler.pth")
BUNDLES = (".pt", ".pth", ".ckpt", ".bin")
OWN_RULES = frozenset({"JN003", "JN004"})  # for what is said of an optimizer; the others are about the whole file
LONGEST_NUMBER = 18  # digits
STEP_FOLDER = "global_step"  # of DeepSpeed, before the number of updates
DISTRIBUTED = ("optimizer", "optimizer_0")  # folders in which torch's distributed checkpoints keep an optimizer

NOTHING = Saved()  # in a file of weights alone

Of = TypeVar("Of")


def read_training_state(target: str, access: HubAccess | None = None) -> TrainingState:
    """What is known of the training of the checkpoint at a location: what `open_checkpoint` takes, or an optimizer.

    Beside a file, those of its folder count. Where a trainer left nothing, nothing is known.

    Raises:
        CouldNotRead: when nothing is there, or the machine or the server does not let it be read.
    """
    return training_state_at(_place(target, access or HubAccess()))


def _place(target: str, access: HubAccess) -> Place:
    """Where the target is; on the Hub, read in the way that its size asks for, unless the user did."""
    if not is_on_hub(target):
        return Path(target)
    location = hub_location(target)
    if is_offline():
        return cached_snapshot(location).place
    place = open_hub(location, Mode.CACHE, hub_client(patience=Patience(tell=access.tell)))
    is_large = weights_bytes(place) > CACHED_UP_TO_BYTES and not is_cached(place)
    return in_mode(place, access.mode or (Mode.STREAM if access.headers_only or is_large else Mode.CACHE))


def training_state_at(place: Place) -> TrainingState:
    """What is known of the training of the checkpoint at a place. Raises CouldNotRead as `read_training_state` does."""
    if is_folder(place):
        return joined(_Reading(look_into(place)).gathered())
    return joined(_Reading(look_into(place.parent), named=place).gathered())


class _Reading:
    """One look at the files of a folder. `named` is the file that the user named, where it was not the folder."""

    def __init__(self, folder: Folder, named: Place | None = None) -> None:
        self._folder = folder
        self._named = named
        self._files: list[str] = []
        self._refused: list[str] = []

    def gathered(self) -> Gathered:
        """All that the files hold."""
        saved, optimizer_file = self._saved()
        scheduler, steps = saved.scheduler, saved.steps
        if optimizer_file is not None and optimizer_file.name == lerobot.OPTIMIZER:
            scheduler = self._beside(optimizer_file, lerobot.SCHEDULER, lerobot.read_lerobot_scheduler)
            steps = self._beside(optimizer_file, lerobot.STEP, lerobot.read_lerobot_step)
        arguments = self._first(ARGUMENTS, read_arguments)
        return Gathered(
            memory=saved.memory,
            optimizer_file=None if optimizer_file is None else str(optimizer_file),
            steps=steps,
            scheduler=self._first(SCHEDULERS, read_scheduler) or scheduler,
            log=self._first((trainer_log.FILE,), trainer_log.read_trainer_log),
            arguments=arguments,
            files=tuple(self._files),
            refused=tuple(self._refused),
            remarks=(*saved.remarks, *(arguments.remarks if arguments else ()), *self._unread()),
        )

    def _saved(self) -> tuple[Saved, Place | None]:
        """What the first file holds that holds an optimizer, and that file."""
        others = Saved()
        for path, read in self._optimizers():
            saved = self._read(path, read)
            if saved is None:
                continue
            if saved.memory is not None:
                return saved, path
            others = saved
        return others, None

    def _optimizers(self) -> Iterator[tuple[Place, Callable[[Place], Saved]]]:
        """The places where an optimizer could be, the likeliest first, and how each is read."""
        folder, files = self._folder.path, self._folder.files
        named = self._named
        if named is not None and named.name.endswith(BUNDLES) and not (is_shard(named.name) or _is_companion(named)):
            yield named, read_bundle
        yield from ((folder / name, read_optimizer) for name in OPTIMIZERS if name in files)
        beside = (folder.parent / lerobot.FOLDER,) if folder.name == lerobot.WEIGHTS else ()
        for place in (folder, folder / lerobot.FOLDER, *beside):
            if not is_absent(place / lerobot.OPTIMIZER):
                yield place / lerobot.OPTIMIZER, lerobot.read_lerobot_optimizer
        steps = sorted((name for name in self._folder.subfolders if name.startswith(STEP_FOLDER)), key=_number)
        for place in (folder, *(folder / name for name in reversed(steps))):
            if zero.rank_files(place):
                yield place, zero.read_zero
        weights = self._folder.families[:1]  # what `open_checkpoint` reads: no other is worth fetching
        if self._named is None and weights and weights[0].suffix in BUNDLES and len(weights[0].files) == 1:
            yield weights[0].location, read_bundle

    def _unread(self) -> Iterator[str]:
        """What is there and is not read."""
        for name in DISTRIBUTED:
            if name in self._folder.subfolders and look_into(self._folder.path / name).has_distributed:
                yield f"the distributed optimizer in {quoted(name)} is not read; save its full state to have it read"

    def _first(self, names: tuple[str, ...], read: Callable[[Place], Of]) -> Of | None:
        """What the first of these files holds that is in the folder."""
        name = next((name for name in names if name in self._folder.files), None)
        return None if name is None else self._read(self._folder.path / name, read)

    def _beside(self, path: Place, name: str, read: Callable[[Place], Of]) -> Of | None:
        """What the file of this name beside another holds, where it is there."""
        place = path.parent / name
        return None if is_absent(place) else self._read(place, read)

    def _read(self, path: Place, read: Callable[[Place], Of]) -> Of | None:
        """What a file holds; None where it is refused, which is noted."""
        try:
            found = read(path)
        except RefusedFile as refusal:
            if read is not read_bundle or refusal.rule in OWN_RULES:
                self._refused.append(f"{quoted(path.name)} is not read: {refusal}")
            return None
        if found != NOTHING:
            self._files.append(str(path))
        return found


def read_arguments(path: Place) -> Arguments:
    """The Trainer's arguments in a file. Raises RefusedFile and CouldNotRead as reading pickles and JSON does."""
    if path.name.endswith(".json"):
        return arguments_of(read_json(path))
    with unpickled(path) as pickled:
        return replace(arguments_of(pickled.root), remarks=pickled.remarks)


def _is_companion(place: Place) -> bool:
    """Whether it is a file that is looked for by its name."""
    return COMPANIONS.fullmatch(place.name) is not None


def _number(name: str) -> int:
    digits = name.removeprefix(STEP_FOLDER)
    return int(digits) if digits.isdecimal() and len(digits) <= LONGEST_NUMBER else -1
