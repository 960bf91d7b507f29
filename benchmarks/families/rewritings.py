"""The same network with its weights in another order, under other names, or with other blocks."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from families.networks import State
from torch import Tensor
from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the units of a block stand: the axis of each tensor along which they follow one another.

    Names are those within a block. `queries` and `values` have the heads along the axis; a fused tensor holds three
    parts of equal size, one behind another.
    """

    block: str
    hidden: Mapping[str, int]
    queries: Mapping[str, int]
    keys_and_values: Mapping[str, int]
    fused: Mapping[str, int]
    out: Mapping[str, int]


LLAMA = Layout(
    block="model.layers.",
    hidden={"mlp.gate_proj.weight": 0, "mlp.up_proj.weight": 0, "mlp.down_proj.weight": 1},
    queries={"self_attn.q_proj.weight": 0, "self_attn.q_proj.bias": 0},
    keys_and_values={f"self_attn.{part}_proj.{kind}": 0 for part in "kv" for kind in ("weight", "bias")},
    fused={},
    out={"self_attn.o_proj.weight": 1},
)
GPT2 = Layout(
    block="transformer.h.",
    hidden={"mlp.c_fc.weight": 1, "mlp.c_fc.bias": 0, "mlp.c_proj.weight": 0},
    queries={},
    keys_and_values={},
    fused={"attn.c_attn.weight": 1, "attn.c_attn.bias": 0},
    out={"attn.c_proj.weight": 0},
)
BERT = Layout(
    block="bert.encoder.layer.",
    hidden={"intermediate.dense.weight": 0, "intermediate.dense.bias": 0, "output.dense.weight": 1},
    queries={f"attention.self.query.{kind}": 0 for kind in ("weight", "bias")},
    keys_and_values={f"attention.self.{part}.{kind}": 0 for part in ("key", "value") for kind in ("weight", "bias")},
    fused={},
    out={"attention.output.dense.weight": 1},
)
LAYOUTS = {"llama": LLAMA, "qwen2": LLAMA, "gpt2": GPT2, "bert": BERT}
"""Of each `model_type`."""

META_NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.layers": "layers",
    "model.norm": "norm",
    "lm_head": "output",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Names of transformers and those of the files that Meta published; transformers' convert_llama_weights_to_hf.py."""


def blocks_of(config: PretrainedConfig) -> int:
    """How many blocks a network has."""
    return config.num_hidden_layers


def with_hidden_units_in_another_order(state: State, config: PretrainedConfig, generator: torch.Generator) -> State:
    """The same function: the hidden units of each MLP change places."""
    layout = LAYOUTS[config.model_type]
    rearranged = dict(state)
    for block in range(blocks_of(config)):
        first, axis = next(iter(layout.hidden.items()))
        order = torch.randperm(state[f"{layout.block}{block}.{first}"].shape[axis], generator=generator)
        _rearrange(rearranged, f"{layout.block}{block}.", layout.hidden, _picked(order))
    return rearranged


def with_heads_in_another_order(state: State, config: PretrainedConfig, generator: torch.Generator) -> State:
    """The same function: the heads of each attention change places, those that share a key staying together."""
    layout = LAYOUTS[config.model_type]
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", heads)
    channels = config.hidden_size // heads
    rearranged = dict(state)
    for block in range(blocks_of(config)):
        prefix = f"{layout.block}{block}."
        group_order = torch.randperm(groups, generator=generator)
        in_group = torch.randperm(heads // groups, generator=generator)
        head_order = (group_order[:, None] * (heads // groups) + in_group).flatten()
        query_order, group_order = _channels_of(head_order, channels), _channels_of(group_order, channels)
        thirds = torch.cat([part * heads * channels + query_order for part in range(3)])
        _rearrange(rearranged, prefix, layout.queries, _picked(query_order))
        _rearrange(rearranged, prefix, layout.keys_and_values, _picked(group_order))
        _rearrange(rearranged, prefix, layout.fused, _picked(thirds))
        _rearrange(rearranged, prefix, layout.out, _picked(query_order))
    return rearranged


def with_turning_pairs_side_by_side(state: State, config: PretrainedConfig) -> State:
    """A Llama's queries and keys in the order of Meta's files and of GGUF: channels that turn together are neighbours.

    It undoes `permute` of transformers' convert_llama_weights_to_hf.py.
    """
    if config.model_type != "llama":
        return dict(state)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    rearranged = dict(state)
    for name, tensor in state.items():
        part = name.split(".")[-2]
        if part in heads:
            halves = tensor.unflatten(0, (heads[part], 2, -1))
            rearranged[name] = halves.transpose(1, 2).flatten(0, 2).contiguous()
    return rearranged


def with_names_of_meta(state: State) -> State:
    """A Llama under the names of Meta's own files."""
    renamed = {}
    for name, tensor in state.items():
        new = name
        for theirs, metas in META_NAMES.items():
            new = new.replace(theirs, metas)
        renamed[new] = tensor
    return renamed


def with_prefix(state: State, prefix: str) -> State:
    """Each name behind a prefix."""
    return {prefix + name: tensor for name, tensor in state.items()}


def with_blocks(state: State, config: PretrainedConfig, chosen: list[int]) -> State:
    """A network of these blocks of another one, in this order; a block may come twice."""
    prefix = LAYOUTS[config.model_type].block
    of_block = re.compile(rf"{re.escape(prefix)}(\d+)\.(.*)")
    parts = {name: of_block.fullmatch(name) for name in state}
    made = {name: state[name] for name, part in parts.items() if part is None}
    for new, old in enumerate(chosen):
        for name, part in parts.items():
            if part is not None and int(part[1]) == old:
                made[f"{prefix}{new}.{part[2]}"] = state[name].clone()
    return made


def averaged(state: State, other: State) -> State:
    """Half-way between two networks."""
    return {name: (tensor + other[name]) / 2 for name, tensor in state.items()}


def _picked(order: Tensor) -> Callable[[Tensor, int], Tensor]:
    return lambda tensor, axis: tensor.index_select(axis, order)


def _channels_of(heads: Tensor, channels: int) -> Tensor:
    return (heads[:, None] * channels + torch.arange(channels)).flatten()


def _rearrange(
    state: State, prefix: str, places: Mapping[str, int], rearrange: Callable[[Tensor, int], Tensor]
) -> None:
    for name, axis in places.items():
        if prefix + name in state:
            state[prefix + name] = rearrange(state[prefix + name], axis)
