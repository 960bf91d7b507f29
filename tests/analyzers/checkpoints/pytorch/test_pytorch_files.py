"""What PyTorch files are called, which are claimed, and what is passed over in them."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.pytorch.distributed import _Metadata, read_distributed
from jaynes_audit.analyzers.checkpoints.pytorch.legacy import looks_like_pytorch_legacy
from jaynes_audit.analyzers.checkpoints.pytorch.machine import unpickle
from jaynes_audit.analyzers.checkpoints.pytorch.zip_file import looks_like_pytorch_zip, read_pytorch_zip
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import SourcesInMemory, read_tensor
from tests.support.pytorch_files import (
    FIXTURES,
    SIXTEEN,
    call,
    checkpoint,
    legacy,
    name,
    pickled,
    put,
    read,
    storage,
    tensor,
    zipped,
)


def names(value: object) -> list[str]:
    return [tensor.name for tensor in read(checkpoint(pickled(value))).tensors]


@pytest.mark.parametrize("path", sorted(FIXTURES.rglob("*.pt")), ids=lambda path: path.name)
def test_every_file_of_torch_is_claimed_by_its_own_format_alone(path: Path) -> None:
    head = path.read_bytes()[:512]
    is_old = "legacy" in path.name
    assert (looks_like_pytorch_zip(head, 9999), looks_like_pytorch_legacy(head, 9999)) == (not is_old, is_old)


@pytest.mark.parametrize("first", ["arr_0.npy", "metadata.json", "[Content_Types].xml", "model.tflite"])
def test_another_zip_is_not_claimed(first: str) -> None:
    head = zipped({first: b"x", "data.pkl": b"x"}).replace(b"archive/" + first.encode(), first.encode() + b"/archive")
    assert not looks_like_pytorch_zip(head[:512], len(head))
    assert not looks_like_pytorch_zip(b"PK\3\4", 4)
    assert not looks_like_pytorch_legacy(head[:512], len(head))


@pytest.mark.parametrize("key", ["state_dict", "model", "module", "model_state_dict", "params", "net", "ema"])
def test_a_trainers_wrapper_is_no_part_of_a_name(key: str) -> None:
    a, b = tensor(None, 0, (2,)), tensor(None, 2, (2,))
    assert names({key: {"x.weight": a}, "optimizer": {"state": [b]}, "epoch": 3}) == ["x.weight"]


def test_weights_are_preferred_to_their_average() -> None:
    a, b = tensor(None, 0, (2,)), tensor(None, 2, (2,))
    assert names({"state_dict_ema": {"x": a}, "state_dict": {"x": b}}) == ["x"]
    content = checkpoint(pickled({"ema": {"x": a}, "model": {"x": b}}))
    weights = read(content)
    assert [content[each.start : each.end] for each in weights.tensors] == [SIXTEEN[8:]]
    assert any("1 tensor under" in remark and "'ema'" in remark for remark in weights.remarks)


def test_what_might_be_weights_is_never_passed_over() -> None:
    a, b = tensor(None, 0, (2,)), tensor(None, 2, (2,))
    assert names({"model": {"x": a}, "discriminator": {"x": b}}) == ["model.x", "discriminator.x"]


@pytest.mark.parametrize("key", ["discriminator", "trainable_head", "last_layer", "optical_flow", "stepwise"])
def test_no_key_is_taken_for_the_trainers_by_its_beginning(key: str) -> None:
    a, b = tensor(None, 0, (2,)), tensor(None, 2, (2,))
    assert names({"model": {"x": a}, key: {"x": b}}) == ["model.x", f"{key}.x"]


@pytest.mark.parametrize("key", ["optimizer_states", "cuda_rng_state_all", "lr_scheduler", "GradScaler_scaler", "step"])
def test_a_trainers_own_state_is_passed_over(key: str) -> None:
    a, b = tensor(None, 0, (2,)), tensor(None, 2, (2,))
    assert names({"model": {"x": a}, key: {"x": b}}) == ["x"]
    assert names({"model": {"x": a}, key: b}) == ["x"]


def test_names_that_would_be_equal_get_numbers() -> None:
    a, b, c = (tensor(None, at, (1,)) for at in range(3))
    assert names({"a.b": a, "a": {"b": b, 1: c}}) == ["a.b", "a.b#2", "a.1"]


def test_a_tensor_behind_an_ordered_dict_of_pairs_is_found() -> None:
    assert names(call("collections", "OrderedDict", [put(("a", tensor()))])) == ["a"]


def test_a_pickled_module_of_an_unknown_class_has_the_names_of_its_state_dict() -> None:
    inner = (
        name("net", "Block") + b")\x81" + put({"_parameters": {"w": tensor()}, "_buffers": {}, "_modules": {}}) + b"b"
    )
    outer = (
        name("net", "Net") + b")\x81" + put({"_parameters": {}, "_buffers": {}, "_modules": {"block": inner}}) + b"b"
    )
    weights = read(checkpoint(pickled(outer)))
    assert [each.name for each in weights.tensors] == ["block.w"]
    (defect,) = weights.defects
    assert "'net.Net', 'net.Block'" in defect.sentence or "'net.Block', 'net.Net'" in defect.sentence


def test_source_code_in_old_files_is_never_looked_at() -> None:
    module = put(("module", name("torch.nn.modules.linear", "Linear"), "evil.py", "import os")) + b"Q"
    whole = module + b")\x81" + put({"_parameters": {"weight": tensor()}, "_modules": {}}) + b"b"
    weights = read(legacy(pickled(whole)))
    assert [each.name for each in weights.tensors] == ["weight"]
    assert weights.defects == ()


@pytest.mark.parametrize("scale", [1e300, float("inf"), float("nan")])
def test_codes_with_an_absurd_scale_are_read_without_a_word(scale: float) -> None:
    codes = storage(count=16, kind=name("torch", "QInt8Storage"))
    quantiser = (name("torch", "per_tensor_affine"), scale, 3)
    content = checkpoint(pickled({"q": call("torch._utils", "_rebuild_qtensor", codes, 0, (16,), (1,), quantiser)}))
    (tensor,) = read(content).tensors
    numbers = np.frombuffer(read_tensor(tensor, SourcesInMemory(content)), np.float32)
    assert np.isnan(numbers[3])
    assert not np.isfinite(numbers).any() if scale != 1e300 else np.isinf(numbers[4])


def test_self_overlapping_strides_are_undecoded() -> None:
    weights = read(checkpoint(pickled({"windows": tensor(None, 0, (3, 2), (1, 1))})))
    assert weights.tensors == ()
    assert "several times" in weights.undecoded["windows"]


def test_expanded_tensors_are_audited_once_and_it_is_said() -> None:
    weights = read(checkpoint(pickled({"a": tensor(None, 0, (1 << 40, 4), (0, 1))})))
    assert [each.shape for each in weights.tensors] == [(1, 4)]
    assert "repeated along an axis" in weights.remarks[0]


def test_a_missing_part_is_a_finding_and_the_others_are_read(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "dcp_ranks", tmp_path / "dcp")
    (tmp_path / "dcp" / "__3_0.distcp").unlink()
    weights = read_distributed(tmp_path / "dcp")
    (defect,) = weights.defects
    assert (defect.rule, defect.case) == ("JN005", "missing-shard")
    assert "'__3_0.distcp'" in defect.sentence
    assert {each.name for each in weights.tensors} < {
        "rows",
        "uneven_rows",
        "columns",
        "both",
        "replicated",
        "deep",
        "single",
    }


def test_a_part_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "dcp_single", tmp_path / "dcp")
    part = tmp_path / "dcp" / "__0_0.distcp"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(RefusedFile) as caught:
        read_distributed(tmp_path / "dcp")
    assert caught.value.rule == "JN001"


@pytest.mark.parametrize("bad", ["../x.distcp", "/etc/passwd", "a/b.distcp", "..", "C:x", "x\0y"])
def test_a_part_outside_the_folder_is_never_opened(bad: str, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "dcp_single", tmp_path / "dcp")
    metadata = tmp_path / "dcp" / ".metadata"
    raw, old = metadata.read_bytes(), b"__0_0.distcp"
    text = bad.encode().ljust(len(old), b"x") if bad != ".." else b".."
    metadata.write_bytes(raw.replace(bytes([len(old)]) + old, bytes([len(text)]) + text))
    with pytest.raises(RefusedFile) as caught:
        read_distributed(tmp_path / "dcp")
    assert caught.value.case == "unsafe-shard-name"


def test_tensors_that_overlap_in_part_are_undecoded_under_each_of_their_names() -> None:
    a, b = tensor(None, 0, (3,)), tensor(None, 2, (2,))
    weights = read(checkpoint(pickled(b"}(" + put("a") + a + put("b") + b + b"q\x00" + put("c") + b"h\x00u")))
    assert [each.name for each in weights.tensors] == ["a"]
    assert weights.aliases == {}
    assert weights.undecoded.keys() == {"b", "c"}
    assert "'a'" in weights.undecoded["b"]


def test_all_of_very_many_interleaved_columns_are_audited() -> None:
    columns = {str(n): tensor(storage(count=256), n, (4,), (64,)) for n in range(64)}
    numbers = np.arange(256, dtype=np.float32)
    content = checkpoint(pickled(columns), {"0": numbers.tobytes()})
    weights = read(content)
    assert weights.undecoded == {}
    sources = SourcesInMemory(content)
    found = {each.name: np.frombuffer(read_tensor(each, sources), np.float32).tolist() for each in weights.tensors}
    assert found == {str(n): numbers[n::64].tolist() for n in range(64)}


@pytest.mark.parametrize(
    "changed",
    [
        (b"byteorder", b"BYTEORDER"),
        (b"archive/byteorder", b"ARCHIVE/byteorder"),
        (b"data.pkl", b"data.PKL"),
        (b"dota.pkl", b"Data.pkl"),
        (b"constant_.pkl", b"Constants.pkl"),
        (b"date/0", b"DATA/0"),
    ],
    ids=lambda changed: changed[1].decode(),
)
def test_a_member_that_torch_takes_for_another_by_its_letters_is_refused(changed: tuple[bytes, bytes]) -> None:
    old, new = changed
    content = checkpoint(pickled({"a": tensor()}))
    if old not in content:
        content = checkpoint(pickled({"a": tensor()}), **{old.decode(): SIXTEEN})
    assert len(read(content).tensors) == 1
    with pytest.raises(RefusedFile) as caught:
        read_pytorch_zip(io.BytesIO(content.replace(old, new)), Path("model.pt"), len(content))
    assert (caught.value.rule, caught.value.case) == ("JN009", "zip-letter-case")


def test_the_keys_of_a_distributed_checkpoints_chunks_have_no_hashes_that_a_file_can_choose() -> None:
    index = name("torch.distributed.checkpoint.metadata", "MetadataIndex") + b")\x81"
    info = name("torch.distributed.checkpoint.filesystem", "_StorageInfo") + b")\x81"
    info += put({"relative_path": "f", "offset": 0, "length": 1}) + b"b"
    items = [index + put({"fqn": "w", "offset": offsets}) + b"b" + info for offsets in ((0, 1), (12, 3), (1, 23))]
    root = name("torch.distributed.checkpoint.metadata", "Metadata") + b")\x81"
    root += b"}(" + put("state_dict_metadata") + b"}" + put("storage_data") + b"}(" + b"".join(items) + b"uub"
    content = pickled(root)
    metadata = _Metadata(unpickle(io.BytesIO(content), len(content)).root)
    assert metadata.item("w", (12, 3)).file_name == "f"
    assert all(type(part) is str for key in metadata._items for part in key)  # of these alone hashes are random
    with pytest.raises(RefusedFile):
        metadata.item("w", (1, 2, 3))
