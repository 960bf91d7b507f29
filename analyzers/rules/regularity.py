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
from jaynes_audit.analyzers.roles.slots import ONLY, slot_of
from jaynes_audit.analyzers.rules.blocks import Blocks, stacks_of
from jaynes_audit.analyzers.rules.rule import Level, Precision, model_rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds

LEAST_BLOCKS = 4  # one, and three that agree
MOST_NAMED = 3

# Stored in some blocks only where a quantiser spared the others.
OF_A_QUANTISER = re.compile(r"scale|zero_point|zeros|g_idx|absmax|quant|packed", re.IGNORECASE)
LISTS_OF_BLOCKS = (BLOCKS | {"blk"}) - {"features", "conv_layers"}  # a sequence may have numbers without weights

# Every block has all of these that its neighbours have, the first and the last as well.
CORE = frozenset({Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V, Role.ATTENTION_O}) | frozenset(
    {Role.MLP_GATE, Role.MLP_UP, Role.MLP_DOWN}
)

NUMBERED = re.compile(r"\.[0-9]+(?=\.)")

Shapes = tuple[tuple[int, int], ...]
"""Rows and columns of every part of a tensor; empty where they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A tensor of a block: its name, its shape, and whether every block of a network with such a tensor has one."""

    name: str
    shapes: Shapes
    is_core: bool


@model_rule("JN207", "irregular-block", Level.WARNING, precision=Precision.HIGH)
def irregular_block(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """One block of a stack lacks a tensor that all others have, has it under another name, or has it turned round.

    Said of stacks of at least four blocks, and where all other blocks agree. A block that has something else in place
    of what it lacks is of another kind, which many networks mix; nothing is said of those.

    Why it matters: loaders fill a missing tensor with random weights and pass over one with an unknown name.
    What to do: look at the step that renamed, sharded or transposed the tensors, and export again.
    Example: model.layers.3.mlp.up_proj.weight: is missing, though the 31 other blocks of 'model.layers' have one
    """
    for stack, blocks in stacks_of(_members(audit)).items():
        if len(blocks) >= LEAST_BLOCKS:
            yield from _irregular(stack, blocks)
            yield from _turned(stack, blocks)


def _members(audit: Audit) -> Iterator[tuple[str, Member]]:
    by_tensor: defaultdict[str, list[LayerAudit]] = defaultdict(list)
    for layer in audit:
        by_tensor[layer.tensor].append(layer)
    for name, parts in by_tensor.items():
        first = parts[0]
        is_core = first.role in CORE and slot_of(first.name, first.role, inside=True).kinds == ONLY
        shapes = tuple((part.rows, part.columns) for part in parts)
        yield name, Member(name=name, shapes=shapes, is_core=is_core and len(parts) == 1)
    for name in [*(each.name.partition("[")[0] for each in audit.left_out), *audit.aliases]:
        if name not in by_tensor:
            yield name, Member(name=name, shapes=(), is_core=False)


def _irregular(stack: str, blocks: Blocks[Member]) -> Iterator[tuple[str, str]]:
    """Blocks with too few or too many names, and blocks that are not there."""
    holders = Counter(member for block in blocks.values() for member in block)
    alone = len(blocks) - 1
    usual = {member for member, number in holders.items() if number == alone and not OF_A_QUANTISER.search(member)}
    common = [member for member, number in holders.items() if number == len(blocks)]
    ends, in_a_stage = {min(blocks), max(blocks)}, NUMBERED.search(stack) is not None
    for number, block in blocks.items():
        missing = sorted(usual - block.keys())
        extra = sorted(member for member in block if holders[member] == 1)
        elsewhere = _elsewhere(blocks, number)
        if missing and extra:
            if _is_renaming(missing, extra, elsewhere, block):
                told = (
                    f"stands in block {number:,} in place of {_named(missing)}, which the {_others(alone, stack)} have"
                )
                yield block[extra[0]].name, told
        elif missing and _is_lost(missing, elsewhere, block, at_an_end=number in ends, in_a_stage=in_a_stage):
            more = f", and so are {_named(missing[1:])}" if missing[1:] else ""
            told = f"is missing{more}, though the {_others(alone, stack)} have it"
            yield f"{stack}.{number}.{missing[0]}", told
        elif extra and number not in ends and all(_has_company(member, common) for member in extra):
            more = f", nor {_named(extra[1:])}" if extra[1:] else ""
            yield block[extra[0]].name, f"none of the {_others(alone, stack)} has such a tensor{more}"
    if len(common) == len(holders):
        yield from _gap(stack, blocks, common)


def _elsewhere(blocks: Blocks[Member], number: int) -> Mapping[str, Member]:
    """Another block, to see what this one should be like."""
    return next(block for other, block in blocks.items() if other != number)


def _is_renaming(
    missing: Sequence[str], extra: Sequence[str], elsewhere: Mapping[str, Member], block: Mapping[str, Member]
) -> bool:
    """Whether the same shapes stand under other names, in a module that is there, or as the gain of one."""
    shapes = sorted(elsewhere[name].shapes for name in missing)
    if shapes != sorted(block[name].shapes for name in extra) or () in shapes:
        return False
    is_a_vector = len(missing) == 1 and all(rows == 1 for rows, _ in shapes[0])
    return is_a_vector or all(_has_company(name, block) for name in missing)


def _is_lost(
    missing: Sequence[str],
    elsewhere: Mapping[str, Member],
    block: Mapping[str, Member],
    *,
    at_an_end: bool,
    in_a_stage: bool,
) -> bool:
    """Whether no design lacks this: a network begins and ends with odd blocks, and stages may leave out modules."""
    if at_an_end and not all(elsewhere[name].is_core for name in missing):
        return False
    return not (at_an_end or in_a_stage) or all(_has_company(name, block) for name in missing)


def _has_company(member: str, others: Iterable[str]) -> bool:
    """Whether others stand in the same module of the block; of modules that are numbered, in that with this number."""
    words = member.split(".")
    numbers = [at for at, word in enumerate(words) if word.isdecimal()]
    module = ".".join(words[: numbers[-1] + 1 if numbers else 1]) + "."
    return len(words) > 1 and any(other.startswith(module) for other in others)


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
    return f"{number:,} other blocks of {quoted(stack)}"


def _named(members: Sequence[str]) -> str:
    return listed(members, most=MOST_NAMED)
