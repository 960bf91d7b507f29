"""Thousands of damaged files: never laxer than safetensors, never an error but a refusal, never much memory.

JAYNES_FUZZ_ROUNDS sets how many; `python -m tests.support.safetensors_fuzz` runs longer and counts.
"""

import io
import os
import random
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.index import parse_index
from jaynes_audit.analyzers.checkpoints.safetensors_header import read_safetensors
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.safetensors_files import HOSTILE, safetensors
from tests.support.safetensors_fuzz import DAMAGES, STRICTER_CASES, Verdict, damaged_files, judge

ROUNDS = int(os.environ.get("JAYNES_FUZZ_ROUNDS", "3000"))
FAULTS = (Verdict.LAXER, Verdict.TOO_STRICT, Verdict.DIFFERENT)

# A JSON value may be two bytes long and an object in Python fifty; the file itself is held once, as bytes and as text.
LARGEST_FACTOR = 64
ALLOWANCE = 1_000_000

GREEDY: dict[str, bytes] = {
    "empty lists": b'{"a":[' + b"[]," * 100_000 + b"[]]}",
    "empty objects": b'{"a":[' + b"{}," * 100_000 + b"{}]}",
    "negative numbers": b'{"a":[' + b"-1," * 100_000 + b"-1]}",
    "fractions": b'{"a":[' + b".1,".replace(b".", b"1.") * 100_000 + b"0]}",
    "short strings": b'{"a":[' + b'"ab",' * 100_000 + b'"ab"]}',
    "wide characters": b'{"a":"' + "\U0001f600".encode() + b"x" * 300_000 + b'"}',
    "metadata of many keys": b'{"__metadata__":{' + b",".join(b'"%05x":""' % n for n in range(50_000)) + b"}}",
    "many numbers as tensors": b"{" + b",".join(b'"%05x":0' % n for n in range(50_000)) + b"}",
    "one repeated key": b"{" + b'"a":0,' * 100_000 + b'"a":0}',
    "digits": b'{"a":' + b"9" * 500_000 + b"}",
    "spaces": b"{}" + b" " * 500_000,
    "open brackets": b'{"a":' + b"[" * 500_000,
    "open objects": b'{"a":' * 100_000,
}


def test_no_damaged_file_is_read_where_safetensors_refuses_it() -> None:
    verdicts: Counter[Verdict] = Counter()
    for content in damaged_files(seed=20_260, rounds=ROUNDS):
        judgement = judge(content)
        assert judgement.verdict not in FAULTS, (judgement, content)
        verdicts[judgement.verdict] += 1
    assert verdicts[Verdict.BOTH_ACCEPT] > ROUNDS / 20, "the damage leaves too few files sound to compare their tensors"


def test_the_kinds_on_which_we_are_stricter_are_the_documented_ones() -> None:
    assert sorted(STRICTER_CASES) == [
        "duplicate-metadata-key",
        "duplicate-tensor",
        "duplicate-tensor-escaped",
        "header-leading-space",
        "not-an-object",
        "rank-too-large",
        "unknown-field",
        "whitespace-padding",
    ]


def test_a_damaged_index_is_read_or_refused_and_nothing_else() -> None:
    sound = b'{"metadata":{"total_size":16},"weight_map":{"a":"m-1-of-2.safetensors","b":"m-2-of-2.safetensors"}}'
    dice = random.Random(20_262)  # noqa: S311  # for variety, not for secrecy
    for _ in range(ROUNDS):
        content = bytearray(sound)
        for damage in dice.choices(DAMAGES, k=2):
            if content:
                damage(content, dice)
        with suppress(RefusedFile):
            index = parse_index(bytes(content))
            assert all(Path(shard).name == shard for shard in index.shards)


def peak_of_reading(content: bytes) -> int:
    """The most bytes that reading a file held at once."""
    stream = io.BytesIO(content)
    tracemalloc.start()
    try:
        with suppress(RefusedFile):
            read_safetensors(stream, Path("greedy"), len(content))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", GREEDY.values(), ids=GREEDY.keys())
def test_a_greedy_header_takes_memory_in_proportion_to_its_length(header: bytes) -> None:
    content = safetensors(header)
    assert peak_of_reading(content) < LARGEST_FACTOR * len(content) + ALLOWANCE


def test_a_damaged_file_takes_memory_in_proportion_to_its_length() -> None:
    for content in (*damaged_files(seed=20_261, rounds=300), *(each.content for each in HOSTILE)):
        assert peak_of_reading(content) < LARGEST_FACTOR * len(content) + ALLOWANCE
