"""A rule about what config.json declares of a network and its weights contradict."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.names import parsed
from jaynes_audit.analyzers.roles.settings import Settings, heads, key_value_heads, settings_of, whole, word
from jaynes_audit.analyzers.roles.slots import BEFORE_ATTENTION, ONLY, slot_of
from jaynes_audit.analyzers.rules.blocks import place_of
from jaynes_audit.analyzers.rules.rule import Level, Precision, model_rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds

HALVES = frozenset({"encoder", "decoder"})  # beside a network with settings of its own they are towers

# Words that lead to the one stack which the settings of a network are about. Any other word may begin a tower, a
# codec or a projector with settings of its own.
PLAIN = frozenset({"model", "transformer", "backbone", "base_model", "gpt_neox", "bert", "roberta", "distilbert"}) | {
    *("electra", "language_model", "embeddings", "module", "_orig_mod", ""),
    *HALVES,
}
LISTS = frozenset({"layers", "layer", "h", "blocks", "block", "blk"})
TABLES = frozenset({"embed_tokens", "tok_embeddings", "wte", "word_embeddings", "token_embd", "embed_in"})

WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
INNER_WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim")
LAYERS: Mapping[str, tuple[str, ...]] = {
    "": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "encoder": ("encoder_layers", "num_layers"),
    "decoder": ("decoder_layers", "num_decoder_layers", "num_layers"),
}
FURTHER_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")  # behind the others, for further tokens

QUERIES, KEYS = frozenset({Role.ATTENTION_Q}), frozenset({Role.ATTENTION_K, Role.ATTENTION_V})
ENDS_OF_BLOCKS = frozenset({Role.ATTENTION_O, Role.MLP_DOWN, Role.EXPERT_DOWN, Role.SSM_OUT})
WIDENS = frozenset({Role.MLP_GATE, Role.MLP_UP})

LANGUAGE_MODEL = "ForCausalLM"  # how the name of its class ends, which the config gives


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The part of a checkpoint that a config is about: its settings, its blocks, and its layers outside of them.

    `stack` is the path of the blocks, `numbers` are theirs.
    """

    settings: Settings
    stack: str
    half: str
    numbers: frozenset[int]
    blocks: tuple[LayerAudit, ...]


@model_rule("JN205", "config-mismatch", Level.WARNING, precision=Precision.HIGH)
def config_mismatch(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """The weights contradict config.json: the number of blocks, the width, the heads, the vocabulary, the head.

    Only the network that the config itself is about is looked at. A vocabulary may be padded: only a table with too few
    rows is objected to.

    Why it matters: the model does not load, or loads with blocks left out, or runs on weights that are turned round.
    What to do: find out whether the config or the weights are of another export, and export both together.
    Example: model.layers.3.mlp.up_proj.weight: is stored transposed: 1,024 inputs and 4,096 outputs by config.json
    """
    config = audit.configs.get("", {})
    networks = list(_networks(audit, config))
    for network in networks:
        yield from _number_of_blocks(network)
        yield from _transposed(network)
        yield from _width(network)
        yield from _heads(network)
    if networks:
        yield from _vocabulary(audit, config)
        yield from _ends(audit, networks, config)


def _networks(audit: Audit, config: Settings) -> Iterator[Network]:
    """The stacks of the model, or of the halves of one, that its config gives the settings of."""
    layers: defaultdict[tuple[str, str], list[LayerAudit]] = defaultdict(list)
    numbers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    if not config:
        return
    nests = any(isinstance(value, Mapping) and whole(value, *WIDTHS) for value in config.values())
    plain = (PLAIN - HALVES if nests else PLAIN) | {word(config, "model_type")}
    for layer in audit:
        place = place_of(layer.name)
        if place and layer.stack in LAYERS and _is_plain(place.stack, plain):
            layers[place.stack, layer.stack].append(layer)
            numbers[place.stack, layer.stack].add(place.number)
    for place in (place_of(each.name) for each in audit.left_out):
        for (stack, _), known in numbers.items():
            if place and place.stack == stack:
                known.add(place.number)
    halves = [half for _, half in layers]
    for (stack, half), of_stack in layers.items():
        if halves.count(half) == 1 and not ENDS_OF_BLOCKS.isdisjoint(layer.role for layer in of_stack):
            yield Network(
                settings=settings_of(config, half),
                stack=stack,
                half=half,
                numbers=frozenset(numbers[stack, half]),
                blocks=tuple(of_stack),
            )


def _is_plain(stack: str, plain: frozenset[str]) -> bool:
    *path, last = stack.lower().split(".")
    return last in LISTS and plain.issuperset(path)


def _number_of_blocks(network: Network) -> Iterator[tuple[str, str]]:
    declared = whole(network.settings, *LAYERS[network.half])
    further = whole(network.settings, *FURTHER_LAYERS)
    there = len(network.numbers)
    if declared and not declared <= there <= declared + further:
        last = max(network.numbers)
        absent = next((number for number in range(declared) if number not in network.numbers), last)
        told = f"{there:,} blocks of {quoted(network.stack)}; config.json declares {declared:,}"
        yield f"{network.stack}.{absent}", f"is the last of {told}" if absent == last else f"is missing from the {told}"


def _declared(layer: LayerAudit, settings: Settings) -> tuple[int, int]:
    """Inputs and outputs that the settings give a layer; 0 where they do not say."""
    width, inner = whole(settings, *WIDTHS), whole(settings, *INNER_WIDTHS)
    head = whole(settings, "head_dim") or (width // heads(settings) if heads(settings) else 0)
    if layer.role in QUERIES:
        return width, heads(settings) * head
    if layer.role in KEYS:
        return width, key_value_heads(settings) * head
    if layer.role is Role.ATTENTION_O:
        return heads(settings) * head, width
    if layer.role in WIDENS:
        return width, inner
    return (inner, width) if layer.role is Role.MLP_DOWN else (0, 0)


def _known(network: Network) -> Iterator[tuple[LayerAudit, int, int]]:
    for layer in network.blocks:
        inputs, outputs = _declared(layer, network.settings)
        if inputs and outputs and layer.fan_in and slot_of(layer.name, layer.role, inside=True).kinds == ONLY:
            yield layer, inputs, outputs


def _transposed(network: Network) -> Iterator[tuple[str, str]]:
    for layer, inputs, outputs in _known(network):
        if (layer.fan_in, layer.fan_out) == (outputs, inputs) != (inputs, outputs):
            yield layer.name, f"is stored transposed: {inputs:,} inputs and {outputs:,} outputs by config.json"


def _width(network: Network) -> Iterator[tuple[str, str]]:
    """A width that all layers share and the settings contradict."""
    known = [(layer, inputs, outputs) for layer, inputs, outputs in _known(network) if layer.role in QUERIES | WIDENS]
    widths = {layer.fan_in for layer, _, _ in known}
    if (
        len(widths) == 1
        and {layer.role for layer, _, _ in known} > QUERIES
        and "embedding_size" not in network.settings
    ):
        layer, declared, _ = known[0]
        if layer.fan_in != declared:
            yield (
                layer.name,
                f"has {layer.fan_in:,} inputs, as all others; config.json declares a width of {declared:,}",
            )


def _heads(network: Network) -> Iterator[tuple[str, str]]:
    """Numbers of keys that all layers share and the settings contradict, where those of the queries agree."""
    known = list(_known(network))
    agree = all(layer.fan_out == outputs for layer, _, outputs in known if layer.role in QUERIES)
    keys = [(layer, outputs) for layer, _, outputs in known if layer.role in KEYS and layer.name == layer.tensor]
    if agree and {layer.role for layer, _ in keys} == KEYS and len({layer.fan_out for layer, _ in keys}) == 1:
        layer, declared = keys[0]
        turned = (layer.fan_out, layer.fan_in) == _declared(layer, network.settings)
        if layer.fan_out != declared and not turned:
            yield layer.name, f"has {layer.fan_out:,} outputs; the key heads of config.json have {declared:,}"


def _vocabulary(audit: Audit, config: Settings) -> Iterator[tuple[str, str]]:
    for layer in audit:
        if layer.role is Role.EMBEDDING and _is_table(layer.tensor):
            declared = whole(settings_of(config, layer.stack), "vocab_size")
            if 1 < layer.rows < declared:
                yield layer.name, f"has {layer.rows:,} rows; config.json declares a vocabulary of {declared:,}"


def _is_table(name: str) -> bool:
    *path, table, leaf = ["", *name.lower().split(".")]
    return leaf == "weight" and table in TABLES and PLAIN.issuperset(path)


def _ends(audit: Audit, networks: Sequence[Network], config: Settings) -> Iterator[tuple[str, str]]:
    """What a language model has before and behind its blocks."""
    names = [*(each.tensor for each in audit), *(each.name for each in audit.left_out), *audit.aliases]
    outside = {parsed(name.partition("[")[0])[0].role for name in names if place_of(name) is None}
    of_blocks = {layer.role for network in networks for layer in network.blocks}
    if not _is_language_model(config) or not of_blocks >= {Role.NORM, Role.MLP_DOWN} or Role.OTHER in outside:
        return
    if Role.EMBEDDING not in outside:
        yield audit.target, "config.json declares a language model, and there is no embedding of its tokens"
    if Role.HEAD not in outside and config.get("tie_word_embeddings") is False:
        yield audit.target, "config.json declares a head that is not tied to the embedding, and there is none"
    if Role.NORM not in outside and any(_is_before(layer, BEFORE_ATTENTION) for layer in networks[0].blocks):
        yield audit.target, "the blocks begin with norms, and there is none behind the last of them"


def _is_language_model(config: Settings) -> bool:
    classes = config.get("architectures")
    return isinstance(classes, list) and any(str(name).endswith(LANGUAGE_MODEL) for name in classes)


def _is_before(layer: LayerAudit, what: str) -> bool:
    return layer.role is Role.NORM and slot_of(layer.name, layer.role, inside=True).kinds == (what,)
