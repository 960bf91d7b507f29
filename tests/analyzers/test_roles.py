"""What a name, a shape and a config.json say about a tensor, against the torch modules that own such tensors."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaynes_audit.analyzers.roles import ENDS, HIDDEN_LAYERS, KEPT, Layout, Part, Role, Stripes, layout_of
from jaynes_audit.analyzers.roles.names import LONGEST_END, ROLES
from jaynes_audit.analyzers.roles.splits import SPLITS


@dataclass(frozen=True)
class Architecture:
    """A real network of two blocks: its settings, and each saved tensor as the module that owns it describes it."""

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Any]]

    def layouts(self):
        """Every tensor's name, the oracle's description, and ours."""
        for name, told in self.tensors.items():
            yield name, told, layout_of(name, tuple(told["shape"]), self.config)


def read(file: Path) -> Architecture:
    described = json.loads(file.read_text())
    return Architecture(name=file.stem, config=described["config"], tensors=described["tensors"])


FIXTURES = Path(__file__).parents[2] / "fixtures" / "architectures"
ARCHITECTURES = [read(file) for file in sorted(FIXTURES.glob("*.json"))]
EVERY_ARCHITECTURE = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)

# Matrices that play no role of the list: the rates of a gated delta net, and what RWKV has in the place of a query.
WITHOUT_ROLE = ("in_proj_a", "in_proj_b", "in_proj_ba", "attention.receptance")

# Several roles share these, but they are one convolution over all of Mamba-2's inputs.
FUSED_BUT_WHOLE = {Role.SSM_CONV}

# What a stretch of a fused tensor was seen to reach when the network ran -> the roles that say so. Gates were caught
# at the activation; the up projections, z and the gates of queries are the stretches that reach nothing else.
REACHED = {
    "q": {Role.ATTENTION_Q},
    "k": {Role.ATTENTION_K, Role.CROSS_ATTENTION_K, Role.ATTENTION_K_B},
    "v": {Role.ATTENTION_V, Role.CROSS_ATTENTION_V, Role.ATTENTION_V_B},
    "k+v": {Role.ATTENTION_KV_A},
    "gate": {Role.MLP_GATE, Role.EXPERT_GATE},
    "up": {Role.MLP_UP},
    "x": {Role.SSM_X},
    "b+c+dt+x": {Role.SSM_X},
    "z": {Role.SSM_Z},
    "b": {Role.SSM_B},
    "c": {Role.SSM_C},
    "dt": {Role.SSM_DT, Role.SSM_DT_A},
    "": {Role.MLP_UP, Role.EXPERT_UP, Role.ATTENTION_GATE, Role.SSM_Z},
    "rest": {Role.EXPERT_UP},
}


def indices(stripes: Stripes, size: int) -> np.ndarray:
    """The members of an axis by the definition in Stripes, one by one."""
    index = np.arange(size)
    place = (index - stripes.start) % stripes.period
    inside = (stripes.start <= index) & (index < stripes.stop)
    return inside & (stripes.first <= place) & (place < stripes.first + stripes.count)


def times_covered(layout: Layout) -> np.ndarray:
    """How many parts each element of the tensor is in."""
    covered = np.zeros((layout.rows, layout.columns), dtype=np.uint16)
    for part in layout.parts:
        covered[np.ix_(indices(part.rows, layout.rows), indices(part.columns, layout.columns))] += 1
    return covered


def only_part(name: str, shape: tuple[int, ...], **config: object) -> Part:
    (part,) = layout_of(name, shape, config).parts
    return part


def roles(name: str, shape: tuple[int, ...], **config: object) -> list[Role]:
    return [part.role for part in layout_of(name, shape, config).parts]


# --- against real networks


def test_the_fixtures_cover_the_usual_architectures() -> None:
    assert len(ARCHITECTURES) > 80


@EVERY_ARCHITECTURE
def test_every_matrix_has_a_role(architecture: Architecture) -> None:
    without = [
        name
        for name, told, layout in architecture.layouts()
        if "fan_in" in told
        and not name.removesuffix(".weight").endswith(WITHOUT_ROLE)
        and any(part.role in (KEPT - {Role.ROUTER}) | {Role.OTHER} for part in layout.parts)
    ]
    assert without == []


@EVERY_ARCHITECTURE
def test_embeddings_are_embeddings_and_nothing_else_is(architecture: Architecture) -> None:
    for name, told, layout in architecture.layouts():
        looked_up = {part.role for part in layout.parts} <= {Role.EMBEDDING, Role.POSITION_EMBEDDING}
        if "fan_in" in told:
            assert looked_up == (told["module"] == "Embedding"), name


@EVERY_ARCHITECTURE
def test_norms_are_norms(architecture: Architecture) -> None:
    for name, told, layout in architecture.layouts():
        if "Norm" in told["module"]:
            assert {part.role for part in layout.parts} <= {Role.NORM, Role.BIAS, Role.BUFFER}, name


@EVERY_ARCHITECTURE
def test_fans_and_orientation_are_those_of_the_module(architecture: Architecture) -> None:
    for name, told, layout in architecture.layouts():
        if "fan_in" not in told:
            continue
        experts = told["shape"][0] if len(told["shape"]) == 3 and "Expert" in told["module"] else 1
        if len({part.columns for part in layout.parts}) > 1 and layout.parts[0].outputs_first:  # parted by its inputs
            assert sum(part.fan_in for part in layout.parts) == told["fan_in"], name
            assert {part.fan_out for part in layout.parts} == {told["fan_out"]}, name
        else:
            assert {part.fan_in for part in layout.parts} == {told["fan_in"]}, name
            assert sum(part.fan_out for part in layout.parts) == told["fan_out"] * experts, name
        assert {part.outputs_first for part in layout.parts} == {not told.get("transposed", False)}, name


@EVERY_ARCHITECTURE
def test_what_is_no_matrix_is_no_layer(architecture: Architecture) -> None:
    # An adapter's embedding and a weight-normalised kernel are matrices that no module of their own computes with.
    exempt = ("lora_embedding_A", "lora_embedding_B", "parametrizations.weight.original1")
    for name, told, layout in architecture.layouts():
        if "fan_in" not in told and not name.endswith(exempt):
            assert not any(part.fan_in and part.role in HIDDEN_LAYERS for part in layout.parts), name


@EVERY_ARCHITECTURE
def test_the_parts_tile_the_tensor(architecture: Architecture) -> None:
    for name, told, layout in architecture.layouts():
        assert layout.rows * layout.columns == np.prod(told["shape"], dtype=int), name
        assert (times_covered(layout) == 1).all(), name
        assert len({part.suffix for part in layout.parts}) == len(layout.parts), name


@EVERY_ARCHITECTURE
def test_every_part_reaches_what_its_role_says_when_the_network_runs(architecture: Architecture) -> None:
    for name, told, layout in architecture.layouts():
        match told.get("reach"):
            case {"is": reached}:
                assert {part.role for part in layout.parts} <= REACHED[reached], name
            case {"axis": axis, "runs": runs} if layout.parts[0].role not in FUSED_BUT_WHOLE:
                size = layout.rows if axis == "rows" else layout.columns
                for part in layout.parts:
                    members = indices(part.rows if axis == "rows" else part.columns, size)
                    reached = {key for key, spans in runs.items() if any(members[a:b].any() for a, b in spans)}
                    assert len(reached) == 1, (name, part.suffix, reached)
                    assert part.role in REACHED[reached.pop()], (name, part.suffix)


def test_many_fused_tensors_were_measured() -> None:
    measured = {
        architecture.name for architecture in ARCHITECTURES for _, told, _ in architecture.layouts() if "reach" in told
    }
    assert measured >= {
        "gpt2",
        "gpt_neox",
        "bloom",
        "phi3",
        "falcon_multi_query",
        "falcon_new_decoder",
        "falcon_per_head",
    }
    assert measured >= {
        "deepseek_v3",
        "gpt_oss",
        "llama4",
        "mamba",
        "mamba2",
        "codegen",
        "unet2d_condition",
        "timm_vit",
    }


@EVERY_ARCHITECTURE
def test_depth_counts_the_blocks_of_every_stack(architecture: Architecture) -> None:
    depths = defaultdict(set)
    for _, told, layout in architecture.layouts():
        for part in layout.parts:
            if "fan_in" in told and part.role in HIDDEN_LAYERS and part.depth is not None:
                depths[part.stack].add(part.depth)
    for stack, seen in depths.items():
        if max(seen) < 100 and architecture.name not in {"albert", "timm_vgg", "timm_xception"}:
            blocks = 1 if architecture.name == "convnextv2" else 2
            assert seen == set(range(blocks)), stack


# --- what names say


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "base_model.model.", "model.", "transformer.", "bert."]
)
def test_a_wrapper_does_not_matter(prefix: str) -> None:
    part = only_part(f"{prefix}layers.3.self_attn.q_proj.weight", (64, 32))
    assert (part.role, part.depth, part.stack) == (Role.ATTENTION_Q, 3, "")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("layers.1.attention.wq.weight", Role.ATTENTION_Q),
        ("layers.1.attention.wo.weight", Role.ATTENTION_O),
        ("layers.1.feed_forward.w1.weight", Role.MLP_GATE),
        ("layers.1.feed_forward.w2.weight", Role.MLP_DOWN),
        ("layers.1.feed_forward.w3.weight", Role.MLP_UP),
        ("layers.1.feed_forward.experts.2.w1.weight", Role.EXPERT_GATE),
        ("layers.1.feed_forward.gate.weight", Role.ROUTER),
        ("tok_embeddings.weight", Role.EMBEDDING),
        ("output.weight", Role.HEAD),
    ],
)
def test_the_names_of_the_first_llama_are_known(name: str, role: Role) -> None:
    assert roles(name, (64, 32)) == [role]


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("token_embd.weight", (99, 32), Role.EMBEDDING),
        ("output.weight", (99, 32), Role.HEAD),
        ("output_norm.weight", (32,), Role.NORM),
        ("rope_freqs.weight", (8,), Role.BUFFER),
        ("blk.3.attn_norm.weight", (32,), Role.NORM),
        ("blk.3.attn_q.weight", (32, 32), Role.ATTENTION_Q),
        ("blk.3.attn_q.bias", (32,), Role.BIAS),
        ("blk.3.attn_q_norm.weight", (8,), Role.NORM),
        ("blk.3.attn_k.weight", (16, 32), Role.ATTENTION_K),
        ("blk.3.attn_v.weight", (16, 32), Role.ATTENTION_V),
        ("blk.3.attn_output.weight", (32, 32), Role.ATTENTION_O),
        ("blk.3.attn_sinks.weight", (8,), Role.BIAS),
        ("blk.3.attn_kv_a_mqa.weight", (40, 32), Role.ATTENTION_QKV),
        ("blk.3.ffn_gate.weight", (80, 32), Role.MLP_GATE),
        ("blk.3.ffn_up.weight", (80, 32), Role.MLP_UP),
        ("blk.3.ffn_down.weight", (32, 80), Role.MLP_DOWN),
        ("blk.3.ffn_gate_shexp.weight", (80, 32), Role.MLP_GATE),
        ("blk.3.ffn_down.1.weight", (32, 80), Role.EXPERT_DOWN),
        ("blk.3.ffn_gate_inp.weight", (4, 32), Role.ROUTER),
        ("blk.3.exp_probs_b.bias", (4,), Role.BIAS),
        ("blk.3.ssm_in.weight", (128, 32), Role.SSM_IN),
        ("blk.3.ssm_a", (64, 16), Role.SSM_A_LOG),
        ("dec.blk.3.cross_attn_k.weight", (32, 32), Role.CROSS_ATTENTION_K),
        ("v.patch_embd.weight", (32, 3, 14, 14), Role.PATCH_EMBEDDING),
        ("v.blk.3.attn_out.weight", (32, 32), Role.ATTENTION_O),
        ("blk.3.attn_q.weight.lora_a", (4, 32), Role.LORA_A),
    ],
)
def test_the_names_of_llama_cpp_are_known(name: str, shape: tuple[int, ...], role: Role) -> None:
    part = only_part(name, shape, model_type="gguf-llama")
    assert part.role is role
    assert part.depth == (3 if ".3." in name else None)


def test_the_experts_of_llama_cpp_have_their_outputs_first() -> None:
    config = {"model_type": "gguf-gpt-oss", "hidden_size": 32}
    for end, role, shape in (
        ("gate", Role.EXPERT_GATE, (3, 80, 32)),
        ("up", Role.EXPERT_UP, (3, 32, 32)),  # square, as those of gpt-oss
        ("down", Role.EXPERT_DOWN, (3, 32, 80)),
    ):
        layout = layout_of(f"blk.2.ffn_{end}_exps.weight", shape, config)
        assert [part.suffix for part in layout.parts] == [f"experts.{expert}.{end}" for expert in range(3)]
        assert {(part.role, part.fan_in, part.fan_out, part.outputs_first, part.depth) for part in layout.parts} == {
            (role, shape[2], shape[1], True, 2)
        }


def test_the_fused_heads_of_llama_cpp_are_taken_apart() -> None:
    config = {"model_type": "gguf-falcon", "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 4}
    parts = layout_of("blk.0.attn_qkv.weight", (48, 32), config).parts
    assert [(part.role, part.rows.start, part.rows.stop) for part in parts] == [
        (Role.ATTENTION_Q, 0, 32),
        (Role.ATTENTION_K, 32, 40),
        (Role.ATTENTION_V, 40, 48),
    ]
    gate, up = layout_of("blk.0.ffn_up.weight", (80, 32), {"model_type": "gguf-phi3"}).parts
    assert (gate.role, up.role) == (Role.MLP_GATE, Role.MLP_UP)


def test_the_halves_of_llama_cpp_are_stacks_where_there_are_both() -> None:
    both = {"model_type": "gguf-t5", "is_encoder_decoder": True}
    assert only_part("enc.blk.1.ffn_up.weight", (80, 32), **both).stack == "encoder"
    assert only_part("dec.blk.1.ffn_up.weight", (80, 32), **both).stack == "decoder"


def test_an_adapter_is_known_with_and_without_its_name() -> None:
    path = "base_model.model.model.layers.0.self_attn.q_proj"
    assert only_part(f"{path}.lora_A.weight", (4, 32)).role is Role.LORA_A
    assert only_part(f"{path}.lora_B.default.weight", (32, 4)).role is Role.LORA_B
    assert only_part("unet.down_blocks.0.attentions.0.to_q.lora.up.weight", (32, 4)).role is Role.LORA_B


def test_attention_to_another_sequence_is_told_apart() -> None:
    assert roles("model.decoder.layers.0.encoder_attn.k_proj.weight", (32, 32)) == [Role.CROSS_ATTENTION_K]
    assert roles("decoder.block.0.layer.1.EncDecAttention.q.weight", (32, 32)) == [Role.CROSS_ATTENTION_Q]
    assert roles("mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight", (32, 24)) == [Role.CROSS_ATTENTION_V]


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("bn1.running_mean", (8,), Role.BUFFER),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (8,), Role.BUFFER),
        ("h.0.attn.bias", (1, 1, 16, 16), Role.BUFFER),
        ("layer1.0.downsample.1.weight", (8,), Role.NORM),
        ("something.new.ln_3.weight", (8,), Role.NORM),
        ("encoder.layer.0.output.LayerNorm.gamma", (8,), Role.NORM),
        ("encoder.layer.0.output.LayerNorm.beta", (8,), Role.BIAS),
        ("something.new.bias", (8,), Role.BIAS),
        ("something.new.weight", (8, 8), Role.OTHER),
        ("something.new.weight", (8, 8, 3, 3), Role.CONV),
        ("logit_scale", (), Role.SCALE),
    ],
)
def test_a_name_outside_the_tables_is_read_as_far_as_it_goes(name: str, shape: tuple[int, ...], role: Role) -> None:
    assert roles(name, shape) == [role]


def test_the_first_integer_of_an_unknown_name_is_its_depth() -> None:
    part = only_part("net.7.mystery.2.weight", (8, 4))
    assert (part.role, part.depth, part.fan_in, part.fan_out) == (Role.OTHER, 7, 4, 8)


def test_stages_are_ordered_and_so_are_their_blocks() -> None:
    down_the_network = [
        "down_blocks.0.resnets.0.conv1.weight",
        "down_blocks.0.resnets.1.conv1.weight",
        "down_blocks.0.downsamplers.0.conv.weight",
        "down_blocks.1.resnets.0.conv1.weight",
        "mid_block.resnets.0.conv1.weight",
        "mid_block.resnets.1.conv1.weight",
        "up_blocks.0.resnets.0.conv1.weight",
        "up_blocks.0.upsamplers.0.conv.weight",
        "up_blocks.1.resnets.0.conv1.weight",
    ]
    depths = [only_part(name, (8, 8, 3, 3)).depth for name in down_the_network]
    assert depths == sorted(set(depths))


def test_encoder_and_decoder_are_stacks_only_where_there_are_both() -> None:
    name = "encoder.layer.4.output.dense.weight"
    assert only_part(name, (32, 80), model_type="bert").stack == ""
    assert only_part(name, (32, 80), model_type="bart", is_encoder_decoder=True).stack == "encoder"


# --- other frameworks' names


@EVERY_ARCHITECTURE
def test_every_matrix_is_the_same_under_the_name_and_axes_that_flax_gives_it(architecture: Architecture) -> None:
    for name, told, layout in architecture.layouts():
        shape = tuple(told["shape"])
        if told["module"] not in {"Linear", "Conv1D", "Conv1d", "Conv2d", "Embedding"} or not name.endswith(".weight"):
            continue
        path = name.removesuffix(".weight")
        if told["module"] == "Embedding":
            renamed = layout_of(f"{path}.embedding", shape, architecture.config)
            assert renamed == layout, name
            continue
        renamed = layout_of(f"params.{path}.kernel", (*shape[2:], *shape[1::-1]), architecture.config)
        is_depthwise = len(shape) > 2 and shape[1] == 1  # what tells it in Flax is the name
        if len({part.columns for part in layout.parts}) == 1 or not layout.parts[0].outputs_first:
            assert [(part.suffix, part.role, part.stack, part.fan_in) for part in renamed.parts] == [
                (part.suffix, part.role, part.stack, part.fan_in) for part in layout.parts
            ], name
            assert is_depthwise or [part.fan_out for part in renamed.parts] == [part.fan_out for part in layout.parts]
        assert {part.depth for part in renamed.parts} == {part.depth for part in layout.parts}
        assert {part.outputs_first for part in renamed.parts} == {not layout.parts[0].outputs_first}, name
        assert (times_covered(renamed) == 1).all(), name


@pytest.mark.parametrize(
    ("name", "shape", "role", "fans"),
    [
        ("layers.dense_1.kernel", (5, 7), Role.OTHER, (5, 7)),
        ("layers.conv2d.kernel", (3, 3, 8, 16), Role.CONV, (72, 144)),
        ("conv1d.small.conv1d.kernel", (3, 4, 5), Role.CONV, (12, 15)),
        ("layers.depthwise_conv2d.kernel", (3, 3, 8, 2), Role.CONV, (9, 18)),
        ("block1a_dwconv.block1a_dwconv.depthwise_kernel", (3, 3, 8, 1), Role.CONV, (9, 9)),
        ("block.depthwise_conv.kernel", (3, 3, 1, 8), Role.CONV, (9, 9)),  # Flax's
        ("separable_conv2d.pointwise_kernel", (1, 1, 16, 8), Role.CONV, (16, 8)),
        ("lstm.small.lstm.lstm_cell.kernel", (5, 12), Role.OTHER, (5, 12)),
        ("layers.lstm.cell.recurrent_kernel", (3, 12), Role.OTHER, (3, 12)),
        ("layers.dense.kernel", (64, 1), Role.OTHER, (64, 1)),
        ("multi_head_attention_1.query.kernel", (16, 2, 4), Role.ATTENTION_Q, (16, 8)),
        ("multi_head_attention_1.attention_output.kernel", (2, 4, 16), Role.ATTENTION_O, (8, 16)),
        ("layers.block.attention.key_dense.kernel", (16, 2, 4), Role.ATTENTION_K, (16, 8)),
        ("layers.block.attention.output_dense.kernel", (2, 4, 16), Role.ATTENTION_O, (8, 16)),
        ("feed_forward.output_dense.kernel", (48, 16), Role.MLP_DOWN, (48, 16)),
        ("layers.separable_conv2d.vars.0", (3, 3, 16, 1), Role.CONV, (9, 9)),
        ("layers.separable_conv2d.vars.1", (1, 1, 16, 8), Role.CONV, (16, 8)),
        ("layers.depthwise_conv2d.vars.0", (3, 3, 8, 2), Role.CONV, (9, 18)),
        ("layers.block.up.vars.0", (8, 16), Role.OTHER, (8, 16)),
        ("layers.block.up.vars.1", (16,), Role.BIAS, (0, 0)),
        ("layers.block.norm.vars.0", (8,), Role.NORM, (0, 0)),
        ("layers.block.norm.vars.1", (8,), Role.BIAS, (0, 0)),
        ("layers.block.bn.vars.3", (8,), Role.BUFFER, (0, 0)),
        ("layers.block.token_embedding.vars.0", (99, 16), Role.EMBEDDING, (99, 16)),
        ("layers.embedding.embeddings", (99, 16), Role.EMBEDDING, (99, 16)),
        ("layers.position_embedding.embeddings", (99, 16), Role.POSITION_EMBEDDING, (99, 16)),
        ("layers.batch_normalization.gamma", (8,), Role.NORM, (0, 0)),
        ("conv1_bn.conv1_bn.gamma", (8,), Role.NORM, (0, 0)),
        ("layers.batch_normalization.beta", (8,), Role.BIAS, (0, 0)),
        ("layers.batch_normalization.moving_mean", (8,), Role.BUFFER, (0, 0)),
        ("layers.batch_normalization.moving_variance", (8,), Role.BUFFER, (0, 0)),
        ("multi_head_attention_1.query.bias", (2, 4), Role.BIAS, (0, 0)),
        ("predictions.predictions.kernel", (16, 10), Role.HEAD, (16, 10)),
    ],
)
def test_the_names_of_keras_are_known(name: str, shape: tuple[int, ...], role: Role, fans: tuple[int, int]) -> None:
    part = only_part(name, shape)
    assert (part.role, part.fan_in, part.fan_out) == (role, *fans)
    assert part.depth is None
    assert part.outputs_first is (fans == (0, 0))


@pytest.mark.parametrize(
    ("name", "shape", "role", "depth", "fans"),
    [
        ("embedding.kernel", (16, 16, 3, 32), Role.PATCH_EMBEDDING, None, (768, 8192)),
        ("Transformer.posembed_input.pos_embedding", (1, 17, 32), Role.POSITION_EMBEDDING, None, (17, 32)),
        ("Transformer.encoderblock_3.LayerNorm_0.scale", (32,), Role.NORM, 3, (0, 0)),
        ("encoderblock_3.MultiHeadDotProductAttention_1.query.kernel", (32, 4, 8), Role.ATTENTION_Q, 3, (32, 32)),
        ("encoderblock_3.MultiHeadDotProductAttention_1.out.kernel", (4, 8, 32), Role.ATTENTION_O, 3, (32, 32)),
        ("params.Transformer.encoderblock_3.MlpBlock_3.Dense_0.kernel", (32, 80), Role.MLP_UP, 3, (32, 80)),
        ("params.Transformer.encoderblock_3.MlpBlock_3.Dense_1.kernel", (80, 32), Role.MLP_DOWN, 3, (80, 32)),
        ("target.encoder.layers_3.attention.query.kernel", (32, 64), Role.ATTENTION_Q, 3, (32, 64)),
        ("target.encoder.layers_3.attention.out.kernel", (64, 32), Role.ATTENTION_O, 3, (64, 32)),
        ("target.encoder.layers_3.mlp.wi_0.kernel", (32, 80), Role.MLP_GATE, 3, (32, 80)),
        ("target.encoder.layers_3.mlp.wo.kernel", (80, 32), Role.MLP_DOWN, 3, (80, 32)),
        ("target.encoder.layers_3.encoder_decoder_attention.key.kernel", (32, 64), Role.CROSS_ATTENTION_K, 3, (32, 64)),
        ("target.encoder.encoder_norm.scale", (32,), Role.NORM, None, (0, 0)),
        ("target.token_embedder.embedding", (99, 32), Role.EMBEDDING, None, (99, 32)),
        ("bert.encoder.layer_._3.attention.self.query.kernel", (32, 32), Role.ATTENTION_Q, 3, (32, 32)),
        ("bert.encoder.layer_._3.attention.output.LayerNorm.gamma", (32,), Role.NORM, 3, (0, 0)),
        ("bert.embeddings.word_embeddings.weight", (99, 32), Role.EMBEDDING, None, (99, 32)),
        ("down_blocks_1.attentions_0.attn1.to_q.kernel", (32, 24), Role.ATTENTION_Q, 100, (32, 24)),
        ("down_blocks_1.attentions_0.attn1.to_out_0.kernel", (24, 32), Role.ATTENTION_O, 100, (24, 32)),
        ("down_blocks_1.attentions_0.transformer_blocks_0.ff.net_2.kernel", (128, 32), Role.MLP_DOWN, 100, (128, 32)),
        ("batch_stats.BatchNorm_0.mean", (8,), Role.BUFFER, None, (0, 0)),
        ("batch_stats.stem.bn.var", (8,), Role.BUFFER, None, (0, 0)),
    ],
)  # fmt: skip
def test_the_names_of_google_and_of_flax_modules_are_known(
    name: str, shape: tuple[int, ...], role: Role, depth: int | None, fans: tuple[int, int]
) -> None:
    part = only_part(name, shape)
    assert (part.role, part.depth, part.fan_in, part.fan_out) == (role, depth, *fans)


@pytest.mark.parametrize("name", ["mean.weight", "logits_var.weight", "actor.variance.weight"])
def test_a_layer_that_predicts_a_mean_is_no_statistic(name: str) -> None:
    assert roles(name, (4, 8)) == [Role.OTHER]


@pytest.mark.parametrize("quantised", [False, True])
def test_a_quantiser_that_makes_linear_layers_of_gpt2s_turns_them_back(quantised: bool) -> None:  # noqa: FBT001
    config = {"model_type": "gpt2", "n_embd": 32}
    shapes = {"attn.c_attn": (32, 96), "mlp.c_fc": (32, 128), "mlp.c_proj": (128, 32)}
    for name, shape in shapes.items():
        stored = shape[::-1] if quantised else shape
        parts = layout_of(f"transformer.h.0.{name}.weight", stored, config).parts
        assert {part.outputs_first for part in parts} == {quantised}
        assert sum(part.fan_out for part in parts) == shape[1]
        assert {part.fan_in for part in parts} == {shape[0]}


def test_flax_turns_the_linear_layers_of_gpt2_and_of_no_other() -> None:
    gpt2, neo = {"model_type": "gpt2"}, {"model_type": "gpt_neo"}
    for name, turned in (("mlp.c_fc", (128, 32)), ("mlp.c_proj", (32, 128))):
        for config, shape, outputs_first in ((gpt2, turned, True), (neo, turned[::-1], False)):
            for settings in (config, {}):
                part = only_part(f"transformer.h.0.{name}.kernel", shape, **settings)
                assert (part.fan_in, part.fan_out, part.outputs_first) == (turned[1], turned[0], outputs_first)
    names = ["q", "k", "v"]
    fused = "transformer.h.0.attn.c_attn"
    for name, shape in ((f"{fused}.kernel", (96, 32)), (f"{fused}.weight", (32, 96))):
        assert [(part.suffix, part.fan_in, part.fan_out) for part in layout_of(name, shape, gpt2).parts] == [
            (suffix, 32, 32) for suffix in names
        ]


@pytest.mark.parametrize("name", ["onnx::MatMul_123", "arith.constant1", "sequential/dense/MatMul", "kernel_quantized"])
def test_a_name_that_a_converter_made_up_says_nothing(name: str) -> None:
    part = only_part(name, (32, 80))
    assert (part.role, part.fan_in, part.outputs_first) == (Role.OTHER, 80, True)


def test_keys_and_values_of_a_latent_are_what_the_fused_tensor_says_they_are() -> None:
    heads, latent, key, value = 4, 10, 6, 8
    settings = {"num_attention_heads": heads, "qk_nope_head_dim": key, "v_head_dim": value}
    name = "model.layers.3.self_attn.kv_b_proj.weight"
    of_keys, of_values = layout_of(name, (heads * (key + value), latent), settings).parts
    for name, shape, fused, outputs_first in (
        ("blk.3.attn_k_b.weight", (heads, latent, key), of_keys, False),
        ("blk.3.attn_v_b.weight", (heads, value, latent), of_values, True),
    ):
        layout = layout_of(name, shape, {"model_type": "gguf-deepseek2"})
        (part,) = layout.parts
        assert (part.role, part.depth, part.fan_in, part.fan_out) == (
            fused.role,
            fused.depth,
            fused.fan_in,
            fused.fan_out,
        )
        assert part.outputs_first is outputs_first
        assert (times_covered(layout) == 1).all()


# --- what is not certain stays whole


@pytest.mark.parametrize(
    ("name", "shape", "config"),
    [
        ("layers.0.attention.query_key_value.weight", (96, 32), {}),
        ("layers.0.attention.query_key_value.weight", (96, 32), {"num_attention_heads": 4}),
        ("layers.0.attention.query_key_value.weight", (96, 32), {"model_type": "gpt_neox"}),
        ("layers.0.attention.query_key_value.weight", (96, 32), {"model_type": "gpt_neox", "num_attention_heads": 5}),
        ("h.0.self_attention.query_key_value.weight", (96, 32), {"model_type": "falcon", "num_attention_heads": 4}),
        ("layers.0.self_attn.qkv_proj.weight", (64, 32), {"model_type": "phi3"}),
        ("layers.0.self_attn.kv_b_proj.weight", (56, 10), {"num_attention_heads": 4}),
        ("layers.0.self_attn.kv_b_proj.weight", (56, 10), {"num_attention_heads": "4", "v_head_dim": [8]}),
        ("blocks.0.attn.qkv.weight", (64, 32), {}),
    ],
)
def test_a_fused_projection_of_unknown_layout_stays_whole(
    name: str, shape: tuple[int, ...], config: dict[str, object]
) -> None:
    assert roles(name, shape, **config) == [Role.ATTENTION_QKV]


@pytest.mark.parametrize("config", [{}, {"model_type": "new"}, {"model_type": "new", "hidden_size": 7}])
def test_a_stack_of_experts_whose_axes_are_unknown_stays_whole(config: dict[str, object]) -> None:
    assert roles("layers.0.mlp.experts.gate_up_proj", (3, 40, 32), **config) == [Role.EXPERT_GATE_UP]


def test_a_header_that_claims_a_billion_experts_is_not_taken_apart() -> None:
    config = {"model_type": "qwen3_moe", "hidden_size": 2}
    assert len(layout_of("layers.0.mlp.experts.gate_up_proj", (10**9, 0, 2), config).parts) == 1
    assert len(layout_of("layers.0.mlp.experts.gate_up_proj", (10**9, 4, 2), config).parts) == 1


def test_every_expert_of_a_stack_is_a_part_of_its_own() -> None:
    config = {"model_type": "qwen3_moe", "hidden_size": 32}
    layout = layout_of("model.layers.5.mlp.experts.gate_up_proj", (2, 40, 32), config)
    assert [part.suffix for part in layout.parts] == [
        "experts.0.gate",
        "experts.0.up",
        "experts.1.gate",
        "experts.1.up",
    ]
    assert {(part.fan_in, part.fan_out, part.depth) for part in layout.parts} == {(32, 20, 5)}


# --- whatever comes

WORDS = st.sampled_from(
    sorted({word for end in ROLES for word in end.split(".")} | {"0", "1", "17", "experts", "attn2"})
)
NAMES = st.lists(WORDS, max_size=7).map(".".join) | st.text(max_size=40)
LEAVES = st.sampled_from(
    ["", ".weight", ".bias", ".kernel", ".depthwise_kernel", ".embedding", ".scale", ".vars.0", "_._7.kernel"]
)
SHAPES = st.lists(st.integers(0, 24), max_size=5).map(tuple)
MODEL_TYPES = st.sampled_from(sorted({model_type for _, model_type in SPLITS} | {"gpt_oss", "llama4", "gpt2"}))
SETTINGS = st.sampled_from(
    [
        *("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "num_heads", "n_groups"),
        *("multi_query", "new_decoder_architecture", "is_encoder_decoder", "_class_name", "architecture"),
        *("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "state_size", "time_step_rank"),
        *("text_config", "vision_config", "encoder", "decoder"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 8) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
CONFIGS = st.builds(
    lambda settings, model_type: settings | model_type,
    st.dictionaries(SETTINGS, JSON, max_size=6),
    st.just({}) | MODEL_TYPES.map(lambda name: {"model_type": name}) | JSON.map(lambda any_: {"model_type": any_}),
)


@given(NAMES, LEAVES, SHAPES, CONFIGS)
@example("", "", (), {})
@example("experts.gate_up_proj", "", (2, 4, 4), {"model_type": "gpt_oss", "hidden_size": 4})
@example("layers.99999999999999999999999.q_proj", ".weight", (2, 2), {})
@example("layers.#.#", ".weight", (2, 2), {})
@example("layers.\N{SUPERSCRIPT TWO}.q_proj", ".weight", (2, 2), {})
def test_any_tensor_gets_a_layout_whose_parts_tile_it(
    name: str, leaf: str, shape: tuple[int, ...], config: dict[str, object]
) -> None:
    layout = layout_of(name + leaf, shape, config)
    assert layout.rows * layout.columns == np.prod(shape, dtype=int)
    if layout.rows * layout.columns < 10**5:
        assert (times_covered(layout) == 1).all()
    for part in layout.parts:
        assert (len(part.rows), len(part.columns)) == (
            indices(part.rows, layout.rows).sum(),
            indices(part.columns, layout.columns).sum(),
        )
        assert part.fan_in >= 0
        assert part.fan_out >= 0


@pytest.mark.parametrize(
    "name",
    [
        "a" * 10**6,
        "." * 10**6,
        "1." * 10**6,
        "norm" * 10**5 + ".weight",
        "layers." * 10**5 + "0.weight",
        "block1." * 10**5,
        "9" * 10**6,
        "mlp.experts." * 10**5 + "q_proj.lora_A.default.weight",
    ],
    ids=lambda name: name[:12],
)
def test_a_hostile_name_is_read_like_any_other(name: str) -> None:
    assert len(layout_of(name, (4, 4), {}).parts) == 1


def test_the_names_of_a_large_mixture_of_experts_are_all_read() -> None:
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{matrix}_proj.weight"
        for layer in range(61)
        for expert in range(256)
        for matrix in ("gate", "up", "down")
    ]
    read = [only_part(name, (2048, 7168), model_type="deepseek_v3") for name in names]
    assert {part.role for part in read} == {Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN}
    assert {part.depth for part in read} == set(range(61))


# --- the tables


def test_every_role_is_audited_in_exactly_one_way() -> None:
    assert set(Role) == ENDS | KEPT | HIDDEN_LAYERS
    assert len(ENDS) + len(KEPT) + len(HIDDEN_LAYERS) == len(Role)


def test_every_end_of_a_name_can_be_found() -> None:
    for end in ROLES:
        assert end == end.lower()
        assert len(end.split(".")) <= LONGEST_END


def test_every_split_belongs_to_a_known_end() -> None:
    assert not {end for end, _ in SPLITS} - set(ROLES)
