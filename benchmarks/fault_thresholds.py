"""Measure what the thresholds of the rules must stay above: healthy checkpoints, casts, and a step of training.

    python benchmarks/fault_thresholds.py NETWORKS [--more NAME=FOLDER ...]

from the repository's root, with the folder that make_fault_networks.py made. Prints Markdown: of every number that a
rule compares with a threshold, the distribution among healthy layers, and what the mildest fault makes of it.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for benchmarks.faults and tests.support

from benchmarks.faults.files import write
from benchmarks.faults.healthy import from_folder, healthy_models
from benchmarks.faults.model import Model, Stored
from benchmarks.faults.scoring import Measured, measured
from jaynes_audit.analyzers.baseline.entry import Entry
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.roles import ENDS

LEAST_WEIGHTS = 256
MIDDLE = slice(2, -2)  # without the quantiles of the last per cent and less, which chance moves most
FLIPPED = {"BF16": 2.0**128, "F16": 2.0**16}

Row = tuple[str, str]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path)
    parser.add_argument("--more", action="append", default=[], metavar="NAME=FOLDER")
    chosen = parser.parse_args()
    more = [from_folder(name, Path(folder)) for name, _, folder in (each.partition("=") for each in chosen.more)]
    values: defaultdict[Row, list[float]] = defaultdict(list)
    for model in (*more, *healthy_models(chosen.networks)):
        print(model.name, file=sys.stderr, flush=True)
        for row, value in _of_model(model):
            values[row].append(value)
    print("| what | where | layers | median | 99 % | largest |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for (what, where), found in sorted(values.items()):
        quantiles = " | ".join(f"{value:.3g}" for value in np.quantile(found, [0.5, 0.99, 1.0]))
        print(f"| {what} | {where} | {len(found):,} | {quantiles} |")


def _of_model(model: Model) -> Iterator[tuple[Row, float]]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        states = {"fp32": model, "bf16": model.cast("BF16"), "fp16": model.cast("F16")}
        if model.following:
            states["one more step"] = replace(model, tensors=model.following)
        if model.earlier:
            states["half the run"] = replace(model, tensors=model.earlier[0])
        found = {name: measured(write(each, "safetensors", target)) for name, each in states.items()}
    for name in ("fp32", "bf16", "fp16"):
        for layer in found[name].audit:
            yield from _of_layer(layer, name)
        yield from _runaways(states[name].tensors, name)
    before = _entries(found["fp32"])
    for name in found.keys() - {"fp32"}:
        for after in found[name].baseline.entries:
            yield from _of_change(before[after.name], after, name)


def _entries(found: Measured) -> dict[str, Entry]:
    return {entry.name: entry for entry in found.baseline.entries}


def _of_layer(layer: LayerAudit, where: str) -> Iterator[tuple[Row, float]]:
    counts = layer.counts
    if min(layer.rows, layer.columns) < 2 or counts.weights < LEAST_WEIGHTS:  # noqa: PLR2004 - a matrix has two
        return
    if not isinstance(layer.scales, NotFitted):
        kind = "embeddings and heads" if layer.role in ENDS else "other matrices"
        dead = max(layer.scales.zero_rows / layer.rows, layer.scales.zero_columns / layer.columns)
        yield ("share of zero rows or columns (JN104)", f"{kind}, {where}"), dead
    yield ("share of zeros and subnormals (JN106)", where), (counts.zero + counts.subnormal) / counts.weights


def _runaways(tensors: dict[str, Stored], where: str) -> Iterator[tuple[Row, float]]:
    """The share of a matrix's sum of squares in its largest weight, as it is and with a flipped exponent bit."""
    for stored in tensors.values():
        if not stored.is_matrix or stored.weights < LEAST_WEIGHTS:
            continue
        squares = stored.values.astype(np.float64) ** 2
        yield ("share of the sum of squares in one weight (JN111)", where), squares.max() / max(squares.sum(), 1e-300)
        if stored.dtype in FLIPPED and squares.any():
            flipped = np.quantile(squares[squares > 0], 0.01) * FLIPPED[stored.dtype] ** 2
            kept = flipped / (flipped + squares.sum())
            yield ("the rest of it after a flip of the smallest 1 % (JN111)", where), 1 - kept


def _of_change(before: Entry, after: Entry, where: str) -> Iterator[tuple[Row, float]]:
    size = "matrices" if before.rows > 1 and before.columns > 1 else "vectors"
    if before.law and after.law:
        yield ("change of mu (JN402)", f"{where}, {size}"), abs(after.law.mu - before.law.mu)
        relative = abs(after.law.sigma - before.law.sigma) / (before.law.sigma or 1.0)
        if before.law.sigma:
            yield ("relative change of sigma (JN401)", f"{where}, {size}"), relative
            pairs = list(zip(before.law.quantiles, after.law.quantiles, strict=True))[MIDDLE]
            gap = max(abs(one - other) for one, other in pairs) / before.law.sigma
            yield ("gap between quantiles from 5 % to 95 %, in sigmas (JN403)", f"{where}, {size}"), gap
    change = abs(after.zero / after.weights - before.zero / before.weights)
    yield ("change of the share of zeros (JN404)", f"{where}, {size}"), change


if __name__ == "__main__":
    main()
