"""Every rule of change objects to exactly what it is there for."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.comparison.comparison import Comparison
from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Quantisation, Rearrangement, Relation, Side
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.matching import Unmatched
from jaynes_audit.analyzers.comparison.side_by_side import LayerComparison
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import ModelRecord, record_of
from jaynes_audit.analyzers.rules import CHANGE_RULES, COMMON_RESCALE, EXTRA_TENSOR, MISSING_TENSOR, USUAL_THRESHOLDS
from jaynes_audit.analyzers.rules.changes import SIX_SIGMA_KS
from jaynes_audit.analyzers.verdict import findings_of as findings_of_audit
from tests.support import audits
from tests.support.comparisons import (
    IDENTICAL,
    UP,
    cast,
    comparison,
    different,
    distances,
    layer,
    odd_comparison,
    parameters,
    side,
    subject,
)

NAME = UP.format(0)
UNKNOWN = NotFitted("not known")
NO_ERROR = {"error": UNKNOWN}


def codes(found: Comparison) -> list[str]:
    return [finding.rule for finding in findings_of(found)]


def of_law(*, ks: float | None = 0.0, exact: Exact | NotFitted | None = None, **moved: Any) -> LayerComparison:
    """A layer whose weights differ, and whose law moved by so much."""
    return layer(
        NAME,
        different() if exact is None else exact,
        parameters=parameters(**moved),
        distances=UNKNOWN if ks is None else distances(ks),
    )


def measured(name: str, zeros_a: int, zeros_b: int) -> tuple[ModelRecord, ModelRecord]:
    """Both audits of a model of one layer, with so many zeros in either."""
    first, second = (
        record_of(audits.audit(audits.layer(name, special={"zero": zeros})), []) for zeros in (zeros_a, zeros_b)
    )
    return first, second


def sparse(zeros_a: int, zeros_b: int, exact: Exact | None = None) -> Comparison:
    weights = audits.layer(NAME).counts.weights
    side = replace(subject(NAME), weights=weights)
    return comparison(layer(NAME, exact or different(), a=side), measured=measured(NAME, zeros_a, zeros_b))


WEIGHTS = audits.layer(NAME).counts.weights
ONE_IN_A_HUNDRED = WEIGHTS // 100

OBJECTED = {
    "JN201": [comparison(layer(NAME), only_a=(Unmatched(subject=subject("a"), reason="no layer of role head in B"),))],
    "JN202": [comparison(layer(NAME), only_b=(Unmatched(subject=subject("b"), reason="its role is not known"),))],
    "JN203": [
        comparison(layer(NAME, Exact(relation=Relation.DIFFERENT), b=subject(NAME, rows=513))),
        comparison(layer(NAME, UNKNOWN, b=subject(NAME, rows=128, columns=512))),
    ],
    "JN204": [
        comparison(layer(NAME, cast(), b=subject(NAME, dtype="BF16"))),
        comparison(layer(NAME, UNKNOWN, b=subject(NAME, dtype="Q4_0"))),
    ],
    "JN401": [comparison(of_law(sigma=0.0251)), comparison(of_law(sigma=-0.2)), comparison(of_law(sigma=0.1, ks=None))],
    "JN402": [comparison(of_law(mu=0.031)), comparison(of_law(mu=-3.0)), comparison(of_law(mu=0.1, ks=None))],
    "JN403": [
        comparison(of_law(ks=USUAL_THRESHOLDS.ks_gap + 0.001)),
        comparison(of_law(ks=0.9, skewness=0.0)),
        comparison(of_law(ks=None, skewness=0.21)),
        comparison(of_law(ks=None, skewness=-0.21, exact=UNKNOWN)),
    ],
    "JN404": [
        sparse(0, ONE_IN_A_HUNDRED + 1),
        sparse(ONE_IN_A_HUNDRED + 1, 0),
        sparse(0, ONE_IN_A_HUNDRED + 1, cast(flushed=ONE_IN_A_HUNDRED + 1)),
    ],
    "JN405": [
        comparison(*(layer(UP.format(at), different(), parameters=parameters(0.7)) for at in range(3))),
        comparison(
            layer(UP.format(10)),
            *(layer(UP.format(at), different(), parameters=parameters(-0.3 + at / 10_000)) for at in range(9)),
        ),
    ],
}
NOT_OBJECTED = {
    "JN201": [comparison(layer(NAME))],
    "JN202": [comparison(layer(NAME))],
    "JN203": [
        comparison(layer(NAME, different())),
        comparison(
            layer(
                NAME,
                Exact(
                    relation=Relation.REARRANGED,
                    rearrangement=Rearrangement(transposed=True, moved_rows=0, moved_columns=0),
                ),
                b=subject(NAME, rows=128, columns=512),
            )
        ),
        comparison(layer(NAME, cast(), b=subject(NAME, rows=128, columns=512))),
    ],
    "JN204": [comparison(layer(NAME, different()))],
    "JN401": [
        comparison(of_law(sigma=0.019)),  # under 2 %
        comparison(of_law(sigma=0.2, error=0.04)),  # under six standard errors
        comparison(of_law(sigma=0.2, **NO_ERROR)),
        comparison(of_law(sigma=0.2, exact=IDENTICAL)),
    ],
    "JN402": [
        comparison(of_law(mu=0.029)),
        comparison(of_law(mu=0.2, error=0.04)),
        comparison(of_law(mu=0.2, **NO_ERROR)),
        comparison(of_law(mu=0.2, exact=cast())),
        # Nine in ten moved alike: that is JN405, which says so once.
        comparison(*(layer(UP.format(at), different(), parameters=parameters(0.7)) for at in range(3))),
    ],
    "JN403": [
        comparison(of_law(ks=USUAL_THRESHOLDS.ks_gap - 0.001)),
        comparison(layer(NAME, different(), a=subject(NAME, rows=1), distances=distances(0.2))),  # so few weights
        comparison(of_law(ks=0.5, mu=0.5)),
        comparison(of_law(ks=0.5, sigma=0.5)),
        comparison(of_law(ks=None, skewness=0.19)),
        comparison(of_law(ks=None, skewness=1.0, **NO_ERROR)),
        comparison(of_law(ks=0.5, exact=cast())),
        comparison(layer(NAME, different(), parameters=UNKNOWN, distances=UNKNOWN)),
    ],
    "JN404": [
        sparse(0, ONE_IN_A_HUNDRED - 1),
        sparse(5, 5, IDENTICAL),
        comparison(layer(NAME, different())),
    ],
    "JN405": [
        comparison(*(layer(UP.format(at), different(), parameters=parameters(0.02)) for at in range(10))),
        comparison(*(layer(UP.format(at), different(), parameters=parameters(0.7)) for at in range(2))),
        comparison(*(layer(UP.format(at), different(), parameters=parameters(0.1 * at)) for at in range(10))),
        comparison(
            *(layer(UP.format(at)) for at in range(2)),  # identical, so two of ten did not move
            *(layer(UP.format(at), different(), parameters=parameters(0.7)) for at in range(2, 10)),
        ),
    ],
}


def cases(table: dict[str, list[Comparison]]) -> list[object]:
    return [
        pytest.param(code, each, id=f"{code}-{number}")
        for code, found in table.items()
        for number, each in enumerate(found)
    ]


@pytest.mark.parametrize(("code", "found"), cases(OBJECTED))
def test_a_rule_objects_to_its_change_and_no_other_rule_does(code: str, found: Comparison) -> None:
    assert set(codes(found)) == {code}
    assert all(finding.sentence for finding in findings_of(found))


@pytest.mark.parametrize(("code", "found"), cases(NOT_OBJECTED))
def test_a_rule_has_nothing_against_other_changes(code: str, found: Comparison) -> None:
    assert code not in codes(found)


def test_every_rule_of_change_has_examples() -> None:
    rules = {rule.code for rule in (*CHANGE_RULES, MISSING_TENSOR, EXTRA_TENSOR, COMMON_RESCALE)}
    assert rules == set(OBJECTED) == set(NOT_OBJECTED)


def test_identical_and_merely_cast_layers_give_nothing_but_the_cast() -> None:
    drifted = {"parameters": parameters(1, 1, 1), "distances": distances(0.9)}
    in_bf16 = subject("b", dtype="BF16")
    found = comparison(layer("a", IDENTICAL, **drifted), layer("b", cast(), b=in_bf16, **drifted))
    assert [(each.rule, each.subject) for each in findings_of(found)] == [("JN204", "b")]


@pytest.mark.parametrize(("ratio", "rules"), [(1.1, ["JN204"]), (3.0, ["JN204", "JN401"])])
def test_what_a_good_quantiser_rounds_is_no_drift(ratio: float, rules: list[str]) -> None:
    quantisation = Quantisation(
        quantised=Side.B, scheme="Q4_0", relative_error=0.08, best_error=0.08 / ratio, ratio=ratio
    )
    exact = Exact(relation=Relation.QUANTISED, quantisation=quantisation, difference=different().difference)
    found = comparison(layer("a", exact, b=subject("a", dtype="Q4_0"), parameters=parameters(0, 0.1)))
    assert sorted(codes(found)) == rules


def test_layers_of_a_model_that_was_not_read_whole_are_not_called_missing() -> None:
    gone = (Unmatched(subject=subject("a.weight"), reason="no layer of its name"),)
    assert codes(comparison(only_a=gone)) == ["JN201"]
    assert codes(comparison(only_a=gone, b=side("cut", complete=False))) == []


def test_findings_stand_worst_first_then_by_rule() -> None:
    found = findings_of(odd_comparison())
    assert [each.level for each in found] == sorted((each.level for each in found), key=["error", "warning"].index)
    errors = [each.rule for each in found if each.level == "error"]
    assert errors == sorted(errors)


def test_what_the_rules_say_of_b_by_itself_is_told_and_of_a_is_not() -> None:
    in_a, in_b = (audits.audit(audits.layer(name, special={"nan": 3})) for name in ("a.weight", "b.weight"))
    both = record_of(in_a, findings_of_audit(in_a)), record_of(in_b, findings_of_audit(in_b))
    assert [(each.rule, each.subject) for each in findings_of(comparison(measured=both))] == [("JN101", "b.weight")]


def test_a_common_rescaling_is_told_once_with_its_factor_and_the_rest_by_themselves() -> None:
    alike = [layer(UP.format(at), different(), parameters=parameters(math.log(2))) for at in range(19)]
    found = findings_of(comparison(*alike, layer(UP.format(19), different(), parameters=parameters(-1.0))))
    assert [each.rule for each in found] == ["JN402", "JN405"]
    assert found[0].subject == UP.format(19)
    assert found[1].sentence == "mu moved by +0.693 in 19 of 20 matrices: weights 2 times as large"


def test_gains_that_did_not_move_hide_no_common_rescaling() -> None:
    gains = [layer(f"norm.{at}", different(), a=subject(f"norm.{at}", fan_in=0)) for at in range(20)]
    matrices = [layer(UP.format(at), different(), parameters=parameters(0.5)) for at in range(5)]
    assert codes(comparison(*gains, *matrices)) == ["JN405"]


def test_chance_exceeds_the_noise_of_ks_as_often_as_six_sigma() -> None:
    assert stats.kstwobign.sf(SIX_SIGMA_KS) == pytest.approx(2 * stats.norm.sf(6), rel=0.02)


def test_the_bound_of_ks_is_what_a_tenth_of_sigma_makes_of_two_normal_laws() -> None:
    gap = stats.norm.cdf(0.05) - stats.norm.cdf(-0.05)
    assert gap == pytest.approx(USUAL_THRESHOLDS.ks_gap, abs=2e-4)


def test_the_bound_of_skewness_is_what_moves_a_quantile_by_a_tenth_of_sigma() -> None:
    at_two_sigma = (2**2 - 1) / 6  # Cornish-Fisher: skewness times (z^2 - 1)/6
    assert 0.2 * at_two_sigma == pytest.approx(0.1)


def test_an_overwhelming_factor_is_told_without_overflow() -> None:
    (found,) = findings_of(comparison(of_law(mu=1e6)))
    assert "times as large" in found.sentence


def test_a_drift_is_told_with_both_values_and_its_standard_errors() -> None:
    (found,) = findings_of(comparison(of_law(sigma=0.1)))
    assert found.sentence == "sigma 1.110 in A, 1.210 in B (25 standard errors)"


def test_two_samples_of_one_law_are_not_called_drifted() -> None:
    rng = np.random.default_rng(7)
    a, b = (np.log(np.abs(rng.standard_normal(20_000))) for _ in range(2))
    found = of_law(ks=float(stats.ks_2samp(a, b).statistic), mu=float(b.mean() - a.mean()), error=0.01)
    assert codes(comparison(found)) == []
