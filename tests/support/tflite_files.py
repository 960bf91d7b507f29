"""TensorFlow Lite models made on the spot: flatbuffers written from their specification, sound and hostile."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[2] / "fixtures" / "formats"
CONVERTED: dict[str, bytes] = {
    name: (FIXTURES / f"{name}.tflite").read_bytes() for name in ("float32", "float16", "int8_weights", "int8")
}
"""Models that TensorFlow's converter wrote, see `make_formats_b.py`."""

F32, F16, I32, STRING, I8, INT4, BF16, INT2 = 0, 1, 2, 5, 9, 17, 18, 19


@dataclass(frozen=True, slots=True)
class Number:
    """A field that stands in its table."""

    value: int
    width: int = 4


@dataclass(frozen=True, slots=True)
class Vector:
    """A field that is a vector: its elements' bytes and their width."""

    content: bytes
    width: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its fields by their number in the schema."""

    fields: Mapping[int, "Number | Vector | Table | Tables"]


@dataclass(frozen=True, slots=True)
class Tables:
    """A field that is a vector of tables."""

    tables: Sequence[Table]


def text(words: str) -> Vector:
    """A text, with the NUL behind it that is not counted."""
    return Vector(words.encode(), 1)


def flatbuffer(root: Table, *, identifier: bytes = b"TFL3") -> bytes:
    """The bytes of a flatbuffer; every part stands behind the one that leads to it."""
    out = bytearray(4) + identifier
    out[:4] = _put(out, root).to_bytes(4, "little")
    return bytes(out)


def _put(out: bytearray, part: "Table | Vector | Tables") -> int:
    out += bytes(-len(out) % 16)
    if isinstance(part, Table):
        return _put_table(out, part)
    at = len(out)
    if isinstance(part, Vector):
        out += (len(part.content) // part.width).to_bytes(4, "little") + part.content
        return at
    out += len(part.tables).to_bytes(4, "little") + bytes(4 * len(part.tables))
    for number, table in enumerate(part.tables):
        _lead(out, at + 4 + 4 * number, _put(out, table))
    return at


def _put_table(out: bytearray, table: Table) -> int:
    places, at = {}, 4
    for field, value in table.fields.items():
        width = value.width if isinstance(value, Number) else 4
        at += -at % width
        places[field] = at
        at += width
    start = len(out)
    out += (4 + 2 * (1 + max(places, default=-1))).to_bytes(2, "little") + at.to_bytes(2, "little")
    out += b"".join(places.get(field, 0).to_bytes(2, "little") for field in range(1 + max(places, default=-1)))
    out += bytes(-len(out) % 8)
    here = len(out)
    out += (here - start).to_bytes(4, "little") + bytes(at - 4)
    for field, value in table.fields.items():
        place = here + places[field]
        if isinstance(value, Number):
            out[place : place + value.width] = value.value.to_bytes(value.width, "little")
        else:
            _lead(out, place, _put(out, value))
    return here


def _lead(out: bytearray, place: int, target: int) -> None:
    out[place : place + 4] = (target - place).to_bytes(4, "little")


# ---- models


def tensor(
    name: str = "w", shape: Sequence[int] = (2, 2), kind: int = F32, buffer: int = 1, **more: "Number | Vector | Table"
) -> Table:
    """A tensor in a buffer. `more` are fields by name: quantization, sparsity, external_buffer."""
    numbers = {"quantization": 4, "sparsity": 6, "external_buffer": 10}
    return Table(
        {
            0: Vector(np.array(shape, "<i4").tobytes(), 4),
            1: Number(kind, 1),
            2: Number(buffer),
            3: text(name),
            **{numbers[field]: value for field, value in more.items()},
        }
    )


def quantization(scales: Sequence[float], zero_points: Sequence[int] = (), axis: int = 0, *, details: int = 0) -> Table:
    """Scales and zero points, one for all or one for each index of dimension `axis`."""
    return Table(
        {
            2: Vector(np.array(scales, "<f4").tobytes(), 4),
            3: Vector(np.array(zero_points, "<i8").tobytes(), 8),
            **({4: Number(details, 1)} if details else {}),
            6: Number(axis),
        }
    )


def buffer(content: bytes) -> Table:
    """A buffer with these bytes."""
    return Table({0: Vector(content, 1)} if content else {})


def model(tensors: Sequence[Table], buffers: Sequence[bytes | Table], *, more: Sequence[Sequence[Table]] = ()) -> bytes:
    """A model of these tensors, and of one more subgraph for each list in `more`; buffer 0 is the empty one."""
    tables = [buffer(each) if isinstance(each, bytes) else each for each in (b"", *buffers)]
    subgraphs = [Table({0: Tables(each)}) for each in (tensors, *more)]
    return flatbuffer(Table({0: Number(3), 2: Tables(subgraphs), 4: Tables(tables)}))


def bundle(*, method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """A `.task` bundle of these members; `__` in a name is a dot."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


SIXTEEN = np.arange(1, 5, dtype="<f4").tobytes()
"""The bytes of four float32 numbers, the usual buffer below."""

ONE = model([tensor()], [SIXTEEN])


def outside(offset: int, size: int) -> Table:
    """A buffer whose bytes stand behind the flatbuffer."""
    return Table({1: Number(offset, 8), 2: Number(size, 8)})


def with_data_behind(offset: int | None = None, size: int = 16) -> bytes:
    """A model whose one buffer is behind the flatbuffer."""
    length = len(model([tensor()], [outside(2, 16)]))
    return model([tensor()], [outside(length if offset is None else offset, size)]) + SIXTEEN


SOUND: dict[str, bytes] = {
    "one tensor": ONE,
    "data behind the flatbuffer": with_data_behind(),
    "two subgraphs and a shared buffer": model(
        [tensor("a"), tensor("b", buffer=2), tensor("computed", buffer=0)],
        [SIXTEEN, SIXTEEN, SIXTEEN],
        more=[[tensor("a", (4,)), tensor("c", buffer=3)]],
    ),
    "int4": model(
        [tensor("w", (3, 3), INT4, quantization=quantization((0.5, 1, 2), (1, 0, -1), 0))],
        [bytes((0x21, 0x43, 0x65, 0x87, 0x09))],
    ),
    "per channel of the last dimension": model(
        [tensor("w", (2, 3), I8, quantization=quantization((0.5, 1, 2), (1, 0, -1), 1))], [bytes(range(250, 256))]
    ),
    "text": model([tensor("w", (1,), STRING), tensor("v", buffer=2)], [b"text", SIXTEEN]),
}


# ---- hostile models


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that must be refused, and with what."""

    name: str
    content: bytes
    rule: str
    case: str


def _at(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def _number(value: int, width: int = 4) -> bytes:
    return value.to_bytes(width, "little")


_ROOT = int.from_bytes(ONE[:4], "little")
_SHAPE = ONE.index(_number(2) * 3)  # a count of 2, and twice a 2
_DATA = ONE.index(SIXTEEN) - 4


def _scaled(**options: object) -> bytes:
    return model([tensor("w", (2, 3), I8, quantization=quantization(**options))], [bytes(6)])


def _with_one_tensor_often(times: int) -> bytes:
    """A model with a list of tensors that all lead to one table, which stands in another field of the model."""
    content = bytearray(
        flatbuffer(
            Table(
                {
                    2: Tables([Table({0: Vector(b"LIST" * times, 4)})]),
                    4: Tables([buffer(b""), buffer(SIXTEEN)]),
                    6: tensor(),
                }
            )
        )
    )
    root = int.from_bytes(content[:4], "little")
    fields = root - int.from_bytes(content[root : root + 4], "little")
    place = root + int.from_bytes(content[fields + 16 : fields + 18], "little")  # of field 6
    target = place + int.from_bytes(content[place : place + 4], "little")
    first = content.index(b"LIST")
    for at in range(first, first + 4 * times, 4):
        content[at : at + 4] = _number(target - at)
    return bytes(content)


HOSTILE: tuple[Hostile, ...] = (
    Hostile("only an identifier", bytes(4) + b"TFL3", "JN003", "no-table"),
    Hostile("cut off", ONE[:-1], "JN001", "points-past-end"),
    Hostile("cut after the root", ONE[: _ROOT + 2], "JN001", "points-past-end"),
    Hostile("root past the end", _at(ONE, 0, _number(1 << 31)), "JN001", "points-past-end"),
    Hostile("root that is no table", _at(ONE, 0, _number(len(ONE) - 8)), "JN003", "no-table"),
    Hostile("fields before the beginning", _at(ONE, _ROOT, _number((1 << 31) - 1)), "JN003", "no-table"),
    Hostile("fields past the end", _at(ONE, _ROOT, _number(1 << 31)), "JN001", "points-past-end"),
    Hostile("buffer past the end", _at(ONE, _DATA, _number(1 << 31)), "JN001", "points-past-end"),
    Hostile("four billion dimensions", _at(ONE, _SHAPE, _number((1 << 32) - 1)), "JN001", "points-past-end"),
    Hostile("huge dimensions", _at(ONE, _SHAPE + 4, _number((1 << 31) - 1) * 2), "JN004", "size-mismatch"),
    Hostile("negative dimensions", _at(ONE, _SHAPE + 4, _number((1 << 32) - 2) * 2), "JN003", "bad-shape"),
    Hostile("too many dimensions", model([tensor(shape=(1,) * 65)], [bytes(4)]), "JN003", "bad-shape"),
    Hostile("no such buffer", model([tensor(buffer=9)], [SIXTEEN]), "JN003", "no-such-buffer"),
    Hostile("too few bytes", model([tensor()], [SIXTEEN[:12]]), "JN004", "size-mismatch"),
    Hostile("too many bytes", model([tensor()], [SIXTEEN + SIXTEEN]), "JN004", "size-mismatch"),
    Hostile("name that is not UTF-8", ONE.replace(b"\1\0\0\0w", b"\1\0\0\0\xff"), "JN003", "name-not-utf8"),
    Hostile("data behind, past the end", with_data_behind(size=1 << 40), "JN001", "points-past-end"),
    Hostile("data behind, past all files", with_data_behind((1 << 64) - 16), "JN001", "points-past-end"),
    Hostile(
        "buffers that overlap",
        model([tensor("a"), tensor("b", buffer=2)], [outside(16, 16), outside(24, 16)]),
        "JN004",
        "overlap",
    ),
    Hostile("one buffer of two types", model([tensor("a", kind=I32), tensor("b")], [SIXTEEN]), "JN004", "overlap"),
    Hostile("more scales than channels", _scaled(scales=(1.0,) * 4), "JN004", "scales-mismatch"),
    Hostile("scales of no dimension", _scaled(scales=(1.0, 1.0), axis=7), "JN004", "scales-mismatch"),
    Hostile(
        "two zero points for three", _scaled(scales=(1.0,) * 3, zero_points=(0, 0), axis=1), "JN004", "scales-mismatch"
    ),
    Hostile(
        "one tensor under five thousand names",
        _with_one_tensor_often(5000),
        "JN004",
        "structure-in-circles",
    ),
)

TASK_HOSTILE: tuple[Hostile, ...] = (
    Hostile("deflated", bundle(method=zipfile.ZIP_DEFLATED, a__tflite=ONE), "JN009", "task-deflated-model"),
    Hostile("without a model", bundle(a__txt=b"words"), "JN002", "task-without-model"),
    Hostile("two models as one", bundle(a__tflite=ONE, a=ONE), "JN009", "task-two-models"),
    Hostile("a broken model", bundle(a__tflite=ONE[:-1]), "JN001", "points-past-end"),
    Hostile("cut off", bundle(a__tflite=ONE)[:-4], "JN001", "zip-no-end-record"),
    Hostile("a broken bundle in it", bundle(a__task=bundle(b__tflite=ONE)[:-4]), "JN001", "zip-no-end-record"),
)
