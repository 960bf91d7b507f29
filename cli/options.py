"""The options that commands share, with their help. Nothing heavy is imported here: `--help` reads it."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaynes_audit.cli.exit_codes import FailOn

if TYPE_CHECKING:
    from jaynes_audit.analyzers.checkpoints.hub.place import Mode


class IoChoice(StrEnum):
    """The names of `checkpoints.windows.Io`, which takes NumPy to import."""

    MMAP = "mmap"
    PREAD = "pread"


class Method(StrEnum):
    """How lognormals are fitted. The likelihood always is; a histogram only besides."""

    LIKELIHOOD = "likelihood"
    HISTOGRAM = "histogram"


class AmplitudeChoice(StrEnum):
    """The names of `distributions.histogram_fit.Amplitude`, which takes NumPy to import."""

    FREE = "free"
    ONE = "one"


class ColorChoice(StrEnum):
    """When to use colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        help="A checkpoint: a file, a folder, a pattern, or one on the Hugging Face Hub: org/name, org/name@revision.",
        show_default=False,
    ),
]
Operands = Annotated[
    list[str],
    typer.Argument(
        metavar="OPERAND...",
        help="Two or more: a TARGET of `jaynes audit`, a report it wrote with -o json, or a sketch archive.",
        show_default=False,
    ),
]
ExactOption = Annotated[
    bool | None,
    typer.Option(
        "--exact/--no-exact",
        help="Whether to compare weight by weight; where all is on this machine, if neither is given.",
        show_default=False,
    ),
]
FailOnOption = Annotated[
    FailOn, typer.Option("--fail-on", help="Lowest level of a finding that makes the exit status 1.")
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
        "-j",
        "--jobs",
        min=1,
        metavar="N",
        help="Threads; one per core by default, six when streaming. Never changes the result.",
    ),
]
Anatomy = Annotated[
    bool,
    typer.Option(
        "--anatomy",
        help="Read matrices again, to say which part of their log-variance lies between rows and columns.",
    ),
]
MethodOption = Annotated[
    Method,
    typer.Option("--method", help="histogram adds the least-squares curve of a histogram, which decides nothing."),
]
MOST_BINS = 10_000  # least squares holds a few numbers per bin and layer, and no histogram worth a look has more
Bins = Annotated[
    int | None,
    typer.Option(
        "--bins",
        min=4,
        max=MOST_BINS,
        metavar="N",
        help="With --method histogram: equal bins, 100 by default.",
        show_default=False,
    ),
]


def _magnitude(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter("bins can only end at a magnitude above 0 that is finite")
    return value


Range = Annotated[
    float | None,
    typer.Option(
        "--range",
        callback=_magnitude,
        metavar="W",
        help="With --method histogram: bins end at this magnitude; the greatest one by default.",
        show_default=False,
    ),
]
AmplitudeOption = Annotated[
    AmplitudeChoice | None,
    typer.Option(
        "--amplitude",
        help="With --method histogram: free, as by default, or one, as for a density.",
        show_default=False,
    ),
]
InputOutput = Annotated[
    IoChoice, typer.Option("--io", help="How files are read; pread for network file systems and files being written.")
]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--cache",
        help="From the Hub: store nothing, or keep the files in its cache. By size, if neither is given.",
        show_default=False,
    ),
]
HeadersOnly = Annotated[
    bool, typer.Option("--headers-only", help="What the checkpoint holds, from its headers. No weight is read.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="From the Hub: compare every file's bytes with the hash that the Hub lists.")
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume",
        help="Whether a killed audit goes on where it was; only long ones do, if neither is given.",
        show_default=False,
    ),
]
SaveSketches = Annotated[
    Path | None,
    typer.Option(
        "--save-sketches",
        metavar="FILE",
        help="Also write a sketch archive, best as NAME.sketches.safetensors: a small target that gives this report.",
        show_default=False,
    ),
]
EveryLayer = Annotated[bool, typer.Option("--all", help="List every layer and finding, however many.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only the findings and the exit status.")]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Shapes, errors, row and column scales, hashes, files; traces of mistakes."),
]
Color = Annotated[ColorChoice, typer.Option("--color", help="auto: on a terminal, unless NO_COLOR is set.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]


def mode_of(*, stream: bool | None) -> "Mode | None":
    """Understand the value of `--stream/--cache`."""
    from jaynes_audit.analyzers.checkpoints.hub.place import Mode  # noqa: PLC0415 - help does without NumPy

    return None if stream is None else Mode.STREAM if stream else Mode.CACHE
