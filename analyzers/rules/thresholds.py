"""How much is too much: every number that a rule compares with, under the name that a configuration gives it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A number that a rule compares with: its name in a configuration, its usual value, and what it is."""

    name: str
    usual: float
    meaning: str


def _threshold(usual: float, meaning: str) -> float:
    value: float = field(default=usual, metadata={"meaning": meaning})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The numbers that the rules compare with. In a configuration they have hyphens: `sigma-rel`."""

    dead_rows: float = _threshold(0.01, "JN104: share of a matrix's rows or columns that may be zero")
    dead_embedding_rows: float = _threshold(0.2, "JN104: share of an embedding's or a head's rows that may be zero")
    saturated_share: float = _threshold(1e-4, "JN105: share of weights at the largest fp8 number that may be there")
    flushed_share: float = _threshold(0.1, "JN106: share of weights that may be zero or subnormal, without a baseline")
    flushed_share_base: float = _threshold(0.05, "JN106: the same, with a baseline that has a tenth of it or less")
    padded_share: float = _threshold(0.5, "JN107: share of the weights that may be stored wider than they need to be")
    runaway_share: float = _threshold(0.5, "JN111: share of a matrix's sum of squares that may lie in one weight")
    ks_distance: float = _threshold(0.12, "JN301: KS distance from the fitted lognormal that calls for a note")
    outlier_z: float = _threshold(6.0, "JN302: robust z, in median absolute deviations, of a layer among its role")
    collapse_residual: float = _threshold(0.02, "JN303: distance of a layer from the curve that its model shares")
    collapse_factor: float = _threshold(3.0, "JN303: how many times the model's median that distance must be")
    trend_z: float = _threshold(6.0, "JN304: jump along the depth, in median absolute differences")
    standard_errors: float = _threshold(6.0, "JN401-JN403: standard errors that a change must exceed")
    sigma_rel: float = _threshold(0.02, "JN401: relative change of sigma")
    sigma_abs: float = _threshold(0.005, "JN401: change of sigma")
    mu_abs: float = _threshold(0.03, "JN402, JN405: change of mu; 0.03 is 3 % of scale")
    quantile_gap: float = _threshold(0.1, "JN403: greatest gap between the quantiles of ln|w|, in sigmas")
    ks_gap: float = _threshold(0.04, "JN403: KS distance between the distributions, where quantiles are not known")
    skewness_abs: float = _threshold(0.2, "JN403: change of skewness, where neither is known")
    zero_share: float = _threshold(0.01, "JN404: change of the share of zeros")
    common_share: float = _threshold(0.9, "JN405: share of the matrices that moved by one factor")

    def with_values(self, values: Mapping[str, float]) -> "Thresholds":
        """Put other values in place, by their names in a configuration."""
        return replace(self, **{name.replace("-", "_"): value for name, value in values.items()})


USUAL_THRESHOLDS = Thresholds()


def every_threshold() -> Iterator[Threshold]:
    """Give all thresholds, in the order of the rules that use them."""
    for each in fields(Thresholds):
        yield Threshold(
            name=each.name.replace("_", "-"),
            usual=getattr(USUAL_THRESHOLDS, each.name),
            meaning=each.metadata["meaning"],
        )
