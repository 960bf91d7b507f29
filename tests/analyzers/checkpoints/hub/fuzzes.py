"""What a Hub may answer, damaged: `test_fuzz` tries a few thousand, and `python -m` this module as many as wanted."""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from jaynes_audit.analyzers.checkpoints.hub.client import Client
from jaynes_audit.analyzers.checkpoints.hub.errors import Asked, gave_up, refused
from jaynes_audit.analyzers.checkpoints.hub.location import HubLocation, hub_location
from jaynes_audit.analyzers.checkpoints.hub.patience import Interrupted, Patience
from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace, Streamed
from jaynes_audit.analyzers.checkpoints.hub.ranges import RangeReader
from jaynes_audit.analyzers.checkpoints.hub.references import references
from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile, Repository, open_repository
from tests.analyzers.checkpoints.hub.clients import Clock
from tests.support.fuzzing import Damage, Fuzz, survive

COMMIT = "1234567890" * 4
SHA256 = "abcdef01" * 8
LISTING = json.dumps(
    [
        {"type": "directory", "path": "unet", "oid": COMMIT, "size": 0},
        {"type": "file", "path": "config.json", "oid": COMMIT, "size": 2},
        {"type": "file", "path": "unet/a.safetensors", "oid": COMMIT, "size": 10, "lfs": {"oid": SHA256, "size": 10}},
    ]
).encode()
INFO = json.dumps({"id": "org/model", "sha": COMMIT, "siblings": []}).encode()
NAMES = ("main", "step1000", "refs/pr/1", "feature/x", "", "..", "a b", "\ud800", "x" * 300, 3, None, [], {"name": "x"})
REFERENCES = json.dumps(
    {
        "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}],
        "converts": [],
        "tags": [{"name": f"step{step}", "ref": f"refs/tags/step{step}", "targetCommit": COMMIT} for step in range(3)],
    }
).encode()
BETWEEN = b"\n~~~\n"

START, END, SIZE = 10, 74, 1000
BODY = bytes(range(END - START))
HEAD = (
    f'302\nX-Repo-Commit: {COMMIT}\nX-Linked-Size: {SIZE}\nX-Linked-ETag: "{SHA256}"\nLocation: http://cdn.test/x\n\n'
)
DIRECT = f"200\nX-Repo-Commit: {COMMIT}\nContent-Length: {SIZE}\n\n"
PART = f"206\nContent-Range: bytes {START}-{END - 1}/{SIZE}\nContent-Length: {len(BODY)}\n\n"
LIMITED = '429\nRateLimit: "resolvers";r=0;t=5\nRetry-After: 3\n\n'
GATED = "403\nX-Error-Code: GatedRepo\nX-Error-Message: Access\n\n"


# ---- answers of the API


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldClient(Client):
    """A client to which the Hub's API says what the test wants."""

    answers: list[bytes]

    def get_json(self, url: str, asked: Asked) -> tuple[Any, str]:
        del url
        try:
            return json.loads(self.answers.pop(0)), ""
        except (ValueError, RecursionError, IndexError):
            raise gave_up(asked, Interrupted("no JSON")) from None


def read_listing(content: bytes) -> None:
    """Open a model of which the Hub says this, and walk through all of it."""
    client = ToldClient(endpoint="http://hub.test", token=None, patience=Patience(), answers=content.split(BETWEEN))
    repository = open_repository(hub_location("org/model"), client)
    walk(HubPlace(repository=repository, reading=Streamed(repository)))


def read_references(content: bytes) -> None:
    """List the versions of a model of which the Hub says this: each can be named, and is named once."""
    client = ToldClient(endpoint="http://hub.test", token=None, patience=Patience(), answers=[content])
    found = references("org/model", client)
    assert len({each.name for each in found}) == len(found)
    for each in found:
        location = HubLocation(repo="org/model", revision=each.name)
        assert hub_location(str(location)) == location
        assert len(each.commit) == len(COMMIT)


def walk(place: HubPlace) -> None:
    assert not place.is_absent()
    place.identity()
    if not place.is_folder():
        assert place.file.size_bytes >= 0
        assert place.parent / place.name == place
        return
    for name in place.names():
        assert name not in {"", ".", ".."}
        walk(place / name)


# ---- answers about ranges


@dataclass(frozen=True, slots=True)
class SaidAnswer:
    """An answer as it was written down: a status, headers, an empty line, the body."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes

    def iter_raw(self) -> Iterator[bytes]:
        yield self.body[:20]
        yield self.body[20:]

    def iter_bytes(self) -> Iterator[bytes]:
        return self.iter_raw()


def said(content: bytes) -> SaidAnswer:
    head, _, body = content.partition(b"\n\n")
    status, *lines = head.decode("latin-1").split("\n")
    pairs = (line.partition(": ") for line in lines)
    number = int(status) if status.isascii() and status.isdigit() and len(status) == 3 else 500
    return SaidAnswer(number, {name: value for name, _, value in pairs}, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class SayingClient(Client):
    """A client that is answered with what the test wants, over and over."""

    answers: list[SaidAnswer]
    given: list[SaidAnswer]

    @contextmanager
    def answer(self, method: str, url: str, *, headers: Mapping[str, str]) -> Iterator[SaidAnswer]:
        del method
        assert self.is_hub(url) or "Authorization" not in headers
        self.given.append(self.answers[len(self.given) % len(self.answers)])
        yield self.given[-1]


def read_range(content: bytes) -> None:
    """Read a range from a Hub and a storage that answer so: what comes out is what came in, of the right place."""
    clock = Clock()
    patience = Patience(tries=3, now=clock.now, sleep=clock.sleep, jitter=lambda: 0.0)
    answers = [said(each) for each in content.split(BETWEEN)]
    client = SayingClient(endpoint="http://hub.test", token="hf_x", patience=patience, answers=answers, given=[])  # noqa: S106
    file = HubFile(path="a.safetensors", size_bytes=SIZE, sha256=SHA256)
    repository = Repository(
        client=client, repo="org/model", revision="main", commit=COMMIT, files={file.path: file}, folders={"": {}}
    )
    buffer = bytearray(END - START)
    RangeReader(repository).read_into(file, START, memoryview(buffer))
    last = client.given[-1]
    assert last.status_code == 206
    assert last.headers["Content-Range"].endswith(f"-{END - 1}/{SIZE}")
    assert bytes(buffer).endswith(last.body)


def read_refusal(content: bytes) -> None:
    """Put any answer into words."""
    answer = said(content)
    sentence = str(
        refused(Asked(repo="org/model", endpoint="http://hub.test", authenticated=False), 403, answer.headers)
    )
    assert sentence.isprintable()


def swap_header(content: bytearray, dice: random.Random) -> None:
    """A header gets the value of another."""
    lines = bytes(content).split(b"\n")
    one, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    lines[one] = lines[one].partition(b": ")[0] + b": " + lines[other].partition(b": ")[2]
    content[:] = b"\n".join(lines)


def set_status(content: bytearray, dice: random.Random) -> None:
    """A status becomes another."""
    parts = bytes(content).split(BETWEEN)
    one = dice.randrange(len(parts))
    status = dice.choice((200, 204, 206, 301, 307, 400, 401, 403, 404, 410, 416, 429, 451, 500, 503, 999))
    parts[one] = str(status).encode() + parts[one][3:]
    content[:] = BETWEEN.join(parts)


def shift_number(content: bytearray, dice: random.Random) -> None:
    """A digit becomes another."""
    digits = [at for at, byte in enumerate(content) if 0x30 <= byte <= 0x39]
    if digits:
        content[dice.choice(digits)] = dice.randrange(0x30, 0x3A)


def change_reference(content: bytearray, dice: random.Random) -> None:
    """A name, or a whole list, becomes something else."""
    with suppress(ValueError, TypeError, LookupError, RecursionError, AttributeError):
        answer = json.loads(content)
        kind = dice.choice(list(answer))
        if dice.random() < 0.2:
            answer[kind] = dice.choice(NAMES)
        else:
            row = dice.choice(answer[kind])
            row[dice.choice(list(row))] = dice.choice(NAMES)
        content[:] = json.dumps(answer).encode()


DAMAGES: tuple[Damage, ...] = (swap_header, set_status, shift_number)

FUZZES: Mapping[str, Fuzz] = {
    "listings": Fuzz(corpus=lambda: [INFO + BETWEEN + LISTING], read=read_listing, damages=(shift_number,)),
    "ranges": Fuzz(
        corpus=lambda: [
            HEAD.encode() + BETWEEN + PART.encode() + BODY,
            DIRECT.encode() + BETWEEN + PART.encode() + BODY,
            HEAD.encode() + BETWEEN + LIMITED.encode() + BETWEEN + PART.encode() + BODY,
            LIMITED.encode() + BETWEEN + HEAD.encode() + BETWEEN + PART.encode() + BODY[:30],
            GATED.encode() + BETWEEN + HEAD.encode(),
        ],
        read=read_range,
        damages=DAMAGES,
    ),
    "references": Fuzz(corpus=lambda: [REFERENCES], read=read_references, damages=(shift_number, change_reference)),
    "refusals": Fuzz(corpus=lambda: [GATED.encode(), LIMITED.encode()], read=read_refusal, damages=DAMAGES),
}


def main() -> None:
    """Try one of them for long; print how the inputs ended, and the trace of each fault."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name", choices=FUZZES)
    options.add_argument("--inputs", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    ends, faults = survive(FUZZES[chosen.name], inputs=chosen.inputs, seed=chosen.seed)
    for end, count in ends.most_common():
        print(f"{count:9,} {end}")  # noqa: T201
    for fault in faults[:3]:
        print(fault.content, fault.trace)  # noqa: T201
    print(f"{chosen.inputs:9,} inputs, {len(faults):,} faults")  # noqa: T201
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
