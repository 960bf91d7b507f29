"""The bytes of a file, by memory map or by reading: the same ones, and a plain word when they are gone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.windows import RELEASE_BYTES, Io, Sources, open_source
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile

EITHER_WAY = pytest.mark.parametrize("io", list(Io))
CONTENT = np.random.default_rng(1).bytes(300_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


@EITHER_WAY
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 70_000)), max_size=6))
def test_a_window_holds_the_files_bytes(io: Io, path: Path, places: list[tuple[int, int]]) -> None:
    source = open_source(path, io)
    for start, length in places:
        end = min(len(CONTENT), start + length)
        window = source.read(start, end)
        assert bytes(window) == CONTENT[start:end]
        window.release()
    source.close()


@EITHER_WAY
def test_a_window_cannot_be_written_to(io: Io, path: Path) -> None:
    source = open_source(path, io)
    window = source.read(0, 10)
    assert window.readonly
    window.release()
    source.close()


@EITHER_WAY
def test_a_window_stays_as_it_is_until_the_next(io: Io, path: Path) -> None:
    source = open_source(path, io)
    small = bytes(source.read(0, 100))
    large = source.read(50, 200_000)
    assert small == CONTENT[:100]
    assert bytes(large) == CONTENT[50:200_000]
    del large
    source.close()


@EITHER_WAY
def test_several_threads_read_one_file_at_once(io: Io, path: Path) -> None:
    with Sources(io) as sources, ThreadPoolExecutor(4) as executor:

        def reads_well(start: int) -> bool:
            source = sources.of_file(path)
            return all(
                bytes(source.read(at, at + 777)) == CONTENT[at : at + 777] for at in range(start, 250_000, 9_999)
            )

        assert all(executor.map(reads_well, range(16)))


@EITHER_WAY
def test_pages_are_given_back_without_a_change_to_what_is_read(io: Io, tmp_path: Path) -> None:
    content = np.arange(3 * RELEASE_BYTES // 8, dtype=np.uint64)
    path = tmp_path / "large"
    path.write_bytes(content.tobytes())
    source = open_source(path, io)
    step = 1_000_003
    size = content.nbytes
    copy = b"".join(bytes(source.read(at, min(size, at + step))) for at in range(0, size, step))
    assert copy == content.tobytes()
    assert bytes(source.read(5, 25)) == content.tobytes()[5:25]
    source.close()


@EITHER_WAY
def test_bytes_behind_the_end_are_refused_and_the_rest_can_still_be_read(io: Io, path: Path) -> None:
    source = open_source(path, io)
    for start, end in ((len(CONTENT) - 10, len(CONTENT) + 1), (10**9, 10**9 + 5)):
        with pytest.raises(RefusedFile, match="became shorter while it was read") as refused:
            source.read(start, end)
        assert (refused.value.rule, refused.value.case) == ("JN001", "shortened-while-read")
    assert bytes(source.read(7, 20)) == CONTENT[7:20]
    assert bytes(source.read(0, 20)) == CONTENT[:20]
    source.close()


def test_a_file_cut_short_while_it_is_read_is_refused(path: Path) -> None:
    source = open_source(path, Io.PREAD)
    assert bytes(source.read(0, 10)) == CONTENT[:10]
    path.write_bytes(CONTENT[:1000])
    with pytest.raises(RefusedFile, match=r"bytes 500 to 2,000 were wanted and it now ends at 1,000") as refused:
        source.read(500, 2000)
    assert refused.value.rule == "JN001"
    assert bytes(source.read(500, 1000)) == CONTENT[500:1000]
    source.close()


@EITHER_WAY
def test_a_file_that_became_empty_is_refused(io: Io, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(RefusedFile, match="became shorter"):
        open_source(path, io).read(0, 8)


@EITHER_WAY
def test_a_file_that_is_gone_could_not_be_read(io: Io, tmp_path: Path) -> None:
    with pytest.raises(CouldNotRead, match="nowhere cannot be read: No such file or directory"):
        open_source(tmp_path / "nowhere", io)


def test_an_error_of_the_system_could_not_be_read(tmp_path: Path) -> None:
    source = open_source(tmp_path, Io.PREAD)
    with pytest.raises(CouldNotRead, match="cannot be read at byte 0"):
        source.read(0, 1)
    source.close()


@EITHER_WAY
def test_a_file_is_opened_once(io: Io, path: Path) -> None:
    with Sources(io) as sources:
        assert sources.of_file(path) is sources.of_file(path)


def test_a_map_can_be_closed_while_a_window_is_looked_at(path: Path) -> None:
    source = open_source(path, Io.MMAP)
    seen = np.frombuffer(source.read(3, 13), np.uint8)
    source.close()
    assert seen.tobytes() == CONTENT[3:13]
