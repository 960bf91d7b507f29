"""`jaynes track` as a user or a CI job meets it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants
from jsonschema import Draft202012Validator

import jaynes_audit
from jaynes_audit.analyzers.checkpoints import locations
from jaynes_audit.analyzers.checkpoints.hub.client import hub_client
from jaynes_audit.analyzers.track import series
from jaynes_audit.analyzers.track.record import track_schema
from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.tracks import TRACKS
from tests.support.checkpoint_files import SIZE, checkpoint, gaussian
from tests.support.hub import LoopbackHub

ROOT = Path(__file__).parents[2]
RUN = ROOT / "fixtures" / "run"
HEAVY = {"numpy", "scipy", "rich", "huggingface_hub", "msgspec", "asyncio", "concurrent.futures"}
PATIENCE = 60  # seconds
NAME = "model.layers.0.mlp.up_proj.weight"

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three checkpoints of one matrix."""
    for step in (1, 2, 3):
        (tmp_path / "run" / f"step_{step}").mkdir(parents=True)
        weights = {NAME: gaussian(SIZE, SIZE, seed=step)}
        checkpoint(tmp_path / "run" / f"step_{step}" / "model.safetensors", weights)
    return tmp_path / "run"


def found(capsys: Captured, *arguments: object) -> dict[str, Any]:
    """The JSON report of a run."""
    run(["track", *map(str, arguments), "-o", "json"])
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    Draft202012Validator(track_schema()).validate(document)
    return document


# ---- exit status


@pytest.mark.parametrize("format_", list(TRACKS))
def test_0_when_all_were_read(small: Path, format_: Format) -> None:
    assert run(["track", str(small), "-o", format_]) == ExitCode.PASSED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'RUN'"),
        (["run/step_1"], "is one checkpoint"),
        (["run/step_1", "run/step_1/model.safetensors", "--every", "0"], "'--every'"),
        (["run/step_1/model.safetensors"], "takes two checkpoints or more"),
        (["run", "--steps", "1"], "takes two checkpoints or more"),
        (["run", "--steps", "1,7"], "there is no checkpoint of step '7'"),
        (["run", "--steps", "1,x"], "lists no steps"),
        (["run", "--steps", ""], "lists no steps"),
        (["run", "-o", "sarif"], "there is no format 'sarif'"),
        (["run", "-q", "-v"], "-q asks for less and -v for more"),
        (["run/step_1", "other.safetensors"], "are not of one model"),
    ],
)
def test_2_when_misused(
    arguments: list[str], words: str, small: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(small.parent / "other.safetensors", {NAME: gaussian(SIZE, 2 * SIZE)})
    monkeypatch.chdir(small.parent)
    assert run(["track", *arguments]) == ExitCode.MISUSED
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not said.out


@pytest.mark.parametrize("format_", list(TRACKS))
def test_3_when_there_is_nothing_to_track(small: Path, tmp_path: Path, format_: Format) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["track", str(tmp_path / "empty"), "-o", format_]) == ExitCode.NOTHING_TO_AUDIT
    assert run(["track", str(small), "--layers", "nothing", "-o", format_]) == ExitCode.NOTHING_TO_AUDIT


@pytest.mark.parametrize("format_", list(TRACKS))
def test_4_when_one_cannot_be_read_and_the_others_are_reported(small: Path, format_: Format, capsys: Captured) -> None:
    cut = small / "step_2" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    (small / "step_4").symlink_to(small / "gone")
    assert run(["track", str(small), "-o", format_]) == ExitCode.COULD_NOT_FINISH
    said = capsys.readouterr()
    assert "step_3" in said.out or "3 checkpoints" in said.out
    if format_ is Format.JSON:
        read = {
            each["number"]: each["point"]["coverage"]["complete"] for each in json.loads(said.out)["run"]["checkpoints"]
        }
        assert read == {1: True, 2: False, 3: True}


def test_141_and_silence_when_nobody_reads(small: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "jaynes_audit", "track", str(small)]
    with subprocess.Popen(arguments, stdout=writer, stderr=subprocess.PIPE) as process:  # noqa: S603
        os.close(writer)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.CLOSED_PIPE
    assert not said


# ---- what is found


def test_a_real_run_is_followed_by_its_steps(capsys: Captured) -> None:
    document = found(capsys, RUN)
    checkpoints = document["run"]["checkpoints"]
    assert [(each["number"], each["loss"]) for each in checkpoints] == [(300, 0.7386), (900, 0.5043), (3000, 0.4108)]
    assert {course["course"] for course in document["run"]["courses"]} == {"cannot be said"}
    assert [each["before"] for each in document["run"]["transitions"]] == [300, 900]
    assert document["exit_reason"] == "3 checkpoints read"


def test_python_gives_what_the_command_prints(capsys: Captured) -> None:
    run_record = found(capsys, RUN)["run"]
    assert json.loads(json.dumps(jaynes_audit.track(RUN).to_dict())) == run_record | {"targets": [str(RUN)]}
    assert len(jaynes_audit.track(RUN, every=2).checkpoints) == 2
    with pytest.raises(jaynes_audit.UsageError, match="every=0"):
        jaynes_audit.track(RUN, every=0)


def test_anatomy_adds_where_the_variance_lies(capsys: Captured) -> None:
    plain, apart = found(capsys, RUN), found(capsys, RUN, "--anatomy")
    assert {each["point"]["variance"] for each in plain["run"]["checkpoints"]} == {None}
    for each in apart["run"]["checkpoints"]:
        assert sum(each["point"]["variance"].values()) == pytest.approx(1)


def test_help_imports_nothing_heavy() -> None:
    code = (
        f"import sys; from jaynes_audit.cli.app import run; run(['track', '--help']); print({HEAVY} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert printed.rstrip().endswith("set()")


def test_the_schema_in_the_docs_is_the_one_that_is_printed(capsys: Captured) -> None:
    assert run(["schema", "track"]) == ExitCode.PASSED
    kept = ROOT / "docs" / "schemas" / "jaynes-track-1.schema.json"
    assert capsys.readouterr().out == kept.read_text()


# ---- on the Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub that has a run as revisions, another as folders of one revision, and a model that is none."""
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with LoopbackHub() as running:
        for module in (locations, series):
            monkeypatch.setattr(module, "hub_client", partial(hub_client, endpoint=running.endpoint))
        files = {}
        for step in (2000, 0, 1000):
            path = checkpoint(tmp_path / f"{step}.safetensors", {NAME: gaussian(512, 1024, seed=step)})
            running.commit("org/revisions", {"model.safetensors": path}, ref=f"step{step}")
            state = json.dumps({"global_step": step, "log_history": [{"step": step, "loss": 3.5}]}).encode()
            files |= {f"checkpoint-{step}/model.safetensors": path, f"checkpoint-{step}/trainer_state.json": state}
        running.commit("org/revisions", {"model.safetensors": tmp_path / "2000.safetensors"})
        running.commit("org/folders", files)
        running.commit("org/single", {"model.safetensors": tmp_path / "0.safetensors"})
        running.log.clear()
        yield running
    close_session()


def fetched(hub: LoopbackHub) -> int:
    return sum(record.sent for record in hub.log if record.host == "cdn")


def test_revisions_of_a_model_are_a_run(hub: LoopbackHub, tmp_path: Path, capsys: Captured) -> None:
    document = found(capsys, "org/revisions")
    checkpoints = document["run"]["checkpoints"]
    assert [each["target"] for each in checkpoints] == [f"hf://org/revisions@step{step}" for step in (0, 1000, 2000)]
    assert [each["commit"] for each in checkpoints] == [
        hub.repos["org/revisions"].refs[f"step{step}"] for step in (0, 1000, 2000)
    ]
    for each in checkpoints:
        [layer] = each["point"]["layers"]
        [local] = jaynes_audit.audit(tmp_path / f"{each['number']}.safetensors").layers
        assert (layer["mu"], layer["content"]) == (local.fit.moments.log_mean, local.content)
    assert not (tmp_path / "home" / "hub").exists(), "nothing is stored unasked"


def test_what_was_read_from_the_hub_is_not_fetched_again(hub: LoopbackHub, capsys: Captured) -> None:
    first = found(capsys, "org/revisions")
    whole = fetched(hub)
    hub.log.clear()
    assert found(capsys, "org/revisions") == first
    assert fetched(hub) < whole / 2  # headers alone


def test_some_revisions_can_be_chosen(hub: LoopbackHub, capsys: Captured) -> None:
    document = found(capsys, "org/revisions", "--steps", "0,2000")
    assert [each["number"] for each in document["run"]["checkpoints"]] == [0, 2000]
    assert not [record for record in hub.log if "step1000" in record.path]


def test_the_revisions_may_be_named_one_by_one(hub: LoopbackHub, capsys: Captured) -> None:
    document = found(capsys, "org/revisions@step1000", "org/revisions@step0")
    assert [each["number"] for each in document["run"]["checkpoints"]] == [0, 1000]
    assert not [record for record in hub.log if record.path.endswith("/refs")]


def test_folders_of_a_model_are_a_run_too(hub: LoopbackHub, capsys: Captured) -> None:
    checkpoints = found(capsys, "org/folders")["run"]["checkpoints"]
    assert [(each["number"], each["loss"]) for each in checkpoints] == [(0, 3.5), (1000, 3.5), (2000, 3.5)]
    assert checkpoints[1]["target"] == "hf://org/folders/checkpoint-1000"
    assert hub.log


@pytest.mark.usefixtures("hub")
def test_a_model_without_steps_is_no_run(capsys: Captured) -> None:
    assert run(["track", "org/single"]) == ExitCode.MISUSED
    assert "is one checkpoint" in capsys.readouterr().err
    assert run(["track", "org/nothing"]) == ExitCode.COULD_NOT_FINISH
    assert "no public model 'org/nothing'" in capsys.readouterr().err


def test_a_revision_that_fails_stops_nobody_else(hub: LoopbackHub, capsys: Captured) -> None:
    hub.fault(path="revision/step1000", times=-1, status=404, headers={"X-Error-Code": "RevisionNotFound"})
    document = found(capsys, "org/revisions")
    assert [each["number"] for each in document["run"]["checkpoints"]] == [0, 2000]
    [failure] = document["failures"]
    assert "has no revision 'step1000'" in failure["sentence"]
    assert document["exit_code"] == ExitCode.COULD_NOT_FINISH
