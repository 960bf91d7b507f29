"""Pinning a commit and listing its files: whose word is taken, and what is said when it makes no sense."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.hub.client import Client
from jaynes_audit.analyzers.checkpoints.hub.errors import Asked
from jaynes_audit.analyzers.checkpoints.hub.patience import Patience
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

INFO = "/revision/"
TREE = "/tree/"


def test_a_revision_is_pinned_to_its_commit(hub: LoopbackHub) -> None:
    first = hub.commit(MODEL, {WEIGHTS: b"first"})
    second = hub.commit(MODEL, {WEIGHTS: b"second"})
    hub.tag(MODEL, "v1", first)
    request = hub.commit(MODEL, {WEIGHTS: b"third"}, ref="refs/pr/1")
    client = client_of(hub)
    for name, commit in (("@v1", first), ("", second), (f"@{first}", first), ("@refs/pr/1", request)):
        assert repository_of(client, f"{MODEL}{name}").commit == commit
    assert read(repository_of(client, f"{MODEL}@v1"), WEIGHTS, 0, 5) == b"first"


def test_files_are_listed_with_their_sizes_and_digests_page_by_page() -> None:
    with LoopbackHub(page_size=3) as hub:
        files = {f"sub/{number}/{WEIGHTS}": b"x" * number for number in range(7)} | {"config.json": b"{}"}
        hub.commit(MODEL, files)
        repository = repository_of(client_of(hub))
        assert {path: file.size_bytes for path, file in repository.files.items()} == {
            path: len(content) for path, content in files.items()
        }
        assert all(len(file.sha256) == 64 for path, file in repository.files.items() if path != "config.json")
        assert repository.files["config.json"].git_blob == "9e26dfeeb6e641a33dae4961196235bdb965b21b"  # git hash-object
        assert repository.folders[""] == {"sub": True, "config.json": False}
        assert repository.folders["sub/0"] == {WEIGHTS: False}
        assert len([record for record in hub.log if TREE in record.path]) > 3


@pytest.mark.parametrize("path", [INFO, TREE])
@pytest.mark.parametrize("fault", [{"reset": True}, {"delay": 5.0}, {"truncate": 5}, {"status": 503}, {"status": 429}])
def test_the_hub_is_asked_again_after_a_fault(hub: LoopbackHub, path: str, fault: dict[str, Any]) -> None:
    commit = hub.commit(MODEL, {WEIGHTS: CONTENT})
    client = client_of(hub, read_seconds=0.2)
    hub.fault(host="hub", path=path, times=2, **fault)
    assert repository_of(client).commit == commit


@pytest.mark.parametrize("path", [INFO, TREE])
def test_a_hub_that_never_answers_is_given_up(hub: LoopbackHub, path: str) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    client = client_of(hub, read_seconds=0.1, tries=3)
    hub.fault(host="hub", path=path, times=FOR_EVER, delay=5.0)
    with pytest.raises(CouldNotRead, match="stopped to answer"):
        repository_of(client)


def test_a_hub_that_is_not_there_is_given_up_soon(hub: LoopbackHub) -> None:
    clock = Clock()
    client = client_of(hub, clock=clock)
    hub.close()
    with pytest.raises(CouldNotRead, match=r"127\.0\.0\.1 refused the connection; check the proxy and HF_ENDPOINT"):
        repository_of(client)
    assert len(clock.pauses) == 2


def listing(*paths: str) -> bytes:
    return json.dumps([row(path) for path in paths]).encode()


def row(path: str) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": 1, "oid": "0" * 40}


SENSELESS = (
    (INFO, b"<html>"),
    (INFO, b"[]"),
    (INFO, b"{}"),
    (INFO, b'{"sha": 5}'),
    (INFO, b'{"sha": "../../x"}'),
    (INFO, b"[" * 100_000),
    (INFO, b"\xff\xfe"),
    (TREE, b"{}"),
    (TREE, b"[5]"),
    (TREE, b'[{"type": "file", "path": "../x", "size": 1, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "a//x", "size": 1, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "/x", "size": 1, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "x", "size": -1, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "\\ud800", "size": 1, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "x", "size": 9223372036854775808, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "x", "size": 1.5, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "x", "size": true, "oid": "%040d"}]' % 0),
    (TREE, b'[{"type": "file", "path": "x", "size": 1, "oid": "x"}]'),
    (TREE, b'[{"type": "file", "path": "x", "size": 1, "lfs": {"oid": "x"}}]'),
    (TREE, b'[{"type": "file", "path": "x", "size": 1, "lfs": 5}]'),
    (TREE, listing("/".join("x" * 65))),
    (TREE, listing("x" * 256)),
    (TREE, listing("\N{BULLET}" * 86)),  # 258 bytes
    (TREE, listing("/".join(["x" * 100] * 41))),  # 4,140 bytes
    (TREE, listing("/".join("x" * 60_000))),
    (TREE, listing("x", "x")),
    (TREE, listing("x", "x/y")),
    (TREE, listing("a/x/y/z", "a/x")),
)


@pytest.mark.parametrize(("path", "body"), SENSELESS)
def test_an_answer_without_sense_is_no_hubs(hub: LoopbackHub, path: str, body: bytes) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    hub.fault(host="hub", path=path, times=FOR_EVER, status=200, body=body)
    with pytest.raises(CouldNotRead, match="HF_ENDPOINT"):
        repository_of(client_of(hub, tries=2))


def test_a_path_may_be_as_long_as_a_file_systems(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    paths = {"/".join("x" * 64), "\N{BULLET}" * 85, "/".join(["y" * 240] * 17)}
    hub.fault(host="hub", path=TREE, status=200, body=listing(*paths))
    assert set(repository_of(client_of(hub)).files) == paths


def test_folders_without_number_are_given_up(monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub) -> None:
    monkeypatch.setattr("jaynes_audit.analyzers.checkpoints.hub.repository.MOST_FOLDERS", 3)
    hub.commit(MODEL, {"a/b/x": CONTENT})
    assert set(repository_of(client_of(hub)).folders) == {"", "a", "a/b"}
    hub.commit(MODEL, {"a/b/c/x": CONTENT})
    with pytest.raises(CouldNotRead, match="more than 3 folders"):
        repository_of(client_of(hub))


def test_a_list_of_folders_alone_has_an_end() -> None:
    client = Endless(endpoint="http://localhost", token=None, patience=Patience())
    with pytest.raises(CouldNotRead, match="has no end"):
        repository_of(client)


def test_a_list_without_end_is_given_up(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    link = f'<{hub.endpoint}/api/models/{MODEL}/tree/main?cursor=5>; rel="next"'
    hub.fault(host="hub", path=TREE, times=FOR_EVER, status=200, body=b"[]", headers={"Link": link})
    with pytest.raises(CouldNotRead, match="has no end"):
        repository_of(client_of(hub))


def test_a_page_at_another_host_is_asked_for_here() -> None:
    """A mirror may pass on the links of the Hub itself, which must not be given this Hub's token."""
    with LoopbackHub(page_size=1, known_tokens=[TOKEN]) as hub:
        commit = hub.commit(MODEL, {WEIGHTS: CONTENT, "config.json": b"{}"}, private=True, readers=[TOKEN])
        path = f"/api/models/{MODEL}/tree/{commit}"
        # The cursor is the loopback Hub's own, taken from its first page.
        with client_of(hub, token=TOKEN).answer(
            "GET", f"{hub.endpoint}{path}?recursive=true", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as first:
            link = first.headers["Link"].replace(hub.endpoint, hub.cdn)
        hub.fault(host="hub", path=TREE, headers={"Link": link})
        repository = repository_of(client_of(hub, token=TOKEN))
        assert set(repository.files) == {WEIGHTS, "config.json"}
        assert not [record for record in hub.log if record.host == "cdn"]


# ---- any answer at all


class Told(Client):
    """A client to which a Hub says what the test wants."""

    answers: list[Any]

    def get_json(self, url: str, asked: Asked) -> tuple[Any, str]:
        del url, asked
        return self.answers.pop(0), ""


class Endless(Client):
    """A client to which a Hub tells of ever more folders."""

    def get_json(self, url: str, asked: Asked) -> tuple[Any, str]:
        del asked
        if TREE not in url:
            return {"sha": "0" * 40}, ""
        page = int(url.rpartition("=")[2]) if "cursor" in url else 0
        assert page < 10_000
        return [{"type": "directory", "path": f"folder{page}"}], f"http://localhost{TREE}?cursor={page + 1}"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["file", "0" * 40]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "path", "size", "oid", "lfs"]), inner)
    ),
    max_leaves=8,
)
ROW = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("file") | ANYTHING,
        "path": st.text("ab/.\0\x1b", max_size=6) | ANYTHING,
        "size": st.integers() | ANYTHING,
        "oid": st.just("0" * 40) | ANYTHING,
        "lfs": st.just({"oid": "0" * 64}) | ANYTHING,
    },
)


@given(st.lists(ROW) | ANYTHING)
def test_any_list_is_one_of_files_or_refused(rows: Any) -> None:
    client = Told(endpoint="http://localhost", token=None, patience=Patience())
    object.__setattr__(client, "answers", [{"sha": "0" * 40}, json.loads(json.dumps(rows))])
    with suppress(CouldNotRead):
        for path, file in repository_of(client).files.items():
            assert {"", ".", ".."}.isdisjoint(path.split("/"))
            assert file.size_bytes >= 0
            assert file.sha256 or file.git_blob
