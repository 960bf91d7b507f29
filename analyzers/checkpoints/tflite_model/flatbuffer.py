"""Flatbuffers: tables whose fields are found through offsets, each checked before it is followed.

Source: the flatbuffers documentation, "FlatBuffers Internals". Python's flatbuffers library has no verifier and
believes every offset that it meets, so the walk is our own.
"""

from collections.abc import Iterator

from jaynes_audit.analyzers.checkpoints.content import Content, Cursor

OFFSET_BYTES = 4
SIZES_BYTES = 4  # of the list of fields, and of the table


class Table:
    """A table: its fields are numbered in the order of the schema, and one that is not stored has its default.

    Every method raises RefusedFile, JN001 or JN003, when a field leads out of the file or of the table.
    """

    def __init__(self, content: Content, address: int) -> None:
        self._content = content
        self._address = address
        to_fields = int.from_bytes(content.at(address, OFFSET_BYTES), "little", signed=True)
        fields_at = address - to_fields
        fields_bytes, table_bytes = content.cursor(max(0, fields_at), 4).numbers(2, 2)
        if fields_at < 0 or fields_bytes < SIZES_BYTES or table_bytes < OFFSET_BYTES:
            raise content.bad(f"has no table at byte {address:,}, where one is said to be", case="no-table")
        self._places = content.cursor(fields_at, fields_bytes).numbers(fields_bytes // 2, 2)
        self._inline = content.at(address, table_bytes)

    def number(self, field: int, width: int) -> int:
        """The unsigned number in a field of `width` bytes; 0 by default."""
        place = self._place(field)
        return Cursor(self._content, self._inline[place:], self._address + place).number(width) if place else 0

    def offset(self, field: int) -> int:
        """The address of what stands elsewhere, or 0 when nothing does."""
        place = self._place(field)
        return self._address + place + self.number(field, OFFSET_BYTES) if place else 0

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Where the elements of a vector, of `width` bytes each, begin, and how many there are."""
        at = self.offset(field)
        if not at:
            return 0, 0
        count = int.from_bytes(self._content.at(at, OFFSET_BYTES), "little")
        self._content.check(at + OFFSET_BYTES, count * width)
        return at + OFFSET_BYTES, count

    def elements(self, field: int, width: int) -> bytes:
        """The bytes of a vector of numbers."""
        start, count = self.vector(field, width)
        return self._content.at(start, count * width)

    def text(self, field: int) -> str:
        """A text; empty by default. Raises RefusedFile when it is not UTF-8."""
        start, length = self.vector(field, 1)
        return self._content.cursor(start, length).text(length)

    def tables(self, field: int) -> Iterator["Table"]:
        """The tables of a vector of them."""
        start, count = self.vector(field, OFFSET_BYTES)
        for at, offset in enumerate(self._content.cursor(start, count * OFFSET_BYTES).numbers(count, OFFSET_BYTES)):
            yield Table(self._content, start + at * OFFSET_BYTES + offset)

    def _place(self, field: int) -> int:
        """Where in the table a field stands; 0 for one that is not stored."""
        at = SIZES_BYTES // 2 + field
        return self._places[at] if at < len(self._places) else 0


def root_table(content: Content) -> Table:
    """The table that a flatbuffer begins with."""
    return Table(content, int.from_bytes(content.at(0, OFFSET_BYTES), "little"))
