"""A model as a baseline keeps it, one side of a comparison: less than a report has of a layer, and its quantiles."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaynes_audit.analyzers.comparison.quantiles import Quantiles
from jaynes_audit.analyzers.roles import Role

NOT_KEPT = (
    "a baseline keeps no verdicts on layers and no errors of skewness, so nothing is said of roles, of trends with "
    "depth, and of one law for both; compare the checkpoints"
)
BUFFERS = ("buffers", "a baseline holds layers of weights only")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFit:
    """The lognormal fitted to a layer. The fields are those of a report; the error of the skewness is not kept."""

    mu: float
    sigma: float
    skewness: float
    se_mu: float | None
    se_sigma: float | None
    se_skewness: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLayer:
    """A layer. The fields are those of a report.

    Which tensor it is a part of is not kept: `tensor` is its own name.
    """

    name: str
    tensor: str
    dtype: str
    role: Role
    stack: str
    depth: int | None
    rows: int
    columns: int
    fan_in: int
    fan_out: int
    tied_to: str | None
    weights: int
    zero: int
    rms: float
    content: str
    fit: KeptFit | None
    not_fitted: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModel:
    """A model. `commit` is the Hub's name of its version, empty for a local one.

    `quantiles` are those of `probabilities`, of every layer that was fitted, by its name.
    """

    commit: str
    layers: tuple[KeptLayer, ...]
    probabilities: tuple[float, ...]
    quantiles: Mapping[str, Quantiles]
