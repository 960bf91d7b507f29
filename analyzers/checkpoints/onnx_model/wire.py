"""Protobuf's wire format, walked in place: which field stands where, and not one byte of a long one read.

Source: protobuf.dev, "Encoding". Groups, which proto3 gave up and ONNX never had, are refused.
"""

from collections.abc import Container, Iterator, Mapping
from enum import IntEnum
from typing import BinaryIO, NamedTuple

from jaynes_audit.analyzers.errors import RefusedFile

BLOCK_BYTES = 1 << 14  # read at once
LONGEST_VARINT = 10  # bytes: 64 bits in groups of seven
MOST_FIELDS = 4_000_000  # some ten times those of the largest graphs
GOES_ON = 0x80  # the highest bit of a byte says that the number goes on in the next one
U64_MASK = (1 << 64) - 1
FETCH_AGAIN = "fetch the file again"
WRITE_AGAIN = "save the model again with onnx.save"


class Form(IntEnum):
    """How a field's value is written."""

    VARINT = 0
    EIGHT_BYTES = 1
    DELIMITED = 2
    FOUR_BYTES = 5


FIXED_BYTES = {Form.EIGHT_BYTES: 8, Form.FOUR_BYTES: 4}


class Field(NamedTuple):
    """One field of a message. A varint's value is `value`; any other stands from byte `start` to byte `end`."""

    number: int
    form: Form
    value: int
    start: int
    end: int


class Wire:
    """A file of `size` bytes, read as protobuf. What it is read from may end earlier: then that is said."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.size = size
        self._stream = stream
        self._fields = 0
        self._block = b""
        self._block_start = 0

    def fields(self, start: int, end: int, known: Mapping[int, Container[Form]]) -> Iterator[Field]:
        """The fields of the message from `start` to `end` that are known by number, in the order they stand in.

        Raises:
            RefusedFile: JN003 when it is no message or a known field has another form, JN001 when it is cut off.
        """
        at = start
        while at < end:
            tag, at = self._varint(at, end)
            form, number = tag & 7, tag >> 3
            value = 0
            if not number:
                raise bad(f"is no protobuf: a field before byte {at:,} has the number 0", "onnx-field-number")
            if form == Form.VARINT:
                value, after = self._varint(at, end)
            elif form == Form.DELIMITED:
                length, at = self._varint(at, end)
                after = at + length
            elif form in FIXED_BYTES:
                after = at + FIXED_BYTES[Form(form)]
            else:
                raise bad(f"is no protobuf: a field at byte {at:,} has a form that does not exist", "onnx-field-form")
            if after > end:
                raise self._outside(at, end)
            self._count()
            if number in known:
                if form not in known[number]:
                    raise bad(f"has a field at byte {at:,} that is not of the form it must have", "onnx-field-form")
                yield Field(number, Form(form), value, at, after)
            at = after

    def varints(self, start: int, end: int) -> Iterator[int]:
        """The numbers from `start` to `end`, each written as a varint."""
        at = start
        while at < end:
            value, at = self._varint(at, end)
            yield value

    def content(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end`."""
        if self._block_start <= start and end <= self._block_start + len(self._block):
            return self._block[start - self._block_start : end - self._block_start]
        self._stream.seek(start)
        content = self._stream.read(end - start)
        if len(content) < end - start:
            raise self._cut_off()
        return content

    def text(self, field: Field, longest: int) -> str:
        """A field's text, if it is UTF-8 and has at most so many bytes."""
        if field.end - field.start > longest:
            raise bad(f"has a text of {field.end - field.start:,} bytes where {longest:,} are the limit", "onnx-text")
        try:
            return self.content(field.start, field.end).decode()
        except UnicodeDecodeError:
            raise bad(f"has a text at byte {field.start:,} that is not UTF-8", "onnx-text") from None

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at `at`, cut to 64 bits as protobuf does, and where it ends."""
        value = 0
        for position in range(LONGEST_VARINT):
            if at + position >= end:
                raise self._outside(at, end)
            byte = self._byte(at + position)
            value |= (byte & 0x7F) << (7 * position)
            if byte < GOES_ON:
                return value & U64_MASK, at + position + 1
        raise bad(f"has a number at byte {at:,} that does not end", "onnx-varint")

    def _byte(self, at: int) -> int:
        if not 0 <= at - self._block_start < len(self._block):
            self._stream.seek(at)
            self._block, self._block_start = self._stream.read(min(self.size - at, BLOCK_BYTES)), at
            if not self._block:
                raise self._cut_off()
        return self._block[at - self._block_start]

    def _count(self) -> None:
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise bad(f"is made of more than {MOST_FIELDS:,} fields", "onnx-too-many-fields")

    def _outside(self, at: int, end: int) -> RefusedFile:
        """Why something at `at` does not end before its message does."""
        if end == self.size:
            return self._cut_off()
        return bad(f"has a field at byte {at:,} that reaches out of what it is a part of", "onnx-field-outside")

    def _cut_off(self) -> RefusedFile:
        return RefusedFile(
            f"this ONNX model is cut off: it goes on past the file's end at byte {self.size:,}; {FETCH_AGAIN}",
            rule="JN001",
            case="onnx-cut-off",
        )


def bad(fault: str, case: str) -> RefusedFile:
    """The refusal of a model that is not built as one must be: JN003."""
    return RefusedFile(f"this ONNX model {fault}; {WRITE_AGAIN}", rule="JN003", case=case)
