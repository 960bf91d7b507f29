"""Hostile PyTorch files run no code, and each is reported for what it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.pytorch_files import read
from tests.support.pytorch_hostile import Hostile, hostile_files

CANARY = "/nonexistent-canary"
FILES = hostile_files(CANARY)
REFUSED = [each for each in FILES if each.rule and not each.beside]
BESIDE = [each for each in FILES if each.beside]
HARMLESS = [each for each in FILES if not each.rule]
LIVE = [each.technique for each in FILES if each.runs]

IN_PROCESS = """
import json, sys
from pathlib import Path
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.pytorch_files import checkpoint, legacy, pickled, read, tensor
from tests.support.pytorch_hostile import hostile_files

HARMLESS = {"builtins.id"}
events, is_watching = [], False

def watch(event, arguments):
    if is_watching and event not in HARMLESS:
        events.append(f"{event} {arguments!r:.100}")

files = hostile_files(sys.argv[1])
for warm in (checkpoint, legacy):
    read(warm(pickled({"weight": tensor()})))
sys.addaudithook(watch)
modules = set(sys.modules)
is_watching = True
for each in files:
    try:
        read(each.content)
    except RefusedFile:
        pass
is_watching = False
print(json.dumps({"events": events, "modules": sorted(set(sys.modules) - modules), "files": len(files)}))
"""


def test_the_corpus_is_large_and_every_technique_is_named() -> None:
    assert len(FILES) >= 150
    assert len({(each.technique, each.source) for each in FILES}) == len(FILES)


def sole_weight(weights: WeightFile) -> bool:
    return [tensor.name for tensor in weights.tensors if tensor.name == "weight"] == ["weight"]


@pytest.mark.parametrize("hostile", REFUSED, ids=lambda each: each.technique)
def test_a_structural_lie_is_refused_for_what_it_is(hostile: Hostile) -> None:
    with pytest.raises(RefusedFile) as caught:
        read(hostile.content)
    assert (caught.value.rule, caught.value.case) == (hostile.rule, hostile.case)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("hostile", BESIDE, ids=lambda each: each.technique)
def test_an_unknown_global_is_a_finding_and_the_tensors_beside_it_are_audited(hostile: Hostile) -> None:
    weights = read(hostile.content)
    (defect,) = weights.defects
    assert (defect.rule, defect.case) == (hostile.rule, hostile.case)
    assert defect.sentence.isprintable()
    assert sole_weight(weights)


@pytest.mark.parametrize("hostile", HARMLESS, ids=lambda each: each.technique)
def test_what_only_wastes_its_own_bytes_is_read_without_a_finding(hostile: Hostile) -> None:
    weights = read(hostile.content)
    assert weights.defects == ()
    assert len(weights.tensors) == 1


def run(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[4]
    return subprocess.run(  # noqa: S603 - this interpreter, and a script that stands here
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_is_imported_opened_or_run_while_hostile_files_are_read(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    done = run(IN_PROCESS, str(canary), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"events": [], "modules": [], "files": len(FILES)}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("technique", ["os.system", "builtins.exec", "pty.spawn", "io.open"])
def test_the_canary_would_be_touched_by_a_pickle_that_is_loaded(technique: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (hostile,) = [each for each in hostile_files(str(canary)) if each.technique == technique]
    run("import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1]))", hostile.runs.hex(), folder=tmp_path)
    assert canary.exists()
