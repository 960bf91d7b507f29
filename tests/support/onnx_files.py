"""ONNX models made on the spot, by a few lines of protobuf: sound ones, and one for each way of being wrong."""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import BinaryIO

from tests.support.fuzzing import FileInMemory

FLOAT, INT8, INT64, STRING, FLOAT16, DOUBLE, BFLOAT16, INT4 = 1, 3, 7, 8, 10, 11, 16, 22
EIGHT = bytes(range(8))
"""The bytes of two float32 numbers, the usual content below."""

Value = int | float | bytes | str | list[int]


def varint(number: int) -> bytes:
    """A number of up to 64 bits as protobuf writes it; a negative one as its two's complement."""
    number %= 1 << 64
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def field(number: int, value: Value) -> bytes:
    """A field: an int as a varint, a float as four bytes, a list of ints packed, text and bytes as they are."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, list):
        value = b"".join(map(varint, value))
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(
    name: str = "w", *, dims: tuple[int, ...] = (2,), code: int = FLOAT, raw: bytes | None = EIGHT, more: bytes = b""
) -> bytes:
    """A TensorProto."""
    content = b"".join(field(1, size) for size in dims) + field(2, code) + field(8, name)
    return content + (b"" if raw is None else field(9, raw)) + more


def external(name: str = "w", **entries: str) -> bytes:
    """A TensorProto of two float32 numbers in another file."""
    told = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries.items())
    return tensor(name, raw=None, more=told + field(14, 1))


def graph(*initializers: bytes, more: bytes = b"") -> bytes:
    """A GraphProto."""
    return more + field(2, "g") + b"".join(field(5, each) for each in initializers)


def node(operator: str, *attributes: bytes, output: str = "o", name: str = "") -> bytes:
    """A NodeProto."""
    named = field(3, name) if name else b""
    return field(2, output) + named + field(4, operator) + b"".join(field(5, each) for each in attributes)


def model(*initializers: bytes, more: bytes = b"") -> bytes:
    """A ModelProto with these initializers in its graph; `more` stands in the graph too."""
    return wrapped(graph(*initializers, more=more))


def wrapped(content: bytes, more: bytes = b"") -> bytes:
    """A ModelProto around a graph."""
    return field(1, 10) + field(2, "tests") + field(7, content) + field(8, field(2, 21)) + more


def nested(depth: int, *, name: str = "") -> bytes:
    """A model with so many graphs inside one another, in nodes of this name."""
    inner = graph(tensor())
    for _ in range(depth - 1):
        inner = graph(more=field(1, node("If", field(1, "then_branch") + field(6, inner), name=name)))
    return wrapped(inner)


@dataclass(frozen=True, slots=True)
class Hostile:
    """A model that must be refused, wholly or for one tensor, and with which rule and case."""

    name: str
    content: bytes
    rule: str
    case: str


def _bent(name: str, content: bytes, case: str) -> Hostile:
    return Hostile(name, content, "JN003", case)


def _misplaced(name: str, content: bytes, case: str) -> Hostile:
    return Hostile(name, content, "JN004", case)


def _outside(name: str, location: str) -> Hostile:
    return _misplaced(name, model(external(location=location)), "onnx-unsafe-location")


FUNCTION_OF_A_LONG_NAME = field(25, field(1, "f" * 1000) + field(7, node("Constant", field(5, tensor()))))
SPLIT = tensor(raw=None, more=field(4, EIGHT[:4]) + field(4, EIGHT[4:]))

HOSTILE: tuple[Hostile, ...] = (
    Hostile("cut off in the graph", model(tensor())[:-12], "JN001", "onnx-cut-off"),
    Hostile("a length of 2^63", wrapped(graph())[:-3] + varint(7 << 3 | 2) + varint(1 << 63), "JN001", "onnx-cut-off"),
    _bent("no graph", field(1, 10) + field(2, "tests"), "onnx-no-graph"),
    _bent("a number that does not end", field(1, 10) + b"\x38" + b"\xff" * 11, "onnx-varint"),
    _bent("a group", model() + varint(50 << 3 | 3), "onnx-field-form"),
    _bent("field number 0", model() + b"\x02\x00", "onnx-field-number"),
    _bent("a graph that is a number", field(1, 10) + field(7, 5), "onnx-field-form"),
    _bent("a tensor that reaches out of its graph", wrapped(b"\x2a\x7f" + tensor()), "onnx-field-outside"),
    _bent("a name that is not UTF-8", model(field(8, b"\xff") + tensor(raw=None)), "onnx-repeated-field"),
    _bent(
        "text that is not UTF-8",
        model(field(1, 2) + field(2, FLOAT) + field(8, b"\xff") + field(9, EIGHT)),
        "onnx-text",
    ),
    _bent("a name of a mebibyte", model(tensor("w" * (1 << 20))), "onnx-text"),
    _bent("a name of 1,001 characters", model(tensor("w" * 1001)), "onnx-name-too-long"),
    _bent("a way of 1,100 characters", nested(3, name="n" * 500), "onnx-name-too-long"),
    _bent("a function of a long name", wrapped(graph(), FUNCTION_OF_A_LONG_NAME), "onnx-name-too-long"),
    _bent("two raw_data", model(tensor(more=field(9, EIGHT))), "onnx-repeated-field"),
    _bent("two tensors of one name", model(tensor(), tensor()), "onnx-duplicate-name"),
    _bent("two graphs with one name in them", model(tensor()) + field(7, graph(tensor())), "onnx-duplicate-name"),
    _bent("65 dimensions", model(tensor(dims=(1,) * 65)), "onnx-shape"),
    _bent("a million packed dimensions", model(field(1, [1] * 1_000_000) + tensor(dims=())), "onnx-shape"),
    _bent("a negative dimension", model(tensor(dims=(-2,))), "onnx-shape"),
    _bent("33 graphs in one another", nested(33), "onnx-too-deep"),
    _bent("200,000 outputs", wrapped(graph(more=field(1, field(2, "") * 200_000))), "onnx-too-many-fields"),
    _bent("an entry twice", model(external(location="a") + field(13, field(1, "location"))), "onnx-repeated-field"),
    _misplaced("too few bytes", model(tensor(dims=(3,))), "onnx-size-mismatch"),
    _misplaced("too many bytes", model(tensor(dims=(1,))), "onnx-size-mismatch"),
    _misplaced("a product beyond 64 bits", model(tensor(dims=(1 << 62, 1 << 62))), "onnx-size-mismatch"),
    _misplaced("no numbers", model(tensor(raw=None)), "onnx-no-content"),
    _misplaced("numbers in two fields", model(tensor(more=field(4, EIGHT))), "onnx-two-contents"),
    _misplaced("numbers in two pieces", model(SPLIT), "onnx-two-contents"),
    _misplaced("float32 among the int64", model(tensor(raw=None, more=field(7, [1, 2]))), "onnx-other-field"),
    _misplaced("too few varints", model(tensor(code=INT64, raw=None, more=field(7, [1]))), "onnx-size-mismatch"),
    _bent("an endless varint", model(tensor(code=INT64, raw=None, more=field(7, b"\xff" * 30))), "onnx-varint"),
    _misplaced("here and elsewhere", model(external(location="a") + field(9, EIGHT)), "onnx-two-contents"),
    _outside("an absolute path", "/etc/passwd"),
    _outside("the folder above", "../weights.data"),
    _outside("above by a detour", "a/../../weights.data"),
    _outside("a Windows drive", "C:weights.data"),
    _outside("a Windows path", "a\\weights.data"),
    _outside("a share", "\\\\server\\share"),
    _outside("a URL", "https://example.com/weights.data"),
    _outside("a NUL byte", "weights.data\0.txt"),
    _outside("no name", ""),
    _outside("the folder itself", "."),
    _outside("a name of 300 bytes", "w" * 300),
    Hostile("a file that is missing", model(external(location="absent.data")), "JN005", "onnx-missing-file"),
    _misplaced("past the end", model(external(location="weights.data", offset="1")), "onnx-external-outside"),
    _misplaced(
        "an offset of 2^63", model(external(location="weights.data", offset=str(1 << 63))), "onnx-external-outside"
    ),
    _misplaced("a negative offset", model(external(location="weights.data", offset="-8")), "onnx-external-number"),
    _misplaced("a hexadecimal length", model(external(location="weights.data", length="0x8")), "onnx-external-number"),
    _misplaced("another length", model(external(location="weights.data", length="4")), "onnx-size-mismatch"),
)
"""Each is read beside a `weights.data` of eight bytes."""

CORPUS: tuple[bytes, ...] = (
    model(tensor(), tensor("b", dims=(2, 1))),
    model(tensor(code=FLOAT16, dims=(3,), raw=None, more=field(5, [15360, 0xFFFF, 3]))),
    model(tensor(code=INT64, dims=(2,), raw=None, more=field(7, [-1, 1 << 40]))),
    model(tensor(raw=None, more=field(4, EIGHT)), tensor("d", code=DOUBLE, dims=(1,), raw=None, more=field(10, EIGHT))),
    model(external("a", location="weights.data", offset="0", length="8"), external("b", location="weights.data")),
    model(more=field(1, node("Constant", field(1, "value") + field(5, tensor())))),
    model(more=field(15, field(1, tensor("s")) + field(2, tensor("i", code=INT64, dims=(1,))) + field(3, [9]))),
    wrapped(graph(tensor()), field(25, field(1, "f") + field(7, node("Constant", field(5, tensor()))))),
    nested(3),
)


@dataclass(frozen=True, slots=True)
class FolderInMemory:
    """A folder of a model and its weights.data, and nothing else; and each of these two."""

    content: bytes
    path: PurePosixPath

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> "FolderInMemory":
        return FolderInMemory(self.content, self.path.parent)

    def __truediv__(self, name: str) -> "FolderInMemory":
        return FolderInMemory(self.content, self.path / name)

    def is_folder(self) -> bool:
        return self.path.name not in {"model.onnx", "weights.data"}

    def is_absent(self) -> bool:
        return self.is_folder()

    def names(self) -> Mapping[str, bool]:
        return {"model.onnx": False, "weights.data": False}

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, int]]:
        yield BytesIO(self.content), len(self.content)

    @property
    def is_streamed(self) -> bool:
        """It is here already."""
        return False

    def stored(self) -> None:
        """Nowhere."""

    def source(self) -> FileInMemory:
        return FileInMemory(self.content)

    def identity(self) -> str:
        return str(self.path)
