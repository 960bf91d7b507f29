"""The members of zip archives against Python's zipfile, however the archive was written."""

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.zip_archive import DEFLATED, Member, inflated, members
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.npy_files import END, patched

CONTENTS = {"a": b"", "b/c": b"c" * 1000, "ü": bytes(range(256)) * 20, "d": b"d"}


class Pipe(io.RawIOBase):
    """A stream that cannot go back, so that zipfile tells sizes after the members."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:
        self.content += bytes(content)
        return len(content)


def plain(method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    return stream.getvalue()


def piped(method: int) -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    return pipe.content


def piped_wide(method: int) -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, content in CONTENTS.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    return pipe.content


def commented(method: int) -> bytes:
    stream = io.BytesIO(plain(method))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"a comment"
    return stream.getvalue()


def wide(method: int) -> bytes:
    """As `plain`, with a zip64 end record, as an archive of more than 65,535 members has."""
    content = plain(method)
    at = content.rindex(END)
    count = int.from_bytes(content[at + 10 : at + 12], "little")
    length, start = (int.from_bytes(content[at + place : at + place + 4], "little") for place in (12, 16))
    fields = (44, 45, 45, 0, 0, count, count, length, start)
    widths = (8, 2, 2, 4, 4, 8, 8, 8, 8)
    record = b"".join(field.to_bytes(width, "little") for field, width in zip(fields, widths, strict=True))
    locator = b"PK\6\7" + bytes(4) + at.to_bytes(8, "little") + b"\1\0\0\0"
    return content[:at] + b"PK\6\6" + record + locator + patched(content[at:], END, 8, b"\xff" * 12)


WRITERS: tuple[Callable[[int], bytes], ...] = (plain, piped, piped_wide, commented, wide)


def held(content: bytes, member: Member) -> bytes:
    stored = content[member.start : member.end]
    return zlib.decompress(stored, -zlib.MAX_WBITS) if member.method == DEFLATED else stored


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_members_are_what_zipfile_reads(writer: Callable[[int], bytes], method: int) -> None:
    content = writer(method)
    found = members(io.BytesIO(content), len(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert list(found) == archive.namelist()
        for name, member in found.items():
            assert held(content, member) == archive.read(name) == CONTENTS[name]
            assert (member.size, member.crc32) == (archive.getinfo(name).file_size, archive.getinfo(name).CRC)


def test_an_archive_of_nothing_has_no_members() -> None:
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    assert members(stream, stream.tell()) == {}


@pytest.mark.parametrize("place", [4, 16, 20, 24, 32, 40, 48])
def test_a_zip64_end_record_that_lies_is_refused(place: int) -> None:
    content = bytearray(wide(zipfile.ZIP_STORED))
    content[content.index(b"PK\6\6") + place] ^= 1
    with pytest.raises(RefusedFile) as refusal:
        members(io.BytesIO(content), len(content))
    assert refusal.value.rule == "JN009"


def test_end_records_that_tell_of_different_directories_are_refused() -> None:
    content = patched(wide(zipfile.ZIP_STORED), END, 16, b"\0\0\0\0")
    with pytest.raises(RefusedFile) as refusal:
        members(io.BytesIO(content), len(content))
    assert refusal.value.case == "zip-end-records-differ"


def test_no_change_of_one_byte_in_a_header_gives_other_bytes() -> None:
    content = plain(zipfile.ZIP_STORED)
    sound = {name: held(content, member) for name, member in members(io.BytesIO(content), len(content)).items()}
    data = {
        at for member in members(io.BytesIO(content), len(content)).values() for at in range(member.start, member.end)
    }
    for at in set(range(len(content))) - data:
        changed = bytearray(content)
        changed[at] ^= 0x41
        try:
            found = members(io.BytesIO(changed), len(changed))
        except RefusedFile:
            continue
        assert [held(changed, member) for member in found.values()] == list(sound.values())


def test_deflated_members_are_read_forwards_backwards_and_in_turn() -> None:
    dice = np.random.default_rng(0)
    contents = {name: (dice.integers(0, 4, 600_000) + ord(name)).astype(np.uint8).tobytes() for name in "ab"}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    raw = memoryview(stream.getvalue())
    found = members(io.BytesIO(raw), len(raw))

    def read(_: object, start: int, end: int) -> memoryview:
        return raw[start:end]

    for _ in range(40):
        name = "ab"[dice.integers(2)]
        start, end = sorted(int(place) for place in dice.integers(0, 600_001, 2))
        assert inflated(read, Path("archive"), found[name], (start, end)) == contents[name][start:end]


@pytest.mark.parametrize("comment", [END, b"x" + END + b"y", plain(zipfile.ZIP_STORED)[-22:] + b"X"])
def test_an_end_record_inside_the_comment_is_refused_whether_it_fits_or_not(comment: bytes) -> None:
    content = plain(zipfile.ZIP_STORED)
    content = content[:-2] + len(comment).to_bytes(2, "little") + comment
    with pytest.raises(RefusedFile) as refusal:
        members(io.BytesIO(content), len(content))
    assert (refusal.value.rule, refusal.value.case) == ("JN009", "zip-two-end-records")


@pytest.mark.parametrize("kind", [b"up", b"xx"])
def test_a_second_name_in_an_extra_field_is_refused(kind: bytes) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("a")
        info.extra = b"xx" + b"\6\0" + b"\1" + zlib.crc32(b"a").to_bytes(4, "little") + b"b"
        archive.writestr(info, b"content")
    content = stream.getvalue().replace(b"xx\6\0", kind + b"\6\0")
    if kind == b"xx":
        assert list(members(io.BytesIO(content), len(content))) == ["a"]
        return
    with pytest.raises(RefusedFile) as refusal:
        members(io.BytesIO(content), len(content))
    assert (refusal.value.rule, refusal.value.case) == ("JN009", "zip-second-name")


def test_two_members_of_the_same_bytes_for_a_name_are_refused_in_whatever_alphabet() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("\u00fc", b"one")  # as UTF-8
        archive.writestr("xx", b"two")
    content = stream.getvalue().replace(b"xx", "\u00fc".encode())  # as code page 437
    with pytest.raises(RefusedFile) as refusal:
        members(io.BytesIO(content), len(content))
    assert refusal.value.case == "zip-duplicate-member"
