"""A runner of composite actions, as far as ours needs one: bash steps, inputs, outputs and a summary."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{ (inputs|steps)\.([\w.-]+) \}\}")
PATIENCE = 600  # seconds; installing may build C code on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run of an action left behind."""

    status: int
    stdout: str
    stderr: str
    outputs: Mapping[str, str]
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A machine to run actions on: `workspace` is the user's checkout, `temporary` the job's scratch folder."""

    workspace: Path
    temporary: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, action: Path, inputs: Mapping[str, str]) -> Ran:
        """Run the action with these inputs, step by step, until one fails."""
        described = yaml.safe_load(action.read_text())
        assert inputs.keys() <= described["inputs"].keys()
        values = {f"inputs.{name}": inputs.get(name, each["default"]) for name, each in described["inputs"].items()}
        stdout, stderr, summary, status = "", "", "", 0
        for number, step in enumerate(described["runs"]["steps"]):
            ran = self._step(step, values, action.parent, f"step{number}")
            stdout, stderr, summary, status = (
                stdout + ran.stdout,
                stderr + ran.stderr,
                summary + ran.summary,
                ran.status,
            )
            values |= {f"steps.{step.get('id')}.outputs.{name}": value for name, value in ran.outputs.items()}
            if status:
                break
        outputs = {name: _filled_in(each["value"], values) for name, each in described["outputs"].items()}
        return Ran(status=status, stdout=stdout, stderr=stderr, outputs=outputs, summary=summary)

    def _step(self, step: Mapping[str, Any], values: Mapping[str, str], action_path: Path, name: str) -> Ran:
        """Run one step as GitHub's runner runs `shell: bash`. Each step has a summary and outputs of its own."""
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "what is put into a script is run"
        script, output, summary = (self.temporary / f"{name}.{kind}" for kind in ("sh", "output", "summary"))
        script.write_text(step["run"])
        output.touch()
        summary.touch()
        environment = {
            **os.environ,
            "GITHUB_ACTION_PATH": str(action_path),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(self.temporary),
            **self.environment,
            **{name: _filled_in(value, values) for name, value in step["env"].items()},
        }
        ran = subprocess.run(  # noqa: S603 - it is ours
            ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.workspace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return Ran(
            status=ran.returncode,
            stdout=ran.stdout,
            stderr=ran.stderr,
            outputs=outputs,
            summary=summary.read_text(),
        )


def _filled_in(text: str, values: Mapping[str, str]) -> str:
    """The text with its expressions evaluated; an output that no step has set is empty, as on GitHub."""
    filled = EXPRESSION.sub(lambda found: values.get(f"{found[1]}.{found[2]}", ""), text)
    assert "${{" not in filled, text
    return filled
