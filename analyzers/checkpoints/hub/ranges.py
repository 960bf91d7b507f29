"""Ranges of bytes of the files of one commit, exact or not at all.

A file is looked up once: the Hub's answer, which is checked against the listing, leads to an address that is signed for
an hour, and all ranges are got from there. What a range reader cannot see is a server that sends other bytes under the
right headers: `verification` can.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from urllib.parse import urljoin

from jaynes_audit.analyzers.checkpoints.hub.client import Answer
from jaynes_audit.analyzers.checkpoints.hub.errors import (
    TRANSIENT_STATUSES,
    Asked,
    changed,
    gave_up,
    interrupted_by_status,
    refused,
)
from jaynes_audit.analyzers.checkpoints.hub.patience import Attempts, Interrupted, Pace
from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile, Repository
from jaynes_audit.analyzers.errors import CouldNotRead

ADDRESS_SECONDS = 50 * 60.0  # they are signed for an hour (X-Amz-Expires=3600)
SURELY_VALID_SECONDS = 60.0  # an address refused sooner did not expire
MOST_REDIRECTS = 6
MOST_IN_VAIN = 16  # more than twice the threads an audit streams with: then the network is gone, not one answer
PROGRESS_BYTES = 1 << 16  # less than this before a cut is no progress

OK, PARTIAL, BAD_REQUEST, NOT_SATISFIABLE = 200, 206, 400, 416
FIRST_ERROR = 400
REDIRECTS = range(300, 400)
EXPIRED = frozenset({401, 403, 404, 410})  # what storage servers say of an address whose time is over
AS_IT_IS = {"Accept-Encoding": "identity"}
CHECK_PROXY = "check the proxy, or read through the cache with --cache"

_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(?P<size>\d{1,19})")


@dataclass(frozen=True, slots=True, eq=False)
class _Address:
    """Where a file's bytes are, and since when. `is_hub` is whether the Hub itself sends them, and wants the token."""

    url: str
    since: float
    is_hub: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes `start` to `end` of a file."""

    file: HubFile
    asked: Asked
    start: int
    end: int

    @property
    def is_whole(self) -> bool:
        return self.end - self.start == self.file.size_bytes


class RangeReader:
    """Reads any range of any file of a repository, in any number of threads."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._client = repository.client
        self._addresses: dict[str, _Address] = {}
        self._looking_up: defaultdict[str, Lock] = defaultdict(Lock)
        self._lock = Lock()
        self._in_vain = 0  # reads in a row that patience ended for

    def read_into(self, file: HubFile, start: int, view: memoryview) -> None:
        """Fill `view` with the file's bytes from `start` on, all of which must be inside the file.

        What came before a cut is kept, and the rest asked for. When MOST_IN_VAIN reads in a row were given up, no
        further one is begun: an audit of 90,000 tensors would else wait for days on a network that has gone.

        Raises:
            CouldNotRead: when the Hub refuses, the file is not what the commit lists, or patience is at its end.
        """
        asked = self._repository.asked(file.path)
        if self._in_vain >= MOST_IN_VAIN:
            raise CouldNotRead(f"{asked} was not asked for: {self._in_vain} reads before it were in vain; run it again")
        attempts = Attempts(self._client.patience, unreachable_tries=self._client.patience.tries)
        end = start + len(view)
        at = start
        while at < end:
            began = at
            try:
                for piece in self._pieces(_Part(file, asked, at, end)):
                    view[at - start : at - start + len(piece)] = piece
                    at += len(piece)
            except Interrupted as failure:
                if at == end:  # and something was wrong after it
                    at = began
                if at - began >= PROGRESS_BYTES:
                    attempts.progress()
                if not attempts.wait(failure, what=asked):
                    self._in_vain += 1
                    raise gave_up(asked, failure) from None
        self._in_vain = 0

    def _pieces(self, part: _Part) -> Iterator[bytes]:
        """Give the bytes of a part as they come. Raises Interrupted when they are not all of it."""
        address = self._address(part)
        headers = {**AS_IT_IS, "Range": f"bytes={part.start}-{part.end - 1}"}
        if address.is_hub:
            headers |= self._client.headers
        left = part.end - part.start
        with self._client.answer("GET", address.url, headers=headers) as answer:
            self._check_status(answer, part, address)
            _check_range(answer, part)
            pace = Pace(self._client.patience)
            for piece in answer.iter_raw():
                left -= len(piece)
                if left < 0:
                    raise Interrupted("the server sent more than it announced", advice=CHECK_PROXY)
                yield piece
                pace.add(len(piece))
        if left:
            raise Interrupted("the answer ended early", advice=CHECK_PROXY)

    def _check_status(self, answer: Answer, part: _Part, address: _Address) -> None:
        status = answer.status_code
        if status in {OK, PARTIAL}:
            return
        if status in TRANSIENT_STATUSES:
            raise interrupted_by_status(status, answer.headers)
        if status == NOT_SATISFIABLE:
            raise changed(part.asked, f"it has fewer than {part.end:,} bytes")
        if status in REDIRECTS or (status in EXPIRED and not address.is_hub):
            self._forget(part.file, address)
            expired = self._client.patience.now() - address.since > SURELY_VALID_SECONDS
            raise Interrupted(
                "the storage server refuses the address that the Hub signed", wait_seconds=0.0 if expired else None
            )
        if address.is_hub:
            raise refused(part.asked, status, answer.headers)
        if status == BAD_REQUEST:
            raise CouldNotRead(
                f"the Hub's storage gives out no part of {part.asked}, as it does for files of hundreds of GB; read it "
                "through the cache with --cache"
            )
        raise Interrupted(f"the storage server answered with status {status}")

    # ---- where the bytes are

    def _address(self, part: _Part) -> _Address:
        """Give the file's address, looked up by one thread for all."""
        path = part.file.path
        with self._lock:
            looking_up = self._looking_up[path]
        with looking_up:
            known = self._addresses.get(path)
            if known is None or self._client.patience.now() - known.since > ADDRESS_SECONDS:
                known = self._addresses[path] = self._look_up(part)
            return known

    def _forget(self, file: HubFile, address: _Address) -> None:
        with self._looking_up[file.path]:
            if self._addresses.get(file.path) is address:
                del self._addresses[file.path]

    def _look_up(self, part: _Part) -> _Address:
        asked, client = part.asked, self._client
        url = client.resolve_url(asked)
        for _ in range(MOST_REDIRECTS):
            with client.answer("HEAD", url, headers={**AS_IT_IS, **client.headers}) as answer:
                status = answer.status_code
                if status in TRANSIENT_STATUSES:
                    raise interrupted_by_status(status, answer.headers)
                if status >= FIRST_ERROR:
                    raise refused(asked, status, answer.headers)
                _check_identity(answer, part)
                if status not in REDIRECTS:
                    return _Address(url, client.patience.now(), is_hub=True)
                location = answer.headers.get("Location", "")
            try:
                url = urljoin(url, location)
                is_hub = client.is_hub(url)
            except ValueError:
                break
            if not is_hub:
                return _Address(url, client.patience.now(), is_hub=False)
        raise Interrupted("the Hub redirects to nowhere", advice="check HF_ENDPOINT")


def _check_identity(answer: Answer, part: _Part) -> None:
    """See that the Hub speaks of the very file that the commit lists. Raises CouldNotRead."""
    headers, file = answer.headers, part.file
    commit = headers.get("X-Repo-Commit", part.asked.commit)
    size = headers.get("X-Linked-Size", str(file.size_bytes))
    digest = headers.get("X-Linked-ETag", "").removeprefix("W/").strip('"') or file.sha256
    if commit != part.asked.commit:
        raise changed(part.asked, "the Hub answered for another commit")
    if size != str(file.size_bytes):
        raise changed(part.asked, f"it is said to have another size than {file.size_bytes:,} bytes")
    if file.sha256 and digest != file.sha256:
        raise changed(part.asked, "its digest is another")


def _check_range(answer: Answer, part: _Part) -> None:
    """See that what follows is the very part that was asked for. Raises Interrupted, or CouldNotRead."""
    headers, size = answer.headers, part.file.size_bytes
    if headers.get("Content-Encoding", "identity") != "identity":
        raise Interrupted("the answer is compressed, though it must not be", advice=CHECK_PROXY)
    if answer.status_code == OK:
        if not (part.is_whole and headers.get("Content-Length", str(size)) == str(size)):
            raise Interrupted("the server sends a whole file where a part was asked for", advice=CHECK_PROXY)
        return
    given = headers.get("Content-Range", "")
    of_size = _CONTENT_RANGE.fullmatch(given)
    if of_size and int(of_size["size"]) != size:
        raise changed(part.asked, f"it has another size than {size:,} bytes")
    if given != f"bytes {part.start}-{part.end - 1}/{size}":
        raise Interrupted("the server sends another part than was asked for", advice=CHECK_PROXY)
