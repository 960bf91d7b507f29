"""What may go wrong between a client and the Hub, and when."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Host = Literal["hub", "cdn"]

FOR_EVER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong with the requests it matches. The faults of the body befall every answer that has one.

    Which requests: those to `host` whose method matches `method` wholly and whose path and query match `path`
    somewhere; the first `skip` of them pass, the next `times` are hit.
    """

    host: Literal["hub", "cdn", "any"] = "any"
    method: str = ".*"
    path: str = ".*"
    skip: int = 0
    times: int = 1
    """How many requests are hit; `FOR_EVER`, which is -1, for all."""

    delay: float = 0.0
    """Seconds of silence before the answer."""
    reset: bool = False
    """The connection is reset instead of an answer."""
    status: int | None = None
    """This status is answered, with `headers` and `body` and nothing else."""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Set in the answer, in the place of its own headers of these names."""
    drop_headers: tuple[str, ...] = ()
    """Left out of the answer."""

    ignore_range: bool = False
    """The whole file with 200, whatever range was asked for."""
    shift_range: int = 0
    """Another range than was asked for, so many bytes later, and Content-Range says so."""
    short_range: int | None = None
    """No more than the first so many bytes of the range, and Content-Range says so."""
    lie_range: int = 0
    """The Content-Range that was asked for, over the bytes that stand so much later in the file (after its end, its
    beginning)."""
    corrupt: bool = False
    """One bit flipped, in the byte in the middle of the body."""
    gzip: bool = False
    """The body compressed, and Content-Encoding says so, as a meddling proxy does."""

    truncate: int | None = None
    """The whole length announced, so many bytes of the body sent, the connection closed."""
    truncate_rst: bool = False
    """… and closed by a reset."""
    stall_after: int | None = None
    """So many bytes of the body sent, then silence for `stall` seconds, the connection closed."""
    stall: float = 3600.0
    rate: int | None = None
    """The body sent at so many bytes a second."""
    chunked: bool = False
    """The body in chunks, its length not announced."""


NO_FAULT = Fault()


class PlannedFault:
    """A fault that waits for its requests, and how many it has hit so far."""

    def __init__(self, fault: Fault) -> None:
        self._left = fault
        self._path = re.compile(fault.path)
        self._method = re.compile(fault.method)
        self.hits = 0

    def matches(self, host: Host, method: str, target: str) -> bool:
        """Whether the fault is for this request, if its turn has come."""
        return (
            self._left.host in {"any", host}
            and self._left.times != 0
            and self._method.fullmatch(method) is not None
            and self._path.search(target) is not None
        )

    def strike(self) -> Fault | None:
        """The fault, for a request that it matches; None when that one passes."""
        if self._left.skip:
            self._left = replace(self._left, skip=self._left.skip - 1)
            return None
        if self._left.times != FOR_EVER:
            self._left = replace(self._left, times=self._left.times - 1)
        self.hits += 1
        return self._left


class FaultPlan:
    """The faults to come. A request is hit by one at most, the first planned of those whose turn it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[PlannedFault] = []

    def add(self, fault: Fault) -> PlannedFault:
        """Plan one more."""
        planned = PlannedFault(fault)
        with self._lock:
            self._planned.append(planned)
        return planned

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._planned.clear()

    def next(self, host: Host, method: str, target: str) -> Fault:
        """What goes wrong with this request; `NO_FAULT` when nothing does."""
        with self._lock:
            for planned in self._planned:
                if planned.matches(host, method, target) and (fault := planned.strike()):
                    return fault
        return NO_FAULT
