"""The JSON Schema of a configuration accepts what we accept, and so does a validator that is not ours."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.app import run
from jaynes_audit.cli.configuration.merging import effective_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.schema import configuration_schema
from jaynes_audit.cli.configuration.shown import shown
from tests.cli.configuration.test_file import IGNORE, MISTAKES
from tests.support.configuration_fuzz import EVERYTHING

KEPT = Path(__file__).parents[3] / "docs" / "schemas" / "jaynes-configuration.schema.json"

ONLY_WE_SEE = ("required-version =", "2027-03-31T00:00:00Z", "= nan", "= inf", "= 0xff")
"""Mistakes that no schema can tell: version specifiers, times of day (texts in JSON), and numbers that JSON lacks."""


def is_valid(content: str) -> bool:
    table = json.loads(json.dumps(tomllib.loads(content), default=str))
    validator = jsonschema.Draft202012Validator(
        configuration_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return validator.is_valid(table)


def test_the_schema_in_the_repository_is_the_one_that_is_printed(capsys) -> None:
    assert run(["config", "schema"]) == 0
    told = "run `jaynes config schema > docs/schemas/jaynes-configuration.schema.json`"
    assert capsys.readouterr().out == KEPT.read_text(), told


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(configuration_schema())


@pytest.mark.parametrize("content", ["", EVERYTHING.decode(), IGNORE], ids=["nothing", "everything", "an ignore"])
def test_what_we_accept_is_valid(content) -> None:
    assert is_valid(content)


def test_what_is_shown_is_valid(tmp_path) -> None:
    assert is_valid(shown(effective_of(Options(), {}, tmp_path)))


@pytest.mark.parametrize("content", [text for text in MISTAKES if not any(each in text for each in ONLY_WE_SEE)])
def test_what_we_refuse_is_invalid(content) -> None:
    assert not is_valid(content)


# ---- check-jsonschema


def checked(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "check_jsonschema", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_check_jsonschema_takes_it_for_a_schema() -> None:
    assert checked("--check-metaschema", KEPT).returncode == 0


def test_check_jsonschema_accepts_a_file_with_every_key(tmp_path) -> None:
    (tmp_path / "jaynes.toml").write_bytes(EVERYTHING)
    told = checked("--schemafile", KEPT, tmp_path / "jaynes.toml")
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    "mutation",
    [
        (b"fail-on", b"fail-onn"),
        (b'reason = "zero by design"\n', b""),
        (b'"JN103"', b'"JN1O3"'),
    ],
)
def test_check_jsonschema_rejects_a_mutant_and_so_do_we(tmp_path, mutation) -> None:
    mutant = EVERYTHING.replace(*mutation)
    assert mutant != EVERYTHING
    (tmp_path / "jaynes.toml").write_bytes(mutant)
    with pytest.raises(UsageError):
        effective_of(Options(), {}, tmp_path)
    assert checked("--schemafile", KEPT, tmp_path / "jaynes.toml").returncode == 1
