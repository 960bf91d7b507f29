"""HDF5 file -> tensors: every dataset of numbers, under the name that its model knows it by.

Sources: HDF5 File Format Specification 3.0, sections II (superblock) and III; Keras's `legacy_h5_format.py` and
`saving_lib.py`, and transformers' `modeling_tf_pytorch_utils.py`, for the names.

The walk is our own. It needs no library, reads headers in place however large the file is, and never opens another
file: that is what external storage, external links and virtual datasets ask a reader to do (CVE-2026-1669).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import BinaryIO, NamedTuple

from jaynes_audit.analyzers.checkpoints.content import Content
from jaynes_audit.analyzers.checkpoints.decoding import Decoder
from jaynes_audit.analyzers.checkpoints.keras_hdf5.datasets import (
    ChunkStore,
    Dataset,
    Number,
    Passed,
    Run,
    Unread,
    dataset_of,
    is_dataset,
)
from jaynes_audit.analyzers.checkpoints.keras_hdf5.groups import Link, LinkKind, is_group, links_of
from jaynes_audit.analyzers.checkpoints.keras_hdf5.messages import UNDEFINED, messages_of
from jaynes_audit.analyzers.checkpoints.keras_hdf5.storage import BigEndian, Chunked, Filter, chunks_of
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.dtypes import Dtype

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 48  # of the shortest version
SUPERBLOCK_PREFIX = {0: 24, 1: 28, 2: 12, 3: 12}  # bytes before the first address, by version
DEEPEST = 64  # groups inside groups; a model of models of models has ten
LONGEST_PATH = 4096  # characters

OPTIMIZERS = frozenset({"optimizer", "optimizer_weights"})
"""Groups beside the model's weights that hold an optimizer's state: Keras 3's, and Keras 2's."""

VARIABLES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(rf"(?:{layers})(?:_\d+)?"), names)
    for layers, names in (
        ("(?:[a-z]+_)?dense|conv[123]d(?:_transpose)?", ("kernel", "bias")),
        ("embedding", ("embeddings",)),
        ("layer_normalization|group_normalization", ("gamma", "beta")),
        ("batch_normalization", ("gamma", "beta", "moving_mean", "moving_variance")),
        ("(?:lstm_|gru_|simple_rnn_)?cell", ("kernel", "recurrent_kernel", "bias")),
    )
)
"""The variables of Keras 3's layers, which its files only number, in the order in which `build` makes them.

Used only where all are there, since `scale=False` and the like leave some out; a bias, the last, may be missing.
"""


def looks_like_hdf5(head: bytes, size: int) -> bool:
    """Whether the first bytes are those of an HDF5 file."""
    del size
    return head.startswith(SIGNATURE)


def read_hdf5(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The tensors of an HDF5 file: Keras's `.h5` and `.weights.h5`, and transformers' `tf_model.h5`.

    Names have dots for the groups; Keras 2's `model_weights/` and `:0` are left away, and the numbers of Keras 3's
    variables become names where the layer's name tells them. An optimizer's state is passed over, with a remark.

    Raises:
        RefusedFile: JN001 when it is cut off, JN002 when a part of it is in another file, JN003 when a structure is
            broken, JN004 when weights overlap or have not the size that their shape asks for.
    """
    return read_content(Content(stream, kind="HDF5", start=0, size=size), file)


def read_content(content: Content, file: Place) -> WeightFile:
    """The tensors of an HDF5 file that is the whole content; see `read_hdf5`."""
    walk = _walked(content)
    weights = {path: dataset for path, dataset in walk.datasets.items() if path.partition("/")[0] not in OPTIMIZERS}
    names = _names(content, weights)
    tensors: list[Tensor] = []
    undecoded: dict[str, str] = {}
    for path, dataset in walk.datasets.items():
        tensor = _tensor(content, names.get(path, path), dataset, file)
        if path not in names:  # an optimizer's: it was looked at, so that a file is sound or refused as a whole
            continue
        if isinstance(tensor, Unread):
            undecoded[names[path]] = f"{tensor.reason}; its shape is {dataset.shape}"
            tensor = _unread(content, names[path], dataset, file)
        tensors.append(tensor)
    _refuse_overlaps(content, tensors)
    return WeightFile(
        file=file,
        tensors=tuple(tensors),
        aliases=_aliases(walk, names),
        undecoded=undecoded,
        remarks=tuple(_remarks(walk, passed=len(walk.datasets) - len(weights))),
    )


def _aliases(walk: "_Walk", names: Mapping[str, str]) -> dict[str, str]:
    """Other names of tensors; one that is already a tensor's own adds nothing."""
    taken = set(names.values())
    plain = {_plain(path): names[target] for path, target in walk.aliases.items() if target in names}
    return {name: kept for name, kept in plain.items() if name not in taken}


def _remarks(walk: "_Walk", *, passed: int) -> Iterator[str]:
    if passed:
        yield f"the optimizer's state was passed over: {passed:,} tensors"
    if walk.passed:
        yield f"{len(walk.passed):,} datasets of text, of records or of nothing were passed over: {listed(walk.passed)}"


# ---- the walk


@dataclass(frozen=True, slots=True)
class _Walk:
    """What is in a file: datasets by path, other paths to them, and the paths of what holds no numbers.

    `first_paths` are those by which objects were first met, by address; `soft` are paths that lead to a path.
    """

    datasets: dict[str, Dataset] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    first_paths: dict[int, str] = field(default_factory=dict)
    soft: dict[str, str] = field(default_factory=dict)


def _walked(content: Content) -> _Walk:
    walk = _Walk()
    root = _root(content)
    messages = messages_of(content, root)
    if not is_group(messages):
        raise content.bad("has no group at its root", case="no-root-group")
    walk.first_paths[root] = ""
    # The optimizer's come last, so that no weight is taken for a part of its state because it has a second name there.
    pending = [("", iter(sorted(links_of(content, messages), key=lambda link: link.name in OPTIMIZERS)))]
    while pending:
        folder, links = pending[-1]
        link = next(links, None)
        if link is None:
            pending.pop()
            continue
        if len(pending) > DEEPEST:
            raise content.bad(f"has groups in groups deeper than {DEEPEST}", case="groups-too-deep")
        path = _path(content, folder, link)
        if link.kind is LinkKind.SOFT:
            walk.soft[path] = _absolute(folder, link.target)
        elif link.address in walk.first_paths:  # the same tensor, or the same group again
            walk.aliases[path] = walk.first_paths[link.address]
        else:
            walk.first_paths[link.address] = path
            pending.append((path, _visited(content, walk, path, link.address)))
    _add_soft_links(content, walk)
    return walk


def _visited(content: Content, walk: _Walk, path: str, address: int) -> Iterator[Link]:
    """Take the dataset at `address` into the walk, or give the links of the group that is there."""
    messages = messages_of(content, address)
    if not is_dataset(messages):
        return links_of(content, messages)
    dataset = dataset_of(content, messages)
    if isinstance(dataset, Passed):
        walk.passed.append(path)
    else:
        walk.datasets[path] = dataset
    return iter(())


def _path(content: Content, folder: str, link: Link) -> str:
    path = f"{folder}/{link.name}" if folder else link.name
    content.pay(len(path))
    if len(path) > LONGEST_PATH:
        raise content.bad(f"has a path of more than {LONGEST_PATH:,} characters", case="path-too-long")
    if link.kind is LinkKind.EXTERNAL:
        raise content.bad(
            f"has a link {quoted(path)} into another file of the reader's machine", rule="JN002", case="external-link"
        )
    return path


def _absolute(folder: str, target: str) -> str:
    return target.strip("/") if target.startswith("/") or not folder else f"{folder}/{target}".strip("/")


def _add_soft_links(content: Content, walk: _Walk) -> None:
    """Count soft links to datasets as other names of them, and refuse those that lead anywhere else."""
    for path, target in walk.soft.items():
        if target not in walk.datasets:
            raise content.bad(
                f"has a soft link {quoted(path)} to {quoted(target)}, where no tensor is",
                rule="JN004",
                case="soft-link",
            )
        walk.aliases[path] = target


def _root(content: Content) -> int:
    """The address of the root group, from the superblock."""
    cursor = content.cursor(0, min(content.size, 2 * SUPERBLOCK_BYTES))
    if cursor.take(len(SIGNATURE)) != SIGNATURE:
        raise content.bad("does not begin as one", rule="JN002", case="no-hdf5-signature")
    version = cursor.number(1)
    if version not in SUPERBLOCK_PREFIX:
        raise content.bad(f"is of version {version}, which is not known here", case="superblock-version")
    prefix = cursor.take(SUPERBLOCK_PREFIX[version] - len(SIGNATURE) - 1)
    widths = prefix[4:6] if version <= 1 else prefix[:2]
    if widths != b"\x08\x08":
        raise content.bad(
            f"has addresses of {widths[0]} and lengths of {widths[1]} bytes, not of 8", case="address-width"
        )
    base, _, end, last = cursor.numbers(4, 8)
    if base:
        raise content.bad(f"begins at byte {base:,} of another file", case="base-address")
    if end > content.size:
        raise content.bad(
            f"should have {end:,} bytes and has {content.size:,}: it is cut off", rule="JN001", case="cut-off"
        )
    if version > 1:
        return last
    cursor.take(8)  # the name of the root group
    return cursor.number(8)


# ---- one tensor


class _Stored(NamedTuple):
    """Where a tensor's first bytes are, and how its elements are made where they are not simply there."""

    start: int = 0
    end: int = 0
    decoder: Decoder | None = None


def _tensor(content: Content, name: str, dataset: Dataset, file: Place) -> Tensor | Unread:
    if isinstance(dataset.numbers, Unread):
        return dataset.numbers
    match dataset.storage:
        case Run() as run:
            stored = _stored_run(content, name, dataset, run, file)
        case ChunkStore() as store:
            stored = _stored_chunks(content, dataset, store, file)
        case Unread():
            return dataset.storage
    if isinstance(stored, Unread):
        return stored
    start, end, decoder = stored
    dtype = dataset.numbers.dtype
    return Tensor(name=name, dtype=dtype, shape=dataset.shape, file=file, start=start, end=end, decoder=decoder)


def _stored_run(content: Content, name: str, dataset: Dataset, run: Run, file: Place) -> _Stored | Unread:
    size = prod(dataset.shape) * dataset.element_bytes
    if run.address == UNDEFINED:
        return Unread("its weights were never written") if size else _Stored()
    if run.length != size:
        raise content.bad(
            f"stores {run.length:,} bytes for {quoted(name)}, whose shape and dtype ask for {size:,}",
            rule="JN004",
            case="size-mismatch",
        )
    content.check(run.address, run.length)
    start = content.start + run.address
    swapped = BigEndian(file=file, start=start, element_bytes=dataset.element_bytes)
    return _Stored(start, start + size, swapped if _is_swapped(dataset) else None)


def _stored_chunks(content: Content, dataset: Dataset, store: ChunkStore, file: Place) -> _Stored | Unread:
    chunks = chunks_of(content, dataset, store)
    if isinstance(chunks, Unread):
        return chunks
    if not chunks:
        return _Stored()
    decoder = Chunked(
        file=file,
        shape=dataset.shape,
        chunk_shape=store.chunk_shape,
        element_bytes=dataset.element_bytes,
        big_endian=_is_swapped(dataset),
        filters=tuple(map(Filter, dataset.filters)),
        chunks=chunks,
    )
    return _Stored(chunks[0].start, chunks[0].end, decoder)


def _is_swapped(dataset: Dataset) -> bool:
    return isinstance(dataset.numbers, Number) and dataset.numbers.big_endian and dataset.element_bytes > 1


def _unread(content: Content, name: str, dataset: Dataset, file: Place) -> Tensor:
    """A dataset that is not turned into numbers, as the bytes it is stored in where they follow one another."""
    start = end = 0
    if isinstance(dataset.storage, Run) and dataset.storage.address != UNDEFINED:
        content.check(dataset.storage.address, dataset.storage.length)
        start = content.start + dataset.storage.address
        end = start + dataset.storage.length
    return Tensor(name=name, dtype=Dtype.U8, shape=(end - start,), file=file, start=start, end=end)


def _refuse_overlaps(content: Content, tensors: list[Tensor]) -> None:
    spans = sorted(
        (span.start, span.end, tensor.name)
        for tensor in tensors
        for span in tensor.needs(0, tensor.bytes)
        if span.end > span.start
    )
    for (_, end, one), (start, _, other) in pairwise(spans):
        if start < end:
            raise content.bad(
                f"stores {quoted(one)} and {quoted(other)} in the same bytes", rule="JN004", case="overlap"
            )


# ---- names


def _names(content: Content, datasets: Mapping[str, Dataset]) -> dict[str, str]:
    """The name of each dataset's tensor by its path. No two are equal."""
    variables = _variable_names(datasets)
    names = {path: _plain(variables.get(path, path)) for path in datasets}
    if len(set(names.values())) < len(names):
        raise content.bad("has two tensors whose names differ only in `/` and `.`", case="same-name-twice")
    return names


def _plain(path: str) -> str:
    """A path as a model's own code would name it: `model_weights/a/kernel:0` as `a.kernel`."""
    plain = path.removeprefix("model_weights/").removesuffix(":0")
    return plain.replace("_._", ".").replace("/", ".")  # transformers writes `layer_._0` for `layer.0`


def _variable_names(datasets: Mapping[str, Dataset]) -> dict[str, str]:
    """Paths as `layers/dense_1/vars/0` with the variable's name for its number, where the layer's name tells it."""
    of_layer: dict[str, list[str]] = {}
    for path in datasets:
        layer, separator, number = path.rpartition("/vars/")
        if separator and number.isdecimal():
            of_layer.setdefault(layer, []).append(number)
    named: dict[str, str] = {}
    for layer, numbers in of_layer.items():
        kind = layer.rpartition("/")[2]
        variables = next((names for pattern, names in VARIABLES if pattern.fullmatch(kind)), ())
        if variables[-1:] == ("bias",) and len(numbers) < len(variables):
            variables = variables[:-1]
        if sorted(numbers) == [str(at) for at in range(len(variables))]:
            named.update({f"{layer}/vars/{number}": f"{layer}/{variables[int(number)]}" for number in numbers})
    return named
