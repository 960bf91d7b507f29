"""Keras's `.keras` archives: a zip with the model's settings and its weights as an HDF5 file.

Source: Keras's `saving_lib.py`, which writes `metadata.json`, `config.json` and `model.weights.h5`, all stored.
"""

from dataclasses import replace
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.content import Content
from jaynes_audit.analyzers.checkpoints.keras_hdf5.weights import read_content
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.checkpoints.zip_archive import LOCAL_HEADER, STORED, Member, members
from jaynes_audit.analyzers.errors import RefusedFile

WEIGHTS = ".weights.h5"
SETTINGS = {b"metadata.json": b'"keras_version"', b"config.json": b'"module": "keras'}
"""What the text of a member at the archive's beginning tells when Keras wrote it."""


def looks_like_keras(head: bytes, size: int) -> bool:
    """Whether the first bytes are those of a zip that begins with the settings or the weights of a Keras model."""
    del size
    if not head.startswith(b"PK\3\4") or len(head) < LOCAL_HEADER.size:
        return False
    name_bytes = LOCAL_HEADER.unpack_from(head)[-2]
    name, rest = head[LOCAL_HEADER.size :][:name_bytes], head[LOCAL_HEADER.size + name_bytes :]
    return name.endswith(WEIGHTS.encode()) or (name in SETTINGS and SETTINGS[name] in rest)


def read_keras(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The tensors of a `.keras` archive, read in place; names as `read_hdf5` gives them.

    Raises:
        RefusedFile: JN009 when the archive is not sound or its weights are deflated, JN002 when it holds none, else as
            `read_hdf5` does.
    """
    found = [each for each in members(stream, size).values() if each.name.endswith(WEIGHTS)]
    if not found:
        raise RefusedFile(
            f"this Keras archive holds no weights in HDF5 (a member `model{WEIGHTS}`); save the model again where h5py "
            "is installed",
            rule="JN002",
            case="keras-without-weights",
        )
    shards = [_read_member(stream, each, file) for each in found]
    tensors = tuple(tensor for shard in shards for tensor in shard.tensors)
    _refuse_name_twice(tensors)
    return replace(
        shards[0],
        tensors=tensors,
        aliases={name: kept for shard in shards for name, kept in shard.aliases.items()},
        undecoded={name: reason for shard in shards for name, reason in shard.undecoded.items()},
        remarks=tuple(remark for shard in shards for remark in shard.remarks),
    )


def _read_member(stream: BinaryIO, member: Member, file: Place) -> WeightFile:
    if member.method != STORED:
        raise RefusedFile(
            f"this Keras archive has its weights {quoted(member.name)} deflated, so they cannot be read in place; save "
            "it again with Keras, or unpack it and audit the .h5 file",
            rule="JN009",
            case="keras-deflated-weights",
        )
    return read_content(Content(stream, kind="HDF5", start=member.start, size=member.size), file)


def _refuse_name_twice(tensors: tuple[Tensor, ...]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise RefusedFile(
                f"this Keras archive has the tensor {quoted(tensor.name)} in two members; save it again with Keras",
                rule="JN004",
                case="keras-tensor-twice",
            )
        seen.add(tensor.name)
