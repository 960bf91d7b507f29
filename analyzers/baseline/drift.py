"""Baseline, model now -> findings: what changed that should not have."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jaynes_audit.analyzers.audit import TIEABLE, Audit
from jaynes_audit.analyzers.baseline.diagnosis import Copies, diagnosis, misplaced, relative_change
from jaynes_audit.analyzers.baseline.entry import QUANTILE_PROBABILITIES, Baseline, Entry
from jaynes_audit.analyzers.baseline.sameness import CELL, MANTISSA_BITS, Sameness, is_turned, sameness
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.comparison.matching import MatchedBy, match_layers
from jaynes_audit.analyzers.comparison.quantiles import quantile_gap
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.rules import (
    COMMON_RESCALE,
    EXTRA_TENSOR,
    MISSING_TENSOR,
    RULES,
    UNCHANGED_TENSOR,
    WEIGHTS_CHANGED,
    Finding,
    Level,
    Rule,
)
from jaynes_audit.analyzers.rules.changes import (
    CHANGE_RULES,
    Change,
    Moved,
    chance_of_ks,
    common_rescaling,
    dtype_changed,
    scale_drift,
)
from jaynes_audit.analyzers.rules.policy import Expectation, Policy

SIDES = ("the baseline", "this model")
MOST_NAMES_SHARED = 0.5  # above it a layer of another name was renamed by itself, below it all were
NEARLY_ALL = 0.9
FEWEST = 3  # of two layers nothing is said together
SAME_CONVENTION = 0.25  # relative: a root mean square read from seventeen quantiles is off by as much
TENFOLD = 10  # times the share of the baseline, for JN106
NO_LAW = NotFitted("nothing could be fitted in one of the two")
NO_ERROR = NotFitted("too few rows to tell an error")
NO_KS = NotFitted("a baseline keeps quantiles")
NO_SKEWNESS = NotFitted("quantiles tell more")
[UNDERFLOW] = [rule for rule in RULES if rule.code == "JN106"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A layer as it was and as it is. `by_role` says that it has another name, as all have."""

    before: Entry
    now: Entry
    by_role: bool
    sameness: Sameness


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matched:
    """The layers of a model beside those of its baseline, and those that only one of them has."""

    pairs: tuple[_Pair, ...]
    missing: tuple[Entry, ...]
    extra: tuple[Entry, ...]


def drift(before: Baseline, now: Baseline, policy: Policy, *, target: str, is_whole: bool) -> Iterator[Finding]:
    """Give what the rules of change object to, with the levels of the policy.

    `target` is the subject of what is said of the whole model. Of a model that `is_whole` not, missing layers are not
    told: its other findings say what is wrong with it.
    """
    matched = _matched(before, now)
    copies = Copies(before.entries)
    found = [
        *(_missing(matched, now) if is_whole else ()),
        *_extra(matched, before, policy.expect),
        *_dtypes(matched.pairs, policy.expect, target),
        *_unchanged(matched.pairs, policy.expect),
        *_underflows(matched.pairs, policy),
        *_of_changes(matched.pairs, copies, policy, target),
    ]
    for finding in found:
        if finding.rule in policy.on:
            yield replace(finding, level=policy.level_of(finding))


def unexpected_dtypes(audit: Audit, policy: Policy) -> Iterator[Finding]:
    """Give the weight matrices that are not stored as the policy expects. It needs no baseline."""
    expected = policy.expect.dtype.upper()
    if not expected or not policy.asks(dtype_changed):
        return
    unlike = [layer for layer in audit if layer.fan_in and layer.dtype.upper() != expected]
    matrices = sum(layer.fan_in > 0 for layer in audit)
    told = [(layer.name, f"{layer.dtype} in this model, {expected} expected") for layer in unlike]
    for finding in _together(dtype_changed, told, matrices, audit.target):
        yield replace(finding, level=policy.level_of(finding))


# ---- which layer is which


def counterparts(before: Baseline, now: Baseline) -> dict[str, str]:
    """Say which layer of a model is which of its baseline, by their names: {name in the baseline: name now}."""
    return {old.name: new.name for old, new, _ in _counterparts(before, now)}


def shares_names(before: Baseline, now: Baseline) -> bool:
    """Whether the layers are paired by their names; else it takes all layers of both to tell which is which."""
    old, new = {each.name for each in before.entries}, {each.name for each in now.entries}
    return len(old & new) > MOST_NAMES_SHARED * min(len(old), len(new))


def changed_layers(before: Baseline, now: Baseline) -> frozenset[str]:
    """Name the layers, as they are called now, that hold other weights than in the baseline."""
    return frozenset(pair.now.name for pair in _matched(before, now).pairs if pair.sameness is Sameness.CHANGED)


def _counterparts(before: Baseline, now: Baseline) -> list[tuple[Entry, Entry, bool]]:
    """Pair the layers, and say of each pair whether it is told by its role alone.

    Names that a tool changed throughout are no matter, one that changed alone is.
    """
    old, new = {each.name: each for each in before.entries}, {each.name: each for each in now.entries}
    if shares_names(before, now):
        return [(old[name], new[name], False) for name in old if name in new]
    matching = match_layers(list(map(_subject, before.entries)), list(map(_subject, now.entries)))
    return [(old[match.a.name], new[match.b.name], match.by is MatchedBy.ROLE) for match in matching.matches]


def _matched(before: Baseline, now: Baseline) -> _Matched:
    pairs = [_pair(old, new, by_role=by_role) for old, new, by_role in _counterparts(before, now)]
    names_before, names_now = {pair.before.name for pair in pairs}, {pair.now.name for pair in pairs}
    return _Matched(
        pairs=tuple(_without_conventions(_of_one_orientation(pairs))),
        missing=tuple(each for each in before.entries if each.name not in names_before),
        extra=tuple(each for each in now.entries if each.name not in names_now),
    )


def _pair(before: Entry, now: Entry, *, by_role: bool) -> _Pair:
    return _Pair(before=before, now=now, by_role=by_role, sameness=sameness(before, now, by_role=by_role))


def _of_one_orientation(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Call a matrix changed that is turned round where most of its role are not, or the other way about.

    Another file format turns all matrices of a role, or none.
    """
    turned: defaultdict[Role, Counter[bool]] = defaultdict(Counter)
    ways = {pair.now.name: is_turned(pair.before, pair.now) for pair in pairs if pair.by_role}
    for pair in pairs:
        way = ways.get(pair.now.name)
        if way is not None:
            turned[pair.before.role][way] += 1
    usual = {role: votes.most_common(1)[0][0] for role, votes in turned.items()}
    return [
        replace(pair, sameness=Sameness.CHANGED)
        if ways.get(pair.now.name) not in {None, usual.get(pair.before.role)}
        else pair
        for pair in pairs
    ]


def _without_conventions(pairs: Sequence[_Pair]) -> Iterator[_Pair]:
    """Take the vectors of a role for the same where another file format keeps all of them in another way.

    The gains of norms may be stored less one, and decay rates as their logarithms.
    """
    vectors = [pair for pair in pairs if pair.by_role and not pair.before.fan_in]
    together = Counter(pair.before.role for pair in vectors)
    other = Counter(pair.before.role for pair in vectors if _is_convention(pair))
    for pair in pairs:
        role = pair.before.role
        is_convention = pair.by_role and not pair.before.fan_in and other[role] == together[role] > 1
        yield replace(pair, sameness=Sameness.ROUNDED) if is_convention else pair


def _is_convention(pair: _Pair) -> bool:
    """Whether a vector is stored less one, or as its logarithm, as far as its root mean square tells."""
    if pair.sameness is not Sameness.CHANGED or pair.before.role is Role.BIAS:
        return False
    ways = ((pair.before, pair.now), (pair.now, pair.before))
    return any(
        math.isclose(predicted, other.rms, rel_tol=SAME_CONVENTION)
        for one, other in ways
        for predicted in _in_other_conventions(one)
    )


def _in_other_conventions(entry: Entry) -> tuple[float, ...]:
    """The root mean squares that positive gains would have less one, and as logarithms; none of others."""
    if entry.law is None or entry.negative or entry.zero:
        return ()
    probabilities = [0.0, *QUANTILE_PROBABILITIES, 1.0]
    shares = [(after - before) / 2 for before, after in zip(probabilities, probabilities[2:], strict=False)]
    logs = entry.law.quantiles
    total = sum(shares)
    return tuple(
        math.sqrt(sum(share * value**2 for share, value in zip(shares, values, strict=True)) / total)
        for values in ([math.expm1(log) for log in logs], logs)
    )


def _subject(entry: Entry) -> Subject:
    return Subject(
        name=entry.name,
        tensor=entry.name,
        dtype=entry.dtype,
        role=entry.role,
        stack=entry.stack,
        depth=entry.depth,
        rows=entry.rows,
        columns=entry.columns,
        fan_in=entry.fan_in,
        fan_out=entry.fan_out,
        weights=entry.weights,
    )


# ---- what is there


def _missing(matched: _Matched, now: Baseline) -> Iterator[Finding]:
    """The layers that are gone. One that was another's twin is still there when that one is."""
    kept = {pair.before.content for pair in matched.pairs if pair.before.role in TIEABLE}
    names = {each.content: each.name for each in reversed(now.entries)}
    for entry in matched.missing:
        if entry.role in TIEABLE and entry.content in kept:
            continue
        name = names.get(entry.content)
        where = f", but its very content is there as {quoted(name)}" if name else ""
        yield MISSING_TENSOR.finding(entry.name, f"not in {SIDES[1]}{where}")


def _extra(matched: _Matched, before: Baseline, expect: Expectation) -> Iterator[Finding]:
    """The layers that are new, but for one that is another's twin and was not stored by itself before."""
    known = {pair.now.content for pair in matched.pairs if pair.now.role in TIEABLE}
    names = {each.content: each.name for each in reversed(before.entries)}
    has_head = any(each.role is Role.HEAD for each in before.entries)
    tied = set() if has_head else {_shape(each) for each in before.entries if each.role is Role.EMBEDDING}
    for entry in matched.extra:
        if entry.role in TIEABLE and entry.content in known:
            continue
        if entry.role is Role.HEAD and _shape(entry) in tied and not expect.allows_change(entry.name):
            yield WEIGHTS_CHANGED.finding(entry.name, f"in {SIDES[0]} the head was the embedding, and this is not")
            continue
        name = names.get(entry.content)
        where = f"; it has the very content of {quoted(name)} there" if name else ""
        yield EXTRA_TENSOR.finding(entry.name, f"not in {SIDES[0]}{where}")


def _shape(entry: Entry) -> tuple[int, int]:
    return entry.rows, entry.columns


def _dtypes(pairs: Sequence[_Pair], expect: Expectation, target: str) -> Iterator[Finding]:
    """The layers in another number format. What is expected decides on matrices; vectors may also stay as they were."""
    expected, told, matrices = expect.dtype.upper(), [], 0
    for pair in pairs:
        matrices += pair.now.fan_in > 0
        before, now = pair.before.dtype.upper(), pair.now.dtype.upper()
        if expected and now != expected and (pair.now.fan_in or now != before):
            told.append((pair.now.name, f"{pair.now.dtype} in {SIDES[1]}, {expected} expected"))
        elif not expected and now != before:
            told.append((pair.now.name, f"{pair.before.dtype} in {SIDES[0]}, {pair.now.dtype} in {SIDES[1]}"))
    yield from _together(dtype_changed, told, matrices, target)


def _together(rule: Rule, told: Sequence[tuple[str, str]], matrices: int, target: str) -> Iterator[Finding]:
    """One finding for the model where nearly as many layers as it has matrices are told the same few things.

    Vectors often keep the format that they had. Else there is one finding for each layer.
    """
    sentences = Counter(sentence for _, sentence in told)
    if len(told) < max(FEWEST, NEARLY_ALL * matrices) or len(sentences) >= len(told) / 2:
        for name, sentence in told:
            yield rule.finding(name, sentence)
        return
    counted = [f"{sentence}: {number:,} layers" for sentence, number in sentences.most_common()]
    yield rule.finding(target, "; ".join(counted))


def _unchanged(pairs: Sequence[_Pair], expect: Expectation) -> Iterator[Finding]:
    for pair in pairs:
        if pair.sameness is Sameness.IDENTICAL and expect.allows_change(pair.now.name):
            yield UNCHANGED_TENSOR.finding(pair.now.name, f"every byte is that of {SIDES[0]}")


def _underflows(pairs: Sequence[_Pair], policy: Policy) -> Iterator[Finding]:
    """Matrices of which many weights were flushed to zero or below the normal range since the baseline.

    Vectors hold small offsets that are of no consequence, and quantisers round many weights to zero.
    """
    for pair in pairs:
        if pair.now.dtype not in MANTISSA_BITS or not pair.now.fan_in:
            continue
        limits = policy.thresholds_of(pair.now.name)
        before, now = _flushed_share(pair.before), _flushed_share(pair.now)
        if limits.flushed_share >= now > limits.flushed_share_base and now > TENFOLD * before:
            told = f"{now:.1%} of the weights are zero or subnormal, {before:.1%} in {SIDES[0]}"
            yield UNDERFLOW.finding(pair.now.name, told)


def _flushed_share(entry: Entry) -> float:
    return (entry.zero + entry.subnormal) / entry.weights


# ---- what it holds


def _of_changes(pairs: Sequence[_Pair], copies: Copies, policy: Policy, target: str) -> Iterator[Finding]:
    changes = list(map(_change, pairs))
    rescaling = common_rescaling(changes, policy.thresholds) if policy.asks(COMMON_RESCALE) else None
    rescaled = rescaling.names if rescaling else frozenset()
    explained: set[str] = set()
    if rescaling:
        finding = COMMON_RESCALE.finding(target, rescaling.sentence)
        yield finding
        if _fails(finding, policy):
            explained.update(rescaled)
    for rule in CHANGE_RULES:
        if rule is dtype_changed or not policy.asks(rule):
            continue
        for change in changes:
            sentence = rule.check(change, policy.thresholds_of(change.name))
            if sentence and not (rule is scale_drift and change.name in rescaled):
                finding = rule.finding(change.name, sentence)
                yield finding
                if _fails(finding, policy):
                    explained.add(change.name)
    if policy.asks(WEIGHTS_CHANGED):
        yield from _changed(pairs, explained, copies, policy, target)


def _fails(finding: Finding, policy: Policy) -> bool:
    """Whether a finding is an error that nobody ignores, so that nothing more need be said of its subject."""
    return policy.level_of(finding) is Level.ERROR and not any(each.covers(finding) for each in policy.ignores)


def _changed(
    pairs: Sequence[_Pair], explained: set[str], copies: Copies, policy: Policy, target: str
) -> Iterator[Finding]:
    changed = [pair for pair in pairs if pair.sameness is Sameness.CHANGED]
    unexpected = []
    for pair in changed:
        if not policy.expect.allows_change(pair.now.name):
            unexpected.append(pair)
        elif pair.now.name not in explained and (told := misplaced(pair.before, pair.now, copies, SIDES[0])):
            yield WEIGHTS_CHANGED.finding(pair.now.name, told)
    untold = [pair for pair in unexpected if pair.now.name not in explained]
    if untold and len(unexpected) >= max(FEWEST, NEARLY_ALL * len(pairs)):
        yield WEIGHTS_CHANGED.finding(
            target,
            f"{len(unexpected):,} of {len(pairs):,} layers hold other weights than in {SIDES[0]}; if training went on, "
            'say so with expect.changed = ["*"]',
        )
        return
    for pair in untold:
        yield WEIGHTS_CHANGED.finding(pair.now.name, diagnosis(pair.before, pair.now, copies, SIDES))


def _change(pair: _Pair) -> Change:
    before, now = pair.before, pair.now
    a, b = before.law, now.law
    alike = _independence(relative_change(before.probe, now.probe)) if before.probe and now.probe else 1.0
    is_rearranged = pair.by_role and (before.rows, before.columns) == (now.columns, now.rows)
    return Change(
        name=now.name,
        sides=SIDES,
        is_matrix=before.fan_in > 0,
        same_weights=pair.sameness is not Sameness.CHANGED,
        shapes=((before.rows, before.columns),) * 2
        if is_rearranged
        else ((before.rows, before.columns), (now.rows, now.columns)),
        dtypes=(before.dtype, now.dtype),
        weights=(before.weights, now.weights),
        log_mean=_moved(a.mu, b.mu, (a.se_mu, b.se_mu), alike) if a and b else NO_LAW,
        log_sigma=_moved(a.sigma, b.sigma, (a.se_sigma, b.se_sigma), 1.0) if a and b else NO_LAW,
        skewness=NO_SKEWNESS,
        ks=NO_KS,
        quantile_gap=_gap(before, now),
        zero_shares=(before.zero / before.weights, now.zero / now.weights),
    )


def _independence(relative: float) -> float:
    """How much of the standard error of mu of unlike weights there is between weights that are this alike.

    ln|w| of a weight moves by its relative change, which for the smallest weights has no bound, so the variance of the
    change grows as the relative rms itself and not as its square. Sigma, which the smallest weights decide, has no such
    advantage.
    """
    return min(1.0, 2 * math.sqrt(relative))


def _moved(before: float, now: float, errors: tuple[float | None, float | None], factor: float) -> Moved:
    of_before, of_now = errors
    return Moved(
        before=before,
        change=now - before,
        error=NO_ERROR if of_before is None or of_now is None else factor * math.hypot(of_before, of_now),
    )


def _gap(before: Entry, now: Entry) -> float | NotFitted:
    """The greatest distance between quantiles that is beyond chance, in sigmas of the baseline; 0 if none is."""
    old, new = before.law, now.law
    if not old or not new or not old.sigma:
        return NO_LAW
    chance = chance_of_ks(before.weights, now.weights)
    return quantile_gap(old.quantiles, new.quantiles, QUANTILE_PROBABILITIES, chance=chance, cell=CELL) / old.sigma
