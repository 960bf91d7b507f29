"""An audit that was stopped goes on where it was: what was finished is not read again, and the result is the same."""

from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers import pieces as pieces_module
from jaynes_audit.analyzers.audit import Audit, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import Checkpoint
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.journal import Journal
from jaynes_audit.analyzers.sketch import extent as extent_module
from jaynes_audit.analyzers.sketch.sketch import Sketch
from tests.support.checkpoints import checkpoint, stored

PIECE_BYTES = 20_000


class Stopped(Exception):
    """Somebody stopped the audit."""


def lognormal(*shape: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(-4, 1.3, shape)) * rng.choice([-1.0, 1.0], shape)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Layers of one and of many pieces, some of which are read a second time."""
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(pieces_module, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(pieces_module, "BATCH_BYTES", PIECE_BYTES)
    names = [f"model.layers.{number}.mlp.up_proj.weight" for number in range(6)]
    weights = {name: stored(lognormal(96, 150, seed=seed), Dtype.BF16) for seed, name in enumerate(names)}
    return checkpoint(tmp_path, {**weights, "model.norm.weight": stored(np.ones(96), Dtype.F32)})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pieces that are sketched from then on, as rows and first rows."""
    sketched: list[tuple[int, int]] = []
    before = pieces_module.sketch

    def counted(chunks, extent, *, first_row: int = 0) -> Sketch:
        sketched.append((extent.rows, first_row))
        return before(chunks, extent, first_row=first_row)

    monkeypatch.setattr(pieces_module, "sketch", counted)
    return sketched


def resumed(model: Checkpoint, journal: Path, **options: object) -> Audit:
    with Journal.at(journal) as opened:
        return audit_checkpoint(model, journal=opened, dissect=True, **options)


def test_what_was_finished_is_not_read_again(model: Checkpoint, read: list, tmp_path: Path) -> None:
    whole = audit_checkpoint(model, dissect=True)
    pieces, told = len(read), []
    read.clear()

    def stop_later(count: int) -> None:
        told.append(count)
        if len(told) == 5:
            raise Stopped

    with pytest.raises(Stopped):
        resumed(model, tmp_path / "a.journal", jobs=1, on_bytes=stop_later)
    first = len(read)
    assert 5 <= first < pieces
    assert repr(resumed(model, tmp_path / "a.journal")) == repr(whole)
    assert len(read) == pieces


@pytest.mark.usefixtures("read")
def test_layers_that_were_taken_apart_are_not_read_again(model: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    whole = resumed(model, tmp_path / "a.journal")

    def unread(*_: object, **__: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(pieces_module, "chunks", unread)
    assert repr(resumed(model, tmp_path / "a.journal")) == repr(whole)


def test_a_file_that_was_written_again_is_read_again(model: Checkpoint, read: list, tmp_path: Path) -> None:
    resumed(model, tmp_path / "a.journal")
    before = len(read)
    (file,) = model.files
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x40
    file.write_bytes(content)
    assert repr(resumed(model, tmp_path / "a.journal")) == repr(audit_checkpoint(model, dissect=True))
    assert len(read) == 3 * before


def test_another_selection_takes_what_it_can_use(model: Checkpoint, read: list, tmp_path: Path) -> None:
    resumed(model, tmp_path / "a.journal")
    read.clear()
    resumed(model, tmp_path / "a.journal", bins=None)
    assert not read
