import json
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints import vocabulary
from jaynes_audit.analyzers.checkpoints.vocabulary import NoVocabulary, Vocabulary, vocabulary_beside
from tests.support.fuzzing import survive
from tests.support.tokenizer_fuzz import BYTES, FUZZ, PIECES, WORDS, tokenizer


def read(folder: Path, name: str, content: object) -> Vocabulary | NoVocabulary:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return vocabulary_beside(folder / "model.safetensors")


def rows(folder: Path, name: str, content: object) -> dict[bytes, int]:
    found = read(folder, name, content)
    assert isinstance(found, Vocabulary), found
    assert found.file == name
    return dict(found.rows)


def reason(folder: Path, name: str, content: object) -> str:
    found = read(folder, name, content)
    assert isinstance(found, NoVocabulary)
    return found.reason


def test_every_byte_has_a_character_of_gpt2s() -> None:
    """The example of OpenAI's encoder.py: printable bytes stand for themselves, the others from U+0100 on."""
    assert sorted(vocabulary._BYTES.values()) == list(range(256))
    assert vocabulary._BYTES[ord("Ġ")] == ord(" ")
    assert vocabulary._BYTES[ord("Ċ")] == ord("\n")
    assert vocabulary._BYTES[ord("a")] == ord("a")


@pytest.mark.parametrize("where", ["pre_tokenizer", "decoder"])
def test_a_byte_level_tokenizer_lists_bytes(tmp_path: Path, where: str) -> None:
    nested = {where: {"type": "Sequence", "items": [{"type": "ByteLevel", "add_prefix_space": False}]}}
    found = rows(tmp_path, "tokenizer.json", tokenizer(BYTES, kind="BPE", **nested))
    assert found == {b"  ": 9, b"a": 1, b" a": 2, "é".encode(): 3, b"\n": 4}


def test_sentencepiece_in_bpe_and_in_unigram_lists_the_same(tmp_path: Path) -> None:
    expected = {b"  ": 9, b"a": 1, b" a": 2, "é".encode(): 3, b"\n": 4}
    assert rows(tmp_path, "tokenizer.json", tokenizer(PIECES, kind="BPE")) == expected
    pieces = [[piece, -1.0] for piece in PIECES]
    assert rows(tmp_path, "tokenizer.json", tokenizer(pieces, kind="Unigram")) == expected


def test_a_word_piece_that_begins_a_word_has_a_space_before_it(tmp_path: Path) -> None:
    content = {**tokenizer(WORDS, kind="WordPiece"), "added_tokens": None}
    expected = {b"a": 1, b" a": 2, "é".encode(): 3, b" ##": 4}
    assert rows(tmp_path, "vocab.txt", "\r\n".join(WORDS)) == expected
    assert rows(tmp_path, "tokenizer.json", content) == expected


def test_whole_words_are_words(tmp_path: Path) -> None:
    assert rows(tmp_path, "tokenizer.json", tokenizer({"##a": 2}, kind="WordLevel"))[b" ##a"] == 2


def test_a_vocab_json_is_byte_level_if_it_spells_spaces_so(tmp_path: Path) -> None:
    assert rows(tmp_path, "vocab.json", BYTES) == {b"a": 1, b" a": 2, "é".encode(): 3, b"\n": 4}
    assert rows(tmp_path, "vocab.json", PIECES) == {b"a": 1, b" a": 2, "é".encode(): 3, b"\n": 4}


def test_tokens_that_stand_for_no_text_are_left_out(tmp_path: Path) -> None:
    nothing = ["<pad>", "</s>", "[unused7]", "<unused12>", "<extra_id_3>", "<|reserved_special_token_5|>", "[MASK]"]
    vocab = {text: row for row, text in enumerate([*nothing, "a"])}
    assert rows(tmp_path, "tokenizer.json", {"model": {"vocab": vocab}}) == {b"a": len(nothing)}


def test_a_row_that_no_table_has_is_left_out(tmp_path: Path) -> None:
    vocab = {"a": -1, "b": 1 << 24, "c": 10**18, "d": 3}
    assert rows(tmp_path, "tokenizer.json", {"model": {"vocab": vocab}}) == {b"d": 3}


def test_the_better_file_is_read_where_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("x\n")
    (tmp_path / "vocab.json").write_text('{"y": 1}')
    assert rows(tmp_path, "tokenizer.json", {"model": {"vocab": {"z": 2}}}) == {b"z": 2}


def test_the_tokenizer_of_a_pipelines_component_is_in_a_folder_of_its_own(tmp_path: Path) -> None:
    for name in ("text_encoder_2", "tokenizer_2"):
        (tmp_path / name).mkdir()
    (tmp_path / "tokenizer_2" / "vocab.json").write_text('{"a": 1}')
    assert vocabulary_beside(tmp_path / "text_encoder_2" / "model.safetensors") == Vocabulary(
        file="vocab.json", rows={b"a": 1}
    )


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    assert vocabulary_beside(tmp_path / "model.safetensors") == NoVocabulary(
        "none of tokenizer.json, vocab.json, vocab.txt is beside its weights"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 100_000, "lists no tokens"),
        ('{"merges":' + "[" * 100_000, "nests without end"),
        ('{"model":{"vocab":{"a":1e400}}}', "lists no tokens"),
        ('{"model":{"vocab":{"a":"b"}}}', "lists no tokens"),
        ('{"model":{}}', "lists no tokens"),
        ("", "lists no tokens"),
    ],
    ids=["a list", "nested", "infinite", "texts", "without", "empty"],
)
def test_a_broken_tokenizer_says_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    assert said in reason(tmp_path, "tokenizer.json", content)


def test_a_tokenizer_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "LARGEST_TOKENIZER", 10)
    assert "more than 10 bytes" in reason(tmp_path, "tokenizer.json", tokenizer(BYTES))


def test_a_folder_of_that_name_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").mkdir()
    found = vocabulary_beside(tmp_path / "model.safetensors")
    assert isinstance(found, NoVocabulary)
    assert "could not be read" in found.reason


def test_every_damaged_tokenizer_is_read_or_told() -> None:
    ends, faults = survive(FUZZ, inputs=1500, seed=20_267)
    assert faults == []
    assert ends["accepted"] > 150, "the damage leaves too few files sound"
    assert len(ends) > 4, "the damage does not reach the refusals"
