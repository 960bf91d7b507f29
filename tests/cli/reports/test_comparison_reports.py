"""Whole reports of comparisons, as they are read: at a fixed width, of comparisons that never change."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Relation, Side, Unread
from jaynes_audit.analyzers.comparison.lineage.score import Null, Score
from jaynes_audit.analyzers.comparison.matching import MatchedBy, Unmatched
from jaynes_audit.analyzers.comparison.record import ComparisonReportRecord
from jaynes_audit.analyzers.comparison.side_by_side import BufferComparison
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import failure_record
from jaynes_audit.cli.exit_codes import FailOn
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.comparisons import COMPARISONS
from jaynes_audit.cli.reports.markdown_page import MOST_BYTES
from jaynes_audit.cli.reports.page import columns_of
from jaynes_audit.cli.reports.view import Detail, View
from tests.support.comparisons import (
    IDENTICAL,
    NO_DISTANCES,
    UP,
    cast,
    comparison,
    different,
    distances,
    layer,
    odd_comparison,
    parameters,
    report,
    side,
    subject,
    three_models,
    verdict,
)
from tests.support.hostile import HOSTILE

NOT_KNOWN = NotFitted("a report or a sketch archive holds no weights")


class Text(SingleFileSnapshotExtension):
    """A golden report is a text file that can be read as it is."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def golden(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Text)


def render(format_: Format, record: ComparisonReportRecord, **view: object) -> str:
    return COMPARISONS[format_](record, View(**view))


def odd() -> ComparisonReportRecord:
    return report(odd_comparison())


def reports_only() -> ComparisonReportRecord:
    """Two saved reports: no weights, no counts of them."""
    known = {"distances": NO_DISTANCES}
    return report(
        comparison(
            layer(UP.format(0), NOT_KNOWN, parameters=parameters(), **known),
            layer(UP.format(1), NOT_KNOWN, parameters=parameters(0.3, 0.1, -0.2), **known),
            layer(UP.format(2), NOT_KNOWN, parameters=NotFitted("not fitted in A: 'no weights'"), **known),
            not_exact=NOT_KNOWN,
            a=side("base.json", kind="report"),
            b=side("tuned.json", kind="report"),
        ),
        fail_on=FailOn.WARNING,
    )


def same_weights() -> ComparisonReportRecord:
    exact = cast(), cast(), IDENTICAL
    return report(comparison(*(layer(UP.format(at), each) for at, each in enumerate(exact))))


def hostile() -> ComparisonReportRecord:
    null = replace(Null(what="", middle=0.1, high=0.2, draws=10), what=HOSTILE[1])
    return report(
        comparison(
            *(
                layer(
                    name,
                    (different(0.1), Unread(name, side=Side.A), cast(through=name))[at % 3],
                    b=replace(subject(f"{name}b"), dtype=name),
                    by=MatchedBy.ROLE,
                    parameters=parameters(),
                    distances=distances(),
                )
                for at, name in enumerate(HOSTILE)
            ),
            a=side(HOSTILE[8], not_compared=tuple((name, name) for name in HOSTILE)),
            b=side(HOSTILE[0], dtypes=HOSTILE[:3], commit=HOSTILE[4]),
            verdict=verdict(sentence="".join(HOSTILE), figures=HOSTILE),
            only_a=tuple(Unmatched(subject=subject(name), reason=name) for name in HOSTILE),
            buffers=tuple(BufferComparison(name=name, identical=False, sentence=name) for name in HOSTILE),
            lineage=(
                *(Score(name=name, value=0.5, compared=name, unrelated=null, twins=null) for name in HOSTILE),
                *(NotFitted(name) for name in HOSTILE),
            ),
            remarks=HOSTILE,
        ),
        failures=[failure_record(name, name, 4) for name in HOSTILE],
    )


def hostile_models() -> ComparisonReportRecord:
    a, b, c = map(side, HOSTILE[:3])
    pairs = ((a, b), (a, c), (b, c))
    return report(*(comparison(layer(HOSTILE[7], different()), a=of_a, b=of_b) for of_a, of_b in pairs))


# ---- golden


@pytest.mark.parametrize("format_", list(COMPARISONS))
def test_a_report_of_every_odd_thing(format_: Format, golden: SnapshotAssertion) -> None:
    assert render(format_, odd()) == golden


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_on_a_terminal(width: int, golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, odd(), width=width) == golden


def test_the_table_with_everything(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, odd(), detail=Detail.EVERYTHING, every_layer=True) == golden


def test_the_table_with_findings_only(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, odd(), detail=Detail.FINDINGS) == golden


@pytest.mark.parametrize("format_", [Format.TABLE, Format.MARKDOWN])
def test_three_models_make_a_matrix(format_: Format, golden: SnapshotAssertion) -> None:
    assert render(format_, three_models(), width=80) == golden


def test_of_many_pairs_the_findings_are_told_that_fail_the_run_and_everything_when_asked() -> None:
    changed = layer("w", different(), parameters=parameters(0.3))
    a, b, c = map(side, "abc")
    pairs = [comparison(changed, a=of_a, b=of_b) for of_a, of_b in ((a, b), (a, c), (b, c))]
    assert "JN402" not in render(Format.TABLE, report(*pairs))
    assert render(Format.TABLE, report(*pairs, fail_on=FailOn.ERROR)).count("JN402") == 3
    assert render(Format.MARKDOWN, report(*pairs, fail_on=FailOn.ERROR)).count("JN402") == 3
    everything = render(Format.TABLE, report(*pairs), detail=Detail.EVERYTHING)
    assert everything.count("The two models") == everything.count("JN402") == 3


def test_reports_are_compared_by_their_distributions(golden: SnapshotAssertion) -> None:
    assert render(Format.TABLE, reports_only(), width=100) == golden


# ---- what is said


def test_the_first_line_is_the_verdict_and_the_last_the_exit_status() -> None:
    first, *_, last = render(Format.TABLE, odd()).splitlines()
    assert first.startswith("base and tuned: Versions of one model:")
    assert last == "Exit status 4: 1 layer could not be read."


def test_layers_that_are_the_same_are_counted_and_not_listed() -> None:
    page = render(Format.TABLE, same_weights())
    assert "3 layers: 2 rounded F32 -> BF16; 1 identical." in page
    assert UP.format(0) not in page
    every = render(Format.TABLE, same_weights(), every_layer=True)
    assert all(UP.format(at) in every for at in range(3))


def test_layers_stand_worst_first() -> None:
    errors = {0: 0.1, 1: 0.3, 2: 0.2}
    layers = [layer(UP.format(at), different(error)) for at, error in errors.items()]
    unlike = layer(UP.format(3), Exact(relation=Relation.DIFFERENT))
    page = render(Format.TABLE, report(comparison(*layers, layer(UP.format(4)), unlike)))
    assert [page.index(UP.format(at)) for at in (3, 1, 2, 0)] == sorted(page.index(UP.format(at)) for at in range(4))
    assert UP.format(4) not in page


def test_many_layers_make_few_lines_and_all_of_them_when_asked() -> None:
    many = report(comparison(*(layer(UP.format(at), different(0.1)) for at in range(300))))
    assert len(render(Format.TABLE, many).splitlines()) < 60
    assert "300 in all; --all lists every layer." in render(Format.TABLE, many)
    assert render(Format.TABLE, many, every_layer=True).count("mlp.up_proj") == 300


def test_findings_of_one_rule_are_summed_up_and_all_of_them_told_when_asked() -> None:
    missing = tuple(Unmatched(subject=subject(f"t{at}"), reason="gone") for at in range(10))
    made = report(comparison(layer("w"), only_a=missing))
    assert "7 more of JN201: --all" in render(Format.TABLE, made)
    assert render(Format.TABLE, made, every_layer=True).count("error    JN201") == 10


def test_every_score_stands_beside_what_is_not_related_and_the_words_are_no_accusation() -> None:
    page = render(Format.TABLE, odd())
    line = next(line for line in page.splitlines() if line.startswith("depth profile"))
    assert [word for word in line.split() if word[-1].isdigit() or word[-1] == ")"][:5] == [
        "0.997",
        "0.310",
        "(0.620)",
        "0.000",
        "(0.180)",
    ]
    assert "Evidence, not an accusation" in page


@pytest.mark.parametrize("format_", [Format.JSON, Format.JSONL, Format.CSV])
@pytest.mark.parametrize("view", [{"detail": Detail.FINDINGS}, {"width": 20}, {"every_layer": True}])
def test_formats_for_programs_hold_everything_whatever_the_view(format_: Format, view: dict[str, object]) -> None:
    assert render(format_, odd(), **view) == render(format_, odd())


# ---- rows


def test_csv_has_a_row_to_each_layer_and_a_column_to_each_figure_each_with_a_name_of_its_own() -> None:
    header, *rows = csv.reader(io.StringIO(render(Format.CSV, odd())))
    assert len(set(header)) == len(header)
    assert {len(row) for row in rows} == {len(header)}
    assert len(rows) == 12


def test_csv_holds_the_same_numbers_as_json() -> None:
    rows = csv.DictReader(io.StringIO(render(Format.CSV, odd())))
    whole = json.loads(render(Format.JSON, odd()))["comparisons"][0]["layers"]
    for row, each in zip(rows, whole, strict=True):
        known = {
            "a_name": each["a"]["name"],
            "b_dtype": each["b"]["dtype"],
            "relation": (each["exact"] or {}).get("relation"),
            "difference_relative_error": ((each["exact"] or {}).get("difference") or {}).get("relative_error"),
            "cast_flushed": ((each["exact"] or {}).get("cast") or {}).get("flushed"),
            "quantisation_ratio": ((each["exact"] or {}).get("quantisation") or {}).get("ratio"),
            "mu_change": (each["parameters"] or {"mu": {}})["mu"].get("change"),
            "ks": (each["distances"] or {}).get("ks"),
        }
        assert {name: row[name] for name in known} == {
            name: "" if value is None else str(value) for name, value in known.items()
        }


def test_json_lines_hold_one_layer_each() -> None:
    made = [json.loads(line) for line in render(Format.JSONL, odd()).splitlines()]
    whole = json.loads(render(Format.JSON, odd()))["comparisons"][0]["layers"]
    assert made == [{"model_a": "base", "model_b": "tuned", **each} for each in whole]


# ---- hostile text


@pytest.mark.parametrize("format_", list(COMPARISONS))
@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("width", [None, 80])
@pytest.mark.parametrize("made", [hostile, hostile_models])
def test_no_format_lets_a_control_character_through(
    made: Callable[[], ComparisonReportRecord], format_: Format, detail: Detail, width: int | None
) -> None:
    text = render(format_, made(), detail=detail, every_layer=True, width=width)
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()


def test_hostile_names_make_no_formula_and_no_extra_cell_in_csv() -> None:
    rows = list(csv.reader(io.StringIO(render(Format.CSV, hostile()))))
    assert len(rows) == 1 + len(HOSTILE)
    assert {len(row) for row in rows} == {len(rows[0])}
    numbers = {"0", "1", "nan"}
    cells = [cell for row in rows[1:] for cell in row if cell not in numbers]
    formulas = [cell for cell in cells if cell.startswith(("=", "+", "@", "\t")) or cell == "-2+3"]
    assert not formulas


@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("made", [hostile, hostile_models, odd, three_models])
def test_names_make_no_extra_cell_link_or_html_in_markdown(
    made: Callable[[], ComparisonReportRecord], detail: Detail
) -> None:
    text = render(Format.MARKDOWN, made(), every_layer=True, detail=detail)
    html = MarkdownIt("commonmark", {"linkify": False}).enable("table").render(text)
    assert not [tag for tag in ("<script", "<a ", "<img", "<b>", "<strong>bold", "<!--") if tag in html]
    assert html.count("<details>") == html.count("</details>")
    assert "|---" not in html
    for table in html.split("<table>")[1:]:
        assert len({row.count("<td") for row in table.split("<tr>")[2:]}) <= 1


def test_a_huge_comparison_is_cut_before_a_job_summary_would_drop_it() -> None:
    huge = report(comparison(*(layer(f"{at}.{'w' * 100}", different(0.1)) for at in range(9_000))))
    text = render(Format.MARKDOWN, huge, every_layer=True)
    assert len(text.encode()) <= MOST_BYTES
    assert "Cut here" in text
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("made", [odd, three_models, reports_only, same_weights])
def test_a_report_fits_the_terminal(made: Callable[[], ComparisonReportRecord], detail: Detail, width: int) -> None:
    text = render(Format.TABLE, made(), detail=detail, width=width)
    assert max(map(columns_of, text.splitlines())) <= width


# ---- exit status


@pytest.mark.parametrize(
    ("fail_on", "code", "reason"),
    [
        (FailOn.NEVER, 0, "1 pair compared; 1 error, 1 warning, which fail only with --fail-on"),
        (FailOn.ERROR, 1, "1 finding at level error"),
        (FailOn.WARNING, 1, "2 findings at level warning or above"),
        (FailOn.NOTE, 1, "2 findings at level note or above"),
    ],
)
def test_findings_fail_from_the_level_that_was_asked_for_on(fail_on: FailOn, code: int, reason: str) -> None:
    changed = layer("w", different(), b=subject("w", dtype="BF16"), parameters=parameters(0.3))
    made = report(comparison(changed), fail_on=fail_on)
    assert (made.exit_code, made.exit_reason) == (code, reason)


@pytest.mark.parametrize(
    ("made", "code", "reason"),
    [
        (report(comparison(layer("w")), fail_on=FailOn.NOTE), 0, "no finding at level note or above"),
        (report(comparison(layer("w"), layer("v"))), 0, "1 pair compared"),
        (report(comparison(a=side("a", layers=0))), 3, "nothing to compare in 1 operand"),
        (report(failures=[failure_record("x", "gone", 3)]), 3, "nothing to compare in 1 operand"),
        (report(failures=[failure_record("x", "gone", 4)]), 4, "1 operand could not be read"),
        (report(failures=[failure_record("x", "refused", 1)]), 4, "1 operand could not be read"),
        (report(failures=[failure_record("x", "?", 2)]), 2, "1 target asked for something that has no meaning"),
        (report(comparison(layer("w"), b=side("b", complete=False))), 4, "1 operand could not be compared completely"),
        (report(comparison(layer("w", Unread("gone", side=Side.B)))), 4, "1 layer could not be read"),
    ],
)
def test_the_exit_status_tells_what_happened(made: ComparisonReportRecord, code: int, reason: str) -> None:
    assert (made.exit_code, made.exit_reason) == (code, reason)
    assert render(Format.TABLE, made).endswith(f"Exit status {code}: {reason}.\n")


def test_what_could_not_be_read_weighs_more_than_a_finding() -> None:
    changed = layer("w", different(), parameters=parameters(0.3))
    made = report(comparison(changed, layer("v", Unread("gone", side=Side.B))), fail_on=FailOn.ERROR)
    assert made.exit_code == 4


def test_what_only_a_gate_has_to_say_is_no_format_of_a_comparison() -> None:
    of_a_gate = {Format.SARIF, Format.JUNIT, Format.GITHUB, Format.GITLAB, Format.IGNORES}
    assert set(COMPARISONS) == set(Format) - of_a_gate
