"""Tensor name, shape and config.json -> the weight matrices that the tensor holds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from jaynes_audit.analyzers.roles.names import Leaf, Meaning, parsed
from jaynes_audit.analyzers.roles.role import CROSS_ATTENTION, ENDS, EXPERT, GAINS_AND_BUFFERS, LOOKED_UP, Role
from jaynes_audit.analyzers.roles.settings import Settings, settings_of, whole, word
from jaynes_audit.analyzers.roles.splits import SPLIT_ENDS, shares_of
from jaynes_audit.analyzers.roles.stripes import Stripes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One weight matrix, norm gain, bias or buffer: a whole tensor, or its share of a fused one.

    `suffix` tells the parts of one tensor apart ("q", "experts.3.up") and is empty for a whole tensor. `depth` is the
    index of the block in its `stack` ("", "encoder", "decoder", "vision"), or None for what stands outside the stack;
    where blocks are counted anew in every stage it is 100 * stage + block, which orders them and no more.
    `rows` and `columns` cut the part out of the tensor's two-dimensional view, see Layout.
    `fan_in` and `fan_out` are connections into an output and out of an input; 0 for what is no weight matrix.
    An embedding's inputs are its entries. The fan-out of a convolution in groups counts as if it had none, unless
    it is depthwise: the number of groups is not stored. One by Keras or Flax is depthwise if its name says so.
    `outputs_first` tells which axis of the view holds the outputs: rows (True) or columns (False).
    """

    suffix: str
    role: Role
    stack: str
    depth: int | None
    fan_in: int
    fan_out: int
    outputs_first: bool
    rows: Stripes
    columns: Stripes


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A tensor seen as `rows x columns` in C order, and the parts it is made of: each element is in exactly one."""

    rows: int
    columns: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the network a tensor stands: see Part."""

    stack: str
    depth: int | None


MATRIX = 2  # axes

# These store a linear layer as (inputs, outputs), the way of transformers' Conv1D. The words are used by others too.
CONV1D_MODEL_TYPES = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
CONV1D_WIDENS = frozenset({"c_attn", "crossattention.c_attn", "c_fc"})
CONV1D_ENDS = CONV1D_WIDENS | {"q_attn", "attn.c_proj", "crossattention.c_proj", "mlp.c_proj"}

# Stacks of experts are (experts, outputs, inputs), but for these, which are (experts, inputs, outputs). The hidden
# size tells which axis is which; the families decide only where both axes have it.
EXPERTS_INPUTS_FIRST = frozenset({"gpt_oss", "llama4", "llama4_text"})
EXPERTS_INTERLEAVED = frozenset({"gpt_oss"})  # gate, up, gate, up ... rather than all gates and then all ups
EXPERTS_IN_MXFP4 = frozenset({"gate_up_proj_blocks", "down_proj_blocks"})  # gpt-oss turns the axes to pack the inputs
MOST_EXPERTS = 4096  # several times what any published model has; a header that claims more is not believed
STACKED = frozenset(EXPERT.values())

# Stored inputs first, but for the layers of Flax's GPT-2 with the words of Conv1D: those are (outputs, inputs).
KERNELS = frozenset({Leaf.KERNEL, Leaf.DEPTHWISE_KERNEL})

# The kernels of attention may keep the heads apart: (inputs, heads, head) in these, (heads, head, outputs) in those.
APART = 3  # axes
TO_HEADS = frozenset({Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V}) | frozenset(
    {Role.CROSS_ATTENTION_Q, Role.CROSS_ATTENTION_K, Role.CROSS_ATTENTION_V}
)
FROM_HEADS = frozenset({Role.ATTENTION_O, Role.CROSS_ATTENTION_O})

# llama.cpp's stacks that lead from DeepSeek's latent to the heads: (heads, latent, key) and (heads, value, latent).
KEYS_OF_LATENT, VALUES_OF_LATENT = "attn_k_b", "attn_v_b"

# The first convolution of wav2vec 2.0 hears one channel; elsewhere, one input channel means depthwise.
ONE_CHANNEL = frozenset({"conv_layers.#.conv"})

# GPT-2 and GPT-NeoX once saved their causal mask under these names, which on one axis are those of a bias.
CAUSAL_MASKS = frozenset({"attn.bias", "attention.bias"})

# Here `attn2` is a second self-attention beside the joint one, not cross-attention.
SELF_ATTENTION_TWICE = frozenset({"SD3Transformer2DModel"})
SELF_ATTENTION = {across: within for within, across in CROSS_ATTENTION.items()}


def layout_of(name: str, shape: tuple[int, ...], config: Mapping[str, object]) -> Layout:
    """Say what a tensor is, from its name, its shape and the model's config.json.

    Any name, shape and settings get an answer. A fused tensor is taken apart only where its layout is certain; it
    stays whole, under its fused role, where the settings needed are missing or contradict its shape. A name that a
    converter made up (`onnx::MatMul_123`, TensorFlow Lite's `arith.constant1`) says nothing: OTHER, outputs first.
    """
    meaning, integers = parsed(name)
    stack = _stack(meaning, config)
    depth = meaning.steps.taken(integers) if meaning.steps else None
    role = _role(meaning, shape)
    if role in SELF_ATTENTION and word(config, "_class_name") in SELF_ATTENTION_TWICE:
        role = SELF_ATTENTION[role]
    place, is_kernel = Place(stack, depth), meaning.leaf in KERNELS and role not in GAINS_AND_BUFFERS
    parts: list[Part] = []
    if len(shape) == MATRIX and (meaning.end in SPLIT_ENDS or meaning.end in CONV1D_ENDS or is_kernel):
        parts = _matrix(meaning, role, shape, place, settings_of(config, stack))
    elif len(shape) > MATRIX and role in STACKED:
        parts = _experts(meaning.end, role, shape, place, settings_of(config, stack))
    elif len(shape) > MATRIX and is_kernel:
        return _kernel(meaning.leaf, role, shape, place)
    elif len(shape) == APART and meaning.end in {KEYS_OF_LATENT, VALUES_OF_LATENT}:
        return _out_of_latent(meaning.end, role, shape, place)
    if not parts:
        return _whole(role, stack, depth, shape, one_channel=meaning.end in ONE_CHANNEL)
    row_axes = 1 if len(shape) == MATRIX else 2
    return Layout(rows=prod(shape[:row_axes]), columns=prod(shape[row_axes:]), parts=tuple(parts))


def _stack(meaning: Meaning, config: Mapping[str, object]) -> str:
    """A network within the network has its name; encoder and decoder have theirs where there are both.

    BERT's `encoder` and OPT's `decoder` are the only stack. Settings that do not say leave the word as it stands.
    """
    if meaning.tower or not meaning.half:
        return meaning.tower
    return meaning.half if config.get("is_encoder_decoder", "model_type" not in config) is True else ""


def _role(meaning: Meaning, shape: tuple[int, ...]) -> Role:
    """The role that the name tells, as far as the number of axes bears it out."""
    role, axes, is_hint = meaning.role, len(shape), not meaning.end
    if axes >= MATRIX and meaning.leaf is Leaf.KERNEL:
        role = _role_of_kernel(meaning, axes)
    if axes < MATRIX and meaning.leaf is Leaf.WEIGHT and role in {Role.OTHER, Role.CONV}:
        return Role.NORM  # torch has no linear layer of one axis: what it calls a weight there is a gain
    if axes < MATRIX and (meaning.end in CAUSAL_MASKS or meaning.leaf in KERNELS):
        return Role.BIAS  # a kernel of one axis is a variable of Keras's without a name
    if axes < MATRIX and role not in GAINS_AND_BUFFERS | ENDS:
        return Role.OTHER
    if axes == MATRIX and is_hint and role is Role.CONV:
        return Role.OTHER
    if axes > MATRIX + 1 and is_hint and role is Role.OTHER and meaning.leaf is not Leaf.PARAMETER:
        return Role.CONV
    return role


def _role_of_kernel(meaning: Meaning, axes: int) -> Role:
    """The role of a kernel whose name means something else for other parameters."""
    if meaning.role in LOOKED_UP:  # Google's vision transformers call what cuts the patches `embedding`
        return Role.PATCH_EMBEDDING if axes > MATRIX else Role.PROJECTION
    if meaning.end == "output_dense" and axes == APART:  # on two axes it is of wav2vec 2.0's feed-forward network
        return Role.ATTENTION_O
    return meaning.role


@lru_cache(maxsize=4096)
def _whole(role: Role, stack: str, depth: int | None, shape: tuple[int, ...], *, one_channel: bool) -> Layout:
    """A tensor that is one part: the same for every expert of a layer, hence the cache."""
    place = Place(stack, depth)
    outputs_first = role not in LOOKED_UP
    if len(shape) < MATRIX:
        rows, columns = 1, prod(shape)
    elif outputs_first:
        rows, columns = shape[0], prod(shape[1:])
    else:
        rows, columns = prod(shape[:-1]), shape[-1]
    part = _part("", role, place, Stripes.span(0, rows), Stripes.span(0, columns), outputs_first=outputs_first)
    if role in GAINS_AND_BUFFERS or len(shape) < MATRIX or (role is Role.OTHER and prod(shape) == max(shape)):
        part = replace(part, fan_in=0, fan_out=0)
    elif len(shape) > MATRIX and outputs_first:
        taps = prod(shape[2:])
        is_depthwise = shape[1] == 1 and not one_channel and role is not Role.PATCH_EMBEDDING
        part = replace(part, fan_out=taps if is_depthwise else rows * taps)
    return Layout(rows=rows, columns=columns, parts=(part,))


def _part(suffix: str, role: Role, place: Place, rows: Stripes, columns: Stripes, *, outputs_first: bool) -> Part:
    """A matrix: its inputs lie along one axis, its outputs along the other."""
    inputs, outputs = (columns, rows) if outputs_first else (rows, columns)
    return Part(
        suffix=suffix,
        role=role,
        stack=place.stack,
        depth=place.depth,
        fan_in=inputs.size,
        fan_out=outputs.size,
        outputs_first=outputs_first,
        rows=rows,
        columns=columns,
    )


def _kernel(leaf: Leaf, role: Role, shape: tuple[int, ...], place: Place) -> Layout:
    """A kernel of more than two axes: a convolution, or a projection to or from heads that are kept apart."""
    is_to_heads = len(shape) == APART and role in TO_HEADS
    is_from_heads = len(shape) == APART and role in FROM_HEADS
    input_axes = 1 if is_to_heads else len(shape) - (2 if leaf is Leaf.DEPTHWISE_KERNEL else 1)
    rows, columns = prod(shape[:input_axes]), prod(shape[input_axes:])
    part = _part("", role, place, Stripes.span(0, rows), Stripes.span(0, columns), outputs_first=False)
    if not (is_to_heads or is_from_heads):
        taps = prod(shape[:-2])
        is_flax_depthwise = leaf is Leaf.DEPTHWISE_KERNEL and shape[-2] == 1  # (height, width, 1, outputs)
        part = replace(part, fan_out=taps if is_flax_depthwise else taps * shape[-1])
    return Layout(rows=rows, columns=columns, parts=(part,))


def _out_of_latent(end: str, role: Role, shape: tuple[int, ...], place: Place) -> Layout:
    """Every head's keys or values of a latent, as one matrix that widens it."""
    heads, height, width = shape
    rows, outputs_first = heads * height, end == VALUES_OF_LATENT
    part = _part("", role, place, Stripes.span(0, rows), Stripes.span(0, width), outputs_first=outputs_first)
    if not outputs_first:
        part = replace(part, fan_in=height, fan_out=heads * width)
    return Layout(rows=rows, columns=width, parts=(part,))


def _matrix(meaning: Meaning, role: Role, shape: tuple[int, ...], place: Place, settings: Settings) -> list[Part]:
    """The parts of a fused matrix, or the one part of a layer that is stored inputs first; none for any other."""
    rows, columns = (Stripes.span(0, size) for size in shape)
    end, is_kernel = meaning.end, meaning.leaf in KERNELS
    if end == "proj_out" and not is_kernel:
        return _attention_beside_mlp(shape, place)
    turned = end in CONV1D_ENDS and _is_turned(end, shape[::-1] if is_kernel else shape, settings)
    inputs_first = turned is not is_kernel
    inputs, outputs = shape if inputs_first else reversed(shape)
    shares = shares_of(end, outputs, inputs, settings)
    if not shares:
        return [_part("", role, place, rows, columns, outputs_first=False)] if inputs_first else []
    return [
        _part(share.suffix, _in_context(share.role, role), place, rows, share.outputs, outputs_first=False)
        if inputs_first
        else _part(share.suffix, _in_context(share.role, role), place, share.outputs, columns, outputs_first=True)
        for share in shares
    ]


def _in_context(role: Role, fused: Role) -> Role:
    """The role of a part of a fused tensor that belongs to cross-attention or to an expert."""
    if fused is Role.CROSS_ATTENTION_QKV:
        return CROSS_ATTENTION.get(role, role)
    return EXPERT.get(role, role) if fused in STACKED else role


def _is_turned(end: str, shape: tuple[int, ...], settings: Settings) -> bool:
    """Whether a layer with this name is stored the other way round than its format's others.

    By its shape, (inputs, outputs) if so, where the settings do not say.
    """
    if model_type := word(settings, "model_type"):
        return model_type in CONV1D_MODEL_TYPES and not _is_turned_back(end, shape, settings)
    return shape[0] < shape[1] if end in CONV1D_WIDENS else end == "mlp.c_proj" and shape[0] > shape[1]


def _is_turned_back(end: str, shape: tuple[int, ...], settings: Settings) -> bool:
    """Whether a Conv1D is (outputs, inputs) after all: quantisers such as GPTQ make linear layers of them."""
    hidden = whole(settings, "n_embd", "hidden_size")
    inputs, outputs = shape[::-1]
    return inputs != outputs and hidden == (inputs if end in CONV1D_WIDENS else outputs)


def _attention_beside_mlp(shape: tuple[int, ...], place: Place) -> list[Part]:
    """The last layer of a single-stream Flux block, whose input is the attention's output beside the hidden layer."""
    outputs, inputs = shape
    if place.stack != "single" or inputs != 5 * outputs:  # the hidden layer of every Flux is four times as wide
        return []
    rows = Stripes.span(0, outputs)
    return [
        _part("o", Role.ATTENTION_O, place, rows, Stripes.span(0, outputs), outputs_first=True),
        _part("down", Role.MLP_DOWN, place, rows, Stripes.span(outputs, inputs), outputs_first=True),
    ]


def _experts(end: str, role: Role, shape: tuple[int, ...], place: Place, settings: Settings) -> list[Part]:
    """Every expert of a stack by itself, its gate apart from its up projection; none if the axes are not certain."""
    experts, height, width = shape[0], shape[1], prod(shape[2:])
    model_type, hidden = word(settings, "model_type"), whole(settings, "hidden_size")
    if not model_type or experts > MOST_EXPERTS or hidden not in {height, width} or 0 in shape:
        return []
    is_down = role is Role.EXPERT_DOWN
    inputs_first = model_type in EXPERTS_INPUTS_FIRST if height == width else (height == hidden) is not is_down
    if end in EXPERTS_IN_MXFP4:
        inputs_first = False
    outputs = width if inputs_first else height
    if role is not Role.EXPERT_GATE_UP:
        cuts = [(role, Stripes.span(0, outputs))]
    elif outputs % 2:
        return []
    else:
        run, period = (1, 2) if model_type in EXPERTS_INTERLEAVED else (outputs // 2, outputs)
        gate, up = (Stripes(start=0, stop=outputs, period=period, first=at, count=run) for at in (0, run))
        cuts = [(Role.EXPERT_GATE, gate), (Role.EXPERT_UP, up)]
    parts = []
    for expert, top in enumerate(range(0, experts * height, height)):
        for part_role, cut in cuts:
            rows = Stripes.span(top, top + height) if inputs_first else cut.shifted(top)
            columns = cut if inputs_first else Stripes.span(0, width)
            suffix = f"experts.{expert}.{part_role.removeprefix('expert.')}"
            parts.append(_part(suffix, part_role, place, rows, columns, outputs_first=not inputs_first))
    return parts
