"""From a file or a folder to one checkpoint: which files belong to it, and what was passed over."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from jaynes_audit.analyzers.checkpoints.configs import Config, read_config
from jaynes_audit.analyzers.checkpoints.families import (
    ADAPTER,
    COMPANIONS,
    DISTRIBUTED_INDEX,
    DISTRIBUTED_SUFFIX,
    WHOLE_MODELS,
    Family,
    Folder,
    family_of,
    is_index,
    look_into,
    shard_name,
    shard_number,
    slice_name,
)
from jaynes_audit.analyzers.checkpoints.formats import open_weights
from jaynes_audit.analyzers.checkpoints.index import (
    Index,
    index_defects,
    missing_shards,
    read_index,
    tensors_in_two_shards,
    total_size_remarks,
)
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.distributed import read_distributed
from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_absent, is_folder
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect, Tensor, WeightFile
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, RefusedFile, UsageError

ORIGINAL = "original"  # Meta's own layout of the same weights, beside the Hub's
PIPELINE = "model_index.json"  # diffusers: the components of a pipeline, each in a folder of its name

MOST_NAMED = 5  # of missing shards; a name may claim a million

OTHER_WEIGHTS: Mapping[str, str] = {
    ".mlmodel": "Core ML",
    ".nemo": "NeMo",
    ".ot": "rust_model",
    ".pb": "TensorFlow",
    ".pkl": "pickle",
}
"""Endings of files that hold weights in a format which is not read."""


def open_place(place: Place) -> Checkpoint:
    """The checkpoint at a place: a file, a shard or an index (for the whole they belong to), or a folder.

    Reads headers, indexes and config.json, never a weight. A part that is not sound becomes a defect of the checkpoint,
    beside the tensors of the parts that are. Of several sets of the same weights one is read, by
    `Family.preference`, and a remark names it and the others. Quantised weights are put together from their parts.

    Raises:
        CouldNotRead: when nothing is there, the machine or the server does not let it be read, or a library is missing.
        NothingToAudit: when no file of weights is there, or none holds a tensor.
        UsageError: when a folder holds several models, and one must be named.
    """
    checkpoint = _open_folder(look_into(place)) if is_folder(place) else _open_file(place)
    if not (checkpoint.tensors or checkpoint.undecoded or checkpoint.defects):
        raise NothingToAudit(f"{quoted_path(place)} is sound and holds no tensor; name a checkpoint with weights")
    return replace(dequantised(checkpoint), location=str(place))


# ---- one file


def _open_file(path: Place) -> Checkpoint:
    if path.name == DISTRIBUTED_INDEX or path.name.endswith(DISTRIBUTED_SUFFIX):
        folder = look_into(path.parent)
        if folder.has_distributed:
            return _open_distributed(folder)
    family = family_of(path)
    checkpoint = _open_family(family)
    if is_index(path.name) or len(family.files) <= 1:
        return checkpoint
    remark = f"{quoted(path.name)} is one shard of several, so the whole checkpoint was read"
    return replace(checkpoint, remarks=(remark, *checkpoint.remarks))


# ---- one folder


def _open_folder(folder: Folder) -> Checkpoint:
    if PIPELINE in folder.files:
        return _open_pipeline(folder)
    if folder.has_distributed and not folder.families:
        return _open_distributed(folder)
    if folder.families:
        return _open_best(folder)
    raise NothingToAudit(_nothing_in(folder))


def _open_best(folder: Folder) -> Checkpoint:
    """The set of weights that the folder is there for, with a remark about every other."""
    families = folder.families
    whole = [family for family in families if family.base in WHOLE_MODELS or family.index]
    adapters = [family for family in families if family.base == ADAPTER]
    # Without a name that says so, files are parts of one model only if they are of one format.
    chosen = (whole or adapters)[:1] or [each for each in families if each.format_rank == families[0].format_rank]
    checkpoint = _open_family(chosen[0]) if len(chosen) == 1 else _open_unrelated(folder, chosen)
    used = {*map(str, checkpoint.files), *(defect.file for defect in checkpoint.defects)}
    passed_over = [
        family.label
        for family in families
        if family not in chosen and not used.issuperset(str(folder.path / name) for name in family.files)
    ]
    if folder.has_distributed:
        passed_over.append(DISTRIBUTED_INDEX)
    passed_over += [f"{name}/" for name in folder.subfolders if name == ORIGINAL or _holds_weights(folder.path / name)]
    if not passed_over:
        return checkpoint
    read = listed([family.label for family in chosen])
    remark = f"read {read} and passed over {listed(passed_over)}; name one of them to audit it instead"
    return replace(checkpoint, remarks=(*checkpoint.remarks, remark))


def _open_unrelated(folder: Folder, families: Sequence[Family]) -> Checkpoint:
    """Files that no convention joins, as one checkpoint, provided that no tensor's name stands in two of them."""
    labels = [family.label for family in families]
    parts = [_open_family(family) for family in families]
    names: set[str] = set()
    for part in parts:
        shared = names.intersection(tensor.name for tensor in part.tensors)
        if shared:
            raise UsageError(
                f"{quoted_path(folder.path)} holds {len(labels)} separate models, whose tensors have the same names "
                f"({quoted(min(shared))} for one); name one of {listed(labels)}"
            )
        names.update(tensor.name for tensor in part.tensors)
    joined = _joined([("", part) for part in parts])
    remark = f"{listed(labels)} have no index; their tensors' names differ, so they were read as one checkpoint"
    return replace(joined, remarks=(*joined.remarks, remark))


def _nothing_in(folder: Folder) -> str:
    """The sentence for a folder without a file of weights: what it holds instead."""
    where = quoted_path(folder.path)
    with_weights = [name for name in folder.subfolders if _holds_weights(folder.path / name)]
    steps = [name for name in with_weights if name.startswith("checkpoint-")]
    if steps:
        return f"{where} is a training run without weights of its own; name one of its checkpoints: {listed(steps)}"
    if with_weights:
        return f"{where} holds weights only in its sub-folders; name one of {listed(with_weights)}"
    others = [f"{name} ({OTHER_WEIGHTS[_suffix(name)]})" for name in folder.files if _suffix(name) in OTHER_WEIGHTS]
    if others:
        return f"{where} holds {listed(others)}, which is not read; convert the weights to safetensors"
    companions = [name for name in folder.files if COMPANIONS.fullmatch(name)]
    if companions:
        return f"{where} holds only what a trainer leaves beside weights; name one of {listed(companions)} to read it"
    return f"{where} holds no file of weights; name a folder or a file that does"


def _holds_weights(path: Place) -> bool:
    try:
        folder = look_into(path)
    except CouldNotRead:  # it is only named, not read
        return False
    return bool(folder.families) or PIPELINE in folder.files or folder.has_distributed


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix


# ---- a distributed checkpoint


def _open_distributed(folder: Folder) -> Checkpoint:
    """What PyTorch's distributed training saved: one index, and tensors whose pieces lie in many files."""
    try:
        weights = read_distributed(folder.path)
    except RefusedFile as refusal:
        return Checkpoint(location="", tensors=(), files=(), defects=(_defect(folder.path, refusal),))
    return _checkpoint_of([weights], config=_config_in(folder.path, "config.json"))


# ---- a diffusers pipeline


def _open_pipeline(folder: Folder) -> Checkpoint:
    """All components of a pipeline as one checkpoint, each tensor's name behind its component's folder."""
    declaration = read_config(folder.path / PIPELINE)
    declared = {name for name, value in declaration.values.items() if _is_component(value)}
    inside = [look_into(folder.path / name) for name in folder.subfolders]
    components = [each for each in inside if each.families and (each.path.name in declared or not declared)]
    if not components:
        if folder.families:
            return _open_best(folder)
        raise NothingToAudit(_nothing_in(folder))
    joined = _joined([(f"{component.path.name}/", _open_best(component)) for component in components])
    remarks = (*declaration.remarks, *_pipeline_remarks(folder, inside, declared))
    return replace(joined, remarks=(*joined.remarks, *remarks))


def _pipeline_remarks(folder: Folder, inside: Sequence[Folder], declared: set[str]) -> Iterator[str]:
    """What of a pipeline's folder was passed over, and what is not there."""
    if folder.families:
        yield f"passed over {listed([family.label for family in folder.families])} beside the components"
    for subfolder in inside:
        name = f"{subfolder.path.name}/"
        others = [file for file in subfolder.files if _suffix(file) in OTHER_WEIGHTS]
        if subfolder.families and declared and subfolder.path.name not in declared:
            yield f"passed over {quoted(name)}, which {PIPELINE} does not name"
        elif others and not subfolder.families:
            yield f"passed over {quoted(name)}: it holds {listed(others)}, which is not read"
    for name in sorted(declared.difference(folder.subfolders)):
        yield f"{PIPELINE} names the component {quoted(name)}, and there is no folder of that name"


def _is_component(value: object) -> bool:
    """Whether an entry of model_index.json names a component: [library, class]; [null, null] is one left out."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _joined(parts: Sequence[tuple[str, Checkpoint]]) -> Checkpoint:
    """Several checkpoints as one, each with a prefix for its tensors' names, after which no two may be equal."""
    return Checkpoint(
        location="",
        tensors=tuple(
            replace(tensor, name=prefix + tensor.name) if prefix else tensor
            for prefix, part in parts
            for tensor in part.tensors
        ),
        files=tuple(file for _, part in parts for file in part.files),
        configs={prefix: config for prefix, part in parts for config in part.configs.values()},
        aliases={prefix + new: prefix + old for prefix, part in parts for new, old in part.aliases.items()},
        missing=tuple(prefix + name for prefix, part in parts for name in part.missing),
        undecoded={prefix + name: why for prefix, part in parts for name, why in part.undecoded.items()},
        defects=tuple(defect for _, part in parts for defect in part.defects),
        remarks=tuple(f"{prefix}: {remark}" if prefix else remark for prefix, part in parts for remark in part.remarks),
        pickles=tuple(pickle for _, part in parts for pickle in part.pickles),
    )


# ---- one family of files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shards:
    """The shards of a family as far as they could be read, by name; those not there; and why others were refused."""

    read: Mapping[str, WeightFile]
    absent: tuple[str, ...]
    refused: tuple[Defect, ...]


def _open_family(family: Family) -> Checkpoint:
    if family.is_model_parallel:
        return _open_slices(family)
    if not family.index:
        return _open_without_index(family)
    path = family.folder / family.index
    try:
        index = read_index(path)
    except RefusedFile as refusal:
        rest = _open_without_index(family)
        return replace(rest, defects=(_defect(path, refusal), *rest.defects))
    return _open_with_index(family, index)


def _open_with_index(family: Family, index: Index) -> Checkpoint:
    path = family.folder / family.index
    shards = _read_shards(family.folder, index.shards)
    tensors = _merged(shards.read, index.weight_map)
    defects = index_defects(index, index_file=path, read=shards.read, absent=shards.absent)
    remarks: list[str] = []
    counts_once = not any(weights.aliases or weights.undecoded for weights in shards.read.values())
    if len(shards.read) == len(index.shards) and counts_once:  # else writers differ in what they add up
        remarks += total_size_remarks(index, sum(tensor.stored_bytes for tensor in tensors))
    unnamed = [name for name in family.files if name not in index.shards]
    if unnamed:
        remarks.append(f"passed over {listed(unnamed)}, which the index does not name")
    held = {name for weights in shards.read.values() for name in weights.names}
    missing = tuple(name for name in index.weight_map if name not in held)
    return replace(_checkpoint(family, shards, tensors, defects=defects, remarks=remarks), missing=missing)


def _open_without_index(family: Family) -> Checkpoint:
    shards = _read_shards(family.folder, family.files)
    defects = [*_missing_by_number(family, shards.absent), *tensors_in_two_shards(shards.read)]
    several = len(family.files) > 1
    remarks = ["the shards have no index, so a tensor missing from them would not be noticed"] if several else []
    return _checkpoint(family, shards, _merged(shards.read, {}), defects=defects, remarks=remarks)


def _open_slices(family: Family) -> Checkpoint:
    """Files that each hold a slice of every tensor: all slices, each behind its file's name."""
    alone = [replace(family, files=(name,)) for name in family.files]
    joined = _joined([(f"{PurePosixPath(each.files[0]).stem}/", _open_without_index(each)) for each in alone])
    numbers = {shard_number(name) for name in family.files}
    missing = [slice_name(family.files[0], number) for number in range(max(numbers)) if number not in numbers]
    gap = [missing_shards(missing, missing=len(missing), expected=max(numbers) + 1, file=family.location)]
    remark = f"each of {len(alone)} files holds a slice of every tensor (model parallelism); every slice was read"
    return replace(joined, defects=(*joined.defects, *gap[: len(missing)]), remarks=(*joined.remarks, remark))


def _missing_by_number(family: Family, dangling: Sequence[str]) -> Iterator[Defect]:
    """The shards that the names of the others speak of and that are not there, or are links to nothing."""
    numbers = {shard_number(name) for name in family.files if name not in dangling}
    first = 0 if 0 in numbers else 1  # a few writers count from zero
    expected = max(family.shard_count, len(family.files))
    missing = [number for number in range(first, first + family.shard_count) if number not in numbers]
    names = [shard_name(family.files[0], number) for number in missing[:MOST_NAMED]] or dangling
    if names:
        total = max(len(missing), len(dangling))
        yield missing_shards(names, missing=total, expected=expected, file=family.location)


def _read_shards(folder: Place, names: Sequence[str]) -> _Shards:
    read: dict[str, WeightFile] = {}
    absent: list[str] = []
    refused: list[Defect] = []
    for name in names:
        path = folder / name
        if is_absent(path):
            absent.append(name)
            continue
        try:
            read[name] = open_weights(path)
        except RefusedFile as refusal:
            refused.append(_defect(path, refusal))
    return _Shards(read=read, absent=tuple(absent), refused=tuple(refused))


def _merged(read: Mapping[str, WeightFile], weight_map: Mapping[str, str]) -> tuple[Tensor, ...]:
    """The tensors of all shards; of two with one name, the one in the shard that the index names, or else the first."""
    tensors: dict[str, Tensor] = {}
    for shard, weights in read.items():
        for tensor in weights.tensors:
            if tensor.name not in tensors or weight_map.get(tensor.name) == shard:
                tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _checkpoint(
    family: Family,
    shards: _Shards,
    tensors: tuple[Tensor, ...],
    *,
    defects: Iterable[Defect],
    remarks: Iterable[str],
) -> Checkpoint:
    config = _config_in(family.folder, "adapter_config.json" if family.base == ADAPTER else "config.json")
    checkpoint = _checkpoint_of(list(shards.read.values()), config=config)
    return replace(
        checkpoint,
        tensors=tensors,
        defects=(*shards.refused, *checkpoint.defects, *defects),
        remarks=(*remarks, *checkpoint.remarks),
    )


def _checkpoint_of(files: Sequence[WeightFile], *, config: Config) -> Checkpoint:
    """What the files say together, and the settings beside them. What a file says of itself wins."""
    tensors = tuple(tensor for weights in files for tensor in weights.tensors)
    names = {tensor.name for tensor in tensors}
    settings: dict[str, object] = {}
    for said in (config.values, *(weights.config for weights in files)):
        settings.update(said)
    return Checkpoint(
        location="",
        tensors=tensors,
        files=tuple(weights.file for weights in files),
        configs={"": settings} if settings else {},
        aliases={
            dropped: kept for weights in files for dropped, kept in weights.aliases.items() if dropped not in names
        },
        undecoded={name: why for weights in files for name, why in weights.undecoded.items()},
        defects=tuple(defect for weights in files for defect in weights.defects),
        remarks=(*(remark for weights in files for remark in weights.remarks), *config.remarks),
        pickles=tuple(str(weights.file) for weights in files if weights.is_pickle),
    )


def _config_in(folder: Place, name: str) -> Config:
    path = folder / name
    return Config() if is_absent(path) and not _is_dangling(path) else read_config(path)


def _is_dangling(path: Place) -> bool:
    return isinstance(path, Path) and path.is_symlink()


def _defect(file: Place, refusal: RefusedFile) -> Defect:
    return Defect(rule=refusal.rule, case=refusal.case, file=str(file), sentence=str(refusal))
