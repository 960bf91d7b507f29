"""Which layer of its role in its block a name means, whatever the naming scheme."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.roles import Role, layout_of
from jaynes_audit.analyzers.roles.slots import SPELT, local_name, slot_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "architectures"

SAME_NORMS = {
    "before attention": (
        "model.layers.3.input_layernorm.weight",
        "layers.3.attention_norm.weight",
        "blk.3.attn_norm.weight",
        "transformer.h.3.ln_1.weight",
        "vit.encoder.layer.3.layernorm_before.weight",
        "encoder.block.3.layer.0.layer_norm.weight",
        "_orig_mod.backbone.layers.3.norm.weight",
    ),
    "before the MLP": (
        "layers.3.ffn_norm.weight",
        "blk.3.ffn_norm.weight",
        "transformer.h.3.ln_2.weight",
        "model.layers.3.pre_feedforward_layernorm.weight",
        "decoder.block.3.layer.2.layer_norm.weight",
        "encoder.block.3.layer.1.layer_norm.weight",
    ),
    "after the MLP": ("bert.encoder.layer.3.output.LayerNorm.weight", "blk.3.layer_output_norm.weight"),
    "queries": ("model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"),
}


@pytest.mark.parametrize("kind", SAME_NORMS)
def test_norms_of_one_place_have_one_kind_in_every_scheme(kind: str) -> None:
    assert {slot_of(name, Role.NORM, inside=True).kinds for name in SAME_NORMS[kind]} == {(kind,)}


def test_a_norm_named_for_what_it_follows_is_left_open() -> None:
    kinds = slot_of("model.layers.3.post_attention_layernorm.weight", Role.NORM, inside=True).kinds
    assert kinds == ("before the MLP", "after attention")


def test_the_norm_of_a_module_is_not_that_of_its_block() -> None:
    assert slot_of("layers.3.attn.rotary.norm.weight", Role.NORM, inside=True).kinds == (".attn.rotary.norm",)
    assert slot_of("visual.merger.proj.norm.weight", Role.NORM, inside=False).kinds != ("final",)


def test_a_bias_is_told_by_the_weights_it_is_added_to() -> None:
    query = slot_of("bert.encoder.layer.0.attention.self.query.bias", Role.BIAS, inside=True)
    norm = slot_of("bert.encoder.layer.0.attention.output.LayerNorm.bias", Role.BIAS, inside=True)
    assert query == slot_of("blk.7.attn_q.bias", Role.BIAS, inside=True)
    assert (query.of, norm.of, norm.kinds) == (Role.ATTENTION_Q, Role.NORM, ("after attention",))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.mlp.experts.11.up_proj.weight",
        "model.layers.2.mlp.experts.gate_up_proj[experts.11.up]",
        "blk.2.ffn_up_exps.weight[experts.11.up]",
        "blk.2.ffn_up.11.weight",
        "encoder.block.2.layer.1.mlp.experts.expert_11.wi.weight",
    ],
)
def test_an_expert_is_told_by_its_number(name: str) -> None:
    slot = slot_of(name, Role.EXPERT_UP, inside=True)
    assert (slot.member, slot.kinds) == (11, ("",))


def test_what_no_table_knows_is_told_by_the_rest_of_its_name() -> None:
    first, second = (
        slot_of(f"down_blocks.1.resnets.{number}.conv1.weight", Role.CONV, inside=True) for number in (0, 1)
    )
    assert slot_of("net.layers.4.in_proj_ba.weight", Role.OTHER, inside=True).kinds == (".in_proj_ba",)
    assert first == slot_of("unet.down_blocks.1.resnets.0.conv1.weight", Role.CONV, inside=True)
    assert first.kinds == second.kinds  # the number is the block's: the depth tells them apart
    inner = [slot_of(f"layers.0.convs.{number}.weight", Role.CONV, inside=True) for number in (0, 1)]
    assert inner[0] != inner[1]


def test_the_rest_of_a_name_leaves_the_number_of_the_block_out_and_no_other() -> None:
    assert local_name("a.layers.4.attn.0.w[q]") == local_name("b.c.layers.9.attn.0.w[q]")
    assert local_name("layers.4.attn.0.w[q]") != local_name("layers.4.attn.1.w[q]") != local_name("layers.4.attn.1.w")


# Two attentions, kinds of blocks or stacks make one block of these; the rest of the name tells their layers apart.
SEVERAL_IN_A_BLOCK = {"sd3", "unet2d_condition", "wav2vec2"}
FILES = [file for file in sorted(FIXTURES.glob("*.json")) if file.stem not in SEVERAL_IN_A_BLOCK]


@pytest.mark.parametrize(
    "file",
    [file for file in sorted(FIXTURES.glob("*.json")) if file.stem not in SEVERAL_IN_A_BLOCK],
    ids=lambda f: f.stem,
)
def test_two_layers_of_a_block_hardly_ever_have_one_slot(file: Path) -> None:
    described = json.loads(file.read_text())
    slots: Counter[object] = Counter()
    for name, told in described["tensors"].items():
        for part in layout_of(name, tuple(told["shape"]), described["config"]).parts:
            full = f"{name}[{part.suffix}]" if part.suffix else name
            slot = slot_of(full, part.role, inside=part.depth is not None)
            slots[part.stack, part.depth, part.role, slot] += 1
    shared = sum(count for count in slots.values() if count > 1)
    assert shared <= 0.1 * sum(slots.values()), [slot for slot, count in slots.items() if count > 1]


words = st.sampled_from(["layers", "0", "17", "experts", "norm", "bias", "weight", "layer_norm", "layer", "encoder"])
names = st.one_of(st.text(max_size=700), st.lists(words, max_size=12).map(".".join), st.just("[]"), st.just("."))


@given(names, st.sampled_from(Role), st.booleans())
def test_any_text_gets_an_answer(name: str, role: Role, inside: bool) -> None:  # noqa: FBT001 - drawn
    slot = slot_of(name, role, inside=inside)
    assert slot.kinds
    assert len(slot.kinds[0]) <= len(SPELT) + 2 * 700 + 64
    assert local_name(name) == local_name(name)
