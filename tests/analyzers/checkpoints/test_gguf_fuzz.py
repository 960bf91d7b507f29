"""Thousands of damaged GGUF files: never an error but a refusal, never much memory, and what is read is in the file.

JAYNES_FUZZ_ROUNDS sets how many; `python -m tests.support.fuzzing gguf` runs longer.
"""

import io
import os
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.gguf_file import read_gguf
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import survive
from tests.support.gguf_files import TEXT, U8, entry, gguf, items, number, packed
from tests.support.gguf_fuzz import FUZZ

ROUNDS = int(os.environ.get("JAYNES_FUZZ_ROUNDS", "3000"))

# A tensor's entry may be 24 bytes long and what stands for it in Python some hundred; the header is held in pieces.
LARGEST_FACTOR = 64
ALLOWANCE = 4_000_000

GREEDY: dict[str, bytes] = {
    "many keys": gguf(metadata=[(f"{at:x}", number(U8, 1)) for at in range(5_000)]),
    "many tensors": gguf(*(entry(f"{at:x}", [0]) for at in range(5_000))),
    "many empty texts": gguf(metadata=[("a", items(TEXT, 50_000, bytes(8 * 50_000)))]),
    "many empty lists": gguf(metadata=[("a", items(9, 20_000, packed("IQ", 0, 0) * 20_000))]),
    "more tensors promised than there are": gguf(counts=(1 << 18, 0)),
    "a long text promised": gguf(metadata=[("a", packed("IQ", TEXT, 1 << 26))], data=bytes(1 << 16)),
    "a huge tensor promised": gguf(entry("a", [1 << 40], 8), data=bytes(1 << 10)),
}


def test_every_damaged_file_is_read_or_refused() -> None:
    ends, faults = survive(FUZZ, inputs=ROUNDS, seed=20_261)
    assert faults == []
    assert ends["accepted"] > ROUNDS / 20, "the damage leaves too few files sound to read their blocks"
    assert len(ends) > 15, "the damage does not reach the refusals"


@pytest.mark.parametrize("content", GREEDY.values(), ids=GREEDY.keys())
def test_a_greedy_header_takes_memory_in_proportion_to_its_length(content: bytes) -> None:
    stream = io.BytesIO(content)
    tracemalloc.start()
    try:
        with suppress(RefusedFile):
            read_gguf(stream, Path("greedy"), len(content))
        assert tracemalloc.get_traced_memory()[1] < LARGEST_FACTOR * len(content) + ALLOWANCE
    finally:
        tracemalloc.stop()
