"""How the reader of sketch archives is tried: other values in its description of a model, other counts, and audits."""

import json
import random
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from jaynes_audit.analyzers.archive.archive import read_archive
from jaynes_audit.analyzers.archive.audited import audit_archive
from jaynes_audit.analyzers.archive.packing import DEFLATE, HEAD
from jaynes_audit.analyzers.archive.saving import Keeper
from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.layer_audit import Criterion
from tests.support.fuzzing import Fuzz

FIXTURES = Path(__file__).parents[2] / "fixtures"
NOTHING_JUDGED = Criterion(min_fan_in=1 << 40)
JUDGED_ONE_IN = 16  # to compare families, and to claim a law, takes a hundred times as long as to read a layer
DEEPER = 0.9
ALREADY_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)
ALREADY_DAMAGED = (*ALREADY_DAMAGED, zlib.error, struct.error)

VALUES = (0, 1, -1, 7, 1 << 31, 1 << 47, (1 << 63) - 1, 1 << 64, 0.0, 1e-320, 0.5, 1e308, -1.0, None, True, "", "F32")
VALUES = (*VALUES, "F8_E4M3", "F4", "BOOL", "lm_head.weight", "0" * 32, "f" * 32, "\ud800", [], {}, [0], [1 << 40] * 3)


@cache
def corpus() -> Sequence[bytes]:
    """Archives of a few small layers: of every kind of float, of quantised ones, of one that was taken apart."""
    dice = np.random.default_rng(0)
    plain = {
        "a.weight": dice.standard_normal((20, 6)).astype(np.float32),
        "b.weight": dice.standard_normal((9, 8)).astype(np.float16),
        "b.bias": np.zeros(9, np.float64),
        "h.0.attn.c_attn.weight": np.full((4, 12), np.nan, np.float32),
        "position_ids": np.arange(4),
    }
    judged = {"layers.0.mlp.up_proj.weight": dice.lognormal(-3, 1.2, (96, 64)).astype(np.float32)}
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / "plain.safetensors", Path(folder) / "judged.safetensors"]
        for path, tensors in zip(paths, (plain, judged), strict=True):
            save_file(tensors, path)
        paths += [FIXTURES / "quantised" / "gptq-4.safetensors"]
        archives = [_archive(path) for path in paths]
    return (archives[0], archives[0], archives[0], archives[1], archives[2])


def _archive(path: Path) -> bytes:
    keeper, checkpoint = Keeper(), open_checkpoint(str(path))
    audit_checkpoint(checkpoint, dissect=True, jobs=1, on_measured=keeper.measured, on_outcome=keeper.outcome)
    return keeper.archive(checkpoint)


def rebuilt(parts: dict[str, bytes], metadata: dict[str, str]) -> bytes:
    """A safetensors file of these bytes."""
    header: dict[str, object] = {"__metadata__": metadata}
    start = 0
    for name, content in parts.items():
        header[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [start, start + len(content)]}
        start += len(content)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(parts.values())


def taken_apart(content: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    """The bytes of a sound file's tensors, and its metadata."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    data = content[8 + length :]
    return {name: data[slice(*each["data_offsets"])] for name, each in header.items()}, metadata


def with_model(content: bytes, model: object) -> bytes:
    """The archive with another description of its model."""
    parts, metadata = taken_apart(content)
    return rebuilt(parts | {"model": zlib.compress(json.dumps(model).encode(), 1)}, metadata)


def model_of(content: bytes) -> Any:
    """The description of the model."""
    return json.loads(zlib.decompress(taken_apart(content)[0]["model"]))


def change_model(content: bytearray, dice: random.Random) -> None:
    """One value of the description becomes another, vanishes, or stands there twice."""
    with suppress(*ALREADY_DAMAGED):
        model = model_of(content)
        holder, key = model, dice.choice(list(model))
        while isinstance(holder[key], dict | list) and holder[key] and dice.random() < DEEPER:
            holder = holder[key]
            key = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
        match dice.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(holder[key])
            case 2 if isinstance(holder[key], int | float):
                holder[key] = holder[key] + dice.choice((-1, 1, 8))
            case _:
                holder[key] = dice.choice(VALUES)
        content[:] = with_model(content, model)


def change_counts(content: bytearray, dice: random.Random) -> None:
    """The counts of a layer become others, packed as they should be."""
    with suppress(*ALREADY_DAMAGED):
        model, (parts, metadata) = model_of(content), taken_apart(content)
        sizes = [layer["size"] for layer in model["layers"]]
        which = dice.randrange(len(sizes))
        histograms, start = parts["histograms"], sum(sizes[:which])
        first, last, width, _ = HEAD.unpack_from(histograms, start)
        first, last = dice.choice(((first, last), (first, last), (0, last), (first, first), (0x7F00, 0x7FFF)))
        rng = np.random.default_rng(dice.getrandbits(32))
        telling = np.array([0, 0, 1, 2, 3, 200, (1 << 8 * width) - 1], np.uint64)
        numbers = rng.choice(telling, 2 * (last + 1 - first))
        planes = numbers.view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
        deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        entry = HEAD.pack(first, last, width, DEFLATE) + deflate.compress(planes) + deflate.flush()
        parts["histograms"] = histograms[:start] + entry + histograms[start + sizes[which] :]
        model["layers"][which]["size"] = len(entry)
        content[:] = with_model(rebuilt(parts, metadata), model)


def read(content: bytes) -> None:
    """Read a damaged archive, and audit the model that it tells of."""
    archive = read_archive(BytesIO(content), Path("fuzzed.safetensors"), len(content))
    if zlib.crc32(content) % JUDGED_ONE_IN:
        audit_archive(archive, criterion=NOTHING_JUDGED, dissect=True)
    else:
        audit_archive(archive, dissect=True).to_dict()


FUZZ = Fuzz(corpus=corpus, read=read, damages=(change_model, change_model, change_counts))
