"""PyTorch's files from before 1.6, damaged: their opcodes, and the storages behind them."""

import io
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.pytorch.legacy import read_pytorch_legacy
from tests.support.fuzzing import Fuzz, read_every_element
from tests.support.pytorch_files import FIXTURES, legacy, pickled, tensor
from tests.support.pytorch_hostile import hostile_files
from tests.support.pytorch_pickle_damages import PICKLE_DAMAGES

LARGEST_SEED = 6_000  # bytes; larger ones repeat what is in the smaller


def corpus() -> tuple[bytes, ...]:
    """All that torch writes, and all that is hostile."""
    written = [path.read_bytes() for path in sorted(FIXTURES.glob("*.legacy.pt"))]
    by_hand = [
        legacy(pickled({"a": tensor()})),
        legacy(pickled({"a": tensor(None, 1, (1, 2), (2, 1)), "b": tensor(), "c": [tensor(None, 0, (2,), (2,))]})),
    ]
    hostile = [each.content for each in hostile_files("canary") if not each.content.startswith(b"PK")]
    return tuple(content for content in (*written, *by_hand, *hostile) if len(content) < LARGEST_SEED)


def read(content: bytes) -> None:
    """Read the pickles, and then every element."""
    read_every_element(read_pytorch_legacy(io.BytesIO(content), Path("fuzzed"), len(content)), content)


FUZZ = Fuzz(corpus=corpus, read=read, damages=PICKLE_DAMAGES)
