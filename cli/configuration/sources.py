"""What each source of settings says, in the words of a configuration file."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from jaynes_audit.analyzers.baseline.places import is_git_reference
from jaynes_audit.analyzers.checkpoints.hub.location import SCHEME
from jaynes_audit.analyzers.checkpoints.locations import could_be_on_hub
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.configuration.discovery import ConfigurationFile
from jaynes_audit.cli.configuration.file import Configuration, configuration_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.policy import Place
from jaynes_audit.cli.configuration.version import check_version
from jaynes_audit.cli.outputs import STANDARD_OUTPUT

VARIABLES: Mapping[str, str] = {
    key: f"JAYNES_{key.upper().replace('-', '_')}"
    for key in ("baseline", "fail-on", "output", "select", "extend-select", "ignore-rule", "preview", "allow-pickle")
}
"""The variables of the environment, by the key whose value they give."""

LISTS = frozenset({"output", "select", "extend-select", "ignore-rule"})
TRUTHS = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off"), False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one source says: values for some keys, what it is called for each of them, and how a path is told."""

    said: Configuration
    origins: Mapping[str, str]
    place: Place


def key_of(path: str) -> str:
    """Give the key at the top of a path: `ignore` of `$.ignore[0].rule`."""
    return re.sub(r"^\$\.|[.\[].*", "", path)


def refuse_both(one: str, other: str, value: object) -> None:
    """Refuse an option that has a value although its contrary was given. Raises UsageError."""
    if value is not None:
        raise UsageError(f"{one} and {other} contradict each other; give one of them")


# ---- the file


def layer_of_file(file: ConfigurationFile, folder: Path) -> Layer:
    """Understand a file; its paths count from where it lies, and in the layer from the folder. Raises UsageError."""
    required = file.table.get("required-version")
    if isinstance(required, str):  # before what a later version may have for keys
        check_version(required, version("jaynes-audit"), file.place("$.required-version"))
    said = _counted_from(file.path.parent, folder, configuration_of(file.table, file.place))
    return Layer(said=said, origins=dict.fromkeys(file.table, file.label), place=file.place)


def _counted_from(home: Path, folder: Path, said: Configuration) -> Configuration:
    """The paths in a file that lies at home, as they are from the working directory."""
    way = os.path.relpath(os.path.realpath(home), os.path.realpath(folder))
    if way == os.curdir:
        return said
    return msgspec.structs.replace(
        said,
        targets=tuple(_target(target, home, way) for target in said.targets),
        baseline=_baseline(said.baseline, way),
        output=tuple(_output(output, way) for output in said.output),
    )


def _target(target: str, home: Path, way: str) -> str:
    path = home / target
    is_here = os.path.lexists(path) or os.path.isdir(path.parent)  # noqa: PTH112 - Path.is_dir() may raise
    if target.startswith(SCHEME) or (could_be_on_hub(target) and not is_here):
        return target
    # Path would drop a slash at the end, here and below.
    return os.path.join(glob.escape(way) if glob.has_magic(target) else way, target)  # noqa: PTH118


def _baseline(place: str, way: str) -> str:
    if not place or os.path.isabs(place):  # noqa: PTH117
        return place
    if is_git_reference(place):
        revision, _, path = place.partition(":")
        return f"{revision}:{os.path.join(way, path)}"  # noqa: PTH118
    return os.path.join(way, place)  # noqa: PTH118


def _output(output: str, way: str) -> str:
    format_, equals, path = output.partition("=")
    return f"{format_}={os.path.join(way, path)}" if equals and path not in {"", STANDARD_OUTPUT} else output  # noqa: PTH118


# ---- the environment


def layer_of_environment(environ: Mapping[str, str]) -> Layer:
    """Understand the variables; an empty one says nothing, one we do not know neither. Raises UsageError."""
    origins = {key: variable for key, variable in VARIABLES.items() if environ.get(variable)}
    return _layer({key: _value(key, variable, environ[variable]) for key, variable in origins.items()}, origins)


def _value(key: str, variable: str, text: str) -> object:
    """What the text of a variable would be in a file."""
    if key in LISTS:
        return _parts([text])
    if key != "preview":
        return text
    if text.lower() not in TRUTHS:
        raise UsageError(f"{variable} is {quoted(text)}, which is neither true nor false; write 1 or 0")
    return TRUTHS[text.lower()]


def _parts(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",")]


# ---- the command line


def layer_of_options(options: Options) -> Layer:
    """Understand the command line. Raises UsageError, also for two options that contradict each other."""
    said: dict[str, object] = {
        "targets": list(options.targets),
        "output": list(options.output),
        "select": _parts(options.select),
        "extend-select": _parts(options.extend_select),
        "ignore-rule": _parts(options.ignore_rule),
    }
    said = {key: value for key, value in said.items() if value}
    origins = {key: f"--{key}" for key in said} | ({"targets": "command line"} if "targets" in said else {})
    for key, value, option in _single(options):
        said[key], origins[key] = value, option
    return _layer(said, origins)


def _single(options: Options) -> Iterator[tuple[str, object, str]]:
    """The options that have one value: key, value, and the name that was given."""
    if options.no_baseline:
        refuse_both("--baseline", "--no-baseline", options.baseline)
        yield "baseline", "", "--no-baseline"
    elif options.baseline == "":
        raise UsageError("--baseline is empty, as when a variable was not set; name a file, or give --no-baseline")
    elif options.baseline is not None:
        yield "baseline", options.baseline, "--baseline"
    if options.fail_on is not None:
        yield "fail-on", options.fail_on.value, "--fail-on"
    if options.preview is not None:
        yield "preview", options.preview, "--preview" if options.preview else "--no-preview"
    if options.allow_pickle is not None:
        yield "allow-pickle", options.allow_pickle.value, "--allow-pickle"


def _layer(table: Mapping[str, object], origins: Mapping[str, str]) -> Layer:
    def place(path: str) -> str:
        return origins[key_of(path)]

    return Layer(said=configuration_of(table, place), origins=origins, place=place)
