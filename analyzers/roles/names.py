"""Tensor name -> what it says: the role, the stack and the depth. Only dictionaries are searched, never the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from jaynes_audit.analyzers.roles.depth import BLOCKS, STAGES, Steps, first_integer, steps_of
from jaynes_audit.analyzers.roles.role import CROSS_ATTENTION, ENDS, EXPERT, LOOKED_UP, Role

# The end of a module's path, in lower case and with `#` for an integer -> the role of its weight. The longest end
# that is found here decides, so prefixes (`model.`, `bert.`, `base_model.model.`) never matter.
ROLES: dict[str, Role] = {
    # --- attention: separate projections
    **dict.fromkeys(("q_proj", "to_q", "q_lin", "query", "query_proj", "q_attn", "add_q_proj"), Role.ATTENTION_Q),
    **dict.fromkeys(("k_proj", "to_k", "k_lin", "key", "key_proj", "add_k_proj"), Role.ATTENTION_K),
    **dict.fromkeys(("v_proj", "to_v", "v_lin", "value", "value_proj", "add_v_proj"), Role.ATTENTION_V),
    **dict.fromkeys(("o_proj", "out_proj", "to_out", "to_out.#", "out_lin", "to_add_out"), Role.ATTENTION_O),
    **dict.fromkeys(("attention.wq", "selfattention.q", "encdecattention.q"), Role.ATTENTION_Q),
    **dict.fromkeys(("attention.wk", "selfattention.k", "encdecattention.k"), Role.ATTENTION_K),
    **dict.fromkeys(("attention.wv", "selfattention.v", "encdecattention.v"), Role.ATTENTION_V),
    **dict.fromkeys(("attention.wo", "selfattention.o", "encdecattention.o", "attn.wo"), Role.ATTENTION_O),
    **dict.fromkeys(("attn.c_proj", "crossattention.c_proj", "attn.proj", "attention.proj"), Role.ATTENTION_O),
    **dict.fromkeys(("attention.output.dense", "crossattention.output.dense", "attention.output"), Role.ATTENTION_O),
    **dict.fromkeys(("attention.dense", "self_attn.dense", "self_attention.dense", "proj_attn"), Role.ATTENTION_O),
    "linear_attn.out_proj": Role.ATTENTION_O,
    "in_proj_z": Role.ATTENTION_GATE,
    "pos_query_proj": Role.ATTENTION_Q,
    "pos_key_proj": Role.ATTENTION_K,
    # --- attention: fused projections, taken apart by splits.py where that is certain
    **dict.fromkeys(("qkv", "c_attn", "qkv_proj", "query_key_value", "wqkv", "in_proj_weight"), Role.ATTENTION_QKV),
    "crossattention.c_attn": Role.ATTENTION_QKV,
    **dict.fromkeys(("to_qkv", "to_kv", "kv_proj", "w_pack", "in_proj_qkvz", "in_proj_qkv"), Role.ATTENTION_QKV),
    **dict.fromkeys(("kv_a_proj_with_mqa", "kv_b_proj"), Role.ATTENTION_QKV),
    "q_a_proj": Role.ATTENTION_Q_A,
    "q_b_proj": Role.ATTENTION_Q_B,
    # --- feed-forward networks
    **dict.fromkeys(("gate_proj", "wi_0", "fc1_g", "feed_forward.w1", "experts.#.w1"), Role.MLP_GATE),
    **dict.fromkeys(("up_proj", "wi_1", "fc1_x", "feed_forward.w3", "experts.#.w3"), Role.MLP_UP),
    **dict.fromkeys(("down_proj", "wo", "feed_forward.w2", "experts.#.w2"), Role.MLP_DOWN),
    **dict.fromkeys(("fc1", "c_fc", "fc_in", "dense_h_to_4h", "intermediate.dense", "wi", "lin1"), Role.MLP_UP),
    **dict.fromkeys(("fc2", "mlp.c_proj", "fc_out", "dense_4h_to_h", "output.dense", "lin2"), Role.MLP_DOWN),
    **dict.fromkeys(("pwconv1", "ffn", "intermediate_dense", "mlp.dense1", "proj_mlp"), Role.MLP_UP),
    **dict.fromkeys(("pwconv2", "ffn_output", "output_dense", "mlp.dense2", "weights_out"), Role.MLP_DOWN),
    **dict.fromkeys(("ff.net.#.proj", "ff_context.net.#.proj"), Role.MLP_UP),
    **dict.fromkeys(("ff.net.#", "ff_context.net.#"), Role.MLP_DOWN),
    **dict.fromkeys(("gate_up_proj", "weights_in", "mlp.w12", "gate_up_proj_blocks"), Role.MLP_GATE_UP),
    "down_proj_blocks": Role.MLP_DOWN,
    "feed_forward.receptance": Role.MLP_GATE,
    "feed_forward.key": Role.MLP_UP,
    "feed_forward.value": Role.MLP_DOWN,
    # --- mixtures of experts
    "block_sparse_moe.input_linear": Role.EXPERT_GATE_UP,
    "block_sparse_moe.output_linear": Role.EXPERT_DOWN,
    **dict.fromkeys(("mlp.gate", "block_sparse_moe.gate", "feed_forward.gate", "moe.gate"), Role.ROUTER),
    **dict.fromkeys(("router", "router.layer", "router.classifier", "shared_expert_gate"), Role.ROUTER),
    # --- state spaces
    **dict.fromkeys(("mixer.in_proj", "mamba.in_proj", "x_proj"), Role.SSM_IN),
    **dict.fromkeys(("mixer.out_proj", "mamba.out_proj"), Role.SSM_OUT),
    **dict.fromkeys(("mixer.conv1d", "mamba.conv1d", "linear_attn.conv1d"), Role.SSM_CONV),
    "dt_proj": Role.SSM_DT_B,
    "a_log": Role.SSM_A_LOG,
    "mixer.d": Role.SSM_D,
    "mamba.d": Role.SSM_D,
    # --- embeddings
    **dict.fromkeys(("embed_tokens", "tok_embeddings", "word_embeddings", "wte", "embed_in", "shared"), Role.EMBEDDING),
    **dict.fromkeys(("token_embedding", "tokens_embed", "token_type_embeddings", "embeddings"), Role.EMBEDDING),
    **dict.fromkeys(("embedding_table", "class_embedding", "cls_token", "mask_token", "dist_token"), Role.EMBEDDING),
    **dict.fromkeys(("distillation_token", "register_tokens", "query_tokens", "probe", "embedding"), Role.EMBEDDING),
    **dict.fromkeys(("masked_spec_embed", "image_newline", "reg_token", "storage_tokens"), Role.EMBEDDING),
    **dict.fromkeys(("wpe", "embed_positions", "positions_embed", "position_embeddings"), Role.POSITION_EMBEDDING),
    **dict.fromkeys(("position_embedding", "positional_embedding", "pos_embed"), Role.POSITION_EMBEDDING),
    **dict.fromkeys(("relative_attention_bias", "relative_position_bias_table"), Role.POSITION_EMBEDDING),
    **dict.fromkeys(("rel_pos_h", "rel_pos_w", "rel_embeddings"), Role.POSITION_EMBEDDING),
    **dict.fromkeys(("patch_embed.proj", "patch_embed.projection", "patch_embedding"), Role.PATCH_EMBEDDING),
    **dict.fromkeys(("patch_embeddings", "patch_embeddings.projection", "pos_embed.proj"), Role.PATCH_EMBEDDING),
    **dict.fromkeys(("patch_embeddings.#.proj", "x_embedder", "conv_proj"), Role.PATCH_EMBEDDING),
    **dict.fromkeys(("timestep_embedder.linear_1", "timestep_embedder.linear_2"), Role.TIME_EMBEDDING),
    **dict.fromkeys(("time_embedding.linear_1", "time_embedding.linear_2", "time_embed.#"), Role.TIME_EMBEDDING),
    **dict.fromkeys(("guidance_embedder.linear_1", "guidance_embedder.linear_2"), Role.TIME_EMBEDDING),
    "t_embedder.mlp.#": Role.TIME_EMBEDDING,
    # --- what conditions a block, and what only changes the width or the modality
    **dict.fromkeys(("norm1.linear", "norm1_context.linear", "norm_out.linear", "norm.linear"), Role.MODULATION),
    **dict.fromkeys(("adaln_single.linear", "adaln_modulation.#", "time_emb_proj", "proj_out_1"), Role.MODULATION),
    "emb_layers.#": Role.MODULATION,
    **dict.fromkeys(("proj_in", "proj_out", "project_in", "project_out", "context_embedder"), Role.PROJECTION),
    **dict.fromkeys(("text_embedder.linear_1", "text_embedder.linear_2"), Role.PROJECTION),
    **dict.fromkeys(("caption_projection.linear_1", "caption_projection.linear_2"), Role.PROJECTION),
    **dict.fromkeys(("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"), Role.PROJECTION),
    **dict.fromkeys(("merger.mlp.#", "text_projection", "visual_projection", "embeddings_project"), Role.PROJECTION),
    **dict.fromkeys(("embedding_hidden_mapping_in", "feature_projection.projection"), Role.PROJECTION),
    **dict.fromkeys(("downsample.reduction", "linear_c.#.proj"), Role.PROJECTION),
    # --- heads and poolers
    **dict.fromkeys(("lm_head", "head", "classifier", "classifier.#", "score", "embed_out", "head.fc"), Role.HEAD),
    **dict.fromkeys(("predictions.decoder", "predictions.transform.dense", "predictions.dense"), Role.HEAD),
    **dict.fromkeys(("lm_head.dense", "lm_head.decoder", "vocab_transform", "vocab_projector"), Role.HEAD),
    **dict.fromkeys(("pre_classifier", "qa_outputs", "cls_classifier", "distillation_classifier"), Role.HEAD),
    **dict.fromkeys(("classifier.dense", "classifier.out_proj", "seq_relationship", "head_dist"), Role.HEAD),
    **dict.fromkeys(("head.dense", "discriminator_predictions.dense", "dense_prediction"), Role.HEAD),
    **dict.fromkeys(("generator_predictions.dense", "generator_lm_head", "proj_out_2"), Role.HEAD),
    "pooler.dense": Role.POOLER,
    # --- convolutions whose name does not say so
    "conv_layers.#.conv": Role.CONV,
    **dict.fromkeys(("pos_conv_embed.conv", "linear_fuse", "dwconv", "pointwise", "downsampling_layer.#"), Role.CONV),
    # --- llama.cpp's words for all of these, after `MODEL_TENSOR` in constants.py of its package gguf
    **dict.fromkeys(("attn_q", "self_attn_q"), Role.ATTENTION_Q),
    **dict.fromkeys(("attn_k", "self_attn_k"), Role.ATTENTION_K),
    **dict.fromkeys(("attn_v", "self_attn_v"), Role.ATTENTION_V),
    **dict.fromkeys(("attn_output", "attn_out", "attn_o", "self_attn_out", "vis_attn_output"), Role.ATTENTION_O),
    "attn_gate": Role.ATTENTION_GATE,
    **dict.fromkeys(("attn_qkv", "vis_attn_qkv", "attn_kv_a_mqa", "attn_kv_b"), Role.ATTENTION_QKV),
    "attn_q_a": Role.ATTENTION_Q_A,
    "attn_q_b": Role.ATTENTION_Q_B,
    "attn_k_b": Role.ATTENTION_K_B,
    "attn_v_b": Role.ATTENTION_V_B,
    "cross_attn_q": Role.CROSS_ATTENTION_Q,
    "cross_attn_k": Role.CROSS_ATTENTION_K,
    "cross_attn_v": Role.CROSS_ATTENTION_V,
    **dict.fromkeys(("cross_attn_o", "cross_attn_out"), Role.CROSS_ATTENTION_O),
    **dict.fromkeys(("ffn_gate", "ffn_gate_shexp", "vis_gate", "channel_mix_receptance"), Role.MLP_GATE),
    **dict.fromkeys(("ffn_up", "ffn_up_shexp", "vis_up", "channel_mix_key"), Role.MLP_UP),
    **dict.fromkeys(("ffn_down", "ffn_down_shexp", "vis_down", "channel_mix_value"), Role.MLP_DOWN),
    **dict.fromkeys(("ffn_gate_exps", "ffn_gate_chexps", "ffn_gate.#"), Role.EXPERT_GATE),
    **dict.fromkeys(("ffn_up_exps", "ffn_up_chexps", "ffn_up.#"), Role.EXPERT_UP),
    **dict.fromkeys(("ffn_down_exps", "ffn_down_chexps", "ffn_down.#"), Role.EXPERT_DOWN),
    "ffn_gate_up_exps": Role.EXPERT_GATE_UP,
    **dict.fromkeys(("ffn_gate_inp", "ffn_gate_inp_shexp"), Role.ROUTER),
    **dict.fromkeys(("ssm_in", "ssm_x"), Role.SSM_IN),
    **dict.fromkeys(("ssm_conv1d", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"), Role.SSM_CONV),
    "ssm_dt": Role.SSM_DT_B,
    "ssm_out": Role.SSM_OUT,
    "ssm_a": Role.SSM_A_LOG,  # -exp of what others store
    "ssm_d": Role.SSM_D,
    **dict.fromkeys(("token_embd", "token_types", "per_layer_token_embd", "class_embd"), Role.EMBEDDING),
    **dict.fromkeys(("position_embd", "attn_rel_b", "cross_attn_rel_b"), Role.POSITION_EMBEDDING),
    **dict.fromkeys(("patch_embd", "patch_embd.weight.#"), Role.PATCH_EMBEDDING),
    **dict.fromkeys(("mm.#", "mm.model.mlp.#", "mm.model.fc", "mm.input_projection"), Role.PROJECTION),
    **dict.fromkeys(("per_layer_model_proj", "nextn.eh_proj"), Role.PROJECTION),
    **dict.fromkeys(("cls", "cls.output", "nextn.shared_head_head"), Role.HEAD),
    **dict.fromkeys(("ls1", "ls2"), Role.SCALE),
    "attn_sinks": Role.BIAS,
    **dict.fromkeys(("rope_freqs", "rope_factors_long", "rope_factors_short", "attn_rot_embd"), Role.BUFFER),
    # --- words of Keras, KerasHub, T5X and Google's vision transformers for some of these
    "query_dense": Role.ATTENTION_Q,
    "key_dense": Role.ATTENTION_K,
    "value_dense": Role.ATTENTION_V,
    **dict.fromkeys(("attention_output", "attention.out", "self_attention.out"), Role.ATTENTION_O),
    **dict.fromkeys(("encoder_decoder_attention.out", "multiheaddotproductattention.#.out"), Role.ATTENTION_O),
    "feedforward_gate_dense": Role.MLP_GATE,
    **dict.fromkeys(("feedforward_intermediate_dense", "mlpblock.#.dense_0"), Role.MLP_UP),
    **dict.fromkeys(("feedforward_output_dense", "mlpblock.#.dense_1"), Role.MLP_DOWN),
    **dict.fromkeys(("pos_embedding", "rel_embedding"), Role.POSITION_EMBEDDING),
    **dict.fromkeys(("predictions", "logits", "logits_dense"), Role.HEAD),
    # --- gains, offsets and what is computed rather than trained
    **dict.fromkeys(("grn", "rms"), Role.NORM),
    **dict.fromkeys(("sinks", "e_score_correction_bias"), Role.BIAS),
    **dict.fromkeys(("gamma", "lambda1", "lambda_1", "lambda_2", "alpha", "lora_magnitude_vector"), Role.SCALE),
    **dict.fromkeys(("running_mean", "running_var", "num_batches_tracked", "inv_freq", "position_ids"), Role.BUFFER),
    **dict.fromkeys(("moving_mean", "moving_variance"), Role.BUFFER),
    # GPT-2 and GPT-NeoX once saved their causal mask under these names.
    **dict.fromkeys(("attn.bias", "attention.bias", "masked_bias", "relative_position_index"), Role.BUFFER),
}

# The same for what stands outside every block, where short words mean something else.
ROLES_OUTSIDE: dict[str, Role] = {
    **dict.fromkeys(("output", "proj_out", "fc", "decoder"), Role.HEAD),
}

# What stands before, after or between the blocks: an integer in such a name is no depth.
OUTSIDE = ENDS | {Role.PROJECTION}

# Words that a tool puts into a path and that say nothing about the network.
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer", "modules_to_save"}
)

# How adapters of the usual tools name their two factors.
ADAPTERS: dict[str, Role] = {
    **dict.fromkeys(("lora_a", "lora_embedding_a", "lora_down", "lora.down"), Role.LORA_A),
    **dict.fromkeys(("lora_b", "lora_embedding_b", "lora_up", "lora.up"), Role.LORA_B),
}

CROSS_ATTENTION_WORDS = frozenset(
    {"encdecattention", "encoder_attn", "crossattention", "cross_attn", "cross_attention", "attn2"}
    | {"encoder_decoder_attention"}
)

# A shared expert serves every token, as a dense feed-forward network does: it is not among these.
EXPERT_WORDS = frozenset({"experts", "expert"})

# Networks within a network. The first four stand beside the main stack, whichever half of it they feed.
TOWERS: dict[str, str] = {
    **dict.fromkeys(("vision_model", "vision_tower", "visual", "vision_encoder", "vision"), "vision"),
    **dict.fromkeys(("text_model", "language_model", "text_encoder"), "text"),
    **dict.fromkeys(("audio_model", "audio_tower", "audio_encoder"), "audio"),
    "single_transformer_blocks": "single",
}
HALVES = {"encoder": "encoder", "enc": "encoder", "decoder": "decoder", "dec": "decoder"}

INTEGER = re.compile(r"\.([0-9]{1,6})(?=\.|\Z)")  # one word of a path with a dot before it; a longer one is no index
NORM_WORD = re.compile(r"(?:ln|bn)(?:[_0-9].*)?|.*_(?:ln|bn)")  # besides every word with "norm" in it

# Flax counts a list of modules as `layers_0`, Keras 2 as `layer_._0`; PyTorch writes `layers.0` for both. Not every
# word with a number behind it counts: Flax's `Dense_0` and Keras's `dense_1` are names.
FLAX_LISTS = frozenset({"resnets", "attentions", "downsamplers", "upsamplers", "net", "to_out"})
FLAX_MODULES = frozenset({"multiheaddotproductattention", "mlpblock"})
COUNT = re.compile(r"_[0-9]{1,6}(?=\.|\Z)")  # found faster than the words before it, and most names have none
COUNTED_WORD = re.compile(
    rf"\.({'|'.join(sorted(BLOCKS | {*STAGES} | FLAX_LISTS | FLAX_MODULES))})_(?=[0-9]{{1,6}}(?:\.|\Z))", re.IGNORECASE
)

# Keras 3 saves most variables without their names, as `vars.0`, `vars.1`, in the order in which their layer made them.
KERAS_VARIABLE = re.compile(r"\.vars\.(?=[0-9]\Z)")
VARIABLES_OF_NORMS = {"vars#0": "gamma", "vars#1": "beta", "vars#2": "moving_mean", "vars#3": "moving_variance"}

STATISTICS = frozenset({"mean", "var", "variance"})  # what Flax and Keras call what PyTorch calls `running_mean`
DEPTHWISE_WORDS = ("depthwise", "dwconv", "conv_dw")

LONGEST_END = 4  # words in the longest key of ROLES
LONGEST_NAME = 512  # characters; several times the longest that any tool writes


class Leaf(Enum):
    """What a parameter is to the module that owns it, and so where its outputs lie.

    On the first axis of a WEIGHT, as PyTorch stores it. On the last of a KERNEL, as Keras and Flax do: it is
    (inputs, outputs) or (height, width, inputs, outputs). On the last two of a DEPTHWISE_KERNEL, which is Keras's
    (height, width, inputs, outputs of each input) or Flax's (height, width, 1, outputs). A TABLE has a row for each
    entry. A PARAMETER is any other: a bias, a buffer, what belongs to no module.
    """

    PARAMETER = auto()
    WEIGHT = auto()
    KERNEL = auto()
    DEPTHWISE_KERNEL = auto()
    TABLE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a name says, whatever the integers in it.

    `end` is the key of ROLES under which the role was found, empty where only the last word hinted at it.
    `tower` and `half` are the words from which the stack follows, see `layout_of`. `steps` is None for what stands
    outside every block.
    """

    role: Role
    end: str
    leaf: Leaf
    tower: str
    half: str
    steps: Steps | None


def parsed(name: str) -> tuple[Meaning, tuple[int, ...]]:
    """What a name says, and the integers in it that `Steps` counts on.

    Names that differ only in their integers are read once. Of a name that no tool would write, the middle is ignored.
    """
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME // 2] + name[-LONGEST_NAME // 2 :]
    dotted = "." + name.replace("#", "_").replace("_._", ".")
    if COUNT.search(dotted):
        dotted = COUNTED_WORD.sub(r".\1.", dotted)
    dotted = KERAS_VARIABLE.sub(".vars#", dotted)
    return _read(INTEGER.sub(".#", dotted)), tuple(map(int, INTEGER.findall(dotted)))


@lru_cache(maxsize=4096)
def _read(pattern: str) -> Meaning:
    """What a path says that has a dot before every word and `#` for its integers."""
    path = [word for word in pattern.lower().split(".")[1:] if word not in WRAPPERS]
    path, leaf = _without_leaf(path)
    is_weight = leaf is not Leaf.PARAMETER
    steps = steps_of(path)
    role, end = _role(path, outside=steps is None, is_weight=is_weight)
    if leaf is Leaf.TABLE and role not in LOOKED_UP:
        role = Role.EMBEDDING
    # A bias stands where its module stands: an embedding's or a head's integer is no depth.
    of_module = role if end or is_weight else _role(path[:-1], outside=steps is None, is_weight=True)[0]
    return Meaning(
        role=role,
        end=end,
        leaf=leaf,
        tower=next((TOWERS[word] for word in path if word in TOWERS), ""),
        half=next((HALVES[word] for word in path if word in HALVES), ""),
        steps=steps or (None if of_module in OUTSIDE else first_integer(path)),
    )


def _without_leaf(path: list[str]) -> tuple[list[str], Leaf]:
    """The path of the module whose weight this is; for any other parameter its own path. And which of them it is."""
    match path:
        case [*module, "parametrizations", "weight", "original1"]:  # the direction of a weight-normalised tensor
            found = module, Leaf.WEIGHT
        case [*module, "default", "weight"] | [*module, "default"]:  # PEFT's name for the only adapter
            found = module, Leaf.WEIGHT
        case [*module, "weight" | "weight_v" | "weight_orig"] if module:
            found = module, Leaf.WEIGHT
        case [*module, norm, "gamma" | "scale"] if _is_norm(norm):  # Keras's and Flax's words
            found = [*module, norm], Leaf.WEIGHT
        case [*module, "kernel" | "recurrent_kernel" | "pointwise_kernel"]:
            is_depthwise = any(word in (module[-1] if module else "") for word in DEPTHWISE_WORDS)
            found = module, Leaf.DEPTHWISE_KERNEL if is_depthwise else Leaf.KERNEL
        case [*module, "depthwise_kernel"]:
            found = module, Leaf.DEPTHWISE_KERNEL
        case [*module, "embedding" | "embeddings"] if module:
            found = module, Leaf.TABLE
        case [*module, of, variable] if variable.startswith("vars#"):
            found = _without_leaf([*module, of, _keras_variable(of, variable)])
        case [*module, "parametrizations", "weight", "original0"]:
            found = [*module, "scale"], Leaf.PARAMETER
        case _:
            found = path, Leaf.PARAMETER
    return found


def _keras_variable(module: str, variable: str) -> str:
    """The name of a variable that has only a number, from what its module is called."""
    if _is_norm(module):
        return VARIABLES_OF_NORMS.get(variable, "moving_variance")
    if "embedding" in module and "patch" not in module:
        return "embeddings"
    return "depthwise_kernel" if variable == "vars#0" and "separable" in module else "kernel"


def _role(path: list[str], *, outside: bool, is_weight: bool) -> tuple[Role, str]:
    """The role that a path's last words name, and the key that named it."""
    last = path[-1] if path else ""
    if adapter := next((end for end in (last, ".".join(path[-2:])) if end in ADAPTERS), ""):
        return ADAPTERS[adapter], adapter
    if is_weight and _is_norm(last):
        return Role.NORM, last
    for end in _ends(path):
        role = ROLES_OUTSIDE.get(end) if outside else None
        if role or (role := ROLES.get(end)):
            return _in_context(role, path), end
    return _hint(last, is_weight=is_weight), ""


def _hint(last: str, *, is_weight: bool) -> Role:
    """The role that a word suggests which stands in no table."""
    if last.endswith("bias") or last == "beta":
        return Role.BIAS
    if last in STATISTICS and not is_weight:
        return Role.BUFFER
    if "scale" in last:
        return Role.SCALE
    return Role.CONV if is_weight and "conv" in last else Role.OTHER


def _is_norm(word: str) -> bool:
    return "norm" in word or NORM_WORD.fullmatch(word) is not None


def _in_context(role: Role, path: list[str]) -> Role:
    """The same function, across sequences or in an expert."""
    if not CROSS_ATTENTION_WORDS.isdisjoint(path):
        return CROSS_ATTENTION.get(role, role)
    return role if EXPERT_WORDS.isdisjoint(path) else EXPERT.get(role, role)


def _ends(path: list[str]) -> Iterator[str]:
    """The last words of a path, most of them first."""
    for words in range(min(LONGEST_END, len(path)), 0, -1):
        yield ".".join(path[-words:])
