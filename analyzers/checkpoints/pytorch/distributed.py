"""Distributed checkpoints: a folder with `.metadata`, a pickle, and `.distcp` files with what each process saved.

The metadata tell of each tensor how large it is, into which chunks it was cut, and where in which file each chunk lies:
as a zip file of PyTorch's of its own, or, with `SerializationFormat.SAFETENSORS`, under the tensor's name in the one
safetensors file that the `.distcp` file then ends with. Source: `torch/distributed/checkpoint/metadata.py` and
`filesystem.py` of torch 2.13. What is no tensor (`BytesStorageMetadata`) is passed over.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import BinaryIO, NamedTuple

import numpy as np

from jaynes_audit.analyzers.checkpoints.file_part import file_part
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.assembly import unknown_globals
from jaynes_audit.analyzers.checkpoints.pytorch.decoders import Chunk, Chunked, Strided
from jaynes_audit.analyzers.checkpoints.pytorch.machine import unpickle
from jaynes_audit.analyzers.checkpoints.pytorch.naming import Located, named_tensors
from jaynes_audit.analyzers.checkpoints.pytorch.objects import Global, OddKey, Record, Unreadable
from jaynes_audit.analyzers.checkpoints.pytorch.zip_file import pickled_in_zip
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.reading import is_absent, opened
from jaynes_audit.analyzers.checkpoints.safetensors_header import read_safetensors
from jaynes_audit.analyzers.checkpoints.tensor import Defect, Tensor, WeightFile
from jaynes_audit.analyzers.dtypes import BITS, Dtype
from jaynes_audit.analyzers.errors import RefusedFile

METADATA = ".metadata"
SUFFIX = ".distcp"
LONGEST_FILE_NAME = 255  # bytes, on every file system in use
MOST_CHUNKS = 4_096  # of one tensor; each chunk is compared with all others
LARGEST_RANK = 64  # as torch and NumPy have it
BITS_PER_BYTE = 8
ZIP = b"PK\3\4"
WRITE_AGAIN = "save the checkpoint again"


def read_distributed(folder: Place) -> WeightFile:
    """The tensors of a distributed checkpoint's folder, each whole, however many processes saved a part of it.

    `file` of what is given is the metadata's. Reads the metadata, and of each chunk where it lies. Where a file is
    missing, a defect says so, and the tensors that are not wholly in the others are left out.

    Raises:
        RefusedFile: JN003 when the metadata are not as torch writes them, JN004 when chunks do not fill their tensor or
            lie in each other, JN008 when they were packed by an extension; and as reading a zip file of PyTorch's does.
        CouldNotRead: when the machine does not let a file be read.
    """
    file = folder / METADATA
    with opened(file) as (stream, size):
        pickled = unpickle(stream, size)
        metadata = _Metadata(pickled.root)
    with ExitStack() as stack:
        files = _Files(folder, stack, metadata.file_names())
        read = [
            Located(*metadata.keys_of(name), _whole(name, description, metadata, files))
            for name, description in metadata.tensors()
        ]
    _refuse_shared([each.tensor for each in read if isinstance(each.tensor, Tensor)])
    found = named_tensors(read)
    return WeightFile(
        file=file,
        tensors=tuple(
            replace(named.tensor, name=named.name) for named in found.tensors if isinstance(named.tensor, Tensor)
        ),
        undecoded={named.name: named.tensor.reason for named in found.tensors if isinstance(named.tensor, Unreadable)},
        defects=(*unknown_globals({**pickled.unknown, **files.unknown}, file), *files.missing_defects(file)),
        remarks=found.remarks,
        is_pickle=True,
    )


class _Missing(NamedTuple):
    """A tensor of which not every chunk's file is there."""


def _refuse_shared(tensors: Sequence[Tensor]) -> None:
    """Refuse tensors that lie in each other: each would be counted, however often the same bytes are named."""
    spans = sorted(
        (str(span.file), span.start, span.end, tensor.name)
        for tensor in tensors
        for span in tensor.needs(0, prod(tensor.shape) * BITS[tensor.dtype] // BITS_PER_BYTE)
        if span.start < span.end
    )
    for (file, _, end, name), (other_file, start, _, other) in pairwise(spans):
        if file == other_file and start < end:
            raise _bad(f"has the tensors {quoted(name)} and {quoted(other)} in the same bytes", "overlap", rule="JN004")


def _bad(fault: str, case: str, *, rule: str = "JN003") -> RefusedFile:
    return RefusedFile(f"the distributed checkpoint {fault}; {WRITE_AGAIN}", rule=rule, case=case)


# ---- the metadata


@dataclass(frozen=True, slots=True)
class _Item:
    """Where a chunk lies: the file's name, and the bytes of it."""

    file_name: str
    start: int
    end: int


class _Metadata:
    """What `.metadata` tells, each part checked when it is asked for."""

    def __init__(self, root: object) -> None:
        self._tensors = _dict(root, "state_dict_metadata")
        self._paths = _fields(root).get("planner_data")
        self._items: dict[tuple[str, str], _Item] = {}
        for key, value in _dict(root, "storage_data").items():
            index = _fields(key.value if isinstance(key, OddKey) else key)
            name, offset = index.get("fqn"), index.get("offset")
            if not isinstance(name, str):
                raise _bad("has an item without a name", "distributed-item")
            self._items[_item_key(name, () if offset is None else _numbers(offset, name))] = _item(name, value)

    def file_names(self) -> list[str]:
        """The files that it names, each once and in order."""
        return list(dict.fromkeys(item.file_name for item in self._items.values()))

    def tensors(self) -> Iterator[tuple[str, Mapping[object, object]]]:
        """The tensors' names and what is said of each; what else was saved is left out."""
        for name, value in self._tensors.items():
            if not isinstance(name, str):
                raise _bad("has a tensor without a name", "distributed-item")
            fields = _fields(value)
            if "chunks" in fields:
                yield name, fields

    def keys_of(self, name: str) -> tuple[str, str]:
        """The outermost key that leads to a tensor, and the rest of its name."""
        path = self._paths.get(name) if isinstance(self._paths, dict) else None
        match path:
            case (str(top), *_) if name.startswith(f"{top}."):
                return top, name[len(top) + 1 :]
            case _:
                return name, ""

    def item(self, name: str, offsets: tuple[int, ...]) -> _Item:
        """Where the chunk of a tensor that begins at these offsets lies."""
        found = self._items.get(_item_key(name, offsets))
        if found is None and not any(offsets):
            found = self._items.get(_item_key(name, ()))  # a tensor of one chunk may have been saved without an offset
        if found is None:
            raise _bad(f"does not say where tensor {quoted(name)} from {list(offsets)} on lies", "distributed-item")
        return found


def _item_key(name: str, offsets: Sequence[int]) -> tuple[str, str]:
    """The key of a chunk: text, for numbers could be chosen so that their hashes collide."""
    return name, ",".join(map(str, offsets))


def _fields(value: object) -> Mapping[object, object]:
    """The attributes of a pickled object."""
    state = value.state if isinstance(value, Record) else None
    return state if isinstance(state, dict) else {}


def _dict(root: object, name: str) -> Mapping[object, object]:
    value = _fields(root).get(name)
    if not isinstance(value, dict):
        raise _bad(f"has metadata without {name}", "distributed-metadata")
    return value


def _numbers(value: object, name: str) -> tuple[int, ...]:
    if (
        not isinstance(value, tuple | list)
        or len(value) > LARGEST_RANK
        or any(type(number) is not int or not 0 <= number < 1 << 63 for number in value)
    ):
        raise _bad(f"has something else than a size or offsets for tensor {quoted(name)}", "distributed-size")
    return tuple(value)


def _item(name: str, value: object) -> _Item:
    fields = _fields(value)
    match fields.get("relative_path"), fields.get("offset"), fields.get("length"):
        case str(file_name), int(start), int(length) if 0 <= start < 1 << 63 and 0 <= length < 1 << 63:
            if fields.get("transform_descriptors"):
                raise _bad(f"has tensor {quoted(name)} packed by an extension", "distributed-transform", rule="JN008")
            if not _is_plain(file_name):
                raise _bad(f"names {quoted(file_name)} as a file, which must be a plain name", "unsafe-shard-name")
            return _Item(file_name, start, start + length)
        case _:
            raise _bad(f"does not say where tensor {quoted(name)} lies", "distributed-item")


def _is_plain(file_name: str) -> bool:
    """Whether it is the name of a file in the same folder, on every system."""
    try:
        length = len(file_name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return 0 < length <= LONGEST_FILE_NAME and file_name not in {".", ".."} and not set(file_name) & set("/\\:\0")


# ---- the files


class _Files:
    """The files of the folder, opened once each, and what was found where in them."""

    def __init__(self, folder: Place, stack: ExitStack, names: Sequence[str]) -> None:
        self.unknown: dict[Global, None] = {}
        self.missing = [name for name in names if is_absent(folder / name)]
        self._names = names
        self._folder = folder
        self._stack = stack
        self._open: dict[str, tuple[BinaryIO, int]] = {}
        self._found: dict[tuple[str, int], Mapping[str, Tensor | Unreadable]] = {}

    def missing_defects(self, file: Place) -> Iterator[Defect]:
        """The finding about files that are not there."""
        if self.missing:
            sentence = (
                f"{len(self.missing):,} of {len(self._names):,} files of the distributed checkpoint are missing: "
                f"{listed(self.missing)}; fetch them again"
            )
            yield Defect(rule="JN005", case="missing-shard", file=str(file), sentence=sentence)

    def tensor(self, name: str, item: _Item) -> Tensor | Unreadable:
        """The tensor that is stored as an item: its only one, or in a safetensors file the one of its name."""
        key = (item.file_name, item.start)
        if key not in self._found:
            self._found[key] = self._read(name, item)
        found = self._found[key]
        if ONLY in found:
            return found[ONLY]
        if name not in found:
            raise _bad(f"has no tensor {quoted(name)} in {quoted(item.file_name)}", "distributed-item")
        return found[name]

    def _read(self, name: str, item: _Item) -> Mapping[str, Tensor | Unreadable]:
        path = self._folder / item.file_name
        if item.file_name not in self._open:
            self._open[item.file_name] = self._stack.enter_context(opened(path))
        stream, size = self._open[item.file_name]
        if item.end > size:
            raise _bad(
                f"places tensor {quoted(name)} up to byte {item.end:,} of {quoted(item.file_name)}, which has {size:,}",
                "distributed-item-outside",
                rule="JN001",
            )
        stream.seek(item.start)
        if stream.read(len(ZIP)) != ZIP:
            stream.seek(item.start)
            weights = read_safetensors(stream, path, size - item.start)
            return {tensor.name: _moved(tensor, item.start) for tensor in weights.tensors}
        part = file_part(stream, item.start, item.end - item.start)
        held = pickled_in_zip(part, path, item.end - item.start)
        self.unknown.update(held.unknown)
        return {ONLY: _only(name, held.weights(), item.start)}


ONLY = ""
"""The name under which an item's only tensor is found, whatever it is called."""


def _only(name: str, weights: WeightFile, start: int) -> Tensor | Unreadable:
    for reason in weights.undecoded.values():
        return Unreadable(reason)
    if len(weights.tensors) != 1:
        raise _bad(f"has {len(weights.tensors):,} tensors where {quoted(name)} is to be", "distributed-item")
    return _moved(weights.tensors[0], start)


def _moved(tensor: Tensor, distance: int) -> Tensor | Unreadable:
    """The tensor of a part of a file, as one of the file."""
    decoder = tensor.decoder
    if decoder is not None and not isinstance(decoder, Strided):
        return Unreadable("it is quantised by PyTorch and stored in a distributed checkpoint")
    moved = replace(decoder, start=decoder.start + distance) if decoder else None
    return replace(tensor, start=tensor.start + distance, end=tensor.end + distance, decoder=moved)


# ---- one tensor


class _Cut(NamedTuple):
    """The part of a tensor that a chunk is."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


def _whole(
    name: str, description: Mapping[object, object], metadata: _Metadata, files: _Files
) -> Tensor | Unreadable | _Missing:
    """A tensor out of the chunks that it is stored in, which fill it."""
    shape = _numbers(description.get("size"), name)
    cuts = _cuts(name, description.get("chunks"), shape)
    items = [metadata.item(name, cut.offsets) for cut in cuts]
    if _overlap(cuts):
        raise _bad(f"has chunks of tensor {quoted(name)} in each other", "distributed-chunks", rule="JN004")
    if any(item.file_name in files.missing for item in items):
        return _Missing()
    chunks: list[Tensor] = []
    for cut, item in zip(cuts, items, strict=True):
        chunk = files.tensor(name, item)
        if isinstance(chunk, Unreadable):
            return chunk
        _refuse_other_shape(name, chunk, cut, chunks)
        chunks.append(chunk)
    if len(chunks) == 1:
        return replace(chunks[0], name=name)
    if chunks[0].dtype is Dtype.F4:
        return Unreadable("it is a tensor of float4_e2m1fn_x2 in several chunks, of which two elements share a byte")
    stored = zip(cuts, chunks, strict=True)
    whole = Chunked(
        shape=shape, chunks=tuple(Chunk(offsets=cut.offsets, stored=_as_strided(chunk)) for cut, chunk in stored)
    )
    return replace(chunks[0], name=name, shape=shape, decoder=whole)


def _cuts(name: str, chunks: object, shape: tuple[int, ...]) -> list[_Cut]:
    """The chunks of a tensor that hold anything, one at least. All lie inside its shape, and have its size together."""
    if not isinstance(chunks, list) or not 0 < len(chunks) <= MOST_CHUNKS:
        raise _bad(f"has no chunks for tensor {quoted(name)}, or more than {MOST_CHUNKS:,}", "distributed-chunks")
    cuts = [
        _Cut(_numbers(_fields(each).get("offsets"), name), _numbers(_fields(each).get("sizes"), name))
        for each in chunks
    ]
    if not all(_is_inside(cut, shape) for cut in cuts):
        raise _bad(f"has a chunk outside tensor {quoted(name)}", "distributed-chunk-outside", rule="JN004")
    filled = [cut for cut in cuts if 0 not in cut.sizes] or cuts[:1]
    if sum(prod(cut.sizes) for cut in filled) != prod(shape):
        raise _bad(f"has chunks that do not fill tensor {quoted(name)}", "distributed-chunks", rule="JN004")
    return filled


def _is_inside(cut: _Cut, shape: tuple[int, ...]) -> bool:
    return len(cut.offsets) == len(cut.sizes) == len(shape) and all(
        offset + size <= length for offset, size, length in zip(*cut, shape, strict=True)
    )


def _overlap(cuts: Sequence[_Cut]) -> bool:
    """Whether two chunks have an element in common."""
    low = np.array([cut.offsets for cut in cuts], np.int64)
    high = low + np.array([cut.sizes for cut in cuts], np.int64)
    return any(
        ((low[index] < high[index + 1 :]) & (low[index + 1 :] < high[index])).all(axis=1).any()
        for index in range(len(cuts) - 1)
    )


def _refuse_other_shape(name: str, chunk: Tensor, cut: _Cut, before: Sequence[Tensor]) -> None:
    """Refuse a chunk that is stored with another shape than the metadata say, or another dtype than those before."""
    sizes = (*cut.sizes[:-1], 2 * cut.sizes[-1]) if chunk.dtype is Dtype.F4 and cut.sizes else cut.sizes
    if chunk.shape != sizes or any(other.dtype != chunk.dtype for other in before[:1]):
        raise _bad(
            f"says that a chunk of tensor {quoted(name)} has the shape {list(cut.sizes)}, and it is {chunk.dtype} of "
            f"{list(chunk.shape)}",
            "distributed-chunk-shape",
            rule="JN004",
        )


def _as_strided(tensor: Tensor) -> Strided:
    if isinstance(tensor.decoder, Strided):
        return tensor.decoder
    element_bytes = BITS[tensor.dtype] // BITS_PER_BYTE
    strides = [element_bytes * prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
    return Strided(file=tensor.file, dtype=tensor.dtype, shape=tensor.shape, start=tensor.start, strides=tuple(strides))
