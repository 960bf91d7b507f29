"""Layers and config.json -> the symmetries that a network has for certain."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.role import CROSS_ATTENTION as ACROSS
from jaynes_audit.analyzers.roles.settings import settings_of, whole, word
from jaynes_audit.analyzers.roles.slots import slot_of
from jaynes_audit.analyzers.thermodynamics.architectures import MLP, SELF_ATTENTION, architecture_of
from jaynes_audit.analyzers.thermodynamics.attention import attention_symmetries
from jaynes_audit.analyzers.thermodynamics.blocks import Block, by_role
from jaynes_audit.analyzers.thermodynamics.chains import (
    HOMOGENEOUS,
    activation_of,
    adapter_symmetries,
    filter_symmetries,
    perceptron_symmetries,
)
from jaynes_audit.analyzers.thermodynamics.sums import LONGEST_AXIS
from jaynes_audit.analyzers.thermodynamics.symmetry import Axis, Symmetry, SymmetryKind, Term
from jaynes_audit.analyzers.thermodynamics.terms import inputs_of, module_of, outputs_of, with_bias

ENTRY = frozenset({Role.EMBEDDING, Role.POSITION_EMBEDDING, Role.PATCH_EMBEDDING})
WRITES = ENTRY | {Role.ATTENTION_O, Role.MLP_DOWN, Role.EXPERT_DOWN}
# What else stands in a block, an adapter or a second head, may read or write what the architecture does not know of.
BESIDE_MATRICES = frozenset({Role.NORM, Role.BIAS, Role.BUFFER})
OF_BLOCKS = SELF_ATTENTION | frozenset(ACROSS.values()) | MLP | WRITES | BESIDE_MATRICES
OUTSIDE_BLOCKS = ENTRY | {Role.HEAD} | BESIDE_MATRICES
BLOCKS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")

QUERIES_KEYS_AND_VALUES = (SELF_ATTENTION - {Role.ATTENTION_QKV}, {Role.ATTENTION_QKV})


def symmetries_of(
    layers: Sequence[Layer], config: Mapping[str, object], aliases: Mapping[str, str]
) -> tuple[Symmetry, ...]:
    """List the symmetries of a network, block by block.

    `layers` are all of its layers and `aliases` its tied tensors, see `Checkpoint`. Only what an architecture is known
    to have exactly is listed, so that a network that is not known has none: by its model type in config.json, and of
    plain perceptrons by the activation that stands there. Factors of adapters are known by their names.

    Symmetries of networks: Kunin et al. 2021, "Neural Mechanics"; of attention and gated layers: Marcotte et al. 2025,
    "Transformative or Conservative? Conservation laws for ResNets and Transformers" (arXiv 2506.06194).
    """
    layers = [layer for layer in layers if max(outputs_of(layer), inputs_of(layer)) <= LONGEST_AXIS]
    by_name = {layer.name: layer for layer in layers}
    return tuple(each for each in _found(layers, config, aliases) if _fits(each, by_name))


def _found(layers: Sequence[Layer], config: Mapping[str, object], aliases: Mapping[str, str]) -> Iterator[Symmetry]:
    model_type = word(config, "model_type")
    if any(layer.part.role in {Role.LORA_A, Role.LORA_B} for layer in layers):
        yield from adapter_symmetries(layers)  # the weights that they are added to have no symmetry by themselves
    elif model_type == "resnet":
        yield from filter_symmetries(layers)
    elif model_type:
        yield from _of_stacks(layers, config, aliases)
    else:
        yield from perceptron_symmetries(layers, config)


def _fits(symmetry: Symmetry, layers: Mapping[str, Layer]) -> bool:
    """Whether every layer is as long as its term says: names and settings are a stranger's."""
    for term in (*symmetry.plus, *symmetry.minus):
        layer = layers[term.layer]
        entries = 1 if term.axis is Axis.ALL else (inputs_of if term.axis is Axis.INPUTS else outputs_of)(layer)
        if entries != (symmetry.channels if term.channels is None else term.channels.size):
            return False
    return True


def _of_stacks(layers: Sequence[Layer], config: Mapping[str, object], aliases: Mapping[str, str]) -> Iterator[Symmetry]:
    biases = {layer.name: layer for layer in layers if layer.part.role is Role.BIAS}
    stacks: defaultdict[str, defaultdict[int | None, list[Layer]]] = defaultdict(lambda: defaultdict(list))
    for layer in layers:
        stacks[layer.part.stack][layer.part.depth].append(layer)
    for stack, blocks in stacks.items():
        settings = settings_of(config, stack)
        architecture = architecture_of(word(settings, "model_type") or word(config, "model_type"), stack, settings)
        if architecture is None:
            continue
        networks = [
            Block(
                subject=f"{stack} block {depth}".strip(),
                depth=depth,
                layers=by_role(members),
                biases=biases,
                settings=settings,
                architecture=architecture,
            )
            for depth, members in sorted(
                ((depth, members) for depth, members in blocks.items() if depth is not None), key=lambda each: each[0]
            )
        ]
        complete = _complete(networks)
        for network in complete:
            yield from _of_block(network)
        outside = Block(
            subject=stack,
            depth=None,
            layers=by_role(blocks.get(None, [])),
            biases=biases,
            settings=settings,
            architecture=architecture,
        )
        if outside.layers.keys() <= OUTSIDE_BLOCKS and not _is_tied(outside, config, aliases):
            yield from _final_norm(outside)
            if len(complete) == len(networks) == whole(settings, *BLOCKS):
                yield from _residual_writes(outside, networks)


def _complete(blocks: Sequence[Block]) -> list[Block]:
    """The blocks that lack nothing that another has, but for the layers of experts, and have nothing unknown."""
    readers = SELF_ATTENTION | MLP
    usual = {role for each in blocks for role in each.layers} & readers
    if not usual.isdisjoint({Role.EXPERT_UP, Role.EXPERT_GATE_UP}):
        readers, usual = SELF_ATTENTION, usual & SELF_ATTENTION
    most_biases = max((len(each.layers.get(Role.BIAS, ())) for each in blocks), default=0)
    return [
        each
        for each in blocks
        if each.layers.keys() <= OF_BLOCKS
        and each.layers.keys() & readers == usual
        and each.layers.keys() & SELF_ATTENTION in QUERIES_KEYS_AND_VALUES
        and len(each.layers.get(Role.BIAS, ())) == most_biases
    ]


def _of_block(block: Block) -> Iterator[Symmetry]:
    yield from _norm_gains(block)
    yield from attention_symmetries(block)
    yield from _of_mlp(block)
    yield from _of_experts(block)


# ---- norms


def _norm_gains(block: Block) -> Iterator[Symmetry]:
    for end, readers in block.architecture.norms.items():
        gains = [gain for gain in block.layers.get(Role.NORM, ()) if module_of(gain).endswith(f".{end}")]
        read_by = [layer for role in sorted(readers) for layer in block.layers.get(role, ())]
        if len(gains) == 1:
            yield from _norm_gain(block, gains[0], f"{block.subject}, {end} / its readers", read_by)


def _norm_gain(network: Block, gain: Layer, subject: str, readers: Sequence[Layer]) -> Iterator[Symmetry]:
    channels = outputs_of(gain)
    minus = tuple(Term(layer=reader.name, axis=Axis.INPUTS) for reader in readers)
    if minus and all(inputs_of(reader) == channels for reader in readers) and _has_all_experts(network):
        own, *beta = with_bias(gain, network.biases)
        plus = (Term(layer=own.layer, axis=Axis.OUTPUTS, offset=network.architecture.gain_offset), *beta)
        yield Symmetry(
            kind=SymmetryKind.NORM_GAIN,
            subject=subject,
            depth=network.depth,
            channels=channels,
            plus=plus,
            minus=minus,
        )


def _has_all_experts(network: Block) -> bool:
    """Whether no expert of a block is missing of those that config.json speaks of."""
    said = whole(network.settings, "num_local_experts", "num_experts")
    roles = (Role.EXPERT_UP, Role.EXPERT_GATE, Role.EXPERT_DOWN)
    return all(len(network.layers.get(role, ())) in {0, said} for role in roles)


def _final_norm(outside: Block) -> Iterator[Symmetry]:
    head, end = outside.only(Role.HEAD), outside.architecture.final_norm
    gains = [gain for gain in outside.layers.get(Role.NORM, ()) if f".{module_of(gain)}".endswith(f".{end}")]
    if head and end and len(gains) == 1:
        yield from _norm_gain(outside, gains[0], f"{outside.subject} final norm / head".strip(), [head])


def _is_tied(outside: Block, config: Mapping[str, object], aliases: Mapping[str, str]) -> bool:
    """Whether the embedding and the head may be one matrix."""
    ends = {layer.tensor.name for role in (Role.EMBEDDING, Role.HEAD) for layer in outside.layers.get(role, ())}
    if not ends.isdisjoint(aliases.values()):
        return True
    said = outside.settings.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    return outside.architecture.may_be_tied and said is not False


def _residual_writes(outside: Block, blocks: Sequence[Block]) -> Iterator[Symmetry]:
    all_write = all(
        Role.ATTENTION_O in block.layers
        and not block.layers.keys().isdisjoint({Role.MLP_DOWN, Role.EXPERT_DOWN})
        and Role.CROSS_ATTENTION_O not in block.layers
        and _has_all_experts(block)
        for block in blocks
    )
    if not (outside.architecture.is_pre_norm and all_write and outside.only(Role.HEAD)):
        return
    writers = [
        layer
        for network in (outside, *blocks)
        for role in WRITES
        for layer in network.layers.get(role, ())
        if network is not outside or role in ENTRY
    ]
    if any(layer.part.role in {Role.EMBEDDING, Role.PATCH_EMBEDDING} for layer in writers):
        yield Symmetry(
            kind=SymmetryKind.RESIDUAL_WRITES,
            subject=f"{outside.subject} residual-stream writes".strip(),
            depth=None,
            channels=1,
            plus=tuple(
                Term(layer=term.layer, axis=Axis.ALL)
                for layer in sorted(writers, key=lambda each: each.name)
                for term in with_bias(layer, outside.biases)
            ),
        )


# ---- feed-forward networks


def _of_mlp(block: Block) -> Iterator[Symmetry]:
    up, gate, down = (block.only(role) for role in (Role.MLP_UP, Role.MLP_GATE, Role.MLP_DOWN))
    if up is None or down is None or Role.MLP_GATE_UP in block.layers:
        return
    if gate:
        kind, what = SymmetryKind.UP_DOWN, "up/down"
    elif Role.MLP_GATE not in block.layers and activation_of(block.settings) in HOMOGENEOUS:
        kind, what = SymmetryKind.RELU_PAIR, "ReLU neurons"
    else:
        return
    yield Symmetry(
        kind=kind,
        subject=f"{block.subject}, {what}",
        depth=block.depth,
        channels=outputs_of(up),
        plus=with_bias(up, block.biases),
        minus=(Term(layer=down.name, axis=Axis.INPUTS),),
    )


def _of_experts(block: Block) -> Iterator[Symmetry]:
    """The gated experts of a block, as one symmetry of all their neurons."""
    ups, gates, downs = (
        {slot_of(layer.name, role, inside=True).member: layer for layer in block.layers.get(role, ())}
        for role in (Role.EXPERT_UP, Role.EXPERT_GATE, Role.EXPERT_DOWN)
    )
    if not ups or not ups.keys() == gates.keys() == downs.keys():
        return
    neurons = {outputs_of(layer) for layer in ups.values()} | {inputs_of(layer) for layer in downs.values()}
    width = max(neurons)
    if len(neurons) != 1 or width * len(ups) > LONGEST_AXIS:
        return
    channels = {member: at * width + np.arange(width) for at, member in enumerate(sorted(ups))}
    yield Symmetry(
        kind=SymmetryKind.UP_DOWN,
        subject=f"{block.subject}, up/down of the experts",
        depth=block.depth,
        channels=width * len(ups),
        plus=tuple(term for at, of in channels.items() for term in with_bias(ups[at], block.biases, of)),
        minus=tuple(Term(layer=downs[at].name, axis=Axis.INPUTS, channels=of) for at, of in channels.items()),
    )
