"""Which part of a file an answer gives. Source: RFC 9110, sections 13.1 and 14."""

import re
from dataclasses import replace

from tests.support.hub.content import Rotated, Slice
from tests.support.hub.exchange import Answer, Request
from tests.support.hub.faults import Fault


def ranged(answer: Answer, request: Request, fault: Fault) -> Answer:
    """The answer, or the part of its file that the request asks for and the fault leaves of that.

    As on the Hub, several ranges in one request are not honoured: they get the whole file.
    """
    if answer.status != 200 or "Accept-Ranges" not in answer.headers:
        return answer
    etag = answer.headers["ETag"]
    if request.headers.get("if-match", "*") not in {"*", etag}:
        return Answer(status=412, headers=answer.headers)
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "").strip())
    if asked is None or asked[0] == "bytes=-" or fault.ignore_range or request.headers.get("if-range", etag) != etag:
        return answer
    size = answer.content.size
    start, end = _span(asked[1], asked[2], size)
    if not start < end:
        return Answer(status=416, headers={**answer.headers, "Content-Range": f"bytes */{size}"})
    if fault.short_range is not None:
        end = min(end, start + fault.short_range)
    start, end = max(0, start + fault.shift_range), min(size, end + fault.shift_range)
    return replace(
        answer,
        status=206,
        content=Slice(Rotated(answer.content, fault.lie_range), start, end),
        headers={**answer.headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"},
    )


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """The bytes `[start, end)` that `first-last` means in a file of this size."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
