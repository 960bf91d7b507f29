"""Two models side by side, on real files: the questions people ask, every kind of operand, and what is broken."""

import json
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from huggingface_hub import close_session, constants

from jaynes_audit.analyzers.archive.saving import Keeper
from jaynes_audit.analyzers.audit import Audit, Selection, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import Checkpoint, HubAccess, locations, open_checkpoint
from jaynes_audit.analyzers.checkpoints.hub.client import hub_client
from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.analyzers.checkpoints.windows import Io
from jaynes_audit.analyzers.comparison.comparison import (
    NO_HISTOGRAM,
    NO_WEIGHTS,
    NOT_ASKED,
    NOT_LOCAL,
    NOT_MEASURED,
    USUAL_MANNER,
    Comparison,
    Manner,
    compare,
)
from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Relation
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.operand import open_operands
from jaynes_audit.analyzers.comparison.record import comparison_record
from jaynes_audit.analyzers.comparison.verdict import Kinship
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import UsageError
from tests.support import audits
from tests.support.checkpoint_files import gaussian
from tests.support.checkpoints import Stored, stored, write_file
from tests.support.hub import LoopbackHub

BABBLE = Path(__file__).parents[3] / "fixtures" / "babble"
SIDE = 64
BLOCKS = 4
UP = "model.layers.{}.mlp.up_proj.weight"
DOWN = "model.layers.{}.mlp.down_proj.weight"
NORM = "model.layers.{}.input_layernorm.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
POSITIONS = "model.position_ids"

Arrays = dict[str, np.ndarray]


def network(seed: int = 0) -> Arrays:
    """Four blocks of two matrices and a vector, an embedding, a head, and a buffer."""
    names = [EMBEDDING, HEAD, *(kind.format(block) for block in range(BLOCKS) for kind in (UP, DOWN))]
    matrices = {name: gaussian(SIDE, SIDE, seed=100 * seed + number) for number, name in enumerate(names)}
    norms = {NORM.format(block): 1 + gaussian(SIDE, seed=1_000 * seed + block) for block in range(BLOCKS)}
    return {**matrices, **norms, POSITIONS: np.arange(8, dtype=np.int64)}


def write(path: Path, tensors: Mapping[str, np.ndarray], dtype: Dtype | None = None) -> str:
    """Write a model, its weights in a format."""
    whole_numbers = {name: each for name, each in tensors.items() if each.dtype.kind != "f"}
    in_format = {name: stored(each, dtype or Dtype.F32) for name, each in tensors.items() if name not in whole_numbers}
    buffers = {name: Stored(Dtype.I64, each.shape, each.tobytes()) for name, each in whole_numbers.items()}
    write_file(path, in_format | buffers)
    return str(path)


def of(*targets: str, access: HubAccess | None = None, **manner: Any) -> list[Comparison]:
    operands = [operand for target in targets for operand in open_operands(target, access)]
    return list(compare(operands, Manner(**({"jobs": 1} | manner))))


def pair(a: str, b: str, **manner: Any) -> Comparison:
    (found,) = of(a, b, **manner)
    return found


def record(comparison: Comparison) -> bytes:
    return msgspec.json.encode(comparison_record(comparison, findings_of(comparison)))


def relations(comparison: Comparison) -> dict[str, Relation | None]:
    return {
        layer.match.a.name: layer.exact.relation if isinstance(layer.exact, Exact) else None
        for layer in comparison.layers
    }


def archive_of(target: str, path: Path) -> str:
    model, keeper = open_checkpoint(target), Keeper()
    audit_checkpoint(model, jobs=1, on_measured=keeper.measured, on_outcome=keeper.outcome)
    path.write_bytes(keeper.archive(model))
    return str(path)


def report_on(target: str, path: Path) -> str:
    audit: Audit = audit_checkpoint(open_checkpoint(target), jobs=1)
    path.write_bytes(msgspec.json.encode(audits.report(audit)))
    return str(path)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return write(tmp_path / "base.safetensors", network())


@pytest.fixture
def tuned(tmp_path: Path) -> str:
    """Two matrices changed a little."""
    return write(tmp_path / "tuned.safetensors", nudged(network(), UP.format(2), DOWN.format(3)))


def nudged(tensors: Arrays, *names: str) -> Arrays:
    return tensors | {name: tensors[name] + 0.1 * gaussian(SIDE, SIDE, seed=77) for name in names}


# ---- the three questions


def test_did_my_export_change_anything_it_should_not(base: str, tmp_path: Path) -> None:
    copy = write(tmp_path / "copy.safetensors", network())
    assert pair(base, copy).verdict.sentence == "Identical: 14 layers and 1 buffer, all with the very same bytes."
    half = pair(base, write(tmp_path / "half.safetensors", network(), Dtype.BF16))
    assert half.verdict.kinship is Kinship.SAME_WEIGHTS
    assert set(relations(half).values()) == {Relation.CAST}


def test_what_did_training_change(base: str, tuned: str) -> None:
    found = pair(base, tuned)
    assert found.verdict.kinship is Kinship.FINE_TUNED
    assert "2 of 10 matrices changed, in blocks 2-3 (mlp.up 1, mlp.down 1)" in found.verdict.sentence
    changed = {name for name, relation in relations(found).items() if relation is Relation.DIFFERENT}
    assert changed == {UP.format(2), DOWN.format(3)}


def test_are_these_networks_even_related(base: str, tmp_path: Path) -> None:
    stranger = pair(base, write(tmp_path / "stranger.safetensors", network(seed=9)))
    assert stranger.verdict.kinship is Kinship.UNRELATED
    assert stranger.lineage
    shallow = {name: each for name, each in network().items() if ".3." not in name}
    assert pair(base, write(tmp_path / "shallow.safetensors", shallow)).verdict.kinship is Kinship.RELATED


# ---- one thing changed


def flipped(weights: np.ndarray, bit: int) -> None:
    weights.view(np.uint32)[3, 7] ^= np.uint32(1 << bit)


def broken(weights: np.ndarray) -> None:
    weights[3, 7] = np.nan


@pytest.mark.parametrize("bit", [0, 22, 23, 30, 31])
def test_one_flipped_bit_is_found_and_told_with_its_place(bit: int, base: str, tmp_path: Path) -> None:
    tensors = network()
    flipped(tensors[UP.format(1)], bit)
    found = pair(base, write(tmp_path / "flipped.safetensors", tensors))
    assert found.verdict.kinship is Kinship.FINE_TUNED
    assert "the same but for 1 of 14 layers: 1 of 10 matrices changed, in block 1" in found.verdict.sentence
    assert any(
        figure.startswith(f"'{UP.format(1)}': 1 of 4,096 weights changed, by at most ")
        and "(row 3, column 7)" in figure
        for figure in found.verdict.figures
    )


@pytest.mark.parametrize("others", [(), (UP.format(0), DOWN.format(0), UP.format(2), DOWN.format(2))])
def test_one_nan_is_told_first(others: tuple[str, ...], base: str, tmp_path: Path) -> None:
    tensors = nudged(network(), *others)
    broken(tensors[UP.format(1)])
    found = pair(base, write(tmp_path / "broken.safetensors", tensors))
    assert found.verdict.figures[0].startswith("1 weight is NaN or infinite in one of the two")
    assert findings_of(found)[0].rule == "JN101"


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_other_bytes_of_equal_values_are_not_called_identical(value: float, tmp_path: Path) -> None:
    one, other = network(), network()
    one[UP.format(1)][0, 0] = value
    other[UP.format(1)][0, 0] = -value
    found = pair(write(tmp_path / "a.safetensors", one), write(tmp_path / "b.safetensors", other))
    assert found.verdict.kinship is Kinship.SAME_WEIGHTS
    assert "1 layer with equal values in other bytes" in found.verdict.sentence


def test_one_changed_vector_is_told_as_one(base: str, tmp_path: Path) -> None:
    tensors = network()
    tensors[NORM.format(2)] = tensors[NORM.format(2)] * np.float32(1.01)
    found = pair(base, write(tmp_path / "scaled.safetensors", tensors))
    assert "1 of 4 vectors changed, in block 2 (norm 1)." in found.verdict.sentence


# ---- every kind of operand


@pytest.fixture(scope="module")
def operands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model and a version of it, each as weights, as sketches and as a report."""
    folder, found = tmp_path_factory.mktemp("operands"), {}
    for name, tensors in (("base", network()), ("tuned", nudged(network(), UP.format(2), DOWN.format(3)))):
        target = write(folder / f"{name}.safetensors", tensors)
        found[name] = target
        found[f"{name} sketches"] = archive_of(target, folder / f"{name}.sketches.safetensors")
        found[f"{name} report"] = report_on(target, folder / f"{name}.json")
    return found


KINDS = ("", " sketches", " report")


@pytest.mark.parametrize("of_b", KINDS)
@pytest.mark.parametrize("of_a", KINDS)
def test_every_kind_of_operand_is_compared_with_every_other(of_a: str, of_b: str, operands: dict[str, str]) -> None:
    found = pair(operands[f"base{of_a}"], operands[f"tuned{of_b}"])
    assert (found.not_exact is None) is (of_a == of_b == "")
    assert found.verdict.kinship is Kinship.FINE_TUNED  # equal hashes tell so, where weights cannot be read
    same = [name for name, relation in relations(found).items() if relation is Relation.IDENTICAL]
    assert len(same) == len(found.layers) - 2 == 12
    for layer in found.layers:
        assert layer.parameters != NOT_MEASURED
        if layer.match.a.name not in same:
            assert (layer.distances == NO_HISTOGRAM) is ("report" in of_a + of_b)
    record(found)


def test_archives_give_the_parameters_and_distances_of_the_weights_byte_for_byte(tmp_path: Path) -> None:
    a, b = (str(BABBLE / name) for name in ("step0", "fp32"))
    kept_a, kept_b = (archive_of(target, tmp_path / f"{Path(target).name}.safetensors") for target in (a, b))
    whole = pair(a, b, exact=False)
    assert whole.not_exact == NOT_ASKED
    assert whole.universality
    fields = ("layers", "universality", "roles", "trends", "only_a", "only_b")
    of_weights = comparison_record(whole, ())
    for found in of(kept_a, kept_b, b):
        if found.a.target != kept_a:
            continue
        of_kept = comparison_record(found, ())
        for field in fields:
            mine = msgspec.json.encode(getattr(of_kept, field)).replace(NO_WEIGHTS.reason.encode(), b"")
            theirs = msgspec.json.encode(getattr(of_weights, field)).replace(NOT_ASKED.reason.encode(), b"")
            assert mine == theirs, field


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_is_kept_of_a_model_has_its_weights_and_what_is_not_kept_is_not_called_the_same(
    kind: str, operands: dict[str, str]
) -> None:
    found = pair(operands["base"], operands[f"base{kind}"])
    assert found.verdict.kinship is Kinship.SAME_WEIGHTS
    assert found.verdict.sentence == (
        "The same weights: all layers with the very same bytes, and not all was compared."
    )
    assert POSITIONS in found.verdict.figures[1]


def test_weights_are_not_asked_of_what_holds_none(operands: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"--exact reads weights, and '.*base\.json' holds none"):
        pair(operands["base report"], operands["tuned"], exact=True)


def test_three_models_are_compared_pair_by_pair(operands: dict[str, str], tmp_path: Path) -> None:
    targets = [operands["base"], operands["tuned sketches"], write(tmp_path / "other.safetensors", network(9))]
    found = of(*targets)
    assert [(each.a.target, each.b.target) for each in found] == list(combinations(targets, 2))
    assert record(found[2]) == record(pair(*targets[1:]))


def test_a_model_on_the_hub_is_compared_by_its_hashes_and_weight_by_weight_if_asked(
    base: str, tuned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(Path(tuned).read_bytes())
    with LoopbackHub() as hub:
        hub.add_directory("org/model", folder)
        monkeypatch.setattr(locations, "hub_client", partial(hub_client, endpoint=hub.endpoint))
        streamed = HubAccess(mode=Mode.STREAM)
        (hashes,) = of(base, "org/model", access=streamed)
        (weights,) = of(base, "org/model", access=streamed, exact=True)
        close_session()
    assert hashes.not_exact == NOT_LOCAL
    assert weights.not_exact is None
    assert weights.b.commit
    here = pair(base, tuned)
    assert relations(weights) == relations(here)
    assert weights.layers == here.layers
    assert [name for name, each in relations(hashes).items() if each is None] == [UP.format(2), DOWN.format(3)]


# ---- how it is done


def test_threads_and_ways_to_read_do_not_change_anything(base: str, tuned: str) -> None:
    alone = record(pair(base, tuned))
    assert record(pair(base, tuned, jobs=4)) == alone
    assert record(pair(base, tuned, jobs=3, io=Io.PREAD)) == alone


def test_models_of_equal_bytes_are_not_measured(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "jaynes_audit.analyzers.comparison.comparison.audit_checkpoint", lambda *_, **__: pytest.fail("measured")
    )
    found = pair(base, write(tmp_path / "copy.safetensors", network()))
    assert (found.measured, found.lineage, found.universality, found.roles) == ((), (), (), ())
    assert {layer.distances for layer in found.layers} == {NOT_MEASURED}


def test_a_model_is_measured_once_however_many_it_is_compared_with(
    base: str, tuned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def counted(checkpoint: Checkpoint, **manner: Any) -> Audit:
        measured.append(checkpoint.location)
        return audit_checkpoint(checkpoint, **manner)

    monkeypatch.setattr("jaynes_audit.analyzers.comparison.comparison.audit_checkpoint", counted)
    other = write(tmp_path / "other.safetensors", network(9))
    assert len(of(base, tuned, other)) == 3
    assert sorted(measured) == sorted([base, tuned, other])


def test_the_bytes_that_are_told_add_up(base: str, tuned: str) -> None:
    told: list[int] = []
    copy = str(Path(base).with_name("copy.safetensors"))
    Path(copy).write_bytes(Path(base).read_bytes())
    weights = 4 * sum(each.size for name, each in network().items() if name != POSITIONS)
    pair(base, copy, on_bytes=told.append)
    assert sum(told) == 2 * weights
    told.clear()
    pair(base, tuned, on_bytes=told.append)
    assert sum(told) == 2 * weights + 2 * weights  # side by side, and measured


def test_only_the_layers_asked_for_are_compared(base: str, tuned: str) -> None:
    found = pair(base, tuned, selection=Selection(layers=["*mlp.up*"], exclude=["*.2.*"]))
    assert list(relations(found)) == [UP.format(block) for block in (0, 1, 3)]
    assert found.verdict.kinship is Kinship.IDENTICAL
    assert found.verdict.sentence.startswith("Identical in the layers asked for: 3 layers")
    kept = pair(base, tuned, selection=Selection(layers=["*mlp.up*"], exclude=["*.2.*"]), exact=False)
    assert kept.verdict.kinship is Kinship.IDENTICAL


# ---- tied embeddings and buffers


def test_a_tied_head_that_one_stores_and_the_other_does_not_is_no_missing_layer(tmp_path: Path) -> None:
    tied = network() | {HEAD: network()[EMBEDDING]}
    once = {name: each for name, each in tied.items() if name != HEAD}
    paths = [write(tmp_path / "twice.safetensors", tied), write(tmp_path / "once.safetensors", once)]
    for found in (pair(*paths), pair(*reversed(paths))):
        assert (found.only_a, found.only_b) == ((), ())
        assert found.remarks == (f"'{HEAD}' is '{EMBEDDING}', stored once",)
        assert found.verdict.kinship in {Kinship.IDENTICAL, Kinship.SAME_WEIGHTS}


def test_an_own_head_is_no_tied_one(base: str, tmp_path: Path) -> None:
    once = {name: each for name, each in network().items() if name != HEAD}
    found = pair(base, write(tmp_path / "once.safetensors", once))
    assert [each.subject.name for each in found.only_a] == [HEAD]
    assert found.verdict.sentence == f"The same weights as far as both have them: 1 layer only in A ('{HEAD}')."


@pytest.mark.parametrize(
    ("positions", "sentence"),
    [
        (np.arange(8) + 1, "8 of its elements differ"),
        (np.arange(9), "their shapes differ, 8 and 9"),
        (None, "only in A"),
    ],
)
def test_another_buffer_is_told_and_the_weights_are_the_same(
    positions: np.ndarray | None, sentence: str, base: str, tmp_path: Path
) -> None:
    tensors = {name: each for name, each in network().items() if name != POSITIONS}
    if positions is not None:
        tensors[POSITIONS] = positions.astype(np.int64)
    found = pair(base, write(tmp_path / "other.safetensors", tensors))
    assert [(each.identical, each.sentence) for each in found.buffers] == [(False, sentence)]
    assert found.verdict.sentence == f"The same weights: 1 buffer not the same ('{POSITIONS}': {sentence})."


# ---- what is broken


def in_shards(folder: Path, tensors: Arrays) -> str:
    """The model in two shards with an index; the second holds the last two blocks."""
    folder.mkdir()
    late = {name: each for name, each in tensors.items() if ".2." in name or ".3." in name}
    early = {name: each for name, each in tensors.items() if name not in late}
    where = {}
    for number, shard in enumerate((early, late), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        write(folder / file, shard)
        where |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(each.nbytes for each in tensors.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(folder)


def test_other_shards_are_the_same_weights(base: str, tmp_path: Path) -> None:
    found = pair(base, in_shards(tmp_path / "sharded", network()))
    assert found.verdict.sentence == "The same weights: in 2 files instead of 1."


@pytest.mark.parametrize("swapped", [False, True])
def test_a_missing_shard_is_not_called_the_same(swapped: bool, base: str, tmp_path: Path) -> None:  # noqa: FBT001
    folder = in_shards(tmp_path / "sharded", network())
    Path(folder, "model-00002-of-00002.safetensors").unlink()
    found = pair(*([folder, base] if swapped else [base, folder]))
    side = found.a if swapped else found.b
    assert not side.complete
    assert found.verdict.kinship is Kinship.CANNOT_BE_SAID
    assert "8 layers that could be compared hold the same weights" in found.verdict.sentence


@pytest.mark.parametrize("exact", [None, False])
def test_a_shard_that_is_cut_off_is_not_called_the_same(exact: bool | None, base: str, tmp_path: Path) -> None:  # noqa: FBT001
    folder = in_shards(tmp_path / "sharded", network())
    shard = Path(folder, "model-00002-of-00002.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1000])
    found = pair(base, folder, exact=exact)
    assert found.verdict.kinship is Kinship.CANNOT_BE_SAID
    assert not found.b.complete
    assert any(finding.rule == "JN001" for finding in findings_of(found))
    record(found)


def test_a_file_that_shrinks_while_it_is_read_is_not_called_the_same(base: str, tmp_path: Path) -> None:
    copy = Path(write(tmp_path / "copy.safetensors", network()))
    operands = [*open_operands(base), *open_operands(str(copy))]
    copy.write_bytes(copy.read_bytes()[:-100_000])
    (found,) = compare(operands, Manner(jobs=1, io=Io.PREAD))
    assert any(layer.could_not_read for layer in found.layers)
    assert found.verdict.kinship is Kinship.CANNOT_BE_SAID
    record(found)


def test_what_could_not_be_measured_makes_a_model_incomplete_when_weights_are_not_compared(
    base: str, tmp_path: Path
) -> None:
    copy = Path(write(tmp_path / "copy.safetensors", network()))
    operands = [*open_operands(base), *open_operands(str(copy))]
    copy.write_bytes(copy.read_bytes()[:-100_000])
    (found,) = compare(operands, Manner(jobs=1, io=Io.PREAD, exact=False))
    assert (found.a.complete, found.b.complete) == (True, False)
    assert any("became shorter" in why for _, why in found.b.not_compared)
    assert found.verdict.kinship is Kinship.CANNOT_BE_SAID


def test_models_without_weights_cannot_be_judged(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.safetensors", {POSITIONS: np.arange(8, dtype=np.int64)}) for name in "ab"]
    found = pair(*paths)
    assert found.verdict.kinship is Kinship.CANNOT_BE_SAID
    assert [each.identical for each in found.buffers] == [True]


def test_the_comparison_as_plain_data_is_the_record(base: str, tuned: str) -> None:
    found = pair(base, tuned)
    assert msgspec.json.encode(found.to_dict()) == record(found)
    assert USUAL_MANNER.exact is None
