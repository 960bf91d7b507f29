"""Flax's files made on the spot, by a few lines of MessagePack: sound ones, and one for each way of being wrong."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

EIGHT = bytes(range(8))
"""The bytes of two float32 numbers, the usual content below."""

CHUNKED = "__msgpack_chunked_array__"


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that stand in the file as they are."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Extension:
    """A value of an extension type."""

    kind: int
    content: bytes


Value = (
    Mapping[object, "Value"]
    | list["Value"]
    | tuple["Value", ...]
    | Raw
    | Extension
    | bytes
    | str
    | int
    | float
    | bool
    | None
)


def packed(value: Value) -> bytes:  # noqa: PLR0911 - one for each kind of value
    """A value as MessagePack, mostly in the form that has room for anything."""
    match value:
        case Raw(content=content):
            return content
        case Extension(kind=kind, content=content):
            return b"\xc9" + struct.pack(">IB", len(content), kind) + content
        case None | True | False:
            return {None: b"\xc0", True: b"\xc3", False: b"\xc2"}[value]
        case int():
            signed = value < 1 << 63
            return struct.pack(">Bq" if signed else ">BQ", 0xD3 if signed else 0xCF, value)
        case float():
            return struct.pack(">Bd", 0xCB, value)
        case bytes():
            return struct.pack(">BI", 0xC6, len(value)) + value
        case str():
            return struct.pack(">BI", 0xDB, len(value.encode())) + value.encode()
        case list() | tuple():
            return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(packed, value))
        case Mapping():
            inner = b"".join(packed(key) + packed(item) for key, item in value.items())
            return struct.pack(">BI", 0xDF, len(value)) + inner
        case _:  # a time
            return b"\xd6\xff" + bytes(4)


def array(shape: Value = (), dtype: Value = "float32", content: Value = EIGHT, *, kind: int = 1) -> Extension:
    """An array of two float32 numbers unless asked otherwise."""
    return Extension(kind, packed([list(shape) if isinstance(shape, tuple) else shape, dtype, content]))


W = array((2,))
CHUNKS: Mapping[object, Value] = {
    CHUNKED: True,
    "shape": {"0": 2, "1": 3},
    "chunks": {"0": array((4,), content=bytes(range(16))), "1": array((2,), content=bytes(range(16, 24)))},
}


def chunks(**changes: Value) -> bytes:
    """A file of one array in two chunks, with other entries."""
    return packed({"w": {**CHUNKS, **changes}})


def nested(depth: int) -> bytes:
    """A map in a map in a map, so often."""
    return b"\x81\xa1a" * depth + packed(W)


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that must be refused, and with which rule and case."""

    name: str
    content: bytes
    rule: str
    case: str


def _bent(name: str, content: Value, case: str) -> Hostile:
    return Hostile(name, packed(content), "JN003", case)


def _array(name: str, bent: Extension) -> Hostile:
    return _bent(name, {"w": bent}, "flax-array")


FOUR_BILLION = struct.pack(">I", (1 << 32) - 1)

HOSTILE: tuple[Hostile, ...] = (
    Hostile("cut off in an array", packed({"w": W})[:-1], "JN001", "flax-cut-off"),
    Hostile("a map of 4 billion entries", b"\xdf" + FOUR_BILLION + packed("w") + packed(W), "JN001", "flax-cut-off"),
    Hostile("a list of 4 billion", packed({"w": Raw(b"\xdd" + FOUR_BILLION)}), "JN001", "flax-cut-off"),
    Hostile("an extension of 4 GB", packed({"w": Raw(b"\xc9" + FOUR_BILLION + b"\1")}), "JN001", "flax-cut-off"),
    Hostile("text of 4 GB", packed({"w": Raw(b"\xdb" + FOUR_BILLION)}), "JN001", "flax-cut-off"),
    Hostile("a second value", packed({"w": W}) + packed({"v": W}), "JN001", "flax-trailing-bytes"),
    _bent("no map", [W], "flax-no-map"),
    _bent("a byte that begins nothing", {"w": Raw(b"\xc1")}, "flax-byte"),
    _bent("a key that is a number with a point", {1.5: W}, "flax-key"),
    _bent("a key that is a map", {Raw(b"\x80"): W}, "flax-key"),
    _bent("a key twice", {"w": W, Raw(packed("w")): W}, "flax-duplicate-key"),
    _bent("a key twice, once as a number", {"1": W, 1: W}, "flax-duplicate-key"),
    _bent("two arrays of one name", {"a": {"b": W}, "a.b": W}, "flax-duplicate-name"),
    _bent("a key that is not UTF-8", {Raw(b"\xa1\xff"): W}, "flax-not-utf8"),
    _bent("a key of a mebibyte", {"w" * (1 << 20): W}, "flax-text-too-long"),
    _bent("two keys that make a name of 1,201 characters", {"w" * 600: {"w" * 600: W}}, "flax-name-too-long"),
    _bent("keys of 1,201 characters that lead to no array", {"w" * 600: {"w" * 600: None}}, "flax-name-too-long"),
    Hostile("1,000 maps in one another", nested(1000), "JN003", "flax-too-deep"),
    _bent("300,000 values", {"a": [None] * 300_000}, "flax-too-many-values"),
    _array("a shape that is a number", array(2)),
    _array("65 dimensions", array((1,) * 65)),
    _array("a dimension with a point", array((2.0,))),
    _array("two parts", Extension(1, packed([[2], "float32"]))),
    _array("text for bytes", array((2,), content="12345678")),
    _array("bytes that end before the array", Extension(1, W.content + b"\0")),
    _array("bytes that end after the array", Extension(1, W.content[:-1])),
    _array("a dtype that is a number", array((2,), 4)),
    _bent("a negative dimension", {"w": array((-2,))}, "flax-shape"),
    _bent("a dimension of 2^63", {"w": array((Raw(b"\xcf\x80" + bytes(7)),))}, "flax-shape"),
    _bent("a dtype that is not UTF-8", {"w": array((2,), b"\xff")}, "flax-not-utf8"),
    _bent("a dtype of 200 bytes", {"w": array((2,), "f" * 200)}, "flax-text-too-long"),
    Hostile("too few bytes", packed({"w": array((3,))}), "JN004", "flax-size-mismatch"),
    Hostile("too many bytes", packed({"w": array((1,))}), "JN004", "flax-size-mismatch"),
    Hostile("2^120 elements", packed({"w": array((1 << 60, 1 << 60))}), "JN004", "flax-size-mismatch"),
    Hostile("no chunk", chunks(chunks={}), "JN003", "flax-chunks"),
    Hostile("no shape", chunks(shape=None), "JN003", "flax-chunks"),
    Hostile("a missing chunk", chunks(chunks={"0": W, "2": W}), "JN003", "flax-chunks"),
    Hostile("a chunk that is no array", chunks(chunks={"0": W, "1": 5}), "JN003", "flax-chunks"),
    Hostile("chunks of two dtypes", chunks(chunks={"0": W, "1": array((2,), "int32")}), "JN003", "flax-chunks"),
    Hostile("a shape of 65 dimensions", chunks(shape={str(axis): 1 for axis in range(65)}), "JN003", "flax-shape"),
    Hostile("too few chunks", chunks(chunks={"0": W}), "JN004", "flax-size-mismatch"),
    Hostile(
        "chunks that cut a number",
        chunks(shape={"0": 2}, chunks={"0": array((1,), content=EIGHT[:3]), "1": array((1,), content=EIGHT[3:])}),
        "JN003",
        "flax-chunks",
    ),
)

CORPUS: tuple[bytes, ...] = (
    packed({"w": W, "b": array((2,), "bfloat16", EIGHT[:4])}),
    packed({"params": {"dense": {"kernel": array((2, 1)), "bias": array((), content=EIGHT[:4], kind=3)}}, "step": 3}),
    packed({"params": {"w": W}, "opt_state": {"0": {"mu": {"w": W}, "count": 7, "rate": 0.1, "none": None}}}),
    packed({"w": array((8,), "int4"), "z": Extension(2, packed([1.0, 2.0])), "list": [W, True, b"bytes"]}),
    chunks(),
    nested(5),
)
