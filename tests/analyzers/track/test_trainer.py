"""What transformers' Trainer logged beside a checkpoint."""

import json
from pathlib import Path

import pytest

from jaynes_audit.analyzers.track.trainer import trainer_log
from tests.support import trainer_fuzz
from tests.support.fuzzing import survive

RUN = Path(__file__).parents[3] / "fixtures" / "run"


@pytest.mark.parametrize("step", [300, 900, 3000])
def test_the_step_and_the_loss_of_a_real_log_are_found(step: int) -> None:
    logged = json.loads((RUN / f"checkpoint-{step}" / "trainer_state.json").read_text())
    losses = {row["step"]: row["loss"] for row in logged["log_history"] if "loss" in row}
    log = trainer_log(RUN / f"checkpoint-{step}")
    assert (log.step, log.losses, log.remarks) == (step, losses, ())
    assert log.loss_at(step) == log.loss_at(None) == losses[step]
    assert log.loss_at(120) == losses[100]
    assert log.loss_at(1) is None


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"global_step": True, "log_history": 3},
        {"global_step": -1, "log_history": [3, {}, {"step": 1}, {"loss": 1.0}, {"step": "1", "loss": 1.0}]},
        {"global_step": 10**400, "log_history": [{"step": 1, "loss": 10**400}, {"step": 1, "loss": True}]},
        {"global_step": 1.5, "log_history": [{"step": 1, "loss": float("nan")}, {"step": 1, "loss": float("inf")}]},
        {"global_step": None, "log_history": {"step": 1, "loss": 1.0}},
    ],
)
def test_what_is_no_number_of_its_kind_is_not_told(content: object, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(json.dumps(content))
    log = trainer_log(tmp_path)
    assert (log.step, log.losses) == (None, {})


def test_a_file_that_cannot_be_used_is_remarked_on(tmp_path: Path) -> None:
    assert trainer_log(tmp_path).remarks == ()
    (tmp_path / "trainer_state.json").write_text("[" * 100_000)
    log = trainer_log(tmp_path)
    assert (log.step, log.losses) == (None, {})
    assert log.remarks == ("'trainer_state.json' is not JSON and was not used",)


def test_a_damaged_log_is_survived() -> None:
    ends, faults = survive(trainer_fuzz.FUZZ, inputs=2_000, seed=1)
    assert not faults, faults[0].trace
    assert ends["accepted"] == 2_000
