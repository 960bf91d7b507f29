"""`jaynes sample` as a user meets it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import jaynes_audit
from jaynes_audit.analyzers.sampling import DRAWN_DTYPES, Scale
from jaynes_audit.cli.app import run
from jaynes_audit.cli.commands.sample import DtypeChoice, ScaleChoice
from jaynes_audit.cli.exit_codes import ExitCode
from tests.support.checkpoint_files import checkpoint

ROOT = Path(__file__).parents[2]
BABBLE = str(ROOT / "fixtures" / "babble" / "bf16")
DIGITS = str(ROOT / "fixtures" / "digits" / "model.safetensors")
LAW = ("--mu", "-4", "--sigma", "1.2")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.safetensors"


def test_a_sample_is_summed_up_in_one_line(out: Path, capsys) -> None:
    assert run(["sample", BABBLE, "-o", str(out), *LAW, "--seed", "7"]) == ExitCode.PASSED
    said = capsys.readouterr()
    # 30 matrices with 802,816 weights and 9 norms with 1,152 gains, as fixtures/README.md counts: 803,968.
    assert said.out == (
        f"{out}: 30 weight matrices with 802,816 weights of random sign from LN(mu -4.0, sigma 1.2); seed 7; "
        f"{out.stat().st_size:,} bytes\n"
    )
    assert not said.err


def test_an_audit_of_the_sample_finds_the_law_and_nothing_wrong(out: Path) -> None:
    run(["sample", BABBLE, "-o", str(out), *LAW])
    assert run(["audit", str(out), "-o", "csv"]) == ExitCode.PASSED
    for layer in jaynes_audit.audit(out):
        if layer.connected:
            assert layer.fit.moments.log_mean == pytest.approx(-4, abs=4 * 1.2 / np.sqrt(layer.counts.weights))


def test_what_was_asked_for_stands_in_the_metadata(out: Path) -> None:
    run(["sample", BABBLE, "-o", str(out), "--per-layer", "--scale", "he", "--seed", "5"])
    with safe_open(out, "numpy") as file:
        noted = file.metadata()
    assert noted.pop("jaynes_version")
    assert noted == {
        "format": "pt",
        "jaynes_source": "bf16",
        "jaynes_law": "LN(mu of --scale he, own sigma)",
        "jaynes_scale": "he",
        "jaynes_seed": "5",
    }


def test_each_layer_gets_its_own_law_on_request(out: Path) -> None:
    run(["sample", DIGITS, "-o", str(out), "--per-layer"])
    ours, theirs = ({layer.name: layer for layer in jaynes_audit.audit(path)} for path in (out, DIGITS))
    assert set(ours) == set(theirs)
    for name, layer in ours.items():
        if layer.fan_in:
            fitted = theirs[name].fit.moments
            error = fitted.log_sigma / np.sqrt(layer.counts.weights)
            assert layer.fit.moments.log_mean == pytest.approx(fitted.log_mean, abs=4 * error)
            assert layer.fit.moments.log_sigma == pytest.approx(fitted.log_sigma, abs=4 * error)


def test_the_format_is_chosen(out: Path) -> None:
    run(["sample", DIGITS, "-o", str(out), "--sigma", "1.2", "--scale", "glorot", "--dtype", "f16"])
    assert {each.dtype for each in load_file(out).values()} == {np.dtype(np.float16)}


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    for path in (first, again):
        run(["sample", BABBLE, "-o", str(path), *LAW])
    assert first.read_bytes() == again.read_bytes()


def test_remarks_follow_the_summary(tmp_path: Path, out: Path, capsys) -> None:
    run(["sample", str(checkpoint(tmp_path / "a.safetensors")), "-o", str(out), *LAW])
    assert capsys.readouterr().out.splitlines()[1:] == ["copied 1 untrained tensors as they are: 'model.position_ids'"]


# ---- exit status


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", BABBLE, *LAW], "Missing option '-o'"),
        (["sample", BABBLE, "-o", "x"], "the law is not given: --sigma with --mu or a --scale, or else --per-layer"),
        (["sample", BABBLE, "-o", "x", "--mu", "-4"], "the law is not given"),
        (["sample", BABBLE, "-o", "x", "--sigma", "1"], "--mu is not given; give it, or a --scale that sets it"),
        (["sample", BABBLE, "-o", "x", "--per-layer", "--mu", "-4"], "give it without --mu and --sigma"),
        (["sample", BABBLE, "-o", "x", *LAW, "--scale", "he"], "--scale he sets mu by itself"),
        (["sample", BABBLE, "-o", "x", "--mu", "-4", "--sigma", "0"], "--sigma 0.0 is no standard deviation"),
        (["sample", BABBLE, "-o", "x", "--mu", "-4", "--sigma", "nan"], "--sigma nan is no standard deviation"),
        (["sample", BABBLE, "-o", "x", "--mu", "inf", "--sigma", "1"], "--mu inf is no mean"),
        (["sample", BABBLE, "-o", "x", *LAW, "--seed", "-1"], "'--seed'"),
        (["sample", BABBLE, "-o", "x", *LAW, "--dtype", "f8"], "'f8'"),
        (["sample", f"{BABBLE}/../*", "-o", "x", *LAW], "means 4 checkpoints, and one sample has the shapes of one"),
        (["sample", BABBLE, "-o", "x", "--mu", "12", "--sigma", "1", "--dtype", "f16"], "too large for F16"),
        (["sample", f"{BABBLE}/config.json", "-o", "x", "--per-layer"], "has no weights to take a law from"),
    ],
)
def test_2_when_misused_and_nothing_is_written(
    arguments: list[str], words: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == ExitCode.MISUSED
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert not list(tmp_path.iterdir())


def test_2_when_the_file_exists_unless_it_is_to_be_replaced(out: Path, capsys) -> None:
    out.write_text("old")
    assert run(["sample", DIGITS, "-o", str(out), *LAW]) == ExitCode.MISUSED
    assert "exists; give another name, or --force to replace it" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert run(["sample", DIGITS, "-o", str(out), *LAW, "--force"]) == ExitCode.PASSED
    assert load_file(out)
    assert [each.name for each in out.parent.iterdir()] == [out.name]


def test_2_when_the_checkpoint_itself_would_be_replaced(tmp_path: Path, capsys) -> None:
    path = checkpoint(tmp_path / "a.safetensors")
    before = path.read_bytes()
    assert run(["sample", str(path), "-o", str(path), *LAW, "--force"]) == ExitCode.MISUSED
    assert "is the TARGET itself" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_2_when_a_config_needs_a_library_that_is_not_there(tmp_path: Path, out: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the command sets it, and this puts it back
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for target in (tmp_path, tmp_path / "config.json"):
        assert run(["sample", str(target), "-o", str(out), *LAW]) == ExitCode.MISUSED
        assert "torch is not installed: `pip install torch transformers`" in capsys.readouterr().err


def test_3_when_there_is_nothing_to_draw(tmp_path: Path, out: Path, capsys) -> None:
    gains = checkpoint(tmp_path / "gains.safetensors", {"norm.weight": np.ones(8, np.float32)})
    empty = tmp_path / "empty"
    empty.mkdir()
    for target, words in ((gains, "holds no weight matrix to draw"), (empty, "holds no file of weights")):
        assert run(["sample", str(target), "-o", str(out), *LAW]) == ExitCode.NOTHING_TO_AUDIT
        assert words in capsys.readouterr().err


def test_4_when_the_target_cannot_be_read(tmp_path: Path, out: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cut = checkpoint(tmp_path / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-1])
    config = tmp_path / "config.json"
    config.write_text("{")
    for target, words in (
        (tmp_path / "gone", "does not exist"),
        (cut, "not every shape is known"),
        (config, "describes no network: 'config.json' is not JSON"),
    ):
        assert run(["sample", str(target), "-o", str(out), *LAW]) == ExitCode.COULD_NOT_FINISH
        assert words in capsys.readouterr().err
        assert not out.exists()


def test_4_when_the_file_cannot_be_written(tmp_path: Path, capsys) -> None:
    long_name = tmp_path / ("x" * 300)
    for place, words in (
        (tmp_path, "is not a file"),
        (tmp_path / "gone" / "out", "there is no folder"),
        (Path("/dev/null"), "is not a file"),
        (long_name, "cannot be written: File name too long"),
    ):
        assert run(["sample", DIGITS, "-o", str(place), *LAW, "--force"]) == ExitCode.COULD_NOT_FINISH
        said = capsys.readouterr()
        assert words in said.err
        assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


# ---- registries and start-up


def test_every_option_is_documented(capsys) -> None:
    page = (ROOT / "docs" / "sample.md").read_text()
    run(["sample", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help", "--output"}
    assert len(options) > 5
    assert [option for option in options if f"`{option}" not in page] == []


def test_the_choices_are_those_of_the_sampler() -> None:
    assert list(map(str, ScaleChoice)) == list(map(str, Scale))
    assert {choice.upper() for choice in DtypeChoice} <= set(DRAWN_DTYPES)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from jaynes_audit.cli.app import run; run(['sample', '--help']); "
        "sys.exit(str({'numpy', 'scipy', 'rich', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert "--per-layer" in done.stdout
    assert done.stderr == "set()\n"
