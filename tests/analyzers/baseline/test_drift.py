"""Every fault is told, by the rule it belongs to and in words that say what happened; what is healthy is not."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaynes_audit.analyzers.baseline.drift import counterparts, unexpected_dtypes
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import Level
from jaynes_audit.analyzers.rules.policy import Expectation
from tests.support import audits
from tests.support.baselines import (
    TARGET,
    TRAINED,
    USUAL,
    Weights,
    baseline_at,
    measured,
    network,
    rules_and_subjects,
    told,
)

FIXTURES = Path(__file__).parents[3] / "fixtures"
HURT = "model.layers.2.self_attn.o_proj.weight"
OTHER = "model.layers.3.self_attn.o_proj.weight"
GAIN = "model.layers.2.input_layernorm.weight"
DICE = np.random.default_rng(7)
SHUFFLED = DICE.permutation(64)


def with_value(matrix: np.ndarray, value: float) -> np.ndarray:
    matrix = matrix.copy()
    matrix[3, 4] = value
    return matrix


def with_rows(matrix: np.ndarray, rows: int, factor: float) -> np.ndarray:
    matrix = matrix.copy()
    matrix[:rows] *= factor
    return matrix


def exchanged(matrix: np.ndarray) -> np.ndarray:
    return matrix[[1, 0, *range(2, len(matrix))]]


FAULTS: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], str, str]] = {
    "a NaN": (lambda matrix: with_value(matrix, np.nan), "JN407", "NaN or infinite weights: 1 in this model, 0 in"),
    "an infinity": (lambda matrix: with_value(matrix, np.inf), "JN407", "NaN or infinite weights: 1"),
    "a flipped exponent bit": (lambda matrix: with_value(matrix, 3e38), "JN407", "the largest weight is 3e+38"),
    "a zeroed row": (lambda matrix: with_rows(matrix, 1, 0.0), "JN404", "0.0% zeros in the baseline, 1.6% in"),
    "a zeroed matrix": (lambda matrix: matrix * 0, "JN404", "100.0% in this model"),
    "rows in another order": (lambda matrix: matrix[SHUFFLED], "JN407", "the rows of the baseline in another order"),
    "columns in another order": (lambda matrix: matrix[:, SHUFFLED], "JN407", "the columns of the baseline in"),
    "two rows exchanged": (exchanged, "JN407", "the rows of the baseline in another order"),
    "transposed": (lambda matrix: matrix.T.copy(), "JN407", "the matrix of the baseline, transposed"),
    "twice as large": (lambda matrix: matrix * 2, "JN402", "weights 2 times as large"),
    "smaller by the root of two": (lambda matrix: matrix * 2**-0.5, "JN402", "weights 0.707 times as large"),
    "5 % larger": (lambda matrix: matrix * 1.05, "JN402", "weights 1.05 times as large"),
    "2 % larger": (lambda matrix: matrix * 1.02, "JN407", "the weights are 1.02 times as large as in the baseline"),
    "the other sign": (lambda matrix: -matrix, "JN407", "the same magnitudes as in the baseline, "),
    "a few rows of the other sign": (lambda matrix: with_rows(matrix, 5, -1.0), "JN407", "the same magnitudes as in"),
    "other weights": (lambda matrix: matrix[:, ::-1] * DICE.choice([0.9, 1.1], matrix.shape), "JN407", "other weights"),
    "1 % of noise": (lambda matrix: matrix + DICE.normal(0, 3e-4, matrix.shape), "JN407", "about 0."),
}
SEEN_THROUGH_TRAINING = [
    *("a zeroed row", "a zeroed matrix", "rows in another order", "columns in another order", "two rows exchanged"),
    *("transposed", "twice as large", "smaller by the root of two", "5 % larger", "the other sign"),
]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> object:
    return measured(tmp_path_factory.mktemp("healthy"), network())


def hurt(change: Callable[[np.ndarray], np.ndarray], name: str = HURT) -> Weights:
    weights = network()
    return weights | {name: change(weights[name])}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_layer_is_told_of_it_alone(fault: str, healthy, tmp_path: Path) -> None:
    change, rule, words = FAULTS[fault]
    found = told(healthy, measured(tmp_path, hurt(change)))
    assert {each.subject for each in found} == {HURT}
    [sentence] = [each.sentence for each in found if each.rule == rule]
    assert words in sentence
    assert Level.ERROR in {each.level for each in found}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "noise" not in fault])
def test_a_fault_is_told_through_a_cast_too(fault: str, healthy, tmp_path: Path) -> None:
    change, _, _ = FAULTS[fault]
    found = told(healthy, measured(tmp_path, hurt(change), Dtype.BF16))
    errors = [each for each in found if each.level is Level.ERROR]
    assert {each.subject for each in errors} == {HURT}


@pytest.mark.parametrize("fault", SEEN_THROUGH_TRAINING)
def test_what_training_cannot_do_is_told_where_training_went_on(fault: str, healthy, tmp_path: Path) -> None:
    change, _, _ = FAULTS[fault]
    found = told(healthy, measured(tmp_path, hurt(change)), TRAINED)
    assert {each.subject for each in found if each.level is Level.ERROR} == {HURT}


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F16])
@pytest.mark.parametrize("policy", [USUAL, TRAINED], ids=["as it is", "trained"])
def test_layers_that_changed_places_are_told_by_name(dtype: Dtype, policy, healthy, tmp_path: Path) -> None:
    weights = network()
    found = told(healthy, measured(tmp_path, weights | {HURT: weights[OTHER], OTHER: weights[HURT]}, dtype), policy)
    sentences = {each.subject: each.sentence for each in found if each.rule == "JN407"}
    assert sentences == {
        HURT: f"holds the weights that '{OTHER}' has in the baseline",
        OTHER: f"holds the weights that '{HURT}' has in the baseline",
    }


def test_a_vector_is_told_apart_by_its_magnitudes_and_by_its_content(healthy, tmp_path: Path) -> None:
    for change, words in ((lambda gain: gain * 1.05, "1.05 times"), (lambda gain: gain[::-1], "in another order")):
        found = told(healthy, measured(tmp_path, hurt(change, GAIN)))
        assert rules_and_subjects(found) == [("JN407", GAIN)]
        assert words in found[0].sentence


# ---- names


def test_a_layer_that_is_gone_and_one_that_came_are_told(healthy, tmp_path: Path) -> None:
    weights = network()
    del weights[HURT]
    assert rules_and_subjects(told(healthy, measured(tmp_path, weights))) == [("JN201", HURT)]
    more = measured(tmp_path, network() | {"model.new.weight": np.ones((8, 8))})
    assert rules_and_subjects(told(healthy, more)) == [("JN202", "model.new.weight")]


@pytest.mark.parametrize("name", [f"{HURT}_v2", f"module.{HURT}", "model.layers.2.attention.out.weight"])
def test_a_name_that_changed_alone_is_told_and_where_its_content_is(name: str, healthy, tmp_path: Path) -> None:
    weights = {(name if each == HURT else each): values for each, values in network().items()}
    found = told(healthy, measured(tmp_path, weights))
    assert rules_and_subjects(found) == [("JN201", HURT), ("JN202", name)]
    assert found[0].sentence == f"not in this model, but its very content is there as {name!r}"


def test_of_a_model_that_was_not_read_whole_nothing_is_called_missing(healthy, tmp_path: Path) -> None:
    weights = network()
    del weights[HURT]
    assert told(healthy, measured(tmp_path, weights), is_whole=False) == []


def test_a_head_that_is_the_embedding_may_be_stored_once_or_twice(tmp_path: Path) -> None:
    weights = network()
    once = measured(tmp_path, weights)
    twice = measured(tmp_path, weights | {"lm_head.weight": weights["model.embed_tokens.weight"]})
    in_bf16 = measured(tmp_path, weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}, Dtype.BF16)
    assert told(once, twice) == told(twice, once) == []
    assert {each.rule for each in told(once, in_bf16)} == {"JN204"}
    other = measured(tmp_path, weights | {"lm_head.weight": weights["model.embed_tokens.weight"] * 2})
    assert rules_and_subjects(told(once, other)) == [("JN407", "lm_head.weight")]  # loaders would use it
    assert rules_and_subjects(told(other, once)) == [("JN201", "lm_head.weight")]


# ---- what is healthy


def prefixed(weights: Weights) -> Weights:
    return {f"module.{name}": values for name, values in weights.items()}


def bare(weights: Weights) -> Weights:
    return {name.removeprefix("model."): values for name, values in weights.items()}


def test_names_that_all_changed_alike_are_known_by_those_they_had(healthy, tmp_path: Path) -> None:
    found = counterparts(healthy, measured(tmp_path, prefixed(network())))
    assert found == {entry.name: f"module.{entry.name}" for entry in healthy.entries}


@pytest.mark.parametrize("change", [prefixed, bare, lambda weights: dict(reversed(weights.items()))])
def test_names_that_all_changed_alike_and_another_order_of_the_file_are_healthy(change, healthy, tmp_path) -> None:
    assert told(healthy, measured(tmp_path, change(network()))) == []


def through(dtype: object) -> Weights:
    return {name: values.astype(dtype).astype(np.float32) for name, values in network().items()}


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_weights_that_went_through_a_narrower_format_and_back_are_healthy(dtype, healthy, tmp_path: Path) -> None:
    assert told(healthy, measured(tmp_path, through(dtype))) == []


@pytest.mark.parametrize("before", [Dtype.F64, Dtype.F32, Dtype.BF16, Dtype.F16])
@pytest.mark.parametrize("now", [Dtype.F64, Dtype.F32, Dtype.BF16, Dtype.F16])
def test_a_cast_is_healthy_and_told_once_as_a_warning(before: Dtype, now: Dtype, tmp_path: Path) -> None:
    old = measured(tmp_path, network(), before)
    found = told(old, measured(tmp_path, network(), now))
    expected = [("JN204", TARGET, Level.WARNING)] if before is not now else []
    assert [(each.rule, each.subject, each.level) for each in found] == expected
    as_expected = replace(USUAL, expect=Expectation(dtype=now.value))
    assert told(old, measured(tmp_path, network(), now), as_expected) == []


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_real_casts_and_shards_are_healthy(name: str) -> None:
    found = told(baseline_at(FIXTURES / "babble" / "fp32"), baseline_at(FIXTURES / "babble" / name))
    assert {each.rule for each in found} <= {"JN204"}


def test_a_model_is_no_other_than_itself(healthy) -> None:
    assert told(healthy, healthy) == []


@pytest.mark.parametrize("step", [1e-3, 1e-2, 5e-2])
def test_a_step_of_training_is_healthy_where_it_is_expected(step: float, healthy, tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    now = {name: each + dice.normal(0, step * each.std(), each.shape) for name, each in network().items()}
    assert told(healthy, measured(tmp_path, now), TRAINED) == []


# ---- the model as a whole


def test_other_weights_throughout_are_told_once(healthy, tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    now = {name: each + dice.normal(0, 1e-3 * each.std(), each.shape) for name, each in network().items()}
    [found] = told(healthy, measured(tmp_path, now))
    assert (found.rule, found.subject) == ("JN407", TARGET)
    assert found.sentence.startswith("16 of 16 layers hold other weights than in the baseline; if training went on")


def test_one_factor_of_all_matrices_is_told_once_with_it(healthy, tmp_path: Path) -> None:
    now = {name: each * (2 if each.ndim == 2 else 1) for name, each in network().items()}
    [found] = told(healthy, measured(tmp_path, now))
    assert (found.rule, found.subject) == ("JN405", TARGET)
    assert found.sentence.endswith("mu moved by +0.693 in 11 of 11 matrices: weights 2 times as large")


def test_what_is_unchanged_although_it_was_trained_is_told_when_asked_for(healthy) -> None:
    asked = replace(TRAINED, on=frozenset({"JN406"}), expect=Expectation(changed=("*.mlp.*",)))
    found = told(healthy, healthy, asked)
    assert len(found) == 5
    assert {each.rule for each in found} == {"JN406"}


def test_what_a_narrow_format_flushed_is_told_of_matrices_alone(tmp_path: Path) -> None:
    small = {name: each * 0.016 for name, each in network().items()} | {GAIN: network()[GAIN] * 1e-6}
    before = measured(tmp_path, small)
    as_expected = replace(USUAL, expect=Expectation(dtype="F16"))
    found = told(before, measured(tmp_path, small, Dtype.F16), as_expected)
    assert {each.rule for each in found} == {"JN106"}
    assert all("of the weights are zero or subnormal, 0.0% in the baseline" in each.sentence for each in found)
    assert GAIN not in {each.subject for each in found}
    assert told(before, measured(tmp_path, small, Dtype.BF16), replace(USUAL, expect=Expectation(dtype="BF16"))) == []


# ---- what a project decides


def test_levels_and_thresholds_are_those_of_the_policy(healthy, tmp_path: Path) -> None:
    now = measured(tmp_path, hurt(lambda matrix: matrix * 2))
    strict = replace(USUAL, levels={"JN402": Level.NOTE, "JN407": Level.WARNING})
    found = told(healthy, now, strict)
    assert [(each.rule, each.level) for each in found] == [("JN402", Level.NOTE), ("JN407", Level.WARNING)]
    lenient = replace(USUAL, thresholds=USUAL.thresholds.with_values({"mu-abs": 1.0}))
    assert [each.rule for each in told(healthy, now, lenient) if each.level is Level.ERROR] == ["JN407"]
    assert told(healthy, now, replace(USUAL, on=USUAL.on - {"JN402", "JN407"})) == []


def test_a_format_that_is_not_the_expected_one_is_told_with_and_without_a_baseline(healthy) -> None:
    expected = replace(USUAL, expect=Expectation(dtype="bf16"))
    [found] = told(healthy, healthy, expected)
    assert (found.rule, found.subject) == ("JN204", TARGET)
    assert found.sentence.startswith("F32 in this model, BF16 expected")
    audit = audits.audit(audits.layer("a.weight"), audits.layer("b.weight"))
    in_another = replace(expected, expect=Expectation(dtype="f8_e4m3"))
    assert [each.subject for each in unexpected_dtypes(audit, in_another)] == ["a.weight", "b.weight"]
    assert list(unexpected_dtypes(audit, USUAL)) == []
