"""Judge layers of weights whose law is known, and count how often the verdict is right.

    python benchmarks/calibration.py [--layers N] [--coverage N] [--jobs N] [--sizes N ...] [--dtypes NAME ...]

draws N matrices of every law of synthetic_layers.py and every size, stores each in every format, judges them as the
audit does and prints Markdown: the verdicts by law, where the formats differ, and how near the layers come to the
thresholds of a lognormal. Then it draws --coverage matrices of known log-moments and counts how often the 95 %
intervals hold the true value. The figures depend on the seed alone, not on --jobs; docs/calibration.md explains them.
"""

import argparse
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
import numpy.typing as npt
from synthetic_layers import LAWS, POPULATIONS, RMS, STORAGES, USUAL_STORAGES, Law, Shape, chunks, generator

from jaynes_audit.analyzers.anatomy import Anatomy, anatomy
from jaynes_audit.analyzers.audit import NOT_DISSECTED
from jaynes_audit.analyzers.chunks import Stored
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_with_errors
from jaynes_audit.analyzers.distributions.moments import (
    JACKKNIFE_FACTOR,
    NORMAL_FACTOR,
    LogMomentErrors,
    LogMoments,
    NotFitted,
)
from jaynes_audit.analyzers.distributions.ranking import Ranking, rank
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.engine import in_order
from jaynes_audit.analyzers.layer_audit import residual_of
from jaynes_audit.analyzers.layer_verdict import (
    LOGNORMAL_DIVERGENCE,
    LOGNORMAL_SKEWNESS,
    MIXTURE_DIVERGENCE,
    Residual,
    VerdictKind,
    judge,
    looks_lognormal,
)
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.sketch import Sketch, sketch

SHAPES: dict[int, Shape] = {10_000: (100, 100), 100_000: (250, 400), 1_000_000: (1000, 1000)}
LAYERS_PER_TASK = 25  # held at once, in every format, and judged together
DIFFERENT = 0.01  # share of right verdicts by which two formats must differ to be listed
LOGNORMAL_LAWS = {law.name for law in LAWS if Family.LOGNORMAL in law.right}
VERDICTS = dict.fromkeys([*(str(each) for each in Family), *(str(each) for each in VerdictKind)])
CAUTIOUS = {VerdictKind.UNDECIDED, VerdictKind.DEGENERATE, VerdictKind.NOT_FITTED}

COVERED_SHAPES: tuple[Shape, ...] = ((128, 512), (512, 512))
PARAMETERS = ("mu", "sigma", "skewness")

OF_VERDICTS, OF_COVERAGE = 0, 1  # the first key of their random numbers

Floats = npt.NDArray[np.float64]


class Outcome(StrEnum):
    """What a verdict is worth. One that commits itself to nothing is not wrong."""

    RIGHT = "right"
    UNDECIDED = "undecided"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was said of one layer in one format.

    `doubt` is what an undecided verdict could not decide. `skewness` is that of the stored ln|w|, `excess_skewness` the
    part of it that rounding to zero does not explain. `best` tells whether no family fits better than the lognormal,
    `divergence` what the lognormal leaves unexplained, in nats per weight.
    """

    law: str
    storage: str
    verdict: str
    doubt: str
    outcome: Outcome
    zero_share: float
    skewness: float
    excess_skewness: float
    best: bool
    divergence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _VerdictTask:
    """Layers of one law and size, to be judged in several formats."""

    law: int
    weights: int
    layers: range
    storages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _CoverageTask:
    """Layers of one population and shape, whose log-moments are to be estimated."""

    population: int
    shape: Shape
    layers: range


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Estimates:
    """Estimated less true log-moments, and half the widths of their 95 % intervals; shape (layers, parameters).

    The naive intervals take the weights for independent.
    """

    deviations: Floats
    half_widths: Floats
    naive_half_widths: Floats


def main() -> None:
    """Print all tables."""
    arguments = _arguments()
    with ProcessPoolExecutor(arguments.jobs) as executor:
        for weights in arguments.sizes:
            start = time.perf_counter()
            tasks = _verdict_tasks(weights, arguments.layers, tuple(arguments.dtypes))
            of_tasks = in_order(_judged, tasks, executor=executor, workers=arguments.jobs)
            judgements = [each for of_task in of_tasks for each in of_task]
            rows, columns = SHAPES[weights]
            seconds = time.perf_counter() - start
            print(f"\n## {rows} x {columns} weights: {len(judgements):,} verdicts in {seconds:.0f} s")
            _print_verdicts(judgements)
            _print_formats(judgements)
            _print_thresholds(judgements)
        if arguments.coverage:
            _print_coverage(arguments.coverage, executor, arguments.jobs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=500, help="of each law and size")
    parser.add_argument(
        "--coverage", type=int, default=2000, help="layers of each population and shape; 0 for no table"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--sizes", type=int, nargs="*", choices=SHAPES, default=list(SHAPES), help="weights of a layer")
    parser.add_argument("--dtypes", nargs="+", choices=STORAGES, default=USUAL_STORAGES)
    return parser.parse_args()


def _batches(layers: int) -> list[range]:
    return [range(first, min(first + LAYERS_PER_TASK, layers)) for first in range(0, layers, LAYERS_PER_TASK)]


def _extent(shape: Shape, dtype: Dtype) -> Extent:
    rows, columns = shape
    return Extent(rows=rows, columns=columns, dtype=dtype, scaled=True)


# ---- verdicts


def _verdict_tasks(weights: int, layers: int, storages: tuple[str, ...]) -> list[_VerdictTask]:
    return [
        _VerdictTask(law=law, weights=weights, layers=batch, storages=storages)
        for law in range(len(LAWS))
        for batch in _batches(layers)
    ]


def _judged(task: _VerdictTask) -> list[Judgement]:
    """Judge layers as `audit_checkpoint` does."""
    law, shape = LAWS[task.law], SHAPES[task.weights]
    generators = [generator(OF_VERDICTS, task.law, task.weights, layer) for layer in task.layers]
    matrices = [(law.draw(rng, shape) * (RMS / law.rms)).astype(np.float32) for rng in generators]
    storages = [STORAGES[name] for name in task.storages for _ in matrices]
    stored = [STORAGES[name].store(matrix) for name in task.storages for matrix in matrices]
    extents = [_extent(shape, storage.dtype) for storage in storages]
    sketches = [sketch(chunks(each, extent), extent) for each, extent in zip(stored, extents, strict=True)]
    fits = [fit for fit, _ in fit_with_errors(sketches)]
    rankings = rank([each.histogram.magnitudes for each in sketches])
    residuals = _residuals(stored, extents, sketches, rankings)
    return [
        _judgement(law, storage.name, summary, fit=fit, ranking=ranking, residual=residual)
        for storage, summary, fit, ranking, residual in zip(storages, sketches, fits, rankings, residuals, strict=True)
    ]


def _residuals(
    stored: Sequence[Stored],
    extents: Sequence[Extent],
    sketches: Sequence[Sketch],
    rankings: Sequence[Ranking | NotFitted],
) -> list[Residual | NotFitted]:
    """Take apart the layers that are near a lognormal. Ranked together, which takes less time and changes nothing."""
    taken_apart = [
        anatomy(partial(chunks, each, extent), extent) if looks_lognormal(ranking) else NOT_DISSECTED
        for each, extent, ranking in zip(stored, extents, rankings, strict=True)
    ]
    ranked = iter(rank([each.residual_magnitudes for each in taken_apart if isinstance(each, Anatomy)]))
    return [
        residual_of(
            ranking,
            each,
            next(ranked) if isinstance(each, Anatomy) else each,
            dtype=extent.dtype,
            shape=(extent.rows, extent.columns),
            zero_share=summary.histogram.special.zero / extent.weights,
        )
        for each, extent, summary, ranking in zip(taken_apart, extents, sketches, rankings, strict=True)
    ]


def _judgement(
    law: Law,
    storage: str,
    summary: Sketch,
    *,
    fit: LognormalFit | NotFitted,
    ranking: Ranking | NotFitted,
    residual: Residual | NotFitted,
) -> Judgement:
    if isinstance(fit, NotFitted) or isinstance(ranking, NotFitted):
        raise TypeError(f"every law can be fitted, and this was not: {law.name} in {storage}")
    special = summary.histogram.special
    zero_share = special.zero / special.weights
    distinct = summary.histogram.magnitudes.codes.size
    verdict = judge(fit, ranking, residual, zero_share=zero_share, distinct=distinct)
    if verdict.name in law.right:
        outcome = Outcome.RIGHT
    else:
        outcome = Outcome.UNDECIDED if verdict.kind in CAUTIOUS else Outcome.WRONG
    if verdict.kind is VerdictKind.DEGENERATE:
        doubt = verdict.name
    elif ranking.tied_with:
        doubt = " or ".join(sorted({ranking.winner.family, *ranking.tied_with}))
    else:
        doubt = verdict.reason.partition(":")[0]
    return Judgement(
        law=law.name,
        storage=storage,
        verdict=verdict.name,
        doubt=doubt,
        outcome=outcome,
        zero_share=zero_share,
        skewness=fit.moments.skewness,
        excess_skewness=fit.moments.skewness - ranking.lognormal_skewness,
        best=ranking.winner.family is Family.LOGNORMAL and not ranking.tied_with,
        divergence=ranking.lognormal.divergence,
    )


def _print_verdicts(judgements: Sequence[Judgement]) -> None:
    given = {each.verdict for each in judgements}
    verdicts = [name for name in VERDICTS if name in given]
    _print_head("Verdicts in all formats, in % of the layers.", ["law", *verdicts, "right", "wrong"])
    for law, of_law in _grouped(judgements, lambda each: each.law).items():
        shares = [_share(each.verdict == verdict for each in of_law) for verdict in verdicts]
        shares += [_share(each.outcome is outcome for each in of_law) for outcome in (Outcome.RIGHT, Outcome.WRONG)]
        _print_row(law, *(_percent(share) if share else "" for share in shares))
    others = [each for each in judgements if each.law not in LOGNORMAL_LAWS]
    wrong = Counter(f"{each.law}, {each.storage}" for each in others if each.verdict == VerdictKind.LOGNORMAL)
    print(f"\nOf {len(others):,} layers of another law {wrong.total():,} are called lognormal.")
    _print_counts(wrong)
    doubts = Counter(f"{each.law}: {each.doubt}" for each in judgements if each.outcome is Outcome.UNDECIDED)
    print(f"\nOf all {len(judgements):,} layers {doubts.total():,} are undecided or degenerate.")
    _print_counts(doubts)


def _print_formats(judgements: Sequence[Judgement]) -> None:
    title = "By format, where they differ: verdicts in %, mean share of zeros, mean skewness of what is stored."
    _print_head(title, ["law", "format", "verdicts", "zeros", "skewness"])
    for law, of_law in _grouped(judgements, lambda each: each.law).items():
        by_format = _grouped(of_law, lambda each: each.storage)
        right = [_share(each.outcome is Outcome.RIGHT for each in of_format) for of_format in by_format.values()]
        if max(right) - min(right) <= DIFFERENT:
            continue
        for storage, of_format in by_format.items():
            verdicts = Counter(each.verdict for each in of_format).most_common()
            said = ", ".join(f"{verdict} {_percent(number / len(of_format))}" for verdict, number in verdicts)
            zeros = np.mean([each.zero_share for each in of_format])
            skewness = np.mean([each.skewness for each in of_format])
            _print_row(law, storage, said, f"{zeros:.2%}", f"{skewness:.3f}")


def _print_thresholds(judgements: Sequence[Judgement]) -> None:
    """Print how much room the thresholds leave on either side."""
    title = (
        "The lognormal: how often it is the best, in %; what it leaves unexplained, least to greatest, where it is and "
        f"where it is not ({LOGNORMAL_DIVERGENCE} to be called so, {MIXTURE_DIVERGENCE} to be taken apart); "
        f"and, where it is, the skewness that it does not explain (below {LOGNORMAL_SKEWNESS} in size)."
    )
    _print_head(title, ["law", "best", "psi where it is", "psi where not", "skewness"])
    for law, of_law in _grouped(judgements, lambda each: each.law).items():
        best = [each for each in of_law if each.best]
        _print_row(
            law,
            _percent(len(best) / len(of_law)),
            _range([each.divergence for each in best]),
            _range([each.divergence for each in of_law if not each.best]),
            _range([each.excess_skewness for each in best]),
        )


# ---- coverage


def _estimated(task: _CoverageTask) -> _Estimates:
    population = POPULATIONS[task.population]
    extent = _extent(task.shape, Dtype.BF16)
    sketches: list[Sketch] = []
    for layer in task.layers:
        rng = generator(OF_COVERAGE, task.population, task.shape[0], layer)
        stored = STORAGES["bf16"].store(population.draw(rng, task.shape).astype(np.float32))
        sketches.append(sketch(chunks(stored, extent), extent))
    truth = population.log_mean, population.log_sigma, population.skewness
    fitted = fit_with_errors(sketches)
    fits = [(fit.moments, errors) for fit, errors in fitted if isinstance(errors, LogMomentErrors)]
    return _Estimates(
        deviations=np.array([np.subtract(_parameters(moments), truth) for moments, _ in fits]),
        half_widths=np.array([np.multiply(_parameters(errors), errors.interval_factor) for _, errors in fits]),
        naive_half_widths=np.array([_naive_half_widths(moments) for moments, _ in fits]),
    )


def _parameters(of_layer: LogMoments | LogMomentErrors) -> tuple[float, float, float]:
    return of_layer.log_mean, of_layer.log_sigma, of_layer.skewness


def _naive_half_widths(moments: LogMoments) -> Floats:
    """Give those of independent weights; for the skewness, of a normal ln|w|."""
    n, sigma = moments.weights, moments.log_sigma
    sigma_error = sigma * math.sqrt((moments.excess_kurtosis + 2) / (4 * n))
    return NORMAL_FACTOR * np.array([sigma / math.sqrt(n), sigma_error, math.sqrt(6 / n)])


def _print_coverage(layers: int, executor: Executor, jobs: int) -> None:
    start = time.perf_counter()
    tasks = [
        _CoverageTask(population=population, shape=shape, layers=batch)
        for population in range(len(POPULATIONS))
        for shape in COVERED_SHAPES
        for batch in _batches(layers)
    ]
    gathered: dict[tuple[int, Shape], list[_Estimates]] = {}
    for task, estimates in zip(tasks, in_order(_estimated, tasks, executor=executor, workers=jobs), strict=True):
        gathered.setdefault((task.population, task.shape), []).append(estimates)
    results = {of_layers: _joined(parts) for of_layers, parts in gathered.items()}
    print(f"\n## Coverage: {layers:,} layers of each kind in {time.perf_counter() - start:.0f} s")

    title = "Intervals that hold the true value, in %; in brackets those that take the weights for independent."
    _print_head(title, ["law", "matrix", *PARAMETERS])
    for (population, shape), each in results.items():
        printed = np.mean(np.abs(each.deviations) <= each.half_widths, axis=0)
        naive = np.mean(np.abs(each.deviations) <= each.naive_half_widths, axis=0)
        cells = [f"{100 * one:.1f} ({100 * other:.1f})" for one, other in zip(printed, naive, strict=True)]
        _print_row(POPULATIONS[population].name, f"{shape[0]} x {shape[1]}", *cells)

    title = "Bias of the estimate, and width of the printed interval over the one that would be right, in sd and in %."
    _print_head(title, ["law", "matrix", *PARAMETERS])
    for (population, shape), each in results.items():
        sd = each.deviations.std(axis=0)
        biases = each.deviations.mean(axis=0) / sd
        widths = np.median(each.half_widths, axis=0) / (JACKKNIFE_FACTOR * sd)
        cells = [f"{bias:+.2f}, {100 * width:.0f}" for bias, width in zip(biases, widths, strict=True)]
        _print_row(POPULATIONS[population].name, f"{shape[0]} x {shape[1]}", *cells)


def _joined(parts: Sequence[_Estimates]) -> _Estimates:
    return _Estimates(
        deviations=np.concatenate([each.deviations for each in parts]),
        half_widths=np.concatenate([each.half_widths for each in parts]),
        naive_half_widths=np.concatenate([each.naive_half_widths for each in parts]),
    )


# ---- Markdown


def _print_head(title: str, columns: Sequence[str]) -> None:
    print(f"\n{title}\n")
    _print_row(*columns)
    _print_row(*("---" for _ in columns))


def _print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def _print_counts(counts: Counter[str]) -> None:
    for what, number in counts.most_common():
        print(f"- {what}: {number:,}")


def _grouped(judgements: Iterable[Judgement], key: Callable[[Judgement], str]) -> dict[str, list[Judgement]]:
    groups: dict[str, list[Judgement]] = {}
    for each in judgements:
        groups.setdefault(key(each), []).append(each)
    return groups


def _share(those: Iterable[bool]) -> float:
    return float(np.mean(list(those)))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _range(numbers: Sequence[float]) -> str:
    return f"{min(numbers):.4f} to {max(numbers):.4f}" if numbers else ""


if __name__ == "__main__":
    main()
