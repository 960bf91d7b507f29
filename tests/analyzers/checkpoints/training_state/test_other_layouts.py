"""Layouts of trainers that no library here writes: by hand, after their sources."""

import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.training_state import pickled as leaves
from jaynes_audit.analyzers.checkpoints.training_state.reading import read_training_state, training_state_at
from jaynes_audit.analyzers.checkpoints.training_state.state import Method, TrainingState
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from tests.support.fuzzing import read_tensor
from tests.support.places_in_memory import PlaceInMemory
from tests.support.pytorch_files import call, checkpoint, pickled, storage, tensor

FIXTURES = Path(__file__).parents[4] / "fixtures" / "training_state"
PARTS = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
"""Six numbers in the parts of two ranks: a matrix of four and a vector of two, so that the matrix lies in both."""

SHAPES = {"layer.weight": (2, 2), "layer.bias": (2,)}


def flat(numbers: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def part(key: str, count: int = 3) -> bytes:
    return tensor(storage(key, count), 0, (count,), (1,))


def rank_file(numbers: tuple[float, ...], **saved: object) -> bytes:
    """The file of a rank, whose first mean is these numbers and whose second their squares."""
    state = {"step": 3, "exp_avg": part("0", len(numbers)), "exp_avg_sq": part("1", len(numbers))}
    told = {"partition_count": 2, "base_optimizer_state": [state], **saved}
    squares = tuple(number**2 for number in numbers)
    return checkpoint(pickled({"optimizer_state_dict": told}), {"0": flat(numbers), "1": flat(squares)})


def write(folder: Path, files: Mapping[str, bytes]) -> TrainingState:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return read_training_state(str(folder))


def deepspeed(shapes: object = SHAPES, prefix: str = "", **saved: object) -> dict[str, bytes]:
    """A folder of DeepSpeed's."""
    model = {"param_shapes": [shapes], "global_steps": 3}
    return {
        "mp_rank_00_model_states.pt": checkpoint(pickled(model), {}),
        **{
            f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt": rank_file(numbers, **saved)
            for rank, numbers in enumerate(PARTS)
        },
    }


def numbers_of(state: TrainingState) -> dict[str, tuple[float, ...]]:
    assert state.refused == ()
    assert state.optimizer is not None
    found = {}
    with Sources(Io.PREAD) as sources:
        for parameter in state.optimizer.parameters:
            assert parameter.first is not None
            content = read_tensor(parameter.first, sources)
            found[parameter.key] = struct.unpack(f"<{len(content) // 4}f", content)
    return found


@pytest.mark.parametrize(
    ("prefix", "saved"),
    [
        ("", {"zero_stage": 1}),
        ("", {"zero_stage": call("deepspeed.runtime.zero.config", "ZeroStageEnum", 2)}),
        ("bf16_", {}),
    ],
)
def test_parts_without_their_settings_are_put_together(prefix: str, saved: dict[str, object], tmp_path: Path) -> None:
    state = write(tmp_path, deepspeed(prefix=prefix, **saved))
    assert numbers_of(state) == {"layer.weight": (1.0, 2.0, 3.0, 4.0), "layer.bias": (5.0, 6.0)}
    assert state.steps == 3
    assert state.optimizer is not None
    assert state.optimizer.is_named
    assert [each.steps for each in state.optimizer.parameters] == [3, 3]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (deepspeed({"layer.weight": (2, 2)}), "4 numbers, and its parts have 6"),
        (deepspeed({"layer.weight": (1 << 40, 1 << 40)}), "numbers, and its parts have 6"),
        (deepspeed({"layer.weight": (2, -2)}), "no shape"),
        (deepspeed({"layer.weight": "2"}), "no name or no shape"),
        (deepspeed({}), "which parameters there are"),
        (deepspeed(partition_count=4), "they speak of 4"),
        (deepspeed(zero_stage="x"), "as DeepSpeed since"),
        (deepspeed(base_optimizer_state=[[{}]]), "as DeepSpeed since"),
        ({name: content for name, content in deepspeed().items() if "model" not in name}, "no mp_rank_00"),
        ({"zero_pp_rank_0_mp_rank_01_optim_states.pt": b""}, "model parallelism"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_sentence(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    state = write(tmp_path, files)
    [refused] = state.refused
    assert said in refused
    assert state.optimizer is None


ADAM = {
    "state": {0: {"step": 3, "exp_avg": part("0"), "exp_avg_sq": part("1")}},
    "param_groups": [{"lr": 0.5, "weight_decay": 0, "params": [0]}],
}
STORAGES = {"0": flat(PARTS[0]), "1": flat(PARTS[1])}


def test_deepspeed_without_its_zero_keeps_the_optimizer_beside_the_model(tmp_path: Path) -> None:
    saved = {"module": {}, "optimizer": ADAM, "global_steps": 3}
    state = write(tmp_path, {"mp_rank_00_model_states.pt": checkpoint(pickled(saved), STORAGES)})
    assert numbers_of(state) == {"0": PARTS[0]}


def test_accelerate_calls_its_files_bin(tmp_path: Path) -> None:
    scheduler = {"base_lrs": [0.5], "_last_lr": [0.25], "last_epoch": 12}
    files = {
        "optimizer.bin": checkpoint(pickled(ADAM), STORAGES),
        "scheduler.bin": checkpoint(pickled(scheduler), {}),
        "random_states_0.pkl": b"not looked at",
    }
    state = write(tmp_path, files)
    assert numbers_of(state) == {"0": PARTS[0]}
    assert (state.steps, len(state.files), state.history) == (3, 2, None)
    assert state.optimizer is not None
    assert state.optimizer.method is Method.ADAMW  # without decay there is no difference


def test_an_optimizer_that_is_saved_by_names_is_named(tmp_path: Path) -> None:
    named = {"state": {"layer.bias": ADAM["state"][0]}, "param_groups": [{"lr": 0.5, "params": ["layer.bias"]}]}
    state = write(tmp_path, {"optimizer.pt": checkpoint(pickled(named), STORAGES)})
    assert state.optimizer is not None
    assert state.optimizer.is_named
    assert numbers_of(state) == {"layer.bias": PARTS[0]}


def test_a_distributed_optimizer_is_told_to_be_unread(tmp_path: Path) -> None:
    state = write(tmp_path, {"optimizer_0/.metadata": b"", "optimizer_0/__0_0.distcp": b""})
    assert state.optimizer is None
    assert any("'optimizer_0'" in remark for remark in state.remarks)


def test_weights_in_a_pickle_have_no_training(tmp_path: Path) -> None:
    state = write(tmp_path, {"pytorch_model.bin": checkpoint(pickled({"layer.weight": tensor()}))})
    assert state == TrainingState()


def test_a_broken_file_of_weights_is_left_to_its_own_audit(tmp_path: Path) -> None:
    assert write(tmp_path, {"weights.pt": b"PK\3\4 and nothing"}) == TrainingState()


def test_an_optimizer_of_no_parameter_says_nothing_wrong(tmp_path: Path) -> None:
    state = write(tmp_path, {"optimizer.pt": checkpoint(pickled({"state": {}, "param_groups": []}), {})})
    assert state.refused == ()
    assert state.optimizer is not None
    assert (state.optimizer.method, state.optimizer.is_named) == (Method.UNKNOWN, False)


def test_a_small_file_that_speaks_of_many_updates_costs_no_more_than_their_rates(tmp_path: Path) -> None:
    updates = 4_000_000
    log = f'{{"global_step": {updates}, "max_steps": {updates}, "log_history": [{{"step": 1, "learning_rate": 0.1}}]}}'
    arguments = b'{"learning_rate": 0.1, "lr_scheduler_type": "cosine", "warmup_steps": 0}'
    tracemalloc.start()
    try:
        state = write(tmp_path, {"trainer_state.json": log.encode(), "training_args.json": arguments})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert state.history is not None
    assert "computed again" in state.history.source
    assert peak < 2.5 * 8 * updates


def test_from_afar_only_so_many_numbers_are_asked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "MOST_NUMBERS_FROM_AFAR", 2)
    content = (FIXTURES / "lightning.ckpt").read_bytes()
    for is_streamed, steps in ((True, [3, 3, None, None]), (False, [3, 3, 3, 3])):
        place = PlaceInMemory(files={"last.ckpt": content}, is_streamed=is_streamed)
        optimizer = training_state_at(place).optimizer
        assert optimizer is not None
        assert [each.steps for each in optimizer.parameters] == steps
