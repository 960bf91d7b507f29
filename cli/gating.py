"""Options, configuration -> what `audit` and `gate` are asked to judge by, and where their reports go."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.families import is_index, is_weights
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.auditing import Judging
from jaynes_audit.cli.configuration.merging import settings_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.settings import Settings
from jaynes_audit.cli.exit_codes import FailOn
from jaynes_audit.cli.outputs import Output


def settings_for(options: Options) -> Settings:
    """Gather what holds for this run. Raises UsageError."""
    return settings_of(options, os.environ, Path.cwd())


def judging_by(settings: Settings, *, with_baseline: bool) -> Judging:
    """Give the rules and the baseline to judge by."""
    return Judging(
        policy=settings.policy,
        place=settings.place,
        fail_on=settings.fail_on,
        today=datetime.now(tz=UTC).astimezone().date(),
        baseline=settings.baseline if with_baseline else "",
        only_from_git=settings.require_base_ref and with_baseline,
        leaves_out_targets=settings.leaves_out_targets,
    )


def refuse_inputs(outputs: Iterable[Output], settings: Settings) -> None:
    """Keep a report from taking the place of weights, of the baseline or of the configuration. Raises UsageError."""
    inputs = {Path(place).resolve() for place in (settings.place, settings.baseline) if place}
    for path in filter(None, (output.path for output in outputs)):
        if path.exists() and (path.resolve() in inputs or is_weights(path.name) or is_index(path.name)):
            raise UsageError(f"{quoted_path(path)} is an input, which a report would replace; name another file")


def level_of_failure(fail_on: FailOn | None, *, exit_zero: bool) -> FailOn | None:
    """Understand --fail-on and --exit-zero. Raises UsageError where both are given and differ."""
    if exit_zero and fail_on not in {None, FailOn.NEVER}:
        raise UsageError(f"--exit-zero never fails, and --fail-on {fail_on} asks for it; give one of the two")
    return FailOn.NEVER if exit_zero else fail_on
