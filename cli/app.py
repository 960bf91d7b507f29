"""The command `jaynes`: every run ends in an exit status of the table, and in words where something went wrong.

What is imported here costs every start, `--version` included; the command line itself is in `application`.
"""

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

VERSION_OPTIONS = {"-V", "--version"}
TRACE_OPTIONS = {"-v", "--verbose"}
TRACE_VARIABLE = "JAYNES_TRACEBACK"


def main() -> None:
    """Run the command line and exit."""
    gc.disable()  # an audit of 46,000 layers makes millions of objects and no cycles, and a third of it was looking
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and give the exit status."""
    if VERSION_OPTIONS.intersection(arguments[:1]):
        return _tell_version()
    try:
        from jaynes_audit.cli.application import run_command  # noqa: PLC0415

        return run_command(arguments)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - none may end in status 1, which means "found"
        return _tell(error, arguments)


def _tell_version() -> int:
    from importlib.metadata import version  # noqa: PLC0415

    sys.stdout.write(f"jaynes {version('jaynes-audit')}\n")
    return 0


def _tell(error: BaseException, arguments: Sequence[str]) -> int:
    """Say what ended the run, and give its status."""
    from jaynes_audit.analyzers.errors import JaynesError  # noqa: PLC0415
    from jaynes_audit.cli.exit_codes import ClosedPipe, ExitCode, exit_code_of  # noqa: PLC0415
    from jaynes_audit.cli.messages import say  # noqa: PLC0415

    match error:
        case ClosedPipe() | BrokenPipeError():
            _abandon_standard_output()
            return ExitCode.CLOSED_PIPE
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case JaynesError():
            say(str(error))
            return exit_code_of(error)
        case MemoryError():
            say("there is not enough memory; try fewer --jobs")
            return ExitCode.COULD_NOT_FINISH
    say(f"a mistake in jaynes itself: {type(error).__name__}: {error}; please report it with the trace that -v prints")
    if os.environ.get(TRACE_VARIABLE) or TRACE_OPTIONS.intersection(arguments):
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    return ExitCode.COULD_NOT_FINISH


def _abandon_standard_output() -> None:
    """Let the interpreter's last flush go nowhere: it would complain about the closed pipe."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
