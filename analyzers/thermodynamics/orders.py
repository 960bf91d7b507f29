"""Tensors -> the orders in which a training program may have handed them to its optimizer.

Most optimizer files number their parameters in the order in which the modules of the network were made. Checkpoints are
sorted by name, so that order has to be guessed: it is the same from block to block, and few are in use.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import permutations, product

from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.names import parsed
from jaynes_audit.analyzers.roles.role import CROSS_ATTENTION, ENDS
from jaynes_audit.analyzers.roles.slots import (
    AFTER_ATTENTION,
    AFTER_CROSS_ATTENTION,
    AFTER_MLP,
    BEFORE_ATTENTION,
    BEFORE_CROSS_ATTENTION,
    BEFORE_MLP,
    EMBEDDINGS,
    KEYS,
    ONLY,
    QUERIES,
    Slot,
    slot_of,
)
from jaynes_audit.analyzers.thermodynamics.architectures import SELF_ATTENTION
from jaynes_audit.analyzers.thermodynamics.chains import natural

Order = tuple[str, ...]


class Norms(Enum):
    """Where the norms of a block are made: beside what they belong to, or all together."""

    BEFORE = auto()
    BEHIND = auto()
    FIRST = auto()
    BETWEEN = auto()
    LAST = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Habit:
    """The order in which a program makes the modules of a block, as far as programs differ."""

    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    norms: Norms
    final_norm_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    """What owns a weight and its bias, or two factors of an adapter: where it stands in the network.

    `name` sorts by its numbers. `is_bare` tells of a tensor without a module of its own, which comes before the modules
    beside it.
    """

    role: Role
    slot: Slot
    stack: str
    depth: int | None
    name: list[tuple[str, int]]
    follows_attention: bool
    is_bare: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameter:
    """A tensor of the checkpoint that may have been trained; `place` is its place in its module."""

    name: str
    module: _Module
    place: int
    is_norm_or_bias: bool
    is_vector: bool
    is_embedding: bool


# Nearly all make queries, keys and values in one of these orders, and the output behind them or before.
ATTENTION = tuple(order for inner in permutations("qkv") for order in ((*inner, "o"), ("o", *inner)))
FEED_FORWARD = (("gate", "up", "down"), ("up", "gate", "down"), ("gate", "down", "up"), ("up", "down", "gate"))
LETTERS: Mapping[Role, str] = {
    Role.ATTENTION_Q: "q",
    Role.ATTENTION_K: "k",
    Role.ATTENTION_V: "v",
    Role.ATTENTION_O: "o",
    Role.ATTENTION_QKV: "q",
    Role.MLP_GATE: "gate",
    Role.MLP_UP: "up",
    Role.MLP_DOWN: "down",
    Role.MLP_GATE_UP: "gate",
    Role.EXPERT_GATE: "gate",
    Role.EXPERT_UP: "up",
    Role.EXPERT_DOWN: "down",
    Role.EXPERT_GATE_UP: "gate",
}
WITHIN = {across: within for within, across in CROSS_ATTENTION.items()}

# The sublayers of a block, and what stands beside them.
AT_ATTENTION, AT_CROSS_ATTENTION, AT_MLP, ELSEWHERE = 0.0, 1.0, 2.0, 3.0
BEFORE, BEHIND = -0.25, 0.25
FAR = 10.0
READ_OUT = "read-out"
SIDES = {
    BEFORE_ATTENTION: (AT_ATTENTION, BEFORE),
    AFTER_ATTENTION: (AT_ATTENTION, BEHIND),
    BEFORE_CROSS_ATTENTION: (AT_CROSS_ATTENTION, BEFORE),
    AFTER_CROSS_ATTENTION: (AT_CROSS_ATTENTION, BEHIND),
    BEFORE_MLP: (AT_MLP, BEFORE),
    AFTER_MLP: (AT_MLP, BEHIND),
}
# Named for what it follows, it is made before any that is named for the MLP.
FOLLOWS_ATTENTION = "post_attention_layernorm"

STACKS = {"": 1, "encoder": 1, "decoder": 2}
LAST_STACK = 3
# A stack from its entry to its exit.
ENTRY, BLOCKS, LAST_NORM, EXIT = range(4)
FACTORS = {Role.LORA_A: 0, Role.LORA_B: 1}
LEAVES = frozenset({"weight", "gamma", "kernel", "bias", "beta"})
OFFSETS = ("bias", "beta")
TWO_GROUPS = 2
# What is not to decay, as trainers have it.
EXEMPT: tuple[Callable[[_Parameter], bool], ...] = (
    lambda each: each.is_norm_or_bias,
    lambda each: each.is_vector,
    lambda each: each.is_vector or each.is_embedding,
)


def orders(layers: Sequence[Layer], sizes: Sequence[int]) -> Iterator[tuple[Order, ...]]:
    """Give the names of all trainable tensors in the orders that are in use, in groups of these sizes.

    Some come more than once. Of two groups one has weight decay; to the other belong biases and gains, or all vectors,
    or those and the embeddings. Of more groups nothing is known, and nothing is given.
    """
    parameters = _parameters(layers)
    habits = _habits(parameters)
    for split in _splits(parameters, len(sizes)):
        if [len(group) for group in split] != list(sizes):
            continue
        yield tuple(tuple(each.name for each in group) for group in split)  # as they are stored
        for habit in habits:
            yield tuple(
                tuple(each.name for each in sorted(group, key=lambda each: _key(each, habit))) for group in split
            )


def _habits(parameters: Sequence[_Parameter]) -> list[_Habit]:
    """The habits that differ in what there is."""
    letters = {LETTERS.get(WITHIN.get(each.module.role, each.module.role), "") for each in parameters}
    attention, mlp = (
        dict.fromkeys(tuple(letter for letter in order if letter in letters) for order in all_orders)
        for all_orders in (ATTENTION, FEED_FORWARD)
    )
    return [
        _Habit(attention=of_attention, mlp=of_mlp, norms=norms, final_norm_first=final_norm_first)
        for of_attention, of_mlp, norms, final_norm_first in product(attention, mlp, Norms, (False, True))
    ]


def _splits(parameters: Sequence[_Parameter], groups: int) -> Iterator[tuple[list[_Parameter], ...]]:
    if groups == 1:
        yield (list(parameters),)
    if groups != TWO_GROUPS:
        return
    for is_exempt in EXEMPT:
        decayed = [each for each in parameters if not is_exempt(each)]
        others = [each for each in parameters if is_exempt(each)]
        yield decayed, others
        yield others, decayed


def _parameters(layers: Sequence[Layer]) -> list[_Parameter]:
    firsts: dict[str, Layer] = {}
    for layer in layers:
        if layer.part.role is not Role.BUFFER:
            firsts.setdefault(layer.tensor.name, layer)
    has_adapters = any(layer.part.role in FACTORS for layer in firsts.values())
    trained = {name: layer for name, layer in firsts.items() if not has_adapters or layer.part.role in FACTORS}
    modules: dict[str, _Module] = {}
    for name, layer in trained.items():
        if not name.endswith(OFFSETS):
            modules.setdefault(_module_of(name), _module(layer))
    return [
        _Parameter(
            name=name,
            module=modules.get(_module_of(name)) or _module(layer),
            place=FACTORS.get(layer.part.role, int(name.endswith(OFFSETS))),
            # Trainers tell biases by their names, those of relative positions among them.
            is_norm_or_bias=layer.part.role in {Role.NORM, Role.BIAS} or "bias" in name,
            is_vector=len(layer.tensor.shape) < 2,  # noqa: PLR2004 - the axes of a matrix
            is_embedding=layer.part.role is Role.EMBEDDING,
        )
        for name, layer in trained.items()
    ]


def _module_of(name: str) -> str:
    if ".lora_" in name:
        return name.partition(".lora_")[0]
    module, _, leaf = name.rpartition(".")
    if leaf.startswith("in_proj_"):
        return f"{module}.in_proj"
    return module if leaf in LEAVES else name


def _module(layer: Layer) -> _Module:
    name, role = _module_of(layer.tensor.name), layer.part.role
    if role in FACTORS:
        role = parsed(f"{name}.weight")[0].role
    inside = layer.part.depth is not None
    return _Module(
        role=role,
        slot=slot_of(layer.name, role, inside=inside),
        stack=layer.part.stack,
        depth=layer.part.depth,
        name=natural(name),
        follows_attention=name.endswith(FOLLOWS_ATTENTION),
        is_bare=name == layer.tensor.name or role is Role.BIAS,
    )


Key = tuple[int, int, int, tuple[float, ...], list[tuple[str, int]], int]


def _key(parameter: _Parameter, habit: _Habit) -> Key:
    module = parameter.module
    part = _part_of_stack(module, habit)
    stack = STACKS.get(module.stack, LAST_STACK)
    if not module.stack and part in {ENTRY, EXIT}:
        stack = 0 if part == ENTRY else LAST_STACK  # encoder and decoder stand between them
    within = _place_outside(module) if module.depth is None else _place_in_block(module, habit)
    return stack, part, module.depth or 0, within, module.name, parameter.place


def _part_of_stack(module: _Module, habit: _Habit) -> int:
    if module.depth is not None:
        return BLOCKS
    if module.role is Role.NORM and READ_OUT not in module.slot.kinds:
        return ENTRY if habit.final_norm_first or EMBEDDINGS in module.slot.kinds else LAST_NORM
    return ENTRY if module.role in ENDS - {Role.HEAD, Role.POOLER} else EXIT


def _place_outside(module: _Module) -> tuple[float, ...]:
    """Words come before positions, both before the types of words and the patches of images, norms behind."""
    order = (Role.EMBEDDING, Role.POSITION_EMBEDDING, Role.PATCH_EMBEDDING, Role.HEAD)
    role = module.role
    if role is Role.EMBEDDING and module.slot.kinds != ONLY and not module.is_bare:
        role = Role.PATCH_EMBEDDING
    return float(not module.is_bare), float(order.index(role) if role in order else len(order))


def _place_in_block(module: _Module, habit: _Habit) -> tuple[float, ...]:
    role = WITHIN.get(module.role, module.role)
    sublayer = AT_ATTENTION if role is module.role else AT_CROSS_ATTENTION
    if role is Role.NORM:
        return _place_of_norm(module, habit)
    if role in SELF_ATTENTION or role is Role.ATTENTION_O:
        return sublayer, 0.0, float(habit.attention.index(LETTERS[role]))
    if role is Role.POSITION_EMBEDDING:
        return sublayer, 1.0
    if role is Role.ROUTER:
        return AT_MLP, 3.0 if "shared" in module.slot.kinds else 0.0
    if role in LETTERS:
        at = float(habit.mlp.index(LETTERS[role]))
        is_expert = role not in {Role.MLP_GATE, Role.MLP_UP, Role.MLP_DOWN, Role.MLP_GATE_UP}
        return (AT_MLP, 1.0, float(module.slot.member), at) if is_expert else (AT_MLP, 2.0, 0.0, at)
    return (ELSEWHERE,)


def _place_of_norm(module: _Module, habit: _Habit) -> tuple[float, ...]:
    kind = module.slot.kinds[0]
    if kind in {QUERIES, KEYS}:
        return AT_ATTENTION, 2.0, float(kind == KEYS)
    sublayer, side = SIDES.get(kind, (ELSEWHERE, 0.0))
    if module.follows_attention:
        sublayer, side = AT_ATTENTION, BEHIND
    own = sublayer + side
    match habit.norms:
        case Norms.BEFORE:
            return (own,)
        case Norms.BEHIND:
            return (sublayer + BEHIND,)
        case Norms.FIRST:
            return -FAR, own
        case Norms.BETWEEN:
            return AT_ATTENTION + BEHIND, own
        case Norms.LAST:
            return FAR, own
