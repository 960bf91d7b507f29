"""Every no of the Hub, the network and the cache is one sentence that says what to do, and gives no secret away."""

import errno
import logging
import socket
import ssl
import traceback
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.hub import cache as cache_module
from jaynes_audit.analyzers.checkpoints.hub.client import Client, hub_client
from jaynes_audit.analyzers.checkpoints.hub.errors import Asked, duration, host_of, interrupted_by, without_credentials
from jaynes_audit.analyzers.checkpoints.hub.patience import Interrupted, Patience
from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.analyzers.errors import CouldNotRead
from tests.analyzers.checkpoints.hub.clients import (
    CONTENT,
    MODEL,
    TOKEN,
    WEIGHTS,
    client_of,
    place_of,
    read,
    repository_of,
)
from tests.support.hub import FOR_EVER, LoopbackHub

OTHER_TOKEN = "hf_otherotherother"  # noqa: S105 - of no one
STRANGER = "hf_strangerstranger"


@pytest.fixture
def guarded() -> LoopbackHub:
    """A Hub that knows two tokens, the first of which may read everything."""
    with LoopbackHub(known_tokens=[TOKEN, OTHER_TOKEN]) as hub:
        hub.commit("org/private", {WEIGHTS: CONTENT}, private=True, readers=[TOKEN])
        hub.commit("org/gated", {WEIGHTS: CONTENT}, gated="manual", readers=[TOKEN])
        hub.commit("org/disabled", {WEIGHTS: CONTENT}, disabled=True)
        hub.commit("org/open", {WEIGHTS: CONTENT})
        yield hub


REFUSALS = (
    ("org/none", "", "there is no public model 'org/none'", "hf auth login"),
    ("org/none", OTHER_TOKEN, "there is no model 'org/none' that your token may read", "correct its name"),
    ("org/private", "", "there is no public model 'org/private'", "if it is private, log in"),
    ("org/private", OTHER_TOKEN, "there is no model 'org/private' that your token may read", "ask its owner"),
    ("org/gated", "", "'org/gated' is gated", "/org/gated, then log in with 'hf auth login', or set HF_TOKEN"),
    ("org/gated", OTHER_TOKEN, "your token has no access to it", "ask for access at http"),
    ("org/disabled", "", "has been disabled", "choose another"),
    ("org/open", STRANGER, "the Hub does not accept the token", "HF_TOKEN"),
    ("org/open@v9", "", "'org/open' has no revision 'v9'", "/org/open/tree/main lists"),
)


@pytest.mark.parametrize(("name", "token", "why", "what_to_do"), REFUSALS)
def test_a_refusal_of_the_hub_says_what_to_do(
    guarded: LoopbackHub, name: str, token: str, why: str, what_to_do: str
) -> None:
    for mode in Mode:
        with pytest.raises(CouldNotRead) as caught:
            read_weights(client_of(guarded, token=token), name, mode)
        sentence = str(caught.value)
        assert why in sentence
        assert what_to_do in sentence
        assert sentence.isprintable()


def read_weights(client: Client, name: str, mode: Mode) -> bytes:
    with (place_of(client, name, mode) / WEIGHTS).opened() as (stream, _):
        return stream.read()


def test_a_token_that_may_read_reads(guarded: LoopbackHub) -> None:
    for name in ("org/private", "org/gated", "org/open"):
        assert read(repository_of(client_of(guarded, token=TOKEN), name), WEIGHTS, 0, 10) == CONTENT[:10]


def test_access_lost_during_the_audit_is_told(guarded: LoopbackHub) -> None:
    repository = repository_of(client_of(guarded, token=TOKEN), "org/gated")
    guarded.repos["org/gated"].readers = ()
    with pytest.raises(CouldNotRead, match="ask for access"):
        read(repository, WEIGHTS, 0, 10)


@pytest.mark.parametrize(
    ("status", "mention"), [(403, "does not let"), (404, "status 404"), (451, "disabled"), (402, "status 402")]
)
def test_a_status_without_a_code_is_told(hub: LoopbackHub, status: int, mention: str) -> None:
    hub.fault(host="hub", status=status)
    with pytest.raises(CouldNotRead, match=mention):
        repository_of(client_of(hub))


def test_a_file_that_the_hub_no_longer_has_is_told(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    repository = repository_of(client_of(hub))
    hub.fault(host="hub", method="HEAD", status=404, headers={"X-Error-Code": "EntryNotFound"})
    with pytest.raises(CouldNotRead, match=r"no file 'model\.safetensors' of 'org/model'"):
        read(repository, WEIGHTS, 0, 10)


# ---- the network


class ConnectError(Exception):
    """Stands for the error of httpx of that name."""


class ProxyError(Exception):
    """Stands for the error of httpx of that name."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "mention", "unreachable"),
    [
        (caused(ConnectError(), socket.gaierror(-2, "x")), "the name hub.test cannot be found", True),
        (caused(ConnectError(), ConnectionRefusedError()), "hub.test refused the connection", True),
        (caused(ConnectError(), ssl.SSLError(1, "x")), "no secure connection to hub.test", False),
        (ConnectError(), "hub.test cannot be reached", True),
        (ProxyError(), "the proxy on the way to hub.test", True),
        (OSError(errno.ECONNRESET, "x"), "the connection to hub.test was cut", False),
    ],
)
def test_a_failure_of_the_network_may_pass(error: Exception, mention: str, unreachable: bool) -> None:  # noqa: FBT001
    failure = interrupted_by(error, "hub.test")
    assert isinstance(failure, Interrupted)
    assert mention in str(failure)
    assert failure.unreachable is unreachable
    assert failure.advice


def test_a_certificate_that_is_not_trusted_will_not_be() -> None:
    failure = interrupted_by(caused(ConnectError(), ssl.SSLCertVerificationError(1, "x")), "hub.test")
    assert isinstance(failure, CouldNotRead)
    assert "SSL_CERT_FILE" in str(failure)


def test_a_ring_of_causes_ends() -> None:
    error = ConnectError()
    error.__cause__ = caused(OSError(), error)
    assert isinstance(interrupted_by(error, "hub.test"), Interrupted)


def test_a_name_that_no_server_has_is_told() -> None:
    client = client_of_endpoint("http://no-such-host.invalid")
    with pytest.raises(CouldNotRead, match=r"(the name )?no-such-host\.invalid cannot be (found|reached)"):
        repository_of(client)


def client_of_endpoint(endpoint: str):
    class At:
        pass

    at = At()
    at.endpoint = endpoint
    return client_of(at)


@pytest.mark.parametrize(
    ("seconds", "said"), [(1, "1 seconds"), (90, "90 seconds"), (301, "5 minutes"), (9000, "2 hours")]
)
def test_a_wait_is_said_in_a_unit_that_fits(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# ---- the cache


@pytest.mark.parametrize(
    ("error", "mention"),
    [
        (OSError(errno.ENOSPC, "x"), "no space for 'model.safetensors' of 'org/model' .*HF_HOME.*--stream"),
        (OSError(errno.EDQUOT, "x"), "no space"),
        (PermissionError(errno.EACCES, "x"), "cannot be written; change its access rights"),
        (OSError(errno.EROFS, "x"), "cannot be written"),
        (caused(RuntimeError(), OSError(errno.ENOSPC, "x")), "no space"),
        (ValueError("The file is too large to be downloaded"), "pip install hf_xet"),
        (RuntimeError("of Rust"), "download ended early; .*--stream"),
    ],
)
def test_what_a_download_raises_becomes_a_sentence(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, error: Exception, mention: str
) -> None:
    def failing(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.file_download.hf_hub_download", failing)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", failing, raising=False)
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    repository = repository_of(client_of(hub))
    with pytest.raises(CouldNotRead, match=mention):
        cache_module.downloaded(repository, repository.files[WEIGHTS])


def test_a_cache_that_cannot_be_made_is_told(hub: LoopbackHub, cache: Path) -> None:
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    cache.parent.mkdir()
    cache.write_text("a file where the cache should be")
    place = place_of(client_of(hub), mode=Mode.CACHE) / WEIGHTS
    with pytest.raises(CouldNotRead, match=r"the cache at .* cannot be written"):
        place.source()


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 500}, {"reset": True}])
def test_a_hub_that_fails_during_a_download_is_told(
    hub: LoopbackHub, fault: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # huggingface_hub's own pauses
    hub.commit(MODEL, {WEIGHTS: CONTENT})
    place = place_of(client_of(hub), mode=Mode.CACHE) / WEIGHTS
    hub.fault(host="any", times=FOR_EVER, **fault)
    with pytest.raises(CouldNotRead, match=r"'model\.safetensors' of 'org/model' cannot be read"):
        place.source()


# ---- secrets


def test_no_secret_is_logged_or_told(guarded: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = client_of(guarded, token=TOKEN, tries=2)
    told = [repr(client)]
    for mode in Mode:
        place = place_of(client, "org/private", mode)
        told.append(repr(place) + str(place))
        assert read_weights(client, "org/private", mode) == CONTENT
    guarded.fault(host="any", times=FOR_EVER, status=418)
    try:
        place_of(client, "org/private")
    except CouldNotRead as error:
        told += ["".join(traceback.format_exception(error)), repr(error)]
    reader = place_of_stale(guarded)
    try:
        reader()
    except CouldNotRead as error:
        told += ["".join(traceback.format_exception(error)), repr(error)]
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 4
    for text in told:
        assert TOKEN not in text
        assert "Signature" not in text
        assert guarded.cdn not in text


def place_of_stale(hub: LoopbackHub):
    """What reads from a storage that fails, after the Hub has signed an address."""
    hub.clear()
    repository = repository_of(client_of(hub, token=TOKEN, tries=2), "org/private")
    hub.fault(host="cdn", times=FOR_EVER, status=403)
    return lambda: read(repository, WEIGHTS, 0, 10)


def test_a_password_in_the_endpoint_is_not_told() -> None:
    asked = Asked(repo=MODEL, endpoint="https://me:secret@mirror.test/hf", authenticated=False)
    assert asked.page == "https://mirror.test/hf/org/model"
    assert without_credentials("https://huggingface.co") == "https://huggingface.co"


@pytest.mark.parametrize("address", ["http://[::1", "http://[secret/", "http://me:se/cret@mirror.test:port"])
def test_an_address_without_sense_has_no_host_and_no_secret(address: str) -> None:
    assert host_of(address) == "the server"
    assert not Client(endpoint=address, token=None, patience=Patience()).is_hub(address)
    assert without_credentials(address) == "the Hub"


def test_a_host_that_no_one_could_have_is_not_named() -> None:
    assert host_of("https://[fe80::1]:5/x") == "fe80::1"
    assert host_of("https://cdn.test:5/x") == "cdn.test"
    for address in ("", "https://a\x1b[31m.test/", "https://a b/", f"https://{'x' * 254}/"):
        assert host_of(address) == "the server"


@pytest.mark.parametrize("token", ["hf_a\nb", "hf_…", "hf_a b"])
def test_a_token_that_is_none_is_not_shown(token: str) -> None:
    with pytest.raises(CouldNotRead, match="correct HF_TOKEN") as caught:
        hub_client(token=token)
    assert token not in str(caught.value)
