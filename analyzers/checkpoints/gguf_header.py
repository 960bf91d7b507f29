"""The GGUF header: from a file's first bytes to its tensors, or to the one sentence that says what is wrong.

A GGUF file is the magic `GGUF`, a version, two counts, the metadata (key, type, value), the tensors' entries (name,
dimensions, type, offset), and the tensors' bytes, each at a multiple of the alignment. All numbers are little-endian,
or all big-endian: the version tells. Sources: `docs/gguf.md` of the ggml repository, `gguf.cpp` of llama.cpp, and the
package gguf 0.19. As llama.cpp does, this reader refuses what the format forbids (names and keys that stand twice,
overlaps, rows of broken blocks, more than four dimensions, an alignment that is no power of two).

The header is read forward, in large pieces, once. Vocabularies are passed over and not built. Nothing of a file is
believed before it is checked, and memory stays within a small multiple of the header's own length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from struct import Struct, calcsize, unpack_from
from typing import Any, BinaryIO

from jaynes_audit.analyzers.checkpoints.gguf_blocks import BLOCKS, PLAIN
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.dtypes import BITS
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile

MAGIC = b"GGUF"
VERSIONS = frozenset({2, 3})  # 1, of August 2023, counted in 32 bits; llama.cpp reads it no more
LARGEST_HEADER = 128 << 20  # bytes; ten times that of a model with 262,144 tokens and their merges
PIECE = 1 << 20  # bytes read at once
LENGTH_FIELD = 8  # bytes before a text
LONGEST_NAME = 65_535  # bytes; gguf.md allows a key so many, and a tensor's name 64, which some writers exceed
LONGEST_KEPT = 1024  # bytes of a text in the metadata; chat templates and licences are longer, and say nothing here
LARGEST_RANK = 4  # GGML_MAX_DIMS
MOST_ELEMENTS = (1 << 63) - 1  # ggml counts them in a signed number of 64 bits
DEEPEST_NESTING = 4  # of lists in the metadata; no writer nests them at all
MOST_METADATA = 1 << 16  # a thousand times what llama.cpp's converter writes
MOST_TENSORS = 1 << 18  # a hundred times what a large model has: its experts are stacked
DEFAULT_ALIGNMENT = 32  # bytes; GGUF_DEFAULT_ALIGNMENT
ALIGNMENT = "general.alignment"

SCALARS: dict[int, str] = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of the metadata's numbers, as `struct` spells them."""

UINT32, TEXT, LIST = 4, 8, 9

FETCH_AGAIN = "download or copy the file again"
WRITE_AGAIN = "convert the model again with a current llama.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the header says of one tensor; `offset` counts from the beginning of the tensors' bytes."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int

    @property
    def stored_bytes(self) -> int | None:
        """Its length as it is stored; None for a type that is not known."""
        if dtype := PLAIN.get(self.type_number):
            return prod(self.shape) * BITS[dtype] // 8
        if blocks := BLOCKS.get(self.type_number):
            return prod(self.shape) // blocks.elements * blocks.stored_bytes
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a GGUF header says: its metadata, without lists and long texts, and its tensors' entries in their order."""

    is_big_endian: bool
    metadata: Mapping[str, object]
    entries: tuple[Entry, ...]
    alignment: int
    data_start: int


# ---- bytes


class _Ahead:
    """The bytes of a header, read forward only, a large piece at a time."""

    def __init__(self, stream: BinaryIO, file: Place, file_size: int) -> None:
        self._stream = stream
        self._file = file
        self._passed = 0  # bytes before the piece
        self._piece = b""
        self._at = 0
        self.file_size = file_size
        self.order = "<"
        self._length = Struct("<Q")

    @property
    def position(self) -> int:
        """How many bytes of the file were passed."""
        return self._passed + self._at

    def in_big_endian_order(self) -> None:
        """Read the numbers that follow with their most significant byte first."""
        self.order, self._length = ">", Struct(">Q")

    def bytes(self, count: int) -> bytes:
        """The next bytes."""
        self._fill(count)
        self._at += count
        return self._piece[self._at - count : self._at]

    def numbers(self, spelling: str) -> tuple[Any, ...]:
        """The next numbers, of the types that `struct` spells so."""
        layout = self.order + spelling
        length = calcsize(layout)
        self._fill(length)
        self._at += length
        return unpack_from(layout, self._piece, self._at - length)

    def number(self, spelling: str) -> int:
        """The next whole number."""
        (number,) = self.numbers(spelling)
        return int(number)

    def text(self, what: str) -> str:
        """The next text, which is short: a key, or a name."""
        length = self.number("Q")
        if length > LONGEST_NAME:
            raise refusal(f"{what} has {length:,} bytes, more than the {LONGEST_NAME:,} it may have", "name-too-long")
        raw = self.bytes(length)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            name = quoted(raw.decode(errors="backslashreplace"))
            raise refusal(f"{what}, {name}, is not UTF-8", "name-not-utf8", remedy=FETCH_AGAIN) from None

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        self._refuse_past_end(count)
        while count:
            step = min(count, PIECE)
            self._fill(step)
            self._at += step
            count -= step

    def skip_texts(self, count: int) -> None:
        """Pass over texts: the hundred thousand tokens of a vocabulary."""
        length_at = self._length.unpack_from
        while count:
            self._fill(LENGTH_FIELD)
            at, piece, last = self._at, self._piece, len(self._piece) - LENGTH_FIELD
            while count and at <= last:
                at += LENGTH_FIELD + length_at(piece, at)[0]
                count -= 1
            self._at = min(at, len(piece))
            self.skip(at - self._at)

    def _fill(self, count: int) -> None:
        """See that so many bytes lie ahead in the piece."""
        if self._at + count <= len(self._piece):
            return
        self._refuse_past_end(count)
        rest = self._piece[self._at :]
        self._passed, self._at = self.position, 0
        self._piece = rest + self._stream.read(max(PIECE, count - len(rest)))
        if len(self._piece) < count:
            raise CouldNotRead(
                f"{quoted_path(self._file)} became shorter while it was read; try again when its writer is done"
            )

    def _refuse_past_end(self, count: int) -> None:
        end = self.position + count
        if end > self.file_size:
            raise refusal(
                f"the file ends after {self.file_size:,} bytes, and its header alone goes on to byte {end:,}",
                "header-cut-off",
                rule="JN001",
                remedy=FETCH_AGAIN,
            )
        if end > LARGEST_HEADER:
            raise refusal(f"the header has more than {LARGEST_HEADER:,} bytes, as none should", "header-too-large")


# ---- the header


def read_header(stream: BinaryIO, file: Place, file_size: int) -> Header:
    """What the header of an opened GGUF file says. Nothing behind the header is believed to be there.

    Raises:
        RefusedFile: JN001 when the header is cut off, JN002 when its version is not known, JN003 when it is bad, JN004
            when a tensor has no proper size or place.
        CouldNotRead: when the file lost bytes while it was being read.
    """
    ahead = _Ahead(stream, file, file_size)
    version = _version(ahead)
    if version not in VERSIONS:
        raise refusal(
            f"this is a GGUF file of version {version}, and only 2 and 3 can be read",
            "gguf-version",
            rule="JN002",
        )
    tensors, metadata_count = ahead.numbers("QQ")
    if tensors > MOST_TENSORS or metadata_count > MOST_METADATA:
        raise refusal(
            f"the header promises {tensors:,} tensors and {metadata_count:,} metadata, more than any model has",
            "count-too-large",
            remedy=FETCH_AGAIN,
        )
    metadata: dict[str, object] = {}
    alignment = DEFAULT_ALIGNMENT
    for _ in range(metadata_count):
        key = ahead.text("a key in the metadata")
        if key in metadata:
            raise refusal(f"the metadata hold {quoted(key)} twice", "duplicate-key")
        type_number = ahead.number("I")
        if key == ALIGNMENT:
            alignment = _alignment(ahead, type_number)
        metadata[key] = alignment if key == ALIGNMENT else _value(ahead, key, type_number)
    entries: dict[str, Entry] = {}
    for _ in range(tensors):
        entry = _entry(ahead, alignment)
        if entry.name in entries:
            raise refusal(f"tensor {quoted(entry.name)} stands twice in the header", "duplicate-tensor")
        entries[entry.name] = entry
    return Header(
        is_big_endian=ahead.order == ">",
        metadata=metadata,
        entries=tuple(entries.values()),
        alignment=alignment,
        data_start=padded(ahead.position, alignment),
    )


def _version(ahead: _Ahead) -> int:
    """The version, which also tells the order of bytes: no version needs the upper half of its 32 bits."""
    if ahead.bytes(len(MAGIC)) != MAGIC:
        raise refusal("this is no GGUF file, for it does not begin with GGUF", "gguf-magic", rule="JN002")
    raw = ahead.bytes(4)
    if raw[:2] == b"\0\0":
        ahead.in_big_endian_order()
    return int.from_bytes(raw, "big" if ahead.order == ">" else "little")


def _value(ahead: _Ahead, key: str, type_number: int) -> object:
    """The value of a key: a number, a short text, or None for what is passed over."""
    if type_number in SCALARS:
        return ahead.numbers(SCALARS[type_number])[0]
    if type_number != TEXT:
        _skip_list(ahead, key, type_number, depth=0)
        return None
    length = ahead.number("Q")
    if length <= LONGEST_KEPT:
        return ahead.bytes(length).decode(errors="replace")
    ahead.skip(length)
    return None


def _alignment(ahead: _Ahead, type_number: int) -> int:
    if type_number != UINT32:
        raise refusal(f"{ALIGNMENT} is of type {type_number} and must be a number of 32 bits", "alignment-type")
    alignment = ahead.number("I")
    if alignment.bit_count() != 1:
        raise refusal(f"{ALIGNMENT} is {alignment:,} and must be a power of two", "alignment-not-power-of-two")
    return alignment


def _skip_list(ahead: _Ahead, key: str, type_number: int, *, depth: int) -> None:
    if type_number != LIST:
        raise refusal(f"the value of {quoted(key)} is of type {type_number}, which GGUF does not have", "value-type")
    if depth == DEEPEST_NESTING:
        raise refusal(f"the value of {quoted(key)} nests lists in lists, as only an attack does", "nesting-too-deep")
    item_type, count = ahead.numbers("IQ")
    if item_type in SCALARS:
        ahead.skip(count * calcsize("<" + SCALARS[item_type]))
    elif item_type == TEXT:
        ahead.skip_texts(count)
    else:
        while count:
            _skip_list(ahead, key, item_type, depth=depth + 1)
            count -= 1


def _entry(ahead: _Ahead, alignment: int) -> Entry:
    name = ahead.text("a tensor's name")
    rank = ahead.number("I")
    if rank > LARGEST_RANK:
        raise refusal(
            f"tensor {quoted(name)} has {rank:,} dimensions, more than ggml's {LARGEST_RANK}", "rank-too-large"
        )
    *dimensions, type_number, offset = ahead.numbers(f"{rank}QIQ")
    if prod(max(1, size) for size in dimensions) > MOST_ELEMENTS:
        raise refusal(
            f"tensor {quoted(name)} of shape {dimensions[::-1]} has more elements than 63 bits can count",
            "shape-overflow",
            rule="JN004",
        )
    blocks = BLOCKS.get(type_number)
    if blocks and (not dimensions or dimensions[0] % blocks.elements):
        raise refusal(
            f"tensor {quoted(name)} has rows of {dimensions[0] if dimensions else 1:,}, "
            f"no whole blocks of {blocks.elements}, which {blocks.name} stores",
            "broken-blocks",
            rule="JN004",
        )
    if offset % alignment:
        raise refusal(
            f"tensor {quoted(name)} is at offset {offset:,}, no multiple of the alignment {alignment:,}",
            "offset-misaligned",
            rule="JN004",
        )
    return Entry(name=name, shape=tuple(dimensions[::-1]), type_number=type_number, offset=offset)


def padded(position: int, alignment: int) -> int:
    """The first multiple of the alignment that is not before the position."""
    return -(-position // alignment) * alignment


def refusal(fault: str, case: str, *, rule: str = "JN003", remedy: str = WRITE_AGAIN) -> RefusedFile:
    """The refusal of a file for this fault."""
    return RefusedFile(f"{fault}; {remedy}", rule=rule, case=case)
