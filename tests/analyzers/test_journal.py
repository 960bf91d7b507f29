"""What an audit has finished outlives its process, to the last bit, and no damage to the file does any other harm."""

import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers import journal as journal_module
from jaynes_audit.analyzers.anatomy import Anatomy, anatomy
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import rank
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.journal import Journal, journal_path
from jaynes_audit.analyzers.sketch import extent as extent_module
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.sketch.grid import Grid, grid_of
from jaynes_audit.analyzers.sketch.histogram import Histogram
from jaynes_audit.analyzers.sketch.sketch import BlockCounts, Sketch, sketch
from tests.support.strategies import bf16_matrices
from tests.support.weights import REAL, chunked, encoded, extent_of, sketch_of

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds
DAY = 24 * 3600
KEY = "model.safetensors sha256:0123, up_proj.weight, rows 0 to 64"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "an.journal"


def bits(value: object) -> object:
    """All there is to a value, with arrays as their format, shape and bytes; equal for none that differ in a bit."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Grid):
        return id(value)  # one object for each grid: the families are compared on layers of one grid together
    if is_dataclass(value):
        return type(value), [bits(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, float):
        return value.hex()
    return type(value), value


def weights(rows: int, columns: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)) * 0.02


def special(rows: int, columns: int, *, seed: int = 0) -> np.ndarray:
    """Weights among zeros of both signs, NaNs, infinities and numbers that no format reaches."""
    rng = np.random.default_rng(seed)
    planted = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 3.4e38, 65504])
    return np.where(rng.random((rows, columns)) < 0.3, rng.choice(planted, (rows, columns)), weights(rows, columns))


def tiny(number: int) -> Sketch:
    """One of many small sketches that all differ."""
    return sketch_of(encoded(weights(3, 2, seed=number), Dtype.BF16), Dtype.BF16)


def dissected(values: np.ndarray, dtype: Dtype = Dtype.BF16) -> Anatomy | NotFitted:
    codes = encoded(values, dtype)
    extent = extent_of(codes, dtype)
    return anatomy(lambda: chunked(codes, extent), extent)


def restored(path: Path, kept: Sketch) -> Sketch | None:
    """What another process would find."""
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, kept)
        assert journal.failure == ""
    with Journal.at(path) as journal:
        assert journal.failure == ""
        return journal.sketch(KEY)


def restored_anatomy(path: Path, kept: Anatomy | NotFitted) -> Anatomy | NotFitted | None:
    with Journal.at(path) as journal:
        journal.keep_anatomy(KEY, kept)
    with Journal.at(path) as journal:
        return journal.anatomy(KEY)


# ---- sketches


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (5, 3), (200, 170)])
@pytest.mark.parametrize("dtype", REAL)
def test_a_sketch_of_any_format_comes_back_to_the_bit(
    path: Path, dtype: Dtype, shape: tuple[int, int], *, scaled: bool
) -> None:
    for values in (weights(*shape), special(*shape)):
        kept = sketch_of(encoded(values, dtype), dtype, scaled=scaled)
        assert bits(restored(path, kept)) == bits(kept)


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16, Dtype.F32, Dtype.F64, Dtype.F8_E4M3])
def test_pieces_of_a_layer_come_back_and_make_the_same_whole(
    path: Path, dtype: Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 1 << 14)
    codes = encoded(special(1100, 200), dtype)
    extent = extent_of(codes, dtype)
    height = 3 * extent.chunk_rows
    pieces = [
        sketch(chunked(codes, extent, first_row=row, stop_row=min(row + height, 1100)), extent, first_row=row)
        for row in range(0, 1100, height)
    ]
    assert len(pieces) > 3
    with Journal.at(path) as journal:
        for number, piece in enumerate(pieces):
            journal.keep_sketch(f"{KEY} {number}", piece)
    with Journal.at(path) as journal:
        found = [journal.sketch(f"{KEY} {number}") for number in range(len(pieces))]
    assert [bits(each) for each in found] == [bits(each) for each in pieces]
    assert bits(reduce(add, found)) == bits(reduce(add, pieces))
    assert bits(restored(path, reduce(add, pieces))) == bits(reduce(add, pieces))


def test_a_sketch_of_nothing_comes_back(path: Path) -> None:
    for shape in [(0, 5), (3, 0), (4, 4)]:
        kept = Sketch.empty(Extent(rows=shape[0], columns=shape[1], dtype=Dtype.F32, scaled=True))
        assert bits(restored(path, kept)) == bits(kept)


@given(codes=bf16_matrices(st.integers(1, 40), st.integers(1, 40)), scaled=st.booleans())
def test_whatever_bit_patterns_a_layer_has_its_sketch_comes_back(
    tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray, *, scaled: bool
) -> None:
    kept = sketch_of(codes, Dtype.BF16, scaled=scaled)
    assert bits(restored(tmp_path_factory.mktemp("journal") / "a.journal", kept)) == bits(kept)


COUNTS = st.integers(1, 300) | st.sampled_from([2**8, 2**16, 2**32, 2**48]).flatmap(
    lambda most: st.integers(most - 2, most + 2)
)


@settings(max_examples=25)
@given(data=st.data())
def test_tallies_of_any_size_and_codes_at_any_distance_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    def counts() -> tuple[np.ndarray, np.ndarray]:
        tallies = data.draw(st.dictionaries(st.integers(0, 65535), COUNTS, max_size=30))
        return np.array(sorted(tallies), np.uint16), np.array([tallies[code] for code in sorted(tallies)], np.int64)

    blocks = [counts() for _ in range(16)]
    codes, tallies = counts()
    kept = replace(
        Sketch.empty(Extent(rows=1 << 40, columns=1 << 20, dtype=Dtype.F32, scaled=False)),
        counts=BlockCounts(
            codes=np.concatenate([codes for codes, _ in blocks]),
            tallies=np.concatenate([tallies for _, tallies in blocks]),
            ends=np.cumsum([codes.size for codes, _ in blocks]),
        ),
        histogram=Histogram(dtype=Dtype.F32, low_bits=data.draw(st.integers(0, 65535)), codes=codes, tallies=tallies),
        largest_bits=data.draw(st.integers(0, 2**32 - 1)),
        at_largest_float=data.draw(COUNTS),
        content=data.draw(st.integers(0, 2**128 - 1)),
        code_tallies=np.array(data.draw(st.lists(COUNTS | st.just(0), max_size=256)), np.int64),
    )
    assert bits(restored(tmp_path_factory.mktemp("journal") / "a.journal", kept)) == bits(kept)


def test_a_large_gaussian_layer_takes_a_two_hundredth_of_its_bytes(path: Path) -> None:
    codes = encoded(np.random.default_rng(0).standard_normal((4096, 4096), np.float32), Dtype.BF16)
    kept = sketch_of(codes, Dtype.BF16)
    assert bits(restored(path, kept)) == bits(kept)
    assert path.stat().st_size < codes.nbytes / 200


# ---- anatomies


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32, Dtype.F64, Dtype.F8_E4M3])
def test_an_anatomy_comes_back_to_the_bit_and_ranks_alike(path: Path, dtype: Dtype) -> None:
    kept = dissected(special(150, 200) if dtype is not Dtype.F8_E4M3 else weights(150, 200) * 50, dtype)
    assert isinstance(kept, Anatomy)
    found = restored_anatomy(path, kept)
    assert isinstance(found, Anatomy)
    assert bits(found) == bits(kept)
    others = [dissected(weights(90, 80, seed=seed)).residual_magnitudes for seed in range(3)]
    assert rank([found.residual_magnitudes, *others]) == rank([kept.residual_magnitudes, *others])


@pytest.mark.parametrize("used_low_bits", range(17))
def test_a_residual_comes_back_on_the_grid_it_was_counted_on(path: Path, used_low_bits: int) -> None:
    kept = dissected(weights(30, 40))
    grid = grid_of(Dtype.F32, (1 << 16) - (1 << (16 - used_low_bits)))
    magnitudes = replace(kept.residual_magnitudes, grid=grid)
    found = restored_anatomy(path, replace(kept, residual_magnitudes=magnitudes))
    assert isinstance(found, Anatomy)
    assert found.residual_magnitudes.grid is grid
    assert rank([found.residual_magnitudes]) == rank([magnitudes])


def test_an_anatomy_without_its_magnitudes_comes_back_without_them(path: Path) -> None:
    kept = dissected(weights(30, 40)).without_magnitudes()
    assert bits(restored_anatomy(path, kept)) == bits(kept)


def test_numbers_that_are_none_come_back_too(path: Path) -> None:
    kept = dissected(weights(30, 40))
    nothing = replace(kept.row_residual, skewness=float("nan"), excess_kurtosis=float("-inf"), log_mean=-0.0)
    kept = replace(kept, row_residual=nothing, row_log_variance=0.0)
    assert bits(restored_anatomy(path, kept)) == bits(kept)


@pytest.mark.parametrize("reason", ["", "every weight is zero or not finite", "Ü \ud800 \0"])
def test_why_there_is_no_anatomy_comes_back(path: Path, reason: str) -> None:
    assert restored_anatomy(path, NotFitted(reason)) == NotFitted(reason)


# ---- keys


def test_a_sketch_and_an_anatomy_may_have_one_key(path: Path) -> None:
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
        assert journal.anatomy(KEY) is None
        journal.keep_anatomy(KEY, NotFitted("too small"))
        assert bits(journal.sketch(KEY)) == bits(tiny(1))
        assert journal.anatomy(KEY) == NotFitted("too small")


def test_keys_of_any_length_are_told_apart(path: Path) -> None:
    keys = ["", "a", "b", "a" * 100_000, "a" * 100_001, "\ud800", "\0"]
    with Journal.at(path) as journal:
        for number, key in enumerate(keys):
            journal.keep_sketch(key, tiny(number))
    with Journal.at(path) as journal:
        assert [bits(journal.sketch(key)) for key in keys] == [bits(tiny(number)) for number in range(len(keys))]
        assert journal.sketch("c") is None


def test_what_was_kept_last_under_a_key_counts(path: Path) -> None:
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
        journal.keep_sketch(KEY, tiny(2))
        assert bits(journal.sketch(KEY)) == bits(tiny(2))
    with Journal.at(path) as journal:
        assert bits(journal.sketch(KEY)) == bits(tiny(2))


def test_the_path_lies_in_the_users_cache_whatever_is_audited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths = {journal_path(identity) for identity in ["", "a", "../../etc/passwd", "\0", "\ud800", "a" * 10_000]}
    assert len(paths) == 6
    if sys.platform == "linux":
        assert {path.parent for path in paths} == {tmp_path / "jaynes-audit" / "journals"}
    assert {path.suffix for path in paths} == {".journal"}


# ---- kills and damage

KEEP_FOR_EVER = """
import sys
from pathlib import Path
from jaynes_audit.analyzers.journal import Journal
from tests.analyzers.test_journal import numbered

with Journal.at(Path(sys.argv[1])) as journal:
    for number in range(int(sys.argv[2]), 1_000_000):
        journal.keep_sketch(str(number), numbered(number))
        print(number, flush=True)
"""


def numbered(number: int) -> Sketch:
    """A sketch of two megabytes, so that a kill often meets a write."""
    extent = Extent(rows=200_000, columns=60_000, dtype=Dtype.BF16, scaled=True)
    rng = np.random.default_rng(number)
    return replace(
        tiny(number),
        extent=extent,
        counts=Sketch.empty(extent).counts,
        row_squares=rng.random(extent.rows),
        column_squares=rng.random(extent.columns),
    )


def in_another_process(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_a_killed_process_loses_nothing_that_it_had_kept(path: Path) -> None:
    rng = random.Random(0)  # noqa: S311 - moments, not secrets
    kept = 0
    for _ in range(3):
        with in_another_process(KEEP_FOR_EVER, path, kept) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().splitlines()
        kept = int(said[-1]) + 1 if said else kept + 1
        with Journal.at(path) as journal:
            assert journal.failure == ""
            assert all(journal.sketch(str(number)) for number in range(kept))
            # One may have been kept and not yet told; none is there in part.
            kept += journal.sketch(str(kept)) is not None
            assert journal.sketch(str(kept + 1)) is None
    assert kept > 3
    with Journal.at(path) as journal:
        assert all(bits(journal.sketch(str(number))) == bits(numbered(number)) for number in range(kept))


@pytest.fixture
def two(path: Path) -> tuple[bytes, list[int]]:
    """A journal of two entries, and where each ends."""
    ends = []
    with Journal.at(path) as journal:
        for number in range(2):
            journal.keep_sketch(str(number), tiny(number))
            ends.append(path.stat().st_size)
    return path.read_bytes(), ends


def sound_entries(path: Path, *, expected: int) -> None:
    """The first entries are there to the bit, the others are not, and the journal can be written to again."""
    with Journal.at(path) as journal:
        assert journal.failure == ""
        found = [journal.sketch(str(number)) for number in range(2)]
        assert [each is not None for each in found] == [number < expected for number in range(2)]
        assert all(bits(found[number]) == bits(tiny(number)) for number in range(expected))
        journal.keep_sketch("another", tiny(9))
    with Journal.at(path) as journal:
        assert bits(journal.sketch("another")) == bits(tiny(9))
        assert sum(journal.sketch(str(number)) is not None for number in range(2)) == expected


def test_a_journal_cut_anywhere_keeps_the_entries_before(path: Path, two: tuple[bytes, list[int]]) -> None:
    whole, ends = two
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        sound_entries(path, expected=sum(end <= length for end in ends))


def test_a_damaged_byte_costs_the_entries_from_there_on_and_no_other(path: Path, two: tuple[bytes, list[int]]) -> None:
    whole, ends = two
    start = len(journal_module._header())
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        sound_entries(path, expected=sum(end <= at for end in ends) if at >= start else 0)


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 4096, b"\xff" * 4096, b"{}"])
def test_what_follows_the_last_entry_is_cut_off(path: Path, two: tuple[bytes, list[int]], tail: bytes) -> None:
    path.write_bytes(two[0] + tail)
    with Journal.at(path):
        assert path.read_bytes() == two[0]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\x03\x04" * 100, b"JNjournl"])
def test_a_foreign_file_is_begun_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
    with Journal.at(path) as journal:
        assert bits(journal.sketch(KEY)) == bits(tiny(1))


def test_damage_behind_an_open_journal_is_seen(path: Path) -> None:
    with Journal.at(path) as journal:
        for number in range(3):
            journal.keep_sketch(str(number), tiny(number))
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert journal.sketch("2") is None
        path.write_bytes(content[:50])
        assert [journal.sketch(str(number)) for number in range(3)] == [None, None, None]


# ---- payloads with a right checksum and a wrong content

HOSTILE_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


def sound_payloads() -> list[tuple[bytes, bytes]]:
    """Kinds and payloads that parse."""
    sketches = [
        *(sketch_of(encoded(special(20, 30), dtype), dtype) for dtype in (Dtype.BF16, Dtype.F64)),
        replace(tiny(0), code_tallies=np.arange(16)),
        Sketch.empty(Extent(rows=70, columns=1, dtype=Dtype.F16, scaled=False)),
    ]
    anatomies = [dissected(weights(20, 30)), NotFitted("too small")]
    return [
        *((journal_module.SKETCH, journal_module._bytes_of_sketch(each)) for each in sketches),
        *((journal_module.ANATOMY, journal_module._bytes_of_anatomy(each)) for each in anatomies),
    ]


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """Change one to three things: bits, a number of the head, the length, or the packed numbers themselves."""
    changed = bytearray(payload)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at:] = b""
            case 2:
                changed[at:at] = rng.randbytes(rng.randint(1, 20))
            case 3:
                width = rng.choice([1, 2, 4, 8])
                at = rng.randrange(120)
                number = rng.choice(HOSTILE_NUMBERS) % (1 << 8 * width)
                changed[at : at + width] = number.to_bytes(width, "little")
            case 4:
                del changed[at : at + rng.randint(1, 8)]
            case _:
                head = min(len(changed), rng.choice([journal_module.SKETCH_HEAD.size, 98, 130]))
                numbers = [rng.choice([0, 1, 2, rng.randrange(70_000), 2**63 - 1]) for _ in range(rng.randrange(60))]
                changed[head:] = journal_module._packed(np.array(numbers, np.int64))
    return bytes(changed)


def used(found: Sketch | Anatomy | NotFitted | None) -> None:
    """Do with what was restored what an audit does."""
    if isinstance(found, Sketch):
        assert found.histogram.special.weights <= found.extent.weights
        _ = found + found, found.histogram.magnitudes, found.largest, found.max_finite
        _ = [found.counts.of_block(block) for block in range(found.counts.ends.size)]
    elif isinstance(found, Anatomy) and found.residual_magnitudes.codes.size:
        _ = found.residual_magnitudes.weights, found.residual_magnitudes.grid.value[found.residual_magnitudes.codes]


def restore_mutated(path: Path, *, inputs: int, seed: int) -> int:
    """Restore so many mutated payloads, each under a right checksum; say how many were taken for sound."""
    rng = random.Random(seed)  # noqa: S311 - mutations, not secrets
    payloads = sound_payloads()
    sound = 0
    with Journal.at(path) as journal:
        for number in range(inputs):
            kind, payload = rng.choice(payloads)
            entry = journal_module._entry(kind, KEY)
            if number % 1000 == 999:  # so that the file stays small
                os.ftruncate(journal._descriptor, 0)
            journal._keep(entry, mutated(payload, rng))
            found = journal.sketch(KEY) if kind == journal_module.SKETCH else journal.anatomy(KEY)
            used(found)
            sound += found is not None
    return sound


def test_payloads_that_make_no_sense_are_absent_and_never_raise(path: Path) -> None:
    assert 0 < restore_mutated(path, inputs=3000, seed=1) < 2000


def test_no_payload_takes_memory_beyond_its_own_size(path: Path) -> None:
    tracemalloc.start()
    try:
        restore_mutated(path, inputs=1000, seed=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # An axis of 2**22 rows has sums of 32 MiB, whatever is kept of them; there are two, and twice that in a sum.
    assert peak < 300 << 20


def test_a_record_that_claims_to_be_huge_is_not_read(path: Path) -> None:
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
    content = bytearray(path.read_bytes())
    at = content.index(journal_module._entry(journal_module.SKETCH, KEY)) + 17
    content[at : at + 4] = b"\xff" * 4
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with Journal.at(path) as journal:
            assert journal.sketch(KEY) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


# ---- versions


@pytest.mark.parametrize(
    ("name", "value"), [("SKETCH_VERSION", 10**6), ("FORMAT_VERSION", 10**6), ("KERNEL_NAME", "another")]
)
def test_a_journal_of_another_version_is_begun_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
    with monkeypatch.context() as patched:
        patched.setattr(journal_module, name, value)
        with Journal.at(path) as journal:
            assert journal.sketch(KEY) is None
            journal.keep_sketch(KEY, tiny(2))
        with Journal.at(path) as journal:
            assert bits(journal.sketch(KEY)) == bits(tiny(2))
    with Journal.at(path) as journal:
        assert journal.sketch(KEY) is None


def test_a_journal_of_another_release_is_begun_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
    monkeypatch.setattr(journal_module, "version", lambda _: "999.0")
    with Journal.at(path) as journal:
        assert journal.sketch(KEY) is None


# ---- one journal, several who want it

HOLD = """
import sys
from pathlib import Path
from jaynes_audit.analyzers.journal import Journal
from tests.analyzers.test_journal import tiny

with Journal.at(Path(sys.argv[1])) as journal:
    journal.keep_sketch("theirs", tiny(1))
    print(repr(journal.failure), flush=True)
    sys.stdin.readline()
    journal.keep_sketch("also theirs", tiny(2))
"""


def test_a_journal_belongs_to_one_process_at_a_time(path: Path) -> None:
    with in_another_process(HOLD, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "''\n"
        with Journal.at(path) as journal:
            assert "another process" in journal.failure
            assert str(path) in journal.failure
            journal.keep_sketch("mine", tiny(3))
            assert journal.sketch("mine") is None
            assert journal.sketch("theirs") is None
            journal.finished()
        process.communicate("\n", timeout=PATIENCE)
    with Journal.at(path) as journal:
        assert journal.failure == ""
        assert bits(journal.sketch("theirs")) == bits(tiny(1))
        assert bits(journal.sketch("also theirs")) == bits(tiny(2))
        assert journal.sketch("mine") is None


def test_threads_may_keep_and_restore_at_once(path: Path) -> None:
    def keep(number: int) -> bool:
        journal.keep_sketch(str(number), tiny(number))
        journal.keep_anatomy(str(number), NotFitted(str(number)))
        return bits(journal.sketch(str(number))) == bits(tiny(number))

    with Journal.at(path) as journal, ThreadPoolExecutor(8) as executor:
        assert all(executor.map(keep, range(300)))
    with Journal.at(path) as journal:
        assert all(bits(journal.sketch(str(number))) == bits(tiny(number)) for number in range(300))
        assert all(journal.anatomy(str(number)) == NotFitted(str(number)) for number in range(300))


def test_memory_holds_no_payload(path: Path) -> None:
    kept = sketch_of(encoded(weights(64, 64), Dtype.BF16), Dtype.BF16)
    with Journal.at(path) as journal:
        tracemalloc.start()
        try:
            for number in range(2000):
                journal.keep_sketch(str(number), kept)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held / 2000 < 250
    assert path.stat().st_size > 2000 * 1000


# ---- the end


def test_a_finished_audit_leaves_no_file(path: Path) -> None:
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
        journal.finished()
        assert not path.exists()
    with Journal.at(path) as journal:
        assert journal.sketch(KEY) is None


def test_a_journal_that_was_removed_is_not_confused_with_the_next_one(path: Path) -> None:
    with Journal.at(path) as first:
        first.finished()
        with Journal.at(path) as second:
            assert second.failure == ""
            second.keep_sketch(KEY, tiny(2))
            first.keep_sketch(KEY, tiny(1))
            first.finished()
            assert path.exists()
            assert bits(second.sketch(KEY)) == bits(tiny(2))


def test_an_audit_that_was_interrupted_leaves_its_file(path: Path) -> None:
    def interrupted() -> None:
        with Journal.at(path) as journal:
            journal.keep_sketch(KEY, tiny(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Journal.at(path) as journal:
        assert bits(journal.sketch(KEY)) == bits(tiny(1))


def test_a_closed_journal_keeps_and_gives_nothing(path: Path) -> None:
    with Journal.at(path) as journal:
        journal.keep_sketch(KEY, tiny(1))
    assert journal.sketch(KEY) is None
    journal.keep_sketch(KEY, tiny(2))
    assert journal.failure
    journal.finished()
    assert path.exists()


def test_journals_that_nobody_came_back_to_are_removed(path: Path) -> None:
    path.parent.mkdir()
    age = {"old": 31, "young": 29, "held": 31, "own": 31}
    paths = {name: path.with_name(f"{name}.journal") for name in age}
    other = path.with_name("old.txt")
    for each in (*paths.values(), other):
        with Journal.at(each) as journal:
            journal.keep_sketch(KEY, tiny(1))
    with Journal.at(paths["held"]) as held:
        for name, days in age.items():
            os.utime(paths[name], (time.time() - days * DAY,) * 2)
        os.utime(other, (0, 0))
        with Journal.at(paths["own"]) as own:
            assert [name for name in age if paths[name].exists()] == ["young", "held", "own"]
            assert other.exists()
            assert bits(own.sketch(KEY)) == bits(held.sketch(KEY)) == bits(tiny(1))


# ---- machines that say no

FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from jaynes_audit.analyzers.journal import Journal
from tests.analyzers.test_journal import tiny

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
with Journal.at(Path(sys.argv[1])) as journal:
    for number in range(100):
        journal.keep_sketch(str(number), tiny(number))
        assert journal.sketch(str(number)) is not None or journal.failure
    print(repr(journal.failure))
    print(sum(journal.sketch(str(number)) is not None for number in range(100)))
"""


@pytest.mark.parametrize("most_bytes", [3001, 10])
def test_a_full_disk_ends_the_journal_and_not_the_audit(path: Path, most_bytes: int) -> None:
    with in_another_process(FILL_THE_DISK, path, most_bytes) as process:
        printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    failure, kept = printed.splitlines()
    assert "could not be resumed" in failure
    assert str(path) in failure
    assert int(kept) > 5 or most_bytes == 10
    with Journal.at(path) as journal:
        assert journal.failure == ""
        found = [journal.sketch(str(number)) for number in range(100)]
    assert [each is not None for each in found] == [number < int(kept) for number in range(100)]
    assert all(bits(found[number]) == bits(tiny(number)) for number in range(int(kept)))


def impossible_paths(folder: Path) -> Iterator[Path]:
    (folder / "file").write_bytes(b"")
    (folder / "folder.journal").mkdir()
    os.mkfifo(folder / "pipe.journal")
    (folder / "loop.journal").symlink_to(folder / "loop.journal")
    yield folder / "file" / "a.journal"
    yield folder / "folder.journal"
    yield folder / "pipe.journal"
    yield folder / "loop.journal"
    yield folder / ("a" * 300)
    yield Path("~no-such-user/a.journal")
    yield Path("/proc/journals/a.journal")  # which not even root can make


def test_where_no_file_can_be_written_the_audit_goes_on_without(tmp_path: Path) -> None:
    for path in impossible_paths(tmp_path):
        with Journal.at(path) as journal:
            assert "could not be resumed" in journal.failure, path
            assert "\n" not in journal.failure
            journal.keep_sketch(KEY, tiny(1))
            journal.keep_anatomy(KEY, NotFitted("too small"))
            assert journal.sketch(KEY) is None
            assert journal.anatomy(KEY) is None
            journal.finished()
