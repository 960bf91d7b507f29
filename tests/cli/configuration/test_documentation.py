"""docs/configuration.md keeps up with the code."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest

from jaynes_audit.analyzers.rules.thresholds import every_threshold
from jaynes_audit.cli.configuration.file import Configuration, Expect, Ignored, Override
from jaynes_audit.cli.configuration.merging import FILE_VARIABLE, effective_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.schema import configuration_schema
from jaynes_audit.cli.configuration.sources import VARIABLES

DOCUMENT = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
TOML = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
DEFINITIONS = configuration_schema()["$defs"]


def rows_of(table: type) -> list[str]:
    declared = DEFINITIONS[table.__name__]
    return [
        f"| `{key}` | {_default(value)} | {_cell(value['description'])} |"
        for key, value in declared["properties"].items()
    ]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _default(value: dict[str, object]) -> str:
    if "default" not in value:
        return "required"
    default = value["default"]
    is_empty = not any(default.values()) if isinstance(default, dict) else default in ((), "", None)
    return "none" if is_empty else f"`{json.dumps(default)}`"


@pytest.mark.parametrize("row", [row for table in (Configuration, Expect, Override, Ignored) for row in rows_of(table)])
def test_every_key_stands_in_a_table_with_its_default_and_meaning(row) -> None:
    assert row in DOCUMENT.splitlines(), f"write into docs/configuration.md: {row}"


def test_the_table_of_thresholds_is_that_of_the_code() -> None:
    rows = [f"| `{each.name}` | {each.usual:g} | {_cell(each.meaning)} |" for each in every_threshold()]
    head = "| threshold | default | rule and meaning |\n|---|---|---|\n"
    written = DOCUMENT.partition(head)[2].partition("\n\n")[0].splitlines()
    assert written == rows, "write into docs/configuration.md:\n" + "\n".join(rows)


@pytest.mark.parametrize("variable", [FILE_VARIABLE, *VARIABLES.values()])
def test_every_variable_is_named(variable) -> None:
    assert f"`{variable}`" in DOCUMENT


@pytest.mark.parametrize("example", TOML, ids=range(len(TOML)))
def test_every_example_is_sound(tmp_path, example) -> None:
    table = tomllib.loads(example)
    if "tool" in table:
        (tmp_path / "pyproject.toml").write_text(example)
    else:
        (tmp_path / "jaynes.toml").write_text(example)
        jsonschema.validate(json.loads(json.dumps(table, default=str)), configuration_schema())
    assert set(effective_of(Options(targets=["elsewhere"]), {}, tmp_path).origins.values()) != {"default"}


def test_there_are_examples_of_every_key() -> None:
    given = {key for example in TOML for key in tomllib.loads(example)}
    assert given >= set(Configuration.__struct_encode_fields__)
