"""GGUF files made on the spot: by the format's own package, and by hand where it would refuse to write them."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from gguf import GGUFEndian, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.scripts.gguf_convert_endian import byteswap_tensors

from jaynes_audit.analyzers.checkpoints.gguf_blocks import BLOCKS

U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, LIST, U64, I64, F64 = range(13)
SPELLINGS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?"}
SPELLINGS |= {U64: "Q", I64: "q", F64: "d"}
BLOCK_TYPES = tuple(GGMLQuantizationType(number) for number in BLOCKS)


def packed(spelling: str, *numbers: object, order: str = "<") -> bytes:
    """Numbers as they stand in a file."""
    return struct.pack(order + spelling, *numbers)


def text(characters: str | bytes, order: str = "<") -> bytes:
    """A text behind its length."""
    raw = characters.encode() if isinstance(characters, str) else characters
    return packed("Q", len(raw), order=order) + raw


def number(kind: int, value: object, order: str = "<") -> bytes:
    """The value of a key, with its type before it."""
    return packed("I", kind, order=order) + packed(SPELLINGS[kind], value, order=order)


def word(characters: str | bytes, order: str = "<") -> bytes:
    """A text as the value of a key."""
    return packed("I", TEXT, order=order) + text(characters, order)


def items(kind: int, count: int, content: bytes = b"", order: str = "<") -> bytes:
    """A list as the value of a key, whatever its content really is."""
    return packed("IIQ", LIST, kind, count, order=order) + content


def entry(
    name: str | bytes, dimensions: Sequence[int], kind: int = 0, *, offset: int = 0, order: str = "<", rank: int = -1
) -> bytes:
    """What the header says of one tensor; its dimensions in the order of the file, the shortest stride first."""
    rank = len(dimensions) if rank < 0 else rank
    return text(name, order) + packed(f"I{len(dimensions)}QIQ", rank, *dimensions, kind, offset, order=order)


def gguf(
    *entries: bytes,
    metadata: Sequence[tuple[str | bytes, bytes]] = (),
    data: bytes = b"",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
    order: str = "<",
) -> bytes:
    """A file with these entries, metadata and bytes, and with these counts of them."""
    tensors, keys = counts or (len(entries), len(metadata))
    header = b"GGUF" + packed("IQQ", version, tensors, keys, order=order)
    header += b"".join(text(key, order) + value for key, value in metadata) + b"".join(entries)
    return header + bytes(-len(header) % alignment) + data


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that must be refused, and what the refusal must say."""

    name: str
    content: bytes
    rule: str
    case: str
    mention: str


ONE = entry("a", [8])
THIRTY_TWO = bytes(range(32))
SPACE = bytes(96)
SOUND = gguf(ONE, metadata=[("general.architecture", word("llama"))], data=THIRTY_TWO)
HUGE = 1 << 63


def _header(name: str, content: bytes, case: str, mention: str, rule: str = "JN003") -> Hostile:
    return Hostile(name, content, rule, case, mention)


def _layout(name: str, case: str, mention: str, *entries: bytes, data: bytes = SPACE, rule: str = "JN004") -> Hostile:
    return Hostile(name, gguf(*entries, data=data), rule, case, mention)


def _metadata(name: str, case: str, mention: str, *metadata: tuple[str | bytes, bytes]) -> Hostile:
    return Hostile(name, gguf(ONE, metadata=metadata, data=THIRTY_TWO), "JN003", case, mention)


HOSTILE: tuple[Hostile, ...] = (
    # cut off
    _header("only the magic", SOUND[:4], "header-cut-off", "after 4 bytes", "JN001"),
    _header("no counts", SOUND[:12], "header-cut-off", "byte 24", "JN001"),
    _header("in a key", SOUND[:40], "header-cut-off", "after 40 bytes", "JN001"),
    _header("in a value", SOUND[:66], "header-cut-off", "after 66 bytes", "JN001"),
    _header("in an entry", SOUND[:80], "header-cut-off", "after 80 bytes", "JN001"),
    _header("in the data", SOUND[:-1], "data-cut-off", "'a'", "JN001"),
    _header("no data", SOUND[:-32], "data-cut-off", "'a'", "JN001"),
    _header("more metadata promised", gguf(counts=(0, 9)), "header-cut-off", "ends after", "JN001"),
    _header("more tensors promised", gguf(ONE, counts=(9, 0), data=b""), "header-cut-off", "ends after", "JN001"),
    # version
    _header("version 0", gguf(version=0), "gguf-version", "version 0", "JN002"),
    _header("version 1", gguf(version=1), "gguf-version", "version 1,", "JN002"),
    _header("version 4", gguf(version=4), "gguf-version", "version 4", "JN002"),
    _header("version 4, big-endian", gguf(version=4, order=">"), "gguf-version", "version 4", "JN002"),
    _header("version of noise", gguf(version=0xFFFFFFFF), "gguf-version", "4294967295", "JN002"),
    # counts
    _header("2^64 - 1 tensors", gguf(counts=(2 * HUGE - 1, 0)), "count-too-large", "18,446,744"),
    _header("2^63 metadata", gguf(counts=(0, HUGE)), "count-too-large", "9,223,372"),
    # metadata
    _metadata("unknown type", "value-type", "type 13", ("a", packed("I", 13))),
    _metadata("type of noise", "value-type", "4294967295", ("a", packed("I", 0xFFFFFFFF))),
    _metadata("list of unknown type", "value-type", "type 99", ("a", items(99, 1))),
    _metadata("nested lists", "nesting-too-deep", "'bomb'", ("bomb", packed("I", LIST) + packed("IQ", LIST, 1) * 99)),
    _metadata("key twice", "duplicate-key", "'a' twice", ("a", number(U8, 1)), ("a", number(U8, 2))),
    _metadata("key is not UTF-8", "name-not-utf8", r"\\xff", (b"\xff", number(U8, 1))),
    _metadata("key too long", "name-too-long", "65,536", ("k" * 65_536, number(U8, 1))),
    _metadata("alignment of text", "alignment-type", "type 8", ("general.alignment", word("32"))),
    _metadata("alignment of 64 bits", "alignment-type", "type 10", ("general.alignment", number(U64, 32))),
    _metadata("alignment 0", "alignment-not-power-of-two", "is 0", ("general.alignment", number(U32, 0))),
    _metadata("alignment 48", "alignment-not-power-of-two", "is 48", ("general.alignment", number(U32, 48))),
    _header(
        "text of 2^64 - 1 bytes",
        gguf(metadata=[("a", packed("IQ", TEXT, 2 * HUGE - 1))]),
        "header-cut-off",
        "18,446,744",
        "JN001",
    ),
    _header("list of 2^63 numbers", gguf(metadata=[("a", items(F64, HUGE))]), "header-cut-off", "73,786", "JN001"),
    _header("list of 2^63 texts", gguf(metadata=[("a", items(TEXT, HUGE))]), "header-cut-off", "ends after", "JN001"),
    _header("list of 2^63 lists", gguf(metadata=[("a", items(LIST, HUGE))]), "header-cut-off", "ends after", "JN001"),
    _header(
        "list with a text of 2^63 bytes",
        gguf(metadata=[("a", items(TEXT, 2, packed("Q", HUGE) + bytes(64)))]),
        "header-cut-off",
        "9,223,372",
        "JN001",
    ),
    # entries
    _header("tensor twice", gguf(ONE, entry("a", [8], offset=32), data=bytes(64)), "duplicate-tensor", "'a'"),
    _header("name is not UTF-8", gguf(entry(b"\xc3(", [8]), data=THIRTY_TWO), "name-not-utf8", r"\\xc3("),
    _header("name too long", gguf(entry("n" * 65_536, [8]), data=THIRTY_TWO), "name-too-long", "65,536"),
    _header("name of 2^63 bytes", gguf(packed("Q", HUGE), counts=(1, 0)), "name-too-long", "9,223,372"),
    _header("five dimensions", gguf(entry("a", [8, 1, 1, 1, 1]), data=THIRTY_TWO), "rank-too-large", "5 dimensions"),
    _header("2^32 - 1 dimensions", gguf(entry("a", [8], rank=2**32 - 1)), "rank-too-large", "4,294,967,295"),
    # sizes and places
    _layout("2^64 elements", "shape-overflow", "'a'", entry("a", [1 << 32, 1 << 32])),
    _layout("wraps round to eight", "shape-overflow", "'a'", entry("a", [(1 << 61) + 1, 8])),
    _layout("overflows before a zero", "shape-overflow", "'a'", entry("a", [HUGE, HUGE, 0])),
    _layout("row of half a block", "broken-blocks", "rows of 48", entry("a", [48], 2)),
    _layout("whole blocks, broken rows", "broken-blocks", "rows of 16", entry("a", [16, 2], 2)),
    _layout("a scalar in blocks", "broken-blocks", "rows of 1", entry("a", [], 12)),
    _layout("offset between", "offset-misaligned", "offset 4", entry("a", [8], offset=4)),
    _layout("same bytes", "overlap", "'a' and 'b'", entry("a", [8]), entry("b", [8])),
    _layout("one in another", "overlap", "'a' and 'b'", entry("a", [24]), entry("b", [8], offset=32)),
    _layout("unknown type on another", "overlap", "'a' and 'b'", entry("a", [8]), entry("b", [8], 77)),
    _layout("far away", "past-end", "'a'", entry("a", [8], offset=1 << 40)),
    _layout("at 2^64 - 32", "past-end", "'a'", entry("a", [8], offset=2 * HUGE - 32)),
    _layout("unknown type behind the end", "past-end", "'a'", entry("a", [8], 77, offset=1 << 20)),
    _layout("second one cut off", "data-cut-off", "'b'", ONE, entry("b", [32], offset=32), rule="JN001"),
    _layout("larger than the file", "data-cut-off", "'a'", entry("a", [1 << 40]), rule="JN001"),
    _layout("unknown type without bytes", "data-cut-off", "'a'", entry("a", [8], 77), data=b"", rule="JN001"),
)


# ---- files of the format's own writer


def random_blocks(kind: GGMLQuantizationType, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Blocks of any bytes at all, as (rows, bytes of a row): their scales are infinite and NaN now and then."""
    *rows, columns = shape
    elements, stored_bytes = GGML_QUANT_SIZES[kind]
    dice = np.random.default_rng([seed, int(kind)])
    return dice.integers(0, 256, (*rows, columns // elements * stored_bytes), np.uint8)


def turned_round(blocks: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """The same blocks with the other order of bytes, by llama.cpp's own converter."""
    turned = blocks.reshape(-1).copy()
    for start in range(0, turned.size, GGML_QUANT_SIZES[kind][1]):
        byteswap_tensors[kind](SimpleNamespace(data=turned), start)
    return turned.reshape(blocks.shape)


def write(
    path: Path,
    tensors: Mapping[str, np.ndarray | tuple[GGMLQuantizationType, np.ndarray]],
    *,
    architecture: str = "llama",
    big_endian: bool = False,
    alignment: int = 32,
    **metadata: int,
) -> Path:
    """A file of plain tensors and, behind their type, of tensors that are blocks already."""
    writer = GGUFWriter(path, architecture, endianess=GGUFEndian.BIG if big_endian else GGUFEndian.LITTLE)
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    writer.add_token_list(["<s>", "a", "\N{SNOWMAN}", ""])
    writer.add_token_scores([0.0, -1.0, 2.0, 3.0])
    for key, value in metadata.items():
        writer.add_uint32(f"{architecture}.{key.replace('__', '.')}", value)
    for name, each in tensors.items():
        kind, array = each if isinstance(each, tuple) else (None, each)
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
