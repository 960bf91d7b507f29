"""How the Hub is asked: in whose name, for how long, and without a trace in the program that asks."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, close_session, constants, get_session, hf_hub_download

from jaynes_audit.analyzers.checkpoints.hub.client import bounded, hub_client, is_offline
from jaynes_audit.analyzers.checkpoints.hub.patience import Patience
from jaynes_audit.analyzers.errors import CouldNotRead
from jaynes_audit.cli.exit_codes import ExitCode
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


def test_the_environment_is_read_as_huggingface_hub_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.test/")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    client = hub_client()
    assert (client.endpoint, client.token) == ("https://mirror.test", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert hub_client().token is None
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 77)
    assert hub_client().patience.read_seconds == 77


def test_a_token_that_was_logged_in_with_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert hub_client().token == TOKEN


def test_a_token_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for spoilt in (b"\xff\xfe", None):
        path = tmp_path / "token"
        path.write_bytes(spoilt) if spoilt else path.unlink()
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(path if spoilt else tmp_path))
        with pytest.raises(CouldNotRead, match="correct that file, or set HF_TOKEN"):
            hub_client()


def test_no_request_of_huggingface_hub_made_for_us_lasts_for_ever(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    hub.fault(host="hub", path="/api/models/org/model", times=FOR_EVER, delay=3.0)
    with bounded(Patience(read_seconds=0.2)), pytest.raises(Exception, match="timed out"):
        HfApi(endpoint=hub.endpoint, token=False).model_info(MODEL)


def test_requests_of_the_program_itself_stay_as_they_are(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    with bounded(Patience(read_seconds=0.2)):
        pass
    hub.fault(host="hub", path="/api/models/org/model", delay=0.5)
    assert HfApi(endpoint=hub.endpoint, token=False).model_info(MODEL).sha


def test_the_program_logs_its_own_requests_and_not_ours(hub: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    read(repository_of(client_of(hub)), WEIGHTS, 0, 10)
    assert not caplog.records
    get_session().get(f"{hub.endpoint}/api/models/{MODEL}")
    assert caplog.records


def test_a_client_closed_by_another_thread_is_made_anew(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    client = client_of(hub)
    repository = repository_of(client)
    session = get_session()
    close_session()
    assert session.is_closed
    assert read(repository, WEIGHTS, 0, 10) == CONTENT[:10]


def test_a_client_closed_between_being_given_and_used_is_made_anew(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    repository = repository_of(client_of(hub))
    sessions = [get_session()]
    sessions[0].close()
    monkeypatch.setattr("huggingface_hub.get_session", lambda: sessions.pop() if sessions else fresh(), raising=False)

    def fresh():
        close_session()
        return get_session()

    assert read(repository, WEIGHTS, 0, 10) == CONTENT[:10]


@pytest.mark.parametrize(
    ("variable", "value", "mention"),
    [
        ("SSL_CERT_FILE", "/nowhere/at/all", "SSL_CERT_FILE .* correct it"),
        ("HTTPS_PROXY", "gopher://proxy.test", "HTTPS_PROXY.* correct or unset it"),
    ],
)
def test_an_environment_in_which_no_client_can_be_made_is_told(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, mention: str
) -> None:
    client = client_of(hub)
    close_session()
    monkeypatch.setenv(variable, value)
    with pytest.raises(CouldNotRead, match=mention):
        repository_of(client)


def test_nothing_is_asked_offline(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CouldNotRead, match="HF_HUB_OFFLINE is set"):
        repository_of(client_of(hub))
    assert not hub.log


NO_ENDPOINTS = (
    "http://[::1",
    "http://host.test:notaport",
    "http://user:pa/ss@host.test",
    "http://user:12/ss@host.test",
    "http://user:pa?ss@host.test",
    "http://user:12#ss@host.test",
    "huggingface.co",
    "ftp://host.test",
    "https://",
    "https://host.test:70000",
    "https://host.test/?mirror",
    " https://host.test",
    "https://ho\nst.test",
    "",
)


@pytest.mark.parametrize("endpoint", NO_ENDPOINTS)
@pytest.mark.parametrize("first", [is_offline, hub_client])
def test_an_endpoint_that_is_no_address_is_told_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, first: Callable[[], object]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(CouldNotRead, match="HF_ENDPOINT is no address of a Hub") as caught:
        first()
    assert str(caught.value) == "HF_ENDPOINT is no address of a Hub; write it as https://host"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://huggingface.co",
        "http://127.0.0.1:8080/",
        "http://[::1]:80/hf",
        "https://me:secret@mirror.test",
        "HTTPS://h",
    ],
)
def test_an_endpoint_that_is_an_address_is_taken(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert not is_offline()


def test_an_endpoint_with_which_huggingface_hub_cannot_be_imported_is_told(tmp_path: Path) -> None:
    for endpoint in ("http://[::1", "http://host.test:secret", "huggingface.co"):
        done = subprocess.run(  # noqa: S603 - a program of our own
            [sys.executable, "-m", "jaynes_audit", "audit", MODEL],
            env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == ExitCode.COULD_NOT_FINISH
        assert "HF_ENDPOINT is no address of a Hub; write it as https://host" in done.stdout + done.stderr
        assert endpoint not in done.stdout + done.stderr
        assert "mistake in jaynes" not in done.stdout + done.stderr


def test_a_variable_with_which_huggingface_hub_cannot_be_imported_is_told(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - a program of our own
        [sys.executable, "-m", "jaynes_audit", "audit", MODEL],
        env=os.environ | {"HF_HUB_DOWNLOAD_TIMEOUT": "soon", "HF_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.COULD_NOT_FINISH
    assert "a variable HF_... has no meaning to huggingface_hub; correct the environment" in done.stdout + done.stderr


# ---- redirects of the API


def test_a_model_that_was_renamed_is_found_by_its_old_name(hub: LoopbackHub) -> None:
    commit = hub.commit(MODEL, {WEIGHTS: CONTENT}, private=True, readers=[TOKEN])
    for path in (f"revision/{commit}", f"tree/{commit}?recursive=true"):
        location = f"/api/models/{MODEL}/{path}"
        hub.fault(host="hub", path="/org/old/", status=307, headers={"Location": location})
    assert set(repository_of(client_of(hub, token=TOKEN), "org/old").files) == {WEIGHTS}
    assert [record.status for record in hub.log] == [307, 200, 307, 200]
    assert all(record.authorization == f"Bearer {TOKEN}" for record in hub.log)


def test_the_body_of_a_redirect_is_not_read(hub: LoopbackHub) -> None:
    commit = hub.commit(MODEL, {WEIGHTS: CONTENT})
    url = f"{hub.endpoint}/api/models/{MODEL}/revision/main"
    stalled = {"body": bytes(2000), "stall_after": 1000}  # whoever reads it waits in vain, and asks again
    hub.fault(host="hub", path="/revision/", status=302, headers={"Location": url}, **stalled)
    clock = Clock()
    assert repository_of(client_of(hub, clock=clock)).commit == commit
    assert [record.status for record in hub.log] == [302, 200, 200]
    assert not clock.pauses


def test_a_server_that_the_api_redirects_to_is_not_given_the_token(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    hub.fault(host="hub", path="/revision/", times=FOR_EVER, status=302, headers={"Location": f"{hub.cdn}/x"})
    with pytest.raises(CouldNotRead):
        repository_of(client_of(hub, token=TOKEN, tries=2))
    assert {record.host for record in hub.log} == {"hub", "cdn"}
    assert all(record.authorization is None for record in hub.log if record.host == "cdn")


@pytest.mark.parametrize("location", ["/api/models/org/model/revision/main", None])
def test_an_api_that_redirects_in_a_ring_is_given_up(hub: LoopbackHub, location: str | None) -> None:
    hub.fault(
        host="hub", path="/revision/", times=FOR_EVER, status=307, headers={"Location": location} if location else {}
    )
    with pytest.raises(CouldNotRead, match="to nowhere; check HF_ENDPOINT"):
        repository_of(client_of(hub, tries=1))
    assert len(hub.log) == 7


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "http://a:99999999/", "http://a:b/", "http://" + "x" * 300 + ".invalid/", "ftp://x/", "//", "\\"],
)
def test_an_api_that_redirects_to_no_address_is_given_up(hub: LoopbackHub, location: str) -> None:
    hub.fault(host="hub", path="/revision/", times=FOR_EVER, status=302, headers={"Location": location})
    with pytest.raises(CouldNotRead) as caught:
        repository_of(client_of(hub, tries=2))
    assert "x" * 254 not in str(caught.value)


def test_a_program_of_its_own_is_led_by_its_environment(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = hub.commit(MODEL, {WEIGHTS: CONTENT}, private=True, readers=[TOKEN])
    program = """
from jaynes_audit.analyzers.checkpoints.hub.cache import cached_snapshot
from jaynes_audit.analyzers.checkpoints.hub.client import is_offline
from jaynes_audit.analyzers.checkpoints.hub.location import hub_location
from jaynes_audit.analyzers.checkpoints.hub.place import Mode, open_hub
location = hub_location("org/model")
if is_offline():
    print(cached_snapshot(location).commit)
else:
    (open_hub(location, Mode.CACHE) / "model.safetensors").source().close()
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = kept | {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    for more, expected in (({"HF_ENDPOINT": hub.endpoint}, ""), ({"HF_HUB_OFFLINE": "1"}, commit)):
        done = subprocess.run(  # noqa: S603 - a program of our own
            [sys.executable, "-c", program], env=environment | more, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == expected
        assert not done.stderr
    assert (tmp_path / "home" / "hub" / "models--org--model" / "refs" / "main").read_text() == commit


def test_a_file_downloaded_by_huggingface_hub_is_the_one_we_read(hub: LoopbackHub) -> None:
    commit = hub.commit(MODEL, {WEIGHTS: CONTENT})
    path = hf_hub_download(MODEL, WEIGHTS, revision=commit, endpoint=hub.endpoint, token=False)
    assert Path(path).read_bytes() == read(repository_of(client_of(hub)), WEIGHTS, 0, len(CONTENT))
