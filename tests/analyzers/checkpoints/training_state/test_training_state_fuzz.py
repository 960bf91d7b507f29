"""Many damaged files of trainers: what is known of a training never costs more than the files, and never fails.

`python -m tests.support.fuzzing training_state --inputs 1000000` runs longer.
"""

from contextlib import suppress

from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import survive
from tests.support.training_state_fuzz import FUZZ, corpus, read


def test_files_of_every_kind_are_read() -> None:
    for content in corpus():
        with suppress(RefusedFile):  # not every file can stand in every place
            read(content)


def test_no_damaged_file_stops_a_reading() -> None:
    _, faults = survive(FUZZ, inputs=600, seed=2026)
    assert not faults, faults[0].trace
