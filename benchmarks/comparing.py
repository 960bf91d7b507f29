"""Measure the exact comparison of two checkpoints against `cmp`, which only says whether their bytes are equal.

    python benchmarks/comparing.py [--folder DIR] [--rounds N]

writes a bf16 checkpoint of 2 GB, a copy of it and one of which two weights in three are changed by a little, in DIR
(6 GB, once). It warms the page cache, runs every contestant in turn for N rounds, and prints the least time of each,
its ratio to `cmp` on the equal files, and the peak anonymous memory. `compare_exactly` is measured in a process of its
own, on the changed file with and without the rank of the differences. `jaynes compare` also measures both models where
they differ. Two rounds take under three minutes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import checkpoints
import numpy as np
from run import JAYNES, POLL_SECONDS, _anonymous_kib
from threadpoolctl import threadpool_limits

from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.comparison.exact import exact
from jaynes_audit.analyzers.dtypes import FLOATS

ORIGINAL = "llama-bf16"
NOISE_CODES = 1 << 22  # drawn once, for each run of so many weights
LAST_BITS = 3  # 0, 1 or 2 is added to each code, bit by bit


def main() -> None:
    """Write what is missing, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "jaynes-benchmarks")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=3, metavar=("A", "B", "RANK"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        _compare(Path(chosen.one[0]), Path(chosen.one[1]), ranks=chosen.one[2] == "rank")
        return
    original = checkpoints.build(chosen.folder, ORIGINAL)
    equal, changed = (original.with_name(f"{ORIGINAL}-{what}.safetensors") for what in ("equal", "changed"))
    if not equal.exists():
        shutil.copyfile(original, equal)
    if not changed.exists():
        _write_changed(original, changed)
    this = [sys.executable, str(Path(__file__)), "--one", str(original)]
    command = [str(JAYNES), "compare", "-o", "json", "--no-progress", str(original)]
    contestants = {
        "cmp, equal": ["cmp", str(original), str(equal)],
        "jaynes compare, equal": [*command, str(equal)],
        "compare_exactly, equal": [*this, str(equal), "rank"],
        "compare_exactly, changed, no ranks": [*this, str(changed), "no"],
        "compare_exactly, changed": [*this, str(changed), "rank"],
        "jaynes compare, changed": [*command, str(changed)],
    }
    for file in (original, equal, changed):
        subprocess.run(["cat", str(file)], stdout=subprocess.DEVNULL, check=True)
    least = dict.fromkeys(contestants, float("inf"))
    peak = dict.fromkeys(contestants, 0)
    for _ in range(chosen.rounds):
        for name, arguments in contestants.items():
            seconds, kib = _measured(arguments)
            least[name], peak[name] = min(least[name], seconds), max(peak[name], kib)
    first = next(iter(least.values()))
    print(f"two files of {original.stat().st_size / 1e9:.1f} GB (least of {chosen.rounds})")
    for name, seconds in least.items():
        print(f"  {name:34} {seconds:8.2f} s  {seconds / first:6.2f} x  {peak[name] / 1024:5.0f} MiB")


def _measured(arguments: list[str]) -> tuple[float, int]:
    """Time a command, and watch its memory."""
    peak = 0
    start = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous_kib(process.pid))
            time.sleep(POLL_SECONDS)
    return time.perf_counter() - start, peak


def _write_changed(original: Path, changed: Path) -> None:
    rng = np.random.default_rng(checkpoints.SEED)
    noise = rng.integers(0, LAST_BITS, NOISE_CODES, np.uint16)
    stored = np.memmap(original, np.uint8, "r")
    data = 8 + int.from_bytes(stored[:8].tobytes(), "little")
    unfinished = changed.with_name(f"{changed.name}.unfinished")
    with unfinished.open("wb") as stream:
        stream.write(memoryview(stored[:data]))
        codes = stored[data:].view("<u2")
        for start in range(0, codes.size, NOISE_CODES):
            run = codes[start : start + NOISE_CODES]
            stream.write(memoryview(run ^ noise[: run.size]))
    unfinished.rename(changed)


def _compare(a: Path, b: Path, *, ranks: bool) -> None:
    """Compare two files as a user of the Python API would, and say in a line what came out."""
    if not ranks:
        exact.RANKED_WEIGHTS = 0
    layers_a, layers_b = _layers(a), _layers(b)
    with threadpool_limits(1, "blas"):  # as `compare` does
        outcomes = exact.compare_exactly([(layer, layers_b[name]) for name, layer in layers_a.items()])
    print(f"{len(outcomes)} layers, the first: {outcomes[0]}")


def _layers(file: Path) -> dict[str, Layer]:
    checkpoint = open_checkpoint(str(file))
    tensors = [tensor for tensor in checkpoint.tensors if tensor.dtype in FLOATS]
    return {layer.name: layer for tensor in tensors for layer in layers_of(tensor, {})}


if __name__ == "__main__":
    main()
