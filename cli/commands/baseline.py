"""`jaynes baseline`: what a model was like when somebody approved it, as text that is reviewed and committed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli import options
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import IoChoice

if TYPE_CHECKING:
    from jaynes_audit.cli.auditing import Judging, Reading

baseline_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=False,
    help="Write, update, verify and show baselines: what a model was like when it was approved.",
)

BaselineFile = Annotated[
    Path, typer.Argument(metavar="PATH", help="The baseline, best as NAME.jaynes.jsonl.", show_default=False)
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The checkpoint: a file, a folder, a sketch archive, or one on the Hugging Face Hub.",
        show_default=False,
    ),
]


@baseline_app.command("write")
def write(
    path: BaselineFile,
    target: Target,
    *,
    force: Annotated[bool, typer.Option("--force", help="Write it although the checkpoint is broken.")] = False,
    config: options.ConfigFile = None,
    no_config: options.NoConfig = False,
    jobs: options.Jobs = None,
    max_memory: options.MaxMemory = None,
    io: options.InputOutput = IoChoice.MMAP,
    stream: options.Stream = None,
    verify: options.RecordDigests = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Write a new baseline of a checkpoint. A file that is there is never overwritten.

    Exit status: 0 written, 1 the checkpoint is broken and nothing was written, 2 misused, 3 nothing to audit, 4 could
    not finish.
    """
    from jaynes_audit.cli import baselining  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.cli.exit_codes import ExitCode, counted  # noqa: PLC0415

    written = baselining.write(
        path,
        target,
        _reading(jobs, max_memory, io, stream=stream, verify=verify, show_progress=not no_progress),
        _judging(target, config, no_config=no_config),
        force=force,
    )
    if written.broken:
        for finding in written.broken:
            say(f"{finding.rule} {finding.name}: {finding.subject}: {finding.sentence}")
        say(f"{counted(len(written.broken), 'error')}, so nothing was written; mend the export, or say --force")
        return ExitCode.FOUND
    baseline = written.baseline
    layers, known, files = (len(each) for each in (baseline.entries, baseline.known, baseline.files))
    digests = f", digests of {counted(files, 'file')}" if files else ""
    tell = f"{path}: {counted(layers, 'layer')}, {counted(known, 'known finding')}{digests}; review it and commit it"
    approved = [f"  approved with it: {each.rule} {each.subject}" for each in baseline.known]
    _tell([tell, *approved])
    return ExitCode.PASSED


@baseline_app.command("update")
def update(
    path: BaselineFile,
    target: Target,
    *,
    accept: Annotated[
        list[str],
        typer.Option(
            "--accept", metavar="CODE", help="Approve what these rules object to: codes or prefixes. Repeatable."
        ),
    ] = [],  # noqa: B006 - typer shows it, and nobody changes it
    tensor: Annotated[
        list[str],
        typer.Option("--tensor", metavar="GLOB", help="Approve the layers whose name matches. Repeatable."),
    ] = [],  # noqa: B006
    everything: Annotated[bool, typer.Option("--all", help="Approve all that changed; needs --reason.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the baseline.", show_default=False)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Update it in a CI job, too.")] = False,
    config: options.ConfigFile = None,
    no_config: options.NoConfig = False,
    jobs: options.Jobs = None,
    max_memory: options.MaxMemory = None,
    io: options.InputOutput = IoChoice.MMAP,
    stream: options.Stream = None,
    verify: options.RecordDigests = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Rewrite the lines of a baseline that are approved, and no other; then say what still differs.

    Exit status: 0 nothing is left that a rule objects to, 1 something is, 2 misused, 3 nothing to audit, 4 could not
    finish.
    """
    import os  # noqa: PLC0415

    from jaynes_audit.analyzers.baseline.update import Acceptance  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.cli import baselining  # noqa: PLC0415
    from jaynes_audit.cli.configuration.policy import checked_selectors  # noqa: PLC0415
    from jaynes_audit.cli.exit_codes import ExitCode  # noqa: PLC0415

    baselining.refuse_in_ci(os.environ, yes=yes)
    if not (accept or tensor or everything):
        raise UsageError("nothing is approved: give --accept CODE, --tensor GLOB, or --all with --reason TEXT")
    if everything and not reason.strip():
        raise UsageError("--all approves whatever changed, so it needs --reason TEXT, which the baseline keeps")
    acceptance = Acceptance(codes=checked_selectors(accept, "--accept"), tensors=tuple(tensor), everything=everything)
    found = baselining.update(
        path,
        target,
        (
            _reading(jobs, max_memory, io, stream=stream, verify=verify, show_progress=not no_progress),
            _judging(target, config, no_config=no_config),
        ),
        acceptance,
        reason=reason.strip(),
    )
    _tell(baselining.told_of_update(found, path))
    return ExitCode.FOUND if found.remaining else ExitCode.PASSED


@baseline_app.command("verify")
def verify(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Baselines: files, or REVISION:PATH.", show_default=False)
    ],
) -> int:
    """Check that baselines are sound: every line, their order, their number, the digest.

    Exit status: 0 all are sound, 2 one is not or is missing, 4 one could not be read.
    """
    from jaynes_audit.analyzers.baseline.places import read_content  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.analyzers.baseline.text import from_text  # noqa: PLC0415
    from jaynes_audit.analyzers.baseline.text import verify as problems_of  # noqa: PLC0415
    from jaynes_audit.analyzers.errors import JaynesError  # noqa: PLC0415
    from jaynes_audit.cli import baselining  # noqa: PLC0415
    from jaynes_audit.cli.exit_codes import PRECEDENCE, ExitCode, exit_code_of  # noqa: PLC0415

    statuses: set[ExitCode] = set()
    for path in paths:
        try:
            read = read_content(path)
        except JaynesError as error:
            say(str(error))
            statuses.add(exit_code_of(error))
            continue
        problems = problems_of(read.content, read.place)
        for problem in problems:
            say(problem)
        if problems:
            statuses.add(ExitCode.MISUSED)
        else:
            _tell([baselining.told_of_sound(from_text(read.content, read.place))])
    return next((status for status in PRECEDENCE if status in statuses), ExitCode.PASSED)


@baseline_app.command("show")
def show(
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="The baseline: a file, or REVISION:PATH.", show_default=False)
    ],
    *,
    every_layer: Annotated[bool, typer.Option("--all", help="List every layer, however many.")] = False,
    width: options.Width = None,
) -> int:
    """Show what a baseline holds."""
    import sys  # noqa: PLC0415
    from shutil import get_terminal_size  # noqa: PLC0415

    from jaynes_audit.analyzers.baseline.places import read_baseline  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.cli.exit_codes import ExitCode  # noqa: PLC0415
    from jaynes_audit.cli.outputs import Format, Output  # noqa: PLC0415
    from jaynes_audit.cli.reports.baseline_table import render  # noqa: PLC0415
    from jaynes_audit.cli.reports.view import View  # noqa: PLC0415

    shown = width or (get_terminal_size().columns if sys.stdout.isatty() else None)
    table = render(read_baseline(place), View(every_layer=every_layer, width=shown))
    Output(format=Format.TABLE, path=None).write(table)
    return ExitCode.PASSED


def _tell(lines: Sequence[str]) -> None:
    """Say what was done, each thing on a line of its own."""
    from jaynes_audit.cli.outputs import Format, Output  # noqa: PLC0415
    from jaynes_audit.cli.visible import visible  # noqa: PLC0415

    Output(format=Format.TABLE, path=None).write("".join(f"{visible(line)}\n" for line in lines))


def _reading(
    jobs: int | None, max_memory: int | None, io: IoChoice, *, stream: bool | None, verify: bool, show_progress: bool
) -> "Reading":
    from jaynes_audit.analyzers.audit import EVERYTHING, USUAL_CRITERION  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.cli.auditing import Reading  # noqa: PLC0415

    return Reading(
        selection=EVERYTHING,
        criterion=USUAL_CRITERION,
        jobs=jobs,
        max_memory=max_memory,
        io=Io(io.value),
        access=HubAccess(mode=options.mode_of(stream=stream), tell=say),
        resume=None,
        verify=verify,
        show_progress=show_progress,
    )


def _judging(target: str, config: Path | None, *, no_config: bool) -> "Judging":
    from jaynes_audit.cli import gating  # noqa: PLC0415 - help does without NumPy
    from jaynes_audit.cli.configuration.options import Options  # noqa: PLC0415

    return gating.judging_by(
        gating.settings_for(Options(targets=[target], config=config, no_config=no_config)), with_baseline=False
    )
