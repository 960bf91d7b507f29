"""One tensor of a model: from its message to where its numbers are."""

from collections.abc import Mapping
from enum import IntEnum
from itertools import islice
from math import prod
from typing import NamedTuple

from jaynes_audit.analyzers.checkpoints.onnx_model.external import Neighbours
from jaynes_audit.analyzers.checkpoints.onnx_model.varints import Varints, count_varints
from jaynes_audit.analyzers.checkpoints.onnx_model.wire import WRITE_AGAIN, Field, Form, Wire, bad
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import BITS, FLOATS, Dtype
from jaynes_audit.analyzers.errors import RefusedFile

LONGEST_TEXT = 10_000  # bytes, of a name or of what tells where external data are
LARGEST_RANK = 64  # NumPy's limit, and so the library's
LARGEST_DIMENSION = (1 << 63) - 1
MOST_ENTRIES = 16  # of external data; four are known
LARGEST_VARINTS = 64 << 20  # bytes; each chunk that is read of such a tensor costs a look at all before it
BITS_PER_BYTE = 8
RAW_AGAIN = "save the model again with its numbers in raw_data"


class In(IntEnum):
    """The fields of a TensorProto that are read, by number."""

    DIMS = 1
    DATA_TYPE = 2
    SEGMENT = 3
    FLOAT_DATA = 4
    INT32_DATA = 5
    STRING_DATA = 6
    INT64_DATA = 7
    NAME = 8
    RAW_DATA = 9
    DOUBLE_DATA = 10
    UINT64_DATA = 11
    EXTERNAL_DATA = 13
    DATA_LOCATION = 14


_FORMS: dict[int, frozenset[Form]] = {
    **dict.fromkeys((In.DATA_TYPE, In.DATA_LOCATION), frozenset({Form.VARINT})),
    **dict.fromkeys((In.DIMS, In.INT32_DATA, In.INT64_DATA, In.UINT64_DATA), frozenset({Form.VARINT, Form.DELIMITED})),
    **dict.fromkeys((In.SEGMENT, In.STRING_DATA, In.NAME, In.RAW_DATA, In.EXTERNAL_DATA), frozenset({Form.DELIMITED})),
    In.FLOAT_DATA: frozenset({Form.FOUR_BYTES, Form.DELIMITED}),
    In.DOUBLE_DATA: frozenset({Form.EIGHT_BYTES, Form.DELIMITED}),
}
KEY, VALUE = 1, 2  # the fields of a StringStringEntryProto
_ENTRY: dict[int, frozenset[Form]] = dict.fromkeys((KEY, VALUE), frozenset({Form.DELIMITED}))
_ONCE = frozenset({In.DATA_TYPE, In.NAME, In.RAW_DATA, In.DATA_LOCATION})
_CONTENTS = frozenset({In.FLOAT_DATA, In.INT32_DATA, In.INT64_DATA, In.RAW_DATA, In.DOUBLE_DATA, In.UINT64_DATA})
TOO_MANY_CONTENTS = 2  # a tensor has one; what comes after the second says nothing more
EXTERNAL = 1  # in TensorProto.DataLocation

DTYPES: dict[int, Dtype] = {
    1: Dtype.F32,
    2: Dtype.U8,
    3: Dtype.I8,
    4: Dtype.U16,
    5: Dtype.I16,
    6: Dtype.I32,
    7: Dtype.I64,
    9: Dtype.BOOL,
    10: Dtype.F16,
    11: Dtype.F64,
    12: Dtype.U32,
    13: Dtype.U64,
    14: Dtype.C64,
    15: Dtype.C128,
    16: Dtype.BF16,
    17: Dtype.F8_E4M3,
    18: Dtype.F8_E4M3FNUZ,
    19: Dtype.F8_E5M2,
    20: Dtype.F8_E5M2FNUZ,
    23: Dtype.F4,
    24: Dtype.F8_E8M0,
    27: Dtype.F6_E2M3,
    28: Dtype.F6_E3M2,
}
"""By the number in TensorProto.DataType."""

UNDECODED: dict[int, str] = {
    8: "it holds text",
    **dict.fromkeys((21, 22), "it holds whole numbers of 4 bits, the codes of a quantiser"),
    **dict.fromkeys((25, 26), "it holds whole numbers of 2 bits, the codes of a quantiser"),
}

_TYPED: dict[Dtype, In] = {
    **dict.fromkeys((Dtype.F32, Dtype.C64), In.FLOAT_DATA),
    **dict.fromkeys((Dtype.F64, Dtype.C128), In.DOUBLE_DATA),
    **dict.fromkeys((Dtype.U32, Dtype.U64), In.UINT64_DATA),
    Dtype.I64: In.INT64_DATA,
}
"""Which field holds numbers that are not raw; INT32_DATA for every other format."""


class Message(NamedTuple):
    """What a TensorProto says. `contents` are the fields that hold numbers, `external` tells where they are instead."""

    name: str
    code: int
    shape: tuple[int, ...]
    contents: tuple[Field, ...]
    external: Mapping[str, str]
    is_external: bool
    is_segment: bool

    @property
    def is_weight(self) -> bool:
        """Whether it holds several numbers of a format for weights."""
        return DTYPES.get(self.code) in FLOATS and prod(self.shape) > 1


def read_message(wire: Wire, at: Field) -> Message:
    """The TensorProto in a field.

    Raises:
        RefusedFile: JN003 when it is not built as one, JN001 when it is cut off.
    """
    once: dict[int, Field] = {}
    shape: list[int] = []
    contents: list[Field] = []
    external: dict[str, str] = {}
    for each in wire.fields(at.start, at.end, _FORMS):
        if each.number in _ONCE:
            if each.number in once:
                raise bad(f"has a tensor at byte {at.start:,} that tells the same thing twice", "onnx-repeated-field")
            once[each.number] = each
        if each.number in _CONTENTS and len(contents) < TOO_MANY_CONTENTS:
            contents.append(each)
        if each.number == In.DIMS:
            shape += [each.value] if each.form == Form.VARINT else _first_varints(wire, each)
        if each.number == In.EXTERNAL_DATA:
            _add_entry(external, wire, each)
        if len(shape) > LARGEST_RANK or max(shape, default=0) > LARGEST_DIMENSION:
            raise bad(f"has a tensor at byte {at.start:,} of a shape that no tensor has", "onnx-shape")
    return Message(
        name=wire.text(once[In.NAME], LONGEST_TEXT) if In.NAME in once else "",
        code=once[In.DATA_TYPE].value if In.DATA_TYPE in once else 0,
        shape=tuple(shape),
        contents=tuple(contents),
        external=external,
        is_external=In.DATA_LOCATION in once and once[In.DATA_LOCATION].value == EXTERNAL,
        is_segment=In.SEGMENT in once,
    )


def _first_varints(wire: Wire, at: Field) -> list[int]:
    return list(islice(wire.varints(at.start, at.end), LARGEST_RANK + 1))


def _add_entry(entries: dict[str, str], wire: Wire, at: Field) -> None:
    """Read one StringStringEntryProto."""
    parts = {each.number: wire.text(each, LONGEST_TEXT) for each in wire.fields(at.start, at.end, _ENTRY)}
    key = parts.get(KEY, "")
    if key in entries or len(entries) == MOST_ENTRIES:
        raise bad(f"tells {quoted(key)} of external data twice, or too much", "onnx-repeated-field")
    entries[key] = parts.get(VALUE, "")


def tensor_of(message: Message, name: str, wire: Wire, neighbours: Neighbours) -> Tensor | str:
    """The tensor that a message tells of, under this name; or the reason why it cannot be turned into numbers.

    Raises:
        RefusedFile: JN004 when there are not the bytes that its shape asks for, or more than one place of them, JN003
            when they are not in the field for its format; as `Neighbours.stretch` does for external data.
        CouldNotRead: as that does.
    """
    reason = _unreadable(message)
    if reason:
        return reason
    dtype = DTYPES[message.code]
    length = prod(message.shape) * BITS[dtype] // 8
    if message.is_external:
        if any(each.start < each.end for each in message.contents):
            raise _misplaced("has numbers both in the model and in another file", "onnx-two-contents")
        file, start, end = neighbours.stretch(message.external, length)
        return Tensor(name=name, dtype=dtype, shape=message.shape, file=file, start=start, end=end)
    if not message.contents and not length:
        return Tensor(name=name, dtype=dtype, shape=message.shape, file=neighbours.model, start=0, end=0)
    if len(message.contents) != 1:
        fault, case = ("several places", "onnx-two-contents") if message.contents else ("no place", "onnx-no-content")
        raise _misplaced(f"has its numbers in {fault}", case)
    content = message.contents[0]
    if content.number in {In.RAW_DATA, In.FLOAT_DATA, In.DOUBLE_DATA}:
        decoder, held, needed = None, content.end - content.start, length
    else:
        if content.end - content.start > LARGEST_VARINTS:
            return f"its numbers have varying lengths, and there are very many of them; {RAW_AGAIN}"
        decoder = Varints(file=neighbours.model, start=content.start, end=content.end, dtype=dtype)
        held, needed = count_varints(wire, content.start, content.end), prod(message.shape)
    if content.number not in {In.RAW_DATA, _TYPED.get(dtype, In.INT32_DATA)}:
        raise _misplaced("has its numbers in the field for those of another format", "onnx-other-field")
    if held != needed:
        unit = "numbers" if decoder else "bytes"
        raise _misplaced(f"needs {needed:,} {unit} for its shape and has {held:,}", "onnx-size-mismatch")
    return Tensor(
        name=name,
        dtype=dtype,
        shape=message.shape,
        file=neighbours.model,
        start=content.start,
        end=content.end,
        decoder=decoder,
    )


def _unreadable(message: Message) -> str:
    """Why the numbers of a tensor are not read, wherever they are; empty where they are."""
    if message.code not in DTYPES:
        return UNDECODED.get(message.code, f"its data type {message.code} is not known")
    bits = BITS[DTYPES[message.code]]
    if message.is_segment:
        return "it is only a segment of a tensor"
    if bits < BITS_PER_BYTE and any(each.number != In.RAW_DATA for each in message.contents):
        return f"its small numbers are not packed; {RAW_AGAIN}"
    if prod(message.shape) * bits % BITS_PER_BYTE:
        return "its numbers do not end with a whole byte"
    return ""


def _misplaced(fault: str, case: str) -> RefusedFile:
    return RefusedFile(f"it {fault}; {WRITE_AGAIN}", rule="JN004", case=case)
