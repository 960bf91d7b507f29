"""`jaynes equilibrium`, as a user meets it."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from jsonschema import Draft202012Validator

from jaynes_audit.analyzers.record.training import equilibrium_schema
from jaynes_audit.cli.app import run as jaynes
from jaynes_audit.cli.exit_codes import ExitCode
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.trainings import TRAININGS
from tests.support.adam import Run, adamw
from tests.support.training_runs import write_checkpoint

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs" / "schemas" / "jaynes-equilibrium-1.schema.json"

INPUTS, NEURONS, OUTPUTS = 12, 32, 4
FIRST, SECOND = "fc1.weight", "fc2.weight"
DECAY = 0.5
RATES = np.full(2_000, 4e-3)

Captured = pytest.CaptureFixture[str]
Floats = npt.NDArray[np.float64]


def start(seed: int = 0) -> Run:
    generator = np.random.default_rng(seed)
    first = generator.normal(0, INPUTS**-0.5, (NEURONS, INPUTS))
    second = generator.normal(0, NEURONS**-0.5, (OUTPUTS, NEURONS))
    return Run(weights={FIRST: first, SECOND: second})


def trained(rates: Floats) -> Run:
    """A ReLU perceptron that AdamW fits to noisy answers, so that its gradients never end."""
    generator = np.random.default_rng(1)
    teacher = generator.normal(size=(OUTPUTS, INPUTS))

    def gradients(weights: Mapping[str, Floats]) -> dict[str, Floats]:
        inputs = generator.normal(size=(16, INPUTS))
        hidden = np.maximum(inputs @ weights[FIRST].T, 0)
        error = hidden @ weights[SECOND].T - inputs @ teacher.T - generator.normal(size=(16, OUTPUTS))
        inner = (error @ weights[SECOND]) * (hidden > 0)
        return {FIRST: inner.T @ inputs / 16, SECOND: error.T @ hidden / 16}

    return adamw(start(), gradients, rates, dict.fromkeys((FIRST, SECOND), DECAY))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    write_checkpoint(place / "checkpoint-0", start(), decay=DECAY)
    return write_checkpoint(place / "checkpoint-2000", trained(RATES), rates=RATES, decay=DECAY)


def report(capsys: Captured, *arguments: str | Path, status: int = ExitCode.PASSED) -> dict[str, Any]:
    assert jaynes(["equilibrium", *map(str, arguments), "-o", "json"]) == status
    read: dict[str, Any] = json.loads(capsys.readouterr().out)
    return read


def answers(read: Mapping[str, Any], quantity: str) -> dict[str, str]:
    (checkpoint,) = read["checkpoints"]
    return {each["subject"]: each["answer"] for each in checkpoint["statements"] if each["quantity"] == quantity}


def test_a_long_run_has_forgotten_its_start_and_its_optimizer_belongs_to_it(capsys: Captured, folder: Path) -> None:
    read = report(capsys, folder)

    assert answers(read, "run age") == {f"2 layers with weight decay {DECAY}": "holds"}
    assert answers(read, "Noether check")["the optimizer's memory"] == "holds"
    training = read["checkpoints"][0]["training"]
    assert (training["steps"], training["learning_rate"], training["loss"]) == (2_000, 4e-3, 1.5)
    assert training["optimizer"]["method"] == "AdamW"


def test_swapped_optimizer_entries_are_told(capsys: Captured, tmp_path: Path) -> None:
    run = trained(RATES[:300])
    order = np.random.default_rng(0).permutation(NEURONS)
    run.first[FIRST] = run.first[FIRST][order]

    read = report(capsys, write_checkpoint(tmp_path / "swapped", run, rates=RATES[:300], decay=DECAY))

    assert answers(read, "Noether check")["the optimizer's memory"] == "does not hold"
    assert set(answers(read, "AdamW balance").values()) == {"cannot be said"}


def test_without_anything_beside_the_weights_what_is_missing_is_named(capsys: Captured, tmp_path: Path) -> None:
    read = report(capsys, write_checkpoint(tmp_path / "bare", start()))

    (checkpoint,) = read["checkpoints"]
    assert {each["answer"] for each in checkpoint["statements"]} == {"cannot be said"}
    (age,) = [each for each in checkpoint["statements"] if each["quantity"] == "run age"]
    assert any("--lr" in each for each in age["missing"])


def test_weights_before_training_are_held_against_critical_ones(capsys: Captured, tmp_path: Path) -> None:
    """They were drawn with a variance of one over the fan-in, and ReLU needs two."""
    generator = np.random.default_rng(0)
    shapes = {FIRST: (96, 64), SECOND: (96, 96), "fc3.weight": (4, 96)}
    weights = {name: generator.normal(0, shape[1] ** -0.5, shape) for name, shape in shapes.items()}

    read = report(capsys, write_checkpoint(tmp_path / "wide", Run(weights=weights)), "--steps", "0")

    assert answers(read, "initialisation")[SECOND] == "does not hold"


def test_learning_rates_can_be_given_by_hand(capsys: Captured, folder: Path) -> None:
    options = ["--lr", "4e-3", "--steps", "2000", "--weight-decay", "0.5", "--optimizer", "adamw"]

    read = report(capsys, folder.parent / "checkpoint-0", *options)

    assert set(answers(read, "run age").values()) == {"holds"}


def test_the_start_lets_the_rms_be_predicted(capsys: Captured, folder: Path) -> None:
    read = report(capsys, folder, "--initial", folder.parent / "checkpoint-0")

    assert answers(read, "predicted rms").keys() >= {FIRST, SECOND}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["nowhere"], ExitCode.COULD_NOT_FINISH),
        (["{run}", "--lr", "-1"], ExitCode.MISUSED),
        (["{run}", "--schedule", "wavy"], ExitCode.MISUSED),
        (["{run}", "--initial", "nowhere"], ExitCode.COULD_NOT_FINISH),
        (["{empty}"], ExitCode.NOTHING_TO_AUDIT),
    ],
)
def test_misuse_ends_in_one_sentence_and_its_status(
    arguments: list[str], status: ExitCode, capsys: Captured, folder: Path
) -> None:
    empty = folder.parent / "empty"
    empty.mkdir(exist_ok=True)
    filled = [each.format(run=folder, empty=empty) for each in arguments]

    assert jaynes(["equilibrium", *filled]) == status
    told = capsys.readouterr()
    assert filled[-1].rpartition("/")[2] in told.out + told.err
    assert "Traceback" not in told.out + told.err


def test_a_pattern_names_several_checkpoints(capsys: Captured, folder: Path) -> None:
    read = report(capsys, folder.parent / "checkpoint-*")

    assert [Path(each["target"]).name for each in read["checkpoints"]] == ["checkpoint-0", "checkpoint-2000"]


def test_a_damaged_optimizer_is_told_and_the_rest_is_said(capsys: Captured, tmp_path: Path) -> None:
    damaged = write_checkpoint(tmp_path / "damaged", trained(RATES[:50]), rates=RATES[:50], decay=DECAY)
    memory = damaged / "training_state" / "optimizer_state.safetensors"
    memory.write_bytes(memory.read_bytes()[:-100])

    read = report(capsys, damaged, status=ExitCode.COULD_NOT_FINISH)

    (checkpoint,) = read["checkpoints"]
    assert "optimizer_state.safetensors" in checkpoint["training"]["refused"][0]
    assert answers(read, "Noether check") == {"the optimizer's memory": "cannot be said"}


def test_nothing_is_said_from_the_optimizer_of_another_network(capsys: Captured, tmp_path: Path) -> None:
    run = trained(RATES[:300])
    place = write_checkpoint(tmp_path / "foreign", run, rates=RATES[:300], decay=DECAY)
    other = Run(
        weights={f"{number}.weight": np.ones((5, 5)) for number in range(7)},
        first={f"{number}.weight": np.ones((5, 5)) for number in range(7)},
        second={f"{number}.weight": np.ones((5, 5)) for number in range(7)},
        steps=300,
    )
    elsewhere = write_checkpoint(tmp_path / "elsewhere", other, rates=RATES[:300], decay=0.9)
    for file in (elsewhere / "training_state").iterdir():
        file.replace(place / "training_state" / file.name)

    read = report(capsys, place)

    assert set(answers(read, "run age").values()) == {"cannot be said"}
    assert any("nothing is said from" in each for each in read["checkpoints"][0]["remarks"])


def test_an_optimizer_of_another_step_is_not_asked(capsys: Captured, tmp_path: Path) -> None:
    run = trained(RATES[:300])
    late = Run(weights=run.weights, first=run.first, second=run.second, steps=100)

    read = report(capsys, write_checkpoint(tmp_path / "stale", late, rates=RATES[:300], decay=DECAY))

    assert answers(read, "Noether check")["the optimizer's memory"] == "cannot be said"
    assert set(answers(read, "AdamW balance").values()) == {"cannot be said"}


@pytest.mark.parametrize("option", ["--initial", "--earlier"])
def test_a_checkpoint_of_another_model_is_no_start(option: str, capsys: Captured, folder: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", Run(weights={"conv.weight": np.ones((9, 9))}))

    assert jaynes(["equilibrium", str(folder), option, str(other)]) == ExitCode.MISUSED
    told = capsys.readouterr()
    assert "same model" in told.out + told.err


def test_the_report_follows_its_schema_and_the_schema_in_the_repository_is_that_of_the_program(
    capsys: Captured, folder: Path
) -> None:
    schema = equilibrium_schema()
    Draft202012Validator.check_schema(schema)

    Draft202012Validator(schema).validate(report(capsys, folder))

    assert json.loads(SCHEMA.read_text()) == schema


def test_csv_has_a_row_for_every_figure(capsys: Captured, folder: Path) -> None:
    read = report(capsys, folder)
    assert jaynes(["equilibrium", str(folder), "-o", "csv"]) == ExitCode.PASSED
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    statements = read["checkpoints"][0]["statements"]
    assert len(rows) == sum(max(1, len(each["figures"])) for each in statements)
    assert {row["quantity"] for row in rows} == {each["quantity"] for each in statements}


@pytest.mark.parametrize("form", TRAININGS)
def test_hostile_names_reach_no_terminal(form: Format, capsys: Captured, tmp_path: Path) -> None:
    run = Run(weights={"evil\x1b[31m|`<b>.weight": np.ones((16, 16))})
    place = write_checkpoint(tmp_path / "hostile", run, rates=RATES[:10])

    assert jaynes(["equilibrium", str(place), "-o", form.value]) == ExitCode.PASSED

    told = capsys.readouterr().out
    assert not any(ord(character) < ord(" ") and character != "\n" for character in told)
    if form is Format.MARKDOWN:
        assert "<b>" not in told


def test_the_table_tells_claims_answers_and_what_to_read(capsys: Captured, folder: Path) -> None:
    assert jaynes(["equilibrium", str(folder)]) == ExitCode.PASSED

    told = capsys.readouterr().out
    assert "claim: learning rate and weight decay set the scale" in told
    assert "docs/thermodynamics.md" in told
    assert told.rstrip().endswith("claims examined in 1 checkpoint.")


def test_audit_puts_the_optimizer_beside_mu(capsys: Captured, folder: Path) -> None:
    arguments = ["--min-fan-in", "1", "--min-weights", "1", "-o", "json"]

    assert jaynes(["audit", str(folder), *arguments]) == ExitCode.PASSED

    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["optimizer"] is None  # two matrices are too few for a spread
