"""The options that commands share, with their help. Nothing heavy is imported here: `--help` reads it."""

from enum import StrEnum
from typing import Annotated

import typer


class IoChoice(StrEnum):
    """The names of `checkpoints.windows.Io`, which takes NumPy to import."""

    MMAP = "mmap"
    PREAD = "pread"


class ColorChoice(StrEnum):
    """When to use colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


Targets = Annotated[
    list[str],
    typer.Argument(metavar="TARGET", help="A checkpoint: a file, a folder or a pattern.", show_default=False),
]
Outputs = Annotated[
    list[str],
    typer.Option(
        "-o",
        "--output",
        metavar="FMT[=PATH]",
        help="Format, and the file it goes to: table, json, jsonl, csv, markdown. Repeatable.",
    ),
]
Layers = Annotated[
    list[str], typer.Option("--layers", metavar="GLOB", help="Only layers whose name matches. Repeatable.")
]
Exclude = Annotated[
    list[str],
    typer.Option("--exclude", metavar="GLOB", help="No layer whose name matches. Repeatable.", show_default=False),
]
MinFanIn = Annotated[
    int, typer.Option(min=0, metavar="N", help="Least connections into an output of a highly connected matrix.")
]
MinWeights = Annotated[int, typer.Option(min=0, metavar="N", help="Least weights of a highly connected matrix.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j", "--jobs", min=1, metavar="N", help="Threads; one per core by default. Never changes the result."
    ),
]
InputOutput = Annotated[
    IoChoice, typer.Option("--io", help="How files are read; pread for network file systems and files being written.")
]
EveryLayer = Annotated[bool, typer.Option("--all", help="List every layer and finding, however many.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only the findings and the exit status.")]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Shapes, errors, row and column scales, hashes, files; traces of mistakes."),
]
Color = Annotated[ColorChoice, typer.Option("--color", help="auto: on a terminal, unless NO_COLOR is set.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]
