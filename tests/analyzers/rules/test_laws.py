"""What the rules about laws make of weights whose law is known, and of networks that were really trained."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.audit import Audit, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import USUAL_THRESHOLDS, Finding, Level, ModelRule, Thresholds
from jaynes_audit.analyzers.rules.initial import (
    LEAST_SIDE,
    Initialiser,
    initialiser_of,
    left_at_initialisation,
    untouched_initialisation,
)
from jaynes_audit.analyzers.rules.laws import (
    LAW_RULES,
    lognormal_misfit,
    outlier_layer,
    trend_break,
    universality_break,
)
from tests.rules.cases_structure import CONFIG, INNER, WIDTH, Weights, drawn, llama, trained, up, with_wide_law, written
from tests.support.audits import audit, layer
from tests.support.checkpoints import checkpoint, stored

FIXTURES = Path(__file__).parents[3] / "fixtures"
RULES = [rule for rule in LAW_RULES if isinstance(rule, ModelRule)]


def found(rule: ModelRule, audited: Audit, limits: Thresholds = USUAL_THRESHOLDS) -> list[Finding]:
    return list(rule.findings(audited, lambda _: limits))


def audited(folder: Path, weights: Weights, config: dict[str, object] | None = None) -> Audit:
    return audit_checkpoint(written(folder, weights, config))


@cache
def fixture(place: str) -> Audit:
    return audit_checkpoint(open_checkpoint(str(FIXTURES / place)))


def matrix(folder: Path, weights: np.ndarray, dtype: Dtype = Dtype.F32) -> Initialiser | None:
    (measured,) = audit_checkpoint(checkpoint(folder, {up(0): stored(weights, dtype)}))
    return initialiser_of(measured)


def truncated(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    weights = rng.normal(size=4 * shape[0] * shape[1])
    return weights[np.abs(weights) < 2][: shape[0] * shape[1]].reshape(shape)


# ---- the law of an initialiser


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F16])
@pytest.mark.parametrize("shape", [(64, 64), (256, 64), (300, 400)])
def test_initialisers_are_known_by_their_law(shape: tuple[int, int], dtype: Dtype, tmp_path: Path) -> None:
    rng = np.random.default_rng(shape[0])
    for name, weights in {
        "normal": rng.normal(0, 0.02, shape),
        "truncated normal": 0.02 * truncated(shape, rng),
        "uniform": rng.uniform(-0.1, 0.1, shape),
    }.items():
        (folder := tmp_path / name).mkdir()
        law = matrix(folder, weights, dtype)
        assert law is not None
        assert law.name == name or (min(shape) == LEAST_SIDE and "normal" in law.name)


def test_hardly_a_fresh_matrix_in_a_hundred_is_taken_for_trained(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tensors = {f"layers.{at}.mlp.up.weight": stored(rng.normal(size=(96, 128))) for at in range(200)}
    fresh = audit_checkpoint(checkpoint(tmp_path, tensors))
    assert sum(initialiser_of(each) is None for each in fresh) <= 4


@pytest.mark.parametrize("law", ["rows", "columns", "laplace", "lognormal", "t", "zeros", "few"])
def test_other_weights_are_not(law: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    normal = rng.normal(size=(192, 128))
    weights = {
        "rows": normal * np.exp(rng.normal(0, 0.1, (192, 1))),
        "columns": normal * np.exp(rng.normal(0, 0.1, (1, 128))),
        "laplace": rng.laplace(size=(192, 128)),
        "lognormal": rng.lognormal(size=(192, 128)) * np.sign(normal),
        "t": rng.standard_t(6, size=(192, 128)),
        "zeros": np.where(rng.random((192, 128)) < 0.1, 0, normal),
        "few": normal[:, :32],
    }
    assert matrix(tmp_path, weights[law]) is None


def test_a_model_that_was_not_trained_gets_one_note() -> None:
    (finding,) = found(untouched_initialisation, fixture("babble/step0"))
    assert "law of a normal initialiser; of 30 matrices so have" in finding.sentence
    assert finding.sentence.endswith("and 26 more")


def test_a_trained_model_gets_none() -> None:
    assert found(untouched_initialisation, fixture("babble/fp32")) == []


# ---- a block that was left


@pytest.mark.parametrize(
    ("declared", "level"), [(0.02, Level.WARNING), (0.05, Level.NOTE), (None, Level.NOTE), ("wide", Level.NOTE)]
)
@pytest.mark.parametrize("block", [0, 3, 7])
def test_a_matrix_that_was_left_is_named(block: int, declared: object, level: Level, tmp_path: Path) -> None:
    fresh = drawn(INNER, WIDTH, np.random.default_rng(11))
    config = CONFIG | {"initializer_range": declared}
    (finding,) = found(left_at_initialisation, audited(tmp_path, llama() | {up(block): fresh}, config))
    assert finding.subject == up(block)
    assert finding.level == level
    assert finding.sentence == (
        "has the law of a normal initialiser, unlike most of the 7 other blocks of 'model.layers'"
    )


def test_a_block_that_was_left_is_one_finding(tmp_path: Path) -> None:
    fresh = {name: each for name, each in llama(drawn).items() if ".5." in name}
    (finding,) = found(left_at_initialisation, audited(tmp_path, llama() | fresh))
    assert finding.subject.startswith("model.layers.5.")
    assert finding.level is Level.WARNING
    assert "; so have" in finding.sentence


def test_where_most_blocks_were_left_none_stands_out(tmp_path: Path) -> None:
    fresh = {name: each for name, each in llama(drawn).items() if name.split(".")[2:3] > ["2"]}
    assert found(left_at_initialisation, audited(tmp_path, llama() | fresh)) == []


@pytest.mark.parametrize("place", ["babble/fp32", "babble/bf16", "babble/step0", "run/checkpoint-300"])
def test_no_block_of_a_real_checkpoint_was_left(place: str) -> None:
    assert found(left_at_initialisation, fixture(place)) == []


# ---- laws


def test_a_misfit_is_one_note_for_its_role(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    flat = {up(block): rng.uniform(-0.1, 0.1, (INNER, WIDTH)) for block in range(4)}
    (finding,) = found(lognormal_misfit, audited(tmp_path, llama() | flat))
    assert finding.sentence.endswith("the greatest of 4 beyond the limit among 8 layers of mlp.up")


def test_the_limit_of_a_misfit_may_be_another(tmp_path: Path) -> None:
    plain = audited(tmp_path, llama())
    assert found(lognormal_misfit, plain) == []
    assert len(found(lognormal_misfit, plain, Thresholds(ks_distance=0.05))) == len(
        {each.role for each in plain if each.connected}
    )


def test_a_layer_of_another_law_stands_out(tmp_path: Path) -> None:
    odd = audited(tmp_path, with_wide_law(llama()))
    assert {finding.subject for finding in found(outlier_layer, odd)} == {up(3)}
    assert {finding.subject for finding in found(universality_break, odd)} == {up(3)}


def test_a_layer_that_was_scaled_by_three_stands_out(tmp_path: Path) -> None:
    weights = llama()
    (finding,) = found(outlier_layer, audited(tmp_path, weights | {up(3): 3 * weights[up(3)]}))
    assert finding.subject == up(3)
    assert finding.sentence.startswith("mu ")


def test_identical_layers_make_no_noise() -> None:
    like = layer("model.layers.0.mlp.up_proj.weight")
    copies = [replace(like, name=f"model.layers.{at}.mlp.up_proj.weight") for at in range(100)]
    assert [found(rule, audit(*copies)) for rule in (outlier_layer, universality_break, trend_break)] == [[], [], []]


def test_a_jump_is_told_with_its_blocks(tmp_path: Path) -> None:
    weights = llama()
    late = {up(block): 2.5 * weights[up(block)] for block in range(4, 8)}
    (finding,) = found(trend_break, audited(tmp_path, weights | late))
    assert finding.subject == up(4)
    assert finding.sentence.startswith("mu jumps by +0.9")
    assert finding.sentence.endswith("from block 3 to block 4")


@pytest.mark.parametrize("place", ["babble/fp32", "babble/fp16", "babble/step0", "run/checkpoint-3000"])
@pytest.mark.parametrize("rule", [outlier_layer, universality_break, trend_break], ids=lambda rule: rule.code)
def test_no_layer_of_a_real_checkpoint_stands_out(rule: ModelRule, place: str) -> None:
    assert found(rule, fixture(place)) == []


# ---- odd audits


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_there_may_be_nothing_to_judge(rule: ModelRule) -> None:
    nothing = NotFitted("every weight is zero or not finite")
    bare = layer("layers.0.mlp.up.weight", fitted=nothing)
    vector = layer("layers.0.norm.weight", rows=256, columns=1)
    for odd in (audit(), audit(bare), audit(vector), audit(*([bare] * 20))):
        assert found(rule, odd) == []


def test_all_but_a_block_that_was_left_are_notes() -> None:
    assert {rule.code: rule.level for rule in RULES if rule.level is not Level.NOTE} == {"JN113": Level.WARNING}


def test_trained_matrices_of_these_tests_look_trained(tmp_path: Path) -> None:
    assert matrix(tmp_path, trained(INNER, WIDTH, np.random.default_rng(13))) is None
