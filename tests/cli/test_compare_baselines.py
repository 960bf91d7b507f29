"""`jaynes compare` of baselines, as a reviewer or a CI job meets it."""

import csv
import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import jaynes_audit
from jaynes_audit.analyzers.baseline.text import from_text, to_text
from jaynes_audit.analyzers.comparison.record import comparison_schema
from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.comparisons import COMPARISONS
from tests.support.checkpoint_files import SIZE, checkpoint, gaussian

NAMES = ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight")
PATH = "baselines/model.jaynes.jsonl"
EXPORT = "export.safetensors"

Captured = pytest.CaptureFixture[str]


def save(factor: float = 1.0) -> None:
    """Three matrices, of which the second is multiplied."""
    matrices = {name: gaussian(SIZE, SIZE, seed=seed) for seed, name in enumerate(NAMES)}
    matrices[NAMES[1]] = np.float32(factor) * matrices[NAMES[1]]
    checkpoint(Path(EXPORT), matrices)


def git(*arguments: str) -> None:
    settings = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *settings, *arguments], check=True)  # noqa: S603, S607 - the words above


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Path:
    """The baseline of the good model is in git; that of a model with one matrix doubled is in the working tree."""
    monkeypatch.chdir(tmp_path)
    Path("baselines").mkdir()
    save()
    assert run(["baseline", "write", PATH, EXPORT]) == ExitCode.PASSED
    git("init", "-q", "-b", "main")
    git("add", PATH)
    git("commit", "-qm", "one")
    save(factor=2)
    Path(PATH).unlink()
    assert run(["baseline", "write", PATH, EXPORT]) == ExitCode.PASSED
    capsys.readouterr()
    return tmp_path


def document(capsys: Captured, *arguments: str) -> dict[str, object]:
    run(["compare", *arguments, "-o", "json"])
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    Draft202012Validator(comparison_schema()).validate(found)
    return found


# ---- no weights anywhere


def test_a_reviewer_sees_what_a_change_does_to_the_baseline(capsys: Captured) -> None:
    Path(EXPORT).unlink()
    assert run(["compare", f"main:{PATH}", PATH]) == ExitCode.PASSED
    said = capsys.readouterr().out
    assert "weights 2 times as large" in said
    assert "a baseline holds no weights" in said
    assert "3 layers: 2 identical; 1 another distribution." in said


@pytest.mark.parametrize("format_", list(COMPARISONS))
def test_the_same_baseline_on_both_sides_is_the_same(format_: Format, capsys: Captured) -> None:
    assert run(["compare", PATH, PATH, "-o", format_, "--fail-on", "note"]) == ExitCode.PASSED
    assert "dentical" in capsys.readouterr().out


@pytest.mark.parametrize("format_", list(COMPARISONS))
@pytest.mark.parametrize("b", [PATH, EXPORT])
def test_every_format_tells_of_the_layer_and_fails_when_asked_to(format_: Format, b: str, capsys: Captured) -> None:
    assert run(["compare", f"main:{PATH}", b, "-o", format_, "--fail-on", "error"]) == ExitCode.FOUND
    assert NAMES[1] in capsys.readouterr().out
    assert run(["compare", f"main:{PATH}", b, "-o", format_]) == ExitCode.PASSED


def test_figures_are_the_same_in_csv_and_json_and_nulls_are_empty_cells(capsys: Captured) -> None:
    (comparison,) = document(capsys, f"main:{PATH}", PATH)["comparisons"]
    assert comparison["a"]["kind"] == comparison["b"]["kind"] == "baseline"
    assert comparison["a"]["bytes"] is None
    changed = next(each for each in comparison["layers"] if each["a"]["name"] == NAMES[1])
    assert changed["parameters"]["mu"]["change"] == pytest.approx(np.log(2), abs=1e-4)
    assert changed["distances"]["wasserstein"] == pytest.approx(np.log(2), abs=1e-4)
    assert changed["distances"]["ks"] is changed["distances"]["ks_noise"] is changed["distances"]["jensen_shannon"]
    assert changed["parameters"]["skewness"]["error"] is None
    run(["compare", f"main:{PATH}", PATH, "-o", "csv"])
    row = next(each for each in csv.DictReader(io.StringIO(capsys.readouterr().out)) if each["a_name"] == NAMES[1])
    assert float(row["mu_change"]) == changed["parameters"]["mu"]["change"]
    assert (row["ks"], row["jensen_shannon"]) == ("", "")


def test_layers_are_chosen_by_name(capsys: Captured) -> None:
    found = document(capsys, f"main:{PATH}", PATH, "--layers", NAMES[0])
    (comparison,) = found["comparisons"]
    assert [each["a"]["name"] for each in comparison["layers"]] == [NAMES[0]]


def test_a_saved_report_is_held_against_a_baseline(capsys: Captured) -> None:
    run(["audit", EXPORT, "-o", "json=audit.json"])
    capsys.readouterr()
    (comparison,) = document(capsys, f"main:{PATH}", "audit.json")["comparisons"]
    assert [each["rule"] for each in comparison["findings"] if each["subject"] == NAMES[1]] == ["JN402"]


def test_python_compares_baselines_too() -> None:
    assert jaynes_audit.compare(f"main:{PATH}", PATH).a.kind == "baseline"


# ---- misuse


def sentence(capsys: Captured, *arguments: str) -> str:
    """What is said of the one operand or target that failed."""
    assert run([*arguments, "-o", "json"]) == ExitCode.MISUSED
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    return failure["sentence"]


def test_a_damaged_baseline_is_told_in_the_words_of_the_gate(capsys: Captured) -> None:
    whole = Path(PATH).read_bytes()
    other = to_text(replace(from_text(whole, PATH).baseline, statistics="2")).encode()
    for content in (whole[:-40], whole.replace(b'"n"', b'"m"', 1), b"", b"<<<<<<< ours\n" + whole, other):
        Path(PATH).write_bytes(content)
        compared = sentence(capsys, "compare", f"main:{PATH}", PATH)
        assert compared == sentence(capsys, "gate", EXPORT, "--no-config", "--baseline", PATH)
        assert PATH in compared


@pytest.mark.parametrize(
    ("operand", "words"),
    [
        ("baselines/gone.jaynes.jsonl", "there is no baseline"),
        ("gone:" + PATH, "git has no revision 'gone'"),
        ("main:baselines/gone.jaynes.jsonl", "revision 'main' has no file"),
        ("main:gone.safetensors", "there is no path 'main:gone.safetensors' here, and of git"),
    ],
)
def test_2_when_a_baseline_is_not_there(operand: str, words: str, capsys: Captured) -> None:
    assert words in sentence(capsys, "compare", PATH, operand, "--fail-on", "never")


def test_2_when_weights_are_asked_for(capsys: Captured) -> None:
    assert run(["compare", PATH, EXPORT, "--exact"]) == ExitCode.MISUSED
    assert "--exact reads weights, and 'baselines/model.jaynes.jsonl' holds none" in capsys.readouterr().err


def test_an_ambiguity_is_said_aloud(capsys: Captured) -> None:
    Path("main:baselines").mkdir()
    Path(f"main:{PATH}").write_bytes(Path(PATH).read_bytes())
    assert run(["compare", f"main:{PATH}", PATH, "--fail-on", "error"]) == ExitCode.FOUND
    assert f"'main:{PATH}' was read through git" in capsys.readouterr().out
