"""NumPy's files made on the spot: sound ones, and one for each way of being wrong."""

import io
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

EIGHT = bytes(range(8))
"""The bytes of two float32 numbers, the usual content below."""

HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


def npy(header: str | bytes = HEADER, data: bytes = EIGHT, *, version: tuple[int, int] = (1, 0)) -> bytes:
    """An array with this header, as it is, and these bytes."""
    raw = header if isinstance(header, bytes) else header.encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(raw)) + raw + data


def saved(array: np.ndarray) -> bytes:
    """An array as NumPy saves it."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(*, packed: bool = False, **arrays: np.ndarray) -> bytes:
    """An archive as NumPy saves it."""
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, **arrays)
    return stream.getvalue()


def zipped(*, method: int = zipfile.ZIP_STORED, comment: bytes = b"", **members: bytes) -> bytes:
    """An archive of these members, in which `a__npy` stands for a.npy."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name.replace("__", ".")), content, method)
    return stream.getvalue()


def after(beginning: bytes) -> bytes:
    """An archive that begins with something else, and whose places are right all the same."""
    stream = io.BytesIO(beginning)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("a.npy", npy())
    return stream.getvalue()


def with_a_hole() -> bytes:
    """An archive of three members, of which the directory does not tell the middle one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("a.npy", "b.npy", "c.npy"):
            archive.writestr(name, npy())
        del archive.filelist[1]
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that must be refused, and with which rule and case."""

    name: str
    content: bytes
    rule: str
    case: str


def _header(name: str, header: str | bytes, case: str) -> Hostile:
    return Hostile(name, npy(header), "JN003", case)


HOSTILE_ARRAYS: tuple[Hostile, ...] = (
    Hostile("version 4.0", npy(version=(4, 0)), "JN003", "npy-version"),
    Hostile("no version", b"\x93NUMPY", "JN003", "npy-version"),
    Hostile("a header of 4 GB", b"\x93NUMPY\2\0" + b"\xff" * 4 + HEADER.encode(), "JN003", "npy-header-too-long"),
    Hostile("cut off in the header", npy()[:30], "JN001", "npy-cut-off"),
    Hostile("too few elements", npy(data=EIGHT[:7]), "JN001", "npy-cut-off"),
    Hostile("a second array", npy() + npy(), "JN001", "npy-trailing-bytes"),
    Hostile("not UTF-8", npy(HEADER.encode() + b"\xff", version=(3, 0)), "JN003", "npy-header-not-utf8"),
    _header("no header", "", "npy-header-broken"),
    _header("a call", "__import__('os').system('true')", "npy-header-broken"),
    _header("a call as a value", HEADER.replace("(2,)", "exit()"), "npy-header-field"),
    _header("a sum", HEADER.replace("(2,)", "(1+1,)"), "npy-header-field"),
    _header("10,000 brackets", "(" * 9_999, "npy-header-broken"),
    _header("10,000 blanks in the shape", HEADER.replace("(2,)", "(" + " " * 9_000), "npy-header-field"),
    _header("something after it", HEADER + "+ 1", "npy-header-broken"),
    _header("no comma", HEADER.replace("'<f4',", "'<f4'"), "npy-header-broken"),
    _header("10,000 blanks for a comma", HEADER.replace("'<f4',", "'<f4'" + " " * 9_000), "npy-header-broken"),
    _header("no shape", "{'descr': '<f4', 'fortran_order': False}", "npy-header-field"),
    _header("two shapes", HEADER.replace("}", "'shape': (4,)}"), "npy-header-field"),
    _header("another field", HEADER.replace("}", "'strides': (4,)}"), "npy-header-field"),
    _header("an order that is a number", HEADER.replace("False", "0"), "npy-header-field"),
    _header("a shape that is a number", HEADER.replace("(2,)", "(2)"), "npy-shape"),
    _header("a negative size", HEADER.replace("(2,)", "(-2,)"), "npy-header-field"),
    _header("a size of 2^64", HEADER.replace("(2,)", f"({1 << 64},)"), "npy-shape"),
    _header("a size of 2^63", HEADER.replace("(2,)", f"({1 << 63},)"), "npy-shape"),
    _header("a size with a leading zero", HEADER.replace("(2,)", "(02,)"), "npy-shape"),
    _header("a hole in the shape", HEADER.replace("(2,)", "(1,,2)"), "npy-shape"),
    _header("65 dimensions", HEADER.replace("(2,)", f"({'1,' * 65})"), "npy-rank"),
    Hostile("2^80 elements", npy(HEADER.replace("(2,)", f"({1 << 40},{1 << 40})")), "JN001", "npy-cut-off"),
    Hostile("an unknown dtype", npy(HEADER.replace("<f4", "<f3")), "JN008", "npy-unknown-dtype"),
    Hostile("a dtype by its name", npy(HEADER.replace("<f4", "float32")), "JN008", "npy-unknown-dtype"),
    Hostile("Python objects", saved(np.array([{}, 1], object)), "JN020", "npy-object-array"),
    Hostile(
        "records with an object", saved(np.zeros(2, [("a", "f4"), ("b", "O")])), "JN020", "npy-object-array"
    ),
)  # fmt: skip


TWO = npz(a=np.zeros(2, np.float32), b=np.ones(2, np.float32))
PACKED = zipped(method=zipfile.ZIP_DEFLATED, a__npy=npy(data=bytes(400), header=HEADER.replace("(2,)", "(100,)")))
LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def patched(content: bytes, signature: bytes, offset: int, new: bytes, *, nth: int = 0) -> bytes:
    """The content with other bytes so far after the nth signature."""
    at = -1
    for _ in range(nth + 1):
        at = content.index(signature, at + 1)
    return content[: at + offset] + new + content[at + offset + len(new) :]


def _archive(name: str, content: bytes, case: str) -> Hostile:
    return Hostile(name, content, "JN009", case)


HOSTILE_ARCHIVES: tuple[Hostile, ...] = (
    Hostile("cut off", TWO[:-1], "JN001", "zip-no-end-record"),
    Hostile("something after the end", TWO + b"\0", "JN001", "zip-no-end-record"),
    _archive("something before the beginning", b"MZ" * 10 + TWO, "zip-directory-place"),
    _archive("something before, with places that are right", after(b"MZ" * 10), "zip-prepended-bytes"),
    _archive("a member that the directory does not tell", with_a_hole(), "zip-hole"),
    _archive("an end record in the comment", TWO[:-2] + b"\x16\0" + TWO[-22:], "zip-two-end-records"),
    _archive("one name twice", TWO.replace(b"b.npy", b"a.npy"), "zip-duplicate-member"),
    _archive("encrypted", patched(patched(TWO, CENTRAL, 8, b"\1"), LOCAL, 6, b"\1"), "zip-encrypted"),
    _archive("packed with bzip2", patched(patched(TWO, CENTRAL, 10, b"\x0c"), LOCAL, 8, b"\x0c"), "zip-method"),
    _archive("another name in its own header", patched(TWO, LOCAL, 30, b"c"), "zip-headers-differ"),
    _archive("another method in its own header", patched(TWO, LOCAL, 8, b"\x08"), "zip-headers-differ"),
    _archive("another checksum in its own header", patched(TWO, LOCAL, 14, b"\0\0\0\0"), "zip-headers-differ"),
    _archive("another size in its own header", patched(TWO, b"\x01\0\x10\0", 4, b"\1"), "zip-headers-differ"),
    _archive("two sizes of a stored member", patched(TWO, CENTRAL, 20, b"\1\0\0\0"), "zip-stored-size"),
    _archive("two members in one place", patched(TWO, CENTRAL, 42, b"\0\0\0\0", nth=1), "zip-overlap"),
    _archive("a header in the middle of a member", patched(TWO, CENTRAL, 42, b"\x40\0\0\0", nth=1), "zip-overlap"),
    _archive("one part of several", patched(TWO, END, 4, b"\1"), "zip-several-disks"),
    _archive("one member less", patched(TWO, END, 8, b"\1\0\1\0"), "zip-member-count"),
    _archive("65,000 members", patched(TWO, END, 8, b"\0\xf0\0\xf0"), "zip-member-count"),
    _archive("a directory elsewhere", patched(TWO, END, 16, b"\0\0\0\0"), "zip-directory-place"),
    _archive("no name", patched(patched(TWO, CENTRAL, 28, b"\0"), LOCAL, 26, b"\0"), "zip-member-name"),
    _archive("a NUL in a name", TWO.replace(b"a.npy", b"a\0npy"), "zip-member-name"),
    _archive("1 TB out of 400 bytes", patched(PACKED, CENTRAL, 24, b"\xff\xff\xff\x7f"), "zip-bomb"),
    _archive("64-bit sizes that are not there", patched(TWO, CENTRAL, 24, b"\xff\xff\xff\xff"), "zip64-field"),
)


def _broken_stream(content: bytes) -> bytes:
    start = PACKED.index(b"a.npy") + 5
    return PACKED[:start] + content + PACKED[start + len(content) :]


BROKEN_MEMBERS: tuple[Hostile, ...] = (
    _archive("no deflated data", _broken_stream(b"\xff\xff\xff"), "zip-broken-member"),
    _archive("an end too early", _broken_stream(b"\3\0"), "zip-broken-member"),
)
"""What shows when a deflated member is unpacked: a defect of that array."""
