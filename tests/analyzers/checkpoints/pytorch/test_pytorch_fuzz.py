"""Thousands of damaged PyTorch files: each is read or refused, in bounded time and memory.

`python -m tests.support.fuzzing pytorch_zip --inputs 1000000` runs longer, and so on for each of the three.
"""

import io
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.pytorch import machine
from jaynes_audit.analyzers.checkpoints.pytorch.machine import unpickle
from jaynes_audit.analyzers.checkpoints.pytorch.zip_file import read_pytorch_zip
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support import pytorch_distributed_fuzz, pytorch_legacy_fuzz, pytorch_zip_fuzz
from tests.support.fuzzing import Fuzz, survive
from tests.support.pytorch_files import call, checkpoint, pickled, storage, tensor

READERS = {
    "zip": (pytorch_zip_fuzz.FUZZ, 1_200),
    "legacy": (pytorch_legacy_fuzz.FUZZ, 2_000),
    "distributed": (pytorch_distributed_fuzz.FUZZ, 300),
}

# An opcode may be one byte, and the object that it makes a hundred; a dict has room to spare.
LARGEST_FACTOR = 200
ALLOWANCE = 2_000_000

MANY = 5_000
MAKE = b"ctorch._utils\n_rebuild_tensor_v2\n"

GREEDY: dict[str, bytes] = {
    "lists": pickled(b"](" + b"]" * MANY + b"e"),
    "sets": pickled(b"](" + b"\x8f" * MANY + b"e"),
    "dicts": pickled(b"](" + b"}" * MANY + b"e"),
    "marks": b"\x80\x02" + b"(" * MANY + b".",
    "memo": b"\x80\x02N" + b"\x94" * MANY + b".",
    "memo far apart": b"\x80\x02N" + b"".join(b"r" + (n << 15).to_bytes(4, "little") for n in range(MANY)) + b".",
    "records": pickled(b"](cargparse\nNamespace\nq\x00)R" + b"h\x00)R" * MANY + b"e"),
    "unknown globals": pickled(b"](" + b"".join(b"ca\n%x\n" % n for n in range(MANY)) + b"e"),
    "one list as arguments of many": pickled(
        b"](](" + b"N" * MANY + b"e\x85q\x00cargparse\nNamespace\nq\x01h\x00R" + b"h\x01h\x00R" * MANY + b"e"
    ),
    "one list of pairs in many dicts": pickled(
        b"](](" + b"NN\x86" * MANY + b"e\x85q\x00ccollections\nOrderedDict\nq\x01h\x00R" + b"h\x01h\x00R" * MANY + b"e"
    ),
    "empty lists far inside": pickled(b"](" * 190 + b"]" * MANY + b"e" * 190),
    "one tensor under many names": pickled(b"](" + tensor() + b"q\x00" + b"h\x00" * MANY + b"e"),
    "one view made many times": pickled(
        b"](" + MAKE + b"q\x01" + storage() + b"q\x000(h\x00K\x00(K\x04t(K\x01ttq\x02R" + b"h\x01h\x02R" * MANY + b"e"
    ),
    "one storage in different ways": pickled(
        [call("torch._utils", "_rebuild_tensor_v2", storage(), n % 3, (1,), (n,)) for n in range(MANY // 10)]
    ),
}


@pytest.mark.parametrize(("fuzz", "inputs"), READERS.values(), ids=READERS.keys())
def test_no_damaged_file_is_a_fault(fuzz: Fuzz, inputs: int) -> None:
    ends, faults = survive(fuzz, inputs=inputs, seed=20_260)
    assert not faults, faults[0].trace
    assert ends["accepted"] > inputs / 40, "the damage leaves too few files sound to read their tensors"


@pytest.mark.parametrize("opcodes", GREEDY.values(), ids=GREEDY.keys())
def test_a_greedy_pickle_takes_memory_in_proportion_to_its_length(opcodes: bytes) -> None:
    content = checkpoint(opcodes)
    tracemalloc.start()
    try:
        with suppress(RefusedFile):
            read_pytorch_zip(io.BytesIO(content), Path("greedy"), len(content))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LARGEST_FACTOR * len(content) + ALLOWANCE


@pytest.mark.parametrize(
    ("opcodes", "case"),
    [
        (GREEDY["records"], "too-many-objects"),
        (
            pickled(b"](ccollections\nOrderedDict\nq\x00)R" + b"h\x00)}N\x88s\x92" * MANY + b"e"),
            "too-many-objects",
        ),
        (GREEDY["one view made many times"], "too-many-objects"),
        (pickled(b"](" + storage()[:-1] + b"q\x00Q" + b"h\x00Q" * MANY + b"e"), "too-many-objects"),
        (GREEDY["memo"], "memo-too-large"),
        (GREEDY["memo far apart"], "memo-too-large"),
    ],
    ids=["records", "records with keywords", "views", "storages", "memo", "memo far apart"],
)
def test_more_objects_than_any_checkpoint_has_are_refused(
    opcodes: bytes, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO(opcodes)
    monkeypatch.setattr(machine, "MOST_OF_A_KIND", MANY + 1)
    monkeypatch.setattr(machine, "MOST_REMEMBERED", MANY + 1)
    unpickle(stream, len(opcodes))
    monkeypatch.setattr(machine, "MOST_OF_A_KIND", MANY - 1)
    monkeypatch.setattr(machine, "MOST_REMEMBERED", MANY - 1)
    with pytest.raises(RefusedFile) as refusal:
        unpickle(io.BytesIO(opcodes), len(opcodes))
    assert (refusal.value.rule, refusal.value.case) == ("JN020", case)


def test_the_limits_leave_room_for_half_a_million_tensors() -> None:
    assert machine.MOST_OF_A_KIND == 500_000
    assert machine.MOST_REMEMBERED == 8 * machine.MOST_OF_A_KIND


def test_a_storage_of_a_very_long_name_is_refused() -> None:
    opcodes = pickled(storage(key="0" * 256))
    with pytest.raises(RefusedFile) as refusal:
        unpickle(io.BytesIO(opcodes), len(opcodes))
    assert refusal.value.case == "odd-persistent-id"
