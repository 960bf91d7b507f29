"""`jaynes compare` as a user or a CI job meets it."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import jaynes_audit
from jaynes_audit.analyzers.comparison.record import comparison_schema
from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import LEVELS, ExitCode, FailOn
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.comparisons import COMPARISONS
from tests.support.checkpoint_files import SIZE, checkpoint, gaussian

ROOT = Path(__file__).parents[2]
BABBLE = ROOT / "fixtures" / "babble"
HEAVY = {"numpy", "scipy", "rich", "huggingface_hub", "msgspec", "asyncio", "concurrent.futures"}
PATIENCE = 60  # seconds
NAMES = ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight")

Captured = pytest.CaptureFixture[str]


def tensors(**changed: np.ndarray) -> dict[str, np.ndarray]:
    """Three matrices and a buffer."""
    matrices = {name: gaussian(SIZE, SIZE, seed=seed) for seed, name in enumerate(NAMES)}
    return {**matrices, "model.position_ids": np.arange(8, dtype=np.int64), **changed}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "base.safetensors", tensors())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "copy.safetensors", tensors())


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """One matrix is twice as large as it was."""
    return checkpoint(tmp_path / "doubled.safetensors", tensors(**{NAMES[1]: 2 * gaussian(SIZE, SIZE, seed=1)}))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = checkpoint(tmp_path / "broken.safetensors", tensors())
    path.write_bytes(path.read_bytes()[:-1000])
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "empty.safetensors", {"position_ids": np.arange(8)})


def found(capsys: Captured, *arguments: object) -> dict[str, object]:
    """The JSON report of a comparison."""
    run(["compare", *map(str, arguments), "-o", "json"])
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    Draft202012Validator(comparison_schema()).validate(document)
    return document


# ---- exit status


def test_0_whatever_differs_unless_it_is_asked_to_fail(base: Path, doubled: Path) -> None:
    assert run(["compare", str(base), str(doubled)]) == ExitCode.PASSED


@pytest.mark.parametrize("format_", list(COMPARISONS))
def test_1_from_the_level_that_is_asked_for_on(base: Path, doubled: Path, format_: Format) -> None:
    only = ["--layers", NAMES[1], "-o", format_]
    assert run(["compare", str(base), str(doubled), *only, "--fail-on", "error"]) == ExitCode.FOUND


def test_0_of_equal_models_at_any_level(base: Path, copy: Path, capsys: Captured) -> None:
    assert run(["compare", str(base), str(copy), "--fail-on", "note"]) == ExitCode.PASSED
    assert "no finding" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'OPERAND...'"),
        (["base.safetensors"], "there is nothing to compare it with"),
        (["base.safetensors", "copy.safetensors", "--fail-on", "blue"], "'blue'"),
        (["base.safetensors", "copy.safetensors", "-q", "-v"], "-q asks for less and -v for more"),
        (["base.safetensors", "copy.safetensors", "-o", "jso"], "did you mean 'json'?"),
        (["base.safetensors", "copy.safetensors", "--headers-only"], "No such option"),
    ],
)
@pytest.mark.usefixtures("copy")
def test_2_when_misused(
    arguments: list[str], words: str, base: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    assert run(["compare", *arguments]) == ExitCode.MISUSED
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not said.out


@pytest.mark.parametrize("format_", list(COMPARISONS))
def test_3_when_there_is_nothing_to_compare(base: Path, empty: Path, format_: Format) -> None:
    assert run(["compare", str(base), str(empty), "-o", format_]) == ExitCode.NOTHING_TO_AUDIT
    assert run(["compare", str(base), str(base.parent / "*.nothing"), "-o", format_]) == ExitCode.NOTHING_TO_AUDIT


@pytest.mark.parametrize("format_", list(COMPARISONS))
def test_4_when_an_operand_is_missing_and_the_others_are_compared(
    base: Path, copy: Path, format_: Format, capsys: Captured
) -> None:
    gone = base.with_name("gone.safetensors")
    assert run(["compare", str(base), str(gone), str(copy), "-o", format_]) == ExitCode.COULD_NOT_FINISH
    said = capsys.readouterr()
    assert "'" + str(gone) + "' does not exist" in (said.out if format_ is Format.TABLE else said.err)
    if format_ is Format.JSON:
        assert len(json.loads(said.out)["comparisons"]) == 1


@pytest.mark.parametrize("fail_on", [FailOn.NEVER, FailOn.ERROR])
def test_4_when_a_file_is_cut_short_and_nothing_looks_clean(
    base: Path, broken: Path, fail_on: FailOn, capsys: Captured
) -> None:
    assert run(["compare", str(base), str(broken), "--fail-on", fail_on]) == ExitCode.COULD_NOT_FINISH
    assert "dentical" not in capsys.readouterr().out.partition("\n")[0]


def test_141_and_silence_when_nobody_reads(base: Path, copy: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "jaynes_audit", "compare", str(base), str(copy)]
    with subprocess.Popen(arguments, stdout=writer, stderr=subprocess.PIPE) as process:  # noqa: S603
        os.close(writer)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.CLOSED_PIPE
    assert not said


def test_the_levels_are_those_of_the_rules() -> None:
    from jaynes_audit.analyzers.rules import Level  # noqa: PLC0415 - the command itself does without

    assert list(map(str, Level)) == list(LEVELS) == [level for level in FailOn if level is not FailOn.NEVER]


# ---- what is found


def test_equal_files_are_identical(base: Path, copy: Path, capsys: Captured) -> None:
    document = found(capsys, base, copy)
    (comparison,) = document["comparisons"]
    assert comparison["verdict"]["kinship"] == "identical"
    assert {layer["exact"]["relation"] for layer in comparison["layers"]} == {"identical"}
    assert comparison["findings"] == []
    assert document["operands"] == [str(base), str(copy)]


def test_what_changed_is_found_where_it_is(base: Path, doubled: Path, capsys: Captured) -> None:
    (comparison,) = found(capsys, base, doubled)["comparisons"]
    relations = {layer["a"]["name"]: layer["exact"]["relation"] for layer in comparison["layers"]}
    assert relations == {NAMES[0]: "identical", NAMES[1]: "different", NAMES[2]: "identical"}
    assert [(each["rule"], each["subject"]) for each in comparison["findings"]] == [("JN402", NAMES[1])]
    (changed,) = [layer for layer in comparison["layers"] if layer["a"]["name"] == NAMES[1]]
    assert changed["exact"]["difference"]["relative_error"] == pytest.approx(1, abs=1e-6)
    assert changed["parameters"]["mu"]["change"] == pytest.approx(np.log(2), abs=1e-3)


def test_one_factor_on_every_matrix_is_one_finding(base: Path, tmp_path: Path, capsys: Captured) -> None:
    scaled = {name: 3 * gaussian(SIZE, SIZE, seed=seed) for seed, name in enumerate(NAMES)}
    (comparison,) = found(capsys, base, checkpoint(tmp_path / "scaled.safetensors", tensors(**scaled)))["comparisons"]
    (finding,) = comparison["findings"]
    assert finding["rule"] == "JN405"
    assert finding["sentence"].endswith("in 3 of 3 matrices: weights 3 times as large")


def test_a_missing_an_extra_and_a_resized_tensor_are_findings(base: Path, tmp_path: Path, capsys: Captured) -> None:
    changed = {NAMES[0]: gaussian(SIZE, SIZE), "model.layers.1.mlp.up_proj.weight": gaussian(2 * SIZE, SIZE, seed=1)}
    changed["unheard_of"] = gaussian(SIZE, SIZE, seed=9)
    (comparison,) = found(capsys, base, checkpoint(tmp_path / "other.safetensors", changed))["comparisons"]
    rules = [(each["rule"], each["subject"]) for each in comparison["findings"] if each["rule"].startswith("JN2")]
    assert rules == [("JN201", NAMES[2]), ("JN203", NAMES[1]), ("JN202", "unheard_of")]


def test_what_is_wrong_with_b_by_itself_is_a_finding_and_with_a_is_none(
    base: Path, tmp_path: Path, capsys: Captured
) -> None:
    sick = gaussian(SIZE, SIZE)
    sick[3, 4] = np.nan
    path = checkpoint(tmp_path / "sick.safetensors", tensors(**{NAMES[0]: sick}))
    (into,), (out_of,) = (found(capsys, *pair)["comparisons"] for pair in ((base, path), (path, base)))
    assert "JN101" in {each["rule"] for each in into["findings"]}
    assert "JN101" not in {each["rule"] for each in out_of["findings"]}


def test_zeros_are_counted_on_both_sides(base: Path, tmp_path: Path, capsys: Captured) -> None:
    pruned = gaussian(SIZE, SIZE)
    pruned[np.abs(pruned) < 0.01] = 0
    path = checkpoint(tmp_path / "pruned.safetensors", tensors(**{NAMES[0]: pruned}))
    (comparison,) = found(capsys, base, path)["comparisons"]
    (layer,) = [each for each in comparison["layers"] if each["a"]["name"] == NAMES[0]]
    assert layer["zeros"] == {"a": 0, "b": int((pruned == 0).sum())}
    assert "JN404" in {each["rule"] for each in comparison["findings"]}


def test_reports_are_operands_and_a_report_of_two_models_is_two(
    base: Path, doubled: Path, tmp_path: Path, capsys: Captured
) -> None:
    both = tmp_path / "both.json"
    assert run(["audit", str(base), str(doubled), "-o", f"json={both}"]) == 0
    document = found(capsys, both)
    (comparison,) = document["comparisons"]
    assert [comparison["a"]["kind"], comparison["b"]["kind"]] == ["report", "report"]
    assert "JN402" in {each["rule"] for each in comparison["findings"]}
    assert comparison["not_exact"]


def test_more_than_two_are_compared_pair_by_pair(base: Path, copy: Path, doubled: Path, capsys: Captured) -> None:
    document = found(capsys, base, copy, doubled)
    pairs = [(each["a"]["target"], each["b"]["target"]) for each in document["comparisons"]]
    assert pairs == [(str(base), str(copy)), (str(base), str(doubled)), (str(copy), str(doubled))]
    run(["compare", str(base), str(copy), str(doubled)])
    page = capsys.readouterr().out
    assert page.startswith("Every two models\n")
    assert "1 and 3" in page


# ---- options


def test_layers_are_picked_by_pattern(base: Path, doubled: Path, capsys: Captured) -> None:
    (comparison,) = found(capsys, base, doubled, "--layers", "*up_proj*", "--exclude", "*.1.*")["comparisons"]
    assert [layer["a"]["name"] for layer in comparison["layers"]] == [NAMES[0], NAMES[2]]
    assert comparison["verdict"]["kinship"] == "identical"


def test_weights_are_not_compared_one_by_one_when_that_is_not_wanted(
    base: Path, doubled: Path, capsys: Captured
) -> None:
    (comparison,) = found(capsys, base, doubled, "--no-exact")["comparisons"]
    assert comparison["not_exact"] == "--no-exact was given"
    assert [layer["exact"]["relation"] for layer in comparison["layers"] if layer["exact"]] == ["identical"] * 2


def test_the_same_bytes_give_the_same_report_at_any_number_of_jobs_and_any_io(
    base: Path, doubled: Path, capsys: Captured
) -> None:
    made = set()
    for more in (["-j", "1"], ["-j", "3"], ["--io", "pread"]):
        run(["compare", str(base), str(doubled), "-o", "json", *more])
        made.add(capsys.readouterr().out)
    assert len(made) == 1


def test_reports_go_to_the_files_that_were_named(base: Path, copy: Path, tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    outputs = [f"{format_}={folder / format_}" for format_ in COMPARISONS]
    assert run(["compare", str(base), str(copy), *(part for each in outputs for part in ("-o", each))]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(COMPARISONS)
    assert not any(capsys.readouterr())
    rows = list(csv.reader(io.StringIO((folder / "csv").read_text())))
    assert len(rows) == 1 + len(NAMES)


def test_quiet_is_the_verdict_the_findings_and_the_status(base: Path, doubled: Path, capsys: Captured) -> None:
    run(["compare", str(base), str(doubled), "-q"])
    first, finding, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{base} and {doubled}: ")
    assert finding.startswith("error    JN402 scale-drift  ")
    assert last == "Exit status 0: 1 pair compared; 1 error, which fail only with --fail-on."


def test_hostile_names_do_nothing_to_the_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07[/red]|=1+1\u202e"
    one, two = (
        checkpoint(tmp_path / f"{seed}.safetensors", {name: gaussian(SIZE, SIZE, seed=seed)}) for seed in (1, 2)
    )
    outputs = [f"{format_}={tmp_path / format_}" for format_ in COMPARISONS]
    run(["compare", str(one), str(two), "--all", "-v", *(part for each in outputs for part in ("-o", each))])
    for format_ in COMPARISONS:
        assert all(line.isprintable() for line in (tmp_path / format_).read_text().split("\n"))


# ---- real networks


@pytest.mark.parametrize("encoding", ["bf16", "fp16"])
def test_an_export_is_the_same_weights_and_warns_of_its_format_alone(encoding: str, capsys: Captured) -> None:
    (comparison,) = found(capsys, BABBLE / "fp32", BABBLE / encoding)["comparisons"]
    assert comparison["verdict"]["kinship"] == "same weights"
    assert {layer["exact"]["relation"] for layer in comparison["layers"]} == {"identical after a cast"}
    assert {each["rule"] for each in comparison["findings"]} == {"JN204"}


# ---- start-up, schema, Python


@pytest.mark.parametrize("arguments", [["compare", "--help"], ["--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from jaynes_audit.cli.app import run; status = run(sys.argv[1:]); "
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "compare" in done.stdout


def test_the_schema_in_the_repository_is_the_one_that_is_printed(capsys: Captured) -> None:
    kept = ROOT / "docs" / "schemas" / "jaynes-comparison-1.schema.json"
    assert run(["schema", "comparison"]) == 0
    assert capsys.readouterr().out == kept.read_text()


def test_a_program_gets_what_the_command_says(base: Path, doubled: Path, capsys: Captured) -> None:
    comparison = jaynes_audit.compare(base, doubled)
    assert isinstance(comparison, jaynes_audit.Comparison)
    assert [comparison.to_dict()] == found(capsys, base, doubled)["comparisons"]
    assert all(isinstance(layer, jaynes_audit.LayerComparison) for layer in comparison.layers)


def test_a_program_compares_two_models_and_no_more(base: Path, copy: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.json"
    run(["audit", str(base), str(copy), "-o", f"json={both}"])
    with pytest.raises(jaynes_audit.UsageError, match="names 2 models"):
        jaynes_audit.compare(both, base)
    with pytest.raises(jaynes_audit.UsageError, match="io='magic'"):
        jaynes_audit.compare(base, copy, io="magic")
    assert jaynes_audit.compare(base, copy).verdict.kinship is jaynes_audit.Kinship.IDENTICAL
