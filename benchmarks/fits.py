"""Measure what fitting all nine families costs beside reading the weights, in one run.

    python benchmarks/fits.py [--folder DIR] [--rounds N]

audits the 2 GB checkpoint of checkpoints.py (built in DIR, once) with the families and without them, in turn, and
prints the least time of each; then the cost per layer of small layers, fitted together as the audit does.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import checkpoints
import ml_dtypes
import numpy as np

from jaynes_audit.analyzers import audit as audit_module
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import rank
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.histogram import Magnitudes
from jaynes_audit.analyzers.sketch.sketch import sketch

SMALL = (128, 128)
TOGETHER = audit_module.RANKED_TOGETHER
STORED = {
    Dtype.F32: (np.float32, np.float32),
    Dtype.BF16: (ml_dtypes.bfloat16, np.uint16),
    Dtype.F16: (np.float16, np.float16),
    Dtype.F8_E4M3: (ml_dtypes.float8_e4m3fn, np.uint8),
}


def main() -> None:
    """Run both comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "jaynes-benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    _large(checkpoints.build(arguments.folder, "llama-bf16"), arguments.rounds)
    _small(arguments.rounds)


def _large(file: Path, rounds: int) -> None:
    checkpoint = open_checkpoint(str(file))

    def with_families() -> None:
        audit_module.audit_checkpoint(checkpoint)

    def without_families() -> None:
        with patch.object(audit_module, "rank", lambda layers: [NotFitted("not asked for")] * len(layers)):
            audit_module.audit_checkpoint(checkpoint)

    with_families()
    least_with, least_without = _in_turn(with_families, without_families, rounds)
    more = least_with / least_without - 1
    print(f"2 GB bf16: {least_without:.2f} s without families, {least_with:.2f} s with them: {more:+.0%}")


def _in_turn(one: Callable[[], None], other: Callable[[], None], rounds: int) -> tuple[float, float]:
    least = [float("inf"), float("inf")]
    for _ in range(rounds):
        for index, contestant in enumerate((one, other)):
            start = time.perf_counter()
            contestant()
            least[index] = min(least[index], time.perf_counter() - start)
    return least[0], least[1]


def _small(rounds: int) -> None:
    rng = np.random.default_rng(checkpoints.SEED)
    laws: dict[str, Callable[[], np.ndarray]] = {
        "Gaussian": lambda: rng.standard_normal(SMALL),
        "Student t, 5": lambda: rng.standard_t(5, SMALL),
        "lognormal, 1.3": lambda: rng.lognormal(0, 1.3, SMALL),
    }
    print(f"{TOGETHER} layers of {SMALL[0]} x {SMALL[1]}, ms per layer:")
    for dtype in STORED:
        for name, draw in laws.items():
            layers = [_magnitudes(draw(), dtype) for _ in range(TOGETHER)]
            least = min(_seconds(layers) for _ in range(rounds))
            print(f"  {dtype:8} {name:15} {1000 * least / TOGETHER:.2f}")


def _seconds(layers: list[Magnitudes]) -> float:
    start = time.perf_counter()
    rank(layers)
    return time.perf_counter() - start


def _magnitudes(weights: np.ndarray, dtype: Dtype) -> Magnitudes:
    stored, code = STORED[dtype]
    codes = weights.astype(np.float32).astype(stored).view(code)
    extent = Extent(rows=SMALL[0], columns=SMALL[1], dtype=dtype, scaled=True)
    return sketch([codes], extent).histogram.magnitudes


if __name__ == "__main__":
    main()
