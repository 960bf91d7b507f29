"""The tokens of a model: which row of its embedding table stands for which text.

Tokenizers write the same text in different ways: GPT-2's byte-level ones spell a space as "Ġ", SentencePiece as "▁",
WordPiece marks what does not begin a word with "##". Here every token is the bytes of the text it stands for, so that
tokenizers of unlike kinds can be compared. Sources: the package tokenizers 0.23 (`tokenizer.json`), OpenAI's GPT-2
(`bytes_to_unicode`, `vocab.json`), Google's BERT (`vocab.txt`).

The files are read as plain JSON. The tokenizers package would build a tokenizer, and of that only the list of tokens
is wanted.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.reading import is_absent, opened
from jaynes_audit.analyzers.errors import JaynesError

LARGEST_TOKENIZER = 64_000_000  # bytes; the largest in use, with 262,144 tokens and their merges, have 35 million
MOST_ROWS = 1 << 24  # of an embedding table; sixteen times the largest vocabulary in use

TEXT_ENCODER, TOKENIZER = "text_encoder", "tokenizer"
"""Folders of a pipeline: the tokenizer of `text_encoder_2` is in `tokenizer_2`."""

# Tokens that stand for no text, where the file does not say so itself: their rows are hardly trained, if at all.
SPECIAL = re.compile(
    r"\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS|unused_?\d+)\]|</?s>|<(?:pad|unk|mask|bos|eos|mask_\d+|unused_?\d+)>"
    r"|<extra_id_\d+>|<\|?(?:[a-z_]*reserved[a-z_]*_?\d+|endoftext|startoftext)\|?>|madeupword\d+"
)
BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")  # how SentencePiece spells a byte that is no character
SENTENCEPIECE_SPACE = "▁"
GPT2_SPACE = "Ġ"
BYTE_LEVEL = b'"ByteLevel"'
CONTINUES = "##"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The tokens that the file `file` lists, but for special ones, each with its row in the embedding table.

    The keys of `rows` are the bytes of the text that a token stands for, with the space before it where it begins a
    word. No row is negative; whether the table has so many, and whether two tokens share one, nobody has checked.
    """

    file: str
    rows: Mapping[bytes, int]


@dataclass(frozen=True, slots=True)
class NoVocabulary:
    """Why the tokens of a model are not known, in a few words."""

    reason: str


def vocabulary_beside(weights: Place) -> Vocabulary | NoVocabulary:
    """Read the tokens of the model whose weights are in this file, from the tokenizer's files beside it.

    Nothing is raised: what cannot be read or understood is a model whose tokens are not known.
    """
    for folder in _folders(weights):
        for name, tokens_in in _READERS.items():
            if not is_absent(folder / name):
                return _read(folder / name, tokens_in)
    return NoVocabulary(f"none of {', '.join(_READERS)} is beside its weights")


def _folders(weights: Place) -> Iterator[Place]:
    folder = weights.parent
    yield folder
    if folder.name.startswith(TEXT_ENCODER):
        yield folder.parent / folder.name.replace(TEXT_ENCODER, TOKENIZER, 1)


def _read(path: Place, tokens_in: Callable[[bytes], Mapping[bytes, int]]) -> Vocabulary | NoVocabulary:
    try:
        with opened(path) as (stream, size):
            if size > LARGEST_TOKENIZER:
                return NoVocabulary(f"its {path.name} has more than {LARGEST_TOKENIZER:,} bytes")
            content = stream.read(size)
    except JaynesError as error:
        return NoVocabulary(f"its {path.name} could not be read ({error})")
    try:
        return Vocabulary(file=path.name, rows=tokens_in(content))
    except msgspec.DecodeError as error:
        return NoVocabulary(f"its {path.name} lists no tokens that could be read ({_in_a_line(error)})")
    except (UnicodeDecodeError, RecursionError):
        return NoVocabulary(f"its {path.name} is not UTF-8, or nests without end")


def _in_a_line(error: Exception) -> str:
    return quoted(str(error))[1:-1]


# ---- the files


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _Model(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[str, float]]
    type: str | None = None
    continuing_subword_prefix: str | None = None


class _TokenizerFile(msgspec.Struct):
    """What is wanted of a tokenizer.json. The rest, half of which are merges, is passed over and never built."""

    model: _Model
    added_tokens: list[_AddedToken] | None = None
    pre_tokenizer: msgspec.Raw = msgspec.Raw(b"null")
    decoder: msgspec.Raw = msgspec.Raw(b"null")


def tokenizer_tokens(content: bytes) -> dict[bytes, int]:
    """The tokens in a tokenizer.json, whose model is BPE, WordPiece, Unigram or WordLevel.

    Raises what `msgspec.json.decode` raises, or UnicodeDecodeError, when that is not what it holds.
    """
    file = msgspec.json.decode(content, type=_TokenizerFile)
    model, added = file.model, file.added_tokens or []
    vocab = model.vocab
    listed: Iterable[tuple[str, int]] = (
        vocab.items() if isinstance(vocab, dict) else ((piece, row) for row, (piece, _) in enumerate(vocab))
    )
    if model.type == "WordPiece":
        prefix = CONTINUES if model.continuing_subword_prefix is None else model.continuing_subword_prefix
        spell = _of_words(prefix)
    elif model.type == "WordLevel":
        spell = _of_words("")
    elif BYTE_LEVEL in bytes(file.pre_tokenizer) or BYTE_LEVEL in bytes(file.decoder):
        spell = _of_bytes
    else:
        spell = _of_pieces
    apart = {token.id for token in added}  # what is added is spelt as it is, whatever the model's spelling
    plain = [(token.content, token.id) for token in added if not token.special]
    rows = _rows(((text, row) for text, row in listed if row not in apart), spell)
    return {**_rows(plain, _literal), **rows}


def _gpt2_tokens(content: bytes) -> dict[bytes, int]:
    vocabulary = msgspec.json.decode(content, type=dict[str, int])
    is_byte_level = any(text.startswith(GPT2_SPACE) for text in vocabulary)
    return _rows(vocabulary.items(), _of_bytes if is_byte_level else _of_pieces)


def _bert_tokens(content: bytes) -> dict[bytes, int]:
    lines = content.decode().split("\n")
    return _rows(((line.rstrip("\r"), row) for row, line in enumerate(lines)), _of_words(CONTINUES))


_READERS: dict[str, Callable[[bytes], Mapping[bytes, int]]] = {
    "tokenizer.json": tokenizer_tokens,
    "vocab.json": _gpt2_tokens,
    "vocab.txt": _bert_tokens,
}
"""Names of files that list tokens, the best first."""


def _rows(tokens: Iterable[tuple[str, int]], spell: Callable[[str], bytes]) -> dict[bytes, int]:
    """The rows by the text; of two tokens for one text the first counts."""
    rows: dict[bytes, int] = {}
    for text, row in tokens:
        if text and 0 <= row < MOST_ROWS and not SPECIAL.fullmatch(text):
            rows.setdefault(spell(text), row)
    return rows


# ---- what a token stands for


def _characters_of_bytes() -> dict[int, int]:
    """The byte that each of GPT-2's characters stands for: printable ones for themselves, then others from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {**{byte: byte for byte in printable}, **{256 + at: byte for at, byte in enumerate(rest)}}


_BYTES = _characters_of_bytes()


def _literal(text: str) -> bytes:
    return text.encode()


def _of_bytes(text: str) -> bytes:
    try:
        return text.translate(_BYTES).encode("latin-1")
    except UnicodeEncodeError:  # no characters of GPT-2's
        return text.encode()


def _of_pieces(text: str) -> bytes:
    if byte := BYTE.fullmatch(text):
        return bytes.fromhex(byte[1])
    return text.replace(SENTENCEPIECE_SPACE, " ").encode()


def _of_words(prefix: str) -> Callable[[str], bytes]:
    def spell(text: str) -> bytes:
        inside = bool(prefix) and text.startswith(prefix) and text != prefix
        return (text.removeprefix(prefix) if inside else f" {text}").encode()

    return spell
