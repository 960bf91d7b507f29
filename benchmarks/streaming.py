"""Measure an audit over the network against a plain download of the same ranges, and the memory of a large one.

    python benchmarks/streaming.py [--gigabytes N] [--rounds N]

serves a synthetic checkpoint, stored nowhere, from a loopback Hub in a process of its own. In turn the bytes of all its
tensors are fetched by huggingface_hub's client in ranges of 16 MiB over eight connections and thrown away, and audited
with `--stream`. Then 1/350 of a checkpoint of 700 GB and 90,000 tensors is audited, and the peak memory printed. Run it
from the repository's root: the Hub is that of the tests.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from threading import local

sys.path.insert(0, str(Path(__file__).parent.parent))  # for tests.support.hub

JAYNES = Path(sysconfig.get_path("scripts")) / "jaynes"
CONNECTIONS = 8
RANGE_BYTES = 16 << 20
START_SECONDS = 60
BILLION = 1_000_000_000
MODEL, GIANT = "bench/model", "bench/giant"
TENSORS = 250
GIANT_BYTES, GIANT_TENSORS, GIANT_SHARDS = 700 * BILLION, 90_000, 157
A_PART = "*.layers.3.mlp.experts.1?.*"


def main() -> None:
    """Run both comparisons and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    hub = multiprocessing.Process(target=_serve, args=(theirs, int(chosen.gigabytes * BILLION)), daemon=True)
    hub.start()
    if not ours.poll(START_SECONDS):
        sys.exit("the loopback Hub did not start")
    endpoint = ours.recv()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HF_ENDPOINT": endpoint, "HF_HOME": home, "XDG_CACHE_HOME": home}
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        _rates(chosen.rounds)
        _giant()
    ours.send("stop")
    hub.join()


def _serve(pipe: Connection, size: int) -> None:
    from tests.support.hub import LoopbackHub, synthetic_checkpoint

    with LoopbackHub() as hub:
        hub.commit(MODEL, synthetic_checkpoint(size, tensors=TENSORS, shards=4))
        hub.commit(GIANT, synthetic_checkpoint(GIANT_BYTES, tensors=GIANT_TENSORS, shards=GIANT_SHARDS))
        pipe.send(hub.endpoint)
        pipe.recv()


def _rates(rounds: int) -> None:
    from jaynes_audit.analyzers.audit import audit_checkpoint
    from jaynes_audit.analyzers.checkpoints import HubAccess, open_checkpoint
    from jaynes_audit.analyzers.checkpoints.hub.place import Mode

    checkpoint = open_checkpoint(MODEL, HubAccess(mode=Mode.STREAM))
    size = sum(tensor.stored_bytes for tensor in checkpoint.tensors)
    ranges = [
        (file.file.path, start, min(start + RANGE_BYTES, file.file.size_bytes))
        for file in checkpoint.files
        for start in range(0, file.file.size_bytes, RANGE_BYTES)
    ]
    command = [str(JAYNES), "audit", MODEL, "--stream", "-o", "json"]
    contestants = {
        "plain download": lambda: _download(ranges, checkpoint.commit),
        "audit": lambda: audit_checkpoint(checkpoint),
        "jaynes audit --stream": lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True),
    }
    least = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            least[name] = min(least[name], time.perf_counter() - start)
    print(f"{size / BILLION:.1f} GB, least of {rounds}; the Hub shares the machine")
    for name, seconds in least.items():
        rate = size / 1e6 / seconds
        print(f"  {name:22} {seconds:7.2f} s  {rate:6.0f} MB/s  {least['plain download'] / seconds:5.2f} x")


class _Signed(local):
    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.buffer = bytearray(RANGE_BYTES)


def _download(ranges: list[tuple[str, int, int]], commit: str) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import get_session

    signed = {
        path: get_hf_file_metadata(hf_hub_url(MODEL, path, revision=commit)).location
        for path in dict.fromkeys(path for path, _, _ in ranges)
    }
    of_thread = _Signed()

    def fetch(part: tuple[str, int, int]) -> int:
        path, start, end = part
        at = 0
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with get_session().stream("GET", signed[path], headers=headers, timeout=30) as answer:
            for piece in answer.iter_raw():
                of_thread.buffer[at : at + len(piece)] = piece
                at += len(piece)
        return at

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        fetched = sum(threads.map(fetch, ranges))
    assert fetched == sum(end - start for _, start, end in ranges)


def _giant() -> None:
    command = [str(JAYNES), "audit", GIANT, "--stream", "--layers", A_PART, "-o", "json=/dev/null", "-o", "table"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident_kib(process.pid))
            time.sleep(0.01)
        said = process.stdout.read().splitlines()
    seconds = time.perf_counter() - start
    print(f"\n700 GB, 90,000 tensors, {A_PART}: exit {process.returncode}, {seconds:.0f} s, peak RSS {peak >> 10} MiB")
    print("  " + "\n  ".join(line for line in said if line.startswith("Analysed")))


def _resident_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)


if __name__ == "__main__":
    main()
