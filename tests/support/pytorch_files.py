"""PyTorch files made on the spot, out of opcodes and zip members written by hand."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.pytorch.legacy import looks_like_pytorch_legacy, read_pytorch_legacy
from jaynes_audit.analyzers.checkpoints.pytorch.zip_file import looks_like_pytorch_zip, read_pytorch_zip
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile

PROBE = 512
FIXTURES = Path(__file__).parents[2] / "fixtures" / "pytorch"
SIXTEEN = bytes(range(16))
"""The bytes of the storage "0", the usual content below: four numbers of four bytes."""


def read(content: bytes, file: Path = Path("model.pt")) -> WeightFile:
    """What our readers say of a file that lies in memory, chosen by its first bytes."""
    head, size = content[:PROBE], len(content)
    if looks_like_pytorch_zip(head, size):
        return read_pytorch_zip(io.BytesIO(content), file, size)
    assert looks_like_pytorch_legacy(head, size)
    return read_pytorch_legacy(io.BytesIO(content), file, size)


def read_file(path: Path) -> WeightFile:
    """The same for a file on disk."""
    return read(path.read_bytes(), path)


# ---- opcodes


def name(module: str, attribute: str) -> bytes:
    """The opcode that names a global."""
    return b"c" + f"{module}\n{attribute}\n".encode()


def stacked_name(module: str, attribute: str) -> bytes:
    """The same, of two texts on the stack."""
    return text(module) + text(attribute) + b"\x93"


def text(value: str) -> bytes:
    """The opcodes of a text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """The opcodes of an integer."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def put(value: object) -> bytes:
    """The opcodes of a value: plain ones and containers of them; bytes are opcodes already."""
    match value:
        case bytes():
            opcodes = value
        case None | bool():
            opcodes = {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case str():
            opcodes = text(value)
        case int():
            opcodes = number(value)
        case float():
            opcodes = b"G" + struct.pack(">d", value)
        case tuple():
            opcodes = b"(" + b"".join(map(put, value)) + b"t"
        case list():
            opcodes = b"](" + b"".join(map(put, value)) + b"e"
        case dict():
            opcodes = b"}(" + b"".join(put(key) + put(part) for key, part in value.items()) + b"u"
        case _:
            raise TypeError(value)
    return opcodes


def call(module: str, attribute: str, *arguments: object) -> bytes:
    """The opcodes that call a global."""
    return name(module, attribute) + put(arguments) + b"R"


def storage(key: object = "0", count: object = 4, kind: bytes = name("torch", "FloatStorage")) -> bytes:
    """The opcodes of a storage."""
    return put(("storage", kind, key, "cpu", count)) + b"Q"


def tensor(
    of: bytes | None = None, offset: object = 0, shape: object = (4,), strides: object = (1,), *more: object
) -> bytes:
    """The opcodes of a tensor; sound unless asked otherwise."""
    return call("torch._utils", "_rebuild_tensor_v2", of or storage(), offset, shape, strides, *(more or (False, b"}")))


def pickled(value: object) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + put(value) + b"."


# ---- files


def zipped(members: Mapping[str, bytes], *, root: str = "archive", compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of these members in one folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{root}/{member}"), content, compression)
    return buffer.getvalue()


def checkpoint(pickle_bytes: bytes, storages: Mapping[str, bytes] | None = None, **more: bytes) -> bytes:
    """A file as torch writes it: the pickle, the byte order, the storages."""
    data = {f"data/{key}": content for key, content in (storages or {"0": SIXTEEN}).items()}
    return zipped({"data.pkl": pickle_bytes, "byteorder": b"little", **data, "version": b"3\n", **more})


MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def legacy(
    pickle_bytes: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    element_bytes: int = 4,
    count: int | None = None,
) -> bytes:
    """A file as torch wrote it before 1.6."""
    stored = {"0": SIXTEEN} if storages is None else storages
    head = MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    data = b"".join(
        struct.pack("<q", len(content) // element_bytes if count is None else count) + content
        for content in stored.values()
    )
    return head + pickle_bytes + pickle.dumps(list(stored), 2) + data
