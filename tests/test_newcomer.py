"""From nothing to a failing and then a passing gate: the README's own commands, run in a fresh repository."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaynes_audit.cli.exit_codes import ExitCode

ROOT = Path(__file__).parent.parent
MARKED = re.compile(r"<!-- newcomer -->\n```sh\n(.*?)```", re.DOTALL)
MOST_COMMANDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line of the README, and the exit status that it announces."""

    line: str
    status: int


def commands() -> list[Command]:
    [block] = MARKED.findall((ROOT / "README.md").read_text())
    announced = [re.search(r"# exit status (\d)$", line) for line in block.splitlines()]
    return [
        Command(line=line, status=int(found[1]) if found else ExitCode.PASSED)
        for line, found in zip(block.splitlines(), announced, strict=True)
    ]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A fresh git repository, with a checkout of this one beside it."""
    (tmp_path / "jaynes").symlink_to(ROOT)
    fresh = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", fresh], check=True)  # noqa: S603, S607
    return fresh


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a shell has once `jaynes` is installed."""
    programs = tmp_path / "programs"
    programs.mkdir()
    jaynes = programs / "jaynes"
    jaynes.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m jaynes_audit "$@"\n')
    jaynes.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def test_it_takes_five_commands_at_most_and_the_first_one_installs() -> None:
    listed = commands()
    assert len(listed) <= MOST_COMMANDS
    assert not [each for each in listed if re.search(r"&&|\||;", each.line.partition("#")[0])]
    assert listed[0].line == "pip install ../jaynes"


def test_the_gate_fails_and_then_passes(repository: Path, environment: dict[str, str]) -> None:
    _, *after_installing = commands()
    printed: dict[int, str] = {}
    for command in after_installing:
        ended = subprocess.run(  # noqa: S603
            ["/bin/bash", "-c", command.line],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == command.status, f"{command.line}\n{ended.stdout}{ended.stderr}"
        printed[ended.returncode] = ended.stdout
    assert [each.status for each in after_installing if "jaynes gate" in each.line] == [ExitCode.FOUND, ExitCode.PASSED]
    assert "JN407" in printed[ExitCode.FOUND]
    staged = subprocess.run(  # noqa: S603
        ["git", "-C", repository, "diff", "--cached", "--name-only"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    assert staged.stdout == "babble.jaynes.jsonl\n"


def test_the_page_about_the_gate_begins_with_the_same_commands() -> None:
    [readme] = MARKED.findall((ROOT / "README.md").read_text())
    [page] = MARKED.findall((ROOT / "docs/gate.md").read_text())
    assert page == readme
