"""A rule about blocks that differ from all others of their stack: what a lost, renamed or turned tensor looks like."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.depth import BLOCKS
from jaynes_audit.analyzers.roles.slots import EMBEDDINGS, ONLY, slot_of
from jaynes_audit.analyzers.rules.blocks import Blocks, place_of, stacks_of
from jaynes_audit.analyzers.rules.rule import Level, Precision, model_rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds
from jaynes_audit.analyzers.rules.values import FP8

LEAST_BLOCKS = 4  # one, and three that agree
MOST_NAMED = 3

# Stored in some blocks only where a quantiser spared the others.
OF_A_QUANTISER = re.compile(r"scale|zero_point|zeros|g_idx|absmax|quant|packed", re.IGNORECASE)
LISTS_OF_BLOCKS = (BLOCKS | {"blk"}) - {"features", "conv_layers"}  # a sequence may have numbers without weights

# Every block has all of these that its neighbours have, the first and the last as well.
CORE = frozenset({Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V, Role.ATTENTION_O, Role.ATTENTION_QKV}) | (
    frozenset({Role.CROSS_ATTENTION_Q, Role.CROSS_ATTENTION_K, Role.CROSS_ATTENTION_V, Role.CROSS_ATTENTION_O})
    | frozenset({Role.MLP_GATE, Role.MLP_UP, Role.MLP_DOWN, Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN})
    | frozenset({Role.SSM_IN, Role.SSM_X, Role.SSM_Z, Role.SSM_B, Role.SSM_C, Role.SSM_DT, Role.SSM_DT_A})
    | frozenset({Role.SSM_DT_B, Role.SSM_CONV, Role.SSM_OUT, Role.SSM_A_LOG, Role.SSM_D})
)

NAMELESS = frozenset({Role.OTHER, Role.CONV})  # what a tensor is called by its shape, if its name says nothing

WITH_SCALES = "FP8"  # in the label of what has them: FP8, FP8-128x128, MXFP8

NUMBERED = re.compile(r"\.[0-9]+(?=\.)")

Shapes = tuple[tuple[int, int], ...]
"""Rows and columns of every part of a tensor; empty where they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A tensor of a block: its name, its shape, what it does, and whether all blocks of its kind must have one.

    `dtype` is what it is stored in, with the label of its quantiser where there is one; empty where it is not known.
    """

    name: str
    shapes: Shapes
    role: Role
    is_core: bool
    dtype: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A block that is unlike the others: what it lacks that all of them have, and what it alone has.

    `elsewhere` is another block, `common` is what all blocks have. `is_certain` where three others or more agree, and
    the block has one on either side: a network may begin and end with blocks of another kind. `follows_a_norm` of the
    first block behind an embedding with a norm of its own.
    """

    number: int
    block: Mapping[str, Member]
    elsewhere: Mapping[str, Member]
    common: frozenset[str]
    missing: Sequence[str]
    extra: Sequence[str]
    is_certain: bool
    is_one_of_few: bool
    follows_a_norm: bool
    in_a_stage: bool


@model_rule("JN207", "irregular-block", Level.WARNING, precision=Precision.HIGH)
def irregular_block(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """One block of a stack lacks a tensor that all others have, has it under another name, or has it turned round.

    Or it has FP8 weights without a scale where most blocks have scales.

    Said where all other blocks agree. A block that has something else in place of what it lacks is of another kind,
    which many networks mix; nothing is said of those. Of the first and the last block, and where there are fewer than
    four, only what no design leaves out or adds is told.

    Why it matters: loaders fill a missing tensor with random weights and pass over one with an unknown name.
    What to do: look at the step that renamed, sharded or transposed the tensors, and export again.
    Example: model.layers.3.mlp.up_proj.weight: is missing, though the 31 other blocks of 'model.layers' have it
    """
    begins_with_norm = any(layer.role is Role.NORM and _is_of_embeddings(layer.name) for layer in audit)
    for stack, blocks in stacks_of(_members(audit)).items():
        yield from _irregular(stack, blocks, begins_with_norm=begins_with_norm)
        if len(blocks) >= LEAST_BLOCKS:
            yield from _turned(stack, blocks)
        yield from _unscaled(stack, blocks)


def _is_of_embeddings(norm: str) -> bool:
    return place_of(norm) is None and EMBEDDINGS in slot_of(norm, Role.NORM, inside=False).kinds


def _members(audit: Audit) -> Iterator[tuple[str, Member]]:
    by_tensor: defaultdict[str, list[LayerAudit]] = defaultdict(list)
    for layer in audit:
        by_tensor[layer.tensor].append(layer)
    for name, parts in by_tensor.items():
        is_core = all(part.role in CORE and slot_of(part.name, part.role, inside=True).kinds == ONLY for part in parts)
        shapes = tuple((part.rows, part.columns) for part in parts)
        yield (
            name,
            Member(name=name, shapes=shapes, role=parts[0].role, is_core=is_core, dtype=parts[0].dtype),
        )
    for name in [*(each.name.partition("[")[0] for each in audit.left_out), *audit.aliases]:
        if name not in by_tensor:
            yield name, Member(name=name, shapes=(), role=Role.OTHER, is_core=False)


def _irregular(stack: str, blocks: Blocks[Member], *, begins_with_norm: bool) -> Iterator[tuple[str, str]]:
    """Blocks with too few or too many names, and blocks that are not there."""
    holders = Counter(member for block in blocks.values() for member in block)
    common = [member for member, number in holders.items() if number == len(blocks)]
    others = _others(len(blocks) - 1, stack)
    for odd in _odd_blocks(stack, blocks, holders, begins_with_norm=begins_with_norm):
        if odd.missing and odd.extra and _is_renaming(odd):
            new = next(name for name in odd.extra if _is_new(odd.block[name]))
            told = f"stands in block {odd.number:,} in place of {_named(odd.missing)}, which the {others} have"
            yield odd.block[new].name, told
        elif odd.missing and _is_lost(odd):
            more = f", and so are {_named(odd.missing[1:])}" if odd.missing[1:] else ""
            yield f"{stack}.{odd.number}.{odd.missing[0]}", f"is missing{more}, though the {others} have it"
        elif not odd.missing and (added := _added(odd)):
            more = f", nor {_named(added[1:])}" if added[1:] else ""
            yield odd.block[added[0]].name, f"none of the {others} has such a tensor{more}"
    if len(blocks) >= LEAST_BLOCKS and len(common) == len(holders):
        yield from _gap(stack, blocks, common)


def _odd_blocks(
    stack: str, blocks: Blocks[Member], holders: Mapping[str, int], *, begins_with_norm: bool
) -> Iterator[Odd]:
    alone, ends = len(blocks) - 1, {min(blocks), max(blocks)}
    counted = {member: number for member, number in holders.items() if not OF_A_QUANTISER.search(member)}
    usual = {member for member, number in counted.items() if alone and number == alone}
    common = frozenset(member for member, number in holders.items() if number == len(blocks))
    for number, block in blocks.items():
        missing = sorted(usual - block.keys())
        extra = sorted(member for member in block if counted.get(member) == 1 and alone)
        if missing or extra:
            yield Odd(
                number=number,
                block=block,
                elsewhere=next(each for other, each in blocks.items() if other != number),
                common=common,
                missing=missing,
                extra=extra,
                is_certain=len(blocks) >= LEAST_BLOCKS and number not in ends,
                is_one_of_few=len(blocks) < LEAST_BLOCKS,
                follows_a_norm=begins_with_norm and number == min(ends),
                in_a_stage=NUMBERED.search(stack) is not None,
            )


def _is_renaming(odd: Odd) -> bool:
    """Whether as much stands under other names: a vector, or matrices under names that say nothing."""
    old = [odd.elsewhere[name] for name in odd.missing]
    new = [odd.block[name] for name in odd.extra if _is_new(odd.block[name])]
    known = all(each.role is not Role.OTHER for each in old if not _is_vector(each))
    return known and all(each.shapes for each in old) and sorted(map(_weights, old)) == sorted(map(_weights, new))


def _is_new(member: Member) -> bool:
    return _is_nameless(member) or (bool(member.shapes) and _is_vector(member))


def _is_nameless(member: Member) -> bool:
    return bool(member.shapes) and member.role in NAMELESS


def _is_vector(member: Member) -> bool:
    return all(rows == 1 for rows, _ in member.shapes)


def _weights(member: Member) -> int:
    return sum(rows * columns for rows, columns in member.shapes)


def _is_lost(odd: Odd) -> bool:
    """Whether no design lacks this: a network begins and ends with odd blocks, and stages may leave out modules."""
    if odd.is_certain and not odd.extra:
        return not odd.in_a_stage or all(_has_company(name, odd.block) for name in odd.missing)
    borrows = {odd.elsewhere[name].role for name in odd.missing} >= {Role.ATTENTION_K, Role.ATTENTION_V}
    if borrows or (odd.is_one_of_few and len(odd.missing) > 1):  # the keys and values of the block before
        return False
    instead = {_part(name) for name in odd.extra}
    return all(_part(name) not in instead and _is_needed(name, odd) for name in odd.missing)


def _is_needed(name: str, odd: Odd) -> bool:
    """Whether what is left asks for it: the other weights of its module, of its attention, its MLP, or other norms."""
    lost = odd.elsewhere[name]
    if lost.is_core:
        return any(other.is_core and _function(other) == _function(lost) for other in odd.block.values())
    if _module(name) in {_module(other) for other in odd.common}:
        return "." in name and bool(lost.shapes) and not _is_nameless(lost)
    norms = [member for member, other in odd.block.items() if other.role is Role.NORM and member in odd.common]
    return lost.role is Role.NORM and bool(norms) and not odd.follows_a_norm


def _function(member: Member) -> str:
    return member.role.partition(".")[0]


def _added(odd: Odd) -> Sequence[str]:
    """What stands in a module that all blocks have; at the ends, as one more of its weights, of an unknown name."""
    if odd.is_certain:
        return odd.extra if all(_has_company(name, odd.common) for name in odd.extra) else ()
    modules = {_module(name) for name in odd.common}
    return [name for name in odd.extra if _module(name) in modules and _is_nameless(odd.block[name])]


def _module(member: str) -> str:
    return member.rpartition(".")[0]


def _has_company(member: str, others: Iterable[str]) -> bool:
    """Whether others stand in the same part of the block."""
    part = _part(member)
    return part != member and any(_part(other) == part for other in others)


def _part(member: str) -> str:
    """The first word of a name within a block; of parts that are numbered, up to the number."""
    words = member.split(".")
    numbers = [at for at, word in enumerate(words) if word.isdecimal()]
    return ".".join(words[: numbers[-1] + 1 if numbers else 1])


def _gap(stack: str, blocks: Blocks[Member], members: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A run of numbers that is left out of a list of blocks that are all alike."""
    numbers = list(blocks)
    gaps = [(before, after) for before, after in pairwise(numbers) if after > before + 1]
    is_list = stack.rpartition(".")[2].lower() in LISTS_OF_BLOCKS and sum("." in member for member in members) > 1
    if len(gaps) != 1 or numbers[0] or not is_list or any("lora" in member.lower() for member in members):
        return
    [(before, after)] = gaps
    lost = f"block {before + 1:,} is" if after == before + 2 else f"blocks {before + 1:,} to {after - 1:,} are"
    yield f"{stack}.{before + 1}.{min(members)}", f"{lost} missing from {quoted(stack)}, between others that are alike"


def _turned(stack: str, blocks: Blocks[Member]) -> Iterator[tuple[str, str]]:
    """Tensors of another shape than in all other blocks, where no design has such a one."""
    ends = {min(blocks), max(blocks)}
    shapes: defaultdict[str, dict[int, Shapes]] = defaultdict(dict)
    for number, block in blocks.items():
        for member, each in block.items():
            if each.shapes:
                shapes[member][number] = each.shapes
    for member, of_blocks in shapes.items():
        kinds = Counter(of_blocks.values())
        if len(of_blocks) < LEAST_BLOCKS or len(kinds) != len(["usual", "odd"]) or kinds.most_common()[1][1] > 1:
            continue
        usual, odd = (kind for kind, _ in kinds.most_common())
        [number] = (at for at, kind in of_blocks.items() if kind == odd)
        others = f"{_others(len(of_blocks) - 1, stack)}"
        name = blocks[number][member].name
        if sorted(odd) == sorted((columns, rows) for rows, columns in usual):
            yield name, f"is {_by(odd)}, the transpose of the {_by(usual)} in the {others}"
        elif number not in ends and all(a != b for a, b in zip(_whole(odd), _whole(usual), strict=True)):
            yield name, f"is {_by(odd)}, but {_by(usual)} in the {others}"


def _unscaled(stack: str, blocks: Blocks[Member]) -> Iterator[tuple[str, str]]:
    """Tensors of FP8 without a scale that most blocks have: what a quantiser spares, it leaves in a wider format."""
    bare: defaultdict[str, list[Member]] = defaultdict(list)
    scaled: Counter[str] = Counter()
    for block in blocks.values():
        for member, each in block.items():
            if each.dtype in FP8:
                bare[member].append(each)
            scaled[member] += WITH_SCALES in each.dtype
    for member, lost in bare.items():
        if scaled[member] > len(lost):
            others = _others(scaled[member], stack)
            for each in lost:
                yield each.name, f"is stored in {each.dtype} without a scale, which the {others} have"


def _whole(shapes: Shapes) -> tuple[int, int]:
    """Rows and columns of parts together, that lie below one another or side by side."""
    rows, columns = zip(*shapes, strict=True)
    if len(set(columns)) == 1:
        return sum(rows), columns[0]
    return rows[0], sum(columns)


def _by(shapes: Shapes) -> str:
    rows, columns = _whole(shapes)
    return f"{rows:,} x {columns:,}"


def _others(number: int, stack: str) -> str:
    return f"{number:,} other block{'s' if number > 1 else ''} of {quoted(stack)}"


def _named(members: Sequence[str]) -> str:
    return listed(members, most=MOST_NAMED)
