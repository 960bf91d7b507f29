"""Fit the same layers with this project, with npm-weibull-py and with scipy, and compare what they say.

    python benchmarks/peers.py --peer-python PYTHON [CHECKPOINT ...]

PYTHON is an interpreter that has npm-weibull-py 0.4.0. The layers are one of each law of synthetic_layers.py, and the
highly connected matrices of fixtures/babble/fp32 and of the CHECKPOINTs, all float32. Each tool gets one matrix at a
time, in memory, and is timed from there. Prints Markdown; docs/peers.md explains it.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from scipy import stats
from synthetic_layers import LAWS, RMS, chunks, generator

import jaynes_audit
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit, fit_with_errors
from jaynes_audit.analyzers.distributions.ranking import Ranking, rank
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.sketch import sketch

HERE = Path(__file__).parent
BABBLE = HERE.parent / "fixtures" / "babble" / "fp32"
SYNTHETIC = "synthetic"
SYNTHETIC_SHAPE = (250, 400)
OF_PEERS = 2  # the first key of their random numbers; the calibration's are 0 and 1

NPM_FAMILIES = {"weibull": Family.WEIBULL, "lognormal": Family.LOGNORMAL, "gamma": Family.GAMMA}
SCIPY_FAMILIES: dict[Family, stats.rv_continuous] = {
    Family.GAUSSIAN: stats.halfnorm,
    Family.LOGNORMAL: stats.lognorm,
    Family.WEIBULL: stats.weibull_min,
    Family.GAMMA: stats.gamma,
    # These two are symmetric about 0, so magnitudes give them the same parameters as the weights themselves.
    Family.GENERALISED_NORMAL: stats.gennorm,
    Family.STUDENT_T: stats.t,
}

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layer:
    """A matrix, and the model that it is from."""

    model: str
    name: str
    weights: Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one tool says of one layer.

    `order` has the families that it knows, the best first by Akaike's criterion, and `winner` is the one that it names.
    `ks_distance` is that of the lognormal.
    """

    winner: str
    order: tuple[str, ...]
    weibull_k: float
    gamma_k: float
    log_mean: float
    log_sigma: float
    ks_distance: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A layer, its skewness of ln|w|, and what the three say of it; `plotted_k` is npm-weibull-py's other Weibull k."""

    model: str
    name: str
    weights: int
    skewness: float
    ours: Answer
    npm: Answer
    scipy: Answer
    plotted_k: float


def main() -> None:
    """Print the tables."""
    arguments = _arguments()
    layers = [*_synthetic(), *(layer for path in (BABBLE, *arguments.checkpoints) for layer in _matrices(path))]
    _ours(layers[0])  # what is imported and tabled once is not counted; the peers import theirs at the top
    comparisons = [
        _compared(layer, plotted) for layer, plotted in zip(layers, _npm(layers, arguments.peer_python), strict=True)
    ]
    _print_some(_chosen(comparisons))
    _print_summary(comparisons)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("checkpoints", type=Path, nargs="*")
    return parser.parse_args()


def _synthetic() -> Iterator[Layer]:
    for number, law in enumerate(LAWS):
        drawn = law.draw(generator(OF_PEERS, number), SYNTHETIC_SHAPE) * (RMS / law.rms)
        yield Layer(model=SYNTHETIC, name=law.name, weights=drawn.astype(np.float32))


def _matrices(path: Path) -> Iterator[Layer]:
    """Give the highly connected matrices that are whole tensors."""
    for layer in jaynes_audit.audit(path):
        if layer.connected and layer.name == layer.tensor:
            yield Layer(model=path.resolve().parent.name, name=layer.name, weights=load_file(layer.file)[layer.tensor])


# ---- the three


def _ours(layer: Layer) -> tuple[Answer, float]:
    """Give the answer, and the skewness."""
    start = time.perf_counter()
    rows, columns = layer.weights.shape
    extent = Extent(rows=rows, columns=columns, dtype=Dtype.F32, scaled=True)
    summary = sketch(chunks(layer.weights, extent), extent)
    [(fit, _)] = fit_with_errors([summary])
    [ranking] = rank([summary.histogram.magnitudes])
    seconds = time.perf_counter() - start
    if not isinstance(fit, LognormalFit) or not isinstance(ranking, Ranking):
        raise TypeError(f"not fitted: {layer.name}")
    shapes = {each.family: each.shape for each in ranking.candidates}
    by_akaike = sorted(ranking.candidates, key=lambda each: each.parameters / fit.moments.weights - each.nats)
    answer = Answer(
        winner=ranking.winner.family,
        order=tuple(each.family for each in by_akaike),
        weibull_k=shapes[Family.WEIBULL],
        gamma_k=shapes[Family.GAMMA],
        log_mean=fit.moments.log_mean,
        log_sigma=fit.moments.log_sigma,
        ks_distance=fit.ks_distance,
        seconds=seconds,
    )
    return answer, fit.moments.skewness


def _npm(layers: Sequence[Layer], python: Path) -> Iterator[tuple[Answer, float]]:
    """Give the answers, and the Weibull k of its probability plot."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "layers.npz"
        np.savez(file, *(layer.weights for layer in layers))
        command = [str(python), str(HERE / "npm_weibull_script.py"), str(file)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        found = json.loads(line)
        order = tuple(NPM_FAMILIES[name] for name in found["order"])
        answer = Answer(
            winner=order[0],
            order=order,
            weibull_k=found["weibull"]["k"],
            gamma_k=found["gamma"]["alpha"],
            log_mean=found["lognormal"]["mu"],
            log_sigma=found["lognormal"]["sigma"],
            ks_distance=found["ks_distance"],
            seconds=found["seconds"],
        )
        yield answer, found["plotted_k"]


def _scipy(layer: Layer) -> Answer:
    start = time.perf_counter()
    magnitudes = np.abs(layer.weights[layer.weights != 0]).astype(np.float64)
    fits = {family: law.fit(magnitudes, floc=0) for family, law in SCIPY_FAMILIES.items()}
    order = sorted(SCIPY_FAMILIES, key=lambda family: _akaike(family, fits[family], magnitudes))
    ks_distance = stats.kstest(magnitudes, stats.lognorm(*fits[Family.LOGNORMAL]).cdf).statistic
    seconds = time.perf_counter() - start
    log_sigma, _, median = fits[Family.LOGNORMAL]
    return Answer(
        winner=order[0],
        order=tuple(order),
        weibull_k=fits[Family.WEIBULL][0],
        gamma_k=fits[Family.GAMMA][0],
        log_mean=float(np.log(median)),
        log_sigma=log_sigma,
        ks_distance=float(ks_distance),
        seconds=seconds,
    )


def _akaike(family: Family, fit: Sequence[float], magnitudes: npt.NDArray[np.float64]) -> float:
    """Akaike's criterion per weight, of the law of the magnitudes."""
    law = SCIPY_FAMILIES[family]
    folded = np.log(2) if law.a < 0 else 0.0
    free = len(fit) - 1  # the location is not
    return 2 * (free / magnitudes.size - float(np.mean(law.logpdf(magnitudes, *fit))) - folded)


def _compared(layer: Layer, of_npm: tuple[Answer, float]) -> Comparison:
    (ours, skewness), (npm, plotted_k) = _ours(layer), of_npm
    return Comparison(
        model=layer.model,
        name=layer.name,
        weights=layer.weights.size,
        skewness=skewness,
        ours=ours,
        npm=npm,
        scipy=_scipy(layer),
        plotted_k=plotted_k,
    )


# ---- Markdown


def _chosen(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Give the first synthetic layer of each winner, and of each model those of least and of greatest skewness."""
    chosen: list[Comparison] = []
    winners: set[str] = set()
    for each in comparisons:
        if each.model == SYNTHETIC and each.ours.winner not in winners:
            winners.add(each.ours.winner)
            chosen.append(each)
    for model in dict.fromkeys(each.model for each in comparisons if each.model != SYNTHETIC):
        of_model = sorted((each for each in comparisons if each.model == model), key=lambda each: each.skewness)
        chosen += [of_model[0], of_model[-1]]
    return chosen


def _print_some(comparisons: Iterable[Comparison]) -> None:
    columns = ("layer", "weights", "winner", "Weibull k", "gamma k", "lognormal mu", "sigma", "its KS", "ms")
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")
    for each in comparisons:
        three = (each.ours, each.npm, each.scipy)
        cells = (
            f"{each.model}: `{each.name}`" if each.model != SYNTHETIC else each.name,
            f"{each.weights:,}",
            " / ".join(one.winner for one in three),
            " / ".join(f"{one.weibull_k:.4f}" for one in three),
            " / ".join(f"{one.gamma_k:.4f}" for one in three),
            " / ".join(f"{one.log_mean:.4f}" for one in three),
            " / ".join(f"{one.log_sigma:.4f}" for one in three),
            " / ".join(f"{one.ks_distance:.4f}" for one in three),
            " / ".join(f"{1e3 * one.seconds:.0f}" for one in three),
        )
        print(f"| {' | '.join(cells)} |")


def _print_summary(comparisons: Sequence[Comparison]) -> None:
    print(f"\n| over all {len(comparisons)} layers | npm-weibull-py | scipy |")
    print("|---|---|---|")
    pairs = [[(each.ours, each.npm) for each in comparisons], [(each.ours, each.scipy) for each in comparisons]]
    rows: dict[str, Callable[[Sequence[tuple[Answer, Answer]]], str]] = {
        "same family first, of those that both know": lambda pair: _count(_same_first(*each) for each in pair),
        "knows the family that wins here": lambda pair: _count(ours.winner in peer.order for ours, peer in pair),
        "names the family that wins here": lambda pair: _count(ours.winner == peer.winner for ours, peer in pair),
        "largest difference of Weibull k": lambda pair: _largest(
            ours.weibull_k - peer.weibull_k for ours, peer in pair
        ),
        "largest difference of gamma k": lambda pair: _largest(ours.gamma_k - peer.gamma_k for ours, peer in pair),
        "largest difference of mu": lambda pair: _largest(ours.log_mean - peer.log_mean for ours, peer in pair),
        "largest difference of sigma": lambda pair: _largest(ours.log_sigma - peer.log_sigma for ours, peer in pair),
        "largest difference of KS": lambda pair: _largest(ours.ks_distance - peer.ks_distance for ours, peer in pair),
        "its time over ours, median": lambda pair: f"{np.median([peer.seconds / us.seconds for us, peer in pair]):.1f}",
    }
    for what, of_pairs in rows.items():
        print(f"| {what} | {' | '.join(of_pairs(pair) for pair in pairs)} |")
    plotted = [each.plotted_k - each.npm.weibull_k for each in comparisons]
    print(
        f"\nIts k from the probability plot less its k of maximum likelihood: {min(plotted):.3f} to {max(plotted):.3f}"
    )
    unlike = Counter(
        f"{each.model}: {each.ours.winner}, {peer} {answer.winner}"
        for each in comparisons
        for peer, answer in (("npm-weibull-py", each.npm), ("scipy", each.scipy))
        if answer.winner != each.ours.winner
    )
    print("\nWhere a peer names another family:\n")
    for what, number in unlike.items():
        print(f"- {what}: {number}")


def _same_first(ours: Answer, peer: Answer) -> bool:
    """Whether both put the same family first, of those that the peer knows, whatever is said of simplicity."""
    return next(family for family in ours.order if family in peer.order) == peer.order[0]


def _count(those: Iterable[bool]) -> str:
    listed = list(those)
    return f"{sum(listed)} of {len(listed)}"


def _largest(differences: Iterable[float]) -> str:
    return f"{max(abs(each) for each in differences):.1e}"


if __name__ == "__main__":
    main()
