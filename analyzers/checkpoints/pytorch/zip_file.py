"""PyTorch's zip files: the pickle `data.pkl` beside one stored member for each storage. TorchScript archives too.

Source: `torch/serialization.py` (`_save`, `_load`) and `caffe2/serialize/inline_container.cc` of torch 2.13.
"""

import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.assembly import Stored, unknown_globals, weight_file
from jaynes_audit.analyzers.checkpoints.pytorch.machine import Unpickled, unpickle
from jaynes_audit.analyzers.checkpoints.pytorch.naming import find_tensors
from jaynes_audit.analyzers.checkpoints.pytorch.objects import DO_NOT_LOAD, Global, Record, Storage, bad_layout, unsafe
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.checkpoints.zip_archive import STORED, Member, bytes_at, members
from jaynes_audit.analyzers.errors import RefusedFile

SIGNATURE = b"PK\3\4"
NAME_LENGTH = Struct("<26xH")
NAME_START = 30
PICKLE = "data.pkl"
CONSTANTS = "constants.pkl"  # of TorchScript, where a frozen model keeps its weights
BYTE_ORDER = "byteorder"
LONGEST_WORD = 16  # of that member, in bytes
SCRIPT = Global("torch.jit", "ScriptModule")
CHECKED_AT_ONCE = 1 << 20  # bytes

_FIRST_MEMBER = re.compile(
    rb"[^/]+/(?:data\.pkl|constants\.pkl|\.format_version|\.storage_alignment|byteorder|version"
    rb"|\.data/serialization_id|(?:data|constants)/[^/]+|code/.+|extra/.+)"
)


def looks_like_pytorch_zip(head: bytes, file_size: int) -> bool:
    """Whether the first bytes could begin a zip file of PyTorch's: its first member has a name that torch gives."""
    del file_size
    if not head.startswith(SIGNATURE) or len(head) < NAME_START:
        return False
    (length,) = NAME_LENGTH.unpack_from(head)
    return _FIRST_MEMBER.fullmatch(head[NAME_START : NAME_START + length]) is not None


def read_pytorch_zip(stream: BinaryIO, file: Place, file_size: int) -> WeightFile:
    """The tensors of an opened zip file. Reads the zip's directory and its pickle, and not one byte of a storage.

    Raises:
        RefusedFile: JN001 when it is cut off, JN002 when it is another zip archive, JN004 when a tensor or a storage
            has not the bytes that it should have, JN009 when the zip can be read in two ways, JN020 when the pickle
            does what no checkpoint's does.
    """
    return pickled_in_zip(stream, file, file_size).weights()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a zip file holds: the pickled object, where the storages lie, and the globals that no checkpoint needs."""

    root: object
    stored: Stored
    unknown: Mapping[Global, None]
    is_script: bool

    def weights(self) -> WeightFile:
        """Its tensors. Raises RefusedFile as `read_pytorch_zip` does."""
        remark = "this is a TorchScript archive: its tensors are audited, and its code was not looked at"
        return weight_file(
            find_tensors(self.root),
            self.stored,
            defects=unknown_globals(self.unknown, self.stored.file),
            remarks=[remark] if self.is_script else [],
        )


def pickled_in_zip(stream: BinaryIO, file: Place, file_size: int) -> Held:
    """What the pickles of an opened zip file hold. Raises RefusedFile as `read_pytorch_zip` does."""
    archive = _Archive(members(stream, file_size))
    is_script = archive.has(CONSTANTS)
    data = archive.unpickled(stream, PICKLE, is_script=is_script)
    root, unknown = data.root, data.unknown
    if is_script:
        constants = archive.unpickled(stream, CONSTANTS, is_script=True)
        root = Record(SCRIPT, (), state=(root, {"constants": constants.root}))
        unknown = {**unknown, **constants.unknown}
    stored = Stored(file=file, place=archive.storage_start, is_big_endian=archive.is_big_endian(stream))
    return Held(root=root, stored=stored, unknown=unknown, is_script=is_script)


class _Archive:
    """The members of a zip file that torch can read, all in one folder, whatever it is called."""

    def __init__(self, found: Mapping[str, Member]) -> None:
        self._members = found
        first = next(iter(found), "")
        self._root = first[: first.find("/") + 1]  # as PyTorchStreamReader::init has it
        _refuse_ambiguous_case(found, [self._root + name for name in (PICKLE, CONSTANTS, BYTE_ORDER)])
        pickles = [
            name for name in found if _folded(name.rpartition("/")[2]) == PICKLE.encode() and name.count("/") <= 1
        ]
        if pickles and pickles != [self._root + PICKLE]:
            raise RefusedFile(
                f"this zip archive has its pickle in other places than torch looks for it: {listed(pickles)}; "
                f"{DO_NOT_LOAD}",
                rule="JN009",
                case="zip-pickle-place",
            )
        if not pickles:
            raise RefusedFile(
                f"this is a zip archive without the {PICKLE} that PyTorch's have; it holds {listed(list(found))}",
                rule="JN002",
                case="zip-archive",
            )

    def has(self, name: str) -> bool:
        """Whether there is a member of this name in torch's folder. Torch gives ASCII names alone."""
        return name.isascii() and self._root + name in self._members

    def unpickled(self, stream: BinaryIO, name: str, *, is_script: bool) -> Unpickled:
        """What the pickle of this name holds, and nothing behind it."""
        member = self._stored(name)
        _refuse_bad_checksum(stream, member)
        stream.seek(member.start)
        folder = f"{name.removesuffix('.pkl')}/"
        pickled = unpickle(stream, member.end, folder=folder, is_script=is_script)
        if stream.tell() < member.end:
            raise unsafe(f"ends {member.end - stream.tell():,} bytes before its member does", "bytes-after-pickle")
        return pickled

    def is_big_endian(self, stream: BinaryIO) -> bool:
        """Whether the storages were written on a machine whose numbers begin with the most significant byte."""
        if not self.has(BYTE_ORDER):
            return False
        member = self._stored(BYTE_ORDER)
        word = bytes_at(stream, member.start, min(member.end, member.start + LONGEST_WORD))
        if word not in {b"little", b"big"}:
            raise bad_layout(f"stands beside an unknown byte order {quoted(word.decode('latin-1'))}", "byte-order")
        return word == b"big"

    def storage_start(self, storage: Storage) -> int:
        """Where a storage's bytes begin, which are as many as the pickle says."""
        if not self.has(storage.key):
            raise bad_layout(f"names a storage {quoted(storage.key)} that the archive lacks", "storage-missing")
        member = self._stored(storage.key)
        if member.size != storage.stored_size:
            raise bad_layout(
                f"gives the storage {quoted(storage.key)} {storage.stored_size:,} bytes, and it has {member.size:,}",
                "storage-size",
            )
        return member.start

    def _stored(self, name: str) -> Member:
        member = self._members[self._root + name]
        if member.method != STORED:
            raise RefusedFile(
                f"this zip archive has its member {quoted(member.name)} compressed, which torch never does; "
                "write the file again with torch.save",
                rule="JN009",
                case="zip-compressed-storage",
            )
        return member


def _refuse_ambiguous_case(names: Collection[str], looked_for: Sequence[str]) -> None:
    """Refuse names that only differ in the case of ASCII letters, which torch's own lookup takes for one.

    Also one that torch would take for a name it looks for. Source: `mz_zip_reader_locate_file_v2` of torch's miniz.
    """
    exact: dict[bytes, str] = {}
    for name in (*looked_for, *names):
        other = exact.setdefault(_folded(name), name)
        if other != name:
            raise RefusedFile(
                f"this zip archive has a member {quoted(name)} that torch takes for {quoted(other)}, for it does not "
                f"tell capital letters from small ones; {DO_NOT_LOAD}",
                rule="JN009",
                case="zip-letter-case",
            )


def _folded(name: str) -> bytes:
    return name.encode().lower()  # of bytes, only ASCII letters have a lower case


def _refuse_bad_checksum(stream: BinaryIO, member: Member) -> None:
    """Refuse a pickle that is not the one its archive was made with. Torch can leave the checksum out, as 0."""
    if not member.crc32:
        return
    checksum = 0
    for start in range(member.start, member.end, CHECKED_AT_ONCE):
        checksum = zlib.crc32(bytes_at(stream, start, min(member.end, start + CHECKED_AT_ONCE)), checksum)
    if checksum != member.crc32:
        raise RefusedFile(
            f"the pickle {quoted(member.name)} has not the checksum that the archive declares for it; "
            "fetch the file again, and do not load this one",
            rule="JN009",
            case="zip-checksum",
        )
