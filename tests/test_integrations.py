"""The GitHub action, the pre-commit hooks and the workflows of the docs: accepted by who reads them, and run.

The tools that read them (zizmor, check-jsonschema, pre-commit) come with the `test` extra and need no network.
What installs the project anew does: it runs where JAYNES_EXPECT_INSTALL=1 says that PyPI is there.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import ExitCode
from tests.support.checkpoint_files import SIZE, checkpoint, gaussian
from tests.support.composite_action import Ran, Runner

ROOT = Path(__file__).parent.parent
ACTION = ROOT / "action.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
GATE_PAGE = (ROOT / "docs/gate.md").read_text()
REVIEWED = "0123456789abcdef0123456789abcdef01234567"
BESIDE_PYTHON = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
NEEDS_PYPI = pytest.mark.skipif(not os.environ.get("JAYNES_EXPECT_INSTALL"), reason="JAYNES_EXPECT_INSTALL is not set")


def ran(
    tool: str, *arguments: str | Path, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a tool of the `test` extra, whether or not the environment is activated."""
    program = shutil.which(tool, path=BESIDE_PYTHON)
    assert program, f"{tool} is not installed; it comes with the test extra"
    return subprocess.run(  # noqa: S603 - tools that the project chose
        [program, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def example(page: str, language: str, containing: str) -> str:
    """The one block of a page in this language that contains these words."""
    [block] = [each for each in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if containing in each]
    return block.replace("@COMMIT", f"@{REVIEWED}").replace("rev: COMMIT", f"rev: {REVIEWED}")


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# ---- what reads them accepts them, and would not accept everything


def schema_accepts(schema: str, file: Path) -> bool:
    return ran("check-jsonschema", "--builtin-schema", f"vendor.{schema}", file).returncode == 0


def zizmor_accepts(file: Path) -> bool:
    return ran("zizmor", "--offline", "--no-config", "--persona=auditor", file).returncode == 0


def test_the_action_is_one() -> None:
    assert schema_accepts("github-actions", ACTION)


@pytest.mark.parametrize(
    ("right", "wrong"), [("using: composite", "using: composit"), ("shell: bash", "shel: bash"), ("runs:", "run:")]
)
def test_the_schema_rejects_what_is_no_action(tmp_path: Path, right: str, wrong: str) -> None:
    assert not schema_accepts("github-actions", written(tmp_path / "action.yml", mutant(ACTION, right, wrong)))


def test_the_action_has_no_known_weakness() -> None:
    assert zizmor_accepts(ACTION)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('<<< "$TARGETS"', '<<< "${{ inputs.paths }}"'),
        ('<<< "$MORE"', '<<< "${{ inputs.args }}"'),
        ('"${VERSION:+', '"${{ inputs.version }}${VERSION:+'),
        ("sarif=$SARIF_FILE", "sarif=${{ inputs.sarif-file }}"),
        ('exit "$EXIT_CODE"', "exit ${{ steps.gate.outputs.exit-code }}"),
    ],
)
def test_zizmor_rejects_an_input_inside_a_script(tmp_path: Path, right: str, wrong: str) -> None:
    assert not zizmor_accepts(written(tmp_path / "action.yml", mutant(ACTION, right, wrong)))


def test_the_hooks_are_a_manifest() -> None:
    assert ran("pre-commit", "validate-manifest", HOOKS).returncode == 0


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("entry: jaynes gate", "entri: jaynes gate"), (r"files: \.jaynes", r"files: (\.jaynes"), ("python", "pyton")],
)
def test_pre_commit_rejects_what_is_no_manifest(tmp_path: Path, right: str, wrong: str) -> None:
    manifest = written(tmp_path / "hooks.yaml", mutant(HOOKS, right, wrong))
    assert ran("pre-commit", "validate-manifest", manifest).returncode != 0


def mutant(file: Path, right: str, wrong: str) -> str:
    text = file.read_text()
    assert right in text
    return text.replace(right, wrong, 1)


# ---- the examples of the docs


def test_the_github_workflow_is_one_without_known_weakness(tmp_path: Path) -> None:
    text = example(GATE_PAGE, "yaml", "runs-on:")
    workflow = written(tmp_path / ".github/workflows/checkpoint.yml", text)
    assert schema_accepts("github-workflows", workflow)
    assert zizmor_accepts(workflow)
    workflow.write_text(text.replace("runs-on:", "run-on:"))
    assert not schema_accepts("github-workflows", workflow)
    workflow.write_text(text.replace("persist-credentials: false", "persist-credentials: true"))
    assert not zizmor_accepts(workflow)


def test_the_github_workflow_gives_the_action_inputs_that_it_has() -> None:
    workflow = yaml.safe_load(example(GATE_PAGE, "yaml", "runs-on:"))
    [given] = [step["with"] for step in workflow["jobs"]["gate"]["steps"] if "jaynes@" in step["uses"]]
    described = yaml.safe_load(ACTION.read_text())["inputs"]
    assert given.keys() <= described.keys()
    assert set(re.findall(r"^\| `([\w-]+)` \|", GATE_PAGE, re.MULTILINE)) == described.keys()


def test_the_gitlab_job_is_one(tmp_path: Path) -> None:
    text = example(GATE_PAGE, "yaml", "artifacts:")
    job = written(tmp_path / ".gitlab-ci.yml", text)
    assert schema_accepts("gitlab-ci", job)
    job.write_text(text.replace("when: always", "when: alwys"))
    assert not schema_accepts("gitlab-ci", job)


def test_the_pre_commit_configuration_is_one_and_names_our_hooks(tmp_path: Path) -> None:
    text = example(GATE_PAGE, "yaml", "hooks:")
    assert ran("pre-commit", "validate-config", written(tmp_path / "config.yaml", text)).returncode == 0
    [repository] = yaml.safe_load(text)["repos"]
    assert {each["id"] for each in repository["hooks"]} == {each["id"] for each in yaml.safe_load(HOOKS.read_text())}


def test_the_configuration_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = example(GATE_PAGE, "toml", "targets")
    written(tmp_path / "jaynes.toml", text)
    monkeypatch.chdir(tmp_path)
    assert run(["config", "show"]) == ExitCode.PASSED
    written(tmp_path / "jaynes.toml", text.replace("fail-on", "fail-onn"))
    assert run(["config", "show"]) == ExitCode.MISUSED


def commands_of_the_page() -> dict[str, str]:
    gitlab = yaml.safe_load(example(GATE_PAGE, "yaml", "artifacts:"))["checkpoint"]
    [jenkins] = re.findall(r"sh '(.*)'", example(GATE_PAGE, "groovy", "junit"))
    return {
        "GitLab": "\n".join(gitlab["script"]),
        "Jenkins": jenkins,
        "from another branch": example(GATE_PAGE, "sh", "origin/main"),
    }


@pytest.mark.parametrize("where", commands_of_the_page())
def test_the_commands_of_the_page_work(tmp_path: Path, where: str) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "baselines").mkdir()
    export = sound(tmp_path / "export", "model.safetensors").parent
    baseline = tmp_path / "baselines/export.jaynes.jsonl"
    assert run(["baseline", "write", str(baseline), str(export)]) == ExitCode.PASSED
    committed(tmp_path)
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    program(tmp_path / "programs/jaynes", f'exec {shlex.quote(sys.executable)} -m jaynes_audit "$@"')
    path = f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}"
    command = commands_of_the_page()[where]
    ended = ran("bash", "-ec", command, folder=tmp_path, PATH=path, CI_DEFAULT_BRANCH="main")
    assert ended.returncode == ExitCode.PASSED, ended.stderr + ended.stdout
    for report in re.findall(r"-o \w+=(\S+)", command):
        assert (tmp_path / report).exists()


# ---- the action, run

HOSTILE = """$(touch pwned) `touch pwned` ; touch pwned; ' ; touch pwned ; ' " ; touch pwned ; " *"""


@pytest.fixture
def machine(tmp_path: Path) -> Runner:
    for name in ("workspace", "temporary", "programs"):
        (tmp_path / name).mkdir()
    programs = str(tmp_path / "programs")
    return Runner(
        workspace=tmp_path / "workspace",
        temporary=tmp_path / "temporary",
        environment={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )


def program(path: Path, *lines: str) -> None:
    written(path, "\n".join(["#!/bin/sh", *lines, ""])).chmod(0o755)


def with_jaynes(machine: Runner, *lines: str) -> Runner:
    """The machine with a `uv` that notes what it is asked to install, and puts such a `jaynes` in place."""
    folder = machine.workspace.parent
    program(folder / "jaynes", *lines)
    noting = f"""printf '%s\\n' "$@" > {shlex.quote(str(folder / "installed"))}"""
    placing = f'mkdir -p "$UV_TOOL_BIN_DIR" && cp {shlex.quote(str(folder / "jaynes"))} "$UV_TOOL_BIN_DIR/jaynes"'
    program(folder / "programs/uv", noting, placing)
    return machine


@pytest.fixture
def runner(machine: Runner) -> Runner:
    """A machine where the environment's own jaynes is what is installed."""
    return with_jaynes(machine, f'exec {shlex.quote(sys.executable)} -m jaynes_audit "$@"')


@pytest.fixture
def noting(machine: Runner) -> Runner:
    """A machine whose jaynes notes its arguments, and ends with the status that the first target names."""
    asked = shlex.quote(str(machine.workspace.parent / "asked"))
    return with_jaynes(machine, f"""printf '%s\\n' "$@" > {asked}""", 'for last; do :; done; exit "${last#status}"')


def asked(runner: Runner) -> list[str]:
    """The arguments after those that the action always gives: three outputs."""
    arguments = (runner.workspace.parent / "asked").read_text().splitlines()
    assert arguments[:4:2] == ["gate", "github"]
    return arguments[7:]


def sound(folder: Path, name: str = "export.safetensors") -> Path:
    return checkpoint(folder / name)


def broken(folder: Path, name: str = "export.safetensors") -> Path:
    weights = gaussian(SIZE, SIZE)
    weights[3, 4] = np.nan
    return checkpoint(folder / name, {"layer.weight": weights})


def annotations(ran: Ran) -> list[str]:
    return [line for line in ran.stdout.splitlines() if line.startswith(("::error ", "::warning ", "::notice "))]


def results(file: Path) -> list[str]:
    [log] = json.loads(file.read_text())["runs"]
    return [each["ruleId"] for each in log["results"]]


def test_a_broken_export_fails_with_annotation_summary_and_sarif(runner: Runner) -> None:
    broken(runner.workspace)
    ended = runner.run(ACTION, {"paths": "export.safetensors"})
    assert ended.status == ExitCode.FOUND
    assert ended.outputs == {"exit-code": "1"}
    [annotation] = [each for each in annotations(ended) if each.startswith("::error ")]
    assert "JN101" in annotation
    assert "layer.weight" in annotation
    assert "JN101 non-finite-weights" in ended.summary
    assert "**Exit status 1**" in ended.summary
    assert "JN101" in results(runner.workspace / "jaynes.sarif")


def test_a_sound_export_passes(runner: Runner) -> None:
    sound(runner.workspace, "my export.safetensors")
    ended = runner.run(ACTION, {"paths": "my export.safetensors", "sarif-file": "found here.sarif"})
    assert ended.status == ExitCode.PASSED
    assert ended.outputs == {"exit-code": "0"}
    assert not [each for each in annotations(ended) if each.startswith("::error ")]
    assert "**Exit status 0**" in ended.summary
    assert (runner.workspace / "found here.sarif").exists()


def test_what_a_file_is_called_does_not_command_the_runner(runner: Runner) -> None:
    """GitHub's runner takes `##[command]` anywhere in a line, and `::command::` where a line begins."""
    path = sound(runner.workspace, "##[stop-commands]x.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    ended = runner.run(ACTION, {"paths": path.name})
    assert ended.status == ExitCode.FOUND
    others = [line for line in ended.stdout.splitlines() if line not in annotations(ended)]
    assert not [line for line in others if "##[" in line or line.lstrip().startswith("::")]
    assert not ended.stderr


def test_paths_are_one_a_line(noting: Runner) -> None:
    noting.run(ACTION, {"paths": "a b.safetensors\n\n  --help\nruns/*.pt\n"})
    assert asked(noting) == ["--", "a b.safetensors", "--help", "runs/*.pt"]


def test_without_paths_the_targets_are_those_of_the_configuration(noting: Runner) -> None:
    noting.run(ACTION, {})
    assert asked(noting) == ["--"]


def test_args_are_separated_by_white_space(noting: Runner) -> None:
    noting.run(ACTION, {"paths": "export/", "args": "--baseline origin/main:b.jaynes.jsonl\n  --fail-on warning\n"})
    options = ["--baseline", "origin/main:b.jaynes.jsonl", "--fail-on", "warning"]
    assert asked(noting) == [*options, "--", "export/"]


@pytest.mark.parametrize("name", ["paths", "args", "version", "sarif-file"])
def test_no_input_becomes_a_command(noting: Runner, name: str) -> None:
    noting.run(ACTION, {name: HOSTILE})
    arguments = [(noting.workspace.parent / file).read_text() for file in ("asked", "installed")]
    assert "touch" in "".join(arguments)
    assert not list(noting.workspace.parent.rglob("pwned"))


@pytest.mark.parametrize("status", list(range(5)))
def test_the_action_ends_as_the_gate_did(noting: Runner, status: int) -> None:
    ended = noting.run(ACTION, {"paths": f"status{status}"})
    assert ended.status == status
    assert ended.outputs == {"exit-code": str(status)}


@pytest.mark.parametrize(("version", "expected"), [("", str(ROOT)), ("1.2.3", "jaynes-audit==1.2.3")])
def test_it_installs_its_own_checkout_or_the_version_that_is_named(noting: Runner, version: str, expected: str) -> None:
    noting.run(ACTION, {"version": version})
    arguments = (noting.workspace.parent / "installed").read_text().splitlines()
    assert arguments[:2] == ["tool", "install"]
    assert "--compile-bytecode" in arguments
    assert arguments[-1] == expected


@NEEDS_PYPI
def test_it_installs_itself_where_there_is_no_uv(tmp_path: Path) -> None:
    plain = {"PATH": "/usr/local/bin:/usr/bin:/bin", "UV_CACHE_DIR": str(tmp_path / "cache")}
    assert not shutil.which("uv", path=plain["PATH"])
    runner = Runner(workspace=tmp_path / "workspace", temporary=tmp_path / "temporary", environment=plain)
    runner.workspace.mkdir()
    runner.temporary.mkdir()
    broken(runner.workspace)
    ended = runner.run(copied(tmp_path / "action") / "action.yml", {"paths": "export.safetensors"})
    assert ended.outputs == {"exit-code": "1"}, ended
    assert ended.status == ExitCode.FOUND


def copied(folder: Path) -> Path:
    """The checkout without what was built in it, where building leaves nothing behind."""
    unwanted = shutil.ignore_patterns(".git", "build", "*.egg-info", "*.so", "__pycache__", ".venv*", ".*_cache")
    return Path(shutil.copytree(ROOT, folder, ignore=unwanted))


# ---- the hooks, run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with our hooks, which run the environment's own jaynes."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    jaynes = f"{shlex.quote(sys.executable)} -m jaynes_audit"
    hooks = [
        {**hook, "language": "system", "entry": hook["entry"].replace("jaynes", jaynes, 1), "verbose": True}
        for hook in yaml.safe_load(HOOKS.read_text())
    ]
    written(folder / ".pre-commit-config.yaml", yaml.safe_dump({"repos": [{"repo": "local", "hooks": hooks}]}))
    written(folder / "jaynes.toml", 'targets = ["export"]\n')
    return folder


def git(folder: Path, *arguments: str) -> None:
    assert ran("git", *arguments, folder=folder).returncode == 0


def committed(folder: Path) -> None:
    """Make a repository of a folder, with everything in it in one commit."""
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "All")


def committing(folder: Path, *, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the hooks on all files, as a commit of them would."""
    git(folder, "add", ".")
    return ran("pre-commit", "run", "--all-files", "--color=never", folder=folder, PRE_COMMIT_HOME=str(home))


def test_the_hook_passes_a_sound_export_and_fails_a_broken_one(repository: Path, tmp_path: Path) -> None:
    (repository / "export").mkdir()
    sound(repository / "export", "model.safetensors")
    passed = committing(repository, home=tmp_path)
    assert passed.returncode == 0, passed.stdout
    assert re.search(r"jaynes gate\.+Passed", passed.stdout)
    broken(repository / "export", "model.safetensors")
    failed = committing(repository, home=tmp_path)
    assert failed.returncode != 0
    assert re.search(r"jaynes gate\.+Failed", failed.stdout)
    assert "JN101" in failed.stdout


def test_the_hooks_do_not_run_where_nothing_concerns_them(repository: Path, tmp_path: Path) -> None:
    written(repository / "notes.md", "no weights here\n")
    skipped = committing(repository, home=tmp_path)
    assert skipped.returncode == 0
    assert skipped.stdout.count("(no files to check)Skipped") == 2


def test_the_hook_fails_a_baseline_that_was_edited_by_hand(repository: Path, tmp_path: Path) -> None:
    baseline = repository / "model.jaynes.jsonl"
    assert run(["baseline", "write", str(baseline), str(sound(tmp_path))]) == ExitCode.PASSED
    passed = committing(repository, home=tmp_path)
    assert re.search(r"jaynes baseline verify\.+Passed", passed.stdout), passed.stdout
    baseline.write_text(baseline.read_text().replace('"sigma":1', '"sigma":2', 1))
    failed = committing(repository, home=tmp_path)
    assert re.search(r"jaynes baseline verify\.+Failed", failed.stdout), failed.stdout


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("export/model-00001-of-00003.safetensors", "jaynes-gate"),
        ("export/model.safetensors.index.json", "jaynes-gate"),
        ("pytorch_model.bin", "jaynes-gate"),
        ("model.gguf", "jaynes-gate"),
        ("baselines/model.jaynes.jsonl", "jaynes-baseline"),
        ("data/train.jsonl", ""),
        ("model.safetensors.md", ""),
        ("script", ""),
    ],
)
def test_a_file_concerns_one_hook_or_none(name: str, hook: str) -> None:
    hooks = yaml.safe_load(HOOKS.read_text())
    assert [each["id"] for each in hooks if re.search(each["files"], name)] == [hook] * bool(hook)


@NEEDS_PYPI
def test_pre_commit_installs_the_hooks_from_a_clone(repository: Path, tmp_path: Path) -> None:
    source = copied(tmp_path / "jaynes")
    committed(source)
    (repository / "export").mkdir()
    broken(repository / "export", "model.safetensors")
    git(repository, "add", ".")
    arguments = ("try-repo", str(source), "jaynes-gate", "--all-files", "--color=never")
    failed = ran("pre-commit", *arguments, folder=repository, PRE_COMMIT_HOME=str(tmp_path / "home"))
    assert re.search(r"jaynes gate\.+Failed", failed.stdout), failed.stdout
    assert "JN101" in failed.stdout
