"""Reports of networks that were really trained: whole, sound, the same each time, and no wider than the terminal."""

import csv
import io
import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from jaynes_audit.analyzers.record import ReportRecord, report_schema
from jaynes_audit.cli.app import run
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.audits import REPORTS
from jaynes_audit.cli.reports.view import Detail, View

FIXTURES = Path(__file__).parents[2] / "fixtures"
TRAINED = FIXTURES / "babble" / "bf16"
UNTRAINED = FIXTURES / "babble" / "step0"
DIGITS = FIXTURES / "digits" / "model.safetensors"

ANATOMY = ["--anatomy"]
HISTOGRAM = ["--method", "histogram", "--bins", "30"]


def printed(capsys: pytest.CaptureFixture[str], format_: Format, *arguments: object) -> str:
    assert run(["audit", *map(str, arguments), "-o", format_]) == 0
    said = capsys.readouterr()
    assert not said.err
    return said.out


@pytest.mark.parametrize("options", [[], ANATOMY, HISTOGRAM], ids=["plain", "anatomy", "histogram"])
@pytest.mark.parametrize("target", [TRAINED, UNTRAINED, DIGITS], ids=["trained", "untrained", "digits"])
def test_json_keeps_to_its_schema_and_holds_no_nan(target: Path, options: list[str], capsys) -> None:
    document = json.loads(printed(capsys, Format.JSON, target, *options), parse_constant=pytest.fail)
    Draft202012Validator(report_schema()).validate(document)
    for layer in document["models"][0]["layers"]:
        assert (layer["anatomy"] is None) is (layer["not_dissected"] is not None)
        assert (layer["histogram"] is None) is (layer["no_histogram"] is not None)
        assert (layer["candidates"] == []) is (layer["not_compared"] is not None)


def test_the_bytes_of_a_report_do_not_depend_on_the_number_of_jobs_or_the_way_of_reading(capsys) -> None:
    options = [["-j", "1"], ["-j", "2"], ["-j", "7"], ["-j", "7", "--io", "pread"]]
    assert len({printed(capsys, Format.JSON, TRAINED, *ANATOMY, *HISTOGRAM, *each) for each in options}) == 1


def test_the_four_shares_of_the_variance_add_to_one_and_are_told(capsys) -> None:
    (model,) = json.loads(printed(capsys, Format.JSON, TRAINED, *ANATOMY))["models"]
    assert sum(model["connected"]["variance"].values()) == pytest.approx(1)
    assert all(layer["anatomy"] for layer in model["layers"] if layer["connected"])
    assert "Of the variance of ln|w|, over all highly connected weights," in printed(
        capsys, Format.TABLE, TRAINED, *ANATOMY
    )
    assert "Of the variance" not in printed(capsys, Format.TABLE, TRAINED)


def test_untrained_gaussian_weights_are_called_gaussian_and_as_constant_as_untrained_ones(capsys) -> None:
    (model,) = json.loads(printed(capsys, Format.JSON, UNTRAINED))["models"]
    connected = [layer for layer in model["layers"] if layer["connected"]]
    gaussian = sum(layer["verdict"]["name"] == "Gaussian" for layer in connected)
    assert gaussian >= 0.8 * len(connected)
    assert model["claim"]["verdict"] == "universal but not lognormal"


def test_a_histogram_is_fitted_with_the_bins_the_range_and_the_amplitude_that_were_asked_for(capsys) -> None:
    options = [*HISTOGRAM, "--range", "0.2", "--amplitude", "one"]
    (model,) = json.loads(printed(capsys, Format.JSON, DIGITS, *options))["models"]
    curves = [layer["histogram"] for layer in model["layers"] if layer["candidates"]]
    assert [(curve["bins"], curve["range_end"], curve["amplitude"]) for curve in curves] == [(30, 0.2, 1.0)] * 2
    table = printed(capsys, Format.TABLE, DIGITS, *options)
    title, names, *rows = table[table.index("curves through their histograms") :].splitlines()[:4]
    assert names.split("  ")[-1].strip() == "R2 of noise"
    assert [row.split()[:3] for row in rows] == [["0.weight", "30", "0.200"], ["2.weight", "30", "0.200"]]
    assert "decide nothing" in title
    assert "histogram" not in printed(capsys, Format.TABLE, DIGITS)


def test_a_histogram_without_a_weight_in_its_range_says_so(capsys) -> None:
    table = printed(capsys, Format.TABLE, DIGITS, *HISTOGRAM, "--range", "1e-30")
    assert table.count("weights in 0 of the bins cannot determine the 3 constants of a curve") == 2


def test_csv_rows_are_all_as_long_as_the_header(capsys) -> None:
    for options in ([], [*ANATOMY, *HISTOGRAM]):
        rows = list(csv.reader(io.StringIO(printed(capsys, Format.CSV, TRAINED, DIGITS, *options))))
        assert {len(row) for row in rows} == {len(rows[0])}
        assert len(rows) == 1 + 39 + 6


def test_two_models_get_a_claim_together_with_the_variance_between_them(capsys) -> None:
    report = json.loads(printed(capsys, Format.JSON, TRAINED, UNTRAINED))
    assert report["claim"]["trials"][0]["layers"] == 40
    mu = report["claim"]["constancy"][0]
    assert 0 < mu["icc_by_model"] < 1
    assert all(model["claim"]["constancy"][0]["icc_by_model"] is None for model in report["models"])
    table = printed(capsys, Format.TABLE, TRAINED, UNTRAINED)
    assert table.startswith("All 2 models together: ")
    by_model = table[table.index("By role and model") :].splitlines()[1:4]
    assert [line.split()[:2] for line in by_model[1:]] == [
        ["attention.o", str(TRAINED)],
        ["attention.o", str(UNTRAINED)],
    ]


@pytest.mark.parametrize("options", [[], [*ANATOMY, *HISTOGRAM]], ids=["plain", "everything"])
@pytest.mark.parametrize("targets", [[TRAINED], [DIGITS], [TRAINED, UNTRAINED]], ids=["trained", "digits", "two"])
def test_a_report_fits_the_terminal(
    targets: list[Path], options: list[str], capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FIXTURES)
    names = [target.relative_to(FIXTURES) for target in targets]
    record = msgspec.json.decode(printed(capsys, Format.JSON, *names, *options), type=ReportRecord)
    for width in (80, 140):
        for detail in Detail:
            page = REPORTS[Format.TABLE](record, View(detail=detail, width=width))
            assert [line for line in page.splitlines() if len(line) > width] == []
