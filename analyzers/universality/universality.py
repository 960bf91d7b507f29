"""Members -> Universality: whether the layers follow one lognormal law, more constant than untrained noise."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.universality.collapse import Collapse, collapse
from jaynes_audit.analyzers.universality.constancy import Constancy, Estimates, Quantity, constancies, estimates_of
from jaynes_audit.analyzers.universality.member import Member
from jaynes_audit.analyzers.universality.meta_analysis import (
    RandomEffects,
    expected_random_effects,
    random_effects,
)
from jaynes_audit.analyzers.universality.one_law import (
    MARGIN_NATS,
    cost_of_one_law,
    cost_of_spread,
    log_mean_margin,
    log_sigma_margin,
)
from jaynes_audit.analyzers.universality.twin import Twin, twin_estimates

MIN_LAYERS = 8  # fewer widen the 95 % prediction interval beyond 2.5 standard deviations to either side (t, 5 degrees)
LOGNORMAL = "lognormal"  # `Member.family` of a layer that is so by itself, not by mixing
MOST_COST_NATS = 2 * MARGIN_NATS  # one margin for mu and one for sigma
MOST = 0.5  # "most" of the layers is more than this share


class Verdict(StrEnum):
    """What the layers say of the claim that all of them follow one lognormal law."""

    SUPPORTS = "supports the claim"
    LOGNORMAL_NOT_UNIVERSAL = "lognormal, not universal"
    UNIVERSAL_NOT_LOGNORMAL = "universal but not lognormal"
    NEITHER = "neither"
    CANNOT_BE_SAID = "cannot be said"


class Threshold(StrEnum):
    """From which connectivity on a layer counts as highly connected."""

    CHOSEN = "the chosen threshold"
    HALF = "half the threshold"
    DOUBLE = "double the threshold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One condition of the claim. `sentence` states the measured number in words, to be read after a colon."""

    name: str
    holds: bool
    measured: float
    bound: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The verdict on the layers above one threshold, by the clauses that need no other threshold.

    `sentence` tells why, to be read after a colon. Without enough layers there are no clauses.
    """

    threshold: Threshold
    layers: int
    verdict: Verdict
    clauses: tuple[Clause, ...]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyShare:
    """How many layers follow one family of laws, and which share of all that is."""

    family: str
    layers: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcessSpread:
    """The between-layer standard deviation of one quantity, trained and untrained, and the first minus the second.

    Each layer counts alike.
    """

    quantity: Quantity
    trained_tau: float
    untrained_tau: float
    excess: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrained:
    """What an untrained twin of the layers shows. `excess` leaves out the quantities that could not be fitted."""

    twin: Twin
    constancy: tuple[Constancy, ...]
    excess: tuple[ExcessSpread, ...]
    cost_of_one_law: float | NotFitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Universality:
    """Whether highly connected layers share one lognormal law.

    `sentence` states the verdict and why. `clauses` are those of the chosen threshold, and that they hold at half and
    at double of it; `trials` are the three thresholds one by one. The rest is about the layers of the chosen threshold:
    their families, the most common first; how constant each quantity is, trained and in each untrained twin; what one
    lognormal law for all of them costs, in nats per weight; and whether their shapes agree.
    """

    verdict: Verdict
    sentence: str
    clauses: tuple[Clause, ...]
    trials: tuple[Trial, ...]
    families: tuple[FamilyShare, ...]
    constancy: tuple[Constancy, ...]
    untrained: tuple[Untrained, ...]
    cost_of_one_law: float | NotFitted
    collapse: Collapse | NotFitted


def universality(
    members: Sequence[Member],
    *,
    at_half: Sequence[Member],
    at_double: Sequence[Member],
    lawless: tuple[int, int, int] = (0, 0, 0),
) -> Universality:
    """Judge the highly connected layers of one network, or of several together.

    `members` are the layers at the chosen threshold of connectivity, `at_half` and `at_double` those at half and at
    double of it; `lawless` counts the layers beside them, at the three thresholds, that no law could be fitted to. The
    claim is supported when

    1. more than half of all layers are lognormal, each by itself. Where those without a law, and those that might as
       well be lognormal, would tip the balance, nothing can be said;
    2. mu and 3. sigma differ between layers by no more than the larger of two standard deviations: that of the
       untrained twin at its initial scale plus what costs 0.005 nats per weight (`log_mean_margin`,
       `log_sigma_margin`), and that which sampling noise alone reaches in 5 % of cases. Without a margin nothing could
       win against a twin whose layers are all alike. Each layer counts alike (`unweighted_tau`), or the few largest
       ones, whose errors are by far the smallest, would decide for all;
    4. one law in the place of each layer's own costs no more than both margins: where the untrained twin's scales
       follow the fan-in, clause 2 lets the layers' do so too;
    5. the same holds at half and at double the threshold. Where it does not, the verdict is that of the first of the
       two where it fails. Where too few layers are left to judge, that threshold says nothing for or against the claim,
       and the sentence says so.

    Otherwise clause 1 makes the layers "lognormal, not universal"; clauses 2 and 3 without it "universal but not
    lognormal", as untrained layers are. Of fewer than eight layers nothing is said.
    """
    chosen = _trial(Threshold.CHOSEN, members, lawless[0])
    others = (_trial(Threshold.HALF, at_half, lawless[1]), _trial(Threshold.DOUBLE, at_double, lawless[2]))
    agreement = _agreement(others)
    verdict, sentence = _outcome(chosen, others, agreement)
    trained = estimates_of(members)
    constancy = constancies(members, trained, random_effects)
    return Universality(
        verdict=verdict,
        sentence=sentence,
        clauses=(*chosen.clauses, agreement),
        trials=(chosen, *others),
        families=_families(members),
        constancy=constancy,
        untrained=tuple(_untrained(members, twin, constancy) for twin in Twin),
        cost_of_one_law=_cost(trained),
        collapse=collapse(members),
    )


def _trial(threshold: Threshold, members: Sequence[Member], lawless: int) -> Trial:
    layers = len(members)
    if layers < MIN_LAYERS:
        return _untold(threshold, layers, f"it takes {MIN_LAYERS} fitted layers, and there are {layers}")
    constant = _constant(members)
    if isinstance(constant, NotFitted):
        return _untold(threshold, layers, constant.reason)
    mostly_lognormal = _mostly_lognormal(members, layers + lawless)
    doubtful = lawless + sum(member.may_be_lognormal for member in members)
    if not mostly_lognormal.holds and mostly_lognormal.measured + doubtful / (layers + lawless) > MOST:
        reason = (
            f"{doubtful} of {layers + lawless} layers have no law or are undecided, so more than half may be lognormal"
        )
        return _untold(threshold, layers, reason)
    same_mu, same_sigma, one_law = constant
    as_constant = same_mu.holds and same_sigma.holds
    if mostly_lognormal.holds:
        universal = as_constant and one_law.holds
        verdict = Verdict.SUPPORTS if universal else Verdict.LOGNORMAL_NOT_UNIVERSAL
    else:
        verdict = Verdict.UNIVERSAL_NOT_LOGNORMAL if as_constant else Verdict.NEITHER
    clauses = (mostly_lognormal, *constant)
    telling = clauses if verdict is Verdict.SUPPORTS else [clause for clause in clauses if not clause.holds]
    sentence = "; ".join(clause.sentence for clause in telling)
    return Trial(threshold=threshold, layers=layers, verdict=verdict, clauses=clauses, sentence=sentence)


def _untold(threshold: Threshold, layers: int, reason: str) -> Trial:
    return Trial(threshold=threshold, layers=layers, verdict=Verdict.CANNOT_BE_SAID, clauses=(), sentence=reason)


def _mostly_lognormal(members: Sequence[Member], layers: int) -> Clause:
    lognormal = sum(member.family == LOGNORMAL for member in members)
    sentence = f"{lognormal} of {layers} highly connected layers are lognormal, more than half must be"
    holds = lognormal > MOST * layers
    if not holds:
        commonest = _families(members)[0]
        sentence += f" (the most common family is {commonest.family}, {commonest.layers} of {layers})"
    return Clause(
        name="most layers are lognormal", holds=holds, measured=lognormal / layers, bound=MOST, sentence=sentence
    )


def _constant(members: Sequence[Member]) -> tuple[Clause, Clause, Clause] | NotFitted:
    """Clauses 2 to 4: mu and sigma no less constant than untrained, and one law for all."""
    trained, untrained = estimates_of(members), twin_estimates(members, Twin.GAUSSIAN_AT_INITIAL_SCALE)
    log_sigma = float(trained[Quantity.LOG_SIGMA].values.mean())
    mu, sigma = (random_effects(each.values, each.errors) for each in _mu_and_sigma(trained))
    null_mu, null_sigma = (expected_random_effects(each.values, each.errors) for each in _mu_and_sigma(untrained))
    match mu, sigma, null_mu, null_sigma:
        case RandomEffects(), RandomEffects(), RandomEffects(), RandomEffects():
            return (
                _as_constant(Quantity.LOG_MEAN, mu, null_mu, log_mean_margin(log_sigma)),
                _as_constant(Quantity.LOG_SIGMA, sigma, null_sigma, log_sigma_margin(log_sigma)),
                _one_law(
                    cost_of_spread(mu.unweighted_tau, sigma.unweighted_tau, log_sigma),
                    cost_of_spread(mu.unweighted_tau_noise, sigma.unweighted_tau_noise, log_sigma),
                ),
            )
    return NotFitted("too few of its layers have standard errors")


def _mu_and_sigma(estimates: Mapping[Quantity, Estimates]) -> tuple[Estimates, Estimates]:
    return estimates[Quantity.LOG_MEAN], estimates[Quantity.LOG_SIGMA]


def _as_constant(quantity: Quantity, found: RandomEffects, null: RandomEffects, margin: float) -> Clause:
    bound = max(null.unweighted_tau + margin, found.unweighted_tau_noise)
    return Clause(
        name=f"{quantity} is the same in all layers",
        holds=found.unweighted_tau <= bound,
        measured=found.unweighted_tau,
        bound=bound,
        sentence=f"{quantity} differs between layers by a standard deviation of {found.unweighted_tau:.3g}, "
        f"up to {bound:.3g} counts as universal (untrained: {null.unweighted_tau:.3g})",
    )


def _one_law(cost: float, cost_of_noise: float) -> Clause:
    bound = max(MOST_COST_NATS, cost_of_noise)
    return Clause(
        name="one law describes all layers",
        holds=cost <= bound,
        measured=cost,
        bound=bound,
        sentence=f"one law for all of them costs {cost:.3g} nats per weight, up to {bound:.3g} counts as one law",
    )


def _agreement(others: Sequence[Trial]) -> Clause:
    told = [trial for trial in others if trial.verdict is not Verdict.CANNOT_BE_SAID]
    supporting = sum(trial.verdict is Verdict.SUPPORTS for trial in told)
    return Clause(
        name="the claim holds at half and at double the threshold",
        holds=supporting == len(told),
        measured=float(supporting),
        bound=float(len(told)),
        sentence="; ".join(f"at {trial.threshold} ({trial.layers} layers): {trial.verdict}" for trial in others),
    )


def _outcome(chosen: Trial, others: Sequence[Trial], agreement: Clause) -> tuple[Verdict, str]:
    """The verdict over all thresholds, and the sentence that states it."""
    if chosen.verdict is Verdict.SUPPORTS:
        for other in others:
            if other.verdict not in {Verdict.SUPPORTS, Verdict.CANNOT_BE_SAID}:
                reason = (
                    f"the claim holds at the chosen threshold, but not at {other.threshold}, where {other.sentence}"
                )
                return other.verdict, f"{other.verdict.capitalize()}: {reason}."
    sentence = f"{chosen.verdict.capitalize()}: {chosen.sentence}"
    if any(other.verdict is not chosen.verdict for other in others):
        sentence += f"; {agreement.sentence}"
    return chosen.verdict, f"{sentence}."


def _cost(estimates: Mapping[Quantity, Estimates]) -> float | NotFitted:
    return cost_of_one_law(estimates[Quantity.LOG_MEAN].values, estimates[Quantity.LOG_SIGMA].values)


def _families(members: Sequence[Member]) -> tuple[FamilyShare, ...]:
    counts = Counter(member.family for member in members)
    return tuple(
        FamilyShare(family=family, layers=layers, share=layers / len(members))
        for family, layers in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _untrained(members: Sequence[Member], twin: Twin, trained: Sequence[Constancy]) -> Untrained:
    estimates = twin_estimates(members, twin)
    constancy = constancies(members, estimates, expected_random_effects)
    return Untrained(
        twin=twin,
        constancy=constancy,
        excess=tuple(
            ExcessSpread(
                quantity=here.quantity,
                trained_tau=here.overall.unweighted_tau,
                untrained_tau=there.overall.unweighted_tau,
                excess=here.overall.unweighted_tau - there.overall.unweighted_tau,
            )
            for here, there in zip(trained, constancy, strict=True)
            if isinstance(here.overall, RandomEffects) and isinstance(there.overall, RandomEffects)
        ),
        cost_of_one_law=_cost(estimates),
    )
