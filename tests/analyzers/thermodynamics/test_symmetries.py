"""Symmetries are those of the running network: the gradients of fixtures/symmetries obey all that are listed."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.thermodynamics.architectures import architecture_of
from jaynes_audit.analyzers.thermodynamics.symmetries import symmetries_of
from jaynes_audit.analyzers.thermodynamics.symmetry import Axis, Symmetry, SymmetryKind, Term
from tests.support.fuzzing import survive
from tests.support.gradients import NETWORKS, Network, network, tensor_of
from tests.support.symmetries_fuzz import FUZZ

NORM, UP_DOWN, VALUE = SymmetryKind.NORM_GAIN, SymmetryKind.UP_DOWN, SymmetryKind.VALUE_OUTPUT
PLAIN, ROTARY, NORMED = SymmetryKind.QUERY_KEY, SymmetryKind.QUERY_KEY_ROTARY, SymmetryKind.QUERY_KEY_NORM
RELU, WRITES = SymmetryKind.RELU_PAIR, SymmetryKind.RESIDUAL_WRITES

EXACTLY = 1e-12
CLEARLY = 1e-3

LISTED = {
    "llama": {NORM: 5, UP_DOWN: 2, VALUE: 2, ROTARY: 2, WRITES: 1},
    "gpt2": {NORM: 4, VALUE: 2, PLAIN: 2},
    "perceptron": {RELU: 2},
    "mixtral": {NORM: 3, UP_DOWN: 1, VALUE: 1, ROTARY: 1, WRITES: 1},
    "qwen3": {NORM: 3, UP_DOWN: 1, VALUE: 1, NORMED: 2, WRITES: 1},
    "gemma2": {NORM: 2, UP_DOWN: 1, VALUE: 1, ROTARY: 1},
    "gpt_neox": {NORM: 3, VALUE: 1, ROTARY: 1, PLAIN: 1, WRITES: 1},
    "gptj": {NORM: 2, VALUE: 1, ROTARY: 1, PLAIN: 1, WRITES: 1},
    "opt": {NORM: 2, VALUE: 1, PLAIN: 1, RELU: 1},
    "falcon": {NORM: 3, VALUE: 1, ROTARY: 1, WRITES: 1},
    "bert": {VALUE: 1, PLAIN: 1},
    "t5": {NORM: 5, VALUE: 3, PLAIN: 3, RELU: 2},
    "resnet": {SymmetryKind.CONV_BATCH_NORM: 3},
}


def symmetries_in(net: Network) -> tuple[Symmetry, ...]:
    return symmetries_of(net.layers, net.config, {})


def of_kind(net: Network, kind: SymmetryKind) -> Symmetry:
    return next(each for each in symmetries_in(net) if each.kind is kind)


def made_up(plus: Sequence[Term], minus: Sequence[Term], channels: int) -> Symmetry:
    return Symmetry(kind=UP_DOWN, subject="", depth=0, channels=channels, plus=tuple(plus), minus=tuple(minus))


def layers_named(config: dict[str, object], **shapes: tuple[int, ...]) -> list[Layer]:
    return [
        layer
        for name, shape in shapes.items()
        for layer in layers_of(tensor_of(name.replace("__", "."), shape), config)
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradients_of_a_minibatch_obey_every_symmetry_that_is_listed(name: str) -> None:
    net = network(name)
    gaps = {each.subject: net.gap(each) for each in symmetries_in(net)}
    assert gaps
    assert max(gaps.values()) < EXACTLY, gaps


@pytest.mark.parametrize("name", NETWORKS)
def test_each_architecture_has_the_symmetries_that_theory_gives_it(name: str) -> None:
    assert Counter(each.kind for each in symmetries_in(network(name))) == LISTED[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_two_symmetries_have_one_subject(name: str) -> None:
    subjects = [each.subject for each in symmetries_in(network(name))]
    assert len(set(subjects)) == len(subjects)


def test_under_rotary_positions_no_entry_of_a_head_has_a_symmetry_of_its_own() -> None:
    net = network("llama")
    query, key = (f"model.layers.0.self_attn.{which}_proj.weight" for which in "qk")
    heads = np.arange(16) // 8 * 4 + np.arange(16) % 4  # two query heads of four entries share a key
    entries = made_up(
        [Term(layer=query, axis=Axis.OUTPUTS, channels=heads)], [Term(layer=key, axis=Axis.OUTPUTS)], channels=8
    )
    assert net.gap(entries) > CLEARLY


def test_a_gate_cannot_be_rescaled_against_what_follows() -> None:
    net = network("llama")
    gate, down = (f"model.layers.0.mlp.{which}_proj.weight" for which in ("gate", "down"))
    assert net.gap(made_up([Term(layer=gate, axis=Axis.OUTPUTS)], [Term(layer=down, axis=Axis.INPUTS)], 16)) > CLEARLY


def test_a_neuron_that_is_not_relu_cannot_be_rescaled() -> None:
    net = network("gpt2")
    up, bias, down = (f"transformer.h.0.mlp.{which}" for which in ("c_fc.weight", "c_fc.bias", "c_proj.weight"))
    own = [Term(layer=up, axis=Axis.OUTPUTS), Term(layer=bias, axis=Axis.OUTPUTS)]
    assert net.gap(made_up(own, [Term(layer=down, axis=Axis.INPUTS)], 12)) > CLEARLY


def test_a_tied_embedding_keeps_the_residual_stream_from_being_rescaled() -> None:
    net = network("gpt2")
    writers = [name for name in net.products if "wte" in name or "wpe" in name or "c_proj" in name]
    assert net.gap(made_up([Term(layer=name, axis=Axis.ALL) for name in writers], [], 1)) > CLEARLY


def test_a_tied_head_keeps_the_last_norm_from_being_rescaled() -> None:
    net = network("gpt2")
    own = [Term(layer=f"transformer.ln_f.{leaf}", axis=Axis.OUTPUTS) for leaf in ("weight", "bias")]
    # Of an embedding the network's outputs are what it looks up; as a head it reads them.
    head = [Term(layer="transformer.wte.weight", axis=Axis.OUTPUTS)]
    assert net.gap(made_up(own, head, 8)) > CLEARLY


def test_a_norm_on_the_residual_stream_cannot_be_rescaled_against_its_readers() -> None:
    net = network("bert")
    norm = "bert.encoder.layer.0.attention.output.LayerNorm"
    own = [Term(layer=f"{norm}.{leaf}", axis=Axis.OUTPUTS) for leaf in ("weight", "bias")]
    reader = [Term(layer="bert.encoder.layer.0.intermediate.dense.weight", axis=Axis.INPUTS)]
    assert net.gap(made_up(own, reader, 8)) > CLEARLY


@pytest.mark.parametrize(("model_type", "expected"), [("gptj", [0, 0, 1, 1]), ("llama", [0, 1, 0, 1])])
def test_rotary_pairs_are_neighbours_in_one_family_and_halves_in_another(model_type: str, expected: list[int]) -> None:
    """Of a head with two pairs: of one, as most fixtures have, both are the same."""
    config: dict[str, object] = {"model_type": model_type, "num_attention_heads": 1}
    shapes = {f"layers__0__attn__{which}_proj__weight": (4, 4) for which in ("q", "k", "v", "o")}
    found = symmetries_of(layers_named(config, **shapes), config, {})
    (rotary,) = (each for each in found if each.kind is ROTARY)
    assert rotary.plus[0].channels is not None
    assert rotary.plus[0].channels.tolist() == expected


def test_the_gain_of_gemma_is_one_more_than_what_is_stored() -> None:
    gain = of_kind(network("gemma2"), NORM).plus[0]
    assert gain.offset == 1.0
    assert of_kind(network("llama"), NORM).plus[0].offset == 0.0


def test_a_head_that_is_not_certainly_apart_from_the_embedding_has_no_symmetry() -> None:
    net = network("llama")
    untied = {**net.config}
    del untied["tie_word_embeddings"]
    for config, aliases in (
        (net.config | {"tie_word_embeddings": True}, {}),
        (untied, {}),
        (net.config, {"lm_head.weight": "model.embed_tokens.weight"}),
    ):
        kinds = Counter(each.kind for each in symmetries_of(net.layers, config, aliases))
        assert kinds == {NORM: 4, UP_DOWN: 2, VALUE: 2, ROTARY: 2}


def test_a_network_of_an_unknown_model_type_has_no_symmetry() -> None:
    net = network("llama")
    assert not symmetries_of(net.layers, net.config | {"model_type": "llama-like"}, {})
    assert not symmetries_of(net.layers, {}, {})


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("opt", {"do_layer_norm_before": False}),
        ("bert", {"position_embedding_type": "relative_key"}),
        ("falcon", {"alibi": True}),
    ],
)
def test_a_setting_that_makes_another_network_of_it_leaves_none(name: str, setting: dict[str, object]) -> None:
    net = network(name)
    assert not symmetries_of(net.layers, net.config | setting, {})


def test_clipped_activations_leave_nothing_to_rescale() -> None:
    assert architecture_of("mpt", "", {"attn_config": {"clip_qkv": None, "qk_ln": False}})
    assert architecture_of("mpt", "", {"attn_config": {"clip_qkv": 6}}) is None
    assert architecture_of("olmoe", "", {"clip_qkv": 8.0}) is None


def test_a_block_that_lacks_an_expert_has_no_symmetry_of_its_norms() -> None:
    net = network("mixtral")
    incomplete = [layer for layer in net.layers if "experts.1" not in layer.name]
    found = symmetries_of(incomplete, net.config, {})
    assert [each.subject for each in found if each.kind is NORM] == ["final norm / head"]
    assert WRITES not in {each.kind for each in found}


@pytest.mark.parametrize("missing", ["q_proj", "v_proj", "gate_proj", "up_proj"])
def test_a_block_that_lacks_a_layer_has_no_symmetry(missing: str) -> None:
    net = network("llama")
    incomplete = [layer for layer in net.layers if not ("layers.0" in layer.name and missing in layer.name)]
    assert len(incomplete) == len(net.layers) - 1
    assert 0 not in {each.depth for each in symmetries_of(incomplete, net.config, {})}


def test_a_block_that_lacks_a_bias_has_no_symmetry() -> None:
    net = network("gpt2")
    incomplete = [layer for layer in net.layers if layer.name != "transformer.h.1.attn.c_attn.bias"]
    assert {each.depth for each in symmetries_of(incomplete, net.config, {})} == {0}


def test_a_block_with_a_layer_of_unknown_use_has_no_symmetry() -> None:
    net = network("llama")
    stranger = layers_named({}, model__layers__0__mlp__adapter__weight=(12, 12))
    depths = {each.depth for each in symmetries_of([*net.layers, *stranger], net.config, {})}
    assert depths == {1, None}
    kinds = {each.kind for each in symmetries_of([*net.layers, *stranger], net.config, {})}
    assert WRITES not in kinds


def test_a_second_head_leaves_the_last_norm_without_a_symmetry() -> None:
    net = network("llama")
    value_head = layers_named({}, v_head__summary__weight=(1, 12))
    subjects = {each.subject for each in symmetries_of([*net.layers, *value_head], net.config, {})}
    assert not subjects & {"final norm / head", "residual-stream writes"}


@pytest.mark.parametrize(
    "config",
    [{}, {"hidden_act": "gelu"}, {"activation": 3}],
    ids=["no activation is known", "it is not homogeneous", "it is no word"],
)
def test_a_perceptron_that_is_not_said_to_be_relu_has_no_symmetry(config: dict[str, object]) -> None:
    net = network("perceptron")
    assert not symmetries_of(net.layers, config, {})


def test_a_perceptron_whose_activation_is_the_identity_has_linear_pairs() -> None:
    net = network("perceptron")
    found = symmetries_of(net.layers, {"activation": "identity"}, {})
    assert [each.kind for each in found] == [SymmetryKind.LINEAR_PAIR] * 2


@pytest.mark.parametrize(
    "stranger",
    [
        {"bn__weight": (10,)},
        {"1__weight": (4, 9)},
        {"other__weight": (4, 4)},
        {"3__bias": (4,)},
        {"6__weight": (4, 4, 3)},
    ],
    ids=["a norm", "a matrix that does not fit", "a matrix named unlike", "a bias of nothing", "a convolution"],
)
def test_a_chain_with_anything_else_in_it_is_no_plain_perceptron(stranger: dict[str, tuple[int, ...]]) -> None:
    net = network("perceptron")
    assert not symmetries_of([*net.layers, *layers_named({}, **stranger)], {"hidden_act": "relu"}, {})


def test_ten_layers_of_a_perceptron_come_in_the_order_of_their_numbers() -> None:
    shapes = {f"fc{number}__weight": (number + 1, number) for number in range(1, 12)}
    found = symmetries_of(layers_named({}, **dict(sorted(shapes.items()))), {"hidden_act": "relu"}, {})
    assert [each.channels for each in found] == list(range(2, 12))


def test_a_number_of_thousands_of_digits_is_only_a_name() -> None:
    shapes = {f"{'9' * 5000}{number}__weight": (4, 4) for number in range(2)}
    assert len(symmetries_of(layers_named({}, **shapes), {"hidden_act": "relu"}, {})) == 1


def test_the_two_factors_of_an_adapter_are_a_pair_whatever_the_network() -> None:
    module = "base_model__model__layers__3__self_attn__q_proj"
    layers = layers_named({}, **{f"{module}__lora_A__weight": (2, 8), f"{module}__lora_B__weight": (6, 2)})
    (found,) = symmetries_of(layers, {}, {})
    assert (found.kind, found.depth, found.channels) == (SymmetryKind.LORA, 3, 2)
    generator = np.random.default_rng(0)
    a, b, to_product = (generator.normal(size=shape) for shape in ((2, 8), (6, 2), (6, 8)))
    # The chain rule of any loss of b @ a, whose gradient is `to_product`.
    products = {layers[0].tensor.name: (b.T @ to_product) * a, layers[1].tensor.name: (to_product @ a.T) * b}
    assert Network({}, products).gap(found) < EXACTLY


def test_factors_with_something_between_them_are_no_pair() -> None:
    module = "model__layers__3__q_proj"
    shapes = {f"{module}__lora_A__weight": (2, 8), f"{module}__lora_B__weight": (6, 2)}
    assert not symmetries_of(layers_named({}, **shapes, **{f"{module}__lora_E": (2, 1)}), {}, {})
    assert not symmetries_of(layers_named({}, **shapes, **{f"{module}__lora_mid__weight": (2, 2)}), {}, {})


def test_the_weights_under_an_adapter_have_no_symmetry_of_their_own() -> None:
    net = network("llama")
    module = "model__layers__0__self_attn__q_proj"
    factors = layers_named({}, **{f"{module}__lora_A__weight": (2, 12), f"{module}__lora_B__weight": (16, 2)})
    kinds = {each.kind for each in symmetries_of([*net.layers, *factors], net.config, {})}
    assert kinds == {SymmetryKind.LORA}


def test_names_and_settings_that_make_no_sense_leave_symmetries_that_fit_the_layers() -> None:
    outcomes, faults = survive(FUZZ, inputs=400, seed=0)
    assert not faults
    assert outcomes


def test_a_share_of_rotation_does_not_count_for_networks_that_do_not_read_it() -> None:
    llama = network("llama")
    settings = {**llama.config, "partial_rotary_factor": 0.5}

    assert Counter(each.kind for each in symmetries_of(llama.layers, settings, {})) == LISTED["llama"]
