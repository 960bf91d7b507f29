"""Where a finding points to, and how it is known again."""

import json
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.audit import Audit, LeftOutReason, audit_checkpoint, headers_of
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.checkpoints.index import lines_of_tensors
from jaynes_audit.analyzers.checkpoints.tensor import Defect
from jaynes_audit.analyzers.layer_audit import CodeOccupancy
from jaynes_audit.analyzers.model_name import lasting_subject
from jaynes_audit.analyzers.record import FindingRecord
from jaynes_audit.analyzers.record.placing import fingerprint, placed, placed_in_file
from tests.support.audits import audit, layer
from tests.support.fuzzing import survive
from tests.support.index_lines_fuzz import FUZZ
from tests.support.placed_reports import finding

BABBLE = Path(__file__).parents[3] / "fixtures" / "babble" / "bf16"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def babble() -> Audit:
    return audit_checkpoint(open_checkpoint(str(BABBLE)), jobs=1)


def placed_one(subject: str, of: Audit, **where: object) -> FindingRecord:
    [record] = placed([finding(subject=subject)], of, model="tiny", **where)
    return record


def line_in(text: str, name: str) -> int:
    """The line of a name in an index with one tensor a line."""
    [line] = [number for number, line in enumerate(text.split("\n"), 1) if json.dumps(name) in line]
    return line


# ---- the line


def test_a_layer_has_its_line_in_the_baseline() -> None:
    record = placed_one("a", audit(layer("a")), baseline_place="baselines/tiny.jaynes.jsonl", lines={"a": 7})
    assert record.line is not None
    assert (record.line.file, record.line.line) == ("baselines/tiny.jaynes.jsonl", 7)


def test_a_baseline_in_git_has_its_line_in_the_file_of_the_working_tree() -> None:
    record = placed_one(
        "a", audit(layer("a")), baseline_place="origin/main:baselines/tiny.jaynes.jsonl", lines={"a": 2}
    )
    assert record.line is not None
    assert record.line.file == "baselines/tiny.jaynes.jsonl"


def test_a_finding_about_the_baseline_is_on_its_first_line() -> None:
    place = "main:baselines/tiny.jaynes.jsonl"
    record = placed_one(place, audit(layer("a")), baseline_place=place)
    assert record.line is not None
    assert (record.line.file, record.line.line) == ("baselines/tiny.jaynes.jsonl", 1)


def test_a_layer_that_the_baseline_does_not_have_has_its_line_in_the_index(babble: Audit) -> None:
    text = (BABBLE / INDEX).read_text()
    for each in babble:
        record = placed_one(each.name, babble, baseline_place="b.jaynes.jsonl", lines={"other": 2})
        assert record.line is not None
        assert (record.line.file, record.line.line) == (str(BABBLE / INDEX), line_in(text, each.tensor))


def test_a_tensor_that_no_shard_holds_has_its_line_in_the_index(tmp_path: Path) -> None:
    shutil.copytree(BABBLE, tmp_path / "export")
    path = tmp_path / "export" / INDEX
    index = json.loads(path.read_text())
    index["weight_map"]["model.lost.weight"] = "model-00001-of-00003.safetensors"
    path.write_text(json.dumps(index, indent=2))
    audit = headers_of(open_checkpoint(str(tmp_path / "export")))
    assert [each.name for each in audit.left_out if each.reason is LeftOutReason.MISSING] == ["model.lost.weight"]
    record = placed_one("model.lost.weight", audit)
    assert record.line is not None
    assert record.line.line == line_in(path.read_text(), "model.lost.weight")


def test_in_a_pipeline_a_layer_has_its_line_in_the_index_of_its_component(tmp_path: Path) -> None:
    for component in ("text_encoder", "text_encoder_2"):
        shutil.copytree(BABBLE, tmp_path / component)
    both = {name: ["transformers", "LlamaModel"] for name in ("text_encoder", "text_encoder_2")}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline", **both}))
    audit = audit_checkpoint(open_checkpoint(str(tmp_path)), jobs=1)
    text = (BABBLE / INDEX).read_text()
    record = placed_one("text_encoder_2/lm_head.weight", audit)
    assert record.line is not None
    assert record.line.file == str(tmp_path / "text_encoder_2" / INDEX)
    assert record.line.line == line_in(text, "lm_head.weight")


def test_of_two_indexes_the_one_that_names_the_shard_counts(tmp_path: Path, babble: Audit) -> None:
    del babble
    shutil.copytree(BABBLE, tmp_path / "export")
    other = {"weight_map": {"lm_head.weight": "model.fp16-00001-of-00001.safetensors"}}
    (tmp_path / "export" / "model.safetensors.index.fp16.json").write_text(json.dumps(other))
    (tmp_path / "export" / "a.index.json").write_text("[")
    audit = headers_of(open_checkpoint(str(tmp_path / "export")))
    whole = replace(audit, layers=(layer("lm_head.weight", file=audit.files[2]),))
    record = placed_one("lm_head.weight", whole)
    assert record.line is not None
    assert record.line.file == str(tmp_path / "export" / INDEX)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"weight_map":{"a":1}}', b"\xff\xfe", b'{"weight_map":{}}'])
def test_an_index_that_cannot_be_read_gives_no_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_bytes(content)
    (tmp_path / "b.index.json").mkdir()
    (tmp_path / "c.index.json").symlink_to(tmp_path / "nothing")
    record = placed_one("a", audit(layer("a", file=str(tmp_path / "model.safetensors"))))
    assert record.line is None


@pytest.mark.parametrize(
    "file", ["hf://org/name@abc/model.safetensors", "nowhere/model.safetensors", "nul\0/x", "x" * 9999]
)
def test_a_file_that_is_not_here_gives_no_line(file: str) -> None:
    record = placed_one("a", audit(layer("a", file=file)))
    assert record.line is None
    assert record.stored is not None
    assert record.stored.file == file


# ---- lines in the text of an index

names = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(names.filter(lambda name: name != "weight_map"), names), st.sampled_from([None, 0, 1, 2]))
def test_every_tensor_is_found_on_its_line(weight_map: dict[str, str], indent: int | None) -> None:
    before = {"metadata": {"total_size": 1, "a": "x", "": "weight_map"}, "weight_map": weight_map, "after": {"a": 1}}
    text = json.dumps(before, indent=indent)
    lines = lines_of_tensors(text)
    for name in weight_map:
        row = text.split("\n")[lines[name] - 1]
        assert f"{json.dumps(name)}: " in row
    if indent is not None:
        assert len({lines[name] for name in weight_map}) == len(weight_map)


def test_the_text_of_an_index_may_have_any_layout() -> None:
    text = '{\n\n"weight_map"\n:\n{"a\\"\\u0062"\n\n :"x","c":"y",\n"\\\\":"a: \\"c\\": "}}'
    assert lines_of_tensors(text) == {'a"b': 5, "c": 7, "\\": 8}


def test_no_text_makes_the_search_for_lines_fail_or_hang() -> None:
    ends, faults = survive(FUZZ, inputs=1_500, seed=6)
    assert not faults, faults[0].trace
    assert ends["accepted"]


# ---- the bytes


def test_a_layer_is_stored_where_its_bytes_are(babble: Audit) -> None:
    for each in (babble.layers[0], babble.layers[-1]):
        stored = placed_one(each.name, babble).stored
        assert stored is not None
        assert stored.offset is not None
        assert stored.length is not None
        content = Path(stored.file).read_bytes()[stored.offset : stored.offset + stored.length]
        header = int.from_bytes(Path(stored.file).read_bytes()[:8], "little")
        entry = json.loads(Path(stored.file).read_bytes()[8 : 8 + header])[each.tensor]
        start, end = entry["data_offsets"]
        assert content == Path(stored.file).read_bytes()[8 + header + start : 8 + header + end]


def test_what_a_quantiser_makes_of_several_tensors_has_no_length() -> None:
    codes = CodeOccupancy(
        description="4 bits", keeps_law=False, available=16, used=16, entropy=3.8, commonest_share=0.1
    )
    stored = placed_one("a", audit(replace(layer("a"), codes=codes))).stored
    assert stored is not None
    assert (stored.offset, stored.length) == (8, None)


def test_a_finding_about_a_file_knows_the_file_and_no_bytes() -> None:
    defect = Defect(rule="JN001", case="cut", file="tiny/b.safetensors", sentence="it ends early")
    record = placed_one("tiny/b.safetensors", audit(layer("a"), defects=[defect]))
    assert record.line is None
    assert record.stored is not None
    assert (record.stored.file, record.stored.offset, record.stored.length) == ("tiny/b.safetensors", None, None)


def test_a_finding_about_the_whole_model_has_no_place() -> None:
    record = placed_one("tiny", audit(layer("a")))
    assert (record.line, record.stored) == (None, None)


# ---- the fingerprint


def test_a_fingerprint_is_a_hash_of_rule_model_and_subject() -> None:
    told = sha256(b"JN101\0tiny\0a").hexdigest()[:16]
    assert fingerprint("JN101", "tiny", "a") == placed_one("a", audit(layer("a"))).fingerprint == told
    assert re.fullmatch("[0-9a-f]{16}", told)


def test_a_fingerprint_takes_no_notice_of_what_was_measured_or_where_it_stands() -> None:
    here = placed_one("a", audit(layer("a")), baseline_place="b", lines={"a": 3})
    [there] = placed(
        [FindingRecord(rule="JN101", name="x", level="note", subject="a", sentence="now it is worse")],
        audit(layer("a", file="/elsewhere/model.safetensors"), target="/elsewhere"),
        model="tiny",
    )
    assert here.fingerprint == there.fingerprint


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("export", "export/unet/model.safetensors"),
        ("./export/", "export/unet/model.safetensors"),
        ("/home/runner/export", "/home/runner/export/unet/model.safetensors"),
        ("/home/runner/export/model.safetensors.index.json", "/home/runner/export/unet/model.safetensors"),
        (".", "unet/model.safetensors"),
        ("org/name", "hf://org/name@5b25b9f1784d/unet/model.safetensors"),
        ("hf://org/name@main", "hf://org/name@0b25b9f1784d/unet/model.safetensors"),
    ],
)
def test_a_file_is_known_again_on_another_machine_and_in_another_revision(target: str, file: str) -> None:
    assert lasting_subject(file, target) == "unet/model.safetensors"


@pytest.mark.parametrize("target", ["export", "/srv/export", "org/export@main", "./export"])
def test_a_model_is_known_again_wherever_it_lies(target: str) -> None:
    assert lasting_subject(target, target) == "export"


@given(st.text(), st.text(), st.text(), st.text())
def test_unlike_findings_have_unlike_fingerprints(rule: str, subject: str, other_rule: str, other: str) -> None:
    same = (rule, subject) == (other_rule, other)
    if "\0" not in rule + subject + other_rule + other:
        assert (fingerprint(rule, "m", subject) == fingerprint(other_rule, "m", other)) is same


def test_a_finding_about_the_run_is_on_the_first_line_of_the_configuration() -> None:
    [record] = placed_in_file([finding(rule="JN902", subject="jaynes.toml, ignore 1")], "jaynes.toml")
    assert record.line is not None
    assert (record.line.file, record.line.line) == ("jaynes.toml", 1)
    assert record.fingerprint == fingerprint("JN902", "", "jaynes.toml, ignore 1")


def test_a_name_with_half_a_surrogate_pair_finds_its_line_too() -> None:
    of = audit(layer("a\udc80"))
    record = placed_one("a\\udc80", of, baseline_place="b", lines={"a\udc80": 4})
    assert record.line is not None
    assert record.line.line == 4
    assert record.stored is not None
