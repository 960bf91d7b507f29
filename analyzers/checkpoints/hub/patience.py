"""How long a server is waited for, and how often it is asked again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

TELL_FROM_SECONDS = 5.0  # a shorter wait is over before anyone wonders
FIRST_PAUSE_SECONDS = 0.4
LONGEST_PAUSE_SECONDS = 30.0


def _in_silence(sentence: str) -> None:
    del sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What is put up with before a request is given up, and how time passes.

    A request that brought something counts as no failure: the rest is asked for. `tries` failures in a row, or a pause
    that would end later than `budget_seconds` after the last byte came, are the end. `tell` is given a sentence before
    a pause that a user would notice, by whatever thread pauses; `jitter` gives a number in [0, 1).
    """

    tries: int = 8
    budget_seconds: float = 900.0  # three of the Hub's windows of rate limits, which are 300 s
    connect_seconds: float = 10.0
    read_seconds: float = 30.0  # between two pieces of an answer, not for all of it
    slowest_bytes_per_second: int = 4096
    slow_seconds: float = 15.0  # an answer may be slower than that for so long
    tell: Callable[[str], None] = _in_silence
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def pause_seconds(self, failures: int) -> float:
        """The pause after so many failures in a row: twice the last, and never the same for two clients."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (failures - 1))
        return longest * (0.5 + self.jitter() / 2)


class Interrupted(Exception):
    """A request failed in a way that another may not. The message is the part of a sentence that says how.

    `advice` is what the user may do about it. `wait_seconds` is what the server asked to wait, None when it did not
    say. `unreachable` is whether no connection came about at all.
    """

    def __init__(
        self, message: str, *, advice: str = "", wait_seconds: float | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.advice = advice or "run it again later"
        self.wait_seconds = wait_seconds
        self.unreachable = unreachable


class Attempts:
    """The failures of one request so far, and the pauses between them.

    Only `unreachable_tries` connections are tried in a row: where none comes about at once, none will in a minute.
    """

    def __init__(self, patience: Patience, *, unreachable_tries: int) -> None:
        self._patience = patience
        self._unreachable_tries = unreachable_tries
        self._failures = 0
        self._progressed = patience.now()

    def progress(self) -> None:
        """Start to count anew, for something came."""
        self._failures = 0
        self._progressed = self._patience.now()

    def wait(self, failure: Interrupted, *, what: object) -> bool:
        """Wait before the next request; or do not, and say that patience is at its end."""
        patience = self._patience
        self._failures += 1
        tries = self._unreachable_tries if failure.unreachable else patience.tries
        pause = patience.pause_seconds(self._failures) if failure.wait_seconds is None else failure.wait_seconds
        left = self._progressed + patience.budget_seconds - patience.now()
        if self._failures >= tries or pause > left:
            return False
        if pause >= TELL_FROM_SECONDS:
            patience.tell(f"{what}: {failure}; asking again in {pause:.0f} s")
        if pause > 0:
            patience.sleep(pause)
        return True


class Pace:
    """How fast an answer comes. A timeout between two pieces never ends an answer that comes byte by byte."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._began = patience.now()
        self._bytes = 0

    def add(self, length: int) -> None:
        """Count bytes that came. Raises Interrupted when they have come too slowly for too long."""
        patience = self._patience
        self._bytes += length
        seconds = patience.now() - self._began
        if seconds <= patience.slow_seconds:
            return
        if self._bytes < seconds * patience.slowest_bytes_per_second:
            raise Interrupted(
                f"the answer comes slower than {patience.slowest_bytes_per_second:,} bytes a second",
                advice="check the connection and run it again",
            )
        self._began, self._bytes = patience.now(), 0
