"""The options that commands share, with their help. Nothing heavy is imported here: `--help` reads it."""

import math
import re
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaynes_audit.cli.configuration.settings import AllowPickle
from jaynes_audit.cli.exit_codes import FailOn
from jaynes_audit.cli.reports.view import Show

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
        help=(
            "Two or more: a TARGET of `jaynes audit`, a report it wrote with -o json, a sketch archive, or a baseline: "
            "a file, or REVISION:PATH in git."
        ),
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
RunTargets = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help=(
            "A folder of checkpoints (checkpoint-500, step_500), a model on the Hub with a revision each, or the "
            "checkpoints one by one."
        ),
        show_default=False,
    ),
]

STEPS = re.compile(r"[0-9]{1,15}(?:,[0-9]{1,15})*", re.ASCII)


def _listed_steps(value: str | None) -> str | None:
    if value is not None and not STEPS.fullmatch(value):
        raise typer.BadParameter(f"{value!r} lists no steps; write them as 0,1000,2000")
    return value


Steps = Annotated[
    str | None,
    typer.Option(
        "--steps",
        callback=_listed_steps,
        metavar="N,N,...",
        help="Only the checkpoints of these steps.",
        show_default=False,
    ),
]
Every = Annotated[
    int, typer.Option("--every", min=1, metavar="K", help="Only every K-th checkpoint, and the last one.")
]
FailOnOption = Annotated[
    FailOn, typer.Option("--fail-on", help="Lowest level of a finding that makes the exit status 1.")
]
FailOnIfGiven = Annotated[
    FailOn | None,
    typer.Option(
        "--fail-on",
        help="Lowest level of a new finding that makes the exit status 1; error, if nothing else is configured.",
        show_default=False,
    ),
]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="The same as --fail-on never.")]
Select = Annotated[
    list[str],
    typer.Option(
        "--select",
        metavar="CODE",
        help="Only these rules: codes or prefixes, as JN101 or JN4. Repeatable.",
        show_default=False,
    ),
]
ExtendSelect = Annotated[
    list[str],
    typer.Option("--extend-select", metavar="CODE", help="These rules too. Repeatable.", show_default=False),
]
IgnoreRule = Annotated[
    list[str],
    typer.Option("--ignore-rule", metavar="CODE", help="Not these rules. Repeatable.", show_default=False),
]
Preview = Annotated[
    bool | None,
    typer.Option("--preview/--no-preview", help="Whether to ask rules that are on trial.", show_default=False),
]
AllowPickleOption = Annotated[
    AllowPickle | None,
    typer.Option(
        "--allow-pickle",
        help="weights: read the weights in pickles, as by default, and never run them. never: a pickle is an error.",
        show_default=False,
    ),
]
AllowGlobal = Annotated[
    list[str],
    typer.Option(
        "--allow-global",
        metavar="MODULE.NAME",
        help="A class or function that pickles may name without a finding; it is never imported. Repeatable.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="PATH",
        help="The configuration; else jaynes.toml, or pyproject.toml, from the working directory up.",
        show_default=False,
    ),
]
NoConfig = Annotated[bool, typer.Option("--no-config", help="Read no configuration.")]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="PLACE",
        help="What to hold the checkpoint against: a baseline file, or REVISION:PATH in git. {name}: the model's name.",
        show_default=False,
    ),
]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Hold it against nothing, whatever is configured.")]
GateTargets = Annotated[
    list[str],
    typer.Argument(
        metavar="[TARGET]...",
        help="Checkpoints, as for `jaynes audit`; those of the configuration, if none is named.",
        show_default=False,
    ),
]
ShowOption = Annotated[
    Show, typer.Option("--show", help="Which findings to list beside the new ones.", case_sensitive=False)
]
Width = Annotated[
    int | None,
    typer.Option(
        "--width", min=40, metavar="COLUMNS", help="Width of tables; else the terminal's.", show_default=False
    ),
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
TrainingOutputs = Annotated[
    list[str],
    typer.Option(
        "-o",
        "--output",
        metavar="FMT[=PATH]",
        help="Format, and the file it goes to: table, json, csv, markdown. Repeatable.",
    ),
]
TrackOutputs = Annotated[
    list[str],
    typer.Option(
        "-o",
        "--output",
        metavar="FMT[=PATH]",
        help="Format, and the file it goes to: table, json, csv. Repeatable.",
    ),
]
ReportOutputs = Annotated[
    list[str],
    typer.Option(
        "-o",
        "--output",
        metavar="FMT[=PATH]",
        help=(
            "Format, and the file it goes to: table, json, jsonl, csv, sarif, junit, markdown, github, gitlab, "
            "ignores. Repeatable; table, if nothing else is configured."
        ),
        show_default=False,
    ),
]
Timing = Annotated[bool, typer.Option("--timing", help="Say in the JSON report how many seconds each stage took.")]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="REV",
        help="From the Hub: branch, tag or commit, the same as org/name@REV.",
        show_default=False,
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="From the Hub: only what the cache holds, as with HF_HUB_OFFLINE=1.")
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        metavar="FOLDER",
        help="From the Hub: the cache, as with HF_HUB_CACHE.",
        show_default=False,
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
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([KMG]I?B)?", re.IGNORECASE | re.ASCII)


def size(value: str) -> int:
    """Read a size in bytes as people write it: 536870912, 512MiB, 2GB. Raises BadParameter."""
    told = SIZE.fullmatch(value.strip())
    if not told:
        raise typer.BadParameter(f"{value!r} is no size; write one as 512MiB, 2GB or 536870912")
    return int(Fraction(told[1]) * UNITS[(told[2] or "").upper()])


MaxMemory = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        parser=size,
        metavar="SIZE",
        help="Memory to take, as 512MiB or 2GB: as many threads as fit; 1GiB by default. Never changes the result.",
        show_default=False,
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
Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        min=1,
        metavar="N",
        help="Only N tensors, spread evenly over roles and depth; the report says what was left out.",
        show_default=False,
    ),
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Compare the SHA-256 of every file with the baseline's, and with the Hub's listing."),
]
RecordDigests = Annotated[
    bool, typer.Option("--verify", help="Also keep every file's SHA-256; from the Hub, compared with its listing.")
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume",
        help="Whether a killed audit goes on where it was; only long ones do, if neither is given.",
        show_default=False,
    ),
]
RunStream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--cache",
        help="From the Hub: store nothing, as by default, or keep the files of every step in its cache.",
        show_default=False,
    ),
]
RunResume = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Whether finished checkpoints are kept, and not read again."),
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


NEITHER_SAMPLED = "--headers-only reads no weight, so there is nothing to sample; give one of --headers-only, --sample"


def steps_of(listed: str | None) -> tuple[int, ...]:
    """Understand the value of `--steps`."""
    return tuple(int(step) for step in listed.split(",")) if listed else ()


def mode_of(*, stream: bool | None) -> "Mode | None":
    """Understand the value of `--stream/--cache`."""
    from jaynes_audit.analyzers.checkpoints.hub.place import Mode  # noqa: PLC0415 - help does without NumPy

    return None if stream is None else Mode.STREAM if stream else Mode.CACHE
