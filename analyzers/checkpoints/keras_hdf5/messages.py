"""HDF5 object headers: the list of messages that says all there is to say about one group or dataset.

Source: HDF5 File Format Specification 3.0, sections IV.A.1 (headers of version 1 and 2) and IV.A.2 (messages).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from jaynes_audit.analyzers.checkpoints.content import Content, Cursor

UNDEFINED = (1 << 64) - 1
"""The address of what is not there."""

SHARED = 0x02  # message flag: what stands here is only a pointer to the message
HEADER_1_BYTES = 16
PREFIX_1 = Struct("<HHB3x")  # what stands before the body of a message: its kind, its length and its flags
PREFIX_2 = Struct("<BHB")
PREFIX_2_IN_ORDER = Struct("<BHB2x")
CHECKSUM_BYTES = 4
HEADER_2_LARGEST = 34  # bytes before the first message, at most
TIMES_STORED = 0x20
PHASES_STORED = 0x10
ORDER_TRACKED = 0x04


class Kind(IntEnum):
    """The messages that are understood here."""

    DATASPACE = 0x01
    LINK_INFO = 0x02
    DATATYPE = 0x03
    LINK = 0x06
    EXTERNAL_FILES = 0x07
    LAYOUT = 0x08
    FILTERS = 0x0B
    ATTRIBUTE = 0x0C
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: its bytes, and where they stand."""

    shared: bool
    body: bytes
    address: int

    def cursor(self, content: Content) -> Cursor:
        """Give its bytes to be taken one field after another."""
        return Cursor(content, self.body, self.address)


Messages = Mapping[int, Sequence[Message]]
"""All messages of one object, by kind."""


def messages_of(content: Content, address: int) -> Messages:
    """The messages of the object header at `address`, and of its continuations.

    Raises:
        RefusedFile: JN003 when there is no header of a known version, JN001 when it leads out of the file.
    """
    found: defaultdict[int, list[Message]] = defaultdict(list)
    header = _header_2(content, address) if content.at(address, 4) == b"OHDR" else _header_1(content, address)
    blocks = [header.first]
    for block in blocks:  # which grows: continuations may continue. What circles is stopped by the content's budget
        for kind, message in _messages(content, block, header.prefix):
            if kind == Kind.CONTINUATION:
                blocks.append(_continuation(content, message, header))
            else:
                found[kind].append(message)
    return found


class _Block(NamedTuple):
    """Where messages stand."""

    address: int
    length: int


class _Header(NamedTuple):
    """Where the first messages of an object stand, and what stands before the body of each."""

    first: _Block
    prefix: Struct


def _header_1(content: Content, address: int) -> _Header:
    cursor = content.cursor(address, HEADER_1_BYTES)
    if cursor.number(1) != 1:
        raise content.bad(f"has no object header at byte {address:,}, where one is said to be", case="no-object-header")
    cursor.take(7)  # reserved, number of messages, reference count
    return _Header(_Block(address + HEADER_1_BYTES, cursor.number(4)), PREFIX_1)


def _header_2(content: Content, address: int) -> _Header:
    cursor = content.cursor(address, min(HEADER_2_LARGEST, content.size - address))
    cursor.take(4)
    if cursor.number(1) != 2:  # noqa: PLR2004 - the only version that begins with OHDR
        raise content.bad(f"has an object header of unknown version at byte {address:,}", case="no-object-header")
    flags = cursor.number(1)
    cursor.take((16 if flags & TIMES_STORED else 0) + (4 if flags & PHASES_STORED else 0))
    length = cursor.number(1 << (flags & 3))
    return _Header(_Block(cursor.address, length), PREFIX_2_IN_ORDER if flags & ORDER_TRACKED else PREFIX_2)


def _continuation(content: Content, message: Message, header: _Header) -> _Block:
    cursor = message.cursor(content)
    address, length = cursor.number(8), cursor.number(8)
    if header.prefix is PREFIX_1:
        return _Block(address, length)
    if length < 4 + CHECKSUM_BYTES or content.at(address, 4) != b"OCHK":
        raise content.bad(f"continues an object header at byte {address:,}, and none is there", case="no-object-header")
    return _Block(address + 4, length - 4 - CHECKSUM_BYTES)


def _messages(content: Content, block: _Block, prefix: Struct) -> Iterator[tuple[int, Message]]:
    cursor = content.cursor(*block)
    while cursor.left >= prefix.size:  # what is less is a gap
        kind, size, flags = prefix.unpack(cursor.take(prefix.size))
        address = cursor.address
        yield kind, Message(shared=bool(flags & SHARED), body=cursor.take(size), address=address)
