"""Requests and answers, before they are bytes on a connection."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from tests.support.hub.content import Content, InMemory
from tests.support.hub.faults import Host

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
XML = "application/xml"
BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks. `target` is the path and the query, as they came; the names of `headers` are lower-case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, percent-encoded as it came."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of every parameter."""
        return dict(self.parameters)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """All parameters, in their order."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def token(self) -> str | None:
        """The access token, if one was sent."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the Hub answers. One of status 200 with Accept-Ranges may be asked for a range of its content."""

    status: int
    content: Content = field(default=InMemory(b""))
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer that ends the handling of a request, from wherever it turned out to be the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer


@dataclass(slots=True, kw_only=True)
class Record:
    """A request that came, and how far its answer has gone: `status` 0 is none yet, or none at all.

    `sent` counts the bytes of the body that were handed to the connection, `connection` numbers the connections.
    """

    host: Host
    method: str
    path: str
    headers: Mapping[str, str]
    connection: int
    status: int = 0
    sent: int = 0

    @property
    def authorization(self) -> str | None:
        """The Authorization header, if it was sent: on the CDN it never should be."""
        return self.headers.get("authorization")

    @property
    def range(self) -> str | None:
        """The Range header, if it was sent."""
        return self.headers.get("range")


def as_json(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of the API."""
    content = InMemory(json.dumps(value).encode())
    return Answer(status=status, content=content, headers={"Content-Type": JSON, **(headers or {})})


def refusal(status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> Refused:
    """An error of the Hub: the client's exceptions follow from its X-Error-Code, or from its X-Error-Message."""
    printable = "".join(character if " " <= character <= "~" else "?" for character in message)
    codes = {} if code is None else {"X-Error-Code": code}
    about = {"X-Error-Message": printable, **codes, **(headers or {})}
    return Refused(as_json({"error": message}, status=status, headers=about))
