"""`jaynes config show`: what holds, from where, and as a file that says the same."""

import re
import tomllib
from pathlib import Path

import pytest

from jaynes_audit.analyzers.rules.thresholds import every_threshold
from jaynes_audit.cli.app import run
from jaynes_audit.cli.configuration.merging import Effective, effective_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.shown import shown
from jaynes_audit.cli.exit_codes import FailOn
from tests.support.configuration_fuzz import EVERYTHING
from tests.support.hostile import HOSTILE

STRANGE = r"""
baseline = "back\\slash \"quote\" \t tab"
[[ignore]]
rule = "JN1"
tensor = "\u001b[2J\u202e\u2028\u007f\U0010ffff"
reason = "b\u00e9b\u00e9 \U0001f98a"
"""


def effective(folder: Path, content: bytes, **options: object) -> Effective:
    (folder / "jaynes.toml").write_bytes(content)
    return effective_of(Options(targets=["elsewhere"], **options), {}, folder)


@pytest.mark.parametrize("content", [b"", EVERYTHING, STRANGE.encode()], ids=["nothing", "everything", "strange"])
def test_what_is_shown_says_the_same_when_it_is_pasted(tmp_path, content) -> None:
    first = effective(tmp_path, content)
    again = effective(tmp_path, shown(first).encode())
    assert again.policy == first.policy
    known = {"thresholds", "severity"}  # these are shown as they hold, and so with their defaults
    for field in set(first.configuration.__struct_fields__) - known:
        assert getattr(again.configuration, field) == getattr(first.configuration, field)


def test_what_is_shown_is_printable_whatever_a_file_holds(tmp_path) -> None:
    assert all(
        character.isprintable() or character == "\n" for character in shown(effective(tmp_path, STRANGE.encode()))
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_environment_says_is_printable_and_still_toml(tmp_path, name) -> None:
    told = shown(effective_of(Options(), {"JAYNES_BASELINE": name or "x"}, tmp_path))
    assert told.isprintable() or set(filter(lambda each: not each.isprintable(), told)) == {"\n"}
    assert tomllib.loads(told)["baseline"] == re.sub("[\ud800-\udfff]", "\ufffd", name or "x")


def test_every_value_has_its_origin_beside_it(tmp_path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.jaynes]\npreview = true\n[tool.jaynes.thresholds]\nsigma-rel = 0.03\n"
    )
    lines = shown(
        effective_of(Options(fail_on=FailOn.NOTE), {"JAYNES_SELECT": "JN1,JN4"}, tmp_path),
    ).splitlines()
    assert lines[0] == f"# {tmp_path / 'pyproject.toml'}"
    assert 'fail-on = "note"  # from --fail-on' in lines
    assert 'select = ["JN1", "JN4"]  # from JAYNES_SELECT' in lines
    assert "preview = true  # from pyproject.toml [tool.jaynes]" in lines
    assert 'output = ["table"]  # default' in lines
    assert "sigma-rel = 0.03  # from pyproject.toml [tool.jaynes]" in lines
    assert "sigma-abs = 0.005  # default" in lines


def test_every_threshold_is_shown(tmp_path) -> None:
    told = tomllib.loads(shown(effective_of(Options(), {}, tmp_path)))
    assert told["thresholds"] == {each.name: each.usual for each in every_threshold()}


def test_without_a_file_it_says_so(tmp_path) -> None:
    assert shown(effective_of(Options(), {}, tmp_path)).startswith("# no configuration file\n")


# ---- the command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_shows_what_holds_in_the_working_directory(here, monkeypatch, capsys) -> None:
    (here / "jaynes.toml").write_text('targets = ["export/"]\n')
    monkeypatch.setenv("JAYNES_FAIL_ON", "note")
    assert run(["config", "show"]) == 0
    told = capsys.readouterr().out
    assert 'targets = ["export/"]  # from jaynes.toml' in told
    assert 'fail-on = "note"  # from JAYNES_FAIL_ON' in told


def test_the_command_shows_a_file_that_is_named_and_none_at_all(here, capsys) -> None:
    (here / "jaynes.toml").write_text("not toml")
    (here / "gate.toml").write_text("preview = true\n")
    assert run(["config", "show", "-c", "gate.toml"]) == 0
    assert "preview = true  # from gate.toml" in capsys.readouterr().out
    assert run(["config", "show", "--no-config"]) == 0
    assert "preview = false  # default" in capsys.readouterr().out


def test_a_mistake_in_the_file_is_misuse(here, capsys) -> None:
    (here / "jaynes.toml").write_text("previw = true\n")
    assert run(["config", "show"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "there is no key 'previw'; did you mean 'preview'?" in told.err
