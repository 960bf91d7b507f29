"""Which files of a folder belong together, told by their names.

The conventions are those of transformers (`model.safetensors`, shards `-00001-of-00003`, an index, a variant such as
fp16 before the last dot), diffusers (the same with `diffusion_pytorch_model`, and an older place of the variant),
PEFT (`adapter_model.safetensors`) and Mistral and Meta (`consolidated*.safetensors`, `consolidated.00.pth`), and of
llama.cpp's split files. A name says which files belong together; what is in a file its content says.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.reading import translated

SAFETENSORS = ".safetensors"
FORMATS_BY_SUFFIX: tuple[tuple[str, ...], ...] = (
    (SAFETENSORS,),
    (".bin", ".pt", ".pth", ".ckpt"),
    (".gguf",),
    (".keras", ".h5"),
    (".msgpack",),
    (".onnx",),
    (".tflite", ".task"),
    (".npz", ".npy"),
)
"""The endings of files of weights by format, the preferred one first: of two formats in a folder one is read."""

SUFFIXES = tuple(suffix for suffixes in FORMATS_BY_SUFFIX for suffix in suffixes)
CONSOLIDATED = "consolidated"
ADAPTER = "adapter_model"
WHOLE_MODELS = (
    "model",
    "diffusion_pytorch_model",
    "pytorch_model",
    CONSOLIDATED,
    "tf_model",
    "flax_model",
    "diffusion_flax_model",
)
"""Base names that each stand for a whole model, by preference: a folder with two holds the same weights twice."""

DISTRIBUTED_INDEX = ".metadata"  # of torch.distributed.checkpoint
DISTRIBUTED_SUFFIX = ".distcp"

COMPANIONS = re.compile(
    r"(?:optimizer|scheduler|scaler|training_args|rng_state(?:_\d+)?|random_states_\d+|openvino_[a-z_]+|.+_optim_states)"
    r"\.(?:bin|pt|pth)"
)
"""Files that trainers and converters put beside the weights, with the ending of weights. They are read when named."""

SKETCHES_SUFFIX = ".sketches.safetensors"
"""The ending of a sketch archive, which may stand beside the weights that it was made from and is none of them."""

_CONVENTIONAL = "|".join((*WHOLE_MODELS, ADAPTER))
_SUFFIX = rf"(?P<suffix>{'|'.join(re.escape(suffix) for suffix in SUFFIXES)})"
_SINGLE = re.compile(rf"(?P<stem>.+){_SUFFIX}")
_VARIANT = re.compile(rf"(?P<base>{_CONVENTIONAL})\.(?P<variant>[^.]+)")
_NUMBERED = re.compile(rf"{CONSOLIDATED}\.(?P<number>\d+){_SUFFIX}")
_SHARD = re.compile(rf"(?P<stem>.+)-(?P<number>\d{{1,6}})-of-(?P<count>\d{{1,6}})(?:\.(?P<variant>[^.]+))?{_SUFFIX}")
_INDEX = re.compile(rf"(?P<base>.+){_SUFFIX}\.index(?:\.(?P<variant>[^.]+))?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Files of one folder whose names say that together they hold one set of weights.

    `suffix` is the ending of all of them, "" for a file that has none of SUFFIXES. `shard_count` is the number that the
    shards' names speak of, 0 when they speak of none; `index` is the index's name, "" when there is none; `files` are
    the weight files present, sorted.
    """

    folder: Place
    base: str
    variant: str
    suffix: str
    shard_count: int
    index: str
    files: tuple[str, ...]

    @property
    def location(self) -> Place:
        """The one path that stands for the whole family: its index, or else its first file."""
        return self.folder / (self.index or self.files[0])

    @property
    def label(self) -> str:
        """The family in one word."""
        if self.index or len(self.files) == 1:
            return self.location.name
        return f"{self.files[0]} … {self.files[-1]}"

    @property
    def preference(self) -> tuple[bool, int, int, bool, bool, bool, str, str, int]:
        """Sorts families that hold the same weights, the one to read first.

        Whole models first, then by format; the Hub's own layouts before `consolidated`, full weights before a variant,
        an index before shards without one, shards before a single file.
        """
        return (
            self.base not in WHOLE_MODELS,
            self.format_rank,
            WHOLE_MODELS.index(self.base) if self.base in WHOLE_MODELS else len(WHOLE_MODELS),
            self.variant != "",
            self.index == "",
            self.shard_count == 0,
            self.base,
            self.variant,
            self.shard_count,
        )

    @property
    def format_rank(self) -> int:
        """The place of the format that the ending speaks of, by preference."""
        ranks = (rank for rank, suffixes in enumerate(FORMATS_BY_SUFFIX) if self.suffix in suffixes)
        return next(ranks, len(FORMATS_BY_SUFFIX))

    @property
    def is_model_parallel(self) -> bool:
        """Whether each file holds a slice of every tensor, under the same names: Meta's `consolidated.00.pth`."""
        return self.base == CONSOLIDATED and self.suffix != SAFETENSORS and len(self.files) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What stands in a folder: the names of its files and of its sub-folders, sorted, hidden ones left out.

    `has_distributed` tells whether PyTorch saved a distributed checkpoint there, whose one index is a hidden file.
    """

    path: Place
    files: tuple[str, ...]
    subfolders: tuple[str, ...]
    has_distributed: bool

    @property
    def families(self) -> tuple[Family, ...]:
        """The sets of weights in the folder, by preference."""
        return families_among(self.files, folder=self.path)


def look_into(path: Place) -> Folder:
    """The names in a folder. What is neither a folder nor a file (a pipe, say) counts as a file, and is refused later.

    Raises:
        CouldNotRead: when the machine or the server does not let the folder be read.
    """
    found = _names_in(path)
    names = {name: is_folder for name, is_folder in found.items() if not name.startswith(".")}
    return Folder(
        path=path,
        files=tuple(sorted(name for name, is_folder in names.items() if not is_folder)),
        subfolders=tuple(sorted(name for name, is_folder in names.items() if is_folder)),
        has_distributed=_is_distributed(found),
    )


def _is_distributed(names: Mapping[str, bool]) -> bool:
    # Other programs have a .metadata of their own.
    return names.get(DISTRIBUTED_INDEX) is False and any(name.endswith(DISTRIBUTED_SUFFIX) for name in names)


def _names_in(path: Place) -> Mapping[str, bool]:
    if not isinstance(path, Path):
        return path.names()
    with translated(path), os.scandir(path) as entries:
        return {entry.name: _is_folder(entry) for entry in entries}


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


def slice_name(like: str, number: int) -> str:
    """The name that slice `number` of a model-parallel checkpoint has, made after that of another."""
    match = _NUMBERED.fullmatch(like)
    if match is None:
        return like
    return f"{like[: match.start('number')]}{number:0{len(match['number'])}d}{like[match.end('number') :]}"


def is_weights(name: str) -> bool:
    """Whether a file of this name should hold weights, or is the index of files that do."""
    return is_index(name) or (name.endswith(SUFFIXES) and not COMPANIONS.fullmatch(name))


def families_among(names: Iterable[str], *, folder: Place) -> tuple[Family, ...]:
    """The families that the files of these names form, by preference. Other names are passed over in silence."""
    indexes: dict[_Base, str] = {}
    shards: defaultdict[tuple[_Base, int], list[str]] = defaultdict(list)
    singles: dict[_Base, str] = {}
    for name in sorted(name for name in names if is_weights(name) and not name.endswith(SKETCHES_SUFFIX)):
        if match := _INDEX.fullmatch(name):
            indexes[_Base(match["base"], match["variant"] or "", match["suffix"])] = name
        elif match := _NUMBERED.fullmatch(name):
            shards[_Base(CONSOLIDATED, "", match["suffix"]), 0].append(name)
        elif match := _SHARD.fullmatch(name):
            base, variant = _without_variant(match["stem"])
            shards[_Base(base, match["variant"] or variant, match["suffix"]), int(match["count"])].append(name)
        elif match := _SINGLE.fullmatch(name):
            singles[_Base(*_without_variant(match["stem"]), match["suffix"])] = name

    found = [_family(folder, base, index=index, files=_of(shards, base)) for base, index in indexes.items()]
    found += [
        _family(folder, base, files=files, shard_count=count)
        for (base, count), files in shards.items()
        if base not in indexes
    ]
    found += [_family(folder, base, files=[name]) for base, name in singles.items()]
    return tuple(sorted(found, key=lambda family: family.preference))


def family_of(path: Place) -> Family:
    """The family that a file belongs to. A shard and an index stand for their whole checkpoint."""
    neighbours = look_into(path.parent).files if is_shard(path.name) or is_index(path.name) else ()
    for family in families_among(neighbours, folder=path.parent):
        if path.name == family.index or (is_shard(path.name) and path.name in family.files):
            return family
    match = _SINGLE.fullmatch(path.name)
    stem, suffix = (match["stem"], match["suffix"]) if match else (path.name, "")
    return _family(path.parent, _Base(*_without_variant(stem), suffix), files=[path.name])


class _Base(NamedTuple):
    """What the names of a family's files have in common."""

    base: str
    variant: str
    suffix: str


def _of(shards: Mapping[tuple[_Base, int], list[str]], base: _Base) -> list[str]:
    return sorted(name for key, names in shards.items() if key[0] == base for name in names)


def _family(folder: Place, base: _Base, *, files: list[str], index: str = "", shard_count: int = 0) -> Family:
    return Family(
        folder=folder,
        base=base.base,
        variant=base.variant,
        suffix=base.suffix,
        shard_count=shard_count,
        index=index,
        files=tuple(sorted(files)),
    )


def _without_variant(stem: str) -> tuple[str, str]:
    """A file's stem as base and variant. Only after a conventional base is what follows a dot a variant."""
    match = _VARIANT.fullmatch(stem)
    return (match["base"], match["variant"]) if match else (stem, "")
