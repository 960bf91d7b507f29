"""The effective settings as a configuration file, with where each comes from."""

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec

from jaynes_audit.analyzers.rules.thresholds import every_threshold
from jaynes_audit.cli.configuration.file import Table
from jaynes_audit.cli.configuration.merging import DEFAULT_ORIGIN, Effective
from jaynes_audit.cli.visible import visible

_ESCAPED = {'"': '\\"', "\\": "\\\\"}
_NOT_IN_TOML = "\ufffd"  # for half of a surrogate pair, which no TOML can hold


def shown(effective: Effective) -> str:
    """Write the settings as TOML that reads as the same settings, thresholds at their usual values included.

    Each value has a comment that says where it comes from. Names of files and patterns come out printable.
    """
    file = effective.file
    head = f"# {visible(str(file.path))}" if file else "# no configuration file"
    plain, tables = [], []
    for key, value in msgspec.structs.asdict(effective.configuration).items():
        name, origin = key.replace("_", "-"), effective.origins[key.replace("_", "-")]
        match value:
            case dict() if name == "thresholds":
                tables.append(_thresholds(value, origin))
            case dict():
                tables.append(_table(f"[{name}]", value, origin))
            case Table():
                tables.append(_table(f"[{name}]", _given(value), origin))
            case tuple() if any(isinstance(each, Table) for each in value):
                tables += [_table(f"[[{name}]]", _given(each), origin) for each in value]
            case _ if not value and name in {"override", "ignore"}:
                pass
            case _:
                plain.append(_line(name, value, origin))
    return "\n\n".join([head, "\n".join(plain), *filter(None, tables)]) + "\n"


def _thresholds(given: Mapping[str, object], origin: str) -> str:
    lines = [
        _line(each.name, given.get(each.name, each.usual), origin if each.name in given else DEFAULT_ORIGIN)
        for each in every_threshold()
    ]
    return "\n".join(["[thresholds]", *lines])


def _table(heading: str, values: Mapping[str, object], origin: str) -> str:
    """One table, or nothing where it has no key."""
    return "\n".join([heading, *(_line(key, value, origin) for key, value in values.items())]) if values else ""


def _given(table: Table) -> dict[str, object]:
    """What of a table says anything, by the names in a file."""
    return {key.replace("_", "-"): value for key, value in msgspec.structs.asdict(table).items() if value}


def _line(key: str, value: object, origin: str) -> str:
    source = origin if origin == DEFAULT_ORIGIN else f"from {visible(origin)}"
    return f"{key} = {_value(value)}  # {source}"


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{"".join(map(_character, value))}"'
        case date():
            return value.isoformat()
        case Mapping():
            return f"{{ {', '.join(f'{key} = {_value(each)}' for key, each in value.items())} }}"
        case Sequence():
            return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _character(character: str) -> str:
    if character.isprintable():
        return _ESCAPED.get(character, character)
    code = ord(character)
    if 0xD800 <= code < 0xE000:  # noqa: PLR2004 - the surrogates
        return _NOT_IN_TOML
    return f"\\U{code:08x}"
