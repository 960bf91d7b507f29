"""The subcommands of `jaynes`, put together with typer."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.commands.audit import audit
from jaynes_audit.cli.commands.baseline import baseline_app
from jaynes_audit.cli.commands.compare import compare
from jaynes_audit.cli.commands.config import config_app
from jaynes_audit.cli.commands.equilibrium import equilibrium
from jaynes_audit.cli.commands.gate import gate
from jaynes_audit.cli.commands.render import render
from jaynes_audit.cli.commands.rule import rule
from jaynes_audit.cli.commands.sample import sample
from jaynes_audit.cli.commands.schema import schema
from jaynes_audit.cli.commands.track import track
from jaynes_audit.cli.exit_codes import ClosedPipe, ExitCode

app = typer.Typer(
    rich_markup_mode=None,  # rich takes 80 ms to print help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("audit")(audit)
app.command("compare")(compare)
app.command("track")(track)
app.command("equilibrium")(equilibrium)
app.command("gate")(gate)
GROUPS = {"baseline": baseline_app, "config": config_app}
for name, group in GROUPS.items():
    app.add_typer(group, name=name)
app.command("rule")(rule)
app.command("render")(render)
app.command("sample")(sample)
app.command("schema")(schema)


@app.callback()
def jaynes(
    *, _version: Annotated[bool, typer.Option("-V", "--version", help="Show the version and exit.")] = False
) -> None:
    """Audit neural-network checkpoints without running them."""


def run_command(arguments: Sequence[str]) -> int:
    """Run a subcommand and give its exit status.

    Raises:
        UsageError: when the arguments have no meaning.
        ClosedPipe: when nobody reads the standard output any more.
        KeyboardInterrupt: when the user has had enough.
        Exception: whatever else the subcommand raises.
    """
    standard_output = sys.stdout
    try:
        status = app(args=list(arguments) or ["--help"], prog_name="jaynes", standalone_mode=False)
    except typer.TyperException as error:
        raise UsageError(f"{error.format_message().rstrip('.')}; see `{_used(arguments)} --help`") from error
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as stopped:
        # Typer exits by itself after completion and, having put another in its place, when standard output is closed.
        if sys.stdout is not standard_output:
            raise ClosedPipe("whoever read the output has gone") from stopped
        return stopped.code if isinstance(stopped.code, int) else ExitCode.PASSED
    if not arguments:
        return ExitCode.MISUSED
    return status if isinstance(status, int) else ExitCode.PASSED


def _used(arguments: Sequence[str]) -> str:
    """The command that was used, as far as it is one: its help tells how it is meant."""
    first, second = (*arguments[:2], "", "")[:2]
    if first in GROUPS:
        inner = {command.name for command in GROUPS[first].registered_commands}
        return " ".join(["jaynes", first, *([second] if second in inner else [])])
    commands = {command.name for command in app.registered_commands}
    return " ".join(["jaynes", *([first] if first in commands else [])])
