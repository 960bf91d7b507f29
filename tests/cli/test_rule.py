"""`jaynes rule`, as somebody who met a code in a build's log uses it."""

import json
import subprocess
import sys

import pytest

from jaynes_audit.analyzers.rules import RULES
from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["rule", *arguments]) == ExitCode.PASSED
    return capsys.readouterr().out


def test_without_a_code_it_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert [line.split()[:3] for line in lines] == [[rule.code, rule.level, rule.name] for rule in RULES]


@pytest.mark.parametrize("name", ["JN101", "jn101", "non-finite-weights", "Non-Finite-Weights"])
def test_a_code_or_a_name_shows_one(capsys: pytest.CaptureFixture[str], name: str) -> None:
    page = printed(capsys, name)
    assert page.startswith("JN101 non-finite-weights\nerror, very high precision\n\n")
    assert "\n\nWhy it matters: " in page
    assert "\n\nWhat to do: " in page
    assert "\n\nExample: " in page
    assert "JN102" not in page


def test_the_beginning_of_a_code_shows_all_that_begin_so(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(printed(capsys, "JN4", "--format", "json"))
    assert [each["code"] for each in shown] == [rule.code for rule in RULES if rule.code.startswith("JN4")]
    assert len(shown) > 1


def test_all_shows_everything_about_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    page = printed(capsys, "--all")
    assert page.count("\nWhy it matters: ") == page.count("\nWhat to do: ") == len(RULES)


def test_json_has_every_field_of_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(printed(capsys, "--format", "json"))
    assert [each["name"] for each in listed] == [rule.name for rule in RULES]
    by_code = {each["code"]: each for each in listed}
    assert by_code["JN401"]["needs_baseline"]
    assert {each["name"]: each["usual"] for each in by_code["JN404"]["thresholds"]}.keys() == {"zero-share"}
    assert not by_code["JN406"]["on_by_default"]
    assert listed == json.loads(printed(capsys, "--all", "--format", "json"))


def test_a_page_says_what_turns_a_rule_on_and_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert "off without `--extend-select JN406`, needs a baseline" in printed(capsys, "JN406")


def test_markdown_of_one_rule_is_its_section(capsys: pytest.CaptureFixture[str]) -> None:
    section = printed(capsys, "JN404", "--format", "markdown")
    assert section.startswith("### JN404 sparsity-drift\n\n**error**, ")
    assert "| `zero-share` | " in section
    assert section in printed(capsys, "--all", "--format", "markdown")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonfinite-weights"], "did you mean 'non-finite-weights'?"),
        (["JM101"], "did you mean 'JN101'?"),
        (["zzz"], "there is no rule 'zzz' (`jaynes rule` lists them)"),
        ([""], "there is no rule ''"),
        (["\x1b[31m"], r"there is no rule '\x1b[31m'"),
        (["JN101", "--all"], "give one of the two"),
        (["--format", "yaml"], "yaml"),
    ],
)
def test_2_and_one_sentence_when_it_is_misused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["rule", *arguments]) == ExitCode.MISUSED
    told = capsys.readouterr()
    assert not told.out
    assert words in told.err
    assert told.err.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from jaynes_audit.cli.app import run; run(['rule', '--help']); print(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    modules = ran.stdout.splitlines()[-1]
    assert not [each for each in ("'numpy'", "'scipy'", "'rich'", "'msgspec'", "'huggingface_hub'") if each in modules]
