"""What the rules about structure object to, and the many ways in which a sound network may be put together."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaynes_audit.analyzers.audit import Audit, LeftOut, LeftOutReason, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.roles import layout_of
from jaynes_audit.analyzers.rules import USUAL_THRESHOLDS, Finding, Level, ModelRule
from jaynes_audit.analyzers.rules.blocks import Place, place_of
from jaynes_audit.analyzers.rules.copies import duplicate_tensor, repeated_layer
from jaynes_audit.analyzers.rules.declared import config_mismatch
from jaynes_audit.analyzers.rules.regularity import irregular_block
from jaynes_audit.analyzers.rules.structure import STRUCTURE_RULES, wrapper_residue
from tests.rules.case import saved
from tests.rules.cases_structure import BLOCKS, CONFIG, Weights, llama, up, written
from tests.support.audits import audit, layer
from tests.support.checkpoints import Stored, stored

FIXTURES = Path(__file__).parents[3] / "fixtures"
Shapes = Mapping[str, tuple[int, ...]]


def found(rule: ModelRule, audited: Audit) -> list[Finding]:
    return list(rule.findings(audited, lambda _: USUAL_THRESHOLDS))


def subjects(rule: ModelRule, audited: Audit) -> list[str]:
    return [finding.subject for finding in found(rule, audited)]


def network(shapes: Shapes, config: Mapping[str, Any] | None = None) -> Audit:
    """An audit of tensors of these shapes, of which no two hold the same; the measured numbers mean nothing."""
    like = layer("like")
    layers = [
        replace(
            like,
            name=f"{name}[{part.suffix}]" if part.suffix else name,
            tensor=name,
            role=part.role,
            stack=part.stack,
            depth=part.depth,
            rows=len(part.rows),
            columns=len(part.columns),
            fan_in=part.fan_in,
            fan_out=part.fan_out,
            content=f"{name} {part.suffix}",
        )
        for name, shape in shapes.items()
        for part in layout_of(name, shape, config or {}).parts
    ]
    return replace(audit(like), layers=tuple(layers), configs={"": config} if config else {})


def shapes_of(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {name: each.shape for name, each in weights.items()}


LLAMA = shapes_of(llama())
LARGEST_F8 = 448  # of e4m3
UP, Q = up(3), "model.layers.3.self_attn.q_proj.weight"
NORM = "model.layers.{}.input_layernorm.weight"


def renamed(shapes: Shapes, old: str, new: str) -> dict[str, tuple[int, ...]]:
    return {name.replace(old, new): shape for name, shape in shapes.items()}


def blocks_with(*members: str, number: int = 6) -> dict[str, tuple[int, ...]]:
    return {f"layers.{block}.{member}": (32, 16) for block in range(number) for member in members}


# ---- where a tensor stands


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (UP, ("model.layers", 3, "mlp.up_proj.weight")),
        ("h.11.attn.c_attn.weight[q]", ("h", 11, "attn.c_attn.weight[q]")),
        ("layers.1.blocks.2.attn.qkv.bias", ("layers.1.blocks", 2, "attn.qkv.bias")),
        ("model.layers.4.mlp.experts.7.w1.weight", ("model.layers", 4, "mlp.experts.7.w1.weight")),
        ("blk.9.ffn_up.weight", ("blk", 9, "ffn_up.weight")),
        ("layers_5.mlp.wi.kernel", ("layers", 5, "mlp.wi.kernel")),
    ],
)
def test_a_place_is_a_stack_a_number_and_the_rest_of_the_name(name: str, place: tuple[str, int, str]) -> None:
    stack, number, member = place
    assert place_of(name) == Place(stack=stack, number=number, member=member)


@pytest.mark.parametrize("name", ["model.norm.weight", "lm_head.weight", "", "]", "a" * 600, "....", "[x]"])
def test_what_is_in_no_block_has_no_place(name: str) -> None:
    assert place_of(name) is None


# ---- JN108 and JN109: copies


def audited(folder: Path, weights: Weights) -> Audit:
    return audit_checkpoint(written(folder, weights))


def test_a_copy_is_told_with_its_original(tmp_path: Path) -> None:
    weights = llama()
    (finding,) = found(duplicate_tensor, audited(tmp_path, weights | {UP: weights[up(1)]}))
    assert finding.subject == UP
    assert finding.sentence == f"holds the very weights of '{up(1)}'"


def test_many_copies_of_one_kind_are_one_finding(tmp_path: Path) -> None:
    weights = llama()
    copies = {up(block): weights[up(0)] for block in range(1, 7)}
    (finding,) = found(duplicate_tensor, audited(tmp_path, weights | copies))
    assert finding.sentence.endswith("and 2 more likewise repeat a matrix")


def test_a_block_that_repeats_another_is_one_finding_and_its_matrices_are_none(tmp_path: Path) -> None:
    weights = llama()
    copies = {name.replace(".1.", ".6."): each for name, each in weights.items() if "layers.1." in name}
    repeating = audited(tmp_path, weights | copies)
    (finding,) = found(repeated_layer, repeating)
    assert finding.sentence == "all 7 matrices of block 6 of 'model.layers' are those of block 1"
    assert found(duplicate_tensor, repeating) == []


ALIKE = np.random.default_rng(3).normal(size=(32, 16))


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("model.embed_tokens.weight", "lm_head.weight"), ALIKE),
        (("lm_loss.weight", "transformer.word_embedding.weight"), ALIKE),
        (("generator.proj.weight", "tgt_emb.weight"), ALIKE),
        (("layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight"), ALIKE[:4, :4]),
        (("layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight"), np.full((32, 16), 0.5)),
        (("layers.0.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight"), np.zeros((32, 16))),
        (("layers.0.attn.mask", "layers.1.attn.mask"), np.tril(np.ones((32, 32)))),
        (("layers.0.attn.sin_cached", "layers.1.attn.sin_cached"), ALIKE),
        (("layers.0.attn.relative_position_bias_table", "layers.1.attn.relative_position_bias_table"), ALIKE),
        (("layers.0.norm.weight", "layers.1.norm.weight"), ALIKE[0]),
    ],
)
def test_what_may_be_alike_is_no_copy(names: tuple[str, str], values: np.ndarray, tmp_path: Path) -> None:
    assert found(duplicate_tensor, audited(tmp_path, dict.fromkeys(names, values))) == []


# ---- JN205: config.json


def test_a_model_like_its_config_is_no_finding() -> None:
    assert found(config_mismatch, network(LLAMA, CONFIG)) == []


@pytest.mark.parametrize(
    ("number", "subject", "words"),
    [(5, "model.layers.7", "is the last of"), (12, "model.layers.8", "is missing from the")],
)
def test_another_number_of_blocks_is_told(number: int, subject: str, words: str) -> None:
    (finding,) = found(config_mismatch, network(LLAMA, CONFIG | {"num_hidden_layers": number}))
    assert finding.subject == subject
    assert finding.sentence == f"{words} 8 blocks of 'model.layers'; config.json declares {number}"


@pytest.mark.parametrize("lost", [0, 3, 7])
def test_a_block_that_is_not_there_is_named(lost: int) -> None:
    shapes = {name: shape for name, shape in LLAMA.items() if f".{lost}." not in name}
    assert subjects(config_mismatch, network(shapes, CONFIG)) == [f"model.layers.{lost}"]


def test_the_half_of_a_model_of_two_blocks_is_missed() -> None:
    shapes = {name: shape for name, shape in LLAMA.items() if "layers" not in name or ".0." in name}
    assert subjects(config_mismatch, network(shapes, CONFIG | {"num_hidden_layers": 2})) == ["model.layers.1"]


def test_blocks_below_the_name_of_the_model_are_counted() -> None:
    shapes = renamed(LLAMA, "model.layers", "vit.encoder.layer")
    config = CONFIG | {"model_type": "vit", "num_hidden_layers": 9, "architectures": []}
    assert subjects(config_mismatch, network(shapes, config)) == ["vit.encoder.layer.8"]


def test_blocks_that_predict_further_tokens_are_counted() -> None:
    config = CONFIG | {"num_hidden_layers": 7, "num_nextn_predict_layers": 1}
    assert found(config_mismatch, network(LLAMA, config)) == []


@pytest.mark.parametrize("name", [UP, up(0), "model.layers.7.mlp.down_proj.weight", up(7)])
def test_a_transposed_matrix_is_named(name: str) -> None:
    (finding,) = found(config_mismatch, network(dict(LLAMA) | {name: LLAMA[name][::-1]}, CONFIG))
    assert finding.subject == name
    assert finding.sentence.startswith("is stored transposed: ")


def test_transposed_keys_are_named() -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    assert subjects(config_mismatch, network(dict(LLAMA) | {name: LLAMA[name][::-1]}, CONFIG)) == [name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 256}, "config.json declares a width of 256"),
        ({"num_key_value_heads": 4}, "the key heads of config.json have 128"),
        ({"vocab_size": 97}, "config.json declares a vocabulary of 97"),
    ],
)
def test_a_config_of_another_model_is_told(change: dict[str, int], words: str) -> None:
    assert any(words in finding.sentence for finding in found(config_mismatch, network(LLAMA, CONFIG | change)))


def test_a_padded_vocabulary_is_no_finding() -> None:
    assert found(config_mismatch, network(LLAMA, CONFIG | {"vocab_size": 90})) == []


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("model.embed_tokens.weight", "there is no embedding of its tokens"),
        ("lm_head.weight", "a head that is not tied to the embedding, and there is none"),
        ("model.norm.weight", "there is none behind the last of them"),
    ],
)
def test_a_lost_end_of_a_language_model_is_told(lost: str, words: str) -> None:
    (finding,) = found(config_mismatch, network(_without(lost), CONFIG))
    assert words in finding.sentence


def _without(*names: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in LLAMA.items() if name not in names}


def test_a_head_that_is_tied_may_be_absent() -> None:
    assert found(config_mismatch, network(_without("lm_head.weight"), CONFIG | {"tie_word_embeddings": True})) == []


@pytest.mark.parametrize("config", [{}, {"hidden_size": "large", "num_hidden_layers": -1}, {"architectures": 3}])
def test_a_config_that_says_nothing_contradicts_nothing(config: dict[str, object]) -> None:
    assert found(config_mismatch, network(LLAMA, config)) == []


# ---- JN206: residues


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("module.fc.weight", "data parallel training"),
        ("_orig_mod.fc.weight", "torch.compile"),
        ("model._fsdp_wrapped_module.fc.weight", "fully sharded data parallel training"),
        ("model._checkpoint_wrapped_module.fc.weight", "activation checkpointing"),
        ("state.0.exp_avg", "the state of an optimiser"),
        ("fc.weight.momentum_buffer", "the state of an optimiser"),
    ],
)
def test_a_residue_is_told(name: str, what: str) -> None:
    (finding,) = found(wrapper_residue, network({name: (4, 4), "head.weight": (4, 4)}))
    assert finding.subject == name
    assert f"its name tells of {what} (1 tensor," in finding.sentence


ADAPTER = {"fc.lora_A.weight": (2, 8), "fc.lora_B.weight": (8, 2)}


@pytest.mark.parametrize("base", ["fc.weight", "fc.base_layer.weight"])
def test_an_adapter_beside_its_base_is_told(base: str) -> None:
    (finding,) = found(wrapper_residue, network(ADAPTER | {base: (8, 8)}))
    assert "not merged" in finding.sentence


@pytest.mark.parametrize(
    "name", ["encoder.module.fc.weight", "modules.0.weight", "exp_avg_pool.weight", "teacher.fc.weight"]
)
def test_a_name_that_a_network_may_have_is_no_residue(name: str) -> None:
    assert found(wrapper_residue, network({name: (4, 4)})) == []


def test_an_adapter_alone_is_no_residue() -> None:
    assert found(wrapper_residue, network(ADAPTER | {"other.weight": (8, 8)})) == []


# ---- JN207: irregular blocks


def test_regular_blocks_are_no_finding() -> None:
    assert found(irregular_block, network(LLAMA)) == []


@pytest.mark.parametrize("lost", [UP, Q, up(0), up(7), *(NORM.format(at) for at in (0, 3, 7))])
def test_a_missing_tensor_is_named(lost: str) -> None:
    (finding,) = found(irregular_block, network(_without(lost)))
    assert finding.subject == lost
    assert finding.sentence == "is missing, though the 7 other blocks of 'model.layers' have it"


@pytest.mark.parametrize("reason", list(LeftOutReason))
def test_a_tensor_that_was_only_not_read_is_not_missing(reason: LeftOutReason) -> None:
    unread = LeftOut(name=UP, dtype="F32", shape=(), reason=reason, explanation="")
    assert found(irregular_block, replace(network(_without(UP)), left_out=(unread,))) == []


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("lost", [up(0), up(1), Q.replace("3", "1"), NORM.format(0), NORM.format(1)])
def test_a_missing_tensor_is_named_in_a_model_of_few_blocks(lost: str, number: int) -> None:
    shapes = few(number)
    del shapes[lost]
    assert subjects(irregular_block, network(shapes)) == [lost]


def few(number: int) -> dict[str, tuple[int, ...]]:
    return {name: LLAMA[name] for name in LLAMA if "layers" not in name or int(name.split(".")[2]) < number}


@pytest.mark.parametrize("lost", ["h.0.attn_v.bias", "h.5.attn_v.bias", "h.5.ffn_up.weight"])
def test_what_is_left_of_a_module_or_a_function_asks_for_the_rest(lost: str) -> None:
    shapes = blocks_with("attn_q.weight", "attn_v.weight", "ffn_up.weight", "ffn_down.weight")
    shapes = renamed(shapes, "layers.", "h.") | {f"h.{at}.attn_v.bias": (32,) for at in range(6)}
    del shapes[lost]
    assert subjects(irregular_block, network(shapes)) == [lost]


@pytest.mark.parametrize("block", [0, 3, 7])
def test_a_block_under_other_names_is_one_finding(block: int) -> None:
    shapes = {name.replace(".weight", "_v2.weight") if f".{block}." in name else name: LLAMA[name] for name in LLAMA}
    (finding,) = found(irregular_block, network(shapes))
    assert finding.subject == f"model.layers.{block}.input_layernorm_v2.weight"
    assert finding.sentence.startswith(f"stands in block {block} in place of 'input_layernorm.weight'")


@pytest.mark.parametrize("block", [0, 3, 7])
@pytest.mark.parametrize("of", ["mlp.up_proj.weight", "input_layernorm.weight"])
def test_one_more_weight_of_a_module_is_told(of: str, block: int) -> None:
    name = f"model.layers.{block}.{of}"
    assert subjects(irregular_block, network(dict(LLAMA) | {f"{name}_old": LLAMA[name]})) == [f"{name}_old"]


@pytest.mark.parametrize("block", [0, 1])
def test_of_two_blocks_the_one_with_an_unknown_weight_is_told(block: int) -> None:
    name = f"{up(block)}_old"
    assert subjects(irregular_block, network(few(2) | {name: (192, 128)})) == [name]


@pytest.mark.parametrize("block", [0, 3, 7])
def test_a_renamed_tensor_is_told_with_its_old_name(block: int) -> None:
    (finding,) = found(irregular_block, network(renamed(LLAMA, up(block), up(block).replace("up_proj", "up_prj"))))
    assert finding.subject == up(block).replace("up_proj", "up_prj")
    assert "in place of 'mlp.up_proj.weight'" in finding.sentence


def test_a_tensor_that_no_other_block_has_is_told() -> None:
    extra = "model.layers.3.mlp.up_proj_copy.weight"
    assert subjects(irregular_block, network(dict(LLAMA) | {extra: (192, 128)})) == [extra]


def in_fp8(folder: Path, *lost: str) -> Audit:
    """A Llama whose matrices in blocks are FP8 with a scale each, but for some scales."""
    tensors: dict[str, Stored] = {}
    for name, values in llama().items():
        if "proj" in name:
            scale = np.abs(values).max() / LARGEST_F8
            tensors[name] = stored(values / scale, Dtype.F8_E4M3)
            tensors[f"{name}_scale"] = stored(np.full(1, scale))
        else:
            tensors[name] = stored(values)
    kept = {name: each for name, each in tensors.items() if name not in lost}
    return audit_checkpoint(saved(folder, kept, config=CONFIG))


@pytest.mark.parametrize("block", [0, 3, BLOCKS - 1])
def test_a_lost_scale_is_told(block: int, tmp_path: Path) -> None:
    (finding,) = found(irregular_block, in_fp8(tmp_path, f"{up(block)}_scale"))
    assert finding.subject == up(block)
    told = f"is stored in F8_E4M3 without a scale, which the {BLOCKS - 1} other blocks of 'model.layers' have"
    assert finding.sentence == told


@pytest.mark.parametrize("with_scale", [0, BLOCKS // 2, BLOCKS])
def test_fp8_without_scales_may_be_a_design(with_scale: int, tmp_path: Path) -> None:
    lost = [f"{up(block)}_scale" for block in range(with_scale, BLOCKS)]
    assert found(irregular_block, in_fp8(tmp_path, *lost)) == []


@pytest.mark.parametrize("block", [0, 3, 7])
def test_a_transposed_tensor_is_told(block: int) -> None:
    (finding,) = found(irregular_block, network(dict(LLAMA) | {up(block): (128, 192)}))
    assert finding.subject == up(block)
    assert finding.sentence.startswith("is 128 x 192, the transpose of the 192 x 128 in the 7 other blocks")


def test_a_gap_in_the_numbers_is_told() -> None:
    shapes = {name: shape for name, shape in LLAMA.items() if ".3." not in name and ".4." not in name}
    (finding,) = found(irregular_block, network(shapes))
    assert finding.sentence == "blocks 3 to 4 are missing from 'model.layers', between others that are alike"


HEALTHY: dict[str, Shapes] = {
    "three blocks do not make a rule": blocks_with("mlp.up.weight", "mlp.down.weight", number=3)
    | {"layers.0.attn.q.weight": (4, 4)},
    "the first block lacks a norm behind that of the embedding (ModernBERT)": {
        name: shape for name, shape in LLAMA.items() if name != NORM.format(0)
    }
    | {"model.embeddings.norm.weight": (128,)},
    "one of two blocks has one norm, the other has none": {
        name: shape for name, shape in few(2).items() if "norm" not in name or name == NORM.format(0)
    },
    "one of two blocks has no biases": few(2)
    | {f"model.layers.0.self_attn.{name}_proj.bias": (8,) for name in ("q", "k", "v")},
    "one of three numbered steps is normalised": {f"text_projection.{at}.weight": (8, 8) for at in (0, 3)}
    | {f"text_projection.1.{name}": (8,) for name in ("weight", "bias", "running_mean", "running_var")},
    "the first block has a table of its own (T5)": dict(LLAMA)
    | {"model.layers.0.self_attn.relative_attention_bias.weight": (32, 4)},
    "the first block is dense, the others have experts": {
        name: shape for name, shape in LLAMA.items() if ".mlp." not in name or ".0." in name
    }
    | {f"model.layers.{at}.mlp.experts.{e}.w1.weight": (32, 16) for at in range(1, 8) for e in range(3)},
    "one block attends, the others are of another kind (Jamba)": blocks_with("norm.weight")
    | {f"layers.{at}.mamba.in_proj.weight": (8, 8) for at in (0, 1, 3, 4, 5)}
    | {"layers.2.self_attn.q_proj.weight": (8, 8)},  # of one size by chance
    "every third block attends across": dict(LLAMA)
    | {f"model.layers.{at}.cross_attn.q_proj.weight": (8, 8) for at in (1, 4, 7)},
    "the last blocks share their keys (Gemma 3n)": {
        name: shape for name, shape in LLAMA.items() if ".k_proj." not in name or name.split(".")[2] in "012345"
    },
    "the last block alone shares its keys": {
        name: shape for name, shape in LLAMA.items() if "7.self_attn.k_" not in name and "7.self_attn.v_" not in name
    },
    "every block has a width of its own (OpenELM)": {
        name: (shape[0] + 8 * int(name.split(".")[2]), *shape[1:]) if ".mlp." in name else shape
        for name, shape in LLAMA.items()
    },
    "one block has wider heads": dict(LLAMA) | {Q: (256, 128)},
    "the last block of a diffusion transformer lacks the context's output": blocks_with(
        "attn.to_q.weight", "attn.add_q_proj.weight"
    )
    | {f"layers.{at}.attn.to_add_out.weight": (16, 32) for at in range(5)},
    "a sequence with layers that have no weights": {f"layers.{at}.weight": (8, 8) for at in (0, 2, 4, 6, 10)},
    "a quantiser spared one block": blocks_with("mlp.up.weight")
    | {f"layers.{at}.mlp.up.weight_scale": (32, 1) for at in (0, 1, 3, 4, 5)},
}


@pytest.mark.parametrize("shapes", HEALTHY.values(), ids=HEALTHY)
def test_a_network_may_be_put_together_so(shapes: Shapes) -> None:
    assert found(irregular_block, network(shapes)) == []


def test_a_checkpoint_may_hold_nothing() -> None:
    assert [found(rule, network({})) for rule in STRUCTURE_RULES if isinstance(rule, ModelRule)] == [[]] * 5


# ---- what is sound

ARCHITECTURES = sorted((FIXTURES / "architectures").glob("*.json"))


@pytest.mark.parametrize("file", ARCHITECTURES, ids=lambda file: file.stem)
def test_no_real_architecture_is_objected_to(file: Path) -> None:
    described = json.loads(file.read_text())
    shapes = {name: tuple(told["shape"]) for name, told in described["tensors"].items()}
    audited = network(shapes, described["config"])
    assert [
        finding for rule in STRUCTURE_RULES if isinstance(rule, ModelRule) for finding in found(rule, audited)
    ] == []


REAL = ["babble/fp32", "babble/step0", "digits/model.safetensors", "run/checkpoint-300", "run/checkpoint-3000"]


@pytest.mark.parametrize("place", REAL)
def test_no_real_checkpoint_is_objected_to(place: str) -> None:
    audited = audit_checkpoint(open_checkpoint(str(FIXTURES / place)))
    assert [
        finding for rule in STRUCTURE_RULES if isinstance(rule, ModelRule) for finding in found(rule, audited)
    ] == []


def test_none_of_these_rules_is_an_error() -> None:
    assert {rule.level for rule in STRUCTURE_RULES} == {Level.WARNING}
