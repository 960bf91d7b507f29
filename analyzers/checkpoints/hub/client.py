"""Requests to the Hub, over the connections that huggingface_hub shares with the rest of the program.

So proxies, certificates, HF_HUB_OFFLINE and a client factory that the program has set hold here too. Nothing of the
program's is changed but for two things that act during our own requests alone: what those log is dropped, for it may
hold signed addresses, and requests that huggingface_hub makes for us without a timeout get one.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import quote, urljoin, urlsplit

from jaynes_audit.analyzers.checkpoints.hub.errors import (
    TRANSIENT_STATUSES,
    Asked,
    gave_up,
    host_of,
    interrupted_by,
    interrupted_by_status,
    parts_of,
    refused,
)
from jaynes_audit.analyzers.checkpoints.hub.patience import Attempts, Interrupted, Pace, Patience
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.errors import CouldNotRead

USER_AGENT = "jaynes-audit"
TRIES_TO_BEGIN = 3  # connections to a Hub that has not answered yet
LARGEST_ANSWER_BYTES = 64 << 20  # of the API; a page of a listing has 1,000 rows of some 300 bytes
OK = 200
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 6

_ANYWHERE = {"User-Agent": USER_AGENT}  # what every request carries, to whatever server
_NEXT_PAGE = re.compile(r'<([^>]*)>\s*;\s*rel="next"')

_PORTS = {"http": 80, "https": 443}

_ASKING: ContextVar[Patience | None] = ContextVar("_ASKING", default=None)
"""The patience of our own request that this thread is in, if it is in one."""

_LOGGERS = (
    "httpx",
    "httpx2",
    *(f"{core}.{part}" for core in ("httpcore", "httpcore2") for part in ("connection", "http11", "http2", "proxy")),
    "huggingface_hub.utils._http",
    "huggingface_hub.file_download",
    "huggingface_hub.utils._xet",
)


class Answer(Protocol):
    """What is used of a response of httpx or httpx2."""

    @property
    def status_code(self) -> int:
        """The status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, whatever the case of their names."""

    def iter_raw(self) -> Iterator[bytes]:
        """The body as it comes."""

    def iter_bytes(self) -> Iterator[bytes]:
        """The body, decompressed."""


class Request(Protocol):
    """What is used of a request of httpx or httpx2."""

    @property
    def extensions(self) -> MutableMapping[str, Any]:
        """What the transport is told, its timeouts among it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How the Hub is asked: where it is, with what token, and with how much patience."""

    endpoint: str
    token: str | None = field(repr=False)
    patience: Patience

    @property
    def headers(self) -> dict[str, str]:
        """What every request to the Hub carries, and none to another server."""
        return _ANYWHERE | ({"Authorization": f"Bearer {self.token}"} if self.token else {})

    def asked(self, repo: str, *, revision: str = "", commit: str = "", path: str = "") -> Asked:
        """Say what is asked, for the sentences about errors."""
        return Asked(
            repo=repo,
            endpoint=self.endpoint,
            authenticated=bool(self.token),
            revision=revision,
            commit=commit,
            path=path,
        )

    def is_hub(self, url: str) -> bool:
        """Whether an address is the Hub's own, and so may be given the token."""
        origin = _origin(url)
        return origin is not None and origin == _origin(self.endpoint)

    def resolve_url(self, asked: Asked) -> str:
        """Give the address that leads to a file's bytes at the pinned commit."""
        return f"{self.endpoint}/{asked.repo}/resolve/{asked.commit}/{quote(asked.path)}"

    @contextmanager
    def answer(self, method: str, url: str, *, headers: Mapping[str, str]) -> Iterator[Answer]:
        """Send one request, and give its answer before its body is read. No redirect is followed.

        Raises:
            Interrupted: when another request may succeed.
            CouldNotRead: when none will.
        """
        from huggingface_hub import get_session  # noqa: PLC0415 - half a second that local audits do not need

        patience = self.patience
        timeout = (patience.connect_seconds, patience.read_seconds, patience.read_seconds, patience.read_seconds)
        with _usable():
            session = get_session()
        try:
            with (
                _asking(patience),
                session.stream(method, url, headers=dict(headers), timeout=timeout, follow_redirects=False) as got,
            ):
                yield got
        except _http_errors() as error:
            raise interrupted_by(error, host_of(url)) from None
        except RuntimeError as error:
            if not session.is_closed:  # by another thread, after its connection failed
                raise
            raise interrupted_by(error, host_of(url)) from None

    def get_json(self, url: str, asked: Asked) -> tuple[Any, str]:
        """Ask the Hub's API: what it answered, and the address of the page that follows, "" after the last.

        Raises:
            CouldNotRead: when the Hub refuses, or does not answer after many tries.
        """
        attempts = Attempts(self.patience, unreachable_tries=TRIES_TO_BEGIN)
        while True:
            try:
                return self._get_json(url, asked)
            except Interrupted as failure:
                if not attempts.wait(failure, what=asked):
                    raise gave_up(asked, failure) from None

    def _get_json(self, url: str, asked: Asked) -> tuple[Any, str]:
        """Follow redirects by hand, for httpx would read their bodies, which may have no end."""
        for _ in range(MOST_REDIRECTS + 1):
            with self.answer("GET", url, headers=self.headers if self.is_hub(url) else _ANYWHERE) as answer:
                if answer.status_code not in REDIRECTS:
                    content = self._content(answer, asked)
                    return self._parsed(content, url, answer.headers.get("Link", ""))
                location = answer.headers.get("Location", "")
            try:
                url = urljoin(url, location)
            except ValueError:
                break
        raise Interrupted("the Hub redirects to nowhere", advice="check HF_ENDPOINT")

    def _content(self, answer: Answer, asked: Asked) -> bytes:
        if answer.status_code in TRANSIENT_STATUSES:
            raise interrupted_by_status(answer.status_code, answer.headers)
        if answer.status_code != OK:
            raise refused(asked, answer.status_code, answer.headers)
        content = bytearray()
        pace = Pace(self.patience)
        for piece in answer.iter_bytes():
            content += piece
            pace.add(len(piece))
            if len(content) > LARGEST_ANSWER_BYTES:
                raise CouldNotRead(f"the Hub's answer about {asked} has no end; check HF_ENDPOINT")
        return bytes(content)

    def _parsed(self, content: bytes, url: str, link: str) -> tuple[Any, str]:
        following = _NEXT_PAGE.search(link)
        try:
            return json.loads(content), self._own(urljoin(url, following[1])) if following else ""
        except (ValueError, RecursionError):
            raise Interrupted("the answer is no JSON", advice="check HF_ENDPOINT and the proxy") from None

    def _own(self, url: str) -> str:
        """Give an address at our own endpoint: a mirror may pass the Hub's own on."""
        if self.is_hub(url):
            return url
        parts, own = urlsplit(url), urlsplit(self.endpoint)
        return parts._replace(scheme=own.scheme, netloc=own.netloc).geturl()


def hub_client(*, endpoint: str = "", token: str = "", patience: Patience | None = None) -> Client:
    """Make a client; what is not given is what huggingface_hub's environment says (HF_ENDPOINT, HF_TOKEN, HF_HOME ...).

    Raises:
        CouldNotRead: when HF_ENDPOINT is no address, or the token cannot be one, or cannot be read.
    """
    _check_environment()
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    patience = patience or Patience()
    if constants.HF_HUB_DOWNLOAD_TIMEOUT != constants.DEFAULT_DOWNLOAD_TIMEOUT:
        patience = replace(patience, read_seconds=float(constants.HF_HUB_DOWNLOAD_TIMEOUT))
    if not token and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        token = _token_of_the_machine(patience)
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise CouldNotRead("the token holds characters that no token has; correct HF_TOKEN, or log in again")
    return Client(endpoint=(endpoint or constants.ENDPOINT).rstrip("/"), token=token or None, patience=patience)


def _check_environment() -> None:
    """See that huggingface_hub can be imported, which some values of its variables prevent.

    No value is ever told, for HF_ENDPOINT may hold a password.
    """
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint is not None and not _is_endpoint(endpoint):
        raise CouldNotRead("HF_ENDPOINT is no address of a Hub; write it as https://host")
    try:
        import_module("huggingface_hub.constants")
    except ValueError:  # of a number of seconds, for instance
        raise CouldNotRead("a variable HF_... has no meaning to huggingface_hub; correct the environment") from None


def _is_endpoint(address: str) -> bool:
    parts = parts_of(address)
    if parts is None or parts.scheme not in _PORTS or host_of(address) != parts.hostname:
        return False
    # A password with a "/", "?" or "#" in it leaves an "@" in the path, or a query, or a fragment.
    is_bare = not (parts.query or parts.fragment or "@" in parts.path)
    return is_bare and address.isprintable() and " " not in address


def _token_of_the_machine(patience: Patience) -> str:
    """Give HF_TOKEN or the token that was logged in with, which may have to be renewed at the Hub; "" without any."""
    from huggingface_hub import constants, get_token  # noqa: PLC0415 - as above

    try:
        with bounded(patience):
            return get_token() or ""
    except _setup_errors():
        raise CouldNotRead(
            f"the token in {quoted_path(constants.HF_TOKEN_PATH)} cannot be read; correct that file, or set HF_TOKEN"
        ) from None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids requests. Raises CouldNotRead when HF_ENDPOINT is no address."""
    _check_environment()
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    return constants.HF_HUB_OFFLINE


@contextmanager
def bounded(patience: Patience) -> Iterator[None]:
    """Let no request that huggingface_hub makes inside wait without end, nor log."""
    from huggingface_hub import get_session  # noqa: PLC0415 - as above

    with _usable():
        session = get_session()
    hooks = session.event_hooks
    if _fill_in_timeouts not in hooks["request"]:
        session.event_hooks = {**hooks, "request": [*hooks["request"], _fill_in_timeouts]}
    with _asking(patience):
        yield


@contextmanager
def _usable() -> Iterator[None]:
    """Tell in words why the shared client cannot be made: it reads certificates, and the addresses of proxies."""
    try:
        yield
    except OSError:
        raise CouldNotRead(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read; correct it"
        ) from None
    except _setup_errors():
        raise CouldNotRead(
            "the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names cannot be used; correct or unset it"
        ) from None


@contextmanager
def _asking(patience: Patience) -> Iterator[None]:
    _be_discreet()
    before = _ASKING.set(patience)
    try:
        yield
    finally:
        _ASKING.reset(before)


def _fill_in_timeouts(request: Request) -> None:
    patience = _ASKING.get()
    if patience is None:
        return
    ours = {
        "connect": patience.connect_seconds,
        "read": patience.read_seconds,
        "write": patience.read_seconds,
        "pool": patience.read_seconds,
    }
    given = {name: seconds for name, seconds in request.extensions.get("timeout", {}).items() if seconds is not None}
    request.extensions["timeout"] = ours | given


class _Discretion(logging.Filter):
    """Drops what is logged during our own requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return _ASKING.get() is None


@cache
def _be_discreet() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_Discretion())


@cache
def _http_errors() -> tuple[type[Exception], ...]:
    """The errors of httpx or httpx2, whichever huggingface_hub uses, of the system, and of encoding a host's name."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - as above

    http_error = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    return http_error, sys.modules[http_error.__module__].InvalidURL, OSError, UnicodeError


@cache
def _setup_errors() -> tuple[type[Exception], ...]:
    """The same, and those of values in the environment that mean nothing, or need a package that is not there."""
    return (*_http_errors(), ValueError, ImportError)


def _origin(url: str) -> tuple[str, str | None, int | None] | None:
    """The scheme, host and port of an address; None when it makes no sense."""
    parts = parts_of(url)
    return (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)) if parts else None
