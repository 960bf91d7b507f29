"""How many requests a client may make in a window of time."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

Bucket = Literal["api", "resolvers"]
"""What the Hub counts apart: requests to /api/, and requests for files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the answer to one request says of its quota, and whether the request was one too many."""

    headers: Mapping[str, str]
    exhausted: bool


class Quotas:
    """Fixed windows, each with its quota of requests; a bucket without a limit is not counted.

    The headers are those of the IETF draft "RateLimit header fields for HTTP", as the Hub writes them.
    """

    def __init__(self, limits: Mapping[Bucket, int], *, window_s: int) -> None:
        self._limits = limits
        self._window_s = window_s
        self._lock = threading.Lock()
        self._used: dict[Bucket, int] = {}
        self._window_ends: dict[Bucket, float] = {}

    def spend(self, bucket: Bucket) -> Spent:
        """Count one request."""
        if bucket not in self._limits:
            return Spent(headers={}, exhausted=False)
        quota = self._limits[bucket]
        with self._lock:
            now = time.monotonic()
            if now >= self._window_ends.get(bucket, now):
                self._used[bucket] = 0
                self._window_ends[bucket] = now + self._window_s
            self._used[bucket] += 1
            remaining = quota - self._used[bucket]
            reset_s = ceil(self._window_ends[bucket] - now)
        headers = {
            "RateLimit": f'"{bucket}";r={max(0, remaining)};t={reset_s}',
            "RateLimit-Policy": f'"fixed window";"{bucket}";q={quota};w={self._window_s}',
        }
        if remaining >= 0:
            return Spent(headers=headers, exhausted=False)
        return Spent(headers={**headers, "Retry-After": str(reset_s)}, exhausted=True)

    def renew(self) -> None:
        """Begin all windows anew."""
        with self._lock:
            self._window_ends.clear()
