"""PyTorch's files before version 1.6: five pickles in a row, and then the storages one after another.

The pickles are a magic number, a version, facts about the machine, the object, and the storages' keys in the order in
which their bytes follow, each behind its number of elements. Numbers are little-endian whatever the machine.
Source: `_legacy_save` and `_legacy_load` in `torch/serialization.py`, `torch/csrc/serialization.cpp`, torch 2.13.

Older still is a tar archive (before 0.1.10), and what has no magic number is no file of PyTorch's: both are refused.
"""

from collections.abc import Mapping
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.assembly import Stored, unknown_globals, weight_file
from jaynes_audit.analyzers.checkpoints.pytorch.machine import about_unknown, unpickle
from jaynes_audit.analyzers.checkpoints.pytorch.naming import find_tensors
from jaynes_audit.analyzers.checkpoints.pytorch.objects import Storage, bad_layout, unsafe
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.errors import RefusedFile

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
COUNT = Struct("<q")  # of a storage's elements, before its bytes
MOST_COUNTS_FROM_AFAR = 64  # that are looked at when each costs a request

PICKLE = 0x80  # the opcode PROTO, with which pickles of protocol 2 and later begin
PROTOCOLS = range(2, 6)
TAR_MEMBERS = frozenset({b"storages", b"tensors", b"pickle", b"sys_info"})
TAR_NAME_BYTES = 100
TAR_SIGNATURE = slice(257, 262)


def looks_like_pytorch_legacy(head: bytes, file_size: int) -> bool:
    """Whether the first bytes begin a pickle, or the tar archive that the oldest files are.

    Every pickle is claimed, for only reading on tells PyTorch's from others, and a pickle is no other format's.
    """
    del file_size
    return _is_pickle(head) or _is_tar(head)


def _is_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[0] == PICKLE and head[1] in PROTOCOLS


def _is_tar(head: bytes) -> bool:
    return head[TAR_SIGNATURE] == b"ustar" and head[:TAR_NAME_BYTES].rstrip(b"\0") in TAR_MEMBERS


def read_pytorch_legacy(stream: BinaryIO, file: Place, file_size: int) -> WeightFile:
    """The tensors of an opened file. Reads the pickles, and of each storage its number of elements.

    On a server, where every look costs a request, only the first numbers of elements are compared with the pickle's.

    Raises:
        RefusedFile: JN001 when it is cut off, JN004 when a tensor or a storage has not the bytes that it should have,
            JN020 when the pickle does what no checkpoint's does, JN022 when it is a tar archive or a pickle without
            PyTorch's magic number.
    """
    head = stream.read(TAR_SIGNATURE.stop)
    stream.seek(0)
    if _is_tar(head):
        raise RefusedFile(
            "this is a PyTorch file from before version 0.1.10, a tar archive, which is not read; load it with an old "
            "torch that you can afford to run it in, and save it as safetensors",
            rule="JN022",
            case="torch-tar",
        )
    _refuse_without_magic(stream, file_size)
    if unpickle(stream, file_size).root != VERSION:
        raise unsafe(
            f"is of another version of the format than {VERSION}, the only one that torch ever wrote", "version"
        )
    unpickle(stream, file_size)  # facts about the machine, of which none matters
    pickled = unpickle(stream, file_size)
    starts = _storage_starts(stream, file, file_size, pickled.storages)
    return weight_file(
        find_tensors(pickled.root),
        Stored(file=file, place=lambda storage: starts[storage.key]),
        defects=unknown_globals(pickled.unknown, file),
    )


def _refuse_without_magic(stream: BinaryIO, file_size: int) -> None:
    """Read the first pickle, and refuse the file unless it is PyTorch's magic number."""
    try:
        first = unpickle(stream, file_size)
    except RefusedFile as refusal:
        if refusal.case not in {"no-opcode", "pickle-cut-off"}:  # which other writers' files end in
            raise
    else:
        if first.root == MAGIC:
            return
        if first.unknown:
            raise RefusedFile(about_unknown(first.unknown), rule="JN020", case="unknown-global")
    raise RefusedFile(
        "this is a Python pickle without PyTorch's magic number, as NumPy, joblib and scikit-learn write them; "
        "pickles can run code when they are loaded, so save the weights as safetensors or .npz instead",
        rule="JN022",
        case="bare-pickle",
    )


def _storage_starts(
    stream: BinaryIO, file: Place, file_size: int, storages: Mapping[str, Storage]
) -> Mapping[str, int]:
    """Where the bytes of each storage begin. They fill the rest of the file, in the order of the last pickle's keys."""
    keys = unpickle(stream, file_size).root
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise bad_layout("is followed by other storages than those it names", "storage-keys")
    starts: dict[str, int] = {}
    at = stream.tell()
    for position, key in enumerate(keys):
        storage = storages[key]
        if isinstance(file, Path) or position < MOST_COUNTS_FROM_AFAR:
            _refuse_other_count(stream, at, storage)
        starts[key] = at + COUNT.size
        at = starts[key] + storage.stored_size
    if at > file_size:
        raise RefusedFile(
            f"the file ends at byte {file_size:,}, and its storages reach up to byte {at:,}; fetch the file again",
            rule="JN001",
            case="data-cut-off",
        )
    if at < file_size:
        raise RefusedFile(
            f"{file_size - at:,} bytes follow the last storage, from byte {at:,} on, and belong to none: a second file "
            "may hide there; do not load this file",
            rule="JN001",
            case="trailing-bytes",
        )
    return starts


def _refuse_other_count(stream: BinaryIO, at: int, storage: Storage) -> None:
    stream.seek(at)
    raw = stream.read(COUNT.size)
    if len(raw) < COUNT.size:
        raise RefusedFile(
            f"the file ends before byte {at + COUNT.size:,}, where the storage {quoted(storage.key)} begins; "
            "fetch the file again",
            rule="JN001",
            case="data-cut-off",
        )
    (count,) = COUNT.unpack(raw)
    if count * storage.element.size != storage.stored_size:
        raise bad_layout(
            f"gives the storage {quoted(storage.key)} {storage.stored_size:,} bytes, and it has {count:,} elements of "
            f"{storage.element.size}",
            "storage-size",
        )
