"""Damaged quantised checkpoints are dequantised, listed as codes, or refused, and nothing else happens."""

import tracemalloc
from contextlib import suppress

from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import damaged_files, survive
from tests.support.quantised_files import SMALL, small
from tests.support.quantised_fuzz import FUZZ, read

INPUTS = 4_000
LARGEST_FACTOR = 64  # a code of two bits becomes four bytes of weight, and a few arrays as large are held at once
ALLOWANCE = 4_000_000


def test_nothing_but_weights_codes_and_refusals_comes_of_damaged_files() -> None:
    ends, faults = survive(FUZZ, inputs=INPUTS, seed=20_264)
    assert faults == []
    assert ends["accepted"] > INPUTS / 4


def test_the_sound_files_are_accepted() -> None:
    for kind in SMALL:
        read(small(kind))


def test_a_damaged_file_takes_memory_in_proportion_to_its_length() -> None:
    for content in damaged_files(FUZZ, inputs=150, seed=20_265):
        tracemalloc.start()
        try:
            with suppress(RefusedFile):
                read(content)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < LARGEST_FACTOR * len(content) + ALLOWANCE
