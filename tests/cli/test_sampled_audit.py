"""`--sample`: some tensors are read, and nothing is said of the others."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from tests.support.checkpoint_files import checkpoint, gaussian

BLOCKS = 8
NAMES = [f"model.layers.{block}.mlp.{which}_proj.weight" for block in range(BLOCKS) for which in ("down", "up")]
BASELINE = "export.jaynes.jsonl"
SIDE = 96


@pytest.fixture(autouse=True)
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of sixteen matrices in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "export").mkdir()
    write(tmp_path / "export")
    return tmp_path / "export"


def write(folder: Path, **changed: np.ndarray) -> None:
    tensors = {name: gaussian(SIDE, SIDE, seed=at) for at, name in enumerate(NAMES)}
    checkpoint(folder / "model.safetensors", tensors | {NAMES[int(at[1:])]: each for at, each in changed.items()})


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    capsys.readouterr()
    run([*arguments, "-o", "json"])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def objections(found: dict[str, object]) -> set[tuple[str, str]]:
    """The rules and subjects of all that is worse than a note."""
    return {
        (each["rule"], each["subject"])
        for model in found["models"]
        for each in model["findings"]
        if each["level"] != "note" and each["status"] == "new"
    }


def with_nan() -> np.ndarray:
    broken = gaussian(SIDE, SIDE)
    broken[0, 0] = np.nan
    return broken


# ---- what is said


@pytest.mark.parametrize("command", ["audit", "gate"])
def test_the_report_says_how_much_was_read_and_why_not_more(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, command, "export", "--sample", "6")
    (model,) = found["models"]
    assert len(model["layers"]) == model["coverage"]["tensors"] == 6
    assert model["coverage"]["tensors_total"] == len(NAMES)
    assert model["coverage"]["bytes"] * len(NAMES) == model["coverage"]["bytes_total"] * 6
    assert [each["reason"] for each in model["left_out"]] == ["not-sampled"] * (len(NAMES) - 6)
    (incomplete,) = [each for each in model["findings"] if each["rule"] == "JN904"]
    assert incomplete["level"] == "note"
    assert incomplete["sentence"].startswith("10 of its layers were left out, as was asked")
    assert found["exit_code"] == ExitCode.PASSED
    assert found["exit_reason"].startswith("no finding at level error in what was read")


def test_nothing_is_called_clean_that_was_not_read(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(export, _9=with_nan())
    assert run(["gate", "export"]) == ExitCode.FOUND
    capsys.readouterr()
    assert run(["gate", "export", "--sample", "2", "--ignore-rule", "JN904"]) == ExitCode.PASSED
    said = capsys.readouterr().out
    assert "nothing new found in what was read" in said
    assert "Analysed 2 of 16 tensors" in said
    assert "left out 14: 14 not sampled" in said
    assert "no finding at level error in what was read" in said
    assert not re.search(r"nothing new found(?! in what was read)", said)


def test_a_broken_tensor_that_is_read_fails(export: Path) -> None:
    write(export, _0=with_nan())
    assert run(["audit", "export", "--sample", "4", "-q"]) == ExitCode.FOUND


def test_a_sample_of_all_is_the_whole_audit(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(capsys, "audit", "export", "--sample", "16") == report(capsys, "audit", "export")


def test_the_note_fails_only_where_notes_do() -> None:
    assert run(["audit", "export", "--sample", "3", "--fail-on", "warning", "-q"]) == ExitCode.PASSED
    assert run(["audit", "export", "--sample", "3", "--fail-on", "note", "-q"]) == ExitCode.FOUND
    assert run(["audit", "export", "--layers", "*.0.*", "--fail-on", "warning", "-q"]) == ExitCode.PASSED
    assert run(["audit", "export", "--headers-only", "--fail-on", "warning", "-q"]) == ExitCode.PASSED


def test_what_could_not_be_read_is_a_warning_beside_a_sample_too(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = export / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    (model,) = report(capsys, "audit", "export", "--sample", "3")["models"]
    assert ("JN904", "warning") in {(each["rule"], each["level"]) for each in model["findings"]}


def test_a_claim_on_a_sample_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run(["audit", "export", "--sample", "10", "--min-fan-in", "8", "--min-weights", "100"])
    assert "export: in what was read, " in capsys.readouterr().out


# ---- against a baseline


def test_what_is_not_in_the_sample_is_not_missing(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baseline", "write", BASELINE, "export"]) == ExitCode.PASSED
    for number in (1, 2, 5, 12, 15):
        sampled = ["gate", "export", "--baseline", BASELINE, "--sample", str(number)]
        assert run([*sampled, "--fail-on", "warning"]) == ExitCode.PASSED
    write(export, _0=gaussian(SIDE, SIDE, seed=99), _7=gaussian(SIDE, SIDE, seed=98))
    found = objections(report(capsys, "gate", "export", "--baseline", BASELINE, "--sample", "4"))
    assert found == {("JN407", NAMES[0])}, "the seventh is in the middle, and not read"


def test_layers_of_other_names_are_held_against_it_all_together_or_not_at_all(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["baseline", "write", BASELINE, "export"]) == ExitCode.PASSED
    renamed = {
        name.replace("model.layers", "blk").replace("mlp.", "ffn_").replace("_proj", ""): gaussian(SIDE, SIDE, seed=at)
        for at, name in enumerate(NAMES)
    }
    checkpoint(export / "model.safetensors", renamed)
    assert run(["gate", "export", "--baseline", BASELINE, "--fail-on", "warning"]) == ExitCode.PASSED
    capsys.readouterr()
    assert run(["gate", "export", "--baseline", BASELINE, "--sample", "6"]) == ExitCode.MISUSED
    assert "leave out --sample" in capsys.readouterr().out


def test_no_ignore_is_called_unused(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("jaynes.toml").write_text('[[ignore]]\nrule = "JN101"\ntensor = "*.4.*"\nreason = "known"\n')
    write(export, _9=with_nan())
    assert not report(capsys, "audit", "export", "--sample", "2")["findings"]


# ---- no false alarm


def healthy_only_as_a_whole(kind: str) -> dict[str, np.ndarray]:
    """Models to which no rule objects, or only an ignored one, though a part of one could look odd by itself."""
    tensors: dict[str, np.ndarray] = {}
    for block in range(BLOCKS):
        rows, columns = (80, 112) if kind == "two kinds of blocks" and block % 2 else (112, 80)
        for at, which in enumerate(("gate", "up", "down")):
            seed = 10 * (block // 2 if kind == "every block twice" else block) + at
            matrix = gaussian(rows, columns, seed=seed)
            if kind == "three blocks trained" and block in {0, 4, 7}:
                matrix *= np.exp(gaussian(rows, 1, seed=seed) * 20)
            tensors[f"model.layers.{block}.mlp.{which}_proj.weight"] = matrix
        is_zero = kind == "half of the norms zero" and block % 2 == 0
        tensors[f"model.layers.{block}.norm.weight"] = np.full(SIDE, 0.0 if is_zero else 1.0 + block / 100, np.float32)
    return tensors


@pytest.mark.parametrize(
    "kind", ["two kinds of blocks", "every block twice", "three blocks trained", "half of the norms zero"]
)
def test_a_sample_is_objected_to_for_nothing_that_the_whole_is_not(
    kind: str, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(export / "model.safetensors", healthy_only_as_a_whole(kind))
    whole = objections(report(capsys, "audit", "export"))
    assert {rule for rule, _ in whole} <= ({"JN109"} if kind == "every block twice" else set())
    for number in range(1, 4 * BLOCKS, 3):
        assert objections(report(capsys, "audit", "export", "--sample", str(number))) <= whole


# ---- what else goes with it


def test_an_archive_of_a_sample_gives_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    sketches = "export.sketches.safetensors"
    saved = report(capsys, "audit", "export", "--sample", "5", "--save-sketches", sketches)
    again = report(capsys, "audit", sketches, "--sample", "5")
    assert again["models"][0]["layers"] == saved["models"][0]["layers"]
    assert again["exit_reason"] == saved["exit_reason"]


@pytest.mark.parametrize("command", ["audit", "gate"])
@pytest.mark.parametrize("misuse", [["--sample", "0"], ["--sample", "-3"], ["--sample", "3", "--headers-only"]])
def test_a_misused_sample_is_status_2(command: str, misuse: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "export", *misuse]) == ExitCode.MISUSED
    assert "sample" in capsys.readouterr().err


def test_a_baseline_of_a_sample_cannot_be_written() -> None:
    assert run(["baseline", "write", BASELINE, "export", "--sample", "3"]) == ExitCode.MISUSED
