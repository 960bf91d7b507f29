"""What is kept of a layer to tell later whether it is still the same, and of a model."""

from dataclasses import dataclass

from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sketch.probe import Probe

STATISTICS = "1"
"""Version of how the numbers in a baseline are measured.

Those of another first number are not compared; those of another second number may differ in trifles.
"""

QUANTILE_PROBABILITIES = (
    *(0.001, 0.01, 0.05, 0.1),
    *(0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8),
    *(0.9, 0.95, 0.99, 0.999),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """The distribution of a layer's ln|w|: its moments with their standard errors, and its quantiles.

    An error is None where there are too few rows for one. `quantiles` are those of QUANTILE_PROBABILITIES, rising.
    """

    mu: float
    sigma: float
    skewness: float
    se_mu: float | None
    se_sigma: float | None
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One layer. The fields mean what they mean in `MeasuredLayer`; `zero`, `negative` and the like are its counts.

    `law` is None where nothing could be fitted, `probe` where the layer has no rows and columns of their own. Numbers
    that are not whole have six significant digits, as in the file: a model held against itself differs by nothing.
    """

    name: str
    role: Role
    stack: str
    depth: int | None
    rows: int
    columns: int
    fan_in: int
    fan_out: int
    dtype: str
    unused_bits: int
    weights: int
    zero: int
    subnormal: int
    negative: int
    not_finite: int
    largest: float
    rms: float
    law: Law | None
    probe: Probe | None
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A finding that the model had when the baseline was written."""

    rule: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """The SHA-256 of a file, 64 hexadecimal digits; `name` is its path from the folder that the model lies in."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A model as it was approved, layers and findings in the order of the file.

    `model` is its name, `revision` the Hub's name of its version (empty for a local one), `statistics` the version of
    how it was measured. `reason` is why somebody approved all of it at once; it is empty where nobody did. `files` are
    those that it was read from, in the order of layers; none where nobody asked for their digests.
    """

    model: str
    revision: str
    statistics: str
    entries: tuple[Entry, ...]
    known: tuple[Known, ...]
    reason: str = ""
    files: tuple[FileDigest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBaseline:
    """A baseline, where it was read, and which line each layer stands on."""

    place: str
    digest: str
    baseline: Baseline
    lines: dict[str, int]

    @property
    def is_comparable(self) -> bool:
        """Whether what was measured then can be held against what is measured now."""
        return self.baseline.statistics.partition(".")[0] == STATISTICS.partition(".")[0]
