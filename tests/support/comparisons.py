"""Comparisons made by hand: every number is given, none is measured, so a report of them never changes by itself."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from jaynes_audit.analyzers.claim import try_claim
from jaynes_audit.analyzers.comparison.comparison import Comparison
from jaynes_audit.analyzers.comparison.distances import Distances
from jaynes_audit.analyzers.comparison.exact.outcome import (
    Cast,
    Difference,
    Exact,
    Quantisation,
    RankProfile,
    Rearrangement,
    Relation,
    Rounding,
    Side,
    Unread,
)
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.lineage.score import Null, Score
from jaynes_audit.analyzers.comparison.matching import Match, MatchedBy, Unmatched
from jaynes_audit.analyzers.comparison.parameters import Parameters, Shift
from jaynes_audit.analyzers.comparison.record import ComparisonReportRecord, comparison_record
from jaynes_audit.analyzers.comparison.side_by_side import BufferComparison, Compared, LayerComparison
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.comparison.together import RoleSideBySide, RoleTrends
from jaynes_audit.analyzers.comparison.verdict import Kinship, Verdict
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import FailureRecord, Tool
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.universality.constancy import Quantity
from jaynes_audit.analyzers.universality.trend import Trend
from jaynes_audit.cli.exit_codes import FailOn, outcome_of_comparisons
from tests.support.audits import odd_audit

NO_DISTANCES = NotFitted("a report holds no counts of weights")
NOT_MEASURED = NotFitted("not measured: the very same bytes")
QUERY = "model.layers.{}.self_attn.q_proj.weight"
UP = "model.layers.{}.mlp.up_proj.weight"

IDENTICAL = Exact(relation=Relation.IDENTICAL)


def subject(name: str, *, role: Role = Role.MLP_UP, **other: Any) -> Subject:
    known = {"dtype": "F32", "stack": "", "depth": 0, "rows": 512, "columns": 128, "fan_in": 128, "fan_out": 512}
    known |= other
    return Subject(name=name, tensor=name, role=role, weights=known["rows"] * known["columns"], **known)


def shift(a: float, change: float, error: float | NotFitted = 0.004) -> Shift:
    return Shift(a=a, b=a + change, change=change, error=error)


def parameters(mu: float = 0.0, sigma: float = 0.0, skewness: float = 0.0, **error: float | NotFitted) -> Parameters:
    return Parameters(
        log_mean=shift(-3.6, mu, **error),
        log_sigma=shift(1.11, sigma, **error),
        skewness=shift(-1.5, skewness, **error),
    )


def distances(ks: float = 0.0) -> Distances:
    return Distances(ks=ks, wasserstein=2 * ks, jensen_shannon=ks**2)


def cast(**other: Any) -> Exact:
    known = {"source": Side.A, "from_dtype": "F32", "to_dtype": "BF16", "rounding": Rounding.ROUNDED, "through": ""}
    return Exact(relation=Relation.CAST, cast=Cast(**(known | {"overflowed": 0, "flushed": 0} | other)))


def different(error: float | NotFitted = 0.012, rank: RankProfile | NotFitted | None = None, **other: Any) -> Exact:
    known = {"changed": 60_000, "not_finite": 0, "cosine": 0.9999, "largest": 0.031} | other
    difference = Difference(weights=65_536, relative_error=error, largest_row=3, largest_column=77, **known)
    return Exact(relation=Relation.DIFFERENT, difference=difference, rank=rank)


def layer(name: str, exact: Exact | NotFitted = IDENTICAL, **other: Any) -> LayerComparison:
    a = other.pop("a", subject(name))
    b = other.pop("b", a)
    match = Match(a=a, b=b, by=other.pop("by", MatchedBy.NAME))
    known = {"parameters": NOT_MEASURED, "distances": NOT_MEASURED} | other
    return LayerComparison(match=match, exact=exact, **known)


def side(target: str, **other: Any) -> Compared:
    known = {
        "kind": "checkpoint",
        "commit": "",
        "layers": 10,
        "weights": 655_360,
        "bytes": 2_621_440,
        "dtypes": ("F32",),
        "files": ("model.safetensors",),
        "not_compared": (),
        "complete": True,
    }
    return Compared(target=target, **(known | other))


def verdict(kinship: Kinship = Kinship.RELATED, sentence: str = "Related.", figures: Sequence[str] = ()) -> Verdict:
    return Verdict(kinship=kinship, sentence=sentence, figures=tuple(figures))


def comparison(*layers: LayerComparison, **other: Any) -> Comparison:
    known: dict[str, Any] = {
        "a": side("base"),
        "b": side("tuned"),
        "verdict": verdict(),
        "only_a": (),
        "only_b": (),
        "buffers": (),
        "not_exact": None,
        "universality": (),
        "roles": (),
        "trends": (),
        "lineage": (),
        "measured": (),
        "remarks": (),
    }
    return Comparison(layers=layers, **(known | other))


def score(name: str = "depth profile", value: float = 0.997, over: str = "7 roles of 12 blocks") -> Score:
    return Score(
        name=name,
        value=value,
        compared=over,
        unrelated=Null(what="B's blocks shuffled about their trend", middle=0.31, high=0.62, draws=1_000),
        twins=Null(what="initialised anew", middle=0.0, high=0.18, draws=1_000),
    )


def odd_comparison() -> Comparison:
    """One of everything that a comparison can hold."""
    claim = try_claim([odd_audit()])
    rank = RankProfile(ranks=(1, 2, 4, 8, 16), energy=(0.31, 0.5, 0.8, 0.998, 0.999), rank=8, rank_is_bound=False)
    quantised = Quantisation(
        quantised=Side.B, scheme="Q4_0", relative_error=0.081, best_error=0.079, ratio=0.081 / 0.079
    )
    unknown = Quantisation(
        quantised=Side.A,
        scheme="gptq-4",
        relative_error=0.1,
        best_error=NotFitted("its groups are not known"),
        ratio=NotFitted("its groups are not known"),
    )
    moved = {"parameters": parameters(0.002, -0.031, 0.05), "distances": distances(0.0123)}
    return comparison(
        layer(QUERY.format(0)),
        layer(UP.format(0), cast(), **moved),
        layer(UP.format(1), cast(through="F16", overflowed=3, flushed=1_200), **moved),
        layer(UP.format(2), cast(source=Side.B, from_dtype="BF16", to_dtype="F32", rounding=Rounding.EXACT), **moved),
        layer(
            UP.format(3),
            Exact(
                relation=Relation.REARRANGED,
                rearrangement=Rearrangement(transposed=True, moved_rows=1_024, moved_columns=0),
            ),
        ),
        layer(UP.format(4), Exact(relation=Relation.QUANTISED, quantisation=quantised), **moved),
        layer(UP.format(5), Exact(relation=Relation.QUANTISED, quantisation=unknown), **moved),
        layer(UP.format(6), different(0.0012, rank), **moved),
        layer(
            UP.format(7),
            different(NotFitted("all of A is zero"), NotFitted("too few rows"), cosine=NotFitted("all of A is zero")),
            parameters=parameters(error=NotFitted("no standard error in one of the models")),
            distances=distances(0.9),
        ),
        layer(
            UP.format(8),
            Exact(relation=Relation.DIFFERENT),
            b=subject(UP.format(8), rows=513),
            parameters=NotFitted("not fitted in A: 'fewer than two weights'"),
            distances=NO_DISTANCES,
        ),
        layer(
            UP.format(9),
            different(0.5),
            b=subject("blk.9.ffn_up.weight", dtype="BF16"),
            by=MatchedBy.ROLE,
            parameters=parameters(0.4, 0.2, 1.0),
            distances=distances(0.31),
        ),
        layer(UP.format(10), Unread("the disk failed", side=Side.B), distances=NO_DISTANCES),
        a=side("base", commit="0123456789abcdef", not_compared=(("model.norm.inv_freq", "of no known role"),)),
        b=side(
            "tuned",
            dtypes=("BF16", "F32"),
            complete=False,
            not_compared=tuple((f"tensor.{number}", "the disk failed") for number in range(5)),
        ),
        verdict=verdict(
            Kinship.FINE_TUNED,
            "Versions of one model: 9 of 12 matrices changed, in blocks 1-9 (mlp.up 9).",
            ("The cosine is 0.999 in the middle.", "The relative change of a matrix is 0.012 in the middle."),
        ),
        only_a=(
            Unmatched(subject=subject("lm_head.weight", role=Role.HEAD), reason="no layer of role head in B"),
            *(Unmatched(subject=subject(f"a.{at}"), reason="3 layers of B could be it") for at in range(5)),
        ),
        only_b=(Unmatched(subject=subject("extra.weight"), reason="its role is not known from its name"),),
        buffers=(
            BufferComparison(name="position_ids", identical=True, sentence="the very same bytes"),
            BufferComparison(name="mask", identical=False, sentence="7 of 512 elements differ"),
        ),
        universality=((None, claim), (Role.MLP_UP, claim)),
        roles=(
            RoleSideBySide(
                role=Role.MLP_UP,
                quantity=Quantity.LOG_MEAN,
                layers_a=10,
                layers_b=12,
                mean_a=-3.6,
                mean_b=-3.61,
                change=-0.01,
                error=0.002,
                tau_a=0.1,
                tau_b=NotFitted("fewer than three layers"),
            ),
        ),
        trends=(
            RoleTrends(
                role=Role.MLP_UP,
                quantity=Quantity.LOG_SIGMA,
                a=Trend(layers=10, slope=0.12, rank_correlation=0.9),
                b=NotFitted("fewer than 4 layers with a depth"),
            ),
        ),
        lineage=(score(), score("matched neurons", 0.912, "28 layers"), NotFitted("neither has a tokenizer")),
        remarks=("'lm_head.weight' is 'model.embed_tokens.weight', stored once", *"abc"),
    )


def report(
    *comparisons: Comparison, failures: Sequence[FailureRecord] = (), fail_on: FailOn = FailOn.NEVER
) -> ComparisonReportRecord:
    """The report of comparisons, as the command makes it: of one, or of all pairs of three models and more."""
    records = [comparison_record(each, findings_of(each)) for each in comparisons]
    outcome = outcome_of_comparisons(records, failures, fail_on)
    targets = dict.fromkeys(target for each in comparisons for target in (each.a.target, each.b.target))
    return ComparisonReportRecord(
        tool=Tool(name="jaynes-audit", version="0"),
        operands=list(targets),
        comparisons=records,
        failures=list(failures),
        fail_on=fail_on.value,
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def three_models() -> ComparisonReportRecord:
    """Three models, each compared with each."""
    kinships = (Kinship.FINE_TUNED, Kinship.UNRELATED, Kinship.CANNOT_BE_SAID)
    return report(
        *(
            comparison(
                layer(UP.format(0), different(0.1 * number)),
                a=side(a),
                b=side(b),
                verdict=verdict(kinship),
                lineage=lineage,
            )
            for number, ((a, b), kinship, lineage) in enumerate(
                zip(
                    combinations(("base", "tuned", "other"), 2),
                    kinships,
                    ((score(),), (score(value=0.2),), ()),
                    strict=True,
                ),
                1,
            )
        )
    )
