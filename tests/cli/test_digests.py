"""--verify: the bytes of files held against the digests that a baseline keeps, and against those that the Hub lists."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

from jaynes_audit.analyzers.checkpoints import HubAccess, locations, open_checkpoint
from jaynes_audit.analyzers.checkpoints.file_digests import files_of, hashed_files
from jaynes_audit.analyzers.checkpoints.hub.client import hub_client
from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from tests.support.checkpoint_files import checkpoint, gaussian
from tests.support.hub import FOR_EVER, LoopbackHub

PATH = "export.jaynes.jsonl"
FOLDER = Path("export")
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
FILES = (FIRST, SECOND, INDEX)
MODEL = "org/export"

Found = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    export()


def name(block: int) -> str:
    return f"model.layers.{block}.mlp.up_proj.weight"


def export(folder: Path = FOLDER) -> None:
    """A model in two shards, with an index and a file that is no part of it."""
    folder.mkdir(exist_ok=True)
    weight_map = {}
    for shard, blocks in ((FIRST, (0, 1)), (SECOND, (2, 3))):
        checkpoint(folder / shard, {name(block): gaussian(128, 128, seed=block) for block in blocks})
        weight_map |= {name(block): shard for block in blocks}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text("{}")


def sha256sums(folder: Path = FOLDER, names: tuple[str, ...] = FILES) -> dict[str, str]:
    return {each: hashlib.sha256((folder / each).read_bytes()).hexdigest() for each in names}


def write(target: str = "export", *options: str) -> bytes:
    Path(PATH).unlink(missing_ok=True)
    assert run(["baseline", "write", PATH, target, "--verify", *options]) == ExitCode.PASSED
    return Path(PATH).read_bytes()


def header() -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(Path(PATH).read_bytes().splitlines()[0])
    return decoded


def gate(target: str = "export", *options: str) -> tuple[int, list[dict[str, Any]]]:
    report = Path("report.json")
    status = run(["gate", target, "--baseline", PATH, "--show", "all", *options, "-o", f"json={report}"])
    return status, [finding for model in json.loads(report.read_bytes())["models"] for finding in model["findings"]]


def told(target: str = "export", *options: str) -> Found:
    """Which rules object to what, with --verify; the status is that of these findings."""
    status, findings = gate(target, "--verify", *options)
    errors = any(each["level"] == "error" and each["status"] == "new" for each in findings)
    assert status == (ExitCode.FOUND if errors else ExitCode.PASSED)
    return [(each["rule"], each["subject"]) for each in findings]


def write_otherwise(file: Path) -> None:
    """The same weights in other bytes, as a writer with other metadata gives them."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.dumps({"__metadata__": {"format": "pt"}} | json.loads(content[8 : 8 + length])).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def update(*options: str) -> int:
    return run(["baseline", "update", PATH, "export", *options])


# ---- recording


def test_a_baseline_keeps_the_digests_that_were_asked_for() -> None:
    write()
    assert header()["files"] == sha256sums()
    assert run(["baseline", "verify", PATH]) == ExitCode.PASSED
    Path(PATH).unlink()
    assert run(["baseline", "write", PATH, "export"]) == ExitCode.PASSED
    assert "files" not in header()


def test_a_single_file_is_called_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(Path("one.safetensors"))
    write("one.safetensors")
    assert header()["files"] == sha256sums(Path(), ("one.safetensors",))
    assert told("one.safetensors") == []
    assert "digests of 1 file;" in capsys.readouterr().out
    assert told("./one.safetensors") == []


def test_a_shard_and_an_index_stand_for_the_whole() -> None:
    write(f"export/{INDEX}")
    assert header()["files"] == sha256sums()
    assert told() == told(f"export/{SECOND}") == told(str(FOLDER.resolve())) == []


def test_components_of_a_pipeline_have_their_folder_before_their_name() -> None:
    for component in ("unet", "vae"):
        (FOLDER / component).mkdir()
        checkpoint(FOLDER / component / "model.safetensors", {f"{component}.weight": gaussian(128, 128)})
    (FOLDER / "model_index.json").write_text(json.dumps({each: ["diffusers", "Model"] for each in ("unet", "vae")}))
    write()
    assert header()["files"] == sha256sums(FOLDER, ("unet/model.safetensors", "vae/model.safetensors"))


def test_files_that_only_tensors_refer_to_are_hashed_too() -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(gaussian(128, 128), "h.0.mlp.up_proj.weight")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor]))
    onnx.save_model(model, "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    write("model.onnx")
    assert header()["files"] == sha256sums(Path(), ("model.data", "model.onnx"))


def test_what_a_baseline_holds_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    capsys.readouterr()
    assert run(["baseline", "show", PATH]) == ExitCode.PASSED
    shown = capsys.readouterr().out
    assert all(f"{digest}  {file}" in shown for file, digest in sha256sums().items())


# ---- comparing


def test_the_files_that_were_approved_pass() -> None:
    write()
    assert told() == []
    shutil.copytree(FOLDER, "elsewhere/export")
    assert told("elsewhere/export", "--resume") == []


def test_other_bytes_of_the_same_weights_are_found_and_only_with_verify() -> None:
    write()
    before = sha256sums()
    write_otherwise(FOLDER / SECOND)
    assert gate() == (ExitCode.PASSED, [])
    assert told() == [("JN007", f"export/{SECOND}")]
    _, [finding] = gate("export", "--verify")
    after = sha256sums()
    assert f"its sha256 is {after[SECOND][:12]} where the baseline has {before[SECOND][:12]}" in finding["sentence"]
    assert len(finding["fingerprint"]) == 16


def test_another_index_is_found() -> None:
    write()
    index = json.loads((FOLDER / INDEX).read_bytes())
    (FOLDER / INDEX).write_text(json.dumps(index, indent=1))
    assert told() == [("JN007", f"export/{INDEX}")]


def test_files_that_went_came_or_have_another_name_are_found() -> None:
    write()
    for shard in (FIRST, SECOND):
        (FOLDER / shard).rename(FOLDER / shard.replace("model", "weights"))
    (FOLDER / INDEX).unlink()
    assert {each for each in told() if each[0] == "JN007"} == {
        ("JN007", f"export/{each}")
        for each in (*FILES, FIRST.replace("model", "weights"), SECOND.replace("model", "weights"))
    }
    _, findings = gate("export", "--verify")
    assert any(f"it has the bytes of '{FIRST}' in the baseline" in each["sentence"] for each in findings)
    assert any("it is not among the files of this model" in each["sentence"] for each in findings)


def test_a_file_that_was_refused_is_not_called_missing() -> None:
    write()
    content = (FOLDER / SECOND).read_bytes()
    (FOLDER / SECOND).write_bytes(content[:-4])
    errors = [each for each in told() if each[1] == f"export/{SECOND}"]
    assert errors == [("JN001", f"export/{SECOND}")]


def test_every_report_has_the_finding() -> None:
    write()
    write_otherwise(FOLDER / SECOND)
    formats = ("table", "json", "sarif", "junit", "github", "gitlab", "markdown", "ignores")
    outputs = [argument for each in formats for argument in ("-o", f"{each}={each}.txt")]
    assert run(["gate", "export", "--baseline", PATH, "--verify", *outputs]) == ExitCode.FOUND
    for each in formats:
        text = Path(f"{each}.txt").read_text()
        assert "JN007" in text, each
        assert SECOND in text, each


def test_what_is_ignored_is_ignored_and_not_called_unused_without_verify() -> None:
    write()
    write_otherwise(FOLDER / SECOND)
    ignored = f'[[ignore]]\nrule = "JN007"\ntensor = "export/{SECOND}"\nreason = "it was written anew"\n'
    Path("jaynes.toml").write_text(ignored)
    status, [finding] = gate("export", "--verify")
    assert (status, finding["status"], finding["why"]) == (ExitCode.PASSED, "ignored", "it was written anew")
    assert run(["gate", "export", "--baseline", PATH, "--fail-on", "note"]) == ExitCode.PASSED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gate", "export", "--no-baseline"], "no baseline is given"),
        (["gate", "export", "--baseline", PATH], "holds no digests of files"),
        (["audit", "export"], "takes no baseline"),
    ],
)
def test_without_digests_there_is_nothing_to_compare_with(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["baseline", "write", PATH, "export"]) == ExitCode.PASSED
    capsys.readouterr()
    assert run([*arguments, "--verify"]) == ExitCode.MISUSED
    said = "".join(capsys.readouterr())
    assert "--verify has nothing to compare 'export' with" in said
    assert words in said


def test_a_sketch_archive_has_no_files_to_verify(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    archive = "export.sketches.safetensors"
    assert run(["audit", "export", "--save-sketches", archive]) == ExitCode.PASSED
    assert run(["gate", archive, "--baseline", PATH, "--verify"]) == ExitCode.MISUSED
    assert "is a sketch archive" in "".join(capsys.readouterr())


# ---- bringing up to date


def test_digests_are_approved_by_their_code() -> None:
    write()
    write_otherwise(FOLDER / SECOND)
    assert update("--verify", "--accept", "JN007") == ExitCode.PASSED
    assert header()["files"] == sha256sums()
    assert told() == []


@pytest.mark.parametrize(
    "options", [("--tensor", "*"), ("--tensor", "*", "--verify"), ("--accept", "JN4"), ("--accept", "JN4", "--verify")]
)
def test_digests_are_approved_by_nothing_else(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    write()
    before = sha256sums()
    checkpoint(FOLDER / SECOND, {name(block): gaussian(128, 128, seed=9 * block) for block in (2, 3)})
    verified = "--verify" in options
    assert update(*options) == (ExitCode.FOUND if verified else ExitCode.PASSED)
    assert header()["files"] == before
    assert (f"still differs: ~ {SECOND}" in capsys.readouterr().out) == verified
    assert told() == [("JN007", f"export/{SECOND}")]


def test_approved_bytes_are_no_approved_weights() -> None:
    write()
    checkpoint(FOLDER / SECOND, {name(2): gaussian(128, 128, seed=2), name(3): gaussian(128, 128, seed=99)})
    assert update("--verify", "--accept", "JN007") == ExitCode.FOUND
    assert told() == [("JN407", name(3))]


def test_all_is_approved_with_the_digests_and_not_without(capsys: pytest.CaptureFixture[str]) -> None:
    before = write()
    write_otherwise(FOLDER / SECOND)
    assert update("--all", "--reason", "written anew") == ExitCode.MISUSED
    assert "only --verify reads" in capsys.readouterr().err
    assert Path(PATH).read_bytes() == before
    assert update("--all", "--reason", "written anew", "--verify") == ExitCode.PASSED
    assert told() == []


def test_digests_are_added_to_a_baseline_that_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baseline", "write", PATH, "export"]) == ExitCode.PASSED
    without = Path(PATH).read_bytes()
    assert update("--all", "--reason", "nothing changed") == ExitCode.PASSED
    assert update("--accept", "JN007") == ExitCode.MISUSED
    assert update("--accept", "JN4", "--verify") == ExitCode.PASSED
    assert Path(PATH).read_bytes() == without
    assert update("--accept", "JN007", "--verify") == ExitCode.PASSED
    assert header()["files"] == sha256sums()
    assert "+3 -0 ~0" in capsys.readouterr().out


# ---- the Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub with the model, and an empty cache."""
    with LoopbackHub() as hub:
        hub.add_directory(MODEL, Path(shutil.copytree(FOLDER, "uploaded")))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(locations, "hub_client", partial(hub_client, endpoint=hub.endpoint))
        yield hub
        close_session()


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("mode", ["--stream", "--cache"])
def test_a_model_on_the_hub_and_a_copy_of_it_have_the_same_digests(mode: str) -> None:
    write(MODEL, mode)
    assert header()["files"] == sha256sums()
    assert told() == []
    assert told(MODEL, mode) == []


def test_hashes_that_the_hub_lists_are_not_made_again(hub: LoopbackHub) -> None:
    opened = open_checkpoint(MODEL, HubAccess(mode=Mode.STREAM, verify=True))
    asked = len([each for each in hub.log if each.host == "cdn"])
    assert hashed_files(opened).sha256 == sha256sums()
    assert len([each for each in hub.log if each.host == "cdn"]) == asked
    assert {each.name for each in files_of(opened)} == set(FILES)


@pytest.mark.usefixtures("hub")
def test_another_commit_on_the_hub_is_not_what_the_baseline_has() -> None:
    write_otherwise(FOLDER / FIRST)
    write()
    [(rule, subject)] = told(MODEL, "--stream")
    assert rule == "JN007"
    assert subject.endswith(FIRST)


def test_a_damaged_file_is_told_once_whatever_it_is_compared_with(hub: LoopbackHub) -> None:
    write()
    hub.fault(host="cdn", path=sha256sums()[SECOND], skip=1, times=FOR_EVER, corrupt=True)
    _, findings = gate(MODEL, "--verify", "--stream")
    [found] = [each for each in findings if each["rule"] == "JN007"]
    assert found["subject"].endswith(SECOND)
    assert "where the Hub lists" in found["sentence"]


def test_a_damaged_file_is_never_called_known(hub: LoopbackHub) -> None:
    hub.fault(host="cdn", path=sha256sums()[SECOND], skip=1, times=FOR_EVER, corrupt=True)
    assert run(["baseline", "write", PATH, MODEL, "--verify", "--stream"]) == ExitCode.FOUND
    write(MODEL, "--stream", "--force")
    assert header()["files"][SECOND] != sha256sums()[SECOND]
    status, findings = gate(MODEL, "--verify", "--stream")
    assert status == ExitCode.FOUND
    assert "new" in {each["status"] for each in findings if each["rule"] == "JN007"}


@pytest.mark.usefixtures("hub")
def test_without_digests_the_hub_is_asked_alone() -> None:
    assert run(["baseline", "write", PATH, "export"]) == ExitCode.PASSED
    assert told(MODEL) == []
    assert run(["audit", MODEL, "--verify"]) == ExitCode.PASSED


# ---- names that a stranger chose


def test_a_name_that_no_encoding_takes_is_escaped_and_stands_for_no_other() -> None:
    odd, like_it = "w\udc80.safetensors", "w\\udc80.safetensors"
    folder = Path("odd")
    folder.mkdir()
    for number, file in enumerate((odd, like_it)):
        checkpoint(folder / "plain.safetensors", {name(number): gaussian(128, 128, seed=number)})
        (folder / "plain.safetensors").rename(folder / file)
    write("odd")
    assert set(header()["files"].values()) == set(sha256sums(folder, (odd, like_it)).values())
    assert told("odd") == []
    for file in (odd, like_it):
        write("odd")
        write_otherwise(folder / file)
        assert [rule for rule, _ in told("odd")] == ["JN007"]
