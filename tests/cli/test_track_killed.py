"""A run that is killed, at any moment, and started again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.checkpoint_files import checkpoint

PATIENCE = 60  # seconds
NAME = "model.layers.{}.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight checkpoints of 8 MiB each: long enough to be killed in the middle."""
    root = tmp_path_factory.mktemp("run")
    for step in range(8):
        (root / f"step_{step}").mkdir()
        dice = np.random.default_rng(step)
        tensors = {NAME.format(at): dice.standard_normal((1024, 1024), np.float32) for at in range(2)}
        checkpoint(root / f"step_{step}" / "model.safetensors", tensors)
    return root


def started(root: Path, report: Path, *options: str, home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "jaynes_audit", "track", str(root), "-o", f"json={report}", "-j", "1", *options],
        env={**os.environ, "XDG_CACHE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def whole(long_run: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The report of a run that nobody disturbed, and that kept nothing."""
    home = tmp_path_factory.mktemp("whole")
    assert started(long_run, home / "whole.json", "--no-resume", home=home / "cache").wait(PATIENCE) == 0
    assert not (home / "cache").exists()
    return (home / "whole.json").read_bytes()


@pytest.mark.parametrize("finished", [0, 1, 5])
def test_a_run_that_was_killed_goes_on_to_the_very_same_report(
    long_run: Path, whole: bytes, tmp_path: Path, finished: int
) -> None:
    def points() -> int:
        return len(list(tmp_path.glob("jaynes-audit/track/*.point")))

    killed = started(long_run, tmp_path / "killed.json", home=tmp_path)
    deadline = time.monotonic() + PATIENCE
    while points() < finished:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    killed.wait(PATIENCE)
    before = points()
    assert before >= finished
    assert started(long_run, tmp_path / "resumed.json", home=tmp_path).wait(PATIENCE) == 0
    assert (tmp_path / "resumed.json").read_bytes() == whole
    assert points() == 8
    assert not list(tmp_path.glob("jaynes-audit/journals/*"))
