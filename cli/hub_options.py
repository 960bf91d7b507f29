"""What the options about the Hub change: names get a revision, and huggingface_hub's own variables a value."""

import os
from collections.abc import Iterable
from pathlib import Path

from jaynes_audit.analyzers.errors import UsageError

REVISION_MARK = "@"


def at_revision(targets: Iterable[str], revision: str | None) -> list[str]:
    """Give every target that is a model on the Hub the revision.

    Raises UsageError where one has another already, or none is on the Hub.
    """
    from jaynes_audit.analyzers.checkpoints.locations import is_on_hub  # noqa: PLC0415 - help does without NumPy

    names = list(targets)
    if revision is None:
        return names
    if not any(map(is_on_hub, names)):
        raise UsageError(f"--revision {revision} is about models on the Hub, and no target is one; leave it out")
    named = next((name for name in names if is_on_hub(name) and REVISION_MARK in name), None)
    if named:
        raise UsageError(f"{named!r} names a revision and so does --revision; give one of the two")
    return [f"{name}{REVISION_MARK}{revision}" if is_on_hub(name) else name for name in names]


def set_environment(*, offline: bool, cache_dir: Path | None) -> None:
    """Tell huggingface_hub, which reads its variables when it is first imported."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if cache_dir:
        os.environ["HF_HUB_CACHE"] = str(cache_dir)
