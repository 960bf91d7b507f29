"""`jaynes config`: what holds in this folder and why, and the schema of the file that says so."""

import typer

from jaynes_audit.cli import options

config_app = typer.Typer(help="Show the settings that hold here, or the schema of jaynes.toml.")


@config_app.command("show")
def show(*, config: options.ConfigFile = None, no_config: options.NoConfig = False) -> int:
    """Print the effective settings as TOML, each with where it comes from."""
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    import os  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from jaynes_audit.cli.configuration.merging import effective_of  # noqa: PLC0415
    from jaynes_audit.cli.configuration.options import Options  # noqa: PLC0415
    from jaynes_audit.cli.configuration.shown import shown  # noqa: PLC0415

    effective = effective_of(Options(config=config, no_config=no_config), os.environ, Path.cwd())
    return _print(shown(effective))


@config_app.command("schema")
def schema() -> int:
    """Print the JSON Schema (2020-12) of jaynes.toml."""
    import json  # noqa: PLC0415

    from jaynes_audit.cli.configuration.schema import configuration_schema  # noqa: PLC0415 - help does without NumPy

    return _print(f"{json.dumps(configuration_schema(), indent=2)}\n")


def _print(text: str) -> int:
    from jaynes_audit.cli.exit_codes import ExitCode  # noqa: PLC0415
    from jaynes_audit.cli.outputs import Format, Output  # noqa: PLC0415

    Output(format=Format.JSON, path=None).write(text)
    return ExitCode.PASSED
