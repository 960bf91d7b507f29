"""What a checkpoint holds, before a single weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaynes_audit.analyzers.dtypes import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One stored tensor: where its bytes are and how they are to be understood.

    Its bytes are `file[start:end]`, little-endian and in C order; `start` and `end` count from the file's first byte.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def stored_bytes(self) -> int:
        """Length of the tensor in its file, in bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of weights, read as far as its header. `aliases` are the tied tensors that its writer dropped."""

    file: Path
    tensors: tuple[Tensor, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A file, or a part of a checkpoint, that was refused, in one sentence. `rule` is the code that reports it."""

    rule: str
    case: str
    file: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One model's weights: the tensors of all its shards, in the order of their names' first appearance.

    No two tensors have the same name. Tensors of a pipeline's component have its folder before their name, as in
    `unet/conv_in.weight`. `configs` are the parsed config.json files by that prefix, "" for the folder itself.
    `aliases` maps a tied tensor that the writer dropped to the one it kept. `missing` names the tensors that the index
    promises and no readable shard holds. `remarks` says aloud what was chosen and
    what was passed over.
    """

    location: str
    tensors: tuple[Tensor, ...]
    files: tuple[Path, ...]
    configs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()
    remarks: tuple[str, ...] = ()

    def config_of(self, name: str) -> Mapping[str, object]:
        """The config.json that describes the tensor of this name; empty when there is none."""
        component, separator, _ = name.partition("/")
        return self.configs.get(component + separator) or self.configs.get("", {})
