"""A baseline is brought up to date by what was approved, line by line, and by nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from jaynes_audit.analyzers.baseline.entry import Baseline, Known
from jaynes_audit.analyzers.baseline.text import from_text, to_text
from jaynes_audit.analyzers.baseline.update import Acceptance, Difference, DifferenceKind, Update, changes, updated
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import Finding, Level
from tests.support.baselines import measured, network, told

SCALED = "model.layers.1.mlp.up_proj.weight"
ZEROED = "model.layers.2.mlp.up_proj.weight"
GONE = "model.layers.3.mlp.up_proj.weight"
NEW = "model.new.weight"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    return measured(tmp_path_factory.mktemp("before"), network())


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    weights = network()
    weights |= {SCALED: weights[SCALED] * 2, ZEROED: weights[ZEROED] * 0, NEW: weights[GONE] * 3}
    del weights[GONE]
    return replace(measured(tmp_path_factory.mktemp("now"), weights), revision="of now")


def names(differences: tuple[Difference, ...]) -> dict[str, str]:
    """The layers among the differences, and what happened to each."""
    return {each.name: str(each.kind) for each in differences if not each.rule}


def brought(before: Baseline, now: Baseline, **accepted: object) -> Update:
    return updated(before, now, told(before, now), Acceptance(**accepted))


def test_changes_are_the_lines_that_differ(before: Baseline, now: Baseline) -> None:
    lines_before, lines_now = (set(to_text(each).splitlines()[1:]) for each in (before, now))
    differences = changes(before, now)
    assert names(differences) == {SCALED: "~", ZEROED: "~", GONE: "-", NEW: "+"}
    gone, came = lines_before - lines_now, lines_now - lines_before
    assert len(gone) == sum(each.kind is not DifferenceKind.ADDED for each in differences)
    assert len(came) == sum(each.kind is not DifferenceKind.REMOVED for each in differences)
    assert changes(before, before) == ()


def test_what_rules_of_a_code_object_to_is_accepted_and_the_rest_remains(before: Baseline, now: Baseline) -> None:
    update = brought(before, now, codes=("JN402",))
    assert names(update.accepted) == {SCALED: "~"}
    assert update.summary == "+0 -0 ~1"
    assert {GONE: "-", NEW: "+"}.items() <= names(update.remaining).items()
    assert {finding.subject for finding in told(update.baseline, now)} == {ZEROED, GONE, NEW}
    assert update.baseline.revision == ""


def test_layers_are_accepted_by_pattern(before: Baseline, now: Baseline) -> None:
    update = brought(before, now, tensors=("model.layers.*",))
    assert {SCALED: "~", ZEROED: "~", GONE: "-"}.items() <= names(update.accepted).items()
    assert names(update.remaining) == {NEW: "+"}
    assert [finding.subject for finding in told(update.baseline, now)] == [NEW]


def test_the_beginning_of_a_code_stands_for_all_of_them(before: Baseline, now: Baseline) -> None:
    update = brought(before, now, codes=("JN2", "JN4"))
    assert names(update.accepted) == {SCALED: "~", ZEROED: "~", GONE: "-", NEW: "+"}
    assert told(update.baseline, now) == []


def test_all_is_the_model_as_it_is(before: Baseline, now: Baseline) -> None:
    update = brought(before, now, everything=True)
    assert update.baseline == now
    assert update.remaining == update.untold == ()
    assert update.summary.startswith("+")


def test_what_is_written_is_a_sound_baseline(before: Baseline, now: Baseline) -> None:
    for accepted in ({"codes": ("JN402",)}, {"tensors": (NEW,)}, {}):
        baseline = brought(before, now, **accepted).baseline
        assert from_text(to_text(baseline).encode(), "new").baseline == baseline
    assert brought(before, now).baseline == before


def test_lines_that_no_rule_objects_to_stay_and_do_not_fail(before: Baseline, tmp_path: Path) -> None:
    through_bf16 = measured(tmp_path, network(), Dtype.BF16)
    update = updated(before, through_bf16, [], Acceptance(codes=("JN402",)))
    assert update.accepted == update.remaining == ()
    assert len(update.untold) == len(before.entries)
    assert update.baseline == before


def test_a_finding_about_the_model_is_about_every_layer_that_differs(before: Baseline, tmp_path: Path) -> None:
    twice = {name: each * 2 for name, each in network().items()}
    update = brought(before, measured(tmp_path, twice), codes=("JN4",))
    assert len(update.accepted) == len(before.entries)


def test_a_line_is_not_approved_by_one_of_the_codes_that_object_to_it(before: Baseline) -> None:
    now = replace(before, entries=tuple(replace(e, rms=e.rms * 2) if e.name == SCALED else e for e in before.entries))
    found = [
        Finding(rule=rule, name="x", level=Level.ERROR, subject=SCALED, sentence="told") for rule in ("JN402", "JN404")
    ]
    assert updated(before, now, found, Acceptance(codes=("JN404",))).baseline == before
    assert updated(before, now, found, Acceptance(codes=("JN404", "JN402"))).remaining == ()


def test_known_findings_are_accepted_by_code_and_not_swallowed_by_another(before: Baseline) -> None:
    found = Finding(rule="JN103", name="constant-tensor", level=Level.WARNING, subject=SCALED, sentence="told")
    now = replace(before, known=(Known(rule="JN103", subject=SCALED),))
    kept = updated(before, now, [found], Acceptance(codes=("JN402",)))
    assert (kept.baseline, [each.rule for each in kept.remaining]) == (before, ["JN103"])
    taken = updated(before, now, [found], Acceptance(codes=("JN103",)))
    assert (taken.baseline, taken.remaining) == (now, ())
    assert updated(now, before, [], Acceptance(codes=("JN1",))).baseline == before
