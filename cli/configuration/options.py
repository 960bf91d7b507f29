"""What the command line said of the settings that can also stand in a file. Nothing heavy is imported here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaynes_audit.cli.configuration.settings import AllowPickle
from jaynes_audit.cli.exit_codes import FailOn


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a command, as they were given; a default means that one was not.

    Codes of rules may stand several in one text, separated by commas.
    """

    targets: Sequence[str] = ()
    baseline: str | None = None
    no_baseline: bool = False
    fail_on: FailOn | None = None
    output: Sequence[str] = ()
    select: Sequence[str] = ()
    extend_select: Sequence[str] = ()
    ignore_rule: Sequence[str] = ()
    preview: bool | None = None
    allow_pickle: AllowPickle | None = None
    config: Path | None = None
    no_config: bool = False
