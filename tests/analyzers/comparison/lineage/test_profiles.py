"""How the scale of weights runs with depth in two networks, and how often unrelated networks look related."""

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from jaynes_audit.analyzers.comparison.lineage.profiles import DRAWS, MIN_BLOCKS, PROFILED, profile_score
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import ModelRecord, record_of
from jaynes_audit.analyzers.record.layers import layer_record
from jaynes_audit.analyzers.roles import Role
from tests.support import audits

LAYER = layer_record(audits.layer("layers.0.mlp.up.weight"))
MODEL = record_of(audits.audit(audits.layer("layers.0.mlp.up.weight")), ())

Curves = np.ndarray  # ln(rms) of shape (roles, blocks)


def model(curves: Curves, *, weights: int = 65_536, stack: str = "", names: str = "layers") -> ModelRecord:
    """A model whose layers have these scales."""
    layers = [
        msgspec.structs.replace(
            LAYER,
            name=f"{names}.{block}.{role}",
            role=str(role),
            stack=stack,
            depth=block,
            rms=math.exp(value),
            weights=weights,
        )
        for role, curve in zip(PROFILED, curves, strict=False)
        for block, value in enumerate(curve)
    ]
    return msgspec.structs.replace(MODEL, layers=layers)


def smooth(rng: np.random.Generator, *, roles: int = 7, blocks: int = 16, roughness: float = 0.3) -> Curves:
    """Curves with a trend and noise that neighbouring blocks and all roles share in part."""
    depths = np.linspace(0, 1, blocks)
    noise = np.empty((roles + 1, blocks))
    noise[:, 0] = rng.normal(size=roles + 1)
    for block in range(1, blocks):
        noise[:, block] = 0.5 * noise[:, block - 1] + math.sqrt(0.75) * rng.normal(size=roles + 1)
    return roughness * (noise[:-1] + noise[-1]) + rng.normal(size=(roles, 1)) * depths - 3


def score(a: ModelRecord, b: ModelRecord) -> Score:
    found = profile_score(a, b)
    assert isinstance(found, Score)
    return found


def test_the_score_is_the_mean_correlation_of_the_roles() -> None:
    rng = np.random.default_rng(1)
    a, b = smooth(rng), smooth(rng)
    oracle = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(a, b, strict=True)])
    found = score(model(a), model(b))
    assert found.value == pytest.approx(oracle, abs=1e-9)
    assert found.compared.startswith("ln(rms) of 112 layers: attention.q ")
    assert f"attention.k {np.corrcoef(a[1], b[1])[0, 1]:+.2f}" in found.compared


def test_scale_and_contrast_do_not_count() -> None:
    curves = smooth(np.random.default_rng(2))
    assert score(model(curves), model(2 * curves + np.arange(7)[:, None])).value == pytest.approx(1)


def test_networks_of_unlike_depth_are_compared_at_the_depths_of_the_shallower() -> None:
    depths = np.linspace(0, 1, 9)
    curve = np.sin(5 * depths)
    deep = np.interp(np.linspace(0, 1, 33), depths, curve)
    one, other = model(np.tile(deep, (2, 1))), model(np.tile(curve, (2, 1)))
    assert score(one, other).value == pytest.approx(1)
    assert score(other, one).value == pytest.approx(1)
    assert "ln(rms) of 18 layers" in score(one, other).compared


def test_a_relative_stands_out_from_both_nulls() -> None:
    rng = np.random.default_rng(3)
    base = smooth(rng)
    found = score(model(base), model(base + rng.normal(0, 0.05, base.shape)))
    assert found.value > 0.95 > found.unrelated.high
    assert found.twins.high < 0.3


@pytest.mark.parametrize("ends", [0.0, 2.0], ids=["no ends", "ends that stand out in all networks"])
def test_unrelated_networks_with_one_trend_exceed_the_null_about_once_in_twenty(ends: float) -> None:
    rng = np.random.default_rng(4)
    common = np.zeros(16)
    common[[0, -1]] = ends
    common += 2 * np.linspace(0, 1, 16) ** 2
    exceeding = 0
    for _ in range(60):
        found = score(model(smooth(rng) + common), model(smooth(rng) + common))
        exceeding += found.value > found.unrelated.high
        assert found.unrelated.middle > 0.2  # the trend alone correlates them
    assert exceeding <= 8  # chance of more, at one in twenty: 0.2 %


def test_twins_score_what_chance_gives() -> None:
    rng = np.random.default_rng(5)
    # ln of the rms of 65,536 Gaussian weights has a standard deviation of 1 / sqrt(2 * 65,536)
    initial: Callable[[], Curves] = lambda: -3 + rng.normal(0, 1 / math.sqrt(2 * 65_536), (7, 12))  # noqa: E731
    drawn = [score(model(initial()), model(initial())) for _ in range(40)]
    assert {found.twins.high for found in drawn} == {drawn[0].twins.high}
    assert drawn[0].twins.middle == pytest.approx(0, abs=0.01)
    # Independent curves of n points correlate with a variance of 1 / (n - 1).
    assert drawn[0].twins.high == pytest.approx(1.645 / math.sqrt(7 * 11), rel=0.1)
    assert sum(found.value > found.twins.high for found in drawn) <= 7  # chance of more: 0.06 %


def test_the_nulls_are_the_same_every_time() -> None:
    rng = np.random.default_rng(6)
    a, b = model(smooth(rng)), model(smooth(rng))
    assert profile_score(a, b) == profile_score(a, b)
    assert score(a, b).unrelated.draws == DRAWS


def test_stacks_need_not_be_named_alike() -> None:
    curves = smooth(np.random.default_rng(7))
    assert score(model(curves, stack="encoder"), model(curves, names="blk")).value == pytest.approx(1)


def test_several_layers_of_a_role_in_a_block_count_as_one() -> None:
    curves = smooth(np.random.default_rng(8))
    once, shared = model(curves), model(curves + 0.5, names="shared.layers")
    twice = msgspec.structs.replace(MODEL, layers=[*once.layers, *shared.layers])
    assert score(once, twice).value == pytest.approx(1)


@pytest.mark.parametrize(
    "curves",
    [np.zeros((7, 12)), np.random.default_rng(9).normal(size=(7, MIN_BLOCKS - 1)), np.zeros((0, 12))],
    ids=["flat", "too short", "no roles"],
)
def test_what_has_no_profile_has_no_score(curves: Curves) -> None:
    found = profile_score(model(curves), model(smooth(np.random.default_rng(10))))
    assert found == NotFitted("no role of attention or MLP has 4 layers of unlike scale in both models")


@pytest.mark.parametrize("rms", [0.0, 5e-324, 1.7e308, math.inf, math.nan, -1.0])
@pytest.mark.parametrize("weights", [0, 1, -5, 10**400])
def test_no_claim_of_a_report_breaks_it(rms: float, weights: int) -> None:
    base = model(smooth(np.random.default_rng(11)))
    odd = msgspec.structs.replace(base.layers[3], rms=rms, weights=weights, depth=10**30, role=str(Role.MLP_UP))
    claimed = msgspec.structs.replace(base, layers=[odd, *base.layers[1:]])
    assert -1 <= score(base, claimed).value <= 1
    assert -1 <= score(claimed, base).unrelated.high <= 1
