"""Every schedule of transformers is computed again as transformers computed it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.arguments import Arguments, planned_schedule
from jaynes_audit.analyzers.checkpoints.training_state.schedules import KINDS, Schedule, rates

EXPECTED = json.loads((Path(__file__).parents[4] / "fixtures" / "training_state" / "expected.json").read_text())[
    "schedules"
]


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: f"{case['kind']} {case['settings']}")
def test_the_rates_are_those_of_transformers(case: dict) -> None:
    arguments = Arguments(
        learning_rate=case["peak"],
        scheduler=case["kind"],
        warmup=case["warmup"],
        schedule_settings=case["settings"],
    )
    schedule = planned_schedule(arguments, len(case["rates"]))
    assert schedule is not None
    found = rates(schedule, len(case["rates"]))
    assert found is not None
    assert found == pytest.approx(case["rates"], rel=1e-12, abs=1e-18)


def test_every_kind_is_held_to_transformers() -> None:
    assert {case["kind"] for case in EXPECTED} == set(KINDS)


def test_a_share_of_warm_up_is_rounded_up() -> None:
    arguments = Arguments(learning_rate=1.0, scheduler="linear", warmup_share=0.03, schedule_settings={})
    schedule = planned_schedule(arguments, 101)
    assert schedule is not None
    assert schedule.warmup == 4


@pytest.mark.parametrize("scheduler", ["", "reduce_lr_on_plateau", "greedy", "mine"])
def test_other_schedules_are_not_computed(scheduler: str) -> None:
    assert planned_schedule(Arguments(learning_rate=1.0, scheduler=scheduler, schedule_settings={}), 10) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [-1e300, -5.0, 0.0, 1e-300, 1e300])
def test_absurd_settings_give_sound_rates_or_none(kind: str, value: float) -> None:
    names = ("min_lr_rate", "num_cycles", "lr_end", "power", "timescale", "min_lr_ratio", "num_decay_steps")
    found = rates(Schedule(kind=kind, peak=1e-3, warmup=3, total=10, settings=dict.fromkeys(names, value)), 20)
    assert found is None or (np.isfinite(found).all() and (found >= 0).all() and found.size == 20)


def test_a_schedule_of_no_update_is_empty() -> None:
    found = rates(Schedule(kind="cosine", peak=1.0, total=10), 0)
    assert found is not None
    assert found.size == 0


def test_the_warm_up_may_be_the_whole_run() -> None:
    found = rates(Schedule(kind="linear", peak=1.0, warmup=10, total=10), 10)
    assert found == pytest.approx([step / 10 for step in range(10)])
    assert not math.isnan(found[-1])
