"""Sketch archives on the command line and in Python."""

import errno
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import jaynes_audit
from jaynes_audit.analyzers.checkpoints import expand, open_checkpoint
from jaynes_audit.cli import auditing
from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from jaynes_audit.cli.outputs import Format
from tests.support.checkpoint_files import SIZE, checkpoint, gaussian

FIXTURES = Path(__file__).parents[2] / "fixtures"
NAME = "model.sketches.safetensors"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(FIXTURES / "babble" / "bf16", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def reports(target: Path, folder: Path, *options: str) -> dict[str, bytes]:
    folder.mkdir()
    outputs = [argument for format_ in Format for argument in ("-o", f"{format_}={folder / format_}")]
    assert run(["audit", str(target), *outputs, *options]) == ExitCode.PASSED
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "options", [(), ("--all", "-v", "--layers", "*.mlp.*"), ("--method", "histogram", "--bins", "30")]
)
def test_every_format_says_the_same_of_the_model_and_of_its_sketches(
    model: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    of_weights = reports(model, tmp_path / "a", "--save-sketches", str(model / NAME), *options)
    assert set(of_weights) == set(Format)
    assert reports(model / NAME, tmp_path / "b", *options) == of_weights
    assert reports(model, tmp_path / "c", *options) == of_weights, "the archive is no part of the model"


def test_a_pattern_and_several_targets_take_archives(model: Path, tmp_path: Path) -> None:
    assert run(["audit", str(model), "--save-sketches", str(model / NAME), "-q"]) == ExitCode.PASSED
    assert expand([str(model / "*.safetensors")]) == [str(model / "model.safetensors.index.json"), str(model / NAME)]
    assert run(["audit", str(model), str(model / NAME), "-o", f"csv={tmp_path / 'both.csv'}"]) == ExitCode.PASSED


def test_python_saves_and_reads_sketches_too(model: Path, tmp_path: Path) -> None:
    audit = jaynes_audit.audit(model, save_sketches=model / NAME)
    assert jaynes_audit.audit(model / NAME).to_dict() == audit.to_dict()
    again = jaynes_audit.audit(model / NAME, save_sketches=tmp_path / "again")
    assert again.to_dict() == audit.to_dict()
    assert (tmp_path / "again").read_bytes() == (model / NAME).read_bytes()
    with pytest.raises(jaynes_audit.UsageError, match="no sketch archive"):
        jaynes_audit.audit(model, save_sketches=model / "config.json")


@pytest.mark.parametrize(
    ("arguments", "code", "mention"),
    [
        (("model", "--save-sketches", "nowhere/a"), ExitCode.COULD_NOT_FINISH, "no folder 'nowhere'"),
        (("model", "--save-sketches", "model"), ExitCode.COULD_NOT_FINISH, "is a folder"),
        (("model", "--save-sketches", "model/config.json"), ExitCode.MISUSED, "exists and is no sketch archive"),
        (("model", "model/config.json", "--save-sketches", "a"), ExitCode.MISUSED, "keeps one model"),
        (("model", "--headers-only", "--save-sketches", "a"), ExitCode.MISUSED, "--headers-only reads no weight"),
        (("model", "-o", "csv=a", "--save-sketches", "a"), ExitCode.MISUSED, "cannot both go to 'a'"),
    ],
)
def test_what_cannot_be_saved_is_said_before_anything_is_read(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: ExitCode, mention: str
) -> None:
    before = sorted(model.iterdir())
    assert run(["audit", *arguments]) == code
    output = capsys.readouterr()
    assert mention in output.err
    assert not output.out
    assert sorted(model.iterdir()) == before
    assert not Path("a").exists()


def test_a_write_that_fails_costs_no_report(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auditing, "save", _fail)
    assert run(["audit", str(model), "--save-sketches", str(model / NAME), "-o", "csv"]) == ExitCode.COULD_NOT_FINISH
    output = capsys.readouterr()
    assert "cannot be saved to" in output.err
    assert "No space left" in output.err
    assert "up_proj" in output.out


def _fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_archive_of_a_damaged_model_is_written_and_says_so(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    arguments = ["-o", f"json={tmp_path / 'a'}"]
    assert run(["audit", str(path), *arguments, "--save-sketches", str(tmp_path / NAME)]) == ExitCode.FOUND
    assert run(["audit", str(tmp_path / NAME), "-o", f"json={tmp_path / 'b'}"]) == ExitCode.FOUND
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_archive_gives_its_headers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(model), "--save-sketches", NAME, "-q"]) == ExitCode.PASSED
    capsys.readouterr()
    assert run(["audit", str(model), "--headers-only"]) == ExitCode.PASSED
    of_weights = capsys.readouterr().out
    assert run(["audit", NAME, "--headers-only"]) == ExitCode.PASSED
    assert capsys.readouterr().out == of_weights


def test_an_archive_beside_weights_is_no_part_of_them(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "weights.safetensors")
    assert run(["audit", str(path), "--save-sketches", str(tmp_path / "weights.sketches.safetensors")]) == 0
    found = open_checkpoint(str(tmp_path))
    assert {tensor.name for tensor in found.tensors} == {"model.layers.0.mlp.up_proj.weight", "model.position_ids"}
    assert not found.remarks


def test_a_sample_is_drawn_from_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "model.safetensors", {"layers.0.mlp.up_proj.weight": gaussian(SIZE, SIZE)})
    assert run(["audit", str(path), "--save-sketches", str(tmp_path / NAME), "-q"]) == ExitCode.PASSED
    for target, output in ((path, "a"), (tmp_path / NAME, "b")):
        assert run(["sample", str(target), "--per-layer", "-o", str(tmp_path / output)]) == ExitCode.PASSED
    [(_, of_weights)], [(_, of_sketches)] = (load_file(tmp_path / name).items() for name in "ab")
    assert (of_weights == of_sketches).all()
    buffers = checkpoint(tmp_path / "buffers.safetensors")
    assert run(["audit", str(buffers), "--save-sketches", str(tmp_path / NAME), "-q"]) == ExitCode.PASSED
    capsys.readouterr()
    arguments = ["sample", str(tmp_path / NAME), "--per-layer", "-o", str(tmp_path / "c")]
    assert run(arguments) == ExitCode.COULD_NOT_FINISH
    assert "holds no weights" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
