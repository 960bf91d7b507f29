"""The folder `training_state` of LeRobot: an optimizer without a pickle, in safetensors and JSON.

Source: `lerobot/optim/optimizers.py` and `lerobot/utils/train_utils.py`, which flatten torch's `state_dict()`: its
state to tensors `state/0/exp_avg`, its groups to `optimizer_param_groups.json`.
"""

from collections import defaultdict

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.reading import is_absent, opened
from jaynes_audit.analyzers.checkpoints.safetensors_header import read_safetensors
from jaynes_audit.analyzers.checkpoints.training_state.memory import memory_of
from jaynes_audit.analyzers.checkpoints.training_state.pickled import Leaves
from jaynes_audit.analyzers.checkpoints.training_state.saved import Saved, SchedulerState, scheduler_state
from jaynes_audit.analyzers.checkpoints.training_state.told import bad, count, mapping, number, read_json

FOLDER = "training_state"
WEIGHTS = "pretrained_model"  # the folder beside it
OPTIMIZER = "optimizer_state.safetensors"
GROUPS = "optimizer_param_groups.json"
SCHEDULER = "scheduler_state.json"
STEP = "training_step.json"


def read_lerobot_optimizer(path: Place) -> Saved:
    """The optimizer in an `optimizer_state.safetensors` and in the groups beside it.

    Raises:
        RefusedFile: JN003 when the two are not as LeRobot writes them, and as reading safetensors does.
        CouldNotRead: when the machine does not let them be read.
    """
    groups_file = path.parent / GROUPS
    if is_absent(groups_file):
        raise bad(f"there is no {GROUPS} beside it, which says what its numbers mean", "lerobot-no-groups")
    groups = read_json(groups_file)
    if not isinstance(groups, list):
        raise bad(f"the {GROUPS} beside it is no list of groups", "lerobot-groups")
    with opened(path) as (stream, size):
        weights = read_safetensors(stream, path, size)
        state: defaultdict[object, dict[object, object]] = defaultdict(dict)
        for tensor in weights.tensors:
            top, key, name = (*tensor.name.split("/", 2), "", "")[:3]
            if top != "state" or not name:
                raise bad("it holds other tensors than an optimizer's", "lerobot-tensors")
            state[key][name] = tensor
        return Saved(memory=memory_of(state, groups, Leaves(stream, path)))


def read_lerobot_scheduler(path: Place) -> SchedulerState:
    """The scheduler in a `scheduler_state.json`. Raises as `read_lerobot_optimizer` does."""
    return scheduler_state(read_json(path), number)


def read_lerobot_step(path: Place) -> int:
    """How many updates were made, from a `training_step.json`. Raises as `read_lerobot_optimizer` does."""
    steps = count(mapping(read_json(path)).get("step"))
    if steps is None:
        raise bad("it does not say how many updates were made", "lerobot-step")
    return steps
