"""The members of a zip archive, each proved to lie where the archive's two accounts of it say.

A zip file tells of a member twice, in the directory at its end and in a header of its own, and readers differ in which
they believe. Here both must agree, and members, directory and end record must fill the file without hole or overlap,
so that no other reader can find other bytes under the same name. Source: APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.

To find members, only the directory and their headers are read, in memory of a small multiple of the directory's length.
A stored member's checksum is not verified, for that would read every byte; a deflated one's is when its end is reached.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from struct import Struct
from threading import local
from typing import BinaryIO, NamedTuple

from jaynes_audit.analyzers.checkpoints.decoding import Read
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import RefusedFile

STORED = 0
DEFLATED = 8
LARGEST_DEFLATE_RATIO = 1032  # 258 bytes for two bits: the most that deflate can give, see zlib's technical notes

LOCAL_HEADER = Struct("<4s5H3L2H")  # 4.3.7
CENTRAL_HEADER = Struct("<4s6H3L5H2L")  # 4.3.12
END_RECORD = Struct("<4s4H2LH")  # 4.3.16
ZIP64_END_RECORD = Struct("<4sQ2H2L4Q")  # 4.3.14
ZIP64_LOCATOR = Struct("<4sLQL")  # 4.3.15
END_SIGNATURE = b"PK\5\6"
LONGEST_COMMENT = 0xFFFF
IN_ZIP64_16 = 0xFFFF
IN_ZIP64_32 = 0xFFFF_FFFF
ZIP64_FIELD = 0x0001
UNICODE_PATH_FIELD = 0x7075  # 4.6.9: another name, which some readers prefer
WIDE_BYTES = 8  # of a number in that field
ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # bits 0, 6 and 13: encrypted, strongly encrypted, masked headers
SIZES_FOLLOW = 0x0008
UTF8 = 0x0800
INFLATE_AT_ONCE = 1 << 18  # packed bytes
SKIPPED_AT_ONCE = 1 << 20  # unpacked bytes
DESCRIPTOR_BYTES = frozenset({12, 16, 20, 24})  # 4.3.9: a checksum and two sizes of 4 or 8 bytes, signed or not
LARGEST_DIRECTORY = 256 << 20  # bytes; two million members
WRITE_AGAIN = "write the file again with its library"
FETCH_AGAIN = "fetch the file again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file in the archive: bytes `start` to `end`, as `method` (STORED or DEFLATED) left its `size` bytes.

    `header_start` is where its own header begins, and `crc32` the checksum that the archive declares.
    """

    name: str
    header_start: int
    start: int
    end: int
    method: int
    size: int
    crc32: int

    @property
    def stored_size(self) -> int:
        """Length in the archive, in bytes."""
        return self.end - self.start


def members(stream: BinaryIO, size: int) -> Mapping[str, Member]:
    """The members of the zip archive in `stream`, which has `size` bytes, by name and in the directory's order.

    Names are unique, nothing is encrypted, and every member lies inside the file and shares no byte with another.

    Raises:
        RefusedFile: JN001 when the end is missing, JN009 for whatever readers could disagree about.
    """
    directory = _directory(stream, size)
    entries: dict[str, _Entry] = {}
    raw_names: set[bytes] = set()  # some readers look for a name's bytes, whatever they are said to mean
    for entry in _entries(bytes_at(stream, directory.start, directory.end), directory.entries):
        if entry.name in entries or entry.raw_name in raw_names:
            raise _bad(f"has two members called {quoted(entry.name)}", "zip-duplicate-member")
        raw_names.add(entry.raw_name)
        entries[entry.name] = entry
    ordered = sorted(entries.values(), key=attrgetter("header_start"))
    if (ordered[0].header_start if ordered else directory.start) != 0:
        raise _bad("does not begin with its first member: another file may stand before it", "zip-prepended-bytes")
    limits = [entry.header_start for entry in ordered[1:]] + [directory.start]
    found = {entry.name: _member(stream, entry, limit) for entry, limit in zip(ordered, limits, strict=False)}
    return {name: found[name] for name in entries}


# ---- the end of the file


class _Directory(NamedTuple):
    """Where the directory stands in the file, and how many members it tells of."""

    start: int
    end: int
    entries: int


def _directory(stream: BinaryIO, size: int) -> _Directory:
    tail_start = max(0, size - END_RECORD.size - LONGEST_COMMENT)
    tail = bytes_at(stream, tail_start, size)
    places = [at for at in _found(tail, END_SIGNATURE) if _ends_the_file(tail, at)]
    if not places:
        raise RefusedFile(
            f"this zip archive has no end record that reaches to the file's end at byte {size:,}, so it is cut off or "
            f"something was added; {FETCH_AGAIN}",
            rule="JN001",
            case="zip-no-end-record",
        )
    at = places[0]
    _, disk, first_disk, here, count, length, start, comment_bytes = END_RECORD.unpack_from(tail, at)
    if comment_bytes and tail.find(END_SIGNATURE, at + 1) >= 0:  # many readers take the last one, fitting or not
        raise _bad("has two end records, one inside the comment of the other", "zip-two-end-records")
    end = tail_start + at
    if tail[max(0, at - ZIP64_LOCATOR.size) : at].startswith(b"PK\6\7"):
        wide = _zip64_directory(stream, tail[at - ZIP64_LOCATOR.size : at], end - ZIP64_LOCATOR.size)
        narrow = ((here, IN_ZIP64_16), (count, IN_ZIP64_16), (length, IN_ZIP64_32), (start, IN_ZIP64_32))
        wanted = (wide.entries, wide.entries, wide.end - wide.start, wide.start)
        if any(value not in {absent, want} for (value, absent), want in zip(narrow, wanted, strict=True)):
            raise _bad("has two end records that tell of different directories", "zip-end-records-differ")
        return wide
    if disk or first_disk or here != count:
        raise _bad("is one part of several", "zip-several-disks")
    return _checked_directory(_Directory(start, start + length, count), end)


def _found(content: bytes, pattern: bytes) -> Iterator[int]:
    at = content.find(pattern)
    while at >= 0:
        yield at
        at = content.find(pattern, at + 1)


def _ends_the_file(tail: bytes, at: int) -> bool:
    """Whether an end record at this place, with the comment that it declares, ends just where the file does."""
    if len(tail) - at < END_RECORD.size:
        return False
    return at + END_RECORD.size + int(END_RECORD.unpack_from(tail, at)[-1]) == len(tail)


def _zip64_directory(stream: BinaryIO, locator: bytes, locator_start: int) -> _Directory:
    _, disk, record_start, disks = ZIP64_LOCATOR.unpack(locator)
    if record_start > locator_start - ZIP64_END_RECORD.size:
        raise _bad("places its zip64 end record where there is no room for it", "zip64-end-record")
    record = bytes_at(stream, record_start, record_start + ZIP64_END_RECORD.size)
    signature, length, _, _, own_disk, first_disk, here, count, directory_bytes, start = ZIP64_END_RECORD.unpack(record)
    if signature != b"PK\6\6" or record_start + 12 + length != locator_start:  # 12: the length counts what follows it
        raise _bad("has no zip64 end record where it says", "zip64-end-record")
    if disk or own_disk or first_disk or disks > 1 or here != count:
        raise _bad("is one part of several", "zip-several-disks")
    return _checked_directory(_Directory(start, start + directory_bytes, count), record_start)


def _checked_directory(directory: _Directory, end: int) -> _Directory:
    """The directory, if it is as long as its members need at least and ends just where the end record begins."""
    if directory.end != end:
        raise _bad(
            f"declares a directory that ends at byte {directory.end:,}, and its end record begins at {end:,}",
            "zip-directory-place",
        )
    length = directory.end - directory.start
    if directory.entries * CENTRAL_HEADER.size > length:
        raise _bad(f"declares {directory.entries:,} members in a directory of {length:,} bytes", "zip-member-count")
    if length > LARGEST_DIRECTORY:
        raise _bad(f"has a directory of {length:,} bytes, above the limit of {LARGEST_DIRECTORY:,}", "zip-too-large")
    return directory


# ---- the directory's entries


class _Entry(NamedTuple):
    """What the directory tells of one member."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc32: int
    stored_size: int
    size: int
    header_start: int


def _entries(directory: bytes, count: int) -> Iterator[_Entry]:
    at = 0
    for _ in range(count):
        if len(directory) - at < CENTRAL_HEADER.size:
            raise _bad(f"has fewer members in its directory than the {count:,} it declares", "zip-member-count")
        fields = CENTRAL_HEADER.unpack_from(directory, at)
        signature, _, _, flags, method, _, _, crc32, stored_size, size = fields[:10]
        name_bytes, extra_bytes, comment_bytes, disk, _, _, header_start = fields[10:]
        at += CENTRAL_HEADER.size
        raw_name = directory[at : at + name_bytes]
        extra = directory[at + name_bytes : at + name_bytes + extra_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        if signature != b"PK\1\2" or at > len(directory):
            raise _bad("has a directory that is not made of members' entries", "zip-broken-directory")
        name = _name(raw_name, flags)
        size, stored_size, header_start = _widened(extra, name, (size, stored_size, header_start))
        if disk:
            raise _bad("is one part of several", "zip-several-disks")
        yield _checked_entry(_Entry(name, raw_name, flags, method, crc32, stored_size, size, header_start))
    if at != len(directory):
        raise _bad(f"has more in its directory than the {count:,} members it declares", "zip-member-count")


def _name(raw: bytes, flags: int) -> str:
    """The member's name: UTF-8 where the archive says so, code page 437 otherwise, as the specification has it."""
    try:
        name = raw.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError:
        raise _bad("has a member whose name is not the UTF-8 it is said to be", "zip-member-name") from None
    if "\0" in name or not name:
        raise _bad(f"has a member with the name {quoted(name)}, which readers take differently", "zip-member-name")
    return name


def _checked_entry(entry: _Entry) -> _Entry:
    who = f"has a member {quoted(entry.name)} that"
    if entry.flags & ENCRYPTED:
        raise _bad(f"{who} is encrypted", "zip-encrypted")
    if entry.method not in {STORED, DEFLATED}:
        raise _bad(
            f"{who} is packed with method {entry.method}, and only stored and deflated ones are read", "zip-method"
        )
    if entry.method == STORED and entry.size != entry.stored_size:
        raise _bad(f"{who} is stored as it is, and yet with two different sizes", "zip-stored-size")
    if entry.size > LARGEST_DEFLATE_RATIO * entry.stored_size:
        raise _bad(
            f"{who} would unpack {entry.stored_size:,} bytes to {entry.size:,}, more than deflate can", "zip-bomb"
        )
    return entry


def _widened(extra: bytes, name: str, fields: tuple[int, ...]) -> tuple[int, ...]:
    """The fields, each that does not fit in 32 bits replaced by its 64 bits from the zip64 extra field, in order."""
    wide = b""
    at = 0
    seen = False
    while at + 4 <= len(extra):
        kind, length = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        at += 4 + length
        if kind == UNICODE_PATH_FIELD:
            raise _bad(f"gives member {quoted(name)} a second name in an extra field", "zip-second-name")
        if kind == ZIP64_FIELD:
            if seen:
                raise _bad(f"gives the sizes of member {quoted(name)} twice", "zip64-field")
            wide, seen = extra[at - length : at], True
    if at > len(extra):
        raise _bad(f"has a broken extra field in member {quoted(name)}", "zip64-field")
    result = []
    for value in fields:
        if value != IN_ZIP64_32:
            result.append(value)
            continue
        if len(wide) < WIDE_BYTES:
            raise _bad(f"lacks the 64-bit sizes of member {quoted(name)}", "zip64-field")
        result.append(int.from_bytes(wide[:WIDE_BYTES], "little"))
        wide = wide[WIDE_BYTES:]
    return tuple(result)


# ---- a member's own header


def _member(stream: BinaryIO, entry: _Entry, limit: int) -> Member:
    """The member, whose header agrees with its entry and whose bytes reach to `limit`, where the next thing begins."""
    name = quoted(entry.name)
    data_start = entry.header_start + LOCAL_HEADER.size + len(entry.raw_name)
    if data_start + entry.stored_size > limit:
        raise _bad(f"has a member {name} that reaches into what follows it, so they overlap", "zip-overlap")
    raw = bytes_at(stream, entry.header_start, data_start)
    signature, _, flags, method, _, _, crc32, stored_size, size, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(raw)
    if signature != b"PK\3\4":
        raise _bad(f"has no header where its directory places member {name}", "zip-no-local-header")
    if (name_bytes, raw[LOCAL_HEADER.size :]) != (len(entry.raw_name), entry.raw_name):
        raise _bad(f"calls member {name} by another name in its own header", "zip-headers-differ")
    if (flags, method) != (entry.flags, entry.method):
        raise _bad(f"tells otherwise how member {name} is packed in its own header", "zip-headers-differ")
    end = data_start + extra_bytes + entry.stored_size
    gap = limit - end
    if gap < 0:
        raise _bad(f"has a member {name} that reaches into what follows it, so they overlap", "zip-overlap")
    if gap and not (flags & SIZES_FOLLOW and gap in DESCRIPTOR_BYTES):
        raise _bad(f"has {gap:,} bytes after member {name} that belong to none", "zip-hole")
    extra = bytes_at(stream, data_start, data_start + extra_bytes)
    size, stored_size = _widened(extra, entry.name, (size, stored_size))
    declared = (crc32, stored_size, size)
    if declared != (entry.crc32, entry.stored_size, entry.size) and not (flags & SIZES_FOLLOW and not any(declared)):
        raise _bad(f"gives other sizes or another checksum to member {name} in its own header", "zip-headers-differ")
    return Member(
        name=entry.name,
        header_start=entry.header_start,
        start=end - entry.stored_size,
        end=end,
        method=method,
        size=entry.size,
        crc32=entry.crc32,
    )


def bytes_at(stream: BinaryIO, start: int, end: int) -> bytes:
    """Bytes `start` to `end` of a file that had them when it was opened. Raises RefusedFile, JN001, when it shrank."""
    stream.seek(start)
    content = stream.read(end - start)
    if len(content) < end - start:
        raise RefusedFile(
            f"the file became shorter while it was read: it ends before byte {end:,}; {FETCH_AGAIN}",
            rule="JN001",
            case="shortened-while-read",
        )
    return content


def _bad(fault: str, case: str) -> RefusedFile:
    return RefusedFile(f"this zip archive {fault}; {WRITE_AGAIN}", rule="JN009", case=case)


# ---- what a deflated member holds


class _Inflation:
    """A deflated member, unpacked as far as `reached`."""

    def __init__(self, file: Place, member: Member) -> None:
        self.of = (file, member)
        self.reached = 0
        self._member = member
        self._packed_at = member.start
        self._packed = b""
        self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc32 = 0

    def advance(self, read: Read, wanted: int) -> bytes:
        """Unpack so many bytes more, or fewer, but one at least. With the last one, the end is proved to be sound."""
        content = self._unpack(read, wanted)
        while not content:
            if self._is_spent():
                raise self._broken(f"ends after {self.reached:,} of {self._member.size:,} bytes")
            content = self._unpack(read, wanted)
        self.reached += len(content)
        self._crc32 = zlib.crc32(content, self._crc32)
        if self.reached == self._member.size:
            self._refuse_bad_end(read)
        return content

    def _unpack(self, read: Read, most: int) -> bytes:
        if not self._packed and self._packed_at < self._member.end:
            start, self._packed_at = self._packed_at, min(self._member.end, self._packed_at + INFLATE_AT_ONCE)
            self._packed = bytes(read(self.of[0], start, self._packed_at))
        try:
            content = self._unpacker.decompress(self._packed, most)
        except zlib.error:
            raise self._broken(f"is no deflated data after {self.reached:,} bytes") from None
        self._packed = self._unpacker.unconsumed_tail
        return content

    def _is_spent(self) -> bool:
        return self._unpacker.eof or not (self._packed or self._packed_at < self._member.end)

    def _refuse_bad_end(self, read: Read) -> None:
        while not self._is_spent():
            if self._unpack(read, 1):
                raise self._broken(f"goes on after the {self._member.size:,} bytes it declares")
        if not self._unpacker.eof or self._unpacker.unused_data or self._packed_at < self._member.end:
            raise self._broken("does not end where its packed bytes do")
        if self._crc32 != self._member.crc32:
            raise self._broken("does not have the checksum it declares")

    def _broken(self, fault: str) -> RefusedFile:
        return _bad(f"has a member {quoted(self._member.name)} that {fault}", "zip-broken-member")


class _Unfinished(local):
    """Where a thread stopped in the member that it unpacked last."""

    def __init__(self) -> None:
        self.inflation: _Inflation | None = None


_unfinished = _Unfinished()


def inflated(read: Read, file: Place, member: Member, span: tuple[int, int]) -> bytes:
    """Bytes `span[0]` to `span[1]`, at least one, of what a deflated member holds.

    Deflated data can only be read from its beginning. Each thread remembers where it stopped last, so that reading on
    costs no more than what is read; going back costs all that stands before once more. Memory is what is asked for and
    about 2 MiB. Where it stopped is remembered by the member's checksum, so that a file written anew is not mixed up.

    Raises:
        RefusedFile: JN009 when the member does not unpack to the size and the checksum that the archive declares.
        CouldNotRead: as `read` does.
    """
    start, end = span
    unfinished, _unfinished.inflation = _unfinished.inflation, None
    resumed = unfinished is not None and unfinished.of == (file, member) and unfinished.reached <= start
    inflation = unfinished if unfinished is not None and resumed else _Inflation(file, member)
    while inflation.reached < start:
        inflation.advance(read, min(SKIPPED_AT_ONCE, start - inflation.reached))
    content = bytearray()
    while inflation.reached < end:
        content += inflation.advance(read, end - inflation.reached)
    _unfinished.inflation = inflation
    return bytes(content)
