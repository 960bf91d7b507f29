"""The effective settings of a run, each with where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from jaynes_audit.cli.exit_codes import FailOn

if TYPE_CHECKING:
    from jaynes_audit.analyzers.rules.policy import Policy


class AllowPickle(StrEnum):
    """Whether weights that are stored as a pickle may be read (they are never run), or are an error."""

    NEVER = "never"
    WEIGHTS = "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for a run.

    `leaves_out_targets` where others were named in place of some that stand in the file.
    `baseline` is a path, REVISION:PATH in git, or empty; `{name}` in it stands for the name of the model.
    `require_base_ref` refuses a baseline that is not read through git, which a pull request could loosen for itself.
    `place` is the file that was read, or empty. It and all paths count from the working directory, those from the file
    too, where they count from its folder.
    `origins` says of every setting, by the name it has in a file, where it comes from.
    """

    targets: tuple[str, ...]
    leaves_out_targets: bool
    baseline: str
    require_base_ref: bool
    fail_on: FailOn
    outputs: tuple[str, ...]
    allow_pickle: AllowPickle
    policy: "Policy"
    place: str
    origins: Mapping[str, str]
