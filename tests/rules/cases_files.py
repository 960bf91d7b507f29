"""Cases of the rules about files: one that the reader refuses, or refuses a part of, and a sound one."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from huggingface_hub import close_session

from jaynes_audit.analyzers.checkpoints import Checkpoint, open_checkpoint
from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.analyzers.checkpoints.hub.verification import verify
from tests.analyzers.checkpoints.hub.clients import MODEL, WEIGHTS, client_of, place_of
from tests.rules.case import Asked, Case, saved, written
from tests.support import pytorch_files
from tests.support.checkpoints import stored
from tests.support.hub import LoopbackHub
from tests.support.npy_files import HEADER, npy
from tests.support.safetensors_files import EIGHT, ENTRY, entry, safetensors, tensors, write, write_sharded

GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
DUPLICATE = b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}"
OVERLAP = safetensors({"a": entry(), "b": entry(data_offsets=[4, 12])}, EIGHT + EIGHT)
PICKLED = pytorch_files.pickled({"weight": pytorch_files.tensor()})
UNKNOWN_GLOBAL = pytorch_files.pickled({"weight": pytorch_files.tensor(), "more": pytorch_files.name("os", "system")})

Writer = Callable[[Path], Checkpoint]


def of(content: bytes, name: str = "model.safetensors") -> Writer:
    """A file of this content."""
    return lambda folder: written(folder / name, content)


SOUND = of(tensors("a", "b"))
SOUND_PYTORCH = of(pytorch_files.checkpoint(PICKLED), "model.pt")


def case(failing: Writer, passing: Writer = SOUND) -> Case:
    """Two files, and no baseline."""
    return Case(
        failing=lambda folder: Asked(checkpoint=failing(folder)),
        passing=lambda folder: Asked(checkpoint=passing(folder)),
    )


def sharded(folder: Path) -> Checkpoint:
    """A checkpoint in two shards, with its index."""
    return open_checkpoint(str(write_sharded(folder / "model", [["a"], ["b"]])))


def without_its_second_shard(folder: Path) -> Checkpoint:
    """The same, of which a file was not fetched."""
    (write_sharded(folder / "model", [["a"], ["b"]]) / "model-00002-of-00002.safetensors").unlink()
    return open_checkpoint(str(folder / "model"))


def with_tensors_elsewhere(folder: Path) -> Checkpoint:
    """The same, with an index that has its tensors the other way round."""
    index = write_sharded(folder / "model", [["a"], ["b"]]) / "model.safetensors.index.json"
    content = json.loads(index.read_bytes())
    first, second = content["weight_map"].values()
    write(index, {**content, "weight_map": {"a": second, "b": first}})
    return open_checkpoint(str(folder / "model"))


def from_the_hub(*, is_damaged: bool) -> Writer:
    """What a file on the Hub and its listing say, beside the same weights on this machine."""

    def fetched(folder: Path) -> Checkpoint:
        checkpoint = saved(folder, {"weight": stored(np.linspace(-1, 1, 600_000).reshape(600, 1000))})
        with LoopbackHub() as hub:
            hub.commit(MODEL, {WEIGHTS: (folder / "model" / "model.safetensors").read_bytes()})
            place = place_of(client_of(hub), mode=Mode.STREAM)
            if is_damaged:
                hub.fault(host="cdn", path=place.repository.files[WEIGHTS].sha256, corrupt=True)
            defects = verify([place / WEIGHTS])
        close_session()
        return replace(checkpoint, defects=defects)

    return fetched


def compressed() -> bytes:
    """A PyTorch file whose members are compressed, which PyTorch never does."""
    buffer = io.BytesIO()
    members = {"data.pkl": PICKLED, "byteorder": b"little", "data/0": pytorch_files.SIXTEEN, "version": b"3\n"}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(f"archive/{member}", content)
    return buffer.getvalue()


CASES: dict[str, Case] = {
    "JN001": case(of(tensors("a", "b")[:-4])),
    "JN002": case(of(GIT_LFS_POINTER)),
    "JN003": case(of(safetensors(DUPLICATE, EIGHT))),
    "JN004": case(of(OVERLAP)),
    "JN005": case(without_its_second_shard, sharded),
    "JN006": case(with_tensors_elsewhere, sharded),
    "JN007": case(from_the_hub(is_damaged=True), from_the_hub(is_damaged=False)),
    "JN008": case(of(npy(HEADER.replace("<f4", "<f3")), "weight.npy"), of(npy(HEADER), "weight.npy")),
    "JN009": case(of(compressed(), "model.pt"), SOUND_PYTORCH),
    "JN020": case(of(pytorch_files.checkpoint(UNKNOWN_GLOBAL), "model.pt"), SOUND_PYTORCH),
    "JN021": case(SOUND_PYTORCH),
    "JN022": case(of(pytorch_files.pickled({"a": 1.0}), "model.pt"), SOUND_PYTORCH),
}
