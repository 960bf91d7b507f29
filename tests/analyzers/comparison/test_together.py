"""The layers of several models taken together, as their records tell."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.audit import Audit, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.claim import try_claim
from jaynes_audit.analyzers.comparison.members import members_of
from jaynes_audit.analyzers.comparison.together import role_trends, roles_side_by_side, universality_of
from jaynes_audit.analyzers.distributions.candidates import Family
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.distributions.ranking import Ranking
from jaynes_audit.analyzers.layer_audit import Criterion, LayerAudit
from jaynes_audit.analyzers.layer_verdict import LayerVerdict, VerdictKind
from jaynes_audit.analyzers.record import ClaimRecord, ModelRecord, claim_record, record_of
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.universality.constancy import Quantity
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.trend import Trend
from jaynes_audit.analyzers.universality.universality import Universality, Verdict
from jaynes_audit.analyzers.verdict import findings_of
from tests.support import audits

FIXTURES = Path(__file__).parents[3] / "fixtures"


@cache
def audit_of(name: str) -> Audit:
    return audit_checkpoint(open_checkpoint(str(FIXTURES / name)))


def saved(audit: Audit) -> ModelRecord:
    """The record of an audit, written to a file and read back."""
    written = msgspec.json.encode(record_of(audit, findings_of(audit)))
    return msgspec.json.decode(written, type=ModelRecord)


def written(claim: Universality, **changes: object) -> bytes:
    record: ClaimRecord = msgspec.structs.replace(claim_record(claim), **changes)
    return msgspec.json.encode(record)


def layer(number: int, role: Role = Role.MLP_UP, *, mu: float = -4.0, **changes: object) -> LayerAudit:
    """A layer that is lognormal with its row and column scales and without them."""
    fitted = audits.fit(mu, weights=65_536, **audits.LOGNORMAL_LIKE)
    told_by = audits.evidence(Family.LOGNORMAL, residual=Family.LOGNORMAL)
    made = audits.layer(f"layers.{number}.{role}.weight", role, depth=number, fitted=fitted, told_by=told_by)
    return replace(made, **changes)


def network(*layers: LayerAudit, target: str = "one") -> ModelRecord:
    return saved(audits.audit(*layers, target=target))


def overall(*models: ModelRecord) -> Universality:
    (role, found), *_ = universality_of(*models)
    assert role is None
    return found


# ---- universality


UNDECIDED = [
    audits.ranking(Family.STUDENT_T, tied_with=[Family.GENERALISED_NORMAL]),
    audits.ranking(Family.LOGNORMAL),
]


def odd_layers() -> list[LayerAudit]:
    """Layers of every kind of verdict, of several stacks, with and without a law."""
    nothing = NotFitted("every weight is zero or not finite")
    usual = [layer(number, mu=-4 - number / 9, stack="encoder" if number % 2 else "") for number in range(9)]
    return [
        *usual,
        replace(usual[0], name="again", tied_to=usual[0].name),
        layer(3, Role.ATTENTION_Q, errors=nothing),
        layer(4, Role.ATTENTION_Q, declared_sd=0.02, counts=audits.counts(65_546, zero=5, nan=2, infinite=3)),
        layer(5, Role.ATTENTION_K, depth=None),
        audits.layer("layers.6.mlp.down.weight", Role.MLP_DOWN, depth=6, fitted=nothing),
        audits.layer("layers.7.mlp.down.weight", Role.MLP_DOWN, depth=7, special={"zero": 64_000}),
        audits.layer("embed.weight", Role.EMBEDDING, depth=None),
        *(
            audits.layer(f"layers.{number}.mlp.gate.weight", Role.MLP_GATE, depth=number, told_by=audits.evidence(each))
            for number, each in enumerate(UNDECIDED)
        ),
    ]


@pytest.mark.parametrize(
    "made",
    [
        lambda: [audit_of("babble/step0"), audit_of("babble/bf16")],
        lambda: [audit_of("babble/fp16")],
        lambda: [audits.audit(*odd_layers(), target="one"), audits.audit(*map(layer, range(20)), target="two")],
        lambda: [replace(audits.audit(*odd_layers()), criterion=Criterion(min_fan_in=1, min_weights=60_000))],
    ],
    ids=["untrained and trained", "one alone", "odd layers", "another criterion"],
)
def test_records_say_of_the_claim_what_the_audits_do_but_for_the_collapse(made: Any) -> None:
    given: Sequence[Audit] = made()
    assert written(overall(*map(saved, given))) == written(try_claim(given), collapse=None)


def nearly(behind: Family) -> Ranking:
    """Lognormal weights that another family fits a little better yet."""
    ranking = audits.ranking(Family.LOGNORMAL)
    lognormal, *others = ranking.candidates
    winner = replace(next(each for each in others if each.family is behind), nats=0.0003)
    rest = [each for each in others if each.family is not behind]
    tied = (Family.LOGNORMAL,) if winner.parameters == lognormal.parameters else ()
    return Ranking(candidates=(winner, lognormal, *rest), winner=winner, tied_with=tied, lognormal_skewness=0.0)


@pytest.mark.parametrize(
    ("ranking", "may_be"),
    [
        (audits.ranking(Family.LOGNORMAL), True),
        (nearly(Family.WEIBULL), True),
        (nearly(Family.GAUSSIAN), False),
        (audits.ranking(Family.STUDENT_T, tied_with=[Family.GENERALISED_NORMAL]), False),
    ],
    ids=["the winner", "tied with the winner", "with more parameters", "far behind"],
)
def test_an_undecided_layer_that_may_be_lognormal_is_known_by_its_candidates(ranking: Ranking, may_be: Any) -> None:
    undecided = LayerVerdict(kind=VerdictKind.UNDECIDED, name="undecided", reason="why")
    half = [layer(each, Role.MLP_DOWN, evidence=audits.evidence(ranking), verdict=undecided) for each in range(5)]
    given = audits.audit(*map(layer, range(5)), *half)
    assert (try_claim([given]).verdict is Verdict.CANNOT_BE_SAID) == may_be
    assert written(overall(saved(given))) == written(try_claim([given]), collapse=None)


def test_one_law_in_two_networks_supports_the_claim_and_two_laws_do_not() -> None:
    one = network(*map(layer, range(8)))
    assert overall(one, network(*map(layer, range(8)), target="two")).verdict is Verdict.SUPPORTS
    far = network(*(layer(number, mu=-6) for number in range(8)), target="two")
    assert overall(one, far).verdict is Verdict.LOGNORMAL_NOT_UNIVERSAL


def test_two_models_of_one_name_are_two_models() -> None:
    one, other = (network(*(layer(each, mu=mu - each / 100) for each in range(9))) for mu in (-4, -6))
    assert one.target == other.target
    [of_mu] = [each for each in overall(one, other).constancy if each.quantity is Quantity.LOG_MEAN]
    assert isinstance(of_mu.icc_by_model, float)
    assert of_mu.icc_by_model > 0.99


def test_the_roles_are_those_that_all_models_have() -> None:
    one = network(*map(layer, range(9)), layer(0, Role.ATTENTION_Q), layer(0, Role.ATTENTION_O))
    two = network(*map(layer, range(9)), layer(0, Role.ATTENTION_O), layer(0, Role.MLP_DOWN))
    three = network(*map(layer, range(9)))
    assert [role for role, _ in universality_of(one, two)] == [None, Role.ATTENTION_O, Role.MLP_UP]
    assert [role for role, _ in universality_of(one, two, three)] == [None, Role.MLP_UP]
    assert [role for role, _ in universality_of()] == [None]


def test_a_role_is_tried_by_its_own_layers() -> None:
    up, out = list(map(layer, range(9))), [layer(number, Role.ATTENTION_O, mu=-4 - number) for number in range(3)]
    found = dict(universality_of(network(*up, *out), network(*up, *out)))
    assert found[Role.MLP_UP].verdict is Verdict.SUPPORTS
    assert found[Role.MLP_UP].trials[0].layers == 18
    assert found[Role.ATTENTION_O].verdict is Verdict.CANNOT_BE_SAID
    assert found[None].trials[0].layers == 24


# ---- trends


def test_trends_are_those_of_scipy_side_by_side() -> None:
    rng = np.random.default_rng(0)
    mus = rng.normal(-4, 1, (2, 7)).tolist()
    one, two = (network(*(layer(number, mu=mu) for number, mu in enumerate(of))) for of in mus)
    found = {each.quantity: each for each in role_trends(one, two)}
    assert list(found) == [Quantity.LOG_MEAN, Quantity.LOG_SIGMA, Quantity.SKEWNESS]
    depths = np.linspace(0, 1, 7)
    for side, expected in zip((found[Quantity.LOG_MEAN].a, found[Quantity.LOG_MEAN].b), mus, strict=True):
        assert isinstance(side, Trend)
        assert side.slope == pytest.approx(stats.theilslopes(expected, depths).slope)
        assert side.rank_correlation == pytest.approx(stats.spearmanr(depths, expected).statistic)
    assert found[Quantity.LOG_SIGMA].a == NotFitted("every layer has the same value")


def test_a_role_of_few_layers_has_no_trend_beside_one_that_has() -> None:
    one = network(*(layer(number, mu=-number) for number in range(6)))
    two = network(*(layer(number, mu=-number) for number in range(3)), layer(0, Role.ATTENTION_Q))
    [of_mu, *_] = role_trends(one, two)
    assert isinstance(of_mu.a, Trend)
    assert isinstance(of_mu.b, NotFitted)
    assert {each.role for each in role_trends(one, two)} == {Role.MLP_UP}


# ---- roles side by side


def test_the_means_of_a_role_differ_by_their_change_and_its_error() -> None:
    one = network(*(layer(number, mu=mu) for number, mu in enumerate((-4, -5, -3, -4.5))))
    two = network(*(layer(number, mu=mu) for number, mu in enumerate((-2, -2.5))))
    [of_mu, *_] = roles_side_by_side(one, two)
    assert (of_mu.role, of_mu.quantity) == (Role.MLP_UP, Quantity.LOG_MEAN)
    assert (of_mu.layers_a, of_mu.layers_b) == (4, 2)
    assert (of_mu.mean_a, of_mu.mean_b) == (pytest.approx(-4.125), -2.25)
    assert of_mu.change == pytest.approx(1.875)
    assert of_mu.error == pytest.approx(math.sqrt(0.012**2 / 4 + 0.012**2 / 2))
    assert of_mu.tau_a == pytest.approx(math.sqrt(np.var([-4, -5, -3, -4.5], ddof=1) - 0.012**2))
    assert isinstance(of_mu.tau_b, NotFitted)


def test_a_network_beside_itself_does_not_differ() -> None:
    model = saved(audit_of("babble/bf16"))
    found = roles_side_by_side(model, model)
    assert {each.change for each in found} == {0.0}
    assert len({each.role for each in found}) == 5  # keys and values have too few weights


# ---- reports that no audit wrote


ODD_WHOLE_NUMBERS = (0, -1, 1, 63, 64, 1 << 62, -(1 << 62), (1 << 64) - 1, 10**400)
ODD_NUMBERS = (0.0, -0.5, 1e-12, 1e9, 1e308, -1e308, 5e-324, math.inf, math.nan)
ODD_TEXTS = ("", "mlp.up", "norm", "nonsense", "lognormal", "undecided", "degenerate", "Student-t", "\x00" * 99)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to every number, text and list of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [] if isinstance(value, dict) else [path]
    return found + [place for key, each in inner for place in places(each, (*path, key))]


def altered(model: dict[str, Any], ways: Sequence[tuple[object, ...]], rng: random.Random) -> dict[str, Any]:
    copy = msgspec.json.decode(msgspec.json.encode(model))
    for *path, last in rng.choices(ways, k=rng.choice((1, 2, 5, 40))):
        inner: Any = copy
        try:
            for key in path:
                inner = inner[key]
            inner[last] = odd(inner[last], rng)
        except (LookupError, TypeError):
            continue  # an earlier change took this place away
    return copy


def odd(usual: object, rng: random.Random) -> object:
    match usual:
        case str():
            return rng.choice(ODD_TEXTS)
        case list():
            return []
        case int():
            return rng.choice((*ODD_WHOLE_NUMBERS, rng.randrange(1 << 40)))
        case _:
            return rng.choice((None, *ODD_NUMBERS, rng.uniform(-10, 10)))


def try_altered_reports(inputs: int, seed: int, *, whole: bool = True) -> int:
    """Look at altered reports in every way; returns how many were still reports."""
    rng = random.Random(seed)  # noqa: S311 - damage, not secrets
    usual = msgspec.to_builtins(network(*odd_layers(), *(layer(number, Role.ATTENTION_O) for number in range(9))))
    ways, other, looked_at = places(usual), saved(audits.audit(*map(layer, range(9)))), 0
    layers_alone = [way for way in ways if way[0] in {"layers", "criterion"}]
    for _ in range(inputs):
        try:
            model = msgspec.convert(altered(usual, layers_alone, rng), ModelRecord)
        except msgspec.ValidationError:
            continue
        looked_at += 1
        for factor in (1, 0.5):
            for _, member in members_of(model, factor, label=""):
                assert isinstance(member, NotFitted) or all_finite(member)
        if whole:
            universality_of(model, other)
            role_trends(model, other)
            roles_side_by_side(other, model)
    return looked_at


def all_finite(member: Member) -> bool:
    numbers = (member.log_mean, member.log_sigma, member.skewness, member.log_rms, member.relative_depth or 0.0)
    return all(map(math.isfinite, numbers))


def test_no_report_however_odd_is_too_odd() -> None:
    assert try_altered_reports(60, seed=0) > 20
