"""From a path on this machine to one checkpoint: which files belong to it, and what was passed over."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR

from jaynes_audit.analyzers.checkpoints.configs import Config, read_config
from jaynes_audit.analyzers.checkpoints.families import (
    ADAPTER,
    WHOLE_MODELS,
    Family,
    Folder,
    family_of,
    is_index,
    look_into,
    shard_name,
    shard_number,
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
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_absent, mode_of
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect, Tensor, WeightFile
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, RefusedFile, UsageError

ORIGINAL = "original"  # Meta's own layout of the same weights, beside the Hub's
PIPELINE = "model_index.json"  # diffusers: the components of a pipeline, each in a folder of its name

MOST_NAMED = 5  # of missing shards; a name may claim a million

OTHER_WEIGHTS: Mapping[str, str] = {
    ".bin": "PyTorch",
    ".ckpt": "PyTorch",
    ".distcp": "PyTorch distributed",
    ".gguf": "GGUF",
    ".h5": "HDF5",
    ".keras": "Keras",
    ".msgpack": "Flax",
    ".npz": "NumPy",
    ".onnx": "ONNX",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".tflite": "TensorFlow Lite",
}
"""Endings of files that hold weights in a format which this version does not read."""


def open_local(location: Path | str) -> Checkpoint:
    """The checkpoint at a path: a file, a shard or an index (for the whole they belong to), or a folder.

    Reads headers, indexes and config.json, never a weight. A part that is not sound becomes a defect of the checkpoint,
    beside the tensors of the parts that are. Of several sets of the same weights one is read, by
    `Family.preference`, and a remark names it and the others.

    Raises:
        CouldNotRead: when the path does not exist, or the machine does not let it be read.
        NothingToAudit: when no safetensors file is there, or none holds a tensor.
        UsageError: when a folder holds several models, and one must be named.
    """
    path = Path(location)
    checkpoint = _open_folder(look_into(path)) if S_ISDIR(mode_of(path)) else _open_file(path)
    if not checkpoint.tensors and not checkpoint.defects:
        raise NothingToAudit(f"{quoted_path(path)} is sound and holds no tensor; name a checkpoint with weights")
    return replace(checkpoint, location=str(path))


# ---- one file


def _open_file(path: Path) -> Checkpoint:
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
    if folder.families:
        return _open_best(folder)
    raise NothingToAudit(_nothing_in(folder))


def _open_best(folder: Folder) -> Checkpoint:
    """The set of weights that the folder is there for, with a remark about every other."""
    families = folder.families
    whole = [family for family in families if family.base in WHOLE_MODELS or family.index]
    adapters = [family for family in families if family.base == ADAPTER]
    if not whole and not adapters and len(families) > 1:
        return _open_unrelated(folder)
    chosen = (whole or adapters or families)[0]
    checkpoint = _open_family(chosen)
    used = {*checkpoint.files, *(Path(defect.file) for defect in checkpoint.defects)}
    passed_over = [
        family.label
        for family in families
        if family is not chosen and not used.issuperset(folder.path / name for name in family.files)
    ]
    passed_over += [f"{name}/" for name in folder.subfolders if name == ORIGINAL or _holds_weights(folder.path / name)]
    if not passed_over:
        return checkpoint
    remark = f"read {quoted(chosen.label)} and passed over {listed(passed_over)}; name one of them to audit it instead"
    return replace(checkpoint, remarks=(*checkpoint.remarks, remark))


def _open_unrelated(folder: Folder) -> Checkpoint:
    """Files that no convention joins, as one checkpoint, provided that no tensor's name stands in two of them."""
    labels = [family.label for family in folder.families]
    parts = [_open_family(family) for family in folder.families]
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
    """The sentence for a folder without a safetensors file: what it holds instead."""
    where = quoted_path(folder.path)
    with_weights = [name for name in folder.subfolders if _holds_weights(folder.path / name)]
    steps = [name for name in with_weights if name.startswith("checkpoint-")]
    if steps:
        return f"{where} is a training run without weights of its own; name one of its checkpoints: {listed(steps)}"
    if with_weights:
        return f"{where} holds weights only in its sub-folders; name one of {listed(with_weights)}"
    others = [f"{name} ({OTHER_WEIGHTS[Path(name).suffix]})" for name in folder.files if _is_other(name)]
    if others:
        return (
            f"{where} holds no safetensors file; it holds {listed(others)}, which this version does not read: "
            "convert the weights to safetensors"
        )
    return f"{where} holds no file of weights; name a folder or a file that does"


def _holds_weights(path: Path) -> bool:
    try:
        folder = look_into(path)
    except CouldNotRead:  # it is only named, not read
        return False
    return bool(folder.families) or PIPELINE in folder.files


def _is_other(name: str) -> bool:
    return Path(name).suffix in OTHER_WEIGHTS


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
        others = [file for file in subfolder.files if _is_other(file)]
        if subfolder.families and declared and subfolder.path.name not in declared:
            yield f"passed over {quoted(name)}, which {PIPELINE} does not name"
        elif others and not subfolder.families:
            yield f"passed over {quoted(name)}: it holds {listed(others)}, which this version does not read"
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
        defects=tuple(defect for _, part in parts for defect in part.defects),
        remarks=tuple(f"{prefix}: {remark}" if prefix else remark for prefix, part in parts for remark in part.remarks),
    )


# ---- one family of files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shards:
    """The shards of a family as far as they could be read, by name; those not there; and why others were refused."""

    read: Mapping[str, WeightFile]
    absent: tuple[str, ...]
    refused: tuple[Defect, ...]


def _open_family(family: Family) -> Checkpoint:
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
    if len(shards.read) == len(index.shards):
        remarks += total_size_remarks(index, sum(tensor.stored_bytes for tensor in tensors))
    unnamed = [name for name in family.files if name not in index.shards]
    if unnamed:
        remarks.append(f"passed over {listed(unnamed)}, which the index does not name")
    held = {tensor.name for tensor in tensors}
    missing = tuple(name for name in index.weight_map if name not in held)
    return replace(_checkpoint(family, shards, tensors, defects=defects, remarks=remarks), missing=missing)


def _open_without_index(family: Family) -> Checkpoint:
    shards = _read_shards(family.folder, family.files)
    defects = [*_missing_by_number(family, shards.absent), *tensors_in_two_shards(shards.read)]
    several = len(family.files) > 1
    remarks = ["the shards have no index, so a tensor missing from them would not be noticed"] if several else []
    return _checkpoint(family, shards, _merged(shards.read, {}), defects=defects, remarks=remarks)


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


def _read_shards(folder: Path, names: Sequence[str]) -> _Shards:
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
    config = _config_beside(family)
    names = {tensor.name for tensor in tensors}
    return Checkpoint(
        location=str(family.location),
        tensors=tensors,
        files=tuple(weights.file for weights in shards.read.values()),
        configs={"": config.values} if config.values else {},
        aliases={
            dropped: kept
            for weights in shards.read.values()
            for dropped, kept in weights.aliases.items()
            if dropped not in names
        },
        defects=(*shards.refused, *defects),
        remarks=(*remarks, *config.remarks),
    )


def _config_beside(family: Family) -> Config:
    path = family.folder / ("adapter_config.json" if family.base == ADAPTER else "config.json")
    return read_config(path) if path.is_symlink() or path.exists() else Config()


def _defect(file: Path, refusal: RefusedFile) -> Defect:
    return Defect(rule=refusal.rule, case=refusal.case, file=str(file), sentence=str(refusal))
