"""Safetensors files made on the spot: sound ones, and at least one for each of 58 ways of being wrong."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EIGHT = bytes(range(8))
"""The bytes of one F32 tensor of two elements, the usual content below."""


def safetensors(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this header (bytes as they are, anything else as JSON), these data bytes and this header length."""
    raw = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(
    dtype: object = "F32", shape: object = (2,), data_offsets: object = (0, 8), **more: object
) -> dict[str, object]:
    """What a header says of one tensor; sound unless asked otherwise."""
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets, **more}


def tensors(*names: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """A sound file with an F32 tensor of two elements under each name, the first filled with 0x00, the next 0x01 …"""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    for position, name in enumerate(names):
        header[name] = entry(data_offsets=[8 * position, 8 * position + 8])
    return safetensors(header, b"".join(bytes([position % 256]) * 8 for position in range(len(names))))


def write(path: Path, content: bytes | object) -> Path:
    """A file of this content (bytes as they are, anything else as JSON), with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def write_sharded(folder: Path, shards: Sequence[Sequence[str]], *, base: str = "model", index: bool = True) -> Path:
    """A checkpoint in several shards, each with tensors of these names, and its index."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        shard = f"{base}-{number:05d}-of-{len(shards):05d}.safetensors"
        write(folder / shard, tensors(*names))
        weight_map.update(dict.fromkeys(names, shard))
    if index:
        total_size = 8 * len(weight_map)
        write(
            folder / f"{base}.safetensors.index.json",
            {"metadata": {"total_size": total_size}, "weight_map": weight_map},
        )
    return folder


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that must be refused, the number of its kind (1 to 58), and what the refusal must say.

    `stricter` marks the kinds that safetensors 0.8.0 lets pass although the format forbids them or NumPy cannot hold
    them.
    """

    number: int
    name: str
    content: bytes
    rule: str
    case: str
    mentions: tuple[str, ...] = ()
    stricter: bool = False


def _json(
    number: int, name: str, header: bytes, case: str, *mentions: str, data: bytes = EIGHT, stricter: bool = False
) -> Hostile:
    return Hostile(number, name, safetensors(header, data), "JN003", case, mentions, stricter)


def _entry(
    number: int, name: str, one: object, case: str, *mentions: str, data: bytes = EIGHT, stricter: bool = False
) -> Hostile:
    return Hostile(number, name, safetensors({"bad.one": one}, data), "JN003", case, ("'bad.one'", *mentions), stricter)


def _layout(number: int, name: str, content: bytes, rule: str, case: str, *mentions: str) -> Hostile:
    return Hostile(number, name, content, rule, case, mentions)


ENTRY = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
OTHER_ENTRY = b'{"dtype":"I32","shape":[2],"data_offsets":[0,8]}'
ABSOLUTE = safetensors({"a": entry(data_offsets=[64, 72])}, EIGHT)
assert struct.unpack("<Q", ABSOLUTE[:8]) == (56,)  # so the data begin at byte 64, where the offset points

FOREIGN: tuple[Hostile, ...] = tuple(
    Hostile(number, name, content, "JN002", case, mentions)
    for number, name, content, case, mentions in (
        (1, "empty file", b"", "empty-file", ("empty", "again")),
        (
            3,
            "git-lfs pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "git-lfs-pointer",
            ("git lfs pull",),
        ),
        (4, "HTML error page", b"\n<!DOCTYPE html><html></html>", "html-page", ("HTML", "fetch")),
        (4, "XML error page", b'<?xml version="1.0"?><Error/>', "xml-page", ("XML",)),
        (4, "JSON error page", b'{"error":"Repository not found"}', "json-text", ("JSON", "Repository not found")),
        (4, "text error page", b"Entry not found", "plain-text", ("Entry not found",)),
        (5, "zip renamed", b"PK\x03\x04" + bytes(60), "zip-archive", ("zip",)),
        (6, "gzip renamed", b"\x1f\x8b\x08\0" + bytes([1] * 40), "gzip", ("gzip", "unpack")),
        (6, "zstd renamed", b"\x28\xb5\x2f\xfd" + bytes([1] * 40), "zstd", ("zstd", "unpack")),
        (6, "xz renamed", b"\xfd7zXZ\0" + bytes([1] * 40), "xz", ("xz", "unpack")),
        (6, "bzip2 renamed", b"BZh91AY&SY" + bytes([200] * 40), "bzip2", ("bzip2", "unpack")),
        (6, "tar renamed", b"model".ljust(257, b"\0") + b"ustar\0" + bytes(249), "tar", ("tar",)),
        (6, "unknown bytes", bytes(range(200, 240)), "unknown-bytes", ("c8 c9 ca cb",)),
    )
)

LENGTHS: tuple[Hostile, ...] = (
    _layout(2, "7 bytes", b"\1\0\0\0\0\0\0", "JN001", "shorter-than-length-field", "7 bytes", "again"),
    _layout(7, "header length 0", bytes(16), "JN003", "header-too-short", "is 0"),
    _layout(7, "header length 1", safetensors(b"{", EIGHT), "JN003", "header-too-short", "is 1"),
    _layout(
        8, "header longer than the file", safetensors(b"{}", length=1000), "JN001", "header-past-end", "1,000", "10"
    ),
    _layout(
        9, "header of 100,000,001", safetensors(b"{}", length=100_000_001), "JN003", "header-too-large", "100,000,001"
    ),
    _layout(10, "header of 2^63", safetensors(b"{}", length=1 << 63), "JN003", "header-length-impossible", "9,223,372"),
    _layout(
        10, "header of 2^64-1", safetensors(b"{}", length=(1 << 64) - 1), "JN003", "header-length-impossible", "551,615"
    ),
    _layout(11, "big-endian length", struct.pack(">Q", 2) + b"{}", "JN003", "header-length-big-endian", "big-endian"),
)

JSON_TEXT: tuple[Hostile, ...] = (
    _json(12, "not UTF-8", b'{"\xff":' + ENTRY + b"}", "header-not-utf8", "byte 2", "0xff"),
    _json(13, "byte order mark", b"\xef\xbb\xbf{}", "header-byte-order-mark", "byte order mark", data=b""),
    _json(14, "leading space", b' {"a":' + ENTRY + b"}", "header-leading-space", "' '", stricter=True),
    _json(14, "leading newline", b'\n{"a":' + ENTRY + b"}", "header-leading-space", r"'\n'", stricter=True),
    _json(15, "a list", b"[]", "header-not-object", "JSON list", data=b""),
    _json(15, "a number", b"42", "header-no-brace", "0x34", data=b""),
    _json(16, "cut off", b'{"a":', "json-cut-off", "ends in the middle"),
    _json(16, "cut off in a string", b'{"abc', "json-cut-off", "ends in the middle"),
    _json(16, "single quotes", b"{'a':1}", "json-single-quotes", "single quotes"),
    _json(16, "trailing comma", b'{"a":' + ENTRY + b",}", "json-trailing-comma", "comma"),
    _json(16, "comment", b"{/*x*/}", "json-comment", "comment", data=b""),
    _json(16, "no colon", b'{"a" 1}', "json-broken", "1}", data=b""),
    _json(17, "second JSON value", b"{}{}", "second-json-value", "'{}'", data=b""),
    _json(18, "NUL padding", b"{}\0\0\0", "nul-padding", "NUL", data=b""),
    _json(19, "tab and newline padding", b"{}\n\t ", "whitespace-padding", "tabs", data=b"", stricter=True),
    _json(
        20,
        "duplicate tensor",
        b'{"a":' + ENTRY + b',"a":' + OTHER_ENTRY + b"}",
        "duplicate-tensor",
        "'a'",
        stricter=True,
    ),
    _json(
        20,
        "duplicate tensor, both spelt in ASCII",
        b'{"\\u00fc":' + ENTRY + b',"\\u00fc":' + OTHER_ENTRY + b"}",
        "duplicate-tensor",
        "'\u00fc'",
        stricter=True,
    ),
    _json(
        21,
        "duplicate tensor by escape",
        b'{"a":' + ENTRY + b',"\\u0061":' + OTHER_ENTRY + b"}",
        "duplicate-tensor-escaped",
        "'a'",
        "escape",
        stricter=True,
    ),
    _json(22, "duplicate field", b'{"a":{"dtype":"F32",' + ENTRY[1:] + b"}", "duplicate-field", "'a'", "'dtype'"),
    _json(
        23,
        "duplicate metadata",
        b'{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"}}',
        "duplicate-metadata",
        "__metadata__",
        data=b"",
    ),
    _json(
        23,
        "duplicate key in metadata",
        b'{"__metadata__":{"a":"b","a":"c"}}',
        "duplicate-metadata-key",
        "'a'",
        data=b"",
        stricter=True,
    ),
    _json(24, "lone surrogate", b'{"\\ud800":' + ENTRY + b"}", "lone-surrogate", r"\ud800"),
    _json(24, "lone surrogate in metadata", b'{"__metadata__":{"a":"\\udc00"}}', "lone-surrogate", r"\udc00", data=b""),
    _json(25, "raw control character", b'{"a\nb":' + ENTRY + b"}", "control-character", r"'\n'", "character 3"),
    _json(26, "nesting bomb", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nesting-too-deep", "attack"),
    _json(27, "NaN dimension", b'{"a":' + ENTRY.replace(b"[2]", b"[NaN]") + b"}", "dimension-not-finite", "'a'", "NaN"),
    _json(
        27,
        "Infinity offset",
        b'{"a":' + ENTRY.replace(b",8]", b",Infinity]") + b"}",
        "offset-not-finite",
        "'a'",
        "Infinity",
        "end offset",
    ),
    _json(28, "leading zero", b'{"a":' + ENTRY.replace(b"[2]", b"[02]") + b"}", "leading-zero", "leading zero"),
    _json(
        28,
        "5000-digit integer",
        b'{"a":' + ENTRY.replace(b"[2]", b"[" + b"9" * 5000 + b"]") + b"}",
        "dimension-too-many-digits",
        "9999…",
    ),
)

METADATA: tuple[Hostile, ...] = tuple(
    Hostile(number, name, safetensors({"__metadata__": value}), "JN003", case, ("__metadata__", mention))
    for number, name, value, case, mention in (
        (29, "metadata is a string", "x", "metadata-not-object", "a string"),
        (29, "metadata is a list", [], "metadata-not-object", "a list"),
        (30, "metadata value is a number", {"a": 1}, "metadata-value-not-string", "'a'"),
        (30, "metadata value is null", {"a": None}, "metadata-value-not-string", "null"),
        (31, "metadata is nested", {"a": {"b": "c"}}, "metadata-nested", "'a'"),
    )
)

ENTRIES: tuple[Hostile, ...] = (
    _entry(32, "tensor is a number", 1, "not-an-object", "a number"),
    _entry(32, "tensor is a list", ["F32", [2], [0, 8]], "not-an-object", "a list", stricter=True),
    _entry(33, "no dtype", {"shape": [2], "data_offsets": [0, 8]}, "missing-dtype", "dtype"),
    _entry(34, "no shape", {"dtype": "F32", "data_offsets": [0, 8]}, "missing-shape", "shape"),
    _entry(35, "no data_offsets", {"dtype": "F32", "shape": [2]}, "missing-data_offsets", "data_offsets"),
    _entry(36, "unknown field", entry(strides=[1]), "unknown-field", "'strides'", stricter=True),
    _entry(37, "unknown dtype", entry("F33"), "unknown-dtype", "'F33'"),
    _entry(37, "lower-case dtype", entry("f32"), "dtype-spelling", "'f32'", "F32"),
    _entry(37, "dtype is a number", entry(3), "dtype-not-string", "a number"),
    _entry(37, "I4", entry("I4", [16]), "unknown-dtype", "'I4'"),
    _entry(38, "shape is a string", entry(shape="2"), "shape-not-list", "a string"),
    _entry(38, "shape is null", entry(shape=None), "shape-not-list", "null"),
    _entry(38, "shape is an empty string", entry("F64", ""), "shape-not-list", "a string"),
    _entry(38, "shape is an empty object", entry("F64", {}), "shape-not-list", "an object"),
    _entry(38, "nested shape", entry(shape=[[2]]), "dimension-not-a-number", "a list", "dimension 0"),
    _entry(38, "string dimension", entry(shape=["2"]), "dimension-not-a-number", "a string"),
    _entry(39, "negative dimension", entry(shape=[1, -2]), "dimension-negative", "-2", "dimension 1"),
    _entry(40, "fractional dimension", entry(shape=[2.0]), "dimension-fraction", "2.0"),
    _entry(41, "boolean dimension", entry("F64", [True]), "dimension-not-a-number", "true"),
    Hostile(
        39,
        "minus zero offset",
        safetensors(b'{"a":' + ENTRY.replace(b"[0,", b"[-0,") + b"}", EIGHT),
        "JN003",
        "offset-negative-zero",
        ("'a'", "-0", "start offset"),
    ),
    Hostile(
        40,
        "dimension with an exponent",
        safetensors(b'{"a":' + ENTRY.replace(b"[2]", b"[2e0]") + b"}", EIGHT),
        "JN003",
        "dimension-fraction",
        ("'a'", "2e0"),
    ),
    _entry(45, "dimension 2^64", entry(shape=[1 << 64]), "dimension-above-64-bits", "18446744073709551616"),
    _entry(
        45,
        "dimension 2^64 after a zero",
        entry(shape=[0, 1 << 64], data_offsets=[0, 0]),
        "dimension-above-64-bits",
        "dimension 1",
        data=b"",
    ),
    _entry(46, "65 dimensions", entry("F64", [1] * 65), "rank-too-large", "65", stricter=True),
    _entry(47, "one offset", entry(data_offsets=[0]), "offsets-not-two", "1 "),
    _entry(47, "three offsets", entry(data_offsets=[0, 8, 8]), "offsets-not-two", "3 "),
    _entry(47, "offsets are a string", entry(data_offsets="08"), "offsets-not-list", "a string"),
    _entry(49, "boolean start", entry(data_offsets=[False, 8]), "offset-not-a-number", "false", "start offset"),
    _entry(49, "boolean end", entry("U8", [1], [0, True]), "offset-not-a-number", "true", "end offset", data=b"x"),
    _entry(49, "negative offset", entry(data_offsets=[-8, 0]), "offset-negative", "-8"),
    _entry(49, "offset 2^64", entry(data_offsets=[0, 1 << 64]), "offset-above-64-bits", "18446744073709551616"),
)

_TOO_FEW = safetensors({"a": entry(shape=[3])}, EIGHT)
_TWO_CUT = safetensors({"a": entry(), "b": entry(data_offsets=[8, 16])}, EIGHT + b"\0\0")

LAYOUTS: tuple[Hostile, ...] = (
    _layout(
        42,
        "product overflows",
        safetensors({"a": entry(shape=[1 << 33, 1 << 33])}, EIGHT),
        "JN004",
        "shape-overflow",
        "'a'",
    ),
    _layout(42, "bits overflow", safetensors({"a": entry("F64", [1 << 59])}, EIGHT), "JN004", "shape-overflow", "'a'"),
    _layout(
        43,
        "wraps to the size",
        safetensors({"a": entry("U8", [(1 << 63) + 4, 2])}, EIGHT),
        "JN004",
        "shape-wraps",
        "8 bytes",
    ),
    _layout(
        44,
        "zero after an overflow",
        safetensors({"a": entry(shape=[1 << 63, 1 << 63, 0], data_offsets=[0, 0])}),
        "JN004",
        "shape-overflow-before-zero",
        "'a'",
    ),
    _layout(
        48,
        "reversed offsets",
        safetensors({"a": entry(data_offsets=[8, 0])}, EIGHT),
        "JN004",
        "offsets-reversed",
        "'a'",
        "8",
    ),
    _layout(50, "absolute offsets", ABSOLUTE, "JN004", "offsets-absolute", "64 bytes"),
    _layout(
        51,
        "past the end",
        safetensors({"a": entry(shape=[4], data_offsets=[0, 16])}, EIGHT),
        "JN001",
        "data-cut-off",
        "8 bytes",
        "'a'",
    ),
    _layout(51, "truncated data", _TWO_CUT, "JN001", "data-cut-off", "6 bytes", "'b'", "again"),
    _layout(
        52,
        "hole at the start",
        safetensors({"a": entry(data_offsets=[8, 16])}, EIGHT * 2),
        "JN004",
        "hole-at-start",
        "'a'",
        "8 bytes",
    ),
    _layout(
        53,
        "hole between",
        safetensors({"a": entry(), "b": entry(data_offsets=[16, 24])}, EIGHT * 3),
        "JN004",
        "hole",
        "'a'",
        "'b'",
        "8 bytes",
    ),
    _layout(
        54,
        "same bytes twice",
        safetensors({"a": entry(), "b": entry()}, EIGHT),
        "JN004",
        "same-bytes-twice",
        "'a'",
        "'b'",
    ),
    _layout(
        55,
        "partial overlap",
        safetensors({"a": entry(), "b": entry(data_offsets=[4, 12])}, EIGHT + b"\0" * 4),
        "JN004",
        "overlap",
        "'a'",
        "'b'",
        "4 bytes",
    ),
    _layout(56, "trailing bytes", safetensors({"a": entry()}, EIGHT + b"PK\5\6"), "JN001", "trailing-bytes", "4 bytes"),
    _layout(56, "trailing bytes, no tensor", safetensors({}, EIGHT), "JN001", "trailing-bytes", "8 bytes"),
    _layout(57, "too few bytes", _TOO_FEW, "JN004", "size-mismatch", "'a'", "F32[3]", "12 bytes", "8"),
    _layout(
        57, "too many bytes", safetensors({"a": entry(shape=[1])}, EIGHT), "JN004", "size-mismatch", "F32[1]", "4 bytes"
    ),
    _layout(
        58,
        "odd number of F4",
        safetensors({"a": entry("F4", [3], [0, 2])}, b"\0\0"),
        "JN004",
        "not-whole-bytes",
        "12 bits",
    ),
    _layout(
        58, "two F6", safetensors({"a": entry("F6_E2M3", [2], [0, 2])}, b"\0\0"), "JN004", "not-whole-bytes", "12 bits"
    ),
)

HOSTILE: tuple[Hostile, ...] = (*FOREIGN, *LENGTHS, *JSON_TEXT, *METADATA, *ENTRIES, *LAYOUTS)

SOUND: dict[str, bytes] = {
    "two tensors": tensors("a", "b"),
    "no tensor": safetensors({}),
    "scalar": safetensors({"a": entry("F64", [])}, EIGHT),
    "zero-size first": safetensors({"a": entry(shape=[0, 3], data_offsets=[0, 0]), "b": entry()}, EIGHT),
    "zero-size between": safetensors(
        {"a": entry(), "z": entry(shape=[0], data_offsets=[8, 8]), "b": entry(data_offsets=[8, 16])}, EIGHT * 2
    ),
    "zero-size last": safetensors({"a": entry(), "z": entry(shape=[0], data_offsets=[8, 8])}, EIGHT),
    "zero before a huge dimension": safetensors({"a": entry(shape=[0, 1 << 63, 1 << 63], data_offsets=[0, 0])}),
    "padded with spaces": safetensors(b'{"a":' + ENTRY + b"}   ", EIGHT),
    "blanks inside the JSON": safetensors(b'{ "a" :\n\t' + ENTRY + b"\r\n}", EIGHT),
    "order of names is not the order of bytes": safetensors(
        {"b": entry(data_offsets=[8, 16]), "a": entry()}, EIGHT * 2
    ),
    "data begin at an odd byte": safetensors(b'{"a":' + ENTRY + b"} ", EIGHT),
    "metadata": tensors("a", metadata={"format": "pt"}),
    "metadata is null": safetensors({"__metadata__": None, "a": entry()}, EIGHT),
    "empty name": tensors(""),
    "name with an escape": safetensors(b'{"\\u0061\\n\\ud83d\\ude00":' + ENTRY + b"}", EIGHT),
    "name in Cyrillic": safetensors('{"вес":'.encode() + ENTRY + b"}", EIGHT),
    "64 dimensions": safetensors({"a": entry("F64", [1] * 64)}, EIGHT),
    "packed F4": safetensors({"a": entry("F4", [4], [0, 2])}, b"\x12\x34"),
    "packed F6": safetensors({"a": entry("F6_E3M2", [4], [0, 3])}, b"\1\2\3"),
    "fp8 and its scale": safetensors({"w": entry("F8_E4M3", [4], [0, 4]), "s": entry("F8_E8M0", [4], [4, 8])}, EIGHT),
    "complex": safetensors({"a": entry("C64", [1])}, EIGHT),
}
