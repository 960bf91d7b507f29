"""What trainers leave, damaged: a file of theirs stands damaged among sound ones, and all of it is read.

For a long run: `python -m tests.support.fuzzing training_state --inputs 1000000 --seed 7`.
"""

import json
import random
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from zlib import crc32

import numpy as np

from jaynes_audit.analyzers.checkpoints.training_state.reading import training_state_at
from jaynes_audit.analyzers.checkpoints.training_state.state import TrainingState
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from tests.support.fuzzing import MOST_ELEMENTS, Damage, Fuzz, read_tensor
from tests.support.places_in_memory import PlaceInMemory
from tests.support.pytorch_files import checkpoint, pickled, storage, tensor
from tests.support.pytorch_pickle_damages import PICKLE_DAMAGES
from tests.support.pytorch_zip_fuzz import inside

FIXTURES = Path(__file__).parents[2] / "fixtures" / "training_state"
ZIP = b"PK"
ODD_VALUES = (
    *("null", "true", "-1", "0", "0.5", "1e999", "NaN", "-Infinity", "1e15", "9" * 30, '""', '"x"', '"\\ud800"'),
    *("[]", "{}", "[[]]", '{"a":{}}', "[" * 2_000, '[{"params":[0,0]}]', '[{"params":{}}]'),
)


def files_of(folder: str) -> dict[str, bytes]:
    """The files of a folder of the fixtures, by their paths in it."""
    start = FIXTURES / folder
    return {str(path.relative_to(start)): path.read_bytes() for path in sorted(start.rglob("*")) if path.is_file()}


TRAINER = files_of("trainer/checkpoint-5")
SETTINGS = {name: content for name, content in TRAINER.items() if name != "optimizer.pt"}
LEROBOT = files_of("lerobot")
ZERO = {2: files_of("zero2"), 3: files_of("zero3")}
MODEL_STATES = {
    2: "global_step3/mp_rank_00_model_states.pt",
    3: "global_step3/zero_pp_rank_0_mp_rank_00_model_states.pt",
}
OF_LEROBOT = "training_state/{}".format


def corpus() -> tuple[bytes, ...]:
    """Every kind of file that a trainer leaves, and some optimizers by hand."""
    plain = [path.read_bytes() for path in sorted(FIXTURES.iterdir()) if path.suffix in {".pt", ".ckpt"}]
    group = {"lr": 0.5, "amsgrad": False, "betas": (0.9, 0.99), "params": [0, 1], "param_names": ["a", "b"]}
    means = {
        "step": tensor(storage("0", 4), 0, (), ()),
        "exp_avg": tensor(),
        "exp_avg_sq": tensor(None, 0, (2, 2), (2, 1)),
    }
    by_hand = [checkpoint(pickled({"state": {0: means}, "param_groups": [group]}))]
    log = {
        "global_step": 4,
        "max_steps": 9,
        "epoch": 1.5,
        "log_history": [{"step": 2, "learning_rate": 0.5, "loss": 1.0}],
    }
    found = (*plain, *by_hand, *TRAINER.values(), *LEROBOT.values(), json.dumps(log).encode())
    return (*found, *(content for files in ZERO.values() for content in files.values()))


def folders(content: bytes) -> Iterator[Mapping[str, bytes]]:
    """The folders that a file of this content could stand in."""
    if content.startswith(ZIP):
        yield {"optimizer.pt": content, "scheduler.pt": content, "training_args.bin": content}
        yield {**SETTINGS, "training_args.bin": content}
        yield {"last.ckpt": content}
        for stage, files in ZERO.items():
            yield {**files, "global_step3/zero_pp_rank_0_mp_rank_00_optim_states.pt": content}
            yield {**files, MODEL_STATES[stage]: content}
    elif content[:1] in {b"{", b"[", b'"'}:
        yield {**SETTINGS, "trainer_state.json": content}
        yield {"trainer_state.json": content, "training_args.json": content}
        yield {**LEROBOT, OF_LEROBOT("optimizer_param_groups.json"): content}
        beside = ("scheduler_state.json", "training_step.json")
        yield {**LEROBOT, **{OF_LEROBOT(name): content for name in beside}}
    else:
        yield {**LEROBOT, OF_LEROBOT("optimizer_state.safetensors"): content}


def read(content: bytes) -> None:
    """Read one of the folders that the content could stand in, and every element of every mean that is found."""
    choices = list(folders(content))
    state = training_state_at(PlaceInMemory(files=choices[crc32(content) % len(choices)]))
    hold(state)
    if state.refused:
        raise RefusedFile(state.refused[0], rule="told in", case="a sentence")


def hold(state: TrainingState) -> None:
    """Hold what was read to what is promised of it."""
    for sentence in (*state.refused, *state.remarks):
        assert sentence.isprintable()
    if state.history is not None:
        assert state.history.learning_rates.size == state.steps
        assert np.isfinite(state.history.learning_rates).all()
    parameters = state.optimizer.parameters if state.optimizer else ()
    assert len({parameter.key for parameter in parameters}) == len(parameters)
    means = [mean for each in parameters for mean in (each.first, each.second) if mean is not None]
    assert sum(prod(mean.shape) for mean in means) <= MOST_ELEMENTS
    with Sources(Io.PREAD) as sources:
        for mean in means:
            try:
                assert len(read_tensor(mean, sources)) == mean.bytes
            except (RefusedFile, CouldNotRead):
                continue


def odd_value(content: bytearray, dice: random.Random) -> None:
    """A value of a JSON text becomes another."""
    places = [at for at, byte in enumerate(content[:100_000]) if byte in b":,["]
    if content.startswith(ZIP) or not places:
        return
    at = dice.choice(places) + 1
    end = min((found for found in (content.find(mark, at) for mark in b",]}") if found >= 0), default=len(content))
    content[at:end] = dice.choice(ODD_VALUES).encode()


def many_lines(content: bytearray, dice: random.Random) -> None:
    """A trainer's log becomes long, or its counters large."""
    try:
        told = json.loads(content)
        if not isinstance(told, dict):
            return
    except (ValueError, RecursionError):
        return
    history = told.get("log_history")
    if isinstance(history, list):
        told["log_history"] = history * dice.choice((0, 1, 2, 50))
    told[dice.choice(("global_step", "max_steps", "epoch", "step"))] = dice.choice(
        (0, 1, 7, 20_000, 10**7 + 1, 10**12, -3)
    )
    content[:] = json.dumps(told).encode()


DAMAGES: tuple[Damage, ...] = (*map(inside, PICKLE_DAMAGES), odd_value, odd_value, many_lines)
FUZZ = Fuzz(corpus=corpus, read=read, damages=DAMAGES)
