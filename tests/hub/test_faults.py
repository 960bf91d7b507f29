"""Every fault is what its name says, as a plain HTTP client sees it, and befalls the requests it was planned for."""

import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.support.hub import FOR_EVER, LoopbackHub

WEIGHTS = bytes(range(251)) * 4000
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """An answer as it came. `cut` when the connection ended before the body did."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool


def get(url: str, *, method: str = "GET", timeout: float = PATIENCE_S, **headers: str) -> Got:
    """Ask once, on a connection of its own, and follow nothing."""
    address = urlsplit(url)
    with closing(http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)) as connection:
        connection.request(method, url.removeprefix(f"http://{address.netloc}"), headers={"X-Test": "yes", **headers})
        answer = connection.getresponse()
        try:
            body, cut = answer.read(), False
        except http.client.IncompleteRead as error:
            body, cut = error.partial, True
        return Got(status=answer.status, headers={k.lower(): v for k, v in answer.getheaders()}, body=body, cut=cut)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.commit("org/m", {"config.json": b"{}", "model.safetensors": WEIGHTS})
        yield hub


@pytest.fixture
def url(hub: LoopbackHub) -> str:
    """Where the CDN has the weights."""
    return get(f"{hub.endpoint}/org/m/resolve/main/model.safetensors").headers["location"]


def model(hub: LoopbackHub) -> str:
    return f"{hub.endpoint}/api/models/org/m"


# ---- ranges, without a fault


@pytest.mark.parametrize("stored", ["in memory", "on disk"])
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("0-0", 0, 1),
        ("5-9", 5, 10),
        ("1000-", 1000, len(WEIGHTS)),
        ("-7", len(WEIGHTS) - 7, len(WEIGHTS)),
        (f"10-{len(WEIGHTS) + 50}", 10, len(WEIGHTS)),
        (f"-{len(WEIGHTS) + 50}", 0, len(WEIGHTS)),
    ],
)
def test_a_range_is_exact(tmp_path, stored, asked, start, end):
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    source = WEIGHTS if stored == "in memory" else tmp_path / "model.safetensors"
    with LoopbackHub(lfs_redirect=False) as hub:
        hub.commit("org/m", {"model.safetensors": source})
        got = get(f"{hub.endpoint}/org/m/resolve/main/model.safetensors", Range=f"bytes={asked}")
    assert (got.status, got.body) == (206, WEIGHTS[start:end])
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(WEIGHTS)}"


def test_a_range_beyond_the_file_cannot_be_given(url):
    got = get(url, Range=f"bytes={len(WEIGHTS)}-")
    assert (got.status, got.body, got.headers["content-range"]) == (416, b"", f"bytes */{len(WEIGHTS)}")


@pytest.mark.parametrize(
    "headers", [{"Range": "bytes=0-1,5-6"}, {"Range": "items=0-1"}, {"Range": "bytes=0-1", "If-Range": '"other"'}]
)
def test_a_range_that_is_not_honoured_is_the_whole_file(url, headers):
    got = get(url, **headers)
    assert (got.status, got.body) == (200, WEIGHTS)


def test_a_file_that_is_no_longer_the_same_is_not_given(url):
    assert get(url, **{"If-Match": '"other"'}).status == 412


# ---- signed addresses


def test_an_address_is_good_until_its_time_is_over(hub, url):
    assert get(url).body == WEIGHTS
    hub.expire_urls()
    assert (get(url).status, b"AccessDenied" in get(url).body) == (403, True)


def test_an_address_is_good_for_as_long_as_the_hub_was_told():
    with LoopbackHub(url_ttl=0.9) as hub:
        hub.commit("org/m", {"model.safetensors": WEIGHTS})
        signed = get(f"{hub.endpoint}/org/m/resolve/main/model.safetensors").headers["location"]
        assert get(signed).status == 200
        time.sleep(1)
        assert get(signed).status == 403


def test_an_address_cannot_be_made_up(url):
    assert get(url.replace("Expires=", "Expires=9")).status == 403
    assert get(url.partition("?")[0]).status == 403


def test_a_token_at_the_cdn_is_an_error(hub, url):
    assert get(url, Authorization="Bearer hf_leaked").status == 400
    assert [record.authorization for record in hub.log if record.host == "cdn"] == ["Bearer hf_leaked"]


# ---- instead of the answer


def test_a_status_is_answered_with_its_headers_and_body_alone(hub):
    hub.fault(status=503, headers={"Retry-After": "7"}, body=b"later")
    got = get(model(hub))
    assert (got.status, got.headers["retry-after"], got.body) == (503, "7", b"later")


def test_a_reset_ends_the_connection_before_any_byte(hub):
    hub.fault(reset=True)
    with pytest.raises(ConnectionResetError):
        get(model(hub))
    assert hub.log[-1].status == 0


def test_a_delay_comes_before_the_answer(hub):
    hub.fault(delay=0.3)
    began = time.monotonic()
    assert get(model(hub)).status == 200
    assert time.monotonic() - began >= 0.3


def test_a_delay_longer_than_the_clients_patience_times_out(hub):
    hub.fault(delay=60)
    with pytest.raises(TimeoutError):
        get(model(hub), timeout=0.1)


# ---- headers


def test_headers_are_put_in_the_place_of_the_answers_own(hub):
    hub.fault(headers={"x-repo-commit": "f" * 40, "X-More": "1"})
    got = get(f"{hub.endpoint}/org/m/resolve/main/config.json")
    assert (got.status, got.headers["x-repo-commit"], got.headers["x-more"]) == (307, "f" * 40, "1")


def test_headers_are_left_out(hub):
    path = f"{hub.endpoint}/org/m/resolve/main/config.json"
    assert {"x-repo-commit", "x-linked-size"} <= get(path).headers.keys()
    hub.fault(drop_headers=("X-Repo-Commit", "X-Linked-Size"))
    assert not {"x-repo-commit", "x-linked-size"} & get(path).headers.keys()


def test_without_its_length_a_body_ends_with_the_connection(hub, url):
    hub.fault(drop_headers=("Content-Length",))
    got = get(url)
    assert (got.body, got.headers["connection"], "content-length" in got.headers) == (WEIGHTS, "close", False)


# ---- another part of the file


def test_an_ignored_range_is_the_whole_file(hub, url):
    hub.fault(ignore_range=True)
    got = get(url, Range="bytes=10-19")
    assert (got.status, got.body) == (200, WEIGHTS)


@pytest.mark.parametrize(
    ("fault", "start", "end"),
    [
        ({"shift_range": 8}, 108, 208),
        ({"shift_range": -8}, 92, 192),
        ({"short_range": 30}, 100, 130),
        ({"short_range": 1000}, 100, 200),
    ],
)
def test_another_range_is_given_and_said(hub, url, fault, start, end):
    hub.fault(**fault)
    got = get(url, Range="bytes=100-199")
    assert (got.status, got.body) == (206, WEIGHTS[start:end])
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(WEIGHTS)}"


@pytest.mark.parametrize("first", [100, len(WEIGHTS) - 100])
def test_a_lie_is_other_bytes_under_the_right_range(hub, url, first):
    hub.fault(lie_range=37)
    got = get(url, Range=f"bytes={first}-{first + 99}")
    assert (got.status, got.body) == (206, (WEIGHTS + WEIGHTS)[first + 37 : first + 137])
    assert got.headers["content-range"] == f"bytes {first}-{first + 99}/{len(WEIGHTS)}"


# ---- the body


def test_a_corrupt_body_differs_in_one_bit(hub, url):
    hub.fault(corrupt=True)
    got = get(url, Range="bytes=100-199").body
    differing = [
        (at, one ^ other) for at, (one, other) in enumerate(zip(got, WEIGHTS[100:200], strict=True)) if one != other
    ]
    assert differing == [(50, 0x10)]


def test_a_gzipped_body_says_so(hub, url):
    hub.fault(gzip=True)
    got = get(url, Range="bytes=100-199")
    assert (got.status, got.headers["content-encoding"], gzip.decompress(got.body)) == (206, "gzip", WEIGHTS[100:200])


def test_a_chunked_body_does_not_say_its_length(hub, url):
    hub.fault(chunked=True)
    got = get(url)
    assert (got.body, got.headers["transfer-encoding"], "content-length" in got.headers) == (WEIGHTS, "chunked", False)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_truncated_body_ends_early(hub, url, chunked):
    hub.fault(truncate=1000, chunked=chunked)
    got = get(url)
    assert got.cut
    assert WEIGHTS[:1000].startswith(got.body)  # http.client keeps no part of a broken chunk
    assert chunked or (got.headers["content-length"], len(got.body)) == (str(len(WEIGHTS)), 1000)
    assert hub.log[-1].sent == 1000


def test_a_truncated_body_may_end_in_a_reset(hub, url):
    hub.fault(truncate=1000, truncate_rst=True)
    with pytest.raises(ConnectionResetError):
        get(url)


def test_a_body_shorter_than_the_limit_is_whole(hub, url):
    hub.fault(times=2, truncate=100, stall_after=100)
    assert get(url, Range="bytes=0-99").body == WEIGHTS[:100]
    assert get(model(hub), method="HEAD").status == 200


def test_a_stalled_body_goes_silent_and_then_ends(hub, url):
    hub.fault(stall_after=1000, stall=0.3)
    began = time.monotonic()
    got = get(url)
    assert (len(got.body), got.cut) == (1000, True)
    assert time.monotonic() - began >= 0.3
    hub.fault(stall_after=1000)
    with pytest.raises(TimeoutError):
        get(url, timeout=0.1)


def test_a_slow_body_is_whole_and_slow(hub, url):
    hub.fault(rate=100_000)
    began = time.monotonic()
    got = get(url, Range="bytes=0-29999")
    assert (got.body, got.cut) == (WEIGHTS[:30_000], False)
    assert 0.25 <= time.monotonic() - began <= 2


def test_the_body_of_a_listing_may_break_too(hub):
    hub.fault(host="hub", path="/tree/", truncate=10)
    assert get(f"{model(hub)}/tree/main").cut


# ---- which requests


def test_a_fault_hits_as_many_requests_as_planned_after_those_it_lets_pass(hub):
    planned = hub.fault(status=500, skip=1, times=2)
    assert [get(model(hub)).status for _ in range(5)] == [200, 500, 500, 200, 200]
    assert planned.hits == 2


def test_a_fault_may_last_for_ever_and_be_cleared(hub):
    hub.fault(status=500, times=FOR_EVER)
    assert [get(model(hub)).status for _ in range(4)] == [500] * 4
    hub.clear()
    assert (get(model(hub)).status, len(hub.log)) == (200, 1)


@pytest.mark.parametrize(
    "where", [{"host": "cdn"}, {"method": "HEAD"}, {"method": "GE"}, {"path": "/api/datasets"}, {"path": "main$"}]
)
def test_a_fault_leaves_other_requests_alone(hub, where):
    hub.fault(status=500, **where)
    assert get(model(hub)).status == 200


@pytest.mark.parametrize(
    "where", [{"host": "hub"}, {"method": "GET|POST"}, {"path": r"models/org/.$"}, {"path": "^/api", "host": "any"}]
)
def test_a_fault_hits_its_own_requests(hub, where):
    hub.fault(status=500, **where)
    assert get(model(hub)).status == 500


def test_of_two_faults_the_first_comes_first(hub):
    hub.fault(status=500)
    hub.fault(status=503)
    assert [get(model(hub)).status for _ in range(3)] == [500, 503, 200]


def test_a_misspelt_fault_is_no_fault(hub):
    with pytest.raises(TypeError):
        hub.fault(truncated=10)


# ---- the log, and the end


def test_the_log_tells_what_was_asked_and_answered(hub, url):
    get(url, Range="bytes=5-9", Authorization="Basic x")
    get(url, Range="bytes=5-9")
    record = hub.log[-1]
    assert (record.host, record.method, record.status, record.sent) == ("cdn", "GET", 206, 5)
    assert (record.range, record.authorization, record.headers["x-test"]) == ("bytes=5-9", None, "yes")
    assert url.endswith(record.path)
    assert hub.log[-2].authorization == "Basic x"
    assert len({record.connection for record in hub.log}) == len(hub.log) == 3


def test_one_connection_serves_many_requests(hub):
    address = urlsplit(hub.endpoint)
    with closing(http.client.HTTPConnection(address.hostname, address.port)) as connection:
        for _ in range(3):
            connection.request("GET", "/api/models/org/m")
            assert json.loads(connection.getresponse().read())["id"] == "org/m"
    assert len({record.connection for record in hub.log}) == 1


def test_the_hub_stops_in_the_middle_of_an_answer():
    with LoopbackHub() as hub:
        hub.commit("org/m", {"config.json": b"{}"})
        hub.fault(skip=1, delay=3600)
        address = (urlsplit(hub.endpoint).hostname, urlsplit(hub.endpoint).port)
        with closing(http.client.HTTPConnection(*address, timeout=PATIENCE_S)) as connection:
            connection.request("GET", "/api/models/org/m")
            connection.getresponse().read()
            connection.request("GET", "/api/models/org/m")
            while len(hub.log) < 2:
                time.sleep(0.01)
            began = time.monotonic()
            hub.close()
            assert time.monotonic() - began < PATIENCE_S
            with pytest.raises(ConnectionError):
                connection.getresponse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_the_hub_leaves_no_connection_open(hub):
    address = urlsplit(hub.endpoint)
    with closing(http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/api/models/org/m")
        connection.getresponse().read()
        hub.close()
        assert connection.sock.recv(1) == b""


def test_an_error_of_the_hub_itself_comes_to_light():
    hub = LoopbackHub()
    hub.commit("org/m", {"config.json": b"{}"})
    hub.repos["org/m"].commits = None  # a mistake in a test
    with pytest.raises(ConnectionError):
        get(model(hub))
    with pytest.raises(TypeError):
        hub.close()
