"""PyTorch's zip files, damaged: bytes of the archive, and opcodes of a pickle in an archive that is sound again."""

import io
import random
import zipfile
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.pytorch.zip_file import read_pytorch_zip
from tests.support.fuzzing import Damage, Fuzz, read_every_element
from tests.support.pytorch_files import FIXTURES, checkpoint, pickled, tensor
from tests.support.pytorch_hostile import hostile_files
from tests.support.pytorch_pickle_damages import PICKLE_DAMAGES

LARGEST_SEED = 6_000  # bytes; larger ones repeat what is in the smaller


def corpus() -> tuple[bytes, ...]:
    """All that torch writes, and all that is hostile."""
    written = [path.read_bytes() for path in sorted(FIXTURES.glob("*.pt")) if "legacy" not in path.name]
    by_hand = [
        checkpoint(pickled({"a": tensor()})),
        checkpoint(pickled({"a": tensor(None, 1, (1, 2), (2, 1)), "b": tensor(), "c": [tensor(None, 0, (2,), (2,))]})),
        checkpoint(pickled({"model": {"x": tensor()}, "optimizer": [tensor()]})),
    ]
    hostile = [each.content for each in hostile_files("canary") if each.content.startswith(b"PK")]
    return tuple(content for content in (*written, *by_hand, *hostile) if len(content) < LARGEST_SEED)


def read(content: bytes) -> None:
    """Read the header, and then every element."""
    read_every_element(read_pytorch_zip(io.BytesIO(content), Path("fuzzed"), len(content)), content)


def inside(damage: Damage) -> Damage:
    """The same damage to the archive's pickle, after which the archive is written anew and sound."""

    def damage_pickle(content: bytearray, dice: random.Random) -> None:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = {info: archive.read(info) for info in archive.infolist()}
        except Exception:  # noqa: BLE001 - an earlier damage broke the archive itself
            return
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for info, member in members.items():
                changed = bytearray(member)
                if info.filename.endswith(".pkl") and changed:
                    damage(changed, dice)
                if info.filename not in archive.namelist():
                    archive.writestr(zipfile.ZipInfo(info.filename), bytes(changed))
        content[:] = buffer.getvalue()

    return damage_pickle


FUZZ = Fuzz(corpus=corpus, read=read, damages=tuple(map(inside, PICKLE_DAMAGES)))
