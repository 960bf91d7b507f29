"""What a user may name as one side of a comparison, and what is refused."""

import json
from pathlib import Path

import msgspec
import pytest

from jaynes_audit.analyzers.archive.archive import Archive
from jaynes_audit.analyzers.archive.saving import Keeper
from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess, open_checkpoint
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.comparison.operand import Operand, open_operands
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, NothingToAudit, UsageError
from jaynes_audit.analyzers.record import ModelRecord
from tests.support import audits
from tests.support.checkpoint_files import checkpoint
from tests.support.fuzzing import survive
from tests.support.quantised_files import MemoryPlace
from tests.support.report_fuzz import FUZZ, corpus

FIXTURES = Path(__file__).parents[3] / "fixtures"


def report(path: Path, *names: str) -> Path:
    """A saved report on so many models."""
    models = [audits.audit(audits.layer("layers.0.mlp.up.weight"), target=name) for name in names]
    path.write_bytes(msgspec.json.encode(audits.report(*models)))
    return path


def changed(path: Path, **fields: object) -> Path:
    """A report whose one layer has other fields."""
    document = json.loads(report(path, "a").read_bytes())
    document["models"][0]["layers"][0].update(fields)
    path.write_text(json.dumps(document))
    return path


# ---- what is opened


@pytest.mark.parametrize(
    "model", ["babble/fp16", "quantised/deepseek.safetensors", "formats/every_type.onnx", "digits"]
)
def test_a_checkpoint_is_an_operand_whose_weights_lie_here(model: str) -> None:
    (operand,) = open_operands(str(FIXTURES / model))
    assert isinstance(operand.known, Checkpoint)
    assert (operand.kind, operand.is_local, operand.target) == ("checkpoint", True, str(FIXTURES / model))


def test_an_archive_is_an_operand_without_weights(tmp_path: Path) -> None:
    model, keeper = open_checkpoint(str(FIXTURES / "babble/fp16")), Keeper()
    audit_checkpoint(model, jobs=1, on_measured=keeper.measured, on_outcome=keeper.outcome)
    path = tmp_path / "model.sketches.safetensors"
    path.write_bytes(keeper.archive(model))
    (operand,) = open_operands(str(path))
    assert isinstance(operand.known, Archive)
    assert (operand.kind, operand.is_local) == ("sketch archive", False)


def test_a_report_is_an_operand_under_its_own_name(tmp_path: Path) -> None:
    path = report(tmp_path / "audit.json", "org/model")
    (operand,) = open_operands(str(path))
    assert isinstance(operand.known, ModelRecord)
    assert (operand.kind, operand.is_local, operand.target) == ("report", False, str(path))


def test_a_report_on_several_models_is_as_many_operands(tmp_path: Path) -> None:
    path = report(tmp_path / "audit.json", "a", "b")
    assert [each.target for each in open_operands(str(path))] == [f"{path}: a", f"{path}: b"]


def test_a_pattern_is_an_operand_for_each_checkpoint_it_matches(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert [each.target for each in open_operands(str(tmp_path / "*.safetensors"))] == list(map(str, paths))


def test_an_index_of_shards_and_a_folder_are_no_reports(tmp_path: Path) -> None:
    (operand,) = open_operands(str(FIXTURES / "babble/bf16/model.safetensors.index.json"))
    assert isinstance(operand.known, Checkpoint)
    folder = tmp_path / "model.json"
    folder.mkdir()
    checkpoint(folder / "model.safetensors")
    (operand,) = open_operands(str(folder))
    assert isinstance(operand.known, Checkpoint)


def test_weights_that_are_streamed_are_not_local() -> None:
    class Streamed(MemoryPlace):
        @property
        def is_streamed(self) -> bool:
            return True

    def operand(place: MemoryPlace) -> Operand:
        tensor = Tensor(name="w", dtype=Dtype.F32, shape=(1,), file=place, start=0, end=4)
        return Operand(target="org/model", known=Checkpoint(location="org/model", tensors=(tensor,), files=(place,)))

    assert not operand(Streamed(b"1234")).is_local
    assert operand(MemoryPlace(b"1234")).is_local is not MemoryPlace(b"1234").is_streamed


# ---- what is refused


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": "jaynes-report/1"}',
        b"\xff\xfe",
        b'{"models": 1}',
        b"[" * 100_000,
        b'{"unknown": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_report_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no report of the format jaynes-report/2") as refused:
        open_operands(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "mlp.sideways"},
        {"role": "\x1b[2J" + 10_000 * "x"},
        {"role": 7},
        {"weights": "many"},
        {"rms": "NaN"},
        {"depth": 0.5},
        {"zero": 10**400},
        {"weights": -1},
    ],
)
def test_a_layer_that_no_audit_gives_is_refused_in_one_line(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="no report of the format") as refused:
        open_operands(str(changed(tmp_path / "audit.json", **fields)))
    assert len(str(refused.value)) < 700
    assert str(refused.value).isprintable()


def test_a_report_without_models_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(NothingToAudit, match="holds no model"):
        open_operands(str(report(tmp_path / "audit.json")))


@pytest.mark.parametrize("target", ["", "nothing/here.json", "audit\0.json", "*.nothing"])
def test_what_is_not_there_is_an_error_of_ours(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(JaynesError):
        open_operands(target, HubAccess())


def test_a_report_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = report(tmp_path / "audit.json", "a")
    monkeypatch.setattr("jaynes_audit.analyzers.record.reading.MOST_REPORT_BYTES", 100)
    with pytest.raises(CouldNotRead, match="a report has at most 100"):
        open_operands(str(path))


def test_the_sound_reports_of_the_fuzzer_are_compared() -> None:
    for content in corpus():
        FUZZ.read(content)


def test_no_damaged_report_brings_a_comparison_down() -> None:
    ends, faults = survive(FUZZ, inputs=250, seed=5)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 20
