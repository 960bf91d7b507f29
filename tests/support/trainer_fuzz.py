"""How the reader of a trainer's log is tried: other values in a real one.

For a long run: `python -m tests.support.fuzzing trainer --inputs 1000000 --seed 7`.
"""

import json
import math
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from uuid import uuid4

from jaynes_audit.analyzers.track.trainer import MOST_STEPS, trainer_log
from tests.support.fuzzing import Fuzz

STATE = Path(__file__).parents[2] / "fixtures" / "run" / "checkpoint-300" / "trainer_state.json"
VALUES = (
    0,
    -1,
    1,
    1 << 63,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    math.nan,
    math.inf,
    None,
    True,
    "1",
    "nan",
    [],
    {},
    [[]],
)
ALREADY_DAMAGED = (ValueError, TypeError, LookupError, RecursionError, OverflowError)


@cache
def corpus() -> Sequence[bytes]:
    """A real log, and a short one."""
    short = {"global_step": 2, "log_history": [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0, "epoch": 0.1}]}
    return STATE.read_bytes(), json.dumps(short).encode(), json.dumps(short).encode()


def change_value(content: bytearray, dice: random.Random) -> None:
    """One value becomes another, or vanishes."""
    with suppress(*ALREADY_DAMAGED):
        state = json.loads(content)
        holder, key = state, dice.choice(list(state))
        while isinstance(holder[key], dict | list) and holder[key] and dice.random() < 0.9:
            holder = holder[key]
            key = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
        if dice.random() < 0.2:
            del holder[key]
        else:
            holder[key] = dice.choice(VALUES)
        content[:] = json.dumps(state).encode()


def nest(content: bytearray, dice: random.Random) -> None:
    """A value lies in lists without end."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = b"[" * dice.choice((1, 100, 50_000))


@cache
def _folder() -> Path:
    folder = Path(gettempdir(), f"trainer-fuzz-{uuid4()}")
    folder.mkdir()
    return folder


def read(content: bytes) -> None:
    """Read the log, and hold it to what it promises."""
    path = _folder() / "trainer_state.json"
    path.write_bytes(content)
    try:
        log = trainer_log(path.parent)
    finally:
        path.unlink()
    assert log.step is None or 0 <= log.step <= MOST_STEPS
    assert all(0 <= step <= MOST_STEPS and math.isfinite(loss) for step, loss in log.losses.items())
    for step in (None, 0, 1, log.step):
        loss = log.loss_at(step)
        assert loss is None or math.isfinite(loss)


FUZZ = Fuzz(corpus=corpus, read=read, damages=(change_value, change_value, change_value, nest))
