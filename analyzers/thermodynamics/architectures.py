"""Model type -> what its network does with its weights, as far as symmetries depend on it.

Only architectures that were run are listed: of each, the gradients of a small random network in double precision obey
every symmetry that follows from its entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from types import MappingProxyType

from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.settings import Settings

Readers = frozenset[Role]

SELF_ATTENTION: Readers = frozenset({Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V, Role.ATTENTION_QKV})
CROSS_QUERIES: Readers = frozenset({Role.CROSS_ATTENTION_Q})
MLP: Readers = frozenset(
    {Role.MLP_UP, Role.MLP_GATE, Role.MLP_GATE_UP, Role.EXPERT_UP, Role.EXPERT_GATE, Role.EXPERT_GATE_UP, Role.ROUTER}
)


class Rotation(Enum):
    """Which two entries of a query's or a key's head the rotary position embedding turns into each other."""

    NONE = auto()
    HALVES = auto()  # entry j and the one half of the rotated entries further on
    NEIGHBOURS = auto()  # entries 2 j and 2 j + 1


class HeadNorm(Enum):
    """What the norms of queries and keys take together."""

    NONE = auto()
    EACH = auto()  # the entries of one head
    ALL = auto()  # those of all heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How one kind of network uses its weights.

    `needs` are settings that must have these values, where the config has them at all, for the rest to be so; a dot
    leads into a group of settings.
    `rotated_share` is the share of a head that is rotated where the config does not say; where it is all of it, the
    config is not asked, unless the network `may_rotate_a_share`. `norms` maps the end of a
    norm's path in its block to the roles of all layers that read its output, which goes nowhere else. `final_norm` is
    the last word of the one before the head, "" if its output goes elsewhere too. `gain_offset` is added to stored
    gains. `is_pre_norm` tells that all that is written to the residual stream is read through norms. `may_be_tied`
    tells that the head may be the embedding, unless the config denies it.
    """

    rotation: Rotation = Rotation.NONE
    rotated_share: float = 1.0
    may_rotate_a_share: bool = False
    head_norm: HeadNorm = HeadNorm.NONE
    norms: Mapping[str, Readers] = field(default_factory=dict)
    final_norm: str = ""
    gain_offset: float = 0.0
    is_pre_norm: bool = False
    may_be_tied: bool = True
    needs: Mapping[str, object] = field(default_factory=dict)


LLAMA_NORMS = MappingProxyType({"input_layernorm": SELF_ATTENTION, "post_attention_layernorm": MLP})
GPT2_NORMS = MappingProxyType({"ln_1": SELF_ATTENTION, "ln_2": MLP})
GEMMA_NORMS = MappingProxyType({"input_layernorm": SELF_ATTENTION, "pre_feedforward_layernorm": MLP})
PARALLEL = SELF_ATTENTION | MLP  # attention and MLP read the same norm

LLAMA = Architecture(rotation=Rotation.HALVES, norms=LLAMA_NORMS, final_norm="norm", is_pre_norm=True)
QWEN3 = Architecture(
    rotation=Rotation.HALVES, head_norm=HeadNorm.EACH, norms=LLAMA_NORMS, final_norm="norm", is_pre_norm=True
)
# BERT: norms stand on the residual stream itself, so their output is both read and added to.
POST_NORM = Architecture(needs={"position_embedding_type": "absolute"})

# (model type, stack) -> the first entry whose needs are met.
ARCHITECTURES: Mapping[tuple[str, str], tuple[Architecture, ...]] = {
    **{(name, ""): (LLAMA,) for name in ("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "granite")},
    **{(name, ""): (QWEN3,) for name in ("qwen3", "qwen3_moe")},
    ("phi3", ""): (replace(LLAMA, may_rotate_a_share=True),),
    ("starcoder2", ""): (LLAMA,),
    ("olmo2", ""): (Architecture(head_norm=HeadNorm.ALL, final_norm="norm"),),
    ("olmoe", ""): (
        Architecture(
            head_norm=HeadNorm.ALL, norms=LLAMA_NORMS, final_norm="norm", is_pre_norm=True, needs={"clip_qkv": None}
        ),
    ),
    ("stablelm", ""): (
        Architecture(
            rotation=Rotation.HALVES,
            rotated_share=0.25,
            norms=LLAMA_NORMS,
            final_norm="norm",
            is_pre_norm=True,
            needs={"use_parallel_residual": False, "qk_layernorm": False},
        ),
    ),
    ("gemma", ""): (
        Architecture(rotation=Rotation.HALVES, norms=LLAMA_NORMS, final_norm="norm", gain_offset=1.0, is_pre_norm=True),
    ),
    # The norms behind a sublayer keep the stream from seeing its scale: what they write is no residual write of ours.
    ("gemma2", ""): (Architecture(rotation=Rotation.HALVES, norms=GEMMA_NORMS, final_norm="norm", gain_offset=1.0),),
    ("gemma3_text", ""): (
        Architecture(
            rotation=Rotation.HALVES,
            head_norm=HeadNorm.EACH,
            norms=GEMMA_NORMS,
            final_norm="norm",
            gain_offset=1.0,
        ),
    ),
    ("cohere", ""): (
        Architecture(
            rotation=Rotation.NEIGHBOURS,
            norms={"input_layernorm": PARALLEL},
            final_norm="norm",
            is_pre_norm=True,
            needs={"use_qk_norm": False},
        ),
    ),
    ("glm", ""): (
        Architecture(
            rotation=Rotation.NEIGHBOURS, rotated_share=0.5, norms=LLAMA_NORMS, final_norm="norm", is_pre_norm=True
        ),
    ),
    ("phi", ""): (
        Architecture(
            rotation=Rotation.HALVES,
            rotated_share=0.5,
            norms={"input_layernorm": PARALLEL},
            final_norm="final_layernorm",
            is_pre_norm=True,
            needs={"qk_layernorm": False},
        ),
    ),
    ("gpt_neox", ""): (
        Architecture(
            rotation=Rotation.HALVES,
            rotated_share=0.25,
            norms=LLAMA_NORMS,
            final_norm="final_layer_norm",
            is_pre_norm=True,
        ),
    ),
    **{
        (name, ""): (
            Architecture(
                rotation=Rotation.NEIGHBOURS,
                may_rotate_a_share=True,
                norms={"ln_1": PARALLEL},
                final_norm="ln_f",
                is_pre_norm=True,
            ),
        )
        for name in ("gptj", "codegen")
    },
    **{
        (name, ""): (Architecture(norms=GPT2_NORMS, final_norm="ln_f", is_pre_norm=True),)
        for name in ("gpt2", "gpt_neo", "gpt_bigcode")
    },
    ("opt", ""): (
        Architecture(
            norms={"self_attn_layer_norm": SELF_ATTENTION, "final_layer_norm": MLP},
            needs={"do_layer_norm_before": True},
        ),
    ),
    ("bloom", ""): (
        Architecture(norms=LLAMA_NORMS, final_norm="ln_f", needs={"apply_residual_connection_post_layernorm": False}),
    ),
    ("falcon", ""): (
        Architecture(
            rotation=Rotation.HALVES,
            norms={"ln_attn": SELF_ATTENTION, "ln_mlp": MLP},
            final_norm="ln_f",
            is_pre_norm=True,
            needs={"new_decoder_architecture": True, "alibi": False, "num_ln_in_parallel_attn": 2},
        ),
        Architecture(
            rotation=Rotation.HALVES,
            norms={"input_layernorm": PARALLEL},
            final_norm="ln_f",
            is_pre_norm=True,
            needs={"new_decoder_architecture": False, "alibi": False, "parallel_attn": True},
        ),
        Architecture(
            norms=LLAMA_NORMS,
            final_norm="ln_f",
            is_pre_norm=True,
            needs={"new_decoder_architecture": False, "alibi": True, "parallel_attn": False},
        ),
    ),
    ("mpt", ""): (
        Architecture(
            norms={"norm_1": SELF_ATTENTION, "norm_2": MLP},
            final_norm="norm_f",
            is_pre_norm=True,
            needs={"attn_config.clip_qkv": None, "attn_config.qk_ln": False},
        ),
    ),
    **{(name, ""): (POST_NORM,) for name in ("bert", "roberta", "electra", "distilbert")},
    **{
        (name, ""): (
            Architecture(
                norms={"layernorm_before": SELF_ATTENTION, "layernorm_after": MLP},
                final_norm="layernorm",
                is_pre_norm=True,
                may_be_tied=False,
            ),
        )
        for name in ("vit", "deit")
    },
    ("t5", "encoder"): (Architecture(norms={"layer.0.layer_norm": SELF_ATTENTION, "layer.1.layer_norm": MLP}),),
    ("t5", "decoder"): (
        Architecture(
            norms={
                "layer.0.layer_norm": SELF_ATTENTION,
                "layer.1.layer_norm": CROSS_QUERIES,
                "layer.2.layer_norm": MLP,
            },
        ),
    ),
}


def architecture_of(model_type: str, stack: str, settings: Settings) -> Architecture | None:
    """Say how a network uses its weights; None where that is not known for certain."""
    for architecture in ARCHITECTURES.get((model_type, stack), ()):
        if all(_setting(settings, key, value) == value for key, value in architecture.needs.items()):
            return architecture
    return None


def _setting(settings: Settings, key: str, default: object) -> object:
    """A setting, or one of those under its first word."""
    outer, _, inner = key.rpartition(".")
    nested = settings.get(outer) if outer else settings
    return nested.get(inner, default) if isinstance(nested, Mapping) else default
