"""Which files of a folder belong together, told by their names.

The conventions are those of transformers (`model.safetensors`, shards `-00001-of-00003`, an index, a variant such as
fp16 before the last dot), diffusers (the same with `diffusion_pytorch_model`, and an older place of the variant),
PEFT (`adapter_model.safetensors`) and Mistral and Meta (`consolidated*.safetensors`).
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.reading import translated

SUFFIX = ".safetensors"
CONSOLIDATED = "consolidated"
ADAPTER = "adapter_model"
WHOLE_MODELS = ("model", "diffusion_pytorch_model", "pytorch_model", CONSOLIDATED)
"""Base names that each stand for a whole model, by preference: a folder with two holds the same weights twice."""

_CONVENTIONAL = "|".join((*WHOLE_MODELS, ADAPTER))
_VARIANT = re.compile(rf"(?P<base>{_CONVENTIONAL})\.(?P<variant>[^.]+)")
_NUMBERED = re.compile(rf"{CONSOLIDATED}\.(?P<number>\d+)\{SUFFIX}")
_SHARD = re.compile(rf"(?P<stem>.+)-(?P<number>\d{{1,6}})-of-(?P<count>\d{{1,6}})(?:\.(?P<variant>[^.]+))?\{SUFFIX}")
_INDEX = re.compile(rf"(?P<base>.+)\{SUFFIX}\.index(?:\.(?P<variant>[^.]+))?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Files of one folder whose names say that together they hold one set of weights.

    `shard_count` is the number that the shards' names speak of, 0 when they speak of none; `index` is the index's
    name, "" when there is none; `files` are the weight files present, sorted.
    """

    folder: Path
    base: str
    variant: str
    shard_count: int
    index: str
    files: tuple[str, ...]

    @property
    def location(self) -> Path:
        """The one path that stands for the whole family: its index, or else its first file."""
        return self.folder / (self.index or self.files[0])

    @property
    def label(self) -> str:
        """The family in one word."""
        if self.index or len(self.files) == 1:
            return self.location.name
        return f"{self.files[0]} … {self.files[-1]}"

    @property
    def preference(self) -> tuple[int, bool, bool, bool, str, str, int]:
        """Sorts families that hold the same weights, the one to read first.

        The Hub's own layouts before `consolidated`, full weights before a variant, an index before shards without one,
        shards before a single file.
        """
        return (
            WHOLE_MODELS.index(self.base) if self.base in WHOLE_MODELS else len(WHOLE_MODELS),
            self.variant != "",
            self.index == "",
            self.shard_count == 0,
            self.base,
            self.variant,
            self.shard_count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What stands in a folder: the names of its files and of its sub-folders, sorted, hidden ones left out."""

    path: Path
    files: tuple[str, ...]
    subfolders: tuple[str, ...]

    @property
    def families(self) -> tuple[Family, ...]:
        """The sets of weights in the folder, by preference."""
        return families_among(self.files, folder=self.path)


def look_into(path: Path) -> Folder:
    """The names in a folder. What is neither a folder nor a file (a pipe, say) counts as a file, and is refused later.

    Raises:
        CouldNotRead: when the machine does not let the folder be read.
    """
    with translated(path), os.scandir(path) as entries:
        names = {entry.name: _is_folder(entry) for entry in entries if not entry.name.startswith(".")}
    return Folder(
        path=path,
        files=tuple(sorted(name for name, is_folder in names.items() if not is_folder)),
        subfolders=tuple(sorted(name for name, is_folder in names.items() if is_folder)),
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link that leads back to itself
        return False


def is_index(name: str) -> bool:
    """Whether a file of this name is the index of a checkpoint in shards."""
    return _INDEX.fullmatch(name) is not None


def is_shard(name: str) -> bool:
    """Whether a file of this name says that it is one of several that make up a checkpoint."""
    return _SHARD.fullmatch(name) is not None or _NUMBERED.fullmatch(name) is not None


def shard_number(name: str) -> int:
    """The number of a shard, from its name."""
    match = _SHARD.fullmatch(name) or _NUMBERED.fullmatch(name)
    return int(match["number"]) if match else 0


def shard_name(like: str, number: int) -> str:
    """The name that shard `number` has, made after that of another shard."""
    match = _SHARD.fullmatch(like)
    if match is None:
        return like
    return f"{like[: match.start('number')]}{number:0{len(match['number'])}d}{like[match.end('number') :]}"


def families_among(names: Iterable[str], *, folder: Path) -> tuple[Family, ...]:
    """The families that the files of these names form, by preference. Other names are passed over in silence."""
    indexes: dict[tuple[str, str], str] = {}
    shards: defaultdict[tuple[str, str, int], list[str]] = defaultdict(list)
    singles: dict[tuple[str, str], str] = {}
    for name in sorted(names):
        if match := _INDEX.fullmatch(name):
            indexes[match["base"], match["variant"] or ""] = name
        elif _NUMBERED.fullmatch(name):
            shards[CONSOLIDATED, "", 0].append(name)
        elif match := _SHARD.fullmatch(name):
            base, variant = _without_variant(match["stem"])
            shards[base, match["variant"] or variant, int(match["count"])].append(name)
        elif name.endswith(SUFFIX):
            singles[_without_variant(name.removesuffix(SUFFIX))] = name

    found = [
        _family(folder, base, variant, index=index, files=_of(shards, base, variant))
        for (base, variant), index in indexes.items()
    ]
    found += [
        _family(folder, base, variant, files=files, shard_count=count)
        for (base, variant, count), files in shards.items()
        if (base, variant) not in indexes
    ]
    found += [_family(folder, base, variant, files=[name]) for (base, variant), name in singles.items()]
    return tuple(sorted(found, key=lambda family: family.preference))


def family_of(path: Path) -> Family:
    """The family that a file belongs to. A shard and an index stand for their whole checkpoint."""
    neighbours = look_into(path.parent).files if is_shard(path.name) or is_index(path.name) else ()
    for family in families_among(neighbours, folder=path.parent):
        if path.name == family.index or (is_shard(path.name) and path.name in family.files):
            return family
    return _family(path.parent, *_without_variant(path.name.removesuffix(SUFFIX)), files=[path.name])


def _of(shards: dict[tuple[str, str, int], list[str]], base: str, variant: str) -> list[str]:
    return sorted(name for key, names in shards.items() if key[:2] == (base, variant) for name in names)


def _family(
    folder: Path, base: str, variant: str, *, files: list[str], index: str = "", shard_count: int = 0
) -> Family:
    return Family(
        folder=folder, base=base, variant=variant, shard_count=shard_count, index=index, files=tuple(sorted(files))
    )


def _without_variant(stem: str) -> tuple[str, str]:
    """A file's stem as base and variant. Only after a conventional base is what follows a dot a variant."""
    match = _VARIANT.fullmatch(stem)
    return (match["base"], match["variant"]) if match else (stem, "")
