"""Which findings are news: what the baseline's model had is known, what is ignored is ignored until its day."""

from dataclasses import replace
from datetime import date

import pytest

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.baseline.entry import STATISTICS, Known, StoredBaseline
from jaynes_audit.analyzers.baseline.keeping import Keeper, baseline_of
from jaynes_audit.analyzers.gate import Held, about_the_run, judge
from jaynes_audit.analyzers.rules import Finding, Level, Status
from jaynes_audit.analyzers.rules.policy import Ignore, Policy
from jaynes_audit.analyzers.verdict import USUAL_POLICY
from tests.support.audits import audit, layer

NAN = "model.layers.3.mlp.up_proj.weight"
TODAY = date(2026, 3, 31)
TOMORROW = date(2026, 4, 1)


def broken() -> Audit:
    return audit(layer(NAN, special={"nan": 3}), layer("model.layers.1.mlp.up_proj.weight"))


def held(model: Audit, *known: Known, statistics: str = STATISTICS) -> Held:
    now = baseline_of(model, Keeper())
    before = replace(now, known=known, statistics=statistics)
    stored = StoredBaseline(place="b.jaynes.jsonl", digest="0" * 64, baseline=before, lines={})
    return Held(against=stored, now=now)


def policy(*ignores: Ignore) -> Policy:
    return replace(USUAL_POLICY, ignores=ignores)


def ignore(rule: str = "JN101", tensor: str = NAN, until: date | None = None) -> Ignore:
    return Ignore(rule=rule, tensor=tensor, reason="known since March", until=until, where="jaynes.toml, ignore 1")


def sole(findings: tuple[Finding, ...]) -> Finding:
    (found,) = findings
    return found


def test_a_finding_is_news_unless_somebody_knows_of_it() -> None:
    found = sole(judge(broken(), USUAL_POLICY, None, today=TODAY))
    assert (found.rule, found.subject, found.status, found.why) == ("JN101", NAN, Status.NEW, "")


def test_what_the_baseline_had_is_baselined() -> None:
    model = broken()
    found = sole(judge(model, USUAL_POLICY, held(model, Known(rule="JN101", subject=NAN)), today=TODAY))
    assert found.status is Status.BASELINED


@pytest.mark.parametrize("known", [Known(rule="JN102", subject=NAN), Known(rule="JN101", subject="another")])
def test_what_the_baseline_had_of_another_rule_or_layer_is_news(known: Known) -> None:
    model = broken()
    assert sole(judge(model, USUAL_POLICY, held(model, known), today=TODAY)).status is Status.NEW


@pytest.mark.parametrize(
    "covering", [ignore(), ignore(rule="JN1"), ignore(tensor="model.layers.*"), ignore(until=TODAY)]
)
def test_what_is_ignored_says_why(covering: Ignore) -> None:
    found = sole(judge(broken(), policy(covering), None, today=TODAY))
    assert (found.status, found.why) == (Status.IGNORED, "known since March")


@pytest.mark.parametrize("other", [ignore(rule="JN102"), ignore(tensor="model.layers.1.*"), ignore(rule="JN1011")])
def test_what_is_ignored_elsewhere_is_news(other: Ignore) -> None:
    assert sole(judge(broken(), policy(other), None, today=TODAY)).status is Status.NEW


def test_an_ignore_holds_to_the_end_of_its_last_day() -> None:
    ending = policy(ignore(until=TODAY))
    assert sole(judge(broken(), ending, None, today=TODAY)).status is Status.IGNORED
    assert sole(judge(broken(), ending, None, today=TOMORROW)).status is Status.NEW


def test_an_ignore_comes_before_the_baseline_for_it_has_a_reason() -> None:
    model = broken()
    known = held(model, Known(rule="JN101", subject=NAN))
    assert sole(judge(model, policy(ignore()), known, today=TODAY)).status is Status.IGNORED


def test_what_is_final_is_news_whatever_covers_it() -> None:
    decided = replace(policy(ignore()), final=frozenset({"JN101"}))
    known = held(broken(), Known(rule="JN101", subject=NAN))
    assert sole(judge(broken(), decided, known, today=TODAY)).status is Status.NEW


def test_a_model_held_against_itself_has_not_drifted() -> None:
    model = audit(layer(NAN), layer("model.layers.1.mlp.up_proj.weight"))
    assert judge(model, USUAL_POLICY, held(model), today=TODAY) == ()


def test_a_baseline_measured_otherwise_is_told_and_not_compared() -> None:
    model = audit(layer(NAN))
    other = held(model, statistics="0")
    gone = Held(against=other.against, now=replace(other.now, entries=()))
    found = sole(judge(model, USUAL_POLICY, gone, today=TODAY))
    assert (found.rule, found.level, found.subject) == ("JN903", Level.WARNING, "b.jaynes.jsonl")
    assert "version 0" in found.sentence


def test_levels_are_the_policys() -> None:
    lenient = replace(USUAL_POLICY, levels={"JN101": Level.NOTE})
    assert sole(judge(broken(), lenient, None, today=TODAY)).level is Level.NOTE


def test_a_rule_that_is_off_says_nothing() -> None:
    silent = replace(USUAL_POLICY, on=USUAL_POLICY.on - {"JN101"})
    assert judge(broken(), silent, None, today=TODAY) == ()


# ---- what is said of the policy itself


def run_of(decided: Policy, today: date, *, is_whole: bool = True) -> list[tuple[str, str]]:
    found = judge(broken(), decided, None, today=today)
    return [(each.rule, each.subject) for each in about_the_run(decided, found, today=today, is_whole=is_whole)]


def test_an_ignore_that_is_needed_is_not_mentioned() -> None:
    assert run_of(policy(ignore(until=TODAY)), TODAY) == []


def test_an_ignore_that_expired_is_an_error_of_the_run() -> None:
    decided = policy(ignore(until=TODAY))
    found = sole(about_the_run(decided, (), today=TOMORROW, is_whole=True))
    assert (found.rule, found.level, found.subject) == ("JN902", Level.ERROR, "jaynes.toml, ignore 1")
    assert "2026-03-31" in found.sentence


def test_an_ignore_that_covers_nothing_is_told() -> None:
    assert run_of(policy(ignore(rule="JN102")), TODAY) == [("JN901", "jaynes.toml, ignore 1")]


def test_no_ignore_is_called_unused_where_not_everything_was_looked_at() -> None:
    assert run_of(policy(ignore(rule="JN102")), TODAY, is_whole=False) == []


def test_nothing_is_said_of_ignores_by_rules_that_are_off() -> None:
    decided = policy(ignore(rule="JN102"))
    assert run_of(replace(decided, on=decided.on - {"JN901"}), TODAY) == []


# ---- weights that were rounded before


def test_that_weights_were_rounded_twice_is_no_news_of_the_very_weights_of_the_baseline() -> None:
    twice = audit(replace(layer(NAN), rescaled_by=1.1))
    assert [each.rule for each in judge(twice, USUAL_POLICY, None, today=TODAY)] == ["JN114"]
    assert judge(twice, USUAL_POLICY, held(twice), today=TODAY) == ()
    other = held(audit(replace(layer(NAN), content="0" * 32)))
    among = judge(twice, USUAL_POLICY, Held(against=other.against, now=held(twice).now), today=TODAY)
    assert "JN114" in {each.rule for each in among}
