"""What a checkpoint holds, before a single weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from jaynes_audit.analyzers.checkpoints.decoding import Decoder
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.dtypes import BITS, Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor: where its bytes are and how they are to be understood.

    Without a decoder its bytes are `file[start:end]`, little-endian and in C order; `start` and `end` count from the
    file's first byte. With one they are what it makes, and `file[start:end]` holds the first of what it makes them of.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    file: Place
    start: int
    end: int
    decoder: Decoder | None = None

    @property
    def stored_bytes(self) -> int:
        """Length of all it is stored in, in bytes."""
        if self.decoder is None:
            return self.end - self.start
        spans = sum(span.end - span.start for span in self.decoder.needs(0, prod(self.shape)))
        # A view is read with what lies between its elements, which is not its own.
        return spans if self.decoder.scheme else min(spans, self.bytes)

    @property
    def bytes(self) -> int:
        """Length of it as it is read, in bytes."""
        return prod(self.shape) * BITS[self.dtype] // 8

    @property
    def stored_tensors(self) -> int:
        """How many stored tensors it is made of."""
        return max(1, len(self.decoder.parts)) if self.decoder else 1

    @property
    def stored_as(self) -> str:
        """The number format it is stored in: its dtype, or the label of its quantiser."""
        scheme = self.decoder.scheme if self.decoder else None
        return scheme.label if scheme else str(self.dtype)

    def needs(self, start: int, end: int) -> tuple[Span, ...]:
        """The stored bytes that bytes `start` to `end` of the tensor, as it is read, are made from."""
        if self.decoder is None:
            return (Span(self.file, self.start + start, self.start + end),)
        element_bytes = BITS[self.dtype] // 8
        return self.decoder.needs(start // element_bytes, end // element_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of weights, read as far as its header.

    `aliases` are tied tensors: the names that its writer dropped, or stored as the very same bytes, each with the name
    that was kept. `undecoded` maps tensors that cannot be turned into numbers to the reason; `tensors` need not list
    them. `defects` are parts of the file that were refused beside others that were not, `remarks` what a reader of the
    report should know. `config` is what the file says of its model, in the terms of a config.json. `is_pickle`
    tells that whoever loads it in the usual way runs what its writer put in.
    """

    file: Place
    tensors: tuple[Tensor, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    undecoded: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    defects: tuple["Defect", ...] = ()
    remarks: tuple[str, ...] = ()
    is_pickle: bool = False

    @property
    def names(self) -> frozenset[str]:
        """All names that the file knows: of tensors, of those tied to them, of those that cannot be decoded."""
        return frozenset([*(tensor.name for tensor in self.tensors), *self.aliases, *self.undecoded])


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
    promises and no readable shard holds; `undecoded` maps those that are there and cannot be turned into numbers to the
    reason. `remarks` says aloud what was chosen and what was passed over. `commit` is the Hub's name of the version.
    `pickles` names the files whose tensors are stored as a pickle.
    """

    location: str
    tensors: tuple[Tensor, ...]
    files: tuple[Place, ...]
    configs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    undecoded: Mapping[str, str] = field(default_factory=dict)
    defects: tuple[Defect, ...] = ()
    remarks: tuple[str, ...] = ()
    commit: str = ""
    pickles: tuple[str, ...] = ()

    def config_of(self, name: str) -> Mapping[str, object]:
        """The config.json that describes the tensor of this name; empty when there is none."""
        component, separator, _ = name.partition("/")
        return self.configs.get(component + separator) or self.configs.get("", {})
