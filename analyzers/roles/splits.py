"""How the fused tensors of each family are laid out, and the parts they are taken apart into.

A split function gets the two sizes of the matrix and the settings of its network. It answers with shares of the output
axis, or with no share at all when the settings do not say how the tensor is laid out, or when they contradict its
size: then it stays whole, under its fused role. fixtures/architectures measures nearly all of these layouts on the
running network; those of `in_proj_weight`, of `mlp.w12`, of Falcon's older names and of llama.cpp are read from their
sources.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from jaynes_audit.analyzers.roles.role import Role
from jaynes_audit.analyzers.roles.settings import Settings, heads, key_value_heads, whole, word
from jaynes_audit.analyzers.roles.stripes import Stripes


@dataclass(frozen=True, slots=True)
class Share:
    """The outputs of a fused matrix that form one part."""

    suffix: str
    role: Role
    outputs: Stripes


Shares = tuple[Share, ...]
Split = Callable[[int, int, Settings], Shares]
WHOLE: Shares = ()

QUERY_GATE = ("gate", Role.ATTENTION_GATE)
Q, K, V = ("q", Role.ATTENTION_Q), ("k", Role.ATTENTION_K), ("v", Role.ATTENTION_V)
GATE, UP = ("gate", Role.MLP_GATE), ("up", Role.MLP_UP)
X, Z, B, C = ("x", Role.SSM_X), ("z", Role.SSM_Z), ("b", Role.SSM_B), ("c", Role.SSM_C)

Kind = tuple[str, Role]


def blocks(outputs: int, sizes: Sequence[tuple[Kind, int]]) -> Shares:
    """One part after the other, if their sizes make the whole."""
    edges = [0, *accumulate(size for _, size in sizes)]
    if edges[-1] != outputs or any(size == 0 for _, size in sizes):
        return WHOLE
    spans = [Stripes.span(start, stop) for start, stop in pairwise(edges)]
    return tuple(Share(*kind, span) for (kind, _), span in zip(sizes, spans, strict=True))


def interleaved(outputs: int, groups: int, sizes: Sequence[tuple[Kind, int]]) -> Shares:
    """Every group holds a stretch of each part, in this order, if that makes the whole."""
    edges = [0, *accumulate(size for _, size in sizes)]
    if groups * edges[-1] != outputs or any(size == 0 for _, size in sizes) or groups == 0:
        return WHOLE
    return tuple(
        Share(*kind, Stripes(start=0, stop=outputs, period=edges[-1], first=first, count=size))
        for (kind, size), first in zip(sizes, edges, strict=False)
    )


def equally(*kinds: Kind) -> Split:
    """Parts of equal size, one after the other."""

    def split(outputs: int, _inputs: int, _settings: Settings) -> Shares:
        size, rest = divmod(outputs, len(kinds))
        return WHOLE if rest else blocks(outputs, [(kind, size) for kind in kinds])

    return split


def as_wide_as_its_input(outputs: int, inputs: int, settings: Settings) -> Shares:
    """Queries, keys and values of the width of the input: any other size would mean grouped heads."""
    return equally(Q, K, V)(outputs, inputs, settings) if outputs == 3 * inputs else WHOLE


def across(outputs: int, inputs: int, settings: Settings) -> Shares:
    """GPT-2's keys and values of the encoder's output; its queries have a tensor of their own."""
    return equally(K, V)(outputs, inputs, settings) if outputs == 2 * inputs else WHOLE


def head_size(inputs: int, settings: Settings) -> int:
    """Width of one head, 0 if it cannot be known."""
    said, count = whole(settings, "head_dim"), heads(settings)
    return said or (inputs // count if count and inputs % count == 0 else 0)


def queries_then_keys(outputs: int, inputs: int, settings: Settings) -> Shares:
    """All queries, all keys, all values (Phi-3)."""
    size = head_size(inputs, settings)
    keys = key_value_heads(settings) or heads(settings)
    return blocks(outputs, [(Q, heads(settings) * size), (K, keys * size), (V, keys * size)])


def head_by_head(outputs: int, inputs: int, settings: Settings) -> Shares:
    """Query, key and value of the first head, then of the second (GPT-NeoX, BLOOM, Persimmon)."""
    size = head_size(inputs, settings)
    return interleaved(outputs, heads(settings), [(Q, size), (K, size), (V, size)])


def one_key_for_all(outputs: int, inputs: int, settings: Settings) -> Shares:
    """All queries, one key, one value (Falcon-7B, StarCoder)."""
    size = head_size(inputs, settings)
    return blocks(outputs, [(Q, heads(settings) * size), (K, size), (V, size)])


def group_by_group(outputs: int, inputs: int, settings: Settings) -> Shares:
    """The queries that share a key, that key, its value; then the next group (Falcon-40B)."""
    size, groups = head_size(inputs, settings), key_value_heads(settings)
    if not groups or heads(settings) % groups:
        return WHOLE
    return interleaved(outputs, groups, [(Q, heads(settings) // groups * size), (K, size), (V, size)])


def falcon(outputs: int, inputs: int, settings: Settings) -> Shares:
    """One of three layouts; the two settings that choose have been part of every Falcon's config.json."""
    if settings.get("new_decoder_architecture") is True:
        return group_by_group(outputs, inputs, settings)
    if settings.get("multi_query") is True:
        return one_key_for_all(outputs, inputs, settings)
    return head_by_head(outputs, inputs, settings) if settings.get("multi_query") is False else WHOLE


def bigcode(outputs: int, inputs: int, settings: Settings) -> Shares:
    """GPT-BigCode shares one key among all heads unless it is told not to."""
    split = head_by_head if settings.get("multi_query") is False else one_key_for_all
    return split(outputs, inputs, settings)


def codegen(outputs: int, inputs: int, settings: Settings) -> Shares:
    """CodeGen keeps the four slices of the accelerators it was trained on, each with queries, *values*, keys."""
    slices = 4
    size, rest = divmod(outputs, 3 * slices)
    del settings
    return WHOLE if rest or outputs != 3 * inputs else interleaved(outputs, slices, [(Q, size), (V, size), (K, size)])


def queries_with_gates(outputs: int, inputs: int, settings: Settings) -> Shares:
    """Every head's query, then the gate of its output (Qwen3-Next, Qwen3.5)."""
    size = head_size(inputs, settings)
    return interleaved(outputs, heads(settings), [(Q, size), (QUERY_GATE, size)])


def latent_and_rotary_key(outputs: int, inputs: int, settings: Settings) -> Shares:
    """DeepSeek: the latent that keys and values are made from, then the rotary key that all heads share."""
    del inputs
    latent, rotary = whole(settings, "kv_lora_rank"), whole(settings, "qk_rope_head_dim")
    return blocks(outputs, [(("kv_a", Role.ATTENTION_KV_A), latent), (K, rotary)])


def keys_and_values_of_a_latent(outputs: int, inputs: int, settings: Settings) -> Shares:
    """DeepSeek: every head's key without position, then its value."""
    del inputs
    key, value = whole(settings, "qk_nope_head_dim"), whole(settings, "v_head_dim")
    sizes = [(("k", Role.ATTENTION_K_B), key), (("v", Role.ATTENTION_V_B), value)]
    return interleaved(outputs, heads(settings), sizes)


def gated_if_twice_as_wide(outputs: int, inputs: int, settings: Settings) -> Shares:
    """A feed-forward layer of diffusers widens four times; one that widens eight times is GEGLU, gate last."""
    return equally(UP, GATE)(outputs, inputs, settings) if outputs == 8 * inputs else WHOLE


def gated_in_this_architecture(outputs: int, inputs: int, settings: Settings) -> Shares:
    """The vision transformers of timm whose feed-forward network is gated though its layers are named as if not."""
    gated = word(settings, "architecture").startswith(GATED_IN_TIMM)
    return equally(GATE, UP)(outputs, inputs, settings) if gated else WHOLE


def mamba2_in(outputs: int, inputs: int, settings: Settings) -> Shares:
    """Gate, signal, B and C of every group, and a step for every head."""
    del inputs
    count = whole(settings, "mamba_n_heads", "num_heads")
    inner = count * whole(settings, "mamba_d_head", "head_dim")
    group = whole(settings, "mamba_n_groups", "n_groups") * whole(settings, "mamba_d_state", "state_size")
    return blocks(outputs, [(Z, inner), (X, inner), (B, group), (C, group), (("dt", Role.SSM_DT), count)])


def mamba_x(outputs: int, inputs: int, settings: Settings) -> Shares:
    """The step in its low rank, then B and C."""
    del inputs
    rank, state = whole(settings, "time_step_rank", "mamba_dt_rank"), whole(settings, "state_size", "mamba_d_state")
    return blocks(outputs, [(("dt_a", Role.SSM_DT_A), rank), (B, state), (C, state)])


ANY = ""
GATED_IN_TIMM = ("vit_giant_patch14_dinov2", "vit_giant_patch14_reg4_dinov2", "eva02_tiny", "eva02_small")
MODEL_TYPES_OF_FALCON = ("falcon", "RefinedWeb", "RefinedWebModel")

# (end of the name, model_type) -> layout. `ANY` is for words that mean one layout wherever they occur.
SPLITS: dict[tuple[str, str], Split] = {
    ("qkv", ANY): as_wide_as_its_input,
    ("in_proj_weight", ANY): equally(Q, K, V),
    ("c_attn", ANY): as_wide_as_its_input,
    ("c_attn", "gpt_bigcode"): bigcode,
    ("crossattention.c_attn", ANY): across,
    ("qkv_proj", "phi3"): queries_then_keys,
    ("qkv_proj", "codegen"): codegen,
    ("wqkv", "mpt"): as_wide_as_its_input,
    ("wqkv", "modernbert"): as_wide_as_its_input,
    **{("query_key_value", family): head_by_head for family in ("gpt_neox", "bloom", "persimmon")},
    **{("query_key_value", family): falcon for family in MODEL_TYPES_OF_FALCON},
    **{("q_proj", family): queries_with_gates for family in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")},
    ("kv_a_proj_with_mqa", ANY): latent_and_rotary_key,
    ("kv_b_proj", ANY): keys_and_values_of_a_latent,
    ("gate_up_proj", ANY): equally(GATE, UP),
    ("fc1", ANY): gated_in_this_architecture,
    ("weights_in", ANY): equally(GATE, UP),
    ("mlp.w12", ANY): equally(GATE, UP),
    ("wi", "modernbert"): equally(GATE, UP),
    ("ff.net.#.proj", ANY): gated_if_twice_as_wide,
    **{("mixer.in_proj", family): equally(X, Z) for family in ("mamba", "falcon_mamba")},
    ("mixer.in_proj", "mamba2"): mamba2_in,
    ("mamba.in_proj", "jamba"): equally(X, Z),
    ("mamba.in_proj", "bamba"): mamba2_in,
    ("x_proj", ANY): mamba_x,
    # llama.cpp's converter puts every family's heads into this order.
    ("attn_qkv", ANY): queries_then_keys,
    ("attn_kv_a_mqa", ANY): latent_and_rotary_key,
    ("ssm_x", ANY): mamba_x,
    ("ffn_up", "gguf-phi3"): equally(GATE, UP),
}

# Ends of names whose tensor may be fused.
SPLIT_ENDS = frozenset(end for end, _ in SPLITS) | {"proj_out"}


def shares_of(end: str, outputs: int, inputs: int, settings: Settings) -> Shares:
    """The parts of the fused matrix whose name ends so; no part at all if it stays whole."""
    split = SPLITS.get((end, word(settings, "model_type"))) or SPLITS.get((end, ANY))
    return split(outputs, inputs, settings) if split else WHOLE
