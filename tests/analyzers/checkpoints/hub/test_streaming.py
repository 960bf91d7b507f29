"""Bytes read in place: the right ones, in few requests, in little memory."""

import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.hub.ranges import RangeReader
from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile
from jaynes_audit.analyzers.checkpoints.hub.streaming import JOINED_GAP_BYTES, RemoteFile, Windows, opened_stream
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from tests.analyzers.checkpoints.hub.clients import CONTENT, MODEL, WEIGHTS, client_of, repository_of
from tests.support.hub import LoopbackHub

MEBIBYTE = 1 << 20
WINDOW = MEBIBYTE
DATA = Random(1).randbytes(16 * MEBIBYTE)  # noqa: S311 - for variety, not for secrecy


class Memory(RangeReader):
    """Gives ranges of bytes that are in memory, and notes which."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[str, int, int]] = []

    def read_into(self, file: HubFile, start: int, view: memoryview) -> None:
        assert start in range(file.size_bytes)
        assert start + len(view) <= file.size_bytes
        assert len(view)
        self.asked.append((file.path, start, start + len(view)))
        view[:] = self.files[file.path][start : start + len(view)]


def named(path: str, content: bytes) -> HubFile:
    return HubFile(path=path, size_bytes=len(content), sha256="0" * 64)


def steps(start: int, end: int, step: int = 100_000) -> Iterator[tuple[int, int]]:
    for at in range(start, end, step):
        yield at, min(end, at + step)


@pytest.fixture
def memory() -> Memory:
    return Memory({"a": DATA, "b": DATA[::-1]})


@pytest.fixture
def windows(memory: Memory) -> Windows:
    return Windows(memory, WINDOW)


@pytest.fixture
def file(windows: Windows) -> RemoteFile:
    return RemoteFile(named("a", DATA), windows)


def held_bytes(windows: Windows) -> int:
    return sum(len(window.buffer) for window in windows._held.windows)


def test_an_announced_range_is_fetched_in_windows_and_each_byte_once(memory: Memory, file: RemoteFile) -> None:
    start, end = 12_345, 12_345 + 5 * WINDOW + 777
    file.ahead([(start, end)])
    assert b"".join(bytes(file.read(*step)) for step in steps(start, end)) == DATA[start:end]
    assert sum(stop - begin for _, begin, stop in memory.asked) == end - start
    assert len(memory.asked) == 6
    assert max(stop - begin for _, begin, stop in memory.asked) <= WINDOW


def test_nothing_beyond_the_announced_is_fetched(memory: Memory, file: RemoteFile) -> None:
    file.ahead([(5_000_000, 5_100_000)])
    file.read(5_000_000, 5_050_000)
    assert memory.asked == [("a", 5_000_000, 5_100_000)]
    file.read(0, 8)
    assert memory.asked[-1] == ("a", 0, 8)


def test_what_lies_close_together_is_fetched_together(memory: Memory, file: RemoteFile) -> None:
    near = JOINED_GAP_BYTES - 1
    file.ahead(
        [(200_000, 300_000), (0, 100_000), (300_000 + near, 500_000 + near), (2_000_000 + near, 2_000_001 + near)]
    )
    assert bytes(file.read(0, 100_000)) == DATA[:100_000]
    assert bytes(file.read(200_000, 300_000)) == DATA[200_000:300_000]
    assert bytes(file.read(300_000 + near, 300_008 + near)) == DATA[300_000 + near : 300_008 + near]
    assert memory.asked == [("a", 0, 500_000 + near)]


def test_codes_and_scales_read_in_turns_are_each_fetched_once(memory: Memory, windows: Windows) -> None:
    codes, scales = RemoteFile(named("a", DATA), windows), RemoteFile(named("b", DATA), windows)
    codes.ahead([(0, 8 * MEBIBYTE), (10 * MEBIBYTE, 10 * MEBIBYTE + 50_000)])
    scales.ahead([(1_000, 1_000 + 512 * 1024)])
    for number in range(64):
        at, scale = number * 131_072, 1_000 + number * 8_192
        assert bytes(codes.read(at, at + 131_072)) == DATA[at : at + 131_072]
        assert bytes(scales.read(scale, scale + 8_192)) == DATA[::-1][scale : scale + 8_192]
        assert bytes(codes.read(10 * MEBIBYTE, 10 * MEBIBYTE + 50_000)) == DATA[10 * MEBIBYTE : 10 * MEBIBYTE + 50_000]
        assert held_bytes(windows) <= WINDOW + 2 * 131_072
    assert sum(stop - begin for _, begin, stop in memory.asked) == 8 * MEBIBYTE + 50_000 + 512 * 1024
    assert len(memory.asked) <= 32


def test_a_new_announcement_replaces_the_last_one(memory: Memory, file: RemoteFile) -> None:
    for piece in range(4):
        start = piece * 4 * MEBIBYTE
        file.ahead([(start, start + 4 * MEBIBYTE)])
        for step in steps(start, start + 4 * MEBIBYTE, MEBIBYTE):
            file.read(*step)
    assert len(memory.asked) == 16


def test_a_read_larger_than_a_window_is_given_all_the_same(file: RemoteFile, windows: Windows) -> None:
    assert bytes(file.read(5, 3 * WINDOW)) == DATA[5 : 3 * WINDOW]
    file.read(0, 10)
    assert held_bytes(windows) <= WINDOW


def test_a_fetch_that_fails_leaves_nothing_half_filled(memory: Memory, file: RemoteFile) -> None:
    file.ahead([(0, 4 * MEBIBYTE)])
    file.read(0, 10)
    right, memory.files = memory.files, {}
    with pytest.raises(KeyError):
        file.read(MEBIBYTE - 5, MEBIBYTE + 5)
    memory.files = right
    assert bytes(file.read(0, 2 * MEBIBYTE)) == DATA[: 2 * MEBIBYTE]


def test_a_read_past_the_end_is_refused(file: RemoteFile) -> None:
    with pytest.raises(RefusedFile, match="16,777,216 bytes") as caught:
        file.read(len(DATA) - 5, len(DATA) + 5)
    assert caught.value.rule == "JN001"
    assert not file.read(len(DATA), len(DATA))


def test_a_closed_file_holds_nothing(file: RemoteFile, windows: Windows) -> None:
    file.read(0, 1000)
    file.close()
    assert not held_bytes(windows)


PLACES = st.integers(0, len(DATA))
RANGES = st.lists(st.tuples(PLACES, st.integers(0, 3 * WINDOW)), max_size=12).map(
    lambda ranges: [(start, min(len(DATA), start + length)) for start, length in ranges]
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), RANGES, RANGES), max_size=6))
def test_any_reading_after_any_announcement_gives_the_right_bytes_in_bounded_memory(script) -> None:
    memory = Memory({"a": DATA, "b": DATA[::-1]})
    windows = Windows(memory, WINDOW)
    files = {path: RemoteFile(named(path, DATA), windows) for path in "ab"}
    for path, announced, read in script:
        files[path].ahead(announced)
        for start, end in [*announced, *read]:
            for step in steps(start, end, 700_000):
                assert bytes(files[path].read(*step)) == memory.files[path][slice(*step)]
                assert held_bytes(windows) <= 2 * WINDOW + 700_000


def test_threads_do_not_disturb_each_other(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    repository = repository_of(client_of(hub))
    file = RemoteFile(repository.files[WEIGHTS], Windows(RangeReader(repository), 50_000))

    def part(number: int) -> bytes:
        start, end = number * 100_000, (number + 1) * 100_000
        file.ahead([(start, end)])
        return b"".join(bytes(file.read(*step)) for step in steps(start, end, 7_000))

    with ThreadPoolExecutor(5) as threads:
        assert b"".join(threads.map(part, range(10))) == CONTENT
    assert len([record for record in hub.log if record.host == "cdn"]) == 20


# ---- streams


def stream_over(content: bytes) -> tuple[io.BufferedReader, Memory]:
    memory = Memory({"a": content})
    return opened_stream(named("a", content), memory), memory


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([0, 10, 100_000, MEBIBYTE, 3 * MEBIBYTE + 17]),
    st.lists(
        st.tuples(st.integers(0, 4 * MEBIBYTE), st.sampled_from([0, 1, 8, 1000, 300_000, 2 * MEBIBYTE, -1])),
        max_size=12,
    ),
)
def test_a_stream_reads_as_one_of_a_file_in_memory(size: int, jumps: list[tuple[int, int]]) -> None:
    stream, _ = stream_over(DATA[:size])
    expected = io.BytesIO(DATA[:size])
    for place, length in jumps:
        assert stream.seek(place) == expected.seek(place)
        assert stream.read(length) == expected.read(length)
        assert stream.tell() == expected.tell()
    assert stream.seek(0, io.SEEK_END) == size


def test_a_short_header_takes_one_request() -> None:
    stream, memory = stream_over(DATA)
    assert stream.read(8) + stream.read(100_000) == DATA[:100_008]
    assert len(memory.asked) == 1


def test_a_long_header_takes_two() -> None:
    stream, memory = stream_over(DATA)
    assert stream.read(8) + stream.read(10_000_000) == DATA[:10_000_008]
    assert len(memory.asked) == 2
    assert sum(end - start for _, start, end in memory.asked) < 10_000_008 + 2 * MEBIBYTE


def test_a_long_vocabulary_read_in_sips_takes_few_and_each_byte_once() -> None:
    stream, memory = stream_over(DATA)
    assert b"".join(iter(lambda: stream.read(37), b"")) == DATA
    assert len(memory.asked) < 10
    assert sum(end - start for _, start, end in memory.asked) == len(DATA)


def test_a_small_file_is_read_at_once() -> None:
    stream, memory = stream_over(DATA[: MEBIBYTE - 1])
    stream.seek(500_000)
    stream.read(5)
    stream.seek(0)
    assert stream.read() == DATA[: MEBIBYTE - 1]
    assert len(memory.asked) == 1


def test_a_zip_archive_is_listed_from_its_end_alone() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as writer:
        for number in range(100):
            writer.writestr(f"archive/data/{number}", DATA[:100_000])
    stream, memory = stream_over(archive.getvalue())
    with zipfile.ZipFile(stream) as reader:
        assert len(reader.namelist()) == 100
        assert len(memory.asked) == 1
        assert reader.read("archive/data/50") == DATA[:100_000]
    assert len(memory.asked) <= 3


def test_a_stream_has_no_place_before_its_first_byte() -> None:
    stream, _ = stream_over(b"abc")
    with pytest.raises(ValueError, match="before"):
        stream.seek(-5, io.SEEK_END)


def test_a_stream_tells_what_the_hub_says(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    repository = repository_of(client_of(hub))
    hub.fault(host="cdn", status=400)
    with opened_stream(repository.files[WEIGHTS], RangeReader(repository)) as stream, pytest.raises(CouldNotRead):
        stream.read(5)
