"""HDF5 and Keras files made on the spot with h5py: sound ones of every layout, and those that lead astray."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

FIXTURES = Path(__file__).parents[2] / "fixtures" / "formats"

OTHER_FILE = "/etc/passwd"
"""The file that hostile files ask for."""

Fill = Callable[[h5py.File], None]
UNDEFINED = b"\xff" * 8


def hdf5(fill: Fill, **options: object) -> bytes:
    """A file that `fill` has filled."""
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        fill(file)
    return stream.getvalue()


def weight(shape: tuple[int, ...] = (4, 3), dtype: str = "<f4") -> np.ndarray:
    """Numbers that are all different."""
    return np.arange(1, 1 + int(np.prod(shape))).reshape(shape).astype(dtype)


def keras_archive(
    weights: bytes, *, name: str = "model.weights.h5", method: int = zipfile.ZIP_STORED, **more: bytes
) -> bytes:
    """A `.keras` archive around these weights, with its members in Keras's order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps({"module": "keras", "class_name": "Sequential"}))
        archive.writestr(name, weights)
        for other, content in more.items():
            archive.writestr(other, content)
    return stream.getvalue()


# ---- sound files


def of_every_dtype(file: h5py.File) -> None:
    """A dataset of each number format, in both byte orders, and what holds no numbers."""
    for code in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"):
        file[f"little/{code}"] = weight(dtype=f"<{code}")
        file[f"big/{code}"] = weight(dtype=f">{code}")
    file["scalar"] = np.float32(2.5)
    file["none"] = np.zeros((0, 3), np.float32)
    file["text"] = "words"
    file["texts"] = np.array([b"ab", b"cd"])
    file["empty"] = h5py.Empty("f4")
    file["complex"] = np.ones(3, np.complex64)
    file.create_dataset("reference", data=file["scalar"].ref, dtype=h5py.ref_dtype)


def of_many_names(file: h5py.File) -> None:
    """A group of more names than one node holds, and groups in groups."""
    for number in range(600):
        file[f"layers/dense_{number}/vars/0"] = np.float32(number)
        file[f"flat/{number}"] = np.float32(number)


def of_twelve_names(file: h5py.File) -> None:
    """More names in one group than newer files keep in its header."""
    for number in range(12):
        file[f"name_{number}"] = np.float32(number)


def of_every_storage(file: h5py.File) -> None:
    """One array in each way to store it."""
    numbers = np.random.default_rng(7).normal(size=(17, 19)).astype(np.float32)
    packed = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    file.create_dataset("contiguous", data=numbers)
    file.create_dataset("chunked", data=numbers, chunks=(8, 10))
    file.create_dataset("deflated", data=numbers, chunks=(8, 10), compression="gzip")
    file.create_dataset("shuffled", data=numbers, chunks=(17, 5), shuffle=True)
    file.create_dataset("checked", data=numbers, chunks=(5, 19), fletcher32=True)
    file.create_dataset("all filters", data=numbers, chunks=(9, 9), **packed)
    file.create_dataset("big-endian", data=numbers.astype(">f8"), chunks=(9, 9), **packed)
    file.create_dataset("one chunk", data=numbers, chunks=(17, 19), compression="gzip")
    file.create_dataset("of four dimensions", data=weight((3, 5, 7, 4), "<f2"), chunks=(2, 3, 3, 2), shuffle=True)
    file.create_dataset("row", data=weight((1, 500), "<i2"), chunks=(1, 300), compression="gzip")
    file.create_dataset("odd bytes", data=weight((7,), "u1"), chunks=(7,), fletcher32=True)
    small = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    small.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((4, 3))
    compact = h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, small)
    compact.write(h5py.h5s.ALL, h5py.h5s.ALL, weight())


def with_other_names(file: h5py.File) -> None:
    """Tensors with a second name, by a hard and by a soft link."""
    file["a/kernel"] = weight()
    file["tied"] = file["a/kernel"]
    file["a/soft"] = h5py.SoftLink("kernel")
    file["soft"] = h5py.SoftLink("/a/kernel")
    file["group"] = file["a"]


SOUND: dict[str, bytes] = {
    **{
        f"{fill.__name__} {version}": hdf5(fill, libver=version)
        for fill in (of_every_dtype, of_every_storage, with_other_names)
        for version in ("earliest", "v108")
    },
    "in order": hdf5(with_other_names, track_order=True),
    "latest": hdf5(of_every_dtype, libver="latest"),
    "twelve names": hdf5(of_twelve_names, libver="v108"),
    "twelve names in order": hdf5(of_twelve_names, track_order=True),
}
LARGE: dict[str, bytes] = {
    "many names": hdf5(of_many_names),
    "many names v108": hdf5(of_many_names, libver="v108"),
}


# ---- hostile files


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that must be refused, and with what."""

    name: str
    content: bytes
    rule: str
    case: str


def _filled(name: str, rule: str, case: str, fill: Fill, **options: object) -> Hostile:
    return Hostile(name, hdf5(fill, **options), rule, case)


def _external_storage(file: h5py.File) -> None:
    file.create_dataset("kernel", (16,), "u1", external=[(OTHER_FILE, 0, 16)])


def _external_link(file: h5py.File) -> None:
    file["kernel"] = h5py.ExternalLink(OTHER_FILE, "/a")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(OTHER_FILE, "a", (4,))
    file.create_virtual_dataset("kernel", layout)


def _soft_link_to_itself(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/a")


def _soft_links_in_a_circle(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


def _soft_link_upwards(file: h5py.File) -> None:
    file["group/a"] = h5py.SoftLink("../../../etc/passwd")


def _external_link_in_optimizer(file: h5py.File) -> None:
    file["model_weights/kernel"] = weight()
    file["optimizer_weights/a"] = h5py.ExternalLink(OTHER_FILE, "/a")


def _names_as_one(file: h5py.File) -> None:
    file["a/b"] = weight()
    file["a.b"] = weight()


def _deep(file: h5py.File) -> None:
    file["/".join("g" for _ in range(70)) + "/kernel"] = weight()


def _long_path(file: h5py.File) -> None:
    file["/".join("g" * 900 for _ in range(6))] = weight()


def _long_name(file: h5py.File) -> None:
    file["g" * 3000] = weight()


def _one(file: h5py.File) -> None:
    file["kernel"] = weight()


def _chunked(file: h5py.File) -> None:
    file.create_dataset("kernel", data=weight((40, 30)), chunks=(8, 10), compression="gzip")


def _plain_chunks(file: h5py.File) -> None:
    file.create_dataset("kernel", data=weight((40, 30)), chunks=(8, 10))


ONE = hdf5(_one)
CHUNKED = hdf5(_chunked)
PLAIN_CHUNKS = hdf5(_plain_chunks)


def changed(content: bytes, old: bytes, new: bytes, *, which: int = 0) -> bytes:
    """The content with one occurrence of `old`, which must be there, replaced by `new` of the same length."""
    at = -1
    for _ in range(which + 1):
        at = content.index(old, at + 1)
    assert len(old) == len(new)
    return content[:at] + new + content[at + len(old) :]


def _number(value: int, width: int = 8) -> bytes:
    return value.to_bytes(width, "little")


_ROOT_TREE = ONE.index(b"TREE")
_HEAP = ONE.index(b"HEAP")
_NODE = ONE.index(b"SNOD")
_SHAPE = _number(4) + _number(3)
_CHUNK_TREE = CHUNKED.index(b"TREE\1")
_CHUNK_KEY = _CHUNK_TREE + 24
_DATA = ONE.index(weight().tobytes())
_RUN = _number(48)  # bytes of the one tensor, as its layout says


def _at(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def _continued_by_itself() -> bytes:
    """A file with a header one of whose messages says that the header goes on where it began."""
    header = int.from_bytes(ONE[_NODE + 16 : _NODE + 24], "little")
    length = int.from_bytes(ONE[header + 8 : header + 12], "little")
    at = header + 16
    while ONE[at : at + 2] != bytes(2) or int.from_bytes(ONE[at + 2 : at + 4], "little") < 16:  # until there is room
        at += 8 + int.from_bytes(ONE[at + 2 : at + 4], "little")
    return _at(_at(ONE, at, b"\x10"), at + 8, _number(header + 16) + _number(length))


HOSTILE: tuple[Hostile, ...] = (
    _filled("external storage", "JN002", "external-storage", _external_storage),
    _filled("external storage, newest", "JN002", "external-storage", _external_storage, libver="latest"),
    _filled("external link", "JN002", "external-link", _external_link),
    _filled("external link, newest", "JN002", "external-link", _external_link, libver="latest"),
    _filled("external link beside the weights", "JN002", "external-link", _external_link_in_optimizer),
    _filled("virtual dataset", "JN002", "virtual-dataset", _virtual, libver="latest"),
    _filled("soft link to itself", "JN004", "soft-link", _soft_link_to_itself),
    _filled("soft link to itself, newest", "JN004", "soft-link", _soft_link_to_itself, libver="latest"),
    _filled("soft links in a circle", "JN004", "soft-link", _soft_links_in_a_circle),
    _filled("soft link upwards", "JN004", "soft-link", _soft_link_upwards),
    _filled("two names as one", "JN003", "same-name-twice", _names_as_one),
    _filled("groups too deep", "JN003", "groups-too-deep", _deep),
    _filled("path too long", "JN003", "path-too-long", _long_path),
    _filled("name too long", "JN003", "name-without-end", _long_name),
    _filled("name too long, newest", "JN003", "name-too-long", _long_name, libver="latest"),
    Hostile("cut off", ONE[:-1], "JN001", "cut-off"),
    Hostile("only a signature", ONE[:8], "JN003", "part-cut-off"),
    Hostile("unknown version", _at(ONE, 8, b"\x09"), "JN003", "superblock-version"),
    Hostile("addresses of four bytes", _at(ONE, 13, b"\4"), "JN003", "address-width"),
    Hostile("after a user block", _at(ONE, 24, _number(512)), "JN003", "base-address"),
    Hostile("root past the end", _at(ONE, 64, _number(1 << 40)), "JN001", "points-past-end"),
    Hostile("root where nothing is", _at(ONE, 64, _number(0)), "JN003", "no-object-header"),
    Hostile("no tree", _at(ONE, _ROOT_TREE, b"EERT"), "JN003", "no-tree-node"),
    Hostile(
        "tree that is its own child",
        _at(_at(ONE, _ROOT_TREE + 5, b"\1"), _ROOT_TREE + 32, _number(_ROOT_TREE)),
        "JN003",
        "no-tree-node",
    ),
    Hostile("header that goes on for ever", _continued_by_itself(), "JN004", "structure-in-circles"),
    Hostile("tree of a million entries", _at(ONE, _ROOT_TREE + 6, b"\xff\xff"), "JN001", "points-past-end"),
    Hostile("no heap", _at(ONE, _HEAP, b"PAEH"), "JN003", "no-local-heap"),
    Hostile("heap of 2^60 bytes", _at(ONE, _HEAP + 8, _number(1 << 60)), "JN001", "points-past-end"),
    Hostile("no table of names", _at(ONE, _NODE, b"DONS"), "JN003", "no-symbol-table"),
    Hostile("name past its heap", _at(ONE, _NODE + 8, _number(1 << 50)), "JN003", "name-without-end"),
    Hostile("name that is not UTF-8", changed(ONE, b"kernel", b"kern\xff\xfe"), "JN003", "name-not-utf8"),
    Hostile("name with a slash", changed(ONE, b"kernel", b"ker/el"), "JN003", "bad-name"),
    Hostile("empty name", changed(ONE, b"kernel", b"\0ernel"), "JN003", "bad-name"),
    Hostile("huge dimension", changed(ONE, _SHAPE, _number(1 << 62) + _number(3)), "JN004", "size-mismatch"),
    Hostile("dimensions that wrap", changed(ONE, _SHAPE, _number(1 << 63) + _number(6)), "JN004", "size-mismatch"),
    Hostile("too short", changed(ONE, _SHAPE, _number(4) + _number(2)), "JN004", "size-mismatch"),
    Hostile(
        "data past the end", changed(ONE, _number(_DATA) + _RUN, _number(1 << 40) + _RUN), "JN001", "points-past-end"
    ),
    Hostile("chunk bomb", _at(CHUNKED, _CHUNK_KEY, _number(0, 4)), "JN004", "chunk-bomb"),
    Hostile("chunk past the end", _at(CHUNKED, _CHUNK_KEY, _number(1 << 31, 4)), "JN001", "points-past-end"),
    Hostile("chunk askew", _at(CHUNKED, _CHUNK_KEY + 8, _number(3)), "JN004", "chunk-place"),
    Hostile("chunk outside", _at(CHUNKED, _CHUNK_KEY + 8, _number(80)), "JN004", "chunk-place"),
    Hostile("chunk twice", _at(CHUNKED, _CHUNK_KEY + 40 + 8, bytes(16)), "JN004", "chunk-place"),
    Hostile(
        "two chunks in the same bytes",
        _at(
            PLAIN_CHUNKS,
            PLAIN_CHUNKS.index(b"TREE\1") + 24 + 40 + 32,
            PLAIN_CHUNKS[PLAIN_CHUNKS.index(b"TREE\1") + 56 :][:8],
        ),
        "JN004",
        "overlap",
    ),
)

KERAS_HOSTILE: tuple[Hostile, ...] = (
    Hostile("deflated", keras_archive(ONE, method=zipfile.ZIP_DEFLATED), "JN009", "keras-deflated-weights"),
    Hostile("without weights", keras_archive(ONE, name="model.weights.npz"), "JN002", "keras-without-weights"),
    Hostile("weights twice", keras_archive(ONE, **{"b.weights.h5": ONE}), "JN004", "keras-tensor-twice"),
    Hostile("weights that are no HDF5", keras_archive(b"no weights" * 20), "JN002", "no-hdf5-signature"),
    Hostile("cut off", keras_archive(ONE)[:-30], "JN001", "zip-no-end-record"),
    Hostile("external storage", keras_archive(hdf5(_external_storage)), "JN002", "external-storage"),
    Hostile("weights cut off", keras_archive(ONE[:-1]), "JN001", "cut-off"),
)
