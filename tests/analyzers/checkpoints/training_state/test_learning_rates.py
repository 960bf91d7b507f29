"""From a trainer's log to the learning rate of every update."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.history import RateEvidence, history_of
from jaynes_audit.analyzers.checkpoints.training_state.reading import read_training_state
from jaynes_audit.analyzers.checkpoints.training_state.schedules import MOST_STEPS, Schedule, rates
from jaynes_audit.analyzers.checkpoints.training_state.state import Method, TrainingState
from jaynes_audit.analyzers.checkpoints.training_state.trainer_log import LoggedRate
from tests.support.pytorch_files import call, checkpoint, name, pickled, put

FIXTURES = Path(__file__).parents[4] / "fixtures"
TRAINER = FIXTURES / "training_state" / "trainer"
TRUE_RATES = json.loads((FIXTURES / "training_state" / "expected.json").read_text())["trainer rates"]
COSINE = Schedule(kind="cosine", peak=1e-3, warmup=20, total=400)
STEPS = 300
TRUE = rates(COSINE, STEPS + 1)
assert TRUE is not None


def logged(every: int, *, own: bool, first: int = 0) -> tuple[LoggedRate, ...]:
    """The log of the cosine: with each step the rate of its own update, or that of the update after it."""
    steps = range(max(first, every), STEPS + 1, every)
    return tuple(LoggedRate(step=step, rate=float(TRUE[step - own])) for step in steps)


# ---- a real run of transformers' Trainer


@pytest.mark.parametrize("step", [5, 10])
def test_the_rates_of_a_real_run_are_those_that_its_updates_were_made_with(step: int) -> None:
    state = read_training_state(str(TRAINER / f"checkpoint-{step}"))
    assert state.history is not None
    assert state.history.learning_rates == pytest.approx(TRUE_RATES[:step], rel=1e-12)
    assert "computed again" in state.history.source


@pytest.mark.parametrize("step", [5, 10])
def test_without_the_arguments_they_lie_on_lines_between_the_logged_ones(step: int, tmp_path: Path) -> None:
    shutil.copytree(TRAINER / f"checkpoint-{step}", tmp_path / "run")
    (tmp_path / "run" / "training_args.bin").unlink()
    history = read_training_state(str(tmp_path / "run")).history
    assert history is not None
    own = history.learning_rates[1::2]  # every second was logged
    assert own == pytest.approx(TRUE_RATES[1:step:2], rel=1e-12)
    assert np.abs(history.learning_rates - TRUE_RATES[:step]).max() < 0.2 * max(TRUE_RATES)
    assert history.learning_rates[0] == 0


def test_what_the_trainer_tells_is_known() -> None:
    state = read_training_state(str(TRAINER / "checkpoint-10"))
    assert (state.steps, state.planned_steps, state.steps_per_epoch, state.batch_size) == (10, 12, 5.0, 8)
    assert (state.weight_decay, state.gradient_clip) == (0.2, 0.7)
    assert state.loss == pytest.approx(2.5465, abs=1e-3)


@pytest.mark.parametrize(("step", "age"), [(300, 0.269), (900, 0.945), (3000, 1.971)])
def test_the_ages_of_the_run_in_the_fixtures_come_out(step: int, age: float) -> None:
    state = read_training_state(str(FIXTURES / "run" / f"checkpoint-{step}"))
    assert state.history is not None
    assert state.weight_decay is not None
    assert state.history.learning_rates.sum() * state.weight_decay == pytest.approx(age, abs=5e-4)


# ---- which update a logged rate belongs to


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("every", [1, 7, 50])
def test_a_plan_that_agrees_with_either_way_of_logging_is_used(every: int, *, own: bool) -> None:
    history = history_of(RateEvidence(steps=STEPS, logged=logged(every, own=own), schedule=COSINE))
    assert history is not None
    assert history.learning_rates == pytest.approx(TRUE[:STEPS], rel=1e-12)
    assert history.logged == STEPS // every


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("every", [1, 10])
def test_the_scheduler_tells_how_it_was_logged(every: int, *, own: bool) -> None:
    evidence = RateEvidence(steps=STEPS, logged=logged(every, own=own), initial=1e-3, next_rate=float(TRUE[STEPS]))
    history = history_of(evidence)
    assert history is not None
    at = np.arange(every, STEPS, every) - own
    assert history.learning_rates[at] == pytest.approx(TRUE[at], rel=1e-12)
    off = np.abs(history.learning_rates - TRUE[:STEPS]) / COSINE.peak
    assert off.max() < 0.05  # at the end of the warm-up, a corner that lies between two logged rates
    assert off[COSINE.warmup + every :].max() < 1e-3


def test_a_plan_that_the_log_contradicts_is_not_used() -> None:
    other = Schedule(kind="linear", peak=1e-3, warmup=20, total=400)
    history = history_of(RateEvidence(steps=STEPS, logged=logged(10, own=True), schedule=other))
    assert history is not None
    assert "straight lines" in history.source
    assert history.learning_rates[9::10] == pytest.approx(TRUE[9:STEPS:10], rel=1e-12)


def test_a_plan_is_used_without_a_log_where_the_saved_rate_is_on_it() -> None:
    history = history_of(RateEvidence(steps=STEPS, schedule=COSINE, next_rate=float(TRUE[STEPS])))
    assert history is not None
    assert history.learning_rates == pytest.approx(TRUE[:STEPS])
    assert history.logged == 0
    assert history_of(RateEvidence(steps=STEPS, schedule=COSINE, next_rate=5e-5)) is None
    assert history_of(RateEvidence(steps=STEPS, schedule=COSINE)) is None


# ---- before the first rate that was logged


def lines(points: Sequence[tuple[int, float]], *, initial: float | None = None) -> np.ndarray:
    history = history_of(
        RateEvidence(steps=100, logged=[LoggedRate(step=step, rate=rate) for step, rate in points], initial=initial)
    )
    assert history is not None
    assert history.learning_rates.size == 100
    return history.learning_rates


def test_rates_that_rise_are_taken_for_a_warm_up_from_zero() -> None:
    assert lines([(21, 0.2), (41, 0.4), (61, 0.3)])[:41] == pytest.approx(np.arange(41) / 100)


def test_rates_that_fall_begin_at_the_initial_rate() -> None:
    found = lines([(21, 0.8), (41, 0.6)], initial=1.0)
    assert found[:41] == pytest.approx(1 - np.arange(41) / 100)
    assert found[41:] == pytest.approx(0.6)


def test_one_rate_alone_is_taken_for_all() -> None:
    assert lines([(50, 0.3)]) == pytest.approx(0.3)


def test_the_planned_warm_up_stands_before_a_log_that_begins_after_it() -> None:
    points = [LoggedRate(step=41, rate=0.9), LoggedRate(step=81, rate=0.5)]
    plan = Schedule(kind="cosine", peak=1.0, warmup=10, total=100)
    history = history_of(RateEvidence(steps=100, logged=points, schedule=plan))
    assert history is not None
    assert history.learning_rates[:11] == pytest.approx(np.arange(11) / 10)
    assert history.learning_rates[25] == pytest.approx(0.95)


def test_no_history_is_made_of_nothing_or_of_too_much() -> None:
    assert history_of(RateEvidence(steps=100)) is None
    assert history_of(RateEvidence(steps=MOST_STEPS + 1, logged=[LoggedRate(step=1, rate=1.0)])) is None


def test_before_the_first_update_the_history_is_empty() -> None:
    history = history_of(RateEvidence(steps=0, schedule=COSINE, next_rate=0.0))
    assert history is not None
    assert history.learning_rates.size == 0


# ---- trainer_state.json of strangers


def told(state: object, folder: Path) -> TrainingState:
    (folder / "trainer_state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    return read_training_state(str(folder))


SOUND: Mapping[str, object] = {
    "global_step": 20,
    "max_steps": 40,
    "epoch": 2.0,
    "log_history": [
        {"step": 10, "learning_rate": 0.5, "loss": 2.0},
        {"step": 10, "eval_loss": 1.0},
        {"step": 20, "learning_rate": 0.25, "loss": 1.5},
        {"step": 20, "train_loss": 1.7},
    ],
}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"global_step": 1' + "0" * 5_000 + "}", "not JSON"),
        ("[]", "no JSON object"),
        ({"global_step": "many"}, "no number of updates"),
        ({"global_step": -1}, "no number of updates"),
        (
            {**SOUND, "log_history": [{"step": 9, "learning_rate": 1}, {"step": 8, "learning_rate": 1}]},
            "from step 9 to 8",
        ),
    ],
)
def test_a_log_that_is_none_is_refused_in_one_sentence(content: object, said: str, tmp_path: Path) -> None:
    state = told(content, tmp_path)
    [refused] = state.refused
    assert said in refused
    assert "'trainer_state.json'" in refused
    assert (state.steps, state.history) == (None, None)


@pytest.mark.parametrize("steps", [10**12, MOST_STEPS + 1])
def test_a_run_of_absurd_length_costs_nothing(steps: int, tmp_path: Path) -> None:
    state = told({**SOUND, "global_step": steps, "max_steps": 10**15}, tmp_path)
    assert state.steps == steps
    assert state.history is None
    assert any("too many" in remark for remark in state.remarks)


def test_a_log_of_odd_values_is_read_for_what_is_sound_in_it(tmp_path: Path) -> None:
    odd = [None, 3, {}, {"step": "x"}, {"step": 1.5, "learning_rate": 1}, {"step": 5, "learning_rate": math.nan}]
    more = [{"step": 6, "learning_rate": True}, {"step": 7, "learning_rate": -1}, {"step": 99, "learning_rate": 1}]
    state = told({**SOUND, "log_history": [*odd, *more, *SOUND["log_history"]]}, tmp_path)
    assert state.refused == ()
    assert state.history is not None
    assert state.history.logged == 2
    assert (state.loss, state.steps_per_epoch, state.planned_steps) == (1.5, 10.0, 40)


@pytest.mark.parametrize("key", ["epoch", "max_steps", "log_history", "train_batch_size"])
@pytest.mark.parametrize("value", [None, "x", [], {}, -1, 1e400, True])
def test_no_value_of_a_wrong_type_stops_the_rest(key: str, value: object, tmp_path: Path) -> None:
    state = told({**SOUND, key: value}, tmp_path)
    assert state.steps == 20


def test_a_loss_that_is_not_a_number_is_not_told(tmp_path: Path) -> None:
    state = told({**SOUND, "log_history": [{"step": 5, "loss": 2.0}, {"step": 9, "loss": math.nan}]}, tmp_path)
    assert state.loss is None


# ---- arguments


def test_the_arguments_alone_tell_the_method(tmp_path: Path) -> None:
    shutil.copy(TRAINER / "checkpoint-5" / "training_args.bin", tmp_path)
    state = read_training_state(str(tmp_path))
    assert (state.method, state.optimizer) == (Method.ADAMW, None)


def enumerated(module: str, name_of_class: str, name_of_entry: str) -> bytes:
    """An entry of an enumeration as Python 3.11.0 pickles it."""
    return name("builtins", "getattr") + put((name(module, name_of_class), name_of_entry)) + b"R"


@pytest.mark.parametrize(
    "kind",
    [
        "linear",
        call("transformers.trainer_utils", "SchedulerType", "linear"),
        enumerated("transformers.trainer_utils", "SchedulerType", "LINEAR"),
    ],
)
def test_a_schedule_is_told_however_its_name_was_pickled(kind: str | bytes, tmp_path: Path) -> None:
    told_there = {"learning_rate": 1.0, "lr_scheduler_type": kind, "warmup_steps": 0, "warmup_ratio": 0.0}
    arguments = name("transformers.training_args", "TrainingArguments") + b")\x81" + put(told_there) + b"b"
    (tmp_path / "training_args.bin").write_bytes(checkpoint(pickled(arguments), {}))
    log = [{"step": step, "learning_rate": 1 - (step - 1) / 40} for step in (10, 20)]
    history = told({**SOUND, "log_history": log}, tmp_path).history
    assert history is not None
    assert "computed again" in history.source
    assert history.learning_rates == pytest.approx(1 - np.arange(20) / 40)


@pytest.mark.parametrize("content", ["[]", "{}", '{"learning_rate": "x", "optim": 3, "lr_scheduler_kwargs": []}', "{"])
def test_odd_arguments_stop_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "training_args.json").write_text(content)
    state = told(SOUND, tmp_path)
    assert state.history is not None
    assert state.optimizer is None


def test_a_log_that_begins_late_tells_nothing_of_the_run_before_it() -> None:
    whole, late = logged(5, own=True), logged(5, own=True, first=250)

    assert history_of(RateEvidence(steps=STEPS, logged=whole)) is not None
    assert history_of(RateEvidence(steps=STEPS, logged=late)) is None
    assert history_of(RateEvidence(steps=STEPS, logged=late, schedule=COSINE)) is not None
