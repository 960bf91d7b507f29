"""One origin on the loopback interface: from connections to requests, from answers to bytes, and what goes wrong."""

import gzip
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from tests.support.hub.content import Content, Corrupted, InMemory, Piece, read
from tests.support.hub.exchange import Answer, Record, Refused, Request
from tests.support.hub.faults import Fault, FaultPlan, Host
from tests.support.hub.ranges import ranged

LOOPBACK = "127.0.0.1"
POLL_S = 0.02  # how soon an origin notices that it is to stop
RESET_LINGER = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: closing resets, and does not finish sending
RESET_GRACE_S = 0.05  # a reset at once would overtake the bytes that were sent before it
PACES_A_SECOND = 20  # how smoothly a slow body flows


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What all origins of one Hub have in common: what goes wrong, what was asked, and when it is over.

    `failures` are the errors of the Hub itself, which no request should ever find.
    """

    faults: FaultPlan = field(default_factory=FaultPlan)
    log: list[Record] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    connections: Iterator[int] = field(default_factory=lambda: count(1))


class Origin(ThreadingHTTPServer):
    """A server of its own on a free port, from construction until `stop`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, host: Host, answer: Callable[[Request], Answer], wire: Wire) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.host = host
        self.answer = answer
        self.wire = wire
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(POLL_S,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, and end those under way."""
        self.shutdown()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that has been served."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's
        """Remember what failed here; that a client hung up is no failure."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.wire.failures.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Origin

    def setup(self) -> None:
        super().setup()
        self._number = next(self.server.wire.connections)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        origin = self.server
        request = Request(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        record = Record(
            host=origin.host,
            method=request.method,
            path=request.target,
            headers=request.headers,
            connection=self._number,
        )
        origin.wire.log.append(record)
        fault = origin.wire.faults.next(origin.host, request.method, request.target)
        self._pause(fault.delay)
        if fault.reset:
            self._reset()
            return
        answer = _under(fault, request, origin.answer)
        record.status = answer.status
        self._send_head(answer, fault)
        if request.method != "HEAD":
            self._send_body(answer.content, fault, record)
        self.wfile.flush()

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names that the base class looks up

    def _send_head(self, answer: Answer, fault: Fault) -> None:
        framing = {"Transfer-Encoding": "chunked"} if fault.chunked else {"Content-Length": str(answer.content.size)}
        headers = {"X-Request-Id": f"Root=1-{len(self.server.wire.log):08x}", **answer.headers, **framing}
        gone = {name.lower() for name in (*fault.drop_headers, *fault.headers)}
        self.send_response(answer.status)
        for name, value in headers.items():
            if name.lower() not in gone:
                self.send_header(name, value)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        if "content-length" in gone and not fault.chunked:  # then the body ends with the connection
            self.send_header("Connection", "close")
        self.end_headers()

    def _send_body(self, content: Content, fault: Fault, record: Record) -> None:
        limits = [limit for limit in (fault.truncate, fault.stall_after) if limit is not None]
        stop = min([content.size, *limits])
        began = time.monotonic()
        for piece in _paced(content.pieces(0, stop), fault.rate):
            record.sent += len(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if fault.chunked else piece)
            if fault.rate is not None:
                self.wfile.flush()
                self._pause(record.sent / fault.rate - (time.monotonic() - began))
        if stop < content.size:
            self._break_off(fault, stop)
        elif fault.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _break_off(self, fault: Fault, sent: int) -> None:
        self.wfile.flush()
        self.close_connection = True
        if sent == fault.stall_after:
            self._pause(fault.stall)
        elif fault.truncate_rst:
            self._pause(RESET_GRACE_S)
            self._reset()

    def _pause(self, seconds: float) -> None:
        """Wait, unless the Hub closes: then the connection ends here."""
        if self.server.wire.closing.wait(seconds):
            raise ConnectionAbortedError

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_LINGER)
        self.connection.close()
        self.close_connection = True


def _under(fault: Fault, request: Request, answer_to: Callable[[Request], Answer]) -> Answer:
    """What is answered to the request when this goes wrong."""
    if fault.status is not None:
        return Answer(status=fault.status, content=InMemory(fault.body))
    try:
        answer = ranged(answer_to(request), request, fault)
    except Refused as refused:
        answer = refused.answer
    if fault.corrupt:
        answer = replace(answer, content=Corrupted(answer.content))
    if fault.gzip:
        compressed = InMemory(gzip.compress(read(answer.content), mtime=0))
        answer = replace(answer, content=compressed, headers={**answer.headers, "Content-Encoding": "gzip"})
    return answer


def _paced(pieces: Iterator[Piece], rate: int | None) -> Iterator[Piece]:
    """The pieces, cut so small that a rate in bytes a second can be kept evenly."""
    for piece in pieces:
        step = max(1, len(piece) if rate is None else rate // PACES_A_SECOND)
        for at in range(0, len(piece), step):
            yield piece[at : at + step]
