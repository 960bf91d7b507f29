"""Which verdict each kind of finding gives, at its borders too, and that it is said in words one can read."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from jaynes_audit.analyzers.comparison.exact.outcome import (
    Exact,
    Quantisation,
    RankProfile,
    Rearrangement,
    Relation,
    Side,
    Unread,
)
from jaynes_audit.analyzers.comparison.lineage.neurons import WEIGHT_COSINE
from jaynes_audit.analyzers.comparison.lineage.score import Null, Score
from jaynes_audit.analyzers.comparison.matching import MatchedBy, Unmatched
from jaynes_audit.analyzers.comparison.side_by_side import BufferComparison, LayerComparison
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.comparison.verdict import (
    LEAST_COSINE_OF_KIN,
    LEAST_COSINE_OF_VERSIONS,
    LEAST_SHARED,
    MOST_ERROR_OF_QUANTISED,
    MOST_RATIO_OF_QUANTISED,
    TELLING_FROM,
    Case,
    Kinship,
    Verdict,
    judge,
)
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.roles import Role
from tests.support.comparisons import IDENTICAL, UP, cast, different, layer, side, subject

BLOCKS = 6
HASHES_ONLY = NotFitted("a report or a sketch archive holds no weights")
UNLIKE_SHAPES = NotFitted("their shapes differ, 512 x 128 and 513 x 128")
NORM = "model.layers.3.input_layernorm.weight"
HEAD = subject("lm_head.weight", role=Role.HEAD, depth=None)
EXTRA = subject("model.layers.6.mlp.up_proj.weight", depth=6)
ACCUSATIONS = re.compile(r"\b(stolen|stole|cop(y|ied)|theft|plagiar\w+|derived|violat\w+|infring\w+)\b", re.IGNORECASE)
EMPTY_COUNTS = re.compile(r"(?<![\d,.])0 (of|layer|matri|vector|weight|buffer|tensor)")
UNREADABLE = re.compile(r"nan\b|\binf\b|\d{5,}(?![\d.]*e)|\d\.\d{6,}|None|NotFitted|Relation|<|\(\)|\[\]|  ")


def outcomes(*exacts: Exact | NotFitted) -> list[LayerComparison]:
    """A matrix a block, with these outcomes in turn."""
    return [
        layer(UP.format(block), exacts[block % len(exacts)], a=subject(UP.format(block), depth=block))
        for block in range(BLOCKS)
    ]


def vector(name: str, exact: Exact | NotFitted = IDENTICAL) -> LayerComparison:
    return layer(name, exact, a=subject(name, role=Role.NORM, depth=3, rows=512, columns=1, fan_in=0, fan_out=0))


def case(layers: Sequence[LayerComparison], **other: Any) -> Case:
    known: dict[str, Any] = {
        "asked_for": "",
        "a": side("base"),
        "b": side("new"),
        "only_a": (),
        "only_b": (),
        "buffers": (),
        "not_exact": None,
        "shared": 0.0,
        "scores": (),
    }
    return Case(layers=layers, **(known | other))


def said(layers: Sequence[LayerComparison], **other: Any) -> Verdict:
    """The verdict, whose words are readable whatever it is."""
    verdict = judge(case(layers, **other))
    for words in (verdict.sentence, *verdict.figures):
        assert words.endswith("."), words
        assert words.isprintable(), words
        assert not ACCUSATIONS.search(words), words
        assert not EMPTY_COUNTS.search(words), words
        assert not UNREADABLE.search(words), words
    return verdict


def figures(verdict: Verdict) -> str:
    return "\n".join(verdict.figures)


def only(*subjects: Subject, reason: str = "no layer of its name") -> tuple[Unmatched, ...]:
    return tuple(Unmatched(subject=each, reason=reason) for each in subjects)


def score(name: str, value: float, high: float = 0.01) -> Score:
    null = Null(what="permuted", middle=0.0, high=high, draws=100)
    return Score(name=name, value=value, compared="8 matrices", unrelated=null, twins=null)


def quantised(ratio: float | NotFitted = 1.03, error: float = 0.08, **other: Any) -> Exact:
    best = NotFitted("its groups are not known") if isinstance(ratio, NotFitted) else error / ratio
    known = {"quantised": Side.B, "scheme": "Q4_0", "relative_error": error, "best_error": best, "ratio": ratio}
    return Exact(relation=Relation.QUANTISED, quantisation=Quantisation(**(known | other)), difference=NEAR.difference)


def of_rank(rank: int, *, changed: int = 65_536) -> Exact:
    profile = RankProfile(ranks=(1, 2, 4, 8, 16), energy=(0.3, 0.5, 0.8, 0.99, 1.0), rank=rank, rank_is_bound=False)
    return different(0.02, profile, changed=changed, cosine=0.9998)


NEAR = different(0.012, cosine=0.9999)
FAR = different(1.41, cosine=0.002)


# ---- identical


def test_equal_bytes_under_equal_names_are_identical() -> None:
    buffers = (BufferComparison(name="position_ids", identical=True, sentence="equal"),)
    verdict = said([*outcomes(IDENTICAL), vector(NORM)], buffers=buffers)
    assert verdict == Verdict(
        kinship=Kinship.IDENTICAL,
        sentence="Identical: 7 layers and 1 buffer, all with the very same bytes.",
        figures=("655,360 weights were compared byte by byte.",),
    )


def test_equal_hashes_are_identical_and_it_is_said_that_only_they_were_compared() -> None:
    verdict = said(outcomes(IDENTICAL), not_exact=HASHES_ONLY)
    assert verdict.kinship is Kinship.IDENTICAL
    assert verdict.figures == ("655,360 weights were compared by their hashes.",)


def test_where_hashes_leave_a_buffer_uncompared_nothing_is_identical() -> None:
    skipped = side("base", kind="report", not_compared=(("position_ids", "whole numbers"),))
    verdict = said(outcomes(IDENTICAL), a=skipped, not_exact=HASHES_ONLY)
    assert verdict.kinship is Kinship.SAME_WEIGHTS
    assert verdict.sentence.endswith("and not all was compared.")
    assert verdict.figures[-1] == "Not compared: 'position_ids'."


def test_what_was_asked_for_is_said_where_it_is_not_all() -> None:
    verdict = said(outcomes(IDENTICAL), asked_for=" in the layers asked for")
    assert verdict.sentence.startswith("Identical in the layers asked for: 6 layers")


# ---- the same weights


def test_a_cast_is_the_same_weights_and_says_which() -> None:
    verdict = said([*outcomes(cast()), vector(NORM)])
    assert verdict.kinship is Kinship.SAME_WEIGHTS
    assert "6 layers of B are those of A cast from F32 to BF16 (rounded to nearest)" in verdict.sentence
    assert verdict.figures == ("1 of 7 layers have the very same bytes.",)


def test_weights_that_a_cast_lost_are_counted_and_the_worst_layer_is_named() -> None:
    lossy = cast(to_dtype="F16", through="", overflowed=3, flushed=1_200)
    verdict = said([*outcomes(cast(to_dtype="F16"))[1:], *outcomes(lossy)[:1]])
    assert verdict.kinship is Kinship.SAME_WEIGHTS
    lost = "3 overflowed and 1,200 became zero"
    assert f"In 1 layer the cast lost weights: {lost}; most in '{UP.format(0)}'." in verdict.figures


def test_a_rearrangement_is_the_same_weights() -> None:
    moved = Exact(
        relation=Relation.REARRANGED, rearrangement=Rearrangement(transposed=True, moved_rows=9, moved_columns=0)
    )
    verdict = said(outcomes(moved))
    assert verdict.kinship is Kinship.SAME_WEIGHTS
    assert "6 layers transposed and with rows in another order" in verdict.sentence


def test_other_names_are_the_same_weights() -> None:
    renamed = [replace(each, match=replace(each.match, by=MatchedBy.ROLE)) for each in outcomes(IDENTICAL)]
    verdict = said(renamed)
    assert verdict.sentence == "The same weights: 6 layers under other names."


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("a-1.safetensors", "a-2.safetensors"), "in 2 files instead of 1"),
        (("v1.5/pytorch_model.bin",), "in another file format (A: '.safetensors'; B: '.bin')"),
    ],
)
def test_other_files_are_the_same_weights(files: tuple[str, ...], words: str) -> None:
    verdict = said(outcomes(IDENTICAL), b=side("new", files=files))
    assert verdict.kinship is Kinship.SAME_WEIGHTS
    assert words in verdict.sentence


def test_a_head_that_only_one_has_is_the_same_weights_and_is_named() -> None:
    verdict = said(outcomes(IDENTICAL), only_b=only(HEAD))
    assert verdict.sentence == "The same weights as far as both have them: 1 layer only in B ('lm_head.weight')."


def test_another_buffer_is_the_same_weights_and_is_named() -> None:
    buffers = (BufferComparison(name="position_ids", identical=False, sentence="7 of its elements differ"),)
    verdict = said(outcomes(IDENTICAL), buffers=buffers)
    assert verdict.sentence == "The same weights: 1 buffer not the same ('position_ids': 7 of its elements differ)."


def test_equal_values_in_other_bytes_are_not_identical() -> None:
    signs = Exact(relation=Relation.IDENTICAL, difference=different(0.0, changed=0, largest=0.0).difference)
    verdict = said([*outcomes(IDENTICAL), vector(NORM, signs)])
    assert verdict.kinship is Kinship.SAME_WEIGHTS
    assert "1 layer with equal values in other bytes (signs of zeros, NaNs)" in verdict.sentence
    assert verdict.figures == ("6 of 7 layers have the very same bytes.",)


def test_a_hidden_layer_that_only_one_has_is_not_the_same_weights() -> None:
    assert said(outcomes(IDENTICAL), only_b=only(EXTRA)).kinship is not Kinship.SAME_WEIGHTS


# ---- quantised


def test_a_quantised_model_is_told_with_its_scheme_and_its_error_against_the_least() -> None:
    verdict = said([*outcomes(quantised()), vector(NORM, cast(to_dtype="F16"))])
    assert verdict.kinship is Kinship.QUANTISED
    assert verdict.sentence == (
        "B is A quantised to Q4_0 (6 layers): median relative error 0.08, "
        "1.03 times the least that its scheme can reach on these weights."
    )
    assert "The relative error of a layer is 0.08 to 0.08, 1.03 to 1.03 times the least." in verdict.figures
    assert "Beside that 1 layer of B is that of A cast from F32 to F16 (rounded to nearest)." in verdict.figures


def test_a_model_that_was_quantised_before_the_other_is_told_the_other_way_round() -> None:
    assert said(outcomes(quantised(quantised=Side.A))).sentence.startswith("A is B quantised")


@pytest.mark.parametrize(
    ("ratio", "kinship"),
    [
        (MOST_RATIO_OF_QUANTISED - 0.01, Kinship.QUANTISED),
        (MOST_RATIO_OF_QUANTISED, Kinship.FINE_TUNED),
        (3.0, Kinship.FINE_TUNED),
    ],
)
def test_more_error_than_the_scheme_makes_is_more_than_quantising(ratio: float, kinship: Kinship) -> None:
    verdict = said(outcomes(quantised(1.0), quantised(ratio)))
    assert verdict.kinship is kinship
    told = f"the error in '{UP.format(5)}' is {ratio:.2g} times the least of that scheme" in figures(verdict)
    assert told is (kinship is Kinship.FINE_TUNED)


@pytest.mark.parametrize(
    ("error", "kinship"),
    [(MOST_ERROR_OF_QUANTISED - 0.01, Kinship.QUANTISED), (MOST_ERROR_OF_QUANTISED, Kinship.FINE_TUNED)],
)
def test_of_a_scheme_without_a_known_least_error_the_error_itself_counts(error: float, kinship: Kinship) -> None:
    assert said(outcomes(quantised(NotFitted("its groups are not known"), error))).kinship is kinship


def test_where_each_is_quantised_in_part_neither_is_the_other_quantised() -> None:
    assert said(outcomes(quantised(), quantised(quantised=Side.A))).kinship is Kinship.FINE_TUNED


# ---- fine-tuned or merged


def test_a_fine_tuned_model_is_told_with_where_it_changed_and_how_far() -> None:
    verdict = said([*outcomes(IDENTICAL, NEAR), vector(NORM, NEAR)])
    assert verdict.kinship is Kinship.FINE_TUNED
    assert verdict.sentence == (
        "Versions of one model, one fine-tuned or merged from the other or both from a third: "
        "3 of 6 matrices and 1 of 1 vector changed, in blocks 1, 3, 5 (mlp.up 3, norm 1)."
    )
    assert verdict.figures[0].startswith("The cosine between the weights of a matrix in both is 1.000 in each, over 6")
    assert "The relative change of a matrix is 0.012 in the middle, 0.012 in 'model.layers" in figures(verdict)


def test_a_merged_lora_shows_as_a_change_of_low_rank() -> None:
    verdict = said(outcomes(of_rank(8)))
    assert verdict.kinship is Kinship.FINE_TUNED
    assert "The change of 6 of 6 matrices has a low rank, most often 8, as a merged LoRA would have." in verdict.figures


def test_a_few_rows_are_no_lora() -> None:
    assert "LoRA" not in figures(said(outcomes(of_rank(8, changed=8 * 128))))


def test_a_bounded_rank_is_no_low_rank() -> None:
    profile = RankProfile(ranks=(1, 64), energy=(0.1, 0.5), rank=64, rank_is_bound=True)
    assert "LoRA" not in figures(said(outcomes(different(0.02, profile))))


def test_one_changed_vector_is_told_as_that() -> None:
    verdict = said([*outcomes(IDENTICAL), vector(NORM, different(0.004, changed=512, largest=0.01))])
    assert verdict.kinship is Kinship.FINE_TUNED
    assert ": 1 of 1 vector changed, in block 3 (norm 1)." in verdict.sentence
    assert f"'{NORM}': 512 of 65,536 weights changed, by at most 0.01 (row 3, column 77); relative change 0.004." in (
        verdict.figures
    )


def test_one_weight_that_changed_is_told_with_its_place() -> None:
    profile = RankProfile(ranks=(1,), energy=(1.0,), rank=1, rank_is_bound=False)
    flipped = different(5e-8, profile, changed=1, cosine=1.0, largest=1.9e-6)
    verdict = said([*outcomes(IDENTICAL)[1:], layer(UP.format(0), flipped)])
    place = "1 of 65,536 weights changed, by at most 1.9e-06 (row 3, column 77); relative change 5e-08"
    assert f"'{UP.format(0)}': {place}." in verdict.figures
    assert "1 of 6 matrices changed, in block 0 (mlp.up 1)" in verdict.sentence


def test_one_nan_is_told_before_all_else() -> None:
    broken = different(0.0, changed=1, not_finite=1, cosine=1.0, largest=0.0)
    verdict = said([*outcomes(NEAR)[1:], layer(UP.format(0), broken)])
    assert verdict.figures[0] == (
        f"1 weight is NaN or infinite in one of the two and finite in the other, in '{UP.format(0)}'."
    )


def test_a_layer_of_another_shape_is_told_as_not_compared_and_not_as_changed() -> None:
    resized = layer("lm_head.weight", UNLIKE_SHAPES, a=HEAD)
    verdict = said([*outcomes(NEAR), resized])
    assert "6 of 7 matrices changed" in verdict.sentence
    assert f"1 layer not compared, {UNLIKE_SHAPES.reason}: 'lm_head.weight'." in verdict.figures


def test_what_only_one_has_is_named_where_nothing_else_changed() -> None:
    small = subject("router", role=Role.MLP_UP, rows=8, columns=8)
    verdict = said(outcomes(IDENTICAL), only_b=only(small))
    assert verdict.kinship is Kinship.FINE_TUNED
    assert verdict.sentence.endswith(": no layer that both have holds other weights.")
    assert "1 layer of B without counterpart: 'router'." in verdict.figures


@pytest.mark.parametrize(
    ("cosine", "kinship"),
    [
        (LEAST_COSINE_OF_VERSIONS, Kinship.FINE_TUNED),
        (LEAST_COSINE_OF_VERSIONS - 0.01, Kinship.RELATED),
        (LEAST_COSINE_OF_KIN, Kinship.RELATED),
        (LEAST_COSINE_OF_KIN - 0.01, Kinship.UNRELATED),
        (-0.5, Kinship.UNRELATED),
    ],
)
def test_the_middle_cosine_decides(cosine: float, kinship: Kinship) -> None:
    verdict = said(outcomes(different(1.0, cosine=cosine)))
    assert verdict.kinship is kinship
    assert f"{cosine:.3f} in each, over 6 hidden matrices" in figures(verdict)


def test_where_most_matrices_could_not_be_compared_they_are_not_called_versions() -> None:
    layers = outcomes(NEAR, UNLIKE_SHAPES, UNLIKE_SHAPES)
    assert said(layers).kinship is Kinship.RELATED


# ---- related


def test_blocks_that_both_have_make_them_related() -> None:
    verdict = said(outcomes(FAR), shared=0.5)
    assert verdict.kinship is Kinship.RELATED
    assert verdict.sentence.endswith("This is evidence, not a proof.")
    assert "50% of the smaller model's weights lie in matrices that the other has, too." in verdict.figures


@pytest.mark.parametrize(
    ("shared", "kinship"), [(LEAST_SHARED, Kinship.RELATED), (LEAST_SHARED - 0.001, Kinship.UNRELATED)]
)
def test_a_twentieth_of_the_weights_is_the_least_that_counts(shared: float, kinship: Kinship) -> None:
    assert said(outcomes(FAR), shared=shared).kinship is kinship


def test_blocks_left_out_make_them_related() -> None:
    verdict = said(outcomes(IDENTICAL), only_a=only(EXTRA), shared=1.0)
    assert verdict.kinship is Kinship.RELATED
    assert verdict.sentence == (
        "Related: the 6 layers of B hold weights of A, which has 1 layer more. This is evidence, not a proof."
    )
    grown = said(outcomes(IDENTICAL), only_b=only(EXTRA), shared=1.0)
    assert "the 6 layers of A hold weights of B, which has 1 layer more" in grown.sentence


def test_one_alike_matrix_may_be_chance_and_two_are_not() -> None:
    far, near = outcomes(FAR), outcomes(NEAR)
    assert said([*far[:5], near[5]]).kinship is Kinship.UNRELATED
    assert said([*far[:4], *near[4:]]).kinship is Kinship.RELATED


@pytest.mark.parametrize("name", list(TELLING_FROM))
def test_a_score_that_unrelated_models_cannot_reach_makes_them_related(name: str) -> None:
    bound = 0.01 + TELLING_FROM[name]
    assert said(outcomes(FAR), scores=[score(name, bound + 0.001)]).kinship is Kinship.RELATED
    assert said(outcomes(FAR), scores=[score(name, bound - 0.001)]).kinship is Kinship.UNRELATED


@pytest.mark.parametrize("name", ["depth profile", "embedding CKA", "embedding neighbours"])
def test_a_score_that_a_like_recipe_raises_never_makes_them_related(name: str) -> None:
    verdict = said(outcomes(FAR), scores=[score(name, 1.0)])
    assert verdict.kinship is Kinship.UNRELATED
    assert f"{name}: 1.000 over 8 matrices" in figures(verdict)


# ---- unrelated


def test_unrelated_is_said_with_its_limits_and_every_score() -> None:
    scores = [score("weight cosine", 0.001), score("depth profile", 0.9)]
    verdict = said(outcomes(FAR), scores=scores)
    assert verdict.sentence == (
        "Unrelated, as far as weights can tell: matched matrices are no more alike than those of unrelated models "
        "(median cosine 0.002)."
    )
    assert len(verdict.figures) == 1 + len(scores)


def test_cosines_that_unrelated_models_have_too_tell_nothing() -> None:
    alike = different(0.7, cosine=0.75)
    of_weights_with_a_common_mean = [score(WEIGHT_COSINE, 0.751, high=0.75)]
    verdict = said(outcomes(alike), scores=of_weights_with_a_common_mean)
    assert verdict.kinship is Kinship.UNRELATED
    assert "of unrelated ones up to 0.750" in verdict.figures[0]
    assert said(outcomes(alike), scores=[score(WEIGHT_COSINE, 0.75)]).kinship is Kinship.FINE_TUNED


def test_turned_signs_are_a_sign_of_kinship() -> None:
    verdict = said(outcomes(different(2.0, cosine=-0.99)), scores=[score(WEIGHT_COSINE, -0.99)])
    assert verdict.kinship is Kinship.RELATED
    assert "signs turned" in verdict.figures[0]


def test_the_same_weights_in_another_shape_are_not_identical() -> None:
    reshaped = [
        replace(each, match=replace(each.match, b=replace(each.match.b, rows=2 * each.match.a.rows)))
        for each in outcomes(IDENTICAL)[:1]
    ]
    verdict = said([*reshaped, *outcomes(IDENTICAL)[1:]])
    assert verdict.kinship is Kinship.SAME_WEIGHTS
    assert "1 layer in another shape" in verdict.sentence


def test_moved_rows_are_told_with_what_was_not_checked() -> None:
    def moved(rows: int, *, transposed: bool = False) -> Exact:
        found = Rearrangement(transposed=transposed, moved_rows=rows, moved_columns=0)
        return Exact(relation=Relation.REARRANGED, rearrangement=found)

    assert "moved alike was not checked" in figures(said(outcomes(moved(12))))
    assert "moved alike" not in figures(said(outcomes(moved(0, transposed=True))))


def test_two_quantised_versions_are_told_to_be_quantised() -> None:
    both = [
        replace(
            each,
            match=replace(each.match, a=replace(each.match.a, dtype="Q8_0"), b=replace(each.match.b, dtype="Q4_0")),
        )
        for each in outcomes(NEAR)
    ]
    assert "both are quantised (Q8_0 and Q4_0)" in said(both).sentence
    assert "quantised" not in said(outcomes(NEAR)).sentence


def test_a_model_of_embeddings_alone_is_judged_by_them() -> None:
    table = [
        replace(each, match=replace(each.match, a=replace(each.match.a, role=Role.EMBEDDING, depth=None)))
        for each in outcomes(NEAR)[:1]
    ]
    assert said(table).kinship is Kinship.FINE_TUNED


def test_what_could_not_be_read_is_the_reason_where_nothing_is_matched() -> None:
    verdict = said([], b=side("cut", complete=False), only_a=only(EXTRA))
    assert verdict.sentence.endswith("cannot be said: B could not be read.")


def test_unlike_shapes_everywhere_are_unrelated_once_a_score_was_had() -> None:
    wide = [
        replace(each, match=replace(each.match, b=replace(each.match.a, rows=1_024)))
        for each in outcomes(UNLIKE_SHAPES)
    ]
    assert said(wide, scores=[score("depth profile", 0.1)]).kinship is Kinship.UNRELATED
    assert said(wide).kinship is Kinship.CANNOT_BE_SAID
    some = [*wide[1:], *outcomes(HASHES_ONLY)[:1]]
    verdict = said(some, scores=[score("depth profile", 0.1)], not_exact=HASHES_ONLY)
    assert verdict.kinship is Kinship.CANNOT_BE_SAID


# ---- cannot be said


def test_of_models_without_a_common_layer_nothing_can_be_said() -> None:
    verdict = said([], only_a=only(EXTRA), only_b=only(HEAD, EXTRA))
    assert verdict.kinship is Kinship.CANNOT_BE_SAID
    assert "no layer of one could be matched" in verdict.sentence
    assert (
        "2 layers of B without counterpart: 'lm_head.weight', 'model.layers.6.mlp.up_proj.weight'." in verdict.figures
    )


def test_of_distributions_alone_nothing_can_be_said() -> None:
    verdict = said(outcomes(HASHES_ONLY), not_exact=HASHES_ONLY)
    assert verdict.kinship is Kinship.CANNOT_BE_SAID
    assert HASHES_ONLY.reason in verdict.sentence


def test_most_hashes_equal_are_versions_whose_others_were_not_compared() -> None:
    verdict = said(outcomes(IDENTICAL, IDENTICAL, HASHES_ONLY), not_exact=HASHES_ONLY)
    assert verdict.kinship is Kinship.FINE_TUNED
    assert "2 of 6 matrices changed" in verdict.sentence
    assert "4 of 6 layers have the very same bytes; the weights of the others were not compared" in figures(verdict)


@pytest.mark.parametrize("exact", [IDENTICAL, cast()])
def test_what_was_not_read_is_never_called_the_same(exact: Exact) -> None:
    broken = side("new", complete=False, not_compared=(("model-2.safetensors", "it is cut off"),))
    lost = only(EXTRA, reason="not in B")
    for known in ({"b": broken}, {"b": broken, "only_a": lost}, {"a": broken, "only_b": lost}):
        verdict = said(outcomes(exact), **known, shared=1.0)
        assert verdict.kinship is Kinship.CANNOT_BE_SAID
        assert "the 6 layers that could be compared hold the same weights" in verdict.sentence
        assert "not all could be read: 'model-2.safetensors'." in figures(verdict)


def test_an_unread_layer_is_neither_the_same_nor_changed() -> None:
    unread = layer(UP.format(0), Unread("the disk failed", side=Side.B))
    verdict = said([unread, *outcomes(IDENTICAL)[1:]])
    assert verdict.kinship is Kinship.CANNOT_BE_SAID
    assert f"1 layer could not be read: '{UP.format(0)}'." in verdict.figures
    changed = said([unread, *outcomes(NEAR)[1:]])
    assert changed.kinship is Kinship.FINE_TUNED
    assert "5 of 6 matrices changed, in blocks 1-5" in changed.sentence
    assert f"1 layer could not be read: '{UP.format(0)}'." in changed.figures


def test_a_layer_missing_where_all_was_read_is_not_put_down_to_reading() -> None:
    broken = side("base", complete=False, not_compared=(("model-2.safetensors", "it is cut off"),))
    assert said(outcomes(IDENTICAL), a=broken, only_a=only(EXTRA), shared=1.0).kinship is Kinship.RELATED


# ---- words


def test_names_that_a_stranger_chose_are_quoted_and_cut() -> None:
    name = "model.layers.0.\x1b[2J\n" + 500 * "x"
    hostile = subject(name)
    for exact in (IDENTICAL, NEAR, FAR, cast(overflowed=1), quantised(5.0), Unread("no", side=None), UNLIKE_SHAPES):
        verdict = said([layer(name, exact, a=hostile), *outcomes(exact)], only_a=only(hostile))
        assert all(len(words) < 1_000 for words in (verdict.sentence, *verdict.figures))


def test_many_blocks_and_roles_are_named_in_a_bounded_sentence() -> None:
    roles = [role for role in Role if role is not Role.BUFFER]
    layers = [
        layer(f"{number}", NEAR, a=subject(f"{number}", role=roles[number % len(roles)], depth=2 * number))
        for number in range(200)
    ]
    assert len(said(layers).sentence) < 500


def test_without_a_difference_a_changed_layer_is_still_counted() -> None:
    verdict = said([*outcomes(NEAR)[1:], layer(UP.format(0), Exact(relation=Relation.DIFFERENT))])
    assert "6 of 6 matrices changed" in verdict.sentence
