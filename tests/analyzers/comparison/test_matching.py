"""Which layer of one model is which of another. The oracle of GGUF's names is llama.cpp's own table of them."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaynes_audit.analyzers.comparison.matching import Match, MatchedBy, Matching, counterpart_stacks, match_layers
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.roles import Role, layout_of

FIXTURES = Path(__file__).parents[3] / "fixtures" / "architectures"
Shapes = Mapping[str, tuple[int, ...]]


def subjects(shapes: Shapes, config: Mapping[str, Any] | None = None) -> list[Subject]:
    """The layers of tensors of these names and shapes."""
    return [
        Subject(
            name=f"{name}[{part.suffix}]" if part.suffix else name,
            tensor=name,
            dtype="F32",
            role=part.role,
            stack=part.stack,
            depth=part.depth,
            rows=len(part.rows),
            columns=len(part.columns),
            fan_in=part.fan_in,
            fan_out=part.fan_out,
            weights=len(part.rows) * len(part.columns),
        )
        for name, shape in shapes.items()
        for part in layout_of(name, shape, config or {}).parts
    ]


def fixture(name: str) -> tuple[Shapes, Mapping[str, Any]]:
    described = json.loads((FIXTURES / f"{name}.json").read_text())
    return {tensor: tuple(told["shape"]) for tensor, told in described["tensors"].items()}, described["config"]


def llama(*, blocks: int = 2, width: int = 8, prefix: str = "model.", start: int = 0) -> Shapes:
    """The names of a small Llama of transformers."""
    parts = {
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (3 * width, width),
        "mlp.up_proj": (3 * width, width),
        "mlp.down_proj": (width, 3 * width),
    } | {f"self_attn.{letter}_proj": (width, width) for letter in "qkvo"}
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}embed_tokens.weight": (40, width)}
    for block in range(start, start + blocks):
        shapes |= {f"{prefix}layers.{block}.{part}.weight": shape for part, shape in parts.items()}
    return shapes | {f"{prefix}norm.weight": (width,), "lm_head.weight": (40, width)}


def original_llama(blocks: int = 2, width: int = 8) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Meta's names of the same tensors: name of transformers -> name and shape of Meta's."""
    words = {
        "model.embed_tokens": "tok_embeddings",
        "model.norm": "norm",
        "lm_head": "output",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        **{f"self_attn.{letter}_proj": f"attention.w{letter}" for letter in "qkvo"},
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
    }
    renamed = {}
    for name, shape in llama(blocks=blocks, width=width).items():
        new = name
        for old, word in words.items():
            new = new.replace(old, word)
        renamed[name] = new.removeprefix("model."), shape
    return renamed


def named(matching: Matching) -> dict[str, str]:
    return {match.a.name: match.b.name for match in matching.matches}


def reasons(matching: Matching) -> dict[str, str]:
    return {each.subject.name: each.reason for each in (*matching.only_a, *matching.only_b)}


def ways(matches: Iterable[Match]) -> set[MatchedBy]:
    return {match.by for match in matches}


def test_layers_of_one_name_are_one_layer_whatever_their_sizes() -> None:
    matching = match_layers(subjects(llama(width=8)), subjects(llama(width=16)))
    assert all(a == b for a, b in named(matching).items())
    assert ways(matching.matches) == {MatchedBy.NAME}
    assert (matching.only_a, matching.only_b) == ((), ())


WRAPPED = {
    "DDP": lambda name: f"module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "compiled blocks": lambda name: re.sub(r"(layers\.\d+)\.", r"\1._orig_mod.", name),
    "FSDP": lambda name: "_fsdp_wrapped_module." + re.sub(r"(layers\.0)\.", r"\1._checkpoint_wrapped_module.", name),
    "PEFT": lambda name: "base_model.model." + re.sub(r"(q_proj|v_proj)\.", r"\1.base_layer.", name),
    "PEFT's trained head": lambda name: "base_model.model." + name.replace("head.", "head.modules_to_save.default."),
    "PEFT's first head": lambda name: "base_model.model." + name.replace("head.", "head.original_module."),
    "EMA": lambda name: f"ema_model.{name}",
    "DDP around PEFT": lambda name: f"module.base_model.model.{name}",
    "a pipeline": lambda name: f"text_encoder/{name}",
    "a training script": lambda name: f"state.student.{name}",
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("wrapped_is_first", [True, False])
def test_what_a_tool_puts_around_a_name_does_not_matter(wrap: Any, wrapped_is_first: bool) -> None:  # noqa: FBT001
    plain, wrapped = subjects(llama()), subjects({wrap(name): shape for name, shape in llama().items()})
    a, b = (wrapped, plain) if wrapped_is_first else (plain, wrapped)
    matching = match_layers(a, b)
    assert [(match.a.name, match.b.name) for match in matching.matches] == [
        (one.name, other.name) for one, other in zip(a, b, strict=True)
    ]
    assert MatchedBy.ROLE not in ways(matching.matches)


def test_the_layer_that_peft_trained_is_the_counterpart_not_the_one_it_replaced() -> None:
    tuned = {
        "base_model.model.score.original_module.weight": (2, 8),
        "base_model.model.score.modules_to_save.default.weight": (2, 8),
    }
    matching = match_layers(subjects({"score.weight": (2, 8)}), subjects(tuned))
    assert named(matching) == {"score.weight": "base_model.model.score.modules_to_save.default.weight"}


def test_a_model_without_head_is_matched_with_one_that_has_a_prefix_and_a_head() -> None:
    shapes, config = fixture("bert")
    headless = {name.removeprefix("bert."): shape for name, shape in shapes.items() if name.startswith("bert.")}
    matching = match_layers(subjects(shapes, config), subjects(headless, config))
    assert {f"bert.{b}" if a.startswith("bert.") else a: b for a, b in named(matching).items()} == {
        f"bert.{name}": name for name in (each.name for each in subjects(headless, config))
    }
    assert ways(matching.matches) == {MatchedBy.UNWRAPPED_NAME}
    assert {each.subject.name.split(".")[0] for each in matching.only_a} == {"cls"}


def test_a_prefix_is_no_wrapper_where_two_would_do() -> None:
    both = {f"{half}.{name}": shape for half in ("student", "teacher") for name, shape in llama().items()}
    matching = match_layers(subjects(both), subjects(llama()))
    assert MatchedBy.UNWRAPPED_NAME not in ways(matching.matches)
    assert "2 layers of A could be the one of B in its place" in reasons(matching).values()


def test_the_names_of_the_original_llama_are_those_of_transformers() -> None:
    pairs = original_llama()
    matching = match_layers(subjects(llama()), subjects(dict(pairs.values())))
    assert named(matching) == {name: new for name, (new, _) in pairs.items()}


# Architecture of the fixtures -> of llama.cpp, where its converter changes no more than names and stacks experts.
GGUF = {
    "llama": "LLAMA", "mistral": "LLAMA", "mixtral": "LLAMA", "gpt2": "GPT2", "gpt_neox": "GPTNEOX", "bloom": "BLOOM",
    "falcon_per_head": "FALCON", "gptj": "GPTJ", "phi": "PHI2", "phi3": "PHI3", "phimoe": "PHIMOE", "gemma": "GEMMA",
    "gemma2": "GEMMA2", "gemma3": "GEMMA3", "qwen2": "QWEN2", "qwen2_moe": "QWEN2MOE", "qwen3": "QWEN3",
    "qwen3_moe": "QWEN3MOE", "stablelm": "STABLELM", "starcoder2": "STARCODER2", "cohere": "COMMAND_R",
    "olmo2": "OLMO2", "olmoe": "OLMOE", "granitemoe": "GRANITE_MOE", "llama4": "LLAMA4", "t5": "T5", "bert": "BERT",
    "roberta": "BERT", "distilbert": "BERT",
}  # fmt: skip
PREFIXES = ("bert.", "roberta.", "distilbert.")  # which llama.cpp's converter takes off
CONV1D = ("c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")  # GPT-2's, turned round
KNOWN_GAPS = {"attn_rel_b"}  # llama.cpp keeps T5's relative positions per block, under a name without the block's word


def in_gguf(shapes: Shapes, architecture: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The name and the shape in a GGUF file of every tensor that llama.cpp knows; experts become one stack."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture], 4)
    stacked = {name: re.sub(r"\.experts\.\d+\.", ".experts.", name) for name in shapes}
    experts = Counter(stacked.values())
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        bare = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)
        new = table.get_name(bare, (".weight", ".bias")) or table.get_name(stacked[name], (".weight", ".bias"))
        if new and not any(gap in new for gap in KNOWN_GAPS):
            turned = shape[::-1] if name.endswith(CONV1D) else shape
            found[name] = new, turned if stacked[name] == name else (experts[stacked[name]], *shape)
    return found


SETTINGS = [
    ("hidden_size", "hidden_size"), ("n_embd", "hidden_size"), ("num_attention_heads", "num_attention_heads"),
    ("n_head", "num_attention_heads"), ("num_key_value_heads", "num_key_value_heads"), ("head_dim", "head_dim"),
]  # fmt: skip


@pytest.mark.parametrize("name", GGUF)
def test_the_names_of_gguf_are_those_of_transformers(name: str) -> None:
    shapes, config = fixture(name)
    pairs = in_gguf(shapes, GGUF[name])
    settings = {"model_type": f"gguf-{name}", "is_encoder_decoder": name == "t5"}
    settings |= {new: config[old] for old, new in SETTINGS if old in config}
    a = [each for each in subjects(shapes, config) if each.tensor in pairs]
    b = subjects(dict(pairs.values()), settings)
    matching = match_layers(a, b)
    assert {match.a.tensor: match.b.tensor for match in matching.matches} == {
        old: new for old, (new, _) in pairs.items()
    }
    for match in matching.matches:
        assert match.a.role is match.b.role
        if expert := re.search(r"experts\.(\d+)\.", match.a.name):
            assert f"[experts.{expert[1]}." in match.b.name
    assert (matching.only_a, matching.only_b) == ((), ())


def test_fused_projections_are_matched_part_by_part_with_split_ones() -> None:
    hugging_face, timm = fixture("vit"), fixture("timm_vit")
    matching = match_layers(subjects(*hugging_face), subjects(*timm))
    queries = {a: b for a, b in named(matching).items() if "query" in a}
    assert queries == {
        f"vit.encoder.layer.{block}.attention.attention.query.weight": f"blocks.{block}.attn.qkv.weight[q]"
        for block in (0, 1)
    }
    left = reasons(matching)
    assert left["vit.encoder.layer.0.attention.attention.query.bias"] == (
        "bias of attention.q is fused with others at depth 0 in B"
    )
    assert left["blocks.0.attn.qkv.bias"] == "bias of attention.qkv is in parts at depth 0 in A"
    assert all(name.endswith(".bias") for name in left)


def test_half_of_a_fused_tensor_is_not_matched_with_the_whole_of_it() -> None:
    gate_up = subjects({"model.layers.0.mlp.gate_up_proj.weight": (48, 8)}, {"model_type": "phi3"})
    whole = subjects({"blk.0.ffn_up.weight": (48, 8)}, {"model_type": "gguf-chatglm"})
    half = subjects({"blk.0.ffn_up.weight": (24, 8)}, {"model_type": "gguf-llama"})
    assert named(match_layers(gate_up, whole)) == {}
    assert named(match_layers(gate_up, half)) == {"model.layers.0.mlp.gate_up_proj.weight[up]": "blk.0.ffn_up.weight"}


def test_blocks_of_networks_of_unlike_depth_are_matched_by_relative_depth() -> None:
    deep, shallow = subjects(llama(blocks=24, width=16)), subjects(llama(blocks=12, width=8))
    matching = match_layers(shallow, deep)
    queries = {match.a.depth: match.b.depth for match in matching.matches if match.a.role is Role.ATTENTION_Q}
    assert len(queries) == 12
    assert (queries[0], queries[11]) == (0, 23)
    assert all(abs(one / 11 - other / 23) <= 0.5 / 23 + 1e-12 for one, other in queries.items())
    assert set(reasons(matching).values()) == {
        f"no block of A corresponds to its block {block}" for block in set(range(24)) - set(queries.values())
    }
    assert {(match.b.name, match.a.name) for match in matching.matches} == set(
        named(match_layers(deep, shallow)).items()
    )


def test_a_network_with_blocks_left_out_keeps_the_names_of_the_others() -> None:
    matching = match_layers(subjects(llama(blocks=12)), subjects(llama(blocks=5)))
    assert ways(matching.matches) == {MatchedBy.NAME}
    assert all(a == b for a, b in named(matching).items())
    assert {each.subject.depth for each in matching.only_a} == set(range(5, 12))


def test_blocks_that_are_counted_from_another_number_are_matched_in_order() -> None:
    matching = match_layers(subjects(original := dict(original_llama().values())), subjects(llama(start=1)))
    assert named(matching)["layers.0.attention.wq.weight"] == "model.layers.1.self_attn.q_proj.weight"
    assert len(matching.matches) >= len(original) - 1


def test_stacks_that_are_named_otherwise_are_told_by_what_is_in_them() -> None:
    clip, vit, bert = (subjects(*fixture(name)) for name in ("clip", "vit", "bert"))
    assert counterpart_stacks(clip, vit) == {"vision": ""}
    assert counterpart_stacks(vit, clip) == {"": "vision"}
    assert counterpart_stacks(subjects(*fixture("t5")), bert) == {"encoder": ""}


def test_what_could_be_several_layers_is_none_of_them() -> None:
    two = {f"net.{side}.layers.0.self_attn.q_proj.weight": (8, 8) for side in ("left", "right")}
    matching = match_layers(subjects({"blk.0.attn_q.weight": (8, 8)}), subjects(two))
    assert not matching.matches
    assert reasons(matching) == {
        "blk.0.attn_q.weight": "2 layers of B could be it",
        **dict.fromkeys(two, "2 layers of B could be the one of A in its place"),
    }


def test_why_a_layer_has_no_counterpart() -> None:
    a = llama() | {"model.layers.1.mystery.weight": (8, 8), "score.weight": (2, 8)}
    b = {name: shape for name, shape in original_llama().values() if name != "layers.1.attention.wq.weight"}
    found = reasons(match_layers(subjects(a), subjects(b)))
    assert found["model.layers.1.self_attn.q_proj.weight"] == "no layer of role attention.q at depth 1 in B"
    assert found["score.weight"] == "no layer of role head (classifier) in B"
    assert found["model.layers.1.mystery.weight"] == (
        "its role is not known from its name, and no layer is named so at depth 1 in B"
    )
    twice = subjects(llama()) + subjects({"lm_head.weight": (40, 8)})
    assert {each.reason for each in match_layers(twice, subjects(llama())).only_a} == {"2 layers of A have its name"}


VOCABULARY = (
    "model module layers blk 0 1 7 encoder decoder q_proj attn_q norm experts weight bias _orig_mod base_model ffn_up "
    "attention bert vision_model a/b [q] original_module modules_to_save default"
)
names = st.lists(st.sampled_from(VOCABULARY.split()), min_size=1, max_size=7).map(".".join)
sizes = st.sampled_from([(8,), (8, 8), (24, 8), (4, 8, 8)])
tensors = st.lists(st.tuples(names, sizes), max_size=20)


@settings(deadline=None, max_examples=60)
@given(tensors, tensors)
def test_every_layer_is_in_one_pair_or_has_a_reason(one: list[Any], other: list[Any]) -> None:
    a, b = ([layer for name, shape in side for layer in subjects({name: shape})] for side in (one, other))
    matching = match_layers(a, b)
    halves = (
        ([match.a for match in matching.matches], matching.only_a, a),
        ([match.b for match in matching.matches], matching.only_b, b),
    )
    for matched, left, layers in halves:
        assert sorted(id(each) for each in (*matched, *(each.subject for each in left))) == sorted(map(id, layers))
    assert all(each.reason for each in (*matching.only_a, *matching.only_b))
    turned = match_layers(b, a)
    assert sorted((id(each.b), id(each.a)) for each in turned.matches) == sorted(
        (id(each.a), id(each.b)) for each in matching.matches
    )


@settings(deadline=None, max_examples=40)
@given(tensors)
def test_a_model_without_repeated_names_is_its_own_counterpart(one: list[Any]) -> None:
    layers = subjects(dict(one))
    matching = match_layers(layers, layers[::-1])
    assert [(match.a, match.b, match.by) for match in matching.matches] == [
        (each, each, MatchedBy.NAME) for each in layers
    ]
