"""The index of a sharded checkpoint: what is refused, and where it and the shards disagree."""

from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.index import parse_index
from jaynes_audit.analyzers.checkpoints.opening import open_place
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.safetensors_files import tensors, write, write_sharded

INDEX = "model.safetensors.index.json"
FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"

BAD_INDEXES: tuple[tuple[str, bytes, str, str], ...] = (
    ("59 empty", b"", "json-cut-off", "ends in the middle"),
    ("59 not JSON", b"{'weight_map'", "json-single-quotes", "the index is not JSON"),
    ("59 not UTF-8", b'{"\xff"}', "index-not-utf8", "byte 2"),
    ("59 nesting bomb", b"[" * 100_000, "nesting-too-deep", "attack"),
    ("59 a list", b"[]", "index-not-object", "a list"),
    ("59 a second value", b'{"weight_map":{}} {}', "index-second-value", "'{}'"),
    ("59 no weight_map", b'{"metadata":{}}', "weight-map-missing", "weight_map"),
    ("59 weight_map is a list", b'{"weight_map":[]}', "index-not-object", "its weight_map is a list"),
    ("59 metadata is a number", b'{"weight_map":{},"metadata":1}', "index-not-object", "its metadata is a number"),
    ("59 shard is a number", b'{"weight_map":{"a":1}}', "shard-not-a-name", "'a'"),
    ("59 weight_map twice", b'{"weight_map":{},"weight_map":{}}', "index-duplicate-key", "'weight_map' twice"),
    ("59 tensor twice", b'{"weight_map":{"a":"x","a":"y"}}', "index-duplicate-key", "'a' twice in its weight_map"),
    ("60 parent", b'{"weight_map":{"a":"../x.safetensors"}}', "unsafe-shard-name", "leads out of the folder"),
    ("60 only dots", b'{"weight_map":{"a":".."}}', "unsafe-shard-name", "leads out of the folder"),
    ("60 parent on Windows", b'{"weight_map":{"a":"..\\\\x"}}', "unsafe-shard-name", "leads out of the folder"),
    ("60 sub-folder", b'{"weight_map":{"a":"b/x.safetensors"}}', "unsafe-shard-name", "into another folder"),
    ("60 backslash", b'{"weight_map":{"a":"b\\\\x"}}', "unsafe-shard-name", "on Windows"),
    ("60 absolute", b'{"weight_map":{"a":"/etc/passwd"}}', "unsafe-shard-name", "is an absolute path"),
    ("60 drive", b'{"weight_map":{"a":"C:x.safetensors"}}', "unsafe-shard-name", "is an absolute path"),
    ("60 URL", b'{"weight_map":{"a":"https://x.org/x"}}', "unsafe-shard-name", "is a URL"),
    ("60 NUL", b'{"weight_map":{"a":"x\\u0000"}}', "unsafe-shard-name", "NUL byte"),
    ("60 lone surrogate", b'{"weight_map":{"a":"\\ud800"}}', "unsafe-shard-name", "surrogate"),
    ("60 the folder itself", b'{"weight_map":{"a":"."}}', "unsafe-shard-name", "names no file"),
    ("60 nothing", b'{"weight_map":{"a":""}}', "unsafe-shard-name", "names no file"),
    ("60 too long", b'{"weight_map":{"a":"' + b"x" * 300 + b'"}}', "shard-name-too-long", "longer than"),
)


@pytest.mark.parametrize(
    ("raw", "case", "mention"), [each[1:] for each in BAD_INDEXES], ids=[e[0] for e in BAD_INDEXES]
)
def test_a_bad_index_is_refused_for_what_is_wrong_with_it(raw: bytes, case: str, mention: str) -> None:
    with pytest.raises(RefusedFile) as caught:
        parse_index(raw)
    assert (caught.value.rule, caught.value.case) == ("JN003", case)
    assert mention in str(caught.value)
    assert str(caught.value).isprintable()


def test_every_bad_index_has_a_sentence_of_its_own() -> None:
    sentences = []
    for _, raw, _, _ in BAD_INDEXES:
        with pytest.raises(RefusedFile) as caught:
            parse_index(raw)
        sentences.append(str(caught.value))
    assert len(set(sentences)) == len(sentences)


def sharded(folder: Path) -> Path:
    return write_sharded(folder, [["a", "b"], ["c"]])


def reindexed(folder: Path, weight_map: dict[str, str], **metadata: object) -> Path:
    write(folder / INDEX, {"metadata": metadata, "weight_map": weight_map})
    return folder


def only_defect(checkpoint: Checkpoint) -> Defect:
    (defect,) = checkpoint.defects
    assert defect.sentence.isprintable()
    return defect


def names(checkpoint: Checkpoint) -> list[str]:
    return [tensor.name for tensor in checkpoint.tensors]


def test_a_sound_sharded_checkpoint_has_nothing_to_say(tmp_path: Path) -> None:
    checkpoint = open_place(sharded(tmp_path))
    assert names(checkpoint) == ["a", "b", "c"]
    assert checkpoint.files == (tmp_path / FIRST, tmp_path / SECOND)
    assert (checkpoint.defects, checkpoint.remarks) == ((), ())


def test_61_an_absent_shard_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (sharded(tmp_path) / FIRST).unlink()
    checkpoint = open_place(tmp_path)
    defect = only_defect(checkpoint)
    assert (defect.rule, defect.case) == ("JN005", "missing-shard")
    assert defect.sentence == f"1 of 2 files of weights are missing: '{FIRST}'; fetch them again"
    assert names(checkpoint) == ["c"]


def test_61_a_shard_that_is_a_link_to_nothing_is_absent(tmp_path: Path) -> None:
    (sharded(tmp_path) / FIRST).unlink()
    (tmp_path / FIRST).symlink_to(tmp_path / "blobs" / "gone")
    assert only_defect(open_place(tmp_path)).case == "missing-shard"


def test_61_a_thousand_absent_shards_are_one_defect(tmp_path: Path) -> None:
    reindexed(sharded(tmp_path), {f"t{n}": f"part{n:04}.safetensors" for n in range(1000)})
    defect = only_defect(open_place(tmp_path))
    assert "1,000 of 1,000 files of weights are missing" in defect.sentence
    assert len(defect.sentence) < 300


def test_61_a_truncated_shard_is_refused_and_its_tensors_are_not_called_missing(tmp_path: Path) -> None:
    write(sharded(tmp_path) / FIRST, tensors("a", "b")[:-3])
    checkpoint = open_place(tmp_path)
    defect = only_defect(checkpoint)
    assert (defect.rule, defect.case, defect.file) == ("JN001", "data-cut-off", str(tmp_path / FIRST))
    assert names(checkpoint) == ["c"]


def test_62_a_tensor_that_its_shard_lacks(tmp_path: Path) -> None:
    reindexed(sharded(tmp_path), {"a": FIRST, "b": FIRST, "c": SECOND, "d": SECOND})
    defect = only_defect(open_place(tmp_path))
    assert (defect.rule, defect.case, defect.file) == ("JN006", "tensor-not-in-shard", str(tmp_path / SECOND))
    assert "'d'" in defect.sentence


def test_63_a_tensor_that_no_index_lists(tmp_path: Path) -> None:
    reindexed(sharded(tmp_path), {"a": FIRST, "c": SECOND})
    checkpoint = open_place(tmp_path)
    defect = only_defect(checkpoint)
    assert (defect.rule, defect.case, defect.file) == ("JN006", "tensor-not-in-index", str(tmp_path / FIRST))
    assert "'b'" in defect.sentence
    assert names(checkpoint) == ["a", "b", "c"]


def test_64_a_tensor_in_two_shards_is_read_where_the_index_says(tmp_path: Path) -> None:
    write(sharded(tmp_path) / SECOND, tensors("c", "a"))
    reindexed(tmp_path, {"a": SECOND, "b": FIRST, "c": SECOND})
    checkpoint = open_place(tmp_path)
    defect = only_defect(checkpoint)
    assert (defect.rule, defect.case) == ("JN006", "tensor-in-two-shards")
    assert "'a'" in defect.sentence
    assert FIRST in defect.sentence
    (tensor,) = [each for each in checkpoint.tensors if each.name == "a"]
    assert tensor.file == tmp_path / SECOND


@pytest.mark.parametrize(
    ("total_size", "mention"), [(25, "25 bytes, and its tensors have 24"), (24.5, "24.5"), ("24", "a string")]
)
def test_65_a_wrong_total_size_is_a_remark(tmp_path: Path, total_size: object, mention: str) -> None:
    reindexed(sharded(tmp_path), {"a": FIRST, "b": FIRST, "c": SECOND}, total_size=total_size)
    checkpoint = open_place(tmp_path)
    assert checkpoint.defects == ()
    (remark,) = checkpoint.remarks
    assert mention in remark


def test_65_a_partial_checkpoint_is_not_blamed_for_its_size(tmp_path: Path) -> None:
    (sharded(tmp_path) / FIRST).unlink()
    assert open_place(tmp_path).remarks == ()


def test_66_an_index_that_names_too_few_shards(tmp_path: Path) -> None:
    reindexed(sharded(tmp_path), {"c": SECOND})
    checkpoint = open_place(tmp_path)
    defect = only_defect(checkpoint)
    assert (defect.rule, defect.case, defect.file) == ("JN006", "shard-count", str(tmp_path / INDEX))
    assert "names 1 of the 2 shards" in defect.sentence
    assert checkpoint.remarks == (f"passed over '{FIRST}', which the index does not name",)


def test_a_refused_index_leaves_the_shards_readable(tmp_path: Path) -> None:
    write(sharded(tmp_path) / INDEX, b"<html>")
    checkpoint = open_place(tmp_path)
    assert [(defect.rule, defect.file) for defect in checkpoint.defects] == [("JN003", str(tmp_path / INDEX))]
    assert names(checkpoint) == ["a", "b", "c"]


def test_an_index_never_leads_to_a_file_outside_its_folder(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.safetensors", tensors("secret"))
    for name in ("../secret.safetensors", str(secret), f"file://{secret}"):
        folder = reindexed(tmp_path / "model", {"a": name}) if (tmp_path / "model").exists() else tmp_path / "model"
        folder.mkdir(exist_ok=True)
        reindexed(folder, {"a": name})
        checkpoint = open_place(folder)
        assert checkpoint.tensors == ()
        assert only_defect(checkpoint).case == "unsafe-shard-name"
