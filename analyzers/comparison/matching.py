"""Which layer of one model is which of another: by name, by name without its wrapper, by role and depth."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.comparison.subject import Subject
from jaynes_audit.analyzers.roles import ENDS, KEPT, Role
from jaynes_audit.analyzers.roles.names import WRAPPERS
from jaynes_audit.analyzers.roles.slots import SPELT, Slot, local_name, slot_of


class MatchedBy(StrEnum):
    """What says that two layers are one another's counterpart."""

    NAME = "name"
    UNWRAPPED_NAME = "name without wrapper"
    ROLE = "role and depth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A layer of each model, and what says that they belong together."""

    a: Subject
    b: Subject
    by: MatchedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """A layer without counterpart, and why, in a few words."""

    subject: Subject
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The layers of two models in pairs, in the order of the first one's, and those that have no counterpart."""

    matches: tuple[Match, ...]
    only_a: tuple[Unmatched, ...]
    only_b: tuple[Unmatched, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a stack of blocks looks like: how many there are, and the roles of the weight matrices in them."""

    blocks: int
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a layer stands, in the words of the first model, and which layer of its block it is.

    `kind` is the slot's, made certain. `depth` is None outside the blocks.
    """

    stack: str
    depth: int | None
    role: Role
    of: Role
    kind: str
    member: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoPlace:
    """Why the other model has no place for a layer."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One model: its letter and the other's, its layers, and its stacks and blocks in the words of the first model.

    `stacks` are those that have a counterpart, `words` what all of them are called.
    """

    letter: str
    other: str
    subjects: Sequence[Subject]
    stacks: Collection[str]
    words: Mapping[str, str]
    blocks: Mapping[tuple[str, int], tuple[str, int]]


K = TypeVar("K", int, str)
V = TypeVar("V", bound=Hashable)
Pairs = dict[int, int]  # index of a layer of the first model -> of the second
Places = Sequence[_Place | _NoPlace]  # of the layers of one model, in their order

Kinds = Mapping[tuple[str, Role], Collection[str]]  # which kinds of a role's layers a stack has

NO_SIGN = KEPT | ENDS | {Role.OTHER}  # what tells nothing of the kind of a network

# Roles of tensors that could not be taken apart -> those of their parts.
FUSED: dict[Role, frozenset[Role]] = {
    Role.ATTENTION_QKV: frozenset({Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V})
    | frozenset({Role.ATTENTION_KV_A, Role.ATTENTION_K_B, Role.ATTENTION_V_B}),
    Role.CROSS_ATTENTION_QKV: frozenset({Role.CROSS_ATTENTION_Q, Role.CROSS_ATTENTION_K, Role.CROSS_ATTENTION_V}),
    Role.MLP_GATE_UP: frozenset({Role.MLP_GATE, Role.MLP_UP}),
    Role.EXPERT_GATE_UP: frozenset({Role.EXPERT_GATE, Role.EXPERT_UP}),
    Role.SSM_IN: frozenset({Role.SSM_X, Role.SSM_Z, Role.SSM_B, Role.SSM_C, Role.SSM_DT, Role.SSM_DT_A}),
}

# What tools put into a path. PEFT's path before a name; those of the usual averages of weights; words anywhere, among
# them PEFT's for a layer that is trained whole, behind which stands the name of the adapter.
WRAPPER_WORDS = re.compile(
    r"\A(?:module\.)?(?:base_model\.model\.|(?:ema|ema_model|model_ema|averaged_model)\.(?=[^.]+\.))"
    rf"|(?<![^.])(?:modules_to_save\.default|{'|'.join(sorted(WRAPPERS))})\."
)
# PEFT keeps the layer that such a one replaces beside it: it is the counterpart where there is no other.
WRAPPER_OF_ORIGINALS = re.compile(r"(?<![^.])original_module\.")
PREFIX_WORDS = 4  # words of the longest prefix that one model may have and the other not
CLEAR_MAJORITY = 2  # times as many names must speak for a prefix as for the next best


def match_layers(a: Sequence[Subject], b: Sequence[Subject]) -> Matching:
    """Pair the layers of two models. No layer is in two pairs.

    A layer's counterpart is the one of its name; else of its name without what a tool has put around it; else the one
    of its role in the corresponding block of the corresponding stack, where nothing else could be meant. Sizes do not
    matter. Blocks correspond by their number if both stacks have as many; otherwise each block of the shorter stack
    takes the one of the nearest relative depth in the longer. In that last case names of blocks count only where most
    layers of one name have one size too: then one network is the other with blocks left out or added.
    """
    named = _named(a, b)
    by_name = _without_foreign_blocks(a, b, named | _unwrapped(a, b, named))
    if len(by_name) == len(a) == len(b):
        return Matching(matches=tuple(_matches(a, b, by_name, (named, by_name))), only_a=(), only_b=())
    side_a, side_b = _sides(a, b, by_name)
    places_a, places_b = _places(side_a, side_b)
    found = _by_role(a, b, (places_a, places_b), by_name)
    return Matching(
        matches=tuple(_matches(a, b, found, (named, by_name))),
        only_a=_unmatched(side_a, side_b, (places_a, places_b), found.keys()),
        only_b=_unmatched(side_b, side_a, (places_b, places_a), set(found.values())),
    )


def counterpart_stacks(a: Sequence[Subject], b: Sequence[Subject]) -> dict[str, str]:
    """Say which stack of blocks of the second model is which of the first: {stack of A: stack of B}."""
    return _stacks(a, b, _named(a, b))


def _matches(a: Sequence[Subject], b: Sequence[Subject], found: Pairs, by_name: tuple[Pairs, Pairs]) -> Iterator[Match]:
    """The pairs in A's order; `by_name` are those of equal names, then those too whose wrappers differ."""
    named, unwrapped = by_name
    for i, subject in enumerate(a):
        if i in found:
            rest = MatchedBy.UNWRAPPED_NAME if i in unwrapped else MatchedBy.ROLE
            yield Match(a=subject, b=b[found[i]], by=MatchedBy.NAME if i in named and i in unwrapped else rest)


def _paired(a: Mapping[K, Hashable], b: Mapping[K, Hashable]) -> dict[K, K]:
    """What shares its key with exactly one of the other model and with none of its own."""
    of_a, of_b = _sole(a), _sole(b)
    return {of_a[key]: of_b[key] for key in of_a if key in of_b}


def _sole(keys: Mapping[K, V]) -> dict[V, K]:
    """The keys that are one's alone, and whose."""
    counts = Counter(keys.values())
    return {key: owner for owner, key in keys.items() if counts[key] == 1}


def _named(a: Sequence[Subject], b: Sequence[Subject]) -> Pairs:
    return _paired({i: each.name for i, each in enumerate(a)}, {i: each.name for i, each in enumerate(b)})


def _unwrapped(a: Sequence[Subject], b: Sequence[Subject], named: Pairs) -> Pairs:
    """The layers whose names are the same once what tools put around them is taken off, the least first."""
    left_a, left_b = _left(a, b, named)
    names_a, names_b = {i: a[i].name for i in left_a}, {i: b[i].name for i in left_b}
    found: Pairs = {}
    for wrappers in (WRAPPER_WORDS, WRAPPER_OF_ORIGINALS):
        names_a, names_b = _stripped(names_a, wrappers), _stripped(names_b, wrappers)
        pairs = _paired(names_a, names_b)
        taken = set(pairs.values())
        names_a = {i: name for i, name in names_a.items() if i not in pairs}
        names_b = {i: name for i, name in names_b.items() if i not in taken}
        found |= pairs
    return found | _without_prefix(names_a, names_b)


def _left(a: Sequence[Subject], b: Sequence[Subject], found: Pairs) -> tuple[list[int], list[int]]:
    taken = set(found.values())
    return [i for i in range(len(a)) if i not in found], [i for i in range(len(b)) if i not in taken]


def _stripped(names: Mapping[int, str], wrappers: re.Pattern[str]) -> dict[int, str]:
    return {i: wrappers.sub("", name) for i, name in names.items()}


def _without_prefix(a: Mapping[int, str], b: Mapping[int, str]) -> Pairs:
    """The layers whose names are the same but for one prefix that all of one model's have and the other's have not.

    `bert.` of a model with a head, `unet/` of a pipeline, `model.` of a training script: whatever the prefix, if no
    other explains about as many names, and if it explains half of the names of the model that has it not.
    """
    sole_a, sole_b = _sole(a), _sole(b)
    prefixes = Counter({(prefix, ""): votes for prefix, votes in _prefixes(sole_a, sole_b).items()})
    prefixes.update({("", prefix): votes for prefix, votes in _prefixes(sole_b, sole_a).items()})
    best = prefixes.most_common(2)
    if not best or (len(best) > 1 and best[0][1] < CLEAR_MAJORITY * best[1][1]):
        return {}
    (prefix_a, prefix_b), votes = best[0]
    if 2 * votes < len(b if prefix_a else a):
        return {}
    return _paired(
        {i: name.removeprefix(prefix_a) for i, name in a.items() if name.startswith(prefix_a)},
        {i: name.removeprefix(prefix_b) for i, name in b.items() if name.startswith(prefix_b)},
    )


def _prefixes(long: Iterable[str], short: Mapping[str, int]) -> Counter[str]:
    """How many of the long names are a short one with this prefix before it."""
    votes: Counter[str] = Counter()
    for name in long:
        for prefix, rest in _cuts(name):
            if rest in short:
                votes[prefix] += 1
    return votes


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """Every way to take up to four words off the beginning of a name."""
    end = 0
    for _ in range(PREFIX_WORDS):
        ends = [at for at in (name.find(".", end), name.find("/", end)) if at >= 0]
        if not ends:
            return
        end = min(ends) + 1
        yield name[:end], name[end:]


def _without_foreign_blocks(a: Sequence[Subject], b: Sequence[Subject], named: Pairs) -> Pairs:
    """Leave out the pairs whose names agree by the number of a block that means another depth in the other model."""
    blocks_a, blocks_b = _block_numbers(a), _block_numbers(b)
    pairs: Counter[tuple[str, str]] = Counter()
    alike: Counter[tuple[str, str]] = Counter()
    for i, j in named.items():
        if a[i].depth is not None and b[j].depth is not None:
            stacks = a[i].stack, b[j].stack
            pairs[stacks] += 1
            alike[stacks] += _size(a[i]) == _size(b[j])
    foreign = {
        stacks
        for stacks, number in pairs.items()
        if len(blocks_a[stacks[0]]) != len(blocks_b[stacks[1]]) and 2 * alike[stacks] < number
    }
    return {
        i: j
        for i, j in named.items()
        if a[i].depth is None or b[j].depth is None or (a[i].stack, b[j].stack) not in foreign
    }


def _size(subject: Subject) -> tuple[int, int]:
    """The sizes of a layer, whichever way round it is stored."""
    return min(subject.rows, subject.columns), max(subject.rows, subject.columns)


def _block_numbers(subjects: Iterable[Subject]) -> dict[str, list[int]]:
    """The numbers of the blocks of each stack, in order."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for subject in subjects:
        if subject.depth is not None and subject.role is not Role.BUFFER:
            numbers[subject.stack].add(subject.depth)
    return defaultdict(list, {stack: sorted(depths) for stack, depths in numbers.items()})


def _stacks(a: Sequence[Subject], b: Sequence[Subject], named: Pairs) -> dict[str, str]:
    """Which stack of blocks is which: as most names say, or of one name, or the only ones left, or alike."""
    of_a, of_b = _looks(a), _looks(b)
    said = Counter(
        (a[i].stack, b[j].stack) for i, j in named.items() if a[i].depth is not None and b[j].depth is not None
    )
    found = _one_to_one(said)
    taken = set(found.values())
    found |= {stack: stack for stack in of_a if stack in of_b and stack not in found and stack not in taken}
    for roles_only in (False, True):
        left_a = {stack: look.roles if roles_only else look for stack, look in of_a.items() if stack not in found}
        taken = set(found.values())
        left_b = {stack: look.roles if roles_only else look for stack, look in of_b.items() if stack not in taken}
        if len(left_a) == len(left_b) == 1:
            return found | dict(zip(left_a, left_b, strict=True))
        found |= _paired(left_a, left_b)
    return found


def _one_to_one(votes: Counter[tuple[K, K]]) -> dict[K, K]:
    """The pairs of which neither half is in one with more votes; the order of the two models does not matter."""
    found: dict[K, K] = {}
    taken: set[K] = set()
    for left, right in sorted(votes, key=lambda pair: (-votes[pair], sorted(pair))):
        if left not in found and right not in taken:
            found[left] = right
            taken.add(right)
    return found


def _looks(subjects: Sequence[Subject]) -> dict[str, _Look]:
    """What the stacks of blocks look like. Patches tell a stack that sees from one that reads."""
    roles: dict[str, set[Role]] = defaultdict(set)
    for subject in subjects:
        if subject.role is Role.PATCH_EMBEDDING or (subject.depth is not None and subject.role not in NO_SIGN):
            roles[subject.stack].add(subject.role)
    return {
        stack: _Look(blocks=len(numbers), roles=frozenset(roles[stack]))
        for stack, numbers in _block_numbers(subjects).items()
    }


def _depths(a: Sequence[int], b: Sequence[int], said: Counter[tuple[int, int]]) -> dict[int, int]:
    """Which block of the second stack is which of the first: as names say, or else the nearest in relative depth."""
    if said:
        found = _one_to_one(said)
        return found | {depth: depth for depth in set(a) & set(b) - found.keys() - set(found.values())}
    if len(a) > len(b):
        return {depth_a: depth_b for depth_b, depth_a in _depths(b, a, said).items()}
    step = (len(b) - 1) / max(1, len(a) - 1)
    return {depth: b[math.floor(rank * step + 1 / 2)] for rank, depth in enumerate(a)}


def _sides(a: Sequence[Subject], b: Sequence[Subject], named: Pairs) -> tuple[_Side, _Side]:
    """Say where the layers of both models stand, in the words of the first, and which of their block they are."""
    stacks, said = _stacks(a, b, named), defaultdict[str, Counter[tuple[int, int]]](Counter)
    for i, j in named.items():
        depth_a, depth_b = a[i].depth, b[j].depth
        if depth_a is not None and depth_b is not None and stacks.get(a[i].stack) == b[j].stack:
            said[a[i].stack][depth_a, depth_b] += 1
    numbers_a, numbers_b = _block_numbers(a), _block_numbers(b)
    depths = {stack: _depths(numbers_a[stack], numbers_b[other], said[stack]) for stack, other in stacks.items()}
    blocks_a = {(stack, depth): (stack, depth) for stack, pairs in depths.items() for depth in pairs}
    blocks_b = {(stacks[stack], pairs[depth]): (stack, depth) for stack, pairs in depths.items() for depth in pairs}
    words_a = {each.stack: each.stack for each in a}
    # A stack of B without counterpart keeps its name, unless one of A that has another counterpart goes by it.
    words_b = {each.stack: f"{each.stack} of B" if each.stack in stacks else each.stack for each in b}
    words_b |= {other: stack for stack, other in stacks.items()}
    return (
        _Side(letter="A", other="B", subjects=a, stacks=stacks.keys(), words=words_a, blocks=blocks_a),
        _Side(letter="B", other="A", subjects=b, stacks=set(stacks.values()), words=words_b, blocks=blocks_b),
    )


def _places(a: _Side, b: _Side) -> tuple[Places, Places]:
    """Where the layers of both models stand. What a name leaves open, the kinds of layers of both models decide."""
    slots_a, slots_b = _slots(a), _slots(b)
    kinds_a, kinds_b = _certain_kinds(a, slots_a), _certain_kinds(b, slots_b)
    return (
        [_place(a, each, slot, (kinds_a, kinds_b)) for each, slot in zip(a.subjects, slots_a, strict=True)],
        [_place(b, each, slot, (kinds_b, kinds_a)) for each, slot in zip(b.subjects, slots_b, strict=True)],
    )


def _slots(side: _Side) -> list[Slot]:
    return [slot_of(each.name, each.role, inside=each.depth is not None) for each in side.subjects]


def _certain_kinds(side: _Side, slots: Sequence[Slot]) -> Kinds:
    """The kinds that each stack has beyond doubt, by the first model's name of the stack."""
    kinds: dict[tuple[str, Role], set[str]] = defaultdict(set)
    for subject, slot in zip(side.subjects, slots, strict=True):
        if len(slot.kinds) == 1:
            kinds[side.words[subject.stack], slot.of].add(slot.kinds[0])
    return kinds


def _place(side: _Side, subject: Subject, slot: Slot, kinds: tuple[Kinds, Kinds]) -> _Place | _NoPlace:
    """Where a layer stands; `kinds` are the own model's, then the other's."""
    stack, depth = side.words[subject.stack], None
    if subject.depth is not None:
        if subject.stack not in side.stacks:
            named = f"its stack {quoted(subject.stack)}" if subject.stack else "the stack it stands in"
            return _NoPlace(reason=f"no stack of {side.other} is certain to be {named}")
        if (subject.stack, subject.depth) not in side.blocks:
            return _NoPlace(reason=f"no block of {side.other} corresponds to its block {subject.depth}")
        stack, depth = side.blocks[subject.stack, subject.depth]
    kind = slot.kinds[0]
    if len(slot.kinds) > 1:
        own, others = (each.get((stack, slot.of), ()) for each in kinds)
        left = [each for each in slot.kinds if each not in own] or slot.kinds
        kind = next((each for each in left if each in others), left[0])
    return _Place(stack=stack, depth=depth, role=subject.role, of=slot.of, kind=kind, member=slot.member)


def _by_role(a: Sequence[Subject], b: Sequence[Subject], places: tuple[Places, Places], by_name: Pairs) -> Pairs:
    """Add the layers left over of which one alone can be meant in each model.

    By role and place; by role and block and what the name says behind the block; outside the blocks by role alone.
    """
    found, weights_a, weights_b = dict(by_name), _weights_of_tensors(a), _weights_of_tensors(b)
    for key in (_slot_key, _local_key, _end_key):
        keys = [
            {i: k for i in left if (k := key(layers[i], placed[i])) is not None}
            for layers, placed, left in zip((a, b), places, _left(a, b, found), strict=True)
        ]
        found |= {
            i: j
            for i, j in _paired(*keys).items()
            if a[i].weights == b[j].weights or not _is_whole(a[i], b[j], weights_b) | _is_whole(b[j], a[i], weights_a)
        }
    return found


def _weights_of_tensors(subjects: Sequence[Subject]) -> Counter[str]:
    weights: Counter[str] = Counter()
    for subject in subjects:
        weights[subject.tensor] += subject.weights
    return weights


def _is_whole(whole: Subject, part: Subject, weights: Counter[str]) -> bool:
    """Whether one layer has the name of a part of a fused tensor and the size of all of it."""
    return part.weights < whole.weights == weights[part.tensor]


def _slot_key(_subject: Subject, place: _Place | _NoPlace) -> Hashable:
    return place if isinstance(place, _Place) else None


def _local_key(subject: Subject, place: _Place | _NoPlace) -> Hashable:
    if isinstance(place, _NoPlace) or place.depth is None:
        return None
    return place.stack, place.depth, place.role, local_name(subject.name)


def _end_key(_subject: Subject, place: _Place | _NoPlace) -> Hashable:
    return replace(place, stack="") if isinstance(place, _Place) and place.depth is None else None


def _unmatched(
    side: _Side, other: _Side, places: tuple[Places, Places], matched: Collection[int]
) -> tuple[Unmatched, ...]:
    """The layers of a side without counterpart, and why. `places` are the side's, then the other's."""
    if len(matched) == len(side.subjects):
        return ()
    names = Counter(subject.name for subject in side.subjects)
    own, others = (Counter(place for place in each if isinstance(place, _Place)) for each in places)
    roles = {(place.stack, place.depth, place.of) for place in others}
    numbers = {block: number for (_, number), block in other.blocks.items()}
    reasons = []
    for i, (subject, place) in enumerate(zip(side.subjects, places[0], strict=True)):
        if i in matched:
            continue
        if isinstance(place, _NoPlace):
            reason = place.reason
        elif names[subject.name] > 1:
            reason = f"{names[subject.name]:,} layers of {side.letter} have its name"
        elif others[place] > 1:
            reason = f"{others[place]:,} layers of {side.other} could be it"
        elif others[place] == own[place]:
            reason = f"the layer of {side.other} in its place is another's counterpart or fused with others"
        elif others[place]:
            reason = f"{own[place]:,} layers of {side.letter} could be the one of {side.other} in its place"
        else:
            in_block = "" if place.depth is None else f" at depth {numbers[place.stack, place.depth]}"
            reason = f"{_missing(place, roles)}{in_block} in {side.other}"
        reasons.append(Unmatched(subject=subject, reason=reason))
    return tuple(reasons)


def _missing(place: _Place, roles: Collection[tuple[str, int | None, Role]]) -> str:
    """What the other model, which has these roles in these blocks, has not."""
    is_of_another = place.role is not place.of
    matrix = f"{place.role} of {place.of}" if is_of_another else place.role
    if any((place.stack, place.depth, part) in roles for part in FUSED.get(place.of, ())):
        return f"{matrix} is in parts"
    if any((place.stack, place.depth, whole) in roles for whole, parts in FUSED.items() if place.of in parts):
        return f"{matrix} is fused with others"
    what = matrix if is_of_another else f"layer of role {matrix}"
    if place.role is Role.OTHER:
        return "its role is not known from its name, and no layer is named so"
    if place.kind.startswith(SPELT):
        return f"no {what} is named so"
    expert = f" of expert {place.member}" if place.member >= 0 else ""
    return f"no {what}{expert}{f' ({place.kind})' if place.kind else ''}"
