"""How much memory the reading of layers takes, and how many threads fit into what it may take.

The estimates bound the anonymous memory of the whole process from above, as benchmarks/memory.py measures it. Pages of
memory-mapped files are not in them: they are the system's, which takes them back when it needs them.
"""

import os
from collections.abc import Collection
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.windows import Banded, Io
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.dtypes import BITS
from jaynes_audit.analyzers.engine import TASKS_PER_WORKER
from jaynes_audit.analyzers.errors import UsageError

CONNECTIONS = 6  # to a server at once; more hold more memory and do not go faster
USUAL_BYTES = 1 << 30
MEBIBYTE = 1 << 20

PROCESS_BYTES = 112 * MEBIBYTE
LAYER_BYTES = 16 << 10
RESULT_BYTES = 4 * MEBIBYTE  # of a layer of float32 all of whose magnitudes occur in all blocks of its rows
AXIS_BYTES = 64 + 8 * TASKS_PER_WORKER  # scales of each row and column, and sums of squares of the results that wait
CHUNKS = 14  # that a thread holds which takes a layer apart: joined, widened and parted rows, and its counting tables
DECODED_CHUNKS = 16  # codes, scales and their products
STREAMED_BYTES = 32 * MEBIBYTE  # windows that come and that go, and the buffers of a connection


def is_streamed(files: Collection[Place]) -> bool:
    """Whether bytes of any of these files come over the network as they are read."""
    return any(not isinstance(file, Path) and file.is_streamed for file in files)


def usual_threads(files: Collection[Place]) -> int:
    """Give the number of threads that read best: one per core, and six where bytes come over the network."""
    return CONNECTIONS if is_streamed(files) else os.cpu_count() or 1


def held_bytes(layers: Collection[Layer]) -> int:
    """Bound what the process holds beside its threads, in bytes: itself, and all that is known of the layers."""
    return PROCESS_BYTES + LAYER_BYTES * len(layers)


def thread_bytes(layers: Collection[Layer], files: Collection[Place], io: Io) -> int:
    """Bound what a thread holds that reads, sketches and takes apart any of these layers, in bytes."""
    results = TASKS_PER_WORKER * RESULT_BYTES
    chunk = max(map(_chunk_bytes, layers), default=0)
    buffers = len(files) * chunk if io is Io.PREAD else 0  # one for every file
    streamed = STREAMED_BYTES if is_streamed(files) else 0
    return results + max(map(_reading_bytes, layers), default=0) + buffers + streamed


def threads_within(most_bytes: int | None, *, held: int, thread: int, wanted: int) -> int:
    """Say how many of the wanted threads fit into `most_bytes` beside what is held, in bytes each.

    None stands for a gibibyte, and for what one thread takes where that is more. Raises UsageError where less was
    given than one thread takes.
    """
    least = held + thread
    if most_bytes is not None and most_bytes < least:
        raise UsageError(
            f"--max-memory of {most_bytes:,} bytes is less than one thread may take: {_mebibytes(least):,} MiB, "
            f"{_mebibytes(held):,} MiB of it for all but the thread; give --max-memory {_mebibytes(least)}MiB, or more"
        )
    room = (USUAL_BYTES if most_bytes is None else most_bytes) - held
    return max(1, min(wanted, room // thread))


def _mebibytes(size: int) -> int:
    return -(-size // MEBIBYTE)


def _chunk_bytes(layer: Layer) -> int:
    return max(MEBIBYTE, layer.extent.chunk_rows * layer.extent.row_bits // 8)


def _reading_bytes(layer: Layer) -> int:
    extent, chunk = layer.extent, _chunk_bytes(layer)
    axes = AXIS_BYTES * (extent.rows + extent.columns) if extent.scaled else 0
    return CHUNKS * chunk + axes + _decoding_bytes(layer, chunk)


def _decoding_bytes(layer: Layer, chunk: int) -> int:
    decoder = layer.tensor.decoder
    if decoder is None:
        return 0
    if not isinstance(decoder, Banded):
        return DECODED_CHUNKS * chunk
    element_bytes = max(1, BITS[layer.tensor.dtype] // 8)
    first, stop = decoder.at_once(0, min(chunk, layer.tensor.bytes) // element_bytes)
    return (stop - first) * element_bytes + DECODED_CHUNKS * chunk
