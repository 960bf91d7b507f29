"""Measure the audit against the machine's own limits and against what a user would write, side by side.

    python benchmarks/run.py [--folder DIR] [--rounds N] [--torch-python PYTHON]

builds the checkpoints of checkpoints.py in DIR (3.4 GB, once), warms the page cache, runs every contestant in turn for
N rounds and prints the least time of each and the ratios. The least, because what a shared machine adds is never
negative. PYTHON is an interpreter that has torch; without it that row is left out, and says so.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import checkpoints
import numpy as np

from jaynes_audit.analyzers.sketch import _kernel_numpy
from jaynes_audit.analyzers.sketch.kernel import KERNEL, KERNEL_NAME

HERE = Path(__file__).parent
JAYNES = Path(sysconfig.get_path("scripts")) / "jaynes"
POLL_SECONDS = 0.002
KERNEL_WEIGHTS = 1 << 19  # a mebibyte of bf16: what the audit hands to the kernel at a time
KERNEL_REPEATS = 3000  # some seconds: a shared machine has slow and fast ones


def main() -> None:
    """Run all comparisons and print their table."""
    arguments = _arguments()
    files = {name: checkpoints.build(arguments.folder, name) for name in checkpoints.RECIPES}
    for name in ("llama-bf16", "llama-f32"):
        _compare(name, _contestants(files[name], arguments.torch_python), arguments.rounds)
    _compare("46,000 tensors of 64 x 64", {"jaynes": _audit(files["experts"])}, 1)
    _memory(files["llama-bf16"])
    _kernel()
    startup = {"python -c pass": [sys.executable, "-c", "pass"], "jaynes --help": [str(JAYNES), "--help"]}
    _compare("start-up", startup, 5 * arguments.rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "jaynes-benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-python", type=Path)
    return parser.parse_args()


def _audit(file: Path) -> list[str]:
    return [str(JAYNES), "audit", "-o", "json", "--no-progress", str(file)]


def _contestants(file: Path, torch_python: Path | None) -> dict[str, list[str]]:
    contestants = {
        "cat FILE > /dev/null": ["cat", str(file)],
        "jaynes audit -o json": _audit(file),
        "jaynes, NumPy kernel": ["env", "JAYNES_KERNEL=numpy", *_audit(file)],
        "numpy script": [sys.executable, str(HERE / "numpy_script.py"), str(file)],
    }
    if torch_python:
        contestants["torch script"] = [str(torch_python), str(HERE / "torch_script.py"), str(file)]
    else:
        print("torch script: left out, no --torch-python was given")
    return contestants


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _compare(title: str, contestants: Mapping[str, list[str]], rounds: int) -> None:
    least = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, command in contestants.items():
            least[name] = min(least[name], _seconds(command))
    first = next(iter(least.values()))
    print(f"\n{title} (least of {rounds})")
    for name, seconds in least.items():
        print(f"  {name:24} {seconds:8.3f} s  {seconds / first:6.2f} x")


def _memory(file: Path) -> None:
    with subprocess.Popen(_audit(file), stdout=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _anonymous_kib(process.pid))
            time.sleep(POLL_SECONDS)
    print(f"\npeak anonymous memory of the audit of {file.name}: {peak / 1024:.0f} MiB")


def _anonymous_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def _kernel() -> None:
    rng = np.random.default_rng(checkpoints.SEED)
    values = rng.standard_normal(KERNEL_WEIGHTS, dtype=np.float32)
    halves = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16).reshape(-1, 2048)
    rows, columns = halves.shape
    sums = np.zeros(rows), np.zeros(columns)
    tables, facts = np.zeros((2, 65536), np.uint32), np.zeros((), _kernel_numpy.FACTS)
    contestants: dict[str, Callable[[], object]] = {
        f"{KERNEL_NAME} kernel, bf16": lambda: KERNEL.count(
            _kernel_numpy.BF16, halves, rows, columns, tables, *sums, facts
        ),
        f"{KERNEL_NAME} kernel, f32": lambda: KERNEL.count(
            _kernel_numpy.F32, values, rows, columns, tables, *sums, facts
        ),
        "plain sum of the bf16 codes": halves.sum,
    }
    print(f"\nkernel on one core, {KERNEL_WEIGHTS:,} weights in cache (best of {KERNEL_REPEATS})")
    for name, work in contestants.items():
        best = float("inf")
        for _ in range(KERNEL_REPEATS):
            start = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - start)
        print(f"  {name:28} {KERNEL_WEIGHTS / best / 1e9:6.2f}e9 weights/s")


if __name__ == "__main__":
    main()
