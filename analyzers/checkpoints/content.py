"""A file, or a member of an archive, read at places that a stranger chose: within its bounds, and within a budget."""

from struct import unpack
from typing import BinaryIO

from jaynes_audit.analyzers.errors import RefusedFile

READS_PER_BYTE = 8
"""How often each byte may be read as a part of the file's structure; a sound file needs no byte more than thrice."""
SMALL_FILE = 1 << 16  # bytes: a file of few bytes may be read more often than that
LARGEST_STRUCTURE = 1 << 28  # bytes of structure, all weights left out: a million tensors
CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}  # of `struct`, by bytes
COST_OF_A_READ = 16  # bytes: what it costs to ask for nothing


class Content:
    """Bytes `start` to `start + size` of a stream, counted from 0.

    Everything that is read is paid for. A file whose parts lead to each other again and again, so that a few bytes
    would keep a reader busy for ever, is refused when the budget is spent; time and memory stay within a small
    multiple of the file's size.
    """

    def __init__(self, stream: BinaryIO, *, kind: str, start: int, size: int) -> None:
        self._stream = stream
        self.kind = kind
        self.start = start
        self.size = size
        self._budget = min(READS_PER_BYTE * size + SMALL_FILE, LARGEST_STRUCTURE)

    def at(self, address: int, length: int) -> bytes:
        """Give `length` bytes at `address`.

        Raises:
            RefusedFile: JN001 when they are not all inside, JN004 when the budget is spent.
        """
        self.check(address, length)
        self.pay(length)
        self._stream.seek(self.start + address)
        content = self._stream.read(length)
        if len(content) < length:
            raise self.bad("became shorter while it was read", rule="JN001", case="shortened-while-read")
        return content

    def pay(self, length: int) -> None:
        """Count work on `length` bytes, and refuse the file when it was too much."""
        self._budget -= length + COST_OF_A_READ
        if self._budget < 0:
            raise self.bad("has parts that overlap or lead round in circles", rule="JN004", case="structure-in-circles")

    def check(self, address: int, length: int) -> None:
        """Refuse the file when `length` bytes at `address` are not all inside it. Reads nothing."""
        if address + length > self.size:
            raise self.bad(
                f"points to {length:,} bytes at byte {address:,}, and ends at byte {self.size:,}: it is cut off or "
                "damaged",
                rule="JN001",
                case="points-past-end",
            )

    def bad(self, fault: str, *, rule: str = "JN003", case: str) -> RefusedFile:
        """The refusal of this file: it `fault`."""
        remedy = "fetch the file again" if rule == "JN001" else "write the file again with the library it is from"
        return RefusedFile(f"this {self.kind} file {fault}; {remedy}", rule=rule, case=case)

    def cursor(self, address: int, length: int) -> "Cursor":
        """Give these bytes to be taken one field after another."""
        return Cursor(self, self.at(address, length), address)


class Cursor:
    """Bytes that are taken one field after another; whole numbers are little-endian."""

    def __init__(self, content: Content, taken_from: bytes, address: int) -> None:
        self._content = content
        self._bytes = taken_from
        self._start = address
        self._at = 0

    @property
    def address(self) -> int:
        """Where in the content the next byte stands."""
        return self._start + self._at

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._bytes) - self._at

    def take(self, length: int) -> bytes:
        """Give the next bytes. Raises RefusedFile, JN003, when there are not so many."""
        taken = self._bytes[self._at : self._at + length]
        if len(taken) < length:
            raise self._content.bad(
                f"has a part at byte {self._start:,} that ends in the middle of a field", case="part-cut-off"
            )
        self._at += length
        return taken

    def number(self, width: int) -> int:
        """Give the unsigned number in the next `width` bytes."""
        return int.from_bytes(self.take(width), "little")

    def numbers(self, count: int, width: int) -> tuple[int, ...]:
        """Give so many unsigned numbers of 1, 2, 4 or 8 bytes each."""
        return unpack(f"<{count}{CODES[width]}", self.take(count * width))

    def text(self, length: int) -> str:
        """Give the next bytes as text, up to the first NUL. Raises RefusedFile when it is not UTF-8."""
        try:
            return self.take(length).partition(b"\0")[0].decode()
        except UnicodeDecodeError:
            raise self._content.bad(
                f"has a name at byte {self.address - length:,} that is not UTF-8", case="name-not-utf8"
            ) from None
