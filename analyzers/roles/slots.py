"""Tensor name -> which of the layers of one role in one block it is, in words that no naming scheme owns."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from jaynes_audit.analyzers.roles.depth import first_integer, steps_of
from jaynes_audit.analyzers.roles.names import (
    COUNT,
    COUNTED_WORD,
    EXPERT_WORDS,
    INTEGER,
    LONGEST_NAME,
    WRAPPERS,
    parsed,
)
from jaynes_audit.analyzers.roles.role import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What tells a layer from the others of its block, besides its role.

    `of` is the role of the module that it belongs to: its own, or of a bias that of the weights it is added to. `kinds`
    says which of several it is; where the name leaves it open (a norm named for what it follows may also be the one
    before what comes next) all that it may be, the likeliest first. `member` is the number of an expert, -1 for none.
    """

    of: Role
    kinds: tuple[str, ...]
    member: int = -1


ONLY = ("",)  # the one layer of its role in its block
SPELT = "."  # how a kind begins that is the rest of a name

# Where a norm stands.
BEFORE_ATTENTION, AFTER_ATTENTION = "before attention", "after attention"
BEFORE_CROSS_ATTENTION, AFTER_CROSS_ATTENTION = "before cross-attention", "after cross-attention"
BEFORE_MLP, AFTER_MLP = "before the MLP", "after the MLP"
QUERIES, KEYS, QUERY_LATENT, KEY_VALUE_LATENT = "queries", "keys", "query latent", "key and value latent"
MIXER, STEPS_NORM, B_NORM, C_NORM = "mixer", "steps", "b", "c"
EMBEDDINGS, FINAL = "embeddings", "final"

# End of a norm's path within its block -> where it stands. Names as in the fixtures and, for GGUF, as in
# `TensorNameMap` of llama.cpp's package gguf.
NORMS_OF_BLOCKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("input_layernorm", "ln_1", "ln1", "attention_norm", "attn_norm"), (BEFORE_ATTENTION,)),
    **dict.fromkeys(("layernorm_before", "layer_norm1", "norm_1", "layernorm_1"), (BEFORE_ATTENTION,)),
    **dict.fromkeys(("norm_attn_norm.norm_1", "pre_attn_norm", "operator_norm", "ln"), (BEFORE_ATTENTION,)),
    **dict.fromkeys(("pre_mixer_norm", "attention_layernorm", "pre_attention_layernorm"), (BEFORE_ATTENTION,)),
    **dict.fromkeys(("norm", "self_attention_layer_norm", "pre_self_attention_layer_norm"), (BEFORE_ATTENTION,)),
    **dict.fromkeys(("norm1", "self_attn_layer_norm", "layernorm_0"), (BEFORE_ATTENTION, AFTER_ATTENTION)),
    **dict.fromkeys(("attention.output.layernorm", "sa_layer_norm", "attn_output_norm"), (AFTER_ATTENTION,)),
    **dict.fromkeys(("post_self_attn_layernorm", "post_attention_norm", "post_mixer_norm"), (AFTER_ATTENTION,)),
    **dict.fromkeys(("post_attn_norm", "norm_attn_norm.norm_2", "attn_post_norm"), (AFTER_ATTENTION,)),
    "post_attention_layernorm": (BEFORE_MLP, AFTER_ATTENTION),
    **dict.fromkeys(("ln_2", "ln2", "ffn_norm", "layernorm_after", "layer_norm2", "norm_2"), (BEFORE_MLP,)),
    **dict.fromkeys(("pre_feedforward_layernorm", "pre_ff_layernorm", "pre_mlp_layernorm"), (BEFORE_MLP,)),
    **dict.fromkeys(("mlp_norm", "pre_moe_norm", "pre_moe_layernorm", "feedforward_layernorm"), (BEFORE_MLP,)),
    **dict.fromkeys(("pre_mlp_norm", "layernorm_2", "pre_mlp_layer_norm", "ff_norm"), (BEFORE_MLP,)),
    **dict.fromkeys(("norm2", "final_layer_norm"), (BEFORE_MLP, AFTER_MLP)),
    **dict.fromkeys(("post_feedforward_layernorm", "post_mlp_layernorm", "post_ffw_norm"), (AFTER_MLP,)),
    **dict.fromkeys(("post_mlp_norm", "post_moe_norm", "ffn_post_norm"), (AFTER_MLP,)),
    **dict.fromkeys(("output.layernorm", "output_layer_norm", "layer_output_norm", "mlp.layernorm"), (AFTER_MLP,)),
    "ffn.layer_norm": (BEFORE_MLP,),
    "full_layer_layer_norm": (AFTER_MLP,),
    **dict.fromkeys(("ln_cross_attn", "cross_attn_norm"), (BEFORE_CROSS_ATTENTION,)),
    "encoder_attn_layer_norm": (BEFORE_CROSS_ATTENTION, AFTER_CROSS_ATTENTION),
    "crossattention.output.layernorm": (AFTER_CROSS_ATTENTION,),
    **dict.fromkeys(("q_norm", "q_layernorm", "query_layernorm", "attn_q_norm", "q_ln", "norm_q"), (QUERIES,)),
    **dict.fromkeys(("k_norm", "k_layernorm", "key_layernorm", "attn_k_norm", "k_ln", "norm_k"), (KEYS,)),
    **dict.fromkeys(("self.layer_norm_q", "query_norm"), (QUERIES,)),
    **dict.fromkeys(("self.layer_norm_k", "key_norm"), (KEYS,)),
    **dict.fromkeys(("q_a_layernorm", "q_a_norm", "attn_q_a_norm"), (QUERY_LATENT,)),
    **dict.fromkeys(("kv_a_layernorm", "kv_a_norm", "attn_kv_a_norm"), (KEY_VALUE_LATENT,)),
    **dict.fromkeys(("mixer.norm", "mamba.norm", "linear_attn.norm", "ssm_norm"), (MIXER,)),
    **dict.fromkeys(("dt_layernorm", "dt_norm", "ssm_dt_norm"), (STEPS_NORM,)),
    **dict.fromkeys(("b_layernorm", "b_norm", "ssm_b_norm"), (B_NORM,)),
    **dict.fromkeys(("c_layernorm", "c_norm", "ssm_c_norm"), (C_NORM,)),
}
NORMS_OUTSIDE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("norm", "ln_f", "norm_f", "final_layernorm", "final_layer_norm", "final_norm"), (FINAL,)),
    **dict.fromkeys(("output_norm", "post_layernorm", "post_ln", "ln_post", "ln_out", "ln_final"), (FINAL,)),
    **dict.fromkeys(("layernorm", "rms_norm", "encoder.layer_norm", "decoder.layer_norm"), (FINAL,)),
    **dict.fromkeys(("embeddings.layernorm", "embeddings.norm", "emb_ln", "embedding_norm"), (EMBEDDINGS,)),
    **dict.fromkeys(("token_embd_norm", "word_embeddings_layernorm", "layernorm_embedding"), (EMBEDDINGS,)),
    **dict.fromkeys(("patch_embed.norm", "patch_embeddings.norm", "patch_embedding.norm"), ("patches",)),
    **dict.fromkeys(
        ("head.norm", "cls.norm", "transform.layernorm", "vocab_layer_norm", "lm_head.layer_norm"), ("read-out",)
    ),
    **dict.fromkeys(("pre_layrnorm", "pre_ln", "ln_pre", "norm_pre", "embed_norm"), (EMBEDDINGS,)),
}

# The words that alone say nothing: in a module of a block, or of the network, they mean its own norm.
PLAIN_NORMS = frozenset({"norm", "ln", "layernorm", "rms_norm"})
NETWORKS = frozenset({"model", "transformer", "backbone", "encoder", "decoder", "language_model", "text_model"})

# T5 numbers the layers of a block and calls the norm of each `layer_norm`.
NORM_OF_T5 = (SPELT + "layer.#.layer_norm",)
NORMS_OF_T5 = {
    ("encoder", 0): BEFORE_ATTENTION,
    ("encoder", 1): BEFORE_MLP,
    ("decoder", 0): BEFORE_ATTENTION,
    ("decoder", 1): BEFORE_CROSS_ATTENTION,
    ("decoder", 2): BEFORE_MLP,
}

# What is looked up, and what is read out; of any other name there is one in a network.
LOOK_UPS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("token_type_embeddings", "token_types"), ("token types",)),
    **dict.fromkeys(("cls_token", "class_embedding", "class_embd"), ("class token",)),
    **dict.fromkeys(("mask_token", "masked_spec_embed"), ("mask token",)),
    **dict.fromkeys(("dist_token", "distillation_token"), ("distillation token",)),
    **dict.fromkeys(("register_tokens", "reg_token", "storage_tokens"), ("registers",)),
    **dict.fromkeys(("query_tokens", "probe", "image_newline"), ("learnt queries",)),
    "per_layer_token_embd": ("per layer",),
    "embed_tokens_per_layer": ("per layer",),
}
READ_OUTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("predictions.transform.dense", "vocab_transform", "lm_head.dense"), ("transform",)),
    **dict.fromkeys(("classifier", "score", "cls.output", "classifier.out_proj", "head.fc"), ("classifier",)),
    "cls_classifier": ("classifier",),
    "head": ("classifier", ""),
    **dict.fromkeys(("distillation_classifier", "head_dist"), ("classifier of the distillation token",)),
    **dict.fromkeys(("pre_classifier", "classifier.dense", "head.dense", "cls"), ("before the classifier",)),
    **dict.fromkeys(("discriminator_predictions.dense", "generator_predictions.dense"), ("transform",)),
    "dense_prediction": ("replaced token",),
    "seq_relationship": ("next sentence",),
    "qa_outputs": ("span",),
}
POSITIONS: dict[str, tuple[str, ...]] = {
    "rel_pos_h": ("rows",),
    "rel_pos_w": ("columns",),
    "rel_embeddings": ("relative",),
}
GATES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("shared_expert_gate", "ffn_gate_inp_shexp"), ("shared",)),
}
SCALES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ls1", "layer_scale1", "lambda_1", "gamma_1"), ("after attention",)),
    **dict.fromkeys(("ls2", "layer_scale2", "lambda_2", "gamma_2"), ("after the MLP",)),
}
WORDS: dict[Role, dict[str, tuple[str, ...]]] = {
    Role.EMBEDDING: LOOK_UPS,
    Role.POSITION_EMBEDDING: POSITIONS,
    Role.HEAD: READ_OUTS,
    Role.ROUTER: GATES,
    Role.SCALE: SCALES,
}

# Biases that no module owns, or that are not named for the one that does.
BIASES: dict[str, Slot] = {
    "in_proj_bias": Slot(of=Role.ATTENTION_QKV, kinds=ONLY),
    "q_bias": Slot(of=Role.ATTENTION_Q, kinds=ONLY),
    "v_bias": Slot(of=Role.ATTENTION_V, kinds=ONLY),
    "dt_bias": Slot(of=Role.SSM_DT_B, kinds=ONLY),
    **dict.fromkeys(("e_score_correction_bias", "exp_probs_b"), Slot(of=Role.ROUTER, kinds=("correction",))),
    **dict.fromkeys(("sinks", "attn_sinks"), Slot(of=Role.BIAS, kinds=("sinks",))),
}

# A block has any number of these: only the rest of the name tells which.
SEVERAL = frozenset({Role.CONV, Role.PROJECTION, Role.MODULATION, Role.TIME_EMBEDDING, Role.OTHER}) | frozenset(
    {Role.SCALE, Role.BUFFER, Role.LORA_A, Role.LORA_B}
)

# Words that tell two layers of one role and block apart: an expert for every token, the second of two streams.
ASIDE: dict[str, str] = {
    **dict.fromkeys(("shared_expert", "shared_experts", "share_expert", "shared_mlp"), "shared"),
    **dict.fromkeys(("ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"), "shared"),
    "moe": "stacked",
    **dict.fromkeys(("ffn_gate_chexps", "ffn_up_chexps", "ffn_down_chexps"), "chunked"),
    **dict.fromkeys(("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "ff_context"), "context"),
    **dict.fromkeys(("pos_query_proj", "pos_key_proj"), "positions"),
}
EXPERTS = frozenset({Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN, Role.EXPERT_GATE_UP})
EXPERTS_OF_GGUF = frozenset({"ffn_gate", "ffn_up", "ffn_down"})  # once every expert was a tensor of its own
NUMBERED_EXPERT = re.compile(r"expert_([0-9]{1,6})")
EXPERT_PART = re.compile(r"experts\.([0-9]{1,6})\..*")  # the suffix of an expert's part of a fused tensor

LEAVES = frozenset({"weight", "kernel", "gamma", "scale", "embedding", "embeddings", "bias", "beta"})
LONGEST_END = 3  # words in the longest key above


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What a name says whatever its integers: the slot, and those of them that belong to it.

    `member_at` is the index of the integer that numbers an expert, -1 for none. So many integers at the end of the name
    as `spelt` are part of the kind, where that is the rest of the name itself.
    """

    slot: Slot
    member_at: int
    spelt: int


def slot_of(name: str, role: Role, *, inside: bool) -> Slot:
    """Say which layer of its role in its block a layer is; `inside` tells whether it stands in a block at all.

    `name` is a layer's, with the part of a fused tensor in brackets behind it. Any text gets an answer. Where no table
    knows the name, and a block has several of the role, the kind is the rest of the name behind the block's number.
    """
    tensor, part = _without_part(name)
    pattern, integers = _pattern(tensor)
    read = _read(pattern, role, inside=inside)
    if expert := EXPERT_PART.fullmatch(part):
        return _of_expert(read.slot, int(expert[1]))
    if read.member_at >= 0:
        return _of_expert(read.slot, integers[read.member_at])
    if not read.spelt:
        return read.slot
    half = "encoder" if ".encoder." in pattern else "decoder"
    if read.slot.kinds == NORM_OF_T5 and (half, integers[-1]) in NORMS_OF_T5:
        return replace(read.slot, kinds=(NORMS_OF_T5[half, integers[-1]],))
    numbers = ".".join(map(str, integers[-read.spelt :]))
    return replace(read.slot, kinds=(f"{read.slot.kinds[0]} {numbers}",))


def local_name(name: str) -> str:
    """The rest of a layer's name behind the number of its block, which unlike schemes may share."""
    tensor, part = _without_part(name)
    pattern, integers = _pattern(tensor)
    rest, counted = _rest(pattern)
    return f"{rest} {integers[len(integers) - counted :]} {part}"


@lru_cache(maxsize=4096)
def _of_expert(slot: Slot, number: int) -> Slot:
    return replace(slot, member=number)


def _without_part(name: str) -> tuple[str, str]:
    tensor, bracket, part = name.rpartition("[")
    return (tensor, part[:-1]) if bracket and part.endswith("]") else (name, "")


def _pattern(name: str) -> tuple[str, tuple[int, ...]]:
    """A name with `#` for its integers, and those: what `parsed` reads."""
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME // 2] + name[-LONGEST_NAME // 2 :]
    dotted = "." + name.replace("#", "_").replace("_._", ".").lower()
    if COUNT.search(dotted):
        dotted = COUNTED_WORD.sub(r".\1.", dotted)
    return INTEGER.sub(".#", dotted), tuple(map(int, INTEGER.findall(dotted)))


@lru_cache(maxsize=4096)
def _read(pattern: str, role: Role, *, inside: bool) -> _Reading:
    path = _path(pattern)
    words, before = _local(path) if inside else (path, 0)
    if role is Role.BIAS:
        slot = _slot_of_bias(path, words, inside=inside)
    else:
        slot = _slot(role, _module(words), inside=inside)
    if slot.of in EXPERTS:
        numbered = next(filter(None, map(NUMBERED_EXPERT.fullmatch, words)), None)
        slot = replace(slot, member=int(numbered[1])) if numbered else slot
        behind = _number_of_expert(words)
        return _Reading(slot=slot, member_at=-1 if behind is None else before + behind, spelt=0)
    return _Reading(slot=slot, member_at=-1, spelt=words.count("#") if slot.kinds[0].startswith(SPELT) else 0)


@lru_cache(maxsize=4096)
def _rest(pattern: str) -> tuple[str, int]:
    words, _ = _local(_path(pattern))
    return ".".join(words), words.count("#")


def _path(pattern: str) -> list[str]:
    return [word for word in pattern.split(".")[1:] if word not in WRAPPERS]


def _module(words: list[str]) -> list[str]:
    return words[:-1] if words and words[-1] in LEAVES else words


def _local(path: list[str]) -> tuple[list[str], int]:
    """The words behind the number of the block, and how many integers stand before them."""
    steps = steps_of(path) or first_integer(path)
    before = 1 + max((slot for slot, _ in steps.weights), default=-1) if steps else 0
    seen = 0
    for at, word in enumerate(path):
        if seen == before:
            return path[at:], before
        seen += word == "#"
    return [], before


def _number_of_expert(words: list[str]) -> int | None:
    """Which of the integers behind the number of the block is that of an expert, if one is."""
    seen = 0
    for word, number in pairwise(words):
        if number == "#":
            if word in EXPERT_WORDS or word in EXPERTS_OF_GGUF:
                return seen
            seen += 1
    return None


def _slot(role: Role, module: list[str], *, inside: bool) -> Slot:
    """The slot of a role's layer in the module of this path, which begins behind the number of the block."""
    words = (NORMS_OF_BLOCKS if inside else NORMS_OUTSIDE) if role is Role.NORM else WORDS.get(role, {})
    for end in _ends(module):
        if end in words and not (end in PLAIN_NORMS and _is_of_a_module(module, inside=inside)):
            return Slot(of=role, kinds=words[end])
    if role is Role.NORM or role in SEVERAL:
        return _spelt(role, module)
    return Slot(of=role, kinds=(next((ASIDE[word] for word in module if word in ASIDE), ""),))


def _is_of_a_module(module: list[str], *, inside: bool) -> bool:
    """Whether a norm that is called no more than that belongs to a module of a block or of the network."""
    if inside or len(module) == 1:
        return len(module) > 1
    return len(module) > len(["model", "norm"]) and module[-2] not in NETWORKS


def _slot_of_bias(path: list[str], words: list[str], *, inside: bool) -> Slot:
    """The slot of the weights that a bias is added to."""
    for word in reversed(words[-2:]):
        if word in BIASES:
            return BIASES[word]
    module = _module(words)
    if module == words:
        return _spelt(Role.BIAS, words)
    owner = parsed(".".join([*path[:-1], "weight"]).replace("#", "0"))[0].role
    return _spelt(Role.BIAS, words) if owner is Role.OTHER else _slot(owner, module, inside=inside)


def _spelt(role: Role, words: list[str]) -> Slot:
    return Slot(of=role, kinds=(SPELT + ".".join(words),))


def _ends(path: list[str]) -> Iterator[str]:
    for words in range(min(LONGEST_END, len(path)), 0, -1):
        yield ".".join(path[-words:])
