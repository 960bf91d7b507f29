"""Whole reports, as they are read: without colour, at a fixed width, of audits that never change."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from jaynes_audit.analyzers.anatomy import VarianceShares
from jaynes_audit.analyzers.audit import Audit, LeftOutReason
from jaynes_audit.analyzers.checkpoints.tensor import Defect
from jaynes_audit.analyzers.distributions.candidates import CANDIDATES, Family
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import ReportRecord, failure_record, report_schema
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.audits import REPORTS
from jaynes_audit.cli.reports.colour import painted
from jaynes_audit.cli.reports.csv_report import NESTED
from jaynes_audit.cli.reports.markdown_page import MOST_BYTES
from jaynes_audit.cli.reports.page import Span, Tone
from jaynes_audit.cli.reports.view import Detail, View
from tests.support.audits import (
    CURVE,
    LOGNORMAL_LIKE,
    audit,
    evidence,
    fit,
    layer,
    left_out,
    many_layers,
    odd_audit,
    report,
)
from tests.support.hostile import HOSTILE


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


def without_last_digits(text: str) -> str:
    """The text with long fractions rounded: the last digits of a sum are the processor's."""
    return re.sub(r"\d+\.\d{9,}(e-?\d+)?", lambda found: f"{float(found[0]):.8g}", text)


def first_line(of: Audit) -> str:
    return render(Format.TABLE, report(of)).partition("\n")[0]


GAUSSIAN, LOGNORMAL = evidence(), evidence(Family.LOGNORMAL, residual=Family.LOGNORMAL)
MIXED = evidence(Family.LOGNORMAL, residual=Family.GAUSSIAN)


def network(
    log_means: Sequence[float],
    *,
    lognormal: int = 0,
    columns: Sequence[int] = (256,),
    target: str = "tiny",
    **changes: float,
) -> Audit:
    """Layers of these mu one after the other, the first so many lognormal and the others Gaussian."""
    layers = [
        layer(
            f"layers.{at}.weight",
            (Role.MLP_UP, Role.MLP_DOWN)[at % 2],
            depth=at,
            columns=columns[at % len(columns)],
            fitted=fit(mu, **{**(LOGNORMAL_LIKE if at < lognormal else {}), **changes}),
            told_by=LOGNORMAL if at < lognormal else GAUSSIAN,
        )
        for at, mu in enumerate(log_means)
    ]
    shares = VarianceShares(between_layers=0.25, between_rows=0.125, between_columns=0.0625, residual=0.5625)
    return audit(*layers, target=target, variance=shares)


SAME, UNLIKE = [-3.5] * 10, [-3.5 + 0.3 * at for at in range(10)]


@pytest.mark.parametrize(
    ("laws", "told"),
    [
        ([Family.GAUSSIAN] * 3, "3 of 3 are Gaussian: Gaussian weights on a hierarchy of scales."),
        ([Family.GAUSSIAN, Family.LOGNORMAL, Family.LOGNORMAL], "2 of 3 are lognormal."),
    ],
)
def test_the_anatomy_says_which_law_is_left_without_the_scales(laws: list[Family], told: str) -> None:
    layers = [
        layer(f"layers.{at}.weight", told_by=evidence(Family.LOGNORMAL, residual=law)) for at, law in enumerate(laws)
    ]
    shares = VarianceShares(between_layers=0.25, between_rows=0.125, between_columns=0.0625, residual=0.5625)
    of = report(audit(*layers, variance=shares))
    sentence = f"Divided by the scales of rows and columns, {told}"
    assert sentence in render(Format.TABLE, of).splitlines()
    assert sentence in render(Format.MARKDOWN, of)


def two_networks() -> ReportRecord:
    """Models whose layers follow one law each, but not the same one."""
    return report(network(SAME, target="runs/one"), network([-4.5] * 10, lognormal=10, target="runs/other"))


def curves() -> ReportRecord:
    """Layers with a curve through their histogram, one of them without."""
    none = evidence(curve=NotFitted("weights in 2 of the bins cannot determine the 3 constants of a curve"))
    return report(audit(layer("a.weight", told_by=evidence(curve=CURVE)), layer("b.weight", told_by=none)))


@cache
def hostile_models() -> ReportRecord:
    return report(*(audit(layer("a.weight"), target=name) for name in HOSTILE))


@cache
def hostile_report() -> ReportRecord:
    layers = [
        layer(
            name,
            file=name,
            fitted=NotFitted(text(name)) if at % 5 == 0 else fit(**LOGNORMAL_LIKE),
            special={"nan": at % 3},
            told_by=evidence(Family.LOGNORMAL, residual=NotFitted(f"it could not be read: {name}")),
        )
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
    assert without_last_digits(render(format_, report(odd_audit()))) == golden


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


@pytest.mark.parametrize("format_", [Format.TABLE, Format.MARKDOWN])
def test_two_models_are_told_together_side_by_side_and_one_by_one(format_: Format, golden: SnapshotAssertion) -> None:
    assert render(format_, two_networks()) == golden


def test_two_models_with_everything(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, two_networks(), detail=Detail.EVERYTHING) == golden


def test_curves_through_histograms_stand_beside_those_of_noise(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, curves()) == golden


def many_laws() -> ReportRecord:
    """More layers than are shown one by one, of every law."""
    laws = [GAUSSIAN] * 3 + [LOGNORMAL, MIXED] * 2 + [evidence(Family.STUDENT_T)] * 3
    return report(audit(*(layer(f"layers.{at}.weight", told_by=law) for at, law in enumerate(laws))))


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("made", [lambda: report(odd_audit()), two_networks, curves, many_laws])
def test_a_report_fits_the_terminal(made: Callable[[], ReportRecord], detail: Detail, width: int) -> None:
    page = render(Format.TABLE, made(), detail=detail, width=width)
    assert [line for line in page.split("\n") if len(line) > width] == []


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


MATRICES = "10 highly connected matrices (655,360 weights)"
MATRIX = "1 highly connected matrix (65,536 weights)"
PAIR = "2 highly connected matrices (131,072 weights)"
UNTOLD = "whether they share one law cannot be said"
NOTHING = NotFitted("every weight is zero or not finite")

FIRST_LINES = [
    (network(SAME, lognormal=10), f"{MATRICES}, lognormal throughout; and they share one law: mu differs by 0 "),
    (network(UNLIKE, lognormal=10), f"{MATRICES}, lognormal throughout; but they do not share one law: mu differs"),
    (network(SAME), f"none of {MATRICES} is lognormal (10 Gaussian); their mu and sigma are as constant as in an"),
    (network(UNLIKE), f"none of {MATRICES} is lognormal (10 Gaussian); nor do they share one law: mu differs by"),
    (network(UNLIKE, lognormal=1), f"1 of {MATRICES} is lognormal (9 Gaussian); and they do not share one law: mu"),
    (network(SAME, lognormal=4, sigma=1.14), f"4 of {MATRICES} are lognormal (6 Gaussian); their mu and sigma are as"),
    (network([-3.5] * 2), f"none of {PAIR} is lognormal (2 Gaussian); {UNTOLD}"),
    (network([-3.5]), f"{MATRIX}, Gaussian; {UNTOLD}"),
    (network([-3.5], lognormal=1), f"{MATRIX}, lognormal; {UNTOLD}"),
    (audit(layer("a.weight", fitted=NOTHING, special={"zero": 65_536})), f"1 error; {MATRIX}, degenerate; {UNTOLD}"),
]


@pytest.mark.parametrize(("made", "words"), FIRST_LINES, ids=[words for _, words in FIRST_LINES])
def test_the_first_line_says_which_laws_there_are_and_whether_they_are_one(made: Audit, words: str) -> None:
    assert first_line(made).startswith(f"tiny: {words}")


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (network(SAME, lognormal=10), "supports the claim"),
        (network(UNLIKE, lognormal=10), "lognormal, not universal"),
        (network(SAME), "universal but not lognormal"),
        (network(UNLIKE), "neither"),
    ],
)
def test_the_first_line_ends_with_the_verdict_on_the_claim(made: Audit, verdict: str) -> None:
    assert first_line(made).endswith(f". Verdict on one lognormal for all: {verdict}.")


def test_the_first_line_names_the_spread_that_is_too_wide_beside_the_untrained_one() -> None:
    # The standard deviation of 0, 0.3 .. 2.7 is 0.3 * sqrt(55/6) = 0.908.
    assert "mu differs by 0.91 from layer to layer (untrained 0; up to" in first_line(network(UNLIKE))
    assert "sigma" not in first_line(network(UNLIKE))


def test_the_first_line_names_what_one_law_costs_where_neither_mu_nor_sigma_differs_too_much() -> None:
    # Untrained weights begin at 1/sqrt(fan-in), so mu may follow it; but one law for all of them it is not.
    columns = [64, 1024]
    following = network([-math.log(columns[at % 2]) / 2 for at in range(10)], lognormal=10, columns=columns)
    line = first_line(following)
    assert "but they do not share one law: one for all costs 0." in line
    assert "differs by" not in line


def test_the_first_line_says_where_the_claim_fails_when_it_holds_at_the_chosen_threshold() -> None:
    narrow = [
        layer(f"layers.{at}.attention.k.weight", Role.ATTENTION_K, depth=at, columns=32, fitted=fit(-9 + at))
        for at in range(10)
    ]
    line = first_line(audit(*network(SAME, lognormal=10).layers, *narrow))
    assert "and they share one law: mu differs by 0 " in line
    assert "But not so at half the threshold (20 layers): neither; at double the threshold (10 layers): " in line
    assert line.endswith("Verdict on one lognormal for all: neither.")


def test_models_are_told_together_with_the_verdict_on_all_their_layers() -> None:
    first = render(Format.TABLE, two_networks()).partition("\n")[0]
    assert first.startswith(
        "All 2 models together: 10 of 20 highly connected matrices (1,310,720 weights) are lognormal"
    )
    assert "mu differs by" in first


def test_models_without_a_highly_connected_matrix_can_be_told_together() -> None:
    small = audit(layer("a.weight", rows=8), target="small")
    first = render(Format.TABLE, report(small, replace(small, target="other"))).partition("\n")[0]
    assert first.startswith(f"All 2 models together: no highly connected matrix; {UNTOLD}")


def test_the_first_line_says_that_there_is_no_matrix_to_compare() -> None:
    first = render(Format.TABLE, report(audit(layer("a.weight", columns=8)))).partition("\n")[0]
    assert first == "tiny: no highly connected matrix among 1 tensor; nothing to compare."


def test_nothing_is_said_to_be_sound_when_nothing_was_read() -> None:
    page = render(Format.TABLE, report(audit(left_out=[left_out("ids")])))
    assert page.startswith("tiny: no weight was analysed.\nAnalysed 0 of 1 tensor")
    assert page.endswith("Exit status 3: nothing to audit in 1 target.\n")


# ---- JSON


RECORDS = {
    "odd": report(odd_audit()),
    "empty": report(),
    "two": two_networks(),
    "curves": curves(),
    "hostile": hostile_report(),
    "hostile-models": hostile_models(),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
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
    findings = [each.pop("findings") for each in made]
    assert made == [{"model": "tiny", **each} for each in whole]
    assert findings[3] == [{"rule": "JN101", "level": "error", "status": "new"}]


def test_the_report_level_claim_is_about_the_layers_of_all_models_and_there_for_two_or_more() -> None:
    together = json.loads(render(Format.JSON, two_networks()))
    assert [trial["layers"] for trial in together["claim"]["trials"]] == [20, 20, 20]
    # Layers of one model are alike, those of two are not: all variance of mu lies between the models.
    [mu, *_] = together["claim"]["constancy"]
    assert (mu["quantity"], mu["icc_by_model"]) == ("mu", 1.0)
    of_one = together["models"][0]["claim"]["constancy"][0]
    assert (of_one["icc_by_model"], of_one["unknown"]["icc_by_model"]) == (None, "fewer than two groups")
    assert json.loads(render(Format.JSON, report(odd_audit())))["claim"] is None


def flat(model: str, whole: dict[str, Any]) -> dict[str, object]:
    """A layer of the JSON report as a row of the CSV."""
    own = {name: value for name, value in whole.items() if name not in NESTED}
    fit_of_layer = whole["fit"] or {}
    return {
        "model": model,
        **own,
        **{f"verdict_{name}": value for name, value in whole["verdict"].items()},
        **{name: value for name, value in fit_of_layer.items() if name != "equilibrium"},
        **fit_of_layer.get("equilibrium", {}),
        **{f"nats_{each['family'].replace(' ', '_')}": each["nats"] for each in whole["candidates"]},
        **(whole["anatomy"] or {}),
        **{f"histogram_{name}": value for name, value in (whole["histogram"] or {}).items()},
    }


@pytest.mark.parametrize("record", [report(odd_audit()), curves()], ids=["odd", "curves"])
def test_csv_holds_the_same_numbers_as_json(record: ReportRecord) -> None:
    rows = list(csv.DictReader(io.StringIO(render(Format.CSV, record))))
    whole = json.loads(render(Format.JSON, record))["models"][0]["layers"]
    for row, each in zip(rows, whole, strict=True):
        assert {name: value for name, value in row.items() if value and name != "findings"} == {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in flat("tiny", each).items()
            if value is not None and value != ""
        }


def test_csv_tells_the_findings_about_each_layer() -> None:
    rows = list(csv.DictReader(io.StringIO(render(Format.CSV, report(odd_audit())))))
    found = {row["name"]: row["findings"] for row in rows}
    assert found["layers.0.mlp.up.weight"] == "JN101 error new"
    assert found["layers.0.attention.q.weight"] == ""


def test_csv_has_a_column_for_everything_each_with_a_name_of_its_own() -> None:
    header, *rows = csv.reader(io.StringIO(render(Format.CSV, two_networks())))
    assert len(set(header)) == len(header)
    assert {len(row) for row in rows} == {len(header)}
    assert {f"nats_{each.family.replace(' ', '_')}" for each in CANDIDATES} <= set(header)


# ---- hostile text


@pytest.mark.parametrize("format_", list(Format))
@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("width", [None, 80])
@pytest.mark.parametrize("made", [hostile_report, hostile_models])
def test_no_format_lets_a_control_character_through(
    made: Callable[[], ReportRecord], format_: Format, detail: Detail, width: int | None
) -> None:
    text = render(format_, made(), detail=detail, every_layer=True, width=width)
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()


def test_only_our_own_escapes_reach_a_coloured_terminal() -> None:
    assert painted([Span("\x1b[2J", Tone.ERROR)]) == "\x1b[1;31m\\x1b[2J\x1b[0m"


def test_hostile_names_come_back_from_json_as_they_were() -> None:
    names = [each["name"] for each in json.loads(render(Format.JSON, hostile_report()))["models"][0]["layers"]]
    assert names == [text(name) for name in HOSTILE]


def test_hostile_names_make_no_formula_and_no_extra_cell_in_csv() -> None:
    rows = list(csv.reader(io.StringIO(render(Format.CSV, hostile_report()))))
    assert len(rows) == 1 + len(HOSTILE)
    assert {len(row) for row in rows} == {len(rows[0])}
    texts = [row[rows[0].index("name")] for row in rows]
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t"))]


def html_of(markdown: str) -> str:
    return MarkdownIt("commonmark", {"linkify": False}).enable("table").render(markdown)


def tables_of(html: str) -> list[str]:
    return html.split("<table>")[1:]


def assert_harmless(html: str) -> None:
    assert not [tag for tag in ("<script", "<a ", "<img", "<b>", "<strong>bold", "<!--") if tag in html]
    assert html.count("<details>") == html.count("</details>")
    for table in tables_of(html):
        assert len({row.count("<td") for row in table.split("<tr>")[2:]}) == 1


@pytest.mark.parametrize("detail", [Detail.USUAL, Detail.EVERYTHING])
def test_hostile_names_make_no_extra_cell_link_or_html_in_markdown(detail: Detail) -> None:
    html = html_of(render(Format.MARKDOWN, hostile_report(), every_layer=True, detail=detail))
    layers = next(each for each in tables_of(html) if "shown for" not in each and "<th>name</th>" in each)
    assert layers.count("<tr>") == 1 + len(HOSTILE) + len(("lognormal", "Gaussian"))
    assert "it could not be read: |" in layers  # the reason for a verdict, with a name in it
    assert_harmless(html)


def test_hostile_models_make_no_extra_cell_link_or_html_in_markdown() -> None:
    html = html_of(render(Format.MARKDOWN, hostile_models(), detail=Detail.EVERYTHING))
    by_model = next(table for table in tables_of(html) if "<th>model</th>" in table)
    rulers = 2
    assert by_model.count("<tr>") == 1 + len(HOSTILE) + rulers
    assert_harmless(html)


@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("made", [two_networks, curves, lambda: report(odd_audit())])
def test_markdown_is_read_as_it_was_meant(made: Callable[[], ReportRecord], detail: Detail) -> None:
    html = html_of(render(Format.MARKDOWN, made(), detail=detail))
    assert_harmless(html)
    assert "<td>10 in all" not in html
    assert "|---" not in html
    assert "| " not in re.sub("<code>.*?</code>", "", html)


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
