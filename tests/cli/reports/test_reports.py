"""Whole reports, as they are read: without colour, at a fixed width, of audits that never change."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from jaynes_audit.analyzers.audit import LeftOutReason
from jaynes_audit.analyzers.checkpoints.tensor import Defect
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import ReportRecord, failure_record, report_schema
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports import REPORTS
from jaynes_audit.cli.reports.colour import painted
from jaynes_audit.cli.reports.markdown_report import MOST_BYTES
from jaynes_audit.cli.reports.page import Span, Tone
from jaynes_audit.cli.reports.view import Detail, View
from tests.support.audits import audit, fit, layer, left_out, many_layers, odd_audit, report

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J",
    "[/red][link=https://evil.example]x[/link]",
    '=HYPERLINK("https://evil.example")',
    "@SUM(A1:A9)",
    "-2+3",
    "\tcell",
    'a,b"c\r\nd',
    "| pipe | `tick` | **bold** |",
    "<script>alert(1)</script>",
    "<!-- comment",
    "</details>",
    "![x](https://evil.example/x.png)",
    "safe\u202etxt.exe\u2066",
    "nul\x00del\x7fcsi\x9b",
    "lone\udc80surrogate",
    "line\u2028separator",
    '{"json": NaN}',
    "",
    "x" * 5_000,
)


class Text(SingleFileSnapshotExtension):
    """A golden report is a text file that can be read as it is."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def golden(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Text)


@pytest.fixture(scope="module")
def mixture() -> ReportRecord:
    return report(many_layers())


def render(format_: Format, record: ReportRecord, **view: object) -> str:
    return REPORTS[format_](record, View(**view))


def hostile_report() -> ReportRecord:
    layers = [
        layer(name, file=name, fitted=NotFitted(name) if at % 5 == 0 else None, special={"nan": at % 3})
        for at, name in enumerate(HOSTILE)
    ]
    return report(
        audit(
            *layers,
            target="\x1b[31m| <b>`target`",
            left_out=[left_out(name, explanation=name) for name in HOSTILE],
            defects=[Defect(rule="JN003", case="bad", file=name, sentence=name) for name in HOSTILE],
            remarks=HOSTILE,
            aliases={name: name for name in HOSTILE},
        ),
        failures=[failure_record(name, name, 4) for name in HOSTILE],
    )


@pytest.mark.parametrize("format_", list(Format))
def test_a_report_of_every_odd_thing(format_: Format, golden: SnapshotAssertion) -> None:
    assert render(format_, report(odd_audit())) == golden


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_on_a_terminal(width: int, golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, report(odd_audit()), width=width) == golden


def test_the_table_with_everything(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, report(odd_audit()), detail=Detail.EVERYTHING) == golden


def test_the_table_with_findings_only(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, report(odd_audit()), detail=Detail.FINDINGS) == golden


def test_many_layers_are_summed_up_by_role_and_extremes(mixture: ReportRecord, golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, mixture) == golden


def test_two_models_and_a_failure_are_one_report(golden: SnapshotAssertion) -> None:
    one, other = audit(layer("a.weight"), target="one"), audit(target="empty", left_out=[left_out("ids")])
    record = report(one, other, failures=[failure_record("gone", "'gone' does not exist; correct the path", 4)])
    assert render(Format.TABLE, record) == golden


def test_many_layers_make_few_lines_and_all_of_them_when_asked(mixture: ReportRecord) -> None:
    assert render(Format.TABLE, mixture).count("\n") < 120
    every = render(Format.TABLE, mixture, every_layer=True)
    assert {line.partition(" ")[0] for line in every.split("\n")} >= {each.name for each in mixture.models[0].layers}


def test_many_findings_are_counted_and_all_of_them_told_when_asked() -> None:
    record = report(audit(*(layer(f"layers.{at}.weight", special={"nan": 1}) for at in range(50))))
    assert "30 more findings: --all" in render(Format.TABLE, record)
    assert render(Format.TABLE, record, every_layer=True).count("JN101") == 50


@pytest.mark.parametrize("format_", [Format.JSON, Format.JSONL, Format.CSV])
@pytest.mark.parametrize("view", [{"detail": Detail.FINDINGS}, {"every_layer": True}, {"width": 40, "colour": True}])
def test_formats_for_programs_hold_everything_whatever_the_view(format_: Format, view: dict[str, object]) -> None:
    record = report(odd_audit())
    assert render(format_, record, **view) == render(format_, record)


# ---- the answer


@pytest.mark.parametrize(
    ("fitted", "words"),
    [
        (fit(skewness=-1.5, psi=0.16, ks=0.095), "nearer to Gaussian noise than to a lognormal"),
        (fit(skewness=0.05, psi=0.002, ks=0.01), "nearer to a lognormal than to Gaussian noise"),
        (
            fit(skewness=-0.5, psi=0.02, ks=0.09),
            "nearer to a lognormal by skewness and psi, nearer to Gaussian noise by KS",
        ),
        (fit(skewness=-2.0, psi=0.419, ks=0.159), "beyond Gaussian noise by psi, on the side away from a lognormal"),
        (NotFitted("every weight is zero or not finite"), "none of them could be fitted"),
    ],
)
def test_the_first_line_says_what_the_strengths_measure_beside_the_ruler(fitted, words: str) -> None:
    first = render(Format.TABLE, report(audit(layer("a.weight", fitted=fitted)))).partition("\n")[0]
    assert first.startswith("tiny: 1 highly connected matrix, 65,536 weights")
    assert words in first


def test_the_first_line_says_that_there_is_no_matrix_to_compare() -> None:
    first = render(Format.TABLE, report(audit(layer("a.weight", columns=8)))).partition("\n")[0]
    assert first == "tiny: no highly connected matrix among 1 tensor; nothing to compare."


def test_nothing_is_said_to_be_sound_when_nothing_was_read() -> None:
    page = render(Format.TABLE, report(audit(left_out=[left_out("ids")])))
    assert page.startswith("tiny: no weight was analysed.\nAnalysed 0 of 1 tensor")
    assert page.endswith("Exit status 3: nothing to audit in 1 target.\n")


# ---- JSON


@pytest.mark.parametrize("record", [report(odd_audit()), report(), hostile_report()], ids=["odd", "empty", "hostile"])
def test_json_keeps_to_its_schema(record: ReportRecord) -> None:
    document = json.loads(render(Format.JSON, record), parse_constant=pytest.fail)
    Draft202012Validator(report_schema()).validate(document)


def test_a_number_that_is_none_becomes_null_with_a_reason() -> None:
    nan = float("nan")
    odd = layer("a.weight", fitted=fit(skewness=nan))
    errors = replace(layer("b.weight").errors, skewness=float("inf"))
    record = report(audit(odd, replace(layer("b.weight"), errors=errors)))
    first, second = json.loads(render(Format.JSON, record), parse_constant=pytest.fail)["models"][0]["layers"]
    assert first["fit"] is None
    assert "not finite" in first["not_fitted"]
    assert second["fit"]["se_mu"] is None
    assert second["fit"]["no_errors"]


def test_naive_errors_are_given_and_told_by_their_blocks() -> None:
    record = report(audit(layer("a.weight", blocks=0)))
    found = json.loads(render(Format.JSON, record))["models"][0]["layers"][0]["fit"]
    assert (found["jackknife_blocks"], found["se_mu"], found["no_errors"]) == (0, 0.012, None)


def test_json_lines_hold_one_layer_each() -> None:
    made = [json.loads(line) for line in render(Format.JSONL, report(odd_audit())).splitlines()]
    whole = json.loads(render(Format.JSON, report(odd_audit())))["models"][0]["layers"]
    assert made == [{"model": "tiny", **each} for each in whole]


def test_csv_holds_the_same_numbers_as_json() -> None:
    rows = list(csv.DictReader(io.StringIO(render(Format.CSV, report(odd_audit())))))
    whole = json.loads(render(Format.JSON, report(odd_audit())))["models"][0]["layers"]
    for row, each in zip(rows, whole, strict=True):
        flat = {"model": "tiny", **each, **(each.pop("fit") or {})}
        assert {name: value for name, value in row.items() if value} == {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in flat.items()
            if value is not None and value != "" and name != "fit"
        }


# ---- hostile text


@pytest.mark.parametrize("format_", list(Format))
@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("width", [None, 80])
def test_no_format_lets_a_control_character_through(format_: Format, detail: Detail, width: int | None) -> None:
    text = render(format_, hostile_report(), detail=detail, every_layer=True, width=width)
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()


def test_only_our_own_escapes_reach_a_coloured_terminal() -> None:
    assert painted([Span("\x1b[2J", Tone.ERROR)]) == "\x1b[1;31m\\x1b[2J\x1b[0m"


def test_hostile_names_come_back_from_json_as_they_were() -> None:
    names = [each["name"] for each in json.loads(render(Format.JSON, hostile_report()))["models"][0]["layers"]]
    assert names == [name.replace("\udc80", r"\udc80") for name in HOSTILE]


def test_hostile_names_make_no_formula_and_no_extra_cell_in_csv() -> None:
    rows = list(csv.reader(io.StringIO(render(Format.CSV, hostile_report()))))
    assert len(rows) == 1 + len(HOSTILE)
    assert {len(row) for row in rows} == {len(rows[0])}
    texts = [row[rows[0].index("name")] for row in rows]
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t"))]


def test_hostile_names_make_no_extra_cell_link_or_html_in_markdown() -> None:
    text = render(Format.MARKDOWN, hostile_report(), every_layer=True)
    html = MarkdownIt("commonmark", {"linkify": False}).enable("table").render(text)
    tables = html.split("<table>")[1:]
    layers = next(table for table in tables if "shown for" not in table and "<th>name</th>" in table)
    rulers = 2
    assert layers.count("<tr>") == 1 + len(HOSTILE) + rulers
    cells_per_row = {row.count("<td") for row in layers.split("<tr>")[2:]}
    assert len(cells_per_row) == 1
    assert not [tag for tag in ("<script", "<a ", "<img", "<b>", "<strong>bold", "<!--") if tag in html]
    assert html.count("<details>") == html.count("</details>")


def test_a_huge_report_is_cut_before_a_job_summary_would_drop_it(mixture: ReportRecord) -> None:
    text = render(Format.MARKDOWN, mixture, every_layer=True)
    assert len(text.encode()) <= MOST_BYTES
    assert "Cut here" in text
    assert text.count("<details>") == text.count("</details>")
    assert text.endswith("**Exit status 0**: no finding at level error.\n")


def test_what_could_not_be_read_is_an_incomplete_report() -> None:
    cut_off = left_out("b.weight", LeftOutReason.COULD_NOT_READ, "the disk failed")
    page = render(Format.TABLE, report(audit(layer("a.weight"), left_out=[cut_off])))
    assert "\nIncomplete. Analysed 1 of 2 tensors" in page
    assert "the disk failed: b.weight" in page
    assert page.endswith("Exit status 4: 1 tensor could not be read.\n")


@pytest.mark.parametrize("made", [lambda: report(odd_audit()), hostile_report])
@pytest.mark.parametrize("format_", list(Format))
def test_equal_input_gives_equal_bytes(made: Callable[[], ReportRecord], format_: Format) -> None:
    assert render(format_, made()) == render(format_, made())
