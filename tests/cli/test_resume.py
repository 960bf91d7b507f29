"""An audit that is killed, at any moment, and started again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

MATRICES, SIDE = 24, 1024  # 96 MiB of float32: long enough to be killed in the middle
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    weights = [rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(MATRICES)]
    save_file({f"model.layers.{number}.mlp.up_proj.weight": each for number, each in enumerate(weights)}, path)
    return path


def started(model: Path, report: Path, *options: str, home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "jaynes_audit", "audit", str(model), "-o", f"json={report}", "-j", "1", *options],
        env={**os.environ, "XDG_CACHE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )


def journals(home: Path) -> list[Path]:
    return sorted(home.glob("jaynes-audit/journals/*.journal"))


@pytest.mark.parametrize("kept", [1, 100_000, 300_000])
def test_the_report_of_a_resumed_audit_is_that_of_one_that_was_never_killed(
    model: Path, tmp_path: Path, kept: int
) -> None:
    assert started(model, tmp_path / "whole.json", "--no-resume", home=tmp_path).wait(PATIENCE_SECONDS) == 0
    assert not journals(tmp_path)
    killed = started(model, tmp_path / "killed.json", "--resume", home=tmp_path)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(path.stat().st_size >= kept for path in journals(tmp_path)):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    killed.wait(PATIENCE_SECONDS)
    assert not (tmp_path / "killed.json").exists()
    assert started(model, tmp_path / "resumed.json", "--resume", home=tmp_path).wait(PATIENCE_SECONDS) == 0
    assert (tmp_path / "resumed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not journals(tmp_path), "what is finished needs no journal"


def test_a_look_at_some_layers_leaves_the_journal_of_a_killed_audit(model: Path, tmp_path: Path) -> None:
    killed = started(model, tmp_path / "killed.json", "--resume", home=tmp_path)
    while not any(path.stat().st_size >= 100_000 for path in journals(tmp_path)):
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    killed.wait(PATIENCE_SECONDS)
    look = started(model, tmp_path / "look.json", "--resume", "--layers", "*.layers.0.*", home=tmp_path)
    assert look.wait(PATIENCE_SECONDS) == 0
    assert journals(tmp_path)


def test_a_small_audit_keeps_no_journal_unasked(tmp_path: Path) -> None:
    save_file({"a.weight": np.ones((4, 4), np.float32)}, tmp_path / "a.safetensors")
    run = started(tmp_path / "a.safetensors", tmp_path / "a.json", home=tmp_path / "home")
    assert run.wait(PATIENCE_SECONDS) == 0
    assert not (tmp_path / "home").exists()
