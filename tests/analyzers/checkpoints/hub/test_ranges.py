"""Whatever goes wrong on the way, a range of bytes is the right one, or there is a sentence that says what to do."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jaynes_audit.analyzers.checkpoints.hub.patience import Interrupted, Pace, Patience
from jaynes_audit.analyzers.checkpoints.hub.ranges import RangeReader
from jaynes_audit.analyzers.errors import CouldNotRead
from tests.analyzers.checkpoints.hub.clients import (
    CONTENT,
    MODEL,
    TOKEN,
    WEIGHTS,
    Clock,
    client_of,
    read,
    repository_of,
)
from tests.support.hub import FOR_EVER, LoopbackHub

START, END = 1_000, 901_000

FAULTS: dict[str, dict[str, Any]] = {
    "a reset": {"reset": True},
    "a cut": {"truncate": 100},
    "a cut by a reset": {"truncate": 100, "truncate_rst": True},
    "a stall in the body": {"stall_after": 100, "stall": 5.0},
    "silence": {"delay": 5.0},
    "the whole file": {"ignore_range": True},
    "another range": {"shift_range": 1},
    "a shorter range": {"short_range": 1_000},
    "a compressed body": {"gzip": True},
    "no Content-Range": {"drop_headers": ("Content-Range",)},
    "a Content-Range without sense": {"headers": {"Content-Range": "bytes " + "9" * 5000}},
    **{
        f"status {status}": {"status": status}
        for status in (301, 302, 401, 403, 404, 408, 410, 418, 429, 500, 502, 503, 504, 520)
    },
}

CHANGES: dict[str, tuple[dict[str, str], str]] = {
    "another commit": ({"X-Repo-Commit": "0" * 40}, "another commit"),
    "another size": ({"X-Linked-Size": "5"}, "another size"),
    "another digest": ({"X-Linked-ETag": '"' + "0" * 64 + '"'}, "its digest is another"),
}


@pytest.fixture
def model(hub: LoopbackHub) -> LoopbackHub:
    """A Hub with one model in it."""
    hub.commit(MODEL, {WEIGHTS: CONTENT, "config.json": b"{}"})
    return hub


def ranges_asked(hub: LoopbackHub, host: str) -> list[str | None]:
    return [record.range for record in hub.log if record.host == host and record.method == "GET" and record.range]


def lookups(hub: LoopbackHub) -> int:
    return len([record for record in hub.log if record.method == "HEAD"])


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_bytes_are_right_after_a_fault_of_the_storage(model: LoopbackHub, fault: dict[str, Any]) -> None:
    repository = repository_of(client_of(model))
    planned = model.fault(host="cdn", times=2, **fault)
    assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]
    assert planned.hits == 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_without_end_is_told_and_gives_no_bytes(model: LoopbackHub, fault: dict[str, Any]) -> None:
    repository = repository_of(client_of(model, tries=3, read_seconds=0.2))
    model.fault(host="cdn", times=FOR_EVER, **fault)
    with pytest.raises(CouldNotRead) as caught:
        read(repository, WEIGHTS, START, END)
    assert WEIGHTS in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_file_is_looked_up_again_after_a_fault_of_the_hub(model: LoopbackHub, status: int) -> None:
    repository = repository_of(client_of(model))
    model.fault(host="hub", method="HEAD", times=2, status=status)
    model.fault(host="hub", method="HEAD", times=1, reset=True)
    assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]


@pytest.mark.parametrize(("headers", "mention"), CHANGES.values(), ids=CHANGES)
def test_a_hub_that_speaks_of_another_file_is_not_believed(
    model: LoopbackHub, headers: dict[str, str], mention: str
) -> None:
    repository = repository_of(client_of(model))
    model.fault(host="hub", method="HEAD", path=WEIGHTS, times=FOR_EVER, headers=headers)
    with pytest.raises(CouldNotRead, match=mention):
        read(repository, WEIGHTS, START, END)
    assert not ranges_asked(model, "cdn")


@pytest.mark.parametrize("size", [1_000_001, 5])
def test_a_storage_with_a_file_of_another_size_is_not_believed(model: LoopbackHub, size: int) -> None:
    repository = repository_of(client_of(model))
    model.fault(host="cdn", headers={"Content-Range": f"bytes {START}-{END - 1}/{size}"})
    with pytest.raises(CouldNotRead, match="another size"):
        read(repository, WEIGHTS, START, END)


def test_a_file_that_became_shorter_is_not_read(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model))
    model.fault(host="cdn", status=416)
    with pytest.raises(CouldNotRead, match="fewer than 901,000 bytes"):
        read(repository, WEIGHTS, START, END)


def test_a_file_too_large_for_the_storage_is_to_be_read_through_the_cache(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model))
    model.fault(host="cdn", status=400)
    with pytest.raises(CouldNotRead, match="--cache"):
        read(repository, WEIGHTS, START, END)
    assert len(ranges_asked(model, "cdn")) == 1


def test_only_the_rest_is_asked_for_after_a_cut(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model))
    model.fault(host="cdn", truncate=300_000)
    assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]
    assert ranges_asked(model, "cdn") == [f"bytes={START}-{END - 1}", f"bytes={START + 300_000}-{END - 1}"]


def test_cuts_without_number_are_survived_as_long_as_something_comes(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model, tries=2))
    model.fault(host="cdn", times=FOR_EVER, truncate=100_000)
    assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]
    assert len(ranges_asked(model, "cdn")) == 9


def test_an_answer_that_trickles_is_given_up(model: LoopbackHub) -> None:
    patience = {"slow_seconds": 0.3, "slowest_bytes_per_second": 100_000, "tries": 2}
    client = client_of(model, now=time.monotonic, **patience)
    repository = repository_of(client)
    model.fault(host="cdn", times=FOR_EVER, rate=2_000)
    with pytest.raises(CouldNotRead, match="slower than 100,000 bytes a second"):
        read(repository, WEIGHTS, START, END)


def test_an_answer_that_begins_to_trickle_is_noticed_soon() -> None:
    clock = Clock()
    pace = Pace(Patience(now=clock.now))
    for _ in range(5):
        clock.seconds += 16
        pace.add(1_000_000)
    clock.seconds += 16
    with pytest.raises(Interrupted, match="slower than 4,096 bytes a second"):
        pace.add(1)


def test_a_whole_small_file_and_an_empty_one_are_read_from_the_hub_itself(model: LoopbackHub) -> None:
    model.commit(MODEL, {"empty.txt": b""})
    repository = repository_of(client_of(model))
    assert read(repository, "config.json", 0, 2) == b"{}"
    assert read(repository, "empty.txt", 0, 0) == b""
    assert not [record for record in model.log if record.host == "cdn"]


@pytest.mark.parametrize("fault", [{"chunked": True}, {"drop_headers": ("ETag", "Accept-Ranges")}])
def test_headers_that_do_not_matter_may_be_missing(model: LoopbackHub, fault: dict[str, Any]) -> None:
    repository = repository_of(client_of(model))
    model.fault(host="hub", method="HEAD", drop_headers=("X-Repo-Commit", "X-Linked-Size", "X-Linked-ETag"))
    model.fault(host="cdn", **fault)
    assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]


def test_a_mirror_that_gives_out_files_itself_is_read() -> None:
    with LoopbackHub(lfs_redirect=False, small_redirect=False, known_tokens=[TOKEN]) as mirror:
        mirror.commit(MODEL, {WEIGHTS: CONTENT}, private=True, readers=[TOKEN])
        repository = repository_of(client_of(mirror, token=TOKEN))
        mirror.fault(host="hub", method="GET", path="resolve", status=503)
        assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]
        assert all(record.authorization == f"Bearer {TOKEN}" for record in mirror.log)


def test_a_mirror_that_refuses_says_why() -> None:
    with LoopbackHub(lfs_redirect=False) as mirror:
        mirror.commit(MODEL, {WEIGHTS: CONTENT})
        repository = repository_of(client_of(mirror))
        mirror.fault(host="hub", method="GET", path="resolve", status=403)
        with pytest.raises(CouldNotRead, match="does not let"):
            read(repository, WEIGHTS, START, END)


def test_a_hub_that_redirects_in_a_ring_is_given_up(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model, tries=2))
    model.fault(host="hub", method="HEAD", times=FOR_EVER, status=307, headers={"Location": "/ring"})
    with pytest.raises(CouldNotRead, match="to nowhere"):
        read(repository, WEIGHTS, START, END)


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://a:99999999/", "http://" + "x" * 300 + ".invalid/", "ftp://x/", "\\"]
)
def test_an_address_without_sense_is_given_up(model: LoopbackHub, location: str) -> None:
    repository = repository_of(client_of(model, tries=2))
    model.fault(host="hub", method="HEAD", times=FOR_EVER, status=302, headers={"Location": location})
    with pytest.raises(CouldNotRead):
        read(repository, WEIGHTS, START, END)


# ---- lookups


def test_many_threads_look_a_file_up_once(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model))
    reader = RangeReader(repository)
    model.fault(host="hub", method="HEAD", delay=0.2)
    together = threading.Barrier(8)

    def part(number: int) -> bytes:
        buffer = bytearray(1_000)
        together.wait()
        reader.read_into(repository.files[WEIGHTS], 1_000 * number, memoryview(buffer))
        return bytes(buffer)

    with ThreadPoolExecutor(8) as threads:
        assert b"".join(threads.map(part, range(8))) == CONTENT[:8_000]
    assert lookups(model) == 1


def test_an_address_is_used_for_fifty_minutes(model: LoopbackHub) -> None:
    clock = Clock()
    repository = repository_of(client_of(model, clock=clock))
    reader = RangeReader(repository)
    buffer = bytearray(1_000)
    for minutes, expected in ((0, 1), (49, 1), (2, 2), (49, 2)):
        clock.seconds += 60 * minutes
        reader.read_into(repository.files[WEIGHTS], 0, memoryview(buffer))
        assert lookups(model) == expected


def test_an_address_past_its_time_is_signed_again_at_once(model: LoopbackHub) -> None:
    clock = Clock()
    repository = repository_of(client_of(model, clock=clock))
    reader = RangeReader(repository)
    buffer = bytearray(len(CONTENT))
    reader.read_into(repository.files[WEIGHTS], 0, memoryview(buffer))
    model.expire_urls()
    clock.seconds += 120
    buffer = bytearray(len(CONTENT))
    reader.read_into(repository.files[WEIGHTS], 0, memoryview(buffer))
    assert bytes(buffer) == CONTENT
    assert lookups(model) == 2
    assert not clock.pauses


# ---- versions


def test_a_push_during_the_audit_changes_nothing(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model))
    model.commit(MODEL, {WEIGHTS: CONTENT[::-1]}, replace=True)
    assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]


def test_a_commit_that_a_forced_push_removed_is_missed_in_words(model: LoopbackHub) -> None:
    repository = repository_of(client_of(model))
    model.commit(MODEL, {WEIGHTS: CONTENT[::-1]}, replace=True)
    del model.repos[MODEL].commits[repository.commit]
    with pytest.raises(CouldNotRead, match=f"commit {repository.commit[:12]} .* run it again"):
        read(repository, WEIGHTS, START, END)


# ---- limits of the rate


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"RateLimit": '"resolvers";r=0;t=55'}, 56.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, None),
        ({"RateLimit": '"resolvers";r=3;t=55', "Retry-After": "2"}, 2.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.2),
        ({"RateLimit": '"resolvers";r=0;t=' + "9" * 5000}, 0.2),
    ],
)
def test_a_rate_limit_is_waited_for_as_long_as_it_says(
    model: LoopbackHub, headers: dict[str, str], pause: float | None
) -> None:
    clock = Clock()
    told: list[str] = []
    repository = repository_of(client_of(model, clock=clock, tell=told.append))
    model.fault(host="hub", method="HEAD", status=429, headers=headers)
    assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]
    assert clock.pauses == ([] if pause is None else [pause])
    assert len(told) == (pause is not None and pause >= 5)
    assert all(WEIGHTS in sentence and "rate limit" in sentence for sentence in told)


def test_a_wait_beyond_all_patience_is_told_and_not_waited(model: LoopbackHub) -> None:
    clock = Clock()
    repository = repository_of(client_of(model, clock=clock))
    model.fault(host="hub", method="HEAD", status=429, headers={"Retry-After": "10800"})
    with pytest.raises(CouldNotRead, match="wait 3 hours and run it again, or set HF_TOKEN"):
        read(repository, WEIGHTS, START, END)
    assert not clock.pauses


def test_pauses_grow_and_end(model: LoopbackHub) -> None:
    clock = Clock()
    repository = repository_of(client_of(model, clock=clock, jitter=lambda: 1.0))
    model.fault(host="cdn", times=FOR_EVER, status=503)
    with pytest.raises(CouldNotRead, match="status 503"):
        read(repository, WEIGHTS, START, END)
    assert clock.pauses == pytest.approx([0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6])


# ---- tokens


def test_no_token_reaches_the_storage() -> None:
    with LoopbackHub(known_tokens=[TOKEN]) as hub:
        hub.commit(MODEL, {WEIGHTS: CONTENT, "config.json": b"{}"}, private=True, readers=[TOKEN])
        repository = repository_of(client_of(hub, token=TOKEN))
        assert read(repository, WEIGHTS, START, END) == CONTENT[START:END]
        assert read(repository, "config.json", 0, 2) == b"{}"
        assert {record.authorization for record in hub.log if record.host == "hub"} == {f"Bearer {TOKEN}"}
        assert {record.authorization for record in hub.log if record.host == "cdn"} == {None}
