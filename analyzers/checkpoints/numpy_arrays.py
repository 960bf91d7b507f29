"""NumPy's own files: an array (.npy), or a zip archive of arrays (.npz).

An array is a magic number, a version, a header that spells a Python dictionary, and the elements. The header is read
by patterns and never evaluated, and arrays of Python objects, which are pickles, are refused. Source: the docstring
of `numpy/lib/_format_impl.py` at NumPy 2.4, versions 1.0 to 3.0 of the format.

Elements in C order and little-endian are read in place, from an archive too where it stores them as they are. Others
are put in order on the way, and deflated ones are unpacked on the way, see `zip_archive.inflated`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import PurePosixPath
from threading import local
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.tensor import Defect, Tensor, WeightFile
from jaynes_audit.analyzers.checkpoints.zip_archive import DEFLATED, Member, bytes_at, inflated, members
from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, Dtype
from jaynes_audit.analyzers.errors import RefusedFile

MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""Width of the header's length, by the version of the format."""

LONGEST_HEADER = 10_000  # bytes; numpy.load's own limit for files that are not trusted
LONGEST_BEGINNING = len(MAGIC) + 2 + 4 + LONGEST_HEADER  # a version of 2 bytes, a length of at most 4
LARGEST_RANK = 64  # NumPy's own limit
LARGEST_DIMENSION = (1 << 63) - 1
SUFFIX = ".npy"
LOCAL_NAME_LENGTH = slice(26, 28)  # in a zip member's header, APPNOTE.TXT 4.3.7
LOCAL_NAME_START = 30

LARGEST_FORTRAN_ROW = 16 << 20  # bytes; an array in Fortran order is put in order by whole rows
LARGEST_DEFLATED_FORTRAN = 16 << 20  # bytes; a thread that reads such an array keeps all of it unpacked
LARGEST_ON_TRUST = 1 << 30  # bytes to which deflated arrays may unpack in any archive: zeros pack a thousandfold
LARGEST_RATIO = 64  # of what is beyond them to the archive's own size; weights hardly shrink at all
WINDOW_BYTES = 1 << 18  # of a file, read at once to pick parts of columns from

FETCH_AGAIN = "fetch the file again"
SAVE_AGAIN = "save it again with NumPy"

DTYPES: dict[str, Dtype] = {
    f"{known.kind}{known.itemsize}": dtype for dtype, known in NUMPY_DTYPES.items() if dtype is not Dtype.C32
}
"""By NumPy's letter for the kind, and the bytes of an element: C32 is none of NumPy's own."""

NOT_NUMBERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"V\d+"),
        "its elements have no number format, as when NumPy saves bfloat16 and its like; save it as safetensors",
    ),
    (re.compile(r"[SUa]\d+"), "it holds text"),
    (re.compile(r"[Mm]8(?:\[\w+\])?"), "it holds dates or times"),
    (re.compile(r"f12|f16|c24|c32"), "it holds long doubles, which differ between machines; save it as float64"),
)

_OPENING = re.compile(r"\s*\{", re.ASCII)
_KEY = re.compile(r"\s*(?P<quote>['\"])(?P<name>\w+)(?P=quote)\s*:\s*", re.ASCII)
_VALUES = {
    "descr": re.compile(r"(?P<quote>['\"])(?P<value>[^'\"\\]*)(?P=quote)"),
    "fortran_order": re.compile(r"(?P<value>True|False)"),
    "shape": re.compile(r"\((?P<value>[\d\s,L]*)\)", re.ASCII),
}
_AFTER = re.compile(r"\s*+(?:,\s*+(?=['\"])|(?:,\s*+)?(?P<closing>\}\s*\Z))", re.ASCII)
_DIMENSION = re.compile(r"\s*(0|[1-9]\d{0,18})L?\s*", re.ASCII)  # L: how Python 2 wrote a long integer
_OBJECT_FIELD = re.compile(r",\s*['\"][|<>=]?O\d*['\"]")


def looks_like_npy(head: bytes, size: int) -> bool:
    """Whether the first bytes are those of an array."""
    del size
    return head.startswith(MAGIC)


def looks_like_npz(head: bytes, size: int) -> bool:
    """Whether the first bytes are those of a zip archive whose first member is an array, by its name."""
    del size
    name_end = LOCAL_NAME_START + int.from_bytes(head[LOCAL_NAME_LENGTH], "little")
    return head.startswith(b"PK\3\4") and head[LOCAL_NAME_START:name_end].endswith(SUFFIX.encode())


def read_npy(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The one array of an opened .npy file, under the file's name without its suffix. Reads the header alone.

    Raises:
        RefusedFile: JN002 when it is no array, JN003 when its header is bad, JN001 when its elements end before or
            after the place that the header tells, JN008 when it names a number format that NumPy has not, JN020 when
            its elements are Python objects.
        CouldNotRead: as the stream does.
    """
    raw = bytes_at(stream, 0, min(size, LONGEST_BEGINNING))
    name = PurePosixPath(file.name).stem
    return _weights(file, {name: _array(raw, "the array", name, _Content(file, 0, size))})


def read_npz(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The arrays of an opened .npz file, under their members' names without the suffix.

    What is wrong with one array is a defect, and the others are read. Members that are no arrays are passed over.
    Reads the archive's directory and the beginning of each array.

    Raises:
        RefusedFile: as `zip_archive.members` does, and JN009 when its arrays unpack to more than weights can.
        CouldNotRead: as the stream does.
    """
    inside = members(stream, size)
    _refuse_bomb(inside.values(), size)
    found: dict[str, Tensor | str] = {}
    defects: list[Defect] = []
    others: list[str] = []
    for member in inside.values():
        try:
            raw = _beginning(stream, file, member) if member.name.endswith(SUFFIX) else b""
            if not raw.startswith(MAGIC):
                others.append(member.name)
                continue
            name = member.name.removesuffix(SUFFIX)
            content = (
                _Content(file, 0, member.size, member)
                if member.method == DEFLATED
                else _Content(file, member.start, member.size)
            )
            found[name] = _array(raw, f"array {quoted(name)}", name, content)
        except RefusedFile as refusal:
            defects.append(Defect(rule=refusal.rule, case=refusal.case, file=str(file), sentence=str(refusal)))
    remarks = (f"members that are no arrays were passed over: {listed(others)}",) if others else ()
    return replace(_weights(file, found), defects=tuple(defects), remarks=remarks)


def _weights(file: Place, found: Mapping[str, Tensor | str]) -> WeightFile:
    return WeightFile(
        file=file,
        tensors=tuple(each for each in found.values() if isinstance(each, Tensor)),
        undecoded={name: each for name, each in found.items() if isinstance(each, str)},
    )


def _refuse_bomb(found: Iterable[Member], size: int) -> None:
    """Refuse an archive of `size` bytes that would take far longer to unpack than weights of its size."""
    unpacked = sum(each.size for each in found if each.method == DEFLATED and each.name.endswith(SUFFIX))
    if unpacked > LARGEST_ON_TRUST + LARGEST_RATIO * size:
        raise RefusedFile(
            f"this archive of {size:,} bytes is said to unpack to {unpacked:,}, as no weights do; save them with "
            "numpy.savez, which does not pack",
            rule="JN009",
            case="npz-bomb",
        )


def _beginning(stream: BinaryIO, file: Place, member: Member) -> bytes:
    """The first bytes of what a member holds, as many as a header can take."""
    if member.method != DEFLATED:
        return bytes_at(stream, member.start, min(member.end, member.start + LONGEST_BEGINNING))

    def read(_: Place, start: int, end: int) -> memoryview:
        return memoryview(bytes_at(stream, start, end))

    return inflated(read, file, member, (0, min(member.size, LONGEST_BEGINNING))) if member.size else b""


# ---- an array's header


class _Content(NamedTuple):
    """Where a whole .npy of `size` bytes stands: from `start` on in a file, or as what a deflated member holds."""

    file: Place
    start: int
    size: int
    deflated: Member | None = None


def _array(raw: bytes, what: str, name: str, content: _Content) -> Tensor | str:
    """The array whose first bytes are `raw`, or the reason why it cannot be turned into numbers."""
    fields, end = _header(raw, content.size, what)
    descr = fields["descr"]
    kind = descr.removeprefix(descr[:1] if descr[:1] in set("<>|=") else "")
    if kind.startswith("O") or _OBJECT_FIELD.search(descr):
        raise RefusedFile(
            f"{what} holds Python objects, a pickle, which can run code when it is loaded; save its numbers alone",
            rule="JN020",
            case="npy-object-array",
        )
    if kind.startswith("["):
        return "it holds records; save each field as an array of its own"
    for pattern, reason in NOT_NUMBERS:
        if pattern.fullmatch(kind):
            return reason
    if kind not in DTYPES:
        fault = f"{what} has the dtype {quoted(descr)}, which is none of NumPy's; {SAVE_AGAIN}"
        raise RefusedFile(fault, rule="JN008", case="npy-unknown-dtype")
    shape = _shape(fields["shape"], what)
    needed, held = prod(shape) * BITS[DTYPES[kind]] // 8, content.size - end
    if needed != held:
        raise _wrong_size(what, needed, held)
    elements = Elements(
        file=content.file,
        start=content.start + end,
        code=(">" if descr.startswith(">") else "<") + kind,
        dtype=DTYPES[kind],
        shape=shape,
        is_fortran=fields["fortran_order"] == "True" and sum(size != 1 for size in shape) > 1,
        deflated=content.deflated,
    )
    return elements.too_scattered() or elements.tensor(name)


def _header(raw: bytes, size: int, what: str) -> tuple[dict[str, str], int]:
    """The fields in the header of a .npy of `size` bytes, as text, and where its elements begin."""
    if not raw.startswith(MAGIC):
        raise RefusedFile(f"{what} does not begin as NumPy's do; {FETCH_AGAIN}", rule="JN002", case="npy-magic")
    version = tuple(raw[len(MAGIC) : len(MAGIC) + 2])
    if version not in LENGTH_BYTES:
        shown = ".".join(map(str, version))
        raise _bad(what, f"has version {quoted(shown)} of the format, and 1.0 to 3.0 are known", "npy-version")
    start = len(MAGIC) + 2 + LENGTH_BYTES[version]
    end = start + int.from_bytes(raw[len(MAGIC) + 2 : start], "little")
    if end - start > LONGEST_HEADER:
        fault = f"has a header of {end - start:,} bytes, above the limit of {LONGEST_HEADER:,}"
        raise _bad(what, fault, "npy-header-too-long")
    if end > size:
        raise RefusedFile(f"{what} is cut off in its header; {FETCH_AGAIN}", rule="JN001", case="npy-cut-off")
    try:
        return _fields(raw[start:end].decode("utf-8" if version == (3, 0) else "latin-1"), what), end
    except UnicodeDecodeError:
        raise _bad(what, "has a header that is not UTF-8", "npy-header-not-utf8") from None


def _fields(text: str, what: str) -> dict[str, str]:
    """The values of descr, fortran_order and shape, as text; a descr of records ends it and is the only one."""
    fields: dict[str, str] = {}
    found = _OPENING.match(text)
    while found and not found.groupdict().get("closing"):
        key = _KEY.match(text, found.end())
        if not key:
            break
        name = key["name"]
        if name in fields or name not in _VALUES:
            fault = "twice" if name in fields else "which no array has"
            raise _bad(what, f"has the field {quoted(name)} in its header, {fault}", "npy-header-field")
        if name == "descr" and text.startswith("[", key.end()):
            return {"descr": text[key.end() :]}
        value = _VALUES[name].match(text, key.end())
        if not value:
            raise _bad(what, f"has no valid {name} in its header", "npy-header-field")
        fields[name] = value["value"]
        found = _AFTER.match(text, value.end())
    if not found or not found.groupdict().get("closing"):
        raise _bad(what, "has a header that is no Python dictionary", "npy-header-broken")
    missing = sorted(_VALUES.keys() - fields.keys())
    if missing:
        raise _bad(what, f"lacks {missing[0]} in its header", "npy-header-field")
    return fields


def _shape(text: str, what: str) -> tuple[int, ...]:
    """The numbers between the brackets of a Python tuple."""
    words = text.split(",")
    if len(words) == 1 and words[0].strip():
        raise _bad(what, "has a shape that is no tuple", "npy-shape")
    if not words[-1].strip():
        words.pop()
    sizes = [_DIMENSION.fullmatch(word) for word in words]
    shape = tuple(int(size[1]) for size in sizes if size)
    if len(shape) < len(sizes) or max(shape, default=0) > LARGEST_DIMENSION:
        raise _bad(what, f"has the shape {quoted(text)}, which is not made of 63-bit sizes", "npy-shape")
    if len(shape) > LARGEST_RANK:
        raise _bad(what, f"has {len(shape):,} dimensions, and NumPy allows {LARGEST_RANK}", "npy-rank")
    return shape


def _wrong_size(what: str, needed: int, held: int) -> RefusedFile:
    if needed > held:
        sentence = f"{what} needs {needed:,} bytes and {held:,} are there; {FETCH_AGAIN}"
        return RefusedFile(sentence, rule="JN001", case="npy-cut-off")
    sentence = (
        f"{held - needed:,} bytes follow the last element of {what} and belong to none: a second array or another file "
        f"may hide there; {SAVE_AGAIN}"
    )
    return RefusedFile(sentence, rule="JN001", case="npy-trailing-bytes")


def _bad(what: str, fault: str, case: str) -> RefusedFile:
    return RefusedFile(f"{what} {fault}; {SAVE_AGAIN}", rule="JN003", case=case)


# ---- the elements


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """Where the elements of an array stand and in which order, to be decoded where they cannot be read in place.

    They begin at byte `start` of the file, or of what `deflated` unpacks to. `code` is NumPy's for how one is stored.
    `is_fortran` says that the first index moves fastest, and not the last.
    """

    file: Place
    start: int
    code: str
    dtype: Dtype
    shape: tuple[int, ...]
    is_fortran: bool
    deflated: Member | None

    @property
    def scheme(self) -> Scheme | None:
        """None: nothing is quantised."""

    @property
    def parts(self) -> tuple[str, ...]:
        """None but the tensor itself."""
        return ()

    def too_scattered(self) -> str:
        """Why an array in Fortran order cannot be put in order in little memory and time; empty where it can."""
        size = prod(self.shape) * self._element_bytes
        if not self.is_fortran or not size:
            return ""
        if self.deflated and size > LARGEST_DEFLATED_FORTRAN:
            return "it is deflated, large and in Fortran order; save it with numpy.savez, which does not pack"
        if self._row_elements * self._element_bytes > LARGEST_FORTRAN_ROW:
            return "it is in Fortran order with few and very long rows; save numpy.ascontiguousarray of it"
        return ""

    def tensor(self, name: str) -> Tensor:
        """The array as a tensor."""
        is_plain = not (self.is_fortran or self.deflated or (self.code[0] == ">" and self._element_bytes > 1))
        start, end = self.start, self.start + prod(self.shape) * self._element_bytes
        if self.deflated:
            start, end = self.deflated.start, self.deflated.end
        return Tensor(
            name=name,
            dtype=self.dtype,
            shape=self.shape,
            file=self.file,
            start=start,
            end=end,
            decoder=None if is_plain else self,
        )

    @property
    def _element_bytes(self) -> int:
        return BITS[self.dtype] // 8

    @property
    def _row_elements(self) -> int:
        return prod(self.shape[1:])

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The bytes they are picked from; all of a deflated array, which can only be unpacked from its beginning."""
        if self.deflated:
            return (Span(self.file, self.deflated.start, self.deflated.end),)
        size = self._element_bytes
        return tuple(
            Span(self.file, self.start + begin * size, self.start + end * size)
            for begin, end in self._windows(first, stop)
        )

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Give the elements little-endian and in C order."""
        if first == stop:
            return Decoded(np.empty(0, NUMPY_DTYPES[self.dtype]))
        elements = self._turned(read, first, stop) if self.is_fortran else self._stored(read, first, stop)
        return Decoded(elements.astype(NUMPY_DTYPES[self.dtype]))

    def _stored(self, read: Read, begin: int, end: int) -> npt.NDArray[np.generic]:
        """Elements in the order in which they are stored, valid until the next read."""
        span = self.start + begin * self._element_bytes, self.start + end * self._element_bytes
        if not self.deflated:
            return np.frombuffer(read(self.file, *span), self.code)
        if not self.is_fortran:
            return np.frombuffer(inflated(read, self.file, self.deflated, span), self.code)
        if _unpacked.of != self:  # rows are picked from all of it, and unpacking goes forward only
            _unpacked.of, _unpacked.content = None, b""
            _unpacked.content = inflated(read, self.file, self.deflated, (self.start, self.deflated.size))
            _unpacked.of = self
        return np.frombuffer(_unpacked.content, self.code)[begin:end]

    def _rows(self, first: int, stop: int) -> tuple[int, int]:
        """The rows in which elements stand."""
        return first // self._row_elements, -(-stop // self._row_elements)

    def _windows(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """The runs of stored elements to pick from. In Fortran order each goes from a first column to a last one.

        A column is what then stands together: the elements whose indices are equal but for the first.
        """
        if not self.is_fortran:
            yield first, stop
            return
        top, bottom = self._rows(first, stop)
        height, columns = self.shape[0], self._row_elements
        at_once = columns if bottom - top == height else max(1, WINDOW_BYTES // (height * self._element_bytes))
        for column in range(0, columns, at_once):
            last = min(columns, column + at_once) - 1
            yield column * height + top, last * height + bottom

    def _turned(self, read: Read, first: int, stop: int) -> npt.NDArray[np.generic]:
        top, bottom = self._rows(first, stop)
        height, size = self.shape[0], self._element_bytes
        columns = np.empty((self._row_elements, bottom - top), self.code)
        filled = 0
        for begin, end in self._windows(first, stop):
            count = (end - begin - (bottom - top)) // height + 1
            stored = self._stored(read, begin, end)
            columns[filled : filled + count] = as_strided(stored, (count, bottom - top), (height * size, size))
            filled += count
        rows = columns.reshape(*reversed(self.shape[1:]), bottom - top).transpose()
        return rows.reshape(-1)[first - top * self._row_elements : stop - top * self._row_elements]


class _Unpacked(local):
    """The deflated array in Fortran order that a thread has read from last."""

    def __init__(self) -> None:
        self.of: Elements | None = None
        self.content = b""


_unpacked = _Unpacked()
