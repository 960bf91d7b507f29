"""Baselines on the command line: written once, updated by what somebody approves, verified and shown."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from tests.support.checkpoint_files import checkpoint, gaussian

PATH = "model.jaynes.jsonl"
MODEL = "model.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "export"  # which names the model
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("CI", raising=False)
    save()
    return place


def name(block: int) -> str:
    return f"model.layers.{block}.mlp.up_proj.weight"


def save(**changed: np.ndarray | None) -> None:
    tensors = {name(block): gaussian(128, 128, seed=block) for block in range(4)}
    for block, weights in changed.items():
        number = int(block.removeprefix("block"))
        if weights is None:
            del tensors[name(number)]
        else:
            tensors[name(number)] = weights
    checkpoint(Path(MODEL), tensors)


def write() -> bytes:
    assert run(["baseline", "write", PATH, MODEL]) == ExitCode.PASSED
    return Path(PATH).read_bytes()


def lines() -> list[bytes]:
    return Path(PATH).read_bytes().splitlines()


def other(seed: int) -> np.ndarray:
    return gaussian(128, 128, seed=seed)


def broken() -> np.ndarray:
    weights = gaussian(128, 128)
    weights[0, 0] = np.nan
    return weights


# ---- write


def test_a_baseline_is_written_with_a_line_for_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert write().count(b"\n") == 5
    assert "4 layers" in capsys.readouterr().out


def test_the_same_weights_give_the_same_bytes() -> None:
    first = write()
    Path(PATH).unlink()
    assert write() == first


def test_a_file_that_is_there_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    before = write()
    save(block1=other(99))
    for force in ([], ["--force"]):
        assert run(["baseline", "write", PATH, MODEL, *force]) == ExitCode.MISUSED
    assert Path(PATH).read_bytes() == before
    assert "exists" in capsys.readouterr().err


def test_a_broken_model_is_approved_only_by_force(capsys: pytest.CaptureFixture[str]) -> None:
    save(block1=broken())
    assert run(["baseline", "write", PATH, MODEL]) == ExitCode.FOUND
    assert not Path(PATH).exists()
    assert "JN101" in capsys.readouterr().err
    assert run(["baseline", "write", PATH, MODEL, "--force"]) == ExitCode.PASSED
    assert run(["gate", MODEL, "--baseline", PATH]) == ExitCode.PASSED  # as it was approved
    save(block1=broken(), block2=broken())
    assert run(["gate", MODEL, "--baseline", PATH]) == ExitCode.FOUND


def test_what_an_ignore_hides_is_no_less_broken(folder: Path) -> None:
    save(block1=broken())
    (folder / "jaynes.toml").write_text('[[ignore]]\nrule = "JN101"\ntensor = "*"\nreason = "hush"\n')
    assert run(["baseline", "write", PATH, MODEL, "-c", "jaynes.toml"]) == ExitCode.FOUND


def test_nothing_is_written_of_a_target_that_is_missing_empty_or_several(folder: Path) -> None:
    checkpoint(folder / "empty.safetensors", {"position_ids": np.arange(8)})
    assert run(["baseline", "write", PATH, "gone.safetensors"]) == ExitCode.COULD_NOT_FINISH
    assert run(["baseline", "write", PATH, "empty.safetensors"]) == ExitCode.NOTHING_TO_AUDIT
    assert run(["baseline", "write", PATH, "*.safetensors"]) == ExitCode.MISUSED
    assert run(["baseline", "write", "nowhere/at/all.jsonl", MODEL]) == ExitCode.MISUSED
    assert not Path(PATH).exists()


# ---- update


def test_only_the_lines_that_are_approved_change(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    before = lines()
    save(block1=other(98), block2=other(99))
    assert run(["baseline", "update", PATH, MODEL, "--tensor", "*.1.*"]) == ExitCode.FOUND
    after = lines()
    assert [old == new for old, new in zip(before[1:], after[1:], strict=True)] == [True, False, True, True]
    said = capsys.readouterr().out
    assert "+0 -0 ~1" in said
    assert f"still differs: ~ {name(2)}" in said
    assert run(["gate", MODEL, "--baseline", PATH]) == ExitCode.FOUND
    assert run(["baseline", "update", PATH, MODEL, "--tensor", "*.2.*"]) == ExitCode.PASSED
    assert run(["gate", MODEL, "--baseline", PATH]) == ExitCode.PASSED


def test_what_a_rule_objects_to_is_approved_by_its_code() -> None:
    write()
    save(block1=other(98), block2=None)
    assert run(["baseline", "update", PATH, MODEL, "--accept", "JN201"]) == ExitCode.FOUND
    assert len(lines()) == 4
    assert run(["baseline", "update", PATH, MODEL, "--accept", "JN4"]) == ExitCode.PASSED


def test_all_of_it_is_approved_with_a_reason_that_the_baseline_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    save(block1=other(98), block2=None)
    assert run(["baseline", "update", PATH, MODEL, "--all"]) == ExitCode.MISUSED
    assert run(["baseline", "update", PATH, MODEL, "--all", "--reason", " "]) == ExitCode.MISUSED
    assert run(["baseline", "update", PATH, MODEL, "--all", "--reason", "pruned on purpose, #7"]) == ExitCode.PASSED
    assert run(["gate", MODEL, "--baseline", PATH]) == ExitCode.PASSED
    assert b"pruned on purpose, #7" in lines()[0]
    capsys.readouterr()
    assert run(["baseline", "show", PATH]) == ExitCode.PASSED
    assert "pruned on purpose, #7" in capsys.readouterr().out


def test_an_update_that_approves_nothing_changes_nothing() -> None:
    before = write()
    save(block1=other(98))
    assert run(["baseline", "update", PATH, MODEL, "--accept", "JN201"]) == ExitCode.FOUND
    assert Path(PATH).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing is approved"),
        (["--accept", "JN999"], "'JN999' is no code of a rule"),
        (["--accept", "JN40l"], "did you mean"),
    ],
)
def test_an_update_without_meaning_is_misuse(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write()
    assert run(["baseline", "update", PATH, MODEL, *arguments]) == ExitCode.MISUSED
    assert words in capsys.readouterr().err
    assert Path(PATH).read_bytes() == before


def test_a_ci_job_does_not_approve_what_it_should_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    save(block1=other(98))
    monkeypatch.setenv("CI", "true")
    update = ["baseline", "update", PATH, MODEL, "--accept", "JN4"]
    assert run(update) == ExitCode.MISUSED
    assert "this is a CI job" in capsys.readouterr().err
    assert run([*update, "--yes"]) == ExitCode.PASSED


def test_there_is_nothing_to_update_where_there_is_no_baseline() -> None:
    assert run(["baseline", "update", PATH, MODEL, "--accept", "JN4"]) == ExitCode.MISUSED


# ---- verify and show


def test_a_sound_baseline_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    capsys.readouterr()
    assert run(["baseline", "verify", PATH]) == ExitCode.PASSED
    assert capsys.readouterr().out == f"{PATH}: sound; 4 layers of export\n"


def test_an_edited_one_is_not_and_its_line_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path(PATH).write_bytes(write().replace(b'"mu":-', b'"mu":-1', 1))
    assert run(["baseline", "verify", PATH]) == ExitCode.MISUSED
    assert PATH in capsys.readouterr().err
    assert run(["gate", MODEL, "--baseline", PATH]) == ExitCode.MISUSED


def test_all_baselines_are_verified_whatever_is_wrong_with_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert run(["baseline", "verify", "gone.jsonl", PATH]) == ExitCode.MISUSED
    assert "sound" in capsys.readouterr().out


def test_a_baseline_of_a_revision_is_verified_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", PATH], [*author, "commit", "-qm", "Approve"]):
        subprocess.run(["git", *command], check=True, cwd=folder)  # noqa: S603, S607
    Path(PATH).unlink()
    assert run(["baseline", "verify", f"HEAD:{PATH}"]) == ExitCode.PASSED
    assert run(["baseline", "show", f"HEAD:{PATH}"]) == ExitCode.PASSED
    assert name(3) in capsys.readouterr().out


def test_a_baseline_shows_its_layers(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    capsys.readouterr()
    assert run(["baseline", "show", PATH]) == ExitCode.PASSED
    said = capsys.readouterr().out
    assert "export, 4 layers, 65,536 weights." in said
    assert all(name(block) in said for block in range(4))
