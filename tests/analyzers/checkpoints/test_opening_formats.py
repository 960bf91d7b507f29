"""Which files of other formats than safetensors belong together, and what is said where they do not."""

import shutil
from pathlib import Path

import pytest

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints.opening import open_place
from jaynes_audit.analyzers.errors import NothingToAudit, UsageError
from tests.support import pytorch_files
from tests.support.gguf_files import HOSTILE as BAD_GGUF
from tests.support.safetensors_files import safetensors, write

FIXTURES = Path(__file__).parents[3] / "fixtures" / "pytorch"
FIRST, SECOND = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
INDEX = "pytorch_model.bin.index.json"


def pytorch(*names: str, shared: tuple[str, ...] = ()) -> bytes:
    """A file with a tensor of four float32 for each name, and further names for the first of them."""
    storages = {str(number): bytes(range(number, number + 16)) for number, _ in enumerate(names)}
    tensors = {name: pytorch_files.tensor(pytorch_files.storage(str(number))) for number, name in enumerate(names)}
    tied = {name: pytorch_files.tensor(pytorch_files.storage("0")) for name in shared}
    return pytorch_files.checkpoint(pytorch_files.pickled({**tensors, **tied}), storages)


def test_shards_of_pytorch_are_joined_by_their_index(tmp_path: Path) -> None:
    write(tmp_path / FIRST, pytorch("a"))
    write(tmp_path / SECOND, pytorch("b"))
    write(tmp_path / INDEX, {"metadata": {"total_size": 32}, "weight_map": {"a": FIRST, "b": SECOND}})
    checkpoint = open_place(tmp_path)
    assert [tensor.name for tensor in checkpoint.tensors] == ["a", "b"]
    assert (checkpoint.defects, checkpoint.remarks, checkpoint.missing) == ((), (), ())


def test_a_tied_tensor_that_the_index_lists_is_not_missing(tmp_path: Path) -> None:
    write(tmp_path / FIRST, pytorch("a", shared=("head",)))
    write(tmp_path / SECOND, pytorch("b"))
    weight_map = {"a": FIRST, "head": FIRST, "b": SECOND}
    write(tmp_path / INDEX, {"metadata": {"total_size": 48}, "weight_map": weight_map})
    checkpoint = open_place(tmp_path)
    assert checkpoint.aliases == {"head": "a"}
    assert (checkpoint.defects, checkpoint.remarks, checkpoint.missing) == ((), (), ())
    assert audit_checkpoint(checkpoint).coverage.complete


def test_a_gap_among_the_slices_of_a_model_is_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path / "consolidated.00.pth", pytorch("a"))
    write(tmp_path / "consolidated.02.pth", pytorch("a"))
    checkpoint = open_place(tmp_path)
    assert [tensor.name for tensor in checkpoint.tensors] == ["consolidated.00/a", "consolidated.02/a"]
    (defect,) = checkpoint.defects
    assert (defect.rule, defect.case) == ("JN005", "missing-shard")
    assert "'consolidated.01.pth'" in defect.sentence


def test_a_whole_set_of_slices_has_nothing_missing(tmp_path: Path) -> None:
    write(tmp_path / "consolidated.00.pth", pytorch("a"))
    write(tmp_path / "consolidated.01.pth", pytorch("a"))
    assert open_place(tmp_path).defects == ()


def test_somebody_elses_metadata_is_none_of_ours(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", safetensors({}))
    write(tmp_path / ".metadata", b"version: 1")
    with pytest.raises(NothingToAudit, match="holds no tensor"):
        open_place(tmp_path)


@pytest.mark.parametrize("named", [".", ".metadata", "__0_0.distcp"])
def test_a_distributed_checkpoint_is_read_by_whatever_part_is_named(named: str, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "dcp_ranks", tmp_path / "run")
    whole, part = open_place(tmp_path / "run"), open_place(tmp_path / "run" / named)
    assert [tensor.name for tensor in part.tensors] == [tensor.name for tensor in whole.tensors] != []
    assert part.defects == ()


def test_beside_a_model_a_distributed_checkpoint_is_passed_over_with_a_remark(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "dcp_ranks", tmp_path / "run")
    write(tmp_path / "run" / "pytorch_model.bin", pytorch("a"))
    checkpoint = open_place(tmp_path / "run")
    assert [tensor.name for tensor in checkpoint.tensors] == ["a"]
    (remark,) = checkpoint.remarks
    assert "passed over '.metadata'" in remark


def test_what_a_trainer_leaves_is_no_model(tmp_path: Path) -> None:
    write(tmp_path / "optimizer.pt", pytorch("a"))
    with pytest.raises(NothingToAudit, match=r"only what a trainer leaves beside weights; name one of 'optimizer.pt'"):
        open_place(tmp_path)
    assert [tensor.name for tensor in open_place(tmp_path / "optimizer.pt").tensors] == ["a"]
    write(tmp_path / "pytorch_model.bin", pytorch("b"))
    checkpoint = open_place(tmp_path)
    assert ([tensor.name for tensor in checkpoint.tensors], checkpoint.remarks) == (["b"], ())


def test_of_two_formats_of_a_model_one_is_read_and_the_other_named(tmp_path: Path) -> None:
    write(tmp_path / "pytorch_model.bin", pytorch("a"))
    write(tmp_path / "model.safetensors", (FIXTURES.parent / "digits" / "model.safetensors").read_bytes())
    checkpoint = open_place(tmp_path)
    assert [file.name for file in checkpoint.files] == ["model.safetensors"]
    (remark,) = checkpoint.remarks
    assert remark.startswith("read 'model.safetensors' and passed over 'pytorch_model.bin'")


def test_several_models_of_one_format_want_to_be_named(tmp_path: Path) -> None:
    write(tmp_path / "small.pt", pytorch("a"))
    write(tmp_path / "large.pt", pytorch("a"))
    with pytest.raises(UsageError, match=r"name one of 'large\.pt', 'small\.pt'"):
        open_place(tmp_path)


def test_a_bad_file_of_any_format_is_a_defect_and_no_end(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", BAD_GGUF[0].content)
    (defect,) = open_place(tmp_path).defects
    assert (defect.rule, defect.case) == (BAD_GGUF[0].rule, BAD_GGUF[0].case)
