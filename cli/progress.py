"""How far the reading is, on the standard error: bytes, rate, time left. Nothing at all where nobody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaynes_audit.cli.visible import visible

Advance = Callable[[int], None]


@contextmanager
def progress(what: str, total_bytes: Callable[[], int], *, wanted: bool) -> Iterator[Advance]:
    """Show a bar while the context lasts, on a terminal; gives the function that is told of bytes done.

    `total_bytes` is only asked where a bar is drawn: to know it takes a look at every tensor.
    """
    if not (wanted and sys.stderr.isatty()):
        yield _ignore
        return
    from rich.console import Console  # noqa: PLC0415 - only where a bar is drawn
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(visible(what), total=total_bytes() or None)
        yield lambda count: bar.advance(task, count)


def _ignore(_: int) -> None:
    """Tell nobody."""
