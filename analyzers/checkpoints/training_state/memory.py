"""What an optimizer's file holds, before it is told which optimizer it was: tensors by parameter, settings by group."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from jaynes_audit.analyzers.checkpoints.pytorch.naming import LONGEST_NAME
from jaynes_audit.analyzers.checkpoints.pytorch.objects import View
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.pickled import Leaves
from jaynes_audit.analyzers.checkpoints.training_state.told import bad, count, mapping

STEP = "step"
PARAMETERS = "params"
NAMES = "param_names"
BITSANDBYTES = "__bnb_optimizer_quant_state__"  # under which it keeps a parameter's tensors, since 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that share settings: their keys in order, and the names that the file gives them, () for none.

    `settings` are plain data, numbers that were saved as tensors included.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The groups of an optimizer, and what it remembers of each parameter: tensors by what they are called.

    `steps` counts a parameter's updates. `unread` are tensors that are there and whose numbers cannot be read.
    """

    groups: tuple[Group, ...]
    tensors: Mapping[str, Mapping[str, Tensor]]
    steps: Mapping[str, int]
    unread: tuple[str, ...] = ()


class _Slot(NamedTuple):
    """One thing that is remembered of a parameter."""

    key: str
    name: str
    value: object


def memory_of(state: Mapping[object, object], groups: Sequence[object], leaves: Leaves) -> Memory:
    """The memory that an optimizer's `state_dict()` tells of: its `state`, and its `param_groups`.

    Raises:
        RefusedFile: JN003 when they are not as torch writes them; and as `leaves` does.
    """
    found = tuple(_group(group, leaves) for group in groups)
    keys = [key for group in found for key in group.keys]
    if len(set(keys)) < len(keys):
        raise bad("its groups name a parameter twice", "optimizer-parameter-twice")
    slots = list(_slots(state))
    stray = {slot.key for slot in slots}.difference(keys)
    if stray:
        raise bad(f"it has a state of {quoted(min(stray))}, which is in no group", "optimizer-stray-state")
    remembered = [slot for slot in slots if slot.name != STEP]
    tensors: dict[str, dict[str, Tensor]] = {}
    unread: list[str] = []
    for slot, tensor in zip(remembered, leaves.tensors([slot.value for slot in remembered]), strict=True):
        if tensor is not None:
            named = replace(tensor, name=f"{slot.key}.{slot.name}")
            tensors.setdefault(slot.key, {})[slot.name] = named
        elif not isinstance(slot.value, bool | int | float | str | None):
            unread.append(f"{slot.key}.{slot.name}")
    counted = [(slot.key, count(leaves.number(slot.value))) for slot in slots if slot.name == STEP]
    steps = {key: made for key, made in counted if made is not None}
    return Memory(groups=found, tensors=tensors, steps=steps, unread=tuple(unread))


def _slots(state: Mapping[object, object]) -> Iterator[_Slot]:
    for key, slots in state.items():
        for name, value in mapping(slots).items():
            inside = mapping(value) if name == BITSANDBYTES else {name: value}
            yield from (_Slot(key_text(key), key_text(each), found) for each, found in inside.items())


def _group(group: object, leaves: Leaves) -> Group:
    keys = group.get(PARAMETERS) if isinstance(group, dict) else None
    if not isinstance(group, dict) or not isinstance(keys, list | tuple):
        raise bad("its param_groups are not as torch writes them", "optimizer-groups")
    names = group.get(NAMES)
    return Group(
        keys=tuple(map(key_text, keys)),
        names=tuple(map(key_text, names)) if isinstance(names, list | tuple) and len(names) == len(keys) else (),
        settings={
            name: leaves.number(value) if isinstance(value, View | Tensor) else value
            for name, value in group.items()
            if isinstance(name, str) and name not in {PARAMETERS, NAMES}
        },
    )


def key_text(key: object) -> str:
    """A key as text that any report can write."""
    if isinstance(key, bool) or not isinstance(key, int | str) or len(text := str(key)) > LONGEST_NAME:
        raise bad("it calls a parameter neither by a number nor by a name", "optimizer-key")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
