"""Damaged tokenizer files of every kind, hurt where JSON and its types are tender.

For a long run: `python -m tests.support.fuzzing tokenizer --inputs 1000000 --seed 7`.
"""

import json
import random
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from jaynes_audit.analyzers.checkpoints.vocabulary import MOST_ROWS, NoVocabulary, vocabulary_beside
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import Fuzz

MARK = b"\0"  # parts the name of a file from its content; no name has it

VALUE = re.compile(rb'"[^"]*"|-?[0-9.]+|\[[^\[\]]*\]|\{[^{}]*\}')
TOKENS: tuple[bytes, ...] = tuple(
    b"0|-1|1.5|1e999|-0|18446744073709551616|9223372036854775808|999999999999999999999999999999|true|null|NaN|[]|{}"
    b'|""|"a"|[["a",1]]|{"a":1}|{"a":{"a":1}}|"ByteLevel"|"WordPiece"|"type"|"vocab"|"model"|"\\ud800"|"\\u0000"'
    b'|"##"|"<0xZZ>"|"<0x41>"|"\xe2\x96\x81"|"\xc4\xa0"|,|:|{|}|[|]| |\n|\xff|\xef\xbb\xbf|"id"|"special"'.split(b"|")
)


def tokenizer(vocab: object, *, kind: str | None = None, **rest: object) -> dict[str, object]:
    """The content of a tokenizer.json."""
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 0, "content": "<s>", "special": True, "normalized": False},
            {"id": 9, "content": "  ", "special": False},
        ],
        "model": {"type": kind, "unk_token": None, "vocab": vocab, "merges": ["a b", ["c", "d"]]},
        **rest,
    }


BYTES = {"<s>": 0, "a": 1, "Ġa": 2, "Ã©": 3, "Ċ": 4}
PIECES = {"<s>": 0, "a": 1, "▁a": 2, "é": 3, "<0x0A>": 4}
WORDS = {"[PAD]": 0, "##a": 1, "a": 2, "##é": 3, "##": 4}

FILES: tuple[tuple[str, object], ...] = (
    ("tokenizer.json", tokenizer(BYTES, kind="BPE", pre_tokenizer={"type": "ByteLevel"}, decoder=None)),
    ("tokenizer.json", tokenizer(PIECES, kind="BPE", decoder={"type": "Sequence", "decoders": [{"type": "Fuse"}]})),
    ("tokenizer.json", tokenizer([[piece, -1.5] for piece in PIECES], kind="Unigram")),
    ("tokenizer.json", tokenizer(WORDS, kind="WordPiece")),
    ("tokenizer.json", tokenizer({"a": 2}, kind="WordLevel")),
    ("vocab.json", BYTES),
    ("vocab.json", PIECES),
)
NAMES = frozenset({"vocab.txt", *(name for name, _ in FILES)})


@cache
def corpus() -> tuple[bytes, ...]:
    """Sound files, each behind its name."""
    in_json = [f"{name}\0{json.dumps(content, ensure_ascii=False)}".encode() for name, content in FILES]
    return (*in_json, b"vocab.txt\0" + "\n".join(WORDS).encode())


def insert_token(content: bytearray, dice: random.Random) -> None:
    """A piece of JSON appears somewhere."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.choice(TOKENS)


def replace_value(content: bytearray, dice: random.Random) -> None:
    """A value becomes another, of another type as often as not."""
    values = list(VALUE.finditer(content))
    if values:
        value = dice.choice(values)
        content[value.start() : value.end()] = dice.choice(TOKENS)


def exchange_values(content: bytearray, dice: random.Random) -> None:
    """A value is also where another was."""
    values: Sequence[re.Match[bytes]] = list(VALUE.finditer(content))
    if values:
        put, out = dice.choice(values).group(), dice.choice(values)
        content[out.start() : out.end()] = put


def nest(content: bytearray, dice: random.Random) -> None:
    """Lists or objects open and never close."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.choice((b"[", b'{"a":')) * dice.choice((10, 100, 5000))


def read(content: bytes) -> None:
    """Read the file as it would stand beside weights."""
    name, mark, text = content.partition(MARK)
    named = name.decode(errors="replace")
    with TemporaryDirectory() as folder:
        path = Path(folder, named if mark and named in NAMES else "tokenizer.json")
        path.write_bytes(text if mark else content)
        vocabulary = vocabulary_beside(path.with_name("model.safetensors"))
    if isinstance(vocabulary, NoVocabulary):
        assert "\n" not in vocabulary.reason
        assert len(vocabulary.reason) < 400
        kind = re.sub(r"\(.*|[0-9,]+", "", vocabulary.reason).strip()
        raise RefusedFile(vocabulary.reason, rule="-", case=kind)
    assert vocabulary.rows == {text: row for text, row in vocabulary.rows.items() if 0 <= row < MOST_ROWS}
    assert all(isinstance(text, bytes) for text in vocabulary.rows)
    assert len(vocabulary.rows) <= len(content)


FUZZ = Fuzz(corpus=corpus, read=read, damages=(insert_token, replace_value, replace_value, exchange_values, nest))
