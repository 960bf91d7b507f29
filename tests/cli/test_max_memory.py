"""`--max-memory`: a size as people write it, the same report whatever it is, one sentence where it is too little."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from jaynes_audit.cli.options import size
from tests.support.checkpoint_files import checkpoint, gaussian

BLOCKS = 12
COMMANDS = {
    "audit": ["audit", "model"],
    "gate": ["gate", "model"],
    "baseline write": ["baseline", "write", "new.jaynes.jsonl", "model"],
    "compare": ["compare", "model", "other"],
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checkpoints in the working directory, unlike in one matrix."""
    monkeypatch.chdir(tmp_path)
    tensors = {f"model.layers.{block}.mlp.up_proj.weight": gaussian(128, 128, seed=block) for block in range(BLOCKS)}
    for name, changed in (("model", {}), ("other", {"model.layers.3.mlp.up_proj.weight": gaussian(128, 128, seed=99)})):
        (tmp_path / name).mkdir()
        checkpoint(tmp_path / name / "model.safetensors", tensors | changed)


@pytest.mark.parametrize(
    ("written", "in_bytes"),
    [
        ("536870912", 536_870_912),
        ("1GiB", 1 << 30),
        ("512MiB", 512 << 20),
        ("512 mib", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("2GB", 2_000_000_000),
        ("250MB", 250_000_000),
        ("640KiB", 640 << 10),
        ("64KB", 64_000),
        ("0.1GB", 100_000_000),
        ("0", 0),
    ],
)
def test_a_size_is_read_as_it_is_written(written: str, in_bytes: int) -> None:
    assert size(written) == in_bytes


@pytest.mark.parametrize(
    "written", ["", "much", "-1GiB", "1G", "1XB", "1e9", "0x10", "1,5GiB", "1GiBs", "9" * 40, "\u0661GiB"]
)
def test_what_is_no_size_is_refused(written: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size"):
        size(written)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_size_is_status_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMANDS[command], "--max-memory", "much"]) == ExitCode.MISUSED
    assert "'much' is no size; write one as 512MiB" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_less_than_one_thread_takes_is_status_2_and_the_sentence_names_the_least(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMANDS[command], "--max-memory", "1MiB"]) == ExitCode.MISUSED
    said = "".join(capsys.readouterr())
    [least] = set(re.findall(r"give --max-memory ([0-9]+)MiB", said))
    assert run([*COMMANDS[command], "--max-memory", f"{least}MiB"]) in {ExitCode.PASSED, ExitCode.FOUND}


def test_the_report_does_not_depend_on_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    large = {f"h.{block}.mlp.c_fc.weight": rng.standard_normal((1024, 2048), np.float32) for block in range(5)}
    checkpoint(tmp_path / "large.safetensors", large)
    reports = []
    for number, given in enumerate(
        (["-j", "1"], ["-j", "8", "--max-memory", "160MiB"], ["-j", "8", "--max-memory", "4GB"])
    ):
        report = tmp_path / f"{number}.json"
        command = ["-m", "jaynes_audit", "audit", "large.safetensors", "--no-config", "-o", f"json={report}", *given]
        subprocess.run([sys.executable, *command], check=True, cwd=tmp_path, env={**os.environ})  # noqa: S603
        reports.append(report.read_bytes())
    assert reports[0] == reports[1] == reports[2]
    assert reports[0].count(b'"name"') >= len(large)
