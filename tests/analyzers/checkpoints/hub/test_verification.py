"""Digests find what no range reader can see: other bytes under the right headers."""

from pathlib import Path
from typing import Any

import pytest

from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.analyzers.checkpoints.hub.verification import verify
from jaynes_audit.analyzers.errors import CouldNotRead
from tests.analyzers.checkpoints.hub.clients import CONTENT, MODEL, WEIGHTS, client_of, place_of
from tests.support.hub import FOR_EVER, LoopbackHub

FILES = {WEIGHTS: CONTENT, "b.bin": CONTENT[::-1], "config.json": b'{"a": 1}', "empty.txt": b"", "empty.bin": b""}


@pytest.fixture
def model(hub: LoopbackHub) -> LoopbackHub:
    hub.commit(MODEL, FILES)
    return hub


@pytest.mark.parametrize("mode", Mode)
def test_files_as_they_were_uploaded_are_fine(model: LoopbackHub, mode: Mode) -> None:
    root = place_of(client_of(model), mode=mode)
    assert verify([root / path for path in FILES]) == ()


@pytest.mark.parametrize("fault", [{"corrupt": True}, {"lie_range": 7}])
def test_one_wrong_bit_is_found(model: LoopbackHub, fault: dict[str, Any]) -> None:
    root = place_of(client_of(model), mode=Mode.STREAM)
    model.fault(host="cdn", path=root.repository.files["b.bin"].sha256, **fault)
    (defect,) = verify([root / WEIGHTS, root / "b.bin"])
    assert (defect.rule, defect.case, defect.file) == ("JN007", "digest-mismatch", str(root / "b.bin"))
    assert root.repository.files["b.bin"].sha256 in defect.sentence


def test_a_wrong_bit_of_a_small_file_is_found(model: LoopbackHub) -> None:
    root = place_of(client_of(model))
    model.fault(host="hub", method="GET", path="resolve-cache", corrupt=True)
    (defect,) = verify([root / "config.json"])
    assert "git blob id" in defect.sentence


def test_a_cut_is_no_defect(model: LoopbackHub) -> None:
    root = place_of(client_of(model))
    model.fault(host="cdn", times=3, truncate=300_000)
    assert verify([root / WEIGHTS]) == ()


def test_a_file_that_cannot_be_read_is_no_defect_either(model: LoopbackHub) -> None:
    root = place_of(client_of(model, tries=2))
    model.fault(host="cdn", times=FOR_EVER, status=503)
    with pytest.raises(CouldNotRead):
        verify([root / WEIGHTS, root / "b.bin"])


def test_a_cached_file_is_verified_as_it_is_on_this_machine(model: LoopbackHub, cache: Path) -> None:
    root = place_of(client_of(model), mode=Mode.CACHE)
    (root / WEIGHTS).source().close()
    blob = (cache / "models--org--model" / "snapshots" / root.commit / WEIGHTS).resolve()
    blob.write_bytes(CONTENT[:500_000] + b"!" + CONTENT[500_001:])
    assert [defect.rule for defect in verify([root / WEIGHTS])] == ["JN007"]
