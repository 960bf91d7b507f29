"""Whole reports of runs, as they are read: at a fixed width, of runs that never change."""

import csv
import io
import json

import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace
from syrupy.assertion import SnapshotAssertion

from jaynes_audit.analyzers.errors import CouldNotRead
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.track.record import TrackReportRecord, track_schema
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.page import columns_of
from jaynes_audit.cli.reports.tracks import TRACKS
from jaynes_audit.cli.reports.view import Detail, View
from tests.support import tracks
from tests.support.golden import Text
from tests.support.hostile import HOSTILE


@pytest.fixture
def golden(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Text)


def render(format_: Format, record: TrackReportRecord, **view: object) -> str:
    return TRACKS[format_](record, View(**view))


def hostile() -> TrackReportRecord:
    made = {
        step: tracks.point(
            *(tracks.layer(text(name), mu=-4.5 + step / 100) for name in HOSTILE), sentence=text(HOSTILE[0])
        )
        for step in range(1, 4)
    }
    return tracks.report(
        made,
        targets=HOSTILE[1:2],
        remarks=HOSTILE,
        failures={name: CouldNotRead(name) for name in HOSTILE},
    )


@pytest.mark.parametrize("format_", list(TRACKS))
def test_a_report_of_every_odd_thing(format_: Format, golden: SnapshotAssertion) -> None:
    assert render(format_, tracks.odd()) == golden


def test_the_table_on_a_terminal(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, tracks.odd(), width=80) == golden


def test_the_table_with_everything(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, tracks.odd(), detail=Detail.EVERYTHING, every_layer=True) == golden


def test_the_table_of_failures_alone() -> None:
    assert render(Format.TABLE, tracks.odd(), detail=Detail.FINDINGS) == (
        "error  'run/checkpoint-1200' cannot be read: Input/output error\n"
        "error  run/checkpoint-700: 4 of 5 tensors were read; 1 layer left out: 'a.safetensors' ends early\n"
        "Exit status 4: 12 checkpoints read.\n"
    )


def test_a_short_run_says_why_nothing_can_be_said() -> None:
    table = render(Format.TABLE, tracks.report(tracks.points(3)))
    assert table.startswith(
        "run: 3 checkpoints, step 0 to 200; when it settled cannot be said: it takes 8 checkpoints, and there are 3.\n"
    )


def test_no_scale_is_shown_of_no_matrices() -> None:
    none = tracks.group(layers=0, fitted=0, weights=0, rms=0.0, norm=0.0, **tracks.NONE)
    small = {step: replace(point, connected=none) for step, point in tracks.points(2).items()}
    rows = render(Format.TABLE, tracks.report(small)).partition("Checkpoints: ")[2].splitlines()[1:4]
    shown = [dict(zip(rows[0].split(), row.split(), strict=False)) for row in rows[1:]]
    assert [(row["rms"], row["norm"], row["zeros"]) for row in shown] == [("-", "-", "-")] * 2


def test_a_checkpoint_of_which_nothing_was_read_is_told() -> None:
    nothing = replace(tracks.COMPLETE, tensors=0, tensors_total=0, complete=False)
    points = tracks.points(2)
    table = render(Format.TABLE, tracks.report({**points, 100: replace(points[100], coverage=nothing)}))
    assert "error  run/checkpoint-100: nothing of it was read\n" in table


def test_a_run_of_which_nothing_was_read_is_told() -> None:
    table = render(Format.TABLE, tracks.report({}, failures={"a": CouldNotRead("'a' does not exist")}))
    assert "run: no checkpoint could be read." in table


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_a_grid_is_wider_than_the_terminal(width: int) -> None:
    lines = render(Format.TABLE, tracks.odd(), width=width, detail=Detail.EVERYTHING).splitlines()
    grid = [line for line in lines if line[:6].strip().replace(",", "").isdigit()]
    assert len(grid) > 20
    assert all(columns_of(line) <= width for line in grid)


def test_a_long_run_is_shown_by_some_of_its_checkpoints_and_by_all_when_asked() -> None:
    run = tracks.report(tracks.points(100))
    assert "100 in all; --all lists them." in render(Format.TABLE, run)
    assert "\n9,900 " in render(Format.TABLE, run)
    assert render(Format.TABLE, run, every_layer=True).count("\n") > render(Format.TABLE, run).count("\n") + 50


def test_json_is_as_its_schema_says() -> None:
    validator = Draft202012Validator(track_schema())
    for record in (tracks.odd(), hostile(), tracks.report({})):
        validator.validate(json.loads(render(Format.JSON, record), parse_constant=pytest.fail))


def test_the_schema_describes_every_field() -> None:
    schema = track_schema()
    Draft202012Validator.check_schema(schema)
    definitions = schema["$defs"]
    assert set(definitions["TrackReportRecord"]["properties"]) == set(TrackReportRecord.__struct_fields__)
    for name, definition in definitions.items():
        assert definition["description"], name
        assert all("description" in each for each in definition["properties"].values()), name


def test_csv_has_a_row_for_every_layer_of_every_checkpoint() -> None:
    rows = list(csv.DictReader(io.StringIO(render(Format.CSV, tracks.odd()))))
    assert len(rows) == 12 * 8
    assert {row["number"] for row in rows} == {str(step) for step in range(0, 1200, 100)}
    alone = [row for row in rows if row["move_alone"] == "true"]
    assert [(row["number"], row["name"]) for row in alone] == [("900", "layers.1.mlp.down.weight")]
    frozen = {row["name"] for row in rows if row["unchanged"] == "true"}
    assert "embed.weight" in frozen
    assert all(row["unchanged"] == "" for row in rows if row["number"] == "0")


@pytest.mark.parametrize("format_", list(TRACKS))
def test_no_name_does_harm(format_: Format) -> None:
    for view in ({}, {"width": 80}, {"detail": Detail.EVERYTHING, "every_layer": True}):
        written = render(format_, hostile(), **view)
        assert all(character.isprintable() or character == "\n" for character in written)
        assert not [line for line in written.splitlines() if line.startswith("::") or "##[" in line]
    if format_ is Format.CSV:
        cells = [cell for row in csv.reader(io.StringIO(written)) for cell in row]
        assert not [cell for cell in cells if cell[:1] in {"=", "@", "\t"}]
