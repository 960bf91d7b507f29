"""Which checkpoints a run has, and at which steps."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, UsageError
from jaynes_audit.analyzers.track.series import EPOCH, POSITION, STEP, Choice, locate
from tests.support.checkpoint_files import checkpoint

WEIGHTS = {"a.weight": np.ones((4, 4), np.float32)}


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        checkpoint(root / name / "model.safetensors", WEIGHTS)
    return root


def found(*targets: Path | str, **choice: object) -> list[tuple[str, int, str]]:
    series = locate([str(target) for target in targets], Choice(**choice))
    return [(Path(each.location).name, each.number, each.unit) for each in series.checkpoints]


def test_the_folders_of_a_trainer_come_by_their_steps(tmp_path: Path) -> None:
    run = folders(tmp_path, "checkpoint-1000", "checkpoint-300", "checkpoint-20000", "logs")
    assert found(run) == [
        ("checkpoint-300", 300, STEP),
        ("checkpoint-1000", 1000, STEP),
        ("checkpoint-20000", 20_000, STEP),
    ]


@pytest.mark.parametrize(
    ("name", "number", "unit"),
    [
        ("checkpoint-{}", 500, STEP),
        ("step{}", 500, STEP),
        ("step_{}", 500, STEP),
        ("global_step{}", 500, STEP),
        ("iter_{:07}", 500, STEP),
        ("ckpt-{}", 500, STEP),
        ("epoch_{}", 3, EPOCH),
        ("step{}-tokens2B", 500, STEP),
        ("stage1-step{}-tokens3B", 500, STEP),
        ("epoch=1-step={}", 500, STEP),
        ("my-run-Step-{}", 500, STEP),
    ],
)
def test_trainers_name_steps_in_many_ways(tmp_path: Path, name: str, number: int, unit: str) -> None:
    run = folders(tmp_path, name.format(number), name.format(2 * number))
    assert [(each, told) for _, each, told in found(run)] == [(number, unit), (2 * number, unit)]


@pytest.mark.parametrize("name", ["step_{}k", "timestep{}", "v{}", "{}", "precheckpoint-{}"])
def test_what_is_no_step_is_taken_for_none(tmp_path: Path, name: str) -> None:
    run = folders(tmp_path, name.format(10), name.format(20))
    with pytest.raises(NothingToAudit, match="named after a step"):
        locate([str(run)])


def test_files_in_one_folder_are_a_run_too(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        checkpoint(tmp_path / f"model_step_{step}.safetensors", WEIGHTS)
    assert found(tmp_path) == [(f"model_step_{step}.safetensors", step, STEP) for step in (5, 20, 100)]


def test_what_a_kill_left_half_written_is_passed_over_aloud(tmp_path: Path) -> None:
    run = folders(tmp_path, "checkpoint-100", "checkpoint-200", "tmp-checkpoint-300")
    checkpoint(tmp_path / "model.safetensors", WEIGHTS)
    series = locate([str(run)])
    assert [each.number for each in series.checkpoints] == [100, 200]
    assert series.remarks == (
        "passed over other folders: 'tmp-checkpoint-300'",
        "passed over other weights: 'model'",
    )


def test_stages_with_the_same_steps_are_runs_of_their_own(tmp_path: Path) -> None:
    run = folders(tmp_path, "stage1-step100", "stage1-step200", "stage1-step300", "stage2-step100", "stage2-step200")
    series = locate([str(run)])
    assert [Path(each.location).name for each in series.checkpoints] == [f"stage1-step{n}00" for n in (1, 2, 3)]


def test_a_list_is_put_in_the_order_of_its_steps(tmp_path: Path) -> None:
    folders(tmp_path, "checkpoint-1000", "checkpoint-300")
    expected = [("checkpoint-300", 300, STEP), ("checkpoint-1000", 1000, STEP)]
    assert found(tmp_path / "checkpoint-1000", tmp_path / "checkpoint-300") == expected
    assert found(tmp_path / "checkpoint-*") == expected


def test_the_trainers_log_knows_the_step_better_than_the_name(tmp_path: Path) -> None:
    folders(tmp_path, "early", "late")
    for name, step in (("early", 40), ("late", 80)):
        (tmp_path / name / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    assert found(tmp_path / "late", tmp_path / "early") == [("early", 40, STEP), ("late", 80, STEP)]


@pytest.mark.parametrize("names", [("a", "b"), ("step-5", "b"), ("x/step-5", "y/step-5"), ("step-5", "epoch-6")])
def test_a_list_without_a_step_each_is_numbered_in_the_order_given(tmp_path: Path, names: tuple[str, str]) -> None:
    folders(tmp_path, *names)
    series = locate([str(tmp_path / name) for name in names])
    assert [(each.number, each.unit) for each in series.checkpoints] == [(1, POSITION), (2, POSITION)]
    assert "in the order in which they were given" in series.remarks[0]


def test_some_can_be_chosen(tmp_path: Path) -> None:
    run = folders(tmp_path, *(f"checkpoint-{step}" for step in range(100, 1000, 100)))
    assert [number for _, number, _ in found(run, every=3)] == [100, 400, 700, 900]
    assert [number for _, number, _ in found(run, every=4)] == [100, 500, 900]
    assert [number for _, number, _ in found(run, steps=(300, 100))] == [100, 300]
    with pytest.raises(UsageError, match="no checkpoint of step '150', '7'; there are '100', '200'"):
        found(run, steps=(150, 100, 7))


def test_one_checkpoint_is_no_series(tmp_path: Path) -> None:
    folders(tmp_path, "checkpoint-100", "checkpoint-200")
    with pytest.raises(UsageError, match="is one checkpoint"):
        locate([str(tmp_path / "checkpoint-100")])
    with pytest.raises(UsageError, match="takes two checkpoints or more"):
        locate([str(tmp_path / "checkpoint-100" / "model.safetensors")])
    with pytest.raises(UsageError, match="takes two checkpoints or more"):
        found(tmp_path, steps=(100,))


def test_nothing_is_told_apart_from_a_run_that_is_empty(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRead, match="does not exist"):
        locate([str(tmp_path / "gone")])
    with pytest.raises(NothingToAudit, match="holds no folder or file named after a step"):
        locate([str(tmp_path)])
    with pytest.raises(NothingToAudit, match="matches nothing"):
        locate([str(tmp_path / "checkpoint-*")])
