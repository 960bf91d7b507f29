"""SARIF as its readers take it: the schema of the standard, Microsoft's Multitool, and what GitHub refuses."""

import gzip
import importlib.util
import json
import os
import random
import re
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.record import FindingRecord, ReportRecord, failure_record
from jaynes_audit.analyzers.record.report import BytesRecord, LineRecord
from jaynes_audit.analyzers.rules import RULES
from jaynes_audit.cli.reports.sarif_report import MOST_RESULTS, render
from jaynes_audit.cli.reports.view import View
from jaynes_audit.cli.visible import in_sarif, visible
from tests.support.audits import audit, layer, odd_audit
from tests.support.hostile import HOSTILE
from tests.support.placed_reports import broken, finding, hostile_findings, placed_report, with_findings

Log = dict[str, Any]
Change = Callable[[Log], object]

MULTITOOL = "JAYNES_SARIF_MULTITOOL"  # the path of the program, of the version that .ci/run installs
EXPECT_VALIDATORS = "JAYNES_EXPECT_VALIDATORS"
GITHUB_MOST_RESULTS, GITHUB_MOST_BYTES = 25_000, 10_000_000  # in one run; of the file when it is gzipped
GITHUB_MOST_CHARACTERS = 1_024  # of a rule's descriptions

BABBLE = Path(__file__).parents[3] / "fixtures" / "babble"


def log_of(report: ReportRecord) -> Log:
    log: Log = json.loads(render(report, View()))
    return log


def run_of(report: ReportRecord) -> Log:
    [run] = log_of(report)["runs"]
    return run


def result_of(record: FindingRecord) -> Log:
    [result] = run_of(with_findings([record]))["results"]
    return result


def uri_of(result: Log) -> str:
    return result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def in_file(path: str) -> FindingRecord:
    return replace(finding(), line=LineRecord(file=path, line=3))


def on_babble() -> ReportRecord:
    """A real checkpoint that is held against a baseline that knows half of it."""
    of = audit_checkpoint(open_checkpoint(str(BABBLE / "bf16")), jobs=1)
    records = [finding(subject=each.name, rule="JN401") for each in of]
    made = placed_report(of, baseline_place="main:b/babble.jaynes.jsonl", lines={records[0].subject: 4})
    return replace(made, models=[replace(made.models[0], findings=records)])


EVERY_KIND: dict[str, Callable[[], ReportRecord]] = {
    "nothing": lambda: placed_report(audit(layer("a.weight"))),
    "no model": placed_report,
    "odd": lambda: placed_report(odd_audit(), failures=[failure_record("gone", "'gone' is not there", 4)]),
    "several models": lambda: placed_report(broken("a"), broken("a", target="b"), broken("a", target="c/tiny")),
    "hostile": hostile_findings,
    "hub": lambda: placed_report(broken("a", target="hf://o/n@main", file="hf://o/n@5b25b9f1784d/model.safetensors")),
    "absolute": lambda: placed_report(broken("a", target="/srv/x", file="/srv/x/größer 重み:#?.safetensors")),
    "baseline": lambda: placed_report(broken("a"), baseline_place="main:b.jsonl", lines={"a": 12}),
    "real": on_babble,
    "of the run": lambda: with_findings([], of_run=[finding(rule="JN902", subject="jaynes.toml, ignore 1")]),
    "rules of another version": lambda: with_findings([finding(rule="JN999")]),
}


@pytest.fixture(scope="module")
def logs() -> dict[str, Log]:
    return {name: log_of(make()) for name, make in EVERY_KIND.items()}


# ---- what GitHub refuses or drops, and no validator finds


def refusals(log: Log) -> list[str]:
    """What GitHub's documentation requires of an upload beyond the standard."""
    told: list[str] = []
    for run in log["runs"]:
        if len(run["results"]) > GITHUB_MOST_RESULTS:
            told.append("too many results")
        for result in run["results"]:
            told += [] if result.get("locations") else ["no location"]
            told += [] if result.get("partialFingerprints", {}).get("primaryLocationLineHash") else ["no fingerprint"]
            told += [] if result["message"]["text"] else ["no message"]
            for location in result.get("locations", ())[:1]:
                told += _refusals_of(location, needs_region=True)
            for location in result.get("relatedLocations", ()):
                told += _refusals_of(location, needs_region=False)
    return told


def _refusals_of(location: Log, *, needs_region: bool) -> list[str]:
    place = location.get("physicalLocation")
    if place is None:
        return ["only a logical location"]
    told = []
    uri = place["artifactLocation"]["uri"]
    if not uri:
        told.append("empty URI")
    if urlsplit(uri).scheme not in {"", "file"}:
        told.append("another scheme than that of the checkout")
    region = place.get("region", {})
    if needs_region and not all(
        region.get(each, 0) >= 1 for each in ("startLine", "startColumn", "endLine", "endColumn")
    ):
        told.append("no whole region")
    return told


def first(log: Log) -> Log:
    result: Log = log["runs"][0]["results"][0]
    return result


REFUSED: dict[str, tuple[Change, str]] = {
    "a logical location": (lambda log: first(log)["locations"][0].pop("physicalLocation"), "only a logical location"),
    "no location": (lambda log: first(log).update(locations=[]), "no location"),
    "no fingerprint": (lambda log: first(log).pop("partialFingerprints"), "no fingerprint"),
    "the Hub's scheme": (
        lambda log: first(log)["locations"][0]["physicalLocation"]["artifactLocation"].update(uri="hf://o/n/x"),
        "another scheme than that of the checkout",
    ),
    "an empty URI": (
        lambda log: first(log)["locations"][0]["physicalLocation"]["artifactLocation"].update(uri=""),
        "empty URI",
    ),
    "no end": (
        lambda log: first(log)["locations"][0]["physicalLocation"]["region"].pop("endColumn"),
        "no whole region",
    ),
    "too many": (lambda log: log["runs"][0].update(results=[first(log)] * 25_001), "too many results"),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_github_finds_nothing_to_refuse(kind: str, logs: dict[str, Log]) -> None:
    assert refusals(logs[kind]) == []


@pytest.mark.parametrize(("change", "told"), REFUSED.values(), ids=REFUSED)
def test_what_github_would_refuse_is_noticed(change: Change, told: str, logs: dict[str, Log]) -> None:
    log = deepcopy(logs["odd"])
    change(log)
    assert set(refusals(log)) == {told}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_no_two_results_have_one_fingerprint(kind: str, logs: dict[str, Log]) -> None:
    for name in ("primaryLocationLineHash", "jaynesFingerprint/v1"):
        prints = [result["partialFingerprints"][name] for result in logs[kind]["runs"][0]["results"]]
        assert len(set(prints)) == len(prints)


# ---- the validators


def validator(variable: str, what: str) -> str:
    """Where a validator is. Without it a test is skipped, unless CI promised it."""
    found = os.environ.get(variable, "")
    if not found and os.environ.get(EXPECT_VALIDATORS):
        pytest.fail(f"{EXPECT_VALIDATORS} is set, and {variable} does not say where {what} is")
    if not found:
        pytest.skip(f"{variable} does not say where {what} is")
    return found


def complaints(logs: dict[str, Log], folder: Path) -> dict[str, set[str]]:
    """The codes of all errors and warnings that the Multitool finds, by log. Its own status is 0 in any case."""
    program = validator(MULTITOOL, "@microsoft/sarif-multitool")
    every = {**logs["odd"], "runs": [run for log in logs.values() for run in log["runs"]]}  # it takes long to start
    (folder / "every.sarif").write_text(json.dumps(every, indent=1))
    command = [program, "validate", str(folder / "every.sarif"), "--rule-kind", "Sarif;Ghas"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603 - our own
    assert "1 files scanned" in done.stdout
    assert "completed successfully" in done.stdout
    found = re.findall(r"every\.sarif\([0-9,]+\): (?:error|warning) (\w+): (?:runs\[([0-9]+)\])?", done.stdout)
    return {name: {code for code, run in found if run in {"", str(at)}} for at, name in enumerate(logs)}


MUTANTS: dict[str, tuple[Change, str]] = {
    "a rule that is not there": (lambda log: first(log).update(ruleIndex=999), "SARIF1009"),
    "a rule without help": (lambda log: log["runs"][0]["tool"]["driver"]["rules"][0].pop("help"), "GH2012"),
    "no region": (lambda log: first(log)["locations"][0]["physicalLocation"].pop("region"), "SARIF2017"),
    "a URI with a space": (
        lambda log: first(log)["locations"][0]["physicalLocation"]["artifactLocation"].update(uri="a b/{"),
        "SARIF1002",
    ),
    "no address": (lambda log: log["runs"][0]["tool"]["driver"].pop("informationUri"), "SARIF2005"),
}


def test_the_multitool_finds_no_fault(logs: dict[str, Log], tmp_path: Path) -> None:
    assert complaints(logs, tmp_path) == {name: set() for name in logs}


def test_the_multitool_finds_the_fault_in_every_mutant(logs: dict[str, Log], tmp_path: Path) -> None:
    mutants = {name: deepcopy(logs["odd"]) for name in (*MUTANTS, "odd")}
    for name, (change, _) in MUTANTS.items():
        change(mutants[name])
    expected = {name: {code} for name, (_, code) in MUTANTS.items()}
    assert complaints(mutants, tmp_path) == {**expected, "odd": set()}


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    """The schema of the standard, which the Multitool has beside it."""
    program = Path(validator(MULTITOOL, "@microsoft/sarif-multitool"))
    return Draft202012Validator(json.loads((program.parent / "sarif-2.1.0.json").read_text()))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_log_is_of_the_schema(kind: str, logs: dict[str, Log], schema: Draft202012Validator) -> None:
    assert list(schema.iter_errors(logs[kind])) == []


OUTSIDE_THE_SCHEMA: dict[str, Change] = {
    "a level that is not": lambda log: first(log).update(level="fatal"),
    "an unknown field": lambda log: first(log).update(rule_id="JN101"),
    "line 0": lambda log: first(log)["locations"][0]["physicalLocation"]["region"].update(startLine=0),
    "no tool": lambda log: log["runs"][0].pop("tool"),
    "a negative length": lambda log: log["runs"][0]["results"][1]["relatedLocations"][0]["physicalLocation"][
        "region"
    ].update(byteLength=-1),
}


@pytest.mark.parametrize("change", OUTSIDE_THE_SCHEMA.values(), ids=OUTSIDE_THE_SCHEMA)
def test_the_schema_refuses_a_mutant(change: Change, logs: dict[str, Log], schema: Draft202012Validator) -> None:
    log = deepcopy(logs["odd"])
    change(log)
    assert list(schema.iter_errors(log))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_second_reader_loses_nothing(kind: str, logs: dict[str, Log]) -> None:
    if not importlib.util.find_spec("sarif_pydantic"):
        assert not os.environ.get(EXPECT_VALIDATORS), "sarif-pydantic is not installed"
        pytest.skip("sarif-pydantic is not installed")
    from sarif_pydantic import Sarif  # noqa: PLC0415 - not in every environment

    read = Sarif.model_validate(logs[kind])
    assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == logs[kind]


# ---- the rules


def test_every_rule_is_in_the_log_with_all_that_is_said_of_it(logs: dict[str, Log]) -> None:
    rules = logs["nothing"]["runs"][0]["tool"]["driver"]["rules"]
    assert [each["id"] for each in rules] == [rule.code for rule in RULES] == sorted(rule.code for rule in RULES)
    for written, rule in zip(rules, RULES, strict=True):
        assert written["name"] == rule.name
        assert written["defaultConfiguration"]["level"] == rule.level.value
        assert written["defaultConfiguration"].get("enabled", True) is rule.is_usual
        assert written["properties"]["precision"] == rule.precision.value.replace(" ", "-")
        for part in filter(None, (rule.what, rule.why, rule.remedy, rule.example)):
            assert " ".join(part.split()) in " ".join(written["help"]["text"].split())
            assert " ".join(part.split()) in " ".join(written["help"]["markdown"].split())
        for text in (written["shortDescription"]["text"], written["fullDescription"]["text"]):
            assert 0 < len(text) <= GITHUB_MOST_CHARACTERS
            assert text.endswith(".")
        assert "{" not in json.dumps([*written["help"].values(), written["fullDescription"]["text"]])


def test_only_code_that_runs_is_a_matter_of_security(logs: dict[str, Log]) -> None:
    rules = logs["nothing"]["runs"][0]["tool"]["driver"]["rules"]
    of_security = [each for each in rules if "security-severity" in each["properties"] or "tags" in each["properties"]]
    assert [each["id"] for each in of_security] == ["JN020"]
    assert 0 < float(of_security[0]["properties"]["security-severity"]) <= 10
    assert of_security[0]["properties"]["tags"] == ["security"]


def test_every_result_names_its_rule_by_code_and_by_place(logs: dict[str, Log]) -> None:
    [run] = logs["odd"]["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_a_finding_of_a_rule_that_this_version_does_not_have_is_told_all_the_same() -> None:
    result = result_of(finding(rule="JN999"))
    assert result["ruleId"] == "JN999"
    assert "ruleIndex" not in result


# ---- the results


@pytest.mark.parametrize("level", ["error", "warning", "note"])
def test_a_level_is_written_even_where_it_is_the_usual_one(level: str) -> None:
    assert result_of(finding(level=level))["level"] == level


def test_a_result_is_told_as_in_every_other_report(logs: dict[str, Log]) -> None:
    told = [result["message"]["text"] for result in logs["odd"]["runs"][0]["results"]]
    assert "layers.0.mlp.up.weight: 1 NaN and 2 infinite among 65,536 weights" in told


def test_the_most_severe_come_first() -> None:
    run = run_of(with_findings([finding(level=level) for level in ("note", "error", "warning", "error", "note")]))
    assert [each["level"] for each in run["results"]] == ["error", "error", "warning", "note", "note"]


def test_known_findings_are_counted_and_not_listed() -> None:
    findings = [finding("ignored"), finding("baselined"), finding("new", subject="b")]
    run = run_of(with_findings(findings, of_run=[finding("ignored")]))
    assert [each["message"]["text"] for each in run["results"]] == ["b: it is broken"]
    [note] = run["invocations"][0]["toolExecutionNotifications"]
    assert note["level"] == "note"
    assert note["message"]["text"].startswith("3 findings are not listed")
    assert "suppressions" not in json.dumps(run)


def test_of_very_many_findings_the_most_severe_are_written_and_the_rest_counted() -> None:
    notes = [finding(level="note", subject=f"n{at}") for at in range(MOST_RESULTS)]
    errors = [finding(subject=f"e{at}") for at in range(30)]
    run = run_of(with_findings([*notes, *errors]))
    assert len(run["results"]) == MOST_RESULTS
    assert [each["level"] for each in run["results"][:31]] == ["error"] * 30 + ["note"]
    [note] = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("30 more findings")


def test_the_largest_file_is_not_above_what_github_takes() -> None:
    dice = random.Random(5)  # noqa: S311 - for variety, not for secrecy
    names = ["".join(chr(dice.randrange(0x20000, 0x2A6D0)) for _ in range(700)) for _ in range(MOST_RESULTS // 50)]
    findings = [replace(finding(subject=name[:400]), sentence=name[400:]) for name in names]
    assert 50 * len(gzip.compress(render(with_findings(findings), View()).encode())) < GITHUB_MOST_BYTES


def test_a_tensor_has_a_logical_location_and_the_bytes_it_is_stored_in() -> None:
    record = replace(finding(), stored=BytesRecord(file="tiny/a.safetensors", offset=840, length=64))
    result = result_of(record)
    assert result["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "a", "kind": "variable"}]
    [stored] = result["relatedLocations"]
    assert stored["physicalLocation"]["region"] == {"byteOffset": 840, "byteLength": 64}
    assert uri_of({"locations": [stored]}) == uri_of(result) == "tiny/a.safetensors"


def test_a_file_has_no_logical_location_and_no_bytes() -> None:
    record = replace(finding(subject="a.bin"), stored=BytesRecord(file="a.bin", offset=None, length=None))
    result = result_of(record)
    assert uri_of(result) == "a.bin"
    assert "logicalLocations" not in result["locations"][0]
    assert "region" not in result["relatedLocations"][0]["physicalLocation"]


def test_a_line_wins_over_the_file_of_weights() -> None:
    place = BytesRecord(file="a.safetensors", offset=8, length=8)
    result = result_of(replace(in_file("b/tiny.jaynes.jsonl"), stored=place))
    assert uri_of(result) == "b/tiny.jaynes.jsonl"
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 3, "startColumn": 1, "endLine": 3, "endColumn": 2}


def test_a_finding_about_the_model_is_shown_at_its_first_file() -> None:
    result = result_of(finding(subject="tiny"))
    assert uri_of(result) == "tiny/model.safetensors"
    assert "logicalLocations" not in result["locations"][0]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("export/model.safetensors", "export/model.safetensors"),
        ("./export//a/../model.safetensors", "export/model.safetensors"),
        ("../export/model.safetensors", "export/model.safetensors"),
        ("a b/größer.safetensors", "a%20b/gr%C3%B6%C3%9Fer.safetensors"),
        ("c:d/100%.bin", "c%3Ad/100%25.bin"),
        ("a?b#c[d]\\e", "a%3Fb%23c%5Bd%5D%5Ce"),
        ("line\nbreak\x1b[2J", "line%0Abreak%1B%5B2J"),
        ("https://evil.example/x", "https%3A/evil.example/x"),
    ],
)
def test_a_path_is_a_relative_uri(path: str, uri: str) -> None:
    location = result_of(in_file(path))["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": uri, "uriBaseId": "%SRCROOT%"}


@pytest.mark.parametrize("path", ["/srv/a b/größer:#.bin", "//srv/x.bin", "/x"])
def test_an_absolute_path_is_a_file_uri_which_github_makes_relative(path: str) -> None:
    location = result_of(in_file(path))["locations"][0]["physicalLocation"]["artifactLocation"]
    parts = urlsplit(location["uri"])
    assert (parts.scheme, parts.netloc) == ("file", "")
    assert unquote(parts.path) == path.replace("//", "/")
    assert "uriBaseId" not in location


def test_a_file_on_the_hub_has_a_relative_uri_without_its_revision() -> None:
    location = result_of(in_file("hf://org/name@5b25b9f1784d/unet/model.safetensors"))["locations"][0]
    assert location["physicalLocation"]["artifactLocation"] == {"uri": "org/name/unet/model.safetensors"}


# ---- hostile text


def test_hostile_names_are_no_placeholder_and_no_link() -> None:
    for result in run_of(hostile_findings())["results"]:
        text = result["message"]["text"]
        assert not re.search(r"(?<!\{)(?:\{\{)*\{(?!\{)", text)
        assert not re.search(r"\]\(", text)
        assert text.isprintable()


@given(st.text(alphabet=st.one_of(st.sampled_from("{}[]()01"), st.characters(exclude_categories=["Cs"]))))
def test_a_reader_of_the_standard_gets_back_the_text(text: str) -> None:
    escaped = in_sarif(text)
    assert not re.search(r"\{[0-9]+\}", escaped.replace("{{", "").replace("}}", ""))
    assert escaped.replace("{{", "{").replace("}}", "}").replace("] (", "](") == visible(text).replace("] (", "](")


def test_no_character_that_does_not_print_is_in_the_file() -> None:
    text = render(hostile_findings(), View())
    assert text.replace("\n", "").isprintable()
    assert all(name not in text for name in HOSTILE if name and not name.isprintable())


def test_a_very_long_name_is_cut() -> None:
    result = result_of(finding(subject="x" * 1_000_000))
    assert len(json.dumps(result)) < 10_000


# ---- the run


@pytest.mark.parametrize(
    ("exit_code", "succeeded"), [(0, True), (1, True), (2, False), (3, False), (4, False), (130, False)]
)
def test_a_run_that_could_not_finish_says_so(exit_code: int, succeeded: bool) -> None:  # noqa: FBT001 - of a table
    [invocation] = run_of(replace(with_findings([]), exit_code=exit_code, exit_reason="why"))["invocations"]
    assert invocation["executionSuccessful"] is succeeded
    assert (invocation["exitCode"], invocation["exitCodeDescription"]) == (exit_code, "why")


def test_a_target_that_could_not_be_read_is_an_error_of_the_run(logs: dict[str, Log]) -> None:
    [invocation] = logs["odd"]["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [(each["level"], each["message"]["text"]) for each in invocation["toolExecutionNotifications"]] == [
        ("error", "'gone' is not there")
    ]


@pytest.mark.parametrize(
    ("targets", "category"),
    [(["runs/tiny"], "jaynes/tiny/"), (["a", "b"], "jaynes/"), ([], "jaynes/"), (["a/tiny", "b/tiny"], "jaynes/tiny/")],
)
def test_uploads_of_unlike_models_have_unlike_categories(targets: list[str], category: str) -> None:
    report = placed_report(*(audit(layer("a"), target=target) for target in targets))
    assert run_of(report)["automationDetails"]["id"] == category


def test_a_model_that_could_not_be_read_keeps_its_category() -> None:
    report = placed_report(failures=[failure_record("runs/tiny", "'runs/tiny' is not there", 4)])
    assert run_of(report)["automationDetails"]["id"] == "jaynes/tiny/"


def test_equal_reports_give_equal_bytes() -> None:
    assert render(hostile_findings(), View()) == render(hostile_findings(), View())
