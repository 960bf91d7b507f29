"""How many threads fit into what may be taken, held against arithmetic and against what audits took."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.audit import EVERYTHING, audit_checkpoint, plan_of
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.memory import USUAL_BYTES, held_bytes, thread_bytes, threads_within
from tests.support.checkpoint_files import checkpoint

sizes = st.integers(min_value=1, max_value=1 << 50)


@given(most=sizes, held=sizes, thread=sizes, wanted=st.integers(min_value=1, max_value=512))
def test_as_many_threads_as_fit_are_used_and_not_one_more(most: int, held: int, thread: int, wanted: int) -> None:
    if held + thread > most:
        with pytest.raises(UsageError, match="--max-memory"):
            threads_within(most, held=held, thread=thread, wanted=wanted)
        return
    threads = threads_within(most, held=held, thread=thread, wanted=wanted)
    assert 1 <= threads <= wanted
    assert held + threads * thread <= most
    assert threads == wanted or held + (threads + 1) * thread > most


@given(held=sizes, thread=sizes)
def test_unasked_one_thread_always_runs_and_others_only_within_a_gibibyte(held: int, thread: int) -> None:
    threads = threads_within(None, held=held, thread=thread, wanted=64)
    assert threads == 1 or held + threads * thread <= USUAL_BYTES


@given(held=sizes, thread=sizes)
def test_the_size_that_a_refusal_names_is_enough(held: int, thread: int) -> None:
    with pytest.raises(UsageError) as refused:
        threads_within(held + thread - 1, held=held, thread=thread, wanted=4)
    [mebibytes] = re.findall(r"give --max-memory ([0-9]+)MiB", str(refused.value))
    assert threads_within(int(mebibytes) << 20, held=held, thread=thread, wanted=1) == 1


def test_a_thread_takes_more_of_longer_rows_and_of_files_that_are_copied(tmp_path: Path) -> None:
    (tmp_path / "narrow").mkdir()
    checkpoint(tmp_path / "narrow" / "model.safetensors", {"a.weight": np.ones((8, 64), np.float32)})
    (tmp_path / "wide").mkdir()
    checkpoint(tmp_path / "wide" / "model.safetensors", {"a.weight": np.ones((2, 1 << 19), np.float32)})
    narrow, wide = (open_checkpoint(str(tmp_path / name)) for name in ("narrow", "wide"))
    layers_of_narrow, layers_of_wide = (plan_of(each, EVERYTHING).layers for each in (narrow, wide))
    least = thread_bytes(layers_of_narrow, narrow.files, Io.MMAP)
    assert (
        least < thread_bytes(layers_of_wide, wide.files, Io.MMAP) < thread_bytes(layers_of_wide, wide.files, Io.PREAD)
    )
    assert held_bytes(layers_of_wide * 1000) > held_bytes(layers_of_wide)


def test_an_audit_in_the_least_memory_is_the_audit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {f"layers.{block}.mlp.up_proj.weight": rng.standard_normal((64, 300)) for block in range(40)}
    checkpoint(tmp_path / "model.safetensors", {name: each.astype(np.float32) for name, each in weights.items()})
    opened = open_checkpoint(str(tmp_path))
    layers = plan_of(opened, EVERYTHING).layers
    least = held_bytes(layers) + thread_bytes(layers, opened.files, Io.MMAP)
    assert audit_checkpoint(opened, jobs=8, max_memory=least) == audit_checkpoint(opened, jobs=8)
    with pytest.raises(UsageError, match="less than one thread may take"):
        audit_checkpoint(opened, jobs=8, max_memory=least - 1)
