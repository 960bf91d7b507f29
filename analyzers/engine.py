"""Many tasks on any `concurrent.futures.Executor`, their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_PER_WORKER = 4  # waiting or running: enough that no worker idles, few enough that results do not pile up


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, executor: Executor, workers: int
) -> Iterator[Result]:
    """Do `work` on every task and give the results in the order of the tasks.

    At most four tasks a worker are under way or done and not yet taken, so memory is bounded whatever their number.
    An exception of a task is raised in its place; tasks that have not begun are then dropped.
    """
    tasks = iter(tasks)
    pending: deque[Future[Result]] = deque(
        executor.submit(work, task) for task in islice(tasks, TASKS_PER_WORKER * workers)
    )
    try:
        while pending:
            result = pending.popleft().result()
            pending.extend(executor.submit(work, task) for task in islice(tasks, 1))
            yield result
    finally:
        for future in pending:
            future.cancel()
