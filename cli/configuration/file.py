"""What may stand in a configuration file: every key with its meaning and its default."""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Annotated, Any

import msgspec

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.configuration.settings import AllowPickle
from jaynes_audit.cli.configuration.suggestion import suggestion
from jaynes_audit.cli.exit_codes import FailOn

NOT_BLANK = r"\S"
LONGEST_PATTERN = 1000  # the time that fnmatch takes for one grows with the square of its brackets
LONGEST_TARGET = 4096  # as paths on Linux, some of which are patterns too


def _says(meaning: str) -> msgspec.Meta:
    return msgspec.Meta(description=meaning)


Codes = tuple[str, ...]
Target = Annotated[str, msgspec.Meta(pattern=NOT_BLANK, max_length=LONGEST_TARGET)]
Pattern = Annotated[
    str,
    msgspec.Meta(
        pattern=NOT_BLANK,
        max_length=LONGEST_PATTERN,
        description="Shell pattern of names of tensors, layers or files.",
    ),
]


class Table(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """A table in which no key but those declared may stand."""


class Expect(Table, frozen=True):
    """What an export is to be like."""

    dtype: Annotated[str, _says("Number format that every matrix must have, as BF16 or fp32; empty for any.")] = ""
    changed: Annotated[
        tuple[Pattern, ...],
        _says("Patterns of layers that may hold other weights than the baseline, because training goes on."),
    ] = ()


class Override(Table, frozen=True):
    """Other thresholds for some layers. Of several that match a layer the last one decides."""

    tensor: Pattern
    thresholds: Annotated[dict[str, Any], _says("Thresholds, as in the table of that name.")]


class Ignored(Table, frozen=True):
    """Findings that are known and accepted."""

    rule: Annotated[str, _says("Code of the rule, or what the codes of several begin with.")]
    tensor: Annotated[Pattern, _says("Shell pattern of what the finding is about: a tensor, a file, a target.")]
    reason: Annotated[str, msgspec.Meta(pattern=NOT_BLANK, description="Why this is right as it is.")]
    until: Annotated[date | None, _says("Last day on which it holds; from the next day on it is an error.")] = None


class Configuration(Table, frozen=True):
    """All keys of `jaynes.toml`, or of `[tool.jaynes]` in pyproject.toml."""

    required_version: Annotated[
        str, _says("Versions of jaynes that may read this, as >=1.0,<2; any other one stops. Empty for all.")
    ] = ""
    targets: Annotated[
        tuple[Target, ...], _says("What to audit where the command line names nothing. Paths count from this file.")
    ] = ()
    baseline: Annotated[
        str, _says("The baseline, a path or REVISION:PATH in git; {name} stands for the model's name. Empty for none.")
    ] = ""
    require_base_ref: Annotated[
        bool, _says("Refuse a baseline that is not read through git, which a pull request could change for itself.")
    ] = False
    fail_on: Annotated[FailOn, _says("Lowest level of a new finding that makes the exit status 1.")] = FailOn.ERROR
    output: Annotated[tuple[str, ...], _says("Reports: FORMAT, or FORMAT=PATH for a file.")] = ("table",)
    select: Annotated[Codes, _says("Only these rules: codes or prefixes. Empty for those that are on by default.")] = ()
    extend_select: Annotated[
        Codes, _says("These rules too. Those that are off by default must be named by their whole code.")
    ] = ()
    ignore_rule: Annotated[Codes, _says("Not these rules.")] = ()
    preview: Annotated[bool, _says("Whether rules on trial are on.")] = False
    allow_pickle: Annotated[
        AllowPickle, _says("never makes weights stored as a pickle an error. They are never run either way.")
    ] = AllowPickle.WEIGHTS
    severity: Annotated[dict[str, Any], _says("Level of a rule's findings, by its code: error, warning or note.")] = (
        msgspec.field(default_factory=dict)
    )
    thresholds: Annotated[dict[str, Any], _says("How much is too much, by name.")] = msgspec.field(default_factory=dict)
    expect: Annotated[Expect, _says("What an export is to be like.")] = Expect()
    override: Annotated[tuple[Override, ...], _says("Other thresholds for some layers; the last match decides.")] = ()
    ignore: Annotated[tuple[Ignored, ...], _says("Findings that are known and accepted.")] = ()


_INNER: Mapping[str, type[Table]] = {"expect": Expect, "override": Override, "ignore": Ignored}
_CHOICES: Mapping[str, type[FailOn | AllowPickle]] = {"fail-on": FailOn, "allow-pickle": AllowPickle}


def configuration_of(table: Mapping[str, object], place: Callable[[str], str]) -> Configuration:
    """Understand a table. `place` says in words where a path in it, such as `$.ignore[0]`, stands.

    Codes of rules, names of thresholds and of number formats are checked where they become a policy.

    Raises:
        UsageError: for a key that does not exist, is missing, or has a value of another kind.
    """
    for path, inner, kind in _tables_in(table):
        for key in inner:
            if key not in kind.__struct_encode_fields__:
                hint = suggestion(key, kind.__struct_encode_fields__)
                raise UsageError(f"{place(path)}: there is no key {quoted(key)}; {hint}")
    try:
        return msgspec.convert(table, Configuration)
    except msgspec.ValidationError as error:
        told, _, path = str(error).rpartition(" - at `")
        path = path.removesuffix("`") if told else "$"
        raise UsageError(f"{place(path)}: {_explained(told or str(error), path, table)}") from None


def _tables_in(table: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object], type[Table]]]:
    """The table and those inside of it whose keys are declared, each with its path and its declaration."""
    yield "$", table, Configuration
    for key, kind in _INNER.items():
        value = table.get(key)
        inner = [(f"$.{key}", value)]
        if isinstance(value, list):
            inner = [(f"$.{key}[{number}]", each) for number, each in enumerate(value)]
        yield from ((path, each, kind) for path, each in inner if isinstance(each, dict))


def _explained(told: str, path: str, table: Mapping[str, object]) -> str:
    """What msgspec says, with a remedy."""
    key = path.rpartition(".")[2]
    if key in _CHOICES and told.startswith("Invalid enum value"):
        value = str(table[key])
        return f"{quoted(value)} has no meaning here; {suggestion(value, _CHOICES[key])}"
    if "matching regex" in told:
        return "this is blank; say something here"
    return f"{told[:1].lower()}{told[1:]}; correct it"
