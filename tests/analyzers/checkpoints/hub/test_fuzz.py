"""Damaged answers of a Hub end in the right bytes or in a sentence, never in anything else."""

import pytest

from tests.analyzers.checkpoints.hub.fuzzes import FUZZES
from tests.support.fuzzing import survive


@pytest.mark.parametrize("name", FUZZES)
def test_a_damaged_answer_is_survived(name: str) -> None:
    ends, faults = survive(FUZZES[name], inputs=2_000, seed=1)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 20
    assert len(ends) > (name != "refusals")
