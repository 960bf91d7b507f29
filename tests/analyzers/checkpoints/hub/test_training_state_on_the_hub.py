"""What a trainer left in a repository on the Hub, read in place and through the cache."""

from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.analyzers.checkpoints.locations import HubAccess
from jaynes_audit.analyzers.checkpoints.training_state import reading
from jaynes_audit.analyzers.checkpoints.training_state.reading import training_state_at
from jaynes_audit.analyzers.checkpoints.training_state.state import Method
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from tests.analyzers.checkpoints.hub.clients import MODEL, client_of, place_of
from tests.support.fuzzing import read_tensor
from tests.support.hub import LoopbackHub

LEFT = Path(__file__).parents[4] / "fixtures" / "training_state"
RUN = LEFT / "trainer" / "checkpoint-10"
FILES = {
    **{f"checkpoint-10/{path.name}": path for path in RUN.iterdir()},
    **{f"policy/{path.relative_to(LEFT / 'lerobot')}": path for path in (LEFT / "lerobot").rglob("*.*")},
    "model.safetensors": b"x",
}


@pytest.mark.parametrize("mode", Mode)
def test_a_checkpoint_folder_is_read_as_on_disk(hub: LoopbackHub, mode: Mode) -> None:
    hub.commit(MODEL, FILES)
    there = training_state_at(place_of(client_of(hub), f"hf://{MODEL}@main/checkpoint-10", mode))
    here = training_state_at(RUN)
    assert (there.steps, there.loss, there.refused, there.remarks) == (here.steps, here.loss, (), ())
    assert there.history is not None
    assert here.history is not None
    assert np.array_equal(there.history.learning_rates, here.history.learning_rates)
    assert there.optimizer is not None
    assert here.optimizer is not None
    assert there.optimizer.groups == here.optimizer.groups
    with Sources(Io.MMAP) as sources:
        for mine, other in zip(there.optimizer.parameters, here.optimizer.parameters, strict=True):
            assert (mine.key, mine.steps, mine.shape) == (other.key, other.steps, other.shape)
            assert mine.first is not None
            assert other.first is not None
            assert read_tensor(mine.first, sources) == read_tensor(other.first, sources)


@pytest.mark.parametrize("access", [HubAccess(), HubAccess(mode=Mode.STREAM), HubAccess(headers_only=True)])
def test_the_address_of_a_folder_is_a_target(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, access: HubAccess
) -> None:
    hub.commit(MODEL, FILES)
    monkeypatch.setattr(reading, "hub_client", lambda **_: client_of(hub))
    assert reading.read_training_state(f"hf://{MODEL}@main/checkpoint-10", access).steps == 10
    assert reading.read_training_state(f"hf://{MODEL}@main/checkpoint-10/optimizer.pt", access).steps == 10


def test_the_folders_of_lerobot_are_found(hub: LoopbackHub) -> None:
    hub.commit(MODEL, FILES)
    state = training_state_at(place_of(client_of(hub), f"hf://{MODEL}@main/policy/pretrained_model"))
    assert state.steps == 3
    assert state.optimizer is not None
    assert state.optimizer.method is Method.ADAMW


def test_a_repository_of_weights_alone_tells_nothing(hub: LoopbackHub) -> None:
    hub.commit(MODEL, FILES)
    state = training_state_at(place_of(client_of(hub)))
    assert (state.files, state.steps, state.optimizer) == ((), None, None)
