"""What is kept of a layer is what was measured of it, and what is kept of a finding is no path of one machine."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.baseline import keeping
from jaynes_audit.analyzers.baseline.entry import QUANTILE_PROBABILITIES, Known
from jaynes_audit.analyzers.baseline.keeping import Keeper, baseline_of, known_of, short
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import Finding, Level
from jaynes_audit.analyzers.rules.hygiene import INCOMPLETE_AUDIT
from tests.support.baselines import baseline_at, measured, network

FIXTURES = Path(__file__).parents[3] / "fixtures"
CELL = 2.0**-7


def finding(rule: str, subject: str) -> Finding:
    return Finding(rule=rule, name="", level=Level.ERROR, subject=subject, sentence="told")


def test_counts_and_sizes_are_those_of_the_weights(tmp_path: Path) -> None:
    weights = np.array([[1.0, -2.0, 0.0, np.nan], [np.inf, -0.5, 0.0, 4.0]])
    [entry] = measured(tmp_path, {"a.weight": weights}).entries
    assert (entry.rows, entry.columns, entry.weights) == (2, 4, 8)
    assert (entry.zero, entry.not_finite, entry.largest) == (2, 2, 4.0)
    assert entry.rms == pytest.approx(math.sqrt((1 + 4 + 0.25 + 16) / 6), rel=1e-5)


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16])
def test_quantiles_are_those_of_the_weights_within_a_cell(dtype: Dtype, tmp_path: Path) -> None:
    name, matrix = "model.layers.0.mlp.up_proj.weight", network()["model.layers.0.mlp.up_proj.weight"]
    [entry] = measured(tmp_path, {name: matrix}, dtype).entries
    exact = np.quantile(np.log(np.abs(matrix)), QUANTILE_PROBABILITIES, method="inverted_cdf")
    assert entry.law
    assert np.abs(entry.law.quantiles - exact).max() <= CELL
    assert entry.law.mu == pytest.approx(np.log(np.abs(matrix)).mean(), abs=CELL)


def test_what_is_kept_does_not_depend_on_the_jobs_nor_on_what_is_worked_out_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = str(FIXTURES / "babble" / "bf16")
    usual = baseline_at(target)
    monkeypatch.setattr(keeping, "CODES_TOGETHER", 1)
    keeper = Keeper()
    assert baseline_of(audit_checkpoint(open_checkpoint(target), jobs=3, on_measured=keeper.keep), keeper) == usual


def test_of_the_findings_those_of_the_model_itself_are_known(tmp_path: Path) -> None:
    measured(tmp_path, {"a.weight": np.zeros((4, 4))})
    keeper = Keeper()
    audit = audit_checkpoint(open_checkpoint(str(tmp_path)), on_measured=keeper.keep)
    found = [
        finding("JN102", "a.weight"),
        finding("JN102", "a.weight"),
        finding("JN201", "b.weight"),
        finding("JN407", "a.weight"),
        INCOMPLETE_AUDIT.finding(audit.target, "told"),
    ]
    assert baseline_of(audit, keeper, found).known == (Known(rule="JN102", subject="a.weight"),)


def test_a_known_finding_is_the_same_on_another_machine() -> None:
    for target in ("export", "/home/somebody/export/", "../export"):
        assert known_of(finding("JN107", target), target).subject == "export"
        inside = known_of(finding("JN001", f"{target.rstrip('/')}/model.safetensors"), target)
        assert inside.subject == "model.safetensors"
        assert known_of(finding("JN101", "a.weight"), target).subject == "a.weight"


@given(st.floats())
def test_a_number_in_short_is_finite_and_has_six_digits(number: float) -> None:
    shortened = short(number)
    assert math.isfinite(shortened)
    assert short(shortened) == shortened
    if abs(number) < 1.7e308:
        assert shortened == float(f"{number:.6g}")


def test_a_model_of_nothing_but_odd_layers_is_kept(tmp_path: Path) -> None:
    odd = {"zero": np.zeros((8, 8)), "one": np.ones(5), "single": np.array([2.0]), "huge": np.full((2, 2), 3e38)}
    found = {entry.name: entry for entry in measured(tmp_path, odd).entries}
    assert {name: entry.law is None for name, entry in found.items()} == dict.fromkeys(odd, True)
    assert found["huge"].rms == pytest.approx(3e38, rel=1e-2)
