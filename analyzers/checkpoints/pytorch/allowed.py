"""Globals that the user vouches for: a pickle may name them, and they are records like any other."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaynes_audit.analyzers.checkpoints.pytorch.objects import Global
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import UsageError

_ALLOWED: ContextVar[frozenset[Global]] = ContextVar("_ALLOWED", default=frozenset())


@contextmanager
def allowing(names: Iterable[str]) -> Iterator[None]:
    """Let pickles name these globals, each as MODULE.NAME, while the context lasts. None is imported or called.

    Raises UsageError for a name that has no module.
    """
    token = _ALLOWED.set(frozenset(map(_global, names)))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def is_allowed(found: Global) -> bool:
    """Whether the user vouches for just this module and name."""
    return found in _ALLOWED.get()


def _global(name: str) -> Global:
    module, _, last = name.rpartition(".")
    if not (module and last):
        raise UsageError(f"{quoted(name)} is no global; name it as the finding does, MODULE.NAME")
    return Global(module, last)
