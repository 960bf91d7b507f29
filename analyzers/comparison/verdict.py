"""Two models side by side -> Verdict: what they are to one another, in words, with the figures that led to it."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from statistics import median

from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.comparison.exact.outcome import (
    Cast,
    Difference,
    Exact,
    Quantisation,
    RankProfile,
    Relation,
    Rounding,
    Side,
)
from jaynes_audit.analyzers.comparison.lineage.closeness import CLOSENESS
from jaynes_audit.analyzers.comparison.lineage.neurons import (
    MATCHED_NEURONS,
    NEURONS_IN_ANY_BLOCK,
    WEIGHT_COSINE,
)
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.comparison.matching import MatchedBy, Unmatched
from jaynes_audit.analyzers.comparison.side_by_side import BufferComparison, Compared, LayerComparison
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.roles import HIDDEN_LAYERS

SAME = frozenset({Relation.IDENTICAL, Relation.CAST, Relation.REARRANGED})

# The next four were set from the families of benchmarks/comparing_families.py; docs/comparing.md has the table.
LEAST_COSINE_OF_VERSIONS = 0.5  # of the weights of two versions of one model, median over the matrices
LEAST_COSINE_OF_KIN = 0.1  # below it nothing is left to see of a common origin
MOST_RATIO_OF_QUANTISED = 2.0  # error of a quantised model over the least that its scheme can reach on these weights
LEAST_SHARED = 0.05  # share of the weights that lie in layers with the very same bytes, for two models to be related

# How far above the 95 % point of both nulls a score bears out a common origin by itself. The others do not: unrelated
# models with like recipes or of one language reach any value of them.
TELLING_FROM = {
    WEIGHT_COSINE: 0.1,
    MATCHED_NEURONS: 0.1,
    NEURONS_IN_ANY_BLOCK: 0.05,
    CLOSENESS: 0.1,
}

MOST_BLOCKS_NAMED = 8
MOST_ROLES_NAMED = 8
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
    there was something to compare. What was not read is called neither the same nor changed.
    """
    ways = (_identical, _same_weights, _partly_read, _quantised, _versions, _kin, _unrelated)
    return next((verdict for way in ways if (verdict := way(case))), _untold(case))


# ---- nothing changed, or nothing but the form


def _identical(case: Case) -> Verdict | None:
    same_bytes = all(map(_has_same_bytes, case.layers)) and all(each.identical for each in case.buffers)
    if not _all_same(case) or not same_bytes or _other_form(case) or case.only_a or case.only_b:
        return None
    if case.not_exact and _passed_over(case):
        return None
    buffers = f" and {_counted(len(case.buffers), 'buffer')}" if case.buffers else ""
    seen = _counted(len(case.layers), "layer")
    how = "by their hashes" if case.not_exact else "byte by byte"
    return Verdict(
        kinship=Kinship.IDENTICAL,
        sentence=f"Identical{case.asked_for}: {seen}{buffers}, all with the very same bytes.",
        figures=(f"{case.a.weights:,} weights were compared {how}.", *_passed_over(case)),
    )


def _same_weights(case: Case) -> Verdict | None:
    if not _all_same(case):
        return None
    forms = [
        *_casts(case.layers),
        *_rearrangements(case.layers),
        *_other_bytes(case.layers),
        *_other_form(case),
        *_not_in_both(case),
    ]
    if not forms:
        forms = ["all layers with the very same bytes, and not all was compared"]
    unchanged = sum(map(_has_same_bytes, case.layers))
    figures = [f"{_of(unchanged, case)} have the very same bytes."] if unchanged else []
    lossy = [(layer, cast) for layer, cast in _cast_layers(case.layers) if cast.overflowed or cast.flushed]
    if lossy:
        overflowed, flushed = (sum(getattr(cast, what) for _, cast in lossy) for what in ("overflowed", "flushed"))
        worst, _ = max(lossy, key=lambda each: each[1].overflowed + each[1].flushed)
        lost = f"{overflowed:,} overflowed and {flushed:,} became zero"
        figures.append(f"In {_counted(len(lossy), 'layer')} the cast lost weights: {lost}; most in {_name(worst)}.")
    return Verdict(
        kinship=Kinship.SAME_WEIGHTS,
        sentence=f"The same weights{_where_both_have_them(case)}{case.asked_for}: {'; '.join(forms)}.",
        figures=(*figures, *_order_figures(case.layers), *_passed_over(case)),
    )


def _order_figures(layers: Iterable[LayerComparison]) -> list[str]:
    """What follows from rows or columns in another order, and what does not."""
    found = [layer.exact.rearrangement for layer in layers if isinstance(layer.exact, Exact)]
    if not any(each and (each.moved_rows or each.moved_columns) for each in found):
        return []
    words = "Whether what a moved row or column is joined to was moved alike was not checked"
    return [f"{words}; only then the network computes the same."]


def _where_both_have_them(case: Case) -> str:
    return " as far as both have them" if case.only_a or case.only_b else ""


def _all_same(case: Case) -> bool:
    """Whether both were read whole and every weight of a hidden layer of one is a weight of the other."""
    complete = case.a.complete and case.b.complete and bool(case.layers)
    return complete and not _hidden_unmatched(case) and all(relation_of(layer) in SAME for layer in case.layers)


def _hidden_unmatched(case: Case) -> bool:
    return any(each.subject.role in HIDDEN_LAYERS for each in (*case.only_a, *case.only_b))


def _has_same_bytes(layer: LayerComparison) -> bool:
    # Equal values may have other bytes: zeros have two signs, and there is more than one NaN.
    return isinstance(layer.exact, Exact) and layer.exact.relation is Relation.IDENTICAL and not layer.exact.difference


def _other_bytes(layers: Iterable[LayerComparison]) -> list[str]:
    number = sum(relation_of(layer) is Relation.IDENTICAL and not _has_same_bytes(layer) for layer in layers)
    return [f"{_counted(number, 'layer')} with equal values in other bytes (signs of zeros, NaNs)"] if number else []


def _not_in_both(case: Case) -> list[str]:
    """What beside the hidden layers only one of the two has, and the buffers that differ."""
    words = [
        f"{_counted(len(only), 'layer')} only in {side} ({_named(only)})"
        for side, only in (("A", case.only_a), ("B", case.only_b))
        if only
    ]
    unlike = [each for each in case.buffers if not each.identical]
    if unlike:
        words.append(f"{_counted(len(unlike), 'buffer')} not the same ({quoted(unlike[0].name)}: {unlike[0].sentence})")
    return words


def _other_form(case: Case) -> list[str]:
    """How the same content is stored in another way."""
    forms = []
    renamed = sum(layer.match.by is not MatchedBy.NAME for layer in case.layers)
    if renamed:
        forms.append(f"{_counted(renamed, 'layer')} under {'another name' if renamed == 1 else 'other names'}")
    reshaped = [layer for layer in case.layers if _is_reshaped(layer)]
    if reshaped:
        shapes = " and ".join(f"{rows:,} x {columns:,}" for rows, columns in map(_shape, _both(reshaped[0])))
        forms.append(f"{_counted(len(reshaped), 'layer')} in another shape ({_name(reshaped[0])}: {shapes})")
    formats = [sorted({PurePath(file).suffix for file in side.files}) for side in (case.a, case.b)]
    if not (case.a.files and case.b.files):  # a baseline keeps none
        return forms
    if formats[0] != formats[1]:
        forms.append(f"in another file format (A: {listed(formats[0])}; B: {listed(formats[1])})")
    elif len(case.a.files) != len(case.b.files):
        forms.append(f"in {_counted(len(case.b.files), 'file')} instead of {len(case.a.files):,}")
    return forms


def _is_reshaped(layer: LayerComparison) -> bool:
    """Whether the same weights, in the same order, are cut into other rows. A vector may be a row or a column."""
    exact = layer.exact
    laid_out_alike = isinstance(exact, Exact) and not exact.rearrangement
    return laid_out_alike and _is_matrix(layer) and _shape(layer.match.a) != _shape(layer.match.b)


def _both(layer: LayerComparison) -> tuple[Subject, Subject]:
    return layer.match.a, layer.match.b


def _casts(layers: Iterable[LayerComparison]) -> list[str]:
    kinds = Counter(replace(cast, overflowed=0, flushed=0) for _, cast in _cast_layers(layers))
    for kind in [kind for kind in kinds if kind.rounding is Rounding.EXACT]:
        # What a cast that rounds happened to keep was cast by it all the same.
        rounded = [other for other in kinds if other is not kind and replace(other, rounding=kind.rounding) == kind]
        if rounded:
            kinds[rounded[0]] += kinds.pop(kind)
    return [_cast_in_words(cast, number) for cast, number in kinds.most_common()]


def _cast_layers(layers: Iterable[LayerComparison]) -> list[tuple[LayerComparison, Cast]]:
    return [(layer, exact.cast) for layer in layers if isinstance(exact := layer.exact, Exact) and exact.cast]


def _cast_in_words(cast: Cast, number: int) -> str:
    layers, are = _counted(number, "layer"), "is that" if number == 1 else "are those"
    if cast.source is None:
        return f"{layers} cast to {cast.to_dtype} from weights that neither holds ({cast.rounding})"
    made, source = ("B", "A") if cast.source is Side.A else ("A", "B")
    through = f" through {cast.through}" if cast.through else ""
    formats = f"{cast.from_dtype} to {cast.to_dtype}{through} ({cast.rounding})"
    return f"{layers} of {made} {are} of {source} cast from {formats}"


def _rearrangements(layers: Iterable[LayerComparison]) -> list[str]:
    kinds: Counter[str] = Counter()
    for layer in layers:
        if isinstance(layer.exact, Exact) and (found := layer.exact.rearrangement):
            axes = [axis for axis, moved in (("rows", found.moved_rows), ("columns", found.moved_columns)) if moved]
            words = ["transposed"] if found.transposed else []
            words += [f"with {' and '.join(axes)} in another order"] if axes else []
            kinds[" and ".join(words)] += 1
    return [f"{_counted(number, 'layer')} {words}" for words, number in kinds.most_common()]


# ---- not all was read


def _partly_read(case: Case) -> Verdict | None:
    """Nothing is said of two models of which all that was read is the same, and something was not read."""
    read = [layer for layer in case.layers if not layer.could_not_read]
    if not read or any(relation_of(layer) not in SAME for layer in read):
        return None
    missing_in_b = any(each.subject.role in HIDDEN_LAYERS for each in case.only_a)
    missing_in_a = any(each.subject.role in HIDDEN_LAYERS for each in case.only_b)
    if (missing_in_a and case.a.complete) or (missing_in_b and case.b.complete):
        return None
    if case.a.complete and case.b.complete and len(read) == len(case.layers):
        return None
    return Verdict(
        kinship=Kinship.CANNOT_BE_SAID,
        sentence=f"What they are to one another cannot be said: the {_counted(len(read), 'layer')} that could be "
        "compared hold the same weights, and the rest could not be read.",
        figures=(*_unread_figures(case), *_unmatched_figures(case)),
    )


# ---- quantised


def _quantised(case: Case) -> Verdict | None:
    found = [
        layer.exact.quantisation
        for layer in case.layers
        if isinstance(layer.exact, Exact) and layer.exact.relation is Relation.QUANTISED and layer.exact.quantisation
    ]
    allowed = {*SAME, Relation.QUANTISED}
    if _hidden_unmatched(case) or any(relation_of(layer) not in allowed for layer in case.layers):
        return None
    if not (case.a.complete and case.b.complete and all(map(is_as_good_as_its_scheme, found))):
        return None
    sides = {each.quantised for each in found}
    if len(sides) != 1:
        return None
    side = sides.pop().upper()
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
            *(f"Beside that {words}." for words in (*_casts(case.layers), *_rearrangements(case.layers))),
            *_unmatched_figures(case),
        ),
    )


MOST_ERROR_OF_QUANTISED = 0.25  # where the least error of a scheme is not known; round-to-nearest to 4 bits makes 0.1


def is_as_good_as_its_scheme(found: Quantisation) -> bool:
    """Whether a quantised layer has not much more error than its scheme must make."""
    if isinstance(found.ratio, NotFitted):
        return found.relative_error < MOST_ERROR_OF_QUANTISED
    return found.ratio < MOST_RATIO_OF_QUANTISED


# ---- changed, and still kin


def _versions(case: Case) -> Verdict | None:
    cosines = _cosines(case.layers)
    hidden = sum(_is_hidden_matrix(layer) for layer in case.layers)
    if not cosines or len(cosines) < hidden / 2 or median(cosines) < LEAST_COSINE_OF_VERSIONS:
        return None
    if _share_of_hidden_unmatched(case) > LEAST_SHARED or not _cosines_tell(case):
        return None
    few = 0 < len(_changed(case)) <= MOST_NAMED < len(case.layers)
    kin = (
        f"the same but for {_of(len(_changed(case)), case)}"
        if few
        else "one fine-tuned or merged from the other or both from a third"
    )
    return Verdict(
        kinship=Kinship.FINE_TUNED,
        sentence=f"Versions of one model, {kin}: {_where(case)}{_both_quantised(case)}.",
        figures=(*_closeness_figures(case), *_change_figures(case), *_uncompared_figures(case)),
    )


def _both_quantised(case: Case) -> str:
    schemes = {
        (layer.match.a.dtype, layer.match.b.dtype)
        for layer in _changed(case)
        if layer.match.a.dtype not in list(Dtype) and layer.match.b.dtype not in list(Dtype)
    }
    if not schemes:
        return ""
    named = ", ".join(f"{of_a} and {of_b}" for of_a, of_b in sorted(schemes)[:MOST_NAMED])
    return f"; both are quantised ({named}), and what the quantisers rounded is part of the change"


def _kin(case: Case) -> Verdict | None:
    figures = []
    cosines = _cosines(case.layers)
    alike = [cosine for cosine in cosines if cosine >= LEAST_COSINE_OF_VERSIONS]
    are_alike = cosines and (median(cosines) >= LEAST_COSINE_OF_KIN or len(alike) >= LEAST_SHARED * len(cosines) + 1)
    if are_alike and _cosines_tell(case):
        figures += _closeness_figures(case)
    if cosines and median(cosines) < -LEAST_COSINE_OF_VERSIONS:
        figures.append(f"Matched matrices have their signs turned: the median cosine is {median(cosines):.2f}.")
    if case.shared >= LEAST_SHARED:
        figures.append(f"{case.shared:.0%} of the smaller model's weights lie in matrices that the other has, too.")
    figures += [sentence for score in case.scores if (sentence := _telling(score))]
    if not figures:
        return None
    common = _part_of(case) or "they have in common what models without a common origin have not"
    return Verdict(
        kinship=Kinship.RELATED,
        sentence=f"Related: {common}. This is evidence, not a proof.",
        figures=(*figures, *_uncompared_figures(case)),
    )


def _part_of(case: Case) -> str:
    """That one is the other with layers left out, in words; empty where it is not."""
    if any(relation_of(layer) not in SAME for layer in case.layers) or bool(case.only_a) is bool(case.only_b):
        return ""
    part, whole, rest = ("B", "A", case.only_a) if case.only_a else ("A", "B", case.only_b)
    number = _counted(len(case.layers), "layer")
    return f"the {number} of {part} hold weights of {whole}, which has {_counted(len(rest), 'layer')} more"


def _unrelated(case: Case) -> Verdict | None:
    cosines = _cosines(case.layers)
    hidden = [layer for layer in case.layers if _is_hidden_matrix(layer)]
    unlike = hidden and all(_shape(layer.match.a) != _shape(layer.match.b) for layer in hidden)
    if not cosines and not (unlike and case.scores):
        return None
    if cosines:
        reason = (
            f"matched matrices are no more alike than those of unrelated models (median cosine {median(cosines):.2g})"
        )
    else:
        reason = "no matrix has the shape of its counterpart, and no score tells of a common origin"
    return Verdict(
        kinship=Kinship.UNRELATED,
        sentence=f"Unrelated, as far as weights can tell: {reason}.",
        figures=(
            *_closeness_figures(case),
            *(_in_words(score) for score in case.scores),
            *_uncompared_figures(case),
        ),
    )


def _untold(case: Case) -> Verdict:
    if not case.layers:
        unread = [side for side, each in (("A", case.a), ("B", case.b)) if not each.complete]
        reason = (
            f"{' and '.join(unread)} could not be read"
            if unread
            else "no layer of one could be matched with a layer of the other"
        )
    elif case.not_exact:
        reason = f"their distributions alone do not tell, and weights were not compared ({case.not_exact.reason})"
    else:
        reason = "too few matrices could be compared"
    return Verdict(
        kinship=Kinship.CANNOT_BE_SAID,
        sentence=f"What they are to one another cannot be said: {reason}.",
        figures=(*(_in_words(score) for score in case.scores), *_uncompared_figures(case)),
    )


# ---- figures


def relation_of(layer: LayerComparison) -> Relation | None:
    """How the weights of a layer are related in both models; None where they were not compared."""
    return layer.exact.relation if isinstance(layer.exact, Exact) else None


def _cosines(layers: Iterable[LayerComparison]) -> list[float]:
    """The cosine between both models' weights of each hidden matrix that has equal shapes; of all if none is hidden."""
    layers = list(layers)
    counts = _is_hidden_matrix if any(map(_is_hidden_matrix, layers)) else _is_matrix
    found = []
    for layer in layers:
        if counts(layer) and isinstance(layer.exact, Exact):
            difference = layer.exact.difference
            if layer.exact.relation in SAME:
                found.append(1.0)
            elif difference and isinstance(difference.cosine, float):
                found.append(difference.cosine)
    return found


def _is_matrix(layer: LayerComparison) -> bool:
    return layer.match.a.fan_in > 0


def _is_hidden_matrix(layer: LayerComparison) -> bool:
    return _is_matrix(layer) and layer.match.a.role in HIDDEN_LAYERS


def _closeness_figures(case: Case) -> list[str]:
    """How alike the weights are, as far as they were compared; first what makes a model useless."""
    cosines = _cosines(case.layers)
    if case.not_exact:
        same = sum(map(_has_same_bytes, case.layers))
        how = f"the weights of the others were not compared ({case.not_exact.reason})"
        return [f"{_of(same, case)} have the very same bytes; {how}."] if same else []
    if not cosines:
        return []
    least, middle, most = (f"{cosine:.3f}" for cosine in (min(cosines), median(cosines), max(cosines)))
    found = f"{middle} in each" if least == most else f"{middle} in the middle, {least} to {most}"
    number = _counted(len(cosines), "hidden matrix", "hidden matrices")
    score = _weight_cosine(case)
    beside = f"up to {score.unrelated.high:.3f}" if score else "near 0"
    figure = (
        f"The cosine between the weights of a matrix in both is {found}, over {number}; of unrelated ones {beside}."
    )
    return [*_not_finite_figures(case), figure]


def _weight_cosine(case: Case) -> Score | None:
    return next((score for score in case.scores if score.name == WEIGHT_COSINE), None)


def _cosines_tell(case: Case) -> bool:
    """Whether the cosines of weights are beyond what unrelated models get: weights with a common mean are all alike."""
    score = _weight_cosine(case)
    return score is None or bool(_telling(score))


def _changed(case: Case) -> list[LayerComparison]:
    """The layers that were compared and hold other weights."""
    relations = SAME if case.not_exact else {*SAME, None}
    return [layer for layer in case.layers if not layer.could_not_read and relation_of(layer) not in relations]


def _where(case: Case) -> str:
    changed = _changed(case)
    if not changed:
        return "no layer that both have holds other weights"
    counts = []
    for are_counted, noun, plural in ((_is_matrix, "matrix", "matrices"), (_is_no_matrix, "vector", "vectors")):
        number, total = sum(map(are_counted, changed)), sum(map(are_counted, case.layers))
        if number:
            counts.append(f"{number:,} of {_counted(total, noun, plural)}")
    words = f"{' and '.join(counts)} changed"
    blocks = sorted({layer.match.a.depth for layer in changed if layer.match.a.depth is not None})
    if blocks:
        words += f", in {'block' if len(blocks) == 1 else 'blocks'} {_ranges(blocks)}"
    roles = [
        *Counter(str(layer.match.a.role) for layer in changed if _is_matrix(layer)).most_common(),
        *Counter(str(layer.match.a.role) for layer in changed if _is_no_matrix(layer)).most_common(),
    ]
    named = [f"{role} {number:,}" for role, number in roles[:MOST_ROLES_NAMED]]
    more = [f"and {len(roles) - MOST_ROLES_NAMED:,} roles more"] if len(roles) > MOST_ROLES_NAMED else []
    return f"{words} ({', '.join([*named, *more])})"


def _is_no_matrix(layer: LayerComparison) -> bool:
    return not _is_matrix(layer)


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
    changed = _differences(case)
    figures = [_one_change(layer, difference) for layer, difference in changed] if len(changed) <= MOST_NAMED else []
    matrices = [layer for layer, _ in changed if _is_matrix(layer)]
    errors = [
        (difference.relative_error, _name(layer))
        for layer, difference in changed
        if isinstance(difference.relative_error, float) and _is_matrix(layer)
    ]
    if len(errors) > 1:
        worst, where = max(errors)
        middle = median(error for error, _ in errors)
        figures.append(f"The relative change of a matrix is {middle:.2g} in the middle, {worst:.2g} in {where}.")
    return [*figures, *_rank_figures(matrices), *_scheme_figures(case.layers)]


def _differences(case: Case) -> list[tuple[LayerComparison, Difference]]:
    return [
        (layer, layer.exact.difference)
        for layer in _changed(case)
        if isinstance(layer.exact, Exact) and layer.exact.difference
    ]


def _not_finite_figures(case: Case) -> list[str]:
    broken = [(each.not_finite, _name(layer)) for layer, each in _differences(case) if each.not_finite]
    if not broken:
        return []
    number = sum(each for each, _ in broken)
    where = f"most in {max(broken)[1]}" if len(broken) > 1 else f"in {broken[0][1]}"
    verb = "is" if number == 1 else "are"
    return [f"{_counted(number, 'weight')} {verb} NaN or infinite in one of the two and finite in the other, {where}."]


def _one_change(layer: LayerComparison, difference: Difference) -> str:
    words = f"{_name(layer)}: {difference.changed:,} of {_counted(difference.weights, 'weight')} changed"
    if difference.largest > 0:
        where = f"row {difference.largest_row:,}, column {difference.largest_column:,}"
        words += f", by at most {difference.largest:.2g} ({where})"
    if isinstance(difference.relative_error, float) and difference.relative_error > 0:
        words += f"; relative change {difference.relative_error:.2g}"
    return f"{words}."


def _rank_figures(layers: Sequence[LayerComparison]) -> list[str]:
    profiles = [
        (layer, layer.exact.rank)
        for layer in layers
        if isinstance(layer.exact, Exact) and isinstance(layer.exact.rank, RankProfile)
    ]
    low = [profile.rank for layer, profile in profiles if _is_low(layer, profile)]
    if not low:
        return []
    rank, _ = Counter(low).most_common(1)[0]
    number = f"{len(low):,} of {_counted(len(profiles), 'matrix', 'matrices')}"
    return [f"The change of {number} has a low rank, most often {rank:,}, as a merged LoRA would have."]


def _is_low(layer: LayerComparison, profile: RankProfile) -> bool:
    """Whether few directions hold a change that is not just one of a few rows or columns."""
    difference = layer.exact.difference if isinstance(layer.exact, Exact) else None
    if not profile.rank or profile.rank_is_bound or difference is None:
        return False
    return difference.changed > profile.rank * max(_shape(layer.match.a))


def _scheme_figures(layers: Iterable[LayerComparison]) -> list[str]:
    """What keeps a quantised model from being called that: more error than its scheme has to make."""
    found = [
        (layer.exact.quantisation.ratio, layer.exact.quantisation, _name(layer))
        for layer in layers
        if isinstance(layer.exact, Exact) and layer.exact.quantisation
    ]
    ratios = [
        (ratio, each.quantised.upper(), each.scheme, name) for ratio, each, name in found if isinstance(ratio, float)
    ]
    if not ratios or max(ratios)[0] < MOST_RATIO_OF_QUANTISED:
        return []
    ratio, side, scheme, name = max(ratios)
    return [f"{side} is stored as {scheme}, and the error in {name} is {ratio:.2g} times the least of that scheme."]


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


def _uncompared_figures(case: Case) -> list[str]:
    """What of the two was not compared, and why."""
    reasons: dict[str, list[str]] = {}
    for layer in case.layers:
        if isinstance(layer.exact, NotFitted) and not layer.could_not_read and not case.not_exact:
            reasons.setdefault(layer.exact.reason, []).append(layer.match.a.name)
    figures = [
        f"{_counted(len(names), 'layer')} not compared, {reason}: {listed(names, most=MOST_NAMED)}."
        for reason, names in list(reasons.items())[:MOST_NAMED]
    ]
    return [*_unread_figures(case), *figures, *_unmatched_figures(case)]


def _unread_figures(case: Case) -> list[str]:
    unread = [layer.match.a.name for layer in case.layers if layer.could_not_read]
    figures = (
        [f"{_counted(len(unread), 'layer')} could not be read: {listed(unread, most=MOST_NAMED)}."] if unread else []
    )
    figures += [
        f"Of {side} not all could be read: {listed([name for name, _ in each.not_compared], most=MOST_NAMED)}."
        for side, each in (("A", case.a), ("B", case.b))
        if not each.complete and each.not_compared
    ]
    return figures


def _passed_over(case: Case) -> list[str]:
    """What two models that agree hold beside what was compared."""
    names = [name for side in (case.a, case.b) for name, _ in side.not_compared]
    if case.asked_for or not names:
        return []
    return [f"Not compared: {listed(list(dict.fromkeys(names)), most=MOST_NAMED)}."]


def _unmatched_figures(case: Case) -> list[str]:
    return [
        f"{_counted(len(only), 'layer')} of {side} without counterpart: {_named(only)}."
        for side, only in (("A", case.only_a), ("B", case.only_b))
        if only
    ]


def _named(only: Sequence[Unmatched]) -> str:
    return listed([each.subject.name for each in only], most=MOST_NAMED)


def _name(layer: LayerComparison) -> str:
    return quoted(layer.match.a.name)


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
