"""Inject faults into healthy checkpoints, one at a time, and count what `jaynes gate` finds; and its false alarms.

    python benchmarks/fault_injection.py NETWORKS [--more NAME=FOLDER ...] [--workers N] [--model NAME ...]
                                         [--fault NAME ...] [--format NAME ...] [--every N] [--detail FILE]

from the repository's root, with the folder that make_fault_networks.py made. Prints Markdown: how many faults are found
with a baseline and without one, by fault and size; which are missed; and what is said of healthy re-exports and of
healthy checkpoints. `--detail` keeps every trial as a line of JSON. `--more` adds a folder of safetensors, in two
formats alone.
"""

import argparse
import json
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for benchmarks.faults and tests.support

from benchmarks.faults.files import FORMATS, Format
from benchmarks.faults.healthy import FIXTURES, from_folder, healthy_models
from benchmarks.faults.injections import FAULTS, PLAUSIBLE
from benchmarks.faults.model import Model
from benchmarks.faults.reexports import reexports
from benchmarks.faults.scoring import FalseAlarm, Mode, Trial, alarms, alone, alone_in_file, trials
from jaynes_audit.analyzers.rules import Level

FEW_FORMATS = (FORMATS[2], FORMATS[3])  # of untrained networks and large models: float16, and shards in bfloat16
FOUND = frozenset({Level.ERROR, Level.WARNING})
MOST_SHOWN = 40
SOUND_PICKLES = (
    *("single", "shared", "views", "storages", "nested", "names", "parameters", "module", "frozen", "script"),
    *("lightning", "two_models", "quantised", "sparse", "protocol3", "protocol4", "protocol5", "no_checksums"),
)
"""Of fixtures/pytorch; the others hold every bit pattern there is, what must be refused, or no weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A part of the work: one model in one format, or its re-exports."""

    networks: Path
    more: tuple[tuple[str, Path], ...]
    model: str
    form: Format | None
    faults: tuple[str, ...]
    every: int


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path)
    parser.add_argument("--more", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", action="append", help="these models only")
    parser.add_argument("--fault", action="append", help="these faults only")
    parser.add_argument("--format", action="append", help="these formats only, such as 'safetensors bf16'")
    parser.add_argument("--every", type=int, default=1, help="make one trial of so many, for a quick look")
    parser.add_argument("--detail", type=Path, help="a file for every trial and alarm")
    chosen = parser.parse_args()
    more = tuple((name, Path(folder)) for name, _, folder in (each.partition("=") for each in chosen.more))
    start = time.perf_counter()
    done: list[Trial | FalseAlarm] = []
    with ProcessPoolExecutor(chosen.workers) as pool:
        tasks = [
            task
            for task in _tasks(chosen, more)
            if task.form is None or not chosen.format or task.form.words in chosen.format
        ]
        running = {pool.submit(work, task): task for task in tasks}
        for at, finished in enumerate(as_completed(running), start=1):
            task = running[finished]
            done += finished.result()
            _keep(chosen.detail, finished.result())
            told = task.form.words if task.form else "re-exports"
            print(f"{time.perf_counter() - start:5.0f} s {at}/{len(tasks)} {task.model}, {told}", file=sys.stderr)
    of_files = list(healthy_files())
    done += of_files
    _keep(chosen.detail, of_files)
    tried = [each for each in done if isinstance(each, Trial)]
    print_detection(tried)
    print_totals(tried)
    print_misses(tried)
    print_alarms([each for each in done if isinstance(each, FalseAlarm)])
    print(f"\n{time.perf_counter() - start:.0f} s")


def _keep(path: Path | None, done: Iterable[Trial | FalseAlarm]) -> None:
    """Add to the file of details."""
    if path:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"kind": type(each).__name__, **asdict(each)}) + "\n" for each in done)


def _tasks(chosen: argparse.Namespace, more: tuple[tuple[str, Path], ...]) -> Iterator[Task]:
    large = {name for name, _ in more}
    for name, model in _models(chosen.networks, more).items():
        if chosen.model and name not in chosen.model:
            continue
        for form in (*(FORMATS if model.trained and name not in large else FEW_FORMATS), None):
            yield Task(
                networks=chosen.networks,
                more=more,
                model=name,
                form=form,
                faults=tuple(chosen.fault or (fault.name for fault in FAULTS)),
                every=chosen.every,
            )


@cache
def _models(networks: Path, more: tuple[tuple[str, Path], ...]) -> dict[str, Model]:
    return {
        model.name: model
        for model in (*(from_folder(name, folder) for name, folder in more), *healthy_models(networks))
    }


def work(task: Task) -> list[Trial | FalseAlarm]:
    """Do one part."""
    model = _models(task.networks, task.more)[task.model]
    with tempfile.TemporaryDirectory() as folder:
        if task.form is None:
            return [alarms(each, model.name, Path(folder)) for each in reexports(model)]
        cases = [
            (fault, size)
            for fault in FAULTS
            for size in range(3)
            if fault.name in task.faults and not zlib.crc32(f"{task} {fault.name} {size}".encode()) % task.every
        ]
        return [*alone(model, task.form, Path(folder)), *trials(model, task.form, Path(folder), cases)]


def healthy_files() -> Iterator[FalseAlarm]:
    """Say what is found in every fixture that nobody broke, without a baseline."""
    pickled = (FIXTURES / "pytorch" / f"{name}.pt" for name in SOUND_PICKLES)
    targets = [
        *(FIXTURES / "babble" / name for name in ("bf16", "fp16", "fp32", "step0")),
        *(FIXTURES / "run" / f"checkpoint-{step}" for step in (300, 900, 3000)),
        *sorted((FIXTURES / "digits").glob("*.safetensors")),
        *sorted((FIXTURES / "quantised").glob("*.safetensors")),
        *pickled,
        FIXTURES / "pytorch" / "sharded",
    ]
    for target in targets:
        yield alone_in_file(str(target.relative_to(FIXTURES)), target)


# ---- tables


def print_detection(tried: Sequence[Trial]) -> None:
    """Print how many of each fault and size are found in each mode."""
    print("| fault | size | " + " | ".join(Mode) + " | not possible |")
    print("| --- | --- | " + "---: | " * len(Mode) + "---: |")
    for fault in FAULTS:
        for size, words in enumerate(fault.sizes):
            of_size = [each for each in tried if each.fault == fault.name and each.size == size]
            if of_size:
                cells = " | ".join(_cell(of_size, mode) for mode in Mode)
                skipped = sum(bool(each.skipped) for each in of_size)
                print(f"| {fault.name} | {words} | {cells} | {skipped} |")


def print_totals(tried: Sequence[Trial]) -> None:
    """Print the shares of all trials."""
    print("\n| of all trials | " + " | ".join(Mode) + " |")
    print("| --- | " + "---: | " * len(Mode))
    plausible = [each for each in tried if each.fault in PLAUSIBLE]
    other = [each for each in tried if each.fault not in PLAUSIBLE]
    for words, group, levels in (
        ("error", tried, {Level.ERROR}),
        ("error or warning", tried, FOUND),
        ("any level", tried, set(Level)),
        ("error or warning, weights that another training could have left", plausible, FOUND),
        ("error or warning, other faults", other, FOUND),
    ):
        print(f"| {words} | " + " | ".join(_cell(group, mode, levels, share=True) for mode in Mode) + " |")


def _cell(tried: Iterable[Trial], mode: Mode, levels: Iterable[Level] = FOUND, *, share: bool = False) -> str:
    of_mode = [each.said[mode] for each in tried if mode in each.said]
    if not of_mode:
        return ""
    found = sum(each.level in set(levels) for each in of_mode)
    return f"{found:,} of {len(of_mode):,}" + (f" ({found / len(of_mode):.1%})" if share else "")


def print_misses(tried: Sequence[Trial]) -> None:
    """Print what is missed in each mode with a baseline."""
    for mode in (Mode.BASELINE, Mode.CAST, Mode.TRAINED_ON):
        missed = [each for each in tried if mode in each.said and each.said[mode].level not in FOUND]
        print(f"\nMissed, {mode}: {len(missed):,}")
        for each in missed[:MOST_SHOWN]:
            said = each.said[mode]
            print(f"- {each.model}, {each.form.words}: {each.fault}, size {each.size}: {', '.join(each.named)} {said}")


def print_alarms(found: Sequence[FalseAlarm]) -> None:
    """Print how many findings of each level healthy checkpoints have, and the worst of them."""
    print("\n| healthy | files | with an error | with a warning | with a note | rules |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    by_name: defaultdict[str, list[FalseAlarm]] = defaultdict(list)
    for each in found:
        by_name[each.name].append(each)
    for name, group in by_name.items():
        counts = [_count(group, lambda level, wanted=level: level == wanted) for level in Level]
        rules = Counter(rule for each in group for rule in {finding[1] for finding in each.findings})
        told = ", ".join(f"{rule} in {count}" for rule, count in sorted(rules.items()))
        print(f"| {name} | {len(group)} | {' | '.join(map(str, counts))} | {told} |")
    for each in found:
        for level, rule, subject, sentence in each.findings:
            if level != Level.NOTE:
                print(f"- {each.model}, {each.name}: {level} {rule} {subject}: {sentence}")


def _count(group: Sequence[FalseAlarm], is_level: Callable[[str], bool]) -> int:
    return sum(any(is_level(finding[0]) for finding in each.findings) for each in group)


if __name__ == "__main__":
    main()
