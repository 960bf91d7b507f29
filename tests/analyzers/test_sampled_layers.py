"""Which tensors a sample reads: so many of each role as of any other, from the first block to the last."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.audit import EVERYTHING, LeftOutReason, Plan, Selection, audit_checkpoint, plan_of
from jaynes_audit.analyzers.checkpoints import Checkpoint, open_checkpoint
from jaynes_audit.analyzers.roles import Role
from tests.support.checkpoint_files import checkpoint

BLOCKS = 13
SIZES = {"self_attn.q_proj": 48, "self_attn.o_proj": 32, "mlp.up_proj": 96, "mlp.down_proj": 80, "input_layernorm": 0}
TENSORS = 2 + BLOCKS * len(SIZES)


def shape(size: int) -> tuple[int, ...]:
    return (size, 16) if size else (16,)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    weights = {"model.embed_tokens.weight": np.ones((64, 16), np.float32), "lm_head.weight": np.ones((64, 16))}
    for block in range(BLOCKS):
        for member, size in SIZES.items():
            weights[f"model.layers.{block}.{member}.weight"] = np.ones(shape(size), np.float32)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    checkpoint(path, weights)
    return open_checkpoint(str(path))


def names(plan: Plan) -> set[str]:
    return {layer.tensor.name for layer in plan.layers}


def depths(plan: Plan) -> dict[Role, list[int]]:
    found: defaultdict[Role, list[int]] = defaultdict(list)
    for layer in plan.layers:
        if ".layers." in layer.name:
            found[layer.part.role].append(int(layer.name.split(".")[2]))
    return {role: sorted(of_role) for role, of_role in found.items()}


@settings(max_examples=40)
@given(number=st.integers(min_value=1, max_value=TENSORS + 20))
def test_so_many_tensors_are_read_and_all_others_are_left_out_with_the_reason(model: Checkpoint, number: int) -> None:
    plan = plan_of(model, Selection(sample=number))
    assert len(names(plan)) == min(number, TENSORS)
    assert len(plan.layers) + len(plan.left_out) == TENSORS
    assert {each.reason for each in plan.left_out} <= {LeftOutReason.NOT_SAMPLED}
    assert {each.explanation for each in plan.left_out} <= {f"not in the sample of {number}"}


@settings(max_examples=40)
@given(number=st.integers(min_value=1, max_value=TENSORS))
def test_a_role_has_one_more_than_another_at_most_while_there_are_some(model: Checkpoint, number: int) -> None:
    available = Counter(layer.part.role for layer in plan_of(model, EVERYTHING).layers)
    chosen = Counter(layer.part.role for layer in plan_of(model, Selection(sample=number)).layers)
    most = max(chosen.values())
    assert all(chosen[role] >= min(most - 1, number_of_role) for role, number_of_role in available.items())


@settings(max_examples=40)
@given(number=st.integers(min_value=2 + 2 * len(SIZES), max_value=TENSORS))
def test_every_role_is_seen_at_both_ends_of_the_depth(model: Checkpoint, number: int) -> None:
    for of_role in depths(plan_of(model, Selection(sample=number))).values():
        assert of_role[0] == 0
        assert of_role[-1] == BLOCKS - 1
        gaps = np.diff(of_role)
        assert gaps.max() - gaps.min() <= 1


def test_single_tensors_come_from_unlike_depths(model: Checkpoint) -> None:
    seen = list(depths(plan_of(model, Selection(sample=2 + len(SIZES)))).values())
    assert sorted(map(len, seen)) == [1] * len(SIZES)
    assert len({of_role[0] for of_role in seen}) == len(SIZES)


def test_fewer_tensors_than_roles_are_those_of_the_roles_with_most_weights(model: Checkpoint) -> None:
    found = {layer.part.role for layer in plan_of(model, Selection(sample=2)).layers}
    assert found == {Role.MLP_UP, Role.MLP_DOWN}


def test_the_sample_is_taken_of_the_layers_asked_for(model: Checkpoint) -> None:
    plan = plan_of(model, Selection(layers=["*.layers.3.*"], exclude=["*norm*"], sample=3))
    assert all(".layers.3." in layer.name for layer in plan.layers)
    assert Counter(each.reason for each in plan.left_out) == {
        LeftOutReason.NOT_REQUESTED: TENSORS - 4,
        LeftOutReason.NOT_SAMPLED: 1,
    }


def test_other_shards_in_another_order_give_the_same_sample(model: Checkpoint, tmp_path: Path) -> None:
    tensors = [(layer.name, layer.tensor.shape) for layer in plan_of(model, EVERYTHING).layers]
    backwards = tensors[::-1]
    for number, part in enumerate((backwards[:20], backwards[20:])):
        made = {name: np.ones(of_shape, np.float32) for name, of_shape in part}
        checkpoint(tmp_path / f"model-{number + 1:05d}-of-00002.safetensors", made)
    resharded = open_checkpoint(str(tmp_path))
    for number in (1, 5, 17, 40):
        assert names(plan_of(resharded, Selection(sample=number))) == names(plan_of(model, Selection(sample=number)))


def test_the_parts_of_a_fused_tensor_are_not_torn_apart(tmp_path: Path) -> None:
    fused = {f"h.{block}.attn.c_attn.weight": np.ones((64, 192), np.float32) for block in range(5)}
    checkpoint(tmp_path / "model.safetensors", fused)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_embd": 64, "n_head": 4}')
    plan = plan_of(open_checkpoint(str(tmp_path)), Selection(sample=2))
    assert sorted(layer.name for layer in plan.layers) == sorted(
        f"h.{block}.attn.c_attn.weight[{part}]" for block in (0, 4) for part in "qkv"
    )


def test_what_is_said_of_a_layer_does_not_depend_on_the_others_of_the_sample(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    weights = {f"model.layers.{block}.mlp.up_proj.weight": rng.standard_normal((96, 128)) for block in range(6)}
    checkpoint(tmp_path / "model.safetensors", {name: each.astype(np.float32) for name, each in weights.items()})
    opened = open_checkpoint(str(tmp_path))
    whole = {layer.name: layer for layer in audit_checkpoint(opened)}
    sampled = audit_checkpoint(opened, selection=Selection(sample=3))
    assert sampled.is_sample
    assert [layer.name for layer in sampled] == [f"model.layers.{block}.mlp.up_proj.weight" for block in (0, 2, 5)]
    assert all(layer == whole[layer.name] for layer in sampled)
    assert (sampled.coverage.tensors, sampled.coverage.tensors_total, sampled.coverage.complete) == (3, 6, True)
