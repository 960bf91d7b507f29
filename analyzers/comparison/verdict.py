"""Two models side by side -> Verdict: what they are to one another, in words, with the figures that led to it."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from jaynes_audit.analyzers.comparison.exact.outcome import Cast, Exact, Quantisation, RankProfile, Relation, Side
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.comparison.matching import MatchedBy, Unmatched
from jaynes_audit.analyzers.comparison.side_by_side import BufferComparison, Compared, LayerComparison
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.roles import ENDS, HIDDEN_LAYERS

SAME = frozenset({Relation.IDENTICAL, Relation.CAST, Relation.REARRANGED})

# The next four were set from the families of benchmarks/comparing_families.py; docs/comparing.md has the table.
LEAST_COSINE_OF_VERSIONS = 0.5  # of the weights of two versions of one model, median over the matrices
LEAST_COSINE_OF_KIN = 0.1  # below it nothing is left to see of a common origin
MOST_RATIO_OF_QUANTISED = 2.0  # error of a quantised model over the least that its scheme can reach on these weights
LEAST_SHARED = 0.05  # share of the weights that lie in layers with the very same bytes, for two models to be related

# How far above the 95 % point of both nulls a score bears out a common origin by itself. The others do not: unrelated
# models with like recipes or of one language reach any value of them.
TELLING_FROM = {"weight cosine": 0.1, "matched neurons": 0.1, "closeness of distributions": 0.1}

MOST_BLOCKS_NAMED = 8
MOST_NAMED = 3  # layers


class Kinship(StrEnum):
    """What two models are to one another."""

    IDENTICAL = "identical"
    SAME_WEIGHTS = "same weights"
    QUANTISED = "quantised"
    FINE_TUNED = "fine-tuned or merged"
    RELATED = "related"
    UNRELATED = "unrelated"
    CANNOT_BE_SAID = "cannot be said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What two models are to one another, in one sentence, and the figures it rests on, each a sentence of its own."""

    kinship: Kinship
    sentence: str
    figures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that the verdict is given on.

    `asked_for` is "" where everything was, or else says in a word or two that only some layers were. `shared` is the
    share of the smaller model's weights in matrices whose very bytes are also in the other, whatever their names.
    """

    asked_for: str
    a: Compared
    b: Compared
    layers: Sequence[LayerComparison]
    only_a: Sequence[Unmatched]
    only_b: Sequence[Unmatched]
    buffers: Sequence[BufferComparison]
    not_exact: NotFitted | None
    shared: float
    scores: Sequence[Score]


def judge(case: Case) -> Verdict:
    """Say what two models are to one another: the closest kinship that the figures bear out.

    The order is that of the questions people ask. Did anything change at all? Are they the same weights in another
    dress? Is one the other, quantised? Do the weights of most matrices still point the same way, as after fine-tuning
    or merging? Is anything left that unrelated models do not share? Only then are they called unrelated, and only where
    there was something to compare. What was not read is never called the same.
    """
    ways = (_identical, _same_weights, _quantised, _versions, _kin, _unrelated)
    return next((verdict for way in ways if (verdict := way(case))), _untold(case))


# ---- nothing changed, or nothing but the form


def _identical(case: Case) -> Verdict | None:
    relations = {relation_of(layer) for layer in case.layers}
    by_name = all(layer.match.by is MatchedBy.NAME for layer in case.layers)
    only_bytes = relations == {Relation.IDENTICAL} and all(each.identical for each in case.buffers)
    if not _all_same(case) or not only_bytes or not by_name or _other_form(case) or case.only_a or case.only_b:
        return None
    buffers = f" and {_counted(len(case.buffers), 'buffer')}" if case.buffers else ""
    seen = _counted(len(case.layers), "layer")
    how = "by their hashes" if case.not_exact else "byte by byte"
    return Verdict(
        kinship=Kinship.IDENTICAL,
        sentence=f"Identical{case.asked_for}: {seen}{buffers}, all with the very same bytes.",
        figures=(f"{case.a.weights:,} weights were compared {how}.",),
    )


def _same_weights(case: Case) -> Verdict | None:
    if not _all_same(case):
        return None
    forms = [*_casts(case.layers), *_rearrangements(case.layers), *_other_form(case), *_not_in_both(case)]
    unchanged = _with_relation(case, Relation.IDENTICAL)
    figures = [f"{_of(unchanged, case)} have the very same bytes."] if unchanged else []
    lossy = [(layer, cast) for layer, cast in _cast_layers(case.layers) if cast.overflowed or cast.flushed]
    if lossy:
        overflowed, flushed = (sum(getattr(cast, what) for _, cast in lossy) for what in ("overflowed", "flushed"))
        worst, _ = max(lossy, key=lambda each: each[1].overflowed + each[1].flushed)
        lost = f"{overflowed:,} overflowed and {flushed:,} became zero"
        figures.append(
            f"In {_counted(len(lossy), 'layer')} the cast lost weights: {lost}; most in {worst.match.a.name}."
        )
    return Verdict(
        kinship=Kinship.SAME_WEIGHTS,
        sentence=f"The same weights{case.asked_for}: {'; '.join(forms)}.",
        figures=tuple(figures),
    )


def _all_same(case: Case) -> bool:
    """Whether both were read whole and every weight of a hidden layer of one is a weight of the other."""
    complete = case.a.complete and case.b.complete and bool(case.layers)
    hidden = any(each.subject.role in HIDDEN_LAYERS for each in (*case.only_a, *case.only_b))
    return complete and not hidden and all(relation_of(layer) in SAME for layer in case.layers)


def _not_in_both(case: Case) -> list[str]:
    """What beside the hidden layers only one of the two has, and the buffers that differ."""
    words = [
        f"{_counted(len(only), 'layer')} only in {side} ({_named(only)})"
        for side, only in (("A", case.only_a), ("B", case.only_b))
        if only
    ]
    unlike = [each for each in case.buffers if not each.identical]
    if unlike:
        words.append(f"{_counted(len(unlike), 'buffer')} not the same ({unlike[0].name}: {unlike[0].sentence})")
    return words


def _other_form(case: Case) -> list[str]:
    """How the same content is stored in another way."""
    forms = []
    renamed = sum(layer.match.by is not MatchedBy.NAME for layer in case.layers)
    if renamed:
        forms.append(f"{_counted(renamed, 'layer')} under {'another name' if renamed == 1 else 'other names'}")
    formats = [sorted({file.rpartition(".")[2] for file in side.files}) for side in (case.a, case.b)]
    if formats[0] != formats[1]:
        forms.append(f"in another file format ({', '.join(formats[0])}; {', '.join(formats[1])})")
    elif len(case.a.files) != len(case.b.files):
        forms.append(f"in {_counted(len(case.b.files), 'file')} instead of {len(case.a.files):,}")
    return forms


def _casts(layers: Iterable[LayerComparison]) -> list[str]:
    kinds = Counter(_cast_in_words(cast) for _, cast in _cast_layers(layers))
    return [f"{_counted(number, 'layer')} {words}" for words, number in kinds.most_common()]


def _cast_layers(layers: Iterable[LayerComparison]) -> list[tuple[LayerComparison, Cast]]:
    return [(layer, exact.cast) for layer in layers if isinstance(exact := layer.exact, Exact) and exact.cast]


def _cast_in_words(cast: Cast) -> str:
    made, source = ("B", "A") if cast.source is Side.A else ("A", "B")
    through = f" through {cast.through}" if cast.through else ""
    formats = f"{cast.from_dtype} to {cast.to_dtype}{through} ({cast.rounding})"
    return f"of {made} are those of {source} cast from {formats}"


def _rearrangements(layers: Iterable[LayerComparison]) -> list[str]:
    kinds: Counter[str] = Counter()
    for layer in layers:
        if isinstance(layer.exact, Exact) and (found := layer.exact.rearrangement):
            axes = [axis for axis, moved in (("rows", found.moved_rows), ("columns", found.moved_columns)) if moved]
            words = ["transposed"] if found.transposed else []
            words += [f"with {' and '.join(axes)} in another order"] if axes else []
            kinds[" and ".join(words)] += 1
    return [f"{_counted(number, 'layer')} {words}" for words, number in kinds.most_common()]


# ---- quantised


def _quantised(case: Case) -> Verdict | None:
    found = [
        layer.exact.quantisation
        for layer in case.layers
        if isinstance(layer.exact, Exact) and layer.exact.relation is Relation.QUANTISED and layer.exact.quantisation
    ]
    allowed = {*SAME, Relation.QUANTISED}
    hidden = any(each.subject.role in HIDDEN_LAYERS for each in (*case.only_a, *case.only_b))
    if not found or hidden or any(relation_of(layer) not in allowed for layer in case.layers):
        return None
    if not (case.a.complete and case.b.complete and all(map(_is_as_good_as_its_scheme, found))):
        return None
    side = found[0].quantised.upper()
    errors = [each.relative_error for each in found]
    schemes = Counter(each.scheme for each in found).most_common()
    named = ", ".join(f"{scheme} ({_counted(number, 'layer')})" for scheme, number in schemes)
    ratios = [each.ratio for each in found if not isinstance(each.ratio, NotFitted)]
    best = f", {median(ratios):.2f} times the least that its scheme can reach on these weights" if ratios else ""
    return Verdict(
        kinship=Kinship.QUANTISED,
        sentence=f"{side} is {'A' if side == 'B' else 'B'} quantised to {named}: "
        f"median relative error {median(errors):.2g}{best}.",
        figures=(
            f"The relative error of a layer is {min(errors):.2g} to {max(errors):.2g}"
            + (f", {min(ratios):.2f} to {max(ratios):.2f} times the least." if ratios else "."),
            *_unmatched_figures(case),
        ),
    )


MOST_ERROR_OF_QUANTISED = 0.25  # where the least error of a scheme is not known; round-to-nearest to 4 bits makes 0.1


def _is_as_good_as_its_scheme(found: Quantisation) -> bool:
    if isinstance(found.ratio, NotFitted):
        return found.relative_error < MOST_ERROR_OF_QUANTISED
    return found.ratio < MOST_RATIO_OF_QUANTISED


# ---- changed, and still kin


def _versions(case: Case) -> Verdict | None:
    cosines = _cosines(case.layers)
    hidden = [layer for layer in case.layers if layer.match.a.role in HIDDEN_LAYERS]
    if not cosines or len(cosines) < len(hidden) / 2 or median(cosines) < LEAST_COSINE_OF_VERSIONS:
        return None
    if _share_of_hidden_unmatched(case) > LEAST_SHARED:
        return None
    return Verdict(
        kinship=Kinship.FINE_TUNED,
        sentence="Versions of one model, one fine-tuned or merged from the other or both from a third: "
        f"{_where(case)}.",
        figures=(_cosine_figure(cosines), *_change_figures(case), *_unmatched_figures(case)),
    )


def _kin(case: Case) -> Verdict | None:
    figures = []
    cosines = _cosines(case.layers)
    alike = [cosine for cosine in cosines if cosine >= LEAST_COSINE_OF_VERSIONS]
    if cosines and (median(cosines) >= LEAST_COSINE_OF_KIN or len(alike) >= LEAST_SHARED * len(cosines) + 1):
        figures.append(_cosine_figure(cosines))
    if case.shared >= LEAST_SHARED:
        figures.append(f"{case.shared:.0%} of the smaller model's weights lie in matrices that the other has, too.")
    figures += [sentence for score in case.scores if (sentence := _telling(score))]
    if not figures:
        return None
    return Verdict(
        kinship=Kinship.RELATED,
        sentence="Related: they have in common what models without a common origin have not. "
        "This is evidence, not a proof.",
        figures=(*figures, *_unmatched_figures(case)),
    )


def _unrelated(case: Case) -> Verdict | None:
    cosines = _cosines(case.layers)
    unlike = [
        layer
        for layer in case.layers
        if layer.match.a.role in HIDDEN_LAYERS and _shape(layer.match.a) != _shape(layer.match.b)
    ]
    if not cosines and not (unlike and case.scores):
        return None
    if cosines:
        reason = f"the weights of matched matrices point in unlike directions (median cosine {median(cosines):.2g})"
    else:
        reason = "no matrix has the shape of its counterpart, and no score is above what unrelated models get"
    return Verdict(
        kinship=Kinship.UNRELATED,
        sentence=f"Unrelated, as far as weights can tell: {reason}.",
        figures=(
            *((_cosine_figure(cosines),) if cosines else ()),
            *(_in_words(score) for score in case.scores),
            *_unmatched_figures(case),
        ),
    )


def _untold(case: Case) -> Verdict:
    unread = [
        f"{_counted(len(side.not_compared), 'tensor')} of {side.target}"
        for side in (case.a, case.b)
        if not side.complete
    ]
    if not case.layers:
        reason = "no layer of one could be matched with a layer of the other"
    elif unread:
        reason = f"what was read agrees, and {' and '.join(unread)} could not be compared"
    elif case.not_exact:
        reason = f"their distributions alone do not tell, and weights were not compared ({case.not_exact.reason})"
    else:
        reason = "too few matrices have equal shapes"
    return Verdict(
        kinship=Kinship.CANNOT_BE_SAID,
        sentence=f"What they are to one another cannot be said: {reason}.",
        figures=(*(_in_words(score) for score in case.scores), *_unmatched_figures(case)),
    )


# ---- figures


def relation_of(layer: LayerComparison) -> Relation | None:
    """How the weights of a layer are related in both models; None where they were not compared."""
    return layer.exact.relation if isinstance(layer.exact, Exact) else None


def _with_relation(case: Case, relation: Relation) -> int:
    return sum(relation_of(layer) is relation for layer in case.layers)


def _cosines(layers: Iterable[LayerComparison]) -> list[float]:
    """The cosine between both models' weights of each hidden matrix that has equal shapes."""
    found = []
    for layer in layers:
        if layer.match.a.role in HIDDEN_LAYERS and isinstance(layer.exact, Exact):
            difference = layer.exact.difference
            if layer.exact.relation in SAME:
                found.append(1.0)
            elif difference and isinstance(difference.cosine, float):
                found.append(difference.cosine)
    return found


def _cosine_figure(cosines: Sequence[float]) -> str:
    return (
        f"The cosine between the weights of a matrix in both is {median(cosines):.3f} in the middle, "
        f"{min(cosines):.3f} to {max(cosines):.3f}, over {_counted(len(cosines), 'hidden matrix', 'hidden matrices')}; "
        "of unrelated models it is near 0."
    )


def _where(case: Case) -> str:
    changed = [layer.match.a for layer in case.layers if relation_of(layer) not in SAME]
    matrices = [subject for subject in changed if subject.role in HIDDEN_LAYERS | ENDS]
    total = sum(layer.match.a.role in HIDDEN_LAYERS | ENDS for layer in case.layers)
    words = f"{len(matrices):,} of {_counted(total, 'matrix', 'matrices')} changed"
    blocks = sorted({subject.depth for subject in matrices if subject.depth is not None})
    if blocks:
        words += f", in {'block' if len(blocks) == 1 else 'blocks'} {_ranges(blocks)}"
    roles = Counter(str(subject.role) for subject in matrices)
    return f"{words} ({', '.join(f'{role} {number}' for role, number in roles.most_common(MOST_BLOCKS_NAMED))})"


def _ranges(numbers: Sequence[int]) -> str:
    """Rising whole numbers in words: 0-5, 7, 9-11."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    more = f" and {len(words) - MOST_BLOCKS_NAMED:,} more" if len(words) > MOST_BLOCKS_NAMED else ""
    return ", ".join(words[:MOST_BLOCKS_NAMED]) + more


def _change_figures(case: Case) -> list[str]:
    changed = [
        (layer, layer.exact.difference)
        for layer in case.layers
        if isinstance(layer.exact, Exact) and layer.exact.relation not in SAME and layer.exact.difference
    ]
    figures = []
    errors = [
        (difference.relative_error, layer.match.a)
        for layer, difference in changed
        if isinstance(difference.relative_error, float) and layer.match.a.role in HIDDEN_LAYERS | ENDS
    ]
    if errors:
        worst, where = max(errors, key=lambda each: each[0])
        middle = median(error for error, _ in errors)
        figures.append(f"The relative change of a matrix is {middle:.2g} in the middle, {worst:.2g} in {where.name}.")
    figures += _rank_figures([layer for layer, _ in changed])
    return figures


def _rank_figures(layers: Sequence[LayerComparison]) -> list[str]:
    profiles = [
        layer.exact.rank
        for layer in layers
        if isinstance(layer.exact, Exact) and isinstance(layer.exact.rank, RankProfile)
    ]
    low = [profile.rank for profile in profiles if profile.rank and not profile.rank_is_bound]
    if not low:
        return []
    ranks = Counter(low).most_common(1)[0]
    number = f"{len(low):,} of {_counted(len(profiles), 'matrix', 'matrices')}"
    return [f"The change of {number} has a low rank, most often {ranks[0]}, as a merged LoRA would have."]


def _telling(score: Score) -> str:
    """A score in words, if it is one that unrelated models cannot reach and lies well above what they get."""
    bound = max(score.unrelated.high, score.twins.high) + TELLING_FROM.get(score.name, math.inf)
    return _in_words(score) if score.value > bound else ""


def _in_words(score: Score) -> str:
    return (
        f"{score.name}: {score.value:.3f} over {score.compared}; {score.unrelated.what} {score.unrelated.middle:.3f} "
        f"(one in twenty above {score.unrelated.high:.3f}), {score.twins.what} {score.twins.middle:.3f} "
        f"({score.twins.high:.3f})."
    )


def _unmatched_figures(case: Case) -> list[str]:
    return [
        f"{_counted(len(only), 'layer')} of {side} without counterpart: {_named(only)}."
        for side, only in (("A", case.only_a), ("B", case.only_b))
        if only
    ]


def _named(only: Sequence[Unmatched]) -> str:
    more = f" and {len(only) - MOST_NAMED:,} more" if len(only) > MOST_NAMED else ""
    return ", ".join(each.subject.name for each in only[:MOST_NAMED]) + more


def _share_of_hidden_unmatched(case: Case) -> float:
    unmatched = sum(_hidden_weights(each.subject) for each in (*case.only_a, *case.only_b))
    matched = sum(_hidden_weights(layer.match.a) + _hidden_weights(layer.match.b) for layer in case.layers)
    return unmatched / max(1, matched + unmatched)


def _hidden_weights(subject: Subject) -> int:
    return subject.weights if subject.role in HIDDEN_LAYERS else 0


def _shape(subject: Subject) -> tuple[int, int]:
    return subject.rows, subject.columns


def _of(number: int, case: Case) -> str:
    return f"{number:,} of {_counted(len(case.layers), 'layer')}"


def _counted(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
