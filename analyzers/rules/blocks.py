"""Tensor name -> which block of which stack it belongs to, and what it is called within the block."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from jaynes_audit.analyzers.roles.names import COUNT, COUNTED_WORD, INTEGER, LONGEST_NAME, parsed

Anything = TypeVar("Anything")

Blocks = dict[int, dict[str, Anything]]
"""The blocks of one stack by their numbers, and what each has under which name within the block."""

MOST_REMEMBERED = 1 << 17  # names; several rules ask for each of those of a large mixture of experts

PART = re.compile(r"\[[^\[\]]*\]\Z")  # of a fused tensor, behind its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tensor stands: `model.layers.3.mlp.up_proj.weight` is a `member` of block 3 of the stack `model.layers`.

    A network that counts its blocks anew in every stage has a stack for each stage.
    """

    stack: str
    number: int
    member: str


@lru_cache(maxsize=MOST_REMEMBERED)
def place_of(name: str) -> Place | None:
    """Say where a layer or a tensor of this name stands; None for what is in no block."""
    part = PART.search(name)
    tensor = name[: part.start()] if part else name
    meaning, _ = parsed(tensor)
    if meaning.steps is None or len(tensor) > LONGEST_NAME:
        return None
    slot = max((slot for slot, _ in meaning.steps.weights), default=-1)
    dotted = "." + tensor.replace("#", "_").replace("_._", ".")
    if COUNT.search(dotted):
        dotted = COUNTED_WORD.sub(r".\1.", dotted)
    for at, integer in enumerate(INTEGER.finditer(dotted)):
        if at == slot:
            member = dotted[integer.end() + 1 :] + (part.group() if part else "")
            return Place(stack=dotted[1 : integer.start()], number=int(integer[1]), member=member)
    return None


def stacks_of(named: Iterable[tuple[str, Anything]]) -> dict[str, Blocks[Anything]]:
    """Put what has a name into its stack and its block."""
    stacks: defaultdict[str, defaultdict[int, dict[str, Anything]]] = defaultdict(lambda: defaultdict(dict))
    for name, each in named:
        place = place_of(name)
        if place and place.member:
            stacks[place.stack][place.number][place.member] = each
    return {path: dict(sorted(blocks.items())) for path, blocks in stacks.items()}
