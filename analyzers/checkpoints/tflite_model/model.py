"""A TensorFlow Lite model -> its constant tensors.

Source: `tensorflow/compiler/mlir/lite/schema/schema.fbs` at 2.21; fields are numbered in its order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from math import prod
from typing import BinaryIO, NamedTuple

from jaynes_audit.analyzers.checkpoints.content import Content
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.checkpoints.tflite_model.flatbuffer import Table, root_table
from jaynes_audit.analyzers.checkpoints.tflite_model.quantised import Codes, Quantised
from jaynes_audit.analyzers.dtypes import BITS, Dtype

IDENTIFIER = b"TFL3"
LARGEST_RANK = 64  # dimensions that NumPy can hold
LONGEST_NAME = 1024  # bytes; the converter joins the names of what it merged, and they are cut there


class ModelField(IntEnum):
    """Fields of the root table."""

    SUBGRAPHS = 2
    BUFFERS = 4


class SubgraphField(IntEnum):
    """Fields of a subgraph."""

    TENSORS = 0


class TensorField(IntEnum):
    """Fields of a tensor."""

    SHAPE = 0
    TYPE = 1
    BUFFER = 2
    NAME = 3
    QUANTIZATION = 4
    SPARSITY = 6
    EXTERNAL_BUFFER = 10


class BufferField(IntEnum):
    """Fields of a buffer: its bytes, or where they are when they stand behind the flatbuffer."""

    DATA = 0
    OFFSET = 1
    SIZE = 2


class QuantizationField(IntEnum):
    """Fields of a quantisation."""

    SCALE = 2
    ZERO_POINT = 3
    DETAILS_TYPE = 4
    DIMENSION = 6


DTYPES: Mapping[int, Dtype] = {
    0: Dtype.F32,
    1: Dtype.F16,
    2: Dtype.I32,
    3: Dtype.U8,
    4: Dtype.I64,
    6: Dtype.BOOL,
    7: Dtype.I16,
    8: Dtype.C64,
    9: Dtype.I8,
    10: Dtype.F64,
    11: Dtype.C128,
    12: Dtype.U64,
    15: Dtype.U32,
    16: Dtype.U16,
    18: Dtype.BF16,
}
"""The element types that are numbers of whole bytes."""

PACKED_BITS: Mapping[int, int] = {17: 4, 19: 2, 20: 4}
"""INT4, INT2 and UINT4, each with the bits of an element."""

NO_NUMBERS = frozenset({5, 13, 14})
"""Text, resources and variants."""

CODES: Mapping[int, Codes] = {
    2: Codes(label="INT32", bits=32, signed=True),
    3: Codes(label="UINT8", bits=8, signed=False),
    4: Codes(label="INT64", bits=64, signed=True),
    7: Codes(label="INT16", bits=16, signed=True),
    9: Codes(label="INT8", bits=8, signed=True),
    17: Codes(label="INT4", bits=4, signed=True),
}
"""The element types that may be a quantiser's codes."""


def looks_like_tflite(head: bytes, size: int) -> bool:
    """Whether the first bytes are those of a TensorFlow Lite model."""
    return head[4:8] == IDENTIFIER and int.from_bytes(head[:4], "little") < size


def read_tflite(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The constant tensors of a model, those of all its subgraphs together; `/` in names becomes a dot.

    Quantised ones are read as the float32 numbers that their codes stand for. Tensors of one buffer are one tensor and
    its aliases. What has no buffer is computed when the model runs, and is no weight.

    Raises:
        RefusedFile: JN001 when it is cut off, JN003 when its tables are broken, JN004 when a buffer has not the size
            that shape and dtype ask for, or overlaps another.
    """
    return read_model(Content(stream, kind="TensorFlow Lite", start=0, size=size), file)


def read_model(content: Content, file: Place) -> WeightFile:
    """The constant tensors of a model that is the whole content; see `read_tflite`."""
    root = root_table(content)
    buffers = [_buffer(content, table) for table in root.tables(ModelField.BUFFERS)]
    found = _Found()
    subgraphs = list(root.tables(ModelField.SUBGRAPHS))
    for number, subgraph in enumerate(subgraphs):
        prefix = f"subgraph_{number}." if number else ""
        for table in subgraph.tables(SubgraphField.TENSORS):
            _add(content, found, _Stored(table, prefix, buffers, file))
    _refuse_overlaps(content, found.tensors)
    return WeightFile(
        file=file,
        tensors=tuple(found.tensors),
        aliases=found.aliases,
        undecoded=found.undecoded,
        remarks=tuple(_remarks(found)),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What has been found so far."""

    tensors: list[Tensor] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    undecoded: dict[str, str] = field(default_factory=dict)
    first_at: dict[tuple["_Span", int], str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)  # that a name has been met, or numbered
    passed: list[str] = field(default_factory=list)


def _remarks(found: _Found) -> Iterator[str]:
    if found.passed:
        yield f"{len(found.passed):,} constants that are text or resources were passed over: {listed(found.passed)}"


class _Span(NamedTuple):
    """Bytes `start` to `end` of the content."""

    start: int
    end: int


class _Stored(NamedTuple):
    """A tensor's table, what goes before its name, and the buffers that it may be in."""

    table: Table
    prefix: str
    buffers: list[_Span]
    file: Place


def _buffer(content: Content, table: Table) -> _Span:
    start, length = table.vector(BufferField.DATA, 1)
    offset = table.number(BufferField.OFFSET, 8)
    if offset > 1 and not length:  # 0 and 1 stand for none while a model is being written
        start, length = offset, table.number(BufferField.SIZE, 8)
        content.check(start, length)
    return _Span(start, start + length)


def _add(content: Content, found: _Found, stored: _Stored) -> None:
    """Add a tensor, if it is a constant, to what was found."""
    table = stored.table
    index = table.number(TensorField.BUFFER, 4)
    if index >= max(1, len(stored.buffers)):
        raise content.bad(f"has a tensor in buffer {index:,} of {len(stored.buffers):,}", case="no-such-buffer")
    span = stored.buffers[index] if stored.buffers else _Span(0, 0)
    external = table.number(TensorField.EXTERNAL_BUFFER, 4)
    if span.start == span.end and not external:
        return
    name = _name(found, stored.prefix + _text(content, table))
    kind = table.number(TensorField.TYPE, 1)
    if kind in NO_NUMBERS:
        found.passed.append(name)
        return
    if external:
        found.undecoded[name] = "its weights are in another file, which is not opened for a name that this file gives"
        found.tensors.append(_raw(content, name, _Span(0, 0), stored.file))
        return
    if (span, kind) in found.first_at:
        found.aliases[name] = found.first_at[span, kind]
        return
    found.first_at[span, kind] = name  # of another type, it is another tensor in the same bytes, and so refused
    tensor = _tensor(content, name, span, stored)
    if isinstance(tensor, str):
        found.undecoded[name] = tensor
        tensor = _raw(content, name, span, stored.file)
    found.tensors.append(tensor)


def _text(content: Content, table: Table) -> str:
    start, length = table.vector(TensorField.NAME, 1)
    raw = content.at(start, min(length, LONGEST_NAME))
    try:
        return raw.decode(errors="ignore" if length > LONGEST_NAME else "strict").replace("/", ".")
    except UnicodeDecodeError:
        raise content.bad(f"has a tensor's name at byte {start:,} that is not UTF-8", case="name-not-utf8") from None


def _name(found: _Found, name: str) -> str:
    """The name, with a number behind it when another tensor has it already: the format allows that."""
    unique = name
    while unique in found.times:
        found.times[name] += 1
        unique = f"{name}#{found.times[name]}"
    found.times[unique] = 1
    return unique


def _raw(content: Content, name: str, span: _Span, file: Place) -> Tensor:
    """A tensor that is not turned into numbers, as the bytes it is stored in."""
    start, end = content.start + span.start, content.start + span.end
    return Tensor(name=name, dtype=Dtype.U8, shape=(end - start,), file=file, start=start, end=end)


def _tensor(content: Content, name: str, span: _Span, stored: _Stored) -> Tensor | str:
    """The tensor in these bytes, or why it cannot be turned into numbers."""
    table = stored.table
    kind = table.number(TensorField.TYPE, 1)
    if table.offset(TensorField.SPARSITY):
        return "a sparse tensor, which is not read here"
    dtype, bits = DTYPES.get(kind), PACKED_BITS.get(kind, 0)
    if dtype:
        bits = BITS[dtype]
    if not bits:
        return f"elements of type {kind}, which TensorFlow Lite did not have when this version was written"
    shape = _shape(content, table)
    if (bits * prod(shape) + 7) // 8 != span.end - span.start:
        raise content.bad(
            f"stores {span.end - span.start:,} bytes for {quoted(name)}, whose shape and dtype ask for "
            f"{(bits * prod(shape) + 7) // 8:,}",
            rule="JN004",
            case="size-mismatch",
        )
    start, end = content.start + span.start, content.start + span.end
    quantised = _quantised(content, shape, start, stored) if kind in CODES else None
    if isinstance(quantised, Quantised):
        return Tensor(
            name=name, dtype=Dtype.F32, shape=shape, file=stored.file, start=start, end=end, decoder=quantised
        )
    if quantised or not dtype:
        return quantised or f"codes of {bits} bits without a scale that is understood here"
    return Tensor(name=name, dtype=dtype, shape=shape, file=stored.file, start=start, end=end)


def _shape(content: Content, table: Table) -> tuple[int, ...]:
    raw = table.elements(TensorField.SHAPE, 4)
    shape = tuple(int.from_bytes(raw[at : at + 4], "little", signed=True) for at in range(0, len(raw), 4))
    if len(shape) > LARGEST_RANK or any(length < 0 for length in shape):
        raise content.bad("has a tensor whose shape has a negative or too many dimensions", case="bad-shape")
    return shape


def _quantised(content: Content, shape: tuple[int, ...], start: int, stored: _Stored) -> Quantised | str | None:
    """How the codes are decoded, or why they cannot be; None where there is no scale, so they are whole numbers."""
    address = stored.table.offset(TensorField.QUANTIZATION)
    if not address:
        return None
    table = Table(content, address)
    if table.number(QuantizationField.DETAILS_TYPE, 1):
        return "codes with scales for blocks or of its maker's own kind, which are not read here"
    scales = table.elements(QuantizationField.SCALE, 4)
    count = len(scales) // 4
    if not count:
        return None
    zero_points = table.elements(QuantizationField.ZERO_POINT, 8) or bytes(8)
    if len(zero_points) == 8:  # noqa: PLR2004 - one for all
        zero_points *= count
    axis = table.number(QuantizationField.DIMENSION, 4)
    if len(zero_points) != 8 * count or (count > 1 and (axis >= len(shape) or shape[axis] != count)):
        raise content.bad(
            f"has {count:,} scales and {len(zero_points) // 8:,} zero points for a shape of {shape}",
            rule="JN004",
            case="scales-mismatch",
        )
    return Quantised(
        file=stored.file,
        start=start,
        shape=shape,
        codes=CODES[stored.table.number(TensorField.TYPE, 1)],
        axis=axis if count > 1 else 0,
        scales=scales,
        zero_points=zero_points,
    )


def _refuse_overlaps(content: Content, tensors: list[Tensor]) -> None:
    spans = sorted((each.start, each.end, each.name) for each in tensors if each.end > each.start)
    for (_, end, one), (start, _, other) in pairwise(spans):
        if start < end:
            raise content.bad(
                f"stores {quoted(one)} and {quoted(other)} in partly the same bytes", rule="JN004", case="overlap"
            )
