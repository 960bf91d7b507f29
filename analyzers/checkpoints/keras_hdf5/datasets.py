"""What the messages of an HDF5 dataset say: its shape, the numbers in it, and where and how they are stored.

Source: HDF5 File Format Specification 3.0, section IV.A.2 (dataspace, datatype, layout, filter and attribute
messages); h5py's documentation for booleans; Keras's `saving_lib.py` for bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from jaynes_audit.analyzers.checkpoints.content import Content, Cursor
from jaynes_audit.analyzers.checkpoints.keras_hdf5.messages import Kind, Message, Messages
from jaynes_audit.analyzers.dtypes import Dtype

LARGEST_RANK = 32  # H5S_MAX_RANK
BIG_ENDIAN = 0x01
VAX_ORDER = 0x40
SIGNED = 0x08
OLD_LAYOUTS = frozenset({1, 2})  # of HDF5 before 1.6
CHUNK_INDEX = 4  # the layout's version from which chunks may be found otherwise than by a B-tree


class Passed(Enum):
    """What a dataset may hold that is no numbers."""

    TEXT = "text"
    NOTHING = "nothing"
    RECORDS = "records or references"


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a dataset's numbers cannot be read, though it is sound."""

    reason: str


@dataclass(frozen=True, slots=True)
class Number:
    """The numbers in a dataset."""

    dtype: Dtype
    big_endian: bool = field(default=False, kw_only=True)


class DatatypeClass(IntEnum):
    """The classes of datatypes that hold numbers."""

    INTEGER = 0
    FLOAT = 1
    STRING = 3
    OPAQUE = 5
    ENUM = 8
    VARIABLE_LENGTH = 9


class StorageClass(IntEnum):
    """How a dataset's bytes lie in the file."""

    COMPACT = 0
    CONTIGUOUS = 1
    CHUNKED = 2
    VIRTUAL = 3


@dataclass(frozen=True, slots=True)
class Run:
    """All bytes of a dataset, one after another; the address is undefined when they were never written."""

    address: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStore:
    """Where the index of a dataset's chunks is.

    `chunk_shape` counts elements. A dataset that is a single chunk needs no index: `single` is then the chunk's bytes
    as stored, and which of the filters were left out for it.
    """

    chunk_shape: tuple[int, ...]
    index: int
    single: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One dataset. `filters` are the identifiers of what its chunks went through, in that order."""

    shape: tuple[int, ...]
    numbers: Number | Unread
    element_bytes: int
    storage: Run | ChunkStore | Unread
    filters: tuple[int, ...]


def is_dataset(messages: Messages) -> bool:
    """Whether the object with these messages is a dataset."""
    return Kind.LAYOUT in messages


def dataset_of(content: Content, messages: Messages) -> Dataset | Passed:
    """The dataset with these messages.

    Raises:
        RefusedFile: JN002 when its data are in other files, JN003 when a message is not what it should be.
    """
    if Kind.EXTERNAL_FILES in messages:
        raise content.bad(
            "has a dataset whose data are in another file of the reader's machine",
            rule="JN002",
            case="external-storage",
        )
    space, datatype, layout = (_only(content, messages, kind) for kind in (Kind.DATASPACE, Kind.DATATYPE, Kind.LAYOUT))
    shape = _shape(content, space.cursor(content))
    if isinstance(shape, Passed):
        return shape
    cursor = datatype.cursor(content)
    if datatype.shared:
        numbers: Number | Unread | Passed = Unread("its number format is stored apart from it, which no Keras does")
        element_bytes = 1
    else:
        numbers, element_bytes = _numbers(content, cursor)
    if isinstance(numbers, Passed):
        return numbers
    if isinstance(numbers, Unread) and _is_bfloat16(content, messages, datatype):
        numbers = Number(Dtype.BF16)
    return Dataset(
        shape=shape,
        numbers=numbers,
        element_bytes=element_bytes,
        storage=_storage(content, layout, len(shape)),
        filters=_filters(content, messages.get(Kind.FILTERS, ())),
    )


def _only(content: Content, messages: Messages, kind: Kind) -> Message:
    found = messages.get(kind, ())
    if len(found) != 1 or (found[0].shared and kind is not Kind.DATATYPE):
        raise content.bad(
            f"has a dataset without exactly one message of its own about its {kind.name.lower()}",
            case="dataset-messages",
        )
    return found[0]


# ---- shape


def _shape(content: Content, cursor: Cursor) -> tuple[int, ...] | Passed:
    version, rank, _ = cursor.number(1), cursor.number(1), cursor.number(1)
    if version == 1:
        cursor.take(5)
    elif version == 2:  # noqa: PLR2004 - the newer of the two
        if cursor.number(1) == 2:  # noqa: PLR2004 - a null dataspace
            return Passed.NOTHING
    else:
        raise content.bad(f"has a shape of unknown version {version}", case="dataspace-version")
    if rank > LARGEST_RANK:
        raise content.bad(
            f"has a dataset of {rank} dimensions, above the limit of {LARGEST_RANK}", case="rank-too-large"
        )
    return cursor.numbers(rank, 8)


# ---- numbers


INTEGERS: dict[tuple[int, bool], Dtype] = {
    (1, False): Dtype.U8,
    (1, True): Dtype.I8,
    (2, False): Dtype.U16,
    (2, True): Dtype.I16,
    (4, False): Dtype.U32,
    (4, True): Dtype.I32,
    (8, False): Dtype.U64,
    (8, True): Dtype.I64,
}
FLOATS: dict[tuple[int, ...], Dtype] = {
    (2, 10, 5, 0, 10, 15): Dtype.F16,
    (2, 7, 8, 0, 7, 127): Dtype.BF16,
    (4, 23, 8, 0, 23, 127): Dtype.F32,
    (8, 52, 11, 0, 52, 1023): Dtype.F64,
}
"""Bytes; place and width of the exponent, place and width of the mantissa, in bits; bias."""


def _numbers(content: Content, cursor: Cursor) -> tuple[Number | Unread | Passed, int]:
    """The numbers that a datatype describes, and the bytes of each."""
    kind, bits, size = cursor.number(1) & 0x0F, cursor.number(3), cursor.number(4)
    if not size:
        raise content.bad("has a number format of 0 bytes", case="datatype-size")
    match kind:
        case DatatypeClass.INTEGER:
            return _integer(cursor, bits, size), size
        case DatatypeClass.FLOAT:
            return _float(cursor, bits, size), size
        case DatatypeClass.ENUM:
            return (Number(Dtype.BOOL) if _is_boolean(cursor, bits) else Unread("an enumeration")), size
        case DatatypeClass.OPAQUE:
            return Unread(f"elements of {size} bytes whose meaning the file does not tell"), size
        case DatatypeClass.STRING | DatatypeClass.VARIABLE_LENGTH:
            return Passed.TEXT, size
        case _:
            return Passed.RECORDS, size


def _integer(cursor: Cursor, bits: int, size: int) -> Number | Unread:
    offset, precision = cursor.numbers(2, 2)
    dtype = INTEGERS.get((size, bool(bits & SIGNED)))
    if dtype and (offset, precision) == (0, 8 * size):
        return Number(dtype, big_endian=bool(bits & BIG_ENDIAN))
    return Unread(f"whole numbers of {precision} bits in {size} bytes")


def _float(cursor: Cursor, bits: int, size: int) -> Number | Unread:
    offset, precision = cursor.numbers(2, 2)
    fields = (*cursor.numbers(4, 1), cursor.number(4))
    dtype = FLOATS.get((size, *fields))
    sign_place = bits >> 8 & 0xFF
    if dtype and (offset, precision, sign_place) == (0, 8 * size, 8 * size - 1) and not bits & VAX_ORDER:
        return Number(dtype, big_endian=bool(bits & BIG_ENDIAN))
    return Unread(f"floats of {size} bytes in a format that is not known here")


def _is_boolean(cursor: Cursor, bits: int) -> bool:
    """Whether an enumeration is the one of one byte that h5py writes for booleans."""
    base, _, size = cursor.number(1), cursor.number(3), cursor.number(4)
    cursor.take(4)
    rest = cursor.take(cursor.left).replace(b"\0", b"")
    return (base & 0x0F, size, bits & 0xFFFF, rest) == (DatatypeClass.INTEGER, 1, 2, b"FALSETRUE\1")


# ---- the attribute by which Keras tells bfloat16


def _is_bfloat16(content: Content, messages: Messages, datatype: Message) -> bool:
    """Whether the elements are opaque ones of two bytes with an attribute `dtype` of `bfloat16`: so Keras writes it."""
    if datatype.shared or datatype.body[0] & 0x0F != DatatypeClass.OPAQUE or datatype.body[4:8] != b"\2\0\0\0":
        return False
    return any(
        _attribute(content, message.cursor(content)) == ("dtype", b"bfloat16")
        for message in messages.get(Kind.ATTRIBUTE, ())
    )


def _attribute(content: Content, cursor: Cursor) -> tuple[str, bytes]:
    """The name and the text of an attribute; nothing for one that is no scalar text."""
    version = cursor.number(1)
    cursor.take(1)
    name_bytes, datatype_bytes, space_bytes = cursor.numbers(3, 2)
    cursor.take(1 if version == 3 else 0)  # noqa: PLR2004 - the version that tells the character set
    padding = 8 if version == 1 else 1
    name = cursor.text(-(-name_bytes // padding) * padding)
    datatype = cursor.take(-(-datatype_bytes // padding) * padding)
    cursor.take(-(-space_bytes // padding) * padding)
    if not datatype:
        return name, b""
    match datatype[0] & 0x0F:
        case DatatypeClass.STRING:
            return name, cursor.take(cursor.left).rstrip(b"\0")
        case DatatypeClass.VARIABLE_LENGTH if cursor.left >= 16:  # noqa: PLR2004 - length, address and index
            length, heap, index = cursor.number(4), cursor.number(8), cursor.number(4)
            return name, _from_global_heap(content, heap, index)[:length]
        case _:
            return name, b""


def _from_global_heap(content: Content, address: int, index: int) -> bytes:
    """The object with this index in the collection of the global heap at `address`; nothing when it is not there."""
    cursor = content.cursor(address, 16)
    if cursor.take(4) != b"GCOL":
        raise content.bad(f"has no heap of texts at byte {address:,}", case="no-global-heap")
    cursor.take(4)
    body = content.cursor(address + 16, max(0, cursor.number(8) - 16))
    while body.left >= 16:  # noqa: PLR2004 - what stands before each object
        found, _, size = body.number(2), body.take(6), body.number(8)
        if found == index:
            return body.take(size)
        body.take(min(body.left, -(-size // 8) * 8))
    return b""


# ---- storage


def _storage(content: Content, layout: Message, rank: int) -> Run | ChunkStore | Unread:
    cursor = layout.cursor(content)
    version = cursor.number(1)
    if version in OLD_LAYOUTS:
        return Unread("stored as HDF5 did before 1.6; write it again with a newer h5py")
    match cursor.number(1):
        case StorageClass.COMPACT:
            length = cursor.number(2)
            address = cursor.address
            cursor.take(length)
            return Run(address, length)
        case StorageClass.CONTIGUOUS:
            return Run(cursor.number(8), cursor.number(8))
        case StorageClass.CHUNKED:
            return _indexed(content, cursor, rank) if version >= CHUNK_INDEX else _in_tree(content, cursor, rank)
        case StorageClass.VIRTUAL:
            raise content.bad(
                "has a virtual dataset, whose data are in other files of the reader's machine",
                rule="JN002",
                case="virtual-dataset",
            )
        case storage:
            raise content.bad(f"has a dataset stored in an unknown way {storage}", case="unknown-layout")


def _in_tree(content: Content, cursor: Cursor, rank: int) -> ChunkStore:
    _check_rank(content, cursor.number(1), rank)
    index = cursor.number(8)
    return ChunkStore(chunk_shape=cursor.numbers(rank, 4), index=index)


SINGLE_CHUNK = 1
FILTERED_SINGLE = 0x02


def _indexed(content: Content, cursor: Cursor, rank: int) -> ChunkStore | Unread:
    flags = cursor.number(1)
    _check_rank(content, cursor.number(1), rank)
    width = cursor.number(1)
    chunk_shape = tuple(cursor.number(width) for _ in range(rank + 1))[:-1]
    if cursor.number(1) != SINGLE_CHUNK:
        return Unread("in chunks that are found as HDF5 1.10 does; write it again without libver='latest'")
    stored_bytes, left_out = (cursor.number(8), cursor.number(4)) if flags & FILTERED_SINGLE else (0, 0)
    return ChunkStore(chunk_shape=chunk_shape, index=cursor.number(8), single=(stored_bytes, left_out))


def _check_rank(content: Content, declared: int, rank: int) -> None:
    if declared != rank + 1:  # the last dimension of a chunk is the bytes of an element
        raise content.bad(f"has chunks of {declared - 1} dimensions in a dataset of {rank}", case="chunk-rank")


def _filters(content: Content, messages: Sequence[Message]) -> tuple[int, ...]:
    """The identifiers of the filters, in the order in which chunks went through them when they were written."""
    found: list[int] = []
    for message in messages:
        cursor = message.cursor(content)
        version, count = cursor.number(1), cursor.number(1)
        cursor.take(6 if version == 1 else 0)
        for _ in range(count):
            identifier = cursor.number(2)
            name_bytes = cursor.number(2) if version == 1 or identifier >= 256 else 0  # noqa: PLR2004 - below are HDF5's own, without a name
            cursor.take(2)
            values = cursor.number(2)
            cursor.take(-(-name_bytes // 8) * 8 if version == 1 else name_bytes)
            cursor.take(4 * (values + values % 2 if version == 1 else values))
            found.append(identifier)
    return tuple(found)
