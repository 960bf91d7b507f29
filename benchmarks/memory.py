"""Measure the memory of audits against what --max-memory allows them.

    python benchmarks/memory.py [--folder DIR]

builds the checkpoints of checkpoints.py in DIR (3.4 GB, once) and audits them with --max-memory and -j 64. The peak of
anonymous memory (RssAnon of /proc/PID/status, polled) is printed beside the size that was given, and the script fails
where it is above it. Pages of memory-mapped files are not counted: the system takes them back when it needs them; the
peak of all resident pages (VmHWM) is printed as well.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import checkpoints

JAYNES = Path(sysconfig.get_path("scripts")) / "jaynes"
POLL_SECONDS = 0.002
RUNS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("llama-bf16", 160, ()),
    ("llama-bf16", 512, ()),
    ("llama-bf16", 512, ("--io", "pread")),
    ("llama-bf16", 512, ("--anatomy",)),
    ("llama-f32", 256, ()),
    ("experts", 1024, ()),
)
"""Checkpoint, MiB that are given, and further options."""


def main() -> None:
    """Run every audit and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "jaynes-benchmarks")
    folder = parser.parse_args().folder
    print("| checkpoint | options | given | anonymous memory | resident, with mapped pages |")
    print("|---|---|---:|---:|---:|")
    above = 0
    for name, given, options in RUNS:
        anonymous, resident = _peaks(checkpoints.build(folder, name), given, options)
        print(f"| {name} | {' '.join(options)} | {given} MiB | {anonymous:.0f} MiB | {resident:.0f} MiB |", flush=True)
        above += anonymous > given
    sys.exit(f"{above} of {len(RUNS)} took more than was given" if above else 0)


def _peaks(file: Path, given: int, options: tuple[str, ...]) -> tuple[float, float]:
    command = [str(JAYNES), "audit", "-o", "json", "--no-progress", "--no-config", "--no-resume", "-j", "64"]
    command += ["--max-memory", f"{given}MiB", *options, str(file)]
    anonymous = resident = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            anonymous = max(anonymous, _kibibytes(process.pid, "RssAnon"))
            resident = max(resident, _kibibytes(process.pid, "VmHWM"))
            time.sleep(POLL_SECONDS)
    if process.returncode > 1:
        sys.exit(f"the audit of {file.name} ended with status {process.returncode}")
    return anonymous / 1024, resident / 1024


def _kibibytes(pid: int, what: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(what)), 0)


if __name__ == "__main__":
    main()
