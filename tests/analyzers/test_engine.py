"""Many tasks at once, their results in order, and never too many under way."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice

import pytest

from jaynes_audit.analyzers.engine import TASKS_PER_WORKER, in_order


def slow_first(task: int) -> int:
    """The earlier the slower, so that later tasks are done first."""
    time.sleep(max(0, 5 - task) / 500)
    return task * task


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("tasks", [0, 1, 3, 100])
def test_results_come_in_the_order_of_the_tasks(workers: int, tasks: int) -> None:
    with ThreadPoolExecutor(workers) as executor:
        results = list(in_order(slow_first, range(tasks), executor=executor, workers=workers))
    assert results == [task * task for task in range(tasks)]


def test_few_tasks_are_under_way_whatever_their_number() -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for task in range(1000):
            taken += 1
            yield task

    workers, ahead = 3, []
    with ThreadPoolExecutor(workers) as executor:
        for done, _ in enumerate(in_order(abs, tasks(), executor=executor, workers=workers), start=1):
            ahead.append(taken - done)
    assert max(ahead) == TASKS_PER_WORKER * workers


def test_nothing_is_begun_before_the_first_result_is_asked_for() -> None:
    tasks = iter([1, 2])
    with ThreadPoolExecutor(1) as executor:
        in_order(abs, tasks, executor=executor, workers=1).close()
    assert list(tasks) == [1, 2]


def test_an_exception_is_raised_in_its_place() -> None:
    def work(task: int) -> int:
        if task == 5:
            message = "five is right out"
            raise ValueError(message)
        return task

    with ThreadPoolExecutor(2) as executor:
        iterator = in_order(work, range(1000), executor=executor, workers=2)
        collected = list(islice(iterator, 5))
        with pytest.raises(ValueError, match="five"):
            next(iterator)
    assert collected == [0, 1, 2, 3, 4]


class Recorder(Executor):
    """An executor that keeps all it was given and runs nothing but the first task."""

    def __init__(self) -> None:
        self.futures: list[Future[object]] = []

    def submit(self, fn, /, *args, **kwargs):
        future: Future[object] = Future()
        self.futures.append(future)
        if len(self.futures) == 1:
            future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("leave", ["close", "error"])
def test_tasks_that_have_not_begun_are_dropped_when_no_one_waits_for_them(leave: str) -> None:
    recorder = Recorder()
    results = in_order(abs, range(100), executor=recorder, workers=2)
    assert next(results) == 0
    if leave == "close":
        results.close()
    else:
        with pytest.raises(RuntimeError, match="enough"):
            results.throw(RuntimeError("enough"))
    assert all(future.cancelled() for future in recorder.futures[1:])


def test_several_workers_work_at_once() -> None:
    barrier = threading.Barrier(2, timeout=10)
    with ThreadPoolExecutor(2) as executor:
        results = list(in_order(lambda _: barrier.wait() >= 0, range(2), executor=executor, workers=2))
    assert results == [True, True]
