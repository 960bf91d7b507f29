"""The integers in a tensor's name -> how far down its network it stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

# Words before the index of a block.
BLOCKS = frozenset(
    {"layers", "layer", "h", "block", "blocks", "transformer_blocks", "single_transformer_blocks", "resblocks"}
    | {"albert_layer_groups", "features", "conv_layers", "input_blocks", "encoderblock"}
)

# A hierarchical network counts its blocks anew in every stage, so depth is 100 * stage + block: it orders the blocks
# and does not measure distances. No published stage has 100 blocks (ResNet-152 has 36), and no U-Net has ten stages
# on its way down, so its middle is stage 10 and its way up begins at stage 11.
BLOCKS_IN_STAGE = 100
MIDDLE = 10 * BLOCKS_IN_STAGE
STAGES = {"stages": 0, "down_blocks": 0, "up_blocks": MIDDLE + BLOCKS_IN_STAGE}
STAGES_WITHOUT_INDEX = {"mid_block": MIDDLE, "middle_block": MIDDLE}
STAGES_IN_A_WORD = frozenset({"layer", "stage", "denseblock"})  # in ResNet, layer1.0 is the first block of stage 1
LAST_IN_STAGE = frozenset({"downsamplers", "upsamplers"})

NUMBERED_WORD = re.compile(r"(layer|stage|denseblock|block|denselayer)([0-9]{1,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The depth of a block as a sum: `start`, plus some of the integers in the name, each times its weight."""

    start: int
    weights: tuple[tuple[int, int], ...]

    def taken(self, integers: tuple[int, ...]) -> int:
        """The depth of the block that has these integers in its name."""
        depth = self.start
        for slot, weight in self.weights:
            depth += weight * integers[slot]
        return depth


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """Something counted on the way down a path: by which word, and its steps if each step counts one."""

    word: str
    in_word: bool
    steps: Steps


def steps_of(path: list[str]) -> Steps | None:
    """How the depth follows from a path with `#` for its integers; None where no word tells a block."""
    indices = list(_indices(path))
    for outer, inner in zip_longest(indices, indices[1:]):
        if _is_stage(outer, inner):
            return _stage(outer, inner)
        if outer.word in BLOCKS:
            # Swin's `layers` are stages, and what shrinks the image between two of them stands in no block.
            return _stage(outer, None) if outer.word == "layers" and "downsample" in path else outer.steps
    return None


def first_integer(path: list[str]) -> Steps | None:
    """The best guess where no word tells a block: the first integer of the name."""
    return Steps(start=0, weights=((0, 1),)) if "#" in path else None


def _indices(path: list[str]) -> Iterator[_Index]:
    counted, slot = "", 0
    for word in path:
        if word == "#":
            yield _Index(word=counted, in_word=False, steps=Steps(start=0, weights=((slot, 1),)))
            slot += 1
            continue
        counted = word
        if numbered := NUMBERED_WORD.fullmatch(word):
            counted = numbered[1]
            yield _Index(word=counted, in_word=True, steps=Steps(start=int(numbered[2]), weights=()))
        elif word in STAGES_WITHOUT_INDEX:
            yield _Index(word=word, in_word=True, steps=Steps(start=0, weights=()))


def _is_stage(outer: _Index, inner: _Index | None) -> bool:
    if outer.in_word:
        return outer.word in STAGES_IN_A_WORD or outer.word in STAGES_WITHOUT_INDEX
    if outer.word in STAGES:
        return True
    # `layers.1.blocks.0` of Swin and `block.1.0` of SegFormer; but `block.1.layer.0` of T5 is no stage.
    return inner is not None and (outer.word, inner.word) in {("layers", "blocks"), *((word, word) for word in BLOCKS)}


def _stage(outer: _Index, inner: _Index | None) -> Steps:
    start = STAGES.get(outer.word, STAGES_WITHOUT_INDEX.get(outer.word, 0)) + BLOCKS_IN_STAGE * outer.steps.start
    weights = tuple((slot, BLOCKS_IN_STAGE * weight) for slot, weight in outer.steps.weights)
    if inner is None:
        return Steps(start=start, weights=weights)
    if inner.word in LAST_IN_STAGE:
        return Steps(start=start + BLOCKS_IN_STAGE - 1, weights=weights)
    return Steps(start=start + inner.steps.start, weights=weights + inner.steps.weights)
