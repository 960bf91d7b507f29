"""The README is true: its commands, its report, its tables and its code."""

import re
import tomllib
from pathlib import Path

import pytest

from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LEFT_OUT = "..."


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_first_screen_has_the_two_commands_of_a_newcomer() -> None:
    first, second, *_ = blocks("sh")
    assert first == "pip install . && jaynes audit fixtures/babble/bf16\n"
    assert second == "pip install -e '.[test]' && python -m pytest\n"
    assert README[: README.index(second)].count("\n") < 25


def test_the_report_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    [report] = blocks("text")
    assert run(["audit", "fixtures/babble/bf16"]) == 0
    printed = capsys.readouterr().out
    shown = [line for line in report.splitlines() if line != LEFT_OUT]
    assert shown == [line for line in printed.splitlines() if line in shown]
    assert len(shown) > 10


def test_every_exit_status_is_explained() -> None:
    explained = {
        int(number) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for number in row.split(",")
    }
    assert explained == {int(code) for code in ExitCode}


def test_the_python_example_runs() -> None:
    [example] = blocks("python")
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - it is ours


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_version_has_its_place_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in changelog or f"## {version}" in changelog
