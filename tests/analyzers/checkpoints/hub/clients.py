"""Clients for tests: impatient ones, whose pauses take no time."""

from dataclasses import replace
from random import Random
from typing import Any

from jaynes_audit.analyzers.checkpoints.hub.client import Client, hub_client
from jaynes_audit.analyzers.checkpoints.hub.location import hub_location
from jaynes_audit.analyzers.checkpoints.hub.patience import Patience
from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace, Mode, open_hub
from jaynes_audit.analyzers.checkpoints.hub.ranges import RangeReader
from jaynes_audit.analyzers.checkpoints.hub.repository import Repository, open_repository
from tests.support.hub import LoopbackHub

MODEL = "org/model"
WEIGHTS = "model.safetensors"
TOKEN = "hf_secretsecretsecret"  # noqa: S105 - of no one
CONTENT = Random(0).randbytes(1_000_000)  # noqa: S311 - for variety, not for secrecy


class Clock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds


def client_of(hub: LoopbackHub, *, token: str = "", clock: Clock | None = None, **patience: Any) -> Client:
    """A client whose pauses pass at once, and that waits half a second for an answer."""
    clock = clock or Clock()
    quick = Patience(read_seconds=0.5, now=clock.now, sleep=clock.sleep, jitter=lambda: 0.0)
    return hub_client(endpoint=hub.endpoint, token=token, patience=replace(quick, **patience))


def repository_of(client: Client, location: str = MODEL) -> Repository:
    return open_repository(hub_location(location), client)


def place_of(client: Client, location: str = MODEL, mode: Mode = Mode.STREAM) -> HubPlace:
    return open_hub(hub_location(location), mode, client)


def read(repository: Repository, path: str, start: int, end: int) -> bytes:
    """Bytes of a file, by a reader that has read nothing before."""
    buffer = bytearray(end - start)
    RangeReader(repository).read_into(repository.files[path], start, memoryview(buffer))
    return bytes(buffer)
