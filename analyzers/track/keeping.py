"""Points on disk: what was finished of a run, so that one that was killed need not read it again.

One file for each point, whole or not there, in the user's cache folder; its first line is a checksum of the rest.
Nothing here ever ends a run: what cannot be restored is absent, and what cannot be kept is a sentence for the user.
Only a crash of the whole machine can lose a point that was kept: files are not forced to the disk.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import platformdirs
import xxhash

from jaynes_audit.analyzers.audit import Selection
from jaynes_audit.analyzers.checkpoints import Checkpoint
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.checkpoints.reading import identity
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.journal import KEPT_SECONDS, SKETCH_VERSION
from jaynes_audit.analyzers.layer_audit import Criterion
from jaynes_audit.analyzers.sketch.kernel import KERNEL_NAME
from jaynes_audit.analyzers.track.point import Point

POINT_VERSION = 1  # to be raised with every change that makes a point differ, by its last bit even
SUFFIX = ".point"
DIGEST_BYTES = 16  # 2**64 points before two of them are likely to have one name
MOST_BYTES = 1 << 30  # a kilobyte a layer; no model has a million


def kept_path(
    checkpoint: Checkpoint, layers: Sequence[Layer], selection: Selection, criterion: Criterion, *, dissect: bool
) -> Path:
    """Say where the point of a checkpoint is kept: under a name made from all that its numbers depend on.

    That is the content of its files, how its headers and its config.json are understood (`layers` are those that are to
    be read), what of it is asked for, and the program that computes. Raises CouldNotRead when a file has gone.
    """
    made_by = (POINT_VERSION, SKETCH_VERSION, version("jaynes-audit"), KERNEL_NAME, np.__version__, os.uname().machine)
    asked = (tuple(selection.layers), tuple(selection.exclude), selection.sample, criterion, dissect)
    hasher = hashlib.blake2b(repr((made_by, asked)).encode(errors="surrogatepass"), digest_size=DIGEST_BYTES)
    told = (
        *(identity(file) for file in checkpoint.files),
        json.dumps(checkpoint.configs, sort_keys=True, default=repr),
        *(repr((layer.name, layer.part, layer.extent, layer.declared_sd)) for layer in layers),
        *(repr((tensor.name, tensor.stored_as, tensor.shape)) for tensor in checkpoint.tensors),
        repr((sorted(checkpoint.aliases.items()), sorted(checkpoint.undecoded.items()), checkpoint.missing)),
    )
    for each in told:
        hasher.update(f"{len(each)}:{each}".encode(errors="surrogatepass"))
    return platformdirs.user_cache_path("jaynes-audit") / "track" / f"{hasher.hexdigest()}{SUFFIX}"


def restored(path: Path) -> Point | None:
    """Give the point that was kept at a path; None where there is none, or none that is sound."""
    try:
        path = path.expanduser()
        with path.open("rb") as stream:
            checksum, _, content = stream.read(MOST_BYTES).partition(b"\n")
        if checksum != _checksum(content):
            return None
        point = msgspec.json.decode(content, type=Point)
    except (OSError, RuntimeError, ValueError, RecursionError):  # RuntimeError: no home folder; the rest is msgspec's
        return None
    with suppress(OSError):
        os.utime(path)  # it is in use, and not stale
    return point


def keep(path: Path, point: Point) -> str:
    """Keep a point, the whole of it or nothing. Gives a sentence where that was not possible, else "".

    Points in the same folder that nobody has asked for in 30 days go.
    """
    content = msgspec.json.encode(point)
    try:
        path = path.expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.part")
        try:
            draft.write_bytes(_checksum(content) + b"\n" + content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return (
            f"finished checkpoints cannot be kept in {quoted_path(path.parent)} ({reason}), so this run goes on but "
            "could not be resumed; make room, or make the folder writable, to have it resumable"
        )
    _remove_stale(path.parent)
    return ""


def _checksum(content: bytes) -> bytes:
    return xxhash.xxh3_128_hexdigest(content).encode()


def _remove_stale(folder: Path) -> None:
    """Remove what nobody has used for 30 days, and what a kill left half written."""
    oldest = time.time() - KEPT_SECONDS
    with suppress(OSError):
        for path in (*folder.glob(f"*{SUFFIX}"), *folder.glob("*.part")):
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
