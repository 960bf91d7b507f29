"""The safetensors parser: what it reads, what it refuses, and how it says so."""

import io
import json
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from jaynes_audit.analyzers.checkpoints.formats import open_weights
from jaynes_audit.analyzers.checkpoints.safetensors_header import (
    aliases_of,
    header_length,
    parse_header,
    read_safetensors,
)
from jaynes_audit.analyzers.checkpoints.safetensors_refusals import LARGEST_HEADER
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from tests.support.safetensors_files import EIGHT, HOSTILE, SOUND, Hostile, entry, safetensors, tensors, write
from tests.support.safetensors_fuzz import Verdict, judge

NUMBERED_CASES = range(1, 59)


def refusal(content: bytes) -> RefusedFile:
    with pytest.raises(RefusedFile) as caught:
        read_safetensors(io.BytesIO(content), Path("bad.safetensors"), len(content))
    return caught.value


def named(hostile: Hostile) -> str:
    return f"{hostile.number} {hostile.name}"


@pytest.mark.parametrize("hostile", HOSTILE, ids=named)
def test_a_hostile_file_is_refused_for_what_it_is(hostile: Hostile, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.safetensors", hostile.content)
    with pytest.raises(RefusedFile) as caught:
        open_weights(path)
    assert (caught.value.rule, caught.value.case) == (hostile.rule, hostile.case)
    for mention in hostile.mentions:
        assert mention in str(caught.value)


@pytest.mark.parametrize("hostile", HOSTILE, ids=named)
def test_a_refusal_is_one_printable_line(hostile: Hostile) -> None:
    sentence = str(refusal(hostile.content))
    assert sentence.isprintable()
    assert "; " in sentence, "a fault and a remedy"
    assert len(sentence) < 300


def test_every_refusal_reads_as_it_was_written(snapshot: SnapshotAssertion) -> None:
    assert [f"{named(each)}: {refusal(each.content)}" for each in HOSTILE] == snapshot


def test_every_case_has_a_sentence_of_its_own() -> None:
    case_of: dict[str, str] = {}
    for hostile in HOSTILE:
        assert case_of.setdefault(str(refusal(hostile.content)), hostile.case) == hostile.case


def test_every_numbered_case_has_a_file() -> None:
    assert {hostile.number for hostile in HOSTILE} == set(NUMBERED_CASES)


@pytest.mark.parametrize("hostile", HOSTILE, ids=named)
def test_we_are_stricter_than_safetensors_only_where_it_is_said(hostile: Hostile) -> None:
    expected = Verdict.STRICTER if hostile.stricter else Verdict.BOTH_REFUSE
    assert judge(hostile.content).verdict is expected


@pytest.mark.parametrize("content", SOUND.values(), ids=SOUND.keys())
def test_a_sound_file_is_read_as_safetensors_reads_it(content: bytes) -> None:
    assert judge(content).verdict is Verdict.BOTH_ACCEPT


def test_a_tensor_says_where_its_bytes_are(tmp_path: Path) -> None:
    content = safetensors({"scale": entry("F8_E8M0", [4], [0, 4]), "weight": entry("BF16", [2, 1], [4, 8])}, EIGHT)
    path = write(tmp_path / "a.safetensors", content)
    scale, weight = open_weights(path).tensors
    assert (weight.name, weight.dtype, weight.shape, weight.file) == ("weight", Dtype.BF16, (2, 1), path)
    assert content[weight.start : weight.end] == EIGHT[4:]
    assert content[scale.start : scale.end] == EIGHT[:4]


def test_tensors_keep_the_order_in_which_the_header_names_them() -> None:
    content = SOUND["order of names is not the order of bytes"]
    read = read_safetensors(io.BytesIO(content), Path("x"), len(content))
    assert [tensor.name for tensor in read.tensors] == ["b", "a"]


def test_eight_bytes_suffice_for_the_length_of_a_sound_header() -> None:
    content = tensors("a")
    length = header_length(content[:8], len(content))
    assert json.loads(content[8 : 8 + length]).keys() == {"a"}


def test_the_header_may_be_as_long_as_the_format_allows_and_not_longer() -> None:
    """huggingface_hub stops at 25 MB; the format itself at 100 MB."""
    head = LARGEST_HEADER.to_bytes(8, "little") + b"{"
    assert header_length(head, LARGEST_HEADER + 8) == LARGEST_HEADER
    with pytest.raises(RefusedFile, match="above the format's limit"):
        header_length((LARGEST_HEADER + 1).to_bytes(8, "little") + b"{", LARGEST_HEADER + 9)


def test_a_hostile_name_cannot_break_out_of_its_sentence() -> None:
    name = "\x1b[31m\n\u202e" + "x" * 10_000
    sentence = str(refusal(safetensors({name: entry(shape=[3])}, EIGHT)))
    assert sentence.isprintable()
    assert r"'\x1b[31m\n\u202exxx" in sentence
    assert len(sentence) < 250


def test_a_million_dimensions_are_refused_without_being_multiplied() -> None:
    huge = safetensors({"a": entry(shape=[(1 << 64) - 1] * 100_000)}, EIGHT)
    assert refusal(huge).case == "rank-too-large"


def test_a_file_that_shrinks_while_it_is_read_is_not_called_unsound() -> None:
    content = tensors("a")
    with pytest.raises(CouldNotRead, match="became shorter"):
        read_safetensors(io.BytesIO(content[:20]), Path("x"), len(content))


def test_only_a_dropped_tensor_whose_keeper_is_there_is_an_alias() -> None:
    metadata = {"format": "pt", "lm_head.weight": "embed.weight", "embed.weight": "embed.weight", "gone": "not.there"}
    content = tensors("embed.weight", metadata=metadata)
    header = parse_header(content[8 : 8 + header_length(content, len(content))], file=Path("x"), file_size=len(content))
    assert aliases_of(header) == {"lm_head.weight": "embed.weight"}
