"""What a user says of a training, over what its files say."""

import math
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.training_state.given import Given, with_given
from jaynes_audit.analyzers.checkpoints.training_state.reading import read_training_state
from jaynes_audit.analyzers.checkpoints.training_state.schedules import MOST_STEPS
from jaynes_audit.analyzers.checkpoints.training_state.state import Method, TrainingState
from jaynes_audit.analyzers.errors import UsageError

FIXTURES = Path(__file__).parents[4] / "fixtures"
RUN = read_training_state(str(FIXTURES / "run" / "checkpoint-900"))
NOTHING = TrainingState()


def rates_of(given: Given, state: TrainingState = NOTHING) -> np.ndarray:
    history = with_given(state, given).history
    assert history is not None
    assert history.source == "given by hand"
    return history.learning_rates


def test_nothing_given_changes_nothing() -> None:
    assert with_given(RUN, Given()) == RUN


def test_a_rate_alone_is_constant() -> None:
    assert rates_of(Given(learning_rate=0.1, steps=5)) == pytest.approx([0.1] * 5)


def test_a_warm_up_rises_in_a_straight_line() -> None:
    assert rates_of(Given(learning_rate=1.0, steps=6, warmup=4)) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


def test_a_share_of_warm_up_is_one_of_the_schedule() -> None:
    found = rates_of(Given(learning_rate=1.0, schedule="linear@100", steps=50, warmup=0.1))
    assert found[:11] == pytest.approx(np.arange(11) / 10)


@pytest.mark.parametrize(("schedule", "final"), [("cosine", 0.0), ("cosine:0.1", 0.1), ("cosine:1e-1@1000", 0.1)])
def test_a_cosine_falls_to_its_share_and_stays_there(schedule: str, final: float) -> None:
    found = rates_of(Given(learning_rate=2.0, schedule=schedule, steps=1_000))
    step = np.arange(1_000)
    expected = 2.0 * (final + (1 - final) * 0.5 * (1 + np.cos(math.pi * step / 1_000)))
    assert found == pytest.approx(expected, abs=1e-12)
    longer = rates_of(Given(learning_rate=2.0, schedule=f"cosine:{final}@1000", steps=1_500))
    assert longer[1_000:] == pytest.approx(2.0 * final)


def test_a_line_falls_to_its_share() -> None:
    found = rates_of(Given(learning_rate=1.0, schedule="linear:0.5@10", steps=12))
    assert found == pytest.approx([*(1 - 0.05 * np.arange(10)), 0.5, 0.5])


def test_the_schedule_ends_where_the_files_say() -> None:
    found = with_given(RUN, Given(learning_rate=0.003, schedule="cosine:0.1", warmup=150))
    assert found.planned_steps == 3_000
    assert found.history is not None
    assert RUN.history is not None
    assert found.history.learning_rates == pytest.approx(RUN.history.learning_rates, rel=1e-9)


def test_the_highest_rate_comes_from_the_files_where_it_is_not_given() -> None:
    assert rates_of(Given(schedule="constant"), RUN) == pytest.approx(0.003)


def test_a_weight_decay_is_that_of_the_decayed_groups() -> None:
    found = with_given(RUN, Given(weight_decay=0.7))
    assert found.weight_decay == 0.7
    assert found.optimizer is not None
    assert [group.weight_decay for group in found.optimizer.groups] == [0.7, 0.0]
    assert found.history is RUN.history


def test_a_weight_decay_is_that_of_all_groups_where_none_is_decayed() -> None:
    plain = read_training_state(str(FIXTURES / "training_state" / "sgd_plain.pt"))
    found = with_given(plain, Given(weight_decay=0.7))
    assert found.optimizer is not None
    assert [group.weight_decay for group in found.optimizer.groups] == [0.7]


def test_the_absurd_length_of_a_file_needs_a_number_by_hand() -> None:
    with pytest.raises(UsageError, match="--steps"):
        with_given(TrainingState(steps=10**12, planned_steps=10**15), Given(learning_rate=1.0))


def test_fewer_steps_cut_the_history_and_more_leave_none() -> None:
    cut = with_given(RUN, Given(steps=100)).history
    assert cut is not None
    assert cut.learning_rates.size == 100
    assert with_given(RUN, Given(steps=901)).history is None


def test_a_method_can_be_given_where_no_file_tells_one() -> None:
    assert with_given(NOTHING, Given(method=Method.SGD)).method is Method.SGD


def test_a_method_by_hand_is_that_of_the_optimizer() -> None:
    optimizer = with_given(RUN, Given(method=Method.ADAM_L2)).optimizer
    assert optimizer is not None
    assert (optimizer.method, optimizer.evidence) == (Method.ADAM_L2, "given by hand")


NONSENSE = [
    Given(learning_rate=0.0),
    Given(learning_rate=-1.0),
    Given(learning_rate=math.nan),
    Given(learning_rate=math.inf),
    Given(weight_decay=-0.1),
    Given(weight_decay=math.nan),
    Given(warmup=-1),
    Given(warmup=1.5),
    Given(warmup=math.inf),
    Given(steps=-1),
    Given(steps=MOST_STEPS + 1),
    Given(learning_rate=1.0, schedule="linear@10", steps=5, warmup=11),
    *(
        Given(learning_rate=1.0, steps=5, schedule=schedule)
        for schedule in (
            "",
            "step",
            "Cosine",
            "cosine:",
            "cosine@",
            "cosine:2",
            "cosine:-0.1",
            "cosine:nan",
            "cosine:0.1:0.2",
            "cosine@0",
            "cosine@1.5",
            "cosine@1e400",
            "cosine@100000000",
            "cosine@10@20",
            "constant:0.1",
            "constant@100",
            " cosine",
            "cosine\n",
        )
    ),
    Given(learning_rate=1.0),
    Given(schedule="cosine", steps=10),
]


@pytest.mark.parametrize("given", NONSENSE, ids=str)
def test_nonsense_is_refused_in_a_sentence(given: Given) -> None:
    with pytest.raises(UsageError) as caught:
        with_given(NOTHING, given)
    assert "\n" not in str(caught.value)
