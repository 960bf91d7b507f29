"""A baseline as one side of a comparison: how it is found, what it can tell, and what it cannot."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.baseline.entry import QUANTILE_PROBABILITIES
from jaynes_audit.analyzers.baseline.operand import kept_model, open_operands
from jaynes_audit.analyzers.baseline.text import to_text
from jaynes_audit.analyzers.checkpoints import Checkpoint, open_checkpoint
from jaynes_audit.analyzers.comparison.comparison import NOT_MEASURED, Comparison, Manner, compare
from jaynes_audit.analyzers.comparison.distances import Distances
from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Relation
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.kept import NOT_KEPT, KeptModel
from jaynes_audit.analyzers.comparison.parameters import Parameters
from jaynes_audit.analyzers.comparison.quantiles import (
    ONLY_QUANTILES,
    Quantiles,
    quantile_distances,
    quantile_gap,
)
from jaynes_audit.analyzers.comparison.verdict import Kinship
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import JaynesError, UsageError
from tests.support import audits
from tests.support.baseline_operand_fuzz import FUZZ
from tests.support.baselines import Weights, baseline_at, network
from tests.support.checkpoints import stored, write_file
from tests.support.fuzzing import survive

UP = "model.layers.1.mlp.up_proj.weight"
NAME = "model.jaynes.jsonl"
WEIGHTS = 200_000


def saved(folder: Path, weights: Mapping[str, np.ndarray], dtype: Dtype = Dtype.F32, name: str = "model") -> Path:
    path = folder / f"{name}.safetensors"
    write_file(path, {each: stored(values, dtype) for each, values in weights.items()})
    return path


def kept(target: Path, name: str = NAME) -> str:
    """The baseline of a model, written beside it."""
    path = target.with_name(name)
    path.write_text(to_text(baseline_at(target)))
    return str(path)


def reported(target: Path) -> str:
    """The report on a model, written beside it."""
    path = target.with_suffix(".json")
    path.write_bytes(msgspec.json.encode(audits.report(audit_checkpoint(open_checkpoint(str(target))))))
    return str(path)


def compared(a: object, b: object) -> Comparison:
    operands = [*open_operands(str(a)), *open_operands(str(b))]
    (comparison,) = compare(operands, Manner(jobs=1))
    return comparison


def changed(**layers: np.ndarray) -> Weights:
    return network() | layers


def quantiles(log_magnitudes: np.ndarray, dtype: str = "F32", unused_bits: int = 0) -> Quantiles:
    logs = np.quantile(log_magnitudes, QUANTILE_PROBABILITIES).tolist()
    return Quantiles(logs=tuple(logs), dtype=dtype, unused_bits=unused_bits)


# ---- quantiles


def test_a_layer_and_a_multiple_of_it_are_the_logarithm_of_the_factor_apart() -> None:
    logs = np.random.default_rng(1).normal(-4, 1.1, 1000)
    apart = quantile_distances(quantiles(logs), quantiles(logs + np.log(1.05)), QUANTILE_PROBABILITIES)
    assert apart.wasserstein == pytest.approx(np.log(1.05), rel=1e-9)
    assert (apart.ks, apart.jensen_shannon) == (ONLY_QUANTILES, ONLY_QUANTILES)


@pytest.mark.parametrize("spread", [0.8, 1.0, 1.3])
def test_the_wasserstein_distance_is_nearly_that_of_all_weights(spread: float) -> None:
    dice = np.random.default_rng(2)
    a, b = np.log(np.abs(dice.normal(0, 1, WEIGHTS))), spread * np.log(np.abs(dice.standard_t(4, WEIGHTS)))
    exact = stats.wasserstein_distance(a, b)
    told = quantile_distances(quantiles(a), quantiles(b), QUANTILE_PROBABILITIES).wasserstein
    assert told == pytest.approx(exact, abs=0.01 + 0.06 * exact)


@pytest.mark.parametrize("dtype", [Dtype.F16, Dtype.BF16])
def test_the_same_weights_in_another_format_are_at_distance_0(dtype: Dtype, tmp_path: Path) -> None:
    exact, rounded = saved(tmp_path, network()), saved(tmp_path, network(), dtype, name="rounded")
    for layer in compared(kept(exact), rounded).layers:
        assert isinstance(layer.distances, Distances)
        assert layer.distances.wasserstein == 0
        assert layer.quantile_gap == 0


def test_a_gap_between_quantiles_is_one_that_chance_does_not_make() -> None:
    dice = np.random.default_rng(3)
    a, again = (np.quantile(dice.normal(0, 1, WEIGHTS), QUANTILE_PROBABILITIES) for _ in range(2))
    beyond = {"chance": 3 * np.sqrt(2 / WEIGHTS), "cell": 0.0}
    assert quantile_gap(a, again, QUANTILE_PROBABILITIES, **beyond) == 0
    assert quantile_gap(a, a + 0.2, QUANTILE_PROBABILITIES, **beyond) == pytest.approx(0.2)
    assert quantile_gap(a, a + 0.2, QUANTILE_PROBABILITIES, chance=0.0, cell=0.3) == 0


def test_few_values_are_told_from_many() -> None:
    assert quantiles(np.random.default_rng(4).normal(0, 1, 1000)).is_spread
    assert not quantiles(np.linspace(0, 2**-7, 1000)).is_spread  # one value: what it is read from is one cell


# ---- what it tells


def test_a_model_holds_the_weights_of_its_own_baseline(tmp_path: Path) -> None:
    model = saved(tmp_path, network())
    for a, b in (
        (kept(model), model),
        (model, kept(model)),
        (kept(model), kept(model)),
        (kept(model), reported(model)),
    ):
        comparison = compared(a, b)
        assert comparison.verdict.kinship is Kinship.SAME_WEIGHTS
        assert not comparison.measured
        assert not findings_of(comparison)


def test_buffers_keep_a_baseline_from_being_called_identical(tmp_path: Path) -> None:
    comparison = compared(kept(saved(tmp_path, network())), tmp_path / NAME)
    assert "not all was compared" in comparison.verdict.sentence
    assert [name for name, _ in comparison.a.not_compared] == ["buffers"]


def test_parameters_are_those_that_reports_give(tmp_path: Path) -> None:
    a, b = saved(tmp_path, network()), saved(tmp_path, changed(**{UP: 2 * network()[UP]}), name="b")
    of_reports = compared(reported(a), reported(b))
    for sides in ((kept(a), kept(b, "b.jaynes.jsonl")), (kept(a), b), (a, kept(b, "b.jaynes.jsonl"))):
        for layer, other in zip(compared(*sides).layers, of_reports.layers, strict=True):
            assert isinstance(layer.parameters, Parameters)
            assert isinstance(other.parameters, Parameters)
            assert layer.match.a.name == other.match.a.name
            assert layer.parameters.log_mean.b == pytest.approx(other.parameters.log_mean.b, rel=1e-5)
            assert layer.parameters.log_mean.change == pytest.approx(other.parameters.log_mean.change, abs=1e-4)
            assert layer.parameters.log_sigma.change == pytest.approx(other.parameters.log_sigma.change, abs=1e-4)
            if not isinstance(layer.parameters.log_sigma.error, NotFitted):
                assert layer.parameters.log_sigma.error == pytest.approx(other.parameters.log_sigma.error, rel=1e-4)


def test_a_layer_that_did_not_change_differs_by_nothing(tmp_path: Path) -> None:
    a, b = saved(tmp_path, network()), saved(tmp_path, changed(**{UP: 2 * network()[UP]}), name="b")
    for layer in compared(kept(a), b).layers:
        assert isinstance(layer.parameters, Parameters)
        is_same = layer.match.a.name != UP
        assert (layer.exact == Exact(relation=Relation.IDENTICAL)) is is_same
        assert (layer.parameters.log_mean.change == 0) is is_same
        assert (layer.distances == NOT_MEASURED) is is_same


def test_what_drifted_is_a_finding_as_in_the_gate(tmp_path: Path) -> None:
    a = saved(tmp_path, network())
    narrow = np.sign(network()[UP]) * 0.0155 * np.abs(network()[UP] / 0.02) ** 0.6
    for weights, rule in ((2 * network()[UP], "JN402"), (narrow, "JN401")):
        b = saved(tmp_path, changed(**{UP: weights}), name="b")
        for side in (b, kept(b, "b.jaynes.jsonl")):
            found = findings_of(compared(kept(a), side))
            assert (rule, UP) in [(each.rule, each.subject) for each in found]


def test_the_shape_of_a_law_is_judged_by_its_quantiles(tmp_path: Path) -> None:
    """Of equal mean and spread of ln|w|, so that nothing but the quantiles tell them apart."""
    dice = np.random.default_rng(6)
    normal, skewed = dice.normal(0, 1, (200, 200)), dice.exponential(1, (200, 200)) - 1
    a = saved(tmp_path, changed(**{UP: np.exp(-4 + normal)}))
    b = saved(tmp_path, changed(**{UP: np.exp(-4 + skewed)}), name="b")
    found = findings_of(compared(kept(a), b))
    assert [(each.rule, each.subject) for each in found if each.rule == "JN403"] == [("JN403", UP)]
    assert "sigma apart" in next(each.sentence for each in found if each.rule == "JN403")


def test_layers_that_only_one_has_are_named(tmp_path: Path) -> None:
    fewer = {name: each for name, each in network().items() if name != UP}
    a, b = saved(tmp_path, network()), saved(tmp_path, fewer, name="b")
    assert [each.subject.name for each in compared(kept(a), b).only_a] == [UP]
    assert [each.subject.name for each in compared(b, kept(a)).only_b] == [UP]


def test_a_head_that_is_the_embedding_may_be_stored_once(tmp_path: Path) -> None:
    tied = network() | {"lm_head.weight": network()["model.embed_tokens.weight"]}
    twice, once = saved(tmp_path, tied), saved(tmp_path, network(), name="once")
    comparison = compared(kept(twice), once)
    assert comparison.verdict.kinship is Kinship.SAME_WEIGHTS
    assert not comparison.only_a
    assert "'lm_head.weight' is 'model.embed_tokens.weight', stored once" in comparison.remarks


def test_models_that_share_matrices_are_related(tmp_path: Path) -> None:
    """In other places, so that no layer has the bytes of its counterpart."""
    known, moved = network(), network(seed=7)
    for block in range(4):
        moved[f"model.layers.{block}.self_attn.o_proj.weight"] = known[
            f"model.layers.{block + 1}.self_attn.o_proj.weight"
        ]
    a, b = saved(tmp_path, known), saved(tmp_path, moved, name="b")
    assert compared(kept(a), kept(b, "b.jaynes.jsonl")).verdict.kinship is Kinship.RELATED


def test_what_cannot_be_said_says_why(tmp_path: Path) -> None:
    a, b = saved(tmp_path, network()), saved(tmp_path, network(seed=7), name="b")
    comparison = compared(kept(a), b)
    assert comparison.verdict.kinship is Kinship.CANNOT_BE_SAID
    assert "a baseline holds no weights" in comparison.verdict.sentence
    assert NOT_KEPT in comparison.remarks
    assert (comparison.universality, comparison.roles, comparison.trends) == ((), (), ())
    assert (comparison.a.kind, comparison.a.bytes, comparison.a.files) == ("baseline", None, ())
    for layer in compared(kept(a), reported(b)).layers:
        assert isinstance(layer.distances, NotFitted)
        assert "report" in layer.distances.reason


# ---- how it is found


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A baseline in the first commit, another in the working tree."""
    monkeypatch.chdir(tmp_path)
    first = kept(saved(tmp_path, network(blocks=1)))
    Path("notes.txt").write_text(Path(first).read_text())
    for command in (["init", "-q"], ["add", NAME, "notes.txt"], ["commit", "-qm", "one"], ["tag", "v1"]):
        settings = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        subprocess.run(["git", *settings, *command], check=True)  # noqa: S603, S607 - the words above
    kept(saved(tmp_path, network(blocks=2)))
    return tmp_path


def layers(target: str) -> int:
    (operand,) = open_operands(target)
    assert isinstance(operand.known, KeptModel)
    return len(operand.known.layers)


def test_a_baseline_is_told_by_what_it_begins_with(repository: Path) -> None:
    (repository / "kept.txt").write_bytes((repository / NAME).read_bytes())
    assert layers("kept.txt") == layers(NAME) == 7


def test_a_version_is_read_through_git(repository: Path) -> None:
    assert repository.is_dir()
    assert layers(f"v1:{NAME}") == layers(f"HEAD:./{NAME}") == layers("v1:notes.txt") == 4


def test_no_file_takes_the_place_of_a_version(repository: Path) -> None:
    (repository / f"v1:{NAME}").write_bytes((repository / NAME).read_bytes())
    assert layers(f"v1:{NAME}") == 4
    (operand,) = open_operands(f"v1:{NAME}")
    assert operand.remarks == (f"'v1:{NAME}' was read through git; the path of that name here is './v1:{NAME}'",)
    assert layers(f"./v1:{NAME}") == 7


def test_a_path_that_is_here_is_what_it_is_and_says_so(repository: Path) -> None:
    (repository / "v1:notes.txt").write_bytes((repository / NAME).read_bytes())
    assert layers("v1:notes.txt") == 7
    saved(repository, network(), name="v1:model")
    for target in ("v1:notes.txt", "v1:model.safetensors"):
        (operand,) = open_operands(target)
        assert operand.target.endswith(target)
        assert ["git was not asked" in remark for remark in operand.remarks] == [True]
    assert isinstance(operand.known, Checkpoint)
    assert layers("v1:./notes.txt") == 4


def test_an_ambiguity_is_said_in_the_comparison(repository: Path) -> None:
    (repository / f"v1:{NAME}").write_bytes(b"")
    assert any("was read through git" in remark for remark in compared(f"v1:{NAME}", NAME).remarks)


def test_a_pattern_with_a_colon_is_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:1").mkdir()
    saved(tmp_path / "run:1", network(blocks=1))
    (operand,) = open_operands("run:1/*.safetensors")
    assert isinstance(operand.known, Checkpoint)


def test_git_is_not_asked_for_a_web_address() -> None:
    with pytest.raises(JaynesError, match=r"does not exist; correct the path$"):
        open_operands("https://huggingface.co/org/name")


def test_a_folder_that_is_named_as_a_baseline_is_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    saved(folder, network(blocks=1))
    (operand,) = open_operands(str(folder))
    assert isinstance(operand.known, Checkpoint)


@pytest.mark.parametrize("target", ["hf://org/name", "hf://org/name@main", "org/name@main"])
def test_a_name_on_the_hub_stays_one(target: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository.is_dir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(JaynesError) as refused:
        open_operands(target)
    assert "org/name" in str(refused.value)
    assert "git" not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("gone.jaynes.jsonl", "there is no baseline 'gone.jaynes.jsonl'"),
        ("folder/gone.jaynes.jsonl", "there is no baseline"),
        ("nowhere:model.jaynes.jsonl", "git has no revision 'nowhere'"),
        ("v1:gone.jaynes.jsonl", "revision 'v1' has no file"),
        ("v1:gone.txt", "there is no path 'v1:gone.txt' here, and of git: revision 'v1' has no file"),
        ("gone:\0.jaynes.jsonl", "git"),
    ],
)
def test_what_is_not_there_is_a_wrong_use(target: str, words: str, repository: Path) -> None:
    assert repository.is_dir()
    with pytest.raises(UsageError, match=words) as refused:
        open_operands(target)
    assert str(refused.value).isprintable()


def test_what_is_kept_of_a_layer_has_six_digits(tmp_path: Path) -> None:
    baseline = baseline_at(saved(tmp_path, network(blocks=1)))
    model = kept_model(baseline)
    assert set(model.quantiles) == {entry.name for entry in baseline.entries if entry.law}
    for entry, layer in zip(baseline.entries, model.layers, strict=True):
        assert (layer.name, layer.weights, layer.content) == (entry.name, entry.weights, entry.content)
        assert (entry.law is None) is (layer.fit is None) is bool(layer.not_fitted)


def test_no_damaged_baseline_brings_a_comparison_down() -> None:
    ends, faults = survive(FUZZ, inputs=120, seed=3)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 10
