"""What the gate prints for people, in a log and on a job's summary page."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from syrupy.assertion import SnapshotAssertion

from jaynes_audit.analyzers.audit import LeftOutReason
from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord, failure_record
from jaynes_audit.analyzers.rules import Status
from jaynes_audit.cli.exit_codes import FailOn
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.audits import REPORTS
from jaynes_audit.cli.reports.gate_words import MOST_OF_RULE
from jaynes_audit.cli.reports.markdown_page import MOST_BYTES
from jaynes_audit.cli.reports.view import Detail, Show, View
from tests.support.audits import audit, layer, left_out, report
from tests.support.gates import failing_gate, finding, gate, held, hostile_gate, model
from tests.support.golden import Text

PEOPLE = [Format.TABLE, Format.MARKDOWN]


def table(record: ReportRecord, **view: object) -> list[str]:
    return REPORTS[Format.TABLE](record, View(**view)).split("\n")[:-1]


def first_line(*models: ModelRecord, fail_on: FailOn = FailOn.ERROR) -> str:
    return table(gate(*models, fail_on=fail_on))[0]


def with_a_nan(name: str = "a") -> ModelRecord:
    return held(model(name), finding("JN101", name, "1 NaN"))


def unread(reason: LeftOutReason = LeftOutReason.NOT_REQUESTED) -> ModelRecord:
    return report(audit(layer("a"), left_out=[left_out("b", reason, "so it is")])).models[0]


NOTHING_READ = report(audit(left_out=[left_out("ids")])).models[0]
GONE = failure_record("gone", "'gone' does not exist; correct the path", 4)


@pytest.mark.parametrize("show", [Show.NEW, Show.ALL])
@pytest.mark.parametrize("form", PEOPLE)
def test_a_report_of_the_gate(form: Format, show: Show, snapshot: SnapshotAssertion) -> None:
    assert REPORTS[form](failing_gate(), View(show=show)) == snapshot(extension_class=Text)


# ---- the first line and the last


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (lambda: first_line(with_a_nan()), "Gate failed: 1 error."),
        (lambda: first_line(with_a_nan(), with_a_nan()), "Gate failed: 2 errors."),
        (lambda: first_line(with_a_nan(), fail_on=FailOn.NEVER), "Gate passed: 1 error."),
        (lambda: first_line(held(model("a"), finding("JN103", "a", "alike"))), "Gate passed: 1 warning."),
        (lambda: first_line(held(model("a"))), "Gate passed: nothing new found."),
        (lambda: first_line(NOTHING_READ), "Gate undecided: nothing to audit in 1 target."),
        (lambda: table(gate(failures=[GONE]))[0], "Gate undecided: 1 target gave no audit."),
        (lambda: table(gate(with_a_nan(), failures=[GONE]))[0], "Gate undecided: 1 error; 1 target gave no audit."),
    ],
)
def test_the_first_line_is_the_verdict(line: Callable[[], str], told: str) -> None:
    assert line() == told


def test_the_last_line_says_why_the_exit_status_is_what_it_is() -> None:
    assert table(failing_gate())[-1] == "Exit status 1: 1 finding at level error."
    page = REPORTS[Format.MARKDOWN](failing_gate(), View())
    assert page.endswith("\n**Exit status 1**: 1 finding at level error.\n")


@pytest.mark.parametrize("form", PEOPLE)
@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize(
    "record",
    [gate(NOTHING_READ), gate(failures=[GONE]), gate(), gate(unread()), gate(unread(LeftOutReason.HEADERS_ONLY))],
    ids=["no layer", "no audit", "no target", "a part", "headers"],
)
def test_nothing_is_said_to_be_found_where_not_all_was_read(record: ReportRecord, detail: Detail, form: Format) -> None:
    page = REPORTS[form](record, View(detail=detail))
    assert "nothing new found." not in page
    assert "nothing new found\n" not in page


# ---- each model


def test_every_target_is_told_with_its_coverage_and_its_baseline() -> None:
    lines = table(gate(held(model("a", target="one")), model("a", "b", target="two")))
    at = lines.index("one: nothing new found.")
    assert lines[at + 1] == "Analysed 1 of 1 tensor, 131.1 kB of 131.1 kB; nothing left out."
    assert lines[at + 2] == "Held against origin/main:baselines/tiny.jaynes.jsonl: 14 layers of tiny."
    at = lines.index("two: nothing new found.")
    assert lines[at + 1] == "Analysed 2 of 2 tensors, 262.1 kB of 262.1 kB; nothing left out."
    assert lines[at + 2] == ""
    unheld = "1 of 2 models are held against no baseline: what changed since the last good export is not known."
    assert unheld in lines
    assert unheld.replace("1 of 2 models are held", "Held") in table(gate(model("a")))


def test_only_findings_are_listed_and_no_figure_of_a_layer() -> None:
    page = "\n".join(table(failing_gate(), detail=Detail.EVERYTHING, every_layer=True))
    assert "sigma" not in page
    assert "a.weight" not in page


def test_the_quiet_gate_gives_the_findings_and_the_last_line() -> None:
    assert table(failing_gate(), detail=Detail.FINDINGS) == [
        "export/tiny:",
        "error    JN101 non-finite-weights  layers.0.mlp.up.weight: 1 NaN and 0 infinite among 65,536 weights",
        "warning  JN103 constant-tensor  layers.1.mlp.up.weight: all 65,536 weights have the magnitude 0.5",
        "         1 baselined and 1 ignored: --show all",
        "warning  JN901 unused-ignore  jaynes.toml, ignore 2: it covers no finding",
        "Exit status 1: 1 finding at level error.",
    ]


# ---- many findings, and old ones


def many(number: int) -> ReportRecord:
    names = [f"layers.{at}.weight" for at in range(number)]
    return gate(held(model("a"), *(finding("JN101", name, "1 NaN") for name in names), finding("JN103", "a", "alike")))


def test_many_findings_of_a_rule_hide_none_of_another() -> None:
    lines = table(many(300))
    assert sum("JN101 non-finite-weights  layers" in line for line in lines) == MOST_OF_RULE
    assert "         and 290 more of JN101; --all lists them" in lines
    assert "warning  JN103 constant-tensor  a: alike" in lines
    assert len(lines) < 30


@pytest.mark.parametrize("form", PEOPLE)
def test_all_findings_are_listed_when_asked(form: Format) -> None:
    page = REPORTS[form](many(300), View(every_layer=True))
    assert all(f"layers.{at}.weight" in page for at in range(300))
    assert "--all" not in page


@pytest.mark.parametrize("form", PEOPLE)
@pytest.mark.parametrize(
    ("show", "listed", "counted"),
    [
        (Show.NEW, (False, False), "1 baselined and 1 ignored: --show all"),
        (Show.BASELINED, (True, False), "1 ignored: --show all"),
        (Show.IGNORED, (False, True), "1 baselined: --show all"),
        (Show.ALL, (True, True), ""),
    ],
)
def test_what_is_no_news_is_counted_and_listed_when_asked(
    form: Format, show: Show, listed: tuple[bool, bool], counted: str
) -> None:
    page = REPORTS[form](failing_gate(), View(show=show))
    told = "(baselined)" in page, "(ignored: a table of ones, see" in page
    assert told == listed
    assert counted in page
    assert ("--show" in page) == bool(counted)


@pytest.mark.parametrize("form", PEOPLE)
def test_an_audit_tells_the_standing_of_findings_that_are_no_news(form: Format) -> None:
    old = finding("JN102", "a", "all zero", Status.IGNORED, "by design")
    record = replace(gate(held(model("a"), old)), command="audit")
    assert "JN102" not in REPORTS[form](record, View())
    assert "1 ignored: --show all" in REPORTS[form](record, View())
    assert "(ignored: by design)" in REPORTS[form](record, View(show=Show.ALL))


# ---- what to do


def remedies(*found: FindingRecord) -> list[str]:
    lines = table(gate(held(model("a"), *found)))
    return lines[lines.index("What to do") + 1 : -3] if "What to do" in lines else []


def test_each_rule_that_fired_says_once_and_in_one_line_what_to_do() -> None:
    told = remedies(finding("JN101", "a", "NaN"), finding("JN101", "b", "NaN"), finding("JN103", "a", "alike"))
    assert [line.partition(":")[0] for line in told] == ["JN101 non-finite-weights", "JN103 constant-tensor"]


def test_nothing_is_to_be_done_about_what_is_no_news() -> None:
    assert remedies(finding("JN101", "a", "NaN", Status.BASELINED)) == []


def test_a_rule_of_another_version_has_no_remedy_here() -> None:
    later = replace(finding("JN101", "a", "NaN"), rule="JN999")
    assert "JN999" in "\n".join(table(gate(held(model("a"), later))))
    assert remedies(later) == []


# ---- room


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("detail", list(Detail))
def test_the_table_fits_the_terminal(detail: Detail, width: int) -> None:
    lines = table(failing_gate(), detail=detail, width=width, show=Show.ALL)
    assert [line for line in lines if len(line) > width] == []


def test_a_huge_page_is_cut_before_a_job_summary_would_drop_it() -> None:
    page = REPORTS[Format.MARKDOWN](many(20_000), View(every_layer=True))
    assert len(page.encode()) <= MOST_BYTES
    assert "Cut here" in page
    assert page.endswith("**Exit status 1**: 20,000 findings at level error.\n")


def test_hostile_names_make_no_extra_row_in_markdown() -> None:
    page = REPORTS[Format.MARKDOWN](hostile_gate(), View(every_layer=True, show=Show.ALL))
    rows = [line for line in page.split("\n") if line.startswith("|")]
    assert {len(line.replace("\\\\", "").replace("\\|", "").split("|")) for line in rows} == {6}
