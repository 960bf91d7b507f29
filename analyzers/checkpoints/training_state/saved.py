"""What one file of a trainer holds: an optimizer, a scheduler, how many updates were made; alone, or in a bundle."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.training_state.memory import PARAMETERS, Memory, memory_of
from jaynes_audit.analyzers.checkpoints.training_state.pickled import Leaves, unpickled
from jaynes_audit.analyzers.checkpoints.training_state.told import attributes, bad, count, mapping, not_negative

OPTIMIZERS = ("optimizer", "optimizer_state_dict", "optimizer_states", "optimizer_state", "optim", "opt")
SCHEDULERS = ("lr_schedulers", "lr_scheduler", "scheduler", "lr_scheduler_state_dict", "scheduler_state_dict", "sched")
STEPS = ("global_step", "global_steps", "iter_num", "iteration", "num_updates", "step", "steps")
"""The keys under which bundles keep them: Lightning's first, then those of torch's tutorials and of common scripts."""

STATE = "state"
GROUPS = "param_groups"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerState:
    """A scheduler of torch's as it was saved: the rate that it multiplies, and the rate of the next update."""

    initial: float | None = None
    next_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a file holds of a training. None is what it has not."""

    memory: Memory | None = None
    scheduler: SchedulerState | None = None
    steps: int | None = None
    remarks: tuple[str, ...] = ()


def read_optimizer(path: Place) -> Saved:
    """The optimizer that a file holds, alone or in a bundle.

    Raises:
        RefusedFile: JN003 when it holds none, and as `pickled.unpickled` and `memory.memory_of` do.
        CouldNotRead: when the machine does not let it be read.
    """
    saved = read_bundle(path)
    if saved.memory is None:
        raise bad("it holds no optimizer's state", "no-optimizer")
    return saved


def read_bundle(path: Place) -> Saved:
    """What a file of any trainer holds, which may be nothing but weights. Raises as `read_optimizer` does."""
    with unpickled(path) as pickled:
        root = pickled.root
        if _is_optimizer(root):
            return Saved(memory=_memory(root, pickled.leaves), remarks=pickled.remarks)
        told = attributes(root)
        optimizers = [(key, each) for key in OPTIMIZERS if key in told for each in _optimizers(told[key])]
        schedulers = [each for key in SCHEDULERS if key in told for each in _several(told[key])]
        steps = [count(pickled.leaves.number(told[key])) for key in STEPS if key in told]
        remarks = pickled.remarks
        if len(optimizers) > 1:
            where = listed(sorted({key for key, _ in optimizers}))
            remarks += (f"{quoted(path.name)} holds {len(optimizers):,} optimizers under {where}; the first was read",)
        if not optimizers:
            return Saved(steps=next((made for made in steps if made is not None), None))
        return Saved(
            memory=_memory(optimizers[0][1], pickled.leaves),
            scheduler=scheduler_state(schedulers[0], pickled.leaves.number) if schedulers else None,
            steps=next((made for made in steps if made is not None), None),
            remarks=remarks,
        )


def read_scheduler(path: Place) -> SchedulerState:
    """The scheduler that a file holds. Raises as `read_optimizer` does."""
    with unpickled(path) as pickled:
        return scheduler_state(pickled.root, pickled.leaves.number)


Number = Callable[[object], float | None]
"""What number a value of a file is, if any."""


def scheduler_state(value: object, number: Number) -> SchedulerState:
    """The rates in a scheduler's `state_dict()`, of the first group. Raises RefusedFile, JN003, when it is none."""
    told = attributes(value)
    if not told:
        raise bad("it holds no scheduler's state", "no-scheduler")
    return SchedulerState(
        initial=_first_rate(told.get("base_lrs"), number), next_rate=_first_rate(told.get("_last_lr"), number)
    )


def _first_rate(rates: object, number: Number) -> float | None:
    return not_negative(number(rates[0])) if isinstance(rates, list | tuple) and rates else None


def _is_optimizer(value: object) -> bool:
    told = mapping(value)
    groups = told.get(GROUPS)
    return (
        isinstance(told.get(STATE), dict)
        and isinstance(groups, list | tuple)
        and all(PARAMETERS in mapping(group) for group in groups)
    )


def _optimizers(value: object) -> Iterator[object]:
    """The optimizers in a value: itself, or those in a list or in a mapping by name."""
    if _is_optimizer(value):
        yield value
    elif isinstance(value, dict):
        yield from filter(_is_optimizer, value.values())
    else:
        yield from filter(_is_optimizer, _several(value))


def _several(value: object) -> list[object] | tuple[object, ...]:
    return value if isinstance(value, list | tuple) else (value,)


def _memory(optimizer: object, leaves: Leaves) -> Memory:
    told: Mapping[object, object] = mapping(optimizer)
    groups = told[GROUPS]
    return memory_of(mapping(told[STATE]), groups if isinstance(groups, list | tuple) else (), leaves)
