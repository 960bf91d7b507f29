"""The gate as a CI job meets it: one exit status for each situation, the same in every format."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from jaynes_audit.cli.outputs import Format
from tests.support.checkpoint_files import checkpoint, gaussian

BABBLE = Path(__file__).parents[2] / "fixtures" / "babble" / "bf16"
UP = "model.layers.0.mlp.up_proj.weight"
BASELINE = "baselines/export.jaynes.jsonl"


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a good export, and its baseline, committed."""
    monkeypatch.chdir(tmp_path)
    for name in ("CI", "JAYNES_BASELINE", "JAYNES_FAIL_ON"):
        monkeypatch.delenv(name, raising=False)
    git("init", "--quiet", "--initial-branch", "main")
    (tmp_path / "export").mkdir()
    (tmp_path / "baselines").mkdir()
    export(tmp_path)
    assert run(["baseline", "write", BASELINE, "export"]) == ExitCode.PASSED
    git("add", "baselines")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "Approve the export")
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)  # noqa: S603, S607


def weights() -> dict[str, np.ndarray]:
    return {f"model.layers.{block}.mlp.up_proj.weight": gaussian(128, 128, seed=block) for block in range(4)}


def export(folder: Path, **changed: np.ndarray) -> None:
    tensors = weights()
    for block, other in changed.items():
        tensors[f"model.layers.{block.removeprefix('block')}.mlp.up_proj.weight"] = other
    checkpoint(folder / "export" / "model.safetensors", tensors)


def with_nan() -> np.ndarray:
    broken = gaussian(128, 128)
    broken[3, 4] = np.nan
    return broken


# ---- exit status


def test_0_when_the_export_is_the_approved_one() -> None:
    assert run(["gate", "export", "--baseline", BASELINE]) == ExitCode.PASSED


@pytest.mark.parametrize("format_", list(Format))
def test_1_in_every_format_when_a_layer_changed(repository: Path, format_: Format) -> None:
    export(repository, block2=gaussian(128, 128, seed=99))
    assert run(["gate", "export", "--baseline", BASELINE, "-o", format_]) == ExitCode.FOUND


def test_1_when_a_weight_is_no_number_and_there_is_no_baseline(repository: Path) -> None:
    export(repository, block0=with_nan())
    assert run(["gate", "export"]) == ExitCode.FOUND


def test_0_when_that_is_what_fail_on_says(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(repository, block0=with_nan())
    for lenient in (["--fail-on", "never"], ["--exit-zero"], ["--ignore-rule", "JN101"], ["--select", "JN4"]):
        assert run(["gate", "export", *lenient]) == ExitCode.PASSED
    assert "JN101" in capsys.readouterr().out


def test_1_for_a_warning_where_fail_on_says_so(repository: Path) -> None:
    export(repository, block0=np.full((128, 128), 0.5, np.float32))
    assert run(["gate", "export"]) == ExitCode.PASSED
    assert run(["gate", "export", "--fail-on", "warning"]) == ExitCode.FOUND


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gate"], "there is nothing to gate: name a checkpoint"),
        (["gate", "export", "--baseline", "gone.jsonl"], "there is no baseline 'gone.jsonl'"),
        (["gate", "export", "--baseline", "export/model.safetensors"], "'export/model.safetensors'"),
        (["gate", "export", "--baseline", "nowhere:b.jsonl"], "git has no revision 'nowhere'"),
        (["gate", "export", "--select", "JN999"], "'JN999' is no code of a rule"),
        (["gate", "export", "--fail-on", "panic"], "'panic'"),
        (["gate", "export", "--exit-zero", "--fail-on", "error"], "give one of the two"),
        (["gate", "export", "-o", "sarf"], "did you mean 'sarif'?"),
        (["gate", "export", "--revision", "main"], "--revision main is about models on the Hub"),
        (["gate", "export", "-c", "gone.toml"], "gone.toml"),
    ],
)
def test_2_when_misused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitCode.MISUSED
    said = capsys.readouterr()
    assert (said.out + said.err).count(words) == 1
    assert "Traceback" not in said.err


def test_3_when_there_is_nothing_to_gate(repository: Path) -> None:
    (repository / "empty").mkdir()
    assert run(["gate", "empty"]) == ExitCode.NOTHING_TO_AUDIT


def test_4_when_the_export_is_missing() -> None:
    assert run(["gate", "exprot", "--baseline", BASELINE]) == ExitCode.COULD_NOT_FINISH


def test_4_comes_before_1(repository: Path) -> None:
    export(repository, block0=with_nan())
    assert run(["gate", "export", "gone"]) == ExitCode.COULD_NOT_FINISH


# ---- the baseline


def test_the_baseline_of_another_branch_cannot_be_loosened_by_this_one(repository: Path) -> None:
    export(repository, block2=gaussian(128, 128, seed=99))
    (repository / BASELINE).unlink()
    assert run(["baseline", "write", BASELINE, "export"]) == ExitCode.PASSED  # what a pull request might do
    assert run(["gate", "export", "--baseline", BASELINE]) == ExitCode.PASSED
    assert run(["gate", "export", "--baseline", f"main:{BASELINE}"]) == ExitCode.FOUND


def test_require_base_ref_refuses_a_baseline_of_the_working_tree(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "jaynes.toml").write_text("require-base-ref = true\n")
    assert run(["gate", "export", "--baseline", BASELINE]) == ExitCode.MISUSED
    assert "require-base-ref asks for a baseline from git" in capsys.readouterr().out
    assert run(["gate", "export", "--baseline", f"HEAD:{BASELINE}"]) == ExitCode.PASSED


def test_the_name_of_the_model_stands_in_for_name(repository: Path) -> None:
    assert run(["gate", "export", "--baseline", "baselines/{name}.jaynes.jsonl"]) == ExitCode.PASSED
    shutil.copytree(repository / "export", repository / "other")
    assert run(["gate", "export", "other", "--baseline", "baselines/{name}.jaynes.jsonl"]) == ExitCode.MISUSED


def test_a_part_of_the_layers_can_be_held_against_it(repository: Path) -> None:
    export(repository, block2=gaussian(128, 128, seed=99))
    assert run(["gate", "export", "--baseline", BASELINE, "--layers", "*.1.*"]) == ExitCode.PASSED
    assert run(["gate", "export", "--baseline", BASELINE, "--layers", "*.2.*"]) == ExitCode.FOUND


def test_layers_that_are_gone_are_errors(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = weights()
    del tensors["model.layers.3.mlp.up_proj.weight"]
    checkpoint(repository / "export" / "model.safetensors", tensors)
    assert run(["gate", "export", "--baseline", BASELINE]) == ExitCode.FOUND
    assert "JN201 missing-tensor  model.layers.3.mlp.up_proj.weight" in capsys.readouterr().out


# ---- the configuration


def test_targets_baseline_and_outputs_can_stand_in_the_configuration(repository: Path) -> None:
    (repository / "jaynes.toml").write_text(
        'targets = ["export"]\nbaseline = "baselines/{name}.jaynes.jsonl"\noutput = ["json=report.json"]\n'
    )
    assert run(["gate"]) == ExitCode.PASSED
    report = json.loads((repository / "report.json").read_text())
    assert (report["command"], report["exit_code"]) == ("gate", 0)
    assert report["models"][0]["baseline"]["place"] == BASELINE
    assert run(["gate", "--no-config"]) == ExitCode.MISUSED


def test_what_is_ignored_does_not_fail_and_is_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(repository, block0=with_nan())
    ignore = f'[[ignore]]\nrule = "JN101"\ntensor = "{UP}"\nreason = "a known hole, #12"\nuntil = 2999-01-01\n'
    (repository / "jaynes.toml").write_text(ignore)
    assert run(["gate", "export"]) == ExitCode.PASSED
    assert "1 ignored" in capsys.readouterr().out
    (repository / "jaynes.toml").write_text(ignore.replace("2999", "2020"))
    assert run(["gate", "export"]) == ExitCode.FOUND
    assert "JN902" in capsys.readouterr().out


def test_an_audit_takes_rules_and_levels_from_the_configuration_too(repository: Path) -> None:
    export(repository, block0=with_nan())
    assert run(["audit", "export"]) == ExitCode.FOUND
    (repository / "jaynes.toml").write_text('[severity]\nJN101 = "note"\n')
    assert run(["audit", "export"]) == ExitCode.PASSED
    assert run(["audit", "export", "--no-config"]) == ExitCode.FOUND
    assert run(["audit", "export", "--fail-on", "note"]) == ExitCode.FOUND


# ---- what is written


def test_several_reports_of_one_run_have_one_status(repository: Path) -> None:
    export(repository, block2=gaussian(128, 128, seed=99))
    files = {format_: repository / f"report.{format_}" for format_ in Format}
    outputs = [word for format_, path in files.items() for word in ("-o", f"{format_}={path}")]
    assert run(["gate", "export", "--baseline", BASELINE, *outputs]) == ExitCode.FOUND
    for path in files.values():
        assert path.read_text()


def test_a_saved_report_is_rendered_as_it_was(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(repository, block2=gaussian(128, 128, seed=99))
    for format_ in Format:
        asked = ["gate", "export", "--baseline", BASELINE, "-o", "json=report.json", "-o", format_]
        capsys.readouterr()
        assert run(asked) == ExitCode.FOUND
        at_once = capsys.readouterr().out
        assert run(["render", "report.json", "-o", format_]) == ExitCode.FOUND
        assert capsys.readouterr().out == at_once


def test_render_says_what_to_name_where_there_is_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "nope.json"]) == ExitCode.COULD_NOT_FINISH
    assert "'nope.json' does not exist; name a report, which `-o json=PATH` writes" in capsys.readouterr().err


def test_the_seconds_are_told_when_asked_for_and_no_report_varies_otherwise(repository: Path) -> None:
    run(["gate", "export", "-o", "json=a.json"])
    run(["gate", "export", "-o", "json=b.json"])
    run(["gate", "export", "-o", "json=timed.json", "--timing"])
    assert (repository / "a.json").read_bytes() == (repository / "b.json").read_bytes()
    assert json.loads((repository / "a.json").read_text())["timing"] is None
    (timed,) = json.loads((repository / "timed.json").read_text())["timing"]
    assert timed["target"] == "export"
    assert timed["reading"] >= 0 <= timed["judging"]


def test_a_real_model_passes_against_itself_and_fails_when_one_bit_is_flipped(repository: Path) -> None:
    target = repository / "babble"
    shutil.copytree(BABBLE, target)
    assert run(["baseline", "write", "baselines/babble.jaynes.jsonl", "babble"]) == ExitCode.PASSED
    gated = ["gate", "babble", "--baseline", "baselines/{name}.jaynes.jsonl"]
    assert run(gated) == ExitCode.PASSED
    shard = next(target.glob("*-00001-*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1000] ^= 0x40  # one bit of one weight
    shard.write_bytes(bytes(content))
    assert run(gated) == ExitCode.FOUND


def test_a_finding_about_another_file_does_not_tell_of_one_that_was_refused(repository: Path) -> None:
    shutil.copytree(BABBLE, repository / "babble")
    one, other = sorted((repository / "babble").glob("*-of-*.safetensors"))[:2]
    one.write_bytes(one.read_bytes()[:-1000])
    other.write_bytes(b"<html></html>")
    hidden = ["gate", "babble", "--ignore-rule", "JN001", "--fail-on", "never"]
    assert run(hidden) == ExitCode.COULD_NOT_FINISH


def test_4_when_a_file_was_refused_and_the_rules_that_say_so_are_off(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(BABBLE, repository / "babble")
    shard = next((repository / "babble").glob("*-00001-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert run(["gate", "babble"]) == ExitCode.FOUND
    assert run(["gate", "babble", "--select", "JN101"]) == ExitCode.FOUND  # a refusal is asked for whatever else is
    assert run(["gate", "babble", "--ignore-rule", "JN0"]) == ExitCode.COULD_NOT_FINISH
    assert "no finding that counts says so" in capsys.readouterr().out


# ---- what cannot be made to pass


def test_a_report_never_takes_the_place_of_an_input(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "jaynes.toml").write_text('fail-on = "error"\n')
    for path in ("export/model.safetensors", BASELINE, "jaynes.toml"):
        before = Path(path).read_bytes()
        assert run(["gate", "export", "--baseline", BASELINE, "-o", f"json={path}"]) == ExitCode.MISUSED
        assert "is an input" in capsys.readouterr().err
        assert Path(path).read_bytes() == before


def test_headers_alone_are_held_against_no_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate", "export", "--baseline", BASELINE, "--headers-only"]) == ExitCode.MISUSED
    assert "--headers-only reads no weight" in capsys.readouterr().err


def test_a_baseline_that_was_measured_in_quite_another_way_is_misuse(repository: Path) -> None:
    path = repository / BASELINE
    edited = path.read_text().replace('"statistics":"1"', '"statistics":"2"', 1)
    path.write_text(edited)
    assert run(["gate", "export", "--baseline", BASELINE]) == ExitCode.MISUSED  # nor is its digest right
    assert run(["baseline", "verify", BASELINE]) == ExitCode.MISUSED


@pytest.mark.parametrize(
    "lenient",
    [
        '[severity]\nJN001 = "note"\n',
        '[[ignore]]\nrule = "JN001"\ntensor = "*"\nreason = "a slow network"\n',
        'ignore-rule = ["JN001"]\n',
    ],
)
def test_a_truncated_file_never_passes(repository: Path, lenient: str) -> None:
    shutil.copytree(BABBLE, repository / "babble")
    shard = next((repository / "babble").glob("*-00001-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    (repository / "jaynes.toml").write_text(lenient)
    assert run(["gate", "babble"]) == ExitCode.COULD_NOT_FINISH


def test_a_known_finding_hides_no_more_of_the_same(repository: Path) -> None:
    export(repository, block0=with_nan())
    assert run(["baseline", "write", "known.jaynes.jsonl", "export", "--force"]) == ExitCode.PASSED
    (repository / "jaynes.toml").write_text('[expect]\nchanged = ["*"]\n')
    gated = ["gate", "export", "--baseline", "known.jaynes.jsonl"]
    assert run(gated) == ExitCode.PASSED
    more = with_nan()
    more[7] = np.nan
    export(repository, block0=more)
    assert run(gated) == ExitCode.FOUND


def test_an_ignored_drift_does_not_hide_that_the_weights_are_others(repository: Path) -> None:
    export(repository, block2=1.1 * gaussian(128, 128, seed=99))
    ignore = '[[ignore]]\nrule = "JN402"\ntensor = "*"\nreason = "scaled on purpose"\n'
    (repository / "jaynes.toml").write_text(ignore)
    assert run(["gate", "export", "--baseline", BASELINE]) == ExitCode.FOUND


def test_require_base_ref_asks_for_a_baseline(repository: Path) -> None:
    (repository / "jaynes.toml").write_text("require-base-ref = true\n")
    assert run(["gate", "export"]) == ExitCode.MISUSED
    assert run(["gate", "export", "--no-baseline"]) == ExitCode.MISUSED


def test_one_checkpoint_by_three_names_is_gated_once(repository: Path) -> None:
    run(["gate", "export", "export/", "./export", "-o", "json=report.json"])
    assert len(json.loads((repository / "report.json").read_text())["models"]) == 1


def test_a_model_is_known_again_from_inside_its_folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(repository, block2=with_nan())
    told = repository / "told.json"
    fingerprints = []
    for folder, target in ((repository, "export/"), (repository / "export", "."), (repository / "export", "../export")):
        monkeypatch.chdir(folder)
        assert run(["gate", target, "--extend-select", "JN107", "-o", f"json={told}"]) == ExitCode.FOUND
        fingerprints.append([each["fingerprint"] for each in json.loads(told.read_text())["models"][0]["findings"]])
    assert fingerprints[0] == fingerprints[1] == fingerprints[2]
    baseline = str(repository / "baselines" / "{name}.jaynes.jsonl")
    monkeypatch.chdir(repository / "export")
    assert run(["gate", ".", "--baseline", baseline]) == ExitCode.FOUND


def test_a_saved_report_whose_status_was_changed_is_misuse(repository: Path) -> None:
    export(repository, block0=with_nan())
    run(["gate", "export", "-o", "json=report.json"])
    path = repository / "report.json"
    path.write_text(path.read_text().replace('"exit_code": 1', '"exit_code": 0'))
    assert run(["render", "report.json"]) == ExitCode.MISUSED


@pytest.mark.parametrize(
    ("targets", "is_told"), [([], True), (["export", "./other/"], True), (["export"], False), (["other/"], False)]
)
def test_an_ignore_is_called_unused_only_where_all_that_the_configuration_names_is_gated(
    targets: list[str],
    is_told: bool,  # noqa: FBT001 - a table
    repository: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(repository / "export", repository / "other")
    ignore = '[[ignore]]\nrule = "JN101"\ntensor = "*"\nreason = "known"\n'
    (repository / "jaynes.toml").write_text(f'targets = ["export/", "other/"]\n{ignore}')
    assert run(["gate", *targets]) == ExitCode.PASSED
    assert ("JN901" in capsys.readouterr().out) is is_told


def test_an_ignore_of_rules_that_were_not_asked_is_not_called_unused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ignore = '[[ignore]]\nrule = "JN4"\ntensor = "*"\nreason = "it is trained on"\n'
    (repository / "jaynes.toml").write_text(ignore)
    assert run(["gate", "export", "--fail-on", "warning"]) == ExitCode.PASSED
    assert run(["gate", "export", "--fail-on", "warning", "--baseline", BASELINE]) == ExitCode.FOUND
    assert "JN901" in capsys.readouterr().out
