"""The command line as a user or a CI job meets it."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.distributions.histogram_fit import Amplitude
from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError
from jaynes_audit.cli.app import run
from jaynes_audit.cli.exit_codes import EXIT_CODES, PRECEDENCE, ExitCode
from jaynes_audit.cli.options import AmplitudeChoice, IoChoice
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.audits import REPORTS
from tests.support.checkpoint_files import SIZE, checkpoint, gaussian

HEAVY = {"numpy", "scipy", "rich", "huggingface_hub", "msgspec", "asyncio", "concurrent.futures"}
PATIENCE = 60  # seconds


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)  # noqa: S603


def started(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "jaynes_audit", *arguments], **options)  # noqa: S603


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "sound.safetensors")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = checkpoint(tmp_path / "broken.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "empty.safetensors", {"position_ids": np.arange(8)})


# ---- exit status


@pytest.mark.parametrize("format_", list(Format))
def test_0_when_nothing_is_an_error(sound: Path, format_: Format) -> None:
    assert run(["audit", str(sound), "-o", format_]) == ExitCode.PASSED


@pytest.mark.parametrize("format_", list(Format))
def test_1_when_something_is_an_error(broken: Path, format_: Format) -> None:
    assert run(["audit", str(broken), "-o", format_]) == ExitCode.FOUND


def test_1_when_a_weight_is_nan(tmp_path: Path) -> None:
    weights = gaussian(SIZE, SIZE)
    weights[3, 4] = np.nan
    assert run(["audit", str(checkpoint(tmp_path / "nan.safetensors", {"w": weights}))]) == ExitCode.FOUND


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit"], "Missing argument 'TARGET'"),
        (["audit", "x", "--bogus"], "No such option: --bogus"),
        (["adit"], "No such command 'adit'"),
        (["audit", "x", "-o", "jso"], "there is no format 'jso'; did you mean 'json'?"),
        (["audit", "x", "-o", "pdf"], "'pdf'"),
        (["audit", "x", "-o", "json", "-o", "csv"], "two reports cannot both go to the standard output"),
        (["audit", "x", "-o", "json=a", "-o", "csv=a"], "two reports cannot both go to 'a'"),
        (["audit", "x", "-o", "json="], "names no file"),
        (["audit", "x", "-q", "-v"], "-q asks for less and -v for more"),
        (["audit", "x", "--jobs", "0"], "'--jobs'"),
        (["audit", "x", "--min-fan-in", "many"], "'--min-fan-in'"),
        (["audit", "x", "--color", "pink"], "'pink'"),
        (["audit", "x", "--method", "magic"], "'magic'"),
        (["audit", "x", "--amplitude", "two"], "'two'"),
        *((["audit", "x", "--bins", bins], "'--bins'") for bins in ("0", "3", "-10", "nan", "ten", "1000000000")),
        *((["audit", "x", "--range", end], "'--range'") for end in ("0", "-1", "nan", "inf", "-inf", "far")),
        (["schema", "everything"], "'everything'"),
    ],
)
def test_2_when_misused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitCode.MISUSED
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_2_and_the_help_when_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == ExitCode.MISUSED
    assert "Usage: jaynes" in capsys.readouterr().out


def test_3_when_there_is_nothing_to_audit(empty: Path, tmp_path: Path) -> None:
    assert run(["audit", str(empty)]) == ExitCode.NOTHING_TO_AUDIT
    assert run(["audit", str(tmp_path / "*.nothing")]) == ExitCode.NOTHING_TO_AUDIT


def test_3_when_no_layer_is_asked_for(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(sound), "--layers", "nothing*", "-q"]) == ExitCode.NOTHING_TO_AUDIT
    assert "--layers and --exclude leave nothing to audit" in capsys.readouterr().out


@pytest.mark.parametrize("format_", [Format.TABLE, Format.JSON])
def test_4_when_a_file_is_missing_and_a_reader_is_told_once(
    format_: Format, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", str(tmp_path / "gone.safetensors"), "-o", format_]) == ExitCode.COULD_NOT_FINISH
    said = capsys.readouterr()
    assert said.out.count("does not exist") == 1
    assert said.err.count("does not exist") == (format_ is Format.JSON)


def test_4_when_a_report_cannot_be_written(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path, tmp_path / "gone" / "report.json", Path("/dev/full")):
        assert run(["audit", str(sound), "-o", f"json={place}"]) == ExitCode.COULD_NOT_FINISH
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert not said.out


def test_4_and_no_trace_when_jaynes_itself_is_mistaken(
    sound: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("jaynes_audit.cli.auditing.open_target", mistaken)
    assert run(["audit", str(sound)]) == ExitCode.COULD_NOT_FINISH
    said = capsys.readouterr().err
    assert "a mistake in jaynes itself: ZeroDivisionError: a mistake" in said
    assert "Traceback" not in said
    assert run(["audit", "-v", str(sound)]) == ExitCode.COULD_NOT_FINISH
    assert "Traceback" in capsys.readouterr().err


def interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_130_when_interrupted(sound: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it for writing waits for a reader who never comes
    first = tmp_path / "first.csv"
    arguments = ("audit", str(sound), "-o", f"csv={first}", "-o", f"json={pipe}")
    # Whoever runs the tests in the background has the interrupt ignored, and every child would inherit that.
    with started(*arguments, stderr=subprocess.PIPE, preexec_fn=interruptible) as process:
        while not first.exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert not said


@pytest.mark.parametrize("arguments", [("audit", "sound.safetensors"), ("--help",), ("schema", "report")])
def test_141_and_silence_when_nobody_reads(sound: Path, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with started(*arguments, cwd=sound.parent, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.CLOSED_PIPE
    assert not said


def test_the_worst_status_wins_and_what_could_be_read_is_reported(
    sound: Path, broken: Path, empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone.safetensors"
    for targets, status in (
        ([sound, broken], ExitCode.FOUND),
        ([sound, broken, empty], ExitCode.NOTHING_TO_AUDIT),
        ([gone, sound, broken, empty], ExitCode.COULD_NOT_FINISH),
    ):
        assert run(["audit", *map(str, targets), "-o", "json"]) == status
        report = json.loads(capsys.readouterr().out)
        assert report["exit_code"] == status
        assert [model["target"] for model in report["models"]] == [str(path) for path in targets if path != gone]
        assert [failed["target"] for failed in report["failures"]] == [str(path) for path in targets if path == gone]


def test_every_error_has_an_exit_code() -> None:
    def kinds(root: type[JaynesError]) -> set[type[JaynesError]]:
        return {root}.union(*map(kinds, root.__subclasses__()))

    assert kinds(JaynesError) - {JaynesError} == set(EXIT_CODES)
    assert set(EXIT_CODES.values()) - {ExitCode.CLOSED_PIPE} == set(PRECEDENCE)


# ---- start-up


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["audit", "--help"], ["schema", "-h"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from jaynes_audit.cli.app import run; status = run(sys.argv[1:]); "
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = python("-c", code, *arguments)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_version_is_answered_before_typer_is_imported() -> None:
    code = "import sys; from jaynes_audit.cli.app import run; run(['-V']); sys.exit('typer' in sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0
    assert done.stdout.startswith("jaynes ")


def test_rich_is_not_imported_where_there_is_no_terminal(sound: Path) -> None:
    code = "import sys; from jaynes_audit.cli.app import run; run(sys.argv[1:]); sys.exit('rich' in sys.modules)"
    assert python("-c", code, "audit", str(sound)).returncode == 0


# ---- what goes where


def test_only_the_result_goes_to_standard_output(sound: Path) -> None:
    done = python("-m", "jaynes_audit", "audit", str(sound), "-o", "json")
    assert json.loads(done.stdout)["format"] == "jaynes-report/2"
    assert not done.stderr


def test_reports_go_to_the_files_that_were_named(sound: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    outputs = [f"{format_}={folder / format_}" for format_ in Format]
    assert run(["audit", str(sound), *(part for output in outputs for part in ("-o", output))]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(Format)
    assert not any(capsys.readouterr())


def test_a_file_is_replaced_and_a_link_or_a_device_stays_one(sound: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "old.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    assert run(["audit", str(sound), "-o", f"json={link}", "-o", "csv=/dev/null"]) == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["exit_code"] == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_the_same_bytes_give_the_same_report_at_any_number_of_jobs_and_any_io(sound: Path, capsys) -> None:
    reports = set()
    for more in (["-j", "1"], ["-j", "3"], ["--io", "pread"]):
        run(["audit", str(sound), "-o", "json", *more])
        reports.add(capsys.readouterr().out)
    assert len(reports) == 1


def test_layers_and_criterion_are_chosen(tmp_path: Path, capsys) -> None:
    path = checkpoint(tmp_path / "a.safetensors", {name: gaussian(SIZE, SIZE) for name in ("one.w", "two.w", "two.x")})
    run(["audit", str(path), "-o", "json", "--layers", "two*", "--exclude", "*.x", "--min-fan-in", "200"])
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert [each["name"] for each in model["layers"]] == ["two.w"]
    assert [each["name"] for each in model["left_out"]] == ["one.w", "two.x"]
    assert model["criterion"] == {"min_fan_in": 200, "min_weights": 10_000}
    assert model["connected"]["layers"] == 0


def test_a_layer_that_fails_its_second_reading_is_reported_as_undecided(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    weights = np.exp(rng.normal(-4, 1.3, (300, 300))) * rng.choice([-1, 1], (300, 300))
    path = checkpoint(tmp_path / "a.safetensors", {"a.weight": weights.astype(np.float32)})

    def interrupted(*_: object) -> None:
        raise CouldNotRead("the disk has gone")

    monkeypatch.setattr("jaynes_audit.analyzers.pieces.anatomy", interrupted)
    assert run(["audit", str(path)]) == ExitCode.COULD_NOT_FINISH
    said = capsys.readouterr()
    assert "Incomplete." in said.out
    assert "1 highly connected matrix (90,000 weights), undecided" in said.out
    assert "a mixture of scales cannot be ruled out: it could not be read a second time: the disk has gone" in said.out
    assert not said.err


def test_a_target_named_twice_is_read_once(sound: Path, capsys) -> None:
    run(["audit", str(sound), str(sound), "-o", "json"])
    assert len(json.loads(capsys.readouterr().out)["models"]) == 1


@pytest.mark.parametrize(
    ("option", "environment", "coloured"),
    [("always", {}, True), ("always", {"NO_COLOR": "1"}, True), ("never", {}, False), ("auto", {}, False)],
)
def test_colour_only_where_it_was_asked_for(
    sound: Path, option: str, environment: dict[str, str], *, coloured: bool, capsys, monkeypatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run(["audit", str(sound), "--color", option])
    assert ("\x1b[" in capsys.readouterr().out) is coloured


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colour_and_a_report_of_its_own_width(
    sound: Path, environment: dict[str, str], *, coloured: bool
) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    usual = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    surroundings = {**usual, "TERM": "xterm", "COLUMNS": "72", **environment}
    options = {"cwd": sound.parent, "stdout": slave, "stderr": subprocess.DEVNULL, "env": surroundings}
    with started("audit", sound.name, **options) as process:
        os.close(slave)
        shown = b""
        while chunk := _read(master):
            shown += chunk
    os.close(master)
    assert process.returncode == 0
    assert (b"\x1b[" in shown) is coloured
    if not coloured:
        assert max(map(len, shown.decode().splitlines())) <= 72


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # Linux says so when the other end of a terminal is closed
        return b""


# ---- registries


def test_every_format_has_a_report() -> None:
    assert set(REPORTS) == set(Format)


def test_the_choices_of_io_are_those_of_the_reader() -> None:
    assert list(map(str, IoChoice)) == list(map(str, Io))


def test_the_choices_of_the_amplitude_are_those_of_the_curve() -> None:
    assert list(map(str, AmplitudeChoice)) == list(map(str, Amplitude))


def test_the_schema_in_the_repository_is_the_one_that_is_printed(capsys) -> None:
    kept = Path(__file__).parents[2] / "docs" / "schemas" / "jaynes-report-2.schema.json"
    assert run(["schema", "report"]) == 0
    assert capsys.readouterr().out == kept.read_text()
